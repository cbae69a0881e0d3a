/* cmd_bench.c - cairn bench: the benches by name. */
#include "runtime/cli.h"

int cn_cmd_bench(int argc, char **argv) {
    static const cn_verb benches[] = {
        {"ops", cn_cmd_bench_ops, "each op at the model's dims against the roof of the same run"},
        {"decode", cn_cmd_bench_decode, "a whole token at 8K, 32K and 128K against its floor"},
        {"retrieval", cn_cmd_bench_retrieval, "does the model find what the view holds?"},
        {"curve", cn_cmd_bench_curve, "four arms by context length, each against its floor"},
        {"replay", cn_cmd_bench_replay, "does a recorded session say the same again?"},
        {0},
    };
    return cn_cli_dispatch("cairn bench", benches, argc, argv);
}

/* main.c - The cairn command: find the verb, run it. */
#include "base/fault.h"
#include "base/log.h"
#include "runtime/cli.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"ask", cn_cmd_ask, "one turn over a repository: streams the answer, then what it cost"},
    {"context", cn_cmd_context, "what is in the view, what was left out, what it will cost"},
    {"sessions", cn_cmd_sessions, "list | show: conversations and their turns"},
    {"cost", cn_cmd_cost, "bills by turn, session, day or tool"},
    {"cache", cn_cmd_cache, "stat: what the page store holds"},
    {"model", cn_cmd_model, "info | verify: what a model folder holds, and whether it is whole"},
    {"bench", cn_cmd_bench, "ops: every op against the roof of this machine"},
};

static void print_help(void) {
    puts("usage: cairn COMMAND [options]\n");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        printf("  %-8s %s\n", commands[i].name, commands[i].help);
    puts("\nEvery command takes --help and --json.");
}

static void on_log(void *ctx, cn_log_level level, const char *line) {
    (void)ctx;
    fprintf(stderr, "cairn: %s: %s\n", cn_log_level_name(level), line);
}

int main(int argc, char **argv) {
    cn_log_set_sink(on_log, NULL, CN_LOG_WARN);
    cn_fault_arm_from_env(); // tests of whole processes
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help();
        return argc < 2 ? CN_EXIT_USAGE : CN_EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "cairn: no command \"%s\" (see cairn --help)\n", argv[1]);
    return CN_EXIT_USAGE;
}

/* main.c - The cairn command: find the verb, run it. */
#include "base/fault.h"
#include "base/log.h"
#include "base/version.h"
#include "runtime/cli.h"
#include "runtime/term.h"

#include <stdio.h>
#include <string.h>

static const cn_verb commands[] = {
    {"chat", cn_cmd_chat, "a conversation about a repository, at a prompt or from a pipe"},
    {"ask", cn_cmd_ask, "one turn over a repository: streams the answer, then what it cost"},
    {"context", cn_cmd_context, "what is in the view, what was left out, what it will cost"},
    {"sessions", cn_cmd_sessions, "conversations and their turns"},
    {"cost", cn_cmd_cost, "bills by turn, session, day or tool"},
    {"cache", cn_cmd_cache, "what the page store holds: counted, verified, collected, dropped"},
    {"config", cn_cmd_config, "what is configured, and where that was said"},
    {"model", cn_cmd_model, "what a model folder holds, and whether it is whole"},
    {"bench", cn_cmd_bench, "how near this machine's roofs the engine comes"},
    {0},
};

static void on_log(void *ctx, cn_log_level level, const char *line) {
    (void)ctx;
    fprintf(stderr, "cairn: %s: %s\n", cn_log_level_name(level), line);
}

int main(int argc, char **argv) {
    cn_term_open();
    cn_log_set_sink(on_log, NULL, CN_LOG_WARN);
    cn_fault_arm_from_env(); // tests of whole processes
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("cairn " CN_VERSION);
        return CN_EXIT_DONE;
    }
    return cn_cli_dispatch("cairn", commands, argc, argv);
}

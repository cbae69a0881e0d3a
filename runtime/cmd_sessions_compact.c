/* cmd_sessions_compact.c - cairn sessions compact: a summary in the place of a conversation. */
#include "runtime/compaction.h"
#include "runtime/signals.h"

#include <string.h>

static const char usage[] =
    "usage: cairn sessions compact SESSION [--keep N] [--extract]\n"
    "       cairn sessions compact SESSION --auto on|off\n"
    "\n"
    "examples:\n"
    "  cairn sessions compact 3f9              all but the last two turns become a summary\n"
    "  cairn sessions compact 3f9 --keep 0     all of them\n"
    "  cairn sessions compact 3f9 --auto off   not on its own, near the limit\n"
    "\n"
    "The conversation goes on under the same id; as it was it stays, whole, as another session,\n"
    "the parent.  A model that can writes the summary; else it is an extract: questions, answers\n"
    "cut short, what was called on what.  On its own it happens before a turn that would come\n"
    "near the limit, of a conversation or of the model's view.\n";

typedef struct request {
    const char *id;
    int32_t     keep; // -1: not given
    bool        is_extract;
    const char *automatic; // "on", "off" or NULL
} request;

static int put_json(const cn_cli *cli, const cn_session *s, const cn_compact *c) {
    cn_buf         buf = {0};
    cn_json_writer w = cn_json_writer_on(&buf);
    cn_json_open(&w, '{');
    cn_json_field_string(&w, "session", cn_session_row(s)->id);
    cn_json_field_bool(&w, "auto", cn_session_is_compacted_on_its_own(s));
    if (c) {
        cn_json_put_key(&w, "compaction");
        cn_compaction_put_json(&w, c);
    }
    cn_json_close(&w, '}');
    return cn_cli_put_json(cli, &buf);
}

static int run(const cn_cli *cli, const request *r) {
    cn_diag               diag = {0};
    cn_host              *host = NULL;
    cn_session           *s = NULL;
    cn_compact           *c = NULL;
    int                   status = CN_EXIT_DONE;
    const cn_compact_opts opts = {.keep_turns = r->keep == 0  ? -1
                                                : r->keep < 0 ? 0
                                                              : r->keep,
                                  .is_extract = r->is_extract};
    cn_err                err = cn_cli_open_host(cli, &host, &diag);
    if (!err) err = cn_session_open(&s, host, &(cn_session_opts){.id = r->id}, &diag);
    if (!err && r->automatic)
        err = cn_session_set_compaction(s, strcmp(r->automatic, "on") == 0, &diag);
    else if (!err)
        err = cn_compaction_run(&c, s, &opts, &diag);
    if (err == CN_ECANCELLED)
        status = CN_EXIT_INTERRUPTED;
    else if (err)
        status = cn_cli_fail(cli, err, &diag);
    else if (cli->json)
        status = put_json(cli, s, c);
    else if (c)
        cn_compaction_print(stdout, c);
    cn_compact_free(c);
    cn_session_close(s);
    cn_host_close(host);
    return status;
}

int cn_cmd_sessions_compact(int argc, char **argv) {
    cn_cli          cli = {.command = "sessions compact"};
    request         r = {.keep = -1};
    const cn_option options[] = {
        {.name = "keep", .number = &r.keep, .help = "last turns that stay as they were; 2"},
        {.name = "extract", .flag = &r.is_extract, .help = "do not ask the model"},
        {.name = "auto",
         .value = &r.automatic,
         .value_name = "on|off",
         .help = "whether it happens on its own; nothing else is done"},
        {0},
    };
    const int operands = cn_cli_parse(&cli, argc, argv, usage, options);
    if (operands != 1) return cn_cli_usage(&cli, "want one SESSION, got %d", operands);
    if (r.automatic && strcmp(r.automatic, "on") != 0 && strcmp(r.automatic, "off") != 0)
        return cn_cli_usage(&cli, "--auto %s: want on or off", r.automatic);
    r.id = argv[0];
    cn_signals_catch(true);
    return cn_signals_leave(run(&cli, &r));
}

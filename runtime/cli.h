/*
 * cli.h - What the commands of the cairn binary share: options, output, exit status.
 *
 * Every command takes --json: one compact object, the last line of stdout; a failure is
 * {"error":{"code":"ENOTFOUND","message":"..."}}.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_CLI_H
#define CN_RUNTIME_CLI_H

#include "base/err.h"
#include "base/json.h"
#include "runtime/conf.h"
#include "sessions/context.h"
#include "sessions/session.h"

CN_C_BEGIN

/* Exit status. */
enum {
    CN_EXIT_DONE = 0,
    CN_EXIT_FAILED = 1,
    CN_EXIT_USAGE = 2,
    CN_EXIT_BUDGET = 3,
    CN_EXIT_INTERRUPTED = 130,
};

enum { CN_PATH_BYTES = 4096 }; // PATH_MAX: realpath writes that much

/* Options that every command understands.  After cn_cli_parse isa, threads and tenant are what
 * options, environment and file say (conf.h); conf has these and the rest. */
typedef struct cn_cli {
    const char    *command;     // "model verify"
    const char    *model;       // --model DIR, and nothing else: cn_cli_find_model
    const char    *isa;         // NULL: the fastest
    int32_t        threads;     // 0: one for each core
    const char    *tenant;      // NULL: none
    const char    *state;       // --state DIR, and nothing else: cn_cli_find_state
    const char    *config;      // --config FILE
    const cn_conf *conf;        // of the process
    bool           json;        // --json
    const char    *cache_bytes; // --cache-bytes SIZE; conf has it
} cn_cli;

/* One long option: --name VALUE (value is set) or --name (flag is set). */
typedef struct cn_option {
    const char  *name;   // without dashes
    char         letter; // -x; 0: none
    const char **value;  // one of the three, or NULL
    int32_t     *number;
    bool        *flag;
    const char  *help;
    const char  *value_name; // in the help; NULL: N for a number, else TEXT
} cn_option;

/* Read options and operands of one command.  `options` ends with a zeroed entry; the common
 * ones are known besides.  Operands move to the front of argv; their count is returned.
 * --help prints `usage` (written as help.h says) with all options and exits, --man the same
 * as a man page; a wrong option exits with 2, a wrong configuration with 1.  An option that has the
 * name of a key of conf.h gives that key its value. */
int cn_cli_parse(cn_cli *cli, int argc, char **argv, const char *usage, const cn_option *options);

/* One of the words that can stand next on the command line. */
typedef struct cn_verb {
    const char *name;
    int (*run)(int argc, char **argv); // argv[0] is the verb
    const char *help;                  // one line
} cn_verb;

/* Run the verb that argv[1] names.  `before` is what stands in front of it ("cairn bench"),
 * `verb` ends with a zeroed entry.  --help or nothing lists the verbs; so does `help`, and
 *
 *   help VERB...        is VERB... --help
 *   help --man VERB...  its man page; without a verb that of the list
 *   help --commands     names alone, one a line */
int cn_cli_dispatch(const char *before, const cn_verb *verb, int argc, char **argv);

/* The one of several names that somebody may have meant by `word`. */
typedef struct cn_nearest {
    const char *word;
    const char *best; // NULL: none is near
    int         distance;
} cn_nearest;

/* A name that `word` begins, or one that is a slip or two away (a letter more, less, other,
 * or two exchanged); the nearest, of equals the first. */
void cn_nearest_try(cn_nearest *n, const char *name);

/* Print the failure as `cli` wants it and return CN_EXIT_FAILED. */
int cn_cli_fail(const cn_cli *cli, cn_err err, const cn_diag *diag);
/* Say what is wrong with the command line, on stderr, and return CN_EXIT_USAGE. */
int cn_cli_usage(const cn_cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Print a finished JSON object and a line end; CN_EXIT_DONE, or FAILED if it did not fit. */
int cn_cli_put_json(const cn_cli *cli, cn_buf *buf);

/* The model folder: as configured, else beside the executable (never the working directory).
 * CN_ENOTFOUND names what was tried. */
cn_err cn_cli_find_model(const cn_cli *cli, char path_out[CN_PATH_BYTES], cn_diag *diag);
/* The state folder: as configured, else $XDG_STATE_HOME/cairn, else ~/.local/state/cairn. */
cn_err cn_cli_find_state(const cn_cli *cli, char path_out[CN_PATH_BYTES], cn_diag *diag);

/* Open what sessions share, as the options say: model, state folder, engine. */
cn_err cn_cli_open_host(const cn_cli *cli, cn_host **out, cn_diag *diag);

/* Open the ledger alone: for what needs no model.  cn_ledger_close() it. */
cn_err cn_cli_open_ledger(const cn_cli *cli, cn_ledger **out, cn_diag *diag);

/* A number of bytes, also as 512M or 16G (of 1,024).  False: it is none. */
bool cn_cli_read_bytes(const char *text, int64_t *out);

/* Put the members "path" and "tokens" of an open object. */
void cn_cli_put_path(cn_json_writer *w, const char *path, int64_t tokens);

/* 31870 as "31,870"; the text is valid for the next few calls. */
const char *cn_cli_count(int64_t n);

/* A listing: lines for people, an array for programs. */
typedef struct cn_listing {
    const cn_cli  *cli;
    cn_buf         buf;
    cn_json_writer w; // on buf
    int64_t        rows;
} cn_listing;

void cn_listing_begin(cn_listing *l, const cn_cli *cli);
/* Print what was written (--json) or the failure; the exit status. */
int cn_listing_end(cn_listing *l, cn_err err, const cn_diag *diag);

/* What several commands print, each finished with its exit status.  `session` is an exact id. */
int cn_print_costs(const cn_cli *cli, cn_ledger *ledger, cn_cost_by by, const char *session);
int cn_print_sessions(const cn_cli *cli, cn_ledger *ledger);
int cn_print_context(const cn_cli *cli, cn_session *s);
/* "turn", "session", "day", "tool"; CN_COST_COUNT for another word. */
cn_cost_by cn_cost_by_name(const char *name);
/* One call as a line or, if l->cli->json, an object; a cn_ledger_call_fn. */
void cn_print_call(void *listing, const cn_ledger_call *call);

/* The commands; argv[0] is the first word behind their name. */
int cn_cmd_model(int argc, char **argv);
int cn_cmd_bench(int argc, char **argv);
int cn_cmd_bench_ops(int argc, char **argv);
int cn_cmd_bench_decode(int argc, char **argv);
int cn_cmd_bench_retrieval(int argc, char **argv);
int cn_cmd_bench_curve(int argc, char **argv);
int cn_cmd_bench_replay(int argc, char **argv);
int cn_cmd_ask(int argc, char **argv);
int cn_cmd_chat(int argc, char **argv);
int cn_cmd_sessions(int argc, char **argv);
int cn_cmd_sessions_compact(int argc, char **argv);
int cn_cmd_context(int argc, char **argv);
int cn_cmd_cost(int argc, char **argv);
int cn_cmd_cache(int argc, char **argv);
int cn_cmd_config(int argc, char **argv);

CN_C_END

#endif

/* cmd_context.c - cairn context: what a view holds, its price, and what is added or dropped. */
#include "runtime/moves.h"
#include "runtime/quote.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: cairn context [-C REPO] [--budget N] [--dry-run]\n"
    "       cairn context [-C REPO] -c | -s SESSION [--dry-run]\n"
    "       cairn context add|drop [-C REPO] -c | -s SESSION PATH...\n"
    "       cairn context [-C REPO] -c | -s SESSION --turn N\n"
    "\n"
    "examples:\n"
    "  cairn context --dry-run              what is in, what is left out, what it will cost\n"
    "  cairn context                        prefill the rest now, for the sessions to come\n"
    "  cairn context --budget 8192 --json   the same of a smaller view, as one object\n"
    "  cairn context drop -c src/big.c      free; turn-1/result-1.txt names a long result\n"
    "  cairn context add -c doc/format.md   prefilled, and billed, by the next turn\n"
    "  cairn context -c --turn 3            the documents that came and went with turn 3\n"
    "\n"
    "What a new session here would hold, or a session holds, what is left out, what is cached,\n"
    "and the price of the rest: tokens, seconds by the rate last measured, and why each document\n"
    "is missing.  Without --dry-run it is prefilled and stored now.  add and\n"
    "drop say what a session's view holds from now on: files by their path from the root,\n"
    "long questions and results as the conversation names them.\n";

/* A context as it was before anything was prefilled. */
typedef struct seen {
    cn_session      *session; // NULL: of none
    cn_context      *context;
    cn_context_miss *miss;
    cn_quote         price;
} seen;

/* `prefill_ns`: of a token. */
static cn_err look(seen *v, double prefill_ns, cn_diag *diag) {
    const cn_context_plan *p = cn_context_get_plan(v->context);
    v->price = (cn_quote){.cached_tokens = p->cached_tokens,
                          .missing_tokens = p->missing_tokens,
                          .prefill_ns = prefill_ns};
    CN_TRY(cn_context_explain(v->context, &v->miss, &v->price.misses, diag));
    v->price.miss = v->miss;
    return CN_OK;
}

static void release(seen *v) {
    cn_context_misses_free(v->miss, v->price.misses);
}

static void put_documents(cn_json_writer *w, const cn_context *c) {
    cn_json_field_open(w, "documents", '[');
    for (int64_t i = 0; i < cn_context_docs(c); i++) {
        const cn_context_doc *d = cn_context_doc_at(c, i);
        cn_json_open(w, '{');
        cn_json_field_string(w, "path", d->path);
        cn_json_field_int64(w, "first_line", d->piece.first_line);
        cn_json_field_int64(w, "lines", d->piece.lines);
        cn_json_field_int64(w, "tokens", d->piece.tokens);
        cn_json_field_string(w, "state", d->is_missing ? cn_miss_name(d->why) : "cached");
        cn_json_close(w, '}');
    }
    cn_json_close(w, ']');
}

static void put_plan(cn_json_writer *w, cn_context *c, int64_t prefilled) {
    const cn_context_plan *p = cn_context_get_plan(c);
    const struct {
        const char *key;
        int64_t     value;
    } numbers[] = {{"files", p->files},
                   {"context_tokens", p->tokens},
                   {"cached_tokens", p->cached_tokens},
                   {"missing_tokens", p->missing_tokens},
                   {"missing_documents", p->missing_documents},
                   {"prefilled_tokens", prefilled},
                   {"files_read", p->files_read},
                   {"left_files", p->left_files},
                   {"left_tokens", p->left_tokens},
                   {"file_tokens", p->file_tokens},
                   {"over_tokens", p->over_tokens},
                   {"refs", p->refs},
                   {"ref_tokens", p->ref_tokens},
                   {"left_refs", p->left_refs},
                   {"left_ref_tokens", p->left_ref_tokens},
                   {"skipped_files", p->skipped_files}};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        cn_json_put_key(w, numbers[i].key);
        cn_json_put_int64(w, numbers[i].value);
    }
    put_documents(w, c);
    cn_json_put_key(w, "misses");
    cn_json_open(w, '[');
    for (int i = 0; i < CN_MISS_COUNT; i++) {
        if (!p->misses[i].count) continue;
        cn_json_open(w, '{');
        cn_json_put_key(w, "reason");
        cn_json_put_string(w, cn_miss_name((cn_miss)i));
        cn_json_put_key(w, "count");
        cn_json_put_int64(w, p->misses[i].count);
        cn_json_put_key(w, "tokens");
        cn_json_put_int64(w, p->misses[i].tokens);
        cn_json_close(w, '}');
    }
    cn_json_close(w, ']');
    cn_json_put_key(w, "left");
    cn_json_open(w, '[');
    const char *path, *reason;
    int64_t     tokens;
    for (int64_t i = 0; (path = cn_context_left_at(c, i, &tokens, &reason)); i++) {
        cn_json_open(w, '{');
        cn_cli_put_path(w, path, tokens);
        cn_json_put_key(w, "reason");
        cn_json_put_string(w, reason);
        cn_json_close(w, '}');
    }
    cn_json_close(w, ']');
}

enum { LEFT_SHOWN = 20 };

static void print_documents(cn_context *c) {
    const cn_context_plan *p = cn_context_get_plan(c);
    for (int64_t i = 0; i < cn_context_docs(c); i++) {
        const cn_context_doc *d = cn_context_doc_at(c, i);
        printf("%-9s %6d tok  %s%s%d-%d\n", d->is_missing ? cn_miss_name(d->why) : "cached",
               d->piece.tokens, d->path, " lines ", d->piece.first_line,
               d->piece.first_line + (d->piece.lines ? d->piece.lines - 1 : 0));
    }
    const char *path, *reason;
    int64_t     tokens, shown = 0;
    for (; shown < LEFT_SHOWN && (path = cn_context_left_at(c, shown, &tokens, &reason)); shown++)
        printf("left out  %6s tok  %s: %s\n", cn_cli_count(tokens), path, reason);
    if (p->left_files + p->left_refs > shown)
        printf("left out  and %s more (--json lists all)\n",
               cn_cli_count(p->left_files + p->left_refs - shown));
    for (int64_t i = 0; i < LEFT_SHOWN && (path = cn_context_skipped_at(c, i, &reason)); i++)
        printf("skipped              %s: %s\n", path, reason);
    puts("");
}

static void print_sum(const seen *v) {
    const cn_context_plan *p = cn_context_get_plan(v->context);
    printf("%s files, %s documents, %s tok: %s cached, %s to prefill; %s files (%s tok) left out\n",
           cn_cli_count(p->files), cn_cli_count(p->documents), cn_cli_count(p->tokens),
           cn_cli_count(p->cached_tokens), cn_cli_count(p->missing_tokens),
           cn_cli_count(p->left_files), cn_cli_count(p->left_tokens));
    if (p->refs || p->left_refs)
        printf("%s long parts of the conversation (%s tok); %s (%s tok) dropped\n",
               cn_cli_count(p->refs), cn_cli_count(p->ref_tokens), cn_cli_count(p->left_refs),
               cn_cli_count(p->left_ref_tokens));
    if (p->over_tokens) printf("%s tok above the budget of files\n", cn_cli_count(p->over_tokens));
    if (v->session && cn_session_pin(v->session))
        puts("pinned: the view stays as it was, whatever the folder holds (ask --unpin)");
    cn_quote_print(stdout, &v->price);
}

/* ---- Added and dropped --------------------------------------------------------------- */

/* Of all documents of a path, in the view or left out of it. */
static int64_t tokens_of(cn_context *c, const char *path) {
    const char *left, *reason;
    int64_t     tokens = 0, sum = 0;
    for (int64_t i = 0; i < cn_context_docs(c); i++)
        if (strcmp(cn_context_doc_at(c, i)->path, path) == 0)
            sum += cn_context_doc_at(c, i)->piece.tokens;
    for (int64_t i = 0; (left = cn_context_left_at(c, i, &tokens, &reason)); i++)
        if (strcmp(left, path) == 0) sum += tokens;
    return sum;
}

static void put_edits(cn_json_writer *w, cn_context *c, cn_edit edit, char **path, int paths) {
    cn_json_put_key(w, edit == CN_EDIT_ADD ? "added" : "dropped");
    cn_json_open(w, '[');
    for (int i = 0; i < paths; i++) {
        cn_json_open(w, '{');
        cn_cli_put_path(w, path[i], tokens_of(c, path[i]));
        cn_json_close(w, '}');
    }
    cn_json_close(w, ']');
}

/* ---- The command --------------------------------------------------------------------- */

typedef struct request {
    const char *folder, *id;
    bool        is_continued, dry_run, is_edit;
    cn_edit     edit;
    int32_t     budget, turn;
    char      **path; // [paths] to add or drop
    int         paths;
} request;

/* A session's context, or that of a session to be; up to date. */
static cn_err open_context(const request *r, cn_host *host, cn_session **s, cn_context **c,
                           cn_diag *diag) {
    if (!r->id && !r->is_continued) {
        CN_TRY(cn_context_open(
            c, host, &(cn_context_opts){.folder = r->folder ? r->folder : ".", .budget = r->budget},
            diag));
        return cn_context_update(*c, diag);
    }
    CN_TRY(cn_session_open(s, host,
                           &(cn_session_opts){.id = r->id,
                                              .folder = r->folder || r->id ? r->folder : ".",
                                              .is_continued = r->is_continued,
                                              .is_reader = !r->is_edit},
                           diag));
    *c = cn_session_context(*s);
    return r->is_edit ? cn_session_edit(*s, r->edit, (const char *const *)r->path, r->paths, diag)
                      : cn_context_update(*c, diag);
}

static int put_json(const cn_cli *cli, const request *r, const seen *v, int64_t prefilled) {
    cn_session    *s = v->session;
    cn_context    *c = v->context;
    cn_buf         buf = {0};
    cn_json_writer w = cn_json_writer_on(&buf);
    cn_json_open(&w, '{');
    if (s) {
        cn_json_put_key(&w, "session");
        cn_json_put_string(&w, cn_session_row(s)->id);
    }
    if (r->is_edit) put_edits(&w, c, r->edit, r->path, r->paths);
    put_plan(&w, c, prefilled);
    cn_quote_put_json(&w, &v->price);
    cn_json_field_bool(&w, "pinned", s && cn_session_pin(s));
    cn_json_close(&w, '}');
    return cn_cli_put_json(cli, &buf);
}

static void print_view(const request *r, const seen *v) {
    cn_context *c = v->context;
    if (!r->is_edit) print_documents(c);
    for (int i = 0; i < r->paths; i++)
        printf("%-9s %6s tok  %s\n", r->edit == CN_EDIT_ADD ? "added" : "dropped",
               cn_cli_count(tokens_of(c, r->path[i])), r->path[i]);
    print_sum(v);
}

int cn_print_context(const cn_cli *cli, cn_session *s) {
    const request r = {0};
    cn_diag       diag = {0};
    seen          v = {.session = s, .context = cn_session_context(s)};
    int           status = CN_EXIT_DONE;
    const cn_err  err = look(&v, cn_session_prefill_ns(s), &diag);
    if (err)
        status = cn_cli_fail(cli, err, &diag);
    else if (cli->json)
        status = put_json(cli, &r, &v, 0);
    else
        print_view(&r, &v);
    release(&v);
    return status;
}

/* ---- One turn ------------------------------------------------------------------------ */

/* The session is read, not written: another process may be in it. */
static cn_err find_session(const request *r, cn_ledger *l, cn_ledger_session **out, cn_diag *diag) {
    cn_repo *repo;
    if (r->id) return cn_ledger_session_find(l, r->id, out, diag);
    CN_TRY(cn_repo_open(&repo, &(cn_repo_opts){.path = r->folder ? r->folder : "."}, diag));
    const cn_err err = cn_ledger_session_latest(l, cn_repo_root(repo), out, diag);
    cn_repo_close(repo);
    return err;
}

static int run_turn(const cn_cli *cli, const request *r) {
    cn_diag            diag = {0};
    cn_host           *host = NULL;
    cn_ledger_session *row = NULL;
    cn_err             err = cn_cli_open_host(cli, &host, &diag);
    if (!err) err = find_session(r, host->ledger, &row, &diag);
    const int status =
        err ? cn_cli_fail(cli, err, &diag) : cn_print_moves(cli, host->ledger, row->id, r->turn);
    cn_ledger_session_free(row);
    cn_host_close(host);
    return status;
}

static int run(const cn_cli *cli, const request *r) {
    cn_diag         diag = {0};
    cn_host        *host = NULL;
    seen            v = {0};
    cn_context_work work = {0};
    int             status = CN_EXIT_DONE;
    cn_err          err = cn_cli_open_host(cli, &host, &diag);
    if (!err) err = open_context(r, host, &v.session, &v.context, &diag);
    if (!err) err = look(&v, host->prefill_ns, &diag);
    if (!err && !cli->json) print_view(r, &v);
    for (bool done = r->dry_run || r->is_edit; !err && !done;)
        err = cn_context_prefill(v.context, &done, &work, &diag);
    if (err)
        status = cn_cli_fail(cli, err, &diag);
    else if (cli->json)
        status = put_json(cli, r, &v, work.tokens);
    else if (work.tokens)
        printf("prefilled %s tok in %.1f s (%.0f tok/s), %.1f MB written\n",
               cn_cli_count(work.tokens), (double)work.compute_ns / 1e9,
               (double)work.tokens * 1e9 / (double)work.compute_ns,
               (double)work.bytes_written / 1e6);
    release(&v);
    if (v.session)
        cn_session_close(v.session); // and its context
    else
        cn_context_close(v.context);
    cn_host_close(host);
    return status;
}

int cn_cmd_context(int argc, char **argv) {
    cn_cli          cli = {.command = "context"};
    request         r = {0};
    const cn_option options[] = {
        {.name = "repo", .letter = 'C', .value = &r.folder, .help = "repository or folder; here"},
        {.name = "continue",
         .letter = 'c',
         .flag = &r.is_continued,
         .help = "of the last session here"},
        {.name = "session", .letter = 's', .value = &r.id, .help = "of a session, by its id"},
        {.name = "budget", .number = &r.budget, .help = "tokens, of a new session; 32768"},
        {.name = "dry-run", .flag = &r.dry_run, .help = "prefill nothing"},
        {.name = "turn", .number = &r.turn, .help = "what came and went with this turn"},
        {0},
    };
    const int operands = cn_cli_parse(&cli, argc, argv, usage, options);
    if (r.is_continued && r.id) return cn_cli_usage(&cli, "-c and -s exclude each other");
    const bool is_add = operands > 0 && strcmp(argv[0], "add") == 0;
    r.is_edit = is_add || (operands > 0 && strcmp(argv[0], "drop") == 0);
    if (operands > 0 && !r.is_edit)
        return cn_cli_usage(&cli, "want add, drop or nothing, got \"%s\"", argv[0]);
    if (r.is_edit && !r.is_continued && !r.id)
        return cn_cli_usage(&cli, "%s: of which session? -c or -s", argv[0]);
    if (r.is_edit && operands < 2) return cn_cli_usage(&cli, "%s: want one PATH or more", argv[0]);
    if (r.budget && (r.is_continued || r.id))
        return cn_cli_usage(&cli, "--budget: a session keeps the one it was made with");
    if (r.turn && (operands > 0 || (!r.is_continued && !r.id)))
        return cn_cli_usage(&cli, "--turn: of which session? -c or -s, and nothing else");
    if (r.turn) return run_turn(&cli, &r);
    r.budget = (int32_t)cn_conf_int64(cli.conf, CN_CONF_BUDGET);
    if (r.is_edit) {
        r.edit = is_add ? CN_EDIT_ADD : CN_EDIT_DROP;
        r.path = argv + 1;
        r.paths = operands - 1;
    }
    return run(&cli, &r);
}

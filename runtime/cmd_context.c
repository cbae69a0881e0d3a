/* cmd_context.c - cairn context: what a view of this repository holds, and its price. */
#include "runtime/cli.h"
#include "sessions/context.h"

#include <stdio.h>

static const char usage[] =
    "usage: cairn context [-C REPO] [--budget N] [--dry-run]\n\n"
    "  What a new session here would hold, what is left out, and what is cached.  Without\n"
    "  --dry-run the missing documents are prefilled and stored now.\n";

static void put_plan(cn_json_writer *w, cn_context *c, int64_t prefilled) {
    const cn_context_plan *p = cn_context_get_plan(c);
    const struct {
        const char *key;
        int64_t     value;
    } numbers[] = {{"files", p->files},
                   {"documents", p->documents},
                   {"context_tokens", p->tokens},
                   {"cached_tokens", p->cached_tokens},
                   {"missing_tokens", p->missing_tokens},
                   {"missing_documents", p->missing_documents},
                   {"prefilled_tokens", prefilled},
                   {"files_read", p->files_read},
                   {"left_files", p->left_files},
                   {"left_tokens", p->left_tokens},
                   {"skipped_files", p->skipped_files}};
    cn_json_open(w, '{');
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        cn_json_put_key(w, numbers[i].key);
        cn_json_put_int64(w, numbers[i].value);
    }
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
        cn_json_put_key(w, "path");
        cn_json_put_string(w, path);
        cn_json_put_key(w, "tokens");
        cn_json_put_int64(w, tokens);
        cn_json_put_key(w, "reason");
        cn_json_put_string(w, reason);
        cn_json_close(w, '}');
    }
    cn_json_close(w, ']');
    cn_json_close(w, '}');
}

static void print_plan(cn_context *c) {
    enum { LEFT_SHOWN = 20 };
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
    if (p->left_files > shown)
        printf("left out  and %s more files (--json lists all)\n",
               cn_cli_count(p->left_files - shown));
    for (int64_t i = 0; i < LEFT_SHOWN && (path = cn_context_skipped_at(c, i, &reason)); i++)
        printf("skipped              %s: %s\n", path, reason);
    printf(
        "\n%s files, %s documents, %s tok: %s cached, %s to prefill; %s files (%s tok) left out\n",
        cn_cli_count(p->files), cn_cli_count(p->documents), cn_cli_count(p->tokens),
        cn_cli_count(p->cached_tokens), cn_cli_count(p->missing_tokens),
        cn_cli_count(p->left_files), cn_cli_count(p->left_tokens));
}

int cn_cmd_context(int argc, char **argv) {
    cn_cli          cli = {.command = "context"};
    cn_diag         diag = {0};
    const char     *folder = ".";
    int32_t         budget = 0;
    bool            dry_run = false;
    const cn_option options[] = {
        {.name = "repo", .letter = 'C', .value = &folder, .help = "repository or folder; here"},
        {.name = "budget", .number = &budget, .help = "tokens; 32768"},
        {.name = "dry-run", .flag = &dry_run, .help = "prefill nothing"},
        {0},
    };
    const int operands = cn_cli_parse(&cli, argc, argv, usage, options);
    if (operands != 0) return cn_cli_usage(&cli, "want no operand, got \"%s\"", argv[0]);
    cn_host        *host = NULL;
    cn_context     *c = NULL;
    cn_context_work work = {0};
    cn_buf          buf = {0};
    int             status = CN_EXIT_DONE;
    cn_err          err = cn_cli_open_host(&cli, &host, &diag);
    if (!err)
        err = cn_context_open(&c, host, &(cn_context_opts){.folder = folder, .budget = budget},
                              &diag);
    if (!err) err = cn_context_update(c, &diag);
    if (!err && !cli.json) print_plan(c);
    for (bool done = dry_run; !err && !done;) err = cn_context_prefill(c, &done, &work, &diag);
    if (err) {
        status = cn_cli_fail(&cli, err, &diag);
    } else if (cli.json) {
        cn_json_writer w = cn_json_writer_on(&buf);
        put_plan(&w, c, work.tokens);
        status = cn_cli_put_json(&cli, &buf);
    } else if (work.tokens) {
        printf("prefilled %s tok in %.1f s (%.0f tok/s), %.1f MB written\n",
               cn_cli_count(work.tokens), (double)work.compute_ns / 1e9,
               (double)work.tokens * 1e9 / (double)work.compute_ns,
               (double)work.bytes_written / 1e6);
    }
    cn_context_close(c);
    cn_host_close(host);
    return status;
}

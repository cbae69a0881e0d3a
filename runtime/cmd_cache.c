/* cmd_cache.c - cairn cache: what the page store holds, and its upkeep. */
#include "runtime/cli.h"
#include "sessions/cache.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: cairn cache stat                     what the page store holds, and for whom\n"
    "       cairn cache verify [--sample N]      every checksum; N documents prefilled again\n"
    "       cairn cache gc [--budget SIZE]       let go of what nothing needs\n"
    "       cairn cache drop --repo PATH         the pages of a repository's sessions\n"
    "       cairn cache drop --session SESSION   of one session\n"
    "       cairn cache drop --all               all pages\n"
    "       cairn cache pin SESSION              its pages never go by themselves\n"
    "       cairn cache unpin SESSION            they may go again\n"
    "\n"
    "examples:\n"
    "  cairn cache stat --json               as one object\n"
    "  cairn cache gc --budget 4G --dry-run  what would go, and why\n"
    "  cairn cache verify --sample 20        status 1 if anything was bad\n"
    "  cairn cache drop --repo .             forget this repository's pages\n"
    "\n"
    "The store is a cache: what is deleted is prefilled again when a turn needs it. A full store\n"
    "lets go by itself, in the order of gc: what no session reaches; the last 8 views of each\n"
    "repository and the ends of the last 8 turns of each conversation; what sessions need now.\n"
    "Within each, what was not used longest goes first. What a process has open, and what is\n"
    "pinned, stays; if that leaves no room, a turn keeps its pages in memory.\n"
    "\n"
    "gc without --budget deletes what nothing reaches and nobody used for a day, then keeps to\n"
    "the size budget (--cache-bytes). The file does not shrink: its free pages are used again.\n"
    "\n"
    "verify deletes what is bad: the next turn prefills it again.\n"
    "\n"
    "drop also deletes what no session is known to need, for it may be of that repository. What\n"
    "other sessions share stays, unless --force. The space is overwritten with zeros at once, but\n"
    "what a running process still reads, which is said; drop again when it has ended. Copies that\n"
    "the file system or the drive keeps below the file are out of reach. Texts and answers are in\n"
    "the ledger, not here: cairn sessions rm.\n";

typedef struct request {
    const char *budget, *repo, *session;
    int32_t     sample;
    bool        dry_run, all, force;
} request;

/* ---- Sums ---------------------------------------------------------------------------- */

static void put_sum(cn_listing *l, const char *what, const char *why, const cn_cache_sum *s) {
    if (!s->keys) return;
    l->rows++;
    if (!l->cli->json) {
        printf("%-7s %-10s %8s documents %8s pages %6s windows %16s bytes\n", what, why,
               cn_cli_count(s->documents), cn_cli_count(s->pages), cn_cli_count(s->windows),
               cn_cli_count(s->bytes));
        return;
    }
    cn_json_open(&l->w, '{');
    cn_json_field_string(&l->w, "what", what);
    cn_json_field_string(&l->w, "why", why);
    cn_json_field_int64(&l->w, "documents", s->documents);
    cn_json_field_int64(&l->w, "pages", s->pages);
    cn_json_field_int64(&l->w, "windows", s->windows);
    cn_json_field_int64(&l->w, "bytes", s->bytes);
    cn_json_close(&l->w, '}');
}

static void put_number(cn_listing *l, const char *key, int64_t value) {
    cn_json_field_int64(&l->w, key, value);
    if (!l->cli->json) printf("%-14s %18s\n", key, cn_cli_count(value));
}

static void put_sums(cn_listing *l, const char *what, const cn_cache_sum sum[CN_KEEP_COUNT]) {
    for (int i = 0; i < CN_KEEP_COUNT; i++) put_sum(l, what, cn_keep_name((cn_keep_why)i), &sum[i]);
}

/* ---- The verbs ------------------------------------------------------------------------- */

typedef cn_err (*verb_fn)(cn_host *h, const request *r, cn_listing *l, int *status, cn_diag *diag);

static cn_err run_stat(cn_host *h, const request *r, cn_listing *l, int *status, cn_diag *diag) {
    cn_pages_stats s;
    cn_cache_sum   by[CN_KEEP_COUNT];
    (void)r, (void)status;
    CN_TRY(cn_pages_stat(h->pages, &s, diag));
    CN_TRY(cn_cache_count(h, by, diag));
    put_number(l, "keys", s.keys);
    put_number(l, "documents", s.docs);
    put_number(l, "pages", s.pages);
    put_number(l, "windows", s.windows);
    put_number(l, "used_bytes", s.used_bytes);
    put_number(l, "budget_bytes", s.budget_bytes);
    put_number(l, "file_bytes", s.file_bytes);
    put_number(l, "corrupt", s.corrupt);
    put_number(l, "evicted", s.evicted);
    cn_json_field_open(&l->w, "held", '[');
    put_sums(l, "held", by);
    cn_json_close(&l->w, ']');
    return CN_OK;
}

static cn_err run_verify(cn_host *h, const request *r, cn_listing *l, int *status, cn_diag *diag) {
    cn_cache_verified v;
    CN_TRY(cn_cache_verify(h, r->sample, &v, diag));
    put_number(l, "values", v.values.values);
    put_number(l, "bytes", v.values.bytes);
    put_number(l, "corrupt", v.values.corrupt);
    put_number(l, "documents", v.documents);
    put_number(l, "tokens", v.tokens);
    put_number(l, "wrong", v.wrong);
    put_number(l, "foreign", v.foreign);
    cn_json_field_bool(&l->w, "rebuilt", h->cache_was_rebuilt);
    if (!l->cli->json && h->cache_was_rebuilt) puts("the store was damaged and is built anew");
    if (v.values.corrupt || v.wrong || h->cache_was_rebuilt) *status = CN_EXIT_FAILED;
    return CN_OK;
}

static cn_err run_gc(cn_host *h, const request *r, cn_listing *l, int *status, cn_diag *diag) {
    cn_cache_gc_opts opts = {
        .budget_bytes = -1, .now_s = cn_clock_unix_ns() / 1000000000, .is_dry_run = r->dry_run};
    cn_cache_gc gc;
    (void)status;
    if (r->budget) (void)cn_cli_read_bytes(r->budget, &opts.budget_bytes); // was checked
    CN_TRY(cn_cache_collect(h, &opts, &gc, diag));
    cn_json_field_bool(&l->w, "dry_run", r->dry_run);
    if (!l->cli->json && r->dry_run)
        puts("nothing is deleted (--dry-run); garbage and over would go:");
    cn_json_field_open(&l->w, "sums", '[');
    put_sum(l, "garbage", "unreached", &gc.idle);
    put_sums(l, "over", gc.over);
    put_sums(l, "stays", gc.stays);
    cn_json_close(&l->w, ']');
    put_number(l, "budget_bytes", gc.budget_bytes);
    put_number(l, "used_bytes", gc.used_bytes);
    put_number(l, "left_bytes", gc.left_bytes);
    return CN_OK;
}

/* The root as sessions have it; of a folder that has gone, the path as it was given. */
static const char *find_root(const char *path, char out[CN_PATH_BYTES]) {
    cn_repo *repo;
    if (cn_repo_open(&repo, &(cn_repo_opts){.path = path}, NULL) == CN_OK) {
        snprintf(out, CN_PATH_BYTES, "%s", cn_repo_root(repo));
        cn_repo_close(repo);
    } else {
        snprintf(out, CN_PATH_BYTES, "%s", path);
    }
    return out;
}

static cn_err find_session(cn_host *h, const char *id, char out[CN_LEDGER_ID_BYTES_MAX + 1],
                           cn_diag *diag) {
    cn_ledger_session *s;
    CN_TRY(cn_ledger_session_find(h->ledger, id, &s, diag));
    snprintf(out, CN_LEDGER_ID_BYTES_MAX + 1, "%s", s->id);
    cn_ledger_session_free(s);
    return CN_OK;
}

static cn_err run_drop(cn_host *h, const request *r, cn_listing *l, int *status, cn_diag *diag) {
    char               root[CN_PATH_BYTES], id[CN_LEDGER_ID_BYTES_MAX + 1];
    cn_cache_drop_opts opts = {.is_forced = r->force};
    cn_cache_drop      d;
    (void)status;
    if (r->repo) opts.repo = find_root(r->repo, root);
    if (r->session) {
        CN_TRY(find_session(h, r->session, id, diag));
        opts.session = id;
    }
    CN_TRY(cn_cache_drop_pages(h, &opts, &d, diag));
    cn_json_field_open(&l->w, "sums", '[');
    put_sum(l, "gone", "own", &d.own);
    put_sum(l, "gone", "nobody's", &d.nobodys);
    put_sum(l, "stays", "shared", &d.shared);
    cn_json_close(&l->w, ']');
    put_number(l, "erased_bytes", d.erased.bytes);
    put_number(l, "held_bytes", d.erased.held_bytes);
    cn_json_field_int64(&l->w, "holder_pid", d.erased.holder_pid);
    if (l->cli->json) return CN_OK;
    if (d.erased.held_bytes)
        printf("process %lld reads an older state: up to %s bytes are not overwritten; drop again "
               "when it has ended\n",
               (long long)d.erased.holder_pid, cn_cli_count(d.erased.held_bytes));
    else
        puts("nothing of it is left in the file; what the file system or the drive keeps below "
             "it is out of reach");
    return CN_OK;
}

/* ---- The command ----------------------------------------------------------------------- */

static cn_err pin(cn_host *h, const char *name, bool is_pinned, cn_listing *l, cn_diag *diag) {
    char id[CN_LEDGER_ID_BYTES_MAX + 1];
    CN_TRY(find_session(h, name, id, diag));
    CN_TRY(cn_ledger_session_pin(h->ledger, id, is_pinned, diag));
    cn_json_field_string(&l->w, "session", id);
    cn_json_field_bool(&l->w, "pinned", is_pinned);
    if (!l->cli->json) printf("%s is %s\n", id, is_pinned ? "pinned" : "not pinned");
    return CN_OK;
}

/* After all pages were dropped the file can go too, if nobody else has it open. */
static void remove_file(const char *state) {
    char    path[CN_HOST_PATH_BYTES + 16];
    cn_diag diag = {0};
    snprintf(path, sizeof(path), "%s/cache", state);
    const cn_err err = cn_pages_wipe(path, &diag);
    if (err) fprintf(stderr, "the store's file stays, it holds no pages: %s\n", diag.text);
}

static int run(const cn_cli *cli, const request *r, verb_fn verb, const char *pinned, bool is_pin) {
    cn_diag    diag = {0};
    cn_host   *host = NULL;
    cn_listing l;
    char       state[CN_HOST_PATH_BYTES] = "";
    int        status = CN_EXIT_DONE;
    cn_err     err = cn_cli_open_host(cli, &host, &diag);
    cn_listing_begin(&l, cli);
    cn_json_open(&l.w, '{');
    if (!err)
        err = pinned ? pin(host, pinned, is_pin, &l, &diag) : verb(host, r, &l, &status, &diag);
    cn_json_close(&l.w, '}');
    if (!err) snprintf(state, sizeof(state), "%s", host->state_folder);
    cn_host_close(host);
    if (!err && r->all) remove_file(state);
    const int shown = cn_listing_end(&l, err, &diag);
    return shown ? shown : status;
}

int cn_cmd_cache(int argc, char **argv) {
    static const struct {
        const char *name;
        verb_fn     run;
    } verbs[] = {{"stat", run_stat}, {"verify", run_verify}, {"gc", run_gc}, {"drop", run_drop}};
    cn_cli          cli = {.command = "cache"};
    request         r = {.sample = CN_CACHE_SAMPLE_DOCUMENTS};
    int64_t         bytes;
    const cn_option options[] = {
        {.name = "budget",
         .value = &r.budget,
         .value_name = "SIZE",
         .help = "gc: what may stay, as 4G; the size budget"},
        {.name = "dry-run", .flag = &r.dry_run, .help = "gc: delete nothing, say what would go"},
        {.name = "sample", .number = &r.sample, .help = "verify: documents to prefill again; 4"},
        {.name = "repo", .letter = 'C', .value = &r.repo, .help = "drop: of this repository"},
        {.name = "session", .letter = 's', .value = &r.session, .help = "drop: of this session"},
        {.name = "all", .flag = &r.all, .help = "drop: everything"},
        {.name = "force",
         .flag = &r.force,
         .help = "drop: what others share, and what is open, too"},
        {0},
    };
    const int   operands = cn_cli_parse(&cli, argc, argv, usage, options);
    const char *name = operands ? argv[0] : "";
    const bool  is_pin = strcmp(name, "pin") == 0, is_drop = strcmp(name, "drop") == 0;
    if (r.budget && !cn_cli_read_bytes(r.budget, &bytes))
        return cn_cli_usage(&cli, "--budget %s: want a size, as 4G", r.budget);
    if ((r.budget || r.dry_run) && strcmp(name, "gc") != 0)
        return cn_cli_usage(&cli, "--budget and --dry-run are of gc");
    if (is_drop ? !!r.repo + !!r.session + r.all != 1 : r.repo || r.session || r.all || r.force)
        return cn_cli_usage(&cli, is_drop ? "drop: want one of --repo, --session, --all"
                                          : "--repo, --session, --all and --force are of drop");
    if (is_pin || strcmp(name, "unpin") == 0) {
        if (operands != 2) return cn_cli_usage(&cli, "%s: want one SESSION", name);
        return run(&cli, &r, NULL, argv[1], is_pin);
    }
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (operands == 1 && strcmp(name, verbs[i].name) == 0)
            return run(&cli, &r, verbs[i].run, NULL, false);
    return cn_cli_usage(&cli, "want: stat, verify, gc, drop, pin or unpin");
}

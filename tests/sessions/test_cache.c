/*
 * test_cache.c - The page store under a real session: what may go, what is bad, what is full.
 *
 * Whatever happens to the store, a turn gives the logits of one to which nothing happened.
 */
#include "base/clock.h"
#include "base/fault.h"
#include "sessions/cache.h"
#include "tests/sessions/session_kit.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* No test pulls the plug: nothing here depends on what has reached the disk. */
int fdatasync(int fd) {
    (void)fd;
    return 0;
}

int fsync(int fd) {
    (void)fd;
    return 0;
}

static cn_host *open_host(const char *state) {
    return k_open_host(k_plain_model(), state, 1);
}

static cn_host *open_small(const char *state) {
    cn_host *h;
    assert_err(cn_host_open(&h,
                            &(cn_host_opts){.model_folder = k_plain_model(),
                                            .state_folder = state,
                                            .isa = k_isa,
                                            .threads = 1,
                                            .cache_bytes = CN_PAGES_MAP_BYTES_MIN},
                            &t_diag),
               CN_OK);
    return h;
}

static void close_all(cn_host *h, cn_session *s) {
    cn_session_close(s);
    cn_host_close(h);
}

static k_asked ask(cn_host *h, cn_session *s) {
    return k_ask(h, s, "where is cn_buf_put?", NULL);
}

/* A session of one turn in a state folder; *first is that turn, *second what comes next. */
static void prepare(const char *repo, const char *state, k_asked *first, k_asked *second) {
    cn_host    *h = open_host(state);
    cn_session *s = k_open_session(h, repo, false);
    *first = ask(h, s);
    *second = ask(h, s);
    assert_err(cn_session_rewind(s, 1, &t_diag), CN_OK);
    close_all(h, s);
}

/* The second turn, asked and taken back. */
static k_asked ask_again(cn_host *h, cn_session *s, const k_asked *want, const char *what) {
    const k_asked got = ask(h, s);
    k_assert_same(want, &got, what);
    assert_err(cn_session_rewind(s, 1, &t_diag), CN_OK);
    return got;
}

static cn_cache_gc collect(cn_host *h, int64_t budget, int64_t later_s, bool is_dry_run) {
    cn_cache_gc            gc;
    const cn_cache_gc_opts opts = {.budget_bytes = budget,
                                   .now_s = cn_clock_unix_ns() / 1000000000 + later_s,
                                   .is_dry_run = is_dry_run};
    assert_err(cn_cache_collect(h, &opts, &gc, &t_diag), CN_OK);
    return gc;
}

static cn_cache_sum sum_of(cn_host *h, cn_keep_why why) {
    cn_cache_sum by[CN_KEEP_COUNT];
    assert_err(cn_cache_count(h, by, &t_diag), CN_OK);
    return by[why];
}

/* A key that no session knows. */
static void write_stray(cn_host *h) {
    const cn_hash       key = cn_hash_of("stray", 5);
    const cn_pages_item item = {.kind = CN_PAGES_WINDOW, .key = &key, .data = "bytes", .bytes = 5};
    assert_err(cn_pages_write(h->pages, &item, 1, cn_clock_unix_ns() / 1000000000, NULL, &t_diag),
               CN_OK);
}

/* ---- Garbage ---------------------------------------------------------------------------- */

static void test_what_goes_and_why(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    cn_host    *h = open_host(folder);
    cn_session *s = k_open_session(h, repo, false);
    ask(h, s);
    const int64_t documents = cn_context_docs(cn_session_context(s));
    t_shell("cd %s && sed -i '20i // one more line' base/buf.c", repo);
    const int64_t changed = ask(h, s).bill.misses[CN_MISS_CHANGED].count;
    write_stray(h);
    assert_int_equal(sum_of(h, CN_KEEP_USED).documents, documents);
    assert_int_equal(sum_of(h, CN_KEEP_RECENT).documents, changed);
    assert_int_equal(sum_of(h, CN_KEEP_UNREACHED).keys, 1);
    char id[CN_LEDGER_ID_BYTES_MAX + 1];
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);

    // Nothing is over the budget, and the stray is young; a day later it is garbage.
    cn_cache_gc gc = collect(h, -1, 0, false);
    assert_int_equal(gc.left_bytes, gc.used_bytes);
    gc = collect(h, -1, CN_CACHE_IDLE_SECONDS + 60, true);
    assert_int_equal(gc.idle.keys, 1);
    assert_int_equal(gc.left_bytes, gc.used_bytes - gc.idle.bytes);
    assert_int_equal(sum_of(h, CN_KEEP_UNREACHED).keys, 1); // it was a dry run
    collect(h, -1, CN_CACHE_IDLE_SECONDS + 60, false);
    assert_int_equal(sum_of(h, CN_KEEP_UNREACHED).keys, 0);

    // A byte too much: an old view's document goes first.  No budget at all: what is open stays.
    write_stray(h);
    gc = collect(h, collect(h, -1, 0, true).used_bytes - 1, 0, false);
    assert_int_equal(gc.over[CN_KEEP_UNREACHED].keys, 1);
    assert_int_equal(gc.over[CN_KEEP_RECENT].keys, 0);
    gc = collect(h, gc.left_bytes - 1, 0, false);
    assert_int_equal(gc.over[CN_KEEP_RECENT].keys, 1);
    assert_int_equal(gc.over[CN_KEEP_SESSION].keys, 0);
    gc = collect(h, 0, 0, false);
    assert_int_equal(gc.stays[CN_KEEP_USED].documents, documents);
    assert_int_equal(ask(h, s).bill.prefilled_tokens, 0);
    cn_session_close(s);

    // Closed and pinned: documents and conversation stay; then nothing holds them.
    assert_err(cn_ledger_session_pin(h->ledger, id, true, &t_diag), CN_OK);
    gc = collect(h, 0, 0, false);
    assert_int_equal(gc.stays[CN_KEEP_PINNED].documents, documents);
    assert_int_equal(gc.stays[CN_KEEP_PINNED].windows, 1);
    assert_int_equal(gc.over[CN_KEEP_SESSION].keys, 0);
    assert_err(cn_ledger_session_pin(h->ledger, id, false, &t_diag), CN_OK);
    gc = collect(h, 0, 0, false);
    assert_int_equal(gc.over[CN_KEEP_SESSION].documents, documents);
    assert_int_equal(sum_of(h, CN_KEEP_SESSION).keys, 0);
    assert_true(gc.left_bytes < 64 << 10);
    cn_host_close(h);
}

/* Another process has the session open, its view bound: gc takes nothing of it, neither while it
 * rests between turns nor while one runs. */
static void test_gc_takes_nothing_that_is_open_elsewhere(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    k_asked     first, second;
    int         ready[2], go[2], status;
    char        byte;
    prepare(repo, folder, &first, &second);
    assert_true(pipe(ready) == 0 && pipe(go) == 0);
    fflush(NULL);
    const pid_t pid = fork();
    close(pid ? ready[1] : ready[0]);
    close(pid ? go[0] : go[1]); // whoever is left alone reads the end
    if (pid == 0) {
        cn_host    *h = open_host(folder);
        cn_session *s = k_open_session(h, repo, true);
        k_asked     got = ask_again(h, s, &second, "before");
        if (write(ready[1], "r", 1) != 1 || read(go[0], &byte, 1) != 1) _exit(1);
        got = ask_again(h, s, &second, "after a collection elsewhere");
        if (got.bill.prefilled_tokens) _exit(2);
        cn_turn *t = k_begin(s, "where is cn_buf_put?", K_OUTPUT);
        got = (k_asked){.all = 0};
        for (int i = 0; i < 5; i++) k_step(h, t, NULL, &got);
        if (write(ready[1], "r", 1) != 1 || read(go[0], &byte, 1) != 1) _exit(1);
        while (k_step(h, t, NULL, &got)) {
        }
        k_end(t, &got);
        cn_turn_free(t);
        k_assert_same(&second, &got, "a collection within the turn");
        _exit(got.bill.prefilled_tokens ? 3 : 0);
    }
    cn_host *h = NULL;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(read(ready[0], &byte, 1), 1);
        if (!h) h = open_host(folder);
        const cn_cache_gc gc = collect(h, 0, 0, false);
        assert_int_equal(gc.over[CN_KEEP_SESSION].documents, 0);
        assert_true(gc.stays[CN_KEEP_USED].documents > 0);
        // A full map evicts by the same rule.
        assert_err(cn_pages_evict(h->pages, INT64_MAX, NULL, &t_diag), CN_OK);
        assert_true(sum_of(h, CN_KEEP_USED).documents > 0);
        assert_int_equal(write(go[1], "g", 1), 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(collect(h, 0, 0, false).over[CN_KEEP_SESSION].documents > 0); // it has ended
    cn_host_close(h);
    close(ready[0]);
    close(go[1]);
}

/* The process dies at the n-th fault point of a collection, and of a drop. */
static void test_a_crash_in_upkeep_leaves_a_good_cache(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    k_asked     first, second;
    int64_t     lost = 0;
    prepare(repo, folder, &first, &second);
    for (int is_drop = 0; is_drop < 2; is_drop++)
        for (int n = 1, ended = 0; !ended; n += t_is_sanitized() ? 11 : 3) {
            int status;
            t_note("%s, crash at point %d", is_drop ? "drop" : "gc", n);
            fflush(NULL);
            const pid_t pid = fork();
            if (pid == 0) {
                cn_host      *h = open_host(folder);
                cn_cache_drop d;
                cn_fault_arm(CN_FAULT_CRASH, n);
                if (is_drop)
                    _exit(cn_cache_drop_pages(h, &(cn_cache_drop_opts){0}, &d, NULL) != CN_OK);
                collect(h, 0, 0, false);
                _exit(0);
            }
            waitpid(pid, &status, 0);
            ended = WIFEXITED(status);
            if (ended) assert_int_equal(WEXITSTATUS(status), 0);
            cn_host          *h = open_host(folder);
            cn_session       *s = k_open_session(h, repo, true);
            cn_pages_verified v;
            assert_false(h->cache_was_rebuilt);
            assert_err(cn_pages_verify(h->pages, &v, &t_diag), CN_OK);
            assert_int_equal(v.corrupt, 0);
            lost += ask_again(h, s, &second, "after the crash").bill.prefilled_tokens > 0;
            close_all(h, s);
        }
    assert_true(lost > 1);
}

/* ---- Dropping --------------------------------------------------------------------------- */

static int64_t count_in_file(const char *folder, const void *what, size_t bytes) {
    char    path[300];
    int64_t count = 0;
    snprintf(path, sizeof(path), "%s/cache/data.mdb", folder);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    const size_t size = (size_t)ftell(f);
    uint8_t     *data = malloc(size);
    rewind(f);
    assert_int_equal(fread(data, 1, size, f), size);
    fclose(f);
    for (const uint8_t *at = data; (at = memmem(at, size - (size_t)(at - data), what, bytes)); at++)
        count++;
    free(data);
    return count;
}

static void assert_mode(const char *folder, const char *name, int mode) {
    char        path[300];
    struct stat st;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, mode);
}

static void test_a_repository_is_dropped(void **state) {
    (void)state;
    const char   *mine = k_new_repo(), *other = k_new_repo(), *folder = k_new_state();
    char          root[512];
    cn_cache_drop d;
    t_shell("cd %s && printf 'int mine_alone(void);\\n' > mine.c && git add -A && git commit -qm 2",
            mine);
    cn_host    *h = open_host(folder);
    cn_session *s = k_open_session(h, mine, false), *o = k_open_session(h, other, false);
    ask(h, s);
    k_ask(h, o, "another question", NULL);
    write_stray(h);
    snprintf(root, sizeof(root), "%s", cn_session_row(s)->repo);
    // The tokens of the file that this repository has alone.
    const cn_context_doc *own = NULL;
    for (int64_t i = 0; i < cn_context_docs(cn_session_context(s)); i++)
        if (!strcmp(cn_context_doc_at(cn_session_context(s), i)->path, "mine.c"))
            own = cn_context_doc_at(cn_session_context(s), i);
    assert_non_null(own);
    cn_pages_txn *txn;
    cn_pages_doc  record;
    int32_t       token[256];
    assert_err(cn_pages_begin(&txn, h->pages, &t_diag), CN_OK);
    assert_int_equal(cn_pages_get_doc(txn, &own->piece.key, &record), CN_PAGES_HIT);
    const size_t bytes = (size_t)record.tokens * sizeof(int32_t);
    assert_true(record.tokens > 8 && bytes <= sizeof(token));
    memcpy(token, record.token, bytes);
    cn_pages_end(txn);

    const cn_cache_drop_opts opts = {.repo = root};
    assert_err(cn_cache_drop_pages(h, &opts, &d, &t_diag), CN_EBUSY);
    assert_non_null(strstr(t_diag.text, cn_session_row(s)->id));
    cn_session_close(s);
    cn_session_close(o);
    assert_int_equal(count_in_file(folder, token, bytes), 1);
    assert_err(cn_cache_drop_pages(h, &opts, &d, &t_diag), CN_OK);
    assert_int_equal(d.own.documents, 1);
    assert_int_equal(d.own.windows, 1); // and its conversation
    assert_int_equal(d.nobodys.keys, 1);
    assert_true(d.shared.documents > 2);
    assert_int_equal(d.erased.held_bytes, 0);
    assert_int_equal(count_in_file(folder, token, bytes), 0);
    o = k_open_session(h, other, true);
    assert_int_equal(ask(h, o).bill.prefilled_tokens, 0); // the other has lost nothing
    cn_session_close(o);

    assert_err(
        cn_cache_drop_pages(h, &(cn_cache_drop_opts){.repo = root, .is_forced = true}, &d, &t_diag),
        CN_OK);
    assert_true(d.own.documents > 2 && d.shared.keys == 0);
    assert_err(cn_cache_drop_pages(h, &(cn_cache_drop_opts){.repo = "/none"}, &d, &t_diag),
               CN_ENOTFOUND);
    assert_err(cn_cache_drop_pages(h, &(cn_cache_drop_opts){0}, &d, &t_diag), CN_OK);
    cn_pages_stats stats;
    assert_err(cn_pages_stat(h->pages, &stats, &t_diag), CN_OK);
    assert_int_equal(stats.keys, 0);
    assert_mode(folder, "cache", 0700);
    assert_mode(folder, "cache/data.mdb", 0600);
    assert_mode(folder, "cache/lock.mdb", 0600);
    assert_mode(folder, "salt", 0600);
    cn_host_close(h);
}

/* ---- Verifying -------------------------------------------------------------------------- */

/* Wrong bits under a right checksum: only a prefill can tell. */
static void test_wrong_bits_are_found(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    k_asked     first, second;
    prepare(repo, folder, &first, &second);
    cn_host          *h = open_host(folder);
    cn_session       *s = k_open_session(h, repo, true);
    cn_cache_verified v;
    assert_err(cn_context_update(cn_session_context(s), &t_diag), CN_OK);
    const int64_t docs = cn_context_docs(cn_session_context(s));
    assert_err(cn_cache_verify(h, 2, &v, &t_diag), CN_OK);
    assert_int_equal(v.documents, 2);
    assert_err(cn_cache_verify(h, 1000, &v, &t_diag), CN_OK);
    assert_int_equal(v.documents, docs);
    assert_true(v.wrong == 0 && v.foreign == 0 && v.values.corrupt == 0);

    // A document is stored anew with one bit changed.
    const cn_hash  key = cn_context_doc_at(cn_session_context(s), 1)->piece.key;
    const size_t   page_bytes = (size_t)cn_engine_page_bytes(h->engine);
    cn_pages_txn  *txn;
    cn_pages_doc   record;
    cn_pages_page  page;
    static int32_t token[2 * CN_DOCUMENT_TOKENS_MAX];
    assert_err(cn_pages_begin(&txn, h->pages, &t_diag), CN_OK);
    assert_int_equal(cn_pages_get_doc(txn, &key, &record), CN_PAGES_HIT);
    assert_int_equal(cn_pages_get(txn, &key, 0, &page), CN_PAGES_HIT);
    uint8_t *body = t_alloc(page_bytes);
    memcpy(body, page.body, page_bytes);
    body[page_bytes / 2] ^= 1;
    memcpy(token, record.token, (size_t)record.tokens * sizeof(*token));
    const cn_pages_doc  copy = {.token = token, .tokens = record.tokens};
    const cn_pages_item item[] = {
        {.kind = CN_PAGES_DOC, .key = &key, .doc = &copy},
        {.kind = CN_PAGES_PAGE, .key = &key, .data = body, .tokens = page.tokens}};
    cn_pages_end(txn);
    cn_session_close(s);
    assert_err(cn_pages_delete(h->pages, &key, 1, &t_diag), CN_OK);
    assert_err(cn_pages_write(h->pages, item, 2, 5, NULL, &t_diag), CN_OK);
    t_free(body);
    assert_err(cn_cache_verify(h, 1000, &v, &t_diag), CN_OK);
    assert_int_equal(v.wrong, 1);
    assert_int_equal(v.values.corrupt, 0);
    assert_err(cn_cache_verify(h, 1000, &v, &t_diag), CN_OK);
    assert_int_equal(v.wrong, 0);
    assert_int_equal(v.documents, docs - 1);
    s = k_open_session(h, repo, true);
    ask_again(h, s, &second, "after quarantine");
    cn_session_close(s);
    cn_host_close(h);

    // Documents of another model are not compared.
    h = k_open_host(k_refs_model(), folder, 1);
    assert_err(cn_cache_verify(h, 1000, &v, &t_diag), CN_OK);
    assert_int_equal(v.documents, 0);
    assert_int_equal(v.foreign, docs);
    cn_host_close(h);
}

/* ---- Damage ----------------------------------------------------------------------------- */

static uint8_t *read_pages(const char *path, size_t *bytes) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *bytes = (size_t)ftell(f);
    uint8_t *data = malloc(*bytes);
    rewind(f);
    assert_int_equal(fread(data, 1, *bytes, f), *bytes);
    fclose(f);
    return data;
}

static void write_pages(const char *path, const uint8_t *data, size_t bytes) {
    const int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, bytes), bytes);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    close(fd);
}

/* One bit of the page file changed between turns: a miss or no change, never another answer. */
static void test_no_flipped_bit_changes_an_answer(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    const int   rounds = t_is_sanitized() ? 60 : 240;
    char        path[300];
    size_t      bytes;
    k_asked     first, second;
    int         corrupt = 0, replayed = 0, rebuilt = 0;
    prepare(repo, folder, &first, &second);
    snprintf(path, sizeof(path), "%s/cache/data.mdb", folder);
    uint8_t *data = read_pages(path, &bytes);
    size_t   tree[64];
    int64_t  trees = 0;
    for (size_t page = 0; page < bytes && trees < 64; page += 4096) {
        uint64_t  number;
        const int flags = data[page + 10];
        memcpy(&number, data + page, sizeof(number));
        if (number == page / 4096 && (flags == 1 || flags == 2 || flags == 8)) tree[trees++] = page;
    }
    assert_true(trees > 4);
    for (int round = 0; round < rounds; round++) {
        t_seed((uint64_t)round);
        // Every third in one of LMDB's own pages; of those that are free nobody takes notice.
        const size_t at = round % 3
                              ? (size_t)t_rand_range(0, (int64_t)bytes - 1)
                              : tree[t_rand_range(0, trees - 1)] + (size_t)t_rand_range(0, 99);
        t_note("round %d: byte %zu of %zu", round, at, bytes);
        data[at] ^= (uint8_t)(1 << round % 8);
        write_pages(path, data, bytes);
        data[at] ^= (uint8_t)(1 << round % 8);
        cn_host       *h = open_host(folder);
        cn_session    *s = k_open_session(h, repo, true);
        const k_asked  got = ask_again(h, s, &second, "a flipped bit");
        const cn_bill *b = &got.bill;
        const int64_t  whole = b->misses[CN_MISS_CORRUPT].tokens + b->misses[CN_MISS_FORMAT].tokens;
        assert_int_equal(b->prefilled_tokens, whole + b->misses[CN_MISS_EVICTED].tokens);
        assert_int_equal(b->context_tokens, first.bill.context_tokens);
        cn_pages_stats stats;
        assert_err(cn_pages_stat(h->pages, &stats, &t_diag), CN_OK);
        if (h->cache_was_rebuilt) {
            assert_int_equal(whole, b->context_tokens); // a version's bit makes it another format
        } else if (b->prefilled_tokens) {
            // What fails its check is `corrupt`; a key that changed in the tree is just not there.
            assert_int_equal(b->misses[CN_MISS_CORRUPT].count > 0, stats.corrupt > 0);
        }
        corrupt += b->misses[CN_MISS_CORRUPT].count > 0;
        replayed += b->prompt_tokens > second.bill.prompt_tokens;
        rebuilt += h->cache_was_rebuilt;
        assert_int_equal(ask_again(h, s, &second, "once more").bill.prefilled_tokens, 0);
        close_all(h, s);
    }
    free(data);
    print_message("  %d bits flipped: %d corrupt misses, %d of them of the whole cache, "
                  "%d conversations replayed\n",
                  rounds, corrupt, rebuilt, replayed);
    assert_true(corrupt > rounds / 2 && rebuilt > 0 && replayed > 0);
}

/* A corrupt page is the reason of its miss, even if the view is looked at twice. */
static void test_a_corrupt_page_stays_corrupt(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    char        path[300];
    size_t      bytes;
    k_asked     first, second;
    prepare(repo, folder, &first, &second);
    snprintf(path, sizeof(path), "%s/cache/data.mdb", folder);
    uint8_t *data = read_pages(path, &bytes);
    for (size_t at = 16; at + 96 < bytes; at += 4096) // the body of every value
        if (memcmp(data + at, "CnV1", 4) == 0) data[at + 80] ^= 4;
    write_pages(path, data, bytes);
    free(data);
    cn_host    *h = open_host(folder);
    cn_session *s = k_open_session(h, repo, true);
    assert_err(cn_context_update(cn_session_context(s), &t_diag), CN_OK);
    const k_asked got = ask_again(h, s, &second, "all pages corrupt");
    assert_int_equal(got.bill.misses[CN_MISS_CORRUPT].tokens, got.bill.context_tokens);
    assert_int_equal(got.bill.prefilled_tokens, got.bill.context_tokens);
    close_all(h, s);
}

/* Another format: built anew, and said to be that. */
static void test_another_version_is_built_anew(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    char        path[300];
    size_t      bytes;
    k_asked     first, second;
    prepare(repo, folder, &first, &second);
    snprintf(path, sizeof(path), "%s/cache/data.mdb", folder);
    uint8_t *data = read_pages(path, &bytes);
    int      roots = 0;
    for (size_t at = 0; at + 8 < bytes; at++)
        if (memcmp(data + at, "CnPg\1\0\0\0", 8) == 0) data[at + 4] = 99, roots++;
    assert_true(roots > 0);
    write_pages(path, data, bytes);
    free(data);
    cn_host    *h = open_host(folder);
    cn_session *s = k_open_session(h, repo, true);
    assert_true(h->cache_was_rebuilt);
    const k_asked got = ask_again(h, s, &second, "another version");
    assert_int_equal(got.bill.misses[CN_MISS_FORMAT].tokens, got.bill.context_tokens);
    close_all(h, s);
}

/* ---- Full ------------------------------------------------------------------------------- */

/* A repository whose view is larger than the smallest cache. */
static const char *large_repo(void) {
    const char *repo = k_new_repo();
    t_shell("cp %s/base/*.[ch] %s/base && cd %s && git add -A && git commit -qm two",
            t_source_dir(), repo, repo);
    return repo;
}

static void test_a_view_larger_than_the_budget_is_served(void **state) {
    (void)state;
    const char *repo = large_repo(), *folder = k_new_state();
    k_asked     first, second;
    prepare(repo, k_new_state(), &first, &second);
    cn_host    *h = open_small(folder);
    cn_session *s = k_open_session(h, repo, false);
    k_asked     got = ask(h, s);
    k_assert_same(&first, &got, "a small cache");
    assert_non_null(cn_context_store_failure(cn_session_context(s))); // said
    got = ask(h, s);
    k_assert_same(&second, &got, "a small cache, from memory");
    assert_int_equal(got.bill.prefilled_tokens, 0);
    cn_pages_stats stats;
    assert_err(cn_pages_stat(h->pages, &stats, &t_diag), CN_OK);
    assert_true(stats.file_bytes <= CN_PAGES_MAP_BYTES_MIN && stats.docs > 0);
    assert_true(stats.used_bytes <= stats.budget_bytes);
    assert_err(cn_session_rewind(s, 1, &t_diag), CN_OK);
    close_all(h, s);
    h = open_small(folder);
    s = k_open_session(h, repo, true);
    got = ask_again(h, s, &second, "a small cache, opened again");
    assert_true(got.bill.prefilled_tokens > 0 && got.bill.cached_tokens > 0);
    close_all(h, s);
}

/* Pages that vanish each time they were written: the turn ends all the same. */
typedef struct vanishing {
    cn_host    *h;
    cn_session *s;
    int64_t     prefilled;
} vanishing;

static void delete_all(void *ctx, int64_t done, int64_t total) {
    vanishing  *v = ctx;
    cn_context *c = cn_session_context(v->s);
    v->prefilled = total;
    (void)done;
    for (int64_t i = 0; i < cn_context_docs(c); i++)
        assert_err(cn_pages_delete(v->h->pages, &cn_context_doc_at(c, i)->piece.key, 1, &t_diag),
                   CN_OK);
}

static void test_pages_that_vanish_are_no_loop(void **state) {
    (void)state;
    static const char question[] = "where is cn_buf_put?";
    const char       *repo = large_repo();
    k_asked           first, second, got = {.all = 0};
    prepare(repo, k_new_state(), &first, &second);
    cn_host    *h = open_host(k_new_state());
    cn_session *s = k_open_session(h, repo, false);
    vanishing   v = {.h = h, .s = s};
    cn_turn    *t;
    assert_err(cn_turn_begin(&t, s,
                             &(cn_turn_opts){.question = question,
                                             .question_bytes = sizeof(question) - 1,
                                             .output_tokens_max = K_OUTPUT,
                                             .on_prefill = delete_all,
                                             .ctx = &v},
                             &t_diag),
               CN_OK);
    assert_true(cn_context_docs(cn_session_context(s)) > CN_CONTEXT_WRITE_DOCS);
    while (k_step(h, t, NULL, &got)) {
    }
    k_end(t, &got);
    cn_turn_free(t);
    k_assert_same(&first, &got, "pages that vanish");
    assert_true(v.prefilled > first.bill.context_tokens); // some more than once, and billed
    assert_true(v.prefilled <= (CN_CONTEXT_GONE_MAX + 2) * first.bill.context_tokens);
    assert_non_null(cn_context_store_failure(cn_session_context(s)));
    close_all(h, s);
}

/* ---- Disks ------------------------------------------------------------------------------ */

enum { SKIPPED = 77 };

/* In a child: what is mounted is there for it alone. */
static bool mount_at(const char *folder, const char *sub, const char *options) {
    char path[300];
    snprintf(path, sizeof(path), "%s/%s", folder, sub);
    t_shell("mkdir -p %s", path);
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", path, "tmpfs", 0, options) == 0;
}

/* The cache's disk is full: turns are served from memory, and the session goes on. */
static int full_disk(const char *repo, const char *folder, const k_asked *first,
                     const k_asked *second) {
    if (!mount_at(folder, "cache", "size=1m,mode=700")) return SKIPPED;
    for (int i = 0; i < 2; i++) {
        cn_host    *h = open_host(folder);
        cn_session *s = k_open_session(h, repo, i > 0);
        k_asked     got;
        if (i == 0) {
            got = ask(h, s);
            k_assert_same(first, &got, "a full disk");
            if (!cn_context_store_failure(cn_session_context(s))) return 1;
        }
        got = ask_again(h, s, second, "a full disk");
        close_all(h, s);
    }
    return 0;
}

/* The whole state folder may only be read: refused, and told which file. */
static int read_only(const char *repo, const char *folder, const k_asked *first,
                     const k_asked *second) {
    cn_host *h = (cn_host *)&h;
    char     options[] = "mode=700";
    (void)second;
    if (!mount_at(folder, ".", options)) return SKIPPED;
    h = open_host(folder);
    cn_session   *s = k_open_session(h, repo, false);
    const k_asked got = ask(h, s);
    k_assert_same(first, &got, "a disk in memory");
    close_all(h, s);
    if (mount("none", folder, "tmpfs", MS_REMOUNT | MS_RDONLY, options)) return 1;
    cn_diag      diag = {0};
    const cn_err err = cn_host_open(
        &h, &(cn_host_opts){.model_folder = k_plain_model(), .state_folder = folder}, &diag);
    fprintf(stderr, "  read-only: %s: %s\n", cn_err_name(err), diag.text);
    return err == CN_EIO && !h && strstr(diag.text, folder) ? 0 : 2;
}

/* No address space for a large map: refused with the reason; a small one is served. */
static int no_room_for_the_map(const char *repo, const char *folder, const k_asked *first,
                               const k_asked *second) {
    (void)second;
    const struct rlimit room = {INT64_C(8) << 30, INT64_C(8) << 30};
    if (t_is_sanitized() || setrlimit(RLIMIT_AS, &room)) return SKIPPED;
    cn_host     *h = (cn_host *)&h;
    cn_diag      diag = {0};
    const cn_err err = cn_host_open(&h,
                                    &(cn_host_opts){.model_folder = k_plain_model(),
                                                    .state_folder = folder,
                                                    .cache_bytes = INT64_C(1) << 40},
                                    &diag);
    if (err != CN_ENOMEM || h || !strstr(diag.text, "1099511627776 bytes")) {
        fprintf(stderr, "  %s: %s\n", cn_err_name(err), diag.text);
        return 1;
    }
    h = open_small(folder);
    cn_session   *s = k_open_session(h, repo, false);
    const k_asked got = ask(h, s);
    k_assert_same(first, &got, "a small map");
    close_all(h, s);
    return 0;
}

/* A larger map is wanted while another process has the small one open: that one serves both. */
static int map_in_use(const char *repo, const char *folder, const k_asked *first,
                      const k_asked *second) {
    int  ready[2];
    char byte;
    (void)second;
    if (pipe(ready)) return 1;
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(60); // should nobody end it
        open_small(folder);
        if (write(ready[1], "r", 1) != 1) _exit(1);
        for (;;) pause();
    }
    if (read(ready[0], &byte, 1) != 1) return 1;
    cn_host       *h = open_host(folder);
    cn_session    *s = k_open_session(h, repo, false);
    const k_asked  got = ask(h, s);
    cn_pages_stats stats;
    k_assert_same(first, &got, "a map that cannot grow");
    assert_err(cn_pages_stat(h->pages, &stats, &t_diag), CN_OK);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close_all(h, s);
    return stats.budget_bytes < CN_PAGES_MAP_BYTES_MIN ? 0 : 2;
}

static void test_disks_and_maps_that_fail(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int (*run)(const char *repo, const char *folder, const k_asked *first,
                   const k_asked *second);
    } cases[] = {{"full disk", full_disk},
                 {"read-only state", read_only},
                 {"no room for the map", no_room_for_the_map},
                 {"map in use", map_in_use}};
    const char *repo = large_repo();
    k_asked     first, second;
    prepare(repo, k_new_state(), &first, &second);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *folder = k_new_state();
        int         status;
        t_note("%s", cases[i].name);
        fflush(NULL);
        const pid_t pid = fork();
        if (pid == 0) _exit(cases[i].run(repo, folder, &first, &second));
        waitpid(pid, &status, 0);
        if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) {
            print_message("%s: skipped, not possible here\n", cases[i].name);
            continue;
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status))
            t_fail(__FILE__, __LINE__, "%s: status %x", cases[i].name, (unsigned)status);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_goes_and_why),
        cmocka_unit_test(test_gc_takes_nothing_that_is_open_elsewhere),
        cmocka_unit_test(test_a_crash_in_upkeep_leaves_a_good_cache),
        cmocka_unit_test(test_a_repository_is_dropped),
        cmocka_unit_test(test_wrong_bits_are_found),
        cmocka_unit_test(test_no_flipped_bit_changes_an_answer),
        cmocka_unit_test(test_a_corrupt_page_stays_corrupt),
        cmocka_unit_test(test_another_version_is_built_anew),
        cmocka_unit_test(test_a_view_larger_than_the_budget_is_served),
        cmocka_unit_test(test_pages_that_vanish_are_no_loop),
        cmocka_unit_test(test_disks_and_maps_that_fail),
    };
    k_isa = t_isa();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

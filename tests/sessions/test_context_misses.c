/*
 * test_context_misses.c - Every reason for which a document can be missing, brought about, and the
 * first difference of a file that changed.
 */
#include "tests/sessions/session_kit.h"

enum { MISSES_MAX = 512 };

static cn_host *open_host(const char *state) {
    return k_open_host(k_plain_model(), state, 2);
}

/* A turn, and what it said of missing documents: with the bill they are of one mind. */
typedef struct missed {
    cn_bill         bill;
    cn_context_miss miss[MISSES_MAX];
    int64_t         misses;
} missed;

static missed *ask(cn_session *s) {
    static missed m;
    for (int64_t i = 0; i < m.misses; i++) {
        free(m.miss[i].path);
        free(m.miss[i].from);
    }
    cn_turn *t = k_begin(s, "what is there now?", 4);
    assert_err(cn_turn_run(t, NULL, &t_diag), CN_OK);
    m.bill = *cn_turn_bill(t);
    const cn_context_miss *miss = cn_turn_missed(t, &m.misses);
    assert_true(m.misses <= MISSES_MAX);
    int64_t count[CN_MISS_COUNT] = {0}, tokens[CN_MISS_COUNT] = {0};
    for (int64_t i = 0; i < m.misses; i++) {
        m.miss[i] = miss[i];
        m.miss[i].path = strdup(miss[i].path);
        m.miss[i].from = miss[i].from ? strdup(miss[i].from) : NULL;
        count[miss[i].why]++;
        tokens[miss[i].why] += miss[i].tokens;
    }
    for (int i = 0; i < CN_MISS_COUNT; i++) {
        assert_int_equal(m.bill.misses[i].count, count[i]);
        assert_int_equal(m.bill.misses[i].tokens, tokens[i]);
    }
    cn_turn_free(t);
    return &m;
}

/* All that this turn prefilled, and at least one document, was missing for this reason. */
static missed *ask_all(cn_session *s, cn_miss why) {
    missed *m = ask(s);
    t_note("%s", cn_miss_name(why));
    assert_true(m->misses > 0);
    for (int64_t i = 0; i < m->misses; i++) assert_int_equal(m->miss[i].why, why);
    assert_int_equal(m->bill.misses[why].tokens, m->bill.prefilled_tokens);
    return m;
}

static void ask_none(cn_session *s) {
    assert_int_equal(ask(s)->misses, 0);
}

static void close_all(cn_host *h, cn_session *s) {
    cn_session_close(s);
    cn_host_close(h);
}

/* ---- Reasons -------------------------------------------------------------------------- */

static void test_new_and_evicted(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    cn_host    *h = open_host(folder);
    cn_session *s = k_open_session(h, repo, false);
    missed     *m = ask_all(s, CN_MISS_NEW);
    assert_int_equal(m->bill.cached_tokens, 0);
    ask_none(s);
    int64_t freed;
    close_all(NULL, s);
    assert_err(cn_pages_evict(h->pages, INT64_C(1) << 40, &freed, &t_diag), CN_OK);
    // Of a view that held them, and of one that never did: they were stored once.
    s = k_open_session(h, repo, true);
    ask_all(s, CN_MISS_EVICTED);
    close_all(NULL, s);
    assert_err(cn_pages_evict(h->pages, INT64_C(1) << 40, &freed, &t_diag), CN_OK);
    s = k_open_session(h, repo, false);
    ask_all(s, CN_MISS_EVICTED);
    close_all(h, s);
    t_shell("rm -rf %s/cache", folder);
    h = open_host(folder);
    s = k_open_session(h, repo, true);
    ask_all(s, CN_MISS_EVICTED);
    close_all(h, s);
}

/* A turn that ends in the middle of its prefill: what it left unwritten never reached the disk. */
static void test_unstored(void **state) {
    (void)state;
    const char   *repo = k_new_repo(), *folder = k_new_state();
    cn_host      *h = open_host(folder);
    cn_session   *s = k_open_session(h, repo, false);
    cn_turn      *t = k_begin(s, "one?", 4);
    atomic_bool   cancel = true;
    char          id[64];
    const int64_t tokens = cn_context_get_plan(cn_session_context(s))->missing_tokens;
    assert_err(cn_turn_run(t, &cancel, &t_diag), CN_OK);
    assert_int_equal(cn_turn_stop(t), CN_STOP_CANCEL);
    cn_turn_free(t);
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    close_all(h, s);
    h = open_host(folder);
    s = k_open_session(h, repo, false); // a view that never held them
    assert_err(cn_context_update(cn_session_context(s), &t_diag), CN_OK);
    const cn_context_plan *plan = cn_context_get_plan(cn_session_context(s));
    assert_int_equal(plan->misses[CN_MISS_NEW].tokens, tokens);
    cn_session_close(s);
    s = k_open(h, &(cn_session_opts){.id = id});
    ask_all(s, CN_MISS_UNSTORED);
    ask_none(s);
    close_all(h, s);
}

/* A store that has no room: served from memory, and missing again in the next process. */
static void test_a_full_store(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    char       *lines = k_lines("note", 60000), path[300];
    cn_host    *h;
    snprintf(path, sizeof(path), "%s/notes.txt", repo);
    FILE *f = fopen(path, "w");
    assert_true(f && fputs(lines, f) >= 0 && fclose(f) == 0);
    free(lines);
    for (int round = 0; round < 2; round++) {
        assert_err(cn_host_open(&h,
                                &(cn_host_opts){.model_folder = k_plain_model(),
                                                .state_folder = folder,
                                                .threads = 2,
                                                .cache_bytes = CN_PAGES_MAP_BYTES_MIN},
                                &t_diag),
                   CN_OK);
        cn_session *s = k_open(h, &(cn_session_opts){.folder = repo,
                                                     .is_continued = round > 0,
                                                     .budget = round ? 0 : 1 << 18});
        missed     *m = ask(s);
        assert_non_null(cn_context_store_failure(cn_session_context(s)));
        if (round) assert_true(m->bill.misses[CN_MISS_UNSTORED].count > 0);
        if (round) assert_int_equal(m->bill.misses[CN_MISS_EVICTED].count, 0);
        ask_none(s);
        close_all(h, s);
    }
}

/* Flip a bit in every page that lies in the cache. */
static void damage(const char *state) {
    char path[300];
    snprintf(path, sizeof(path), "%s/cache/data.mdb", state);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    uint8_t head[4096];
    int64_t pages = 0;
    // Values stand 16 bytes into a page of LMDB: "CnV1", then the slot, of which the top is 1.
    for (long at = 0; fseek(f, at, SEEK_SET) == 0 && fread(head, 1, sizeof(head), f) > 128;
         at += 4096) {
        if (memcmp(head + 16, "CnV1", 4) || head[16 + 7] != 0x10) continue;
        const uint8_t flipped = (uint8_t)(head[16 + 48 + 5] ^ 4);
        assert_int_equal(fseek(f, at + 16 + 48 + 5, SEEK_SET), 0);
        assert_int_equal(fwrite(&flipped, 1, 1, f), 1);
        pages++;
    }
    assert_int_equal(fclose(f), 0);
    assert_true(pages > 10);
}

static void test_corrupt(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    cn_host    *h = open_host(folder);
    cn_session *s = k_open_session(h, repo, false);
    ask(s);
    close_all(h, s);
    damage(folder);
    h = open_host(folder);
    s = k_open_session(h, repo, true);
    // Looked at twice: the store says it once.
    for (int i = 0; i < 2; i++) {
        assert_err(cn_context_update(cn_session_context(s), &t_diag), CN_OK);
        const cn_context_plan *plan = cn_context_get_plan(cn_session_context(s));
        assert_true(plan->missing_tokens > 0);
        assert_int_equal(plan->misses[CN_MISS_CORRUPT].tokens, plan->missing_tokens);
    }
    ask_all(s, CN_MISS_CORRUPT);
    ask_none(s);
    int64_t freed;
    close_all(NULL, s);
    assert_err(cn_pages_evict(h->pages, INT64_C(1) << 40, &freed, &t_diag), CN_OK);
    s = k_open_session(h, repo, true);
    ask_all(s, CN_MISS_EVICTED); // it was whole again
    close_all(h, s);
}

/* The same bytes for other weights, and for another path of instructions. */
static void test_model_and_format(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    char        other[300];
    snprintf(other, sizeof(other), "%s/tiny-a-other", t_tmp_dir());
    t_vary_model(other, "tests/golden/tiny-a", "s/\"index_topk\": 24/\"index_topk\": 23/");
    const char *before = k_isa;
    cn_ops      ops[CN_ISA_COUNT];
    const int   n = t_variants(ops);
    k_isa = cn_isa_name(ops[n - 1].isa);
    cn_host    *h = k_open_host(k_plain_model(), folder, 2);
    cn_session *s = k_open_session(h, repo, false);
    ask_all(s, CN_MISS_NEW);
    close_all(h, s);

    h = k_open_host(other, folder, 2);
    s = k_open_session(h, repo, false); // a new one: known by its bytes
    ask_all(s, CN_MISS_MODEL);
    ask_none(s);
    // What comes now is of no other model.
    t_shell("cd %s && echo 'int n;' >n.c", repo);
    ask_all(s, CN_MISS_NEW);
    t_shell("cd %s && echo 'int m;' >n.c", repo);
    ask_all(s, CN_MISS_CHANGED);
    close_all(h, s);

    // n.c was stored for the other weights alone, all else also for these, on another path.
    k_isa = cn_isa_name(ops[n - 2].isa);
    h = k_open_host(k_plain_model(), folder, 2);
    s = k_open_session(h, repo, false);
    missed *m = ask(s);
    assert_int_equal(m->bill.cached_tokens, 0);
    for (int64_t i = 0; i < m->misses; i++)
        assert_int_equal(m->miss[i].why,
                         strcmp(m->miss[i].path, "n.c") ? CN_MISS_FORMAT : CN_MISS_MODEL);
    close_all(h, s);

    // On the path of before all is still there, but for n.c, stored since on the other one.
    k_isa = cn_isa_name(ops[n - 1].isa);
    h = k_open_host(k_plain_model(), folder, 2);
    s = k_open_session(h, repo, false);
    m = ask_all(s, CN_MISS_FORMAT);
    assert_int_equal(m->misses, 1);
    close_all(h, s);
    k_isa = before;
}

/* Another tenant's pages are no reason. */
static void test_tenants_do_not_show(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    for (int i = 0; i < 2; i++) {
        cn_host *h;
        assert_err(cn_host_open(&h,
                                &(cn_host_opts){.model_folder = k_plain_model(),
                                                .state_folder = folder,
                                                .tenant = i ? "two" : "one",
                                                .threads = 2,
                                                .cache_bytes = 256 << 20},
                                &t_diag),
                   CN_OK);
        cn_session *s = k_open_session(h, repo, false);
        ask_all(s, CN_MISS_NEW);
        close_all(h, s);
    }
}

/* ---- The first difference --------------------------------------------------------------- */

/* The document in which line `line` of a file is. */
static const cn_context_miss *find(const missed *m, const char *path, int64_t line) {
    for (int64_t i = 0; i < m->misses; i++)
        if (strcmp(m->miss[i].path, path) == 0 && m->miss[i].first_line <= line &&
            line < m->miss[i].first_line + m->miss[i].lines)
            return &m->miss[i];
    t_fail(__FILE__, __LINE__, "no missing document of %s at line %lld", path, (long long)line);
}

/* The text of token `token`, from 1, of the document that has this line. */
static void assert_token(cn_host *h, cn_session *s, const cn_context_miss *m, const char *want) {
    cn_context *c = cn_session_context(s);
    for (int64_t i = 0; i < cn_context_docs(c); i++) {
        const cn_context_doc *d = cn_context_doc_at(c, i);
        if (strcmp(d->path, m->path) || d->piece.first_line > m->line ||
            m->line >= d->piece.first_line + d->piece.lines)
            continue;
        cn_pages_txn *txn;
        cn_pages_doc  doc;
        size_t        bytes;
        assert_err(cn_pages_begin(&txn, h->pages, &t_diag), CN_OK);
        assert_int_equal(cn_pages_get_doc(txn, &d->piece.key, &doc), CN_PAGES_HIT);
        const char *text = cn_tokenizer_bytes(h->tokenizer, doc.token[m->token - 1], &bytes);
        const bool  is_it = bytes && strncmp(want, text, bytes) == 0;
        if (!is_it)
            t_fail(__FILE__, __LINE__, "token %d is \"%.*s\", not of \"%s\"", m->token, (int)bytes,
                   text, want);
        cn_pages_end(txn);
        return;
    }
    t_fail(__FILE__, __LINE__, "no document of %s at line %lld", m->path, (long long)m->line);
}

static void test_the_first_difference(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    char       *lines = k_lines("note", 30000), path[300];
    snprintf(path, sizeof(path), "%s/notes.txt", repo);
    FILE *f = fopen(path, "w");
    assert_true(f && fputs(lines, f) >= 0 && fclose(f) == 0);
    free(lines);
    cn_host    *h = open_host(folder);
    cn_session *s = k_open(h, &(cn_session_opts){.folder = repo, .budget = 1 << 17});
    ask(s);

    // Inserted, in the middle of a long file.
    t_shell("cd %s && sed -i '200i@ is new' notes.txt", repo);
    missed *m = ask_all(s, CN_MISS_CHANGED);
    assert_in_range(m->misses, 1, 2);
    const cn_context_miss *at = find(m, "notes.txt", 200);
    assert_int_equal(at->line, 200);
    assert_token(h, s, at, "@ is new");

    // Two places far from each other: each document says its own.
    t_shell("cd %s && sed -i -e '20s/words/@ords/' -e '600d' notes.txt", repo);
    m = ask_all(s, CN_MISS_CHANGED);
    assert_int_equal(find(m, "notes.txt", 20)->line, 20);
    assert_token(h, s, find(m, "notes.txt", 20), "@ords");
    assert_int_equal(find(m, "notes.txt", 600)->line, 600);

    // At the end: longer, and shorter.
    t_shell("cd %s && printf '@ end\\n' >>notes.txt", repo);
    m = ask_all(s, CN_MISS_CHANGED);
    const int64_t last = m->miss[m->misses - 1].first_line + m->miss[m->misses - 1].lines - 1;
    assert_int_equal(m->miss[m->misses - 1].line, last);
    assert_token(h, s, &m->miss[m->misses - 1], "@ end");
    t_shell("cd %s && sed -i '$d' notes.txt && sed -i '$d' notes.txt", repo);
    m = ask_all(s, CN_MISS_CHANGED);
    assert_int_equal(m->miss[m->misses - 1].line, last - 1); // where the next line would be

    // A rename says what the file was.
    t_shell("cd %s && git add -A && git mv base/buf.c base/wrong.c", repo);
    m = ask_all(s, CN_MISS_NEW);
    for (int64_t i = 0; i < m->misses; i++) assert_string_equal(m->miss[i].from, "base/buf.c");

    // What it was has left the store: it is not known, and said so.
    close_all(h, s);
    t_shell("rm -rf %s/cache && cd %s && sed -i '100i@ is new' notes.txt", folder, repo);
    h = open_host(folder);
    s = k_open_session(h, repo, true);
    m = ask(s);
    at = find(m, "notes.txt", 100);
    assert_int_equal(at->why, CN_MISS_CHANGED);
    assert_true(at->line == 0 && at->token == 0);
    assert_true(m->bill.misses[CN_MISS_EVICTED].count > m->bill.misses[CN_MISS_CHANGED].count);
    close_all(h, s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_and_evicted),      cmocka_unit_test(test_unstored),
        cmocka_unit_test(test_a_full_store),         cmocka_unit_test(test_corrupt),
        cmocka_unit_test(test_model_and_format),     cmocka_unit_test(test_tenants_do_not_show),
        cmocka_unit_test(test_the_first_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

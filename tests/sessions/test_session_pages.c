/*
 * test_session_pages.c - The conversation's pages and windows in the store: which stay, what a fork
 * at any turn costs, and that a turn writes no more than itself.
 *
 * The reach of the tiny model, self_layers * (window - 1), is 62 tokens, a quarter of a page.
 */
#include "store/export.h"
#include "tests/sessions/session_kit.h"

#include <sqlite3.h>

enum { TURNS = 40, REPLAY_MAX = 62 + CN_PAGE_TOKENS };

static cn_host *open_host(const char *state) {
    return k_open_host(k_plain_model(), state, 1);
}

/* Turn `number` (from 1) of every conversation here. */
static k_asked ask(cn_host *h, cn_session *s, int number) {
    char question[128];
    snprintf(question, sizeof(question), "question %d: where is cn_buf_put now, and who calls it?",
             number);
    return k_ask(h, s, question, NULL);
}

static int64_t windows(cn_host *h) {
    cn_pages_stats stats;
    assert_err(cn_pages_stat(h->pages, &stats, &t_diag), CN_OK);
    return stats.windows;
}

/* An untouched session of TURNS turns, what each said and cost. */
typedef struct plain {
    cn_host    *h;
    cn_session *s;
    const char *repo;
    k_asked     turn[TURNS + 1];
} plain;

static plain *run_plain(void) {
    plain *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    p->repo = k_new_repo();
    p->h = open_host(k_new_state());
    p->s = k_open_session(p->h, p->repo, false);
    for (int i = 1; i <= TURNS; i++) p->turn[i] = ask(p->h, p->s, i);
    return p;
}

static void plain_free(plain *p) {
    cn_session_close(p->s);
    cn_host_close(p->h);
    free(p);
}

/* A fork at each turn: the logits of the session that was never forked.  Behind the last turns
 * nothing is replayed, elsewhere never more than the reach and a page. */
static void test_a_fork_at_any_turn(void **state) {
    (void)state;
    plain  *p = run_plain();
    int64_t replayed_most = 0, tokens = 0;
    for (int at = TURNS - 1; at >= 0; at -= at > TURNS - 20 ? 1 : 3) {
        cn_ledger_session *row;
        assert_err(
            cn_ledger_session_fork(p->h->ledger, cn_session_row(p->s)->id, at, NULL, &row, &t_diag),
            CN_OK);
        cn_session   *s = k_open(p->h, &(cn_session_opts){.id = row->id});
        const k_asked got = ask(p->h, s, at + 1);
        t_note("forked at %d", at);
        k_assert_same(&p->turn[at + 1], &got, "behind a fork");
        assert_int_equal(got.number, at + 1);
        assert_int_equal(got.bill.prefilled_tokens, 0);
        const int64_t replayed = got.bill.prompt_tokens - p->turn[at + 1].bill.prompt_tokens;
        if (at == 0 || at > TURNS - CN_SESSION_WINDOWS) assert_int_equal(replayed, 0);
        assert_true(replayed >= 0 && replayed <= REPLAY_MAX);
        if (replayed > replayed_most) {
            // Once replayed it is kept: a turn that is stopped there, another fork, pay no more.
            replayed_most = replayed;
            assert_err(cn_session_rewind(s, at, &t_diag), CN_OK);
            const k_asked again = ask(p->h, s, at + 1);
            k_assert_same(&p->turn[at + 1], &again, "the same fork again");
            assert_int_equal(again.bill.prompt_tokens, p->turn[at + 1].bill.prompt_tokens);
        }
        tokens = cn_session_tokens(s);
        cn_session_close(s);
        cn_ledger_session_free(row);
    }
    assert_true(replayed_most > 0);                                      // some windows did go
    assert_true(cn_session_tokens(p->s) > 6 * REPLAY_MAX && tokens > 0); // and it was worth it
    plain_free(p);
}

/* A turn that is stopped once its replay is over has not replayed in vain. */
static void test_a_stopped_replay_is_kept(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    cn_host    *h = open_host(folder);
    cn_session *s = k_open_session(h, repo, false);
    for (int i = 1; i <= 8; i++) ask(h, s, i);
    const k_asked want = ask(h, s, 9);
    assert_err(cn_session_rewind(s, 8, &t_diag), CN_OK);
    const int64_t tokens = cn_session_tokens(s);
    cn_session_close(s);
    cn_host_close(h);
    t_shell("rm -rf %s/cache", folder);
    h = open_host(folder);
    s = k_open_session(h, repo, true);
    cn_turn *t = k_begin(s, "question", 4);
    k_asked  a = {.all = 0};
    while (!cn_turn_logits(t)) assert_true(k_step(h, t, NULL, &a)); // the question is through
    assert_true(cn_turn_bill(t)->prompt_tokens > tokens);
    atomic_bool now = true;
    assert_err(cn_turn_run(t, &now, &t_diag), CN_OK);
    assert_int_equal(cn_turn_stop(t), CN_STOP_CANCEL);
    cn_turn_free(t);
    assert_int_equal(cn_session_tokens(s), tokens);
    const k_asked got = ask(h, s, 9);
    k_assert_same(&want, &got, "behind a stopped turn");
    assert_int_equal(got.bill.prompt_tokens, want.bill.prompt_tokens);
    cn_session_close(s);
    cn_host_close(h);
}

/* So many windows stay, and those where forks stand. */
static void test_windows_have_a_limit(void **state) {
    (void)state;
    const char        *repo = k_new_repo();
    cn_host           *h = open_host(k_new_state());
    cn_session        *s = k_open_session(h, repo, false);
    cn_ledger_session *fork[2];
    char               id[64];
    k_asked            third = {.all = 0};
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    for (int i = 1; i <= TURNS; i++) {
        const k_asked a = ask(h, s, i);
        if (i == 3) third = a;
        if (i == 2 || i == 5)
            assert_err(cn_ledger_session_fork(h->ledger, id, i, NULL, &fork[i == 5], &t_diag),
                       CN_OK);
        t_note("turn %d", i);
        assert_true(windows(h) <= 2 * CN_SESSION_WINDOWS + 2);
        if (i % 7 == 0) { // also over processes
            cn_session_close(s);
            s = k_open(h, &(cn_session_opts){.id = id});
        }
    }
    cn_session_close(s);
    for (int i = 0; i < 2; i++) { // where the forks stand nothing is replayed
        s = k_open(h, &(cn_session_opts){.id = fork[i]->id});
        const k_asked a = ask(h, s, 3);
        if (i == 0) k_assert_same(&third, &a, "at the fork");
        assert_int_equal(a.bill.prompt_tokens, third.bill.prompt_tokens);
        cn_session_close(s);
        cn_ledger_session_free(fork[i]);
    }
    // A session writes on from a fork far behind: its parent's windows are not its own to let go.
    const int64_t before = windows(h);
    s = k_open(h, &(cn_session_opts){.id = id});
    assert_err(cn_session_fork(s, TURNS, &t_diag), CN_OK);
    for (int i = 1; i <= CN_SESSION_WINDOWS; i++) ask(h, s, TURNS + i);
    assert_int_equal(windows(h), before + CN_SESSION_WINDOWS);
    cn_session_close(s);
    cn_host_close(h);
}

/* Back and back again in one process, forks in between: each next turn is that of the session which
 * was never touched. */
static void test_rewound_and_forked(void **state) {
    (void)state;
    static const int   walk[] = {30, 12, 1, 0};
    plain             *p = run_plain();
    cn_host           *h = open_host(k_new_state());
    cn_session        *s = k_open_session(h, p->repo, false);
    char               first[64], forked[64];
    cn_ledger_session *row;
    snprintf(first, sizeof(first), "%s", cn_session_row(s)->id);
    for (int i = 1; i <= TURNS - 5; i++) ask(h, s, i);
    for (int w = 0; w < 4; w++) {
        assert_err(cn_session_rewind(s, walk[w], &t_diag), CN_OK);
        const k_asked a = ask(h, s, walk[w] + 1);
        k_assert_same(&p->turn[walk[w] + 1], &a, "rewound");
    }
    // The turn numbers go on; the conversation is that of turn 1.  A fork goes on from there.
    cn_session_close(s);
    s = k_open(h, &(cn_session_opts){.id = first});
    assert_err(cn_session_fork(s, 2, &t_diag), CN_ENOTFOUND); // it was taken back
    assert_string_equal(cn_session_row(s)->id, first);
    assert_err(cn_session_fork(s, cn_session_row(s)->head, &t_diag), CN_OK);
    snprintf(forked, sizeof(forked), "%s", cn_session_row(s)->id);
    assert_string_not_equal(forked, first);
    assert_string_equal(cn_session_row(s)->parent, first);
    k_asked a = ask(h, s, 2);
    k_assert_same(&p->turn[2], &a, "forked while open");

    // The parent is free for another writer, and as it was.
    cn_session *other = k_open(h, &(cn_session_opts){.id = first});
    a = ask(h, other, 2);
    k_assert_same(&p->turn[2], &a, "the parent");
    cn_session_close(other);
    cn_session_close(s);
    assert_err(cn_ledger_session_find(h->ledger, forked, &row, &t_diag), CN_OK);
    assert_int_equal(row->turns, 1);
    cn_ledger_session_free(row);
    cn_host_close(h);
    plain_free(p);
}

static cn_err on_line(void *ctx, const char *line, size_t bytes, cn_diag *diag) {
    (void)diag;
    cn_buf_put(ctx, line, bytes);
    return CN_OK;
}

static cn_session *import(cn_host *h, const cn_buf *text) {
    cn_ledger_session *row;
    assert_err(
        cn_ledger_import(h->ledger,
                         &(cn_import){.text = text->data, .bytes = text->bytes, .name = "text"},
                         &row, &t_diag),
        CN_OK);
    cn_session *s = k_open(h, &(cn_session_opts){.id = row->id});
    cn_ledger_session_free(row);
    return s;
}

/* Out of the ledger and into one: where the pages are, they and the window are found by their keys;
 * elsewhere all is computed again.  The bits are those of the session that stayed. */
static void test_exported_and_imported(void **state) {
    (void)state;
    plain         *p = run_plain();
    cn_buf         text = {0};
    const k_asked *want = &p->turn[TURNS];
    char           id[64];
    snprintf(id, sizeof(id), "%s", cn_session_row(p->s)->id);
    assert_err(cn_session_rewind(p->s, TURNS - 1, &t_diag), CN_OK);
    assert_err(cn_ledger_export(p->h->ledger, id, on_line, &text, NULL, &t_diag), CN_OK);

    cn_session *s = import(p->h, &text);
    assert_string_not_equal(cn_session_row(s)->id, id);
    assert_int_equal(cn_session_tokens(s), cn_session_tokens(p->s));
    k_asked got = ask(p->h, s, TURNS);
    k_assert_same(want, &got, "imported beside it");
    assert_int_equal(got.bill.prefilled_tokens, 0);
    assert_int_equal(got.bill.prompt_tokens, want->bill.prompt_tokens);
    cn_session_close(s);

    cn_host *h = open_host(k_new_state());
    s = import(h, &text);
    const int64_t tokens = cn_session_tokens(s);
    got = ask(h, s, TURNS);
    k_assert_same(want, &got, "imported elsewhere");
    assert_int_equal(got.bill.prefilled_tokens, got.bill.context_tokens);
    assert_int_equal(got.bill.prompt_tokens, want->bill.prompt_tokens + tokens);
    cn_session_close(s);
    cn_host_close(h);
    cn_buf_release(&text);
    plain_free(p);
}

/* A reader beside the writer, in the middle of its turn. */
static void test_a_reader_needs_no_lock(void **state) {
    (void)state;
    cn_host    *h = open_host(k_new_state());
    cn_session *s = k_open_session(h, k_new_repo(), false), *reader, *second;
    char        id[64];
    const char *path = "base/buf.c";
    cn_turn    *t;
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    ask(h, s, 1);
    const int64_t tokens = cn_session_tokens(s);
    t = k_begin(s, "and now?", 4);
    reader = k_open(h, &(cn_session_opts){.id = id, .is_reader = true});
    assert_int_equal(cn_session_tokens(reader), tokens);
    assert_int_equal(cn_session_row(reader)->open_turn, 2);
    assert_null(cn_session_interrupted(reader));
    assert_err(cn_context_update(cn_session_context(reader), &t_diag), CN_OK);
    assert_true(cn_context_get_plan(cn_session_context(reader))->cached_tokens > 0);
    assert_err(cn_session_edit(reader, CN_EDIT_DROP, &path, 1, &t_diag), CN_EINVAL);
    assert_err(cn_session_rewind(reader, 0, &t_diag), CN_EINVAL);
    assert_err(cn_session_fork(reader, 1, &t_diag), CN_EINVAL);
    assert_non_null(strstr(t_diag.text, "reading only"));
    cn_turn *none = (cn_turn *)&none;
    assert_err(cn_turn_begin(&none, reader, &(cn_turn_opts){.question = "q", .question_bytes = 1},
                             &t_diag),
               CN_EINVAL);
    assert_null(none);
    cn_session_close(reader);
    assert_err(cn_session_open(&second, h, &(cn_session_opts){.id = id}, &t_diag), CN_EBUSY);
    char pid[32];
    snprintf(pid, sizeof(pid), "process %d", (int)getpid());
    assert_non_null(strstr(t_diag.text, pid));
    k_asked a = {.all = 0};
    while (k_step(h, t, NULL, &a)) {
    }
    k_end(t, &a);
    cn_turn_free(t);
    assert_int_equal(a.number, 2);
    cn_session_close(s);
    cn_host_close(h);
}

/* ---- Storage is O(n) ------------------------------------------------------------------- */

/* Bytes that this process has given to write calls so far, ledger and cache alike. */
static int64_t written(void) {
    char      line[128];
    long long bytes = -1;
    FILE     *f = fopen("/proc/self/io", "r");
    if (!f) return -1;
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "wchar: %lld", &bytes) == 1) break;
    fclose(f);
    return bytes;
}

/* Of the ledger's pages, the free ones not counted. */
static int64_t ledger_bytes(const char *state) {
    char          path[320];
    sqlite3      *db;
    sqlite3_stmt *q;
    snprintf(path, sizeof(path), "%s/ledger/ledger.db", state);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(db,
                           "SELECT (page_count - freelist_count) * page_size FROM"
                           " pragma_page_count, pragma_freelist_count, pragma_page_size",
                           -1, &q, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    const int64_t bytes = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return bytes;
}

/* Each turn adds to the store its own full pages, a tail and a window, and no turn of the second
 * half writes more than one of the first: nothing is written again because the conversation has
 * grown. */
static void test_a_turn_writes_what_it_is(void **state) {
    (void)state;
    enum { MANY = 200, WORDS = 400 };
    const int     turns = t_is_sanitized() ? 40 : MANY;
    const char   *folder = k_new_state();
    char          question[WORDS + 32];
    cn_host      *h = open_host(folder);
    cn_session   *s = k_open_session(h, k_new_repo(), false);
    int64_t       half[2] = {0}, grown[3] = {0}, tokens = 0;
    const int64_t page = cn_engine_page_bytes(h->engine) + 4096 + 64; // its place in the map
    if (written() < 0) {
        print_message("no /proc/self/io: skipped\n");
        skip();
    }
    k_says first = {.tokens = 0};
    k_say_answer(&first, h, "yes");
    k_ask(h, s, "what is here?", &first);
    for (int i = 0; i < turns; i++) {
        if (i % (turns / 2) == 0) grown[i / (turns / 2)] = ledger_bytes(folder);
        k_says says = {.tokens = 0};
        snprintf(question, sizeof(question), "question %03d: ", i);
        memset(question + strlen(question), 'a' + i % 26, WORDS);
        question[WORDS] = 0;
        k_say_answer(&says, h, "in the file of that name, where it was all the time");
        const int64_t before = written(), held = cn_session_tokens(s);
        const k_asked a = k_ask(h, s, question, &says);
        const int64_t bytes = written() - before;
        tokens = cn_session_tokens(s);
        t_note("turn %d of %lld tokens wrote %lld bytes, %lld of them pages", i,
               (long long)(tokens - held), (long long)bytes, (long long)a.bill.bytes_written);
        assert_int_equal(a.bill.prompt_tokens + a.bill.output_tokens, tokens - held);
        const int64_t own_pages =
            (tokens + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS - held / CN_PAGE_TOKENS;
        assert_true(a.bill.bytes_written <= (own_pages + 1) * page); // the window fits into one
        half[i >= turns / 2] += bytes;
    }
    grown[2] = ledger_bytes(folder);
    print_message("%d turns, %lld tokens: %lld bytes a turn in the first half, %lld in the second; "
                  "the ledger has %lld bytes more, then %lld\n",
                  turns, (long long)tokens, (long long)half[0] / (turns / 2),
                  (long long)half[1] / (turns / 2), (long long)(grown[1] - grown[0]),
                  (long long)(grown[2] - grown[1]));
    assert_true(half[1] < half[0] + half[0] / 8);
    assert_true(grown[2] - grown[1] < (grown[1] - grown[0]) * 9 / 8);
    cn_session_close(s);
    cn_host_close(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_fork_at_any_turn),
        cmocka_unit_test(test_a_stopped_replay_is_kept),
        cmocka_unit_test(test_windows_have_a_limit),
        cmocka_unit_test(test_rewound_and_forked),
        cmocka_unit_test(test_exported_and_imported),
        cmocka_unit_test(test_a_reader_needs_no_lock),
        cmocka_unit_test(test_a_turn_writes_what_it_is),
    };
    k_isa = t_isa();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

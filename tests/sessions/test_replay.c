/*
 * test_replay.c - A recorded session run again: the same bits at every token, whatever it has been
 * through; and what is not the same is found, and shown.
 */
#include "sessions/compact.h"
#include "sessions/replay.h"
#include "store/ledger_int.h"
#include "tests/sessions/session_kit.h"

enum { PART_BYTES = 4000, TURNS_MAX = 64 };

static const char *new_repo(void) {
    static k_paths made;
    const char    *path = k_new_path(&made, "small");
    char          *lines = k_lines("note", PART_BYTES), file[300];
    t_shell("mkdir -p %s && cd %s && git init -q . && git config user.name t && "
            "git config user.email t@example.invalid && cp %s/base/err.[ch] . && git add -A && "
            "git commit -qm one",
            path, path, t_source_dir());
    snprintf(file, sizeof(file), "%s/notes.lock", path);
    FILE *f = fopen(file, "w");
    assert_true(f && fputs(lines, f) >= 0 && fclose(f) == 0);
    free(lines);
    return path;
}

/* ---- Recording ----------------------------------------------------------------------- */

/* A hash of all logits that a turn's tokens were chosen from, by the number of the turn. */
static uint64_t logits_of[TURNS_MAX];

static k_asked say(cn_host *h, cn_session *s, const char *question, k_says *says) {
    const k_asked a = k_ask(h, s, question, says);
    logits_of[a.number] = a.all;
    return a;
}

/* Turn i from 0: a long question; a long result; lines that the view holds; two calls, one of them
 * of no tool; a plain one. */
static k_asked play(cn_host *h, cn_session *s, int i) {
    char  *lines = k_lines("question", PART_BYTES);
    k_says says = {.tokens = 0};
    if (i == 1)
        k_say_call(&says, h, "read_lines", "{\"path\":\"notes.lock\",\"start\":1,\"end\":1000}");
    if (i == 2) k_say_call(&says, h, "read_lines", "{\"path\":\"./err.h\",\"start\":3,\"end\":80}");
    if (i == 3) {
        k_say_call(&says, h, "search", "{\"query\":\"cn_fail(\"}");
        k_say_call(&says, h, "dance", "{}");
    }
    k_say_answer(&says, h, "so it is");
    const k_asked a = say(h, s, i == 0 ? lines : "and then?", &says);
    free(lines);
    return a;
}

/* ---- Replaying ----------------------------------------------------------------------- */

typedef struct again {
    cn_tokens      said;   // what the model says, by its place in the conversation
    uint64_t       logits; // of the turn that runs
    cn_replay_turn turn[TURNS_MAX];
    char           lost[TURNS_MAX][64]; // path of the first lost document
    int            turns;
    bool           skips_bits;
} again;

static int32_t choose(void *ctx, int64_t at, const float *logits, int32_t vocab) {
    again *g = ctx;
    g->logits = cn_xxh3(logits, (size_t)vocab * sizeof(float), g->logits);
    return at < g->said.count ? g->said.token[at] : 0;
}

static void on_turn(void *ctx, const cn_replay_turn *t) {
    again *g = ctx;
    t_note("turn %d: %s, %d sampled, %d given", t->turn, cn_replay_state_name(t->state),
           (int)t->sampled, (int)t->given);
    assert_true(g->turns < TURNS_MAX);
    g->turn[g->turns] = *t;
    if (t->lost) snprintf(g->lost[g->turns], sizeof(g->lost[0]), "%s", t->lost->lost[0].path);
    g->turns++;
    if (t->state == CN_REPLAY_SAME && t->stop == CN_STOP_END && !g->skips_bits)
        assert_true(g->logits == logits_of[t->turn]);
    g->logits = 0;
}

static cn_tokens tokens_of(cn_host *h, const char *session) {
    cn_tokens t = {0};
    assert_err(cn_ledger_tokens(h->ledger, session, 0, k_on_tokens, &t, &t_diag), CN_OK);
    return t;
}

/* The model says `said`; NULL: what the ledger has. */
static cn_replay_result run(cn_host *h, const char *session, const cn_tokens *said, bool goes_on,
                            again *g) {
    cn_replay_result r;
    *g = (again){.skips_bits = goes_on}; // behind a departure they are others
    g->said = said ? *said : tokens_of(h, session);
    assert_err(cn_replay(&(cn_replay_opts){.host = h,
                                           .session = session,
                                           .goes_on = goes_on,
                                           .on_turn = on_turn,
                                           .choose = choose,
                                           .ctx = g},
                         &r, &t_diag),
               CN_OK);
    if (!said) cn_tokens_release(&g->said);
    return r;
}

static void assert_identical(cn_host *h, const char *session, int turns) {
    static again     g;
    cn_replay_result r = run(h, session, NULL, false, &g);
    if (r.departed)
        t_fail(__FILE__, __LINE__, "turn %d, step %d, token %d: %d, replayed %d\n%s\n%s\n%s",
               r.first.turn, r.first.step, (int)r.first.token, r.first.recorded, r.first.replayed,
               cn_buf_str(&r.first.before), cn_buf_str(&r.first.recorded_text),
               cn_buf_str(&r.first.replayed_text));
    assert_true(cn_replay_is_identical(&r));
    assert_int_equal(r.turns, turns);
    assert_int_equal(g.turns, turns);
    cn_replay_release(&r);
}

enum { PLAIN = 5 };

static cn_session *record_plain(cn_host *h, const char *repo) {
    cn_session *s = k_open_session(h, repo, false);
    for (int i = 0; i < PLAIN; i++) play(h, s, i);
    return s;
}

/* ---- Tests --------------------------------------------------------------------------- */

static void test_it_is_identical(void **state) {
    (void)state;
    static again g;
    const char  *repo = new_repo(), *folder = k_new_state();
    char         id[80];
    cn_host     *h = k_open_host(k_refs_model(), folder, 2);
    cn_session  *s = record_plain(h, repo);
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    assert_identical(h, id, PLAIN); // beside its writer
    cn_session_close(s);
    cn_host_close(h);

    // In another process's host; every token was judged.
    h = k_open_host(k_refs_model(), folder, 1);
    cn_replay_result r = run(h, id, NULL, false, &g);
    int64_t          sampled = 0, given = 0;
    for (int i = 0; i < g.turns; i++) sampled += g.turn[i].sampled, given += g.turn[i].given;
    cn_tokens all = {0};
    assert_err(cn_ledger_tokens(h->ledger, id, 0, k_on_tokens, &all, &t_diag), CN_OK);
    assert_int_equal(sampled + given, all.count);
    assert_int_equal(r.compared, all.count);
    assert_true(sampled > 100 && given > 100);
    assert_int_equal(g.turn[0].prefilled_tokens, 0); // pages are in the store
    cn_tokens_release(&all);
    cn_replay_release(&r);
    cn_host_close(h);

    // Without the cache: from the folder and the ledger, prefilled.
    t_shell("rm -rf %s/cache", folder);
    h = k_open_host(k_refs_model(), folder, 2);
    r = run(h, id, NULL, false, &g);
    assert_true(cn_replay_is_identical(&r));
    assert_true(g.turn[0].prefilled_tokens > 500);
    cn_replay_release(&r);
    cn_host_close(h);
}

/* By another path the pages are another engine's: never read, made again from the store's records.
 */
static void test_another_path_reads_no_page(void **state) {
    (void)state;
    static again g;
    const char  *repo = new_repo(), *folder = k_new_state();
    cn_ops       ops[CN_ISA_COUNT];
    char         id[80];
    if (t_variants(ops) < 2) skip();
    cn_host    *h = k_open_host(k_refs_model(), folder, 2);
    cn_session *s = record_plain(h, repo);
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    cn_session_close(s);
    cn_host_close(h);
    t_shell("rm -r %s", repo);
    k_isa = cn_isa_name(ops[0].isa); // the reference
    h = k_open_host(k_refs_model(), folder, 2);
    cn_replay_result r = run(h, id, NULL, true, &g);
    assert_int_equal(r.lost_turns, 0);
    assert_int_equal(r.departed, 0);
    assert_true(g.turn[0].prefilled_tokens > 500);
    cn_replay_release(&r);
    cn_host_close(h);
    k_isa = t_isa();
}

/* A file has changed since.  The store knows what it was; without the store the view is lost, and
 * that is said; with the file as it was, it is had again. */
static void test_a_view_that_is_gone(void **state) {
    (void)state;
    static again g;
    const char  *repo = new_repo(), *folder = k_new_state();
    char         id[80];
    cn_host     *h = k_open_host(k_refs_model(), folder, 2);
    cn_session  *s = k_open_session(h, repo, false);
    play(h, s, 3);
    t_shell("cd %s && sed -i '5i // one more line' err.c", repo);
    play(h, s, 4);
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    cn_session_close(s);
    assert_identical(h, id, 2); // two generations
    cn_host_close(h);

    t_shell("rm -rf %s/cache", folder);
    h = k_open_host(k_refs_model(), folder, 2);
    cn_replay_result r = run(h, id, NULL, false, &g);
    assert_false(cn_replay_is_identical(&r));
    assert_true(r.departed == 0 && r.lost_turns == 1 && r.same == 1 && r.turns == 2);
    assert_int_equal(g.turn[0].state, CN_REPLAY_LOST);
    assert_true(g.turn[0].not_judged > 0 && g.turn[0].sampled == 0);
    assert_string_equal(g.lost[0], "err.c");
    assert_int_equal(g.turn[1].state, CN_REPLAY_SAME);
    cn_replay_release(&r);

    t_shell("cd %s && git checkout -q .", repo);
    r = run(h, id, NULL, false, &g); // now the other one is
    assert_int_equal(g.turn[0].state, CN_REPLAY_SAME);
    assert_int_equal(g.turn[1].state, CN_REPLAY_LOST);
    cn_replay_release(&r);
    // Other bytes of the same shape are not what it was: the file beside it has its key.
    t_shell("cd %s && sed -i '1s/err/arr/' err.c", repo);
    r = run(h, id, NULL, false, &g);
    assert_int_equal(g.turn[0].state, CN_REPLAY_LOST);
    assert_string_equal(g.lost[0], "err.c");
    assert_int_equal(g.turn[0].assumed, 0);
    cn_replay_release(&r);
    t_shell("mv %s %s.gone", repo, repo);
    r = run(h, id, NULL, false, &g);
    assert_int_equal(r.lost_turns, 2);
    cn_replay_release(&r);
    cn_host_close(h);
}

/* Turns taken back, a fork, a compaction, turns that were stopped and that failed. */
static void test_whatever_it_has_been_through(void **state) {
    (void)state;
    static again       g;
    const char        *repo = new_repo();
    cn_ledger_session *fork;
    cn_host           *h = k_open_host(k_refs_model(), k_new_state(), 2);
    cn_session        *s = record_plain(h, repo);
    char               id[80];
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    assert_err(cn_session_rewind(s, 2, &t_diag), CN_OK);
    play(h, s, 1); // turn 6
    play(h, s, 4); // turn 7
    assert_identical(h, id, 4);

    // A fork goes its own way.
    assert_err(cn_ledger_session_fork(h->ledger, id, 6, "forked", &fork, &t_diag), CN_OK);
    cn_ledger_session_free(fork);
    cn_session    *f = k_open(h, &(cn_session_opts){.id = "forked"});
    const uint64_t seven = logits_of[7];
    play(h, f, 3); // turn 7 of the fork
    assert_identical(h, "forked", 4);
    logits_of[7] = seven;
    cn_session_close(f);
    assert_identical(h, id, 4);

    // Stopped in the middle of its second step: the first is there.  Then a turn that a crash
    // left with a call and no result.
    k_says       says = {.tokens = 0};
    k_asked      a = {.all = 0};
    cn_turn     *t;
    cn_turn_need need;
    k_say_call(&says, h, "search", "{\"query\":\"cn_fail(\"}");
    const int32_t call = says.tokens;
    k_say_answer(&says, h, "so it is, and more");
    for (int stop = 0; stop < 2; stop++) { // turns 8, 9
        k_says now = says;
        t = k_begin(s, "and then?", says.tokens);
        while (now.at < (stop ? call : says.tokens - 4)) assert_true(k_step(h, t, &now, &a));
        if (stop) { // the call is on disk, the tool has not run
            assert_err(cn_turn_step(t, &need, &t_diag), CN_OK);
            assert_int_equal(need, CN_TURN_TOOL);
        }
        cn_turn_stop_now(t, stop ? CN_STOP_ERROR : CN_STOP_CANCEL);
        cn_turn_free(t);
    }
    play(h, s, 4); // turn 10
    cn_replay_result r = run(h, id, NULL, false, &g);
    t_note("%d turns, %d same, %d departed", (int)r.turns, (int)r.same, (int)r.departed);
    assert_true(cn_replay_is_identical(&r));
    assert_int_equal(r.turns, 7);
    assert_int_equal(g.turn[4].stop, CN_STOP_CANCEL);
    assert_true(g.turn[4].steps >= 1 && g.turn[4].sampled > 0);
    assert_true(g.turn[4].sampled < says.tokens);
    assert_int_equal(g.turn[5].stop, CN_STOP_ERROR);
    cn_replay_release(&r);

    // Compacted: what was said elsewhere is given, what came after is judged.
    cn_compact *c;
    assert_err(cn_compact_begin(&c, s, &(cn_compact_opts){.keep_turns = 1}, &t_diag), CN_OK);
    assert_err(cn_compact_run(c, NULL, &t_diag), CN_OK);
    cn_compact_free(c);
    play(h, s, 1); // turn 11
    r = run(h, id, NULL, false, &g);
    assert_true(cn_replay_is_identical(&r));
    assert_true(r.turns == 3 && r.given_turns == 2 && r.same == 1);
    assert_int_equal(g.turn[0].origin, CN_ORIGIN_EXTRACT);
    assert_int_equal(g.turn[1].origin, CN_ORIGIN_KEPT);
    cn_replay_release(&r);
    r = run(h, cn_session_row(s)->parent, NULL, false, &g);
    assert_true(cn_replay_is_identical(&r));
    cn_replay_release(&r);
    cn_session_close(s);
    cn_host_close(h);
}

/* Put another token into a step, behind the ledger's back. */
static void change_token(cn_host *h, int32_t turn, int32_t step, int64_t at, int32_t token) {
    char sql[512];
    snprintf(sql, sizeof(sql),
             "UPDATE steps SET tokens = CAST(substr(tokens, 1, %d) || x'%02x%02x0000' ||"
             " substr(tokens, %d) AS BLOB) WHERE step = %d AND turn = "
             "(SELECT key FROM turns WHERE turn = %d)",
             (int)at * 4, token & 0xff, token >> 8, (int)at * 4 + 5, step, turn);
    assert_int_equal(sqlite3_exec(h->ledger->db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_changes(h->ledger->db), 1);
}

static int64_t tokens_in(cn_host *h, int32_t turn, int32_t step, int32_t *first, int32_t want) {
    sqlite3_stmt *q;
    char          sql[256];
    snprintf(sql, sizeof(sql),
             "SELECT tokens FROM steps WHERE step = %d AND turn = (SELECT key FROM turns WHERE turn"
             " = %d)",
             step, turn);
    assert_int_equal(sqlite3_prepare_v2(h->ledger->db, sql, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    const int64_t n = sqlite3_column_bytes(q, 0) / 4;
    memcpy(first, (const char *)sqlite3_column_blob(q, 0) + 4 * want, 4);
    sqlite3_finalize(q);
    return n;
}

/* Any token of the conversation, changed, is found: in the step and at the place where it is. */
static void test_a_changed_token_is_found(void **state) {
    (void)state;
    static again g;
    const char  *repo = new_repo();
    cn_host     *h = k_open_host(k_refs_model(), k_new_state(), 2);
    cn_session  *s = record_plain(h, repo);
    char         id[80];
    int          sampled = 0, given = 0;
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    cn_session_close(s);
    cn_tokens said = tokens_of(h, id);
    static const struct {
        int32_t turn, step;
    } steps[] = {{1, 0}, {2, 0}, {2, 1}, {2, 2}, {3, 1}, {4, 3}, {5, 0}};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        const int32_t turn = steps[i].turn, step = steps[i].step;
        int32_t       was;
        const int64_t n = tokens_in(h, turn, step, &was, 0);
        for (int64_t at = 0; at < n; at += n - 1) {
            (void)tokens_in(h, turn, step, &was, (int32_t)at);
            const int32_t other = was == 70 ? 71 : 70;
            change_token(h, turn, step, at, other);
            cn_replay_result r = run(h, id, &said, false, &g);
            t_note("turn %d, step %d, token %d of %d: found %d in turn %d, step %d, token %d", turn,
                   step, (int)at, (int)n, (int)r.departed, r.first.turn, r.first.step,
                   (int)r.first.token);
            assert_int_equal(r.departed, 1);
            assert_true(r.first.turn == turn && r.first.step == step && r.first.token == at);
            assert_int_equal(r.first.recorded, other);
            assert_int_equal(r.first.replayed, was);
            assert_false(cn_replay_is_identical(&r));
            assert_int_equal(g.turns, turn); // it stopped there
            given += r.first.is_given;
            sampled += !r.first.is_given;
            cn_replay_release(&r);
            change_token(h, turn, step, at, was);
        }
    }
    assert_true(given > 3 && sampled > 3);
    cn_tokens_release(&said);
    assert_identical(h, id, PLAIN); // all is as it was
    cn_host_close(h);
}

/* What is shown, and going on behind it. */
static void test_a_departure_is_shown(void **state) {
    (void)state;
    static again g;
    const char  *repo = new_repo();
    cn_host     *h = k_open_host(k_refs_model(), k_new_state(), 2);
    cn_session  *s = k_open_session(h, repo, false);
    char         id[80];
    for (int i = 0; i < 3; i++) {
        k_says says = {.tokens = 0};
        k_say_answer(&says, h, "It stands in err.c, at its end.");
        say(h, s, "where?", &says);
    }
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    cn_session_close(s);
    int32_t       was;
    cn_tokens     said = tokens_of(h, id);
    const int64_t n = tokens_in(h, 2, 0, &was, 0);
    change_token(h, 2, 0, n - 8, 70);
    cn_replay_result r = run(h, id, &said, true, &g);
    cn_tokens_release(&said);
    assert_true(r.is_whole && r.turns == 3 && r.same == 2 && r.departed_turns == 1);
    assert_int_equal(r.departed, 1); // judged on its own: what follows is the same again
    assert_int_equal(g.turn[2].state, CN_REPLAY_SAME);
    assert_non_null(strstr(cn_buf_str(&r.first.before), "err.c, at"));
    assert_non_null(strstr(cn_buf_str(&r.first.replayed_text), " end."));
    assert_null(strstr(cn_buf_str(&r.first.recorded_text), "its"));
    cn_replay_release(&r);

    // Another model's record is refused; so is one that is not there.
    cn_host_close(h);
    h = k_open_host(k_plain_model(), k_new_state(), 1);
    assert_err(cn_replay(&(cn_replay_opts){.host = h, .session = id}, &r, &t_diag), CN_ENOTFOUND);
    cn_host_close(h);
}

static void test_another_model_is_refused(void **state) {
    (void)state;
    cn_replay_result r;
    const char      *repo = new_repo(), *folder = k_new_state();
    cn_host         *h = k_open_host(k_refs_model(), folder, 1);
    cn_session      *s = record_plain(h, repo);
    char             id[80];
    atomic_bool      stop = true;
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    assert_err(cn_replay(&(cn_replay_opts){.host = h, .session = id, .cancel = &stop}, &r, &t_diag),
               CN_ECANCELLED);
    cn_replay_release(&r);
    cn_session_close(s);
    cn_host_close(h);
    t_shell("rm -rf %s/cache", folder); // of the other model's page size
    h = k_open_host(k_plain_model(), folder, 1);
    assert_err(cn_replay(&(cn_replay_opts){.host = h, .session = id}, &r, &t_diag), CN_EINVAL);
    assert_non_null(strstr(t_diag.text, "was recorded with model"));
    cn_replay_release(&r);
    cn_host_close(h);
}

/* The model's own words, chosen by itself: greedy is greedy. */
static k_asked ask(cn_host *h, cn_session *s, int i) {
    char question[64];
    snprintf(question, sizeof(question), "question %d: where is cn_fail?", i);
    return k_ask(h, s, question, NULL);
}

static void test_greedy(void **state) {
    (void)state;
    cn_replay_result r;
    const char      *repo = new_repo();
    cn_host         *h = k_open_host(k_plain_model(), k_new_state(), 2);
    cn_session      *s = k_open_session(h, repo, false);
    for (int i = 0; i < 3; i++) ask(h, s, i);
    const char *id = cn_session_row(s)->id;
    assert_err(cn_replay(&(cn_replay_opts){.host = h, .session = id}, &r, &t_diag), CN_OK);
    assert_true(cn_replay_is_identical(&r));
    assert_int_equal(r.same, 3);
    cn_replay_release(&r);
    int32_t       was;
    const int64_t n = tokens_in(h, 2, 0, &was, 0);
    (void)tokens_in(h, 2, 0, &was, (int32_t)n - 5);
    change_token(h, 2, 0, n - 5, was == 70 ? 71 : 70);
    assert_err(cn_replay(&(cn_replay_opts){.host = h, .session = id}, &r, &t_diag), CN_OK);
    assert_true(r.departed == 1 && !r.is_whole);
    assert_true(r.first.turn == 2 && r.first.token == n - 5 && r.first.replayed == was);
    cn_replay_release(&r);
    cn_session_close(s);
    cn_host_close(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_identical),
        cmocka_unit_test(test_another_path_reads_no_page),
        cmocka_unit_test(test_a_view_that_is_gone),
        cmocka_unit_test(test_whatever_it_has_been_through),
        cmocka_unit_test(test_a_changed_token_is_found),
        cmocka_unit_test(test_a_departure_is_shown),
        cmocka_unit_test(test_another_model_is_refused),
        cmocka_unit_test(test_greedy),
    };
    k_isa = t_isa();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

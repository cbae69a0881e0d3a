/*
 * test_bills.c - What turns cost: every bill of a ledger adds up, however its turn ended, and what
 * a turn would have cost otherwise comes from what was measured.
 */
#include "base/fault.h"
#include "tests/sessions/session_kit.h"

#include <sys/wait.h>

#define READ_LINES "{\"path\":\"base/err.h\",\"start\":3,\"end\":80}"
#define READ_NOTES "{\"path\":\"notes.lock\",\"start\":1,\"end\":1000}"

static cn_session *open_new(cn_host *h, const char *repo) {
    return k_open_session(h, repo, false);
}

static k_asked answer(cn_host *h, cn_session *s, const char *question) {
    k_says says = {.tokens = 0};
    k_say_answer(&says, h, "so it is");
    return k_ask(h, s, question, &says);
}

static k_asked call(cn_host *h, cn_session *s, const char *name, const char *arguments) {
    k_says says = {.tokens = 0};
    k_say_call(&says, h, name, arguments);
    k_say_answer(&says, h, "so it is");
    return k_ask(h, s, "look there", &says);
}

/* ---- What would have been ------------------------------------------------------------ */

static void assert_claims(const k_asked *a, int64_t found, double prefill_ns) {
    const int64_t saved = (int64_t)((double)found * prefill_ns);
    assert_int_equal(a->bill.no_cache_ns, a->bill.wall_ns + saved);
    assert_int_equal(a->bill.saved_ns, saved);
}

/* A turn over what is stored saves its prefill, at the rate that this engine was measured at; a
 * new session and a new process know it too. */
static void test_no_cache_is_measured(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    cn_host    *h = k_open_host(k_plain_model(), folder, 2);
    cn_session *s = open_new(h, repo);
    assert_true(h->prefill_ns == 0);
    k_asked a = answer(h, s, "first");
    assert_claims(&a, 0, 0); // nothing was there before
    assert_int_equal(a.bill.reused_tokens, 0);
    const double measured = h->prefill_ns;
    // What it took, and not a guess: prefill is that of the view and of a short question.
    assert_true(measured > 0);
    assert_true(measured * (double)a.bill.prefilled_tokens <= (double)a.bill.prefill_ns);
    assert_true(measured * (double)a.bill.prefilled_tokens >= 0.5 * (double)a.bill.prefill_ns);

    int64_t held = cn_session_tokens(s);
    a = answer(h, s, "second");
    assert_int_equal(a.bill.cached_tokens, a.bill.context_tokens);
    assert_claims(&a, a.bill.context_tokens + held, measured);
    assert_int_equal(a.bill.reused_tokens, a.bill.context_tokens + held);
    assert_true(h->prefill_ns == measured); // few tokens measure nothing
    held = cn_session_tokens(s);
    cn_session_close(s);
    cn_host_close(h);

    h = k_open_host(k_plain_model(), folder, 2);
    assert_true(h->prefill_ns == measured);
    s = k_open_session(h, repo, true);
    a = answer(h, s, "third, in another process");
    assert_claims(&a, a.bill.context_tokens + held, measured);
    cn_session_close(s);
    s = open_new(h, repo);
    a = answer(h, s, "in another session");
    assert_claims(&a, a.bill.context_tokens, measured);
    cn_session_close(s);
    cn_host_close(h);
}

/* A context that is prefilled without a turn is measured as well. */
static void test_a_context_is_measured(void **state) {
    (void)state;
    const char     *repo = k_new_repo();
    cn_host        *h = k_open_host(k_plain_model(), k_new_state(), 2);
    cn_context     *c;
    cn_context_work work = {0};
    assert_err(cn_context_open(&c, h, &(cn_context_opts){.folder = repo}, &t_diag), CN_OK);
    assert_err(cn_context_update(c, &t_diag), CN_OK);
    for (bool done = false; !done;) assert_err(cn_context_prefill(c, &done, &work, &t_diag), CN_OK);
    assert_true(work.tokens > 1000);
    assert_true(h->prefill_ns * (double)work.tokens >= (double)work.compute_ns);
    assert_true(h->prefill_ns * (double)work.tokens <= 2 * (double)work.compute_ns);
    cn_context_close(c);
    cn_session   *s = open_new(h, repo);
    const double  measured = h->prefill_ns;
    const k_asked a = answer(h, s, "first");
    assert_claims(&a, a.bill.context_tokens, measured);
    cn_session_close(s);
    cn_host_close(h);
}

/* Replayed tokens were not found; only the view is. */
static void test_a_replay_saves_nothing(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    cn_host    *h = k_open_host(k_plain_model(), folder, 2);
    cn_session *s = open_new(h, repo);
    answer(h, s, "first");
    cn_session_close(s);
    cn_host_close(h);
    t_shell("rm -rf %s/cache", folder);
    h = k_open_host(k_plain_model(), folder, 2);
    s = k_open_session(h, repo, true);
    const k_asked a = answer(h, s, "second");
    assert_int_equal(a.bill.cached_tokens, 0);
    assert_int_equal(a.bill.reused_tokens, 0);
    assert_claims(&a, 0, 0);
    cn_session_close(s);
    cn_host_close(h);
}

/* Pages that another number of threads has prefilled are hits, its rate is not this one's: the
 * turn claims nothing. */
static void test_nothing_is_claimed_without_a_rate(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    cn_host    *h = k_open_host(k_plain_model(), folder, 2);
    cn_session *s = open_new(h, repo);
    answer(h, s, "first");
    cn_session_close(s);
    cn_host_close(h);
    h = k_open_host(k_plain_model(), folder, 1);
    s = open_new(h, repo);
    const k_asked a = answer(h, s, "second");
    assert_true(a.bill.cached_tokens > 0 && a.bill.prefilled_tokens == 0);
    assert_true(a.bill.reused_tokens > 0);
    assert_int_equal(a.bill.no_cache_ns, 0);
    assert_int_equal(a.bill.saved_ns, 0);
    cn_session_close(s);
    cn_host_close(h);
}

/* Once measured, times the layers; and nothing where nothing is routed. */
static void test_routing_in_each_layer(void **state) {
    (void)state;
    const char *repo = k_new_repo();
    for (int dense = 0; dense < 2; dense++) {
        cn_host *h;
        assert_err(cn_host_open(&h,
                                &(cn_host_opts){.model_folder = k_plain_model(),
                                                .state_folder = k_new_state(),
                                                .isa = k_isa,
                                                .dense = dense},
                                &t_diag),
                   CN_OK);
        cn_session   *s = open_new(h, repo);
        const k_asked a = answer(h, s, "first");
        const int64_t layers = h->model->config.cross_layers;
        assert_true(layers > 1);
        assert_true(dense || a.bill.route_ns > 0);
        // Evidence is part of route, and would not be read once more in each layer.
        const int64_t more = a.bill.per_layer_routing_ns - (dense ? 0 : a.bill.wall_ns);
        assert_true(dense ? more == 0 : more > 0 && more <= a.bill.route_ns * (layers - 1));
        cn_session_close(s);
        cn_host_close(h);
    }
}

static void on_step(void *ctx, const cn_ledger_step *step) {
    int64_t *tokens = ctx;
    if (step->step == 0) tokens[0] = step->tokens;
}

/* Each generation is sent all that stands before it, as a hosted service has it; what the cache
 * saved is counted once. */
static void test_each_generation_reads_the_view(void **state) {
    (void)state;
    const char *repo = k_new_repo();
    cn_host    *h = k_open_host(k_plain_model(), k_new_state(), 2);
    cn_session *s = open_new(h, repo);
    answer(h, s, "first");
    const int64_t before = cn_session_tokens(s);
    k_says        says = {.tokens = 0};
    k_say_call(&says, h, "read_lines", READ_LINES);
    const int64_t called = says.tokens;
    k_say_answer(&says, h, "so it is");
    const k_asked a = k_ask(h, s, "look there", &says);
    const int64_t view = a.bill.context_tokens, after = cn_session_tokens(s);
    int64_t       first_step = 0;
    assert_err(
        cn_ledger_steps(h->ledger, cn_session_row(s)->id, a.number, on_step, &first_step, &t_diag),
        CN_OK);
    const int64_t asked = first_step - called;             // tokens of the question
    const int64_t result = a.bill.prompt_tokens - asked;   // and of what came behind the call
    const int64_t second = after - (says.tokens - called); // before the second generation
    assert_true(asked > 0 && result > 0);
    assert_int_equal(a.bill.reused_tokens, view + before + view + second - result);
    assert_claims(&a, view + before, h->prefill_ns);
    cn_session_close(s);
    cn_host_close(h);
}

/* ---- Every bill adds up --------------------------------------------------------------- */

typedef struct walk {
    int     turns;
    int     stops; // of any kind but "end"
    cn_bill sum;
} walk;

static void check_bill(void *ctx, const cn_ledger_cost *c) {
    walk *w = ctx;
    t_note("turn %d of %s", c->turn, c->session);
    assert_err(cn_bill_check(&c->bill, &t_diag), CN_OK);
    assert_int_equal(c->turns, 1);
    w->turns++;
    cn_bill_add(&w->sum, &c->bill);
}

static void check_sum(void *ctx, const cn_ledger_cost *c) {
    walk *w = ctx;
    w->turns -= (int)c->turns;
    const int64_t *from = (const int64_t *)(const void *)&c->bill;
    int64_t       *to = (int64_t *)(void *)&w->sum;
    for (size_t i = 0; i < sizeof(cn_bill) / sizeof(int64_t); i++) to[i] -= from[i];
}

/* Each turn of the ledger, those taken back or interrupted included; and the sums of `cairn cost`
 * are those of the turns. */
static int walk_bills(cn_host *h) {
    static const cn_bill zero;
    walk                 w = {0};
    assert_err(cn_ledger_costs(h->ledger, CN_COST_TURN, NULL, check_bill, &w, &t_diag), CN_OK);
    const int turns = w.turns;
    for (int by = CN_COST_SESSION; by <= CN_COST_DAY; by++) {
        walk rest = w;
        assert_err(cn_ledger_costs(h->ledger, (cn_cost_by)by, NULL, check_sum, &rest, &t_diag),
                   CN_OK);
        t_note("sums by %d", by);
        assert_int_equal(rest.turns, 0);
        // Of days and sessions in which one turn is known the others count as they were; here all
        // sessions know.
        assert_memory_equal(&rest.sum, &zero, sizeof(zero));
    }
    return turns;
}

static void stop_soon(void *ctx, const char *text, size_t bytes) {
    (void)text, (void)bytes;
    atomic_store((atomic_bool *)ctx, true);
}

static void stop_in_prefill(void *ctx, int64_t done, int64_t total) {
    (void)done, (void)total;
    atomic_store((atomic_bool *)ctx, true);
}

static void cancel(cn_session *s, bool in_prefill) {
    atomic_bool flag = false;
    cn_turn    *t;
    assert_err(cn_turn_begin(&t, s,
                             &(cn_turn_opts){.question = "never mind",
                                             .question_bytes = 10,
                                             .output_tokens_max = 500,
                                             .on_text = in_prefill ? NULL : stop_soon,
                                             .on_prefill = in_prefill ? stop_in_prefill : NULL,
                                             .ctx = &flag},
                             &t_diag),
               CN_OK);
    assert_err(cn_turn_run(t, &flag, &t_diag), CN_OK);
    cn_turn_free(t);
}

/* A turn with the n-th fault point armed: whether it began. */
static bool try_call(cn_host *h, cn_session *s, cn_fault_mode mode, int n) {
    k_says       says = {.tokens = 0};
    cn_turn     *t;
    cn_turn_need need;
    cn_diag      diag;
    static float want[K_VOCAB_MAX];
    k_say_call(&says, h, "read_lines", READ_NOTES);
    k_say_answer(&says, h, "so it is");
    const cn_turn_opts opts = {
        .question = "look there", .question_bytes = 10, .output_tokens_max = says.tokens};
    cn_fault_arm(mode, n);
    if (cn_turn_begin(&t, s, &opts, &diag)) return false;
    for (cn_err err = CN_OK; !err;) {
        cn_step_stats stats;
        err = cn_turn_step(t, &need, &diag);
        if (err || need == CN_TURN_DONE) break;
        if (need == CN_TURN_TOOL) {
            err = cn_turn_run_tool(t, &diag);
            if (err) cn_turn_stop_now(t, CN_STOP_ERROR);
            continue;
        }
        cn_slice *slice = cn_turn_slice(t);
        assert_err(cn_engine_step(h->engine, slice, 1, &stats, &t_diag), CN_OK);
        if (slice->logits) {
            memset(want, 0, sizeof(want));
            want[says.token[says.at++]] = 1;
            slice->logits = want;
        }
        cn_turn_ran(t, &stats);
    }
    assert_err(cn_bill_check(cn_turn_bill(t), &t_diag), CN_OK);
    cn_turn_free(t);
    return true;
}

/* Faults at points of a turn, one after the other: the turns that failed are on the ledger, and
 * their bills add up. */
static int fail_turns(cn_host *h, cn_session *s) {
    const int step = t_is_sanitized() ? 31 : 3;
    int       failed = 0;
    for (int n = 1; failed < 40; n += step) {
        const bool began = try_call(h, s, CN_FAULT_ONCE, n);
        const bool hit = cn_fault_was_hit();
        cn_fault_arm(CN_FAULT_OFF, 1);
        if (!hit) break;
        failed += began;
        assert_err(cn_session_rewind(s, 0, &t_diag), CN_OK);
    }
    return failed;
}

/* A process that dies in the middle of a turn, at a few points. */
static void die_in_turns(const char *model, const char *folder, const char *repo) {
    for (int n = 60; n < 400; n += t_is_sanitized() ? 150 : 40) {
        fflush(NULL);
        const pid_t pid = fork();
        if (pid == 0) {
            cn_host    *h = k_open_host(model, folder, 1);
            cn_session *s = k_open_session(h, repo, true);
            try_call(h, s, CN_FAULT_CRASH, n);
            _exit(0);
        }
        int status;
        waitpid(pid, &status, 0);
    }
}

/* Two turns in one step of the engine: what one of them waits for the other is on its bill. */
static void ask_together(cn_host *h, const char *repo) {
    cn_session  *s[2];
    cn_turn     *t[2];
    cn_turn_need need[2] = {CN_TURN_ENGINE, CN_TURN_ENGINE};
    for (int i = 0; i < 2; i++) {
        s[i] = open_new(h, repo);
        t[i] = k_begin(s[i], i ? "a longer question than the first one" : "one", 8 + 6 * i);
    }
    for (;;) {
        cn_slice      slice[2];
        int           of[2], n = 0;
        cn_step_stats stats;
        for (int i = 0; i < 2; i++) {
            if (need[i] == CN_TURN_DONE) continue;
            assert_err(cn_turn_step(t[i], &need[i], &t_diag), CN_OK);
            while (need[i] == CN_TURN_TOOL) {
                assert_err(cn_turn_run_tool(t[i], &t_diag), CN_OK);
                assert_err(cn_turn_step(t[i], &need[i], &t_diag), CN_OK);
            }
            if (need[i] == CN_TURN_DONE) continue;
            slice[n] = *cn_turn_slice(t[i]);
            of[n++] = i;
        }
        if (n == 0) break;
        assert_err(cn_engine_step(h->engine, slice, n, &stats, &t_diag), CN_OK);
        for (int i = 0; i < n; i++) {
            *cn_turn_slice(t[of[i]]) = slice[i];
            cn_turn_ran(t[of[i]], &stats);
        }
    }
    for (int i = 0; i < 2; i++) {
        assert_err(cn_bill_check(cn_turn_bill(t[i]), &t_diag), CN_OK);
        cn_turn_free(t[i]);
        cn_session_close(s[i]);
    }
}

/* A turn that waits, is never run, and is stopped: that was queueing. */
static void wait_and_stop(cn_session *s) {
    cn_turn *t = k_begin(s, "whenever you like", 8);
    usleep(30000);
    cn_turn_stop_now(t, CN_STOP_BUDGET);
    assert_err(cn_bill_check(cn_turn_bill(t), &t_diag), CN_OK);
    assert_true(cn_turn_bill(t)->queue_ns >= 30000000);
    cn_turn_free(t);
}

static void test_every_bill_adds_up(void **state) {
    (void)state;
    const char *model = k_refs_model(), *repo = k_new_repo(), *folder = k_new_state();
    char       *lines = k_lines("note", 12000);
    char        notes[300];
    snprintf(notes, sizeof(notes), "%s/notes.lock", repo);
    FILE *f = fopen(notes, "w"); // no file of a view, and long enough to be a part of its own
    assert_non_null(f);
    assert_true(fputs(lines, f) >= 0 && fclose(f) == 0);

    cn_host    *h = k_open_host(model, folder, 1);
    cn_session *s = open_new(h, repo);
    cancel(s, true); // in the first prefill
    assert_int_equal(walk_bills(h), 1);
    k_asked a = answer(h, s, "first");
    assert_true(a.bill.prefilled_tokens > 0);
    call(h, s, "read_lines", READ_LINES); // lines that the view holds
    a = call(h, s, "read_lines", READ_NOTES);
    assert_true(a.bill.prefilled_tokens > 0); // a part
    call(h, s, "read_lines", "{\"path\":\"nowhere\"}");
    call(h, s, "dance", "{}");
    a = k_ask(h, s, "say something", NULL);
    cancel(s, false); // in an answer
    wait_and_stop(s);
    t_shell("cd %s && sed -i '20i // one more line' base/buf.c && rm base/err.c", repo);
    a = answer(h, s, "what changed?");
    assert_true(a.bill.misses[CN_MISS_CHANGED].count > 0);
    const char *drop = "base/err.h";
    assert_err(cn_session_edit(s, CN_EDIT_DROP, &drop, 1, &t_diag), CN_OK);
    answer(h, s, "and without it?");
    assert_err(cn_session_rewind(s, 2, &t_diag), CN_OK);
    answer(h, s, "from there again");
    assert_int_equal(walk_bills(h), 12);
    ask_together(h, repo);
    cn_session_close(s);
    s = open_new(h, repo);
    answer(h, s, "first");
    const int failed = fail_turns(h, s);
    t_note("%d turns failed", failed);
    assert_true(failed > (t_is_sanitized() ? 0 : 5));
    cn_session_close(s);
    cn_host_close(h);

    die_in_turns(model, folder, repo);
    t_shell("rm -rf %s/cache", folder); // a replay, and all of the view
    h = k_open_host(model, folder, 2);
    s = k_open_session(h, repo, true);
    a = answer(h, s, "where were we?");
    assert_true(a.bill.prefilled_tokens > 0);
    assert_true(walk_bills(h) > 12 + 2 + failed);
    cn_session_close(s);
    cn_host_close(h);
    free(lines);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_cache_is_measured),
        cmocka_unit_test(test_a_context_is_measured),
        cmocka_unit_test(test_a_replay_saves_nothing),
        cmocka_unit_test(test_nothing_is_claimed_without_a_rate),
        cmocka_unit_test(test_routing_in_each_layer),
        cmocka_unit_test(test_each_generation_reads_the_view),
        cmocka_unit_test(test_every_bill_adds_up),
    };
    k_isa = t_isa();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

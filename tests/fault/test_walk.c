/*
 * test_walk.c - Whatever a session went through, its next logits are those of one that went
 * through nothing.
 *
 * Method: a seed makes a walk of events: turns, forks, rewinds, deaths and failures in a turn,
 * turns that are stopped, new processes, other branches, evictions, a deleted cache, files dropped
 * and added, another session that shares the pages.  At the end a new session in a new state folder
 * is given the same view and asked the turns that are left, in peace; then both are asked once
 * more, and every logit must be the same.
 *
 *   test_walk             the short form
 *   test_walk soak WALKS SEED
 */
#include "tests/fault/actor.h"

enum { EVENTS = 14, LEFT_MAX = 64 };

#define EVENT_LIST(X)                                                                              \
    X(ASK)                                                                                         \
    X(ASK_AGAIN)                                                                                   \
    X(FORK)                                                                                        \
    X(REWIND) X(DIE) X(FAIL) X(STOP) X(REOPEN) X(BRANCH) X(EVICT) X(WIPE) X(DROP) X(ADD) X(OTHER)

typedef enum {
#define X(name) EVENT_##name,
    EVENT_LIST(X)
#undef X
        EVENTS_COUNT
} event;

static const char *const event_names[] = {
#define X(name) #name,
    EVENT_LIST(X)
#undef X
};

static long events_seen[EVENTS_COUNT];

/* A turn that is in the conversation. */
typedef struct left {
    int     question;
    int32_t number;
    bool    has_call;
} left;

typedef struct walk {
    stage       st;
    cn_host    *h;
    cn_session *s;
    char        id[CN_LEDGER_ID_BYTES_MAX + 1];
    left        turn[LEFT_MAX];
    int         turns, asked;
    bool        is_dropped; // err.h
} walk;

static void leave(walk *w) {
    cn_session_close(w->s);
    cn_host_close(w->h);
    w->s = NULL;
    w->h = NULL;
}

static void enter_host(walk *w) {
    if (w->h) return;
    w->h = k_open_host(w->st.model, w->st.state, (int32_t)t_rand_range(1, 2));
    w->h->find_tool = find_tool;
    note_stage = &w->st;
}

static void enter_session(walk *w) {
    enter_host(w);
    if (w->s) return;
    w->s = w->id[0] ? k_open(w->h, &(cn_session_opts){.id = w->id})
                    : k_open_session(w->h, w->st.repo, false);
    snprintf(w->id, sizeof(w->id), "%s", cn_session_row(w->s)->id);
}

/* ---- Turns ---------------------------------------------------------------------------- */

static const char *text_of_question(int number) {
    static char text[64];
    snprintf(text, sizeof(text), "act %d: and what is %d?", number, number * 7919 % 1000);
    return text;
}

static void say(k_says *says, const cn_host *h, const left *l) {
    char answer[64];
    *says = (k_says){.tokens = 0};
    if (l->has_call) k_say_call(says, h, "note", "{}");
    snprintf(answer, sizeof(answer), "it is %d", l->question);
    k_say_answer(says, h, answer);
}

/* Play a turn up to `steps` steps; false: something failed, or it was stopped. */
static bool try_turn(walk *w, const left *l, int steps) {
    k_says   says;
    cn_turn *t;
    bool     is_done = false, failed = false;
    say(&says, w->h, l);
    const char *question = text_of_question(l->question);
    if (cn_turn_begin(&t, w->s,
                      &(cn_turn_opts){.question = question,
                                      .question_bytes = strlen(question),
                                      .output_tokens_max = says.tokens},
                      NULL))
        return false;
    static float want[K_VOCAB_MAX];
    while (!is_done && !failed && steps-- > 0) {
        cn_turn_need  need;
        cn_step_stats stats;
        failed = cn_turn_step(t, &need, NULL) != CN_OK;
        if (failed) break;
        is_done = need == CN_TURN_DONE;
        if (need == CN_TURN_TOOL) {
            failed = cn_turn_run_tool(t, NULL) != CN_OK;
        } else if (need == CN_TURN_ENGINE) {
            cn_slice *slice = cn_turn_slice(t);
            failed = cn_engine_step(w->h->engine, slice, 1, &stats, NULL) != CN_OK;
            if (failed) break;
            if (slice->logits) {
                memset(want, 0, sizeof(want));
                want[says.token[says.at++]] = 1;
                slice->logits = want;
            }
            cn_turn_ran(t, &stats);
        }
    }
    if (!is_done) cn_turn_stop_now(t, failed ? CN_STOP_ERROR : CN_STOP_CANCEL);
    cn_turn_free(t);
    return is_done;
}

static left next_turn(walk *w) {
    return (left){.question = w->asked++, .has_call = t_rand() % 3 == 0};
}

/* A turn in peace: it must be the next one of the conversation. */
static void ask(walk *w) {
    left l = next_turn(w);
    if (w->turns == LEFT_MAX) return;
    enter_session(w);
    k_says says;
    say(&says, w->h, &l);
    l.number = k_ask(w->h, w->s, text_of_question(l.question), &says).number;
    w->turn[w->turns++] = l;
}

/* What a mishap left of a turn is taken back. */
static void mend(walk *w) {
    enter_session(w);
    talk t = talk_of(w->h->ledger, w->id);
    assert_true(t.turns == w->turns || t.turns == w->turns + 1);
    for (int i = 0; i < w->turns; i++) {
        assert_int_equal(t.number[i], w->turn[i].number);
        assert_true(is_finished(&t, i));
    }
    if (t.turns > w->turns)
        assert_err(cn_session_rewind(w->s, w->turns ? w->turn[w->turns - 1].number : 0, &t_diag),
                   CN_OK);
    talk_release(&t);
}

/* ---- Events --------------------------------------------------------------------------- */

static void die_in_turn(walk *w) {
    const left    l = next_turn(w);
    const int64_t n = t_rand_range(1, 900);
    int           status;
    leave(w);
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        cn_fault_arm(CN_FAULT_CRASH, n);
        enter_session(w);
        (void)try_turn(w, &l, 1000);
        raise(SIGKILL); // it had fewer points
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    if (!w->id[0]) { // it may have made the session
        enter_host(w);
        cn_ledger_session *row;
        if (cn_ledger_session_latest(w->h->ledger, NULL, &row, &t_diag) == CN_OK)
            snprintf(w->id, sizeof(w->id), "%s", row->id);
        cn_ledger_session_free(row);
    }
    mend(w);
}

static void fail_or_stop(walk *w, bool is_failure) {
    const left l = next_turn(w);
    enter_session(w);
    if (is_failure) cn_fault_arm(CN_FAULT_ONCE, t_rand_range(1, 900));
    const bool is_done = try_turn(w, &l, is_failure ? 1000 : (int)t_rand_range(0, 12));
    cn_fault_arm(CN_FAULT_OFF, 0);
    (void)is_done; // a failure may be one that costs only a page
    leave(w);
    mend(w);
}

static void fork_session(walk *w) {
    cn_ledger_session *row;
    enter_session(w);
    const int to = (int)t_rand_range(0, w->turns);
    leave(w);
    enter_host(w);
    assert_err(cn_ledger_session_fork(w->h->ledger, w->id, to ? w->turn[to - 1].number : 0, NULL,
                                      &row, &t_diag),
               CN_OK);
    snprintf(w->id, sizeof(w->id), "%s", row->id);
    cn_ledger_session_free(row);
    w->turns = to;
}

static void rewind_session(walk *w) {
    enter_session(w);
    w->turns = (int)t_rand_range(0, w->turns);
    assert_err(cn_session_rewind(w->s, w->turns ? w->turn[w->turns - 1].number : 0, &t_diag),
               CN_OK);
}

static void edit(walk *w, cn_edit kind) {
    static const char *const path = "err.h";
    enter_session(w);
    assert_err(cn_session_edit(w->s, kind, &path, 1, &t_diag), CN_OK);
    w->is_dropped = kind == CN_EDIT_DROP;
}

static void evict(walk *w) {
    cn_session_close(w->s);
    w->s = NULL;
    enter_host(w);
    const int64_t bytes = t_rand() % 2 ? (int64_t)1 << 40 : t_rand_range(1, 1 << 20);
    assert_err(cn_pages_evict(w->h->pages, bytes, NULL, &t_diag), CN_OK);
}

/* Another session, of a smaller budget, on the same pages. */
static void ask_other(walk *w) {
    cn_session_close(w->s);
    w->s = NULL;
    enter_host(w);
    cn_session *s = k_open(w->h, &(cn_session_opts){.folder = w->st.repo, .budget = 2500});
    k_ask(w->h, s, "act 0: something else?", NULL);
    cn_session_close(s);
}

static void happen(walk *w, event e) {
    static const char *const branch[] = {"main", "side", "main~1"};
    switch (e) {
    case EVENT_ASK:
    case EVENT_ASK_AGAIN:
        ask(w);
        break;
    case EVENT_FORK:
        fork_session(w);
        break;
    case EVENT_REWIND:
        rewind_session(w);
        break;
    case EVENT_DIE:
        die_in_turn(w);
        break;
    case EVENT_FAIL:
        fail_or_stop(w, true);
        break;
    case EVENT_STOP:
        fail_or_stop(w, false);
        break;
    case EVENT_REOPEN:
        leave(w);
        break;
    case EVENT_BRANCH:
        t_shell("cd %s && git checkout -q %s", w->st.repo, branch[t_rand_range(0, 2)]);
        break;
    case EVENT_EVICT:
        evict(w);
        break;
    case EVENT_WIPE:
        leave(w);
        t_shell("rm -rf %s/cache", w->st.state);
        break;
    case EVENT_DROP:
        edit(w, CN_EDIT_DROP);
        break;
    case EVENT_ADD:
        edit(w, CN_EDIT_ADD);
        break;
    case EVENT_OTHER:
        ask_other(w);
        break;
    case EVENTS_COUNT:
        break;
    }
    events_seen[e]++;
}

/* ---- Walks ---------------------------------------------------------------------------- */

static void walk_once(uint64_t seed) {
    char trail[512] = "";
    t_seed(seed);
    walk w = {.st = new_stage(seed % 2)};
    new_home(&w.st);
    t_shell("cd %s && git checkout -q -b main 2>/dev/null || git branch -q -m main; cd %s && "
            "echo 'int more;' >more.c && git add -A && git commit -qm two && "
            "git checkout -q -b side && sed -i '60i // a line' err.h && rm README.md && "
            "git commit -qam three && git checkout -q main",
            w.st.repo, w.st.repo);
    for (int i = 0; i < 3; i++) ask(&w); // so that there is something to lose
    for (int i = 0; i < EVENTS; i++) {
        const event  e = (event)t_rand_range(0, EVENTS_COUNT - 1);
        const size_t at = strlen(trail);
        snprintf(trail + at, sizeof(trail) - at, " %s", event_names[e]);
        t_note("walk %llu:%s", (unsigned long long)seed, trail);
        happen(&w, e);
    }
    ask(&w);
    t_note("walk %llu:%s", (unsigned long long)seed, trail);
    enter_session(&w);
    const k_asked got = k_ask(w.h, w.s, "act 99: so?", NULL);
    leave(&w);

    walk twin = w; // the same view and turns, and nothing else
    twin.id[0] = 0;
    twin.turns = 0;
    new_home(&twin.st);
    enter_session(&twin);
    if (w.is_dropped) edit(&twin, CN_EDIT_DROP);
    for (int i = 0; i < w.turns; i++) {
        k_says says;
        say(&says, twin.h, &w.turn[i]);
        k_ask(twin.h, twin.s, text_of_question(w.turn[i].question), &says);
    }
    const k_asked want = k_ask(twin.h, twin.s, "act 99: so?", NULL);
    leave(&twin);
    t_note("walk %llu:%s", (unsigned long long)seed, trail);
    if (strcmp(want.text, got.text) != 0 || want.all != got.all ||
        memcmp(want.logits, got.logits, sizeof(want.logits)) != 0)
        t_fail(__FILE__, __LINE__, "other logits after %d turns: \"%.60s\", not \"%.60s\"", w.turns,
               got.text, want.text);
    remove_home(&w.st);
    remove_home(&twin.st);
    t_shell("rm -rf %s", w.st.repo);
}

static void test_same_bits_after_any_walk(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= (t_is_sanitized() ? 1 : 5); seed++) walk_once(seed);
}

static long     soak_walks;
static uint64_t soak_seed;

static void test_soak(void **state) {
    (void)state;
    const int64_t begin = cn_clock_ns();
    for (long i = 0; i < soak_walks; i++) walk_once(soak_seed + (uint64_t)i);
    printf("soak: %ld walks, %.1f minutes; events:", soak_walks,
           (double)(cn_clock_ns() - begin) / 6e10);
    for (int e = 0; e < EVENTS_COUNT; e++) printf(" %s %ld", event_names[e], events_seen[e]);
    printf("\n");
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits_after_any_walk),
    };
    const struct CMUnitTest soak[] = {cmocka_unit_test(test_soak)};
    k_isa = t_isa();
    if (argc == 4 && strcmp(argv[1], "soak") == 0) {
        soak_walks = atol(argv[2]);
        soak_seed = (uint64_t)atoll(argv[3]);
        return cmocka_run_group_tests(soak, NULL, NULL);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_session.c - A repository kept, asked over many turns, and the same bits whatever happens.
 *
 * The model is a tiny random one: what it says means nothing, but every path through context,
 * turn, ledger and page store is the real one, and its logits are compared bit for bit.
 */
#include "base/fault.h"
#include "tests/sessions/session_kit.h"

#include <sys/wait.h>

enum { TURNS = 4 };

static cn_host *open_host(const char *state, int32_t threads) {
    return k_open_host(k_plain_model(), state, threads);
}

/* Models of the arms that are only measured: refused by name, with the way out. */
static void test_other_arms_have_no_sessions(void **state) {
    (void)state;
    static const char *const models[] = {"yoco-perlayer", "transformer"};
    static const char *const folder[] = {CN_SOURCE_DIR "/tests/golden/tiny-a-perlayer",
                                         CN_SOURCE_DIR "/tests/golden/tiny-b-transformer"};
    for (int i = 0; i < 2; i++) {
        cn_host *h = (cn_host *)&h;
        assert_err(
            cn_host_open(&h,
                         &(cn_host_opts){.model_folder = folder[i], .state_folder = k_new_state()},
                         &t_diag),
            CN_EUNSUPPORTED);
        assert_null(h);
        assert_non_null(strstr(t_diag.text, models[i]));
        assert_non_null(strstr(t_diag.text, "bench curve"));
    }
}

/* A host's files lie where that was said, or nowhere. */
static void test_a_state_folder_is_named(void **state) {
    (void)state;
    cn_host *h;
    assert_err(cn_host_open(&h,
                            &(cn_host_opts){.model_folder = k_plain_model(), .state_folder = ""},
                            &t_diag),
               CN_EINVAL);
    assert_null(h);
}

static k_asked ask(cn_host *h, cn_session *s, int number) {
    char question[64];
    snprintf(question, sizeof(question), "question %d: where is cn_buf_put?", number);
    return k_ask(h, s, question, NULL);
}

/* What every other run is compared with: all turns in one process, one thread. */
static void run_plain(const char *repo, k_asked out[TURNS]) {
    k_converse(k_plain_model(), repo, ask, TURNS, K_ONE_HOST, out);
    assert_int_equal(out[0].bill.cached_tokens, 0);
    assert_true(out[0].bill.prefilled_tokens > 1000);
    for (int i = 1; i < TURNS; i++) assert_int_equal(out[i].bill.prefilled_tokens, 0);
}

static void check_same_bits(const char *repo) {
    k_asked want[TURNS], got[TURNS];
    run_plain(repo, want);

    // Every turn in a host of its own: nothing is prefilled again, and the conversation is
    // restored, not replayed.
    k_converse(k_plain_model(), repo, ask, TURNS, K_HOST_EACH, got);
    for (int i = 0; i < TURNS; i++) {
        k_assert_same(&want[i], &got[i], "a host for each turn");
        assert_int_equal(got[i].bill.prefilled_tokens, i ? 0 : want[0].bill.prefilled_tokens);
        assert_int_equal(got[i].bill.prompt_tokens, want[i].bill.prompt_tokens);
    }

    // The cache deleted between turns: a prefill and a replay, nothing else.
    k_converse(k_plain_model(), repo, ask, TURNS, K_NO_CACHE, got);
    for (int i = 0; i < TURNS; i++) {
        k_assert_same(&want[i], &got[i], "without a cache");
        assert_int_equal(got[i].bill.prefilled_tokens, want[0].bill.prefilled_tokens);
        assert_true(i == 0 || got[i].bill.prompt_tokens > want[i].bill.prompt_tokens);
    }
}

/* On each path that runs here. */
static void test_same_bits_whatever_happens(void **state) {
    (void)state;
    const char *repo = k_new_repo();
    cn_ops      ops[CN_ISA_COUNT];
    const int   n = t_variants(ops);
    for (int i = 0; i < n; i++) {
        k_isa = cn_isa_name(ops[i].isa);
        check_same_bits(repo);
    }
    k_isa = t_isa();
}

/* One state folder, one repository: each path prefills for itself, whatever the others left, and
 * finds again what it left. */
static void test_paths_share_no_page(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    cn_ops      ops[CN_ISA_COUNT];
    const int   n = t_variants(ops);
    k_asked     first[CN_ISA_COUNT];
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < n; i++) {
            k_isa = cn_isa_name(ops[i].isa);
            t_note("%s, round %d", k_isa, round);
            cn_host      *h = open_host(folder, 2);
            cn_session   *s = k_open_session(h, repo, false);
            const k_asked got = ask(h, s, 0);
            assert_int_equal(got.bill.prefilled_tokens, round ? 0 : got.bill.context_tokens);
            assert_int_equal(got.bill.cached_tokens, round ? got.bill.context_tokens : 0);
            if (round)
                k_assert_same(&first[i], &got, "in another session");
            else
                first[i] = got;
            cn_session_close(s);
            cn_host_close(h);
        }
    k_isa = t_isa();
}

/* Each turn in a process of its own, which leaves its logits in a file. */
static void test_same_bits_in_other_processes(void **state) {
    (void)state;
    const char *repo = k_new_repo(), *folder = k_new_state();
    k_asked     want[TURNS], got;
    char        path[300];
    run_plain(repo, want);
    for (int i = 0; i < TURNS; i++) {
        snprintf(path, sizeof(path), "%s/turn", t_tmp_dir());
        fflush(NULL);
        const pid_t pid = fork();
        if (pid == 0) {
            cn_host    *h = open_host(folder, 2);
            cn_session *s = k_open_session(h, repo, i > 0);
            got = ask(h, s, i);
            FILE     *f = fopen(path, "wb");
            const int bad = !f || fwrite(&got, sizeof(got), 1, f) != 1 || fclose(f);
            cn_session_close(s);
            cn_host_close(h);
            _exit(bad);
        }
        int status;
        waitpid(pid, &status, 0);
        t_note("turn %d in a process of its own", i);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        FILE *f = fopen(path, "rb");
        assert_true(f && fread(&got, sizeof(got), 1, f) == 1);
        fclose(f);
        k_assert_same(&want[i], &got, "in another process");
        assert_int_equal(got.bill.prefilled_tokens, i ? 0 : want[0].bill.prefilled_tokens);
    }
}

/* Tokens of documents that are in one list of keys and not in the other. */
typedef struct keys {
    cn_hash key[512];
    int32_t tokens[512];
    int     count;
} keys;

static keys keys_of(cn_session *s) {
    keys        k = {.count = 0};
    cn_context *c = cn_session_context(s);
    for (int64_t i = 0; i < cn_context_docs(c) && k.count < 512; i++) {
        k.key[k.count] = cn_context_doc_at(c, i)->piece.key;
        k.tokens[k.count++] = cn_context_doc_at(c, i)->piece.tokens;
    }
    return k;
}

static int64_t tokens_only_in(const keys *a, const keys *b) {
    int64_t tokens = 0;
    for (int i = 0; i < a->count; i++) {
        bool found = false;
        for (int j = 0; j < b->count; j++) found |= cn_hash_is_equal(&a->key[i], &b->key[j]);
        if (!found) tokens += a->tokens[i];
    }
    return tokens;
}

static void test_only_what_changed_is_prefilled(void **state) {
    (void)state;
    const char *repo = k_new_repo();
    cn_host    *h = open_host(k_new_state(), 2);
    cn_session *s = k_open_session(h, repo, false);
    ask(h, s, 0);
    const keys before = keys_of(s);

    t_shell("cd %s && sed -i '20i // one more line' base/buf.c", repo);
    k_asked a = ask(h, s, 1);
    keys    after = keys_of(s);
    assert_true(a.bill.prefilled_tokens > 0);
    assert_int_equal(a.bill.prefilled_tokens, tokens_only_in(&after, &before));
    assert_int_equal(a.bill.misses[CN_MISS_CHANGED].tokens, a.bill.prefilled_tokens);
    assert_int_equal(a.bill.context_tokens, a.bill.cached_tokens + a.bill.prefilled_tokens);

    // Committed: the same bytes, nothing to do.  Back again: nothing either.
    t_shell("cd %s && git commit -qam two", repo);
    assert_int_equal(ask(h, s, 2).bill.prefilled_tokens, 0);
    t_shell("cd %s && git checkout -q HEAD~1", repo);
    assert_int_equal(ask(h, s, 3).bill.prefilled_tokens, 0);
    after = keys_of(s);
    assert_int_equal(tokens_only_in(&after, &before), 0);

    // Another branch with a new file, and back.
    t_shell(
        "cd %s && git checkout -q -b side && printf 'int added(void)\\n{\\n    return 1;\\n}\\n' > "
        "added.c && git add added.c && git commit -qm three",
        repo);
    a = ask(h, s, 4);
    after = keys_of(s);
    assert_int_equal(a.bill.prefilled_tokens, tokens_only_in(&after, &before));
    assert_int_equal(a.bill.misses[CN_MISS_NEW].count, 1);
    t_shell("cd %s && git checkout -q HEAD~1", repo);
    assert_int_equal(ask(h, s, 5).bill.prefilled_tokens, 0);

    // Logits after all of that: those of a fresh session that asks the same over the same view.
    cn_session_close(s);
    cn_host_close(h);
}

/* Turns taken back and asked again: the same bits, whether the session keeps its pages or not. */
static void test_turns_are_taken_back(void **state) {
    (void)state;
    const char    *repo = k_new_repo();
    k_asked        want[TURNS], got;
    cn_pages_stats stats;
    run_plain(repo, want);
    for (int is_trial = 0; is_trial < 2; is_trial++) {
        cn_host    *h = open_host(k_new_state(), 1);
        cn_session *s;
        assert_err(cn_session_open(&s, h, &(cn_session_opts){.folder = repo, .is_trial = is_trial},
                                   &t_diag),
                   CN_OK);
        for (int i = 0; i < 3; i++) ask(h, s, i);
        const int64_t tokens = cn_session_tokens(s);
        assert_err(cn_session_rewind(s, 4, &t_diag), CN_ENOTFOUND);
        assert_int_equal(cn_session_tokens(s), tokens);
        assert_err(cn_session_rewind(s, 1, &t_diag), CN_OK);
        assert_true(cn_session_tokens(s) > 0 && cn_session_tokens(s) < tokens);
        got = ask(h, s, 1);
        k_assert_same(&want[1], &got, "behind the first turn");
        assert_err(cn_session_rewind(s, 0, &t_diag), CN_OK);
        assert_int_equal(cn_session_tokens(s), 0);
        for (int i = 0; i < TURNS; i++) {
            got = ask(h, s, i);
            k_assert_same(&want[i], &got, "from the beginning");
            assert_int_equal(got.bill.prefilled_tokens, 0);
            assert_int_equal(got.bill.cached_tokens, want[i].bill.context_tokens);
        }
        // A trial looks at the folder once, and keeps the conversation's pages to itself.
        t_shell("cd %s && echo 'int more;' >> base/buf.c", repo);
        got = ask(h, s, 0);
        assert_int_equal(got.bill.prefilled_tokens == 0, is_trial);
        t_shell("cd %s && git checkout -q .", repo);
        assert_err(cn_pages_stat(h->pages, &stats, &t_diag), CN_OK);
        assert_int_equal(stats.windows == 0, is_trial);
        cn_session_close(s);
        cn_host_close(h);
    }
}

static void test_one_writer(void **state) {
    (void)state;
    const char *repo = k_new_repo();
    cn_host    *h = open_host(k_new_state(), 1);
    cn_session *s = k_open_session(h, repo, false), *second;
    ask(h, s, 0);
    assert_err(
        cn_session_open(&second, h, &(cn_session_opts){.id = cn_session_row(s)->id}, &t_diag),
        CN_EBUSY);
    assert_err(cn_session_open(&second, h, &(cn_session_opts){.id = "nobody"}, &t_diag),
               CN_ENOTFOUND);
    assert_err(
        cn_session_open(&second, h, &(cn_session_opts){.folder = "/nowhere/at/all"}, &t_diag),
        CN_ENOTFOUND);
    cn_session_close(s);
    cn_host_close(h);
}

/* The process dies at the n-th fault point of a turn: the session opens, says so, goes on, and
 * no finished turn is lost. */
static void test_a_crash_loses_no_finished_turn(void **state) {
    (void)state;
    const char *repo = k_new_repo();
    k_asked     want[TURNS];
    run_plain(repo, want);
    const int step = t_is_sanitized() ? 23 : 5; // the long form tries each point
    for (int n = 1, ended = 0; !ended; n += step) {
        const char *folder = k_new_state();
        cn_host    *h = open_host(folder, 1);
        cn_session *s = k_open_session(h, repo, false);
        ask(h, s, 0);
        cn_session_close(s);
        cn_host_close(h);
        fflush(NULL);
        const pid_t pid = fork();
        if (pid == 0) {
            cn_fault_arm(CN_FAULT_CRASH, n);
            h = open_host(folder, 1);
            s = k_open_session(h, repo, true);
            ask(h, s, 1);
            cn_session_close(s);
            cn_host_close(h);
            _exit(0);
        }
        int status;
        waitpid(pid, &status, 0);
        t_note("crash at point %d", n);
        ended = WIFEXITED(status);
        if (ended) assert_int_equal(WEXITSTATUS(status), 0);
        h = open_host(folder, 1);
        s = k_open_session(h, repo, true);
        const int32_t turns = cn_session_row(s)->turns;
        assert_true(turns == 1 || turns == 2);
        assert_true(turns == 2 || !cn_session_interrupted(s));
        if (ended) {
            const k_asked got = ask(h, s, 2);
            k_assert_same(&want[2], &got, "nothing happened");
        } else if (turns == 1) { // it died before its turn was on disk
            const k_asked got = ask(h, s, 1);
            k_assert_same(&want[1], &got, "k_asked again");
        } else {
            ask(h, s, 2);
        }
        cn_session_close(s);
        cn_host_close(h);
        t_shell("rm -rf %s", folder);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_arms_have_no_sessions),
        cmocka_unit_test(test_a_state_folder_is_named),
        cmocka_unit_test(test_same_bits_whatever_happens),
        cmocka_unit_test(test_paths_share_no_page),
        cmocka_unit_test(test_same_bits_in_other_processes),
        cmocka_unit_test(test_only_what_changed_is_prefilled),
        cmocka_unit_test(test_turns_are_taken_back),
        cmocka_unit_test(test_one_writer),
        cmocka_unit_test(test_a_crash_loses_no_finished_turn),
    };
    k_isa = t_isa();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

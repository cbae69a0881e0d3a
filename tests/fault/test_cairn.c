/*
 * test_cairn.c - The same with the program itself and its default model: cairn ask, chat and
 * context, killed at any moment.
 *
 * After each death the next cairn says what was interrupted and answers, the ledger is whole,
 * and the finished turns are, to the token, those of a conversation that nobody disturbed.
 *
 *   test_cairn               the short form
 *   test_cairn soak KILLS SEED
 */
#include "tests/fault/actor.h"
#include "tests/runtime/cairn.h"

enum { QUESTIONS = 6, CHAT = 4 /* those from here on are asked by one cairn chat */ };

static const char *const questions[QUESTIONS] = {
    "Where is walk defined?",   "What files are here?",     "Find height", "Show walk",
    "Who last changed walk.c?", "What is the value of two?"};

static char   repo[T_PATH_BYTES];
static talk   want;
static double command_ms;
static long   kills, interrupted, turns_checked;

static void ledger_folder(char out[T_PATH_BYTES + 16], const char *state) {
    snprintf(out, T_PATH_BYTES + 16, "%s/ledger", state);
}

/* The conversation as the ledger has it, and whether its last turn is open.  No session: none. */
static talk read_talk(const char *state, bool *is_open_out) {
    char               dir[T_PATH_BYTES + 16];
    cn_ledger         *l;
    cn_ledger_session *row;
    talk               t = {.turns = 0};
    *is_open_out = false;
    ledger_folder(dir, state);
    if (access(dir, F_OK)) return t;
    assert_err(cn_ledger_open(&l, &(cn_ledger_opts){.dir = dir}, &t_diag), CN_OK);
    assert_err(cn_ledger_verify(l, &t_diag), CN_OK);
    if (cn_ledger_session_latest(l, NULL, &row, &t_diag) == CN_OK) {
        t = talk_of(l, row->id);
        *is_open_out = row->open_turn != 0;
        cn_ledger_session_free(row);
    }
    cn_ledger_close(l);
    return t;
}

/* Take back all behind the first `turns` turns. */
static void take_turns_back(const char *state, int turns) {
    char               dir[T_PATH_BYTES + 16];
    bool               is_open;
    cn_ledger         *l;
    cn_ledger_writer  *w;
    cn_ledger_session *row;
    talk               t = read_talk(state, &is_open);
    ledger_folder(dir, state);
    if (t.turns > turns) {
        assert_err(cn_ledger_open(&l, &(cn_ledger_opts){.dir = dir}, &t_diag), CN_OK);
        assert_err(cn_ledger_session_latest(l, NULL, &row, &t_diag), CN_OK);
        assert_err(cn_ledger_writer_open(&w, l, row->id, NULL, &t_diag), CN_OK);
        assert_err(cn_ledger_rewind(w, turns ? t.number[turns - 1] : 0, &t_diag), CN_OK);
        cn_ledger_writer_close(w);
        cn_ledger_session_free(row);
        cn_ledger_close(l);
    }
    talk_release(&t);
}

/* ---- Commands ------------------------------------------------------------------------- */

/* The command that comes behind `turns` turns; the view is edited on the way. */
static void next_command(char *out, size_t bytes, const char *state, int turns, bool has_session) {
    int at = snprintf(out, bytes, "exec %s %s --state %s -C %s %s --max-tokens 24", t_cairn_path(),
                      turns < CHAT ? "ask" : "chat", state, repo, has_session ? "-c" : "");
    if (turns < CHAT) {
        snprintf(out + at, bytes - (size_t)at, " '%s'", questions[turns]);
        return;
    }
    at += snprintf(out + at, bytes - (size_t)at, " <<'END'\n");
    for (int i = turns; i < QUESTIONS; i++)
        at += snprintf(out + at, bytes - (size_t)at, "%s\n", questions[i]);
    snprintf(out + at, bytes - (size_t)at, "/quit\nEND\n");
}

static pid_t start_shell(const char *command, const char *fault) {
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (fault) setenv("CAIRN_FAULT", fault, 1);
        const int out = open("/dev/null", O_WRONLY);
        dup2(out, STDOUT_FILENO);
        dup2(out, STDERR_FILENO);
        execl("/bin/sh", "sh", "-c", command, NULL);
        _exit(127);
    }
    return pid;
}

/* Behind the second question a file leaves the view, behind the third it comes back. */
static void edit_view(const char *state, int turns) {
    if (turns != 2 && turns != 3) return;
    const t_result *r =
        t_cairn("context %s --state %s -C %s -c two.c", turns == 2 ? "drop" : "add", state, repo);
    if (r->status) t_fail(__FILE__, __LINE__, "%s", r->output);
}

static bool is_wanted(const talk *t, int turns) {
    for (int i = 0; i < turns; i++)
        if (t->text[i].bytes != want.text[i].bytes ||
            memcmp(t->text[i].data, want.text[i].data, t->text[i].bytes) != 0)
            t_fail(__FILE__, __LINE__, "turn %d has changed:\n%.400s\nwas\n%.400s", i + 1,
                   t->text[i].data, want.text[i].data);
    return true;
}

/* A conversation; `deaths` commands of it are killed. */
static talk converse(const char *state, long deaths) {
    char command[4096], fault[32];
    bool is_open;
    talk t = read_talk(state, &is_open);
    while (t.turns < QUESTIONS) {
        const int     turns = t.turns;
        const int64_t begin = cn_clock_ns();
        int           status;
        const char   *how = deaths > 0 && t_rand() % 3 == 0 ? fault : NULL;
        snprintf(fault, sizeof(fault), "crash:%d", (int)t_rand_range(1, 2500));
        edit_view(state, turns);
        next_command(command, sizeof(command), state, turns, turns > 0);
        const pid_t pid = start_shell(command, how);
        if (deaths > 0 && !how) {
            const int64_t ns = t_rand_range(0, (int64_t)(command_ms * 1.3e6));
            nanosleep(&(struct timespec){ns / 1000000000, ns % 1000000000}, NULL);
            kill(pid, SIGKILL);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        const bool is_dead = WIFSIGNALED(status);
        t_note("%s killed behind turn %d: %s", is_dead ? "" : "not", turns, command);
        if (!is_dead) assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        kills += is_dead;
        deaths -= is_dead;
        talk_release(&t);
        t = read_talk(state, &is_open);
        const int finished = finished_of(&t);
        assert_true(finished >= turns && (is_dead || finished > turns));
        if (want.turns) is_wanted(&t, finished);
        turns_checked += finished;
        if (!want.turns) command_ms += (double)(cn_clock_ns() - begin) / 1e6 / (CHAT + 1);
        if (t.turns > finished) { // said, and nothing stands in the way of the next question
            const t_result *r =
                t_cairn("ask --state %s -C %s -c --max-tokens 8 'And now?'", state, repo);
            if (is_open != (strstr(r->output, "was interrupted") != NULL) || r->status)
                t_fail(__FILE__, __LINE__, "turn %d %s open: %s", finished + 1,
                       is_open ? "is" : "is not", r->output);
            interrupted++;
            take_turns_back(state, finished);
            talk_release(&t);
            t = read_talk(state, &is_open);
            assert_int_equal(t.turns, finished);
        }
    }
    return t;
}

static const char *new_place(void) {
    static k_paths made;
    return k_new_path(&made, "state");
}

static int make_reference(void **state) {
    (void)state;
    snprintf(repo, sizeof(repo), "%s/repo", t_tmp_dir());
    t_walk_repo(repo);
    want = converse(new_place(), 0);
    assert_int_equal(finished_of(&want), QUESTIONS);
    return 0;
}

static int drop_reference(void **state) {
    (void)state;
    talk_release(&want);
    return 0;
}

static void kill_cairns(long wanted) {
    kills = 0;
    while (kills < wanted) {
        const char *place = new_place();
        talk        t = converse(place, wanted - kills < 8 ? wanted - kills : 8);
        is_wanted(&t, QUESTIONS);
        talk_release(&t);
        t_shell("rm -rf %s", place);
    }
}

static void test_cairn_is_killed_and_goes_on(void **state) {
    (void)state;
    t_seed(3);
    kill_cairns(t_is_sanitized() ? 2 : 3);
}

static long soak_kills;

static void test_soak(void **state) {
    (void)state;
    const int64_t begin = cn_clock_ns();
    kill_cairns(soak_kills);
    printf("soak: %ld kills of cairn, %ld turns checked, %ld interrupted, %.1f minutes\n", kills,
           turns_checked, interrupted, (double)(cn_clock_ns() - begin) / 6e10);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cairn_is_killed_and_goes_on)};
    const struct CMUnitTest soak[] = {cmocka_unit_test(test_soak)};
    if (argc == 4 && strcmp(argv[1], "soak") == 0) {
        soak_kills = atol(argv[2]);
        t_seed((uint64_t)atoll(argv[3]));
        return cmocka_run_group_tests(soak, make_reference, drop_reference);
    }
    return cmocka_run_group_tests(tests, make_reference, drop_reference);
}

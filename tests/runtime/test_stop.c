/*
 * test_stop.c - cairn ask with its input in a pipe and its end from outside: signals, and
 * readers that go away.
 */
#include "tests/runtime/cairn.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

static char repo[256], state[256];

/* The default model by the reference path: an answer takes seconds, wherever this runs. */
#define SLOW "--isa ref"
static const char long_question[] = "Show the function walk";

static int set_up(void **unused) {
    (void)unused;
    snprintf(repo, sizeof(repo), "%s/repo", t_tmp_dir());
    snprintf(state, sizeof(state), "%s/state", t_tmp_dir());
    t_walk_repo(repo);
    return 0;
}

static int64_t size_of(const char *name) {
    char        path[512];
    struct stat st;
    snprintf(path, sizeof(path), "%s/%s", t_tmp_dir(), name);
    return stat(path, &st) == 0 ? st.st_size : 0;
}

/* A command, its streams in files of the scratch folder. */
static pid_t begin(const char *fmt, ...) {
    char    arguments[1024], command[PATH_MAX + 2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(arguments, sizeof(arguments), fmt, args);
    va_end(args);
    snprintf(command, sizeof(command), "cd %s && exec %s %s", t_tmp_dir(), t_cairn_path(),
             arguments);
    t_note("%s", command);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    return pid;
}

/* Until the file has something in it; fails the test if the process ends first. */
static void wait_for_output(pid_t pid, const char *name) {
    int status;
    while (size_of(name) == 0) {
        if (waitpid(pid, &status, WNOHANG) != 0)
            t_fail(__FILE__, __LINE__, "it ended with %d and said nothing", status);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
}

static int end_of(pid_t pid) {
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* The last turn of the latest session: its stop, and the bytes of its text. */
static void assert_last_turn(const char *stop, size_t bytes_min, size_t bytes_max) {
    cn_json_doc   *doc;
    const cn_json *t = t_turn_of(state, 0, &doc);
    assert_string_equal(cn_json_string(cn_json_get(t, "stop")), stop);
    const size_t bytes = strlen(cn_json_string(cn_json_get(t, "text")));
    if (bytes < bytes_min || bytes > bytes_max)
        t_fail(__FILE__, __LINE__, "an answer of %zu bytes", bytes);
    cn_json_free(doc);
}

enum { WHOLE_BYTES = 150 }; // the answer has more; a stopped one must have less

/* Until the ledger has a turn of this number, finished or not. */
static void wait_for_turn(int turn) {
    for (int64_t turns = 0; turns < turn;) {
        cn_json_doc *doc = t_last_line(t_cairn("sessions --json --state %s", state));
        assert_true(
            cn_json_int64(cn_json_get(cn_json_first(t_member(doc, "sessions")), "turns"), &turns));
        cn_json_free(doc);
    }
}

/* In the middle of the answer: it ends there, the ledger says so, the status is 130, and the
 * session goes on. */
static void test_interrupt(void **unused) {
    (void)unused;
    pid_t pid = begin("ask " SLOW " -C %s --state %s '%s' >out 2>err", repo, state, long_question);
    wait_for_output(pid, "out");
    kill(pid, SIGINT);
    int status = end_of(pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 130);
    assert_last_turn("cancel", 1, WHOLE_BYTES);
    t_shell("grep -q '^turn 1 · stopped: cancel' %s/err", t_tmp_dir());

    // What the bound is worth: a whole answer, by the fast path and in the same session.
    const t_result *r = t_cairn("ask -c --json -C %s --state %s '%s'", repo, state, long_question);
    assert_int_equal(r->status, 0);
    cn_json_doc *doc = t_last_line(r);
    assert_int_equal(t_int(doc, "turn"), 2);
    cn_json_free(doc);
    assert_last_turn("end", WHOLE_BYTES + 1, 2 * WHOLE_BYTES);

    // With --json nothing is said until the end: then the object, all the same.
    pid = begin("ask -c --json " SLOW " -C %s --state %s '%s' >json 2>err", repo, state,
                long_question);
    wait_for_turn(3);
    kill(pid, SIGINT);
    status = end_of(pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 130);
    t_shell("grep -q '\"turn\":3,.*\"stop\":\"cancel\"' %s/json", t_tmp_dir());
}

/* Asked to leave: the turn is finished in the ledger, then it dies of the signal. */
static void test_terminate(void **unused) {
    (void)unused;
    t_shell("rm -f %s/out", t_tmp_dir());
    const pid_t pid =
        begin("ask " SLOW " -C %s --state %s '%s' >out 2>err", repo, state, long_question);
    wait_for_output(pid, "out");
    kill(pid, SIGTERM);
    const int status = end_of(pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    assert_last_turn("cancel", 1, WHOLE_BYTES);
}

/* The reader goes away after the first bytes: no message, the turn cancelled, and the end that
 * a shell expects of it (141); a chat in a pipe leaves as well. */
static void test_a_reader_goes_away(void **unused) {
    (void)unused;
    const struct {
        const char *before, *command, *after;
    } ways[] = {{"", "ask", "'Show the function walk'"},
                {"printf 'Show the function walk\\nWhere is walk?\\n' |", "chat", ""}};
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        t_shell("cd %s && { %s { %s %s " SLOW " -C %s --state %s %s 2>err; echo $? >status; } | "
                "head -c 4 >out; }",
                t_tmp_dir(), ways[i].before, t_cairn_path(), ways[i].command, repo, state,
                ways[i].after);
        t_shell("[ $(cat %s/status) = 141 ]", t_tmp_dir());
        t_shell("! grep -v '^turn 1 · stopped: cancel' %s/err", t_tmp_dir());
        assert_last_turn("cancel", 1, WHOLE_BYTES);
    }
    // A full disk is no reader that went away.
    t_shell("cd %s && ! %s ask -C %s --state %s --max-tokens 4 x >/dev/full 2>err && "
            "grep -q 'EIO: the answer cannot be written' err",
            t_tmp_dir(), t_cairn_path(), repo, state);
}

static void assert_question(const char *want, size_t bytes) {
    cn_json_doc *doc;
    const char  *question = cn_json_string(cn_json_get(t_turn_of(state, 0, &doc), "question"));
    assert_int_equal(strlen(question), bytes);
    assert_int_equal(strncmp(question, want, strlen(want)), 0);
    cn_json_free(doc);
}

static void test_a_question_from_stdin(void **unused) {
    (void)unused;
    t_shell("printf 'two\\nlines\\n\\n' >%s/in", t_tmp_dir());
    assert_int_equal(
        t_cairn("ask -C %s --state %s --max-tokens 4 - <%s/in", repo, state, t_tmp_dir())->status,
        0);
    assert_question("two\nlines", 9);
    t_shell("head -c 20000 /dev/zero | tr '\\0' x >%s/in", t_tmp_dir());
    assert_int_equal(
        t_cairn("ask -C %s --state %s --max-tokens 4 - <%s/in", repo, state, t_tmp_dir())->status,
        0);
    assert_question("xxx", 20000);
    t_shell("head -c 1048577 /dev/zero >%s/in", t_tmp_dir());
    t_assert_error(t_cairn("ask --json -C %s --state %s - <%s/in", repo, state, t_tmp_dir()),
                   "ETOOBIG", "1048576");
    assert_int_equal(t_cairn("ask -C %s --state %s - </dev/null", repo, state)->status, 2);
    assert_int_equal(t_cairn("ask -C %s --state %s ''", repo, state)->status, 2);
    t_assert_error(t_cairn("ask --json -C %s --state %s - <%s", repo, state, repo), "EIO", "stdin");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_terminate),
        cmocka_unit_test(test_a_reader_goes_away),
        cmocka_unit_test(test_a_question_from_stdin),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}

/*
 * test_sessions.c - cairn sessions as its users see it, over real processes: forks, ways back,
 * exports, several processes at once, and what is left when half of the state folder is gone.
 */
#include "tests/runtime/cairn.h"

#include <fcntl.h>
#include <signal.h>

enum { BUDGET = 1024 };

static char repo[T_PATH_BYTES], state[T_PATH_BYTES], model[T_PATH_BYTES];

static int find_model(void **unused) {
    (void)unused;
    snprintf(model, sizeof(model), "%s/examples/models/cairn-nano", t_source_dir());
    return 0;
}

static int new_repo(void **unused) {
    (void)unused;
    t_new_repo(repo, state);
    return 0;
}

static cn_json_doc *done(const t_result *r) {
    if (r->status) t_fail(__FILE__, __LINE__, "%s", r->output);
    return t_last_line(r);
}

/* One turn in a process of its own. */
static cn_json_doc *ask(const char *where, const char *question) {
    return done(t_cairn("ask --json --model %s --state %s -C %s --max-tokens 12 %s '%s'", model,
                        state, repo, where, question));
}

/* `cairn sessions ARGUMENTS --json`. */
#define sessions(fmt, ...) t_cairn("sessions " fmt " --json --state %s", __VA_ARGS__, state)

typedef struct said {
    char    id[64], text[512];
    int64_t turn, prefilled, prompt;
} said;

static said say(const char *where, const char *question) {
    said         s;
    cn_json_doc *doc = ask(where, question);
    snprintf(s.id, sizeof(s.id), "%s", cn_json_string(t_member(doc, "session")));
    snprintf(s.text, sizeof(s.text), "%s", cn_json_string(t_member(doc, "text")));
    s.turn = t_int(doc, "turn");
    s.prefilled = t_int(doc, "bill.prefilled_tokens");
    s.prompt = t_int(doc, "bill.prompt_tokens");
    cn_json_free(doc);
    return s;
}

static said begin(const char *question) {
    char first[32];
    snprintf(first, sizeof(first), "--budget %d", BUDGET);
    return say(first, question);
}

static void take_id(const t_result *r, char out[64]) {
    cn_json_doc *doc = done(r);
    snprintf(out, 64, "%s", cn_json_string(t_member(doc, "session")));
    cn_json_free(doc);
}

static void test_fork_and_rewind(void **unused) {
    (void)unused;
    const said one = begin("Where is cn_buf_put defined?"), two = say("-c", "Find cn_fail"),
               three = say("-c", "Show the last commits");
    char where[80], fork[64], again[64];
    take_id(sessions("fork %.6s --at 1", one.id), fork);
    assert_string_not_equal(fork, one.id);
    snprintf(where, sizeof(where), "-s %s", fork);
    said got = say(where, "Find cn_fail");
    assert_string_equal(got.text, two.text);
    assert_true(got.turn == 2 && got.prefilled == 0 && got.prompt == two.prompt);

    // -c is the fork now, for it was written last; without --at all of it.
    take_id(sessions("fork -c -C %s", repo), again);
    cn_json_doc *doc = done(sessions("show -s %s", again));
    assert_string_equal(cn_json_string(t_member(doc, "parent")), fork);
    assert_int_equal(t_int(doc, "forked_at"), 2);
    assert_int_equal(cn_json_count(t_member(doc, "turns")), 2);
    cn_json_free(doc);

    // The first session never noticed.  Taken back, it says the same again.
    doc = done(sessions("rewind %s --to 2", one.id));
    assert_int_equal(t_int(doc, "taken_back"), 1);
    cn_json_free(doc);
    snprintf(where, sizeof(where), "-s %.8s", one.id);
    got = say(where, "Show the last commits");
    assert_string_equal(got.text, three.text);
    assert_true(got.turn == 4 && got.prefilled == 0);

    // Rows alone: no model is there.
    const t_result *r =
        t_cairn("sessions fork %s --at 2 --model /nowhere --state %s", one.id, state);
    assert_int_equal(r->status, 0);
    assert_non_null(strstr(r->output, "behind turn 2"));
}

/* The same at the prompt: /fork goes on as the new session, /rewind takes back the last turn. */
static void test_fork_and_rewind_in_chat(void **unused) {
    (void)unused;
    const said one = begin("Where is cn_buf_put defined?"), two = say("-c", "Find cn_fail");
    t_shell(
        "printf '/fork 1\\nFind cn_fail\\n/rewind\\nFind cn_fail\\n/rewind 9\\n/fork x\\n/fork\\n' "
        ">%s.in",
        state);
    t_shell(
        "%s chat --json --model %s --state %s -r %s --max-tokens 12 <%s.in >%s.out 2>/dev/null; "
        "test $? = 2",
        t_cairn_path(), model, state, one.id, state, state);
    char  *text, *save = NULL;
    size_t bytes;
    char   path[T_PATH_BYTES + 8], fork[64] = "";
    snprintf(path, sizeof(path), "%s.out", state);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    text = calloc(1, 1 << 18);
    bytes = fread(text, 1, (1 << 18) - 1, f);
    fclose(f);
    assert_true(bytes > 0);
    static const struct {
        const char *member; // that tells one answer from another
        int64_t     turn;
    } want[] = {{"parent", 1}, {"text", 2},  {"parent", 1},
                {"text", 3},   {"error", 0}, {"parent", 3}};
    int i = 0;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), i++) {
        const cn_json_limits limits = {1 << 18, 16, 100000};
        cn_json_doc         *doc;
        assert_true(i < 6);
        assert_err(cn_json_parse(&doc, line, strlen(line), "line", &limits, &t_diag), CN_OK);
        if (!cn_json_get(cn_json_root(doc), want[i].member)) t_fail(__FILE__, __LINE__, "%s", line);
        if (want[i].turn) assert_int_equal(t_int(doc, "turn"), want[i].turn);
        if (i == 0) snprintf(fork, sizeof(fork), "%s", cn_json_string(t_member(doc, "session")));
        if (i == 1 || i == 3) {
            assert_string_equal(cn_json_string(t_member(doc, "session")), fork);
            assert_string_equal(cn_json_string(t_member(doc, "text")), two.text);
            assert_int_equal(t_int(doc, "bill.prompt_tokens"), two.prompt);
        }
        if (i == 5) assert_string_equal(cn_json_string(t_member(doc, "parent")), fork);
        cn_json_free(doc);
    }
    assert_int_equal(i, 6);
    assert_string_not_equal(fork, one.id);
    free(text);
}

static void test_names_and_removal(void **unused) {
    (void)unused;
    const said one = begin("Where is cn_buf_put defined?");
    char       fork[64];
    cn_json_free(done(sessions("rename -c -C %s 'two words'", repo)));
    take_id(sessions("fork %s", one.id), fork);
    const t_result *r = t_cairn("sessions --state %s", state);
    assert_non_null(strstr(r->output, "two words"));
    assert_non_null(strstr(r->output, "(fork of "));
    r = t_cairn("sessions list -C %s -n 1 --json --state %s", repo, state);
    cn_json_doc *doc = done(r);
    assert_int_equal(cn_json_count(t_member(doc, "sessions")), 1);
    cn_json_free(doc);
    r = t_cairn("sessions list -C %s --json --state %s", t_tmp_dir(), state); // nobody was there
    doc = done(r);
    assert_int_equal(cn_json_count(t_member(doc, "sessions")), 0);
    cn_json_free(doc);

    t_assert_error(sessions("rm %s", one.id), "EINVAL", fork);
    doc = done(sessions("rm %s --dry-run", fork));
    cn_json_free(doc);
    cn_json_free(done(sessions("rm %s", fork)));
    t_assert_error(sessions("show %s", fork), "ENOTFOUND", fork);
    doc = done(sessions("rm %s", one.id));
    assert_int_equal(t_int(doc, "turns"), 1);
    cn_json_free(doc);
    doc = done(sessions("list%s", ""));
    assert_int_equal(cn_json_count(t_member(doc, "sessions")), 0);
    cn_json_free(doc);
}

/* What a person reads of a turn: question, calls, answer, cost line, in this order. */
static void test_show_is_readable(void **unused) {
    (void)unused;
    const said one = begin("Where is cn_buf_put defined?");
    cn_json_free(ask("-c --max-tokens 40", "Find cn_fail"));
    const t_result *r = t_cairn("sessions show %.5s --state %s", one.id, state);
    assert_int_equal(r->status, 0);
    const char *at = r->output;
    const char *order[] = {one.id,         "--- turn 1\n", "Where is cn_buf_put defined?\n",
                           ">>> ",         "turn 1 · ",    "prefilled",
                           "--- turn 2\n", "Find cn_fail", ">>> ",
                           "turn 2 · "};
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        at = strstr(at, order[i]);
        if (!at) t_fail(__FILE__, __LINE__, "no %s in order in: %s", order[i], r->output);
    }
}

static void test_wrong_usage(void **unused) {
    (void)unused;
    static const char *const wrong[] = {
        "show",         "fork",       "fork -c x",    "rewind -c",     "rewind a b --to 1",
        "rename a",     "rename -c",  "rm",           "rm a b",        "export",
        "export a b c", "import a b", "show -c -s x", "fork a --at x", "list x",
        "dance"};
    begin("What is here?");
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(sessions("%s", wrong[i])->status, 2);
    t_assert_error(sessions("fork -c -C %s --at 9", repo), "ENOTFOUND", "no turn 9");
    t_assert_error(sessions("rewind -c -C %s --to 9", repo), "ENOTFOUND", "no turn 9");
    t_assert_error(sessions("import %s/nothing", t_tmp_dir()), "ENOTFOUND", "nothing");
}

/* The files but for the session's id. */
static void assert_same_files(const char *a, const char *b) {
    t_shell("sed 1s/'\"id\":\"[^\"]*\"'// %s >%s.x && sed 1s/'\"id\":\"[^\"]*\"'// %s >%s.x && "
            "cmp %s.x %s.x",
            a, a, b, b, a, b);
}

static void test_export_and_import(void **unused) {
    (void)unused;
    char a[T_PATH_BYTES + 8], b[T_PATH_BYTES + 8], half[T_PATH_BYTES + 16], other[T_PATH_BYTES],
        id[64], where[80];
    const said one = begin("caf\xe9 \x01?"); // no UTF-8
    cn_json_free(ask("-c --max-tokens 40", "Where is cn_buf_put defined?"));
    snprintf(a, sizeof(a), "%s.a", state), snprintf(b, sizeof(b), "%s.b", state);
    snprintf(other, sizeof(other), "%.400s.other", state);
    cn_json_doc *doc = done(sessions("export %.6s %s", one.id, a));
    assert_int_equal(t_int(doc, "turns"), 2);
    cn_json_free(doc);
    t_shell("test $(stat -c %%a %s) = 600 && grep -q base64 %s", a, a);
    t_shell("%s sessions export -c -C %s --state %s | cmp - %s", t_cairn_path(), repo, state, a);
    const said three = say("-c", "And what calls it?");

    // Beside it: another id, nothing is computed again.
    take_id(sessions("import %s", a), id);
    assert_string_not_equal(id, one.id);
    cn_json_free(done(sessions("export %s %s", id, b)));
    assert_same_files(a, b);
    snprintf(where, sizeof(where), "-s %s", id);
    said got = say(where, "And what calls it?");
    assert_string_equal(got.text, three.text);
    assert_true(got.turn == 3 && got.prefilled == 0 && got.prompt == three.prompt);

    // Elsewhere, through a pipe: its own id, and all is computed again.
    const t_result *r = t_cairn("sessions import --json --state %s <%s", other, a);
    take_id(r, id);
    assert_string_equal(id, one.id);
    cn_json_free(done(t_cairn("sessions export %s %s --json --state %s", id, b, other)));
    t_shell("cmp %s %s", a, b);
    memcpy(state, other, sizeof(state));
    got = say("-c", "And what calls it?");
    assert_string_equal(got.text, three.text);
    assert_true(got.turn == 3 && got.prefilled > 500 && got.prompt > three.prompt);

    // Half a file is none, and the line is said; a file that cannot be written stays as it was.
    t_shell("head -c 3000 %s >%s.half && cp %s %s", a, a, a, b);
    snprintf(half, sizeof(half), "%s.half", a);
    t_assert_error(sessions("import %s", half), "ECORRUPT", ".half: line ");
    t_assert_error(sessions("export %s /nowhere/at/all/x", one.id), "EIO", "/nowhere");
    t_assert_error(sessions("export nobody %s", b), "ENOTFOUND", "nobody");
    t_shell("cmp %s %s && test -z \"$(ls %s.*.tmp 2>/dev/null)\"", a, b, b);

    // On another repository.
    t_shell("mkdir -p %s.repo", state);
    cn_json_free(done(sessions("import %s -C %s.repo --id mine", a, state)));
    doc = done(sessions("show mine%s", ""));
    snprintf(where, sizeof(where), "%s", strrchr(cn_json_string(t_member(doc, "repo")), '.'));
    assert_string_equal(where, ".repo");
    cn_json_free(doc);
}

/* ---- Two processes --------------------------------------------------------------------- */

/* A `cairn chat` that holds a session: it has answered one question and waits for more. */
typedef struct holder {
    pid_t pid;
    int   to; // its stdin
    char  said[T_PATH_BYTES + 8];
} holder;

static holder hold(const char *id) {
    holder h;
    int    fds[2];
    snprintf(h.said, sizeof(h.said), "%s.said", state);
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    h.pid = fork();
    if (h.pid == 0) {
        const int out = open(h.said, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(fds[0], 0), dup2(out, 1);
        close(fds[1]);
        execl(t_cairn_path(), "cairn", "chat", "--json", "--model", model, "--state", state, "-r",
              id, "--max-tokens", "4", (char *)NULL);
        _exit(127);
    }
    close(fds[0]);
    h.to = fds[1];
    fcntl(h.to, F_SETFD, FD_CLOEXEC);
    assert_true(write(h.to, "what is here?\n", 14) == 14);
    t_shell("for i in $(seq 600); do grep -q bill %s && exit 0; sleep 0.1; done; exit 1", h.said);
    return h;
}

static int let_go(holder *h) {
    int status;
    close(h->to);
    waitpid(h->pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_readers_beside_a_writer(void **unused) {
    (void)unused;
    const said one = begin("Where is cn_buf_put defined?");
    begin("Find cn_fail"); // another session
    holder h = hold(one.id);
    char   pid[32], file[T_PATH_BYTES + 8], where[80];
    snprintf(pid, sizeof(pid), "process %d", (int)h.pid);
    snprintf(file, sizeof(file), "%s.export", state);

    // A second writer is told who it is.
    snprintf(where, sizeof(where), "-s %s", one.id);
    t_assert_error(t_cairn("ask --json --model %s --state %s %s hello", model, state, where),
                   "EBUSY", pid);
    t_assert_error(sessions("rename %s x", one.id), "EBUSY", pid);
    t_assert_error(sessions("rewind %s --to 0", one.id), "EBUSY", pid);
    t_assert_error(sessions("rm %s", one.id), "EBUSY", pid);
    t_assert_error(
        t_cairn("context drop --json --model %s --state %s -s %s base/buf.c", model, state, one.id),
        "EBUSY", pid);

    // Who reads needs nobody.
    cn_json_doc *doc = done(sessions("show %s", one.id));
    assert_int_equal(cn_json_count(t_member(doc, "turns")), 2);
    cn_json_free(doc);
    cn_json_free(done(t_cairn("cost --json -s %s --state %s", one.id, state)));
    cn_json_free(done(t_cairn("cache stat --json --model %s --state %s", model, state)));
    doc = done(t_cairn("context --json --model %s --state %s -s %s", model, state, one.id));
    assert_int_equal(t_int(doc, "missing_tokens"), 0);
    cn_json_free(doc);
    cn_json_free(done(sessions("export %s %s", one.id, file)));
    cn_json_free(done(sessions("fork %s", one.id)));

    // Another session goes on meanwhile: the fork, and the other one.
    assert_int_equal(say("-c", "Find cn_fail").prefilled, 0);
    assert_true(write(h.to, "and now?\n", 9) == 9);
    assert_int_equal(let_go(&h), 0);
    doc = done(sessions("show %s", one.id));
    assert_int_equal(cn_json_count(t_member(doc, "turns")), 3);
    cn_json_free(doc);
    assert_int_equal(say(where, "And then?").turn, 4); // the lock went with it
}

/* ---- Half of the state is gone ----------------------------------------------------------- */

/* Without its cache a session costs a prefill and a replay, and says what it would have said. */
static void test_the_cache_is_deleted(void **unused) {
    (void)unused;
    const said one = begin("Where is cn_buf_put defined?"), two = say("-c", "Find cn_fail"),
               three = say("-c", "And what calls it?");
    const int64_t context = one.prefilled;
    char          where[80], fork[64];
    take_id(sessions("fork %s --at 2", one.id), fork);
    snprintf(where, sizeof(where), "-s %s", fork);
    t_shell("rm -rf %s/cache", state);
    const said got = say(where, "And what calls it?");
    assert_string_equal(got.text, three.text);
    assert_int_equal(got.prefilled, context);
    assert_true(got.prompt > three.prompt + two.prompt);
    assert_int_equal(say(where, "Why?").prefilled, 0);
    cn_json_doc *doc = done(t_cairn("cache stat --json --model %s --state %s", model, state));
    assert_int_equal(t_int(doc, "corrupt"), 0);
    cn_json_free(doc);
}

/* Without its ledger the sessions are gone, which is said once; the cache is as it was. */
static void test_the_ledger_is_deleted(void **unused) {
    (void)unused;
    static const char *const ways[] = {"rm -rf %s/ledger", "rm %s/ledger/ledger.db",
                                       "rm %s/ledger/ledger.db*", "rm -f %s/ledger/ledger.*"};
    const said               one = begin("Where is cn_buf_put defined?");
    assert_true(one.prefilled > 500);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        // A process that was killed leaves its log behind.
        const said before = say(i ? "-c" : "--budget 1024", "What is here?");
        holder     h = hold(before.id);
        kill(h.pid, SIGKILL);
        let_go(&h);
        char command[64];
        snprintf(command, sizeof(command), "%s", ways[i]);
        t_note("%s", command);
        t_shell(ways[i], state);
        const t_result *r = t_cairn("sessions --json --state %s", state);
        assert_non_null(strstr(r->output, "ledger.db is gone"));
        cn_json_doc *doc = done(r);
        assert_int_equal(cn_json_count(t_member(doc, "sessions")), 0);
        cn_json_free(doc);
        assert_null(strstr(t_cairn("sessions --json --state %s", state)->output, "is gone"));
        t_assert_error(
            t_cairn("ask --json --model %s --state %s -C %s -c hello", model, state, repo),
            "ENOTFOUND", "no session on");
        const said after = begin("Where is cn_buf_put defined?");
        assert_string_equal(after.text, one.text);
        assert_true(after.prefilled == 0 && after.turn == 1);
    }
}

/* Under a process that has it open: the next turn is refused, and nothing is half there. */
static void test_the_ledger_is_deleted_in_use(void **unused) {
    (void)unused;
    const said one = begin("Where is cn_buf_put defined?");
    holder     h = hold(one.id);
    t_shell("rm -rf %s/ledger", state);
    assert_true(write(h.to, "and now?\n", 9) == 9);
    assert_int_equal(let_go(&h), 1);
    t_shell("grep -q 'ledger.db was moved or deleted' %s", h.said);
    const said after = begin("Where is cn_buf_put defined?");
    assert_true(after.prefilled == 0 && after.turn == 1);
    assert_string_equal(after.text, one.text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_fork_and_rewind, new_repo),
        cmocka_unit_test_setup(test_fork_and_rewind_in_chat, new_repo),
        cmocka_unit_test_setup(test_names_and_removal, new_repo),
        cmocka_unit_test_setup(test_show_is_readable, new_repo),
        cmocka_unit_test_setup(test_wrong_usage, new_repo),
        cmocka_unit_test_setup(test_export_and_import, new_repo),
        cmocka_unit_test_setup(test_readers_beside_a_writer, new_repo),
        cmocka_unit_test_setup(test_the_cache_is_deleted, new_repo),
        cmocka_unit_test_setup(test_the_ledger_is_deleted, new_repo),
        cmocka_unit_test_setup(test_the_ledger_is_deleted_in_use, new_repo),
    };
    return cmocka_run_group_tests(tests, find_model, NULL);
}

/*
 * test_chat.c - cairn chat as somebody at a terminal sees it, and as a pipe does.
 *
 * The terminal is tmux: keys go in, the screen is read until it shows what is expected, and
 * the raw bytes that the program wrote are kept beside it.  Two models: the default one by
 * the reference path, slow enough to see an answer come and to stop it; and a random one,
 * whose answers are full of control characters.
 */
#include "tests/runtime/cairn.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

enum { SCREEN_BYTES = 1 << 18, WAIT_S = 120, POLL_MS = 20, COLUMNS = 150 };

static const char *dir;                 // of everything below
static char        shown[SCREEN_BYTES]; // what wait_for saw last, scrolled lines included

#define GARBAGE "--model " CN_SOURCE_DIR "/tests/golden/tiny-b --max-tokens 200"

/* ---- The terminal ------------------------------------------------------------------ */

/* One server; a session that waits keeps it while terminals come and go. */
#define TMUX "tmux -S %s/tmux -f /dev/null "

static const char *screen(void) {
    char command[256];
    snprintf(command, sizeof(command), TMUX "capture-pane -t work -p -J -S -500", dir);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    shown[fread(shown, 1, sizeof(shown) - 1, f)] = 0;
    assert_int_equal(pclose(f), 0);
    return shown;
}

static void pause_a_little(void) {
    nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000}, NULL);
}

static int count(const char *text, const char *part) {
    int n = 0;
    for (; (text = strstr(text, part)); text += strlen(part)) n++;
    return n;
}

/* Until the screen shows `text` so many times. */
static void wait_for(const char *text, int times) {
    for (int i = 0; i < WAIT_S * 1000 / POLL_MS; i++, pause_a_little())
        if (count(screen(), text) >= times) return;
    printf("---\n%s---\n", shown);
    t_fail(__FILE__, __LINE__, "the screen does not show \"%s\" %d times", text, times);
}

/* Until the last line with anything on it is `line`. */
static void wait_for_line(const char *line) {
    for (int i = 0; i < WAIT_S * 1000 / POLL_MS; i++, pause_a_little()) {
        size_t end = strlen(screen());
        while (end && (shown[end - 1] == '\n' || shown[end - 1] == ' ')) shown[--end] = 0;
        const char *last = strrchr(shown, '\n');
        if (strcmp(last ? last + 1 : shown, line) == 0) return;
    }
    printf("---\n%s---\n", shown);
    t_fail(__FILE__, __LINE__, "the last line of the screen is not \"%s\"", line);
}

/* tmux's names of keys, each an argument: "'some text' Enter". */
static void keys(const char *names) {
    t_shell(TMUX "send-keys -t work %s", dir, names);
}

/* `cairn ARGUMENTS` in a terminal of its own; what it writes is in DIR/raw. */
static void begin(const char *environment, const char *arguments) {
    t_shell("rm -f %s/raw; " TMUX "kill-session -t work 2>/dev/null; true", dir, dir);
    t_shell(TMUX
            "new-session -s work -d -x %d -y 50 'cd %s/repo; export HOME=%s; printf \"ready\\n\"; "
            "read go; %s %s %s; echo \"left with $?\"; exec cat'",
            dir, COLUMNS, dir, dir, environment, t_cairn_path(), arguments);
    wait_for("ready", 1);
    t_shell(TMUX "pipe-pane -t work 'cat >%s/raw'", dir, dir);
    keys("Enter");
}

static size_t read_raw(char *out, size_t room) {
    char path[256];
    snprintf(path, sizeof(path), "%s/raw", dir);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    const size_t bytes = fread(out, 1, room - 1, f);
    out[bytes] = 0;
    fclose(f);
    return bytes;
}

/* ---- The ledger, from outside ------------------------------------------------------- */

static const cn_json *turn_of(const char *state, int turn, cn_json_doc **doc) {
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", dir, state);
    return t_turn_of(path, turn, doc);
}

static void assert_turn(const char *state, int turn, const char *question, const char *stop) {
    cn_json_doc   *doc;
    const cn_json *t = turn_of(state, turn, &doc);
    assert_string_equal(cn_json_string(cn_json_get(t, "question")), question);
    assert_string_equal(cn_json_string(cn_json_get(t, "stop")), stop);
    cn_json_free(doc);
}

/* ---- Tests ------------------------------------------------------------------------- */

static int set_up(void **unused) {
    (void)unused;
    dir = t_tmp_dir();
    char path[256];
    snprintf(path, sizeof(path), "%s/repo", dir);
    t_walk_repo(path);
    // It ends with us, however we end.
    t_shell(TMUX "new-session -s keep -d 'tail --pid=%d -f /dev/null; tmux -S %s/tmux kill-server'",
            dir, (int)getpid(), dir);
    return 0;
}

static int tear_down(void **unused) {
    (void)unused;
    t_shell(TMUX "kill-server", dir);
    return 0;
}

static char raw[1 << 20];

/* The rate that the last progress line showed, against that of the bill: it counts from the
 * begin of the prefill, not from that of the process, which is older by several turns. */
static void assert_rate(int turn) {
    cn_json_doc   *doc;
    double         ms = 0, shown_rate = 0;
    int64_t        tokens = 0;
    const cn_json *bill = cn_json_get(turn_of("state", turn, &doc), "bill");
    assert_true(cn_json_f64(cn_json_get(cn_json_get(bill, "ms"), "prefill"), &ms));
    assert_true(cn_json_int64(cn_json_get(bill, "prefilled_tokens"), &tokens) && tokens > 0);
    read_raw(raw, sizeof(raw));
    const char *line = raw, *last = NULL;
    for (; (line = strstr(line, "prefill [")); line++) last = line;
    assert_non_null(last);
    last = strstr(last, "tok, ");
    assert_non_null(last);
    shown_rate = strtod(last + 5, NULL);
    t_note("%s", last);
    assert_true(shown_rate >= 0.5 * (double)tokens / (ms / 1e3));
    cn_json_free(doc);
}

/* Ask, see it come, stop it, go on, leave; another process goes on, and knows what was typed. */
static void test_a_conversation(void **unused) {
    (void)unused;
    struct stat st;
    char        path[256];
    begin("TERM=xterm-256color", "chat --isa ref --state $HOME/state");
    wait_for_line(">");
    wait_for("to prefill", 1);
    keys("'Show the function walk' Enter");
    wait_for("int walk(int steps)", 1);          // the answer has begun,
    assert_int_equal(count(shown, "turn 1"), 0); // and is not over:
    assert_int_equal(count(shown, "return height"), 0);
    wait_for("int height", 1); // it comes piece by piece
    assert_int_equal(count(shown, "return height"), 0);
    keys("C-c");
    wait_for("turn 1 · stopped: cancel", 1);
    wait_for_line(">");
    assert_int_equal(count(shown, "return height"), 0);
    assert_turn("state", 1, "Show the function walk", "cancel");

    keys("'Where is walk defined?' Enter"); // the same session goes on
    wait_for("turn 2 ·", 1);
    wait_for_line(">");
    assert_turn("state", 2, "Where is walk defined?", "end");
    t_shell("echo 'int three;' >>%s/repo/two.c", dir);
    keys("'Where is two defined?' Enter");
    wait_for("turn 3 ·", 1);
    wait_for_line(">");
    assert_rate(3);
    keys("C-c");
    wait_for("(Ctrl-D or /quit leaves)", 1);
    keys("/cost Enter");
    wait_for(" turn 3 ", 1);
    keys("/quot Enter");
    wait_for("did you mean /quit?", 1);
    keys("/quit Enter");
    wait_for("left with 0", 1);

    begin("TERM=xterm-256color", "chat -c --isa ref --state $HOME/state");
    wait_for(", 3 turns", 1);
    wait_for(" 0 to prefill", 1);
    wait_for_line(">");
    keys("Up Up Up"); // /quit, /quot, /cost
    wait_for_line("> /cost");
    keys("Up");
    wait_for_line("> Where is two defined?");
    keys("Left Left C-c"); // drops it; what comes next stands below
    wait_for("\n> Where is two defined?\n(Ctrl-D or /quit leaves)\n>", 1);
    keys("Up Up Up Up Up Enter");
    wait_for("turn 4 ·", 1);
    wait_for_line(">");
    assert_turn("state", 4, "Where is walk defined?", "end");
    keys("C-d");
    wait_for("left with 0", 1);
    snprintf(path, sizeof(path), "%s/state/history", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

/* A backslash, and pasted text: one message each. */
static void test_several_lines(void **unused) {
    (void)unused;
    begin("TERM=xterm-256color", "chat --state $HOME/lines " GARBAGE);
    wait_for_line(">");
    keys("'first \\' Enter");
    wait_for_line(".");
    keys("'second' Enter");
    wait_for("turn 1 ·", 1);
    wait_for_line(">");
    assert_turn("lines", 1, "first \nsecond", "length");
    keys("'drop this \\' Enter");
    wait_for_line(".");
    keys("C-c");
    wait_for_line(">");

    t_shell("printf 'one\\n\\ttwo \\303\\244\\nthree' >%s/paste", dir);
    t_shell(TMUX "load-buffer %s/paste", dir, dir);
    keys("'see '");
    t_shell(TMUX "paste-buffer -t work -p", dir);
    wait_for_line("three");
    keys("' end' Enter");
    wait_for("turn 2 ·", 1);
    wait_for_line(">");
    assert_turn("lines", 2, "see one\n\ttwo \303\244\nthree end", "length");

    // More lines than the screen has; and all of it comes back from the history.
    t_shell("for i in $(seq 100); do echo line $i; done >%s/paste", dir);
    t_shell(TMUX "load-buffer %s/paste", dir, dir);
    t_shell(TMUX "paste-buffer -t work -p", dir);
    wait_for("line 100", 1);
    keys("Enter");
    wait_for("turn 3 ·", 1);
    wait_for_line(">");
    cn_json_doc   *doc;
    const cn_json *t = turn_of("lines", 3, &doc);
    assert_int_equal(count(cn_json_string(cn_json_get(t, "question")), "line "), 100);
    cn_json_free(doc);
    keys("Up");
    wait_for_line("line 100");
    keys("C-c");
    wait_for_line(">");
    keys("C-d");
    wait_for("left with 0", 1);
}

/* A file over the limit is cut to its newest entries, with what was entered last. */
static void test_history_is_bounded(void **unused) {
    (void)unused;
    struct stat st;
    char        path[256];
    t_shell("mkdir -m 700 %s/old && { echo _HiStOrY_V2_; seq -f 'entry\\040%%06.0f%s' 60000; } "
            ">%s/old/history",
            dir,
            "\\040and\\040words\\040that\\040fill\\040the\\040line\\040up\\040to\\040its\\040end",
            dir);
    snprintf(path, sizeof(path), "%s/old/history", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size > 4 << 20);
    begin("TERM=xterm-256color", "chat --state $HOME/old " GARBAGE);
    wait_for_line(">");
    keys("/help Enter");
    wait_for("/sessions", 1);
    wait_for_line(">");
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < 1 << 20);
    assert_int_equal(st.st_mode & 0777, 0600);
    keys("Up Up");
    wait_for("entry 060000", 1);
    keys("C-c");
    wait_for_line(">");
    keys("/quit Enter");
    wait_for("left with 0", 1);
    // Nothing was asked: no session is left behind.
    cn_json_doc *doc = t_last_line(t_cairn("sessions --json --state %s/old", dir));
    assert_int_equal(cn_json_count(t_member(doc, "sessions")), 0);
    cn_json_free(doc);
}

/* What a tenant typed comes back to that tenant alone. */
static void test_history_is_a_tenants(void **unused) {
    (void)unused;
    static const char *const tenant[] = {"", "--tenant one", "--tenant two"};
    static const char *const typed[] = {"/zero", "/first", "/second"};
    for (int i = 0; i < 3; i++) {
        char arguments[200];
        snprintf(arguments, sizeof(arguments), "chat --state $HOME/tenants %s " GARBAGE, tenant[i]);
        begin("TERM=xterm-256color", arguments);
        wait_for_line(">");
        keys("Up"); // nothing is there
        keys(typed[i]);
        keys("Enter");
        wait_for("no command ", 1);
        wait_for_line(">");
        for (int other = 0; other < 3; other++)
            assert_int_equal(count(screen(), typed[other]) > 0, other == i);
        keys("/quit Enter");
        wait_for("left with 0", 1);
    }
    t_shell("cd %s/tenants && grep -q zero history && grep -q first history-one && "
            "grep -q second history-two && test $(ls history* | wc -l) = 3",
            dir);
}

/* A question whose answer has an escape character, as a pipe shows: which one that is depends
 * on the arithmetic of this machine. */
static const char *find_harmful(void) {
    static char question[32];
    for (int i = 0; !question[0]; i++) {
        assert_true(i < 100);
        t_shell("cd %s/repo && echo hello %d | %s chat --state %s/harmful " GARBAGE
                " >%s/answer 2>/dev/null",
                dir, i, t_cairn_path(), dir, dir);
        char command[256];
        snprintf(command, sizeof(command), "grep -q \"$(printf '\\033')\" %s/answer", dir);
        if (system(command) == 0) snprintf(question, sizeof(question), "hello %d", i);
    }
    return question;
}

/* Type it, and wait for the end of the answer. */
static void ask_harmful(void) {
    char names[64];
    wait_for_line(">");
    snprintf(names, sizeof(names), "'%s' Enter", find_harmful());
    keys(names);
    wait_for("turn 1 ·", 1);
    wait_for_line(">");
}

/* The answer has escape sequences, and the terminal gets none; a dumb one gets none at all. */
static void test_a_dumb_terminal(void **unused) {
    (void)unused;
    begin("TERM=dumb", "chat --state $HOME/dumb " GARBAGE);
    ask_harmful();
    keys("'first\\' Enter");
    wait_for_line(".");
    keys("C-c");
    wait_for("(Ctrl-D or /quit leaves)", 1);
    wait_for_line(">");
    keys("/tools Enter");
    wait_for("git_log", 1);
    keys("C-d");
    wait_for("left with 0", 1);
    const size_t bytes = read_raw(raw, sizeof(raw));
    assert_true(bytes > 500);
    for (size_t i = 0; i < bytes; i++)
        if (((unsigned char)raw[i] < 0x20 && !strchr("\r\n\t\b", raw[i])) || raw[i] == 0x7F)
            t_fail(__FILE__, __LINE__, "byte %zu that reached the terminal is 0x%02x", i,
                   (unsigned char)raw[i]);
    assert_non_null(strstr(raw, "^[")); // the same answer, made visible
}

/* Styles on a terminal; none with NO_COLOR, and an answer's sequences in neither. */
static void test_colours(void **unused) {
    (void)unused;
    for (int no_color = 0; no_color < 2; no_color++) {
        begin(no_color ? "TERM=xterm-256color NO_COLOR=1" : "TERM=xterm-256color NO_COLOR=",
              "chat --state $HOME/colour " GARBAGE);
        ask_harmful();
        keys("C-d");
        wait_for("left with 0", 1);
        read_raw(raw, sizeof(raw));
        assert_int_equal(strstr(raw, "\033[2m") != NULL, !no_color);
        assert_int_equal(strstr(raw, "\033[1m") != NULL, !no_color);
        // The answer stands between the question and the cost line.
        const char *answer = strstr(raw, "hello"), *cost = strstr(raw, "turn 1");
        assert_true(answer && cost && answer < cost);
        int escapes = 0;
        for (const char *p = answer; p < cost; p++) escapes += *p == '\033';
        assert_non_null(strstr(answer, "^["));
        // Paste marks off, a progress line erased, styles: never as many as the answer has.
        assert_true(escapes <= 12);
    }
}

/* One question a line, in a pipe: answers alone on stdout, no prompt, no escape sequence of
 * ours; with --json one object a turn.  The exit status is the worst. */
static void test_pipes(void **unused) {
    (void)unused;
    const cn_json_limits limits = {1 << 20, 16, 100000};
    t_shell(
        "cd %s/repo && printf 'hello\\n\\nand\\\\\\nmore\\n/tools\\nlast, without an end' >%s/in",
        dir, dir);
    t_shell("cd %s/repo && TERM=xterm-256color %s chat --state %s/pipe --max-tokens 4 <%s/in "
            ">%s/out 2>%s/err",
            dir, t_cairn_path(), dir, dir, dir, dir);
    t_shell("! grep -q \"$(printf '\\033')\" %s/out %s/err", dir, dir);
    t_shell("! grep -q '^>' %s/out && grep -q git_log %s/out", dir, dir);
    t_shell("[ $(grep -c '^turn [123] · stopped: length ·' %s/err) = 3 ]", dir);
    assert_turn("pipe", 2, "and\nmore", "length");
    assert_turn("pipe", 3, "last, without an end", "length");

    const t_result *r =
        t_cairn("chat --json -c -C %s/repo --state %s/pipe --max-tokens 4 <%s/in", dir, dir, dir);
    assert_int_equal(r->status, 0);
    int lines = 0;
    for (const char *p = r->output; *p; p += strcspn(p, "\n") + 1, lines++) {
        cn_json_doc *doc;
        assert_err(cn_json_parse(&doc, p, strcspn(p, "\n"), "a line", &limits, &t_diag), CN_OK);
        if (lines != 2) assert_int_equal(t_int(doc, "turn"), 4 + lines - (lines > 2));
        if (lines == 2) assert_true(cn_json_count(t_member(doc, "tools")) > 3);
        cn_json_free(doc);
    }
    assert_int_equal(lines, 4);

    t_shell("printf '/nothing\nhello\n' >%s/in", dir);
    r = t_cairn("chat -C %s/repo --state %s/pipe --max-tokens 4 <%s/in", dir, dir, dir);
    assert_int_equal(r->status, 2);
    assert_non_null(strstr(r->output, "turn 1")); // and it went on
    t_assert_error(t_cairn("chat --json -C /nowhere/at/all --state %s/pipe </dev/null", dir),
                   "ENOTFOUND", "/nowhere/at/all");
    assert_int_equal(t_cairn("chat -c -r x --state %s/pipe </dev/null", dir)->status, 2);
    t_shell("head -c 1100000 /dev/zero | tr '\\0' x >%s/in", dir);
    r = t_cairn("chat -C %s/repo --state %s/pipe <%s/in", dir, dir, dir);
    assert_int_equal(r->status, 1);
    assert_non_null(strstr(r->output, "1048576"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_conversation),
        cmocka_unit_test(test_several_lines),
        cmocka_unit_test(test_history_is_bounded),
        cmocka_unit_test(test_history_is_a_tenants),
        cmocka_unit_test(test_a_dumb_terminal),
        cmocka_unit_test(test_colours),
        cmocka_unit_test(test_pipes),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

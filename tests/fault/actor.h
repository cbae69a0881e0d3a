/*
 * actor.h - A scripted session in real processes, and what must hold of it whenever one dies.
 *
 * The script is a list of acts, each one turn with what goes before it: an edit of the view or of
 * a file, a rewind, a fork, an eviction.  An actor is a process (this program, executed again)
 * that opens the session and plays acts, and says each that is done on its stdout.  Wherever it
 * dies, the next one opens the session, takes an interrupted turn back, and plays the act again:
 * in the end the conversation must be, to the last token, that of an actor whom nobody disturbed,
 * and so must the logits.
 *
 * The model is a tiny random one that says what the script wants (session_kit.h), or what it
 * samples.
 */
#ifndef CN_TESTS_FAULT_ACTOR_H
#define CN_TESTS_FAULT_ACTOR_H

#include "base/clock.h"
#include "base/fault.h"
#include "sessions/turn_int.h"
#include "tests/sessions/session_kit.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

/* ---- The script ---------------------------------------------------------------------- */

enum { ACTS = 9, CALLS = 2, PATH_BYTES = 256 };

typedef struct act {
    int         behind;      // the act whose turn it follows; -1: none
    const char *call[CALLS]; // tools that the model calls first
    const char *answer;      // NULL: what the model itself says
    const char *drop, *add;  // of the view
    int         version;     // of src.c
    bool        is_fork;     // if turns must go: a fork, else a rewind
    bool        is_evicted;  // the whole cache, before the session is opened
    bool        is_long;     // a question of several documents, where the model has refs
} act;

static const act acts[ACTS] = {
    {.behind = -1, .answer = "it is here", .version = 1},
    {.behind = 0, .call = {"list_dir"}, .answer = "these", .version = 1},
    {.behind = 1, .call = {"note"}, .answer = "noted", .version = 1},
    {.behind = 2, .drop = "err.h", .version = 1},
    {.behind = 3, .call = {"search", "note"}, .answer = "twice", .version = 2},
    {.behind = 3, .version = 2}, // a rewind
    {.behind = 5, .add = "err.h", .answer = "again", .version = 2, .is_evicted = true},
    {.behind = 5, .call = {"note"}, .answer = "another way", .version = 2, .is_fork = true},
    {.behind = 7, .version = 2, .is_long = true},
};

/* The acts of the conversation behind act i, in order; how many. */
static inline int line_of(int i, int out[ACTS]) {
    const int n = i < 0 ? 0 : line_of(acts[i].behind, out);
    if (i >= 0) out[n] = i;
    return i < 0 ? 0 : n + 1;
}

static inline const char *question_of(int i) {
    static char *text;
    free(text);
    char *lines = acts[i].is_long ? k_lines("log", 3000) : NULL;
    if (asprintf(&text, "act %d: where is it?\n%s", i, lines ? lines : "") < 0) text = NULL;
    free(lines);
    assert_non_null(text);
    return text;
}

static inline int act_of(cn_ledger_text question) { // -1: of none
    int i = -1;
    return question.bytes > 6 && sscanf(question.data, "act %d:", &i) == 1 ? i : -1;
}

/* ---- Where it plays ------------------------------------------------------------------ */

typedef struct stage {
    char home[PATH_BYTES];       // a folder
    char state[PATH_BYTES + 16]; // "state" in it
    char repo[PATH_BYTES];
    char model[PATH_BYTES];
    bool has_refs; // the model's: names hold turn numbers, so a turn is taken back by a fork
} stage;

/* Replace a file as editors do: nobody sees half of it. */
static inline void write_version(const stage *st, int version) {
    char path[PATH_BYTES + 16], temp[PATH_BYTES + 16];
    snprintf(path, sizeof(path), "%s/src.c", st->repo);
    snprintf(temp, sizeof(temp), "%s/.git/src.c", st->repo); // where no list finds it
    FILE *f = fopen(temp, "w");
    assert_non_null(f);
    for (int i = 0; i < 40; i++)
        fprintf(f, "int f%d(int x)\n{\n    return x + %d;\n}\n\n", i, i == 20 ? version : i);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(rename(temp, path), 0);
}

static inline stage new_stage(bool has_refs) {
    static k_paths made;
    stage          st = {.has_refs = has_refs};
    snprintf(st.repo, sizeof(st.repo), "%s", k_new_path(&made, "repo"));
    snprintf(st.model, sizeof(st.model), "%s", has_refs ? k_refs_model() : k_plain_model());
    t_shell("mkdir -p %s && cd %s && git init -q . && git config user.name t && "
            "git config user.email t@example.invalid && cp %s/base/err.h . && "
            "head -12 %s/README.md >README.md",
            st.repo, st.repo, t_source_dir(), t_source_dir());
    write_version(&st, 1);
    t_shell("cd %s && git add -A && git commit -qm one", st.repo);
    return st;
}

/* A new home, with nothing in it. */
static inline void new_home(stage *st) {
    static k_paths made;
    snprintf(st->home, sizeof(st->home), "%s", k_new_path(&made, "home"));
    snprintf(st->state, sizeof(st->state), "%s/state", st->home);
    assert_int_equal(mkdir(st->home, 0700), 0);
}

/* "HOME.name", beside it; valid until the next call but three. */
static inline const char *beside(const stage *st, const char *name) {
    static char path[4][PATH_BYTES + 16];
    static int  made;
    char       *p = path[made++ % 4];
    snprintf(p, sizeof(path[0]), "%s.%s", st->home, name);
    return p;
}

static inline void copy_file(const char *from, const char *to) {
    struct stat st;
    const int   in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0 && errno == ENOENT) return;
    const int out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(in >= 0 && out >= 0 && fstat(in, &st) == 0);
    for (off_t left = st.st_size; left > 0;) {
        const ssize_t n = copy_file_range(in, NULL, out, NULL, (size_t)left, 0);
        assert_true(n > 0);
        left -= n;
    }
    close(in);
    close(out);
}

static const char *copied_from, *copied_to; // of the tree that is being copied

static inline int copy_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    char to[2 * PATH_BYTES];
    (void)st, (void)ftw;
    snprintf(to, sizeof(to), "%s%s", copied_to, path + strlen(copied_from));
    if (type == FTW_F) copy_file(path, to);
    return type == FTW_D && mkdir(to, 0700) && errno != EEXIST;
}

/* All that a home holds, and what stands beside it. */
static inline void copy_home(const stage *from, const stage *to) {
    copied_from = from->home;
    copied_to = to->home;
    assert_int_equal(nftw(from->home, copy_one, 16, FTW_PHYS), 0);
    copy_file(beside(from, "notes"), beside(to, "notes"));
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static inline void remove_home(const stage *st) {
    static const char *const names[] = {"notes", "told", "death"};
    assert_int_equal(nftw(st->home, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    for (int i = 0; i < 3; i++) unlink(beside(st, names[i]));
}

/* ---- What an actor leaves word of ---------------------------------------------------- */

/* In the order of a life; the turn's own from BEGIN on. */
#define PHASE_LIST(X)                                                                              \
    X(START)                                                                                       \
    X(OPEN)                                                                                        \
    X(EVICT)                                                                                       \
    X(SESSION)                                                                                     \
    X(REWIND) X(FORK) X(EDIT) X(BEGIN) X(PREFILL) X(PROMPT) X(DECODE) X(TOOL) X(END) X(CLOSE)

typedef enum {
#define X(name) PHASE_##name,
    PHASE_LIST(X)
#undef X
        PHASES
} phase;

static const char *const phase_names[] = {
#define X(name) #name,
    PHASE_LIST(X)
#undef X
};

/* Shared by the actor and who watches it. */
enum { WORD_FD = 3 }; // of an actor

typedef struct word {
    atomic_int  phase;
    atomic_int  act;
    atomic_long ticks; // phases entered, and steps within them
} word;

static word *seen; // of this process

static inline void enter(phase p) {
    if (!seen) return;
    atomic_store(&seen->phase, p);
    atomic_fetch_add(&seen->ticks, 1);
}

static inline word *map_word(int fd) {
    word *w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(w != MAP_FAILED);
    return w;
}

static inline void tell(const char *fmt, ...) {
    char    line[256];
    va_list args;
    va_start(args, fmt);
    const int bytes = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    assert_int_equal(write(STDOUT_FILENO, line, (size_t)bytes), bytes);
}

/* ---- A tool that changes the world --------------------------------------------------- */

/* Each run leaves two lines behind: what it has done must be done once. */
static inline void note(const stage *st, const char *line) {
    const int fd = open(beside(st, "notes"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && write(fd, line, strlen(line)) == (ssize_t)strlen(line));
    close(fd);
}

static inline int notes_of(const stage *st, const char *line) {
    char  got[32];
    int   n = 0;
    FILE *f = fopen(beside(st, "notes"), "r");
    while (f && fgets(got, sizeof(got), f)) n += strcmp(got, line) == 0;
    if (f) fclose(f);
    return n;
}

static const stage *note_stage;

static inline cn_err run_note(cn_tool_call *call) {
    (void)call;
    if (seen) tell("ran note\n"); // the world is told
    note(note_stage, "begin\n");
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    note(note_stage, "end\n");
    return CN_OK;
}

static const cn_tool note_tool = {.name = "note",
                                  .help = "Write a line.",
                                  .schema = "{\"type\":\"object\",\"properties\":{},\"required\":"
                                            "[],\"additionalProperties\":false}",
                                  .changes_world = true,
                                  .run = run_note};

static inline const cn_tool *find_tool(const char *name) { // to run it
    enter(PHASE_TOOL);
    return strcmp(name, "note") == 0 ? &note_tool : cn_tool_find(name);
}

/* ---- The conversation, by the ledger ------------------------------------------------- */

enum { TURNS_MAX = 64 };

typedef struct talk {
    int     turns;
    int32_t number[TURNS_MAX];
    int     act[TURNS_MAX];
    cn_stop stop[TURNS_MAX];
    cn_buf  text[TURNS_MAX]; // all but numbers, times and costs
} talk;

static inline cn_buf *text_of(talk *t, int32_t number) {
    for (int i = 0; i < t->turns; i++)
        if (t->number[i] == number) return &t->text[i];
    t_fail(__FILE__, __LINE__, "a step of turn %d, which is not there", number);
}

static inline void on_talk_turn(void *ctx, const cn_ledger_turn *turn) {
    talk *t = ctx;
    assert_true(t->turns < TURNS_MAX);
    t->number[t->turns] = turn->turn;
    t->act[t->turns] = act_of(turn->question);
    t->stop[t->turns] = turn->stop;
    cn_buf *b = &t->text[t->turns++];
    cn_buf_printf(b, "%s, %d steps\nQ ", cn_stop_name(turn->stop), turn->steps);
    cn_buf_put(b, turn->question.data, turn->question.bytes);
    cn_buf_put_str(b, "\nA ");
    cn_buf_put(b, turn->answer.data, turn->answer.bytes);
    cn_buf_put_str(b, "\n");
}

static inline void on_talk_step(void *ctx, const cn_ledger_step *s) {
    cn_buf_printf(text_of(ctx, s->turn), "step %d kind %d %s, %lld tokens\n", s->step, s->kind,
                  cn_stop_name(s->stop), (long long)s->tokens);
}

static inline void on_talk_call(void *ctx, const cn_ledger_call *c) {
    cn_buf *b = text_of(ctx, c->turn);
    cn_buf_printf(b, "call %d.%d %s %s exit %d\n", c->step, c->call, c->name,
                  cn_call_state_name(c->state), c->exit);
    cn_buf_put(b, c->arguments.data, c->arguments.bytes);
    cn_buf_put(b, c->sampled.data, c->sampled.bytes);
    cn_buf_put(b, c->result.data, c->result.bytes);
    cn_buf_put_str(b, "\n");
}

static inline void on_talk_tokens(void *ctx, int32_t turn, int32_t step, const int32_t *token,
                                  int64_t tokens) {
    cn_buf *b = text_of(ctx, turn);
    cn_buf_printf(b, "tokens %d:", step);
    for (int64_t i = 0; i < tokens; i++) cn_buf_printf(b, " %d", token[i]);
    cn_buf_put_str(b, "\n");
}

static inline void on_talk_ref(void *ctx, const cn_ledger_ref *r) {
    cn_buf *b = text_of(ctx, r->turn);
    cn_buf_printf(b, "ref %d %s %lld+%lld\n", r->part, r->path, (long long)r->begin,
                  (long long)r->bytes);
}

static inline talk talk_of(cn_ledger *l, const char *session) {
    talk t = {.turns = 0};
    assert_err(cn_ledger_turns(l, session, 0, on_talk_turn, &t, &t_diag), CN_OK);
    assert_err(cn_ledger_steps(l, session, 0, on_talk_step, &t, &t_diag), CN_OK);
    assert_err(cn_ledger_calls(l, session, 0, on_talk_call, &t, &t_diag), CN_OK);
    assert_err(cn_ledger_refs(l, session, 0, on_talk_ref, &t, &t_diag), CN_OK);
    assert_err(cn_ledger_tokens(l, session, 0, on_talk_tokens, &t, &t_diag), CN_OK);
    for (int i = 0; i < t.turns; i++) assert_int_equal(t.text[i].err, CN_OK);
    return t;
}

/* The next line of a text, without its end; NULL behind the last. */
static inline const char *next_line(const char **at, char line[8192]) {
    if (!**at) return NULL;
    const size_t bytes = strcspn(*at, "\n");
    snprintf(line, 8192, "%.*s", (int)bytes, *at);
    *at += bytes + ((*at)[bytes] == '\n');
    return line;
}

static inline bool has_line(const cn_buf *text, const char *wanted) {
    char        line[8192];
    const char *at = cn_buf_str((cn_buf *)(uintptr_t)text);
    while (next_line(&at, line))
        if (strcmp(line, wanted) == 0) return true;
    return false;
}

static inline void talk_release(talk *t) {
    for (int i = 0; i < t->turns; i++) cn_buf_release(&t->text[i]);
    t->turns = 0;
}

static inline bool is_finished(const talk *t, int i) {
    return t->stop[i] == CN_STOP_END || t->stop[i] == CN_STOP_LENGTH;
}

/* Its finished turns, without an interrupted one at the end. */
static inline int finished_of(const talk *t) {
    int n = t->turns;
    if (n > 0 && !is_finished(t, n - 1)) n--;
    for (int i = 0; i < n; i++) assert_true(is_finished(t, i));
    return n;
}

/* Whether the first `turns` turns are those of the line behind act `i`. */
static inline bool is_line(const talk *t, int turns, int i) {
    int       line[ACTS];
    const int n = line_of(i, line);
    bool      same = n == turns;
    for (int k = 0; same && k < n; k++) same = t->act[k] == line[k];
    return same;
}

/* ---- Playing ------------------------------------------------------------------------- */

/* The session as an actor finds it: the last one on the repository, or a new one. */
static inline cn_session *find_session(cn_host *h, const stage *st) {
    cn_session  *s;
    const cn_err err = cn_session_open(
        &s, h, &(cn_session_opts){.folder = st->repo, .is_continued = true}, &t_diag);
    if (err == CN_OK) return s;
    assert_err(err, CN_ENOTFOUND);
    return k_open_session(h, st->repo, false);
}

/* Turns after those of the line behind act `i` are taken back. */
static inline void take_back(cn_host *h, cn_session **s, const stage *st, int i) {
    talk      t = talk_of(h->ledger, cn_session_row(*s)->id);
    int       line[ACTS], n = line_of(acts[i].behind, line);
    const int before = t.turns;
    assert_true(n <= before);
    const int32_t turn = n > 0 ? t.number[n - 1] : 0;
    if (n < before && (st->has_refs || acts[i].is_fork)) {
        char               id[CN_LEDGER_ID_BYTES_MAX + 1];
        cn_ledger_session *fork;
        enter(PHASE_FORK);
        snprintf(id, sizeof(id), "%s", cn_session_row(*s)->id);
        cn_session_close(*s);
        *s = NULL;
        assert_err(cn_ledger_session_fork(h->ledger, id, turn, NULL, &fork, &t_diag), CN_OK);
        *s = k_open(h, &(cn_session_opts){.id = fork->id});
        cn_ledger_session_free(fork);
    } else if (n < before) {
        enter(PHASE_REWIND);
        assert_err(cn_session_rewind(*s, turn, &t_diag), CN_OK);
    }
    talk_release(&t);
    t = talk_of(h->ledger, cn_session_row(*s)->id);
    assert_true(is_line(&t, t.turns, acts[i].behind));
    talk_release(&t);
}

static inline k_asked ask_act(cn_host *h, cn_session *s, int i) {
    static const char *const arguments[] = {
        "list_dir", "{\"path\":\".\"}", "search", "{\"query\":\"int f2\"}", "note", "{}"};
    k_says  says = {.tokens = 0};
    k_asked a = {.all = 0};
    for (int c = 0; c < CALLS && acts[i].call[c]; c++)
        for (int k = 0; k < 6; k += 2)
            if (strcmp(arguments[k], acts[i].call[c]) == 0)
                k_say_call(&says, h, arguments[k], arguments[k + 1]);
    if (acts[i].answer) k_say_answer(&says, h, acts[i].answer);
    static const phase of[] = {PHASE_PREFILL, PHASE_PROMPT, PHASE_DECODE, PHASE_TOOL, PHASE_END};
    enter(PHASE_BEGIN);
    cn_turn *t = k_begin(s, question_of(i), says.tokens ? says.tokens : K_OUTPUT);
    do enter(of[t->phase]);
    while (k_step(h, t, says.tokens ? &says : NULL, &a));
    assert_int_equal(says.at, says.tokens);
    k_end(t, &a);
    cn_turn_free(t);
    return a;
}

/* Play act i, unless its turn is done already (then a hash of 0 is returned). */
static inline uint64_t play(cn_host *h, cn_session **s, const stage *st, int i) {
    talk       t = talk_of(h->ledger, cn_session_row(*s)->id);
    const bool is_done = finished_of(&t) == t.turns && is_line(&t, t.turns, i);
    talk_release(&t);
    if (is_done) return 0;
    take_back(h, s, st, i);
    enter(PHASE_EDIT);
    if (acts[i].drop)
        assert_err(cn_session_edit(*s, CN_EDIT_DROP, &acts[i].drop, 1, &t_diag), CN_OK);
    if (acts[i].add) assert_err(cn_session_edit(*s, CN_EDIT_ADD, &acts[i].add, 1, &t_diag), CN_OK);
    write_version(st, acts[i].version);
    return ask_act(h, *s, i).all;
}

static inline cn_host *open_stage(const stage *st) {
    cn_host *h = k_open_host(st->model, st->state, 1);
    h->find_tool = find_tool;
    note_stage = st;
    return h;
}

/* ---- The process ---------------------------------------------------------------------- */

static FILE *points; // CN_POINTS: a line for each point passed

/* Points are passed whether one of them is deadly or not: they say where the turn is. */
static inline void on_fault_point(const char *point) {
    if (strcmp(point, "sessions.window.store") == 0) enter(PHASE_END);
    if (points) fprintf(points, "%s %s\n", point, phase_names[atomic_load(&seen->phase)]);
}

/* "--act HOME REPO MODEL REFS FIRST LAST": play acts FIRST to LAST in one process.  Descriptor 3
 * is the word. */
static inline int act_main(char **argv) {
    stage st = {.has_refs = strcmp(argv[5], "1") == 0};
    snprintf(st.home, sizeof(st.home), "%s", argv[2]);
    snprintf(st.state, sizeof(st.state), "%s/state", st.home);
    snprintf(st.repo, sizeof(st.repo), "%s", argv[3]);
    snprintf(st.model, sizeof(st.model), "%s", argv[4]);
    const int first = atoi(argv[6]), last = atoi(argv[7]);
    seen = map_word(WORD_FD);
    if (getenv("CN_POINTS")) points = fopen(getenv("CN_POINTS"), "w");
    cn_fault_watch(on_fault_point);
    if (!cn_fault_arm_from_env()) cn_fault_arm(CN_FAULT_CRASH, INT64_MAX);
    k_isa = t_isa();
    cn_host    *h = NULL;
    cn_session *s = NULL;
    for (int i = first; i <= last; i++) {
        atomic_store(&seen->act, i);
        if (acts[i].is_evicted) { // nothing is kept while no session is open
            cn_session_close(s);
            s = NULL;
        }
        enter(PHASE_OPEN);
        if (!h) h = open_stage(&st);
        enter(PHASE_EVICT);
        if (acts[i].is_evicted)
            assert_err(cn_pages_evict(h->pages, (int64_t)1 << 40, NULL, &t_diag), CN_OK);
        enter(PHASE_SESSION);
        if (!s) {
            s = find_session(h, &st);
            if (cn_session_interrupted(s)) tell("interrupted %s\n", cn_session_interrupted(s));
        }
        const uint64_t hash = play(h, &s, &st, i);
        tell("done %d %016llx\n", i, (unsigned long long)hash);
    }
    enter(PHASE_CLOSE);
    cn_session_close(s);
    cn_host_close(h);
    if (points) fclose(points);
    return 0;
}

/* ---- Who starts one, and ends it ------------------------------------------------------ */

typedef struct life {
    int         first, last;
    const char *fault;  // CAIRN_FAULT
    const char *points; // CN_POINTS
    const char *log;    // of disk.so
    const char *die;    // likewise
} life;

typedef struct actor {
    pid_t pid;
    word *word;
    int   fd;
} actor;

/* What it said: acts done, and the hash of each one's logits. */
typedef struct told {
    bool     is_dead; // killed, not ended
    int      done;    // the last act done; -1: none
    phase    phase;   // where it ended
    uint64_t hash[ACTS];
    char     interrupted[160];
    char     call[128]; // of the disk, that it died in
} told;

static inline const char *disk_so(void) {
    static char   self[PATH_BYTES + 16];
    const ssize_t bytes = readlink("/proc/self/exe", self, PATH_BYTES - 1);
    assert_true(bytes > 0);
    self[bytes] = 0;
    strcpy(strrchr(self, '/'), "/disk.so");
    return self;
}

static inline void become_actor(const stage *st, const life *l, int word_fd) {
    char      first[16], last[16];
    const int out = open(beside(st, "told"), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    prctl(PR_SET_PDEATHSIG, SIGKILL); // if the test fails
    if (out < 0 || dup2(out, STDOUT_FILENO) < 0) _exit(3);
    if (word_fd == WORD_FD ? fcntl(word_fd, F_SETFD, 0) : dup2(word_fd, WORD_FD) < 0) _exit(3);
    snprintf(first, sizeof(first), "%d", l->first);
    snprintf(last, sizeof(last), "%d", l->last);
    if (l->fault) setenv("CAIRN_FAULT", l->fault, 1);
    if (l->points) setenv("CN_POINTS", l->points, 1);
    if (l->die || l->log) {
        setenv("LD_PRELOAD", disk_so(), 1);
        setenv("CN_DISK_ROOT", st->home, 1);
        setenv("CN_DISK_DEATH", beside(st, "death"), 1);
    }
    if (l->log) setenv("CN_DISK_LOG", l->log, 1);
    if (l->die) setenv("CN_DISK_DIE", l->die, 1);
    char *const argv[] = {"actor",
                          "--act",
                          (char *)st->home,
                          (char *)st->repo,
                          (char *)st->model,
                          (char *)(st->has_refs ? "1" : "0"),
                          first,
                          last,
                          NULL};
    execv("/proc/self/exe", argv);
    _exit(3);
}

static inline actor start(const stage *st, const life *l) {
    actor a = {.fd = memfd_create("word", MFD_CLOEXEC)};
    assert_true(a.fd >= 0 && ftruncate(a.fd, sizeof(word)) == 0);
    a.word = map_word(a.fd);
    unlink(beside(st, "death"));
    fflush(NULL);
    a.pid = fork();
    assert_true(a.pid >= 0);
    if (a.pid == 0) become_actor(st, l, a.fd);
    return a;
}

static inline void read_told(const stage *st, told *t) {
    char               line[256];
    int                i;
    unsigned long long hash;
    FILE              *f = fopen(beside(st, "told"), "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "done %d %llx", &i, &hash) == 2) {
            assert_true(i >= 0 && i < ACTS);
            t->done = i;
            t->hash[i] = hash;
        } else if (strncmp(line, "interrupted ", 12) == 0) {
            snprintf(t->interrupted, sizeof(t->interrupted), "%.150s", line + 12);
        } else if (strcmp(line, "ran note") != 0) {
            t_fail(__FILE__, __LINE__, "an actor said: %s", line);
        }
    }
    fclose(f);
    f = fopen(beside(st, "death"), "r");
    if (f && fgets(t->call, sizeof(t->call), f)) t->call[strcspn(t->call, "\n")] = 0;
    if (f) fclose(f);
}

/* Wait for its end; it must have played its acts or been killed, not failed. */
static inline told finish(const stage *st, actor *a) {
    told t = {.done = -1};
    int  status;
    assert_int_equal(waitpid(a->pid, &status, 0), a->pid);
    t.is_dead = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!t.is_dead && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
        t_fail(__FILE__, __LINE__, "an actor ended with %x in act %d, %s", status,
               atomic_load(&a->word->act), phase_names[atomic_load(&a->word->phase)]);
    t.phase = (phase)atomic_load(&a->word->phase);
    read_told(st, &t);
    munmap(a->word, sizeof(*a->word));
    close(a->fd);
    return t;
}

static inline told run(const stage *st, const life *l) {
    actor a = start(st, l);
    return finish(st, &a);
}

#endif

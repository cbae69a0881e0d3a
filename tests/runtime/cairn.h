/*
 * cairn.h - Run the cairn command as its users do, and read the JSON that it prints.
 */
#ifndef CN_TESTS_RUNTIME_CAIRN_H
#define CN_TESTS_RUNTIME_CAIRN_H

#include "tests/test.h"

#include "base/json.h"

#include <limits.h>
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct t_result {
    char output[1 << 18]; // stdout and stderr
    int  status;
} t_result;

/* build/<config>/cairn, which stands two folders above the test program. */
static inline const char *t_cairn_path(void) {
    static char   self[PATH_MAX + 8];
    const ssize_t bytes = readlink("/proc/self/exe", self, PATH_MAX - 1);
    assert_true(bytes > 0);
    self[bytes] = 0;
    char *end = NULL;
    for (char *p = self; (p = strstr(p, "/tests/")); p++) end = p;
    assert_non_null(end);
    snprintf(end, 8, "/cairn");
    return self;
}

/* Run `cairn ARGUMENTS`; the result is valid until the next call.  The user's own configuration is
 * not read; a test that has one sets CAIRN_CONFIG. */
__attribute__((format(printf, 1, 2))) static inline const t_result *t_cairn(const char *fmt, ...) {
    static t_result r;
    char            arguments[4096], command[PATH_MAX + 4200];
    va_list         args;
    setenv("CAIRN_CONFIG", "/dev/null", 0);
    va_start(args, fmt);
    vsnprintf(arguments, sizeof(arguments), fmt, args);
    va_end(args);
    snprintf(command, sizeof(command), "%s %s 2>&1", t_cairn_path(), arguments);
    t_note("%s", command);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    r.output[fread(r.output, 1, sizeof(r.output) - 1, f)] = 0;
    const int status = pclose(f);
    assert_true(WIFEXITED(status));
    r.status = WEXITSTATUS(status);
    return &r;
}

/* The last line of the output as JSON; freed by cn_json_free. */
static inline cn_json_doc *t_last_line(const t_result *r) {
    const cn_json_limits limits = {1 << 20, 16, 100000};
    size_t               end = strlen(r->output);
    if (end == 0 || r->output[end - 1] != '\n') t_fail(__FILE__, __LINE__, "%s", r->output);
    size_t begin = --end;
    while (begin > 0 && r->output[begin - 1] != '\n') begin--;
    cn_json_doc *doc;
    if (cn_json_parse(&doc, r->output + begin, end - begin, "output", &limits, &t_diag))
        t_fail(__FILE__, __LINE__, "%s: %s", t_diag.text, r->output);
    return doc;
}

/* The member at `path`, names with dots between; fails the test if there is none. */
static inline const cn_json *t_member(const cn_json_doc *doc, const char *path) {
    char           name[64];
    const cn_json *v = cn_json_root(doc);
    for (const char *p = path; *p;) {
        const size_t bytes = strcspn(p, ".");
        snprintf(name, sizeof(name), "%.*s", (int)bytes, p);
        v = cn_json_get(v, name);
        p += bytes + (p[bytes] == '.');
    }
    if (!v) t_fail(__FILE__, __LINE__, "no member %s", path);
    return v;
}

static inline int64_t t_int(const cn_json_doc *doc, const char *path) {
    int64_t n = 0;
    assert_true(cn_json_int64(t_member(doc, path), &n));
    return n;
}

static inline double t_f64(const cn_json_doc *doc, const char *path) {
    double d = 0;
    assert_true(cn_json_f64(t_member(doc, path), &d));
    return d;
}

/* A bill as JSON adds up: parts, tokens, and what is said of another cost. */
static inline void t_check_bill(const cn_json *bill) {
    static const char *const parts[] = {"queue",   "tokenize", "context", "restore",
                                        "prefill", "route",    "attend",  "decode",
                                        "tool",    "store",    "other"};
    const cn_json           *ms = cn_json_get(bill, "ms");
    double                   sum = 0, wall = 0, d = 0, saved = 0;
    int64_t                  context = 0, cached = 0, prefilled = 0, tokens = 0, missed = 0;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        assert_true(cn_json_f64(cn_json_get(ms, parts[i]), &d) && d >= 0);
        sum += d;
    }
    assert_true(cn_json_f64(cn_json_get(ms, "wall"), &wall));
    if (fabs(sum - wall) > 0.01 * wall) t_fail(__FILE__, __LINE__, "%g of %g ms", sum, wall);
    assert_true(d <= fmax(0.05 * wall, 1)); // other
    assert_true(cn_json_int64(cn_json_get(bill, "context_tokens"), &context));
    assert_true(cn_json_int64(cn_json_get(bill, "cached_tokens"), &cached));
    assert_true(cn_json_int64(cn_json_get(bill, "prefilled_tokens"), &prefilled));
    assert_int_equal(context, cached + prefilled);
    for (const cn_json *m = cn_json_first(cn_json_get(bill, "misses")); m; m = cn_json_next(m)) {
        assert_true(cn_json_int64(cn_json_get(m, "tokens"), &tokens));
        missed += tokens;
    }
    assert_int_equal(missed, prefilled);
    const bool is_known = cn_json_f64(cn_json_get(bill, "no_cache_ms"), &d);
    assert_int_equal(is_known, cn_json_f64(cn_json_get(bill, "saved_ms"), &saved));
    if (is_known) assert_true(fabs(d - wall - saved) < 0.01);
    if (cn_json_f64(cn_json_get(bill, "per_layer_routing_ms"), &d)) assert_true(d >= wall);
}

/* A repository with a function of ten lines, and one of a line. */
static inline void t_walk_repo(const char *path) {
    t_shell("mkdir -p %s && cd %s && git init -q . && cat >walk.c <<'END'\n"
            "int walk(int steps)\n{\n    int height = 100;\n    int width = 20;\n"
            "    int depth = height / width;\n    height = height + steps;\n"
            "    width = width - steps;\n    depth = depth * steps;\n"
            "    return height * width * depth;\n}\nEND\n"
            "printf 'int two;\\n' >two.c; git add -A && "
            "git -c user.name=t -c user.email=t@example.invalid commit -qm one",
            path, path);
}

/* Turn `turn` from 1 (0: the last) of the latest session, as `sessions show` has it; fails the
 * test if there is none.  Freed with *doc by cn_json_free. */
static inline const cn_json *t_turn_of(const char *state, int turn, cn_json_doc **doc) {
    char id[64];
    *doc = t_last_line(t_cairn("sessions --json --state %s", state));
    const cn_json *s = cn_json_first(t_member(*doc, "sessions"));
    if (!s) t_fail(__FILE__, __LINE__, "no session in %s", state);
    snprintf(id, sizeof(id), "%s", cn_json_string(cn_json_get(s, "session")));
    cn_json_free(*doc);
    *doc = t_last_line(t_cairn("sessions show %s --json --state %s", id, state));
    const cn_json *t = cn_json_first(t_member(*doc, "turns"));
    while (t && (turn ? --turn > 0 : cn_json_next(t) != NULL)) t = cn_json_next(t);
    if (!t) t_fail(__FILE__, __LINE__, "no such turn in %s", state);
    return t;
}

/* A failure: status 1 and {"error":{"code","message"}} with these words. */
static inline void t_assert_error(const t_result *r, const char *code, const char *text) {
    cn_json_doc *doc = t_last_line(r);
    assert_int_equal(r->status, 1);
    assert_string_equal(cn_json_string(t_member(doc, "error.code")), code);
    if (!strstr(cn_json_string(t_member(doc, "error.message")), text))
        t_fail(__FILE__, __LINE__, "%s lacks %s", r->output, text);
    cn_json_free(doc);
}

/* A new repository with the sources of base/, and a path for a state folder. */
enum { T_PATH_BYTES = 512 };

static inline void t_new_repo(char repo_out[T_PATH_BYTES], char state_out[T_PATH_BYTES]) {
    static int number;
    snprintf(repo_out, T_PATH_BYTES, "%s/repo%d", t_tmp_dir(), number);
    snprintf(state_out, T_PATH_BYTES, "%s/state%d", t_tmp_dir(), number++);
    t_shell("mkdir -p %s/base && cd %s && git init -q . && git config user.name t && "
            "git config user.email t@example.invalid && cp %s/base/*.[ch] base && git add -A && "
            "git commit -qm one",
            repo_out, repo_out, t_source_dir());
}

#endif

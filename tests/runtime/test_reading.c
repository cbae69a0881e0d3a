/*
 * test_reading.c - cairn bench retrieval --evidence: what is asked for, and the ranks, counted
 * again from the lines that it writes.
 */
#include "tests/runtime/cairn.h"

#include "base/file.h"

enum { BUDGET = 4096, KINDS = 2 };

static char repo[T_PATH_BYTES], state[T_PATH_BYTES];

/* Functions that stand in one file, one that another file calls, and one that is there twice. */
static int set_up(void **unused) {
    (void)unused;
    snprintf(repo, sizeof(repo), "%s/repo", t_tmp_dir());
    snprintf(state, sizeof(state), "%s/scratch", t_tmp_dir());
    t_shell("mkdir -p %s %s && cd %s && git init -q . && cp %s/base/rand.h %s/base/clock.c "
            "%s/base/utf8.c . && cat >pond.c <<'END'\n"
            "int count_herons(int pond, int hours)\n{\n    return pond * hours;\n}\n\n"
            "int called_elsewhere(int pond)\n{\n    return pond;\n}\n\n"
            "int there_twice(void)\n{\n    return 1;\n}\nEND\n"
            "cat >lake.c <<'END'\n"
            "int called_elsewhere(int);\n\nint drain_lake(int depth)\n{\n"
            "    return called_elsewhere(depth);\n}\n\nint there_twice(void)\n{\n    return 2;\n}\n"
            "END\n"
            "git add -A && git -c user.name=t -c user.email=t@example.invalid commit -qm one",
            repo, state, repo, t_source_dir(), t_source_dir(), t_source_dir());
    return 0;
}

/* The ranks that a line of the output must have. */
static void check_line(const cn_json *line, int64_t sums[4]) {
    const char *path = cn_json_string(cn_json_get(line, "path"));
    int64_t     at, file_rank, line_rank, want_file = 0, want_line = 0, ranges = 0, files = 0;
    const char *seen[32];
    assert_true(cn_json_int64(cn_json_get(line, "line"), &at));
    assert_true(cn_json_int64(cn_json_get(line, "file_rank"), &file_rank));
    assert_true(cn_json_int64(cn_json_get(line, "line_rank"), &line_rank));
    for (const cn_json *v = cn_json_first(cn_json_get(line, "evidence")); v; v = cn_json_next(v)) {
        const char    *name = cn_json_string(cn_json_get(v, "path"));
        const cn_json *first = cn_json_first(cn_json_get(v, "lines"));
        int64_t        a, b, f = 0;
        assert_true(cn_json_int64(first, &a) && cn_json_int64(cn_json_next(first), &b));
        ranges++;
        while (f < files && strcmp(seen[f], name) != 0) f++;
        if (f == files) seen[files++] = name;
        if (strcmp(name, path) != 0) continue;
        if (!want_file) want_file = f + 1;
        if (!want_line && at >= a && at <= b) want_line = ranges;
    }
    t_note("%s", cn_json_string(cn_json_get(line, "q")));
    assert_true(ranges > 0);
    assert_int_equal(file_rank, want_file);
    assert_int_equal(line_rank, want_line);
    sums[0] += want_file == 1, sums[1] += want_file >= 1 && want_file <= 3;
    sums[2] += want_line == 1, sums[3] += want_line >= 1 && want_line <= 3;
}

static void test_ranks(void **unused) {
    (void)unused;
    char   out[T_PATH_BYTES + 16];
    cn_buf lines = {0};
    snprintf(out, sizeof(out), "%s/out", t_tmp_dir());
    const t_result *r = t_cairn("bench retrieval --evidence --json -C %s --state %s --budget %d "
                                "--definitions 4 --out %s",
                                repo, state, BUDGET, out);
    if (r->status) t_fail(__FILE__, __LINE__, "%s", r->output);
    cn_json_doc *doc = t_last_line(r);
    assert_int_equal(t_int(doc, "files"), 5);
    const int64_t definitions = t_int(doc, "definitions");
    int64_t       sums[KINDS][4] = {{0}}, questions[KINDS] = {0};
    bool          herons = false;
    assert_true(definitions >= 2);
    assert_err(cn_file_read(&lines, out, 1 << 22, &t_diag), CN_OK);
    assert_null(strstr(cn_buf_str(&lines), "called_elsewhere?")); // it stands in two files
    assert_null(strstr(cn_buf_str(&lines), "there_twice?"));
    for (char *p = strtok(lines.data, "\n"); p; p = strtok(NULL, "\n")) {
        const cn_json_limits limits = {1 << 20, 16, 100000};
        cn_json_doc         *line;
        assert_err(cn_json_parse(&line, p, strlen(p), "out", &limits, &t_diag), CN_OK);
        const cn_json *root = cn_json_root(line);
        const int      kind = strcmp(cn_json_string(cn_json_get(root, "kind")), "signature") == 0;
        questions[kind]++;
        check_line(root, sums[kind]);
        int64_t at = 0;
        if (strstr(cn_json_string(cn_json_get(root, "q")), "count_herons")) {
            assert_string_equal(cn_json_string(cn_json_get(root, "path")), "pond.c");
            assert_true(cn_json_int64(cn_json_get(root, "line"), &at) && at == 1);
            herons = true;
        }
        cn_json_free(line);
    }
    assert_true(herons);
    const cn_json *kind = cn_json_first(t_member(doc, "kinds"));
    for (int k = 0; k < KINDS; k++, kind = cn_json_next(kind)) {
        static const char *const keys[] = {"file_first", "file_among", "line_first", "line_among"};
        int64_t                  n = 0;
        double                   share = 0;
        assert_true(cn_json_int64(cn_json_get(kind, "questions"), &n) && n == questions[k]);
        assert_int_equal(n, definitions);
        for (int i = 0; i < 4; i++) {
            assert_true(cn_json_int64(cn_json_get(kind, keys[i]), &n));
            assert_int_equal(n, sums[k][i]);
        }
        assert_true(sums[k][1] >= definitions - 1); // the model does read there
        assert_true(cn_json_f64(cn_json_get(kind, "headers_share"), &share));
        assert_true(share > 0 && share < 1);
    }
    cn_buf_release(&lines);
    cn_json_free(doc);
}

static void test_refusals(void **unused) {
    (void)unused;
    t_shell("mkdir -p %s/bare && echo none >%s/bare/README", t_tmp_dir(), t_tmp_dir());
    t_assert_error(
        t_cairn("bench retrieval --evidence --json -C %s/bare --state %s", t_tmp_dir(), state),
        "ENOTFOUND", "none of 1 files has a function");
    static const char *const wrong[] = {"--mass",          "--ruler",
                                        "--questions x",   "--dense",
                                        "--definitions 0", "--definitions 100 --depths 20"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(
            t_cairn("bench retrieval --evidence -C %s --state %s %s", repo, state, wrong[i])
                ->status,
            2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}

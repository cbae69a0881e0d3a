/*
 * test_tools.c - Each tool's results, in the form that models were trained on, and every
 * way to call one wrongly: that is a result too.
 */
#include "base/fault.h"
#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "tests/tools/git.h"
#include "tools/tools.h"

static cn_tool_ctx   ctx;
static cn_buf        result;
static cn_tool_state tool_state;

static void begin(const char *in) {
    ctx = (cn_tool_ctx){.repo = open_repo(in)};
}

static void end(void) {
    cn_repo *repo = ctx.repo;
    cn_tool_ctx_release(&ctx);
    assert_true(!ctx.repo && !ctx.files);
    cn_repo_close(repo);
    cn_buf_release(&result);
}

/* Run a tool that must not end the turn; its text. */
static const char *run(const char *name, const char *arguments) {
    const size_t bytes = strlen(arguments);
    char        *copy = t_alloc(bytes);
    memcpy(copy, arguments, bytes);
    cn_buf_reset(&result);
    cn_buf_put_str(&result, "<");
    t_note("%s %s", name, arguments);
    assert_err(cn_tool_run(cn_tool_find(name), &ctx, copy, bytes, &result, &tool_state, &t_diag),
               CN_OK);
    t_free(copy);
    assert_int_equal(result.data[0], '<');
    assert_true(result.bytes <= 1 + CN_TOOL_RESULT_BYTES_MAX);
    return result.data + 1;
}

static void assert_done(const char *name, const char *arguments, const char *want) {
    assert_string_equal(run(name, arguments), want);
    assert_int_equal(tool_state, CN_TOOL_DONE);
}

static void assert_failed(const char *name, const char *arguments, const char *word) {
    const char *text = run(name, arguments);
    assert_int_equal(tool_state, CN_TOOL_FAILED);
    if (!strstr(text, word)) t_fail(__FILE__, __LINE__, "\"%s\" lacks \"%s\"", text, word);
    assert_null(strchr(text, '\n'));
}

static void test_table(void **state) {
    (void)state;
    static const char *const names[] = {"read_lines", "list_dir", "search", "git_log"};
    const cn_json_limits     limits = {.bytes_max = 1 << 16, .depth_max = 16, .values_max = 1000};
    for (int i = 0; i < 4; i++) {
        const cn_tool *tool = cn_tool_at(i);
        cn_json_doc   *doc;
        assert_string_equal(tool->name, names[i]);
        assert_ptr_equal(cn_tool_find(names[i]), tool);
        assert_false(tool->changes_world);
        assert_true(tool->help[0] && !strchr(tool->help, '\n'));
        assert_null(strchr(tool->schema, '\n'));
        assert_err(
            cn_json_parse(&doc, tool->schema, strlen(tool->schema), "schema", &limits, &t_diag),
            CN_OK);
        const cn_json *root = cn_json_root(doc);
        bool           more = true;
        assert_string_equal(cn_json_string(cn_json_get(root, "type")), "object");
        assert_true(cn_json_bool(cn_json_get(root, "additionalProperties"), &more) && !more);
        assert_int_equal(cn_json_count(cn_json_get(root, "properties")),
                         cn_json_count(cn_json_get(root, "required")));
        cn_json_free(doc);
    }
    assert_null(cn_tool_at(4));
    assert_null(cn_tool_at(-1));
    assert_null(cn_tool_find("rm"));
    assert_null(cn_tool_find(""));
    assert_string_equal(cn_tool_state_name(CN_TOOL_DONE), "done");
    assert_string_equal(cn_tool_state_name(CN_TOOL_FAILED), "failed");
}

/* examples/train/tools.json is the table, for what makes training text without the tools.
 * CN_TOOLS_JSON names a file to write instead of comparing. */
static void test_table_file(void **state) {
    (void)state;
    const char *to = getenv("CN_TOOLS_JSON");
    cn_buf      want = {0}, got = {0};

    for (int i = 0; cn_tool_at(i); i++) {
        const cn_tool *tool = cn_tool_at(i);
        cn_buf_put_str(&want, i == 0 ? "[\n" : ",\n");
        cn_json_writer w = cn_json_writer_on(&want);
        cn_json_open(&w, '{');
        cn_json_put_key(&w, "name");
        cn_json_put_string(&w, tool->name);
        cn_json_put_key(&w, "help");
        cn_json_put_string(&w, tool->help);
        cn_json_put_key(&w, "schema");
        cn_json_put_string(&w, tool->schema);
        cn_json_close(&w, '}');
    }
    cn_buf_put_str(&want, "\n]\n");
    if (to) {
        FILE *f = fopen(to, "w");
        assert_non_null(f);
        assert_int_equal(fwrite(want.data, 1, want.bytes, f), want.bytes);
        assert_int_equal(fclose(f), 0);
    } else {
        assert_err(cn_file_read(&got, CN_SOURCE_DIR "/examples/train/tools.json", 1 << 16, &t_diag),
                   CN_OK);
        assert_string_equal(cn_buf_str(&got), cn_buf_str(&want));
    }
    cn_buf_release(&want);
    cn_buf_release(&got);
}

static void make_small(void) {
    const char *in = make_repo("small");
    put_text(in, "src/a.c", "int one;\n\n\tint two(void);\nreturn two();\n");
    put_text(in, "src/b.c", "int one;\r\nint two(void);\r\nlast");
    put_text(in, "src/deep/c.c", "caf\xE9 two\n");
    put_text(in, "src.h", "x\n");
    put_text(in, "src0", "");
    put(in, "src/bin", "two\0", 4);
    put_text(in, "gen.c", "two\n");
    put_text(in, ".gitattributes", "gen.c linguist-generated\n");
    put_text(in, "kept/out.c", "two\n");
    put_text(in, ".cairnignore", "kept/\n");
    put_text(in, ".gitignore", "*.log\n");
    sh(in, "ln -s ../outside src/link; mkdir -p ../outside; echo two >../outside/secret");
    sh(in, "export GIT_AUTHOR_DATE='2024-05-17T10:00:00 +0200'; git add -A; "
           "git commit -q -m 'Add two' --author='Ada Lovelace <a@x>'");
    put_text(in, "debug.log", "two\n");
    put_text(in, "src/new.c", "two\n");
}

static void test_read_lines(void **state) {
    (void)state;
    make_small();
    begin("small");
    assert_done("read_lines", "{\"path\":\"src/a.c\",\"start\":1,\"end\":3}",
                "int one;\n\n\tint two(void);");
    assert_done("read_lines", "{\"path\":\"src/a.c\",\"start\":4,\"end\":4}", "return two();");
    assert_done("read_lines", "{\"path\":\"src/a.c\",\"start\":4,\"end\":99}", "return two();");
    assert_done("read_lines", "{\"end\":3,\"path\":\"./src//b.c\",\"start\":2}",
                "int two(void);\nlast");
    assert_string_equal(ctx.read_path, "src/b.c"); // by the repository's name for it
    assert_int_equal(ctx.read_line, 2);
    assert_done("read_lines", "{\"path\":\"src/a.c\",\"start\":2,\"end\":2}", "");
    assert_done("read_lines", "{\"path\":\"src/deep/c.c\",\"start\":1,\"end\":1}", "caf\xE9 two");
    assert_done("read_lines", "{\"path\":\"debug.log\",\"start\":1,\"end\":1}", "two"); // asked for
    assert_failed("read_lines", "{\"path\":\"src/a.c\",\"start\":5,\"end\":6}", "has 4 lines");
    assert_string_equal(ctx.read_path, ""); // nothing was
    assert_failed("read_lines", "{\"path\":\"src0\",\"start\":1,\"end\":1}", "has 0 lines");
    assert_failed("read_lines", "{\"path\":\"src/a.c\",\"start\":3,\"end\":2}", "before");
    assert_failed("read_lines", "{\"path\":\"src/bin\",\"start\":1,\"end\":2}", "binary");
    assert_failed("read_lines", "{\"path\":\"src/no.c\",\"start\":1,\"end\":2}",
                  "no such file: src/no.c");
    assert_failed("read_lines", "{\"path\":\"src\",\"start\":1,\"end\":2}", "not a regular file");
    assert_failed("read_lines", "{\"path\":\".\",\"start\":1,\"end\":2}", "list_dir");
    assert_failed("read_lines", "{\"path\":\"src/a.c/x\",\"start\":1,\"end\":2}", "no such file");
    end();
}

static void test_list_dir(void **state) {
    (void)state;
    make_small();
    begin("small");
    assert_done("list_dir", "{\"path\":\"src\"}", "a.c\nb.c\nbin\ndeep/\nlink\nnew.c");
    assert_done("list_dir", "{\"path\":\"src/deep/\"}", "c.c");
    assert_done("list_dir", "{\"path\":\".\"}",
                ".cairnignore\n.gitattributes\n.gitignore\ngen.c\nsrc.h\nsrc/\nsrc0");
    assert_done("list_dir", "{\"path\":\"\"}",
                ".cairnignore\n.gitattributes\n.gitignore\ngen.c\nsrc.h\nsrc/\nsrc0");
    sh("small", "rm src/new.c; touch src/newer.c"); // it looks again each time
    assert_done("list_dir", "{\"path\":\"src\"}", "a.c\nb.c\nbin\ndeep/\nlink\nnewer.c");
    assert_failed("list_dir", "{\"path\":\"src/a.c\"}", "no folder");
    assert_failed("list_dir", "{\"path\":\"sr\"}", "no such folder");
    assert_failed("list_dir", "{\"path\":\"kept\"}", ".cairnignore");
    end();
    sh("", "rm -rf nothing; mkdir nothing");
    begin("nothing");
    assert_failed("list_dir", "{\"path\":\".\"}", "no files");
    assert_done("search", "{\"query\":\"x\"}", "no matches");
    end();
}

static void test_search(void **state) {
    (void)state;
    make_small();
    begin("small");
    assert_done("search", "{\"query\":\"two(\"}",
                "src/a.c:3:int two(void);\nsrc/a.c:4:return two();\nsrc/b.c:2:int two(void);");
    assert_done("search", "{\"query\":\"last\"}", "src/b.c:3:last");
    assert_done("search", "{\"query\":\"two\"}",
                "src/a.c:3:int two(void);\nsrc/a.c:4:return two();\nsrc/b.c:2:int two(void);\n"
                "src/deep/c.c:1:caf\xE9 two\nsrc/new.c:1:two");
    assert_done("search", "{\"query\":\"Two\"}", "no matches");
    assert_done("search", "{\"query\":\"t.o\"}", "no matches");
    assert_failed("search", "{\"query\":\"\"}", "query");
    assert_failed("search", "{\"query\":\"a\\nb\"}", "query");
    end();
}

/* A match in the blanks behind a long line: nothing behind the line is printed. */
static void test_search_stays_in_its_line(void **state) {
    (void)state;
    make_small();
    sh("small", "printf '%%0150d\\t\\t  \\nsecret next line\\n' 7 > blanks.txt");
    begin("small");
    assert_done("search", "{\"query\":\"  \"}", "blanks.txt:1:");
    end();
}

static void test_git_log(void **state) {
    (void)state;
    char want[200];
    make_small();
    sh("small", "export GIT_AUTHOR_DATE='2024-06-01T10:00:00 +0200'; echo >>src/a.c; "
                "git commit -qam 'Change: a' --author='J\xC3\xB6rg <j@x>'");
    begin("small");
    snprintf(want, sizeof(want), "%s", sh("small", "git rev-parse HEAD HEAD~1"));
    char log[200];
    snprintf(log, sizeof(log),
             "%.7s 2024-06-01 J\xC3\xB6rg: Change: a\n%.7s 2024-05-17 Ada Lovelace: Add two", want,
             want + 41);
    assert_done("git_log", "{\"path\":\"src/a.c\"}", log);
    assert_done("git_log", "{\"path\":\"src\"}", log);
    assert_done("git_log", "{\"path\":\".\"}", log);
    assert_done("git_log", "{\"path\":\"src/b.c\"}", strchr(log, '\n') + 1);
    assert_done("git_log", "{\"path\":\"src/new.c\"}", "no commits");
    sh("small", "for i in 1 2 3 4 5 6 7 8 9; do echo $i >src.h; git commit -qam $i; done");
    run("git_log", "{\"path\":\"src.h\"}");
    assert_non_null(strstr(result.data, "Add two"));
    assert_null(strstr(result.data, "... "));
    sh("small", "echo 10 >src.h; git commit -qam 10");
    run("git_log", "{\"path\":\"src.h\"}");
    assert_null(strstr(result.data, "Add two"));
    assert_non_null(strstr(result.data, "\n... there may be more"));
    end();
    make_repo("young");
    begin("young");
    assert_failed("git_log", "{\"path\":\"a\"}", "no commit yet");
    end();
    sh("", "rm -rf folder; mkdir folder");
    begin("folder");
    assert_failed("git_log", "{\"path\":\"a\"}", "no git repository");
    end();
}

static void test_wrong_arguments_are_results(void **state) {
    (void)state;
    make_small();
    begin("small");
    assert_failed("search", "", "arguments: byte 0");
    assert_failed("search", "{\"query\":", "arguments: byte");
    assert_failed("search", "{\"query\":\"\xFF\"}", "arguments: byte");
    assert_failed("search", "{\"query\":\"a\",\"query\":\"b\"}", "duplicate");
    assert_failed("search", "[]", "object");
    assert_failed("search", "\"two\"", "object");
    assert_failed("search", "null", "object");
    assert_failed("search", "{}", "missing argument \"query\"");
    assert_failed("search", "{\"query\":1}", "type string");
    assert_failed("search", "{\"query\":null}", "type string");
    assert_failed("search", "{\"query\":\"a\",\"path\":\".\"}", "unknown argument \"path\"");
    assert_failed("read_lines", "{\"path\":\"src/a.c\",\"start\":1}", "missing argument \"end\"");
    assert_failed("read_lines", "{\"path\":\"src/a.c\",\"start\":\"1\",\"end\":2}", "type integer");
    assert_failed("read_lines", "{\"path\":\"src/a.c\",\"start\":1.0,\"end\":2}", "type integer");
    assert_failed("read_lines", "{\"path\":\"src/a.c\",\"start\":0,\"end\":2}", "least is 1");
    assert_failed("read_lines", "{\"path\":\"src/a.c\",\"start\":-1,\"end\":2}", "least is 1");
    assert_failed("read_lines", "{\"path\":\"src/a.c\",\"start\":1,\"end\":99999999999999999999}",
                  "type integer");
    char long_json[CN_TOOL_ARGUMENT_BYTES_MAX + 2];
    memset(long_json, ' ', sizeof(long_json));
    memcpy(long_json, "{}", 2);
    long_json[sizeof(long_json) - 1] = 0;
    assert_failed("search", long_json, "16384");
    end();
}

static void test_no_way_out(void **state) {
    (void)state;
    make_small();
    begin("small");
    const struct {
        const char *path, *word;
    } ways[] = {{"../outside/secret", ".."},
                {"src/../../outside/secret", ".."},
                {"src/..", ".."},
                {"/etc/passwd", "absolute"},
                {"//etc/passwd", "absolute"},
                {".git/config", "git's own"},
                {"./.git", "git's own"},
                {"src/.GIT/config", "git's own"},
                {"kept/out.c", ".cairnignore"},
                {"kept//./out.c", ".cairnignore"}};
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        char json[200];
        snprintf(json, sizeof(json), "{\"path\":\"%s\",\"start\":1,\"end\":2}", ways[i].path);
        assert_failed("read_lines", json, ways[i].word);
        snprintf(json, sizeof(json), "{\"path\":\"%s\"}", ways[i].path);
        assert_failed("list_dir", json, ways[i].word);
        assert_failed("git_log", json, ways[i].word);
    }
    assert_failed("read_lines", "{\"path\":\"src/link/secret\",\"start\":1,\"end\":2}",
                  "no such file");
    assert_failed("read_lines", "{\"path\":\"src/link\",\"start\":1,\"end\":2}", "not a regular");
    assert_failed("list_dir", "{\"path\":\"src/link\"}", "no folder");
    assert_failed("list_dir", "{\"path\":\"src/link/\"}", "no folder");
    char json[CN_REPO_PATH_BYTES_MAX + 100];
    for (int over = 0; over < 2; over++) {
        memset(json, 'p', sizeof(json));
        memcpy(json, "{\"path\":\"", 9);
        strcpy(json + 9 + CN_REPO_PATH_BYTES_MAX - 1 + over, "\"}");
        assert_failed("list_dir", json, over ? "1024 bytes" : "no such folder");
    }
    end();
}

/* The lines of the last result. */
static int lines_of_result(void) {
    int n = 1;
    for (const char *p = result.data; *p; p++) n += *p == '\n';
    return n;
}

static void test_results_are_cut(void **state) {
    (void)state;
    const char *in = make_repo("cut");
    cn_buf      text = {0};
    for (int i = 1; i <= CN_TOOL_LINES_MAX + 1; i++) cn_buf_printf(&text, "line %d\n", i);
    put(in, "lines", text.data, text.bytes);
    cn_buf_reset(&text);
    for (int i = 0; i < 100; i++) cn_buf_printf(&text, "%01000d\n", i);
    put(in, "wide", text.data, text.bytes);
    cn_buf_reset(&text);
    for (int i = 0; i < 300; i++) cn_buf_put_str(&text, "\xC3\xA9");
    cn_buf_put_str(&text, "needle");
    for (int i = 0; i < 300; i++) cn_buf_put_str(&text, "\xC3\xA9");
    put(in, "long", text.data, text.bytes);
    sh(in, "mkdir many; cd many; seq 1000 1999 | xargs touch");
    begin(in);
    run("read_lines", "{\"path\":\"lines\",\"start\":1,\"end\":1000}");
    assert_int_equal(lines_of_result(), 1000);
    assert_null(strstr(result.data, "..."));
    run("read_lines", "{\"path\":\"lines\",\"start\":1,\"end\":1001}");
    assert_int_equal(lines_of_result(), 1001);
    assert_string_equal(strstr(result.data, "line 1000\n"), "line 1000\n... cut after 1000 lines");
    assert_done("read_lines", "{\"path\":\"lines\",\"start\":1001,\"end\":2000}", "line 1001");
    run("read_lines", "{\"path\":\"wide\",\"start\":1,\"end\":100}");
    assert_int_equal(lines_of_result(), 66);
    assert_non_null(strstr(result.data, "\n... cut after 65 lines"));

    run("search", "{\"query\":\"needle\"}");
    assert_int_equal(result.bytes, 1 + strlen("long:1:") + CN_TOOL_MATCH_BYTES_MAX);
    assert_memory_equal(result.data + 1, "long:1:needle\xC3\xA9", 15);
    for (const char *p = result.data; *p;) {
        const size_t n = cn_utf8_bytes(p, strlen(p));
        assert_true(n > 0);
        p += n;
    }
    run("search", "{\"query\":\"line 1\"}"); // 113 of them
    assert_int_equal(lines_of_result(), CN_TOOL_MATCHES_MAX + 1);
    assert_non_null(strstr(result.data, "\n... cut after 12 matches"));
    run("search", "{\"query\":\"line 100\"}");
    assert_int_equal(lines_of_result(), 3); // 100, 1000, 1001
    assert_null(strstr(result.data, "..."));
    char json[CN_TOOL_QUERY_BYTES_MAX + 100];
    for (int over = 0; over < 2; over++) {
        memset(json, 'q', sizeof(json));
        memcpy(json, "{\"query\":\"", 10);
        strcpy(json + 10 + CN_TOOL_QUERY_BYTES_MAX + over, "\"}");
        run("search", json);
        assert_int_equal(tool_state, over ? CN_TOOL_FAILED : CN_TOOL_DONE);
    }
    run("list_dir", "{\"path\":\"many\"}");
    assert_int_equal(lines_of_result(), 1000);
    assert_null(strstr(result.data, "..."));
    sh(in, "touch many/2000");
    run("list_dir", "{\"path\":\"many\"}");
    assert_int_equal(lines_of_result(), 1001);
    assert_non_null(strstr(result.data, "\n1999\n... cut after 1000 names"));
    cn_buf_release(&text);
    end();
}

/* Memory and cancel end the turn: the result is as it was. */
static void test_what_ends_the_turn(void **state) {
    (void)state;
    static const char *const calls[][2] = {
        {"read_lines", "{\"path\":\"src/a.c\",\"start\":1,\"end\":3}"},
        {"list_dir", "{\"path\":\"src\"}"},
        {"search", "{\"query\":\"two\"}"},
        {"git_log", "{\"path\":\"src\"}"}};
    atomic_bool cancel = true;
    make_small();
    for (int c = 0; c < 4; c++) {
        const cn_tool *tool = cn_tool_find(calls[c][0]);
        const size_t   bytes = strlen(calls[c][1]);
        begin("small");
        run(calls[c][0], calls[c][1]);
        char want[400];
        snprintf(want, sizeof(want), "%s", result.data);
        cn_buf_release(&result);
        for (int n = 1;; n++) {
            cn_buf buf = {0};
            cn_buf_put_str(&buf, "<");
            cn_fault_arm(CN_FAULT_ONCE, n);
            const cn_err err =
                cn_tool_run(tool, &ctx, calls[c][1], bytes, &buf, &tool_state, &t_diag);
            const bool hit = cn_fault_was_hit();
            t_note("%s fault %d at %s", tool->name, n, cn_fault_last_point());
            cn_fault_arm(CN_FAULT_OFF, 0);
            assert_int_equal(buf.err, CN_OK);
            if (err) {
                assert_err(err, CN_ENOMEM);
                assert_string_equal(buf.data, "<");
                assert_int_equal(tool_state, CN_TOOL_FAILED);
            } else
                assert_int_equal(buf.data[0], '<');
            if (!hit) assert_string_equal(buf.data, want);
            cn_buf_release(&buf);
            if (!hit) {
                assert_true(n > 5);
                break;
            }
        }
        ctx.cancel = &cancel;
        cn_buf buf = {0};
        t_note("%s cancelled", tool->name);
        assert_err(cn_tool_run(tool, &ctx, calls[c][1], bytes, &buf, &tool_state, NULL),
                   c == 0 ? CN_OK : CN_ECANCELLED); // one file is read at once
        assert_int_equal(buf.bytes == 0, c != 0);
        cn_buf_release(&buf);
        end();
    }
    begin("small");
    cn_buf small = {.bytes_max = 3};
    assert_err(cn_tool_run(cn_tool_find("search"), &ctx, "{}", 2, &small, &tool_state, &t_diag),
               CN_ENOMEM);
    assert_true(small.bytes == 0 && small.err == CN_OK);
    end();
}

int main(void) {
    git_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_table_file),
        cmocka_unit_test(test_read_lines),
        cmocka_unit_test(test_list_dir),
        cmocka_unit_test(test_search),
        cmocka_unit_test(test_search_stays_in_its_line),
        cmocka_unit_test(test_git_log),
        cmocka_unit_test(test_wrong_arguments_are_results),
        cmocka_unit_test(test_no_way_out),
        cmocka_unit_test(test_results_are_cut),
        cmocka_unit_test(test_what_ends_the_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_conf.c - The configuration: what is read, what is refused and how it is said, who wins. */
#include "runtime/conf.h"
#include "tests/runtime/cairn.h"

static cn_conf conf;

static cn_err parse(const char *text) {
    cn_conf_release(&conf);
    t_diag = (cn_diag){0};
    return cn_conf_parse(&conf, text, strlen(text), "x.conf", &t_diag);
}

static void assert_refused(const char *text, const char *why) {
    static const cn_conf nothing;
    t_note("%s", text);
    assert_err(parse(text), CN_EINVAL);
    if (strcmp(t_diag.text, why) != 0) t_fail(__FILE__, __LINE__, "%s: %s", text, t_diag.text);
    assert_memory_equal(&conf, &nothing, sizeof(conf));
}

static void test_a_file_is_read(void **state) {
    (void)state;
    assert_err(parse("# all of it\n"
                     "\tmodel=/m/#1 # with a hash\r\n"
                     "  state =  ~/s \n"
                     "tenant = a-b.c\n"
                     "threads = 0\n"
                     "isa = avx2\n"
                     "budget = 2147483647\n"
                     "refs_budget=1\n"
                     "cache_bytes = 16T\n"
                     "\n"
                     "[ prices ] # now money\n"
                     "currency = USD\n"
                     "input = 3\n"
                     "cache_write = 3.75\n"
                     "cache_read = 0.000000001\n"
                     "output = 1000000000"),
               CN_OK);
    assert_string_equal(cn_conf_text(&conf, CN_CONF_MODEL), "/m/#1");
    assert_string_equal(cn_conf_text(&conf, CN_CONF_STATE), "~/s");
    assert_string_equal(cn_conf_text(&conf, CN_CONF_TENANT), "a-b.c");
    assert_string_equal(cn_conf_text(&conf, CN_CONF_ISA), "avx2");
    assert_string_equal(cn_conf_text(&conf, CN_CONF_CURRENCY), "USD");
    assert_int_equal(cn_conf_int64(&conf, CN_CONF_THREADS), 0);
    assert_true(cn_conf_is_set(&conf, CN_CONF_THREADS));
    assert_int_equal(cn_conf_int64(&conf, CN_CONF_BUDGET), INT32_MAX);
    assert_int_equal(cn_conf_int64(&conf, CN_CONF_REFS_BUDGET), 1);
    assert_int_equal(cn_conf_int64(&conf, CN_CONF_CACHE_BYTES), CN_CONF_CACHE_BYTES_MAX);
    assert_true(cn_conf_number(&conf, CN_CONF_INPUT) == 3);
    assert_true(cn_conf_number(&conf, CN_CONF_CACHE_WRITE) == 3.75);
    assert_true(cn_conf_number(&conf, CN_CONF_CACHE_READ) == 1e-9);
    assert_true(cn_conf_number(&conf, CN_CONF_OUTPUT) == CN_CONF_PRICE_MAX);
    assert_int_equal(conf.value[CN_CONF_OUTPUT].line, 16);

    assert_err(parse(""), CN_OK);
    for (int i = 0; i < CN_CONF_COUNT; i++) assert_false(cn_conf_is_set(&conf, (cn_conf_key)i));
    assert_err(parse("cache_bytes = 1000"), CN_OK);
    assert_int_equal(cn_conf_int64(&conf, CN_CONF_CACHE_BYTES), 1000);
    static const char *const sizes[] = {"1K", "1M", "1G", "1T"};
    for (int i = 0; i < 4; i++) {
        char text[64];
        snprintf(text, sizeof(text), "cache_bytes = %s", sizes[i]);
        assert_err(parse(text), CN_OK);
        assert_int_equal(cn_conf_int64(&conf, CN_CONF_CACHE_BYTES), INT64_C(1) << 10 * (i + 1));
    }
    cn_conf_release(&conf);
}

/* File, line, name, and what was meant or wanted. */
static void test_what_is_wrong_is_said(void **state) {
    (void)state;
    assert_refused("\nmodle = /m", "x.conf:2: no key \"modle\"; did you mean \"model\"?");
    assert_refused("dance = 1", "x.conf:1: no key \"dance\"");
    assert_refused("input = 1", "x.conf:1: no key \"input\"; did you mean \"prices.input\"?");
    assert_refused("prices.input = 1", "x.conf:1: no key \"prices.input\"");
    assert_refused("[prices]\nthreads = 1",
                   "x.conf:2: no key \"threads\"; did you mean \"threads\"?");
    assert_refused("[prices]\ninptu = 1", "x.conf:2: no key \"inptu\"; did you mean \"input\"?");
    assert_refused("[price]", "x.conf:1: no section \"price\"; did you mean \"prices\"?");
    assert_refused("[]", "x.conf:1: no section \"\"");
    assert_refused("[prices", "x.conf:1: a section ends with ]");
    assert_refused("[prices] input = 1", "x.conf:1: a section ends with ]");
    assert_refused("threads", "x.conf:1: want KEY = VALUE, [SECTION] or # COMMENT");
    assert_refused("= 2", "x.conf:1: want KEY = VALUE, [SECTION] or # COMMENT");
    assert_refused("threads = # none", "x.conf:1: threads has no value");
    assert_refused("threads = 1\n\nthreads = 2", "x.conf:3: threads stands on line 1 already");
    static const char *const numbers[] = {
        "many", "-1", "1.5", "0x10", "2147483648", "1e3", "+1", "99999999999999999999", "1 2"};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        char text[64], why[128];
        snprintf(text, sizeof(text), "budget = %s", numbers[i]);
        snprintf(why, sizeof(why), "x.conf:1: budget = %s: want a number from 0 to 2147483647",
                 numbers[i]);
        assert_refused(text, why);
    }
    static const char *const sizes[] = {"17T", "1k", "1KB", "G", "1.5G", "18014398509481984"};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char text[64], why[128];
        snprintf(text, sizeof(text), "cache_bytes = %s", sizes[i]);
        snprintf(why, sizeof(why),
                 "x.conf:1: cache_bytes = %s: want bytes up to 16T, with K, M, G or T behind the "
                 "digits",
                 sizes[i]);
        assert_refused(text, why);
    }
    static const char *const prices[] = {"-1", "1e2", "inf", ".5", "3.", "1000000001", "3 USD"};
    for (size_t i = 0; i < sizeof(prices) / sizeof(prices[0]); i++) {
        char text[64], why[128];
        snprintf(text, sizeof(text), "[prices]\noutput = %s", prices[i]);
        snprintf(why, sizeof(why), "x.conf:2: prices.output = %s: want a price such as 3 or 0.25",
                 prices[i]);
        assert_refused(text, why);
    }
    assert_refused("model = models/nano",
                   "x.conf:1: model = models/nano: want a path that begins with / or ~/");
    assert_refused("state = \"/s\"",
                   "x.conf:1: state = \"/s\": want a path that begins with / or ~/");
    assert_refused("isa = a\x01", "x.conf:1: byte 7 is a control character, 1");
    assert_refused("\n\xff", "x.conf:2: byte 1 is no UTF-8");

    char *large = malloc(CN_CONF_BYTES_MAX + 2);
    assert_non_null(large);
    memset(large, '\n', CN_CONF_BYTES_MAX + 1);
    large[CN_CONF_BYTES_MAX + 1] = 0;
    assert_err(parse(large), CN_ETOOBIG);
    large[CN_CONF_BYTES_MAX] = 0;
    assert_err(parse(large), CN_OK);
    memcpy(large, "isa =", 5);
    memset(large + 5, 'x', CN_CONF_TEXT_BYTES_MAX + 1);
    assert_err(parse(large), CN_EINVAL);
    assert_non_null(strstr(t_diag.text, "want at most 64 bytes"));
    memcpy(large, "state = /", 9);
    memset(large + 9, 'x', CN_CONF_PATH_BYTES_MAX);
    assert_err(parse(large), CN_EINVAL);
    assert_non_null(strstr(t_diag.text, "want at most 3000 bytes"));
    free(large);
    cn_conf_release(&conf);
}

static void test_the_highest_source_wins(void **state) {
    (void)state;
    assert_err(parse("budget = 1"), CN_OK);
    const struct {
        const char    *text;
        cn_conf_source source;
        int64_t        want;
    } puts[] = {{"2", CN_CONF_ENVIRONMENT, 2},
                {"3", CN_CONF_FILE, 2},
                {"4", CN_CONF_OPTION, 4},
                {"5", CN_CONF_ENVIRONMENT, 4}};
    for (size_t i = 0; i < sizeof(puts) / sizeof(puts[0]); i++) {
        assert_err(
            cn_conf_put(&conf, CN_CONF_BUDGET, puts[i].text, puts[i].source, "there", 0, &t_diag),
            CN_OK);
        assert_int_equal(cn_conf_int64(&conf, CN_CONF_BUDGET), puts[i].want);
    }
    assert_err(cn_conf_put(&conf, CN_CONF_BUDGET, "six", CN_CONF_OPTION, "--budget", 0, &t_diag),
               CN_EINVAL);
    assert_string_equal(t_diag.text, "--budget: budget = six: want a number from 0 to 2147483647");
    assert_int_equal(cn_conf_int64(&conf, CN_CONF_BUDGET), 4);
    cn_conf_release(&conf);
}

/* ---- The command -------------------------------------------------------------------- */

static const char *write_conf(const char *name, const char *text) {
    static char path[300];
    snprintf(path, sizeof(path), "%s/%s", t_tmp_dir(), name);
    t_shell("mkdir -p $(dirname %s)", path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
    return path;
}

/* The row of a key in the answer; its members as "value source where". */
static const char *row_of(const char *arguments, const char *key) {
    static char    row[600];
    cn_json_doc   *doc = t_last_line(t_cairn("config --json %s", arguments));
    const cn_json *k = cn_json_first(t_member(doc, "keys"));
    int64_t        n;
    while (k && strcmp(cn_json_string(cn_json_get(k, "key")), key) != 0) k = cn_json_next(k);
    assert_non_null(k);
    const char *where = cn_json_string(cn_json_get(k, "where"));
    const char *text = cn_json_string(cn_json_get(k, "value"));
    char        value[300];
    if (cn_json_int64(cn_json_get(k, "value"), &n))
        snprintf(value, sizeof(value), "%lld", (long long)n);
    else
        snprintf(value, sizeof(value), "%s", text ? text : "null");
    snprintf(row, sizeof(row), "%s %s %s", value, cn_json_string(cn_json_get(k, "source")),
             where ? where : "null");
    cn_json_free(doc);
    return row;
}

/* Default, file, environment, option: each over the one before, and said. */
static void test_config_says_where(void **state) {
    (void)state;
    char        want[400], option[400];
    const char *path = write_conf("a.conf", "threads = 3\n\nbudget = 1234\nstate = ~/deep\n");
    t_cairn("help"); // from now on no test sees the user's own configuration
    assert_string_equal(row_of("", "threads"), "0 default null");
    assert_string_equal(row_of("", "budget"), "32768 default null");
    assert_string_equal(row_of("", "tenant"), "null default null");
    assert_string_equal(row_of("", "prices.input"), "null default null");
    setenv("CAIRN_CONFIG", path, 1);
    snprintf(want, sizeof(want), "3 file %s:1", path);
    assert_string_equal(row_of("", "threads"), want);
    snprintf(want, sizeof(want), "1234 file %s:3", path);
    assert_string_equal(row_of("", "budget"), want);
    setenv("CAIRN_THREADS", "5", 1);
    assert_string_equal(row_of("", "threads"), "5 environment CAIRN_THREADS");
    assert_string_equal(row_of("--threads 0", "threads"), "0 option --threads");
    assert_non_null(strstr(t_cairn("config --threads 7")->output, "--threads"));
    setenv("CAIRN_THREADS", "x", 1);
    t_assert_error(t_cairn("config --json"), "EINVAL",
                   "CAIRN_THREADS: threads = x: want a number from 0 to");
    unsetenv("CAIRN_THREADS");
    t_assert_error(t_cairn("config --json --state ''"), "EINVAL", "--state: state = : want a path");
    setenv("CAIRN_STATE", "", 1); // as if it were not set
    snprintf(want, sizeof(want), "~/deep file %s:4", path);
    assert_string_equal(row_of("", "state"), want);
    unsetenv("CAIRN_STATE");

    // --config names one for this run, and must.
    path = write_conf("b.conf", "threads = 9\n");
    snprintf(option, sizeof(option), "--config %s", path);
    snprintf(want, sizeof(want), "9 file %s:1", path);
    assert_string_equal(row_of(option, "threads"), want);
    t_assert_error(t_cairn("config --json --config /nowhere/at.conf"), "ENOTFOUND",
                   "/nowhere/at.conf");

    // Without a name: XDG's folder, then that of HOME; and none is fine.
    path = write_conf("xdg/cairn/cairn.conf", "threads = 4\n");
    setenv("CAIRN_CONFIG", "", 1);
    snprintf(option, sizeof(option), "%s/xdg", t_tmp_dir());
    setenv("XDG_CONFIG_HOME", option, 1);
    snprintf(want, sizeof(want), "4 file %s:1", path);
    assert_string_equal(row_of("", "threads"), want);
    path = write_conf("home/.config/cairn/cairn.conf", "threads = 6\n");
    char *home = strdup(getenv("HOME") ? getenv("HOME") : "/");
    snprintf(option, sizeof(option), "%s/home", t_tmp_dir());
    setenv("HOME", option, 1);
    unsetenv("XDG_CONFIG_HOME");
    snprintf(want, sizeof(want), "6 file %s:1", path);
    assert_string_equal(row_of("", "threads"), want);
    assert_int_equal(remove(path), 0);
    assert_string_equal(row_of("", "threads"), "0 default null");
    setenv("HOME", home, 1);
    free(home);
    setenv("CAIRN_CONFIG", "/dev/null", 1);
}

/* What is configured is what commands do; and a file that is wrong stops each of them, but for its
 * help. */
static void test_commands_do_as_configured(void **state) {
    (void)state;
    char repo[T_PATH_BYTES], folder[T_PATH_BYTES], text[1200];
    t_new_repo(repo, folder);
    snprintf(text, sizeof(text), "state = %s\nbudget = 2000\nthreads = 1\n", folder);
    setenv("CAIRN_CONFIG", write_conf("c.conf", text), 1);
    cn_json_doc  *doc = t_last_line(t_cairn("context --json --dry-run -C %s", repo));
    const int64_t small = t_int(doc, "file_tokens");
    assert_true(small > 0 && small <= 2500); // the choice goes by an estimate
    cn_json_free(doc);
    doc = t_last_line(t_cairn("context --json --dry-run -C %s --budget 6000", repo));
    assert_true(t_int(doc, "file_tokens") > 4000);
    cn_json_free(doc);
    // A session made by ask has the budget too, and a later command may still name the session.
    doc = t_last_line(t_cairn("ask --json -C %s --max-tokens 3 hello", repo));
    assert_int_equal(t_int(doc, "bill.context_tokens"), small);
    cn_json_free(doc);
    doc = t_last_line(t_cairn("context --json --dry-run -c -C %s", repo));
    assert_int_equal(t_int(doc, "file_tokens"), small);
    cn_json_free(doc);
    t_shell("test -d %s/ledger", folder);
    snprintf(text, sizeof(text), "model = %s/tests/golden/tiny-a\ncache_bytes = 64M\n",
             t_source_dir());
    setenv("CAIRN_CONFIG", write_conf("e.conf", text), 1);
    doc = t_last_line(t_cairn("model info --json"));
    assert_non_null(strstr(cn_json_string(t_member(doc, "model")), "tests/golden/tiny-a"));
    cn_json_free(doc);
    doc = t_last_line(t_cairn("cache stat --json --state %s/small", t_tmp_dir()));
    assert_true(t_int(doc, "budget_bytes") > 32 << 20 && t_int(doc, "budget_bytes") <= 64 << 20);
    cn_json_free(doc);

    const char *path = write_conf("d.conf", "thread = 1\n");
    setenv("CAIRN_CONFIG", path, 1);
    static const char *const commands[] = {"cost", "sessions", "model info", "config",
                                           "cache stat"};
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        t_assert_error(t_cairn("%s --json", commands[i]), "EINVAL",
                       "d.conf:1: no key \"thread\"; did you mean \"threads\"?");
        assert_int_equal(t_cairn("%s --help", commands[i])->status, 0);
    }
    setenv("CAIRN_CONFIG", "/dev/null", 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_is_read),
        cmocka_unit_test(test_what_is_wrong_is_said),
        cmocka_unit_test(test_the_highest_source_wins),
        cmocka_unit_test(test_config_says_where),
        cmocka_unit_test(test_commands_do_as_configured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_tenant.c - Two tenants on one state folder, in processes of their own: what one of them is
 * told is, byte for byte, what it would be told on a folder of its own.
 */
#include "tests/runtime/cairn.h"

static char repo[T_PATH_BYTES], shared[T_PATH_BYTES], alone[T_PATH_BYTES];

static void new_folders(void) {
    char unused[T_PATH_BYTES];
    t_new_repo(repo, shared);
    t_shell("cd %s && git rm -q --cached base/json.c base/json.h && rm base/json.*", repo);
    t_new_repo(unused, alone);
}

/* The command's output as this tenant of this folder; the caller frees it. */
static char *as(const char *tenant, const char *state, const char *command) {
    const t_result *r = t_cairn("%s --model %s/tests/golden/tiny-a --state %s %s%s", command,
                                t_source_dir(), state, *tenant ? "--tenant " : "", tenant);
    char           *output = strdup(r->output);
    assert_non_null(output);
    return output;
}

/* What the tenant learns here is what it learns where nobody else is. */
static void assert_alone(const char *tenant, const char *command) {
    char *here = as(tenant, shared, command), *there = as(tenant, alone, command);
    if (strcmp(here, there) != 0)
        t_fail(__FILE__, __LINE__, "%s as %s:\n%s\nalone:\n%s", command, tenant, here, there);
    free(here);
    free(there);
}

static cn_json_doc *ask_as(const char *tenant, const char *state, const char *options) {
    char command[1400];
    snprintf(command, sizeof(command), "ask --json --budget 3000 --max-tokens 3 -C %s %s hello",
             repo, options);
    char           *output = as(tenant, state, command);
    static t_result r;
    snprintf(r.output, sizeof(r.output), "%s", output);
    free(output);
    return t_last_line(&r);
}

static void test_a_tenant_is_alone(void **state) {
    (void)state;
    char command[1400], id[64];
    new_folders();
    cn_json_doc  *doc = ask_as("acme", shared, "");
    const int64_t tokens = t_int(doc, "bill.prefilled_tokens");
    char         *text = strdup(cn_json_string(t_member(doc, "text")));
    snprintf(id, sizeof(id), "%s", cn_json_string(t_member(doc, "session")));
    assert_true(tokens > 1000);
    cn_json_free(doc);

    // Another tenant, and none: the price of the view, with every file to be read; no session, no
    // cost, not even by the id that somebody told it.
    static const char *const others[] = {"zeta", "acme2", "ACME", ""};
    for (int i = 0; i < 4; i++) {
        static const char *const by[] = {"turn", "session", "day", "tool"};
        snprintf(command, sizeof(command), "context --json --dry-run --budget 3000 -C %s", repo);
        assert_alone(others[i], command);
        assert_alone(others[i], "sessions --json");
        for (int b = 0; b < 4; b++) {
            snprintf(command, sizeof(command), "cost --json --by %s", by[b]);
            assert_alone(others[i], command);
            snprintf(command, sizeof(command), "cost --json --by %s -s %s", by[b], id);
            assert_alone(others[i], command);
        }
        snprintf(command, sizeof(command), "sessions show --json %s", id);
        assert_alone(others[i], command);
        snprintf(command, sizeof(command), "ask --json -s %.4s hello", id);
        assert_alone(others[i], command);
        snprintf(command, sizeof(command), "ask --json -c -C %s hello", repo);
        assert_alone(others[i], command);
    }

    // A first turn pays for all of it, and its misses are "new"; the answer is the same.
    for (int folder = 0; folder < 2; folder++) {
        doc = ask_as("nova", folder ? alone : shared, "");
        assert_int_equal(t_int(doc, "bill.prefilled_tokens"), tokens);
        assert_int_equal(t_int(doc, "bill.cached_tokens"), 0);
        assert_int_equal(t_int(doc, "bill.reused_tokens"), 0);
        assert_int_equal(cn_json_count(t_member(doc, "bill.misses")), 1);
        assert_string_equal(
            cn_json_string(cn_json_get(cn_json_first(t_member(doc, "bill.misses")), "reason")),
            "new");
        assert_string_equal(cn_json_string(t_member(doc, "text")), text);
        assert_int_equal(t_int(doc, "turn"), 1);
        cn_json_free(doc);
    }
    free(text);
    snprintf(command, sizeof(command), "context --json --dry-run --budget 3000 -C %s", repo);
    assert_alone("nova", command);

    // Each has its own, whole.
    static const char *const both[] = {"acme", "nova"};
    for (int i = 0; i < 2; i++) {
        doc = ask_as(both[i], shared, "-c");
        assert_int_equal(t_int(doc, "bill.cached_tokens"), t_int(doc, "bill.context_tokens"));
        assert_int_equal(t_int(doc, "bill.prefilled_tokens"), 0);
        assert_int_equal(t_int(doc, "turn"), 2);
        cn_json_free(doc);
        static t_result r;
        char           *output = as(both[i], shared, "sessions --json");
        snprintf(r.output, sizeof(r.output), "%s", output);
        free(output);
        doc = t_last_line(&r);
        assert_int_equal(cn_json_count(t_member(doc, "sessions")), 1);
        cn_json_free(doc);
    }
    // Nothing is shared: what the store holds is twice what one of them needs.
    int64_t pages[2];
    for (int folder = 0; folder < 2; folder++) {
        static t_result r;
        char           *output = as("", folder ? alone : shared, "cache stat --json");
        snprintf(r.output, sizeof(r.output), "%s", output);
        free(output);
        doc = t_last_line(&r);
        pages[folder] = t_int(doc, "documents");
        cn_json_free(doc);
    }
    assert_int_equal(pages[0], 2 * pages[1]);
}

/* By option, variable or file; and not any name. */
static void test_a_tenant_is_named(void **state) {
    (void)state;
    new_folders();
    cn_json_free(ask_as("acme", shared, ""));
    char path[300];
    setenv("CAIRN_TENANT", "acme", 1);
    cn_json_doc *doc = ask_as("", shared, "-c");
    assert_int_equal(t_int(doc, "turn"), 2);
    cn_json_free(doc);
    unsetenv("CAIRN_TENANT");
    snprintf(path, sizeof(path), "%s/tenant.conf", t_tmp_dir());
    t_shell("echo 'tenant = acme' >%s", path);
    setenv("CAIRN_CONFIG", path, 1);
    doc = ask_as("", shared, "-c");
    assert_int_equal(t_int(doc, "turn"), 3);
    cn_json_free(doc);
    doc = ask_as("other", shared, ""); // the option wins
    assert_int_equal(t_int(doc, "turn"), 1);
    cn_json_free(doc);
    setenv("CAIRN_CONFIG", "/dev/null", 1);
    static const char *const wrong[] = {"../x", ".x", "a/b", "'a b'", "ä"};
    for (int i = 0; i < 5; i++)
        t_assert_error(t_cairn("sessions --json --state %s --tenant %s", shared, wrong[i]),
                       "EINVAL", "letters, digits");
    char name[70];
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = 0;
    t_assert_error(t_cairn("sessions --json --state %s --tenant %s", shared, name), "EINVAL",
                   "at most 64 bytes");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_tenant_is_alone),
        cmocka_unit_test(test_a_tenant_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

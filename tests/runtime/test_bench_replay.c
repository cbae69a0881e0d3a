/* test_bench_replay.c - cairn bench replay as its users see it: processes, and a token that is
 * another than what the model said. */
#include "store/ledger_int.h"
#include "tests/runtime/cairn.h"

#define TINY "--model " CN_SOURCE_DIR "/tests/golden/tiny-a"

static char repo[T_PATH_BYTES], state[T_PATH_BYTES], id[80];

static int set_up(void **unused) {
    (void)unused;
    snprintf(repo, sizeof(repo), "%s/repo", t_tmp_dir());
    snprintf(state, sizeof(state), "%s/state", t_tmp_dir());
    t_walk_repo(repo);
    for (int i = 0; i < 3; i++) {
        cn_json_doc *doc = t_last_line(t_cairn("ask --json --state %s -C %s " TINY
                                               " --max-tokens 20 %s 'what does walk do?'",
                                               state, repo, i ? "-c" : ""));
        snprintf(id, sizeof(id), "%s", cn_json_string(t_member(doc, "session")));
        cn_json_free(doc);
    }
    return 0;
}

static const t_result *replay(const char *options) {
    return t_cairn("bench replay %s --state %s " TINY " %s", id, state, options);
}

static bool is_identical(const cn_json_doc *doc) {
    bool is = false;
    assert_true(cn_json_bool(t_member(doc, "identical"), &is));
    return is;
}

static void test_identical(void **unused) {
    (void)unused;
    const t_result *r = replay("--json");
    assert_int_equal(r->status, 0);
    cn_json_doc *doc = t_last_line(r);
    assert_true(is_identical(doc));
    assert_int_equal(cn_json_count(t_member(doc, "turns")), 3);
    assert_int_equal(t_int(doc, "departed_tokens"), 0);
    assert_true(t_int(doc, "compared_tokens") > 3 * 20);
    assert_null(cn_json_get(cn_json_root(doc), "departure"));
    cn_json_free(doc);
    r = replay("");
    assert_int_equal(r->status, 0);
    assert_non_null(strstr(r->output, "turn 3    identical  "));
    assert_non_null(strstr(r->output, "\nidentical: 3 turns, "));
}

/* An export, in the state folder that it comes from and in one that never saw it. */
static void test_an_export(void **unused) {
    (void)unused;
    char file[T_PATH_BYTES + 16];
    snprintf(file, sizeof(file), "%s/talk.jsonl", t_tmp_dir());
    assert_int_equal(t_cairn("sessions export %s %s --state %s", id, file, state)->status, 0);
    const t_result *r = t_cairn("bench replay %s --json --state %s " TINY, file, state);
    assert_int_equal(r->status, 0);
    cn_json_doc *doc = t_last_line(r);
    assert_true(is_identical(doc));
    assert_string_equal(cn_json_string(t_member(doc, "session")), id);
    const cn_json *turn = cn_json_first(t_member(doc, "turns"));
    int64_t        n = -1;
    assert_true(cn_json_int64(cn_json_get(turn, "prefilled_tokens"), &n) && n == 0);
    cn_json_free(doc);
    r = t_cairn("bench replay %s --json --state %s.other " TINY, file, state);
    assert_int_equal(r->status, 0);
    doc = t_last_line(r);
    assert_true(is_identical(doc));
    turn = cn_json_first(t_member(doc, "turns"));
    assert_true(cn_json_int64(cn_json_get(turn, "prefilled_tokens"), &n) && n > 50);
    assert_true(cn_json_int64(cn_json_get(turn, "assumed_documents"), &n) && n == 2);
    cn_json_free(doc);
    r = t_cairn("sessions --json --state %s.other", state); // nothing was written
    doc = t_last_line(r);
    assert_int_equal(cn_json_count(t_member(doc, "sessions")), 0);
    cn_json_free(doc);
    t_shell("sed -i 's/what does walk do/what does walk du/' %s", file);
    r = t_cairn("bench replay %s --state %s.other " TINY, file, state);
    assert_int_equal(r->status, 1);
    assert_non_null(strstr(r->output, ", of a text: recorded "));
    t_shell("echo more >>%s", file);
    t_assert_error(t_cairn("bench replay %s --json --state %s " TINY, file, state), "ECORRUPT",
                   "talk.jsonl: line");
}

/* The last sampled token of the second turn becomes another: said, with exit status 1. */
static void change_a_token(void) {
    cn_ledger *l;
    char       dir[T_PATH_BYTES + 16];
    snprintf(dir, sizeof(dir), "%s/ledger", state);
    assert_err(cn_ledger_open(&l, &(cn_ledger_opts){.dir = dir}, &t_diag), CN_OK);
    assert_int_equal(
        sqlite3_exec(l->db,
                     "UPDATE steps SET tokens = CAST(substr(tokens, 1, length(tokens) - 4) ||"
                     " x'ff000000' AS BLOB) WHERE turn = (SELECT key FROM turns WHERE turn = 2)",
                     NULL, NULL, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_changes(l->db), 1);
    cn_ledger_close(l);
}

static void test_a_departure(void **unused) {
    (void)unused;
    change_a_token();
    const t_result *r = replay("--json");
    assert_int_equal(r->status, 1);
    cn_json_doc *doc = t_last_line(r);
    assert_false(is_identical(doc));
    assert_int_equal(cn_json_count(t_member(doc, "turns")), 2); // it stopped
    assert_int_equal(t_int(doc, "departure.turn"), 2);
    assert_int_equal(t_int(doc, "departure.recorded"), 255);
    assert_true(t_int(doc, "departure.replayed") != 255);
    assert_string_equal(cn_json_string(t_member(doc, "departure.kind")), "sampled");
    cn_json_free(doc);
    r = replay("");
    assert_int_equal(r->status, 1);
    assert_non_null(strstr(r->output, "\nturn 2, step 0, token "));
    assert_non_null(strstr(r->output, ": recorded 255, replayed "));
    assert_non_null(strstr(r->output, "\n  before    "));
    assert_non_null(strstr(r->output, "\nnot identical: "));
    assert_non_null(strstr(r->output, "; stopped there"));
    r = replay("--keep-going --json");
    assert_int_equal(r->status, 1);
    doc = t_last_line(r);
    assert_int_equal(cn_json_count(t_member(doc, "turns")), 3);
    cn_json_free(doc);
}

/* A view that is gone is said; so is what is wrong. */
static void test_what_cannot_be_judged(void **unused) {
    (void)unused;
    t_shell("rm -rf %s/cache; printf '// more\\n' >>%s/walk.c", state, repo);
    const t_result *r = replay("");
    assert_int_equal(r->status, 1);
    assert_non_null(strstr(r->output, "turn 1    lost "));
    assert_non_null(strstr(r->output, "cannot be had any more: walk.c lines 1-10"));
    assert_non_null(strstr(r->output, "; 3 turns were not judged"));
    cn_json_doc *doc = t_last_line(replay("--json -k"));
    assert_int_equal(t_int(doc, "lost_turns"), 3);
    const cn_json *lost = cn_json_get(cn_json_first(t_member(doc, "turns")), "lost");
    assert_string_equal(cn_json_string(cn_json_get(cn_json_first(lost), "path")), "walk.c");
    cn_json_free(doc);
    t_assert_error(t_cairn("bench replay nobody --json --state %s " TINY, state), "ENOTFOUND",
                   "nobody");
    t_assert_error(t_cairn("bench replay %s --json --state %s --model %s/tests/golden/tiny-b", id,
                           state, t_source_dir()),
                   "EINVAL", "was recorded with model");
    assert_int_equal(t_cairn("bench replay --state %s", state)->status, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identical),
        cmocka_unit_test(test_an_export),
        cmocka_unit_test(test_a_departure),
        cmocka_unit_test(test_what_cannot_be_judged),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}

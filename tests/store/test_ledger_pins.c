/* test_ledger_pins.c - Texts of a pinned view: put, shared by forks, gone with the last of them. */
#include "tests/store/ledger_kit.h"

#include "store/ledger_pins.h"

static void put_file(void *ctx, const cn_ledger_pinned *f) {
    cn_buf_printf(ctx, "%s[%zu]=%.*s;", f->path, f->text.bytes, (int)f->text.bytes,
                  f->text.bytes ? (const char *)f->text.data : "");
}

static void assert_pin(cn_ledger *l, const char *session, const char *want) {
    cn_buf        got = {0};
    cn_ledger_pin pin;
    assert_err(cn_ledger_pin_get(l, session, &pin, put_file, &got, &t_diag), CN_OK);
    assert_string_equal(cn_buf_str(&got), want);
    cn_buf_release(&got);
}

static void test_a_pin_is_kept_and_shared(void **state) {
    (void)state;
    const char        *dir = k_new_path();
    cn_ledger         *l = k_open(dir);
    cn_ledger_pin      pin;
    cn_ledger_session *fork;
    k_create(l, "one");
    cn_ledger_writer *w = k_write(l, "one");
    t_diag = (cn_diag){0};
    assert_err(cn_ledger_pin_get(l, "one", &pin, NULL, NULL, &t_diag), CN_ENOTFOUND);
    assert_string_equal(t_diag.text, "");
    assert_err(cn_ledger_pin_get(l, "two", &pin, NULL, NULL, &t_diag), CN_ENOTFOUND);
    assert_non_null(strstr(t_diag.text, "no session two"));
    assert_err(
        cn_ledger_session_edit(w, &(cn_ledger_edit){.commit = "c0ffee", .branch = "b"}, &t_diag),
        CN_OK);
    const cn_ledger_pinned file[] = {{"z\xff.c", k_text("zz")}, {"a.c", {"a\0b", 3}}, {"e", {0}}};
    assert_err(cn_ledger_pin_put(w, file, 3, &t_diag), CN_OK);
    assert_err(cn_ledger_session_edit(w, &(cn_ledger_edit){.commit = "later"}, &t_diag), CN_OK);
    cn_ledger_writer_close(w);
    cn_ledger_close(l);

    l = k_open(dir);
    assert_err(cn_ledger_pin_get(l, "one", &pin, NULL, NULL, &t_diag), CN_OK);
    assert_int_equal(pin.files, 3);
    assert_string_equal(pin.commit, "c0ffee");
    assert_string_equal(pin.branch, "b");
    assert_true(pin.made_ns > 0);
    assert_pin(l, "one", "a.c[3]=a;e[0]=;z\xff.c[2]=zz;");
    assert_err(cn_ledger_session_fork(l, "one", 0, "fork", &fork, &t_diag), CN_OK);
    cn_ledger_session_free(fork);
    assert_pin(l, "fork", "a.c[3]=a;e[0]=;z\xff.c[2]=zz;");
    assert_int_equal(k_sql_int(dir, "SELECT count(*) FROM pinned"), 3); // shared

    // Another in its place; the fork keeps the first.
    w = k_write(l, "one");
    const cn_ledger_pinned twice[] = {{"a", k_text("1")}, {"a", k_text("2")}};
    assert_err(cn_ledger_pin_put(w, twice, 2, &t_diag), CN_EINVAL);
    assert_pin(l, "one", "a.c[3]=a;e[0]=;z\xff.c[2]=zz;");
    assert_err(cn_ledger_pin_put(w, twice, 1, &t_diag), CN_OK);
    assert_pin(l, "one", "a[1]=1;");
    assert_pin(l, "fork", "a.c[3]=a;e[0]=;z\xff.c[2]=zz;");
    assert_err(cn_ledger_pin_put(w, file, CN_LEDGER_DOCUMENTS_MAX + 1, &t_diag), CN_ETOOBIG);
    assert_err(cn_ledger_pin_del(w, &t_diag), CN_OK);
    assert_err(cn_ledger_pin_del(w, &t_diag), CN_OK); // none is fine
    assert_err(cn_ledger_pin_get(l, "one", &pin, NULL, NULL, &t_diag), CN_ENOTFOUND);
    cn_ledger_writer_close(w);
    assert_int_equal(k_sql_int(dir, "SELECT count(*) FROM pins"), 1);
    assert_err(cn_ledger_session_del(l, "fork", &t_diag), CN_OK);
    assert_int_equal(k_sql_int(dir, "SELECT count(*) FROM pins"), 0);
    assert_int_equal(k_sql_int(dir, "SELECT count(*) FROM pinned"), 0);
    assert_err(cn_ledger_verify(l, &t_diag), CN_OK);
    cn_ledger_close(l);
}

/* A session's folder, and where HEAD was when its view was made. */
static void on_generation(void *ctx, const cn_ledger_generation *g) {
    cn_buf_printf(ctx, "%s %s %d", g->commit, g->branch, g->made_ns > 0);
}

static void test_generations_know_their_commit(void **state) {
    (void)state;
    cn_ledger *l = k_open(k_new_path());
    k_create(l, "one");
    cn_ledger_writer        *w = k_write(l, "one");
    const cn_ledger_document d = k_document("a.c", 1, 5);
    int64_t                  first, second;
    cn_buf                   got = {0};
    cn_ledger_edit           edit = {.repo = "/src/y", .commit = "c1", .branch = "b1"};
    assert_err(cn_ledger_session_edit(w, &edit, &t_diag), CN_OK);
    assert_err(cn_ledger_documents_put(w, &d, 1, &first, &t_diag), CN_OK);
    k_turn(w, "why", 1);
    edit.commit = "c2";
    assert_err(cn_ledger_session_edit(w, &edit, &t_diag), CN_OK);
    assert_err(cn_ledger_documents_put(w, &d, 0, &second, &t_diag), CN_OK);
    assert_err(cn_ledger_generation_get(l, first, on_generation, &got, &t_diag), CN_OK);
    assert_string_equal(cn_buf_str(&got), "c1 b1 1");
    cn_buf_reset(&got);
    assert_err(cn_ledger_generation_get(l, second, on_generation, &got, &t_diag), CN_OK);
    assert_string_equal(cn_buf_str(&got), "c2 b1 1");
    assert_err(cn_ledger_generation_get(l, 99, on_generation, &got, &t_diag), CN_ENOTFOUND);
    cn_ledger_session *row;
    assert_err(cn_ledger_session_latest(l, "/src/y", &row, &t_diag), CN_OK);
    assert_string_equal(row->id, "one");
    cn_ledger_session_free(row);
    cn_buf_release(&got);
    cn_ledger_writer_close(w);
    cn_ledger_close(l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_pin_is_kept_and_shared),
        cmocka_unit_test(test_generations_know_their_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

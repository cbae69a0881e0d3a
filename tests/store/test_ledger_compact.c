/* test_ledger_compact.c - One turn in the place of many; what was there stays, in the parent. */
#include "tests/store/ledger_kit.h"

static const char *dir;
static cn_ledger  *l;

static int set_up(void **state) {
    (void)state;
    dir = k_new_path();
    l = k_open(dir);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    assert_err(cn_ledger_verify(l, &t_diag), CN_OK);
    cn_ledger_close(l);
    return 0;
}

static const int32_t summary[] = {7, 8, 9};

static cn_ledger_compaction compaction(int32_t through) {
    static cn_bill bill;
    bill = k_bill(77);
    return (cn_ledger_compaction){.origin = CN_ORIGIN_EXTRACT,
                                  .through = through,
                                  .question = k_text("so far?"),
                                  .answer = k_text("this"),
                                  .token = summary,
                                  .tokens = 3,
                                  .parent_id = "before",
                                  .parent_title = "until turn 4",
                                  .settings = "{\"new\":1}",
                                  .started_ns = 5,
                                  .bill = &bill};
}

static cn_ledger_session *find(const char *id) {
    cn_ledger_session *s;
    assert_err(cn_ledger_session_find(l, id, &s, &t_diag), CN_OK);
    return s;
}

static cn_buf dump(const char *id) {
    cn_buf out = {0};
    k_dump_session(l, id, &out);
    return out;
}

static void assert_has(const cn_buf *b, const char *text) {
    if (!strstr(b->data, text)) t_fail(__FILE__, __LINE__, "no \"%s\" in:\n%s", text, b->data);
}

static void sum_bill(void *ctx, const cn_ledger_cost *c) {
    cn_bill_add(ctx, &c->bill);
}

static void sum_calls(void *ctx, const cn_ledger_cost *c) {
    *(int64_t *)ctx += c->calls_ns;
}

static cn_bill all_bills(void) {
    cn_bill sum = {0};
    assert_err(cn_ledger_costs(l, CN_COST_SESSION, NULL, sum_bill, &sum, &t_diag), CN_OK);
    return sum;
}

static int64_t all_calls(void) {
    int64_t ns = 0;
    assert_err(cn_ledger_costs(l, CN_COST_TOOL, NULL, sum_calls, &ns, &t_diag), CN_OK);
    return ns;
}

static void test_the_session_goes_on_and_the_parent_stays(void **state) {
    (void)state;
    char               parent[CN_LEDGER_ID_BYTES_MAX + 1];
    cn_ledger_session *fork;
    k_create(l, "a");
    cn_ledger_writer        *w = k_write(l, "a");
    const cn_ledger_document d = k_document("a.c", 1, 2);
    assert_err(cn_ledger_documents_put(w, &d, 1, NULL, &t_diag), CN_OK);
    for (int i = 1; i <= 4; i++) assert_int_equal(k_turn(w, "why", 2), i);
    assert_err(cn_ledger_session_fork(l, "a", 1, "f", &fork, &t_diag), CN_OK);
    cn_ledger_session_free(fork);
    cn_buf        was = dump("a");
    cn_bill       bill = all_bills();
    const int64_t calls_ns = all_calls();

    const cn_ledger_compaction c = compaction(2);
    assert_err(cn_ledger_compact(w, &c, parent, &t_diag), CN_OK);
    assert_string_equal(parent, "before");

    // The parent is all that the session was, but for its name.
    cn_buf now = dump("before");
    cn_buf want = {0};
    for (const char *p = was.data, *q; *p; p = q) { // a turn names its session
        q = strstr(p + 1, "turn a/");
        if (!q) q = p + strlen(p);
        const bool is_turn = strncmp(p, "turn a/", 7) == 0;
        if (is_turn) cn_buf_put_str(&want, "turn before/");
        cn_buf_put(&want, p + (is_turn ? 7 : 0), (size_t)(q - p) - (is_turn ? 7 : 0));
    }
    assert_string_equal(strchr(now.data, '\n'), strchr(want.data, '\n'));
    cn_buf_release(&now);
    cn_buf_release(&want);
    cn_ledger_session *s = find("before");
    assert_string_equal(s->title, "until turn 4");
    assert_string_equal(s->settings, "");
    assert_int_equal(s->head, 4);
    cn_ledger_session_free(s);

    // The fork stands on the parent's turns, as before.
    s = find("f");
    assert_string_equal(s->parent, "before");
    cn_ledger_session_free(s);
    now = dump("f");
    assert_has(&now, "tokens 1.0 100 0\n");
    assert_null(strstr(now.data, "tokens 2"));
    cn_buf_release(&now);

    // The session has one turn for two, and copies of the other two.
    s = find("a");
    assert_string_equal(s->parent, "before");
    assert_string_equal(s->title, "T");
    assert_string_equal(s->settings, "{\"new\":1}");
    assert_true(s->head == 4 && s->forked_at == 0 && s->turns == 3 && s->generation > 0);
    cn_ledger_session_free(s);
    now = dump("a");
    assert_has(&now, "turn a/2 end extract 1 steps q[7]=so far? a[4]=this,77000,");
    assert_has(&now, "turn a/3 end kept 2 steps q[3]=why a[6]=answer,0,0,0,");
    assert_has(&now, "turn a/4 end kept 2 steps");
    assert_has(&now, "tokens 2.0 7 8 9\ntokens 3.0 300 0\ntokens 3.1 301 1\ntokens 4.0 400 0\n");
    assert_has(&now, "call 3.0.0 grep done exit 3 ns 3000 args[7]={\"a\":1} sampled[10]=<call a=1> "
                     "result[5]=found");
    assert_has(&now, "ref 4.0 q.txt of 0.0 bytes 0+1 text[1]=w\n");
    assert_has(&now, "ref 4.1 r.txt of 0.0 bytes 2+3 text[3]=und\n");
    assert_has(&now, "document a.c");
    assert_null(strstr(now.data, "tokens 1"));
    cn_buf_release(&now);

    // What it cost is on the bill once.
    cn_bill_add(&bill, c.bill);
    const cn_bill sum = all_bills();
    assert_memory_equal(&sum, &bill, sizeof(sum));
    assert_int_equal(all_calls(), calls_ns);
    assert_int_equal(k_sql_int(dir, "SELECT sum(calls_ns) FROM cost_by_tool"), calls_ns);
    assert_int_equal(k_sql_int(dir, "SELECT turns FROM cost_by_session WHERE session = 'a'"), 1);

    // The writer goes on in it; another may go on in the parent.
    assert_int_equal(k_turn(w, "and now", 1), 5);
    cn_ledger_writer *other;
    assert_err(cn_ledger_writer_open(&other, l, "a", NULL, &t_diag), CN_EBUSY);
    other = k_write(l, "before");
    assert_int_equal(k_turn(other, "back then", 1), 5);
    cn_ledger_writer_close(other);
    cn_ledger_writer_close(w);
    now = dump("a");
    assert_has(&now, "q[7]=and now");
    cn_buf_release(&now);

    // -c finds the one that was written last; the parent stays as long as it is one.
    t_diag = (cn_diag){0};
    assert_err(cn_ledger_session_del(l, "before", &t_diag), CN_EINVAL);
    assert_err(cn_ledger_session_del(l, "a", &t_diag), CN_OK);
    assert_err(cn_ledger_session_del(l, "f", &t_diag), CN_OK);
    assert_err(cn_ledger_session_del(l, "before", &t_diag), CN_OK);
    cn_buf_release(&was);
}

static void test_the_compacted_one_was_written_last(void **state) {
    (void)state;
    char               parent[CN_LEDGER_ID_BYTES_MAX + 1];
    cn_ledger_session *s;
    k_create(l, "a");
    cn_ledger_writer    *w = k_write(l, "a");
    cn_ledger_compaction c = compaction(1);
    k_turn(w, "why", 1);
    c.parent_id = NULL; // a random one
    assert_err(cn_ledger_compact(w, &c, parent, &t_diag), CN_OK);
    assert_int_equal(strlen(parent), 16);
    assert_err(cn_ledger_session_latest(l, "/src/x", &s, &t_diag), CN_OK);
    assert_string_equal(s->id, "a");
    assert_string_equal(s->parent, parent);
    cn_ledger_session_free(s);

    // Again: a chain of parents.
    c = compaction(1);
    c.parent_id = "second";
    assert_err(cn_ledger_compact(w, &c, parent, &t_diag), CN_OK);
    cn_ledger_writer_close(w);
    s = find("second");
    assert_int_equal(strlen(s->parent), 16);
    cn_ledger_session_free(s);
}

static void test_refusals_change_nothing(void **state) {
    (void)state;
    char    parent[CN_LEDGER_ID_BYTES_MAX + 1];
    int32_t turn;
    k_create(l, "a");
    k_create(l, "before");
    cn_ledger_writer *w = k_write(l, "a");
    k_turn(w, "why", 1);
    cn_buf was = k_dump(l);

    cn_ledger_compaction c = compaction(1);
    assert_err(cn_ledger_compact(w, &c, parent, &t_diag), CN_EINVAL); // the id is taken
    assert_string_equal(parent, "");
    c.parent_id = "no good";
    assert_err(cn_ledger_compact(w, &c, parent, &t_diag), CN_EINVAL);
    c.parent_id = NULL;
    c.origin = CN_ORIGIN_KEPT;
    assert_err(cn_ledger_compact(w, &c, parent, &t_diag), CN_EINVAL);
    c = compaction(2);
    c.parent_id = NULL;
    assert_err(cn_ledger_compact(w, &c, parent, &t_diag), CN_ENOTFOUND);
    c.through = 1;
    c.tokens = CN_LEDGER_STEP_TOKENS_MAX + 1;
    assert_err(cn_ledger_compact(w, &c, parent, &t_diag), CN_ETOOBIG);
    cn_buf now = k_dump(l);
    assert_true(k_is_same(&was, &now));
    cn_buf_release(&now);
    cn_buf_release(&was);

    assert_err(cn_ledger_turn_begin(w, k_text("q"), &turn, &t_diag), CN_OK);
    c = compaction(1);
    c.parent_id = NULL;
    assert_err(cn_ledger_compact(w, &c, parent, &t_diag), CN_EINVAL);
    assert_non_null(strstr(t_diag.text, "turn 2 is open"));
    cn_ledger_writer_close(w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_the_session_goes_on_and_the_parent_stays),
        TEST(test_the_compacted_one_was_written_last),
        TEST(test_refusals_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

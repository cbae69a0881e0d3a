/*
 * test_export.c - A session as JSON Lines and back: nothing is lost, nothing wrong is let in.
 *
 * Method: a session with all that a ledger can hold, a fork among it, is exported, imported into
 * another ledger, exported again.  Then its text is broken in one place at a time.
 */
#include "base/base64.h"
#include "base/fault.h"
#include "base/json.h"
#include "store/export.h"
#include "tests/store/ledger_kit.h"

static const char raw[] = "caf\xe9 \x01\0 and \xf0\x9f\x92\xa1 \"quoted\" \\ /\xe2\x80\xa8";

static cn_err on_line(void *ctx, const char *line, size_t bytes, cn_diag *diag) {
    (void)diag;
    assert_true(bytes > 1 && line[bytes - 1] == '\n' && !memchr(line, '\n', bytes - 1));
    cn_buf_put(ctx, line, bytes);
    return CN_OK;
}

static cn_buf export_of(cn_ledger *l, const char *id, cn_export_sum *sum) {
    cn_buf out = {0};
    assert_err(cn_ledger_export(l, id, on_line, &out, sum, &t_diag), CN_OK);
    return out;
}

static cn_err import(cn_ledger *l, const char *text, size_t bytes, const char *id,
                     cn_ledger_session **out) {
    return cn_ledger_import(
        l, &(cn_import){.text = text, .bytes = bytes, .name = "a.jsonl", .id = id}, out, &t_diag);
}

/* Session "b", a fork of "a" at turn 2, with two views, long parts, evidence, a turn taken back,
 * and texts that are no UTF-8. */
static cn_ledger *filled(const char *dir) {
    cn_ledger               *l = k_open(dir);
    cn_ledger_session       *s;
    const cn_ledger_document d[2] = {k_document("src/a.c", 7, 100), k_document("b\xff.c", 8, 50)};
    cn_ledger_document       ref = k_document("turn-1/question.txt", 9, 20);
    ref.kind = CN_DOCUMENT_REF;
    k_create(l, "a");
    cn_ledger_writer *w = k_write(l, "a");
    assert_err(cn_ledger_session_edit(w,
                                      &(cn_ledger_edit){.title = "Ein T\xc3\xaftel",
                                                        .commit = "c0ffee",
                                                        .branch = "ma\xfe"
                                                                  "in",
                                                        .settings = "{\"budget\":5}",
                                                        .model = &d[0].piece.key},
                                      &t_diag),
               CN_OK);
    k_turn(w, "first", 0); // before any view
    assert_err(cn_ledger_documents_put(w, d, 2, NULL, &t_diag), CN_OK);
    k_turn(w, "a question that is long enough", 3);
    cn_ledger_writer_close(w);
    assert_err(cn_ledger_session_fork(l, "a", 2, "b", &s, &t_diag), CN_OK);
    cn_ledger_session_free(s);
    w = k_write(l, "b");
    assert_err(cn_ledger_documents_put(w, &ref, 1, NULL, &t_diag), CN_OK);
    k_turn(w, "taken back", 2);
    assert_err(cn_ledger_rewind(w, 2, &t_diag), CN_OK);
    int32_t turn;
    assert_err(cn_ledger_turn_begin(w, (cn_ledger_text){raw, sizeof(raw)}, &turn, &t_diag), CN_OK);
    const cn_ledger_intent intent = {"t\xc3\xbc", {raw, sizeof(raw)}, {raw, sizeof(raw) - 1}};
    const int32_t          token[3] = {0, INT32_MAX, 1};
    assert_err(cn_ledger_step_commit(w,
                                     &(cn_ledger_commit){.token = token,
                                                         .tokens = 3,
                                                         .stop = CN_STOP_TOOL,
                                                         .started_ns = 5,
                                                         .intent = &intent,
                                                         .intents = 1},
                                     &t_diag),
               CN_OK);
    const cn_bill        bill = {.wall_ns = 9, .other_ns = -1, .saved_ns = -3, .output_tokens = 2};
    const cn_ledger_read read[2] = {{"x", -1, 0, 1.0 / 3}, {"x", 1, 2, 1}};
    assert_err(
        cn_ledger_turn_finish(w, CN_STOP_ERROR, (cn_ledger_text){raw, 4}, &bill, read, 2, &t_diag),
        CN_OK);
    cn_ledger_writer_close(w);
    return l;
}

/* What a reader sees of a conversation, wherever its turns were made. */
static cn_buf seen(cn_ledger *l, const char *id) {
    cn_buf out = {0};
    assert_err(cn_ledger_calls(l, id, 0, k_put_call, &out, &t_diag), CN_OK);
    assert_err(cn_ledger_reads(l, id, 0, k_put_read, &out, &t_diag), CN_OK);
    assert_err(cn_ledger_tokens(l, id, 0, k_put_tokens, &out, &t_diag), CN_OK);
    assert_err(cn_ledger_refs(l, id, 0, k_put_ref, &out, &t_diag), CN_OK);
    assert_err(cn_ledger_documents(l, id, 0, k_put_document, &out, &t_diag), CN_OK);
    return out;
}

/* The text without the id of its session. */
static void hide_id(cn_buf *text, const char *id) {
    char        *at = strstr(text->data, id);
    const size_t bytes = strlen(id);
    assert_non_null(at);
    memmove(at, at + bytes, (size_t)(text->data + text->bytes - at) - bytes + 1);
    text->bytes -= bytes;
}

static void assert_same(const cn_buf *a, const cn_buf *b) {
    if (!k_is_same(a, b)) t_fail(__FILE__, __LINE__, "\n%s\nis not\n%s", a->data, b->data);
}

static void test_there_and_back(void **state) {
    (void)state;
    cn_ledger         *l = filled(k_new_path()), *other = k_open(k_new_path());
    cn_ledger_session *s, *t;
    cn_export_sum      sum;
    cn_buf             text = export_of(l, "b", &sum);
    assert_true(sum.turns == 3 && sum.bytes == (int64_t)text.bytes && sum.open_turn == 0);
    assert_err(import(other, text.data, text.bytes, NULL, &s), CN_OK);
    assert_string_equal(s->id, "b"); // it was free
    assert_string_equal(s->parent, "");
    assert_true(s->head == 4 && s->turns == 3 && s->open_turn == 0);
    assert_string_equal(s->branch, "ma\xfe"
                                   "in");
    cn_buf again = export_of(other, "b", NULL), a = seen(l, "b"), b = seen(other, "b");
    assert_same(&text, &again);
    assert_same(&a, &b);
    assert_err(cn_ledger_verify(other, &t_diag), CN_OK);
    cn_ledger_session_free(s);

    // Twice: another id, all else the same.
    assert_err(import(other, text.data, text.bytes, NULL, &s), CN_OK);
    assert_string_not_equal(s->id, "b");
    cn_buf third = export_of(other, s->id, NULL);
    hide_id(&third, s->id);
    hide_id(&again, "b");
    assert_same(&again, &third);

    // It is the last one, goes on with the next number, and can be forked.
    assert_err(cn_ledger_session_latest(other, NULL, &t, &t_diag), CN_OK);
    assert_string_equal(t->id, s->id);
    cn_ledger_session_free(t);
    cn_ledger_writer *w = k_write(other, s->id);
    assert_int_equal(k_turn(w, "and then?", 2), 5);
    cn_ledger_writer_close(w);
    assert_err(cn_ledger_session_fork(other, s->id, 2, NULL, &t, &t_diag), CN_OK);
    cn_ledger_session_free(t);
    cn_ledger_session_free(s);

    // A name and a place of one's own.
    assert_err(cn_ledger_import(other,
                                &(cn_import){.text = text.data,
                                             .bytes = text.bytes,
                                             .name = "a",
                                             .id = "mine",
                                             .repo = "/else/where"},
                                &s, &t_diag),
               CN_OK);
    assert_string_equal(s->repo, "/else/where");
    cn_ledger_session_free(s);
    assert_err(import(other, text.data, text.bytes, "mine", &s), CN_EINVAL);
    assert_non_null(strstr(t_diag.text, "session mine exists"));
    assert_err(import(other, text.data, text.bytes, "n o", &s), CN_EINVAL);
    assert_null(s);
    cn_buf_release(&text), cn_buf_release(&again), cn_buf_release(&third);
    cn_buf_release(&a), cn_buf_release(&b);
    cn_ledger_close(l), cn_ledger_close(other);
}

/* Each line is strict JSON with the members in order, and every byte of a text is in it. */
static void test_lines_are_json(void **state) {
    (void)state;
    cn_ledger           *l = filled(k_new_path());
    cn_buf               text = export_of(l, "b", NULL), raw64 = {0};
    const cn_json_limits limits = {1 << 20, 3, 1000};
    char                *save = NULL, *copy = strdup(text.data);
    int                  lines = 0, texts = 0;
    const cn_json       *v = NULL;
    cn_base64_put(&raw64, raw, sizeof(raw));
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        cn_json_doc *doc;
        assert_err(cn_json_parse(&doc, line, strlen(line), "line", &limits, &t_diag), CN_OK);
        v = cn_json_root(doc);
        const char *type = cn_json_string(cn_json_get(v, "type"));
        assert_non_null(type);
        if (lines++ == 0) {
            assert_string_equal(type, "session");
            assert_string_equal(cn_json_string(cn_json_get(v, "schema")), "cairn session");
            assert_string_equal(cn_json_string(cn_json_get(v, "title")), "Ein T\xc3\xaftel");
        }
        const char *question = cn_json_string(cn_json_get(cn_json_get(v, "question"), "base64"));
        if (question) {
            assert_string_equal(question, raw64.data);
            texts++;
        }
        int64_t n = 0;
        if (strcmp(type, "end") == 0) assert_true(cn_json_int64(cn_json_get(v, "lines"), &n));
        if (n) assert_int_equal(n, lines);
        cn_json_free(doc);
    }
    assert_int_equal(texts, 1);
    assert_non_null(strstr(text.data, "\"tokens\":[0,2147483647,1]"));
    assert_non_null(strstr(text.data, "\"saved_ns\":-3"));
    assert_null(strstr(text.data, "taken back")); // rewound
    assert_non_null(strstr(text.data, "\"turn\":4"));
    free(copy);
    cn_buf_release(&text), cn_buf_release(&raw64);
    cn_ledger_close(l);
}

/* A turn that runs is left out, and said. */
static void test_an_open_turn_is_left_out(void **state) {
    (void)state;
    cn_ledger        *l = filled(k_new_path());
    cn_buf            before = export_of(l, "b", NULL);
    cn_ledger_writer *w = k_write(l, "b");
    cn_export_sum     sum;
    int32_t           turn;
    assert_err(cn_ledger_turn_begin(w, k_text("now"), &turn, &t_diag), CN_OK);
    cn_buf after = export_of(l, "b", &sum);
    assert_int_equal(sum.open_turn, turn);
    assert_same(&before, &after);
    cn_ledger_writer_close(w);
    cn_buf_release(&before), cn_buf_release(&after);
    cn_ledger_close(l);
}

static cn_err on_full(void *ctx, const char *line, size_t bytes, cn_diag *diag) {
    (void)line, (void)bytes;
    return --*(int *)ctx < 0 ? CN_FAIL(diag, CN_EIO, "disk full") : CN_OK;
}

static void test_an_export_can_fail(void **state) {
    (void)state;
    cn_ledger *l = filled(k_new_path());
    for (int n = 0; n < 5; n++) {
        int left = n;
        assert_err(cn_ledger_export(l, "b", on_full, &left, NULL, &t_diag), CN_EIO);
        assert_string_equal(t_diag.text, "disk full");
    }
    assert_err(cn_ledger_export(l, "nobody", on_full, NULL, NULL, &t_diag), CN_ENOTFOUND);
    cn_ledger_close(l);
}

/* The text with the first `from` behind the first `after` replaced; all must be there. */
static cn_buf changed(const cn_buf *text, const char *after, const char *from, const char *to) {
    cn_buf      out = {0};
    const char *at = strstr(text->data, after);
    at = at ? strstr(at, from) : NULL;
    if (!at) t_fail(__FILE__, __LINE__, "no %s behind %s", from, after);
    cn_buf_put(&out, text->data, (size_t)(at - text->data));
    cn_buf_put_str(&out, to);
    cn_buf_put_str(&out, at + strlen(from));
    return out;
}

static int line_of(const cn_buf *text, const char *at) {
    int line = 1;
    for (const char *p = text->data; p < at; p++) line += *p == '\n';
    return line;
}

static void test_what_is_wrong_is_named(void **state) {
    (void)state;
    static const struct {
        const char *after, *from, *to;
        cn_err      err;
        const char *why;
    } cases[] = {
        {"", "\"cairn session\"", "\"other\"", CN_EUNSUPPORTED, "schema \"other\""},
        {"", "\"version\":1", "\"version\":2", CN_EUNSUPPORTED, "version 2, this program knows 1"},
        {"", "\"id\":\"b\"", "\"id\":\"\"", CN_ECORRUPT, "which no session can have"},
        {"", "\"id\":\"b\"", "\"id\":\"a b\"", CN_ECORRUPT, "which no session can have"},
        {"", "\"id\":\"b\"", "\"Id\":\"b\"", CN_ECORRUPT, "\"Id\" where \"id\" belongs"},
        {"", "\"title\":", "\"more\":1,\"title\":", CN_ECORRUPT, "\"more\" where \"title\""},
        {"", "\"model\":\"07", "\"model\":\"x7", CN_ECORRUPT, "not 64 hex digits"},
        {"", "\"created_ns\":", "\"created_ns\":-", CN_ECORRUPT, "\"created_ns\" is -"},
        {"", "\"settings\":\"", "\"settings\":5,\"x\":\"", CN_ECORRUPT, "neither a string nor"},
        {"", "\"type\":\"session\"", "\"type\":\"turn\"", CN_ECORRUPT, "its line comes first"},
        {"", "\"generation\":2", "\"generation\":3", CN_ECORRUPT, "generation is 3, of 2"},
        {"\"generation\",\"generation\"", ":1", ":2", CN_ECORRUPT, "\"generation\" is 2, want 1"},
        {"\"document\"", "\"file\"", "\"folder\"", CN_ECORRUPT, "\"kind\" is \"folder\""},
        {"\"document\"", "\"generation\":1", "\"generation\":2", CN_ECORRUPT, "want 1"},
        {"\"document\"", "\"tokens\":100", "\"tokens\":1e2", CN_ECORRUPT, "no whole number"},
        {"\"document\"", "\"tokens\":100", "\"tokens\":4294967296", CN_ECORRUPT, "want 0 to"},
        {"\"document\"", "\"base64\":\"", "\"base64\":\"*", CN_ECORRUPT, "\"path\" is no base64"},
        {"\"document\"", "{\"base64\":", "{\"base32\":", CN_ECORRUPT, "neither a string nor"},
        {"\"document\"", "\"base64\":\"Yv8uYw==\"", "\"base64\":\"AGE=\"", CN_ECORRUPT, "a NUL"},
        {"\"turn\",\"turn\":2", "\"turn\":2", "\"turn\":1", CN_ECORRUPT,
         "\"turn\" is 1, want 2 to"},
        {"\"turn\",\"turn\":2", "\"turn\":2", "\"turn\":9999999999", CN_ECORRUPT, "want 2 to"},
        {"\"turn\",\"turn\":2", "\"end\"", "\"open\"", CN_ECORRUPT, "does not stop with \"open\""},
        {"\"turn\",\"turn\":2", "\"end\"", "\"tool\"", CN_ECORRUPT, "does not stop with \"tool\""},
        {"\"turn\",\"turn\":2", "\"bill\":{", "\"bill\":{\"euros\":1,", CN_ECORRUPT,
         "\"euros\" in"},
        {"\"turn\",\"turn\":2", "\"prompt_tokens\":", "\"prompt_tokens\":0.", CN_ECORRUPT,
         "\"prompt_tokens\" of a bill"},
        {"\"turn\",\"turn\":2", "\"prompt_tokens\":", "\"prompt_tokens\":9999999999999",
         CN_ECORRUPT, "up to 9007199254740992"},
        {"\"turn\",\"turn\":2", "\"bill\":{", "\"bill\":[],\"b\":{", CN_ECORRUPT, "no object"},
        {"\"step\",\"turn\":2", "\"step\":0", "\"step\":1", CN_ECORRUPT, "\"step\" is 1, want 0"},
        {"\"step\",\"turn\":2", "\"turn\":2", "\"turn\":3", CN_ECORRUPT, "\"turn\" is 3, want 2"},
        {"\"step\",\"turn\":2", "\"kind\":\"gen", "\"kind\":\"den", CN_ECORRUPT,
         "\"kind\" is \"den"},
        {"\"step\",\"turn\":2", "\"generation\":1", "\"generation\":7", CN_ECORRUPT, "want 0 to 2"},
        {"\"step\",\"turn\":2", "\"tokens\":[", "\"tokens\":[-1,", CN_ECORRUPT, "token 0 is no id"},
        {"\"step\",\"turn\":2", "\"tokens\":[", "\"tokens\":[\"1\",", CN_ECORRUPT, "is no id"},
        {"\"step\",\"turn\":2", "\"tokens\":[", "\"tokens\":{},\"t\":[", CN_ECORRUPT, "no array"},
        {"\"call\",\"turn\":2", "\"call\":0", "\"call\":1", CN_ECORRUPT, "\"call\" is 1, want 0"},
        {"\"call\",\"turn\":2", "\"step\":0", "\"step\":1", CN_ECORRUPT, "\"step\" is 1, want 0"},
        {"\"call\",\"turn\":2", "\"done\"", "\"intent\"", CN_ECORRUPT, "is no \"intent\""},
        {"\"call\",\"turn\":2", "\"exit\":3", "\"exit\":null", CN_ECORRUPT, "no whole number"},
        {"\"ref\",\"turn\":2", "\"begin\":0", "\"begin\":99", CN_ECORRUPT, "has no bytes 99"},
        {"\"part\":1", "\"call\":0", "\"call\":5", CN_ECORRUPT, "has no bytes"},
        {"\"part\":1", "\"part\":1", "\"part\":0", CN_ECORRUPT, "\"part\" is 0, want 1"},
        {"\"read\",\"turn\":2", "0.31", "1.31", CN_ECORRUPT, "from 0 to 1"},
        {"\"end\",\"turns\"", "\"turns\":3", "\"turns\":2", CN_ECORRUPT, "\"turns\" is 2, want 3"},
        {"\"end\",\"turns\"", "\"lines\":", "\"lines\":1", CN_ECORRUPT, "\"lines\" is 1"},
        {"\"end\",\"turns\"", "}\n", "}\n{\"type\":\"end\"}\n", CN_ECORRUPT, "behind the end"},
        {"\"end\",\"turns\"", "}\n", "}", CN_ECORRUPT, "cut off"},
        {"\"end\",\"turns\"", "{\"type\":\"end\"", "{\"type\":\"fin\"", CN_ECORRUPT, "none of its"},
        {"\"end\",\"turns\"", "}\n", ",\"more\":1}\n", CN_ECORRUPT, "\"more\" is unknown here"},
        {"\"turn\",\"turn\":2", "{\"type\"", "\n{\"type\"", CN_ECORRUPT, "byte 0"},
        {"\"turn\",\"turn\":2", "{\"type\"", "{\"type\":\"turn\",\"type\"", CN_ECORRUPT,
         "duplicate"},
    };
    cn_ledger         *l = filled(k_new_path()), *other = k_open(k_new_path());
    cn_buf             text = export_of(l, "b", NULL), was = k_dump(other);
    cn_ledger_session *s;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        // The line that is changed begins before what it is found by.
        cn_buf      from = {0};
        const char *line = strstr(text.data, cases[i].after);
        assert_non_null(line);
        while (line > text.data && line[-1] != '\n') line--;
        cn_buf_put_str(&from, line);
        cn_buf tail = changed(&from, "", cases[i].from, cases[i].to), bad = {0};
        cn_buf_put(&bad, text.data, (size_t)(line - text.data));
        cn_buf_put(&bad, tail.data, tail.bytes);
        char where[40];
        snprintf(where, sizeof(where),
                 "a.jsonl: line %d: ", line_of(&text, strstr(line, cases[i].from)));
        t_note("case %zu: %s", i, cases[i].to);
        t_diag = (cn_diag){0};
        assert_err(import(other, bad.data, bad.bytes, NULL, &s), cases[i].err);
        assert_null(s);
        if (!strstr(t_diag.text, cases[i].why)) t_fail(__FILE__, __LINE__, "%s", t_diag.text);
        const bool is_later = strstr(cases[i].why, "behind the end") || cases[i].why[0] == 'g';
        if (!is_later && !strstr(t_diag.text, where))
            t_fail(__FILE__, __LINE__, "want %s: %s", where, t_diag.text);
        cn_buf_release(&from), cn_buf_release(&tail), cn_buf_release(&bad);
    }
    cn_buf is = k_dump(other);
    assert_same(&was, &is);
    cn_buf_release(&text), cn_buf_release(&was), cn_buf_release(&is);
    cn_ledger_close(l), cn_ledger_close(other);
}

/* Cut off behind any byte: refused, and nothing is there. */
static void test_a_cut_text_is_refused(void **state) {
    (void)state;
    cn_ledger         *l = filled(k_new_path()), *other = k_open(k_new_path());
    cn_buf             text = export_of(l, "b", NULL);
    cn_ledger_session *s;
    for (size_t bytes = 0; bytes < text.bytes; bytes += bytes + 40 < text.bytes ? 37 : 1) {
        char *exact = malloc(bytes + !bytes); // overreads are seen
        memcpy(exact, text.data, bytes);
        assert_err(import(other, exact, bytes, NULL, &s), CN_ECORRUPT);
        free(exact);
    }
    assert_err(cn_ledger_session_latest(other, NULL, &s, &t_diag), CN_ENOTFOUND);
    cn_buf_release(&text);
    cn_ledger_close(l), cn_ledger_close(other);
}

/* Whatever fails on the way, the session is there whole or not at all. */
static void test_an_import_is_whole_or_absent(void **state) {
    (void)state;
    cn_ledger         *l = filled(k_new_path()), *other = k_open(k_new_path());
    cn_buf             text = export_of(l, "b", NULL);
    cn_ledger_session *s;
    const int          step = t_is_sanitized() ? 11 : 1;
    for (int n = 1;; n += step) {
        cn_fault_arm(CN_FAULT_ONCE, n);
        const cn_err err = import(other, text.data, text.bytes, "x", &s);
        const bool   hit = cn_fault_was_hit();
        t_note("fault %d at %s", n, cn_fault_last_point());
        cn_fault_arm(CN_FAULT_OFF, 0);
        cn_ledger_session_free(s);
        const cn_err found = cn_ledger_session_find(other, "x", &s, &t_diag);
        cn_ledger_session_free(s);
        if (!found) {
            cn_buf again = export_of(other, "x", NULL);
            assert_true(again.bytes == text.bytes);
            cn_buf_release(&again);
            assert_err(cn_ledger_session_del(other, "x", &t_diag), CN_OK);
        }
        if (!hit) {
            assert_err(err, CN_OK);
            assert_true(n > 40);
            break;
        }
        assert_true(err != CN_OK);
    }
    cn_buf_release(&text);
    cn_ledger_close(l), cn_ledger_close(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_lines_are_json),
        cmocka_unit_test(test_an_open_turn_is_left_out),
        cmocka_unit_test(test_an_export_can_fail),
        cmocka_unit_test(test_what_is_wrong_is_named),
        cmocka_unit_test(test_a_cut_text_is_refused),
        cmocka_unit_test(test_an_import_is_whole_or_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

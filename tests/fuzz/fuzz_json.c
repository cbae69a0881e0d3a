/*
 * fuzz_json.c - No text crashes the JSON reader, and what it accepts is what it promises.
 *
 * Of an accepted text: strings and keys are UTF-8, no object repeats a key, the limits hold,
 * numbers are finite; written out and read again it is the same document.
 */
#include "base/json.h"

#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *text, size_t bytes);

static const cn_json_limits limits = {.bytes_max = 1 << 16, .depth_max = 20, .values_max = 2000};

/* Decodes, where base/utf8.c compares bytes: an error there cannot hide here. */
static void check_utf8(const char *text) {
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    for (const uint8_t *p = (const uint8_t *)text; *p;) {
        const int tails = *p < 0x80 ? 0 : *p < 0xE0 ? 1 : *p < 0xF0 ? 2 : 3;
        cn_assert(*p < 0x80 || (*p >= 0xC0 && *p < 0xF8));
        uint32_t point = tails == 0 ? *p : *p & (0x3Fu >> tails);
        p++;
        for (int i = 0; i < tails; i++, p++) {
            cn_assert((*p & 0xC0) == 0x80);
            point = point << 6 | (*p & 0x3F);
        }
        cn_assert(point >= least[tails] && point <= 0x10FFFF && point >> 11 != 0xD800 >> 11);
    }
}

/* Check one value and all below it; returns how many they are. */
static int64_t check_value(const cn_json *value, int32_t depth) {
    const cn_json_type type = cn_json_type_of(value);
    int64_t            values = 1, n, members = 0;
    double             f;
    bool               b;

    cn_assert((cn_json_string(value) != NULL) == (type == CN_JSON_STRING));
    cn_assert(cn_json_f64(value, &f) == (type == CN_JSON_NUMBER));
    cn_assert(cn_json_bool(value, &b) == (type == CN_JSON_BOOL));
    if (type == CN_JSON_STRING) check_utf8(cn_json_string(value));
    if (type == CN_JSON_NUMBER) cn_assert(isfinite(f));
    if (cn_json_int64(value, &n)) cn_assert(type == CN_JSON_NUMBER && (double)n == f);
    if (type == CN_JSON_ARRAY || type == CN_JSON_OBJECT) cn_assert(++depth <= limits.depth_max);

    for (const cn_json *m = cn_json_first(value); m; m = cn_json_next(m), members++) {
        cn_assert((cn_json_key(m) != NULL) == (type == CN_JSON_OBJECT));
        if (type == CN_JSON_OBJECT) {
            check_utf8(cn_json_key(m));
            cn_assert(cn_json_get(value, cn_json_key(m)) == m); // the first of its key is itself
        }
        values += check_value(m, depth);
    }
    cn_assert(cn_json_count(value) == members);
    return values;
}

static void write_value(cn_json_writer *w, const cn_json *value) {
    int64_t n;
    double  f;
    bool    b;
    if (cn_json_key(value)) cn_json_put_key(w, cn_json_key(value));
    switch (cn_json_type_of(value)) {
    case CN_JSON_NULL:
        cn_json_put_null(w);
        break;
    case CN_JSON_BOOL:
        cn_json_put_bool(w, cn_json_bool(value, &b) && b);
        break;
    case CN_JSON_STRING:
        cn_json_put_string(w, cn_json_string(value));
        break;
    case CN_JSON_NUMBER:
        if (cn_json_int64(value, &n))
            cn_json_put_int64(w, n);
        else if (cn_json_f64(value, &f))
            cn_json_put_f64(w, f, 17);
        break;
    case CN_JSON_ARRAY:
    case CN_JSON_OBJECT: {
        const bool is_object = cn_json_type_of(value) == CN_JSON_OBJECT;
        cn_json_open(w, is_object ? '{' : '[');
        for (const cn_json *m = cn_json_first(value); m; m = cn_json_next(m)) write_value(w, m);
        cn_json_close(w, is_object ? '}' : ']');
        break;
    }
    }
}

static bool is_same_text(const char *a, const char *b) {
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void check_same(const cn_json *a, const cn_json *b) {
    double  fa = 0, fb = 0;
    int64_t na = 0, nb = 0;
    bool    ba = false, bb = false;
    cn_assert(cn_json_type_of(a) == cn_json_type_of(b));
    cn_assert(is_same_text(cn_json_key(a), cn_json_key(b)));
    cn_assert(is_same_text(cn_json_string(a), cn_json_string(b)));
    cn_assert(cn_json_bool(a, &ba) == cn_json_bool(b, &bb) && ba == bb);
    cn_assert(cn_json_f64(a, &fa) == cn_json_f64(b, &fb) && fa == fb);
    if (cn_json_int64(a, &na)) cn_assert(cn_json_int64(b, &nb) && na == nb);
    a = cn_json_first(a);
    b = cn_json_first(b);
    for (; a && b; a = cn_json_next(a), b = cn_json_next(b)) check_same(a, b);
    cn_assert(!a && !b);
}

int LLVMFuzzerTestOneInput(const uint8_t *text, size_t bytes) {
    cn_json_doc *doc, *again;
    cn_diag      diag = {0};
    const cn_err err = cn_json_parse(&doc, (const char *)text, bytes, "fuzz", &limits, &diag);
    if (err) {
        cn_assert(!doc && (err == CN_ECORRUPT || err == CN_ETOOBIG) && diag.err == err);
        cn_assert(strncmp(diag.text, "fuzz: ", 6) == 0);
        check_utf8(diag.text);
        return 0;
    }
    cn_assert(check_value(cn_json_root(doc), 0) <= limits.values_max);

    cn_buf               buf = {0};
    cn_json_writer       w = cn_json_writer_on(&buf);
    const cn_json_limits longer = {(size_t)1 << 30, limits.depth_max, limits.values_max};
    write_value(&w, cn_json_root(doc));
    cn_assert(buf.err == CN_OK);
    cn_assert(cn_json_parse(&again, buf.data, buf.bytes, "again", &longer, NULL) == CN_OK);
    check_same(cn_json_root(doc), cn_json_root(again));
    cn_json_free(again);
    cn_json_free(doc);
    cn_buf_release(&buf);
    return 0;
}

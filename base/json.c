/*
 * json.c - One pass checks the text, cJSON builds the tree, one walk finds duplicate keys.
 *
 * cJSON alone stops at \u0000, takes bytes that are not UTF-8, raw control characters,
 * numbers like 01, text after the value and duplicate keys, and rounds integers over 2^53.
 * So nothing reaches it that scan_value() has not accepted.
 *
 * Numbers go to cJSON as strings: the pass writes 12.5 as "\xFF12.5", and a byte 0xFF is in
 * no other string because it is not UTF-8.  So they are kept as written, and neither cJSON's
 * rounding nor the locale's decimal point touches them.
 */
#include "base/json.h"
#include "base/fault.h"
#include "base/hash.h"
#include "base/utf8.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MARK '\xFF'

_Static_assert(CN_JSON_DEPTH_MAX < CJSON_NESTING_LIMIT, "cJSON takes what the scan takes");

/* The C locale is static storage in the C library: nothing is allocated here. */
static locale_t c_locale(void) {
    return newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* ---- The scan: is it strict JSON? ------------------------------------------------- */

typedef struct scan {
    const char           *text, *end;
    const char           *p;      // the next byte
    const char           *copied; // up to here `copy` has it
    cn_buf                copy;   // the text with marked numbers, for cJSON
    cn_buf                keys;   // a size_t for each key in order: its offset in the text
    int64_t               values;
    const char           *name;
    const cn_json_limits *limits;
    cn_diag              *diag;
} scan;

static cn_err scan_value(scan *s, int32_t depth);

static cn_err fail_at(const scan *s, const char *at, const char *what) {
    return CN_FAIL(s->diag, CN_ECORRUPT, "%s: byte %zu: %s", s->name, (size_t)(at - s->text), what);
}

/* The next byte, 0..255; -1 at the end. */
static int peek(const scan *s) {
    return s->p < s->end ? (uint8_t)*s->p : -1;
}

static cn_err fail_expected(const scan *s, const char *what) {
    char      text[80];
    const int c = peek(s);
    if (c < 0)
        snprintf(text, sizeof(text), "%s expected, but the text ends", what);
    else if (c <= ' ' || c > '~')
        snprintf(text, sizeof(text), "%s expected, found byte 0x%02x", what, (unsigned)c);
    else
        snprintf(text, sizeof(text), "%s expected, found '%c'", what, c);
    return fail_at(s, s->p, text);
}

static bool is_digit(int c) {
    return c >= '0' && c <= '9';
}

/* The next byte that is no white space. */
static int peek_token(scan *s) {
    int c;
    while ((c = peek(s)) == ' ' || c == '\n' || c == '\r' || c == '\t') s->p++;
    return c;
}

/* The value of `\uXXXX` at p, which is passed; -1 if it is not there. */
static int32_t scan_unit(scan *s) {
    int32_t unit = 0;
    if (s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u') return -1;
    for (int i = 2; i < 6; i++) {
        const char c = s->p[i], lower = (char)(c | 0x20);
        if (!is_digit(c) && (lower < 'a' || lower > 'f')) return -1;
        unit = unit * 16 + (is_digit(c) ? c - '0' : lower - 'a' + 10);
    }
    s->p += 6;
    return unit;
}

static cn_err scan_escape(scan *s) {
    const char *start = s->p;
    if (s->end - start >= 2 && start[1] && strchr("\"\\/bfnrt", start[1])) {
        s->p += 2;
        return CN_OK;
    }
    const int32_t unit = scan_unit(s);
    if (unit < 0) return fail_at(s, start, "not an escape");
    if (unit == 0) return fail_at(s, start, "NUL in a string");
    if (unit < 0xD800 || unit > 0xDFFF) return CN_OK;
    const int32_t second = unit < 0xDC00 ? scan_unit(s) : -1;
    if (second < 0xDC00 || second > 0xDFFF) return fail_at(s, start, "half a surrogate pair");
    return CN_OK;
}

static cn_err scan_string(scan *s) {
    const char *start = s->p++;
    for (;;) {
        const int c = peek(s);
        if (c == '"') break;
        if (c == '\\') {
            CN_TRY(scan_escape(s));
            continue;
        }
        if (c < 0) return fail_at(s, start, "a string without end");
        if (c < 0x20) return fail_at(s, s->p, "a control character in a string");
        const size_t bytes = c < 0x80 ? 1 : cn_utf8_bytes(s->p, (size_t)(s->end - s->p));
        if (bytes == 0) return fail_at(s, s->p, "not UTF-8");
        s->p += bytes;
    }
    s->p++;
    return CN_OK;
}

static cn_err scan_digits(scan *s) {
    if (!is_digit(peek(s))) return fail_expected(s, "a digit");
    while (is_digit(peek(s))) s->p++;
    return CN_OK;
}

static cn_err scan_number(scan *s) {
    const char *start = s->p;
    if (peek(s) == '-') s->p++;
    const bool  starts_with_0 = peek(s) == '0';
    const char *digits = s->p;
    CN_TRY(scan_digits(s));
    if (starts_with_0 && s->p - digits > 1) return fail_at(s, start, "a number with a leading 0");
    if (peek(s) == '.') {
        s->p++;
        CN_TRY(scan_digits(s));
    }
    const bool has_exponent = peek(s) == 'e' || peek(s) == 'E';
    if (has_exponent) {
        s->p++;
        if (peek(s) == '+' || peek(s) == '-') s->p++;
        CN_TRY(scan_digits(s));
    }

    cn_buf *copy = &s->copy;
    cn_buf_put(copy, s->copied, (size_t)(start - s->copied));
    cn_buf_put(copy, (const char[]){'"', NUMBER_MARK}, 2);
    const size_t at = copy->bytes;
    cn_buf_put(copy, start, (size_t)(s->p - start));
    if (!copy->err && (has_exponent || s->p - start > 300) &&
        isinf(strtod_l(copy->data + at, NULL, c_locale())))
        return fail_at(s, start, "a number that overflows a double");
    cn_buf_put_str(copy, "\"");
    s->copied = s->p;
    return CN_OK;
}

static cn_err scan_word(scan *s, const char *word) {
    const size_t bytes = strlen(word);
    if ((size_t)(s->end - s->p) < bytes || memcmp(s->p, word, bytes) != 0)
        return fail_expected(s, "a value");
    s->p += bytes;
    return CN_OK;
}

static cn_err scan_key(scan *s) {
    if (peek_token(s) != '"') return fail_expected(s, "a key");
    const size_t at = (size_t)(s->p - s->text);
    cn_buf_put(&s->keys, &at, sizeof(at));
    CN_TRY(scan_string(s));
    if (peek_token(s) != ':') return fail_expected(s, "':'");
    s->p++;
    return CN_OK;
}

static cn_err scan_container(scan *s, int32_t depth) {
    const bool is_object = *s->p == '{';
    const char close = is_object ? '}' : ']';
    if (depth > s->limits->depth_max)
        return CN_FAIL(s->diag, CN_ETOOBIG, "%s: byte %zu: nested %d deep, limit %d", s->name,
                       (size_t)(s->p - s->text), depth, s->limits->depth_max);
    s->p++;
    if (peek_token(s) == close) {
        s->p++;
        return CN_OK;
    }
    for (;;) {
        if (is_object) CN_TRY(scan_key(s));
        CN_TRY(scan_value(s, depth));
        const int c = peek_token(s);
        if (c != ',' && c != close)
            return fail_expected(s, is_object ? "',' or '}'" : "',' or ']'");
        s->p++;
        if (c == close) return CN_OK;
    }
}

/* depth: of the containers around the value. */
static cn_err scan_value(scan *s, int32_t depth) {
    const int c = peek_token(s);
    if (++s->values > s->limits->values_max)
        return CN_FAIL(s->diag, CN_ETOOBIG, "%s: byte %zu: value number %lld, limit %lld", s->name,
                       (size_t)(s->p - s->text), (long long)s->values,
                       (long long)s->limits->values_max);
    switch (c) {
    case '{':
    case '[':
        return scan_container(s, depth + 1);
    case '"':
        return scan_string(s);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        return c == '-' || is_digit(c) ? scan_number(s) : fail_expected(s, "a value");
    }
}

static cn_err scan_text(scan *s) {
    CN_TRY(scan_value(s, 0));
    if (peek_token(s) >= 0) return fail_expected(s, "the end");
    cn_buf_put(&s->copy, s->copied, (size_t)(s->end - s->copied));
    if (s->copy.err || s->keys.err)
        return CN_FAIL(s->diag, CN_ENOMEM, "%s: no memory to read %zu bytes", s->name,
                       (size_t)(s->end - s->text));
    return CN_OK;
}

/* ---- Duplicate keys ---------------------------------------------------------------- */

/* Every member of the document, in one open hash table.  SipHash under a random key, or
 * one could send a text whose keys all meet in one place. */
typedef struct key_set {
    struct slot {
        const cJSON *object, *member;
    } * slots;
    size_t  mask; // slots - 1; more than half of them stay empty
    size_t  members;
    uint8_t hash_key[CN_SIPHASH_KEY_BYTES];
} key_set;

/* False if `object` has a member of that key already. */
static bool add_member(key_set *set, const cJSON *object, const cJSON *member) {
    const uint64_t place = ((uintptr_t)object >> 4) * UINT64_C(0x9E3779B97F4A7C15);
    const uint64_t hash = cn_siphash(member->string, strlen(member->string), set->hash_key);
    size_t         i = (size_t)(hash ^ place ^ (place >> 32)) & set->mask;
    for (; set->slots[i].member; i = (i + 1) & set->mask)
        if (set->slots[i].object == object &&
            strcmp(set->slots[i].member->string, member->string) == 0)
            return false;
    set->slots[i] = (struct slot){object, member};
    return true;
}

/* The first member, in the order of the text, that repeats a key; NULL if none.  Then
 * set->members is the number of members before it. */
static const cJSON *find_duplicate(key_set *set, const cJSON *container) {
    for (const cJSON *child = container->child; child; child = child->next) {
        if (child->string) {
            if (!add_member(set, container, child)) return child;
            set->members++;
        }
        const cJSON *duplicate = find_duplicate(set, child);
        if (duplicate) return duplicate;
    }
    return NULL;
}

static cn_err check_keys(const scan *s, const cJSON *root) {
    const size_t keys = s->keys.bytes / sizeof(size_t);
    size_t       slots = 2;
    if (keys == 0) return CN_OK;
    while (slots <= 2 * keys) slots *= 2;
    key_set set = {.mask = slots - 1};
    set.slots = CN_FAULT("base.json.keys") ? NULL : calloc(slots, sizeof(*set.slots));
    if (!set.slots) return CN_FAIL(s->diag, CN_ENOMEM, "%s: no memory for %zu keys", s->name, keys);
    cn_random(set.hash_key, sizeof(set.hash_key));

    const cJSON *duplicate = find_duplicate(&set, root);
    free(set.slots);
    if (!duplicate) return CN_OK;
    size_t at;
    memcpy(&at, s->keys.data + set.members * sizeof(at), sizeof(at));
    return CN_FAIL(s->diag, CN_ECORRUPT, "%s: byte %zu: duplicate key \"%s\"", s->name, at,
                   duplicate->string);
}

/* ---- Reading ----------------------------------------------------------------------- */

/* A cn_json is a cJSON, and a cn_json_doc is its root, under names that keep cJSON here. */
static const cJSON *node_of(const cn_json *value) {
    return (const cJSON *)value;
}

cn_err cn_json_parse(cn_json_doc **out, const char *text, size_t bytes, const char *name,
                     const cn_json_limits *limits, cn_diag *diag) {
    cJSON *root = NULL;
    cn_err err;

    *out = NULL;
    if (bytes == 0) text = ""; // NULL is allowed then
    cn_assert(limits->depth_max <= CN_JSON_DEPTH_MAX);
    if (bytes > limits->bytes_max)
        return CN_FAIL(diag, CN_ETOOBIG, "%s: %zu bytes, limit %zu", name, bytes,
                       limits->bytes_max);
    scan s = {
        .text = text,
        .end = text + bytes,
        .p = text,
        .copied = text,
        .copy = {.bytes_max = SIZE_MAX / 4},
        .keys = {.bytes_max = SIZE_MAX / 4},
        .name = name,
        .limits = limits,
        .diag = diag,
    };
    err = scan_text(&s);
    if (err) goto out;
    root = CN_FAULT("base.json.tree") ? NULL : cJSON_ParseWithLength(s.copy.data, s.copy.bytes);
    if (!root) { // the text is sound
        err = CN_FAIL(diag, CN_ENOMEM, "%s: no memory for %lld values", name, (long long)s.values);
        goto out;
    }
    err = check_keys(&s, root);
    if (err) goto out;
    *out = (cn_json_doc *)root;
    root = NULL;

out:
    cJSON_Delete(root);
    cn_buf_release(&s.keys);
    cn_buf_release(&s.copy);
    return err;
}

void cn_json_free(cn_json_doc *doc) {
    cJSON_Delete((cJSON *)doc);
}

const cn_json *cn_json_root(const cn_json_doc *doc) {
    return (const cn_json *)doc;
}

cn_json_type cn_json_type_of(const cn_json *value) {
    const cJSON *node = node_of(value);
    if (cJSON_IsString(node))
        return node->valuestring[0] == NUMBER_MARK ? CN_JSON_NUMBER : CN_JSON_STRING;
    if (cJSON_IsBool(node)) return CN_JSON_BOOL;
    if (cJSON_IsArray(node)) return CN_JSON_ARRAY;
    if (cJSON_IsObject(node)) return CN_JSON_OBJECT;
    return CN_JSON_NULL;
}

const char *cn_json_type_name(cn_json_type type) {
    static const char *const names[] = {"null", "bool", "number", "string", "array", "object"};
    return (unsigned)type < sizeof(names) / sizeof(names[0]) ? names[type] : "?";
}

const cn_json *cn_json_get(const cn_json *object, const char *key) {
    if (!cJSON_IsObject(node_of(object))) return NULL;
    const cJSON *member = node_of(object)->child;
    while (member && strcmp(member->string, key) != 0) member = member->next;
    return (const cn_json *)member;
}

const cn_json *cn_json_first(const cn_json *container) {
    return container ? (const cn_json *)node_of(container)->child : NULL;
}

const cn_json *cn_json_next(const cn_json *value) {
    return value ? (const cn_json *)node_of(value)->next : NULL;
}

const char *cn_json_key(const cn_json *member) {
    return member ? node_of(member)->string : NULL;
}

int64_t cn_json_count(const cn_json *container) {
    int64_t count = 0;
    for (const cn_json *v = cn_json_first(container); v; v = cn_json_next(v)) count++;
    return count;
}

/* The number as it was written; NULL if `value` is none. */
static const char *number_text(const cn_json *value) {
    return cn_json_type_of(value) == CN_JSON_NUMBER ? node_of(value)->valuestring + 1 : NULL;
}

bool cn_json_int64(const cn_json *value, int64_t *out) {
    const char *text = number_text(value);
    char       *end;
    if (!text) return false;
    errno = 0;
    const long long n = strtoll(text, &end, 10);
    if (errno || *end) return false; // out of range; a fraction or an exponent
    *out = n;
    return true;
}

bool cn_json_f64(const cn_json *value, double *out) {
    const char *text = number_text(value);
    if (!text) return false;
    *out = strtod_l(text, NULL, c_locale());
    return true;
}

bool cn_json_bool(const cn_json *value, bool *out) {
    if (!cJSON_IsBool(node_of(value))) return false;
    *out = cJSON_IsTrue(node_of(value));
    return true;
}

const char *cn_json_string(const cn_json *value) {
    return cn_json_type_of(value) == CN_JSON_STRING ? node_of(value)->valuestring : NULL;
}

static bool are_equal_numbers(const cn_json *a, const cn_json *b) {
    int64_t i, j;
    double  x = 0, y = 0;
    if (cn_json_int64(a, &i) && cn_json_int64(b, &j)) return i == j;
    return cn_json_f64(a, &x) && cn_json_f64(b, &y) && x == y;
}

bool cn_json_is_equal(const cn_json *a, const cn_json *b) {
    const cn_json_type type = cn_json_type_of(a);
    if (cn_json_type_of(b) != type || cn_json_count(a) != cn_json_count(b)) return false;
    const cn_json *v = cn_json_first(a), *other = cn_json_first(b);
    switch (type) {
    case CN_JSON_BOOL:
        return cJSON_IsTrue(node_of(a)) == cJSON_IsTrue(node_of(b));
    case CN_JSON_NUMBER:
        return are_equal_numbers(a, b);
    case CN_JSON_STRING:
        return strcmp(cn_json_string(a), cn_json_string(b)) == 0;
    case CN_JSON_ARRAY:
        while (v && cn_json_is_equal(v, other)) {
            v = cn_json_next(v);
            other = cn_json_next(other);
        }
        return !v;
    case CN_JSON_OBJECT: // as many members, each once: all of a's in b is enough
        for (; v; v = cn_json_next(v)) {
            other = cn_json_get(b, cn_json_key(v));
            if (!other || !cn_json_is_equal(v, other)) return false;
        }
        return true;
    default:
        return true;
    }
}

/* ---- Writing ----------------------------------------------------------------------- */

cn_json_writer cn_json_writer_on(cn_buf *buf) {
    return (cn_json_writer){.buf = buf};
}

static void begin_value(cn_json_writer *w) {
    if (w->needs_comma) cn_buf_put_str(w->buf, ",");
    w->needs_comma = true;
}

void cn_json_open(cn_json_writer *w, char bracket) {
    cn_assert(bracket == '{' || bracket == '[');
    begin_value(w);
    cn_buf_put(w->buf, &bracket, 1);
    w->needs_comma = false;
}

void cn_json_close(cn_json_writer *w, char bracket) {
    cn_assert(bracket == '}' || bracket == ']');
    cn_buf_put(w->buf, &bracket, 1);
    w->needs_comma = true;
}

void cn_json_put_key(cn_json_writer *w, const char *key) {
    cn_json_put_string(w, key);
    cn_buf_put_str(w->buf, ":");
    w->needs_comma = false;
}

void cn_json_put_string(cn_json_writer *w, const char *text) {
    if (text)
        cn_json_put_bytes(w, text, strlen(text));
    else
        cn_json_put_null(w);
}

/* What stands in a string for the byte `c`, which cannot stand there itself. */
static void put_escape(cn_buf *buf, char c) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char       *at = c ? strchr(from, c) : NULL;
    if (at)
        cn_buf_put(buf, (const char[]){'\\', to[at - from]}, 2);
    else if (c > 0 && c < 0x20)
        cn_buf_printf(buf, "\\u%04x", c);
    else
        cn_buf_put_str(buf, "\xEF\xBF\xBD"); // U+FFFD
}

void cn_json_put_bytes(cn_json_writer *w, const char *text, size_t bytes) {
    size_t put = 0;
    begin_value(w);
    cn_buf_put_str(w->buf, "\"");
    for (size_t i = 0; i < bytes;) {
        const char   c = text[i];
        const bool   is_plain = (uint8_t)c >= 0x20 && c != '"' && c != '\\';
        const size_t n = is_plain ? cn_utf8_bytes(text + i, bytes - i) : 0;
        i += n;
        if (n > 0) continue;
        cn_buf_put(w->buf, text + put, i - put);
        put_escape(w->buf, c);
        put = ++i;
    }
    cn_buf_put(w->buf, text + put, bytes - put);
    cn_buf_put_str(w->buf, "\"");
}

void cn_json_put_int64(cn_json_writer *w, int64_t value) {
    begin_value(w);
    cn_buf_printf(w->buf, "%lld", (long long)value);
}

void cn_json_put_f64(cn_json_writer *w, double value, int digits) {
    cn_assert(digits >= 1 && digits <= 17);
    if (!isfinite(value)) {
        cn_json_put_null(w);
        return;
    }
    // %g drops zeros at the end, so 15 digits are already short and 17 always suffice.  More
    // than `digits` only where rounding up would leave the range of a double.
    char           text[32];
    const locale_t before = uselocale(c_locale());
    for (int n = digits < 15 ? digits : 15; n <= 17; n++) {
        snprintf(text, sizeof(text), "%.*g", n, value);
        const double back = strtod(text, NULL);
        if (back == value || (n >= digits && isfinite(back))) break;
    }
    uselocale(before);
    begin_value(w);
    cn_buf_put_str(w->buf, text);
}

void cn_json_put_bool(cn_json_writer *w, bool value) {
    begin_value(w);
    cn_buf_put_str(w->buf, value ? "true" : "false");
}

void cn_json_put_null(cn_json_writer *w) {
    begin_value(w);
    cn_buf_put_str(w->buf, "null");
}

void cn_json_field_string(cn_json_writer *w, const char *key, const char *text) {
    cn_json_put_key(w, key);
    cn_json_put_string(w, text);
}

void cn_json_field_bytes(cn_json_writer *w, const char *key, const char *text, size_t bytes) {
    cn_json_put_key(w, key);
    cn_json_put_bytes(w, text, bytes);
}

void cn_json_field_int64(cn_json_writer *w, const char *key, int64_t value) {
    cn_json_put_key(w, key);
    cn_json_put_int64(w, value);
}

void cn_json_field_f64(cn_json_writer *w, const char *key, double value, int digits) {
    cn_json_put_key(w, key);
    cn_json_put_f64(w, value, digits);
}

void cn_json_field_bool(cn_json_writer *w, const char *key, bool value) {
    cn_json_put_key(w, key);
    cn_json_put_bool(w, value);
}

void cn_json_field_open(cn_json_writer *w, const char *key, char bracket) {
    cn_json_put_key(w, key);
    cn_json_open(w, bracket);
}

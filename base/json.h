/*
 * json.h - The one JSON reader and the one writer.
 *
 * The reader is cJSON behind a strict check: the whole input is one RFC 8259 value in
 * valid UTF-8 (no byte order mark), without duplicate keys, NUL characters (raw or
 * \u0000), lone surrogates, numbers that overflow a double, or nesting and sizes over the
 * limits.  A number is kept as it was written, so that any int64 is read back exactly.
 *
 * The writer puts text straight into a cn_buf: int64 stay whole, strings are escaped,
 * bytes that are not UTF-8, and NUL, become U+FFFD.  What it writes, the reader accepts.
 *
 * Both ignore the process's locale.
 *
 * Threads: a document is immutable after parsing.
 *
 * Layer: base (cJSON stops here).
 */
#ifndef CN_BASE_JSON_H
#define CN_BASE_JSON_H

#include "base/buf.h"
#include "base/err.h"

CN_C_BEGIN

typedef struct cn_json_doc cn_json_doc; // a parsed text; owns its values
typedef struct cn_json     cn_json;     // one value; valid until its document is freed

typedef enum {
    CN_JSON_NULL,
    CN_JSON_BOOL,
    CN_JSON_NUMBER,
    CN_JSON_STRING,
    CN_JSON_ARRAY,
    CN_JSON_OBJECT,
} cn_json_type;

typedef struct cn_json_limits {
    size_t  bytes_max;  // of the text
    int32_t depth_max;  // arrays and objects within each other; at most CN_JSON_DEPTH_MAX
    int64_t values_max; // values over all
} cn_json_limits;

enum { CN_JSON_DEPTH_MAX = 512 };

/* Parse `bytes` bytes at `text` (no terminating NUL needed).
 *
 *   out   owned by the caller: cn_json_free().  NULL unless CN_OK.
 *   name  what the text is, for the message: "config.json".
 *
 * CN_ECORRUPT  not strict JSON; the diag names the byte (from 0) and what is wrong:
 *              `config.json: byte 1234: duplicate key "a"`.
 * CN_ETOOBIG   a limit is exceeded; the diag names it and both numbers.
 * CN_ENOMEM.
 *
 * Time: linear in the text, duplicate keys included. */
cn_err cn_json_parse(cn_json_doc **out, const char *text, size_t bytes, const char *name,
                     const cn_json_limits *limits, cn_diag *diag) CN_MUST_CHECK;

/* NULL is allowed. */
void cn_json_free(cn_json_doc *doc);

const cn_json *cn_json_root(const cn_json_doc *doc);

/* CN_JSON_NULL for a NULL value, so that look-ups can be chained. */
cn_json_type cn_json_type_of(const cn_json *value);
/* "null", "bool", "number", "string", "array", "object". */
const char *cn_json_type_name(cn_json_type type);

/* The member `key` of an object, byte-exact; NULL if it is absent or `object` is no
 * object.  Time: linear in the members. */
const cn_json *cn_json_get(const cn_json *object, const char *key);

/* First element or member (NULL: none, or not a container); the one after `value`. */
const cn_json *cn_json_first(const cn_json *container);
const cn_json *cn_json_next(const cn_json *value);
/* The key of a member; NULL for anything else. */
const char *cn_json_key(const cn_json *member);
/* Elements or members; 0 for anything else.  Time: linear. */
int64_t cn_json_count(const cn_json *container);

/* Each is false, and leaves *out alone, unless the value is of that kind and exact:
 * an int64 is a number written without fraction or exponent (not 1.0), within its range.
 * Each reads the digits again: convert once. */
bool cn_json_int64(const cn_json *value, int64_t *out);
bool cn_json_f64(const cn_json *value, double *out); // finite; any number
bool cn_json_bool(const cn_json *value, bool *out);
/* UTF-8 with a NUL behind it (and none within); NULL unless a string. */
const char *cn_json_string(const cn_json *value);

/* Whether two values are the same: members in any order, numbers by value (1 is 1.0; int64 are
 * compared exactly, others as doubles).  A NULL value is null.  Time: members of an object are
 * looked up one by one. */
bool cn_json_is_equal(const cn_json *a, const cn_json *b);

/* ---- Writing ----------------------------------------------------------------------
 * Commas are the writer's business.  A key before each member; values in any order.
 * Errors (no memory) stay in the buf: check buf->err once at the end.
 *
 *   cn_json_writer w = cn_json_writer_on(&buf);
 *   cn_json_open(&w, '{');  cn_json_put_key(&w, "turn");  cn_json_put_int64(&w, 3);
 *   cn_json_close(&w, '}');                                                            */
typedef struct cn_json_writer {
    cn_buf *buf;
    bool    needs_comma;
} cn_json_writer;

cn_json_writer cn_json_writer_on(cn_buf *buf);
void           cn_json_open(cn_json_writer *w, char bracket);  // '{' or '['
void           cn_json_close(cn_json_writer *w, char bracket); // '}' or ']'
void           cn_json_put_key(cn_json_writer *w, const char *key);
void           cn_json_put_string(cn_json_writer *w, const char *text); // NULL writes null
void           cn_json_put_bytes(cn_json_writer *w, const char *text, size_t bytes);
void           cn_json_put_int64(cn_json_writer *w, int64_t value);
/* `digits` significant digits, 1..17, or fewer that read back as the same value: 0.1 at 17
 * is 0.1.  A value that is not finite is null. */
void cn_json_put_f64(cn_json_writer *w, double value, int digits);
void cn_json_put_bool(cn_json_writer *w, bool value);
void cn_json_put_null(cn_json_writer *w);

/* A key and its value in one call. */
void cn_json_field_string(cn_json_writer *w, const char *key, const char *text);
void cn_json_field_bytes(cn_json_writer *w, const char *key, const char *text, size_t bytes);
void cn_json_field_int64(cn_json_writer *w, const char *key, int64_t value);
void cn_json_field_f64(cn_json_writer *w, const char *key, double value, int digits);
void cn_json_field_bool(cn_json_writer *w, const char *key, bool value);
/* A key and the bracket that opens its value. */
void cn_json_field_open(cn_json_writer *w, const char *key, char bracket);

CN_C_END

#endif

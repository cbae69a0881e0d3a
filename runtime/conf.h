/*
 * conf.h - The configuration file, and what it says against options and the environment.
 *
 *   $XDG_CONFIG_HOME/cairn/cairn.conf, else ~/.config/cairn/cairn.conf, if it is there;
 *   --config FILE or CAIRN_CONFIG name another, which must be (/dev/null: none).
 *
 *   # a comment begins a line or stands behind a blank, and ends with its line
 *   threads = 2
 *   cache_bytes = 32G
 *   [prices]
 *   input = 3.00
 *
 * Keys that stand behind [prices] are called prices.input and so on.  The reader is strict: what it
 * does not know is an error that names file, line and the nearest name it knows, and so are a key
 * that stands there twice, a number out of its range, and a path that would depend on the working
 * directory.  Blanks around names and values do not count; values are not quoted.
 *
 * Of several sources of a key the first wins: option, environment, file, default.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_CONF_H
#define CN_RUNTIME_CONF_H

#include "base/buf.h"

CN_C_BEGIN

enum {
    CN_CONF_BYTES_MAX = 1 << 16, // of the file
    CN_CONF_TEXT_BYTES_MAX = 64, // of a value that is neither path nor number
    CN_CONF_PATH_BYTES_MAX = 3000,
};

#define CN_CONF_CACHE_BYTES_MAX ((int64_t)1 << 44)
#define CN_CONF_PRICE_MAX 1e9

// clang-format off
/*    key            name               kind   environment          what it is */
#define CN_CONF_LIST(X)                                                                            \
    X(MODEL,         "model",           PATH,  "CAIRN_MODEL",       "folder of the model")         \
    X(STATE,         "state",           PATH,  "CAIRN_STATE",       "state folder")                \
    X(TENANT,        "tenant",          TEXT,  "CAIRN_TENANT",      "whose sessions and pages")    \
    X(THREADS,       "threads",         COUNT, "CAIRN_THREADS",     "threads; 0: one a core")      \
    X(ISA,           "isa",             TEXT,  "CAIRN_ISA",         "instruction-set path")        \
    X(BUDGET,        "budget",          COUNT, "CAIRN_BUDGET",      "tokens of a new view")        \
    X(REFS_BUDGET,   "refs_budget",     COUNT, "CAIRN_REFS_BUDGET", "tokens of its long parts")    \
    X(CACHE_BYTES,   "cache_bytes",     BYTES, "CAIRN_CACHE_BYTES", "size of the cache")           \
    X(CURRENCY,      "prices.currency", TEXT,  NULL,                "what the prices are in")      \
    X(INPUT,         "prices.input",       PRICE, NULL, "a million tokens sent without a cache")   \
    X(CACHE_WRITE,   "prices.cache_write", PRICE, NULL, "a million sent and put into a cache")     \
    X(CACHE_READ,    "prices.cache_read",  PRICE, NULL, "a million found in a cache")              \
    X(OUTPUT,        "prices.output",      PRICE, NULL, "a million tokens of answers")
// clang-format on

typedef enum {
#define X(key, name, kind, environment, help) CN_CONF_##key,
    CN_CONF_LIST(X)
#undef X
        CN_CONF_COUNT
} cn_conf_key;

typedef enum {
    CN_CONF_DEFAULT,
    CN_CONF_FILE,
    CN_CONF_ENVIRONMENT,
    CN_CONF_OPTION,
} cn_conf_source;

/* A zeroed one has defaults alone. */
typedef struct cn_conf {
    struct {
        const char    *text; // NULL: default
        double         number;
        cn_conf_source source;
        int32_t        line; // of the file
    } value[CN_CONF_COUNT];
    cn_buf text; // of the file; values point into it
    cn_buf path; // of the file that was read; empty: none
} cn_conf;

/* Read a file's text into `c`, which has had none.
 *
 *   name  of the file, for messages.
 *
 * CN_EINVAL   not as above; the diag has `name:LINE:`, the key, and what is meant or wanted.
 * CN_ETOOBIG  over CN_CONF_BYTES_MAX.   CN_ENOMEM.   Then `c` is as before. */
cn_err cn_conf_parse(cn_conf *c, const char *text, size_t bytes, const char *name,
                     cn_diag *diag) CN_MUST_CHECK;

/* Read the file (NULL: the one that CAIRN_CONFIG names, or the default one), and the environment.
 *
 * CN_ENOTFOUND  it was named and is not there.   Errors of cn_conf_parse and cn_file_read. */
cn_err cn_conf_load(cn_conf *c, const char *file, cn_diag *diag) CN_MUST_CHECK;
void   cn_conf_release(cn_conf *c);

/* Give a key a value, unless one of a higher source is there.  `text` is borrowed until release;
 * `where`, for messages, names what it was read from ("--budget"), and `line` its line, or 0.
 *
 * CN_EINVAL  as in cn_conf_parse; then nothing has changed. */
cn_err cn_conf_put(cn_conf *c, cn_conf_key key, const char *text, cn_conf_source source,
                   const char *where, int32_t line, cn_diag *diag) CN_MUST_CHECK;

/* CN_CONF_COUNT for a name that is none. */
cn_conf_key cn_conf_find(const char *name);

const char *cn_conf_name(cn_conf_key key);
const char *cn_conf_help(cn_conf_key key);
const char *cn_conf_environment(cn_conf_key key); // NULL: none
bool        cn_conf_is_number(cn_conf_key key);

bool        cn_conf_is_set(const cn_conf *c, cn_conf_key key);
const char *cn_conf_text(const cn_conf *c, cn_conf_key key);   // NULL: default
double      cn_conf_number(const cn_conf *c, cn_conf_key key); // 0: default
int64_t     cn_conf_int64(const cn_conf *c, cn_conf_key key);  // likewise

/* The value of a path, "~/" at its beginning replaced by HOME.
 *
 * CN_ENOTFOUND  not set (diag is not touched), or HOME is not.   CN_ETOOBIG  over `room`. */
cn_err cn_conf_path(const cn_conf *c, cn_conf_key key, char *out, size_t room,
                    cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

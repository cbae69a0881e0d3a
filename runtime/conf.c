/* conf.c - Read the configuration line by line; each value is checked where it is put. */
#include "runtime/conf.h"

#include "base/file.h"
#include "base/utf8.h"
#include "runtime/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { PATH, TEXT, COUNT, BYTES, PRICE } kind;

static const struct {
    const char *name;
    kind        kind;
    const char *environment, *help;
} keys[CN_CONF_COUNT] = {
#define X(key, name, kind, environment, help) {name, kind, environment, help},
    CN_CONF_LIST(X)
#undef X
};

static const char *const sections[] = {"prices"};
enum { SECTIONS = sizeof(sections) / sizeof(sections[0]), NAME_BYTES = 64 };

const char *cn_conf_name(cn_conf_key key) {
    return keys[key].name;
}

const char *cn_conf_help(cn_conf_key key) {
    return keys[key].help;
}

const char *cn_conf_environment(cn_conf_key key) {
    return keys[key].environment;
}

bool cn_conf_is_number(cn_conf_key key) {
    return keys[key].kind >= COUNT;
}

cn_conf_key cn_conf_find(const char *name) {
    int key = 0;
    while (key < CN_CONF_COUNT && strcmp(keys[key].name, name) != 0) key++;
    return (cn_conf_key)key;
}

bool cn_conf_is_set(const cn_conf *c, cn_conf_key key) {
    return c->value[key].text != NULL;
}

const char *cn_conf_text(const cn_conf *c, cn_conf_key key) {
    return c->value[key].text;
}

double cn_conf_number(const cn_conf *c, cn_conf_key key) {
    return c->value[key].number;
}

int64_t cn_conf_int64(const cn_conf *c, cn_conf_key key) {
    return (int64_t)c->value[key].number;
}

/* ---- Values ------------------------------------------------------------------------ */

/* Digits, and for a price a point with more of them: no sign, exponent, hexadecimal or infinity,
 * which strtod would take.  *end_out: what follows. */
static double read_digits(const char *text, bool has_fraction, const char **end_out) {
    enum { DIGITS_MAX = 18 };
    double value = 0, unit = 1;
    int    digits = 0;
    *end_out = text;
    for (; *text >= '0' && *text <= '9' && digits < DIGITS_MAX; digits++)
        value = 10 * value + (*text++ - '0');
    if (digits == 0) return 0;
    *end_out = text;
    if (!has_fraction || text[0] != '.' || text[1] < '0' || text[1] > '9') return value;
    double fraction = 0;
    for (text++; *text >= '0' && *text <= '9' && digits < DIGITS_MAX; digits++, unit *= 10)
        fraction = 10 * fraction + (*text++ - '0');
    *end_out = text;
    return value + fraction / unit;
}

/* What is wrong with a value, as what is wanted; "" if nothing is. */
static void check_value(char wanted[96], cn_conf_key key, const char *text, cn_conf_source source,
                        double *number_out) {
    static const char suffixes[] = "KMGT";
    const char       *end, *suffix;
    *number_out = 0;
    wanted[0] = 0;
    switch (keys[key].kind) {
    case PATH:
        if (!*text)
            snprintf(wanted, 96, "a path");
        else if (strlen(text) > CN_CONF_PATH_BYTES_MAX)
            snprintf(wanted, 96, "at most %d bytes", (int)CN_CONF_PATH_BYTES_MAX);
        else if (source == CN_CONF_FILE && text[0] != '/' && strncmp(text, "~/", 2) != 0)
            snprintf(wanted, 96, "a path that begins with / or ~/");
        return;
    case TEXT:
        if (strlen(text) > CN_CONF_TEXT_BYTES_MAX)
            snprintf(wanted, 96, "at most %d bytes", (int)CN_CONF_TEXT_BYTES_MAX);
        return;
    case COUNT:
        *number_out = read_digits(text, false, &end);
        if (end == text || *end || *number_out > INT32_MAX)
            snprintf(wanted, 96, "a number from 0 to %d", INT32_MAX);
        return;
    case BYTES:
        *number_out = read_digits(text, false, &end);
        suffix = *end && !end[1] ? strchr(suffixes, *end) : NULL;
        if (suffix) *number_out *= (double)((int64_t)1 << (10 * (suffix - suffixes + 1)));
        if (end == text || (*end && !suffix) || *number_out > (double)CN_CONF_CACHE_BYTES_MAX)
            snprintf(wanted, 96, "bytes up to 16T, with K, M, G or T behind the digits");
        return;
    case PRICE:
        *number_out = read_digits(text, true, &end);
        if (end == text || *end || *number_out > CN_CONF_PRICE_MAX)
            snprintf(wanted, 96, "a price such as 3 or 0.25");
        return;
    }
}

cn_err cn_conf_put(cn_conf *c, cn_conf_key key, const char *text, cn_conf_source source,
                   const char *where, int32_t line, cn_diag *diag) {
    char   wanted[96], at[16] = "";
    double number;
    check_value(wanted, key, text, source, &number);
    if (line) snprintf(at, sizeof(at), ":%d", line);
    if (wanted[0])
        return CN_FAIL(diag, CN_EINVAL, "%s%s: %s = %.40s: want %s", where, at, keys[key].name,
                       text, wanted);
    if (source < c->value[key].source) return CN_OK;
    c->value[key].text = text;
    c->value[key].number = number;
    c->value[key].source = source;
    c->value[key].line = line;
    return CN_OK;
}

cn_err cn_conf_path(const cn_conf *c, cn_conf_key key, char *out, size_t room, cn_diag *diag) {
    const char *text = c->value[key].text, *home = "";
    cn_assert(keys[key].kind == PATH);
    if (!text) return CN_ENOTFOUND;
    if (c->value[key].source == CN_CONF_FILE && text[0] == '~') {
        home = getenv("HOME");
        if (!home || !*home)
            return CN_FAIL(diag, CN_ENOTFOUND, "%s = %s, and HOME is not set", keys[key].name,
                           text);
        text++;
    }
    if ((size_t)snprintf(out, room, "%s%s", home, text) < room) return CN_OK;
    return CN_FAIL(diag, CN_ETOOBIG, "%s has a path of %zu bytes, limit %zu", keys[key].name,
                   strlen(home) + strlen(text), room - 1);
}

/* ---- The text ---------------------------------------------------------------------- */

typedef struct reader {
    cn_conf    *c;
    const char *name; // of the file
    const char *section;
    int32_t     line;
    cn_diag    *diag;
} reader;

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

/* Without the blanks at both ends; in place. */
static char *trim(char *text) {
    char *end = text + strlen(text);
    while (is_blank(*text)) text++;
    while (end > text && is_blank(end[-1])) end--;
    *end = 0;
    return text;
}

static void cut_comment(char *line) {
    for (char *p = line; *p; p++)
        if (*p == '#' && (p == line || is_blank(p[-1]))) {
            *p = 0;
            return;
        }
}

static cn_err unknown(const reader *r, const char *what, const char *word, const char *best) {
    return CN_FAIL(r->diag, CN_EINVAL, "%s:%d: no %s \"%.40s\"%s%s%s", r->name, r->line, what, word,
                   best ? "; did you mean \"" : "", best ? best : "", best ? "\"?" : "");
}

static cn_err read_section(reader *r, char *line) {
    char *end = strchr(line, ']');
    if (!end || end[1])
        return CN_FAIL(r->diag, CN_EINVAL, "%s:%d: a section ends with ]", r->name, r->line);
    *end = 0;
    const char *word = trim(line + 1);
    cn_nearest  near = {.word = word};
    for (int i = 0; i < SECTIONS; i++) {
        if (strcmp(sections[i], word) == 0) {
            r->section = sections[i];
            return CN_OK;
        }
        cn_nearest_try(&near, sections[i]);
    }
    return unknown(r, "section", word, near.best);
}

/* The nearest name in this section; else, where the name is known in another, that one in full. */
static const char *nearest_key(const reader *r, const char *word) {
    const size_t skip = strlen(r->section) + (*r->section != 0);
    cn_nearest   near = {.word = word};
    for (int i = 0; i < CN_CONF_COUNT; i++) {
        const char *dot = strchr(keys[i].name, '.');
        const bool  is_here =
            *r->section ? dot && strncmp(keys[i].name, r->section, skip - 1) == 0 : !dot;
        if (is_here) cn_nearest_try(&near, keys[i].name + skip);
    }
    for (int i = 0; i < CN_CONF_COUNT && !near.best; i++) {
        const char *dot = strchr(keys[i].name, '.');
        if (strcmp(dot ? dot + 1 : keys[i].name, word) == 0) near.best = keys[i].name;
    }
    return near.best;
}

static cn_err read_key(reader *r, char *line) {
    char  name[NAME_BYTES];
    char *equals = strchr(line, '=');
    if (!equals || equals == line)
        return CN_FAIL(r->diag, CN_EINVAL, "%s:%d: want KEY = VALUE, [SECTION] or # COMMENT",
                       r->name, r->line);
    *equals = 0;
    const char *word = trim(line), *value = trim(equals + 1);
    const int   bytes =
        snprintf(name, sizeof(name), "%s%s%s", r->section, *r->section ? "." : "", word);
    const cn_conf_key key =
        bytes < NAME_BYTES && !strchr(word, '.') ? cn_conf_find(name) : CN_CONF_COUNT;
    if (key == CN_CONF_COUNT) return unknown(r, "key", word, nearest_key(r, word));
    if (r->c->value[key].line)
        return CN_FAIL(r->diag, CN_EINVAL, "%s:%d: %s stands on line %d already", r->name, r->line,
                       name, r->c->value[key].line);
    if (!*value)
        return CN_FAIL(r->diag, CN_EINVAL, "%s:%d: %s has no value", r->name, r->line, name);
    return cn_conf_put(r->c, key, value, CN_CONF_FILE, r->name, r->line, r->diag);
}

static cn_err read_lines(reader *r, char *text) {
    while (*text) {
        const size_t bytes = strcspn(text, "\n");
        char        *line = text, *next = text + bytes + (text[bytes] == '\n');
        line[bytes] = 0;
        r->line++;
        cut_comment(line);
        line = trim(line);
        if (*line == '[')
            CN_TRY(read_section(r, line));
        else if (*line)
            CN_TRY(read_key(r, line));
        text = next;
    }
    return CN_OK;
}

/* So that a message that quotes the text can be shown. */
static cn_err check_text(const char *text, size_t bytes, const char *name, cn_diag *diag) {
    int32_t line = 1;
    for (size_t at = 0, n; at < bytes; at += n) {
        const unsigned char c = (unsigned char)text[at];
        n = cn_utf8_bytes(text + at, bytes - at);
        if (n == 0) return CN_FAIL(diag, CN_EINVAL, "%s:%d: byte %zu is no UTF-8", name, line, at);
        if ((c < 32 && c != '\t' && c != '\r' && c != '\n') || c == 127)
            return CN_FAIL(diag, CN_EINVAL, "%s:%d: byte %zu is a control character, %d", name,
                           line, at, c);
        line += c == '\n';
    }
    return CN_OK;
}

cn_err cn_conf_parse(cn_conf *c, const char *text, size_t bytes, const char *name, cn_diag *diag) {
    if (bytes > CN_CONF_BYTES_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "%s has %zu bytes, limit %d", name, bytes,
                       (int)CN_CONF_BYTES_MAX);
    CN_TRY(check_text(text, bytes, name, diag));
    const cn_conf before = *c;
    reader        r = {.c = c, .name = name, .section = "", .diag = diag};
    cn_buf_put(&c->text, text, bytes);
    cn_err err = c->text.err;
    if (err)
        err = CN_FAIL(diag, err, "no memory for %s", name);
    else if (bytes)
        err = read_lines(&r, c->text.data);
    if (err) {
        cn_buf_release(&c->text);
        *c = before;
    }
    return err;
}

/* ---- Where it lies ------------------------------------------------------------------ */

static void put_default_path(cn_buf *path) {
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (xdg && *xdg == '/')
        cn_buf_printf(path, "%s/cairn/cairn.conf", xdg);
    else if (home && *home == '/')
        cn_buf_printf(path, "%s/.config/cairn/cairn.conf", home);
}

static cn_err load_file(cn_conf *c, const char *file, cn_diag *diag) {
    const char *named = file ? file : getenv("CAIRN_CONFIG");
    const bool  is_named = named && *named;
    cn_buf      text = {0};
    if (is_named)
        cn_buf_put_str(&c->path, named);
    else
        put_default_path(&c->path);
    if (c->path.err) return CN_FAIL(diag, c->path.err, "no memory for a path");
    if (!c->path.bytes) return CN_OK;
    if (strcmp(c->path.data, "/dev/null") == 0) { // no regular file, and plainly meant
        cn_buf_reset(&c->path);
        return CN_OK;
    }
    cn_err err = cn_file_read(&text, c->path.data, CN_CONF_BYTES_MAX, diag);
    if (err == CN_ENOTFOUND && !is_named) {
        cn_buf_reset(&c->path);
        err = CN_OK;
    } else if (!err) {
        err = cn_conf_parse(c, cn_buf_str(&text), text.bytes, c->path.data, diag);
    }
    cn_buf_release(&text);
    return err;
}

cn_err cn_conf_load(cn_conf *c, const char *file, cn_diag *diag) {
    CN_TRY(load_file(c, file, diag));
    for (int i = 0; i < CN_CONF_COUNT; i++) {
        const char *text = keys[i].environment ? getenv(keys[i].environment) : NULL;
        if (text && *text)
            CN_TRY(cn_conf_put(c, (cn_conf_key)i, text, CN_CONF_ENVIRONMENT, keys[i].environment, 0,
                               diag));
    }
    return CN_OK;
}

void cn_conf_release(cn_conf *c) {
    cn_buf_release(&c->text);
    cn_buf_release(&c->path);
    *c = (cn_conf){0};
}

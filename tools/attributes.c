/*
 * attributes.c - Lines from the last to the first, and in each the words from the last to
 * the first: who comes first decides.  A macro that is set decides with its own words.
 */
#include "tools/attributes.h"
#include "base/buf.h"
#include "base/fault.h"
#include "tools/glob.h"

#include <stdlib.h>
#include <string.h>

/* "name", "-name", "!name" or "name=value". */
typedef struct word {
    int                name; // index into cn_attributes
    cn_attribute_value value;
} word;

typedef struct rule {
    cn_glob glob;
    int64_t first, count; // of its words
} rule;

struct cn_attribute_rules {
    char   *text; // what all words and patterns point into
    rule   *rule;
    word   *word;
    int64_t rules, words;
};

typedef struct name {
    const char *text;
    size_t      bytes;
    bool        is_macro;
    word       *word; // of a macro
    int64_t     words;
} name;

struct cn_attributes {
    name   name[CN_ATTRIBUTE_NAMES_MAX];
    int    count;
    char **text; // of the files that define macros
    int    texts;
};

static const char *const known[CN_ATTRIBUTES] = {"binary",
                                                 "linguist-generated",
                                                 "linguist-vendored",
                                                 "filter",
                                                 "working-tree-encoding",
                                                 "text",
                                                 "eol",
                                                 "crlf",
                                                 "ident"};

static cn_err no_memory(cn_diag *diag) {
    return CN_FAIL(diag, CN_ENOMEM, "no memory for attributes");
}

static int find_name(const cn_attributes *names, const char *text, size_t bytes) {
    for (int i = 0; i < names->count; i++)
        if (names->name[i].bytes == bytes && memcmp(names->name[i].text, text, bytes) == 0)
            return i;
    return -1;
}

/* ---- Parsing ------------------------------------------------------------------------- */

static const char *skip_blanks(const char *p, const char *end) {
    while (p < end && strchr(" \t\r", *p) && *p) p++;
    return p;
}

static const char *skip_word(const char *p, const char *end) {
    while (p < end && (!*p || !strchr(" \t\r", *p))) p++;
    return p;
}

/* The next line at *p, which moves behind it; false at the end. */
static bool next_line(const char **p, const char *end, const char **line, const char **line_end) {
    if (*p >= end) return false;
    const char *newline = memchr(*p, '\n', (size_t)(end - *p));
    *line = *p;
    *line_end = newline ? newline : end;
    *p = *line_end + 1;
    return true;
}

/* The words p..end; those of names that nobody asks for are dropped.  Appends to `words`. */
static void parse_words(const cn_attributes *names, const char *p, const char *end, cn_buf *words) {
    for (p = skip_blanks(p, end); p < end; p = skip_blanks(p, end)) {
        const char *to = skip_word(p, end), *equals = memchr(p, '=', (size_t)(to - p));
        word        w = {.value.state = *p == '-'   ? CN_ATTRIBUTE_UNSET
                                        : *p == '!' ? CN_ATTRIBUTE_UNSPECIFIED
                                        : equals    ? CN_ATTRIBUTE_VALUE
                                                    : CN_ATTRIBUTE_SET};
        if (*p == '-' || *p == '!') {
            p++;
            equals = NULL;
        }
        if (equals) {
            w.value.text = equals + 1;
            w.value.bytes = (size_t)(to - equals) - 1;
        }
        w.name = find_name(names, p, (size_t)((equals ? equals : to) - p));
        if (w.name >= 0) cn_buf_put(words, &w, sizeof(w));
        p = to;
    }
}

/* One byte of a quoted pattern at `p`, escaped or not: the byte after it, or NULL. */
static const char *unquote_one(const char *p, const char *end, char *out) {
    static const char letters[] = "abtnvfr\"\\", bytes[] = "\a\b\t\n\v\f\r\"\\";
    *out = *p;
    if (*p != '\\') return p + 1;
    if (++p >= end) return NULL;
    const char *letter = *p ? strchr(letters, *p) : NULL;
    if (letter) {
        *out = bytes[letter - letters];
        return p + 1;
    }
    int value = 0;
    if (end - p < 3 || *p > '3') return NULL;
    for (int i = 0; i < 3; i++, p++) {
        if (*p < '0' || *p > '7') return NULL;
        value = value * 8 + (*p - '0');
    }
    *out = (char)value;
    return p;
}

/* Unquote the pattern in double quotes at `p` in place, from p on.  Its end, and in
 * *after_out the byte behind the quotes; NULL, and nothing is changed, if it is none. */
static char *unquote(char *p, const char *end, char **after_out) {
    char *to = p, c;
    for (int pass = 0; pass < 2; pass++) {
        const char *from = p + 1;
        while (from && from < end && *from != '"') {
            from = unquote_one(from, end, &c);
            if (pass > 0) *to++ = c;
        }
        if (!from || from >= end) return NULL;
        *after_out = (char *)from + 1;
    }
    return to;
}

static const char macro_prefix[] = "[attr]";
enum { MACRO_PREFIX_BYTES = sizeof(macro_prefix) - 1 };

/* "[attr]name"; with a blank between the two it is a pattern. */
static bool is_macro_line(const char *p, const char *end) {
    return end - p > MACRO_PREFIX_BYTES && memcmp(p, macro_prefix, MACRO_PREFIX_BYTES) == 0 &&
           skip_word(p, end) - p > MACRO_PREFIX_BYTES;
}

/* One line; nothing is appended if it says nothing. */
static void parse_line(const cn_attributes *names, char *p, const char *end, cn_buf *rules,
                       cn_buf *words) {
    rule r = {.first = (int64_t)(words->bytes / sizeof(word))};
    if (end - p > CN_ATTRIBUTE_LINE_BYTES_MAX) return;
    p = (char *)skip_blanks(p, end);
    if (p >= end || *p == '#' || *p == '!' || is_macro_line(p, end)) return;
    char *pattern = p, *pattern_end;
    if (*p != '"' || !(pattern_end = unquote(pattern, end, &p)))
        p = pattern_end = (char *)skip_word(p, end);
    // "folder/" is about folders, and folders are never asked for.
    if (pattern_end > pattern && pattern_end[-1] == '/') return;
    if (!cn_glob_init(&r.glob, pattern, pattern_end)) return;
    parse_words(names, p, end, words);
    r.count = (int64_t)(words->bytes / sizeof(word)) - r.first;
    if (r.count > 0) cn_buf_put(rules, &r, sizeof(r));
}

static char *copy_of(const char *text, size_t bytes) {
    char *copy = CN_FAULT("tools.attributes.alloc") ? NULL : malloc(bytes + 1);
    if (!copy) return NULL;
    if (bytes > 0) memcpy(copy, text, bytes);
    copy[bytes] = 0;
    return copy;
}

static size_t skip_mark(const char *text, size_t bytes) {
    return bytes >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

cn_err cn_attributes_parse(const cn_attributes *names, cn_attribute_rules **out, const char *text,
                           size_t bytes, cn_diag *diag) {
    cn_buf              rules = {0}, words = {0};
    cn_attribute_rules *r = CN_FAULT("tools.attributes.alloc") ? NULL : calloc(1, sizeof(*r));
    const char         *line, *line_end;

    *out = NULL;
    const size_t mark = skip_mark(text, bytes);
    char        *copy = r ? copy_of(text + mark, bytes - mark) : NULL;
    if (!copy) {
        free(r);
        return no_memory(diag);
    }
    for (const char *p = copy; next_line(&p, copy + bytes - mark, &line, &line_end);)
        parse_line(names, (char *)line, line_end, &rules, &words);
    r->text = copy;
    r->rules = (int64_t)(rules.bytes / sizeof(rule));
    r->words = (int64_t)(words.bytes / sizeof(word));
    const cn_err err = rules.err ? rules.err : words.err;
    r->rule = (rule *)(void *)cn_buf_take(&rules);
    r->word = (word *)(void *)cn_buf_take(&words);
    cn_buf_release(&rules);
    cn_buf_release(&words);
    if (err || r->rules == 0)
        cn_attribute_rules_free(r);
    else
        *out = r;
    return err ? no_memory(diag) : CN_OK;
}

void cn_attribute_rules_free(cn_attribute_rules *rules) {
    if (!rules) return;
    free(rules->rule);
    free(rules->word);
    free(rules->text);
    free(rules);
}

/* ---- Names --------------------------------------------------------------------------- */

/* The name, new or known, as a macro without words; NULL if there are too many. */
static name *add_macro(cn_attributes *names, const char *text, size_t bytes) {
    int i = find_name(names, text, bytes);
    if (i < 0) {
        if (names->count == CN_ATTRIBUTE_NAMES_MAX) return NULL;
        i = names->count++;
        names->name[i] = (name){.text = text, .bytes = bytes};
    }
    name *n = &names->name[i];
    n->is_macro = true;
    free(n->word);
    n->word = NULL;
    n->words = 0;
    return n;
}

/* Keep a copy of a text for as long as the names live. */
static char *keep(cn_attributes *names, const char *text, size_t bytes) {
    char **grown = CN_FAULT("tools.attributes.alloc")
                       ? NULL
                       : realloc(names->text, (size_t)(names->texts + 1) * sizeof(char *));
    if (!grown) return NULL;
    names->text = grown;
    char *copy = copy_of(text, bytes);
    if (copy) grown[names->texts++] = copy;
    return copy;
}

cn_err cn_attributes_define(cn_attributes *names, const char *text, size_t bytes, cn_diag *diag) {
    const char  *line, *line_end;
    const size_t mark = skip_mark(text, bytes);
    char        *copy = keep(names, text + mark, bytes - mark);

    if (!copy) return no_memory(diag);
    const char *end = copy + bytes - mark;
    // Names first: a macro may stand in another that is defined before it.
    for (int pass = 0; pass < 2; pass++)
        for (const char *p = copy; next_line(&p, end, &line, &line_end);) {
            const char *from = skip_blanks(line, line_end);
            if (line_end - line > CN_ATTRIBUTE_LINE_BYTES_MAX || !is_macro_line(from, line_end))
                continue;
            from += MACRO_PREFIX_BYTES;
            const char *to = skip_word(from, line_end);
            name       *n = add_macro(names, from, (size_t)(to - from));
            if (!n || pass == 0) continue;
            cn_buf words = {0};
            parse_words(names, to, line_end, &words);
            n->words = (int64_t)(words.bytes / sizeof(word));
            const cn_err err = words.err;
            n->word = (word *)(void *)cn_buf_take(&words);
            cn_buf_release(&words);
            if (err) {
                n->words = 0;
                return no_memory(diag);
            }
        }
    return CN_OK;
}

cn_err cn_attributes_create(cn_attributes **out, cn_diag *diag) {
    static const char built_in[] = "[attr]binary -diff -merge -text\n";
    *out = NULL;
    cn_attributes *names = CN_FAULT("tools.attributes.alloc") ? NULL : calloc(1, sizeof(*names));
    if (!names) return no_memory(diag);
    for (int i = 0; i < CN_ATTRIBUTES; i++)
        names->name[i] = (name){.text = known[i], .bytes = strlen(known[i])};
    names->count = CN_ATTRIBUTES;
    const cn_err err = cn_attributes_define(names, built_in, sizeof(built_in) - 1, diag);
    if (err)
        cn_attributes_free(names);
    else
        *out = names;
    return err;
}

void cn_attributes_free(cn_attributes *names) {
    if (!names) return;
    for (int i = 0; i < names->count; i++) free(names->name[i].word);
    for (int i = 0; i < names->texts; i++) free(names->text[i]);
    free(names->text);
    free(names);
}

/* ---- Asking -------------------------------------------------------------------------- */

/* Decide by words, the last first.  A macro decides a name before it is expanded, so that
 * one that names itself ends. */
static void apply_words(const cn_attributes *names, const word *words, int64_t count,
                        cn_attribute_answer *answer) {
    for (int64_t i = count - 1; i >= 0; i--) {
        const word         *w = &words[i];
        const name         *n = &names->name[w->name];
        cn_attribute_value *value = &answer->value[w->name];
        if (value->state != CN_ATTRIBUTE_UNDECIDED) continue;
        *value = w->value;
        if (n->is_macro && value->state == CN_ATTRIBUTE_SET)
            apply_words(names, n->word, n->words, answer);
    }
}

void cn_attributes_apply(const cn_attributes *names, const cn_attribute_rules *rules,
                         const char *path, cn_attribute_answer *answer) {
    if (!rules) return;
    const char *end = path + strlen(path);
    for (int64_t i = rules->rules - 1; i >= 0; i--) {
        const rule *r = &rules->rule[i];
        if (cn_glob_matches(&r->glob, path, end))
            apply_words(names, rules->word + r->first, r->count, answer);
    }
}

bool cn_attribute_is_on(const cn_attribute_value *value) {
    return value->state == CN_ATTRIBUTE_SET ||
           (value->state == CN_ATTRIBUTE_VALUE && value->bytes == 4 &&
            memcmp(value->text, "true", 4) == 0);
}

/* definitions.c - Lines that define something, language by language. */
#include "runtime/definitions.h"

#include <ctype.h>
#include <string.h>

/* ---- Text --------------------------------------------------------------------------- */

/* A line without its end; the blanks at its end do not count. */
typedef struct span {
    const char *p, *end;
} span;

static bool is_name_char(char c) {
    return isalnum((unsigned char)c) || c == '_' || c == '$';
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

static span trim(span s) {
    while (s.p < s.end && is_blank(*s.p)) s.p++;
    while (s.end > s.p && is_blank(s.end[-1])) s.end--;
    return s;
}

static bool has(span s, const char *text) {
    return memmem(s.p, (size_t)(s.end - s.p), text, strlen(text)) != NULL;
}

static bool begins(span s, const char *text) {
    const size_t bytes = strlen(text);
    return (size_t)(s.end - s.p) >= bytes && memcmp(s.p, text, bytes) == 0;
}

static bool is_word(span s, const char *const *words) {
    for (; *words; words++)
        if (begins(s, *words) && strlen(*words) == (size_t)(s.end - s.p)) return true;
    return false;
}

/* The name at `p`; empty if there is none. */
static span name_at(const char *p, const char *end) {
    span name = {p, p};
    if (p < end && !isdigit((unsigned char)*p))
        while (name.end < end && is_name_char(*name.end)) name.end++;
    return name;
}

/* The name that ends at `end`. */
static span name_before(const char *begin, const char *end) {
    span name = {end, end};
    while (name.p > begin && is_name_char(name.p[-1])) name.p--;
    return name;
}

/* Skip `word` and the blanks behind it, if it stands at *p as a word. */
static bool skip_word(const char **p, const char *end, const char *word) {
    const size_t bytes = strlen(word);
    if ((size_t)(end - *p) <= bytes || memcmp(*p, word, bytes) != 0) return false;
    if (is_name_char(word[bytes - 1]) && is_name_char((*p)[bytes])) return false;
    *p += bytes;
    while (*p < end && is_blank(**p)) ++*p;
    return true;
}

/* Behind the parenthesis that closes the one at `p`; NULL if the line does not have it. */
static const char *close_of(const char *p, const char *end) {
    int depth = 0;
    for (; p < end; p++) {
        depth += (*p == '(') - (*p == ')');
        if (depth == 0) return p + 1;
    }
    return NULL;
}

/* ---- A line that may define something -------------------------------------------------- */

typedef struct found {
    span name;
    span signature; // empty: none
    bool is_clear;  // also without a signature
} found;

/* What can be asked for, word for word: short, one blank at a time, no comment, no string. */
static bool is_plain(span s) {
    if (s.end - s.p > CN_SIGNATURE_BYTES_MAX) return false;
    return !has(s, "  ") && !has(s, "\t") && !has(s, "//") && !has(s, "/*") && !has(s, "#") &&
           !has(s, "\"") && !has(s, "'''");
}

/* Whether the line is whole: `{` at its end and no other. */
static bool opens_body(span line) {
    return line.end > line.p && line.end[-1] == '{' &&
           !memchr(line.p, '{', (size_t)(line.end - line.p - 1)) &&
           !memchr(line.p, '}', (size_t)(line.end - line.p));
}

/* From `p` to what opens the body at the end of the line. */
static span up_to_body(const char *p, span line) {
    return trim((span){p, line.end - 1});
}

static const char *const not_types[] = {"else",     "return",    "case",      "do",      "typedef",
                                        "goto",     "using",     "new",       "delete",  "throw",
                                        "if",       "for",       "while",     "switch",  "template",
                                        "operator", "friend",    "sizeof",    "defined", "public",
                                        "private",  "protected", "namespace", "extern",  NULL};

static bool is_upper(span s) {
    for (const char *p = s.p; p < s.end; p++)
        if (islower((unsigned char)*p)) return false;
    return true;
}

/* Words and stars alone at column 0: the type of what is named below. */
static bool is_type(span line) {
    if (line.p == line.end || !is_name_char(*line.p) || is_upper(line)) return false;
    if (is_word(name_at(line.p, line.end), not_types)) return false;
    for (const char *p = line.p; p < line.end; p++)
        if (!is_name_char(*p) && !is_blank(*p) && *p != '*') return false;
    return true;
}

static bool find_c(span above, span line, span below, found *out) {
    const char *paren = memchr(line.p, '(', (size_t)(line.end - line.p));
    if (line.p == line.end || is_blank(*line.p)) return false;
    if (*line.p == '#') { // a macro: its name is taken
        const char *p = line.p + 1;
        while (p < line.end && is_blank(*p)) p++;
        if (!skip_word(&p, line.end, "define")) return false;
        out->name = name_at(p, line.end);
        return true;
    }
    if (!paren || !is_name_char(*line.p)) return false;
    const span head = trim((span){line.p, paren});
    out->name = name_before(line.p, head.end);
    const span type = trim((span){line.p, out->name.p});
    if (is_word(name_at(line.p, line.end), not_types) || is_word(out->name, not_types))
        return false;
    const bool has_type = is_type(type);
    if (type.p < type.end && !has_type && !is_upper(type)) return true; // C++
    const char *close = close_of(paren, line.end);
    const span  tail = close ? trim((span){close, line.end}) : (span){paren, paren};
    if (close && tail.p < tail.end && tail.end[-1] == ';') return false; // a prototype, a call
    if (!close || is_upper(out->name)) return true;
    below = trim(below);
    const bool opens = tail.p == tail.end ? below.end - below.p == 1 && *below.p == '{'
                                          : tail.end - tail.p == 1 && *tail.p == '{';
    if (opens && has_type) out->signature = (span){line.p, close};
    out->is_clear = opens && type.p == type.end && is_type(trim(above));
    return true;
}

static bool find_python(span line, found *out) {
    const span  text = trim(line);
    const char *p = text.p;
    skip_word(&p, text.end, "async");
    const bool is_class = skip_word(&p, text.end, "class");
    if (!is_class && !skip_word(&p, text.end, "def")) return false;
    out->name = name_at(p, text.end);
    const char *close = out->name.end < text.end && *out->name.end == '('
                            ? close_of(out->name.end, text.end)
                            : NULL;
    if (!is_class && text.p == line.p && close && text.end[-1] == ':')
        out->signature = trim((span){text.p, text.end - 1});
    return true;
}

static bool find_script(span line, found *out) {
    const span  text = trim(line);
    const char *p = text.p;
    skip_word(&p, text.end, "export");
    skip_word(&p, text.end, "default");
    static const char *const values[] = {"const", "let", "var", "class", "interface", "type"};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        if (skip_word(&p, text.end, values[i])) {
            out->name = name_at(p, text.end);
            return true;
        }
    skip_word(&p, text.end, "async");
    if (skip_word(&p, text.end, "function")) {
        out->name = name_at(p, text.end);
        if (text.p == line.p && out->name.end < text.end && *out->name.end == '(' &&
            opens_body(text) && close_of(out->name.end, text.end))
            out->signature = up_to_body(text.p, text);
        return true;
    }
    // A method, or what is assigned: the name before the first parenthesis or sign.
    const char *stop = text.p;
    while (stop < text.end && !strchr("(=:", *stop)) stop++;
    if (stop == text.end || text.end[-1] != '{') return false;
    out->name = name_before(text.p, trim((span){text.p, stop}).end);
    return true;
}

static bool find_go(span line, found *out) {
    const char *p = line.p;
    if (!skip_word(&p, line.end, "func")) {
        if (!skip_word(&p, line.end, "type")) return false;
        out->name = name_at(p, line.end);
        return true;
    }
    const bool has_receiver = *p == '(';
    if (has_receiver) p = close_of(p, line.end);
    if (!p) return false;
    while (p < line.end && is_blank(*p)) p++;
    out->name = name_at(p, line.end);
    if (!has_receiver && out->name.end < line.end && *out->name.end == '(' && opens_body(line) &&
        close_of(out->name.end, line.end))
        out->signature = up_to_body(line.p, line);
    return true;
}

static bool find_rust(span line, found *out) {
    const span  text = trim(line);
    const char *p = text.p;
    if (skip_word(&p, text.end, "pub") && *p == '(') p = close_of(p, text.end);
    if (!p) return false;
    while (p < text.end && is_blank(*p)) p++;
    static const char *const words[] = {"default", "const", "async", "unsafe"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) skip_word(&p, text.end, words[i]);
    static const char *const types[] = {"struct", "enum",         "trait",
                                        "type",   "macro_rules!", "static"};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (skip_word(&p, text.end, types[i])) {
            out->name = name_at(p, text.end);
            return true;
        }
    if (!skip_word(&p, text.end, "fn")) return false;
    out->name = name_at(p, text.end);
    if (text.p == line.p && opens_body(text) && !has(text, " where "))
        out->signature = up_to_body(text.p, text);
    return true;
}

static bool find_java(span line, found *out) {
    static const char *const modifiers[] = {"public", "private",  "protected",    "static",
                                            "final",  "abstract", "synchronized", "native"};
    static const char *const types[] = {"class", "interface", "enum", "record"};
    const span               text = trim(line);
    const char              *p = text.p, *before;
    do {
        before = p;
        for (size_t i = 0; i < sizeof(modifiers) / sizeof(modifiers[0]); i++)
            skip_word(&p, text.end, modifiers[i]);
    } while (p != before);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (skip_word(&p, text.end, types[i])) {
            out->name = name_at(p, text.end);
            return true;
        }
    const char *paren = memchr(p, '(', (size_t)(text.end - p));
    if (!paren || is_word(name_at(p, text.end), not_types)) return false;
    out->name = name_before(p, paren);
    const span type = trim((span){p, out->name.p});
    if (type.p == type.end || memchr(type.p, '.', (size_t)(type.end - type.p)) || has(type, "="))
        return out->name.p == p && p != text.p; // a constructor
    const char *close = close_of(paren, text.end);
    if (p != text.p && close && opens_body(text)) out->signature = up_to_body(text.p, text);
    return text.end[-1] != ';' || p != text.p;
}

static bool find_in(cn_language language, span above, span line, span below, found *out) {
    switch (language) {
    case CN_LANGUAGE_C:
        return find_c(above, line, below, out);
    case CN_LANGUAGE_PYTHON:
        return find_python(line, out);
    case CN_LANGUAGE_SCRIPT:
        return find_script(line, out);
    case CN_LANGUAGE_GO:
        return find_go(line, out);
    case CN_LANGUAGE_RUST:
        return find_rust(line, out);
    case CN_LANGUAGE_JAVA:
        return find_java(line, out);
    default:
        return false;
    }
}

/* ---- Files --------------------------------------------------------------------------- */

cn_language cn_language_of(const char *path) {
    static const struct {
        const char *ending;
        cn_language language;
    } endings[] = {
        {"c", CN_LANGUAGE_C},        {"h", CN_LANGUAGE_C},        {"cc", CN_LANGUAGE_C},
        {"cpp", CN_LANGUAGE_C},      {"cxx", CN_LANGUAGE_C},      {"hh", CN_LANGUAGE_C},
        {"hpp", CN_LANGUAGE_C},      {"py", CN_LANGUAGE_PYTHON},  {"js", CN_LANGUAGE_SCRIPT},
        {"jsx", CN_LANGUAGE_SCRIPT}, {"mjs", CN_LANGUAGE_SCRIPT}, {"cjs", CN_LANGUAGE_SCRIPT},
        {"ts", CN_LANGUAGE_SCRIPT},  {"tsx", CN_LANGUAGE_SCRIPT}, {"go", CN_LANGUAGE_GO},
        {"rs", CN_LANGUAGE_RUST},    {"java", CN_LANGUAGE_JAVA},
    };
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof(endings) / sizeof(endings[0]); i++)
        if (strcmp(dot + 1, endings[i].ending) == 0) return endings[i].language;
    return CN_LANGUAGE_NONE;
}

/* Whether the line is, or ends, inside a comment over several lines or a long string. */
typedef struct skip {
    const char *until; // what ends it; NULL: outside
} skip;

/* True if the line begins inside, or has the border of one on it. */
static bool is_skipped(skip *s, cn_language language, span line) {
    static const char *const quotes[] = {"\"\"\"", "'''"};
    const bool               was_inside = s->until != NULL;
    for (const char *p = line.p; p < line.end; p++) {
        const span rest = {p, line.end};
        if (s->until) {
            if (begins(rest, s->until)) {
                p += strlen(s->until) - 1;
                s->until = NULL;
            }
        } else if (language == CN_LANGUAGE_PYTHON) {
            if (*p == '#') break;
            for (int q = 0; q < 2 && !s->until; q++)
                if (begins(rest, quotes[q])) s->until = quotes[q];
            if (s->until) p += 2;
        } else if (begins(rest, "//")) {
            break;
        } else if (begins(rest, "'\"'")) {
            p += 2;
        } else if (*p == '"' || (*p == '\'' && language == CN_LANGUAGE_SCRIPT)) {
            const char quote = *p; // what looks like a comment may stand in a string
            for (p++; p < line.end && *p != quote; p++) p += *p == '\\';
        } else if (begins(rest, "/*")) {
            s->until = "*/";
            p++;
        }
    }
    return was_inside;
}

void cn_definitions_find(cn_language language, const char *text, size_t bytes,
                         bool (*fn)(void *ctx, const cn_definition *d), void *ctx) {
    static const char *const common[] = {"main", "init", NULL};
    const char *p = text, *const end = text + bytes;
    skip inside = {0};
    span line = {text, text};
    if (language == CN_LANGUAGE_NONE) return;
    for (int64_t number = 1; p < end; number++) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        const char *next = newline ? newline + 1 : end;
        const char *below_end = next < end ? memchr(next, '\n', (size_t)(end - next)) : NULL;
        const span  above = line, below = {next, below_end ? below_end : end};
        found       f = {0};
        line = (span){p, newline ? newline : end};
        while (line.end > line.p && is_blank(line.end[-1])) line.end--;
        p = next;
        if (is_skipped(&inside, language, line) || line.p == line.end) continue;
        if (!find_in(language, above, line, below, &f)) continue;
        const int64_t name_bytes = f.name.end - f.name.p;
        if (name_bytes < CN_DEFINITION_NAME_BYTES_MIN) continue;
        const bool is_fit =
            name_bytes <= CN_DEFINITION_NAME_BYTES_MAX && !inside.until && !is_word(f.name, common);
        const bool          has_signature = is_fit && f.signature.p && is_plain(f.signature);
        const cn_definition d = {.name = f.name.p,
                                 .name_bytes = (int32_t)name_bytes,
                                 .signature = has_signature ? f.signature.p : NULL,
                                 .signature_bytes =
                                     has_signature ? (int32_t)(f.signature.end - f.signature.p) : 0,
                                 .line = number,
                                 .is_clear = has_signature || (is_fit && f.is_clear)};
        if (!fn(ctx, &d)) return;
    }
}

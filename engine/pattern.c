/* pattern.c - Rewrite a pattern, compile it, find its matches. */
#include "engine/pattern_int.h"

#include "base/buf.h"
#include "base/fault.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdlib.h>
#include <string.h>

struct cn_pattern {
    pcre2_code *code;
};

struct cn_match {
    pcre2_match_data    *data;
    pcre2_match_context *limits;
};

// The White_Space property, and all that is not.
#define SPACES                                                                                     \
    "\\x09-\\x0d\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"        \
    "\\x{205f}\\x{3000}"
#define NOT_SPACES                                                                                 \
    "\\x00-\\x08\\x0e-\\x1f\\x21-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"       \
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-"       \
    "\\x{10ffff}"
#define WORDS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
// What Oniguruma counts as a word as well, but not in a class: its table for Latin-1 does.
#define LATIN1_WORDS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"

typedef struct rewriter {
    const char *text, *at;
    cn_buf     *out;
    cn_diag    *diag;
    const char *members;    // where the class that we are in begins, or NULL
    bool        class_dash; // a - that may begin the end of a range is the last thing read
    int         groups;
    bool        folds[CN_PATTERN_GROUPS_MAX + 1]; // by depth: within (?i:
} rewriter;

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_letter(char c) { // of ASCII, in any locale
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static cn_err refuse(rewriter *r, const char *what) {
    return CN_FAIL(r->diag, CN_EUNSUPPORTED, "pattern, byte %zu: %s", (size_t)(r->at - r->text),
                   what);
}

static void copy(rewriter *r, size_t bytes) {
    cn_buf_put(r->out, r->at, bytes);
    r->at += bytes;
}

/* \s and its like: `members` in a class, or a class of its own. */
static cn_err rewrite_set(rewriter *r, const char *members, bool negated) {
    if (r->members && negated) return refuse(r, "\\W in a class");
    if (r->members && (r->class_dash || (r->at[2] == '-' && r->at[3] != ']')))
        return refuse(r, "a set as the end of a range");
    if (!r->members) cn_buf_put_str(r->out, negated ? "[^" : "[");
    cn_buf_put_str(r->out, members);
    if (!r->members) cn_buf_put_str(r->out, "]");
    r->at += 2;
    return CN_OK;
}

/* \p{L} as it is; \p{Han} by the script's name. */
static cn_err rewrite_property(rewriter *r) {
    const char *name = r->at + 3, *end = r->at[2] == '{' ? strchr(name, '}') : NULL;
    if (!end) return refuse(r, "a property without braces");
    if (r->folds[r->groups]) return refuse(r, "a property within (?i:");
    if (r->members && (r->class_dash || (end[1] == '-' && end[2] != ']')))
        return refuse(r, "a set as the end of a range");
    cn_buf_put(r->out, r->at, 3);
    if (*name == '^') cn_buf_put(r->out, name++, 1);
    if (end - name > 2) cn_buf_put_str(r->out, "sc:");
    r->at = name;
    copy(r, (size_t)(end - name) + 1);
    return CN_OK;
}

static cn_err rewrite_escape(rewriter *r) {
    const char c = r->at[1];
    if (c == 0) return CN_FAIL(r->diag, CN_ECORRUPT, "pattern ends in a backslash");
    if (!is_letter(c) && !is_digit(c)) { // a literal; of a longer character PCRE2 sees the same
        copy(r, 2);
        return CN_OK;
    }
    switch (c) {
    case 's':
        return rewrite_set(r, SPACES, false);
    case 'S':
        return rewrite_set(r, NOT_SPACES, false);
    case 'w':
        return rewrite_set(r, r->members ? WORDS : WORDS LATIN1_WORDS, false);
    case 'W':
        return rewrite_set(r, WORDS LATIN1_WORDS, true);
    case 'd':
        return rewrite_set(r, "\\p{Nd}", false);
    case 'D':
        return rewrite_set(r, "\\P{Nd}", false);
    case 'p':
    case 'P':
        return rewrite_property(r);
    case 'r':
    case 'n':
    case 't':
    case 'f':
    case 'a':
    case 'e':
        copy(r, 2);
        return CN_OK;
    case 'A':
    case 'z':
        if (r->members) return refuse(r, "an anchor in a class");
        copy(r, 2);
        return CN_OK;
    case 'x':
        if (r->at[2] == '{') {
            copy(r, 3);
        } else if (r->at[2] >= '0' && r->at[2] <= '7' && is_hex(r->at[3])) {
            copy(r, 4);
        } else {
            return refuse(r, "\\x that is not two digits up to 7f"); // a byte, not a character
        }
        return CN_OK;
    default:
        return refuse(r, "an escape that is not built in");
    }
}

static cn_err rewrite_in_class(rewriter *r) {
    const bool first = r->at == r->members;
    const char c = r->at[0];
    if (c == '&' && r->at[1] == '&') return refuse(r, "&& in a class");
    if (c == '[') return refuse(r, "[ in a class");
    if (c == ']' && first) return refuse(r, "] first in a class");
    if (c == ']') r->members = NULL;
    if (c == '\\') {
        CN_TRY(rewrite_escape(r));
        r->class_dash = false;
    } else {
        r->class_dash = c == '-' && !first && !r->class_dash;
        copy(r, 1);
    }
    return CN_OK;
}

static cn_err open_group(rewriter *r) {
    static const char *const kinds[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"};
    size_t                   bytes = 1;
    bool                     folds = r->folds[r->groups];
    if (r->at[1] == '*') return refuse(r, "(*");
    if (r->at[1] == '?') {
        bytes = 0;
        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
            if (strncmp(r->at, kinds[i], strlen(kinds[i])) == 0) bytes = strlen(kinds[i]);
        if (bytes == 0) return refuse(r, "a group that is not built in");
        folds |= r->at[2] == 'i';
    }
    if (r->groups == CN_PATTERN_GROUPS_MAX) return refuse(r, "too many groups in each other");
    r->folds[++r->groups] = folds;
    copy(r, bytes);
    return CN_OK;
}

/* {n}, {n,}, {n,m}; any other { is a literal to both libraries. */
static cn_err rewrite_repeat(rewriter *r) {
    const char *p = r->at + 1;
    const bool  has_min = is_digit(*p);
    bool        is_range = false;
    while (is_digit(*p)) p++;
    if (*p == ',') {
        is_range = true;
        p++;
        if (!has_min && is_digit(*p)) return refuse(r, "{,n}");
        while (is_digit(*p)) p++;
    }
    if (has_min && *p == '}') {
        if (p[1] == '+') return refuse(r, "{n}+"); // possessive to one, repeated to the other
        if (p[1] == '?' && !is_range) return refuse(r, "{n}?");
        copy(r, (size_t)(p + 1 - r->at));
    } else {
        copy(r, 1);
    }
    return CN_OK;
}

static cn_err rewrite(cn_buf *out, const char *text, cn_diag *diag) {
    rewriter r = {.text = text, .at = text, .out = out, .diag = diag};
    while (*r.at) {
        if (r.members) {
            CN_TRY(rewrite_in_class(&r));
            continue;
        }
        switch (*r.at) {
        case '\\':
            CN_TRY(rewrite_escape(&r));
            break;
        case '(':
            CN_TRY(open_group(&r));
            break;
        case '{':
            CN_TRY(rewrite_repeat(&r));
            break;
        case '[':
            r.class_dash = false;
            copy(&r, r.at[1] == '^' ? 2 : 1);
            r.members = r.at;
            break;
        case ')':
            if (r.groups > 0) r.groups--; // too many: PCRE2 will say so
            copy(&r, 1);
            break;
        default:
            copy(&r, 1);
        }
    }
    return CN_OK;
}

static cn_err compile(pcre2_code **out, const char *text, size_t bytes, bool is_literal,
                      cn_diag *diag) {
    pcre2_compile_context *context =
        CN_FAULT("engine.pattern.compile") ? NULL : pcre2_compile_context_create(NULL);
    if (!context) return CN_ENOMEM;
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    const uint32_t options = PCRE2_UTF | (is_literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE);
    int            code;
    PCRE2_SIZE     at;
    *out = pcre2_compile((PCRE2_SPTR)text, bytes, options, &code, &at, context);
    pcre2_compile_context_free(context);
    if (*out) {
        // Without JIT (not built, or no executable memory) it is slower and as right.
        (void)pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE);
        return CN_OK;
    }
    if (code == PCRE2_ERROR_HEAP_FAILED) return CN_ENOMEM;
    char why[128];
    pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof(why));
    return CN_FAIL(diag,
                   code == PCRE2_ERROR_UNKNOWN_UNICODE_PROPERTY ? CN_EUNSUPPORTED : CN_ECORRUPT,
                   "pattern does not compile: %s", why);
}

cn_err cn_pattern_create(cn_pattern **out, const char *text, bool is_literal, cn_diag *diag) {
    *out = NULL;
    const size_t bytes = strlen(text);
    if (bytes > CN_PATTERN_BYTES_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "pattern of %zu bytes, limit %d", bytes,
                       (int)CN_PATTERN_BYTES_MAX);
    cn_buf buf = {0};
    cn_err err = CN_OK;
    if (is_literal) {
        cn_buf_put(&buf, text, bytes);
    } else {
        err = rewrite(&buf, text, diag);
    }
    if (!err) err = buf.err;
    cn_pattern *p = err ? NULL : calloc(1, sizeof(*p));
    if (!err && !p) err = CN_ENOMEM;
    if (!err) err = compile(&p->code, cn_buf_str(&buf), buf.bytes, is_literal, diag);
    cn_buf_release(&buf);
    if (err) {
        cn_pattern_free(p);
        return err;
    }
    *out = p;
    return CN_OK;
}

void cn_pattern_free(cn_pattern *p) {
    if (p) pcre2_code_free(p->code);
    free(p);
}

cn_err cn_match_create(cn_match **out, size_t bytes) {
    *out = NULL;
    cn_match *m = CN_FAULT("engine.pattern.match") ? NULL : calloc(1, sizeof(*m));
    if (!m) return CN_ENOMEM;
    m->data = pcre2_match_data_create(1, NULL);
    m->limits = pcre2_match_context_create(NULL);
    if (!m->data || !m->limits) {
        cn_match_free(m);
        return CN_ENOMEM;
    }
    const uint64_t steps = CN_MATCH_STEPS_MAX + (uint64_t)bytes * CN_MATCH_STEPS_PER_BYTE;
    pcre2_set_match_limit(m->limits, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
    pcre2_set_heap_limit(m->limits, CN_MATCH_HEAP_KIB_MAX);
    *out = m;
    return CN_OK;
}

void cn_match_free(cn_match *m) {
    if (!m) return;
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->limits);
    free(m);
}

cn_err cn_pattern_find(const cn_pattern *p, cn_match *m, const char *text, size_t bytes,
                       size_t from, size_t *start_out, size_t *end_out, cn_diag *diag) {
    int code =
        pcre2_match(p->code, (PCRE2_SPTR)text, bytes, from, PCRE2_NO_UTF_CHECK, m->data, m->limits);
    if (code == PCRE2_ERROR_JIT_STACKLIMIT) // the interpreter's stack is the heap
        code = pcre2_match(p->code, (PCRE2_SPTR)text, bytes, from,
                           PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, m->data, m->limits);
    *start_out = *end_out = bytes;
    if (code >= 0) {
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(m->data);
        *start_out = span[0];
        *end_out = span[1];
    } else if (code == PCRE2_ERROR_NOMEMORY) {
        return CN_ENOMEM;
    } else if (code != PCRE2_ERROR_NOMATCH) {
        char why[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof(why));
        return CN_FAIL(diag, CN_ETOOBIG, "pattern ran away at byte %zu of %zu: %s", from, bytes,
                       why);
    }
    return CN_OK;
}

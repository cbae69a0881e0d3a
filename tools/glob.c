/*
 * glob.c - One idea, twice: '*' over bytes, "**" over path components.
 *
 * A star takes as little as it can; on a mismatch only the last star takes one more.  An
 * earlier star never has to: what lies between the two was already found at its first
 * place.  So nothing is exponential.
 */
#include "tools/glob.h"

#include <ctype.h>
#include <string.h>

static const struct {
    const char *name;
    int (*is)(int);
} classes[] = {
    {"alnum", isalnum}, {"alpha", isalpha}, {"blank", isblank}, {"cntrl", iscntrl},
    {"digit", isdigit}, {"graph", isgraph}, {"lower", islower}, {"print", isprint},
    {"punct", ispunct}, {"space", isspace}, {"upper", isupper}, {"xdigit", isxdigit},
};

/* "[:name:]" at p: the byte after it, and whether `c` is of that class; NULL if it is none. */
static const char *match_class(const char *p, const char *end, uint8_t c, bool *is_in) {
    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        const size_t bytes = strlen(classes[i].name);
        if ((size_t)(end - p) < bytes + 4 || memcmp(p + 2, classes[i].name, bytes) != 0 ||
            memcmp(p + 2 + bytes, ":]", 2) != 0)
            continue;
        if (c < 128 && classes[i].is(c)) *is_in = true; // ASCII: the same in every locale
        return p + bytes + 4;
    }
    return NULL;
}

/* "[a-z]" at p ('[' itself): the byte after it, or NULL if `c` is not in the set or the
 * set does not end. */
static const char *match_set(const char *p, const char *end, uint8_t c) {
    bool is_in = false;
    p++;
    const bool is_not = p < end && (*p == '!' || *p == '^');
    if (is_not) p++;
    for (bool is_first = true;; is_first = false) {
        if (p >= end) return NULL;
        if (*p == ']' && !is_first) break;
        if (*p == '[' && end - p > 1 && p[1] == ':') {
            const char *after = match_class(p, end, c, &is_in);
            if (!after) return NULL;
            p = after;
            continue;
        }
        if (*p == '\\' && ++p >= end) return NULL;
        const uint8_t low = (uint8_t)*p++;
        uint8_t       high = low;
        if (end - p > 1 && *p == '-' && p[1] != ']') {
            p++;
            if (*p == '\\' && ++p >= end) return NULL;
            high = (uint8_t)*p++;
        }
        if (low <= c && c <= high) is_in = true;
    }
    return is_in != is_not ? p + 1 : NULL;
}

/* One element of the pattern that is no star, against one byte. */
static const char *match_one(const char *p, const char *end, uint8_t c) {
    if (*p == '?') return p + 1;
    if (*p == '[') return match_set(p, end, c);
    if (*p == '\\' && ++p >= end) return NULL; // a lone backslash matches nothing
    return (uint8_t)*p == c ? p + 1 : NULL;
}

/* Whether the pattern p..end matches the bytes s..s_end, '/' like any other. */
static bool match_part(const char *p, const char *end, const char *s, const char *s_end) {
    const char *star = NULL, *star_s = NULL;
    while (s < s_end || p < end) {
        if (p < end && *p == '*') {
            star = ++p;
            star_s = s;
            continue;
        }
        const char *after = s < s_end && p < end ? match_one(p, end, (uint8_t)*s) : NULL;
        if (after) {
            p = after;
            s++;
        } else if (star && star_s < s_end) {
            p = star;
            s = ++star_s;
        } else
            return false;
    }
    return true;
}

static const char *part_end(const char *p, const char *end) {
    const char *slash = memchr(p, '/', (size_t)(end - p));
    return slash ? slash : end;
}

/* Whether the pattern p..end matches the path s..s_end, component by component. */
static bool match_path(const char *p, const char *end, const char *s, const char *s_end) {
    const char *star = NULL, *star_s = NULL;
    // Past the last component p or s lies one behind its end: where a next one would start.
    while (s <= s_end || p <= end) {
        const char *p_to = p <= end ? part_end(p, end) : p;
        const char *s_to = s <= s_end ? part_end(s, s_end) : s;
        if (p <= end && p_to - p == 2 && p[0] == '*' && p[1] == '*') {
            if (p_to == end) return s <= s_end; // "a/**": all that is in a, not a itself
            star = p = p_to + 1;
            star_s = s;
        } else if (p <= end && s <= s_end && match_part(p, p_to, s, s_to)) {
            p = p_to + 1;
            s = s_to + 1;
        } else if (star && star_s <= s_end) {
            p = star;
            s = star_s = part_end(star_s, s_end) + 1;
        } else
            return false;
    }
    return true;
}

bool cn_glob_init(cn_glob *out, const char *text, const char *end) {
    *out = (cn_glob){0};
    if (text >= end) return false;
    out->is_anchored = memchr(text, '/', (size_t)(end - text)) != NULL;
    out->text = text + (*text == '/');
    out->end = end;
    return out->text < end;
}

bool cn_glob_matches(const cn_glob *glob, const char *path, const char *end) {
    if (glob->is_anchored) return match_path(glob->text, glob->end, path, end);
    const char *slash = memrchr(path, '/', (size_t)(end - path));
    return match_part(glob->text, glob->end, slash ? slash + 1 : path, end);
}

/*
 * ignore.c - Lines of a .gitignore, the last match decides.
 */
#include "tools/ignore.h"
#include "base/fault.h"
#include "tools/glob.h"

#include <stdlib.h>
#include <string.h>

typedef struct pattern {
    cn_glob glob;
    bool    is_negative;
    bool    is_folder_only;
} pattern;

struct cn_ignore {
    int64_t count;
    char   *text; // a copy; the patterns point into it
    pattern pattern[];
};

/* One line, without its end, as a pattern; false if it is none. */
static bool parse_line(pattern *out, const char *p, const char *end) {
    *out = (pattern){0};
    if (p < end && *p == '#') return false;
    if (end > p && end[-1] == '\r') end--;
    // Spaces at the end go, unless a backslash keeps one.
    const char *kept = p;
    for (const char *q = p; q < end; q++) {
        if (*q == '\\' && q + 1 < end)
            q++;
        else if (*q == ' ')
            continue;
        kept = q + 1;
    }
    end = kept;
    if (p < end && *p == '!') {
        out->is_negative = true;
        p++;
    }
    out->is_folder_only = p < end && end[-1] == '/';
    return cn_glob_init(&out->glob, p, end - out->is_folder_only);
}

cn_err cn_ignore_parse(cn_ignore **out, const char *text, size_t bytes, cn_diag *diag) {
    int64_t lines = 1;

    *out = NULL;
    if (bytes >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        text += 3;
        bytes -= 3;
    }
    for (size_t i = 0; i < bytes; i++) lines += text[i] == '\n';
    const size_t head = sizeof(cn_ignore) + (size_t)lines * sizeof(pattern);
    cn_ignore   *ignore = CN_FAULT("tools.ignore.alloc") ? NULL : malloc(head + bytes);
    if (!ignore)
        return CN_FAIL(diag, CN_ENOMEM, "no memory for %zu bytes of ignore patterns", bytes);
    ignore->count = 0;
    ignore->text = (char *)ignore + head;
    if (bytes > 0) memcpy(ignore->text, text, bytes);
    for (const char *p = ignore->text, *end = p + bytes; p < end;) {
        const char *to = memchr(p, '\n', (size_t)(end - p));
        if (!to) to = end;
        if (parse_line(&ignore->pattern[ignore->count], p, to)) ignore->count++;
        p = to + 1;
    }
    if (ignore->count == 0) {
        free(ignore);
        ignore = NULL;
    }
    *out = ignore;
    return CN_OK;
}

void cn_ignore_free(cn_ignore *ignore) {
    free(ignore);
}

static cn_ignore_answer match_range(const cn_ignore *ignore, const char *path, const char *end,
                                    bool is_folder) {
    for (int64_t i = ignore->count - 1; i >= 0; i--) {
        const pattern *p = &ignore->pattern[i];
        if (p->is_folder_only && !is_folder) continue;
        if (cn_glob_matches(&p->glob, path, end))
            return p->is_negative ? CN_IGNORE_IN : CN_IGNORE_OUT;
    }
    return CN_IGNORE_SILENT;
}

cn_ignore_answer cn_ignore_match(const cn_ignore *ignore, const char *path, bool is_folder) {
    if (!ignore) return CN_IGNORE_SILENT;
    return match_range(ignore, path, path + strlen(path), is_folder);
}

bool cn_ignore_has(const cn_ignore *ignore, const char *path, bool is_folder) {
    if (!ignore) return false;
    for (const char *p = path; (p = strchr(p, '/')) != NULL; p++)
        if (match_range(ignore, path, p, true) == CN_IGNORE_OUT) return true;
    return cn_ignore_match(ignore, path, is_folder) == CN_IGNORE_OUT;
}

/* term.c - The filter is a stream of its own behind stdout and stderr (fopencookie): what is
 * printed by any means goes through it. */
#include "runtime/term.h"

#include "base/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

typedef struct guard {
    int            fd;
    FILE          *unfiltered; // NULL: not a terminal, nothing is filtered
    cn_term_filter filter;
    cn_buf         out;
} guard;

static guard guards[2] = {{.fd = STDOUT_FILENO}, {.fd = STDERR_FILENO}};

static guard *guard_of(FILE *f) {
    cn_assert(f == stdout || f == stderr);
    return &guards[f == stderr];
}

/* ---- The filter ------------------------------------------------------------------- */

static uint32_t point_of(const char *text, size_t bytes) {
    const uint8_t *p = (const uint8_t *)text;
    uint32_t       point = bytes == 1 ? p[0] : p[0] & (0xFFu >> (bytes + 1));
    for (size_t i = 1; i < bytes; i++) point = point << 6 | (p[i] & 0x3Fu);
    return point;
}

/* C1 controls; line and paragraph separators; marks, embeddings, overrides and isolates that
 * change the order in which text is shown. */
static bool is_hidden(uint32_t point) {
    return (point >= 0x80 && point <= 0x9F) || point == 0x061C || point == 0x200E ||
           point == 0x200F || (point >= 0x2028 && point <= 0x202E) ||
           (point >= 0x2066 && point <= 0x2069);
}

static void put_char(cn_buf *to, const char *text, size_t bytes) {
    const uint32_t point = point_of(text, bytes);
    if (point == 0x7F || (point < 0x20 && point != '\n' && point != '\t'))
        cn_buf_printf(to, "^%c", (int)(point ^ 0x40));
    else if (is_hidden(point))
        cn_buf_printf(to, "<U+%04X>", (unsigned)point);
    else
        cn_buf_put(to, text, bytes);
}

void cn_term_filter_put(cn_term_filter *f, cn_buf *to, const char *text, size_t bytes) {
    while (bytes) {
        char         part[1024];
        const size_t room = sizeof(part) - f->held_bytes, more = bytes < room ? bytes : room;
        memcpy(part, f->held, f->held_bytes);
        memcpy(part + f->held_bytes, text, more);
        const size_t whole = f->held_bytes + more;
        text += more;
        bytes -= more;

        size_t end = cn_utf8_cut(part, whole);
        if (end == whole && part[end - 1] == '\r') end--; // a '\n' may follow
        for (size_t at = 0, size; at < end; at += size) {
            size = cn_utf8_bytes(part + at, end - at);
            if (part[at] == '\r' && at + 1 < end && part[at + 1] == '\n') continue;
            if (size) {
                put_char(to, part + at, size);
            } else {
                size = 1;
                cn_buf_put_str(to, "\xEF\xBF\xBD");
            }
        }
        f->held_bytes = whole - end;
        memcpy(f->held, part + end, f->held_bytes);
    }
}

/* ---- Streams ---------------------------------------------------------------------- */

static bool write_all(int fd, const char *data, size_t bytes) {
    while (bytes) {
        const ssize_t n = write(fd, data, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        data += n;
        bytes -= (size_t)n;
    }
    return true;
}

/* All or, as the contract of such streams wants it, 0 for an error. */
static ssize_t write_filtered(void *cookie, const char *text, size_t bytes) {
    guard *g = cookie;
    cn_buf_reset(&g->out);
    cn_term_filter_put(&g->filter, &g->out, text, bytes);
    return !g->out.err && write_all(g->fd, g->out.data, g->out.bytes) ? (ssize_t)bytes : 0;
}

void cn_term_open(void) {
    FILE **const stream[] = {&stdout, &stderr};
    const int    mode[] = {_IOLBF, _IONBF};
    for (int i = 0; i < 2; i++) {
        if (guards[i].unfiltered || !isatty(guards[i].fd)) continue;
        FILE *f = fopencookie(&guards[i], "w", (cookie_io_functions_t){.write = write_filtered});
        cn_assert(f); // no memory at the very start
        setvbuf(f, NULL, mode[i], BUFSIZ);
        guards[i].unfiltered = *stream[i];
        *stream[i] = f;
    }
}

bool cn_term_is_tty(FILE *f) {
    return isatty(guard_of(f)->fd);
}

bool cn_term_is_smart(FILE *f) {
    const char *term = getenv("TERM");
    return term && *term && strcmp(term, "dumb") != 0 && cn_term_is_tty(f);
}

int cn_term_columns(FILE *f) {
    struct winsize size;
    return ioctl(guard_of(f)->fd, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
}

FILE *cn_term_unfiltered(FILE *f) {
    const guard *g = guard_of(f);
    return g->unfiltered ? g->unfiltered : f;
}

void cn_term_put_escape(FILE *f, const char *sequence) {
    if (!cn_term_is_smart(f)) return;
    fflush(f);
    (void)write_all(guard_of(f)->fd, sequence, strlen(sequence)); // as little as a lost style
}

const char *cn_term_style_text(FILE *f, cn_style style) {
    static const char *const text[] = {"\033[0m", "\033[2m", "\033[1m"};
    const char              *no_color = getenv("NO_COLOR");
    return (no_color && *no_color) || !cn_term_is_smart(f) ? "" : text[style];
}

void cn_term_set_style(FILE *f, cn_style style) {
    cn_term_put_escape(f, cn_term_style_text(f, style));
}

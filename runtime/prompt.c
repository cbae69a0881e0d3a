/*
 * prompt.c - The three ways to read a message.
 *
 * In the editor Ctrl-C and Ctrl-Z are keys, not signals (isig is off while a line is edited):
 * libedit's own handlers send what they catch to the whole process group, and would do so to
 * a script that runs us.
 */
#include "runtime/prompt.h"

#include "base/log.h"
#include "runtime/signals.h"
#include "runtime/term.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

enum {
    HISTORY_ENTRIES = 1000,
    HISTORY_ENTRY_BYTES = 1000,          // of a message; encoded at most four times that
    HISTORY_BYTES_MAX = 4 * 1024 * 1024, // of the file, and one message
    PASTE_CHARS_MAX = 256 * 1024,        // a character has at most four bytes
    PATH_BYTES = 4096,
};

_Static_assert(HISTORY_ENTRIES *(4 * HISTORY_ENTRY_BYTES + 1) < HISTORY_BYTES_MAX,
               "what is left of a file that was cut is under the limit");
_Static_assert(4 * PASTE_CHARS_MAX <= CN_PROMPT_MESSAGE_BYTES_MAX, "pasted text fits");

#define PROMPT ">"
#define PROMPT_GOES_ON "."

struct cn_prompt {
    cn_prompt_kind kind;
    cn_buf         message;
    cn_buf         input; // PLAIN, PIPE: read and not yet used, from input_at
    size_t         input_at;
    bool           is_over; // of input
    bool           goes_on; // the line being read is not the first of its message

    EditLine *editor;
    History  *history;
    char      history_path[PATH_BYTES]; // "" if there is none
    bool      was_interrupted;
    bool      marks_paste; // the terminal is asked to
    bool      paste_was_cut;
    char      prompt[64];
};

cn_prompt_kind cn_prompt_find_kind(void) {
    if (!isatty(STDIN_FILENO) || !cn_term_is_tty(stdout)) return CN_PROMPT_PIPE;
    return cn_term_is_smart(stdout) ? CN_PROMPT_EDIT : CN_PROMPT_PLAIN;
}

/* ---- History ----------------------------------------------------------------------- */

/* Put what is in memory in the place of the file. */
static bool cut_history(cn_prompt *p) {
    HistEvent event;
    char      path[PATH_BYTES + 32];
    snprintf(path, sizeof(path), "%s.%d", p->history_path, (int)getpid());
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE     *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!f) {
        if (fd >= 0) close(fd);
        return false;
    }
    bool ok = history(p->history, &event, H_SAVE_FP, f) >= 0;
    ok = fclose(f) == 0 && ok && rename(path, p->history_path) == 0;
    if (!ok) unlink(path);
    return ok;
}

/* One entry at the end of the file, as libedit writes it. */
static bool append_history(cn_prompt *p, const char *text) {
    HistEvent   event;
    struct stat st;
    const int   fd = open(p->history_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    FILE       *f = fd >= 0 ? fdopen(fd, "a") : NULL;
    History    *one = history_init();
    bool        ok = f && one && fstat(fd, &st) == 0;
    if (!f && fd >= 0) close(fd);
    if (ok && st.st_size > HISTORY_BYTES_MAX) {
        ok = cut_history(p); // with this one
    } else if (ok) {
        // The file's first line is written where the stream stands at 0.
        ok = fseek(f, 0, SEEK_END) == 0 && history(one, &event, H_SETSIZE, 1) >= 0 &&
             history(one, &event, H_ENTER, text) >= 0 && history(one, &event, H_SAVE_FP, f) >= 0;
    }
    if (one) history_end(one);
    if (f) ok = fclose(f) == 0 && ok;
    return ok;
}

static void lose_history(cn_prompt *p) {
    cn_log(CN_LOG_WARN, "no history from now on: %s: %s", p->history_path, strerror(errno));
    p->history_path[0] = 0;
}

static void open_history(cn_prompt *p, const char *path) {
    HistEvent   event;
    struct stat st;
    p->history = history_init();
    if (!p->history) return;
    history(p->history, &event, H_SETSIZE, HISTORY_ENTRIES);
    history(p->history, &event, H_SETUNIQUE, 1);
    el_set(p->editor, EL_HIST, history, p->history);
    if (snprintf(p->history_path, PATH_BYTES, "%s", path) >= PATH_BYTES) {
        p->history_path[0] = 0;
        return;
    }
    if (history(p->history, &event, H_LOAD, path) >= 0 || stat(path, &st) != 0) return;
    // Not a history, whatever it is: begin a new one, keep the old bytes beside it.
    char aside[PATH_BYTES + 8];
    snprintf(aside, sizeof(aside), "%s.bad", path);
    if (st.st_size > 0 && rename(path, aside) != 0) lose_history(p);
}

static void remember(cn_prompt *p) {
    HistEvent   event;
    const char *text = cn_buf_str(&p->message);
    if (!p->history || !p->message.bytes || p->message.bytes > HISTORY_ENTRY_BYTES) return;
    if (strlen(text) != p->message.bytes) return; // a NUL within
    if (history(p->history, &event, H_FIRST) >= 0 && strcmp(event.str, text) == 0) return;
    history(p->history, &event, H_ENTER, text);
    if (p->history_path[0] && !append_history(p, text)) lose_history(p);
}

/* ---- The editor -------------------------------------------------------------------- */

static cn_prompt *prompt_of(EditLine *el) {
    void *p = NULL;
    el_get(el, EL_CLIENTDATA, &p);
    return p;
}

/* \1 stands around what has no width; libedit prints it with the character behind it. */
static char *get_prompt(EditLine *el) {
    cn_prompt *p = prompt_of(el);
    snprintf(p->prompt, sizeof(p->prompt), "\1%s\1%s\1%s\1 ",
             cn_term_style_text(stdout, CN_STYLE_BOLD), p->goes_on ? PROMPT_GOES_ON : PROMPT,
             cn_term_style_text(stdout, CN_STYLE_PLAIN));
    return p->prompt;
}

/* One character: 1; 0 at the end of input, or when a signal asks to leave. */
static int get_char(EditLine *el, wchar_t *out) {
    char   bytes[8];
    size_t have = 0;
    *out = 0;
    for (;;) {
        if (!cn_signals_wait_input(STDIN_FILENO)) {
            if (cn_signals_is_leaving()) return 0;
            if (cn_signals_was_resized()) {
                el_resize(el);
                el_set(el, EL_REFRESH);
            }
            continue;
        }
        const ssize_t n = read(STDIN_FILENO, bytes + have, 1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n <= 0) return 0; // the terminal has gone
        mbstate_t    state = {0};
        const size_t used = mbrtowc(out, bytes, ++have, &state);
        if (used == (size_t)-2 && have < sizeof(bytes)) continue; // a character has begun
        if (used <= have) return 1;
        have = 0; // no character: passed over
    }
}

/* The line ends here as by Enter, so that what is printed next stands below it. */
static unsigned char on_ctrl_c(EditLine *el, int key) {
    (void)key;
    prompt_of(el)->was_interrupted = true;
    const LineInfoW *line = el_wline(el);
    el_cursor(el, (int)(line->lastchar - line->cursor));
    el_push(el, "\n");
    return CC_CURSOR;
}

static void mark_paste(const cn_prompt *p, bool on) {
    if (p->marks_paste) cn_term_put_escape(stdout, on ? "\033[?2004h" : "\033[?2004l");
}

static unsigned char on_ctrl_z(EditLine *el, int key) {
    (void)key;
    mark_paste(prompt_of(el), false);
    el_set(el, EL_PREP_TERM, 0);
    raise(SIGTSTP);
    el_set(el, EL_PREP_TERM, 1);
    mark_paste(prompt_of(el), true);
    return CC_REDISPLAY;
}

/* Everything up to the mark that ends it goes into the line. */
static unsigned char on_paste(EditLine *el, int key) {
    static const wchar_t ends[] = L"\033[201~";
    const size_t         ends_chars = sizeof(ends) / sizeof(*ends) - 1;
    (void)key;
    cn_prompt *p = prompt_of(el);
    size_t     chars = 0, room = 4096;
    wchar_t   *text = malloc(room * sizeof(*text)), c;
    while (text && el_wgetc(el, &c) == 1) {
        if (chars + 1 >= room) {
            wchar_t *more = realloc(text, 2 * room * sizeof(*text));
            if (!more) break;
            text = more;
            room *= 2;
        }
        text[chars++] = c == '\r' ? '\n' : c;
        if (chars >= ends_chars && wmemcmp(text + chars - ends_chars, ends, ends_chars) == 0) {
            chars -= ends_chars;
            break;
        }
        if (chars > PASTE_CHARS_MAX) { // forget from here on, but for what may be the mark
            p->paste_was_cut = true;
            wmemmove(text + PASTE_CHARS_MAX - ends_chars, text + chars - ends_chars, ends_chars);
            chars = PASTE_CHARS_MAX;
        }
    }
    if (!text) return CC_ERROR;
    text[chars] = 0;
    el_winsertstr(el, text);
    free(text);
    return CC_REFRESH;
}

#ifdef CN_SANITIZED
/* el_end forgets the names of the functions that were added: three a process. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:wcsdup\n";
}
#endif

static void bind(EditLine *el, const char *key, const char *function) {
    el_set(el, EL_BIND, key, function, NULL);
    el_set(el, EL_BIND, "-a", key, function, NULL); // vi's other map
}

static cn_err open_editor(cn_prompt *p, const char *history_path, cn_diag *diag) {
    // The editor counts characters by the locale; nothing else here does.
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8");
    p->editor = el_init("cairn", stdin, cn_term_unfiltered(stdout), cn_term_unfiltered(stderr));
    if (!p->editor) return CN_FAIL(diag, CN_ENOMEM, "no memory for the line editor");
    el_set(p->editor, EL_CLIENTDATA, p);
    el_set(p->editor, EL_PROMPT_ESC, get_prompt, '\1');
    el_set(p->editor, EL_GETCFN, get_char);
    el_set(p->editor, EL_EDITOR, "emacs");
    el_set(p->editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(p->editor, EL_BIND, "^W", "ed-delete-prev-word", NULL);
    el_set(p->editor, EL_BIND, "\\e[1;5D", "ed-prev-word", NULL);
    el_set(p->editor, EL_BIND, "\\e[1;5C", "em-next-word", NULL);
    el_source(p->editor, NULL); // ~/.editrc, which may not be there
    el_set(p->editor, EL_ADDFN, "cairn-stop", "Drop this line", on_ctrl_c);
    el_set(p->editor, EL_ADDFN, "cairn-suspend", "Suspend the process", on_ctrl_z);
    el_set(p->editor, EL_ADDFN, "cairn-paste", "Insert pasted text", on_paste);
    bind(p->editor, "^C", "cairn-stop");
    bind(p->editor, "^Z", "cairn-suspend");
    // In vi's maps Escape alone is a command: no key may begin with it.
    const char *editor = NULL;
    p->marks_paste = el_get(p->editor, EL_EDITOR, &editor) == 0 && strcmp(editor, "emacs") == 0;
    if (p->marks_paste) el_set(p->editor, EL_BIND, "\\e[200~", "cairn-paste", NULL);
    el_set(p->editor, EL_SETTY, "-d", "-isig", NULL);
    if (history_path) open_history(p, history_path);
    return CN_OK;
}

/* A line, without its end, behind the message; *event_out is MESSAGE if there was one. */
static void edit_line(cn_prompt *p, cn_prompt_event *event_out) {
    int bytes = 0;
    p->was_interrupted = p->paste_was_cut = false;
    fflush(stdout);
    mark_paste(p, true);
    const char *line = el_gets(p->editor, &bytes);
    mark_paste(p, false);
    *event_out = p->was_interrupted  ? CN_PROMPT_INTERRUPT
                 : line && bytes > 0 ? CN_PROMPT_MESSAGE
                                     : CN_PROMPT_LEAVE;
    if (*event_out == CN_PROMPT_LEAVE) puts("");
    if (*event_out != CN_PROMPT_MESSAGE) return;
    if (line[bytes - 1] == '\n') bytes--;
    cn_buf_put(&p->message, line, (size_t)bytes);
    if (p->paste_was_cut)
        fprintf(stderr, "cairn: the pasted text is cut to %d characters\n", (int)PASTE_CHARS_MAX);
}

/* ---- Plain lines ------------------------------------------------------------------- */

static cn_err read_line(cn_prompt *p, cn_prompt_event *event_out, cn_diag *diag) {
    if (p->kind == CN_PROMPT_PLAIN) fputs(p->goes_on ? PROMPT_GOES_ON " " : PROMPT " ", stdout);
    fflush(stdout);
    size_t looked = p->input_at;
    for (;;) {
        const char *data = cn_buf_str(&p->input);
        const char *end = memchr(data + looked, '\n', p->input.bytes - looked);
        if (end || (p->is_over && p->input.bytes > p->input_at)) {
            const size_t to = end ? (size_t)(end - data) : p->input.bytes;
            cn_buf_put(&p->message, data + p->input_at, to - p->input_at);
            p->input_at = end ? to + 1 : to;
            *event_out = CN_PROMPT_MESSAGE;
            return CN_OK;
        }
        *event_out = CN_PROMPT_LEAVE;
        if (p->is_over) break;
        // What was used makes room for what comes.
        const size_t left = p->input.bytes - p->input_at;
        if (p->input_at) memmove(p->input.data, p->input.data + p->input_at, left);
        p->input.bytes = looked = left;
        p->input_at = 0;
        if (left > CN_PROMPT_MESSAGE_BYTES_MAX)
            return CN_FAIL(diag, CN_ETOOBIG, "a line of more than %d bytes",
                           (int)CN_PROMPT_MESSAGE_BYTES_MAX);
        if (!cn_signals_wait_input(STDIN_FILENO)) {
            if (cn_signals_is_leaving()) break;
            if (!atomic_load(cn_signals_cancel())) continue;
            p->input.bytes = 0;
            *event_out = CN_PROMPT_INTERRUPT;
            break;
        }
        char          part[4096];
        const ssize_t n = read(STDIN_FILENO, part, sizeof(part));
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n < 0) return CN_FAIL(diag, CN_EIO, "stdin: %s", strerror(errno));
        p->is_over = n == 0;
        cn_buf_put(&p->input, part, (size_t)n);
        if (p->input.err) return CN_FAIL(diag, p->input.err, "no memory for a line");
    }
    if (p->kind == CN_PROMPT_PLAIN) puts("");
    return CN_OK;
}

/* ---- Messages ---------------------------------------------------------------------- */

cn_err cn_prompt_open(cn_prompt **out, cn_prompt_kind kind, const char *history_path,
                      cn_diag *diag) {
    *out = NULL;
    cn_prompt *p = calloc(1, sizeof(*p));
    if (!p) return CN_FAIL(diag, CN_ENOMEM, "no memory for a prompt");
    p->kind = kind;
    const cn_err err = kind == CN_PROMPT_EDIT ? open_editor(p, history_path, diag) : CN_OK;
    if (err)
        cn_prompt_close(p);
    else
        *out = p;
    return err;
}

void cn_prompt_close(cn_prompt *p) {
    if (!p) return;
    if (p->editor) el_end(p->editor);
    if (p->history) history_end(p->history);
    cn_buf_release(&p->message);
    cn_buf_release(&p->input);
    free(p);
}

cn_err cn_prompt_read(cn_prompt *p, cn_prompt_event *event_out, const char **text_out,
                      size_t *bytes_out, cn_diag *diag) {
    cn_err err = CN_OK;
    *event_out = CN_PROMPT_LEAVE;
    *text_out = NULL;
    *bytes_out = 0;
    cn_buf_reset(&p->message);
    for (p->goes_on = false;; p->goes_on = true) {
        if (p->kind == CN_PROMPT_EDIT)
            edit_line(p, event_out);
        else
            err = read_line(p, event_out, diag);
        if (err) return err;
        if (p->message.err) return CN_FAIL(diag, p->message.err, "no memory for a message");
        if (p->message.bytes > CN_PROMPT_MESSAGE_BYTES_MAX)
            return CN_FAIL(diag, CN_ETOOBIG, "a message of %zu bytes, limit %d", p->message.bytes,
                           (int)CN_PROMPT_MESSAGE_BYTES_MAX);
        if (*event_out == CN_PROMPT_LEAVE && p->goes_on && !cn_signals_is_leaving()) {
            *event_out = CN_PROMPT_MESSAGE; // its last line is not coming
            p->message.data[--p->message.bytes] = 0;
        }
        if (*event_out != CN_PROMPT_MESSAGE) return CN_OK;
        char *last = p->message.bytes ? &p->message.data[p->message.bytes - 1] : NULL;
        if (!last || *last != '\\') break;
        *last = '\n';
    }
    if (p->kind == CN_PROMPT_EDIT) remember(p);
    *text_out = cn_buf_str(&p->message);
    *bytes_out = p->message.bytes;
    return CN_OK;
}

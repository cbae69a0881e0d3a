/*
 * term.h - What may reach a terminal: text made harmless, a few styles.
 *
 * Answers, paths and results come from a model and from repositories, and a terminal obeys
 * the escape sequences in them: they can retitle it, fake output, answer for the user.
 * cn_term_open puts a filter behind stdout and stderr where these are terminals, so every
 * command is safe whatever it prints.  Pipes and files get all bytes as they are.
 *
 *   as it is  text, line ends, tabs ("\r\n" as "\n")
 *   ^[        every other control character of ASCII, in the notation of cat -v
 *   <U+009B>  control characters beyond ASCII, and those that reorder what is read
 *   U+FFFD    each byte that is not UTF-8
 *
 * Styles go around the filter; they are the only escape sequences of this program besides
 * the line editor's.
 *
 * Threads: one.   Layer: runtime.
 */
#ifndef CN_RUNTIME_TERM_H
#define CN_RUNTIME_TERM_H

#include "base/buf.h"

#include <stdio.h>

CN_C_BEGIN

/* What of the bytes before is not decided yet: the begin of a character, a '\r'.  Zero it. */
typedef struct cn_term_filter {
    char   held[4];
    size_t held_bytes;
} cn_term_filter;

/* Append what a terminal may see of `bytes` bytes at `text` to `to`. */
void cn_term_filter_put(cn_term_filter *f, cn_buf *to, const char *text, size_t bytes);

/* Filter stdout and stderr where they are terminals.  Once, before the first output. */
void cn_term_open(void);

/* `f` is stdout or stderr in all of these. */
bool  cn_term_is_tty(FILE *f);
bool  cn_term_is_smart(FILE *f); // a terminal, and TERM is set and not "dumb"
FILE *cn_term_unfiltered(FILE *f);
int   cn_term_columns(FILE *f); // 80 if unknown

typedef enum { CN_STYLE_PLAIN, CN_STYLE_DIM, CN_STYLE_BOLD } cn_style;

/* Nothing unless `f` is a smart terminal and NO_COLOR is unset or empty. */
void        cn_term_set_style(FILE *f, cn_style style);
const char *cn_term_style_text(FILE *f, cn_style style); // the sequence, or ""

/* A sequence of our own, as it is, in order with what was printed; nothing unless `f` is a
 * smart terminal. */
void cn_term_put_escape(FILE *f, const char *sequence);

#define CN_TERM_ERASE_LINE "\r\033[K"

CN_C_END

#endif

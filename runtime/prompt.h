/*
 * prompt.h - Messages from whoever sits at stdin: a line editor, plain lines, or a pipe.
 *
 *   CN_PROMPT_EDIT   stdin and stdout are terminals and TERM is not "dumb": libedit, with
 *                    history, ~/.editrc, and pasted text as one message
 *   CN_PROMPT_PLAIN  terminals without any of that: a prompt, and what the terminal can do
 *   CN_PROMPT_PIPE   no prompt, no escape sequence
 *
 * A line that ends in a backslash goes on in the next one.
 *
 * Pasted text: a terminal with bracketed paste (mode 2004; nearly all) marks it, and it is
 * put into the line being edited, line ends included.  libedit knows nothing of the marks:
 * this file asks for them and reads what is between.  In a terminal without them, and with
 * vi's keys (a mark begins with Escape), each pasted line is a message.
 *
 * History: one file, 0600, in libedit's format; each message is appended when it is entered,
 * so that two processes and a kill lose none.  The last HISTORY_ENTRIES are read, longer
 * messages than HISTORY_ENTRY_BYTES are not kept, and a file over HISTORY_BYTES_MAX is cut
 * (limits in prompt.c).
 *
 * Threads: one, and one prompt a process.   Layer: runtime (libedit stops here).
 */
#ifndef CN_RUNTIME_PROMPT_H
#define CN_RUNTIME_PROMPT_H

#include "base/buf.h"

CN_C_BEGIN

enum { CN_PROMPT_MESSAGE_BYTES_MAX = 1 << 20 };

typedef enum { CN_PROMPT_EDIT, CN_PROMPT_PLAIN, CN_PROMPT_PIPE } cn_prompt_kind;

typedef enum {
    CN_PROMPT_MESSAGE,
    CN_PROMPT_INTERRUPT, // Ctrl-C: what was typed is dropped
    CN_PROMPT_LEAVE,     // end of input, Ctrl-D, or a signal to leave
} cn_prompt_event;

typedef struct cn_prompt cn_prompt;

/* What stdin and stdout allow. */
cn_prompt_kind cn_prompt_find_kind(void);

/* Open stdin.  cn_signals_catch must have been called.
 *
 *   out           owned by the caller: cn_prompt_close().  NULL unless CN_OK.
 *   history_path  of the history file; used by CN_PROMPT_EDIT only.  A history that cannot
 *                 be read or written is logged and done without.
 * CN_ENOMEM. */
cn_err cn_prompt_open(cn_prompt **out, cn_prompt_kind kind, const char *history_path,
                      cn_diag *diag) CN_MUST_CHECK;
void   cn_prompt_close(cn_prompt *p); // NULL is allowed; the terminal is as it was

/* Wait for a message.  `text` is valid until the next call; without its last line end.
 *
 * CN_ETOOBIG  over CN_PROMPT_MESSAGE_BYTES_MAX.   CN_EIO, CN_ENOMEM. */
cn_err cn_prompt_read(cn_prompt *p, cn_prompt_event *event_out, const char **text_out,
                      size_t *bytes_out, cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

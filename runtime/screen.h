/*
 * screen.h - One turn as a person or a program sees it: the answer as it is made, tool calls
 * as they run, progress of a prefill, the cost line; or one JSON object.
 *
 * The answer goes to stdout, everything else to stderr, so that a pipe gets the answer
 * alone.  With --json stdout is one line a turn, and stderr says nothing of it.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_SCREEN_H
#define CN_RUNTIME_SCREEN_H

#include "runtime/cli.h"
#include "sessions/session.h"

#include <stdio.h>

CN_C_BEGIN

typedef struct cn_question {
    const char *text; // borrowed for the call
    size_t      bytes;
    int32_t     output_tokens_max; // 0: CN_TURN_OUTPUT_TOKENS
    bool        is_resumed;        // the first of this process in an older session: say its price
    bool        is_verbose;        // say each document that was missing
    bool        with_evidence;     // for people; JSON always has it
    bool        is_said;           // the price was said, of said_tokens to prefill: not again
    int64_t     said_tokens;
} cn_question;

/* Ask, and show all of the turn; before it the compaction, if the conversation had come near its
 * limit.  cn_signals_cancel stops it; nothing is thrown away then.
 *
 * Returns the exit status of a command that did only this: CN_EXIT_DONE, CN_EXIT_FAILED (and
 * said why), CN_EXIT_BUDGET, CN_EXIT_INTERRUPTED. */
int cn_screen_ask(const cn_cli *cli, cn_session *s, const cn_question *q);

/* The cost line of a turn. */
void cn_screen_bill(FILE *to, int32_t turn, cn_stop stop, const cn_bill *bill);

/* What the commands that ask take: where, which session, how much. */
typedef struct cn_talk {
    const char *folder, *id; // NULL: not given
    bool        is_continued, pin, unpin, is_verbose;
    int32_t     budget, refs_budget, output_tokens_max; // 0: the default
} cn_talk;

enum { CN_TALK_OPTIONS = 9 };

/* Their options, which fill `t`; an existing session is named by --`name` or -`letter`. */
void cn_talk_options(cn_talk *t, const char *name, char letter, cn_option out[CN_TALK_OPTIONS]);

/* The session that is meant, a new one with the budgets of `conf`; CN_EINVAL if it is named and
 * also to be the last one, or pinned and unpinned: then say CN_TALK_EXCLUDES, the name of the
 * session's option before it. */
#define CN_TALK_EXCLUDES "exclude each other, and so do --pin and --unpin"
cn_err cn_talk_where(const cn_talk *t, const cn_conf *conf, cn_session_opts *out);

/* Say what the last process left of this session, if it was interrupted; and where it moved. */
void cn_screen_interrupted(const cn_session *s);

CN_C_END

#endif

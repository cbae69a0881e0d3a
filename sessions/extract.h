/*
 * extract.h - What a conversation said, in short, put together without a model.
 *
 *   Turns 1 to 9, in short; 3 of them are left out.
 *
 *   turn 4: where is the buffer grown?
 *   answer: cn_buf_grow is defined in base/buf.c
 *   used: search cn_buf_grow, read_lines base/buf.c
 *
 * Questions and answers are one line each, cut short; a tool is named with the path or the words
 * that it was called with.  An earlier summary or extract, which stands at the beginning, goes on
 * in this one.  What does not fit is left out, the oldest first.
 *
 * Layer: sessions -> base, engine, store.
 */
#ifndef CN_SESSIONS_EXTRACT_H
#define CN_SESSIONS_EXTRACT_H

#include "engine/tokenizer.h"
#include "store/ledger.h"

CN_C_BEGIN

enum {
    CN_EXTRACT_QUESTION_BYTES = 240,
    CN_EXTRACT_ANSWER_BYTES = 320,
    CN_EXTRACT_CALLS = 8,       // of a turn that are named
    CN_EXTRACT_CALL_BYTES = 80, // of what one was called with
};

/* A turn of the conversation. */
typedef struct cn_extract_turn {
    int32_t   turn;
    cn_origin origin;
    cn_stop   stop;
    int64_t   tokens; // of all its steps
    int32_t   calls;
    char     *question, *answer; // one line; an earlier summary's answer is whole.  Owned
    cn_buf    used;              // "search cn_buf_grow, read_lines base/buf.c"
} cn_extract_turn;

typedef struct cn_extract {
    cn_extract_turn *turn; // [turns] in the order of the conversation
    int64_t          turns, room;
} cn_extract;

/* Read a conversation.  `session` is an exact id.
 *
 *   out  owned by the caller: cn_extract_release().  Zero unless CN_OK.
 * Errors of cn_ledger_turns; CN_ENOMEM. */
cn_err cn_extract_load(cn_extract *out, cn_ledger *l, const char *session,
                       cn_diag *diag) CN_MUST_CHECK;
void   cn_extract_release(cn_extract *x); // frees and zeroes

/* The first turn that the first `turns` turns stand for. */
int32_t cn_extract_first_turn(const cn_extract *x);

/* Append the extract of the first `turns` turns (one or more): about `tokens_max` tokens, and
 * never nothing.
 *
 * Errors of cn_tokenizer_encode. */
cn_err cn_extract_put(const cn_extract *x, int64_t turns, const cn_tokenizer *tokenizer,
                      int64_t tokens_max, cn_buf *out, cn_diag *diag) CN_MUST_CHECK;

/* Whether `text` has a word or name (of CN_EXTRACT_WORD_BYTES or more) of the first `turns` turns:
 * a summary that has none is about something else. */
enum { CN_EXTRACT_WORD_BYTES = 5 };
bool cn_extract_is_about(const cn_extract *x, int64_t turns, const char *text);

CN_C_END

#endif

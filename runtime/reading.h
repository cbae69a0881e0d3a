/*
 * reading.h - Whether evidence names the place that holds an answer.
 *
 * Asked for are functions of the view by the rules of definitions.h whose name stands in no
 * other file of the view, so that one file can be right; "Where is X defined?" and "What is the
 * signature of X?", each from the beginning of a conversation.  The right place is the line of the
 * definition.
 *
 * Counted over the ranges in the order in which evidence has them (sessions/evidence.h): whether
 * the right file is the first that they name, or one of the first three files; whether the right
 * line is in the first range, or in the first three; over all questions, answered well or not.
 *
 * Threads: one.   Layer: runtime.
 */
#ifndef CN_RUNTIME_READING_H
#define CN_RUNTIME_READING_H

#include "sessions/session.h"

#include <stdio.h>

CN_C_BEGIN

enum { CN_READING_FIRST = 3, CN_READING_QUESTIONS_MAX = 1000 };

typedef enum { CN_READING_WHERE, CN_READING_SIGNATURE, CN_READING_KINDS } cn_reading_kind;

const char *cn_reading_kind_name(cn_reading_kind kind); // "where", "signature"

typedef struct cn_reading_score {
    int64_t questions;
    int64_t right;  // answers
    int64_t called; // turns with a tool call
    int64_t file_first, file_among, line_first, line_among;
    double  place, conversation, headers; // sums of shares: the ranges of the right file, ...
} cn_reading_score;

typedef struct cn_reading {
    int64_t          files, definitions; // of the view; that can be asked for
    cn_reading_score kind[CN_READING_KINDS];
} cn_reading;

typedef struct cn_reading_opts {
    cn_host           *host;
    cn_session        *session;     // a trial; its conversation is taken back
    int32_t            definitions; // to ask for, 1..CN_READING_QUESTIONS_MAX; there may be fewer
    uint64_t           seed;        // which ones
    FILE              *out;         // a JSON line for each question; may be NULL
    const atomic_bool *cancel;
    void (*on_question)(void *ctx, int64_t done); // may be NULL
    void *ctx;
} cn_reading_opts;

/* Ask; stops early, with CN_OK, when `cancel` is set.
 *
 * A line of `out`: {"kind","q","path","line","answer","text","calls","file_rank","line_rank",
 * "evidence":[{"path","lines","share"}],"evidence_rest":{...}}; a rank of 0: not among the ranges.
 *
 * CN_ENOTFOUND     there is nothing to ask for.
 * CN_EUNSUPPORTED  the model or its mode has no evidence.
 * Errors of cn_context_update, cn_repo_read_raw, cn_session_rewind, cn_turn_begin, cn_turn_run;
 * CN_EIO  `out` cannot be written. */
cn_err cn_reading_run(cn_reading *out, const cn_reading_opts *opts, cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

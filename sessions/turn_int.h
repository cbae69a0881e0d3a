/*
 * turn_int.h - A turn, for the files that run it.  Private to sessions.
 *
 *   turn.c        the state machine: what comes next, and what it cost
 *   turn_parts.c  questions and results as tokens of the conversation
 */
#ifndef CN_SESSIONS_TURN_INT_H
#define CN_SESSIONS_TURN_INT_H

#include "sessions/evidence.h"
#include "sessions/ref.h"
#include "sessions/session_int.h"

#include "base/clock.h"

CN_C_BEGIN

typedef enum { IN_CONTEXT, IN_PROMPT, IN_DECODE, IN_TOOL, IN_END } cn_turn_phase;

struct cn_turn {
    cn_session   *s;
    cn_turn_opts  opts;
    cn_turn_phase phase;
    int32_t       number;
    cn_stop       stop;
    cn_bill       bill;
    int64_t       begin_ns;
    int64_t       mark_ns; // all time before it is on the bill
    int64_t       missing; // tokens of the view that are still to be prefilled
    int64_t       fresh;   // tokens prefilled, on the bill, up to the last generation
    int64_t       found;   // tokens that the first generation did not have to compute

    const atomic_bool *cancel; // of cn_turn_run; NULL: nobody stops it

    cn_tokens pending;  // to go through the engine: replayed, then new ones
    int64_t   sent;     // of pending
    int64_t   replayed; // of pending: the conversation's, until they are kept

    cn_tokens question; // as it will stand in the conversation

    // The part that the step brings, if it is a long one: committed with it.
    cn_ledger_ref ref;
    char          ref_name[CN_REF_NAME_BYTES];
    bool          has_ref;
    cn_paths      dropped; // parts, to keep a budget

    cn_context_miss *miss; // [misses] what was missing
    int64_t          misses;

    // The step that runs: tokens appended to the conversation since the last commit.
    cn_tokens    step;
    int32_t      steps;
    cn_step_kind kind;
    cn_bill      committed; // the bill as the last commit left it
    int64_t      step_started_ns;

    cn_slice         slice;
    int32_t          token; // the sampled one, that the slice of a decode step holds
    const float     *logits;
    cn_read          read; // of the step that made them
    cn_evidence      evidence;
    int64_t          read_ns; // of bill.route_ns: evidence
    cn_detok         detok;
    cn_buf           answer; // since the question
    cn_buf           call;   // the text of the call being sampled
    bool             in_call;
    cn_turn_call     calls[CN_TURN_CALLS_MAX];
    int32_t          call_count;
    cn_buf           call_name, call_arguments;
    cn_ledger_result result; // of the call that ran, until its step commits
    cn_buf           result_text;
    bool             has_result;
    bool             is_over;
};

/* What has passed since the mark goes to `part`: every moment of a turn is in one of them. */
static inline int64_t cn_turn_charge(cn_turn *t, int64_t *part) {
    const int64_t now = cn_clock_ns(), ns = now - t->mark_ns;
    *part += ns;
    t->mark_ns = now;
    return ns;
}

/* ---- turn_parts.c -------------------------------------------------------------------- */

/* Make the question's tokens; the middle of a long one goes to the context as a part. */
cn_err cn_turn_take_question(cn_turn *t, cn_diag *diag) CN_MUST_CHECK;

/* Append it to the step and to what the engine still has to see: <user> question <assistant>. */
cn_err cn_turn_ask(cn_turn *t, cn_diag *diag) CN_MUST_CHECK;

/* Append the result of the call that ran: <tool_result> text <end> <assistant>.  The middle of a
 * long one goes to the context as a part, but for lines of a file that the view holds.
 *
 *   call  what the tool said of its run. */
cn_err cn_turn_append_result(cn_turn *t, const cn_tool_ctx *call, cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

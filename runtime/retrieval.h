/*
 * retrieval.h - Ask questions whose answers are known, and count what is right.
 *
 * What cairn bench retrieval is made of.  A question is asked as cairn ask asks it: a turn of a
 * session on a repository's view, with the real tools, greedy.
 *
 * Threads: one.   Layer: runtime.
 */
#ifndef CN_RUNTIME_RETRIEVAL_H
#define CN_RUNTIME_RETRIEVAL_H

#include "runtime/questions.h"
#include "sessions/session.h"

#include <stdio.h>

CN_C_BEGIN

enum {
    CN_QUESTION_TYPES_MAX = 64,
    CN_ASK_LANES_MAX = 32,
    CN_RETRIEVAL_TOPK_MAX = 2048, // the largest set that benches compare with dense attention
};

/* ---- Asking ----------------------------------------------------------------------- */

/* What one turn sampled.  Zeroed it is empty; cn_asked_release frees it. */
typedef struct cn_asked {
    cn_buf    text; // the answer
    char     *call[CN_TURN_CALLS_MAX];
    int32_t   calls; // as the model wrote them
    cn_tokens token; // all that was sampled, in order
    cn_buf    gap;   // float [token.count]: the largest logit less the second
    cn_stop   stop;
    cn_bill   bill;
} cn_asked;

typedef struct cn_ask_opts {
    int32_t            output_tokens_max; // as in cn_turn_opts
    const atomic_bool *cancel;            // as for cn_turn_run
} cn_ask_opts;

/* Conversations side by side: one step of the engine serves them all, and each gets what it would
 * get alone, bit for bit. */
typedef struct cn_asker {
    cn_host           *host;
    cn_session *const *session; // [lanes] trials of `host`
    int32_t            lanes;   // 1..CN_ASK_LANES_MAX
    cn_ask_opts        opts;
    /* The next question of a lane, valid until on_asked; NULL in *question_out: no more for now. */
    cn_err (*next)(void *ctx, int32_t lane, const char **question_out, cn_diag *diag);
    /* Its turn is over.  `asked` may be changed; it is freed behind the call. */
    cn_err (*on_asked)(void *ctx, int32_t lane, cn_asked *asked, cn_diag *diag);
    void *ctx;
    // Counted by cn_ask_run: tokens sampled, steps of the engine, and their time.
    int64_t output_tokens, steps, step_ns;
} cn_asker;

/* Run until no lane has a question, or until `opts.cancel` is set (CN_OK; turns that were running
 * are stopped, without on_asked).  Greedy.
 *
 * Errors of next, on_asked, cn_turn_begin, cn_turn_step, cn_turn_run_tool, cn_engine_step; the
 * other turns are stopped. */
cn_err cn_ask_run(cn_asker *asker, cn_diag *diag) CN_MUST_CHECK;

/* Ask questions that have one turn each, every one from the beginning of a conversation.
 *
 *   question  [questions]
 *   on_asked  called once for each, in the order in which they end.
 *
 * Errors of cn_ask_run and cn_session_rewind. */
typedef struct cn_ask_each_args {
    cn_host           *host;
    cn_session *const *session; // [lanes]
    int32_t            lanes;
    cn_ask_opts        opts;
    const char *const *question;
    int64_t            questions;
    cn_err (*on_asked)(void *ctx, int64_t question, cn_asked *asked, cn_diag *diag);
    void *ctx;
} cn_ask_each_args;

cn_err cn_ask_each(const cn_ask_each_args *args, cn_diag *diag) CN_MUST_CHECK;

void cn_asked_release(cn_asked *asked); // frees and zeroes

/* ---- Scoring ---------------------------------------------------------------------- */

/* Whether both are the same bytes, blanks at both ends not counted. */
bool cn_is_answer(const char *got, const char *want);
/* Whether `sampled` is a JSON object with the name of a tool and an object of arguments. */
bool cn_is_valid_call(const char *sampled);
/* Whether it is also the call `want`: the same name, equal arguments (cn_json_is_equal). */
bool cn_is_call(const char *sampled, const cn_json *want);
/* Whether a turn made these calls, in this order; `want` is an array, or NULL for none. */
bool cn_are_calls(const cn_asked *asked, const cn_json *want);

/* Sums over questions of one type. */
typedef struct cn_score {
    char    type[CN_QUESTION_TYPE_BYTES];
    int64_t questions, right; // right: each answer, and the calls of each turn
    int64_t turns, answers_right;
    int64_t calls, calls_valid;           // that were sampled
    int64_t call_turns, call_turns_right; // turns where calls are expected or were made
    int64_t output_tokens, prompt_tokens;
} cn_score;

/* Count a turn: its right answer is `answer`, its calls are `calls`.  right_out: both are. */
void cn_score_turn(cn_score *score, const cn_asked *asked, const char *answer, const cn_json *calls,
                   bool *right_out);
void cn_score_add(cn_score *sum, const cn_score *score);

/* ---- Questions -------------------------------------------------------------------- */

typedef struct cn_questions_opts {
    cn_host           *host;
    cn_session *const *session; // [lanes] trials on one folder; their conversations are taken back
    int32_t            lanes;
    const char        *path; // of the questions file
    FILE              *out;  // a JSON line for each question is written here; may be NULL
    cn_ask_opts        ask;
    /* After each question.  May be NULL. */
    void (*on_question)(void *ctx, int64_t done);
    void *ctx;
} cn_questions_opts;

/* The scores of all types that were met, in the order in which they were. */
typedef struct cn_scores {
    cn_score type[CN_QUESTION_TYPES_MAX];
    int32_t  types;
    int64_t  steps, step_ns; // of the engine
} cn_scores;

/* Ask all questions of a file; stops early, with CN_OK, when `ask.cancel` is set.  What comes out
 * does not depend on the number of lanes.
 *
 * A line of `out`: {"line","type","turns":[{"q","answer","text","stop","answer_right",
 * "calls":[{"text","valid"}],"calls_right","sampled":[ids],"gaps":[...]}],"right","tokens":[ids of
 * the conversation]}.
 *
 * CN_ETOOBIG  more than CN_QUESTION_TYPES_MAX types.   CN_EIO  `out` cannot be written.
 * Errors of cn_questions_open and cn_questions_next, cn_ask_run and cn_session_rewind. */
cn_err cn_questions_run(cn_scores *scores_out, const cn_questions_opts *opts,
                        cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

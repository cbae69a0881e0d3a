/*
 * replay.h - A recorded conversation run again: does the same model say the same?
 *
 * Every step that the ledger has goes through the engine once more, over the documents that it
 * ran over then (past.h), token for token; no tool runs, its result is the ledger's.  Two things
 * are compared:
 *
 *   sampled  each token that the model chose: greedy, it must choose it again
 *   given    the tokens of questions and results: they must be those of the texts beside them
 *
 * The conversation goes on with the recorded tokens, so each token is judged on its own, and all
 * that a session has been through is as it was: forks, turns taken back, long parts, turns that
 * were stopped or failed (what they committed).  Turns of a compacted conversation that stand for
 * others, or were kept, ran over another conversation: they are given (also where an export has
 * forgotten what they are: they chose nothing by their bill).  A step whose documents
 * cannot be had any more is not judged, and that is said.
 *
 * Nothing is written.   Threads: one.   Layer: sessions -> base, engine, store, tools.
 */
#ifndef CN_SESSIONS_REPLAY_H
#define CN_SESSIONS_REPLAY_H

#include "sessions/past.h"

#include <stdatomic.h>

CN_C_BEGIN

enum { CN_REPLAY_TEXT_TOKENS = 24 }; // shown of each side of a departure, and before it

typedef enum {
    CN_REPLAY_SAME,
    CN_REPLAY_DEPARTED,
    CN_REPLAY_GIVEN,
    CN_REPLAY_LOST
} cn_replay_state;

/* "identical", "departed", "given", "lost". */
const char *cn_replay_state_name(cn_replay_state state);

/* The first token that is another. */
typedef struct cn_replay_departure {
    int32_t turn, step;
    int64_t token;              // within the step, from 0
    bool    is_given;           // a text's token; else one that the model chose
    int32_t recorded, replayed; // ids; -1: the text has no more tokens
    cn_buf  before;             // text up to it
    cn_buf  recorded_text, replayed_text;
} cn_replay_departure;

typedef struct cn_replay_turn {
    int32_t              turn, steps;
    cn_origin            origin;
    cn_stop              stop;
    cn_replay_state      state;
    int64_t              sampled, given;   // tokens that were compared
    int64_t              departed;         // of them
    int64_t              not_judged;       // tokens of steps whose documents are lost
    int64_t              prefilled_tokens; // of documents without pages
    int64_t              assumed;          // documents that may be others (past.h)
    int64_t              recorded_ns, ns;
    const cn_past_found *lost; // the turn's last view, if one could not be had; NULL: all were
} cn_replay_turn;

typedef struct cn_replay_opts {
    cn_host           *host;
    cn_ledger         *ledger;  // NULL: the host's
    const char        *session; // an exact id
    const char        *folder;  // NULL: the session's own
    bool               goes_on; // behind the first departure
    const atomic_bool *cancel;  // may be NULL
    /* A turn is over.  Borrowed for the call.  May be NULL. */
    void (*on_turn)(void *ctx, const cn_replay_turn *t);
    /* What the model chooses as token `at` of the conversation, for tests; NULL: the greatest
     * logit. */
    int32_t (*choose)(void *ctx, int64_t at, const float *logits, int32_t vocab);
    void *ctx;
} cn_replay_opts;

typedef struct cn_replay_result {
    int64_t             turns, same, departed_turns, given_turns, lost_turns;
    int64_t             compared, departed; // tokens
    cn_replay_departure first;              // if departed is not 0
    bool                is_whole;           // all turns were run
} cn_replay_result;

/* Whether all that could be judged is the same, and all was judged. */
static inline bool cn_replay_is_identical(const cn_replay_result *r) {
    return r->is_whole && r->departed == 0 && r->lost_turns == 0;
}

/* Run a session again.
 *
 *   out  released by cn_replay_release, also after an error.
 *
 * CN_EINVAL      it was recorded with another model; the diag has both hashes.
 * CN_ENOTFOUND   no such session.
 * CN_ECANCELLED  `cancel` was set.
 * Errors of cn_past_bind, cn_ledger_turns, cn_engine_step.
 * Time: that of its decoding, and of prefilling what has no pages. */
cn_err cn_replay(const cn_replay_opts *opts, cn_replay_result *out, cn_diag *diag) CN_MUST_CHECK;
void   cn_replay_release(cn_replay_result *r); // frees and zeroes

CN_C_END

#endif

/* session_int.h - What session.c and turn.c share.  Private to sessions. */
#ifndef CN_SESSIONS_SESSION_INT_H
#define CN_SESSIONS_SESSION_INT_H

#include "sessions/session.h"

CN_C_BEGIN

struct cn_session {
    cn_host           *host;
    cn_ledger_session *row;
    cn_ledger_writer  *writer;
    cn_context        *context;
    cn_doc            *doc; // the conversation
    cn_view           *view;
    cn_tokens          tokens;        // of the conversation, as committed
    bool               is_restored;   // doc holds a prefix of tokens (all, but for a replay)
    bool               has_open_call; // the last step ended in a call without a result
    int64_t            stored_pages;  // full pages of the conversation that the store has
    int64_t            budget;        // tokens of the view
    double             prefill_ns;    // a token, as last measured; 0: never
    char             **passed;        // [passed_paths] files that the choice passed over
    int64_t            passed_paths;
    char               interrupted[160];
};

/* Put the conversation's document back from the store; where that is not possible it is left
 * empty and the turn replays its tokens.  bytes_out: read from the store. */
cn_err cn_session_restore(cn_session *s, int64_t *bytes_out, cn_diag *diag) CN_MUST_CHECK;

/* Keep what the view holds now, and what was passed over, for the sessions to come. */
cn_err cn_session_put_choice(cn_session *s, const cn_ledger_document *document, int64_t documents,
                             cn_diag *diag) CN_MUST_CHECK;
/* Keep the measured time of prefilling a token. */
cn_err cn_session_put_rate(cn_session *s, double prefill_ns, cn_diag *diag) CN_MUST_CHECK;

/* Write new pages and the window of the conversation.  Best effort: a failure is logged. */
void cn_session_store(cn_session *s, int64_t *bytes_out);

CN_C_END

#endif

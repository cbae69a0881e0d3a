/*
 * session_int.h - What the session's and the turn's files share.  Private to sessions.
 *
 *   session.c       open, close; what the ledger has
 *   session_pages.c the conversation's pages and windows in the store
 *   session_view.c  what the session says of its view: settings, choice, parts, edits, budget
 *   session_pin.c   a view that stays as it was
 */
#ifndef CN_SESSIONS_SESSION_INT_H
#define CN_SESSIONS_SESSION_INT_H

#include "sessions/session.h"

CN_C_BEGIN

/* A turn of the conversation that has tokens, and how many there are up to its end. */
typedef struct cn_session_end {
    int32_t turn;
    int64_t tokens;
} cn_session_end;

struct cn_session {
    cn_host           *host;
    cn_ledger_session *row;
    cn_ledger_writer  *writer; // NULL: a reader
    cn_context        *context;
    cn_doc            *doc; // the conversation
    cn_view           *view;
    cn_tokens          tokens; // of the conversation, as committed
    cn_session_end    *end;    // [ends] in order; the last one has all tokens
    int64_t            ends, ends_room;
    int64_t            refs; // of its parts, as committed: the context's first ones
    bool               is_trial;
    bool               is_restored;   // doc holds a prefix of tokens (all, but for a replay)
    bool               has_open_call; // the last step ended in a call without a result
    bool               is_stale;      // a turn failed: read what the ledger has before the next
    int64_t            stored_pages;  // full pages of the conversation that the store has
    char               interrupted[160];
    char              *moved_from; // NULL: it has not
    cn_ledger_pin      pin;
    bool               is_pinned;

    // Settings.
    int64_t  budget;               // tokens of the view's files
    int64_t  refs_budget;          // tokens of the conversation's long parts
    bool     is_compacted_by_hand; // never on its own
    cn_paths passed;               // files that the choice passed over, sorted
    cn_paths away;                 // that were in the view once and are not now, sorted
    cn_paths added;                // in, whatever they cost
    cn_paths dropped;              // out
};

/* ---- session.c ----------------------------------------------------------------------- */

/* Read the session's row again. */
cn_err cn_session_read_row(cn_session *s, cn_diag *diag) CN_MUST_CHECK;

/* After a turn that failed: take over what the ledger has.  A commit that failed may be there all
 * the same, and a turn may have stayed open: it is finished. */
cn_err cn_session_catch_up(cn_session *s, cn_diag *diag) CN_MUST_CHECK;

/* After a failure that left open which conversation the writer writes: become it anew, now or with
 * the next catch_up. */
void cn_session_lose_writer(cn_session *s);

/* Append tokens of `turn` that the ledger has.  CN_ENOMEM. */
cn_err cn_session_put_tokens(cn_session *s, int32_t turn, const int32_t *token,
                             int64_t tokens) CN_MUST_CHECK;

/* CN_EINVAL  the session was opened for reading. */
cn_err cn_session_need_writer(const cn_session *s, cn_diag *diag) CN_MUST_CHECK;

/* ---- session_pages.c ----------------------------------------------------------------- */

/* Put the conversation's document back from the store as far as its pages and a window reach: the
 * turn replays the tokens behind cn_doc_tokens.  bytes_out: read from the store. */
cn_err cn_session_restore(cn_session *s, int64_t *bytes_out, cn_diag *diag) CN_MUST_CHECK;

/* Write new pages and the window of the conversation, and let old windows go.  Best effort: a
 * failure is logged. */
void cn_session_store(cn_session *s, int64_t *bytes_out);

/* ---- session_view.c ------------------------------------------------------------------ */

/* The settings as JSON; and back.  What cannot be read is as if it were not there. */
void cn_session_put_settings(const cn_session *s, cn_buf *buf);
void cn_session_read_settings(cn_session *s, const char *text);
/* The settings as they fit into the ledger: what was passed over may be left out. */
cn_err cn_session_make_settings(cn_session *s, cn_buf *buf, cn_diag *diag) CN_MUST_CHECK;

/* Tell the context what the ledger knows: the documents of before; the conversation's long
 * parts, in place of those that it has. */
cn_err cn_session_load_documents(cn_session *s, cn_diag *diag) CN_MUST_CHECK;
cn_err cn_session_load_parts(cn_session *s, cn_diag *diag) CN_MUST_CHECK;

/* Keep what the view holds now, if it is not what the ledger has, and what was passed over. */
cn_err cn_session_keep_view(cn_session *s, cn_diag *diag) CN_MUST_CHECK;

/* Load the pin that the ledger has, if any; set or take it as the options of an opening say. */
cn_err cn_session_load_pin(cn_session *s, cn_diag *diag) CN_MUST_CHECK;
cn_err cn_session_set_pin(cn_session *s, cn_pin pin, cn_diag *diag) CN_MUST_CHECK;

/* A part has been made: what was said of its name was of another (before a fork). */
void cn_session_forget_edits(cn_session *s, const char *path);

/* Drop parts until the rest fits refs_budget and, with `tokens` tokens of conversation, the
 * engine's views: results before questions, the oldest first; none that a user has added, none of
 * `turn`, which runs.
 *
 *   let_go  the paths that were dropped are appended.
 *
 * CN_ETOOBIG  the view is too large all the same; the diag has both numbers. */
cn_err cn_session_fit(cn_session *s, int32_t turn, int64_t tokens, cn_paths *let_go,
                      cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

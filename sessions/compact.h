/*
 * compact.h - A conversation that becomes too long is replaced by a summary of it.
 *
 *   before   session S: turns 1 .. 11
 *   after    session S: turn 9 (stands for turns 1 to 9), 10, 11          next: turn 12
 *            session P, the parent of S: turns 1 .. 11, as they were
 *
 * The session keeps its id, so -c, -s and whoever else knows it go on in the short conversation.
 * The old one is a session of its own: it can be shown, exported, forked and continued; forks of
 * before are forks of it.  Its bills are its own; the turn that stands for the others has the
 * bill of the compaction; turns that were kept cost nothing again.
 *
 * The summary is the answer of a turn like any other, asked CN_COMPACT_QUESTION.  A model whose
 * config says conversation_summaries writes it, over the conversation alone: no document of the
 * view is read or prefilled.  Where it cannot, or what it wrote is none (empty, cut off, a tool
 * call, no text, no word of what was said), it is an extract (extract.h).  Behind it the last turns
 * stand with the tokens and long parts that they had.
 *
 * Then the new conversation goes through the engine and its pages are stored: the next turn has
 * nothing to replay.  The ledger changes last and at once: until then, whatever happens, the
 * session is as it was.
 *
 * Threads: one.   Layer: sessions -> base, engine, store.
 */
#ifndef CN_SESSIONS_COMPACT_H
#define CN_SESSIONS_COMPACT_H

#include "sessions/session.h"

CN_C_BEGIN

enum {
    CN_COMPACT_KEEP_TURNS = 2,        // default: turns that stay as they were
    CN_COMPACT_KEEP_TOKENS = 4096,    // of these; and at most a quarter of what the limit leaves
    CN_COMPACT_SUMMARY_TOKENS = 512,  // of what the model writes
    CN_COMPACT_EXTRACT_TOKENS = 1024, // else; an earlier summary takes at most half
    CN_COMPACT_AT_PERCENT = 80,       // of the limit: automatic from there on
    CN_COMPACT_TOKENS_MIN = 2048,     // a shorter conversation is never compacted on its own
};

/* What the summary answers, in the conversation. */
#define CN_COMPACT_QUESTION "What has been said so far?"

typedef struct cn_compact cn_compact;

typedef struct cn_compact_opts {
    int32_t keep_turns; // 0: CN_COMPACT_KEEP_TURNS; -1: none
    bool    is_extract; // do not ask the model
} cn_compact_opts;

/* Whether the session's next turn, with a question of so many bytes, would come near the limit: of
 * a conversation (CN_SESSION_TOKENS_MAX), or of the engine's view with the session's files.  Never
 * if the session says so (cn_session_set_compaction) or nothing is there to be replaced.
 *
 *   output_tokens_max  as in cn_turn_opts.
 * Errors of cn_ledger_documents.   Time: reads the list of documents of a long conversation. */
cn_err cn_compact_is_due(cn_session *s, size_t question_bytes, int32_t output_tokens_max, bool *out,
                         cn_diag *diag) CN_MUST_CHECK;

/* Begin; no turn of the session may run until cn_compact_free.
 *
 * CN_EINVAL  nothing to replace: all turns are kept, or there are none.
 * Errors of cn_ledger_turns, cn_session_restore. */
cn_err cn_compact_begin(cn_compact **out, cn_session *s, const cn_compact_opts *opts,
                        cn_diag *diag) CN_MUST_CHECK;

/* As cn_turn_step, cn_turn_slice, cn_turn_ran: what is needed next is CN_TURN_ENGINE or
 * CN_TURN_DONE.  After an error the session is as it was.
 *
 * CN_EINVAL  the new conversation would not be shorter; the diag has both numbers.
 * Errors of cn_ledger_compact. */
cn_err    cn_compact_step(cn_compact *c, cn_turn_need *need_out, cn_diag *diag) CN_MUST_CHECK;
cn_slice *cn_compact_slice(cn_compact *c);
void      cn_compact_ran(cn_compact *c, const cn_step_stats *stats);

/* All of the above.  CN_ECANCELLED  `cancel` (may be NULL) was set: the session is as it was. */
cn_err cn_compact_run(cn_compact *c, const atomic_bool *cancel, cn_diag *diag) CN_MUST_CHECK;

/* What was kept and dropped; whole once it is done. */
typedef struct cn_compact_report {
    char        parent[CN_LEDGER_ID_BYTES_MAX + 1]; // the old conversation
    cn_origin   origin;                             // SUMMARY or EXTRACT
    const char *why;                                // an extract; NULL for a summary.  Static
    int32_t     first_turn, last_turn, turns;       // that it stands for
    int32_t     kept_turns, kept_first, kept_last;  // behind it
    int64_t     tokens_before, tokens_after;        // of the conversation
    int64_t     kept_tokens;                        // of tokens_after, as they were
    int64_t     dropped_refs, dropped_ref_tokens;   // long parts that left the view
} cn_compact_report;

const cn_compact_report *cn_compact_get_report(const cn_compact *c);
const char              *cn_compact_text(const cn_compact *c); // of the summary
const cn_bill           *cn_compact_bill(const cn_compact *c);
void                     cn_compact_free(cn_compact *c); // NULL is allowed

CN_C_END

#endif

/*
 * export.h - A session as text, and back: JSON Lines that hold all that the ledger has of it.
 *
 * One JSON object a line (RFC 8259, UTF-8, '\n' behind each), its "type" first.  Order matters:
 *
 *   session      once, first.  "schema" is "cairn session", "version" 1.  id, title, repo, commit,
 *                branch; model: 64 hex digits of the hash over weights, config and tokenizer;
 *                created_ns; settings: the session's own JSON, as text; generation: that of the
 * view now, 0 for none generation   a list of documents that a step ran over, or the view now.
 * generation: 1, 2, ... in order; made_ns.  Its documents follow: document   generation; path;
 * kind: "file" or "ref"; key: 64 hex digits; tokens; first_line (from 1); lines.  Keys are secrets
 * of a state folder: elsewhere they are no hits turn         turn: growing, from 1, with gaps where
 * turns were taken back; stop: "end", "length", "budget", "cancel" or "error"; started_ns,
 * finished_ns; question, answer; bill.  Its steps, refs and reads follow: step       turn; step: 0,
 * 1, ...; kind: "generation" or "tool"; stop: as above, or "tool"; started_ns; generation; tokens:
 * the ids appended to the conversation, in order; bill.  The calls that it sampled follow: call
 * turn, step; call: 0, 1, ...; name; state: "done", "failed", "interrupted"; exit; started_ns, ns;
 * arguments; sampled: the call as the model wrote it; result ref        a long part whose middle is
 * documents.  turn; part: 0 for the question, n for the result of the turn's n-th call, growing;
 * then also step, call; path; begin, bytes read       evidence.  turn; path; first_line, last_line;
 * share: 0 to 1 end          once, last.  turns; lines: of all, this one counted
 *
 * Times of day are unix nanoseconds, durations (_ns) nanoseconds.  A bill has the numbers that are
 * not 0, named as the ledger's columns: {"context_tokens":100,"wall_ns":5}; what a step's grew by
 * may be negative.  A text is a string, or
 * {"base64":"..."} where its bytes are no UTF-8 or hold a NUL.  Every member is there, in this
 * order, and no other.
 *
 * What is not there: turns that were taken back, a turn that is not finished, the parent of a fork
 * (its turns are), pages.  All of a replay is: messages, exact token ids, results of tools.
 *
 * Layer: store -> base.
 */
#ifndef CN_STORE_EXPORT_H
#define CN_STORE_EXPORT_H

#include "store/ledger.h"

CN_C_BEGIN

enum {
    CN_EXPORT_VERSION = 1,
    CN_EXPORT_LINE_BYTES_MAX = 1 << 30,
    CN_EXPORT_TURN_MAX = 1 << 30, // a turn's number
};

#define CN_EXPORT_BYTES_MAX ((size_t)1 << 32)
#define CN_EXPORT_NUMBER_MAX ((int64_t)1 << 53) // of a bill: sums over turns stay sums

/* A line, its '\n' counted; borrowed for the call.  What is not CN_OK ends the export.  It must not
 * call the ledger. */
typedef cn_err (*cn_export_fn)(void *ctx, const char *line, size_t bytes, cn_diag *diag);

typedef struct cn_export_sum {
    int64_t turns, lines, bytes;
    int32_t open_turn; // left out, for it is not finished; 0: none
} cn_export_sum;

/* Give a session's lines to `fn`, in one snapshot: its writer may go on meanwhile.
 *
 *   session  an exact id.
 *   sum_out  may be NULL.
 *
 * CN_ENOTFOUND  no such session.   Errors of `fn`. */
cn_err cn_ledger_export(cn_ledger *l, const char *session, cn_export_fn fn, void *ctx,
                        cn_export_sum *sum_out, cn_diag *diag) CN_MUST_CHECK;

typedef struct cn_import {
    const char *text; // [bytes], all lines
    size_t      bytes;
    const char *name; // of the text, for messages: "a.jsonl"
    const char *id;   // of the new session; NULL: that of the text, if it is free, else a new one
    const char *repo; // NULL: that of the text
} cn_import;

/* Make a session of what cn_ledger_export wrote: all of it or nothing.  Exported again it gives the
 * same lines, but for the id.  It has no parent, and is the session that was written last.
 *
 *   out  as for cn_ledger_session_create.
 *
 * CN_ECORRUPT      not the format above; the diag says which line and why:
 *                  `a.jsonl: line 7: "step" is 2, want 1`.
 * CN_EUNSUPPORTED  another schema, or a version that this program does not know.
 * CN_ETOOBIG       a limit; the diag has the line and both numbers.
 * CN_EINVAL        `id` is no id, or taken. */
cn_err cn_ledger_import(cn_ledger *l, const cn_import *what, cn_ledger_session **out,
                        cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

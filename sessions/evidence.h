/*
 * evidence.h - Which lines an answer was read from, by the model's own index.
 *
 * Each token of an answer is one unit of mass.  The step that chose it says how its attention lay
 * over the tokens of the view (cn_read in engine.h); that is summed here by position, and folded
 * when the generation ends: documents by line, what stands in the conversation into one
 * number.  Tool calls are no part of an answer.  A token belongs to the last line that begins
 * in it or before it; a document's header, which names its file, to none.
 *
 * Out comes what the ledger keeps of a turn: shares of the whole, of disjoint ranges of lines, the
 * largest first, then of the conversation.  A range joins strong lines of a file, and what stands
 * between them: strong is a line with 1/CN_EVIDENCE_STRONG of what the strongest one has.
 *
 * What the ranges leave of 1 is large, and that is the truth of the index: much of its mass, with
 * the default model 40 to 80 %, rests on the headers of all documents whatever is asked, as that of
 * dense attention does, if half as much.  So files are not ranked by their sums but by their lines
 * (cairn bench retrieval --evidence says how well).
 *
 * Threads: one.   Layer: sessions -> base, engine, store.
 */
#ifndef CN_SESSIONS_EVIDENCE_H
#define CN_SESSIONS_EVIDENCE_H

#include "sessions/context.h"

CN_C_BEGIN

enum {
    CN_EVIDENCE_RANGES = 16, // of a turn, in the ledger
    CN_EVIDENCE_STRONG = 8,
    CN_EVIDENCE_GAP = 2, // most lines between two strong lines of a range
};

struct cn_evidence_line;

/* Zeroed it is empty. */
typedef struct cn_evidence {
    double *sum; // [room] of documents, by position in the view, since the last fold
    int64_t view_tokens, room;
    double  conversation;
    double  headers; // of all documents, folded
    int64_t tokens;  // of the answer
    int64_t blind;   // of them: chosen by steps that said nothing
    int64_t waiting; // of them: to be folded

    struct cn_evidence_line *line; // [lines] folded
    int64_t                  lines, lines_room;
    cn_paths                 files;

    cn_ledger_read read[CN_EVIDENCE_RANGES + 1];
    int64_t        reads;
} cn_evidence;

void cn_evidence_release(cn_evidence *e); // frees and zeroes

/* Make room for views whose documents have `view_tokens` tokens; all that was added has been
 * folded (asserted).   CN_ENOMEM. */
cn_err cn_evidence_reserve(cn_evidence *e, int64_t view_tokens, cn_diag *diag) CN_MUST_CHECK;

/* A token of the answer was chosen with this attention.  Allocates nothing.
 * Time: about a nanosecond a token of S. */
void cn_evidence_add(cn_evidence *e, const cn_read *read);

/* Sums become lines; `c` has the documents that the steps ran over.   CN_ENOMEM: what is left is
 * folded by the next call.
 * Time: linear in the view; a record's checksum is verified at its first use. */
cn_err cn_evidence_fold(cn_evidence *e, cn_context *c, cn_diag *diag) CN_MUST_CHECK;

/* Make read[0..reads-1] of all that was folded.  The conversation is the last one: its path is "",
 * its lines are 0.  There is none if no step said anything. */
void cn_evidence_finish(cn_evidence *e);

/* Why there is none, as a sentence in static storage; NULL if there is. */
const char *cn_evidence_why(const cn_evidence *e);

CN_C_END

#endif

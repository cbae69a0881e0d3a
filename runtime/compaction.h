/*
 * compaction.h - A compaction as a person or a program sees it: what was kept and dropped, and
 * what it cost.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_COMPACTION_H
#define CN_RUNTIME_COMPACTION_H

#include "runtime/cli.h"
#include "sessions/compact.h"

#include <stdio.h>

CN_C_BEGIN

/* Compact; cn_signals_cancel stops it (CN_ECANCELLED), and nothing has changed then.
 *
 *   out  owned by the caller: cn_compact_free().  NULL unless CN_OK. */
cn_err cn_compaction_run(cn_compact **out, cn_session *s, const cn_compact_opts *opts,
                         cn_diag *diag) CN_MUST_CHECK;

/* The same before a turn, if it is due; *out NULL: it was not, or nothing would be gained. */
cn_err cn_compaction_run_if_due(cn_compact **out, cn_session *s, size_t question_bytes,
                                int32_t output_tokens_max, cn_diag *diag) CN_MUST_CHECK;

void cn_compaction_print(FILE *to, const cn_compact *c);
/* One object: parent, how, why, text, first_turn, last_turn, kept_turns, tokens_before,
 * tokens_after, kept_tokens, dropped_refs, dropped_ref_tokens, bill. */
void cn_compaction_put_json(cn_json_writer *w, const cn_compact *c);

CN_C_END

#endif

/*
 * evidence.h - Where an answer was read, for people and programs: sessions/evidence.h says what a
 * share is.
 *
 *   read  10.1 %  items.h:14-16
 *          1.7 %  items.h:74
 *          1.6 %  this conversation
 *         86.6 %  elsewhere: headers of documents, lines not listed
 *
 * and as members of an open object: "evidence":[{"path","lines":[first,last],"share"}], the
 * largest first, and "evidence_rest":{"conversation","elsewhere"}; with nothing known, an
 * empty array and {"why":"..."}.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_EVIDENCE_H
#define CN_RUNTIME_EVIDENCE_H

#include "runtime/cli.h"

#include <stdio.h>

CN_C_BEGIN

enum { CN_EVIDENCE_SHOWN = 6 }; // ranges that people see; programs get all

/* Of a turn that is done. */
void cn_evidence_print(FILE *out, const cn_evidence *e);
void cn_evidence_put_json(cn_json_writer *w, const cn_evidence *e);

/* From the ledger: of one turn of a session, or (0) of all that have some.  Lines for people; for
 * programs the member "evidence", an array of objects, each with its "turn".
 *
 *   session  an exact id.
 * Errors of cn_ledger_reads. */
cn_err cn_evidence_list(cn_listing *l, cn_ledger *ledger, const char *session, int32_t turn,
                        cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

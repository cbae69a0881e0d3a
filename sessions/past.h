/*
 * past.h - The documents of an earlier view, from wherever they can still be had.
 *
 * The ledger has the list of documents that a step ran over: paths, keys, lengths; not their
 * text.  Each document is looked for, in this order:
 *
 *   the page store   its record has the tokens; its pages too, if they are of this engine
 *   the ledger       a long part of the conversation: its text is there
 *   the folder       the file as it lies there now, if a piece of it has the document's key
 *
 * What has no pages is prefilled and lives in memory; nothing is written.  A session that was
 * imported from another state folder has keys that nothing here can have: then a file counts as
 * unchanged if its pieces have the lengths and lines of the document, and `assumed` counts them.
 *
 * Threads: one.   Layer: sessions -> base, engine, store, tools.
 */
#ifndef CN_SESSIONS_PAST_H
#define CN_SESSIONS_PAST_H

#include "sessions/host.h"

CN_C_BEGIN

typedef struct cn_past cn_past;

/* A document that cannot be had any more. */
typedef struct cn_past_lost {
    char   *path;
    int32_t tokens, first_line, lines;
} cn_past_lost;

/* Of the last bind. */
typedef struct cn_past_found {
    int64_t       documents, tokens;
    int64_t       prefilled_tokens; // newly, of documents without pages
    int64_t       assumed;          // documents
    cn_past_lost *lost;             // [lost_documents]
    int64_t       lost_documents, lost_tokens;
} cn_past_found;

/*   ledger   where the session is; may be another than the host's.  Borrowed, as the rest.
 *   session  an exact id.
 *   folder   of the repository; one that is not there any more is as if it were empty.
 * CN_ENOTFOUND  no such session.   CN_ENOMEM. */
cn_err cn_past_open(cn_past **out, cn_host *host, cn_ledger *ledger, const char *session,
                    const char *folder, cn_diag *diag) CN_MUST_CHECK;
void   cn_past_close(cn_past *p); // its views must not be used any more.  NULL is allowed

/* Set `view` to the documents of a generation (0: to none), if all of them can be had; else
 * `lost` has the others and the view is empty.  The pages stay valid until the next bind.
 *
 * Errors of cn_ledger_documents, cn_pages_begin, cn_engine_step, cn_view_set, CN_ENOMEM. */
cn_err cn_past_bind(cn_past *p, int64_t generation, cn_view *view, cn_diag *diag) CN_MUST_CHECK;

const cn_past_found *cn_past_get_found(const cn_past *p);
/* Whether the last bind's documents had this path. */
bool cn_past_has_path(const cn_past *p, const char *path);

CN_C_END

#endif

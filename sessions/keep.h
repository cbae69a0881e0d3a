/*
 * keep.h - What the page store holds pages for: the order in which they may go.
 *
 * Read from the ledger, by key:
 *
 *   unreached  no session needs it: first to go
 *   recent     a document of one of the CN_KEEP_VIEWS newest views of its repository (what
 *              HEAD and the working tree were when turns ran), or the end of one of the
 *              last CN_KEEP_TURNS turns of a conversation
 *   session    a document of a session's newest view, or its conversation: last to go
 *   in use     a document of a session that a process has open now: never goes
 *   pinned     of a session that is pinned: never goes
 *
 * Within one of them, least recently used goes first.  The conversations of sessions with
 * another model, instruction-set path or tenant have keys that only their own processes
 * know: here they are unreached, and go by use.  That costs a replay and nothing else.
 *
 * Layer: sessions -> base, store.
 */
#ifndef CN_SESSIONS_KEEP_H
#define CN_SESSIONS_KEEP_H

#include "sessions/cut.h"
#include "store/ledger.h"

CN_C_BEGIN

enum {
    CN_KEEP_VIEWS = 8,           // of each repository
    CN_KEEP_TURNS = 8,           // of each conversation
    CN_KEEP_SESSIONS_MAX = 4096, // written last; and all that are pinned
};

#define CN_KEEP_LIST(X)                                                                            \
    X(UNREACHED, "unreached")                                                                      \
    X(RECENT, "recent")                                                                            \
    X(SESSION, "session")                                                                          \
    X(USED, "in use")                                                                              \
    X(PINNED, "pinned")

typedef enum {
#define X(name, text) CN_KEEP_##name,
    CN_KEEP_LIST(X)
#undef X
        CN_KEEP_COUNT
} cn_keep_why;

const char *cn_keep_name(cn_keep_why why); // "?" outside the enum

static inline bool cn_keep_may_go(cn_keep_why why) {
    return why < CN_KEEP_USED;
}

typedef struct cn_keep_key {
    cn_hash     key;
    cn_keep_why why;
} cn_keep_key;

/* A zeroed one knows nothing: all is unreached. */
typedef struct cn_keep {
    cn_keep_key *key; // [keys] sorted by key, each once, once it is sorted
    int64_t      keys, room;
} cn_keep;

void cn_keep_release(cn_keep *k); // frees and zeroes

/* Read all of it.  Errors of the ledger; CN_ENOMEM: then *out is zeroed.
 *
 *   domain  what the conversations' keys are made with
 *
 * Time: the ledger's documents and conversations once, about 10 us a session of a few
 * documents. */
cn_err cn_keep_read(cn_keep *out, cn_ledger *l, const cn_key_domain *domain,
                    cn_diag *diag) CN_MUST_CHECK;

cn_keep_why cn_keep_of(const cn_keep *k, const cn_hash *key);

/* ---- By hand: add, then sort --------------------------------------------------------- */

/* Add all keys that a session knows of: the documents of its views (all that the ledger has,
 * not the newest alone) and its conversation with the ends of all its turns. */
cn_err cn_keep_add_session(cn_keep *k, cn_ledger *l, const cn_key_domain *domain,
                           const char *session, cn_keep_why why, cn_diag *diag) CN_MUST_CHECK;
void   cn_keep_sort(cn_keep *k);

CN_C_END

#endif

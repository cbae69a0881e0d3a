/*
 * host.h - What all sessions of a process share: model, engine, page store, ledger.
 *
 * State folder (0700):  cache/   pages in LMDB: may be deleted at any moment
 *                       ledger/  the truth, in SQLite
 *                       salt     32 random bytes: keys of another folder or tenant never meet
 *
 * Tenants share a state folder and are apart in it: a page, a remembered cut (blobs) and a measured
 * rate are found under a key that the tenant's name went into, sessions by their tenant.  So a
 * tenant's content is never a hit for another, nor faster for it, and no plan, miss, session or sum
 * of costs says what another has, or that there is one.
 *
 * What it does not protect: it is one user and one set of files, and whoever may read them, or name
 * a tenant, has all of it.  The store's size and its budget are shared: its totals (`cairn cache
 * stat`) count everybody, and much use by one evicts pages of another, which that one may notice.
 * An id of a session is given once.  The operating system's page cache, and whatever else two
 * processes of one machine share, is not kept apart.
 *
 * Layer: sessions -> base, engine, store, tools.
 */
#ifndef CN_SESSIONS_HOST_H
#define CN_SESSIONS_HOST_H

#include "engine/engine.h"
#include "engine/tokenizer.h"
#include "sessions/keep.h"
#include "store/pages.h"
#include "tools/tools.h"

CN_C_BEGIN

enum { CN_HOST_PATH_BYTES = 3072, CN_HOST_TENANT_BYTES_MAX = CN_LEDGER_TENANT_BYTES_MAX };

#define CN_HOST_CACHE_BYTES ((int64_t)16 << 30) // default size budget of the cache

typedef struct cn_host_opts {
    const char *model_folder;
    const char *state_folder;
    const char *tenant;      // letters, digits, '-', '_', '.', that not first; NULL or "": none
    const char *isa;         // as in engine.h
    int32_t     threads;     // likewise
    int64_t     cache_bytes; // 0: CN_HOST_CACHE_BYTES
    int64_t     view_tokens; // as in engine.h
    int32_t     topk;        // likewise
    bool        dense;       // likewise
} cn_host_opts;

/* Role tokens of the model; -1 where it has none. */
typedef struct cn_roles {
    int32_t file, user, assistant, tool_call, tool_result, end;
} cn_roles;

/* Documents that a context holds: never evicted. */
typedef struct cn_host_kept {
    const cn_hash       *key; // [keys] sorted; the context's memory
    int64_t              keys;
    struct cn_host_kept *next;
} cn_host_kept;

typedef struct cn_host {
    cn_model     *model;
    cn_tokenizer *tokenizer;
    cn_engine    *engine;
    cn_pages     *pages;
    cn_ledger    *ledger;
    cn_roles      roles;
    cn_hash       model_id;
    uint8_t       salt[CN_HASH_KEY_BYTES]; // of this state folder and tenant
    cn_key_domain domain;                  // points into this struct: do not copy it
    cn_ledger_cut cut;                     // what remembered cuts are found by
    int64_t       load_ns;
    double        prefill_ns;        // of a token, as last measured; 0: never
    bool          cache_was_rebuilt; // what lay there could not be used
    cn_miss       lost;              // why what a session had is not there: evicted, or what
                                     // made the cache be rebuilt
    char tenant[CN_HOST_TENANT_BYTES_MAX + 1];
    char state_folder[CN_HOST_PATH_BYTES];

    /* The tool that a model calls by this name, NULL if there is none: cn_tool_find, unless the
     * program puts another in its place before the first turn. */
    const cn_tool *(*find_tool)(const char *name);

    cn_host_kept *kept; // of all contexts
    cn_keep       keep; // what sessions need, as the last eviction found it
} cn_host;

/* Open all of it; a cache that is damaged or newer is wiped and said (cache_was_rebuilt).
 *
 *   out  owned by the caller: cn_host_close().  NULL unless CN_OK.
 *
 * CN_EUNSUPPORTED  the model has no role tokens for files and conversations, or is of an arm
 *                  whose pages are not kept (cn_config_has_sessions).
 * CN_ETOOBIG       a path or tenant name is too long.   CN_EINVAL  other characters in the name,
 *                  or an empty path of the state folder.
 * Else the errors of cn_model_open, cn_tokenizer_open, cn_engine_open, cn_ledger_open. */
cn_err cn_host_open(cn_host **out, const cn_host_opts *opts, cn_diag *diag) CN_MUST_CHECK;

/* Keep the measured time of a token's prefill, for the processes to come too; errors of
 * cn_ledger_rate_put. */
cn_err cn_host_put_rate(cn_host *host, double prefill_ns, cn_diag *diag) CN_MUST_CHECK;

/* Open the ledger of a state folder, made if it is not there; a ledger that was there before and
 * is gone is logged as a warning: its sessions and bills are lost, the cache is not.
 *
 *   out     owned by the caller: cn_ledger_close().  NULL unless CN_OK.
 *   tenant  as in cn_host_opts.
 *
 * CN_ETOOBIG  the path or the tenant's name is too long.   CN_EINVAL  other characters in the name.
 * Errors of cn_ledger_open. */
cn_err cn_host_open_ledger(cn_ledger **out, const char *state_folder, const char *tenant,
                           cn_diag *diag) CN_MUST_CHECK;

/* Whether a context of this host holds a document. */
bool cn_host_holds(const cn_host *host, const cn_hash *key);

/* What is bound was used: write it down, to CN_PAGES_TOUCH_SECONDS.  Best effort. */
void cn_host_touch(cn_host *host, const cn_hash *key, int64_t keys);

/* Its sessions must have been closed.  NULL is allowed. */
void cn_host_close(cn_host *host);

CN_C_END

#endif

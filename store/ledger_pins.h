/*
 * ledger_pins.h - A view that stays as it was: the texts of its files, kept with the session.
 *
 * The texts are the truth of a pinned view: its documents can be made again whatever happens
 * to the repository and to the cache.  Forks of a pinned session share its pin; it goes with
 * the last session that has it.
 *
 * Layer: store -> base.
 */
#ifndef CN_STORE_LEDGER_PINS_H
#define CN_STORE_LEDGER_PINS_H

#include "store/ledger.h"

CN_C_BEGIN

typedef struct cn_ledger_pin {
    int64_t made_ns; // unix time
    int64_t files;
    char    commit[65], branch[256]; // where HEAD was; "" if nowhere
} cn_ledger_pin;

typedef struct cn_ledger_pinned {
    const char    *path;
    cn_ledger_text text;
} cn_ledger_pinned;

typedef void (*cn_ledger_pinned_fn)(void *ctx, const cn_ledger_pinned *file);

/* The session's view is these files from now on, in place of what it had pinned before; each path
 * once.  commit and branch are those of the session's row.
 *
 * CN_EINVAL  a path twice.   CN_ETOOBIG. */
cn_err cn_ledger_pin_put(cn_ledger_writer *w, const cn_ledger_pinned *file, int64_t files,
                         cn_diag *diag) CN_MUST_CHECK;
/* The session has no pin any more.  None is fine. */
cn_err cn_ledger_pin_del(cn_ledger_writer *w, cn_diag *diag) CN_MUST_CHECK;

/* The pin of a session; `fn` (may be NULL) is called for each file, by path, `out` filled before.
 *
 * CN_ENOTFOUND  no such session (the diag is set); it has no pin (diag is not touched). */
cn_err cn_ledger_pin_get(cn_ledger *l, const char *session, cn_ledger_pin *out,
                         cn_ledger_pinned_fn fn, void *ctx, cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

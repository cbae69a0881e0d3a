/*
 * pick.h - Which session a command means, and which of its turns: by id or its start, or the last
 * one on a repository, as cairn ask takes them.  Looked up in the ledger alone: no model is opened,
 * no lock is taken.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_PICK_H
#define CN_RUNTIME_PICK_H

#include "runtime/cli.h"

CN_C_BEGIN

typedef struct cn_pick {
    const char *folder, *id; // NULL: not given
    bool        is_continued;
} cn_pick;

enum { CN_PICK_OPTIONS = 3 };

/* -C, -c and -s, which fill `p`. */
void cn_pick_options(cn_pick *p, cn_option out[CN_PICK_OPTIONS]);

/* Take the session from the front of the operands, unless -c or -s named it.
 *
 *   argv  [operands]; what is left moves to the front.
 *
 * Returns how many are left; -1, and has said so, if no session is named, or two. */
int cn_pick_take(cn_pick *p, const cn_cli *cli, int operands, char **argv);

/* The session that is meant.
 *
 *   out  owned by the caller: cn_ledger_session_free().  NULL unless CN_OK.
 *
 * CN_ENOTFOUND, CN_EINVAL  as cn_ledger_session_find; errors of cn_repo_open. */
cn_err cn_pick_find(const cn_pick *p, cn_ledger *l, cn_ledger_session **out,
                    cn_diag *diag) CN_MUST_CHECK;

/* The root of the repository (or the folder) that -C names, "." without. */
cn_err cn_pick_root(const cn_pick *p, char out[CN_PATH_BYTES], cn_diag *diag) CN_MUST_CHECK;

/* The turns of a conversation. */
typedef struct cn_pick_turns {
    int64_t turns;  // finished or not
    int32_t last;   // finished; 0: none
    int32_t before; // the one before it; 0: none
    int64_t behind; // turns behind `turn`
} cn_pick_turns;

cn_err cn_pick_turns_of(cn_ledger *l, const char *session, int32_t turn, cn_pick_turns *out,
                        cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

/*
 * moves.h - Which documents came into a session's view with a turn, and which went.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_MOVES_H
#define CN_RUNTIME_MOVES_H

#include "runtime/cli.h"

CN_C_BEGIN

/* Print them for a turn of the session's conversation, compared with the turn before it; of the
 * first turn all of them came.  `session` is an exact id.  The exit status. */
int cn_print_moves(const cn_cli *cli, cn_ledger *ledger, const char *session, int32_t turn);

CN_C_END

#endif

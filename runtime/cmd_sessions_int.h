/*
 * cmd_sessions_int.h - The verbs of cairn sessions.  Private to its files.
 *
 *   cmd_sessions.c         list, show
 *   cmd_sessions_edit.c    fork, rewind, rename, rm
 *   cmd_sessions_export.c  export, import
 */
#ifndef CN_RUNTIME_CMD_SESSIONS_INT_H
#define CN_RUNTIME_CMD_SESSIONS_INT_H

#include "runtime/pick.h"

CN_C_BEGIN

/* Do something with a session; members of the answer go to `out`, whose object is open. */
typedef cn_err (*cn_sessions_fn)(cn_listing *out, cn_ledger *l, const cn_ledger_session *s,
                                 void *ctx, cn_diag *diag);

/* Open the ledger, find the session, do it, answer.  The exit status. */
int cn_sessions_run(const cn_cli *cli, const cn_pick *pick, cn_sessions_fn fn, void *ctx);

int cn_cmd_sessions_fork(int argc, char **argv);
int cn_cmd_sessions_rewind(int argc, char **argv);
int cn_cmd_sessions_rename(int argc, char **argv);
int cn_cmd_sessions_rm(int argc, char **argv);
int cn_cmd_sessions_export(int argc, char **argv);
int cn_cmd_sessions_import(int argc, char **argv);

CN_C_END

#endif

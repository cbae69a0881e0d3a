/*
 * signals.h - What asks a turn or the process to stop, as flags that the loop looks at.
 *
 *   SIGINT            stop the turn
 *   SIGTERM, SIGHUP   stop the turn and leave
 *   a closed stdout   the same, by cn_signals_lost_stdout
 *
 * The turn ends in the ledger, the session is closed, the terminal is as it was; then
 * cn_signals_leave dies of the signal, as whoever sent it expects.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_SIGNALS_H
#define CN_RUNTIME_SIGNALS_H

#include "base/err.h"

#include <signal.h>
#include <stdatomic.h>

CN_C_BEGIN

/* Catch them from now on.  `once`: a second SIGINT kills, for commands that run one turn. */
void cn_signals_catch(bool once);

const atomic_bool *cn_signals_cancel(void);      // for cn_turn_run
bool               cn_signals_is_leaving(void);  // not only the turn
void               cn_signals_rearm(void);       // before a turn: forget an earlier SIGINT
void               cn_signals_lost_stdout(void); // nobody reads any more
bool               cn_signals_was_resized(void); // since the last call

/* Wait until `fd` can be read (true), or a signal came since the last wait (false: look at
 * the flags). */
bool cn_signals_wait_input(int fd);

/* Die of the signal that asked to leave, or return `status`. */
int cn_signals_leave(int status);

CN_C_END

#endif

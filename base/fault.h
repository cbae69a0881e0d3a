/*
 * fault.h - Places where the world can fail, by name, and a switch that makes them fail.
 *
 *   fd = CN_FAULT("base.file.open") ? (errno = EMFILE, -1) : open(...);
 *
 * A test arms the n-th hit for n = 1, 2, ... until a run ends with no fault hit: then
 * every point has failed once.  Compiled out without CN_FAULTS; disarmed it costs one
 * load and a branch.
 *
 * Threads: arm while nothing else runs; points may be hit by any thread.
 *
 * Layer: base.
 */
#ifndef CN_BASE_FAULT_H
#define CN_BASE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    CN_FAULT_OFF,
    CN_FAULT_ONCE,    // only the n-th hit fails
    CN_FAULT_FOREVER, // the n-th and every later hit fail: the disk stays full
    CN_FAULT_CRASH,   // the process dies at the n-th hit, as by kill -9
} cn_fault_mode;

/* Count from here; nth >= 1. */
void cn_fault_arm(cn_fault_mode mode, int64_t nth);
/* Whether a point failed since cn_fault_arm. */
bool cn_fault_was_hit(void);
/* The name of the last point passed, armed or failing; "" if none.  Static storage. */
const char *cn_fault_last_point(void);

/* Called with each point that is passed while armed, before it fails: a process that will die there
 * can leave word where.  NULL: nobody.  Set it while nothing else runs. */
void cn_fault_watch(void (*fn)(const char *point));

/* Arm from the environment: CAIRN_FAULT=once:N | forever:N | crash:N.  For tests of
 * whole processes.  False (and nothing armed) if it is unset or malformed. */
bool cn_fault_arm_from_env(void);

#ifdef CN_FAULTS
bool cn_fault_hit(const char *point);
#define CN_FAULT(point) cn_fault_hit(point)
#else
#define CN_FAULT(point) false
#endif

#endif

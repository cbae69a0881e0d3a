/*
 * pool.h - A small thread pool: run n independent tasks on all threads and wait.
 *
 * Tasks are handed out in order, one atomic counter; which thread runs a task must
 * not matter to its result.  Workers spin for a short while after a run (a decode
 * step makes dozens of runs within a millisecond) and then sleep in the kernel.
 *
 * Threads: one thread owns a pool and makes every call.  A task may not run tasks.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_POOL_H
#define CN_KERNELS_POOL_H

#include "base/err.h"

CN_C_BEGIN

enum { CN_POOL_THREADS_MAX = 256 };

typedef struct cn_pool cn_pool;

typedef void (*cn_task_fn)(void *arg, int64_t task);

/* Start threads - 1 workers; the caller of cn_pool_run is the last thread.
 *
 *   out  owned by the caller: cn_pool_free().
 *
 * CN_EINVAL  threads is not in 1..CN_POOL_THREADS_MAX.
 * CN_ENOMEM  the system gives no thread or memory. */
cn_err cn_pool_create(cn_pool **out, int32_t threads, cn_diag *diag) CN_MUST_CHECK;

/* Stop and join the workers.  NULL is allowed. */
void cn_pool_free(cn_pool *pool);

/* 1 for NULL. */
int32_t cn_pool_threads(const cn_pool *pool);

/* Call fn(arg, 0), ..., fn(arg, tasks - 1), each once, and return when all have
 * returned.  What they wrote is visible to the caller.  A NULL pool or one task
 * runs in the caller's thread alone.  Cannot fail. */
void cn_pool_run(cn_pool *pool, cn_task_fn fn, void *arg, int64_t tasks);

CN_C_END

#endif

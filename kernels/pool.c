/*
 * pool.c - Tasks are claimed by one compare-and-swap on (run number, next task).
 *
 * A run is the pair {run:32, next:32} in one word.  A thread reads the word, then the
 * run's fn, arg and tasks, and claims a task by moving `next` on.  If the swap succeeds
 * the run had an open task all the while, so what was read belongs to it: the caller
 * cannot have started another run before that task is done.  A worker that wakes late
 * claims nothing and is never waited for.
 */
#include "kernels/pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    WORKER_SPINS = 4000, // pauses before a worker sleeps: some tens of microseconds
    CALLER_SPINS = 4000, // pauses before the caller lets another thread have the core
};

struct cn_pool {
    // What a run changes, on lines of its own: workers poll `word`.
    _Alignas(64) _Atomic uint64_t word; // run << 32 | next task
    _Alignas(64) _Atomic int64_t done;  // tasks of this run that have returned
    _Alignas(64) _Atomic(cn_task_fn) fn;
    _Atomic(void *)  arg;
    _Atomic uint32_t tasks;
    _Atomic uint32_t wake; // futex: counts runs and the stop
    _Atomic int32_t  sleepers;
    _Atomic bool     stop;
    int32_t          threads;
    pthread_t        worker[];
};

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t seen) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake_all(_Atomic uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Run tasks of the current run until none is open. */
static void work(cn_pool *p) {
    uint64_t word = atomic_load(&p->word);
    for (;;) {
        const uint32_t tasks = atomic_load(&p->tasks);
        cn_task_fn     fn = atomic_load(&p->fn);
        void          *arg = atomic_load(&p->arg);
        if ((uint32_t)word >= tasks) return;
        if (!atomic_compare_exchange_weak(&p->word, &word, word + 1)) continue;
        fn(arg, (int64_t)(uint32_t)word);
        atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
        word = atomic_load(&p->word);
    }
}

static bool has_open_task(cn_pool *p) {
    return (uint32_t)atomic_load_explicit(&p->word, memory_order_acquire) <
           atomic_load_explicit(&p->tasks, memory_order_acquire);
}

static void *worker_main(void *pool) {
    cn_pool *p = pool;
    while (!atomic_load(&p->stop)) {
        const uint32_t seen = atomic_load(&p->wake);
        work(p);
        for (int i = 0; i < WORKER_SPINS && !has_open_task(p) && atomic_load(&p->wake) == seen; i++)
            relax();
        if (has_open_task(p)) continue;
        // Announce the sleep before looking again: either the caller sees a sleeper,
        // or the futex sees that `wake` moved on.
        atomic_fetch_add(&p->sleepers, 1);
        if (!atomic_load(&p->stop)) futex_wait(&p->wake, seen);
        atomic_fetch_sub(&p->sleepers, 1);
    }
    return NULL;
}

static void wake_workers(cn_pool *p) {
    atomic_fetch_add(&p->wake, 1);
    if (atomic_load(&p->sleepers) > 0) futex_wake_all(&p->wake);
}

cn_err cn_pool_create(cn_pool **out, int32_t threads, cn_diag *diag) {
    *out = NULL;
    if (threads < 1 || threads > CN_POOL_THREADS_MAX)
        return CN_FAIL(diag, CN_EINVAL, "%d threads, want 1 to %d", threads,
                       (int)CN_POOL_THREADS_MAX);
    size_t bytes = sizeof(cn_pool) + (size_t)threads * sizeof(pthread_t);
    bytes = (bytes + 63) / 64 * 64;
    cn_pool *p = aligned_alloc(64, bytes);
    if (!p) return CN_FAIL(diag, CN_ENOMEM, "no memory for a pool of %d threads", threads);
    *p = (cn_pool){.threads = 1};
    for (; p->threads < threads; p->threads++)
        if (pthread_create(&p->worker[p->threads - 1], NULL, worker_main, p)) {
            const int32_t got = p->threads;
            cn_pool_free(p);
            return CN_FAIL(diag, CN_ENOMEM, "the system gives %d of %d threads", got, threads);
        }
    *out = p;
    return CN_OK;
}

void cn_pool_free(cn_pool *p) {
    if (!p) return;
    atomic_store(&p->stop, true);
    atomic_fetch_add(&p->wake, 1);
    futex_wake_all(&p->wake);
    for (int32_t i = 0; i < p->threads - 1; i++) pthread_join(p->worker[i], NULL);
    free(p);
}

int32_t cn_pool_threads(const cn_pool *p) {
    return p ? p->threads : 1;
}

void cn_pool_run(cn_pool *p, cn_task_fn fn, void *arg, int64_t tasks) {
    if (!p || p->threads == 1 || tasks <= 1) {
        for (int64_t i = 0; i < tasks; i++) fn(arg, i);
        return;
    }
    cn_assert(tasks < UINT32_MAX);
    // No task of the run before is open or running: only late workers read these.
    const uint64_t run = (atomic_load(&p->word) >> 32) + 1;
    atomic_store(&p->tasks, 0); // a late worker finds nothing to claim meanwhile
    atomic_store(&p->word, run << 32);
    atomic_store(&p->fn, fn);
    atomic_store(&p->arg, arg);
    atomic_store(&p->done, 0);
    atomic_store(&p->tasks, (uint32_t)tasks);
    wake_workers(p);
    work(p);
    for (int i = 0; atomic_load_explicit(&p->done, memory_order_acquire) != tasks; i++) {
        if (i < CALLER_SPINS)
            relax();
        else
            sched_yield();
    }
}

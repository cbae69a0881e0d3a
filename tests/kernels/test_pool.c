/*
 * test_pool.c - Every task runs exactly once, and what it wrote is there when the run returns.
 *
 * Run it with SAN=thread as well: plain memory is written by tasks and read by the caller and
 * by the tasks of the next run, which is a race unless the pool orders them.
 */
#include "tests/test.h"

#include "kernels/pool.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 8 };

static cn_pool *new_pool(int32_t threads) {
    cn_pool *pool;
    assert_err(cn_pool_create(&pool, threads, &t_diag), CN_OK);
    assert_int_equal(cn_pool_threads(pool), threads);
    return pool;
}

static void sleep_ms(int ms) {
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

/* Counts how often a task ran. */
static void count(void *arg, int64_t task) {
    ((int32_t *)arg)[task]++;
}

static void test_pool_runs_every_task_once(void **state) {
    (void)state;
    const int64_t sizes[] = {0, 1, 2, 3, 7, 8, 9, 64, 1000, t_is_sanitized() ? 2000 : 100000};
    for (int32_t threads = 1; threads <= THREADS_MAX; threads++) {
        cn_pool *pool = new_pool(threads);
        for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
            const int64_t tasks = sizes[k];
            int32_t      *ran = t_alloc((size_t)tasks * sizeof(*ran));
            memset(ran, 0, (size_t)tasks * sizeof(*ran));
            cn_pool_run(pool, count, ran, tasks);
            for (int64_t i = 0; i < tasks; i++)
                if (ran[i] != 1)
                    t_fail(__FILE__, __LINE__, "%d threads: task %lld of %lld ran %d times",
                           threads, (long long)i, (long long)tasks, ran[i]);
            t_free(ran);
        }
        cn_pool_free(pool);
    }
}

/* One of many short runs: each has other arguments and another number of tasks. */
typedef struct short_run {
    int64_t  number;
    int32_t  ran[13];
    int64_t *sum; // plain: added to by task 0 only, run after run
} short_run;

static void short_task(void *arg, int64_t task) {
    short_run *r = arg;
    r->ran[task]++;
    if (task == 0) *r->sum += r->number;
}

/* A worker that comes late to run n must not take a task of run n + 1 with the arguments of n,
 * nor count as one of its tasks. */
static void test_pool_many_short_runs(void **state) {
    (void)state;
    const int64_t runs = t_is_sanitized() ? 10000 : 50000;
    for (int32_t threads = 1; threads <= THREADS_MAX; threads += threads < 4 ? 1 : 4) {
        cn_pool  *pool = new_pool(threads);
        short_run args[2];
        int64_t   sum = 0;
        for (int64_t n = 1; n <= runs; n++) {
            const int64_t tasks = 1 + n % 13;
            short_run    *r = &args[n % 2]; // a stale argument is another object
            *r = (short_run){.number = n, .sum = &sum};
            cn_pool_run(pool, short_task, r, tasks);
            for (int64_t i = 0; i < 13; i++)
                if (r->ran[i] != (i < tasks))
                    t_fail(__FILE__, __LINE__, "%d threads, run %lld: task %lld of %lld ran %d",
                           threads, (long long)n, (long long)i, (long long)tasks, r->ran[i]);
        }
        assert_int_equal(sum, runs * (runs + 1) / 2);
        cn_pool_free(pool);
    }
}

/* Run n reads what run n - 1 wrote, mirrored, so that the writer was mostly another thread. */
typedef struct wave {
    int64_t *from, *to;
    int64_t  tasks;
} wave;

static void wave_task(void *arg, int64_t task) {
    const wave *w = arg;
    w->to[task] = w->from[w->tasks - 1 - task] + 1;
}

static void test_pool_runs_see_what_the_last_one_wrote(void **state) {
    (void)state;
    enum { TASKS = 40 };
    const int runs = t_is_sanitized() ? 500 : 10000;
    for (int32_t threads = 2; threads <= THREADS_MAX; threads *= 2) {
        cn_pool *pool = new_pool(threads);
        int64_t  a[TASKS] = {0}, b[TASKS];
        wave     w = {a, b, TASKS};
        for (int n = 1; n <= runs; n++) {
            cn_pool_run(pool, wave_task, &w, TASKS);
            for (int i = 0; i < TASKS; i++) assert_true(w.to[i] == n);
            int64_t *const written = w.to;
            w.to = w.from, w.from = written;
        }
        cn_pool_free(pool);
    }
}

/* Two tasks that wait for each other: they end only if two threads run them. */
static void meet(void *arg, int64_t task) {
    (void)task;
    atomic_int *here = arg;
    atomic_fetch_add(here, 1);
    while (atomic_load(here) < 2) sleep_ms(0);
}

static void test_pool_uses_its_threads(void **state) {
    (void)state;
    cn_pool *pool = new_pool(2);
    for (int i = 0; i < 20; i++) {
        atomic_int here = 0;
        cn_pool_run(pool, meet, &here, 2);
        assert_int_equal(atomic_load(&here), 2);
    }
    cn_pool_free(pool);
}

/* After a while the workers sleep in the kernel; a run must wake them. */
static void test_pool_wakes_after_long_idle(void **state) {
    (void)state;
    cn_pool *pool = new_pool(2);
    for (int i = 0; i < 5; i++) {
        struct timespec before, after;
        sleep_ms(10);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
        sleep_ms(40); // long after the spinning has ended
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
        const int64_t busy_ns =
            (int64_t)(after.tv_sec - before.tv_sec) * 1000000000 + (after.tv_nsec - before.tv_nsec);
        if (!t_is_sanitized()) assert_in_range(busy_ns, 0, 10000000); // idle workers use no core
        atomic_int here = 0;
        cn_pool_run(pool, meet, &here, 2);
    }
    cn_pool_free(pool);
}

static void store_thread(void *arg, int64_t task) {
    ((pthread_t *)arg)[task] = pthread_self();
}

/* Without a pool, with one thread, or with one task: the caller's thread, in order. */
static void test_pool_runs_alone_in_the_caller(void **state) {
    (void)state;
    pthread_t ran[5];
    int32_t   counts[5] = {0};
    assert_int_equal(cn_pool_threads(NULL), 1);
    cn_pool_run(NULL, store_thread, ran, 5);
    for (int i = 0; i < 5; i++) assert_true(pthread_equal(ran[i], pthread_self()));
    cn_pool_run(NULL, count, counts, 0);
    cn_pool_run(NULL, count, counts, 4);
    for (int i = 0; i < 5; i++) assert_int_equal(counts[i], i < 4);

    cn_pool *pool = new_pool(1);
    cn_pool_run(pool, store_thread, ran, 5);
    for (int i = 0; i < 5; i++) assert_true(pthread_equal(ran[i], pthread_self()));
    cn_pool_free(pool);

    pool = new_pool(THREADS_MAX);
    for (int i = 0; i < 30; i++) {
        sleep_ms(3); // sleeping workers, woken for nothing, would come before the caller
        cn_pool_run(pool, store_thread, ran, 1);
        assert_true(pthread_equal(ran[0], pthread_self()));
    }
    cn_pool_free(pool);
}

static void test_pool_limits(void **state) {
    (void)state;
    const int32_t refused[] = {0, -1, INT32_MIN, CN_POOL_THREADS_MAX + 1, INT32_MAX};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        cn_pool *pool = (cn_pool *)&pool;
        cn_diag  diag = {0};
        assert_err(cn_pool_create(&pool, refused[i], &diag), CN_EINVAL);
        assert_null(pool);
        assert_true(diag.err == CN_EINVAL && diag.text[0]);
        assert_err(cn_pool_create(&pool, refused[i], NULL), CN_EINVAL);
    }
    int32_t  ran[300] = {0};
    cn_pool *pool = new_pool(t_is_sanitized() ? 32 : CN_POOL_THREADS_MAX);
    cn_pool_run(pool, count, ran, 300);
    for (int i = 0; i < 300; i++) assert_int_equal(ran[i], 1);
    cn_pool_free(pool);
    cn_pool_free(NULL);
}

static int64_t address_space_bytes(void) {
    long long pages = 0;
    FILE     *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lld", &pages), 1);
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

static int threads_alive(void) {
    int  n = 0;
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* Room for a few of 256 stacks: what was started is stopped again, and later calls work. */
static void test_pool_without_memory(void **state) {
    (void)state;
    if (t_is_sanitized()) return; // a sanitizer's own maps need the address space
    struct rlimit limit, little;
    assert_int_equal(getrlimit(RLIMIT_AS, &limit), 0);
    little = limit;
    little.rlim_cur = (rlim_t)address_space_bytes() + (40 << 20);
    cn_pool *pool = (cn_pool *)&pool;
    assert_int_equal(setrlimit(RLIMIT_AS, &little), 0);
    const cn_err err = cn_pool_create(&pool, CN_POOL_THREADS_MAX, &t_diag);
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    assert_err(err, CN_ENOMEM);
    assert_null(pool);
    assert_non_null(strstr(t_diag.text, "of 256 threads"));
    for (int i = 0; i < 100 && threads_alive() > 1; i++) sleep_ms(10);
    assert_int_equal(threads_alive(), 1);
    pool = new_pool(4);
    cn_pool_free(pool);
}

/* Freed at once, while spinning and while asleep: the workers leave. */
static void test_pool_frees_in_any_state(void **state) {
    (void)state;
    int32_t ran[8] = {0};
    for (int i = 0; i < (t_is_sanitized() ? 20 : 200); i++) {
        cn_pool *pool = new_pool(1 + i % 5);
        if (i % 3) cn_pool_run(pool, count, ran, 8);
        if (i % 20 == 0) sleep_ms(2);
        cn_pool_free(pool);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pool_runs_every_task_once),
        cmocka_unit_test(test_pool_many_short_runs),
        cmocka_unit_test(test_pool_runs_see_what_the_last_one_wrote),
        cmocka_unit_test(test_pool_uses_its_threads),
        cmocka_unit_test(test_pool_wakes_after_long_idle),
        cmocka_unit_test(test_pool_runs_alone_in_the_caller),
        cmocka_unit_test(test_pool_limits),
        cmocka_unit_test(test_pool_without_memory),
        cmocka_unit_test(test_pool_frees_in_any_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

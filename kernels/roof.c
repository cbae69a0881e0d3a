/* roof.c - Time the loops of roof_int.h on every thread; keep the best. */
#include "kernels/roof.h"

#include "base/clock.h"
#include "kernels/roof_int.h"

#include <sys/mman.h>

/* Many short runs, not few long ones: on a shared machine a long run is always disturbed. */
enum { RUNS = 32, RUN_NS = 2 * 1000 * 1000, LANES = 32 };

/* ---- Plain C: lanes that a compiler can turn into the vectors it has ---- */

static uint8_t read_all(const uint8_t *p, int64_t bytes) {
    uint64_t sum[8] = {0}, word[8];
    int64_t  i = 0;
    for (; i + 64 <= bytes; i += 64) {
        memcpy(word, p + i, sizeof(word));
        for (int c = 0; c < 8; c++) sum[c] ^= word[c];
    }
    for (; i < bytes; i++) sum[0] ^= p[i];
    for (int c = 1; c < 8; c++) sum[0] ^= sum[c];
    return cn_roof_fold(sum[0]);
}

static double f32(int64_t steps) {
    float acc[LANES] = {0}, x[LANES];
    for (int c = 0; c < LANES; c++) x[c] = 1;
    for (int64_t s = 0; s < steps; s++) {
        __asm__ volatile("" : "+m"(x));
        for (int c = 0; c < LANES; c++) acc[c] += x[c] * x[c];
    }
    double sum = 0;
    for (int c = 0; c < LANES; c++) sum += (double)acc[c];
    return sum;
}

static double int8(int64_t steps) {
    int32_t acc[LANES] = {0};
    int16_t x[LANES];
    for (int c = 0; c < LANES; c++) x[c] = 1;
    for (int64_t s = 0; s < steps; s++) {
        __asm__ volatile("" : "+m"(x));
        for (int c = 0; c < LANES; c++) acc[c] += x[c] * x[c];
    }
    double sum = 0;
    for (int c = 0; c < LANES; c++) sum += acc[c];
    return sum;
}

const cn_roof_loops cn_roof_loops_ref = {
    .read = read_all,
    .bf16 = f32, // plain C widens bf16 first
    .int8 = int8,
    .f32 = f32,
    .bf16_ops = LANES * 2,
    .int8_ops = LANES * 2,
    .f32_ops = LANES * 2,
};

static const cn_roof_loops *loops(cn_isa isa) {
    static const cn_roof_loops *const sets[] = {&cn_roof_loops_ref, &cn_roof_loops_avx2,
                                                &cn_roof_loops_avx512};
    _Static_assert(sizeof(sets) / sizeof(sets[0]) == CN_ISA_COUNT, "loops for each isa");
    cn_assert(cn_isa_is_supported(isa));
    return sets[isa];
}

/* ---- Timing ---- */

/* Passes over all tasks a second, the best of RUNS.  A run makes enough passes to last
 * for RUN_NS. */
static double best_rate(cn_pool *pool, cn_task_fn fn, void *arg, int64_t tasks) {
    double  best = 0;
    int64_t repeat = 1;
    for (int run = 0; run < RUNS;) {
        const int64_t start = cn_clock_ns();
        for (int64_t i = 0; i < repeat; i++) cn_pool_run(pool, fn, arg, tasks);
        const int64_t ns = cn_clock_ns() - start;
        if (ns < RUN_NS && repeat < INT64_C(1) << 30) {
            repeat *= 2;
            continue;
        }
        const double rate = (double)repeat * 1e9 / (double)ns;
        if (rate > best) best = rate;
        run++;
    }
    return best;
}

/* What nobody could read would not be computed. */
static _Atomic uint8_t read_sink;
static _Atomic double  chain_sink;

enum { READ_TASK_BYTES = 1 << 16 };

typedef struct read_arg {
    const uint8_t *data;
    int64_t        bytes;
    uint8_t (*read)(const uint8_t *p, int64_t bytes);
} read_arg;

static void read_task(void *arg, int64_t task) {
    const read_arg *a = arg;
    const int64_t   start = task * READ_TASK_BYTES, left = a->bytes - start;
    read_sink = a->read(a->data + start, left < READ_TASK_BYTES ? left : READ_TASK_BYTES);
}

double cn_roof_bandwidth(cn_isa isa, int64_t bytes, cn_pool *pool) {
    if (bytes < 1) return 0;
    const size_t huge = (size_t)2 << 20, size = ((size_t)bytes + huge - 1) / huge * huge + huge;
    uint8_t     *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return 0;
    uint8_t *data = map + (huge - (uintptr_t)map % huge) % huge;
    (void)madvise(data, size - huge, MADV_HUGEPAGE); // a wish; small pages work too
    memset(data, 1, (size_t)bytes);
    read_arg     a = {data, bytes, loops(isa)->read};
    const double rate =
        best_rate(pool, read_task, &a, (bytes + READ_TASK_BYTES - 1) / READ_TASK_BYTES);
    munmap(map, size);
    return rate * (double)bytes / 1e9;
}

enum { CHAIN_STEPS = 20 * 1000 };

static void chain_task(void *arg, int64_t task) {
    double (*const *chain)(int64_t) = arg;
    (void)task;
    chain_sink = (*chain)(CHAIN_STEPS);
}

static double chain_roof(cn_pool *pool, double (*chain)(int64_t), int64_t step_ops) {
    const int32_t threads = cn_pool_threads(pool);
    return best_rate(pool, chain_task, &chain, threads) * threads * (double)CHAIN_STEPS *
           (double)step_ops / 1e9;
}

double cn_roof_bf16(cn_isa isa, cn_pool *pool) {
    return chain_roof(pool, loops(isa)->bf16, loops(isa)->bf16_ops);
}

double cn_roof_int8(cn_isa isa, cn_pool *pool) {
    return chain_roof(pool, loops(isa)->int8, loops(isa)->int8_ops);
}

double cn_roof_f32(cn_isa isa, cn_pool *pool) {
    return chain_roof(pool, loops(isa)->f32, loops(isa)->f32_ops);
}

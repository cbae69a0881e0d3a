/*
 * rows_int.h - Split the rows of an op into tasks of equal size.
 *
 * For ops whose rows do not depend on each other.  Private to kernels.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_ROWS_INT_H
#define CN_KERNELS_ROWS_INT_H

#include "kernels/pool.h"

CN_C_BEGIN

/* Work on rows first..end-1 of the op with these arguments. */
typedef void (*cn_rows_fn)(const void *args, int64_t first, int64_t end);

typedef struct cn_rows {
    cn_rows_fn  fn;
    const void *args;
    int64_t     rows;
    int64_t     task_rows;
} cn_rows;

static inline void cn_rows_task(void *arg, int64_t task) {
    const cn_rows *s = (const cn_rows *)arg;
    const int64_t  first = task * s->task_rows, end = first + s->task_rows;
    s->fn(s->args, first, end < s->rows ? end : s->rows);
}

/* Run fn over all rows, in tasks of whole rows with about `task_elements` elements.  Rows
 * that fit into one task run in the caller's thread, so task_elements is also the size
 * from which on the threads are worth waking (a run costs about 1 us). */
static inline void cn_rows_run(cn_pool *pool, cn_rows_fn fn, const void *args, int64_t rows,
                               int64_t row_elements, int64_t task_elements) {
    const int64_t fit = task_elements / row_elements;
    cn_rows       s = {fn, args, rows, fit > 0 ? fit : 1};
    cn_pool_run(pool, cn_rows_task, &s, (rows + s.task_rows - 1) / s.task_rows);
}

CN_C_END

#endif

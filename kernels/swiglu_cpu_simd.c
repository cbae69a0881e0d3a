/*
 * swiglu_cpu_simd.c - The SwiGLU gate.  Contract and equation: swiglu.h.
 *
 * Bound    arithmetic: an exp and a division for 12 bytes.
 * Order    no sums.  Each element's bits depend on its two inputs alone.
 * Error    <= 1e-6 relative to swiglu_ref.c, plus 3e-37 times |up| and 1.5e-45: below
 *          v = -88.7 exp(-v) is infinite and silu(v) is -0 (tests/kernels/test_swiglu.c).
 */
#include "kernels/rows_int.h"
#include "kernels/simd_int.h"
#include "kernels/swiglu.h"

enum { TASK_ELEMENTS = 8192 }; // of y: 1 to 2 us of work

static void gate_rows(const void *args, int64_t first, int64_t end) {
    const cn_swiglu_args *a = args;
    for (int64_t r = first; r < end; r++) {
        const float *gate = a->x + r * a->x_stride, *up = gate + a->dim;
        float       *y = a->y + r * a->y_stride;
        for (int32_t i = 0; i < a->dim; i += V_LANES) {
            const v_f32 v = v_load(gate + i);
            const v_f32 silu = v_div(v, v_add(v_set1(1.0f), v_exp(v_neg(v))));
            v_store(y + i, v_mul(silu, v_load(up + i)));
        }
    }
}

cn_err CN_SIMD(swiglu)(const cn_swiglu_args *a, void *stream) {
    CN_TRY(cn_swiglu_check(a));
    cn_rows_run(stream, gate_rows, a, a->rows, a->dim, TASK_ELEMENTS);
    return CN_OK;
}

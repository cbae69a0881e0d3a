/*
 * swiglu_cpu_avx512.c - The SwiGLU gate.  Contract and equation: swiglu.h.
 *
 * Bound    arithmetic: an exp and a division for 12 bytes.
 * Order    no sums.  Each element's bits depend on its two inputs alone.
 * Error    <= 1e-6 relative to swiglu_ref.c, plus 3e-37 times |up| and 1.5e-45: below
 *          v = -88.7 exp(-v) is infinite and silu(v) is -0 (tests/kernels/test_swiglu.c).
 */
#include "kernels/avx512_int.h"
#include "kernels/rows_int.h"
#include "kernels/swiglu.h"

enum { TASK_ELEMENTS = 8192 }; // of y: 1 to 2 us of work

static void gate_rows(const void *args, int64_t first, int64_t end) {
    const cn_swiglu_args *a = args;
    const __m512          one = _mm512_set1_ps(1.0f), minus_zero = _mm512_set1_ps(-0.0f);
    for (int64_t r = first; r < end; r++) {
        const float *gate = a->x + r * a->x_stride, *up = gate + a->dim;
        float       *y = a->y + r * a->y_stride;
        for (int32_t i = 0; i < a->dim; i += 16) {
            const __m512 v = _mm512_load_ps(gate + i);
            const __m512 e = v_exp(_mm512_xor_ps(v, minus_zero));
            const __m512 silu = _mm512_div_ps(v, _mm512_add_ps(one, e));
            _mm512_store_ps(y + i, _mm512_mul_ps(silu, _mm512_load_ps(up + i)));
        }
    }
}

cn_err cn_swiglu_avx512(const cn_swiglu_args *a, void *stream) {
    CN_TRY(cn_swiglu_check(a));
    cn_rows_run(stream, gate_rows, a, a->rows, a->dim, TASK_ELEMENTS);
    return CN_OK;
}

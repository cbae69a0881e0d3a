/* rope_ref.c - The definition of right: the equation in rope.h, in f64, rounded once. */
#include "kernels/rope.h"

cn_err cn_rope_ref(const cn_rope_args *a, void *stream) {
    (void)stream;
    CN_TRY(cn_rope_check(a));
    const int32_t half = a->dim / 2;
    for (int64_t r = 0; r < a->rows; r++)
        for (int32_t h = 0; h < a->heads; h++) {
            float *x = a->x + r * a->stride + (int64_t)h * a->dim;
            for (int32_t i = 0; i < half; i++) {
                const bool   split = a->layout == CN_ROPE_HALF_SPLIT;
                float       *pa = split ? x + i : x + 2 * i;
                float       *pb = split ? x + i + half : x + 2 * i + 1;
                const double va = *pa, vb = *pb;
                const double c = a->cos[r * half + i], s = a->sin[r * half + i];
                *pa = (float)(va * c - vb * s);
                *pb = (float)(vb * c + va * s);
            }
        }
    return CN_OK;
}

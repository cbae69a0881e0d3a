/* rope_angles.c - The cosines and sines that rope.h's op turns by. */
#include "kernels/math_int.h"
#include "kernels/rope.h"

void cn_rope_angles(float *cos_out, float *sin_out, int64_t first, int64_t rows, int32_t dim,
                    double theta) {
    const double  ln_theta = cn_log2(theta) * 0.693147180559945309417;
    const int32_t half = dim / 2;
    double        freq[CN_HEAD_DIM_MAX / 2];
    cn_assert(dim > 0 && dim <= CN_HEAD_DIM_MAX && dim % 2 == 0);
    cn_assert(theta > 1 && first >= 0 && rows >= 0 && first + rows <= 1 << 24);
    for (int32_t i = 0; i < half; i++) freq[i] = cn_exp(-2.0 * i / dim * ln_theta);
    for (int64_t r = 0; r < rows; r++)
        for (int32_t i = 0; i < half; i++) {
            double s, c;
            cn_sincos(&s, &c, (double)(first + r) * freq[i]);
            cos_out[r * half + i] = (float)c;
            sin_out[r * half + i] = (float)s;
        }
}

/* read.c - Where a token's attention goes, by its index scores: their softmax over S. */
#include "engine/engine_int.h"

#include <math.h>

cn_read cn_read_weigh(float *weight, const float *scores, const int32_t *set, int64_t count,
                      float scale) {
    float  max = -INFINITY;
    double sum = 0;
    for (int64_t i = 0; i < count; i++) max = scores[set[i]] > max ? scores[set[i]] : max;
    for (int64_t i = 0; i < count; i++)
        sum += (double)(weight[i] = expf(scale * (scores[set[i]] - max)));
    const float factor = (float)(1 / sum);
    for (int64_t i = 0; i < count; i++) weight[i] *= factor;
    // Top-k refuses a NaN, but not an infinity, and does not see the last index_local scores.
    if (!isfinite(sum)) return (cn_read){0};
    return (cn_read){.position = set, .weight = weight, .tokens = (int32_t)count};
}

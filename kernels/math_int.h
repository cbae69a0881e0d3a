/*
 * math_int.h - exp, sin and cos of our own: the same bits on every machine.
 *
 * libm differs between versions and processors; a cache that promises equal bits
 * cannot rest on it.  These use f64 sums, products and comparisons only.
 *
 * Layer: kernels -> base.  Private to kernels.
 */
#ifndef CN_KERNELS_MATH_INT_H
#define CN_KERNELS_MATH_INT_H

#include "kernels/types.h"

CN_C_BEGIN

/* exp(x) rounded to f32 from an f64 result within 1e-12 relative.  Below -104: 0;
 * above 88.73: +infinity; NaN gives NaN. */
float cn_exp_f32(float x);

/* exp(x) in f64, relative error <= 1e-14 for |x| <= 700; 0 below -745, +infinity above
 * 709.79; NaN gives NaN. */
double cn_exp(double x);

/* log2(x) for x > 0 and finite, absolute error <= 1e-14 * max(1, |log2 x|). */
double cn_log2(double x);

/* What cn_exp and its vector form compute with: e^x = 2^n e^r, n = x log2 e to the nearest
 * integer, r = x - n ln 2, ln 2 in two parts so that n hi is exact; e^r by its Taylor series from
 * r^13 down.  x + magic - magic is the nearest integer: 1.5 * 2^52 leaves no room for a fraction.
 */
#define CN_LOG2_E 1.44269504088896338700
#define CN_LN2_HI 6.93147180369123816490e-01
#define CN_LN2_LO 1.90821492927058770002e-10
#define CN_NEAREST_MAGIC 6755399441055744.0
#define CN_EXP_LEAST (-745.2) // below, 0
static const double cn_exp_series[] = {1.0 / 6227020800,
                                       1.0 / 479001600,
                                       1.0 / 39916800,
                                       1.0 / 3628800,
                                       1.0 / 362880,
                                       1.0 / 40320,
                                       1.0 / 5040,
                                       1.0 / 720,
                                       1.0 / 120,
                                       1.0 / 24,
                                       1.0 / 6,
                                       0.5,
                                       1.0,
                                       1.0};
enum { CN_EXP_TERMS = sizeof(cn_exp_series) / sizeof(cn_exp_series[0]) };

/* sin and cos of x, |x| <= 2^25, absolute error <= 1e-15. */
void cn_sincos(double *sin_out, double *cos_out, double x);

CN_C_END

#endif

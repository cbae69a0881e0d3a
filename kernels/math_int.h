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

/* sin and cos of x, |x| <= 2^25, absolute error <= 1e-15. */
void cn_sincos(double *sin_out, double *cos_out, double x);

CN_C_END

#endif

/*
 * math_int.c - exp, log2, sin and cos from f64 sums, products and comparisons.
 *
 * The compiler contracts nothing (-ffp-contract=off), so these give the same bits on
 * every IEEE machine.
 */
#include "kernels/math_int.h"

#include <math.h>

static double from_bits(uint64_t bits) {
    double d;
    memcpy(&d, &bits, 8);
    return d;
}

static uint64_t to_bits(double d) {
    uint64_t bits;
    memcpy(&bits, &d, 8);
    return bits;
}

/* |x| < 2^51. */
static double nearest(double x) {
    return (x + CN_NEAREST_MAGIC) - CN_NEAREST_MAGIC;
}

/* r is in [-0.347, 0.347]: the next term of the series is below 2^-57. */
double cn_exp(double x) {
    if (x != x) return x;
    if (x > 709.79) return INFINITY;
    if (x < CN_EXP_LEAST) return 0;
    const double n = nearest(x * CN_LOG2_E);
    const double r = (x - n * CN_LN2_HI) - n * CN_LN2_LO;
    double       p = cn_exp_series[0];
    for (int i = 1; i < CN_EXP_TERMS; i++) p = p * r + cn_exp_series[i];
    // 2^n in two steps: n reaches 1024 and -1075, past one exponent.
    const int64_t whole = (int64_t)n, half = whole / 2;
    p *= from_bits((uint64_t)(half + 1023) << 52);
    return p * from_bits((uint64_t)(whole - half + 1023) << 52);
}

float cn_exp_f32(float x) {
    if (x < -104.0f) return 0.0f;
    return (float)cn_exp((double)x);
}

/* log2(x) = e + log2(m), m in [sqrt(1/2), sqrt 2); ln m = 2 atanh(s), s = (m-1)/(m+1),
 * |s| < 0.172, by its series to s^21. */
double cn_log2(double x) {
    cn_assert(x > 0 && x < INFINITY);
    int64_t e = 0;
    if (x < 2.2250738585072014e-308) { // subnormal: scale by 2^54
        x *= 18014398509481984.0;
        e = -54;
    }
    uint64_t bits = to_bits(x);
    e += (int64_t)(bits >> 52) - 1023;
    double m = from_bits((bits & 0xFFFFFFFFFFFFFu) | (uint64_t)1023 << 52);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e++;
    }
    const double s = (m - 1) / (m + 1), s2 = s * s;
    double       p = 1.0 / 21;
    for (int k = 19; k >= 1; k -= 2) p = p * s2 + 1.0 / k;
    return (double)e + 2 * s * p * CN_LOG2_E;
}

/* x = n pi/2 + r with pi/2 in parts of 27, 27 and 53 bits: n < 2^25 times one of the first
 * two is exact.  sin and cos of r in [-pi/4, pi/4] by Taylor series to r^17 and r^18. */
void cn_sincos(double *sin_out, double *cos_out, double x) {
    const double p1 = 1.57079632580280303955e+00, p2 = 9.92093518448200484272e-10,
                 p3 = 6.12323399573676603587e-17;
    const double        n = nearest(x * 6.36619772367581382433e-01);
    const double        r = ((x - n * p1) - n * p2) - n * p3, r2 = r * r;
    double              s = 1.0 / 355687428096000.0, c = -1.0 / 6402373705728000.0;
    static const double sc[] = {-1.0 / 1307674368000.0,
                                1.0 / 6227020800.0,
                                -1.0 / 39916800,
                                1.0 / 362880,
                                -1.0 / 5040,
                                1.0 / 120,
                                -1.0 / 6,
                                1.0};
    static const double cc[] = {1.0 / 20922789888000.0,
                                -1.0 / 87178291200.0,
                                1.0 / 479001600,
                                -1.0 / 3628800,
                                1.0 / 40320,
                                -1.0 / 720,
                                1.0 / 24,
                                -0.5,
                                1.0};
    for (size_t i = 0; i < sizeof(sc) / sizeof(sc[0]); i++) s = s * r2 + sc[i];
    for (size_t i = 0; i < sizeof(cc) / sizeof(cc[0]); i++) c = c * r2 + cc[i];
    s *= r;
    switch ((int64_t)n & 3) {
    case 0:
        *sin_out = s, *cos_out = c;
        break;
    case 1:
        *sin_out = c, *cos_out = -s;
        break;
    case 2:
        *sin_out = -s, *cos_out = -c;
        break;
    default:
        *sin_out = -c, *cos_out = s;
        break;
    }
}

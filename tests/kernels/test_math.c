/*
 * test_math.c - exp, log2, sin and cos of our own against exact values.
 *
 * The tables come from make_math_values.py (Python's decimal module, 40 digits and more).
 * Between their points a dense grid is compared with the long double functions of libm,
 * which are right to 1e-18: a thousand times better than what is promised here.
 */
#include "tests/test.h"

#include "kernels/math_int.h"

#include <float.h>
#include <math.h>

static int dense_points(void) {
    return t_is_sanitized() ? 20000 : 300000;
}

/* lo..hi, uniform. */
static double uniform(double lo, double hi) {
    return lo + (hi - lo) * ((double)(t_rand() >> 11) / 9007199254740992.0);
}

static void assert_near(const char *what, double x, double got, long double want, double bound) {
    if (!(fabsl((long double)got - want) <= bound))
        t_fail(__FILE__, __LINE__, "%s(%.17g) = %.17g, want %.21Lg within %g", what, x, got, want,
               bound);
}

static double exp_bound(double x, long double want) {
    if (fabs(x) <= 700) return 1e-14 * (double)want;
    return fmax(2e-14 * fmin((double)want, DBL_MAX), 5e-324); // the last bits go below DBL_MIN
}

static void test_exp_values(void **state) {
    (void)state;
    static const struct {
        double x, want;
    } cases[] = {
        {0.0, 1.0000000000000000000e+0},
        {5e-324, 1.0000000000000000000e+0},
        {1e-300, 1.0000000000000000000e+0},
        {1e-17, 1.0000000000000000100e+0},
        {-1e-17, 9.9999999999999999000e-1},
        {1e-09, 1.0000000010000000005e+0},
        {0.001, 1.0010005001667083417e+0},
        {0.34657359027997264, 1.4142135623730950324e+0},
        {-0.34657359027997264, 7.0710678118654753260e-1},
        {0.5, 1.6487212707001281468e+0},
        {-0.5, 6.0653065971263342360e-1},
        {1.0, 2.7182818284590452354e+0},
        {-1.0, 3.6787944117144232160e-1},
        {2.0, 7.3890560989306502272e+0},
        {-10.0, 4.5399929762484851536e-5},
        {10.0, 2.2026465794806716517e+4},
        {43.5, 7.7948894957253063996e+18},
        {-87.3, 1.2192470959520051619e-38},
        {88.7, 3.3259869802505790386e+38},
        {-103.9, 7.5301448478277663228e-46},
        {300.0, 1.9424263952412559366e+130},
        {-300.0, 5.1482002224120137812e-131},
        {699.9, 9.1771511369570663991e+303},
        {700.0, 1.0142320547350045095e+304},
        {-700.0, 9.8596765437597708567e-305},
        {709.7, 1.6549840276802644031e+308},
        {-708.3, 2.4502955309659883375e-308},
        {-745.0, 2.8223507304719370764e-324},
        {-511.8900582426383, 4.8862126540886174707e-223},
        {486.40723171212585, 1.7537863695528509985e+211},
        {369.28446656725964, 2.3889446233080509766e+160},
        {-342.9033639648096, 1.1993921554110276108e-149},
        {-6.390878071282714, 1.6767832195999157708e-3},
        {-70.71250929576661, 1.9496085075269736443e-31},
        {212.23016181186813, 1.4804309923297358232e+92},
        {404.21269158971836, 3.5264803859939861176e+175},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_near("exp", cases[i].x, cn_exp(cases[i].x), cases[i].want,
                    exp_bound(cases[i].x, cases[i].want));
    assert_true(cn_exp(0) == 1 && cn_exp(-0.0) == 1);
}

static void test_exp_limits(void **state) {
    (void)state;
    assert_true(isnan(cn_exp(NAN)));
    assert_true(cn_exp(INFINITY) == INFINITY);
    assert_true(cn_exp(709.791) == INFINITY && cn_exp(1e300) == INFINITY);
    assert_true(cn_exp(-INFINITY) == 0 && cn_exp(-746) == 0 && cn_exp(-1e300) == 0);
    assert_true(isfinite(cn_exp(709.78)) && cn_exp(-744.5) > 0);
    for (double x = 709.70; x < 709.80; x += 0.001) // no jump where the result overflows
        assert_true(cn_exp(x) >= 1.65e308);
}

static void test_exp_is_close_everywhere(void **state) {
    (void)state;
    for (int i = 0; i < dense_points(); i++) {
        const double x = i % 2 ? uniform(-745, 709.78) : uniform(-2, 2);
        assert_near("exp", x, cn_exp(x), expl(x), exp_bound(x, expl(x)));
    }
}

/* One rounding of a value within 1e-12: the right float, unless the exact value lies that close
 * to the middle between two. */
static void check_exp_f32(float x) {
    const long double want = expl(x);
    const float       got = cn_exp_f32(x);
    if (got != (float)(want * (1 - 1e-12L)) && got != (float)(want * (1 + 1e-12L)))
        t_fail(__FILE__, __LINE__, "exp_f32(%.9g) = %.9g, want %.21Lg", x, got, want);
}

static void test_exp_f32_is_rounded_once(void **state) {
    (void)state;
    for (int i = 0; i < dense_points(); i++) {
        check_exp_f32((float)uniform(-105, 88.72));
        check_exp_f32((float)uniform(-104, -87)); // denormal results
        check_exp_f32((float)uniform(-1e-6, 1e-6));
    }
    assert_true(isnan(cn_exp_f32(NAN)));
    assert_true(cn_exp_f32(INFINITY) == INFINITY && cn_exp_f32(88.73f) == INFINITY);
    assert_true(cn_exp_f32(-INFINITY) == 0 && cn_exp_f32(-104.1f) == 0 && cn_exp_f32(-3e38f) == 0);
    assert_true(cn_exp_f32(3e38f) == INFINITY && cn_exp_f32(1e-45f * 1.4f) == 1);
}

static double log2_bound(long double want) {
    return 1e-14 * fmax(1, fabs((double)want));
}

static void test_log2_values(void **state) {
    (void)state;
    static const struct {
        double x, want;
    } cases[] = {
        {1.0, 0},
        {2.0, 1.0000000000000000000e+0},
        {0.5, -1.0000000000000000000e+0},
        {5e-324, -1.0740000000000000000e+3},
        {2.2250738585072014e-308, -1.0220000000000000000e+3},
        {1.7976931348623157e+308, 1.0239999999999999998e+3},
        {0.9999999999999999, -1.6017132519074589319e-16},
        {1.0000000000000002, 3.2034265038149173303e-16},
        {1.4142135623730951, 5.0000000000000009862e-1},
        {1.414213562373095, 4.9999999999999987210e-1},
        {0.7071067811865476, -4.9999999999999990138e-1},
        {1.1, 1.3750352374993502482e-1},
        {3.0, 1.5849625007211561815e+0},
        {10.0, 3.3219280948873623479e+0},
        {10000.0, 1.3287712379549449391e+1},
        {1000000.0, 1.9931568569324174087e+1},
        {500000.0, 1.8931568569324174087e+1},
        {1e-300, -9.9657842846620870432e+2},
        {1e-20, -6.6438561897747247037e+1},
        {1.934051407833874, 9.5162614271615327782e-1},
        {1.921741230589024, 9.4241408508168152315e-1},
        {0.584827051590213, -7.7391804917085061259e-1},
        {0.6273079927383824, -6.7275415026746174812e-1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_near("log2", cases[i].x, cn_log2(cases[i].x), cases[i].want,
                    log2_bound(cases[i].want));
    for (int e = -1074; e <= 1023; e++) assert_true(cn_log2(ldexp(1, e)) == e); // powers are exact
}

static void test_log2_is_close_everywhere(void **state) {
    (void)state;
    for (int i = 0; i < dense_points(); i++) {
        const double x =
            i % 2 ? ldexp(uniform(0.5, 1), (int)t_rand_range(-1073, 1024)) : uniform(0.5, 2.1);
        assert_near("log2", x, cn_log2(x), log2l(x), log2_bound(log2l(x)));
    }
}

static void test_sincos_values(void **state) {
    (void)state;
    static const struct {
        double x, sin, cos;
    } cases[] = {
        {0.0, 0, 1.0000000000000000000e+0},
        {1e-300, 1.0000000000000000251e-300, 1.0000000000000000000e+0},
        {-1e-09, -1.0000000000000000621e-9, 9.9999999999999999950e-1},
        {0.5, 4.7942553860420300027e-1, 8.7758256189037271612e-1},
        {-0.5, -4.7942553860420300027e-1, 8.7758256189037271612e-1},
        {0.7853981633974483, 7.0710678118654750275e-1, 7.0710678118654754605e-1},
        {-0.7853981633974483, -7.0710678118654750275e-1, 7.0710678118654754605e-1},
        {1.0, 8.4147098480789650665e-1, 5.4030230586813971740e-1},
        {1.5707963267948966, 1.0000000000000000000e+0, 6.1232339957367658861e-17},
        {-1.5707963267948966, -1.0000000000000000000e+0, 6.1232339957367658861e-17},
        {3.141592653589793, 1.2246467991473531772e-16, -1.0000000000000000000e+0},
        {4.71238898038469, -1.0000000000000000000e+0, -1.8369701987210297658e-16},
        {4.0, -7.5680249530792825137e-1, -6.5364362086361191464e-1},
        {-5.0, 9.5892427466313846889e-1, 2.8366218546322626447e-1},
        {6.5, 2.1511998808781552430e-1, 9.7658762572802349989e-1},
        {100.0, -5.0636564110975879366e-1, 8.6231887228768393410e-1},
        {10000.0, -3.0561438888825214136e-1, -9.5215536825901485124e-1},
        {131071.0, -5.7524168375478937114e-1, -8.1798349938794908071e-1},
        {1048577.0, 9.7275358431344131282e-1, 2.3184146351624125102e-1},
        {16777216.0, -7.7956367321777775220e-1, 6.2632298329153291749e-1},
        {16777215.0, -9.4823266776874818665e-1, -3.1757645973239707973e-1},
        {33554432.0, -9.7651729095092848483e-1, -2.1543904120158835572e-1},
        {-33554432.0, 9.7651729095092848483e-1, -2.1543904120158835572e-1},
        {33554431.0, -3.4632884185492620241e-1, -9.3811317723365634250e-1},
        {1572.3671231216915, 1.0000000000000000000e+0, -4.4316307604842406729e-15},
        {102945.27886915713, 1.0000000000000000000e+0, 6.5762667830405656793e-12},
        {1647097.7583689587, -1.0000000000000000000e+0, -3.4357570380748242434e-12},
        {15707964.838745292, 9.9999999999999999975e-1, 7.1106580843775826850e-10},
        {26353584.554255586, 9.9999999999999999842e-1, 1.7763177530704807408e-9},
        {33554430.64634508, 8.2544071231292206932e-10, -9.9999999999999999966e-1},
        {7984767.898160227, 9.8177300649277284242e-1, -1.9005726432352385675e-1},
        {18261302.532605696, -3.9922706973631272906e-1, -9.1685208555674742113e-1},
        {12413635.4789862, 3.1962471299092374701e-1, -9.4754421682867634951e-1},
        {20264193.868513383, -6.9341059959995758176e-1, -7.2054267074367449037e-1},
        {20995689.39521302, -9.9998505123895651260e-1, 5.4678422271969457583e-3},
        {2198783.6513998806, 9.7322872731169080918e-1, -2.2983873549788462938e-1},
        {441844.4772045985, -9.9404681081538730534e-1, -1.0895383383689442138e-1},
        {28100799.367308084, 7.0327866404946342937e-1, 7.1091428505326994515e-1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        double s, c;
        cn_sincos(&s, &c, cases[i].x);
        assert_near("sin", cases[i].x, s, cases[i].sin, 1e-15);
        assert_near("cos", cases[i].x, c, cases[i].cos, 1e-15);
    }
}

static void test_sincos_is_close_everywhere(void **state) {
    (void)state;
    for (int i = 0; i < dense_points(); i++) {
        const double x = i % 3 == 0   ? uniform(-33554432, 33554432)
                         : i % 3 == 1 ? uniform(-10, 10)
                                      : (double)t_rand_range(0, 1 << 24); // angles of pair 0
        double       s, c;
        cn_sincos(&s, &c, x);
        assert_near("sin", x, s, sinl(x), 1e-15);
        assert_near("cos", x, c, cosl(x), 1e-15);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp_values),
        cmocka_unit_test(test_exp_limits),
        cmocka_unit_test(test_exp_is_close_everywhere),
        cmocka_unit_test(test_exp_f32_is_rounded_once),
        cmocka_unit_test(test_log2_values),
        cmocka_unit_test(test_log2_is_close_everywhere),
        cmocka_unit_test(test_sincos_values),
        cmocka_unit_test(test_sincos_is_close_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

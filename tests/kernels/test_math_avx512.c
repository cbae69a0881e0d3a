/*
 * test_math_avx512.c - The vectors of avx512_int.h against the scalar functions of math_int.h.
 *
 * Compiled with the flags of the AVX-512 files; skipped where the processor cannot run them.
 */
#include "tests/test.h"

#include "kernels/avx512_int.h"
#include "kernels/math_int.h"

#include <float.h>
#include <math.h>

static void v_exp16(float y[16], const float x[16]) {
    _mm512_storeu_ps(y, v_exp(_mm512_loadu_ps(x)));
}

/* The distance to the float below or above, at least that of denormals. */
static double ulp(double want) {
    int e;
    frexp(want, &e);
    return ldexp(1, e - 24 < -149 ? -149 : e - 24);
}

/* The error in ulp; above the largest float there is only infinity. */
static double check_exp(float x, float got) {
    const double want = cn_exp(x);
    const double error = want > FLT_MAX ? (got == INFINITY ? 0 : 3) : fabs(got - want) / ulp(want);
    if (!(error <= 2) || (x < -104 && got != 0))
        t_fail(__FILE__, __LINE__, "v_exp(%.9g) = %.9g, want %.17g", x, got, want);
    return error;
}

static void test_v_exp_is_within_2_ulp(void **state) {
    (void)state;
    static const float ranges[][2] = {
        {-106, 90}, {-1, 1}, {-104.1f, -87}, {88.6f, 88.722f}, {-1e-7f, 1e-7f}};
    const int runs = t_is_sanitized() ? 1000 : 15000;
    double    worst = 0;
    for (size_t k = 0; k < sizeof(ranges) / sizeof(ranges[0]); k++)
        for (int i = 0; i < runs; i++) {
            float x[16], y[16];
            for (int l = 0; l < 16; l++)
                x[l] = ranges[k][0] +
                       (ranges[k][1] - ranges[k][0]) * ((float)(t_rand() >> 40) / 16777216.0f);
            v_exp16(y, x);
            for (int l = 0; l < 16; l++) worst = fmax(worst, check_exp(x[l], y[l]));
        }
    print_message("v_exp: at most %.3f ulp from exp\n", worst);
    assert_true(worst > 0.4); // or nothing was measured
}

/* 88.72283 is the last argument with a finite result. */
static void test_v_exp_limits(void **state) {
    (void)state;
    const float x[16] = {0,       -0.0f,     1.4e-45f,   -1.4e-45f, INFINITY, -INFINITY,
                         NAN,     -NAN,      88.72283f,  88.73f,    3e38f,    -3e38f,
                         -103.5f, -104.001f, -87.33655f, 1e-20f};
    float       y[16];
    v_exp16(y, x);
    for (int l = 0; l < 4; l++) assert_true(y[l] == 1);
    assert_true(y[4] == INFINITY && y[5] == 0 && isnan(y[6]) && isnan(y[7]));
    assert_true(isfinite(y[8]) && y[8] > 3.4e38f);
    assert_true(y[9] == INFINITY && y[10] == INFINITY && y[11] == 0);
    assert_true(y[12] == 1.4e-45f && y[13] == 0 && y[15] == 1);
    for (int l = 8; l < 16; l++) check_exp(x[l], y[l]);
}

/* A lane's bits depend on that lane alone. */
static void test_v_exp_lanes_are_apart(void **state) {
    (void)state;
    for (int i = 0; i < 1000; i++) {
        float x[16], y[16], one[16], same[16];
        for (int l = 0; l < 16; l++) x[l] = t_rand_f32() * 30;
        v_exp16(y, x);
        for (int l = 0; l < 16; l++) {
            for (int m = 0; m < 16; m++) one[m] = m == 15 - l ? x[l] : NAN;
            v_exp16(same, one);
            assert_memory_equal(&same[15 - l], &y[l], sizeof(float));
        }
    }
}

static void test_v_sum_has_the_stated_order(void **state) {
    (void)state;
    for (int i = 0; i < 1000; i++) {
        float x[16], s[16];
        for (int l = 0; l < 16; l++) s[l] = x[l] = t_rand_f32() * (l % 3 ? 1 : 1000);
        for (int step = 8; step >= 1; step /= 2)
            for (int l = 0; l < step; l++) s[l] += s[l + step];
        assert_true(v_sum(_mm512_loadu_ps(x)) == s[0]);
    }
}

static void test_v_from_bf16_takes_any_address(void **state) {
    (void)state;
    cn_bf16 *b = t_alloc(17 * sizeof(cn_bf16));
    float    y[16];
    for (int i = 0; i < 17; i++) b[i] = (cn_bf16)t_rand();
    _mm512_storeu_ps(y, v_from_bf16(b + 1));
    for (int i = 0; i < 16; i++) {
        const float want = cn_f32_from_bf16(b[i + 1]);
        assert_memory_equal(&y[i], &want, sizeof(float));
    }
    t_free(b);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v_exp_is_within_2_ulp),
        cmocka_unit_test(test_v_exp_limits),
        cmocka_unit_test(test_v_exp_lanes_are_apart),
        cmocka_unit_test(test_v_sum_has_the_stated_order),
        cmocka_unit_test(test_v_from_bf16_takes_any_address),
    };
    if (!cn_isa_is_supported(CN_ISA_AVX512)) {
        print_message("avx512 vectors: skipped, this processor has no AVX-512\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_math_simd.c - The vectors of simd_int.h against the scalar functions of math_int.h.
 *
 * Compiled twice, as the files are that use them; skipped where the processor cannot run them.
 */
#include "tests/test.h"

#include "kernels/math_int.h"
#include "kernels/simd_int.h"

#include <float.h>
#include <math.h>

static void v_exp16(float y[16], const float x[16]) {
    v_storeu(y, v_exp(v_loadu(x)));
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
        assert_true(v_sum(v_loadu(x)) == s[0]);
    }
}

static void test_v_from_bf16_takes_any_address(void **state) {
    (void)state;
    cn_bf16 *b = t_alloc(17 * sizeof(cn_bf16));
    float    y[16];
    for (int i = 0; i < 17; i++) b[i] = (cn_bf16)t_rand();
    v_storeu(y, v_from_bf16(b + 1));
    for (int i = 0; i < 16; i++) {
        const float want = cn_f32_from_bf16(b[i + 1]);
        assert_memory_equal(&y[i], &want, sizeof(float));
    }
    t_free(b);
}

/* Not one bit away from cn_exp, down to denormals and past them. */
static void test_v_exp_f64_has_the_bits_of_cn_exp(void **state) {
    (void)state;
    static const double ranges[][2] = {{-760, 0}, {-1, 1}, {-745.5, -700}, {-1e-9, 1e-9}, {0, 700}};
    const int           runs = t_is_sanitized() ? 1000 : 20000;
    for (size_t k = 0; k < sizeof(ranges) / sizeof(ranges[0]); k++)
        for (int i = 0; i < runs; i++) {
            double x[8], y[8];
            for (int l = 0; l < 8; l++)
                x[l] = ranges[k][0] +
                       (ranges[k][1] - ranges[k][0]) * ((double)(t_rand() >> 11) * 0x1p-53);
            if (i == 0) x[0] = 0, x[1] = -0.0, x[2] = -INFINITY, x[3] = -745.2, x[4] = -744.4;
            v_storeu_f64(y, v_exp_f64(v_loadu_f64(x)));
            for (int l = 0; l < 8; l++) {
                const double want = cn_exp(x[l]);
                if (memcmp(&y[l], &want, sizeof(want)) != 0)
                    t_fail(__FILE__, __LINE__, "v_exp_f64(%.17g) = %.17g, want %.17g", x[l], y[l],
                           want);
            }
        }
}

static void test_v_sum_f64_has_the_stated_order(void **state) {
    (void)state;
    for (int i = 0; i < 1000; i++) {
        double x[8], s[8];
        for (int l = 0; l < 8; l++) s[l] = x[l] = (double)t_rand_f32() * (l % 3 ? 1 : 1e9);
        for (int step = 4; step >= 1; step /= 2)
            for (int l = 0; l < step; l++) s[l] += s[l + step];
        assert_true(v_sum_f64(v_loadu_f64(x)) == s[0]);
    }
}

/* Every set of lanes; nothing is written past the whole vector. */
static void test_v_compress_keeps_order(void **state) {
    (void)state;
    int32_t *got = t_alloc(16 * 4), in[16];
    double  *got64 = t_alloc(8 * 8), in64[8];
    for (int l = 0; l < 16; l++) in[l] = (int32_t)t_rand();
    for (int l = 0; l < 8; l++) in64[l] = t_rand_f32();
    for (uint32_t bits = 0; bits < 1 << 16; bits++) {
        int n = 0;
        assert_int_equal(v_compress(got, bits, v_loadu_i32(in)), __builtin_popcount(bits));
        for (int l = 0; l < 16; l++)
            if (bits >> l & 1) assert_int_equal(got[n++], in[l]);
        assert_int_equal(v_bits(v_mask_from(bits)), bits);
    }
    for (uint32_t bits = 0; bits < 1 << 8; bits++) {
        int n = 0;
        assert_int_equal(v_compress_f64(got64, bits, v_loadu_f64(in64)), __builtin_popcount(bits));
        for (int l = 0; l < 8; l++)
            if (bits >> l & 1) assert_true(got64[n++] == in64[l]);
    }
    t_free(got), t_free(got64);
}

static void test_first_lanes(void **state) {
    (void)state;
    float in[16], out[16];
    for (int l = 0; l < 16; l++) in[l] = t_rand_f32();
    for (int n = 1; n <= 20; n++) {
        const int some = n < 16 ? n : 16;
        assert_int_equal(v_bits(v_lanes(n)), (1u << some) - 1);
        assert_int_equal(v_bits_f64(v_lanes_f64(n)), n < 8 ? (1u << n) - 1 : 255);
        float *end = t_alloc((size_t)some * 4); // what lies behind it is not read or written
        memset(end, 0, (size_t)some * 4);
        v_store_first(end, n, v_loadu(in));
        assert_memory_equal(end, in, (size_t)some * 4);
        v_storeu(out, v_load_first(end, n));
        for (int l = 0; l < 16; l++) assert_true(out[l] == (l < n ? in[l] : 0));
        t_free(end);
    }
}

/* As cn_bf16_from_f32 rounds; the AVX-512 instruction takes denormals for 0. */
static void test_v_store_terms_rounds(void **state) {
    (void)state;
    static const uint32_t special[] = {0x80000000, 0x3f808000, 0x3f818000, 0x7f7fffff,
                                       0xff800000, 0x7fffffff, 0x7f800001, 0xffffffff};
    v_term               *terms = t_alloc(16 * sizeof(v_term));
    for (int i = 0; i < 1000; i++) {
        float x[16];
        for (int l = 0; l < 16; l++) {
            const uint32_t bits =
                l < 8 ? special[l] : ((uint32_t)t_rand() & 0xbfffffff) | 0x00800000;
            memcpy(&x[l], &bits, 4);
        }
        v_store_terms(terms, v_loadu(x));
        for (int l = 0; l < 16; l++) {
            const float want = cn_f32_from_bf16(cn_bf16_from_f32(x[l]));
            const float got = V_PICK(cn_f32_from_bf16((cn_bf16)terms[l]), (float)terms[l]);
            assert_true(isnan(want) ? isnan(got) : memcmp(&got, &want, 4) == 0);
        }
    }
    t_free(terms);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v_exp_is_within_2_ulp),
        cmocka_unit_test(test_v_exp_limits),
        cmocka_unit_test(test_v_exp_lanes_are_apart),
        cmocka_unit_test(test_v_sum_has_the_stated_order),
        cmocka_unit_test(test_v_from_bf16_takes_any_address),
        cmocka_unit_test(test_v_exp_f64_has_the_bits_of_cn_exp),
        cmocka_unit_test(test_v_sum_f64_has_the_stated_order),
        cmocka_unit_test(test_v_compress_keeps_order),
        cmocka_unit_test(test_first_lanes),
        cmocka_unit_test(test_v_store_terms_rounds),
    };
    const cn_isa isa = V_PICK(CN_ISA_AVX512, CN_ISA_AVX2);
    if (!cn_isa_is_supported(isa)) {
        print_message("%s vectors: skipped, this processor cannot run them\n", cn_isa_name(isa));
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * simd_int.h - Vectors of 16 lanes: one register of AVX-512, or two of AVX2.
 *
 * A file named *_simd.c is written with these and compiled twice, once for each path (see the
 * Makefile); CN_SIMD(op) is the name of its variant there.  The same source is the same order
 * of sums.  AVX2 has 16 registers of half a vector where AVX-512 has 32 of a whole one, so
 * V_PICK(avx512, avx2) gives a block of sums the size that fits.
 *
 * Include from *_simd.c files only.
 *
 * Layer: kernels -> base.  Private to kernels.
 */
#ifndef CN_KERNELS_SIMD_INT_H
#define CN_KERNELS_SIMD_INT_H

#include "kernels/math_int.h"
#include "kernels/types.h"

#ifdef __AVX2__

#include <immintrin.h>

#define V_INLINE static inline __attribute__((always_inline))

enum { V_LANES = 16 };

#ifdef __AVX512F__

#define CN_SIMD(op) cn_##op##_avx512
#define V_PICK(avx512, avx2) avx512

typedef __m512    v_f32;
typedef __m512i   v_i32;
typedef __m512d   v_f64;      // 8 lanes
typedef __mmask16 v_mask;     // a bit a lane
typedef __mmask8  v_mask_f64; // likewise

#define V_MAP1(type, op, a) _mm512_##op(a)
#define V_MAP2(type, op, a, b) _mm512_##op(a, b)
#define V_MAP3(type, op, a, b, c) _mm512_##op(a, b, c)
#define V_BITS(op) op##_si512

#else

#define CN_SIMD(op) cn_##op##_avx2
#define V_PICK(avx512, avx2) avx2

typedef struct v_f32 {
    __m256 lo, hi;
} v_f32;

typedef struct v_i32 {
    __m256i lo, hi;
} v_i32;

typedef struct v_f64 { // 8 lanes
    __m256d lo, hi;
} v_f64;

typedef v_i32 v_mask;     // all bits of a lane or none
typedef v_f64 v_mask_f64; // likewise

// clang-format off
#define V_MAP1(type, op, a) ((type){_mm256_##op((a).lo), _mm256_##op((a).hi)})
#define V_MAP2(type, op, a, b) ((type){_mm256_##op((a).lo, (b).lo), _mm256_##op((a).hi, (b).hi)})
#define V_MAP3(type, op, a, b, c)                                                                  \
    ((type){_mm256_##op((a).lo, (b).lo, (c).lo), _mm256_##op((a).hi, (b).hi, (c).hi)})
#define V_BITS(op) op##_si256
// clang-format on

#endif

/* ---- Lane by lane, one instruction ---- */

// clang-format off
#define V_OP2(name, type, op) V_INLINE type name(type a, type b) { return V_MAP2(type, op, a, b); }
#define V_OP3(name, op) V_INLINE v_f32 name(v_f32 a, v_f32 b, v_f32 c) { return V_MAP3(v_f32, op, a, b, c); }
V_OP2(v_add, v_f32, add_ps)
V_OP2(v_sub, v_f32, sub_ps)
V_OP2(v_mul, v_f32, mul_ps)
V_OP2(v_div, v_f32, div_ps)
V_OP2(v_min, v_f32, min_ps)            // min and max give b if either is a NaN
V_OP2(v_max, v_f32, max_ps)
V_OP2(v_xor_f32, v_f32, xor_ps)
V_OP3(v_fma, fmadd_ps)                 // a b + c
V_OP3(v_fms, fmsub_ps)                 // a b - c
V_OP3(v_fnma, fnmadd_ps)               // c - a b
V_OP3(v_fmaddsub, fmaddsub_ps)         // a b - c in even lanes, a b + c in odd ones
V_OP2(v_add_i32, v_i32, add_epi32)
V_OP2(v_max_i32, v_i32, max_epi32)
V_OP2(v_and, v_i32, V_BITS(and))
V_OP2(v_or, v_i32, V_BITS(or))
V_OP2(v_xor, v_i32, V_BITS(xor))
V_OP2(v_add_f64, v_f64, add_pd)
V_OP2(v_and_f64, v_f64, and_pd)
V_OP2(v_or_f64, v_f64, or_pd)
V_OP2(v_sub_f64, v_f64, sub_pd)
V_OP2(v_mul_f64, v_f64, mul_pd)
// clang-format on

/* ---- What the two paths say differently ---- */

#ifdef __AVX512F__

V_INLINE v_f32 v_zero(void) {
    return _mm512_setzero_ps();
}

V_INLINE v_f32 v_set1(float x) {
    return _mm512_set1_ps(x);
}

V_INLINE v_i32 v_set1_i32(int32_t x) {
    return _mm512_set1_epi32(x);
}

V_INLINE v_f64 v_set1_f64(double x) {
    return _mm512_set1_pd(x);
}

/* 0, 1, ..., 15. */
V_INLINE v_i32 v_iota(void) {
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

V_INLINE v_f32 v_load(const float *p) { // 64-byte aligned
    return _mm512_load_ps(p);
}

V_INLINE v_f32 v_loadu(const float *p) {
    return _mm512_loadu_ps(p);
}

V_INLINE void v_store(float *p, v_f32 v) {
    _mm512_store_ps(p, v);
}

V_INLINE void v_storeu(float *p, v_f32 v) {
    _mm512_storeu_ps(p, v);
}

V_INLINE v_i32 v_loadu_i32(const void *p) {
    return _mm512_loadu_si512(p);
}

V_INLINE void v_storeu_i32(void *p, v_i32 v) {
    _mm512_storeu_si512(p, v);
}

V_INLINE v_f64 v_loadu_f64(const double *p) {
    return _mm512_loadu_pd(p);
}

V_INLINE void v_storeu_f64(double *p, v_f64 v) {
    _mm512_storeu_pd(p, v);
}

V_INLINE v_f64 v_f64_from_f32(const float *p) { // 8 of them
    return _mm512_cvtps_pd(_mm256_loadu_ps(p));
}

/* a b + c */
V_INLINE v_f64 v_fma_f64(v_f64 a, v_f64 b, v_f64 c) {
    return _mm512_fmadd_pd(a, b, c);
}

V_INLINE float v_first(v_f32 v) {
    return _mm512_cvtss_f32(v);
}

V_INLINE v_i32 v_as_i32(v_f32 v) {
    return _mm512_castps_si512(v);
}

/* 16 bf16 as f32, in order. */
V_INLINE v_f32 v_from_bf16(const cn_bf16 *p) {
    const __m256i half = _mm256_loadu_si256((const __m256i *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Products of bf16.  Elements of 16 rows lie in pairs, [16 rows][2]; the other factor is an array
 * of v_term.  One instruction multiplies both of a pair (V_STEPS is 1), or step 0 the first and
 * step 1 the second. */
enum { V_STEPS = 1 };

typedef cn_bf16  v_term;
typedef __m512bh v_factor;

V_INLINE v_factor v_load_pairs(const void *p, int step) { // 64-byte aligned
    (void)step;
    return (__m512bh)_mm512_load_si512(p);
}

V_INLINE v_factor v_set1_terms(const v_term *p, int step) {
    (void)step;
    int32_t both;
    memcpy(&both, p, sizeof(both));
    return (__m512bh)_mm512_set1_epi32(both);
}

V_INLINE v_f32 v_add_products(v_f32 sum, v_factor a, v_factor b) {
    return _mm512_dpbf16_ps(sum, a, b);
}

/* 16 terms: rounded to bf16, nearest, ties to even. */
V_INLINE void v_store_terms(v_term *p, v_f32 v) {
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(v));
}

/* Each of 8 floats twice: 0, 0, 1, 1, ... */
V_INLINE v_f32 v_twice(const float *p) {
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}

/* Lanes 2i and 2i + 1 exchanged. */
V_INLINE v_f32 v_swap(v_f32 v) {
    return _mm512_permute_ps(v, 0xB1);
}

V_INLINE v_i32 v_sign_i32(v_i32 v) { // -1 or 0
    return _mm512_srai_epi32(v, 31);
}

/* The nearest integer, ties to even. */
V_INLINE v_f32 v_round(v_f32 v) {
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* v 2^n, rounded once, for whole n in -160..160. */
V_INLINE v_f32 v_scale(v_f32 v, v_f32 n) {
    return _mm512_scalef_ps(v, n);
}

/* Lanes 0..n-1. */
V_INLINE v_mask v_lanes(int64_t n) {
    return n >= V_LANES ? 0xffff : (v_mask)((1u << n) - 1);
}

V_INLINE v_mask v_mask_from(uint32_t bits) {
    return (v_mask)bits;
}

V_INLINE uint32_t v_bits(v_mask m) {
    return m;
}

V_INLINE v_mask v_or_mask(v_mask a, v_mask b) {
    return a | b;
}

V_INLINE v_mask v_and_mask(v_mask a, v_mask b) {
    return a & b;
}

/* The lanes, the second time only those in the mask, in which a and b are in this order. */
#define V_COMPARE(a, b, order) _mm512_cmp_ps_mask(a, b, order)
#define V_COMPARE_WHERE(m, a, b, order) _mm512_mask_cmp_ps_mask(m, a, b, order)

V_INLINE v_mask v_equal_where_i32(v_mask m, v_i32 a, v_i32 b) {
    return _mm512_mask_cmpeq_epi32_mask(m, a, b);
}

/* a where the mask is set, else b. */
V_INLINE v_f32 v_select(v_mask m, v_f32 a, v_f32 b) {
    return _mm512_mask_mov_ps(b, m, a);
}

/* v where the mask is set, else 0. */
V_INLINE v_f32 v_keep(v_mask m, v_f32 v) {
    return _mm512_maskz_mov_ps(m, v);
}

/* a & b, and a | b, where the mask is set, else a. */
V_INLINE v_i32 v_and_where(v_mask m, v_i32 a, v_i32 b) {
    return _mm512_mask_and_epi32(a, m, a, b);
}

V_INLINE v_i32 v_or_where(v_mask m, v_i32 a, v_i32 b) {
    return _mm512_mask_or_epi32(a, m, a, b);
}

/* The lanes in the mask; the others are 0 and their memory is not touched. */
V_INLINE v_f32 v_load_where(v_mask m, const float *p) {
    return _mm512_maskz_loadu_ps(m, p);
}

V_INLINE v_i32 v_load_where_i32(v_mask m, const int32_t *p) {
    return _mm512_maskz_loadu_epi32(m, p);
}

V_INLINE v_f32 v_gather_where(v_mask m, const float *p, v_i32 at) {
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), m, at, p, 4);
}

/* The first n lanes, n >= 1; all if n is 16 or more.  Those loaded beyond are 0. */
V_INLINE v_f32 v_load_first(const float *p, int64_t n) {
    return _mm512_maskz_loadu_ps(v_lanes(n), p);
}

V_INLINE void v_store_first(float *p, int64_t n, v_f32 v) {
    _mm512_mask_storeu_ps(p, v_lanes(n), v);
}

/* Write the lanes whose bits are set side by side and return their number; up to all 16
 * lanes from p on are written, what lies behind the number is undefined. */
V_INLINE int v_compress(int32_t *p, uint32_t bits, v_i32 v) {
    _mm512_storeu_si512(p, _mm512_maskz_compress_epi32((__mmask16)bits, v));
    return __builtin_popcount(bits);
}

V_INLINE v_mask_f64 v_lanes_f64(int64_t n) {
    return n >= 8 ? 0xff : (v_mask_f64)((1u << n) - 1);
}

V_INLINE uint32_t v_bits_f64(v_mask_f64 m) {
    return m;
}

V_INLINE v_mask_f64 v_and_mask_f64(v_mask_f64 a, v_mask_f64 b) {
    return a & b;
}

#define V_COMPARE_F64(a, b, order) _mm512_cmp_pd_mask(a, b, order)

/* The lanes in whose representation `bit` is set. */
V_INLINE v_mask_f64 v_has_bit(v_f64 v, uint64_t bit) {
    return _mm512_test_epi64_mask(_mm512_castpd_si512(v), _mm512_set1_epi64((int64_t)bit));
}

V_INLINE v_f64 v_select_f64(v_mask_f64 m, v_f64 a, v_f64 b) {
    return _mm512_mask_mov_pd(b, m, a);
}

V_INLINE v_f64 v_keep_f64(v_mask_f64 m, v_f64 v) {
    return _mm512_maskz_mov_pd(m, v);
}

/* As v_compress; up to 8 lanes are written. */
V_INLINE int v_compress_f64(double *p, uint32_t bits, v_f64 v) {
    _mm512_storeu_pd(p, _mm512_maskz_compress_pd((__mmask8)bits, v));
    return __builtin_popcount(bits);
}

/* v 2^n for whole n in -1075..1023; only the second factor can round. */
V_INLINE v_f64 v_scale_f64(v_f64 v, v_f64 n) {
    const __m256i whole = _mm512_cvtpd_epi32(n), half = _mm256_srai_epi32(whole, 1);
    const __m512i bias = _mm512_set1_epi64(1023);
    const __m512i a = _mm512_add_epi64(_mm512_cvtepi32_epi64(half), bias);
    const __m512i b = _mm512_add_epi64(_mm512_cvtepi32_epi64(_mm256_sub_epi32(whole, half)), bias);
    v = _mm512_mul_pd(v, _mm512_castsi512_pd(_mm512_slli_epi64(a, 52)));
    return _mm512_mul_pd(v, _mm512_castsi512_pd(_mm512_slli_epi64(b, 52)));
}

/* Lanes i and i + 8 added, i + 4, i + 2, i + 1: one fixed order. */
V_INLINE float v_sum(v_f32 v) {
    v = _mm512_add_ps(v, _mm512_shuffle_f32x4(v, v, _MM_SHUFFLE(1, 0, 3, 2)));
    v = _mm512_add_ps(v, _mm512_shuffle_f32x4(v, v, _MM_SHUFFLE(2, 3, 0, 1)));
    v = _mm512_add_ps(v, _mm512_permute_ps(v, _MM_SHUFFLE(1, 0, 3, 2)));
    v = _mm512_add_ps(v, _mm512_permute_ps(v, _MM_SHUFFLE(2, 3, 0, 1)));
    return _mm512_cvtss_f32(v);
}

/* Lane 4j + r of the result: the sum of lanes 4j..4j+3 of the r-th of four vectors, each as
 * (0 + 2) + (1 + 3). */
V_INLINE v_f32 v_sum_quads(v_f32 a, v_f32 b, v_f32 c, v_f32 d) {
    const __m512d ab =
        _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
    const __m512d cd =
        _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)));
    return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
                         _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
}

/* Lane 4i + r of the result: the sum over j of lane 4j + r of the i-th of four vectors, each
 * as (0 + 1) + (2 + 3).  After v_sum_quads: the sums of 16 vectors' lanes, in their order. */
V_INLINE v_f32 v_sum_columns(v_f32 a, v_f32 b, v_f32 c, v_f32 d) {
    const __m512 ab =
        _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    const __m512 cd =
        _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x88), _mm512_shuffle_f32x4(c, d, 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

V_INLINE float v_max_lane(v_f32 v) { // no NaN
    return _mm512_reduce_max_ps(v);
}

V_INLINE int32_t v_max_lane_i32(v_i32 v) {
    return _mm512_reduce_max_epi32(v);
}

V_INLINE uint32_t v_and_lanes(v_i32 v) {
    return (uint32_t)_mm512_reduce_and_epi32(v);
}

V_INLINE uint32_t v_or_lanes(v_i32 v) {
    return (uint32_t)_mm512_reduce_or_epi32(v);
}

/* Lanes i and i + 4 added, then i + 2, i + 1. */
V_INLINE double v_sum_f64(v_f64 v) {
    const __m256d s4 = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
    const __m128d s2 = _mm_add_pd(_mm256_castpd256_pd128(s4), _mm256_extractf128_pd(s4, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s2, _mm_unpackhi_pd(s2, s2)));
}

#else

V_INLINE v_f32 v_zero(void) {
    return (v_f32){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

V_INLINE v_f32 v_set1(float x) {
    return (v_f32){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

V_INLINE v_i32 v_set1_i32(int32_t x) {
    return (v_i32){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}

V_INLINE v_f64 v_set1_f64(double x) {
    return (v_f64){_mm256_set1_pd(x), _mm256_set1_pd(x)};
}

V_INLINE v_i32 v_iota(void) {
    return (v_i32){_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                   _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
}

V_INLINE v_f32 v_load(const float *p) {
    return (v_f32){_mm256_load_ps(p), _mm256_load_ps(p + 8)};
}

V_INLINE v_f32 v_loadu(const float *p) {
    return (v_f32){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

V_INLINE void v_store(float *p, v_f32 v) {
    _mm256_store_ps(p, v.lo);
    _mm256_store_ps(p + 8, v.hi);
}

V_INLINE void v_storeu(float *p, v_f32 v) {
    _mm256_storeu_ps(p, v.lo);
    _mm256_storeu_ps(p + 8, v.hi);
}

V_INLINE v_i32 v_loadu_i32(const void *p) {
    return (v_i32){_mm256_loadu_si256((const __m256i *)p),
                   _mm256_loadu_si256((const __m256i *)p + 1)};
}

V_INLINE void v_storeu_i32(void *p, v_i32 v) {
    _mm256_storeu_si256((__m256i *)p, v.lo);
    _mm256_storeu_si256((__m256i *)p + 1, v.hi);
}

V_INLINE v_f64 v_loadu_f64(const double *p) {
    return (v_f64){_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)};
}

V_INLINE void v_storeu_f64(double *p, v_f64 v) {
    _mm256_storeu_pd(p, v.lo);
    _mm256_storeu_pd(p + 4, v.hi);
}

V_INLINE v_f64 v_f64_from_f32(const float *p) {
    return (v_f64){_mm256_cvtps_pd(_mm_loadu_ps(p)), _mm256_cvtps_pd(_mm_loadu_ps(p + 4))};
}

V_INLINE v_f64 v_fma_f64(v_f64 a, v_f64 b, v_f64 c) {
    return V_MAP3(v_f64, fmadd_pd, a, b, c);
}

V_INLINE float v_first(v_f32 v) {
    return _mm256_cvtss_f32(v.lo);
}

V_INLINE v_i32 v_as_i32(v_f32 v) {
    return V_MAP1(v_i32, castps_si256, v);
}

V_INLINE v_f32 v_as_f32(v_i32 v) {
    return V_MAP1(v_f32, castsi256_ps, v);
}

V_INLINE v_f32 v_from_bf16(const cn_bf16 *p) {
    const __m256i lo = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    const __m256i hi = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p + 1));
    return v_as_f32((v_i32){_mm256_slli_epi32(lo, 16), _mm256_slli_epi32(hi, 16)});
}

enum { V_STEPS = 2 };

typedef float v_term;
typedef v_f32 v_factor;

/* The and reads memory, also where step 0 had just read it: else the pairs would stay in two
 * registers that the sums need. */
V_INLINE v_factor v_load_pairs(const void *p, int step) {
    const __m256i *both = p, second = _mm256_set1_epi32((int32_t)0xffff0000);
    v_i32          v;
    if (step == 0) {
        v.lo = _mm256_slli_epi32(_mm256_load_si256(both), 16);
        v.hi = _mm256_slli_epi32(_mm256_load_si256(both + 1), 16);
    } else {
        __asm__("vpand %1, %2, %0" : "=x"(v.lo) : "m"(both[0]), "x"(second));
        __asm__("vpand %1, %2, %0" : "=x"(v.hi) : "m"(both[1]), "x"(second));
    }
    return v_as_f32(v);
}

V_INLINE v_factor v_set1_terms(const v_term *p, int step) {
    return v_set1(p[step]);
}

/* v_fma(a, b, sum), but the sum stays in its registers: gcc, free to choose among the three forms
 * of the instruction, moves sums about until some are in memory. */
V_INLINE v_f32 v_add_products(v_f32 sum, v_factor a, v_factor b) {
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum.lo) : "x"(a.lo), "x"(b.lo));
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum.hi) : "x"(a.hi), "x"(b.hi));
    return sum;
}

V_INLINE v_f32 v_twice(const float *p) {
    const __m256  v = _mm256_loadu_ps(p);
    const __m256i lo = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    const __m256i hi = _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7);
    return (v_f32){_mm256_permutevar8x32_ps(v, lo), _mm256_permutevar8x32_ps(v, hi)};
}

V_INLINE v_f32 v_swap(v_f32 v) {
    return (v_f32){_mm256_permute_ps(v.lo, 0xB1), _mm256_permute_ps(v.hi, 0xB1)};
}

V_INLINE v_i32 v_sign_i32(v_i32 v) {
    return (v_i32){_mm256_srai_epi32(v.lo, 31), _mm256_srai_epi32(v.hi, 31)};
}

V_INLINE v_f32 v_round(v_f32 v) {
    return (v_f32){_mm256_round_ps(v.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                   _mm256_round_ps(v.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

/* 2^n, n in -126..127. */
V_INLINE __m256 v_exponent(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* Two factors, as n goes past one exponent; only the second can round. */
V_INLINE v_f32 v_scale(v_f32 v, v_f32 n) {
    const v_i32 whole = V_MAP1(v_i32, cvtps_epi32, n);
    const v_i32 half = {_mm256_srai_epi32(whole.lo, 1), _mm256_srai_epi32(whole.hi, 1)};
    const v_i32 rest = V_MAP2(v_i32, sub_epi32, whole, half);
    v = v_mul(v, (v_f32){v_exponent(half.lo), v_exponent(half.hi)});
    return v_mul(v, (v_f32){v_exponent(rest.lo), v_exponent(rest.hi)});
}

V_INLINE v_mask v_lanes(int64_t n) {
    if (n >= V_LANES) return v_set1_i32(-1);
    const __m256i end = _mm256_set1_epi32((int32_t)n);
    const v_i32   lane = v_iota();
    return (v_mask){_mm256_cmpgt_epi32(end, lane.lo), _mm256_cmpgt_epi32(end, lane.hi)};
}

V_INLINE v_mask v_mask_from(uint32_t bits) {
    const v_i32 bit = {_mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128),
                       _mm256_setr_epi32(256, 512, 1024, 2048, 4096, 8192, 16384, 32768)};
    return V_MAP2(v_mask, cmpeq_epi32, v_and(v_set1_i32((int32_t)bits), bit), bit);
}

V_INLINE uint32_t v_bits(v_mask m) {
    return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(m.lo)) |
           (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(m.hi)) << 8;
}

V_INLINE v_mask v_or_mask(v_mask a, v_mask b) {
    return v_or(a, b);
}

V_INLINE v_mask v_and_mask(v_mask a, v_mask b) {
    return v_and(a, b);
}

#define V_COMPARE(a, b, order)                                                                     \
    ((v_mask){_mm256_castps_si256(_mm256_cmp_ps((a).lo, (b).lo, order)),                           \
              _mm256_castps_si256(_mm256_cmp_ps((a).hi, (b).hi, order))})

#define V_COMPARE_WHERE(m, a, b, order) v_and_mask(m, V_COMPARE(a, b, order))

V_INLINE v_mask v_equal_where_i32(v_mask m, v_i32 a, v_i32 b) {
    return v_and(m, V_MAP2(v_i32, cmpeq_epi32, a, b));
}

V_INLINE v_f32 v_select(v_mask m, v_f32 a, v_f32 b) {
    const v_f32 f = v_as_f32(m);
    return V_MAP3(v_f32, blendv_ps, b, a, f);
}

V_INLINE v_f32 v_keep(v_mask m, v_f32 v) {
    const v_f32 f = v_as_f32(m);
    return V_MAP2(v_f32, and_ps, f, v);
}

V_INLINE v_i32 v_and_where(v_mask m, v_i32 a, v_i32 b) {
    const v_i32 not_b = V_MAP2(v_i32, andnot_si256, b, m);
    return V_MAP2(v_i32, andnot_si256, not_b, a);
}

V_INLINE v_i32 v_or_where(v_mask m, v_i32 a, v_i32 b) {
    return v_or(a, v_and(b, m));
}

V_INLINE v_f32 v_load_where(v_mask m, const float *p) {
    return (v_f32){_mm256_maskload_ps(p, m.lo), _mm256_maskload_ps(p + 8, m.hi)};
}

V_INLINE v_i32 v_load_where_i32(v_mask m, const int32_t *p) {
    return (v_i32){_mm256_maskload_epi32(p, m.lo), _mm256_maskload_epi32(p + 8, m.hi)};
}

V_INLINE v_f32 v_gather_where(v_mask m, const float *p, v_i32 at) {
    const __m256 zero = _mm256_setzero_ps();
    const v_f32  f = v_as_f32(m);
    return (v_f32){_mm256_mask_i32gather_ps(zero, p, at.lo, f.lo, 4),
                   _mm256_mask_i32gather_ps(zero, p, at.hi, f.hi, 4)};
}

V_INLINE v_f32 v_load_first(const float *p, int64_t n) {
    return n >= V_LANES ? v_loadu(p) : v_load_where(v_lanes(n), p);
}

V_INLINE void v_store_first(float *p, int64_t n, v_f32 v) {
    if (n >= V_LANES) { // a store with a mask takes some processors long
        v_storeu(p, v);
    } else {
        const v_mask m = v_lanes(n);
        _mm256_maskstore_ps(p, m.lo, v.lo);
        _mm256_maskstore_ps(p + 8, m.hi, v.hi);
    }
}

/* The lanes of 4 whose bits are set, moved down. */
V_INLINE __m128i v_compress4(uint32_t bits, __m128i v) {
    enum { L0 = 0x03020100, L1 = 0x07060504, L2 = 0x0b0a0908, L3 = 0x0f0e0d0c };
    static const int32_t from[16][4] = {{0},      {L0},         {L1},         {L0, L1},
                                        {L2},     {L0, L2},     {L1, L2},     {L0, L1, L2},
                                        {L3},     {L0, L3},     {L1, L3},     {L0, L1, L3},
                                        {L2, L3}, {L0, L2, L3}, {L1, L2, L3}, {L0, L1, L2, L3}};
    return _mm_shuffle_epi8(v, _mm_loadu_si128((const __m128i *)from[bits]));
}

V_INLINE int v_compress(int32_t *p, uint32_t bits, v_i32 v) {
    const __m128i quarter[] = {_mm256_castsi256_si128(v.lo), _mm256_extracti128_si256(v.lo, 1),
                               _mm256_castsi256_si128(v.hi), _mm256_extracti128_si256(v.hi, 1)};
    int           n = 0;
    if (bits == 0) return 0;
    for (int i = 0; i < 4; i++) {
        const uint32_t some = bits >> 4 * i & 15;
        _mm_storeu_si128((__m128i *)(p + n), v_compress4(some, quarter[i]));
        n += __builtin_popcount(some);
    }
    return n;
}

V_INLINE v_mask_f64 v_lanes_f64(int64_t n) {
    const __m256d end = _mm256_set1_pd((double)n);
    return (v_mask_f64){_mm256_cmp_pd(end, _mm256_setr_pd(0, 1, 2, 3), _CMP_GT_OQ),
                        _mm256_cmp_pd(end, _mm256_setr_pd(4, 5, 6, 7), _CMP_GT_OQ)};
}

V_INLINE uint32_t v_bits_f64(v_mask_f64 m) {
    return (uint32_t)_mm256_movemask_pd(m.lo) | (uint32_t)_mm256_movemask_pd(m.hi) << 4;
}

V_INLINE v_mask_f64 v_and_mask_f64(v_mask_f64 a, v_mask_f64 b) {
    return v_and_f64(a, b);
}

#define V_COMPARE_F64(a, b, order)                                                                 \
    ((v_mask_f64){_mm256_cmp_pd((a).lo, (b).lo, order), _mm256_cmp_pd((a).hi, (b).hi, order)})

V_INLINE __m256d v_has_bit4(__m256d v, uint64_t bit) {
    const __m256i b = _mm256_set1_epi64x((int64_t)bit);
    return _mm256_castsi256_pd(_mm256_cmpeq_epi64(_mm256_and_si256(_mm256_castpd_si256(v), b), b));
}

V_INLINE v_mask_f64 v_has_bit(v_f64 v, uint64_t bit) {
    return (v_mask_f64){v_has_bit4(v.lo, bit), v_has_bit4(v.hi, bit)};
}

V_INLINE v_f64 v_select_f64(v_mask_f64 m, v_f64 a, v_f64 b) {
    return V_MAP3(v_f64, blendv_pd, b, a, m);
}

V_INLINE v_f64 v_keep_f64(v_mask_f64 m, v_f64 v) {
    return v_and_f64(m, v);
}

V_INLINE int v_compress_f64(double *p, uint32_t bits, v_f64 v) {
    static const uint8_t lanes[4] = {0, 3, 12, 15}; // of f32, two for each bit
    const __m128d        quarter[] = {_mm256_castpd256_pd128(v.lo), _mm256_extractf128_pd(v.lo, 1),
                                      _mm256_castpd256_pd128(v.hi), _mm256_extractf128_pd(v.hi, 1)};
    int                  n = 0;
    if (bits == 0) return 0;
    for (int i = 0; i < 4; i++) {
        const uint32_t some = bits >> 2 * i & 3;
        const __m128i  moved = v_compress4(lanes[some], _mm_castpd_si128(quarter[i]));
        _mm_storeu_si128((__m128i *)(void *)(p + n), moved);
        n += __builtin_popcount(some);
    }
    return n;
}

V_INLINE __m256d v_scale_f64x4(__m256d v, __m256d n) {
    const __m128i whole = _mm256_cvtpd_epi32(n), half = _mm_srai_epi32(whole, 1);
    const __m256i bias = _mm256_set1_epi64x(1023);
    const __m256i a = _mm256_add_epi64(_mm256_cvtepi32_epi64(half), bias);
    const __m256i b = _mm256_add_epi64(_mm256_cvtepi32_epi64(_mm_sub_epi32(whole, half)), bias);
    v = _mm256_mul_pd(v, _mm256_castsi256_pd(_mm256_slli_epi64(a, 52)));
    return _mm256_mul_pd(v, _mm256_castsi256_pd(_mm256_slli_epi64(b, 52)));
}

V_INLINE v_f64 v_scale_f64(v_f64 v, v_f64 n) {
    return (v_f64){v_scale_f64x4(v.lo, n.lo), v_scale_f64x4(v.hi, n.hi)};
}

V_INLINE float v_sum(v_f32 v) {
    const __m256 s8 = _mm256_add_ps(v.lo, v.hi);
    __m128       s = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

V_INLINE __m256 v_sum_quads8(__m256 a, __m256 b, __m256 c, __m256 d) {
    const __m256d ab =
        _mm256_castps_pd(_mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)));
    const __m256d cd =
        _mm256_castps_pd(_mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d)));
    return _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd)),
                         _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd)));
}

V_INLINE v_f32 v_sum_quads(v_f32 a, v_f32 b, v_f32 c, v_f32 d) {
    return (v_f32){v_sum_quads8(a.lo, b.lo, c.lo, d.lo), v_sum_quads8(a.hi, b.hi, c.hi, d.hi)};
}

/* The quads of a, then those of b, each as 0 + 1. */
V_INLINE __m256 v_sum_halves(__m256 a, __m256 b) {
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

V_INLINE v_f32 v_sum_columns(v_f32 a, v_f32 b, v_f32 c, v_f32 d) {
    return (v_f32){_mm256_add_ps(v_sum_halves(a.lo, b.lo), v_sum_halves(a.hi, b.hi)),
                   _mm256_add_ps(v_sum_halves(c.lo, d.lo), v_sum_halves(c.hi, d.hi))};
}

V_INLINE float v_max_lane(v_f32 v) {
    const __m256 m8 = _mm256_max_ps(v.lo, v.hi);
    __m128       m = _mm_max_ps(_mm256_castps256_ps128(m8), _mm256_extractf128_ps(m8, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

V_INLINE int32_t v_max_lane_i32(v_i32 v) {
    const __m256i m8 = _mm256_max_epi32(v.lo, v.hi);
    __m128i       m = _mm_max_epi32(_mm256_castsi256_si128(m8), _mm256_extracti128_si256(m8, 1));
    m = _mm_max_epi32(m, _mm_unpackhi_epi64(m, m));
    const int32_t a = _mm_cvtsi128_si32(m), b = _mm_extract_epi32(m, 1);
    return a > b ? a : b;
}

V_INLINE uint32_t v_and_lanes(v_i32 v) {
    const __m256i a8 = _mm256_and_si256(v.lo, v.hi);
    __m128i       a = _mm_and_si128(_mm256_castsi256_si128(a8), _mm256_extracti128_si256(a8, 1));
    a = _mm_and_si128(a, _mm_unpackhi_epi64(a, a));
    return (uint32_t)(_mm_cvtsi128_si32(a) & _mm_extract_epi32(a, 1));
}

V_INLINE uint32_t v_or_lanes(v_i32 v) {
    const __m256i o8 = _mm256_or_si256(v.lo, v.hi);
    __m128i       o = _mm_or_si128(_mm256_castsi256_si128(o8), _mm256_extracti128_si256(o8, 1));
    o = _mm_or_si128(o, _mm_unpackhi_epi64(o, o));
    return (uint32_t)(_mm_cvtsi128_si32(o) | _mm_extract_epi32(o, 1));
}

V_INLINE double v_sum_f64(v_f64 v) {
    const __m256d s4 = _mm256_add_pd(v.lo, v.hi);
    const __m128d s2 = _mm_add_pd(_mm256_castpd256_pd128(s4), _mm256_extractf128_pd(s4, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s2, _mm_unpackhi_pd(s2, s2)));
}

#endif

V_INLINE v_f32 v_neg(v_f32 v) {
    return v_xor_f32(v, v_set1(-0.0f));
}

#ifndef __AVX512F__
V_INLINE void v_store_terms(v_term *p, v_f32 v) {
    const v_i32 bits = v_as_i32(v),
                odd = {_mm256_srli_epi32(bits.lo, 16), _mm256_srli_epi32(bits.hi, 16)};
    const v_i32 round = v_add_i32(v_and(odd, v_set1_i32(1)), v_set1_i32(0x7fff));
    const v_i32 upper = v_and(v_add_i32(bits, round), v_set1_i32((int32_t)0xffff0000));
    v_storeu(p, v_select(V_COMPARE(v, v, _CMP_UNORD_Q), v, v_as_f32(upper)));
}
#endif

/* exp of 16 lanes, within 2 units in the last place; 0 below -104, +infinity above 88.73,
 * NaN stays NaN.  exp(x) = 2^n exp(r), r = x - n ln 2 with ln 2 in two parts, exp(r) by a
 * polynomial of degree 7 (Taylor; the next term is below 2^-27). */
V_INLINE v_f32 v_exp(v_f32 x) {
    // Clamped so that n stays in range; a NaN passes.
    const v_f32 y = v_min(v_set1(89.0f), v_max(v_set1(-105.0f), x));
    const v_f32 n = v_round(v_mul(y, v_set1(1.44269504f)));
    v_f32       r = v_fnma(n, v_set1(0.693359375f), y);
    r = v_fnma(n, v_set1(-2.12194440e-4f), r);
    v_f32 p = v_set1(1.0f / 5040);
    p = v_fma(p, r, v_set1(1.0f / 720));
    p = v_fma(p, r, v_set1(1.0f / 120));
    p = v_fma(p, r, v_set1(1.0f / 24));
    p = v_fma(p, r, v_set1(1.0f / 6));
    p = v_fma(p, r, v_set1(0.5f));
    p = v_fma(p, r, v_set1(1.0f));
    p = v_fma(p, r, v_set1(1.0f));
    return v_keep(V_COMPARE(x, v_set1(-104.0f), _CMP_NLT_UQ), v_scale(p, n));
}

/* exp of 8 lanes, none a NaN or above 709, with the bits of cn_exp (math_int.c): the same
 * operations in the same order, none fused. */
V_INLINE v_f64 v_exp_f64(v_f64 x) {
    const v_f64 magic = v_set1_f64(CN_NEAREST_MAGIC);
    const v_f64 n = v_sub_f64(v_add_f64(v_mul_f64(x, v_set1_f64(CN_LOG2_E)), magic), magic);
    const v_f64 high = v_mul_f64(n, v_set1_f64(CN_LN2_HI)),
                low = v_mul_f64(n, v_set1_f64(CN_LN2_LO));
    const v_f64 r = v_sub_f64(v_sub_f64(x, high), low);
    v_f64       p = v_set1_f64(cn_exp_series[0]);
    for (int i = 1; i < CN_EXP_TERMS; i++)
        p = v_add_f64(v_mul_f64(p, r), v_set1_f64(cn_exp_series[i]));
    return v_keep_f64(V_COMPARE_F64(x, v_set1_f64(CN_EXP_LEAST), _CMP_GE_OQ), v_scale_f64(p, n));
}

#endif

#endif

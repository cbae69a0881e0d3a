/*
 * test.h - What every test shares: errors by name, notes, random numbers, guarded
 * buffers, op variants, golden files, a scratch folder.
 */
#ifndef CN_TESTS_TEST_H
#define CN_TESTS_TEST_H

#include "base/err.h"
#include "kernels/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Fail with both names, and with t_diag's text when the error was not wanted. */
#define assert_err(call, want) t_assert_err((call), (want), #call, __FILE__, __LINE__)
void t_assert_err(cn_err got, cn_err want, const char *what, const char *file, int line);

/* Pass &t_diag where a function takes a diag: assert_err prints it. */
extern cn_diag t_diag;

/* One line that says what is being tried; printed only when the test fails. */
void t_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Fail with a message. */
_Noreturn void t_fail(const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The same numbers in every run.  t_rand_f32: roughly normal, mean 0, deviation 1. */
void     t_seed(uint64_t seed);
uint64_t t_rand(void);
float    t_rand_f32(void);
int64_t  t_rand_range(int64_t lo, int64_t hi); // lo..hi, both included

/* `bytes` bytes on a 64-byte border between canaries; filled with 0xA5.  Freed by
 * t_free, which fails the test if a canary was overwritten.  The byte after the last
 * is a canary byte. */
void *t_alloc(size_t bytes);
void  t_check_canaries(const void *p);
void  t_free(void *p);

/* t_alloc of `n` floats, filled with t_rand_f32() * scale. */
float *t_alloc_f32(int64_t n, float scale);

/* The op tables that this machine can run, the reference first.  Fills `ops`. */
int t_variants(cn_ops ops[CN_ISA_COUNT]);

/* The instruction-set path for tests that take one, as in engine.h: CN_TEST_ISA, or NULL. */
const char *t_isa(void);

/* A scratch folder of this test program, empty at the start; removed at exit. */
const char *t_tmp_dir(void);

/* Run a shell command; fails the test unless it ends with 0. */
void t_shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The root of the source tree. */
const char *t_source_dir(void);

/* Make a folder `path` with the weights and tokenizer of a model (a folder of the source tree), and
 * with its config.json as the sed script changes it; fails the test if that changes nothing. */
void t_vary_model(const char *path, const char *model, const char *script);

/* The whole of a file under the source tree ("tests/golden/x.gold"); freed by free().
 * Fails the test if it is not there. */
void *t_read_source_file(const char *path, size_t *bytes_out);

/* Whether this build is slowed by a sanitizer: long tests do less then. */
static inline bool t_is_sanitized(void) {
#ifdef CN_SANITIZED
    return true;
#else
    return false;
#endif
}

#endif

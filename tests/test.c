/* test.c - The helpers of test.h. */
#include "tests/test.h"

#include "base/rand.h"

#include <ftw.h>
#include <math.h>
#include <unistd.h>

#ifndef CN_SOURCE_DIR
#define CN_SOURCE_DIR "."
#endif

enum { CANARY_BYTES = 64, CANARY = 0xC3 };

typedef struct block {
    size_t  bytes;
    uint8_t pad[CANARY_BYTES * 2 - sizeof(size_t)]; // header, then the leading canary
} block;

cn_diag t_diag;

static uint64_t rand_state = 0x9E3779B97F4A7C15u;
static char     note[512];
static char     tmp_dir[64];

void t_assert_err(cn_err got, cn_err want, const char *what, const char *file, int line) {
    if (got != want)
        t_fail(file, line, "%s = %s, want %s (diag: %s)", what, cn_err_name(got), cn_err_name(want),
               t_diag.text);
}

void t_note(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(note, sizeof(note), fmt, args);
    va_end(args);
}

_Noreturn void t_fail(const char *file, int line, const char *fmt, ...) {
    char    text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (note[0]) print_error("while: %s\n", note);
    print_error("%s\n", text);
    _fail(file, line);
    abort(); // _fail does not return
}

void t_seed(uint64_t seed) {
    rand_state = seed * 2 + CN_RAND_STEP;
}

uint64_t t_rand(void) {
    return cn_rand_next(&rand_state);
}

float t_rand_f32(void) {
    float sum = 0; // of 12 uniforms: mean 6, variance 1
    for (int i = 0; i < 12; i++) sum += (float)(t_rand() >> 40) / 16777216.0f;
    return sum - 6.0f;
}

int64_t t_rand_range(int64_t lo, int64_t hi) {
    return lo + (int64_t)(t_rand() % (uint64_t)(hi - lo + 1));
}

void *t_alloc(size_t bytes) {
    const size_t whole = (sizeof(block) + bytes + CANARY_BYTES + 63) / 64 * 64;
    block       *b = aligned_alloc(64, whole);
    assert_non_null(b);
    b->bytes = bytes;
    memset(b->pad, CANARY, sizeof(b->pad));
    uint8_t *p = (uint8_t *)(b + 1);
    memset(p, 0xA5, bytes);
    memset(p + bytes, CANARY, CANARY_BYTES);
    return p;
}

void t_check_canaries(const void *p) {
    const block *b = (const block *)p - 1;
    for (size_t i = 0; i < sizeof(b->pad); i++)
        if (b->pad[i] != CANARY)
            t_fail(__FILE__, __LINE__, "canary before a buffer of %zu bytes", b->bytes);
    for (size_t i = 0; i < CANARY_BYTES; i++)
        if (((const uint8_t *)p)[b->bytes + i] != CANARY)
            t_fail(__FILE__, __LINE__, "canary %zu bytes after a buffer of %zu", i, b->bytes);
}

void t_free(void *p) {
    if (!p) return;
    t_check_canaries(p);
    free((block *)p - 1);
}

float *t_alloc_f32(int64_t n, float scale) {
    float *p = t_alloc((size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++) p[i] = t_rand_f32() * scale;
    return p;
}

int t_variants(cn_ops ops[CN_ISA_COUNT]) {
    int n = 0;
    for (int isa = 0; isa < CN_ISA_COUNT; isa++)
        if (cn_isa_is_supported((cn_isa)isa))
            assert_err(cn_ops_init(&ops[n++], (cn_isa)isa), CN_OK);
    return n;
}

const char *t_isa(void) {
    return getenv("CN_TEST_ISA");
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void remove_tmp_dir(void) {
    nftw(tmp_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *t_tmp_dir(void) {
    if (!tmp_dir[0]) {
        snprintf(tmp_dir, sizeof(tmp_dir), "/tmp/cairn-test-XXXXXX");
        assert_non_null(mkdtemp(tmp_dir));
        atexit(remove_tmp_dir);
    }
    return tmp_dir;
}

void t_shell(const char *fmt, ...) {
    char    command[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(command, sizeof(command), fmt, args);
    va_end(args);
    t_note("%s", command);
    assert_int_equal(system(command), 0);
}

const char *t_source_dir(void) {
    return CN_SOURCE_DIR;
}

void t_vary_model(const char *path, const char *model, const char *script) {
    t_shell("mkdir %s && cd %s && ln -s " CN_SOURCE_DIR
            "/%s/model.safetensors . && ln -s " CN_SOURCE_DIR
            "/%s/tokenizer.json . && sed '%s' " CN_SOURCE_DIR "/%s/config.json "
            ">config.json && ! cmp -s config.json " CN_SOURCE_DIR "/%s/config.json",
            path, path, model, model, script, model, model);
}

void *t_read_source_file(const char *path, size_t *bytes_out) {
    char full[1024];
    snprintf(full, sizeof(full), "%s/%s", CN_SOURCE_DIR, path);
    FILE *f = fopen(full, "rb");
    if (!f) t_fail(__FILE__, __LINE__, "cannot open %s", full);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    const long bytes = ftell(f);
    assert_true(bytes >= 0);
    rewind(f);
    char *data = malloc((size_t)bytes + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, (size_t)bytes, f), (size_t)bytes);
    data[bytes] = 0;
    fclose(f);
    *bytes_out = (size_t)bytes;
    return data;
}

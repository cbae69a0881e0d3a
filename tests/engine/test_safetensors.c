/*
 * test_safetensors.c - A header is taken whole or refused by name, whatever it says.
 *
 * Method: headers written by hand, each with one lie, over data of a given length; the
 * message must name the tensor and the numbers, and the set must be as before.
 */
#include "base/fault.h"
#include "engine/safetensors.h"
#include "tests/engine/make_safetensors.h"
#include "tests/test.h"

#include <sys/mman.h>

static cn_tensor_set *new_set(void) {
    cn_tensor_set *set;
    assert_err(cn_tensor_set_create(&set, &t_diag), CN_OK);
    return set;
}

/* Add `bytes` bytes from a buffer of exactly that size, so that a read behind it is seen.
 * The copy is *kept for as long as the set. */
static cn_err add(cn_tensor_set *set, void **kept, const void *file, size_t bytes,
                  const char *name) {
    *kept = malloc(bytes ? bytes : 1);
    assert_non_null(*kept);
    memcpy(*kept, file, bytes);
    t_diag = (cn_diag){0};
    return cn_tensor_set_add(set, *kept, bytes, name, &t_diag);
}

static cn_buf file_of(const char *header, size_t data_bytes) {
    cn_buf file = {0};
    t_put_safetensors(&file, header, strlen(header), "", 0);
    memset(cn_buf_grow(&file, data_bytes), 7, data_bytes);
    return file;
}

/* `file` is refused with `want`; the message has both texts and the file's name. */
static void refuse_file(const cn_buf *file, cn_err want, const char *has1, const char *has2) {
    static const char good[] = "{\"kept\":{\"dtype\":\"I8\",\"shape\":[3],\"data_offsets\":[0,3]}}";
    cn_tensor_set    *set = new_set();
    cn_buf            first = file_of(good, 3);
    void             *kept[2];
    assert_err(add(set, &kept[0], first.data, first.bytes, "first.safetensors"), CN_OK);
    assert_err(add(set, &kept[1], cn_buf_str(file), file->bytes, "bad.safetensors"), want);
    if (!strstr(t_diag.text, "bad.safetensors") || !strstr(t_diag.text, has1) ||
        !strstr(t_diag.text, has2))
        t_fail(__FILE__, __LINE__, "diag \"%s\" lacks \"%s\" or \"%s\"", t_diag.text, has1, has2);
    free(kept[1]);
    assert_int_equal(cn_tensor_set_count(set), 1);
    const cn_tensor *t = cn_tensor_set_find(set, "kept");
    assert_true(t && t->bytes == 3 && t->data[2] == 7 && t == cn_tensor_set_at(set, 0));
    cn_tensor_set_free(set);
    free(kept[0]);
    cn_buf_release(&first);
}

static void refuse(const char *header, size_t data_bytes, cn_err want, const char *has1,
                   const char *has2) {
    t_note("%s over %zu bytes", header, data_bytes);
    cn_buf file = file_of(header, data_bytes);
    refuse_file(&file, want, has1, has2);
    cn_buf_release(&file);
}

static void test_tensors_are_found_by_name(void **state) {
    (void)state;
    static const uint8_t data[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    t_file               f = {0};
    t_file_add(&f, "z", "BF16", data, 6, 2, 3, 1);
    t_file_add(&f, "a.\\u00e9", "I8", data + 6, 5, 1, 5); // 11 bytes so far: no alignment
    t_file_add(&f, "scalar", "F32", data + 11, 4, 0);
    t_file_add(&f, "empty", "F16", data, 0, 3, 4, 0, 2);
    t_file_add(&f, "m", "U8", data + 15, 1, 2, 1, 1);
    cn_buf         file = t_file_end(&f);
    void          *kept;
    cn_tensor_set *set = new_set();
    assert_int_equal(cn_tensor_set_count(set), 0);
    assert_null(cn_tensor_set_find(set, "z"));
    assert_err(add(set, &kept, file.data, file.bytes, "model.safetensors"), CN_OK);
    assert_int_equal(cn_tensor_set_count(set), 5);
    const char *order[] = {"a.\xC3\xA9", "empty", "m", "scalar", "z"};
    for (int i = 0; i < 5; i++) {
        const cn_tensor *t = cn_tensor_set_find(set, order[i]);
        assert_non_null(t);
        assert_ptr_equal(t, cn_tensor_set_at(set, i));
        assert_ptr_equal(t, cn_tensor_set_at(set, 0) + i);
        assert_string_equal(t->name, order[i]);
    }
    const cn_tensor *z = cn_tensor_set_find(set, "z"), *e = cn_tensor_set_find(set, "empty");
    assert_true(z->dtype == CN_DTYPE_BF16 && z->dims == 2 && z->dim[0] == 3 && z->dim[1] == 1);
    assert_int_equal(z->bytes, 6);
    assert_memory_equal(z->data, data, 6);
    const cn_tensor *a = cn_tensor_set_at(set, 0), *s = cn_tensor_set_find(set, "scalar");
    assert_true(a->dtype == CN_DTYPE_I8 && a->dims == 1 && a->dim[0] == 5);
    assert_memory_equal(a->data, data + 6, 5);
    assert_true(s->dtype == CN_DTYPE_F32 && s->dims == 0 && s->bytes == 4);
    assert_memory_equal(s->data, data + 11, 4);
    assert_true(e->dtype == CN_DTYPE_F16 && e->dims == 3 && e->dim[1] == 0 && e->bytes == 0);
    assert_true(cn_tensor_set_find(set, "m")->dtype == CN_DTYPE_OTHER);
    assert_null(cn_tensor_set_find(set, "a"));
    assert_null(cn_tensor_set_find(set, ""));
    assert_null(cn_tensor_set_find(set, "zz"));
    cn_tensor_set_free(set);
    cn_tensor_set_free(NULL);
    free(kept);
    cn_buf_release(&file);
}

static void test_element_types(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int         bytes;
        cn_dtype    dtype;
    } types[] = {
        {"F32", 4, CN_DTYPE_F32},       {"F16", 2, CN_DTYPE_F16},
        {"BF16", 2, CN_DTYPE_BF16},     {"I8", 1, CN_DTYPE_I8},
        {"F64", 8, CN_DTYPE_OTHER},     {"I64", 8, CN_DTYPE_OTHER},
        {"U64", 8, CN_DTYPE_OTHER},     {"C64", 8, CN_DTYPE_OTHER},
        {"I32", 4, CN_DTYPE_OTHER},     {"U32", 4, CN_DTYPE_OTHER},
        {"I16", 2, CN_DTYPE_OTHER},     {"U16", 2, CN_DTYPE_OTHER},
        {"U8", 1, CN_DTYPE_OTHER},      {"BOOL", 1, CN_DTYPE_OTHER},
        {"F8_E4M3", 1, CN_DTYPE_OTHER}, {"F8_E5M2", 1, CN_DTYPE_OTHER},
        {"F8_E8M0", 1, CN_DTYPE_OTHER},
    };
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        char  header[200], numbers[32];
        void *kept;
        snprintf(header, sizeof(header),
                 "{\"t\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%d]}}", types[i].name,
                 3 * types[i].bytes);
        cn_buf         file = file_of(header, (size_t)types[i].bytes * 3);
        cn_tensor_set *set = new_set();
        t_note("%s", header);
        assert_err(add(set, &kept, file.data, file.bytes, "f"), CN_OK);
        assert_int_equal(cn_tensor_set_find(set, "t")->dtype, types[i].dtype);
        if (types[i].dtype != CN_DTYPE_OTHER)
            assert_string_equal(cn_dtype_name(types[i].dtype), types[i].name);
        cn_tensor_set_free(set);
        free(kept);
        cn_buf_release(&file);
        // One byte more than the type says.
        snprintf(header, sizeof(header),
                 "{\"t\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%d]}}", types[i].name,
                 3 * types[i].bytes + 1);
        snprintf(numbers, sizeof(numbers), "%d by its shape", 3 * types[i].bytes);
        refuse(header, (size_t)types[i].bytes * 3 + 1, CN_ECORRUPT, "tensor t", numbers);
    }
    assert_non_null(cn_dtype_name(CN_DTYPE_OTHER));
}

#define T(shape, begin_end)                                                                        \
    "{\"w.q\":{\"dtype\":\"F16\",\"shape\":" shape ",\"data_offsets\":" begin_end "}}"

static void test_file_length(void **state) {
    (void)state;
    cn_buf file = {0};
    for (int n = 0; n < 8; n++) {
        char numbers[32];
        snprintf(numbers, sizeof(numbers), "%d bytes", n);
        t_note("%d bytes", n);
        refuse_file(&file, CN_ECORRUPT, numbers, "at least 8");
        cn_buf_put(&file, "", 1);
    }
    t_note("a header of 0 bytes");
    refuse_file(&file, CN_ECORRUPT, "begin with {", "");

    static const uint64_t lengths[] = {
        3, 255, UINT64_C(1) << 32, UINT64_C(1) << 63, UINT64_MAX - 7, UINT64_MAX};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        char says[48];
        snprintf(says, sizeof(says), "a header of %" PRIu64 " bytes", lengths[i]);
        t_note("%s", says);
        cn_buf_reset(&file);
        for (int b = 0; b < 8; b++)
            cn_buf_put(&file, &(uint8_t){(uint8_t)(lengths[i] >> 8 * b)}, 1);
        cn_buf_put_str(&file, "{}");
        refuse_file(&file, CN_ECORRUPT, says, "but 2 bytes");
    }
    cn_buf_release(&file);
}

static void test_header_over_its_limit(void **state) {
    (void)state;
    const size_t   header = CN_SAFETENSORS_HEADER_BYTES_MAX + (size_t)1, bytes = header + 8;
    cn_tensor_set *set = new_set();
    uint8_t *file = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(file != MAP_FAILED);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)header >> 8 * i);
    assert_err(cn_tensor_set_add(set, file, bytes, "f", &t_diag), CN_ETOOBIG);
    assert_non_null(strstr(t_diag.text, "104857601"));
    assert_non_null(strstr(t_diag.text, "limit 104857600"));
    munmap(file, bytes);
    cn_tensor_set_free(set);
}

static void test_tensors_over_their_limit(void **state) {
    (void)state;
    cn_buf header = {0};
    cn_buf_put_str(&header, "{");
    for (int i = 0; i <= CN_SAFETENSORS_TENSORS_MAX; i++)
        cn_buf_printf(&header, "%s\"%d\":0", i ? "," : "", i);
    cn_buf_put_str(&header, "}");
    cn_buf file = file_of(header.data, 0);
    t_note("one tensor too many");
    refuse_file(&file, CN_ETOOBIG, "1048578 tensors", "limit 1048576"); // with the one before
    cn_buf_release(&header);
    cn_buf_release(&file);
}

static void test_headers_that_are_no_objects(void **state) {
    (void)state;
    refuse("[]", 0, CN_ECORRUPT, "begin with {", "");
    refuse(" {}", 0, CN_ECORRUPT, "begin with {", "");
    refuse("{", 0, CN_ECORRUPT, "byte 1", "");
    refuse("{} {}", 0, CN_ECORRUPT, "byte 3", "");
    refuse("{\"a\":{}", 0, CN_ECORRUPT, "byte", "");
    refuse("{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":{\"f\":{\"g\":{\"h\":1}}}}}}}}", 0, CN_ECORRUPT,
           "tensor a", "1 members");
    refuse("{\"a\":[[[[[[[[[1]]]]]]]]]}", 0, CN_ETOOBIG, "nested 9 deep", "limit 8");
    refuse("{\"a\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0]},"
           "\"a\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
           0, CN_ECORRUPT, "duplicate", "");
    refuse("{\"w\xFF\":{}}", 0, CN_ECORRUPT, "UTF-8", "");
    refuse("{\"w\\u0000\":{}}", 0, CN_ECORRUPT, "NUL", "");
}

static void test_entries(void **state) {
    (void)state;
    refuse("{\"w.q\":[]}", 0, CN_ECORRUPT, "tensor w.q", "array");
    refuse("{\"w.q\":{}}", 0, CN_ECORRUPT, "tensor w.q", "0 members");
    refuse("{\"w.q\":{\"shape\":[0],\"data_offsets\":[0,0]}}", 0, CN_ECORRUPT, "w.q", "2 members");
    refuse("{\"w.q\":{\"dtype\":\"I8\",\"data_offsets\":[0,0]}}", 0, CN_ECORRUPT, "w.q",
           "2 members");
    refuse("{\"w.q\":{\"dtype\":\"I8\",\"shape\":[0]}}", 0, CN_ECORRUPT, "w.q", "2 members");
    refuse("{\"w.q\":{\"dtype\":\"I8\",\"shape\":[0],\"offsets\":[0,0]}}", 0, CN_ECORRUPT, "w.q",
           "3 members");
    refuse("{\"w.q\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0],\"x\":1}}", 0,
           CN_ECORRUPT, "w.q", "4 members");
    refuse("{\"w.q\":{\"dtype\":8,\"shape\":[0],\"data_offsets\":[0,0]}}", 0, CN_ECORRUPT, "w.q",
           "number");
    refuse("{\"w.q\":{\"dtype\":\"i8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, CN_EUNSUPPORTED,
           "w.q", "dtype i8");
    refuse("{\"w.q\":{\"dtype\":\"F4\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, CN_EUNSUPPORTED,
           "w.q", "dtype F4");
}

static void test_shapes(void **state) {
    (void)state;
    refuse(T("4", "[0,8]"), 8, CN_ECORRUPT, "tensor w.q", "number");
    refuse(T("{\"a\":4}", "[0,8]"), 8, CN_ECORRUPT, "tensor w.q", "object");
    refuse(T("[4,-1]", "[0,8]"), 8, CN_ECORRUPT, "tensor w.q", "dim 1");
    refuse(T("[4.0]", "[0,8]"), 8, CN_ECORRUPT, "tensor w.q", "dim 0");
    refuse(T("[\"4\"]", "[0,8]"), 8, CN_ECORRUPT, "tensor w.q", "dim 0");
    refuse(T("[1,1,4,9223372036854775808]", "[0,8]"), 8, CN_ECORRUPT, "w.q", "dim 3");
    refuse(T("[3]", "[0,8]"), 8, CN_ECORRUPT, "tensor w.q has 8 bytes", "6 by its shape");
    refuse(T("[5]", "[0,8]"), 8, CN_ECORRUPT, "tensor w.q has 8 bytes", "10 by its shape");
    refuse(T("[]", "[0,8]"), 8, CN_ECORRUPT, "tensor w.q has 8 bytes", "2 by its shape");
    refuse(T("[4,0]", "[0,8]"), 8, CN_ECORRUPT, "tensor w.q has 8 bytes", "0 by its shape");
    refuse(T("[1,1,1,1,1,1,1,1,4]", "[0,8]"), 8, CN_ETOOBIG, "w.q has 9 dims", "limit 8");
    // Products that wrap to 0, or to 8, in 64 bits.
    refuse(T("[4294967296,4294967296]", "[0,0]"), 0, CN_ECORRUPT, "w.q", "2^63");
    refuse(T("[4294967296,4294967296]", "[0,8]"), 8, CN_ECORRUPT, "w.q", "2^63");
    refuse(T("[4611686018427387905,4]", "[0,8]"), 8, CN_ECORRUPT, "w.q", "2^63");
    refuse(T("[4611686018427387904]", "[0,0]"), 0, CN_ECORRUPT, "w.q", "2^63"); // times 2 bytes
    refuse(T("[9223372036854775807]", "[0,8]"), 8, CN_ECORRUPT, "w.q", "2^63");
}

static void test_offsets(void **state) {
    (void)state;
    refuse(T("[4]", "8"), 8, CN_ECORRUPT, "tensor w.q", "two integers");
    refuse(T("[4]", "[0]"), 8, CN_ECORRUPT, "tensor w.q", "two integers");
    refuse(T("[4]", "[0,8,8]"), 8, CN_ECORRUPT, "tensor w.q", "two integers");
    refuse(T("[4]", "{\"a\":0,\"b\":8}"), 8, CN_ECORRUPT, "tensor w.q", "two integers");
    refuse(T("[4]", "[0,8.0]"), 8, CN_ECORRUPT, "tensor w.q", "two integers");
    refuse(T("[4]", "[null,8]"), 8, CN_ECORRUPT, "tensor w.q", "two integers");
    refuse(T("[4]", "[-8,0]"), 8, CN_ECORRUPT, "tensor w.q", "two integers");
    refuse(T("[4]", "[18446744073709551608,18446744073709551616]"), 8, CN_ECORRUPT, "w.q",
           "two integers");
    refuse(T("[4]", "[0,18446744073709551615]"), 8, CN_ECORRUPT, "w.q", "two integers");
    refuse(T("[4]", "[9223372036854775799,9223372036854775807]"), 8, CN_ECORRUPT,
           "tensor w.q ends at 9223372036854775807", "has 8 bytes");
    refuse(T("[4]", "[8,0]"), 8, CN_ECORRUPT, "tensor w.q begins at 8", "end, 0");
    refuse(T("[4]", "[0,8]"), 7, CN_ECORRUPT, "tensor w.q ends at 8", "has 7 bytes");
    refuse(T("[4]", "[1,9]"), 8, CN_ECORRUPT, "tensor w.q ends at 9", "has 8 bytes");
    refuse(T("[4]", "[0,8]"), 0, CN_ECORRUPT, "tensor w.q ends at 8", "has 0 bytes");
}

#define I8(name, bytes, begin_end)                                                                 \
    "\"" name "\":{\"dtype\":\"I8\",\"shape\":[" bytes "],\"data_offsets\":" begin_end "}"

static void test_holes_and_overlaps(void **state) {
    (void)state;
    refuse(T("[4]", "[1,9]"), 9, CN_ECORRUPT, "tensor w.q begins at 1",
           "the header before it ends at 0");
    refuse(T("[4]", "[0,8]"), 9, CN_ECORRUPT, "ends at 8", "has 9 bytes");
    refuse("{}", 1, CN_ECORRUPT, "ends at 0", "has 1 bytes");
    refuse("{" I8("b", "4", "[5,9]") "," I8("a", "4", "[0,4]") "}", 9, CN_ECORRUPT,
           "tensor b begins at 5", "a before it ends at 4");
    refuse("{" I8("b", "4", "[3,7]") "," I8("a", "4", "[0,4]") "}", 7, CN_ECORRUPT,
           "tensor b begins at 3", "a before it ends at 4");
    refuse("{" I8("a", "4", "[0,4]") "," I8("b", "4", "[0,4]") "}", 4, CN_ECORRUPT, "begins at 0",
           "ends at 4");
    refuse("{" I8("a", "8", "[0,8]") "," I8("b", "2", "[3,5]") "}", 8, CN_ECORRUPT,
           "tensor b begins at 3", "a before it ends at 8");
    refuse("{" I8("a", "4", "[0,4]") "," I8("e", "0", "[2,2]") "}", 4, CN_ECORRUPT,
           "tensor e begins at 2", "a before it ends at 4");

    // Empty tensors may stand at any border, also several at one.
    cn_buf file = file_of(
        "{" I8("a", "4", "[0,4]") "," I8("b", "3", "[4,7]") "," I8("e", "0", "[4,4]") "," I8(
            "f", "2,0", "[4,4]") "," I8("g", "0", "[0,0]") "," I8("h", "0", "[7,7]") "}  ",
        7);
    void          *kept;
    cn_tensor_set *set = new_set();
    assert_err(add(set, &kept, file.data, file.bytes, "f"), CN_OK);
    assert_int_equal(cn_tensor_set_count(set), 6);
    cn_tensor_set_free(set);
    free(kept);
    cn_buf_release(&file);
}

static void test_metadata(void **state) {
    (void)state;
    cn_buf         file = file_of("{\"__metadata__\":{\"a\":\"b\",\"c\":\"\"}}", 0);
    void          *kept;
    cn_tensor_set *set = new_set();
    assert_err(add(set, &kept, file.data, file.bytes, "f"), CN_OK);
    assert_int_equal(cn_tensor_set_count(set), 0);
    assert_null(cn_tensor_set_find(set, "__metadata__"));
    cn_tensor_set_free(set);
    free(kept);
    cn_buf_release(&file);
    refuse("{\"__metadata__\":[\"a\"]}", 0, CN_ECORRUPT, "__metadata__", "array");
    refuse("{\"__metadata__\":{\"format\":1}}", 0, CN_ECORRUPT, "format", "number");
    refuse("{\"__metadata__\":{\"format\":\"pt\",\"x\":{}}}", 0, CN_ECORRUPT, "x", "object");
}

static void test_shards_share_one_set(void **state) {
    (void)state;
    cn_tensor_set *set = new_set();
    void          *kept[3];
    cn_buf         one = file_of("{" I8("m", "2", "[0,2]") "," I8("a", "1", "[2,3]") "}", 3);
    cn_buf         two = file_of("{" I8("z", "1", "[0,1]") "," I8("b", "4", "[1,5]") "}", 5);
    cn_buf         three = file_of("{" I8("c", "1", "[0,1]") "," I8("m", "2", "[1,3]") "}", 3);
    assert_err(add(set, &kept[0], one.data, one.bytes, "one"), CN_OK);
    assert_err(add(set, &kept[1], two.data, two.bytes, "two"), CN_OK);
    const char *order[] = {"a", "b", "m", "z"};
    for (int round = 0; round < 2; round++) {
        assert_int_equal(cn_tensor_set_count(set), 4);
        for (int i = 0; i < 4; i++) {
            const cn_tensor *t = cn_tensor_set_find(set, order[i]);
            assert_true(t && t == cn_tensor_set_at(set, i) && strcmp(t->name, order[i]) == 0);
        }
        if (round > 0) break;
        assert_err(add(set, &kept[2], three.data, three.bytes, "three"), CN_ECORRUPT);
        assert_non_null(strstr(t_diag.text, "three: tensor m"));
    }
    const cn_tensor *b = cn_tensor_set_find(set, "b");
    assert_true(b->data == (uint8_t *)kept[1] + two.bytes - 4 && b->bytes == 4);
    cn_tensor_set_free(set);
    for (int i = 0; i < 3; i++) free(kept[i]);
    cn_buf_release(&one);
    cn_buf_release(&two);
    cn_buf_release(&three);
}

/* No prefix of a good file is a good file. */
static void test_every_truncation_is_refused(void **state) {
    (void)state;
    static const uint8_t data[64];
    t_file               f = {0};
    t_file_add(&f, "embed.weight", "BF16", data, 24, 2, 4, 3);
    t_file_add(&f, "embed.scale", "F32", data, 12, 1, 3);
    t_file_add(&f, "\\u00e9\\n", "I8", data, 5, 1, 5);
    cn_buf file = t_file_end(&f);
    for (size_t n = 0; n <= file.bytes; n++) {
        void          *kept;
        cn_tensor_set *set = new_set();
        t_note("%zu of %zu bytes", n, file.bytes);
        const cn_err err = add(set, &kept, file.data, n, "cut.safetensors");
        assert_err(err, n < file.bytes ? CN_ECORRUPT : CN_OK);
        assert_int_equal(cn_tensor_set_count(set), n < file.bytes ? 0 : 3);
        assert_true((t_diag.text[0] != 0) == (n < file.bytes));
        cn_tensor_set_free(set);
        free(kept);
    }
    // Nor is one with more behind it; nor one with any byte of the length changed.
    cn_buf_put(&file, "", 1);
    t_note("one byte more");
    refuse_file(&file, CN_ECORRUPT, "ends at 41", "has 42 bytes");
    file.bytes--;
    for (int i = 0; i < 8; i++)
        for (int bit = 0; bit < 8; bit++) {
            t_note("bit %d of byte %d", bit, i);
            file.data[i] ^= (char)(1 << bit);
            refuse_file(&file, CN_ECORRUPT, "", "");
            file.data[i] ^= (char)(1 << bit);
        }
    cn_buf_release(&file);
}

/* Any byte of the header changed: refused or taken, but never a tensor outside the data. */
static void test_changed_bytes_stay_inside(void **state) {
    (void)state;
    cn_buf    file = file_of("{" I8("m", "2", "[0,2]") "," I8("a", "10", "[2,12]") "}", 12);
    const int step = t_is_sanitized() ? 7 : 1;
    for (size_t at = 8; at < file.bytes - 12; at++)
        for (int value = 0; value < 256; value += step) {
            void          *kept;
            cn_tensor_set *set = new_set();
            const char     was = file.data[at];
            file.data[at] = (char)value;
            if (add(set, &kept, file.data, file.bytes, "f") == CN_OK) {
                int64_t sum = 0;
                for (int64_t i = 0; i < cn_tensor_set_count(set); i++) {
                    const cn_tensor *t = cn_tensor_set_at(set, i);
                    assert_true(t->data >= (uint8_t *)kept + file.bytes - 12 &&
                                t->data + t->bytes <= (uint8_t *)kept + file.bytes);
                    sum += t->bytes;
                }
                assert_int_equal(sum, 12);
            } else
                assert_int_equal(cn_tensor_set_count(set), 0);
            file.data[at] = was;
            cn_tensor_set_free(set);
            free(kept);
        }
    cn_buf_release(&file);
}

static void test_no_memory(void **state) {
    (void)state;
    cn_buf file = file_of("{" I8("m", "2", "[0,2]") "}", 2);
    for (int n = 1;; n++) {
        cn_tensor_set *set = NULL;
        cn_fault_arm(CN_FAULT_ONCE, n);
        t_diag = (cn_diag){0};
        cn_err err = cn_tensor_set_create(&set, &t_diag);
        if (!err) err = cn_tensor_set_add(set, (uint8_t *)file.data, file.bytes, "f", &t_diag);
        const bool hit = cn_fault_was_hit();
        t_note("fault %d at %s", n, cn_fault_last_point());
        cn_fault_arm(CN_FAULT_OFF, 0);
        assert_err(err, hit ? CN_ENOMEM : CN_OK);
        assert_true(!set || cn_tensor_set_count(set) == !err);
        cn_tensor_set_free(set);
        if (!hit) {
            assert_true(n > 3);
            break;
        }
    }
    cn_buf_release(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors_are_found_by_name),
        cmocka_unit_test(test_element_types),
        cmocka_unit_test(test_file_length),
        cmocka_unit_test(test_header_over_its_limit),
        cmocka_unit_test(test_tensors_over_their_limit),
        cmocka_unit_test(test_headers_that_are_no_objects),
        cmocka_unit_test(test_entries),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_offsets),
        cmocka_unit_test(test_holes_and_overlaps),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_shards_share_one_set),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_changed_bytes_stay_inside),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

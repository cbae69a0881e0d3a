/*
 * test_hash.c - Each hash against numbers that other programs made.
 */
#include "base/hash.h"
#include "tests/test.h"

/* byte i of the message is (7 i + 3) mod 251, byte i of the key is i. */
static void fill(uint8_t *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) data[i] = (uint8_t)((7 * i + 3) % 251);
}

static void assert_hash(const cn_hash *h, const char *want) {
    char hex[CN_HASH_HEX_BYTES];
    cn_hash_hex(hex, h);
    assert_string_equal(hex, want);
}

/* Made with
 *   python3 -c 'import hashlib
 *   for k in b"", bytes(range(32)):
 *       for n in 0, 1, 3, 128, 129, 1000:
 *           m = bytes((7*i+3) % 251 for i in range(n))
 *           print(n, hashlib.blake2b(m, digest_size=32, key=k).hexdigest())' */
static const struct {
    bool        has_key;
    size_t      bytes;
    const char *hex;
} blake2b_vectors[] = {
    {false, 0, "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"},
    {false, 1, "e88bd757ad5b9bedf372d8d3f0cf6c962a469db61a265f6418e1ffed86da29ec"},
    {false, 3, "9facd640130c81e7f318a8d5c660bc1b0f5d03861ffbd4cc1358e0e904593c28"},
    {false, 128, "6afdad1409d770bce274b62a69123c97c86ffb40ce9708f3ff9ae4cbba8ba080"},
    {false, 129, "69e98b10112e4b7ae396bfbddaee75cc5fe6a9dc1fffc2b11e7c0fc48de04ae5"},
    {false, 1000, "655483217562ae552fae4c276411ebd441ae1615754212965b82aee8aa76e9d8"},
    {true, 0, "4e51e7a913fc80137da52880fecca175bf81e117d5c68126dc2774033517ea0d"},
    {true, 1, "5500a8ed696e45255a024afc49a57aa45ea21a254c30dcdea61da13552c6c0b1"},
    {true, 3, "2f28ee247d3e95ec9bcd4c3a548a3b462c0c6984103ab363e6ce01fe746046d6"},
    {true, 128, "a044fc80b0d2fce1464b5d5e2bf9789dc8f44001bad8d2ca33a42280ab6c6abd"},
    {true, 129, "0c3a4e94daece1df0340860a895df8954d13b7b15086376a7dc0be36dfacfbe1"},
    {true, 1000, "3f4e3f0bec35ab96292510ac15c0785e015916779ab335c8dd37a962dd3f3a2c"},
};

static void test_blake2b_matches_hashlib(void **state) {
    (void)state;
    uint8_t key[CN_HASH_KEY_BYTES], data[1000];
    for (int i = 0; i < CN_HASH_KEY_BYTES; i++) key[i] = (uint8_t)i;
    fill(data, sizeof(data));
    for (size_t v = 0; v < sizeof(blake2b_vectors) / sizeof(blake2b_vectors[0]); v++) {
        const size_t bytes = blake2b_vectors[v].bytes;
        t_note("%zu bytes, key %d", bytes, blake2b_vectors[v].has_key);
        cn_hasher h;
        cn_hasher_init(&h, blake2b_vectors[v].has_key ? key : NULL);
        cn_hasher_put(&h, data, bytes);
        cn_hash hash = cn_hasher_end(&h);
        assert_hash(&hash, blake2b_vectors[v].hex);
        if (!blake2b_vectors[v].has_key) {
            hash = cn_hash_of(data, bytes);
            assert_hash(&hash, blake2b_vectors[v].hex);
        }
    }
    const cn_hash empty = cn_hash_of(NULL, 0);
    assert_hash(&empty, blake2b_vectors[0].hex);
}

/* Cut anywhere, the same hash; a copied state goes its own way. */
static void test_hasher_streams_and_forks(void **state) {
    (void)state;
    uint8_t data[300];
    fill(data, sizeof(data));
    const cn_hash want = cn_hash_of(data, sizeof(data));
    for (size_t cut = 0; cut <= sizeof(data); cut += 25) {
        cn_hasher h, fork;
        cn_hasher_init(&h, NULL);
        cn_hasher_put(&h, data, cut);
        fork = h;
        cn_hasher_put(&fork, "x", 1);
        cn_hasher_put(&h, data + cut, sizeof(data) - cut);
        const cn_hash got = cn_hasher_end(&h), other = cn_hasher_end(&fork);
        assert_true(cn_hash_is_equal(&got, &want));
        assert_false(cn_hash_is_equal(&other, &want));
    }
}

static cn_hash hash_sized(const char *a, const char *b) {
    cn_hasher h;
    cn_hasher_init(&h, NULL);
    cn_hasher_put_sized(&h, a, strlen(a));
    cn_hasher_put_sized(&h, b, strlen(b));
    return cn_hasher_end(&h);
}

static void test_sized_puts_do_not_run_together(void **state) {
    (void)state;
    const cn_hash x = hash_sized("ab", "c"), y = hash_sized("a", "bc"), z = hash_sized("ab", "c");
    assert_false(cn_hash_is_equal(&x, &y));
    assert_true(cn_hash_is_equal(&x, &z));

    // A number is 8 bytes, least significant first.
    cn_hasher h;
    cn_hasher_init(&h, NULL);
    cn_hasher_put_u64(&h, UINT64_C(0x0807060504030201));
    const cn_hash a = cn_hasher_end(&h), b = cn_hash_of("\1\2\3\4\5\6\7\10", 8);
    assert_true(cn_hash_is_equal(&a, &b));
}

static void test_hash_is_equal_sees_every_byte(void **state) {
    (void)state;
    const cn_hash a = cn_hash_of("a", 1);
    for (int i = 0; i < CN_HASH_BYTES; i++) {
        cn_hash b = a;
        b.bytes[i] ^= 1;
        assert_false(cn_hash_is_equal(&a, &b));
    }
}

static void test_hex_goes_both_ways(void **state) {
    (void)state;
    char    hex[CN_HASH_HEX_BYTES + 1];
    cn_hash back;
    cn_hash hash = cn_hash_of("a", 1);
    cn_hash_hex(hex, &hash);
    assert_int_equal(strlen(hex), 64);
    assert_err(cn_hash_from_hex(&back, hex), CN_OK);
    assert_true(cn_hash_is_equal(&back, &hash));
    for (int i = 0; i < 64; i++)
        if (hex[i] >= 'a') hex[i] = (char)(hex[i] - 'a' + 'A');
    assert_err(cn_hash_from_hex(&back, hex), CN_OK);
    assert_true(cn_hash_is_equal(&back, &hash));

    const cn_hash zero = {{0}};
    for (int i = 0; i < 64; i += 7) { // one bad digit anywhere
        char bad[CN_HASH_HEX_BYTES];
        memcpy(bad, hex, sizeof(bad));
        bad[i] = 'g';
        back = hash;
        assert_err(cn_hash_from_hex(&back, bad), CN_EINVAL);
        assert_true(cn_hash_is_equal(&back, &zero));
    }
    memcpy(hex + 64, "0", 2);
    assert_err(cn_hash_from_hex(&back, hex), CN_EINVAL); // 65 digits
    hex[63] = 0;
    assert_err(cn_hash_from_hex(&back, hex), CN_EINVAL); // 63
    assert_err(cn_hash_from_hex(&back, ""), CN_EINVAL);
}

/* Made with xxhsum 0.8.1 from the same message:
 *   for n in 0 1 3 8 16 100 129 240 241 1000; do
 *       python3 -c "import sys
 *   sys.stdout.buffer.write(bytes((7*i+3) % 251 for i in range($n)))" >m && xxhsum -H3 m; done
 * They cross each of its length classes: 0, 3, 8, 16, 128, 240, longer. */
static const struct {
    size_t   bytes;
    uint64_t hash;
} xxh3_vectors[] = {
    {0, UINT64_C(0x2d06800538d394c2)},   {1, UINT64_C(0x13e608bc156defed)},
    {3, UINT64_C(0xa9088dda485b481c)},   {8, UINT64_C(0x60539db630471163)},
    {16, UINT64_C(0xb8c859b0f030b585)},  {100, UINT64_C(0x0de27c6732e616cb)},
    {129, UINT64_C(0xc095b9b1b087722d)}, {240, UINT64_C(0x887af00281f75d38)},
    {241, UINT64_C(0x82b1de299f6e411e)}, {1000, UINT64_C(0xd45f5a87c5c20462)},
};

static void test_xxh3_matches_xxhsum(void **state) {
    (void)state;
    uint8_t data[1000];
    fill(data, sizeof(data));
    for (size_t v = 0; v < sizeof(xxh3_vectors) / sizeof(xxh3_vectors[0]); v++) {
        t_note("%zu bytes", xxh3_vectors[v].bytes);
        assert_true(cn_xxh3(data, xxh3_vectors[v].bytes, 0) == xxh3_vectors[v].hash);
    }
    // Two that xxHash publishes for a seed, of nothing and of one zero byte.
    const uint64_t seed = UINT64_C(0x9E3779B185EBCA8D);
    assert_true(cn_xxh3(NULL, 0, seed) == UINT64_C(0xA8A6B918B2F0364A));
    assert_true(cn_xxh3("", 1, seed) == UINT64_C(0x032BE332DD766EF8));
}

/* Aumasson and Bernstein 2012, "SipHash: a fast short-input PRF", appendix A; the empty
 * message from the table of its reference code. */
static void test_siphash_matches_its_paper(void **state) {
    (void)state;
    uint8_t bytes[CN_SIPHASH_KEY_BYTES];
    for (int i = 0; i < CN_SIPHASH_KEY_BYTES; i++) bytes[i] = (uint8_t)i;
    assert_true(cn_siphash(bytes, 15, bytes) == UINT64_C(0xa129ca6149be45e5));
    assert_true(cn_siphash(bytes, 0, bytes) == UINT64_C(0x726fdb47dd0e0e31));
}

static void test_random_is_not_constant(void **state) {
    (void)state;
    uint8_t *a = t_alloc(33), *b = t_alloc(33);
    cn_random(a, 33);
    cn_random(b, 33);
    assert_memory_not_equal(a, b, 33);
    cn_random(NULL, 0);
    t_free(a);
    t_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blake2b_matches_hashlib),
        cmocka_unit_test(test_hasher_streams_and_forks),
        cmocka_unit_test(test_sized_puts_do_not_run_together),
        cmocka_unit_test(test_hash_is_equal_sees_every_byte),
        cmocka_unit_test(test_hex_goes_both_ways),
        cmocka_unit_test(test_xxh3_matches_xxhsum),
        cmocka_unit_test(test_siphash_matches_its_paper),
        cmocka_unit_test(test_random_is_not_constant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

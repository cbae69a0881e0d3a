/* hash.c - libsodium's BLAKE2b and SipHash, xxhash's XXH3. */
#include "base/hash.h"

#include <pthread.h>
#include <sodium.h>
#include <string.h>
#include <xxhash.h>

_Static_assert(sizeof(crypto_generichash_state) <= sizeof(cn_hasher), "the state fits");
_Static_assert(_Alignof(crypto_generichash_state) <= _Alignof(cn_hasher), "and is aligned");
_Static_assert(CN_HASH_BYTES == crypto_generichash_BYTES, "BLAKE2b-256");
_Static_assert(CN_HASH_KEY_BYTES == crypto_generichash_KEYBYTES, "its usual key");
_Static_assert(CN_SIPHASH_KEY_BYTES == crypto_shorthash_KEYBYTES, "SipHash-2-4");
_Static_assert(CN_HASH_HEX_BYTES == 2 * CN_HASH_BYTES + 1, "digits and a NUL");

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_sodium(void) {
    const int rc = sodium_init();
    cn_assert(rc >= 0); // fails only if the system has no random numbers
}

static crypto_generichash_state *state_of(cn_hasher *h) {
    return (crypto_generichash_state *)(void *)h->state;
}

void cn_hasher_init(cn_hasher *h, const uint8_t *key) {
    pthread_once(&once, init_sodium); // picks the fastest BLAKE2b of this processor
    memset(h, 0, sizeof(*h));
    const int rc =
        crypto_generichash_init(state_of(h), key, key ? CN_HASH_KEY_BYTES : 0, CN_HASH_BYTES);
    cn_assert(rc == 0);
}

void cn_hasher_put(cn_hasher *h, const void *data, size_t bytes) {
    if (bytes > 0) crypto_generichash_update(state_of(h), data, bytes);
}

void cn_hasher_put_u64(cn_hasher *h, uint64_t value) {
    uint8_t le[8];
    for (int i = 0; i < 8; i++) le[i] = (uint8_t)(value >> (8 * i));
    cn_hasher_put(h, le, sizeof(le));
}

void cn_hasher_put_sized(cn_hasher *h, const void *data, size_t bytes) {
    cn_hasher_put_u64(h, bytes);
    cn_hasher_put(h, data, bytes);
}

cn_hash cn_hasher_end(cn_hasher *h) {
    cn_hash   hash;
    const int rc = crypto_generichash_final(state_of(h), hash.bytes, sizeof(hash.bytes));
    cn_assert(rc == 0); // else it was ended twice
    return hash;
}

cn_hash cn_hash_of(const void *data, size_t bytes) {
    cn_hasher h;
    cn_hasher_init(&h, NULL);
    cn_hasher_put(&h, data, bytes);
    return cn_hasher_end(&h);
}

bool cn_hash_is_equal(const cn_hash *a, const cn_hash *b) {
    return sodium_memcmp(a->bytes, b->bytes, CN_HASH_BYTES) == 0;
}

void cn_hash_hex(char out[CN_HASH_HEX_BYTES], const cn_hash *h) {
    sodium_bin2hex(out, CN_HASH_HEX_BYTES, h->bytes, CN_HASH_BYTES);
}

cn_err cn_hash_from_hex(cn_hash *out, const char *text) {
    *out = (cn_hash){{0}};
    if (strspn(text, "0123456789abcdefABCDEF") != 2 * CN_HASH_BYTES || text[2 * CN_HASH_BYTES])
        return CN_EINVAL;
    sodium_hex2bin(out->bytes, CN_HASH_BYTES, text, 2 * CN_HASH_BYTES, NULL, NULL, NULL);
    return CN_OK;
}

uint64_t cn_xxh3(const void *data, size_t bytes, uint64_t seed) {
    return XXH3_64bits_withSeed(data, bytes, seed);
}

uint64_t cn_siphash(const void *data, size_t bytes, const uint8_t *key) {
    uint8_t  le[crypto_shorthash_BYTES];
    uint64_t hash = 0;
    crypto_shorthash(le, data, bytes, key);
    for (int i = 0; i < 8; i++) hash |= (uint64_t)le[i] << (8 * i);
    return hash;
}

void cn_random(void *out, size_t bytes) {
    pthread_once(&once, init_sodium);
    if (bytes > 0) randombytes_buf(out, bytes);
}

/*
 * hash.h - Three hashes: BLAKE2b-256 for identity (cannot collide, with a key cannot be
 * forged), XXH3-64 for checksums (fast, finds damage), SipHash-2-4 for hash tables whose
 * keys come from outside (with a random key nobody can choose keys that collide).
 *
 * Layer: base (libsodium and xxhash stop here).
 */
#ifndef CN_BASE_HASH_H
#define CN_BASE_HASH_H

#include "base/err.h"

CN_C_BEGIN

enum {
    CN_HASH_BYTES = 32,
    CN_HASH_KEY_BYTES = 32,
    CN_HASH_HEX_BYTES = 65,
    CN_SIPHASH_KEY_BYTES = 16
};

typedef struct cn_hash {
    uint8_t bytes[CN_HASH_BYTES];
} cn_hash;

/* A hash being made.  Plain data: copy it to fork the state. */
typedef struct cn_hasher {
    _Alignas(64) uint8_t state[384];
} cn_hasher;

/* key: CN_HASH_KEY_BYTES bytes, or NULL for none.  Borrowed for the call. */
void cn_hasher_init(cn_hasher *h, const uint8_t *key);
void cn_hasher_put(cn_hasher *h, const void *data, size_t bytes);
void cn_hasher_put_u64(cn_hasher *h, uint64_t value); // 8 bytes, little-endian
/* The length, then the bytes: "ab","c" and "a","bc" differ. */
void    cn_hasher_put_sized(cn_hasher *h, const void *data, size_t bytes);
cn_hash cn_hasher_end(cn_hasher *h); // the state is spent

cn_hash cn_hash_of(const void *data, size_t bytes);
bool    cn_hash_is_equal(const cn_hash *a, const cn_hash *b);
/* 64 hex digits and a NUL. */
void cn_hash_hex(char out[CN_HASH_HEX_BYTES], const cn_hash *h);
/* CN_EINVAL  `text` is not 64 hex digits. */
cn_err cn_hash_from_hex(cn_hash *out, const char *text) CN_MUST_CHECK;

/* key: CN_SIPHASH_KEY_BYTES bytes. */
uint64_t cn_siphash(const void *data, size_t bytes, const uint8_t *key);

uint64_t cn_xxh3(const void *data, size_t bytes, uint64_t seed);

/* `bytes` random bytes from the system. */
void cn_random(void *out, size_t bytes);

CN_C_END

#endif

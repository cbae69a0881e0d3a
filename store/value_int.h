/*
 * value_int.h - One value of the page cache as bytes: its key, its header, its checksum.
 *
 * pages.h has the table.  Nothing here knows LMDB.
 */
#ifndef CN_STORE_VALUE_INT_H
#define CN_STORE_VALUE_INT_H

#include "base/err.h"
#include "base/hash.h"

CN_C_BEGIN

enum { CN_VALUE_HEADER_BYTES = 48, CN_VALUE_KEY_BYTES = CN_HASH_BYTES + 4 };

/* Kinds of slots; 1.. are the cn_pages_kind of pages.h.  A use is 16 bytes without header. */
enum { CN_SLOT_USE, CN_SLOT_PAGE, CN_SLOT_DOC, CN_SLOT_WINDOW };

typedef struct cn_value_key {
    uint8_t bytes[CN_VALUE_KEY_BYTES];
} cn_value_key;

typedef struct cn_value_header { // as on disk
    uint32_t magic;
    uint32_t slot;
    uint64_t written;
    uint64_t bytes;
    int32_t  tokens;
    int32_t  lines;
    int64_t  total;
    uint64_t checksum;
} cn_value_header;

static inline uint32_t cn_slot(int kind, int64_t number) {
    return (uint32_t)kind << 28 | (uint32_t)number;
}

cn_value_key cn_value_key_of(const cn_hash *key, uint32_t slot);
uint32_t     cn_value_key_slot(const cn_value_key *key);

/* Bytes of a value with a body of `body_bytes`: what fills whole pages behind 16 bytes. */
int64_t cn_value_bytes(int64_t body_bytes, int64_t page_bytes);

/* Complete `h` (all but magic, slot and checksum are set) and write it to `value`, where
 * the body already lies; zero what follows the body.
 *   value  [cn_value_bytes()] */
void cn_value_seal(cn_value_header *h, const cn_value_key *key, uint8_t *value, size_t bytes);

/* Whether `value` is a value of `key`: its shape.  *out is as stored, zero if there is no
 * header.  The body is not read: that is cn_value_is_intact, for a value that passed. */
bool cn_value_has_shape(cn_value_header *out, const cn_value_key *key, const uint8_t *value,
                        size_t bytes, size_t page_bytes);
bool cn_value_is_intact(const cn_value_header *h, const cn_value_key *key, const uint8_t *value);

CN_C_END

#endif

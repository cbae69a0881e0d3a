/* value.c - Values of the page cache: sealed when written, checked when read. */
#include "store/value_int.h"

#include <string.h>

enum { MAGIC = 0x31566e43 }; // "CnV1"

_Static_assert(sizeof(cn_value_header) == CN_VALUE_HEADER_BYTES, "no holes");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is the memory of one");

cn_value_key cn_value_key_of(const cn_hash *key, uint32_t slot) {
    cn_value_key k;
    memcpy(k.bytes, key->bytes, CN_HASH_BYTES);
    for (int i = 0; i < 4; i++) k.bytes[CN_HASH_BYTES + i] = (uint8_t)(slot >> (24 - 8 * i));
    return k;
}

uint32_t cn_value_key_slot(const cn_value_key *key) {
    uint32_t slot = 0;
    for (int i = 0; i < 4; i++) slot = slot << 8 | key->bytes[CN_HASH_BYTES + i];
    return slot;
}

int64_t cn_value_bytes(int64_t body_bytes, int64_t page_bytes) {
    const int64_t whole = body_bytes + CN_VALUE_HEADER_BYTES + 16;
    return (whole + page_bytes - 1) / page_bytes * page_bytes - 16;
}

/* The key seeds the header's hash, which seeds the body's: bytes of another key, number
 * or header never match. */
static uint64_t checksum_of(const cn_value_header *h, const cn_value_key *key,
                            const uint8_t *body) {
    const uint64_t seed = cn_xxh3(key->bytes, sizeof(key->bytes), 0);
    return cn_xxh3(body, h->bytes, cn_xxh3(h, offsetof(cn_value_header, checksum), seed));
}

void cn_value_seal(cn_value_header *h, const cn_value_key *key, uint8_t *value, size_t bytes) {
    const size_t end = CN_VALUE_HEADER_BYTES + h->bytes;
    cn_assert(end <= bytes);
    h->magic = MAGIC;
    h->slot = cn_value_key_slot(key);
    h->checksum = checksum_of(h, key, value + CN_VALUE_HEADER_BYTES);
    memcpy(value, h, sizeof(*h));
    memset(value + end, 0, bytes - end);
}

static bool has_kind_of_shape(const cn_value_header *h) {
    switch (h->slot >> 28) {
    case CN_SLOT_PAGE:
        return h->tokens > 0 && h->lines == 0 && h->total == 0;
    case CN_SLOT_DOC:
        return h->tokens >= 0 && h->lines >= 0 && h->total >= 0 &&
               h->bytes == ((uint64_t)h->tokens + (uint64_t)h->lines) * sizeof(int32_t);
    case CN_SLOT_WINDOW:
        return h->tokens == 0 && h->lines == 0 && h->total >= 0 && h->bytes <= (uint64_t)h->total;
    default:
        return false;
    }
}

bool cn_value_has_shape(cn_value_header *out, const cn_value_key *key, const uint8_t *value,
                        size_t bytes, size_t page_bytes) {
    *out = (cn_value_header){0};
    if (bytes < CN_VALUE_HEADER_BYTES) return false;
    memcpy(out, value, sizeof(*out));
    return out->magic == MAGIC && out->slot == cn_value_key_slot(key) &&
           out->bytes <= bytes - CN_VALUE_HEADER_BYTES &&
           cn_value_bytes((int64_t)out->bytes, (int64_t)page_bytes) == (int64_t)bytes &&
           has_kind_of_shape(out);
}

bool cn_value_is_intact(const cn_value_header *h, const cn_value_key *key, const uint8_t *value) {
    return h->checksum == checksum_of(h, key, value + CN_VALUE_HEADER_BYTES);
}

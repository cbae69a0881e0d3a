/*
 * fuzz_page.c - No bytes make the value parser read outside the value, and only sealed bytes
 * under their own key are intact.
 *
 * Input: 36 bytes of key | 1 byte: what to try | the value.  LMDB pages of 64 bytes, so
 * that small inputs have the shape of values.
 */
#include "store/value_int.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE_BYTES = 64, KEY = CN_VALUE_KEY_BYTES };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static bool is_intact(const cn_value_key *key, const uint8_t *value, size_t bytes) {
    cn_value_header h;
    return cn_value_has_shape(&h, key, value, bytes, PAGE_BYTES) &&
           cn_value_is_intact(&h, key, value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    cn_value_key    key;
    cn_value_header h;
    if (bytes < KEY + 1) return 0;
    memcpy(key.bytes, data, KEY);
    const uint8_t  what = data[KEY];
    const uint8_t *value = data + KEY + 1;
    bytes -= KEY + 1;
    if (!cn_value_has_shape(&h, &key, value, bytes, PAGE_BYTES)) {
        if (bytes < CN_VALUE_HEADER_BYTES) cn_assert(h.magic == 0 && h.bytes == 0);
        return 0;
    }
    cn_assert(h.bytes <= bytes - CN_VALUE_HEADER_BYTES && h.slot == cn_value_key_slot(&key));
    cn_assert(cn_value_bytes((int64_t)h.bytes, PAGE_BYTES) == (int64_t)bytes);
    if (h.slot >> 28 == CN_SLOT_DOC)
        cn_assert(h.tokens >= 0 && h.lines >= 0 &&
                  h.bytes == 4 * ((uint64_t)h.tokens + (uint64_t)h.lines));
    cn_value_is_intact(&h, &key, value);

    // Sealed it is intact, and no longer with one bit changed anywhere but in the padding.
    uint8_t *copy = malloc(bytes);
    if (!copy) return 0;
    memcpy(copy, value, bytes);
    cn_value_seal(&h, &key, copy, bytes);
    cn_assert(is_intact(&key, copy, bytes));
    const size_t used = CN_VALUE_HEADER_BYTES + h.bytes, at = what * (used - 1) / 255;
    copy[at] ^= (uint8_t)(1 << what % 8);
    cn_assert(!is_intact(&key, copy, bytes));
    copy[at] ^= (uint8_t)(1 << what % 8);
    key.bytes[what % KEY] ^= (uint8_t)(1 << what % 8);
    cn_assert(!is_intact(&key, copy, bytes));
    free(copy);
    return 0;
}

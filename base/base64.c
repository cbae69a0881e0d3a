/* base64.c - libsodium's base64, on a cn_buf. */
#include "base/base64.h"

#include <sodium.h>

void cn_base64_put(cn_buf *to, const void *data, size_t bytes) {
    const size_t length = sodium_base64_ENCODED_LEN(bytes, sodium_base64_VARIANT_ORIGINAL);
    char        *text = cn_buf_grow(to, length); // a NUL counted
    if (!text) return;
    sodium_bin2base64(text, length, data, bytes, sodium_base64_VARIANT_ORIGINAL);
    to->bytes--;
}

cn_err cn_base64_read(cn_buf *to, const char *text, size_t bytes) {
    const size_t before = to->bytes, room = bytes / 4 * 3;
    size_t       length = 0;
    const char  *end = NULL;
    if (bytes % 4) return CN_EINVAL;
    unsigned char *out = cn_buf_grow(to, room);
    if (!out) return to->err;
    const int  bad = sodium_base642bin(out, room, text, bytes, NULL, &length, &end,
                                       sodium_base64_VARIANT_ORIGINAL);
    const bool is_whole = !bad && end == text + bytes;
    to->bytes = is_whole ? before + length : before;
    to->data[to->bytes] = 0;
    return is_whole ? CN_OK : CN_EINVAL;
}

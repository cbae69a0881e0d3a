/* utf8.c - Table 3-7 of the Unicode standard, as code. */
#include "base/utf8.h"

static bool is_tail(uint8_t c) {
    return (c & 0xC0) == 0x80;
}

static size_t bytes_by_lead(uint8_t lead) {
    return lead < 0x80   ? 1
           : lead < 0xC2 ? 0
           : lead < 0xE0 ? 2
           : lead < 0xF0 ? 3
           : lead < 0xF5 ? 4
                         : 0;
}

size_t cn_utf8_bytes(const char *text, size_t bytes) {
    const uint8_t *p = (const uint8_t *)text;
    const size_t   want = bytes > 0 ? bytes_by_lead(p[0]) : 0;
    if (want == 0 || want > bytes) return 0;
    for (size_t i = 1; i < want; i++)
        if (!is_tail(p[i])) return 0;
    switch (p[0]) { // the second byte decides what is overlong, a surrogate, or too high
    case 0xE0:
        return p[1] >= 0xA0 ? want : 0;
    case 0xED:
        return p[1] <= 0x9F ? want : 0;
    case 0xF0:
        return p[1] >= 0x90 ? want : 0;
    case 0xF4:
        return p[1] <= 0x8F ? want : 0;
    default:
        return want;
    }
}

size_t cn_utf8_cut(const char *text, size_t bytes) {
    size_t start = bytes; // of the last character
    while (start > 0 && bytes - start < 3 && is_tail((uint8_t)text[start - 1])) start--;
    if (start == 0) return bytes;
    start--;
    return start + bytes_by_lead((uint8_t)text[start]) > bytes ? start : bytes;
}

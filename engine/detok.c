/* detok.c - Token bytes to whole characters. */
#include "engine/tokenizer.h"

#include "base/utf8.h"

#include <string.h>

static const char replacement[] = "\xEF\xBF\xBD"; // U+FFFD

/* Whether more bytes can make these 1..4, which are no character yet, into one. */
static bool is_start_of_character(const char *held, int32_t bytes) {
    const uint8_t lead = (uint8_t)held[0];
    if (bytes == 1) return lead >= 0xC2 && lead <= 0xF4;
    char whole[4] = {'\x80', '\x80', '\x80', '\x80'}; // from the third byte on any tail will do
    memcpy(whole, held, (size_t)bytes);
    return cn_utf8_bytes(whole, sizeof(whole)) > (size_t)bytes;
}

static void put_byte(cn_detok *d, char byte, cn_buf *out) {
    d->held[d->held_bytes++] = byte;
    if (cn_utf8_bytes(d->held, (size_t)d->held_bytes) > 0) {
        cn_buf_put(out, d->held, (size_t)d->held_bytes);
        d->held_bytes = 0;
    } else if (!is_start_of_character(d->held, d->held_bytes)) {
        // One mark for what began well; the byte that broke it may begin something itself.
        const bool again = d->held_bytes > 1;
        cn_buf_put_str(out, replacement);
        d->held_bytes = 0;
        if (again) put_byte(d, byte, out);
    }
}

void cn_detok_put(cn_detok *d, const cn_tokenizer *t, int32_t token, cn_buf *out) {
    size_t      bytes;
    const char *text = cn_tokenizer_bytes(t, token, &bytes);
    if (cn_tokenizer_is_special(t, token)) return;
    for (size_t i = 0; i < bytes; i++) put_byte(d, text[i], out);
}

void cn_detok_end(cn_detok *d, cn_buf *out) {
    if (d->held_bytes > 0) cn_buf_put_str(out, replacement);
    d->held_bytes = 0;
}

/*
 * fuzz_tokenizer.c - No tokenizer.json crashes the loader, and one that it takes keeps its
 * promises.
 *
 * Of a tokenizer that is taken: ids are in range and name tokens, plain text becomes no special
 * token, a text comes back byte by byte if the tokenizer has all bytes and rewrites nothing, and
 * what a stream decodes to is UTF-8.
 */
#include "base/utf8.h"
#include "engine/tokenizer_int.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *file, size_t file_bytes);

static bool has_all_bytes(const cn_tokenizer *t) {
    for (int c = 0; c < 256; c++)
        if (t->bpe.byte_token[c] < 0) return false;
    return true;
}

static bool rewrites(const cn_tokenizer *t) {
    bool yes = t->nfc;
    for (int32_t i = 0; i < t->splits; i++) yes |= !t->split[i]; // a space put before pieces
    for (int set = 0; set < 2; set++)
        for (int32_t i = 0; i < t->added[set].count; i++)
            yes |= t->added[set].added[i].lstrip || t->added[set].added[i].rstrip;
    return yes;
}

static void check_text(const cn_tokenizer *t, const char *text, size_t bytes,
                       cn_tokenize_mode mode) {
    cn_tokens    tokens = {0};
    cn_buf       spelled = {0}, stream = {0};
    cn_detok     detok = {0};
    const cn_err err = cn_tokenizer_encode(t, &tokens, text, bytes, mode, NULL);
    cn_assert(err == CN_OK || err == CN_ETOOBIG || (err == CN_ENOTFOUND && !has_all_bytes(t)));
    cn_assert(err == CN_OK || tokens.count == 0);
    for (int64_t i = 0; i < tokens.count; i++) {
        size_t      n;
        const char *piece = cn_tokenizer_bytes(t, tokens.token[i], &n);
        cn_assert(tokens.token[i] >= 0 && tokens.token[i] < cn_tokenizer_size(t));
        cn_assert(piece && n > 0 && n <= CN_TOKEN_BYTES_MAX);
        cn_assert(mode == CN_TOKENIZE_SPECIAL || !cn_tokenizer_is_special(t, tokens.token[i]));
        cn_buf_put(&spelled, piece, n);
        cn_detok_put(&detok, t, tokens.token[i], &stream);
    }
    cn_detok_end(&detok, &stream);
    cn_assert(!spelled.err && !stream.err);
    if (err == CN_OK && !rewrites(t))
        cn_assert(spelled.bytes == bytes && (bytes == 0 || memcmp(spelled.data, text, bytes) == 0));
    for (size_t i = 0, n; i < stream.bytes; i += n) {
        n = cn_utf8_bytes(stream.data + i, stream.bytes - i);
        cn_assert(n > 0);
    }
    cn_buf_release(&stream);
    cn_buf_release(&spelled);
    cn_tokens_release(&tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *file, size_t file_bytes) {
    static const char *const texts[] = {
        "",
        "abcd abc ab  cd\n\tthe and 12345 don't DON'T <x> <|end|> abab",
        "int main(void) { return 0; }\r\n\r\n    ___a_b__ == != ->\n",
        "caf\xC3\xA9 cafe\xCC\x81 \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80 "
        "\xE2\x80\x83\xC2\xA0x\xE1\xA0\x8E",
        "\xFF\xC0\xAF\xE4\xBD\xF0\x9F\x98 abc\x80\x80 \xED\xA0\x80\x01\x7F",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabababababababab",
    };
    cn_tokenizer *t;
    cn_diag       diag = {0};
    const cn_err  err = cn_tokenizer_parse(&t, (const char *)file, file_bytes, &diag);

    cn_assert((err == CN_OK) == (t != NULL));
    cn_assert(err == CN_OK || err == CN_ECORRUPT || err == CN_EUNSUPPORTED || err == CN_ETOOBIG);
    if (err) {
        cn_assert(diag.err == err && diag.text[0]);
        return 0;
    }
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        check_text(t, texts[i], strlen(texts[i]), CN_TOKENIZE_TEXT);
        check_text(t, texts[i], strlen(texts[i]), CN_TOKENIZE_SPECIAL);
    }
    check_text(t, "a\0b\0", 4, CN_TOKENIZE_TEXT);
    for (int32_t id = 0; id < cn_tokenizer_size(t) && id < 1000; id++) { // each token is a text too
        size_t      bytes;
        const char *text = cn_tokenizer_bytes(t, id, &bytes);
        if (text) check_text(t, text, bytes, CN_TOKENIZE_TEXT);
    }
    cn_tokenizer_close(t);
    return 0;
}

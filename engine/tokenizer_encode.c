/*
 * tokenizer_encode.c - Text to token ids.
 *
 * A text goes through these, each handing its parts to the next:
 *
 *   cn_tokenizer_encode   runs of valid UTF-8; a byte that is in none is a piece
 *   cut_added (raw)       added tokens that are looked for in the text as it is
 *   normalize             NFC, where the tokenizer asks for it
 *   cut_added (normal)    added tokens that are looked for behind the normalizer
 *   split                 the pre-tokenizer's steps, one within the other
 *   put_piece             the vocabulary, or the merges
 */
#include "engine/tokenizer_int.h"

#include "base/fault.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

typedef struct encoder {
    const cn_tokenizer *t;
    cn_tokens          *tokens;
    cn_tokenize_mode    mode;
    cn_diag            *diag;
    cn_match           *match;
    cn_bpe_scratch      scratch;
    cn_buf              prefixed; // a piece with a space before it
} encoder;

static cn_err put_piece(encoder *e, const char *text, size_t bytes) {
    const cn_tokenizer *t = e->t;
    const int32_t       token = cn_vocab_find(t, text, bytes);
    if (token >= 0 && t->entry[token].whole) return cn_tokens_put(e->tokens, &token, 1);

    int32_t *to = cn_tokens_reserve(e->tokens, bytes);
    size_t   count = 0;
    if (!to) return CN_ENOMEM;
    const cn_err err = cn_bpe_encode(&t->bpe, &e->scratch, text, bytes, to, &count);
    if (err == CN_ENOTFOUND)
        return CN_FAIL(e->diag, err, "no token for byte 0x%02x", (uint8_t)text[count]);
    if (!err) e->tokens->count += (int64_t)count;
    return err;
}

static cn_err split(encoder *e, int32_t step, const char *text, size_t bytes) {
    const cn_tokenizer *t = e->t;
    if (bytes == 0) return CN_OK;
    if (step == t->splits) return put_piece(e, text, bytes);
    if (!t->split[step]) {
        if (text[0] == ' ') return split(e, step + 1, text, bytes);
        cn_buf_reset(&e->prefixed); // one such step at most: nobody reads the last one's
        cn_buf_put(&e->prefixed, " ", 1);
        cn_buf_put(&e->prefixed, text, bytes);
        CN_TRY(e->prefixed.err);
        return split(e, step + 1, e->prefixed.data, e->prefixed.bytes);
    }
    // What the pattern leaves out is a piece as well; an empty match only cuts.
    size_t done = 0, from = 0;
    while (from < bytes) {
        size_t start, end;
        CN_TRY(cn_pattern_find(t->split[step], e->match, text, bytes, from, &start, &end, e->diag));
        CN_TRY(split(e, step + 1, text + done, start - done));
        CN_TRY(split(e, step + 1, text + start, end - start));
        done = from = end;
        if (start == end && end < bytes) from += cn_utf8_bytes(text + end, bytes - end);
    }
    return split(e, step + 1, text + done, bytes - done);
}

// ---- Added tokens ------------------------------------------------------------------

static size_t bytes_of_last(const char *text, size_t bytes) {
    size_t start = bytes;
    while (start > 0 && ((uint8_t)text[--start] & 0xC0) == 0x80) continue;
    return bytes - start;
}

/* White_Space, of one character. */
static bool is_space(const char *c, size_t bytes) {
    int32_t code;
    utf8proc_iterate((const utf8proc_uint8_t *)c, (utf8proc_ssize_t)bytes, &code);
    return (code >= 9 && code <= 13) || code == ' ' || code == 0x85 || code == 0xA0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

static size_t spaces_before(const char *text, size_t bytes) {
    size_t start = bytes;
    while (start > 0) {
        const size_t n = bytes_of_last(text, start);
        if (!is_space(text + start - n, n)) break;
        start -= n;
    }
    return bytes - start;
}

static size_t spaces_after(const char *text, size_t bytes) {
    size_t end = 0;
    while (end < bytes) {
        const size_t n = cn_utf8_bytes(text + end, bytes - end);
        if (!is_space(text + end, n)) break;
        end += n;
    }
    return end;
}

static cn_err is_word(encoder *e, const char *c, size_t bytes, bool *out) {
    size_t start, end;
    CN_TRY(cn_pattern_find(e->t->word, e->match, c, bytes, 0, &start, &end, e->diag));
    *out = start < bytes;
    return CN_OK;
}

/* Whether a character of a word touches text[start..end). */
static cn_err is_in_word(encoder *e, const char *text, size_t bytes, size_t start, size_t end,
                         bool *out) {
    *out = false;
    if (start > 0) {
        const size_t before = bytes_of_last(text, start);
        CN_TRY(is_word(e, text + start - before, before, out));
    }
    if (!*out && end < bytes)
        CN_TRY(is_word(e, text + end, cn_utf8_bytes(text + end, bytes - end), out));
    return CN_OK;
}

typedef cn_err (*cut_fn)(encoder *e, const char *text, size_t bytes);

/* Put the tokens of `set` and hand what lies between them to `rest`. */
static cn_err cut_added(encoder *e, const cn_added_set *set, const char *text, size_t bytes,
                        cut_fn rest) {
    const bool none = (e->mode == CN_TOKENIZE_TEXT ? set->plain : set->count) == 0;
    size_t     done = 0;
    for (size_t at = none ? bytes : 0; at < bytes;) {
        const cn_added *a = cn_added_set_find(set, e->mode, text + at, bytes - at);
        size_t          start = at, end = at + (a ? a->bytes : 1);
        at = end;
        if (!a) continue;
        if (a->single_word) {
            bool in_word;
            CN_TRY(is_in_word(e, text, bytes, start, end, &in_word));
            if (in_word) continue;
        }
        if (a->lstrip) start -= spaces_before(text + done, start - done);
        if (a->rstrip) end += spaces_after(text + end, bytes - end);
        CN_TRY(rest(e, text + done, start - done));
        CN_TRY(cn_tokens_put(e->tokens, &a->token, 1));
        done = at = end;
    }
    return rest(e, text + done, bytes - done);
}

static cn_err encode_split(encoder *e, const char *text, size_t bytes) {
    return split(e, 0, text, bytes);
}

/* Below U+0300 nothing combines, and nothing there has another normal form. */
static bool is_nfc_for_sure(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if ((uint8_t)text[i] >= 0xCC) return false;
    return true;
}

static cn_err normalize(encoder *e, const char *text, size_t bytes) {
    if (!e->t->nfc || is_nfc_for_sure(text, bytes))
        return cut_added(e, &e->t->added[1], text, bytes, encode_split);
    utf8proc_uint8_t      *nfc = NULL;
    const utf8proc_ssize_t nfc_bytes =
        CN_FAULT("engine.tokenizer.nfc")
            ? UTF8PROC_ERROR_NOMEM
            : utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, &nfc,
                           UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (nfc_bytes < 0) return CN_ENOMEM; // valid UTF-8 leaves it no other reason
    const cn_err err =
        cut_added(e, &e->t->added[1], (const char *)nfc, (size_t)nfc_bytes, encode_split);
    free(nfc);
    return err;
}

static cn_err encode_run(encoder *e, const char *text, size_t bytes) {
    return cut_added(e, &e->t->added[0], text, bytes, normalize);
}

/* How many of the bytes from `text` on are valid UTF-8. */
static size_t valid_bytes(const char *text, size_t bytes) {
    size_t i = 0;
    while (i < bytes) {
        uint64_t eight;
        if (bytes - i >= sizeof(eight)) {
            memcpy(&eight, text + i, sizeof(eight));
            if ((eight & 0x8080808080808080u) == 0) {
                i += sizeof(eight);
                continue;
            }
        }
        const size_t n = cn_utf8_bytes(text + i, bytes - i);
        if (n == 0) break;
        i += n;
    }
    return i;
}

cn_err cn_tokenizer_encode(const cn_tokenizer *t, cn_tokens *tokens, const char *text, size_t bytes,
                           cn_tokenize_mode mode, cn_diag *diag) {
    if (bytes > CN_TOKENIZE_BYTES_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "text of %zu bytes, limit %d", bytes,
                       (int)CN_TOKENIZE_BYTES_MAX);
    const int64_t count = tokens->count;
    encoder       e = {.t = t, .tokens = tokens, .mode = mode, .diag = diag};
    cn_err        err = cn_match_create(&e.match, bytes);
    for (size_t at = 0; at < bytes && !err;) {
        const size_t run = valid_bytes(text + at, bytes - at);
        err = run > 0 ? encode_run(&e, text + at, run) : put_piece(&e, text + at, 1);
        at += run > 0 ? run : 1;
    }
    cn_match_free(e.match);
    cn_bpe_scratch_release(&e.scratch);
    cn_buf_release(&e.prefixed);
    if (err) tokens->count = count;
    if (err == CN_ENOMEM) CN_FAIL(diag, err, "no memory to tokenize %zu bytes", bytes);
    return err;
}

/*
 * tokenizer_int.h - What a cn_tokenizer is made of.
 *
 * tokenizer_load.c fills one from JSON, tokenizer_encode.c uses it, tokenizer.c has what
 * remains.  All of it is immutable once loaded.
 *
 * Layer: engine -> base.
 */
#ifndef CN_ENGINE_TOKENIZER_INT_H
#define CN_ENGINE_TOKENIZER_INT_H

#include "engine/added_int.h"
#include "engine/bpe_int.h"
#include "engine/pattern_int.h"
#include "engine/tokenizer.h"

CN_C_BEGIN

enum { CN_SPLITS_MAX = 16 }; // steps of one pre-tokenizer

_Static_assert(CN_TOKEN_BYTES_MAX <= UINT16_MAX, "cn_vocab_entry.bytes holds it");

typedef struct cn_vocab_entry {
    uint32_t at;    // its bytes in cn_tokenizer.text
    uint16_t bytes; // 0: no token has this id
    bool     special;
    bool     whole; // a piece with exactly these bytes is this token
} cn_vocab_entry;

/* Open addressing over the bytes of the entries that pieces can become. */
typedef struct cn_vocab_slot {
    uint32_t tag;     // high half of the hash
    int32_t  token_1; // the id + 1; 0: empty
} cn_vocab_slot;

struct cn_tokenizer {
    int32_t         size;  // largest id + 1
    cn_vocab_entry *entry; // [size]
    cn_buf          text;
    cn_vocab_slot  *slot; // [slot_mask + 1], at most half full
    size_t          slot_mask;
    cn_bpe          bpe;
    cn_added_set    added[2]; // [1]: those looked for behind the normalizer
    cn_pattern     *word;     // one word character; NULL unless a token is single_word
    bool            nfc;
    int32_t         splits;
    cn_pattern     *split[CN_SPLITS_MAX]; // NULL: put a space before a piece without one
};

/* The vocabulary entry with these bytes; -1 if there is none. */
int32_t cn_vocab_find(const cn_tokenizer *t, const char *text, size_t bytes);

/* Room for `count` more ids behind tokens->count, or NULL. */
int32_t *cn_tokens_reserve(cn_tokens *tokens, size_t count);

CN_C_END

#endif

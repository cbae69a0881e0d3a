/* tokenizer.c - Opening a folder, looking up tokens, growing lists of ids. */
#include "engine/tokenizer_int.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS_ROOM_MIN = 64 };

void cn_tokens_release(cn_tokens *tokens) {
    free(tokens->token);
    *tokens = (cn_tokens){0};
}

int32_t *cn_tokens_reserve(cn_tokens *tokens, size_t count) {
    const size_t need = (size_t)tokens->count + count; // both are far below 2^62
    if (need > (size_t)tokens->room) {
        size_t room = tokens->room > 0 ? (size_t)tokens->room * 2 : TOKENS_ROOM_MIN;
        if (room < need) room = need;
        int32_t *token =
            CN_FAULT("engine.tokens.grow") ? NULL : realloc(tokens->token, room * sizeof(*token));
        if (!token) return NULL;
        tokens->token = token;
        tokens->room = (int64_t)room;
    }
    return tokens->token + tokens->count;
}

cn_err cn_tokens_put(cn_tokens *tokens, const int32_t *token, int64_t count) {
    if (count <= 0) return CN_OK;
    int32_t *to = cn_tokens_reserve(tokens, (size_t)count);
    if (!to) return CN_ENOMEM;
    memcpy(to, token, (size_t)count * sizeof(*token));
    tokens->count += count;
    return CN_OK;
}

cn_err cn_tokenizer_open(cn_tokenizer **out, const char *folder, cn_diag *diag) {
    *out = NULL;
    cn_buf path = {0}, text = {0};
    cn_buf_printf(&path, "%s/tokenizer.json", folder);
    cn_err err = path.err;
    if (err) err = CN_FAIL(diag, err, "%s: no memory for a path", folder);
    if (!err) err = cn_file_read(&text, cn_buf_str(&path), CN_TOKENIZER_FILE_BYTES_MAX, diag);
    if (!err) err = cn_tokenizer_parse(out, cn_buf_str(&text), text.bytes, diag);
    cn_buf_release(&text);
    cn_buf_release(&path);
    return err;
}

void cn_tokenizer_close(cn_tokenizer *t) {
    if (!t) return;
    for (int32_t i = 0; i < t->splits; i++) cn_pattern_free(t->split[i]);
    cn_pattern_free(t->word);
    for (int i = 0; i < 2; i++) cn_added_set_release(&t->added[i]);
    cn_bpe_release(&t->bpe);
    free(t->slot);
    free(t->entry);
    cn_buf_release(&t->text);
    free(t);
}

static bool has_token(const cn_tokenizer *t, int32_t token) {
    return token >= 0 && token < t->size && t->entry[token].bytes > 0;
}

const char *cn_tokenizer_bytes(const cn_tokenizer *t, int32_t token, size_t *bytes_out) {
    *bytes_out = has_token(t, token) ? t->entry[token].bytes : 0;
    return *bytes_out > 0 ? t->text.data + t->entry[token].at : NULL;
}

bool cn_tokenizer_is_special(const cn_tokenizer *t, int32_t token) {
    return has_token(t, token) && t->entry[token].special;
}

int32_t cn_vocab_find(const cn_tokenizer *t, const char *text, size_t bytes) {
    const uint64_t hash = cn_xxh3(text, bytes, 0);
    for (size_t i = hash & t->slot_mask; t->slot[i].token_1 > 0; i = (i + 1) & t->slot_mask) {
        const cn_vocab_entry *e = &t->entry[t->slot[i].token_1 - 1];
        if (t->slot[i].tag == hash >> 32 && e->bytes == bytes &&
            memcmp(t->text.data + e->at, text, bytes) == 0)
            return t->slot[i].token_1 - 1;
    }
    return -1;
}

int32_t cn_tokenizer_find(const cn_tokenizer *t, const char *text) {
    const size_t bytes = strlen(text);
    for (int set = 0; set < 2; set++)
        for (int32_t i = 0; i < t->added[set].count; i++) {
            const cn_vocab_entry *e = &t->entry[t->added[set].added[i].token];
            if (e->bytes == bytes && memcmp(t->text.data + e->at, text, bytes) == 0)
                return t->added[set].added[i].token;
        }
    return cn_vocab_find(t, text, bytes);
}

int32_t cn_tokenizer_size(const cn_tokenizer *t) {
    return t->size;
}

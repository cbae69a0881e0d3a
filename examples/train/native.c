/*
 * native.c - The engine's own tokenizer and cut for the training scripts (native.py).
 *
 * What the model is trained on is what it will be served: the same tokens, documents cut at
 * the same borders.  A shared library with plain arguments, for Python's ctypes.
 */
#include "sessions/cut.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct cn_train_text {
    cn_tokenizer *tokenizer;
    cn_tokens     tokens;
    cn_cut        cut;
    cn_diag       diag;
} cn_train_text;

/* NULL: cn_train_error has no text then, the reason is on stderr. */
cn_train_text *cn_train_open(const char *folder) {
    cn_train_text *t = calloc(1, sizeof(*t));
    if (!t) return NULL;
    if (cn_tokenizer_open(&t->tokenizer, folder, &t->diag) == CN_OK) return t;
    fprintf(stderr, "%s\n", t->diag.text);
    free(t);
    return NULL;
}

const char *cn_train_error(const cn_train_text *t) {
    return t->diag.text;
}

/* Token ids of plain text: their count, or -1.  *out is valid until the next call. */
int64_t cn_train_encode(cn_train_text *t, const char *text, int64_t bytes, const int32_t **out) {
    t->tokens.count = 0;
    if (cn_tokenizer_encode(t->tokenizer, &t->tokens, text, (size_t)bytes, CN_TOKENIZE_TEXT,
                            &t->diag))
        return -1;
    *out = t->tokens.token;
    return t->tokens.count;
}

/* Documents of a file: their count, or -1. */
int32_t cn_train_cut(cn_train_text *t, int32_t file_role, const char *path, const char *text,
                     int64_t bytes) {
    cn_cut_release(&t->cut);
    const cn_cut_args args = {.tokenizer = t->tokenizer,
                              .file_role = file_role,
                              .path = path,
                              .text = text,
                              .bytes = (size_t)bytes};
    return cn_cut_file(&t->cut, &args, &t->diag) ? -1 : t->cut.documents;
}

/* Document i of the last cut: its tokens; the piece is bytes [out[0], out[1]) from line out[2]. */
int32_t cn_train_document(const cn_train_text *t, int32_t i, const int32_t **token, int64_t out[4]) {
    const cn_document *d = &t->cut.document[i];
    out[0] = d->begin;
    out[1] = d->end;
    out[2] = d->first_line;
    out[3] = d->header_tokens;
    *token = d->token;
    return d->tokens;
}

/* The text of tokens: its bytes, cut to `room`. */
int64_t cn_train_decode(const cn_train_text *t, const int32_t *token, int64_t tokens, char *out,
                        int64_t room) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < tokens; i++) {
        size_t      n;
        const char *p = cn_tokenizer_bytes(t->tokenizer, token[i], &n);
        if (bytes + (int64_t)n > room) break;
        if (n) memcpy(out + bytes, p, n);
        bytes += (int64_t)n;
    }
    return bytes;
}

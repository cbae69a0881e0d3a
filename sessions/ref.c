/* ref.c - Where the edges of a long part end, and the line between them. */
#include "sessions/ref.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

void cn_ref_name(char out[CN_REF_NAME_BYTES], int32_t turn, int32_t call) {
    if (call == 0)
        snprintf(out, CN_REF_NAME_BYTES, "turn-%d/question.txt", turn);
    else
        snprintf(out, CN_REF_NAME_BYTES, "turn-%d/result-%d.txt", turn, call);
}

/* ---- Edges ------------------------------------------------------------------------- */

typedef enum { HEAD, TAIL } side;

typedef struct part {
    const cn_tokenizer *tokenizer;
    const char         *text;
    size_t              bytes;
    cn_tokens           scratch;
    cn_diag            *diag;
} part;

/* Whether the first or last `bytes` bytes have few enough tokens. */
static cn_err is_edge(part *p, side s, size_t bytes, bool *out) {
    const char *from = s == HEAD ? p->text : p->text + p->bytes - bytes;
    p->scratch.count = 0;
    CN_TRY(cn_tokenizer_encode(p->tokenizer, &p->scratch, from, bytes, CN_TOKENIZE_TEXT, p->diag));
    *out = p->scratch.count <= CN_REF_EDGE_TOKENS;
    return CN_OK;
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* The most bytes that have few enough tokens: twice as many while they fit, then halving. */
static cn_err find_edge(part *p, side s, size_t *out) {
    size_t fits = 0, over = p->bytes + 1;
    while (over - fits > 1) {
        const size_t next = over > p->bytes ? least(fits ? 2 * fits : CN_REF_EDGE_TOKENS, p->bytes)
                                            : fits + (over - fits) / 2;
        bool         is_few;
        CN_TRY(is_edge(p, s, next, &is_few));
        if (is_few)
            fits = next;
        else
            over = next;
    }
    *out = fits;
    return CN_OK;
}

/* Where the beginning ends: behind its last newline, else between two characters. */
static size_t head_end(const char *text, size_t bytes) {
    const char *newline = memrchr(text, '\n', bytes);
    return newline ? (size_t)(newline + 1 - text) : cn_utf8_cut(text, bytes);
}

/* Where the end begins, within the last `bytes` bytes: at their first line, if something is
 * in it, else between two characters. */
static size_t tail_begin(const part *p, size_t bytes) {
    enum { CHARACTER_BYTES = 4 };
    size_t at = p->bytes - bytes;
    if (at > 0 && p->text[at - 1] == '\n') return at;
    const char *newline = bytes ? memchr(p->text + at, '\n', bytes - 1) : NULL;
    if (newline) return (size_t)(newline + 1 - p->text);
    // Bytes 10xxxxxx go on with a character; of no character there are more than three.
    for (int i = 1; i < CHARACTER_BYTES && at < p->bytes && ((uint8_t)p->text[at] & 0xC0) == 0x80;
         i++)
        at++;
    return at;
}

/* One more whole line, as long as it fits: a byte more can be a token less, where the search
 * by halves stopped too early. */
static cn_err add_lines(part *p, cn_ref_span *middle) {
    for (bool fits = true; fits;) {
        const char  *next = memchr(p->text + middle->begin, '\n', middle->end - middle->begin);
        const size_t end = next ? (size_t)(next + 1 - p->text) : p->bytes;
        CN_TRY(is_edge(p, HEAD, end, &fits));
        fits = fits && end < middle->end;
        if (fits) middle->begin = end;
    }
    for (bool fits = true; fits;) {
        if (middle->end < 2 || p->text[middle->end - 1] != '\n') return CN_OK;
        const char  *newline = memrchr(p->text, '\n', middle->end - 1);
        const size_t begin = newline ? (size_t)(newline + 1 - p->text) : 0;
        CN_TRY(is_edge(p, TAIL, p->bytes - begin, &fits));
        fits = fits && begin > middle->begin;
        if (fits) middle->end = begin;
    }
    return CN_OK;
}

cn_err cn_ref_split(const cn_tokenizer *tokenizer, const char *text, size_t bytes, cn_ref_span *out,
                    cn_diag *diag) {
    part   p = {.tokenizer = tokenizer, .text = text, .bytes = bytes, .diag = diag};
    size_t head = 0, tail = 0;
    *out = (cn_ref_span){0};
    cn_err err = find_edge(&p, HEAD, &head);
    if (!err) err = find_edge(&p, TAIL, &tail);
    cn_ref_span middle = {head_end(text, head), tail_begin(&p, tail)};
    if (!err && middle.begin < middle.end) {
        err = add_lines(&p, &middle);
        if (!err) *out = middle;
    }
    cn_tokens_release(&p.scratch);
    return err;
}

/* ---- The text ---------------------------------------------------------------------- */

void cn_ref_put_inline(cn_buf *to, const char *text, size_t bytes, cn_ref_span middle,
                       const char *path) {
    cn_buf_put(to, text, middle.begin);
    if (middle.begin == 0 || text[middle.begin - 1] != '\n') cn_buf_put_str(to, "\n");
    cn_buf_printf(to, "[... more in file: %s]\n", path);
    cn_buf_put(to, text + middle.end, bytes - middle.end);
}

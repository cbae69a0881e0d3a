/*
 * cut.c - Units with a weight and an order; the lightest order splits.
 *
 * The file is first a list of units: lines, and parts of long lines.  A unit knows the
 * tokens before it and the order of the border in front of it, (class, hash) in one
 * number; from there on nothing looks at the text but to tokenise what is put out.
 */
#include "sessions/cut.h"

#include "base/buf.h"
#include "base/fault.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

enum {
    CLASS_TOP,       // between things of the top level
    CLASS_PARAGRAPH, // behind a blank line
    CLASS_LINE,
    CLASS_WITHIN, // a line
    CLASS_BITS = 2,

    PLACE_BYTES = 16,  // on each side of a place in a line
    PLACE_ONE_IN = 32, // is a border

    HALF_TOKENS = CN_CUT_PIECE_TOKENS / 2,
    UNIT_TOKENS_MAX = CN_DOCUMENT_TOKENS_MAX - CN_CUT_HEADER_TOKENS_MAX,
};

/* A token holds a byte or more, NFC makes at most 3 bytes of one, and a pre-tokenizer may
 * put a space before each character: a unit always fits into a document. */
_Static_assert(CN_CUT_UNIT_BYTES * 3 * 2 <= UNIT_TOKENS_MAX, "a unit fits");
_Static_assert(CN_CUT_HEADER_TOKENS_MAX + 2 * CN_CUT_SIDE_TOKENS < CN_CUT_PIECE_TOKENS,
               "two sides");

typedef struct unit {
    int32_t  begin;  // byte
    int32_t  before; // tokens of all units before this one
    uint64_t order;  // of the border in front
} unit;

typedef struct cutter {
    const cn_cut_args *args;
    const char        *text;
    cn_cut            *cut;
    cn_diag           *diag;
    unit              *unit; // [units + 1] the last is the file's end
    int64_t            units;
    int64_t            units_room;
    cn_tokens          header;
    cn_tokens          scratch;
    int64_t            documents_room;
    int64_t            lines; // in cut->line_token
    int64_t            lines_room;
    int64_t            line; // of the next piece's first byte, from 1
} cutter;

/* Room for one more element of `bytes` bytes behind `count`; the array, or NULL. */
static void *grow(void *array, int64_t count, int64_t *room, size_t bytes) {
    if (count < *room) return array;
    const int64_t more = *room > 0 ? *room * 2 : 256;
    void         *to = CN_FAULT("sessions.cut.grow") ? NULL : realloc(array, (size_t)more * bytes);
    if (to) *room = more;
    return to;
}

// ---- Units -------------------------------------------------------------------------

typedef struct span {
    const char *begin, *end;
} span;

/* The line that starts at `at`, its newline counted; empty at the file's end. */
static span line_from(const char *at, const char *end) {
    const char *newline = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
    return (span){at, newline ? newline + 1 : end};
}

static bool is_blank(span line) {
    while (line.begin < line.end && (*line.begin == ' ' || (*line.begin >= 9 && *line.begin <= 13)))
        line.begin++;
    return line.begin == line.end;
}

/* Neither line is empty. */
static uint64_t class_of(span above, span below) {
    const bool behind_blank = is_blank(above);
    if ((!behind_blank && *above.begin != '}') || is_blank(below)) return CLASS_LINE;
    if (*below.begin != ' ' && *below.begin != '\t' && *below.begin != '}') return CLASS_TOP;
    return behind_blank ? CLASS_PARAGRAPH : CLASS_LINE;
}

static uint64_t hash_of(span bytes) {
    return cn_xxh3(bytes.begin, (size_t)(bytes.end - bytes.begin), 0);
}

static uint64_t order_of(uint64_t class, span bytes) {
    return class << (64 - CLASS_BITS) | hash_of(bytes) >> CLASS_BITS;
}

/* Tokens of a unit alone.  A line gives its newline to the next one: pre-tokenizers join
 * a newline and the indentation behind it. */
static cn_err weigh(cutter *c, span u, int32_t *tokens_out) {
    if (u.begin > c->text && u.begin[-1] == '\n') u.begin--;
    if (u.end > u.begin && u.end[-1] == '\n') u.end--;
    c->scratch.count = 0;
    CN_TRY(cn_tokenizer_encode(c->args->tokenizer, &c->scratch, u.begin, (size_t)(u.end - u.begin),
                               CN_TOKENIZE_TEXT, c->diag));
    *tokens_out = (int32_t)c->scratch.count;
    return CN_OK;
}

static cn_err put_unit(cutter *c, span u, uint64_t order) {
    unit *to = grow(c->unit, c->units + 1, &c->units_room, sizeof(*to)); // and the end
    if (!to) return CN_ENOMEM;
    c->unit = to;
    to += c->units;
    to->begin = (int32_t)(u.begin - c->text);
    to->order = order;
    int32_t tokens;
    CN_TRY(weigh(c, u, &tokens));
    to[1] = (unit){.begin = (int32_t)(u.end - c->text), .before = to->before + tokens};
    c->units++;
    return CN_OK;
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* The bytes on both sides of a place in a line. */
static span around(span line, const char *at) {
    return (span){at - least((size_t)(at - line.begin), PLACE_BYTES),
                  at + least((size_t)(line.end - at), PLACE_BYTES)};
}

/* The end of the unit that starts at `begin` within a line: the first place that the bytes
 * around it choose, or the longest unit; not within a character. */
static const char *unit_end(span line, const char *begin) {
    const size_t most = least((size_t)(line.end - begin), CN_CUT_UNIT_BYTES);
    for (const char *at = begin + 1; at < begin + most; at++) {
        if (((uint8_t)*at & 0xC0) == 0x80 || *at == '\n' || *at == '\r') continue;
        if (hash_of(around(line, at)) % PLACE_ONE_IN == 0) return at;
    }
    return begin + (begin + most < line.end ? cn_utf8_cut(begin, most) : most);
}

/* `order` is that of the border in front of the line. */
static cn_err put_line(cutter *c, span line, uint64_t order) {
    if (line.end - line.begin <= CN_CUT_UNIT_BYTES) return put_unit(c, line, order);
    for (span u = {line.begin, NULL}; u.begin < line.end; u.begin = u.end) {
        u.end = unit_end(line, u.begin);
        CN_TRY(put_unit(c, u, order));
        order = order_of(CLASS_WITHIN, around(line, u.end));
    }
    return CN_OK;
}

/* The hash of a border is of the line above and two below: fewer, and many borders in a
 * file are equal; more, and an edit is more often near one. */
static cn_err put_units(cutter *c) {
    const char *end = c->text + c->args->bytes;
    span        above = {c->text, c->text}, line = line_from(c->text, end);
    uint64_t    order = 0; // nothing is above the first line
    while (line.begin < line.end) {
        const span below = line_from(line.end, end);
        if (above.begin < above.end)
            order = order_of(class_of(above, line), (span){above.begin, below.end});
        CN_TRY(put_line(c, line, order));
        above = line;
        line = below;
    }
    return CN_OK;
}

// ---- Pieces ------------------------------------------------------------------------

/* The unit before which units first..end-1 are split. */
static int64_t split_before(const unit *u, int64_t first, int64_t end, bool halve) {
    int64_t best = 0, middle = first + 1;
    for (int64_t i = first + 1; i < end; i++) {
        const int32_t left = u[i].before - u[first].before, right = u[end].before - u[i].before;
        if (left <= right) middle = i;
        if (left < CN_CUT_SIDE_TOKENS || right < CN_CUT_SIDE_TOKENS) continue;
        if (best == 0 || u[i].order < u[best].order ||
            (u[i].order == u[best].order && u[best].before - u[first].before < HALF_TOKENS))
            best = i;
    }
    return best > 0 && !halve ? best : middle;
}

static cn_err put_line_token(cutter *c, int32_t token) {
    int32_t *to = grow(c->cut->line_token, c->lines, &c->lines_room, sizeof(*to));
    if (!to) return CN_ENOMEM;
    c->cut->line_token = to;
    to[c->lines++] = token;
    return CN_OK;
}

/* Lines are counted in the text and found in the tokens: what is behind a newline starts
 * one.  (Tokens can lack newlines: an added token may swallow those around it.) */
static cn_err put_lines(cutter *c, cn_document *d, const int32_t *token) {
    bool is_start = true;
    for (const char *p = c->text + d->begin; p < c->text + d->end; p++) {
        d->lines += is_start;
        is_start = *p == '\n';
        c->line += is_start;
    }
    const int64_t lines = c->lines + d->lines;
    is_start = true;
    for (int32_t t = d->header_tokens; t < d->tokens; t++) {
        size_t      bytes;
        const char *text = cn_tokenizer_bytes(c->args->tokenizer, token[t], &bytes);
        for (size_t i = 0; i < bytes; i++) {
            if (is_start && c->lines < lines) CN_TRY(put_line_token(c, t));
            is_start = text[i] == '\n';
        }
    }
    while (c->lines < lines) CN_TRY(put_line_token(c, d->tokens - 1));
    return CN_OK;
}

/* Make a document of units first..end-1, unless its tokens pass the limit. */
static cn_err put_document(cutter *c, int64_t first, int64_t end, bool *fits_out) {
    cn_cut       *cut = c->cut;
    const int64_t before = cut->token.count;
    cn_document   d = {.header_tokens = (int32_t)c->header.count,
                       .begin = c->unit[first].begin,
                       .end = c->unit[end].begin,
                       .first_line = c->line};
    CN_TRY(cn_tokens_put(&cut->token, c->header.token, c->header.count));
    CN_TRY(cn_tokenizer_encode(c->args->tokenizer, &cut->token, c->text + d.begin,
                               (size_t)(d.end - d.begin), CN_TOKENIZE_TEXT, c->diag));
    *fits_out = cut->token.count - before <= CN_DOCUMENT_TOKENS_MAX;
    if (!*fits_out) {
        cut->token.count = before;
        return CN_OK;
    }
    d.tokens = (int32_t)(cut->token.count - before);
    CN_TRY(put_lines(c, &d, cut->token.token + before));

    cn_document *to = grow(cut->document, cut->documents, &c->documents_room, sizeof(*to));
    if (!to) return CN_ENOMEM;
    cut->document = to;
    to[cut->documents++] = d;
    return CN_OK;
}

static cn_err put_piece(cutter *c, int64_t first, int64_t end, int32_t depth) {
    const unit *u = c->unit;
    bool        fits = c->header.count + u[end].before - u[first].before <= CN_CUT_PIECE_TOKENS;
    if (fits || end - first <= 1) CN_TRY(put_document(c, first, end, &fits));
    if (fits) return CN_OK;
    cn_assert(end - first > 1); // a unit fits
    const int64_t at = split_before(u, first, end, depth >= CN_CUT_DEPTH_MAX);
    CN_TRY(put_piece(c, first, at, depth + 1));
    return put_piece(c, at, end, depth + 1);
}

// ---- The file ----------------------------------------------------------------------

/* The path as git writes it: within quotes if it would not stand on one line. */
void cn_cut_put_path(cn_buf *buf, const char *path) {
    bool quote = *path == '"';
    for (const char *p = path; *p; p++) quote |= (uint8_t)*p < 0x20 || *p == 0x7F;
    if (!quote) {
        cn_buf_put_str(buf, path);
        return;
    }
    cn_buf_put_str(buf, "\"");
    for (const char *p = path; *p; p++) {
        if ((uint8_t)*p < 0x20 || *p == 0x7F)
            cn_buf_printf(buf, "\\%03o", (unsigned)*p);
        else
            cn_buf_printf(buf, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
    }
    cn_buf_put_str(buf, "\"");
}

static cn_err put_header(cutter *c) {
    const cn_cut_args *a = c->args;
    cn_buf             text = {0};
    cn_cut_put_path(&text, a->path);
    cn_buf_put_str(&text, "\nfile: ");
    cn_cut_put_path(&text, a->path);
    cn_buf_put_str(&text, "\n");
    cn_err err = text.err;
    if (!err && a->file_role >= 0) err = cn_tokens_put(&c->header, &a->file_role, 1);
    if (!err)
        err = cn_tokenizer_encode(a->tokenizer, &c->header, text.data, text.bytes, CN_TOKENIZE_TEXT,
                                  c->diag);
    cn_buf_release(&text);
    if (!err && c->header.count > CN_CUT_HEADER_TOKENS_MAX)
        err = CN_FAIL(c->diag, CN_ETOOBIG,
                      "path of %zu bytes makes a header of %lld tokens, limit %d", strlen(a->path),
                      (long long)c->header.count, (int)CN_CUT_HEADER_TOKENS_MAX);
    return err;
}

static void put_pointers(cn_cut *cut) {
    const int32_t *token = cut->token.token, *line_token = cut->line_token;
    for (int32_t i = 0; i < cut->documents; i++) {
        cn_document *d = &cut->document[i];
        d->token = token;
        d->line_token = line_token;
        token += d->tokens;
        line_token += d->lines;
    }
    cut->tokens = cut->token.count;
}

cn_err cn_cut_file(cn_cut *out, const cn_cut_args *args, cn_diag *diag) {
    *out = (cn_cut){0};
    const size_t path_bytes = strlen(args->path);
    if (path_bytes == 0) return CN_FAIL(diag, CN_EINVAL, "a file without a path");
    if (path_bytes > CN_CUT_PATH_BYTES_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "path of %zu bytes, limit %d", path_bytes,
                       (int)CN_CUT_PATH_BYTES_MAX);
    if (args->bytes > CN_CUT_FILE_BYTES_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "file of %zu bytes, limit %d: %s", args->bytes,
                       (int)CN_CUT_FILE_BYTES_MAX, args->path);

    cutter c = {.args = args,
                .text = args->bytes > 0 ? args->text : "",
                .cut = out,
                .diag = diag,
                .line = 1};
    cn_err err = put_header(&c);
    if (!err && !(c.unit = grow(NULL, 0, &c.units_room, sizeof(*c.unit)))) err = CN_ENOMEM;
    if (!err) {
        c.unit[0] = (unit){0};
        err = put_units(&c);
    }
    if (!err) err = put_piece(&c, 0, c.units, 0);
    if (!err) put_pointers(out);

    if (err == CN_ENOMEM)
        CN_FAIL(diag, err, "no memory to cut a file of %zu bytes: %s", args->bytes, args->path);
    if (err) cn_cut_release(out);
    cn_tokens_release(&c.header);
    cn_tokens_release(&c.scratch);
    free(c.unit);
    return err;
}

void cn_cut_release(cn_cut *cut) {
    cn_tokens_release(&cut->token);
    free(cut->document);
    free(cut->line_token);
    *cut = (cn_cut){0};
}

// ---- Keys --------------------------------------------------------------------------

static void put_domain(cn_hasher *h, const cn_key_domain *domain, const char *kind) {
    cn_hasher_init(h, domain->salt);
    cn_hasher_put_sized(h, kind, strlen(kind));
    cn_hasher_put_sized(h, domain->model->bytes, CN_HASH_BYTES);
    cn_hasher_put_sized(h, domain->layout, strlen(domain->layout));
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "token ids are hashed as they lie");

cn_hash cn_document_key(const cn_key_domain *domain, const int32_t *token, int64_t tokens) {
    cn_hasher h;
    put_domain(&h, domain, "document");
    cn_hasher_put_sized(&h, token, (size_t)tokens * sizeof(*token));
    return cn_hasher_end(&h);
}

void cn_conversation_key_init(cn_conversation_key *k, const cn_key_domain *domain) {
    put_domain(&k->hasher, domain, "conversation");
    k->tokens = 0;
}

void cn_conversation_key_put(cn_conversation_key *k, const int32_t *token, int64_t tokens) {
    cn_hasher_put(&k->hasher, token, (size_t)tokens * sizeof(*token));
    k->tokens += tokens;
}

/* All before the tokens has its length before it, so these need none; it comes last. */
cn_hash cn_conversation_key_get(const cn_conversation_key *k) {
    cn_hasher h = k->hasher;
    cn_hasher_put_u64(&h, (uint64_t)k->tokens);
    return cn_hasher_end(&h);
}

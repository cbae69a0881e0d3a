/*
 * cut.h - Cut one file into documents, so that an edit changes few of them; and their keys.
 *
 * A document is a header that names the file, then a piece of its text:
 *
 *   <|file|>  "PATH\nfile: PATH\n"  |  piece
 *
 * The three parts are tokenised apart: the tokens of a document are a function of the
 * path and of the piece's bytes alone, with no line number in them.  A path with control
 * characters, or a quote at its start, is written as git writes it ("a\012b"), so that two
 * paths never give one header; spellings of special tokens are plain text.
 *
 * The rule, from the whole file down: a piece of more than CN_CUT_PIECE_TOKENS tokens,
 * header counted, is split at the border with the smallest (class, hash) that leaves
 * CN_CUT_SIDE_TOKENS or more on both sides.  Classes, the better first:
 *
 *   0  behind a line that starts with } or a blank line; the next line starts at column 0
 *   1  behind a blank line; the next line is not blank
 *   2  between any two lines
 *   3  within a line of more than CN_CUT_UNIT_BYTES, at places that its bytes choose
 *
 * The hash is XXH3 of the line above the border and the two below it (of 16 bytes on each
 * side, within a line), so a border stays where it is until an edit comes near; no choice depends
 * on a distance from the start of the file.  Where equal lines give equal hashes the first border
 * behind half a document is taken. Tokens are counted here line by line, each line alone: a near
 * estimate that an edit elsewhere cannot change.  The limit that holds exactly is
 * CN_DOCUMENT_TOKENS_MAX: a piece that passes it when it is tokenised as a whole is split again.
 *
 * Of 11,000 insertions of a line in eleven sources 99.8 % touch one or two documents, and
 * none makes more than 4,039 tokens new (tests/sessions/test_cut FILE...).
 *
 * Threads: any; the tokenizer is shared, nothing else is.
 * Layer: sessions -> base, engine.
 */
#ifndef CN_SESSIONS_CUT_H
#define CN_SESSIONS_CUT_H

#include "base/hash.h"
#include "engine/tokenizer.h"

CN_C_BEGIN

enum {
    CN_CUT_VERSION = 1, // of the rule: part of what a remembered cut is found by

    CN_DOCUMENT_TOKENS_MAX = 2048, // header counted
    CN_CUT_PIECE_TOKENS = 2000,    // a piece estimated at more is split
    CN_CUT_SIDE_TOKENS = 256,      // least on each side of a split, header not counted
    CN_CUT_UNIT_BYTES = 256,       // never split: a line up to this, or a part of a longer one
    CN_CUT_DEPTH_MAX = 64,         // splits above a piece; deeper ones halve it

    CN_CUT_FILE_BYTES_MAX = 4 << 20,
    CN_CUT_PATH_BYTES_MAX = 4096,
    CN_CUT_HEADER_TOKENS_MAX = 512,
};

typedef struct cn_document {
    const int32_t *token;         // [tokens]
    int32_t        tokens;        // 1..CN_DOCUMENT_TOKENS_MAX
    int32_t        header_tokens; // the first ones
    int64_t        begin, end;    // the piece: bytes begin..end-1 of the file
    int64_t        first_line;    // line of the byte `begin`, from 1
    const int32_t *line_token;    // [lines] the token that holds the first byte which line
                                  // first_line + i has in the piece
    int32_t lines;                // lines with a byte in the piece; 0 if it is empty
} cn_document;

/* The documents of one file: their pieces, in order, are the file. */
typedef struct cn_cut {
    cn_document *document; // [documents] one or more
    int32_t      documents;
    int64_t      tokens; // of all documents
    cn_tokens    token;  // what the documents' arrays lie in
    int32_t     *line_token;
} cn_cut;

typedef struct cn_cut_args {
    const cn_tokenizer *tokenizer;
    int32_t             file_role; // the model's role "file"; -1: it has none, nothing is put
    const char         *path;      // from the repository's root
    const char         *text;      // [bytes] as git stores it; any bytes
    size_t              bytes;
} cn_cut_args;

/* Cut a file.  An empty one is a document that is all header.
 *
 *   out  owned by the caller: cn_cut_release().  Zero unless CN_OK.
 *
 * CN_EINVAL    the path is empty.
 * CN_ETOOBIG   the file, its path or the header is over its limit; the diag says which.
 * CN_ENOTFOUND a byte has no token.   CN_ENOMEM.
 *
 * Time: the text is tokenised twice; about 8 MB/s on C sources. */
cn_err cn_cut_file(cn_cut *out, const cn_cut_args *args, cn_diag *diag) CN_MUST_CHECK;
void   cn_cut_release(cn_cut *cut); // frees and zeroes

/* Append a path as the header writes it. */
void cn_cut_put_path(cn_buf *to, const char *path);

/* ---- Keys ------------------------------------------------------------------------- */

/* What decides the bits of pages besides the tokens. */
typedef struct cn_key_domain {
    const cn_hash *model;  // hash of weights, config and tokenizer
    const char    *layout; // cn_engine_layout()
    const uint8_t *salt;   // [CN_HASH_KEY_BYTES] the tenant's secret
} cn_key_domain;

/* The key of a document's pages: BLAKE2b-256 under the salt, over model, layout and tokens,
 * each with its length before it.  How the document was cut is no part of it. */
cn_hash cn_document_key(const cn_key_domain *domain, const int32_t *token, int64_t tokens);

/* Keys of the pages of a conversation: each of all tokens up to the page's end.  A
 * conversation has no sink, so its pages are no document's pages, whatever its tokens. */
typedef struct cn_conversation_key {
    cn_hasher hasher;
    int64_t   tokens; // put so far
} cn_conversation_key;

void cn_conversation_key_init(cn_conversation_key *k, const cn_key_domain *domain);
void cn_conversation_key_put(cn_conversation_key *k, const int32_t *token, int64_t tokens);
/* The key of the page that ends behind the tokens put so far; more may be put. */
cn_hash cn_conversation_key_get(const cn_conversation_key *k);

CN_C_END

#endif

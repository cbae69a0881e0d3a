/*
 * tokenizer.h - tokenizer.json: text to token ids and back.
 *
 * Byte-level BPE as Hugging Face's tokenizers computes it: added tokens are split off
 * first (leftmost, longest; single_word, lstrip, rstrip honoured), then the normalizer
 * (none or NFC), the pre-tokenizer (Split by a regular expression, and ByteLevel, alone
 * or in a Sequence), then merges by (rank, position).  The pattern runs on PCRE2, mended
 * where it would be read in another way than by the reference (\s without U+180E), or
 * refused (&& in a class): pattern_int.h has the list.  The post-processor, truncation
 * and padding are not applied: no bos or eos is added here.
 *
 * Text is bytes.  Bytes that are not UTF-8 are tokenised byte by byte and come back as
 * they were: decode(encode(x)) == x for every x, unless the tokenizer itself rewrites
 * text (NFC, add_prefix_space, lstrip and rstrip).
 *
 * Where it departs from the reference: letters are those of this PCRE2's and utf8proc's
 * Unicode (14 and 15 in Debian 12; the reference's is newer); an added token decodes to
 * its content as written; two added tokens never share a byte of the text; a Split that
 * is Removed and inverted keeps what its pattern leaves out.
 *
 * Threads: a cn_tokenizer is immutable after open and may be shared; a cn_detok belongs
 * to one stream.
 *
 * Layer: engine -> base.
 */
#ifndef CN_ENGINE_TOKENIZER_H
#define CN_ENGINE_TOKENIZER_H

#include "base/buf.h"
#include "base/err.h"

CN_C_BEGIN

enum {
    CN_TOKENIZER_FILE_BYTES_MAX = 256 << 20,
    CN_TOKENIZER_TOKENS_MAX = 1 << 22,
    CN_TOKEN_BYTES_MAX = 4096,       // one vocabulary entry, in bytes of text
    CN_TOKENIZE_BYTES_MAX = 1 << 30, // one text
};

typedef struct cn_tokenizer cn_tokenizer;

/* Token ids of a text; `token` is malloc'ed, released by cn_tokens_release. */
typedef struct cn_tokens {
    int32_t *token;
    int64_t  count;
    int64_t  room;
} cn_tokens;

void cn_tokens_release(cn_tokens *tokens); // frees and zeroes
/* Append; CN_ENOMEM leaves them as they were. */
cn_err cn_tokens_put(cn_tokens *tokens, const int32_t *token, int64_t count) CN_MUST_CHECK;

/* Read tokenizer.json from `bytes` bytes at `text` (borrowed for the call).
 *
 *   out  owned by the caller: cn_tokenizer_close().  NULL unless CN_OK.
 *
 * CN_ECORRUPT      not strict JSON, or not a tokenizer: ids out of range or given twice,
 *                  a merge of unknown parts, a pattern that does not compile; the diag
 *                  names the entry.
 * CN_EUNSUPPORTED  a sound tokenizer of another kind (Unigram, WordPiece, another
 *                  normalizer, pre-tokenizer or decoder, a special token that plain text
 *                  would be made of); the diag names it.
 * CN_ETOOBIG       over a limit above.   CN_ENOMEM. */
cn_err cn_tokenizer_parse(cn_tokenizer **out, const char *text, size_t bytes,
                          cn_diag *diag) CN_MUST_CHECK;

/* The same from the file <folder>/tokenizer.json; also CN_ENOTFOUND, CN_EIO, and
 * CN_EINVAL for what is no regular file. */
cn_err cn_tokenizer_open(cn_tokenizer **out, const char *folder, cn_diag *diag) CN_MUST_CHECK;

void cn_tokenizer_close(cn_tokenizer *t); // NULL is allowed

typedef enum {
    CN_TOKENIZE_TEXT,    // plain text: the spelling of a special token is ordinary text, so that
                         // a file or a user cannot forge a role
    CN_TOKENIZE_SPECIAL, // special tokens are recognised (templates written by us)
} cn_tokenize_mode;

/* Append the tokens of `bytes` bytes at `text` to *tokens.  Added tokens that are not
 * special are recognised in both modes.
 *
 * CN_ETOOBIG  more than CN_TOKENIZE_BYTES_MAX, or a pattern that runs away on this text.
 * CN_ENOMEM.
 * CN_ENOTFOUND  a byte has no token (a vocabulary without the byte alphabet); the diag names it.
 * On failure *tokens is as before.
 *
 * Time: linear but for the heap of a long piece; about 30 MB/s on source code. */
cn_err cn_tokenizer_encode(const cn_tokenizer *t, cn_tokens *tokens, const char *text, size_t bytes,
                           cn_tokenize_mode mode, cn_diag *diag) CN_MUST_CHECK;

/* The bytes of one token; an added token gives its content.  Empty (NULL, 0) for an id
 * that no token has.  Valid until the tokenizer is closed. */
const char *cn_tokenizer_bytes(const cn_tokenizer *t, int32_t token, size_t *bytes_out);

bool cn_tokenizer_is_special(const cn_tokenizer *t, int32_t token);

/* The id of the token with exactly this content (an added token, or the bytes of a
 * vocabulary entry); -1 if there is none. */
int32_t cn_tokenizer_find(const cn_tokenizer *t, const char *text);

/* Largest id + 1. */
int32_t cn_tokenizer_size(const cn_tokenizer *t);

/* Decoding a stream: bytes of a character that is not complete yet are held back. */
typedef struct cn_detok {
    char    held[4];
    int32_t held_bytes;
} cn_detok;

/* Append to `out` what `token` completes: valid UTF-8 as long as the tokens spell valid
 * UTF-8; a sequence that can no longer become valid is passed on as U+FFFD.  Special
 * tokens give nothing.  A zeroed cn_detok starts a stream. */
void cn_detok_put(cn_detok *d, const cn_tokenizer *t, int32_t token, cn_buf *out);
/* The end of the stream: what is still held becomes U+FFFD. */
void cn_detok_end(cn_detok *d, cn_buf *out);

CN_C_END

#endif

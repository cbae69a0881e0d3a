/*
 * bpe_int.h - Byte-pair merges: the bytes of one piece to token ids.
 *
 *   Sennrich, Haddow & Birch 2016, "Neural Machine Translation of Rare Words with
 *   Subword Units", algorithm 1 (arXiv:1508.07909): while a pair of neighbours has a
 *   merge, apply the one of lowest rank; of equal ranks the leftmost.
 *
 * Threads: a cn_bpe is immutable once filled; a scratch belongs to one caller.
 *
 * Layer: engine -> base.
 */
#ifndef CN_ENGINE_BPE_INT_H
#define CN_ENGINE_BPE_INT_H

#include "base/err.h"

CN_C_BEGIN

typedef struct cn_merge {
    uint64_t pair; // left id << 32 | right id; UINT64_MAX: an empty slot
    uint32_t rank;
    int32_t  token;
} cn_merge;

typedef struct cn_bpe {
    int32_t   byte_token[256]; // -1: none
    cn_merge *slot;            // open addressing, at most half full
    int       slots_log2;
} cn_bpe;

/* Working memory for long pieces; zeroed is ready, grows as needed. */
typedef struct cn_bpe_scratch {
    void  *data;
    size_t room; // bytes
} cn_bpe_scratch;

/* An empty table with room for `merges` merges.  CN_ENOMEM. */
cn_err cn_bpe_init(cn_bpe *bpe, int64_t merges) CN_MUST_CHECK;
void   cn_bpe_release(cn_bpe *bpe); // frees and zeroes
/* Of two merges of one pair the later counts, as in the reference. */
void cn_bpe_put(cn_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t token);

/* Merge the `bytes` > 0 bytes at `piece`.
 *
 *   token      room for `bytes` ids.
 *   count_out  ids written; with CN_ENOTFOUND the index of the byte that has no token.
 *
 * CN_ENOTFOUND, CN_ENOMEM.   Time: O(bytes log bytes). */
cn_err cn_bpe_encode(const cn_bpe *bpe, cn_bpe_scratch *scratch, const char *piece, size_t bytes,
                     int32_t *token, size_t *count_out) CN_MUST_CHECK;
void   cn_bpe_scratch_release(cn_bpe_scratch *scratch);

CN_C_END

#endif

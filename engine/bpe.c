/*
 * bpe.c - Merges in order of (rank, position): by scanning a short piece, by a heap for a long one.
 *
 * Almost every piece of real text is shorter than SHORT_BYTES, where looking at all
 * ranks again after each merge costs less than keeping a heap.  A long one (base64, a
 * minified line under a pattern that does not cut it) must not cost its square.
 */
#include "engine/bpe_int.h"

#include "base/fault.h"

#include <stdlib.h>
#include <string.h>

enum { SHORT_BYTES = 48 };

#define NO_RANK UINT32_MAX

static uint64_t pair_of(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* The slot of `pair`, or the empty one where it belongs. */
static cn_merge *find_slot(const cn_bpe *bpe, uint64_t pair) {
    const size_t mask = ((size_t)1 << bpe->slots_log2) - 1;
    size_t       i = (size_t)(pair * 0x9E3779B97F4A7C15u >> (64 - bpe->slots_log2));
    while (bpe->slot[i].pair != pair && bpe->slot[i].pair != UINT64_MAX) i = (i + 1) & mask;
    return &bpe->slot[i];
}

cn_err cn_bpe_init(cn_bpe *bpe, int64_t merges) {
    memset(bpe->byte_token, -1, sizeof(bpe->byte_token));
    bpe->slots_log2 = 1;
    while ((int64_t)1 << bpe->slots_log2 < 2 * merges) bpe->slots_log2++;
    const size_t slots = (size_t)1 << bpe->slots_log2;
    bpe->slot = CN_FAULT("engine.bpe.init") ? NULL : malloc(slots * sizeof(*bpe->slot));
    if (!bpe->slot) return CN_ENOMEM;
    for (size_t i = 0; i < slots; i++) bpe->slot[i] = (cn_merge){UINT64_MAX, NO_RANK, -1};
    return CN_OK;
}

void cn_bpe_release(cn_bpe *bpe) {
    free(bpe->slot);
    *bpe = (cn_bpe){0};
}

void cn_bpe_put(cn_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t token) {
    const uint64_t pair = pair_of(left, right);
    *find_slot(bpe, pair) = (cn_merge){pair, rank, token};
}

/* `token` holds n ids; returns how many are left. */
static size_t merge_short(const cn_bpe *bpe, int32_t *token, size_t n) {
    uint32_t rank[SHORT_BYTES]; // of token[i], token[i + 1]; NO_RANK where nothing merges
    int32_t  made[SHORT_BYTES];
    for (size_t i = 0; i + 1 < n; i++) {
        const cn_merge *m = find_slot(bpe, pair_of(token[i], token[i + 1]));
        rank[i] = m->rank, made[i] = m->token;
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == NO_RANK) break;
        token[best] = made[best];
        const size_t after = n - best - 2; // tokens behind the pair
        memmove(token + best + 1, token + best + 2, after * sizeof(*token));
        if (after > 0) {
            memmove(rank + best, rank + best + 1, after * sizeof(*rank));
            memmove(made + best, made + best + 1, after * sizeof(*made));
        }
        n--;
        for (size_t i = best > 0 ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            const cn_merge *m = find_slot(bpe, pair_of(token[i], token[i + 1]));
            rank[i] = m->rank, made[i] = m->token;
        }
    }
    return n;
}

/* A long piece: a list of what is left, and a heap of (rank, position) in one number. */
typedef struct list {
    uint32_t *next, *prev; // positions; `next` of the last is n
    uint32_t *rank;        // of the pair that starts here; NO_RANK: none, or merged away
    uint64_t *heap;        // at most 2n: each merge takes one entry and adds at most two
    size_t    heaped;
} list;

static void heap_put(list *l, uint64_t entry) {
    size_t i = l->heaped++;
    for (; i > 0 && l->heap[(i - 1) / 2] > entry; i = (i - 1) / 2)
        l->heap[i] = l->heap[(i - 1) / 2];
    l->heap[i] = entry;
}

static uint64_t heap_take(list *l) {
    const uint64_t top = l->heap[0], last = l->heap[--l->heaped];
    size_t         i = 0;
    for (size_t child; (child = 2 * i + 1) < l->heaped; i = child) {
        if (child + 1 < l->heaped && l->heap[child + 1] < l->heap[child]) child++;
        if (l->heap[child] >= last) break;
        l->heap[i] = l->heap[child];
    }
    l->heap[i] = last;
    return top;
}

static void rank_pair(const cn_bpe *bpe, list *l, const int32_t *token, uint32_t at, size_t n) {
    l->rank[at] =
        l->next[at] < n ? find_slot(bpe, pair_of(token[at], token[l->next[at]]))->rank : NO_RANK;
    if (l->rank[at] != NO_RANK) heap_put(l, (uint64_t)l->rank[at] << 32 | at);
}

static size_t merge_long(const cn_bpe *bpe, list *l, int32_t *token, size_t n) {
    for (size_t i = 0; i < n; i++) l->next[i] = (uint32_t)i + 1, l->prev[i] = (uint32_t)i - 1;
    for (size_t i = 0; i < n; i++) rank_pair(bpe, l, token, (uint32_t)i, n);
    while (l->heaped > 0) {
        const uint64_t entry = heap_take(l);
        const uint32_t at = (uint32_t)entry, right = l->next[at];
        // Tokens only grow, so a pair of this rank here is the pair that made the entry.
        if (l->rank[at] != entry >> 32) continue;
        token[at] = find_slot(bpe, pair_of(token[at], token[right]))->token;
        l->rank[right] = NO_RANK;
        l->next[at] = l->next[right];
        if (l->next[at] < n) l->prev[l->next[at]] = at;
        if (at > 0) rank_pair(bpe, l, token, l->prev[at], n);
        rank_pair(bpe, l, token, at, n);
    }
    size_t count = 0;
    for (size_t i = 0; i < n; i = l->next[i]) token[count++] = token[i];
    return count;
}

cn_err cn_bpe_encode(const cn_bpe *bpe, cn_bpe_scratch *scratch, const char *piece, size_t bytes,
                     int32_t *token, size_t *count_out) {
    cn_assert(bytes > 0 && bytes < UINT32_MAX);
    for (size_t i = 0; i < bytes; i++) {
        token[i] = bpe->byte_token[(uint8_t)piece[i]];
        if (token[i] < 0) {
            *count_out = i;
            return CN_ENOTFOUND;
        }
    }
    *count_out = 0;
    if (bytes <= SHORT_BYTES) {
        *count_out = merge_short(bpe, token, bytes);
        return CN_OK;
    }
    const size_t need = bytes * (3 * sizeof(uint32_t) + 2 * sizeof(uint64_t));
    if (need > scratch->room) {
        void *data = CN_FAULT("engine.bpe.scratch") ? NULL : malloc(need);
        if (!data) return CN_ENOMEM;
        free(scratch->data);
        *scratch = (cn_bpe_scratch){data, need};
    }
    uint64_t *heap = scratch->data;
    uint32_t *words = (uint32_t *)(heap + 2 * bytes);
    list      l = {words, words + bytes, words + 2 * bytes, heap, 0};
    *count_out = merge_long(bpe, &l, token, bytes);
    return CN_OK;
}

void cn_bpe_scratch_release(cn_bpe_scratch *scratch) {
    free(scratch->data);
    *scratch = (cn_bpe_scratch){0};
}

/* added.c - The longest of many strings at one place: narrow a sorted range byte by byte. */
#include "engine/added_int.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b) {
    const cn_added *x = a, *y = b;
    const size_t    both = x->bytes < y->bytes ? x->bytes : y->bytes;
    const int       order = memcmp(x->content, y->content, both);
    if (order) return order;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    if (x->special != y->special) return x->special ? -1 : 1;
    return x->token < y->token ? -1 : x->token > y->token;
}

void cn_added_set_sort(cn_added_set *set) {
    if (set->count > 0) qsort(set->added, (size_t)set->count, sizeof(*set->added), compare);
    set->plain = 0;
    for (int32_t i = 0, c = 0; i <= set->count; i++) {
        const int32_t begins = i < set->count ? (uint8_t)set->added[i].content[0] : 256;
        while (c <= begins) set->first[c++] = i;
        if (i < set->count) set->plain += !set->added[i].special;
    }
}

void cn_added_set_release(cn_added_set *set) {
    for (int32_t i = 0; i < set->count; i++) free(set->added[i].content);
    free(set->added);
    *set = (cn_added_set){0};
}

/* The first of added[lo..hi), which agree before `at`, whose byte there is not below `byte`. */
static int32_t lower_bound(const cn_added_set *set, int32_t lo, int32_t hi, uint32_t at,
                           int32_t byte) {
    while (lo < hi) {
        const int32_t mid = lo + (hi - lo) / 2;
        if ((uint8_t)set->added[mid].content[at] < byte) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

const cn_added *cn_added_set_find(const cn_added_set *set, cn_tokenize_mode mode, const char *text,
                                  size_t bytes) {
    const cn_added *best = NULL;
    if (bytes == 0) return NULL;
    int32_t lo = set->first[(uint8_t)text[0]], hi = set->first[(uint8_t)text[0] + 1];
    for (uint32_t same = 1; lo < hi; same++) { // added[lo..hi) begin with the text's first `same`
        for (bool found = false; lo < hi && set->added[lo].bytes == same; lo++) {
            if (found || (set->added[lo].special && mode == CN_TOKENIZE_TEXT)) continue;
            best = &set->added[lo];
            found = true;
        }
        if (same == bytes) break;
        const int32_t byte = (uint8_t)text[same];
        lo = lower_bound(set, lo, hi, same, byte);
        hi = lower_bound(set, lo, hi, same, byte + 1);
    }
    return best;
}

/*
 * added_int.h - Added tokens: strings that are cut out of a text before anything else.
 *
 * Layer: engine -> base.
 */
#ifndef CN_ENGINE_ADDED_INT_H
#define CN_ENGINE_ADDED_INT_H

#include "engine/tokenizer.h"

CN_C_BEGIN

typedef struct cn_added {
    char    *content; // owned by the set
    uint32_t bytes;   // > 0
    int32_t  token;
    bool     special;
    bool     normalized; // looked for behind the normalizer
    bool     single_word;
    bool     lstrip;
    bool     rstrip;
} cn_added;

/* Sorted by content, so that the tokens that begin with given bytes are neighbours. */
typedef struct cn_added_set {
    cn_added *added; // owned
    int32_t   count;
    int32_t   plain;      // how many of them are not special
    int32_t   first[257]; // added[first[c]..first[c + 1]) begin with byte c
} cn_added_set;

/* Sort what is in set->added[0..count).  Of equal contents a special token comes first,
 * then the smaller id. */
void cn_added_set_sort(cn_added_set *set);
void cn_added_set_release(cn_added_set *set);

/* The longest token that `text` begins with (in CN_TOKENIZE_TEXT, of those that are not
 * special), or NULL.   Time: O(its bytes * log count). */
const cn_added *cn_added_set_find(const cn_added_set *set, cn_tokenize_mode mode, const char *text,
                                  size_t bytes);

CN_C_END

#endif

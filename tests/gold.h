/*
 * gold.h - Read a set of golden arrays: STEM.txt and STEM.bin (format: tests/golden/golden.py).
 */
#ifndef CN_TESTS_GOLD_H
#define CN_TESTS_GOLD_H

#include <stddef.h>
#include <stdint.h>

typedef struct t_gold {
    char    *index; // STEM.txt
    uint8_t *data;  // STEM.bin
    size_t   bytes;
} t_gold;

/* `stem` is a path under the source tree without its ending; fails the test if absent. */
t_gold t_gold_open(const char *stem);
void   t_gold_close(t_gold *g);

/* The array `name` of type `dtype` ("f32", "i32", ...); its elements in *count_out (may be
 * NULL).  NULL if there is none; fails the test if the type or size is another. */
const void *t_gold_find(const t_gold *g, const char *name, const char *dtype, int64_t *count_out);
/* The same, and fails the test if there is none.  `name` is a format. */
const void *t_gold_get(const t_gold *g, const char *dtype, int64_t *count_out, const char *name,
                       ...) __attribute__((format(printf, 4, 5)));

#endif

/*
 * quote.h - What a view costs before it is paid, and why each missing document is missing.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_QUOTE_H
#define CN_RUNTIME_QUOTE_H

#include "runtime/cli.h"

#include <stdio.h>

CN_C_BEGIN

typedef struct cn_quote {
    int64_t                cached_tokens, missing_tokens;
    double                 prefill_ns; // of a token; 0: not known yet
    const cn_context_miss *miss;       // [misses]
    int64_t                misses;
} cn_quote;

/* Seconds until all is prefilled; -1 if nobody knows how long a token takes. */
double cn_quote_seconds(const cn_quote *p);

/* A line with the sum, then one for each reason, the first few files named. */
void cn_quote_print(FILE *to, const cn_quote *p);
/* A line for each missing document. */
void cn_quote_print_misses(FILE *to, const cn_quote *p);

/* The members "price" and "missed" of an open object:
 *   "price":{"cached_tokens","to_prefill_tokens","expected_s"}     expected_s null: not known
 *   "missed":[{"path","first_line","lines","tokens","reason"}]
 * and of a changed one "line" and "token", null if they are not known; of a renamed one "from". */
void cn_quote_put_json(cn_json_writer *w, const cn_quote *p);

CN_C_END

#endif

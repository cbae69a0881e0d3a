/*
 * price.h - What a hosted service would have charged for the tokens of a bill.
 *
 * By the section [prices] of the configuration, for a million tokens of each kind:
 *
 *   cached    cache_write x (prefilled + prompt) + cache_read x reused + output x output
 *   no_cache  input x (prefilled + prompt + reused) + output x output
 *
 * `cached` is a service whose cache finds just what ours found.  A prefix cache finds less as soon
 * as a file in the middle changes, so it is the least that one charges; at best, if it always hits,
 * it is what it charges.  Without a price for cache_write or cache_read these cost what input does.
 * Cairn itself charges nothing: its costs are the seconds.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_PRICE_H
#define CN_RUNTIME_PRICE_H

#include "runtime/conf.h"
#include "store/bill.h"

CN_C_BEGIN

typedef struct cn_price {
    double cached, no_cache;
} cn_price;

/* False, and zeros, unless the prices of input and output are configured. */
bool cn_price_get(const cn_conf *conf, const cn_bill *bill, cn_price *out);

CN_C_END

#endif

/* price.c - Tokens times prices. */
#include "runtime/price.h"

bool cn_price_get(const cn_conf *conf, const cn_bill *b, cn_price *out) {
    *out = (cn_price){0};
    if (!cn_conf_is_set(conf, CN_CONF_INPUT) || !cn_conf_is_set(conf, CN_CONF_OUTPUT)) return false;
    const double input = cn_conf_number(conf, CN_CONF_INPUT);
    const double write = cn_conf_is_set(conf, CN_CONF_CACHE_WRITE)
                             ? cn_conf_number(conf, CN_CONF_CACHE_WRITE)
                             : input;
    const double read =
        cn_conf_is_set(conf, CN_CONF_CACHE_READ) ? cn_conf_number(conf, CN_CONF_CACHE_READ) : input;
    const double fresh = (double)(b->prefilled_tokens + b->prompt_tokens);
    const double reused = (double)b->reused_tokens;
    const double output = (double)b->output_tokens * cn_conf_number(conf, CN_CONF_OUTPUT);
    *out = (cn_price){.cached = (fresh * write + reused * read + output) / 1e6,
                      .no_cache = ((fresh + reused) * input + output) / 1e6};
    return true;
}

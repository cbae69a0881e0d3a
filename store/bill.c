/* bill.c - The bill's rules, its sum and its JSON. */
#include "store/bill.h"

#include <inttypes.h>

_Static_assert(sizeof(cn_bill) % sizeof(int64_t) == 0, "nothing but int64");
enum { NUMBERS = sizeof(cn_bill) / sizeof(int64_t) };

/* So that a sum of all numbers of a bill cannot overflow. */
static const int64_t number_max = INT64_MAX / NUMBERS;

static const struct {
    const char *name;
    size_t      offset;
} parts[] = {
#define PART(name)                                                                                 \
    { #name, offsetof(cn_bill, name##_ns) }
    PART(queue),  PART(tokenize), PART(context), PART(restore), PART(prefill), PART(route),
    PART(attend), PART(decode),   PART(tool),    PART(store),   PART(other),
#undef PART
};
enum { PARTS = sizeof(parts) / sizeof(parts[0]) };

static int64_t part_ns(const cn_bill *bill, int part) {
    return *(const int64_t *)(const void *)((const char *)bill + parts[part].offset);
}

const char *cn_miss_name(cn_miss miss) {
    static const char *const names[] = {
#define X(name, text) text,
        CN_MISS_LIST(X)
#undef X
    };
    return (unsigned)miss < CN_MISS_COUNT ? names[miss] : "?";
}

cn_err cn_bill_check(const cn_bill *bill, cn_diag *diag) {
    const int64_t *number = (const int64_t *)(const void *)bill;
    for (int i = 0; i < NUMBERS; i++) {
        const bool    is_saved = &number[i] == &bill->saved_ns;
        const int64_t min = is_saved ? -number_max : 0;
        if (number[i] < min || number[i] > number_max)
            return CN_FAIL(diag, CN_EINVAL,
                           "bill: number %d is %" PRId64 ", not in %" PRId64 "..%" PRId64, i,
                           number[i], min, number_max);
    }

    int64_t sum_ns = 0;
    for (int part = 0; part < PARTS; part++) sum_ns += part_ns(bill, part);
    const int64_t apart_ns =
        sum_ns > bill->wall_ns ? sum_ns - bill->wall_ns : bill->wall_ns - sum_ns;
    if (apart_ns > bill->wall_ns / 100)
        return CN_FAIL(diag, CN_EINVAL,
                       "bill: parts add up to %" PRId64 " ns, wall is %" PRId64 " ns", sum_ns,
                       bill->wall_ns);
    if (bill->other_ns >= CN_BILL_OTHER_NS_MAX && bill->other_ns >= bill->wall_ns / 20)
        return CN_FAIL(diag, CN_EINVAL, "bill: other is %" PRId64 " ns of a wall of %" PRId64 " ns",
                       bill->other_ns, bill->wall_ns);

    if (bill->context_tokens != bill->cached_tokens + bill->prefilled_tokens)
        return CN_FAIL(diag, CN_EINVAL,
                       "bill: context of %" PRId64 " tokens, %" PRId64 " cached + %" PRId64
                       " prefilled",
                       bill->context_tokens, bill->cached_tokens, bill->prefilled_tokens);
    if (bill->saved_ns != (bill->no_cache_ns ? bill->no_cache_ns - bill->wall_ns : 0))
        return CN_FAIL(diag, CN_EINVAL,
                       "bill: saved %" PRId64 " ns, %" PRId64
                       " ns without a cache, wall is %" PRId64 " ns",
                       bill->saved_ns, bill->no_cache_ns, bill->wall_ns);
    if (bill->per_layer_routing_ns && bill->per_layer_routing_ns < bill->wall_ns)
        return CN_FAIL(diag, CN_EINVAL,
                       "bill: %" PRId64 " ns with routing in each layer, wall is %" PRId64 " ns",
                       bill->per_layer_routing_ns, bill->wall_ns);
    int64_t missed_tokens = 0;
    for (int miss = 0; miss < CN_MISS_COUNT; miss++) {
        missed_tokens += bill->misses[miss].tokens;
        if (bill->misses[miss].count == 0 && bill->misses[miss].tokens > 0)
            return CN_FAIL(diag, CN_EINVAL, "bill: %" PRId64 " tokens of 0 misses for \"%s\"",
                           bill->misses[miss].tokens, cn_miss_name((cn_miss)miss));
    }
    if (missed_tokens != bill->prefilled_tokens)
        return CN_FAIL(diag, CN_EINVAL, "bill: misses of %" PRId64 " tokens, %" PRId64 " prefilled",
                       missed_tokens, bill->prefilled_tokens);
    return CN_OK;
}

void cn_bill_set_wall(cn_bill *bill, int64_t wall_ns) {
    bill->wall_ns = wall_ns;
    bill->other_ns = 0;
    int64_t left_ns = wall_ns;
    for (int part = 0; part < PARTS; part++) left_ns -= part_ns(bill, part);
    bill->other_ns = left_ns > 0 ? left_ns : 0;
}

/* The sum of two times that may not be known. */
static int64_t otherwise(int64_t a_ns, const cn_bill *a, int64_t b_ns, const cn_bill *b) {
    if (!a_ns && !b_ns) return 0;
    return (a_ns ? a_ns : a->wall_ns) + (b_ns ? b_ns : b->wall_ns);
}

void cn_bill_add(cn_bill *sum, const cn_bill *bill) {
    int64_t       *to = (int64_t *)(void *)sum;
    const int64_t *from = (const int64_t *)(const void *)bill;
    const int64_t  no_cache_ns = otherwise(sum->no_cache_ns, sum, bill->no_cache_ns, bill);
    const int64_t  per_layer_ns =
        otherwise(sum->per_layer_routing_ns, sum, bill->per_layer_routing_ns, bill);
    for (int i = 0; i < NUMBERS; i++) to[i] += from[i];
    sum->no_cache_ns = no_cache_ns;
    sum->per_layer_routing_ns = per_layer_ns;
}

static void put_int64(cn_json_writer *w, const char *key, int64_t value) {
    cn_json_put_key(w, key);
    cn_json_put_int64(w, value);
}

/* Whole microseconds: three decimals, and the parts still add up. */
static void put_ms(cn_json_writer *w, const char *key, int64_t ns) {
    const int64_t us = ns < 0 ? -((-ns + 500) / 1000) : (ns + 500) / 1000;
    cn_json_put_key(w, key);
    cn_json_put_f64(w, (double)us / 1000.0, 15);
}

static void put_known_ms(cn_json_writer *w, const char *key, bool is_known, int64_t ns) {
    if (is_known) {
        put_ms(w, key, ns);
        return;
    }
    cn_json_put_key(w, key);
    cn_json_put_null(w);
}

void cn_bill_put_json(cn_json_writer *w, const cn_bill *bill) {
    cn_json_open(w, '{');
    put_int64(w, "context_tokens", bill->context_tokens);
    put_int64(w, "cached_tokens", bill->cached_tokens);
    put_int64(w, "prefilled_tokens", bill->prefilled_tokens);
    put_int64(w, "prompt_tokens", bill->prompt_tokens);
    put_int64(w, "output_tokens", bill->output_tokens);
    put_int64(w, "reused_tokens", bill->reused_tokens);
    put_ms(w, "ttft_ms", bill->ttft_ns);
    put_ms(w, "load_ms", bill->load_ns);
    cn_json_put_key(w, "ms");
    cn_json_open(w, '{');
    put_ms(w, "wall", bill->wall_ns);
    for (int part = 0; part < PARTS; part++) put_ms(w, parts[part].name, part_ns(bill, part));
    cn_json_close(w, '}');
    put_int64(w, "bytes_read", bill->bytes_read);
    put_int64(w, "bytes_written", bill->bytes_written);
    put_known_ms(w, "no_cache_ms", bill->no_cache_ns > 0, bill->no_cache_ns);
    put_known_ms(w, "per_layer_routing_ms", bill->per_layer_routing_ns > 0,
                 bill->per_layer_routing_ns);
    put_known_ms(w, "saved_ms", bill->no_cache_ns > 0, bill->saved_ns);
    cn_json_put_key(w, "misses");
    cn_json_open(w, '[');
    for (int miss = 0; miss < CN_MISS_COUNT; miss++) {
        if (bill->misses[miss].count == 0) continue;
        cn_json_open(w, '{');
        cn_json_put_key(w, "reason");
        cn_json_put_string(w, cn_miss_name((cn_miss)miss));
        put_int64(w, "count", bill->misses[miss].count);
        put_int64(w, "tokens", bill->misses[miss].tokens);
        cn_json_close(w, '}');
    }
    cn_json_close(w, ']');
    cn_json_close(w, '}');
}

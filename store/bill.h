/*
 * bill.h - What a turn cost: tokens, nanoseconds, bytes, and a reason for each miss.
 *
 * A bill is plain data.  The same struct is counted by sessions/, kept by the ledger and
 * shown by runtime/.  Its `parts` are disjoint pieces of the wall time:
 *
 *   wall = queue + tokenize + context + restore + prefill + route + attend + decode
 *        + tool + store + other
 *
 * ttft (time to the first token) and load (opening the model) stand outside.
 *
 * Layer: store -> base.
 */
#ifndef CN_STORE_BILL_H
#define CN_STORE_BILL_H

#include "base/err.h"
#include "base/json.h"

CN_C_BEGIN

// clang-format off
/*    name       text           why a document had to be prefilled */
#define CN_MISS_LIST(X)                                                                     \
    X(NEW,       "new")       /* a path that was not in the view before */                  \
    X(CHANGED,   "changed")   /* its bytes are others than before */                        \
    X(MODEL,     "model")     /* stored for other weights, config or tokenizer */           \
    X(FORMAT,    "format")    /* stored by another layout, backend or version */            \
    X(EVICTED,   "evicted")   /* was stored, and made room */                               \
    X(CORRUPT,   "corrupt")   /* is stored, and failed its checksum */                      \
    X(UNSTORED,  "unstored")  /* known, and its pages never reached the disk */

typedef enum {
#define X(name, text) CN_MISS_##name,
    CN_MISS_LIST(X)
#undef X
    CN_MISS_COUNT
} cn_miss;
// clang-format on

/* "new"; "?" for a value outside the enum.  Static storage. */
const char *cn_miss_name(cn_miss miss);

typedef struct cn_bill {
    int64_t context_tokens;   // of the view: cached + prefilled
    int64_t cached_tokens;    // found in the store
    int64_t prefilled_tokens; // computed, each for one of `misses`
    int64_t prompt_tokens;    // conversation tokens that this turn prefilled
    int64_t output_tokens;    // sampled

    int64_t ttft_ns, load_ns;

    int64_t wall_ns;
    int64_t queue_ns, tokenize_ns, context_ns, restore_ns, prefill_ns, route_ns, attend_ns;
    int64_t decode_ns; // without route and attend
    int64_t tool_ns, store_ns, other_ns;

    int64_t bytes_read, bytes_written;

    int64_t no_cache_ns;          // what the turn would have cost with nothing stored
    int64_t per_layer_routing_ns; // and with routing in each layer
    int64_t saved_ns;             // no_cache - wall; may be negative

    struct {
        int64_t count; // documents
        int64_t tokens;
    } misses[CN_MISS_COUNT];
} cn_bill;

enum { CN_BILL_OTHER_NS_MAX = 1000000 }; // `other` below this is never too much

/* Whether the bill is one: nothing but saved_ns is negative, the parts add up to the wall
 * time within 1 %, `other` is under 5 % of it or under CN_BILL_OTHER_NS_MAX, context =
 * cached + prefilled, and the misses' tokens add up to prefilled.
 *
 * CN_EINVAL  the diag names the rule and both numbers. */
cn_err cn_bill_check(const cn_bill *bill, cn_diag *diag) CN_MUST_CHECK;

/* Set wall_ns, and other_ns to what the parts leave of it (not below 0). */
void cn_bill_set_wall(cn_bill *bill, int64_t wall_ns);

/* Add every number of `bill` to `sum`. */
void cn_bill_add(cn_bill *sum, const cn_bill *bill);

/* The one JSON form: an object with the tokens, ttft_ms, load_ms, "ms" with wall and its
 * parts, bytes, no_cache_ms, per_layer_routing_ms, saved_ms, and "misses", an array of
 * {reason, count, tokens} without those of count 0.  Milliseconds have three decimals. */
void cn_bill_put_json(cn_json_writer *w, const cn_bill *bill);

CN_C_END

#endif

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
 * Two numbers say what would have been, from what was measured and nothing else:
 *
 *   no_cache           wall + (cached + conversation tokens found or still in memory when the turn
 *                      began) x the time that a token's prefill took when it was last measured, on
 *                      this state folder, model, instruction-set path and number of threads.  The
 *                      self-decoder's work on a token is bounded, so tokens x time is fair at any
 *                      length.  Within the turn nothing is counted twice: a runtime without a
 *                      cache also keeps what it has just computed.  A turn that ended before its
 *                      question had been read used nothing, and saved nothing.  Where tokens were
 *                      reused and no rate was ever measured, the bill claims nothing.
 *   per_layer_routing  wall + route x (cross layers - 1): route is this turn's own measured time
 *                      of scoring index keys and choosing the best.  `cairn bench curve` measures
 *                      how well that holds.
 *
 * reused_tokens counts as a hosted service does, which is sent all of its input by each
 * generation: the view and the conversation of each, less what it prefilled.  So a turn with a
 * tool call reads its view twice.
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
    X(MODEL,     "model")     /* the same bytes, for other weights, config or tokenizer */  \
    X(FORMAT,    "format")    /* the same bytes, by another layout, backend or cut */       \
    X(EVICTED,   "evicted")   /* was stored, and made room or went with the cache */        \
    X(CORRUPT,   "corrupt")   /* is stored, and failed its checksum */                      \
    X(UNSTORED,  "unstored")  /* was in the view, and its pages never reached the disk */

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
    int64_t reused_tokens;    // input that no generation of the turn had to compute: see below

    int64_t ttft_ns, load_ns;

    int64_t wall_ns;
    int64_t queue_ns, tokenize_ns, context_ns, restore_ns, prefill_ns, route_ns, attend_ns;
    int64_t decode_ns; // without route and attend
    int64_t tool_ns, store_ns, other_ns;

    int64_t bytes_read, bytes_written;

    int64_t no_cache_ns;          // the turn with nothing stored before it; 0: not known
    int64_t per_layer_routing_ns; // the turn with routing in each layer; 0: it routed nothing
    int64_t saved_ns;             // no_cache - wall; 0 if that is not known

    struct {
        int64_t count; // documents
        int64_t tokens;
    } misses[CN_MISS_COUNT];
} cn_bill;

enum { CN_BILL_OTHER_NS_MAX = 1000000 }; // `other` below this is never too much

/* Whether the bill is one: nothing but saved_ns is negative, the parts add up to the wall
 * time within 1 %, `other` is under 5 % of it or under CN_BILL_OTHER_NS_MAX, context =
 * cached + prefilled, the misses' tokens add up to prefilled, and what is said of no_cache and
 * per_layer_routing holds.
 *
 * CN_EINVAL  the diag names the rule and both numbers. */
cn_err cn_bill_check(const cn_bill *bill, cn_diag *diag) CN_MUST_CHECK;

/* Set wall_ns, and other_ns to what the parts leave of it (not below 0). */
void cn_bill_set_wall(cn_bill *bill, int64_t wall_ns);

/* Add every number of `bill` to `sum`.  In a sum that knows of one turn what it would have cost
 * otherwise, a turn of which that is not known counts as it was. */
void cn_bill_add(cn_bill *sum, const cn_bill *bill);

/* The one JSON form: an object with the tokens, ttft_ms, load_ms, "ms" with wall and its
 * parts, bytes, no_cache_ms, per_layer_routing_ms, saved_ms (null: not known), and "misses", an
 * array of {reason, count, tokens} without those of count 0.  Milliseconds have three decimals. */
void cn_bill_put_json(cn_json_writer *w, const cn_bill *bill);

CN_C_END

#endif

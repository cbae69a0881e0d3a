/*
 * bench_run.h - One sequence as the benches run it: a context of random tokens that grows,
 * a prompt, and tokens out one by one.
 *
 * The context is documents of CN_RUN_DOC_TOKENS tokens; a transformer's is one sequence,
 * and where its prefill would take minutes (beyond CN_RUN_WHOLE_TOKENS) its K and V are
 * random rows, and the time is put together from steps that were measured on the way,
 * which is said.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_BENCH_RUN_H
#define CN_RUNTIME_BENCH_RUN_H

#include "sessions/evidence.h"

CN_C_BEGIN

enum {
    CN_RUN_DOC_TOKENS = 2048,
    CN_RUN_PROMPT_TOKENS = 32,
    CN_RUN_WHOLE_TOKENS = 8192, // a transformer's longest prefill that is run whole
};

typedef struct cn_run cn_run;

typedef struct cn_run_opts {
    cn_engine *engine;      // borrowed until cn_run_close
    int64_t    tokens_max;  // of the context
    int32_t    outputs_max; // of a decode
} cn_run_opts;

/*   out  owned by the caller: cn_run_close().  NULL unless CN_OK.
 * CN_ETOOBIG  the engine's views have no room for context, prompt and outputs.   CN_ENOMEM. */
cn_err cn_run_open(cn_run **out, const cn_run_opts *opts, cn_diag *diag) CN_MUST_CHECK;
void   cn_run_close(cn_run *run); // NULL is allowed

typedef struct cn_run_prefill {
    double s;               // from an empty context
    bool   is_extrapolated; // a transformer's, beyond CN_RUN_WHOLE_TOKENS: steps at the beginning,
                            // in the middle and at the end, joined by Simpson's rule
} cn_run_prefill;

/* Go on to a context of `tokens` tokens: not fewer than before, and a multiple of
 * CN_RUN_DOC_TOKENS or tokens_max (asserted).  What was prefilled stays. */
cn_err cn_run_grow(cn_run *run, int64_t tokens, cn_run_prefill *out, cn_diag *diag) CN_MUST_CHECK;

typedef struct cn_run_token {
    int64_t       ns;     // from the token before (the first: from the prompt), sampling counted
    int64_t       tokens; // of the view at its step
    cn_step_stats stats;
    int64_t       read_ns; // of ns: evidence; 0: none of this token
} cn_run_token;

/* A prompt of CN_RUN_PROMPT_TOKENS, then greedy tokens; each call begins a new conversation behind
 * the same context.
 *
 *   token  [outputs] out; the first one is the prompt's step, each other a step of one token
 *
 * A transformer's context must be grown again before the next call: its conversation stands in the
 * same sequence (asserted). */
cn_err cn_run_decode(cn_run *run, int32_t outputs, cn_run_token *token,
                     cn_diag *diag) CN_MUST_CHECK;

/* The same, and every second token, from the second on, is counted as evidence: as a turn does it
 * with the tokens of its answer. */
cn_err cn_run_decode_read(cn_run *run, int32_t outputs, cn_run_token *token,
                          cn_diag *diag) CN_MUST_CHECK;

/* What evidence costs the tokens behind the first. */
typedef struct cn_run_read_cost {
    double with_us, without_us; // a token; medians
    double least_us;            // evidence itself, whatever the token
} cn_run_read_cost;

/* Of cn_run_decode_read; `outputs` >= 3.  CN_ENOMEM. */
cn_err cn_run_compare_read(cn_run_read_cost *out, const cn_run_token *token, int32_t outputs,
                           cn_diag *diag) CN_MUST_CHECK;

/* Disjoint parts of a token's time. */
typedef enum {
    CN_PART_WEIGHTS, // everything not below: products, norms, embedding
    CN_PART_WINDOW,
    CN_PART_ROUTE,
    CN_PART_ATTEND,
    CN_PART_HEAD,
    CN_PART_COUNT
} cn_part;

/* Of the tokens behind the first. */
typedef struct cn_run_summary {
    double  best_us, p50_us, p99_us;
    double  part_us[CN_PART_COUNT];  // median of each
    double  least_us[CN_PART_COUNT]; // least of each, whatever the token
    double  first_ms;                // the first token, from its prompt
    double  s;                       // all tokens, the first counted
    double  key_scans;               // most times that a step read an index key of its view
    int64_t key_bytes;               // of the step that read most
} cn_run_summary;

/* `outputs` >= 2.  CN_ENOMEM. */
cn_err cn_run_summarise(cn_run_summary *out, const cn_run_token *token, int32_t outputs,
                        cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

/*
 * opbench.h - Time every op at a model's dims, against the roofs of this machine.
 *
 * The roof of a case is the least time that its bytes and its operations can take:
 *
 *   max( bytes / read bandwidth of a buffer of that size, operations / peak rate )
 *
 * both measured in the same run, with the same threads and instructions.  Percent is
 * that time over the best time seen; the median tells how noisy the machine is.
 *
 * Layer: engine -> base, kernels.
 */
#ifndef CN_ENGINE_OPBENCH_H
#define CN_ENGINE_OPBENCH_H

#include "base/err.h"
#include "engine/config.h"

CN_C_BEGIN

typedef struct cn_opbench_row {
    const char *op;
    const char *shape;     // for a person: "256 x 512 -> 768, bf16"
    double      us;        // best
    double      us_median; // of all repetitions
    double      gb_s;      // bytes that must move / best time
    double      gop_s;     // operations / best time; 0 if none are counted
    double      roof_us;   // see above; 0: no roof is stated
    double      percent;   // 100 * roof_us / us
    const char *bound;     // "bytes", "bf16", "int8", "f32": which roof it is; "" if none
} cn_opbench_row;

typedef struct cn_opbench_roofs {
    double  bf16_gop_s, int8_gop_s, f32_gop_s;
    double  weights_gb_s; // reading as many bytes as the model's weights
    int64_t weights_bytes;
    int32_t threads;
} cn_opbench_roofs;

typedef struct cn_opbench_opts {
    const cn_config *config;  // whose dims
    const char      *isa;     // as in engine.h
    int32_t          threads; // 0: one for each core
    int32_t          case_ms; // time for each case; 0: 150
    const char      *only;    // run cases whose op starts with this; NULL: all
    void (*on_row)(void *ctx, const cn_opbench_row *row);
    void *ctx;
} cn_opbench_opts;

/* Run all cases; `on_row` is called for each as it is done.
 * CN_EINVAL, CN_EUNSUPPORTED as cn_engine_open; CN_ENOMEM. */
cn_err cn_opbench_run(const cn_opbench_opts *opts, cn_opbench_roofs *roofs_out,
                      cn_diag *diag) CN_MUST_CHECK;

/* What a decode step of one sequence must read, in bytes. */
typedef struct cn_step_bytes {
    int64_t weights;
    int64_t windows; // K and V that the self-decoder's windows hold
    int64_t keys;    // index keys of the view, of every source
    int64_t rows;    // K|V rows in each layer that attends: S, or all
    int64_t once;    // of all these, what is read for the first time: a later cross layer finds
                     // the rows of the one before in a nearer cache
} cn_step_bytes;

struct cn_engine;
/* `tokens` of the view, its conversation counted.  Pure. */
cn_step_bytes cn_step_bytes_plan(const struct cn_engine *e, int64_t tokens);

/* The least time that a token can take with an engine, from roofs measured now with its
 * threads: what a step reads at the bandwidth of a buffer of that size, what must be computed at
 * the peak of the weights' products. */
typedef struct cn_floor {
    double decode_us;    // one sequence
    double prefill_us;   // a token of a long document: what does not end before the cross-
                         // decoder; a transformer's, the mean over its first `tokens`
    cn_step_bytes bytes; // of a decode step
    double        gb_s, peak_gop_s; // of these roofs
} cn_floor;

void cn_floor_measure(cn_floor *out, struct cn_engine *e, int64_t tokens);

CN_C_END

#endif

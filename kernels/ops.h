/*
 * ops.h - The op table: one list, no holes, filled slow to fast.
 *
 * An engine holds one table and calls ops through it, so that the reference, the
 * CPU paths and CUDA run the same engine.  Every variant of an op refuses the same
 * inputs (cn_<op>_check in the op's header) and stays within the error that its
 * file states against the reference.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_OPS_H
#define CN_KERNELS_OPS_H

#include "kernels/types.h"

#include "kernels/attend.h"
#include "kernels/embed.h"
#include "kernels/index_scan.h"
#include "kernels/matmul.h"
#include "kernels/page.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/sample.h"
#include "kernels/swiglu.h"
#include "kernels/topk.h"
#include "kernels/window.h"

CN_C_BEGIN

/* Slow to fast. */
typedef enum { CN_ISA_REF, CN_ISA_AVX2, CN_ISA_AVX512, CN_ISA_COUNT } cn_isa;

typedef struct cn_ops {
    cn_isa isa;
#define CN_OP(op) cn_##op##_fn op;
#define CN_OP_SIMD(op)
#include "kernels/ops.def"
#undef CN_OP
#undef CN_OP_SIMD
} cn_ops;

/* "ref", "avx2", "avx512".  Static storage. */
const char *cn_isa_name(cn_isa isa);

/* Whether this processor (and this build) can run `isa`. */
bool cn_isa_is_supported(cn_isa isa);

/* The fastest supported one. */
cn_isa cn_isa_best(void);

/* Fill every entry for `isa`; entries without such a variant hold the reference.
 *
 * CN_EUNSUPPORTED  this processor cannot run it; *ops is untouched. */
cn_err cn_ops_init(cn_ops *ops, cn_isa isa) CN_MUST_CHECK;

CN_C_END

#endif

/*
 * roof.h - What this machine can do at most, measured: the roofs of the op bench.
 *
 * A time means little on a shared machine; a ratio to a roof that was measured in
 * the same run, with the same threads, does.  Each call is the best of many runs of
 * a few milliseconds, so that some of them are undisturbed.  The instructions are
 * those of a path, which this processor must support; those of CN_ISA_REF are what
 * a compiler makes of plain C.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_ROOF_H
#define CN_KERNELS_ROOF_H

#include "kernels/ops.h"
#include "kernels/pool.h"

CN_C_BEGIN

/* GB/s of reading `bytes` bytes (1 up) again and again, in huge pages where the
 * system gives them.  0 where there is no memory for the buffer. */
double cn_roof_bandwidth(cn_isa isa, int64_t bytes, cn_pool *pool);

/* Gop/s of independent register chains; a multiply-add of one element is 2 ops.
 * bf16: dpbf16ps, without it f32.  int8: the exact products of matmul.h, 16 bits x 8 bits
 * into s32: two vpdpbusd, without it vpmaddwd and an addition.  f32: fused multiply-add. */
double cn_roof_bf16(cn_isa isa, cn_pool *pool);
double cn_roof_int8(cn_isa isa, cn_pool *pool);
double cn_roof_f32(cn_isa isa, cn_pool *pool);

CN_C_END

#endif

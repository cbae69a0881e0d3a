/*
 * block.h - One block of memory: planned, then reserved, then handed out.
 *
 *   cn_block b = {0};
 *   layout(&b, x);           // planning: every take only counts, and returns NULL
 *   cn_block_reserve(&b);    // maps what was planned
 *   layout(&b, x);           // the same takes again: now they return memory
 *
 * So sizes are written once, in the code that uses them, and nothing can be taken that
 * was not planned.  The memory is zero, on huge pages where the system gives them, and
 * pages are only backed once they are touched.
 *
 * Layer: base.
 */
#ifndef CN_BASE_BLOCK_H
#define CN_BASE_BLOCK_H

#include "base/err.h"

CN_C_BEGIN

enum { CN_BLOCK_ALIGN_BYTES = 64 };

typedef struct cn_block {
    uint8_t *data;  // NULL while planning
    int64_t  bytes; // reserved
    int64_t  used;  // planned or handed out
} cn_block;

/* `bytes` >= 0 bytes on a 64-byte border; NULL while planning.  Taking more than was
 * planned is a bug (asserted). */
void *cn_block_take(cn_block *b, int64_t bytes);

/* Map what was planned and start handing out.
 *
 * CN_ENOMEM  the system does not give it; the diag names the bytes. */
cn_err cn_block_reserve(cn_block *b, cn_diag *diag) CN_MUST_CHECK;

/* Unmap and zero.  A zeroed block is fine. */
void cn_block_release(cn_block *b);

CN_C_END

#endif

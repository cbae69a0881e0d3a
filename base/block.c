/* block.c - An anonymous map behind a bump pointer. */
#include "base/block.h"
#include "base/fault.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>

void *cn_block_take(cn_block *b, int64_t bytes) {
    cn_assert(bytes >= 0 && bytes <= INT64_MAX / 4 && b->used <= INT64_MAX / 4);
    const int64_t at = b->used;
    b->used += (bytes + CN_BLOCK_ALIGN_BYTES - 1) / CN_BLOCK_ALIGN_BYTES * CN_BLOCK_ALIGN_BYTES;
    if (!b->data) return NULL;
    cn_assert(b->used <= b->bytes);
    return b->data + at;
}

cn_err cn_block_reserve(cn_block *b, cn_diag *diag) {
    cn_assert(!b->data);
    const int64_t bytes = b->used ? b->used : CN_BLOCK_ALIGN_BYTES;
    void         *p = CN_FAULT("base.block.map") ? (errno = ENOMEM, MAP_FAILED)
                                                 : mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE,
                                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return CN_FAIL(diag, CN_ENOMEM, "no memory for a block of %" PRId64 " bytes", bytes);
    madvise(p, (size_t)bytes, MADV_HUGEPAGE); // a wish: fewer page walks
    *b = (cn_block){p, bytes, 0};
    return CN_OK;
}

void cn_block_release(cn_block *b) {
    if (b->data) munmap(b->data, (size_t)b->bytes);
    *b = (cn_block){0};
}

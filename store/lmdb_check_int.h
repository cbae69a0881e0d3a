/*
 * lmdb_check_int.h - Whether an LMDB file is sound: the part of it that LMDB trusts blindly.
 *
 * LMDB 0.9 has no checksums, and follows the page numbers and offsets that it finds: one
 * flipped bit in a B-tree page can kill the process, or let the next write reuse a page
 * that is in use.  This reads both meta pages, all branch and leaf pages and the free
 * lists of the newest snapshot, and none of the large values.
 *
 * Format (LMDB 0.9, 64-bit little-endian), as far as it is used here:
 *
 *   page    pgno u64 | pad u16 | flags u16 | lower u16, upper u16 (overflow: pages u32)
 *           | node offsets u16, up to lower ... nodes from upper to the end
 *   node    lo u16, hi u16, flags u16, key bytes u16 | key | data.  Leaf: lo, hi are the
 *           data's bytes; with flag 1 the data is the pgno of an overflow run.
 *           Branch: lo, hi and flags are the child's pgno
 *   meta    pages 0 and 1: magic u32, version u32, address u64, map bytes u64, two
 *           trees (free, main), last page u64, transaction u64; the larger one counts
 *   tree    pad u32 (free: bytes of a page), flags u16, depth u16, then u64: branch pages,
 *           leaf pages, overflow pages, entries, root
 *   free    transaction u64 -> count u64, pgnos u64, descending
 */
#ifndef CN_STORE_LMDB_CHECK_INT_H
#define CN_STORE_LMDB_CHECK_INT_H

#include "base/err.h"

CN_C_BEGIN

/* Check the `bytes` bytes of a data file that nobody is writing.
 *
 *   unused_out  pages that are neither in use nor free: 0 in a file made by LMDB alone.
 *
 * CN_ECORRUPT      the diag names page and reason.
 * CN_EUNSUPPORTED  another LMDB format, or a machine of another page size.
 * CN_ENOMEM        one bit a page. */
cn_err cn_lmdb_check(const uint8_t *file, size_t bytes, size_t page_bytes, uint64_t *unused_out,
                     cn_diag *diag) CN_MUST_CHECK;

/* Whether the 16 bytes before a large value of `bytes` bytes are those that LMDB wrote:
 * deleting the value frees what they say.
 *   base  where the file is mapped */
bool cn_lmdb_overflow_is_sound(uintptr_t base, const uint8_t *value, size_t bytes,
                               size_t page_bytes);

CN_C_END

#endif

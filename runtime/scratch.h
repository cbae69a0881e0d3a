/*
 * scratch.h - A folder that a command works in, and removes.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_SCRATCH_H
#define CN_RUNTIME_SCRATCH_H

#include "base/err.h"

CN_C_BEGIN

enum { CN_SCRATCH_PATH_BYTES = 2048 };

#define CN_SCRATCH_MEMORY_BYTES ((int64_t)2 << 30) // least free room of a folder in memory

/* Make a new folder of this process alone (0700).
 *
 *   parent  where; NULL: TMPDIR, else /dev/shm if that has CN_SCRATCH_MEMORY_BYTES free (no
 *           commit there waits for a disk), else /tmp.
 *
 * CN_ETOOBIG  the path is too long.   CN_EIO  it cannot be made; then path_out is "". */
cn_err cn_scratch_make(char path_out[CN_SCRATCH_PATH_BYTES], const char *parent,
                       cn_diag *diag) CN_MUST_CHECK;

/* Write a file in a folder, over what was there; folders on its way are made.
 *
 *   path  relative to the folder.
 *
 * CN_ETOOBIG  the whole path is too long.   CN_EIO. */
cn_err cn_scratch_write(const char *folder, const char *path, const void *data, size_t bytes,
                        cn_diag *diag) CN_MUST_CHECK;

/* Remove the folder and all that is in it, following no link.  "" is fine.  What cannot be removed
 * is logged. */
void cn_scratch_remove(const char *path);

CN_C_END

#endif

/*
 * file.h - Read files whole: into memory, or as a read-only map.
 *
 * Layer: base.
 */
#ifndef CN_BASE_FILE_H
#define CN_BASE_FILE_H

#include "base/buf.h"
#include "base/err.h"

CN_C_BEGIN

enum { CN_FOLDER_BYTES_MAX = 4095 }; // of a path

/* Make a folder and those above it, as mkdir -p does, each 0700; one that is there stays as it is.
 *
 * CN_EIO  one cannot be made; the diag names it.   CN_ETOOBIG  over CN_FOLDER_BYTES_MAX. */
cn_err cn_folder_make(const char *path, cn_diag *diag) CN_MUST_CHECK;

typedef struct cn_file_map {
    const uint8_t *data; // NULL for an empty file
    size_t         bytes;
} cn_file_map;

/* Append the content of `path`, a regular file of at most `bytes_max` bytes, to `buf`.
 *
 * CN_ENOTFOUND  no such file.      CN_ETOOBIG  it is larger.
 * CN_EINVAL     it is not a regular file (a folder, a device).
 * CN_EIO, CN_ENOMEM.  On failure `buf` holds what it held before. */
cn_err cn_file_read(cn_buf *buf, const char *path, size_t bytes_max, cn_diag *diag) CN_MUST_CHECK;

/* Map `path` read-only; the same errors.  Close with cn_file_map_close.  A file that
 * shrinks while it is mapped kills the reader: map only files that are replaced by
 * rename. */
cn_err cn_file_map_open(cn_file_map *out, const char *path, size_t bytes_max,
                        cn_diag *diag) CN_MUST_CHECK;
void   cn_file_map_close(cn_file_map *map); // a zeroed map is fine

CN_C_END

#endif

/*
 * buf.h - A growing run of bytes with a NUL behind it.
 *
 * The first failure sticks in `err`, later puts do nothing: check once at the end.
 *
 * Layer: base.
 */
#ifndef CN_BASE_BUF_H
#define CN_BASE_BUF_H

#include "base/err.h"

CN_C_BEGIN

typedef struct cn_buf {
    char  *data; // `bytes` bytes and a NUL; NULL while nothing was put
    size_t bytes;
    size_t room;
    size_t bytes_max; // 0: CN_BUF_BYTES_MAX
    cn_err err;       // CN_OK, CN_ENOMEM, or CN_ETOOBIG (over bytes_max)
} cn_buf;

#define CN_BUF_BYTES_MAX ((size_t)1 << 32)

/* A zeroed cn_buf is ready. */
void cn_buf_release(cn_buf *buf); // frees and zeroes; bytes_max stays
void cn_buf_reset(cn_buf *buf);   // empties, keeps the memory, clears err
void cn_buf_put(cn_buf *buf, const void *data, size_t bytes);
void cn_buf_put_str(cn_buf *buf, const char *text);
void cn_buf_printf(cn_buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Room for `bytes` more, uninitialised, already counted in buf->bytes; NULL on failure. */
void *cn_buf_grow(cn_buf *buf, size_t bytes);
/* The data moves to the caller, who frees it; the buf is empty.  NULL if nothing was
 * put, and on failure: then err and the data stay. */
char *cn_buf_take(cn_buf *buf);
/* "" while nothing was put. */
const char *cn_buf_str(const cn_buf *buf);

CN_C_END

#endif

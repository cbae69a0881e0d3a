/*
 * base64.h - Bytes as text: RFC 4648, the standard alphabet, with padding.
 *
 * Layer: base (libsodium stops here).
 */
#ifndef CN_BASE_BASE64_H
#define CN_BASE_BASE64_H

#include "base/buf.h"

CN_C_BEGIN

/* Append the text of `bytes` bytes; errors stay in the buf. */
void cn_base64_put(cn_buf *to, const void *data, size_t bytes);

/* Append the bytes that `text` stands for.
 *
 * CN_EINVAL  it is not what cn_base64_put writes: other characters, line ends, wrong padding, bits
 *            behind the last byte; nothing is appended.
 * CN_ENOMEM, CN_ETOOBIG  as in the buf. */
cn_err cn_base64_read(cn_buf *to, const char *text, size_t bytes) CN_MUST_CHECK;

CN_C_END

#endif

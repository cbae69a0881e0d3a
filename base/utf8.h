/*
 * utf8.h - What is one UTF-8 character, by RFC 3629.
 *
 * Layer: base.
 */
#ifndef CN_BASE_UTF8_H
#define CN_BASE_UTF8_H

#include "base/err.h"

CN_C_BEGIN

/* The size, 1..4, of the character that starts at `text`; 0 if the `bytes` bytes there
 * start with none: overlong forms, surrogates, and code points over U+10FFFF are none. */
size_t cn_utf8_bytes(const char *text, size_t bytes);

/* The longest length up to `bytes` at which valid UTF-8 can be cut between characters. */
size_t cn_utf8_cut(const char *text, size_t bytes);

CN_C_END

#endif

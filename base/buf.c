/* buf.c - One realloc, reached by one road. */
#include "base/buf.h"
#include "base/fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM_MIN = 64 };

void cn_buf_release(cn_buf *buf) {
    free(buf->data);
    *buf = (cn_buf){.bytes_max = buf->bytes_max};
}

void cn_buf_reset(cn_buf *buf) {
    buf->bytes = 0;
    buf->err = CN_OK;
    if (buf->data) buf->data[0] = 0;
}

/* Room for `bytes` in all and the NUL; false with buf->err set if there is none. */
static bool reserve(cn_buf *buf, size_t bytes) {
    if (bytes < buf->room) return true;
    size_t room = buf->room > ROOM_MIN / 2 ? buf->room * 2 : ROOM_MIN;
    if (room <= bytes) room = bytes + 1;
    char *data = CN_FAULT("base.buf.alloc") ? NULL : realloc(buf->data, room);
    if (!data) {
        buf->err = CN_ENOMEM;
        return false;
    }
    buf->data = data;
    buf->room = room;
    return true;
}

void *cn_buf_grow(cn_buf *buf, size_t bytes) {
    const size_t bytes_max = buf->bytes_max ? buf->bytes_max : CN_BUF_BYTES_MAX;
    if (buf->err) return NULL;
    if (buf->bytes > bytes_max || bytes > bytes_max - buf->bytes) {
        buf->err = CN_ETOOBIG;
        return NULL;
    }
    if (!reserve(buf, buf->bytes + bytes)) return NULL;
    void *start = buf->data + buf->bytes;
    buf->bytes += bytes;
    buf->data[buf->bytes] = 0;
    return start;
}

void cn_buf_put(cn_buf *buf, const void *data, size_t bytes) {
    void *to = cn_buf_grow(buf, bytes);
    if (to && bytes > 0) memcpy(to, data, bytes);
}

void cn_buf_put_str(cn_buf *buf, const char *text) {
    cn_buf_put(buf, text, strlen(text));
}

void cn_buf_printf(cn_buf *buf, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    const int bytes = vsnprintf(NULL, 0, fmt, args);
    if (bytes < 0) { // the text would pass INT_MAX bytes
        if (!buf->err) buf->err = CN_ETOOBIG;
    } else {
        char *to = cn_buf_grow(buf, (size_t)bytes);
        if (to) vsnprintf(to, (size_t)bytes + 1, fmt, again);
    }
    va_end(again);
    va_end(args);
}

char *cn_buf_take(cn_buf *buf) {
    if (buf->err) return NULL;
    char *data = buf->data;
    *buf = (cn_buf){.bytes_max = buf->bytes_max};
    return data;
}

const char *cn_buf_str(const cn_buf *buf) {
    return buf->data ? buf->data : "";
}

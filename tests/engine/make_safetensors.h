/*
 * make_safetensors.h - Bytes of a safetensors file, made without engine/safetensors.c.
 */
#ifndef CN_TESTS_ENGINE_MAKE_SAFETENSORS_H
#define CN_TESTS_ENGINE_MAKE_SAFETENSORS_H

#include "base/buf.h"

#include <inttypes.h>
#include <stdarg.h>

/* The file of a header, as it stands, and data. */
static inline void t_put_safetensors(cn_buf *file, const char *header, size_t header_bytes,
                                     const void *data, size_t data_bytes) {
    for (int i = 0; i < 8; i++)
        cn_buf_put(file, &(uint8_t){(uint8_t)((uint64_t)header_bytes >> 8 * i)}, 1);
    cn_buf_put(file, header, header_bytes);
    cn_buf_put(file, data, data_bytes);
}

/* A file that grows by tensors. */
typedef struct t_file {
    cn_buf header, data;
} t_file;

/* `dims` dims as int follow. */
static inline void t_file_add(t_file *f, const char *name, const char *dtype, const void *data,
                              size_t bytes, int dims, ...) {
    cn_buf_printf(&f->header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", f->header.bytes ? "," : "{",
                  name, dtype);
    va_list args;
    va_start(args, dims);
    for (int i = 0; i < dims; i++)
        cn_buf_printf(&f->header, "%s%d", i ? "," : "", va_arg(args, int));
    va_end(args);
    cn_buf_printf(&f->header, "],\"data_offsets\":[%zu,%zu]}", f->data.bytes,
                  f->data.bytes + bytes);
    cn_buf_put(&f->data, data, bytes);
}

/* The whole file; `f` is released. */
static inline cn_buf t_file_end(t_file *f) {
    cn_buf file = {0};
    cn_buf_put_str(&f->header, f->header.bytes ? "}" : "{}");
    t_put_safetensors(&file, f->header.data, f->header.bytes, cn_buf_str(&f->data), f->data.bytes);
    cn_buf_release(&f->header);
    cn_buf_release(&f->data);
    return file;
}

#endif

/*
 * safetensors.h - The header of a safetensors file, checked in full before use.
 *
 *   offset  bytes  field
 *        0      8  header_bytes, u64 little-endian
 *        8      -  JSON object: name -> {"dtype", "shape", "data_offsets": [begin, end]},
 *                  and optionally "__metadata__": string -> string; may end in spaces
 *        -      -  data; offsets count from here
 *
 * Refused: a header that is not one strict JSON object, sizes that disagree with dtype
 * and shape (with overflow), ranges that leave the data, overlap, or leave holes.
 * An element type that this table does not know is CN_EUNSUPPORTED: its size cannot be
 * checked.  The parser points into the bytes it was given; it copies names only.
 *
 * Layer: engine -> base.
 */
#ifndef CN_ENGINE_SAFETENSORS_H
#define CN_ENGINE_SAFETENSORS_H

#include "base/err.h"

CN_C_BEGIN

enum {
    CN_SAFETENSORS_HEADER_BYTES_MAX = 100 << 20, // the reference implementation's limit
    CN_SAFETENSORS_TENSORS_MAX = 1 << 20,
    CN_SAFETENSORS_DIMS_MAX = 8,
};

/* CN_DTYPE_OTHER: a type of known size that no weight of ours has (I64, F8_E4M3, ...). */
typedef enum { CN_DTYPE_F32, CN_DTYPE_F16, CN_DTYPE_BF16, CN_DTYPE_I8, CN_DTYPE_OTHER } cn_dtype;

typedef struct cn_tensor {
    const char    *name; // owned by the set
    const uint8_t *data; // into the file's bytes; any alignment
    int64_t        bytes;
    int64_t        dim[CN_SAFETENSORS_DIMS_MAX];
    int32_t        dims;
    cn_dtype       dtype;
} cn_tensor;

/* Tensors of one or more files (shards), found by name. */
typedef struct cn_tensor_set cn_tensor_set;

cn_err cn_tensor_set_create(cn_tensor_set **out, cn_diag *diag) CN_MUST_CHECK;
void   cn_tensor_set_free(cn_tensor_set *set); // NULL is allowed

/* Add the tensors of one file.
 *
 *   file  `bytes` bytes, borrowed until the set is freed.
 *   name  of the file, for messages.
 *
 * CN_ECORRUPT      see above, or a tensor that the set already holds; the diag names file,
 *                  tensor and numbers.
 * CN_EUNSUPPORTED  an unknown element type.
 * CN_ETOOBIG       a limit above is exceeded.   CN_ENOMEM.
 * On failure the set is as before; else pointers to its tensors are no longer valid. */
cn_err cn_tensor_set_add(cn_tensor_set *set, const uint8_t *file, size_t bytes, const char *name,
                         cn_diag *diag) CN_MUST_CHECK;

/* NULL if there is none.  Time: logarithmic. */
const cn_tensor *cn_tensor_set_find(const cn_tensor_set *set, const char *name);
int64_t          cn_tensor_set_count(const cn_tensor_set *set);
/* In order of name (bytes); 0 <= i < count.  They lie side by side, as an array. */
const cn_tensor *cn_tensor_set_at(const cn_tensor_set *set, int64_t i);

const char *cn_dtype_name(cn_dtype dtype);

CN_C_END

#endif

/* safetensors.c - A header becomes a sorted list of tensors, or a sentence about what is wrong. */
#include "engine/safetensors.h"

#include "base/fault.h"
#include "base/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Names of one file's tensors, each with its NUL. */
typedef struct name_block {
    struct name_block *next;
    char               text[];
} name_block;

struct cn_tensor_set {
    cn_tensor  *tensor; // [count] in order of name
    int64_t     count;
    name_block *names;
};

static const struct {
    const char *name;
    int32_t     bytes; // of an element
    cn_dtype    dtype;
} dtypes[] = {
    {"F32", 4, CN_DTYPE_F32},       {"F16", 2, CN_DTYPE_F16},       {"BF16", 2, CN_DTYPE_BF16},
    {"I8", 1, CN_DTYPE_I8},         {"BOOL", 1, CN_DTYPE_OTHER},    {"U8", 1, CN_DTYPE_OTHER},
    {"F8_E4M3", 1, CN_DTYPE_OTHER}, {"F8_E5M2", 1, CN_DTYPE_OTHER}, {"F8_E8M0", 1, CN_DTYPE_OTHER},
    {"I16", 2, CN_DTYPE_OTHER},     {"U16", 2, CN_DTYPE_OTHER},     {"I32", 4, CN_DTYPE_OTHER},
    {"U32", 4, CN_DTYPE_OTHER},     {"I64", 8, CN_DTYPE_OTHER},     {"U64", 8, CN_DTYPE_OTHER},
    {"F64", 8, CN_DTYPE_OTHER},     {"C64", 8, CN_DTYPE_OTHER},
};
enum { DTYPES = sizeof(dtypes) / sizeof(dtypes[0]) };

const char *cn_dtype_name(cn_dtype dtype) {
    for (int i = 0; dtype != CN_DTYPE_OTHER && i < DTYPES; i++)
        if (dtypes[i].dtype == dtype) return dtypes[i].name;
    return "another type";
}

/* What the readers below share: the file at hand. */
typedef struct source {
    const char    *name;
    const uint8_t *data; // behind the header
    int64_t        data_bytes;
    cn_diag       *diag;
} source;

/* product[i] over the dims; false if it is no int64. */
static bool elements_of(int64_t *out, const cn_tensor *t) {
    *out = 1;
    for (int32_t i = 0; i < t->dims; i++)
        if (__builtin_mul_overflow(*out, t->dim[i], out)) return false;
    return true;
}

static cn_err read_dtype(cn_tensor *t, int32_t *elem_bytes, const cn_json *v, const source *s) {
    const char *text = cn_json_string(v);
    if (!text)
        return CN_FAIL(s->diag, CN_ECORRUPT, "%s: tensor %s has a dtype of type %s, want a string",
                       s->name, t->name, cn_json_type_name(cn_json_type_of(v)));
    for (int i = 0; i < DTYPES; i++)
        if (strcmp(text, dtypes[i].name) == 0) {
            t->dtype = dtypes[i].dtype;
            *elem_bytes = dtypes[i].bytes;
            return CN_OK;
        }
    return CN_FAIL(s->diag, CN_EUNSUPPORTED, "%s: tensor %s has dtype %s, of unknown size", s->name,
                   t->name, text);
}

static cn_err read_shape(cn_tensor *t, const cn_json *v, const source *s) {
    if (cn_json_type_of(v) != CN_JSON_ARRAY)
        return CN_FAIL(s->diag, CN_ECORRUPT, "%s: tensor %s has a shape of type %s, want an array",
                       s->name, t->name, cn_json_type_name(cn_json_type_of(v)));
    for (const cn_json *e = cn_json_first(v); e; e = cn_json_next(e)) {
        if (t->dims == CN_SAFETENSORS_DIMS_MAX)
            return CN_FAIL(s->diag, CN_ETOOBIG, "%s: tensor %s has %" PRId64 " dims, limit %d",
                           s->name, t->name, cn_json_count(v), (int)CN_SAFETENSORS_DIMS_MAX);
        int64_t *dim = &t->dim[t->dims];
        if (!cn_json_int64(e, dim) || *dim < 0)
            return CN_FAIL(s->diag, CN_ECORRUPT,
                           "%s: tensor %s: dim %d of the shape is no integer from 0 to 2^63-1",
                           s->name, t->name, (int)t->dims);
        t->dims++;
    }
    return CN_OK;
}

/* Also checks that the range lies in the data; its size is for read_tensor. */
static cn_err read_offsets(cn_tensor *t, const cn_json *v, const source *s) {
    int64_t        begin, end;
    const cn_json *first = cn_json_first(v);
    if (cn_json_type_of(v) != CN_JSON_ARRAY || cn_json_count(v) != 2 ||
        !cn_json_int64(first, &begin) || !cn_json_int64(cn_json_next(first), &end) || begin < 0)
        return CN_FAIL(s->diag, CN_ECORRUPT,
                       "%s: tensor %s: data_offsets are no two integers from 0 to 2^63-1", s->name,
                       t->name);
    if (begin > end)
        return CN_FAIL(s->diag, CN_ECORRUPT,
                       "%s: tensor %s begins at %" PRId64 ", behind its end, %" PRId64, s->name,
                       t->name, begin, end);
    if (end > s->data_bytes)
        return CN_FAIL(s->diag, CN_ECORRUPT,
                       "%s: tensor %s ends at %" PRId64 ", but the data has %" PRId64 " bytes",
                       s->name, t->name, end, s->data_bytes);
    t->data = s->data + begin;
    t->bytes = end - begin;
    return CN_OK;
}

static cn_err read_tensor(cn_tensor *t, const cn_json *entry, const source *s) {
    if (cn_json_type_of(entry) != CN_JSON_OBJECT)
        return CN_FAIL(s->diag, CN_ECORRUPT, "%s: tensor %s is of type %s, want an object", s->name,
                       t->name, cn_json_type_name(cn_json_type_of(entry)));
    const int64_t  members = cn_json_count(entry);
    const cn_json *dtype = cn_json_get(entry, "dtype");
    const cn_json *shape = cn_json_get(entry, "shape");
    const cn_json *offsets = cn_json_get(entry, "data_offsets");
    if (!dtype || !shape || !offsets || members != 3)
        return CN_FAIL(s->diag, CN_ECORRUPT,
                       "%s: tensor %s has %" PRId64
                       " members, want dtype, shape and data_offsets alone",
                       s->name, t->name, members);
    int32_t elem_bytes = 0;
    int64_t bytes;
    CN_TRY(read_dtype(t, &elem_bytes, dtype, s));
    CN_TRY(read_shape(t, shape, s));
    CN_TRY(read_offsets(t, offsets, s));
    if (!elements_of(&bytes, t) || __builtin_mul_overflow(bytes, elem_bytes, &bytes))
        return CN_FAIL(s->diag, CN_ECORRUPT, "%s: tensor %s: the shape has more than 2^63-1 bytes",
                       s->name, t->name);
    if (bytes != t->bytes)
        return CN_FAIL(s->diag, CN_ECORRUPT,
                       "%s: tensor %s has %" PRId64 " bytes by its offsets, %" PRId64
                       " by its shape",
                       s->name, t->name, t->bytes, bytes);
    return CN_OK;
}

static cn_err check_metadata(const cn_json *v, const source *s) {
    if (cn_json_type_of(v) != CN_JSON_OBJECT)
        return CN_FAIL(s->diag, CN_ECORRUPT, "%s: __metadata__ is of type %s, want an object",
                       s->name, cn_json_type_name(cn_json_type_of(v)));
    for (const cn_json *m = cn_json_first(v); m; m = cn_json_next(m))
        if (!cn_json_string(m))
            return CN_FAIL(s->diag, CN_ECORRUPT, "%s: __metadata__ %s is of type %s, want a string",
                           s->name, cn_json_key(m), cn_json_type_name(cn_json_type_of(m)));
    return CN_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const cn_tensor *)a)->name, ((const cn_tensor *)b)->name);
}

/* An empty tensor stands before the one that begins at the same byte. */
static int by_place(const void *a, const void *b) {
    const cn_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The tensors, sorted by place, cover the data without overlap or hole. */
static cn_err check_cover(cn_tensor *tensor, int64_t count, const source *s) {
    const uint8_t *end = s->data;
    const char    *before = "the header";
    for (int64_t i = 0; i < count; i++) {
        const cn_tensor *t = &tensor[i];
        if (t->data != end)
            return CN_FAIL(s->diag, CN_ECORRUPT,
                           "%s: tensor %s begins at %" PRId64 ", but %s before it ends at %" PRId64,
                           s->name, t->name, (int64_t)(t->data - s->data), before,
                           (int64_t)(end - s->data));
        end = t->data + t->bytes;
        before = t->name;
    }
    if (end != s->data + s->data_bytes)
        return CN_FAIL(s->diag, CN_ECORRUPT,
                       "%s: the last tensor ends at %" PRId64 ", but the data has %" PRId64
                       " bytes",
                       s->name, (int64_t)(end - s->data), s->data_bytes);
    return CN_OK;
}

/* Fill tensor[] and the names from the header; *count_out tensors are whole. */
static cn_err read_header(cn_tensor *tensor, int64_t *count_out, char *names, const cn_json *root,
                          const source *s) {
    int64_t count = 0;
    for (const cn_json *v = cn_json_first(root); v; v = cn_json_next(v)) {
        const char *name = cn_json_key(v);
        if (strcmp(name, "__metadata__") == 0) {
            CN_TRY(check_metadata(v, s));
            continue;
        }
        cn_tensor *t = &tensor[count++];
        *t = (cn_tensor){.name = names};
        names = stpcpy(names, name) + 1;
        CN_TRY(read_tensor(t, v, s));
    }
    qsort(tensor, (size_t)count, sizeof(*tensor), by_place);
    *count_out = count;
    return check_cover(tensor, count, s);
}

cn_err cn_tensor_set_create(cn_tensor_set **out, cn_diag *diag) {
    *out = CN_FAULT("engine.safetensors.create") ? NULL : calloc(1, sizeof(**out));
    if (!*out) return CN_FAIL(diag, CN_ENOMEM, "no memory for a set of tensors");
    return CN_OK;
}

void cn_tensor_set_free(cn_tensor_set *set) {
    if (!set) return;
    for (name_block *n = set->names, *next; n; n = next) {
        next = n->next;
        free(n);
    }
    free(set->tensor);
    free(set);
}

/* Add what the header `root` lists; `header_bytes` bounds the bytes of all names. */
static cn_err add_header(cn_tensor_set *set, const cn_json *root, size_t header_bytes,
                         const source *s) {
    const int64_t members = cn_json_count(root);
    int64_t       count;
    cn_err        err;
    if (set->count + members > CN_SAFETENSORS_TENSORS_MAX)
        return CN_FAIL(s->diag, CN_ETOOBIG, "%s: %" PRId64 " tensors with those before, limit %d",
                       s->name, set->count + members, (int)CN_SAFETENSORS_TENSORS_MAX);

    cn_tensor  *tensor = NULL;
    name_block *names = NULL;
    if (!CN_FAULT("engine.safetensors.tensors"))
        tensor = malloc((size_t)(set->count + members + 1) * sizeof(*tensor));
    if (!CN_FAULT("engine.safetensors.names")) names = malloc(sizeof(*names) + header_bytes);
    if (!tensor || !names) {
        err =
            CN_FAIL(s->diag, CN_ENOMEM, "%s: no memory for %" PRId64 " tensors", s->name, members);
        goto out;
    }
    err = read_header(tensor, &count, names->text, root, s);
    if (err) goto out;
    for (int64_t i = 0; i < count; i++)
        if (cn_tensor_set_find(set, tensor[i].name)) {
            err = CN_FAIL(s->diag, CN_ECORRUPT, "%s: tensor %s is in another file too", s->name,
                          tensor[i].name);
            goto out;
        }

    if (set->count > 0) memcpy(tensor + count, set->tensor, (size_t)set->count * sizeof(*tensor));
    qsort(tensor, (size_t)(count + set->count), sizeof(*tensor), by_name);
    free(set->tensor);
    names->next = set->names;
    *set = (cn_tensor_set){tensor, count + set->count, names};
    return CN_OK;

out:
    free(names);
    free(tensor);
    return err;
}

cn_err cn_tensor_set_add(cn_tensor_set *set, const uint8_t *file, size_t bytes, const char *name,
                         cn_diag *diag) {
    enum { LENGTH_BYTES = 8, DEPTH_MAX = 8, VALUES_MAX = CN_SAFETENSORS_TENSORS_MAX * 16 };
    if (bytes < LENGTH_BYTES)
        return CN_FAIL(diag, CN_ECORRUPT, "%s: %zu bytes, a safetensors file has at least %d", name,
                       bytes, (int)LENGTH_BYTES);
    uint64_t length = 0;
    for (int i = LENGTH_BYTES; i-- > 0;) length = length << 8 | file[i];
    if (length > bytes - LENGTH_BYTES)
        return CN_FAIL(diag, CN_ECORRUPT,
                       "%s: a header of %" PRIu64 " bytes, but %zu bytes follow its length", name,
                       length, bytes - LENGTH_BYTES);
    if (length > CN_SAFETENSORS_HEADER_BYTES_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "%s: a header of %" PRIu64 " bytes, limit %d", name,
                       length, (int)CN_SAFETENSORS_HEADER_BYTES_MAX);
    if (length == 0 || file[LENGTH_BYTES] != '{')
        return CN_FAIL(diag, CN_ECORRUPT, "%s: the header does not begin with {", name);

    const size_t                header_bytes = (size_t)length;
    const source                s = {name, file + LENGTH_BYTES + header_bytes,
                                     (int64_t)(bytes - LENGTH_BYTES - header_bytes), diag};
    static const cn_json_limits limits = {CN_SAFETENSORS_HEADER_BYTES_MAX, DEPTH_MAX, VALUES_MAX};
    cn_json_doc                *doc;
    CN_TRY(
        cn_json_parse(&doc, (const char *)file + LENGTH_BYTES, header_bytes, name, &limits, diag));
    const cn_err err = add_header(set, cn_json_root(doc), header_bytes, &s);
    cn_json_free(doc);
    return err;
}

const cn_tensor *cn_tensor_set_find(const cn_tensor_set *set, const char *name) {
    if (set->count == 0) return NULL;
    const cn_tensor key = {.name = name};
    return bsearch(&key, set->tensor, (size_t)set->count, sizeof(key), by_name);
}

int64_t cn_tensor_set_count(const cn_tensor_set *set) {
    return set->count;
}

const cn_tensor *cn_tensor_set_at(const cn_tensor_set *set, int64_t i) {
    cn_assert(i >= 0 && i < set->count);
    return &set->tensor[i];
}

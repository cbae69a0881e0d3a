/*
 * model.c - Tensors by name become one block of packed weights.
 *
 * The walk over the model (walk_model) is done twice: the first time it finds every
 * tensor, checks type and shape and adds up the bytes; the second time it fills.  So
 * nothing is allocated for a folder that is not this model, and what was planned is
 * what is used.  A random model is the same walk without tensors.
 */
#include "engine/model.h"

#include "base/block.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/json.h"
#include "base/rand.h"
#include "engine/safetensors.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char config_name[] = "config.json";
static const char tokenizer_name[] = "tokenizer.json";
static const char weights_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";

enum {
    NAME_BYTES = 64, // of a tensor of ours
    INDEX_BYTES_MAX = 64 << 20,
    FILE_NAME_BYTES_MAX = 255,
};

/* ---- Numbers ---------------------------------------------------------------------- */

/* Exact.  Subnormals come right by the multiplication: 2^112 moves the exponent's bias. */
static inline float f32_from_f16(uint16_t h) {
    const uint32_t shift = 0x77800000; // 2^112
    uint32_t       bits = (uint32_t)(h & 0x7fff) << 13;
    float          f, scale;
    memcpy(&f, &bits, 4);
    memcpy(&scale, &shift, 4);
    f *= scale;
    memcpy(&bits, &f, 4);
    if ((h & 0x7c00) == 0x7c00) bits |= 0x7f800000;
    bits |= (uint32_t)(h & 0x8000) << 16;
    memcpy(&f, &bits, 4);
    return f;
}

/* The elements first, ..., first + count - 1 of a float tensor, in f32. */
static void read_f32(float *out, const cn_tensor *t, int64_t first, int64_t count) {
    uint16_t h;
    switch (t->dtype) {
    case CN_DTYPE_F32:
        memcpy(out, t->data + first * 4, (size_t)count * 4);
        break;
    case CN_DTYPE_F16:
        for (int64_t i = 0; i < count; i++) {
            memcpy(&h, t->data + (first + i) * 2, 2);
            out[i] = f32_from_f16(h);
        }
        break;
    case CN_DTYPE_BF16:
        for (int64_t i = 0; i < count; i++) {
            memcpy(&h, t->data + (first + i) * 2, 2);
            out[i] = cn_f32_from_bf16(h);
        }
        break;
    default:
        cn_assert(!"a float type");
    }
}

/* The index of the first that is not finite; -1 if all are. */
static int64_t find_not_finite(const float *x, int64_t count) {
    int bad = 0; // without a branch in the loop: it becomes vector code
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], 4);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    for (int64_t i = 0; bad && i < count; i++)
        if (!isfinite(x[i])) return i;
    return -1;
}

static bool is_float(cn_dtype dtype) {
    return dtype == CN_DTYPE_F32 || dtype == CN_DTYPE_F16 || dtype == CN_DTYPE_BF16;
}

/* ---- The walk --------------------------------------------------------------------- */

typedef struct builder {
    const cn_config     *c;
    const cn_tensor_set *set; // NULL: random weights
    cn_diag             *diag;
    uint64_t             seed;
    uint8_t             *used;  // [tensors of the set]
    cn_block             block; // planned in the first walk
    int64_t              parameters;
    int32_t              cols_max; // of float matrices, and of all random ones
    float               *scratch;  // [CN_PANEL_ROWS, cols_max]; the second walk's, as is
    cn_bf16             *rounded;  // [CN_PANEL_ROWS, cols_max]
} builder;

/* ---- Random tensors --------------------------------------------------------------- */

/* Evenly spread over -127..127 times a scale, or over the bf16 of the same range: a deviation of
 * 1 / sqrt(cols) has a range of sqrt(3 / cols). */
static void random_rows(builder *b, cn_weight *w) {
    const float range = sqrtf(3 / (float)w->cols);
    const bool  is_i8 = w->type == CN_WEIGHT_I8;
    int8_t     *i8 = (int8_t *)b->scratch;
    float       scale[CN_PANEL_ROWS];
    for (int i = 0; i < CN_PANEL_ROWS; i++) scale[i] = range / 127;
    for (int32_t r = 0; r < w->rows; r += CN_PANEL_ROWS) {
        const int32_t n = w->rows - r < CN_PANEL_ROWS ? w->rows - r : CN_PANEL_ROWS;
        const int64_t count = (int64_t)n * w->cols; // cols is a multiple of 16
        for (int64_t i = 0; i < count; i += 8) {
            const uint64_t bits = cn_rand_next(&b->seed);
            for (int k = 0; k < 8; k++) {
                const int8_t v = (int8_t)(bits >> 8 * k);
                i8[i + k] = v == INT8_MIN ? 0 : v;
            }
        }
        for (int64_t i = 0; !is_i8 && i < count; i++)
            b->rounded[i] = cn_bf16_from_f32((float)i8[i] * scale[0]);
        const cn_err err =
            is_i8 ? cn_weight_pack(w, r, n, i8, scale) : cn_weight_pack(w, r, n, b->rounded, NULL);
        cn_assert(err == CN_OK);
    }
}

/* One tensor <prefix><name>.weight [rows, cols] of a packed matrix. */
typedef struct part {
    const char *name;
    int32_t     rows;
} part;

enum { PARTS_MAX = 2 + CN_INDEX_SOURCES_MAX, SHAPE_BYTES = CN_SAFETENSORS_DIMS_MAX * 22 + 3 };

/* "[512, 64]" */
static const char *shape_text(char out[SHAPE_BYTES], const int64_t *dim, int32_t dims) {
    int n = sprintf(out, "[");
    for (int32_t i = 0; i < dims; i++) n += sprintf(out + n, "%s%" PRId64, i ? ", " : "", dim[i]);
    sprintf(out + n, "]");
    return out;
}

static cn_err wrong_shape(const builder *b, const cn_tensor *t, const int64_t *dim, int32_t dims) {
    char have[SHAPE_BYTES], want[SHAPE_BYTES];
    return CN_FAIL(b->diag, CN_ECORRUPT, "tensor %s has shape %s, want %s", t->name,
                   shape_text(have, t->dim, t->dims), shape_text(want, dim, dims));
}

static bool has_shape(const cn_tensor *t, const int64_t *dim, int32_t dims) {
    return t->dims == dims && memcmp(t->dim, dim, (size_t)dims * sizeof(*dim)) == 0;
}

/* The tensor <prefix><name><suffix>; *out is NULL where there is none. */
static void look_up(builder *b, const cn_tensor **out, char full[NAME_BYTES], const char *prefix,
                    const char *name, const char *suffix) {
    const int want = snprintf(full, NAME_BYTES, "%s%s%s", prefix, name, suffix);
    cn_assert(want < NAME_BYTES);
    *out = cn_tensor_set_find(b->set, full);
    if (*out) b->used[*out - cn_tensor_set_at(b->set, 0)] = 1;
}

/* The tensor <prefix><name><suffix> of this shape. */
static cn_err need(builder *b, const cn_tensor **out, const char *prefix, const char *name,
                   const char *suffix, const int64_t *dim, int32_t dims) {
    char full[NAME_BYTES], want[SHAPE_BYTES];
    look_up(b, out, full, prefix, name, suffix);
    if (!*out)
        return CN_FAIL(b->diag, CN_ECORRUPT, "tensor %s is missing, want shape %s", full,
                       shape_text(want, dim, dims));
    return has_shape(*out, dim, dims) ? CN_OK : wrong_shape(b, *out, dim, dims);
}

static cn_err need_float(const builder *b, const cn_tensor *t) {
    if (is_float(t->dtype)) return CN_OK;
    return CN_FAIL(b->diag, CN_ECORRUPT, "tensor %s is %s, want F32, F16 or BF16", t->name,
                   cn_dtype_name(t->dtype));
}

static cn_err not_finite(const builder *b, const cn_tensor *t, int64_t at) {
    return CN_FAIL(b->diag, CN_ECORRUPT, "tensor %s: element %" PRId64 " is not finite", t->name,
                   at);
}

/* 1 everywhere; an optional one is absent. */
static cn_err random_gain(builder *b, const float **out, int32_t heads, int32_t dim) {
    if (heads > 0) return CN_OK;
    float *to = cn_block_take(&b->block, dim * (int64_t)sizeof(float));
    b->parameters += dim;
    for (int32_t i = 0; to && i < dim; i++) to[i] = 1;
    *out = to;
    return CN_OK;
}

/* A gain: <prefix><name>.weight [dim]; with heads > 0 it is [heads, dim] or [dim],
 * repeated for each head. */
static cn_err walk_vector(builder *b, const float **out, const char *prefix, const char *name,
                          int32_t heads, int32_t dim) {
    const int64_t    per_head[2] = {heads, dim}, *one = per_head + 1;
    const cn_tensor *t;
    char             full[NAME_BYTES];
    *out = NULL;
    if (!b->set) return random_gain(b, out, heads, dim);
    if (heads > 0) {
        look_up(b, &t, full, prefix, name, ".weight");
        if (!t) return CN_OK; // optional: a norm without gain
        if (!has_shape(t, one, 1) && !has_shape(t, per_head, 2))
            return wrong_shape(b, t, per_head, 2);
    } else
        CN_TRY(need(b, &t, prefix, name, ".weight", one, 1));
    CN_TRY(need_float(b, t));

    const int64_t all = (int64_t)(heads > 0 ? heads : 1) * dim;
    const int64_t given = t->dims == 2 ? all : dim;
    b->parameters += given;
    float *to = cn_block_take(&b->block, all * (int64_t)sizeof(float));
    if (!to) return CN_OK;
    read_f32(to, t, 0, given);
    const int64_t bad = find_not_finite(to, given);
    if (bad >= 0) return not_finite(b, t, bad);
    for (int64_t i = given; i < all; i++) to[i] = to[i - given];
    *out = to;
    return CN_OK;
}

/* Find the tensors of one part; *scale is NULL for a float matrix. */
static cn_err need_part(builder *b, const cn_tensor **weight, const cn_tensor **scale,
                        const char *prefix, const part *p, int32_t cols) {
    const int64_t dim[2] = {p->rows, cols};
    *weight = *scale = NULL;
    if (!b->set) {
        b->parameters += dim[0] * dim[1];
        return CN_OK;
    }
    CN_TRY(need(b, weight, prefix, p->name, ".weight", dim, 2));
    b->parameters += dim[0] * dim[1];
    if ((*weight)->dtype != CN_DTYPE_I8) return need_float(b, *weight);
    if (!b->c->int8_rows)
        return CN_FAIL(b->diag, CN_ECORRUPT, "tensor %s is I8, but quantization is none",
                       (*weight)->name);
    CN_TRY(need(b, scale, prefix, p->name, ".scale", dim, 1));
    if ((*scale)->dtype == CN_DTYPE_F32) return CN_OK;
    return CN_FAIL(b->diag, CN_ECORRUPT, "tensor %s is %s, want F32", (*scale)->name,
                   cn_dtype_name((*scale)->dtype));
}

static cn_err pack_i8(const builder *b, cn_weight *w, int32_t first, int32_t rows,
                      const cn_tensor *weight, const cn_tensor *scale) {
    for (int32_t r = 0; r < rows; r += CN_PANEL_ROWS) {
        const int32_t n = rows - r < CN_PANEL_ROWS ? rows - r : CN_PANEL_ROWS;
        const int8_t *src = (const int8_t *)weight->data + (int64_t)r * w->cols;
        float         factor[CN_PANEL_ROWS];
        read_f32(factor, scale, r, n);
        const int64_t bad = find_not_finite(factor, n);
        if (bad >= 0) return not_finite(b, scale, r + bad);
        if (cn_weight_pack(w, first + r, n, src, factor) == CN_OK) continue;
        const int8_t *low = memchr(src, 0x80, (size_t)n * (size_t)w->cols);
        cn_assert(low);
        return CN_FAIL(b->diag, CN_ECORRUPT,
                       "tensor %s: element %" PRId64 " is -128, range -127..127", weight->name,
                       (int64_t)(low - (const int8_t *)weight->data));
    }
    return CN_OK;
}

static cn_err pack_float(const builder *b, cn_weight *w, int32_t first, int32_t rows,
                         const cn_tensor *weight) {
    for (int32_t r = 0; r < rows; r += CN_PANEL_ROWS) {
        const int32_t n = rows - r < CN_PANEL_ROWS ? rows - r : CN_PANEL_ROWS;
        const int64_t at = (int64_t)r * w->cols, count = (int64_t)n * w->cols;
        read_f32(b->scratch, weight, at, count);
        for (int64_t i = 0; i < count; i++) {
            b->rounded[i] = cn_bf16_from_f32(b->scratch[i]);
            b->scratch[i] = cn_f32_from_bf16(b->rounded[i]);
        }
        // After rounding: the largest f32 are infinite in bf16.
        const int64_t bad = find_not_finite(b->scratch, count);
        if (bad >= 0) return not_finite(b, weight, at + bad);
        const cn_err err = cn_weight_pack(w, first + r, n, b->rounded, NULL);
        cn_assert(err == CN_OK);
    }
    return CN_OK;
}

/* The matrices of `parts` below each other, in one. */
static cn_err walk_matrix(builder *b, cn_weight *w, const char *prefix, int32_t cols,
                          const part *parts, int32_t count) {
    const cn_tensor *weight[PARTS_MAX], *scale[PARTS_MAX];
    int32_t          rows = 0;
    cn_assert(count >= 1 && count <= PARTS_MAX);
    for (int32_t i = 0; i < count; i++) {
        CN_TRY(need_part(b, &weight[i], &scale[i], prefix, &parts[i], cols));
        rows += parts[i].rows;
        if (!scale[i] != !scale[0])
            return CN_FAIL(b->diag, CN_ECORRUPT,
                           "tensor %s is %s, but %s, packed with it, is %s; want I8 for both or "
                           "neither",
                           weight[i]->name, cn_dtype_name(weight[i]->dtype), weight[0]->name,
                           cn_dtype_name(weight[0]->dtype));
    }
    const bool is_i8 = b->set ? scale[0] != NULL : b->c->int8_rows;
    *w = (cn_weight){.type = is_i8 ? CN_WEIGHT_I8 : CN_WEIGHT_BF16, .rows = rows, .cols = cols};
    w->data = cn_block_take(&b->block, cn_weight_data_bytes(w->type, rows, cols));
    if (w->type == CN_WEIGHT_I8) {
        w->scale = cn_block_take(&b->block, cn_weight_panels(rows) * CN_PANEL_ROWS *
                                                (int64_t)sizeof(*w->scale));
        w->sum = cn_block_take(&b->block,
                               cn_weight_panels(rows) * CN_PANEL_ROWS * (int64_t)sizeof(*w->sum));
    }
    if ((!is_i8 || !b->set) && cols > b->cols_max) b->cols_max = cols;
    if (!b->block.data) return CN_OK;
    if (!b->set) {
        random_rows(b, w);
        return CN_OK;
    }
    for (int32_t i = 0, first = 0; i < count; first += parts[i++].rows)
        CN_TRY(scale[i] ? pack_i8(b, w, first, parts[i].rows, weight[i], scale[i])
                        : pack_float(b, w, first, parts[i].rows, weight[i]));
    return CN_OK;
}

#define PARTS(...) ((part[]){__VA_ARGS__}), sizeof((part[]){__VA_ARGS__}) / sizeof(part)

/* The query of an index: q, then w. */
static cn_err walk_query(builder *b, cn_weight *w, const char *prefix) {
    const cn_config *c = b->c;
    const part query[] = {{"index.q", c->index_heads * c->index_dim}, {"index.w", c->index_heads}};
    return walk_matrix(b, w, prefix, c->hidden, query, c->index_weighted ? 2 : 1);
}

/* k|v and the key of each index source, and what norms go with them. */
static cn_err walk_shared(builder *b, cn_model *m) {
    const cn_config *c = b->c;
    const int32_t    kv = c->kv_heads * c->head_dim, sources = cn_config_index_sources(c);
    char             key[CN_INDEX_SOURCES_MAX][NAME_BYTES];
    part             parts[PARTS_MAX] = {{"shared.k", kv}, {"shared.v", kv}};
    for (int32_t i = 0; i < sources; i++) {
        if (c->arm == CN_ARM_CLSA)
            snprintf(key[i], NAME_BYTES, "index.k");
        else
            snprintf(key[i], NAME_BYTES, "cross.%d.index.k", (int)i);
        parts[2 + i] = (part){key[i], c->index_dim};
    }
    CN_TRY(walk_vector(b, &m->shared_norm, "shared.", "norm", 0, c->hidden));
    if (c->qk_norm_cross)
        CN_TRY(walk_vector(b, &m->shared_k_norm, "shared.", "k_norm", c->kv_heads, c->head_dim));
    CN_TRY(walk_matrix(b, &m->shared, "", c->hidden, parts, 2 + sources));
    return c->arm == CN_ARM_CLSA ? walk_query(b, &m->index_query, "") : CN_OK;
}

static cn_err walk_layer(builder *b, cn_layer *l, const char *kind, int32_t number, bool is_self) {
    const cn_config *c = b->c;
    const int32_t    q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    char             prefix[NAME_BYTES];
    snprintf(prefix, sizeof(prefix), "%s.%d.", kind, (int)number);
    CN_TRY(walk_vector(b, &l->attn_norm, prefix, "attn_norm", 0, c->hidden));
    CN_TRY(walk_vector(b, &l->ffn_norm, prefix, "ffn_norm", 0, c->hidden));
    if (is_self ? c->qk_norm_self : c->qk_norm_cross)
        CN_TRY(walk_vector(b, &l->q_norm, prefix, "q_norm", c->heads, c->head_dim));
    if (is_self && c->qk_norm_self)
        CN_TRY(walk_vector(b, &l->k_norm, prefix, "k_norm", c->kv_heads, c->head_dim));
    const part in[] = {{"q", q}, {"k", kv}, {"v", kv}};
    CN_TRY(walk_matrix(b, &l->in, prefix, c->hidden, in, is_self ? 3 : 1));
    if (!is_self && c->arm == CN_ARM_YOCO_PERLAYER) CN_TRY(walk_query(b, &l->query, prefix));
    CN_TRY(walk_matrix(b, &l->o, prefix, q, PARTS({"o", c->hidden})));
    CN_TRY(walk_matrix(b, &l->gate_up, prefix, c->hidden, PARTS({"gate", c->ffn}, {"up", c->ffn})));
    return walk_matrix(b, &l->down, prefix, c->ffn, PARTS({"down", c->hidden}));
}

static cn_err walk_model(builder *b, cn_model *m) {
    const cn_config *c = b->c;
    CN_TRY(walk_matrix(b, &m->embed, "", c->hidden, PARTS({"embed", c->vocab})));
    for (int32_t i = 0; i < c->self_layers; i++)
        CN_TRY(walk_layer(b, &m->self[i], "self", i, true));
    if (c->arm != CN_ARM_TRANSFORMER) CN_TRY(walk_shared(b, m));
    for (int32_t i = 0; i < c->cross_layers; i++)
        CN_TRY(walk_layer(b, &m->cross[i], "cross", i, false));
    CN_TRY(walk_vector(b, &m->final_norm, "", "final_norm", 0, c->hidden));
    if (!c->tie_embeddings)
        return walk_matrix(b, &m->head, "", c->hidden, PARTS({"lm_head", c->vocab}));
    m->head = m->embed;
    return CN_OK;
}

/* ---- Building --------------------------------------------------------------------- */

static cn_err check_no_surplus(const builder *b) {
    for (int64_t i = 0; b->set && i < cn_tensor_set_count(b->set); i++)
        if (!b->used[i])
            return CN_FAIL(b->diag, CN_ECORRUPT, "tensor %s is no part of this model",
                           cn_tensor_set_at(b->set, i)->name);
    return CN_OK;
}

static cn_model *alloc_model(const cn_config *c) {
    cn_model *m = CN_FAULT("engine.model.alloc") ? NULL : calloc(1, sizeof(*m));
    if (!m) return NULL;
    m->config = *c;
    m->self = calloc((size_t)(c->self_layers + c->cross_layers), sizeof(*m->self));
    if (!m->self) {
        free(m);
        return NULL;
    }
    m->cross = m->self + c->self_layers;
    return m;
}

/* From tensors, or random weights without them. */
static cn_err build(cn_model **out, const cn_config *config, const cn_tensor_set *tensors,
                    uint64_t seed, cn_diag *diag) {
    builder b = {.c = config, .set = tensors, .diag = diag};
    cn_err  err;
    *out = NULL;
    cn_model *m = alloc_model(config);
    b.used = calloc((size_t)(tensors ? cn_tensor_set_count(tensors) : 0) + 1, 1);
    if (!m || !b.used) {
        err = CN_FAIL(diag, CN_ENOMEM, "no memory for a model of %d layers",
                      (int)(config->self_layers + config->cross_layers));
        goto out;
    }
    err = walk_model(&b, m);
    if (err) goto out;
    err = check_no_surplus(&b);
    if (err) goto out;

    const size_t scratch = (size_t)b.cols_max * CN_PANEL_ROWS + 1;
    b = (builder){
        .c = config, .set = tensors, .diag = diag, .seed = seed, .used = b.used, .block = b.block};
    err = cn_block_reserve(&b.block, diag);
    if (err) goto out;
    m->block = b.block;
    m->weight_bytes = b.block.bytes;
    b.scratch = CN_FAULT("engine.model.scratch") ? NULL : malloc(scratch * sizeof(*b.scratch));
    b.rounded = malloc(scratch * sizeof(*b.rounded));
    if (!b.scratch || !b.rounded) {
        err = CN_FAIL(diag, CN_ENOMEM, "no memory to round %zu numbers", scratch);
        goto out;
    }
    err = walk_model(&b, m);
    if (err) goto out;
    m->parameters = b.parameters;
    *out = m;
    m = NULL;

out:
    free(b.rounded);
    free(b.scratch);
    free(b.used);
    cn_model_close(m);
    return err;
}

cn_err cn_model_build(cn_model **out, const cn_config *config, const struct cn_tensor_set *tensors,
                      cn_diag *diag) {
    return build(out, config, tensors, 0, diag);
}

cn_err cn_model_random(cn_model **out, const cn_config *config, uint64_t seed, cn_diag *diag) {
    return build(out, config, NULL, seed, diag);
}

void cn_model_close(cn_model *model) {
    if (!model) return;
    cn_block_release(&model->block);
    free(model->self);
    free(model);
}

/* ---- The folder ------------------------------------------------------------------- */

typedef struct placed {
    const char *tensor;
    const char *file;
    int32_t     at; // in weight_files.file
} placed;

/* The files that hold the weights. */
typedef struct weight_files {
    const char  *file[CN_MODEL_SHARDS_MAX]; // sorted
    int32_t      files;
    placed      *placed; // [tensors] by the index, in order of tensor; of one file: none
    int64_t      tensors;
    cn_json_doc *index; // owns the names; NULL for one file
} weight_files;

static cn_err join(char out[CN_MODEL_PATH_BYTES], const char *folder, const char *name,
                   cn_diag *diag) {
    const int want = snprintf(out, CN_MODEL_PATH_BYTES, "%s/%s", folder, name);
    if (want >= CN_MODEL_PATH_BYTES)
        return CN_FAIL(diag, CN_ETOOBIG, "a path of %d bytes, limit %d", want,
                       (int)CN_MODEL_PATH_BYTES - 1);
    return CN_OK;
}

static int by_file(const void *a, const void *b) {
    return strcmp(((const placed *)a)->file, ((const placed *)b)->file);
}

static int by_tensor(const void *a, const void *b) {
    return strcmp(((const placed *)a)->tensor, ((const placed *)b)->tensor);
}

static bool is_plain_name(const char *name) {
    return name[0] && name[0] != '.' && !strchr(name, '/') && strlen(name) <= FILE_NAME_BYTES_MAX;
}

/* weight_map: tensor -> file. */
static cn_err read_weight_map(weight_files *w, const cn_json *map, cn_diag *diag) {
    if (cn_json_type_of(map) != CN_JSON_OBJECT || !cn_json_first(map))
        return CN_FAIL(diag, CN_ECORRUPT, "%s: no weight_map with a tensor", index_name);
    w->placed = CN_FAULT("engine.model.index")
                    ? NULL
                    : malloc((size_t)cn_json_count(map) * sizeof(*w->placed));
    if (!w->placed) return CN_FAIL(diag, CN_ENOMEM, "%s: no memory", index_name);
    for (const cn_json *v = cn_json_first(map); v; v = cn_json_next(v)) {
        const char *file = cn_json_string(v);
        if (!file || !is_plain_name(file))
            return CN_FAIL(diag, CN_ECORRUPT, "%s: tensor %s: want the plain name of a file",
                           index_name, cn_json_key(v));
        w->placed[w->tensors++] = (placed){cn_json_key(v), file, 0};
    }
    qsort(w->placed, (size_t)w->tensors, sizeof(*w->placed), by_file);
    for (int64_t i = 0; i < w->tensors; i++) {
        placed *p = &w->placed[i];
        if (i == 0 || strcmp(p->file, p[-1].file) != 0) {
            if (w->files == CN_MODEL_SHARDS_MAX)
                return CN_FAIL(diag, CN_ETOOBIG, "%s: more than %d files", index_name,
                               (int)CN_MODEL_SHARDS_MAX);
            w->file[w->files++] = p->file;
        }
        p->at = w->files - 1;
    }
    qsort(w->placed, (size_t)w->tensors, sizeof(*w->placed), by_tensor);
    return CN_OK;
}

static void weight_files_release(weight_files *w) {
    free(w->placed);
    cn_json_free(w->index);
    *w = (weight_files){0};
}

/* model.safetensors, or what model.safetensors.index.json lists. */
static cn_err weight_files_find(weight_files *w, const char *folder, cn_diag *diag) {
    static const cn_json_limits limits = {INDEX_BYTES_MAX, 8, 2 * CN_SAFETENSORS_TENSORS_MAX};
    char                        path[CN_MODEL_PATH_BYTES];
    cn_buf                      text = {0};
    *w = (weight_files){0};
    CN_TRY(join(path, folder, weights_name, diag));
    if (access(path, F_OK) == 0) {
        w->file[w->files++] = weights_name;
        return CN_OK;
    }
    CN_TRY(join(path, folder, index_name, diag));
    if (access(path, F_OK) != 0)
        return CN_FAIL(diag, CN_ENOTFOUND, "%s has no %s and no %s", folder, weights_name,
                       index_name);
    cn_err err = cn_file_read(&text, path, INDEX_BYTES_MAX, diag);
    if (!err)
        err = cn_json_parse(&w->index, cn_buf_str(&text), text.bytes, index_name, &limits, diag);
    if (!err) err = read_weight_map(w, cn_json_get(cn_json_root(w->index), "weight_map"), diag);
    cn_buf_release(&text);
    if (err) weight_files_release(w);
    return err;
}

/* The index and the files name the same tensors, each in its file. */
static cn_err check_placed(const weight_files *w, const cn_file_map *maps, const cn_tensor_set *set,
                           cn_diag *diag) {
    const int64_t count = cn_tensor_set_count(set);
    for (int64_t i = 0; i < w->tensors || i < count; i++) { // both in order of name
        const cn_tensor *t = i < count ? cn_tensor_set_at(set, i) : NULL;
        const placed    *p = i < w->tensors ? &w->placed[i] : NULL;
        const int        order = !t ? 1 : !p ? -1 : strcmp(t->name, p->tensor);
        if (order > 0)
            return CN_FAIL(diag, CN_ECORRUPT, "%s: tensor %s is in no file, want it in %s",
                           index_name, p->tensor, p->file);
        if (order < 0)
            return CN_FAIL(diag, CN_ECORRUPT, "%s: tensor %s is in a file, but not in weight_map",
                           index_name, t->name);
        const cn_file_map *map = &maps[p->at];
        if (t->data < map->data || t->data > map->data + map->bytes)
            return CN_FAIL(diag, CN_ECORRUPT, "%s: tensor %s is in another file than %s",
                           index_name, t->name, p->file);
    }
    return CN_OK;
}

static cn_err read_config(cn_config *c, const char *folder, cn_diag *diag) {
    char   path[CN_MODEL_PATH_BYTES];
    cn_buf text = {0};
    CN_TRY(join(path, folder, config_name, diag));
    cn_err err = cn_file_read(&text, path, CN_CONFIG_BYTES_MAX, diag);
    if (!err) err = cn_config_parse(c, cn_buf_str(&text), text.bytes, diag);
    cn_buf_release(&text);
    return err;
}

cn_err cn_model_open(cn_model **out, const char *folder, cn_diag *diag) {
    char           path[CN_MODEL_PATH_BYTES];
    cn_config      config;
    weight_files   w;
    cn_file_map   *maps = NULL;
    cn_tensor_set *set = NULL;
    *out = NULL;
    CN_TRY(read_config(&config, folder, diag));
    CN_TRY(weight_files_find(&w, folder, diag));
    cn_err err = cn_tensor_set_create(&set, diag);
    if (err) goto out;
    maps = calloc((size_t)w.files, sizeof(*maps));
    if (!maps) {
        err = CN_FAIL(diag, CN_ENOMEM, "no memory for %d files", (int)w.files);
        goto out;
    }
    for (int32_t i = 0; i < w.files; i++) {
        err = join(path, folder, w.file[i], diag);
        if (!err) err = cn_file_map_open(&maps[i], path, CN_MODEL_FILE_BYTES_MAX, diag);
        if (!err) err = cn_tensor_set_add(set, maps[i].data, maps[i].bytes, w.file[i], diag);
        if (err) goto out;
    }
    if (w.index) err = check_placed(&w, maps, set, diag);
    if (!err) err = cn_model_build(out, &config, set, diag);

out:
    cn_tensor_set_free(set);
    for (int32_t i = 0; maps && i < w.files; i++) cn_file_map_close(&maps[i]);
    free(maps);
    weight_files_release(&w);
    return err;
}

/* ---- Identity --------------------------------------------------------------------- */

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static cn_err hash_file(cn_hasher *h, const char *folder, const char *name, cn_diag *diag) {
    char        path[CN_MODEL_PATH_BYTES];
    cn_file_map map;
    CN_TRY(join(path, folder, name, diag));
    CN_TRY(cn_file_map_open(&map, path, CN_MODEL_FILE_BYTES_MAX, diag));
    cn_hasher_put_sized(h, name, strlen(name));
    cn_hasher_put_sized(h, map.data, map.bytes);
    cn_file_map_close(&map);
    return CN_OK;
}

cn_err cn_model_id(cn_hash *out, const char *folder, cn_diag *diag) {
    const char  *name[CN_MODEL_SHARDS_MAX + 3];
    int32_t      names = 0;
    weight_files w;
    cn_hasher    h;
    cn_err       err = CN_OK;
    memset(out, 0, sizeof(*out));
    CN_TRY(weight_files_find(&w, folder, diag));
    name[names++] = config_name;
    name[names++] = tokenizer_name;
    if (w.index) name[names++] = index_name;
    for (int32_t i = 0; i < w.files; i++) name[names++] = w.file[i];
    qsort(name, (size_t)names, sizeof(*name), by_text);
    cn_hasher_init(&h, NULL);
    for (int32_t i = 0; i < names && !err; i++) err = hash_file(&h, folder, name[i], diag);
    if (!err) *out = cn_hasher_end(&h);
    weight_files_release(&w);
    return err;
}

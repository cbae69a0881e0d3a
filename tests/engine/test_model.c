/*
 * test_model.c - A model folder becomes packed weights, each element where it belongs, or is
 * refused by name.
 *
 * Method: a kit is the list of tensors of a tiny model, made here from the config without
 * engine/model.c.  A test changes one of them, writes the kit to bytes or to a folder and
 * loads it; what was loaded is compared with the kit element by element.  The numbers of
 * the example model were read by Python.
 */
#include "base/fault.h"
#include "engine/model.h"
#include "engine/safetensors.h"
#include "tests/engine/make_safetensors.h"
#include "tests/test.h"

#include <errno.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Kits ------------------------------------------------------------------------- */

typedef struct source {
    char     name[64]; // without .weight or .scale
    bool     is_scale;
    bool     is_matrix;
    char     dtype[8];
    int      dims;
    int      dim[2];
    uint8_t *data;
    size_t   bytes;
    bool     is_dropped;
    int      shard;
} source;

enum { SOURCES_MAX = 160 };

typedef struct kit {
    char      config_text[1024];
    cn_config config;
    source    list[SOURCES_MAX];
    int       count;
} kit;

static size_t elem_bytes(const char *dtype) {
    return strcmp(dtype, "F32") == 0 ? 4 : strcmp(dtype, "I8") == 0 ? 1 : 2;
}

/* A value as the source's type holds it; the test's own rounding is by libm. */
static void put_elem(source *s, int64_t i, double v) {
    if (strcmp(s->dtype, "F32") == 0) {
        const float f = (float)v;
        memcpy(s->data + i * 4, &f, 4);
    } else if (strcmp(s->dtype, "I8") == 0) {
        s->data[i] = (uint8_t)(int8_t)v;
    } else { // any bits that are finite do
        uint16_t h = (uint16_t)(t_rand() & 0x8000);
        if (strcmp(s->dtype, "F16") == 0)
            h |= (uint16_t)(t_rand() % 0x7c00);
        else
            h |= (uint16_t)((0x3800 + t_rand() % 0x0800));
        memcpy(s->data + i * 2, &h, 2);
    }
}

/* The exact value of element i. */
static double get_elem(const source *s, int64_t i) {
    uint16_t h;
    float    f;
    if (strcmp(s->dtype, "F32") == 0) {
        memcpy(&f, s->data + i * 4, 4);
        return f;
    }
    if (strcmp(s->dtype, "I8") == 0) return (int8_t)s->data[i];
    memcpy(&h, s->data + i * 2, 2);
    const double sign = h & 0x8000 ? -1 : 1;
    if (strcmp(s->dtype, "BF16") == 0) {
        const int e = h >> 7 & 0xff, m = h & 0x7f;
        return sign * (e ? ldexp(128 + m, e - 134) : ldexp(m, -133));
    }
    const int e = h >> 10 & 0x1f, m = h & 0x3ff;
    return sign * (e ? ldexp(1024 + m, e - 25) : ldexp(m, -24));
}

/* The nearest number with 8 significant bits (fewer below 2^-126), ties to even. */
static double round_to_bf16(double v) {
    int e;
    if (v == 0) return v;
    frexp(v, &e); // |v| in [2^(e-1), 2^e)
    const int    low = e - 8 > -133 ? e - 8 : -133;
    const double steps = ldexp(v, -low), down = floor(steps), rest = steps - down;
    const double near = rest > 0.5 || (rest == 0.5 && fmod(down, 2) != 0) ? down + 1 : down;
    return copysign(ldexp(near, low), v);
}

static source *kit_add(kit *k, const char *name, bool is_scale, const char *dtype, int dims, int d0,
                       int d1) {
    assert_true(k->count < SOURCES_MAX);
    source *s = &k->list[k->count++];
    *s = (source){.is_scale = is_scale, .dims = dims, .dim = {d0, d1}};
    snprintf(s->name, sizeof(s->name), "%s", name);
    snprintf(s->dtype, sizeof(s->dtype), "%s", dtype);
    const int64_t n = dims == 2 ? (int64_t)d0 * d1 : d0;
    s->bytes = (size_t)n * elem_bytes(dtype);
    s->data = malloc(s->bytes);
    assert_non_null(s->data);
    const bool is_i8 = strcmp(dtype, "I8") == 0;
    for (int64_t i = 0; i < n; i++)
        put_elem(s, i, is_i8 ? (double)t_rand_range(-127, 127) : t_rand_f32() * 0.05);
    return s;
}

static void add_matrix(kit *k, const char *prefix, const char *name, const char *dtype, int rows,
                       int cols) {
    char full[64];
    snprintf(full, sizeof(full), "%s%s", prefix, name);
    kit_add(k, full, false, dtype, 2, rows, cols)->is_matrix = true;
    if (strcmp(dtype, "I8") == 0) kit_add(k, full, true, "F32", 1, rows, 0);
}

static void add_layer(kit *k, const char *prefix, const char *m, const char *v, bool is_self) {
    const cn_config         *c = &k->config;
    char                     full[64];
    static const char *const norms[] = {"attn_norm", "ffn_norm"};
    for (int i = 0; i < 2; i++) {
        snprintf(full, sizeof(full), "%s%s", prefix, norms[i]);
        kit_add(k, full, false, v, 1, c->hidden, 0);
    }
    if (is_self ? c->qk_norm_self : c->qk_norm_cross) {
        snprintf(full, sizeof(full), "%sq_norm", prefix);
        kit_add(k, full, false, v, 2, c->heads, c->head_dim);
    }
    if (is_self && c->qk_norm_self) { // one gain for all heads
        snprintf(full, sizeof(full), "%sk_norm", prefix);
        kit_add(k, full, false, v, 1, c->head_dim, 0);
    }
    add_matrix(k, prefix, "q", m, c->heads * c->head_dim, c->hidden);
    if (is_self) {
        add_matrix(k, prefix, "k", m, c->kv_heads * c->head_dim, c->hidden);
        add_matrix(k, prefix, "v", m, c->kv_heads * c->head_dim, c->hidden);
    }
    add_matrix(k, prefix, "o", m, c->hidden, c->heads * c->head_dim);
    add_matrix(k, prefix, "gate", m, c->ffn, c->hidden);
    add_matrix(k, prefix, "up", m, c->ffn, c->hidden);
    add_matrix(k, prefix, "down", m, c->hidden, c->ffn);
}

static void add_index(kit *k, const char *prefix, const char *m) {
    const cn_config *c = &k->config;
    add_matrix(k, prefix, "q", m, c->index_heads * c->index_dim, c->hidden);
    add_matrix(k, prefix, "k", m, c->index_dim, c->hidden);
    if (c->index_weighted) add_matrix(k, prefix, "w", m, c->index_heads, c->hidden);
}

/* matrix, vector: element types.  more: further keys of the config, "" or ", ...". */
static kit *kit_new(const char *arm, const char *matrix, const char *vector, int vocab,
                    const char *more) {
    kit *k = calloc(1, sizeof(*k));
    assert_non_null(k);
    const int cross_layers = strcmp(arm, "transformer") == 0     ? 0
                             : strcmp(arm, "yoco-perlayer") == 0 ? 3
                                                                 : 1;
    snprintf(k->config_text, sizeof(k->config_text),
             "{\"model_type\": \"%s\", \"hidden_size\": 32, \"intermediate_size\": 48, "
             "\"num_self_layers\": 2, \"num_cross_layers\": %d, \"num_attention_heads\": 4, "
             "\"num_key_value_heads\": 2, \"head_dim\": 16, \"vocab_size\": %d, "
             "\"index_heads\": 3, \"index_head_dim\": 16, \"quantization\": \"%s\"%s}",
             arm, cross_layers, vocab, strcmp(matrix, "I8") == 0 ? "int8_rows" : "none", more);
    assert_err(cn_config_parse(&k->config, k->config_text, strlen(k->config_text), &t_diag), CN_OK);
    const cn_config *c = &k->config;
    const int        kv = c->kv_heads * c->head_dim;
    char             prefix[32];
    t_seed(7);
    add_matrix(k, "", "embed", matrix, c->vocab, c->hidden);
    for (int i = 0; i < c->self_layers; i++) {
        snprintf(prefix, sizeof(prefix), "self.%d.", i);
        add_layer(k, prefix, matrix, vector, true);
    }
    if (c->arm != CN_ARM_TRANSFORMER) {
        kit_add(k, "shared.norm", false, vector, 1, c->hidden, 0);
        add_matrix(k, "shared.", "k", matrix, kv, c->hidden);
        add_matrix(k, "shared.", "v", matrix, kv, c->hidden);
        if (c->qk_norm_cross)
            kit_add(k, "shared.k_norm", false, vector, 2, c->kv_heads, c->head_dim);
    }
    if (c->arm == CN_ARM_CLSA) add_index(k, "index.", matrix);
    for (int i = 0; i < c->cross_layers; i++) {
        snprintf(prefix, sizeof(prefix), "cross.%d.", i);
        add_layer(k, prefix, matrix, vector, false);
        snprintf(prefix, sizeof(prefix), "cross.%d.index.", i);
        if (c->arm == CN_ARM_YOCO_PERLAYER) add_index(k, prefix, matrix);
    }
    kit_add(k, "final_norm", false, vector, 1, c->hidden, 0);
    if (!c->tie_embeddings) add_matrix(k, "", "lm_head", matrix, c->vocab, c->hidden);
    return k;
}

static void kit_free(kit *k) {
    for (int i = 0; i < k->count; i++) free(k->list[i].data);
    free(k);
}

static source *kit_find(kit *k, const char *name, bool is_scale) {
    for (int i = 0; i < k->count; i++)
        if (strcmp(k->list[i].name, name) == 0 && k->list[i].is_scale == is_scale)
            return &k->list[i];
    t_fail(__FILE__, __LINE__, "the kit has no %s", name);
}

static const char *full_name(char out[80], const source *s) {
    snprintf(out, 80, "%s.%s", s->name, s->is_scale ? "scale" : "weight");
    return out;
}

/* The file of the tensors of one shard. */
static cn_buf kit_file(const kit *k, int shard) {
    t_file f = {0};
    char   name[80];
    for (int i = 0; i < k->count; i++) {
        const source *s = &k->list[i];
        if (s->is_dropped || s->shard != shard) continue;
        t_file_add(&f, full_name(name, s), s->dtype, s->data, s->bytes, s->dims, s->dim[0],
                   s->dim[1]);
    }
    return t_file_end(&f);
}

static cn_err kit_build(const kit *k, cn_model **out) {
    cn_buf         file = kit_file(k, 0);
    cn_tensor_set *set;
    uint8_t       *data = malloc(file.bytes + 1);
    assert_non_null(data);
    memcpy(data + 1, file.data, file.bytes); // one byte further on: nothing is aligned
    assert_err(cn_tensor_set_create(&set, &t_diag), CN_OK);
    assert_err(cn_tensor_set_add(set, data + 1, file.bytes, "kit", &t_diag), CN_OK);
    t_diag = (cn_diag){0};
    *out = (cn_model *)data; // must be overwritten
    const cn_err err = cn_model_build(out, &k->config, set, &t_diag);
    cn_tensor_set_free(set); // borrowed for the call only
    free(data);
    cn_buf_release(&file);
    return err;
}

static void refuse(const kit *k, cn_err want, const char *has1, const char *has2) {
    cn_model *m;
    assert_err(kit_build(k, &m), want);
    assert_null(m);
    if (!strstr(t_diag.text, has1) || !strstr(t_diag.text, has2))
        t_fail(__FILE__, __LINE__, "diag \"%s\" lacks \"%s\" or \"%s\"", t_diag.text, has1, has2);
}

/* ---- Comparing -------------------------------------------------------------------- */

static void check_same(double got, double want, const source *s, int64_t i) {
    if (!(got == want && !signbit(got) == !signbit(want)))
        t_fail(__FILE__, __LINE__, "%s[%" PRId64 "] = %.9g, want %.9g", s->name, i, got, want);
}

static void check_inside(const cn_model *m, const void *p, int64_t bytes) {
    const uint8_t *begin = m->block.data;
    assert_true((const uint8_t *)p >= begin &&
                (const uint8_t *)p + bytes <= begin + m->weight_bytes);
    assert_true(cn_is_aligned(p, CN_ALIGN_BYTES));
}

/* `w` is the matrices of the names (up to NULL) below each other, and zero behind them. */
static void check_weight(kit *k, const cn_model *m, const cn_weight *w, const char *prefix,
                         const char *const *names) {
    int first = 0;
    assert_true(cn_weight_is_valid(w));
    const int64_t padded = cn_weight_panels(w->rows) * CN_PANEL_ROWS;
    check_inside(m, w->data, cn_weight_data_bytes(w->type, w->rows, w->cols));
    assert_int_equal(!w->scale, w->type == CN_WEIGHT_BF16);
    assert_int_equal(!w->sum, w->type == CN_WEIGHT_BF16);
    for (; *names; names++) {
        char name[64];
        snprintf(name, sizeof(name), "%s%s", prefix, *names);
        const source *s = kit_find(k, name, false);
        const bool    is_i8 = strcmp(s->dtype, "I8") == 0;
        assert_int_equal(w->cols, s->dim[1]);
        assert_int_equal(w->type, is_i8 ? CN_WEIGHT_I8 : CN_WEIGHT_BF16);
        assert_true(first + s->dim[0] <= w->rows);
        for (int r = 0; r < s->dim[0]; r++) {
            int32_t sum = 0;
            for (int c = 0; c < s->dim[1]; c++) {
                const int64_t i = (int64_t)r * s->dim[1] + c;
                const double  v = get_elem(s, i);
                sum += is_i8 ? (int32_t)v : 0;
                check_same(cn_weight_at(w, first + r, c), is_i8 ? v : round_to_bf16(v), s, i);
            }
            if (!is_i8) continue;
            assert_int_equal(w->sum[first + r], sum);
            check_same(w->scale[first + r], get_elem(kit_find(k, name, true), r), s, r);
        }
        first += s->dim[0];
    }
    assert_int_equal(first, w->rows);
    for (int64_t r = first; r < padded; r++) {
        for (int c = 0; c < w->cols; c++) assert_true(cn_weight_at(w, (int32_t)r, c) == 0);
        if (w->scale) assert_true(w->scale[r] == 0 && w->sum[r] == 0);
    }
}

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

/* heads 0: a plain vector. */
static void check_vector(kit *k, const cn_model *m, const float *x, const char *prefix,
                         const char *name, int heads, int dim) {
    char full[64];
    snprintf(full, sizeof(full), "%s%s", prefix, name);
    const source *s = kit_find(k, full, false);
    const int     n = heads > 0 ? heads * dim : dim, given = s->dims == 2 ? n : dim;
    assert_non_null(x);
    check_inside(m, x, n * (int64_t)sizeof(float));
    for (int i = 0; i < n; i++) check_same(x[i], get_elem(s, i % given), s, i);
}

static void check_layer(kit *k, const cn_model *m, const cn_layer *l, const char *kind, int number,
                        bool is_self) {
    const cn_config *c = &k->config;
    char             prefix[32];
    snprintf(prefix, sizeof(prefix), "%s.%d.", kind, number);
    check_vector(k, m, l->attn_norm, prefix, "attn_norm", 0, c->hidden);
    check_vector(k, m, l->ffn_norm, prefix, "ffn_norm", 0, c->hidden);
    if (is_self ? c->qk_norm_self : c->qk_norm_cross)
        check_vector(k, m, l->q_norm, prefix, "q_norm", c->heads, c->head_dim);
    else
        assert_null(l->q_norm);
    if (is_self && c->qk_norm_self)
        check_vector(k, m, l->k_norm, prefix, "k_norm", c->kv_heads, c->head_dim);
    else
        assert_null(l->k_norm);
    check_weight(k, m, &l->in, prefix, is_self ? NAMES("q", "k", "v") : NAMES("q"));
    check_weight(k, m, &l->o, prefix, NAMES("o"));
    check_weight(k, m, &l->gate_up, prefix, NAMES("gate", "up"));
    check_weight(k, m, &l->down, prefix, NAMES("down"));
    if (!is_self && c->arm == CN_ARM_YOCO_PERLAYER)
        check_weight(k, m, &l->query, prefix,
                     c->index_weighted ? NAMES("index.q", "index.w") : NAMES("index.q"));
    else
        assert_true(l->query.rows == 0 && l->query.data == NULL);
}

/* Norms and matrices between the decoders. */
static void check_shared(kit *k, const cn_model *m) {
    const cn_config *c = &k->config;
    check_vector(k, m, m->shared_norm, "shared.", "norm", 0, c->hidden);
    if (c->qk_norm_cross)
        check_vector(k, m, m->shared_k_norm, "shared.", "k_norm", c->kv_heads, c->head_dim);
    else
        assert_null(m->shared_k_norm);
    if (c->arm == CN_ARM_CLSA)
        check_weight(k, m, &m->shared, "", NAMES("shared.k", "shared.v", "index.k"));
    else if (c->arm == CN_ARM_YOCO)
        check_weight(k, m, &m->shared, "", NAMES("shared.k", "shared.v"));
    else
        check_weight(
            k, m, &m->shared, "",
            NAMES("shared.k", "shared.v", "cross.0.index.k", "cross.1.index.k", "cross.2.index.k"));
}

static void check_model(kit *k, const cn_model *m) {
    const cn_config *c = &k->config;
    assert_memory_equal(&m->config, c, sizeof(*c));
    check_weight(k, m, &m->embed, "", NAMES("embed"));
    for (int i = 0; i < c->self_layers; i++) check_layer(k, m, &m->self[i], "self", i, true);
    if (c->arm == CN_ARM_TRANSFORMER)
        assert_true(m->shared.rows == 0 && !m->shared_norm && !m->shared_k_norm);
    else
        check_shared(k, m);
    if (c->arm == CN_ARM_CLSA)
        check_weight(k, m, &m->index_query, "index.",
                     c->index_weighted ? NAMES("q", "w") : NAMES("q"));
    else
        assert_true(m->index_query.rows == 0 && m->index_query.data == NULL);
    for (int i = 0; i < c->cross_layers; i++) check_layer(k, m, &m->cross[i], "cross", i, false);
    check_vector(k, m, m->final_norm, "", "final_norm", 0, c->hidden);
    if (c->tie_embeddings)
        assert_memory_equal(&m->head, &m->embed, sizeof(m->head));
    else
        check_weight(k, m, &m->head, "", NAMES("lm_head"));
    int64_t elements = 0;
    for (int i = 0; i < k->count; i++)
        if (!k->list[i].is_scale && !k->list[i].is_dropped)
            elements += (int64_t)(k->list[i].bytes / elem_bytes(k->list[i].dtype));
    assert_int_equal(m->parameters, elements);
}

static void load_and_check(kit *k) {
    cn_model *m;
    t_note("%s", k->config_text);
    assert_err(kit_build(k, &m), CN_OK);
    check_model(k, m);
    cn_model_close(m);
}

/* ---- Building --------------------------------------------------------------------- */

static const char all_norms[] = ", \"qk_norm_cross\": true, \"index_weighted\": true";
static const char tied[] = ", \"tie_word_embeddings\": true, \"qk_norm_self\": false";

static void test_every_element_is_where_it_belongs(void **state) {
    (void)state;
    static const char *const types[][2] = {{"BF16", "BF16"}, {"F16", "F32"}, {"F32", "F16"},
                                           {"F32", "F32"},   {"I8", "F32"},  {"I8", "BF16"}};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        for (int more = 0; more < 2; more++) {
            // 40 is no multiple of a panel's rows; 51 rows of the index query neither
            kit *k = kit_new("clsa", types[i][0], types[i][1], 40, more ? all_norms : tied);
            load_and_check(k);
            kit_free(k);
        }
}

static void test_the_other_arms(void **state) {
    (void)state;
    static const char *const arms[] = {"yoco-perlayer", "transformer"};
    for (int arm = 0; arm < 2; arm++)
        for (int tied_too = 0; tied_too < 2; tied_too++) {
            kit *k =
                kit_new(arms[arm], arm ? "BF16" : "I8", "F32", 40, tied_too ? tied : all_norms);
            load_and_check(k);
            kit_add(k, "index.k", false, "BF16", 2, 16, 32);
            refuse(k, CN_ECORRUPT, "tensor index.k.weight", "no part");
            kit_free(k);
        }
    kit *k = kit_new("yoco-perlayer", "BF16", "F32", 40, "");
    kit_find(k, "cross.1.index.k", false)->is_dropped = true;
    refuse(k, CN_ECORRUPT, "tensor cross.1.index.k.weight", "missing");
    kit_free(k);
}

/* The mean and the deviation of a matrix's numbers. */
static double deviation(const cn_weight *w, double *mean_out) {
    double sum = 0, squares = 0;
    for (int32_t r = 0; r < w->rows; r++)
        for (int32_t c = 0; c < w->cols; c++) {
            const double v = (double)cn_weight_at(w, r, c) * (w->scale ? (double)w->scale[r] : 1);
            sum += v, squares += v * v;
        }
    const double n = (double)w->rows * w->cols;
    *mean_out = sum / n;
    return sqrt(squares / n - sum / n * (sum / n));
}

/* Random models: the shapes of the same model from tensors, the same for the same seed, and of
 * the deviation that is promised. */
static void test_random_models(void **state) {
    (void)state;
    for (int arm = 0; arm < CN_ARM_COUNT; arm++)
        for (int i8 = 0; i8 < 2; i8++) {
            kit      *k = kit_new(cn_arm_name((cn_arm)arm), i8 ? "I8" : "BF16", "F32", 40,
                                  ", \"index_weighted\": true");
            cn_model *from, *a, *b, *c;
            double    mean;
            t_note("%s", k->config_text);
            assert_err(kit_build(k, &from), CN_OK);
            assert_err(cn_model_random(&a, &k->config, 1, &t_diag), CN_OK);
            assert_err(cn_model_random(&b, &k->config, 1, &t_diag), CN_OK);
            assert_err(cn_model_random(&c, &k->config, 2, &t_diag), CN_OK);
            assert_int_equal(a->weight_bytes, b->weight_bytes);
            assert_memory_equal(a->block.data, b->block.data, (size_t)a->weight_bytes);
            assert_true(memcmp(a->block.data, c->block.data, (size_t)a->weight_bytes) != 0);
            assert_int_equal(a->shared.rows, from->shared.rows);
            assert_int_equal(a->index_query.rows, from->index_query.rows);
            assert_int_equal(a->head.rows, 40);
            assert_null(a->self[1].q_norm); // optional gains are absent
            const cn_layer *l = &a->self[1], *m = &from->self[1];
            assert_int_equal(l->gate_up.type, i8 ? CN_WEIGHT_I8 : CN_WEIGHT_BF16);
            assert_true(l->gate_up.rows == m->gate_up.rows && l->in.rows == m->in.rows);
            for (int i = 0; i < 32; i++) assert_true(l->attn_norm[i] == 1 && a->final_norm[i] == 1);
            const double want = 1 / sqrt(32), got = deviation(&l->gate_up, &mean);
            if (fabs(got - want) > 0.05 * want || fabs(mean) > 0.05 * want)
                t_fail(__FILE__, __LINE__, "deviation %g, want %g; mean %g", got, want, mean);
            cn_model_close(from), cn_model_close(a), cn_model_close(b), cn_model_close(c);
            kit_free(k);
        }
    kit *k = kit_new("clsa", "I8", "F32", 40, "");
    for (int n = 1; n <= 3; n++) { // block, model, scratch
        cn_model *m = (cn_model *)&m;
        cn_fault_arm(CN_FAULT_ONCE, n);
        assert_err(cn_model_random(&m, &k->config, 1, &t_diag), CN_ENOMEM);
        cn_fault_arm(CN_FAULT_OFF, 0);
        assert_null(m);
    }
    kit_free(k);
}

static void test_dense_arm_has_no_index(void **state) {
    (void)state;
    kit *k = kit_new("yoco", "BF16", "F32", 16, all_norms);
    load_and_check(k);
    kit_add(k, "index.k", false, "BF16", 2, 16, 32);
    refuse(k, CN_ECORRUPT, "tensor index.k.weight", "no part");
    kit_free(k);
}

/* All finite f16, and the f32 around the borders of rounding. */
static void test_conversions_are_exact(void **state) {
    (void)state;
    kit    *k = kit_new("yoco", "F16", "F16", 2048, "");
    source *s = kit_find(k, "embed", false);
    for (int i = 0; i < 65536; i++) {
        const uint16_t h = (i & 0x7c00) == 0x7c00 ? 0 : (uint16_t)i;
        memcpy(s->data + i * 2, &h, 2);
    }
    load_and_check(k);
    kit_free(k);

    k = kit_new("yoco", "F32", "F32", 2048, "");
    s = kit_find(k, "embed", false);
    for (uint32_t i = 0; i < 65536; i++) { // each sign and exponent, by the bits that decide
        static const uint32_t tails[] = {0,       1,        0x7fff,  0x8000,  0x8001,
                                         0xffff,  0x10000,  0x17fff, 0x18000, 0x18001,
                                         0x1ffff, 0x7effff, 0x7f7fff};
        const uint32_t        bits = i % 512 << 23 | tails[i / 512 % 13];
        const bool            is_finite = (bits & 0x7f800000) != 0x7f800000;
        memcpy(s->data + i * 4, is_finite ? &bits : &(uint32_t){0}, 4);
    }
    load_and_check(k);
    kit_free(k);
}

static void test_gains_of_heads(void **state) {
    (void)state;
    static const char *const names[] = {"self.1.q_norm", "self.1.k_norm", "cross.0.q_norm",
                                        "shared.k_norm"};
    for (int i = 0; i < 4; i++) {
        kit      *k = kit_new("clsa", "BF16", "F32", 16, all_norms);
        source   *s = kit_find(k, names[i], false);
        const int heads = strstr(names[i], "q_norm") ? 4 : 2;
        s->dims = 1, s->dim[0] = 16, s->bytes = 16 * 4; // one for all heads
        load_and_check(k);
        s->data = realloc(s->data, 4 * 16 * 4); // one each
        assert_non_null(s->data);
        s->dims = 2, s->dim[0] = heads, s->dim[1] = 16, s->bytes = (size_t)heads * 16 * 4;
        for (int e = 0; e < heads * 16; e++) put_elem(s, e, e + 0.5);
        load_and_check(k);
        s->dim[0] = 16, s->dim[1] = heads;
        refuse(k, CN_ECORRUPT, names[i],
               heads == 4 ? "shape [16, 4], want [4, 16]" : "shape [16, 2], want [2, 16]");
        s->dims = 1, s->dim[0] = heads * 16;
        refuse(k, CN_ECORRUPT, names[i],
               heads == 4 ? "shape [64], want [4, 16]" : "shape [32], want [2, 16]");
        s->is_dropped = true; // a norm without gain
        cn_model *m;
        assert_err(kit_build(k, &m), CN_OK);
        assert_null(i == 0   ? m->self[1].q_norm
                    : i == 1 ? m->self[1].k_norm
                    : i == 2 ? m->cross[0].q_norm
                             : m->shared_k_norm);
        assert_non_null(m->self[0].q_norm);
        cn_model_close(m);
        kit_free(k);
    }
}

static bool is_optional(const source *s) {
    return strstr(s->name, "q_norm") || strstr(s->name, "k_norm");
}

static void test_each_missing_tensor_is_named(void **state) {
    (void)state;
    for (int i8 = 0; i8 < 2; i8++) {
        kit *k = kit_new("clsa", i8 ? "I8" : "F16", "F32", 40, all_norms);
        for (int i = 0; i < k->count; i++) {
            char    name[80], shape[40];
            source *s = &k->list[i];
            if (is_optional(s)) continue;
            s->is_dropped = true;
            snprintf(shape, sizeof(shape), s->dims == 2 ? "want shape [%d, %d]" : "want shape [%d]",
                     s->dim[0], s->dim[1]);
            t_note("without %s", full_name(name, s));
            refuse(k, CN_ECORRUPT, full_name(name, s), shape);
            s->is_dropped = false;
        }
        load_and_check(k);
        kit_free(k);
    }
}

static void test_each_wrong_shape_is_named(void **state) {
    (void)state;
    for (int i8 = 0; i8 < 2; i8++) {
        kit *k = kit_new("clsa", i8 ? "I8" : "BF16", "F32", 40, all_norms);
        for (int i = 0; i < k->count; i++) {
            char         name[80], have[40], want[40];
            source      *s = &k->list[i];
            const source was = *s;
            if (is_optional(s)) continue; // test_gains_of_heads
            snprintf(want, sizeof(want), s->dims == 2 ? "want [%d, %d]" : "want [%d]", s->dim[0],
                     s->dim[1]);
            for (int change = 0; change < 3; change++) {
                *s = was;
                if (change == 0 && s->dims == 2) { // its transpose, or flat if that is the same
                    s->dim[0] = was.dim[1], s->dim[1] = was.dim[0];
                    if (was.dim[0] == was.dim[1]) s->dims = 1, s->dim[0] = was.dim[0] * was.dim[1];
                } else if (change == 0) {
                    s->dims = 2, s->dim[0] = 1, s->dim[1] = was.dim[0];
                } else if (change == 1) { // flat, or a column
                    if (was.dims == 2)
                        s->dims = 1, s->dim[0] = was.dim[0] * was.dim[1];
                    else
                        s->dims = 2, s->dim[1] = 1;
                } else { // one row less
                    s->dim[0]--;
                    s->bytes = s->bytes / (size_t)was.dim[0] * (size_t)s->dim[0];
                }
                snprintf(have, sizeof(have), s->dims == 2 ? "shape [%d, %d], " : "shape [%d], ",
                         s->dim[0], s->dim[1]);
                t_note("%s as %s", full_name(name, s), have);
                refuse(k, CN_ECORRUPT, full_name(name, s), have);
                assert_non_null(strstr(t_diag.text, want));
            }
            *s = was;
        }
        load_and_check(k);
        kit_free(k);
    }
}

static void test_surplus_tensors_are_named(void **state) {
    (void)state;
    static const struct {
        const char *name;
        bool        is_scale;
    } surplus[] = {
        {"self.2.q", false},      {"self.00.q", false}, {"cross.0.k", false}, {"lm_head", false},
        {"self.1.q_norm", false}, {"index.w", false},   {"embed", true},      {"a", false},
        {"zzz", false},
    };
    for (size_t i = 0; i < sizeof(surplus) / sizeof(surplus[0]); i++) {
        char name[80];
        kit *k = kit_new("clsa", "BF16", "F32", 40, tied);
        full_name(name, kit_add(k, surplus[i].name, surplus[i].is_scale, "F32", 2, 40, 32));
        t_note("with %s", name);
        refuse(k, CN_ECORRUPT, name, "no part of this model");
        kit_free(k);
    }
}

static void test_element_types(void **state) {
    (void)state;
    kit    *k = kit_new("clsa", "BF16", "F32", 40, "");
    source *s = kit_find(k, "self.1.down", false);
    strcpy(s->dtype, "I16"); // of the same size
    refuse(k, CN_ECORRUPT, "self.1.down.weight is another type", "BF16");
    strcpy(s->dtype, "BF16");
    s = kit_find(k, "shared.norm", false);
    strcpy(s->dtype, "I32");
    refuse(k, CN_ECORRUPT, "shared.norm.weight is another type", "F32");
    strcpy(s->dtype, "I8"), s->bytes = 32;
    refuse(k, CN_ECORRUPT, "shared.norm.weight is I8", "F32");
    kit_free(k);

    k = kit_new("clsa", "I8", "F32", 40, "");
    s = kit_find(k, "cross.0.up", true);
    strcpy(s->dtype, "I32");
    refuse(k, CN_ECORRUPT, "cross.0.up.scale is another type", "want F32");
    strcpy(s->dtype, "F16"), s->bytes /= 2;
    refuse(k, CN_ECORRUPT, "cross.0.up.scale is F16", "want F32");
    kit_free(k);

    k = kit_new("clsa", "I8", "F32", 40, "");
    k->config.int8_rows = false;
    refuse(k, CN_ECORRUPT, "embed.weight is I8", "quantization is none");
    kit_free(k);
}

/* Turn an I8 matrix of the kit into BF16. */
static void make_float(kit *k, const char *name) {
    source       *s = kit_find(k, name, false);
    const int64_t n = (int64_t)s->dim[0] * s->dim[1];
    kit_find(k, name, true)->is_dropped = true;
    strcpy(s->dtype, "BF16");
    s->bytes *= 2;
    s->data = realloc(s->data, s->bytes);
    assert_non_null(s->data);
    for (int64_t i = 0; i < n; i++) put_elem(s, i, 0);
}

static void test_int8_models_may_hold_float_matrices_but_not_mixed(void **state) {
    (void)state;
    kit *k = kit_new("clsa", "I8", "F32", 40, "");
    make_float(k, "lm_head");
    make_float(k, "self.0.o");
    load_and_check(k);
    make_float(k, "self.1.k");
    refuse(k, CN_ECORRUPT, "self.1.k.weight is BF16", "self.1.q.weight, packed with it, is I8");
    make_float(k, "self.1.q");
    refuse(k, CN_ECORRUPT, "self.1.v.weight is I8", "self.1.q.weight, packed with it, is BF16");
    make_float(k, "self.1.v");
    load_and_check(k);
    make_float(k, "index.k");
    refuse(k, CN_ECORRUPT, "index.k.weight is BF16", "shared.k.weight, packed with it, is I8");
    kit_free(k);
}

static void poke(source *s, int64_t i, uint32_t f32_bits) {
    const size_t   n = elem_bytes(s->dtype);
    const uint16_t h = strcmp(s->dtype, "F16") == 0
                           ? (uint16_t)((f32_bits >> 16 & 0x8000) | 0x7c00 | (f32_bits & 1))
                           : (uint16_t)(f32_bits >> 16 | (f32_bits & 1));
    memcpy(s->data + (size_t)i * n, n == 4 ? (const void *)&f32_bits : &h, n);
}

static void test_each_value_that_is_not_finite_is_named(void **state) {
    (void)state;
    static const uint32_t    bad[] = {0x7f800000, 0xff800000, 0x7f800001}; // the last is a NaN
    static const char *const types[][2] = {
        {"F32", "F32"}, {"F16", "F16"}, {"BF16", "BF16"}, {"I8", "F32"}};
    for (int t = 0; t < 4; t++) {
        kit *k = kit_new("clsa", types[t][0], types[t][1], 40, all_norms);
        for (int i = 0; i < k->count; i++) {
            char    name[80], at[40];
            source *s = &k->list[i];
            if (strcmp(s->dtype, "I8") == 0) continue;
            const int64_t n = (int64_t)(s->bytes / elem_bytes(s->dtype));
            const int64_t where[] = {0, n / 2, n - 1};
            for (int w = 0; w < 3; w++) {
                uint8_t was[4];
                memcpy(was, s->data + (size_t)where[w] * elem_bytes(s->dtype),
                       elem_bytes(s->dtype));
                poke(s, where[w], bad[(i + w) % 3]);
                snprintf(at, sizeof(at), "element %" PRId64 " is not finite", where[w]);
                t_note("%s, %s", full_name(name, s), at);
                refuse(k, CN_ECORRUPT, full_name(name, s), at);
                memcpy(s->data + (size_t)where[w] * elem_bytes(s->dtype), was,
                       elem_bytes(s->dtype));
            }
        }
        load_and_check(k);
        kit_free(k);
    }
    // The largest f32 fits a vector, but no bf16; the largest that rounds down does.
    kit *k = kit_new("clsa", "F32", "F32", 40, "");
    poke(kit_find(k, "final_norm", false), 1, 0x7f7fffff);
    poke(kit_find(k, "embed", false), 5, 0xff7f7fff);
    load_and_check(k);
    poke(kit_find(k, "embed", false), 5, 0xff7f8000);
    refuse(k, CN_ECORRUPT, "embed.weight", "element 5 is not finite");
    kit_free(k);
}

static void test_int8_values(void **state) {
    (void)state;
    kit    *k = kit_new("clsa", "I8", "F32", 40, "");
    source *w = kit_find(k, "self.0.up", false), *scale = kit_find(k, "self.0.up", true);
    poke(scale, 3, 0);          // an empty row
    poke(scale, 4, 0x80000000); // -0
    poke(scale, 5, 0xbf800000); // -1
    poke(scale, 6, 1);          // the smallest subnormal
    w->data[0] = 0x81;          // -127
    load_and_check(k);
    const int64_t last = (int64_t)w->bytes - 1;
    w->data[last] = 0x80;
    refuse(k, CN_ECORRUPT, "self.0.up.weight: element 1535 is -128", "-127..127");
    w->data[0] = 0x80; // the first is named
    refuse(k, CN_ECORRUPT, "self.0.up.weight: element 0 is -128", "-127..127");
    kit_free(k);
}

static void test_empty_set(void **state) {
    (void)state;
    kit *k = kit_new("clsa", "BF16", "F32", 40, "");
    for (int i = 0; i < k->count; i++) k->list[i].is_dropped = true;
    refuse(k, CN_ECORRUPT, "embed.weight is missing", "want shape [40, 32]");
    kit_free(k);
}

/* ---- Folders ---------------------------------------------------------------------- */

static char path_text[512];

static const char *in_folder(const char *folder, const char *name) {
    snprintf(path_text, sizeof(path_text), "%s/%s", folder, name);
    return path_text;
}

static void write_file(const char *folder, const char *name, const void *data, size_t bytes) {
    FILE *f = fopen(in_folder(folder, name), "wb");
    if (!f) t_fail(__FILE__, __LINE__, "cannot write %s: %s", path_text, strerror(errno));
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

static void write_text(const char *folder, const char *name, const char *text) {
    write_file(folder, name, text, strlen(text));
}

static const char index_file[] = "model.safetensors.index.json";

static const char *shard_name(char out[32], int shard) {
    snprintf(out, 32, "part-%d.safetensors", shard);
    return out;
}

/* A new folder with the kit's files: `shards` files with an index, or 0: one file. */
static const char *write_folder(kit *k, int shards) {
    static char folder[256];
    static int  number;
    char        name[32], full[80];
    snprintf(folder, sizeof(folder), "%s/model-%d", t_tmp_dir(), number++);
    assert_int_equal(mkdir(folder, 0700), 0);
    write_text(folder, "config.json", k->config_text);
    write_text(folder, "tokenizer.json", "{\"model\": {}}");
    cn_buf index = {0};
    cn_buf_put_str(&index, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {");
    for (int i = 0; i < k->count; i++) {
        source *s = &k->list[i];
        if (shards > 0) s->shard = (i * 7 + 1) % shards;
        if (!s->is_dropped)
            cn_buf_printf(&index, "%s\"%s\": \"%s\"", i ? ",\n" : "", full_name(full, s),
                          shard_name(name, s->shard));
    }
    cn_buf_put_str(&index, "}}");
    for (int i = 0; i < (shards > 0 ? shards : 1); i++) {
        cn_buf file = kit_file(k, i);
        write_file(folder, shards > 0 ? shard_name(name, i) : "model.safetensors", file.data,
                   file.bytes);
        cn_buf_release(&file);
    }
    if (shards > 0) write_text(folder, index_file, index.data);
    cn_buf_release(&index);
    for (int i = 0; i < k->count; i++) k->list[i].shard = 0;
    return folder;
}

static void refuse_folder(const char *folder, cn_err want, const char *has1, const char *has2) {
    cn_model *m = (cn_model *)&m;
    t_diag = (cn_diag){0};
    assert_err(cn_model_open(&m, folder, &t_diag), want);
    assert_null(m);
    if (!strstr(t_diag.text, has1) || !strstr(t_diag.text, has2))
        t_fail(__FILE__, __LINE__, "diag \"%s\" lacks \"%s\" or \"%s\"", t_diag.text, has1, has2);
}

static void test_folder_is_opened(void **state) {
    (void)state;
    cn_model *m;
    kit      *k = kit_new("clsa", "I8", "F32", 40, all_norms);
    assert_err(cn_model_open(&m, write_folder(k, 0), &t_diag), CN_OK);
    check_model(k, m);
    cn_model_close(m);
    cn_model_close(NULL);
    kit_free(k);
}

static void test_shards_are_one_model(void **state) {
    (void)state;
    cn_model *one, *m;
    kit      *k = kit_new("clsa", "F16", "F32", 40, all_norms);
    assert_err(cn_model_open(&one, write_folder(k, 0), &t_diag), CN_OK);
    static const int shards[] = {1, 2, 5};
    for (int i = 0; i < 3; i++) {
        t_note("%d shards", shards[i]);
        assert_err(cn_model_open(&m, write_folder(k, shards[i]), &t_diag), CN_OK);
        check_model(k, m);
        assert_int_equal(m->weight_bytes, one->weight_bytes);
        assert_memory_equal(m->block.data, one->block.data, (size_t)m->weight_bytes);
        cn_model_close(m);
    }
    // Where model.safetensors is there, the index is not read.
    const char *folder = write_folder(k, 0);
    write_text(folder, index_file, "not JSON");
    assert_err(cn_model_open(&m, folder, &t_diag), CN_OK);
    cn_model_close(m);
    cn_model_close(one);
    kit_free(k);
}

static void test_index_and_shards_must_agree(void **state) {
    (void)state;
    char        name[32];
    kit        *k = kit_new("yoco", "BF16", "F32", 16, "");
    const char *folder = write_folder(k, 2);
    size_t      bytes;

    // The same tensors, another file: shard 1 is the whole model and so is the map.
    for (int i = 0; i < k->count; i++) k->list[i].shard = 1;
    cn_buf all = kit_file(k, 1);
    write_file(folder, shard_name(name, 1), all.data, all.bytes);
    refuse_folder(folder, CN_ECORRUPT, "part-1.safetensors: tensor", "in another file too");
    cn_buf none = {0};
    t_put_safetensors(&none, "{}", 2, "", 0);
    write_file(folder, shard_name(name, 0), none.data, none.bytes);
    refuse_folder(folder, CN_ECORRUPT, "is in another file than", "part-0.safetensors");

    // A tensor that no file has, first, last and in between; one that the map does not have.
    static const char *const names[] = {"a", "final_norm.weight2", "zz"};
    FILE                    *f = fopen(in_folder(folder, index_file), "rb");
    char                     text[8192];
    assert_non_null(f);
    bytes = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[bytes] = 0;
    for (char *p = text; (p = strstr(p, "part-0"));) p[5] = '1'; // all in shard 1, as they are
    write_text(folder, index_file, text);
    cn_model *m;
    assert_err(cn_model_open(&m, folder, &t_diag), CN_OK);
    cn_model_close(m);
    for (int i = 0; i < 3; i++) {
        cn_buf more = {0};
        cn_buf_printf(&more, "{\"weight_map\": {\"%s\": \"part-1.safetensors\", %s", names[i],
                      strstr(text, "\"embed.weight"));
        write_text(folder, index_file, more.data);
        char says[64];
        snprintf(says, sizeof(says), "tensor %s is in no file", names[i]);
        refuse_folder(folder, CN_ECORRUPT, says, "want it in part-1.safetensors");
        cn_buf_release(&more);
    }
    static const char *const left_out[] = {"cross.0.attn_norm.weight", "final_norm.weight",
                                           "shared.v.weight"}; // first, middle and last
    for (int i = 0; i < 3; i++) {
        char less[8192], says[80];
        strcpy(less, text);
        char *at = strstr(less, left_out[i]), *end = strchr(at, '\n');
        memmove(at - 1, end ? end + 1 : strstr(at, "}}"),
                strlen(end ? end + 1 : strstr(at, "}}")) + 1);
        if (!end) at = less;
        write_text(folder, index_file, less);
        snprintf(says, sizeof(says), "tensor %s is in a file", left_out[i]);
        refuse_folder(folder, CN_ECORRUPT, says, "not in weight_map");
    }

    write_text(folder, index_file, text);
    assert_int_equal(unlink(in_folder(folder, "part-1.safetensors")), 0);
    refuse_folder(folder, CN_ENOTFOUND, "part-1.safetensors", "");
    cn_buf_release(&all);
    cn_buf_release(&none);
    kit_free(k);
}

static void test_index_that_is_none(void **state) {
    (void)state;
    static const struct {
        const char *text, *has;
    } bad[] = {
        {"", "model.safetensors.index.json: byte 0"},
        {"{", "byte 1"},
        {"[]", "no weight_map"},
        {"{\"weight_map\": {}}", "no weight_map"},
        {"{\"weight_map\": [\"a\"]}", "no weight_map"},
        {"{\"metadata\": {}}", "no weight_map"},
        {"{\"weight_map\": {\"t\": 1}}", "tensor t: want the plain name"},
        {"{\"weight_map\": {\"t\": \"\"}}", "tensor t: want the plain name"},
        {"{\"weight_map\": {\"t\": \".\"}}", "tensor t: want the plain name"},
        {"{\"weight_map\": {\"t\": \"..\"}}", "tensor t: want the plain name"},
        {"{\"weight_map\": {\"t\": \".hidden\"}}", "tensor t: want the plain name"},
        {"{\"weight_map\": {\"t\": \"../model.safetensors\"}}", "tensor t: want the plain name"},
        {"{\"weight_map\": {\"t\": \"a/b.safetensors\"}}", "tensor t: want the plain name"},
        {"{\"weight_map\": {\"t\": \"/etc/passwd\"}}", "tensor t: want the plain name"},
    };
    kit        *k = kit_new("yoco", "BF16", "F32", 16, "");
    const char *folder = write_folder(k, 2);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        t_note("%s", bad[i].text);
        write_text(folder, index_file, bad[i].text);
        refuse_folder(folder, CN_ECORRUPT, bad[i].has, index_file);
        cn_hash id;
        assert_err(cn_model_id(&id, folder, &t_diag), CN_ECORRUPT);
        assert_non_null(strstr(t_diag.text, bad[i].has));
    }
    cn_buf text = {0};
    cn_buf_put_str(&text, "{\"weight_map\": {\"t\": \"");
    for (int i = 0; i < 256; i++) cn_buf_put_str(&text, "x");
    cn_buf_put_str(&text, "\"}}");
    write_text(folder, index_file, text.data);
    refuse_folder(folder, CN_ECORRUPT, "tensor t: want the plain name", "");
    cn_buf_reset(&text);
    for (int i = 0; i <= CN_MODEL_SHARDS_MAX; i++)
        cn_buf_printf(&text, "%s\"t%d\": \"f%d\"", i ? ", " : "{\"weight_map\": {", i, i);
    cn_buf_put_str(&text, "}}");
    write_text(folder, index_file, text.data);
    refuse_folder(folder, CN_ETOOBIG, index_file, "4096 files");
    cn_buf_release(&text);
    kit_free(k);
}

static void test_folders_that_are_no_model(void **state) {
    (void)state;
    kit        *k = kit_new("yoco", "BF16", "F32", 16, "");
    const char *folder = write_folder(k, 0);
    char        path[5000];
    cn_hash     id;

    snprintf(path, sizeof(path), "%s/nothing", folder);
    refuse_folder(path, CN_ENOTFOUND, "nothing", "");
    assert_err(cn_model_id(&id, path, &t_diag), CN_ENOTFOUND);
    memset(path, 'x', sizeof(path));
    path[4090] = 0;
    refuse_folder(path, CN_ETOOBIG, "a path of 4102 bytes", "limit 4095");
    assert_err(cn_model_id(&id, path, &t_diag), CN_ETOOBIG);

    write_text(folder, "model.safetensors", "");
    refuse_folder(folder, CN_ECORRUPT, "model.safetensors: 0 bytes", "");
    assert_int_equal(unlink(in_folder(folder, "model.safetensors")), 0);
    refuse_folder(folder, CN_ENOTFOUND, "model.safetensors", index_file);
    assert_err(cn_model_id(&id, folder, &t_diag), CN_ENOTFOUND);
    assert_non_null(strstr(t_diag.text, index_file));
    assert_int_equal(mkdir(in_folder(folder, "model.safetensors"), 0700), 0);
    refuse_folder(folder, CN_EINVAL, "model.safetensors", "regular");
    assert_err(cn_model_id(&id, folder, &t_diag), CN_EINVAL);

    write_text(folder, "config.json", "{}");
    refuse_folder(folder, CN_ECORRUPT, "config.json", "model_type is missing");
    write_text(folder, "config.json", "");
    refuse_folder(folder, CN_ECORRUPT, "config.json", "byte 0");
    write_text(folder, "config.json", "{\"model_type\": \"llama\"}");
    refuse_folder(folder, CN_EUNSUPPORTED, "config.json", "llama");
    assert_int_equal(truncate(in_folder(folder, "config.json"), CN_CONFIG_BYTES_MAX + 1), 0);
    refuse_folder(folder, CN_ETOOBIG, "config.json", "1048576");
    assert_int_equal(unlink(in_folder(folder, "config.json")), 0);
    refuse_folder(folder, CN_ENOTFOUND, "config.json", "");
    assert_int_equal(mkdir(in_folder(folder, "config.json"), 0700), 0);
    refuse_folder(folder, CN_EINVAL, "config.json", "regular");
    kit_free(k);
}

/* Each fault point once: an error with a message, no model, nothing lost (by address sanitizer). */
static void test_faults_leave_nothing(void **state) {
    (void)state;
    kit *k = kit_new("clsa", "F32", "F32", 40, "");
    for (int shards = 0; shards < 3; shards += 2) {
        const char *folder = write_folder(k, shards);
        int         at_memory = 0, at_scratch = 0, at_alloc = 0, at_index = 0;
        for (int n = 1;; n++) {
            cn_model *m = (cn_model *)&m;
            t_diag = (cn_diag){0};
            cn_fault_arm(CN_FAULT_ONCE, n);
            const cn_err err = cn_model_open(&m, folder, &t_diag);
            const bool   hit = cn_fault_was_hit();
            const char  *point = cn_fault_last_point();
            cn_fault_arm(CN_FAULT_OFF, 0);
            t_note("fault %d at %s, %d shards", n, point, shards);
            if (!hit) {
                assert_err(err, CN_OK);
                check_model(k, m);
                cn_model_close(m);
                break;
            }
            at_memory += strcmp(point, "base.block.map") == 0;
            at_scratch += strcmp(point, "engine.model.scratch") == 0;
            at_alloc += strcmp(point, "engine.model.alloc") == 0;
            at_index += strcmp(point, "engine.model.index") == 0;
            assert_true(err == CN_ENOMEM || err == CN_EIO);
            assert_true(t_diag.err == err && t_diag.text[0]);
            assert_null(m);
        }
        assert_true(at_memory == 1 && at_scratch == 1 && at_alloc == 1);
        assert_true(at_index == (shards > 0));
    }
    kit_free(k);
}

/* ---- Identity --------------------------------------------------------------------- */

static cn_hash id_of(const char *folder) {
    cn_hash id;
    assert_err(cn_model_id(&id, folder, &t_diag), CN_OK);
    return id;
}

/* Flip a bit of every byte, or of every `step`-th and the last, of one file. */
static void check_every_byte_counts(const char *folder, const char *name, int64_t step) {
    const cn_hash id = id_of(folder);
    FILE         *f = fopen(in_folder(folder, name), "r+b");
    assert_non_null(f);
    setvbuf(f, NULL, _IONBF, 0);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    const int64_t bytes = ftell(f);
    assert_true(bytes > 0);
    for (int64_t at = 0; at < bytes;
         at = at + step < bytes || at == bytes - 1 ? at + step : bytes - 1) {
        cn_hash other;
        int     was;
        fseek(f, at, SEEK_SET);
        was = fgetc(f);
        for (int undo = 0; undo < 2; undo++) {
            fseek(f, at, SEEK_SET);
            fputc(undo ? was : was ^ (1 << at % 8), f);
            if (undo) break;
            t_note("byte %" PRId64 " of %s", at, name);
            const cn_err err = cn_model_id(&other, folder, &t_diag);
            if (strcmp(name, index_file) != 0 || !err) { // an index can become unreadable
                assert_err(err, CN_OK);
                assert_false(cn_hash_is_equal(&id, &other));
            }
        }
    }
    fclose(f);
    const cn_hash again = id_of(folder);
    assert_true(cn_hash_is_equal(&id, &again));
}

static void test_identity_depends_on_every_byte(void **state) {
    (void)state;
    const int64_t step = t_is_sanitized() ? 41 : 1;
    kit          *k = kit_new("yoco", "I8", "F32", 16, tied);
    const char   *folder = write_folder(k, 0);
    check_every_byte_counts(folder, "config.json", step);
    check_every_byte_counts(folder, "tokenizer.json", 1);
    check_every_byte_counts(folder, "model.safetensors", 7 * step);
    folder = write_folder(k, 2);
    check_every_byte_counts(folder, "config.json", step);
    check_every_byte_counts(folder, "part-0.safetensors", 31 * step);
    check_every_byte_counts(folder, "part-1.safetensors", 31 * step);
    check_every_byte_counts(folder, index_file, 3 * step);
    kit_free(k);
}

static void test_identity_of_files(void **state) {
    (void)state;
    kit          *k = kit_new("yoco", "I8", "F32", 16, tied);
    const char   *folder = write_folder(k, 0);
    const cn_hash one = id_of(folder);
    write_text(folder, "README.md", "no part of the model");
    cn_hash other = id_of(folder);
    assert_true(cn_hash_is_equal(&one, &other));
    other = id_of(write_folder(k, 0)); // another folder, the same files
    assert_true(cn_hash_is_equal(&one, &other));
    other = id_of(write_folder(k, 2)); // the same tensors, other files
    assert_false(cn_hash_is_equal(&one, &other));

    static const cn_hash nothing;
    folder = write_folder(k, 0);
    assert_int_equal(unlink(in_folder(folder, "tokenizer.json")), 0);
    memset(&other, 1, sizeof(other));
    assert_err(cn_model_id(&other, folder, &t_diag), CN_ENOTFOUND);
    assert_non_null(strstr(t_diag.text, "tokenizer.json"));
    assert_true(cn_hash_is_equal(&other, &nothing));
    // A model opens without its tokenizer: only its identity needs the bytes.
    cn_model *m;
    assert_err(cn_model_open(&m, folder, &t_diag), CN_OK);
    cn_model_close(m);
    write_text(folder, "tokenizer.json", ""); // empty is a content too
    other = id_of(folder);
    assert_false(cn_hash_is_equal(&other, &one));
    kit_free(k);
}

/* ---- The example model ------------------------------------------------------------ */

/*
 * Numbers by Python, in the folder examples/models/cairn-nano:
 *
 *   import struct, json, hashlib
 *   f = open("model.safetensors", "rb").read(); n = struct.unpack("<Q", f[:8])[0]
 *   h = json.loads(f[8:8+n]); data = f[8+n:]
 *   at = lambda name, code, size, i: struct.unpack_from(
 *       code, data, h[name]["data_offsets"][0] + i * size)[0]
 *   at("embed.weight", "<b", 1, 7 * 512 + 3); at("embed.scale", "<f", 4, 7).hex()
 *   sum(math.prod(t["shape"]) for k, t in h.items() if not k.endswith((".scale", "__")))
 *   s = hashlib.blake2b(digest_size=32); q = lambda b: struct.pack("<Q", len(b)) + b
 *   for name in "config.json", "model.safetensors", "tokenizer.json":
 *       s.update(q(name.encode())); s.update(q(open(name, "rb").read()))
 */
static void test_example_model(void **state) {
    (void)state;
    cn_model *m;
    assert_err(cn_model_open(&m, CN_SOURCE_DIR "/examples/models/cairn-nano", &t_diag), CN_OK);
    assert_int_equal(m->parameters, 43994112);
    const cn_weight *w[] = {&m->embed,          &m->embed,         &m->self[5].in,
                            &m->self[0].in,     &m->shared,        &m->index_query,
                            &m->index_query,    &m->cross[5].down, &m->cross[0].gate_up,
                            &m->self[3].gate_up};
    static const struct {
        int   row, col, weight;
        float scale;
        int   rows, cols;
    } want[] = {
        {16383, 511, 0, 0x1.f355e4p-8f, 16384, 512}, // embed
        {7, 3, -46, 0x1.3f74eep-8f, 16384, 512},
        {767, 500, -25, 0x1.7db5c2p-8f, 768, 512},  // self.5.v[127]
        {513, 2, 20, 0x1.3d0098p-8f, 768, 512},     // self.0.k[1]
        {319, 0, 15, 0x1.863f44p-11f, 320, 512},    // index.k[63]
        {63, 511, 126, 0x1.6dd11p-11f, 64, 512},    // index.q[63]
        {9, 9, 8, 0x1.a26db2p-11f, 64, 512},        // index.q[9]
        {511, 1535, 12, 0x1.8c6b86p-8f, 512, 1536}, // cross.5.down[511]
        {1536, 1, -96, 0x1.480fa8p-8f, 3072, 512},  // cross.0.up[0]
        {17, 33, 4, 0x1.0d201ap-8f, 3072, 512},     // self.3.gate[17]
    };
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        t_note("number %zu", i);
        assert_true(cn_weight_is_valid(w[i]) && w[i]->type == CN_WEIGHT_I8);
        assert_true(w[i]->rows == want[i].rows && w[i]->cols == want[i].cols);
        assert_true(cn_weight_at(w[i], want[i].row, want[i].col) == (float)want[i].weight);
        assert_true(w[i]->scale[want[i].row] == want[i].scale);
    }
    assert_true(m->head.data == m->embed.data);
    assert_true(m->self[0].attn_norm[5] == 0x1.e2bbcp-5f);
    assert_true(m->self[2].q_norm[511] == 0x1.21042cp+1f);
    assert_true(m->final_norm[511] == 0x1.34b9dcp+0f);
    assert_true(m->shared_norm[0] == 0x1.5fff6cp+0f);
    assert_true(m->cross[4].ffn_norm[100] == 0x1.643b8p-1f);
    assert_true(m->cross[1].q_norm[64] == 0x1.ef0e0cp+0f);
    assert_true(!m->self[0].k_norm && !m->shared_k_norm && !m->cross[0].k_norm);
    cn_model_close(m);

    cn_hash id;
    char    hex[CN_HASH_HEX_BYTES];
    assert_err(cn_model_id(&id, CN_SOURCE_DIR "/examples/models/cairn-nano", &t_diag), CN_OK);
    cn_hash_hex(hex, &id);
    assert_string_equal(hex, "4149c5f2e1bb6fa0254450d84234e7df935112194429334a9698e5e94f991978");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_element_is_where_it_belongs),
        cmocka_unit_test(test_the_other_arms),
        cmocka_unit_test(test_random_models),
        cmocka_unit_test(test_dense_arm_has_no_index),
        cmocka_unit_test(test_conversions_are_exact),
        cmocka_unit_test(test_gains_of_heads),
        cmocka_unit_test(test_each_missing_tensor_is_named),
        cmocka_unit_test(test_each_wrong_shape_is_named),
        cmocka_unit_test(test_surplus_tensors_are_named),
        cmocka_unit_test(test_element_types),
        cmocka_unit_test(test_int8_models_may_hold_float_matrices_but_not_mixed),
        cmocka_unit_test(test_each_value_that_is_not_finite_is_named),
        cmocka_unit_test(test_int8_values),
        cmocka_unit_test(test_empty_set),
        cmocka_unit_test(test_folder_is_opened),
        cmocka_unit_test(test_shards_are_one_model),
        cmocka_unit_test(test_index_and_shards_must_agree),
        cmocka_unit_test(test_index_that_is_none),
        cmocka_unit_test(test_folders_that_are_no_model),
        cmocka_unit_test(test_faults_leave_nothing),
        cmocka_unit_test(test_identity_depends_on_every_byte),
        cmocka_unit_test(test_identity_of_files),
        cmocka_unit_test(test_example_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

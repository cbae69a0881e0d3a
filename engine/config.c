/* config.c - One table row a key: kind, range, default and place in cn_config. */
#include "engine/config.h"

#include "base/json.h"
#include "kernels/topk.h"
#include "kernels/window.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>

static const char *const model_types[] = {"clsa", "yoco", "yoco-perlayer", "transformer", NULL};
static const char *const rope_layouts[] = {"half_split", "interleaved", NULL};
static const char *const index_acts[] = {"none", "relu", NULL};
static const char *const quantizations[] = {"none", "int8_rows", NULL};

_Static_assert(CN_ARM_CLSA == 0 && CN_ARM_YOCO == 1 && CN_ARM_YOCO_PERLAYER == 2 &&
                   CN_ARM_TRANSFORMER == 3,
               "order of model_types");
_Static_assert(sizeof(model_types) / sizeof(model_types[0]) == CN_ARM_COUNT + 1, "a name each");
_Static_assert(CN_ROPE_HALF_SPLIT == 0 && CN_ROPE_INTERLEAVED == 1, "order of rope_layouts");
_Static_assert(CN_INDEX_ACT_NONE == 0 && CN_INDEX_ACT_RELU == 1, "order of index_acts");
_Static_assert(sizeof(cn_arm) == 4 && sizeof(cn_rope_layout) == 4 && sizeof(cn_index_act) == 4,
               "enums are stored as int32_t");
_Static_assert(CN_WINDOW_TOKENS_MAX == 65536 && CN_INDEX_DIM_MAX == 512, "config.h says so");

typedef enum { KEY_INT, KEY_F32, KEY_F64, KEY_BOOL, KEY_NAME, KEY_NAME_BOOL } key_kind;

enum { NEEDED = 1 };

static const double transformer_theta = 500000;

typedef struct key {
    const char        *name;
    key_kind           kind;
    int                needed; // NEEDED, or 0: absent means `absent`
    size_t             offset; // in cn_config
    double             absent;
    double             min; // KEY_INT: smallest; KEY_F32, KEY_F64: must be greater
    double             max; // KEY_INT: largest
    int32_t            multiple;
    const char *const *names; // KEY_NAME: of value 0, 1, ...; KEY_NAME_BOOL: of false, true
} key;

// clang-format off
#define AT(field) offsetof(cn_config, field)
#define INT(name, field, needed, absent, min, max, multiple) \
    {name, KEY_INT, needed, AT(field), absent, min, max, multiple, NULL}
#define REAL(name, kind, field, absent, min) {name, kind, 0, AT(field), absent, min, 0, 1, NULL}
#define BOOL(name, field, absent) {name, KEY_BOOL, 0, AT(field), absent, 0, 1, 1, NULL}
#define NAME(name, kind, field, needed, names) {name, kind, needed, AT(field), 0, 0, 0, 1, names}
static const key keys[] = {
    NAME("model_type",          KEY_NAME, arm, NEEDED, model_types),
    INT ("hidden_size",         hidden,         NEEDED, 0, 16, CN_DIM_MAX, CN_DIM_MULTIPLE),
    INT ("intermediate_size",   ffn,            NEEDED, 0, 16, CN_DIM_MAX, CN_DIM_MULTIPLE),
    INT ("num_self_layers",     self_layers,    NEEDED, 0, 1, CN_LAYERS_MAX, 1),
    INT ("num_cross_layers",    cross_layers,   NEEDED, 0, 0, CN_LAYERS_MAX, 1),
    INT ("num_attention_heads", heads,          NEEDED, 0, 1, CN_HEADS_MAX, 1),
    INT ("num_key_value_heads", kv_heads,       NEEDED, 0, 1, CN_HEADS_MAX, 1),
    INT ("head_dim",            head_dim,       NEEDED, 0, 16, CN_HEAD_DIM_MAX, CN_DIM_MULTIPLE),
    INT ("vocab_size",          vocab,          NEEDED, 0, 1, CN_VOCAB_MAX, 1),
    INT ("sliding_window",      window,         0, 512, 1, CN_WINDOW_TOKENS_MAX, 1),
    INT ("document_sink",       sink,           0, 0, 0, CN_WINDOW_TOKENS_MAX, 1),
    REAL("rope_theta",          KEY_F64, rope_theta, 10000, 1),
    NAME("rope_layout",         KEY_NAME, rope_layout, 0, rope_layouts),
    BOOL("rope_global",         rope_global,    false),
    REAL("rms_norm_eps",        KEY_F32, eps, 1e-5, 0),
    BOOL("embed_norm",          embed_norm,     false),
    REAL("embed_scale",         KEY_F32, embed_scale, 1, -INFINITY),
    BOOL("tie_word_embeddings", tie_embeddings, false),
    BOOL("qk_norm_self",        qk_norm_self,   true),
    BOOL("qk_norm_cross",       qk_norm_cross,  false),
    INT ("index_heads",         index_heads,    0, 1, 1, CN_INDEX_HEADS_MAX, 1),
    INT ("index_head_dim",      index_dim,      0, 128, 16, CN_INDEX_DIM_MAX, CN_DIM_MULTIPLE),
    NAME("index_act",           KEY_NAME, index_act, 0, index_acts),
    BOOL("index_weighted",      index_weighted, false),
    BOOL("index_key_norm",      index_key_norm, false),
    INT ("index_local",         index_local,    0, 0, 0, CN_TOPK_SCORES_MAX, 1),
    INT ("index_topk",          index_topk,     0, 2048, 1, CN_TOPK_SCORES_MAX, 1),
    REAL("index_scale",         KEY_F32, index_scale, 0, 0),
    BOOL("conversation_refs",   conversation_refs, false),
    BOOL("conversation_summaries", conversation_summaries, false),
    NAME("quantization",        KEY_NAME_BOOL, int8_rows, 0, quantizations),
};
// clang-format on

enum { SHOWN_BYTES = 80 };

/* The value as a message shows it. */
static const char *shown(char out[SHOWN_BYTES], const cn_json *v) {
    const cn_json_type type = cn_json_type_of(v);
    const char        *text = cn_json_string(v);
    int64_t            i;
    double             f;
    bool               b;
    if (cn_json_int64(v, &i))
        snprintf(out, SHOWN_BYTES, "%" PRId64, i);
    else if (cn_json_f64(v, &f))
        snprintf(out, SHOWN_BYTES, "%.9g", f);
    else if (cn_json_bool(v, &b))
        snprintf(out, SHOWN_BYTES, "%s", b ? "true" : "false");
    else if (text && strlen(text) <= 40)
        snprintf(out, SHOWN_BYTES, "\"%s\"", text);
    else
        snprintf(out, SHOWN_BYTES, "a value of type %s", cn_json_type_name(type));
    return out;
}

static cn_err wrong_type(const char *name, const cn_json *v, const char *want, cn_diag *diag) {
    char value[SHOWN_BYTES];
    return CN_FAIL(diag, CN_ECORRUPT, "config.json: %s is %s, want %s", name, shown(value, v),
                   want);
}

static cn_err read_int(int32_t *out, const char *name, const cn_json *v, int64_t min, int64_t max,
                       int32_t multiple, cn_diag *diag) {
    int64_t i;
    if (!cn_json_int64(v, &i)) return wrong_type(name, v, "an integer", diag);
    if (i < min || i > max)
        return CN_FAIL(diag, i > max ? CN_ETOOBIG : CN_ECORRUPT,
                       "config.json: %s is %" PRId64 ", range %" PRId64 "..%" PRId64, name, i, min,
                       max);
    if (i % multiple != 0)
        return CN_FAIL(diag, CN_ECORRUPT, "config.json: %s is %" PRId64 ", want a multiple of %d",
                       name, i, (int)multiple);
    *out = (int32_t)i;
    return CN_OK;
}

static cn_err read_real(double *out, const key *k, const cn_json *v, cn_diag *diag) {
    char value[SHOWN_BYTES];
    if (!cn_json_f64(v, out)) return wrong_type(k->name, v, "a number", diag);
    if (k->kind == KEY_F32) *out = (float)*out; // as it will be stored: 1e-60 is 0, 1e60 infinite
    if (!isfinite(*out))
        return CN_FAIL(diag, CN_ETOOBIG, "config.json: %s is %s, more than an f32 holds", k->name,
                       shown(value, v));
    if (!(*out > k->min))
        return CN_FAIL(diag, CN_ECORRUPT, "config.json: %s is %s, want more than %g", k->name,
                       shown(value, v), k->min);
    return CN_OK;
}

static cn_err read_name(int32_t *out, const key *k, const cn_json *v, cn_diag *diag) {
    const char *text = cn_json_string(v);
    char        value[SHOWN_BYTES], known[64] = "";
    size_t      used = 0;
    if (!text) return wrong_type(k->name, v, "a string", diag);
    for (int32_t i = 0; k->names[i]; i++) {
        if (strcmp(text, k->names[i]) == 0) {
            *out = i;
            return CN_OK;
        }
        used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "",
                                 k->names[i]);
        cn_assert(used < sizeof(known));
    }
    return CN_FAIL(diag, CN_EUNSUPPORTED, "config.json: %s is %s; built in: %s", k->name,
                   shown(value, v), known);
}

/* Read key `k` from `v`, or its default where v is NULL. */
static cn_err read_key(cn_config *c, const key *k, const cn_json *v, cn_diag *diag) {
    void   *to = (char *)c + k->offset;
    double  real = k->absent;
    int32_t whole = (int32_t)k->absent;
    bool    flag = k->absent != 0;
    if (!v && k->needed) return CN_FAIL(diag, CN_ECORRUPT, "config.json: %s is missing", k->name);
    switch (k->kind) {
    case KEY_INT:
        if (v)
            CN_TRY(
                read_int(&whole, k->name, v, (int64_t)k->min, (int64_t)k->max, k->multiple, diag));
        memcpy(to, &whole, sizeof(whole));
        break;
    case KEY_F32:
    case KEY_F64:
        if (v) CN_TRY(read_real(&real, k, v, diag));
        if (k->kind == KEY_F64)
            *(double *)to = real;
        else
            *(float *)to = (float)real;
        break;
    case KEY_BOOL:
        if (v && !cn_json_bool(v, &flag)) return wrong_type(k->name, v, "true or false", diag);
        *(bool *)to = flag;
        break;
    case KEY_NAME:
        if (v) CN_TRY(read_name(&whole, k, v, diag));
        memcpy(to, &whole, sizeof(whole));
        break;
    case KEY_NAME_BOOL:
        if (v) CN_TRY(read_name(&whole, k, v, diag));
        *(bool *)to = whole != 0;
        break;
    }
    return CN_OK;
}

static cn_err read_roles(cn_config *c, const cn_json *roles, cn_diag *diag) {
    if (!roles) return CN_OK;
    if (cn_json_type_of(roles) != CN_JSON_OBJECT)
        return wrong_type("roles", roles, "an object", diag);
    for (const cn_json *v = cn_json_first(roles); v; v = cn_json_next(v)) {
        const char *name = cn_json_key(v);
        if (c->roles == CN_ROLES_MAX)
            return CN_FAIL(diag, CN_ETOOBIG, "config.json: %" PRId64 " roles, limit %d",
                           cn_json_count(roles), (int)CN_ROLES_MAX);
        if (name[0] == 0) return CN_FAIL(diag, CN_ECORRUPT, "config.json: roles: an empty name");
        if (strlen(name) >= CN_ROLE_NAME_BYTES)
            return CN_FAIL(diag, CN_ETOOBIG,
                           "config.json: roles: a name of %zu bytes, limit %d: %s", strlen(name),
                           (int)CN_ROLE_NAME_BYTES - 1, name);
        cn_role *role = &c->role[c->roles];
        char     path[CN_ROLE_NAME_BYTES + 8];
        snprintf(path, sizeof(path), "roles.%s", name);
        CN_TRY(read_int(&role->token, path, v, 0, CN_VOCAB_MAX - 1, 1, diag));
        if (role->token >= c->vocab)
            return CN_FAIL(diag, CN_ECORRUPT, "config.json: %s is %d, but vocab_size is %d", path,
                           (int)role->token, (int)c->vocab);
        strcpy(role->name, name); // fits: checked above
        c->roles++;
    }
    return CN_OK;
}

static cn_err check_cross_layers(const cn_config *c, cn_diag *diag) {
    const int32_t min = c->arm == CN_ARM_TRANSFORMER ? 0 : 1;
    const int32_t max = c->arm == CN_ARM_TRANSFORMER     ? 0
                        : c->arm == CN_ARM_YOCO_PERLAYER ? CN_INDEX_SOURCES_MAX
                                                         : CN_LAYERS_MAX;
    if (c->cross_layers >= min && c->cross_layers <= max) return CN_OK;
    return CN_FAIL(diag, c->cross_layers > max && max ? CN_ETOOBIG : CN_ECORRUPT,
                   "config.json: num_cross_layers is %d, range %d..%d for %s", (int)c->cross_layers,
                   (int)min, (int)max, cn_arm_name(c->arm));
}

static cn_err read_config(cn_config *c, const cn_json *root, cn_diag *diag) {
    if (cn_json_type_of(root) != CN_JSON_OBJECT)
        return CN_FAIL(diag, CN_ECORRUPT, "config.json is of type %s, want an object",
                       cn_json_type_name(cn_json_type_of(root)));
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        CN_TRY(read_key(c, &keys[i], cn_json_get(root, keys[i].name), diag));
    if (c->heads % c->kv_heads != 0)
        return CN_FAIL(diag, CN_ECORRUPT,
                       "config.json: num_attention_heads is %d, no multiple of "
                       "num_key_value_heads, %d",
                       (int)c->heads, (int)c->kv_heads);
    CN_TRY(check_cross_layers(c, diag));
    if (c->arm == CN_ARM_TRANSFORMER && !cn_json_get(root, "rope_theta"))
        c->rope_theta = transformer_theta;
    if (c->index_scale == 0)
        c->index_scale =
            1 / sqrtf((float)c->index_dim * (float)(c->index_weighted ? c->index_heads : 1));
    return read_roles(c, cn_json_get(root, "roles"), diag);
}

cn_err cn_config_parse(cn_config *out, const char *text, size_t bytes, cn_diag *diag) {
    static const cn_json_limits limits = {CN_CONFIG_BYTES_MAX, 32, 1 << 16};
    cn_json_doc                *doc;
    memset(out, 0, sizeof(*out));
    CN_TRY(cn_json_parse(&doc, text, bytes, "config.json", &limits, diag));
    cn_config    c = {0};
    const cn_err err = read_config(&c, cn_json_root(doc), diag);
    cn_json_free(doc);
    if (err == CN_OK) *out = c;
    return err;
}

int32_t cn_config_role(const cn_config *c, const char *name) {
    for (int32_t i = 0; i < c->roles; i++)
        if (strcmp(c->role[i].name, name) == 0) return c->role[i].token;
    return -1;
}

const char *cn_arm_name(cn_arm arm) {
    cn_assert((unsigned)arm < CN_ARM_COUNT);
    return model_types[arm];
}

cn_config cn_config_as_arm(const cn_config *c, cn_arm arm) {
    cn_config out = *c;
    if (arm == c->arm) return out;
    cn_assert(c->arm != CN_ARM_TRANSFORMER);
    out.arm = arm;
    if (arm != CN_ARM_TRANSFORMER) return out;
    out.self_layers += c->cross_layers;
    out.cross_layers = 0;
    out.sink = 0;
    out.rope_theta = transformer_theta;
    return out;
}

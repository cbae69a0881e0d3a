/*
 * config.h - config.json of a model folder: the dimensions and variants of one model.
 *
 * Keys follow the Hugging Face habit; those that are ours say what the paper leaves
 * open (arXiv:2606.06467).  A key that is absent has the default below; an unknown key
 * is ignored (folders carry keys for other programs), a key of the wrong type or range
 * is refused by name.
 *
 *   model_type              "clsa" (one set for all cross layers) | "yoco" (dense) |
 *                           "yoco-perlayer" (a set for each) | "transformer"         required
 *   hidden_size             multiple of 16, 16..32768                                required
 *   intermediate_size       multiple of 16, 16..32768                                required
 *   num_self_layers         1..256; transformer: all its layers                      required
 *   num_cross_layers        1..256, yoco-perlayer: 1..128; transformer: 0            required
 *   num_attention_heads     1..128                                                   required
 *   num_key_value_heads     divides num_attention_heads                              required
 *   head_dim                multiple of 16, 16..256                                  required
 *   vocab_size              1..4194304                                               required
 *   sliding_window          1..65536; transformer: unused                            512
 *   document_sink           0..65536: first tokens of a document, always visible     0
 *   rope_theta              > 1                              10000; transformer: 500000
 *   rope_layout             "half_split" | "interleaved"                             half_split
 *   rope_global             bool: RoPE on the shared K and cross Q too (YOCO, 2024)  false
 *   rms_norm_eps            > 0                                                      1e-5
 *   embed_norm              bool: RMS norm, no gain, of the embedding                false
 *   embed_scale             finite: factor of the embedding                          1
 *   tie_word_embeddings     bool: the output matrix is the embedding                 false
 *   qk_norm_self            bool: RMS norm of q and k heads in self layers           true
 *   qk_norm_cross           bool: of the shared K and the cross q heads              false
 *   index_heads             1..64                                                    1
 *   index_head_dim          multiple of 16, 16..512                                  128
 *   index_act               "none" | "relu"                                          none
 *   index_weighted          bool: a weight a head, from the state                    false
 *   index_key_norm          bool: RMS norm, no gain, of the index key                false
 *   index_local             0..2^27: last tokens of the view, always in S            0
 *   index_topk              1..2^27                                                  2048
 *   index_scale             > 0: factor of the index scores in the softmax that they were
 *                           trained with; it changes no set                          below
 *   conversation_refs       bool: long parts become documents                        false
 *   conversation_summaries  bool: it can sum up a conversation when asked to         false
 *   quantization            "none" | "int8_rows"                                     none
 *   roles                   object: role name (1..31 bytes) -> token id              {}
 *
 * index_scale is index_head_dim^-1/2 where it is absent, times index_heads^-1/2 with
 * index_weighted: what examples/train/index.py trains with.
 *
 * Layer: engine -> base, kernels.
 */
#ifndef CN_ENGINE_CONFIG_H
#define CN_ENGINE_CONFIG_H

#include "base/err.h"
#include "kernels/index_scan.h"
#include "kernels/rope.h"

CN_C_BEGIN

enum {
    CN_LAYERS_MAX = 256,
    CN_VOCAB_MAX = 1 << 22,
    CN_ROLES_MAX = 32,
    CN_ROLE_NAME_BYTES = 32,
    CN_CONFIG_BYTES_MAX = 1 << 20,
};

/* The same dimensions with four ways to attend.  The last two exist to be measured against:
 * no pages are kept for them, and no session runs on them.
 *
 *   CLSA           one top-k set a token, used by every cross layer (arXiv:2606.06467)
 *   YOCO           cross layers attend to all tokens (arXiv:2405.05254)
 *   YOCO_PERLAYER  each cross layer has its own index: keys W h, query W RMSNorm(x)
 *   TRANSFORMER    every layer attends to all tokens, with K and V of its own */
typedef enum { CN_ARM_CLSA, CN_ARM_YOCO, CN_ARM_YOCO_PERLAYER, CN_ARM_TRANSFORMER } cn_arm;
enum { CN_ARM_COUNT = CN_ARM_TRANSFORMER + 1 };

typedef struct cn_role {
    char    name[CN_ROLE_NAME_BYTES];
    int32_t token;
} cn_role;

typedef struct cn_config {
    cn_arm         arm;
    int32_t        hidden;
    int32_t        ffn;
    int32_t        self_layers;
    int32_t        cross_layers;
    int32_t        heads;
    int32_t        kv_heads;
    int32_t        head_dim;
    int32_t        vocab;
    int32_t        window;
    int32_t        sink;
    double         rope_theta;
    cn_rope_layout rope_layout;
    bool           rope_global;
    float          eps;
    bool           embed_norm;
    float          embed_scale;
    bool           tie_embeddings;
    bool           qk_norm_self;
    bool           qk_norm_cross;
    int32_t        index_heads;
    int32_t        index_dim;
    cn_index_act   index_act;
    bool           index_weighted;
    bool           index_key_norm;
    int32_t        index_local;
    int32_t        index_topk;
    float          index_scale;
    bool           conversation_refs;
    bool           conversation_summaries;
    bool           int8_rows;
    int32_t        roles;
    cn_role        role[CN_ROLES_MAX];
} cn_config;

/* Read config.json.
 *
 *   text  `bytes` bytes, borrowed for the call.
 *
 * CN_ECORRUPT     not strict JSON, a required key is missing, a key has the wrong type,
 *                 or values contradict each other; the diag names key and numbers.
 * CN_ETOOBIG      a value is over its limit.
 * CN_EUNSUPPORTED a word that is not built in (another model_type or quantization).
 * CN_ENOMEM.  On failure *out is zero. */
cn_err cn_config_parse(cn_config *out, const char *text, size_t bytes, cn_diag *diag) CN_MUST_CHECK;

/* The token of role `name`; -1 if the model has no such role. */
int32_t cn_config_role(const cn_config *c, const char *name);

/* "clsa", ...: the model_type.  Static storage. */
const char *cn_arm_name(cn_arm arm);

/* The model of another arm with the dimensions of `c`: a transformer gets as many layers as
 * both decoders have together, rope_theta 500000 and no sink.  A transformer's own config does
 * not say where the decoders part: from it there is no way back (asserted). */
cn_config cn_config_as_arm(const cn_config *c, cn_arm arm);

/* Sets of index keys: one, or one for each cross layer, or none. */
static inline int32_t cn_config_index_sources(const cn_config *c) {
    return c->arm == CN_ARM_CLSA ? 1 : c->arm == CN_ARM_YOCO_PERLAYER ? c->cross_layers : 0;
}

/* Whether the arm needs index keys. */
static inline bool cn_config_has_index(const cn_config *c) {
    return cn_config_index_sources(c) > 0;
}

/* Whether pages of such a model are kept and sessions run on it. */
static inline bool cn_config_has_sessions(const cn_config *c) {
    return c->arm == CN_ARM_CLSA || c->arm == CN_ARM_YOCO;
}

CN_C_END

#endif

/*
 * model.h - A model folder, loaded: config, weights packed for the ops, identity.
 *
 *   config.json                      config.h
 *   model.safetensors                or model.safetensors.index.json with its shards
 *   tokenizer.json                   tokenizer.h (read for the identity here)
 *
 * Tensors, by name: NAME below is the tensor NAME.weight.  A matrix [rows, cols] is BF16,
 * F16 or F32; or, with quantization int8_rows, I8 in -127..127 with NAME.scale F32 [rows]:
 * W[r,c] = weight * scale[r], where a scale of 0 (an empty row) or below is fine.  F16 and
 * F32 matrices are rounded to bf16 (nearest, ties to even) when loaded; vectors may be
 * BF16, F16 or F32 and are held in f32.  Everything must be finite, matrices in bf16 too.
 *
 *   embed                            [vocab, hidden]
 *   self.L.attn_norm, .ffn_norm      [hidden]
 *   self.L.q, .k, .v, .o             [H D, hidden] [G D, hidden] x2 [hidden, H D]
 *   self.L.gate, .up, .down          [ffn, hidden] x2 [hidden, ffn]
 *   self.L.q_norm, .k_norm           [H, D] or [D] / [G, D] or [D]; optional, with qk_norm_self
 *   shared.norm                      [hidden]     h = RMS(x) * gain, input of what follows;
 *                                    shared.* not in a transformer
 *   shared.k, shared.v               [G D, hidden]
 *   shared.k_norm                    [G, D] or [D]; optional, with qk_norm_cross
 *   index.q, .k, .w                  [Hi Di, hidden] [Di, hidden] [Hi, hidden]; clsa only,
 *                                    .w with index_weighted
 *   cross.L.attn_norm, .ffn_norm     [hidden]
 *   cross.L.q, .o, .gate, .up, .down as in self layers
 *   cross.L.q_norm                   optional, with qk_norm_cross
 *   cross.L.index.q, .k, .w          as index.*; yoco-perlayer only: .k takes h, the others
 *                                    take RMS(x) * attn_norm
 *   final_norm                       [hidden]
 *   lm_head                          [vocab, hidden]; absent with tie_word_embeddings
 *
 * with H heads, G kv heads, D head_dim, Hi, Di index heads and dim.  A norm gain that
 * is [D] is repeated for each head.  Every tensor must be known and every needed one
 * there: a folder with a surplus tensor is not this model.
 *
 * Matrices with one input are packed into one (cn_weight): q|k|v, gate|up,
 * k|v|index keys, index q|w.  They must all be I8, or none.
 *
 * model.safetensors.index.json is {"weight_map": {tensor: file}}: plain names of files in
 * the folder, each tensor in the file it says, none left out.  It is read only where
 * there is no model.safetensors.
 *
 * Threads: immutable after open.
 *
 * Layer: engine -> base, kernels.
 */
#ifndef CN_ENGINE_MODEL_H
#define CN_ENGINE_MODEL_H

#include "base/block.h"
#include "base/hash.h"
#include "engine/config.h"
#include "kernels/weight.h"

CN_C_BEGIN

#define CN_MODEL_FILE_BYTES_MAX ((size_t)1 << 40)
enum { CN_MODEL_SHARDS_MAX = 4096, CN_MODEL_PATH_BYTES = 4096 };

typedef struct cn_layer {
    const float *attn_norm; // [hidden]
    const float *ffn_norm;  // [hidden]
    const float *q_norm;    // [heads, head_dim] or NULL
    const float *k_norm;    // [kv_heads, head_dim] or NULL; self layers only
    cn_weight    in;        // self: q|k|v; cross: q
    cn_weight    query;     // yoco-perlayer's cross layers: index q, then w; else rows 0
    cn_weight    o;
    cn_weight    gate_up;
    cn_weight    down;
} cn_layer;

typedef struct cn_model {
    cn_config    config;
    cn_layer    *self;          // [config.self_layers]
    cn_layer    *cross;         // [config.cross_layers]
    cn_weight    embed;         // [vocab, hidden]
    cn_weight    head;          // the same memory as embed if tied
    const float *shared_norm;   // [hidden]; NULL in a transformer
    const float *shared_k_norm; // [kv_heads, head_dim] or NULL
    cn_weight    shared;        // k|v, then the index key of each source; rows 0 in a transformer
    cn_weight    index_query;   // clsa: index q, then w if index_weighted; else rows 0
    const float *final_norm;    // [hidden]
    int64_t      weight_bytes;  // memory held
    int64_t      parameters;    // elements of all tensors, scales not counted
    cn_block     block;         // private: holds all of the above but the layers
} cn_model;

/* Load a model folder.
 *
 *   out   owned by the caller: cn_model_close().  NULL unless CN_OK.
 *
 * CN_ENOTFOUND     no folder, or a file is missing; the diag names it.
 * CN_ECORRUPT      the files are not a whole model; the diag names file or tensor, and numbers.
 * CN_EUNSUPPORTED  a sound model that is not built in.
 * CN_EINVAL        one of the files is a folder or a device.
 * CN_ETOOBIG, CN_EIO, CN_ENOMEM.
 *
 * Time: one pass over the weights. */
cn_err cn_model_open(cn_model **out, const char *folder, cn_diag *diag) CN_MUST_CHECK;

/* NULL is allowed. */
void cn_model_close(cn_model *model);

/* The same from bytes in memory: what cn_model_open does after reading.  The set and
 * its bytes are borrowed for the call. */
struct cn_tensor_set;
cn_err cn_model_build(cn_model **out, const cn_config *config, const struct cn_tensor_set *tensors,
                      cn_diag *diag) CN_MUST_CHECK;

/* A model of random weights, for benches and tests: int8 rows or bf16 as the config says.  The
 * same config and seed give the same model.  Gains are 1 (optional ones absent), matrices have
 * mean 0 and a deviation of 1 / sqrt(cols), so that activations stay finite at any dims.
 *
 * CN_ENOMEM.
 *
 * Time: about 1 GB/s. */
cn_err cn_model_random(cn_model **out, const cn_config *config, uint64_t seed,
                       cn_diag *diag) CN_MUST_CHECK;

/* The identity of a model folder: BLAKE2b-256 over the bytes of config.json,
 * tokenizer.json and each weight file (and their index), with their names and sizes, in
 * order of name.  One changed byte anywhere gives another id.
 *
 * CN_ENOTFOUND  a file is missing; the diag names it.
 * CN_ECORRUPT, CN_EINVAL, CN_EIO, CN_ETOOBIG, CN_ENOMEM.  On failure *out is zero.
 *
 * Time: one pass over the files, about 0.7 GB/s. */
cn_err cn_model_id(cn_hash *out, const char *folder, cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

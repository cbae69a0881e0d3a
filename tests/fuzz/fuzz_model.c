/* fuzz_model.c - Any tensors: a model that holds what was asked for, or a message. */
#include "engine/model.h"
#include "engine/safetensors.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *file, size_t bytes);

#define DIMS                                                                                       \
    "\"hidden_size\":16,\"intermediate_size\":16,\"num_self_layers\":1,\"num_cross_layers\":1,"    \
    "\"num_attention_heads\":1,\"num_key_value_heads\":1,\"head_dim\":16,\"vocab_size\":1,"        \
    "\"index_head_dim\":16"

static void try(const char *text, const cn_tensor_set *set) {
    cn_config config;
    cn_model *m;
    cn_diag   diag = {0};
    cn_err    err = cn_config_parse(&config, text, strlen(text), NULL);
    cn_assert(err == CN_OK);
    err = cn_model_build(&m, &config, set, &diag);
    if (err) {
        cn_assert(err == CN_ECORRUPT && diag.err == err && diag.text[0] && !m);
        return;
    }
    cn_assert(cn_weight_is_valid(&m->shared) && cn_weight_is_valid(&m->cross[0].down));
    for (int32_t r = 0; r < 16; r++) {
        cn_assert(isfinite(m->final_norm[r]) && isfinite(m->cross[0].attn_norm[r]));
        for (int32_t c = 0; c < 16; c++) cn_assert(isfinite(cn_weight_at(&m->cross[0].down, r, c)));
    }
    cn_model_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *file, size_t bytes) {
    cn_tensor_set *set;
    if (cn_tensor_set_create(&set, NULL)) return 0;
    if (cn_tensor_set_add(set, file, bytes, "f", NULL) == CN_OK) {
        try("{\"model_type\":\"yoco\"," DIMS "}", set);
        try("{\"model_type\":\"clsa\"," DIMS ",\"tie_word_embeddings\":true,"
            "\"qk_norm_cross\":true,\"index_weighted\":true,\"quantization\":\"int8_rows\"}",
            set);
    }
    cn_tensor_set_free(set);
    return 0;
}

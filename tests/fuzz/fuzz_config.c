/* fuzz_config.c - No config.json gives dimensions outside the ranges that config.h states. */
#include "engine/config.h"
#include "kernels/window.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static bool is_in(int64_t value, int64_t min, int64_t max, int64_t multiple) {
    return value >= min && value <= max && value % multiple == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static const cn_config nothing;
    cn_config              c;
    cn_diag                diag = {0};
    const cn_err           err = cn_config_parse(&c, (const char *)data, bytes, &diag);
    if (err) {
        cn_assert(err == CN_ECORRUPT || err == CN_ETOOBIG || err == CN_EUNSUPPORTED);
        cn_assert(diag.err == err && diag.text[0] && memcmp(&c, &nothing, sizeof(c)) == 0);
        return 0;
    }
    cn_assert(c.arm == CN_ARM_CLSA || c.arm == CN_ARM_YOCO);
    cn_assert(is_in(c.hidden, 16, CN_DIM_MAX, 16) && is_in(c.ffn, 16, CN_DIM_MAX, 16));
    cn_assert(is_in(c.self_layers, 1, CN_LAYERS_MAX, 1));
    cn_assert(is_in(c.cross_layers, 1, CN_LAYERS_MAX, 1));
    cn_assert(is_in(c.heads, c.kv_heads, CN_HEADS_MAX, c.kv_heads) && c.kv_heads >= 1);
    cn_assert(is_in(c.head_dim, 16, CN_HEAD_DIM_MAX, 16) && is_in(c.vocab, 1, CN_VOCAB_MAX, 1));
    cn_assert(is_in(c.window, 1, CN_WINDOW_TOKENS_MAX, 1));
    cn_assert(is_in(c.sink, 0, CN_WINDOW_TOKENS_MAX, 1));
    cn_assert(is_in(c.index_heads, 1, CN_INDEX_HEADS_MAX, 1));
    cn_assert(is_in(c.index_dim, 16, CN_INDEX_DIM_MAX, 16));
    cn_assert(c.index_local >= 0 && c.index_topk >= 1 && c.index_scale > 0);
    cn_assert(c.rope_theta > 1 && c.eps > 0 && c.embed_scale - c.embed_scale == 0);
    cn_assert(is_in(c.roles, 0, CN_ROLES_MAX, 1));
    for (int32_t i = 0; i < c.roles; i++) {
        cn_assert(is_in(c.role[i].token, 0, c.vocab - 1, 1));
        cn_assert(is_in((int64_t)strlen(c.role[i].name), 1, CN_ROLE_NAME_BYTES - 1, 1));
        cn_assert(cn_config_role(&c, c.role[i].name) == c.role[i].token);
    }
    return 0;
}

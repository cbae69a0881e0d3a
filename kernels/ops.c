/* ops.c - Fill the op table by what the processor has. */
#include "kernels/ops.h"

const char *cn_isa_name(cn_isa isa) {
    static const char *const names[] = {"ref", "avx2", "avx512"};
    _Static_assert(sizeof(names) / sizeof(names[0]) == CN_ISA_COUNT, "a name for each isa");
    return (unsigned)isa < CN_ISA_COUNT ? names[isa] : "?";
}

bool cn_isa_is_supported(cn_isa isa) {
    switch (isa) {
    case CN_ISA_REF:
        return true;
    case CN_ISA_AVX2:
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case CN_ISA_AVX512:
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni") &&
               __builtin_cpu_supports("avx512bf16");
    default:
        return false;
    }
}

cn_isa cn_isa_best(void) {
    cn_isa best = CN_ISA_REF;
    for (int isa = 0; isa < CN_ISA_COUNT; isa++)
        if (cn_isa_is_supported((cn_isa)isa)) best = (cn_isa)isa;
    return best;
}

cn_err cn_ops_init(cn_ops *ops, cn_isa isa) {
    if (!cn_isa_is_supported(isa)) return CN_EUNSUPPORTED;
    ops->isa = isa;
#define CN_OP(op) ops->op = cn_##op##_ref;
#define CN_OP_SIMD(op)                                                                             \
    if (isa == CN_ISA_AVX2) ops->op = cn_##op##_avx2;                                              \
    if (isa == CN_ISA_AVX512) ops->op = cn_##op##_avx512;
#include "kernels/ops.def"
#undef CN_OP
#undef CN_OP_SIMD
    return CN_OK;
}

/* fuzz_safetensors.c - No header gives a tensor outside its file, or two on one byte. */
#include "engine/safetensors.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *file, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *file, size_t bytes) {
    cn_tensor_set *set;
    cn_diag        diag = {0};
    if (cn_tensor_set_create(&set, NULL)) return 0;
    cn_err err = cn_tensor_set_add(set, file, bytes, "f", &diag);
    if (err) {
        cn_assert(err == CN_ECORRUPT || err == CN_ETOOBIG || err == CN_EUNSUPPORTED);
        cn_assert(diag.err == err && diag.text[0] && cn_tensor_set_count(set) == 0);
        cn_tensor_set_free(set);
        return 0;
    }
    int64_t       sum = 0;
    const int64_t count = cn_tensor_set_count(set);
    for (int64_t i = 0; i < count; i++) {
        const cn_tensor *t = cn_tensor_set_at(set, i);
        cn_assert(t->data >= file + 8 && t->bytes >= 0 && t->data + t->bytes <= file + bytes);
        cn_assert(cn_tensor_set_find(set, t->name) == t);
        cn_assert(i == 0 || strcmp(t[-1].name, t->name) < 0);
        sum += t->bytes;
    }
    uint64_t header = 0;
    for (int i = 8; i-- > 0;) header = header << 8 | file[i];
    cn_assert((uint64_t)sum + 8 + header == bytes); // with the bounds: no overlap, no hole
    err = cn_tensor_set_add(set, file, bytes, "again", NULL);
    cn_assert(err == (count > 0 ? CN_ECORRUPT : CN_OK) && cn_tensor_set_count(set) == count);
    cn_tensor_set_free(set);
    return 0;
}

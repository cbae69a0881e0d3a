/* fuzz_conf.c - No configuration makes its reader leave the text, or give a value out of its range.
 */
#include "runtime/conf.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What a value must be, whatever the file says. */
static void check_value(const cn_conf *c, cn_conf_key key, int32_t lines) {
    const char  *text = cn_conf_text(c, key);
    const double number = cn_conf_number(c, key);
    cn_assert(cn_conf_is_set(c, key) == (text != NULL));
    if (!text) {
        cn_assert(number == 0 && c->value[key].line == 0);
        cn_assert(c->value[key].source == CN_CONF_DEFAULT);
        return;
    }
    cn_assert(text[0] && text >= c->text.data && text < c->text.data + c->text.bytes);
    cn_assert(strlen(text) <= CN_CONF_PATH_BYTES_MAX && !strchr(text, '\n'));
    cn_assert(c->value[key].source == CN_CONF_FILE);
    cn_assert(c->value[key].line >= 1 && c->value[key].line <= lines);
    const double max = key == CN_CONF_CACHE_BYTES ? (double)CN_CONF_CACHE_BYTES_MAX
                       : key >= CN_CONF_INPUT     ? CN_CONF_PRICE_MAX
                                                  : INT32_MAX;
    cn_assert(number >= 0 && number <= max);
    cn_assert(cn_conf_is_number(key) || number == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static const cn_conf nothing;
    cn_conf              c = {0};
    cn_diag              diag = {0};
    int32_t              lines = 1;
    for (size_t i = 0; i < bytes; i++) lines += data[i] == '\n';
    const cn_err err = cn_conf_parse(&c, (const char *)data, bytes, "f", &diag);
    if (err) {
        cn_assert(err == CN_EINVAL || (err == CN_ETOOBIG && bytes > CN_CONF_BYTES_MAX));
        cn_assert(diag.err == err && strncmp(diag.text, "f", 1) == 0);
        cn_assert(memcmp(&c, &nothing, sizeof(c)) == 0);
        return 0;
    }
    for (int i = 0; i < CN_CONF_COUNT; i++) check_value(&c, (cn_conf_key)i, lines);
    cn_conf_release(&c);
    return 0;
}

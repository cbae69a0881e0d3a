/*
 * fuzz_rules.c - No .gitignore and no .gitattributes makes their readers leave the text,
 * loop, or answer what they cannot.
 *
 * The first line of the input is the path that is asked for, the rest is the file.
 */
#include "tools/attributes.h"
#include "tools/ignore.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *text, size_t bytes);

static void ask_ignore(const char *path, const char *text, size_t bytes) {
    cn_ignore *ignore;
    if (cn_ignore_parse(&ignore, text, bytes, NULL)) return;
    for (int is_folder = 0; is_folder < 2; is_folder++) {
        const cn_ignore_answer answer = cn_ignore_match(ignore, path, is_folder);
        cn_assert(ignore || answer == CN_IGNORE_SILENT);
        cn_assert(answer == cn_ignore_match(ignore, path, is_folder));
        if (answer == CN_IGNORE_OUT) cn_assert(cn_ignore_has(ignore, path, is_folder));
        if (!strchr(path, '/'))
            cn_assert(cn_ignore_has(ignore, path, is_folder) == (answer == CN_IGNORE_OUT));
    }
    cn_ignore_free(ignore);
}

static void ask_attributes(const char *path, const char *text, size_t bytes) {
    cn_attributes      *names;
    cn_attribute_rules *rules = NULL;
    cn_attribute_answer answer = {0}, again = {0};
    if (cn_attributes_create(&names, NULL)) return;
    if (!cn_attributes_define(names, text, bytes, NULL) &&
        !cn_attributes_parse(names, &rules, text, bytes, NULL)) {
        cn_attributes_apply(names, rules, path, &answer);
        cn_attributes_apply(names, rules, path, &again);
        for (int i = 0; i < CN_ATTRIBUTE_NAMES_MAX; i++) {
            const cn_attribute_value *v = &answer.value[i];
            cn_assert(v->state <= CN_ATTRIBUTE_VALUE && v->state == again.value[i].state);
            cn_assert(v->bytes <= CN_ATTRIBUTE_LINE_BYTES_MAX);
            // Every byte of a value lies in a text that is still there.
            if (v->state == CN_ATTRIBUTE_VALUE)
                cn_assert(v->bytes == 0 || !memchr(v->text, '\n', v->bytes));
        }
        // What is decided stays.
        cn_attributes_apply(names, rules, "another/path", &again);
        for (int i = 0; i < CN_ATTRIBUTES; i++)
            if (answer.value[i].state != CN_ATTRIBUTE_UNDECIDED)
                cn_assert(again.value[i].state == answer.value[i].state);
    }
    cn_attribute_rules_free(rules);
    cn_attributes_free(names);
}

int LLVMFuzzerTestOneInput(const uint8_t *text, size_t bytes) {
    char           path[256];
    const uint8_t *newline = bytes > 0 ? memchr(text, '\n', bytes) : NULL;
    const size_t   head = newline ? (size_t)(newline - text) : 0;
    if (!newline || head >= sizeof(path) || bytes > 1 << 14) return 0;
    memcpy(path, text, head);
    path[head] = 0;
    ask_ignore(path, (const char *)newline + 1, bytes - head - 1);
    ask_attributes(path, (const char *)newline + 1, bytes - head - 1);
    return 0;
}

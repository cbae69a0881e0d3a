/* gold.c - The reader of gold.h. */
#include "tests/gold.h"
#include "tests/test.h"

t_gold t_gold_open(const char *stem) {
    char   path[512];
    size_t bytes;
    t_gold g;
    snprintf(path, sizeof(path), "%s.txt", stem);
    g.index = t_read_source_file(path, &bytes);
    snprintf(path, sizeof(path), "%s.bin", stem);
    uint8_t *raw = t_read_source_file(path, &g.bytes);
    g.data = t_alloc(g.bytes); // on 64 bytes, as the offsets promise
    memcpy(g.data, raw, g.bytes);
    free(raw);
    return g;
}

void t_gold_close(t_gold *g) {
    free(g->index);
    t_free(g->data);
    *g = (t_gold){0};
}

const void *t_gold_find(const t_gold *g, const char *name, const char *dtype, int64_t *count_out) {
    const size_t length = strlen(name);
    for (const char *line = g->index; line && *line;
         line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, name, length) != 0 || line[length] != ' ') continue;
        char      type[8];
        long long offset;
        int       used = 0;
        if (sscanf(line + length, " %7s %lld%n", type, &offset, &used) != 2)
            t_fail(__FILE__, __LINE__, "golden line %s", name);
        if (strcmp(type, dtype) != 0)
            t_fail(__FILE__, __LINE__, "golden %s is %s, want %s", name, type, dtype);
        int64_t     count = 1;
        const char *p = line + length + used;
        while (*p == ' ') {
            char *end;
            count *= strtoll(p, &end, 10);
            p = end;
        }
        const size_t size = strcmp(dtype, "f64") == 0   ? 8
                            : strcmp(dtype, "u16") == 0 ? 2
                            : strcmp(dtype, "i8") == 0  ? 1
                                                        : 4;
        if (offset < 0 || (size_t)offset + (size_t)count * size > g->bytes)
            t_fail(__FILE__, __LINE__, "golden %s leaves its file", name);
        if (count_out) *count_out = count;
        return g->data + offset;
    }
    return NULL;
}

const void *t_gold_get(const t_gold *g, const char *dtype, int64_t *count_out, const char *name,
                       ...) {
    char    full[128];
    va_list args;
    va_start(args, name);
    vsnprintf(full, sizeof(full), name, args);
    va_end(args);
    const void *p = t_gold_find(g, full, dtype, count_out);
    if (!p) t_fail(__FILE__, __LINE__, "no golden array %s", full);
    return p;
}

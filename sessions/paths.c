/* paths.c - A list of paths that owns them. */
#include "sessions/paths.h"

#include "base/fault.h"

#include <stdlib.h>
#include <string.h>

void cn_paths_release(cn_paths *p) {
    for (int64_t i = 0; i < p->count; i++) free(p->path[i]);
    free(p->path);
    *p = (cn_paths){0};
}

cn_err cn_paths_put(cn_paths *p, const char *path) {
    if (p->count == p->room) {
        const int64_t room = p->room ? 2 * p->room : 16;
        char        **more = CN_FAULT("sessions.paths.memory")
                                 ? NULL
                                 : realloc(p->path, (size_t)room * sizeof(*more));
        if (!more) return CN_ENOMEM;
        p->path = more;
        p->room = room;
    }
    p->path[p->count] = CN_FAULT("sessions.paths.memory") ? NULL : strdup(path);
    if (!p->path[p->count]) return CN_ENOMEM;
    p->count++;
    return CN_OK;
}

cn_err cn_paths_put_all(cn_paths *p, const cn_paths *from) {
    for (int64_t i = 0; i < from->count; i++) CN_TRY(cn_paths_put(p, from->path[i]));
    return CN_OK;
}

static int64_t find(const cn_paths *p, const char *path) {
    for (int64_t i = 0; i < p->count; i++)
        if (strcmp(p->path[i], path) == 0) return i;
    return -1;
}

bool cn_paths_has(const cn_paths *p, const char *path) {
    return find(p, path) >= 0;
}

bool cn_paths_remove(cn_paths *p, const char *path) {
    const int64_t at = find(p, path);
    if (at < 0) return false;
    free(p->path[at]);
    p->count--;
    memmove(&p->path[at], &p->path[at + 1], (size_t)(p->count - at) * sizeof(*p->path));
    return true;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void cn_paths_sort(cn_paths *p) {
    if (p->count) qsort(p->path, (size_t)p->count, sizeof(*p->path), by_text);
}

bool cn_paths_sorted_has(const cn_paths *p, const char *path) {
    return p->count && bsearch(&path, p->path, (size_t)p->count, sizeof(*p->path), by_text);
}

/*
 * paths.h - A list of paths that owns them.
 *
 * Layer: sessions -> base.
 */
#ifndef CN_SESSIONS_PATHS_H
#define CN_SESSIONS_PATHS_H

#include "base/err.h"

CN_C_BEGIN

/* A zeroed one is empty. */
typedef struct cn_paths {
    char  **path; // [count]
    int64_t count, room;
} cn_paths;

void cn_paths_release(cn_paths *p); // frees and zeroes
/* Append a copy.  CN_ENOMEM: the list is as before. */
cn_err cn_paths_put(cn_paths *p, const char *path) CN_MUST_CHECK;
/* Append copies of all of `from`.  CN_ENOMEM: some may have been appended. */
cn_err cn_paths_put_all(cn_paths *p, const cn_paths *from) CN_MUST_CHECK;
bool   cn_paths_has(const cn_paths *p, const char *path); // time: linear
/* Take a path out; whether it was in. */
bool cn_paths_remove(cn_paths *p, const char *path);

void cn_paths_sort(cn_paths *p);                               // byte by byte
bool cn_paths_sorted_has(const cn_paths *p, const char *path); // of a sorted list; logarithmic

CN_C_END

#endif

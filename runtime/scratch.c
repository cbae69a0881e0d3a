/* scratch.c - Make a folder aside; remove it whole. */
#include "runtime/scratch.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

enum { OPEN_FOLDERS = 16 };

static const char *find_parent(void) {
    struct statvfs room;
    const char    *named = getenv("TMPDIR");
    if (named && *named) return named;
    if (statvfs("/dev/shm", &room) == 0 &&
        (int64_t)room.f_bavail * (int64_t)room.f_frsize >= CN_SCRATCH_MEMORY_BYTES)
        return "/dev/shm";
    return "/tmp";
}

cn_err cn_scratch_make(char path_out[CN_SCRATCH_PATH_BYTES], const char *parent, cn_diag *diag) {
    if (!parent) parent = find_parent();
    const int bytes = snprintf(path_out, CN_SCRATCH_PATH_BYTES, "%s/cairn-XXXXXX", parent);
    cn_err    err = CN_OK;
    if (bytes >= CN_SCRATCH_PATH_BYTES)
        err = CN_FAIL(diag, CN_ETOOBIG, "a scratch folder's path of %d bytes, limit %d", bytes,
                      (int)CN_SCRATCH_PATH_BYTES - 1);
    else if (!mkdtemp(path_out))
        err = CN_FAIL(diag, CN_EIO, "make a scratch folder in %s: %s", parent, strerror(errno));
    if (err) path_out[0] = 0;
    return err;
}

cn_err cn_scratch_write(const char *folder, const char *path, const void *data, size_t bytes,
                        cn_diag *diag) {
    char      whole[CN_FOLDER_BYTES_MAX + 1];
    const int length = snprintf(whole, sizeof(whole), "%s/%s", folder, path);
    if (length >= (int)sizeof(whole))
        return CN_FAIL(diag, CN_ETOOBIG, "a scratch file's path of %d bytes, limit %d", length,
                       (int)CN_FOLDER_BYTES_MAX);
    char *slash = strrchr(whole, '/');
    *slash = 0;
    CN_TRY(cn_folder_make(whole, diag));
    *slash = '/';
    FILE      *f = fopen(whole, "wb");
    const bool is_short = !f || fwrite(data, 1, bytes, f) != bytes;
    if ((f && fclose(f)) || is_short)
        return CN_FAIL(diag, CN_EIO, "write %s: %s", whole, strerror(errno));
    return CN_OK;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)st, (void)type, (void)at;
    if (remove(path)) cn_log(CN_LOG_WARN, "remove %s: %s", path, strerror(errno));
    return 0;
}

void cn_scratch_remove(const char *path) {
    if (path[0]) nftw(path, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS);
}

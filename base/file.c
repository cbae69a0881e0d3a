/* file.c - open, fstat, then read or mmap; each of the four can be made to fail.  Folders. */
#include "base/file.h"
#include "base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Open a regular file of at most bytes_max bytes.  *fd_out is -1 unless CN_OK. */
static cn_err open_regular(int *fd_out, size_t *bytes_out, const char *path, size_t bytes_max,
                           cn_diag *diag) {
    struct stat st;
    cn_err      err = CN_OK;

    *fd_out = -1;
    *bytes_out = 0;
    // Non-blocking, or a pipe without a writer would hold us here; a regular file ignores it.
    const int fd = CN_FAULT("base.file.open")
                       ? (errno = EMFILE, -1)
                       : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return CN_FAIL(diag, CN_ENOTFOUND, "%s: no such file", path);
        if (errno == ENXIO) return CN_FAIL(diag, CN_EINVAL, "%s: not a regular file", path);
        return CN_FAIL(diag, CN_EIO, "open %s: %s", path, strerror(errno));
    }
    if (CN_FAULT("base.file.stat") ? (errno = EIO, -1) : fstat(fd, &st))
        err = CN_FAIL(diag, CN_EIO, "stat %s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        err = CN_FAIL(diag, CN_EINVAL, "%s: not a regular file", path);
    else if ((uint64_t)st.st_size > bytes_max)
        err = CN_FAIL(diag, CN_ETOOBIG, "%s: %lld bytes, limit %zu", path, (long long)st.st_size,
                      bytes_max);
    if (err) {
        close(fd);
        return err;
    }
    *fd_out = fd;
    *bytes_out = (size_t)st.st_size;
    return CN_OK;
}

/* Up to `bytes` bytes; fewer only at the end of the file; -1 with errno. */
static ssize_t read_some(int fd, void *to, size_t bytes) {
    size_t got = 0;
    while (got < bytes) {
        const ssize_t n = CN_FAULT("base.file.read") ? (errno = EIO, -1)
                                                     : read(fd, (char *)to + got, bytes - got);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        if (n == 0) break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

/* The rest of `fd` to the end of `buf`.  What was read stays there on failure. */
static cn_err append_all(cn_buf *buf, int fd, size_t bytes_expected, size_t bytes_max) {
    char *to = cn_buf_grow(buf, bytes_expected);
    if (!to) return buf->err;
    ssize_t got = read_some(fd, to, bytes_expected);
    if (got < 0) return CN_EIO;
    buf->bytes -= bytes_expected - (size_t)got; // the file was cut since
    buf->data[buf->bytes] = 0;

    // It may also have grown; and the files of /proc say that they are empty.
    for (size_t bytes = (size_t)got;;) {
        char more[4096];
        got = read_some(fd, more, sizeof(more));
        if (got < 0) return CN_EIO;
        if (got == 0) return CN_OK;
        bytes += (size_t)got;
        if (bytes > bytes_max) return CN_ETOOBIG;
        cn_buf_put(buf, more, (size_t)got);
        CN_TRY(buf->err);
    }
}

cn_err cn_file_read(cn_buf *buf, const char *path, size_t bytes_max, cn_diag *diag) {
    const size_t before = buf->bytes;
    size_t       bytes;
    int          fd;

    if (buf->err) return CN_FAIL(diag, buf->err, "%s: its buffer has failed before", path);
    CN_TRY(open_regular(&fd, &bytes, path, bytes_max, diag));
    const cn_err err = append_all(buf, fd, bytes, bytes_max);
    const int    cause = errno;
    close(fd);
    if (!err) return CN_OK;

    buf->err = CN_OK;
    buf->bytes = before;
    if (buf->data) buf->data[before] = 0;
    if (err == CN_EIO) return CN_FAIL(diag, err, "read %s: %s", path, strerror(cause));
    if (err == CN_ENOMEM) return CN_FAIL(diag, err, "%s: no memory for %zu bytes", path, bytes);
    return CN_FAIL(diag, err, "%s: over %zu bytes, or over the %zu of its buffer", path, bytes_max,
                   buf->bytes_max ? buf->bytes_max : CN_BUF_BYTES_MAX);
}

cn_err cn_file_map_open(cn_file_map *out, const char *path, size_t bytes_max, cn_diag *diag) {
    size_t bytes;
    int    fd;

    *out = (cn_file_map){0};
    CN_TRY(open_regular(&fd, &bytes, path, bytes_max, diag));
    void *data = NULL;
    if (bytes > 0) // a map of nothing is an error to mmap
        data = CN_FAULT("base.file.map") ? (errno = ENOMEM, MAP_FAILED)
                                         : mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    const int cause = errno;
    close(fd);
    if (data == MAP_FAILED)
        return CN_FAIL(diag, cause == ENOMEM ? CN_ENOMEM : CN_EIO, "map %s, %zu bytes: %s", path,
                       bytes, strerror(cause));
    *out = (cn_file_map){data, bytes};
    return CN_OK;
}

void cn_file_map_close(cn_file_map *map) {
    if (map->data) munmap((void *)map->data, map->bytes);
    *map = (cn_file_map){0};
}

cn_err cn_folder_make(const char *path, cn_diag *diag) {
    char         part[CN_FOLDER_BYTES_MAX + 1];
    const size_t bytes = strlen(path);
    if (bytes > CN_FOLDER_BYTES_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "a folder's path of %zu bytes, limit %d", bytes,
                       (int)CN_FOLDER_BYTES_MAX);
    memcpy(part, path, bytes + 1);
    for (size_t i = 1; i <= bytes; i++) {
        if (part[i] != '/' && part[i] != 0) continue;
        const char was = part[i];
        part[i] = 0;
        if (mkdir(part, 0700) && errno != EEXIST)
            return CN_FAIL(diag, CN_EIO, "make folder %s: %s", part, strerror(errno));
        part[i] = was;
    }
    return CN_OK;
}

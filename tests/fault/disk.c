/*
 * disk.c - A library to preload: it writes down, in order, all that a process does to the files
 * below a folder, and lets the process die at one of these calls.  See disk_log.h.
 *
 * What is written through a shared memory map is not seen: SQLite's -shm and LMDB's lock file,
 * which both make anew after a power loss.
 */
#include "tests/fault/disk_log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char            root[DISK_NAME_BYTES];
static size_t          root_bytes;
static int             log_fd = -1;
static long            calls, die_at;
static bool            die_half;

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("CN_DISK_ROOT"), *file = getenv("CN_DISK_LOG"),
               *die = getenv("CN_DISK_DIE");
    if (!folder || strlen(folder) >= sizeof(root)) return;
    strcpy(root, folder);
    root_bytes = strlen(root);
    if (file)
        log_fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
                              0600);
    if (die) {
        char *end;
        die_at = strtol(die, &end, 10);
        die_half = strcmp(end, " half") == 0;
    }
}

/* ---- Names ------------------------------------------------------------------------- */

/* The part of `path` below the root, "" for the root itself; NULL if it is elsewhere. */
static const char *below(const char *path) {
    if (root_bytes == 0 || strncmp(path, root, root_bytes) != 0) return NULL;
    if (path[root_bytes] == 0) return path + root_bytes;
    return path[root_bytes] == '/' ? path + root_bytes + 1 : NULL;
}

static const char *name_of(int fd, char buf[DISK_NAME_BYTES]) {
    char link[64];
    if (root_bytes == 0) return NULL;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    const ssize_t bytes = readlink(link, buf, DISK_NAME_BYTES - 1);
    if (bytes < 0) return NULL;
    buf[bytes] = 0;
    return below(buf);
}

/* The real path of `path` in `folder` (AT_FDCWD: here), whose last part need not exist; below. */
static const char *name_at(int folder, const char *path, char buf[DISK_NAME_BYTES]) {
    char        whole[2 * DISK_NAME_BYTES], parent[DISK_NAME_BYTES];
    const char *last = strrchr(path, '/');
    if (root_bytes == 0 || strlen(path) >= DISK_NAME_BYTES) return NULL;
    if (folder != AT_FDCWD && path[0] != '/') {
        snprintf(whole, sizeof(whole), "/proc/self/fd/%d", folder);
        const ssize_t bytes = readlink(whole, parent, sizeof(parent) - 1);
        if (bytes < 0) return NULL;
        parent[bytes] = 0;
    } else {
        snprintf(whole, sizeof(whole), "%.*s", last ? (int)(last - path) + (last == path) : 1,
                 last ? path : ".");
        if (!realpath(whole, parent)) return NULL;
    }
    snprintf(whole, sizeof(whole), "%s/%s", parent, last ? last + 1 : path);
    if (strlen(whole) >= DISK_NAME_BYTES) return NULL;
    strcpy(buf, whole);
    return below(buf);
}

static uint64_t file_of(int fd) {
    struct stat st;
    return fstat(fd, &st) ? 0 : (uint64_t)st.st_ino;
}

static uint64_t file_at(int folder, const char *path) {
    struct stat st;
    return fstatat(folder, path, &st, AT_SYMLINK_NOFOLLOW) ? 0 : (uint64_t)st.st_ino;
}

/* ---- Writing down, and dying --------------------------------------------------------- */

static void put(disk_kind kind, uint64_t file, bool is_through, uint64_t offset, const char *name,
                const void *data, size_t data_bytes) {
    disk_record  r = {.kind = kind,
                      .is_through = is_through,
                      .file = file,
                      .offset = offset,
                      .name_bytes = (uint32_t)strlen(name),
                      .data_bytes = (uint32_t)data_bytes};
    struct iovec part[3] = {
        {&r, sizeof(r)}, {(void *)name, r.name_bytes}, {(void *)data, data_bytes}};
    if (log_fd < 0) return;
    const long want = (long)(sizeof(r) + r.name_bytes + data_bytes);
    if (syscall(SYS_writev, log_fd, part, 3) != want) abort();
}

static void say_death(const char *call, const char *name) {
    const char *file = getenv("CN_DISK_DEATH");
    char        line[DISK_NAME_BYTES + 64];
    if (!file) return;
    const int bytes = snprintf(line, sizeof(line), "%s %s\n", call, name);
    const int fd =
        (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0 && syscall(SYS_write, fd, line, bytes) != bytes) abort();
}

/* Count a call; whether this is the one that the process dies in. */
static bool is_last(const char *call, const char *name) {
    if (++calls != die_at) return false;
    say_death(call, name);
    return true;
}

static void die(void) {
    raise(SIGKILL);
}

/* ---- The calls ----------------------------------------------------------------------- */

static int open_any(int folder, const char *path, int flags, mode_t mode) {
    char        buf[DISK_NAME_BYTES];
    struct stat st;
    const char *name = flags & (O_CREAT | O_TRUNC) ? name_at(folder, path, buf) : NULL;
    if (!name) return (int)syscall(SYS_openat, folder, path, flags, mode);
    pthread_mutex_lock(&lock);
    const bool exists = fstatat(folder, path, &st, 0) == 0;
    const bool is_new = !exists && (flags & O_CREAT),
               is_cut = exists && (flags & O_TRUNC) && st.st_size > 0;
    if ((is_new || is_cut) && is_last("open", name)) die();
    const int fd = (int)syscall(SYS_openat, folder, path, flags, mode), cause = errno;
    if (fd >= 0 && is_new) put(DISK_CREATE, file_of(fd), false, 0, name, NULL, 0);
    if (fd >= 0 && is_cut) put(DISK_CUT, file_of(fd), false, 0, name, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = cause;
    return fd;
}

#define MODE_OF(flags, mode)                                                                       \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                         \
        va_list args;                                                                              \
        va_start(args, flags);                                                                     \
        mode = va_arg(args, mode_t);                                                               \
        va_end(args);                                                                              \
    }

int open(const char *path, int flags, ...) {
    MODE_OF(flags, mode)
    return open_any(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE_OF(flags, mode)
    return open_any(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    MODE_OF(flags, mode)
    return open_any(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE_OF(flags, mode)
    return open_any(folder, path, flags, mode);
}

/* `offset` < 0: where the descriptor stands. */
static ssize_t write_any(int fd, const void *from, size_t bytes, off_t offset, const char *call) {
    char        buf[DISK_NAME_BYTES];
    const char *name = fd == STDOUT_FILENO ? "" : name_of(fd, buf);
    if (!name || root_bytes == 0)
        return offset < 0 ? syscall(SYS_write, fd, from, bytes)
                          : syscall(SYS_pwrite64, fd, from, bytes, offset);
    if (fd == STDOUT_FILENO) { // on record before the world has it
        put(DISK_TOLD, 0, false, 0, "", from, bytes);
        return syscall(SYS_write, fd, from, bytes);
    }
    pthread_mutex_lock(&lock);
    const int   flags = fcntl(fd, F_GETFL);
    const off_t at = offset >= 0        ? offset
                     : flags & O_APPEND ? lseek(fd, 0, SEEK_END)
                                        : lseek(fd, 0, SEEK_CUR);
    const bool  is_death = is_last(call, name);
    if (is_death && !die_half) die();
    const size_t  some = is_death ? bytes / 2 : bytes;
    const ssize_t n = offset < 0 ? syscall(SYS_write, fd, from, some)
                                 : syscall(SYS_pwrite64, fd, from, some, offset);
    const int     cause = errno;
    if (n > 0)
        put(DISK_WRITE, file_of(fd), flags & (O_SYNC | O_DSYNC), (uint64_t)at, name, from,
            (size_t)n);
    if (is_death) die();
    pthread_mutex_unlock(&lock);
    errno = cause;
    return n;
}

ssize_t write(int fd, const void *from, size_t bytes) {
    return write_any(fd, from, bytes, -1, "write");
}

ssize_t pwrite(int fd, const void *from, size_t bytes, off_t offset) {
    return write_any(fd, from, bytes, offset, "pwrite");
}

ssize_t pwrite64(int fd, const void *from, size_t bytes, off64_t offset) {
    return write_any(fd, from, bytes, offset, "pwrite");
}

/* Vectors below the root become single writes, one after the other. */
static ssize_t writev_any(int fd, const struct iovec *part, int parts, off_t offset) {
    char    buf[DISK_NAME_BYTES];
    ssize_t sum = 0;
    if (!name_of(fd, buf))
        return offset < 0 ? syscall(SYS_writev, fd, part, parts)
                          : syscall(SYS_pwritev, fd, part, parts, offset, 0);
    for (int i = 0; i < parts; i++) {
        const ssize_t n = write_any(fd, part[i].iov_base, part[i].iov_len,
                                    offset < 0 ? offset : offset + sum, "pwritev");
        if (n < 0) return sum ? sum : n;
        sum += n;
        if ((size_t)n < part[i].iov_len) break;
    }
    return sum;
}

ssize_t writev(int fd, const struct iovec *part, int parts) {
    return writev_any(fd, part, parts, -1);
}

ssize_t pwritev(int fd, const struct iovec *part, int parts, off_t offset) {
    return writev_any(fd, part, parts, offset);
}

ssize_t pwritev64(int fd, const struct iovec *part, int parts, off64_t offset) {
    return writev_any(fd, part, parts, offset);
}

static int sync_any(int fd, long number, const char *call) {
    char        buf[DISK_NAME_BYTES];
    const char *name = name_of(fd, buf);
    if (!name) return (int)syscall(number, fd);
    pthread_mutex_lock(&lock);
    if (is_last(call, name)) die();
    const int rc = (int)syscall(number, fd), cause = errno;
    if (rc == 0) put(DISK_SYNC, file_of(fd), false, 0, name, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = cause;
    return rc;
}

int fsync(int fd) {
    return sync_any(fd, SYS_fsync, "fsync");
}

int fdatasync(int fd) {
    return sync_any(fd, SYS_fdatasync, "fdatasync");
}

static int cut_any(int fd, off_t bytes) {
    char        buf[DISK_NAME_BYTES];
    const char *name = name_of(fd, buf);
    if (!name) return (int)syscall(SYS_ftruncate, fd, bytes);
    pthread_mutex_lock(&lock);
    if (is_last("ftruncate", name)) die();
    const int rc = (int)syscall(SYS_ftruncate, fd, bytes), cause = errno;
    if (rc == 0) put(DISK_CUT, file_of(fd), false, (uint64_t)bytes, name, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = cause;
    return rc;
}

int ftruncate(int fd, off_t bytes) {
    return cut_any(fd, bytes);
}

int ftruncate64(int fd, off64_t bytes) {
    return cut_any(fd, bytes);
}

int mkdir(const char *path, mode_t mode) {
    char        buf[DISK_NAME_BYTES];
    const char *name = name_at(AT_FDCWD, path, buf);
    if (!name || file_at(AT_FDCWD, path)) return (int)syscall(SYS_mkdir, path, mode);
    pthread_mutex_lock(&lock);
    if (is_last("mkdir", name)) die();
    const int rc = (int)syscall(SYS_mkdir, path, mode), cause = errno;
    if (rc == 0) put(DISK_FOLDER, file_at(AT_FDCWD, path), false, 0, name, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = cause;
    return rc;
}

/* A name is taken away; of a file or an empty folder. */
static int unlink_any(int folder, const char *path, int flags) {
    char        buf[DISK_NAME_BYTES];
    const char *name = name_at(folder, path, buf);
    if (!name || !file_at(folder, path)) return (int)syscall(SYS_unlinkat, folder, path, flags);
    pthread_mutex_lock(&lock);
    if (is_last("unlink", name)) die();
    const int rc = (int)syscall(SYS_unlinkat, folder, path, flags), cause = errno;
    if (rc == 0) put(DISK_UNLINK, 0, false, 0, name, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = cause;
    return rc;
}

int unlink(const char *path) {
    return unlink_any(AT_FDCWD, path, 0);
}

int unlinkat(int folder, const char *path, int flags) {
    return unlink_any(folder, path, flags);
}

int rmdir(const char *path) {
    return unlink_any(AT_FDCWD, path, AT_REMOVEDIR);
}

static int name_again(const char *from, const char *to, bool is_rename) {
    char        from_buf[DISK_NAME_BYTES], to_buf[DISK_NAME_BYTES];
    const char *old = name_at(AT_FDCWD, from, from_buf), *new = name_at(AT_FDCWD, to, to_buf);
    const long  number = is_rename ? SYS_rename : SYS_link;
    if (!old || !new) return (int)syscall(number, from, to);
    pthread_mutex_lock(&lock);
    if (is_last(is_rename ? "rename" : "link", new)) die();
    const uint64_t file = file_at(AT_FDCWD, from);
    const int      rc = (int)syscall(number, from, to), cause = errno;
    if (rc == 0 && is_rename) put(DISK_RENAME, file, false, 0, old, new, strlen(new));
    if (rc == 0 && !is_rename) put(DISK_LINK, file, false, 0, new, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = cause;
    return rc;
}

int rename(const char *from, const char *to) {
    return name_again(from, to, true);
}

int link(const char *from, const char *to) {
    return name_again(from, to, false);
}

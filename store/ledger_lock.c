/*
 * ledger_lock.c - Locks that die with their process: eight bytes each of one file.
 *
 * Slot n is bytes 8 n .. 8 n + 7 of ledger.lock, locked as an open file description (so
 * that two locks of one process exclude each other too, and closing some other descriptor
 * loses nothing).  The bytes hold the owner's process id, for the message that the second
 * one gets.  The file is sparse and never shrinks: there is no name to unlink in a race.
 */
#include "base/clock.h"
#include "base/fault.h"
#include "store/ledger_int.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SLOT_BYTES = 8, POLL_MS = 2 };

static struct flock slot_lock(short type, int64_t slot) {
    return (struct flock){
        .l_type = type, .l_whence = SEEK_SET, .l_start = slot * SLOT_BYTES, .l_len = SLOT_BYTES};
}

cn_err cn_ledger_lock(int *fd_out, const char *lock_path, int64_t slot, int32_t wait_ms,
                      int64_t *pid_out, cn_diag *diag) {
    int64_t pid = 0;

    *fd_out = -1;
    if (pid_out) *pid_out = 0;
    const int fd = CN_FAULT("store.ledger.lock_open")
                       ? (errno = EMFILE, -1)
                       : open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return CN_FAIL(diag, CN_EIO, "open %s: %s", lock_path, strerror(errno));

    struct flock  lock = slot_lock(F_WRLCK, slot);
    const int64_t end_ns = cn_clock_ns() + wait_ms * INT64_C(1000000);
    while (CN_FAULT("store.ledger.lock") ? (errno = ENOLCK, -1) : fcntl(fd, F_OFD_SETLK, &lock)) {
        const int cause = errno;
        if (cause == EINTR) continue;
        if (cause != EAGAIN && cause != EACCES) {
            close(fd);
            return CN_FAIL(diag, CN_EIO, "lock %s: %s", lock_path, strerror(cause));
        }
        if (cn_clock_ns() >= end_ns) {
            if (pread(fd, &pid, sizeof(pid), slot * SLOT_BYTES) != sizeof(pid)) pid = 0;
            close(fd);
            if (pid_out) *pid_out = pid;
            return CN_FAIL(diag, CN_EBUSY, "%s: held by process %" PRId64, lock_path, pid);
        }
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000}, NULL);
    }
    pid = getpid();
    const ssize_t written = CN_FAULT("store.ledger.lock_write")
                                ? (errno = ENOSPC, -1)
                                : pwrite(fd, &pid, sizeof(pid), slot * SLOT_BYTES);
    if (written != sizeof(pid)) {
        const int cause = errno;
        close(fd);
        return CN_FAIL(diag, CN_EIO, "write %s: %s", lock_path, strerror(cause));
    }
    *fd_out = fd;
    return CN_OK;
}

cn_err cn_ledger_lock_look(const char *lock_path, int64_t slot, bool *held_out, int64_t *pid_out,
                           cn_diag *diag) {
    *held_out = false;
    *pid_out = 0;
    const int fd = CN_FAULT("store.ledger.lock_open")
                       ? (errno = EMFILE, -1)
                       : open(lock_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return CN_FAIL(diag, CN_EIO, "open %s: %s", lock_path, strerror(errno));
    struct flock lock = slot_lock(F_WRLCK, slot);
    const int    rc =
        CN_FAULT("store.ledger.lock") ? (errno = ENOLCK, -1) : fcntl(fd, F_OFD_GETLK, &lock);
    const int cause = errno;
    *held_out = rc == 0 && lock.l_type != F_UNLCK;
    if (*held_out && pread(fd, pid_out, sizeof(*pid_out), slot * SLOT_BYTES) != sizeof(*pid_out))
        *pid_out = 0;
    close(fd);
    return rc ? CN_FAIL(diag, CN_EIO, "look at a lock of %s: %s", lock_path, strerror(cause))
              : CN_OK;
}

void cn_ledger_unlock(int fd, int64_t slot) {
    if (fd < 0) return;
    // Closing is not enough: a child forked a moment ago may hold the description still.
    struct flock lock = slot_lock(F_UNLCK, slot);
    (void)fcntl(fd, F_OFD_SETLK, &lock);
    close(fd);
}

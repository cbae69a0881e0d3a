/* process.c - posix_spawn, two pipes, poll; then kill what is left and wait. */
#include "tools/process.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READ_BYTES = 64 << 10, WAKE_MS = 50 };

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static cn_err spawn(pid_t *pid_out, const cn_process_args *args, const int out_fd, const int err_fd,
                    cn_diag *diag) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t          attr;
    sigset_t                   none, all;
    int                        rc = ENOMEM;

    if (posix_spawn_file_actions_init(&files)) goto out;
    if (posix_spawnattr_init(&attr)) goto out_files;
    sigemptyset(&none);
    sigfillset(&all);
    if ((rc = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0)) ||
        (rc = posix_spawn_file_actions_adddup2(&files, out_fd, 1)) ||
        (rc = posix_spawn_file_actions_adddup2(&files, err_fd, 2)) ||
        (rc = posix_spawn_file_actions_addclosefrom_np(&files, 3)) ||
        (rc = posix_spawn_file_actions_addchdir_np(&files, args->folder)) ||
        (rc = posix_spawnattr_setsigmask(&attr, &none)) ||
        (rc = posix_spawnattr_setsigdefault(&attr, &all)) ||
        (rc = posix_spawnattr_setpgroup(&attr, 0)) ||
        (rc = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                  POSIX_SPAWN_SETPGROUP)))
        goto out_attr;
    rc = CN_FAULT("tools.process.spawn") ? EAGAIN
                                         : posix_spawnp(pid_out, args->argv[0], &files, &attr,
                                                        (char *const *)(uintptr_t)args->argv,
                                                        (char *const *)(uintptr_t)args->env);
out_attr:
    posix_spawnattr_destroy(&attr);
out_files:
    posix_spawn_file_actions_destroy(&files);
out:
    if (!rc) return CN_OK;
    return CN_FAIL(diag, rc == ENOENT || rc == ENOTDIR ? CN_ENOTFOUND : CN_EIO, "%s: %s",
                   args->argv[0], strerror(rc));
}

/* Read both pipes to their ends. */
static cn_err collect(const cn_process_args *args, int fds[2], cn_buf *bufs[2], int64_t until_ns,
                      cn_diag *diag) {
    while (fds[0] >= 0 || fds[1] >= 0) {
        struct pollfd polls[2] = {{fds[0], POLLIN, 0}, {fds[1], POLLIN, 0}};
        if (args->cancel && atomic_load(args->cancel))
            return CN_FAIL(diag, CN_ECANCELLED, "%s: cancelled", args->argv[0]);
        if (cn_clock_ns() > until_ns)
            return CN_FAIL(diag, CN_EBUSY, "%s: no end within %lld ms", args->argv[0],
                           (long long)args->ms_max);
        if (poll(polls, 2, WAKE_MS) < 0 && errno != EINTR)
            return CN_FAIL(diag, CN_EIO, "%s: poll: %s", args->argv[0], strerror(errno));
        for (int i = 0; i < 2; i++) {
            char          chunk[READ_BYTES];
            const ssize_t n = !polls[i].revents                ? -1
                              : CN_FAULT("tools.process.read") ? (errno = EIO, -1)
                                                               : read(fds[i], chunk, sizeof(chunk));
            if (!polls[i].revents || (n < 0 && errno == EINTR)) continue;
            if (n < 0) return CN_FAIL(diag, CN_EIO, "%s: read: %s", args->argv[0], strerror(errno));
            if (n == 0) close_fd(&fds[i]);
            const size_t room = bufs[i]->bytes_max - bufs[i]->bytes;
            if (i == 1 && (size_t)n > room) // of the messages the begin is enough
                cn_buf_put(bufs[i], chunk, room);
            else
                cn_buf_put(bufs[i], chunk, (size_t)n);
            if (bufs[i]->err == CN_ETOOBIG)
                return CN_FAIL(diag, CN_ETOOBIG, "%s: more than %zu bytes", args->argv[0],
                               args->out_bytes_max);
            if (bufs[i]->err)
                return CN_FAIL(diag, bufs[i]->err, "%s: no memory for what it prints",
                               args->argv[0]);
        }
    }
    return CN_OK;
}

/* Wait for the child; killed at `until_ns`, or at once after an error. */
static cn_err wait_for(pid_t pid, const cn_process_args *args, int64_t until_ns, int *status_out,
                       cn_err err, cn_diag *diag) {
    for (bool is_killed = false;;) {
        if (!is_killed && (err || cn_clock_ns() > until_ns)) {
            if (!err)
                err = CN_FAIL(diag, CN_EBUSY, "%s: no end within %lld ms", args->argv[0],
                              (long long)args->ms_max);
            kill(-pid, SIGKILL);
            is_killed = true;
        }
        const pid_t got = waitpid(pid, status_out, is_killed ? 0 : WNOHANG);
        if (got == pid) break;
        if (got < 0 && errno != EINTR)
            return err ? err
                       : CN_FAIL(diag, CN_EIO, "%s: wait: %s", args->argv[0], strerror(errno));
        if (got == 0) poll(NULL, 0, 1);
    }
    return err;
}

cn_err cn_process_run(const cn_process_args *args, cn_buf *out, cn_process_end *end_out,
                      cn_diag *diag) {
    int           out_pipe[2] = {-1, -1}, err_pipe[2] = {-1, -1}, status = 0;
    cn_buf        text = {.bytes_max = args->out_bytes_max ? args->out_bytes_max : 1};
    cn_buf        error_text = {.bytes_max = sizeof(end_out->error_text) - 1};
    const int64_t until_ns = cn_clock_ns() + args->ms_max * 1000000;
    cn_err        err = CN_OK;
    pid_t         pid;

    *end_out = (cn_process_end){0};
    if (CN_FAULT("tools.process.pipe") ? (errno = EMFILE, -1)
                                       : pipe2(out_pipe, O_CLOEXEC) || pipe2(err_pipe, O_CLOEXEC)) {
        err = CN_FAIL(diag, CN_EIO, "pipe: %s", strerror(errno));
        goto out;
    }
    err = spawn(&pid, args, out_pipe[1], err_pipe[1], diag);
    if (err) goto out;
    close_fd(&out_pipe[1]);
    close_fd(&err_pipe[1]);
    int     fds[2] = {out_pipe[0], err_pipe[0]};
    cn_buf *bufs[2] = {&text, &error_text};
    err = collect(args, fds, bufs, until_ns, diag);
    out_pipe[0] = fds[0];
    err_pipe[0] = fds[1];
    err = wait_for(pid, args, until_ns, &status, err, diag);
    if (err) goto out;

    end_out->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    const size_t bytes = cn_utf8_cut(cn_buf_str(&error_text), error_text.bytes);
    for (size_t i = 0; i < bytes; i++)
        end_out->error_text[i] = (uint8_t)error_text.data[i] < ' ' ? ' ' : error_text.data[i];
    const cn_err before = out->err;
    cn_buf_put(out, cn_buf_str(&text), text.bytes);
    err = out->err;
    out->err = before;
    if (err) CN_FAIL(diag, err, "%s: no room for %zu bytes", args->argv[0], text.bytes);
out:
    for (int i = 0; i < 2; i++) {
        close_fd(&out_pipe[i]);
        close_fd(&err_pipe[i]);
    }
    cn_buf_release(&text);
    cn_buf_release(&error_text);
    return err;
}

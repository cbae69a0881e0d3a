/* signals.c - Handlers set flags and write a byte into a pipe, which whoever waits for input
 * watches too: none is lost before the sleep, whichever thread ran the handler. */
#include "runtime/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

static atomic_bool is_cancelled, is_leaving, is_resized;
static atomic_int  left_by; // the signal
static int         wake[2] = {-1, -1};

static void wake_up(void) {
    const int     before = errno;
    const ssize_t n = write(wake[1], "", 1); // a full pipe wakes as well
    (void)n;
    errno = before;
}

static void on_interrupt(int number) {
    (void)number;
    atomic_store(&is_cancelled, true);
    wake_up();
}

static void on_leave(int number) {
    atomic_store(&left_by, number);
    atomic_store(&is_leaving, true);
    atomic_store(&is_cancelled, true);
    wake_up();
}

static void on_resize(int number) {
    (void)number;
    atomic_store(&is_resized, true);
    wake_up();
}

/* A write to a closed pipe fails with EPIPE; ignoring the signal would be inherited. */
static void on_pipe(int number) {
    (void)number;
}

void cn_signals_catch(bool once) {
    const struct {
        int number;
        void (*handler)(int);
        int flags;
    } all[] = {{SIGINT, on_interrupt, once ? SA_RESETHAND : 0},
               {SIGTERM, on_leave, SA_RESETHAND},
               {SIGHUP, on_leave, SA_RESETHAND},
               {SIGWINCH, on_resize, 0},
               {SIGPIPE, on_pipe, 0}};
    // Without descriptors left there is no pipe, and poll passes over -1.
    if (wake[0] < 0 && pipe2(wake, O_CLOEXEC | O_NONBLOCK) != 0) wake[0] = wake[1] = -1;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct sigaction action = {.sa_handler = all[i].handler,
                                   .sa_flags = SA_RESTART | all[i].flags};
        sigemptyset(&action.sa_mask);
        sigaction(all[i].number, &action, NULL);
    }
}

const atomic_bool *cn_signals_cancel(void) {
    return &is_cancelled;
}

bool cn_signals_is_leaving(void) {
    return atomic_load(&is_leaving);
}

void cn_signals_rearm(void) {
    atomic_store(&is_cancelled, atomic_load(&is_leaving));
}

void cn_signals_lost_stdout(void) {
    on_leave(SIGPIPE);
}

bool cn_signals_was_resized(void) {
    return atomic_exchange(&is_resized, false);
}

bool cn_signals_wait_input(int fd) {
    struct pollfd p[] = {{.fd = wake[0], .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    char          byte[64];
    if (poll(p, 2, -1) <= 0) return false;
    if (!p[0].revents) return true;
    while (read(wake[0], byte, sizeof(byte)) > 0) {
    }
    return false;
}

int cn_signals_leave(int status) {
    const int number = atomic_load(&left_by);
    if (!number) return status;
    signal(number, SIG_DFL);
    raise(number);
    return status; // blocked by whoever started us
}

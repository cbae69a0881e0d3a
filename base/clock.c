/* clock.c - clock_gettime in nanoseconds. */
#include "base/clock.h"

#include <time.h>

static int64_t now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t); // fails only for a clock that does not exist
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t cn_clock_ns(void) {
    return now_ns(CLOCK_MONOTONIC);
}

int64_t cn_clock_unix_ns(void) {
    return now_ns(CLOCK_REALTIME);
}

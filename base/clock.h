/* clock.h - Nanoseconds.  Durations come from the monotonic clock, dates from the other.
 *
 * Layer: base. */
#ifndef CN_BASE_CLOCK_H
#define CN_BASE_CLOCK_H

#include <stdint.h>

int64_t cn_clock_ns(void);      // monotonic; only differences mean something
int64_t cn_clock_unix_ns(void); // since 1970, UTC

#endif

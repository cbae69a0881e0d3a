/*
 * log.h - Lines for the operator, on one sink.
 *
 * Nothing below runtime/ writes to stdout or stderr: it logs, and runtime/ decides
 * where that goes.  Without a sink lines are dropped.
 *
 * A line is one line: control characters in it become spaces.
 *
 * Threads: any.  A line is delivered whole; the sink is called under a lock, so it must
 * not log.
 *
 * Layer: base.
 */
#ifndef CN_BASE_LOG_H
#define CN_BASE_LOG_H

#include "base/err.h"

CN_C_BEGIN

typedef enum { CN_LOG_ERROR, CN_LOG_WARN, CN_LOG_INFO, CN_LOG_DEBUG } cn_log_level;

enum { CN_LOG_LINE_BYTES = 1024 }; // with the NUL; longer lines are cut at a character

typedef void (*cn_log_fn)(void *ctx, cn_log_level level, const char *line);

/* Lines up to `level` go to `fn`; NULL turns logging off. */
void cn_log_set_sink(cn_log_fn fn, void *ctx, cn_log_level level);
bool cn_log_is_on(cn_log_level level);
void cn_log(cn_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "error", "warn", "info", "debug". */
const char *cn_log_level_name(cn_log_level level);

CN_C_END

#endif

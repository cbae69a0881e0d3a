/* log.c - One sink behind one lock. */
#include "base/log.h"
#include "base/utf8.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; // guards sink and sink_ctx
static cn_log_fn       sink;
static void           *sink_ctx;
static atomic_int      level_max = -1; // -1: no sink

void cn_log_set_sink(cn_log_fn fn, void *ctx, cn_log_level level) {
    pthread_mutex_lock(&lock);
    sink = fn;
    sink_ctx = ctx;
    atomic_store(&level_max, fn ? (int)level : -1);
    pthread_mutex_unlock(&lock);
}

bool cn_log_is_on(cn_log_level level) {
    return (int)level <= atomic_load_explicit(&level_max, memory_order_relaxed);
}

void cn_log(cn_log_level level, const char *fmt, ...) {
    char line[CN_LOG_LINE_BYTES];
    if (!cn_log_is_on(level)) return;
    va_list args;
    va_start(args, fmt);
    const int bytes = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    if (bytes < 0) return;
    if (bytes >= (int)sizeof(line)) line[cn_utf8_cut(line, sizeof(line) - 1)] = 0;
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F) *p = ' ';

    pthread_mutex_lock(&lock);
    if (sink && cn_log_is_on(level)) sink(sink_ctx, level, line);
    pthread_mutex_unlock(&lock);
}

const char *cn_log_level_name(cn_log_level level) {
    static const char *const names[] = {"error", "warn", "info", "debug"};
    return (unsigned)level < sizeof(names) / sizeof(names[0]) ? names[level] : "?";
}

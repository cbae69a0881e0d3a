/*
 * err.h - The one error type: a code that says what to do next, a text that says what happened.
 *
 * Every function that can fail returns a cn_err.  Where there is a story to tell
 * its last parameter is a cn_diag *, which the caller owns and may leave NULL.
 *
 * Layer: base.
 */
#ifndef CN_BASE_ERR_H
#define CN_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define CN_C_BEGIN extern "C" {
#define CN_C_END }
#else
#define CN_C_BEGIN
#define CN_C_END
#endif

#define CN_MUST_CHECK __attribute__((warn_unused_result))

CN_C_BEGIN

// clang-format off
/*    name          http  retry  what the caller should do */
#define CN_ERR_LIST(X)                                                                      \
    X(OK,           200,  0,     "success")                                                 \
    X(EINVAL,       400,  0,     "the request is malformed; fix it")                        \
    X(ENOTFOUND,    404,  0,     "no such model, session, file or object")                  \
    X(ETOOBIG,      413,  0,     "a declared limit was exceeded; see the message")          \
    X(EBUSY,        429,  1,     "the queue is full; retry after a delay")                  \
    X(ECANCELLED,   499,  0,     "the caller went away; nothing to report")                 \
    X(EIO,          500,  1,     "the disk or the socket failed")                           \
    X(ECORRUPT,     500,  0,     "stored bytes fail their check; restore, do not retry")    \
    X(ENUMERIC,     500,  0,     "the model computed a value that is not a number")         \
    X(EDEVICE,      500,  0,     "the GPU failed; the engine that saw it is closed")        \
    X(EUNSUPPORTED, 501,  0,     "valid, but not built into this binary")                   \
    X(ENOMEM,       503,  1,     "a memory budget is exhausted; retry after eviction")

typedef enum {
#define X(name, http, retry, text) CN_##name,
    CN_ERR_LIST(X)
#undef X
    CN_ERR_COUNT
} cn_err;
// clang-format on

enum { CN_DIAG_TEXT_BYTES = 240 };

/* What went wrong, for a person.  Plain data: copy it, queue it, send it to
 * another thread.  Owned by the caller, who may pass NULL to decline. */
typedef struct cn_diag {
    cn_err      err;
    int         line;
    const char *file;                     // static storage
    char        text[CN_DIAG_TEXT_BYTES]; // valid UTF-8, cut at a character if too long
} cn_diag;

/* "EINVAL"; "?" for a value outside the enum.  Static storage. */
const char *cn_err_name(cn_err err);
/* One sentence for a person who has no diag.  Static storage. */
const char *cn_err_text(cn_err err);
int         cn_err_http(cn_err err);
bool        cn_err_can_retry(cn_err err);

/* Fill `diag` (if not NULL) and return `err`, so failing is one statement. */
#define CN_FAIL(diag, err, ...) cn_fail((diag), (err), __FILE__, __LINE__, __VA_ARGS__)
cn_err cn_fail(cn_diag *diag, cn_err err, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* Return the error of `call` at once: for functions that hold nothing. */
#define CN_TRY(call)                                                                               \
    do {                                                                                           \
        cn_err cn_try_err = (call);                                                                \
        if (cn_try_err) return cn_try_err;                                                         \
    } while (0)

/* For our own bugs only; stays on in release.  Input never asserts. */
#define cn_assert(cond) ((cond) ? (void)0 : cn_assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void cn_assert_failed(const char *cond, const char *file, int line);

CN_C_END

#endif

/* err.c - Names, texts and the one place that writes a diag. */
#include "base/err.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name, *text;
    int         http;
    bool        retry;
} errs[] = {
#define X(name, http, retry, text) {#name, text, http, retry},
    CN_ERR_LIST(X)
#undef X
};

static bool is_known(cn_err err) {
    return (unsigned)err < CN_ERR_COUNT;
}

const char *cn_err_name(cn_err err) {
    return is_known(err) ? errs[err].name : "?";
}

const char *cn_err_text(cn_err err) {
    return is_known(err) ? errs[err].text : "unknown error";
}

int cn_err_http(cn_err err) {
    return is_known(err) ? errs[err].http : 500;
}

bool cn_err_can_retry(cn_err err) {
    return is_known(err) && errs[err].retry;
}

cn_err cn_fail(cn_diag *diag, cn_err err, const char *file, int line, const char *fmt, ...) {
    if (!diag) return err;
    diag->err = err;
    diag->file = file;
    diag->line = line;
    va_list args;
    va_start(args, fmt);
    const int want = vsnprintf(diag->text, sizeof(diag->text), fmt, args);
    va_end(args);
    if (want >= (int)sizeof(diag->text)) // texts end up in JSON: whole characters
        diag->text[cn_utf8_cut(diag->text, sizeof(diag->text) - 1)] = 0;
    return err;
}

_Noreturn void cn_assert_failed(const char *cond, const char *file, int line) {
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, cond);
    abort();
}

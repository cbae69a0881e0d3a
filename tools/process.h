/*
 * process.h - Run a program and collect what it prints; no shell, nothing inherited.
 *
 * The child gets the arguments and the environment that are given and no more: standard
 * input is empty, other descriptors are closed, signals are at their defaults.  It leads
 * a process group, and the whole group is killed when a limit is passed.
 *
 * Layer: tools -> base.
 */
#ifndef CN_TOOLS_PROCESS_H
#define CN_TOOLS_PROCESS_H

#include "base/buf.h"
#include "base/err.h"

#include <stdatomic.h>

CN_C_BEGIN

typedef struct cn_process_args {
    const char *const *argv;   // NULL at the end; argv[0] without a '/' is looked up in PATH
    const char *const *env;    // NULL at the end: "NAME=value"
    const char        *folder; // working directory
    size_t             out_bytes_max;
    int64_t            ms_max;
    const atomic_bool *cancel; // NULL, or set by any thread to stop it
} cn_process_args;

typedef struct cn_process_end {
    int  status;          // 0..255 as it exited; 128 + n if signal n killed it
    char error_text[200]; // the begin of its standard error, one line
} cn_process_end;

/* Run it to its end and append its standard output to `out`.
 *
 * CN_ENOTFOUND  no such program (or folder).
 * CN_ETOOBIG    it printed more than out_bytes_max; killed.
 * CN_EBUSY      it did not end within ms_max; killed.
 * CN_ECANCELLED, CN_EIO, CN_ENOMEM.  On failure `out` holds what it held before.
 * A status other than 0 is an answer, not an error. */
cn_err cn_process_run(const cn_process_args *args, cn_buf *out, cn_process_end *end_out,
                      cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

/* cmd_bench_retrieval_int.h - What the parts of cairn bench retrieval share.  Private to them. */
#ifndef CN_RUNTIME_CMD_BENCH_RETRIEVAL_INT_H
#define CN_RUNTIME_CMD_BENCH_RETRIEVAL_INT_H

#include "runtime/cli.h"
#include "runtime/scratch.h"

#include <stdatomic.h>
#include <stdio.h>

CN_C_BEGIN

typedef struct cn_retrieval_cli {
    cn_cli             cli;
    const char        *folder, *questions, *out, *plot, *lengths;
    int32_t            budget, topk, output, lanes;
    int32_t            depths, needles, per_cell, seed, places, samples;
    bool               dense, mass, ruler, evidence;
    const atomic_bool *cancel; // set by an interrupt
    int64_t            begin_ns, drawn_ns;
    // Opened for the run.
    char     scratch[CN_SCRATCH_PATH_BYTES];
    cn_host *host;
    FILE    *out_file; // of --out; NULL: none
} cn_retrieval_cli;

/* Each runs with host and scratch folder open, prints its result, and returns the exit status. */
int cn_retrieval_questions(cn_retrieval_cli *r);
int cn_retrieval_depth(cn_retrieval_cli *r);
int cn_retrieval_mass(cn_retrieval_cli *r);
int cn_retrieval_evidence(cn_retrieval_cli *r);
int cn_retrieval_ruler(cn_retrieval_cli *r);

/* Write a file that an option names. */
cn_err cn_retrieval_write(const char *path, const cn_buf *content, cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

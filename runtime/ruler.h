/*
 * ruler.h - The tasks of RULER (arXiv:2404.06654) that need no data, made from a seed.
 *
 *   niah_single      one needle "One of the special magic numbers for KEY is: VALUE." in noise
 *   niah_multikey    four needles of four keys; one is asked for
 *   niah_multivalue  four needles of one key; all values are asked for
 *   niah_multiquery  four needles of four keys; all are asked for
 *   vt               variable tracking: a value and four assignments on from it, in noise
 *   cwe              common words: ten words stand 30 times, the others 3 times
 *   fwe              frequent words: coded words by a zeta distribution with alpha 2
 *
 * Templates, numbers of needles, frequencies and limits of the answer are RULER's (its
 * synthetic.yaml).  What differs: haystacks are its noise sentences, where it has essays for all
 * but the first and vt; words are made up, where it has word lists; no worked example is shown;
 * the instruction and the text are documents of a view and the question is the user's message, so
 * there is no answer prefix.
 *
 * Scores are RULER's: the share of the right strings that the answer contains, case ignored
 * (string_match_all); beside it whether it contains one of them, which is its score of question
 * answering (string_match_part).
 *
 * Threads: one.   Layer: runtime.
 */
#ifndef CN_RUNTIME_RULER_H
#define CN_RUNTIME_RULER_H

#include "runtime/retrieval.h"

CN_C_BEGIN

enum {
    CN_RULER_OUTPUTS_MAX = 10,
    CN_RULER_OUTPUT_BYTES = 24,
    CN_RULER_LENGTHS_MAX = 16,
    CN_RULER_LENGTH_MIN = 1024,
    CN_RULER_LENGTH_MAX = 1 << 18,
    CN_RULER_SAMPLES_MAX = 500,
};

// clang-format off
/*    name              text                tokens of the answer */
#define CN_RULER_TASK_LIST(X)                \
    X(NIAH_SINGLE,      "niah_single",      128) \
    X(NIAH_MULTIKEY,    "niah_multikey",    128) \
    X(NIAH_MULTIVALUE,  "niah_multivalue",  128) \
    X(NIAH_MULTIQUERY,  "niah_multiquery",  128) \
    X(VT,               "vt",               30)  \
    X(CWE,              "cwe",              120) \
    X(FWE,              "fwe",              50)

typedef enum {
#define X(name, text, tokens) CN_RULER_##name,
    CN_RULER_TASK_LIST(X)
#undef X
    CN_RULER_TASKS
} cn_ruler_task;
// clang-format on

const char *cn_ruler_task_name(cn_ruler_task task);
int32_t     cn_ruler_answer_tokens(cn_ruler_task task);

/* One text, its question, and the strings of a right answer. */
typedef struct cn_ruler_sample {
    cn_buf  text, question;
    char    output[CN_RULER_OUTPUTS_MAX][CN_RULER_OUTPUT_BYTES];
    int32_t outputs;
} cn_ruler_sample;

/* Make a sample.
 *
 *   out     overwritten; cn_ruler_sample_release().
 *   units   size of the text: lines of noise, different words (cwe), words (fwe).
 *   length  of the context it is meant for, in tokens: fwe has length / 50 different words.
 *
 * CN_EINVAL  fewer units than the task needs.   CN_ENOMEM.
 * Equal arguments give equal texts. */
cn_err cn_ruler_make(cn_ruler_sample *out, cn_ruler_task task, int64_t units, int64_t length,
                     uint64_t seed, cn_diag *diag) CN_MUST_CHECK;
void   cn_ruler_sample_release(cn_ruler_sample *s); // frees and zeroes

/* RULER's string_match_all and string_match_part of one answer, 0..1. */
double cn_ruler_match_all(const char *answer, const cn_ruler_sample *s);
double cn_ruler_match_part(const char *answer, const cn_ruler_sample *s);

typedef struct cn_ruler_cell {
    int64_t samples; // 0: the task does not fit the length
    double  score;   // mean of match_all: RULER's score of these tasks
    double  part;    // mean of match_part: some of it was there
    int64_t tokens;  // of the views, over all samples
} cn_ruler_cell;

typedef struct cn_ruler_result {
    int32_t       lengths;
    int64_t       length[CN_RULER_LENGTHS_MAX];
    cn_ruler_cell cell[CN_RULER_TASKS][CN_RULER_LENGTHS_MAX];
} cn_ruler_result;

typedef struct cn_ruler_opts {
    cn_host           *host;
    const char        *scratch; // an empty folder, in no repository
    int32_t            samples; // of each task and length, 1..CN_RULER_SAMPLES_MAX
    uint64_t           seed;
    FILE              *out; // JSON lines; may be NULL
    const atomic_bool *cancel;
    /* A cell is there.  May be NULL. */
    void (*on_cell)(void *ctx, const cn_ruler_result *r, cn_ruler_task task, int32_t length);
    void *ctx;
} cn_ruler_opts;

/* Run all tasks at the lengths that `r` names: each sample is a folder with one file, asked as
 * cairn ask would.  View, question and answer together have at most that many tokens.
 *
 * A line of `out`, with RULER's names: {"task","length","index","context_tokens","input" (the
 * question), "outputs":[...],"pred","score","part"}.
 *
 * Errors of cn_ruler_make, cn_cut_file, cn_session_open, cn_ask_each, cn_scratch_write; CN_EIO. */
cn_err cn_ruler_run(cn_ruler_result *r, const cn_ruler_opts *opts, cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

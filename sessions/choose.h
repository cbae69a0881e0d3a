/*
 * choose.h - Which files of a repository go into a token budget.
 *
 * Whole files only.  They are asked in this order, and each that fits is in; one that does
 * not is left out, and smaller ones behind it may still fit:
 *
 *   group   README; short text at the root; sources, build files and folders' READMEs;
 *           other text and data; licences and change logs; tests; vendored; generated
 *   depth   folders above the file: near the root first
 *   size    up to 1/8, 1/4, 1/2, all of the budget: no file crowds out all others early
 *   turn    each folder gives its first file, then each its second, ...: headers, main and
 *           the like before the others, then by path
 *   path    byte by byte
 *
 * Lock files, minified files and source maps are never asked.  The choice belongs to the
 * session: made once, then kept by cn_choose with `kept`, so that an edit does not
 * reshuffle the view; what a user adds or drops stays in or out.  A pure function of its arguments;
 * the input's order does not count.
 *
 * Threads: any.
 * Layer: sessions -> base.
 */
#ifndef CN_SESSIONS_CHOOSE_H
#define CN_SESSIONS_CHOOSE_H

#include "base/err.h"

CN_C_BEGIN

enum {
    CN_CHOOSE_BUDGET = 32768, // tokens, if nobody says otherwise
    CN_CHOOSE_FILES_MAX = 1 << 20,
};

/* Of one file, and of the budget; bytes of one file. */
#define CN_CHOOSE_TOKENS_MAX ((int64_t)1 << 40)

typedef struct cn_choose_file {
    const char *path; // from the repository's root; borrowed for the call
    int64_t     bytes;
    int64_t     tokens;       // of all its documents; 0: not known, taken from `bytes`
    bool        is_generated; // by .gitattributes; many are also known by their names
    bool        is_vendored;
} cn_choose_file;

// clang-format off
/*    name       what a person reads */
#define CN_LEFT_LIST(X)                                                                     \
    X(LOCK,      "a lock file, written by a package manager")                               \
    X(MINIFIED,  "minified, or a source map")                                               \
    X(TOO_BIG,   "larger than the whole budget")                                            \
    X(BUDGET,    "does not fit into what is left of the budget")                            \
    X(BEFORE,    "left out when the session's files were chosen")                           \
    X(DROPPED,   "dropped from this session")

typedef enum {
#define X(name, text) CN_LEFT_##name,
    CN_LEFT_LIST(X)
#undef X
    CN_LEFT_COUNT
} cn_left_reason;
// clang-format on

const char *cn_left_text(cn_left_reason reason);

typedef struct cn_left {
    int64_t        file; // index of the input
    int64_t        tokens;
    cn_left_reason reason;
} cn_left;

typedef struct cn_choice {
    int64_t *chosen; // [chosen_files] indices of the input, by path
    int64_t  chosen_files;
    int64_t  chosen_tokens;
    cn_left *left; // [left_files] by path
    int64_t  left_files;
    int64_t  left_tokens;
} cn_choice;

typedef struct cn_choose_args {
    const cn_choose_file *file; // [files]
    int64_t               files;
    int64_t               budget; // tokens; 0: CN_CHOOSE_BUDGET
    /* The choice so far, if there is one.  Kept files that are still there stay, also when
     * they have grown, up to a quarter over the budget (then the last in order leave);
     * those that were passed over stay out; new ones come in as far as they fit. */
    const char *const *kept; // [kept_files]
    int64_t            kept_files;
    const char *const *passed; // [passed_files] what cn_choice.left said then
    int64_t            passed_files;
    /* What somebody said since then, and it goes before all else: these are in, whatever they
     * are, and take nothing of the budget; those are out.  A path in both is out. */
    const char *const *added; // [added_files]
    int64_t            added_files;
    const char *const *dropped; // [dropped_files]
    int64_t            dropped_files;
} cn_choose_args;

/* Choose files.
 *
 *   out  owned by the caller: cn_choice_release().  Zero unless CN_OK.
 *
 * CN_EINVAL   a path is empty or given twice, a number is negative; the diag names it.
 * CN_ETOOBIG  a number is over its limit.   CN_ENOMEM. */
cn_err cn_choose(cn_choice *out, const cn_choose_args *args, cn_diag *diag) CN_MUST_CHECK;
void   cn_choice_release(cn_choice *choice); // frees and zeroes

/* Tokens of a file of which only the size is known. */
int64_t cn_choose_estimate(int64_t bytes);

CN_C_END

#endif

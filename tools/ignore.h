/*
 * ignore.h - Patterns in the syntax of .gitignore (gitignore(5)), and what they say of a path.
 *
 * libgit2 1.5 drops a negation that has nothing to negate in its own file, so that a
 * nested .gitignore cannot take back what one above it ignores; hence our own.
 *
 * Layer: tools -> base.
 */
#ifndef CN_TOOLS_IGNORE_H
#define CN_TOOLS_IGNORE_H

#include "base/err.h"

CN_C_BEGIN

typedef struct cn_ignore cn_ignore; // the patterns of one file; immutable

typedef enum {
    CN_IGNORE_SILENT, // no pattern matches
    CN_IGNORE_OUT,    // ignored
    CN_IGNORE_IN,     // "!pattern": not ignored
} cn_ignore_answer;

/* Parse `bytes` bytes at `text`; any text is a sound file.
 *
 *   out  owned by the caller: cn_ignore_free().  NULL unless CN_OK, and for a text
 *        without patterns.
 *
 * CN_ENOMEM. */
cn_err cn_ignore_parse(cn_ignore **out, const char *text, size_t bytes,
                       cn_diag *diag) CN_MUST_CHECK;
void   cn_ignore_free(cn_ignore *ignore); // NULL is allowed

/* What the last matching pattern says of `path`, which is relative to the folder of the
 * patterns' file and has no '/' at its end.  The folders above it are not looked at.
 * A NULL `ignore` is silent. */
cn_ignore_answer cn_ignore_match(const cn_ignore *ignore, const char *path, bool is_folder);

/* Whether `path`, or a folder that it is in, is out. */
bool cn_ignore_has(const cn_ignore *ignore, const char *path, bool is_folder);

CN_C_END

#endif

/*
 * pattern_int.h - A pattern written for Oniguruma, run by PCRE2 with the same matches.
 *
 * tokenizer.json patterns are read by Oniguruma in the reference.  Both libraries take
 * nearly the same syntax and disagree quietly in a few places; here each of those is
 * either rewritten to mean the same, or refused by name:
 *
 *   \s \S \w \W              as sets of code points: PCRE2 10.42 counts U+180E as a space
 *                            and leaves combining marks out of words
 *   \p{Han}                  Script=Han; PCRE2 would take Script_Extensions
 *   . ^ $                    newline is \n; ^ and $ match at every line
 *   refused                  && and [ in a class, POSIX classes, \W in a class, sets as
 *                            ends of a range, {n}? {n,m}+ {,n}, \p in (?i:), groups other
 *                            than ( (?: (?= (?! (?<= (?<! (?> (?i:, and every escape of a
 *                            letter or digit but \s \S \w \W \d \D \p \P \r \n \t \f \a \e
 *                            \A \z \xHH (up to 7f) \x{H...}
 *
 * Threads: a cn_pattern is immutable; a cn_match belongs to one caller.
 *
 * Layer: engine -> base (PCRE2 stops here).
 */
#ifndef CN_ENGINE_PATTERN_INT_H
#define CN_ENGINE_PATTERN_INT_H

#include "base/err.h"

CN_C_BEGIN

enum {
    CN_PATTERN_BYTES_MAX = 1 << 16,
    CN_PATTERN_GROUPS_MAX = 64,   // groups within each other
    CN_MATCH_STEPS_MAX = 1 << 24, // of one match, and CN_MATCH_STEPS_PER_BYTE for each
    CN_MATCH_STEPS_PER_BYTE = 16, // byte of the text: then a pattern is said to run away
    CN_MATCH_HEAP_KIB_MAX = 1 << 18,
};

typedef struct cn_pattern cn_pattern;
typedef struct cn_match   cn_match; // working memory

/* Compile `text`; `is_literal`: it matches itself.
 *
 *   out  owned by the caller: cn_pattern_free().  NULL unless CN_OK.
 *
 * CN_ECORRUPT      it does not compile; the diag says where and why.
 * CN_EUNSUPPORTED  PCRE2 would read it in another way; the diag names the construct.
 * CN_ETOOBIG       over CN_PATTERN_BYTES_MAX.   CN_ENOMEM. */
cn_err cn_pattern_create(cn_pattern **out, const char *text, bool is_literal,
                         cn_diag *diag) CN_MUST_CHECK;
void   cn_pattern_free(cn_pattern *p); // NULL is allowed

/* Working memory for texts of up to `bytes` bytes.  CN_ENOMEM. */
cn_err cn_match_create(cn_match **out, size_t bytes) CN_MUST_CHECK;
void   cn_match_free(cn_match *m); // NULL is allowed

/* The first match in the valid UTF-8 at `text` that starts at or after `from`.  What
 * lies before `from` is seen by look-behind, what lies outside the text by nothing.
 *
 *   start_out, end_out  the match; both `bytes` if there is none.
 *
 * CN_ETOOBIG  the pattern ran away (CN_MATCH_STEPS_MAX, CN_MATCH_HEAP_KIB_MAX).
 * CN_ENOMEM. */
cn_err cn_pattern_find(const cn_pattern *p, cn_match *m, const char *text, size_t bytes,
                       size_t from, size_t *start_out, size_t *end_out,
                       cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

/*
 * questions.h - A file of questions whose answers are known: JSON lines, a conversation each.
 *
 *   {"type":"signature","turns":[{"q":"...","calls":[{"name":"search","arguments":{...}}],
 *                                 "answer":"..."}]}
 *
 * "calls" may be absent: none.  Blank lines are passed over.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_QUESTIONS_H
#define CN_RUNTIME_QUESTIONS_H

#include "base/json.h"

CN_C_BEGIN

enum {
    CN_QUESTIONS_BYTES_MAX = 1 << 30,
    CN_QUESTION_BYTES_MAX = 1 << 20, // of a line
    CN_QUESTION_TURNS_MAX = 256,
    CN_QUESTION_TYPE_BYTES = 32,
};

typedef struct cn_questions {
    const char *path; // borrowed
    int64_t     line; // of the question that was read last, from 1
    cn_buf      file;
    size_t      at;
} cn_questions;

/* CN_ENOTFOUND  no such file.   CN_ETOOBIG  over CN_QUESTIONS_BYTES_MAX.   CN_EIO, CN_ENOMEM. */
cn_err cn_questions_open(cn_questions *q, const char *path, cn_diag *diag) CN_MUST_CHECK;
void   cn_questions_close(cn_questions *q); // a zeroed one is fine

/* The next question, checked: it has a type and turns, each has what it needs.
 *
 *   out  owned by the caller: cn_json_free().  NULL behind the last one, and on failure.
 *
 * CN_ECORRUPT  the line is no question; the diag has its number.
 * CN_ETOOBIG   a limit above.   CN_ENOMEM. */
cn_err cn_questions_next(cn_questions *q, cn_json_doc **out, cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

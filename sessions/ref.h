/*
 * ref.h - A long part of a message: its edges stay in the conversation, its middle becomes
 * documents that the conversation refers to.
 *
 * A part is a question or a tool's result, never what the model wrote.  One of more than
 * CN_REF_TOKENS tokens stands in the conversation as
 *
 *   beginning of the text, up to CN_REF_EDGE_TOKENS tokens
 *   [... more in file: turn-3/result-1.txt]
 *   end of the text, up to CN_REF_EDGE_TOKENS tokens
 *
 * An edge is shortened to a line end where there is one within its tokens, and never ends
 * within a character.  The line between them begins on a line of its own: where the beginning has
 * no newline at its end, one is put.  All of it is one text to the tokenizer.  What is left out is
 * cut by cut.h as a file of the path that the line names:
 *
 *   turn-T/question.txt   the question of turn T
 *   turn-T/result-N.txt   the result of the N-th call of turn T, from 1
 *   src/a.c               lines of a file that the view holds as they are
 *
 * Models are trained on this form: it does not change.
 *
 * Layer: sessions -> base, engine.
 */
#ifndef CN_SESSIONS_REF_H
#define CN_SESSIONS_REF_H

#include "engine/tokenizer.h"

CN_C_BEGIN

enum {
    CN_REF_TOKENS = 768,      // a part of more is referred to
    CN_REF_EDGE_TOKENS = 256, // of it stay at each end
    CN_REF_NAME_BYTES = 48,   // of a name, NUL counted
};

/* "turn-3/question.txt" for call 0, "turn-3/result-1.txt" for call 1. */
void cn_ref_name(char out[CN_REF_NAME_BYTES], int32_t turn, int32_t call);

typedef struct cn_ref_span {
    size_t begin, end; // bytes of the part
} cn_ref_span;

/* Which bytes of a part of more than CN_REF_TOKENS tokens become documents; they may be none.
 *
 * Errors of cn_tokenizer_encode.   Time: that of tokenising a few thousand bytes. */
cn_err cn_ref_split(const cn_tokenizer *tokenizer, const char *text, size_t bytes, cn_ref_span *out,
                    cn_diag *diag) CN_MUST_CHECK;

/* Append the part as it stands in the conversation.
 *
 *   path  of the documents that hold `middle`, as cut.h writes it (cn_cut_put_path). */
void cn_ref_put_inline(cn_buf *to, const char *text, size_t bytes, cn_ref_span middle,
                       const char *path);

CN_C_END

#endif

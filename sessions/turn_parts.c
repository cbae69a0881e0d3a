/*
 * turn_parts.c - Questions and results as tokens of the conversation.
 *
 * Where the model's config says conversation_refs, the middle of a long part goes to the
 * context as documents, and a line that names them stands in its place (ref.h).
 */
#include "sessions/turn_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static cn_err put_role(cn_tokens *to, int32_t role) {
    return cn_tokens_put(to, &role, 1);
}

/* Text as the user or a tool gave it: a role's spelling in it is plain text. */
static cn_err put_text(cn_turn *t, cn_tokens *to, const char *text, size_t bytes, cn_diag *diag) {
    return cn_tokenizer_encode(t->s->host->tokenizer, to, text, bytes, CN_TOKENIZE_TEXT, diag);
}

/* Both the step that will be committed and what the engine still has to see. */
static cn_err append(cn_turn *t, const cn_tokens *tokens, cn_diag *diag) {
    if (t->s->tokens.count + t->step.count + tokens->count + 1 > CN_SESSION_TOKENS_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "the conversation would have %" PRId64 " tokens, limit %d",
                       t->s->tokens.count + t->step.count + tokens->count,
                       (int)CN_SESSION_TOKENS_MAX);
    if (cn_tokens_put(&t->step, tokens->token, tokens->count) ||
        cn_tokens_put(&t->pending, tokens->token, tokens->count))
        return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " tokens", tokens->count);
    return CN_OK;
}

/* ---- Long parts ---------------------------------------------------------------------- */

typedef struct part {
    const char        *text;
    size_t             bytes;
    int32_t            call; // 0: the question; n: the result of the turn's n-th call
    const cn_tool_ctx *run;  // of a result; else NULL
} part;

/* Whether the part is lines of a file that stand in the view already, edges and all. */
static cn_err is_held(cn_turn *t, const part *p, cn_ref_span middle, bool *out, cn_diag *diag) {
    *out = false;
    if (!p->run || !p->run->read_path[0]) return CN_OK;
    return cn_context_holds(t->s->context, p->run->read_path, p->run->read_line,
                            (cn_ledger_text){p->text, middle.end}, out, diag);
}

/* The middle is a part of the conversation from now on, and of the step that is being made. */
static cn_err put_ref(cn_turn *t, const part *p, cn_ref_span middle, cn_diag *diag) {
    cn_assert(!t->has_ref);
    const cn_ledger_text text = {p->text + middle.begin, middle.end - middle.begin};
    t->ref = (cn_ledger_ref){.part = p->call,
                             .step = t->steps - 1, // that sampled the call
                             .path = t->ref_name,
                             .begin = (int64_t)middle.begin,
                             .bytes = (int64_t)text.bytes};
    cn_session_forget_edits(t->s, t->ref_name);
    CN_TRY(cn_context_put_ref(
        t->s->context, &(cn_context_ref){.path = t->ref_name, .turn = t->number, .part = p->call},
        text, diag));
    t->has_ref = true;
    return CN_OK;
}

/* Append a part's tokens: all of it, or what is left of a long one. */
static cn_err put_part(cn_turn *t, cn_tokens *to, const part *p, cn_diag *diag) {
    const int64_t from = to->count;
    cn_ref_span   middle;
    cn_buf        text = {0}, path = {0};
    bool          held;
    CN_TRY(put_text(t, to, p->text, p->bytes, diag));
    if (!t->s->host->model->config.conversation_refs || to->count - from <= CN_REF_TOKENS)
        return CN_OK;
    CN_TRY(cn_ref_split(t->s->host->tokenizer, p->text, p->bytes, &middle, diag));
    if (middle.begin == middle.end) return CN_OK;
    CN_TRY(is_held(t, p, middle, &held, diag));
    cn_ref_name(t->ref_name, t->number, p->call);
    if (!held) CN_TRY(put_ref(t, p, middle, diag));
    cn_cut_put_path(&path, held ? p->run->read_path : t->ref_name);
    cn_ref_put_inline(&text, p->text, p->bytes, middle, cn_buf_str(&path));
    cn_err err = path.err ? path.err : text.err;
    if (err) err = CN_FAIL(diag, err, "no memory for a part of %zu bytes", p->bytes);
    to->count = from;
    if (!err) err = put_text(t, to, cn_buf_str(&text), text.bytes, diag);
    cn_buf_release(&text);
    cn_buf_release(&path);
    return err;
}

/* ---- The question -------------------------------------------------------------------- */

cn_err cn_turn_take_question(cn_turn *t, cn_diag *diag) {
    return put_part(t, &t->question,
                    &(part){.text = t->opts.question, .bytes = t->opts.question_bytes}, diag);
}

/* A call that a crash left without a result gets one first. */
cn_err cn_turn_ask(cn_turn *t, cn_diag *diag) {
    static const char lost[] = "interrupted: nobody knows how far the tool came";
    const cn_roles   *r = &t->s->host->roles;
    cn_tokens         tokens = {0};
    cn_err            err = CN_OK;
    if (t->s->has_open_call && r->tool_result >= 0) {
        err = put_role(&tokens, r->tool_result);
        if (!err) err = put_text(t, &tokens, lost, sizeof(lost) - 1, diag);
        if (!err) err = put_role(&tokens, r->end);
    }
    if (!err) err = put_role(&tokens, r->user);
    if (!err) err = cn_tokens_put(&tokens, t->question.token, t->question.count);
    if (!err) err = put_role(&tokens, r->assistant);
    if (!err) err = append(t, &tokens, diag);
    cn_tokens_release(&tokens);
    return err;
}

/* ---- Results ------------------------------------------------------------------------- */

/* Without conversation_refs the text is cut to its limit. */
cn_err cn_turn_append_result(cn_turn *t, const cn_tool_ctx *call, cn_diag *diag) {
    const cn_roles *r = &t->s->host->roles;
    const part      result = {.text = cn_buf_str(&t->result_text),
                              .bytes = t->result_text.bytes,
                              .call = t->call_count,
                              .run = call};
    cn_tokens       tokens = {0};
    cn_err          err = put_role(&tokens, r->tool_result);
    if (!err) err = put_part(t, &tokens, &result, diag);
    if (!err && tokens.count > CN_TURN_RESULT_TOKENS_MAX) {
        static const char cut[] = "\n... the rest of the result is cut";
        tokens.count = CN_TURN_RESULT_TOKENS_MAX;
        err = put_text(t, &tokens, cut, sizeof(cut) - 1, diag);
    }
    if (!err) err = put_role(&tokens, r->end);
    if (!err) err = put_role(&tokens, r->assistant);
    if (!err) err = append(t, &tokens, diag);
    cn_tokens_release(&tokens);
    return err;
}

/*
 * retrieval_questions.c - A file of conversations, each begun afresh, several side by side.
 *
 * A lane takes the next line of the file when its conversation is over.  Lines of the output
 * wait until those before them are there.
 */
#include "runtime/retrieval.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- A line of the output ------------------------------------------------------------ */

static void put_ids(cn_json_writer *w, const char *key, const int32_t *token, int64_t tokens) {
    cn_json_field_open(w, key, '[');
    for (int64_t i = 0; i < tokens; i++) cn_json_put_int64(w, token[i]);
    cn_json_close(w, ']');
}

static void put_turn(cn_json_writer *w, const cn_json *turn, const cn_asked *a) {
    const char *answer = cn_json_string(cn_json_get(turn, "answer"));
    cn_json_open(w, '{');
    cn_json_field_string(w, "q", cn_json_string(cn_json_get(turn, "q")));
    cn_json_field_string(w, "answer", answer);
    cn_json_field_bytes(w, "text", cn_buf_str(&a->text), a->text.bytes);
    cn_json_field_string(w, "stop", cn_stop_name(a->stop));
    cn_json_field_bool(w, "answer_right", cn_is_answer(cn_buf_str(&a->text), answer));
    cn_json_field_open(w, "calls", '[');
    for (int32_t i = 0; i < a->calls; i++) {
        cn_json_open(w, '{');
        cn_json_field_string(w, "text", a->call[i]);
        cn_json_field_bool(w, "valid", cn_is_valid_call(a->call[i]));
        cn_json_close(w, '}');
    }
    cn_json_close(w, ']');
    cn_json_field_bool(w, "calls_right", cn_are_calls(a, cn_json_get(turn, "calls")));
    put_ids(w, "sampled", a->token.token, a->token.count);
    cn_json_field_open(w, "gaps", '[');
    for (int64_t i = 0; i < a->token.count; i++) {
        float gap;
        memcpy(&gap, a->gap.data + (size_t)i * sizeof(gap), sizeof(gap));
        cn_json_put_f64(w, (double)gap, 6);
    }
    cn_json_close(w, ']');
    cn_json_close(w, '}');
}

/* ---- Lines of the file ---------------------------------------------------------------- */

/* The question that a lane is at. */
typedef struct at {
    cn_json_doc   *doc;  // NULL: none
    const cn_json *turn; // that is asked
    int64_t        number;
    int32_t        type; // index in scores
    cn_score       score;
    bool           all_right;
    cn_buf         text; // of the output
    cn_json_writer w;    // on text
} at;

typedef struct runner {
    const cn_questions_opts *opts;
    cn_scores               *scores;
    cn_questions             file;
    int64_t                  questions, done;
    at                       lane[CN_ASK_LANES_MAX];
    char                   **ready; // [questions_room] output lines that are there; written: NULL
    int64_t                  room, written;
} runner;

static cn_err find_type(runner *r, const char *type, int32_t *out, cn_diag *diag) {
    cn_scores *s = r->scores;
    for (*out = 0; *out < s->types; ++*out)
        if (strcmp(s->type[*out].type, type) == 0) return CN_OK;
    if (s->types == CN_QUESTION_TYPES_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "%s: line %" PRId64 ": more than %d types", r->file.path,
                       r->file.line, (int)CN_QUESTION_TYPES_MAX);
    strcpy(s->type[s->types++].type, type); // questions.h has its limit
    return CN_OK;
}

/* The next question for a lane; none leaves it without. */
static cn_err take_question(runner *r, at *a, cn_diag *diag) {
    CN_TRY(cn_questions_next(&r->file, &a->doc, diag));
    if (!a->doc) return CN_OK;
    const cn_json *item = cn_json_root(a->doc);
    CN_TRY(find_type(r, cn_json_string(cn_json_get(item, "type")), &a->type, diag));
    a->turn = cn_json_first(cn_json_get(item, "turns"));
    a->number = r->questions++;
    a->score = (cn_score){.questions = 1};
    a->all_right = true;
    cn_buf_reset(&a->text);
    a->w = cn_json_writer_on(&a->text);
    cn_json_open(&a->w, '{');
    cn_json_field_int64(&a->w, "line", r->file.line);
    cn_json_field_string(&a->w, "type", r->scores->type[a->type].type);
    cn_json_field_open(&a->w, "turns", '[');
    return CN_OK;
}

static cn_err next(void *ctx, int32_t lane, const char **question_out, cn_diag *diag) {
    runner *r = ctx;
    at     *a = &r->lane[lane];
    if (!a->doc) {
        CN_TRY(take_question(r, a, diag));
        if (!a->doc) return CN_OK;
        CN_TRY(cn_session_rewind(r->opts->session[lane], 0, diag));
    }
    *question_out = cn_json_string(cn_json_get(a->turn, "q"));
    return CN_OK;
}

/* ---- Answers -------------------------------------------------------------------------- */

/* Keep a line of the output; write those that have none missing before them. */
static cn_err put_line(runner *r, int64_t number, cn_buf *text, cn_diag *diag) {
    if (number >= r->room) {
        const int64_t room = 2 * number + 64;
        char        **more = realloc(r->ready, (size_t)room * sizeof(*more));
        if (!more) return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " lines", room);
        memset(more + r->room, 0, (size_t)(room - r->room) * sizeof(*more));
        r->ready = more;
        r->room = room;
    }
    cn_buf_put_str(text, "\n");
    r->ready[number] = cn_buf_take(text);
    if (!r->ready[number]) return CN_FAIL(diag, CN_ENOMEM, "no memory for a line of the output");
    for (; r->written < r->room && r->ready[r->written]; r->written++) {
        if (fputs(r->ready[r->written], r->opts->out) < 0)
            return CN_FAIL(diag, CN_EIO, "write the output: %s", strerror(errno));
        free(r->ready[r->written]);
        r->ready[r->written] = NULL;
    }
    return CN_OK;
}

static cn_err end_question(runner *r, int32_t lane, cn_diag *diag) {
    at               *a = &r->lane[lane];
    const cn_session *s = r->opts->session[lane];
    cn_json_close(&a->w, ']');
    cn_json_field_bool(&a->w, "right", a->all_right);
    put_ids(&a->w, "tokens", cn_session_token(s), cn_session_tokens(s));
    cn_json_close(&a->w, '}');
    a->score.right = a->all_right;
    cn_score_add(&r->scores->type[a->type], &a->score);
    cn_json_free(a->doc);
    a->doc = NULL;
    if (r->opts->on_question) r->opts->on_question(r->opts->ctx, ++r->done);
    return r->opts->out ? put_line(r, a->number, &a->text, diag) : CN_OK;
}

static cn_err on_asked(void *ctx, int32_t lane, cn_asked *asked, cn_diag *diag) {
    runner *r = ctx;
    at     *a = &r->lane[lane];
    bool    right;
    cn_score_turn(&a->score, asked, cn_json_string(cn_json_get(a->turn, "answer")),
                  cn_json_get(a->turn, "calls"), &right);
    a->all_right &= right;
    put_turn(&a->w, a->turn, asked);
    a->turn = cn_json_next(a->turn);
    return a->turn ? CN_OK : end_question(r, lane, diag);
}

cn_err cn_questions_run(cn_scores *scores_out, const cn_questions_opts *opts, cn_diag *diag) {
    runner   r = {.opts = opts, .scores = scores_out};
    cn_asker asker = {.host = opts->host,
                      .session = opts->session,
                      .lanes = opts->lanes,
                      .opts = opts->ask,
                      .next = next,
                      .on_asked = on_asked,
                      .ctx = &r};
    *scores_out = (cn_scores){0};
    cn_err err = cn_questions_open(&r.file, opts->path, diag);
    if (!err) err = cn_ask_run(&asker, diag);
    scores_out->steps = asker.steps;
    scores_out->step_ns = asker.step_ns;
    for (int32_t i = 0; i < opts->lanes; i++) {
        cn_json_free(r.lane[i].doc);
        cn_buf_release(&r.lane[i].text);
    }
    for (int64_t i = 0; i < r.room; i++) free(r.ready[i]);
    free(r.ready);
    cn_questions_close(&r.file);
    return err;
}

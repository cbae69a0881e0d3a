/* cmd_bench_retrieval_questions.c - A file of questions: asked, counted, a table by type. */
#include "base/clock.h"
#include "runtime/cmd_bench_retrieval_int.h"
#include "runtime/retrieval.h"

#include <stdio.h>
#include <unistd.h>

/* ---- Output ------------------------------------------------------------------------- */

static void on_question(void *ctx, int64_t done) {
    enum { REDRAW_NS = 200000000 };
    cn_retrieval_cli *b = ctx;
    const int64_t     now = cn_clock_ns();
    if (b->cli.json || !isatty(STDERR_FILENO) || now - b->drawn_ns < REDRAW_NS) return;
    b->drawn_ns = now;
    fprintf(stderr, "\r\033[K%s questions, %.0f a second\r", cn_cli_count(done),
            (double)done * 1e9 / (double)(now - b->begin_ns));
}

static void print_score(const cn_score *s) {
    const double percent = s->questions ? 100 * (double)s->right / (double)s->questions : 0;
    printf("%-16s %9s %9s %6.1f %9s %9s %7s %7s %11s %7s\n", s->type, cn_cli_count(s->questions),
           cn_cli_count(s->right), percent, cn_cli_count(s->turns), cn_cli_count(s->answers_right),
           cn_cli_count(s->calls), cn_cli_count(s->calls_valid), cn_cli_count(s->call_turns),
           cn_cli_count(s->call_turns_right));
}

static void put_score(cn_json_writer *w, const cn_score *s) {
    const struct {
        const char *key;
        int64_t     value;
    } numbers[] = {{"questions", s->questions},
                   {"right", s->right},
                   {"turns", s->turns},
                   {"answers_right", s->answers_right},
                   {"calls", s->calls},
                   {"calls_valid", s->calls_valid},
                   {"call_turns", s->call_turns},
                   {"call_turns_right", s->call_turns_right},
                   {"prompt_tokens", s->prompt_tokens},
                   {"output_tokens", s->output_tokens}};
    cn_json_open(w, '{');
    cn_json_field_string(w, "type", s->type);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        cn_json_field_int64(w, numbers[i].key, numbers[i].value);
    cn_json_close(w, '}');
}

static int put_scores(const cn_retrieval_cli *b, cn_session *s, const cn_scores *scores,
                      double wall_s) {
    const int64_t tokens = cn_context_get_plan(cn_session_context(s))->tokens;
    cn_score      total = {.type = "total"};
    cn_buf        buf = {0};
    for (int32_t i = 0; i < scores->types; i++) cn_score_add(&total, &scores->type[i]);
    const double step_s = (double)scores->step_ns / 1e9;
    const double tok_s = step_s > 0 ? (double)total.output_tokens / step_s : 0;
    if (!b->cli.json) {
        printf("%-16s %9s %9s %6s %9s %9s %7s %7s %11s %7s\n", "type", "questions", "right", "%",
               "turns", "answers", "calls", "valid", "call turns", "right");
        for (int32_t i = 0; i < scores->types; i++) print_score(&scores->type[i]);
        print_score(&total);
        printf("\n%s tok of context, %s; %s tok sampled in %.1f s of steps (%.0f tok/s, %d side "
               "by side); %.1f s in all\n",
               cn_cli_count(tokens), b->dense ? "dense" : "clsa", cn_cli_count(total.output_tokens),
               step_s, tok_s, b->lanes, wall_s);
        return CN_EXIT_DONE;
    }
    cn_json_writer w = cn_json_writer_on(&buf);
    cn_json_open(&w, '{');
    cn_json_field_string(&w, "questions", b->questions);
    cn_json_field_int64(&w, "context_tokens", tokens);
    cn_json_field_bool(&w, "dense", b->dense);
    cn_json_field_int64(&w, "topk", b->topk);
    cn_json_field_int64(&w, "lanes", b->lanes);
    cn_json_field_open(&w, "types", '[');
    for (int32_t i = 0; i < scores->types; i++) put_score(&w, &scores->type[i]);
    cn_json_close(&w, ']');
    cn_json_put_key(&w, "total");
    put_score(&w, &total);
    cn_json_field_f64(&w, "step_s", step_s, 6);
    cn_json_field_f64(&w, "decode_tok_s", tok_s, 6);
    cn_json_field_f64(&w, "wall_s", wall_s, 6);
    cn_json_close(&w, '}');
    return cn_cli_put_json(&b->cli, &buf);
}

int cn_retrieval_questions(cn_retrieval_cli *b) {
    cn_diag     diag = {0};
    cn_session *session[CN_ASK_LANES_MAX] = {0};
    cn_scores   scores;
    cn_err      err = CN_OK;
    if (b->lanes < 1 || b->lanes > CN_ASK_LANES_MAX)
        return cn_cli_usage(&b->cli, "--lanes %d: want 1 to %d", b->lanes, (int)CN_ASK_LANES_MAX);
    for (int32_t i = 0; !err && i < b->lanes; i++)
        err = cn_session_open(
            &session[i], b->host,
            &(cn_session_opts){.folder = b->folder, .budget = b->budget, .is_trial = true}, &diag);
    if (!err)
        err = cn_questions_run(
            &scores,
            &(cn_questions_opts){.host = b->host,
                                 .session = session,
                                 .lanes = b->lanes,
                                 .path = b->questions,
                                 .out = b->out_file,
                                 .ask = {.output_tokens_max = b->output, .cancel = b->cancel},
                                 .on_question = on_question,
                                 .ctx = b},
            &diag);
    const double wall_s = (double)(cn_clock_ns() - b->begin_ns) / 1e9;
    const int    status =
        err ? cn_cli_fail(&b->cli, err, &diag) : put_scores(b, session[0], &scores, wall_s);
    for (int32_t i = 0; i < b->lanes; i++) cn_session_close(session[i]);
    return status;
}

/* retrieval_score.c - What counts as right, and the sums. */
#include "runtime/retrieval.h"

#include <string.h>

/* ---- Answers and calls -------------------------------------------------------------- */

/* The text without the blanks around it. */
static const char *trim(const char *text, size_t *bytes_out) {
    static const char blanks[] = " \t\n\v\f\r";
    const char       *begin = text + strspn(text, blanks);
    size_t            bytes = strlen(begin);
    while (bytes > 0 && strchr(blanks, begin[bytes - 1])) bytes--;
    *bytes_out = bytes;
    return begin;
}

bool cn_is_answer(const char *got, const char *want) {
    size_t got_bytes, want_bytes;
    got = trim(got, &got_bytes);
    want = trim(want, &want_bytes);
    return got_bytes == want_bytes && memcmp(got, want, got_bytes) == 0;
}

/* The call as JSON if it is valid, freed by cn_json_free; else NULL. */
static cn_json_doc *read_call(const char *sampled) {
    const cn_json_limits limits = {CN_TOOL_ARGUMENT_BYTES_MAX, 32, 10000};
    cn_json_doc         *doc;
    if (cn_json_parse(&doc, sampled, strlen(sampled), "call", &limits, NULL)) return NULL;
    const char *name = cn_json_string(cn_json_get(cn_json_root(doc), "name"));
    const bool  is_valid =
        name && cn_tool_find(name) &&
        cn_json_type_of(cn_json_get(cn_json_root(doc), "arguments")) == CN_JSON_OBJECT;
    if (is_valid) return doc;
    cn_json_free(doc);
    return NULL;
}

bool cn_is_valid_call(const char *sampled) {
    cn_json_doc *doc = read_call(sampled);
    cn_json_free(doc);
    return doc != NULL;
}

bool cn_is_call(const char *sampled, const cn_json *want) {
    cn_json_doc *doc = read_call(sampled);
    if (!doc) return false;
    const cn_json *got = cn_json_root(doc);
    const bool     is = cn_json_is_equal(cn_json_get(got, "name"), cn_json_get(want, "name")) &&
                    cn_json_is_equal(cn_json_get(got, "arguments"), cn_json_get(want, "arguments"));
    cn_json_free(doc);
    return is;
}

bool cn_are_calls(const cn_asked *asked, const cn_json *want) {
    const cn_json *w = cn_json_first(want);
    int32_t        i = 0;
    while (i < asked->calls && w && cn_is_call(asked->call[i], w)) {
        i++;
        w = cn_json_next(w);
    }
    return i == asked->calls && !w;
}

/* ---- Sums --------------------------------------------------------------------------- */

void cn_score_turn(cn_score *s, const cn_asked *asked, const char *answer, const cn_json *calls,
                   bool *right_out) {
    const bool is_answer = cn_is_answer(cn_buf_str(&asked->text), answer);
    const bool are_calls = cn_are_calls(asked, calls);
    s->turns++;
    s->answers_right += is_answer;
    s->calls += asked->calls;
    for (int32_t i = 0; i < asked->calls; i++) s->calls_valid += cn_is_valid_call(asked->call[i]);
    if (asked->calls || cn_json_first(calls)) {
        s->call_turns++;
        s->call_turns_right += are_calls;
    }
    s->output_tokens += asked->bill.output_tokens;
    s->prompt_tokens += asked->bill.prompt_tokens;
    *right_out = is_answer && are_calls;
}

void cn_score_add(cn_score *sum, const cn_score *s) {
    sum->questions += s->questions;
    sum->right += s->right;
    sum->turns += s->turns;
    sum->answers_right += s->answers_right;
    sum->calls += s->calls;
    sum->calls_valid += s->calls_valid;
    sum->call_turns += s->call_turns;
    sum->call_turns_right += s->call_turns_right;
    sum->output_tokens += s->output_tokens;
    sum->prompt_tokens += s->prompt_tokens;
}

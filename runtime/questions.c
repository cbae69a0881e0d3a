/* questions.c - Line by line, each checked before it is used. */
#include "runtime/questions.h"

#include "base/file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

cn_err cn_questions_open(cn_questions *q, const char *path, cn_diag *diag) {
    *q = (cn_questions){.path = path};
    return cn_file_read(&q->file, path, CN_QUESTIONS_BYTES_MAX, diag);
}

void cn_questions_close(cn_questions *q) {
    cn_buf_release(&q->file);
}

static bool is_turn(const cn_json *turn) {
    const cn_json *calls = cn_json_get(turn, "calls");
    if (!cn_json_string(cn_json_get(turn, "q")) || !cn_json_string(cn_json_get(turn, "answer")))
        return false;
    if (calls && cn_json_type_of(calls) != CN_JSON_ARRAY) return false;
    for (const cn_json *c = cn_json_first(calls); c; c = cn_json_next(c))
        if (!cn_json_string(cn_json_get(c, "name")) ||
            cn_json_type_of(cn_json_get(c, "arguments")) != CN_JSON_OBJECT)
            return false;
    return true;
}

static cn_err check(const cn_questions *q, const cn_json *item, cn_diag *diag) {
    const cn_json *turns = cn_json_get(item, "turns");
    const char    *type = cn_json_string(cn_json_get(item, "type"));
    const int64_t  count = cn_json_count(turns);
    if (!type || cn_json_type_of(turns) != CN_JSON_ARRAY)
        return CN_FAIL(diag, CN_ECORRUPT, "%s: line %" PRId64 " has no \"type\" or no \"turns\"",
                       q->path, q->line);
    if (strlen(type) >= CN_QUESTION_TYPE_BYTES)
        return CN_FAIL(diag, CN_ETOOBIG, "%s: line %" PRId64 ": a type of %zu bytes, limit %d",
                       q->path, q->line, strlen(type), (int)CN_QUESTION_TYPE_BYTES - 1);
    if (count < 1 || count > CN_QUESTION_TURNS_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "%s: line %" PRId64 " has %" PRId64 " turns, want 1 to %d",
                       q->path, q->line, count, (int)CN_QUESTION_TURNS_MAX);
    for (const cn_json *turn = cn_json_first(turns); turn; turn = cn_json_next(turn))
        if (!is_turn(turn))
            return CN_FAIL(diag, CN_ECORRUPT,
                           "%s: line %" PRId64 ": a turn wants \"q\", \"answer\" and, if it has "
                           "\"calls\", each with \"name\" and \"arguments\"",
                           q->path, q->line);
    return CN_OK;
}

static cn_err parse(const cn_questions *q, const char *text, size_t bytes, cn_json_doc **out,
                    cn_diag *diag) {
    const cn_json_limits limits = {CN_QUESTION_BYTES_MAX, 32, 100000};
    char                 name[CN_DIAG_TEXT_BYTES / 2];
    snprintf(name, sizeof(name), "%s: line %" PRId64, q->path, q->line);
    CN_TRY(cn_json_parse(out, text, bytes, name, &limits, diag));
    const cn_err err = check(q, cn_json_root(*out), diag);
    if (!err) return CN_OK;
    cn_json_free(*out);
    *out = NULL;
    return err;
}

cn_err cn_questions_next(cn_questions *q, cn_json_doc **out, cn_diag *diag) {
    *out = NULL;
    while (q->at < q->file.bytes) {
        const char  *text = q->file.data + q->at;
        const size_t left = q->file.bytes - q->at;
        const char  *newline = memchr(text, '\n', left);
        const size_t bytes = newline ? (size_t)(newline - text) : left;
        q->at += bytes + 1;
        q->line++;
        if (strspn(text, " \t\r") < bytes) return parse(q, text, bytes, out, diag);
    }
    return CN_OK;
}

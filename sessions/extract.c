/* extract.c - Turns read from the ledger, a paragraph each, as many as fit. */
#include "sessions/extract.h"

#include "base/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- Reading ----------------------------------------------------------------------- */

/* Runs of blanks and control characters become one blank; at most `bytes_max` bytes, cut between
 * characters. */
static char *one_line(cn_ledger_text text, size_t bytes_max) {
    const unsigned char *p = text.data;
    const size_t         room = (text.bytes < bytes_max ? text.bytes : bytes_max) + 4;
    char                *out = malloc(room);
    size_t               at = 0, i = 0;
    if (!out) return NULL;
    for (; i < text.bytes && at < bytes_max; i++) {
        const bool is_blank = p[i] <= ' ' || p[i] == 0x7f;
        if (is_blank && (at == 0 || out[at - 1] == ' ')) continue;
        out[at++] = is_blank ? ' ' : (char)p[i];
    }
    const bool is_cut = i < text.bytes;
    while (is_cut && at > 0 && ((unsigned char)p[i] & 0xc0) == 0x80) i--, at--;
    while (at > 0 && out[at - 1] == ' ') at--;
    memcpy(out + at, is_cut ? "..." : "", is_cut ? 4 : 1);
    return out;
}

static char *whole(cn_ledger_text text) {
    char *out = malloc(text.bytes + 1);
    if (!out) return NULL;
    if (text.bytes) memcpy(out, text.data, text.bytes);
    out[text.bytes] = 0;
    return out;
}

static bool is_compaction(const cn_extract_turn *t) {
    return t->origin == CN_ORIGIN_SUMMARY || t->origin == CN_ORIGIN_EXTRACT;
}

typedef struct loading {
    cn_extract *x;
    bool        failed;
} loading;

static void on_turn(void *ctx, const cn_ledger_turn *t) {
    loading    *l = ctx;
    cn_extract *x = l->x;
    if (x->turns == x->room) {
        const int64_t    room = x->room ? 2 * x->room : 64;
        cn_extract_turn *more = realloc(x->turn, (size_t)room * sizeof(*more));
        l->failed |= !more;
        if (!more) return;
        x->turn = more;
        x->room = room;
    }
    cn_extract_turn *to = &x->turn[x->turns++];
    *to = (cn_extract_turn){.turn = t->turn, .origin = t->origin, .stop = t->stop};
    to->question = one_line(t->question, CN_EXTRACT_QUESTION_BYTES);
    to->answer =
        is_compaction(to) ? whole(t->answer) : one_line(t->answer, CN_EXTRACT_ANSWER_BYTES);
    l->failed |= !to->question || !to->answer;
}

/* Rows come in the order of the turns. */
static cn_extract_turn *find(cn_extract *x, int32_t turn) {
    for (int64_t i = x->turns - 1; i >= 0; i--)
        if (x->turn[i].turn == turn) return &x->turn[i];
    return NULL;
}

static void on_step(void *ctx, const cn_ledger_step *s) {
    cn_extract_turn *t = find(((loading *)ctx)->x, s->turn);
    if (t) t->tokens += s->tokens;
}

/* The first of these that a call has says best what it was about. */
static const char *const telling[] = {"path", "query", "pattern", "command", "name"};

static void put_what(cn_buf *to, cn_ledger_text arguments) {
    const cn_json_limits limits = {1 << 16, 32, 10000};
    cn_json_doc         *doc;
    if (cn_json_parse(&doc, arguments.data, arguments.bytes, "arguments", &limits, NULL)) return;
    for (size_t i = 0; i < sizeof(telling) / sizeof(telling[0]); i++) {
        const char *value = cn_json_string(cn_json_get(cn_json_root(doc), telling[i]));
        if (!value || !*value) continue;
        char *line = one_line((cn_ledger_text){value, strlen(value)}, CN_EXTRACT_CALL_BYTES);
        if (line) cn_buf_printf(to, " %s", line);
        free(line);
        break;
    }
    cn_json_free(doc);
}

static void on_call(void *ctx, const cn_ledger_call *c) {
    cn_extract_turn *t = find(((loading *)ctx)->x, c->turn);
    if (!t || t->calls++ >= CN_EXTRACT_CALLS) return;
    cn_buf_printf(&t->used, "%s%s", t->calls > 1 ? ", " : "", c->name);
    put_what(&t->used, c->arguments);
    if (c->state != CN_CALL_DONE) cn_buf_printf(&t->used, " (%s)", cn_call_state_name(c->state));
}

void cn_extract_release(cn_extract *x) {
    for (int64_t i = 0; i < x->turns; i++) {
        free(x->turn[i].question);
        free(x->turn[i].answer);
        cn_buf_release(&x->turn[i].used);
    }
    free(x->turn);
    *x = (cn_extract){0};
}

cn_err cn_extract_load(cn_extract *out, cn_ledger *l, const char *session, cn_diag *diag) {
    loading load = {.x = out};
    *out = (cn_extract){0};
    cn_err err = cn_ledger_turns(l, session, 0, on_turn, &load, diag);
    if (!err) err = cn_ledger_steps(l, session, 0, on_step, &load, diag);
    if (!err) err = cn_ledger_calls(l, session, 0, on_call, &load, diag);
    for (int64_t i = 0; i < out->turns; i++) load.failed |= out->turn[i].used.err != CN_OK;
    if (!err && load.failed)
        err = CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " turns", out->turns);
    if (err) cn_extract_release(out);
    return err;
}

int32_t cn_extract_first_turn(const cn_extract *x) {
    return x->turns == 0 ? 0 : is_compaction(&x->turn[0]) ? 1 : x->turn[0].turn;
}

/* ---- Writing ----------------------------------------------------------------------- */

static void put_turn(cn_buf *to, const cn_extract_turn *t) {
    cn_buf_printf(to, "turn %d: %s\n", t->turn, t->question);
    if (t->stop == CN_STOP_END)
        cn_buf_printf(to, "answer: %s\n", t->answer);
    else
        cn_buf_printf(to, "answer (%s): %s\n", cn_stop_name(t->stop), t->answer);
    if (t->calls == 0) return;
    cn_buf_printf(to, "used: %s", cn_buf_str(&t->used));
    if (t->calls > CN_EXTRACT_CALLS) cn_buf_printf(to, " and %d more", t->calls - CN_EXTRACT_CALLS);
    cn_buf_put_str(to, "\n");
}

/* Paragraphs, each a run of bytes of `text`; which of them are in. */
typedef struct paragraphs {
    cn_buf   text;
    size_t  *end; // [count]
    int64_t *tokens;
    bool    *is_in;
    int64_t  count, room;
    int64_t  earlier; // the first ones: of an earlier summary
} paragraphs;

static void release(paragraphs *p) {
    cn_buf_release(&p->text);
    free(p->end);
    free(p->tokens);
    free(p->is_in);
}

/* All behind the last paragraph is one. */
static cn_err end_paragraph(paragraphs *p, const cn_tokenizer *tokenizer, cn_diag *diag) {
    cn_tokens t = {0};
    if (p->text.err) return CN_FAIL(diag, p->text.err, "no memory for an extract");
    if (p->count == p->room) {
        const int64_t room = p->room ? 2 * p->room : 64;
        size_t       *end = realloc(p->end, (size_t)room * sizeof(*end));
        if (end) p->end = end;
        int64_t *tokens = realloc(p->tokens, (size_t)room * sizeof(*tokens));
        if (tokens) p->tokens = tokens;
        bool *is_in = realloc(p->is_in, (size_t)room * sizeof(*is_in));
        if (is_in) p->is_in = is_in;
        if (!end || !tokens || !is_in) return CN_FAIL(diag, CN_ENOMEM, "no memory for an extract");
        p->room = room;
    }
    const size_t begin = p->count ? p->end[p->count - 1] : 0;
    CN_TRY(cn_tokenizer_encode(tokenizer, &t, p->text.data + begin, p->text.bytes - begin,
                               CN_TOKENIZE_TEXT, diag));
    p->end[p->count] = p->text.bytes;
    p->tokens[p->count] = t.count + 1; // the blank line
    p->is_in[p->count++] = false;
    cn_tokens_release(&t);
    return CN_OK;
}

/* Those of an earlier compaction: its text, but for an extract's first line. */
static cn_err take_earlier(paragraphs *p, const cn_extract_turn *t, const cn_tokenizer *tokenizer,
                           cn_diag *diag) {
    const char *at = t->answer;
    if (t->origin == CN_ORIGIN_EXTRACT) {
        at = strstr(at, "\n\n");
        at = at ? at + 2 : "";
    }
    while (*at) {
        const char  *end = strstr(at, "\n\n");
        const size_t bytes = end ? (size_t)(end - at) : strlen(at);
        cn_buf_put(&p->text, at, bytes);
        if (bytes && at[bytes - 1] != '\n') cn_buf_put_str(&p->text, "\n");
        CN_TRY(end_paragraph(p, tokenizer, diag));
        at += bytes + (end ? 2 : 0);
    }
    p->earlier = p->count;
    return CN_OK;
}

/* Mark paragraphs first .. last (either may be the greater) as long as they fit. */
static int64_t choose(paragraphs *p, int64_t first, int64_t last, int64_t room) {
    const int64_t step = first <= last ? 1 : -1;
    for (int64_t i = first; i != last + step; i += step) {
        if (p->tokens[i] > room) break;
        room -= p->tokens[i];
        p->is_in[i] = true;
    }
    return room;
}

static void put_chosen(const cn_extract *x, int64_t turns, const paragraphs *p, cn_buf *out) {
    int64_t left = 0;
    for (int64_t i = p->earlier; i < p->count; i++) left += !p->is_in[i];
    bool is_shortened = false;
    for (int64_t i = 0; i < p->earlier; i++) is_shortened |= !p->is_in[i];
    cn_buf_printf(out, "Turns %d to %d, in short", cn_extract_first_turn(x),
                  x->turn[turns - 1].turn);
    if (left) cn_buf_printf(out, "; %" PRId64 " of them are left out", left);
    if (is_shortened) cn_buf_put_str(out, "; the earlier ones are shortened");
    cn_buf_put_str(out, ".\n");
    for (int64_t i = 0; i < p->count; i++) {
        if (!p->is_in[i]) continue;
        const size_t begin = i ? p->end[i - 1] : 0;
        cn_buf_put_str(out, "\n");
        cn_buf_put(out, p->text.data + begin, p->end[i] - begin);
    }
}

cn_err cn_extract_put(const cn_extract *x, int64_t turns, const cn_tokenizer *tokenizer,
                      int64_t tokens_max, cn_buf *out, cn_diag *diag) {
    enum { HEAD_TOKENS = 24 };
    paragraphs p = {0};
    cn_err     err = CN_OK;
    cn_assert(turns > 0 && turns <= x->turns);
    for (int64_t i = 0; !err && i < turns; i++) {
        if (is_compaction(&x->turn[i])) {
            err = take_earlier(&p, &x->turn[i], tokenizer, diag);
            continue;
        }
        put_turn(&p.text, &x->turn[i]);
        err = end_paragraph(&p, tokenizer, diag);
    }
    if (!err) {
        const int64_t room = tokens_max - HEAD_TOKENS;
        int64_t       earlier = 0;
        for (int64_t i = 0; i < p.earlier; i++) earlier += p.tokens[i];
        if (earlier > room / 2) earlier = room / 2;
        int64_t left = room - earlier;
        if (p.count > p.earlier) left = choose(&p, p.count - 1, p.earlier, left);
        // A summary says first what matters, an extract last.
        if (p.earlier && x->turn[0].origin == CN_ORIGIN_SUMMARY)
            choose(&p, 0, p.earlier - 1, left + earlier);
        else if (p.earlier)
            choose(&p, p.earlier - 1, 0, left + earlier);
        put_chosen(x, turns, &p, out);
        if (out->err) err = CN_FAIL(diag, out->err, "no memory for an extract");
    }
    release(&p);
    return err;
}

/* ---- Checking ---------------------------------------------------------------------- */

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (unsigned char)c >= 0x80;
}

static bool has_word(const char *text, const char *word, size_t bytes) {
    for (const char *p = text; (p = strcasestr(p, word)); p++)
        if ((p == text || !is_word(p[-1])) && !is_word(p[bytes])) return true;
    return false;
}

bool cn_extract_is_about(const cn_extract *x, int64_t turns, const char *text) {
    char word[64];
    for (const char *p = text; *p;) {
        size_t bytes = 0;
        while (is_word(p[bytes])) bytes++;
        if (bytes >= CN_EXTRACT_WORD_BYTES && bytes < sizeof(word)) {
            memcpy(word, p, bytes);
            word[bytes] = 0;
            for (int64_t i = 0; i < turns; i++)
                if (has_word(x->turn[i].question, word, bytes) ||
                    has_word(x->turn[i].answer, word, bytes) ||
                    has_word(cn_buf_str(&x->turn[i].used), word, bytes))
                    return true;
        }
        p += bytes ? bytes : 1;
    }
    return false;
}

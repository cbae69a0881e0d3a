/* quote.c - What a view costs, and why. */
#include "runtime/quote.h"

#include <string.h>

enum { NAMED = 3 }; // files of a reason

double cn_quote_seconds(const cn_quote *p) {
    if (p->missing_tokens == 0) return 0;
    return p->prefill_ns > 0 ? (double)p->missing_tokens * p->prefill_ns / 1e9 : -1;
}

/* What there is to say of one besides its reason. */
static void put_detail(cn_buf *to, const cn_context_miss *m) {
    if (m->why == CN_MISS_CHANGED && m->line)
        cn_buf_printf(to, "line %lld, token %d", (long long)m->line, m->token);
    else if (m->why == CN_MISS_CHANGED)
        cn_buf_put_str(to, "where is not known: what it was has left the store");
    else if (m->from)
        cn_buf_printf(to, "was %s", m->from);
}

static void print_reason(FILE *to, const cn_quote *p, cn_miss why) {
    int64_t     documents = 0, tokens = 0, files = 0;
    const char *last = NULL;
    cn_buf      names = {0};
    for (int64_t i = 0; i < p->misses; i++) {
        const cn_context_miss *m = &p->miss[i];
        if (m->why != why) continue;
        documents++;
        tokens += m->tokens;
        if (last && strcmp(last, m->path) == 0) continue;
        last = m->path;
        if (files++ >= NAMED) continue;
        cn_buf detail = {0};
        put_detail(&detail, m);
        cn_buf_printf(&names, "%s%s%s%s%s", names.bytes ? ", " : "", m->path,
                      detail.bytes ? " (" : "", cn_buf_str(&detail), detail.bytes ? ")" : "");
        cn_buf_release(&detail);
    }
    if (documents)
        fprintf(to, "  %-9s %s document%s, %s tok: %s", cn_miss_name(why), cn_cli_count(documents),
                documents == 1 ? "" : "s", cn_cli_count(tokens), cn_buf_str(&names));
    if (files > NAMED) fprintf(to, " and %s files more", cn_cli_count(files - NAMED));
    if (documents) fputc('\n', to);
    cn_buf_release(&names);
}

void cn_quote_print(FILE *to, const cn_quote *p) {
    const double seconds = cn_quote_seconds(p);
    fprintf(to, "context %s tok: %s cached, %s to prefill",
            cn_cli_count(p->cached_tokens + p->missing_tokens), cn_cli_count(p->cached_tokens),
            cn_cli_count(p->missing_tokens));
    if (seconds > 0) fprintf(to, ", about %.*f s", seconds < 10 ? 1 : 0, seconds);
    if (seconds < 0) fputs(", no rate measured yet", to);
    fputc('\n', to);
    for (int i = 0; i < CN_MISS_COUNT; i++) print_reason(to, p, (cn_miss)i);
}

void cn_quote_print_misses(FILE *to, const cn_quote *p) {
    for (int64_t i = 0; i < p->misses; i++) {
        const cn_context_miss *m = &p->miss[i];
        cn_buf                 detail = {0};
        put_detail(&detail, m);
        fprintf(to, "missed %6s tok  %s lines %d-%d: %s%s%s\n", cn_cli_count(m->tokens), m->path,
                m->first_line, m->first_line + (m->lines ? m->lines - 1 : 0), cn_miss_name(m->why),
                detail.bytes ? ", " : "", cn_buf_str(&detail));
        cn_buf_release(&detail);
    }
}

static void put_missed(cn_json_writer *w, const cn_context_miss *m) {
    cn_json_open(w, '{');
    cn_json_field_string(w, "path", m->path);
    cn_json_field_int64(w, "first_line", m->first_line);
    cn_json_field_int64(w, "lines", m->lines);
    cn_json_field_int64(w, "tokens", m->tokens);
    cn_json_field_string(w, "reason", cn_miss_name(m->why));
    if (m->why == CN_MISS_CHANGED && m->line) {
        cn_json_field_int64(w, "line", m->line);
        cn_json_field_int64(w, "token", m->token);
    } else if (m->why == CN_MISS_CHANGED) {
        cn_json_put_key(w, "line");
        cn_json_put_null(w);
        cn_json_put_key(w, "token");
        cn_json_put_null(w);
    }
    if (m->from) cn_json_field_string(w, "from", m->from);
    cn_json_close(w, '}');
}

void cn_quote_put_json(cn_json_writer *w, const cn_quote *p) {
    const double seconds = cn_quote_seconds(p);
    cn_json_field_open(w, "price", '{');
    cn_json_field_int64(w, "cached_tokens", p->cached_tokens);
    cn_json_field_int64(w, "to_prefill_tokens", p->missing_tokens);
    if (seconds >= 0) {
        cn_json_field_f64(w, "expected_s", seconds, 4);
    } else {
        cn_json_put_key(w, "expected_s");
        cn_json_put_null(w);
    }
    cn_json_close(w, '}');
    cn_json_field_open(w, "missed", '[');
    for (int64_t i = 0; i < p->misses; i++) put_missed(w, &p->miss[i]);
    cn_json_close(w, ']');
}

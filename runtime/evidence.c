/* evidence.c - The rows of a turn as they come, then what they leave. */
#include "runtime/evidence.h"

/* One turn that is being shown. */
typedef struct shown {
    FILE           *out; // NULL: to w
    cn_json_writer *w;
    int32_t         turn;   // of a list; 0: none yet
    int64_t         ranges; // shown
    double          listed, conversation;
} shown;

static void put_line(shown *s, const char *first, double share, const char *what) {
    fprintf(s->out, "%s%5.1f %%  %s\n", first, 100 * share, what);
}

static void begin(shown *s) {
    s->ranges = 0;
    s->listed = s->conversation = 0;
    if (!s->out) cn_json_field_open(s->w, "evidence", '[');
}

static void put_range(shown *s, const cn_ledger_read *r) {
    if (!s->out) {
        cn_json_open(s->w, '{');
        cn_json_field_string(s->w, "path", r->path);
        cn_json_field_open(s->w, "lines", '[');
        cn_json_put_int64(s->w, r->first_line);
        cn_json_put_int64(s->w, r->last_line);
        cn_json_close(s->w, ']');
        cn_json_field_f64(s->w, "share", r->share, 4);
        cn_json_close(s->w, '}');
    } else {
        fprintf(s->out, "%s%5.1f %%  %s:%d", s->ranges ? "      " : "read  ", 100 * r->share,
                r->path, r->first_line);
        if (r->last_line > r->first_line) fprintf(s->out, "-%d", r->last_line);
        fputs("\n", s->out);
    }
}

static void put_row(shown *s, const cn_ledger_read *r) {
    if (!r->path[0]) {
        s->conversation = r->share;
        return;
    }
    if (s->out && s->ranges == CN_EVIDENCE_SHOWN) return;
    put_range(s, r);
    s->ranges++;
    s->listed += r->share;
}

static void end(shown *s, const char *why) {
    const double left = 1 - s->listed - s->conversation, elsewhere = left > 0 ? left : 0;
    if (s->out && why) {
        fprintf(s->out, "read  nothing that is known: %s\n", why);
    } else if (s->out) {
        put_line(s, s->ranges ? "      " : "read  ", s->conversation, "this conversation");
        put_line(s, "      ", elsewhere, "elsewhere: headers of documents, lines not listed");
    } else {
        cn_json_close(s->w, ']');
        cn_json_field_open(s->w, "evidence_rest", '{');
        if (why) {
            cn_json_field_string(s->w, "why", why);
        } else {
            cn_json_field_f64(s->w, "conversation", s->conversation, 4);
            cn_json_field_f64(s->w, "elsewhere", elsewhere, 4);
        }
        cn_json_close(s->w, '}');
    }
}

static void show(shown *s, const cn_evidence *e) {
    begin(s);
    for (int64_t i = 0; i < e->reads; i++) put_row(s, &e->read[i]);
    end(s, cn_evidence_why(e));
}

void cn_evidence_print(FILE *out, const cn_evidence *e) {
    show(&(shown){.out = out}, e);
}

void cn_evidence_put_json(cn_json_writer *w, const cn_evidence *e) {
    show(&(shown){.w = w}, e);
}

/* ---- From the ledger ------------------------------------------------------------------- */

static void end_turn(shown *s) {
    if (!s->turn) return;
    end(s, NULL);
    if (!s->out) cn_json_close(s->w, '}');
}

static void on_read(void *ctx, int32_t turn, const cn_ledger_read *r) {
    shown *s = ctx;
    if (turn != s->turn) {
        end_turn(s);
        s->turn = turn;
        if (s->out) fprintf(s->out, "turn %d\n", turn);
        if (!s->out) {
            cn_json_open(s->w, '{');
            cn_json_field_int64(s->w, "turn", turn);
        }
        begin(s);
    }
    put_row(s, r);
}

cn_err cn_evidence_list(cn_listing *l, cn_ledger *ledger, const char *session, int32_t turn,
                        cn_diag *diag) {
    shown s = {.out = l->cli->json ? NULL : stdout, .w = &l->w};
    if (!s.out) cn_json_field_open(s.w, "evidence", '[');
    const cn_err err = cn_ledger_reads(ledger, session, turn, on_read, &s, diag);
    end_turn(&s);
    if (!s.out) cn_json_close(s.w, ']');
    if (!err && !s.turn && s.out) fputs("no evidence is kept\n", s.out);
    l->rows += s.turn != 0;
    return err;
}

/* moves.c - What came into a view with a turn, and what went: two generations side by side. */
#include "runtime/moves.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The documents that a turn ended with. */
typedef struct view {
    int64_t             generation; // 0: none
    cn_ledger_document *document;   // [documents] in order; paths malloc'ed
    int64_t             documents, room, tokens;
    bool                failed;
} view;

typedef struct moves {
    int32_t turn;
    view    before, now;
    char    commit[65], branch[256];
} moves;

static void on_step(void *ctx, const cn_ledger_step *step) {
    moves *m = ctx;
    if (!step->generation) return;
    if (step->turn < m->turn) m->before.generation = step->generation;
    if (step->turn == m->turn) m->now.generation = step->generation;
}

static void on_document(void *ctx, const cn_ledger_document *d) {
    view *v = ctx;
    if (v->failed) return;
    if (v->documents == v->room) {
        const int64_t       room = v->room ? 2 * v->room : 256;
        cn_ledger_document *more = realloc(v->document, (size_t)room * sizeof(*more));
        v->failed = !more;
        if (!more) return;
        v->document = more;
        v->room = room;
    }
    v->document[v->documents] = *d;
    v->document[v->documents].path = strdup(d->path);
    v->failed = !v->document[v->documents].path;
    v->documents += !v->failed;
    v->tokens += d->piece.tokens;
}

static void on_generation(void *ctx, const cn_ledger_generation *g) {
    moves *m = ctx;
    snprintf(m->commit, sizeof(m->commit), "%s", g->commit);
    snprintf(m->branch, sizeof(m->branch), "%s", g->branch);
}

static cn_err load_view(view *v, cn_ledger *l, const char *session, cn_diag *diag) {
    if (!v->generation) return CN_OK;
    CN_TRY(cn_ledger_documents(l, session, v->generation, on_document, v, diag));
    return v->failed ? CN_FAIL(diag, CN_ENOMEM, "no memory for a session's documents") : CN_OK;
}

static cn_err load(moves *m, cn_ledger *l, const char *session, cn_diag *diag) {
    CN_TRY(cn_ledger_steps(l, session, m->turn, on_step, m, diag)); // the turn is there
    CN_TRY(cn_ledger_steps(l, session, 0, on_step, m, diag));
    if (!m->now.generation)
        return CN_FAIL(diag, CN_ENOTFOUND, "turn %d committed no step: its view is not known",
                       m->turn);
    CN_TRY(cn_ledger_generation_get(l, m->now.generation, on_generation, m, diag));
    CN_TRY(load_view(&m->before, l, session, diag));
    return load_view(&m->now, l, session, diag);
}

static void release(view *v) {
    for (int64_t i = 0; i < v->documents; i++) free((char *)(uintptr_t)v->document[i].path);
    free(v->document);
}

static int by_path_and_key(const void *a, const void *b) {
    const cn_ledger_document *x = *(const cn_ledger_document *const *)a,
                             *y = *(const cn_ledger_document *const *)b;
    const int order = strcmp(x->path, y->path);
    return order ? order : memcmp(x->piece.key.bytes, y->piece.key.bytes, CN_HASH_BYTES);
}

/* Those of `in` that `other` has not, in order. */
static int64_t only_in(const view *in, const view *other, const cn_ledger_document **out) {
    const cn_ledger_document **sorted =
        malloc(((size_t)other->documents + 1) * sizeof(const cn_ledger_document *));
    int64_t count = 0;
    if (!sorted) return -1;
    for (int64_t i = 0; i < other->documents; i++) sorted[i] = &other->document[i];
    qsort(sorted, (size_t)other->documents, sizeof(*sorted), by_path_and_key);
    for (int64_t i = 0; i < in->documents; i++) {
        const cn_ledger_document *d = &in->document[i];
        if (!bsearch(&d, sorted, (size_t)other->documents, sizeof(*sorted), by_path_and_key))
            out[count++] = d;
    }
    free(sorted);
    return count;
}

static int64_t tokens_of(const cn_ledger_document *const *d, int64_t count) {
    int64_t tokens = 0;
    for (int64_t i = 0; i < count; i++) tokens += d[i]->piece.tokens;
    return tokens;
}

static void put_list(cn_json_writer *w, const char *name, const cn_ledger_document *const *d,
                     int64_t count) {
    cn_json_field_open(w, name, '[');
    for (int64_t i = 0; i < count; i++) {
        cn_json_open(w, '{');
        cn_json_field_string(w, "path", d[i]->path);
        cn_json_field_int64(w, "first_line", d[i]->piece.first_line);
        cn_json_field_int64(w, "lines", d[i]->piece.lines);
        cn_json_field_int64(w, "tokens", d[i]->piece.tokens);
        cn_json_close(w, '}');
    }
    cn_json_close(w, ']');
}

static void print_list(const char *name, const cn_ledger_document *const *d, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        printf("%-5s %6s tok  %s lines %d-%d\n", name, cn_cli_count(d[i]->piece.tokens), d[i]->path,
               d[i]->piece.first_line,
               d[i]->piece.first_line + (d[i]->piece.lines ? d[i]->piece.lines - 1 : 0));
}

static int show(const cn_cli *cli, const char *session, const moves *m) {
    const size_t               room = (size_t)(m->now.documents + m->before.documents + 1);
    const cn_ledger_document **came = malloc(2 * room * sizeof(const cn_ledger_document *));
    const int64_t              in = came ? only_in(&m->now, &m->before, came) : -1;
    const cn_ledger_document **left = came + room;
    const int64_t              out = in < 0 ? -1 : only_in(&m->before, &m->now, left);
    int                        status = CN_EXIT_DONE;
    if (out < 0) {
        cn_diag diag = {0};
        status = cn_cli_fail(cli, CN_FAIL(&diag, CN_ENOMEM, "no memory for a view"), &diag);
    } else if (cli->json) {
        cn_buf         buf = {0};
        cn_json_writer w = cn_json_writer_on(&buf);
        cn_json_open(&w, '{');
        cn_json_field_string(&w, "session", session);
        cn_json_field_int64(&w, "turn", m->turn);
        cn_json_field_string(&w, "commit", m->commit);
        cn_json_field_string(&w, "branch", m->branch);
        cn_json_field_int64(&w, "documents", m->now.documents);
        cn_json_field_int64(&w, "context_tokens", m->now.tokens);
        put_list(&w, "came", came, in);
        put_list(&w, "went", left, out);
        cn_json_close(&w, '}');
        status = cn_cli_put_json(cli, &buf);
    } else {
        printf("turn %d%s%.12s%s%s%s · %s documents, %s tok: %s came (%s tok), %s went (%s tok)\n",
               m->turn, m->commit[0] ? " · commit " : "", m->commit, m->branch[0] ? " (" : "",
               m->branch, m->branch[0] ? ")" : "", cn_cli_count(m->now.documents),
               cn_cli_count(m->now.tokens), cn_cli_count(in), cn_cli_count(tokens_of(came, in)),
               cn_cli_count(out), cn_cli_count(tokens_of(left, out)));
        print_list("came", came, in);
        print_list("went", left, out);
    }
    free(came);
    return status;
}

int cn_print_moves(const cn_cli *cli, cn_ledger *ledger, const char *session, int32_t turn) {
    moves        m = {.turn = turn};
    cn_diag      diag = {0};
    const cn_err err = load(&m, ledger, session, &diag);
    const int    status = err ? cn_cli_fail(cli, err, &diag) : show(cli, session, &m);
    release(&m.before);
    release(&m.now);
    return status;
}

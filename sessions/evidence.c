/* evidence.c - Sums by position, folded into lines, merged into ranges. */
#include "sessions/evidence.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The mass of a line, or a part of it. */
typedef struct cn_evidence_line {
    int64_t file; // in files
    int32_t line;
    double  mass;
} line;

void cn_evidence_release(cn_evidence *e) {
    cn_paths_release(&e->files);
    free(e->line);
    free(e->sum);
    *e = (cn_evidence){0};
}

cn_err cn_evidence_reserve(cn_evidence *e, int64_t view_tokens, cn_diag *diag) {
    cn_assert(e->waiting == 0);
    if (view_tokens > e->room) {
        double *more = realloc(e->sum, (size_t)view_tokens * sizeof(*more));
        if (!more)
            return CN_FAIL(diag, CN_ENOMEM, "no memory for evidence of %" PRId64 " tokens",
                           view_tokens);
        memset(more, 0, (size_t)view_tokens * sizeof(*more));
        e->sum = more;
        e->room = view_tokens;
    }
    e->view_tokens = view_tokens;
    return CN_OK;
}

void cn_evidence_add(cn_evidence *e, const cn_read *read) {
    int32_t i = 0;
    e->tokens++;
    e->waiting++;
    e->blind += read->tokens == 0;
    for (; i < read->tokens && read->position[i] < e->view_tokens; i++)
        e->sum[read->position[i]] += (double)read->weight[i];
    for (; i < read->tokens; i++) e->conversation += (double)read->weight[i];
}

/* ---- Folding ------------------------------------------------------------------------- */

static cn_err find_file(cn_evidence *e, const char *path, int64_t *out, cn_diag *diag) {
    for (*out = e->files.count - 1; *out >= 0; --*out) // pieces of a file follow each other
        if (strcmp(e->files.path[*out], path) == 0) return CN_OK;
    if (cn_paths_put(&e->files, path)) return CN_FAIL(diag, CN_ENOMEM, "no memory for a path");
    *out = e->files.count - 1;
    return CN_OK;
}

static cn_err put_line(cn_evidence *e, line l, cn_diag *diag) {
    if (l.mass == 0) return CN_OK;
    if (e->lines == e->lines_room) {
        const int64_t room = 2 * e->lines_room + 1024;
        line         *more = realloc(e->line, (size_t)room * sizeof(*more));
        if (!more) return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " lines", room);
        e->line = more;
        e->lines_room = room;
    }
    e->line[e->lines++] = l;
    return CN_OK;
}

/* The sums of document `at`, and zeros in their place. */
static cn_err fold_document(cn_evidence *e, cn_context *c, int64_t at, double *sum, cn_diag *diag) {
    const cn_context_doc *d = cn_context_doc_at(c, at);
    const int32_t        *start;
    int32_t               lines, token = 0;
    int64_t               file;
    bool                  is_read = false;
    for (; token < d->piece.tokens && !is_read; token++) is_read = sum[token] != 0;
    if (!is_read) return CN_OK;
    CN_TRY(find_file(e, d->path, &file, diag));
    cn_context_doc_lines(c, at, &start, &lines);
    token = lines ? start[0] : d->piece.tokens;
    for (int32_t t = 0; t < token; t++) e->headers += sum[t];
    memset(sum, 0, (size_t)token * sizeof(*sum));
    for (int32_t i = 0; i < lines; i++) {
        line          l = {.file = file, .line = d->piece.first_line + i};
        const int32_t end = i + 1 < lines ? start[i + 1] : d->piece.tokens;
        for (int32_t t = token; t < end; t++) l.mass += sum[t];
        CN_TRY(put_line(e, l, diag));
        for (; token < end; token++) sum[token] = 0;
    }
    return CN_OK;
}

cn_err cn_evidence_fold(cn_evidence *e, cn_context *c, cn_diag *diag) {
    int64_t first = 0;
    if (e->waiting == 0) return CN_OK;
    for (int64_t i = 0; i < cn_context_docs(c); i++) {
        const int32_t tokens = cn_context_doc_at(c, i)->piece.tokens;
        cn_assert(first + tokens <= e->view_tokens);
        CN_TRY(fold_document(e, c, i, e->sum + first, diag));
        first += tokens;
    }
    cn_assert(first == e->view_tokens);
    e->waiting = 0;
    return CN_OK;
}

/* ---- Ranges -------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b) {
    const line *x = a, *y = b;
    if (x->file != y->file) return x->file < y->file ? -1 : 1;
    return (x->line > y->line) - (x->line < y->line);
}

/* Each line once, in order; the strongest one's mass. */
static double join_lines(cn_evidence *e) {
    int64_t lines = 0;
    double  best = 0;
    if (e->lines) qsort(e->line, (size_t)e->lines, sizeof(*e->line), by_place);
    for (int64_t i = 0; i < e->lines; i++) {
        if (lines && by_place(&e->line[lines - 1], &e->line[i]) == 0)
            e->line[lines - 1].mass += e->line[i].mass;
        else
            e->line[lines++] = e->line[i];
        const double mass = e->line[lines - 1].mass;
        best = mass > best ? mass : best;
    }
    e->lines = lines;
    return best;
}

/* Among the ranges by share, the first one first where they are equal; the last one falls out. */
static void put_range(cn_evidence *e, cn_ledger_read range) {
    int64_t at = e->reads;
    while (at > 0 && e->read[at - 1].share < range.share) at--;
    if (at == CN_EVIDENCE_RANGES) return;
    if (e->reads < CN_EVIDENCE_RANGES) e->reads++;
    memmove(&e->read[at + 1], &e->read[at], (size_t)(e->reads - at - 1) * sizeof(*e->read));
    e->read[at] = range;
}

/* A sum of rounded weights may pass 1 by a hair. */
static double share_of(const cn_evidence *e, double mass) {
    const double share = mass / (double)e->tokens;
    return share < 1 ? share : 1;
}

void cn_evidence_finish(cn_evidence *e) {
    e->reads = 0;
    if (e->tokens == e->blind) return;
    const double strong = join_lines(e) / CN_EVIDENCE_STRONG;
    for (int64_t i = 0; i < e->lines;) {
        if (e->line[i].mass < strong) {
            i++;
            continue;
        }
        const int64_t first = i;
        int64_t       last = i;
        double        mass = 0, after = 0; // up to the last strong line, and behind it
        for (; i < e->lines && e->line[i].file == e->line[first].file &&
               e->line[i].line - e->line[last].line <= CN_EVIDENCE_GAP + 1;
             i++) {
            after += e->line[i].mass;
            if (e->line[i].mass < strong) continue;
            last = i;
            mass += after;
            after = 0;
        }
        i = last + 1;
        put_range(e, (cn_ledger_read){.path = e->files.path[e->line[first].file],
                                      .first_line = e->line[first].line,
                                      .last_line = e->line[last].line,
                                      .share = share_of(e, mass)});
    }
    e->read[e->reads++] = (cn_ledger_read){.path = "", .share = share_of(e, e->conversation)};
}

const char *cn_evidence_why(const cn_evidence *e) {
    if (e->tokens == 0) return "the turn has no answer";
    if (e->tokens == e->blind)
        return "attention was dense: it read every token, and no index said which mattered";
    return NULL;
}

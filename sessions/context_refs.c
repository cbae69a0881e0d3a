/* context_refs.c - Long parts of the conversation, behind the folder's documents. */
#include "sessions/context_int.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void cn_context_part_free(cn_context_part *p) {
    if (!p) return;
    free((char *)(uintptr_t)p->entry.path);
    free((char *)(uintptr_t)p->entry.text.data);
    free(p->entry.piece);
    free(p);
}

void cn_context_free_parts(cn_context *c, int64_t from) {
    while (c->parts > from) cn_context_part_free(c->part[--c->parts]);
}

/* Entries stay where they are while the list grows: the shelf points at them. */
cn_context_part *cn_context_part_make(const char *path, cn_ledger_text text,
                                      cn_document_kind kind) {
    cn_context_part *p = calloc(1, sizeof(*p));
    if (!p) return NULL;
    char *name = strdup(path), *copy = malloc(text.bytes + 1);
    p->entry = (cn_context_entry){.path = name, .kind = kind, .text = {copy, text.bytes}};
    if (!name || !copy) {
        cn_context_part_free(p);
        return NULL;
    }
    if (text.bytes) memcpy(copy, text.data, text.bytes);
    p->ref.path = name;
    return p;
}

cn_err cn_context_put_ref(cn_context *c, const cn_context_ref *ref, cn_ledger_text text,
                          cn_diag *diag) {
    if (c->parts == c->parts_room) {
        const int64_t     room = c->parts_room ? 2 * c->parts_room : 16;
        cn_context_part **more = realloc(c->part, (size_t)room * sizeof(*more));
        if (!more) return CN_FAIL(diag, CN_ENOMEM, "no memory for %s", ref->path);
        c->part = more;
        c->parts_room = room;
    }
    cn_context_part *p = cn_context_part_make(ref->path, text, CN_DOCUMENT_REF);
    if (!p) return CN_FAIL(diag, CN_ENOMEM, "no memory for %s", ref->path);
    p->ref.turn = ref->turn;
    p->ref.part = ref->part;
    c->part[c->parts++] = p;
    return CN_OK;
}

cn_err cn_context_know_parts(cn_context *c, cn_diag *diag) {
    for (int64_t i = 0; i < c->parts; i++) {
        CN_TRY(cn_context_know(c, &c->part[i]->entry, diag));
        c->part[i]->ref.tokens = c->part[i]->entry.tokens;
    }
    return CN_OK;
}

void cn_context_take_back(cn_context *c, int64_t refs) {
    cn_context_shelf *s = &c->shelf;
    if (c->parts <= refs) return;
    cn_context_let_go(c);
    for (int64_t i = c->parts - 1; i >= refs; i--) // their documents are the last ones
        while (s->docs && s->source[s->docs - 1] == &c->part[i]->entry) s->docs--;
    cn_context_free_parts(c, refs);
    cn_context_count(c);
}

/* ---- Looking ------------------------------------------------------------------------- */

int64_t cn_context_refs(const cn_context *c) {
    return c->parts;
}

const cn_context_ref *cn_context_ref_at(const cn_context *c, int64_t i) {
    return &c->part[i]->ref;
}

const cn_context_ref *cn_context_ref_find(const cn_context *c, const char *path) {
    for (int64_t i = 0; i < c->parts; i++)
        if (strcmp(c->part[i]->ref.path, path) == 0) return &c->part[i]->ref;
    return NULL;
}

/* ---- Lines that a file of the view holds --------------------------------------------- */

/* Behind `lines` newlines; NULL if there are fewer. */
static const char *skip_lines(const char *p, const char *end, int64_t lines) {
    while (p && lines-- > 0) {
        p = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
        if (p) p++;
    }
    return p;
}

/* Whether the file goes on with `text`, its line ends written as "\n". */
static bool goes_on_with(const char *p, const char *end, cn_ledger_text text) {
    const char *q = text.data, *q_end = q + text.bytes;
    for (; q < q_end; p++, q++) {
        if (p < end && *p == '\r' && (p + 1 == end || p[1] == '\n')) p++;
        if (p == end || *p != *q) return false;
    }
    return true;
}

static bool is_in_view(const cn_context *c, const cn_context_entry *e) {
    for (int64_t i = 0; i < c->shelf.docs; i++)
        if (c->shelf.source[i] == e) return true;
    return false;
}

cn_err cn_context_holds(cn_context *c, const char *path, int64_t first_line, cn_ledger_text text,
                        bool *out, cn_diag *diag) {
    cn_buf                  now = {0};
    const cn_context_entry *e = cn_context_entry_find(c, path);
    *out = false;
    if (!e || !is_in_view(c, e)) return CN_OK;
    cn_err err = CN_OK;
    if (e->file)
        err = cn_repo_read(c->repo, e->file, &now, diag); // the bytes that were cut
    else
        cn_buf_put(&now, e->text.data, e->text.bytes);
    if (now.err) err = CN_FAIL(diag, now.err, "no memory for %s", path);
    if (!err) {
        const char *begin = cn_buf_str(&now), *end = begin + now.bytes;
        const char *from = skip_lines(begin, end, first_line - 1);
        *out = from && goes_on_with(from, end, text);
    }
    cn_buf_release(&now);
    return err == CN_ENOMEM ? err : CN_OK;
}

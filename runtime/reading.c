/* reading.c - Definitions of a view that stand in one file alone; asked, and looked up in evidence.
 */
#include "runtime/reading.h"

#include "base/hash.h"
#include "base/rand.h"
#include "runtime/definitions.h"
#include "runtime/evidence.h"
#include "runtime/retrieval.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { OUTPUT_TOKENS = 128 };

const char *cn_reading_kind_name(cn_reading_kind kind) {
    static const char *const names[] = {"where", "signature"};
    return kind >= 0 && kind < CN_READING_KINDS ? names[kind] : "?";
}

typedef struct file {
    char  *path;
    cn_buf text;
} file;

/* Strings point into the files. */
typedef struct candidate {
    cn_definition definition;
    int64_t       file;
    uint64_t      order;
    bool          is_alone;
} candidate;

typedef struct bench {
    const cn_reading_opts *opts;
    cn_reading            *out;
    file                  *file; // [out->files]
    candidate             *found;
    int64_t                founds, room;
    int64_t                at; // the file that is searched
    int64_t                done;
} bench;

/* ---- What can be asked for -------------------------------------------------------------- */

static cn_err read_files(bench *b, cn_diag *diag) {
    cn_context   *c = cn_session_context(b->opts->session);
    const int64_t docs = cn_context_docs(c);
    b->file = calloc((size_t)docs + 1, sizeof(*b->file));
    if (!b->file) return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " files", docs);
    for (int64_t i = 0; i < docs; i++) {
        const cn_context_doc *d = cn_context_doc_at(c, i);
        file                 *f = &b->file[b->out->files];
        if (d->kind != CN_DOCUMENT_FILE) continue;
        if (i && strcmp(d->path, cn_context_doc_at(c, i - 1)->path) == 0) continue;
        b->out->files++;
        f->path = strdup(d->path);
        if (!f->path) return CN_FAIL(diag, CN_ENOMEM, "no memory for a path");
        CN_TRY(cn_repo_read_raw(cn_context_repo(c), d->path, &f->text, diag));
    }
    return CN_OK;
}

static bool is_word(char c) {
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool has_word(const cn_buf *text, const char *word, size_t bytes) {
    const char *begin = cn_buf_str(text), *p = begin, *end = begin + text->bytes;
    for (; (p = memmem(p, (size_t)(end - p), word, bytes)); p++)
        if ((p == begin || !is_word(p[-1])) && (p + bytes == end || !is_word(p[bytes])))
            return true;
    return false;
}

static bool on_definition(void *ctx, const cn_definition *d) {
    bench        *b = ctx;
    const size_t  bytes = (size_t)d->name_bytes;
    const int64_t seed = (int64_t)b->opts->seed;
    if (!d->is_clear || !d->signature) return true;
    for (int64_t i = 0; i < b->out->files; i++)
        if (i != b->at && has_word(&b->file[i].text, d->name, bytes)) return true;
    for (int64_t i = 0; i < b->founds; i++) {
        candidate *other = &b->found[i];
        if (other->definition.name_bytes != d->name_bytes ||
            memcmp(other->definition.name, d->name, bytes) != 0)
            continue;
        other->is_alone = false;
        return true;
    }
    if (b->founds == b->room) {
        const int64_t room = 2 * b->room + 256;
        candidate    *more = realloc(b->found, (size_t)room * sizeof(*more));
        if (!more) return false;
        b->found = more;
        b->room = room;
    }
    const uint64_t name = cn_xxh3(d->name, bytes, (uint64_t)seed);
    b->found[b->founds++] =
        (candidate){.definition = *d, .file = b->at, .order = cn_rand_mix(name), .is_alone = true};
    return true;
}

static int by_order(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->is_alone != y->is_alone) return x->is_alone ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

/* Those that can be asked for stand first, in an order that the seed decides. */
static void find_definitions(bench *b) {
    for (b->at = 0; b->at < b->out->files; b->at++) {
        const file *f = &b->file[b->at];
        cn_definitions_find(cn_language_of(f->path), cn_buf_str(&f->text), f->text.bytes,
                            on_definition, b);
    }
    if (b->founds) qsort(b->found, (size_t)b->founds, sizeof(*b->found), by_order);
    for (int64_t i = 0; i < b->founds; i++) b->out->definitions += b->found[i].is_alone;
}

/* ---- Asking ------------------------------------------------------------------------------ */

/* Places of the right file and line among the ranges, from 1; 0: none. */
typedef struct ranks {
    int64_t file, line;
    double  share; // of the right file's ranges
} ranks;

static ranks rank(const cn_evidence *e, const char *path, int64_t line) {
    ranks   r = {0};
    int64_t files = 0;
    for (int64_t i = 0; i < e->reads; i++) {
        const cn_ledger_read *read = &e->read[i];
        bool                  is_new = read->path[0] != 0;
        for (int64_t j = 0; j < i && is_new; j++) is_new = strcmp(e->read[j].path, read->path) != 0;
        files += is_new;
        if (strcmp(read->path, path) != 0) continue;
        if (!r.file) r.file = files;
        if (!r.line && line >= read->first_line && line <= read->last_line) r.line = i + 1;
        r.share += read->share;
    }
    return r;
}

static cn_err write_line(const bench *b, const candidate *c, cn_reading_kind kind,
                         const char *question, const char *answer, const cn_turn *t, ranks r,
                         cn_diag *diag) {
    cn_buf         line = {0};
    cn_json_writer w = cn_json_writer_on(&line);
    int32_t        calls = 0;
    while (cn_turn_call_at(t, calls)) calls++;
    cn_json_open(&w, '{');
    cn_json_field_string(&w, "kind", cn_reading_kind_name(kind));
    cn_json_field_string(&w, "q", question);
    cn_json_field_string(&w, "path", b->file[c->file].path);
    cn_json_field_int64(&w, "line", c->definition.line);
    cn_json_field_string(&w, "answer", answer);
    cn_json_field_string(&w, "text", cn_turn_text(t));
    cn_json_field_int64(&w, "calls", calls);
    cn_json_field_int64(&w, "file_rank", r.file);
    cn_json_field_int64(&w, "line_rank", r.line);
    cn_evidence_put_json(&w, cn_turn_evidence(t));
    cn_json_close(&w, '}');
    cn_buf_put_str(&line, "\n");
    cn_err err = line.err ? CN_FAIL(diag, line.err, "no memory for a line of the output") : CN_OK;
    if (!err && fwrite(line.data, 1, line.bytes, b->opts->out) != line.bytes)
        err = CN_FAIL(diag, CN_EIO, "write the output: %s", strerror(errno));
    cn_buf_release(&line);
    return err;
}

static cn_err score(bench *b, const candidate *c, cn_reading_kind kind, const char *question,
                    const char *answer, const cn_turn *t, cn_diag *diag) {
    cn_reading_score  *s = &b->out->kind[kind];
    const cn_evidence *e = cn_turn_evidence(t);
    const ranks        r = rank(e, b->file[c->file].path, c->definition.line);
    if (e->tokens && e->tokens == e->blind)
        return CN_FAIL(diag, CN_EUNSUPPORTED, "no evidence: %s", cn_evidence_why(e));
    s->questions++;
    s->right += cn_is_answer(cn_turn_text(t), answer);
    s->called += cn_turn_call_at(t, 0) != NULL;
    s->file_first += r.file == 1;
    s->file_among += r.file >= 1 && r.file <= CN_READING_FIRST;
    s->line_first += r.line == 1;
    s->line_among += r.line >= 1 && r.line <= CN_READING_FIRST;
    s->place += r.share;
    if (e->reads) s->conversation += e->read[e->reads - 1].share;
    if (e->tokens) s->headers += e->headers / (double)e->tokens;
    if (b->opts->on_question) b->opts->on_question(b->opts->ctx, ++b->done);
    return b->opts->out ? write_line(b, c, kind, question, answer, t, r, diag) : CN_OK;
}

static cn_err ask(bench *b, const candidate *c, cn_reading_kind kind, cn_diag *diag) {
    const cn_definition *d = &c->definition;
    const char          *path = b->file[c->file].path;
    cn_buf               question = {0}, answer = {0};
    cn_turn             *t = NULL;
    if (kind == CN_READING_WHERE) {
        cn_buf_printf(&question, "Where is %.*s defined?", d->name_bytes, d->name);
        cn_buf_printf(&answer, "%.*s is defined in %s", d->name_bytes, d->name, path);
    } else {
        cn_buf_printf(&question, "What is the signature of %.*s?", d->name_bytes, d->name);
        cn_buf_put(&answer, d->signature, (size_t)d->signature_bytes);
    }
    cn_err err = question.err ? question.err : answer.err;
    if (err) err = CN_FAIL(diag, err, "no memory for a question");
    if (!err) err = cn_session_rewind(b->opts->session, 0, diag);
    const cn_turn_opts opts = {.question = cn_buf_str(&question),
                               .question_bytes = question.bytes,
                               .output_tokens_max = OUTPUT_TOKENS};
    if (!err) err = cn_turn_begin(&t, b->opts->session, &opts, diag);
    if (!err) err = cn_turn_run(t, b->opts->cancel, diag);
    if (!err && cn_turn_stop(t) != CN_STOP_CANCEL)
        err = score(b, c, kind, opts.question, cn_buf_str(&answer), t, diag);
    cn_turn_free(t);
    cn_buf_release(&question);
    cn_buf_release(&answer);
    return err;
}

cn_err cn_reading_run(cn_reading *out, const cn_reading_opts *opts, cn_diag *diag) {
    bench b = {.opts = opts, .out = out};
    *out = (cn_reading){0};
    cn_assert(opts->definitions >= 1 && opts->definitions <= CN_READING_QUESTIONS_MAX);
    cn_err err = cn_context_update(cn_session_context(opts->session), diag);
    if (!err) err = read_files(&b, diag);
    if (!err) find_definitions(&b);
    if (!err && out->definitions == 0)
        err =
            CN_FAIL(diag, CN_ENOTFOUND,
                    "none of %" PRId64 " files has a function that stands in no other", out->files);
    const int64_t n = out->definitions < opts->definitions ? out->definitions : opts->definitions;
    for (int64_t i = 0; !err && i < n * CN_READING_KINDS; i++) {
        if (opts->cancel && atomic_load(opts->cancel)) break;
        err =
            ask(&b, &b.found[i / CN_READING_KINDS], (cn_reading_kind)(i % CN_READING_KINDS), diag);
    }
    for (int64_t i = 0; i < out->files; i++) {
        free(b.file[i].path);
        cn_buf_release(&b.file[i].text);
    }
    free(b.file);
    free(b.found);
    return err;
}

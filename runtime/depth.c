/* depth.c - Copy a view's files, plant, ask, put back. */
#include "runtime/depth.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/rand.h"
#include "runtime/definitions.h"
#include "runtime/scratch.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 8, BUDGET_FACTOR = 4, OUTPUT_TOKENS = 128 };

static const int32_t topks[CN_DEPTH_MODES_MAX] = {0, 256, 512, 1024, 2048};

const char *cn_depth_kind_name(cn_depth_kind kind) {
    static const char *const names[] = {"needle", "where", "signature"};
    return kind >= 0 && kind < CN_DEPTH_KINDS ? names[kind] : "?";
}

/* A file of the view. */
typedef struct file {
    char  *path;
    cn_buf text;
} file;

/* A function that can be asked for. */
typedef struct candidate {
    const cn_definition *definition;
    char                *name;
    int64_t              file;
    double               share; // of the view's tokens before it; below 0: not to be asked for
    uint64_t             order;
} candidate;

/* A question, and the answer that is right. */
typedef struct question {
    char         *text, *answer;
    cn_depth_kind kind;
    int32_t       depth;
    double        share; // where it stands
} question;

typedef struct bench {
    const cn_depth_opts *opts;
    cn_depth_result     *out;
    char                 folder[CN_SCRATCH_PATH_BYTES]; // the copy for this length
    int64_t              budget;                        // of sessions on it
    int32_t              length, mode;
    file                *file; // [files]
    int64_t              files;
    cn_context          *copy;  // the view of the copy, nothing planted
    candidate           *found; // [founds] every definition, clear or not
    int64_t              founds;
    cn_definition       *definition; // [founds]
    question            *question;   // [questions]
    int64_t              questions, questions_room;
} bench;

static cn_depth_length *length_of(bench *b) {
    return &b->out->length[b->length];
}

static bool is_cancelled(const bench *b) {
    return b->opts->cancel && atomic_load(b->opts->cancel);
}

/* The same numbers for the same seed. */
static uint64_t mix(uint64_t seed, uint64_t what) {
    return cn_rand_mix(cn_rand_mix(seed + CN_RAND_STEP) ^ (what + CN_RAND_STEP));
}

/* ---- The copy ------------------------------------------------------------------------- */

static void forget(bench *b) {
    for (int64_t i = 0; i < b->files; i++) {
        free(b->file[i].path);
        cn_buf_release(&b->file[i].text);
    }
    for (int64_t i = 0; i < b->founds; i++) free(b->found[i].name);
    for (int64_t i = 0; i < b->questions; i++) {
        free(b->question[i].text);
        free(b->question[i].answer);
    }
    free(b->file);
    cn_context_close(b->copy);
    free(b->found);
    free(b->definition);
    free(b->question);
    b->file = NULL;
    b->copy = NULL;
    b->found = NULL;
    b->definition = NULL;
    b->question = NULL;
    b->files = b->founds = b->questions = b->questions_room = 0;
}

static cn_err copy_file(bench *b, cn_repo *repo, const cn_repo_files *files, const char *path,
                        cn_diag *diag) {
    const cn_repo_file *from = cn_repo_files_find(files, path);
    file               *to = &b->file[b->files];
    if (!from) return CN_FAIL(diag, CN_ENOTFOUND, "%s went away", path);
    to->path = strdup(path);
    if (!to->path) return CN_FAIL(diag, CN_ENOMEM, "no memory for a path");
    b->files++;
    CN_TRY(cn_repo_read(repo, from, &to->text, diag));
    return cn_scratch_write(b->folder, path, cn_buf_str(&to->text), to->text.bytes, diag);
}

/* The files that a session of this budget would hold. */
static cn_err copy_files(bench *b, cn_context *c, cn_diag *diag) {
    cn_repo       *repo = cn_context_repo(c);
    cn_repo_files *files;
    const int64_t  docs = cn_context_docs(c);
    const char    *before = "";
    b->file = calloc((size_t)docs + 1, sizeof(*b->file));
    if (!b->file) return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " files", docs);
    CN_TRY(cn_repo_list(&files, repo, NULL, b->opts->cancel, diag));
    cn_err err = CN_OK;
    for (int64_t i = 0; !err && i < docs; i++) {
        const char *path = cn_context_doc_at(c, i)->path; // pieces of a file follow each other
        if (strcmp(path, before) != 0) err = copy_file(b, repo, files, path, diag);
        before = path;
    }
    cn_repo_files_free(files);
    return err;
}

static int64_t find_file(const bench *b, const char *path) {
    for (int64_t i = 0; i < b->files; i++)
        if (strcmp(b->file[i].path, path) == 0) return i;
    return -1;
}

/* The share of a view's tokens that stand before the middle of a line; -1 if it is not there. */
static double share_of(const cn_context *c, const char *path, int64_t line) {
    int64_t before = 0;
    for (int64_t i = 0; i < cn_context_docs(c); i++) {
        const cn_context_doc  *d = cn_context_doc_at(c, i);
        const cn_ledger_piece *p = &d->piece;
        if (line >= p->first_line && line < p->first_line + p->lines && !strcmp(d->path, path)) {
            const double within = ((double)(line - p->first_line) + .5) / (double)p->lines;
            return ((double)before + within * (double)p->tokens) /
                   (double)cn_context_get_plan(c)->tokens;
        }
        before += p->tokens;
    }
    return -1;
}

/* Prefill the copy's view, and measure that. */
static cn_err prefill(bench *b, cn_diag *diag) {
    cn_depth_length *l = length_of(b);
    cn_context_work  work = {0};
    for (bool done = false; !done && !is_cancelled(b);)
        CN_TRY(cn_context_prefill(b->copy, &done, &work, diag));
    l->tokens = cn_context_get_plan(b->copy)->tokens;
    l->documents = cn_context_docs(b->copy);
    l->prefill_tokens = work.tokens;
    l->prefill_ns = work.compute_ns;
    return CN_OK;
}

static cn_err copy_view(bench *b, cn_diag *diag) {
    const cn_depth_opts  *o = b->opts;
    const int64_t         budget = length_of(b)->budget;
    const cn_context_opts opts = {.folder = o->folder, .budget = budget};
    cn_context           *c;
    CN_TRY(cn_context_open(&c, o->host, &opts, diag));
    cn_err err = cn_context_update(c, diag);
    if (!err && cn_context_docs(c) == 0)
        err = CN_FAIL(diag, CN_ENOTFOUND, "%s has no text for a view of %" PRId64 " tokens",
                      o->folder, budget);
    if (!err) err = copy_files(b, c, diag);
    cn_context_close(c);
    return err;
}

static cn_err open_copy(bench *b, cn_diag *diag) {
    const cn_depth_opts *o = b->opts;
    snprintf(b->folder, sizeof(b->folder), "%s/%" PRId64, o->scratch, length_of(b)->budget);
    b->budget = BUDGET_FACTOR * length_of(b)->budget; // what is planted must find room
    CN_TRY(copy_view(b, diag));
    CN_TRY(cn_context_open(&b->copy, o->host,
                           &(cn_context_opts){.folder = b->folder, .budget = b->budget}, diag));
    if (cn_repo_is_git(cn_context_repo(b->copy)))
        return CN_FAIL(diag, CN_EINVAL, "the scratch folder %s lies in the repository %s",
                       o->scratch, cn_repo_root(cn_context_repo(b->copy)));
    CN_TRY(cn_context_update(b->copy, diag));
    return prefill(b, diag);
}

/* ---- Asking ---------------------------------------------------------------------------- */

static cn_err put_question(bench *b, cn_depth_kind kind, double share, char *text, char *answer,
                           cn_diag *diag) {
    if (b->questions == b->questions_room) {
        const int64_t room = 2 * b->questions_room + 64;
        question     *more = realloc(b->question, (size_t)room * sizeof(*more));
        if (more) {
            b->question = more;
            b->questions_room = room;
        }
    }
    if (!text || !answer || b->questions == b->questions_room) {
        free(text);
        free(answer);
        return CN_FAIL(diag, CN_ENOMEM, "no memory for a question");
    }
    b->question[b->questions++] = (question){.text = text,
                                             .answer = answer,
                                             .kind = kind,
                                             .depth = (int32_t)(share * b->opts->depths),
                                             .share = share};
    return CN_OK;
}

static cn_err write_line(const bench *b, const question *q, const cn_asked *asked, bool is_right,
                         cn_diag *diag) {
    const cn_depth_result *r = b->out;
    cn_buf                 line = {0};
    cn_json_writer         w = cn_json_writer_on(&line);
    cn_json_open(&w, '{');
    cn_json_field_string(&w, "kind", cn_depth_kind_name(q->kind));
    cn_json_field_int64(&w, "context_tokens", asked->bill.context_tokens);
    cn_json_field_int64(&w, "bytes_read", asked->bill.bytes_read);
    cn_json_field_f64(&w, "depth", (q->depth + .5) / r->depths, 4);
    cn_json_field_f64(&w, "share", q->share, 6);
    cn_json_field_int64(&w, "topk", r->topk[b->mode]);
    cn_json_field_string(&w, "q", q->text);
    cn_json_field_string(&w, "answer", q->answer);
    cn_json_field_bytes(&w, "text", cn_buf_str(&asked->text), asked->text.bytes);
    cn_json_field_int64(&w, "calls", asked->calls);
    cn_json_field_bool(&w, "right", is_right);
    cn_json_close(&w, '}');
    cn_buf_put_str(&line, "\n");
    cn_err err = line.err ? CN_FAIL(diag, line.err, "no memory for a line of the output") : CN_OK;
    if (!err && fwrite(line.data, 1, line.bytes, b->opts->out) != line.bytes)
        err = CN_FAIL(diag, CN_EIO, "write the output: %s", strerror(errno));
    cn_buf_release(&line);
    return err;
}

static cn_err on_asked(void *ctx, int64_t number, cn_asked *asked, cn_diag *diag) {
    bench          *b = ctx;
    const question *q = &b->question[number];
    cn_depth_cell  *cell = &b->out->cell[q->kind][b->length][b->mode][q->depth];
    const bool is_right = asked->calls == 0 && cn_is_answer(cn_buf_str(&asked->text), q->answer);
    cell->questions++;
    cell->called += asked->calls > 0;
    cell->right += is_right;
    if (q->kind == CN_DEPTH_NEEDLE) {
        const cn_bill *bill = &asked->bill;
        cell->output_tokens += bill->output_tokens;
        cell->decode_ns += bill->decode_ns + bill->route_ns + bill->attend_ns;
        if (bill->prefilled_tokens) {
            cell->prefill_tokens += bill->prefilled_tokens;
            cell->prefill_ns += bill->prefill_ns;
        }
    }
    return b->opts->out ? write_line(b, q, asked, is_right, diag) : CN_OK;
}

/* All questions in each mode, several side by side. */
static cn_err ask(bench *b, int32_t lanes, cn_diag *diag) {
    const cn_depth_opts *o = b->opts;
    cn_session          *session[LANES] = {0};
    const char         **text = calloc((size_t)b->questions + 1, sizeof(*text));
    cn_err               err = text ? CN_OK : CN_FAIL(diag, CN_ENOMEM, "no memory for questions");
    for (int64_t i = 0; !err && i < b->questions; i++) text[i] = b->question[i].text;
    for (int32_t i = 0; !err && i < lanes; i++)
        err = cn_session_open(
            &session[i], o->host,
            &(cn_session_opts){.folder = b->folder, .budget = b->budget, .is_trial = true}, diag);
    for (b->mode = 0; !err && b->mode < length_of(b)->modes && !is_cancelled(b); b->mode++) {
        const int32_t topk = b->out->topk[b->mode];
        err = cn_engine_set_routing(o->host->engine, topk, topk == 0, diag);
        if (!err)
            err = cn_ask_each(&(cn_ask_each_args){.host = o->host,
                                                  .session = session,
                                                  .lanes = lanes,
                                                  .opts = {.output_tokens_max = OUTPUT_TOKENS,
                                                           .cancel = o->cancel},
                                                  .question = text,
                                                  .questions = b->questions,
                                                  .on_asked = on_asked,
                                                  .ctx = b},
                              diag);
    }
    for (int32_t i = 0; i < lanes; i++) cn_session_close(session[i]);
    free(text);
    return err;
}

static void show(bench *b, cn_depth_kind kind) {
    for (int32_t m = 0; m < length_of(b)->modes && b->opts->on_row && !is_cancelled(b); m++)
        b->opts->on_row(b->opts->ctx, b->out, kind, b->length, m);
}

static void forget_questions(bench *b) {
    for (int64_t i = 0; i < b->questions; i++) {
        free(b->question[i].text);
        free(b->question[i].answer);
    }
    b->questions = 0;
}

/* ---- Definitions ------------------------------------------------------------------------- */

typedef struct finder {
    bench  *b;
    int64_t file, room;
    bool    failed;
} finder;

static bool on_definition(void *ctx, const cn_definition *d) {
    finder *f = ctx;
    bench  *b = f->b;
    if (b->founds == f->room) {
        const int64_t room = 2 * f->room + 256;
        candidate    *more = realloc(b->found, (size_t)room * sizeof(*more));
        if (more) b->found = more;
        cn_definition *also = realloc(b->definition, (size_t)room * sizeof(*also));
        if (also) b->definition = also;
        f->failed = !more || !also;
        if (f->failed) return false;
        f->room = room;
    }
    char *name = strndup(d->name, (size_t)d->name_bytes);
    f->failed = !name;
    if (!name) return false;
    b->definition[b->founds] = *d;
    b->found[b->founds++] = (candidate){.name = name, .file = f->file};
    return true;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const candidate *)a)->name, ((const candidate *)b)->name);
}

static int by_order(const void *a, const void *b) {
    const uint64_t x = ((const candidate *)a)->order, y = ((const candidate *)b)->order;
    return (x > y) - (x < y);
}

/* Those that are clear and stand once in the view, in an order that the seed decides. */
static int64_t keep_unique(bench *b) {
    int64_t kept = 0;
    qsort(b->found, (size_t)b->founds, sizeof(*b->found), by_name);
    for (int64_t i = 0; i < b->founds; i++) {
        candidate *c = &b->found[i];
        const bool is_twice =
            (i > 0 && by_name(c, c - 1) == 0) || (i + 1 < b->founds && by_name(c, c + 1) == 0);
        if (is_twice || !c->definition->is_clear) c->share = -1;
        if (c->share < 0) continue;
        c->order = mix(b->opts->seed, cn_xxh3(c->name, strlen(c->name), 0));
        kept++;
    }
    for (int64_t i = 0; i < b->founds; i++)
        if (b->found[i].share < 0) b->found[i].order = UINT64_MAX;
    qsort(b->found, (size_t)b->founds, sizeof(*b->found), by_order);
    return kept;
}

__attribute__((format(printf, 1, 2))) static char *say(const char *fmt, ...) {
    cn_buf  buf = {0};
    char    text[CN_REPO_PATH_BYTES_MAX + 256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    cn_buf_put_str(&buf, text);
    return cn_buf_take(&buf);
}

static cn_err find_definitions(bench *b, cn_diag *diag) {
    finder f = {.b = b};
    for (f.file = 0; f.file < b->files && !f.failed; f.file++) {
        const file *from = &b->file[f.file];
        cn_definitions_find(cn_language_of(from->path), cn_buf_str(&from->text), from->text.bytes,
                            on_definition, &f);
    }
    if (f.failed) return CN_FAIL(diag, CN_ENOMEM, "no memory for definitions");
    for (int64_t i = 0; i < b->founds; i++) {
        candidate *c = &b->found[i];
        c->definition = &b->definition[i];
        c->share = share_of(b->copy, b->file[c->file].path, c->definition->line);
    }
    return CN_OK;
}

static cn_err ask_definitions(bench *b, cn_diag *diag) {
    int32_t asked[CN_DEPTHS_MAX] = {0};
    if (b->opts->questions == 0) return CN_OK;
    CN_TRY(find_definitions(b, diag));
    const int64_t kept = keep_unique(b);
    length_of(b)->definitions = kept;
    for (int64_t i = 0; i < kept; i++) {
        const candidate *c = &b->found[i];
        if (asked[(int32_t)(c->share * b->opts->depths)]++ >= b->opts->questions) continue;
        CN_TRY(put_question(b, CN_DEPTH_WHERE, c->share, say("Where is %s defined?", c->name),
                            say("%s is defined in %s", c->name, b->file[c->file].path), diag));
        if (!c->definition->signature) continue;
        CN_TRY(put_question(
            b, CN_DEPTH_SIGNATURE, c->share, say("What is the signature of %s?", c->name),
            say("%.*s", c->definition->signature_bytes, c->definition->signature), diag));
    }
    CN_TRY(ask(b, LANES, diag));
    show(b, CN_DEPTH_WHERE);
    show(b, CN_DEPTH_SIGNATURE);
    return CN_OK;
}

/* ---- Needles ---------------------------------------------------------------------------- */

typedef struct needle {
    char word[16], number[8];
} needle;

/* A word that stands nowhere in the view, and six digits. */
static needle make_needle(const bench *b, uint64_t seed) {
    static const char consonants[] = "bdfgklmnprstvz", vowels[] = "aeiou";
    needle            n;
    for (bool is_new = false; !is_new; seed++) {
        uint64_t bits = mix(seed, 1);
        for (int i = 0; i < 6; i += 2) {
            n.word[i] = consonants[bits % (sizeof(consonants) - 1)];
            bits /= sizeof(consonants) - 1;
            n.word[i + 1] = vowels[bits % (sizeof(vowels) - 1)];
            bits /= sizeof(vowels) - 1;
        }
        n.word[6] = 0;
        snprintf(n.number, sizeof(n.number), "%06d", (int)(mix(seed, 2) % 1000000));
        is_new = true;
        for (int64_t i = 0; i < b->files && is_new; i++)
            is_new = !strstr(cn_buf_str(&b->file[i].text), n.word);
    }
    return n;
}

/* The document for a needle at `share` of the view, and how far into it: one of source code not
 * further away than `reach`, the nearest; else the one that stands there. */
static const cn_context_doc *find_doc(const bench *b, double share, double reach,
                                      double *within_out) {
    const cn_context_doc *best = NULL, *here = cn_context_doc_at(b->copy, 0);
    const double          total = (double)cn_context_get_plan(b->copy)->tokens;
    double                best_far = reach, before = 0;
    *within_out = 0;
    for (int64_t i = 0; i < cn_context_docs(b->copy); i++) {
        const cn_context_doc *d = cn_context_doc_at(b->copy, i);
        const double          tokens = (double)d->piece.tokens;
        const double          into = (share * total - before) / tokens;
        const double          within = into < 0   ? 0
                                       : into > 1 ? 1
                                                  : into,
                     far = fabs(into - within) * tokens;
        before += tokens;
        const bool is_code = d->piece.lines && cn_language_of(d->path) != CN_LANGUAGE_NONE;
        if (far == 0 && !best) {
            here = d;
            *within_out = within;
        }
        if (!is_code || far / total >= best_far) continue;
        best = d;
        best_far = far / total;
        *within_out = within;
    }
    return best ? best : here;
}

/* Where line `line` (from 1) of a text begins. */
static size_t line_offset(const cn_buf *text, int64_t line) {
    const char *p = cn_buf_str(text), *end = p + text->bytes, *next;
    while (--line > 0 && (next = memchr(p, '\n', (size_t)(end - p)))) p = next + 1;
    return (size_t)(p - cn_buf_str(text));
}

/* The line to plant before: behind the blank line that is nearest to the wanted place within the
 * document, else there. */
static int64_t find_line(const cn_ledger_piece *p, const cn_buf *text, double within) {
    int64_t want = p->first_line + (int64_t)(within * (double)p->lines);
    if (want >= p->first_line + p->lines) want = p->first_line + p->lines - 1;
    for (int64_t far = 0; far < p->lines; far++)
        for (int side = -1; side <= 1; side += 2) {
            const int64_t line = want + side * far;
            if (line <= p->first_line || line >= p->first_line + p->lines - 1) continue;
            const size_t at = line_offset(text, line);
            if (at < text->bytes && text->data[at] == '\n') return line + 1;
        }
    return want;
}

static void put_needle(cn_buf *out, const char *path, const needle *n) {
    const cn_language language = cn_language_of(path);
    const char       *begin = language == CN_LANGUAGE_C ? "/*"
                              : language == CN_LANGUAGE_NONE || language == CN_LANGUAGE_PYTHON ? "#"
                                                                                               : "//";
    cn_buf_printf(out, "%s The passkey for %s is %s.%s\n\n", begin, n->word, n->number,
                  language == CN_LANGUAGE_C ? " */" : "");
}

/* The file with a needle before `line`, in the copy. */
static cn_err plant(const bench *b, const file *f, int64_t line, const needle *n, cn_diag *diag) {
    const size_t at = line_offset(&f->text, line);
    cn_buf       text = {0};
    cn_buf_put(&text, cn_buf_str(&f->text), at);
    put_needle(&text, f->path, n);
    cn_buf_put(&text, cn_buf_str(&f->text) + at, f->text.bytes - at);
    const cn_err err =
        text.err ? CN_FAIL(diag, text.err, "no memory for a copy of %s", f->path)
                 : cn_scratch_write(b->folder, f->path, cn_buf_str(&text), text.bytes, diag);
    cn_buf_release(&text);
    return err;
}

/* Where it stands now: the copy's view as it is. */
static cn_err find_share(const bench *b, const char *path, int64_t line, double *share_out,
                         cn_diag *diag) {
    cn_context *c;
    CN_TRY(cn_context_open(&c, b->opts->host,
                           &(cn_context_opts){.folder = b->folder, .budget = b->budget}, diag));
    cn_err err = cn_context_update(c, diag);
    if (!err) *share_out = share_of(c, path, line);
    if (!err && *share_out < 0)
        err = CN_FAIL(diag, CN_ENOTFOUND,
                      "%s, with a needle in line %" PRId64 ", is not in the view of the copy", path,
                      line);
    cn_context_close(c);
    return err;
}

/* One needle at a time: planted, asked for in each mode, taken out. */
static cn_err ask_needle(bench *b, int32_t depth, int32_t number, cn_diag *diag) {
    const cn_depth_opts *o = b->opts;
    const needle         n =
        make_needle(b, mix(o->seed, (uint64_t)((b->length * 64 + depth) * 1024 + number) * 4096));
    const double          width = 1.0 / o->depths;
    double                within, share = 0;
    const cn_context_doc *d =
        find_doc(b, width * (depth + (number + .5) / o->needles), width / 2, &within);
    const file   *f = &b->file[find_file(b, d->path)];
    const int64_t line = find_line(&d->piece, &f->text, within);
    cn_err        err = plant(b, f, line, &n, diag);
    if (!err) err = find_share(b, f->path, line, &share, diag);
    if (!err)
        err = put_question(b, CN_DEPTH_NEEDLE, share, say("What is the passkey for %s?", n.word),
                           say("The passkey for %s is %s", n.word, n.number), diag);
    if (!err) b->question[0].depth = depth; // it may stand a little before or behind
    if (!err) err = ask(b, 1, diag);
    forget_questions(b);
    const cn_err back =
        cn_scratch_write(b->folder, f->path, cn_buf_str(&f->text), f->text.bytes, diag);
    return err ? err : back;
}

static cn_err ask_needles(bench *b, cn_diag *diag) {
    for (int32_t d = 0; d < b->opts->depths; d++)
        for (int32_t i = 0; i < b->opts->needles && !is_cancelled(b); i++)
            CN_TRY(ask_needle(b, d, i, diag));
    if (b->opts->needles) show(b, CN_DEPTH_NEEDLE);
    return CN_OK;
}

/* ---- All lengths -------------------------------------------------------------------------- */

/* Modes in which a set leaves tokens out; dense always does it all. */
static void set_modes(bench *b) {
    const cn_config *c = &b->opts->host->model->config;
    cn_depth_length *l = length_of(b);
    l->modes = 1;
    while (l->modes < CN_DEPTH_MODES_MAX && cn_config_has_index(c) &&
           topks[l->modes] + c->index_local < l->tokens)
        l->modes++;
}

static cn_err run_length(bench *b, cn_diag *diag) {
    CN_TRY(open_copy(b, diag));
    set_modes(b);
    if (is_cancelled(b)) return CN_OK;
    b->out->lengths = b->length + 1;
    CN_TRY(ask_definitions(b, diag));
    forget_questions(b);
    return ask_needles(b, diag);
}

cn_err cn_depth_run(cn_depth_result *out, const cn_depth_opts *opts, cn_diag *diag) {
    bench  b = {.opts = opts, .out = out};
    cn_err err = CN_OK;
    *out = (cn_depth_result){.depths = opts->depths};
    memcpy(out->topk, topks, sizeof(topks));
    cn_assert(opts->depths >= CN_DEPTHS_MIN && opts->depths <= CN_DEPTHS_MAX);
    cn_assert(opts->needles <= CN_DEPTH_CELL_MAX && opts->questions <= CN_DEPTH_CELL_MAX);
    for (int64_t budget = CN_DEPTH_TOKENS_MIN;
         !err && b.length < CN_DEPTH_LENGTHS_MAX && !is_cancelled(&b); b.length++) {
        length_of(&b)->budget = budget < opts->budget ? budget : opts->budget;
        err = run_length(&b, diag);
        forget(&b);
        // A view that leaves half of its budget free holds the whole repository.
        if (budget >= opts->budget || length_of(&b)->tokens < budget / 2) break;
        budget *= 2;
    }
    return err;
}

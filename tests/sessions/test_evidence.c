/*
 * test_evidence.c - Which lines an answer was read from: the sums of what its steps said, by lines
 * that are found again by hand; what becomes a range; what the ledger keeps.
 */
#include "sessions/evidence.h"
#include "sessions/ref.h"
#include "tests/sessions/session_kit.h"

#include <math.h>

enum { LINES_MAX = 4096, FILES_MAX = 64 };

/* ---- The same sums by hand ----------------------------------------------------------- */

/* Mass by file and line; line 0 is the header's. */
typedef struct hand {
    char   path[FILES_MAX][64];
    double mass[FILES_MAX][LINES_MAX];
    int    files;
    double conversation;
    int    tokens;
} hand;

static double *line_of(hand *x, const char *path, int64_t line) {
    int f = 0;
    while (f < x->files && strcmp(x->path[f], path) != 0) f++;
    assert_true(f < FILES_MAX && line >= 0 && line < LINES_MAX);
    if (f == x->files) snprintf(x->path[x->files++], sizeof(x->path[0]), "%s", path);
    return &x->mass[f][line];
}

/* A file's text, or a part's, as the test knows it. */
typedef const char *(*text_fn)(const char *path);

/* Document `at` of the view, cut again from its text: which line each token is of. */
static void spread(hand *x, cn_host *h, const cn_context_doc *d, text_fn text, const double *sum) {
    cn_cut      cut;
    const char *all = text(d->path);
    assert_err(cn_cut_file(&cut,
                           &(cn_cut_args){.tokenizer = h->tokenizer,
                                          .file_role = h->roles.file,
                                          .path = d->path,
                                          .text = all,
                                          .bytes = strlen(all)},
                           &t_diag),
               CN_OK);
    const cn_document *piece = NULL;
    for (int32_t i = 0; i < cut.documents; i++)
        if (cut.document[i].first_line == d->piece.first_line) piece = &cut.document[i];
    assert_true(piece && piece->tokens == d->piece.tokens);
    for (int32_t t = 0; t < piece->tokens; t++) {
        int64_t line = 0;
        for (int32_t l = 0; l < piece->lines; l++)
            if (piece->line_token[l] <= t) line = piece->first_line + l;
        *line_of(x, d->path, line) += sum[t];
    }
    cn_cut_release(&cut);
}

/* One token of an answer. */
static void count(hand *x, cn_host *h, cn_session *s, text_fn text, const cn_read *read) {
    cn_context *c = cn_session_context(s);
    int64_t     first = 0, view = cn_context_get_plan(c)->tokens;
    double     *sum = calloc((size_t)view, sizeof(*sum));
    assert_non_null(sum);
    assert_true(read->tokens > 0);
    for (int32_t i = 0; i < read->tokens; i++)
        *(read->position[i] < view ? &sum[read->position[i]] : &x->conversation) +=
            (double)read->weight[i];
    for (int64_t i = 0; i < cn_context_docs(c); i++) {
        spread(x, h, cn_context_doc_at(c, i), text, sum + first);
        first += cn_context_doc_at(c, i)->piece.tokens;
    }
    x->tokens++;
    free(sum);
}

/* A turn that says what it is told, its answer's tokens counted by hand. */
static cn_turn *run_turn(hand *x, cn_host *h, cn_session *s, const char *question, k_says *says,
                         text_fn text) {
    k_asked  a = {.all = 0};
    cn_turn *t = k_begin(s, question, says->tokens);
    bool     in_call = false;
    for (int32_t at = 0; k_step(h, t, says, &a); at = says->at) {
        if (says->at == at) continue;
        const int32_t token = says->token[at];
        in_call |= token == h->roles.tool_call;
        if (!in_call && token != h->roles.end) count(x, h, s, text, &cn_turn_slice(t)->read);
        in_call &= token != h->roles.end;
    }
    k_end(t, &a);
    return t;
}

/* What the turn says, and what it leaves out: ranges are sums of their lines, apart, and the
 * largest first; every line outside is weaker than the strong ones inside. */
static void check_evidence(hand *x, const cn_evidence *e) {
    double best = 0, listed = 0, left = 0;
    for (int f = 0; f < x->files; f++)
        for (int l = 1; l < LINES_MAX; l++) best = fmax(best, x->mass[f][l]);
    assert_int_equal(e->tokens, x->tokens);
    assert_null(cn_evidence_why(e));
    assert_true(e->reads >= 2 && e->reads <= CN_EVIDENCE_RANGES + 1);
    for (int64_t i = 0; i + 1 < e->reads; i++) {
        const cn_ledger_read *r = &e->read[i];
        double                sum = 0;
        assert_true(r->first_line >= 1 && r->last_line >= r->first_line);
        assert_true(i == 0 || r->share <= e->read[i - 1].share);
        for (int l = r->first_line; l <= r->last_line; l++) {
            sum += *line_of(x, r->path, l);
            *line_of(x, r->path, l) = 0; // in no other range
        }
        assert_true(fabs(sum / x->tokens - r->share) <= 1e-6);
        listed += r->share;
    }
    const cn_ledger_read *last = &e->read[e->reads - 1];
    assert_string_equal(last->path, "");
    assert_true(fabs(x->conversation / x->tokens - last->share) <= 1e-6);
    for (int f = 0; f < x->files; f++)
        for (int l = 0; l < LINES_MAX; l++) {
            left += x->mass[f][l] / x->tokens;
            if (l && e->reads <= CN_EVIDENCE_RANGES) // all ranges are there
                assert_true(x->mass[f][l] <= best / CN_EVIDENCE_STRONG + 1e-6);
        }
    assert_true(fabs(listed + last->share + left - 1) <= 1e-4); // nothing is lost
}

/* ---- Turns --------------------------------------------------------------------------- */

static char *big; // of big.c

static const char *text_of_file(const char *path) {
    static char *text;
    char         from[128];
    size_t       bytes;
    if (strcmp(path, "big.c") == 0) return big;
    snprintf(from, sizeof(from), "%s%s", strchr(path, '/') ? "" : "base/", path);
    free(text);
    text = t_read_source_file(from, &bytes);
    return text;
}

/* The sources of the kit, and a file of several documents. */
static const char *new_repo(void) {
    const char *repo = k_new_repo();
    char        path[300];
    big = k_lines("line", 9000);
    snprintf(path, sizeof(path), "%s/big.c", repo);
    FILE *f = fopen(path, "w");
    assert_true(f && fputs(big, f) >= 0 && fclose(f) == 0);
    return repo;
}

typedef struct kept {
    const cn_evidence *want;
    int64_t            rows;
} kept;

static void on_read(void *ctx, int32_t turn, const cn_ledger_read *r) {
    kept *k = ctx;
    assert_int_equal(turn, 1);
    assert_true(k->rows < k->want->reads);
    const cn_ledger_read *want = &k->want->read[k->rows++];
    assert_string_equal(r->path, want->path);
    assert_int_equal(r->first_line, want->first_line);
    assert_int_equal(r->last_line, want->last_line);
    assert_true(r->share == want->share);
}

static void assert_kept(cn_host *h, cn_session *s, const cn_turn *t) {
    kept k = {.want = cn_turn_evidence(t)};
    assert_err(cn_ledger_reads(h->ledger, cn_session_row(s)->id, 1, on_read, &k, &t_diag), CN_OK);
    assert_int_equal(k.rows, k.want->reads);
}

static cn_host *open_small_host(const char *state) {
    cn_host *h;
    assert_err(cn_host_open(&h,
                            &(cn_host_opts){.model_folder = k_plain_model(),
                                            .state_folder = state,
                                            .threads = 2,
                                            .cache_bytes = CN_PAGES_MAP_BYTES_MIN},
                            &t_diag),
               CN_OK);
    return h;
}

/* Every token of the answer, and nothing else: freshly prefilled, from the store, and with a store
 * that has no room for all documents. */
static void test_sums_of_an_answer(void **unused) {
    (void)unused;
    const char  *repo = new_repo(), *state = k_new_state();
    static hand  x[3];
    static char  first[CN_EVIDENCE_RANGES + 1][80];
    const double all = 1e9;
    for (int way = 0; way < 3; way++) {
        cn_host *h =
            way < 2 ? k_open_host(k_plain_model(), state, 2) : open_small_host(k_new_state());
        cn_session *s = k_open_session(h, repo, false);
        k_says      says = {.tokens = 0};
        k_say_answer(&says, h, "it stands in base/buf.c");
        cn_turn           *t = run_turn(&x[way], h, s, "where is it?", &says, text_of_file);
        const cn_evidence *e = cn_turn_evidence(t);
        assert_int_equal(x[way].tokens, says.tokens - 1);
        assert_int_equal(cn_turn_bill(t)->prefilled_tokens == 0, way == 1);
        assert_int_equal(cn_context_store_failure(cn_session_context(s)) != NULL, way == 2);
        check_evidence(&x[way], e);
        assert_kept(h, s, t);
        for (int64_t i = 0; i < e->reads; i++) {
            char row[80];
            snprintf(row, sizeof(row), "%s:%d-%d %.0f", e->read[i].path, e->read[i].first_line,
                     e->read[i].last_line, e->read[i].share * all);
            if (way)
                assert_string_equal(row, first[i]);
            else
                snprintf(first[i], sizeof(first[i]), "%s", row);
        }
        const cn_bill *b = cn_turn_bill(t); // routing in each layer would not read in each
        assert_true(b->per_layer_routing_ns > b->wall_ns);
        assert_true(b->per_layer_routing_ns - b->wall_ns <
                    b->route_ns * (h->model->config.cross_layers - 1));
        cn_turn_free(t);
        cn_session_close(s);
        cn_host_close(h);
    }
    free(big);
}

static char *middle; // of the result

static const char *text_with_result(const char *path) {
    return strcmp(path, "turn-1/result-1.txt") == 0 ? middle : text_of_file(path);
}

/* Two generations over two views: a call, whose tokens are not the answer's, and a result whose
 * documents come in between. */
static void test_calls_and_results(void **unused) {
    (void)unused;
    const char *repo = new_repo();
    char       *lines = k_lines("note", 5000), path[300];
    snprintf(path, sizeof(path), "%s/notes.lock", repo);
    FILE *f = fopen(path, "w");
    assert_true(f && fputs(lines, f) >= 0 && fclose(f) == 0);
    cn_host    *h = k_open_host(k_refs_model(), k_new_state(), 2);
    cn_session *s = k_open_session(h, repo, false);
    cn_ref_span span;
    assert_err(cn_ref_split(h->tokenizer, lines, strlen(lines), &span, &t_diag), CN_OK);
    middle = strndup(lines + span.begin, span.end - span.begin);
    k_says says = {.tokens = 0};
    k_say_text(&says, h, "let me see");
    k_say_call(&says, h, "read_lines", "{\"path\":\"notes.lock\",\"start\":1,\"end\":1000}");
    k_say_answer(&says, h, "so it is");
    static hand x;
    cn_turn    *t = run_turn(&x, h, s, "what is there?", &says, text_with_result);
    assert_int_equal(x.tokens, strlen("let me see") + strlen("so it is"));
    double result = 0;
    for (int l = 1; l < LINES_MAX; l++) result += *line_of(&x, "turn-1/result-1.txt", l);
    assert_true(result > 0); // it was read
    check_evidence(&x, cn_turn_evidence(t));
    assert_kept(h, s, t);
    cn_turn_free(t);
    cn_session_close(s);
    cn_host_close(h);
    free(lines), free(middle), free(big);
}

/* ---- Ranges -------------------------------------------------------------------------- */

/* Where a line of a file stands in the view: its first token. */
static int32_t position_of(cn_context *c, const char *path, int32_t line) {
    int32_t first = 0;
    for (int64_t i = 0; i < cn_context_docs(c); i++) {
        const cn_context_doc *d = cn_context_doc_at(c, i);
        const int32_t         at = line - d->piece.first_line, *start;
        int32_t               lines;
        if (strcmp(d->path, path) == 0 && at >= 0 && at < d->piece.lines) {
            cn_context_doc_lines(c, i, &start, &lines);
            assert_int_equal(lines, d->piece.lines);
            return first + start[at];
        }
        first += d->piece.tokens;
    }
    t_fail(__FILE__, __LINE__, "%s:%d is not in the view", path, line);
    return 0;
}

typedef struct mass {
    const char *path;
    int32_t     line;
    float       weight;
} mass;

/* The ranges of one token that reads these lines, in the view's order. */
static void find_ranges(cn_evidence *e, cn_session *s, const mass *m, int32_t count) {
    int32_t position[64];
    float   weight[64];
    cn_evidence_release(e);
    assert_err(cn_evidence_reserve(e, cn_context_get_plan(cn_session_context(s))->tokens, &t_diag),
               CN_OK);
    for (int32_t i = 0; i < count; i++) {
        position[i] = m[i].path[0] ? position_of(cn_session_context(s), m[i].path, m[i].line)
                                   : (int32_t)e->view_tokens + m[i].line;
        weight[i] = m[i].weight;
    }
    cn_evidence_add(e, &(cn_read){.position = position, .weight = weight, .tokens = count});
    assert_err(cn_evidence_fold(e, cn_session_context(s), &t_diag), CN_OK);
    cn_evidence_finish(e);
}

static void assert_range(const cn_evidence *e, int64_t i, const char *path, int32_t first,
                         int32_t last, double share) {
    assert_true(i < e->reads);
    assert_string_equal(e->read[i].path, path);
    assert_int_equal(e->read[i].first_line, first);
    assert_int_equal(e->read[i].last_line, last);
    assert_float_equal(e->read[i].share, share, 1e-6);
}

static void test_lines_become_ranges(void **unused) {
    (void)unused;
    const char *repo = new_repo();
    cn_host    *h = k_open_host(k_plain_model(), k_new_state(), 2);
    cn_session *s = k_open_session(h, repo, false);
    k_says      says = {.tokens = 0};
    cn_evidence e = {0};
    k_say_answer(&says, h, "yes");
    k_ask(h, s, "well?", &says);

    // Two weak lines between strong ones belong to the range, three part it.
    find_ranges(&e, s,
                (mass[]){{"big.c", 5, .3f},
                         {"big.c", 6, .01f},
                         {"big.c", 8, .2f},
                         {"big.c", 9, .01f}, // behind the last strong one: outside
                         {"big.c", 12, .1f},
                         {"", 3, .25f}},
                6);
    assert_int_equal(e.reads, 3);
    assert_range(&e, 0, "big.c", 5, 8, .51);
    assert_range(&e, 1, "big.c", 12, 12, .1);
    assert_range(&e, 2, "", 0, 0, .25);

    // An eighth of the strongest is strong, less is not.
    find_ranges(&e, s, (mass[]){{"big.c", 20, .8f}, {"big.c", 50, .1f}, {"big.c", 80, .099f}}, 3);
    assert_int_equal(e.reads, 3);
    assert_range(&e, 0, "big.c", 20, 20, .8);
    assert_range(&e, 1, "big.c", 50, 50, .1);

    // A range goes over the border of two documents, not of two files.
    int32_t border = 0;
    for (int64_t i = 0; i < cn_context_docs(cn_session_context(s)); i++) {
        const cn_context_doc *d = cn_context_doc_at(cn_session_context(s), i);
        if (strcmp(d->path, "big.c") == 0 && d->piece.first_line > 1) border = d->piece.first_line;
    }
    assert_true(border > 1);
    find_ranges(&e, s, (mass[]){{"big.c", border - 1, .5f}, {"big.c", border, .4f}}, 2);
    assert_int_equal(e.reads, 2);
    assert_range(&e, 0, "big.c", border - 1, border, .9);
    find_ranges(&e, s, (mass[]){{"base/buf.c", 1, .5f}, {"base/buf.h", 2, .4f}}, 2);
    assert_int_equal(e.reads, 3);

    // Headers are no lines; with nothing else there is no range.
    find_ranges(&e, s, (mass[]){{"", 0, .5f}}, 1);
    assert_int_equal(e.reads, 1);
    assert_range(&e, 0, "", 0, 0, .5);
    assert_err(cn_evidence_reserve(&e, e.view_tokens, &t_diag), CN_OK);
    cn_evidence_add(&e,
                    &(cn_read){.position = (int32_t[]){0}, .weight = (float[]){1}, .tokens = 1});
    assert_err(cn_evidence_fold(&e, cn_session_context(s), &t_diag), CN_OK);
    cn_evidence_finish(&e);
    assert_int_equal(e.reads, 1);
    assert_range(&e, 0, "", 0, 0, .25);

    // No more than the limit, the largest of them; of equal ones the first.
    mass many[CN_EVIDENCE_RANGES + 4];
    for (int i = 0; i < CN_EVIDENCE_RANGES + 4; i++)
        many[i] = (mass){"big.c", 1 + 5 * i, i == 7 ? .03f : i == 11 ? .05f : .04f};
    find_ranges(&e, s, many, CN_EVIDENCE_RANGES + 4);
    assert_int_equal(e.reads, CN_EVIDENCE_RANGES + 1);
    assert_range(&e, 0, "big.c", 56, 56, .05);
    assert_range(&e, 1, "big.c", 1, 1, .04);
    assert_range(&e, 7, "big.c", 31, 31, .04);
    assert_range(&e, 8, "big.c", 41, 41, .04);
    assert_string_equal(e.read[CN_EVIDENCE_RANGES].path, "");

    cn_evidence_release(&e);
    cn_session_close(s);
    cn_host_close(h);
    free(big);
}

/* ---- None, and no more ----------------------------------------------------------------- */

static void test_dense_attention_says_why(void **unused) {
    (void)unused;
    cn_host *h;
    assert_err(cn_host_open(&h,
                            &(cn_host_opts){.model_folder = k_plain_model(),
                                            .state_folder = k_new_state(),
                                            .threads = 2,
                                            .cache_bytes = 256 << 20,
                                            .dense = true},
                            &t_diag),
               CN_OK);
    cn_session *s = k_open_session(h, k_new_repo(), false);
    k_says      says = {.tokens = 0};
    k_asked     a = {.all = 0};
    k_say_answer(&says, h, "yes");
    cn_turn *t = k_begin(s, "well?", says.tokens);
    while (k_step(h, t, &says, &a)) {
    }
    k_end(t, &a);
    assert_int_equal(cn_turn_evidence(t)->reads, 0);
    assert_non_null(strstr(cn_evidence_why(cn_turn_evidence(t)), "dense"));
    assert_kept(h, s, t);
    cn_turn_free(t);
    cn_session_close(s);
    cn_host_close(h);
}

/* A turn that is stopped keeps the evidence of what it answered; one that never came to it has
 * none. */
static void test_turns_that_are_cut_short(void **unused) {
    (void)unused;
    const char *repo = new_repo();
    cn_host    *h = k_open_host(k_plain_model(), k_new_state(), 2);
    for (int steps = 0; steps <= 4; steps += 4) {
        cn_session *s = k_open_session(h, repo, false);
        k_says      says = {.tokens = 0};
        k_asked     a = {.all = 0};
        k_say_answer(&says, h, "a longer answer");
        cn_turn *t = k_begin(s, "well?", says.tokens);
        if (steps)
            while (says.at < steps) assert_true(k_step(h, t, &says, &a));
        cn_turn_stop_now(t, CN_STOP_CANCEL);
        const cn_evidence *e = cn_turn_evidence(t);
        assert_int_equal(e->tokens, steps ? steps - 1 : 0); // the last one was not sampled
        assert_true(steps ? e->reads > 1 : e->reads == 0);
        assert_int_equal(cn_evidence_why(e) == NULL, steps > 0);
        assert_err(cn_bill_check(cn_turn_bill(t), &t_diag), CN_OK);
        assert_kept(h, s, t);
        cn_turn_free(t);
        cn_session_close(s);
    }
    cn_host_close(h);
    free(big);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums_of_an_answer),
        cmocka_unit_test(test_calls_and_results),
        cmocka_unit_test(test_lines_become_ranges),
        cmocka_unit_test(test_dense_attention_says_why),
        cmocka_unit_test(test_turns_that_are_cut_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

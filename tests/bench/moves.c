/*
 * moves.c - A session on a real repository, with a real model, while the repository moves: tokens
 * prefilled, against those of the documents that changed, and against a prefix cache.
 *
 *   moves walk REPO [COMMITS [BUDGET]]   the last COMMITS first-parent commits (20), there and back
 *   moves edit REPO [BUDGET]             a line inserted at 30 % of the view (86016)
 *   moves view REPO [BUDGET]             files and a result dropped and added (65536); the logits
 *                                        against a new session whose view never held anything else
 *
 * REPO is cloned and stays as it is.  The model is CAIRN_MODEL, else the one of examples/models.
 * What must hold is asserted: a failure ends with status 1.  moves.sh runs all three.
 */
#include "tests/sessions/session_kit.h"
#include "tests/sessions/walk_kit.h"

enum { COMMITS_MAX = (W_VIEWS_MAX - 1) / 2 };

static struct {
    const char *what, *repo;
    int64_t     number[2]; // 0: the default
} args;

/* ---- A clone, and a session on it -------------------------------------------------------- */

typedef struct bench {
    char        repo[256], state[256];
    cn_host    *h;
    cn_session *s;
    w_walk      walk;
} bench;

static bench begin(int64_t budget) {
    static char model[512];
    bench       b = {.h = NULL};
    snprintf(model, sizeof(model), "%s/examples/models/cairn-nano", t_source_dir());
    snprintf(b.repo, sizeof(b.repo), "%s/repo", t_tmp_dir());
    snprintf(b.state, sizeof(b.state), "%s/state", t_tmp_dir());
    t_shell("git clone -q --no-hardlinks '%s' %s", args.repo, b.repo);
    assert_err(cn_host_open(&b.h,
                            &(cn_host_opts){.model_folder = getenv("CAIRN_MODEL") ?: model,
                                            .state_folder = b.state,
                                            .view_tokens = 1 << 18},
                            &t_diag),
               CN_OK);
    b.s = k_open(b.h, &(cn_session_opts){.folder = b.repo, .budget = budget});
    return b;
}

static void end(bench *b) {
    w_release(&b->walk);
    cn_session_close(b->s);
    cn_host_close(b->h);
}

typedef struct asked {
    cn_bill bill;
    float  *logits; // [vocab] the last ones; free()
} asked;

static asked ask(bench *b, cn_session *s) {
    asked        a = {.logits = NULL};
    const size_t bytes = (size_t)b->h->model->config.vocab * sizeof(float);
    cn_turn     *t = k_begin(s, "Where is main defined?", 1);
    assert_err(cn_turn_run(t, NULL, &t_diag), CN_OK);
    a.bill = *cn_turn_bill(t);
    assert_err(cn_bill_check(&a.bill, &t_diag), CN_OK);
    a.logits = malloc(bytes);
    assert_non_null(a.logits);
    memcpy(a.logits, cn_turn_logits(t), bytes);
    cn_turn_free(t);
    return a;
}

/* A turn, and its line in the table. */
static w_step row(bench *b, const char *what) {
    asked        a = ask(b, b->s);
    const w_step w = w_next(&b->walk, b->h, b->s);
    w_assert_order(b->s);
    free(a.logits);
    printf("%-24.24s %8lld %6lld %9lld %9lld %9lld %9lld %8.1f\n", what, (long long)w.context,
           (long long)w.documents, (long long)w.changed, (long long)a.bill.prefilled_tokens,
           (long long)w.prefix_last, (long long)w.prefix, (double)a.bill.prefill_ns / 1e9);
    fflush(stdout);
    assert_int_equal(a.bill.prefilled_tokens, w.changed);
    return w;
}

static void head(void) {
    printf("%-24s %8s %6s %9s %9s %9s %9s %8s\n", "", "context", "docs", "tokens of", "", "prefix,",
           "prefix,", "prefill");
    printf("%-24s %8s %6s %9s %9s %9s %9s %8s\n", "", "tokens", "new", "these", "prefilled",
           "last view", "all views", "s");
}

/* ---- walk -------------------------------------------------------------------------------- */

static int read_commits(const bench *b, int64_t most, char commit[][48], char subject[][64]) {
    char command[512];
    int  count = 0;
    snprintf(command, sizeof(command),
             "git -C %s log --first-parent -%lld --reverse --format='%%H %%s'", b->repo,
             (long long)most + 1);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    for (char line[512]; fgets(line, sizeof(line), f);) {
        line[strcspn(line, "\n")] = 0;
        snprintf(commit[count], 48, "%.40s", line);
        snprintf(subject[count++], 64, "%.7s %.50s", line, line + 41);
    }
    assert_int_equal(pclose(f), 0);
    return count;
}

static void walk(void) {
    static char commit[COMMITS_MAX + 1][48], subject[COMMITS_MAX + 1][64];
    int64_t     most = args.number[0] ? args.number[0] : 20;
    if (most > COMMITS_MAX) most = COMMITS_MAX;
    bench     b = begin(args.number[1] ? args.number[1] : 32768);
    const int count = read_commits(&b, most, commit, subject);
    w_step    there = {0}, back = {0};
    assert_true(count > 1);
    head();
    for (int i = 0; i < 2 * count - 1; i++) {
        const int at = i < count ? i : 2 * count - 2 - i;
        t_shell("git -C %s checkout -q --detach %s", b.repo, commit[at]);
        const w_step w = row(&b, subject[at]);
        w_step      *sum = i < count ? &there : &back;
        if (i >= count) assert_int_equal(w.changed, 0);
        if (i == 0) continue;
        sum->documents += w.documents;
        sum->changed += w.changed;
        sum->prefix += w.prefix;
        sum->prefix_last += w.prefix_last;
    }
    printf(
        "%d commits forwards: %lld tokens prefilled, those of %lld documents that changed; a "
        "prefix "
        "cache: %lld\n"
        "%d back: %lld; a prefix cache that holds the last view: %lld, that never forgets: %lld\n",
        count - 1, (long long)there.changed, (long long)there.documents, (long long)there.prefix,
        count - 1, (long long)back.changed, (long long)back.prefix_last, (long long)back.prefix);
    end(&b);
}

/* ---- edit -------------------------------------------------------------------------------- */

static void edit(void) {
    bench       b = begin(args.number[0] ? args.number[0] : 86016);
    cn_context *c = cn_session_context(b.s);
    int64_t     tokens = 0, i = 0;
    head();
    const w_step first = row(&b, "first");
    while (tokens < first.context * 3 / 10) tokens += cn_context_doc_at(c, i++)->piece.tokens;
    const cn_context_doc *d = cn_context_doc_at(c, i);
    char                  path[1100];
    snprintf(path, sizeof(path), "%s", d->path);
    const int line = d->piece.first_line + d->piece.lines / 2;
    t_shell("cd %s && sed -i '%di static int of_no_use;' '%s'", b.repo, line, path);
    const w_step w = row(&b, "a line at 30 %");
    printf("one line inserted at line %d of %s, behind %lld of %lld tokens: %lld documents, %lld "
           "tokens prefilled; a prefix cache: %lld\n",
           line, path, (long long)tokens, (long long)first.context, (long long)w.documents,
           (long long)w.changed, (long long)w.prefix);
    assert_in_range(w.documents, 1, 2);
    assert_in_range(w.changed, 1, 4200);
    end(&b);
}

/* ---- view -------------------------------------------------------------------------------- */

enum { PICKED = 4, PATH_BYTES = 1100 };

/* Files that the view holds, of a fair size; or, left out, the first such one. */
static int pick(bench *b, char path[][PATH_BYTES], int most) {
    cn_context *c = cn_session_context(b->s);
    int         n = 0;
    for (int64_t i = 0; i < cn_context_docs(c) && n < most; i++) {
        const char   *p = cn_context_doc_at(c, i)->path;
        const int64_t tokens = k_tokens_of(b->s, p);
        if ((n && strcmp(path[n - 1], p) == 0) || tokens < 1000 || tokens > 8000) continue;
        snprintf(path[n++], PATH_BYTES, "%s", p);
    }
    return n;
}

static bool pick_left(bench *b, char path[PATH_BYTES]) {
    const char *p, *reason;
    int64_t     tokens;
    for (int64_t i = 0; (p = cn_context_left_at(cn_session_context(b->s), i, &tokens, &reason));
         i++) {
        if (tokens < 1000 || tokens > 8000) continue;
        snprintf(path, PATH_BYTES, "%s", p);
        return true;
    }
    return false;
}

/* A question so long that its middle is documents: it comes and goes as a tool's result does. */
static char *long_question(const bench *b) {
    cn_buf text = {0};
    char   command[512], chunk[4096];
    size_t n;
    snprintf(command, sizeof(command), "git -C %s log -p -5 | head -c 24000", b->repo);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0) cn_buf_put(&text, chunk, n);
    pclose(f);
    return cn_buf_take(&text);
}

static int64_t tokens_of(bench *b, const char *const *path, int paths) {
    int64_t tokens = 0;
    for (int i = 0; i < paths; i++) tokens += k_tokens_of(b->s, path[i]);
    return tokens;
}

/* Edit, and ask: `price` tokens are prefilled, -1: those of the paths. */
static float *edit_row(bench *b, const char *what, cn_edit edit, const char *const *path, int paths,
                       int64_t price) {
    assert_err(cn_session_edit(b->s, edit, path, paths, &t_diag), CN_OK);
    const asked a = ask(b, b->s);
    if (price < 0) price = tokens_of(b, path, paths);
    printf("%-44s %8lld %9lld %9lld %8.1f\n", what, (long long)a.bill.context_tokens,
           (long long)price, (long long)a.bill.prefilled_tokens, (double)a.bill.prefill_ns / 1e9);
    fflush(stdout);
    assert_int_equal(a.bill.prefilled_tokens, price);
    return a.logits;
}

/* The logits of the last turn, computed again with the engine alone: every document of the view
 * and the whole conversation from their token ids. */
static void assert_fresh(bench *b, const float *want) {
    enum { DOCS_MAX = 1024, PAGES_MAX = 2048 };
    static cn_doc     *doc[DOCS_MAX];
    static cn_page_ref page[PAGES_MAX];
    cn_context        *c = cn_session_context(b->s);
    const size_t       bytes = (size_t)b->h->model->config.vocab * sizeof(float);
    cn_tokens          talk_tokens = k_conversation(b->h, b->s);
    float             *got = malloc(bytes);
    int64_t            docs = cn_context_docs(c), pages = 0;
    cn_view           *view;
    cn_doc            *talk;
    cn_pages_txn      *txn;
    assert_non_null(got);
    assert_true(docs <= DOCS_MAX);
    assert_err(cn_pages_begin(&txn, b->h->pages, &t_diag), CN_OK);
    for (int64_t i = 0; i < docs; i++) {
        cn_pages_doc d;
        assert_int_equal(cn_pages_get_doc(txn, &cn_context_doc_at(c, i)->piece.key, &d),
                         CN_PAGES_HIT);
        assert_err(cn_doc_create(&doc[i], b->h->engine, CN_DOCUMENT_TOKENS_MAX, true, &t_diag),
                   CN_OK);
        k_run_tokens(b->h, doc[i], d.token, d.tokens, NULL, NULL);
        for (int64_t p = 0; p < cn_doc_pages(doc[i]); p++) {
            assert_true(pages < PAGES_MAX);
            page[pages++] = cn_doc_page(doc[i], p);
        }
    }
    cn_pages_end(txn);
    assert_err(cn_view_create(&view, b->h->engine, PAGES_MAX, &t_diag), CN_OK);
    assert_err(cn_view_set(view, page, pages, &t_diag), CN_OK);
    assert_err(cn_doc_create(&talk, b->h->engine, talk_tokens.count, false, &t_diag), CN_OK);
    k_run_tokens(b->h, talk, talk_tokens.token, talk_tokens.count - 1, view, got);
    assert_memory_equal(got, want, bytes);
    printf("logits: those of the engine alone over this view, bit for bit\n");
    cn_doc_free(talk);
    cn_view_free(view);
    for (int64_t i = 0; i < docs; i++) cn_doc_free(doc[i]);
    cn_tokens_release(&talk_tokens);
    free(got);
}

static void view(void) {
    static char path[PICKED][PATH_BYTES], left[PATH_BYTES];
    const char *name[PICKED + 1], *out = left;
    bench       b = begin(args.number[0] ? args.number[0] : 65536);
    char       *question = long_question(&b);
    cn_turn    *t = k_begin(b.s, question, 1);
    assert_err(cn_turn_run(t, NULL, &t_diag), CN_OK);
    printf("%-44s %8s %9s %9s %8s\n", "", "context", "own", "prefilled", "prefill s");
    printf("%-44s %8lld %9s %9lld %8.1f\n", "first, with a long question",
           (long long)cn_turn_bill(t)->context_tokens, "",
           (long long)cn_turn_bill(t)->prefilled_tokens, (double)cn_turn_bill(t)->prefill_ns / 1e9);
    cn_turn_free(t);
    free(question);
    const int paths = pick(&b, path, PICKED);
    assert_true(paths > 1);
    for (int i = 0; i < paths; i++) name[i] = path[i];
    name[paths] = "turn-1/question.txt";
    assert_true(k_tokens_of(b.s, name[paths]) > 2000);
    int64_t own = tokens_of(&b, name, paths + 1), freed;
    free(edit_row(&b, "files and the long question dropped", CN_EDIT_DROP, name, paths + 1, 0));
    free(edit_row(&b, "added again", CN_EDIT_ADD, name, paths + 1, 0));
    free(edit_row(&b, "dropped once more", CN_EDIT_DROP, name, paths + 1, 0));
    assert_err(cn_pages_evict(b.h->pages, INT64_C(1) << 40, &freed, &t_diag), CN_OK);
    free(edit_row(&b, "added, when the store has forgotten them", CN_EDIT_ADD, name, paths + 1,
                  own));
    free(edit_row(&b, "one dropped", CN_EDIT_DROP, name, 1, 0));
    float *logits = pick_left(&b, left)
                        ? edit_row(&b, "a file added that was left out", CN_EDIT_ADD, &out, 1, -1)
                        : edit_row(&b, "no file was left out: the question dropped", CN_EDIT_DROP,
                                   &name[paths], 1, 0);
    assert_fresh(&b, logits);
    free(logits);
    end(&b);
}

static void test_it(void **state) {
    (void)state;
    if (strcmp(args.what, "walk") == 0) walk();
    if (strcmp(args.what, "edit") == 0) edit();
    if (strcmp(args.what, "view") == 0) view();
}

int main(int argc, char **argv) {
    if (argc < 3 || argc > 5 || !strstr("walk edit view", argv[1])) {
        fprintf(stderr,
                "usage: %s walk REPO [COMMITS [BUDGET]] | edit REPO [BUDGET] | "
                "view REPO [BUDGET]\n",
                argv[0]);
        return 2;
    }
    args.what = argv[1];
    args.repo = argv[2];
    for (int i = 3; i < argc; i++) args.number[i - 3] = atoll(argv[i]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_it)};
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}

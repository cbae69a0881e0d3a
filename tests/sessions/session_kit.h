/*
 * session_kit.h - What the tests of sessions share: small repositories, a tiny model, turns, and
 * a model that says what a test wants.
 *
 * A scripted turn is the real one: context, engine, ledger, page store.  Its logits are those
 * of the model, kept and compared bit for bit; only then is the next token put in their place,
 * so that a model of random numbers calls a tool.
 */
#ifndef CN_TESTS_SESSIONS_SESSION_KIT_H
#define CN_TESTS_SESSIONS_SESSION_KIT_H

#include "tests/test.h"

#include "base/hash.h"
#include "sessions/session.h"

#include <unistd.h>

enum { K_OUTPUT = 12, K_VOCAB_MAX = 512, K_SAYS_MAX = 2048 };

/* ---- Folders ----------------------------------------------------------------------- */

/* Paths in the scratch folder; each is valid until the K_PATHS-th after it was made. */
enum { K_PATHS = 8 };

typedef struct k_paths {
    char path[K_PATHS][256];
    int  made;
} k_paths;

static inline const char *k_new_path(k_paths *of, const char *name) {
    char *p = of->path[of->made % K_PATHS];
    snprintf(p, sizeof(of->path[0]), "%s/%s%d", t_tmp_dir(), name, of->made++);
    return p;
}

/* A repository of a few real sources of this project. */
static inline const char *k_new_repo(void) {
    static k_paths made;
    const char    *path = k_new_path(&made, "repo"), *from = t_source_dir();
    t_shell(
        "mkdir -p %s/base && cd %s && git init -q . && git config user.name t && "
        "git config user.email t@example.invalid && cp %s/base/err.[ch] %s/base/buf.[ch] base && "
        "cp %s/base/README.md . && git add -A && git commit -qm one",
        path, path, from, from, from);
    return path;
}

static inline const char *k_new_state(void) {
    static k_paths made;
    return k_new_path(&made, "state");
}

static inline const char *k_plain_model(void) {
    static char path[256];
    snprintf(path, sizeof(path), "%s/tests/golden/tiny-a", t_source_dir());
    return path;
}

/* The same weights with conversation_refs, and a set S so large that every document counts. */
static inline const char *k_refs_model(void) {
    static char path[256];
    if (path[0]) return path;
    snprintf(path, sizeof(path), "%s/tiny-a-refs", t_tmp_dir());
    t_vary_model(path, "tests/golden/tiny-a",
                 "s/\"conversation_refs\": false/\"conversation_refs\": true/; "
                 "s/\"index_topk\": 24/\"index_topk\": 4096/");
    return path;
}

/* ---- Opening ----------------------------------------------------------------------- */

static const char *k_isa; // the path of every host; NULL: the fastest

static inline cn_host *k_open_host(const char *model, const char *state, int32_t threads) {
    cn_host *h;
    assert_err(cn_host_open(&h,
                            &(cn_host_opts){.model_folder = model,
                                            .state_folder = state,
                                            .isa = k_isa,
                                            .threads = threads,
                                            .cache_bytes = 256 << 20},
                            &t_diag),
               CN_OK);
    return h;
}

static inline cn_session *k_open(cn_host *h, const cn_session_opts *opts) {
    cn_session *s;
    assert_err(cn_session_open(&s, h, opts, &t_diag), CN_OK);
    return s;
}

static inline cn_session *k_open_session(cn_host *h, const char *repo, bool is_continued) {
    return k_open(h, &(cn_session_opts){.folder = repo, .is_continued = is_continued});
}

/* ---- Turns ------------------------------------------------------------------------- */

/* What the model is made to say, over all steps of a turn. */
typedef struct k_says {
    int32_t token[K_SAYS_MAX];
    int32_t tokens, at;
} k_says;

static inline void k_say_token(k_says *says, int32_t token) {
    assert_true(says->tokens < K_SAYS_MAX);
    says->token[says->tokens++] = token;
}

static inline void k_say_text(k_says *says, const cn_host *h, const char *text) {
    cn_tokens t = {0};
    assert_err(cn_tokenizer_encode(h->tokenizer, &t, text, strlen(text), CN_TOKENIZE_TEXT, &t_diag),
               CN_OK);
    for (int64_t i = 0; i < t.count; i++) k_say_token(says, t.token[i]);
    cn_tokens_release(&t);
}

static inline void k_say_answer(k_says *says, const cn_host *h, const char *text) {
    k_say_text(says, h, text);
    k_say_token(says, h->roles.end);
}

static inline void k_say_call(k_says *says, const cn_host *h, const char *name,
                              const char *arguments) {
    char text[512];
    snprintf(text, sizeof(text), "{\"name\":\"%s\",\"arguments\":%s}", name, arguments);
    k_say_token(says, h->roles.tool_call);
    k_say_answer(says, h, text);
}

typedef struct k_asked {
    cn_bill  bill;
    float    logits[K_VOCAB_MAX]; // the last ones
    uint64_t all;                 // a hash of all of them, in order
    int32_t  number;
    char     text[1024];
    cn_stop  stop;
} k_asked;

/* One step of a turn, with the engine's logits noted and then what the model says. */
static inline bool k_step(cn_host *h, cn_turn *t, k_says *says, k_asked *a) {
    static float  want[K_VOCAB_MAX];
    cn_turn_need  need;
    cn_step_stats stats;
    assert_err(cn_turn_step(t, &need, &t_diag), CN_OK);
    if (need == CN_TURN_DONE) return false;
    if (need == CN_TURN_TOOL) {
        assert_err(cn_turn_run_tool(t, &t_diag), CN_OK);
        return true;
    }
    cn_slice    *slice = cn_turn_slice(t);
    const size_t vocab = (size_t)h->model->config.vocab;
    assert_true(vocab <= K_VOCAB_MAX);
    assert_err(cn_engine_step(h->engine, slice, 1, &stats, &t_diag), CN_OK);
    if (slice->logits) {
        memcpy(a->logits, slice->logits, vocab * sizeof(float));
        a->all = cn_xxh3(a->logits, vocab * sizeof(float), a->all);
        if (says && says->at < says->tokens) {
            memset(want, 0, sizeof(want));
            want[says->token[says->at++]] = 1;
            slice->logits = want;
        }
    }
    cn_turn_ran(t, &stats);
    return true;
}

/* The turn's end; its bill must add up. */
static inline void k_end(cn_turn *t, k_asked *a) {
    a->bill = *cn_turn_bill(t);
    a->stop = cn_turn_stop(t);
    a->number = cn_turn_number(t);
    snprintf(a->text, sizeof(a->text), "%s", cn_turn_text(t));
    assert_err(cn_bill_check(&a->bill, &t_diag), CN_OK);
    assert_true(a->bill.output_tokens > 0 && a->bill.prompt_tokens > 0);
}

static inline cn_turn *k_begin(cn_session *s, const char *question, int32_t output) {
    cn_turn *t;
    assert_err(cn_turn_begin(&t, s,
                             &(cn_turn_opts){.question = question,
                                             .question_bytes = strlen(question),
                                             .output_tokens_max = output},
                             &t_diag),
               CN_OK);
    return t;
}

/* One turn; `says` NULL: what the model itself says. */
static inline k_asked k_ask(cn_host *h, cn_session *s, const char *question, k_says *says) {
    k_asked  a = {.all = 0};
    cn_turn *t = k_begin(s, question, says ? says->tokens : K_OUTPUT);
    while (k_step(h, t, says, &a)) {
    }
    if (says) assert_int_equal(says->at, says->tokens);
    k_end(t, &a);
    cn_turn_free(t);
    return a;
}

static inline void k_assert_same(const k_asked *a, const k_asked *b, const char *what) {
    t_note("%s, turn %d", what, b->number);
    assert_string_equal(a->text, b->text);
    assert_memory_equal(a->logits, b->logits, sizeof(a->logits));
    assert_true(a->all == b->all);
}

/* ---- Conversations ------------------------------------------------------------------- */

/* Turn i, from 0. */
typedef k_asked (*k_turn_fn)(cn_host *h, cn_session *s, int i);

typedef enum {
    K_ONE_HOST,  // all turns in one host, one thread: what every other way is compared with
    K_HOST_EACH, // each in a host of its own, two threads
    K_NO_CACHE,  // the same, and the cache deleted before each
} k_way;

/* A new session on `repo`, in a new state folder: its turns, one way. */
static inline void k_converse(const char *model, const char *repo, k_turn_fn turn, int turns,
                              k_way way, k_asked *out) {
    const char *state = k_new_state();
    cn_host    *h = NULL;
    cn_session *s = NULL;
    for (int i = 0; i < turns; i++) {
        if (!h) {
            if (way == K_NO_CACHE) t_shell("rm -rf %s/cache", state);
            h = k_open_host(model, state, way == K_ONE_HOST ? 1 : 2);
            s = k_open_session(h, repo, i > 0);
        }
        out[i] = turn(h, s, i);
        if (way == K_ONE_HOST && i < turns - 1) continue;
        cn_session_close(s);
        cn_host_close(h);
        h = NULL;
    }
}

/* ---- The same view by hand ----------------------------------------------------------- */

/* The conversation of a session, from the ledger. */
static inline void k_on_tokens(void *ctx, int32_t turn, int32_t step, const int32_t *token,
                               int64_t tokens) {
    (void)turn, (void)step;
    assert_err(cn_tokens_put(ctx, token, tokens), CN_OK);
}

static inline cn_tokens k_conversation(cn_host *h, cn_session *s) {
    cn_tokens t = {0};
    assert_err(cn_ledger_tokens(h->ledger, cn_session_row(s)->id, 0, k_on_tokens, &t, &t_diag),
               CN_OK);
    return t;
}

/* A document of the view: `text` under the header of `path`. */
typedef struct k_file {
    const char *path, *text;
} k_file;

static inline void k_run_tokens(cn_host *h, cn_doc *doc, const int32_t *token, int64_t tokens,
                                cn_view *view, float *logits) {
    for (int64_t at = 0; at < tokens; at += CN_STEP_ROWS) {
        const int64_t left = tokens - at;
        cn_slice      slice = {.doc = doc,
                               .token = token + at,
                               .tokens = left < CN_STEP_ROWS ? (int32_t)left : CN_STEP_ROWS,
                               .view = left <= CN_STEP_ROWS ? view : NULL};
        assert_err(cn_engine_step(h->engine, &slice, 1, NULL, &t_diag), CN_OK);
        if (slice.logits && logits)
            memcpy(logits, slice.logits, (size_t)h->model->config.vocab * sizeof(float));
    }
}

/* The logits that chose the last token of a conversation, over a view of these files in this
 * order, with nothing but the engine: what every session with that view must compute. */
static inline void k_fresh_logits(cn_host *h, const k_file *file, int files,
                                  const cn_tokens *conversation, float out[K_VOCAB_MAX]) {
    enum { DOCS_MAX = 128, PAGES_MAX = 1024 };
    static cn_doc     *doc[DOCS_MAX];
    static cn_page_ref page[PAGES_MAX];
    int                docs = 0;
    int64_t            pages = 0;
    for (int i = 0; i < files; i++) {
        cn_cut cut;
        assert_err(cn_cut_file(&cut,
                               &(cn_cut_args){.tokenizer = h->tokenizer,
                                              .file_role = h->roles.file,
                                              .path = file[i].path,
                                              .text = file[i].text,
                                              .bytes = strlen(file[i].text)},
                               &t_diag),
                   CN_OK);
        for (int32_t d = 0; d < cut.documents; d++) {
            assert_true(docs < DOCS_MAX);
            assert_err(cn_doc_create(&doc[docs], h->engine, CN_DOCUMENT_TOKENS_MAX, true, &t_diag),
                       CN_OK);
            k_run_tokens(h, doc[docs], cut.document[d].token, cut.document[d].tokens, NULL, NULL);
            for (int64_t p = 0; p < cn_doc_pages(doc[docs]); p++) {
                assert_true(pages < PAGES_MAX);
                page[pages++] = cn_doc_page(doc[docs], p);
            }
            docs++;
        }
        cn_cut_release(&cut);
    }
    cn_view *view;
    cn_doc  *talk;
    assert_err(cn_view_create(&view, h->engine, 2 * PAGES_MAX, &t_diag), CN_OK);
    assert_err(cn_view_set(view, page, pages, &t_diag), CN_OK);
    assert_err(cn_doc_create(&talk, h->engine, conversation->count, false, &t_diag), CN_OK);
    memset(out, 0, K_VOCAB_MAX * sizeof(*out));
    k_run_tokens(h, talk, conversation->token, conversation->count - 1, view, out);
    cn_doc_free(talk);
    cn_view_free(view);
    for (int i = 0; i < docs; i++) cn_doc_free(doc[i]);
}

/* ---- Texts ------------------------------------------------------------------------- */

/* `bytes` bytes of lines, each with its number: "a 17: the words of line 17\n". */
static inline char *k_lines(const char *name, size_t bytes) {
    cn_buf b = {0};
    for (int i = 1; b.bytes < bytes && !b.err; i++)
        cn_buf_printf(&b, "%s %d: the words of line %d\n", name, i, i);
    assert_int_equal(b.err, CN_OK);
    return cn_buf_take(&b);
}

/* Tokens of all documents of a path in the view. */
static inline int64_t k_tokens_of(cn_session *s, const char *path) {
    cn_context *c = cn_session_context(s);
    int64_t     tokens = 0;
    for (int64_t i = 0; i < cn_context_docs(c); i++)
        if (strcmp(cn_context_doc_at(c, i)->path, path) == 0)
            tokens += cn_context_doc_at(c, i)->piece.tokens;
    return tokens;
}

#endif

/*
 * test_refs.c - Long questions and results become documents: once, exactly, and as long as the
 * conversation has their turn.
 *
 * The model's tokenizer is one of bytes, so that the edges of a part can be counted by hand.
 */
#include "base/fault.h"
#include "sessions/ref.h"
#include "tests/sessions/session_kit.h"

#include <sys/wait.h>

enum { TURNS = 4, EDGE = CN_REF_EDGE_TOKENS, PART_BYTES = 5000 };

/* ---- Parts, by hand ---------------------------------------------------------------- */

/* A text of lines, cut as ref.h says. */
typedef struct parts {
    char *head, *middle, *tail;
} parts;

static parts cut_by_hand(const char *text) {
    const size_t bytes = strlen(text);
    size_t       begin = EDGE, end = bytes - EDGE;
    while (text[begin - 1] != '\n') begin--;
    while (text[end - 1] != '\n') end++;
    return (parts){strndup(text, begin), strndup(text + begin, end - begin), strdup(text + end)};
}

static void free_parts(parts p) {
    free(p.head);
    free(p.middle);
    free(p.tail);
}

static cn_host *open_host(const char *state, int32_t threads) {
    return k_open_host(k_refs_model(), state, threads);
}

/* A repository with two texts that no view takes by itself. */
static const char *new_repo(void) {
    const char *repo = k_new_repo();
    char       *lines = k_lines("note", PART_BYTES);
    char        path[300];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/%s.lock", repo, i ? "more" : "notes");
        FILE *f = fopen(path, "w");
        assert_true(f && fputs(lines, f) >= 0 && fclose(f) == 0);
    }
    free(lines);
    return repo;
}

static char *read_file(const char *repo, const char *name) {
    static char text[1 << 16];
    char        path[300];
    snprintf(path, sizeof(path), "%s/%s", repo, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = 0;
    fclose(f);
    return text;
}

/* ---- A conversation with every kind of part ----------------------------------------- */

#define READ_NOTES "{\"path\":\"notes.lock\",\"start\":1,\"end\":1000}"
#define READ_HELD "{\"path\":\"./base//err.h\",\"start\":3,\"end\":80}"

/* Turn i of TURNS: a long question; a long result; lines that the view holds; nothing long. */
static k_asked play(cn_host *h, cn_session *s, int i) {
    char  *lines = k_lines("question", PART_BYTES);
    k_says says = {.tokens = 0};
    if (i == 1) k_say_call(&says, h, "read_lines", READ_NOTES);
    if (i == 2) k_say_call(&says, h, "read_lines", READ_HELD);
    k_say_answer(&says, h, "so it is");
    const k_asked a = k_ask(h, s, i == 0 ? lines : "and then?", &says);
    free(lines);
    return a;
}

static void run_plain(const char *repo, k_asked out[TURNS]) {
    k_converse(k_refs_model(), repo, play, TURNS, K_ONE_HOST, out);
}

/* ---- The form ---------------------------------------------------------------------- */

static void put(const cn_host *h, cn_tokens *to, int32_t role, const char *text) {
    if (role >= 0) assert_err(cn_tokens_put(to, &role, 1), CN_OK);
    assert_err(cn_tokenizer_encode(h->tokenizer, to, text, strlen(text), CN_TOKENIZE_TEXT, &t_diag),
               CN_OK);
}

static void put_part(const cn_host *h, cn_tokens *to, int32_t role, const parts *p,
                     const char *ref) {
    char text[2048];
    snprintf(text, sizeof(text), "%s[... more in file: %s]\n%s", p->head, ref, p->tail);
    put(h, to, role, text);
}

/* The text of all documents of a path, by their tokens in the page store. */
static void assert_documents_hold(cn_host *h, cn_session *s, const char *path, const char *want) {
    cn_buf        got = {0}, header = {0};
    cn_pages_txn *txn;
    assert_err(cn_pages_begin(&txn, h->pages, &t_diag), CN_OK);
    cn_buf_printf(&header, "%s\nfile: %s\n", path, path);
    for (int64_t i = 0; i < cn_context_docs(cn_session_context(s)); i++) {
        const cn_context_doc *d = cn_context_doc_at(cn_session_context(s), i);
        cn_pages_doc          record;
        cn_detok              detok = {.held_bytes = 0};
        if (strcmp(d->path, path) != 0) continue;
        assert_int_equal(d->kind, CN_DOCUMENT_REF);
        assert_int_equal(cn_pages_get_doc(txn, &d->piece.key, &record), CN_PAGES_HIT);
        const size_t from = got.bytes;
        for (int32_t t = 0; t < record.tokens; t++)
            cn_detok_put(&detok, h->tokenizer, record.token[t], &got);
        assert_true(got.bytes - from > header.bytes);
        assert_memory_equal(got.data + from, header.data, header.bytes);
        memmove(got.data + from, got.data + from + header.bytes, got.bytes - from - header.bytes);
        got.bytes -= header.bytes;
    }
    assert_int_equal(got.bytes, strlen(want));
    assert_memory_equal(got.data, want, got.bytes);
    cn_pages_end(txn);
    cn_buf_release(&got);
    cn_buf_release(&header);
}

static void test_the_form(void **state) {
    (void)state;
    const char *repo = new_repo();
    cn_host    *h = open_host(k_new_state(), 2);
    cn_session *s = k_open_session(h, repo, false);
    for (int i = 0; i < TURNS; i++) play(h, s, i);

    char       *question = k_lines("question", PART_BYTES), *note = k_lines("note", PART_BYTES);
    const parts asked = cut_by_hand(question);
    note[strlen(note) - 1] = 0; // a tool's result ends without a newline
    const parts read = cut_by_hand(note);
    char       *from = read_file(repo, "base/err.h"), *to;
    for (int i = 1; i < 3; i++) from = strchr(from, '\n') + 1;
    to = from;
    for (int i = 3; i <= 80; i++) to = strchr(to, '\n') + 1;
    to[-1] = 0;
    const parts held = cut_by_hand(from);

    cn_tokens want = {0}, got = k_conversation(h, s);
    put_part(h, &want, h->roles.user, &asked, "turn-1/question.txt");
    put(h, &want, h->roles.assistant, "so it is");
    put(h, &want, h->roles.end, "");
    put(h, &want, h->roles.user, "and then?");
    put(h, &want, h->roles.assistant, "");
    put(h, &want, h->roles.tool_call, "{\"name\":\"read_lines\",\"arguments\":" READ_NOTES "}");
    put(h, &want, h->roles.end, "");
    put_part(h, &want, h->roles.tool_result, &read, "turn-2/result-1.txt");
    put(h, &want, h->roles.end, "");
    put(h, &want, h->roles.assistant, "so it is");
    put(h, &want, h->roles.end, "");
    put(h, &want, h->roles.user, "and then?");
    put(h, &want, h->roles.assistant, "");
    put(h, &want, h->roles.tool_call, "{\"name\":\"read_lines\",\"arguments\":" READ_HELD "}");
    put(h, &want, h->roles.end, "");
    put_part(h, &want, h->roles.tool_result, &held, "base/err.h");
    put(h, &want, h->roles.end, "");
    put(h, &want, h->roles.assistant, "so it is");
    put(h, &want, h->roles.end, "");
    put(h, &want, h->roles.user, "and then?");
    put(h, &want, h->roles.assistant, "so it is");
    put(h, &want, h->roles.end, "");
    assert_int_equal(got.count, want.count);
    assert_memory_equal(got.token, want.token, (size_t)got.count * sizeof(*got.token));

    assert_documents_hold(h, s, "turn-1/question.txt", asked.middle);
    assert_documents_hold(h, s, "turn-2/result-1.txt", read.middle);
    assert_int_equal(cn_context_refs(cn_session_context(s)), 2);
    // Files first, then the parts in the order of their making.
    const int64_t docs = cn_context_docs(cn_session_context(s));
    const char   *last = "";
    int           changes = 0;
    for (int64_t i = 0; i < docs; i++) {
        const cn_context_doc *d = cn_context_doc_at(cn_session_context(s), i);
        const char *const     order[] = {"README.md",          "base/buf.c", "base/buf.h",
                                         "base/err.c",         "base/err.h", "turn-1/question.txt",
                                         "turn-2/result-1.txt"};
        if (strcmp(d->path, last) != 0) assert_string_equal(d->path, order[changes++]);
        last = d->path;
    }
    assert_int_equal(changes, 7);

    cn_tokens_release(&want);
    cn_tokens_release(&got);
    free_parts(asked);
    free_parts(read);
    free_parts(held);
    free(question);
    free(note);
    cn_session_close(s);
    cn_host_close(h);
}

/* Of 768 tokens a part stays whole, of one more it does not; what the model says always stays. */
static void test_short_parts_and_answers_stay(void **state) {
    (void)state;
    cn_host    *h = open_host(k_new_state(), 2);
    cn_session *s = k_open_session(h, k_new_repo(), false);
    char        text[CN_REF_TOKENS + 2], answer[1001];
    memset(text, 'x', sizeof(text));
    text[CN_REF_TOKENS] = 0;
    memset(answer, 'y', sizeof(answer) - 1);
    answer[sizeof(answer) - 1] = 0;
    k_says says = {.tokens = 0};
    k_say_answer(&says, h, answer);
    k_ask(h, s, text, &says);
    assert_int_equal(cn_context_refs(cn_session_context(s)), 0);
    assert_int_equal(cn_session_tokens(s), 1 + CN_REF_TOKENS + 1 + 1000 + 1);
    text[CN_REF_TOKENS] = 'x';
    text[CN_REF_TOKENS + 1] = 0;
    says = (k_says){.tokens = 0};
    k_say_answer(&says, h, "z");
    k_ask(h, s, text, &says);
    assert_int_equal(cn_context_refs(cn_session_context(s)), 1);
    const int64_t line = (int64_t)strlen("\n[... more in file: turn-2/question.txt]\n");
    assert_int_equal(cn_session_tokens(s),
                     1 + CN_REF_TOKENS + 1 + 1000 + 1 + 1 + 2 * EDGE + line + 1 + 2);
    cn_session_close(s);
    cn_host_close(h);
}

/* A model whose config does not say it: nothing is referred to, long results are cut. */
static void test_off_it_changes_nothing(void **state) {
    (void)state;
    cn_host    *h = k_open_host(k_plain_model(), k_new_state(), 2);
    cn_session *s = k_open_session(h, new_repo(), false);
    for (int i = 0; i < TURNS; i++) play(h, s, i);
    assert_int_equal(cn_context_refs(cn_session_context(s)), 0);
    cn_tokens t = k_conversation(h, s);
    char     *question = k_lines("question", PART_BYTES);
    cn_tokens whole = {0};
    put(h, &whole, h->roles.user, question);
    assert_memory_equal(t.token, whole.token, (size_t)whole.count * sizeof(*whole.token));
    assert_true(t.count > whole.count + CN_TURN_RESULT_TOKENS_MAX);
    free(question);
    cn_tokens_release(&whole);
    cn_tokens_release(&t);
    cn_session_close(s);
    cn_host_close(h);
}

/* ---- The same bits ------------------------------------------------------------------- */

static void test_same_bits_whatever_happens(void **state) {
    (void)state;
    const char *repo = new_repo();
    k_asked     want[TURNS], got[TURNS];
    run_plain(repo, want);

    // A host for each turn: each part is prefilled once, in its turn.
    k_converse(k_refs_model(), repo, play, TURNS, K_HOST_EACH, got);
    for (int i = 0; i < TURNS; i++) {
        k_assert_same(&want[i], &got[i], "a host for each turn");
        assert_int_equal(got[i].bill.prefilled_tokens, want[i].bill.prefilled_tokens);
        assert_int_equal(got[i].bill.context_tokens, want[i].bill.context_tokens);
        assert_int_equal(got[i].bill.prompt_tokens, want[i].bill.prompt_tokens);
    }

    // The cache deleted between turns: all that the view holds is prefilled again, no more.
    k_converse(k_refs_model(), repo, play, TURNS, K_NO_CACHE, got);
    for (int i = 0; i < TURNS; i++) {
        k_assert_same(&want[i], &got[i], "without a cache");
        assert_int_equal(got[i].bill.prefilled_tokens, want[i].bill.context_tokens);
        assert_int_equal(got[i].bill.cached_tokens, 0);
        assert_int_equal(got[i].bill.context_tokens, want[i].bill.context_tokens);
    }
}

/* What the engine computes over these documents and this conversation, and nothing else. */
static void test_bits_are_those_of_the_view(void **state) {
    (void)state;
    const char *repo = new_repo(),
               *names[] = {"README.md", "base/buf.c", "base/buf.h", "base/err.c", "base/err.h"};
    cn_host    *h = open_host(k_new_state(), 2);
    cn_session *s = k_open_session(h, repo, false);
    char       *question = k_lines("question", PART_BYTES), *note = k_lines("note", PART_BYTES);
    note[strlen(note) - 1] = 0;
    const parts asked = cut_by_hand(question), read = cut_by_hand(note);
    k_file      file[7] = {
             [5] = {"turn-1/question.txt", asked.middle}, [6] = {"turn-2/result-1.txt", read.middle}};
    for (int i = 0; i < 5; i++) file[i] = (k_file){names[i], strdup(read_file(repo, names[i]))};
    for (int i = 0; i < TURNS; i++) {
        float         fresh[K_VOCAB_MAX];
        const k_asked a = play(h, s, i);
        cn_tokens     talk = k_conversation(h, s);
        t_note("turn %d", i + 1);
        k_fresh_logits(h, file, i == 0 ? 6 : 7, &talk, fresh);
        assert_memory_equal(fresh, a.logits, sizeof(fresh));
        k_fresh_logits(h, file, 5, &talk, fresh); // without the parts they are others
        assert_memory_not_equal(fresh, a.logits, sizeof(fresh));
        cn_tokens_release(&talk);
    }
    for (int i = 0; i < 5; i++) free((char *)(uintptr_t)file[i].text);
    free_parts(asked);
    free_parts(read);
    free(question);
    free(note);
    cn_session_close(s);
    cn_host_close(h);
}

/* ---- What it costs --------------------------------------------------------------------- */

typedef struct steps_seen {
    cn_host    *h;
    const char *id;
    int64_t     generation[16];
    int         steps;
} steps_seen;

static void on_step(void *ctx, const cn_ledger_step *step) {
    steps_seen *s = ctx;
    s->generation[s->steps++] = step->generation;
}

static void on_document(void *ctx, const cn_ledger_document *d) {
    *(int64_t *)ctx += d->piece.tokens;
    assert_int_equal(d->kind,
                     strncmp(d->path, "turn-", 5) == 0 ? CN_DOCUMENT_REF : CN_DOCUMENT_FILE);
}

static void test_each_part_is_paid_once(void **state) {
    (void)state;
    const char *repo = new_repo();
    cn_host    *h = open_host(k_new_state(), 2);
    cn_session *s = k_open_session(h, repo, false);
    k_asked     a[TURNS];
    int64_t     tokens[TURNS];
    for (int i = 0; i < TURNS; i++) {
        a[i] = play(h, s, i);
        tokens[i] = cn_context_get_plan(cn_session_context(s))->tokens;
        assert_int_equal(a[i].bill.context_tokens, tokens[i]);
    }
    const int64_t question = k_tokens_of(s, "turn-1/question.txt");
    const int64_t result = k_tokens_of(s, "turn-2/result-1.txt");
    assert_true(question > PART_BYTES - 2 * EDGE && result > PART_BYTES - 2 * EDGE);
    assert_int_equal(a[0].bill.prefilled_tokens, tokens[0]);
    assert_int_equal(a[0].bill.misses[CN_MISS_NEW].tokens, tokens[0]);
    assert_int_equal(a[1].bill.prefilled_tokens, result);
    assert_int_equal(a[1].bill.misses[CN_MISS_NEW].tokens, result);
    assert_int_equal(a[1].bill.cached_tokens, tokens[0]);
    assert_int_equal(tokens[1], tokens[0] + result);
    assert_int_equal(a[2].bill.prefilled_tokens, 0); // the view holds what was read
    assert_int_equal(tokens[2], tokens[1]);
    assert_int_equal(a[3].bill.prefilled_tokens, 0);
    const cn_context_plan *plan = cn_context_get_plan(cn_session_context(s));
    assert_int_equal(plan->refs, 2);
    assert_int_equal(plan->ref_tokens, question + result);
    assert_int_equal(plan->file_tokens, tokens[3] - question - result);

    // The ledger says over which documents each step ran: those of the result from its turn's
    // last generation on.
    steps_seen seen = {.h = h, .id = cn_session_row(s)->id};
    assert_err(cn_ledger_steps(h->ledger, seen.id, 0, on_step, &seen, &t_diag), CN_OK);
    assert_int_equal(seen.steps, 1 + 3 + 3 + 1);
    const int64_t over[] = {tokens[0], tokens[0], tokens[0], tokens[1],
                            tokens[1], tokens[1], tokens[1], tokens[1]};
    for (int i = 0; i < seen.steps; i++) {
        int64_t sum = 0;
        assert_err(
            cn_ledger_documents(h->ledger, seen.id, seen.generation[i], on_document, &sum, &t_diag),
            CN_OK);
        t_note("step %d", i);
        assert_int_equal(sum, over[i]);
    }

    // A resume, before anything is asked: all is there.  Without the cache the reason is said.
    char id[64];
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    for (int round = 0; round < 2; round++) {
        cn_session_close(s);
        s = k_open(h, &(cn_session_opts){.id = id});
        assert_err(cn_context_update(cn_session_context(s), &t_diag), CN_OK);
        plan = cn_context_get_plan(cn_session_context(s));
        assert_int_equal(plan->tokens, tokens[3]);
        assert_int_equal(plan->files_read, 0);
        assert_int_equal(plan->missing_tokens, 0);
        assert_false(cn_context_has_changed(cn_session_context(s)));
    }
    cn_hash key = {{0}};
    for (int64_t i = 0; i < cn_context_docs(cn_session_context(s)); i++)
        if (cn_context_doc_at(cn_session_context(s), i)->kind == CN_DOCUMENT_REF) {
            key = cn_context_doc_at(cn_session_context(s), i)->piece.key;
            break;
        }
    cn_session_close(s);
    assert_err(cn_pages_delete(h->pages, &key, 1, &t_diag), CN_OK);
    s = k_open(h, &(cn_session_opts){.id = id});
    const k_asked again = play(h, s, 3);
    assert_true(again.bill.prefilled_tokens > 0 && again.bill.prefilled_tokens <= question);
    assert_int_equal(again.bill.misses[CN_MISS_EVICTED].tokens, again.bill.prefilled_tokens);
    assert_int_equal(again.bill.misses[CN_MISS_EVICTED].count, 1);
    cn_session_close(s);
    cn_host_close(h);
}

/* ---- Lines that the view holds -------------------------------------------------------- */

/* A turn that reads a file; something happens between the call and its run. */
static void read_lines(cn_host *h, cn_session *s, const char *arguments, const char *meanwhile,
                       k_asked *a) {
    k_says says = {.tokens = 0};
    k_say_call(&says, h, "read_lines", arguments);
    k_say_answer(&says, h, "ok");
    cn_turn *t = k_begin(s, "what does it say?", says.tokens);
    *a = (k_asked){.all = 0};
    bool was_called = false;
    while (k_step(h, t, &says, a)) {
        if (!was_called && says.at == says.tokens - 3 && meanwhile) t_shell("%s", meanwhile);
        was_called |= says.at == says.tokens - 3;
    }
    k_end(t, a);
    cn_turn_free(t);
}

static void test_lines_that_the_view_holds(void **state) {
    (void)state;
    const char    *repo = new_repo();
    cn_host       *h = open_host(k_new_state(), 2);
    cn_session    *s = k_open_session(h, repo, false);
    cn_context    *c = cn_session_context(s);
    k_asked        a;
    char           edit[512];
    const int64_t *prefilled = &a.bill.prefilled_tokens;
    read_lines(h, s, "{\"path\":\"base/buf.c\",\"start\":1,\"end\":85}", NULL, &a);
    assert_int_equal(*prefilled, k_tokens_of(s, "README.md") + k_tokens_of(s, "base/buf.c") +
                                     k_tokens_of(s, "base/buf.h") + k_tokens_of(s, "base/err.c") +
                                     k_tokens_of(s, "base/err.h"));
    read_lines(h, s, "{\"path\":\"base/err.h\",\"start\":20,\"end\":60}", NULL, &a);
    assert_int_equal(*prefilled, 0);
    // More lines than the file has are those that it has.
    read_lines(h, s, "{\"path\":\"base/buf.c\",\"start\":10,\"end\":1000}", NULL, &a);
    assert_int_equal(*prefilled, 0);
    assert_int_equal(cn_context_refs(c), 0);
    // Not a file of the view.
    read_lines(h, s, "{\"path\":\"notes.lock\",\"start\":1,\"end\":1000}", NULL, &a);
    assert_int_equal(cn_context_refs(c), 1);
    assert_int_equal(*prefilled, k_tokens_of(s, "turn-4/result-1.txt"));
    // Changed between the call and the run: what was read is not what the view holds.
    snprintf(edit, sizeof(edit), "sed -i '20i // another line' %s/base/buf.c", repo);
    read_lines(h, s, "{\"path\":\"base/buf.c\",\"start\":1,\"end\":85}", edit, &a);
    assert_int_equal(cn_context_refs(c), 2);
    assert_int_equal(*prefilled, k_tokens_of(s, "turn-5/result-1.txt"));
    // From the next turn on it is.
    read_lines(h, s, "{\"path\":\"base/buf.c\",\"start\":1,\"end\":85}", NULL, &a);
    assert_int_equal(cn_context_refs(c), 2);
    assert_int_equal(a.bill.misses[CN_MISS_CHANGED].tokens, *prefilled);
    // Line ends of Windows are none to a reader of lines.
    t_shell("cd %s && sed -i 's/$/\\r/' base/err.c && git add -A && git commit -qm crlf", repo);
    read_lines(h, s, "{\"path\":\"base/err.c\",\"start\":1,\"end\":40}", NULL, &a);
    assert_int_equal(cn_context_refs(c), 2);
    // Dropped: the view does not hold it any more.
    assert_err(cn_session_edit(s, CN_EDIT_DROP, (const char *[]){"base/buf.c"}, 1, &t_diag), CN_OK);
    read_lines(h, s, "{\"path\":\"base/buf.c\",\"start\":1,\"end\":85}", NULL, &a);
    assert_int_equal(cn_context_refs(c), 3);
    assert_int_equal(*prefilled, k_tokens_of(s, "turn-8/result-1.txt"));
    cn_session_close(s);
    cn_host_close(h);
}

/* ---- Rewind and fork ------------------------------------------------------------------ */

static void rewind_to(cn_host *h, const char *id, int32_t turn) {
    cn_ledger_writer *w;
    assert_err(cn_ledger_writer_open(&w, h->ledger, id, NULL, &t_diag), CN_OK);
    assert_err(cn_ledger_rewind(w, turn, &t_diag), CN_OK);
    cn_ledger_writer_close(w);
}

static void test_parts_go_with_their_turn(void **state) {
    (void)state;
    const char        *repo = new_repo(), *folder = k_new_state();
    k_asked            want[TURNS], got;
    cn_ledger_session *fork;
    run_plain(repo, want);
    cn_host    *h = open_host(folder, 2);
    cn_session *s = k_open_session(h, repo, false);
    char        id[64];
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    for (int i = 0; i < TURNS; i++) play(h, s, i);
    cn_session_close(s);
    assert_err(cn_ledger_session_fork(h->ledger, id, 2, NULL, &fork, &t_diag), CN_OK);
    rewind_to(h, id, 1);

    // Its turns 2 to 4 are gone, and the result with them; the question stays.
    s = k_open(h, &(cn_session_opts){.id = id});
    assert_int_equal(cn_context_refs(cn_session_context(s)), 1);
    got = play(h, s, 3);
    assert_int_equal(got.bill.context_tokens, want[0].bill.context_tokens);
    assert_int_equal(got.bill.prefilled_tokens, 0);
    assert_int_equal(k_tokens_of(s, "turn-2/result-1.txt"), 0);
    assert_true(k_tokens_of(s, "turn-1/question.txt") > 0);
    cn_session_close(s);
    rewind_to(h, id, 0);
    s = k_open(h, &(cn_session_opts){.id = id});
    assert_int_equal(cn_context_refs(cn_session_context(s)), 0);
    cn_session_close(s);

    // The fork stands where the parent was behind turn 2, and goes on with the same bits.
    s = k_open(h, &(cn_session_opts){.id = fork->id});
    assert_int_equal(cn_context_refs(cn_session_context(s)), 2);
    for (int i = 2; i < TURNS; i++) {
        got = play(h, s, i);
        k_assert_same(&want[i], &got, "in a fork");
        assert_int_equal(got.bill.prefilled_tokens, 0);
    }
    cn_session_close(s);
    cn_ledger_session_free(fork);
    cn_host_close(h);
}

/* A fork has the edits of its parent, but not those of parts that it does not share. */
static void test_a_forks_own_parts_are_its_own(void **state) {
    (void)state;
    const char        *repo = new_repo();
    cn_host           *h = open_host(k_new_state(), 2);
    cn_session        *s = k_open_session(h, repo, false);
    cn_ledger_session *fork;
    const char        *paths[] = {"turn-2/result-1.txt", "base/err.h"};
    play(h, s, 3);
    play(h, s, 1);
    assert_err(cn_session_edit(s, CN_EDIT_DROP, paths, 2, &t_diag), CN_OK);
    assert_err(cn_ledger_session_fork(h->ledger, cn_session_row(s)->id, 1, NULL, &fork, &t_diag),
               CN_OK);
    cn_session_close(s);
    s = k_open(h, &(cn_session_opts){.id = fork->id});
    const k_asked a = play(h, s, 1);
    assert_true(k_tokens_of(s, "turn-2/result-1.txt") > 0);
    assert_int_equal(a.bill.prefilled_tokens, 0); // the same document as its parent's
    assert_int_equal(k_tokens_of(s, "base/err.h"), 0);
    cn_session_close(s);
    s = k_open(h, &(cn_session_opts){.id = fork->id});
    play(h, s, 3);
    assert_true(k_tokens_of(s, "turn-2/result-1.txt") > 0);
    cn_session_close(s);
    cn_ledger_session_free(fork);
    cn_host_close(h);
}

/* ---- Turns that end early --------------------------------------------------------------- */

/* A turn that was stopped leaves the parts that its committed steps have, and no other. */
static void test_a_stopped_turn_leaves_what_was_committed(void **state) {
    (void)state;
    const char *repo = new_repo();
    cn_host    *h = open_host(k_new_state(), 2);
    cn_session *s = k_open_session(h, repo, false);
    char       *lines = k_lines("question", PART_BYTES);
    k_asked     a;
    play(h, s, 3);
    const int64_t tokens = cn_context_get_plan(cn_session_context(s))->tokens;
    // In the middle of its prefill: nothing was committed.
    cn_turn *t = k_begin(s, lines, K_OUTPUT);
    assert_int_equal(cn_context_refs(cn_session_context(s)), 1);
    for (int i = 0; i < 3; i++) assert_true(k_step(h, t, NULL, &a));
    cn_turn_stop_now(t, CN_STOP_CANCEL);
    cn_turn_free(t);
    assert_int_equal(cn_context_refs(cn_session_context(s)), 0);
    assert_int_equal(cn_context_get_plan(cn_session_context(s))->tokens, tokens);
    play(h, s, 3);
    assert_int_equal(cn_context_get_plan(cn_session_context(s))->tokens, tokens);

    // While its call waits: the question's step was committed.
    k_says says = {.tokens = 0};
    k_say_call(&says, h, "read_lines", READ_NOTES);
    t = k_begin(s, lines, says.tokens);
    cn_turn_need need = CN_TURN_ENGINE;
    while (says.at < says.tokens) assert_true(k_step(h, t, &says, &a));
    assert_err(cn_turn_step(t, &need, &t_diag), CN_OK);
    assert_int_equal(need, CN_TURN_TOOL);
    cn_turn_stop_now(t, CN_STOP_CANCEL);
    cn_turn_free(t);
    assert_int_equal(cn_context_refs(cn_session_context(s)), 1);
    assert_string_equal(cn_context_ref_at(cn_session_context(s), 0)->path, "turn-4/question.txt");
    free(lines);

    // What comes next is the same here and for who opens the session as it was then.
    cn_ledger_session *fork;
    assert_err(cn_ledger_session_fork(h->ledger, cn_session_row(s)->id, 4, NULL, &fork, &t_diag),
               CN_OK);
    const k_asked here = play(h, s, 3);
    cn_session_close(s);
    s = k_open(h, &(cn_session_opts){.id = fork->id});
    const k_asked there = play(h, s, 3);
    k_assert_same(&here, &there, "behind a turn that was stopped");
    cn_session_close(s);
    cn_ledger_session_free(fork);
    cn_host_close(h);
}

/* A turn with a long question and a long result: what is said of it is made before a fault is
 * armed, then it may fail. */
typedef struct both_kinds {
    char  *question;
    k_says says;
} both_kinds;

static both_kinds prepare_turn(const cn_host *h) {
    both_kinds b = {.question = k_lines("question", PART_BYTES)};
    k_say_call(&b.says, h, "read_lines", READ_NOTES);
    k_say_answer(&b.says, h, "so it is");
    return b;
}

static cn_err try_turn(cn_host *h, cn_session *s, both_kinds *b) {
    static float want[K_VOCAB_MAX];
    cn_turn     *t;
    cn_turn_need need = CN_TURN_ENGINE;
    cn_err       err = cn_turn_begin(&t, s,
                                     &(cn_turn_opts){.question = b->question,
                                                     .question_bytes = strlen(b->question),
                                                     .output_tokens_max = b->says.tokens},
                                     &t_diag);
    while (!err) {
        cn_step_stats stats;
        err = cn_turn_step(t, &need, &t_diag);
        if (err || need == CN_TURN_DONE) break;
        if (need == CN_TURN_TOOL) {
            err = cn_turn_run_tool(t, &t_diag);
            continue;
        }
        err = cn_engine_step(h->engine, cn_turn_slice(t), 1, &stats, &t_diag);
        if (err) break;
        if (cn_turn_slice(t)->logits) {
            memset(want, 0, sizeof(want));
            want[b->says.token[b->says.at++]] = 1;
            cn_turn_slice(t)->logits = want;
        }
        cn_turn_ran(t, &stats);
    }
    if (err && t) cn_turn_stop_now(t, CN_STOP_ERROR);
    cn_turn_free(t);
    free(b->question);
    return err;
}

typedef struct view_by_ledger {
    k_file file[16];
    int    files;
} view_by_ledger;

static void on_ref(void *ctx, const cn_ledger_ref *r) {
    view_by_ledger *v = ctx;
    v->file[v->files++] = (k_file){strdup(r->path), strndup(r->text.data, r->text.bytes)};
}

/* One more turn; its bits are those of the files, what the ledger says of parts, and its tokens. */
static void assert_goes_on(cn_host *h, cn_session *s, const char *repo, const char *what) {
    view_by_ledger v = {.files = 0};
    float          fresh[K_VOCAB_MAX];
    const k_asked  a = play(h, s, 3);
    v.file[v.files++] = (k_file){strdup("README.md"), strdup(read_file(repo, "README.md"))};
    assert_err(cn_ledger_refs(h->ledger, cn_session_row(s)->id, 0, on_ref, &v, &t_diag), CN_OK);
    assert_int_equal(cn_context_refs(cn_session_context(s)), v.files - 1);
    cn_tokens talk = k_conversation(h, s);
    k_fresh_logits(h, v.file, v.files, &talk, fresh);
    t_note("%s, %d parts", what, v.files - 1);
    assert_memory_equal(fresh, a.logits, sizeof(fresh));
    cn_tokens_release(&talk);
    for (int i = 0; i < v.files; i++) {
        free((char *)(uintptr_t)v.file[i].path);
        free((char *)(uintptr_t)v.file[i].text);
    }
}

static const char *new_small_repo(void) {
    const char *repo = new_repo();
    t_shell("cd %s && git rm -rq base && git commit -qm small", repo);
    return repo;
}

/* Fault n once, for n = 1, 1 + step, ...: the session goes on where its committed steps end.  Each
 * try is a fork of one session, so that all of them find their pages. */
static void test_a_failed_turn_leaves_what_was_committed(void **state) {
    (void)state;
    const int   step = t_is_sanitized() ? 29 : 3;
    const char *repo = new_small_repo();
    cn_host    *h = open_host(k_new_state(), 2);
    cn_session *s = k_open_session(h, repo, false);
    char        id[64];
    bool        hit = true;
    int         failed = 0;
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    play(h, s, 3);
    cn_session_close(s);
    for (int n = 1; hit; n += step) {
        cn_ledger_session *fork;
        assert_err(cn_ledger_session_fork(h->ledger, id, 1, NULL, &fork, &t_diag), CN_OK);
        s = k_open(h, &(cn_session_opts){.id = fork->id});
        both_kinds b = prepare_turn(h);
        cn_fault_arm(CN_FAULT_ONCE, n);
        const cn_err err = try_turn(h, s, &b);
        hit = cn_fault_was_hit();
        t_note("fault %d, %s: %s", n, cn_fault_last_point(), cn_err_name(err));
        cn_fault_arm(CN_FAULT_OFF, 0);
        failed += err != CN_OK;
        assert_goes_on(h, s, repo, "behind a turn that failed");
        cn_session_close(s);
        cn_ledger_session_free(fork);
    }
    assert_true(failed > 10);
    cn_host_close(h);
}

/* A process that dies at fault point n of a turn; what the next one finds.  How many parts were
 * committed; *ended_out: it did not die. */
static int64_t crash_at(const char *repo, int n, bool *ended_out) {
    const char *folder = k_new_state();
    int         status;
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        cn_host    *h = open_host(folder, 1);
        cn_session *s = k_open_session(h, repo, false);
        play(h, s, 3);
        both_kinds b = prepare_turn(h);
        cn_fault_arm(CN_FAULT_CRASH, n);
        const cn_err err = try_turn(h, s, &b);
        cn_session_close(s);
        cn_host_close(h);
        _exit(err != CN_OK);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    t_note("crash at point %d", n);
    *ended_out = WIFEXITED(status);
    if (*ended_out) assert_int_equal(WEXITSTATUS(status), 0);
    cn_host      *h = open_host(folder, 2);
    cn_session   *s = k_open_session(h, repo, true);
    const int64_t committed = cn_context_refs(cn_session_context(s));
    assert_goes_on(h, s, repo, "behind a crash");
    cn_session_close(s);
    cn_host_close(h);
    t_shell("rm -rf %s", folder);
    return committed;
}

static void test_a_crash_leaves_what_was_committed(void **state) {
    (void)state;
    const char *repo = new_small_repo();
    const int   step = t_is_sanitized() ? 97 : 37;
    int         none = 0, both = 0;
    bool        ended = false, has_one = false;
    for (int n = 1; !ended; n += step) {
        const int64_t committed = crash_at(repo, n, &ended);
        if (committed == 0) none = n;
        if (committed == 2 && !both) both = n;
        has_one |= committed == 1;
    }
    assert_true(none && both);
    while (!has_one) { // between the two commits
        const int     n = none + (both - none) / 2;
        const int64_t committed = crash_at(repo, n, &ended);
        assert_true(n > none);
        *(committed == 0 ? &none : &both) = n;
        has_one = committed == 1;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_form),
        cmocka_unit_test(test_short_parts_and_answers_stay),
        cmocka_unit_test(test_off_it_changes_nothing),
        cmocka_unit_test(test_same_bits_whatever_happens),
        cmocka_unit_test(test_bits_are_those_of_the_view),
        cmocka_unit_test(test_each_part_is_paid_once),
        cmocka_unit_test(test_lines_that_the_view_holds),
        cmocka_unit_test(test_parts_go_with_their_turn),
        cmocka_unit_test(test_a_forks_own_parts_are_its_own),
        cmocka_unit_test(test_a_stopped_turn_leaves_what_was_committed),
        cmocka_unit_test(test_a_failed_turn_leaves_what_was_committed),
        cmocka_unit_test(test_a_crash_leaves_what_was_committed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

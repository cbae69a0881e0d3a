/*
 * test_edit.c - What a user adds to a view or drops from it: for nothing, or for its own tokens,
 * kept whatever happens, and with the bits of a session that never held anything else.
 */
#include "sessions/ref.h"
#include "tests/sessions/session_kit.h"

enum { PART_BYTES = 4000 };

static cn_host *open_host(const char *state) {
    return k_open_host(k_refs_model(), state, 2);
}

static k_asked ask(cn_host *h, cn_session *s, const char *question) {
    k_says says = {.tokens = 0};
    k_say_answer(&says, h, "so it is");
    return k_ask(h, s, question, &says);
}

/* A turn whose question, or whose call's result, is long. */
static k_asked ask_long(cn_host *h, cn_session *s) {
    char         *lines = k_lines("question", PART_BYTES);
    const k_asked a = ask(h, s, lines);
    free(lines);
    return a;
}

static k_asked read_long(cn_host *h, cn_session *s) {
    k_says says = {.tokens = 0};
    k_say_call(&says, h, "read_lines", "{\"path\":\"notes.lock\",\"start\":1,\"end\":1000}");
    k_say_answer(&says, h, "so it is");
    return k_ask(h, s, "what is there?", &says);
}

static const char *new_repo(void) {
    const char *repo = k_new_repo();
    char       *lines = k_lines("note", PART_BYTES), path[300];
    snprintf(path, sizeof(path), "%s/notes.lock", repo);
    FILE *f = fopen(path, "w");
    assert_true(f && fputs(lines, f) >= 0 && fclose(f) == 0);
    free(lines);
    return repo;
}

static cn_err edit(cn_session *s, cn_edit what, const char *path) {
    return cn_session_edit(s, what, &path, 1, &t_diag);
}

static const cn_context_plan *plan_of(cn_session *s) {
    return cn_context_get_plan(cn_session_context(s));
}

/* Close, and open in a host of its own. */
static void reopen(cn_host **h, cn_session **s, const char *state) {
    char id[64];
    snprintf(id, sizeof(id), "%s", cn_session_row(*s)->id);
    cn_session_close(*s);
    cn_host_close(*h);
    *h = open_host(state);
    *s = k_open(*h, &(cn_session_opts){.id = id});
}

/* ---- Files ------------------------------------------------------------------------- */

static void test_a_dropped_file_is_out(void **state) {
    (void)state;
    const char *repo = new_repo(), *folder = k_new_state();
    cn_host    *h = open_host(folder);
    cn_session *s = k_open_session(h, repo, false);
    ask(h, s, "one");
    const int64_t all = plan_of(s)->tokens, file = k_tokens_of(s, "base/buf.c");
    assert_true(file > 0);
    assert_err(edit(s, CN_EDIT_DROP, "base/buf.c"), CN_OK);
    assert_int_equal(plan_of(s)->tokens, all - file);
    const k_asked dropped = ask(h, s, "two");
    assert_int_equal(dropped.bill.prefilled_tokens, 0);
    assert_int_equal(dropped.bill.context_tokens, all - file);
    assert_int_equal(k_tokens_of(s, "base/buf.c"), 0);
    bool        was_said = false;
    const char *path, *reason;
    int64_t     tokens;
    for (int64_t i = 0; (path = cn_context_left_at(cn_session_context(s), i, &tokens, &reason));
         i++)
        was_said |= strcmp(path, "base/buf.c") == 0 && tokens == file &&
                    strcmp(reason, "dropped from this session") == 0;
    assert_true(was_said);

    // The bits of who asks the same in a folder that never had the file.
    cn_host    *other = open_host(k_new_state());
    const char *without = k_new_repo();
    t_shell("cd %s && git rm -q base/buf.c && git commit -qm less", without);
    cn_session *fresh = k_open_session(other, without, false);
    ask(other, fresh, "one");
    const k_asked want = ask(other, fresh, "two");
    k_assert_same(&want, &dropped, "a folder without the file");
    assert_int_equal(want.bill.context_tokens, dropped.bill.context_tokens);
    cn_session_close(fresh);
    cn_host_close(other);

    // It stays out: in another process, when it changes, when another file comes.
    reopen(&h, &s, folder);
    t_shell("cd %s && echo '// more' >>base/buf.c && echo 'int x;' >base/new.c", repo);
    const k_asked changed = ask(h, s, "three");
    assert_int_equal(k_tokens_of(s, "base/buf.c"), 0);
    assert_int_equal(changed.bill.prefilled_tokens, k_tokens_of(s, "base/new.c"));
    t_shell("cd %s && git checkout -q base/buf.c && rm base/new.c", repo);

    // Added again it is there, as it was, and was not forgotten by the store.
    assert_err(edit(s, CN_EDIT_ADD, "base/buf.c"), CN_OK);
    const k_asked again = ask(h, s, "four");
    assert_int_equal(again.bill.prefilled_tokens, 0);
    assert_int_equal(again.bill.context_tokens, all);
    cn_session_close(s);
    cn_host_close(h);
}

static void test_an_added_file_is_in(void **state) {
    (void)state;
    enum { BUDGET = 6000 };
    const char *repo = new_repo(), *folder = k_new_state();
    cn_host    *h = open_host(folder);
    cn_session *s = k_open(h, &(cn_session_opts){.folder = repo, .budget = BUDGET});
    ask(h, s, "one");
    const int64_t before = plan_of(s)->tokens;
    assert_int_equal(plan_of(s)->over_tokens, 0);
    assert_int_equal(k_tokens_of(s, "base/err.h"), 0); // the budget has no room for it
    assert_err(edit(s, CN_EDIT_ADD, "base/err.h"), CN_OK);
    const int64_t file = k_tokens_of(s, "base/err.h");
    assert_true(before + file > BUDGET);
    assert_int_equal(plan_of(s)->tokens, before + file); // no other file left for it
    assert_int_equal(plan_of(s)->over_tokens, before + file - BUDGET);
    assert_int_equal(plan_of(s)->missing_tokens, file);
    const k_asked added = ask(h, s, "two");
    assert_int_equal(added.bill.prefilled_tokens, file); // it costs its own tokens
    assert_int_equal(added.bill.misses[CN_MISS_NEW].tokens, file);
    assert_int_equal(added.bill.cached_tokens, before);

    // The bits of a session that had the same view from its first turn on.
    cn_session *fresh = k_open(h, &(cn_session_opts){.folder = repo, .budget = BUDGET});
    assert_err(edit(fresh, CN_EDIT_ADD, "base/err.h"), CN_OK);
    ask(h, fresh, "one");
    const k_asked want = ask(h, fresh, "two");
    k_assert_same(&want, &added, "added before the first turn");
    cn_session_close(fresh);

    // It stays in, also when it grows, and what no budget ever takes can be added too.
    reopen(&h, &s, folder);
    t_shell("cd %s && for i in 1 2 3 4 5 6; do cat base/err.h; done >x && mv x base/err.h", repo);
    ask(h, s, "three");
    assert_true(k_tokens_of(s, "base/err.h") > BUDGET * 5 / 4);
    assert_err(edit(s, CN_EDIT_ADD, "notes.lock"), CN_OK);
    const k_asked lock = ask(h, s, "four");
    assert_int_equal(lock.bill.prefilled_tokens, k_tokens_of(s, "notes.lock"));
    assert_true(lock.bill.prefilled_tokens > PART_BYTES);
    cn_session_close(s);
    cn_host_close(h);
}

/* ---- Parts of the conversation -------------------------------------------------------- */

static void on_ref(void *ctx, const cn_ledger_ref *r) {
    k_file *f = ctx;
    if (strcmp(r->path, f->path) == 0) f->text = strndup(r->text.data, r->text.bytes);
}

/* A part dropped and added: both for nothing; the view's bits each time. */
static void test_parts_are_dropped_and_added(void **state) {
    (void)state;
    const char *repo = new_repo(), *folder = k_new_state();
    t_shell("cd %s && git rm -rq base && git commit -qm small", repo);
    cn_host    *h = open_host(folder);
    cn_session *s = k_open_session(h, repo, false);
    char       *question = k_lines("question", PART_BYTES);
    ask(h, s, question);
    read_long(h, s);
    const int64_t all = plan_of(s)->tokens;
    const char   *paths[] = {"turn-1/question.txt", "turn-2/result-1.txt"};
    const int64_t tokens[] = {k_tokens_of(s, paths[0]), k_tokens_of(s, paths[1])};
    char          readme[300];
    k_file        file[3] = {{"README.md", NULL}, {paths[0], NULL}, {paths[1], NULL}};
    snprintf(readme, sizeof(readme), "base/README.md");
    size_t bytes;
    char  *text = t_read_source_file(readme, &bytes);
    file[0].text = strndup(text, bytes);
    free(text);
    for (int i = 1; i < 3; i++)
        assert_err(cn_ledger_refs(h->ledger, cn_session_row(s)->id, 0, on_ref, &file[i], &t_diag),
                   CN_OK);
    const struct {
        cn_edit what;
        int     part;  // of paths
        int     holds; // bits: which parts the view has then
    } edits[] = {{CN_EDIT_DROP, 1, 1}, {CN_EDIT_DROP, 0, 0}, {CN_EDIT_ADD, 1, 2},
                 {CN_EDIT_ADD, 0, 3},  {CN_EDIT_DROP, 0, 2}, {CN_EDIT_DROP, 0, 2}};
    for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
        k_file view[3] = {file[0]};
        int    files = 1;
        float  fresh[K_VOCAB_MAX];
        assert_err(edit(s, edits[i].what, paths[edits[i].part]), CN_OK);
        if (i % 2) reopen(&h, &s, folder);
        const k_asked a = ask(h, s, "and now?");
        t_note("edit %zu", i);
        assert_int_equal(a.bill.prefilled_tokens, 0);
        int64_t want = all;
        for (int p = 0; p < 2; p++) {
            if (edits[i].holds >> p & 1)
                view[files++] = file[1 + p]; // in the order of their making
            else
                want -= tokens[p];
        }
        assert_int_equal(a.bill.context_tokens, want);
        assert_int_equal(plan_of(s)->refs, files - 1);
        assert_int_equal(plan_of(s)->left_refs, 3 - files);
        assert_int_equal(plan_of(s)->left_ref_tokens, all - want);
        cn_tokens talk = k_conversation(h, s);
        k_fresh_logits(h, view, files, &talk, fresh);
        assert_memory_equal(fresh, a.logits, sizeof(fresh));
        cn_tokens_release(&talk);
    }
    // Dropped parts need no prefill when the cache is gone.
    cn_session_close(s);
    cn_host_close(h);
    t_shell("rm -rf %s/cache", folder);
    h = open_host(folder);
    s = k_open_session(h, repo, true);
    assert_int_equal(ask(h, s, "and now?").bill.prefilled_tokens, all - tokens[0]);
    for (int i = 0; i < 3; i++) free((char *)(uintptr_t)file[i].text);
    free(question);
    cn_session_close(s);
    cn_host_close(h);
}

/* ---- Refusals ------------------------------------------------------------------------- */

static void test_what_is_not_there_is_refused(void **state) {
    (void)state;
    const char *repo = new_repo();
    cn_host    *h = open_host(k_new_state());
    cn_session *s = k_open_session(h, repo, false);
    t_shell("cd %s && printf 'a\\0b' >binary", repo);
    ask_long(h, s);
    const int64_t     tokens = plan_of(s)->tokens;
    const char *const missing[] = {"base/buf.c", "nowhere.c"}, *const refs[] = {
                                                                   "turn-1/question.txt",
                                                                   "turn-2/question.txt"};
    assert_err(cn_session_edit(s, CN_EDIT_DROP, missing, 2, &t_diag), CN_ENOTFOUND);
    assert_non_null(strstr(t_diag.text, "nowhere.c"));
    assert_err(cn_session_edit(s, CN_EDIT_DROP, refs, 2, &t_diag), CN_ENOTFOUND);
    assert_non_null(strstr(t_diag.text, "turn-2/question.txt"));
    assert_err(edit(s, CN_EDIT_ADD, "binary"), CN_EUNSUPPORTED);
    assert_non_null(strstr(t_diag.text, "binary: binary"));
    // All or nothing: the paths that are there were not dropped.
    assert_err(cn_context_update(cn_session_context(s), &t_diag), CN_OK);
    assert_int_equal(plan_of(s)->tokens, tokens);
    cn_session_close(s);
    cn_host_close(h);
}

/* More paths than a session's settings can hold: nothing has changed. */
static void test_too_many_paths_are_refused(void **state) {
    (void)state;
    enum { PATHS = 5200, NAME_BYTES = 206 };
    const char  *repo = new_repo();
    cn_host     *h = open_host(k_new_state());
    cn_session  *s = k_open_session(h, repo, false);
    const char **path = calloc(PATHS, sizeof(*path));
    assert_non_null(path);
    ask(h, s, "one");
    t_shell("mkdir %s/many", repo);
    for (int i = 0; i < PATHS; i++) {
        char name[NAME_BYTES], full[NAME_BYTES + 300];
        snprintf(name, sizeof(name), "many/%0200d", i);
        snprintf(full, sizeof(full), "%s/%s", repo, name);
        FILE *f = fopen(full, "w");
        assert_true(f && fputs("x\n", f) >= 0 && fclose(f) == 0);
        path[i] = strdup(name);
    }
    const char *one = path[0];
    assert_err(edit(s, CN_EDIT_DROP, one), CN_OK);
    const int64_t tokens = plan_of(s)->tokens, left = plan_of(s)->left_files;
    assert_err(cn_session_edit(s, CN_EDIT_DROP, path, PATHS, &t_diag), CN_ETOOBIG);
    assert_non_null(strstr(t_diag.text, "5200 dropped, limit"));
    assert_err(cn_context_update(cn_session_context(s), &t_diag), CN_OK);
    assert_int_equal(plan_of(s)->tokens, tokens);
    assert_int_equal(plan_of(s)->left_files, left);
    for (int i = 0; i < PATHS; i++) free((char *)(uintptr_t)path[i]);
    free(path);
    cn_session_close(s);
    cn_host_close(h);
}

/* ---- The budget of parts --------------------------------------------------------------- */

static void assert_let_go(cn_turn *t, const char *const *want) {
    const char *path;
    int64_t     tokens, i = 0;
    for (; (path = cn_turn_dropped_at(t, i, &tokens)); i++) {
        assert_non_null(want[i]);
        assert_string_equal(path, want[i]);
        assert_true(tokens > PART_BYTES - 600);
    }
    assert_null(want[i]);
}

/* A long result or question, and what had to go for it. */
static k_asked ask_and_let_go(cn_host *h, cn_session *s, bool is_result, const char *const *want) {
    char   *lines = k_lines("question", PART_BYTES);
    k_asked a = {.all = 0};
    k_says  says = {.tokens = 0};
    if (is_result)
        k_say_call(&says, h, "read_lines", "{\"path\":\"notes.lock\",\"start\":1,\"end\":1000}");
    k_say_answer(&says, h, "so it is");
    cn_turn *t = k_begin(s, is_result ? "what is there?" : lines, says.tokens);
    while (k_step(h, t, &says, &a)) {
    }
    k_end(t, &a);
    assert_let_go(t, want);
    cn_turn_free(t);
    free(lines);
    return a;
}

static void test_the_oldest_results_go_first(void **state) {
    (void)state;
    enum { BUDGET = 2 * PART_BYTES + PART_BYTES / 2 }; // room for two parts, not for three
    static const char *const none[] = {NULL}, *const second[] = {"turn-2/result-1.txt", NULL},
                             *const third[] = {"turn-3/result-1.txt", "turn-1/question.txt", NULL},
                             *const fifth[] = {"turn-5/question.txt", NULL};
    const char                     *repo = new_repo(), *folder = k_new_state();
    cn_host                        *h = open_host(folder);
    cn_session *s = k_open(h, &(cn_session_opts){.folder = repo, .refs_budget = BUDGET});
    ask_and_let_go(h, s, false, none);              // turn 1: a question
    ask_and_let_go(h, s, true, none);               // turn 2: a result
    k_asked a = ask_and_let_go(h, s, true, second); // turn 3: the older result goes, no question
    assert_int_equal(a.bill.prefilled_tokens, k_tokens_of(s, "turn-3/result-1.txt"));
    assert_true(k_tokens_of(s, "turn-1/question.txt") > 0);
    assert_int_equal(k_tokens_of(s, "turn-2/result-1.txt"), 0);
    assert_true(plan_of(s)->ref_tokens <= BUDGET);

    // It stays out, in another process too; the budget is the session's.
    reopen(&h, &s, folder);
    a = ask(h, s, "and now?");
    assert_int_equal(a.bill.prefilled_tokens, 0);
    assert_int_equal(k_tokens_of(s, "turn-2/result-1.txt"), 0);

    // Added by hand it is there for nothing, and no budget drops it: the other result goes, then
    // a question; none of the turn that runs.
    assert_err(edit(s, CN_EDIT_ADD, "turn-2/result-1.txt"), CN_OK);
    t_shell("cp -r %s %s.copy && rm -r %s.copy/cache", folder, folder, folder);
    a = ask_and_let_go(h, s, false, third); // turn 5
    assert_int_equal(a.bill.prefilled_tokens, k_tokens_of(s, "turn-5/question.txt"));
    // The same without a cache: nothing is paid for what goes.
    char copy[300], id[64];
    snprintf(copy, sizeof(copy), "%s.copy", folder);
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    cn_host      *h2 = open_host(copy);
    cn_session   *s2 = k_open(h2, &(cn_session_opts){.id = id});
    const k_asked b = ask_and_let_go(h2, s2, false, third);
    k_assert_same(&a, &b, "without a cache");
    assert_int_equal(b.bill.prefilled_tokens, a.bill.context_tokens);
    assert_int_equal(b.bill.context_tokens, plan_of(s2)->tokens);
    cn_session_close(s2);
    cn_host_close(h2);
    assert_true(k_tokens_of(s, "turn-2/result-1.txt") > 0);
    ask_and_let_go(h, s, true, fifth); // turn 6
    assert_true(k_tokens_of(s, "turn-6/result-1.txt") > 0);
    assert_true(k_tokens_of(s, "turn-2/result-1.txt") > 0);
    assert_int_equal(plan_of(s)->refs, 2);
    cn_session_close(s);
    cn_host_close(h);
}

/* A view that no engine has room for is refused before a token is prefilled. */
static void test_a_view_has_a_limit(void **state) {
    (void)state;
    enum { VIEW = 1 << 15 };
    const char *repo = new_repo();
    cn_host    *h;
    assert_err(cn_host_open(&h,
                            &(cn_host_opts){.model_folder = k_refs_model(),
                                            .state_folder = k_new_state(),
                                            .cache_bytes = 256 << 20,
                                            .view_tokens = VIEW},
                            &t_diag),
               CN_OK);
    cn_session *s = k_open(h, &(cn_session_opts){.folder = repo, .budget = 1 << 14});
    char       *lines = k_lines("question", 2 * VIEW);
    cn_turn    *t;
    ask_long(h, s);
    const int64_t tokens = plan_of(s)->tokens;
    assert_err(cn_turn_begin(&t, s,
                             &(cn_turn_opts){.question = lines, .question_bytes = strlen(lines)},
                             &t_diag),
               CN_ETOOBIG);
    assert_null(t);
    assert_non_null(strstr(t_diag.text, "the engine's limit is 32768"));
    const k_asked a = ask(h, s, "and now?");
    assert_int_equal(a.number, 2); // no turn was made of it
    assert_int_equal(a.bill.context_tokens, tokens);
    free(lines);
    cn_session_close(s);
    cn_host_close(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_dropped_file_is_out),
        cmocka_unit_test(test_an_added_file_is_in),
        cmocka_unit_test(test_parts_are_dropped_and_added),
        cmocka_unit_test(test_what_is_not_there_is_refused),
        cmocka_unit_test(test_too_many_paths_are_refused),
        cmocka_unit_test(test_the_oldest_results_go_first),
        cmocka_unit_test(test_a_view_has_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

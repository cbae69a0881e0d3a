/*
 * test_walk.c - Walks over commits, there and back; an edit in the middle of a long view; files
 * and results that come and go: what each prefills, what a prefix cache would have, and the bits.
 *
 * The short form of tests/bench/moves.c, which does it on real repositories with the real model.
 */
#include "tests/sessions/session_kit.h"
#include "tests/sessions/walk_kit.h"

/* A history of `commits` commits over generated files, made of what people do: edits in one or
 * several places, files added, removed and renamed. */
static const char *new_history(int commits) {
    static k_paths made;
    const char    *path = k_new_path(&made, "history");
    t_shell("mkdir -p %s/src %s/doc && cd %s && git init -q . && git branch -q -M main; "
            "git config user.name t && git config user.email t@example.invalid && "
            "for f in src/a.c src/b.c src/c.c doc/d.txt e.txt; do "
            "awk -v f=$f 'BEGIN { for (i = 1; i <= 120; i++) { printf \"int %%s_%%d(int x) {\\n"
            "    return x * %%d + %%d;\\n}\\n\\n\", substr(f, length(f) - 2, 1), i, i * 7, i %% 13 "
            "} }' "
            ">$f; done && git add -A && git commit -qm 0 && git tag c0",
            path, path, path);
    static const char *const changes[] = {
        "sed -i '200i int inserted(void);' src/b.c",
        "sed -i -e '22s/return/ return/' -e '301s/int/long/' src/a.c doc/d.txt",
        "echo 'int added(void);' >src/new$I.c",
        "git mv *.txt f$I.txt",
        "sed -i '100,140d' src/c.c",
        "git rm -q -f src/new*.c || rm -f none; sed -i '1i // first' src/c.c",
        "cp src/a.c src/z$I.c && sed -i '$a // last' src/b.c",
    };
    for (int i = 1; i <= commits; i++)
        t_shell("cd %s && I=%d; %s; git add -A && git commit -qm %d && git tag c%d", path, i,
                changes[(size_t)i % (sizeof(changes) / sizeof(changes[0]))], i, i);
    return path;
}

static k_asked ask(cn_host *h, cn_session *s) {
    k_says says = {.tokens = 0};
    k_say_answer(&says, h, "so");
    return k_ask(h, s, "what is there now?", &says);
}

static void test_a_walk_and_back(void **state) {
    (void)state;
    enum { COMMITS = 10 };
    const char *repo = new_history(COMMITS), *folder = k_new_state();
    cn_host    *h = k_open_host(k_refs_model(), folder, 2);
    cn_session *s = k_open(h, &(cn_session_opts){.folder = repo, .budget = 1 << 16});
    w_walk      walk = {.views = 0};
    int64_t     prefilled = 0, prefix = 0, back = 0;
    k_asked     a = {.all = 0};
    for (int i = 0; i <= 2 * COMMITS; i++) {
        const int at = i <= COMMITS ? i : 2 * COMMITS - i;
        t_shell("cd %s && git checkout -q c%d", repo, at);
        a = ask(h, s);
        const w_step w = w_next(&walk, h, s);
        w_assert_order(s);
        t_note("step %d, commit %d: %lld of %lld tokens prefilled, a prefix cache %lld", i, at,
               (long long)a.bill.prefilled_tokens, (long long)w.context, (long long)w.prefix);
        assert_int_equal(a.bill.prefilled_tokens, w.changed);
        assert_true(i == 0 || i > COMMITS || w.changed > 0);
        if (i == 0) continue;
        prefilled += a.bill.prefilled_tokens;
        prefix += w.prefix;
        if (i <= COMMITS) {
            assert_true(w.prefix >= w.changed);
        } else {
            // Going back costs nothing, and the view is what it was.
            const w_view *was = &walk.view[at], *now = &walk.view[i];
            assert_int_equal(a.bill.prefilled_tokens, 0);
            assert_int_equal(w.prefix, 0); // the whole view was seen before
            back += w.prefix_last;
            assert_int_equal(was->docs, now->docs);
            for (int64_t d = 0; d < was->docs; d++)
                assert_true(cn_hash_is_equal(&was->doc[d].key, &now->doc[d].key));
        }
    }
    assert_true(prefix > 2 * prefilled && back > prefix / 2);
    // After all of it: the bits of the engine alone over this view.
    static k_file            file[64];
    static const char *const paths[] = {"doc/d.txt", "e.txt", "src/a.c", "src/b.c", "src/c.c"};
    for (int i = 0; i < 5; i++) {
        cn_buf text = {0};
        assert_err(
            cn_repo_read_raw(cn_context_repo(cn_session_context(s)), paths[i], &text, &t_diag),
            CN_OK);
        file[i] = (k_file){paths[i], cn_buf_take(&text)};
    }
    float     want[K_VOCAB_MAX];
    cn_tokens talk = k_conversation(h, s);
    k_fresh_logits(h, file, 5, &talk, want);
    assert_memory_equal(want, a.logits, sizeof(want));
    cn_tokens_release(&talk);
    for (int i = 0; i < 5; i++) free((char *)(uintptr_t)file[i].text);
    w_release(&walk);
    cn_session_close(s);
    cn_host_close(h);
}

/* One line at about a third of the view: at most two documents. */
static void test_an_edit_in_the_middle(void **state) {
    (void)state;
    const char *repo = new_history(1), *folder = k_new_state();
    cn_host    *h = k_open_host(k_refs_model(), folder, 2);
    cn_session *s = k_open(h, &(cn_session_opts){.folder = repo, .budget = 1 << 16});
    w_walk      walk = {.views = 0};
    ask(h, s);
    const w_step first = w_next(&walk, h, s);
    assert_true(first.documents > 12);
    cn_context *c = cn_session_context(s);
    int64_t     tokens = 0, i = 0;
    while (tokens < first.context * 3 / 10) tokens += cn_context_doc_at(c, i++)->piece.tokens;
    const cn_context_doc *d = cn_context_doc_at(c, i);
    t_shell("cd %s && sed -i '%di int of_no_use;' %s", repo,
            d->piece.first_line + d->piece.lines / 2, d->path);
    const k_asked a = ask(h, s);
    const w_step  w = w_next(&walk, h, s);
    assert_int_equal(a.bill.prefilled_tokens, w.changed);
    assert_in_range(w.documents, 1, 2);
    assert_in_range(w.changed, 1, 4200);
    assert_true(w.prefix > first.context / 2);
    w_release(&walk);
    cn_session_close(s);
    cn_host_close(h);
}

/* ---- Files and results that come and go -------------------------------------------------- */

enum { FILES = 5, PARTS = 2 };

static const char *const paths[FILES + PARTS] = {
    "doc/d.txt",          "e.txt", "src/a.c", "src/b.c", "src/c.c", "turn-1/question.txt",
    "turn-2/result-1.txt"};

static void on_ref(void *ctx, const cn_ledger_ref *r) {
    k_file *f = ctx;
    for (int i = FILES; i < FILES + PARTS; i++)
        if (strcmp(r->path, paths[i]) == 0)
            f[i] = (k_file){paths[i], strndup(r->text.data, r->text.bytes)};
}

/* Drop or add several at once, in one process and in the next, also when the store has lost what
 * was dropped: dropping costs nothing, adding its own tokens or nothing; the bits are those of a
 * view that never held anything else. */
static void test_files_and_results_come_and_go(void **state) {
    (void)state;
    const char *repo = new_history(0), *folder = k_new_state();
    cn_host    *h = k_open_host(k_refs_model(), folder, 2);
    t_shell("cd %s && awk 'BEGIN { for (i = 1; i < 120; i++) print \"locked\", i, i * i }' >n.lock",
            repo);
    cn_session *s = k_open(h, &(cn_session_opts){.folder = repo, .budget = 1 << 16});
    char       *lines = k_lines("question", 4000), id[64];
    k_says      says = {.tokens = 0}, answer = {.tokens = 0};
    k_say_answer(&answer, h, "so");
    k_ask(h, s, lines, &answer);
    k_say_call(&says, h, "read_lines", "{\"path\":\"n.lock\",\"start\":1,\"end\":1000}");
    k_say_answer(&says, h, "so");
    k_ask(h, s, "what is there?", &says);
    free(lines);
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    k_file  all[FILES + PARTS];
    int64_t tokens[FILES + PARTS];
    assert_err(cn_ledger_refs(h->ledger, id, 0, on_ref, all, &t_diag), CN_OK);
    for (int i = 0; i < FILES + PARTS; i++) {
        cn_buf text = {0};
        tokens[i] = k_tokens_of(s, paths[i]);
        assert_true(tokens[i] > 500);
        if (i >= FILES) continue;
        assert_err(
            cn_repo_read_raw(cn_context_repo(cn_session_context(s)), paths[i], &text, &t_diag),
            CN_OK);
        all[i] = (k_file){paths[i], cn_buf_take(&text)};
    }
    // Bits of `paths`: which are in the view after the edit; whether the store forgets the others.
    static const struct {
        int  holds;
        bool forgets;
    } steps[] = {{0x7b, false}, {0x1f, false}, {0x7f, false}, {0x20, true},
                 {0x64, false}, {0x5d, true},  {0x7f, false}};
    int held = 0x7f, known = 0x7f; // in the view; in the store
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        const char *add[FILES + PARTS], *drop[FILES + PARTS];
        int         adds = 0, drops = 0, files = 0;
        int64_t     price = 0, total = 0;
        k_file      view[FILES + PARTS];
        for (int p = 0; p < FILES + PARTS; p++) {
            const bool is_in = steps[i].holds >> p & 1, was_in = held >> p & 1;
            if (is_in && !was_in) add[adds++] = paths[p];
            if (!is_in && was_in) drop[drops++] = paths[p];
            if (is_in && !(known >> p & 1)) price += tokens[p];
            if (is_in) total += tokens[p];
            if (is_in) view[files++] = all[p];
        }
        t_note("edit %zu", i);
        if (drops) assert_err(cn_session_edit(s, CN_EDIT_DROP, drop, drops, &t_diag), CN_OK);
        if (adds) assert_err(cn_session_edit(s, CN_EDIT_ADD, add, adds, &t_diag), CN_OK);
        if (i % 2) {
            cn_session_close(s);
            s = k_open(h, &(cn_session_opts){.id = id});
        }
        answer.at = 0;
        const k_asked a = k_ask(h, s, "and now?", &answer);
        assert_int_equal(a.bill.prefilled_tokens, price);
        assert_int_equal(a.bill.context_tokens, total);
        float     want[K_VOCAB_MAX];
        cn_tokens talk = k_conversation(h, s);
        k_fresh_logits(h, view, files, &talk, want);
        assert_memory_equal(want, a.logits, sizeof(want));
        cn_tokens_release(&talk);
        held = steps[i].holds;
        known |= held;
        int64_t freed;
        if (!steps[i].forgets) continue;
        assert_err(cn_pages_evict(h->pages, INT64_C(1) << 40, &freed, &t_diag), CN_OK);
        known = held; // what the view holds is never evicted
    }
    for (int i = 0; i < FILES + PARTS; i++) free((char *)(uintptr_t)all[i].text);
    cn_session_close(s);
    cn_host_close(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_walk_and_back),
        cmocka_unit_test(test_an_edit_in_the_middle),
        cmocka_unit_test(test_files_and_results_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

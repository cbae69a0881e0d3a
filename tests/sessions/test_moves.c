/*
 * test_moves.c - The repository moves, the session follows: whatever happens to the working tree,
 * a turn prefills the documents that no view had before and nothing else, in a stable order, with
 * the bits of a session that never saw anything else.  A session whose folder is gone is kept.
 */
#include "tests/sessions/session_kit.h"
#include "tests/sessions/walk_kit.h"

#include <sys/stat.h>

static cn_host *open_host(const char *state) {
    return k_open_host(k_plain_model(), state, 2);
}

/* A session that is asked, and what its turns must cost. */
typedef struct follower {
    const char *repo, *state;
    cn_host    *h;
    cn_session *s;
    w_walk      walk;
} follower;

static const char *new_repo(void) {
    const char *repo = k_new_repo();
    t_shell("cd %s && git branch -q -M master", repo);
    return repo;
}

static follower follow_with(const char *repo, int64_t budget) {
    follower f = {.repo = repo, .state = k_new_state()};
    f.h = open_host(f.state);
    f.s = k_open(f.h, &(cn_session_opts){.folder = repo, .budget = budget});
    return f;
}

static follower follow(const char *repo) {
    return follow_with(repo, 1 << 16);
}

static void unfollow(follower *f) {
    w_release(&f->walk);
    cn_session_close(f->s);
    cn_host_close(f->h);
}

/* Close, and open in a host of its own, by id; `folder` may be NULL. */
static cn_err reopen(follower *f, const char *folder) {
    char id[64];
    snprintf(id, sizeof(id), "%s", cn_session_row(f->s)->id);
    cn_session_close(f->s);
    f->s = NULL;
    return cn_session_open(&f->s, f->h, &(cn_session_opts){.id = id, .folder = folder}, &t_diag);
}

/* A turn: it prefills the tokens of the documents that are new, and keeps the order. */
static w_step step(follower *f, const char *what) {
    t_note("%s", what);
    const k_asked a = k_ask(f->h, f->s, "what is there now?", NULL);
    const w_step  w = w_next(&f->walk, f->h, f->s);
    w_assert_order(f->s);
    assert_int_equal(a.bill.prefilled_tokens, w.changed);
    assert_int_equal(a.bill.context_tokens, w.context);
    return w;
}

static void step_free(follower *f, const char *what) {
    assert_int_equal(step(f, what).documents, 0);
}

/* The view as it stands in the repository, with nothing but the engine: the same logits. */
static void assert_bits(follower *f) {
    enum { FILES = 64 };
    static k_file file[FILES];
    int           files = 0;
    cn_context   *c = cn_session_context(f->s);
    const k_asked a = k_ask(f->h, f->s, "and the bits?", NULL);
    for (int64_t i = 0; i < cn_context_docs(c); i++) {
        const char *path = cn_context_doc_at(c, i)->path;
        if (files && strcmp(file[files - 1].path, path) == 0) continue;
        cn_buf text = {0};
        assert_true(files < FILES);
        assert_err(cn_repo_read_raw(cn_context_repo(c), path, &text, &t_diag), CN_OK);
        file[files++] = (k_file){path, cn_buf_take(&text)};
    }
    float     want[K_VOCAB_MAX];
    cn_tokens talk = k_conversation(f->h, f->s);
    k_fresh_logits(f->h, file, files, &talk, want);
    assert_memory_equal(want, a.logits, sizeof(want));
    cn_tokens_release(&talk);
    for (int i = 0; i < files; i++) free((char *)(uintptr_t)file[i].text);
}

static bool in_view(const follower *f, const char *path) {
    return k_tokens_of(f->s, path) > 0;
}

/* ---- Every way in which files move ------------------------------------------------------ */

static void test_files_change(void **state) {
    (void)state;
    follower f = follow(new_repo());
    assert_true(step(&f, "first").documents > 5);
    step_free(&f, "nothing");
    t_shell("cd %s && sleep 0.01 && touch base/*", f.repo);
    step_free(&f, "touched");
    t_shell("cd %s && chmod +x base/buf.c && git add -A && git commit -qm mode", f.repo);
    step_free(&f, "a mode");
    t_shell("cd %s && echo 'int last;' >>base/buf.c", f.repo);
    assert_in_range(step(&f, "changed").documents, 1, 2);
    t_shell("cd %s && git commit -qam changed", f.repo);
    step_free(&f, "committed");
    assert_string_equal(cn_session_row(f.s)->branch, "master");
    t_shell("cd %s && mkdir sub && echo 'int a;' >sub/a.c && echo 'int z;' >zoo.c", f.repo);
    assert_int_equal(step(&f, "added").documents, 2);
    assert_true(in_view(&f, "sub/a.c") && in_view(&f, "zoo.c"));
    t_shell("cd %s && rm sub/a.c", f.repo);
    step_free(&f, "deleted");
    assert_false(in_view(&f, "sub/a.c"));
    t_shell("cd %s && git mv base/err.c base/wrong.c", f.repo);
    const w_step renamed = step(&f, "renamed"); // the path is in the header: its file's documents
    assert_int_equal(renamed.changed, k_tokens_of(f.s, "base/wrong.c"));
    assert_false(in_view(&f, "base/err.c"));
    t_shell("cd %s && git mv base/wrong.c base/err.c", f.repo);
    step_free(&f, "renamed back");
    t_shell("cd %s && git stash -q -u", f.repo);
    step_free(&f, "stashed");
    assert_false(in_view(&f, "zoo.c"));
    t_shell("cd %s && git stash pop -q", f.repo);
    step_free(&f, "popped");
    t_shell("cd %s && rm base/buf.c && mkdir base/buf.c && echo x >base/buf.c/in", f.repo);
    assert_int_equal(step(&f, "a file is a folder").documents, 1);
    t_shell("cd %s && rm -r base/buf.c && ln -s err.c base/buf.c", f.repo);
    step_free(&f, "a file is a link");
    assert_false(in_view(&f, "base/buf.c"));
    t_shell("cd %s && rm base/buf.c && git checkout -q base/buf.c", f.repo);
    step_free(&f, "a file again");
    assert_bits(&f);
    unfollow(&f);
}

static void test_commits_and_branches(void **state) {
    (void)state;
    follower f = follow(new_repo());
    step(&f, "first");
    t_shell("cd %s && git checkout -q -b topic && sed -i '1i// topic' base/buf.c && "
            "git rm -q base/err.h && git commit -qam topic",
            f.repo);
    assert_in_range(step(&f, "a branch").documents, 1, 2);
    assert_string_equal(cn_session_row(f.s)->branch, "topic");
    t_shell("cd %s && git checkout -q master", f.repo);
    step_free(&f, "back");
    assert_true(in_view(&f, "base/err.h"));
    assert_string_equal(cn_session_row(f.s)->branch, "master");
    t_shell("cd %s && echo 'int more;' >base/more.c && git add -A && git commit -qm more", f.repo);
    assert_int_equal(step(&f, "a commit").documents, 1);
    t_shell("cd %s && git rebase -q master topic", f.repo);
    step_free(&f, "rebased"); // every file of it was in some view
    t_shell("cd %s && git checkout -q --detach HEAD~1", f.repo);
    step_free(&f, "a detached HEAD");
    assert_string_equal(cn_session_row(f.s)->branch, "");
    assert_int_equal(strlen(cn_session_row(f.s)->commit), 40);
    t_shell("cd %s && git checkout -q topic && git reset -q --hard HEAD~1", f.repo);
    step_free(&f, "reset");
    t_shell("cd %s && git checkout -q --orphan empty && git rm -q -rf . && echo one >one.txt",
            f.repo);
    assert_int_equal(step(&f, "an unborn branch").documents, 1);
    t_shell("cd %s && rm one.txt && git checkout -q topic", f.repo);
    step_free(&f, "and back");
    assert_bits(&f);
    unfollow(&f);
}

/* The same pages wherever the files lie: the key knows no folder. */
static void test_worktrees_and_clones(void **state) {
    (void)state;
    follower f = follow(new_repo());
    step(&f, "first");
    t_shell("cd %s && git worktree add -q %s.tree -b tree && git clone -q --depth 1 file://%s "
            "%s.shallow && cp -r %s %s.plain && rm -rf %s.plain/.git",
            f.repo, f.repo, f.repo, f.repo, f.repo, f.repo, f.repo);
    static const char *const kinds[] = {"tree", "shallow", "plain"};
    for (int i = 0; i < 3; i++) {
        char path[300];
        snprintf(path, sizeof(path), "%s.%s", f.repo, kinds[i]);
        follower other = {.repo = path, .state = f.state, .h = f.h};
        other.s = k_open(f.h, &(cn_session_opts){.folder = path, .budget = 1 << 16});
        t_note("%s", kinds[i]);
        const k_asked a = k_ask(f.h, other.s, "what is there?", NULL);
        assert_int_equal(a.bill.prefilled_tokens, 0);
        assert_int_equal(a.bill.context_tokens, f.walk.view[0].tokens);
        assert_int_equal(cn_context_get_plan(cn_session_context(other.s))->files_read, 0);
        w_next(&other.walk, f.h, other.s);
        t_shell("echo 'int %s;' >%s/new.c", kinds[i], path);
        assert_int_equal(step(&other, "a new file").documents, 1);
        w_release(&other.walk);
        cn_session_close(other.s);
    }
    // A session visits a worktree, and is at home again without a prefill.
    char tree[300];
    snprintf(tree, sizeof(tree), "%s.tree", f.repo);
    t_shell("cd %s && git commit -q --allow-empty -m visited", tree);
    assert_err(reopen(&f, tree), CN_OK);
    assert_null(cn_session_moved_from(f.s));
    assert_string_equal(cn_session_row(f.s)->repo, f.repo);
    k_ask(f.h, f.s, "and there?", NULL);
    assert_true(in_view(&f, "new.c"));
    assert_err(reopen(&f, NULL), CN_OK);
    step_free(&f, "at home");
    assert_false(in_view(&f, "new.c"));
    unfollow(&f);
}

/* A view that is full, then above its budget: what was in returns, what was passed over does not
 * take its place. */
static void test_a_full_view_is_the_same_when_it_returns(void **state) {
    (void)state;
    enum { BUDGET = 9000 };
    const char *repo = new_repo();
    t_shell("cd %s && for i in 1 2 3 4 5 6; do cp base/buf.h base/copy$i.h; done && git add -A && "
            "git commit -qm copies && git checkout -q -b less && git rm -q base/copy* && "
            "git commit -qm less && git checkout -q -b other master && git rm -q base/buf.c && "
            "git commit -qm other && git checkout -q master",
            repo);
    follower f = follow_with(repo, BUDGET);
    step(&f, "first");
    assert_true(cn_context_get_plan(cn_session_context(f.s))->left_files > 0);
    assert_true(in_view(&f, "base/copy1.h") && !in_view(&f, "base/copy6.h"));
    for (int i = 0; i < 4; i++) {
        if (i == 2) { // files of the view have grown: it is above its budget
            t_shell("cd %s && cat base/buf.h base/err.h | tail -n 40 >>base/copy1.h && "
                    "git commit -qam grown",
                    repo);
            step(&f, "grown");
            assert_true(cn_context_get_plan(cn_session_context(f.s))->over_tokens > 0);
        }
        const int was = f.walk.views - 1;
        t_shell("cd %s && git checkout -q less", repo);
        step(&f, "less");
        assert_false(in_view(&f, "base/copy1.h"));
        if (i % 2) assert_err(reopen(&f, NULL), CN_OK);
        t_shell("cd %s && git checkout -q other", repo); // there is room, for what was passed over
        step_free(&f, "other");
        t_shell("cd %s && git checkout -q master", repo);
        step_free(&f, "and more");
        const w_view *before = &f.walk.view[was], *again = &f.walk.view[f.walk.views - 1];
        assert_int_equal(again->docs, before->docs);
        for (int64_t d = 0; d < before->docs; d++)
            assert_true(cn_hash_is_equal(&again->doc[d].key, &before->doc[d].key));
    }
    unfollow(&f);
}

/* ---- Gone, and back ------------------------------------------------------------------- */

static cn_err try_turn(follower *f) {
    cn_turn     *t;
    const cn_err err =
        cn_turn_begin(&t, f->s, &(cn_turn_opts){.question = "now?", .question_bytes = 4}, &t_diag);
    cn_turn_free(t);
    return err;
}

static void test_a_folder_vanishes_and_comes_back(void **state) {
    (void)state;
    follower f = follow(new_repo());
    step(&f, "first");
    t_shell("mv %s %s.away", f.repo, f.repo);
    assert_err(try_turn(&f), CN_ENOTFOUND);
    assert_non_null(strstr(t_diag.text, f.repo));
    assert_non_null(strstr(t_diag.text, "nothing is lost"));
    // Another folder in its place for a while: another repository, and it is followed.
    t_shell("mkdir %s && cd %s && git init -q . && echo 'int x;' >x.c", f.repo, f.repo);
    assert_int_equal(step(&f, "another").documents, 1);
    t_shell("rm -rf %s", f.repo);
    assert_err(try_turn(&f), CN_ENOTFOUND);
    t_shell("mv %s.away %s", f.repo, f.repo);
    step_free(&f, "back");

    // Its git is gone, the files are not; and an empty folder, as of a disk that is not mounted.
    t_shell("mv %s/.git %s.git", f.repo, f.repo);
    step_free(&f, "without git");
    t_shell("mv %s %s.away && mkdir %s", f.repo, f.repo, f.repo);
    assert_err(try_turn(&f), CN_ENOTFOUND);
    assert_non_null(strstr(t_diag.text, "is empty, and had"));
    assert_err(reopen(&f, NULL), CN_OK); // it can be looked at
    assert_err(try_turn(&f), CN_ENOTFOUND);
    t_shell("rmdir %s && mv %s.away %s && mv %s.git %s/.git", f.repo, f.repo, f.repo, f.repo,
            f.repo);
    step_free(&f, "back again");

    // In another process: refused with what to do, and not lost.
    t_shell("mv %s %s.away", f.repo, f.repo);
    char id[64];
    snprintf(id, sizeof(id), "%s", cn_session_row(f.s)->id);
    assert_err(reopen(&f, NULL), CN_ENOTFOUND);
    assert_non_null(strstr(t_diag.text, "nothing is lost"));
    assert_non_null(strstr(t_diag.text, "-C FOLDER"));
    t_shell("mv %s.away %s", f.repo, f.repo);
    f.s = k_open(f.h, &(cn_session_opts){.id = id});
    step_free(&f, "back in another process");
    unfollow(&f);
}

static void test_a_repository_moves(void **state) {
    (void)state;
    follower f = follow(new_repo());
    char     there[300], id[64];
    step(&f, "first");
    snprintf(there, sizeof(there), "%s.there", f.repo);
    snprintf(id, sizeof(id), "%s", cn_session_row(f.s)->id);
    t_shell("mv %s %s", f.repo, there);

    // At its new place -c does not know it, and says which one it may be.
    cn_session *none;
    assert_err(cn_session_open(&none, f.h,
                               &(cn_session_opts){.folder = there, .is_continued = true}, &t_diag),
               CN_ENOTFOUND);
    assert_non_null(strstr(t_diag.text, id));
    assert_non_null(strstr(t_diag.text, "moves it here"));
    assert_err(reopen(&f, there), CN_OK);
    assert_string_equal(cn_session_moved_from(f.s), f.repo);
    assert_string_equal(cn_session_row(f.s)->repo, there);
    step_free(&f, "moved");
    assert_err(reopen(&f, NULL), CN_OK); // for good
    assert_null(cn_session_moved_from(f.s));
    step_free(&f, "stayed");
    cn_session_close(f.s);
    f.s = k_open(f.h, &(cn_session_opts){.folder = there, .is_continued = true});
    assert_string_equal(cn_session_row(f.s)->id, id);
    unfollow(&f);
}

/* ---- Pinned --------------------------------------------------------------------------- */

static void pin(follower *f, cn_pin what) {
    char id[64];
    snprintf(id, sizeof(id), "%s", cn_session_row(f->s)->id);
    cn_session_close(f->s);
    f->s = k_open(f->h, &(cn_session_opts){.id = id, .pin = what});
}

static void test_a_pinned_view_stays(void **state) {
    (void)state;
    follower f = follow(new_repo());
    t_shell("cd %s && : >empty.txt && printf 'a\\r\\nb' >base/odd.txt", f.repo);
    step(&f, "first");
    const int64_t tokens = f.walk.view[0].tokens;
    assert_null(cn_session_pin(f.s));
    // Changed and not committed: what it was is in the store alone.
    t_shell("cd %s && echo 'int z;' >>base/buf.c && rm base/err.h && echo 'int n;' >n.c", f.repo);
    pin(&f, CN_PIN_ON);
    assert_int_equal(cn_session_pin(f.s)->files, 7);
    assert_string_equal(cn_session_pin(f.s)->branch, "master");
    step_free(&f, "pinned");
    pin(&f, CN_PIN_AS_IT_IS);
    step_free(&f, "still pinned");
    assert_true(in_view(&f, "base/err.h") && !in_view(&f, "n.c"));
    assert_int_equal(f.walk.view[1].tokens, tokens);

    // Nothing of it is lost with the cache, nor with the files.
    t_shell("cd %s && rm -r base && git commit -qam gone", f.repo);
    char id[64];
    snprintf(id, sizeof(id), "%s", cn_session_row(f.s)->id);
    cn_session_close(f.s);
    cn_host_close(f.h);
    t_shell("rm -rf %s/cache", f.state);
    f.h = open_host(f.state);
    f.s = k_open(f.h, &(cn_session_opts){.id = id});
    const k_asked a = k_ask(f.h, f.s, "without a cache?", NULL);
    assert_int_equal(a.bill.prefilled_tokens, tokens);
    assert_int_equal(a.bill.misses[CN_MISS_EVICTED].tokens, tokens);

    // Its files are dropped and added, others are not.
    const char *path = "base/buf.c", *other = "n.c";
    assert_err(cn_session_edit(f.s, CN_EDIT_DROP, &path, 1, &t_diag), CN_OK);
    step_free(&f, "dropped");
    assert_false(in_view(&f, path));
    assert_int_equal(cn_context_get_plan(cn_session_context(f.s))->left_files, 1);
    assert_err(cn_session_edit(f.s, CN_EDIT_ADD, &path, 1, &t_diag), CN_OK);
    step_free(&f, "added");
    assert_true(in_view(&f, path));
    assert_err(cn_session_edit(f.s, CN_EDIT_ADD, &other, 1, &t_diag), CN_ENOTFOUND);
    assert_non_null(strstr(t_diag.text, "--unpin"));

    // A fork shares the pin, and keeps it when the session lets go of it.
    cn_ledger_session *fork;
    assert_err(cn_ledger_session_fork(f.h->ledger, id, 1, NULL, &fork, &t_diag), CN_OK);
    pin(&f, CN_PIN_OFF);
    assert_null(cn_session_pin(f.s));
    const w_step after = step(&f, "unpinned");
    assert_int_equal(after.changed, k_tokens_of(f.s, "n.c"));
    assert_false(in_view(&f, "base/err.h"));
    cn_session *forked = k_open(f.h, &(cn_session_opts){.id = fork->id});
    assert_int_equal(cn_session_pin(forked)->files, 7);
    assert_int_equal(k_ask(f.h, forked, "and here?", NULL).bill.context_tokens, tokens);
    cn_session_close(forked);
    assert_err(cn_ledger_session_del(f.h->ledger, fork->id, &t_diag), CN_OK);
    cn_ledger_session_free(fork);
    unfollow(&f);
}

static void test_a_new_session_is_pinned_as_the_folder_is(void **state) {
    (void)state;
    const char *repo = new_repo();
    cn_host    *h = open_host(k_new_state());
    cn_session *s = k_open(h, &(cn_session_opts){.folder = repo, .pin = CN_PIN_ON});
    t_shell("cd %s && echo 'int n;' >n.c", repo);
    const k_asked a = k_ask(h, s, "one", NULL);
    assert_int_equal(a.bill.prefilled_tokens, a.bill.context_tokens);
    assert_int_equal(k_tokens_of(s, "n.c"), 0);
    cn_session_close(s);
    // What a file was is nowhere any more: said, and nothing has changed.
    s = k_open(h, &(cn_session_opts){.folder = repo, .is_continued = true, .pin = CN_PIN_OFF});
    k_ask(h, s, "two", NULL);
    t_shell("cd %s && echo 'int m;' >n.c", repo);
    char id[64];
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    int64_t freed;
    cn_session_close(s);
    assert_err(cn_pages_evict(h->pages, INT64_C(1) << 40, &freed, &t_diag), CN_OK);
    assert_err(cn_session_open(&s, h, &(cn_session_opts){.id = id, .pin = CN_PIN_ON}, &t_diag),
               CN_ENOTFOUND);
    assert_non_null(strstr(t_diag.text, "n.c has changed"));
    s = k_open(h, &(cn_session_opts){.id = id});
    assert_null(cn_session_pin(s));
    cn_session_close(s);
    cn_host_close(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_change),
        cmocka_unit_test(test_commits_and_branches),
        cmocka_unit_test(test_worktrees_and_clones),
        cmocka_unit_test(test_a_full_view_is_the_same_when_it_returns),
        cmocka_unit_test(test_a_folder_vanishes_and_comes_back),
        cmocka_unit_test(test_a_repository_moves),
        cmocka_unit_test(test_a_pinned_view_stays),
        cmocka_unit_test(test_a_new_session_is_pinned_as_the_folder_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

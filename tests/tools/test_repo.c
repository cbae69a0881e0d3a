/*
 * test_repo.c - Which repositories open, what their HEAD is, and that no content is read
 * under a wrong id.
 */
#include "base/fault.h"
#include "tests/tools/git.h"

/* ---- Kinds of repositories -------------------------------------------------------------- */

static void assert_refused(const char *path, cn_err want, const char *word) {
    cn_repo           *repo = (cn_repo *)1;
    cn_diag            diag = {0};
    const int          files = open_files();
    const cn_repo_opts opts = {.path = path};
    t_note("%s", path);
    assert_err(cn_repo_open(&repo, &opts, &diag), want);
    assert_null(repo);
    if (!strstr(diag.text, word)) t_fail(__FILE__, __LINE__, "%s: no \"%s\"", diag.text, word);
    assert_int_equal(open_files(), files);
    assert_err(cn_repo_open(&repo, &opts, NULL), want);
}

static void test_what_cannot_be_opened(void **state) {
    (void)state;
    cn_repo *repo;
    sh("", "rm -rf refused; mkdir refused; cd refused; git init -q --bare bare; "
           "git init -q --object-format=sha256 sha256; mkdir broken; echo x >broken/.git; "
           "git init -q reftable; cd reftable; git config core.repositoryformatversion 1; "
           "git config extensions.refstorage reftable");
    put_text("", "refused/plain-file", "x");
    assert_refused(at("refused", "bare"), CN_EINVAL, "bare");
    assert_refused(at("refused", "sha256"), CN_EUNSUPPORTED, "objectformat");
    assert_refused(at("refused", "reftable"), CN_EUNSUPPORTED, "refstorage");
    assert_refused(at("refused", "absent"), CN_ENOTFOUND, "absent");
    assert_refused(at("refused", "plain-file"), CN_EINVAL, "neither");
    assert_refused(at("refused", "plain-file/below"), CN_ENOTFOUND, "plain-file");
    assert_refused("", CN_EINVAL, "path");
    const cn_repo_opts bad[] = {{.path = t_tmp_dir(), .file_bytes_max = -1},
                                {.path = t_tmp_dir(), .file_bytes_max = CN_REPO_FILE_BYTES_MAX + 1},
                                {.path = t_tmp_dir(), .files_max = -1},
                                {.path = t_tmp_dir(), .files_max = INT64_C(1) << 31},
                                {.path = NULL}};
    for (int i = 0; i < 5; i++) {
        repo = (cn_repo *)1;
        assert_err(cn_repo_open(&repo, &bad[i], &t_diag), CN_EINVAL);
        assert_null(repo);
    }
}

static void test_foreign_owner_is_refused(void **state) {
    (void)state;
    if (geteuid() != 0) skip(); // only root can give files away
    const char *in = make_repo("foreign");
    put_text(in, "f", "x\n");
    commit_all(in, "one");
    sh("", "chown -R 65534 foreign");
    assert_refused(at(in, ""), CN_EINVAL, "65534");
    sh(in, "git config --global --add safe.directory '%s'", at(in, ""));
    assert_like_git(in);
    sh("", "rm -f home/.gitconfig");
    assert_refused(at(in, ""), CN_EINVAL, "safe.directory");
}

static void assert_head(const char *in, const char *branch, bool is_detached, bool is_unborn) {
    cn_repo     *repo = open_repo(in);
    cn_repo_head head;
    assert_err(cn_repo_get_head(repo, &head, &t_diag), CN_OK);
    t_note("%s", in);
    assert_string_equal(head.branch, branch);
    assert_int_equal(head.is_detached, is_detached);
    assert_int_equal(head.is_unborn, is_unborn);
    if (is_unborn)
        assert_string_equal(head.commit, "");
    else
        assert_memory_equal(head.commit, sh(in, "git rev-parse HEAD"), 40);
    cn_repo_close(repo);
}

static void test_head(void **state) {
    (void)state;
    const char *in = make_repo("head");
    assert_head(in, "main", false, true);
    assert_like_git(in);
    put_text(in, "d/f", "x\n");
    put_text(in, "staged", "x\n");
    sh(in, "git add staged");
    assert_like_git(in);
    commit_all(in, "one");
    assert_head(in, "main", false, false);
    sh(in, "git checkout -q -b topic/one");
    assert_head(in, "topic/one", false, false);
    sh(in, "git checkout -q --detach");
    assert_head(in, "", true, false);
    sh(in, "echo y >d/f; git commit -qam two; git checkout -q main; "
           "rm -rf ../tree ../shallow; git worktree add -q ../tree -b tree; "
           "git clone -q --depth 1 file://$PWD ../shallow");
    assert_head("tree", "tree", false, false);
    put_text("tree", "new", "x\n");
    assert_like_git("tree");

    cn_repo_head head;
    cn_repo     *repo = open_repo("tree/d");
    assert_string_equal(cn_repo_root(repo), at("tree", ""));
    assert_true(cn_repo_is_git(repo));
    assert_err(cn_repo_get_head(repo, &head, &t_diag), CN_OK);
    assert_true(head.is_worktree && !head.is_shallow);
    cn_repo_close(repo);
    repo = open_repo("shallow/d/f"); // a file leads to its repository, too
    assert_string_equal(cn_repo_root(repo), at("shallow", ""));
    assert_err(cn_repo_get_head(repo, &head, &t_diag), CN_OK);
    assert_true(head.is_shallow && !head.is_worktree);
    assert_string_equal(head.branch, "main");
    // It is read anew each time.
    sh("shallow", "git checkout -q -b other");
    assert_err(cn_repo_get_head(repo, &head, &t_diag), CN_OK);
    assert_string_equal(head.branch, "other");
    sh("shallow", "git symbolic-ref HEAD refs/heads/$(printf '%%0200d/%%054d' 0 0)");
    assert_err(cn_repo_get_head(repo, &head, &t_diag), CN_OK);
    assert_int_equal(strlen(head.branch), 255);
    assert_true(head.is_unborn);
    sh("shallow", "git symbolic-ref HEAD refs/heads/$(printf '%%0200d/%%055d' 0 0)");
    assert_err(cn_repo_get_head(repo, &head, &t_diag), CN_ETOOBIG);
    assert_true(!head.branch[0] && !head.is_shallow);
    sh("shallow", "echo garbage >.git/HEAD");
    assert_err(cn_repo_get_head(repo, &head, &t_diag), CN_ECORRUPT);
    cn_repo_close(repo);
}

/* Change it after all, and look at it as git does. */
static void assert_sparse(const char *in, bool has_b) {
    t_note("%s", in);
    assert_like_git(in);
    put_text(in, "a/f", "changed\n");
    put_text(in, "a/new.txt", "new\r\n");
    assert_like_git(in);
    cn_repo       *repo = open_repo(in);
    cn_repo_files *files = list(repo);
    assert_int_equal(cn_repo_files_find(files, "b/f") != NULL, has_b);
    assert_text(repo, files, "a/deep/f", "a\n");
    assert_false(find(files, "a/deep/f")->is_changed);
    find(files, "top.o"); // tracked, though ignored
    assert_text(repo, files, "a/new.txt", "new\n");
    cn_repo_files_free(files);
    cn_repo_close(repo);
}

static void test_sparse_and_split(void **state) {
    (void)state;
    const char *in = make_wide("sparse-cone");
    sh(in, "git sparse-checkout set --cone a");
    assert_sparse(in, false);
    in = make_wide("sparse-patterns");
    sh(in, "git sparse-checkout set --no-cone '/a/' '/top*'");
    assert_sparse(in, false);
    in = make_wide("sparse-v1"); // libgit2 alone refuses extensions.worktreeconfig here
    sh(in, "git sparse-checkout set --cone a; git config core.repositoryformatversion 1");
    assert_sparse(in, false);
    in = make_wide("sparse-index"); // and cannot read this index
    sh(in, "git sparse-checkout set --cone --sparse-index a");
    assert_sparse(in, false);
    in = make_wide("split");
    sh(in, "git update-index --split-index");
    assert_sparse(in, true);
    in = make_wide("worktree-config");
    sh(in, "git config extensions.worktreeConfig true; git config core.repositoryformatversion 1; "
           "git config --worktree core.autocrlf true");
    put_text(in, "crlf", "one\r\n");
    assert_sparse(in, true);
}

static void test_split_index_needs_git(void **state) {
    (void)state;
    const char *in = make_wide("split-alone");
    char        path[4096];
    sh(in, "git update-index --split-index");
    snprintf(path, sizeof(path), "%s", getenv("PATH"));
    cn_repo       *repo = open_repo(in);
    cn_repo_files *files = (cn_repo_files *)1;
    setenv("PATH", "/nonexistent", 1);
    const cn_err err = cn_repo_list(&files, repo, NULL, NULL, &t_diag);
    setenv("PATH", path, 1);
    assert_err(err, CN_EUNSUPPORTED);
    assert_null(files);
    assert_non_null(strstr(t_diag.text, "link"));
    // What the git command says of itself is passed on.
    sh(in, "mkdir ../fake; printf '#!/bin/sh\\necho sorry >&2; exit 3\\n' >../fake/git; "
           "chmod +x ../fake/git");
    setenv("PATH", at("", "fake"), 1);
    const cn_err failed = cn_repo_list(&files, repo, NULL, NULL, &t_diag);
    setenv("PATH", path, 1);
    assert_err(failed, CN_ECORRUPT);
    assert_non_null(strstr(t_diag.text, "sorry"));
    const char *const garbage[] = {"garbage", "100644 12\\ta\\0", "100644 %040d 0 a\\0",
                                   "100644 x%039d 0\\ta\\0"};
    for (int i = 0; i < 4; i++) {
        sh("", "cat >fake/git <<'X'\n#!/bin/sh\nprintf '%s' 0\nX", garbage[i]);
        setenv("PATH", at("", "fake"), 1);
        const cn_err bad = cn_repo_list(&files, repo, NULL, NULL, &t_diag);
        setenv("PATH", path, 1);
        t_note("%s", garbage[i]);
        assert_err(bad, CN_ECORRUPT);
    }
    cn_repo_close(repo);
    // A damaged index is no reason to ask git.
    in = make_wide("damaged");
    sh(in, "printf 'garbage garbage garbage garbage garbage' >.git/index");
    repo = open_repo(in);
    assert_err(cn_repo_list(&files, repo, NULL, NULL, &t_diag), CN_ECORRUPT);
    cn_repo_close(repo);
}

/* Blobs that were never fetched: what is checked out is read from there. */
static void test_partial_clone(void **state) {
    (void)state;
    const char *in = make_wide("whole");
    sh(in, "git config uploadpack.allowFilter true; git config uploadpack.allowAnySHA1InWant true; "
           "rm -rf ../partial; "
           "git clone -q --filter=blob:none --no-checkout file://$PWD ../partial; cd ../partial; "
           "git config user.name x; git config user.email x; git checkout -q main; "
           "git config extensions.partialClone origin");
    assert_like_git("partial");
    // Lose the objects of a file that lies there.
    sh("partial", "git remote remove origin; git unpack-objects </dev/null; "
                  "mkdir p; mv .git/objects/pack/* p; "
                  "for f in p/*.pack; do git unpack-objects -q <$f; done; rm -rf p; "
                  "h=$(git rev-parse HEAD:b/f); rm -f .git/objects/$(echo $h | sed 's|^..|&/|')");
    cn_repo       *repo = open_repo("partial");
    cn_repo_files *files = list(repo);
    assert_false(find(files, "b/f")->is_changed);
    assert_text(repo, files, "b/f", "b\n");
    sh("partial", "echo edited >b/f"); // now no one has it
    assert_err(try_read(repo, find(files, "b/f")), CN_ENOTFOUND);
    cn_repo_files_free(files);
    cn_repo_close(repo);
}

/* ---- Reading ---------------------------------------------------------------------------- */

static void test_no_wrong_content_under_an_id(void **state) {
    (void)state;
    const char *in = make_repo("stale");
    put_text(in, "stored", "stored\n");
    commit_all(in, "one");
    const char *const names[] = {"edited", "gone", "linked", "folder", "piped", "same"};
    for (int i = 0; i < 6; i++) put_text(in, names[i], "before\n");
    put_text(in, "d/f", "before\n");
    cn_repo       *repo = open_repo(in);
    cn_repo_files *files = list(repo);
    put_text(in, "edited", "after!\n"); // as many bytes
    put_text("", "target", "before\n");
    sh(in, "rm gone linked folder piped; ln -s ../target linked; mkdir folder; mkfifo piped; "
           "rm -r d; mkdir ../moved; cp ../target ../moved/f; ln -s ../moved d; "
           "echo edited >stored; touch same");
    for (int i = 0; i < 5; i++) assert_err(try_read(repo, find(files, names[i])), CN_ENOTFOUND);
    assert_err(try_read(repo, find(files, "d/f")), CN_ENOTFOUND);
    assert_text(repo, files, "same", "before\n");
    assert_text(repo, files, "stored", "stored\n"); // of the object database: still true

    // An object that is not what its name says.
    char id[41];
    snprintf(id, sizeof(id), "%s", find(files, "stored")->id);
    sh(in,
       "cp .git/objects/$(git rev-parse HEAD^{tree} | sed 's|^..|&/|') x; "
       "f=.git/objects/%.2s/%s; chmod +w $f; "
       "printf 'blob 7\\0STORED\\n' | python3 -c 'import sys,zlib;"
       "sys.stdout.buffer.write(zlib.compress(sys.stdin.buffer.read()))' >$f",
       id, id + 2);
    cn_repo_close(repo);
    repo = open_repo(in);
    assert_err(try_read(repo, find(files, "stored")), CN_EIO);

    // A full buffer is an error that leaves it alone.
    cn_buf small = {.bytes_max = 6};
    assert_err(cn_repo_read(repo, find(files, "same"), &small, &t_diag), CN_ETOOBIG);
    assert_true(small.bytes == 0 && small.err == CN_OK);
    assert_err(cn_repo_read_raw(repo, "same", &small, &t_diag), CN_ETOOBIG);
    assert_true(small.bytes == 0 && small.err == CN_OK);
    cn_buf_release(&small);
    cn_repo_files_free(files);
    cn_repo_close(repo);
}

/* ---- Failures ---------------------------------------------------------------------------- */

static void test_open_and_read_under_every_fault(void **state) {
    (void)state;
    const char *in = make_wide("read-faults");
    put_text(in, "new", "new\n");
    for (int n = 1;; n++) {
        cn_repo           *repo = (cn_repo *)1;
        const cn_repo_opts opts = {.path = at(in, "")};
        const int          fds = open_files();
        cn_fault_arm(CN_FAULT_ONCE, n);
        const cn_err err = cn_repo_open(&repo, &opts, &t_diag);
        const bool   hit = cn_fault_was_hit();
        cn_fault_arm(CN_FAULT_OFF, 0);
        assert_int_equal(err == CN_OK, !hit);
        if (!err) cn_repo_close(repo);
        assert_int_equal(open_files(), fds);
        if (!hit) {
            assert_int_equal(n, 3);
            break;
        }
        assert_null(repo);
    }
    cn_repo          *repo = open_repo(in);
    cn_repo_files    *files = list(repo);
    const char *const paths[] = {"new", "a/f"};
    for (int p = 0; p < 2; p++)
        for (int n = 1;; n++) {
            const int fds = open_files();
            cn_buf    buf = {0};
            cn_buf_put_str(&buf, "abc");
            cn_fault_arm(CN_FAULT_ONCE, n);
            const cn_err err = cn_repo_read(repo, find(files, paths[p]), &buf, &t_diag);
            const bool   hit = cn_fault_was_hit();
            t_note("%s fault %d at %s", paths[p], n, cn_fault_last_point());
            cn_fault_arm(CN_FAULT_OFF, 0);
            assert_int_equal(open_files(), fds);
            assert_int_equal(buf.err, CN_OK);
            assert_string_equal(buf.data, hit ? "abc" : p == 0 ? "abcnew\n" : "abca\n");
            cn_buf_release(&buf);
            if (!hit) {
                assert_err(err, CN_OK);
                assert_true(n > 1);
                break;
            }
            assert_true(err == CN_EIO || err == CN_ENOMEM);
        }
    cn_repo_files_free(files);
    cn_repo_close(repo);
}

int main(void) {
    git_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_cannot_be_opened),
        cmocka_unit_test(test_foreign_owner_is_refused),
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_sparse_and_split),
        cmocka_unit_test(test_split_index_needs_git),
        cmocka_unit_test(test_partial_clone),
        cmocka_unit_test(test_no_wrong_content_under_an_id),
        cmocka_unit_test(test_open_and_read_under_every_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_repo_log.c - The log of a path against `git log`, on made and on random histories. */
#include "base/fault.h"
#include "tests/tools/git.h"

static void assert_log_like_git(cn_repo *repo, const char *in, const char *path) {
    static cn_repo_commit  commits[1024];
    int32_t                count;
    bool                   is_cut;
    char                   line[sizeof(commits[0]) + 8];
    const cn_repo_log_args args = {.path = path, .commits_max = 1024, .ms_max = 60000};
    assert_err(cn_repo_log(repo, &args, commits, &count, &is_cut, &t_diag), CN_OK);
    assert_false(is_cut);
    const char *p = sh(in, "git log --date=short --format='%%H %%ad %%an: %%s' %s%s%s",
                       path[0] ? "-- '" : "", path, path[0] ? "'" : "");
    for (int32_t i = 0; i < count || *p; i++) {
        const size_t bytes = strcspn(p, "\n");
        if (i < count)
            snprintf(line, sizeof(line), "%.40s %.10s %.127s: %.255s", commits[i].id,
                     commits[i].date, commits[i].author, commits[i].subject);
        if (i == count || strlen(line) != bytes || memcmp(line, p, bytes) != 0)
            t_fail(__FILE__, __LINE__, "log of %s: git says %.*s, we %s", path, (int)bytes, p,
                   i < count ? line : "no more");
        p += bytes + (p[bytes] == '\n');
    }
}

static void test_log_of_a_path(void **state) {
    (void)state;
    const char *in = make_repo("log");
    sh(in,
       "d() { export GIT_AUTHOR_DATE=\"$1\" GIT_COMMITTER_DATE=\"$1\"; }; mkdir s; "
       "d '2020-01-01T23:30:00 -0500'; echo 1 >s/a; echo 1 >b; git add .; git commit -qm 'first'; "
       "d '2020-02-01T00:30:00 +0900'; echo 2 >s/a; git commit -qam 'wrapped\nsubject\n\nbody'; "
       "d '2020-03-01T12:00:00 +0000'; echo 2 >b; "
       "git commit -qam 'only b' --author='J\xC3\xB6rg <j@x>'; "
       "d '2020-04-01T12:00:00 +0000'; git rm -q s/a; git commit -qm 'gone'; "
       "d '2020-05-01T12:00:00 +0000'; git commit -q --allow-empty -m 'nothing'");
    cn_repo *repo = open_repo(in);
    assert_log_like_git(repo, in, "s/a");
    assert_log_like_git(repo, in, "s");
    assert_log_like_git(repo, in, "b");
    assert_log_like_git(repo, in, "");
    assert_log_like_git(repo, in, "never");
    assert_log_like_git(repo, in, "b/below");

    cn_repo_commit   commits[5];
    int32_t          count;
    bool             is_cut;
    cn_repo_log_args args = {.path = "s/a", .commits_max = 2, .ms_max = 60000};
    assert_err(cn_repo_log(repo, &args, commits, &count, &is_cut, &t_diag), CN_OK);
    assert_true(count == 2 && is_cut);
    args.commits_max = 3;
    assert_err(cn_repo_log(repo, &args, commits, &count, &is_cut, &t_diag), CN_OK);
    assert_true(count == 3 && !is_cut);
    assert_string_equal(commits[0].subject, "gone");
    args.ms_max = -1;
    assert_err(cn_repo_log(repo, &args, commits, &count, &is_cut, &t_diag), CN_OK);
    assert_true(count == 0 && is_cut);
    args = (cn_repo_log_args){.path = "b", .commits_max = 0};
    assert_err(cn_repo_log(repo, &args, commits, &count, &is_cut, &t_diag), CN_EINVAL);
    atomic_bool cancel = true;
    args = (cn_repo_log_args){.path = "b", .commits_max = 5, .ms_max = 60000, .cancel = &cancel};
    assert_err(cn_repo_log(repo, &args, commits, &count, &is_cut, &t_diag), CN_ECANCELLED);
    assert_int_equal(count, 0);
    cancel = false;
    for (int n = 1;; n++) {
        cn_fault_arm(CN_FAULT_ONCE, n);
        const cn_err err = cn_repo_log(repo, &args, commits, &count, &is_cut, &t_diag);
        const bool   hit = cn_fault_was_hit();
        cn_fault_arm(CN_FAULT_OFF, 0);
        assert_err(err, hit ? CN_ENOMEM : CN_OK);
        assert_int_equal(count, hit ? 0 : 2);
        if (!hit) break;
    }
    cn_repo_close(repo);

    sh("", "rm -rf log-shallow; git clone -q --depth 3 file://$PWD/log log-shallow");
    repo = open_repo("log-shallow");
    assert_log_like_git(repo, "log-shallow", "b");
    assert_log_like_git(repo, "log-shallow", "");
    cn_repo_close(repo);

    sh("", "rm -rf log-damaged; cp -r log log-damaged; cd log-damaged; "
           "t=$(git rev-parse HEAD~3^{tree}); rm -f .git/objects/$(echo $t | sed 's|^..|&/|')");
    repo = open_repo("log-damaged");
    args.path = "b";
    assert_err(cn_repo_log(repo, &args, commits, &count, &is_cut, &t_diag), CN_ECORRUPT);
    assert_int_equal(count, 0);
    sh("", "cd log-damaged; t=$(git rev-parse HEAD~2); rm -f .git/objects/$(echo $t | sed "
           "'s|^..|&/|')");
    cn_repo_close(repo);
    repo = open_repo("log-damaged");
    assert_err(cn_repo_log(repo, &args, commits, &count, &is_cut, &t_diag), CN_ECORRUPT);
    cn_repo_close(repo);

    make_repo("log-unborn");
    repo = open_repo("log-unborn");
    assert_err(cn_repo_log(repo, &args, commits, &count, &is_cut, &t_diag), CN_ENOTFOUND);
    assert_non_null(strstr(t_diag.text, "no commit yet"));
    cn_repo_close(repo);
    sh("", "rm -rf log-plain; mkdir log-plain");
    repo = open_repo("log-plain");
    assert_err(cn_repo_log(repo, &args, commits, &count, &is_cut, &t_diag), CN_ENOTFOUND);
    cn_repo_close(repo);
}

/* Random histories with merges, written by git fast-import. */
static void test_random_histories_as_git_simplifies_them(void **state) {
    (void)state;
    t_seed(11);
    for (int round = 0; round < (t_is_sanitized() ? 2 : 5); round++) {
        const char *in = make_repo("histories");
        cn_buf      stream = {0};
        int         tips[4] = {0};
        for (int mark = 1; mark <= 40; mark++) {
            const int branch = (int)t_rand_range(0, 3), other = (int)t_rand_range(0, 3);
            cn_buf_printf(&stream,
                          "commit refs/heads/b%d\nmark :%d\ncommitter T <t@x> %d +0000\n"
                          "data <<E\nc%d\nE\n",
                          branch, mark, 1600000000 + mark * 60, mark);
            if (tips[branch]) cn_buf_printf(&stream, "from :%d\n", tips[branch]);
            if (tips[branch] && tips[other] && other != branch && t_rand_range(0, 1) == 0)
                cn_buf_printf(&stream, "merge :%d\n", tips[other]);
            for (int64_t edits = t_rand_range(0, 2); edits > 0; edits--)
                cn_buf_printf(&stream, "M 100644 inline d/f%d\ndata <<E\n%d\nE\n",
                              (int)t_rand_range(0, 2), (int)t_rand_range(0, 3));
            if (t_rand_range(0, 9) == 0) cn_buf_put_str(&stream, "D d/f0\n");
            cn_buf_put_str(&stream, "\n");
            tips[branch] = mark;
        }
        put(in, "stream", stream.data, stream.bytes);
        cn_buf_release(&stream);
        sh(in, "git fast-import --quiet <stream; git symbolic-ref HEAD refs/heads/b0");
        if (!tips[0]) continue;
        cn_repo *repo = open_repo(in);
        t_note("round %d", round);
        assert_log_like_git(repo, in, "d/f0");
        assert_log_like_git(repo, in, "d/f1");
        assert_log_like_git(repo, in, "d");
        assert_log_like_git(repo, in, "");
        cn_repo_close(repo);
    }
}

/* More commits than the table of those that were seen has room for at first. */
static void test_long_history(void **state) {
    (void)state;
    const char *in = make_repo("long");
    cn_buf      stream = {0};
    for (int mark = 1; mark <= 700; mark++) {
        const bool is_merge = mark > 10 && mark % 7 == 0;
        cn_buf_printf(&stream,
                      "commit refs/heads/main\nmark :%d\ncommitter T <t@x> %d +0000\n"
                      "data <<E\nc%d\nE\n",
                      mark, 1600000000 + mark, mark);
        if (mark > 1) cn_buf_printf(&stream, "from :%d\n", mark - 1);
        if (is_merge) cn_buf_printf(&stream, "merge :%d\n", mark - 6);
        cn_buf_printf(&stream, "M 100644 inline %s\ndata <<E\n%d\nE\n\n",
                      mark % 70 == 1 ? "rare" : "often", mark);
    }
    put(in, "stream", stream.data, stream.bytes);
    cn_buf_release(&stream);
    sh(in, "git fast-import --quiet <stream");
    cn_repo *repo = open_repo(in);
    assert_log_like_git(repo, in, "rare");
    assert_log_like_git(repo, in, ""); // each commit once
    cn_repo_close(repo);
}

int main(void) {
    git_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_of_a_path),
        cmocka_unit_test(test_random_histories_as_git_simplifies_them),
        cmocka_unit_test(test_long_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

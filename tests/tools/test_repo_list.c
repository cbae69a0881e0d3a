/*
 * test_repo_list.c - Lists against what the git command says of the same repository.
 *
 * Most tests make a situation with git and end in assert_like_git(): paths, modes and ids
 * are those that `git add -A` would leave in the index, and each content hashes to its id.
 */
#include "base/fault.h"
#include "tests/tools/git.h"

#include <sys/wait.h>

/* ---- What is in the list --------------------------------------------------------------- */

static void test_all_states_of_a_file(void **state) {
    (void)state;
    const char *in = make_repo("states");
    const int   files_before = open_files();
    put_text(in, "same", "same\n");
    put_text(in, "src/same.c", "int same;\n");
    put_text(in, "modified", "before\n");
    put_text(in, "same-size", "aaaa\n");
    put_text(in, "staged", "before\n");
    put_text(in, "staged-modified", "before\n");
    put_text(in, "deleted", "x\n");
    put_text(in, "removed", "x\n");
    put_text(in, "untracked-now", "x\n");
    put_text(in, "moved", "moved\n");
    put_text(in, "script", "#!/bin/sh\n");
    put_text(in, "file-to-folder", "x\n");
    put_text(in, "folder-to-file/a", "x\n");
    put_text(in, "empty", "");
    commit_all(in, "one");
    put_text(in, "modified", "after, and longer\n");
    put_text(in, "same-size", "bbbb\n");
    put_text(in, "staged", "after\n");
    put_text(in, "staged-modified", "staged\n");
    put_text(in, "added", "added\n");
    sh(in, "git add staged staged-modified added; rm deleted; git rm -q removed; "
           "git rm -q --cached untracked-now; git mv moved to; chmod +x script; "
           "rm -r file-to-folder folder-to-file; mkdir file-to-folder");
    put_text(in, "staged-modified", "modified\n");
    put_text(in, "file-to-folder/b", "y\n");
    put_text(in, "folder-to-file", "y\n");
    put_text(in, "untracked", "new\n");
    put_text(in, "deep/er/untracked", "new\n");
    put_text(in, "intent", "to add\n");
    sh(in, "git add -N intent; touch touched-empty; mkfifo pipe");
    assert_like_git(in);

    cn_repo       *repo = open_repo(in);
    cn_repo_files *files = list(repo);
    assert_text(repo, files, "staged-modified", "modified\n");
    assert_text(repo, files, "same-size", "bbbb\n");
    assert_text(repo, files, "src/same.c", "int same;\n");
    assert_text(repo, files, "empty", "");
    assert_text(repo, files, "intent", "to add\n");
    assert_false(find(files, "same")->is_changed);
    assert_false(find(files, "script")->is_changed); // the mode is not the content
    assert_false(find(files, "staged")->is_changed); // the index has it
    assert_true(find(files, "modified")->is_changed);
    assert_true(find(files, "same-size")->is_changed);
    assert_true(find(files, "untracked")->is_changed);
    assert_int_equal(find(files, "script")->mode, 0100755);
    assert_null(cn_repo_files_find(files, "deleted"));
    assert_null(cn_repo_files_find(files, "removed"));
    assert_null(cn_repo_files_find(files, "moved"));
    assert_null(cn_repo_files_find(files, "pipe"));
    assert_null(cn_repo_files_find(files, "src"));
    cn_repo_files_free(files);
    cn_repo_close(repo);
    cn_repo_close(NULL);
    cn_repo_files_free(NULL);
    assert_int_equal(open_files(), files_before);
}

static void test_conflict_shows_the_working_tree(void **state) {
    (void)state;
    const char *in = make_repo("conflict");
    put_text(in, "f", "base\n");
    put_text(in, "g", "base\n");
    commit_all(in, "base");
    sh(in, "git checkout -q -b other; echo other >f; git rm -q g; git commit -qam other; "
           "git checkout -q main; echo main >f; echo main >g; git commit -qam main; "
           "git merge -q other || true; git ls-files -u | grep -q f");
    assert_like_git(in);
    cn_repo       *repo = open_repo(in);
    cn_repo_files *files = list(repo);
    cn_buf         buf = {0};
    assert_true(find(files, "f")->is_changed);
    assert_err(cn_repo_read(repo, find(files, "f"), &buf, &t_diag), CN_OK);
    assert_non_null(strstr(buf.data, "<<<<<<<"));
    cn_buf_release(&buf);
    cn_repo_files_free(files);
    cn_repo_close(repo);
}

/* "a-b" < "a/b" < "a0": the order is that of the whole path's bytes. */
static void test_order_is_bytewise(void **state) {
    (void)state;
    const char *in = make_repo("order");
    const char *paths[] = {"A", "a-b", "a/b", "a0", "a\xC3\xA4", "b"};
    for (int i = 5; i >= 0; i--) put_text(in, paths[i], "x\n");
    sh(in, "git add a0 A; git commit -q -m one");
    cn_repo       *repo = open_repo(in);
    cn_repo_files *files = list(repo);
    assert_int_equal(files->count, 6);
    for (int i = 0; i < 6; i++) assert_string_equal(files->file[i].path, paths[i]);
    cn_repo_files_free(files);
    cn_repo_close(repo);
    // Where git folds case, its index is in another order.
    sh(in, "git config core.ignorecase true; git add -A; git commit -q -m two");
    repo = open_repo(in);
    files = list(repo);
    assert_int_equal(files->count, 6);
    for (int i = 0; i < 6; i++) assert_string_equal(files->file[i].path, paths[i]);
    cn_repo_files_free(files);
    cn_repo_close(repo);
}

/* ---- What is cheap --------------------------------------------------------------------- */

static void test_unchanged_files_are_not_read(void **state) {
    (void)state;
    const char *in = make_repo("cheap");
    for (int i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof(name), "d%d/f%d", i % 3, i);
        put_text(in, name, name);
    }
    put(in, "d1/bin", "\0", 1);
    commit_all(in, "one");
    cn_repo       *repo = open_repo(in);
    cn_repo_files *files = list(repo);
    assert_int_equal(files->count, 21);
    assert_int_equal(files->hashed, 0);
    assert_int_equal(files->peeked, 21);
    cn_repo_files *again = list_again(repo, files);
    assert_int_equal(again->hashed, 0);
    assert_int_equal(again->peeked, 0);
    for (int64_t i = 0; i < files->count; i++) {
        assert_string_equal(files->file[i].path, again->file[i].path);
        assert_string_equal(files->file[i].id, again->file[i].id);
        assert_int_equal(files->file[i].bytes, again->file[i].bytes);
        assert_int_equal(files->file[i].skip, again->file[i].skip);
    }
    assert_skip(again, "d1/bin", CN_REPO_SKIP_BINARY);
    cn_repo_files_free(files);

    // Touched, not changed: read once, and it is still the index's.
    sh(in, "touch d1/f1; echo more >>d2/f2");
    files = list_again(repo, again);
    assert_int_equal(files->hashed, 2);
    assert_int_equal(files->peeked, 0);
    assert_false(find(files, "d1/f1")->is_changed);
    assert_true(find(files, "d2/f2")->is_changed);
    cn_repo_files_free(files);
    cn_repo_files_free(again);
    cn_repo_close(repo);
}

/* Forge an index that has the stat of the file as it is, but another content's id, and
 * `size` for its size. */
static void forge_index(const char *in, const char *path, const char *id, uint32_t size,
                        int index_seconds_later) {
    git_repository *git;
    git_index      *index;
    struct stat     st;
    assert_int_equal(stat(at(in, path), &st), 0);
    assert_int_equal(git_repository_open(&git, at(in, "")), 0);
    assert_int_equal(git_repository_index(&index, git), 0);
    git_index_entry e = {.path = path, .mode = 0100644, .file_size = size};
    e.mtime.seconds = (int32_t)st.st_mtim.tv_sec;
    e.mtime.nanoseconds = (uint32_t)st.st_mtim.tv_nsec;
    e.ctime.seconds = (int32_t)st.st_ctim.tv_sec;
    e.ctime.nanoseconds = (uint32_t)st.st_ctim.tv_nsec;
    e.ino = (uint32_t)st.st_ino;
    assert_int_equal(git_oid_fromstr(&e.id, id), 0);
    assert_int_equal(git_index_add(index, &e), 0);
    assert_int_equal(git_index_write(index), 0);
    const struct timespec times[2] = {
        {st.st_mtim.tv_sec + index_seconds_later, st.st_mtim.tv_nsec},
        {st.st_mtim.tv_sec + index_seconds_later, st.st_mtim.tv_nsec}};
    assert_int_equal(utimensat(AT_FDCWD, at(in, ".git/index"), times, 0), 0);
    git_index_free(index);
    git_repository_free(git);
}

/* A stat is trusted only if the file is older than the index.  That it is trusted then is
 * shown by the forgery: we report what the index says. */
static void test_racy_stat_is_not_trusted(void **state) {
    (void)state;
    const char *in = make_repo("racy");
    char        other[41], own[41];
    put_text(in, "f", "own\n");
    put_text(in, "g", "oth\n");
    commit_all(in, "one");
    snprintf(own, sizeof(own), "%.40s", sh(in, "git hash-object f"));
    snprintf(other, sizeof(other), "%.40s", sh(in, "git hash-object g"));
    for (int size = 0; size <= 4; size += 4) // 0: how git marks an entry that it distrusts
        for (int later = 0; later < 2; later++) {
            t_note("size %d, index %d s later", size, later);
            cn_repo *repo = open_repo(in);
            forge_index(in, "f", other, (uint32_t)size, later);
            cn_repo_files *files = list(repo);
            const bool     is_trusted = size == 4 && later;
            assert_string_equal(find(files, "f")->id, is_trusted ? other : own);
            assert_int_equal(find(files, "f")->is_changed, !is_trusted);
            assert_text(repo, files, "f", is_trusted ? "oth\n" : "own\n");
            cn_repo_files_free(files);
            cn_repo_close(repo);
        }
    // As many bytes and the same mtime: ctime tells.
    in = make_repo("set-back");
    put_text(in, "f", "own\n");
    commit_all(in, "one");
    sh(in, "touch -r f ../stamp; echo oth >f; touch -r ../stamp f");
    cn_repo       *repo = open_repo(in);
    cn_repo_files *files = list(repo);
    assert_text(repo, files, "f", "oth\n");
    cn_repo_files_free(files);
    cn_repo_close(repo);
}

/* What has no index is kept by its stat, once that is older than two seconds. */
static void test_hashes_are_kept_by_stat(void **state) {
    (void)state;
    sh("", "rm -rf kept; mkdir -p kept/d");
    put_text("kept", "d/a", "a\n");
    put_text("kept", "b", "b\n");
    put("kept", "c", "\0", 1);
    const char *in = make_repo("kept-filtered");
    put_text(in, ".gitattributes", "was-text text\n");
    put_text(in, "was-text", "a\r\n");
    put_text(in, "is-text", "a\r\n");
    cn_repo       *repo = open_repo("kept"), *git = open_repo(in);
    cn_repo_files *files = list(repo);
    assert_int_equal(files->hashed, 3);
    cn_repo_files *again = list_again(repo, files); // too fresh: a change might not show
    assert_int_equal(again->hashed, 3);
    cn_repo_files_free(files);
    usleep(2100000);

    // What git would store can change though the file does not.
    cn_repo_files *filtered = list(git);
    assert_text(git, filtered, "was-text", "a\n");
    assert_text(git, filtered, "is-text", "a\r\n");
    put_text(in, ".gitattributes", "is-text text\n");
    files = list_again(git, filtered);
    assert_text(git, files, "was-text", "a\r\n");
    assert_text(git, files, "is-text", "a\n");
    cn_repo_files_free(files);
    cn_repo_files_free(filtered);
    cn_repo_close(git);

    files = list_again(repo, again);
    assert_int_equal(files->hashed, 3);
    cn_repo_files_free(again);
    again = list_again(repo, files);
    assert_int_equal(again->hashed, 0);
    assert_skip(again, "c", CN_REPO_SKIP_BINARY);
    assert_text(repo, again, "d/a", "a\n");
    cn_repo_files_free(files);

    // Same size, and the time set back: ctime still tells.
    sh("kept", "touch -r b stamp; printf 'B\\n' >b; touch -r stamp b; rm stamp");
    files = list_again(repo, again);
    assert_int_equal(files->hashed, 1);
    assert_text(repo, files, "b", "B\n");
    cn_repo_files_free(files);
    cn_repo_files_free(again);
    cn_repo_close(repo);
}

static void test_repository_is_left_alone(void **state) {
    (void)state;
    const char *in = make_repo("alone");
    struct stat a, b;
    char        before[128];
    put_text(in, "f", "x\n");
    commit_all(in, "one");
    sh(in,
       "touch f; printf '#!/bin/sh\\necho ran >%s\\n' >spy; chmod +x spy; "
       "git config core.fsmonitor $PWD/spy; git config filter.spy.clean $PWD/spy; "
       "echo 'f filter=spy' >.gitattributes; mkdir -p .git/hooks; "
       "cp spy .git/hooks/post-index-change",
       at("", "ran"));
    snprintf(before, sizeof(before), "%s", sh(in, "sha256sum .git/index"));
    for (int split = 0; split < 2; split++) {
        if (split) sh(in, "git -c core.fsmonitor=false update-index --split-index; rm -f ../ran");
        if (split) snprintf(before, sizeof(before), "%s", sh(in, "sha256sum .git/index"));
        assert_int_equal(stat(at(in, ".git/index"), &a), 0);
        cn_repo       *repo = open_repo(in);
        cn_repo_files *files = list(repo);
        assert_skip(files, "f", CN_REPO_SKIP_FILTER);
        cn_repo_files_free(files);
        cn_repo_close(repo);
        assert_int_equal(stat(at(in, ".git/index"), &b), 0);
        assert_memory_equal(&a.st_mtim, &b.st_mtim, sizeof(a.st_mtim));
        assert_string_equal(before, sh(in, "sha256sum .git/index"));
        assert_int_equal(access(at("", "ran"), F_OK), -1);
    }
}

/* ---- What is left out ------------------------------------------------------------------ */

static void test_ignored_files_are_not_listed(void **state) {
    (void)state;
    const char *in = make_repo("ignored");
    put_text(in, ".gitignore",
             "*.o\n/build/\nlogs/*\n!logs/keep\n# a comment\n\\#hash\ntail \\ \n");
    put_text(in, "a/.gitignore", "!keep.o\nlocal\r\n");
    put_text(in, "x.o", "x");
    put_text(in, "a/x.o", "x");
    put_text(in, "a/keep.o", "x"); // libgit2 1.5 loses this one
    put_text(in, "a/local", "x");
    put_text(in, "local", "x");
    put_text(in, "build/x.c", "x");
    put_text(in, "sub/build/x.c", "x");
    put_text(in, "logs/a", "x");
    put_text(in, "logs/keep", "x");
    put_text(in, "#hash", "x");
    put_text(in, "tail  ", "x");
    put_text(in, "tail", "x");
    put_text(in, "tracked.o", "x");
    put_text(in, "build/tracked", "x");
    put_text(in, "excluded", "x");
    put_text(in, "global", "x");
    put_text(in, "xdg", "x");
    put_text(in, ".git/info/exclude", "excluded\n");
    sh(in, "git add -f tracked.o build/tracked; git commit -q -m one");
    put_text("", "home/.config/git/ignore", "xdg\n");
    assert_like_git(in);
    cn_repo          *repo = open_repo(in);
    cn_repo_files    *files = list(repo);
    const char *const not_listed[] = {"x.o",   "a/x.o",  "a/local",  "build/x.c", "logs/a",
                                      "#hash", "tail  ", "excluded", "xdg"};
    for (size_t i = 0; i < sizeof(not_listed) / sizeof(not_listed[0]); i++)
        if (cn_repo_files_find(files, not_listed[i]))
            t_fail(__FILE__, __LINE__, "%s is listed", not_listed[i]);
    find(files, "a/keep.o");
    find(files, "build/tracked");
    cn_repo_files_free(files);
    cn_repo_close(repo);

    put_text("", "home/ignore-too", "global\n");
    sh(in, "git config core.excludesFile '~/ignore-too'");
    assert_like_git(in); // and not "xdg" any more
    sh(in, "git config core.excludesFile /dev/null; echo 'everything' >elsewhere; "
           "echo 'excluded' >everything; ln -s ../elsewhere sub/.gitignore; git status -s");
    assert_like_git(in); // a symlink is no .gitignore
    sh(in,
       "git config --unset core.excludesFile; mkdir -p ../xdg/git; echo global >../xdg/git/ignore");
    setenv("XDG_CONFIG_HOME", at("", "xdg"), 1);
    assert_like_git(in);
    unsetenv("XDG_CONFIG_HOME");
    sh("", "rm home/.config/git/ignore home/ignore-too");
}

/* Random patterns over random files; git itself is the judge.  Not asked: "ab**", where
 * git compares "ab" first and then reads the stars as a component of their own. */
static void test_random_patterns_as_git_reads_them(void **state) {
    (void)state;
    static const char *const parts[] = {"a", "b", "ab", "ba", "a.b", "aab", "B", "a b"};
    static const char *const bits[] = {"a",   "b",      "*",  "?",    "**",   "/",
                                       "**/", "/**",    ".",  "[ab]", "[!a]", "\\a",
                                       "ab",  "[a-b]*", "*b", "B",    "/a",   "b/"};
    const char              *in = make_repo("random");
    t_seed(7);
    for (int i = 0; i < 60; i++) {
        char path[256] = "";
        for (int64_t depth = t_rand_range(1, 4); depth > 0; depth--) {
            strcat(path, parts[t_rand_range(0, 7)]);
            strcat(path, depth > 1 ? "_/" : "");
        }
        // A folder's name ends in '_' so that no file has it.
        put_text(in, path, path);
    }
    for (int round = 0; round < (t_is_sanitized() ? 10 : 30); round++) {
        static const char *const places[] = {".gitignore", "a_/.gitignore", "b_/ab_/.gitignore"};
        char                     note[400] = "";
        for (int place = 0; place < 3; place++) {
            char text[600] = "";
            for (int64_t line = t_rand_range(place == 0, 4); line > 0; line--) {
                if (t_rand_range(0, 3) == 0) strcat(text, "!");
                for (int64_t bit = t_rand_range(1, 5); bit > 0; bit--) {
                    const char *piece = bits[t_rand_range(0, 17)];
                    const char  last = text[0] ? text[strlen(text) - 1] : '\n';
                    if (piece[0] == '*' &&
                        (last == '*' || (piece[1] == '*' && !strchr("/\n!", last))))
                        continue;
                    strcat(text, piece);
                    if (t_rand_range(0, 2) == 0) strcat(text, "_/");
                }
                strcat(text, "\n");
            }
            sh(in, "mkdir -p $(dirname %s)", places[place]);
            put_text(in, places[place], text);
            snprintf(note + strlen(note), sizeof(note) - strlen(note), "<%s> ", text);
        }
        t_note("round %d: %s", round, note);
        cn_repo       *repo = open_repo(in);
        cn_repo_files *files = list(repo);
        const char    *p = sh(in, "git ls-files -z -o --exclude-standard | LC_ALL=C sort -z");
        const char    *end = p + sh_bytes;
        for (int64_t i = 0; i < files->count || p < end; i++, p += strlen(p) + 1)
            if (i == files->count || p >= end || strcmp(p, files->file[i].path) != 0)
                t_fail(__FILE__, __LINE__, "git lists %s, we %s", p < end ? p : "no more",
                       i < files->count ? files->file[i].path : "no more");
        cn_repo_files_free(files);
        cn_repo_close(repo);
    }
}

static void test_attributes_leave_files_out(void **state) {
    (void)state;
    const char *in = make_repo("attributes");
    put_text(in, ".gitattributes",
             "*.gen linguist-generated\n*.gen2 linguist-generated=true\n"
             "third/** linguist-vendored\nthird/ours.c -linguist-vendored\n"
             "no.gen -linguist-generated\nno2.gen linguist-generated=false\n*.dat binary\n");
    put_text(in, "d/.gitattributes", "x.c linguist-generated\n");
    const char *const  paths[] = {"a.gen",   "a.gen2",    "third/x/y.c", "third/ours.c", "no.gen",
                                  "no2.gen", "plain.dat", "d/x.c",       "d/y.c"};
    const cn_repo_skip skips[] = {
        CN_REPO_SKIP_GENERATED, CN_REPO_SKIP_GENERATED, CN_REPO_SKIP_VENDORED,
        CN_REPO_SKIP_NONE,      CN_REPO_SKIP_NONE,      CN_REPO_SKIP_NONE,
        CN_REPO_SKIP_BINARY,    CN_REPO_SKIP_GENERATED, CN_REPO_SKIP_NONE};
    for (int i = 0; i < 9; i++) put_text(in, paths[i], "text\n");
    for (int tracked = 0; tracked < 2; tracked++) {
        if (tracked) commit_all(in, "one");
        cn_repo       *repo = open_repo(in);
        cn_repo_files *files = list(repo);
        assert_int_equal(files->count, 11);
        assert_int_equal(files->skipped, 5);
        for (int i = 0; i < 9; i++) assert_skip(files, paths[i], skips[i]);
        // Left out, but whoever asks for it by name can have it, if its id is known.
        if (tracked) assert_text(repo, files, "a.gen", "text\n");
        if (!tracked) assert_err(try_read(repo, find(files, "a.gen")), CN_EINVAL);
        cn_repo_files_free(files);
        cn_repo_close(repo);
    }
    sh("",
       "rm -rf attributes-plain; cp -r attributes attributes-plain; rm -rf attributes-plain/.git");
    cn_repo       *repo = open_repo("attributes-plain");
    cn_repo_files *files = list(repo);
    for (int i = 0; i < 9; i++) assert_skip(files, paths[i], skips[i]);
    cn_repo_files_free(files);
    // An edit holds from the next list on.
    put_text("attributes-plain", ".gitattributes", "d/y.c linguist-vendored\n");
    files = list(repo);
    assert_skip(files, "d/y.c", CN_REPO_SKIP_VENDORED);
    assert_skip(files, "a.gen", CN_REPO_SKIP_NONE);
    cn_repo_files_free(files);
    cn_repo_close(repo);
}

/* Random rules in all the places that git looks at; `git check-attr` is the judge. */
static void test_random_attributes_as_git_reads_them(void **state) {
    (void)state;
    static const char *const patterns[] = {
        "*",  "a",   "b.c", "*.c",   "/a", "d/*",         "d/**",  "**/a", "\"q q\"",
        "d/", "e/a", "!a",  "[a-b]", "a*", "\"\\142.c\"", "*/d/*", "# *",  "[attr]x"};
    static const char *const words[] = {"linguist-generated",
                                        "-linguist-generated",
                                        "!linguist-generated",
                                        "linguist-generated=true",
                                        "linguist-generated=no",
                                        "linguist-vendored",
                                        "linguist-vendored=false",
                                        "binary",
                                        "-binary",
                                        "!binary",
                                        "ours",
                                        "-ours",
                                        "theirs",
                                        "other"};
    static const char *const macros[] = {
        "[attr]ours linguist-generated -binary", "[attr]ours theirs -linguist-generated",
        "[attr]theirs linguist-vendored ours", "[attr]binary -diff linguist-generated",
        "  [attr] theirs binary"};
    static const char *const places[] = {".gitattributes", "d/.gitattributes", "d/e/.gitattributes",
                                         ".git/info/attributes", "../home/.config/git/attributes"};
    static const char *const paths[] = {"a",       "b.c", "q q",   "d/a", "d/b.c", "d/e/a",
                                        "d/e/b.c", "e/a", "d/d/a", "a-b", "d.c"};
    const char              *in = make_repo("random-attributes");
    t_seed(13);
    for (int i = 0; i < 11; i++) put_text(in, paths[i], "x\n");
    for (int round = 0; round < (t_is_sanitized() ? 10 : 40); round++) {
        char note[500] = "";
        for (int place = 0; place < 5; place++) {
            char text[1000] = "";
            for (int64_t line = t_rand_range(0, 4); line > 0; line--) {
                if (t_rand_range(0, 5) == 0)
                    strcat(text, macros[t_rand_range(0, 4)]);
                else {
                    strcat(text, patterns[t_rand_range(0, 17)]);
                    for (int64_t word = t_rand_range(1, 3); word > 0; word--) {
                        strcat(text, word == 1 ? "\t " : " ");
                        strcat(text, words[t_rand_range(0, 13)]);
                    }
                }
                strcat(text, t_rand_range(0, 3) ? "\n" : "\r\n");
            }
            put_text(in, places[place], text);
            snprintf(note + strlen(note), sizeof(note) - strlen(note), "<%s> ", text);
        }
        t_note("round %d: %s", round, note);
        cn_repo       *repo = open_repo(in);
        cn_repo_files *files = list(repo);
        // path, attribute, value, path ...
        const char *said = sh(in, "git check-attr -z linguist-generated linguist-vendored binary "
                                  "-- a b.c 'q q' d/a d/b.c d/e/a d/e/b.c e/a d/d/a a-b d.c");
        for (int i = 0; i < 11; i++) {
            cn_repo_skip want = CN_REPO_SKIP_NONE;
            assert_string_equal(said, paths[i]);
            for (int k = 0; k < 3; k++) {
                for (int part = 0; part < 2; part++) said += strlen(said) + 1;
                if (strcmp(said, "set") == 0 || strcmp(said, "true") == 0)
                    want = k == 0   ? CN_REPO_SKIP_GENERATED
                           : k == 1 ? CN_REPO_SKIP_VENDORED
                                    : CN_REPO_SKIP_BINARY;
                said += strlen(said) + 1;
            }
            assert_skip(files, paths[i], want);
        }
        cn_repo_files_free(files);
        cn_repo_close(repo);
    }
    sh("", "rm home/.config/git/attributes");
}

static void test_cairnignore_keeps_files_out(void **state) {
    (void)state;
    const char *in = make_repo("keeps-out");
    put_text(in, "docs/a.md", "x");
    put_text(in, "docs/api/b.md", "x");
    put_text(in, "src/a.c", "x");
    put_text(in, "src/a.csv", "x");
    put_text(in, "src/keep.csv", "x");
    commit_all(in, "one");
    put_text(in, "docs/untracked", "x");
    put_text(in, "src/b.csv", "x");
    put_text(in, ".cairnignore", "docs/\n*.csv\n!keep.csv\n");
    cn_repo       *repo = open_repo(in);
    cn_repo_files *files = list(repo);
    const char    *want[] = {".cairnignore", "src/a.c", "src/keep.csv"};
    assert_int_equal(files->count, 3);
    for (int i = 0; i < 3; i++) assert_string_equal(files->file[i].path, want[i]);
    assert_true(cn_repo_is_kept_out(repo, "docs/api/b.md"));
    assert_true(cn_repo_is_kept_out(repo, "docs"));
    assert_true(cn_repo_is_kept_out(repo, "new/x.csv"));
    assert_false(cn_repo_is_kept_out(repo, "src/keep.csv"));
    assert_false(cn_repo_is_kept_out(repo, "src"));
    cn_repo_files_free(files);
    sh(in, "rm .cairnignore");
    assert_false(cn_repo_is_kept_out(repo, "docs"));
    assert_list_like_git(repo, files = list(repo), in);
    cn_repo_files_free(files);

    char *big = malloc(CN_REPO_IGNORE_BYTES_MAX + 1);
    memset(big, '\n', CN_REPO_IGNORE_BYTES_MAX + 1);
    put(in, ".cairnignore", big, CN_REPO_IGNORE_BYTES_MAX);
    files = list(repo);
    cn_repo_files_free(files);
    put(in, ".cairnignore", big, CN_REPO_IGNORE_BYTES_MAX + 1);
    free(big);
    assert_err(cn_repo_list(&files, repo, NULL, NULL, &t_diag), CN_ETOOBIG);
    assert_null(files);
    assert_non_null(strstr(t_diag.text, ".cairnignore"));
    cn_repo_close(repo);
}

static void test_nul_means_binary(void **state) {
    (void)state;
    const char *in = make_repo("binary");
    char        data[CN_REPO_BINARY_BYTES + 10];
    memset(data, 'x', sizeof(data));
    data[CN_REPO_BINARY_BYTES] = 0;
    put(in, "text", data, sizeof(data));
    data[CN_REPO_BINARY_BYTES - 1] = 0;
    put(in, "binary", data, sizeof(data));
    put(in, "latin1", "caf\xE9\n", 5);
    put(in, "one", "\0", 1);
    for (int tracked = 0; tracked < 2; tracked++) {
        if (tracked) commit_all(in, "one");
        cn_repo       *repo = open_repo(in);
        cn_repo_files *files = list(repo);
        assert_skip(files, "text", CN_REPO_SKIP_NONE);
        assert_skip(files, "binary", CN_REPO_SKIP_BINARY);
        assert_skip(files, "one", CN_REPO_SKIP_BINARY);
        assert_content(repo, files, "latin1", "caf\xE9\n", 5);
        assert_content(repo, files, "one", "\0", 1);
        cn_repo_files_free(files);
        cn_repo_close(repo);
        assert_like_git(in);
    }
}

static void test_limits(void **state) {
    (void)state;
    const char    *in = make_repo("limits");
    cn_repo_files *files;
    cn_repo       *repo;
    put_text(in, "ten", "123456789\n");
    put_text(in, "eleven", "1234567890\n");
    for (int tracked = 0; tracked < 2; tracked++) {
        if (tracked) commit_all(in, "one");
        cn_repo_opts opts = {.path = at(in, ""), .file_bytes_max = 10};
        assert_err(cn_repo_open(&repo, &opts, &t_diag), CN_OK);
        files = list(repo);
        assert_skip(files, "ten", CN_REPO_SKIP_NONE);
        assert_skip(files, "eleven", CN_REPO_SKIP_TOO_BIG);
        assert_int_equal(find(files, "eleven")->bytes, 11);
        assert_int_equal(find(files, "eleven")->id[0] != 0, tracked); // never read for it
        assert_err(try_read(repo, find(files, "eleven")), tracked ? CN_ETOOBIG : CN_EINVAL);
        assert_int_equal(files->hashed, !tracked);
        cn_buf buf = {0};
        assert_err(cn_repo_read_raw(repo, "eleven", &buf, &t_diag), CN_ETOOBIG);
        assert_int_equal(buf.bytes, 0);
        cn_buf_release(&buf);
        cn_repo_files_free(files);
        cn_repo_close(repo);
    }
    for (int max = 1; max <= 3; max++) {
        cn_repo_opts opts = {.path = at(in, ""), .files_max = max};
        put_text(in, "untracked", "x");
        assert_err(cn_repo_open(&repo, &opts, &t_diag), CN_OK);
        assert_err(cn_repo_list(&files, repo, NULL, NULL, &t_diag), max < 3 ? CN_ETOOBIG : CN_OK);
        assert_int_equal(files != NULL, max == 3);
        cn_repo_files_free(files);
        cn_repo_close(repo);
    }
    // Folders count as well, though they are not in the list.
    sh("", "rm -rf folders; mkdir -p folders/1/2/3");
    for (int max = 3; max <= 4; max++) {
        cn_repo_opts opts = {.path = at("folders", ""), .files_max = max};
        assert_err(cn_repo_open(&repo, &opts, &t_diag), CN_OK);
        assert_err(cn_repo_list(&files, repo, NULL, NULL, &t_diag), max < 4 ? CN_ETOOBIG : CN_OK);
        cn_repo_files_free(files);
        cn_repo_close(repo);
    }
    // A path of 1024 bytes is listed, one of 1025 is left out; so is a longer folder.
    char path[2000];
    for (int over = 0; over < 2; over++) {
        memset(path, 'p', sizeof(path));
        for (int i = 200; i <= 1000; i += 200) path[i] = '/';
        path[CN_REPO_PATH_BYTES_MAX + over] = 0;
        put_text(in, path, "x");
        repo = open_repo(in);
        files = list(repo);
        assert_skip(files, path, over ? CN_REPO_SKIP_LONG_PATH : CN_REPO_SKIP_NONE);
        if (!over) assert_text(repo, files, path, "x");
        cn_repo_files_free(files);
        cn_repo_close(repo);
    }
    sh(in, "cd %.800s && mkdir -p %.200s/%.200s/%.200s && touch %.200s/%.200s/%.200s/f", path, path,
       path, path, path, path, path);
    repo = open_repo(in);
    files = list(repo);
    snprintf(path + 800, sizeof(path) - 800, "/%.200s/%.200s/", path, path);
    assert_skip(files, path, CN_REPO_SKIP_LONG_PATH);
    cn_repo_files_free(files);
    cn_repo_close(repo);
}

static void test_symlinks_are_not_followed(void **state) {
    (void)state;
    const char *in = make_repo("links");
    put_text("", "outside/secret", "secret\n");
    put_text(in, "real/f", "f\n");
    put_text(in, "was-folder/f", "inside\n");
    put_text(in, "was-file", "secret\n");
    sh(in, "ln -s ../outside to-folder; ln -s real/f to-file; ln -s nowhere broken; "
           "ln -s ../../outside real/up");
    commit_all(in, "one");
    sh(in, "ln -s ../outside untracked; rm -r was-folder was-file; ln -s ../outside was-folder; "
           "cp ../outside/secret ../outside/f; ln -s ../outside/secret was-file");
    cn_repo          *repo = open_repo(in);
    cn_repo_files    *files = list(repo);
    const char *const links[] = {"to-folder", "to-file",    "broken",  "real/up",
                                 "untracked", "was-folder", "was-file"};
    assert_int_equal(files->count, 8);
    for (int i = 0; i < 7; i++) {
        assert_skip(files, links[i], CN_REPO_SKIP_SYMLINK);
        assert_int_equal(find(files, links[i])->mode, 0120000);
        assert_err(try_read(repo, find(files, links[i])), CN_EINVAL);
        cn_buf buf = {0};
        assert_err(cn_repo_read_raw(repo, links[i], &buf, &t_diag), CN_EINVAL);
    }
    cn_buf            buf = {0};
    const char *const paths[] = {"to-folder/secret", "real/up/secret", "was-folder/f"};
    for (int i = 0; i < 3; i++)
        assert_err(cn_repo_read_raw(repo, paths[i], &buf, &t_diag), CN_ENOTFOUND);
    const char *const bad[] = {".git/config",
                               "real/.GIT/x",
                               "../outside/secret",
                               "real/../../outside/secret",
                               "/etc/passwd",
                               "",
                               "real//f",
                               "./real/f",
                               "real/.",
                               "real/",
                               "real"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        t_note("%s", bad[i]);
        assert_err(cn_repo_read_raw(repo, bad[i], &buf, &t_diag), CN_EINVAL);
    }
    assert_int_equal(buf.bytes, 0);
    assert_err(cn_repo_read_raw(repo, "real/f", &buf, &t_diag), CN_OK);
    assert_string_equal(buf.data, "f\n");
    cn_buf_release(&buf);
    cn_repo_files_free(files);
    cn_repo_close(repo);
}

/* An index that no git would write: its paths lead out, or to what is git's own. */
static void test_hostile_index_leads_nowhere(void **state) {
    (void)state;
    static const char *const forged[][2] = {{"xx/secret", "../secret"},
                                            {"xgit/config", ".git/config"},
                                            {"xgit/HEAD", ".GIT/HEAD"},
                                            {"xetc/passwd", "/etc/passwd"},
                                            {"a/xx/xx/secret", "a/../../secret"}};
    int                      refused = 0;
    put_text("", "secret", "secret\n");
    for (size_t i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
        const char *in = make_repo("hostile");
        put_text(in, forged[i][0], "x\n");
        sh(in,
           "git add -A; mkdir -p a; mv a/xx a/x 2>/dev/null || rm -rf x*; "
           "python3 -c 'import hashlib; d = open(\".git/index\", \"rb\").read()[:-20]; "
           "e = d.replace(b\"%s\", b\"%s\"); assert d != e; "
           "open(\".git/index\", \"wb\").write(e + hashlib.sha1(e).digest())'",
           forged[i][0], forged[i][1]);
        cn_repo       *repo = open_repo(in);
        cn_repo_files *files;
        t_note("%s", forged[i][1]);
        const cn_err err = cn_repo_list(&files, repo, NULL, NULL, &t_diag);
        if (err) {
            assert_err(err, CN_ECORRUPT); // libgit2 sees some of them
            refused++;
        } else {
            for (int64_t k = 0; k < files->count; k++)
                assert_string_equal(files->file[k].path, "a/x/xx/secret"); // the untracked rest
            cn_repo_files_free(files);
        }
        cn_repo_close(repo);
    }
    assert_true(refused < 5);
}

static void test_other_repositories_are_left_out(void **state) {
    (void)state;
    make_repo("lib");
    put_text("lib", "lib.c", "x\n");
    commit_all("lib", "one");
    const char *in = make_repo("super");
    put_text(in, "f", "x\n");
    sh(in, "git -c protocol.file.allow=always submodule --quiet add ../lib sub");
    commit_all(in, "one");
    sh(in, "git clone -q ../lib nested; mkdir not-a-repo not-a-repo/.git; touch not-a-repo/f; "
           "git -C sub checkout -q -b x; echo y >sub/lib.c");
    cn_repo       *repo = open_repo(in);
    cn_repo_files *files = list(repo);
    assert_skip(files, "sub", CN_REPO_SKIP_SUBMODULE);
    assert_int_equal(find(files, "sub")->mode, 0160000);
    assert_skip(files, "nested/", CN_REPO_SKIP_SUBMODULE);
    assert_int_equal(find(files, "nested/")->mode, 0040000);
    assert_null(cn_repo_files_find(files, "sub/lib.c"));
    assert_null(cn_repo_files_find(files, "nested/lib.c"));
    assert_err(try_read(repo, find(files, "sub")), CN_EINVAL);
    assert_list_like_git(repo, files, in);
    cn_repo_files_free(files);
    cn_repo_close(repo);
    // A submodule is a repository itself.
    repo = open_repo("super/sub");
    assert_string_equal(cn_repo_root(repo), at(in, "sub"));
    cn_repo_files_free(list(repo));
    cn_repo_close(repo);
}

static void test_strange_paths(void **state) {
    (void)state;
    const char       *in = make_repo("strange");
    const char *const bad[] = {"new\nline", "tab\there", "del\x7F", "latin\xE9", "d\x01/f"};
    const char *const good[] = {"white space", "\xC3\xA9t\xC3\xA9", "quote\"'", "-dash", "*",
                                "a:b"};
    for (int i = 0; i < 5; i++) put_text(in, bad[i], "x\n");
    for (int i = 0; i < 6; i++) put_text(in, good[i], "x\n");
    for (int tracked = 0; tracked < 2; tracked++) {
        if (tracked) commit_all(in, "one");
        cn_repo       *repo = open_repo(in);
        cn_repo_files *files = list(repo);
        assert_int_equal(files->count, 11);
        for (int i = 0; i < 5; i++) assert_skip(files, bad[i], CN_REPO_SKIP_BAD_PATH);
        for (int i = 0; i < 6; i++) assert_text(repo, files, good[i], "x\n");
        cn_repo_files_free(files);
        cn_repo_close(repo);
    }
}

/* As another user in a child: root reads everything. */
static void test_unreadable_files_are_left_out(void **state) {
    (void)state;
    sh("", "rm -rf closed; mkdir -p closed/d; cd closed; echo a >a; echo b >b; echo c >d/c; "
           "chmod 0 b d; chmod 755 ..");
    int         status;
    const pid_t pid = fork();
    if (pid == 0) {
        if (geteuid() == 0 && setuid(65534)) _exit(9);
        cn_repo           *repo;
        cn_repo_files     *files;
        const cn_repo_opts opts = {.path = at("closed", "")};
        if (cn_repo_open(&repo, &opts, NULL)) _exit(1);
        if (cn_repo_list(&files, repo, NULL, NULL, NULL)) _exit(2);
        const cn_repo_file *b = cn_repo_files_find(files, "b"),
                           *d = cn_repo_files_find(files, "d/");
        if (files->count != 3 || files->skipped != 2) _exit(3);
        if (!b || b->skip != CN_REPO_SKIP_UNREADABLE || b->id[0]) _exit(4);
        if (!d || d->skip != CN_REPO_SKIP_UNREADABLE || d->id[0]) _exit(5);
        cn_repo_files_free(files);
        cn_repo_close(repo);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    sh("", "chmod 755 closed/d");
    assert_int_equal(status, 0);
}

/* ---- What git would store -------------------------------------------------------------- */

static void test_line_ends_are_normalised(void **state) {
    (void)state;
    const char *in = make_repo("crlf");
    put_text(in, ".gitattributes",
             "*.txt text\n*.bat text eol=crlf\n*.raw -text\n*.auto text=auto\n"
             "*.id ident\n");
    put_text(in, "a.txt", "one\r\ntwo\r\n");
    put_text(in, "b.bat", "one\r\ntwo\r\n");
    put_text(in, "c.raw", "one\r\ntwo\r\n");
    put_text(in, "d.auto", "one\r\ntwo\r\n");
    put(in, "e.auto", "one\r\n\0\r\n", 8);
    put_text(in, "f.id", "$Id: 0123456789 $\n");
    put_text(in, "g", "one\r\n");
    assert_like_git(in);
    cn_repo       *repo = open_repo(in);
    cn_repo_files *files = list(repo);
    assert_text(repo, files, "a.txt", "one\ntwo\n");
    assert_text(repo, files, "c.raw", "one\r\ntwo\r\n");
    assert_text(repo, files, "f.id", "$Id$\n");
    cn_repo_files_free(files);
    cn_repo_close(repo);

    commit_all(in, "one");
    assert_like_git(in);
    put_text(in, "a.txt", "changed\r\n");
    assert_like_git(in);
    sh(in, "git config core.autocrlf true");
    put_text(in, "h", "new\r\n");
    assert_like_git(in);
    repo = open_repo(in);
    files = list(repo);
    assert_text(repo, files, "h", "new\n");
    // When the attribute goes, the same file on disk is another blob.
    put_text(in, ".gitattributes", "*.txt -text\n");
    cn_repo_files *again = list_again(repo, files);
    assert_text(repo, again, "a.txt", "changed\r\n");
    cn_repo_files_free(files);
    cn_repo_files_free(again);
    cn_repo_close(repo);
    // A file with CRLF in the index stays as it is under text=auto.
    in = make_repo("crlf-in-index");
    put_text(in, "a", "one\r\n");
    commit_all(in, "one");
    put_text(in, ".gitattributes", "* text=auto\n");
    put_text(in, "a", "one\r\nmore\r\n");
    assert_like_git(in);
}

/* An external filter: an unchanged file is what the index says; a changed one is left out. */
static void test_filter_commands_are_not_run(void **state) {
    (void)state;
    const char *in = make_repo("filter");
    put_text(in, ".gitattributes",
             "*.up filter=up\n*.un filter=unknown\n"
             "*.u16 working-tree-encoding=UTF-16LE\n");
    put_text(in, "a.up", "abc\n");
    put_text(in, "b.up", "abc\n");
    put_text(in, "c.un", "abc\n");
    put(in, "d.u16", "h\0i\0\n\0", 6);
    put(in, "e.u16", "h\0i\0\n\0", 6);
    sh(in, "git config filter.up.clean 'tr a-z A-Z'");
    commit_all(in, "one");
    sh(in, "touch b.up; printf 'y\\0' >>e.u16");
    put_text(in, "new.up", "x\n");
    put_text(in, "new.un", "x\n");
    cn_repo       *repo = open_repo(in);
    cn_repo_files *files = list(repo);
    assert_text(repo, files, "a.up", "ABC\n");
    assert_text(repo, files, "c.un", "abc\n");
    assert_text(repo, files, "d.u16", "hi\n");
    assert_text(repo, files, "new.un", "x\n");
    assert_skip(files, "a.up", CN_REPO_SKIP_NONE);
    assert_skip(files, "d.u16", CN_REPO_SKIP_NONE); // text, though the file has NULs
    assert_skip(files, "new.un", CN_REPO_SKIP_NONE);
    assert_skip(files, "b.up", CN_REPO_SKIP_FILTER);
    assert_skip(files, "e.u16", CN_REPO_SKIP_FILTER);
    assert_skip(files, "new.up", CN_REPO_SKIP_FILTER);
    assert_err(try_read(repo, find(files, "b.up")), CN_EINVAL);
    assert_list_like_git(repo, files, in);
    cn_repo_files_free(files);
    cn_repo_close(repo);
}

static void test_plain_folder_has_the_same_ids(void **state) {
    (void)state;
    sh("", "rm -rf plain; mkdir plain");
    put_text("plain", "a.c", "int a;\n");
    put_text("plain", "d/e/b.c", "int b;\n");
    put_text("plain", "d/x.o", "x");
    put_text("plain", "d/e/keep.o", "x");
    put_text("plain", "out/f", "x");
    put_text("plain", ".cairnignore", "out/\n");
    put_text("plain", ".gitignore", "*.o\n");
    put_text("plain", "d/e/.gitignore", "!keep.o\n");
    sh("plain", "ln -s a.c link; chmod +x d/e/b.c; git init -q d/clone; echo x >d/clone/x");
    cn_repo       *repo = open_repo("plain/d/..");
    cn_repo_head   head;
    cn_repo_files *files = list(repo);
    assert_false(cn_repo_is_git(repo));
    assert_string_equal(cn_repo_root(repo), at("plain", ""));
    assert_err(cn_repo_get_head(repo, &head, &t_diag), CN_OK);
    assert_true(!head.commit[0] && !head.branch[0] && !head.is_unborn && !head.is_detached);
    assert_skip(files, "link", CN_REPO_SKIP_SYMLINK);
    assert_text(repo, files, "d/clone/x", "x\n"); // a folder of clones is one corpus
    assert_null(cn_repo_files_find(files, "d/x.o"));
    assert_null(cn_repo_files_find(files, "out/f"));
    assert_int_equal(find(files, "d/e/b.c")->mode, 0100755);
    sh("plain", "rm -rf d/clone; git init -q -b main .; git config user.name x; "
                "git config user.email x; git add .; git commit -q -m one");
    cn_repo       *git = open_repo("plain");
    cn_repo_files *tracked = list(git);
    assert_int_equal(tracked->count, files->count - 1);
    for (int64_t i = 0; i < tracked->count; i++) {
        const cn_repo_file *f = find(files, tracked->file[i].path);
        assert_int_equal(f->skip, tracked->file[i].skip);
        assert_int_equal(f->mode, tracked->file[i].mode);
        if (!f->skip) assert_string_equal(f->id, tracked->file[i].id);
    }
    cn_repo_files_free(files);
    cn_repo_files_free(tracked);
    cn_repo_close(repo);
    cn_repo_close(git);
}

/* ---- Failures ---------------------------------------------------------------------------- */

static void test_cancelled(void **state) {
    (void)state;
    const char    *in = make_wide("cancel");
    atomic_bool    cancel = true;
    cn_repo_files *files = (cn_repo_files *)1;
    cn_repo       *repo = open_repo(in);
    assert_err(cn_repo_list(&files, repo, NULL, &cancel, &t_diag), CN_ECANCELLED);
    assert_null(files);
    sh(in, "git update-index --split-index");
    assert_err(cn_repo_list(&files, repo, NULL, &cancel, &t_diag), CN_ECANCELLED);
    cancel = false;
    assert_err(cn_repo_list(&files, repo, NULL, &cancel, &t_diag), CN_OK);
    cn_repo_files_free(files);
    cn_repo_close(repo);
}

/* Under any fault a list fails, or it is the right one but for files that are said to be
 * unreadable. */
static void walk_list_faults(const char *in, int least) {
    const cn_fault_mode modes[] = {CN_FAULT_ONCE, CN_FAULT_FOREVER};
    cn_repo            *repo = open_repo(in);
    cn_repo_files      *want = list(repo);
    for (int m = 0; m < 2; m++)
        for (int n = 1;; n++) {
            cn_repo_files *files = (cn_repo_files *)1;
            cn_diag        diag = {0};
            const int      fds = open_files();
            cn_fault_arm(modes[m], n);
            const cn_err err = cn_repo_list(&files, repo, NULL, NULL, &diag);
            const bool   hit = cn_fault_was_hit();
            t_note("%s: mode %d fault %d at %s: %s", in, m, n, cn_fault_last_point(), diag.text);
            cn_fault_arm(CN_FAULT_OFF, 0);
            assert_int_equal(open_files(), fds);
            if (err) {
                assert_true(hit && (err == CN_EIO || err == CN_ENOMEM));
                assert_null(files);
                assert_true(diag.err == err && diag.text[0]);
                continue;
            }
            assert_int_equal(files->count, want->count);
            for (int64_t i = 0; i < files->count; i++) {
                const cn_repo_file *f = &files->file[i], *w = &want->file[i];
                assert_string_equal(f->path, w->path);
                if (f->skip == CN_REPO_SKIP_UNREADABLE) {
                    assert_true(hit);
                    continue;
                }
                assert_string_equal(f->id, w->id);
                assert_int_equal(f->skip, w->skip);
            }
            cn_repo_files_free(files);
            if (hit) continue;
            assert_true(n > least); // else the points were compiled out
            break;
        }
    cn_repo_files_free(want);
    cn_repo_close(repo);
}

static void test_list_under_every_fault(void **state) {
    (void)state;
    const char *in = make_wide("faults");
    put_text(in, "a/f", "changed\n");
    put_text(in, "a/.gitignore", "x\n");
    put_text(in, ".cairnignore", "x\n");
    put_text(in, "new", "x\n");
    walk_list_faults(in, 40);
    sh(in, "git update-index --split-index");
    walk_list_faults(in, 40);
}

int main(void) {
    git_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_states_of_a_file),
        cmocka_unit_test(test_conflict_shows_the_working_tree),
        cmocka_unit_test(test_order_is_bytewise),
        cmocka_unit_test(test_unchanged_files_are_not_read),
        cmocka_unit_test(test_racy_stat_is_not_trusted),
        cmocka_unit_test(test_hashes_are_kept_by_stat),
        cmocka_unit_test(test_repository_is_left_alone),
        cmocka_unit_test(test_ignored_files_are_not_listed),
        cmocka_unit_test(test_random_patterns_as_git_reads_them),
        cmocka_unit_test(test_attributes_leave_files_out),
        cmocka_unit_test(test_random_attributes_as_git_reads_them),
        cmocka_unit_test(test_cairnignore_keeps_files_out),
        cmocka_unit_test(test_nul_means_binary),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_symlinks_are_not_followed),
        cmocka_unit_test(test_hostile_index_leads_nowhere),
        cmocka_unit_test(test_other_repositories_are_left_out),
        cmocka_unit_test(test_strange_paths),
        cmocka_unit_test(test_unreadable_files_are_left_out),
        cmocka_unit_test(test_line_ends_are_normalised),
        cmocka_unit_test(test_filter_commands_are_not_run),
        cmocka_unit_test(test_plain_folder_has_the_same_ids),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_list_under_every_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * git.h - Repositories for tests, made with the git command in the scratch folder, and
 * lists of them compared with what git says.
 *
 * git_begin() must come first in main(): it hides the user's and the system's git
 * configuration from git and from libgit2.
 */
#ifndef CN_TESTS_TOOLS_GIT_H
#define CN_TESTS_TOOLS_GIT_H

#include "tests/test.h"
#include "tools/repo.h"

#include <fcntl.h>
#include <git2.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef CN_SANITIZED
/* libgit2 1.5 leaks its matches of `extensions.*` when it opens a repository of format 1. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libpcre2-8.so\n";
}
#endif

/* ---- Shell and files; every path is relative to the scratch folder ------------------- */

/* Run a shell command in the folder `in`; its standard output, valid until the next call. */
static const char *sh(const char *in, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static size_t sh_bytes; // of the last output: it may hold NUL

static const char *sh(const char *in, const char *fmt, ...) {
    static char out[4 << 20];
    char        command[16384], whole[18000];
    va_list     args;
    va_start(args, fmt);
    assert_true(vsnprintf(command, sizeof(command), fmt, args) < (int)sizeof(command));
    va_end(args);
    snprintf(whole, sizeof(whole), "cd '%s/%s' && { %s\n} 2>'%s/stderr'", t_tmp_dir(), in, command,
             t_tmp_dir());
    FILE *f = popen(whole, "r");
    assert_non_null(f);
    sh_bytes = fread(out, 1, sizeof(out) - 1, f);
    out[sh_bytes] = 0;
    const int status = pclose(f);
    if (status) {
        char  text[400] = "";
        char  path[256];
        FILE *e;
        snprintf(path, sizeof(path), "%s/stderr", t_tmp_dir());
        if ((e = fopen(path, "r"))) {
            text[fread(text, 1, sizeof(text) - 1, e)] = 0;
            fclose(e);
        }
        t_fail(__FILE__, __LINE__, "in %s: %s: status %d: %s", in, command, status, text);
    }
    return out;
}

/* The absolute path; two may be in use at once. */
__attribute__((unused)) static const char *at(const char *in, const char *path) {
    static char full[2][4096];
    static int  which;
    char       *p = full[which ^= 1];
    snprintf(p, sizeof(full[0]), "%s/%s%s%.3000s", t_tmp_dir(), in, path[0] ? "/" : "", path);
    return p;
}

__attribute__((unused)) static void put(const char *in, const char *path, const void *data,
                                        size_t bytes) {
    char  full[4096];
    FILE *f;
    snprintf(full, sizeof(full), "%s", at(in, path));
    for (char *p = full + strlen(t_tmp_dir()) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(full, 0755);
        *p = '/';
    }
    f = fopen(full, "wb");
    if (!f) t_fail(__FILE__, __LINE__, "cannot write %s", full);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

__attribute__((unused)) static void put_text(const char *in, const char *path, const char *text) {
    put(in, path, text, strlen(text));
}

/* ---- git ------------------------------------------------------------------------------ */

static void git_begin(void) {
    static char home[128];
    snprintf(home, sizeof(home), "%s/home", t_tmp_dir());
    mkdir(home, 0755);
    setenv("HOME", home, 1);
    setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
    setenv("LC_ALL", "C", 1);
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("GIT_DIR");
    unsetenv("GIT_INDEX_FILE");
    unsetenv("GIT_WORK_TREE");
}

/* An empty repository named `name`. */
__attribute__((unused)) static const char *make_repo(const char *name) {
    sh("",
       "rm -rf '%s'; git init -q -b main '%s' && cd '%s' && git config user.name 'A Tester' && "
       "git config user.email tester@example.org",
       name, name, name);
    return name;
}

/* Commit all that lies there.  The files become an hour older first: no stat is racy. */
__attribute__((unused)) static void commit_all(const char *in, const char *subject) {
    sh(in,
       "find . -name .git -prune -o -type f -print0 | xargs -0r touch -d '1 hour ago'; "
       "git add -A && git commit -q -m '%s'",
       subject);
}

/* Two folders with a folder each, one commit. */
__attribute__((unused)) static const char *make_wide(const char *name) {
    const char *in = make_repo(name);
    put_text(in, "top", "x\n");
    put_text(in, "a/f", "a\n");
    put_text(in, "a/deep/f", "a\n");
    put_text(in, "b/f", "b\n");
    put_text(in, "b/deep/f", "b\n");
    put_text(in, ".gitattributes", "*.txt text\n");
    put_text(in, "top.o", "x\n");
    commit_all(in, "one");
    put_text(in, ".gitignore", "*.o\n");
    return in;
}

/* ---- Lists against git ---------------------------------------------------------------- */

__attribute__((unused)) static cn_repo *open_repo(const char *in) {
    cn_repo           *repo;
    const cn_repo_opts opts = {.path = at(in, "")};
    assert_err(cn_repo_open(&repo, &opts, &t_diag), CN_OK);
    return repo;
}

__attribute__((unused)) static cn_repo_files *list_again(cn_repo             *repo,
                                                         const cn_repo_files *before) {
    cn_repo_files *files;
    assert_err(cn_repo_list(&files, repo, before, NULL, &t_diag), CN_OK);
    int64_t skipped = 0;
    for (int64_t i = 0; i < files->count; i++) {
        const cn_repo_file *f = &files->file[i];
        assert_true(i == 0 || strcmp(files->file[i - 1].path, f->path) < 0);
        assert_true(f->id[0] || f->skip);
        assert_true(f->id[0] == 0 || strlen(f->id) == 40);
        assert_ptr_equal(cn_repo_files_find(files, f->path), f);
        skipped += f->skip != 0;
    }
    assert_int_equal(files->skipped, skipped);
    assert_null(cn_repo_files_find(files, ""));
    assert_null(cn_repo_files_find(files, "\xFF no such file"));
    return files;
}

__attribute__((unused)) static cn_repo_files *list(cn_repo *repo) {
    return list_again(repo, NULL);
}

__attribute__((unused)) static const cn_repo_file *find(const cn_repo_files *files,
                                                        const char          *path) {
    const cn_repo_file *f = cn_repo_files_find(files, path);
    if (!f) t_fail(__FILE__, __LINE__, "%s is not in the list", path);
    return f;
}

__attribute__((unused)) static void assert_skip(const cn_repo_files *files, const char *path,
                                                cn_repo_skip skip) {
    const cn_repo_file *f = find(files, path);
    if (f->skip != skip)
        t_fail(__FILE__, __LINE__, "%s: skip \"%s\", want \"%s\"", path, cn_repo_skip_text(f->skip),
               cn_repo_skip_text(skip));
}

__attribute__((unused)) static void assert_content(cn_repo *repo, const cn_repo_files *files,
                                                   const char *path, const void *want,
                                                   size_t bytes) {
    const cn_repo_file *f = find(files, path);
    cn_buf              buf = {0};
    cn_buf_put_str(&buf, "abc");
    assert_err(cn_repo_read(repo, f, &buf, &t_diag), CN_OK);
    assert_int_equal(buf.bytes, bytes + 3);
    assert_int_equal(f->bytes, bytes);
    assert_memory_equal(buf.data, "abc", 3);
    assert_memory_equal(buf.data + 3, want, bytes);
    cn_buf_release(&buf);
}

__attribute__((unused)) static void assert_text(cn_repo *repo, const cn_repo_files *files,
                                                const char *path, const char *want) {
    assert_content(repo, files, path, want, strlen(want));
}

/* Read it whether or not it is readable; the error. */
__attribute__((unused)) static cn_err try_read(cn_repo *repo, const cn_repo_file *file) {
    cn_buf  buf = {0};
    cn_diag diag = {0};
    cn_buf_put_str(&buf, "abc");
    const cn_err err = cn_repo_read(repo, file, &buf, &diag);
    assert_int_equal(buf.err, CN_OK);
    if (err) {
        assert_int_equal(buf.bytes, 3);
        assert_string_equal(buf.data, "abc");
        assert_true(diag.err == err && diag.text[0]);
    }
    cn_buf_release(&buf);
    return err;
}

/* "100644 <id> 0\t<path>\0" for all that git would store if everything were added now; in
 * an index and an object folder of its own. */
__attribute__((unused)) static const char *added_by_git(const char *in) {
    return sh(in, "g=$(git rev-parse --absolute-git-dir); "
                  "o=$(cd $(git rev-parse --git-common-dir); pwd)/objects; "
                  "[ ! -f $g/index ] || cp -p $g/index $g/its-index; mkdir $g/its-objects; "
                  "export GIT_INDEX_FILE=$g/its-index GIT_OBJECT_DIRECTORY=$g/its-objects; "
                  "export GIT_ALTERNATE_OBJECT_DIRECTORIES=$o; "
                  "git -c advice.addEmbeddedRepo=false add -A --sparse && git ls-files -s -z; "
                  "rm -rf $g/its-index $g/its-objects");
}

/* The list holds exactly what git would have after `git add -A`, as far as it lies there,
 * with git's modes and ids, and the content of each id. */
__attribute__((unused)) static void assert_list_like_git(cn_repo *repo, const cn_repo_files *files,
                                                         const char *in) {
    const char *p = added_by_git(in), *const end = p + sh_bytes;
    int64_t i = 0;
    for (; p < end; p += strlen(p) + 1) {
        struct stat st;
        char        id[41];
        const long  mode = strtol(p, NULL, 8);
        snprintf(id, sizeof(id), "%.40s", p + 7);
        p = strchr(p, '\t') + 1;
        if (lstat(at(in, p), &st)) continue; // outside a sparse checkout
        if (i == files->count || strncmp(files->file[i].path, p, strlen(p)) != 0)
            t_fail(__FILE__, __LINE__, "git lists %s, we %s", p,
                   i < files->count ? files->file[i].path : "no more");
        const cn_repo_file *f = &files->file[i++];
        if (f->path[strlen(p)]) { // a folder that is another repository
            assert_string_equal(f->path + strlen(p), "/");
            assert_int_equal(mode, 0160000);
            continue;
        }
        assert_int_equal(f->mode, mode);
        if (f->skip && f->skip != CN_REPO_SKIP_BINARY) continue;
        if (strcmp(f->id, id) != 0) t_fail(__FILE__, __LINE__, "%s: id %s, git's %s", p, f->id, id);
        cn_buf buf = {0};
        assert_err(cn_repo_read(repo, f, &buf, &t_diag), CN_OK);
        git_oid got;
        assert_int_equal(git_odb_hash(&got, cn_buf_str(&buf), buf.bytes, GIT_OBJECT_BLOB), 0);
        assert_string_equal(git_oid_tostr_s(&got), id);
        assert_int_equal(f->bytes, buf.bytes);
        cn_buf_release(&buf);
    }
    if (i != files->count)
        t_fail(__FILE__, __LINE__, "we list %s, git does not", files->file[i].path);
}

__attribute__((unused)) static void assert_like_git(const char *in) {
    cn_repo       *repo = open_repo(in);
    cn_repo_files *files = list(repo), *again = list_again(repo, files);
    assert_list_like_git(repo, files, in);
    assert_list_like_git(repo, again, in);
    assert_int_equal(again->peeked, 0);
    cn_repo_files_free(files);
    cn_repo_files_free(again);
    cn_repo_close(repo);
}

__attribute__((unused)) static int open_files(void) {
    int n = 0;
    for (int fd = 0; fd < 256; fd++) n += fcntl(fd, F_GETFD) != -1;
    return n;
}

#endif

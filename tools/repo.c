/*
 * repo.c - Open a repository or a folder; read its files, from the object database or the
 * working tree, and never give bytes under a wrong id.
 */
#include "tools/repo.h"
#include "base/fault.h"
#include "base/file.h"
#include "tools/process.h"
#include "tools/repo_int.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

cn_err cn_repo_fail_git(cn_diag *diag, cn_err err, const char *file, int line, const char *fmt,
                        ...) {
    const git_error *last = git_error_last();
    char             text[CN_DIAG_TEXT_BYTES];
    va_list          args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (last && last->klass == GIT_ERROR_NOMEMORY) err = CN_ENOMEM;
    return cn_fail(diag, err, file, line, "%s: %s", text,
                   last && last->message ? last->message : "libgit2 says no more");
}

/* ---- Opening ---------------------------------------------------------------------- */

static int libgit2_state;

/* Once for the process and never undone: other threads may be in it. */
static void start_libgit2(void) {
    // What these change does not change how we read; repo_list.c reads config.worktree's
    // sparse checkout from the index, and absent objects of a partial clone are not fetched.
    static const char *extensions[] = {"worktreeconfig", "partialclone", "preciousobjects"};
    libgit2_state = git_libgit2_init();
    if (libgit2_state >= 0)
        libgit2_state = git_libgit2_opts(GIT_OPT_SET_EXTENSIONS, extensions,
                                         sizeof(extensions) / sizeof(extensions[0]));
}

/* git_repository_open failed for a repository that is there: say why. */
static cn_err fail_open(const char *path, const char *found, cn_diag *diag) {
    const git_error *last = git_error_last();
    struct stat      st;

    // Without any safe.directory libgit2 1.5 says that this is "not found".
    if (last && (strstr(last->message, "safe.directory") || strstr(last->message, "not owned")) &&
        stat(found, &st) == 0)
        return CN_FAIL(diag, CN_EINVAL,
                       "%s: the repository belongs to user %lld; `git config --global --add "
                       "safe.directory FOLDER` allows it",
                       path, (long long)st.st_uid);
    const bool is_unknown = last && strstr(last->message, "unsupported");
    return FAIL_GIT(diag, is_unknown ? CN_EUNSUPPORTED : CN_EINVAL, "%s", path);
}

/* Settings of this worktree alone; libgit2 does not know them. */
static cn_err add_worktree_config(cn_repo *repo, cn_diag *diag) {
    git_config *config = NULL;
    int         is_on = 0;
    cn_err      err = CN_OK;

    if (git_repository_config(&config, repo->git)) return FAIL_GIT(diag, CN_EINVAL, "config");
    if (git_config_get_bool(&is_on, config, "extensions.worktreeconfig") == 0 && is_on) {
        char file[CN_REPO_PATH_BYTES_MAX * 4];
        snprintf(file, sizeof(file), "%sconfig.worktree", git_repository_path(repo->git));
        if (access(file, F_OK) == 0 &&
            git_config_add_file_ondisk(config, file, GIT_CONFIG_LEVEL_APP, repo->git, 1))
            err = FAIL_GIT(diag, CN_EINVAL, "%s", file);
    }
    git_config_free(config);
    return err;
}

static cn_err open_git(cn_repo *repo, const char *path, const char *found, cn_diag *diag) {
    if (git_repository_open_ext(&repo->git, path, GIT_REPOSITORY_OPEN_CROSS_FS, NULL))
        return fail_open(path, found, diag);
    if (git_repository_is_bare(repo->git))
        return CN_FAIL(diag, CN_EINVAL, "%s: a bare repository has no working tree", path);
    repo->is_git = true;
    repo->root = strdup(git_repository_workdir(repo->git));
    if (!repo->root) return CN_FAIL(diag, CN_ENOMEM, "%s: no memory", path);
    return add_worktree_config(repo, diag);
}

static cn_err open_plain(cn_repo *repo, const char *path, cn_diag *diag) {
    struct stat st;

    repo->root = realpath(path, NULL);
    if (!repo->root || stat(repo->root, &st))
        return CN_FAIL(diag, CN_EIO, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return CN_FAIL(diag, CN_EINVAL, "%s: neither a folder nor in a repository", path);
    return CN_OK;
}

static cn_err check_opts(const cn_repo_opts *opts, cn_diag *diag) {
    if (!opts->path || !opts->path[0]) return CN_FAIL(diag, CN_EINVAL, "no path");
    if (opts->file_bytes_max < 0 || opts->file_bytes_max > CN_REPO_FILE_BYTES_MAX)
        return CN_FAIL(diag, CN_EINVAL, "file_bytes_max %lld, limit %d",
                       (long long)opts->file_bytes_max, (int)CN_REPO_FILE_BYTES_MAX);
    if (opts->files_max < 0 || opts->files_max > INT32_MAX)
        return CN_FAIL(diag, CN_EINVAL, "files_max %lld, limit %d", (long long)opts->files_max,
                       INT32_MAX);
    return CN_OK;
}

cn_err cn_repo_open(cn_repo **out, const cn_repo_opts *opts, cn_diag *diag) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    git_buf               found = {0};
    cn_repo              *repo = NULL;
    struct stat           st;
    cn_err                err;

    *out = NULL;
    CN_TRY(check_opts(opts, diag));
    pthread_once(&once, start_libgit2);
    if (libgit2_state < 0) return FAIL_GIT(diag, CN_EIO, "libgit2");
    if (stat(opts->path, &st))
        return CN_FAIL(diag, errno == ENOENT || errno == ENOTDIR ? CN_ENOTFOUND : CN_EIO, "%s: %s",
                       opts->path, strerror(errno));
    repo = CN_FAULT("tools.repo.alloc") ? NULL : calloc(1, sizeof(*repo));
    if (!repo) return CN_FAIL(diag, CN_ENOMEM, "%s: no memory", opts->path);
    repo->root_fd = repo->folder_fd = -1;
    repo->file_bytes_max = opts->file_bytes_max ? opts->file_bytes_max : CN_REPO_FILE_BYTES;
    repo->files_max = opts->files_max ? opts->files_max : CN_REPO_FILES;

    if (git_repository_discover(&found, opts->path, 1, NULL) == 0)
        err = open_git(repo, opts->path, found.ptr, diag);
    else
        err = open_plain(repo, opts->path, diag);
    if (err) goto out;
    for (size_t n = strlen(repo->root); n > 1 && repo->root[n - 1] == '/';) repo->root[--n] = 0;
    repo->root_fd = CN_FAULT("tools.repo.open_root")
                        ? (errno = EMFILE, -1)
                        : open(repo->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (repo->root_fd < 0) {
        err = CN_FAIL(diag, CN_EIO, "open %s: %s", repo->root, strerror(errno));
        goto out;
    }
    *out = repo;
    repo = NULL;
out:
    git_buf_dispose(&found);
    cn_repo_close(repo);
    return err;
}

void cn_repo_close(cn_repo *repo) {
    if (!repo) return;
    cn_repo_forget_folder(repo);
    if (repo->root_fd >= 0) close(repo->root_fd);
    git_repository_free(repo->git);
    cn_ignore_free(repo->kept_out);
    free(repo->root);
    free(repo);
}

const char *cn_repo_root(const cn_repo *repo) {
    return repo->root;
}

bool cn_repo_is_git(const cn_repo *repo) {
    return repo->is_git;
}

bool cn_repo_is_there(const cn_repo *repo) {
    struct stat now, opened;
    return stat(repo->root, &now) == 0 && fstat(repo->root_fd, &opened) == 0 &&
           now.st_dev == opened.st_dev && now.st_ino == opened.st_ino &&
           (!repo->is_git || access(git_repository_path(repo->git), F_OK) == 0);
}

cn_err cn_repo_get_head(cn_repo *repo, cn_repo_head *out, cn_diag *diag) {
    static const char prefix[] = "refs/heads/";
    git_reference    *head = NULL;
    git_oid           commit;
    cn_err            err = CN_OK;

    *out = (cn_repo_head){0};
    if (!repo->is_git) return CN_OK;
    out->is_shallow = git_repository_is_shallow(repo->git) == 1;
    out->is_worktree = git_repository_is_worktree(repo->git) == 1;
    if (git_reference_lookup(&head, repo->git, "HEAD"))
        return FAIL_GIT(diag, CN_ECORRUPT, "%s: HEAD", repo->root);
    if (git_reference_type(head) == GIT_REFERENCE_SYMBOLIC) {
        const char *branch = git_reference_symbolic_target(head);
        if (strncmp(branch, prefix, strlen(prefix)) == 0) branch += strlen(prefix);
        if (strlen(branch) >= sizeof(out->branch)) {
            err = CN_FAIL(diag, CN_ETOOBIG, "branch name of %zu bytes, limit %zu", strlen(branch),
                          sizeof(out->branch) - 1);
            goto out;
        }
        strcpy(out->branch, branch);
    } else
        out->is_detached = true;
    const int rc = git_reference_name_to_id(&commit, repo->git, "HEAD");
    if (rc == GIT_ENOTFOUND && !out->is_detached)
        out->is_unborn = true;
    else if (rc)
        err = FAIL_GIT(diag, CN_ECORRUPT, "%s: HEAD", repo->root);
    else
        git_oid_tostr(out->commit, sizeof(out->commit), &commit);
out:
    git_reference_free(head);
    if (err) *out = (cn_repo_head){0};
    return err;
}

/* ---- The working tree: below the root and through no symlink ----------------------- */

void cn_repo_forget_folder(cn_repo *repo) {
    if (repo->folder_fd >= 0) close(repo->folder_fd);
    repo->folder_fd = -1;
}

/* Whether the `bytes` bytes at `name` may be a component of a path: no way up, and none to
 * what is git's own. */
static bool is_component(const char *name, size_t bytes) {
    return bytes > 0 && !(bytes == 1 && name[0] == '.') &&
           !(bytes == 2 && name[0] == '.' && name[1] == '.') &&
           !(bytes == 4 && strncasecmp(name, ".git", 4) == 0);
}

int cn_repo_at(cn_repo *repo, const char *path, const char **name_out) {
    const char  *slash = strrchr(path, '/');
    const size_t bytes = slash ? (size_t)(slash - path) : 0;

    *name_out = slash ? slash + 1 : path;
    if (!is_component(*name_out, strlen(*name_out))) return errno = EINVAL, -1;
    if (!slash) return repo->root_fd;
    if (bytes >= sizeof(repo->folder)) return errno = ENAMETOOLONG, -1;
    if (repo->folder_fd >= 0 && repo->folder_bytes == bytes &&
        memcmp(repo->folder, path, bytes) == 0)
        return repo->folder_fd;

    cn_repo_forget_folder(repo);
    memcpy(repo->folder, path, bytes);
    repo->folder[bytes] = 0;
    repo->folder_bytes = bytes;
    int fd = repo->root_fd;
    for (char *part = repo->folder; part;) {
        char *end = strchr(part, '/');
        if (end) *end = 0;
        int next = -1;
        if (!is_component(part, strlen(part)))
            errno = EINVAL;
        else
            next = CN_FAULT("tools.repo.open_folder")
                       ? (errno = EMFILE, -1)
                       : openat(fd, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        const int cause = errno;
        if (fd != repo->root_fd) close(fd);
        fd = next;
        if (end) *end = '/';
        if (fd < 0) return errno = cause, -1;
        part = end ? end + 1 : NULL;
    }
    return repo->folder_fd = fd;
}

int cn_repo_open_file(cn_repo *repo, const char *path, struct stat *st) {
    const char *name;
    const int   at = cn_repo_at(repo, path, &name);
    if (at < 0) return -1;
    // Non-blocking: a pipe without a writer would hold us here.
    const int fd =
        CN_FAULT("tools.repo.open")
            ? (errno = EMFILE, -1)
            : openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) return -1;
    if (CN_FAULT("tools.repo.stat") ? (errno = EIO, -1) : fstat(fd, st)) {
        const int cause = errno;
        close(fd);
        return errno = cause, -1;
    }
    if (!S_ISREG(st->st_mode)) {
        close(fd);
        return errno = EINVAL, -1;
    }
    return fd;
}

cn_err cn_repo_read_fd(cn_buf *buf, int fd, const char *path, int64_t bytes_max, cn_diag *diag) {
    char   chunk[64 << 10];
    size_t bytes = 0;
    for (;;) {
        const ssize_t n =
            CN_FAULT("tools.repo.read") ? (errno = EIO, -1) : read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return CN_FAIL(diag, CN_EIO, "read %s: %s", path, strerror(errno));
        if (n == 0) return CN_OK;
        bytes += (size_t)n;
        if (bytes > (size_t)bytes_max)
            return CN_FAIL(diag, CN_ETOOBIG, "%s: more than %lld bytes", path,
                           (long long)bytes_max);
        cn_buf_put(buf, chunk, (size_t)n);
        if (buf->err) return CN_FAIL(diag, buf->err, "%s: no room for its bytes", path);
    }
}

cn_err cn_repo_read_file(cn_repo *repo, const char *path, cn_buf *buf, cn_diag *diag) {
    struct stat st;
    const int   fd = cn_repo_open_file(repo, path, &st);
    if (fd < 0) {
        const cn_err err = errno == ENOENT || errno == ENOTDIR ? CN_ENOTFOUND
                           : errno == ELOOP || errno == EINVAL || errno == EISDIR ||
                                   errno == ENXIO || errno == ENAMETOOLONG
                               ? CN_EINVAL
                               : CN_EIO;
        if (err == CN_ENOTFOUND) return CN_FAIL(diag, err, "no such file: %s", path);
        if (err == CN_EINVAL)
            return CN_FAIL(diag, err, "%s is not a regular file below the root", path);
        return CN_FAIL(diag, err, "open %s: %s", path, strerror(errno));
    }
    const cn_err err = cn_repo_read_fd(buf, fd, path, repo->file_bytes_max, diag);
    close(fd);
    return err;
}

cn_err cn_repo_read_rules(cn_repo *repo, const char *path, cn_buf *text, bool *is_there_out,
                          cn_diag *diag) {
    struct stat st;

    *is_there_out = false;
    const int fd = cn_repo_open_file(repo, path, &st);
    if (fd < 0) {
        // git, too, takes no rules from a symlink.
        if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == EINVAL) return CN_OK;
        return CN_FAIL(diag, CN_EIO, "open %s: %s", path, strerror(errno));
    }
    *is_there_out = true;
    const cn_err err = cn_repo_read_fd(text, fd, path, CN_REPO_IGNORE_BYTES_MAX, diag);
    close(fd);
    return err;
}

cn_err cn_repo_read_outside(const char *path, cn_buf *text, cn_diag *diag) {
    const cn_err err = cn_file_read(text, path, CN_REPO_IGNORE_BYTES_MAX, diag);
    return err == CN_ENOTFOUND || err == CN_EINVAL ? CN_OK : err; // EINVAL: /dev/null
}

cn_err cn_repo_read_info(cn_repo *repo, const char *name, cn_buf *text, cn_diag *diag) {
    git_buf folder = {0};
    char    path[4096];
    if (git_repository_item_path(&folder, repo->git, GIT_REPOSITORY_ITEM_INFO))
        return FAIL_GIT(diag, CN_EIO, "%s", repo->root);
    snprintf(path, sizeof(path), "%s%s", folder.ptr, name);
    git_buf_dispose(&folder);
    return cn_repo_read_outside(path, text, diag);
}

cn_err cn_repo_read_user(git_config *config, const char *key, const char *name, cn_buf *text,
                         cn_diag *diag) {
    const char *home = getenv("HOME"), *xdg = getenv("XDG_CONFIG_HOME");
    char        path[4096] = "";
    git_buf     said = {0};
    if (git_config_get_path(&said, config, key) == 0)
        snprintf(path, sizeof(path), "%s", said.ptr);
    else if (xdg && xdg[0])
        snprintf(path, sizeof(path), "%s/git/%s", xdg, name);
    else if (home)
        snprintf(path, sizeof(path), "%s/.config/git/%s", home, name);
    git_buf_dispose(&said);
    return path[0] ? cn_repo_read_outside(path, text, diag) : CN_OK;
}

cn_err cn_repo_read_ignore(cn_repo *repo, const char *path, cn_ignore **out, cn_diag *diag) {
    cn_buf text = {0};
    bool   is_there;

    *out = NULL;
    cn_err err = cn_repo_read_rules(repo, path, &text, &is_there, diag);
    if (!err && is_there) err = cn_ignore_parse(out, cn_buf_str(&text), text.bytes, diag);
    cn_buf_release(&text);
    return err;
}

bool cn_repo_is_kept_out(cn_repo *repo, const char *path) {
    cn_ignore *fresh;
    cn_repo_forget_folder(repo);
    if (!cn_repo_read_ignore(repo, ".cairnignore", &fresh, NULL)) {
        cn_ignore_free(repo->kept_out);
        repo->kept_out = fresh;
    }
    return cn_ignore_has(repo->kept_out, path, false) || cn_ignore_has(repo->kept_out, path, true);
}

/* ---- Content under its id ---------------------------------------------------------- */

cn_err cn_repo_clean(cn_repo *repo, const char *path, const cn_buf *raw, cn_buf *clean,
                     const cn_buf **content_out, cn_diag *diag) {
    git_filter_list *filters = NULL;
    git_buf          bytes = {0};
    cn_err           err = CN_OK;

    *content_out = raw;
    cn_buf_reset(clean);
    if (!repo->is_git) return CN_OK;
    if (git_filter_list_load(&filters, repo->git, NULL, path, GIT_FILTER_TO_ODB,
                             GIT_FILTER_ALLOW_UNSAFE))
        return FAIL_GIT(diag, CN_EIO, "%s: filters", path);
    if (!filters) return CN_OK;
    if (git_filter_list_apply_to_buffer(&bytes, filters, cn_buf_str(raw), raw->bytes))
        err = FAIL_GIT(diag, CN_EIO, "%s: filters", path);
    else {
        cn_buf_put(clean, bytes.ptr, bytes.size);
        if (clean->err) err = CN_FAIL(diag, clean->err, "%s: no memory for its bytes", path);
        *content_out = clean;
    }
    git_buf_dispose(&bytes);
    git_filter_list_free(filters);
    return err;
}

static bool has_id(const cn_buf *content, const git_oid *id) {
    git_oid got;
    return git_odb_hash(&got, cn_buf_str(content), content->bytes, GIT_OBJECT_BLOB) == 0 &&
           git_oid_equal(&got, id);
}

/* Put `bytes` bytes behind `buf`, or leave it as it was. */
static cn_err append(cn_buf *buf, const void *data, size_t bytes, const char *path, cn_diag *diag) {
    const cn_err before = buf->err;
    cn_buf_put(buf, data, bytes);
    const cn_err err = buf->err;
    buf->err = before;
    if (err) return CN_FAIL(diag, err, "%s: no room for its %zu bytes", path, bytes);
    return CN_OK;
}

/* Append the blob; CN_ENOTFOUND without a word if the database has none. */
static cn_err read_stored(cn_repo *repo, const char *path, const git_oid *id, cn_buf *buf,
                          cn_diag *diag) {
    git_odb        *odb = NULL;
    git_odb_object *object = NULL;
    size_t          bytes;
    git_object_t    type;
    cn_err          err = CN_OK;

    if (git_repository_odb(&odb, repo->git)) return FAIL_GIT(diag, CN_EIO, "%s", path);
    int rc = git_odb_read_header(&bytes, &type, odb, id);
    if (!rc && bytes > (size_t)repo->file_bytes_max)
        err = CN_FAIL(diag, CN_ETOOBIG, "%s: %zu bytes, limit %lld", path, bytes,
                      (long long)repo->file_bytes_max);
    else if (!rc)
        rc = git_odb_read(&object, odb, id);
    if (rc == GIT_ENOTFOUND)
        err = CN_ENOTFOUND;
    else if (rc)
        err = FAIL_GIT(diag, CN_EIO, "%s", path);
    else if (!err)
        err = append(buf, git_odb_object_data(object), git_odb_object_size(object), path, diag);
    git_odb_object_free(object);
    git_odb_free(odb);
    return err;
}

/* The working tree's file as git would store it: `content`, made with the help of `raw`. */
static cn_err read_working(cn_repo *repo, const char *path, cn_buf *content, cn_diag *diag) {
    const cn_buf *which;
    cn_buf        raw = {0};

    cn_err err = cn_repo_read_file(repo, path, &raw, diag);
    if (!err) err = cn_repo_clean(repo, path, &raw, content, &which, diag);
    if (!err && which == &raw) {
        cn_buf_release(content);
        *content = raw;
    } else
        cn_buf_release(&raw);
    return err;
}

cn_err cn_repo_read(cn_repo *repo, const cn_repo_file *file, cn_buf *buf, cn_diag *diag) {
    cn_buf  content = {0};
    git_oid id;
    cn_err  err = CN_ENOTFOUND;

    if (!file->id[0] || (file->mode & S_IFMT) != S_IFREG)
        return CN_FAIL(diag, CN_EINVAL, "%s: left out: %s", file->path,
                       cn_repo_skip_text(file->skip));
    cn_assert(git_oid_fromstr(&id, file->id) == 0);
    cn_repo_forget_folder(repo);
    if (repo->is_git && !file->is_changed) err = read_stored(repo, file->path, &id, &content, diag);
    if (err == CN_ENOTFOUND) { // a partial clone has the file and not its object
        err = read_working(repo, file->path, &content, diag);
        if (err == CN_ENOTFOUND || err == CN_EINVAL || (!err && !has_id(&content, &id)))
            err = CN_FAIL(diag, CN_ENOTFOUND, "%s: changed since it was listed", file->path);
    } else if (!err && !has_id(&content, &id))
        err = CN_FAIL(diag, CN_EIO, "%s: object %s is damaged", file->path, file->id);
    if (!err) err = append(buf, cn_buf_str(&content), content.bytes, file->path, diag);
    cn_buf_release(&content);
    return err;
}

cn_err cn_repo_read_raw(cn_repo *repo, const char *path, cn_buf *buf, cn_diag *diag) {
    cn_buf content = {0};
    cn_repo_forget_folder(repo);
    cn_err err = cn_repo_read_file(repo, path, &content, diag);
    if (!err) err = append(buf, cn_buf_str(&content), content.bytes, path, diag);
    cn_buf_release(&content);
    return err;
}

/* ---- The git command ---------------------------------------------------------------- */

cn_err cn_repo_run_git(cn_repo *repo, const char *const *argv, cn_buf *out,
                       const atomic_bool *cancel, cn_diag *diag) {
    static const char *const kept[] = {"PATH", "HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_NOSYSTEM"};
    enum { KEPT = sizeof(kept) / sizeof(kept[0]), FIXED = 4 };
    const char *env[KEPT + FIXED] = {"LC_ALL=C", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0"};
    cn_buf      text[KEPT] = {0};
    cn_process_end end;
    cn_err         err = CN_OK;
    int            n = FIXED - 1;

    for (int i = 0; i < KEPT; i++) {
        const char *value = getenv(kept[i]);
        if (!value) continue;
        cn_buf_printf(&text[i], "%s=%s", kept[i], value);
        if (text[i].err) err = CN_FAIL(diag, text[i].err, "environment of git");
        env[n++] = cn_buf_str(&text[i]);
    }
    if (!err)
        err = cn_process_run(&(cn_process_args){.argv = argv,
                                                .env = env,
                                                .folder = repo->root,
                                                .out_bytes_max = CN_REPO_GIT_BYTES_MAX,
                                                .ms_max = CN_REPO_GIT_MS_MAX,
                                                .cancel = cancel},
                             out, &end, diag);
    for (int i = 0; i < KEPT; i++) cn_buf_release(&text[i]);
    if (!err && end.status != 0)
        return CN_FAIL(diag, CN_ECORRUPT, "%s: git exits with %d: %s", repo->root, end.status,
                       end.error_text);
    return err;
}

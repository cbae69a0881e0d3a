/*
 * repo_list.c - What lies in the working tree, compared with git's index.
 *
 * Three passes: the index says what is tracked (a stat for each tells whether it is there
 * and unchanged), a walk finds what is not tracked, then each file in the order of paths
 * is looked at: path, kind, attributes, size, and, where nothing earlier knows it, id and
 * NUL bytes.
 *
 * A stat is trusted only if it cannot be "racy": a file written in the same tick as the
 * index, or as an earlier list, may have changed after it without a trace (git's
 * Documentation/technical/racy-git.txt).
 *
 * Why not git_diff_index_to_workdir: it reports what a sparse checkout leaves out as
 * deleted, and evaluates nested .gitignore files wrongly (ignore.h).
 */
#include "base/clock.h"
#include "base/fault.h"
#include "base/utf8.h"
#include "tools/repo.h"
#include "tools/repo_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <git2/sys/repository.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SETTLED_NS INT64_C(2000000000) // the coarsest clock of a file system (FAT)

/* What else is known of a file, beside its cn_repo_file. */
typedef struct seen {
    int64_t bytes, mtime_ns, ctime_ns; // its stat when it was read
    int64_t inode;
    bool    is_settled;    // the id is of these bytes, and a later change would show in the stat
    bool    is_known;      // id and is_binary are known
    bool    is_binary;     // has a NUL
    bool    is_from_index; // the index has an id for it
    bool    is_unchanged;  // and its stat says that it still holds
} seen;

typedef struct list {
    cn_repo_files pub;
    cn_repo_file *file;
    seen         *seen;
    char         *paths; // all of them, one block
} list;

/* One file while the list is made; `path` counts from the begin of `paths`. */
typedef struct entry {
    size_t       path;
    cn_repo_file file;
    seen         seen;
} entry;

typedef struct listing {
    cn_repo           *repo;
    const list        *before;
    const atomic_bool *cancel;
    cn_diag           *diag;
    int64_t            started_ns; // Unix time
    cn_buf             paths;      // NUL after each
    entry             *entry;      // the first `tracked` are those of the index
    int64_t            count, room, tracked;
    git_config        *config; // NULL in a plain folder
    cn_repo_attributes attributes;
    cn_ignore         *exclude[2]; // info/exclude, core.excludesFile
    int64_t            hashed, peeked;
} listing;

static const char *const skip_texts[] = {
#define X(name, text) text,
    CN_REPO_SKIP_LIST(X)
#undef X
};

const char *cn_repo_skip_text(cn_repo_skip skip) {
    return (unsigned)skip < CN_REPO_SKIP_COUNT ? skip_texts[skip] : "?";
}

static int64_t ns_of(struct timespec t) {
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static const char *path_of(const listing *l, const entry *e) {
    return l->paths.data + e->path;
}

static cn_err no_memory(listing *l) {
    return CN_FAIL(l->diag, CN_ENOMEM, "%s: no memory for a list of %lld files", l->repo->root,
                   (long long)l->count);
}

/* Append a file; *out is valid until the next is added. */
static cn_err add(listing *l, const char *path, size_t bytes, entry **out) {
    if (l->count >= l->repo->files_max)
        return CN_FAIL(l->diag, CN_ETOOBIG, "%s: more than %lld files; .cairnignore keeps some out",
                       l->repo->root, (long long)l->repo->files_max);
    if ((l->count & 255) == 0 && l->cancel && atomic_load(l->cancel))
        return CN_FAIL(l->diag, CN_ECANCELLED, "%s: listing cancelled", l->repo->root);
    if (l->count == l->room) {
        const int64_t room = l->room ? l->room * 2 : 256;
        entry        *grown =
            CN_FAULT("tools.list.alloc") ? NULL : realloc(l->entry, (size_t)room * sizeof(entry));
        if (!grown) return no_memory(l);
        l->entry = grown;
        l->room = room;
    }
    entry *e = &l->entry[l->count];
    *e = (entry){.path = l->paths.bytes};
    cn_buf_put(&l->paths, path, bytes);
    cn_buf_put(&l->paths, "", 1);
    if (l->paths.err) return no_memory(l);
    l->count++;
    *out = e;
    return CN_OK;
}

/* ---- Pass 1: the index ------------------------------------------------------------- */

static void set_stat(seen *s, const struct stat *st) {
    s->bytes = st->st_size;
    s->mtime_ns = ns_of(st->st_mtim);
    s->ctime_ns = ns_of(st->st_ctim);
    s->inode = (int64_t)st->st_ino;
}

/* Whether `st` is what the index saw; an index field that was not filled in says nothing. */
static bool is_same_stat(const git_index_entry *in, const struct stat *st, int64_t index_ns) {
    const int64_t mtime_ns = ns_of(st->st_mtim);
    if (in->mtime.seconds != (int32_t)st->st_mtim.tv_sec || in->file_size != (uint32_t)st->st_size)
        return false;
    if (in->mtime.nanoseconds && in->mtime.nanoseconds != (uint32_t)st->st_mtim.tv_nsec)
        return false;
    if (in->ctime.seconds && in->ctime.seconds != (int32_t)st->st_ctim.tv_sec) return false;
    if (in->ctime.nanoseconds && in->ctime.nanoseconds != (uint32_t)st->st_ctim.tv_nsec)
        return false;
    if (in->ino && in->ino != (uint32_t)st->st_ino) return false;
    // Racy: written in the tick of the index.  Without nanoseconds a tick is a second.
    return in->mtime.nanoseconds ? mtime_ns < index_ns
                                 : in->mtime.seconds < (int32_t)(index_ns / 1000000000);
}

/* A .gitattributes that does not lie there (outside a sparse checkout) holds as well. */
static cn_err note_attributes(listing *l, const git_index_entry *in) {
    const char *slash = strrchr(in->path, '/');
    if (strcmp(slash ? slash + 1 : in->path, ".gitattributes") != 0) return CN_OK;
    cn_buf_put(&l->attributes.stored, in->id.id, sizeof(in->id.id));
    cn_buf_put(&l->attributes.stored, in->path, strlen(in->path) + 1);
    return l->attributes.stored.err ? no_memory(l) : CN_OK;
}

/* Add a tracked file if it is there.  `in` may lack all but path, mode and id. */
static cn_err add_tracked(listing *l, const git_index_entry *in, int64_t index_ns, bool has_mode) {
    struct stat st;
    entry      *e;
    const char *name;

    if (l->count > 0 && strcmp(path_of(l, &l->entry[l->count - 1]), in->path) == 0)
        return CN_OK; // another stage of a conflict
    CN_TRY(note_attributes(l, in));
    if (cn_ignore_has(l->repo->kept_out, in->path, in->mode == GIT_FILEMODE_COMMIT)) return CN_OK;
    const int at = cn_repo_at(l->repo, in->path, &name);
    if (at < 0 || fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW)) {
        if (errno == ENOENT || errno == ENOTDIR) return CN_OK; // deleted
        if (errno == EINVAL) return CN_OK;                     // git would not check it out
        st = (struct stat){.st_mode = in->mode}; // nothing is known; opening it will tell
    }
    if (in->mode == GIT_FILEMODE_COMMIT) {
        if (!S_ISDIR(st.st_mode)) return CN_OK;
        CN_TRY(add(l, in->path, strlen(in->path), &e));
        e->file.mode = GIT_FILEMODE_COMMIT;
        return CN_OK;
    }
    if (S_ISLNK(st.st_mode)) {
        CN_TRY(add(l, in->path, strlen(in->path), &e));
        e->file.mode = GIT_FILEMODE_LINK;
        return CN_OK;
    }
    if (!S_ISREG(st.st_mode)) return CN_OK; // a folder or a pipe has taken its place

    CN_TRY(add(l, in->path, strlen(in->path), &e));
    e->file.mode = (has_mode ? st.st_mode & S_IXUSR : in->mode & S_IXUSR)
                       ? GIT_FILEMODE_BLOB_EXECUTABLE
                       : GIT_FILEMODE_BLOB;
    set_stat(&e->seen, &st);
    if ((in->mode & S_IFMT) == S_IFREG) {
        git_oid_tostr(e->file.id, sizeof(e->file.id), &in->id);
        e->seen.is_from_index = true;
        e->seen.is_unchanged = is_same_stat(in, &st, index_ns);
    }
    return CN_OK;
}

/* "100644 <40 hex> <stage>\t<path>\0" ...: what the git command says of the index. */
static cn_err add_from_text(listing *l, const cn_buf *text, bool has_mode) {
    for (const char *p = cn_buf_str(text), *end = p + text->bytes; p < end;) {
        git_index_entry in = {0};
        char           *after;
        const char     *path = memchr(p, '\t', (size_t)(end - p));
        in.mode = (uint32_t)strtoul(p, &after, 8);
        if (!path || path - after != 43 || git_oid_fromstrn(&in.id, after + 1, GIT_OID_HEXSZ))
            return CN_FAIL(l->diag, CN_ECORRUPT, "%s: git ls-files prints \"%.60s\"", l->repo->root,
                           p);
        in.path = path + 1;
        CN_TRY(add_tracked(l, &in, 0, has_mode));
        p = in.path + strlen(in.path) + 1;
    }
    return CN_OK;
}

/* Where libgit2 cannot read the index: no stat there, so that all files are hashed. */
static cn_err add_by_command(listing *l, bool has_mode) {
    static const char *const argv[] = {"git", "-c", "core.fsmonitor=false", "ls-files", "--stage",
                                       "-z",  NULL};
    char                     why[CN_DIAG_TEXT_BYTES];
    cn_buf                   text = {0};

    snprintf(why, sizeof(why), "%s", git_error_last()->message);
    cn_err err = cn_repo_run_git(l->repo, argv, &text, l->cancel, l->diag);
    if (err == CN_ENOTFOUND)
        err = CN_FAIL(l->diag, CN_EUNSUPPORTED,
                      "%s: the index needs the git command, not found: %s", l->repo->root, why);
    if (!err) err = add_from_text(l, &text, has_mode);
    cn_buf_release(&text);
    return err;
}

static cn_err add_index(listing *l) {
    git_repository *git = l->repo->git;
    git_index      *index = NULL;
    struct stat     st = {0};
    char            path[4096];
    int             has_mode = 1;
    cn_err          err;

    git_config_get_bool(&has_mode, l->config, "core.filemode");
    snprintf(path, sizeof(path), "%sindex", git_repository_path(git));
    // Before it is read: should it be replaced meanwhile, its files look racy and are hashed.
    if (stat(path, &st) && errno != ENOENT)
        return CN_FAIL(l->diag, CN_EIO, "%s: %s", path, strerror(errno));
    if (git_index_open(&index, path)) {
        if (!strstr(git_error_last()->message, "unsupported"))
            return FAIL_GIT(l->diag, CN_ECORRUPT, "%s", path);
        err = add_by_command(l, has_mode);
        // Filters look for an index: let them find an empty one.
        if (!err && git_index_new(&index)) err = no_memory(l);
    } else {
        err = CN_OK;
        for (size_t i = 0; !err && i < git_index_entrycount(index); i++)
            err = add_tracked(l, git_index_get_byindex(index, i), ns_of(st.st_mtim), has_mode);
    }
    if (!err && git_repository_set_index(git, index)) err = FAIL_GIT(l->diag, CN_EIO, "%s", path);
    git_index_free(index);
    l->tracked = l->count;
    return err;
}

/* ---- Pass 2: what is not tracked ---------------------------------------------------- */

/* Patterns that hold from a folder on down. */
typedef struct scope {
    cn_ignore    *ignore;
    size_t        folder_bytes; // of its path with the '/'; patterns match what is behind
    struct scope *up;
    struct scope *next; // all of them, to free
} scope;

typedef struct folder {
    size_t path; // in `paths`; ends in '/', or is empty for the root
    scope *scope;
} folder;

typedef struct walk {
    listing *l;
    cn_buf   path; // of the file that is looked at
    cn_buf   paths;
    folder  *folder; // a queue
    int64_t  count, room;
    scope   *scopes;
} walk;

/* The first tracked path that is not before `path`, of `bytes` bytes. */
static const char *tracked_from(const listing *l, const char *path, size_t bytes) {
    int64_t low = 0, high = l->tracked;
    while (low < high) {
        const int64_t mid = low + (high - low) / 2;
        if (strncmp(path_of(l, &l->entry[mid]), path, bytes) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low < l->tracked ? path_of(l, &l->entry[low]) : NULL;
}

static bool is_tracked(const listing *l, const char *path) {
    const char *at = tracked_from(l, path, strlen(path) + 1);
    return at && strcmp(at, path) == 0;
}

static bool is_ignored(const walk *w, const scope *s, const char *path, bool is_folder) {
    cn_ignore_answer answer = CN_IGNORE_SILENT;
    for (; s && answer == CN_IGNORE_SILENT; s = s->up)
        answer = cn_ignore_match(s->ignore, path + s->folder_bytes, is_folder);
    for (int i = 0; i < 2 && answer == CN_IGNORE_SILENT; i++)
        answer = cn_ignore_match(w->l->exclude[i], path, is_folder);
    return answer == CN_IGNORE_OUT;
}

static cn_err push_folder(walk *w, const char *path, size_t bytes, scope *s) {
    if (w->count >= w->l->repo->files_max)
        return CN_FAIL(w->l->diag, CN_ETOOBIG, "%s: more than %lld folders", w->l->repo->root,
                       (long long)w->l->repo->files_max);
    if (w->count == w->room) {
        const int64_t room = w->room ? w->room * 2 : 64;
        folder       *grown =
            CN_FAULT("tools.list.alloc") ? NULL : realloc(w->folder, (size_t)room * sizeof(folder));
        if (!grown) return no_memory(w->l);
        w->folder = grown;
        w->room = room;
    }
    w->folder[w->count++] = (folder){w->paths.bytes, s};
    cn_buf_put(&w->paths, path, bytes);
    cn_buf_put(&w->paths, "", 1);
    return w->paths.err ? no_memory(w->l) : CN_OK;
}

/* Whether the folder `name` in `fd` is a repository. */
static bool is_repository(int fd, const char *name) {
    char        path[NAME_MAX + 16];
    struct stat st;
    snprintf(path, sizeof(path), "%s/.git", name);
    if (fstatat(fd, path, &st, AT_SYMLINK_NOFOLLOW)) return false;
    if (S_ISREG(st.st_mode)) return true;
    snprintf(path, sizeof(path), "%s/.git/HEAD", name);
    return S_ISDIR(st.st_mode) && fstatat(fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Add a folder that is left out whole, as "path/". */
static cn_err add_left_out(listing *l, const char *path, size_t bytes, cn_repo_skip skip) {
    entry *e;
    CN_TRY(add(l, path, bytes, &e));
    e->file.mode = GIT_FILEMODE_TREE;
    e->file.skip = skip;
    return CN_OK;
}

/* A folder that is not ignored: later, or left out.  w->path is its path, without '/'. */
static cn_err visit_folder(walk *w, int fd, const char *name, scope *s) {
    listing *l = w->l;
    if (is_tracked(l, w->path.data)) return CN_OK; // a submodule
    cn_buf_put(&w->path, "/", 1);
    if (w->path.err) return no_memory(l);
    const char  *path = w->path.data;
    const size_t bytes = w->path.bytes;
    if (bytes > CN_REPO_PATH_BYTES_MAX) return add_left_out(l, path, bytes, CN_REPO_SKIP_LONG_PATH);
    if (l->repo->is_git && is_repository(fd, name)) {
        const char *below = tracked_from(l, path, bytes);
        if (!below || strncmp(below, path, bytes) != 0)
            return add_left_out(l, path, bytes, CN_REPO_SKIP_SUBMODULE);
    }
    return push_folder(w, path, bytes, s);
}

static cn_err visit_file(walk *w, int fd, const char *name) {
    listing    *l = w->l;
    struct stat st;
    entry      *e;
    if (is_tracked(l, w->path.data)) return CN_OK;
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW)) {
        if (errno == ENOENT) return CN_OK; // gone since
        st = (struct stat){.st_mode = S_IFREG};
    }
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)) return CN_OK;
    CN_TRY(add(l, w->path.data, w->path.bytes, &e));
    e->file.mode = S_ISLNK(st.st_mode)    ? GIT_FILEMODE_LINK
                   : st.st_mode & S_IXUSR ? GIT_FILEMODE_BLOB_EXECUTABLE
                                          : GIT_FILEMODE_BLOB;
    set_stat(&e->seen, &st);
    return CN_OK;
}

/* A name in the folder whose path stands in the first `bytes` bytes of w->path. */
static cn_err visit(walk *w, int fd, const struct dirent *d, size_t bytes, scope *s) {
    listing    *l = w->l;
    struct stat st;
    int         type = d->d_type;

    if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 ||
        strcmp(d->d_name, ".git") == 0)
        return CN_OK;
    if (l->cancel && atomic_load(l->cancel))
        return CN_FAIL(l->diag, CN_ECANCELLED, "%s: listing cancelled", l->repo->root);
    if (type == DT_UNKNOWN) {
        if (fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW)) return CN_OK; // gone since
        type = IFTODT(st.st_mode);
    }
    if (type != DT_DIR && type != DT_REG && type != DT_LNK) return CN_OK;
    w->path.bytes = bytes;
    cn_buf_put_str(&w->path, d->d_name);
    if (w->path.err) return no_memory(l);
    const bool is_folder = type == DT_DIR;
    if (is_ignored(w, s, w->path.data, is_folder)) return CN_OK;
    if (cn_ignore_has(l->repo->kept_out, w->path.data, is_folder)) return CN_OK;
    return is_folder ? visit_folder(w, fd, d->d_name, s) : visit_file(w, fd, d->d_name);
}

/* Patterns of this folder's own .gitignore go before those from above. */
static cn_err open_scope(walk *w, const char *path, size_t bytes, scope **s) {
    char       file[CN_REPO_PATH_BYTES_MAX + sizeof(".gitignore")];
    cn_ignore *ignore;
    snprintf(file, sizeof(file), "%s.gitignore", path);
    CN_TRY(cn_repo_read_ignore(w->l->repo, file, &ignore, w->l->diag));
    if (!ignore) return CN_OK;
    scope *own = CN_FAULT("tools.list.alloc") ? NULL : malloc(sizeof(*own));
    if (!own) {
        cn_ignore_free(ignore);
        return no_memory(w->l);
    }
    *own = (scope){ignore, bytes, *s, w->scopes};
    *s = w->scopes = own;
    return CN_OK;
}

static cn_err walk_folder(walk *w, folder f) {
    cn_repo     *repo = w->l->repo;
    const char  *name, *path = w->paths.data + f.path;
    const size_t bytes = strlen(path);
    cn_err       err = CN_OK;
    int          fd = -1;

    // The path of any file in it leads to the folder's descriptor.
    w->path.bytes = 0;
    cn_buf_put(&w->path, path, bytes);
    cn_buf_put(&w->path, "x", 1);
    if (w->path.err) return no_memory(w->l);
    const int at = cn_repo_at(repo, w->path.data, &name);
    if (at >= 0)
        fd = CN_FAULT("tools.list.open")
                 ? (errno = EMFILE, -1)
                 : openat(at, ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        const int cause = errno;
        if (fd >= 0) close(fd);
        if (cause == ENOENT || cause == ENOTDIR || cause == EINVAL) return CN_OK; // gone, or .GIT
        if (cause == EACCES && bytes > 0)
            return add_left_out(w->l, path, bytes, CN_REPO_SKIP_UNREADABLE);
        return CN_FAIL(w->l->diag, CN_EIO, "open %s/%s: %s", repo->root, path, strerror(cause));
    }
    err = open_scope(w, path, bytes, &f.scope);
    while (!err) {
        errno = 0;
        const struct dirent *d =
            CN_FAULT("tools.list.readdir") ? (errno = EIO, NULL) : readdir(dir);
        if (!d && errno)
            err = CN_FAIL(w->l->diag, CN_EIO, "read %s/%s: %s", repo->root, w->paths.data + f.path,
                          strerror(errno));
        if (!d) break;
        err = visit(w, fd, d, bytes, f.scope);
    }
    closedir(dir);
    return err;
}

/* $GIT_DIR/info/exclude and core.excludesFile. */
static cn_err read_excludes(listing *l) {
    cn_err err = CN_OK;
    for (int i = 0; !err && i < 2; i++) {
        cn_buf text = {0};
        err = i == 0 ? cn_repo_read_info(l->repo, "exclude", &text, l->diag)
                     : cn_repo_read_user(l->config, "core.excludesfile", "ignore", &text, l->diag);
        if (!err) err = cn_ignore_parse(&l->exclude[i], cn_buf_str(&text), text.bytes, l->diag);
        cn_buf_release(&text);
    }
    return err;
}

static cn_err add_untracked(listing *l) {
    walk   w = {.l = l};
    cn_err err = push_folder(&w, "", 0, NULL);
    for (int64_t i = 0; !err && i < w.count; i++) err = walk_folder(&w, w.folder[i]);
    for (scope *s = w.scopes, *next; s; s = next) {
        next = s->next;
        cn_ignore_free(s->ignore);
        free(s);
    }
    free(w.folder);
    cn_buf_release(&w.path);
    cn_buf_release(&w.paths);
    return err;
}

/* ---- Pass 3: each file -------------------------------------------------------------- */

/* What the earlier list knew of the same bytes. */
static const seen *find_before(const listing *l, const entry *e, bool is_filtered,
                               const cn_repo_file **file_out) {
    const cn_repo_file *f = l->before ? cn_repo_files_find(&l->before->pub, path_of(l, e)) : NULL;
    if (!f) return NULL;
    const seen *s = &l->before->seen[f - l->before->file], *now = &e->seen;
    if (!s->is_known) return NULL;
    *file_out = f;
    if (now->is_unchanged) return strcmp(f->id, e->file.id) == 0 ? s : NULL;
    // By its stat: as long as what git stores depends on nothing but the file.
    return !is_filtered && s->is_settled && s->bytes == now->bytes &&
                   s->mtime_ns == now->mtime_ns && s->ctime_ns == now->ctime_ns &&
                   s->inode == now->inode
               ? s
               : NULL;
}

static bool has_nul(const char *data, size_t bytes) {
    const size_t head = bytes < CN_REPO_BINARY_BYTES ? bytes : CN_REPO_BINARY_BYTES;
    return head > 0 && memchr(data, 0, head) != NULL;
}

/* Leave a file out.  The id that the index gave holds only if it is unchanged. */
static void leave_out(entry *e, cn_repo_skip skip) {
    e->file.skip = skip;
    if (!e->seen.is_unchanged) e->file.id[0] = 0;
}

/* Look at the object of an unchanged file; false if it is not there (a partial clone). */
static bool peek_object(listing *l, entry *e) {
    git_odb        *odb = NULL;
    git_odb_object *object = NULL;
    git_oid         id;
    if (git_repository_odb(&odb, l->repo->git)) return false;
    const bool is_there =
        git_oid_fromstr(&id, e->file.id) == 0 && git_odb_read(&object, odb, &id) == 0;
    if (is_there) {
        e->file.bytes = (int64_t)git_odb_object_size(object);
        e->seen.is_binary = has_nul(git_odb_object_data(object), (size_t)e->file.bytes);
    }
    git_odb_object_free(object);
    git_odb_free(odb);
    return is_there;
}

/* The size that an unchanged file has as an object, if the database has it. */
static void set_stored_bytes(listing *l, entry *e) {
    git_odb     *odb = NULL;
    git_object_t type;
    git_oid      id;
    size_t       bytes;
    if (git_repository_odb(&odb, l->repo->git)) return;
    if (git_oid_fromstr(&id, e->file.id) == 0 && git_odb_read_header(&bytes, &type, odb, &id) == 0)
        e->file.bytes = (int64_t)bytes;
    git_odb_free(odb);
}

/* Is an unchanged file binary?  Its id stands in the index. */
static void look_at_unchanged(listing *l, entry *e, cn_repo_filters filters) {
    struct stat st;
    char        head[CN_REPO_BINARY_BYTES];
    l->peeked++;
    if (filters.is_external && peek_object(l, e)) return;
    const int fd = cn_repo_open_file(l->repo, path_of(l, e), &st);
    ssize_t   n = -1;
    if (fd >= 0) {
        n = CN_FAULT("tools.list.peek") ? -1 : pread(fd, head, sizeof(head), 0);
        close(fd);
    }
    if (n < 0) {
        if (!peek_object(l, e)) e->file.skip = CN_REPO_SKIP_UNREADABLE;
        return;
    }
    e->seen.is_binary = has_nul(head, (size_t)n);
    if (filters.is_filtered) set_stored_bytes(l, e);
}

/* Read and hash a file that no one knows. */
static cn_err look_at_changed(listing *l, entry *e, cn_repo_filters filters) {
    cn_buf        raw = {0}, clean = {0};
    const cn_buf *content = &raw;
    struct stat   st;
    git_oid       id;
    cn_err        err = CN_OK;
    const char   *path = path_of(l, e);
    const int     fd = cn_repo_open_file(l->repo, path, &st);

    if (fd < 0) {
        leave_out(e, CN_REPO_SKIP_UNREADABLE);
        return CN_OK;
    }
    l->hashed++;
    set_stat(&e->seen, &st);
    err = cn_repo_read_fd(&raw, fd, path, l->repo->file_bytes_max, l->diag);
    close(fd);
    if (!err && filters.is_filtered)
        err = cn_repo_clean(l->repo, path, &raw, &clean, &content, l->diag);
    if (!err && git_odb_hash(&id, cn_buf_str(content), content->bytes, GIT_OBJECT_BLOB))
        err = FAIL_GIT(l->diag, CN_EIO, "%s", path);
    if (!err) {
        char hex[CN_REPO_ID_BYTES];
        git_oid_tostr(hex, sizeof(hex), &id);
        e->file.is_changed = !e->seen.is_from_index || strcmp(hex, e->file.id) != 0;
        memcpy(e->file.id, hex, sizeof(hex));
        e->file.bytes = (int64_t)content->bytes;
        e->seen.is_binary = has_nul(cn_buf_str(content), content->bytes);
        e->seen.is_settled = !filters.is_filtered && e->seen.ctime_ns + SETTLED_NS < l->started_ns;
    }
    cn_buf_release(&raw);
    cn_buf_release(&clean);
    if (err == CN_ENOMEM) return err;
    if (err) leave_out(e, err == CN_ETOOBIG ? CN_REPO_SKIP_TOO_BIG : CN_REPO_SKIP_UNREADABLE);
    return CN_OK;
}

static cn_repo_skip check_path(const char *path) {
    const size_t bytes = strlen(path);
    for (size_t i = 0, n; i < bytes; i += n) {
        n = cn_utf8_bytes(path + i, bytes - i);
        if (n == 0 || (uint8_t)path[i] < ' ' || path[i] == 0x7F) return CN_REPO_SKIP_BAD_PATH;
    }
    return bytes > CN_REPO_PATH_BYTES_MAX ? CN_REPO_SKIP_LONG_PATH : CN_REPO_SKIP_NONE;
}

static cn_err look_at(listing *l, entry *e) {
    cn_repo_filters     filters;
    cn_repo_skip        skip = check_path(path_of(l, e));
    const cn_repo_file *was = NULL;

    e->file.bytes = e->seen.bytes;
    if (skip || e->file.skip) {
        leave_out(e, skip ? skip : e->file.skip);
        return CN_OK;
    }
    if (e->file.mode == GIT_FILEMODE_LINK || e->file.mode == GIT_FILEMODE_COMMIT) {
        leave_out(e, e->file.mode == GIT_FILEMODE_LINK ? CN_REPO_SKIP_SYMLINK
                                                       : CN_REPO_SKIP_SUBMODULE);
        return CN_OK;
    }
    CN_TRY(cn_repo_attributes_of(&l->attributes, path_of(l, e), &filters, &skip, l->diag));
    if (!skip && e->seen.bytes > l->repo->file_bytes_max) skip = CN_REPO_SKIP_TOO_BIG;
    if (!skip && filters.is_external && !e->seen.is_unchanged) skip = CN_REPO_SKIP_FILTER;
    if (skip) {
        leave_out(e, skip);
        return CN_OK;
    }
    const seen *known = find_before(l, e, filters.is_filtered, &was);
    if (known) {
        e->file.is_changed = !e->seen.is_from_index || strcmp(was->id, e->file.id) != 0;
        memcpy(e->file.id, was->id, sizeof(was->id));
        e->file.bytes = was->bytes;
        e->seen.is_binary = known->is_binary;
        e->seen.is_settled = known->is_settled;
    } else if (e->seen.is_unchanged)
        look_at_unchanged(l, e, filters);
    else
        CN_TRY(look_at_changed(l, e, filters));
    if (e->file.skip) return CN_OK;
    e->seen.is_known = true;
    if (e->seen.is_binary) e->file.skip = CN_REPO_SKIP_BINARY;
    return CN_OK;
}

static int by_path(const void *a, const void *b, void *paths) {
    return strcmp((char *)paths + ((const entry *)a)->path,
                  (char *)paths + ((const entry *)b)->path);
}

/* Move all into a list. */
static cn_err finish(listing *l, cn_repo_files **out) {
    list  *files = CN_FAULT("tools.list.alloc") ? NULL : calloc(1, sizeof(*files));
    size_t n = l->count > 0 ? (size_t)l->count : 1;
    if (!files) return no_memory(l);
    files->file = malloc(n * sizeof(*files->file));
    files->seen = malloc(n * sizeof(*files->seen));
    if (!files->file || !files->seen) {
        cn_repo_files_free(&files->pub);
        return no_memory(l);
    }
    files->paths = cn_buf_take(&l->paths);
    for (int64_t i = 0; i < l->count; i++) {
        files->file[i] = l->entry[i].file;
        files->file[i].path = files->paths + l->entry[i].path;
        files->seen[i] = l->entry[i].seen;
        files->pub.skipped += files->file[i].skip != CN_REPO_SKIP_NONE;
    }
    files->pub.file = files->file;
    files->pub.count = l->count;
    files->pub.hashed = l->hashed;
    files->pub.peeked = l->peeked;
    *out = &files->pub;
    return CN_OK;
}

cn_err cn_repo_list(cn_repo_files **out, cn_repo *repo, const cn_repo_files *before,
                    const atomic_bool *cancel, cn_diag *diag) {
    listing l = {.repo = repo,
                 .before = (const list *)before, // its first member
                 .cancel = cancel,
                 .diag = diag,
                 .started_ns = cn_clock_unix_ns()};
    cn_err  err = CN_OK;

    *out = NULL;
    cn_repo_forget_folder(repo);
    cn_ignore_free(repo->kept_out);
    err = cn_repo_read_ignore(repo, ".cairnignore", &repo->kept_out, diag);
    if (!err && repo->is_git && git_repository_config_snapshot(&l.config, repo->git))
        err = FAIL_GIT(diag, CN_ECORRUPT, "%s: configuration", repo->root);
    if (!err && repo->is_git) err = read_excludes(&l);
    if (!err && repo->is_git) err = add_index(&l);
    if (!err) err = add_untracked(&l);
    if (!err && l.count > 0)
        qsort_r(l.entry, (size_t)l.count, sizeof(entry), by_path, l.paths.data);
    if (!err) err = cn_repo_attributes_open(&l.attributes, repo, l.config, diag);
    for (int64_t i = 0; !err && i < l.count; i++) {
        if (cancel && atomic_load(cancel))
            err = CN_FAIL(diag, CN_ECANCELLED, "%s: listing cancelled", repo->root);
        else
            err = look_at(&l, &l.entry[i]);
    }
    if (!err) err = finish(&l, out);
    cn_repo_attributes_close(&l.attributes);
    git_config_free(l.config);
    for (int i = 0; i < 2; i++) cn_ignore_free(l.exclude[i]);
    free(l.entry);
    cn_buf_release(&l.paths);
    cn_repo_forget_folder(repo);
    return err;
}

void cn_repo_files_free(cn_repo_files *files) {
    list *l = (list *)files;
    if (!l) return;
    free(l->file);
    free(l->seen);
    free(l->paths);
    free(l);
}

const cn_repo_file *cn_repo_files_find(const cn_repo_files *files, const char *path) {
    int64_t low = 0, high = files->count;
    while (low < high) {
        const int64_t mid = low + (high - low) / 2;
        const int     order = strcmp(files->file[mid].path, path);
        if (order == 0) return &files->file[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

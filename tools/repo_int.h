/* repo_int.h - What repo.c, repo_list.c and repo_log.c share. */
#ifndef CN_TOOLS_REPO_INT_H
#define CN_TOOLS_REPO_INT_H

#include "tools/attributes.h"
#include "tools/ignore.h"
#include "tools/repo.h"

#include <git2.h>

struct stat;

struct cn_repo {
    char           *root; // without '/' at its end, unless it is "/"
    int             root_fd;
    bool            is_git;
    git_repository *git; // NULL in a plain folder
    int64_t         file_bytes_max, files_max;
    cn_ignore      *kept_out; // .cairnignore, as last read
    /* The folder that was opened last: lists come folder by folder. */
    int    folder_fd; // -1: none
    size_t folder_bytes;
    char   folder[CN_REPO_PATH_BYTES_MAX + 1];
};

/* The error of the last libgit2 call, `rc`: no memory, or else `err`; the text is ours, a
 * colon, and libgit2's. */
cn_err cn_repo_fail_git(cn_diag *diag, cn_err err, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
#define FAIL_GIT(diag, err, ...) cn_repo_fail_git((diag), (err), __FILE__, __LINE__, __VA_ARGS__)

/* The descriptor of the folder that `path` is in, -1 with errno; *name_out is the last
 * component.  It stays the repo's, and open until the next call.  EINVAL: a component is
 * empty, ".", ".." or ".git".  A symlink is none: ENOTDIR. */
int cn_repo_at(cn_repo *repo, const char *path, const char **name_out);
/* Close it: it may have been renamed since.  Each public function begins with this. */
void cn_repo_forget_folder(cn_repo *repo);
/* Open a regular file of the working tree; -1 with errno (ELOOP: a symlink, EINVAL: not
 * regular). */
int cn_repo_open_file(cn_repo *repo, const char *path, struct stat *st);
/* Append the rest of `fd`; CN_ETOOBIG over bytes_max.  `path` is for the message. */
cn_err cn_repo_read_fd(cn_buf *buf, int fd, const char *path, int64_t bytes_max, cn_diag *diag);
/* The same for a path.  CN_EINVAL, CN_ENOTFOUND, CN_ETOOBIG, CN_EIO, CN_ENOMEM. */
cn_err cn_repo_read_file(cn_repo *repo, const char *path, cn_buf *buf, cn_diag *diag);

/* What git would store for a file's bytes: the filtered bytes stand in `clean`, or, if no
 * filter applies, `clean` stays empty and `raw` is it.  Returns the one of the two. */
cn_err cn_repo_clean(cn_repo *repo, const char *path, const cn_buf *raw, cn_buf *clean,
                     const cn_buf **content_out, cn_diag *diag);

/* Append a file of rules (.gitignore ...) of the working tree, up to the limit of repo.h;
 * *is_there_out is false without one. */
cn_err cn_repo_read_rules(cn_repo *repo, const char *path, cn_buf *text, bool *is_there_out,
                          cn_diag *diag);
cn_err cn_repo_read_ignore(cn_repo *repo, const char *path, cn_ignore **out, cn_diag *diag);

/* The same for files outside: any; $GIT_DIR/info/<name>; the user's, which `key` of the
 * configuration names, or git/<name> in the folder for settings.  No file: no text. */
cn_err cn_repo_read_outside(const char *path, cn_buf *text, cn_diag *diag);
cn_err cn_repo_read_info(cn_repo *repo, const char *name, cn_buf *text, cn_diag *diag);
cn_err cn_repo_read_user(git_config *config, const char *key, const char *name, cn_buf *text,
                         cn_diag *diag);

/* ---- repo_attributes.c ---------------------------------------------------------------- */

enum { CN_REPO_FOLDERS_MAX = CN_REPO_PATH_BYTES_MAX / 2 + 1 }; // in one path, the root too

/* The rules of a folder and those above it, while paths are asked for in order. */
typedef struct cn_repo_attributes {
    cn_repo            *repo;
    cn_attributes      *names;
    cn_attribute_rules *info, *global, *system; // of the repository, the user, the machine
    struct {
        size_t              bytes; // of the folder's path, with the '/' at its end
        cn_attribute_rules *rules;
    } folder[CN_REPO_FOLDERS_MAX];
    int         folders;
    char        path[CN_REPO_PATH_BYTES_MAX + 1]; // of the last folder
    git_config *config;                           // borrowed; NULL in a plain folder
    bool        has_autocrlf;
    cn_buf      stored; // of each .gitattributes that only the index has: 20 bytes of id, path, NUL
} cn_repo_attributes;

/* How git's filters look at a path. */
typedef struct cn_repo_filters {
    bool is_filtered; // git may store other bytes than the file's
    bool is_external; // and only a command, or iconv, knows which
} cn_repo_filters;

/* Read what holds everywhere.  `config` (NULL in a plain folder) is borrowed until close. */
cn_err cn_repo_attributes_open(cn_repo_attributes *a, cn_repo *repo, git_config *config,
                               cn_diag *diag);
void   cn_repo_attributes_close(cn_repo_attributes *a); // a zeroed one is fine
/* What holds for `path`; skip_out: GENERATED, VENDORED, BINARY or NONE. */
cn_err cn_repo_attributes_of(cn_repo_attributes *a, const char *path, cn_repo_filters *filters_out,
                             cn_repo_skip *skip_out, cn_diag *diag);

/* Run the git command in the root, with git's own settings and nothing else from the
 * environment, and append what it prints.  CN_ECORRUPT  it exits with an error. */
cn_err cn_repo_run_git(cn_repo *repo, const char *const *argv, cn_buf *out,
                       const atomic_bool *cancel, cn_diag *diag);

#endif

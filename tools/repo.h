/*
 * repo.h - A repository, or a plain folder, as a list of text files with blob ids.
 *
 * The list is what lies in the working tree: tracked files as they are now (modified and
 * staged ones too, deleted ones not) and untracked files that no .gitignore names.  A
 * file's id is the git blob id of the bytes that git would store for it, so that the same
 * content has the same id on every branch, in every worktree, committed or not.
 *
 * Ids are cheap: a file that git's index knows as unchanged is not read, and what an
 * earlier list has found out is used again.  Content is never given under a wrong id:
 * every read is hashed and compared.
 *
 * Nothing in the repository is run or written: no hooks, no filter commands, no index
 * refresh, no fetch from a promisor remote.  Nothing outside its root is read but git's
 * own configuration: symlinks are not followed, in no component of a path.
 *
 * A folder without git is listed by the same rules, .gitignore and .gitattributes
 * included; its ids are those that it will have as a repository.
 *
 * Where libgit2 cannot read the index (split or sparse index) the git command lists it.
 *
 * Threads: one thread at a time uses a cn_repo.  A list is immutable.
 *
 * Layer: tools -> base (libgit2 stops here).
 */
#ifndef CN_TOOLS_REPO_H
#define CN_TOOLS_REPO_H

#include "base/buf.h"
#include "base/err.h"

#include <stdatomic.h>

CN_C_BEGIN

enum {
    CN_REPO_FILE_BYTES = 1 << 20,      // default limit of one file
    CN_REPO_FILE_BYTES_MAX = 64 << 20, // the limit's limit
    CN_REPO_FILES = 200000,            // default limit of a list
    CN_REPO_PATH_BYTES_MAX = 1024,     // of a path in the list, without NUL
    CN_REPO_IGNORE_BYTES_MAX = 1 << 20,
    CN_REPO_BINARY_BYTES = 8000, // a NUL in so many first bytes: binary, as git says it
    CN_REPO_ID_BYTES = 41,       // 40 hex digits and a NUL
    CN_REPO_GIT_MS_MAX = 30000,  // one run of the git command
    CN_REPO_GIT_BYTES_MAX = 256 << 20,
};

typedef struct cn_repo cn_repo;

typedef struct cn_repo_opts {
    const char *path;           // a file or folder in a working tree, or a plain folder; borrowed
    int64_t     file_bytes_max; // larger files are left out; 0: CN_REPO_FILE_BYTES
    int64_t     files_max;      // more files, the left out ones counted, fail; 0: CN_REPO_FILES
} cn_repo_opts;

/* Open the working tree that contains opts->path; the plain folder itself if none does.
 *
 *   out  owned by the caller: cn_repo_close().  NULL unless CN_OK.
 *
 * CN_ENOTFOUND     no such path.
 * CN_EINVAL        a limit is out of range; or the repository is bare, belongs to another
 *                  user, is damaged, or the path is a plain file outside any repository.
 * CN_EUNSUPPORTED  its format is not known here (SHA-256, reftable); the diag names it.
 * CN_EIO, CN_ENOMEM. */
cn_err cn_repo_open(cn_repo **out, const cn_repo_opts *opts, cn_diag *diag) CN_MUST_CHECK;
void   cn_repo_close(cn_repo *repo); // NULL is allowed

/* The absolute path of the root, without a '/' at its end (but for "/" itself). */
const char *cn_repo_root(const cn_repo *repo);
bool        cn_repo_is_git(const cn_repo *repo);
/* Whether what was opened still lies at its path: neither moved, removed nor replaced by another
 * folder, and git's part of a repository with it. */
bool cn_repo_is_there(const cn_repo *repo);

typedef struct cn_repo_head {
    char commit[CN_REPO_ID_BYTES]; // "" if there is none yet, and in a plain folder
    char branch[256];              // "main", also if unborn; "" if detached or plain
    bool is_detached;
    bool is_unborn;
    bool is_shallow;
    bool is_worktree; // one of `git worktree add`
} cn_repo_head;

/* What HEAD is now.  All zero in a plain folder.
 *
 * CN_ECORRUPT  HEAD cannot be read.  CN_ETOOBIG  the branch's name is too long. */
cn_err cn_repo_get_head(cn_repo *repo, cn_repo_head *out, cn_diag *diag) CN_MUST_CHECK;

// clang-format off
/* Why a file is left out. */
#define CN_REPO_SKIP_LIST(X)                                                                  \
    X(NONE,       "")                                                                         \
    X(BINARY,     "binary")                                                                   \
    X(TOO_BIG,    "too large")                                                                \
    X(GENERATED,  "generated (.gitattributes)")                                               \
    X(VENDORED,   "vendored (.gitattributes)")                                                \
    X(SYMLINK,    "symbolic link")                                                            \
    X(SUBMODULE,  "a repository of its own")                                                  \
    X(BAD_PATH,   "path is not UTF-8 or has control characters")                              \
    X(LONG_PATH,  "path is too long")                                                         \
    X(FILTER,     "changed, and only a filter command knows what git would store")            \
    X(UNREADABLE, "cannot be read")
// clang-format on

typedef enum {
#define X(name, text) CN_REPO_SKIP_##name,
    CN_REPO_SKIP_LIST(X)
#undef X
        CN_REPO_SKIP_COUNT
} cn_repo_skip;

/* "binary", ...; "" for CN_REPO_SKIP_NONE. */
const char *cn_repo_skip_text(cn_repo_skip skip);

typedef struct cn_repo_file {
    const char  *path;  // relative, '/' between; a folder that is left out whole ends in '/'
    int64_t      bytes; // of what git would store; where skip says why not, of the file
    int32_t      mode;  // as git has it: 0100644, 0100755, 0120000, 0160000, 0040000
    cn_repo_skip skip;
    bool         is_changed;           // only the working tree has it, not the index
    char         id[CN_REPO_ID_BYTES]; // "" only if skip is set and the id is not known cheaply
} cn_repo_file;

/* A list, ordered by the bytes of the paths; each path once. */
typedef struct cn_repo_files {
    const cn_repo_file *file; // [count], left out ones too
    int64_t             count;
    int64_t             skipped;
    int64_t             hashed; // files that had to be read to know their id
    int64_t             peeked; // files of which only the first bytes were read
} cn_repo_files;

/* List the files of the working tree.  Ignored ones (.gitignore and git's other places,
 * and `.cairnignore` in the root: the same syntax, tracked files too) are not in it; what
 * else is left out is, with the reason.
 *
 *   out     owned by the caller: cn_repo_files_free().  NULL unless CN_OK.
 *   before  an earlier list of the same repo, or NULL: spares reading what has not changed.
 *   cancel  NULL, or set by any thread to stop it.
 *
 * CN_ETOOBIG       over files_max, or .cairnignore is over CN_REPO_IGNORE_BYTES_MAX.
 * CN_ECORRUPT      the index cannot be read.
 * CN_EUNSUPPORTED  the git command is needed and is not there; the diag says why.
 * CN_ECANCELLED, CN_EIO, CN_ENOMEM.
 *
 * Time: a stat for each file; 8000 bytes of each new one (is it binary?); all of those
 * that changed. */
cn_err cn_repo_list(cn_repo_files **out, cn_repo *repo, const cn_repo_files *before,
                    const atomic_bool *cancel, cn_diag *diag) CN_MUST_CHECK;
void   cn_repo_files_free(cn_repo_files *files); // NULL is allowed

/* The file at `path`; NULL if the list has none.  Time: logarithmic. */
const cn_repo_file *cn_repo_files_find(const cn_repo_files *files, const char *path);

/* Append the content of `file`: exactly the bytes that file->id names.
 *
 *   file  of a list of this repo; one that is left out too, if it has an id and is a file.
 *
 * CN_ENOTFOUND  it has changed or gone since it was listed: list again.
 * CN_EINVAL     `file` is left out and has no id, or is no regular file.
 * CN_ETOOBIG    it is over file_bytes_max.
 * CN_EIO, CN_ENOMEM.  On failure `buf` holds what it held before. */
cn_err cn_repo_read(cn_repo *repo, const cn_repo_file *file, cn_buf *buf,
                    cn_diag *diag) CN_MUST_CHECK;

/* Append the working tree's file at `path` as it lies there now: no filter, no id.
 *
 *   path  relative, without empty, ".", ".." and ".git" components.
 *
 * CN_EINVAL     the path is none, leads through a symlink, or is no regular file.
 * CN_ENOTFOUND, CN_ETOOBIG (over file_bytes_max), CN_EIO, CN_ENOMEM. */
cn_err cn_repo_read_raw(cn_repo *repo, const char *path, cn_buf *buf, cn_diag *diag) CN_MUST_CHECK;

/* Whether the root's `.cairnignore` keeps `path` (or a folder that it is in) out. */
bool cn_repo_is_kept_out(cn_repo *repo, const char *path);

typedef struct cn_repo_commit {
    char id[CN_REPO_ID_BYTES];
    char date[11];     // "2024-05-17", in the author's time zone
    char author[128];  // cut at a character
    char subject[256]; // first line, cut at a character
} cn_repo_commit;

typedef struct cn_repo_log_args {
    const char        *path;        // of a file or folder, also one that is gone; "" for all
    int32_t            commits_max; // >= 1
    int64_t            ms_max;      // stop looking after this time
    const atomic_bool *cancel;      // may be NULL
} cn_repo_log_args;

/* The newest commits that changed a path, newest first: what `git log -- path` says.
 *
 *   out        [commits_max], borrowed.
 *   count_out  how many were found.
 *   is_cut_out whether it stopped at a limit, of commits or of time.
 *
 * CN_ENOTFOUND  no git, or no commit yet.
 * CN_ECORRUPT   an object cannot be read (a partial clone may lack it).
 * CN_ECANCELLED, CN_ENOMEM. */
cn_err cn_repo_log(cn_repo *repo, const cn_repo_log_args *args, cn_repo_commit *out,
                   int32_t *count_out, bool *is_cut_out, cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

/*
 * repo_log.c - Which commits changed a path, as `git log -- path` simplifies history.
 *
 * Commits come newest first from a queue.  One that has the path as a parent has it is
 * not told, and only that parent is followed: what a merge took over unchanged is the
 * story of the side that it came from.
 */
#include "base/clock.h"
#include "base/fault.h"
#include "base/utf8.h"
#include "tools/repo.h"
#include "tools/repo_int.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct walk {
    cn_repo     *repo;
    const char  *path;
    git_commit **queue; // newest last
    int64_t      count, room;
    git_oid     *seen; // open addressing; the zero id is no commit's
    int64_t      seen_count, seen_room;
    cn_diag     *diag;
} walk;

static cn_err no_memory(walk *w) {
    return CN_FAIL(w->diag, CN_ENOMEM, "%s: no memory for the log", w->repo->root);
}

static git_oid *slot_of(git_oid *table, int64_t room, const git_oid *id) {
    uint64_t at;
    memcpy(&at, id->id, sizeof(at)); // an id is as good as a hash of it
    for (;; at++) {
        git_oid *slot = &table[at & (uint64_t)(room - 1)];
        if (git_oid_is_zero(slot) || git_oid_equal(slot, id)) return slot;
    }
}

/* Note that `id` was queued; *is_new_out is false if it had been before. */
static cn_err see(walk *w, const git_oid *id, bool *is_new_out) {
    if (w->seen_count * 2 >= w->seen_room) {
        const int64_t room = w->seen_room ? w->seen_room * 2 : 256;
        git_oid *grown = CN_FAULT("tools.log.alloc") ? NULL : calloc((size_t)room, sizeof(git_oid));
        if (!grown) return no_memory(w);
        for (int64_t i = 0; i < w->seen_room; i++)
            if (!git_oid_is_zero(&w->seen[i])) *slot_of(grown, room, &w->seen[i]) = w->seen[i];
        free(w->seen);
        w->seen = grown;
        w->seen_room = room;
    }
    git_oid *slot = slot_of(w->seen, w->seen_room, id);
    *is_new_out = git_oid_is_zero(slot);
    if (*is_new_out) w->seen_count++;
    *slot = *id;
    return CN_OK;
}

/* Queue a commit that was not queued before.  It moves to the queue, on failure too. */
static cn_err push(walk *w, git_commit *commit) {
    bool   is_new = false;
    cn_err err = see(w, git_commit_id(commit), &is_new);
    if (!err && is_new && w->count == w->room) {
        const int64_t room = w->room ? w->room * 2 : 64;
        git_commit  **grown =
            CN_FAULT("tools.log.alloc") ? NULL : realloc(w->queue, (size_t)room * sizeof(*grown));
        if (!grown)
            err = no_memory(w);
        else {
            w->queue = grown;
            w->room = room;
        }
    }
    if (err || !is_new) {
        git_commit_free(commit);
        return err;
    }
    int64_t at = w->count++;
    for (; at > 0 && git_commit_time(w->queue[at - 1]) >= git_commit_time(commit); at--)
        w->queue[at] = w->queue[at - 1];
    w->queue[at] = commit;
    return CN_OK;
}

/* What the path is in a commit: the id of the blob or tree, zero if it is not there. */
static cn_err entry_of(walk *w, const git_commit *commit, git_oid *out) {
    git_tree       *tree = NULL;
    git_tree_entry *entry = NULL;
    int             rc = 0;

    memset(out, 0, sizeof(*out));
    if (!w->path[0]) {
        *out = *git_commit_tree_id(commit);
        return CN_OK;
    }
    rc = git_commit_tree(&tree, commit);
    if (!rc) {
        rc = git_tree_entry_bypath(&entry, tree, w->path);
        if (!rc) *out = *git_tree_entry_id(entry);
        // A missing object is "not found" as well, but not of a tree's entry.
        if (rc == GIT_ENOTFOUND && git_error_last()->klass == GIT_ERROR_TREE) rc = 0;
    }
    git_tree_entry_free(entry);
    git_tree_free(tree);
    return rc ? FAIL_GIT(w->diag, CN_ECORRUPT, "%s: log of %s", w->repo->root, w->path) : CN_OK;
}

/* Queue the parents to follow; *is_told_out: the commit changed the path. */
static cn_err follow(walk *w, const git_commit *commit, bool *is_told_out) {
    const unsigned parents = git_commit_parentcount(commit);
    git_commit    *parent[64] = {NULL};
    const bool     is_all = !w->path[0];
    git_oid        own, theirs;
    int            same = -1; // the parent that has the path as the commit has it

    *is_told_out = false;
    if (parents > 64) return CN_FAIL(w->diag, CN_ECORRUPT, "a merge of %u commits", parents);
    cn_err err = entry_of(w, commit, &own);
    bool   is_changed = parents == 0 && !git_oid_is_zero(&own);
    for (unsigned i = 0; !err && same < 0 && i < parents; i++) {
        const int rc = git_commit_parent(&parent[i], commit, i);
        if (rc == GIT_ENOTFOUND && git_repository_is_shallow(w->repo->git) == 1) {
            is_changed = !git_oid_is_zero(&own); // the history is cut here: as of a root
            continue;
        }
        if (rc)
            err = FAIL_GIT(w->diag, CN_ECORRUPT, "%s: log of %s", w->repo->root, w->path);
        else
            err = entry_of(w, parent[i], &theirs);
        if (err) break;
        if (git_oid_equal(&own, &theirs) && !is_all)
            same = (int)i;
        else
            is_changed = true;
    }
    for (unsigned i = 0; i < parents; i++) {
        if (!parent[i]) continue;
        if (!err && (same < 0 || same == (int)i))
            err = push(w, parent[i]);
        else
            git_commit_free(parent[i]);
    }
    *is_told_out = !err && same < 0 && is_changed;
    return err;
}

/* Copy text up to its end or `stop`, cut at a character, without control characters. */
static void copy_text(char *to, size_t room, const char *text, char stop) {
    const char  *end = strchr(text, stop);
    const size_t bytes = end ? (size_t)(end - text) : strlen(text);
    const size_t kept = bytes < room ? bytes : cn_utf8_cut(text, room - 1);
    for (size_t i = 0; i < kept; i++) to[i] = (uint8_t)text[i] < ' ' ? ' ' : text[i];
    to[kept] = 0;
}

static void tell(cn_repo_commit *out, git_commit *commit) {
    const git_signature *author = git_commit_author(commit);
    const char          *summary = git_commit_summary(commit);
    const time_t         at = author->when.time + author->when.offset * 60;
    struct tm            tm = {0};

    *out = (cn_repo_commit){0};
    git_oid_tostr(out->id, sizeof(out->id), git_commit_id(commit));
    if (!gmtime_r(&at, &tm) || strftime(out->date, sizeof(out->date), "%Y-%m-%d", &tm) == 0)
        strcpy(out->date, "0000-00-00");
    copy_text(out->author, sizeof(out->author), author->name, '\n');
    copy_text(out->subject, sizeof(out->subject), summary ? summary : "", '\n');
}

cn_err cn_repo_log(cn_repo *repo, const cn_repo_log_args *args, cn_repo_commit *out,
                   int32_t *count_out, bool *is_cut_out, cn_diag *diag) {
    const int64_t until_ns = cn_clock_ns() + args->ms_max * 1000000;
    walk          w = {.repo = repo, .path = args->path, .diag = diag};
    git_commit   *commit = NULL;
    git_oid       head;
    cn_err        err = CN_OK;

    *count_out = 0;
    *is_cut_out = false;
    if (args->commits_max < 1)
        return CN_FAIL(diag, CN_EINVAL, "commits_max %d is under 1", args->commits_max);
    if (!repo->is_git) return CN_FAIL(diag, CN_ENOTFOUND, "%s is no git repository", repo->root);
    const int rc = git_reference_name_to_id(&head, repo->git, "HEAD");
    if (rc == GIT_ENOTFOUND) return CN_FAIL(diag, CN_ENOTFOUND, "%s has no commit yet", repo->root);
    if (rc || git_commit_lookup(&commit, repo->git, &head))
        return FAIL_GIT(diag, CN_ECORRUPT, "%s: HEAD", repo->root);

    err = push(&w, commit);
    while (!err && w.count > 0) {
        bool is_told = false;
        commit = w.queue[--w.count];
        if (args->cancel && atomic_load(args->cancel))
            err = CN_FAIL(diag, CN_ECANCELLED, "log cancelled");
        else if (cn_clock_ns() > until_ns)
            *is_cut_out = true;
        else
            err = follow(&w, commit, &is_told);
        if (!err && is_told) {
            if (*count_out == args->commits_max)
                *is_cut_out = true;
            else
                tell(&out[(*count_out)++], commit);
        }
        git_commit_free(commit);
        if (*is_cut_out) break;
    }
    while (w.count > 0) git_commit_free(w.queue[--w.count]);
    free(w.queue);
    free(w.seen);
    if (err) *count_out = 0;
    return err;
}

/* session.c - Open a session, to write or to read it; what the ledger has of it. */
#include "sessions/session_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- Opening ---------------------------------------------------------------------- */

/* The latest session whose folder is gone: it may be the one that somebody looks for elsewhere. */
typedef struct homeless {
    char id[CN_LEDGER_ID_BYTES_MAX + 1], folder[CN_DIAG_TEXT_BYTES / 2];
} homeless;

static void on_row(void *ctx, const cn_ledger_session *row) {
    homeless   *h = ctx;
    struct stat st;
    if (h->id[0] || stat(row->repo, &st) == 0) return;
    snprintf(h->id, sizeof(h->id), "%s", row->id);
    snprintf(h->folder, sizeof(h->folder), "%s", row->repo);
}

static cn_err find_latest(cn_session *s, const char *root, cn_diag *diag) {
    enum { LOOK_AT = 64 };
    homeless     h = {.id = ""};
    const cn_err err = cn_ledger_session_latest(s->host->ledger, root, &s->row, diag);
    if (err != CN_ENOTFOUND) return err;
    CN_TRY(cn_ledger_sessions(s->host->ledger, NULL, LOOK_AT, on_row, &h, diag));
    if (!h.id[0]) return err;
    return CN_FAIL(diag, err,
                   "no session on %s; %s was on %s, which is gone: -C %s -s %s moves it here", root,
                   h.id, h.folder, root, h.id);
}

static cn_err find_row(cn_session *s, const cn_session_opts *opts, const char *root,
                       cn_diag *diag) {
    if (opts->id) return cn_ledger_session_find(s->host->ledger, opts->id, &s->row, diag);
    if (opts->is_continued) return find_latest(s, root, diag);

    cn_repo_head head;
    cn_buf       settings = {0};
    CN_TRY(cn_repo_get_head(cn_context_repo(s->context), &head, diag));
    s->budget = opts->budget ? opts->budget : CN_CHOOSE_BUDGET;
    s->refs_budget = opts->refs_budget ? opts->refs_budget : CN_SESSION_REFS_BUDGET;
    cn_session_put_settings(s, &settings);
    const cn_ledger_session row = {.repo = root,
                                   .commit = head.commit,
                                   .branch = head.branch,
                                   .settings = cn_buf_str(&settings),
                                   .model = s->host->model_id};
    const cn_err            err = cn_ledger_session_create(s->host->ledger, &row, &s->row, diag);
    cn_buf_release(&settings);
    return err;
}

cn_err cn_session_put_tokens(cn_session *s, int32_t turn, const int32_t *token, int64_t tokens) {
    const bool is_new = s->ends == 0 || s->end[s->ends - 1].turn != turn;
    if (tokens == 0) return CN_OK;
    if (is_new && s->ends == s->ends_room) {
        const int64_t   room = s->ends_room ? 2 * s->ends_room : 64;
        cn_session_end *more = realloc(s->end, (size_t)room * sizeof(*more));
        if (!more) return CN_ENOMEM;
        s->end = more;
        s->ends_room = room;
    }
    CN_TRY(cn_tokens_put(&s->tokens, token, tokens));
    s->ends += is_new;
    s->end[s->ends - 1] = (cn_session_end){turn, s->tokens.count};
    return CN_OK;
}

typedef struct loaded {
    cn_session *s;
    cn_err      err;
} loaded;

static void on_tokens(void *ctx, int32_t turn, int32_t step, const int32_t *token, int64_t tokens) {
    (void)step;
    loaded *l = ctx;
    if (!l->err) l->err = cn_session_put_tokens(l->s, turn, token, tokens);
}

/* The last step, to know whether it ended in a call that has no result. */
static void on_step(void *ctx, const cn_ledger_step *step) {
    cn_session *s = ctx;
    s->has_open_call = step->stop == CN_STOP_TOOL && step->kind == CN_STEP_GENERATION;
}

static cn_err load_conversation(cn_session *s, cn_diag *diag) {
    loaded l = {s, CN_OK};
    s->tokens.count = s->ends = 0;
    CN_TRY(cn_ledger_tokens(s->host->ledger, s->row->id, 0, on_tokens, &l, diag));
    if (l.err) return CN_FAIL(diag, l.err, "no memory for a conversation");
    return cn_ledger_steps(s->host->ledger, s->row->id, 0, on_step, s, diag);
}

cn_err cn_session_read_row(cn_session *s, cn_diag *diag) {
    cn_ledger_session *row;
    CN_TRY(cn_ledger_session_find(s->host->ledger, s->row->id, &row, diag));
    cn_ledger_session_free(s->row);
    s->row = row;
    return CN_OK;
}

static cn_err finish_open_turn(cn_session *s, cn_diag *diag) {
    return cn_ledger_turn_finish(s->writer, CN_STOP_ERROR, (cn_ledger_text){0}, NULL, NULL, 0,
                                 diag);
}

/* Then the row is read again: until now another process may have written it. */
static cn_err become_writer(cn_session *s, cn_diag *diag) {
    cn_ledger_opened opened;
    CN_TRY(cn_ledger_writer_open(&s->writer, s->host->ledger, s->row->id, &opened, diag));
    CN_TRY(cn_session_read_row(s, diag));
    if (!opened.open_turn) return CN_OK;
    snprintf(s->interrupted, sizeof(s->interrupted),
             "turn %d was interrupted%s; its finished steps are kept", opened.open_turn,
             opened.interrupted ? " while a tool ran" : "");
    return finish_open_turn(s, diag);
}

void cn_session_lose_writer(cn_session *s) {
    cn_ledger_writer_close(s->writer);
    s->writer = NULL;
    s->is_stale = true;
    (void)become_writer(s, NULL);
}

cn_err cn_session_catch_up(cn_session *s, cn_diag *diag) {
    if (!s->is_stale) return CN_OK;
    if (!s->writer) CN_TRY(become_writer(s, diag));
    CN_TRY(cn_session_read_row(s, diag));
    if (s->row->open_turn) CN_TRY(finish_open_turn(s, diag));
    s->is_restored = s->has_open_call = false;
    CN_TRY(load_conversation(s, diag));
    CN_TRY(cn_session_load_parts(s, diag));
    s->is_stale = false;
    return CN_OK;
}

static cn_err open_context(cn_session *s, const char *folder, int64_t budget, cn_diag *diag) {
    cn_context_close(s->context);
    s->context = NULL;
    return cn_context_open(&s->context, s->host,
                           &(cn_context_opts){.folder = folder,
                                              .budget = budget,
                                              .passed = &s->passed,
                                              .away = &s->away,
                                              .added = &s->added,
                                              .dropped = &s->dropped},
                           diag);
}

/* Its own folder, or the one that was named; if its own is gone, it has moved to that. */
static cn_err open_folder(cn_session *s, const char *folder, cn_diag *diag) {
    struct stat st;
    cn_diag     why = {0};
    char        was[CN_DIAG_TEXT_BYTES / 2];
    snprintf(was, sizeof(was), "%s", s->row->repo);
    cn_err     err = open_context(s, folder ? folder : was, s->budget, &why);
    const bool is_own =
        !err && strcmp(cn_repo_root(cn_context_repo(s->context)), s->row->repo) == 0;
    if (!folder && (err == CN_ENOTFOUND || (!err && !is_own)))
        return CN_FAIL(
            diag, CN_ENOTFOUND,
            "session %s is on %s, which is not there; nothing is lost: it may come back, "
            "or say where it is now (-C FOLDER -s %s)",
            s->row->id, was, s->row->id);
    if (err) {
        if (diag) *diag = why;
        return err;
    }
    if (is_own || !s->writer || stat(s->row->repo, &st) == 0) return CN_OK;
    s->moved_from = strdup(s->row->repo);
    if (!s->moved_from) return CN_FAIL(diag, CN_ENOMEM, "no memory for a path");
    CN_TRY(cn_ledger_session_edit(
        s->writer, &(cn_ledger_edit){.repo = cn_repo_root(cn_context_repo(s->context))}, diag));
    return cn_session_read_row(s, diag);
}

static cn_err open_session(cn_session *s, const cn_session_opts *opts, cn_diag *diag) {
    if (opts->id) {
        CN_TRY(find_row(s, opts, NULL, diag));
    } else {
        CN_TRY(open_context(s, opts->folder, opts->budget, diag));
        CN_TRY(find_row(s, opts, cn_repo_root(cn_context_repo(s->context)), diag));
    }
    if (!opts->is_reader) CN_TRY(become_writer(s, diag));
    cn_session_read_settings(s, s->row->settings); // the budget was kept when the session was made
    CN_TRY(open_folder(s, opts->folder, diag));
    CN_TRY(load_conversation(s, diag));
    CN_TRY(cn_session_load_documents(s, diag));
    CN_TRY(cn_session_load_parts(s, diag));
    CN_TRY(cn_session_load_pin(s, diag));
    CN_TRY(cn_session_set_pin(s, opts->pin, diag));
    CN_TRY(cn_doc_create(&s->doc, s->host->engine, CN_SESSION_TOKENS_MAX, false, diag));
    return cn_view_create(&s->view, s->host->engine, CN_VIEW_PAGES_MAX, diag);
}

cn_err cn_session_open(cn_session **out, cn_host *host, const cn_session_opts *opts,
                       cn_diag *diag) {
    *out = NULL;
    cn_assert(!opts->is_reader || opts->id || opts->is_continued); // it makes none
    cn_session *s = calloc(1, sizeof(*s));
    if (!s) return CN_FAIL(diag, CN_ENOMEM, "no memory for a session");
    s->host = host;
    s->is_trial = opts->is_trial;
    const cn_err err = open_session(s, opts, diag);
    if (err) {
        cn_session_close(s);
        return err;
    }
    *out = s;
    return CN_OK;
}

void cn_session_close(cn_session *s) {
    if (!s) return;
    cn_view_free(s->view);
    cn_doc_free(s->doc);
    cn_context_close(s->context);
    cn_ledger_writer_close(s->writer);
    cn_ledger_session_free(s->row);
    cn_tokens_release(&s->tokens);
    free(s->moved_from);
    free(s->end);
    cn_paths_release(&s->passed);
    cn_paths_release(&s->away);
    cn_paths_release(&s->added);
    cn_paths_release(&s->dropped);
    free(s);
}

const cn_ledger_session *cn_session_row(const cn_session *s) {
    return s->row;
}

cn_context *cn_session_context(cn_session *s) {
    return s->context;
}

int64_t cn_session_tokens(const cn_session *s) {
    return s->tokens.count;
}

const int32_t *cn_session_token(const cn_session *s) {
    return s->tokens.token;
}

bool cn_session_is_compacted_on_its_own(const cn_session *s) {
    return !s->is_compacted_by_hand;
}

cn_err cn_session_need_writer(const cn_session *s, cn_diag *diag) {
    if (s->writer) return CN_OK;
    return CN_FAIL(diag, CN_EINVAL, "session %s is open for reading only", s->row->id);
}

cn_err cn_session_rewind(cn_session *s, int32_t turn, cn_diag *diag) {
    CN_TRY(cn_session_catch_up(s, diag));
    CN_TRY(cn_session_need_writer(s, diag));
    CN_TRY(cn_ledger_rewind(s->writer, turn, diag));
    s->is_stale = true;
    return cn_session_catch_up(s, diag);
}

cn_err cn_session_fork(cn_session *s, int32_t turn, cn_diag *diag) {
    cn_ledger_session *row = NULL;
    cn_ledger_writer  *writer = NULL;
    CN_TRY(cn_session_catch_up(s, diag));
    CN_TRY(cn_session_need_writer(s, diag));
    CN_TRY(cn_ledger_session_fork(s->host->ledger, s->row->id, turn, NULL, &row, diag));
    const cn_err err = cn_ledger_writer_open(&writer, s->host->ledger, row->id, NULL, diag);
    if (err) {
        cn_ledger_session_free(row);
        return err;
    }
    cn_ledger_writer_close(s->writer);
    cn_ledger_session_free(s->row);
    s->writer = writer;
    s->row = row;
    s->is_stale = true;
    return cn_session_catch_up(s, diag);
}

const char *cn_session_interrupted(const cn_session *s) {
    return s->interrupted[0] ? s->interrupted : NULL;
}

const char *cn_session_moved_from(const cn_session *s) {
    return s->moved_from;
}

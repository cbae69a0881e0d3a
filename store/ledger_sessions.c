/*
 * ledger_sessions.c - Session rows: make, fork, find, list, edit, rewind, delete; and who
 * may write one.
 */
#include "base/clock.h"
#include "base/fault.h"
#include "store/ledger_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANDOM_ID_BYTES = 16 }; // of 32 letters and digits: 80 bits

/* ---- Rows -------------------------------------------------------------------------- */

#define SELECT_SESSION                                                                             \
    "SELECT s.id, coalesce(p.id, ''), s.forked_at, s.title, s.repo, s.commit_id, s.branch,"        \
    " s.settings, s.model, s.created, s.updated, h.turn, h.stop = 'open',"                         \
    " (SELECT count(*) FROM turns t WHERE t.session = s.key), s.generation,"                       \
    " EXISTS(SELECT 1 FROM keeps WHERE session = s.key)"                                           \
    " FROM sessions s LEFT JOIN sessions p ON p.key = s.parent"                                    \
    " LEFT JOIN turns h ON h.key = s.head "

static cn_err get_session(cn_query *q, cn_ledger_session *s, cn_diag *diag) {
    s->id = cn_query_get_str(q);
    s->parent = cn_query_get_str(q);
    s->forked_at = (int32_t)cn_query_get_int(q);
    s->title = cn_query_get_str(q);
    s->repo = cn_query_get_str(q);
    s->commit = cn_query_get_str(q);
    s->branch = cn_query_get_str(q);
    s->settings = cn_query_get_str(q);
    if (cn_hash_from_hex(&s->model, cn_query_get_str(q)))
        return CN_FAIL(diag, CN_ECORRUPT, "model of session %s is no hash in %s", s->id,
                       q->l->path);
    s->created_ns = cn_query_get_int(q);
    s->updated_ns = cn_query_get_int(q);
    s->head = (int32_t)cn_query_get_int(q);
    s->open_turn = cn_query_get_int(q) ? s->head : 0;
    s->turns = (int32_t)cn_query_get_int(q);
    s->generation = cn_query_get_int(q);
    s->is_pinned = cn_query_get_int(q) != 0;
    return CN_OK;
}

/* One block: the row, then its strings. */
static cn_err copy_session(const cn_ledger_session *s, cn_ledger_session **out, cn_diag *diag) {
    const char *const text[] = {s->id,     s->parent, s->title,   s->repo,
                                s->commit, s->branch, s->settings};
    enum { TEXTS = sizeof(text) / sizeof(text[0]) };
    const char *copy[TEXTS];
    size_t      bytes = sizeof(*s);
    for (int i = 0; i < TEXTS; i++) bytes += strlen(text[i]) + 1;
    cn_ledger_session *row = CN_FAULT("store.ledger.memory") ? NULL : malloc(bytes);
    if (!row) return CN_FAIL(diag, CN_ENOMEM, "no memory for session %s", s->id);
    char *to = (char *)(row + 1);
    for (int i = 0; i < TEXTS; i++) {
        copy[i] = to;
        to = stpcpy(to, text[i]) + 1;
    }
    *row = *s;
    row->id = copy[0], row->parent = copy[1], row->title = copy[2], row->repo = copy[3];
    row->commit = copy[4], row->branch = copy[5], row->settings = copy[6];
    *out = row;
    return CN_OK;
}

/* The first row of an open query, which is closed. */
static cn_err take_session(cn_query *q, cn_ledger_session **out, cn_diag *diag) {
    cn_ledger_session s;
    cn_err            err = cn_query_step(q, diag);
    if (!err) err = get_session(q, &s, diag);
    if (!err) err = copy_session(&s, out, diag);
    cn_query_close(q);
    return err;
}

static cn_err session_by_id(cn_ledger *l, const char *id, cn_ledger_session **out, cn_diag *diag) {
    cn_query q = cn_query_open(l, SELECT_SESSION "WHERE s.id = ? AND s.tenant = ?");
    cn_query_str(&q, id);
    cn_query_str(&q, l->tenant);
    return take_session(&q, out, diag);
}

void cn_ledger_session_free(cn_ledger_session *s) {
    free(s);
}

/* CN_ENOTFOUND leaves the diag alone. */
static cn_err find_key(cn_ledger *l, const char *id, int64_t *key_out, cn_diag *diag) {
    cn_query q = cn_query_open(l, "SELECT key FROM sessions WHERE id = ? AND tenant = ?");
    cn_query_str(&q, id);
    cn_query_str(&q, l->tenant);
    *key_out = 0;
    const cn_err err = cn_query_step(&q, diag);
    if (!err) *key_out = cn_query_get_int(&q);
    cn_query_close(&q);
    return err;
}

cn_err cn_ledger_session_key(cn_ledger *l, const char *id, int64_t *key_out, cn_diag *diag) {
    const cn_err err = find_key(l, id, key_out, diag);
    return err == CN_ENOTFOUND ? CN_FAIL(diag, err, "no session %.80s", id) : err;
}

/* ---- The chain of turns ------------------------------------------------------------ */

cn_err cn_ledger_line_get(cn_ledger *l, int64_t session, cn_ledger_line *out, cn_diag *diag) {
    int64_t room = 0;
    cn_err  err;

    *out = (cn_ledger_line){0};
    cn_query q = cn_query_open(
        l, "WITH RECURSIVE line(key) AS (SELECT head FROM sessions WHERE key = ?"
           " UNION ALL SELECT t.prev FROM turns t JOIN line ON t.key = line.key)"
           " SELECT t.key, t.turn, t.stop = 'open' FROM line JOIN turns t ON t.key = line.key"
           " ORDER BY t.key"); // a turn's key is larger than that of the one before
    cn_query_int(&q, session);
    while ((err = cn_query_step(&q, diag)) == CN_OK) {
        if (out->turns == room) {
            room = room ? 2 * room : 64;
            cn_ledger_link *more = CN_FAULT("store.ledger.memory")
                                       ? NULL
                                       : realloc(out->turn, (size_t)room * sizeof(*more));
            if (!more) {
                err = CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " turns", room);
                break;
            }
            out->turn = more;
        }
        cn_ledger_link *link = &out->turn[out->turns++];
        link->key = cn_query_get_int(&q);
        link->turn = (int32_t)cn_query_get_int(&q);
        link->is_open = cn_query_get_int(&q) != 0;
    }
    cn_query_close(&q);
    if (err == CN_ENOTFOUND) return CN_OK;
    cn_ledger_line_release(out);
    return err;
}

void cn_ledger_line_release(cn_ledger_line *line) {
    free(line->turn);
    *line = (cn_ledger_line){0};
}

cn_err cn_ledger_line_find(const cn_ledger_line *line, int32_t turn, int64_t *place_out,
                           cn_diag *diag) {
    *place_out = -1;
    for (int64_t i = 0; i < line->turns; i++)
        if (line->turn[i].turn == turn) *place_out = i;
    if (*place_out < 0) return CN_FAIL(diag, CN_ENOTFOUND, "no turn %d in this conversation", turn);
    return CN_OK;
}

/* The key of a finished turn to go on from; 0 for turn 0. */
static cn_err find_back(cn_ledger *l, int64_t session, int32_t turn, int64_t *key_out,
                        cn_diag *diag) {
    cn_ledger_line line;
    int64_t        place;

    *key_out = 0;
    if (turn == 0) return CN_OK;
    CN_TRY(cn_ledger_line_get(l, session, &line, diag));
    cn_err err = cn_ledger_line_find(&line, turn, &place, diag);
    if (!err && line.turn[place].is_open)
        err = CN_FAIL(diag, CN_EINVAL, "turn %d is not finished", turn);
    if (!err) *key_out = line.turn[place].key;
    cn_ledger_line_release(&line);
    return err;
}

/* ---- Making ------------------------------------------------------------------------ */

static cn_err check_id(const char *id, cn_diag *diag) {
    const size_t bytes = strnlen(id, CN_LEDGER_ID_BYTES_MAX + 1);
    if (bytes == 0 || bytes > CN_LEDGER_ID_BYTES_MAX ||
        strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") < bytes)
        return CN_FAIL(diag, CN_EINVAL,
                       "session id \"%.80s\": 1 to %d letters, digits, '-' and '_'", id,
                       CN_LEDGER_ID_BYTES_MAX);
    return CN_OK;
}

cn_err cn_ledger_id_choose(char out[CN_LEDGER_ID_BYTES_MAX + 1], const char *id, cn_diag *diag) {
    if (id && *id) {
        CN_TRY(check_id(id, diag));
        memcpy(out, id, strlen(id) + 1);
        return CN_OK;
    }
    uint8_t byte[RANDOM_ID_BYTES];
    cn_random(byte, sizeof(byte));
    for (int i = 0; i < RANDOM_ID_BYTES; i++)
        out[i] = "0123456789abcdefghjkmnpqrstvwxyz"[byte[i] % 32];
    out[RANDOM_ID_BYTES] = 0;
    return CN_OK;
}

/* By any tenant. */
cn_err cn_ledger_id_refuse_taken(cn_ledger *l, const char *id, cn_diag *diag) {
    cn_query q = cn_query_open(l, "SELECT 1 FROM sessions WHERE id = ?");
    cn_query_str(&q, id);
    const cn_err err = cn_query_step(&q, diag);
    cn_query_close(&q);
    if (!err) return CN_FAIL(diag, CN_EINVAL, "session %s exists", id);
    return err == CN_ENOTFOUND ? CN_OK : err;
}

/* The rest of a transaction that has inserted session `id`. */
static cn_err finish_session(cn_ledger *l, cn_err err, const char *id, cn_ledger_session **out,
                             cn_diag *diag) {
    if (!err) err = session_by_id(l, id, out, diag);
    err = cn_ledger_txn_end(l, err, diag);
    if (err) {
        cn_ledger_session_free(*out);
        *out = NULL;
    }
    return err;
}

static cn_err check_strings(const char *title, const char *repo, const char *commit,
                            const char *branch, const char *settings, cn_diag *diag) {
    CN_TRY(cn_ledger_check_str("a title", title, diag));
    CN_TRY(cn_ledger_check_str("a repository path", repo, diag));
    CN_TRY(cn_ledger_check_str("a commit id", commit, diag));
    CN_TRY(cn_ledger_check_str("a branch name", branch, diag));
    return cn_ledger_check_str("settings", settings, diag);
}

static cn_err insert_session(cn_ledger *l, const char *id, const cn_ledger_session *s,
                             cn_diag *diag) {
    char          model[CN_HASH_HEX_BYTES];
    const int64_t now_ns = cn_clock_unix_ns();

    CN_TRY(cn_ledger_id_refuse_taken(l, id, diag));
    cn_hash_hex(model, &s->model);
    cn_query q =
        cn_query_open(l, "INSERT INTO sessions(id, tenant, forked_at, title, repo, commit_id,"
                         " branch, model, settings, created, updated)"
                         " VALUES(?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?)");
    cn_query_str(&q, id);
    cn_query_str(&q, l->tenant);
    cn_query_str(&q, s->title);
    cn_query_str(&q, s->repo);
    cn_query_str(&q, s->commit);
    cn_query_str(&q, s->branch);
    cn_query_str(&q, model);
    cn_query_str(&q, s->settings);
    cn_query_int(&q, now_ns);
    cn_query_int(&q, now_ns);
    return cn_query_run(&q, diag);
}

cn_err cn_ledger_session_create(cn_ledger *l, const cn_ledger_session *s, cn_ledger_session **out,
                                cn_diag *diag) {
    char id[CN_LEDGER_ID_BYTES_MAX + 1];

    *out = NULL;
    CN_TRY(cn_ledger_id_choose(id, s->id, diag));
    CN_TRY(check_strings(s->title, s->repo, s->commit, s->branch, s->settings, diag));
    CN_TRY(cn_ledger_txn_begin(l, CN_TXN_WRITE, diag));
    return finish_session(l, insert_session(l, id, s, diag), id, out, diag);
}

static cn_err insert_fork(cn_ledger *l, const char *id, const char *parent, int32_t turn,
                          cn_diag *diag) {
    const int64_t now_ns = cn_clock_unix_ns();
    int64_t       session, head;

    CN_TRY(cn_ledger_id_refuse_taken(l, id, diag));
    CN_TRY(cn_ledger_session_key(l, parent, &session, diag));
    CN_TRY(find_back(l, session, turn, &head, diag));
    cn_query q = cn_query_open(
        l, "INSERT INTO sessions(id, parent, forked_at, head, tenant, generation, title, repo,"
           " commit_id, branch, model, settings, pin, created, updated)"
           " SELECT ?, key, ?, ?, tenant, generation, title, repo, commit_id, branch, model,"
           " settings, pin, ?, ? FROM sessions WHERE key = ?");
    cn_query_str(&q, id);
    cn_query_int(&q, turn);
    cn_query_key(&q, head);
    cn_query_int(&q, now_ns);
    cn_query_int(&q, now_ns);
    cn_query_int(&q, session);
    return cn_query_run(&q, diag);
}

cn_err cn_ledger_session_fork(cn_ledger *l, const char *parent, int32_t turn, const char *id,
                              cn_ledger_session **out, cn_diag *diag) {
    char chosen[CN_LEDGER_ID_BYTES_MAX + 1];

    *out = NULL;
    CN_TRY(cn_ledger_id_choose(chosen, id, diag));
    CN_TRY(cn_ledger_txn_begin(l, CN_TXN_WRITE, diag));
    return finish_session(l, insert_fork(l, chosen, parent, turn, diag), chosen, out, diag);
}

/* ---- Finding ----------------------------------------------------------------------- */

/* CN_OK if exactly one session has an id that starts with `start`. */
static cn_err find_by_start(cn_ledger *l, const char *start, cn_ledger_session **out,
                            cn_diag *diag) {
    char              end[CN_LEDGER_ID_BYTES_MAX + 2], first[CN_LEDGER_ID_BYTES_MAX + 1];
    cn_ledger_session s;

    snprintf(end, sizeof(end), "%s\x7f", start); // after every character of an id
    cn_query q = cn_query_open(
        l, SELECT_SESSION "WHERE s.id >= ? AND s.id < ? AND s.tenant = ? ORDER BY s.id LIMIT 2");
    cn_query_str(&q, start);
    cn_query_str(&q, end);
    cn_query_str(&q, l->tenant);
    cn_err err = cn_query_step(&q, diag);
    if (!err) err = get_session(&q, &s, diag);
    if (!err) err = copy_session(&s, out, diag);
    if (!err) {
        snprintf(first, sizeof(first), "%s", s.id);
        err = cn_query_step(&q, diag);
        if (err == CN_ENOTFOUND) {
            err = CN_OK;
        } else if (!err) {
            err = CN_FAIL(diag, CN_EINVAL, "several sessions start with %s: %s, %s", start, first,
                          cn_query_get_str(&q));
        }
    }
    cn_query_close(&q);
    if (err) {
        cn_ledger_session_free(*out);
        *out = NULL;
    }
    return err;
}

cn_err cn_ledger_session_find(cn_ledger *l, const char *id, cn_ledger_session **out,
                              cn_diag *diag) {
    *out = NULL;
    cn_err err = check_id(id, NULL) ? CN_ENOTFOUND : session_by_id(l, id, out, diag);
    if (err == CN_ENOTFOUND && !check_id(id, NULL)) err = find_by_start(l, id, out, diag);
    if (err == CN_ENOTFOUND) return CN_FAIL(diag, err, "no session %.80s", id);
    return err;
}

#define NEWEST_FIRST "ORDER BY s.updated DESC, s.key DESC LIMIT ?"

static cn_query open_list(cn_ledger *l, const char *repo, int64_t sessions_max) {
    cn_query q =
        cn_query_open(l, repo ? SELECT_SESSION "WHERE s.repo = ? AND s.tenant = ? " NEWEST_FIRST
                              : SELECT_SESSION "WHERE s.tenant = ? " NEWEST_FIRST);
    if (repo) cn_query_str(&q, repo);
    cn_query_str(&q, l->tenant);
    cn_query_int(&q, sessions_max);
    return q;
}

cn_err cn_ledger_session_latest(cn_ledger *l, const char *repo, cn_ledger_session **out,
                                cn_diag *diag) {
    *out = NULL;
    cn_query     q = open_list(l, repo, 1);
    const cn_err err = take_session(&q, out, diag);
    if (err == CN_ENOTFOUND)
        return CN_FAIL(diag, err, "no session%s%s", repo ? " on " : "", repo ? repo : "");
    return err;
}

cn_err cn_ledger_sessions(cn_ledger *l, const char *repo, int64_t sessions_max,
                          cn_ledger_session_fn fn, void *ctx, cn_diag *diag) {
    cn_ledger_session s;
    cn_query          q = open_list(l, repo, sessions_max > 0 ? sessions_max : 0);
    cn_err            err;
    while ((err = cn_query_step(&q, diag)) == CN_OK) {
        err = get_session(&q, &s, diag);
        if (err) break;
        CN_CALL_BACK(l, fn(ctx, &s));
    }
    cn_query_close(&q);
    return err == CN_ENOTFOUND ? CN_OK : err;
}

cn_err cn_ledger_forks(cn_ledger *l, const char *session, cn_ledger_session_fn fn, void *ctx,
                       cn_diag *diag) {
    cn_ledger_session s;
    int64_t           key;
    CN_TRY(cn_ledger_session_key(l, session, &key, diag));
    cn_query q = cn_query_open(l, SELECT_SESSION "WHERE s.parent = ? ORDER BY s.key");
    cn_err   err;
    cn_query_int(&q, key);
    while ((err = cn_query_step(&q, diag)) == CN_OK) {
        err = get_session(&q, &s, diag);
        if (err) break;
        CN_CALL_BACK(l, fn(ctx, &s));
    }
    cn_query_close(&q);
    return err == CN_ENOTFOUND ? CN_OK : err;
}

/* ---- Writers ----------------------------------------------------------------------- */

/* Take the lock of a session and make sure that it is still there. */
static cn_err lock_session(cn_ledger *l, const char *id, int *fd_out, int64_t *key_out,
                           cn_diag *diag) {
    int64_t key, pid;

    *fd_out = -1;
    CN_TRY(cn_ledger_session_key(l, id, key_out, diag));
    cn_err err = cn_ledger_lock(fd_out, l->lock_path, *key_out, 0, &pid, diag);
    if (err == CN_EBUSY)
        return CN_FAIL(diag, err, "session %s is being written by process %" PRId64, id, pid);
    CN_TRY(err);
    err = cn_ledger_session_key(l, id, &key, diag); // deleted before we had the lock?
    if (!err && key != *key_out) err = CN_FAIL(diag, CN_EBUSY, "session %s was made anew", id);
    if (err) {
        cn_ledger_unlock(*fd_out, *key_out);
        *fd_out = -1;
    }
    return err;
}

static cn_err note_interrupted(cn_ledger_writer *w, cn_ledger_opened *opened, cn_diag *diag) {
    cn_ledger_open_turn turn;
    cn_err              err = cn_ledger_open_turn_find(w, &turn, diag);
    if (err == CN_ENOTFOUND) return CN_OK;
    CN_TRY(err);
    CN_TRY(cn_ledger_calls_interrupt(w->l, turn.key, &opened->interrupted, diag));
    opened->open_turn = turn.turn;
    opened->next_step = turn.next_step;
    return CN_OK;
}

cn_err cn_ledger_writer_open(cn_ledger_writer **out, cn_ledger *l, const char *id,
                             cn_ledger_opened *opened, cn_diag *diag) {
    cn_ledger_opened found = {0};

    *out = NULL;
    if (opened) *opened = found;
    cn_ledger_writer *w = CN_FAULT("store.ledger.memory") ? NULL : malloc(sizeof(*w));
    if (!w) return CN_FAIL(diag, CN_ENOMEM, "no memory to write session %s", id);
    *w = (cn_ledger_writer){.l = l, .fd = -1};
    cn_err err = lock_session(l, id, &w->fd, &w->session, diag);
    if (!err) err = cn_ledger_txn_begin(l, CN_TXN_WRITE, diag);
    if (!err) err = cn_ledger_txn_end(l, note_interrupted(w, &found, diag), diag);
    if (err) {
        cn_ledger_writer_close(w);
        return err;
    }
    if (opened) *opened = found;
    *out = w;
    return CN_OK;
}

void cn_ledger_writer_close(cn_ledger_writer *w) {
    if (!w) return;
    cn_ledger_unlock(w->fd, w->session);
    free(w);
}

cn_err cn_ledger_session_edit(cn_ledger_writer *w, const cn_ledger_edit *edit, cn_diag *diag) {
    char model[CN_HASH_HEX_BYTES];

    CN_TRY(
        check_strings(edit->title, edit->repo, edit->commit, edit->branch, edit->settings, diag));
    CN_TRY(cn_ledger_check_place(w->l, diag));
    if (edit->model) cn_hash_hex(model, edit->model);
    const char *const text[] = {edit->title,  edit->repo,     edit->commit,
                                edit->branch, edit->settings, edit->model ? model : NULL};
    cn_query          q =
        cn_query_open(w->l, "UPDATE sessions SET title = coalesce(?, title),"
                            " repo = coalesce(?, repo), commit_id = coalesce(?, commit_id),"
                            " branch = coalesce(?, branch), settings = coalesce(?, settings),"
                            " model = coalesce(?, model), updated = ? WHERE key = ?");
    for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++) {
        if (text[i]) {
            cn_query_str(&q, text[i]);
        } else {
            cn_query_key(&q, 0);
        }
    }
    cn_query_int(&q, cn_clock_unix_ns());
    cn_query_int(&q, w->session);
    return cn_query_run(&q, diag); // one statement is its own transaction
}

static cn_err set_head(cn_ledger_writer *w, int32_t turn, cn_diag *diag) {
    cn_ledger_open_turn open;
    int64_t             head;

    const cn_err err = cn_ledger_open_turn_find(w, &open, diag);
    if (!err) return CN_FAIL(diag, CN_EINVAL, "turn %d is open: finish it first", open.turn);
    if (err != CN_ENOTFOUND) return err;
    CN_TRY(find_back(w->l, w->session, turn, &head, diag));
    cn_query q = cn_query_open(w->l, "UPDATE sessions SET head = ?, updated = ? WHERE key = ?");
    cn_query_key(&q, head);
    cn_query_int(&q, cn_clock_unix_ns());
    cn_query_int(&q, w->session);
    return cn_query_run(&q, diag);
}

cn_err cn_ledger_rewind(cn_ledger_writer *w, int32_t turn, cn_diag *diag) {
    CN_TRY(cn_ledger_txn_begin(w->l, CN_TXN_WRITE, diag));
    return cn_ledger_txn_end(w->l, set_head(w, turn, diag), diag);
}

/* ---- Deleting ---------------------------------------------------------------------- */

static cn_err delete_session(cn_ledger *l, const char *id, int64_t session, cn_diag *diag) {
    cn_query q = cn_query_open(l, "SELECT id FROM sessions WHERE parent = ? LIMIT 1");
    cn_query_int(&q, session);
    cn_err err = cn_query_step(&q, diag);
    if (!err)
        err = CN_FAIL(diag, CN_EINVAL, "session %s has a fork, %s: remove that first", id,
                      cn_query_get_str(&q));
    cn_query_close(&q);
    if (err != CN_ENOTFOUND) return err;

    q = cn_query_open(l, "DELETE FROM sessions WHERE key = ?"); // the rest hangs on it
    cn_query_int(&q, session);
    CN_TRY(cn_query_run(&q, diag));
    return cn_ledger_pins_forget(l, diag);
}

cn_err cn_ledger_session_del(cn_ledger *l, const char *id, cn_diag *diag) {
    int64_t session;
    int     fd;

    CN_TRY(lock_session(l, id, &fd, &session, diag));
    cn_err err = cn_ledger_txn_begin(l, CN_TXN_WRITE, diag);
    if (!err) err = cn_ledger_txn_end(l, delete_session(l, id, session, diag), diag);
    cn_ledger_unlock(fd, session);
    if (err) return err;
    // Its pages are zeroed in the log; now also in the file, unless a reader holds them back.
    (void)sqlite3_wal_checkpoint_v2(l->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    return CN_OK;
}

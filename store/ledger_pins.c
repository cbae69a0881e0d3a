/* ledger_pins.c - The texts of a view that stays as it was. */
#include "store/ledger_pins.h"

#include "base/clock.h"
#include "store/ledger_int.h"

#include <stdio.h>

cn_err cn_ledger_pins_forget(cn_ledger *l, cn_diag *diag) {
    cn_query q = cn_query_open(l, "DELETE FROM pins WHERE NOT EXISTS"
                                  "(SELECT 1 FROM sessions WHERE sessions.pin = pins.key)");
    return cn_query_run(&q, diag);
}

/* The session has this pin, 0: none, and what nobody has is gone. */
static cn_err set_pin(cn_ledger_writer *w, int64_t pin, cn_diag *diag) {
    cn_query q = cn_query_open(w->l, "UPDATE sessions SET pin = ?, updated = ? WHERE key = ?");
    cn_query_key(&q, pin);
    cn_query_int(&q, cn_clock_unix_ns());
    cn_query_int(&q, w->session);
    CN_TRY(cn_query_run(&q, diag));
    return cn_ledger_pins_forget(w->l, diag);
}

static cn_err put_pin(cn_ledger_writer *w, const cn_ledger_pinned *file, int64_t files,
                      cn_diag *diag) {
    cn_query q = cn_query_open(w->l, "INSERT INTO pins(made, commit_id, branch)"
                                     " SELECT ?, commit_id, branch FROM sessions WHERE key = ?");
    cn_query_int(&q, cn_clock_unix_ns());
    cn_query_int(&q, w->session);
    CN_TRY(cn_query_run(&q, diag));
    const int64_t pin = sqlite3_last_insert_rowid(w->l->db);
    for (int64_t i = 0; i < files; i++) {
        q = cn_query_open(w->l, "INSERT OR IGNORE INTO pinned(pin, path, text) VALUES(?, ?, ?)");
        cn_query_int(&q, pin);
        cn_query_str(&q, file[i].path);
        cn_query_text(&q, file[i].text);
        CN_TRY(cn_query_run(&q, diag));
        if (sqlite3_changes(w->l->db) == 0)
            return CN_FAIL(diag, CN_EINVAL, "pinned twice: %s", file[i].path);
    }
    return set_pin(w, pin, diag);
}

cn_err cn_ledger_pin_put(cn_ledger_writer *w, const cn_ledger_pinned *file, int64_t files,
                         cn_diag *diag) {
    CN_TRY(cn_ledger_check_size("a pinned view", files, "files", CN_LEDGER_DOCUMENTS_MAX, diag));
    for (int64_t i = 0; i < files; i++) {
        CN_TRY(cn_ledger_check_str("a path", file[i].path, diag));
        CN_TRY(cn_ledger_check_text("a pinned file", file[i].text, diag));
    }
    CN_TRY(cn_ledger_txn_begin(w->l, CN_TXN_WRITE, diag));
    return cn_ledger_txn_end(w->l, put_pin(w, file, files, diag), diag);
}

cn_err cn_ledger_pin_del(cn_ledger_writer *w, cn_diag *diag) {
    CN_TRY(cn_ledger_txn_begin(w->l, CN_TXN_WRITE, diag));
    return cn_ledger_txn_end(w->l, set_pin(w, 0, diag), diag);
}

static cn_err find_pin(cn_ledger *l, int64_t session, int64_t *pin_out, cn_ledger_pin *out,
                       cn_diag *diag) {
    cn_query q = cn_query_open(l, "SELECT p.key, p.made, p.commit_id, p.branch,"
                                  " (SELECT count(*) FROM pinned WHERE pin = p.key)"
                                  " FROM sessions s JOIN pins p ON p.key = s.pin WHERE s.key = ?");
    cn_query_int(&q, session);
    const cn_err err = cn_query_step(&q, diag);
    if (!err) {
        *pin_out = cn_query_get_int(&q);
        out->made_ns = cn_query_get_int(&q);
        snprintf(out->commit, sizeof(out->commit), "%s", cn_query_get_str(&q));
        snprintf(out->branch, sizeof(out->branch), "%s", cn_query_get_str(&q));
        out->files = cn_query_get_int(&q);
    }
    cn_query_close(&q);
    return err;
}

static cn_err get_pin(cn_ledger *l, const char *session, cn_ledger_pin *out, cn_ledger_pinned_fn fn,
                      void *ctx, cn_diag *diag) {
    int64_t key, pin;
    cn_err  err;
    CN_TRY(cn_ledger_session_key(l, session, &key, diag));
    CN_TRY(find_pin(l, key, &pin, out, diag));
    if (!fn) return CN_OK;
    cn_query q = cn_query_open(l, "SELECT path, text FROM pinned WHERE pin = ? ORDER BY path");
    cn_query_int(&q, pin);
    while ((err = cn_query_step(&q, diag)) == CN_OK) {
        cn_ledger_pinned file;
        file.path = cn_query_get_str(&q);
        file.text = cn_query_get_text(&q);
        CN_CALL_BACK(l, fn(ctx, &file));
    }
    cn_query_close(&q);
    return err == CN_ENOTFOUND ? CN_OK : err;
}

cn_err cn_ledger_pin_get(cn_ledger *l, const char *session, cn_ledger_pin *out,
                         cn_ledger_pinned_fn fn, void *ctx, cn_diag *diag) {
    cn_ledger_pin none;
    if (!out) out = &none;
    *out = (cn_ledger_pin){0};
    CN_TRY(cn_ledger_txn_begin(l, CN_TXN_READ, diag));
    return cn_ledger_txn_end(l, get_pin(l, session, out, fn, ctx, diag), diag);
}

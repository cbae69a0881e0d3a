/* ledger_known.c - Keys that were stored once, and blobs under other keys. */
#include "store/ledger_known.h"

#include "store/ledger_int.h"

#include <string.h>

static cn_err put_stored(cn_ledger *l, const cn_hash *key, int64_t keys, cn_diag *diag) {
    for (int64_t i = 0; i < keys; i++) {
        cn_query q = cn_query_open(l, "INSERT OR IGNORE INTO stored(document) VALUES(?)");
        cn_query_text(&q, (cn_ledger_text){key[i].bytes, CN_HASH_BYTES});
        CN_TRY(cn_query_run(&q, diag));
    }
    cn_query q =
        cn_query_open(l, "DELETE FROM stored WHERE key <= (SELECT max(key) FROM stored) - ?");
    cn_query_int(&q, CN_LEDGER_STORED_MAX);
    return cn_query_run(&q, diag);
}

cn_err cn_ledger_stored_put(cn_ledger *l, const cn_hash *key, int64_t keys, cn_diag *diag) {
    if (keys == 0) return CN_OK;
    CN_TRY(cn_ledger_txn_begin(l, CN_TXN_WRITE, diag));
    return cn_ledger_txn_end(l, put_stored(l, key, keys, diag), diag);
}

cn_err cn_ledger_stored_has(cn_ledger *l, const cn_hash *key, bool *out, cn_diag *diag) {
    cn_query q = cn_query_open(l, "SELECT 1 FROM stored WHERE document = ?");
    cn_query_text(&q, (cn_ledger_text){key->bytes, CN_HASH_BYTES});
    const cn_err err = cn_query_step(&q, diag);
    cn_query_close(&q);
    *out = err == CN_OK;
    return err == CN_ENOTFOUND ? CN_OK : err;
}

static cn_err is_any_known(cn_ledger *l, const cn_ledger_elsewhere *a, cn_ledger_text pieces,
                           bool *out, cn_diag *diag) {
    *out = false;
    for (size_t at = 0; !*out && at + sizeof(cn_ledger_piece) <= pieces.bytes;
         at += sizeof(cn_ledger_piece)) {
        cn_ledger_piece piece;
        memcpy(&piece, (const char *)pieces.data + at, sizeof(piece));
        if (a->is_held) CN_CALL_BACK(l, *out = a->is_held(a->ctx, &piece.key));
        if (!*out) CN_TRY(cn_ledger_stored_has(l, &piece.key, out, diag));
    }
    return CN_OK;
}

static cn_err look_elsewhere(cn_ledger *l, const cn_ledger_elsewhere *a, cn_known *out,
                             cn_diag *diag) {
    char   model[CN_HASH_HEX_BYTES], weights[CN_HASH_HEX_BYTES];
    bool   is_known = false;
    cn_err err;
    cn_hash_hex(model, &a->cut->model);
    cn_hash_hex(weights, a->cut->weights);
    cn_query q = cn_query_open(
        l, "SELECT b.pieces, d.weights = ? FROM blobs b JOIN domains d ON d.id = b.model"
           " WHERE b.path = ? AND b.blob = ? AND b.tenant = ?"
           " AND NOT(b.model = ? AND b.version = ?) ORDER BY 2 DESC, b.key DESC");
    cn_query_str(&q, weights);
    cn_query_str(&q, a->blob->path);
    cn_query_text(&q, (cn_ledger_text){a->blob->id, (size_t)a->blob->id_bytes});
    cn_query_str(&q, a->cut->tenant);
    cn_query_str(&q, model);
    cn_query_int(&q, a->cut->version);
    while (!is_known && (err = cn_query_step(&q, diag)) == CN_OK) {
        const cn_ledger_text pieces = cn_query_get_text(&q);
        const bool           is_same_model = cn_query_get_int(&q) != 0;
        err = is_any_known(l, a, pieces, &is_known, diag);
        if (err) break;
        if (is_known) *out = is_same_model ? CN_KNOWN_FORMAT : CN_KNOWN_MODEL;
    }
    cn_query_close(&q);
    return is_known || err == CN_ENOTFOUND ? CN_OK : err;
}

cn_err cn_ledger_blob_elsewhere(cn_ledger *l, const cn_ledger_elsewhere *args, cn_known *out,
                                cn_diag *diag) {
    *out = CN_KNOWN_NOT;
    CN_TRY(cn_ledger_txn_begin(l, CN_TXN_READ, diag));
    return cn_ledger_txn_end(l, look_elsewhere(l, args, out, diag), diag);
}

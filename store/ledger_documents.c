/* ledger_documents.c - The documents of a session's view, and how known blobs are cut. */
#include "base/clock.h"
#include "base/fault.h"
#include "store/ledger_int.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(cn_ledger_piece) == 44, "as the schema's check says");

static const char *const kind_names[] = {
#define X(name, text) text,
    CN_DOCUMENT_LIST(X)
#undef X
};

static cn_err check_piece(const cn_ledger_piece *piece, const char *path, cn_diag *diag) {
    if (piece->tokens < 0 || piece->first_line < 0 || piece->lines < 0)
        return CN_FAIL(diag, CN_EINVAL, "a document of %d tokens, %d lines from line %d: %s",
                       piece->tokens, piece->lines, piece->first_line, path);
    return CN_OK;
}

/* ---- Generations ------------------------------------------------------------------- */

static cn_err insert_document(cn_ledger *l, int64_t generation, int64_t ordinal,
                              const cn_ledger_document *d, cn_diag *diag) {
    cn_query q = cn_query_open(l, "INSERT INTO documents(generation, ordinal, path, document,"
                                  " tokens, first_line, lines, kind)"
                                  " VALUES(?, ?, ?, ?, ?, ?, ?, ?)");
    cn_query_int(&q, generation);
    cn_query_int(&q, ordinal);
    cn_query_str(&q, d->path);
    cn_query_text(&q, (cn_ledger_text){d->piece.key.bytes, CN_HASH_BYTES});
    cn_query_int(&q, d->piece.tokens);
    cn_query_int(&q, d->piece.first_line);
    cn_query_int(&q, d->piece.lines);
    cn_query_str(&q, kind_names[d->kind]);
    return cn_query_run(&q, diag);
}

static cn_err current_generation(cn_ledger *l, int64_t session, int64_t *out, cn_diag *diag) {
    cn_query q = cn_query_open(l, "SELECT generation FROM sessions WHERE key = ?");
    *out = 0;
    cn_query_int(&q, session);
    const cn_err err = cn_query_step(&q, diag);
    if (!err) *out = cn_query_get_int(&q);
    cn_query_close(&q);
    return err == CN_ENOTFOUND ? CN_OK : err;
}

static cn_err put_documents(cn_ledger_writer *w, const cn_ledger_document *document,
                            int64_t documents, int64_t *generation_out, cn_diag *diag) {
    int64_t before;

    CN_TRY(current_generation(w->l, w->session, &before, diag));
    cn_query q = cn_query_open(w->l, "INSERT INTO generations(session, made, commit_id, branch)"
                                     " SELECT key, ?, commit_id, branch FROM sessions"
                                     " WHERE key = ?");
    cn_query_int(&q, cn_clock_unix_ns());
    cn_query_int(&q, w->session);
    CN_TRY(cn_query_run(&q, diag));
    const int64_t generation = sqlite3_last_insert_rowid(w->l->db);
    for (int64_t i = 0; i < documents; i++)
        CN_TRY(insert_document(w->l, generation, i, &document[i], diag));

    q = cn_query_open(w->l, "UPDATE sessions SET generation = ? WHERE key = ?");
    cn_query_int(&q, generation);
    cn_query_int(&q, w->session);
    CN_TRY(cn_query_run(&q, diag));
    q = cn_query_open(w->l, "DELETE FROM generations WHERE key = ?1"
                            " AND NOT EXISTS(SELECT 1 FROM steps WHERE generation = ?1)"
                            " AND NOT EXISTS(SELECT 1 FROM sessions WHERE generation = ?1)");
    cn_query_int(&q, before);
    CN_TRY(cn_query_run(&q, diag));
    *generation_out = generation;
    return CN_OK;
}

cn_err cn_ledger_documents_put(cn_ledger_writer *w, const cn_ledger_document *document,
                               int64_t documents, int64_t *generation_out, cn_diag *diag) {
    int64_t generation = 0;

    if (generation_out) *generation_out = 0;
    CN_TRY(cn_ledger_check_size("a view", documents, "documents", CN_LEDGER_DOCUMENTS_MAX, diag));
    for (int64_t i = 0; i < documents; i++) {
        CN_TRY(cn_ledger_check_str("a path", document[i].path, diag));
        CN_TRY(check_piece(&document[i].piece, document[i].path, diag));
        if ((unsigned)document[i].kind >= CN_DOCUMENT_COUNT)
            return CN_FAIL(diag, CN_EINVAL, "a document of kind %d: %s", (int)document[i].kind,
                           document[i].path);
    }
    CN_TRY(cn_ledger_txn_begin(w->l, CN_TXN_WRITE, diag));
    CN_TRY(cn_ledger_txn_end(w->l, put_documents(w, document, documents, &generation, diag), diag));
    if (generation_out) *generation_out = generation;
    return CN_OK;
}

static cn_err need_generation(cn_ledger *l, int64_t generation, cn_diag *diag) {
    cn_query q = cn_query_open(l, "SELECT 1 FROM generations WHERE key = ?");
    cn_query_int(&q, generation);
    const cn_err err = cn_query_step(&q, diag);
    cn_query_close(&q);
    if (err == CN_ENOTFOUND)
        return CN_FAIL(diag, err, "no generation %lld of documents", (long long)generation);
    return err;
}

cn_err cn_ledger_document_rows(cn_query *q, cn_ledger_document_fn fn, void *ctx, cn_diag *diag) {
    cn_ledger *l = q->l;
    cn_err     err;
    while ((err = cn_query_step(q, diag)) == CN_OK) {
        cn_ledger_document d;
        d.path = cn_query_get_str(q);
        const cn_ledger_text id = cn_query_get_text(q);
        if (id.bytes != CN_HASH_BYTES) {
            err = CN_FAIL(diag, CN_ECORRUPT, "key of %zu bytes for %s in %s", id.bytes, d.path,
                          l->path);
            break;
        }
        memcpy(d.piece.key.bytes, id.data, CN_HASH_BYTES);
        d.piece.tokens = (int32_t)cn_query_get_int(q);
        d.piece.first_line = (int32_t)cn_query_get_int(q);
        d.piece.lines = (int32_t)cn_query_get_int(q);
        d.kind = (cn_document_kind)cn_query_get_name(q, kind_names, CN_DOCUMENT_COUNT);
        CN_CALL_BACK(l, fn(ctx, &d));
    }
    cn_query_close(q);
    return err == CN_ENOTFOUND ? CN_OK : err;
}

static cn_err list_documents(cn_ledger *l, const char *session, int64_t generation,
                             cn_ledger_document_fn fn, void *ctx, cn_diag *diag) {
    int64_t key;

    CN_TRY(cn_ledger_session_key(l, session, &key, diag));
    if (generation) {
        CN_TRY(need_generation(l, generation, diag));
    } else {
        CN_TRY(current_generation(l, key, &generation, diag));
    }
    cn_query q = cn_query_open(l, "SELECT path, document, tokens, first_line, lines, kind"
                                  " FROM documents WHERE generation = ? ORDER BY ordinal");
    cn_query_int(&q, generation);
    return cn_ledger_document_rows(&q, fn, ctx, diag);
}

cn_err cn_ledger_documents(cn_ledger *l, const char *session, int64_t generation,
                           cn_ledger_document_fn fn, void *ctx, cn_diag *diag) {
    CN_TRY(cn_ledger_txn_begin(l, CN_TXN_READ, diag));
    return cn_ledger_txn_end(l, list_documents(l, session, generation, fn, ctx, diag), diag);
}

cn_err cn_ledger_generation_get(cn_ledger *l, int64_t generation,
                                void (*fn)(void *ctx, const cn_ledger_generation *g), void *ctx,
                                cn_diag *diag) {
    cn_query q = cn_query_open(l, "SELECT made, commit_id, branch FROM generations WHERE key = ?");
    cn_query_int(&q, generation);
    const cn_err err = cn_query_step(&q, diag);
    if (!err) {
        cn_ledger_generation g;
        g.made_ns = cn_query_get_int(&q);
        g.commit = cn_query_get_str(&q);
        g.branch = cn_query_get_str(&q);
        CN_CALL_BACK(l, fn(ctx, &g));
    }
    cn_query_close(&q);
    if (err == CN_ENOTFOUND)
        return CN_FAIL(diag, err, "no generation %lld of documents", (long long)generation);
    return err;
}

/* ---- Blobs ------------------------------------------------------------------------- */

static cn_err check_blob(const cn_ledger_cut *cut, const cn_ledger_blob *blob, cn_diag *diag) {
    CN_TRY(cn_ledger_check_str("a tenant", cut->tenant, diag));
    CN_TRY(cn_ledger_check_str("a path", blob->path, diag));
    CN_TRY(
        cn_ledger_check_size("a blob id", blob->id_bytes, "bytes", CN_LEDGER_ID_BYTES_MAX, diag));
    return cn_ledger_check_size("a blob", blob->pieces, "pieces", CN_LEDGER_PIECES_MAX, diag);
}

/* The five columns that name a blob. */
static void put_blob_name(cn_query *q, const cn_ledger_cut *cut, const char *model_hex,
                          const cn_ledger_blob *blob) {
    cn_query_str(q, blob->path);
    cn_query_text(q, (cn_ledger_text){blob->id, (size_t)blob->id_bytes});
    cn_query_str(q, model_hex);
    cn_query_str(q, cut->tenant);
    cn_query_int(q, cut->version);
}

/* What the cut's keys are of. */
static cn_err put_domain(cn_ledger *l, const cn_ledger_cut *cut, const char *model_hex,
                         cn_diag *diag) {
    char weights[CN_HASH_HEX_BYTES];
    if (!cut->weights) return CN_OK;
    cn_hash_hex(weights, cut->weights);
    cn_query q =
        cn_query_open(l, "INSERT OR IGNORE INTO domains(id, weights, layout) VALUES(?, ?, ?)");
    cn_query_str(&q, model_hex);
    cn_query_str(&q, weights);
    cn_query_str(&q, cut->layout);
    return cn_query_run(&q, diag);
}

static cn_err put_blobs(cn_ledger *l, const cn_ledger_cut *cut, const cn_ledger_blob *blob,
                        int64_t blobs, cn_diag *diag) {
    char model[CN_HASH_HEX_BYTES];

    cn_hash_hex(model, &cut->model);
    CN_TRY(put_domain(l, cut, model, diag));
    for (int64_t i = 0; i < blobs; i++) {
        cn_query q = cn_query_open(l, "REPLACE INTO blobs(path, blob, model, tenant, version,"
                                      " pieces) VALUES(?, ?, ?, ?, ?, ?)");
        put_blob_name(&q, cut, model, &blob[i]);
        cn_query_text(
            &q, (cn_ledger_text){blob[i].piece, (size_t)blob[i].pieces * sizeof(cn_ledger_piece)});
        CN_TRY(cn_query_run(&q, diag));
    }
    cn_query q =
        cn_query_open(l, "DELETE FROM blobs WHERE key <= (SELECT max(key) FROM blobs) - ?");
    cn_query_int(&q, CN_LEDGER_BLOBS_MAX);
    return cn_query_run(&q, diag);
}

cn_err cn_ledger_blobs_put(cn_ledger *l, const cn_ledger_cut *cut, const cn_ledger_blob *blob,
                           int64_t blobs, cn_diag *diag) {
    for (int64_t i = 0; i < blobs; i++) {
        CN_TRY(check_blob(cut, &blob[i], diag));
        for (int32_t piece = 0; piece < blob[i].pieces; piece++)
            CN_TRY(check_piece(&blob[i].piece[piece], blob[i].path, diag));
    }
    CN_TRY(cn_ledger_txn_begin(l, CN_TXN_WRITE, diag));
    return cn_ledger_txn_end(l, put_blobs(l, cut, blob, blobs, diag), diag);
}

cn_err cn_ledger_blob_get(cn_ledger *l, const cn_ledger_cut *cut, const cn_ledger_blob *blob,
                          cn_ledger_piece **piece_out, int32_t *pieces_out, cn_diag *diag) {
    char model[CN_HASH_HEX_BYTES];

    *piece_out = NULL;
    *pieces_out = 0;
    cn_hash_hex(model, &cut->model);
    cn_query q = cn_query_open(l, "SELECT pieces FROM blobs WHERE path = ? AND blob = ?"
                                  " AND model = ? AND tenant = ? AND version = ?");
    put_blob_name(&q, cut, model, blob);
    cn_err err = cn_query_step(&q, diag);
    if (!err) {
        const cn_ledger_text pieces = cn_query_get_text(&q);
        if (pieces.bytes % sizeof(cn_ledger_piece)) {
            err = CN_FAIL(diag, CN_ECORRUPT, "pieces of %zu bytes for %s in %s", pieces.bytes,
                          blob->path, l->path);
        } else if (pieces.bytes > 0) {
            *piece_out = CN_FAULT("store.ledger.memory") ? NULL : malloc(pieces.bytes);
            if (!*piece_out) {
                err = CN_FAIL(diag, CN_ENOMEM, "no memory for the pieces of %s", blob->path);
            } else {
                memcpy(*piece_out, pieces.data, pieces.bytes);
                *pieces_out = (int32_t)(pieces.bytes / sizeof(cn_ledger_piece));
            }
        }
    }
    cn_query_close(&q);
    return err;
}

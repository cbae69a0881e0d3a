/* cache_verify.c - Every checksum, and the bits of documents that are prefilled again. */
#include "base/rand.h"
#include "sessions/cache.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct keys {
    cn_hash *key;
    int64_t  count, room;
    bool     is_out_of_memory;
} keys;

static bool on_entry(void *ctx, const cn_pages_entry *e) {
    keys *k = ctx;
    if (!e->has_doc || e->pages == 0) return true;
    if (k->count == k->room) {
        const int64_t room = k->room ? 2 * k->room : 256;
        cn_hash      *more = realloc(k->key, (size_t)room * sizeof(*more));
        k->is_out_of_memory = !more;
        if (!more) return false;
        k->key = more;
        k->room = room;
    }
    k->key[k->count++] = *e->key;
    return true;
}

static void shuffle(keys *k) {
    uint64_t seed;
    cn_random(&seed, sizeof(seed));
    for (int64_t i = k->count - 1; i > 0; i--) {
        const int64_t j = (int64_t)(cn_rand_next(&seed) % (uint64_t)(i + 1));
        const cn_hash t = k->key[i];
        k->key[i] = k->key[j];
        k->key[j] = t;
    }
}

/* Prefill a document as it was the first time. */
static cn_err prefill(cn_host *h, cn_doc *doc, const int32_t *token, int64_t tokens,
                      cn_diag *diag) {
    cn_doc_reset(doc);
    for (int64_t at = 0; at < tokens;) {
        const int64_t left = tokens - at;
        cn_slice      slice = {.doc = doc,
                               .token = token + at,
                               .tokens = left < CN_STEP_ROWS ? (int32_t)left : CN_STEP_ROWS};
        CN_TRY(cn_engine_step(h->engine, &slice, 1, NULL, diag));
        at += slice.tokens;
    }
    return CN_OK;
}

/* Whether the store has the bits of `doc`; a page that it lacks is no other bit. */
static bool has_bits(cn_host *h, cn_pages_txn *txn, const cn_hash *key, const cn_doc *doc) {
    for (int64_t p = 0; p < cn_doc_pages(doc); p++) {
        const cn_page_ref want = cn_doc_page(doc, p);
        cn_pages_page     found;
        if (cn_pages_get(txn, key, (int32_t)p, &found) != CN_PAGES_HIT) continue;
        if (found.tokens != want.tokens ||
            memcmp(found.body, want.body, (size_t)cn_engine_page_bytes(h->engine)) != 0)
            return false;
    }
    return true;
}

static cn_err verify_one(cn_host *h, cn_pages_txn *txn, cn_doc *doc, const cn_hash *key,
                         bool *is_wrong, cn_cache_verified *out, cn_diag *diag) {
    cn_pages_doc record;
    *is_wrong = false;
    if (cn_pages_get_doc(txn, key, &record) != CN_PAGES_HIT) return CN_OK;
    const cn_hash own = cn_document_key(&h->domain, record.token, record.tokens);
    if (!cn_hash_is_equal(&own, key) || record.tokens > CN_DOCUMENT_TOKENS_MAX) {
        out->foreign++;
        return CN_OK;
    }
    CN_TRY(prefill(h, doc, record.token, record.tokens, diag));
    *is_wrong = !has_bits(h, txn, key, doc);
    out->documents++;
    out->tokens += record.tokens;
    out->wrong += *is_wrong;
    return CN_OK;
}

static cn_err verify_sample(cn_host *h, int64_t sample, keys *k, cn_doc *doc,
                            cn_cache_verified *out, cn_diag *diag) {
    cn_pages_txn *txn;
    int64_t       wrong = 0; // moved to the front
    CN_TRY(cn_pages_begin(&txn, h->pages, diag));
    cn_err err = cn_pages_each(txn, on_entry, k, diag);
    if (!err && k->is_out_of_memory)
        err = CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " keys", k->count);
    if (!err) shuffle(k);
    for (int64_t i = 0; i < k->count && out->documents < sample && !err; i++) {
        const cn_hash key = k->key[i];
        bool          is_wrong;
        err = verify_one(h, txn, doc, &key, &is_wrong, out, diag);
        if (!err && is_wrong) k->key[wrong++] = key;
    }
    cn_pages_end(txn);
    return err ? err : cn_pages_delete(h->pages, k->key, wrong, diag);
}

cn_err cn_cache_verify(cn_host *h, int64_t sample, cn_cache_verified *out, cn_diag *diag) {
    keys    k = {0};
    cn_doc *doc;
    *out = (cn_cache_verified){0};
    CN_TRY(cn_pages_verify(h->pages, &out->values, diag));
    if (sample <= 0) return CN_OK;
    CN_TRY(cn_doc_create(&doc, h->engine, CN_DOCUMENT_TOKENS_MAX, true, diag));
    const cn_err err = verify_sample(h, sample, &k, doc, out, diag);
    cn_doc_free(doc);
    free(k.key);
    return err;
}

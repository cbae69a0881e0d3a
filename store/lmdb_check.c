/* lmdb_check.c - One walk over the trees of an LMDB file, each page claimed once. */
#include "store/lmdb_check_int.h"

#include <stdlib.h>
#include <string.h>

enum {
    PAGE_HEADER_BYTES = 16,
    NODE_HEADER_BYTES = 8,
    KEY_BYTES_MAX = 511,
    DEPTH_MAX = 24, // LMDB's own limit is 32; 24 levels of two keys are 16 million pages

    PAGE_BRANCH = 0x01,
    PAGE_LEAF = 0x02,
    PAGE_OVERFLOW = 0x04,
    PAGE_META = 0x08,
    NODE_BIG = 0x01,
    TREE_INTEGER_KEY = 0x08,
};

#define META_MAGIC UINT32_C(0xBEEFC0DE)
#define META_VERSION 1
#define NO_ROOT UINT64_MAX

typedef struct page_header {
    uint64_t pgno;
    uint16_t pad, flags, lower, upper;
} page_header;

typedef struct tree {
    uint32_t pad;
    uint16_t flags, depth;
    uint64_t branches, leaves, overflows, entries, root;
} tree;

typedef struct meta {
    uint32_t magic, version;
    uint64_t address, map_bytes;
    tree     free, main;
    uint64_t last_page, txn;
} meta;

_Static_assert(sizeof(page_header) == PAGE_HEADER_BYTES && sizeof(tree) == 48 &&
                   sizeof(meta) == 136,
               "as LMDB lays them out");

typedef struct node {
    uint64_t       child; // of a branch
    const uint8_t *key, *data;
    size_t         key_bytes, data_bytes, bytes;
    uint64_t       big; // first page of the data's overflow run; 0: `data` lies here
} node;

typedef struct walk {
    const uint8_t *file;
    uint64_t       file_pages, page_bytes;
    meta           m;
    uint64_t      *seen; // a bit for each page up to last_page
    uint64_t       claimed;
    bool           is_free; // walking the tree of free pages
    tree           found;   // what the walk counted
    uint8_t        key[KEY_BYTES_MAX];
    size_t         key_bytes; // of the last key passed
    bool           has_key;
    cn_diag       *diag;
} walk;

#define BAD(w, pgno, ...) bad_page((w), (pgno), __LINE__, __VA_ARGS__)

static cn_err bad_page(walk *w, uint64_t pgno, int line, const char *why) {
    return cn_fail(w->diag, CN_ECORRUPT, __FILE__, line, "page %llu of the cache: %s",
                   (unsigned long long)pgno, why);
}

/* Pages pgno, ..., pgno + n - 1 are used here, and nowhere else. */
static cn_err claim(walk *w, uint64_t pgno, uint64_t n) {
    if (pgno < 2 || pgno > w->m.last_page || n > w->m.last_page - pgno + 1)
        return BAD(w, pgno, "out of range");
    for (uint64_t i = pgno; i < pgno + n; i++) {
        if (w->seen[i / 64] >> i % 64 & 1) return BAD(w, i, "used twice");
        w->seen[i / 64] |= UINT64_C(1) << i % 64;
    }
    w->claimed += n;
    return CN_OK;
}

static cn_err claim_in_file(walk *w, uint64_t pgno, uint64_t n) {
    CN_TRY(claim(w, pgno, n));
    return pgno + n > w->file_pages ? BAD(w, pgno, "behind the end of the file") : CN_OK;
}

static uint64_t overflow_pages(uint64_t bytes, uint64_t page_bytes) {
    return (PAGE_HEADER_BYTES - 1 + bytes) / page_bytes + 1;
}

bool cn_lmdb_overflow_is_sound(uintptr_t base, const uint8_t *value, size_t bytes,
                               size_t page_bytes) {
    page_header h;
    memcpy(&h, value - PAGE_HEADER_BYTES, sizeof(h));
    const uint64_t  pages = h.lower | (uint64_t)h.upper << 16;
    const uintptr_t at = (uintptr_t)value - base - PAGE_HEADER_BYTES;
    return h.flags == PAGE_OVERFLOW && pages == overflow_pages(bytes, page_bytes) &&
           at % page_bytes == 0 && h.pgno == at / page_bytes;
}

static cn_err read_node(walk *w, node *out, uint64_t pgno, const page_header *h, int i) {
    const uint8_t *page = w->file + pgno * w->page_bytes;
    uint16_t       offset, f[4]; // lo, hi, flags, key bytes

    *out = (node){0};
    memcpy(&offset, page + PAGE_HEADER_BYTES + 2 * i, 2);
    if (offset < h->upper || offset % 2 || offset > w->page_bytes - NODE_HEADER_BYTES)
        return BAD(w, pgno, "a node out of place");
    memcpy(f, page + offset, sizeof(f));
    const uint64_t lo_hi = f[0] | (uint64_t)f[1] << 16;
    const size_t   room = w->page_bytes - offset - NODE_HEADER_BYTES;
    out->key = page + offset + NODE_HEADER_BYTES;
    out->key_bytes = f[3];
    if (out->key_bytes > KEY_BYTES_MAX || out->key_bytes > room)
        return BAD(w, pgno, "a key too long");

    size_t inside = 0;
    if (h->flags == PAGE_BRANCH) {
        out->child = lo_hi | (uint64_t)f[2] << 32;
    } else {
        out->data = out->key + out->key_bytes;
        out->data_bytes = lo_hi;
        if (f[2] & ~NODE_BIG) return BAD(w, pgno, "a node of unknown kind");
        inside = f[2] == NODE_BIG ? sizeof(uint64_t) : out->data_bytes;
        if (inside > room - out->key_bytes) return BAD(w, pgno, "data too long");
        if (f[2] == NODE_BIG) memcpy(&out->big, out->data, sizeof(out->big));
        if (f[2] == NODE_BIG && out->big < 2) return BAD(w, pgno, "data in a meta page");
    }
    out->bytes = (NODE_HEADER_BYTES + out->key_bytes + inside + 1) / 2 * 2;
    return CN_OK;
}

/* Order of `key` and the last key passed, as LMDB compares them. */
static int compare_to_last(const walk *w, const uint8_t *key, size_t key_bytes) {
    if (w->is_free) {
        uint64_t a, b;
        memcpy(&a, key, sizeof(a));
        memcpy(&b, w->key, sizeof(b));
        return a < b ? -1 : a > b;
    }
    const int c = memcmp(key, w->key, key_bytes < w->key_bytes ? key_bytes : w->key_bytes);
    return c ? c : key_bytes < w->key_bytes ? -1 : key_bytes > w->key_bytes;
}

/* Keys ascend through the whole tree; a branch's key lies between its neighbours, so a
 * leaf may equal the branch key just passed. */
static cn_err pass_key(walk *w, uint64_t pgno, const node *n, bool may_equal) {
    if (n->key_bytes == 0 || (w->is_free && n->key_bytes != sizeof(uint64_t)))
        return BAD(w, pgno, "a key of the wrong size");
    const int c = w->has_key ? compare_to_last(w, n->key, n->key_bytes) : 1;
    if (c < 0 || (c == 0 && !may_equal)) return BAD(w, pgno, "keys out of order");
    memcpy(w->key, n->key, n->key_bytes);
    w->key_bytes = n->key_bytes;
    w->has_key = true;
    return CN_OK;
}

/* A record of the free list: its pages are nowhere else. */
static cn_err check_free_record(walk *w, uint64_t pgno, const node *n) {
    const uint8_t *data = n->big ? w->file + n->big * w->page_bytes + PAGE_HEADER_BYTES : n->data;
    uint64_t       txn, count, id, last = UINT64_MAX;

    memcpy(&txn, n->key, sizeof(txn));
    if (txn == 0 || txn > w->m.txn) return BAD(w, pgno, "freed by no transaction");
    if (n->data_bytes < 8 || n->data_bytes % 8) return BAD(w, pgno, "a free list of odd size");
    memcpy(&count, data, sizeof(count));
    if (count > n->data_bytes / 8 - 1) return BAD(w, pgno, "a free list too long");
    for (uint64_t i = 1; i <= count; i++, last = id) {
        memcpy(&id, data + 8 * i, sizeof(id));
        if (id >= last) return BAD(w, pgno, "a free list out of order");
        CN_TRY(claim(w, id, 1));
    }
    return CN_OK;
}

static cn_err check_leaf_node(walk *w, uint64_t pgno, const node *n, bool may_equal) {
    CN_TRY(pass_key(w, pgno, n, may_equal));
    w->found.entries++;
    if (n->big) {
        const uint64_t pages = overflow_pages(n->data_bytes, w->page_bytes);
        CN_TRY(claim_in_file(w, n->big, pages));
        w->found.overflows += pages;
    }
    return w->is_free ? check_free_record(w, pgno, n) : CN_OK;
}

/* `follows_branch_key`: the last key passed is the branch key of this page. */
static cn_err walk_page(walk *w, uint64_t pgno, int depth, bool follows_branch_key) {
    page_header h;
    CN_TRY(claim_in_file(w, pgno, 1));
    memcpy(&h, w->file + pgno * w->page_bytes, sizeof(h));
    const bool is_leaf = h.flags == PAGE_LEAF;
    const int  nodes = (h.lower - PAGE_HEADER_BYTES) / 2;
    if (h.pgno != pgno) return BAD(w, pgno, "has another number");
    if (h.pad || h.lower % 2 || h.lower < PAGE_HEADER_BYTES || h.lower > h.upper ||
        h.upper > w->page_bytes || h.upper % 2)
        return BAD(w, pgno, "its header has no sense");
    if (h.flags != (depth == 1 ? PAGE_LEAF : PAGE_BRANCH)) return BAD(w, pgno, "of the wrong kind");
    if (nodes < (is_leaf || w->is_free ? 1 : 2)) return BAD(w, pgno, "too few nodes");
    if (is_leaf)
        w->found.leaves++;
    else
        w->found.branches++;

    size_t filled = 0;
    for (int i = 0; i < nodes; i++) {
        node n;
        CN_TRY(read_node(w, &n, pgno, &h, i));
        filled += n.bytes;
        const bool is_first = i == 0 && follows_branch_key;
        if (is_leaf) {
            CN_TRY(check_leaf_node(w, pgno, &n, is_first));
        } else { // the first key of a branch says nothing
            if (i > 0) CN_TRY(pass_key(w, pgno, &n, false));
            CN_TRY(walk_page(w, n.child, depth - 1, i > 0 || is_first));
        }
    }
    return filled == w->page_bytes - h.upper ? CN_OK : BAD(w, pgno, "nodes overlap");
}

static cn_err walk_tree(walk *w, const tree *t, bool is_free) {
    w->is_free = is_free;
    w->has_key = false;
    w->found = (tree){
        .pad = t->pad, .flags = is_free ? TREE_INTEGER_KEY : 0, .depth = t->depth, .root = t->root};
    if (t->depth > DEPTH_MAX || (t->depth == 0) != (t->root == NO_ROOT))
        return BAD(w, t->root, "a root of impossible depth");
    if (t->depth > 0) CN_TRY(walk_page(w, t->root, t->depth, false));
    return memcmp(t, &w->found, sizeof(*t)) == 0 ? CN_OK
                                                 : BAD(w, t->root, "its tree has other counts");
}

static cn_err check_meta(walk *w, int i, cn_diag *diag) {
    page_header    h;
    meta           m;
    const uint64_t pages = w->page_bytes;
    memcpy(&h, w->file + (uint64_t)i * w->page_bytes, sizeof(h));
    memcpy(&m, w->file + (uint64_t)i * w->page_bytes + sizeof(h), sizeof(m));
    if (h.pgno != (uint64_t)i || h.flags != PAGE_META || m.magic != META_MAGIC)
        return BAD(w, (uint64_t)i, "no LMDB meta page");
    if (m.version != META_VERSION)
        return CN_FAIL(diag, CN_EUNSUPPORTED, "the cache is LMDB format %u, not %d", m.version,
                       META_VERSION);
    if (m.free.pad != w->page_bytes)
        return CN_FAIL(diag, CN_EUNSUPPORTED, "the cache has pages of %u bytes, not %llu",
                       m.free.pad, (unsigned long long)w->page_bytes);
    if (m.last_page < 1 || m.last_page >= m.map_bytes / pages || m.map_bytes >> 48)
        return BAD(w, (uint64_t)i, "a map of impossible size");
    if (i == 0 || m.txn > w->m.txn) {
        if (m.txn % 2 != (uint64_t)i) return BAD(w, (uint64_t)i, "a transaction out of place");
        w->m = m;
    }
    return CN_OK;
}

cn_err cn_lmdb_check(const uint8_t *file, size_t bytes, size_t page_bytes, uint64_t *unused_out,
                     cn_diag *diag) {
    walk w = {
        .file = file, .file_pages = bytes / page_bytes, .page_bytes = page_bytes, .diag = diag};

    *unused_out = 0;
    if (w.file_pages < 2) return CN_FAIL(diag, CN_ECORRUPT, "the cache has only %zu bytes", bytes);
    CN_TRY(check_meta(&w, 0, diag));
    CN_TRY(check_meta(&w, 1, diag));

    w.seen = calloc(w.m.last_page / 64 + 1, sizeof(*w.seen));
    if (!w.seen)
        return CN_FAIL(diag, CN_ENOMEM, "no memory to check a cache of %llu pages",
                       (unsigned long long)w.m.last_page);
    cn_err err = walk_tree(&w, &w.m.free, true);
    if (!err) err = walk_tree(&w, &w.m.main, false);
    if (!err) *unused_out = w.m.last_page - 1 - w.claimed;
    free(w.seen);
    return err;
}

/*
 * tokenizer_load.c - tokenizer.json, checked in full, to a cn_tokenizer.
 *
 * Vocabulary and merges are written in GPT-2's alphabet, one printable character for
 * each byte; here they become bytes at once, and pieces are never spelled that way.
 */
#include "engine/tokenizer_int.h"

#include "base/fault.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
    JSON_DEPTH_MAX = 32,
    JSON_VALUES_MAX = 1 << 25,
    ALPHABET_CODES = 0x144, // its largest code point + 1
    QUOTE_BYTES = 48,
};

static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

typedef struct loader {
    cn_tokenizer *t;
    cn_diag      *diag;
    cn_added_set  added; // all of them, sorted by content as it is written
    bool          has_byte_level;
    bool          ignore_merges;
    bool          has_unk;
    int16_t       byte_of[ALPHABET_CODES];                             // -1: not in the alphabet
    char          left[CN_TOKEN_BYTES_MAX], right[CN_TOKEN_BYTES_MAX]; // parts of a merge
} loader;

/* What an entry is called in a message: its beginning, if it is long. */
typedef struct quote {
    char text[QUOTE_BYTES + 4];
} quote;

static quote quoted_part(const char *text, size_t bytes) {
    quote        q;
    const size_t keep = bytes <= QUOTE_BYTES ? bytes : cn_utf8_cut(text, QUOTE_BYTES);
    memcpy(q.text, text, keep);
    strcpy(q.text + keep, keep < bytes ? "..." : "");
    return q;
}

static quote quoted(const char *text) {
    return quoted_part(text, strlen(text));
}

static void *alloc(size_t count, size_t size) {
    return CN_FAULT("engine.tokenizer.alloc") ? NULL : calloc(count > 0 ? count : 1, size);
}

// ---- JSON members ------------------------------------------------------------------

static bool is_null(const cn_json *value) { // absent counts
    return cn_json_type_of(value) == CN_JSON_NULL;
}

/* A bool; absent is `absent`. */
static cn_err get_bool(loader *l, const cn_json *object, const char *key, bool absent, bool *out) {
    const cn_json *value = cn_json_get(object, key);
    *out = absent;
    if (!value || cn_json_bool(value, out)) return CN_OK;
    return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: %s is no bool", key);
}

/* The "type" of a part of the pipeline. */
static cn_err get_type(loader *l, const cn_json *part, const char *name, const char **out) {
    *out = cn_json_string(cn_json_get(part, "type"));
    if (*out) return CN_OK;
    return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: %s has no type", name);
}

static cn_err get_list(loader *l, const cn_json *object, const char *key, const cn_json **out) {
    *out = cn_json_get(object, key);
    if (cn_json_type_of(*out) == CN_JSON_ARRAY) return CN_OK;
    return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: %s is no array", key);
}

static cn_err unsupported(loader *l, const char *what, const char *value) {
    return CN_FAIL(l->diag, CN_EUNSUPPORTED, "tokenizer.json: %s %s is not built in", what,
                   quoted(value).text);
}

// ---- The pipeline ------------------------------------------------------------------

static cn_err load_normalizer(loader *l, const cn_json *part) {
    const char    *type;
    const cn_json *list;
    if (is_null(part)) return CN_OK;
    CN_TRY(get_type(l, part, "normalizer", &type));
    if (strcmp(type, "NFC") == 0) {
        l->t->nfc = true;
        return CN_OK;
    }
    if (strcmp(type, "Sequence") != 0) return unsupported(l, "normalizer", type);
    CN_TRY(get_list(l, part, "normalizers", &list));
    for (const cn_json *p = cn_json_first(list); p; p = cn_json_next(p))
        CN_TRY(load_normalizer(l, p));
    return CN_OK;
}

/* A step; `pattern` NULL puts a space before pieces. */
static cn_err add_split(loader *l, const char *pattern, bool is_literal) {
    cn_tokenizer *t = l->t;
    if (t->splits == CN_SPLITS_MAX)
        return CN_FAIL(l->diag, CN_ETOOBIG, "tokenizer.json: more than %d pre-tokenizer steps",
                       (int)CN_SPLITS_MAX);
    if (pattern) CN_TRY(cn_pattern_create(&t->split[t->splits], pattern, is_literal, l->diag));
    t->splits++;
    return CN_OK;
}

static cn_err load_split(loader *l, const cn_json *part) {
    const cn_json *pattern = cn_json_get(part, "pattern");
    const char    *regex = cn_json_string(cn_json_get(pattern, "Regex"));
    const char    *literal = cn_json_string(cn_json_get(pattern, "String"));
    const char    *behavior = cn_json_string(cn_json_get(part, "behavior"));
    bool           invert;
    if ((!regex && !literal) || !behavior)
        return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: Split without pattern or behavior");
    CN_TRY(get_bool(l, part, "invert", false, &invert));
    // Removed and inverted drops what the pattern leaves out.  Patterns that are written so
    // leave nothing out, and a text must come back whole: kept, as Isolated does.
    if (strcmp(behavior, "Isolated") != 0 && !(strcmp(behavior, "Removed") == 0 && invert))
        return unsupported(l, invert ? "inverted Split behavior" : "Split behavior", behavior);
    if (literal && !*literal) return unsupported(l, "Split pattern", "\"\"");
    return add_split(l, regex ? regex : literal, !regex);
}

static cn_err load_byte_level(loader *l, const cn_json *part) {
    bool prefix, regex;
    if (!cn_json_get(part, "add_prefix_space"))
        return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: ByteLevel without add_prefix_space");
    CN_TRY(get_bool(l, part, "add_prefix_space", false, &prefix));
    CN_TRY(get_bool(l, part, "use_regex", true, &regex));
    l->has_byte_level = true;
    if (prefix) CN_TRY(add_split(l, NULL, false));
    if (regex) CN_TRY(add_split(l, gpt2_pattern, false));
    return CN_OK;
}

static cn_err load_pre_tokenizer(loader *l, const cn_json *part) {
    const char    *type;
    const cn_json *list;
    CN_TRY(get_type(l, part, "pre_tokenizer", &type));
    if (strcmp(type, "Sequence") == 0) {
        CN_TRY(get_list(l, part, "pretokenizers", &list));
        for (const cn_json *p = cn_json_first(list); p; p = cn_json_next(p))
            CN_TRY(load_pre_tokenizer(l, p));
        return CN_OK;
    }
    // Behind ByteLevel the reference splits text that is spelled in the alphabet.
    if (l->has_byte_level) return unsupported(l, "behind ByteLevel, pre_tokenizer", type);
    if (strcmp(type, "Split") == 0) return load_split(l, part);
    if (strcmp(type, "ByteLevel") == 0) return load_byte_level(l, part);
    return unsupported(l, "pre_tokenizer", type);
}

/* It would add tokens around a text or trim offsets; neither is done here. */
static cn_err check_post_processor(loader *l, const cn_json *part) {
    const char    *type;
    const cn_json *list;
    if (is_null(part)) return CN_OK;
    CN_TRY(get_type(l, part, "post_processor", &type));
    if (strcmp(type, "ByteLevel") == 0 || strcmp(type, "TemplateProcessing") == 0) return CN_OK;
    if (strcmp(type, "Sequence") != 0) return unsupported(l, "post_processor", type);
    CN_TRY(get_list(l, part, "processors", &list));
    for (const cn_json *p = cn_json_first(list); p; p = cn_json_next(p))
        CN_TRY(check_post_processor(l, p));
    return CN_OK;
}

static cn_err load_pipeline(loader *l, const cn_json *root) {
    const char *version = cn_json_string(cn_json_get(root, "version"));
    const char *decoder;
    if (version && strcmp(version, "1.0") != 0) return unsupported(l, "version", version);
    CN_TRY(load_normalizer(l, cn_json_get(root, "normalizer")));
    if (is_null(cn_json_get(root, "pre_tokenizer"))) return unsupported(l, "pre_tokenizer", "null");
    CN_TRY(load_pre_tokenizer(l, cn_json_get(root, "pre_tokenizer")));
    if (!l->has_byte_level) return unsupported(l, "pre_tokenizer", "without ByteLevel");
    CN_TRY(check_post_processor(l, cn_json_get(root, "post_processor")));
    if (is_null(cn_json_get(root, "decoder"))) return unsupported(l, "decoder", "null");
    CN_TRY(get_type(l, cn_json_get(root, "decoder"), "decoder", &decoder));
    return strcmp(decoder, "ByteLevel") == 0 ? CN_OK : unsupported(l, "decoder", decoder);
}

static cn_err check_model(loader *l, const cn_json *model) {
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};

    const cn_json *type = cn_json_get(model, "type"); // the oldest files have none
    double         dropout = 0;
    bool           byte_fallback, fuse_unk;
    if (type && !cn_json_string(type))
        return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: model.type is no string");
    if (type && strcmp(cn_json_string(type), "BPE") != 0)
        return unsupported(l, "model", cn_json_string(type));
    for (int i = 0; i < 2; i++) {
        const cn_json *affix = cn_json_get(model, affixes[i]);
        const char    *text = is_null(affix) ? "" : cn_json_string(affix);
        if (!text)
            return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: %s is no string", affixes[i]);
        if (*text) return unsupported(l, affixes[i], text);
    }
    if (!is_null(cn_json_get(model, "dropout")) &&
        !cn_json_f64(cn_json_get(model, "dropout"), &dropout))
        return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: dropout is no number");
    if (dropout != 0) return unsupported(l, "model.dropout", "other than 0");
    CN_TRY(get_bool(l, model, "byte_fallback", false, &byte_fallback));
    if (byte_fallback) return unsupported(l, "model.byte_fallback", "true");
    CN_TRY(get_bool(l, model, "fuse_unk", false, &fuse_unk)); // without unk it says nothing
    CN_TRY(get_bool(l, model, "ignore_merges", false, &l->ignore_merges));
    l->has_unk = !is_null(cn_json_get(model, "unk_token"));
    if (cn_json_type_of(cn_json_get(model, "vocab")) != CN_JSON_OBJECT)
        return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: model.vocab is no object");
    return CN_OK;
}

// ---- Added tokens ------------------------------------------------------------------

static cn_err get_id(loader *l, const cn_json *value, const char *name, int32_t *out) {
    int64_t id;
    if (!cn_json_int64(value, &id) || id < 0)
        return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: the id of %s is none",
                       quoted(name).text);
    if (id >= CN_TOKENIZER_TOKENS_MAX)
        return CN_FAIL(l->diag, CN_ETOOBIG, "tokenizer.json: the id of %s is %lld, limit %d",
                       quoted(name).text, (long long)id, (int)CN_TOKENIZER_TOKENS_MAX - 1);
    *out = (int32_t)id;
    if (*out >= l->t->size) l->t->size = *out + 1;
    return CN_OK;
}

static cn_err check_entry_bytes(loader *l, const char *name, size_t bytes) {
    if (bytes == 0) return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: an empty token");
    if (bytes > CN_TOKEN_BYTES_MAX)
        return CN_FAIL(l->diag, CN_ETOOBIG, "tokenizer.json: token %s has %zu bytes, limit %d",
                       quoted(name).text, bytes, (int)CN_TOKEN_BYTES_MAX);
    return CN_OK;
}

/* `content` of one more token moves into `set`, which has room for it. */
static cn_err add_added(cn_added_set *set, const cn_added *token, const char *content,
                        size_t bytes) {
    char *copy = alloc(bytes + 1, 1);
    if (!copy) return CN_ENOMEM;
    memcpy(copy, content, bytes);
    set->added[set->count] = *token;
    set->added[set->count].content = copy;
    set->added[set->count].bytes = (uint32_t)bytes;
    set->count++;
    return CN_OK;
}

static cn_err read_added(loader *l, const cn_json *root) {
    const cn_json *list = cn_json_get(root, "added_tokens");
    if (is_null(list)) list = NULL;
    if (list) CN_TRY(get_list(l, root, "added_tokens", &list));
    l->added.added = alloc((size_t)cn_json_count(list), sizeof(*l->added.added));
    if (!l->added.added) return CN_ENOMEM;
    for (const cn_json *p = cn_json_first(list); p; p = cn_json_next(p)) {
        const char *content = cn_json_string(cn_json_get(p, "content"));
        cn_added    a = {0};
        if (!content)
            return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: an added token has no content");
        CN_TRY(get_id(l, cn_json_get(p, "id"), content, &a.token));
        CN_TRY(get_bool(l, p, "special", false, &a.special));
        CN_TRY(get_bool(l, p, "normalized", !a.special, &a.normalized));
        CN_TRY(get_bool(l, p, "single_word", false, &a.single_word));
        CN_TRY(get_bool(l, p, "lstrip", false, &a.lstrip));
        CN_TRY(get_bool(l, p, "rstrip", false, &a.rstrip));
        CN_TRY(check_entry_bytes(l, content, strlen(content)));
        CN_TRY(add_added(&l->added, &a, content, strlen(content)));
        if (a.single_word && !l->t->word)
            CN_TRY(cn_pattern_create(&l->t->word, "[\\w\\x{200c}\\x{200d}]", false, l->diag));
    }
    cn_added_set_sort(&l->added);
    for (int32_t i = 1; i < l->added.count; i++)
        if (strcmp(l->added.added[i - 1].content, l->added.added[i].content) == 0)
            return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: added token %s is given twice",
                           quoted(l->added.added[i].content).text);
    return CN_OK;
}

/* Into the two sets that encoding looks in. */
static cn_err place_added(loader *l) {
    for (int set = 0; set < 2; set++) {
        cn_added_set *to = &l->t->added[set];
        to->added = alloc((size_t)l->added.count, sizeof(*to->added));
        if (!to->added) return CN_ENOMEM;
        for (int32_t i = 0; i < l->added.count; i++) {
            const cn_added *a = &l->added.added[i];
            if (a->normalized != (set == 1)) continue;
            if (a->normalized && l->t->nfc) {
                char *nfc = (char *)utf8proc_NFC((const utf8proc_uint8_t *)a->content);
                if (!nfc) return CN_ENOMEM;
                const cn_err err = add_added(to, a, nfc, strlen(nfc));
                free(nfc);
                CN_TRY(err);
            } else {
                CN_TRY(add_added(to, a, a->content, a->bytes));
            }
        }
        cn_added_set_sort(to);
    }
    return CN_OK;
}

// ---- Vocabulary --------------------------------------------------------------------

static void init_alphabet(int16_t byte_of[ALPHABET_CODES]) {
    memset(byte_of, -1, ALPHABET_CODES * sizeof(*byte_of));
    for (int16_t byte = 0, other = 0x100; byte < 256; byte++) {
        const bool is_itself =
            (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        byte_of[is_itself ? byte : other++] = byte;
    }
}

/* The bytes that `bytes` bytes of valid UTF-8 spell in the alphabet, and how many there
 * are; 0 if one character is not of it.  Only the first CN_TOKEN_BYTES_MAX are written. */
static size_t spell(const loader *l, const char *text, size_t bytes, char *out) {
    size_t count = 0;
    for (size_t i = 0; i < bytes; count++) {
        const uint8_t *p = (const uint8_t *)text + i;
        const int      code = p[0] < 0x80   ? p[0]
                              : p[0] < 0xE0 ? (p[0] & 0x1F) << 6 | (p[1] & 0x3F)
                                            : ALPHABET_CODES;
        if (code >= ALPHABET_CODES || l->byte_of[code] < 0) return 0;
        if (count < CN_TOKEN_BYTES_MAX) out[count] = (char)l->byte_of[code];
        i += p[0] < 0x80 ? 1 : 2;
    }
    return count;
}

static cn_err put_entry(loader *l, int32_t token, const char *name, const char *text, size_t bytes,
                        bool special) {
    cn_vocab_entry *e = &l->t->entry[token];
    if (e->bytes > 0)
        return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: id %d is given twice, to %s too",
                       token, quoted(name).text);
    *e = (cn_vocab_entry){(uint32_t)l->t->text.bytes, (uint16_t)bytes, special, false};
    cn_buf_put(&l->t->text, text, bytes);
    return l->t->text.err;
}

static void put_slot(cn_tokenizer *t, int32_t token) {
    const cn_vocab_entry *e = &t->entry[token];
    const uint64_t        hash = cn_xxh3(t->text.data + e->at, e->bytes, 0);
    size_t                i = hash & t->slot_mask;
    while (t->slot[i].token_1 > 0) i = (i + 1) & t->slot_mask;
    t->slot[i] = (cn_vocab_slot){(uint32_t)(hash >> 32), token + 1};
}

static cn_err load_entry(loader *l, const cn_json *member) {
    cn_tokenizer   *t = l->t;
    const char     *name = cn_json_key(member);
    const size_t    bytes = strlen(name), spelled = spell(l, name, bytes, l->left);
    const cn_added *a = cn_added_set_find(&l->added, CN_TOKENIZE_SPECIAL, name, bytes);
    int32_t         token;
    CN_TRY(get_id(l, member, name, &token));
    if (a && a->bytes == bytes) { // the entry of an added token: pieces may become it too
        if (a->token != token)
            return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: %s is %d and, added, %d",
                           quoted(name).text, token, a->token);
        if (spelled == bytes && memcmp(l->left, name, bytes) == 0) put_slot(t, token);
        return CN_OK;
    }
    if (spelled == 0 && bytes > 0) return unsupported(l, "other than byte-level, token", name);
    CN_TRY(check_entry_bytes(l, name, spelled));
    CN_TRY(put_entry(l, token, name, l->left, spelled, false));
    put_slot(t, token);
    return CN_OK;
}

static cn_err load_vocab(loader *l, const cn_json *vocab) {
    cn_tokenizer *t = l->t;
    size_t        slots = 2, entries = 0;
    int32_t       token;
    for (const cn_json *p = cn_json_first(vocab); p; p = cn_json_next(p), entries++)
        CN_TRY(get_id(l, p, cn_json_key(p), &token)); // for the size
    while (slots < 2 * entries) slots *= 2;
    t->slot_mask = slots - 1;
    t->slot = alloc(slots, sizeof(*t->slot));
    t->entry = alloc((size_t)t->size, sizeof(*t->entry));
    if (!t->slot || !t->entry) return CN_ENOMEM;
    for (int32_t i = 0; i < l->added.count; i++) {
        const cn_added *a = &l->added.added[i];
        CN_TRY(put_entry(l, a->token, a->content, a->content, a->bytes, a->special));
    }
    for (const cn_json *p = cn_json_first(vocab); p; p = cn_json_next(p)) CN_TRY(load_entry(l, p));
    return CN_OK;
}

static cn_err load_alphabet(loader *l) {
    cn_tokenizer *t = l->t;
    for (int c = 0; c < 256; c++) {
        const char    byte = (char)c;
        const int32_t token = cn_vocab_find(t, &byte, 1);
        if (token < 0 && l->has_unk) return unsupported(l, "model.unk_token", "with bytes unknown");
        if (token >= 0 && t->entry[token].special)
            return CN_FAIL(l->diag, CN_EUNSUPPORTED,
                           "tokenizer.json: special token %d is also byte 0x%02x", token, c);
        t->bpe.byte_token[c] = token;
    }
    return CN_OK;
}

// ---- Merges ------------------------------------------------------------------------

/* "a b" or ["a","b"]; the space is in no alphabet. */
static bool get_merge(const cn_json *value, const char **left, size_t *left_bytes,
                      const char **right) {
    *left = cn_json_string(value);
    if (*left) {
        const char *space = strchr(*left, ' ');
        if (!space) return false;
        *left_bytes = (size_t)(space - *left);
        *right = space + 1;
    } else {
        *left = cn_json_string(cn_json_first(value));
        *right = cn_json_string(cn_json_next(cn_json_first(value)));
        if (cn_json_count(value) != 2 || !*left || !*right) return false;
        *left_bytes = strlen(*left);
    }
    return *left_bytes > 0 && **right;
}

static cn_err load_merge(loader *l, const cn_json *value, uint32_t rank) {
    const char *left, *right;
    size_t      left_bytes;
    if (!get_merge(value, &left, &left_bytes, &right))
        return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: merge %u is no pair", rank);

    const size_t n = spell(l, left, left_bytes, l->left);
    const size_t m = spell(l, right, strlen(right), l->right);
    int32_t      a = -1, b = -1, both = -1;
    if (n > 0 && m > 0 && n + m <= CN_TOKEN_BYTES_MAX) {
        a = cn_vocab_find(l->t, l->left, n);
        b = cn_vocab_find(l->t, l->right, m);
        memcpy(l->left + n, l->right, m);
        both = cn_vocab_find(l->t, l->left, n + m);
    }
    if (a < 0 || b < 0 || both < 0)
        return CN_FAIL(l->diag, CN_ECORRUPT,
                       "tokenizer.json: merge %u, %s with %s: a part or the result is no token",
                       rank, quoted_part(left, left_bytes).text, quoted(right).text);
    if (l->t->entry[a].special || l->t->entry[b].special || l->t->entry[both].special)
        return CN_FAIL(l->diag, CN_EUNSUPPORTED,
                       "tokenizer.json: merge %u, %s with %s: a part or the result is special",
                       rank, quoted_part(left, left_bytes).text, quoted(right).text);
    cn_bpe_put(&l->t->bpe, a, b, rank, both);
    return CN_OK;
}

static cn_err load_merges(loader *l, const cn_json *model) {
    const cn_json *list;
    uint32_t       rank = 0;
    CN_TRY(get_list(l, model, "merges", &list));
    CN_TRY(cn_bpe_init(&l->t->bpe, cn_json_count(list)));
    CN_TRY(load_alphabet(l));
    for (const cn_json *p = cn_json_first(list); p; p = cn_json_next(p), rank++) {
        const char *line = cn_json_string(p);
        if (line && strncmp(line, "#version", 8) == 0) continue; // of merges.txt; skipped there too
        CN_TRY(load_merge(l, p, rank));
    }
    return CN_OK;
}

/* Most pieces of a text are a token each.  Those that the merges turn into that token are
 * marked, so that encoding needs one look instead of a merge. */
static cn_err mark_whole(loader *l) {
    cn_tokenizer  *t = l->t;
    cn_bpe_scratch scratch = {0};
    int32_t        token[CN_TOKEN_BYTES_MAX];
    cn_err         err = CN_OK;
    for (size_t i = 0; i <= t->slot_mask && !err; i++) {
        if (t->slot[i].token_1 == 0) continue;
        cn_vocab_entry *e = &t->entry[t->slot[i].token_1 - 1];
        size_t          count;
        if (e->special) continue; // text must not become one, not even as a whole piece
        e->whole = l->ignore_merges;
        if (e->whole) continue;
        err = cn_bpe_encode(&t->bpe, &scratch, t->text.data + e->at, e->bytes, token, &count);
        e->whole = !err && count == 1;
        if (err == CN_ENOTFOUND) err = CN_OK; // no text becomes it
    }
    cn_bpe_scratch_release(&scratch);
    return err;
}

// ---- All of it ---------------------------------------------------------------------

static cn_err load(loader *l, const cn_json *root) {
    const cn_json *model = cn_json_get(root, "model");
    if (cn_json_type_of(model) != CN_JSON_OBJECT)
        return CN_FAIL(l->diag, CN_ECORRUPT, "tokenizer.json: model is no object");
    init_alphabet(l->byte_of);
    CN_TRY(check_model(l, model));
    CN_TRY(load_pipeline(l, root));
    CN_TRY(read_added(l, root));
    CN_TRY(load_vocab(l, cn_json_get(model, "vocab")));
    CN_TRY(load_merges(l, model));
    CN_TRY(place_added(l));
    return mark_whole(l);
}

cn_err cn_tokenizer_parse(cn_tokenizer **out, const char *text, size_t bytes, cn_diag *diag) {
    static const cn_json_limits limits = {CN_TOKENIZER_FILE_BYTES_MAX, JSON_DEPTH_MAX,
                                          JSON_VALUES_MAX};

    cn_json_doc *doc = NULL;
    *out = NULL;
    CN_TRY(cn_json_parse(&doc, text, bytes, "tokenizer.json", &limits, diag));
    loader       *l = alloc(1, sizeof(*l));
    cn_tokenizer *t = alloc(1, sizeof(*t));
    cn_err        err = l && t ? CN_OK : CN_ENOMEM;
    if (!err) {
        l->t = t;
        l->diag = diag;
        err = load(l, cn_json_root(doc));
    }
    if (err == CN_ENOMEM) CN_FAIL(diag, err, "no memory for tokenizer.json");
    if (err) {
        cn_tokenizer_close(t);
    } else {
        *out = t;
    }
    if (l) cn_added_set_release(&l->added);
    free(l);
    cn_json_free(doc);
    return err;
}

/*
 * test_keys.c - Every field that enters a document's key, each shown to change it; and what was
 * prefilled under one key is no hit under another.
 *
 * Model, path and tenant are changed from outside, as a user would.  Element types, page size
 * and version of the arithmetic are fixed in a build: the text that names them must name what
 * they are, and each of its letters must count.
 */
#include "engine/engine_int.h"
#include "tests/sessions/session_kit.h"

#include <ctype.h>

static cn_host *open_with(const char *model, const char *state, const char *isa,
                          const char *tenant) {
    cn_host *h;
    assert_err(cn_host_open(&h,
                            &(cn_host_opts){.model_folder = model,
                                            .state_folder = state,
                                            .isa = isa,
                                            .tenant = tenant,
                                            .threads = 1,
                                            .cache_bytes = 64 << 20},
                            &t_diag),
               CN_OK);
    return h;
}

/* A model folder with one file that a shell command has changed. */
static const char *vary(const char *name, const char *file, const char *command) {
    static char path[4][256];
    static int  made;
    char       *p = path[made++ % 4];
    snprintf(p, sizeof(path[0]), "%s/%s", t_tmp_dir(), name);
    t_shell("cp -r %s/tests/golden/tiny-a %s && cd %s && cp %s before && %s && ! cmp -s %s before "
            "&& rm before",
            t_source_dir(), p, p, file, command, file);
    return p;
}

static const int32_t tokens[] = {5, 6, 7, 8, 9};

static cn_hash key_in(const cn_host *h) {
    return cn_document_key(&h->domain, tokens, 5);
}

/* A turn over the repository: what of it was a hit. */
static cn_bill ask_in(cn_host *h, const char *repo) {
    cn_session   *s = k_open_session(h, repo, false);
    const k_asked a = k_ask(h, s, "what?", NULL);
    cn_session_close(s);
    return a.bill;
}

/* All in one state folder: each variant prefills for itself, then finds its own again. */
static void test_each_field_from_outside(void **state) {
    (void)state;
    // The last byte of the weights is one of a matrix; its lowest bit, so it stays a number.
    const char *weights = vary("weights", "model.safetensors",
                               "python3 -c \"f=open(\\\"model.safetensors\\\",\\\"r+b\\\");"
                               "f.seek(-2,2);b=f.read(1)[0];f.seek(-2,2);f.write(bytes([b^1]))\"");
    const char *config =
        vary("config", "config.json",
             "sed -i s/\\\"index_topk\\\":\\ 24/\\\"index_topk\\\":\\ 25/ config.json");
    const char *tokenizer = vary("tokenizer", "tokenizer.json", "echo >> tokenizer.json");
    const char *repo = k_new_repo(), *folder = k_new_state(), *plain = k_plain_model();
    const struct {
        const char *field, *model, *state, *isa, *tenant;
    } rows[] = {{"(the first)", plain, folder, NULL, NULL},
                {"a byte of the weights", weights, folder, NULL, NULL},
                {"the config", config, folder, NULL, NULL},
                {"the tokenizer", tokenizer, folder, NULL, NULL},
                {"the ISA path", plain, folder, "ref", NULL},
                {"the tenant's salt", plain, folder, NULL, "other"},
                {"the state folder's salt", plain, k_new_state(), NULL, NULL}};
    enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
    cn_hash key[ROWS], cut[ROWS];
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < ROWS; i++) {
            t_note("%s, round %d", rows[i].field, round);
            cn_host      *h = open_with(rows[i].model, rows[i].state, rows[i].isa, rows[i].tenant);
            const cn_hash k = key_in(h);
            const cn_bill b = ask_in(h, repo);
            // Nothing of the others is a hit; what is its own is, after all of them.
            assert_int_equal(b.cached_tokens, round ? b.context_tokens : 0);
            if (round) assert_memory_equal(&key[i], &k, sizeof(k));
            key[i] = k;
            cut[i] = h->cut.model; // the cheap path's row is another, too
            for (int j = 0; j < i; j++) {
                assert_false(cn_hash_is_equal(&key[i], &key[j]));
                assert_false(cn_hash_is_equal(&cut[i], &cut[j]));
            }
            if (!round) {
                char hex[CN_HASH_HEX_BYTES];
                cn_hash_hex(hex, &k);
                print_message("  %-26s %.16s  hits %lld of %lld tok\n", rows[i].field, hex,
                              (long long)b.cached_tokens, (long long)b.context_tokens);
            }
            cn_host_close(h);
        }
}

static void test_tokens_and_kind(void **state) {
    (void)state;
    cn_host            *h = open_with(k_plain_model(), k_new_state(), NULL, NULL);
    const cn_hash       key = key_in(h);
    cn_conversation_key c;
    for (int i = 0; i < 5; i++) {
        int32_t other[5];
        memcpy(other, tokens, sizeof(other));
        other[i]++;
        const cn_hash k = cn_document_key(&h->domain, other, 5);
        assert_false(cn_hash_is_equal(&k, &key));
    }
    const cn_hash shorter = cn_document_key(&h->domain, tokens, 4);
    assert_false(cn_hash_is_equal(&shorter, &key));
    cn_conversation_key_init(&c, &h->domain);
    cn_conversation_key_put(&c, tokens, 5);
    const cn_hash talk = cn_conversation_key_get(&c);
    assert_false(cn_hash_is_equal(&talk, &key));
    cn_host_close(h);
}

/* The layout's text is made of what it names, and each letter of it changes the key. */
static void test_each_letter_of_the_layout(void **state) {
    (void)state;
    static const char *const models[] = {"tiny-a", "tiny-b"};
    char                     text[2][256];
    for (int m = 0; m < 2; m++) {
        char path[256], want[256];
        snprintf(path, sizeof(path), "%s/tests/golden/%s", t_source_dir(), models[m]);
        cn_host         *h = open_with(path, k_new_state(), NULL, NULL);
        const cn_config *c = &h->model->config;
        const cn_hash    key = key_in(h);
        snprintf(want, sizeof(want), "cpu-%s page=%d rows=bf16:2x%d keys=bf16:%dx%d arithmetic=%d",
                 cn_engine_isa(h->engine), (int)CN_PAGE_TOKENS, c->kv_heads * c->head_dim,
                 cn_config_index_sources(c), c->index_dim, (int)CN_ARITHMETIC_VERSION);
        assert_string_equal(h->domain.layout, want);
        // Two bytes an element, as the text says, are what a page has room for.
        assert_int_equal(
            cn_engine_page_bytes(h->engine),
            (int64_t)CN_PAGE_TOKENS * 2 *
                (2 * c->kv_heads * c->head_dim + cn_config_index_sources(c) * c->index_dim));
        snprintf(text[m], sizeof(text[m]), "%s", want);
        for (size_t i = 0; want[i]; i++) {
            const char    was = want[i];
            cn_key_domain other = h->domain;
            other.layout = want;
            want[i] = isdigit((unsigned char)was) ? (char)('0' + (was - '0' + 1) % 10) : '#';
            t_note("%s", want);
            const cn_hash k = cn_document_key(&other, tokens, 5);
            assert_false(cn_hash_is_equal(&k, &key));
            want[i] = was;
        }
        cn_host_close(h);
    }
    print_message("  %s\n  %s\n", text[0], text[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_field_from_outside),
        cmocka_unit_test(test_tokens_and_kind),
        cmocka_unit_test(test_each_letter_of_the_layout),
    };
    k_isa = t_isa();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

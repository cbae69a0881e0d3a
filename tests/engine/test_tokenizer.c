/*
 * test_tokenizer.c - Text to ids as the reference does it, and back to the same bytes.
 *
 * tests/golden/tokenizer holds what Hugging Face's library makes of many texts.  What it
 * cannot say is tested here: text that is not UTF-8, special tokens spelled in plain
 * text, refusals, limits, failing memory, threads.
 */
#include "base/clock.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/utf8.h"
#include "engine/tokenizer.h"
#include "tests/test.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#define NANO "examples/models/cairn-nano"

static cn_tokenizer *open_source(const char *path) {
    size_t        bytes;
    char         *text = t_read_source_file(path, &bytes);
    cn_tokenizer *t;
    assert_err(cn_tokenizer_parse(&t, text, bytes, &t_diag), CN_OK);
    memset(text, '!', bytes); // the tokenizer must not point into the text
    free(text);
    return t;
}

static cn_tokens encode(const cn_tokenizer *t, const char *text, size_t bytes,
                        cn_tokenize_mode mode) {
    cn_tokens tokens = {0};
    // A copy that ends where its memory ends, so that a sanitizer sees one byte too far.
    char *copy = malloc(bytes > 0 ? bytes : 1);
    assert_non_null(copy);
    memcpy(copy, text, bytes);
    assert_err(cn_tokenizer_encode(t, &tokens, copy, bytes, mode, &t_diag), CN_OK);
    free(copy);
    return tokens;
}

static void assert_tokens(const cn_tokenizer *t, const char *text, size_t bytes,
                          cn_tokenize_mode mode, const int32_t *want, int64_t count) {
    cn_tokens got = encode(t, text, bytes, mode);
    bool      same = got.count == count;
    for (int64_t i = 0; same && i < count; i++) same = got.token[i] == want[i];
    if (!same) {
        cn_buf list = {0};
        for (int64_t i = 0; i < got.count && i < 100; i++)
            cn_buf_printf(&list, " %d", got.token[i]);
        cn_buf_put_str(&list, "; want");
        for (int64_t i = 0; i < count && i < 100; i++) cn_buf_printf(&list, " %d", want[i]);
        t_fail(__FILE__, __LINE__, "tokens%s", cn_buf_str(&list));
    }
    cn_tokens_release(&got);
}

/* Every token's bytes in a row. */
static cn_buf decode(const cn_tokenizer *t, const cn_tokens *tokens) {
    cn_buf text = {0};
    for (int64_t i = 0; i < tokens->count; i++) {
        size_t      bytes;
        const char *piece = cn_tokenizer_bytes(t, tokens->token[i], &bytes);
        assert_non_null(piece);
        cn_buf_put(&text, piece, bytes);
    }
    return text;
}

static void assert_comes_back(const cn_tokenizer *t, const char *text, size_t bytes,
                              cn_tokenize_mode mode) {
    cn_tokens tokens = encode(t, text, bytes, mode);
    cn_buf    back = decode(t, &tokens);
    assert_int_equal(back.bytes, bytes);
    if (bytes > 0) assert_memory_equal(back.data, text, bytes);
    cn_buf_release(&back);
    cn_tokens_release(&tokens);
}

// ---- Golden ----------------------------------------------------------------------------

static void test_ids_are_those_of_the_reference(void **state) {
    (void)state;
    size_t bytes;
    char  *text = t_read_source_file("tests/golden/tokenizer/golden.json", &bytes);
    static const cn_json_limits limits = {1 << 24, 8, 1 << 20};
    cn_json_doc                *doc;
    cn_tokenizer               *t = NULL;
    char                        open[32] = "";
    int                         cases = 0;
    assert_err(cn_json_parse(&doc, text, bytes, "golden.json", &limits, &t_diag), CN_OK);
    free(text);
    for (const cn_json *c = cn_json_first(cn_json_root(doc)); c; c = cn_json_next(c), cases++) {
        const char *name = cn_json_string(cn_json_get(c, "tokenizer"));
        if (strcmp(name, open) != 0) {
            char path[128];
            snprintf(path, sizeof(path), "tests/golden/tokenizer/%s.json", name);
            snprintf(open, sizeof(open), "%s", name);
            cn_tokenizer_close(t);
            t = open_source(strcmp(name, "nano") == 0 ? NANO "/tokenizer.json" : path);
        }
        const char    *input = cn_json_string(cn_json_get(c, "text"));
        const cn_json *ids = cn_json_get(c, "ids");
        const bool     special = strcmp(cn_json_string(cn_json_get(c, "mode")), "special") == 0;
        int32_t       *want = malloc(((size_t)cn_json_count(ids) + 1) * sizeof(*want));
        int64_t        count = 0;
        assert_non_null(want);
        for (const cn_json *id = cn_json_first(ids); id; id = cn_json_next(id)) {
            int64_t value;
            assert_true(cn_json_int64(id, &value));
            want[count++] = (int32_t)value;
        }
        t_note("%s, %s: \"%.80s\"", name, special ? "special" : "text", input);
        assert_tokens(t, input, strlen(input), special ? CN_TOKENIZE_SPECIAL : CN_TOKENIZE_TEXT,
                      want, count);
        free(want);
    }
    assert_true(cases > 600);
    cn_tokenizer_close(t);
    cn_json_free(doc);
}

// ---- Bytes -----------------------------------------------------------------------------

/* Text of all kinds of bytes, most of it nearly UTF-8. */
static size_t random_text(char *text, size_t room) {
    static const char *const parts[] = {"int ",         "return", "\xC3\xA9", "\xE4\xBD\xA0",
                                        "  ",           "\n\t",   "_",        "\xF0\x9F\x98\x80",
                                        "<|end|>",      "<|en",   "\xCC\x81", "0",
                                        "\xE2\x80\x83", "->"};
    size_t                   bytes = 0;
    while (bytes + 8 <= room && t_rand_range(0, 40) > 0) {
        const int64_t kind = t_rand_range(0, 9);
        if (kind < 6) {
            const char *part = parts[t_rand_range(0, sizeof(parts) / sizeof(parts[0]) - 1)];
            memcpy(text + bytes, part, strlen(part));
            bytes += strlen(part) - (kind == 0); // or without its last byte
        } else if (kind < 8) {
            text[bytes++] = (char)t_rand_range(0x80, 0xFF);
        } else {
            text[bytes++] = (char)t_rand_range(0, 0xFF);
        }
    }
    return bytes;
}

static void test_every_byte_string_comes_back(void **state) {
    (void)state;
    static const char *const files[] = {"nano", "llama3", "deepseek", "o200k", "qwen2"};
    for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
        char path[128], text[512];
        snprintf(path, sizeof(path), "tests/golden/tokenizer/%s.json", files[f]);
        cn_tokenizer *t = open_source(f == 0 ? NANO "/tokenizer.json" : path);
        for (int i = 0; i < (t_is_sanitized() ? 300 : 3000); i++) {
            const size_t bytes = random_text(text, sizeof(text));
            // NFC rewrites what it finds; without a character over U+02FF there is nothing.
            if (strcmp(files[f], "qwen2") == 0)
                for (size_t k = 0; k < bytes; k++)
                    if ((uint8_t)text[k] >= 0xCC && (uint8_t)text[k] < 0xF8) text[k] = 'x';
            t_note("%s, text %d of %zu bytes", files[f], i, bytes);
            assert_comes_back(t, text, bytes, i % 2 ? CN_TOKENIZE_TEXT : CN_TOKENIZE_SPECIAL);
        }
        for (int c = 0; c < 256; c++) {
            char byte = (char)c;
            assert_comes_back(t, &byte, 1, CN_TOKENIZE_TEXT);
        }
        cn_tokenizer_close(t);
    }
}

static void test_source_files_come_back(void **state) {
    (void)state;
    static const char *const files[] = {"engine/tokenizer_load.c", "tests/test.c", "Makefile",
                                        "tests/golden/tokenizer/golden.json", "LICENSE"};
    cn_tokenizer            *t = open_source(NANO "/tokenizer.json");
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        size_t bytes;
        char  *text = t_read_source_file(files[i], &bytes);
        t_note("%s", files[i]);
        assert_comes_back(t, text, bytes, CN_TOKENIZE_TEXT);
        assert_comes_back(t, text, bytes, CN_TOKENIZE_SPECIAL);
        free(text);
    }
    cn_tokenizer_close(t);
}

/* A byte that is no UTF-8 is a piece of its own; what stands around it is as if at an end. */
static void test_bytes_that_are_not_utf8_stand_alone(void **state) {
    (void)state;
    static const char *const texts[] = {"\xFF",
                                        "the\xFFthe",
                                        "return \xC3 return",
                                        "\xE4\xBD",
                                        "\xED\xA0\x80 the",
                                        "<|end|>\x80<|end|>",
                                        "  \xC0  \x80\x80the"};
    cn_tokenizer            *t = open_source(NANO "/tokenizer.json");
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const size_t bytes = strlen(texts[i]);
        cn_tokens    want = {0};
        for (size_t at = 0, run; at < bytes; at += run) {
            for (run = 0; at + run < bytes;
                 run += cn_utf8_bytes(texts[i] + at + run, bytes - at - run))
                if (cn_utf8_bytes(texts[i] + at + run, bytes - at - run) == 0) break;
            cn_tokens part = {0};
            if (run > 0) {
                part = encode(t, texts[i] + at, run, CN_TOKENIZE_SPECIAL);
            } else {
                run = 1;
                size_t one;
                for (int32_t id = 0; id < cn_tokenizer_size(t) && part.count == 0; id++) {
                    const char *token = cn_tokenizer_bytes(t, id, &one);
                    if (one == 1 && token[0] == texts[i][at])
                        assert_err(cn_tokens_put(&part, &id, 1), CN_OK);
                }
                assert_int_equal(part.count, 1);
            }
            assert_err(cn_tokens_put(&want, part.token, part.count), CN_OK);
            cn_tokens_release(&part);
        }
        t_note("text %zu", i);
        assert_tokens(t, texts[i], bytes, CN_TOKENIZE_SPECIAL, want.token, want.count);
        cn_tokens_release(&want);
    }
    cn_tokenizer_close(t);
}

// ---- Modes -----------------------------------------------------------------------------

static void test_plain_text_cannot_forge_a_special_token(void **state) {
    (void)state;
    static const char *const files[] = {"nano", "gpt2", "llama3", "qwen2", "deepseek", "o200k"};
    for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
        char path[128];
        int  specials = 0;
        snprintf(path, sizeof(path), "tests/golden/tokenizer/%s.json", files[f]);
        cn_tokenizer *t = open_source(f == 0 ? NANO "/tokenizer.json" : path);
        for (int32_t id = 0; id < cn_tokenizer_size(t); id++) {
            size_t      bytes;
            const char *text = cn_tokenizer_bytes(t, id, &bytes);
            if (!cn_tokenizer_is_special(t, id)) continue;
            specials++;
            assert_tokens(t, text, bytes, CN_TOKENIZE_SPECIAL, &id, 1);
            cn_tokens plain = encode(t, text, bytes, CN_TOKENIZE_TEXT);
            assert_true(plain.count > 1);
            for (int64_t i = 0; i < plain.count; i++)
                assert_false(cn_tokenizer_is_special(t, plain.token[i]));
            cn_tokens_release(&plain);
        }
        assert_true(specials >= 1);
        cn_tokenizer_close(t);
    }
}

// ---- Small tokenizers made here --------------------------------------------------------

/* tokenizer.json of these parts; NULL: the usual one.  The alphabet is a..d and space. */
typedef struct parts {
    const char *top, *added, *normalizer, *pre, *post, *decoder, *options, *vocab, *merges;
} parts;

static char *made(const parts *p) {
    cn_buf      buf = {0};
    const char *byte_level =
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}";
    cn_buf_printf(
        &buf,
        "{%s\"added_tokens\":[%s],\"normalizer\":%s,\"pre_tokenizer\":%s,"
        "\"post_processor\":%s,\"decoder\":%s,\"model\":{%s\"vocab\":%s,\"merges\":%s}}",
        p->top ? p->top : "\"version\":\"1.0\",", p->added ? p->added : "",
        p->normalizer ? p->normalizer : "null", p->pre ? p->pre : byte_level,
        p->post ? p->post : "null", p->decoder ? p->decoder : "{\"type\":\"ByteLevel\"}",
        p->options ? p->options : "\"type\":\"BPE\",",
        p->vocab ? p->vocab
                 : "{\"a\":0,\"b\":1,\"c\":2,\"d\":3,\"\xC4\xA0\":4,\"ab\":5,\"abc\":6,\"bc\":7}",
        p->merges ? p->merges : "[\"b c\",[\"a\",\"b\"],\"ab c\"]");
    return cn_buf_take(&buf);
}

static cn_err parse(cn_tokenizer **out, const parts *p) {
    char *text = made(p);
    assert_non_null(text);
    t_diag = (cn_diag){0};
    const cn_err err = cn_tokenizer_parse(out, text, strlen(text), &t_diag);
    assert_int_equal(*out == NULL, err != CN_OK);
    free(text);
    return err;
}

static void assert_refused(const parts *p, cn_err want, const char *say) {
    cn_tokenizer *t;
    t_note("%s", say);
    const cn_err err = parse(&t, p);
    cn_tokenizer_close(t);
    assert_err(err, want);
    assert_int_equal(t_diag.err, want);
    if (!strstr(t_diag.text, say))
        t_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", t_diag.text, say);
}

#define REFUSED(want, say, ...) assert_refused(&(parts){__VA_ARGS__}, want, say)

static void test_a_broken_tokenizer_is_refused_by_name(void **state) {
    (void)state;
    cn_tokenizer *t;
    assert_err(cn_tokenizer_parse(&t, "{", 1, &t_diag), CN_ECORRUPT);
    assert_null(t);
    assert_err(cn_tokenizer_parse(&t, "[]", 2, &t_diag), CN_ECORRUPT);
    assert_err(parse(&t, &(parts){0}), CN_OK);
    cn_tokenizer_close(t);

    // Ids and entries.
    REFUSED(CN_ECORRUPT, "id 0 is given twice, to b too", .vocab = "{\"a\":0,\"b\":0}",
            .merges = "[]");
    REFUSED(CN_ECORRUPT, "id 0 is given twice, to a too", .added = "{\"id\":0,\"content\":\"x\"}");
    REFUSED(CN_ECORRUPT, "id 9 is given twice",
            .added = "{\"id\":9,\"content\":\"x\"},{\"id\":9,\"content\":\"y\"}");
    REFUSED(CN_ECORRUPT, "added token x is given twice",
            .added = "{\"id\":8,\"content\":\"x\"},{\"id\":9,\"content\":\"x\"}");
    REFUSED(CN_ECORRUPT, "a is 0 and, added, 8", .added = "{\"id\":8,\"content\":\"a\"}");
    REFUSED(CN_ECORRUPT, "the id of a is none", .vocab = "{\"a\":-1}", .merges = "[]");
    REFUSED(CN_ECORRUPT, "the id of a is none", .vocab = "{\"a\":1.5}", .merges = "[]");
    REFUSED(CN_ECORRUPT, "the id of x is none", .added = "{\"content\":\"x\"}");
    REFUSED(CN_ETOOBIG, "the id of a is 4194304, limit 4194303", .vocab = "{\"a\":4194304}",
            .merges = "[]");
    REFUSED(CN_ECORRUPT, "an empty token", .vocab = "{\"\":0}", .merges = "[]");
    REFUSED(CN_ECORRUPT, "an empty token", .added = "{\"id\":8,\"content\":\"\"}");
    REFUSED(CN_ECORRUPT, "has no content", .added = "{\"id\":8}");
    REFUSED(CN_ECORRUPT, "lstrip is no bool", .added = "{\"id\":8,\"content\":\"x\",\"lstrip\":1}");
    REFUSED(CN_ECORRUPT, "vocab is no object", .vocab = "[]");
    REFUSED(CN_EUNSUPPORTED, "token \xE2\x96\x81the is not", .vocab = "{\"\xE2\x96\x81the\":0}",
            .merges = "[]");
    REFUSED(CN_EUNSUPPORTED, "token a b is not", .vocab = "{\"a b\":0}", .merges = "[]");

    // Merges.
    REFUSED(CN_ECORRUPT, "merges is no array", .merges = "{}");
    REFUSED(CN_ECORRUPT, "merge 1, a with x", .merges = "[\"a b\",\"a x\"]");
    REFUSED(CN_ECORRUPT, "merge 0, x with a", .merges = "[[\"x\",\"a\"]]");
    REFUSED(CN_ECORRUPT, "merge 0, c with d", .merges = "[\"c d\"]");
    REFUSED(CN_ECORRUPT, "merge 0 is no pair", .merges = "[\"ab\"]");
    REFUSED(CN_ECORRUPT, "merge 0 is no pair", .merges = "[\" b\"]");
    REFUSED(CN_ECORRUPT, "merge 0 is no pair", .merges = "[\"a \"]");
    REFUSED(CN_ECORRUPT, "merge 0, a with b c", .merges = "[\"a b c\"]");
    REFUSED(CN_ECORRUPT, "merge 0 is no pair", .merges = "[[\"a\"]]");
    REFUSED(CN_ECORRUPT, "merge 0 is no pair", .merges = "[[\"a\",\"b\",\"c\"]]");
    REFUSED(CN_ECORRUPT, "merge 0 is no pair", .merges = "[[\"a\",1]]");
    REFUSED(CN_ECORRUPT, "merge 0 is no pair", .merges = "[7]");
    REFUSED(CN_EUNSUPPORTED, "merge 0, a with b: a part or the result is special",
            .merges = "[\"a b\"]", .added = "{\"id\":5,\"content\":\"ab\",\"special\":true}");
    REFUSED(CN_EUNSUPPORTED, "special token 0 is also byte 0x61",
            .added = "{\"id\":0,\"content\":\"a\",\"special\":true}");

    // The model's options.
    REFUSED(CN_EUNSUPPORTED, "model Unigram is not", .options = "\"type\":\"Unigram\",");
    REFUSED(CN_EUNSUPPORTED, "model WordPiece is not", .options = "\"type\":\"WordPiece\",");
    REFUSED(CN_ECORRUPT, "model.type is no string", .options = "\"type\":1,");
    REFUSED(CN_EUNSUPPORTED, "dropout", .options = "\"dropout\":0.1,");
    REFUSED(CN_ECORRUPT, "dropout", .options = "\"dropout\":\"x\",");
    REFUSED(CN_EUNSUPPORTED, "byte_fallback", .options = "\"byte_fallback\":true,");
    REFUSED(CN_EUNSUPPORTED, "continuing_subword_prefix ##",
            .options = "\"continuing_subword_prefix\":\"##\",");
    REFUSED(CN_EUNSUPPORTED, "end_of_word_suffix </w>",
            .options = "\"end_of_word_suffix\":\"</w>\",");
    REFUSED(CN_ECORRUPT, "end_of_word_suffix is no string", .options = "\"end_of_word_suffix\":1,");
    REFUSED(CN_ECORRUPT, "ignore_merges is no bool", .options = "\"ignore_merges\":1,");
    REFUSED(CN_ECORRUPT, "fuse_unk is no bool", .options = "\"fuse_unk\":1,");
    REFUSED(CN_EUNSUPPORTED, "unk_token",
            .options = "\"unk_token\":\"a\","); // the alphabet has holes

    // The pipeline.
    REFUSED(CN_EUNSUPPORTED, "version 2.0", .top = "\"version\":\"2.0\",");
    REFUSED(CN_EUNSUPPORTED, "normalizer NFKC", .normalizer = "{\"type\":\"NFKC\"}");
    REFUSED(CN_EUNSUPPORTED, "normalizer Lowercase",
            .normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":"
                          "\"Lowercase\"}]}");
    REFUSED(CN_ECORRUPT, "normalizer has no type", .normalizer = "{}");
    REFUSED(CN_ECORRUPT, "normalizers is no array", .normalizer = "{\"type\":\"Sequence\"}");
    REFUSED(CN_EUNSUPPORTED, "pre_tokenizer null", .pre = "null");
    REFUSED(CN_EUNSUPPORTED, "pre_tokenizer Metaspace", .pre = "{\"type\":\"Metaspace\"}");
    REFUSED(CN_EUNSUPPORTED, "without ByteLevel",
            .pre = "{\"type\":\"Sequence\",\"pretokenizers\":[]}");
    REFUSED(CN_ECORRUPT, "pretokenizers is no array", .pre = "{\"type\":\"Sequence\"}");
    REFUSED(CN_ECORRUPT, "without add_prefix_space", .pre = "{\"type\":\"ByteLevel\"}");
    REFUSED(CN_ECORRUPT, "use_regex is no bool",
            .pre = "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":0}");
    REFUSED(CN_EUNSUPPORTED, "behind ByteLevel",
            .pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\",\"add_prefix_"
                   "space\":false},{\"type\":\"Split\"}]}");
    REFUSED(CN_EUNSUPPORTED, "post_processor BertProcessing",
            .post = "{\"type\":\"BertProcessing\"}");
    REFUSED(CN_EUNSUPPORTED, "post_processor BertProcessing",
            .post = "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"BertProcessing\"}]}");
    REFUSED(CN_EUNSUPPORTED, "decoder WordPiece", .decoder = "{\"type\":\"WordPiece\"}");
    REFUSED(CN_EUNSUPPORTED, "decoder null", .decoder = "null");
    REFUSED(CN_ECORRUPT, "decoder has no type", .decoder = "7");
#define SPLIT(rest) .pre = "{\"type\":\"Split\"," rest "}"
    REFUSED(CN_ECORRUPT, "Split without pattern", SPLIT("\"behavior\":\"Isolated\""));
    REFUSED(CN_ECORRUPT, "Split without pattern", SPLIT("\"pattern\":{\"Regex\":\"a\"}"));
    REFUSED(CN_EUNSUPPORTED, "Split behavior MergedWithNext",
            SPLIT("\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"MergedWithNext\""));
    REFUSED(CN_EUNSUPPORTED, "Split behavior Removed",
            SPLIT("\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Removed\",\"invert\":false"));
    REFUSED(CN_EUNSUPPORTED, "inverted Split behavior Contiguous",
            SPLIT("\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Contiguous\",\"invert\":true"));
    REFUSED(CN_EUNSUPPORTED, "Split pattern \"\"",
            SPLIT("\"pattern\":{\"String\":\"\"},\"behavior\":\"Isolated\""));
    REFUSED(CN_EUNSUPPORTED, "&& in a class",
            SPLIT("\"pattern\":{\"Regex\":\"[a&&b]\"},\"behavior\":\"Isolated\""));
    REFUSED(CN_ECORRUPT, "does not compile",
            SPLIT("\"pattern\":{\"Regex\":\"(a\"},\"behavior\":\"Isolated\""));
}

static char *repeated(const char *unit, size_t times) {
    cn_buf buf = {0};
    for (size_t i = 0; i < times; i++) cn_buf_put_str(&buf, unit);
    return cn_buf_take(&buf);
}

static void test_limits_are_kept(void **state) {
    (void)state;
    cn_tokenizer *t;
    cn_buf        part = {0};
    // An entry of CN_TOKEN_BYTES_MAX bytes, and one more; spelled, each is two bytes long.
    for (int more = 0; more < 2; more++) {
        char *name = repeated("\xC4\xA0", CN_TOKEN_BYTES_MAX + (size_t)more);
        cn_buf_reset(&part);
        cn_buf_printf(&part, "{\"%s\":0}", name);
        const cn_err err = parse(&t, &(parts){.vocab = cn_buf_str(&part), .merges = "[]"});
        size_t       bytes;
        assert_err(err, more ? CN_ETOOBIG : CN_OK);
        if (more) assert_non_null(strstr(t_diag.text, "4097 bytes, limit 4096"));
        if (!more) cn_tokenizer_bytes(t, 0, &bytes);
        if (!more) assert_int_equal(bytes, CN_TOKEN_BYTES_MAX);
        cn_tokenizer_close(t);
        free(name);
        name = repeated("x", CN_TOKEN_BYTES_MAX + (size_t)more);
        cn_buf_reset(&part);
        cn_buf_printf(&part, "{\"id\":8,\"content\":\"%s\"}", name);
        assert_err(parse(&t, &(parts){.added = cn_buf_str(&part)}), more ? CN_ETOOBIG : CN_OK);
        cn_tokenizer_close(t);
        free(name);
    }
    // Parts that are entries, whose sum is none because it is too long.
    char *half = repeated("a", CN_TOKEN_BYTES_MAX / 2 + 1);
    cn_buf_reset(&part);
    cn_buf_printf(&part, "{\"%s\":0}", half);
    cn_buf merge = {0};
    cn_buf_printf(&merge, "[\"%s %s\"]", half, half);
    assert_refused(&(parts){.vocab = cn_buf_str(&part), .merges = cn_buf_str(&merge)}, CN_ECORRUPT,
                   "merge 0, aaa");
    free(half);
    cn_buf_release(&merge);

    // One split more than there may be.
    for (int more = 0; more < 2; more++) {
        cn_buf_reset(&part);
        cn_buf_put_str(&part, "{\"type\":\"Sequence\",\"pretokenizers\":[");
        for (int i = 0; i < 15 + more; i++)
            cn_buf_put_str(
                &part,
                "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Isolated\"},");
        cn_buf_put_str(&part, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]}");
        assert_err(parse(&t, &(parts){.pre = cn_buf_str(&part)}), more ? CN_ETOOBIG : CN_OK);
        cn_tokenizer_close(t);
    }
    cn_buf_release(&part);

    // A file and a text over their limits; neither is looked at.
    assert_err(cn_tokenizer_parse(&t, "{}", (size_t)CN_TOKENIZER_FILE_BYTES_MAX + 1, &t_diag),
               CN_ETOOBIG);
    assert_null(t);
    assert_err(parse(&t, &(parts){0}), CN_OK);
    cn_tokens tokens = {0};
    assert_err(cn_tokenizer_encode(t, &tokens, "a", (size_t)CN_TOKENIZE_BYTES_MAX + 1,
                                   CN_TOKENIZE_TEXT, &t_diag),
               CN_ETOOBIG);
    assert_int_equal(tokens.count, 0);
    cn_tokenizer_close(t);
}

static void test_the_kinds_that_are_accepted(void **state) {
    (void)state;
    cn_tokenizer *t;
    const int32_t abc[] = {0, 7, 5, 2};
    // Order of merges: b c is before a b.  A later merge of the same pair takes its place.
    assert_err(parse(&t, &(parts){0}), CN_OK);
    assert_tokens(t, "abc", 3, CN_TOKENIZE_TEXT, abc, 2);
    assert_int_equal(cn_tokenizer_size(t), 8);
    cn_tokenizer_close(t);
    assert_err(
        parse(&t, &(parts){.merges = "[\"#version: 0.2\",\"b c\",\"a b\",\"b c\",\"ab c\"]"}),
        CN_OK);
    assert_tokens(t, "abc", 3, CN_TOKENIZE_TEXT, (const int32_t[]){6}, 1);
    assert_tokens(t, "abbc", 4, CN_TOKENIZE_TEXT, (const int32_t[]){5, 7}, 2);
    cn_tokenizer_close(t);
    // ignore_merges: the whole piece wins, and only then; not for a special token in plain text.
    assert_err(
        parse(
            &t,
            &(parts){
                .options =
                    "\"ignore_merges\":true,\"dropout\":0.0,\"continuing_subword_prefix\":\"\","}),
        CN_OK);
    assert_tokens(t, "abc", 3, CN_TOKENIZE_TEXT, (const int32_t[]){6}, 1);
    assert_tokens(t, "dabc", 4, CN_TOKENIZE_TEXT, (const int32_t[]){3, 0, 7}, 3);
    cn_tokenizer_close(t);
    assert_err(parse(&t, &(parts){.options = "\"ignore_merges\":true,",
                                  .merges = "[]",
                                  .added = "{\"id\":6,\"content\":\"abc\",\"special\":true}"}),
               CN_OK);
    assert_tokens(t, "abc", 3, CN_TOKENIZE_TEXT, (const int32_t[]){0, 1, 2}, 3);
    assert_tokens(t, "abc", 3, CN_TOKENIZE_SPECIAL, (const int32_t[]){6}, 1);
    cn_tokenizer_close(t);
    // No added_tokens, no version, every bool absent; ids with holes.
    assert_err(parse(&t, &(parts){.top = "", .vocab = "{\"a\":3,\"b\":70000}", .merges = "[]"}),
               CN_OK);
    assert_int_equal(cn_tokenizer_size(t), 70001);
    assert_tokens(t, "ab", 2, CN_TOKENIZE_TEXT, (const int32_t[]){3, 70000}, 2);
    size_t bytes = 7;
    assert_null(cn_tokenizer_bytes(t, 4, &bytes));
    assert_int_equal(bytes, 0);
    cn_tokenizer_close(t);
    // A vocabulary entry that is also an added token, and is made by a merge.
    assert_err(parse(&t, &(parts){.added = "{\"id\":5,\"content\":\"ab\",\"single_word\":true}"}),
               CN_OK);
    assert_tokens(t, "ab abd", 6, CN_TOKENIZE_TEXT, (const int32_t[]){5, 4, 5, 3}, 4);
    cn_tokenizer_close(t);
    // Refused as part of a word, it has used up its bytes: bc is not looked for within.
    assert_err(parse(&t, &(parts){.added = "{\"id\":5,\"content\":\"ab\",\"single_word\":true},"
                                           "{\"id\":7,\"content\":\"bc\"}",
                                  .merges = "[\"a b\"]"}),
               CN_OK);
    assert_tokens(t, "dabc bc", 7, CN_TOKENIZE_TEXT, (const int32_t[]){3, 5, 2, 4, 7}, 5);
    cn_tokenizer_close(t);
    // In the alphabet, this added token would read as a space; its content counts.
    assert_err(parse(&t, &(parts){.added = "{\"id\":4,\"content\":\"\xC4\xA0\"}"}), CN_OK);
    assert_memory_equal(cn_tokenizer_bytes(t, 4, &bytes), "\xC4\xA0", 2);
    assert_int_equal(bytes, 2);
    assert_int_equal(cn_tokenizer_find(t, " "), -1);
    cn_tokenizer_close(t);
    // And an entry that does read as those two bytes is another token.
    assert_err(parse(&t, &(parts){.added = "{\"id\":4,\"content\":\"\xC4\xA0\",\"special\":true}",
                                  .vocab = "{\"\xC4\xA0\":4,\"\xC3\x84\":5,\"\xC5\x82\":6,"
                                           "\"\xC3\x84\xC5\x82\":7}",
                                  .merges = "[\"\xC3\x84 \xC5\x82\"]"}),
               CN_OK);
    assert_tokens(t, "\xC4\xA0", 2, CN_TOKENIZE_TEXT, (const int32_t[]){7}, 1);
    assert_tokens(t, "\xC4\xA0", 2, CN_TOKENIZE_SPECIAL, (const int32_t[]){4}, 1);
    cn_tokenizer_close(t);
}

static void test_a_byte_without_a_token_is_named(void **state) {
    (void)state;
    cn_tokenizer *t;
    cn_tokens     tokens = {0};
    const int32_t before[] = {42, 43};
    assert_err(parse(&t, &(parts){0}), CN_OK);
    assert_err(cn_tokens_put(&tokens, before, 2), CN_OK);
    assert_err(cn_tokenizer_encode(t, &tokens, "ab cz", 5, CN_TOKENIZE_TEXT, &t_diag),
               CN_ENOTFOUND);
    assert_string_equal(t_diag.text, "no token for byte 0x7a");
    assert_err(cn_tokenizer_encode(t, &tokens, "ab\xFF", 3, CN_TOKENIZE_TEXT, NULL), CN_ENOTFOUND);
    assert_int_equal(tokens.count, 2);
    assert_memory_equal(tokens.token, before, sizeof(before));
    // And what is there is appended to.
    assert_err(cn_tokenizer_encode(t, &tokens, "d", 1, CN_TOKENIZE_TEXT, &t_diag), CN_OK);
    assert_int_equal(tokens.count, 3);
    assert_int_equal(tokens.token[1], 43);
    assert_int_equal(tokens.token[2], 3);
    cn_tokens_release(&tokens);
    assert_null(tokens.token);
    cn_tokenizer_close(t);
}

static void test_a_pattern_that_runs_away_is_stopped(void **state) {
    (void)state;
    cn_tokenizer *t;
    cn_tokens     tokens = {0};
    assert_err(
        parse(&t,
              &(parts){
                  .pre =
                      "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{"
                      "\"Regex\":\"(?:a|aa|aaa)+[cd]\"},\"behavior\":\"Isolated\"},{\"type\":"
                      "\"ByteLevel\","
                      "\"add_prefix_space\":false,\"use_regex\":false}]}"}),
        CN_OK);
    char *text = repeated("a", 60);
    assert_err(cn_tokenizer_encode(t, &tokens, text, 60, CN_TOKENIZE_TEXT, &t_diag), CN_ETOOBIG);
    assert_non_null(strstr(t_diag.text, "pattern ran away at byte 0 of 60"));
    assert_int_equal(tokens.count, 0);
    cn_tokens_release(&tokens);
    free(text);
    cn_tokenizer_close(t);
}

// ---- Look-ups --------------------------------------------------------------------------

static void test_tokens_are_found_by_content(void **state) {
    (void)state;
    cn_tokenizer *t = open_source(NANO "/tokenizer.json");
    size_t        bytes;
    assert_int_equal(cn_tokenizer_size(t), 16384);
    assert_int_equal(cn_tokenizer_find(t, "<|end|>"), 6);
    assert_int_equal(cn_tokenizer_find(t, "<|end|"), -1);
    assert_int_equal(cn_tokenizer_find(t, ""), -1);
    assert_int_equal(cn_tokenizer_find(t, "\xC4\xA0"), -1); // the alphabet's space is no space
    assert_int_equal(cn_tokenizer_find(t, " "), 227);
    assert_memory_equal(cn_tokenizer_bytes(t, 302, &bytes), " the", 4);
    assert_int_equal(bytes, 4);
    for (int32_t id = -1; id < 20; id++)
        assert_int_equal(cn_tokenizer_is_special(t, id), id >= 0 && id <= 6);
    assert_null(cn_tokenizer_bytes(t, -1, &bytes));
    assert_int_equal(bytes, 0);
    assert_null(cn_tokenizer_bytes(t, 16384, &bytes));
    assert_null(cn_tokenizer_bytes(t, INT32_MAX, &bytes));
    assert_false(cn_tokenizer_is_special(t, 16384));
    cn_tokenizer_close(t);
    cn_tokenizer_close(NULL);
}

static void test_open_reads_the_folder(void **state) {
    (void)state;
    char          path[256];
    cn_tokenizer *t;
    snprintf(path, sizeof(path), "%s/none", t_tmp_dir());
    assert_err(cn_tokenizer_open(&t, path, &t_diag), CN_ENOTFOUND);
    assert_null(t);
    snprintf(path, sizeof(path), "%s/tokenizer.json", t_tmp_dir());
    char *text = made(&(parts){0});
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    fclose(f);
    free(text);
    assert_err(cn_tokenizer_open(&t, t_tmp_dir(), &t_diag), CN_OK);
    assert_int_equal(cn_tokenizer_find(t, "abc"), 6);
    cn_tokenizer_close(t);
    assert_int_equal(truncate(path, (off_t)CN_TOKENIZER_FILE_BYTES_MAX + 1), 0);
    assert_err(cn_tokenizer_open(&t, t_tmp_dir(), &t_diag), CN_ETOOBIG);
    assert_null(t);
    assert_int_equal(remove(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_err(cn_tokenizer_open(&t, t_tmp_dir(), &t_diag), CN_EINVAL);
}

// ---- Failing memory, threads -----------------------------------------------------------

static const parts full = {
    .added =
        "{\"id\":10,\"content\":\"<x>\",\"special\":true},{\"id\":11,\"content\":\"e\xCC\x81\","
        "\"single_word\":true,\"normalized\":true}",
    .normalizer = "{\"type\":\"NFC\"}",
    .pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
           "\"a+\"},"
           "\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":true}]}",
};

static void test_parse_survives_failing_memory(void **state) {
    (void)state;
    for (int n = 1;; n++) {
        cn_tokenizer *t;
        char         *text = made(&full);
        t_diag = (cn_diag){0};
        cn_fault_arm(CN_FAULT_ONCE, n);
        const cn_err err = cn_tokenizer_parse(&t, text, strlen(text), &t_diag);
        const bool   hit = cn_fault_was_hit();
        t_note("fault %d at %s", n, cn_fault_last_point());
        cn_fault_arm(CN_FAULT_OFF, 0);
        free(text);
        cn_tokenizer_close(t);
        if (!hit) {
            assert_err(err, CN_OK);
            assert_true(n > 12); // else the fault points were compiled out
            break;
        }
        assert_err(err, CN_ENOMEM);
        assert_null(t);
        assert_true(t_diag.err == CN_ENOMEM && t_diag.text[0]);
    }
}

static void test_encode_survives_failing_memory(void **state) {
    (void)state;
    cn_tokenizer *t;
    assert_err(parse(&t, &full), CN_OK);
    char *text =
        repeated("e\xCC\x81 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa <x>", 20);
    for (int n = 1;; n++) {
        cn_tokens     tokens = {0};
        const int32_t before = 42;
        assert_err(cn_tokens_put(&tokens, &before, 1), CN_OK);
        t_diag = (cn_diag){0};
        cn_fault_arm(CN_FAULT_ONCE, n);
        const cn_err err =
            cn_tokenizer_encode(t, &tokens, text, strlen(text), CN_TOKENIZE_SPECIAL, &t_diag);
        const bool hit = cn_fault_was_hit();
        t_note("fault %d at %s", n, cn_fault_last_point());
        cn_fault_arm(CN_FAULT_OFF, 0);
        assert_int_equal(tokens.token[0], 42);
        if (hit) assert_int_equal(tokens.count, 1);
        if (hit) assert_true(t_diag.err == CN_ENOMEM && t_diag.text[0]);
        cn_tokens_release(&tokens);
        assert_err(err, hit ? CN_ENOMEM : CN_OK);
        if (hit) continue;
        assert_true(n > 5);
        break;
    }
    free(text);
    cn_tokenizer_close(t);
}

static void test_tokens_put_grows(void **state) {
    (void)state;
    cn_tokens tokens = {0};
    for (int32_t i = 0; i < 1000; i++) assert_err(cn_tokens_put(&tokens, &i, 1), CN_OK);
    assert_err(cn_tokens_put(&tokens, NULL, 0), CN_OK);
    cn_tokens copy = {0};
    assert_err(cn_tokens_put(&copy, tokens.token, tokens.count), CN_OK);
    assert_int_equal(copy.count, 1000);
    for (int32_t i = 0; i < 1000; i++) assert_int_equal(copy.token[i], i);
    int32_t more[64] = {0};
    copy.room = copy.count; // so that the next one must grow
    cn_fault_arm(CN_FAULT_ONCE, 1);
    assert_err(cn_tokens_put(&copy, more, 64), CN_ENOMEM);
    cn_fault_arm(CN_FAULT_OFF, 0);
    assert_int_equal(copy.count, 1000);
    assert_int_equal(copy.token[999], 999);
    cn_tokens_release(&copy);
    cn_tokens_release(&tokens);
    assert_int_equal(tokens.count + tokens.room, 0);
}

typedef struct worker {
    const cn_tokenizer *t;
    const char         *text;
    size_t              bytes;
    cn_tokens           tokens;
    cn_err              err;
} worker;

static void *work(void *arg) {
    worker *w = arg;
    for (int i = 0; i < 3 && !w->err; i++) {
        w->tokens.count = 0;
        w->err = cn_tokenizer_encode(w->t, &w->tokens, w->text, w->bytes, CN_TOKENIZE_TEXT, NULL);
    }
    return NULL;
}

static void test_threads_share_a_tokenizer(void **state) {
    (void)state;
    enum { THREADS = 4 };
    cn_tokenizer *t = open_source(NANO "/tokenizer.json");
    size_t        bytes;
    char         *text = t_read_source_file("engine/tokenizer_load.c", &bytes);
    cn_tokens     want = encode(t, text, bytes, CN_TOKENIZE_TEXT);
    pthread_t     thread[THREADS];
    worker        w[THREADS];
    for (int i = 0; i < THREADS; i++) {
        w[i] = (worker){.t = t, .text = text, .bytes = bytes};
        assert_int_equal(pthread_create(&thread[i], NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_err(w[i].err, CN_OK);
        assert_int_equal(w[i].tokens.count, want.count);
        assert_memory_equal(w[i].tokens.token, want.token, (size_t)want.count * sizeof(int32_t));
        cn_tokens_release(&w[i].tokens);
    }
    cn_tokens_release(&want);
    free(text);
    cn_tokenizer_close(t);
}

/* A piece of 1 MB takes as long as it takes, not its square: at 100 KB/s, in a sanitizer, 10 s. */
static void test_a_long_piece_is_not_quadratic(void **state) {
    (void)state;
    cn_tokenizer *t = open_source(NANO "/tokenizer.json");
    const size_t  bytes = t_is_sanitized() ? 200 << 10 : 1 << 20;
    char         *text = malloc(bytes);
    assert_non_null(text);
    for (size_t i = 0; i < bytes; i++) text[i] = "etaoinsrdlu"[t_rand_range(0, 10)];
    const int64_t start = cn_clock_ns();
    assert_comes_back(t, text, bytes, CN_TOKENIZE_TEXT);
    memset(text, '-', bytes);
    assert_comes_back(t, text, bytes, CN_TOKENIZE_TEXT);
    assert_true(cn_clock_ns() - start < INT64_C(20) * 1000000000);
    free(text);
    cn_tokenizer_close(t);
}

// ---- Decoding a stream -----------------------------------------------------------------

static void test_detok_gives_whole_characters(void **state) {
    (void)state;
    cn_tokenizer *t = open_source(NANO "/tokenizer.json");
    const char    text[] = "na\xC3\xAFve \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80!";
    cn_tokens     tokens = encode(t, text, strlen(text), CN_TOKENIZE_TEXT);
    cn_buf        out = {0};
    cn_detok      d = {0};
    const int32_t end = cn_tokenizer_find(t, "<|end|>");
    for (int64_t i = 0; i < tokens.count; i++) {
        cn_detok_put(&d, t, tokens.token[i], &out);
        assert_int_equal(cn_utf8_cut(cn_buf_str(&out), out.bytes),
                         out.bytes); // nothing is half out
        assert_null(strstr(cn_buf_str(&out), "\xEF\xBF\xBD"));
        cn_detok_put(&d, t, end, &out); // gives nothing, disturbs nothing
        cn_detok_put(&d, t, -1, &out);
        cn_detok_put(&d, t, cn_tokenizer_size(t), &out);
    }
    assert_int_equal(d.held_bytes, 0);
    cn_detok_end(&d, &out);
    assert_string_equal(cn_buf_str(&out), text);

    // Cut in the middle of a character: one mark at the end, and the stream is new.
    cn_buf_reset(&out);
    tokens.count = 0;
    assert_err(cn_tokenizer_encode(t, &tokens, "\xF0\x9F\x98", 3, CN_TOKENIZE_TEXT, NULL), CN_OK);
    for (int64_t i = 0; i < tokens.count; i++) cn_detok_put(&d, t, tokens.token[i], &out);
    assert_int_equal(out.bytes, 0);
    cn_detok_end(&d, &out);
    assert_string_equal(cn_buf_str(&out), "\xEF\xBF\xBD");
    assert_int_equal(d.held_bytes, 0);
    cn_detok_end(&d, &out);
    assert_int_equal(out.bytes, 3);
    cn_buf_release(&out);
    cn_tokens_release(&tokens);
    cn_tokenizer_close(t);
}

/* Unicode 15, tables 3-8 to 3-11: how many U+FFFD stand for ill-formed bytes.  '?' is one. */
static void test_detok_marks_what_is_not_utf8(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", "????????A"},
        {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", "????????A"},
        {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", "?????A??B"},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", "????A"},
        {"\xC3\xC3\xA9", "?\xC3\xA9"},
        {"\xF0\x9F\x98\xF0\x9F\x98\x80", "?\xF0\x9F\x98\x80"},
        {"a\xE4\xBD", "a?"},
        {"\x80", "?"},
        {"\xF5\x80", "??"},
    };
    cn_tokenizer *t = open_source(NANO "/tokenizer.json");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cn_tokens tokens = encode(t, cases[i][0], strlen(cases[i][0]), CN_TOKENIZE_TEXT);
        cn_buf    out = {0}, want = {0};
        cn_detok  d = {0};
        for (int64_t k = 0; k < tokens.count; k++) cn_detok_put(&d, t, tokens.token[k], &out);
        cn_detok_end(&d, &out);
        for (const char *p = cases[i][1]; *p; p++)
            cn_buf_put(&want, *p == '?' ? "\xEF\xBF\xBD" : p, *p == '?' ? 3 : 1);
        t_note("case %zu", i);
        assert_string_equal(cn_buf_str(&out), cn_buf_str(&want));
        cn_buf_release(&want);
        cn_buf_release(&out);
        cn_tokens_release(&tokens);
    }
    cn_tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_are_those_of_the_reference),
        cmocka_unit_test(test_every_byte_string_comes_back),
        cmocka_unit_test(test_source_files_come_back),
        cmocka_unit_test(test_bytes_that_are_not_utf8_stand_alone),
        cmocka_unit_test(test_plain_text_cannot_forge_a_special_token),
        cmocka_unit_test(test_a_broken_tokenizer_is_refused_by_name),
        cmocka_unit_test(test_limits_are_kept),
        cmocka_unit_test(test_the_kinds_that_are_accepted),
        cmocka_unit_test(test_a_byte_without_a_token_is_named),
        cmocka_unit_test(test_a_pattern_that_runs_away_is_stopped),
        cmocka_unit_test(test_tokens_are_found_by_content),
        cmocka_unit_test(test_open_reads_the_folder),
        cmocka_unit_test(test_parse_survives_failing_memory),
        cmocka_unit_test(test_encode_survives_failing_memory),
        cmocka_unit_test(test_tokens_put_grows),
        cmocka_unit_test(test_threads_share_a_tokenizer),
        cmocka_unit_test(test_a_long_piece_is_not_quadratic),
        cmocka_unit_test(test_detok_gives_whole_characters),
        cmocka_unit_test(test_detok_marks_what_is_not_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

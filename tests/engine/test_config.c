/*
 * test_config.c - Every key of config.h: read, its default, its range, its refusals by name.
 *
 * Method: a config of the required keys alone, with one key replaced, added or left out.
 */
#include "base/buf.h"
#include "engine/config.h"
#include "tests/test.h"

static const char *const required[][2] = {
    {"model_type", "\"clsa\""},   {"hidden_size", "64"},     {"intermediate_size", "128"},
    {"num_self_layers", "2"},     {"num_cross_layers", "3"}, {"num_attention_heads", "4"},
    {"num_key_value_heads", "2"}, {"head_dim", "16"},        {"vocab_size", "100"},
};
enum { REQUIRED = sizeof(required) / sizeof(required[0]) };

typedef enum { WHOLE, REAL, FLAG, NAME } kind;

/* Each key, the ends of its range, what is just outside, and how a message says so. */
static const struct {
    const char *name;
    kind        kind;
    const char *lowest, *highest, *below, *above, *range;
} keys[] = {
    {.name = "model_type", .kind = NAME},
    {"hidden_size", WHOLE, "16", "32768", "0", "32784", "16..32768"},
    {"intermediate_size", WHOLE, "16", "32768", "-16", "32784", "16..32768"},
    {"num_self_layers", WHOLE, "1", "256", "0", "257", "1..256"},
    {"num_cross_layers", WHOLE, "1", "256", "0", "257", "..256"},
    {"num_attention_heads", WHOLE, "2", "128", "0", "129", "1..128"},
    {"num_key_value_heads", WHOLE, "1", "4", "0", "129", "1..128"},
    {"head_dim", WHOLE, "16", "256", "0", "272", "16..256"},
    {"vocab_size", WHOLE, "1", "4194304", "0", "4194305", "1..4194304"},
    {"sliding_window", WHOLE, "1", "65536", "0", "65537", "1..65536"},
    {"document_sink", WHOLE, "0", "65536", "-1", "65537", "0..65536"},
    {"rope_theta", REAL, "1.0000001", "1e300", "1", NULL, "more than 1"},
    {.name = "rope_layout", .kind = NAME},
    {.name = "rope_global", .kind = FLAG},
    {"rms_norm_eps", REAL, "1e-44", "3e38", "0", "1e+39", NULL},
    {.name = "embed_norm", .kind = FLAG},
    {"embed_scale", REAL, "-3e38", "3e38", NULL, "1e+39", "f32"},
    {.name = "tie_word_embeddings", .kind = FLAG},
    {.name = "qk_norm_self", .kind = FLAG},
    {.name = "qk_norm_cross", .kind = FLAG},
    {"index_heads", WHOLE, "1", "64", "0", "65", "1..64"},
    {"index_head_dim", WHOLE, "16", "512", "0", "528", "16..512"},
    {.name = "index_act", .kind = NAME},
    {.name = "index_weighted", .kind = FLAG},
    {.name = "index_key_norm", .kind = FLAG},
    {"index_local", WHOLE, "0", "134217728", "-1", "134217729", "0..134217728"},
    {"index_topk", WHOLE, "1", "134217728", "0", "9223372036854775807", "1..134217728"},
    {"index_scale", REAL, "1e-44", "3e38", "0", "1e+39", NULL},
    {.name = "conversation_refs", .kind = FLAG},
    {.name = "conversation_summaries", .kind = FLAG},
    {.name = "quantization", .kind = NAME},
};
enum { KEYS = sizeof(keys) / sizeof(keys[0]) };

static cn_err parse(cn_config *c, const char *text) {
    t_diag = (cn_diag){0};
    t_note("%s", text);
    return cn_config_parse(c, text, strlen(text), &t_diag);
}

/* The required keys, with `key` set to `value`; left out if that is NULL. */
static cn_err parse_with(cn_config *c, const char *key, const char *value) {
    cn_buf text = {0};
    cn_buf_put_str(&text, "{\"architectures\": [\"X\"], \"torch_dtype\": null");
    for (int i = 0; i < REQUIRED; i++)
        if (strcmp(required[i][0], key) != 0)
            cn_buf_printf(&text, ", \"%s\": %s", required[i][0], required[i][1]);
    if (value) cn_buf_printf(&text, ", \"%s\": %s", key, value);
    cn_buf_put_str(&text, "}");
    assert_err(text.err, CN_OK);
    const cn_err err = parse(c, text.data);
    cn_buf_release(&text);
    return err;
}

/* Refused with `want`; the diag has the key and both texts, and *c is zero. */
static void refuse(const char *key, const char *value, cn_err want, const char *has1,
                   const char *has2) {
    static const cn_config nothing;
    cn_config              c;
    memset(&c, 0xA5, sizeof(c));
    assert_err(parse_with(&c, key, value), want);
    if (!strstr(t_diag.text, key) || !strstr(t_diag.text, has1) || !strstr(t_diag.text, has2))
        t_fail(__FILE__, __LINE__, "diag \"%s\" lacks \"%s\", \"%s\" or \"%s\"", t_diag.text, key,
               has1, has2);
    assert_memory_equal(&c, &nothing, sizeof(c));
}

static void test_required_keys_alone_give_the_defaults(void **state) {
    (void)state;
    cn_config c;
    assert_err(parse_with(&c, "unknown", "[1, {\"hidden_size\": 1}]"), CN_OK);
    assert_int_equal(c.arm, CN_ARM_CLSA);
    assert_int_equal(c.hidden, 64);
    assert_int_equal(c.ffn, 128);
    assert_int_equal(c.self_layers, 2);
    assert_int_equal(c.cross_layers, 3);
    assert_int_equal(c.heads, 4);
    assert_int_equal(c.kv_heads, 2);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.vocab, 100);
    assert_int_equal(c.window, 512);
    assert_int_equal(c.sink, 0);
    assert_true(c.rope_theta == 10000.0);
    assert_int_equal(c.rope_layout, CN_ROPE_HALF_SPLIT);
    assert_false(c.rope_global);
    assert_true(c.eps == 1e-5f);
    assert_false(c.embed_norm);
    assert_true(c.embed_scale == 1.0f);
    assert_false(c.tie_embeddings);
    assert_true(c.qk_norm_self);
    assert_false(c.qk_norm_cross);
    assert_int_equal(c.index_heads, 1);
    assert_int_equal(c.index_dim, 128);
    assert_int_equal(c.index_act, CN_INDEX_ACT_NONE);
    assert_false(c.index_weighted);
    assert_false(c.index_key_norm);
    assert_int_equal(c.index_local, 0);
    assert_int_equal(c.index_topk, 2048);
    assert_float_equal(c.index_scale, 0.0883883, 1e-6); // 128^-1/2
    assert_false(c.conversation_refs);
    assert_false(c.conversation_summaries);
    assert_false(c.int8_rows);
    assert_int_equal(c.roles, 0);
}

/* No value is its default or another key's, so that no two fields can be swapped. */
static void test_every_key_is_read(void **state) {
    (void)state;
    cn_config c;
    assert_err(parse(&c, "{\"model_type\":\"yoco\",\"hidden_size\":48,\"intermediate_size\":80,"
                         "\"num_self_layers\":5,\"num_cross_layers\":7,\"num_attention_heads\":6,"
                         "\"num_key_value_heads\":3,\"head_dim\":32,\"vocab_size\":1000,"
                         "\"sliding_window\":11,\"document_sink\":13,\"rope_theta\":5e5,"
                         "\"rope_layout\":\"interleaved\",\"rope_global\":true,"
                         "\"rms_norm_eps\":1e-6,\"embed_norm\":true,\"embed_scale\":-2.5,"
                         "\"tie_word_embeddings\":true,\"qk_norm_self\":false,"
                         "\"qk_norm_cross\":true,\"index_heads\":4,\"index_head_dim\":64,"
                         "\"index_act\":\"relu\",\"index_weighted\":true,\"index_key_norm\":true,"
                         "\"index_local\":17,\"index_topk\":19,\"index_scale\":0.75,"
                         "\"conversation_refs\":true,\"conversation_summaries\":true,"
                         "\"quantization\":\"int8_rows\",\"roles\":{\"user\":999,\"end\":0}}"),
               CN_OK);
    assert_int_equal(c.arm, CN_ARM_YOCO);
    assert_false(cn_config_has_index(&c));
    assert_int_equal(c.hidden, 48);
    assert_int_equal(c.ffn, 80);
    assert_int_equal(c.self_layers, 5);
    assert_int_equal(c.cross_layers, 7);
    assert_int_equal(c.heads, 6);
    assert_int_equal(c.kv_heads, 3);
    assert_int_equal(c.head_dim, 32);
    assert_int_equal(c.vocab, 1000);
    assert_int_equal(c.window, 11);
    assert_int_equal(c.sink, 13);
    assert_true(c.rope_theta == 5e5);
    assert_int_equal(c.rope_layout, CN_ROPE_INTERLEAVED);
    assert_true(c.rope_global);
    assert_true(c.eps == 1e-6f);
    assert_true(c.embed_norm);
    assert_true(c.embed_scale == -2.5f);
    assert_true(c.tie_embeddings);
    assert_false(c.qk_norm_self);
    assert_true(c.qk_norm_cross);
    assert_int_equal(c.index_heads, 4);
    assert_int_equal(c.index_dim, 64);
    assert_int_equal(c.index_act, CN_INDEX_ACT_RELU);
    assert_true(c.index_weighted);
    assert_true(c.index_key_norm);
    assert_int_equal(c.index_local, 17);
    assert_int_equal(c.index_topk, 19);
    assert_true(c.index_scale == 0.75f);
    assert_true(c.conversation_refs);
    assert_true(c.conversation_summaries);
    assert_true(c.int8_rows);
    assert_int_equal(c.roles, 2);
    assert_int_equal(cn_config_role(&c, "user"), 999);
    assert_int_equal(cn_config_role(&c, "end"), 0);
    assert_int_equal(cn_config_role(&c, "use"), -1);
}

/* Of the heads, each has its weight; without weights they are summed as they are. */
static void test_index_scale(void **state) {
    (void)state;
    cn_config c;
    assert_err(parse_with(&c, "index_heads", "4, \"index_head_dim\": 64"), CN_OK);
    assert_true(c.index_scale == 0.125f);
    assert_err(parse_with(&c, "index_heads", "4, \"index_head_dim\": 64, \"index_weighted\": true"),
               CN_OK);
    assert_true(c.index_scale == 0.0625f);
}

/* One flag at a time: none of them is another's. */
static void test_flags_are_their_own(void **state) {
    (void)state;
    for (int i = 0; i < KEYS; i++) {
        if (keys[i].kind != FLAG) continue;
        cn_config                c, d;
        const bool               is_on = strcmp(keys[i].name, "qk_norm_self") == 0;
        const bool              *on[] = {&c.rope_global,    &c.embed_norm,        &c.tie_embeddings,
                                         &c.qk_norm_self,   &c.qk_norm_cross,     &c.index_weighted,
                                         &c.index_key_norm, &c.conversation_refs, &c.conversation_summaries};
        static const char *const names[] = {
            "rope_global",    "embed_norm",        "tie_word_embeddings",
            "qk_norm_self",   "qk_norm_cross",     "index_weighted",
            "index_key_norm", "conversation_refs", "conversation_summaries"};
        assert_err(parse_with(&d, "unknown", "0"), CN_OK);
        assert_err(parse_with(&c, keys[i].name, is_on ? "false" : "true"), CN_OK);
        for (size_t f = 0; f < sizeof(names) / sizeof(names[0]); f++) {
            const bool by_default = strcmp(names[f], "qk_norm_self") == 0;
            assert_int_equal(*on[f], by_default != (strcmp(names[f], keys[i].name) == 0));
        }
    }
}

static void test_missing_keys_are_named(void **state) {
    (void)state;
    for (int i = 0; i < REQUIRED; i++)
        refuse(required[i][0], NULL, CN_ECORRUPT, "missing", "config.json");
}

static void test_wrong_types_are_named(void **state) {
    (void)state;
    static const struct {
        const char *value, *shown;
        bool        fits[4]; // by kind
    } values[] = {
        {"\"12\"", "\"12\"", {[NAME] = true}},
        {"\"a text that is longer than the forty bytes which a message shows\"",
         "string",
         {[NAME] = true}},
        {"null", "null", {0}},
        {"[16]", "array", {0}},
        {"{\"a\": 1}", "object", {0}},
        {"true", "true", {[FLAG] = true}},
        {"32.5", "32.5", {[REAL] = true}},
        {"32.0", "32", {[REAL] = true}},
        {"4e1", "40", {[REAL] = true}},
        {"16", "16", {[REAL] = true, [WHOLE] = true}},
        {"123456789012345678901234567890", "1.2345", {[REAL] = true}},
    };
    for (int i = 0; i < KEYS; i++)
        for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++)
            if (!values[v].fits[keys[i].kind])
                refuse(keys[i].name, values[v].value, CN_ECORRUPT, values[v].shown, "want");
    refuse("roles", "[1]", CN_ECORRUPT, "array", "object");
}

static void test_ranges_hold_at_both_ends(void **state) {
    (void)state;
    cn_config c;
    for (int i = 0; i < KEYS; i++) {
        if (keys[i].lowest) assert_err(parse_with(&c, keys[i].name, keys[i].lowest), CN_OK);
        if (keys[i].highest) assert_err(parse_with(&c, keys[i].name, keys[i].highest), CN_OK);
        const char *range = keys[i].range ? keys[i].range : "";
        if (keys[i].below) refuse(keys[i].name, keys[i].below, CN_ECORRUPT, keys[i].below, range);
        if (keys[i].above) refuse(keys[i].name, keys[i].above, CN_ETOOBIG, keys[i].above, range);
    }
    refuse("rms_norm_eps", "-1e-5", CN_ECORRUPT, "-1", "more than 0");
    refuse("rms_norm_eps", "1e-60", CN_ECORRUPT, "1e-60", "more than 0"); // 0 in f32
    refuse("embed_scale", "-1e39", CN_ETOOBIG, "1e+39", "f32");
}

static void test_multiples_of_16(void **state) {
    (void)state;
    static const char *const names[] = {"hidden_size", "intermediate_size", "head_dim",
                                        "index_head_dim"};
    for (int i = 0; i < 4; i++) {
        refuse(names[i], "40", CN_ECORRUPT, "40", "multiple of 16");
        refuse(names[i], "17", CN_ECORRUPT, "17", "multiple of 16");
    }
}

static void test_values_that_are_not_built_in(void **state) {
    (void)state;
    refuse("model_type", "\"llama\"", CN_EUNSUPPORTED, "\"llama\"",
           "clsa, yoco, yoco-perlayer, transformer");
    refuse("model_type", "\"yoco_perlayer\"", CN_EUNSUPPORTED, "yoco_perlayer", "clsa, yoco");
    refuse("model_type", "\"clsa \"", CN_EUNSUPPORTED, "\"clsa \"", "clsa, yoco");
    refuse("model_type", "\"\"", CN_EUNSUPPORTED, "\"\"", "clsa, yoco");
    refuse("rope_layout", "\"spiral\"", CN_EUNSUPPORTED, "spiral", "half_split, interleaved");
    refuse("index_act", "\"gelu\"", CN_EUNSUPPORTED, "gelu", "none, relu");
    refuse("quantization", "\"int4\"", CN_EUNSUPPORTED, "int4", "none, int8_rows");
    // A model of another kind is told so, not that it lacks our keys.
    cn_config c;
    assert_err(parse(&c, "{\"model_type\": \"llama\", \"hidden_size\": 64}"), CN_EUNSUPPORTED);
    assert_non_null(strstr(t_diag.text, "llama"));
    cn_config d;
    assert_err(parse_with(&d, "index_act", "\"none\""), CN_OK);
    assert_int_equal(d.index_act, CN_INDEX_ACT_NONE);
    assert_true(cn_config_has_index(&d));
}

/* parse_with, for two keys: the model_type and the cross layers. */
static cn_err parse_arm(cn_config *c, const char *arm, int cross_layers) {
    char value[96];
    snprintf(value, sizeof(value), "%d, \"model_type\": \"%s\"", cross_layers, arm);
    cn_buf text = {0};
    cn_buf_put_str(&text, "{");
    for (int i = 1; i < REQUIRED; i++) // 0 is model_type
        if (strcmp(required[i][0], "num_cross_layers") != 0)
            cn_buf_printf(&text, "\"%s\": %s, ", required[i][0], required[i][1]);
    cn_buf_printf(&text, "\"num_cross_layers\": %s}", value);
    const cn_err err = parse(c, cn_buf_str(&text));
    cn_buf_release(&text);
    return err;
}

static void test_arms(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int         least, most, sources; // cross layers; index sources of the most
        bool        has_sessions;
    } arms[CN_ARM_COUNT] = {
        [CN_ARM_CLSA] = {"clsa", 1, 256, 1, true},
        [CN_ARM_YOCO] = {"yoco", 1, 256, 0, true},
        [CN_ARM_YOCO_PERLAYER] = {"yoco-perlayer", 1, 128, 128, false},
        [CN_ARM_TRANSFORMER] = {"transformer", 0, 0, 0, false},
    };
    for (int arm = 0; arm < CN_ARM_COUNT; arm++) {
        cn_config c;
        assert_string_equal(cn_arm_name((cn_arm)arm), arms[arm].name);
        assert_err(parse_arm(&c, arms[arm].name, arms[arm].least), CN_OK);
        assert_err(parse_arm(&c, arms[arm].name, arms[arm].most), CN_OK);
        assert_int_equal(c.arm, arm);
        assert_int_equal(c.cross_layers, arms[arm].most);
        assert_int_equal(cn_config_index_sources(&c), arms[arm].sources);
        assert_int_equal(cn_config_has_index(&c), arms[arm].sources > 0);
        assert_int_equal(cn_config_has_sessions(&c), arms[arm].has_sessions);
        assert_true(c.rope_theta == (arm == CN_ARM_TRANSFORMER ? 500000 : 10000));
        assert_true(parse_arm(&c, arms[arm].name, arms[arm].most + 1));
        assert_non_null(strstr(t_diag.text, "num_cross_layers is"));
        if (arms[arm].least == 0) continue;
        assert_err(parse_arm(&c, arms[arm].name, 0), CN_ECORRUPT);
        assert_non_null(strstr(t_diag.text, arms[arm].name));
    }
    // The same dimensions, another arm.
    cn_config c, t;
    assert_err(parse_arm(&c, "clsa", 3), CN_OK);
    c.sink = 7;
    t = cn_config_as_arm(&c, CN_ARM_YOCO_PERLAYER);
    assert_true(t.arm == CN_ARM_YOCO_PERLAYER && t.cross_layers == 3 && t.sink == 7);
    t = cn_config_as_arm(&c, CN_ARM_TRANSFORMER);
    assert_true(t.self_layers == c.self_layers + 3 && t.cross_layers == 0 && t.sink == 0);
    assert_true(t.rope_theta == 500000 && t.hidden == c.hidden && t.ffn == c.ffn);
    t = cn_config_as_arm(&t, CN_ARM_TRANSFORMER);
    assert_int_equal(t.self_layers, c.self_layers + 3);
}

static void test_heads_are_a_multiple_of_kv_heads(void **state) {
    (void)state;
    refuse("num_key_value_heads", "3", CN_ECORRUPT, "3", "num_attention_heads is 4");
    refuse("num_key_value_heads", "8", CN_ECORRUPT, "8", "num_attention_heads is 4");
}

static void test_roles(void **state) {
    (void)state;
    cn_config c;
    assert_err(parse_with(&c, "roles", "{}"), CN_OK);
    assert_int_equal(c.roles, 0);
    assert_err(parse_with(&c, "roles", "{\"a\": 99, \"1234567890123456789012345678901\": 0}"),
               CN_OK);
    assert_int_equal(cn_config_role(&c, "a"), 99);
    assert_int_equal(cn_config_role(&c, "1234567890123456789012345678901"), 0);
    refuse("roles", "{\"a\": 100}", CN_ECORRUPT, "roles.a is 100", "vocab_size is 100");
    refuse("roles", "{\"a\": -1}", CN_ECORRUPT, "roles.a is -1", "0..");
    refuse("roles", "{\"a\": 4194304}", CN_ETOOBIG, "roles.a is 4194304", "0..4194303");
    refuse("roles", "{\"a\": \"1\"}", CN_ECORRUPT, "roles.a is \"1\"", "integer");
    refuse("roles", "{\"a\": 1.5}", CN_ECORRUPT, "roles.a is 1.5", "integer");
    refuse("roles", "{\"12345678901234567890123456789012\": 0}", CN_ETOOBIG, "32 bytes",
           "limit 31");
    cn_buf text = {0};
    for (int n = CN_ROLES_MAX; n <= CN_ROLES_MAX + 1; n++) {
        cn_buf_reset(&text);
        for (int i = 0; i < n; i++) cn_buf_printf(&text, "%s\"r%d\": %d", i ? ", " : "{", i, i);
        cn_buf_put_str(&text, "}");
        if (n <= CN_ROLES_MAX) {
            assert_err(parse_with(&c, "roles", text.data), CN_OK);
            assert_int_equal(c.roles, CN_ROLES_MAX);
            assert_int_equal(cn_config_role(&c, "r31"), 31);
        } else
            refuse("roles", text.data, CN_ETOOBIG, "33 roles", "limit 32");
    }
    cn_buf_release(&text);
    assert_err(parse_with(&c, "roles", "{\"\": 0}"), CN_ECORRUPT);
    assert_non_null(strstr(t_diag.text, "roles: an empty name"));
}

static void test_text_that_is_no_config(void **state) {
    (void)state;
    cn_config   c;
    const char *bad[] = {"",
                         " ",
                         "{",
                         "[]",
                         "1",
                         "null",
                         "\"clsa\"",
                         "{} {}",
                         "{\"a\": 01}",
                         "{\"a\": 1, \"a\": 2}",
                         "{\"a\": NaN}",
                         "\xEF\xBB\xBF{}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_err(parse(&c, bad[i]), CN_ECORRUPT);
        assert_non_null(strstr(t_diag.text, "config.json"));
    }
    assert_err(cn_config_parse(&c, "[]", 2, NULL), CN_ECORRUPT); // a diag may be declined

    char *big = malloc(CN_CONFIG_BYTES_MAX + 1);
    assert_non_null(big);
    memset(big, ' ', CN_CONFIG_BYTES_MAX + 1);
    memcpy(big, "{}", 2);
    assert_err(cn_config_parse(&c, big, CN_CONFIG_BYTES_MAX, &t_diag), CN_ECORRUPT); // no keys
    assert_err(cn_config_parse(&c, big, CN_CONFIG_BYTES_MAX + 1, &t_diag), CN_ETOOBIG);
    assert_non_null(strstr(t_diag.text, "1048576"));
    free(big);
}

static void test_config_of_the_example_model(void **state) {
    (void)state;
    cn_config c;
    size_t    bytes;
    char     *text = t_read_source_file("examples/models/cairn-nano/config.json", &bytes);
    assert_err(cn_config_parse(&c, text, bytes, &t_diag), CN_OK);
    free(text);
    assert_int_equal(c.hidden, 512);
    assert_int_equal(c.sink, 48);
    assert_int_equal(c.index_topk, 2048);
    assert_true(c.eps == 1e-6f && c.int8_rows && c.tie_embeddings);
    assert_int_equal(c.roles, 7);
    assert_int_equal(cn_config_role(&c, "tool_result"), 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_required_keys_alone_give_the_defaults),
        cmocka_unit_test(test_every_key_is_read),
        cmocka_unit_test(test_index_scale),
        cmocka_unit_test(test_flags_are_their_own),
        cmocka_unit_test(test_missing_keys_are_named),
        cmocka_unit_test(test_wrong_types_are_named),
        cmocka_unit_test(test_ranges_hold_at_both_ends),
        cmocka_unit_test(test_multiples_of_16),
        cmocka_unit_test(test_values_that_are_not_built_in),
        cmocka_unit_test(test_arms),
        cmocka_unit_test(test_heads_are_a_multiple_of_kv_heads),
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_text_that_is_no_config),
        cmocka_unit_test(test_config_of_the_example_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_bill.c - The bill's rules, each broken once; its sum; its JSON, read back. */
#include "store/bill.h"
#include "tests/test.h"

/* The example of the command line's contract, to the tenth of a millisecond. */
static cn_bill good(void) {
    cn_bill b = {.context_tokens = 31870,
                 .cached_tokens = 28379,
                 .prefilled_tokens = 3491,
                 .prompt_tokens = 24,
                 .output_tokens = 118,
                 .reused_tokens = 28400,
                 .ttft_ns = 18900000,
                 .load_ns = 84000000,
                 .queue_ns = 100000,
                 .tokenize_ns = 300000,
                 .context_ns = 4100000,
                 .restore_ns = 1200000,
                 .prefill_ns = 12000000,
                 .route_ns = 11800000,
                 .attend_ns = 21500000,
                 .decode_ns = 131600000,
                 .tool_ns = 200000,
                 .store_ns = 6700000,
                 .bytes_read = 20400000,
                 .bytes_written = 168000,
                 .no_cache_ns = 9991000000,
                 .per_layer_routing_ns = 250000000,
                 .saved_ns = 9800000000};
    b.misses[CN_MISS_CHANGED].count = 2;
    b.misses[CN_MISS_CHANGED].tokens = 3000;
    b.misses[CN_MISS_EVICTED].count = 1;
    b.misses[CN_MISS_EVICTED].tokens = 491;
    cn_bill_set_wall(&b, 191000000);
    return b;
}

static void assert_refused(const cn_bill *b, const char *why) {
    cn_diag diag = {0};
    t_note("%s", why);
    assert_err(cn_bill_check(b, &diag), CN_EINVAL);
    assert_int_equal(diag.err, CN_EINVAL);
    if (!strstr(diag.text, why)) t_fail(__FILE__, __LINE__, "\"%s\"", diag.text);
    assert_err(cn_bill_check(b, NULL), CN_EINVAL);
}

static void test_good_bill_passes(void **state) {
    (void)state;
    cn_bill b = good();
    assert_int_equal(b.other_ns, 1500000);
    assert_err(cn_bill_check(&b, &t_diag), CN_OK);
    b = (cn_bill){0};
    assert_err(cn_bill_check(&b, &t_diag), CN_OK);
    b = good();
    b.no_cache_ns = b.wall_ns - 5; // the cache may cost more than it saves
    b.saved_ns = -5;
    assert_err(cn_bill_check(&b, &t_diag), CN_OK);
    b.no_cache_ns = b.saved_ns = b.per_layer_routing_ns = 0; // not known
    assert_err(cn_bill_check(&b, &t_diag), CN_OK);
}

/* The parts may miss 1 % of the wall, in either direction, and not a nanosecond more. */
static void test_parts_add_up(void **state) {
    (void)state;
    cn_bill b = good();
    b.decode_ns += 1910000;
    assert_err(cn_bill_check(&b, &t_diag), CN_OK);
    b.decode_ns += 1;
    assert_refused(&b, "parts add up to 192910001 ns, wall is 191000000 ns");
    b = good();
    b.decode_ns -= 1910000;
    assert_err(cn_bill_check(&b, &t_diag), CN_OK);
    b.decode_ns -= 1;
    assert_refused(&b, "parts add up to 189089999 ns");
    // Each part counts, once.
    int64_t *const part[] = {&b.queue_ns,   &b.tokenize_ns, &b.context_ns, &b.restore_ns,
                             &b.prefill_ns, &b.route_ns,    &b.attend_ns,  &b.decode_ns,
                             &b.tool_ns,    &b.store_ns};
    for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
        b = good();
        *part[i] += 3820000;
        assert_refused(&b, "parts add up to 194820000 ns");
    }
    // Time outside the wall does not.
    b = good();
    b.ttft_ns = b.load_ns = 1;
    assert_err(cn_bill_check(&b, &t_diag), CN_OK);
}

static void test_other_is_small(void **state) {
    (void)state;
    cn_bill b = {.decode_ns = 95000001};
    cn_bill_set_wall(&b, 100000000);
    assert_err(cn_bill_check(&b, &t_diag), CN_OK);
    b.decode_ns = 95000000;
    cn_bill_set_wall(&b, 100000000);
    assert_refused(&b, "other is 5000000 ns of a wall of 100000000 ns");
    b = (cn_bill){0};
    cn_bill_set_wall(&b, 999999); // all of it, and under 1 ms
    assert_int_equal(b.other_ns, 999999);
    assert_err(cn_bill_check(&b, &t_diag), CN_OK);
    cn_bill_set_wall(&b, 1000000);
    assert_refused(&b, "other is 1000000 ns");
    b.decode_ns = 5;
    cn_bill_set_wall(&b, 4); // clocks that disagree: other is not negative
    assert_int_equal(b.other_ns, 0);
}

static void test_tokens_add_up(void **state) {
    (void)state;
    cn_bill b = good();
    b.context_tokens++;
    assert_refused(&b, "context of 31871 tokens, 28379 cached + 3491 prefilled");
    b = good();
    b.misses[CN_MISS_NEW].count = 1;
    b.misses[CN_MISS_NEW].tokens = 1;
    assert_refused(&b, "misses of 3492 tokens, 3491 prefilled");
    b = good();
    b.misses[CN_MISS_EVICTED].count = 0;
    assert_refused(&b, "491 tokens of 0 misses for \"evicted\"");
}

/* What would have been: known and in step with the wall, or not claimed. */
static void test_claims_hold(void **state) {
    (void)state;
    cn_bill b = good();
    b.saved_ns++;
    assert_refused(&b, "saved 9800000001 ns, 9991000000 ns without a cache, wall is 191000000 ns");
    b = good();
    b.no_cache_ns = 0; // nobody knows, and yet something is saved
    assert_refused(&b, "saved 9800000000 ns, 0 ns without a cache");
    b = good();
    b.per_layer_routing_ns = b.wall_ns - 1;
    assert_refused(&b, "190999999 ns with routing in each layer, wall is 191000000 ns");
    b.per_layer_routing_ns = b.wall_ns;
    assert_err(cn_bill_check(&b, &t_diag), CN_OK);
}

/* A turn of which nobody knows what it would have cost counts as it was; a sum of only such turns
 * is not known either. */
static void test_sum_of_what_is_not_known(void **state) {
    (void)state;
    const cn_bill known = {
        .wall_ns = 10, .no_cache_ns = 100, .saved_ns = 90, .per_layer_routing_ns = 30};
    const cn_bill unknown = {.wall_ns = 7};
    for (int order = 0; order < 2; order++) {
        cn_bill sum = {0};
        cn_bill_add(&sum, order ? &unknown : &known);
        cn_bill_add(&sum, order ? &known : &unknown);
        assert_int_equal(sum.wall_ns, 17);
        assert_int_equal(sum.no_cache_ns, 107);
        assert_int_equal(sum.saved_ns, 90);
        assert_int_equal(sum.per_layer_routing_ns, 37);
        cn_bill_add(&sum, &unknown);
        assert_int_equal(sum.no_cache_ns, 114);
    }
    cn_bill sum = unknown;
    cn_bill_add(&sum, &unknown);
    assert_true(sum.no_cache_ns == 0 && sum.per_layer_routing_ns == 0);
    cn_buf         buf = {0};
    cn_json_writer w = cn_json_writer_on(&buf);
    cn_bill_put_json(&w, &sum);
    assert_non_null(strstr(cn_buf_str(&buf), "\"no_cache_ms\":null,\"per_layer_routing_ms\":null,"
                                             "\"saved_ms\":null,"));
    cn_buf_release(&buf);
}

static void test_numbers_have_a_range(void **state) {
    (void)state;
    enum { NUMBERS = sizeof(cn_bill) / sizeof(int64_t) };
    for (int i = 0; i < NUMBERS; i++) {
        cn_bill  b = good();
        int64_t *number = (int64_t *)(void *)&b + i;
        if (number != &b.saved_ns) {
            *number = -1;
            assert_refused(&b, "-1, not in 0..");
        }
        *number = INT64_MAX;
        assert_refused(&b, "9223372036854775807, not in");
        *number = INT64_MIN;
        assert_refused(&b, "-9223372036854775808, not in");
    }
}

static void test_sum_has_every_number(void **state) {
    (void)state;
    enum { NUMBERS = sizeof(cn_bill) / sizeof(int64_t) };
    cn_bill  sum = {0}, b;
    int64_t *number = (int64_t *)(void *)&b, *total = (int64_t *)(void *)&sum;
    for (int i = 0; i < NUMBERS; i++) number[i] = i + 1;
    cn_bill_add(&sum, &b);
    cn_bill_add(&sum, &b);
    for (int i = 0; i < NUMBERS; i++) assert_int_equal(total[i], 2 * (i + 1));
}

static void test_json_says_it_all(void **state) {
    (void)state;
    const char *want =
        "{\"context_tokens\":31870,\"cached_tokens\":28379,\"prefilled_tokens\":3491,"
        "\"prompt_tokens\":24,\"output_tokens\":118,\"reused_tokens\":28400,\"ttft_ms\":18.9,"
        "\"load_ms\":84,"
        "\"ms\":{\"wall\":191,\"queue\":0.1,\"tokenize\":0.3,\"context\":4.1,\"restore\":1.2,"
        "\"prefill\":12,\"route\":11.8,\"attend\":21.5,\"decode\":131.6,\"tool\":0.2,"
        "\"store\":6.7,\"other\":1.5},\"bytes_read\":20400000,\"bytes_written\":168000,"
        "\"no_cache_ms\":9991,\"per_layer_routing_ms\":250,\"saved_ms\":-0.002,"
        "\"misses\":[{\"reason\":\"changed\",\"count\":2,\"tokens\":3000},"
        "{\"reason\":\"evicted\",\"count\":1,\"tokens\":491}]}";
    cn_buf         buf = {0};
    cn_json_writer w = cn_json_writer_on(&buf);
    cn_bill        b = good();
    b.saved_ns = -1500;
    b.queue_ns += 499; // less than half a microsecond
    cn_bill_put_json(&w, &b);
    assert_string_equal(cn_buf_str(&buf), want);
    cn_buf_release(&buf);
}

static void test_reasons_have_names(void **state) {
    (void)state;
    for (int i = 0; i < CN_MISS_COUNT; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(cn_miss_name((cn_miss)i), cn_miss_name((cn_miss)j));
    assert_string_equal(cn_miss_name(CN_MISS_NEW), "new");
    assert_string_equal(cn_miss_name(CN_MISS_UNSTORED), "unstored");
    assert_string_equal(cn_miss_name((cn_miss)-1), "?");
    assert_string_equal(cn_miss_name(CN_MISS_COUNT), "?");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_bill_passes),
        cmocka_unit_test(test_parts_add_up),
        cmocka_unit_test(test_other_is_small),
        cmocka_unit_test(test_tokens_add_up),
        cmocka_unit_test(test_numbers_have_a_range),
        cmocka_unit_test(test_sum_has_every_number),
        cmocka_unit_test(test_json_says_it_all),
        cmocka_unit_test(test_reasons_have_names),
        cmocka_unit_test(test_claims_hold),
        cmocka_unit_test(test_sum_of_what_is_not_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

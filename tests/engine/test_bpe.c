/*
 * test_bpe.c - Both ways to merge against the definition, applied word for word.
 */
#include "base/fault.h"
#include "engine/bpe_int.h"
#include "tests/test.h"

enum { LETTERS = 4, TOKENS_MAX = 400, MERGES_MAX = 300 };

/* Random merges over "abcd": bytes of each token, to keep results apart. */
typedef struct merges {
    char    text[TOKENS_MAX][64];
    int32_t tokens;
    struct {
        int32_t left, right, made;
    } merge[MERGES_MAX];
    int32_t count;
} merges;

static void make_merges(merges *all, cn_bpe *bpe, int32_t wanted) {
    all->tokens = LETTERS;
    all->count = 0;
    for (int c = 0; c < LETTERS; c++) snprintf(all->text[c], sizeof(all->text[c]), "%c", 'a' + c);
    assert_err(cn_bpe_init(bpe, wanted), CN_OK);
    for (int c = 0; c < LETTERS; c++) bpe->byte_token['a' + c] = c;
    while (all->count < wanted) {
        const int32_t left = (int32_t)t_rand_range(0, all->tokens - 1);
        const int32_t right = (int32_t)t_rand_range(0, all->tokens - 1);
        char          text[128];
        int32_t       made = 0;
        bool          given = false;
        snprintf(text, sizeof(text), "%s%s", all->text[left], all->text[right]);
        if (strlen(text) > 12) continue;
        for (int32_t i = 0; i < all->count; i++)
            given |= all->merge[i].left == left && all->merge[i].right == right;
        if (given) continue;
        while (made < all->tokens && strcmp(all->text[made], text) != 0) made++;
        if (made == all->tokens) strcpy(all->text[all->tokens++], text);
        cn_bpe_put(bpe, left, right, (uint32_t)all->count, made);
        all->merge[all->count].left = left;
        all->merge[all->count].right = right;
        all->merge[all->count++].made = made;
    }
}

/* The definition: the first merge of the list that applies anywhere, at its first place. */
static size_t merge_by_definition(const merges *all, int32_t *token, size_t n) {
    for (int32_t r = 0; r < all->count; r++)
        for (size_t i = 0; i + 1 < n; i++)
            if (token[i] == all->merge[r].left && token[i + 1] == all->merge[r].right) {
                token[i] = all->merge[r].made;
                memmove(token + i + 1, token + i + 2, (n - i - 2) * sizeof(*token));
                n--;
                r = -1; // from the start: it may have made room for an earlier one
                break;
            }
    return n;
}

static void test_merges_follow_the_definition(void **state) {
    (void)state;
    static merges  all;
    cn_bpe_scratch scratch = {0};
    const int      rounds = t_is_sanitized() ? 10 : 60;
    for (int round = 0; round < rounds; round++) {
        cn_bpe bpe;
        make_merges(&all, &bpe, (int32_t)t_rand_range(1, MERGES_MAX));
        for (int i = 0; i < 60; i++) {
            char    piece[200];
            int32_t want[200];
            // Short, long, and on both sides of the border between them.
            const size_t n = (size_t)(i % 3 == 0   ? t_rand_range(1, 12)
                                      : i % 3 == 1 ? t_rand_range(44, 52)
                                                   : t_rand_range(60, 200));
            const int    letters = (int)t_rand_range(1, LETTERS);
            int32_t     *got = t_alloc(n * sizeof(*got));
            size_t       count;
            for (size_t k = 0; k < n; k++) {
                want[k] = (int32_t)t_rand_range(0, letters - 1);
                piece[k] = (char)('a' + want[k]);
            }
            t_note("round %d, %d merges, piece of %zu", round, all.count, n);
            assert_err(cn_bpe_encode(&bpe, &scratch, piece, n, got, &count), CN_OK);
            assert_int_equal(count, merge_by_definition(&all, want, n));
            assert_memory_equal(got, want, count * sizeof(*got));
            t_free(got);
        }
        cn_bpe_release(&bpe);
    }
    cn_bpe_scratch_release(&scratch);
}

static void test_a_later_merge_of_a_pair_counts(void **state) {
    (void)state;
    cn_bpe         bpe;
    cn_bpe_scratch scratch = {0};
    int32_t        token[3];
    size_t         count;
    assert_err(cn_bpe_init(&bpe, 3), CN_OK);
    for (int c = 0; c < 3; c++) bpe.byte_token['a' + c] = c;
    cn_bpe_put(&bpe, 0, 1, 0, 10);
    cn_bpe_put(&bpe, 1, 2, 1, 11);
    assert_err(cn_bpe_encode(&bpe, &scratch, "abc", 3, token, &count), CN_OK);
    assert_int_equal(count, 2);
    assert_int_equal(token[0], 10);
    cn_bpe_put(&bpe, 0, 1, 2, 10);
    assert_err(cn_bpe_encode(&bpe, &scratch, "abc", 3, token, &count), CN_OK);
    assert_int_equal(count, 2);
    assert_int_equal(token[1], 11);
    cn_bpe_release(&bpe);
}

static void test_errors(void **state) {
    (void)state;
    cn_bpe         bpe;
    cn_bpe_scratch scratch = {0};
    int32_t        token[100];
    char           piece[100];
    size_t         count;
    cn_fault_arm(CN_FAULT_ONCE, 1);
    assert_err(cn_bpe_init(&bpe, 1), CN_ENOMEM);
    cn_fault_arm(CN_FAULT_OFF, 0);
    assert_err(cn_bpe_init(&bpe, 0), CN_OK);
    bpe.byte_token['a'] = 7;
    assert_err(cn_bpe_encode(&bpe, &scratch, "aab", 3, token, &count), CN_ENOTFOUND);
    assert_int_equal(count, 2);
    assert_err(cn_bpe_encode(&bpe, &scratch, "a", 1, token, &count), CN_OK);
    assert_true(count == 1 && token[0] == 7);
    memset(piece, 'a', sizeof(piece));
    cn_fault_arm(CN_FAULT_ONCE, 1);
    assert_err(cn_bpe_encode(&bpe, &scratch, piece, 100, token, &count), CN_ENOMEM);
    cn_fault_arm(CN_FAULT_OFF, 0);
    assert_err(cn_bpe_encode(&bpe, &scratch, piece, 100, token, &count), CN_OK);
    assert_int_equal(count, 100);
    cn_bpe_scratch_release(&scratch);
    cn_bpe_scratch_release(&scratch);
    cn_bpe_release(&bpe);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges_follow_the_definition),
        cmocka_unit_test(test_a_later_merge_of_a_pair_counts),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_heatmap.c - The picture says what the numbers are, in one scale of colours. */
#include "tests/test.h"

#include "runtime/heatmap.h"

#include <math.h>

static int count(const char *text, const char *what) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++) n++;
    return n;
}

static void test_cells_and_labels(void **state) {
    (void)state;
    static const cn_heatmap_label px[] = {"dense", "k=256"}, py[] = {"a<b&c"}, cx[] = {"4K", "8K"},
                                  cy[] = {"10 %"};
    const double share[] = {0, 1, NAN, .505};
    cn_buf       svg = {0};
    cn_heatmap_put(&svg, &(cn_heatmap){.title = "A title",
                                       .note = "a note",
                                       .x_title = "tokens",
                                       .y_title = "depth",
                                       .panels_x = 2,
                                       .panels_y = 1,
                                       .cells_x = 2,
                                       .cells_y = 1,
                                       .panel_x = px,
                                       .panel_y = py,
                                       .cell_x = cx,
                                       .cell_y = cy,
                                       .share = share});
    const char *text = cn_buf_str(&svg);
    assert_int_equal(svg.err, CN_OK);
    assert_true(strncmp(text, "<svg xmlns=", 11) == 0 && strstr(text, "</svg>\n"));
    assert_int_equal(count(text, "<text"), count(text, "</text>"));
    // Three cells and no fourth: the ends of the scale, and its numbers.
    assert_int_equal(count(text, ">0</text>"), 1);
    assert_int_equal(count(text, ">100</text>"), 1);
    assert_int_equal(count(text, ">50</text>") + count(text, ">51</text>"), 1);
    assert_int_equal(count(text, "nan"), 0);
    assert_int_equal(count(text, "rgb(68,1,84)"), 1);    // 0 % and, in the legend, near it
    assert_int_equal(count(text, "rgb(253,231,37)"), 1); // 100 %
    assert_int_equal(count(text, ">8K</text>"), 2);      // under each panel
    assert_int_equal(count(text, "a&lt;b&amp;c"), 1);
    assert_int_equal(count(text, "A title"), 1);
    assert_int_equal(count(text, "a note"), 1);
    cn_buf_release(&svg);
}

/* Both numbers can be read: dark on light, light on dark. */
static void test_numbers_stand_out(void **state) {
    (void)state;
    static const cn_heatmap_label one[] = {"x"};
    for (int i = 0; i < 2; i++) {
        const double share = i;
        cn_buf       svg = {0};
        cn_heatmap_put(&svg, &(cn_heatmap){.title = "t",
                                           .x_title = "x",
                                           .y_title = "y",
                                           .panels_x = 1,
                                           .panels_y = 1,
                                           .cells_x = 1,
                                           .cells_y = 1,
                                           .panel_x = one,
                                           .panel_y = one,
                                           .cell_x = one,
                                           .cell_y = one,
                                           .share = &share});
        const char *number = strstr(cn_buf_str(&svg), i ? ">100</text>" : ">0</text>");
        assert_non_null(number);
        assert_int_equal(strncmp(number - 11, "fill=\"#fff\"", 11) == 0, i == 0);
        cn_buf_release(&svg);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cells_and_labels),
        cmocka_unit_test(test_numbers_stand_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

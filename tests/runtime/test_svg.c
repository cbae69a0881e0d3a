/* test_svg.c - Points where their logarithms say, gaps where there is no number, names that can be
 * read, and a file that is one tree of tags. */
#include "tests/test.h"

#include "runtime/svg.h"

#include <math.h>

static char *draw(const cn_svg_chart *chart, int32_t charts) {
    cn_buf svg = {0};
    cn_svg_put_charts(&svg, chart, charts);
    assert_err(svg.err, CN_OK);
    return cn_buf_take(&svg);
}

static int count(const char *text, const char *part) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, part)); p++) n++;
    return n;
}

/* The n-th number behind `key` in the text. */
static double number_at(const char *text, const char *key, int n) {
    const char *p = text;
    for (int i = 0; i <= n; i++, p++)
        if (!(p = strstr(p, key)))
            t_fail(__FILE__, __LINE__, "no %s number %d in %s", key, n, text);
    return strtod(p - 1 + strlen(key), NULL);
}

/* Every tag that is opened is closed, in order. */
static void assert_is_tree(const char *text) {
    char open[16][32];
    int  depth = 0;
    for (const char *p = text; (p = strchr(p, '<')); p++) {
        const char *end = strchr(p, '>');
        assert_non_null(end);
        if (end[-1] == '/') continue;
        char name[32] = "";
        sscanf(p + (p[1] == '/' ? 2 : 1), "%31[a-z]", name);
        if (p[1] == '/') {
            assert_true(depth > 0);
            assert_string_equal(open[--depth], name);
        } else {
            assert_true(depth < 16);
            strcpy(open[depth++], name);
        }
    }
    assert_int_equal(depth, 0);
}

static void test_points(void **state) {
    (void)state;
    const double       x[] = {1024, 8192, 65536}, y[] = {1, 10, 100};
    const cn_svg_line  line = {"one", x, y, 3};
    const cn_svg_chart chart = {"T", "X", "Y", &line, 1};
    char              *svg = draw(&chart, 1);
    assert_is_tree(svg);
    assert_int_equal(count(svg, "<circle"), 3);
    double cx[3], cy[3];
    for (int i = 0; i < 3; i++)
        cx[i] = number_at(svg, "cx=\"", i), cy[i] = number_at(svg, "cy=\"", i);
    // Each step is a factor of 8, or of 10: even on a logarithmic axis; y grows upwards.
    assert_true(cx[1] > cx[0] && fabs((cx[2] - cx[1]) - (cx[1] - cx[0])) < 0.21);
    assert_true(cy[1] < cy[0] && fabs((cy[2] - cy[1]) - (cy[1] - cy[0])) < 0.21);
    assert_non_null(strstr(svg, ">1K<"));
    assert_non_null(strstr(svg, ">64K<"));
    assert_non_null(strstr(svg, ">50<"));
    free(svg);
}

static void test_gaps_and_names(void **state) {
    (void)state;
    const double       x[] = {1, 2, 4, 8}, with_gap[] = {1, NAN, 3, 4}, same[] = {1, 2, 3, 4};
    const double       none[] = {NAN, 0, -1, INFINITY};
    const cn_svg_line  lines[] = {{"a<b", x, with_gap, 4}, {"c&d", x, same, 4}, {"e", x, none, 4}};
    const cn_svg_chart charts[] = {{"T", "X", "Y", lines, 3}, {"U", "X", "Y", lines + 2, 1}};
    char              *svg = draw(charts, 2);
    assert_is_tree(svg);
    assert_int_equal(count(svg, "<circle"), 3 + 4);
    assert_non_null(strstr(svg, "a&lt;b"));
    assert_non_null(strstr(svg, "c&amp;d"));
    assert_null(strstr(svg, "nan"));
    assert_null(strstr(svg, "inf"));
    const char *path = strstr(svg, "<path d=\"");
    int         moves = 0;
    for (const char *p = path + 9; *p != '"'; p++) moves += *p == 'M';
    assert_int_equal(moves, 2); // the gap
    // Two lines that end at one point: their names stand apart.
    double y[2];
    for (int i = 0; i < 2; i++) {
        const char *name = strstr(svg, i ? ">c&amp;d<" : ">a&lt;b<"), *at = name;
        while (strncmp(at, " y=\"", 4) != 0) at--;
        y[i] = strtod(at + 4, NULL);
    }
    assert_true(fabs(y[0] - y[1]) >= 13.9);
    free(svg);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_points),
        cmocka_unit_test(test_gaps_and_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* svg.c - Each chart has its own axes, from the least to the largest number of its lines. */
#include "runtime/svg.h"

#include <math.h>
#include <stdio.h>

enum { WIDTH = 420, HEIGHT = 300, LEFT = 76, TOP = 48, RIGHT = 110, BOTTOM = 52 };

/* Okabe and Ito's colours, which colour-blind readers can tell apart. */
static const char *const colours[CN_SVG_LINES_MAX] = {"#0072b2", "#e69f00", "#009e73", "#d55e00",
                                                      "#cc79a7", "#56b4e9", "#000000", "#999999"};

typedef struct axis {
    double low, high; // > 0
    double from, to;  // pixels
} axis;

static double at(const axis *a, double value) {
    return a->from + (a->to - a->from) * log(value / a->low) / log(a->high / a->low);
}

static bool is_shown(double y) {
    return isfinite(y) && y > 0;
}

static void put_text(cn_buf *svg, double x, double y, const char *style, const char *text) {
    cn_buf_printf(svg, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, style);
    for (; *text; text++) {
        if (*text == '<' || *text == '&')
            cn_buf_put_str(svg, *text == '<' ? "&lt;" : "&amp;");
        else
            cn_buf_put(svg, text, 1);
    }
    cn_buf_put_str(svg, "</text>\n");
}

static void put_rule(cn_buf *svg, double x1, double y1, double x2, double y2) {
    cn_buf_printf(svg, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n",
                  x1, y1, x2, y2);
}

/* Axes that hold every point; one that would be empty is widened. */
static void find_axes(const cn_svg_chart *c, axis *x, axis *y) {
    x->low = y->low = INFINITY;
    x->high = y->high = 0;
    for (int32_t l = 0; l < c->lines; l++)
        for (int32_t i = 0; i < c->line[l].points; i++) {
            if (!is_shown(c->line[l].y[i])) continue;
            x->low = fmin(x->low, c->line[l].x[i]), x->high = fmax(x->high, c->line[l].x[i]);
            y->low = fmin(y->low, c->line[l].y[i]), y->high = fmax(y->high, c->line[l].y[i]);
        }
    for (int i = 0; i < 2; i++) {
        axis *a = i ? y : x;
        if (a->high == 0) a->low = a->high = 1; // nothing to show
        if (a->low == a->high) a->low /= 2, a->high *= 2;
    }
}

static void put_axes(cn_buf *svg, const cn_svg_chart *c, const axis *x, const axis *y) {
    char text[32];
    for (int32_t l = 0; l < c->lines; l++)
        for (int32_t i = 0; i < c->line[l].points; i++) {
            const double value = c->line[l].x[i];
            bool         is_marked = value < x->low || value > x->high;
            for (int32_t m = 0; m < l; m++) // by an earlier line
                for (int32_t j = 0; j < c->line[m].points; j++)
                    is_marked |= c->line[m].x[j] == value;
            if (is_marked) continue;
            snprintf(text, sizeof(text), value >= 1024 ? "%gK" : "%g",
                     value >= 1024 ? value / 1024 : value);
            put_rule(svg, at(x, value), y->from, at(x, value), y->to);
            put_text(svg, at(x, value), y->from + 16, "text-anchor=\"middle\"", text);
        }
    static const int steps[] = {1, 2, 5};
    for (double power = pow(10, floor(log10(y->low))); power <= y->high; power *= 10)
        for (int s = 0; s < 3; s++) {
            const double value = power * steps[s];
            if (value < y->low * 0.999 || value > y->high * 1.001) continue;
            snprintf(text, sizeof(text), "%g", value);
            put_rule(svg, x->from, at(y, value), x->to, at(y, value));
            put_text(svg, x->from - 6, at(y, value) + 4, "text-anchor=\"end\"", text);
        }
    put_text(svg, (x->from + x->to) / 2, y->from + 38, "text-anchor=\"middle\"", c->x_title);
    cn_buf_printf(svg, "<g transform=\"translate(%.1f %.1f) rotate(-90)\">\n", x->from - 56,
                  (y->from + y->to) / 2);
    put_text(svg, 0, 0, "text-anchor=\"middle\"", c->y_title);
    cn_buf_put_str(svg, "</g>\n");
    put_text(svg, x->from, y->to - 16, "font-size=\"15\"", c->title);
}

/* Where the line ends; y->from if it has no point. */
static double put_line(cn_buf *svg, const cn_svg_line *l, const char *colour, const axis *x,
                       const axis *y) {
    bool   is_open = false; // a stroke goes on
    double end = y->from;
    cn_buf_put_str(svg, "<path d=\"");
    for (int32_t i = 0; i < l->points; i++) {
        const bool shown = is_shown(l->y[i]);
        if (shown)
            cn_buf_printf(svg, "%c%.1f %.1f ", is_open ? 'L' : 'M', at(x, l->x[i]),
                          end = at(y, l->y[i]));
        is_open = shown;
    }
    cn_buf_printf(svg, "\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", colour);
    for (int32_t i = 0; i < l->points; i++)
        if (is_shown(l->y[i]))
            cn_buf_printf(svg, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n",
                          at(x, l->x[i]), at(y, l->y[i]), colour);
    return end;
}

/* Names beside the lines' ends, each moved down until it stands clear of those before it. */
static void put_names(cn_buf *svg, const cn_svg_chart *c, const double *end, double x) {
    enum { APART = 14 };
    double y[CN_SVG_LINES_MAX];
    char   style[48];
    for (int32_t l = 0; l < c->lines; l++) {
        y[l] = end[l];
        for (int32_t m = 0; m < l; m++)
            if (fabs(y[m] - y[l]) < APART) y[l] = y[m] + APART, m = -1;
        snprintf(style, sizeof(style), "fill=\"%s\"", colours[l]);
        put_text(svg, x, y[l] + 4, style, c->line[l].name);
    }
}

void cn_svg_put_charts(cn_buf *svg, const cn_svg_chart *chart, int32_t charts) {
    const int one = LEFT + WIDTH + RIGHT;
    cn_buf_printf(svg,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
                  "font-family=\"sans-serif\" font-size=\"12\">\n"
                  "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
                  charts * one, TOP + HEIGHT + BOTTOM);
    for (int32_t i = 0; i < charts; i++) {
        double end[CN_SVG_LINES_MAX];
        axis   x, y;
        cn_assert(chart[i].lines >= 1 && chart[i].lines <= CN_SVG_LINES_MAX);
        find_axes(&chart[i], &x, &y);
        x.from = i * one + LEFT, x.to = x.from + WIDTH;
        y.from = TOP + HEIGHT, y.to = TOP;
        put_axes(svg, &chart[i], &x, &y);
        for (int32_t l = 0; l < chart[i].lines; l++)
            end[l] = put_line(svg, &chart[i].line[l], colours[l], &x, &y);
        put_names(svg, &chart[i], end, x.to + 8);
    }
    cn_buf_put_str(svg, "</svg>\n");
}

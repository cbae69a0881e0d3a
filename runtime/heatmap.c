/* heatmap.c - Rectangles and texts. */
#include "runtime/heatmap.h"

#include <math.h>
#include <stdio.h>

enum { CELL_X = 52, CELL_Y = 26, GAP = 22, LEFT = 92, TOP = 92, BOTTOM = 44, RIGHT = 96 };

/* Viridis (van der Walt and Smith, 2015) at quarters: even steps look even, in grey too. */
static const double scale[][3] = {
    {68, 1, 84}, {59, 82, 139}, {33, 145, 140}, {94, 201, 98}, {253, 231, 37}};

static void put_text(cn_buf *svg, const char *text) {
    for (; *text; text++) switch (*text) {
        case '<':
            cn_buf_put_str(svg, "&lt;");
            break;
        case '&':
            cn_buf_put_str(svg, "&amp;");
            break;
        default:
            cn_buf_put(svg, text, 1);
        }
}

static void put_label(cn_buf *svg, double x, double y, const char *style, const char *text) {
    cn_buf_printf(svg, "<text x=\"%g\" y=\"%g\" %s>", x, y, style);
    put_text(svg, text);
    cn_buf_put_str(svg, "</text>\n");
}

/* A rectangle in the colour of `share`; whether dark text is the readable one on it. */
static bool put_box(cn_buf *svg, double x, double y, double width, double height, double share) {
    enum { STEPS = sizeof(scale) / sizeof(scale[0]) - 1 };
    const double at = fmin(fmax(share, 0), 1) * STEPS;
    const int    i = at < STEPS ? (int)at : STEPS - 1;
    double       rgb[3];
    for (int c = 0; c < 3; c++) rgb[c] = scale[i][c] + (at - i) * (scale[i + 1][c] - scale[i][c]);
    cn_buf_printf(
        svg, "<rect x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\" fill=\"rgb(%.0f,%.0f,%.0f)\"/>\n",
        x, y, width, height, rgb[0], rgb[1], rgb[2]);
    return .299 * rgb[0] + .587 * rgb[1] + .114 * rgb[2] > 128;
}

static void put_panel(cn_buf *svg, const cn_heatmap *h, double x, double y, const double *share) {
    for (int32_t r = 0; r < h->cells_y; r++)
        for (int32_t c = 0; c < h->cells_x; c++) {
            const double value = share[r * h->cells_x + c];
            const double at_x = x + c * CELL_X, at_y = y + r * CELL_Y;
            if (isnan(value)) continue;
            const bool is_light = put_box(svg, at_x, at_y, CELL_X - 1, CELL_Y - 1, value);
            char       text[32];
            snprintf(text, sizeof(text), "%.0f", 100 * value);
            put_label(svg, at_x + CELL_X / 2.0, at_y + CELL_Y / 2.0 + 4,
                      is_light ? "text-anchor=\"middle\"" : "text-anchor=\"middle\" fill=\"#fff\"",
                      text);
        }
}

static void put_scale(cn_buf *svg, double x, double y, double height) {
    enum { STEPS = 50 };
    for (int i = 0; i < STEPS; i++)
        put_box(svg, x, y + height * (STEPS - 1 - i) / STEPS, 14, height / STEPS + .5,
                (i + .5) / STEPS);
    put_label(svg, x + 18, y + 8, "", "100 %");
    put_label(svg, x + 18, y + height / 2 + 4, "", "50 %");
    put_label(svg, x + 18, y + height, "", "0 %");
}

void cn_heatmap_put(cn_buf *svg, const cn_heatmap *h) {
    const double panel_x = h->cells_x * CELL_X + GAP, panel_y = h->cells_y * CELL_Y + GAP;
    const double all_x = h->panels_x * panel_x - GAP, all_y = h->panels_y * panel_y - GAP;
    cn_buf_printf(svg,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%g\" height=\"%g\" "
                  "font-family=\"sans-serif\" font-size=\"12\">\n"
                  "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
                  LEFT + all_x + RIGHT, TOP + all_y + BOTTOM);
    put_label(svg, 12, 24, "font-size=\"16\"", h->title);
    if (h->note) put_label(svg, 12, 44, "fill=\"#555\"", h->note);
    for (int32_t px = 0; px < h->panels_x; px++)
        put_label(svg, LEFT + px * panel_x + (panel_x - GAP) / 2, TOP - 10,
                  "text-anchor=\"middle\" font-weight=\"bold\"", h->panel_x[px]);
    for (int32_t py = 0; py < h->panels_y; py++) {
        const double y = TOP + py * panel_y;
        put_label(svg, 12, y - 6, "font-weight=\"bold\"", h->panel_y[py]);
        for (int32_t r = 0; r < h->cells_y; r++)
            put_label(svg, LEFT - 6, y + r * CELL_Y + CELL_Y / 2.0 + 4, "text-anchor=\"end\"",
                      h->cell_y[r]);
        for (int32_t px = 0; px < h->panels_x; px++)
            put_panel(svg, h, LEFT + px * panel_x, y,
                      h->share + (int64_t)(py * h->panels_x + px) * h->cells_x * h->cells_y);
    }
    for (int32_t px = 0; px < h->panels_x; px++)
        for (int32_t c = 0; c < h->cells_x; c++)
            put_label(svg, LEFT + px * panel_x + c * CELL_X + CELL_X / 2.0, TOP + all_y + 14,
                      "text-anchor=\"middle\"", h->cell_x[c]);
    put_label(svg, LEFT + all_x / 2, TOP + all_y + 34, "text-anchor=\"middle\" fill=\"#555\"",
              h->x_title);
    put_label(svg, 12, TOP + all_y + 14, "fill=\"#555\"", h->y_title);
    put_scale(svg, LEFT + all_x + GAP, TOP, all_y);
    cn_buf_put_str(svg, "</svg>\n");
}

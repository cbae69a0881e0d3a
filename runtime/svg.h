/*
 * svg.h - Lines over two logarithmic axes, as an SVG file.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_SVG_H
#define CN_RUNTIME_SVG_H

#include "base/buf.h"

CN_C_BEGIN

enum { CN_SVG_LINES_MAX = 8 };

typedef struct cn_svg_line {
    const char   *name;
    const double *x, *y; // [points] > 0, x ascending; a y that is not a number > 0 leaves a gap
    int32_t       points;
} cn_svg_line;

typedef struct cn_svg_chart {
    const char        *title, *x_title, *y_title; // UTF-8, one line each
    const cn_svg_line *line;                      // [lines]
    int32_t            lines;                     // 1..CN_SVG_LINES_MAX
} cn_svg_chart;

/* Append one SVG file with charts side by side.  x is marked where there are points, in units
 * of 1,024 (8K); y at 1, 2 and 5 times the powers of ten.
 * CN_ENOMEM stays in svg->err. */
void cn_svg_put_charts(cn_buf *svg, const cn_svg_chart *chart, int32_t charts);

CN_C_END

#endif

/*
 * heatmap.h - Shares as coloured cells, with their numbers, as SVG.
 *
 * One scale of colours from 0 to 1 for all cells, whatever the numbers are; each cell says its
 * own in percent.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_HEATMAP_H
#define CN_RUNTIME_HEATMAP_H

#include "base/buf.h"

CN_C_BEGIN

enum { CN_HEATMAP_LABEL_BYTES = 32 };

typedef char cn_heatmap_label[CN_HEATMAP_LABEL_BYTES];

/* Panels in rows and columns, each a table of the same cells. */
typedef struct cn_heatmap {
    const char             *title; // UTF-8; one line
    const char             *note;  // a second line, smaller; NULL: none
    const char             *x_title, *y_title;
    int32_t                 panels_x, panels_y; // >= 1
    int32_t                 cells_x, cells_y;   // of a panel, >= 1
    const cn_heatmap_label *panel_x, *panel_y;  // [panels_x], [panels_y]
    const cn_heatmap_label *cell_x, *cell_y;    // [cells_x], [cells_y]
    const double           *share; // [panels_y][panels_x][cells_y][cells_x] 0..1; NaN: no cell
} cn_heatmap;

/* Append the picture as a whole SVG file.  A share outside 0..1 is drawn as the nearest.
 * CN_ENOMEM stays in svg->err. */
void cn_heatmap_put(cn_buf *svg, const cn_heatmap *h);

CN_C_END

#endif

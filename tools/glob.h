/*
 * glob.h - One pattern of gitignore(5) or gitattributes(5), and the paths that it matches.
 *
 * With a '/' within, the whole path is matched, component by component ("**" is any
 * number of them); without one, its last component.
 *
 * Bytes are compared as they are: no locale, no case folding.  Time: at most pattern times
 * path, also for hostile patterns.
 *
 * Layer: tools -> base.
 */
#ifndef CN_TOOLS_GLOB_H
#define CN_TOOLS_GLOB_H

#include "base/err.h"

CN_C_BEGIN

typedef struct cn_glob {
    const char *text, *end; // borrowed
    bool        is_anchored;
} cn_glob;

/* The pattern text..end, without the '/' that may stand at its end; false if it is empty. */
bool cn_glob_init(cn_glob *out, const char *text, const char *end);

/* `path`, up to `end`, is relative to the folder of the pattern's file. */
bool cn_glob_matches(const cn_glob *glob, const char *path, const char *end);

CN_C_END

#endif

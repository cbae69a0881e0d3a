/*
 * definitions.h - Functions that a source file defines, by rules that a person can check.
 *
 * For questions whose answers must be right: doubt gives nothing.  A line is looked at alone,
 * comments and Python's long strings are passed over, no language is parsed.
 *
 *   language    by the path's ending       a definition that can be asked for
 *   C, C++      c h cc cpp cxx hh hpp      TYPE NAME(...) at column 0, then { there or below;
 *                                          TYPE on the line above: it has no signature here
 *   Python      py                         [async] def NAME(...)...: at column 0
 *   JavaScript  js jsx mjs cjs ts tsx      [export] [default] [async] function NAME(...)... {
 *   Go          go                         func NAME(...)... {
 *   Rust        rs                         [pub ...] fn NAME...(...)... {
 *   Java        java                       a method with a modifier before it, ending in {
 *
 * All of it on one line; the signature is that line without what opens the body.  Other places
 * that may define a name (a method, a signature over several lines, a macro) are found too, so
 * that a name can be known to be unique: is_clear is false there, and for main and init.
 *
 * Threads: any.   Layer: runtime.
 */
#ifndef CN_RUNTIME_DEFINITIONS_H
#define CN_RUNTIME_DEFINITIONS_H

#include "base/err.h"

CN_C_BEGIN

enum {
    CN_DEFINITION_NAME_BYTES_MIN = 3,
    CN_DEFINITION_NAME_BYTES_MAX = 60,
    CN_SIGNATURE_BYTES_MAX = 220,
};

typedef enum {
    CN_LANGUAGE_NONE,
    CN_LANGUAGE_C,
    CN_LANGUAGE_PYTHON,
    CN_LANGUAGE_SCRIPT,
    CN_LANGUAGE_GO,
    CN_LANGUAGE_RUST,
    CN_LANGUAGE_JAVA,
} cn_language;

cn_language cn_language_of(const char *path);

typedef struct cn_definition {
    const char *name; // into the text
    int32_t     name_bytes;
    const char *signature; // into the text; NULL: none, or not clear
    int32_t     signature_bytes;
    int64_t     line; // from 1
    bool        is_clear;
} cn_definition;

/* Call `fn` for each definition of a file, in order; it returns false to stop.
 *
 *   text  `bytes` bytes, borrowed; what `fn` gets points into it. */
void cn_definitions_find(cn_language language, const char *text, size_t bytes,
                         bool (*fn)(void *ctx, const cn_definition *d), void *ctx);

CN_C_END

#endif

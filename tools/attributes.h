/*
 * attributes.h - gitattributes(5): what the files called .gitattributes say of a path.
 *
 * Only the attributes that decide about a list are looked at.  Ours because libgit2 1.5
 * looks for the files on disk again at every question, which was most of a list's time.
 *
 *   cn_attributes_define    for each file that may define macros, weakest first
 *   cn_attributes_parse     each file
 *   cn_attributes_apply     to an empty answer, strongest file first
 *
 * Layer: tools -> base.
 */
#ifndef CN_TOOLS_ATTRIBUTES_H
#define CN_TOOLS_ATTRIBUTES_H

#include "base/err.h"

CN_C_BEGIN

typedef enum {
    CN_ATTRIBUTE_BINARY, // also a macro: -diff -merge -text
    CN_ATTRIBUTE_GENERATED,
    CN_ATTRIBUTE_VENDORED,
    CN_ATTRIBUTE_FILTER,
    CN_ATTRIBUTE_ENCODING, // working-tree-encoding
    CN_ATTRIBUTE_TEXT,
    CN_ATTRIBUTE_EOL,
    CN_ATTRIBUTE_CRLF,
    CN_ATTRIBUTE_IDENT,
    CN_ATTRIBUTES,
} cn_attribute;

enum {
    CN_ATTRIBUTE_NAMES_MAX = 64,        // attributes and macros; further macros are not known
    CN_ATTRIBUTE_LINE_BYTES_MAX = 2047, // longer lines say nothing, as in git
};

typedef enum {
    CN_ATTRIBUTE_UNDECIDED,   // no file said anything yet
    CN_ATTRIBUTE_UNSPECIFIED, // "!name"
    CN_ATTRIBUTE_SET,         // "name"
    CN_ATTRIBUTE_UNSET,       // "-name"
    CN_ATTRIBUTE_VALUE,       // "name=value"
} cn_attribute_state;

typedef struct cn_attribute_value {
    cn_attribute_state state;
    const char        *text; // of a value: `bytes` bytes of the file's text
    size_t             bytes;
} cn_attribute_value;

/* Zeroed: nothing is decided.  The first CN_ATTRIBUTES are the attributes. */
typedef struct cn_attribute_answer {
    cn_attribute_value value[CN_ATTRIBUTE_NAMES_MAX];
} cn_attribute_answer;

typedef struct cn_attributes      cn_attributes;      // the names: attributes and macros
typedef struct cn_attribute_rules cn_attribute_rules; // one file

/* CN_ENOMEM. */
cn_err cn_attributes_create(cn_attributes **out, cn_diag *diag) CN_MUST_CHECK;
void   cn_attributes_free(cn_attributes *names); // NULL is allowed

/* Learn the macros ("[attr]name ...") of a file; one that is known is replaced.
 *
 * CN_ENOMEM. */
cn_err cn_attributes_define(cn_attributes *names, const char *text, size_t bytes,
                            cn_diag *diag) CN_MUST_CHECK;

/* Parse a file; any text is a sound one.
 *
 *   out  owned by the caller: cn_attribute_rules_free().  NULL unless CN_OK, and for a
 *        file that says nothing of interest.
 *
 * CN_ENOMEM. */
cn_err cn_attributes_parse(const cn_attributes *names, cn_attribute_rules **out, const char *text,
                           size_t bytes, cn_diag *diag) CN_MUST_CHECK;
void   cn_attribute_rules_free(cn_attribute_rules *rules); // NULL is allowed

/* Decide what is undecided and what the file says of `path`, a file's path relative to
 * the folder of the rules.  NULL rules say nothing.  Texts in the answer live as long as
 * rules and names. */
void cn_attributes_apply(const cn_attributes *names, const cn_attribute_rules *rules,
                         const char *path, cn_attribute_answer *answer);

/* Set, or "name=true". */
bool cn_attribute_is_on(const cn_attribute_value *value);

CN_C_END

#endif

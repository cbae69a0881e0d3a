/*
 * help.h - The text of a command, as --help prints it and as a man page.
 *
 * There is one text: the `usage` that a command gives to cn_cli_parse, and its options.
 *
 *   usage: cairn ask [-c] TEXT            the synopsis; more such lines may follow, and two
 *          cairn ask --else               blanks set off what a line does
 *
 *   examples:                             a word and a colon: a section
 *     cairn ask "where is main?"  what    two blanks, a thing, two blanks or more, its meaning
 *
 *   Other paragraphs describe.            lines are joined in the man page
 *
 * Blank lines part paragraphs.  Examples come first, for that is what people read.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_HELP_H
#define CN_RUNTIME_HELP_H

#include "runtime/cli.h"

CN_C_BEGIN

/* The text, then the options, on stdout. */
void cn_help_print(const char *usage, const cn_option *option, int options);

typedef struct cn_help_page {
    const char      *name;    // "cairn model": its page is cairn-model(1)
    const char      *summary; // one line
    const char      *usage;
    const cn_option *option; // [options]
    int              options;
    const cn_verb   *verb; // NULL, or what can stand next; ends with a zeroed entry
} cn_help_page;

/* The same as the source of a man page. */
void cn_help_print_man(const cn_help_page *page);

/* The text of the program or of a group of commands, without options. */
const char *cn_help_of_group(const char *name);

CN_C_END

#endif

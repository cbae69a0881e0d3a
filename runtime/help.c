/* help.c - One text, printed plain or as troff. */
#include "runtime/help.h"

#include "base/version.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const char about[] =
    "usage: cairn COMMAND [options]\n"
    "       cairn help [COMMAND]\n"
    "       cairn --version\n"
    "\n"
    "examples:\n"
    "  cairn chat                          talk about the repository here\n"
    "  cairn ask \"where is main defined?\"  one question\n"
    "  cairn ask -c \"and what calls it?\"   the session goes on, at no prefill\n"
    "  cairn context --dry-run             what is in the view, and its price\n"
    "  cairn cost --by day                 what it all cost\n"
    "\n"
    "Cairn keeps a repository prefilled in a persistent KV cache, answers questions about it\n"
    "over many turns, and says for each turn what prefill, routing, decode and tools cost.\n"
    "\n"
    "exit status:\n"
    "  0    done\n"
    "  1    failed; the reason is on stderr, with --json on stdout\n"
    "  2    wrong usage\n"
    "  3    stopped by a budget\n"
    "  130  interrupted\n"
    "\n"
    "environment:\n"
    "  CAIRN_MODEL      folder of the model, unless --model names one\n"
    "  CAIRN_STATE      state folder, unless --state names one\n"
    "  CAIRN_TENANT     whose sessions and pages, unless --tenant says\n"
    "  CAIRN_CONFIG     configuration file, unless --config names one\n"
    "  XDG_STATE_HOME   else the state is in cairn/ below it, or below ~/.local/state\n"
    "  XDG_CONFIG_HOME  else cairn/cairn.conf below it, or below ~/.config, if it is there\n"
    "  NO_COLOR         set and not empty: no colours\n"
    "  TERM             dumb: no escape sequences, no line editor\n"
    "\n"
    "Other keys of the configuration have variables too: cairn config --help.\n"
    "\n"
    "files:\n"
    "  cache/   in the state folder: pages of the KV cache; may be deleted at any moment\n"
    "  ledger/  sessions, turns, tool calls and bills: the truth\n"
    "  history  what was typed into cairn chat; history-NAME of a tenant\n";

const char *cn_help_of_group(const char *name) {
    return strcmp(name, "cairn") == 0 ? about : NULL;
}

/* ---- Plain ------------------------------------------------------------------------- */

static const char *value_name(const cn_option *o) {
    return o->flag ? NULL : o->value_name ? o->value_name : o->number ? "N" : "TEXT";
}

void cn_help_print(const char *usage, const cn_option *option, int options) {
    fputs(usage, stdout);
    puts("\noptions:");
    for (int i = 0; i < options; i++) {
        char        text[64], letter[8] = "    ";
        const char *value = value_name(&option[i]);
        if (option[i].letter) snprintf(letter, sizeof(letter), "-%c, ", option[i].letter);
        snprintf(text, sizeof(text), "%s--%s%s%s", letter, option[i].name, value ? " " : "",
                 value ? value : "");
        printf("  %-22s %s\n", text, option[i].help);
    }
}

/* ---- As a man page ------------------------------------------------------------------ */

static void put_troff(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '\\')
            fputs("\\e", stdout);
        else if (text[i] == '-')
            fputs("\\-", stdout);
        else if (text[i] == '~')
            fputs("\\(ti", stdout);
        else if (text[i] == '^')
            fputs("\\(ha", stdout);
        else if ((text[i] == '.' || text[i] == '\'') && i == 0)
            printf("\\&%c", text[i]);
        else
            putchar(text[i]);
    }
}

static void put_line(const char *font, const char *text, size_t bytes) {
    if (!bytes) return;
    printf("\\f%s", font);
    put_troff(text, bytes);
    puts("\\fR");
}

/* A line of a text: its indent, a thing, and what follows a gap of two blanks or more. */
typedef struct line {
    size_t      indent;
    const char *left, *right; // right: NULL for none
    size_t      left_bytes, right_bytes;
    size_t      bytes; // from left to its end
    const char *next;  // line
} line;

static line read_line(const char *text) {
    const size_t bytes = strcspn(text, "\n");
    line         l = {.indent = strspn(text, " "), .next = text + bytes + (text[bytes] == '\n')};
    l.left = text + l.indent;
    l.bytes = l.left_bytes = bytes > l.indent ? bytes - l.indent : 0;
    const char *end = text + bytes;
    for (const char *p = l.left; p + 1 < end; p++) {
        if (p[0] != ' ' || p[1] != ' ') continue;
        l.left_bytes = (size_t)(p - l.left);
        while (p < end && *p == ' ') p++;
        l.right = p;
        l.right_bytes = (size_t)(end - p);
        break;
    }
    return l;
}

static bool is_heading(const line *l) {
    return l->indent == 0 && !l->right && l->left_bytes && l->left[l->left_bytes - 1] == ':';
}

/* "usage: cairn a TEXT" and lines that stand under it; returns what follows. */
static const char *put_synopsis(const char *usage) {
    static const char prefix[] = "usage: ";
    const size_t      skip = sizeof(prefix) - 1;
    cn_assert(strncmp(usage, prefix, skip) == 0);
    puts(".SH SYNOPSIS\n.nf");
    const char *at = usage + skip;
    for (line l; *at && *at != '\n'; at = l.next) {
        l = read_line(at);
        put_line("B", l.left, l.left_bytes);
    }
    puts(".fi");
    return at;
}

static void put_usage_meanings(const char *usage) {
    const char *at = strchr(usage, ' ');
    for (line l; at && *at && *at != '\n'; at = l.next) {
        l = read_line(at);
        if (!l.right) continue;
        puts(".TP");
        put_line("B", l.left, l.left_bytes);
        put_line("R", l.right, l.right_bytes);
    }
}

/* Paragraphs with a heading, or those without. */
static void put_paragraphs(const char *text, bool headed) {
    for (bool is_headed = false, begins = true; *text;) {
        const line l = read_line(text);
        text = l.next;
        if (l.left_bytes == 0) {
            begins = true;
            continue;
        }
        if (begins) is_headed = is_heading(&l);
        if (is_headed == headed) {
            if (begins && is_headed) {
                fputs(".SH ", stdout);
                for (size_t i = 0; i + 1 < l.left_bytes; i++)
                    putchar(toupper((unsigned char)l.left[i]));
                puts("");
            } else if (l.indent && l.right) {
                puts(".TP");
                put_line("B", l.left, l.left_bytes);
                put_line("R", l.right, l.right_bytes);
            } else {
                if (begins) puts(".PP");
                put_line("R", l.left, l.bytes);
            }
        }
        begins = false;
    }
}

static void put_options(const cn_option *option, int options) {
    if (options) puts(".SH OPTIONS");
    for (int i = 0; i < options; i++) {
        puts(".TP");
        if (option[i].letter) printf("\\fB\\-%c\\fR, ", option[i].letter);
        fputs("\\fB\\-\\-", stdout);
        put_troff(option[i].name, strlen(option[i].name));
        fputs("\\fR", stdout);
        if (value_name(&option[i])) printf(" \\fI%s\\fR", value_name(&option[i]));
        puts("");
        put_line("R", option[i].help, strlen(option[i].help));
    }
}

void cn_help_print_man(const cn_help_page *page) {
    char name[128];
    snprintf(name, sizeof(name), "%s", page->name);
    for (char *p = name; *p; p++)
        if (*p == ' ') *p = '-';
    fputs(".TH ", stdout);
    for (const char *p = name; *p; p++) putchar(toupper((unsigned char)*p));
    printf(" 1 \"\" \"cairn %s\" \"Cairn\"\n.SH NAME\n", CN_VERSION);
    put_troff(name, strlen(name));
    fputs(" \\- ", stdout);
    put_troff(page->summary, strlen(page->summary));
    puts("");
    if (page->usage) {
        const char *rest = put_synopsis(page->usage);
        puts(".SH DESCRIPTION");
        putchar(toupper((unsigned char)page->summary[0]));
        put_troff(page->summary + 1, strlen(page->summary + 1));
        puts(".");
        put_usage_meanings(page->usage);
        put_paragraphs(rest, false);
        put_paragraphs(rest, true);
    }
    if (page->verb) puts(".SH COMMANDS");
    for (const cn_verb *v = page->verb; v && v->name; v++) {
        puts(".TP");
        put_line("B", v->name, strlen(v->name));
        put_line("R", v->help, strlen(v->help));
    }
    put_options(page->option, page->options);
    puts(".SH SEE ALSO");
    for (const cn_verb *v = page->verb; v && v->name; v++) {
        fputs("\\fB", stdout);
        put_troff(name, strlen(name));
        printf("\\-%s\\fR(1)%s\n", v->name, v[1].name ? "," : "");
    }
    if (!page->verb) puts("\\fBcairn\\fR(1)");
}

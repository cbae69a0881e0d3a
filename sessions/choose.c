/*
 * choose.c - Files get a rank from their names and sizes; the budget goes round by rank.
 */
#include "sessions/choose.h"

#include "base/fault.h"

#include <stdlib.h>
#include <string.h>

typedef enum {
    GROUP_README,
    GROUP_TOP_TEXT,
    GROUP_SOURCE,
    GROUP_OTHER,
    GROUP_LEGAL,
    GROUP_TEST,
    GROUP_VENDORED,
    GROUP_GENERATED,
    GROUP_NONE, // lock files and minified ones: never asked
} group;

enum { EIGHTHS = 8, SLACK_PART = 4, GUESS_BYTES = 3, GUESS_HEADER_TOKENS = 24 };

typedef enum { STATE_NEW, STATE_KEPT, STATE_PASSED, STATE_ADDED, STATE_DROPPED } state;

typedef struct item {
    const cn_choose_file *file;
    int64_t               tokens;
    int64_t               turn; // number of its folder's files of this group and size before it
    int32_t               folder_bytes;
    int32_t               depth;
    int32_t               size;
    group                 group;
    bool                  is_interface;
    state                 state;
    cn_left_reason        reason; // COUNT: it is in
} item;

const char *cn_left_text(cn_left_reason reason) {
    static const char *const texts[] = {
#define X(name, text) text,
        CN_LEFT_LIST(X)
#undef X
    };
    return (unsigned)reason < CN_LEFT_COUNT ? texts[reason] : "?";
}

int64_t cn_choose_estimate(int64_t bytes) {
    return bytes / GUESS_BYTES + GUESS_HEADER_TOKENS;
}

// ---- Names -------------------------------------------------------------------------

typedef struct word {
    const char *text;
    size_t      bytes;
} word;

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* `small` is in lower case; the word may be in any (ASCII; the locale does not count). */
static bool is_equal(word w, const char *small, size_t bytes) {
    if (w.bytes != bytes) return false;
    for (size_t i = 0; i < bytes; i++)
        if (lower(w.text[i]) != small[i]) return false;
    return true;
}

/* Whether the word is one of a list with spaces between. */
static bool is_one_of(word w, const char *list) {
    while (*list) {
        const size_t bytes = strcspn(list, " ");
        if (is_equal(w, list, bytes)) return true;
        list += bytes + (list[bytes] == ' ');
    }
    return false;
}

static bool starts_with(word w, const char *small) {
    const size_t bytes = strlen(small);
    return w.bytes >= bytes && is_equal((word){w.text, bytes}, small, bytes);
}

/* Whether one of a list ends the word, with something before it. */
static bool ends_with_one_of(word w, const char *list) {
    while (*list) {
        const size_t bytes = strcspn(list, " ");
        if (w.bytes > bytes && is_equal((word){w.text + w.bytes - bytes, bytes}, list, bytes))
            return true;
        list += bytes + (list[bytes] == ' ');
    }
    return false;
}

/* Whether a folder above the file has one of these names. */
static bool is_under_one_of(const char *path, const char *list) {
    for (const char *slash; (slash = strchr(path, '/')); path = slash + 1)
        if (is_one_of((word){path, (size_t)(slash - path)}, list)) return true;
    return false;
}

static bool is_lock(word name) {
    return is_one_of(name, "package-lock.json npm-shrinkwrap.json pnpm-lock.yaml go.sum bun.lockb "
                           "packages.lock.json gradle.lockfile") ||
           ends_with_one_of(name, ".lock");
}

static bool is_minified(word name) {
    return ends_with_one_of(name, ".min.js .min.mjs .min.cjs .min.css -min.js -min.css "
                                  ".js.map .mjs.map .cjs.map .css.map .ts.map");
}

static bool is_generated(word name) {
    return is_one_of(name, "configure config.guess config.sub install-sh ltmain.sh libtool.m4 "
                           "aclocal.m4 makefile.in depcomp compile missing") ||
           ends_with_one_of(name, ".pb.go .pb.c .pb.cc .pb.h _pb2.py _pb2_grpc.py .g.dart "
                                  ".designer.cs _generated.go _generated.rs _generated.h "
                                  ".generated.ts .generated.js .generated.cs .gen.go");
}

static bool is_vendored(const char *path) {
    return is_under_one_of(path, "vendor vendored third_party third-party thirdparty 3rdparty "
                                 "node_modules bower_components external extern deps");
}

static word extension_of(word name) {
    for (size_t i = name.bytes; i > 1; i--)
        if (name.text[i - 1] == '.') return (word){name.text + i, name.bytes - i};
    return (word){name.text + name.bytes, 0};
}

static word stem_of(word name) {
    const word extension = extension_of(name);
    return (word){name.text, name.bytes - extension.bytes - (extension.bytes > 0)};
}

static bool is_test(const char *path, word name) {
    return is_under_one_of(path, "test tests testing testdata spec specs fixtures __tests__ t") ||
           starts_with(name, "test_") || starts_with(name, "test-") ||
           ends_with_one_of(stem_of(name), "_test -test .test _spec .spec _unittest");
}

static bool is_source(word name) {
    return is_one_of(extension_of(name),
                     "c h cc cpp cxx c++ hh hpp hxx inl ipp m mm cu cuh cl rs go py pyi pyx rb "
                     "java kt kts scala groovy cs fs vb js mjs cjs jsx ts mts cts tsx vue svelte "
                     "php pl pm lua swift zig nim d pas f f90 f95 ada adb ads s asm sh bash zsh "
                     "fish ps1 bat sql proto thrift y l lex ml mli hs ex exs erl hrl clj cljs el "
                     "lisp scm rkt jl r v sv vhd vhdl glsl wgsl dart def mk cmake gradle bzl nix "
                     "tf awk tcl") ||
           is_one_of(name, "makefile gnumakefile cmakelists.txt meson.build meson_options.txt "
                           "configure.ac makefile.am dockerfile build workspace justfile rakefile "
                           "gemfile cargo.toml go.mod package.json pyproject.toml setup.cfg "
                           "pom.xml composer.json mix.exs");
}

/* By any of its words: LICENSE-MIT, COPYING.LESSER, 00-RELEASENOTES. */
static bool is_legal(word name) {
    const char *end = name.text + name.bytes;
    for (word w = {name.text, 0}; w.text < end; w.text += w.bytes + 1) {
        w.bytes = strcspn(w.text, ".-_");
        if (is_one_of(w, "license licence licenses copying copyright copyrights notice notices "
                         "patents authors contributors credits thanks conduct changelog changes "
                         "history news releasenotes releases"))
            return true;
    }
    return false;
}

/* What other files of its folder go by. */
static bool is_interface(word name) {
    return is_one_of(extension_of(name), "h hh hpp hxx cuh pyi mli") ||
           is_one_of(stem_of(name), "main index app lib mod init __init__ __main__ server cli");
}

static bool is_text(word name) {
    const word extension = extension_of(name);
    return is_one_of(extension, "md markdown mdx rst adoc asciidoc txt text org tex") ||
           (extension.bytes == 0 && *name.text != '.');
}

static cn_left_reason reason_to_skip(word name) {
    return is_lock(name) ? CN_LEFT_LOCK : is_minified(name) ? CN_LEFT_MINIFIED : CN_LEFT_COUNT;
}

/* What a file that is not skipped is, by its name, flags and size class. */
static group group_of(const cn_choose_file *f, word name, int32_t depth, int32_t size) {
    if (f->is_generated || is_generated(name)) return GROUP_GENERATED;
    if (f->is_vendored || is_vendored(f->path)) return GROUP_VENDORED;
    if (is_test(f->path, name)) return GROUP_TEST;
    if (is_source(name)) return GROUP_SOURCE;
    if (is_text(name) && is_one_of(stem_of(name), "readme"))
        return depth == 0 ? GROUP_README : GROUP_SOURCE;
    if (is_legal(name)) return GROUP_LEGAL;
    return depth == 0 && size == 0 && is_text(name) ? GROUP_TOP_TEXT : GROUP_OTHER;
}

// ---- Order -------------------------------------------------------------------------

/* 0: up to an eighth of the budget, 1: a quarter, 2: a half, 3: all of it, 4: more. */
static int32_t size_of(int64_t tokens, int64_t budget) {
    int32_t size = 0;
    for (int64_t part = EIGHTHS; part > 0 && tokens > budget / part; part /= 2) size++;
    return size;
}

static cn_err item_init(item *to, const cn_choose_file *f, int64_t budget, cn_diag *diag) {
    if (!*f->path) return CN_FAIL(diag, CN_EINVAL, "a file without a path");
    if (f->bytes < 0 || f->tokens < 0)
        return CN_FAIL(diag, CN_EINVAL, "%lld bytes, %lld tokens: %s", (long long)f->bytes,
                       (long long)f->tokens, f->path);
    if (f->bytes > CN_CHOOSE_TOKENS_MAX || f->tokens > CN_CHOOSE_TOKENS_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "%lld bytes, %lld tokens, limit %lld: %s",
                       (long long)f->bytes, (long long)f->tokens, (long long)CN_CHOOSE_TOKENS_MAX,
                       f->path);
    *to = (item){.file = f, .tokens = f->tokens > 0 ? f->tokens : cn_choose_estimate(f->bytes)};
    for (const char *p = f->path; *p; p++)
        if (*p == '/') {
            to->depth++;
            to->folder_bytes = (int32_t)(p - f->path);
        }
    const char *base = f->path + to->folder_bytes + (to->depth > 0);
    const word  name = {base, strlen(base)};
    to->size = size_of(to->tokens, budget);
    to->reason = reason_to_skip(name);
    to->group = to->reason == CN_LEFT_COUNT ? group_of(f, name, to->depth, to->size) : GROUP_NONE;
    to->is_interface = is_interface(name);
    return CN_OK;
}

static int order_of(int64_t a, int64_t b) {
    return (a > b) - (a < b);
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const item *)a)->file->path, ((const item *)b)->file->path);
}

static int by_folder(const item *x, const item *y) {
    const int32_t bytes = x->folder_bytes < y->folder_bytes ? x->folder_bytes : y->folder_bytes;
    const int     order = memcmp(x->file->path, y->file->path, (size_t)bytes);
    return order ? order : order_of(x->folder_bytes, y->folder_bytes);
}

static int by_turns_to_be(const void *a, const void *b) {
    const item *x = a, *y = b;
    int         order = order_of(x->group, y->group);
    if (!order) order = by_folder(x, y);
    if (!order) order = order_of(x->size, y->size);
    if (!order) order = order_of(y->is_interface, x->is_interface);
    return order ? order : by_path(a, b);
}

static int by_rank(const void *a, const void *b) {
    const item *x = a, *y = b;
    int         order = order_of(x->group, y->group);
    if (!order) order = order_of(x->depth, y->depth);
    if (!order) order = order_of(x->size, y->size);
    if (!order) order = order_of(x->turn, y->turn);
    return order ? order : by_path(a, b);
}

static void sort_by_rank(item *it, int64_t items) {
    qsort(it, (size_t)items, sizeof(*it), by_turns_to_be);
    for (int64_t i = 1; i < items; i++) {
        const item *last = &it[i - 1];
        if (it[i].group == last->group && it[i].size == last->size && by_folder(&it[i], last) == 0)
            it[i].turn = last->turn + 1;
    }
    qsort(it, (size_t)items, sizeof(*it), by_rank);
}

// ---- The choice --------------------------------------------------------------------

static void mark(item *it, int64_t items, const char *const *path, int64_t paths, state mark_as) {
    for (int64_t i = 0; i < paths; i++) {
        const cn_choose_file key = {.path = path[i]};
        const item           wanted = {.file = &key};
        item                *found = bsearch(&wanted, it, (size_t)items, sizeof(*it), by_path);
        if (found) found->state = mark_as;
    }
}

/* What was said of an item; false if nothing was. */
static bool is_settled(item *it) {
    if (it->state == STATE_ADDED) it->reason = CN_LEFT_COUNT;
    if (it->state == STATE_DROPPED) it->reason = CN_LEFT_DROPPED;
    return it->state == STATE_ADDED || it->state == STATE_DROPPED;
}

/* Ask the items, best rank first: the kept ones, then all others. */
static void ask(item *it, int64_t items, int64_t budget) {
    const int64_t slack = budget + budget / SLACK_PART;
    int64_t       tokens = 0;
    for (int64_t i = 0; i < items; i++) {
        if (it[i].state != STATE_KEPT) continue;
        it[i].reason = it[i].tokens > slack - tokens ? CN_LEFT_BUDGET : CN_LEFT_COUNT;
        if (it[i].reason == CN_LEFT_COUNT) tokens += it[i].tokens;
    }
    for (int64_t i = 0; i < items; i++) {
        if (is_settled(&it[i]) || it[i].state == STATE_KEPT || it[i].group == GROUP_NONE) continue;
        it[i].reason = it[i].state == STATE_PASSED      ? CN_LEFT_BEFORE
                       : it[i].tokens > budget          ? CN_LEFT_TOO_BIG
                       : it[i].tokens > budget - tokens ? CN_LEFT_BUDGET
                                                        : CN_LEFT_COUNT;
        if (it[i].reason == CN_LEFT_COUNT) tokens += it[i].tokens;
    }
}

static void put_item(cn_choice *out, const item *it, int64_t file) {
    if (it->reason == CN_LEFT_COUNT) {
        out->chosen[out->chosen_files++] = file;
        out->chosen_tokens += it->tokens;
    } else {
        out->left[out->left_files++] =
            (cn_left){.file = file, .tokens = it->tokens, .reason = it->reason};
        out->left_tokens += it->tokens;
    }
}

static void *array_of(int64_t count, size_t bytes) {
    return CN_FAULT("sessions.choose.alloc") ? NULL : malloc((size_t)(count + 1) * bytes);
}

cn_err cn_choose(cn_choice *out, const cn_choose_args *args, cn_diag *diag) {
    *out = (cn_choice){0};
    const int64_t files = args->files, budget = args->budget ? args->budget : CN_CHOOSE_BUDGET;
    if (files < 0 || budget < 0)
        return CN_FAIL(diag, CN_EINVAL, "%lld files, budget of %lld tokens", (long long)files,
                       (long long)budget);
    if (files > CN_CHOOSE_FILES_MAX || budget > CN_CHOOSE_TOKENS_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "%lld files, limit %d, or a budget of %lld, limit %lld",
                       (long long)files, (int)CN_CHOOSE_FILES_MAX, (long long)budget,
                       (long long)CN_CHOOSE_TOKENS_MAX);

    item  *it = array_of(files, sizeof(*it));
    cn_err err = CN_OK;
    out->chosen = it ? array_of(files, sizeof(*out->chosen)) : NULL;
    out->left = out->chosen ? array_of(files, sizeof(*out->left)) : NULL;
    if (!out->left) {
        err = CN_FAIL(diag, CN_ENOMEM, "no memory to choose from %lld files", (long long)files);
        goto out;
    }
    for (int64_t i = 0; i < files && !err; i++)
        err = item_init(&it[i], &args->file[i], budget, diag);
    if (err) goto out;

    qsort(it, (size_t)files, sizeof(*it), by_path);
    for (int64_t i = 1; i < files; i++)
        if (by_path(&it[i - 1], &it[i]) == 0) {
            err = CN_FAIL(diag, CN_EINVAL, "given twice: %s", it[i].file->path);
            goto out;
        }
    mark(it, files, args->passed, args->passed_files, STATE_PASSED);
    mark(it, files, args->kept, args->kept_files, STATE_KEPT);
    mark(it, files, args->added, args->added_files, STATE_ADDED);
    mark(it, files, args->dropped, args->dropped_files, STATE_DROPPED);
    sort_by_rank(it, files);
    ask(it, files, budget);
    qsort(it, (size_t)files, sizeof(*it), by_path);
    for (int64_t i = 0; i < files; i++) put_item(out, &it[i], it[i].file - args->file);

out:
    free(it);
    if (err) cn_choice_release(out);
    return err;
}

void cn_choice_release(cn_choice *choice) {
    free(choice->chosen);
    free(choice->left);
    *choice = (cn_choice){0};
}

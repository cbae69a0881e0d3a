/* cli.c - Options, output and the model folder, for all commands. */
#include "runtime/cli.h"
#include "runtime/help.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPTIONS_MAX = 32 };

static const cn_verb *running; // the verb that was dispatched last
static cn_conf        conf;    // of the process

static bool read_number(const char *text, int32_t *out) {
    char *end;
    errno = 0;
    const long n = strtol(text, &end, 10);
    if (end == text || *end || errno || n < 0 || n > INT32_MAX) return false;
    *out = (int32_t)n;
    return true;
}

/* What the options say, and then what the file and the environment do. */
static cn_err configure(cn_cli *cli, const cn_option *option, char *const *given, int n,
                        cn_diag *diag) {
    cn_conf_release(&conf);
    CN_TRY(cn_conf_load(&conf, cli->config, diag));
    for (int i = 0; i < n; i++) {
        char name[64], where[68];
        if (!given[i]) continue;
        snprintf(name, sizeof(name), "%s", option[i].name);
        for (char *p = name; *p; p++)
            if (*p == '-') *p = '_';
        const cn_conf_key key = cn_conf_find(name);
        if (key == CN_CONF_COUNT) continue;
        snprintf(where, sizeof(where), "--%s", option[i].name);
        CN_TRY(cn_conf_put(&conf, key, given[i], CN_CONF_OPTION, where, 0, diag));
    }
    cli->conf = &conf;
    cli->isa = cn_conf_text(&conf, CN_CONF_ISA);
    cli->tenant = cn_conf_text(&conf, CN_CONF_TENANT);
    cli->threads = (int32_t)cn_conf_int64(&conf, CN_CONF_THREADS);
    return CN_OK;
}

int cn_cli_parse(cn_cli *cli, int argc, char **argv, const char *usage, const cn_option *options) {
    bool            help = false, man = false;
    cn_option       all[OPTIONS_MAX];
    struct option   longs[OPTIONS_MAX + 1] = {0};
    char           *given[OPTIONS_MAX] = {0};
    cn_diag         diag = {0};
    int             n = 0;
    const cn_option common[] = {
        {.name = "model",
         .value = &cli->model,
         .value_name = "DIR",
         .help = "folder of the model (CAIRN_MODEL)"},
        {.name = "state",
         .value = &cli->state,
         .value_name = "DIR",
         .help = "state folder (CAIRN_STATE)"},
        {.name = "tenant",
         .value = &cli->tenant,
         .value_name = "NAME",
         .help = "whose sessions and pages; those of others are not seen"},
        {.name = "config",
         .value = &cli->config,
         .value_name = "FILE",
         .help = "configuration (CAIRN_CONFIG; see cairn config --help)"},
        {.name = "threads", .number = &cli->threads, .help = "threads; 0: one for each core"},
        {.name = "isa",
         .value = &cli->isa,
         .value_name = "NAME",
         .help = "instruction-set path: ref, avx2, avx512"},
        {.name = "cache-bytes",
         .value = &cli->cache_bytes,
         .value_name = "SIZE",
         .help = "size budget of the page store, as 512M; 16G"},
        {.name = "json", .flag = &cli->json, .help = "one JSON object on the last line of stdout"},
        {.name = "help", .flag = &help, .help = "this text"},
        {.name = "man", .flag = &man, .help = "the same as a man page"},
    };
    for (; options && options->name; options++) all[n++] = *options;
    for (size_t i = 0; i < sizeof(common) / sizeof(common[0]); i++) all[n++] = common[i];
    cn_assert(n <= OPTIONS_MAX);
    char  letters[2 * OPTIONS_MAX + 1] = "";
    char *end = letters;
    for (int i = 0; i < n; i++) {
        if (all[i].letter) *end++ = all[i].letter;
        if (all[i].letter && !all[i].flag) *end++ = ':';
    }
    *end = 0;
    for (int i = 0; i < n; i++)
        longs[i] = (struct option){all[i].name, all[i].flag ? no_argument : required_argument, NULL,
                                   256 + i};

    // getopt wants argv[0] to be a program's name: the caller's command word serves.
    optind = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, letters, longs, NULL)) != -1;) {
        for (int i = 0; i < n && c < 256; i++)
            if (all[i].letter == c) c = 256 + i;
        if (c < 256) {
            cn_cli_usage(cli, "unknown option or missing value: %s", argv[optind - 1]);
            exit(CN_EXIT_USAGE);
        }
        const cn_option *o = &all[c - 256];
        given[c - 256] = optarg;
        if (o->flag) *o->flag = true;
        if (o->value) *o->value = optarg;
        if (o->number && !read_number(optarg, o->number)) {
            cn_cli_usage(cli, "--%s %s: want a number from 0 to %d", o->name, optarg, INT32_MAX);
            exit(CN_EXIT_USAGE);
        }
    }
    if (help) {
        cn_help_print(usage, all, n);
        exit(CN_EXIT_DONE);
    }
    if (man) {
        char name[64];
        snprintf(name, sizeof(name), "cairn %s", cli->command);
        cn_help_print_man(&(cn_help_page){.name = name,
                                          .summary = running ? running->help : cli->command,
                                          .usage = usage,
                                          .option = all,
                                          .options = n});
        exit(CN_EXIT_DONE);
    }
    const cn_err err = configure(cli, all, given, n, &diag);
    if (err) exit(cn_cli_fail(cli, err, &diag));
    const int operands = argc - optind;
    memmove(argv, argv + optind, (size_t)operands * sizeof(*argv));
    return operands;
}

/* Optimal string alignment, over the two last rows and the one before. */
static int distance_between(const char *a, const char *b) {
    enum { BYTES_MAX = 64 };
    const size_t n = strlen(a), m = strlen(b);
    if (n > BYTES_MAX || m > BYTES_MAX) return INT_MAX;
    int row[3][BYTES_MAX + 1];
    for (size_t j = 0; j <= m; j++) row[0][j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int *now = row[i % 3], *up = row[(i - 1) % 3], *up2 = row[(i + 1) % 3];
        now[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int best = up[j - 1] + (a[i - 1] != b[j - 1]);
            if (up[j] + 1 < best) best = up[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                up2[j - 2] + 1 < best)
                best = up2[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[n % 3][m];
}

void cn_nearest_try(cn_nearest *n, const char *name) {
    const size_t bytes = strlen(n->word);
    const int    limit = bytes < 5 ? 1 : 2;
    const bool   begins = bytes > 1 && strncmp(name, n->word, bytes) == 0;
    const int    distance = begins ? 0 : distance_between(n->word, name);
    if (distance > limit || (n->best && distance >= n->distance)) return;
    n->best = name;
    n->distance = distance;
}

static void print_verbs(const char *before, const cn_verb *verb) {
    const char *text = cn_help_of_group(before);
    if (text)
        fputs(text, stdout);
    else
        printf("usage: %s COMMAND [options]\n", before);
    puts("\ncommands:");
    for (const cn_verb *v = verb; v->name; v++) printf("  %-10s %s\n", v->name, v->help);
    puts("\nEvery command takes --help and --json.");
}

static int no_such_verb(const char *before, const cn_verb *verb, const char *word) {
    cn_nearest near = {.word = word};
    for (const cn_verb *v = verb; v->name; v++) cn_nearest_try(&near, v->name);
    fprintf(stderr, "%s: no command \"%s\"", before, word);
    if (near.best) fprintf(stderr, "; did you mean \"%s\"?", near.best);
    fprintf(stderr, " (see %s --help)\n", before);
    return CN_EXIT_USAGE;
}

static int run_verb(const char *before, const cn_verb *verb, int argc, char **argv) {
    for (const cn_verb *v = verb; v->name; v++)
        if (strcmp(argv[0], v->name) == 0) {
            running = v;
            return v->run(argc, argv);
        }
    return no_such_verb(before, verb, argv[0]);
}

/* help [--man] [VERB...], help --commands */
static int help(const char *before, const cn_verb *verb, int argc, char **argv) {
    enum { WORDS_MAX = 8 };
    char      *words[WORDS_MAX + 2];
    const bool is_man = argc > 1 && strcmp(argv[1], "--man") == 0;
    const int  first = is_man ? 2 : 1, count = argc - first;
    if (argc == 2 && strcmp(argv[1], "--commands") == 0) {
        for (const cn_verb *v = verb; v->name; v++) puts(v->name);
    } else if (count > WORDS_MAX) {
        fprintf(stderr, "%s help: %d words, limit %d\n", before, count, (int)WORDS_MAX);
        return CN_EXIT_USAGE;
    } else if (count > 0) {
        static char option[2][8] = {"--help", "--man"};
        memcpy(words, argv + first, (size_t)count * sizeof(*words));
        words[count] = option[is_man];
        words[count + 1] = NULL;
        return run_verb(before, verb, count + 1, words);
    } else if (is_man) {
        cn_help_print_man(
            &(cn_help_page){.name = before,
                            .summary = running ? running->help : "an agent session runtime",
                            .usage = cn_help_of_group(before),
                            .verb = verb});
    } else {
        print_verbs(before, verb);
    }
    return CN_EXIT_DONE;
}

int cn_cli_dispatch(const char *before, const cn_verb *verb, int argc, char **argv) {
    static char man[] = "--man";
    char       *page[] = {NULL, man, NULL};
    if (argc < 2 || strcmp(argv[1], "--help") == 0) {
        print_verbs(before, verb);
        return argc < 2 ? CN_EXIT_USAGE : CN_EXIT_DONE;
    }
    if (strcmp(argv[1], "help") == 0) return help(before, verb, argc - 1, argv + 1);
    if (strcmp(argv[1], "--man") == 0) return help(before, verb, 2, page);
    return run_verb(before, verb, argc - 1, argv + 1);
}

void cn_listing_begin(cn_listing *l, const cn_cli *cli) {
    *l = (cn_listing){.cli = cli};
    l->w = cn_json_writer_on(&l->buf);
}

int cn_listing_end(cn_listing *l, cn_err err, const cn_diag *diag) {
    if (!err && l->cli->json) return cn_cli_put_json(l->cli, &l->buf);
    cn_buf_release(&l->buf);
    return err ? cn_cli_fail(l->cli, err, diag) : CN_EXIT_DONE;
}

int cn_cli_put_json(const cn_cli *cli, cn_buf *buf) {
    int status = CN_EXIT_DONE;
    if (buf->err) {
        cn_diag diag;
        status = cn_cli_fail(cli, CN_FAIL(&diag, buf->err, "no memory for the answer"), &diag);
    } else {
        printf("%s\n", cn_buf_str(buf));
    }
    cn_buf_release(buf);
    return status;
}

int cn_cli_fail(const cn_cli *cli, cn_err err, const cn_diag *diag) {
    const char *text = diag && diag->text[0] ? diag->text : cn_err_text(err);
    if (!cli->json) {
        fprintf(stderr, "cairn %s: %s: %s\n", cli->command, cn_err_name(err), text);
        return CN_EXIT_FAILED;
    }
    cn_buf         buf = {0};
    cn_json_writer w = cn_json_writer_on(&buf);
    cn_json_open(&w, '{');
    cn_json_field_open(&w, "error", '{');
    cn_json_field_string(&w, "code", cn_err_name(err));
    cn_json_field_string(&w, "message", text);
    cn_json_close(&w, '}');
    cn_json_close(&w, '}');
    printf("%s\n", cn_buf_str(&buf));
    cn_buf_release(&buf);
    return CN_EXIT_FAILED;
}

int cn_cli_usage(const cn_cli *cli, const char *fmt, ...) {
    va_list args;
    fprintf(stderr, "cairn %s: ", cli->command);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, " (see cairn %s --help)\n", cli->command);
    return CN_EXIT_USAGE;
}

static bool is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

cn_err cn_cli_find_model(const cn_cli *cli, char path_out[CN_PATH_BYTES], cn_diag *diag) {
    if (cn_conf_is_set(cli->conf, CN_CONF_MODEL)) {
        CN_TRY(cn_conf_path(cli->conf, CN_CONF_MODEL, path_out, CN_PATH_BYTES, diag));
        if (is_folder(path_out)) return CN_OK;
        return CN_FAIL(diag, CN_ENOTFOUND, "no model folder %s", path_out);
    }
    // build/<config>/cairn, build/cairn, or PREFIX/bin/cairn
    static const char *const places[] = {"../../examples/models/cairn-nano",
                                         "../examples/models/cairn-nano",
                                         "../share/cairn/models/cairn-nano"};
    char                     self[CN_PATH_BYTES], place[CN_PATH_BYTES + 64];
    const ssize_t            bytes = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (bytes > 0) {
        self[bytes] = 0;
        char *slash = strrchr(self, '/');
        if (slash) *slash = 0;
        for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
            snprintf(place, sizeof(place), "%s/%s", self, places[i]);
            if (is_folder(place) && realpath(place, path_out)) return CN_OK;
        }
    }
    return CN_FAIL(diag, CN_ENOTFOUND,
                   "no model: give --model DIR, set CAIRN_MODEL, or write model = DIR into the "
                   "configuration (none beside the executable)");
}

void cn_cli_put_path(cn_json_writer *w, const char *path, int64_t tokens) {
    cn_json_put_key(w, "path");
    cn_json_put_string(w, path);
    cn_json_put_key(w, "tokens");
    cn_json_put_int64(w, tokens);
}

const char *cn_cli_count(int64_t n) {
    static char text[8][32];
    static int  turn;
    char       *out = text[turn++ % 8], digits[24];
    snprintf(digits, sizeof(digits), "%lld", (long long)n);
    size_t length = strlen(digits), at = 0;
    for (size_t i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0 && digits[i - 1] != '-') out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = 0;
    return out;
}

cn_err cn_cli_find_state(const cn_cli *cli, char out[CN_PATH_BYTES], cn_diag *diag) {
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int         bytes;
    if (cn_conf_is_set(cli->conf, CN_CONF_STATE))
        return cn_conf_path(cli->conf, CN_CONF_STATE, out, CN_PATH_BYTES, diag);
    if (xdg && *xdg == '/')
        bytes = snprintf(out, CN_PATH_BYTES, "%s/cairn", xdg);
    else if (home && *home == '/')
        bytes = snprintf(out, CN_PATH_BYTES, "%s/.local/state/cairn", home);
    else
        return CN_FAIL(diag, CN_ENOTFOUND, "no state folder: give --state DIR or set HOME");
    if (bytes >= CN_PATH_BYTES)
        return CN_FAIL(diag, CN_ETOOBIG, "the state folder's path has %d bytes, limit %d", bytes,
                       (int)CN_PATH_BYTES - 1);
    return CN_OK;
}

bool cn_cli_read_bytes(const char *text, int64_t *out) {
    static const char units[] = "KMGT";
    char             *end;
    errno = 0;
    *out = 0;
    const long long n = strtoll(text, &end, 10);
    if (end == text || n < 0 || errno) return false;
    const char *unit = *end ? strchr(units, *end) : NULL;
    const int   shift = unit ? 10 * (int)(unit - units + 1) : 0;
    if ((*end && !unit) || (unit && end[1]) || n > INT64_MAX >> shift) return false;
    *out = (int64_t)n << shift;
    return true;
}

cn_err cn_cli_open_host(const cn_cli *cli, cn_host **out, cn_diag *diag) {
    char model[CN_PATH_BYTES], state[CN_PATH_BYTES];
    *out = NULL;
    CN_TRY(cn_cli_find_model(cli, model, diag));
    CN_TRY(cn_cli_find_state(cli, state, diag));
    return cn_host_open(
        out,
        &(cn_host_opts){.model_folder = model,
                        .state_folder = state,
                        .tenant = cli->tenant,
                        .isa = cli->isa,
                        .threads = cli->threads,
                        .cache_bytes = cn_conf_int64(cli->conf, CN_CONF_CACHE_BYTES)},
        diag);
}

cn_err cn_cli_open_ledger(const cn_cli *cli, cn_ledger **out, cn_diag *diag) {
    char state[CN_PATH_BYTES];
    *out = NULL;
    CN_TRY(cn_cli_find_state(cli, state, diag));
    return cn_host_open_ledger(out, state, cli->tenant, diag);
}

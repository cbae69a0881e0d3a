/* cli.c - Options, output and the model folder, for all commands. */
#include "runtime/cli.h"

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

static void print_help(const char *usage, const cn_option *option, int options) {
    fputs(usage, stdout);
    puts("\noptions:");
    for (int i = 0; i < options; i++) {
        char text[64], letter[8] = "";
        if (option[i].letter) snprintf(letter, sizeof(letter), "-%c, ", option[i].letter);
        snprintf(text, sizeof(text), "%s--%s%s", letter, option[i].name,
                 option[i].flag     ? ""
                 : option[i].number ? " N"
                                    : " TEXT");
        printf("  %-22s %s\n", text, option[i].help);
    }
}

static bool read_number(const char *text, int32_t *out) {
    char *end;
    errno = 0;
    const long n = strtol(text, &end, 10);
    if (end == text || *end || errno || n < 0 || n > INT32_MAX) return false;
    *out = (int32_t)n;
    return true;
}

int cn_cli_parse(cn_cli *cli, int argc, char **argv, const char *usage, const cn_option *options) {
    bool            help = false;
    cn_option       all[OPTIONS_MAX];
    struct option   longs[OPTIONS_MAX + 1] = {0};
    int             n = 0;
    const cn_option common[] = {
        {.name = "model", .value = &cli->model, .help = "folder of the model (CAIRN_MODEL)"},
        {.name = "state", .value = &cli->state, .help = "state folder (CAIRN_STATE)"},
        {.name = "threads", .number = &cli->threads, .help = "threads; 0: one for each core"},
        {.name = "isa", .value = &cli->isa, .help = "instruction-set path: ref, avx2, avx512"},
        {.name = "json", .flag = &cli->json, .help = "one JSON object on the last line of stdout"},
        {.name = "help", .flag = &help, .help = "this text"},
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
        if (o->flag) *o->flag = true;
        if (o->value) *o->value = optarg;
        if (o->number && !read_number(optarg, o->number)) {
            cn_cli_usage(cli, "--%s %s: want a number from 0 to %d", o->name, optarg, INT32_MAX);
            exit(CN_EXIT_USAGE);
        }
    }
    if (help) {
        print_help(usage, all, n);
        exit(CN_EXIT_DONE);
    }
    const int operands = argc - optind;
    memmove(argv, argv + optind, (size_t)operands * sizeof(*argv));
    return operands;
}

int cn_cli_dispatch(const char *before, const cn_verb *verb, int argc, char **argv) {
    const bool help = argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0;
    for (const cn_verb *v = verb; v->name && !help; v++)
        if (strcmp(argv[1], v->name) == 0) return v->run(argc - 1, argv + 1);
    if (!help) {
        fprintf(stderr, "%s: no command \"%s\" (see %s --help)\n", before, argv[1], before);
        return CN_EXIT_USAGE;
    }
    printf("usage: %s COMMAND [options]\n\n", before);
    for (const cn_verb *v = verb; v->name; v++) printf("  %-10s %s\n", v->name, v->help);
    puts("\nEvery command takes --help and --json.");
    return argc < 2 ? CN_EXIT_USAGE : CN_EXIT_DONE;
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
    const char *named = cli->model ? cli->model : getenv("CAIRN_MODEL");
    if (named && *named) {
        if (snprintf(path_out, CN_PATH_BYTES, "%s", named) >= CN_PATH_BYTES)
            return CN_FAIL(diag, CN_ETOOBIG, "a model path of %zu bytes, limit %d", strlen(named),
                           (int)CN_PATH_BYTES - 1);
        if (is_folder(path_out)) return CN_OK;
        return CN_FAIL(diag, CN_ENOTFOUND, "no model folder %s", named);
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
                   "no model: give --model DIR or set CAIRN_MODEL (none beside the executable)");
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

/* --state, CAIRN_STATE, $XDG_STATE_HOME/cairn, ~/.local/state/cairn */
static cn_err find_state(const cn_cli *cli, char out[CN_PATH_BYTES], cn_diag *diag) {
    const char *named = cli->state ? cli->state : getenv("CAIRN_STATE");
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int         bytes;
    if (named && *named)
        bytes = snprintf(out, CN_PATH_BYTES, "%s", named);
    else if (xdg && *xdg == '/')
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

cn_err cn_cli_open_host(const cn_cli *cli, cn_host **out, cn_diag *diag) {
    char model[CN_PATH_BYTES], state[CN_PATH_BYTES];
    *out = NULL;
    CN_TRY(cn_cli_find_model(cli, model, diag));
    CN_TRY(find_state(cli, state, diag));
    return cn_host_open(
        out,
        &(cn_host_opts){
            .model_folder = model, .state_folder = state, .isa = cli->isa, .threads = cli->threads},
        diag);
}

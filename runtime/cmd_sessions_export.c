/* cmd_sessions_export.c - cairn sessions export, import: a session as JSON Lines, and back. */
#include "runtime/cmd_sessions_int.h"

#include "base/file.h"
#include "store/export.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- Export -------------------------------------------------------------------------- */

typedef struct target {
    FILE       *to;
    const char *name;
} target;

static cn_err on_line(void *ctx, const char *line, size_t bytes, cn_diag *diag) {
    const target *t = ctx;
    if (fwrite(line, 1, bytes, t->to) == bytes) return CN_OK;
    return CN_FAIL(diag, CN_EIO, "write %s: %s", t->name, strerror(errno));
}

static void say_open_turn(const cn_export_sum *sum) {
    if (sum->open_turn)
        fprintf(stderr, "cairn: turn %d is not finished and not in the export\n", sum->open_turn);
}

/* Written aside, synced, renamed: FILE holds what it held, or all of it. */
static cn_err export_to(cn_ledger *l, const char *id, const char *path, cn_export_sum *sum,
                        cn_diag *diag) {
    char temp[CN_PATH_BYTES];
    if (snprintf(temp, sizeof(temp), "%s.%ld.tmp", path, (long)getpid()) >= (int)sizeof(temp))
        return CN_FAIL(diag, CN_ETOOBIG, "a path of %zu bytes, limit %d", strlen(path),
                       (int)sizeof(temp) - 24);
    const int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE     *to = fd < 0 ? NULL : fdopen(fd, "w");
    if (!to) {
        const int why = errno;
        if (fd >= 0) close(fd), unlink(temp);
        return CN_FAIL(diag, CN_EIO, "create %s: %s", temp, strerror(why));
    }
    cn_err err = cn_ledger_export(l, id, on_line, &(target){to, path}, sum, diag);
    if (!err && (fflush(to) || fsync(fd)))
        err = CN_FAIL(diag, CN_EIO, "write %s: %s", path, strerror(errno));
    if (fclose(to) && !err) err = CN_FAIL(diag, CN_EIO, "write %s: %s", path, strerror(errno));
    if (!err && rename(temp, path))
        err = CN_FAIL(diag, CN_EIO, "rename to %s: %s", path, strerror(errno));
    if (err) unlink(temp);
    return err;
}

static cn_err export_session(cn_listing *out, cn_ledger *l, const cn_ledger_session *s, void *ctx,
                             cn_diag *diag) {
    const char   *path = ctx;
    cn_export_sum sum;
    CN_TRY(export_to(l, s->id, path, &sum, diag));
    say_open_turn(&sum);
    if (!out->cli->json)
        printf("%s: session %s, %s turns, %s lines, %s bytes\n", path, s->id,
               cn_cli_count(sum.turns), cn_cli_count(sum.lines), cn_cli_count(sum.bytes));
    cn_json_field_string(&out->w, "session", s->id);
    cn_json_field_string(&out->w, "file", path);
    cn_json_field_int64(&out->w, "turns", sum.turns);
    cn_json_field_int64(&out->w, "lines", sum.lines);
    cn_json_field_int64(&out->w, "bytes", sum.bytes);
    return CN_OK;
}

/* Its last line, an object, is the answer. */
static int export_to_stdout(const cn_cli *cli, const cn_pick *pick) {
    cn_diag            diag = {0};
    cn_ledger         *l = NULL;
    cn_ledger_session *s = NULL;
    cn_export_sum      sum;
    cn_err             err = cn_cli_open_ledger(cli, &l, &diag);
    if (!err) err = cn_pick_find(pick, l, &s, &diag);
    if (!err) err = cn_ledger_export(l, s->id, on_line, &(target){stdout, "stdout"}, &sum, &diag);
    if (!err && fflush(stdout)) err = CN_FAIL(&diag, CN_EIO, "write stdout: %s", strerror(errno));
    if (!err) say_open_turn(&sum);
    cn_ledger_session_free(s);
    cn_ledger_close(l);
    return err ? cn_cli_fail(cli, err, &diag) : CN_EXIT_DONE;
}

int cn_cmd_sessions_export(int argc, char **argv) {
    static const char usage[] =
        "usage: cairn sessions export SESSION [FILE]\n"
        "       cairn sessions export -c [-C REPO] [FILE]\n"
        "\n"
        "examples:\n"
        "  cairn sessions export 3f9 talk.jsonl    all that there is of it, for a file\n"
        "  cairn sessions export -c | gzip >a.gz   to stdout\n"
        "\n"
        "JSON Lines: messages, exact token ids, tool calls with their results, timings, bills,\n"
        "evidence and the list of documents, in the order in which they came; bytes that are no\n"
        "UTF-8 as base64.  The first line has the schema's name and version; store/export.h\n"
        "describes it.  Turns that were taken back and a turn that is not finished are left out.\n"
        "The file is private (0600) and replaced whole.\n";
    cn_cli    cli = {.command = "sessions export"};
    cn_pick   pick = {0};
    cn_option options[CN_PICK_OPTIONS + 1] = {0};
    cn_pick_options(&pick, options);
    const int left =
        cn_pick_take(&pick, &cli, cn_cli_parse(&cli, argc, argv, usage, options), argv);
    if (left < 0) return CN_EXIT_USAGE;
    if (left > 1) return cn_cli_usage(&cli, "want one FILE, got \"%s\" too", argv[1]);
    if (left == 0 || strcmp(argv[0], "-") == 0) return export_to_stdout(&cli, &pick);
    return cn_sessions_run(&cli, &pick, export_session, argv[0]);
}

/* ---- Import -------------------------------------------------------------------------- */

static cn_err read_stdin(cn_buf *buf, cn_diag *diag) {
    enum { PART_BYTES = 1 << 16 };
    buf->bytes_max = CN_EXPORT_BYTES_MAX;
    for (;;) {
        char         *part = cn_buf_grow(buf, PART_BYTES);
        const ssize_t n = part ? read(STDIN_FILENO, part, PART_BYTES) : 0;
        const int     why = errno;
        if (part) buf->bytes -= (size_t)(PART_BYTES - (n > 0 ? n : 0));
        if (!part) return CN_FAIL(diag, buf->err, "stdin: more than %zu bytes", buf->bytes);
        if (n == 0) return CN_OK;
        if (n < 0 && why != EINTR) return CN_FAIL(diag, CN_EIO, "stdin: %s", strerror(why));
    }
}

typedef struct source {
    const char *path; // NULL: stdin
    const char *id, *repo;
} source;

static cn_err import(cn_ledger *l, const source *from, cn_ledger_session **out, cn_diag *diag) {
    cn_buf text = {0};
    cn_err err = from->path ? cn_file_read(&text, from->path, CN_EXPORT_BYTES_MAX, diag)
                            : read_stdin(&text, diag);
    if (!err)
        err = cn_ledger_import(l,
                               &(cn_import){.text = cn_buf_str(&text),
                                            .bytes = text.bytes,
                                            .name = from->path ? from->path : "stdin",
                                            .id = from->id,
                                            .repo = from->repo},
                               out, diag);
    cn_buf_release(&text);
    return err;
}

static int run_import(const cn_cli *cli, const source *from) {
    cn_diag            diag = {0};
    cn_ledger         *l = NULL;
    cn_ledger_session *s = NULL;
    cn_listing         out;
    cn_listing_begin(&out, cli);
    cn_json_open(&out.w, '{');
    cn_err err = cn_cli_open_ledger(cli, &l, &diag);
    if (!err) err = import(l, from, &s, &diag);
    if (!err) {
        if (!cli->json)
            printf("session %s: %s turns on %s\n", s->id, cn_cli_count(s->turns), s->repo);
        cn_json_field_string(&out.w, "session", s->id);
        cn_json_field_string(&out.w, "repo", s->repo);
        cn_json_field_int64(&out.w, "turns", s->turns);
    }
    cn_json_close(&out.w, '}');
    cn_ledger_session_free(s);
    cn_ledger_close(l);
    return cn_listing_end(&out, err, &diag);
}

int cn_cmd_sessions_import(int argc, char **argv) {
    static const char usage[] =
        "usage: cairn sessions import [-C REPO] [FILE]\n"
        "\n"
        "examples:\n"
        "  cairn sessions import talk.jsonl      what cairn sessions export wrote\n"
        "  zcat a.gz | cairn sessions import     from stdin\n"
        "  cairn sessions import -C ~/src/x a    on the repository as it lies here\n"
        "\n"
        "The session keeps its id if that is free, and goes on where it was: pages that the\n"
        "cache has are used, the rest is prefilled by the next question.  A file that is not\n"
        "whole is refused by line, and nothing is written.  Token ids are those of the model\n"
        "that the session ran on.\n";
    cn_cli          cli = {.command = "sessions import"};
    source          from = {0};
    cn_pick         pick = {0};
    cn_diag         diag = {0};
    char            root[CN_PATH_BYTES];
    const cn_option options[] = {{.name = "repo",
                                  .letter = 'C',
                                  .value = &pick.folder,
                                  .value_name = "REPO",
                                  .help = "repository or folder of the session; that of the file"},
                                 {.name = "id",
                                  .value = &from.id,
                                  .value_name = "ID",
                                  .help = "of the session; that of the file, if it is free"},
                                 {0}};
    const int       operands = cn_cli_parse(&cli, argc, argv, usage, options);
    if (operands > 1) return cn_cli_usage(&cli, "want one FILE, got \"%s\" too", argv[1]);
    if (operands == 1 && strcmp(argv[0], "-") != 0) from.path = argv[0];
    if (pick.folder) {
        const cn_err err = cn_pick_root(&pick, root, &diag);
        if (err) return cn_cli_fail(&cli, err, &diag);
        from.repo = root;
    }
    return run_import(&cli, &from);
}

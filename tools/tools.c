/*
 * tools.c - The table, the check of arguments against a tool's own schema, and the tools.
 */
#include "tools/tools.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* One run of a tool. */
struct cn_tool_call {
    cn_tool_ctx   *ctx;
    const cn_json *arguments; // an object that the schema allows
    cn_buf         text;      // the result so far
    cn_tool_state  state;
    bool           is_full; // no line fits any more
    cn_diag       *diag;    // never NULL
};

enum { CUT_BYTES = 80 }; // kept free for the line that says that the result is cut

/* ---- Results ------------------------------------------------------------------------ */

/* The call fails, for the model to read.  Always CN_OK: the turn goes on. */
static cn_err refuse(cn_tool_call *call, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static cn_err refuse(cn_tool_call *call, const char *fmt, ...) {
    char    text[CN_DIAG_TEXT_BYTES * 2];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    cn_buf_reset(&call->text);
    cn_buf_put(&call->text, text, cn_utf8_cut(text, strlen(text)));
    call->state = CN_TOOL_FAILED;
    return CN_OK;
}

/* An error of the repository: most are for the model, the rest end the turn. */
static cn_err refuse_for(cn_tool_call *call, cn_err err) {
    if (err == CN_ENOMEM || err == CN_ECANCELLED) return err;
    return refuse(call, "%s", call->diag->text);
}

/* Add a line, if it fits. */
static void put_line(cn_tool_call *call, const char *line, size_t bytes) {
    if (call->text.bytes + bytes + 1 > CN_TOOL_RESULT_BYTES_MAX - CUT_BYTES) call->is_full = true;
    if (call->is_full) return;
    if (call->text.bytes > 0) cn_buf_put(&call->text, "\n", 1);
    cn_buf_put(&call->text, line, bytes);
}

/* The last line: says what a limit cut off. */
static void put_cut(cn_tool_call *call, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put_cut(cn_tool_call *call, const char *fmt, ...) {
    char    text[CUT_BYTES - 8];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    cn_buf_printf(&call->text, "%s... %s", call->text.bytes > 0 ? "\n" : "", text);
}

/* ---- Arguments ---------------------------------------------------------------------- */

static const cn_json_limits argument_limits = {
    .bytes_max = CN_TOOL_ARGUMENT_BYTES_MAX, .depth_max = 8, .values_max = 64};

/* Whether `value` is what the schema of one property says; false after refuse(). */
static bool check_value(cn_tool_call *call, const cn_json *schema, const cn_json *value) {
    const char *type = cn_json_string(cn_json_get(schema, "type"));
    int64_t     number, minimum;

    if (strcmp(type, "string") == 0) {
        if (cn_json_string(value)) return true;
    } else {
        cn_assert(strcmp(type, "integer") == 0);
        if (cn_json_int64(value, &number)) {
            if (!cn_json_int64(cn_json_get(schema, "minimum"), &minimum) || number >= minimum)
                return true;
            refuse(call, "argument \"%s\" is %lld, the least is %lld", cn_json_key(value),
                   (long long)number, (long long)minimum);
            return false;
        }
    }
    refuse(call, "argument \"%s\" must be of type %s", cn_json_key(value), type);
    return false;
}

/* The arguments against the tool's schema; false after refuse(). */
static bool check_arguments(cn_tool_call *call, const cn_json *schema) {
    const cn_json *properties = cn_json_get(schema, "properties");
    if (cn_json_type_of(call->arguments) != CN_JSON_OBJECT) {
        refuse(call, "arguments must be an object");
        return false;
    }
    for (const cn_json *v = cn_json_first(call->arguments); v; v = cn_json_next(v)) {
        const cn_json *property = cn_json_get(properties, cn_json_key(v));
        if (!property) {
            refuse(call, "unknown argument \"%.100s\"", cn_json_key(v));
            return false;
        }
        if (!check_value(call, property, v)) return false;
    }
    for (const cn_json *r = cn_json_first(cn_json_get(schema, "required")); r; r = cn_json_next(r))
        if (!cn_json_get(call->arguments, cn_json_string(r))) {
            refuse(call, "missing argument \"%s\"", cn_json_string(r));
            return false;
        }
    return true;
}

static const char *get_string(const cn_tool_call *call, const char *name) {
    return cn_json_string(cn_json_get(call->arguments, name));
}

static int64_t get_int64(const cn_tool_call *call, const char *name) {
    int64_t value = 0;
    cn_json_int64(cn_json_get(call->arguments, name), &value);
    return value;
}

/* The argument "path" as the repository names it: "./a//b/" is "a/b", "." is "".  False
 * after refuse(). */
static bool get_path(cn_tool_call *call, char out[CN_REPO_PATH_BYTES_MAX + 1]) {
    const char *path = get_string(call, "path");
    size_t      bytes = 0;

    if (path[0] == '/') {
        refuse(call, "path \"%.200s\" is absolute; paths begin at the root of the repository",
               path);
        return false;
    }
    for (const char *p = path; *p;) {
        const size_t part = strcspn(p, "/");
        if (part == 2 && memcmp(p, "..", 2) == 0) {
            refuse(call, "path \"%.200s\" has a \"..\"; paths begin at the root of the repository",
                   path);
            return false;
        }
        if (part == 4 && strncasecmp(p, ".git", 4) == 0) {
            refuse(call, "path \"%.200s\" is git's own", path);
            return false;
        }
        if (part > 0 && !(part == 1 && *p == '.')) {
            if (bytes + 1 + part > CN_REPO_PATH_BYTES_MAX) {
                refuse(call, "path of more than %d bytes", (int)CN_REPO_PATH_BYTES_MAX);
                return false;
            }
            if (bytes > 0) out[bytes++] = '/';
            memcpy(out + bytes, p, part);
            bytes += part;
        }
        p += part;
        if (*p) p++;
    }
    out[bytes] = 0;
    if (bytes > 0 && cn_repo_is_kept_out(call->ctx->repo, out)) {
        refuse(call, ".cairnignore keeps \"%.200s\" out", out);
        return false;
    }
    return true;
}

/* The files as they are now. */
static cn_err list_files(cn_tool_call *call) {
    cn_tool_ctx   *ctx = call->ctx;
    cn_repo_files *files;
    CN_TRY(cn_repo_list(&files, ctx->repo, ctx->files, ctx->cancel, call->diag));
    cn_repo_files_free(ctx->files);
    ctx->files = files;
    return CN_OK;
}

/* The line at p, without its end; *next_out is the one after it, NULL behind the last. */
static size_t line_bytes(const char *p, const char *end, const char **next_out) {
    const char *newline = memchr(p, '\n', (size_t)(end - p));
    const char *stop = newline ? newline : end;
    *next_out = newline && newline + 1 < end ? newline + 1 : NULL;
    if (stop > p && stop[-1] == '\r') stop--;
    return (size_t)(stop - p);
}

/* ---- The tools ---------------------------------------------------------------------- */

static cn_err put_lines(cn_tool_call *call, const char *path, const cn_buf *content) {
    const int64_t start = get_int64(call, "start"), end = get_int64(call, "end");
    const char   *p = content->bytes > 0 ? content->data : NULL, *next;
    int64_t       line = 0, put = 0;

    while (p && line < end && put < CN_TOOL_LINES_MAX && !call->is_full) {
        const size_t bytes = line_bytes(p, content->data + content->bytes, &next);
        if (++line >= start) {
            put_line(call, p, bytes);
            put += !call->is_full;
        }
        p = next;
    }
    if (line < start) return refuse(call, "%.200s has %lld lines", path, (long long)line);
    if (call->is_full || (p && line < end)) put_cut(call, "cut after %lld lines", (long long)put);
    return CN_OK;
}

static cn_err run_read_lines(cn_tool_call *call) {
    char   path[CN_REPO_PATH_BYTES_MAX + 1];
    cn_buf content = {0};
    cn_err err;

    if (!get_path(call, path)) return CN_OK;
    if (get_int64(call, "end") < get_int64(call, "start"))
        return refuse(call, "argument \"end\" is before \"start\"");
    if (!path[0]) return refuse(call, "the root is a folder: list_dir lists it");
    err = cn_repo_read_raw(call->ctx->repo, path, &content, call->diag);
    if (err)
        err = refuse_for(call, err);
    else if (memchr(cn_buf_str(&content), 0,
                    content.bytes < CN_REPO_BINARY_BYTES ? content.bytes : CN_REPO_BINARY_BYTES))
        err = refuse(call, "%.200s is binary", path);
    else
        err = put_lines(call, path, &content);
    cn_buf_release(&content);
    if (err || call->state != CN_TOOL_DONE) return err;
    memcpy(call->ctx->read_path, path, strlen(path) + 1);
    call->ctx->read_line = get_int64(call, "start");
    return CN_OK;
}

static cn_err run_list_dir(cn_tool_call *call) {
    char        folder[CN_REPO_PATH_BYTES_MAX + 2];
    const char *last = "";
    size_t      last_bytes = 0;
    int64_t     count = 0;

    if (!get_path(call, folder)) return CN_OK;
    const cn_err err = list_files(call);
    if (err) return refuse_for(call, err);
    const cn_repo_files *files = call->ctx->files;
    if (folder[0]) {
        if (cn_repo_files_find(files, folder)) return refuse(call, "%.200s is no folder", folder);
        strcat(folder, "/");
    }
    const size_t skip = strlen(folder);
    for (int64_t i = 0; i < files->count && !call->is_full; i++) {
        const cn_repo_file *f = &files->file[i];
        if (f->skip == CN_REPO_SKIP_BAD_PATH || strncmp(f->path, folder, skip) != 0) continue;
        const char  *name = f->path + skip;
        const size_t part = strcspn(name, "/"), bytes = part + (name[part] == '/');
        // A folder's files come one after the other.
        if (bytes == last_bytes && memcmp(name, last, bytes) == 0) continue;
        last = name;
        last_bytes = bytes;
        if (count == CN_TOOL_ENTRIES_MAX)
            call->is_full = true;
        else
            put_line(call, name, bytes);
        count += !call->is_full;
    }
    if (call->is_full) put_cut(call, "cut after %lld names", (long long)count);
    if (count == 0 && !call->is_full)
        return folder[0] ? refuse(call, "no such folder: %.200s", folder)
                         : refuse(call, "the repository has no files");
    return CN_OK;
}

/* "path:line:text", the text without the blanks around it, from the match on if it is long. */
static void put_match(cn_tool_call *call, const char *path, int64_t number, const char *line,
                      size_t bytes, const char *match) {
    const char *end = line + bytes;
    cn_buf      text = {0};

    while (line < end && strchr(" \t\v\f", *line)) line++;
    while (end > line && strchr(" \t\v\f\r", end[-1])) end--;
    if (match - line > CN_TOOL_MATCH_BYTES_MAX / 2) line = match < end ? match : end;
    bytes = (size_t)(end - line);
    if (bytes > CN_TOOL_MATCH_BYTES_MAX) bytes = cn_utf8_cut(line, CN_TOOL_MATCH_BYTES_MAX);
    cn_buf_printf(&text, "%s:%lld:", path, (long long)number);
    cn_buf_put(&text, line, bytes);
    if (text.err)
        call->text.err = text.err;
    else
        put_line(call, text.data, text.bytes);
    cn_buf_release(&text);
}

/* All lines of a file that hold the query; *matches is counted up. */
static void search_file(cn_tool_call *call, const char *path, const cn_buf *content,
                        const char *query, int64_t *matches) {
    const char  *p = cn_buf_str(content), *end = p + content->bytes, *match, *next;
    const size_t query_bytes = strlen(query);
    int64_t      number = 1;

    while (!call->is_full && (match = memmem(p, (size_t)(end - p), query, query_bytes))) {
        const char *line = memrchr(p, '\n', (size_t)(match - p));
        for (const char *q = p; (q = memchr(q, '\n', (size_t)(match - q))) != NULL; q++) number++;
        line = line ? line + 1 : p;
        if (*matches == CN_TOOL_MATCHES_MAX) {
            call->is_full = true;
            return;
        }
        put_match(call, path, number, line, line_bytes(line, end, &next), match);
        *matches += !call->is_full;
        if (!next) return;
        p = next;
        number++;
    }
}

static cn_err run_search(cn_tool_call *call) {
    const char   *query = get_string(call, "query");
    const int64_t until_ns = cn_clock_ns() + INT64_C(1000000) * CN_TOOL_MS_MAX;
    cn_tool_ctx  *ctx = call->ctx;
    cn_buf        content = {0};
    int64_t       matches = 0;
    bool          is_late = false;

    if (!query[0] || strlen(query) > CN_TOOL_QUERY_BYTES_MAX || strpbrk(query, "\n\r"))
        return refuse(call, "argument \"query\" must be one line of 1 to %d bytes",
                      (int)CN_TOOL_QUERY_BYTES_MAX);
    cn_err err = list_files(call);
    for (int64_t i = 0; !err && i < ctx->files->count && !call->is_full; i++) {
        const cn_repo_file *f = &ctx->files->file[i];
        if (f->skip) continue;
        if (ctx->cancel && atomic_load(ctx->cancel))
            err = CN_FAIL(call->diag, CN_ECANCELLED, "search cancelled");
        is_late = cn_clock_ns() > until_ns;
        if (err || is_late) break;
        cn_buf_reset(&content);
        err = cn_repo_read_raw(ctx->repo, f->path, &content, call->diag);
        if (!err) search_file(call, f->path, &content, query, &matches);
        if (err && err != CN_ENOMEM) err = CN_OK; // gone or grown since it was listed
    }
    cn_buf_release(&content);
    if (err) return refuse_for(call, err);
    if (call->is_full)
        put_cut(call, "cut after %lld matches", (long long)matches);
    else if (is_late)
        put_cut(call, "stopped after %d ms", (int)CN_TOOL_MS_MAX);
    else if (matches == 0)
        cn_buf_put_str(&call->text, "no matches");
    return CN_OK;
}

static cn_err run_git_log(cn_tool_call *call) {
    char           path[CN_REPO_PATH_BYTES_MAX + 1];
    cn_repo_commit commits[CN_TOOL_COMMITS_MAX];
    int32_t        count;
    bool           is_cut;

    if (!get_path(call, path)) return CN_OK;
    const cn_repo_log_args args = {.path = path,
                                   .commits_max = CN_TOOL_COMMITS_MAX,
                                   .ms_max = CN_TOOL_MS_MAX,
                                   .cancel = call->ctx->cancel};
    const cn_err err = cn_repo_log(call->ctx->repo, &args, commits, &count, &is_cut, call->diag);
    if (err) return refuse_for(call, err);
    for (int32_t i = 0; i < count; i++) {
        const cn_repo_commit *c = &commits[i];
        char                  line[sizeof(*c) + 8];
        const int             bytes =
            snprintf(line, sizeof(line), "%.7s %s %s: %s", c->id, c->date, c->author, c->subject);
        put_line(call, line, (size_t)bytes);
    }
    if (is_cut)
        put_cut(call, "there may be more");
    else if (count == 0)
        cn_buf_put_str(&call->text, "no commits");
    return CN_OK;
}

/* ---- The table ---------------------------------------------------------------------- */

#define PATH(what) "\"path\":{\"type\":\"string\",\"description\":\"" what "\"}"
#define SCHEMA(properties, required)                                                               \
    "{\"type\":\"object\",\"properties\":{" properties "},\"required\":[" required                 \
    "],\"additionalProperties\":false}"

static const cn_tool tools[] = {
    {
        .name = "read_lines",
        .help = "Read lines of a file, from start to end, both included, counted from 1.",
        .schema = SCHEMA(PATH("file, from the root of the repository") ",\"start\":{\"type\":"
                                                                       "\"integer\",\"minimum\":1}"
                                                                       ",\"end\":{\"type\":"
                                                                       "\"integer\",\"minimum\":1}",
                         "\"path\",\"start\",\"end\""),
        .run = run_read_lines,
    },
    {
        .name = "list_dir",
        .help = "List the files of a folder, one name a line; folders end in '/'.",
        .schema =
            SCHEMA(PATH("folder, from the root of the repository; . is the root"), "\"path\""),
        .run = run_list_dir,
    },
    {
        .name = "search",
        .help = "Search all files for a literal text; prints path:line:text.",
        .schema = SCHEMA("\"query\":{\"type\":\"string\",\"description\":\"text within one "
                         "line, case matters\"}",
                         "\"query\""),
        .run = run_search,
    },
    {
        .name = "git_log",
        .help = "List the newest commits that changed a file or folder.",
        .schema =
            SCHEMA(PATH("file or folder, from the root of the repository; . is all"), "\"path\""),
        .run = run_git_log,
    },
};

enum { TOOLS = sizeof(tools) / sizeof(tools[0]) };

const cn_tool *cn_tool_at(int32_t i) {
    return i >= 0 && i < TOOLS ? &tools[i] : NULL;
}

const cn_tool *cn_tool_find(const char *name) {
    for (int i = 0; i < TOOLS; i++)
        if (strcmp(tools[i].name, name) == 0) return &tools[i];
    return NULL;
}

const char *cn_tool_state_name(cn_tool_state state) {
    return state == CN_TOOL_DONE ? "done" : "failed";
}

void cn_tool_ctx_release(cn_tool_ctx *ctx) {
    cn_repo_files_free(ctx->files);
    *ctx = (cn_tool_ctx){0};
}

cn_err cn_tool_run(const cn_tool *tool, cn_tool_ctx *ctx, const char *arguments,
                   size_t arguments_bytes, cn_buf *result, cn_tool_state *state_out,
                   cn_diag *diag) {
    const cn_json_limits schema_limits = {.bytes_max = 1 << 16, .depth_max = 16, .values_max = 256};
    cn_json_doc         *schema = NULL, *json = NULL;
    cn_diag              own = {0};
    cn_tool_call         call = {.ctx = ctx, .diag = diag ? diag : &own};
    cn_err               err;

    *state_out = CN_TOOL_FAILED;
    ctx->read_path[0] = 0;
    call.text.bytes_max = CN_TOOL_RESULT_BYTES_MAX;
    err = cn_json_parse(&schema, tool->schema, strlen(tool->schema), tool->name, &schema_limits,
                        call.diag);
    if (err) goto out;
    err =
        cn_json_parse(&json, arguments, arguments_bytes, "arguments", &argument_limits, call.diag);
    if (err)
        err = refuse_for(&call, err);
    else {
        call.arguments = cn_json_root(json);
        if (check_arguments(&call, cn_json_root(schema))) err = tool->run(&call);
    }
    if (!err && call.text.err)
        err = CN_FAIL(call.diag, CN_ENOMEM, "%s: no memory for its result", tool->name);
    if (!err) {
        const cn_err before = result->err;
        cn_buf_put(result, cn_buf_str(&call.text), call.text.bytes);
        err = result->err;
        result->err = before;
        if (err) err = CN_FAIL(call.diag, CN_ENOMEM, "%s: no room for its result", tool->name);
    }
    if (!err) *state_out = call.state;
out:
    cn_json_free(schema);
    cn_json_free(json);
    cn_buf_release(&call.text);
    return err;
}

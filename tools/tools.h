/*
 * tools.h - What a model may call: a table of tools, and one way to run them.
 *
 * A tool takes its arguments as JSON text and leaves a text for the model.  What the
 * model got wrong (no JSON, an argument missing, no such file) is a result too: state
 * CN_TOOL_FAILED, and the text says what is wrong.  An error is returned only when the
 * turn itself cannot go on.
 *
 * All tools here only read, below the root of one repository, by the rules of repo.h;
 * none shows what lies in .git or what `.cairnignore` keeps out.
 *
 *   read_lines  the lines, as they are
 *   list_dir    one name a line, bytewise; a folder ends in '/'
 *   search      path:line:text, text without the blanks around it; "no matches"
 *   git_log     1a2b3c4 2024-05-17 Author Name: subject, newest first; "no commits"
 *
 * A result that a limit cuts ends with a line that begins with "... " and says so.
 *
 * Threads: the table is constant; one thread at a time uses a cn_tool_ctx.
 *
 * Layer: tools -> base.
 */
#ifndef CN_TOOLS_TOOLS_H
#define CN_TOOLS_TOOLS_H

#include "tools/repo.h"

CN_C_BEGIN

enum {
    CN_TOOL_ARGUMENT_BYTES_MAX = 16 << 10, // of the JSON text
    CN_TOOL_RESULT_BYTES_MAX = 64 << 10,
    CN_TOOL_LINES_MAX = 1000,      // of read_lines
    CN_TOOL_ENTRIES_MAX = 1000,    // of list_dir
    CN_TOOL_MATCHES_MAX = 12,      // of search: a screenful for a small model
    CN_TOOL_MATCH_BYTES_MAX = 200, // of one match's text
    CN_TOOL_QUERY_BYTES_MAX = 256,
    CN_TOOL_COMMITS_MAX = 10, // of git_log
    CN_TOOL_MS_MAX = 10000,   // search and git_log stop looking
};

/* What a call works on.  Zero it, set the first members; release it at the end. */
typedef struct cn_tool_ctx {
    cn_repo           *repo;   // borrowed
    const atomic_bool *cancel; // may be NULL; set by any thread
    cn_repo_files     *files;  // the tools' own: the last list, so that the next is cheap

    /* What the last run, if it was CN_TOOL_DONE, has read: lines of this file; "" if none. */
    char    read_path[CN_REPO_PATH_BYTES_MAX + 1];
    int64_t read_line; // the first
} cn_tool_ctx;

void cn_tool_ctx_release(cn_tool_ctx *ctx);

typedef enum { CN_TOOL_DONE, CN_TOOL_FAILED } cn_tool_state;

/* "done", "failed". */
const char *cn_tool_state_name(cn_tool_state state);

typedef struct cn_tool_call cn_tool_call; // private

typedef struct cn_tool {
    const char *name;
    const char *help;                  // one line
    const char *schema;                // JSON schema of the arguments: one object, one line
    bool        changes_world;         // must not be run twice on its own; none does yet
    cn_err (*run)(cn_tool_call *call); // through cn_tool_run
} cn_tool;

/* Tool i from 0, in a fixed order; NULL after the last. */
const cn_tool *cn_tool_at(int32_t i);
/* NULL if there is none of that name. */
const cn_tool *cn_tool_find(const char *name);

/* Run a tool.
 *
 *   arguments  `arguments_bytes` bytes of JSON, borrowed for the call.
 *   result     the text is appended, at most CN_TOOL_RESULT_BYTES_MAX bytes; bytes of a
 *              file are as they are, UTF-8 or not.
 *   state_out  CN_TOOL_FAILED: the result says what was wrong.
 *
 * CN_ECANCELLED, CN_ENOMEM: the result holds what it held before. */
cn_err cn_tool_run(const cn_tool *tool, cn_tool_ctx *ctx, const char *arguments,
                   size_t arguments_bytes, cn_buf *result, cn_tool_state *state_out,
                   cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

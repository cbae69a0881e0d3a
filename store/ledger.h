/*
 * ledger.h - The truth: sessions, turns, steps, tool calls and what they cost, in SQLite.
 *
 * All that the page store holds can be computed again from here.  A session is a chain of
 * turns; each turn points at the one before it, so that a fork or a rewind moves a pointer
 * and copies nothing.  A turn is a run of steps; a step (one generation, or one tool call
 * with its result) holds the exact token ids that it appended to the conversation, and is
 * the unit that commits.
 *
 * Folder: <dir>/ledger.db (and SQLite's -wal and -shm), <dir>/ledger.lock.  All files are
 * 0600, the folder, if made here, 0700.  Tables and views: store/ledger_schema.c.
 *
 * Promise: after a function that writes returns CN_OK, what it wrote survives power loss
 * (WAL, synchronous=FULL; the names of all folders that lead to the file are synced before its
 * first version is).  If it fails, or the machine stops inside it, all of it is there or
 * nothing.  After CN_EIO it may turn out to be there (a failing disk cannot say): close, open
 * again and read before you repeat it.
 *
 * One writer per session: a cn_ledger_writer holds a lock that dies with its process.
 * Any number of readers.  Processes may share the folder.
 *
 * Bytes: questions, answers, arguments, results are any bytes and come back as they were.
 * Strings (`const char *`) are any bytes but NUL.
 *
 * Threads: one thread at a time for a cn_ledger and its writers; open one for each thread
 * (each is a connection).  A callback must not call into its cn_ledger (asserted).  Do not
 * use a cn_ledger in a forked child.
 *
 * Tenants: a cn_ledger is opened for one.  Sessions that it makes are that tenant's, and no
 * function here lists, finds, reads, writes or sums up another's.  They share a file: ids are
 * unique over all (one that another tenant has is refused), and whoever may read the file sees all.
 *
 * Errors of every function here, besides those that it names:
 *   CN_EIO       the disk failed, is full or read-only.
 *   CN_ECORRUPT  the file is damaged, or the disk can no longer read it.
 *   CN_EBUSY     another process wrote for longer than busy_ms; try again.
 *   CN_ENOMEM.
 * The diag names the file and has SQLite's text.  A file that was moved or deleted while it is open
 * takes no more writes (CN_EIO): they would be lost without a word.
 *
 * Layer: store -> base (SQLite stops here).
 */
#ifndef CN_STORE_LEDGER_H
#define CN_STORE_LEDGER_H

#include "base/err.h"
#include "base/hash.h"
#include "store/bill.h"

CN_C_BEGIN

enum {
    CN_LEDGER_ID_BYTES_MAX = 64,          // a session id: letters, digits, '-', '_'
    CN_LEDGER_TENANT_BYTES_MAX = 64,      // a tenant's name
    CN_LEDGER_STRING_BYTES_MAX = 1 << 20, // a title, a path, a session's settings
    CN_LEDGER_TEXT_BYTES_MAX = 1 << 28,   // a question, an answer, a result
    CN_LEDGER_STEP_TOKENS_MAX = 1 << 22,
    CN_LEDGER_STEP_CALLS_MAX = 256,
    CN_LEDGER_STEP_REFS_MAX = 257,     // of each result, and of the question
    CN_LEDGER_DOCUMENTS_MAX = 1 << 20, // of one generation
    CN_LEDGER_PIECES_MAX = 1 << 16,    // of one blob
    CN_LEDGER_BLOBS_MAX = 1 << 20,     // kept: those put last
    CN_LEDGER_READS_MAX = 1 << 16,     // places of evidence of a turn
    CN_LEDGER_BUSY_MS = 10000,
};

typedef struct cn_ledger        cn_ledger;
typedef struct cn_ledger_writer cn_ledger_writer;

/* Any bytes; NULL only with 0 bytes. */
typedef struct cn_ledger_text {
    const void *data;
    size_t      bytes;
} cn_ledger_text;

/* ---- The file --------------------------------------------------------------------- */

typedef struct cn_ledger_opts {
    const char *dir;     // borrowed for the call; made (one level) if it is not there
    const char *tenant;  // likewise; whose sessions are seen; NULL or "": those of no tenant
    int32_t     busy_ms; // wait for another process; 0: CN_LEDGER_BUSY_MS
} cn_ledger_opts;

/* Open the ledger in a folder, make it if there is none, bring an older one up to date.
 *
 *   out  owned by the caller: cn_ledger_close().  NULL unless CN_OK.
 *
 * CN_EUNSUPPORTED  a ledger from a later version; the diag has both numbers.
 * CN_ETOOBIG       the tenant's name; nothing was opened.
 * CN_ECORRUPT      ledger.db is not an SQLite file, or another program's.
 * All leave the file as it is. */
cn_err cn_ledger_open(cn_ledger **out, const cn_ledger_opts *opts, cn_diag *diag) CN_MUST_CHECK;

/* Its writers must have been closed.  NULL is allowed. */
void cn_ledger_close(cn_ledger *l);

const char *cn_ledger_path(const cn_ledger *l);    // of ledger.db; valid until close
int32_t     cn_ledger_version(const cn_ledger *l); // of its schema

/* Read everything and test structure and references.  Time: linear in the file.
 *
 * CN_ECORRUPT  the diag has SQLite's first finding. */
cn_err cn_ledger_verify(cn_ledger *l, cn_diag *diag) CN_MUST_CHECK;

/* ---- Sessions --------------------------------------------------------------------- */

/* A row, or what to make one of.  NULL strings count as "". */
typedef struct cn_ledger_session {
    const char *id;
    const char *parent;    // forked from; "" if not
    int32_t     forked_at; // the last turn shared with the parent; 0 if none
    const char *title;
    const char *repo; // path of the repository or folder
    const char *commit, *branch;
    const char *settings; // JSON
    cn_hash     model;
    int64_t     created_ns, updated_ns; // unix time
    int32_t     head;                   // last turn of the conversation; 0: empty
    int32_t     open_turn;              // the head if it is not finished, else 0
    int32_t     turns;                  // own turns, rewound ones included
    int64_t     generation;             // of its documents; 0: none yet
    bool        is_pinned;              // cn_ledger_session_pin
} cn_ledger_session;

typedef void (*cn_ledger_session_fn)(void *ctx, const cn_ledger_session *s);

/* Make a session of id (NULL or "": a random one of 16 letters and digits), title, repo,
 * commit, branch, settings and model; the other fields are not read.
 *
 *   out  the row; owned by the caller: cn_ledger_session_free().  NULL unless CN_OK.
 *
 * CN_EINVAL   the id has other characters, or is taken.
 * CN_ETOOBIG  a string is over its limit; the diag has both numbers. */
cn_err cn_ledger_session_create(cn_ledger *l, const cn_ledger_session *s, cn_ledger_session **out,
                                cn_diag *diag) CN_MUST_CHECK;

/* Make a session whose conversation is that of `parent` up to and with `turn` (0: empty).
 * Title, repo, settings, model and documents are the parent's.  One row; `id` and `out` as
 * for create.
 *
 * CN_ENOTFOUND  no such session, or `turn` is not in its conversation.
 * CN_EINVAL     `turn` is not finished; the id, as for create. */
cn_err cn_ledger_session_fork(cn_ledger *l, const char *parent, int32_t turn, const char *id,
                              cn_ledger_session **out, cn_diag *diag) CN_MUST_CHECK;

/* The session whose id is `id`, or else the only one whose id starts with it.
 *
 * CN_ENOTFOUND  none (an answer: the diag is set all the same).
 * CN_EINVAL     several; the diag names two. */
cn_err cn_ledger_session_find(cn_ledger *l, const char *id, cn_ledger_session **out,
                              cn_diag *diag) CN_MUST_CHECK;

/* The session that was written last, among those on `repo` (NULL: all).
 *
 * CN_ENOTFOUND  none. */
cn_err cn_ledger_session_latest(cn_ledger *l, const char *repo, cn_ledger_session **out,
                                cn_diag *diag) CN_MUST_CHECK;

/* The last `sessions_max` sessions on `repo` (NULL: all), the one written last first.
 * Rows are borrowed for the callback. */
cn_err cn_ledger_sessions(cn_ledger *l, const char *repo, int64_t sessions_max,
                          cn_ledger_session_fn fn, void *ctx, cn_diag *diag) CN_MUST_CHECK;

/* The sessions that were forked from one, oldest first; their own forks not.  `session` is an exact
 * id: CN_ENOTFOUND. */
cn_err cn_ledger_forks(cn_ledger *l, const char *session, cn_ledger_session_fn fn, void *ctx,
                       cn_diag *diag) CN_MUST_CHECK;

/* Remove a session and all that hangs on it.  Its bytes are overwritten with zeros, at the
 * latest when the last reader of an older state is gone.
 *
 * CN_ENOTFOUND.  CN_EINVAL  it has forks; the diag names one.  CN_EBUSY  it has a writer. */
cn_err cn_ledger_session_del(cn_ledger *l, const char *id, cn_diag *diag) CN_MUST_CHECK;

void cn_ledger_session_free(cn_ledger_session *s); // NULL is allowed

/* ---- Writing ---------------------------------------------------------------------- */

typedef struct cn_ledger_opened {
    int64_t interrupted; // tool calls that had an intent and no result; now CN_CALL_INTERRUPTED
    int32_t open_turn;   // a turn that was not finished, 0 if none: go on with its next step,
    int32_t next_step;   // or finish it
} cn_ledger_opened;

/* Become the one writer of a session, and note what a crash interrupted.
 *
 *   out     owned by the caller: cn_ledger_writer_close().  NULL unless CN_OK.
 *   opened  may be NULL.
 *
 * CN_ENOTFOUND  no session with exactly this id.
 * CN_EBUSY      it has a writer; the diag has its process id. */
cn_err cn_ledger_writer_open(cn_ledger_writer **out, cn_ledger *l, const char *id,
                             cn_ledger_opened *opened, cn_diag *diag) CN_MUST_CHECK;
void   cn_ledger_writer_close(cn_ledger_writer *w); // NULL is allowed

/* Fields that are NULL stay as they are.  CN_ETOOBIG. */
typedef struct cn_ledger_edit {
    const char    *title, *repo, *commit, *branch, *settings;
    const cn_hash *model;
} cn_ledger_edit;

cn_err cn_ledger_session_edit(cn_ledger_writer *w, const cn_ledger_edit *edit,
                              cn_diag *diag) CN_MUST_CHECK;

/* Take back every turn after `turn` (0: all).  They leave the conversation, stay on the
 * bill, and forks that stand on them keep them.
 *
 * CN_ENOTFOUND  `turn` is not in the conversation.   CN_EINVAL  a turn is open. */
cn_err cn_ledger_rewind(cn_ledger_writer *w, int32_t turn, cn_diag *diag) CN_MUST_CHECK;

/* "end" and so on, as design and wire call them; a step may also stop for a tool. */
#define CN_STOP_LIST(X)                                                                            \
    X(OPEN, "open") /* not finished */                                                             \
    X(END, "end")                                                                                  \
    X(LENGTH, "length")                                                                            \
    X(BUDGET, "budget")                                                                            \
    X(CANCEL, "cancel")                                                                            \
    X(ERROR, "error")                                                                              \
    X(TOOL, "tool")

typedef enum {
#define X(name, text) CN_STOP_##name,
    CN_STOP_LIST(X)
#undef X
        CN_STOP_COUNT
} cn_stop;

#define CN_CALL_LIST(X)                                                                            \
    X(INTENT, "intent") /* on disk before the tool runs */                                         \
    X(DONE, "done")                                                                                \
    X(FAILED, "failed")                                                                            \
    X(INTERRUPTED, "interrupted") /* the process died in it: nobody knows how far it came */

typedef enum {
#define X(name, text) CN_CALL_##name,
    CN_CALL_LIST(X)
#undef X
        CN_CALL_COUNT
} cn_call_state;

typedef enum { CN_STEP_GENERATION, CN_STEP_TOOL } cn_step_kind;

#define CN_ORIGIN_LIST(X)                                                                          \
    X(ASKED, "asked")                                                                              \
    X(SUMMARY, "summary") /* stands for turns of a parent: the model wrote it */                   \
    X(EXTRACT, "extract") /* the same, put together from them */                                   \
    X(KEPT, "kept")       /* a copy of a parent's turn; that one has the bill */

/* How a turn came into the conversation (cn_ledger_compact). */
typedef enum {
#define X(name, text) CN_ORIGIN_##name,
    CN_ORIGIN_LIST(X)
#undef X
        CN_ORIGIN_COUNT
} cn_origin;

const char *cn_stop_name(cn_stop stop);              // "?" outside the enum
const char *cn_call_state_name(cn_call_state state); // "?" outside the enum
const char *cn_origin_name(cn_origin origin);        // "?" outside the enum

/* The number that the next turn of this session gets. */
cn_err cn_ledger_turn_next(cn_ledger_writer *w, int32_t *turn_out, cn_diag *diag) CN_MUST_CHECK;

/* Begin a turn after the last one: the number it gets is one more than any before it.
 *
 * CN_EINVAL   a turn is open; the diag has its number.
 * CN_ETOOBIG. */
cn_err cn_ledger_turn_begin(cn_ledger_writer *w, cn_ledger_text question, int32_t *turn_out,
                            cn_diag *diag) CN_MUST_CHECK;

/* A tool call that this step sampled: it runs after the commit. */
typedef struct cn_ledger_intent {
    const char    *name;
    cn_ledger_text arguments; // as the tool gets them
    cn_ledger_text sampled;   // as the model wrote the call, exactly
} cn_ledger_intent;

/* How a call ended.  It must have been in CN_CALL_INTENT or CN_CALL_INTERRUPTED. */
typedef struct cn_ledger_result {
    int32_t        step, call; // the step that sampled it, and its place there, from 0
    cn_call_state  state;      // anything but CN_CALL_INTENT
    int32_t        exit;       // exit status or error code; 0 for none
    cn_ledger_text result;
    int64_t        started_ns; // unix time
    int64_t        ns;
} cn_ledger_result;

/* A long part of the conversation whose middle is documents: which bytes of which text.  The
 * documents are made of them again at any time; how they are cut is no truth and not here. */
typedef struct cn_ledger_ref {
    int32_t        turn;       // reading: whose part it is; writing: the open turn, not read
    int32_t        part;       // 0: the question; n: the result of the turn's n-th call
    int32_t        step, call; // of the call, as in cn_ledger_result; of no meaning for part 0
    const char    *path;       // in the documents' header
    int64_t        begin, bytes;
    cn_ledger_text text; // reading: these bytes; writing: not read
} cn_ledger_ref;

/* A step.  All pointers are borrowed for the call. */
typedef struct cn_ledger_commit {
    int32_t                 step; // from 0; one more than the last
    cn_step_kind            kind;
    cn_stop                 stop;
    const int32_t          *token; // [tokens] appended to the conversation, in order
    int64_t                 tokens;
    int64_t                 started_ns; // unix time
    const cn_bill          *bill;       // of this step; NULL: zeros
    const cn_bill          *turn_bill;  // of the turn so far; NULL: as before
    const cn_ledger_intent *intent;     // [intents]
    int32_t                 intents;
    const cn_ledger_result *result; // [results]
    int32_t                 results;
    const cn_ledger_ref    *ref; // [refs] of the question, or of results up to this step
    int32_t                 refs;
} cn_ledger_commit;

/* Commit a step of the open turn: tokens, intents, results, refs and bills, in one transaction.
 *
 * CN_EINVAL   no turn is open; the step is not the next one; a result without its intent;
 *             a ref to bytes that its text does not have, or a second one to a part;
 *             a value outside its enum.
 * CN_ETOOBIG  a limit; the diag has both numbers. */
cn_err cn_ledger_step_commit(cn_ledger_writer *w, const cn_ledger_commit *c,
                             cn_diag *diag) CN_MUST_CHECK;

/* Where the model's attention went, by the index: lines of a document and their share of
 * the whole.  The path "" is the conversation, in line 0. */
typedef struct cn_ledger_read {
    const char *path;
    int32_t     first_line, last_line;
    double      share; // 0..1
} cn_ledger_read;

/* Finish the open turn.  Calls that still have only an intent become CN_CALL_INTERRUPTED.
 *
 *   read  [reads] its evidence, in the order to keep.
 *
 * CN_EINVAL   no turn is open; `stop` is OPEN or TOOL.   CN_ETOOBIG. */
cn_err cn_ledger_turn_finish(cn_ledger_writer *w, cn_stop stop, cn_ledger_text answer,
                             const cn_bill *bill, const cn_ledger_read *read, int64_t reads,
                             cn_diag *diag) CN_MUST_CHECK;

/* ---- Compaction ------------------------------------------------------------------- */

typedef struct cn_ledger_compaction {
    cn_origin      origin;       // SUMMARY or EXTRACT
    int32_t        through;      // the last turn that it stands for; its number from now on
    cn_ledger_text question;     // as the conversation has it
    cn_ledger_text answer;       // the summary
    const int32_t *token;        // [tokens] of both, as the conversation has them
    int64_t        tokens;       //
    const char    *parent_id;    // of the session as it was; as for create
    const char    *parent_title; // NULL: as before
    const char    *settings;     // of the session from now on; NULL: as before
    int64_t        started_ns;   // unix time
    const cn_bill *bill;
} cn_ledger_compaction;

/* Put one turn in the place of all turns up to `through`.  The session as it was becomes a session
 * of its own, under a new id: the parent of the compacted one, which keeps the id, begins with
 * the new turn and goes on with copies of the turns behind `through` (CN_ORIGIN_KEPT; texts,
 * tokens, calls and refs, and zeros for a bill).  Forks of before stay forks of the parent.
 * Documents, commit and branch are the same for both.  The writer writes the compacted one from
 * now on; nobody could have written it before.  All in one transaction.
 *
 *   parent_out  the parent's id.
 *
 * CN_EINVAL     a turn is open, the origin is no compaction's; the id, as for create.
 * CN_ENOTFOUND  `through` is not in the conversation.
 * CN_ETOOBIG    a limit; the diag has both numbers.
 * After CN_EIO close the writer: it may be that of the parent. */
cn_err cn_ledger_compact(cn_ledger_writer *w, const cn_ledger_compaction *c,
                         char parent_out[CN_LEDGER_ID_BYTES_MAX + 1], cn_diag *diag) CN_MUST_CHECK;

/* ---- Reading a conversation ---------------------------------------------------------
 * In order, the turns taken over from a parent included, rewound ones left out.  Rows are
 * borrowed for the callback.  `session` is an exact id: CN_ENOTFOUND.  `turn` is one turn
 * of the conversation, or 0 for all: CN_ENOTFOUND.                                       */

typedef struct cn_ledger_turn {
    const char    *session; // whose turn it is: this one or a parent
    int32_t        turn;
    cn_stop        stop;
    cn_origin      origin;
    int64_t        started_ns, finished_ns; // unix time; 0 while open
    int32_t        steps;
    cn_ledger_text question, answer;
    cn_bill        bill;
} cn_ledger_turn;

typedef struct cn_ledger_step {
    int32_t      turn, step;
    cn_step_kind kind;
    cn_stop      stop;
    int64_t      tokens;
    int64_t      started_ns; // unix time
    int64_t      generation; // of the documents it ran over
    cn_bill      bill;
} cn_ledger_step;

typedef struct cn_ledger_call {
    int32_t        turn, step, call;
    const char    *name;
    cn_call_state  state;
    int32_t        exit;
    int64_t        started_ns, ns;
    cn_ledger_text arguments, sampled, result;
} cn_ledger_call;

typedef void (*cn_ledger_turn_fn)(void *ctx, const cn_ledger_turn *turn);
typedef void (*cn_ledger_step_fn)(void *ctx, const cn_ledger_step *step);
typedef void (*cn_ledger_call_fn)(void *ctx, const cn_ledger_call *call);
typedef void (*cn_ledger_read_fn)(void *ctx, int32_t turn, const cn_ledger_read *read);
typedef void (*cn_ledger_ref_fn)(void *ctx, const cn_ledger_ref *ref);
/* `tokens` ids of a step; a long step comes in several calls. */
typedef void (*cn_ledger_tokens_fn)(void *ctx, int32_t turn, int32_t step, const int32_t *token,
                                    int64_t tokens);

cn_err cn_ledger_turns(cn_ledger *l, const char *session, int32_t turn, cn_ledger_turn_fn fn,
                       void *ctx, cn_diag *diag) CN_MUST_CHECK;
cn_err cn_ledger_steps(cn_ledger *l, const char *session, int32_t turn, cn_ledger_step_fn fn,
                       void *ctx, cn_diag *diag) CN_MUST_CHECK;
cn_err cn_ledger_calls(cn_ledger *l, const char *session, int32_t turn, cn_ledger_call_fn fn,
                       void *ctx, cn_diag *diag) CN_MUST_CHECK;
cn_err cn_ledger_reads(cn_ledger *l, const char *session, int32_t turn, cn_ledger_read_fn fn,
                       void *ctx, cn_diag *diag) CN_MUST_CHECK;
/* In the order of their making, each with its bytes. */
cn_err cn_ledger_refs(cn_ledger *l, const char *session, int32_t turn, cn_ledger_ref_fn fn,
                      void *ctx, cn_diag *diag) CN_MUST_CHECK;

/* The token ids of the whole conversation, or of all of it up to and with `turn`.
 *
 * Memory: the ids of one step. */
cn_err cn_ledger_tokens(cn_ledger *l, const char *session, int32_t turn, cn_ledger_tokens_fn fn,
                        void *ctx, cn_diag *diag) CN_MUST_CHECK;

/* ---- Documents -------------------------------------------------------------------- */

typedef struct cn_ledger_piece {
    cn_hash key; // of the document
    int32_t tokens;
    int32_t first_line, lines; // first_line from 1
} cn_ledger_piece;

#define CN_DOCUMENT_LIST(X)                                                                        \
    X(FILE, "file")                                                                                \
    X(REF, "ref") /* of a cn_ledger_ref */

typedef enum {
#define X(name, text) CN_DOCUMENT_##name,
    CN_DOCUMENT_LIST(X)
#undef X
        CN_DOCUMENT_COUNT
} cn_document_kind;

typedef struct cn_ledger_document {
    const char      *path;
    cn_ledger_piece  piece;
    cn_document_kind kind;
} cn_ledger_document;

typedef void (*cn_ledger_document_fn)(void *ctx, const cn_ledger_document *document);

/* From now on the session's view is these documents, in this order: a new generation, made at the
 * commit and branch of the session's row.  The one before is kept if a step ran over it or a fork
 * has it.
 *
 *   generation_out  larger than any before; may be NULL.
 *
 * CN_EINVAL  a value outside its enum, or negative.   CN_ETOOBIG. */
cn_err cn_ledger_documents_put(cn_ledger_writer *w, const cn_ledger_document *document,
                               int64_t documents, int64_t *generation_out,
                               cn_diag *diag) CN_MUST_CHECK;

/* The documents of a session, in order; of its current generation (0), or of an earlier one
 * that a step ran over.
 *
 * CN_ENOTFOUND  no such session or generation. */
cn_err cn_ledger_documents(cn_ledger *l, const char *session, int64_t generation,
                           cn_ledger_document_fn fn, void *ctx, cn_diag *diag) CN_MUST_CHECK;

typedef struct cn_ledger_generation {
    int64_t     made_ns;         // unix time
    const char *commit, *branch; // where HEAD was then; "" if nowhere, or not known
} cn_ledger_generation;

/* Call `fn` with a generation.   CN_ENOTFOUND. */
cn_err cn_ledger_generation_get(cn_ledger *l, int64_t generation,
                                void (*fn)(void *ctx, const cn_ledger_generation *g), void *ctx,
                                cn_diag *diag) CN_MUST_CHECK;

/* ---- What its pages are for (ledger_keep.c) -------------------------------------------- */

/* Pin a session (its pages are never evicted), or unpin it.  Needs no writer; a second time
 * changes nothing.  `id` is exact: CN_ENOTFOUND. */
cn_err cn_ledger_session_pin(cn_ledger *l, const char *id, bool is_pinned,
                             cn_diag *diag) CN_MUST_CHECK;

/* Whether a process, this one counted, has the session open to write it; *pid_out is its
 * process id, 0 if it did not say.  `id` is exact: CN_ENOTFOUND. */
cn_err cn_ledger_session_is_open(cn_ledger *l, const char *id, bool *out, int64_t *pid_out,
                                 cn_diag *diag) CN_MUST_CHECK;

/* Which documents views have held. */
typedef struct cn_ledger_seen {
    const char *session;         // its own generations; NULL: of all sessions
    const char *repo;            // of sessions on it; NULL: on all
    int64_t     generations_max; // the newest ones of each repository
} cn_ledger_seen;

/* A document that several generations have comes several times.
 *
 * CN_ENOTFOUND  no session with exactly this id. */
cn_err cn_ledger_documents_seen(cn_ledger *l, const cn_ledger_seen *which, cn_ledger_document_fn fn,
                                void *ctx, cn_diag *diag) CN_MUST_CHECK;

/* ---- Blobs: the cheap path ----------------------------------------------------------
 * How a file with these bytes at this path is cut, so that an unchanged file is neither
 * read nor tokenised.  A cache: the CN_LEDGER_BLOBS_MAX put last are kept.               */

typedef struct cn_ledger_cut {
    cn_hash     model;  // and all else that decides document keys
    const char *tenant; // "" for none
    int32_t     version;
    /* What `model` is of, for who asks why a key is another (ledger_known.h); may be NULL. */
    const cn_hash *weights; // of weights, config and tokenizer
    const char    *layout;  // numeric: backend, types, page
} cn_ledger_cut;

typedef struct cn_ledger_blob {
    const char            *path;
    const void            *id; // git's object id, raw
    int32_t                id_bytes;
    const cn_ledger_piece *piece; // [pieces]; an empty file has none
    int32_t                pieces;
} cn_ledger_blob;

/* CN_ETOOBIG. */
cn_err cn_ledger_blobs_put(cn_ledger *l, const cn_ledger_cut *cut, const cn_ledger_blob *blob,
                           int64_t blobs, cn_diag *diag) CN_MUST_CHECK;

/* Read the pieces of one blob; path and id are given, piece and pieces are not read.
 *
 *   piece_out  [*pieces_out], owned by the caller: free() it.  NULL unless CN_OK with pieces.
 *
 * CN_ENOTFOUND  not known (diag is not touched: this is an answer). */
cn_err cn_ledger_blob_get(cn_ledger *l, const cn_ledger_cut *cut, const cn_ledger_blob *blob,
                          cn_ledger_piece **piece_out, int32_t *pieces_out,
                          cn_diag *diag) CN_MUST_CHECK;

/* ---- Cost ------------------------------------------------------------------------- */

/* How long a token's prefill takes, as last measured: of an engine (a hash of all that decides its
 * speed) with a number of threads.
 *
 * CN_EINVAL  the time is not above 0, or not finite. */
cn_err cn_ledger_rate_put(cn_ledger *l, const cn_hash *engine, int32_t threads, double prefill_ns,
                          cn_diag *diag) CN_MUST_CHECK;
/* 0: never measured. */
cn_err cn_ledger_rate_get(cn_ledger *l, const cn_hash *engine, int32_t threads,
                          double *prefill_ns_out, cn_diag *diag) CN_MUST_CHECK;

typedef enum { CN_COST_TURN, CN_COST_SESSION, CN_COST_DAY, CN_COST_TOOL, CN_COST_COUNT } cn_cost_by;

/* Sums over turns; strings and numbers that `by` does not speak of are "" and 0. */
typedef struct cn_ledger_cost {
    const char *session, *title; // by turn, by session
    int32_t     turn;            // by turn
    const char *day;             // by day: "2026-11-23", of the turn's start, UTC
    const char *tool;            // by tool
    int64_t     started_ns;      // of the first turn; by tool: of the first call
    int64_t     turns;           // by tool: that called it
    int64_t     calls, failed, interrupted;
    int64_t     calls_ns; // in these calls
    cn_bill     bill;     // as cn_bill_add makes it; by tool: zeros
} cn_ledger_cost;

typedef void (*cn_ledger_cost_fn)(void *ctx, const cn_ledger_cost *cost);

/* The cost of all sessions, or of one (an exact id; its own turns, rewound ones included),
 * oldest first; by tool: the most expensive first.
 *
 * CN_ENOTFOUND  no such session.   CN_EINVAL  `by` is none of the four. */
cn_err cn_ledger_costs(cn_ledger *l, cn_cost_by by, const char *session, cn_ledger_cost_fn fn,
                       void *ctx, cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif

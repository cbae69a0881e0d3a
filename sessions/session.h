/*
 * session.h - A repository view, a conversation, their ledger; and a turn as a state machine.
 *
 * A turn never owns the decode loop: cn_turn_step says what it needs next, so that one
 * engine can serve many turns in one step.
 *
 *   cn_turn_begin(&t, s, &opts);
 *   while (cn_turn_step(t, &need) == CN_OK && need != CN_TURN_DONE)
 *       need == CN_TURN_ENGINE ? cn_engine_step(e, cn_turn_slice(t), 1, &stats), cn_turn_ran(t,
 * &stats) : cn_turn_run_tool(t);
 *
 * Steps commit: what a step sampled is on disk before its tool runs, the result with what
 * follows.  The ledger is the truth; pages and window of the conversation are written when the
 * turn is over and may be lost, which costs a replay and is billed as prompt tokens.  Where the
 * pages are there, and only the window is not (an old turn), the replay is at most that of
 * cn_doc_replay_from and a page.
 *
 * The template: role tokens of the model's config around plain text.
 *
 *   <user> question <assistant> answer <end>
 *   <user> question <assistant> <tool_call> {"name":...,"arguments":{...}} <end>
 *          <tool_result> text <end> <assistant> answer <end>
 *
 * With a model whose config says conversation_refs, long questions and results are referred
 * to: ref.h.  The conversation holds their edges, the view their documents, the ledger their
 * text, from which these can be made again.
 *
 * Threads: one.   Layer: sessions -> base, engine, store, tools.
 */
#ifndef CN_SESSIONS_SESSION_H
#define CN_SESSIONS_SESSION_H

#include "sessions/evidence.h"
#include "store/ledger_pins.h"
#include "tools/tools.h"

CN_C_BEGIN

enum {
    CN_SESSION_TOKENS_MAX = 1 << 17,  // of a conversation
    CN_SESSION_REFS_BUDGET = 1 << 16, // tokens of its long parts in the view
    CN_SESSION_WINDOWS = 8,           // stored: behind so many last turns, up to twice as many,
                                      // and where forks stand
    CN_TURN_OUTPUT_TOKENS = 1024,     // default limit of what a turn samples
    CN_TURN_CALLS_MAX = 16,           // tool calls of a turn
    CN_TURN_RESULT_TOKENS_MAX = 4096, // of a result, in the conversation; the rest is cut, and said
};

typedef struct cn_session cn_session;
typedef struct cn_turn    cn_turn;

/* What becomes of a session's view: --pin keeps it as it was behind the last turn (of a new
 * session: as the folder is now), whatever happens to the folder; said once, it holds for all turns
 * to come.  Tools still see the folder as it is. */
typedef enum { CN_PIN_AS_IT_IS, CN_PIN_ON, CN_PIN_OFF } cn_pin;

typedef struct cn_session_opts {
    const char *id;           // of an existing session (a prefix will do); NULL: see below
    const char *folder;       // of a repository; NULL only with id
    bool        is_continued; // without id: the latest session on this folder, if there is one
    int64_t     budget;       // of a new session: tokens of files; 0: CN_CHOOSE_BUDGET
    int64_t     refs_budget;  // likewise, of long parts; 0: CN_SESSION_REFS_BUDGET
    cn_pin      pin;
    bool        is_trial; // for many short conversations on one view: the folder is looked at
                          // by the first turn alone, pages of the conversation are not stored
    bool is_reader;       // of an existing session: beside its writer, who may be running a turn
} cn_session_opts;

/* Open or make a session, as its one writer.  What a crash interrupted is finished as an
 * error and said (cn_session_interrupted).  A reader sees the steps that are committed now, and may
 * not edit, rewind, fork, pin or begin turns (CN_EINVAL); a turn that is open stays so.  If its
 * folder is gone and `folder` is another, it has moved there, for good (cn_session_moved_from);
 * else another folder is a visit.
 *
 * CN_ENOTFOUND  no such session; is_continued and none on this folder; its folder is gone, and
 *               nobody says where to; pin: a file's text of before cannot be had any more.
 * CN_EBUSY      another process writes it.
 * Errors of cn_context_open, cn_ledger_*. */
cn_err cn_session_open(cn_session **out, cn_host *host, const cn_session_opts *opts,
                       cn_diag *diag) CN_MUST_CHECK;
void   cn_session_close(cn_session *s); // NULL is allowed

/* Valid until the next turn begins. */
const cn_ledger_session *cn_session_row(const cn_session *s);
cn_context              *cn_session_context(cn_session *s);
int64_t                  cn_session_tokens(const cn_session *s); // of the conversation
/* [cn_session_tokens()] their ids, as committed; valid until the next turn. */
const int32_t *cn_session_token(const cn_session *s);
/* What the last process left: a sentence, or NULL. */
const char *cn_session_interrupted(const cn_session *s);
/* The folder that it was on until now, if it has moved; or NULL. */
const char *cn_session_moved_from(const cn_session *s);
/* Since when and where the view stays as it was; NULL if it follows the folder. */
const cn_ledger_pin *cn_session_pin(const cn_session *s);

/* Nanoseconds that prefill of a token takes, as last measured (cn_host.prefill_ns); 0: never. */
double cn_session_prefill_ns(const cn_session *s);

typedef enum { CN_EDIT_ADD, CN_EDIT_DROP } cn_edit;

/* Say that files or long parts of the conversation are in the view, or are not, from now on:
 * kept over turns, processes, forks and changes of the folder.  Dropping costs nothing; what is
 * added is prefilled by the next turn, takes nothing of a budget and is not dropped for one.
 * Between turns; the context is updated.
 *
 *   path  [paths] from the folder's root, or as the conversation names a part.
 *
 * CN_ENOTFOUND     neither a file of the folder nor a part; the diag names it.
 * CN_EUNSUPPORTED  to add: no text for a model; the diag says why.
 * CN_ETOOBIG       too many paths.
 * Errors of cn_context_update, cn_ledger_session_edit.  Before the ledger has it, nothing has
 * changed. */
cn_err cn_session_edit(cn_session *s, cn_edit edit, const char *const *path, int64_t paths,
                       cn_diag *diag) CN_MUST_CHECK;

/* Whether the conversation may be compacted on its own when it comes near its limit (compact.h);
 * kept like an edit.  A new session's may. */
cn_err cn_session_set_compaction(cn_session *s, bool is_auto, cn_diag *diag) CN_MUST_CHECK;
bool   cn_session_is_compacted_on_its_own(const cn_session *s);

/* Take back every turn after `turn` (0: all): the conversation is as it was behind it.  They stay
 * on the bill.  No turn of the session may be running.
 *
 * CN_ENOTFOUND  `turn` is not in the conversation. */
cn_err cn_session_rewind(cn_session *s, int32_t turn, cn_diag *diag) CN_MUST_CHECK;

/* Go on as a fork: a new session whose conversation is this one's up to and with `turn` (0: empty).
 * The one before stays as it is, and is free for other writers.  A row is written, no page.
 *
 * CN_ENOTFOUND  `turn` is not in the conversation.   CN_EINVAL  it is not finished. */
cn_err cn_session_fork(cn_session *s, int32_t turn, cn_diag *diag) CN_MUST_CHECK;

/* ---- Turns ------------------------------------------------------------------------ */

typedef enum { CN_TURN_ENGINE, CN_TURN_TOOL, CN_TURN_DONE } cn_turn_need;

typedef struct cn_turn_opts {
    const char *question;
    size_t      question_bytes;
    int32_t     output_tokens_max; // 0: CN_TURN_OUTPUT_TOKENS
    cn_sampling sampling;          // top_p 0 counts as 1; counter is the turn's
    /* Text of the answer as it is made: whole UTF-8 characters.  May be NULL. */
    void (*on_text)(void *ctx, const char *text, size_t bytes);
    /* A token that was sampled, and the logits [vocab] that it was chosen from.  May be NULL. */
    void (*on_token)(void *ctx, int32_t token, const float *logits, int32_t vocab);
    /* A tool call, before and after it runs (state CN_CALL_INTENT first).  May be NULL. */
    void (*on_call)(void *ctx, const char *name, const char *arguments, cn_call_state state);
    /* Prefill of the view: `done` of `total` tokens so far.  May be NULL. */
    void (*on_prefill)(void *ctx, int64_t done, int64_t total);
    void *ctx;
} cn_turn_opts;

/* Begin a turn: the view is brought up to date with the folder, what is missing will be
 * prefilled by cn_turn_step.  Options and question are borrowed until cn_turn_free.
 *
 * CN_ETOOBIG  the conversation or the question is too long; the diag has both numbers.
 * Errors of cn_context_update, cn_ledger_turn_begin. */
cn_err cn_turn_begin(cn_turn **out, cn_session *s, const cn_turn_opts *opts,
                     cn_diag *diag) CN_MUST_CHECK;

/* Do what can be done without the engine or a tool, and say what is needed next.  After an error
 * the turn is over: finished in the ledger with stop "error", the conversation as its last
 * committed step left it. */
cn_err cn_turn_step(cn_turn *t, cn_turn_need *need_out, cn_diag *diag) CN_MUST_CHECK;

/* CN_TURN_ENGINE: the slice to run, alone or with those of other turns; then say what it took. */
cn_slice *cn_turn_slice(cn_turn *t);
void      cn_turn_ran(cn_turn *t, const cn_step_stats *stats);

/* CN_TURN_TOOL: run the call that is on disk as an intent. */
cn_err cn_turn_run_tool(cn_turn *t, cn_diag *diag) CN_MUST_CHECK;

/* All of the above, until the turn is done: for one turn alone.
 *
 *   cancel  NULL, or set by any thread or signal: the turn stops as "cancel" (CN_OK), within a
 *           chunk of prefill, a token, or a tool's next look.  Borrowed until cn_turn_free. */
cn_err cn_turn_run(cn_turn *t, const atomic_bool *cancel, cn_diag *diag) CN_MUST_CHECK;

/* Finish the turn now, as its last committed step left it. */
void cn_turn_stop_now(cn_turn *t, cn_stop stop);

typedef struct cn_turn_call {
    char          name[64];
    const char   *sampled; // the call as the model wrote it; valid until cn_turn_free
    int64_t       ns;
    cn_call_state state;
} cn_turn_call;

/* [*count_out] the documents that this turn found missing, with their reasons; valid until
 * cn_turn_free.  Of a turn that was stopped, some of them still are. */
const cn_context_miss *cn_turn_missed(const cn_turn *t, int64_t *count_out);

/* Path i of the parts that this turn dropped to keep a budget; NULL past the last. */
const char *cn_turn_dropped_at(const cn_turn *t, int64_t i, int64_t *tokens_out);

int32_t             cn_turn_number(const cn_turn *t);
const cn_bill      *cn_turn_bill(const cn_turn *t); // whole once the turn is done
cn_stop             cn_turn_stop(const cn_turn *t);
const char         *cn_turn_text(const cn_turn *t);               // the answer
const cn_turn_call *cn_turn_call_at(const cn_turn *t, int32_t i); // NULL past the last
/* Where the answer was read, as the ledger has it; whole once the turn is done. */
const cn_evidence *cn_turn_evidence(const cn_turn *t);
/* Logits that chose the last token of the turn, for tests; NULL before. */
const float *cn_turn_logits(const cn_turn *t);
void         cn_turn_free(cn_turn *t); // NULL is allowed

CN_C_END

#endif

/*
 * test_compact.c - A conversation replaced by a summary: who goes on in it, what stays of the old
 * one, what it costs, and the same bits as a session that never said more.
 */
#include "base/fault.h"
#include "sessions/compact.h"
#include "sessions/extract.h"
#include "store/ledger_int.h"
#include "tests/sessions/session_kit.h"

#include <sys/wait.h>

enum { TURNS = 5, PART_BYTES = 4000 };

/* The refs model, whose config says that it writes summaries. */
static const char *writer_model(void) {
    static char path[256];
    if (path[0]) return path;
    snprintf(path, sizeof(path), "%s/tiny-a-writes", t_tmp_dir());
    t_vary_model(path, "tests/golden/tiny-a",
                 "s/\"conversation_refs\": false/\"conversation_refs\": true, "
                 "\"conversation_summaries\": true/; s/\"index_topk\": 24/\"index_topk\": 4096/");
    return path;
}

/* A short repository: what counts here is the conversation. */
static const char *new_repo(void) {
    static k_paths made;
    const char    *path = k_new_path(&made, "small");
    char          *lines = k_lines("note", PART_BYTES), file[300];
    t_shell("mkdir -p %s && cd %s && git init -q . && cp %s/base/err.c . && git add -A && "
            "git -c user.name=t -c user.email=t@example.invalid commit -qm one",
            path, path, t_source_dir());
    snprintf(file, sizeof(file), "%s/notes.lock", path);
    FILE *f = fopen(file, "w");
    assert_true(f && fputs(lines, f) >= 0 && fclose(f) == 0);
    free(lines);
    return path;
}

static k_asked say(cn_host *h, cn_session *s, const char *question, const char *answer) {
    k_says says = {.tokens = 0};
    k_say_answer(&says, h, answer);
    return k_ask(h, s, question, &says);
}

/* A question that is longer than what an extract has of it. */
static k_asked say_long(cn_host *h, cn_session *s) {
    char         *lines = k_lines("plain", 600);
    const k_asked a = say(h, s, lines, "so it is");
    free(lines);
    return a;
}

/* Turn i from 0: a long question; a call with a long result; plain ones. */
static k_asked play(cn_host *h, cn_session *s, int i) {
    static const char *const answers[] = {"long was the question", "so it is", "in err.c it stands",
                                          "the fourth", "the fifth"};
    char                    *lines = k_lines("question", PART_BYTES), question[64];
    k_says                   says = {.tokens = 0};
    snprintf(question, sizeof(question), "number %d: what about cn_fail?", i + 1);
    if (i == 1)
        k_say_call(&says, h, "read_lines", "{\"path\":\"notes.lock\",\"start\":1,\"end\":1000}");
    if (i == 2) k_say_call(&says, h, "search", "{\"query\":\"cn_fail(\"}");
    k_say_answer(&says, h, answers[i % TURNS]);
    const k_asked a = k_ask(h, s, i == 0 ? lines : question, &says);
    free(lines);
    return a;
}

static cn_session *converse(cn_host *h, const char *repo) {
    cn_session *s = k_open_session(h, repo, false);
    for (int i = 0; i < TURNS; i++) play(h, s, i);
    return s;
}

/* ---- Compaction with a model that says what a test wants ------------------------------ */

typedef struct outcome {
    cn_err            err;
    cn_compact_report report;
    cn_bill           bill;
    char              text[1 << 14];
} outcome;

static outcome *compact(cn_host *h, cn_session *s, const cn_compact_opts *opts, k_says *says) {
    static outcome o;
    static float   want[K_VOCAB_MAX];
    cn_compact    *c;
    cn_turn_need   need;
    o = (outcome){.err = cn_compact_begin(&c, s, opts, &t_diag)};
    if (o.err) return &o;
    for (;;) {
        o.err = cn_compact_step(c, &need, &t_diag);
        if (o.err || need == CN_TURN_DONE) break;
        cn_slice     *slice = cn_compact_slice(c);
        cn_step_stats stats;
        assert_err(cn_engine_step(h->engine, slice, 1, &stats, &t_diag), CN_OK);
        if (slice->logits && says) {
            memset(want, 0, sizeof(want));
            want[says->at < says->tokens ? says->token[says->at++] : h->roles.end] = 1;
            slice->logits = want;
        }
        cn_compact_ran(c, &stats);
    }
    if (!o.err) {
        o.report = *cn_compact_get_report(c);
        o.bill = *cn_compact_bill(c);
        snprintf(o.text, sizeof(o.text), "%s", cn_compact_text(c));
        assert_err(cn_bill_check(&o.bill, &t_diag), CN_OK);
    }
    cn_compact_free(c);
    return &o;
}

static cn_tokens tokens_of(cn_host *h, const char *id) {
    cn_tokens t = {0};
    assert_err(cn_ledger_tokens(h->ledger, id, 0, k_on_tokens, &t, &t_diag), CN_OK);
    return t;
}

static void assert_tokens(const cn_tokens *a, const cn_tokens *b) {
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->token, b->token, (size_t)a->count * sizeof(*a->token));
}

static void put(const cn_host *h, cn_tokens *to, int32_t role, const char *text) {
    assert_err(cn_tokens_put(to, &role, 1), CN_OK);
    assert_err(cn_tokenizer_encode(h->tokenizer, to, text, strlen(text), CN_TOKENIZE_TEXT, &t_diag),
               CN_OK);
}

static void assert_has(const char *text, const char *part) {
    if (!strstr(text, part)) t_fail(__FILE__, __LINE__, "no \"%s\" in:\n%s", part, text);
}

/* ---- Tests ------------------------------------------------------------------------- */

static void test_an_extract_takes_the_place(void **state) {
    (void)state;
    const char *repo = new_repo(), *folder = k_new_state();
    cn_host    *h = k_open_host(k_refs_model(), folder, 2);
    cn_session *s = converse(h, repo);
    cn_tokens   old = k_conversation(h, s), want = {0};
    char        id[80], parent[80];
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    outcome *o = compact(h, s, &(cn_compact_opts){.keep_turns = 2}, NULL);
    assert_err(o->err, CN_OK);
    snprintf(parent, sizeof(parent), "%s", o->report.parent);

    // The extract: questions, answers, what was called on what.
    assert_int_equal(o->report.origin, CN_ORIGIN_EXTRACT);
    assert_string_equal(o->report.why, "the model writes no summaries");
    assert_true(
        strncmp(o->text, "Turns 1 to 3, in short.\n\nturn 1: question 1: the words of", 54) == 0);
    assert_has(o->text, "...\nanswer: long was the question\n\n");
    assert_has(o->text, "\n\nturn 2: number 2: what about cn_fail?\nanswer: so it is\n"
                        "used: read_lines notes.lock\n\n");
    assert_has(o->text, "answer: in err.c it stands\nused: search cn_fail(");
    assert_null(strstr(o->text, "the fourth"));

    // The conversation: the extract as an answer, then the last two turns as they were.
    const int64_t kept = o->report.kept_tokens;
    put(h, &want, h->roles.user, CN_COMPACT_QUESTION);
    put(h, &want, h->roles.assistant, o->text);
    assert_err(cn_tokens_put(&want, &h->roles.end, 1), CN_OK);
    assert_err(cn_tokens_put(&want, old.token + old.count - kept, kept), CN_OK);
    cn_tokens now = k_conversation(h, s);
    assert_tokens(&now, &want);
    assert_int_equal(cn_session_tokens(s), want.count);
    assert_memory_equal(cn_session_token(s), want.token, (size_t)want.count * sizeof(int32_t));
    assert_true(o->report.tokens_before == old.count && o->report.tokens_after == want.count);
    assert_true(want.count < old.count && kept > 0);
    assert_true(o->report.first_turn == 1 && o->report.last_turn == 3 && o->report.turns == 3);
    assert_true(o->report.kept_first == 4 && o->report.kept_last == 5);

    // The same id; the parent has the old conversation, to its last token.
    assert_string_equal(cn_session_row(s)->id, id);
    assert_string_equal(cn_session_row(s)->parent, parent);
    cn_tokens before = tokens_of(h, parent);
    assert_tokens(&before, &old);

    // The price: the new conversation went through the engine, nothing else; what the view holds
    // was not looked at.  The long parts of the turns that went are out of the view.
    assert_int_equal(o->bill.prompt_tokens, want.count);
    assert_int_equal(o->bill.prefilled_tokens, 0);
    assert_int_equal(o->bill.output_tokens, 0);
    assert_int_equal(o->report.dropped_refs, 2);
    assert_true(o->report.dropped_ref_tokens > 0);

    // The next turn goes on: its own tokens alone, and the logits of a session that never said
    // more.
    const k_asked a = say(h, s, "and now?", "that is all");
    assert_int_equal(a.number, 6);
    assert_int_equal(a.bill.prefilled_tokens, 0);
    assert_true(a.bill.prompt_tokens < 40);
    assert_int_equal(k_tokens_of(s, "turn-1/question.txt"), 0);
    float        logits[K_VOCAB_MAX];
    char         text[1 << 14];
    const k_file file = {"err.c", text};
    snprintf(text, sizeof(text), "%s/err.c", repo);
    FILE *f = fopen(text, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = 0;
    fclose(f);
    cn_tokens all = k_conversation(h, s);
    k_fresh_logits(h, &file, 1, &all, logits);
    assert_memory_equal(logits, a.logits, sizeof(logits));

    // -c goes on in it from another process's host, with nothing to replay.
    cn_session_close(s);
    cn_host_close(h);
    h = k_open_host(k_refs_model(), folder, 1);
    s = k_open_session(h, repo, true);
    assert_string_equal(cn_session_row(s)->id, id);
    const k_asked b = say(h, s, "and then?", "that is all");
    assert_int_equal(b.number, 7);
    assert_true(b.bill.prompt_tokens < 40 && b.bill.prefilled_tokens == 0);
    cn_session_close(s);

    // The old one goes on too, with its long parts.
    s = k_open(h, &(cn_session_opts){.id = parent});
    const k_asked c = say(h, s, "back then?", "as it was");
    assert_int_equal(c.number, 6);
    assert_true(c.bill.prompt_tokens < 40 && c.bill.prefilled_tokens == 0);
    assert_true(k_tokens_of(s, "turn-1/question.txt") > 0);
    assert_true(k_tokens_of(s, "turn-2/result-1.txt") > 0);
    cn_session_close(s);
    cn_host_close(h);
    cn_tokens_release(&old), cn_tokens_release(&want), cn_tokens_release(&now);
    cn_tokens_release(&before), cn_tokens_release(&all);
}

static void sum_bill(void *ctx, const cn_ledger_cost *c) {
    cn_bill_add(ctx, &c->bill);
}

static cn_bill sum_of(cn_host *h) {
    cn_bill sum = {0};
    assert_err(cn_ledger_costs(h->ledger, CN_COST_SESSION, NULL, sum_bill, &sum, &t_diag), CN_OK);
    return sum;
}

/* What the model wrote is the answer; that it wrote is on the bill. */
static void test_a_summary_takes_the_place(void **state) {
    (void)state;
    const char *repo = new_repo(), *folder = k_new_state();
    cn_host    *h = k_open_host(writer_model(), folder, 2);
    cn_session *s = converse(h, repo);
    k_says      says = {.tokens = 0};
    cn_bill     bill = sum_of(h);
    cn_tokens   old = k_conversation(h, s);
    k_say_answer(&says, h, "  They spoke of cn_fail; it stands in err.c.\n");
    outcome *o = compact(h, s, &(cn_compact_opts){.keep_turns = 1}, &says);
    assert_err(o->err, CN_OK);
    assert_int_equal(o->report.origin, CN_ORIGIN_SUMMARY);
    assert_null(o->report.why);
    assert_string_equal(o->text, "  They spoke of cn_fail; it stands in err.c.");
    assert_int_equal(o->bill.output_tokens, says.tokens);
    assert_true(o->bill.decode_ns > 0 && o->bill.route_ns > 0);
    // Nothing to replay: the request, then the new conversation.
    assert_true(o->bill.prompt_tokens > o->report.tokens_after &&
                o->bill.prompt_tokens < o->report.tokens_after + 250);
    assert_int_equal(o->bill.prefilled_tokens, 0);
    cn_bill_add(&bill, &o->bill);
    const cn_bill sum = sum_of(h);
    assert_int_equal(sum.output_tokens, bill.output_tokens);
    assert_int_equal(sum.prompt_tokens, bill.prompt_tokens);
    assert_int_equal(sum.wall_ns, bill.wall_ns);
    // Its cost is in the session's own turn.
    cn_tokens before = tokens_of(h, o->report.parent);
    assert_tokens(&before, &old); // no trace of the request
    // Its pages were stored with it: another process replays nothing.
    cn_session_close(s);
    cn_host_close(h);
    h = k_open_host(writer_model(), folder, 1);
    s = k_open_session(h, repo, true);
    const k_asked a = say(h, s, "and now?", "that is all");
    assert_true(a.bill.prompt_tokens < 40);
    cn_tokens_release(&old), cn_tokens_release(&before);
    cn_session_close(s);
    cn_host_close(h);
}

static void test_what_is_no_summary_is_not_taken(void **state) {
    (void)state;
    enum { BAD = 6 };
    static const char *const why[BAD] = {
        "the model's summary was empty",    "the model's summary was empty",
        "the model's summary was too long", "the model called a tool instead of a summary",
        "the model wrote no text",          "the model's summary had no word of what was said"};
    cn_host    *h = k_open_host(writer_model(), k_new_state(), 2);
    const char *repo = new_repo();
    for (int i = 0; i < BAD; i++) {
        cn_session *s = k_open_session(h, repo, false);
        k_says      says = {.tokens = 0};
        for (int t = 1; t < TURNS; t++) play(h, s, t);
        if (i == 1) k_say_answer(&says, h, " \n\n ");
        if (i == 2)
            for (int t = 0; t < CN_COMPACT_SUMMARY_TOKENS / 4; t++)
                k_say_text(&says, h, "cn_fail and ");
        if (i == 3) k_say_call(&says, h, "search", "{\"query\":\"cn_fail\"}");
        if (i == 4) k_say_answer(&says, h, "cn_fail \x01 what");
        if (i == 5) k_say_answer(&says, h, "I am sorry, but I cannot help with this request.");
        t_note("%s", why[i]);
        outcome *o = compact(h, s, &(cn_compact_opts){.keep_turns = 1}, &says);
        assert_err(o->err, CN_OK);
        assert_int_equal(o->report.origin, CN_ORIGIN_EXTRACT);
        assert_string_equal(o->report.why, why[i]);
        assert_has(o->text, "Turns 1 to 3, in short.\n\nturn 1: number 2: what about cn_fail?");
        assert_true(o->bill.output_tokens > 0); // paid all the same
        assert_true(o->bill.output_tokens <= CN_COMPACT_SUMMARY_TOKENS);
        cn_session_close(s);
    }
    // Asked for by hand: the model is not asked.
    cn_session *s = converse(h, repo);
    outcome    *o = compact(h, s, &(cn_compact_opts){.is_extract = true}, NULL);
    assert_err(o->err, CN_OK);
    assert_int_equal(o->bill.output_tokens, 0);
    assert_string_equal(o->report.why, "an extract was asked for");
    cn_session_close(s);
    cn_host_close(h);
}

/* Long parts of turns that stay do so, under their names, for nothing; what was said by hand of
 * others is forgotten. */
static void test_long_parts_stay_with_their_turns(void **state) {
    (void)state;
    const char *repo = new_repo();
    cn_host    *h = k_open_host(k_refs_model(), k_new_state(), 2);
    cn_session *s = k_open_session(h, repo, false);
    play(h, s, 2);
    play(h, s, 0); // turn 2: a long question
    play(h, s, 3);
    play(h, s, 1); // turn 4: a long result
    play(h, s, 4);
    const int64_t question = k_tokens_of(s, "turn-2/question.txt"),
                  result = k_tokens_of(s, "turn-4/result-1.txt");
    assert_true(question > 0 && result > 0);
    const char *first = "turn-2/question.txt";
    assert_err(cn_session_edit(s, CN_EDIT_ADD, &first, 1, &t_diag), CN_OK);
    outcome *o = compact(h, s, &(cn_compact_opts){.keep_turns = 2}, NULL);
    assert_err(o->err, CN_OK);
    assert_int_equal(o->report.dropped_refs, 1);
    assert_int_equal(o->report.dropped_ref_tokens, question);
    assert_null(strstr(cn_session_row(s)->settings, first));
    const k_asked a = say(h, s, "and now?", "that is all");
    assert_int_equal(a.bill.prefilled_tokens, 0);
    assert_int_equal(k_tokens_of(s, "turn-4/result-1.txt"), result);
    assert_int_equal(k_tokens_of(s, first), 0);

    // Taken back to the summary alone, and to nothing.
    assert_err(cn_session_rewind(s, 3, &t_diag), CN_OK);
    assert_int_equal(cn_session_tokens(s), o->report.tokens_after - o->report.kept_tokens);
    assert_err(cn_session_rewind(s, 2, &t_diag), CN_ENOTFOUND);
    assert_err(cn_session_rewind(s, 0, &t_diag), CN_OK);
    assert_int_equal(cn_session_tokens(s), 0);
    cn_session_close(s);
    cn_host_close(h);
}

/* Again and again: what an extract says goes on in the next one. */
static void test_extracts_of_extracts(void **state) {
    (void)state;
    const char *repo = new_repo();
    cn_host    *h = k_open_host(k_refs_model(), k_new_state(), 2);
    cn_session *s = converse(h, repo);
    outcome    *o = compact(h, s, &(cn_compact_opts){.keep_turns = 1}, NULL);
    assert_err(o->err, CN_OK);
    play(h, s, 3), say_long(h, s), play(h, s, 3);
    o = compact(h, s, &(cn_compact_opts){.keep_turns = 1}, NULL);
    assert_err(o->err, CN_OK);
    assert_true(o->report.first_turn == 1 && o->report.last_turn == 7);
    assert_true(strncmp(o->text, "Turns 1 to 7, in short", 22) == 0);
    assert_has(o->text, "turn 4: number 4: what about cn_fail?");     // of the first extract
    assert_has(o->text, "\n\nturn 5: number 5: what about cn_fail?"); // kept by it
    assert_has(o->text, "\n\nturn 7: plain 1: the words of");         // asked after it
    assert_null(strstr(o->text, "turn 8"));
    assert_null(strstr(o->text, CN_COMPACT_QUESTION));

    // Nothing more to replace: said, and nothing changes.
    const int64_t tokens = cn_session_tokens(s);
    assert_err(compact(h, s, &(cn_compact_opts){.keep_turns = 1}, NULL)->err, CN_EINVAL);
    assert_has(t_diag.text, "nothing to compact");
    assert_int_equal(cn_session_tokens(s), tokens);
    cn_session_close(s);

    // Two short turns: longer than before, so it is not done.
    s = k_open_session(h, repo, false);
    assert_err(compact(h, s, &(cn_compact_opts){.keep_turns = 1}, NULL)->err, CN_EINVAL);
    say(h, s, "a?", "b"), say(h, s, "c?", "d");
    assert_err(compact(h, s, &(cn_compact_opts){.keep_turns = 1}, NULL)->err, CN_EINVAL);
    assert_has(t_diag.text, "would have");
    const k_asked a = say(h, s, "e?", "f");
    assert_int_equal(a.number, 3);
    assert_true(a.bill.prompt_tokens < 10); // nothing was lost of the conversation's document
    cn_session_close(s);
    cn_host_close(h);
}

/* The extract keeps to its size: the oldest turns go, and it says so. */
static void test_an_extract_has_a_size(void **state) {
    (void)state;
    cn_host    *h = k_open_host(k_plain_model(), k_new_state(), 2);
    cn_session *s = k_open_session(h, new_repo(), false);
    enum { MANY = 30 };
    for (int i = 0; i < MANY; i++) play(h, s, 3);
    cn_extract x;
    cn_buf     text = {0};
    assert_err(cn_extract_load(&x, h->ledger, cn_session_row(s)->id, &t_diag), CN_OK);
    assert_int_equal(x.turns, MANY);
    for (int64_t room = 100; room < 3000; room += 400) {
        cn_tokens t = {0};
        cn_buf_reset(&text);
        assert_err(cn_extract_put(&x, MANY, h->tokenizer, room, &text, &t_diag), CN_OK);
        assert_err(
            cn_tokenizer_encode(h->tokenizer, &t, text.data, text.bytes, CN_TOKENIZE_TEXT, &t_diag),
            CN_OK);
        t_note("room %d: %d tokens\n%s", (int)room, (int)t.count, text.data);
        assert_true(t.count <= room + 40);
        assert_true(room < 500 || t.count > room / 2);
        cn_tokens_release(&t);
        if (room > 500 && room < 2000) {
            assert_has(text.data, "turn 30: number 4"); // the newest
            assert_has(text.data, "of them are left out");
            assert_null(strstr(text.data, "turn 1: "));
        }
    }
    cn_buf_release(&text);
    cn_extract_release(&x);
    cn_session_close(s);
    cn_host_close(h);
}

/* ---- On its own ---------------------------------------------------------------------- */

static bool is_due(cn_session *s, size_t question_bytes, int32_t output) {
    bool due;
    assert_err(cn_compact_is_due(s, question_bytes, output, &due, &t_diag), CN_OK);
    return due;
}

static void test_near_the_limit_it_is_due(void **state) {
    (void)state;
    enum { VIEW = 6000, OUTPUT = 100 };
    const char *repo = new_repo(), *folder = k_new_state();
    cn_host    *h;
    assert_err(cn_host_open(&h,
                            &(cn_host_opts){.model_folder = k_plain_model(),
                                            .state_folder = folder,
                                            .isa = k_isa,
                                            .threads = 2,
                                            .cache_bytes = 64 << 20,
                                            .view_tokens = VIEW},
                            &t_diag),
               CN_OK);
    cn_session *s = k_open_session(h, repo, false);
    play(h, s, 3);
    const int64_t files = cn_context_get_plan(cn_session_context(s))->file_tokens;
    const int64_t room = VIEW - files;
    assert_true(room > 3000);
    int turns = 1;
    for (; !is_due(s, 30, OUTPUT); turns++) {
        assert_true((cn_session_tokens(s) + 10 + OUTPUT) * 100 <= room * CN_COMPACT_AT_PERCENT);
        say_long(h, s);
    }
    assert_true((cn_session_tokens(s) + 10 + OUTPUT) * 100 > room * CN_COMPACT_AT_PERCENT);
    assert_true(is_due(s, 30, OUTPUT)); // asking changes nothing

    // Switched off for this session: kept by the next process.
    assert_err(cn_session_set_compaction(s, false, &t_diag), CN_OK);
    assert_false(is_due(s, 30, OUTPUT));
    cn_session_close(s);
    s = k_open_session(h, repo, true);
    assert_false(cn_session_is_compacted_on_its_own(s));
    assert_false(is_due(s, 30, OUTPUT));
    assert_err(cn_session_set_compaction(s, true, &t_diag), CN_OK);
    assert_true(is_due(s, 30, OUTPUT));

    // Done, it is not due for a good while: both parts keep to a quarter of the room.
    outcome *o = compact(h, s, &(cn_compact_opts){.keep_turns = 99}, NULL);
    assert_err(o->err, CN_OK);
    assert_true(o->report.kept_tokens > 0 && o->report.kept_tokens <= room / 4);
    assert_true(o->report.tokens_after <= room / 2 + 64);
    assert_false(is_due(s, 30, OUTPUT));
    const k_asked a = say(h, s, "and now?", "that is all");
    assert_int_equal(a.number, turns + 1);
    assert_true(cn_session_is_compacted_on_its_own(s));
    cn_session_close(s);
    cn_host_close(h);
}

/* ---- Failures ------------------------------------------------------------------------ */

/* The state that each run begins with, and one run's copy of it. */
static void converse_in(const char *folder, const char *repo) {
    cn_host *h = k_open_host(writer_model(), folder, 1);
    cn_session_close(converse(h, repo));
    cn_host_close(h);
}

static const char *copy_of(const char *folder) {
    static k_paths made;
    const char    *copy = k_new_path(&made, "copy");
    t_shell("cp -r --sparse=always %s %s", folder, copy);
    return copy;
}

typedef struct broken {
    cn_host    *h;
    cn_session *s;
    cn_tokens   old;
    bool        hit, is_there; // whether the point was reached; whether it failed and is there
} broken;

/* The n-th point fails, once: the session goes on in whichever conversation the ledger then has,
 * whole, and writes that one.  Whether the compaction failed; after it the session is as before. */
static bool fails_at(broken *b, int n) {
    cn_fault_arm(CN_FAULT_ONCE, n);
    const cn_err err =
        compact(b->h, b->s, &(cn_compact_opts){.keep_turns = 1, .is_extract = true}, NULL)->err;
    b->hit = cn_fault_was_hit();
    t_note("point %d, %s: %s", n, cn_fault_last_point(), cn_err_name(err));
    cn_fault_arm(CN_FAULT_OFF, 1);
    assert_err(cn_session_set_compaction(b->s, true, &t_diag), CN_OK); // reads what there is
    const bool is_compact = cn_session_row(b->s)->parent[0] != 0;
    b->is_there = err && is_compact;
    assert_true(err || is_compact);
    if (!is_compact) {
        cn_tokens now = k_conversation(b->h, b->s);
        assert_tokens(&now, &b->old);
        assert_int_equal(cn_session_tokens(b->s), b->old.count);
        cn_tokens_release(&now);
        return true;
    }
    // It is there: a turn of its own, and none for the parent.
    cn_ledger_session *again;
    char               parent[80], sql[160];
    snprintf(parent, sizeof(parent), "%s", cn_session_row(b->s)->parent);
    assert_int_equal(say(b->h, b->s, "and now?", "that is all").number, 6);
    assert_true(cn_session_tokens(b->s) < b->old.count);
    cn_tokens before = tokens_of(b->h, parent);
    assert_tokens(&before, &b->old);
    cn_tokens_release(&before);
    cn_session_close(b->s);
    // On with a fork of the old one that looks like it: no parent, all turns.
    assert_err(cn_ledger_session_fork(b->h->ledger, parent, 5, NULL, &again, &t_diag), CN_OK);
    snprintf(sql, sizeof(sql), "UPDATE sessions SET parent = NULL WHERE id = '%s'", again->id);
    assert_int_equal(sqlite3_exec(b->h->ledger->db, sql, NULL, NULL, NULL), SQLITE_OK);
    b->s = k_open(b->h, &(cn_session_opts){.id = again->id});
    cn_ledger_session_free(again);
    return err != CN_OK;
}

/* Points all over, and the last one that fails a compaction: a disk that had written all of it. */
static void test_a_failing_disk(void **state) {
    (void)state;
    const char *repo = new_repo(), *folder = k_new_state();
    const int   step = t_is_sanitized() ? 31 : 9; // the long form tries each point
    int         failed = 0, last = 0, end = 1;
    converse_in(folder, repo);
    broken b = {.h = k_open_host(writer_model(), folder, 1), .hit = true};
    b.s = k_open_session(b.h, repo, true);
    b.old = k_conversation(b.h, b.s);
    for (; b.hit; end += step)
        if (fails_at(&b, end)) failed++, last = end;
    end -= step;
    while (end - last > 1) {
        const int middle = (last + end) / 2;
        *(fails_at(&b, middle) ? &last : &end) = middle;
    }
    assert_true(fails_at(&b, last));
    assert_true(b.is_there);
    assert_true(failed > 5);
    cn_tokens_release(&b.old);
    cn_session_close(b.s);
    cn_host_close(b.h);
}

static void list_ids(void *ctx, const cn_ledger_session *s) {
    cn_buf_printf(ctx, "%s of %s, head %d\n", s->id, s->parent, s->head);
}

/* The process dies at each point: the old conversation is intact, or the new one is there whole and
 * the old one is its parent. */
static void test_a_crash_in_the_middle(void **state) {
    (void)state;
    const char *repo = new_repo(), *folder = k_new_state();
    converse_in(folder, repo);
    cn_host    *h = k_open_host(writer_model(), folder, 1);
    cn_session *s = k_open_session(h, repo, true);
    cn_tokens   old = k_conversation(h, s);
    char        id[80];
    snprintf(id, sizeof(id), "%s", cn_session_row(s)->id);
    cn_session_close(s);
    cn_host_close(h);
    int before = 0, after = 0;
    for (int n = 1, ended = 0; !ended; n += t_is_sanitized() ? 41 : 17) {
        const char *copy = copy_of(folder);
        fflush(NULL);
        const pid_t pid = fork();
        if (pid == 0) {
            k_says says = {.tokens = 0};
            h = k_open_host(writer_model(), copy, 1);
            s = k_open_session(h, repo, true);
            k_say_answer(&says, h, "They spoke of cn_fail.");
            cn_fault_arm(CN_FAULT_CRASH, n);
            const bool ok = !compact(h, s, &(cn_compact_opts){.keep_turns = 1}, &says)->err;
            cn_fault_arm(CN_FAULT_OFF, 1);
            cn_session_close(s);
            cn_host_close(h);
            _exit(!ok);
        }
        int status;
        waitpid(pid, &status, 0);
        t_note("crash at point %d", n);
        ended = WIFEXITED(status);
        if (ended) assert_int_equal(WEXITSTATUS(status), 0);
        h = k_open_host(writer_model(), copy, 1);
        cn_buf ids = {0};
        assert_err(cn_ledger_sessions(h->ledger, NULL, 9, list_ids, &ids, &t_diag), CN_OK);
        s = k_open_session(h, repo, true);
        t_note("crash at point %d: %s", n, ids.data);
        assert_null(cn_session_interrupted(s));
        assert_string_equal(cn_session_row(s)->id, id);
        const bool is_compact = cn_session_row(s)->parent[0] != 0;
        cn_tokens  whole =
            is_compact ? tokens_of(h, cn_session_row(s)->parent) : k_conversation(h, s);
        assert_tokens(&whole, &old);
        assert_true(ended <= is_compact);
        before += !is_compact, after += is_compact;
        const k_asked a = say(h, s, "and now?", "that is all");
        assert_int_equal(a.number, 6);
        assert_int_equal(a.bill.prefilled_tokens, 0);
        cn_tokens_release(&whole);
        cn_buf_release(&ids);
        cn_session_close(s);
        cn_host_close(h);
        t_shell("rm -rf %s", copy);
    }
    assert_true(before > 3 && after > 0);
    cn_tokens_release(&old);
}

/* Stopped while the model writes: as if nobody had asked. */
static void test_a_cancel_changes_nothing(void **state) {
    (void)state;
    cn_host    *h = k_open_host(writer_model(), k_new_state(), 1);
    cn_session *s = converse(h, new_repo());
    cn_tokens   old = k_conversation(h, s);
    cn_compact *c;
    atomic_bool stop = true;
    assert_err(cn_compact_begin(&c, s, &(cn_compact_opts){0}, &t_diag), CN_OK);
    assert_err(cn_compact_run(c, &stop, &t_diag), CN_ECANCELLED);
    cn_compact_free(c);
    // In the middle of its prompt, which its document holds by then.
    cn_turn_need  need;
    cn_step_stats stats;
    assert_err(cn_compact_begin(&c, s, &(cn_compact_opts){0}, &t_diag), CN_OK);
    assert_err(cn_compact_step(c, &need, &t_diag), CN_OK);
    assert_err(cn_engine_step(h->engine, cn_compact_slice(c), 1, &stats, &t_diag), CN_OK);
    cn_compact_ran(c, &stats);
    cn_compact_free(c);
    cn_tokens now = k_conversation(h, s);
    assert_tokens(&now, &old);
    const k_asked a = say(h, s, "and now?", "that is all");
    assert_int_equal(a.number, 6);
    assert_true(a.bill.prompt_tokens < 40); // restored from the store, not replayed
    cn_tokens_release(&now), cn_tokens_release(&old);
    cn_session_close(s);
    cn_host_close(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_extract_takes_the_place),
        cmocka_unit_test(test_a_summary_takes_the_place),
        cmocka_unit_test(test_what_is_no_summary_is_not_taken),
        cmocka_unit_test(test_long_parts_stay_with_their_turns),
        cmocka_unit_test(test_extracts_of_extracts),
        cmocka_unit_test(test_an_extract_has_a_size),
        cmocka_unit_test(test_near_the_limit_it_is_due),
        cmocka_unit_test(test_a_failing_disk),
        cmocka_unit_test(test_a_crash_in_the_middle),
        cmocka_unit_test(test_a_cancel_changes_nothing),
    };
    k_isa = t_isa();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

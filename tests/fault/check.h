/*
 * check.h - What must hold of a session behind a death, against one that nobody disturbed.
 */
#ifndef CN_TESTS_FAULT_CHECK_H
#define CN_TESTS_FAULT_CHECK_H

#include "tests/fault/actor.h"

/* ---- What nobody disturbed ----------------------------------------------------------- */

typedef struct reference {
    stage    stage;        // where the acts were played
    stage    before[ACTS]; // as act i finds it
    uint64_t hash[ACTS];
    cn_buf   text[ACTS];
} reference;

/* Each act in a process of its own: what it says, and the state that it found. */
static inline void make_reference(reference *r, bool has_refs) {
    *r = (reference){.stage = new_stage(has_refs)};
    new_home(&r->stage);
    told whole = {.done = ACTS - 1};
    if (!has_refs) whole = run(&r->stage, &(life){.first = 0, .last = ACTS - 1});
    assert_int_equal(whole.done, ACTS - 1);
    write_version(&r->stage, 1);
    new_home(&r->stage);
    for (int i = 0; i < ACTS; i++) {
        r->before[i] = r->stage;
        new_home(&r->before[i]);
        copy_home(&r->stage, &r->before[i]);
        const told t = run(&r->stage, &(life){.first = i, .last = i});
        t_note("act %d alone in a process", i);
        assert_int_equal(t.done, i);
        assert_int_equal(t.interrupted[0], 0);
        assert_true(t.hash[i] != 0 && (has_refs || t.hash[i] == whole.hash[i]));
        r->hash[i] = t.hash[i];
        cn_host    *h = open_stage(&r->stage);
        cn_session *s = find_session(h, &r->stage);
        talk        k = talk_of(h->ledger, cn_session_row(s)->id);
        assert_true(is_line(&k, k.turns, i));
        r->text[i] = k.text[k.turns - 1];
        k.turns--; // its text is kept
        talk_release(&k);
        cn_session_close(s);
        cn_host_close(h);
    }
}

static inline void release_reference(reference *r) {
    for (int i = 0; i < ACTS; i++) cn_buf_release(&r->text[i]);
}

/* ---- What must hold ------------------------------------------------------------------ */

static struct {
    long    deaths, kills, turns, twins, interrupted, phase[PHASES];
    int64_t began_ns;
} figures;

/* All of a key's values are whole.  A page of a conversation may have any number. */
static inline bool check_key(void *ctx, const cn_pages_entry *e) {
    enum { NUMBERS = 256 };
    cn_pages_txn *t = ctx;
    cn_pages_page page;
    cn_pages_doc  doc;
    int64_t       pages = 0;
    for (int32_t n = 0; n < NUMBERS && pages < e->pages; n++) {
        const cn_pages_state state = cn_pages_get(t, e->key, n, &page);
        assert_true(state != CN_PAGES_CORRUPT);
        pages += state == CN_PAGES_HIT;
    }
    assert_int_equal(pages, e->pages);
    if (e->has_doc) assert_true(cn_pages_get_doc(t, e->key, &doc) == CN_PAGES_HIT);
    return true;
}

static inline void check_stores(cn_host *h, bool is_needed) {
    cn_pages_txn  *t;
    cn_pages_stats stats;
    assert_true(!h->cache_was_rebuilt || !is_needed); // it may have died while it made one
    assert_err(cn_ledger_verify(h->ledger, &t_diag), CN_OK);
    assert_err(cn_pages_begin(&t, h->pages, &t_diag), CN_OK);
    assert_err(cn_pages_each(t, check_key, t, &t_diag), CN_OK);
    cn_pages_end(t);
    assert_err(cn_pages_stat(h->pages, &stats, &t_diag), CN_OK);
    assert_int_equal(stats.corrupt, 0);
}

typedef struct note_calls {
    int64_t calls, done, lost;
} note_calls;

static inline void on_tool(void *ctx, const cn_ledger_cost *c) {
    note_calls *n = ctx;
    if (strcmp(c->tool, "note") != 0) return;
    *n = (note_calls){c->calls, c->calls - c->failed - c->interrupted, c->interrupted};
}

/* Each call is on record before the tool runs, and runs once at most. */
static inline void check_notes(cn_host *h, int begun, int ended) {
    note_calls n = {0};
    assert_err(cn_ledger_costs(h->ledger, CN_COST_TOOL, NULL, on_tool, &n, &t_diag), CN_OK);
    if (ended < n.done || begun > n.done + n.lost || begun < ended)
        t_fail(__FILE__, __LINE__, "%lld calls, %lld done: the tool began %d times, ended %d",
               (long long)n.calls, (long long)n.done, begun, ended);
}

/* What was committed of a turn that was interrupted is there whole, and as it would have been: its
 * steps with their tokens, a call with the step that made it, a result with the step behind it. */
static inline void check_part(const cn_buf *part, const cn_buf *whole) {
    char        line[8192], call[64];
    const char *at = cn_buf_str((cn_buf *)(uintptr_t)part), *text = at;
    int         step, kind;
    next_line(&at, line); // how it stopped
    while (next_line(&at, line)) {
        if (strncmp(line, "step ", 5) != 0 && strncmp(line, "tokens ", 7) != 0) continue;
        if (!has_line(whole, line))
            t_fail(__FILE__, __LINE__, "no step of the whole turn: %.200s", line);
        if (sscanf(line, "step %d kind %d", &step, &kind) != 2) continue;
        snprintf(call, sizeof(call), "\ntokens %d:", step);
        assert_non_null(strstr(text, call));
        if (kind == CN_STEP_GENERATION && strstr(line, " tool, ")) {
            snprintf(call, sizeof(call), "\ncall %d.0 ", step);
            assert_non_null(strstr(text, call));
        } else if (kind == CN_STEP_TOOL) {
            snprintf(call, sizeof(call), "\ncall %d.0 ", step - 1);
            const char *of = strstr(text, call);
            assert_non_null(of);
            snprintf(line, sizeof(line), "%.*s", (int)strcspn(of + 1, "\n"), of + 1);
            assert_true(has_line(whole, line)); // its state too
        }
    }
}

/* Every finished turn is that of the reference; an act that was reported is there. */
static inline void check_talk(const talk *t, const reference *r, int reported) {
    const int  n = finished_of(t);
    const int  next = reported + 1;
    const bool is_sound = is_line(t, n, reported) || (next < ACTS && is_line(t, n, next)) ||
                          (next < ACTS && is_line(t, n, acts[next].behind));
    if (!is_sound) t_fail(__FILE__, __LINE__, "%d turns are not those behind act %d", n, reported);
    for (int i = 0; i < n; i++) {
        const cn_buf *want = &r->text[t->act[i]], *got = &t->text[i];
        if (want->bytes != got->bytes || memcmp(want->data, got->data, got->bytes) != 0)
            t_fail(__FILE__, __LINE__, "act %d has changed:\n%.400s\nwas\n%.400s", t->act[i],
                   got->data, want->data);
    }
    if (n < t->turns) {
        assert_true(t->act[n] == next);
        check_part(&t->text[n], &r->text[next]);
    }
    figures.turns += n;
}

/* After a death, with acts up to `reported` reported as done.  Then act `again` is played, if it
 * is not -1. */
static inline void check_state(const stage *st, const reference *r, int reported, int again) {
    cn_host           *h = open_stage(st);
    cn_ledger_session *row = NULL;
    int32_t            open_turn = 0;
    char               want[160] = "";
    check_stores(h, reported >= 0);
    const cn_err err = cn_ledger_session_latest(h->ledger, NULL, &row, &t_diag);
    if (err == CN_OK) open_turn = row->open_turn;
    cn_ledger_session_free(row);
    if (err != CN_OK) assert_true(err == CN_ENOTFOUND && reported < 0);
    if (err == CN_OK || again >= 0) {
        cn_session *s = find_session(h, st);
        const char *said = cn_session_interrupted(s);
        if (open_turn) snprintf(want, sizeof(want), "turn %d was interrupted", open_turn);
        if (!open_turn != !said || (said && strncmp(said, want, strlen(want)) != 0))
            t_fail(__FILE__, __LINE__, "turn %d is open, said is \"%s\"", open_turn, said);
        figures.interrupted += said != NULL;
        talk t = talk_of(h->ledger, cn_session_row(s)->id);
        check_talk(&t, r, reported);
        talk_release(&t);
        check_notes(h, notes_of(st, "begin\n"), notes_of(st, "end\n"));
        if (again >= 0) {
            const uint64_t hash = play(h, &s, st, again);
            assert_true(hash == 0 || hash == r->hash[again]);
            t = talk_of(h->ledger, cn_session_row(s)->id);
            assert_true(finished_of(&t) == t.turns && is_line(&t, t.turns, again));
            check_talk(&t, r, again);
            talk_release(&t);
            check_notes(h, notes_of(st, "begin\n"), notes_of(st, "end\n"));
        }
        cn_session_close(s);
    }
    cn_host_close(h);
}

#endif

/* compaction.c - Run a compaction, and say what it did. */
#include "runtime/compaction.h"

#include "runtime/signals.h"

cn_err cn_compaction_run(cn_compact **out, cn_session *s, const cn_compact_opts *opts,
                         cn_diag *diag) {
    cn_compact *c;
    *out = NULL;
    CN_TRY(cn_compact_begin(&c, s, opts, diag));
    const cn_err err = cn_compact_run(c, cn_signals_cancel(), diag);
    if (err) {
        cn_compact_free(c);
        return err;
    }
    *out = c;
    return CN_OK;
}

cn_err cn_compaction_run_if_due(cn_compact **out, cn_session *s, size_t question_bytes,
                                int32_t output_tokens_max, cn_diag *diag) {
    bool due;
    *out = NULL;
    CN_TRY(cn_compact_is_due(s, question_bytes, output_tokens_max, &due, diag));
    if (!due) return CN_OK;
    const cn_err err = cn_compaction_run(out, s, &(cn_compact_opts){0}, diag);
    return err == CN_EINVAL ? CN_OK : err; // nothing to gain: the turn is asked as it is
}

static const char *plural(int64_t n) {
    return n == 1 ? "" : "s";
}

void cn_compaction_print(FILE *to, const cn_compact *c) {
    const cn_compact_report *r = cn_compact_get_report(c);
    const cn_bill           *b = cn_compact_bill(c);
    if (r->first_turn < r->last_turn)
        fprintf(to, "compacted: turns %d to %d are now ", r->first_turn, r->last_turn);
    else
        fprintf(to, "compacted: turn %d is now ", r->last_turn);
    if (r->why)
        fprintf(to, "an extract (%s)", r->why);
    else
        fputs("a summary by the model", to);
    if (r->kept_turns == 1)
        fprintf(to, "; turn %d is as it was\n", r->kept_last);
    else if (r->kept_turns)
        fprintf(to, "; turns %d to %d are as they were\n", r->kept_first, r->kept_last);
    else
        fputs("; no turn is as it was\n", to);
    fprintf(to, "conversation %s tok, it had %s; %s tok as they were",
            cn_cli_count(r->tokens_after), cn_cli_count(r->tokens_before),
            cn_cli_count(r->kept_tokens));
    if (r->dropped_refs)
        fprintf(to, "; %s long part%s (%s tok) left the view", cn_cli_count(r->dropped_refs),
                plural(r->dropped_refs), cn_cli_count(r->dropped_ref_tokens));
    fprintf(to, "\nthe old conversation is session %s\n", r->parent);
    fprintf(to, "compaction · %.2f s · prompt %s tok, prefill %.0f ms · decode %s tok\n",
            (double)b->wall_ns / 1e9, cn_cli_count(b->prompt_tokens), (double)b->prefill_ns / 1e6,
            cn_cli_count(b->output_tokens));
}

void cn_compaction_put_json(cn_json_writer *w, const cn_compact *c) {
    const cn_compact_report *r = cn_compact_get_report(c);
    cn_json_open(w, '{');
    cn_json_field_string(w, "parent", r->parent);
    cn_json_field_string(w, "how", cn_origin_name(r->origin));
    cn_json_field_string(w, "why", r->why);
    cn_json_field_string(w, "text", cn_compact_text(c));
    cn_json_field_int64(w, "first_turn", r->first_turn);
    cn_json_field_int64(w, "last_turn", r->last_turn);
    cn_json_field_int64(w, "kept_turns", r->kept_turns);
    cn_json_field_int64(w, "tokens_before", r->tokens_before);
    cn_json_field_int64(w, "tokens_after", r->tokens_after);
    cn_json_field_int64(w, "kept_tokens", r->kept_tokens);
    cn_json_field_int64(w, "dropped_refs", r->dropped_refs);
    cn_json_field_int64(w, "dropped_ref_tokens", r->dropped_ref_tokens);
    cn_json_put_key(w, "bill");
    cn_bill_put_json(w, cn_compact_bill(c));
    cn_json_close(w, '}');
}

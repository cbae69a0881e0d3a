/* session_pin.c - A view that stays as it was: its texts go to the ledger and come from there. */
#include "sessions/session_int.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const cn_ledger_pin *cn_session_pin(const cn_session *s) {
    return s->is_pinned ? &s->pin : NULL;
}

typedef struct loading {
    cn_context *context;
    cn_diag    *diag;
    cn_err      err;
} loading;

static void on_pinned(void *ctx, const cn_ledger_pinned *file) {
    loading *l = ctx;
    if (!l->err) l->err = cn_context_put_pinned(l->context, file->path, file->text, l->diag);
}

cn_err cn_session_load_pin(cn_session *s, cn_diag *diag) {
    loading      l = {s->context, diag, CN_OK};
    const cn_err err = cn_ledger_pin_get(s->host->ledger, s->row->id, &s->pin, on_pinned, &l, diag);
    if (err == CN_ENOTFOUND) return CN_OK;
    if (err || l.err) return err ? err : l.err;
    cn_context_pin(s->context);
    s->is_pinned = true;
    return CN_OK;
}

/* What the view's files were behind the last turn; of a session without one, what they are. */
static cn_err collect(cn_session *s, cn_ledger_pinned *file, int64_t *files, cn_diag *diag) {
    const char *path;
    for (int64_t i = 0; (path = cn_context_kept_at(s->context, i)); i++) {
        cn_buf       text = {0};
        const cn_err err = cn_context_recall(s->context, path, &text, diag);
        file[*files] = (cn_ledger_pinned){path, {text.data, text.bytes}};
        if (err) {
            cn_buf_release(&text);
            return err;
        }
        ++*files;
    }
    return CN_OK;
}

static cn_err pin(cn_session *s, cn_diag *diag) {
    // Up to date: what did not change is read from the folder; and a new session has a view.
    CN_TRY(cn_context_update(s->context, diag));
    if (s->row->generation == 0) CN_TRY(cn_session_keep_view(s, diag));
    int64_t files = 0;
    while (cn_context_kept_at(s->context, files)) files++;
    cn_ledger_pinned *file = calloc((size_t)files + 1, sizeof(*file));
    if (!file) return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " files", files);
    files = 0;
    cn_err err = collect(s, file, &files, diag);
    if (!err) err = cn_ledger_pin_put(s->writer, file, files, diag);
    for (int64_t i = 0; i < files; i++) free((char *)(uintptr_t)file[i].text.data);
    free(file);
    return err ? err : cn_session_load_pin(s, diag);
}

cn_err cn_session_set_pin(cn_session *s, cn_pin what, cn_diag *diag) {
    if (what == CN_PIN_AS_IT_IS || (what == CN_PIN_ON) == s->is_pinned) return CN_OK;
    CN_TRY(cn_session_need_writer(s, diag));
    if (what == CN_PIN_ON) return pin(s, diag);
    CN_TRY(cn_ledger_pin_del(s->writer, diag));
    s->is_pinned = false;
    cn_context_unpin(s->context);
    return CN_OK;
}

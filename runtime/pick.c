/* pick.c - Which session a command means. */
#include "runtime/pick.h"

#include <stdio.h>
#include <string.h>

void cn_pick_options(cn_pick *p, cn_option out[CN_PICK_OPTIONS]) {
    out[0] = (cn_option){.name = "repo",
                         .letter = 'C',
                         .value = &p->folder,
                         .value_name = "REPO",
                         .help = "repository or folder; here"};
    out[1] = (cn_option){.name = "continue",
                         .letter = 'c',
                         .flag = &p->is_continued,
                         .help = "the last session there"};
    out[2] = (cn_option){.name = "session",
                         .letter = 's',
                         .value = &p->id,
                         .value_name = "SESSION",
                         .help = "a session by its id, or the start of it"};
}

int cn_pick_take(cn_pick *p, const cn_cli *cli, int operands, char **argv) {
    if (p->id && p->is_continued) {
        cn_cli_usage(cli, "-c and -s exclude each other");
        return -1;
    }
    if (p->id || p->is_continued) return operands;
    if (operands == 0) {
        cn_cli_usage(cli, "which session? SESSION, or -c for the last one here");
        return -1;
    }
    p->id = argv[0];
    memmove(argv, argv + 1, (size_t)(operands - 1) * sizeof(*argv));
    return operands - 1;
}

cn_err cn_pick_root(const cn_pick *p, char out[CN_PATH_BYTES], cn_diag *diag) {
    cn_repo *repo;
    CN_TRY(cn_repo_open(&repo, &(cn_repo_opts){.path = p->folder ? p->folder : "."}, diag));
    const int bytes = snprintf(out, CN_PATH_BYTES, "%s", cn_repo_root(repo));
    cn_repo_close(repo);
    return bytes < CN_PATH_BYTES ? CN_OK
                                 : CN_FAIL(diag, CN_ETOOBIG, "a path of %d bytes, limit %d", bytes,
                                           (int)CN_PATH_BYTES - 1);
}

cn_err cn_pick_find(const cn_pick *p, cn_ledger *l, cn_ledger_session **out, cn_diag *diag) {
    char root[CN_PATH_BYTES];
    *out = NULL;
    if (p->id) return cn_ledger_session_find(l, p->id, out, diag);
    CN_TRY(cn_pick_root(p, root, diag));
    return cn_ledger_session_latest(l, root, out, diag);
}

typedef struct counted {
    cn_pick_turns *turns;
    int32_t        turn;
} counted;

static void on_turn(void *ctx, const cn_ledger_turn *t) {
    counted *c = ctx;
    c->turns->turns++;
    c->turns->behind += t->turn > c->turn;
    if (t->stop == CN_STOP_OPEN) return;
    c->turns->before = c->turns->last;
    c->turns->last = t->turn;
}

cn_err cn_pick_turns_of(cn_ledger *l, const char *session, int32_t turn, cn_pick_turns *out,
                        cn_diag *diag) {
    counted c = {out, turn};
    *out = (cn_pick_turns){0};
    return cn_ledger_turns(l, session, 0, on_turn, &c, diag);
}

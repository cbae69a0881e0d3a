/* cmd_bench_retrieval_mass.c - Where dense attention goes, and what k leaves out: a table. */
#include "base/clock.h"
#include "runtime/cmd_bench_retrieval_int.h"
#include "runtime/mass.h"

#include <stdio.h>
#include <unistd.h>

enum { DOCUMENTS = 8 };

static void print_mass(const cn_retrieval_cli *r, const char *name, const cn_mass *m) {
    const int32_t local = r->host->model->config.index_local;
    printf("%s: %s places in %s %s, views of %s tok", name, cn_cli_count(m->places),
           cn_cli_count(m->sequences), r->questions ? "answers" : "documents",
           cn_cli_count((int64_t)m->view_tokens));
    if (m->passed) printf("; %s turns with calls passed over", cn_cli_count(m->passed));
    printf("\nthe last %s tokens, always in S, hold %.1f %% of the mass of dense attention\n",
           cn_cli_count(local), 100 * m->local);
    printf("%6s | %-26s | %-26s | %s\n", "", "% of the mass, without them", "with them",
           "cross-entropy, nats");
    printf("%6s | %8s %8s %8s | %8s %8s %8s | %8s %8s %19s\n", "k", "index", "oracle", "by layer",
           "index", "oracle", "by layer", "dense", "top k", "change");
    for (int s = 0; s < CN_MASS_SETS; s++) {
        const double share[] = {m->index[s], m->oracle[s], m->by_layer[s]};
        printf("%6s |", cn_cli_count(cn_mass_topk[s]));
        for (int i = 0; i < 3; i++) printf(" %8.1f", 100 * share[i]);
        printf(" |");
        for (int i = 0; i < 3; i++) printf(" %8.1f", 100 * (share[i] + m->local));
        printf(" | %8.4f %8.4f %+9.4f +- %.4f\n", m->dense_ce, m->dense_ce + m->ce_change[s],
               m->ce_change[s], m->ce_error[s]);
    }
}

static int put_json(const cn_retrieval_cli *r, const char *name, const cn_mass *m, double wall_s) {
    cn_buf         buf = {0};
    cn_json_writer w = cn_json_writer_on(&buf);
    cn_json_open(&w, '{');
    cn_json_field_string(&w, "of", name);
    cn_json_field_int64(&w, "sequences", m->sequences);
    cn_json_field_int64(&w, "places", m->places);
    cn_json_field_int64(&w, "passed", m->passed);
    cn_json_field_f64(&w, "view_tokens", m->view_tokens, 9);
    cn_json_field_int64(&w, "index_local", r->host->model->config.index_local);
    cn_json_field_f64(&w, "local_mass", m->local, 6);
    cn_json_field_f64(&w, "dense_ce", m->dense_ce, 9);
    cn_json_field_open(&w, "sets", '[');
    for (int s = 0; s < CN_MASS_SETS; s++) {
        cn_json_open(&w, '{');
        cn_json_field_int64(&w, "topk", cn_mass_topk[s]);
        cn_json_field_f64(&w, "index", m->index[s], 6);
        cn_json_field_f64(&w, "oracle", m->oracle[s], 6);
        cn_json_field_f64(&w, "oracle_by_layer", m->by_layer[s], 6);
        cn_json_field_f64(&w, "index_with_local", m->index[s] + m->local, 6);
        cn_json_field_f64(&w, "oracle_with_local", m->oracle[s] + m->local, 6);
        cn_json_field_f64(&w, "oracle_by_layer_with_local", m->by_layer[s] + m->local, 6);
        cn_json_field_f64(&w, "ce_change", m->ce_change[s], 6);
        cn_json_field_f64(&w, "ce_error", m->ce_error[s], 6);
        cn_json_close(&w, '}');
    }
    cn_json_close(&w, ']');
    cn_json_field_f64(&w, "wall_s", wall_s, 6);
    cn_json_close(&w, '}');
    return cn_cli_put_json(&r->cli, &buf);
}

static void on_sequence(void *ctx, int64_t done) {
    const cn_retrieval_cli *r = ctx;
    if (!r->cli.json && isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%s done\r", cn_cli_count(done));
}

static cn_err run(cn_retrieval_cli *r, cn_mass *m, cn_diag *diag) {
    cn_context     *c;
    cn_context_work work = {0};
    CN_TRY(cn_context_open(&c, r->host,
                           &(cn_context_opts){.folder = r->folder, .budget = r->budget}, diag));
    cn_err err = cn_context_update(c, diag);
    for (bool done = false; !err && !done && !atomic_load(r->cancel);)
        err = cn_context_prefill(c, &done, &work, diag);
    const cn_mass_opts opts = {.host = r->host,
                               .context = c,
                               .documents = DOCUMENTS,
                               .places = r->places,
                               .questions = r->questions,
                               .seed = (uint64_t)r->seed,
                               .cancel = r->cancel,
                               .on_sequence = on_sequence,
                               .ctx = r};
    if (!err)
        err = r->questions ? cn_mass_of_answers(m, &opts, diag) : cn_mass_of_text(m, &opts, diag);
    cn_context_close(c);
    return err;
}

int cn_retrieval_mass(cn_retrieval_cli *r) {
    cn_diag      diag = {0};
    cn_mass      m = {0};
    const char  *name = r->questions ? "answers" : "text";
    const cn_err err = run(r, &m, &diag);
    const double wall_s = (double)(cn_clock_ns() - r->begin_ns) / 1e9;
    if (err) return cn_cli_fail(&r->cli, err, &diag);
    if (r->cli.json) return put_json(r, name, &m, wall_s);
    print_mass(r, name, &m);
    printf("%.1f s in all\n", wall_s);
    return CN_EXIT_DONE;
}

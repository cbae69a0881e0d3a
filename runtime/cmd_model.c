/*
 * cmd_model.c - cairn model info | verify.
 *
 * info prints what the folder says.  verify also proves what can be proved without other
 * numbers: the files are whole, tokenizer and config agree, text survives a round trip,
 * the fast path stays near the reference, and the same tokens give the same bits with any
 * number of threads.
 */
#include "base/clock.h"
#include "base/hash.h"
#include "engine/engine.h"
#include "engine/tokenizer.h"
#include "runtime/cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: cairn model info [--model DIR]      dimensions, variants, size, identity\n"
    "       cairn model verify [--model DIR]    load all of it and check it against itself\n"
    "\n"
    "examples:\n"
    "  cairn model info                  the default model\n"
    "  cairn model verify --model DIR    another one; exit status 1 if a check fails\n";

/* Off by more than this between two paths is an error of one of them; logits of a trained
 * model spread over tens. */
#define PATH_BOUND 0.1f

enum { PROBE_TOKENS = 272 }; // more than one page; the reference path is slow

static const char probe_text[] =
    "src/probe.c\nfile: src/probe.c\n/* A text that every model can read. */\n"
    "int probe(int a, int b)\n{\n    return a + 2 * b; /* na\xc3\xafve */\n}\n";

typedef struct checks {
    cn_model      *model;
    cn_tokenizer  *tokenizer;
    cn_tokens      tokens;
    const cn_cli  *cli;
    cn_json_writer w;
    bool           failed;
} checks;

/* One line, or one member, for each thing that was checked. */
static void put_check(checks *c, const char *name, bool ok, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void put_check(checks *c, const char *name, bool ok, const char *fmt, ...) {
    char    text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    c->failed |= !ok;
    if (!c->cli->json) {
        printf("%-5s %-22s %s\n", ok ? "ok" : "FAIL", name, text);
        return;
    }
    cn_json_open(&c->w, '{');
    cn_json_put_key(&c->w, "check");
    cn_json_put_string(&c->w, name);
    cn_json_put_key(&c->w, "ok");
    cn_json_put_bool(&c->w, ok);
    cn_json_put_key(&c->w, "detail");
    cn_json_put_string(&c->w, text);
    cn_json_close(&c->w, '}');
}

static void check_roles(checks *c) {
    const cn_config *config = &c->model->config;
    int              bad = 0;
    for (int32_t i = 0; i < config->roles; i++)
        bad += !cn_tokenizer_is_special(c->tokenizer, config->role[i].token);
    put_check(c, "roles", bad == 0, "%d roles, %d of them no special token", config->roles, bad);
}

static void check_vocabulary(checks *c) {
    const int32_t size = cn_tokenizer_size(c->tokenizer), vocab = c->model->config.vocab;
    put_check(c, "vocabulary", size <= vocab, "%d token ids, the model has %d", size, vocab);
}

static cn_err check_round_trip(checks *c, cn_diag *diag) {
    cn_buf   back = {0};
    cn_detok detok = {{0}, 0};
    CN_TRY(cn_tokenizer_encode(c->tokenizer, &c->tokens, probe_text, sizeof(probe_text) - 1,
                               CN_TOKENIZE_TEXT, diag));
    for (int64_t i = 0; i < c->tokens.count; i++)
        cn_detok_put(&detok, c->tokenizer, c->tokens.token[i], &back);
    cn_detok_end(&detok, &back);
    put_check(c, "round trip", strcmp(cn_buf_str(&back), probe_text) == 0,
              "%zu bytes, %" PRId64 " tokens", sizeof(probe_text) - 1, c->tokens.count);
    cn_buf_release(&back);
    return CN_OK;
}

/* Logits after a document that repeats the probe text and a short conversation. */
static cn_err probe(const checks *c, const char *isa, int32_t threads, float *logits_out,
                    cn_diag *diag) {
    cn_engine_opts opts = {.model = c->model, .isa = isa, .threads = threads, .view_tokens = 4096};
    cn_engine     *e = NULL;
    cn_doc        *doc = NULL, *talk = NULL;
    cn_view       *view = NULL;
    cn_page_ref    page[PROBE_TOKENS / 256 + 1];
    cn_err         err = cn_engine_open(&e, &opts, diag);
    if (err) goto out;
    err = cn_doc_create(&doc, e, PROBE_TOKENS, true, diag);
    if (err) goto out;
    err = cn_doc_create(&talk, e, PROBE_TOKENS, false, diag);
    if (err) goto out;
    err = cn_view_create(&view, e, 16, diag);
    if (err) goto out;
    int32_t token[PROBE_TOKENS];
    for (int i = 0; i < PROBE_TOKENS; i++) token[i] = c->tokens.token[i % c->tokens.count];
    for (int at = 0; at < PROBE_TOKENS; at += CN_STEP_ROWS) {
        const int left = PROBE_TOKENS - at;
        cn_slice  slice = {
             .doc = doc, .token = token + at, .tokens = left < CN_STEP_ROWS ? left : CN_STEP_ROWS};
        err = cn_engine_step(e, &slice, 1, NULL, diag);
        if (err) goto out;
    }
    for (int64_t i = 0; i < cn_doc_pages(doc); i++) page[i] = cn_doc_page(doc, i);
    err = cn_view_set(view, page, cn_doc_pages(doc), diag);
    if (err) goto out;
    cn_slice slice = {.doc = talk, .token = token, .tokens = 16, .view = view};
    err = cn_engine_step(e, &slice, 1, NULL, diag);
    if (err) goto out;
    memcpy(logits_out, slice.logits, (size_t)c->model->config.vocab * sizeof(float));
out:
    cn_view_free(view);
    cn_doc_free(talk);
    cn_doc_free(doc);
    cn_engine_close(e);
    return err;
}

static cn_err check_engine(checks *c, cn_diag *diag) {
    const int32_t vocab = c->model->config.vocab;
    float        *logits = malloc(3 * (size_t)vocab * sizeof(float));
    if (!logits) return CN_FAIL(diag, CN_ENOMEM, "no memory for logits");
    float *fast = logits, *fast2 = logits + vocab, *ref = logits + 2 * (int64_t)vocab;
    cn_err err = probe(c, c->cli->isa, 1, fast, diag);
    if (!err) err = probe(c, c->cli->isa, 2, fast2, diag);
    if (!err) err = probe(c, "ref", c->cli->threads, ref, diag);
    if (!err) {
        float worst = 0;
        for (int32_t i = 0; i < vocab; i++) worst = fmaxf(worst, fabsf(fast[i] - ref[i]));
        put_check(c, "same bits", memcmp(fast, fast2, (size_t)vocab * sizeof(float)) == 0,
                  "logits with 1 and 2 threads");
        put_check(c, "path and reference", worst <= PATH_BOUND, "logits differ by %.4f, bound %.2f",
                  (double)worst, (double)PATH_BOUND);
    }
    free(logits);
    return err;
}

static cn_err verify_all(checks *c, const char *folder, cn_diag *diag) {
    CN_TRY(cn_model_open(&c->model, folder, diag));
    put_check(c, "weights", true, "%" PRId64 " parameters, every number finite",
              c->model->parameters);
    CN_TRY(cn_tokenizer_open(&c->tokenizer, folder, diag));
    check_vocabulary(c);
    check_roles(c);
    CN_TRY(check_round_trip(c, diag));
    return check_engine(c, diag);
}

static int verify(const cn_cli *cli, const char *folder) {
    cn_diag diag = {0};
    cn_buf  buf = {0};
    checks  c = {.cli = cli, .w = cn_json_writer_on(&buf)};
    cn_json_open(&c.w, '{');
    cn_json_put_key(&c.w, "model");
    cn_json_put_string(&c.w, folder);
    cn_json_put_key(&c.w, "checks");
    cn_json_open(&c.w, '[');
    const cn_err err = verify_all(&c, folder, &diag);
    cn_json_close(&c.w, ']');
    cn_json_put_key(&c.w, "ok");
    cn_json_put_bool(&c.w, !err && !c.failed);
    cn_json_close(&c.w, '}');
    cn_tokens_release(&c.tokens);
    cn_tokenizer_close(c.tokenizer);
    cn_model_close(c.model);
    int status = CN_EXIT_DONE;
    if (err)
        status = cn_cli_fail(cli, err, &diag);
    else if (cli->json)
        status = cn_cli_put_json(cli, &buf);
    cn_buf_release(&buf);
    return c.failed ? CN_EXIT_FAILED : status;
}

/* What info prints: one list for people and for programs. */
static void put_info(cn_json_writer *w, const cn_model *m, const char *folder, const char *id,
                     double load_ms) {
    const cn_config *c = &m->config;
    cn_json_open(w, '{');
#define PUT(kind, key, value) (cn_json_put_key(w, key), cn_json_put_##kind(w, value))
    PUT(string, "model", folder);
    PUT(string, "id", id);
    PUT(string, "arm", cn_arm_name(c->arm));
    PUT(int64, "parameters", m->parameters);
    PUT(int64, "weight_bytes", m->weight_bytes);
    PUT(string, "weights", c->int8_rows ? "int8 rows" : "bf16");
    PUT(int64, "hidden_size", c->hidden);
    PUT(int64, "intermediate_size", c->ffn);
    PUT(int64, "num_self_layers", c->self_layers);
    PUT(int64, "num_cross_layers", c->cross_layers);
    PUT(int64, "num_attention_heads", c->heads);
    PUT(int64, "num_key_value_heads", c->kv_heads);
    PUT(int64, "head_dim", c->head_dim);
    PUT(int64, "vocab_size", c->vocab);
    PUT(int64, "sliding_window", c->window);
    PUT(int64, "document_sink", c->sink);
    if (cn_config_has_index(c)) {
        PUT(int64, "index_heads", c->index_heads);
        PUT(int64, "index_head_dim", c->index_dim);
        PUT(int64, "index_topk", c->index_topk);
        PUT(int64, "index_local", c->index_local);
    }
    PUT(bool, "conversation_refs", c->conversation_refs);
    PUT(bool, "conversation_summaries", c->conversation_summaries);
    cn_json_put_key(w, "load_ms");
    cn_json_put_f64(w, load_ms, 4);
#undef PUT
    cn_json_close(w, '}');
}

/* The members of a flat object, one a line. */
static cn_err print_flat(const cn_buf *buf, cn_diag *diag) {
    cn_json_doc         *doc;
    const cn_json_limits limits = {.bytes_max = 1 << 20, .depth_max = 2, .values_max = 1000};
    CN_TRY(cn_json_parse(&doc, cn_buf_str(buf), buf->bytes, "info", &limits, diag));
    for (const cn_json *v = cn_json_first(cn_json_root(doc)); v; v = cn_json_next(v)) {
        int64_t n;
        double  d;
        bool    flag;
        if (cn_json_string(v))
            printf("%-22s %s\n", cn_json_key(v), cn_json_string(v));
        else if (cn_json_int64(v, &n))
            printf("%-22s %" PRId64 "\n", cn_json_key(v), n);
        else if (cn_json_f64(v, &d))
            printf("%-22s %g\n", cn_json_key(v), d);
        else if (cn_json_bool(v, &flag))
            printf("%-22s %s\n", cn_json_key(v), flag ? "true" : "false");
    }
    cn_json_free(doc);
    return CN_OK;
}

static int info(const cn_cli *cli, const char *folder) {
    cn_diag       diag = {0};
    cn_model     *m;
    cn_hash       id;
    char          hex[CN_HASH_HEX_BYTES];
    cn_buf        buf = {0};
    const int64_t begin = cn_clock_ns();
    cn_err        err = cn_model_open(&m, folder, &diag);
    if (err) return cn_cli_fail(cli, err, &diag);
    const double load_ms = (double)(cn_clock_ns() - begin) / 1e6;
    err = cn_model_id(&id, folder, &diag);
    if (err) {
        cn_model_close(m);
        return cn_cli_fail(cli, err, &diag);
    }
    cn_hash_hex(hex, &id);
    cn_json_writer w = cn_json_writer_on(&buf);
    put_info(&w, m, folder, hex, load_ms);
    cn_model_close(m);
    if (cli->json) return cn_cli_put_json(cli, &buf);
    err = buf.err ? CN_FAIL(&diag, buf.err, "no memory for the answer") : print_flat(&buf, &diag);
    cn_buf_release(&buf);
    return err ? cn_cli_fail(cli, err, &diag) : CN_EXIT_DONE;
}

int cn_cmd_model(int argc, char **argv) {
    cn_cli    cli = {.command = "model"};
    cn_diag   diag = {0};
    char      folder[CN_PATH_BYTES];
    const int operands = cn_cli_parse(&cli, argc, argv, usage, NULL);
    if (operands != 1) return cn_cli_usage(&cli, "want one of: info, verify");
    const bool is_verify = strcmp(argv[0], "verify") == 0;
    if (!is_verify && strcmp(argv[0], "info") != 0)
        return cn_cli_usage(&cli, "no \"%s\"; want one of: info, verify", argv[0]);
    cli.command = is_verify ? "model verify" : "model info";
    const cn_err err = cn_cli_find_model(&cli, folder, &diag);
    if (err) return cn_cli_fail(&cli, err, &diag);
    return is_verify ? verify(&cli, folder) : info(&cli, folder);
}

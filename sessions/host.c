/* host.c - Open what sessions share, in order; close it in reverse. */
#include "sessions/host.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The folder's secret, made at the first use. */
static cn_err read_secret(const char *state, uint8_t secret[CN_HASH_KEY_BYTES], cn_diag *diag) {
    char path[CN_HOST_PATH_BYTES + 16], temp[CN_HOST_PATH_BYTES + 48];
    snprintf(path, sizeof(path), "%s/salt", state);
    cn_buf buf = {0};
    cn_err err = cn_file_read(&buf, path, CN_HASH_KEY_BYTES, diag);
    if (err == CN_ENOTFOUND) {
        // Written aside and linked: two first processes agree on one.
        cn_random(secret, CN_HASH_KEY_BYTES);
        snprintf(temp, sizeof(temp), "%s/salt.%ld", state, (long)getpid());
        const int fd = CN_FAULT("sessions.salt.open")
                           ? (errno = ENOSPC, -1)
                           : open(temp, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
        bool      ok = fd >= 0;
        if (ok && CN_FAULT("sessions.salt.write")) ok = (errno = ENOSPC, false);
        ok = ok && write(fd, secret, CN_HASH_KEY_BYTES) == CN_HASH_KEY_BYTES;
        if (ok && CN_FAULT("sessions.salt.sync")) ok = (errno = EIO, false);
        ok = ok && !fsync(fd);
        if (fd >= 0) close(fd);
        if (ok && CN_FAULT("sessions.salt.link")) ok = (errno = EIO, false);
        if (ok && link(temp, path) && errno != EEXIST) ok = false;
        const int why = errno;
        unlink(temp);
        if (!ok) return CN_FAIL(diag, CN_EIO, "write %s: %s", path, strerror(why));
        err = cn_file_read(&buf, path, CN_HASH_KEY_BYTES, diag);
    }
    if (!err && buf.bytes != CN_HASH_KEY_BYTES)
        err = CN_FAIL(diag, CN_ECORRUPT, "%s holds %zu bytes, want %d", path, buf.bytes,
                      (int)CN_HASH_KEY_BYTES);
    if (!err) memcpy(secret, buf.data, CN_HASH_KEY_BYTES);
    cn_buf_release(&buf);
    return err;
}

static int by_bytes(const void *a, const void *b) {
    return memcmp(a, b, CN_HASH_BYTES);
}

bool cn_host_holds(const cn_host *h, const cn_hash *key) {
    for (const cn_host_kept *k = h->kept; k; k = k->next)
        if (k->keys && bsearch(key, k->key, (size_t)k->keys, sizeof(*k->key), by_bytes))
            return true;
    return false;
}

void cn_host_touch(cn_host *h, const cn_hash *key, int64_t keys) {
    cn_diag      diag = {0};
    const cn_err err = cn_pages_touch(h->pages, key, keys, cn_clock_unix_ns() / 1000000000, &diag);
    if (err) cn_log(CN_LOG_DEBUG, "the use of pages is not written down: %s", diag.text);
}

/* An eviction begins.  Without the ledger's answer least recent use decides alone. */
static void look(void *ctx) {
    cn_host *h = ctx;
    cn_diag  diag = {0};
    cn_keep_release(&h->keep);
    if (h->ledger && cn_keep_read(&h->keep, h->ledger, &h->domain, &diag))
        cn_log(CN_LOG_WARN, "the cache evicts by use alone: %s", diag.text);
}

static int32_t wanted(void *ctx, const cn_hash *key) {
    const cn_host *h = ctx;
    if (cn_host_holds(h, key)) return CN_PAGES_KEPT;
    const cn_keep_why why = cn_keep_of(&h->keep, key);
    return cn_keep_may_go(why) ? (int32_t)why : CN_PAGES_KEPT;
}

static cn_err open_pages(cn_host *h, int64_t cache_bytes, cn_diag *diag) {
    char folder[CN_HOST_PATH_BYTES + 16];
    snprintf(folder, sizeof(folder), "%s/cache", h->state_folder);
    const cn_pages_opts opts = {.folder = folder,
                                .map_bytes = cache_bytes ? cache_bytes : CN_HOST_CACHE_BYTES,
                                .body_bytes = cn_engine_page_bytes(h->engine),
                                .wanted = wanted,
                                .look = look,
                                .ctx = h};
    h->lost = CN_MISS_EVICTED;
    const cn_err err = cn_pages_open(&h->pages, &opts, diag);
    if (err != CN_ECORRUPT && err != CN_EUNSUPPORTED) return err;
    cn_log(CN_LOG_WARN, "the cache is built anew: %s", diag ? diag->text : cn_err_text(err));
    CN_TRY(cn_pages_wipe(folder, diag));
    h->cache_was_rebuilt = true;
    h->lost = err == CN_ECORRUPT ? CN_MISS_CORRUPT : CN_MISS_FORMAT;
    return cn_pages_open(&h->pages, &opts, diag);
}

static cn_err read_roles(cn_host *h, cn_diag *diag) {
    const cn_config *c = &h->model->config;
    h->roles = (cn_roles){.file = cn_config_role(c, "file"),
                          .user = cn_config_role(c, "user"),
                          .assistant = cn_config_role(c, "assistant"),
                          .tool_call = cn_config_role(c, "tool_call"),
                          .tool_result = cn_config_role(c, "tool_result"),
                          .end = cn_config_role(c, "end")};
    if (h->roles.file < 0 || h->roles.user < 0 || h->roles.assistant < 0 || h->roles.end < 0)
        return CN_FAIL(diag, CN_EUNSUPPORTED,
                       "the model's config names no token for one of the roles file, user, "
                       "assistant, end");
    return CN_OK;
}

/* It also stands in the names of files. */
static cn_err check_tenant(const char *name, cn_diag *diag) {
    const size_t bytes = strlen(name);
    if (bytes > CN_HOST_TENANT_BYTES_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "a tenant's name of %zu bytes, limit %d", bytes,
                       (int)CN_HOST_TENANT_BYTES_MAX);
    if (name[0] == '.' ||
        strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") < bytes)
        return CN_FAIL(diag, CN_EINVAL,
                       "tenant \"%s\": letters, digits, '-', '_', '.', that not first", name);
    return CN_OK;
}

static cn_err check_names(const char *state_folder, const char *tenant, cn_diag *diag) {
    if (!*state_folder) // its files would lie in the root
        return CN_FAIL(diag, CN_EINVAL, "the state folder's path is empty");
    if (strlen(state_folder) >= CN_HOST_PATH_BYTES - 1)
        return CN_FAIL(diag, CN_ETOOBIG, "a state folder's path of %zu bytes, limit %d",
                       strlen(state_folder), (int)CN_HOST_PATH_BYTES - 2);
    return check_tenant(tenant, diag);
}

cn_err cn_host_open_ledger(cn_ledger **out, const char *state_folder, const char *tenant,
                           cn_diag *diag) {
    char salt[CN_HOST_PATH_BYTES + 16], folder[CN_HOST_PATH_BYTES + 16],
        file[CN_HOST_PATH_BYTES + 32];
    *out = NULL;
    if (!tenant) tenant = "";
    CN_TRY(check_names(state_folder, tenant, diag));
    CN_TRY(cn_folder_make(state_folder, diag));
    snprintf(salt, sizeof(salt), "%s/salt", state_folder);
    snprintf(folder, sizeof(folder), "%s/ledger", state_folder);
    snprintf(file, sizeof(file), "%s/ledger.db", folder);
    // The salt is made behind the ledger, so where it is there was one.
    const bool was_used = access(salt, F_OK) == 0, is_there = access(file, F_OK) == 0;
    CN_TRY(cn_ledger_open(out, &(cn_ledger_opts){.dir = folder, .tenant = tenant}, diag));
    if (was_used && !is_there)
        cn_log(CN_LOG_WARN,
               "%s is gone, and with it the sessions and bills of before; a new one begins (the "
               "cache is as it was)",
               file);
    return CN_OK;
}

static cn_err open_all(cn_host *h, const cn_host_opts *opts, cn_diag *diag) {
    uint8_t secret[CN_HASH_KEY_BYTES];
    CN_TRY(cn_host_open_ledger(&h->ledger, h->state_folder, h->tenant, diag));
    CN_TRY(read_secret(h->state_folder, secret, diag));
    cn_hasher hasher;
    cn_hasher_init(&hasher, secret);
    cn_hasher_put_sized(&hasher, h->tenant, strlen(h->tenant));
    memcpy(h->salt, cn_hasher_end(&hasher).bytes, sizeof(h->salt));

    CN_TRY(cn_model_open(&h->model, opts->model_folder, diag));
    if (!cn_config_has_sessions(&h->model->config))
        return CN_FAIL(
            diag, CN_EUNSUPPORTED,
            "the model is of type %s, which is there to be measured (cairn bench curve); "
            "sessions run on clsa and yoco",
            cn_arm_name(h->model->config.arm));
    CN_TRY(cn_model_id(&h->model_id, opts->model_folder, diag));
    CN_TRY(cn_tokenizer_open(&h->tokenizer, opts->model_folder, diag));
    CN_TRY(read_roles(h, diag));
    CN_TRY(cn_engine_open(&h->engine,
                          &(cn_engine_opts){.model = h->model,
                                            .isa = opts->isa,
                                            .threads = opts->threads,
                                            .view_tokens = opts->view_tokens,
                                            .topk = opts->topk,
                                            .dense = opts->dense},
                          diag));
    h->domain = (cn_key_domain){&h->model_id, cn_engine_layout(h->engine), h->salt};
    h->cut = (cn_ledger_cut){.model = cn_document_key(&h->domain, NULL, 0),
                             .tenant = h->tenant,
                             .version = CN_CUT_VERSION,
                             .weights = &h->model_id,
                             .layout = h->domain.layout};
    CN_TRY(open_pages(h, opts->cache_bytes, diag));
    return cn_ledger_rate_get(h->ledger, &h->cut.model, cn_engine_threads(h->engine),
                              &h->prefill_ns, diag);
}

cn_err cn_host_put_rate(cn_host *h, double prefill_ns, cn_diag *diag) {
    CN_TRY(cn_ledger_rate_put(h->ledger, &h->cut.model, cn_engine_threads(h->engine), prefill_ns,
                              diag));
    h->prefill_ns = prefill_ns;
    return CN_OK;
}

cn_err cn_host_open(cn_host **out, const cn_host_opts *opts, cn_diag *diag) {
    *out = NULL;
    const int64_t begin = cn_clock_ns();
    const char   *tenant = opts->tenant ? opts->tenant : "";
    CN_TRY(check_names(opts->state_folder, tenant, diag));
    cn_host *h = calloc(1, sizeof(*h));
    if (!h) return CN_FAIL(diag, CN_ENOMEM, "no memory for a host");
    snprintf(h->state_folder, sizeof(h->state_folder), "%s", opts->state_folder);
    snprintf(h->tenant, sizeof(h->tenant), "%s", tenant);
    const cn_err err = open_all(h, opts, diag);
    if (err) {
        cn_host_close(h);
        return err;
    }
    h->load_ns = cn_clock_ns() - begin;
    h->find_tool = cn_tool_find;
    *out = h;
    return CN_OK;
}

void cn_host_close(cn_host *h) {
    if (!h) return;
    cn_ledger_close(h->ledger);
    cn_pages_close(h->pages);
    cn_engine_close(h->engine);
    cn_tokenizer_close(h->tokenizer);
    cn_model_close(h->model);
    cn_keep_release(&h->keep);
    free(h);
}

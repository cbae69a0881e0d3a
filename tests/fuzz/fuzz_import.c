/*
 * fuzz_import.c - No text can make half a session, or one that is not exported as it came.
 *
 * What is imported is exported, imported and exported again: the same but for the id.
 */
#include "store/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *text, size_t bytes);

static char       folder[64];
static cn_ledger *ledger;

static void clean_up(void) {
    char command[96];
    cn_ledger_close(ledger);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    if (system(command)) perror(command);
}

static cn_err on_line(void *ctx, const char *line, size_t bytes, cn_diag *diag) {
    (void)diag;
    cn_buf_put(ctx, line, bytes);
    return CN_OK;
}

static cn_err import(const char *text, size_t bytes, const char *id, cn_ledger_session **out,
                     cn_diag *diag) {
    const cn_import what = {.text = text, .bytes = bytes, .name = "fuzz", .id = id};
    return cn_ledger_import(ledger, &what, out, diag);
}

static cn_buf export_of(const char *id) {
    cn_buf out = {0};
    cn_assert(cn_ledger_export(ledger, id, on_line, &out, NULL, NULL) == CN_OK);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *text, size_t bytes) {
    cn_ledger_session *s, *t;
    cn_diag            diag = {0};
    if (!ledger) {
        snprintf(folder, sizeof(folder), "/tmp/cairn-fuzz-import-%d", (int)getpid());
        cn_assert(cn_ledger_open(&ledger, &(cn_ledger_opts){.dir = folder}, NULL) == CN_OK);
        atexit(clean_up);
    }
    const cn_err err = import((const char *)text, bytes, "one", &s, &diag);
    if (err) {
        cn_assert(err == CN_ECORRUPT || err == CN_EUNSUPPORTED || err == CN_ETOOBIG);
        cn_assert(!s && strncmp(diag.text, "fuzz: line ", 11) == 0);
        cn_assert(cn_ledger_session_latest(ledger, NULL, &s, NULL) == CN_ENOTFOUND);
        return 0;
    }
    cn_buf a = export_of("one");
    cn_assert(import(a.data, a.bytes, "two", &t, NULL) == CN_OK);
    cn_buf b = export_of("two");
    memcpy(strstr(b.data, "\"two\""), "\"one\"", 5);
    cn_assert(a.bytes == b.bytes && memcmp(a.data, b.data, a.bytes) == 0);
    cn_assert(cn_ledger_session_del(ledger, "one", NULL) == CN_OK);
    cn_assert(cn_ledger_session_del(ledger, "two", NULL) == CN_OK);
    cn_ledger_session_free(s), cn_ledger_session_free(t);
    cn_buf_release(&a), cn_buf_release(&b);
    return 0;
}

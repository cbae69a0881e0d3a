/*
 * repo_attributes.c - Which files called .gitattributes hold for a path, and what they say.
 *
 * Paths come in the order of a list, so that the rules of the folders above one are at
 * hand for the next: a stack.
 */
#include "tools/repo_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cn_err read_blob(cn_repo *repo, const git_oid *id, cn_buf *text, cn_diag *diag) {
    git_blob *blob = NULL;
    const int rc = git_blob_lookup(&blob, repo->git, id);
    if (rc == GIT_ENOTFOUND) return CN_OK; // a partial clone
    if (rc) return FAIL_GIT(diag, CN_EIO, ".gitattributes of the index");
    cn_buf_put(text, git_blob_rawcontent(blob), (size_t)git_blob_rawsize(blob));
    git_blob_free(blob);
    return text->err ? CN_FAIL(diag, text->err, "no memory for .gitattributes") : CN_OK;
}

/* The .gitattributes of the folder `path` ("" or with a '/' at its end): the working
 * tree's or, if that has none, the index's. */
static cn_err read_folder(cn_repo_attributes *a, const char *path, cn_buf *text, cn_diag *diag) {
    char file[CN_REPO_PATH_BYTES_MAX + sizeof(".gitattributes")];
    bool is_there;
    snprintf(file, sizeof(file), "%s.gitattributes", path);
    CN_TRY(cn_repo_read_rules(a->repo, file, text, &is_there, diag));
    const char *p = cn_buf_str(&a->stored), *end = p + a->stored.bytes;
    for (; !is_there && p < end; p += GIT_OID_RAWSZ + strlen(p + GIT_OID_RAWSZ) + 1) {
        git_oid id;
        if (strcmp(p + GIT_OID_RAWSZ, file) != 0) continue;
        git_oid_fromraw(&id, (const unsigned char *)p);
        return read_blob(a->repo, &id, text, diag);
    }
    return CN_OK;
}

cn_err cn_repo_attributes_open(cn_repo_attributes *a, cn_repo *repo, git_config *config,
                               cn_diag *diag) {
    enum { SYSTEM, GLOBAL, ROOT, INFO, COUNT }; // weakest first
    cn_buf               text[COUNT] = {0};
    cn_attribute_rules **rules[COUNT] = {&a->system, &a->global, &a->folder[0].rules, &a->info};
    const char          *autocrlf;
    cn_err               err = CN_OK;

    a->repo = repo;
    a->config = config;
    a->folders = 1; // the root
    if (config) {
        a->has_autocrlf = git_config_get_string(&autocrlf, config, "core.autocrlf") == 0 &&
                          strcmp(autocrlf, "false") != 0;
        if (!getenv("GIT_CONFIG_NOSYSTEM"))
            err = cn_repo_read_outside("/etc/gitattributes", &text[SYSTEM], diag);
        if (!err)
            err =
                cn_repo_read_user(config, "core.attributesfile", "attributes", &text[GLOBAL], diag);
        if (!err) err = cn_repo_read_info(repo, "attributes", &text[INFO], diag);
    }
    if (!err) err = read_folder(a, "", &text[ROOT], diag);
    if (!err) err = cn_attributes_create(&a->names, diag);
    for (int i = 0; !err && i < COUNT; i++)
        err = cn_attributes_define(a->names, cn_buf_str(&text[i]), text[i].bytes, diag);
    for (int i = 0; !err && i < COUNT; i++)
        err = cn_attributes_parse(a->names, rules[i], cn_buf_str(&text[i]), text[i].bytes, diag);
    for (int i = 0; i < COUNT; i++) cn_buf_release(&text[i]);
    return err;
}

void cn_repo_attributes_close(cn_repo_attributes *a) {
    for (int i = 0; i < a->folders; i++) cn_attribute_rules_free(a->folder[i].rules);
    cn_attribute_rules_free(a->info);
    cn_attribute_rules_free(a->global);
    cn_attribute_rules_free(a->system);
    cn_attributes_free(a->names);
    cn_buf_release(&a->stored);
    *a = (cn_repo_attributes){0};
}

/* Make the stack that of the folders above `path`. */
static cn_err enter(cn_repo_attributes *a, const char *path, cn_diag *diag) {
    while (a->folders > 1 && strncmp(path, a->path, a->folder[a->folders - 1].bytes) != 0)
        cn_attribute_rules_free(a->folder[--a->folders].rules);
    for (;;) {
        const size_t from = a->folder[a->folders - 1].bytes;
        const char  *slash = strchr(path + from, '/');
        if (!slash) return CN_OK;
        const size_t bytes = (size_t)(slash - path) + 1;
        cn_buf       text = {0};
        memcpy(a->path, path, bytes);
        a->path[bytes] = 0;
        a->folder[a->folders].bytes = bytes;
        a->folder[a->folders].rules = NULL;
        cn_err err = read_folder(a, a->path, &text, diag);
        if (!err && text.bytes > 0)
            err = cn_attributes_parse(a->names, &a->folder[a->folders].rules, text.data, text.bytes,
                                      diag);
        cn_buf_release(&text);
        if (err) return err;
        a->folders++;
    }
}

/* Whether the configuration has a command for a filter. */
static bool has_command(const cn_repo_attributes *a, const cn_attribute_value *driver) {
    static const char *const keys[] = {"clean", "process"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        char        name[512];
        const char *value;
        snprintf(name, sizeof(name), "filter.%.*s.%s", (int)driver->bytes, driver->text, keys[i]);
        if (git_config_get_string(&value, a->config, name) == 0 && value[0]) return true;
    }
    return false;
}

static bool is_said(const cn_attribute_value *value) {
    return value->state != CN_ATTRIBUTE_UNDECIDED && value->state != CN_ATTRIBUTE_UNSPECIFIED;
}

cn_err cn_repo_attributes_of(cn_repo_attributes *a, const char *path, cn_repo_filters *filters_out,
                             cn_repo_skip *skip_out, cn_diag *diag) {
    cn_attribute_answer       answer = {0};
    const cn_attribute_value *value = answer.value;

    *filters_out = (cn_repo_filters){0};
    *skip_out = CN_REPO_SKIP_NONE;
    CN_TRY(enter(a, path, diag));
    cn_attributes_apply(a->names, a->info, path, &answer);
    for (int i = a->folders - 1; i >= 0; i--)
        cn_attributes_apply(a->names, a->folder[i].rules, path + a->folder[i].bytes, &answer);
    cn_attributes_apply(a->names, a->global, path, &answer);
    cn_attributes_apply(a->names, a->system, path, &answer);

    if (cn_attribute_is_on(&value[CN_ATTRIBUTE_GENERATED])) *skip_out = CN_REPO_SKIP_GENERATED;
    if (cn_attribute_is_on(&value[CN_ATTRIBUTE_VENDORED])) *skip_out = CN_REPO_SKIP_VENDORED;
    if (cn_attribute_is_on(&value[CN_ATTRIBUTE_BINARY])) *skip_out = CN_REPO_SKIP_BINARY;
    if (!a->config) return CN_OK;

    filters_out->is_external = value[CN_ATTRIBUTE_ENCODING].state == CN_ATTRIBUTE_VALUE ||
                               (value[CN_ATTRIBUTE_FILTER].state == CN_ATTRIBUTE_VALUE &&
                                has_command(a, &value[CN_ATTRIBUTE_FILTER]));
    filters_out->is_filtered = filters_out->is_external || a->has_autocrlf;
    for (int i = CN_ATTRIBUTE_TEXT; i < CN_ATTRIBUTES; i++)
        if (is_said(&value[i])) filters_out->is_filtered = true;
    return CN_OK;
}

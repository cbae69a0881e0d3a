/* cmd_config.c - cairn config: every key, its value, and where that was said. */
#include "runtime/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char usage_begin[] =
    "usage: cairn config\n"
    "\n"
    "examples:\n"
    "  cairn config                  every key, its value, and where that was said\n"
    "  cairn config --config x.conf  what that file would say\n"
    "  cairn config --json           as one object\n"
    "\n"
    "The configuration is $XDG_CONFIG_HOME/cairn/cairn.conf, else ~/.config/cairn/cairn.conf.\n"
    "A line is KEY = VALUE, or [SECTION]; a # at its beginning or behind a blank begins a\n"
    "comment.  What is not known there, stands there twice or is out of range is an error.\n"
    "Paths begin with / or ~/.  An option wins over the environment, that over the file.\n"
    "\n"
    "keys:\n";

static const char usage_end[] =
    "\n"
    "a file:\n"
    "  threads = 2\n"
    "  cache_bytes = 32G  # bytes, or with K, M, G, T\n"
    "  [prices]           # for a million tokens; cairn cost says what turns would have cost\n"
    "  currency = USD\n"
    "  input = 3.00\n"
    "  cache_write = 3.75\n"
    "  cache_read = 0.30\n"
    "  output = 15.00\n";

static void put_keys(cn_buf *to) {
    for (int i = 0; i < CN_CONF_COUNT; i++) {
        const cn_conf_key key = (cn_conf_key)i;
        const char       *environment = cn_conf_environment(key);
        cn_buf_printf(to, "  %-18s  %s%s%s%s\n", cn_conf_name(key), cn_conf_help(key),
                      environment ? " (" : "", environment ? environment : "",
                      environment ? ")" : "");
    }
}

/* What a key that nobody has set comes to; "" for nothing. */
static void put_default(const cn_cli *cli, cn_conf_key key, char out[CN_PATH_BYTES]) {
    out[0] = 0;
    switch (key) {
    case CN_CONF_MODEL:
        if (cn_cli_find_model(cli, out, NULL)) out[0] = 0;
        break;
    case CN_CONF_STATE:
        if (cn_cli_find_state(cli, out, NULL)) out[0] = 0;
        break;
    case CN_CONF_THREADS:
        snprintf(out, CN_PATH_BYTES, "0");
        break;
    case CN_CONF_BUDGET:
        snprintf(out, CN_PATH_BYTES, "%d", (int)CN_CHOOSE_BUDGET);
        break;
    case CN_CONF_REFS_BUDGET:
        snprintf(out, CN_PATH_BYTES, "%d", (int)CN_SESSION_REFS_BUDGET);
        break;
    case CN_CONF_CACHE_BYTES:
        snprintf(out, CN_PATH_BYTES, "%" PRId64, CN_HOST_CACHE_BYTES);
        break;
    default:
        break;
    }
}

static const char *source_name(cn_conf_source source) {
    static const char *const names[] = {"default", "file", "environment", "option"};
    return names[source];
}

/* "FILE:3", "CAIRN_MODEL", "--model"; "" for a default. */
static void put_where(const cn_conf *c, cn_conf_key key, cn_buf *out) {
    switch (c->value[key].source) {
    case CN_CONF_DEFAULT:
        break;
    case CN_CONF_FILE:
        cn_buf_printf(out, "%s:%d", cn_buf_str(&c->path), c->value[key].line);
        break;
    case CN_CONF_ENVIRONMENT:
        cn_buf_put_str(out, cn_conf_environment(key));
        break;
    case CN_CONF_OPTION: {
        cn_buf_printf(out, "--%s", cn_conf_name(key));
        for (char *p = out->data; p && *p; p++)
            if (*p == '_') *p = '-';
    }
    }
}

static void show_key(cn_listing *l, cn_conf_key key) {
    const cn_conf *c = l->cli->conf;
    char           value[CN_PATH_BYTES];
    cn_buf         where = {0};
    const bool     is_set = cn_conf_is_set(c, key);
    put_where(c, key, &where);
    if (is_set)
        snprintf(value, sizeof(value), "%s", cn_conf_text(c, key));
    else
        put_default(l->cli, key, value);
    const bool is_number = cn_conf_is_number(key) && value[0];
    if (!l->cli->json) {
        printf("%-18s  %-32s  %s\n", cn_conf_name(key), value[0] ? value : "-",
               is_set ? cn_buf_str(&where) : "default");
    } else {
        cn_json_open(&l->w, '{');
        cn_json_field_string(&l->w, "key", cn_conf_name(key));
        if (is_number && is_set) {
            cn_json_field_f64(&l->w, "value", cn_conf_number(c, key), 17);
        } else if (is_number) {
            int64_t n = 0;
            sscanf(value, "%" SCNd64, &n);
            cn_json_field_int64(&l->w, "value", n);
        } else {
            cn_json_field_string(&l->w, "value", value[0] ? value : NULL);
        }
        cn_json_field_string(&l->w, "source", source_name(c->value[key].source));
        cn_json_field_string(&l->w, "where", is_set ? cn_buf_str(&where) : NULL);
        cn_json_close(&l->w, '}');
    }
    cn_buf_release(&where);
}

int cn_cmd_config(int argc, char **argv) {
    cn_cli     cli = {.command = "config"};
    cn_listing l;
    cn_buf     usage = {0};
    cn_buf_put_str(&usage, usage_begin);
    put_keys(&usage);
    cn_buf_put_str(&usage, usage_end);
    const int operands = cn_cli_parse(&cli, argc, argv, cn_buf_str(&usage), NULL);
    cn_buf_release(&usage);
    if (operands != 0) return cn_cli_usage(&cli, "want no operand, got \"%s\"", argv[0]);
    cn_listing_begin(&l, &cli);
    const char *file = cli.conf->path.bytes ? cli.conf->path.data : NULL;
    cn_json_open(&l.w, '{');
    cn_json_field_string(&l.w, "file", file);
    cn_json_field_open(&l.w, "keys", '[');
    for (int i = 0; i < CN_CONF_COUNT; i++) show_key(&l, (cn_conf_key)i);
    cn_json_close(&l.w, ']');
    cn_json_close(&l.w, '}');
    if (!cli.json) printf("\nfile: %s\n", file ? file : "none");
    return cn_listing_end(&l, CN_OK, NULL);
}

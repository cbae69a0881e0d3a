/* cmd_cache.c - cairn cache: what the page store holds. */
#include "runtime/cli.h"

#include <stdio.h>
#include <string.h>

int cn_cmd_cache(int argc, char **argv) {
    static const char usage[] = "usage: cairn cache stat    what the page store holds\n"
                                "\n"
                                "examples:\n"
                                "  cairn cache stat --json    as one object\n";
    cn_cli            cli = {.command = "cache"};
    cn_diag           diag = {0};
    cn_host          *host = NULL;
    cn_listing        l;
    cn_pages_stats    stats = {0};
    const int         operands = cn_cli_parse(&cli, argc, argv, usage, NULL);
    if (operands != 1 || strcmp(argv[0], "stat") != 0) return cn_cli_usage(&cli, "want: stat");
    cn_err err = cn_cli_open_host(&cli, &host, &diag);
    if (!err) err = cn_pages_stat(host->pages, &stats, &diag);
    const struct {
        const char *key;
        int64_t     value;
    } numbers[] = {{"keys", stats.keys},
                   {"documents", stats.docs},
                   {"pages", stats.pages},
                   {"windows", stats.windows},
                   {"used_bytes", stats.used_bytes},
                   {"budget_bytes", stats.budget_bytes},
                   {"file_bytes", stats.file_bytes},
                   {"corrupt", stats.corrupt},
                   {"evicted", stats.evicted}};
    cn_listing_begin(&l, &cli);
    cn_json_open(&l.w, '{');
    for (size_t i = 0; !err && i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        cn_json_field_int64(&l.w, numbers[i].key, numbers[i].value);
        if (!cli.json) printf("%-14s %18s\n", numbers[i].key, cn_cli_count(numbers[i].value));
    }
    cn_json_close(&l.w, '}');
    cn_host_close(host);
    return cn_listing_end(&l, err, &diag);
}

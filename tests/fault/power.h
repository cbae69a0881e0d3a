/*
 * power.h - The files that a power loss would have left, from the record of disk.so.
 *
 * A write, a cut or a new name is certain only when its file or folder was synced after it, or
 * it was written through; until then it may be lost, alone or with others.  An image at record k
 * is what is certain by then, and of the rest:
 *
 *   POWER_NOTHING  nothing
 *   POWER_NAMES    every name, no byte: as file systems do that allocate late
 *   POWER_SOME     a prefix of the names, and any sectors of the bytes
 *
 * A name is made certain by syncing its folder, which is all that POSIX promises: a sync of the
 * file alone does not do it.
 */
#ifndef CN_TESTS_FAULT_POWER_H
#define CN_TESTS_FAULT_POWER_H

#include "tests/fault/disk_log.h"
#include "tests/test.h"

#include <sys/stat.h>

typedef enum { POWER_NOTHING, POWER_NAMES, POWER_SOME, POWER_MODES } power_mode;

enum { POWER_SECTOR = 512, POWER_FILES_MAX = 256 };

typedef struct power_log {
    uint8_t      *bytes;
    int64_t       size;
    disk_record **record; // [records]
    int64_t       records;
} power_log;

static inline const char *power_name(const disk_record *r) {
    static char name[4][512];
    static int  made;
    char       *out = name[made++ % 4];
    snprintf(out, sizeof(name[0]), "%.*s", (int)r->name_bytes, (const char *)(r + 1));
    return out;
}

static inline const uint8_t *power_data(const disk_record *r) {
    return (const uint8_t *)(r + 1) + r->name_bytes;
}

/* Records are not aligned in the file: each is copied to a place of its own. */
static inline power_log power_read(const char *path) {
    power_log   log = {.records = 0};
    disk_record head;
    int64_t     room = 0;
    FILE       *f = fopen(path, "rb");
    assert_non_null(f);
    while (fread(&head, sizeof(head), 1, f) == 1) {
        const size_t more = (size_t)head.name_bytes + head.data_bytes;
        disk_record *r = malloc(sizeof(head) + more);
        assert_true(r && head.kind < DISK_KINDS);
        *r = head;
        assert_int_equal(fread(r + 1, 1, more, f), more);
        if (log.records == room) {
            room = 2 * room + 1024;
            log.record = realloc(log.record, (size_t)room * sizeof(*log.record));
            assert_non_null(log.record);
        }
        log.record[log.records++] = r;
    }
    fclose(f);
    return log;
}

static inline void power_release(power_log *log) {
    for (int64_t i = 0; i < log->records; i++) free(log->record[i]);
    free(log->record);
    *log = (power_log){.records = 0};
}

/* ---- A disk --------------------------------------------------------------------------- */

typedef struct power_file {
    uint64_t file; // inode; that of a name which was taken away may come again
    bool     is_old;
    uint8_t *byte;
    int64_t  bytes, room;
} power_file;

typedef struct power_entry {
    char name[512];
    int  file; // in power_disk.file; -1: a folder
} power_entry;

typedef struct power_disk {
    power_file  file[POWER_FILES_MAX];
    int         files;
    power_entry entry[POWER_FILES_MAX]; // names that are certain
    int         entries;
} power_disk;

static inline int power_find(power_disk *d, uint64_t file) {
    for (int i = 0; i < d->files; i++)
        if (d->file[i].file == file && !d->file[i].is_old) return i;
    assert_true(d->files < POWER_FILES_MAX);
    d->file[d->files] = (power_file){.file = file};
    return d->files++;
}

static inline void power_cut(power_file *f, int64_t bytes) {
    if (bytes > f->room) {
        f->room = 2 * bytes;
        f->byte = realloc(f->byte, (size_t)f->room);
        assert_non_null(f->byte);
    }
    if (bytes > f->bytes) memset(f->byte + f->bytes, 0, (size_t)(bytes - f->bytes));
    f->bytes = bytes;
}

static inline void power_put(power_file *f, int64_t at, const uint8_t *data, int64_t bytes) {
    if (at + bytes > f->bytes) power_cut(f, at + bytes);
    memcpy(f->byte + at, data, (size_t)bytes);
}

static inline power_entry *power_entry_of(power_disk *d, const char *name) {
    for (int i = 0; i < d->entries; i++)
        if (strcmp(d->entry[i].name, name) == 0) return &d->entry[i];
    return NULL;
}

static inline void power_add_entry(power_disk *d, const char *name, int file) {
    power_entry *e = power_entry_of(d, name);
    if (!e) {
        assert_true(d->entries < POWER_FILES_MAX);
        e = &d->entry[d->entries++];
        snprintf(e->name, sizeof(e->name), "%s", name);
    }
    e->file = file;
}

static inline void power_drop_entry(power_disk *d, const char *name) {
    power_entry *e = power_entry_of(d, name);
    if (e) *e = d->entry[--d->entries];
}

/* What a record of a name does, once it is certain. */
static inline void power_apply_name(power_disk *d, const disk_record *r, int file) {
    char to[512];
    switch (r->kind) {
    case DISK_CREATE:
    case DISK_LINK:
        power_add_entry(d, power_name(r), file);
        break;
    case DISK_FOLDER:
        power_add_entry(d, power_name(r), -1);
        break;
    case DISK_RENAME:
        snprintf(to, sizeof(to), "%.*s", (int)r->data_bytes, (const char *)power_data(r));
        power_drop_entry(d, power_name(r));
        power_add_entry(d, to, file);
        break;
    case DISK_UNLINK:
        power_drop_entry(d, power_name(r));
        break;
    }
}

static inline bool power_is_name(const disk_record *r) {
    return r->kind <= DISK_UNLINK;
}

/* Whether a sync of the folder `name` makes this record of a name certain. */
static inline bool power_is_in(const disk_record *r, const char *name) {
    const char  *of = power_name(r), *slash = strrchr(of, '/');
    const size_t bytes = slash ? (size_t)(slash - of) : 0;
    return strlen(name) == bytes && strncmp(of, name, bytes) == 0;
}

/* ---- An image ------------------------------------------------------------------------- */

/* A record that is not certain yet. */
typedef struct power_pending {
    const disk_record *r;
    int                file; // -1: of a folder
} power_pending;

static inline void power_apply_bytes(power_file *f, const disk_record *r) {
    if (r->kind == DISK_CUT)
        power_cut(f, (int64_t)r->offset);
    else
        power_put(f, (int64_t)r->offset, power_data(r), r->data_bytes);
}

/* Any of its sectors. */
static inline void power_apply_some(power_file *f, const disk_record *r) {
    if (r->kind == DISK_CUT) {
        if (t_rand() % 2) power_cut(f, (int64_t)r->offset);
        return;
    }
    for (int64_t at = (int64_t)r->offset, end = at + r->data_bytes; at < end;) {
        int64_t next = (at / POWER_SECTOR + 1) * POWER_SECTOR;
        if (next > end) next = end;
        if (t_rand() % 2) power_put(f, at, power_data(r) + (at - (int64_t)r->offset), next - at);
        at = next;
    }
}

static inline void power_save(const power_disk *d, const char *folder) {
    char path[1024];
    bool wrote = true;
    assert_int_equal(mkdir(folder, 0700), 0);
    // A name whose folder is lost is lost; folders may stand behind what they hold.
    for (int pass = 0; wrote && pass < 8; pass++) {
        wrote = false;
        for (int i = 0; i < d->entries; i++) {
            struct stat st;
            snprintf(path, sizeof(path), "%s/%s", folder, d->entry[i].name);
            if (lstat(path, &st) == 0) continue;
            if (d->entry[i].file < 0) {
                wrote |= mkdir(path, 0700) == 0;
                continue;
            }
            FILE *f = fopen(path, "wb");
            if (!f) continue;
            const power_file *file = &d->file[d->entry[i].file];
            if (file->bytes) assert_int_equal(fwrite(file->byte, (size_t)file->bytes, 1, f), 1);
            assert_int_equal(fchmod(fileno(f), 0600) || fclose(f), 0);
            wrote = true;
        }
    }
}

/* Make `folder` what the power loss leaves when the first `k` records have happened. */
static inline void power_image(const power_log *log, int64_t k, power_mode mode,
                               const char *folder) {
    static power_disk d; // large
    power_pending    *wait = malloc((size_t)(k + 1) * sizeof(*wait));
    int64_t           waits = 0;
    assert_non_null(wait);
    d = (power_disk){.files = 0};
    for (int64_t i = 0; i < k; i++) {
        const disk_record *r = log->record[i];
        int                file = -1;
        if (r->kind == DISK_TOLD) continue;
        if (r->kind == DISK_CREATE) { // whoever had the inode before is another file
            d.file[power_find(&d, r->file)].is_old = true;
            file = power_find(&d, r->file);
        } else if (r->kind != DISK_FOLDER && r->kind != DISK_UNLINK && r->kind != DISK_SYNC) {
            file = power_find(&d, r->file);
        }
        if (r->kind != DISK_SYNC) {
            if (r->is_through) power_apply_bytes(&d.file[file], r);
            wait[waits++] = (power_pending){r, file};
            continue;
        }
        int64_t kept = 0;
        for (int64_t w = 0; w < waits; w++) {
            const bool is_name = power_is_name(wait[w].r);
            if (is_name && power_is_in(wait[w].r, power_name(r)))
                power_apply_name(&d, wait[w].r, wait[w].file);
            else if (!is_name && d.file[wait[w].file].file == r->file &&
                     !d.file[wait[w].file].is_old)
                power_apply_bytes(&d.file[wait[w].file], wait[w].r);
            else
                wait[kept++] = wait[w];
        }
        waits = kept;
    }
    int64_t names = 0, names_kept = 0;
    for (int64_t w = 0; w < waits; w++) names += power_is_name(wait[w].r);
    if (mode == POWER_NAMES) names_kept = names;
    if (mode == POWER_SOME) names_kept = t_rand_range(0, names);
    for (int64_t w = 0; w < waits; w++)
        if (power_is_name(wait[w].r)) {
            if (names_kept-- > 0) power_apply_name(&d, wait[w].r, wait[w].file);
        } else if (mode == POWER_SOME) {
            power_apply_some(&d.file[wait[w].file], wait[w].r);
        }
    power_save(&d, folder);
    for (int i = 0; i < d.files; i++) free(d.file[i].byte);
    free(wait);
}

#endif

/*
 * disk_log.h - What a process did to the files below one folder, as disk.so writes it down and
 * power.h plays it again.
 *
 * disk.so is loaded into a process by LD_PRELOAD and stands before the C library's calls that
 * change files.  By environment:
 *
 *   CN_DISK_ROOT   the folder, a real path; nothing is done without it
 *   CN_DISK_LOG    append a record for each call that changed something, in order
 *   CN_DISK_DIE    "N": die at the N-th such call as by kill -9, before it is made; "N half":
 *                  with half of its bytes written
 *   CN_DISK_DEATH  where to write which call it was: "pwrite cache/data.mdb"
 *
 * A write to stdout is in the log too: what the process had told the world by then.
 *
 * The log: records of a header, `name_bytes` of a path from the root, `data_bytes` of data.
 */
#ifndef CN_TESTS_FAULT_DISK_LOG_H
#define CN_TESTS_FAULT_DISK_LOG_H

#include <stdint.h>

typedef enum {
    DISK_CREATE, // a file, by its name
    DISK_FOLDER, // likewise
    DISK_LINK,   // a second name for `file`
    DISK_RENAME, // the data is the new name
    DISK_UNLINK,
    DISK_WRITE,
    DISK_CUT,  // to the length `offset`
    DISK_SYNC, // of a file or a folder
    DISK_TOLD, // the data went to stdout
    DISK_KINDS,
} disk_kind;

typedef struct disk_record {
    uint32_t kind;
    uint32_t is_through; // written through: the descriptor is O_SYNC or O_DSYNC
    uint64_t file;       // its inode
    uint64_t offset;
    uint32_t name_bytes, data_bytes;
} disk_record;

enum { DISK_NAME_BYTES = 4096 };

#endif

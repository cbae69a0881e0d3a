/*
 * usage.h - What this process takes of the machine: peak resident memory and page faults.
 *
 * Layer: runtime.
 */
#ifndef CN_RUNTIME_USAGE_H
#define CN_RUNTIME_USAGE_H

#include "base/json.h"

CN_C_BEGIN

typedef struct cn_usage {
    int64_t peak_bytes;   // most that was ever resident, maps of files included
    int64_t minor_faults; // a page that was in memory already, or new
    int64_t major_faults; // one that had to be read
} cn_usage;

cn_usage cn_usage_now(void);
/* The faults since then; the peak as it is now. */
cn_usage cn_usage_since(cn_usage before);

/* From now on the peak is that of what comes.  Where the kernel does not do it, it stays that of
 * the process so far. */
void cn_usage_reset_peak(void);

/* A member "process" of an open object: {"peak_memory_bytes","minor_faults","major_faults"}. */
void cn_usage_put_json(cn_json_writer *w, cn_usage usage);

CN_C_END

#endif

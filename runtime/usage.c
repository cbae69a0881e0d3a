/* usage.c - getrusage, and the one thing that it cannot do. */
#include "runtime/usage.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

cn_usage cn_usage_now(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (cn_usage){used.ru_maxrss * INT64_C(1024), used.ru_minflt, used.ru_majflt};
}

cn_usage cn_usage_since(cn_usage before) {
    cn_usage now = cn_usage_now();
    now.minor_faults -= before.minor_faults;
    now.major_faults -= before.major_faults;
    return now;
}

void cn_usage_reset_peak(void) {
    const int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    const ssize_t done = write(fd, "5", 1);
    (void)done;
    close(fd);
}

void cn_usage_put_json(cn_json_writer *w, cn_usage usage) {
    cn_json_field_open(w, "process", '{');
    cn_json_field_int64(w, "peak_memory_bytes", usage.peak_bytes);
    cn_json_field_int64(w, "minor_faults", usage.minor_faults);
    cn_json_field_int64(w, "major_faults", usage.major_faults);
    cn_json_close(w, '}');
}

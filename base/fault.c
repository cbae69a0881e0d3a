/* fault.c - One counter of the fault points passed since the last arming. */
#include "base/fault.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_int            armed = CN_FAULT_OFF;
static int64_t               fail_at; // written before `armed`, read after it
static atomic_int_fast64_t   passed;
static atomic_bool           was_hit;
static _Atomic(const char *) last_point = "";
static void (*watcher)(const char *point);

void cn_fault_arm(cn_fault_mode mode, int64_t nth) {
    atomic_store(&armed, CN_FAULT_OFF);
    atomic_store(&passed, 0);
    atomic_store(&was_hit, false);
    atomic_store(&last_point, "");
    fail_at = nth;
#ifdef CN_FAULTS
    atomic_store(&armed, (int)mode);
#else
    (void)mode;
#endif
}

bool cn_fault_was_hit(void) {
    return atomic_load(&was_hit);
}

const char *cn_fault_last_point(void) {
    return atomic_load(&last_point);
}

void cn_fault_watch(void (*fn)(const char *point)) {
    watcher = fn;
}

#ifdef CN_FAULTS
bool cn_fault_hit(const char *point) {
    const int mode = atomic_load_explicit(&armed, memory_order_acquire);
    if (mode == CN_FAULT_OFF) return false;
    const int64_t nth = atomic_fetch_add(&passed, 1) + 1;
    atomic_store(&last_point, point);
    if (watcher) watcher(point);
    if (nth < fail_at || (nth > fail_at && mode != CN_FAULT_FOREVER)) return false;
    if (mode == CN_FAULT_CRASH) raise(SIGKILL);
    atomic_store(&was_hit, true);
    return true;
}
#endif

bool cn_fault_arm_from_env(void) {
    static const struct {
        const char   *name;
        cn_fault_mode mode;
    } modes[] = {
        {"once:", CN_FAULT_ONCE}, {"forever:", CN_FAULT_FOREVER}, {"crash:", CN_FAULT_CRASH}};
    const char *text = getenv("CAIRN_FAULT");
    cn_fault_arm(CN_FAULT_OFF, 0);
    for (size_t i = 0; text && i < sizeof(modes) / sizeof(modes[0]); i++) {
        const size_t bytes = strlen(modes[i].name);
        if (strncmp(text, modes[i].name, bytes) != 0) continue;
        const char *digits = text + bytes;
        if (strlen(digits) > 18 || digits[strspn(digits, "0123456789")] != 0) return false;
        const int64_t nth = strtoll(digits, NULL, 10); // 18 digits: no overflow
        if (nth < 1) return false;
        cn_fault_arm(modes[i].mode, nth);
        return true;
    }
    return false;
}

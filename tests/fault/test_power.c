/*
 * test_power.c - What was reported is there after a power loss, which kill -9 alone cannot show.
 *
 * Method: actors play the script, and die now and then, under a library that writes down each
 * change of a file and each sync (disk.c).  From that record, at many of its moments, the files
 * are made that a power loss would have left (power.h), with nothing, only the names, or any
 * sectors of what was not synced.  On each: the stores open and are whole; every turn that was
 * reported by then is there, to the byte; a tool that had begun has its call on record; and the
 * session goes on with the bits of one that nobody disturbed.
 *
 *   test_power                     the short form: behind each report, and some moments between
 *   test_power soak LIVES EVERY SEED  LIVES scripts with deaths; EVERY n-th moment of each
 */
#include "tests/fault/check.h"
#include "tests/fault/power.h"

static reference plain;

static int make_references(void **state) {
    (void)state;
    make_reference(&plain, false);
    return 0;
}

static int drop_references(void **state) {
    (void)state;
    release_reference(&plain);
    return 0;
}

/* The record of a script, with deaths at these calls (0: none more). */
static power_log record_script(const int *die, int deaths) {
    stage     st = plain.stage;
    char      path[PATH_BYTES + 16], when[32];
    int       reported = -1;
    power_log log;
    new_home(&st);
    snprintf(path, sizeof(path), "%s", beside(&st, "log"));
    write_version(&st, 1);
    for (int d = 0; reported < ACTS - 1; d++) {
        life l = {.first = reported + 1, .last = ACTS - 1, .log = path};
        snprintf(when, sizeof(when), "%d%s", d < deaths ? die[d] : 0, d % 2 ? " half" : "");
        if (d < deaths && die[d]) l.die = when;
        const told t = run(&st, &l);
        if (t.done > reported) reported = t.done;
    }
    log = power_read(path);
    unlink(path);
    remove_home(&st);
    return log;
}

/* What the world knew when the first k records had happened. */
static void read_told_by(const power_log *log, int64_t k, int *reported, int *notes) {
    *reported = -1;
    *notes = 0;
    for (int64_t i = 0; i < k; i++) {
        const disk_record *r = log->record[i];
        const char        *line = (const char *)power_data(r);
        if (r->kind != DISK_TOLD) continue;
        if (r->data_bytes > 5 && memcmp(line, "done ", 5) == 0) *reported = atoi(line + 5);
        *notes += r->data_bytes > 8 && memcmp(line, "ran note", 8) == 0;
    }
}

static long images;

static void check_image(const power_log *log, int64_t k, power_mode mode, bool goes_on) {
    static const char *const names[] = {"nothing", "names", "some"};
    static k_paths           made;
    stage                    st = plain.stage;
    int                      reported, notes;
    read_told_by(log, k, &reported, &notes);
    snprintf(st.home, sizeof(st.home), "%s", k_new_path(&made, "image"));
    snprintf(st.state, sizeof(st.state), "%s/state", st.home);
    power_image(log, k, mode, st.home);
    for (int i = 0; i < notes; i++) {
        note(&st, "begin\n");
        note(&st, "end\n");
    }
    t_note("power lost behind record %lld of %lld, act %d reported; %s of the rest is kept",
           (long long)k, (long long)log->records, reported, names[mode]);
    write_version(&st, reported < 0 ? 1 : acts[reported].version);
    check_state(&st, &plain, reported, goes_on && reported < ACTS - 1 ? reported + 1 : -1);
    remove_home(&st);
    images++;
}

/* Right behind each report, and at `others` more moments. */
static void check_log(const power_log *log, int64_t others) {
    for (int64_t k = 1; k <= log->records; k++) {
        const disk_record *r = log->record[k - 1];
        if (r->kind != DISK_TOLD) continue;
        for (int mode = 0; mode < POWER_MODES; mode++)
            check_image(log, k, (power_mode)mode, mode == POWER_SOME);
    }
    for (int64_t i = 0; i < others; i++)
        check_image(log, t_rand_range(1, log->records), (power_mode)(i % POWER_MODES), i % 5 == 0);
}

static void test_what_was_reported_survives_power_loss(void **state) {
    (void)state;
    static const int die[] = {120, 150, 0, 90, 301};
    if (t_is_sanitized()) skip(); // a sanitizer must be loaded first
    t_seed(2);
    power_log log = record_script(die, 5);
    check_log(&log, 30);
    print_message("  %lld records, %ld images\n", (long long)log.records, images);
    assert_true(images > 60);
    power_release(&log);
}

static long soak_lives, soak_every;

static void test_soak(void **state) {
    (void)state;
    const int64_t begin = cn_clock_ns();
    for (long i = 0; i < soak_lives; i++) {
        int die[6];
        for (int d = 0; d < 6; d++) die[d] = (int)t_rand_range(1, 400);
        power_log log = record_script(die, 6);
        for (int64_t k = 1 + i % soak_every; k <= log.records; k += soak_every)
            for (int mode = 0; mode < POWER_MODES; mode++)
                check_image(&log, k, (power_mode)mode, k % 5 == 0);
        check_log(&log, 0);
        power_release(&log);
    }
    printf("soak: %ld power losses in %ld scripts, %ld turns checked, %.1f minutes\n", images,
           soak_lives, figures.turns, (double)(cn_clock_ns() - begin) / 6e10);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_reported_survives_power_loss),
    };
    const struct CMUnitTest soak[] = {cmocka_unit_test(test_soak)};
    if (argc == 8 && strcmp(argv[1], "--act") == 0) return act_main(argv);
    k_isa = t_isa();
    if (argc == 5 && strcmp(argv[1], "soak") == 0) {
        soak_lives = atol(argv[2]);
        soak_every = atol(argv[3]);
        t_seed((uint64_t)atoll(argv[4]));
        return cmocka_run_group_tests(soak, make_references, drop_references);
    }
    return cmocka_run_group_tests(tests, make_references, drop_references);
}

/* test_process.c - A program's output comes whole, or an error, and nothing is left running. */
#include "base/clock.h"
#include "base/fault.h"
#include "tests/test.h"
#include "tools/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const no_env[] = {NULL};

static cn_process_end end; // of the last run
static cn_buf         out;

static cn_err run_args(cn_process_args args) {
    cn_buf_release(&out);
    cn_buf_put_str(&out, "abc");
    if (!args.env) args.env = no_env;
    if (!args.folder) args.folder = "/";
    if (!args.ms_max) args.ms_max = 20000;
    if (!args.out_bytes_max) args.out_bytes_max = 1 << 20;
    t_diag = (cn_diag){0};
    const cn_err err = cn_process_run(&args, &out, &end, &t_diag);
    if (err) {
        assert_string_equal(out.data, "abc");
        assert_true(out.bytes == 3 && out.err == CN_OK);
        assert_int_equal(t_diag.err, err);
    } else
        assert_memory_equal(out.data, "abc", 3);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); // no child is left
    assert_int_equal(errno, ECHILD);
    return err;
}

/* Run a shell script, with `more` as its limits. */
static cn_err run_script(const char *script, cn_process_args more) {
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    more.argv = argv;
    return run_args(more);
}

static int open_files(void) {
    int n = 0;
    for (int fd = 0; fd < 256; fd++) n += fcntl(fd, F_GETFD) != -1;
    return n;
}

static void test_output_and_status(void **state) {
    (void)state;
    const int files = open_files();
    assert_err(run_script("printf 'a\\0b'; echo warn >&2; exit 7", (cn_process_args){0}), CN_OK);
    assert_int_equal(out.bytes, 6);
    assert_memory_equal(out.data, "abca\0b", 6);
    assert_int_equal(end.status, 7);
    assert_string_equal(end.error_text, "warn ");
    assert_err(run_script("kill -TERM $$", (cn_process_args){0}), CN_OK);
    assert_int_equal(end.status, 128 + SIGTERM);
    assert_string_equal(end.error_text, "");
    assert_err(
        run_script("head -c 1048576 /dev/zero; head -c 300000 /dev/zero >&2", (cn_process_args){0}),
        CN_OK);
    assert_int_equal(out.bytes, 3 + 1048576);
    assert_int_equal(end.status, 0);
    assert_int_equal(open_files(), files);
    // Standard error is cut at a character.
    assert_err(run_script("i=0; while [ $i -lt 150 ]; do printf '\\303\\251' >&2; i=$((i+1)); done",
                          (cn_process_args){0}),
               CN_OK);
    assert_int_equal(strlen(end.error_text), sizeof(end.error_text) - 2);
    // Its begin, though it comes in two pieces.
    assert_err(run_script("head -c 150 /dev/zero | tr '\\0' a >&2; sleep 0.1; "
                          "head -c 150 /dev/zero | tr '\\0' b >&2",
                          (cn_process_args){0}),
               CN_OK);
    assert_int_equal(strcspn(end.error_text, "b"), 150);
    assert_int_equal(strlen(end.error_text), sizeof(end.error_text) - 1);
}

static void test_nothing_is_inherited(void **state) {
    (void)state;
    const char *const env[] = {"A=1", "B=two words", NULL};
    setenv("CAIRN_TEST_SECRET", "x", 1);
    assert_err(run_args((cn_process_args){.argv = (const char *const[]){"env", NULL}, .env = env}),
               CN_OK);
    assert_string_equal(out.data + 3, "A=1\nB=two words\n");
    // A descriptor without close-on-exec, a blocked and an ignored signal.
    const char *const path[] = {"PATH=/bin:/usr/bin", NULL};
    const int         fd = dup(1);
    sigset_t          term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    assert_int_equal(sigprocmask(SIG_BLOCK, &term, NULL), 0);
    signal(SIGPIPE, SIG_IGN);
    assert_err(run_args((cn_process_args){
                   .argv = (const char *const[]){"grep", "Sig[BI]", "/proc/self/status", NULL}}),
               CN_OK);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &term, NULL);
    const char *blocked = strstr(out.data, "SigBlk:\t"), *ignored = strstr(out.data, "SigIgn:\t");
    assert_true(blocked && ignored);
    assert_int_equal(strtoull(blocked + 8, NULL, 16) >> (SIGTERM - 1) & 1, 0);
    assert_int_equal(strtoull(ignored + 8, NULL, 16) >> (SIGPIPE - 1) & 1, 0);
    assert_err(
        run_args((cn_process_args){.argv = (const char *const[]){"ls", "/proc/self/fd", NULL}}),
        CN_OK);
    assert_string_equal(out.data + 3, "0\n1\n2\n3\n"); // the last is that of ls itself
    assert_err(run_script("cat; pwd", (cn_process_args){.folder = "/tmp", .env = path}), CN_OK);
    close(fd);
    assert_string_equal(out.data + 3, "/tmp\n");
}

static void test_what_is_not_there(void **state) {
    (void)state;
    const char *const argv[] = {"cairn-no-such-program", NULL};
    assert_err(run_args((cn_process_args){.argv = argv}), CN_ENOTFOUND);
    assert_non_null(strstr(t_diag.text, "cairn-no-such-program"));
    assert_err(run_script("true", (cn_process_args){.folder = "/no/such/folder"}), CN_ENOTFOUND);
}

static void test_limits(void **state) {
    (void)state;
    const int files = open_files();
    assert_err(run_script("printf 1234567890", (cn_process_args){.out_bytes_max = 10}), CN_OK);
    assert_string_equal(out.data, "abc1234567890");
    assert_err(run_script("printf 12345678901", (cn_process_args){.out_bytes_max = 10}),
               CN_ETOOBIG);
    assert_err(run_script("yes", (cn_process_args){.out_bytes_max = 1 << 16}), CN_ETOOBIG);

    // Also what it started in the background, and one that has closed its output.
    char pid_file[128], script[400];
    snprintf(pid_file, sizeof(pid_file), "%s/pid", t_tmp_dir());
    snprintf(script, sizeof(script), "sleep 100 & echo $! >%s; wait", pid_file);
    const int64_t start = cn_clock_ns();
    assert_err(run_script(script, (cn_process_args){.ms_max = 300}), CN_EBUSY);
    assert_non_null(strstr(t_diag.text, "300 ms"));
    assert_err(run_script("exec >&- 2>&-; sleep 100", (cn_process_args){.ms_max = 300}), CN_EBUSY);
    assert_true(cn_clock_ns() - start < INT64_C(20) * 1000000000);
    FILE *f = fopen(pid_file, "r");
    int   pid = 0;
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%d", &pid), 1);
    fclose(f);
    for (int i = 0; i < 100 && kill(pid, 0) == 0; i++) usleep(10000); // init must collect it
    char stat_path[64], name = 'Z';
    snprintf(stat_path, sizeof(stat_path), "/proc/%d/stat", pid);
    if ((f = fopen(stat_path, "r"))) { // still there: as a zombie only
        assert_int_equal(fscanf(f, "%*d %*s %c", &name), 1);
        fclose(f);
    }
    assert_int_equal(name, 'Z');

    atomic_bool cancel = true;
    assert_err(run_script("sleep 100", (cn_process_args){.cancel = &cancel}), CN_ECANCELLED);
    assert_int_equal(open_files(), files);
    cn_buf          small = {.bytes_max = 4};
    cn_process_args args = {.argv = (const char *const[]){"printf", "12345", NULL},
                            .env = no_env,
                            .folder = "/",
                            .ms_max = 20000,
                            .out_bytes_max = 100};
    assert_err(cn_process_run(&args, &small, &end, &t_diag), CN_ETOOBIG);
    assert_true(small.bytes == 0 && small.err == CN_OK);
    cn_buf_release(&small);
}

static void test_every_fault(void **state) {
    (void)state;
    const int files = open_files();
    for (int n = 1;; n++) {
        cn_buf          text = {0};
        cn_process_args args = {.argv = (const char *const[]){"printf", "12345", NULL},
                                .env = no_env,
                                .folder = "/",
                                .ms_max = 20000,
                                .out_bytes_max = 100};
        cn_fault_arm(CN_FAULT_ONCE, n);
        const cn_err err = cn_process_run(&args, &text, &end, &t_diag);
        const bool   hit = cn_fault_was_hit();
        t_note("fault %d at %s", n, cn_fault_last_point());
        cn_fault_arm(CN_FAULT_OFF, 0);
        assert_int_equal(open_files(), files);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_string_equal(cn_buf_str(&text), hit ? "" : "12345");
        assert_int_equal(text.err, CN_OK);
        cn_buf_release(&text);
        if (!hit) {
            assert_err(err, CN_OK);
            assert_true(n > 6);
            break;
        }
        assert_true(err == CN_EIO || err == CN_ENOMEM);
    }
    cn_buf_release(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_output_and_status), cmocka_unit_test(test_nothing_is_inherited),
        cmocka_unit_test(test_what_is_not_there), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_every_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

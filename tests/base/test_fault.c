/* test_fault.c - The n-th point fails: once, for ever, or with the process. */
#include "base/fault.h"
#include "tests/test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* Pass points "1".."6"; the answers as a string of 0 and 1. */
static const char *pass_six(void) {
    static const char *const names[] = {"1", "2", "3", "4", "5", "6"};
    static char              answers[7];
    for (int i = 0; i < 6; i++) answers[i] = CN_FAULT(names[i]) ? '1' : '0';
    return answers;
}

static void test_modes_fail_the_points_they_name(void **state) {
    (void)state;
    static const struct {
        cn_fault_mode mode;
        int64_t       nth;
        const char   *answers;
    } cases[] = {
        {CN_FAULT_OFF, 0, "000000"},     {CN_FAULT_OFF, 1, "000000"},
        {CN_FAULT_ONCE, 1, "100000"},    {CN_FAULT_ONCE, 4, "000100"},
        {CN_FAULT_ONCE, 7, "000000"},    {CN_FAULT_FOREVER, 1, "111111"},
        {CN_FAULT_FOREVER, 5, "000011"}, {CN_FAULT_FOREVER, 7, "000000"},
        {CN_FAULT_CRASH, 7, "000000"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        t_note("case %zu", i);
        cn_fault_arm(cases[i].mode, cases[i].nth);
        assert_false(cn_fault_was_hit());
        assert_string_equal(cn_fault_last_point(), "");
        assert_string_equal(pass_six(), cases[i].answers);
        assert_int_equal(cn_fault_was_hit(), strchr(cases[i].answers, '1') != NULL);
        assert_string_equal(cn_fault_last_point(), cases[i].mode == CN_FAULT_OFF ? "" : "6");
    }
    cn_fault_arm(CN_FAULT_OFF, 0);
    assert_false(cn_fault_was_hit());
}

/* The status of a child that arms by `arm` and passes six points. */
static int status_of_child(bool (*arm)(void)) {
    int         status;
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (!arm()) _exit(9);
        pass_six();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static bool arm_crash_at_6(void) {
    cn_fault_arm(CN_FAULT_CRASH, 6);
    return true;
}

static bool arm_crash_at_7(void) {
    cn_fault_arm(CN_FAULT_CRASH, 7);
    return true;
}

static void test_crash_is_kill_9(void **state) {
    (void)state;
    int status = status_of_child(arm_crash_at_6);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    status = status_of_child(arm_crash_at_7);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    setenv("CAIRN_FAULT", "crash:2", 1);
    status = status_of_child(cn_fault_arm_from_env);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    unsetenv("CAIRN_FAULT");
}

static char watched[16];

static void on_point(const char *point) {
    strcat(watched, point);
}

static void test_a_watcher_sees_each_point_before_it_fails(void **state) {
    (void)state;
    cn_fault_watch(on_point);
    pass_six(); // disarmed: nothing to see
    assert_string_equal(watched, "");
    cn_fault_arm(CN_FAULT_ONCE, 4);
    pass_six();
    assert_string_equal(watched, "123456");
    cn_fault_watch(NULL);
    pass_six();
    assert_string_equal(watched, "123456");
    cn_fault_arm(CN_FAULT_OFF, 0);
}

static void test_environment_arms(void **state) {
    (void)state;
    setenv("CAIRN_FAULT", "once:2", 1);
    assert_true(cn_fault_arm_from_env());
    assert_string_equal(pass_six(), "010000");
    setenv("CAIRN_FAULT", "forever:3", 1);
    assert_true(cn_fault_arm_from_env());
    assert_string_equal(pass_six(), "001111");
    setenv("CAIRN_FAULT", "once:999999999999999999", 1);
    assert_true(cn_fault_arm_from_env());
    assert_string_equal(pass_six(), "000000");

    static const char *const bad[] = {"",        "once",    "once:",   "once:0",
                                      "once:-1", "once:+1", "once:1 ", "once: 1",
                                      "once:1x", "twice:1", ":1",      "once:9999999999999999999"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        t_note("CAIRN_FAULT=%s", bad[i]);
        cn_fault_arm(CN_FAULT_FOREVER, 1);
        setenv("CAIRN_FAULT", bad[i], 1);
        assert_false(cn_fault_arm_from_env());
        assert_string_equal(pass_six(), "000000");
    }
    unsetenv("CAIRN_FAULT");
    cn_fault_arm(CN_FAULT_FOREVER, 1);
    assert_false(cn_fault_arm_from_env());
    assert_string_equal(pass_six(), "000000");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modes_fail_the_points_they_name),
        cmocka_unit_test(test_crash_is_kill_9),
        cmocka_unit_test(test_a_watcher_sees_each_point_before_it_fails),
        cmocka_unit_test(test_environment_arms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

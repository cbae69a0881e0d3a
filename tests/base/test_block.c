/* test_block.c - A block hands out exactly what was planned. */
#include "tests/test.h"

#include "base/block.h"
#include "base/fault.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void layout(cn_block *b, uint8_t *piece[3]) {
    piece[0] = cn_block_take(b, 1);
    piece[1] = cn_block_take(b, 0);
    piece[2] = cn_block_take(b, 1000);
}

static void test_block_plans_then_gives(void **state) {
    (void)state;
    cn_block b = {0};
    uint8_t *piece[3];
    layout(&b, piece);
    assert_null(piece[0]);
    assert_null(piece[2]);
    assert_int_equal(b.used, 64 + 0 + 1024);
    assert_err(cn_block_reserve(&b, &t_diag), CN_OK);
    layout(&b, piece);
    assert_ptr_equal(piece[0], b.data);
    assert_ptr_equal(piece[2], b.data + 64);
    for (int i = 0; i < 1000; i++) assert_int_equal(piece[2][i], 0);
    for (int i = 0; i < 3; i++) assert_int_equal((uintptr_t)piece[i] % CN_BLOCK_ALIGN_BYTES, 0);
    memset(piece[2], 1, 1000);
    cn_block_release(&b);
    assert_null(b.data);
    cn_block_release(&b); // a zeroed block is fine
}

static void test_block_of_nothing(void **state) {
    (void)state;
    cn_block b = {0};
    assert_err(cn_block_reserve(&b, &t_diag), CN_OK);
    assert_non_null(b.data);
    cn_block_release(&b);
}

static void test_block_refuses_more_than_planned(void **state) {
    (void)state;
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        cn_block b = {0};
        if (!freopen("/dev/null", "w", stderr)) _exit(2);
        signal(SIGABRT, SIG_DFL);
        cn_block_take(&b, 64);
        if (cn_block_reserve(&b, NULL)) _exit(1);
        cn_block_take(&b, 65);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_block_says_when_there_is_no_memory(void **state) {
    (void)state;
    cn_block b = {0};
    cn_block_take(&b, 12345);
    cn_fault_arm(CN_FAULT_ONCE, 1);
    assert_err(cn_block_reserve(&b, &t_diag), CN_ENOMEM);
    cn_fault_arm(CN_FAULT_OFF, 0);
    assert_non_null(strstr(t_diag.text, "12352"));
    assert_null(b.data);
    assert_err(cn_block_reserve(&b, &t_diag), CN_OK); // the plan still stands
    assert_int_equal(b.bytes, 12352);
    cn_block_release(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_plans_then_gives),
        cmocka_unit_test(test_block_of_nothing),
        cmocka_unit_test(test_block_refuses_more_than_planned),
        cmocka_unit_test(test_block_says_when_there_is_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

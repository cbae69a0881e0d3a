/* test_ledger_keep.c - Pins, sessions that are open, documents that views have held. */
#include "tests/store/ledger_kit.h"

#include "base/fault.h"

#include <signal.h>
#include <sys/wait.h>

static cn_ledger *l;

static int set_up(void **state) {
    (void)state;
    l = k_open(k_new_path());
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    cn_ledger_close(l);
    return 0;
}

static void make_on(const char *id, const char *repo) {
    cn_ledger_session *s;
    assert_err(
        cn_ledger_session_create(l, &(cn_ledger_session){.id = id, .repo = repo}, &s, &t_diag),
        CN_OK);
    cn_ledger_session_free(s);
}

static bool is_pinned(const char *id) {
    cn_ledger_session *s;
    assert_err(cn_ledger_session_find(l, id, &s, &t_diag), CN_OK);
    const bool pinned = s->is_pinned;
    cn_ledger_session_free(s);
    return pinned;
}

static void test_pins_come_and_go(void **state) {
    (void)state;
    make_on("a", "/x");
    make_on("b", "/x");
    assert_false(is_pinned("a"));
    for (int twice = 0; twice < 2; twice++) {
        assert_err(cn_ledger_session_pin(l, "a", true, &t_diag), CN_OK);
        assert_true(is_pinned("a"));
        assert_false(is_pinned("b"));
    }
    cn_ledger_writer *w = k_write(l, "a"); // no matter who writes it
    assert_err(cn_ledger_session_pin(l, "a", false, &t_diag), CN_OK);
    assert_err(cn_ledger_session_pin(l, "a", false, &t_diag), CN_OK);
    assert_false(is_pinned("a"));
    assert_err(cn_ledger_session_pin(l, "a", true, &t_diag), CN_OK);
    cn_ledger_writer_close(w);
    assert_err(cn_ledger_session_pin(l, "c", true, &t_diag), CN_ENOTFOUND);
    assert_err(cn_ledger_session_pin(l, "", true, &t_diag), CN_ENOTFOUND);
    // A pin is of the session alone: not of a fork, nor of another that gets its id.
    cn_ledger_session *fork_of;
    assert_err(cn_ledger_session_fork(l, "a", 0, "f", &fork_of, &t_diag), CN_OK);
    assert_false(fork_of->is_pinned);
    cn_ledger_session_free(fork_of);
    assert_err(cn_ledger_session_del(l, "f", &t_diag), CN_OK);
    assert_err(cn_ledger_session_del(l, "a", &t_diag), CN_OK);
    make_on("a", "/x");
    assert_false(is_pinned("a"));
    assert_err(cn_ledger_verify(l, &t_diag), CN_OK);
}

static void test_a_pin_is_there_or_not(void **state) {
    (void)state;
    make_on("a", "/x");
    for (int n = 1;; n++) {
        cn_fault_arm(CN_FAULT_ONCE, n);
        const cn_err err = cn_ledger_session_pin(l, "a", true, &t_diag);
        const bool   hit = cn_fault_was_hit();
        t_note("fault %d at %s", n, cn_fault_last_point());
        cn_fault_arm(CN_FAULT_OFF, 0);
        assert_true(is_pinned("a") || err);
        if (!hit) break;
        assert_err(cn_ledger_session_pin(l, "a", false, &t_diag), CN_OK);
    }
}

static void test_who_has_it_open(void **state) {
    (void)state;
    bool    is_open = true;
    int64_t pid = 7;
    make_on("a", "/x");
    make_on("b", "/x");
    assert_err(cn_ledger_session_is_open(l, "a", &is_open, &pid, &t_diag), CN_OK);
    assert_true(!is_open && pid == 0);
    cn_ledger_writer *w = k_write(l, "a");
    assert_err(cn_ledger_session_is_open(l, "a", &is_open, &pid, &t_diag), CN_OK);
    assert_true(is_open && pid == getpid());
    assert_err(cn_ledger_session_is_open(l, "b", &is_open, &pid, &t_diag), CN_OK);
    assert_true(!is_open && pid == 0);
    cn_ledger_writer_close(w);
    assert_err(cn_ledger_session_is_open(l, "a", &is_open, &pid, &t_diag), CN_OK);
    assert_false(is_open); // looking has not locked it
    assert_err(cn_ledger_session_is_open(l, "c", &is_open, &pid, &t_diag), CN_ENOTFOUND);

    int  ready[2];
    char byte;
    char dir[256];
    snprintf(dir, sizeof(dir), "%s", cn_ledger_path(l));
    *strrchr(dir, '/') = 0;
    assert_int_equal(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
        cn_ledger        *mine;
        cn_ledger_writer *mine_w;
        if (cn_ledger_open(&mine, &(cn_ledger_opts){.dir = dir}, NULL) ||
            cn_ledger_writer_open(&mine_w, mine, "b", NULL, NULL))
            _exit(1);
        if (write(ready[1], "r", 1) != 1) _exit(1);
        for (;;) pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_err(cn_ledger_session_is_open(l, "b", &is_open, &pid, &t_diag), CN_OK);
    assert_true(is_open && pid == child);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_err(cn_ledger_session_is_open(l, "b", &is_open, &pid, &t_diag), CN_OK);
    assert_false(is_open); // it dies with its process
    cn_fault_arm(CN_FAULT_ONCE, 1);
    assert_err(cn_ledger_session_is_open(l, "b", &is_open, &pid, &t_diag), CN_EIO);
    cn_fault_arm(CN_FAULT_OFF, 0);
    close(ready[0]);
    close(ready[1]);
}

static cn_ledger_document document(const char *path, int first_byte) {
    cn_ledger_document d = {.path = path, .piece = {.tokens = 5, .first_line = 1, .lines = 2}};
    d.piece.key.bytes[0] = (uint8_t)first_byte;
    return d;
}

static void put_paths(void *ctx, const cn_ledger_document *d) {
    cn_buf_printf(ctx, "%s:%d ", d->path, d->piece.key.bytes[0]);
}

static void assert_seen(cn_ledger_seen which, const char *want) {
    cn_buf got = {0};
    assert_err(cn_ledger_documents_seen(l, &which, put_paths, &got, &t_diag), CN_OK);
    assert_string_equal(cn_buf_str(&got), want);
    cn_buf_release(&got);
}

/* A view of one document, and a step over it so that it is kept. */
static void see(const char *id, const char *path, int first_byte) {
    cn_ledger_writer        *w = k_write(l, id);
    const cn_ledger_document d = document(path, first_byte);
    assert_err(cn_ledger_documents_put(w, &d, 1, NULL, &t_diag), CN_OK);
    k_turn(w, "q", 1);
    cn_ledger_writer_close(w);
}

static void test_the_newest_views_of_each_repository(void **state) {
    (void)state;
    make_on("a", "/x");
    make_on("b", "/x");
    make_on("c", "/y");
    assert_seen((cn_ledger_seen){.generations_max = 9}, "");
    see("a", "f", 1);
    see("b", "f", 2);
    see("c", "g", 3);
    see("a", "f", 4);
    assert_seen((cn_ledger_seen){.generations_max = 9}, "f:4 g:3 f:2 f:1 ");
    assert_seen((cn_ledger_seen){.generations_max = 1}, "f:4 g:3 ");
    assert_seen((cn_ledger_seen){.generations_max = 2}, "f:4 g:3 f:2 ");
    assert_seen((cn_ledger_seen){.repo = "/x", .generations_max = 2}, "f:4 f:2 ");
    assert_seen((cn_ledger_seen){.repo = "/none", .generations_max = 2}, "");
    assert_seen((cn_ledger_seen){.session = "a", .generations_max = INT64_MAX}, "f:4 f:1 ");
    assert_seen((cn_ledger_seen){.session = "a", .generations_max = 1}, "f:4 ");
    cn_ledger_seen nobody = {.session = "d", .generations_max = 1};
    assert_err(cn_ledger_documents_seen(l, &nobody, put_paths, NULL, &t_diag), CN_ENOTFOUND);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_pins_come_and_go),
        TEST(test_a_pin_is_there_or_not),
        TEST(test_who_has_it_open),
        TEST(test_the_newest_views_of_each_repository),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

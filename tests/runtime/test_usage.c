/* test_usage.c - Memory that is touched shows up as peak and as faults; in turns as well. */
#include "runtime/usage.h"
#include "tests/runtime/cairn.h"

#include <sys/mman.h>

enum { BYTES = 64 << 20, PAGE = 4096 };

static void touch(void) {
    char *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    madvise(memory, BYTES, MADV_NOHUGEPAGE);
    for (int64_t i = 0; i < BYTES; i += PAGE) memory[i] = 1;
    assert_int_equal(munmap(memory, BYTES), 0);
}

static void test_touched_memory_is_seen(void **state) {
    (void)state;
    const cn_usage low = cn_usage_now();
    touch();
    const cn_usage used = cn_usage_since(low);
    assert_true(used.minor_faults >= BYTES / PAGE);
    assert_true(used.peak_bytes >= BYTES); // though it is gone
    const cn_usage mark = cn_usage_now();
    assert_true(cn_usage_since(mark).minor_faults < BYTES / PAGE / 4); // since then, not ever
    assert_true(mark.minor_faults >= used.minor_faults && mark.peak_bytes >= used.peak_bytes);
    cn_usage_reset_peak();
    if (access("/proc/self/clear_refs", W_OK) == 0)
        assert_true(cn_usage_now().peak_bytes < used.peak_bytes - BYTES / 2);

    cn_buf         buf = {0};
    cn_json_writer w = cn_json_writer_on(&buf);
    cn_json_open(&w, '{');
    cn_usage_put_json(&w, (cn_usage){1, 2, 3});
    cn_json_close(&w, '}');
    assert_string_equal(cn_buf_str(&buf),
                        "{\"process\":{\"peak_memory_bytes\":1,\"minor_faults\":2,"
                        "\"major_faults\":3}}");
    cn_buf_release(&buf);
}

/* A turn says what its process took: the model is resident at the least. */
static void test_a_turn_says_what_it_took(void **state) {
    (void)state;
    char repo[T_PATH_BYTES], folder[T_PATH_BYTES];
    t_new_repo(repo, folder);
    cn_json_doc *doc = t_last_line(
        t_cairn("ask --json --model %s/tests/golden/tiny-a --state %s -C %s --budget 1000 "
                "--max-tokens 3 hello",
                t_source_dir(), folder, repo));
    assert_true(t_int(doc, "process.peak_memory_bytes") > 1 << 20);
    assert_true(t_int(doc, "process.minor_faults") > 100);
    assert_true(t_int(doc, "process.major_faults") >= 0);
    cn_json_free(doc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_touched_memory_is_seen),
        cmocka_unit_test(test_a_turn_says_what_it_took),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

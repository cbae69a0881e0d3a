/*
 * test_file.c - Both ways to read a file: whole, or with the error that the header names.
 */
#include "base/fault.h"
#include "base/file.h"
#include "tests/test.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char path[108]; // of the file under test; as long as sun_path

static const char *in_tmp(const char *name) {
    snprintf(path, sizeof(path), "%s/%s", t_tmp_dir(), name);
    return path;
}

/* A file of `bytes` bytes, byte i being 13 i + i / 256; the same bytes in *data_out. */
static const char *make_file(const char *name, size_t bytes, uint8_t **data_out) {
    *data_out = t_alloc(bytes);
    for (size_t i = 0; i < bytes; i++) (*data_out)[i] = (uint8_t)(13 * i + i / 256);
    FILE *f = fopen(in_tmp(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(*data_out, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
    return path;
}

static int open_files(void) {
    int n = 0;
    for (int fd = 0; fd < 256; fd++) n += fcntl(fd, F_GETFD) != -1;
    return n;
}

static void test_content_comes_whole(void **state) {
    (void)state;
    const size_t sizes[] = {0, 1, 63, 64, 4095, 4096, 4097, 300001};
    const int    files = open_files();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t bytes = sizes[i];
        uint8_t     *want;
        make_file("whole", bytes, &want);
        t_note("%zu bytes", bytes);

        cn_buf buf = {.bytes_max = bytes + 3}; // room for these and not one more
        cn_buf_put_str(&buf, "abc");
        assert_err(cn_file_read(&buf, path, bytes, &t_diag), CN_OK);
        assert_int_equal(buf.bytes, bytes + 3);
        assert_memory_equal(buf.data, "abc", 3);
        assert_memory_equal(buf.data + 3, want, bytes);
        assert_int_equal(buf.data[buf.bytes], 0);
        cn_buf_release(&buf);

        cn_file_map map;
        assert_err(cn_file_map_open(&map, path, bytes, &t_diag), CN_OK);
        assert_int_equal(map.bytes, bytes);
        assert_int_equal(map.data == NULL, bytes == 0);
        if (bytes > 0) assert_memory_equal(map.data, want, bytes);
        cn_file_map_close(&map);
        assert_true(map.data == NULL && map.bytes == 0);
        cn_file_map_close(&map);
        t_free(want);
    }
    assert_int_equal(open_files(), files);
}

/* A file in /proc says that it has 0 bytes and has more: it "grows" while it is read. */
static void test_size_is_only_a_hint(void **state) {
    (void)state;
    cn_buf buf = {0};
    assert_err(cn_file_read(&buf, "/proc/self/status", 1 << 20, &t_diag), CN_OK);
    assert_true(buf.bytes > 100 && strlen(buf.data) == buf.bytes);
    assert_memory_equal(buf.data, "Name:", 5);
    cn_buf_reset(&buf);
    cn_buf_put_str(&buf, "abc");
    assert_err(cn_file_read(&buf, "/proc/self/status", 100, &t_diag), CN_ETOOBIG);
    assert_string_equal(cn_buf_str(&buf), "abc");
    assert_int_equal(buf.bytes, 3);
    cn_buf_release(&buf);
}

/* Both calls must give `want`, name the path, and leave their outputs as the header says. */
static void assert_refused(const char *where, size_t bytes_max, cn_err want) {
    const int files = open_files();
    cn_buf    buf = {0};
    cn_diag   diag = {0};
    cn_buf_put_str(&buf, "abc");
    t_note("%s", where);
    assert_err(cn_file_read(&buf, where, bytes_max, &diag), want);
    assert_int_equal(diag.err, want);
    assert_non_null(strstr(diag.text, where));
    assert_string_equal(cn_buf_str(&buf), "abc");
    assert_true(buf.bytes == 3 && buf.err == CN_OK);
    assert_err(cn_file_read(&buf, where, bytes_max, NULL), want);
    cn_buf_release(&buf);

    cn_file_map map = {(const uint8_t *)"", 1};
    diag = (cn_diag){0};
    assert_err(cn_file_map_open(&map, where, bytes_max, &diag), want);
    assert_int_equal(diag.err, want);
    assert_non_null(strstr(diag.text, where));
    assert_true(map.data == NULL && map.bytes == 0);
    assert_int_equal(open_files(), files);
}

static void test_each_error_has_its_cause(void **state) {
    (void)state;
    uint8_t *want;
    make_file("small", 10, &want);
    t_free(want);
    assert_refused(path, 9, CN_ETOOBIG);
    assert_refused(path, 0, CN_ETOOBIG);
    assert_refused(in_tmp("small/below"), 10, CN_ENOTFOUND); // a file is no folder
    assert_refused(in_tmp("absent"), 10, CN_ENOTFOUND);
    assert_refused("/dev/null", 10, CN_EINVAL);
    assert_refused(t_tmp_dir(), 10, CN_EINVAL);
    assert_int_equal(mkfifo(in_tmp("pipe"), 0600), 0); // without a writer: must not wait
    assert_refused(path, 10, CN_EINVAL);

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int          s = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", in_tmp("socket"));
    assert_int_equal(bind(s, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_refused(path, 10, CN_EINVAL);
    close(s);

    assert_int_equal(symlink("loop", in_tmp("loop")), 0);
    assert_refused(path, 10, CN_EIO);
}

static void test_symlinks_are_followed(void **state) {
    (void)state;
    uint8_t *want;
    cn_buf   buf = {0};
    make_file("target", 10, &want);
    assert_int_equal(symlink("target", in_tmp("link")), 0);
    assert_err(cn_file_read(&buf, path, 10, &t_diag), CN_OK);
    assert_memory_equal(buf.data, want, 10);
    cn_buf_release(&buf);
    t_free(want);
}

static void test_failing_buffer_is_told(void **state) {
    (void)state;
    uint8_t *want;
    make_file("ten", 10, &want);
    t_free(want);
    cn_buf buf = {.bytes_max = 9};
    assert_err(cn_file_read(&buf, path, 100, &t_diag), CN_ETOOBIG);
    assert_true(buf.bytes == 0 && buf.err == CN_OK);
    buf.err = CN_ENOMEM; // failed before
    assert_err(cn_file_read(&buf, path, 100, &t_diag), CN_ENOMEM);
    assert_int_equal(buf.err, CN_ENOMEM);
    cn_buf_release(&buf);
}

/* What no test can ask of the system: no descriptor, a bad disk, no memory. */
static void test_read_fails_whole(void **state) {
    (void)state;
    const cn_fault_mode modes[] = {CN_FAULT_ONCE, CN_FAULT_FOREVER};
    uint8_t            *want;
    make_file("fault", 10000, &want);
    const int files = open_files();
    for (int m = 0; m < 2; m++)
        for (int n = 1;; n++) {
            cn_buf  buf = {0};
            cn_diag diag = {0};
            cn_buf_put_str(&buf, "abc");
            cn_fault_arm(modes[m], n);
            const cn_err err = cn_file_read(&buf, path, 10000, &diag);
            const bool   hit = cn_fault_was_hit(), is_memory = n == 3;
            t_note("mode %d fault %d at %s", m, n, cn_fault_last_point());
            cn_fault_arm(CN_FAULT_OFF, 0);
            assert_int_equal(open_files(), files);
            assert_int_equal(buf.err, CN_OK);
            if (!hit) {
                assert_err(err, CN_OK);
                assert_int_equal(buf.bytes, 10003);
                assert_memory_equal(buf.data + 3, want, 10000);
                cn_buf_release(&buf);
                assert_int_equal(n, 6); // open, stat, memory, read, read at the end
                break;
            }
            assert_err(err, is_memory ? CN_ENOMEM : CN_EIO);
            assert_true(diag.err == err && strstr(diag.text, path));
            assert_string_equal(cn_buf_str(&buf), "abc");
            assert_int_equal(buf.bytes, 3);
            cn_buf_release(&buf);
        }
    t_free(want);
}

static void test_map_fails_whole(void **state) {
    (void)state;
    uint8_t *want;
    make_file("fault", 10000, &want);
    t_free(want);
    const int files = open_files();
    for (int n = 1;; n++) {
        cn_file_map map = {(const uint8_t *)"", 1};
        cn_diag     diag = {0};
        cn_fault_arm(CN_FAULT_ONCE, n);
        const cn_err err = cn_file_map_open(&map, path, 10000, &diag);
        const bool   hit = cn_fault_was_hit();
        t_note("fault %d at %s", n, cn_fault_last_point());
        cn_fault_arm(CN_FAULT_OFF, 0);
        assert_int_equal(open_files(), files);
        if (!hit) {
            assert_err(err, CN_OK);
            assert_int_equal(n, 4); // open, stat, map
            cn_file_map_close(&map);
            break;
        }
        assert_err(err, n == 3 ? CN_ENOMEM : CN_EIO);
        assert_true(diag.err == err && strstr(diag.text, path));
        assert_true(map.data == NULL && map.bytes == 0);
    }
}

static void test_folders_are_made(void **state) {
    (void)state;
    struct stat st;
    char        deep[200], *longest = malloc(CN_FOLDER_BYTES_MAX + 2);
    assert_non_null(longest);
    snprintf(deep, sizeof(deep), "%s/b//c/", in_tmp("folder"));
    assert_err(cn_folder_make(deep, &t_diag), CN_OK);
    assert_true(stat(deep, &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 0777) == 0700);
    assert_err(cn_folder_make(deep, &t_diag), CN_OK); // there already
    fclose(fopen(in_tmp("folder/file"), "w"));
    snprintf(deep, sizeof(deep), "%s/under", in_tmp("folder/file"));
    assert_err(cn_folder_make(deep, &t_diag), CN_EIO);
    memset(longest, 'x', CN_FOLDER_BYTES_MAX + 1);
    longest[CN_FOLDER_BYTES_MAX + 1] = 0;
    assert_err(cn_folder_make(longest, &t_diag), CN_ETOOBIG);
    free(longest);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content_comes_whole),
        cmocka_unit_test(test_size_is_only_a_hint),
        cmocka_unit_test(test_each_error_has_its_cause),
        cmocka_unit_test(test_symlinks_are_followed),
        cmocka_unit_test(test_failing_buffer_is_told),
        cmocka_unit_test(test_read_fails_whole),
        cmocka_unit_test(test_map_fails_whole),
        cmocka_unit_test(test_folders_are_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

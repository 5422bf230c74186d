#include "storage/datadir.h"

#include "storage/disk_linux.h"
#include "storage/disk_memory.h"
#include "tests/support/unit.h"

#include <sys/stat.h>
#include <unistd.h>

static void W17_a_second_process_is_refused(void **state)
{
    (void)state;
    char dir[] = "datadir_test.XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct disk *d;
    const struct disk_linux_options options = {.no_sync = true};
    assert_int_equal(disk_linux_create(&options, &d), NB_OK);
    struct nb_buf message = {0};
    struct datadir first;
    struct datadir second;
    assert_int_equal(datadir_open(d, dir, &first, &message), NB_OK);
    struct stat st;
    assert_int_equal(stat(first.wal, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(datadir_open(d, dir, &second, &message), NB_LOCKED);
    assert_non_null(memmem(message.data, message.len, "another process", 15));
    datadir_close(&first);
    assert_int_equal(datadir_open(d, dir, &second, &message), NB_OK);
    datadir_close(&second);
    disk_destroy(d);
    nb_buf_deinit(&message);
    char *command = nb_sprintf("rm -rf %s", dir);
    assert_int_equal(system(command), 0);
    nb_free(command);
}

static void the_identity_survives_and_binds(void **state)
{
    (void)state;
    struct disk *d = disk_memory_create(unit_seed());
    struct nb_buf message = {0};
    struct datadir dir;
    assert_int_equal(datadir_open(d, "data", &dir, &message), NB_OK);
    assert_false(dir.has_ident);
    const struct datadir_ident ident = {.cluster_id = 0xaa, .member_id = 0xbb};
    assert_int_equal(datadir_ident_write(&dir, &ident, &message), NB_OK);
    datadir_close(&dir);
    disk_memory_crash(d);
    assert_int_equal(datadir_open(d, "data", &dir, &message), NB_OK);
    assert_true(dir.has_ident);
    assert_int_equal(dir.ident.member_id, 0xbb);
    assert_int_equal(datadir_ident_check(&dir, 0xaa, 0, &message), NB_OK);
    assert_int_equal(message.len, 0);
    assert_int_equal(datadir_ident_check(&dir, 0xab, 0, &message), NB_FOREIGN);
    assert_int_equal(datadir_ident_check(&dir, 0xaa, 0xbc, &message), NB_FOREIGN);
    datadir_close(&dir);
    nb_buf_deinit(&message);
    disk_destroy(d);
}

static void K18_a_newer_format_and_damage_are_refused(void **state)
{
    (void)state;
    struct disk *d = disk_memory_create(unit_seed());
    struct nb_buf message = {0};
    struct datadir dir;
    assert_int_equal(datadir_open(d, "data", &dir, &message), NB_OK);
    const struct datadir_ident ident = {.cluster_id = 0xaa, .member_id = 0xbb};
    assert_int_equal(datadir_ident_write(&dir, &ident, &message), NB_OK);
    datadir_close(&dir);
    size_t len;
    uint8_t *bytes = disk_memory_content(d, "data/member/identity", &len);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        enum nb_status status = datadir_open(d, "data", &dir, &message);
        assert_true(status == NB_CORRUPT || status == NB_VERSION);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    bytes[8] = 2;
    assert_int_equal(datadir_open(d, "data", &dir, &message), NB_VERSION);
    nb_buf_deinit(&message);
    disk_destroy(d);
}

static void every_failing_call_leaves_a_directory_that_opens(void **state)
{
    (void)state;
    for (uint64_t n = 0; n < 60; n++) {
        struct disk *d = disk_memory_create(n);
        struct nb_buf message = {0};
        struct datadir dir;
        disk_memory_fail_at(d, n, NB_ACCESS);
        enum nb_status status = datadir_open(d, "data", &dir, &message);
        const struct datadir_ident ident = {.cluster_id = 1, .member_id = 2};
        if (status == NB_OK) {
            status = datadir_ident_write(&dir, &ident, &message);
            datadir_close(&dir);
        }
        assert_true((status == NB_OK) == (message.len == 0));
        disk_memory_crash(d);
        assert_int_equal(datadir_open(d, "data", &dir, &message), NB_OK);
        assert_true(dir.has_ident || status != NB_OK);
        datadir_close(&dir);
        nb_buf_deinit(&message);
        disk_destroy(d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(W17_a_second_process_is_refused),
        cmocka_unit_test(the_identity_survives_and_binds),
        cmocka_unit_test(K18_a_newer_format_and_damage_are_refused),
        cmocka_unit_test(every_failing_call_leaves_a_directory_that_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

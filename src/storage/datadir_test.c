#include "storage/datadir.h"

#include "storage/disk_linux.h"
#include "tests/support/unit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    char path[64];
    struct disk *disk;
    struct nb_buf message;
};

static int set_up(void **state)
{
    static struct fixture f;
    f = (struct fixture){0};
    (void)snprintf(f.path, sizeof f.path, "/tmp/nabata-datadir-XXXXXX");
    assert_non_null(mkdtemp(f.path));
    struct disk_linux_options options = {.no_aio = true};
    assert_int_equal(disk_linux_create(&options, &f.disk), NB_OK);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    disk_destroy(f->disk);
    nb_buf_deinit(&f->message);
    char *command = nb_sprintf("rm -rf '%s'", f->path);
    int result = system(command);
    nb_free(command);
    return result;
}

static struct datadir open_it(struct fixture *f)
{
    struct datadir d;
    assert_int_equal(datadir_open(f->disk, f->path, &d, &f->message), NB_OK);
    return d;
}

static void touch(const char *folder, const char *name)
{
    char *path = nb_sprintf("%s/%s", folder, name);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    nb_free(path);
}

static bool is_there(const char *folder, const char *name)
{
    char *path = nb_sprintf("%s/%s", folder, name);
    bool there = access(path, F_OK) == 0;
    nb_free(path);
    return there;
}

static void an_identity_is_kept(void **state)
{
    struct fixture *f = *state;
    struct datadir d = open_it(f);
    assert_false(d.has_ident);
    struct datadir_ident ident = {.cluster_id = 7, .member_id = 9};
    assert_int_equal(datadir_ident_write(&d, &ident, &f->message), NB_OK);
    datadir_close(&d);
    d = open_it(f);
    assert_true(d.has_ident);
    assert_true(d.ident.cluster_id == 7 && d.ident.member_id == 9);
    assert_int_equal(datadir_ident_check(&d, 7, 9, &f->message), NB_OK);
    assert_int_equal(datadir_ident_check(&d, 8, 0, &f->message), NB_FOREIGN);
    assert_true(f->message.len != 0);
    datadir_close(&d);
}

static void W17_one_process_at_a_time(void **state)
{
    struct fixture *f = *state;
    struct datadir d = open_it(f), second;
    assert_int_equal(datadir_open(f->disk, f->path, &second, &f->message), NB_LOCKED);
    assert_true(f->message.len != 0);
    datadir_close(&d);
    d = open_it(f);
    datadir_close(&d);
}

static void S10_leftovers_of_snapshots_go_and_strangers_stay(void **state)
{
    struct fixture *f = *state;
    struct datadir d = open_it(f);
    touch(d.snap, "1.part");
    touch(d.snap, "2.snap");
    touch(d.snap, "send-1-1.tmp");
    touch(d.snap, "lost+found");
    datadir_close(&d);
    d = open_it(f);
    assert_false(is_there(d.snap, "1.part"));
    assert_false(is_there(d.snap, "2.snap"));
    assert_false(is_there(d.snap, "send-1-1.tmp"));
    assert_true(is_there(d.snap, "lost+found"));
    datadir_close(&d);
}

static void a_damaged_identity_is_refused(void **state)
{
    struct fixture *f = *state;
    struct datadir d = open_it(f);
    struct datadir_ident ident = {.cluster_id = 7, .member_id = 9};
    assert_int_equal(datadir_ident_write(&d, &ident, &f->message), NB_OK);
    char *path = nb_sprintf("%s/identity", d.member);
    datadir_close(&d);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    for (off_t at = 0; at < st.st_size; at++) {
        uint8_t byte;
        int fd = open(path, O_RDWR);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 4;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        assert_int_not_equal(datadir_open(f->disk, f->path, &d, &f->message), NB_OK);
        byte ^= 4;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        (void)close(fd);
    }
    d = open_it(f);
    datadir_close(&d);
    nb_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_identity_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(W17_one_process_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(S10_leftovers_of_snapshots_go_and_strangers_stay, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_identity_is_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

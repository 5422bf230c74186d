/*
 * The n-th write or sync of the database fails, for all n: what was reported as committed is there
 * after a restart, with a label that fits.  [D01, W05, W13]
 */
#include "storage/backend_lmdb.h"
#include "tests/support/unit.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls, fail_at; /* counted down by whichever thread calls */
static atomic_long fail_count = 1;
static atomic_int fail_errno;

static int faulty(void)
{
    long call = atomic_fetch_add(&calls, 1);
    long first = atomic_load(&fail_at);
    if (first >= 0 && call >= first && call < first + atomic_load(&fail_count)) {
        errno = atomic_load(&fail_errno);
        return 1;
    }
    return 0;
}

/* The names are the linker's. NOLINTBEGIN */
ssize_t __real_pwrite(int fd, const void *data, size_t len, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t offset);
ssize_t __real_pwritev(int fd, const struct iovec *v, int count, off_t offset);
ssize_t __wrap_pwritev(int fd, const struct iovec *v, int count, off_t offset);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
ssize_t __real_pwrite64(int fd, const void *data, size_t len, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t offset);
ssize_t __real_pwritev64(int fd, const struct iovec *v, int count, off_t offset);
ssize_t __wrap_pwritev64(int fd, const struct iovec *v, int count, off_t offset);

int __real_fallocate(int fd, int mode, off_t offset, off_t len);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t len);

int __wrap_fallocate(int fd, int mode, off_t offset, off_t len)
{
    return faulty() ? -1 : __real_fallocate(fd, mode, offset, len);
}
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t len)
{
    return __wrap_fallocate(fd, mode, offset, len);
}
ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t offset)
{
    return faulty() ? -1 : __real_pwrite(fd, data, len, offset);
}
ssize_t __wrap_pwritev(int fd, const struct iovec *v, int count, off_t offset)
{
    return faulty() ? -1 : __real_pwritev(fd, v, count, offset);
}
ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t offset)
{
    return faulty() ? -1 : __real_pwrite64(fd, data, len, offset);
}
ssize_t __wrap_pwritev64(int fd, const struct iovec *v, int count, off_t offset)
{
    return faulty() ? -1 : __real_pwritev64(fd, v, count, offset);
}
int __wrap_fdatasync(int fd)
{
    return faulty() ? -1 : __real_fdatasync(fd);
}
int __wrap_fsync(int fd)
{
    return faulty() ? -1 : __real_fsync(fd);
}
/* NOLINTEND */

static const struct backend_ident ident = {.cluster_id = 1, .member_id = 2};

enum { BATCHES = 4 };

static struct nb_bytes key_of(uint64_t n, uint8_t *room)
{
    nb_put_u64_be(room, n);
    return nb_bytes_of(room, 8);
}

/* Returns the last index known to be committed. */
static uint64_t work(const char *dir)
{
    struct nb_buf message = {0};
    struct backend *b;
    uint64_t committed = 0;
    if (backend_lmdb_open(dir, &ident, NULL, &b, &message) == NB_OK) {
        for (uint64_t n = 1; n <= BATCHES && backend_status(b, NULL) == NB_OK; n++) {
            uint8_t room[8];
            uint8_t value[3000] = {(uint8_t)n};
            backend_batch_put(b, BACKEND_KEY, key_of(n, room), nb_bytes_of(value, sizeof value));
            const struct backend_label label = {.applied_index = n};
            (void)backend_commit(b, &label);
            backend_wait(b);
        }
        if (backend_status(b, NULL) == NB_NO_SPACE_DISK) { /* there is room again */
            backend_retry(b);
            backend_wait(b);
        }
        committed = backend_committed(b);
        backend_close(b);
    }
    nb_buf_deinit(&message);
    return committed;
}

static void sweep(int error)
{
    bool reached_the_end = false;
    for (long n = 0; !reached_the_end && n < 300; n++) {
        char dir[] = "lmdb_faults.XXXXXX";
        assert_non_null(mkdtemp(dir));
        atomic_store(&calls, 0);
        atomic_store(&fail_errno, error);
        atomic_store(&fail_at, n);
        uint64_t committed = work(dir);
        reached_the_end = atomic_load(&calls) <= n;
        assert_true(!reached_the_end || committed == BATCHES);
        atomic_store(&fail_at, -1);
        struct nb_buf message = {0};
        struct backend *b;
        assert_int_equal(backend_lmdb_open(dir, &ident, NULL, &b, &message), NB_OK);
        uint64_t index = backend_label(b)->applied_index;
        assert_true(index >= committed && index <= BATCHES);
        for (uint64_t k = 1; k <= BATCHES; k++) {
            uint8_t room[8];
            struct nb_bytes value;
            assert_int_equal(backend_get(b, BACKEND_KEY, key_of(k, room), &value), k <= index);
        }
        backend_close(b);
        nb_buf_deinit(&message);
        char *command = nb_sprintf("rm -rf %s", dir);
        assert_int_equal(system(command), 0);
        nb_free(command);
    }
    assert_true(reached_the_end);
}

/* The room that a commit may need is asked for before its first byte, and what found none waits. */
static void W13_a_commit_without_room_writes_nothing_and_goes_on_with_room(void **state)
{
    (void)state;
    char dir[] = "lmdb_faults.XXXXXX";
    assert_non_null(mkdtemp(dir));
    atomic_store(&fail_at, -1);
    struct nb_buf message = {0};
    struct backend *b;
    assert_int_equal(backend_lmdb_open(dir, &ident, NULL, &b, &message), NB_OK);
    uint8_t room[8];
    const struct backend_label label = {.applied_index = 1};
    backend_batch_put(b, BACKEND_KEY, key_of(1, room), nb_bytes_of(room, sizeof room));
    atomic_store(&fail_errno, ENOSPC);
    atomic_store(&calls, 0);
    atomic_store(&fail_at, 0); /* with all that is ahead, and then with the least: both refused */
    atomic_store(&fail_count, 2);
    uint64_t number = backend_commit(b, &label);
    backend_wait(b);
    assert_int_equal(backend_status(b, NULL), NB_NO_SPACE_DISK);
    assert_int_equal(atomic_load(&calls), 2); /* no write among them */
    backend_retry(b);
    backend_wait(b);
    assert_int_equal(backend_status(b, NULL), NB_OK);
    assert_int_equal(backend_committed(b), number);
    atomic_store(&fail_count, 1);
    backend_close(b);
    nb_buf_deinit(&message);
    char *command = nb_sprintf("rm -rf %s", dir);
    assert_int_equal(system(command), 0);
    nb_free(command);
}

static void D01_an_input_output_error_at_any_call_loses_nothing_committed(void **state)
{
    (void)state;
    sweep(EIO);
}

static void W13_a_full_disk_at_any_call_loses_nothing_committed(void **state)
{
    (void)state;
    sweep(ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(W13_a_commit_without_room_writes_nothing_and_goes_on_with_room),
        cmocka_unit_test(D01_an_input_output_error_at_any_call_loses_nothing_committed),
        cmocka_unit_test(W13_a_full_disk_at_any_call_loses_nothing_committed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

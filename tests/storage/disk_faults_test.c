/*
 * The n-th call of the real disk fails, for all n, in every way and every mode: input/output error,
 * no space, try again, interrupted, cut short. A start after it holds all that was acknowledged,
 * and nothing is acknowledged after a failed write or sync.  [W05, W13, W14]
 *
 * Syncs are left out, as no power is cut here: it is their results that are tested.
 */
#include "storage/disk_linux.h"
#include "storage/wal.h"
#include "tests/support/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CUT_SHORT = -1 }; /* instead of an errno */

enum { ENTRIES = 12, RELEASED = 6, SECONDS_MAX = 300 };

static atomic_long calls, fail_at; /* counted by whichever thread calls */
static atomic_int fault;           /* an errno or CUT_SHORT */
static atomic_bool promise_failed; /* what failed was a write or sync of a batch */

static int fault_now(void)
{
    return atomic_fetch_add(&calls, 1) == atomic_load(&fail_at) ? atomic_load(&fault) : 0;
}

/* 0: do it; else errno is set. Where nothing can be cut short, nothing is. */
static int refused(void)
{
    int f = fault_now();
    if (f <= 0) {
        return 0;
    }
    errno = f;
    return -1;
}

/* The names are the linker's. NOLINTBEGIN */
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
ssize_t __real_pread(int fd, void *to, size_t len, off_t offset);
ssize_t __wrap_pread(int fd, void *to, size_t len, off_t offset);
ssize_t __wrap_pread64(int fd, void *to, size_t len, off_t offset);
ssize_t __real_pwrite(int fd, const void *data, size_t len, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t offset);
ssize_t __wrap_pwritev2(int fd, const struct iovec *v, int count, off_t offset, int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *v, int count, off_t offset, int flags);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
int __real_io_submit(io_context_t context, long count, struct iocb **list);
int __wrap_io_submit(io_context_t context, long count, struct iocb **list);
int __real_io_getevents(io_context_t context, long least, long most, struct io_event *events,
                        struct timespec *timeout);
int __wrap_io_getevents(io_context_t context, long least, long most, struct io_event *events,
                        struct timespec *timeout);

int __wrap_open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    int mode = (flags & O_CREAT) != 0 ? va_arg(arguments, int) : 0;
    va_end(arguments);
    return refused() != 0 ? -1 : __real_open(path, flags, mode);
}
int __wrap_open64(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    int mode = (flags & O_CREAT) != 0 ? va_arg(arguments, int) : 0;
    va_end(arguments);
    return refused() != 0 ? -1 : __real_open(path, flags, mode);
}
ssize_t __wrap_pread(int fd, void *to, size_t len, off_t offset)
{
    int f = fault_now();
    if (f > 0) {
        errno = f;
        return -1;
    }
    return __real_pread(fd, to, f == CUT_SHORT && len > 1 ? len / 2 : len, offset);
}
ssize_t __wrap_pread64(int fd, void *to, size_t len, off_t offset)
{
    return __wrap_pread(fd, to, len, offset);
}
ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t offset)
{
    int f = fault_now();
    if (f > 0) {
        errno = f;
        return -1;
    }
    return __real_pwrite(fd, data, f == CUT_SHORT && len > 1 ? len / 2 : len, offset);
}
ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t offset)
{
    return __wrap_pwrite(fd, data, len, offset);
}
ssize_t __wrap_pwritev2(int fd, const struct iovec *v, int count, off_t offset, int flags)
{
    (void)flags;
    assert_int_equal(count, 1);
    int f = fault_now();
    if (f > 0) {
        atomic_store(&promise_failed, f != EINTR);
        errno = f;
        return -1;
    }
    return __real_pwrite(fd, v->iov_base, f == CUT_SHORT ? v->iov_len / 2 : v->iov_len, offset);
}
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *v, int count, off_t offset, int flags)
{
    return __wrap_pwritev2(fd, v, count, offset, flags);
}
int __wrap_fsync(int fd)
{
    (void)fd;
    return refused();
}
int __wrap_fdatasync(int fd)
{
    (void)fd;
    int result = refused();
    if (result != 0) {
        atomic_store(&promise_failed, errno != EINTR);
    }
    return result;
}
int __wrap_rename(const char *from, const char *to)
{
    return refused() != 0 ? -1 : __real_rename(from, to);
}
int __wrap_unlink(const char *path)
{
    return refused() != 0 ? -1 : __real_unlink(path);
}

/* Both of AIO's calls give what they have to say as a negative result. */
int __wrap_io_submit(io_context_t context, long count, struct iocb **list)
{
    int f = fault_now();
    if (f > 0) {
        return -f;
    }
    if (f == CUT_SHORT && list[0]->u.c.nbytes > DISK_BLOCK_SIZE) {
        list[0]->u.c.nbytes = DISK_BLOCK_SIZE;
    }
    list[0]->aio_rw_flags = 0;
    return __real_io_submit(context, count, list);
}
int __wrap_io_getevents(io_context_t context, long least, long most, struct io_event *events,
                        struct timespec *timeout)
{
    int f = atomic_load(&fault);
    if (f == EINTR && fault_now() != 0) {
        return -EINTR;
    }
    int n = __real_io_getevents(context, least, most, events, timeout);
    if (n > 0 && f > 0 && f != EINTR && fault_now() != 0) { /* the device's word on the write */
        events[0].res = (unsigned long)-(long)f;
        atomic_store(&promise_failed, true);
    }
    return n;
}
/* NOLINTEND */

static const struct wal_ident ident = {.cluster_id = 0xc1, .member_id = 0x31};
static const struct wal_options small = {.segment_size = 32768, .batch_size_target = 8192};

static uint64_t put(struct wal *w, uint64_t index)
{
    struct nb_payload *p = nb_payload_create(500 + (size_t)index * 300);
    memset(p->data, (int)index, p->len);
    const struct wal_entry e = {.index = index, .term = 1, .kind = 3, .payload = p};
    const struct wal_hard_state hard = {.term = 1, .voted_for = 7, .commit_index = index - 1};
    uint64_t batch = wal_append(w, &hard, &e, 1);
    nb_payload_release(p);
    return batch;
}

static bool content_is(const struct wal_entry *e)
{
    struct nb_bytes b = nb_payload_bytes(e->payload);
    for (size_t i = 0; i < b.len; i++) {
        if (b.data[i] != (uint8_t)e->index) {
            return false;
        }
    }
    return b.len == 500 + e->index * 300;
}

static void until_durable(struct disk *d, struct wal *w, uint64_t batch)
{
    wal_flush(w);
    while (wal_durable(w) < batch && wal_status(w) == NB_OK) {
        if (wal_is_full(w)) {
            wal_mark_durable(w); /* as a tick does */
        }
        assert_true(d->outstanding != 0);
        disk_wait(d);
    }
}

/* Writes until something fails; returns the last index that was acknowledged. */
static uint64_t life(const char *dir, const struct disk_linux_options *options)
{
    struct disk *d;
    struct wal *w;
    struct wal_recovered r;
    struct nb_buf message = {0};
    uint64_t acknowledged = 0;
    assert_int_equal(disk_linux_create(options, &d), NB_OK);
    atomic_store(&promise_failed, false); /* those of the probe only choose the mode */
    if (wal_open(d, dir, &ident, &small, &r, &w, &message) == NB_OK) {
        wal_recovered_deinit(&r);
        for (uint64_t i = 1; i <= ENTRIES && wal_status(w) == NB_OK; i++) {
            uint64_t batch = put(w, i);
            until_durable(d, w, batch);
            acknowledged = wal_durable(w) >= batch ? i : acknowledged;
            if (i == RELEASED) {
                wal_release(w, RELEASED / 2);
            }
        }
        assert_true(!atomic_load(&promise_failed) || wal_status(w) != NB_OK);
        if (wal_status(w) != NB_OK) {
            uint64_t durable = wal_durable(w);
            (void)put(w, wal_next_index(w));
            wal_flush(w);
            while (d->outstanding != 0) {
                disk_wait(d);
            }
            assert_int_equal(wal_durable(w), durable); /* W05: never again */
        }
        wal_abandon(w);
    }
    disk_destroy(d);
    nb_buf_deinit(&message);
    return acknowledged;
}

static void assert_holds(const char *dir, uint64_t acknowledged)
{
    const struct disk_linux_options plain = {.no_aio = true};
    struct disk *d;
    struct wal *w;
    struct wal_recovered r;
    struct nb_buf message = {0};
    assert_int_equal(disk_linux_create(&plain, &d), NB_OK);
    assert_int_equal(wal_open(d, dir, &ident, &small, &r, &w, &message), NB_OK);
    assert_true(r.next_index > acknowledged && r.next_index <= ENTRIES + 1);
    assert_true(r.entry_count == 0 || r.entries[0].index <= RELEASED / 2 + 1);
    for (size_t i = 0; i < r.entry_count; i++) {
        assert_int_equal(r.entries[i].index, r.entries[0].index + i);
        assert_true(content_is(&r.entries[i]));
    }
    wal_recovered_deinit(&r);
    wal_abandon(w);
    disk_destroy(d);
    nb_buf_deinit(&message);
}

/* How many calls there were to fail. */
static long sweep(int how, bool no_aio, bool no_rwf_dsync)
{
    bool reached_the_end = false;
    long n = 0;
    for (; !reached_the_end && n < 2000; n++) {
        char dir[] = "disk_faults.XXXXXX";
        assert_non_null(mkdtemp(dir));
        const struct disk_linux_options options = {
            .probe_dir = dir, .no_aio = no_aio, .no_rwf_dsync = no_rwf_dsync};
        atomic_store(&calls, 0);
        atomic_store(&fault, how);
        atomic_store(&fail_at, n);
        uint64_t acknowledged = life(dir, &options);
        reached_the_end = atomic_load(&calls) <= n;
        atomic_store(&fail_at, -1);
        if (reached_the_end || how == CUT_SHORT) {
            assert_int_equal(acknowledged, ENTRIES); /* W14: cut short is no failure */
        }
        assert_holds(dir, acknowledged);
        char *command = nb_sprintf("rm -rf %s", dir);
        assert_int_equal(system(command), 0);
        nb_free(command);
    }
    assert_true(reached_the_end);
    return n;
}

static void sweep_all(bool no_aio, bool no_rwf_dsync)
{
    static const int ways[] = {EIO, ENOSPC, EAGAIN, EINTR, CUT_SHORT};
    for (size_t i = 0; i < NB_ARRAY_LEN(ways); i++) {
        assert_true(sweep(ways[i], no_aio, no_rwf_dsync) > ENTRIES);
    }
}

static void W05_W14_any_failing_call_with_aio_loses_nothing_acknowledged(void **state)
{
    (void)state;
    sweep_all(false, false);
}

static void W05_W14_any_failing_call_of_the_thread_loses_nothing_acknowledged(void **state)
{
    (void)state;
    sweep_all(true, false);
}

static void W05_W14_any_failing_call_without_dsync_loses_nothing_acknowledged(void **state)
{
    (void)state;
    sweep_all(true, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(W05_W14_any_failing_call_with_aio_loses_nothing_acknowledged),
        cmocka_unit_test(W05_W14_any_failing_call_of_the_thread_loses_nothing_acknowledged),
        cmocka_unit_test(W05_W14_any_failing_call_without_dsync_loses_nothing_acknowledged),
    };
    (void)alarm(SECONDS_MAX); /* a request that is never done must not hang the run */
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The process dies at the n-th disk operation of a replace, for all n, and of a copy: what is
 * opened after it is the old file or the new one, never a mix, and an old one when nothing was
 * promised. [S01, S04, S10, W07]
 */
#include "storage/backend_lmdb.h"
#include "tests/support/unit.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DIED = 77, DONE = 0, FAILED = 1, OLD = 5, NEW = 9 };

static atomic_long calls;
static atomic_long die_at = -1;
static atomic_bool counting;

/* Before the call, or after it had its effect: both are boundaries. */
static void boundary(void)
{
    if (atomic_load(&counting) && atomic_fetch_add(&calls, 1) == atomic_load(&die_at)) {
        _exit(DIED);
    }
}

/* The names are the linker's. NOLINTBEGIN */
#define WRAP(type, name, parameters, arguments)                                                    \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        boundary();                                                                                \
        type result = __real_##name arguments;                                                     \
        boundary();                                                                                \
        return result;                                                                             \
    }
WRAP(ssize_t, write, (int fd, const void *data, size_t len), (fd, data, len))
WRAP(ssize_t, pwrite, (int fd, const void *data, size_t len, off_t at), (fd, data, len, at))
WRAP(ssize_t, pwrite64, (int fd, const void *data, size_t len, off_t at), (fd, data, len, at))
WRAP(ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at))
WRAP(ssize_t, pwritev64, (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at))
WRAP(int, fdatasync, (int fd), (fd))
WRAP(int, fsync, (int fd), (fd))
WRAP(int, rename, (const char *from, const char *to), (from, to))
WRAP(int, unlink, (const char *path), (path))
/* NOLINTEND */

static const struct backend_ident ident = {.cluster_id = 1, .member_id = 2};
static const struct backend_ident sender = {.cluster_id = 1, .member_id = 3};

static void copied(void *context, enum nb_status status, const char *text)
{
    (void)text;
    *(enum nb_status *)context = status;
}

/* A backend in `dir` that holds keys 1..n, all with the value n, and says so. */
static void fill(const char *dir, const struct backend_ident *whose, uint64_t n, const char *copy)
{
    struct backend *b;
    struct nb_buf message = {0};
    assert_int_equal(backend_lmdb_open(dir, whose, NULL, &b, &message), NB_OK);
    for (uint64_t k = 1; k <= n; k++) {
        uint8_t key[8];
        nb_put_u64_be(key, k);
        uint8_t value[3000];
        memset(value, (int)n, sizeof value);
        backend_batch_put(b, BACKEND_KEY, nb_bytes_of(key, 8), nb_bytes_of(value, sizeof value));
    }
    const struct backend_label label = {.applied_index = n};
    (void)backend_commit(b, &label);
    backend_wait(b);
    if (copy != NULL) {
        enum nb_status status = NB_BUSY;
        backend_copy(b, copy, copied, &status);
        backend_wait(b);
        assert_int_equal(status, NB_OK);
    }
    backend_close(b);
    nb_buf_deinit(&message);
}

/* Opens it and returns its index, all of whose rows are there and no other. */
static uint64_t index_of(const char *dir)
{
    struct backend *b;
    struct nb_buf message = {0};
    assert_int_equal(backend_lmdb_open(dir, &ident, NULL, &b, &message), NB_OK);
    uint64_t n = backend_label(b)->applied_index;
    for (uint64_t k = 1; k <= NEW; k++) {
        uint8_t key[8];
        nb_put_u64_be(key, k);
        struct nb_bytes value;
        bool there = backend_get(b, BACKEND_KEY, nb_bytes_of(key, 8), &value);
        assert_int_equal(there, k <= n);
        assert_true(!there || (value.len == 3000 && value.data[2999] == n));
    }
    backend_close(b);
    nb_buf_deinit(&message);
    return n;
}

/* In a process of its own, which may die. */
static int child(const char *dir, const char *received, bool replace, long at)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct backend *b;
        struct nb_buf message = {0};
        enum nb_status status = backend_lmdb_open(dir, &ident, NULL, &b, &message);
        if (status == NB_OK) {
            atomic_store(&die_at, at);
            atomic_store(&counting, true);
            if (replace) {
                status = backend_replace(b, received, &message);
            } else {
                backend_copy(b, received, copied, &status);
                backend_wait(b);
            }
            atomic_store(&counting, false);
        }
        _exit(status == NB_OK ? DONE : FAILED);
    }
    int how;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFEXITED(how));
    return WEXITSTATUS(how);
}

struct place {
    char dir[32];
    char *own, *other, *received;
};

static void place_make(struct place *p)
{
    strcpy(p->dir, "lmdb_crash.XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    p->own = nb_sprintf("%s/own", p->dir);
    p->other = nb_sprintf("%s/other", p->dir);
    p->received = nb_sprintf("%s/received", p->dir);
    assert_int_equal(mkdir(p->own, 0700), 0);
    assert_int_equal(mkdir(p->other, 0700), 0);
    fill(p->own, &ident, OLD, NULL);
}

static void place_remove(struct place *p)
{
    char *command = nb_sprintf("rm -rf %s", p->dir);
    assert_int_equal(system(command), 0);
    nb_free(command);
    nb_free(p->own);
    nb_free(p->other);
    nb_free(p->received);
}

static void S01_a_crash_at_any_call_of_a_replace_leaves_the_old_or_the_new(void **state)
{
    (void)state;
    unsigned old = 0;
    unsigned new = 0;
    int outcome = DIED;
    for (long at = 0; outcome == DIED && at < 500; at++) {
        struct place p;
        place_make(&p);
        fill(p.other, &sender, NEW, p.received);
        outcome = child(p.own, p.received, true, at);
        assert_int_not_equal(outcome, FAILED);
        uint64_t index = index_of(p.own);
        assert_true(index == OLD || index == NEW);
        assert_true(index == NEW || new == 0); /* once new, always new */
        old += index == OLD;
        new += index == NEW;
        assert_true(outcome == DIED || index == NEW);
        if (index == OLD) { /* and it can be done again, with the very file */
            assert_int_equal(child(p.own, p.received, true, -1), DONE);
            assert_int_equal(index_of(p.own), NEW);
        }
        place_remove(&p);
    }
    assert_int_equal(outcome, DONE);
    assert_true(old > 3 && new > 3);
}

static void S10_a_crash_at_any_call_of_a_copy_harms_nothing(void **state)
{
    (void)state;
    int outcome = DIED;
    long at = 0;
    for (; outcome == DIED && at < 500; at++) {
        struct place p;
        place_make(&p);
        outcome = child(p.own, p.received, false, at);
        assert_int_not_equal(outcome, FAILED);
        assert_int_equal(index_of(p.own), OLD);
        (void)unlink(p.received); /* what a start does with leftovers */
        assert_int_equal(child(p.own, p.received, false, -1), DONE);
        struct backend_ident whose;
        struct backend_label label;
        struct nb_buf meta = {0};
        struct nb_buf message = {0};
        assert_int_equal(backend_lmdb_inspect(p.received, &whose, &label, &meta, &message), NB_OK);
        assert_int_equal(label.applied_index, OLD);
        nb_buf_deinit(&meta);
        nb_buf_deinit(&message);
        place_remove(&p);
    }
    assert_int_equal(outcome, DONE);
    assert_true(at > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(S01_a_crash_at_any_call_of_a_replace_leaves_the_old_or_the_new),
        cmocka_unit_test(S10_a_crash_at_any_call_of_a_copy_harms_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

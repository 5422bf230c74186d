#include "storage/disk_linux.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    AIO_DEPTH = 16,
    ZERO_CHUNK_SIZE = 256 * 1024,
    RW_FLAG_DSYNC = 2, /* RWF_DSYNC; linux/fs.h */
};

enum write_mode { MODE_AIO, MODE_THREAD, MODE_THREAD_FDATASYNC, MODE_NO_SYNC, MODE_COUNT };

static const char *const mode_names[MODE_COUNT] = {
    [MODE_AIO] = "aio",
    [MODE_THREAD] = "thread",
    [MODE_THREAD_FDATASYNC] = "thread-fdatasync",
    [MODE_NO_SYNC] = "no-sync",
};

struct disk_file {
    struct disk *disk; /* first: see disk.c */
    int fd;
    int fd_direct; /* for AIO; -1 when not in use */
};

/* A thread that takes requests in order. The list and `stop` are shared under the lock; what was
 * taken belongs to the thread until it is on the disk's done list. */
struct worker {
    struct disk_linux *disk;
    pthread_t thread;
    pthread_cond_t wake;
    struct disk_request *first, **last;
    bool started, stop;
};

struct disk_linux {
    struct disk base;
    enum write_mode mode; /* set once, before any thread starts */
    bool no_sync;
    io_context_t aio;
    bool has_aio;
    unsigned aio_in_flight;
    int event_fd;
    pthread_mutex_t lock; /* over done lists and both workers' queues */
    struct disk_request *done_first, **done_last;
    struct worker writer, helper;
};

static struct disk_linux *linux_of(struct disk *d)
{
    return (struct disk_linux *)(void *)d;
}

/* --- blocking calls ------------------------------------------------------------------------- */

static int open_retry(const char *path, int flags)
{
    int fd;
    do {
        fd = open(path, flags | O_CLOEXEC, 0600);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

static enum nb_status last_error(void)
{
    enum nb_status status = nb_status_of_errno(errno);
    return status == NB_OK ? NB_IO : status;
}

static enum nb_status linux_open(struct disk *d, const char *path, unsigned flags,
                                 struct disk_file **out_file)
{
    struct disk_linux *l = linux_of(d);
    int os_flags = (flags & DISK_READ_WRITE) != 0 ? O_RDWR : O_RDONLY;
    os_flags |= (flags & DISK_CREATE_NEW) != 0 ? O_CREAT | O_EXCL : 0;
    os_flags |= (flags & DISK_TRUNCATE) != 0 ? O_CREAT | O_TRUNC : 0;
    int fd = open_retry(path, os_flags);
    if (fd < 0) {
        return last_error();
    }
    int fd_direct = -1;
    if ((flags & DISK_DIRECT) != 0 && l->mode == MODE_AIO) {
        fd_direct = open_retry(path, O_RDWR | O_DIRECT);
        if (fd_direct < 0) {
            enum nb_status status = last_error();
            (void)close(fd);
            return status;
        }
    }
    struct disk_file *file = nb_alloc(sizeof *file);
    *file = (struct disk_file){.disk = d, .fd = fd, .fd_direct = fd_direct};
    *out_file = file;
    return NB_OK;
}

static void linux_close(struct disk_file *file)
{
    (void)close(file->fd);
    if (file->fd_direct >= 0) {
        (void)close(file->fd_direct);
    }
    nb_free(file);
}

static enum nb_status linux_size(struct disk_file *file, uint64_t *out_size)
{
    struct stat st;
    if (fstat(file->fd, &st) != 0) {
        return last_error();
    }
    *out_size = (uint64_t)st.st_size;
    return NB_OK;
}

static enum nb_status linux_read(struct disk_file *file, uint64_t offset, void *to, size_t len)
{
    uint8_t *at = to;
    while (len != 0) {
        ssize_t n = pread(file->fd, at, len, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return last_error();
        }
        if (n == 0) {
            return NB_TRUNCATED;
        }
        at += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return NB_OK;
}

/* flags != 0: each piece is durable when pwritev2 returns. */
static enum nb_status write_all(int fd, uint64_t offset, const uint8_t *data, size_t len, int flags)
{
    while (len != 0) {
        /* writev takes a pointer to non-const, though it only reads. */
        struct iovec piece = {.iov_len = len};
        memcpy(&piece.iov_base, &data, sizeof data);
        ssize_t n = flags != 0 ? pwritev2(fd, &piece, 1, (off_t)offset, flags)
                               : pwrite(fd, data, len, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return last_error();
        }
        if (n == 0) {
            return NB_IO; /* a write of something that does nothing would never end */
        }
        data += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return NB_OK;
}

static enum nb_status sync_fd(int fd, bool no_sync)
{
    if (no_sync) {
        return NB_OK;
    }
    int result;
    do {
        result = fsync(fd);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? NB_OK : last_error();
}

static enum nb_status linux_write(struct disk_file *file, uint64_t offset, const void *data,
                                  size_t len)
{
    return write_all(file->fd, offset, data, len, 0);
}

static enum nb_status linux_sync(struct disk_file *file)
{
    return sync_fd(file->fd, linux_of(file->disk)->no_sync);
}

static enum nb_status linux_rename(struct disk *d, const char *from, const char *to)
{
    (void)d;
    return rename(from, to) == 0 ? NB_OK : last_error();
}

static enum nb_status linux_unlink(struct disk *d, const char *path)
{
    (void)d;
    return unlink(path) == 0 ? NB_OK : last_error();
}

static enum nb_status linux_mkdir(struct disk *d, const char *path)
{
    (void)d;
    return mkdir(path, 0700) == 0 ? NB_OK : last_error();
}

static enum nb_status linux_sync_dir(struct disk *d, const char *path)
{
    int fd = open_retry(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        return last_error();
    }
    enum nb_status status = sync_fd(fd, linux_of(d)->no_sync);
    (void)close(fd);
    return status;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum nb_status linux_list(struct disk *d, const char *path,
                                 void (*on_name)(void *context, const char *name), void *context)
{
    (void)d;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return last_error();
    }
    char **names = NULL;
    size_t count = 0;
    size_t capacity = 0;
    errno = 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            names = nb_grow(names, &capacity, count + 1, sizeof *names);
            names[count++] = nb_strdup(e->d_name);
        }
        errno = 0;
    }
    enum nb_status status = errno == 0 ? NB_OK : last_error();
    (void)closedir(dir);
    if (count != 0) {
        qsort(names, count, sizeof *names, compare_names);
    }
    for (size_t i = 0; i < count; i++) {
        if (status == NB_OK) {
            on_name(context, names[i]);
        }
        nb_free(names[i]);
    }
    nb_free(names);
    return status;
}

static enum nb_status linux_lock(struct disk *d, const char *path, struct disk_file **out_lock)
{
    int fd = open_retry(path, O_RDWR | O_CREAT);
    if (fd < 0) {
        return last_error();
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        enum nb_status status = errno == EWOULDBLOCK ? NB_LOCKED : last_error();
        (void)close(fd);
        return status;
    }
    struct disk_file *file = nb_alloc(sizeof *file);
    *file = (struct disk_file){.disk = d, .fd = fd, .fd_direct = -1};
    *out_lock = file;
    return NB_OK;
}

/* --- requests on a thread ------------------------------------------------------------------- */

static enum nb_status sync_dir_of(struct disk_linux *l, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = nb_strdup(slash == NULL ? "." : path);
    if (slash != NULL) {
        dir[slash == path ? 1 : slash - path] = '\0';
    }
    enum nb_status status = linux_sync_dir(&l->base, dir);
    nb_free(dir);
    return status;
}

static enum nb_status prepare_file(struct disk_linux *l, const char *path, size_t len)
{
    int fd = open_retry(path, O_RDWR | O_CREAT | O_TRUNC);
    if (fd < 0) {
        return last_error();
    }
    uint8_t *zeros = nb_alloc_zero(1, ZERO_CHUNK_SIZE);
    enum nb_status status = NB_OK;
    for (size_t at = 0; at < len && status == NB_OK; at += ZERO_CHUNK_SIZE) {
        size_t piece = len - at < ZERO_CHUNK_SIZE ? len - at : ZERO_CHUNK_SIZE;
        status = write_all(fd, at, zeros, piece, 0);
    }
    nb_free(zeros);
    if (status == NB_OK) {
        status = sync_fd(fd, l->no_sync);
    }
    (void)close(fd);
    if (status != NB_OK) {
        (void)unlink(path); /* half a file is of no use and takes the space that is short */
        return status;
    }
    return sync_dir_of(l, path);
}

static enum nb_status write_durable(struct disk_linux *l, const struct disk_request *r)
{
    if (l->mode == MODE_NO_SYNC) {
        return write_all(r->file->fd, r->offset, r->data, r->len, 0);
    }
    if (l->mode == MODE_THREAD_FDATASYNC) {
        enum nb_status status = write_all(r->file->fd, r->offset, r->data, r->len, 0);
        return status == NB_OK && fdatasync(r->file->fd) != 0 ? last_error() : status;
    }
    return write_all(r->file->fd, r->offset, r->data, r->len, RW_FLAG_DSYNC);
}

static enum nb_status rename_synced(struct disk_linux *l, const char *from, const char *to)
{
    return rename(from, to) != 0 ? last_error() : sync_dir_of(l, to);
}

static enum nb_status perform(struct disk_linux *l, const struct disk_request *r)
{
    switch (r->kind) {
    case DISK_WRITE:
        return write_durable(l, r);
    case DISK_PREPARE:
        return prepare_file(l, r->path, r->len);
    case DISK_RENAME:
        return rename_synced(l, r->path, r->to);
    case DISK_INSTALL: {
        enum nb_status status = sync_fd(r->file->fd, l->no_sync);
        return status == NB_OK ? rename_synced(l, r->path, r->to) : status;
    }
    case DISK_UNLINK:
        if (unlink(r->path) != 0 && errno != ENOENT) {
            return last_error();
        }
        return sync_dir_of(l, r->path);
    }
    nb_unreachable("a request kind without a body");
}

static void signal_done(struct disk_linux *l)
{
    uint64_t one = 1;
    ssize_t n;
    do {
        n = write(l->event_fd, &one, sizeof one);
    } while (n < 0 && errno == EINTR);
}

static void done_push(struct disk_linux *l, struct disk_request *r) /* with the lock held */
{
    r->next = NULL;
    *l->done_last = r;
    l->done_last = &r->next;
}

static void *worker_main(void *argument)
{
    struct worker *w = argument;
    struct disk_linux *l = w->disk;
    (void)pthread_mutex_lock(&l->lock);
    for (;;) {
        while (w->first == NULL && !w->stop) {
            (void)pthread_cond_wait(&w->wake, &l->lock);
        }
        struct disk_request *r = w->first;
        if (r == NULL) {
            break;
        }
        w->first = r->next;
        if (w->first == NULL) {
            w->last = &w->first;
        }
        (void)pthread_mutex_unlock(&l->lock);
        enum nb_status status = perform(l, r);
        (void)pthread_mutex_lock(&l->lock);
        r->status = status;
        done_push(l, r);
        signal_done(l);
    }
    (void)pthread_mutex_unlock(&l->lock);
    return NULL;
}

static void worker_submit(struct worker *w, struct disk_request *r)
{
    (void)pthread_mutex_lock(&w->disk->lock);
    if (!w->started) {
        nb_assert(pthread_create(&w->thread, NULL, worker_main, w) == 0);
        w->started = true;
    }
    *w->last = r;
    w->last = &r->next;
    (void)pthread_cond_signal(&w->wake);
    (void)pthread_mutex_unlock(&w->disk->lock);
}

static void worker_init(struct worker *w, struct disk_linux *l)
{
    *w = (struct worker){.disk = l};
    w->last = &w->first;
    nb_assert(pthread_cond_init(&w->wake, NULL) == 0);
}

static void worker_deinit(struct worker *w)
{
    if (w->started) {
        (void)pthread_mutex_lock(&w->disk->lock);
        w->stop = true;
        (void)pthread_cond_signal(&w->wake);
        (void)pthread_mutex_unlock(&w->disk->lock);
        (void)pthread_join(w->thread, NULL);
    }
    (void)pthread_cond_destroy(&w->wake);
}

/* --- Linux AIO ------------------------------------------------------------------------------ */

static bool aio_submit(struct disk_linux *l, struct disk_request *r)
{
    if (r->file->fd_direct < 0 || l->aio_in_flight == AIO_DEPTH) {
        return false;
    }
    struct iocb *cb = nb_alloc_zero(1, sizeof *cb);
    cb->data = r;
    cb->aio_lio_opcode = IO_CMD_PWRITE;
    cb->aio_fildes = r->file->fd_direct;
    cb->aio_rw_flags = RW_FLAG_DSYNC;
    memcpy(&cb->u.c.buf, &r->data, sizeof r->data);
    cb->u.c.nbytes = r->len;
    cb->u.c.offset = (long long)r->offset;
    io_set_eventfd(cb, l->event_fd);
    int result;
    do {
        result = io_submit(l->aio, 1, &cb);
    } while (result == -EINTR);
    if (result != 1) {
        nb_free(cb);
        return false; /* nothing was written: the thread does it, and reports what is wrong */
    }
    r->slot = cb;
    l->aio_in_flight++;
    return true;
}

static void aio_take(struct disk_linux *l, const struct io_event *event)
{
    struct disk_request *r = event->data;
    long result = (long)event->res;
    nb_free(r->slot);
    r->slot = NULL;
    l->aio_in_flight--;
    if (result == (long)r->len) {
        r->status = NB_OK;
    } else if (result < 0) {
        r->status = nb_status_of_errno((int)-result);
    } else {
        /* Short: direct writes stop early only at a full or failing device. The rest is written
         * by blocking calls, once, and its error is the request's. [W14] */
        r->status = write_all(r->file->fd_direct, r->offset + (uint64_t)result, r->data + result,
                              r->len - (size_t)result, RW_FLAG_DSYNC);
    }
    (void)pthread_mutex_lock(&l->lock);
    done_push(l, r);
    (void)pthread_mutex_unlock(&l->lock);
}

static void aio_collect(struct disk_linux *l)
{
    while (l->aio_in_flight != 0) {
        struct io_event events[AIO_DEPTH];
        struct timespec now = {0};
        int n;
        do {
            n = io_getevents(l->aio, 0, AIO_DEPTH, events, &now);
        } while (n == -EINTR);
        if (n <= 0) {
            return; /* none ready */
        }
        for (int i = 0; i < n; i++) {
            aio_take(l, &events[i]);
        }
    }
}

/* --- the interface -------------------------------------------------------------------------- */

static void linux_submit(struct disk *d, struct disk_request *r)
{
    struct disk_linux *l = linux_of(d);
    if (r->kind != DISK_WRITE) {
        worker_submit(&l->helper, r);
    } else if (l->mode != MODE_AIO || !aio_submit(l, r)) {
        worker_submit(&l->writer, r);
    }
}

static int linux_completion_fd(struct disk *d)
{
    return linux_of(d)->event_fd;
}

static size_t linux_reap(struct disk *d)
{
    struct disk_linux *l = linux_of(d);
    uint64_t ignored;
    ssize_t n = read(l->event_fd, &ignored, sizeof ignored); /* EAGAIN: nothing was signalled */
    (void)n;
    aio_collect(l);
    (void)pthread_mutex_lock(&l->lock);
    struct disk_request *r = l->done_first;
    l->done_first = NULL;
    l->done_last = &l->done_first;
    (void)pthread_mutex_unlock(&l->lock);
    size_t count = 0;
    while (r != NULL) {
        struct disk_request *next = r->next;
        d->outstanding--;
        r->on_done(r, r->status);
        r = next;
        count++;
    }
    return count;
}

static void wait_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n;
    do {
        n = poll(&p, 1, -1);
    } while (n < 0 && errno == EINTR);
}

static void linux_wait(struct disk *d)
{
    while (d->outstanding != 0 && linux_reap(d) == 0) {
        wait_readable(linux_of(d)->event_fd);
    }
}

static const char *linux_mode(const struct disk *d)
{
    return mode_names[((const struct disk_linux *)(const void *)d)->mode];
}

static void linux_destroy(struct disk *d)
{
    struct disk_linux *l = linux_of(d);
    worker_deinit(&l->writer);
    worker_deinit(&l->helper);
    while (l->aio_in_flight != 0) {
        aio_collect(l);
        if (l->aio_in_flight != 0) {
            wait_readable(l->event_fd);
        }
    }
    if (l->has_aio) {
        (void)io_destroy(l->aio);
    }
    (void)close(l->event_fd);
    (void)pthread_mutex_destroy(&l->lock);
    nb_free(l);
}

static const struct disk_ops linux_ops = {
    .open = linux_open,
    .close = linux_close,
    .size = linux_size,
    .read = linux_read,
    .write = linux_write,
    .sync = linux_sync,
    .rename = linux_rename,
    .unlink = linux_unlink,
    .mkdir = linux_mkdir,
    .sync_dir = linux_sync_dir,
    .list = linux_list,
    .lock = linux_lock,
    .submit = linux_submit,
    .completion_fd = linux_completion_fd,
    .reap = linux_reap,
    .wait = linux_wait,
    .mode = linux_mode,
    .destroy = linux_destroy,
};

/* --- which way of writing works here -------------------------------------------------------- */

static void probe_done(struct disk_request *r, enum nb_status status)
{
    *(enum nb_status *)r->owner = status;
}

/* Writes a block the way the log will. True when it went through, in full. */
static bool probe(struct disk_linux *l, const char *dir, enum write_mode mode)
{
    l->mode = mode;
    char *path = nb_sprintf("%s/probe.%ld.tmp", dir, (long)getpid());
    struct disk_file *file = NULL;
    bool works = false;
    uint8_t *block = NULL;
    enum nb_status status =
        linux_open(&l->base, path, DISK_READ_WRITE | DISK_TRUNCATE | DISK_DIRECT, &file);
    if (status == NB_OK) {
        block = aligned_alloc(DISK_BLOCK_SIZE, DISK_BLOCK_SIZE);
        nb_assert(block != NULL);
        memset(block, 0, DISK_BLOCK_SIZE);
        struct disk_request r = {.kind = DISK_WRITE,
                                 .file = file,
                                 .data = block,
                                 .len = DISK_BLOCK_SIZE,
                                 .on_done = probe_done,
                                 .owner = &status};
        if (mode == MODE_AIO) {
            status = NB_UNSUPPORTED;
            l->base.outstanding++;
            if (aio_submit(l, &r)) {
                linux_wait(&l->base);
            } else {
                l->base.outstanding--;
            }
        } else {
            status = write_durable(l, &r);
        }
        works = status == NB_OK;
        linux_close(file);
        (void)unlink(path);
    }
    free(block);
    nb_free(path);
    return works;
}

static enum write_mode choose_mode(struct disk_linux *l, const struct disk_linux_options *o)
{
    if (o->no_sync) {
        return MODE_NO_SYNC;
    }
    if (!o->no_aio && o->probe_dir != NULL && io_setup(AIO_DEPTH, &l->aio) == 0) {
        l->has_aio = true;
        if (probe(l, o->probe_dir, MODE_AIO)) {
            return MODE_AIO;
        }
    }
    if (!o->no_rwf_dsync && o->probe_dir != NULL && probe(l, o->probe_dir, MODE_THREAD)) {
        return MODE_THREAD;
    }
    return MODE_THREAD_FDATASYNC;
}

enum nb_status disk_linux_create(const struct disk_linux_options *options, struct disk **out_disk)
{
    int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event_fd < 0) {
        return last_error();
    }
    struct disk_linux *l = nb_alloc_zero(1, sizeof *l);
    l->base.ops = &linux_ops;
    l->no_sync = options->no_sync;
    l->event_fd = event_fd;
    l->done_last = &l->done_first;
    nb_assert(pthread_mutex_init(&l->lock, NULL) == 0);
    worker_init(&l->writer, l);
    worker_init(&l->helper, l);
    l->mode = choose_mode(l, options);
    *out_disk = &l->base;
    return NB_OK;
}

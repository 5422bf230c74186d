#include "storage/disk.h"

#include <string.h>

enum nb_status disk_open(struct disk *d, const char *path, unsigned flags,
                         struct disk_file **out_file)
{
    return d->ops->open(d, path, flags, out_file);
}

/* Every handle begins with its disk, so that calls on a file need no second argument. */
struct file_head {
    struct disk *disk;
};

static const struct disk_ops *ops_of(const struct disk_file *file)
{
    return ((const struct file_head *)(const void *)file)->disk->ops;
}

void disk_close(struct disk_file *file)
{
    if (file != NULL) {
        ops_of(file)->close(file);
    }
}

enum nb_status disk_size(struct disk_file *file, uint64_t *out_size)
{
    return ops_of(file)->size(file, out_size);
}

enum nb_status disk_read(struct disk_file *file, uint64_t offset, void *to, size_t len)
{
    return len == 0 ? NB_OK : ops_of(file)->read(file, offset, to, len);
}

enum nb_status disk_write(struct disk_file *file, uint64_t offset, const void *data, size_t len)
{
    return len == 0 ? NB_OK : ops_of(file)->write(file, offset, data, len);
}

enum nb_status disk_sync(struct disk_file *file)
{
    return ops_of(file)->sync(file);
}

enum nb_status disk_rename(struct disk *d, const char *from, const char *to)
{
    return d->ops->rename(d, from, to);
}

enum nb_status disk_unlink(struct disk *d, const char *path)
{
    return d->ops->unlink(d, path);
}

enum nb_status disk_mkdir(struct disk *d, const char *path)
{
    return d->ops->mkdir(d, path);
}

enum nb_status disk_sync_dir(struct disk *d, const char *path)
{
    return d->ops->sync_dir(d, path);
}

enum nb_status disk_list(struct disk *d, const char *path,
                         void (*on_name)(void *context, const char *name), void *context)
{
    return d->ops->list(d, path, on_name, context);
}

enum nb_status disk_lock(struct disk *d, const char *path, struct disk_file **out_lock)
{
    return d->ops->lock(d, path, out_lock);
}

enum nb_status disk_read_file(struct disk *d, const char *path, size_t size_max, struct nb_buf *out)
{
    struct disk_file *file;
    enum nb_status status = disk_open(d, path, DISK_READ_ONLY, &file);
    if (status != NB_OK) {
        return status;
    }
    uint64_t size = 0;
    status = disk_size(file, &size);
    if (status == NB_OK && size > size_max) {
        status = NB_TOO_LARGE;
    }
    if (status == NB_OK) {
        size_t before = out->len;
        uint8_t *to = nb_buf_extend(out, (size_t)size);
        status = disk_read(file, 0, to, (size_t)size);
        if (status != NB_OK) {
            out->len = before;
        }
    }
    disk_close(file);
    return status;
}

enum nb_status disk_write_file(struct disk *d, const char *dir, const char *path,
                               struct nb_bytes content)
{
    char *temp = nb_sprintf("%s.tmp", path);
    struct disk_file *file;
    enum nb_status status = disk_open(d, temp, DISK_READ_WRITE | DISK_TRUNCATE, &file);
    if (status != NB_OK) {
        goto free_temp;
    }
    status = disk_write(file, 0, content.data, content.len);
    if (status == NB_OK) {
        status = disk_sync(file);
    }
    disk_close(file);
    if (status == NB_OK) {
        status = disk_rename(d, temp, path);
    }
    if (status == NB_OK) {
        status = disk_sync_dir(d, dir);
    }
free_temp:
    nb_free(temp);
    return status;
}

void disk_submit(struct disk *d, struct disk_request *request)
{
    nb_assert(request->on_done != NULL);
    if (request->kind == DISK_WRITE) {
        nb_assert(request->offset % DISK_BLOCK_SIZE == 0 && request->len % DISK_BLOCK_SIZE == 0);
        nb_assert((uintptr_t)request->data % DISK_BLOCK_SIZE == 0 && request->len != 0);
    }
    request->next = NULL;
    request->slot = NULL;
    request->status = NB_OK;
    d->outstanding++;
    d->ops->submit(d, request);
}

int disk_completion_fd(struct disk *d)
{
    return d->ops->completion_fd(d);
}

size_t disk_reap(struct disk *d)
{
    return d->ops->reap(d);
}

void disk_wait(struct disk *d)
{
    if (d->outstanding != 0) {
        d->ops->wait(d);
    }
}

const char *disk_mode(const struct disk *d)
{
    return d->ops->mode(d);
}

void disk_destroy(struct disk *d)
{
    if (d != NULL) {
        d->ops->destroy(d);
    }
}

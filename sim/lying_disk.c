#include "sim/cluster.h"

/* Passes everything on but durable writes: those it does as ordinary ones, without a sync. */
struct lying_disk {
    struct disk base;
    struct disk *below; /* borrowed */
    struct disk_request *done, **done_last;
};

static struct lying_disk *lying_of(struct disk *d)
{
    return (struct lying_disk *)(void *)d;
}

static enum nb_status lying_open(struct disk *d, const char *path, unsigned flags,
                                 struct disk_file **out_file)
{
    return disk_open(lying_of(d)->below, path, flags, out_file);
}

static enum nb_status lying_rename(struct disk *d, const char *from, const char *to)
{
    return disk_rename(lying_of(d)->below, from, to);
}

static enum nb_status lying_unlink(struct disk *d, const char *path)
{
    return disk_unlink(lying_of(d)->below, path);
}

static enum nb_status lying_mkdir(struct disk *d, const char *path)
{
    return disk_mkdir(lying_of(d)->below, path);
}

static enum nb_status lying_sync_dir(struct disk *d, const char *path)
{
    return disk_sync_dir(lying_of(d)->below, path);
}

static enum nb_status lying_list(struct disk *d, const char *path,
                                 void (*on_name)(void *context, const char *name), void *context)
{
    return disk_list(lying_of(d)->below, path, on_name, context);
}

static void lying_submit(struct disk *d, struct disk_request *r)
{
    struct lying_disk *l = lying_of(d);
    if (r->kind != DISK_WRITE) {
        disk_submit(l->below, r);
        return;
    }
    r->status = disk_write(r->file, r->offset, r->data, r->len);
    *l->done_last = r;
    l->done_last = &r->next;
}

static size_t lying_reap(struct disk *d)
{
    struct lying_disk *l = lying_of(d);
    struct disk_request *r = l->done;
    l->done = NULL;
    l->done_last = &l->done;
    size_t count = disk_reap(l->below);
    d->outstanding -= count;
    while (r != NULL) {
        struct disk_request *next = r->next;
        d->outstanding--;
        r->on_done(r, r->status);
        r = next;
        count++;
    }
    return count;
}

static void lying_wait(struct disk *d)
{
    (void)disk_memory_step(lying_of(d)->below, 1);
    (void)lying_reap(d);
}

static const char *lying_mode(const struct disk *d)
{
    (void)d;
    return "lying";
}

static void lying_destroy(struct disk *d)
{
    nb_free(lying_of(d));
}

static const struct disk_ops lying_ops = {
    .open = lying_open,
    .rename = lying_rename,
    .unlink = lying_unlink,
    .mkdir = lying_mkdir,
    .sync_dir = lying_sync_dir,
    .list = lying_list,
    .submit = lying_submit,
    .reap = lying_reap,
    .wait = lying_wait,
    .mode = lying_mode,
    .destroy = lying_destroy,
};

struct disk *sim_lying_disk_create(struct disk *below)
{
    struct lying_disk *l = nb_alloc_zero(1, sizeof *l);
    l->base.ops = &lying_ops;
    l->below = below;
    l->done_last = &l->done;
    return &l->base;
}

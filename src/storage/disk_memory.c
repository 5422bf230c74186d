#include "storage/disk_memory.h"

#include "base/random.h"

#include <stdlib.h>
#include <string.h>

/* A file without its names. `seen` is what reads see, `safe` what a crash leaves at least. */
struct inode {
    struct nb_buf seen, safe;
    unsigned uses; /* names in both tables, and handles */
    bool is_dir, locked;
};

struct name {
    char *path; /* owned */
    struct inode *inode;
};

/* Names, sorted by path. */
struct names {
    struct name *list;
    size_t count, capacity;
};

/* A change of names that is not durable yet. */
struct change {
    char *from, *to; /* owned; from NULL: made, to NULL: removed */
    struct inode *inode;
};

struct disk_memory {
    struct disk base;
    struct nb_random random;
    struct names seen, safe;
    struct change *changes;
    size_t change_count, change_capacity;
    struct disk_request *queued, **queued_last;
    struct disk_request *done, **done_last;
    uint64_t calls, fail_call, stop_call, limit, generation;
    enum nb_status fail_status;
};

struct disk_file {
    struct disk *disk; /* first: see disk.c */
    struct inode *inode;
    uint64_t generation; /* of crashes */
    bool is_lock;
};

static struct disk_memory *memory_of(struct disk *d)
{
    return (struct disk_memory *)(void *)d;
}

/* --- names ---------------------------------------------------------------------------------- */

static void inode_release(struct inode *i)
{
    if (--i->uses == 0) {
        nb_buf_deinit(&i->seen);
        nb_buf_deinit(&i->safe);
        nb_free(i);
    }
}

static size_t names_place(const struct names *n, const char *path, bool *out_found)
{
    size_t low = 0;
    size_t high = n->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(n->list[mid].path, path);
        if (order == 0) {
            *out_found = true;
            return mid;
        }
        if (order < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    *out_found = false;
    return low;
}

static struct inode *names_get(const struct names *n, const char *path)
{
    bool found;
    size_t at = names_place(n, path, &found);
    return found ? n->list[at].inode : NULL;
}

static void names_remove(struct names *n, const char *path)
{
    bool found;
    size_t at = names_place(n, path, &found);
    if (found) {
        inode_release(n->list[at].inode);
        nb_free(n->list[at].path);
        n->count--;
        memmove(n->list + at, n->list + at + 1, (n->count - at) * sizeof *n->list);
    }
}

static void names_set(struct names *n, const char *path, struct inode *inode)
{
    inode->uses++;
    names_remove(n, path);
    bool found;
    size_t at = names_place(n, path, &found);
    n->list = nb_grow(n->list, &n->capacity, n->count + 1, sizeof *n->list);
    memmove(n->list + at + 1, n->list + at, (n->count - at) * sizeof *n->list);
    n->list[at] = (struct name){.path = nb_strdup(path), .inode = inode};
    n->count++;
}

static void names_apply(struct names *n, const struct change *c)
{
    if (c->to != NULL) {
        names_set(n, c->to, c->inode);
    }
    if (c->from != NULL) {
        names_remove(n, c->from);
    }
}

static void change_add(struct disk_memory *m, const char *from, const char *to, struct inode *inode)
{
    struct change c = {.from = from == NULL ? NULL : nb_strdup(from),
                       .to = to == NULL ? NULL : nb_strdup(to),
                       .inode = inode};
    inode->uses++;
    names_apply(&m->seen, &c);
    m->changes = nb_grow(m->changes, &m->change_capacity, m->change_count + 1, sizeof *m->changes);
    m->changes[m->change_count++] = c;
}

/* Makes the first `count` changes durable and forgets all of them. */
static void changes_settle(struct disk_memory *m, size_t count)
{
    for (size_t i = 0; i < m->change_count; i++) {
        if (i < count) {
            names_apply(&m->safe, &m->changes[i]);
        }
        inode_release(m->changes[i].inode);
        nb_free(m->changes[i].from);
        nb_free(m->changes[i].to);
    }
    m->change_count = 0;
}

/* --- faults --------------------------------------------------------------------------------- */

/* Counts a call and says whether it may go on. */
static enum nb_status enter(struct disk_memory *m)
{
    uint64_t call = m->calls++;
    if (call >= m->stop_call) {
        return NB_IO;
    }
    return call == m->fail_call ? m->fail_status : NB_OK;
}

static bool stopped(const struct disk_memory *m)
{
    return m->calls > m->stop_call;
}

static uint64_t bytes_used(const struct disk_memory *m)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < m->seen.count; i++) {
        sum += m->seen.list[i].inode->seen.len;
    }
    return sum;
}

static void grow_to(struct nb_buf *b, uint64_t len)
{
    if (b->len < len) {
        size_t extra = (size_t)len - b->len;
        memset(nb_buf_extend(b, extra), 0, extra);
    }
}

static enum nb_status put_content(struct disk_memory *m, struct inode *i, uint64_t offset,
                                  const uint8_t *data, size_t len)
{
    uint64_t end = offset + len;
    if (end > i->seen.len && bytes_used(m) + (end - i->seen.len) > m->limit) {
        return NB_NO_SPACE_DISK;
    }
    grow_to(&i->seen, end);
    memcpy(i->seen.data + offset, data, len);
    return NB_OK;
}

static void make_safe(struct inode *i)
{
    nb_buf_clear(&i->safe);
    nb_buf_append(&i->safe, i->seen.data, i->seen.len);
}

/* What survives of content that was not synced: any of its sectors. */
static void keep_some(struct disk_memory *m, struct inode *i)
{
    if (i->seen.len > i->safe.len && nb_random_chance(&m->random, 1, 2)) {
        grow_to(&i->safe, i->seen.len);
    }
    unsigned chance = (unsigned)nb_random_below(&m->random, 5);
    for (size_t at = 0; at < i->safe.len && at < i->seen.len; at += DISK_SECTOR_SIZE) {
        size_t len = i->safe.len - at < DISK_SECTOR_SIZE ? i->safe.len - at : DISK_SECTOR_SIZE;
        len = i->seen.len - at < len ? i->seen.len - at : len;
        if (memcmp(i->safe.data + at, i->seen.data + at, len) != 0 &&
            nb_random_chance(&m->random, chance, 4)) {
            memcpy(i->safe.data + at, i->seen.data + at, len);
        }
    }
}

/* --- blocking calls ------------------------------------------------------------------------- */

static enum nb_status memory_open(struct disk *d, const char *path, unsigned flags,
                                  struct disk_file **out_file)
{
    struct disk_memory *m = memory_of(d);
    enum nb_status status = enter(m);
    if (status != NB_OK) {
        return status;
    }
    struct inode *inode = names_get(&m->seen, path);
    if (inode != NULL && inode->is_dir) {
        return NB_IO;
    }
    if (inode != NULL && (flags & DISK_CREATE_NEW) != 0) {
        return NB_EXISTS;
    }
    if (inode == NULL) {
        if ((flags & (DISK_CREATE_NEW | DISK_TRUNCATE)) == 0) {
            return NB_NOT_FOUND;
        }
        inode = nb_alloc_zero(1, sizeof *inode);
        change_add(m, NULL, path, inode);
    } else if ((flags & DISK_TRUNCATE) != 0) {
        nb_buf_clear(&inode->seen);
    }
    struct disk_file *file = nb_alloc(sizeof *file);
    *file = (struct disk_file){.disk = d, .inode = inode, .generation = m->generation};
    inode->uses++;
    *out_file = file;
    return NB_OK;
}

static void memory_close(struct disk_file *file)
{
    if (file->is_lock && file->generation == memory_of(file->disk)->generation) {
        file->inode->locked = false;
    }
    inode_release(file->inode);
    nb_free(file);
}

static enum nb_status memory_size(struct disk_file *file, uint64_t *out_size)
{
    *out_size = file->inode->seen.len;
    return NB_OK;
}

static enum nb_status memory_read(struct disk_file *file, uint64_t offset, void *to, size_t len)
{
    enum nb_status status = enter(memory_of(file->disk));
    if (status != NB_OK) {
        return status;
    }
    const struct nb_buf *b = &file->inode->seen;
    if (offset > b->len || len > b->len - offset) {
        return NB_TRUNCATED;
    }
    memcpy(to, b->data + offset, len);
    return NB_OK;
}

static enum nb_status memory_write(struct disk_file *file, uint64_t offset, const void *data,
                                   size_t len)
{
    struct disk_memory *m = memory_of(file->disk);
    enum nb_status status = enter(m);
    if (status != NB_OK) {
        if (!stopped(m)) {
            (void)put_content(m, file->inode, offset, data, len / 2);
        }
        return status;
    }
    return put_content(m, file->inode, offset, data, len);
}

static enum nb_status memory_sync(struct disk_file *file)
{
    enum nb_status status = enter(memory_of(file->disk));
    if (status == NB_OK) {
        make_safe(file->inode);
    }
    return status;
}

static enum nb_status do_rename(struct disk_memory *m, const char *from, const char *to)
{
    struct inode *inode = names_get(&m->seen, from);
    if (inode == NULL) {
        return NB_NOT_FOUND;
    }
    change_add(m, from, to, inode);
    return NB_OK;
}

static enum nb_status do_unlink(struct disk_memory *m, const char *path)
{
    struct inode *inode = names_get(&m->seen, path);
    if (inode == NULL) {
        return NB_NOT_FOUND;
    }
    change_add(m, path, NULL, inode);
    return NB_OK;
}

static enum nb_status memory_rename(struct disk *d, const char *from, const char *to)
{
    enum nb_status status = enter(memory_of(d));
    return status == NB_OK ? do_rename(memory_of(d), from, to) : status;
}

static enum nb_status memory_unlink(struct disk *d, const char *path)
{
    enum nb_status status = enter(memory_of(d));
    return status == NB_OK ? do_unlink(memory_of(d), path) : status;
}

static enum nb_status memory_mkdir(struct disk *d, const char *path)
{
    struct disk_memory *m = memory_of(d);
    enum nb_status status = enter(m);
    if (status != NB_OK) {
        return status;
    }
    if (names_get(&m->seen, path) != NULL) {
        return NB_EXISTS;
    }
    struct inode *inode = nb_alloc_zero(1, sizeof *inode);
    inode->is_dir = true;
    change_add(m, NULL, path, inode);
    return NB_OK;
}

/* Journals make names durable in the order of their changes, so those of other folders come along.
 */
static enum nb_status memory_sync_dir(struct disk *d, const char *path)
{
    (void)path;
    struct disk_memory *m = memory_of(d);
    enum nb_status status = enter(m);
    if (status == NB_OK) {
        changes_settle(m, m->change_count);
    }
    return status;
}

static enum nb_status memory_list(struct disk *d, const char *path,
                                  void (*on_name)(void *context, const char *name), void *context)
{
    struct disk_memory *m = memory_of(d);
    enum nb_status status = enter(m);
    if (status != NB_OK) {
        return status;
    }
    size_t len = strlen(path);
    for (size_t i = 0; i < m->seen.count; i++) {
        const char *name = m->seen.list[i].path;
        if (strncmp(name, path, len) == 0 && name[len] == '/' &&
            strchr(name + len + 1, '/') == NULL) {
            on_name(context, name + len + 1);
        }
    }
    return NB_OK;
}

static enum nb_status memory_lock(struct disk *d, const char *path, struct disk_file **out_lock)
{
    struct disk_memory *m = memory_of(d);
    unsigned flags =
        DISK_READ_WRITE | (names_get(&m->seen, path) == NULL ? (unsigned)DISK_CREATE_NEW : 0u);
    struct disk_file *file;
    enum nb_status status = memory_open(d, path, flags, &file);
    if (status != NB_OK) {
        return status;
    }
    if (file->inode->locked) {
        memory_close(file);
        return NB_LOCKED;
    }
    file->inode->locked = true;
    file->is_lock = true;
    *out_lock = file;
    return NB_OK;
}

/* --- requests ------------------------------------------------------------------------------- */

static enum nb_status do_prepare(struct disk_memory *m, const char *path, size_t len)
{
    if (names_get(&m->seen, path) != NULL) {
        (void)do_unlink(m, path);
    }
    if (bytes_used(m) + len > m->limit) {
        return NB_NO_SPACE_DISK;
    }
    struct inode *inode = nb_alloc_zero(1, sizeof *inode);
    change_add(m, NULL, path, inode);
    grow_to(&inode->seen, len);
    make_safe(inode);
    changes_settle(m, m->change_count);
    return NB_OK;
}

/* A write that is on its way: some of its sectors reach the device. */
static void write_some(struct disk_memory *m, const struct disk_request *r)
{
    struct inode *i = r->file->inode;
    (void)put_content(m, i, r->offset, r->data, r->len);
    keep_some(m, i);
}

static enum nb_status perform(struct disk_memory *m, struct disk_request *r)
{
    enum nb_status status = enter(m);
    if (status != NB_OK) {
        if (r->kind == DISK_WRITE && !stopped(m)) {
            write_some(m, r);
        }
        return status;
    }
    switch (r->kind) {
    case DISK_WRITE:
        status = put_content(m, r->file->inode, r->offset, r->data, r->len);
        if (status == NB_OK) {
            grow_to(&r->file->inode->safe, r->offset + r->len);
            memcpy(r->file->inode->safe.data + r->offset, r->data, r->len);
        }
        return status;
    case DISK_PREPARE:
        return do_prepare(m, r->path, r->len);
    case DISK_RENAME:
        status = do_rename(m, r->path, r->to);
        break;
    case DISK_INSTALL:
        make_safe(r->file->inode);
        status = do_rename(m, r->path, r->to);
        break;
    case DISK_UNLINK:
        (void)do_unlink(m, r->path); /* a name that is not there is success */
        break;
    }
    if (status == NB_OK) {
        changes_settle(m, m->change_count);
    }
    return status;
}

static void memory_submit(struct disk *d, struct disk_request *r)
{
    struct disk_memory *m = memory_of(d);
    *m->queued_last = r;
    m->queued_last = &r->next;
}

static void unlink_from_queue(struct disk_memory *m, struct disk_request **link)
{
    struct disk_request *r = *link;
    *link = r->next;
    if (m->queued_last == &r->next) {
        m->queued_last = link;
    }
    r->next = NULL;
}

/* Any write, or the first of the others. */
static struct disk_request **pick(struct disk_memory *m)
{
    size_t eligible = 0;
    struct disk_request **choice = &m->queued;
    bool other_seen = false;
    for (struct disk_request **link = &m->queued; *link != NULL; link = &(*link)->next) {
        bool is_write = (*link)->kind == DISK_WRITE;
        if (!is_write && other_seen) {
            continue;
        }
        other_seen = other_seen || !is_write;
        if (nb_random_below(&m->random, ++eligible) == 0) {
            choice = link;
        }
    }
    return choice;
}

size_t disk_memory_step(struct disk *d, size_t count)
{
    struct disk_memory *m = memory_of(d);
    size_t stepped = 0;
    while (m->queued != NULL && stepped < count) {
        struct disk_request **link = pick(m);
        struct disk_request *r = *link;
        unlink_from_queue(m, link);
        r->status = perform(m, r);
        *m->done_last = r;
        m->done_last = &r->next;
        stepped++;
    }
    return stepped;
}

static size_t memory_reap(struct disk *d)
{
    struct disk_memory *m = memory_of(d);
    struct disk_request *r = m->done;
    m->done = NULL;
    m->done_last = &m->done;
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

static void memory_wait(struct disk *d)
{
    (void)disk_memory_step(d, 1);
    (void)memory_reap(d);
}

static int memory_completion_fd(struct disk *d)
{
    (void)d;
    return -1;
}

static const char *memory_mode(const struct disk *d)
{
    (void)d;
    return "memory";
}

static void names_free(struct names *n)
{
    for (size_t i = 0; i < n->count; i++) {
        inode_release(n->list[i].inode);
        nb_free(n->list[i].path);
    }
    nb_free(n->list);
    *n = (struct names){0};
}

static void memory_destroy(struct disk *d)
{
    struct disk_memory *m = memory_of(d);
    changes_settle(m, 0);
    nb_free(m->changes);
    names_free(&m->seen);
    names_free(&m->safe);
    nb_free(m);
}

void disk_memory_crash(struct disk *d)
{
    struct disk_memory *m = memory_of(d);
    for (struct disk_request *r = m->queued; r != NULL; r = r->next) {
        if (r->kind == DISK_WRITE && nb_random_chance(&m->random, 3, 4)) {
            write_some(m, r);
        }
    }
    *m->done_last = m->queued;
    m->done_last = m->queued == NULL ? m->done_last : m->queued_last;
    m->queued = NULL;
    m->queued_last = &m->queued;
    for (struct disk_request *r = m->done; r != NULL; r = r->next) {
        r->status = NB_CLOSED;
    }
    m->stop_call = UINT64_MAX;
    m->fail_call = UINT64_MAX;
    m->generation++;
    changes_settle(m, (size_t)nb_random_below(&m->random, m->change_count + 1));
    names_free(&m->seen);
    for (size_t i = 0; i < m->safe.count; i++) {
        struct inode *inode = m->safe.list[i].inode;
        keep_some(m, inode);
        nb_buf_clear(&inode->seen);
        nb_buf_append(&inode->seen, inode->safe.data, inode->safe.len);
        inode->locked = false;
        names_set(&m->seen, m->safe.list[i].path, inode);
    }
}

static const struct disk_ops memory_ops = {
    .open = memory_open,
    .close = memory_close,
    .size = memory_size,
    .read = memory_read,
    .write = memory_write,
    .sync = memory_sync,
    .rename = memory_rename,
    .unlink = memory_unlink,
    .mkdir = memory_mkdir,
    .sync_dir = memory_sync_dir,
    .list = memory_list,
    .lock = memory_lock,
    .submit = memory_submit,
    .completion_fd = memory_completion_fd,
    .reap = memory_reap,
    .wait = memory_wait,
    .mode = memory_mode,
    .destroy = memory_destroy,
};

struct disk *disk_memory_create(uint64_t seed)
{
    struct disk_memory *m = nb_alloc_zero(1, sizeof *m);
    m->base.ops = &memory_ops;
    nb_random_init(&m->random, seed);
    m->queued_last = &m->queued;
    m->done_last = &m->done;
    m->fail_call = UINT64_MAX;
    m->stop_call = UINT64_MAX;
    m->limit = UINT64_MAX;
    return &m->base;
}

uint64_t disk_memory_calls(const struct disk *d)
{
    return ((const struct disk_memory *)(const void *)d)->calls;
}

void disk_memory_fail_at(struct disk *d, uint64_t call, enum nb_status status)
{
    struct disk_memory *m = memory_of(d);
    m->fail_call = status == NB_OK ? UINT64_MAX : m->calls + call;
    m->fail_status = status;
}

void disk_memory_stop_at(struct disk *d, uint64_t call)
{
    memory_of(d)->stop_call = memory_of(d)->calls + call;
}

void disk_memory_limit(struct disk *d, uint64_t bytes)
{
    memory_of(d)->limit = bytes;
}

uint8_t *disk_memory_content(struct disk *d, const char *path, size_t *out_len)
{
    struct disk_memory *m = memory_of(d);
    struct inode *inode = names_get(&m->seen, path);
    if (inode == NULL) {
        return NULL;
    }
    make_safe(inode);
    changes_settle(m, m->change_count);
    *out_len = inode->seen.len;
    return inode->seen.data;
}

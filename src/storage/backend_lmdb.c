#include "storage/backend_lmdb.h"

#include "storage/backend_batch.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const uint64_t map_size_default = 64ull << 30;
static const uint64_t map_size_least = 1ull << 30;

enum {
    RESERVE_AHEAD = 4 << 20,  /* bytes taken from the disk beyond what a commit may need */
    PAGES_AT_LEAST = 64,      /* roots, branches and free lists of a small commit */
    TREE_DEPTH_TOUCHED = 3,   /* pages above a leaf that a change may copy */
    PAGE_LINKS_PER_PAGE = 500 /* page numbers that a page of the free list holds, about */
};

static const char *const table_names[BACKEND_TABLE_COUNT] = {
    [BACKEND_KEY] = "key",
    [BACKEND_META] = "meta",
    [BACKEND_LEASE] = "lease",
    [BACKEND_AUTH] = "auth",
    [BACKEND_AUTH_USERS] = "authUsers",
    [BACKEND_AUTH_ROLES] = "authRoles",
    [BACKEND_MEMBERS] = "members",
    [BACKEND_ALARM] = "alarm",
};

/* A copy under way; owned by its thread until `done`. */
struct copy {
    struct lmdb *backend;
    pthread_t thread;
    char *path; /* owned */
    void (*on_done)(void *context, enum nb_status status, const char *text);
    void *context;
    enum nb_status status;
    char text[160];
    bool done; /* under the lock */
};

struct lmdb {
    struct backend base;
    char *dir, *file; /* owned */
    struct backend_ident ident;
    struct backend_lmdb_options options;
    MDB_env *env;
    MDB_dbi tables[BACKEND_TABLE_COUNT];
    bool has_table[BACKEND_TABLE_COUNT]; /* all, but for read-only opens of older files */
    /* The loop's. */
    MDB_txn *view;
    unsigned cursors;
    struct backend_label label; /* of the view; meta in label_bytes */
    struct nb_buf label_bytes;
    struct backend_batch *open;
    uint64_t next_number, committed, label_index_last;
    size_t pending_bytes;
    enum nb_status status;
    char text[160];
    struct copy *copy;
    int event_fd;
    uint64_t reserved; /* bytes of the file that have their room on the disk; the thread's */
    /* The queue: all of it under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool started, stop, paused; /* paused: a commit failed; the loop must say how to go on */
    struct backend_batch *queued, **queued_last;
    struct backend_batch *done, **done_last;
    enum nb_status done_status;
    char done_text[160];
    bool working;
};

static struct lmdb *lmdb_of(struct backend *b)
{
    return (struct lmdb *)(void *)b;
}

static const struct lmdb *lmdb_of_const(const struct backend *b)
{
    return (const struct lmdb *)(const void *)b;
}

struct backend_cursor {
    struct backend *backend; /* first: see backend.c */
    MDB_cursor *cursor;
    struct nb_buf from, to;
    bool begun, ended;
};

static MDB_val val_of(struct nb_bytes b)
{
    MDB_val v = {.mv_size = b.len};
    memcpy(&v.mv_data, &b.data, sizeof b.data); /* LMDB reads through a pointer to non-const */
    return v;
}

static struct nb_bytes bytes_of(MDB_val v)
{
    return nb_bytes_of(v.mv_data, v.mv_size);
}

static enum nb_status status_of(int result)
{
    if (result == 0) {
        return NB_OK;
    }
    if (result == MDB_MAP_FULL) {
        return NB_NO_SPACE_DISK;
    }
    if (result == MDB_CORRUPTED || result == MDB_PAGE_NOTFOUND || result == MDB_INVALID) {
        return NB_CORRUPT;
    }
    if (result == MDB_VERSION_MISMATCH) {
        return NB_VERSION;
    }
    if (result > 0) {
        enum nb_status status = nb_status_of_errno(result);
        return status == NB_OK ? NB_IO : status;
    }
    return NB_IO;
}

/* --- the backend thread --------------------------------------------------------------------- */

static int put_change(struct lmdb *l, MDB_txn *txn, const struct backend_change *c,
                      bool *append_works)
{
    MDB_val key = val_of(c->key);
    if (c->is_delete) {
        int result = mdb_del(txn, l->tables[c->table], &key, NULL);
        return result == MDB_NOTFOUND ? 0 : result;
    }
    MDB_val value = val_of(c->value);
    if (c->table == BACKEND_KEY && *append_works) {
        int result = mdb_put(txn, l->tables[c->table], &key, &value, MDB_APPEND);
        if (result != MDB_KEYEXIST) {
            return result;
        }
        *append_works = false; /* out of order: this batch goes the ordinary way */
    }
    value = val_of(c->value);
    return mdb_put(txn, l->tables[c->table], &key, &value, 0);
}

static int put_label(struct lmdb *l, MDB_txn *txn, const struct backend_label *label)
{
    struct nb_buf bytes = {0};
    backend_label_encode(label, &bytes);
    MDB_val key = val_of(backend_key_label);
    MDB_val value = val_of(nb_buf_bytes(&bytes));
    int result = mdb_put(txn, l->tables[BACKEND_META], &key, &value, 0);
    nb_buf_deinit(&bytes);
    return result;
}

/* --- room on the disk, before it is needed [W13] ---------------------------------------------- */

/* How many pages a commit of these batches may append to the file: what is put, on pages that may
 * be half full, the pages of the tree that are copied to be changed, and the lists of freed ones.
 */
static uint64_t pages_wanted(const struct backend_batch *first, const MDB_stat *tree)
{
    uint64_t put = 0;
    uint64_t elsewhere = 0; /* changes that need not lie side by side at the end of the key table */
    for (const struct backend_batch *b = first; b != NULL; b = b->next) {
        for (size_t i = 0; i < b->change_count; i++) {
            const struct backend_change *c = &b->changes[i];
            put += c->key.len + c->value.len + 32;
            elsewhere += c->is_delete || c->table != BACKEND_KEY;
        }
    }
    uint64_t tree_pages = tree->ms_leaf_pages + tree->ms_branch_pages + BACKEND_TABLE_COUNT;
    uint64_t copied = elsewhere * (1 + TREE_DEPTH_TOUCHED);
    copied = copied < tree_pages ? copied : tree_pages;
    uint64_t pages = 2 * (put / tree->ms_psize) + copied;
    return pages + pages / PAGE_LINKS_PER_PAGE + PAGES_AT_LEAST;
}

static bool has_room(int fd, uint64_t more)
{
    struct statvfs v;
    return fstatvfs(fd, &v) != 0 || (uint64_t)v.f_bavail * v.f_frsize >= more;
}

/* Takes [from, to) of the file from the disk, without making the file longer. */
static int take_room(int fd, uint64_t from, uint64_t to)
{
    int result;
    do {
        result = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from));
    } while (result != 0 && errno == EINTR);
    if (result == 0) {
        return 0;
    }
    if (errno == EOPNOTSUPP || errno == ENOSYS) {
        return has_room(fd, to - from) ? 0 : ENOSPC; /* asked, not taken: the next best */
    }
    return errno;
}

/* A commit must not find the disk full half-way: LMDB calls a write cut short an input/output error
 * and cannot be told from a broken disk. So the room is taken before the first byte is written. */
static int reserve(struct lmdb *l, MDB_txn *txn, const struct backend_batch *first)
{
    MDB_envinfo info;
    MDB_stat tree;
    mdb_filehandle_t fd;
    int result = mdb_stat(txn, l->tables[BACKEND_KEY], &tree);
    if (result != 0 || (result = mdb_env_info(l->env, &info)) != 0 ||
        (result = mdb_env_get_fd(l->env, &fd)) != 0) {
        return result;
    }
    uint64_t end = (info.me_last_pgno + 1 + pages_wanted(first, &tree)) * tree.ms_psize;
    if (end <= l->reserved) {
        return 0;
    }
    uint64_t ahead = end + RESERVE_AHEAD;
    if (take_room(fd, l->reserved, ahead) == 0) {
        l->reserved = ahead;
        return 0;
    }
    result = take_room(fd, l->reserved, end);
    l->reserved = result == 0 ? end : l->reserved;
    return result;
}

/* Where room cannot be taken ahead of time, a write cut short says EIO: on a full disk that is what
 * it means. Nothing of a failed transaction is trusted later, so it may be tried again. */
static int explain(struct lmdb *l, const struct backend_batch *first, int result)
{
    mdb_filehandle_t fd;
    uint64_t bytes = RESERVE_AHEAD;
    for (const struct backend_batch *b = first; b != NULL; b = b->next) {
        bytes += b->bytes;
    }
    if (result != EIO || mdb_env_get_fd(l->env, &fd) != 0) {
        return result;
    }
    return has_room(fd, bytes) ? EIO : ENOSPC;
}

/* All batches of the list in one transaction, with the label of the last. */
static int commit_list(struct lmdb *l, const struct backend_batch *first)
{
    MDB_txn *txn;
    int result = mdb_txn_begin(l->env, NULL, 0, &txn);
    if (result != 0) {
        return result;
    }
    result = reserve(l, txn, first);
    bool append_works = true;
    for (const struct backend_batch *b = first; b != NULL && result == 0; b = b->next) {
        for (size_t i = 0; i < b->change_count && result == 0; i++) {
            result = put_change(l, txn, &b->changes[i], &append_works);
        }
        if (result == 0 && b->next == NULL) {
            result = put_label(l, txn, &b->label);
        }
    }
    if (result != 0) {
        mdb_txn_abort(txn);
        return explain(l, first, result);
    }
    return explain(l, first, mdb_txn_commit(txn));
}

static void signal_loop(struct lmdb *l)
{
    uint64_t one = 1;
    ssize_t n;
    do {
        n = write(l->event_fd, &one, sizeof one);
    } while (n < 0 && errno == EINTR);
}

static void *thread_main(void *argument)
{
    struct lmdb *l = argument;
    (void)pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->stop && (l->queued == NULL || l->paused)) {
            (void)pthread_cond_wait(&l->wake, &l->lock);
        }
        if (l->queued == NULL || l->paused) {
            break;
        }
        struct backend_batch *list = l->queued;
        struct backend_batch **list_last = l->queued_last;
        l->queued = NULL;
        l->queued_last = &l->queued;
        l->working = true;
        (void)pthread_mutex_unlock(&l->lock);
        int result = commit_list(l, list);
        (void)pthread_mutex_lock(&l->lock);
        l->working = false;
        if (result == 0) {
            *l->done_last = list;
            l->done_last = list_last;
        } else {
            /* B4: back to the head of the queue, in order. */
            *list_last = l->queued;
            l->queued_last = l->queued == NULL ? list_last : l->queued_last;
            l->queued = list;
            l->paused = true;
            l->done_status = status_of(result);
            (void)snprintf(l->done_text, sizeof l->done_text, "commit to %s failed: %s", l->file,
                           mdb_strerror(result));
        }
        signal_loop(l);
    }
    (void)pthread_mutex_unlock(&l->lock);
    return NULL;
}

static void thread_stop(struct lmdb *l)
{
    if (l->started) {
        (void)pthread_mutex_lock(&l->lock);
        l->stop = true;
        (void)pthread_cond_signal(&l->wake);
        (void)pthread_mutex_unlock(&l->lock);
        (void)pthread_join(l->thread, NULL);
        l->started = false;
    }
}

/* --- the open batch ------------------------------------------------------------------------- */

static uint8_t *lmdb_batch_reserve(struct backend *b, enum backend_table table, struct nb_bytes key,
                                   size_t value_len)
{
    return backend_batch_add(lmdb_of(b)->open, table, key, value_len);
}

static void lmdb_batch_delete(struct backend *b, enum backend_table table, struct nb_bytes key)
{
    backend_batch_add_delete(lmdb_of(b)->open, table, key);
}

static size_t lmdb_batch_bytes(const struct backend *b)
{
    return lmdb_of_const(b)->open->bytes;
}

static uint64_t lmdb_commit(struct backend *b, const struct backend_label *label)
{
    struct lmdb *l = lmdb_of(b);
    nb_assert(!l->options.read_only && label->applied_index >= l->label_index_last);
    l->label_index_last = label->applied_index;
    struct backend_batch *batch = l->open;
    uint64_t number = l->next_number++;
    backend_batch_seal(batch, label, number);
    l->pending_bytes += batch->bytes;
    l->open = backend_batch_create();
    (void)pthread_mutex_lock(&l->lock);
    if (!l->started) {
        nb_assert(pthread_create(&l->thread, NULL, thread_main, l) == 0);
        l->started = true;
    }
    *l->queued_last = batch;
    l->queued_last = &batch->next;
    (void)pthread_cond_signal(&l->wake);
    (void)pthread_mutex_unlock(&l->lock);
    return number;
}

/* --- completions ---------------------------------------------------------------------------- */

static int lmdb_completion_fd(struct backend *b)
{
    return lmdb_of(b)->event_fd;
}

static int read_label(struct lmdb *l)
{
    MDB_val key = val_of(backend_key_label);
    MDB_val value;
    int result = mdb_get(l->view, l->tables[BACKEND_META], &key, &value);
    nb_buf_clear(&l->label_bytes);
    l->label = (struct backend_label){0};
    if (result == 0) {
        nb_buf_append_bytes(&l->label_bytes, bytes_of(value));
        if (!backend_label_decode(nb_buf_bytes(&l->label_bytes), &l->label)) {
            return MDB_CORRUPTED;
        }
    }
    return result == MDB_NOTFOUND ? 0 : result;
}

static void view_renew(struct lmdb *l)
{
    nb_assert(l->cursors == 0);
    mdb_txn_reset(l->view);
    int result = mdb_txn_renew(l->view);
    if (result == 0) {
        result = read_label(l);
    }
    if (result != 0) {
        l->status = status_of(result);
        (void)snprintf(l->text, sizeof l->text, "cannot read %s: %s", l->file,
                       mdb_strerror(result));
    }
}

static void reap_copy(struct lmdb *l)
{
    struct copy *c = l->copy;
    if (c == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&l->lock);
    bool done = c->done;
    (void)pthread_mutex_unlock(&l->lock);
    if (done) {
        (void)pthread_join(c->thread, NULL);
        l->copy = NULL;
        c->on_done(c->context, c->status, c->text);
        nb_free(c->path);
        nb_free(c);
    }
}

static size_t lmdb_reap(struct backend *b)
{
    struct lmdb *l = lmdb_of(b);
    uint64_t ignored;
    ssize_t n = read(l->event_fd, &ignored, sizeof ignored); /* EAGAIN: nothing was signalled */
    (void)n;
    (void)pthread_mutex_lock(&l->lock);
    struct backend_batch *batch = l->done;
    l->done = NULL;
    l->done_last = &l->done;
    if (l->paused) {
        l->status = l->done_status;
        memcpy(l->text, l->done_text, sizeof l->text);
    }
    (void)pthread_mutex_unlock(&l->lock);
    size_t count = 0;
    if (batch != NULL) {
        view_renew(l);
    }
    while (batch != NULL) {
        struct backend_batch *next = batch->next;
        l->committed = batch->number;
        l->pending_bytes -= batch->bytes;
        backend_batch_destroy(batch);
        batch = next;
        count++;
    }
    reap_copy(l);
    return count;
}

static bool is_busy(struct lmdb *l)
{
    (void)pthread_mutex_lock(&l->lock);
    bool busy = l->working || (l->queued != NULL && !l->paused);
    (void)pthread_mutex_unlock(&l->lock);
    return busy || l->copy != NULL;
}

static void lmdb_wait(struct backend *b)
{
    struct lmdb *l = lmdb_of(b);
    (void)lmdb_reap(b);
    while (is_busy(l)) {
        struct pollfd p = {.fd = l->event_fd, .events = POLLIN};
        (void)poll(&p, 1, -1);
        (void)lmdb_reap(b);
    }
    (void)lmdb_reap(b);
}

static uint64_t lmdb_committed(const struct backend *b)
{
    return lmdb_of_const(b)->committed;
}

static size_t lmdb_pending_bytes(const struct backend *b)
{
    return lmdb_of_const(b)->pending_bytes;
}

static enum nb_status lmdb_status(const struct backend *b, const char **out_text)
{
    const struct lmdb *l = lmdb_of_const(b);
    if (out_text != NULL) {
        *out_text = l->text;
    }
    return l->status;
}

static void lmdb_retry(struct backend *b)
{
    struct lmdb *l = lmdb_of(b);
    if (l->status != NB_NO_SPACE_DISK) {
        return;
    }
    l->status = NB_OK;
    l->text[0] = '\0';
    (void)pthread_mutex_lock(&l->lock);
    l->paused = false;
    (void)pthread_cond_signal(&l->wake);
    (void)pthread_mutex_unlock(&l->lock);
}

/* --- the view ------------------------------------------------------------------------------- */

static const struct backend_label *lmdb_label(const struct backend *b)
{
    return &lmdb_of_const(b)->label;
}

static bool lmdb_get(struct backend *b, enum backend_table table, struct nb_bytes key,
                     struct nb_bytes *out_value)
{
    struct lmdb *l = lmdb_of(b);
    if (key.len == 0 || key.len > BACKEND_KEY_SIZE_MAX || !l->has_table[table]) {
        return false;
    }
    MDB_val k = val_of(key);
    MDB_val v;
    int result = mdb_get(l->view, l->tables[table], &k, &v);
    nb_assert(result == 0 || result == MDB_NOTFOUND);
    if (result == 0) {
        *out_value = bytes_of(v);
    }
    return result == 0;
}

static struct backend_cursor *lmdb_cursor_open(struct backend *b, enum backend_table table,
                                               struct nb_bytes from, struct nb_bytes to)
{
    struct lmdb *l = lmdb_of(b);
    struct backend_cursor *c = nb_alloc_zero(1, sizeof *c);
    c->backend = b;
    nb_buf_append_bytes(&c->from, from);
    nb_buf_append_bytes(&c->to, to);
    c->ended = !l->has_table[table];
    if (!c->ended) {
        nb_assert(mdb_cursor_open(l->view, l->tables[table], &c->cursor) == 0);
    }
    l->cursors++;
    return c;
}

static bool lmdb_cursor_next(struct backend_cursor *c, struct nb_bytes *out_key,
                             struct nb_bytes *out_value)
{
    for (;;) {
        if (c->ended) {
            return false;
        }
        MDB_val k = val_of(nb_buf_bytes(&c->from));
        MDB_val v;
        MDB_cursor_op op = c->begun ? MDB_NEXT : c->from.len == 0 ? MDB_FIRST : MDB_SET_RANGE;
        int result = mdb_cursor_get(c->cursor, &k, &v, op);
        nb_assert(result == 0 || result == MDB_NOTFOUND);
        c->begun = true;
        struct nb_bytes key = bytes_of(k);
        if (result != 0 || (c->to.len != 0 && nb_bytes_compare(key, nb_buf_bytes(&c->to)) >= 0)) {
            c->ended = true;
            return false;
        }
        *out_key = key;
        *out_value = bytes_of(v);
        return true;
    }
}

static void lmdb_cursor_close(struct backend_cursor *c)
{
    if (c->cursor != NULL) {
        mdb_cursor_close(c->cursor);
    }
    lmdb_of(c->backend)->cursors--;
    nb_buf_deinit(&c->from);
    nb_buf_deinit(&c->to);
    nb_free(c);
}

/* Pages on LMDB's free list, table 0: each value begins with the count of pages it lists. */
static uint64_t free_pages(struct lmdb *l)
{
    MDB_cursor *cursor;
    if (mdb_cursor_open(l->view, 0, &cursor) != 0) {
        return 0;
    }
    uint64_t count = 0;
    MDB_val k;
    MDB_val v;
    while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
        size_t pages = 0;
        if (v.mv_size >= sizeof pages) {
            memcpy(&pages, v.mv_data, sizeof pages);
        }
        count += pages;
    }
    mdb_cursor_close(cursor);
    return count;
}

static void lmdb_sizes(struct backend *b, struct backend_sizes *out_sizes)
{
    struct lmdb *l = lmdb_of(b);
    MDB_stat page;
    MDB_envinfo info;
    nb_assert(mdb_env_stat(l->env, &page) == 0 && mdb_env_info(l->env, &info) == 0);
    struct stat st;
    uint64_t pages = info.me_last_pgno + 1;
    uint64_t unused = free_pages(l);
    *out_sizes = (struct backend_sizes){
        .allocated = stat(l->file, &st) == 0 ? (uint64_t)st.st_size : pages * page.ms_psize,
        .in_use = (pages - (unused < pages ? unused : pages)) * page.ms_psize,
        .page_size = page.ms_psize,
        .reader_count = (uint32_t)(l->view != NULL) + (uint32_t)(l->copy != NULL),
    };
}

/* --- whole files ---------------------------------------------------------------------------- */

static bool sync_path(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    int result = fsync(fd);
    int error = errno;
    (void)close(fd);
    errno = error;
    return result == 0;
}

static bool sync_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = nb_strdup(slash == NULL ? "." : path);
    if (slash != NULL) {
        dir[slash == path ? 1 : slash - path] = '\0';
    }
    bool synced = sync_path(dir, O_RDONLY | O_DIRECTORY);
    nb_free(dir);
    return synced;
}

static int copy_to(struct lmdb *l, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return errno;
    }
    int result = mdb_env_copyfd2(l->env, fd, MDB_CP_COMPACT);
    if (result == 0 && !l->options.no_sync && fsync(fd) != 0) {
        result = errno;
    }
    (void)close(fd);
    if (result == 0 && !l->options.no_sync && !sync_folder_of(path)) {
        result = errno;
    }
    if (result != 0) {
        (void)unlink(path);
    }
    return result;
}

static void *copy_main(void *argument)
{
    struct copy *c = argument;
    struct lmdb *l = c->backend;
    int result = copy_to(l, c->path);
    c->status = status_of(result);
    if (result != 0) {
        (void)snprintf(c->text, sizeof c->text, "copy to %s failed: %s", c->path,
                       mdb_strerror(result));
    }
    (void)pthread_mutex_lock(&l->lock);
    c->done = true;
    (void)pthread_mutex_unlock(&l->lock);
    signal_loop(l);
    return NULL;
}

static void lmdb_copy(struct backend *b, const char *path,
                      void (*on_done)(void *context, enum nb_status status, const char *text),
                      void *context)
{
    struct lmdb *l = lmdb_of(b);
    if (l->copy != NULL) {
        on_done(context, NB_BUSY, "another copy is under way"); /* S05 */
        return;
    }
    struct copy *c = nb_alloc_zero(1, sizeof *c);
    c->backend = l;
    c->path = nb_strdup(path);
    c->on_done = on_done;
    c->context = context;
    l->copy = c;
    nb_assert(pthread_create(&c->thread, NULL, copy_main, c) == 0);
}

/* --- opening -------------------------------------------------------------------------------- */

static int env_open(const char *file, uint64_t map_size, unsigned flags, MDB_env **out_env)
{
    struct stat st;
    uint64_t size = map_size == 0 ? map_size_default : map_size;
    if (map_size == 0 && stat(file, &st) == 0 && (uint64_t)st.st_size > size / 2) {
        size = 2 * (uint64_t)st.st_size;
    }
    for (;;) {
        MDB_env *env;
        int result = mdb_env_create(&env);
        if (result != 0) {
            return result;
        }
        result = mdb_env_set_mapsize(env, (size_t)size);
        if (result == 0) {
            result = mdb_env_set_maxdbs(env, BACKEND_TABLE_COUNT);
        }
        if (result == 0) {
            result =
                mdb_env_open(env, file, flags | MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD, 0600);
        }
        if (result == 0) {
            *out_env = env;
            return 0;
        }
        mdb_env_close(env);
        /* Less address space where that is limited. */
        /* EINVAL is what valgrind says to a mapping beyond its own address space. */
        if ((result != ENOMEM && result != EINVAL) || size / 2 < map_size_least) {
            return result;
        }
        size /= 2;
    }
}

static int tables_open(MDB_txn *txn, bool create, MDB_dbi *tables, bool *has_table)
{
    for (size_t i = 0; i < BACKEND_TABLE_COUNT; i++) {
        int result = mdb_dbi_open(txn, table_names[i], create ? MDB_CREATE : 0, &tables[i]);
        has_table[i] = result == 0;
        if (result != 0 && (create || result != MDB_NOTFOUND)) {
            return result;
        }
    }
    return has_table[BACKEND_META] ? 0 : MDB_INVALID;
}

static enum nb_status tell(struct nb_buf *message, const char *what, const char *file, int result)
{
    nb_buf_printf(message, "cannot %s database %s: %s", what, file, mdb_strerror(result));
    return status_of(result);
}

static int write_ident(MDB_txn *txn, MDB_dbi meta, const struct backend_ident *ident)
{
    uint8_t bytes[BACKEND_IDENT_SIZE];
    backend_ident_encode(ident, bytes);
    MDB_val key = val_of(backend_key_ident);
    MDB_val value = val_of(nb_bytes_of(bytes, sizeof bytes));
    return mdb_put(txn, meta, &key, &value, 0);
}

/* Checks whose file it is before the first write [K18]; a fresh one gets the name plate. */
static enum nb_status ident_check(struct lmdb *l, struct nb_buf *message)
{
    MDB_txn *txn;
    int result = mdb_txn_begin(l->env, NULL, MDB_RDONLY, &txn);
    if (result != 0) {
        return tell(message, "read", l->file, result);
    }
    MDB_dbi meta;
    enum nb_status status = NB_NOT_FOUND;
    result = mdb_dbi_open(txn, table_names[BACKEND_META], 0, &meta);
    if (result == 0) {
        MDB_val key = val_of(backend_key_ident);
        MDB_val value;
        result = mdb_get(txn, meta, &key, &value);
        status = result == 0
                     ? backend_ident_check(bytes_of(value), &l->ident, l->file, &l->ident, message)
                     : tell(message, "read the identity of", l->file, result);
    } else if (result != MDB_NOTFOUND) {
        status = tell(message, "read", l->file, result);
    }
    mdb_txn_abort(txn);
    return status;
}

static enum nb_status begin_tables(struct lmdb *l, struct nb_buf *message)
{
    enum nb_status status = ident_check(l, message);
    bool fresh = status == NB_NOT_FOUND;
    if (status != NB_OK && !(fresh && !l->options.read_only)) {
        return status;
    }
    MDB_txn *txn;
    int result = mdb_txn_begin(l->env, NULL, l->options.read_only ? MDB_RDONLY : 0, &txn);
    if (result == 0) {
        result = tables_open(txn, !l->options.read_only, l->tables, l->has_table);
        if (result == 0 && fresh) {
            result = write_ident(txn, l->tables[BACKEND_META], &l->ident);
        }
        if (result == 0) {
            result = mdb_txn_commit(txn);
        } else {
            mdb_txn_abort(txn);
        }
    }
    return result == 0 ? NB_OK : tell(message, "open the tables of", l->file, result);
}

static void env_close(struct lmdb *l)
{
    if (l->view != NULL) {
        mdb_txn_abort(l->view);
        l->view = NULL;
    }
    if (l->env != NULL) {
        mdb_env_close(l->env);
        l->env = NULL;
    }
}

static enum nb_status env_begin(struct lmdb *l, struct nb_buf *message)
{
    unsigned flags =
        (l->options.read_only ? MDB_RDONLY : 0u) | (l->options.no_sync ? MDB_NOSYNC : 0u);
    int result = env_open(l->file, l->options.map_size, flags, &l->env);
    if (result != 0) {
        return tell(message, "open", l->file, result);
    }
    enum nb_status status = begin_tables(l, message);
    if (status == NB_OK) {
        result = mdb_txn_begin(l->env, NULL, MDB_RDONLY, &l->view);
        if (result == 0) {
            result = read_label(l);
        }
        status = result == 0 ? NB_OK : tell(message, "read the label of", l->file, result);
    }
    if (status == NB_OK && !l->options.read_only && !l->options.no_sync &&
        !sync_folder_of(l->file)) { /* W07: the name of a file that was just made */
        status = tell(message, "sync the folder of", l->file, errno);
    }
    if (status != NB_OK) {
        env_close(l);
    }
    l->label_index_last = l->label.applied_index;
    l->reserved = 0; /* of this file, nothing is known */
    return status;
}

static void free_batches(struct lmdb *l)
{
    struct backend_batch *lists[] = {l->queued, l->done};
    for (size_t i = 0; i < NB_ARRAY_LEN(lists); i++) {
        for (struct backend_batch *b = lists[i]; b != NULL;) {
            struct backend_batch *next = b->next;
            backend_batch_destroy(b);
            b = next;
        }
    }
    l->queued = NULL;
    l->queued_last = &l->queued;
    l->done = NULL;
    l->done_last = &l->done;
    backend_batch_destroy(l->open);
    l->open = NULL;
}

/* --- replacing ------------------------------------------------------------------------------ */

/* Makes a received file this member's, durably, before it takes the place of the old. */
static enum nb_status adopt(const char *path, const struct backend_lmdb_options *options,
                            const struct backend_ident *from, const struct backend_ident *to,
                            struct nb_buf *message)
{
    struct lmdb other = {.ident = *from, .file = nb_strdup(path)};
    enum nb_status status = NB_OK;
    struct stat st;
    if (stat(path, &st) != 0 || st.st_size == 0) { /* LMDB would make one */
        nb_buf_printf(message, "there is no database %s", path);
        status = NB_NOT_FOUND;
        goto free_file;
    }
    int result = env_open(path, options->map_size, MDB_NOLOCK, &other.env);
    if (result != 0) {
        status = tell(message, "open", path, result);
        goto free_file;
    }
    status = ident_check(&other, message);
    MDB_txn *txn = NULL;
    if (status == NB_OK) {
        result = mdb_txn_begin(other.env, NULL, 0, &txn);
        if (result == 0) {
            result = tables_open(txn, true, other.tables, other.has_table);
            if (result == 0) {
                result = write_ident(txn, other.tables[BACKEND_META], to);
            }
            if (result == 0) {
                result = mdb_txn_commit(txn);
            } else {
                mdb_txn_abort(txn);
            }
        }
        result = explain(&other, NULL, result);
        status = result == 0 ? NB_OK : tell(message, "take over", path, result);
    } else if (status == NB_NOT_FOUND) {
        nb_buf_printf(message, "%s is not a database of nabata", path);
        status = NB_CORRUPT;
    }
    env_close(&other);
    if (status == NB_OK && !options->no_sync && !sync_path(path, O_RDWR)) {
        status = tell(message, "sync", path, errno);
    }
free_file:
    nb_free(other.file);
    return status;
}

static enum nb_status lmdb_replace(struct backend *b, const char *path, struct nb_buf *out_message)
{
    struct lmdb *l = lmdb_of(b);
    nb_assert(l->cursors == 0 && l->copy == NULL && !l->options.read_only);
    const struct backend_ident sender = {.cluster_id = l->ident.cluster_id};
    enum nb_status status = adopt(path, &l->options, &sender, &l->ident, out_message);
    if (status != NB_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&l->lock);
    l->paused = true; /* what waits will be dropped, so it need not be written */
    (void)pthread_mutex_unlock(&l->lock);
    thread_stop(l);
    env_close(l);
    if (rename(path, l->file) != 0 || (!l->options.no_sync && !sync_folder_of(l->file))) {
        status = tell(out_message, "put the received file in the place of", l->file, errno);
        l->status = status == NB_NO_SPACE_DISK ? NB_IO : status;
        return l->status; /* neither the old nor the new can be promised: the end */
    }
    free_batches(l);
    l->open = backend_batch_create();
    l->committed = l->next_number - 1;
    l->pending_bytes = 0;
    l->stop = false;
    l->paused = false;
    l->status = NB_OK;
    l->text[0] = '\0';
    status = env_begin(l, out_message);
    l->status = status == NB_NO_SPACE_DISK ? NB_IO : status; /* the old one is gone */
    return l->status;
}

static void lmdb_close(struct backend *b)
{
    struct lmdb *l = lmdb_of(b);
    nb_assert(l->cursors == 0);
    thread_stop(l);
    if (l->copy != NULL) {
        (void)pthread_join(l->copy->thread, NULL);
        nb_free(l->copy->path);
        nb_free(l->copy);
    }
    env_close(l);
    free_batches(l);
    nb_buf_deinit(&l->label_bytes);
    (void)close(l->event_fd);
    (void)pthread_mutex_destroy(&l->lock);
    (void)pthread_cond_destroy(&l->wake);
    nb_free(l->dir);
    nb_free(l->file);
    nb_free(l);
}

static const struct backend_ops lmdb_ops = {
    .batch_reserve = lmdb_batch_reserve,
    .batch_delete = lmdb_batch_delete,
    .batch_bytes = lmdb_batch_bytes,
    .commit = lmdb_commit,
    .retry = lmdb_retry,
    .completion_fd = lmdb_completion_fd,
    .reap = lmdb_reap,
    .wait = lmdb_wait,
    .committed = lmdb_committed,
    .pending_bytes = lmdb_pending_bytes,
    .status = lmdb_status,
    .label = lmdb_label,
    .get = lmdb_get,
    .cursor_open = lmdb_cursor_open,
    .cursor_next = lmdb_cursor_next,
    .cursor_close = lmdb_cursor_close,
    .sizes = lmdb_sizes,
    .copy = lmdb_copy,
    .replace = lmdb_replace,
    .close = lmdb_close,
};

enum nb_status backend_lmdb_open(const char *dir, const struct backend_ident *ident,
                                 const struct backend_lmdb_options *options,
                                 struct backend **out_backend, struct nb_buf *out_message)
{
    struct lmdb *l = nb_alloc_zero(1, sizeof *l);
    l->base.ops = &lmdb_ops;
    l->dir = nb_strdup(dir);
    l->file = nb_sprintf("%s/data.mdb", dir);
    l->ident = *ident;
    l->options = options == NULL ? (struct backend_lmdb_options){0} : *options;
    l->next_number = 1;
    l->queued_last = &l->queued;
    l->done_last = &l->done;
    l->open = backend_batch_create();
    nb_assert(pthread_mutex_init(&l->lock, NULL) == 0);
    nb_assert(pthread_cond_init(&l->wake, NULL) == 0);
    l->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum nb_status status =
        l->event_fd < 0 ? tell(out_message, "watch", l->file, errno) : env_begin(l, out_message);
    if (status != NB_OK) {
        lmdb_close(&l->base);
        return status;
    }
    *out_backend = &l->base;
    return NB_OK;
}

enum nb_status backend_lmdb_adopt(const char *path, const struct backend_ident *from,
                                  const struct backend_ident *to, struct nb_buf *out_message)
{
    const struct backend_lmdb_options options = {0};
    return adopt(path, &options, from, to, out_message);
}

enum nb_status backend_lmdb_inspect(const char *path, struct backend_ident *out_ident,
                                    struct backend_label *out_label, struct nb_buf *out_meta,
                                    struct nb_buf *out_message)
{
    struct lmdb l = {.file = nb_strdup(path), .options = {.read_only = true}};
    enum nb_status status = NB_OK;
    int result = env_open(path, 0, MDB_RDONLY | MDB_NOLOCK, &l.env);
    if (result != 0) {
        status = tell(out_message, "open", path, result);
    } else {
        status = begin_tables(&l, out_message);
    }
    if (status == NB_OK) {
        result = mdb_txn_begin(l.env, NULL, MDB_RDONLY, &l.view);
        if (result == 0) {
            result = read_label(&l);
        }
        status = result == 0 ? NB_OK : tell(out_message, "read the label of", path, result);
    }
    if (status == NB_OK) {
        *out_ident = l.ident;
        *out_label = l.label;
        nb_buf_append_bytes(out_meta, l.label.meta);
        out_label->meta = nb_buf_bytes(out_meta);
    }
    env_close(&l);
    nb_buf_deinit(&l.label_bytes);
    nb_free(l.file);
    return status;
}

/*
 * storage/disk: the only way to the files of the log, and to those around it.
 *
 * An interface with two bodies: Linux (disk_linux.h) and memory with faults (disk_memory.h, for
 * tests and the simulator). Calls come in two kinds:
 *   - blocking ones, for start-up, recovery, tools, and small files;
 *   - requests, for everything that happens while the loop runs: disk_submit() hands one over,
 *     disk_completion_fd() turns readable when some are done, disk_reap() calls their `on_done` on
 * the caller's thread. A request and what it points to belong to the disk until on_done is called.
 *
 * Rules that all users lean on:
 *   K1  a request of kind DISK_WRITE is done when its bytes are on stable storage (but for
 *       `no_sync`, which is for people who said so). Writes may finish in any order.
 *   K2  the other kinds run one after another, in the order of submission. They never delay a
 *       DISK_WRITE that goes through Linux AIO.
 *   K3  a failed write or sync is reported once and never retried: after it the state of the file's
 *       cached pages is unknown, so the caller must make no further promise and end.  [W05]
 *   K4  short reads and writes and EINTR are continued within; a read is whole or fails.  [W14]
 *   K5  a name made, moved or removed is durable only after disk_sync_dir() of its folder; the
 *       request kinds that touch names do that themselves.  [W07]
 *
 * One thread, the loop's, calls all functions of a disk.
 */
#ifndef NABATA_STORAGE_DISK_H
#define NABATA_STORAGE_DISK_H

#include "base/bytes.h"
#include "base/status.h"

enum {
    DISK_BLOCK_SIZE = 4096, /* of memory address, offset and length of a DISK_WRITE */
    DISK_SECTOR_SIZE = 512, /* what a device writes whole or not at all */
};

struct disk;
struct disk_file; /* a handle; its body is the implementation's */

enum disk_open_flags {
    DISK_READ_ONLY = 0,
    DISK_READ_WRITE = 1,
    DISK_CREATE_NEW = 2, /* with READ_WRITE: NB_EXISTS when the name is taken */
    DISK_TRUNCATE = 4,   /* with READ_WRITE: creates or empties */
    DISK_DIRECT = 8,     /* DISK_WRITE requests will be submitted on it */
};

enum disk_request_kind {
    DISK_WRITE,   /* file, offset, data, len: durable write, all three aligned to DISK_BLOCK_SIZE */
    DISK_PREPARE, /* path, len: makes a file of `len` zero bytes, really written; synced, with name
                   */
    DISK_RENAME,  /* path, to: within one folder; folder synced */
    DISK_INSTALL, /* file, path, to: syncs file, renames, syncs the folder */
    DISK_UNLINK,  /* path: folder synced. A name that is not there is success. */
};

struct disk_request {
    enum disk_request_kind kind;
    struct disk_file *file; /* borrowed until done */
    uint64_t offset;
    const uint8_t *data; /* borrowed until done */
    size_t len;
    char *path, *to; /* borrowed until done */
    /* Called by disk_reap or disk_wait; may submit again and may free the request. Status is NB_OK,
     * NB_IO, NB_NO_SPACE_DISK, NB_ACCESS or what else the system said. */
    void (*on_done)(struct disk_request *request, enum nb_status status);
    void *owner;
    /* The implementation's own. */
    struct disk_request *next;
    void *slot;
    enum nb_status status;
};

struct disk_ops {
    enum nb_status (*open)(struct disk *d, const char *path, unsigned flags,
                           struct disk_file **out_file);
    void (*close)(struct disk_file *file);
    enum nb_status (*size)(struct disk_file *file, uint64_t *out_size);
    enum nb_status (*read)(struct disk_file *file, uint64_t offset, void *to, size_t len);
    enum nb_status (*write)(struct disk_file *file, uint64_t offset, const void *data, size_t len);
    enum nb_status (*sync)(struct disk_file *file);
    enum nb_status (*rename)(struct disk *d, const char *from, const char *to);
    enum nb_status (*unlink)(struct disk *d, const char *path);
    enum nb_status (*mkdir)(struct disk *d, const char *path);
    enum nb_status (*sync_dir)(struct disk *d, const char *path);
    enum nb_status (*list)(struct disk *d, const char *path,
                           void (*on_name)(void *context, const char *name), void *context);
    enum nb_status (*lock)(struct disk *d, const char *path, struct disk_file **out_lock);
    void (*submit)(struct disk *d, struct disk_request *request);
    int (*completion_fd)(struct disk *d);
    size_t (*reap)(struct disk *d);
    void (*wait)(struct disk *d);
    const char *(*mode)(const struct disk *d);
    void (*destroy)(struct disk *d);
};

struct disk {
    const struct disk_ops *ops;
    size_t outstanding; /* requests submitted and not reaped */
};

/* NB_NOT_FOUND, NB_EXISTS, NB_ACCESS, NB_NO_SPACE_DISK, NB_IO. The file is closed by disk_close. */
NB_MUST_USE enum nb_status disk_open(struct disk *d, const char *path, unsigned flags,
                                     struct disk_file **out_file);
void disk_close(struct disk_file *file); /* NULL is fine; no request may be outstanding on it */
NB_MUST_USE enum nb_status disk_size(struct disk_file *file, uint64_t *out_size);
/* All of [offset, offset+len), else NB_TRUNCATED at the end of the file, or NB_IO. */
NB_MUST_USE enum nb_status disk_read(struct disk_file *file, uint64_t offset, void *to, size_t len);
/* Blocking and not yet durable: disk_sync makes it so. Any alignment, but not on DISK_DIRECT files
 * that have requests outstanding. */
NB_MUST_USE enum nb_status disk_write(struct disk_file *file, uint64_t offset, const void *data,
                                      size_t len);
NB_MUST_USE enum nb_status disk_sync(struct disk_file *file); /* content and length */
NB_MUST_USE enum nb_status disk_rename(struct disk *d, const char *from, const char *to);
NB_MUST_USE enum nb_status disk_unlink(struct disk *d, const char *path);
/* Mode 0700; NB_EXISTS when there is one. */
NB_MUST_USE enum nb_status disk_mkdir(struct disk *d, const char *path);
NB_MUST_USE enum nb_status disk_sync_dir(struct disk *d, const char *path);
/* Calls on_name for every name in the folder but "." and "..", sorted by bytes. */
NB_MUST_USE enum nb_status disk_list(struct disk *d, const char *path,
                                     void (*on_name)(void *context, const char *name),
                                     void *context);
/* Creates the file if need be and takes it until disk_close; NB_LOCKED when another has it. [W17]
 */
NB_MUST_USE enum nb_status disk_lock(struct disk *d, const char *path, struct disk_file **out_lock);

/* The whole of a small file; NB_TOO_LARGE beyond size_max. Appends to `out`. */
NB_MUST_USE enum nb_status disk_read_file(struct disk *d, const char *path, size_t size_max,
                                          struct nb_buf *out);
/* Temp file, sync, rename over `path`, sync of the folder `dir` that holds it: all or nothing. */
NB_MUST_USE enum nb_status disk_write_file(struct disk *d, const char *dir, const char *path,
                                           struct nb_bytes content);

/* Cannot fail: what goes wrong arrives as the request's status. */
void disk_submit(struct disk *d, struct disk_request *request);
/* Readable when disk_reap has something to do; -1 for the disk in memory. Owned by the disk. */
int disk_completion_fd(struct disk *d);
/* Calls on_done of all finished requests, in order of finishing; returns how many. */
size_t disk_reap(struct disk *d);
/* Blocks until at least one more request is done and reaps; returns at once when none is
 * outstanding. For start, stop and tests. */
void disk_wait(struct disk *d);
/* "aio", "thread", "thread-fdatasync", "no-sync" or "memory": how DISK_WRITE is done. */
const char *disk_mode(const struct disk *d);
/* Waits for what is outstanding without calling on_done, then frees. */
void disk_destroy(struct disk *d);

#endif

/*
 * storage/disk_linux: the disk of a real machine.
 *
 * DISK_WRITE goes through Linux AIO (O_DIRECT, RWF_DSYNC, an eventfd): no thread, little CPU. Where
 * the kernel, a seccomp profile or the file system refuses that, found out by writing a probe file
 * in `probe_dir`, a WAL thread does pwritev2(RWF_DSYNC), and where that too is unknown, pwrite and
 * fdatasync. All other requests run on a helper thread, started when first needed.
 */
#ifndef NABATA_STORAGE_DISK_LINUX_H
#define NABATA_STORAGE_DISK_LINUX_H

#include "storage/disk.h"

struct disk_linux_options {
    const char *probe_dir; /* an existing folder on the log's file system; NULL: no AIO */
    bool no_sync;          /* writes are done when the kernel has them: --unsafe-no-fsync */
    bool no_aio;           /* use the thread, for tests and for doubtful file systems */
    bool no_rwf_dsync;     /* pwrite and fdatasync, for tests and old kernels */
};

/* NB_IO when not even an eventfd can be had. Freed with disk_destroy. */
NB_MUST_USE enum nb_status disk_linux_create(const struct disk_linux_options *options,
                                             struct disk **out_disk);

#endif

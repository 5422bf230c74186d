/*
 * storage/disk_memory: a disk in memory that fails on request, for tests and the simulator.
 *
 * It keeps two states: what callers see, and what would survive a crash. Requests are done when
 * disk_memory_step or disk_wait says so: writes in an order drawn from the seed, the others in
 * theirs. disk_memory_crash ends all requests (the next reap gives them NB_CLOSED) and leaves what
 * a real crash may leave:
 *   - of content that was not synced, any subset of its sectors;
 *   - of names made, moved or removed and not synced, all up to some point in time;
 * each drawn from the seed. Handles from before the crash are dead: only close them.
 *
 * Deterministic: the same calls and seed give the same bytes. One thread.
 */
#ifndef NABATA_STORAGE_DISK_MEMORY_H
#define NABATA_STORAGE_DISK_MEMORY_H

#include "storage/disk.h"

NB_MUST_USE struct disk *disk_memory_create(uint64_t seed);

/* Does up to `count` requests and reaps nothing; returns how many were done. */
size_t disk_memory_step(struct disk *d, size_t count);
void disk_memory_crash(struct disk *d);

/* Calls and requests that touch the disk so far; the unit of the next two. */
uint64_t disk_memory_calls(const struct disk *d);
/* Call number `call` (0: the next) fails with this status; a write among them leaves a part of its
 * sectors. NB_OK takes the order back. */
void disk_memory_fail_at(struct disk *d, uint64_t call, enum nb_status status);
/* From call `call` on nothing is done any more, all calls fail with NB_IO: the plug is pulled. */
void disk_memory_stop_at(struct disk *d, uint64_t call);
/* Bytes that all files together may have; UINT64_MAX at first. */
void disk_memory_limit(struct disk *d, uint64_t bytes);

/* The surviving content of a file, to look at and to damage; NULL when there is none. Both states
 * change. Valid until the next call. */
uint8_t *disk_memory_content(struct disk *d, const char *path, size_t *out_len);

#endif

/*
 * server/store: what a member keeps, opened in the right order and checked against itself: folder,
 * identity, boot count, log, backend, machine.
 */
#ifndef NABATA_SERVER_STORE_H
#define NABATA_SERVER_STORE_H

#include "machine/machine.h"
#include "server/config.h"
#include "storage/backend.h"
#include "storage/datadir.h"
#include "storage/disk.h"
#include "storage/wal.h"

struct server_store {
    struct disk *disk;     /* owned: of folder and snapshots */
    struct disk *wal_disk; /* owned: of the log's writes */
    struct datadir datadir;
    bool datadir_open;
    char *wal_dir; /* owned */
    struct wal *wal;
    struct wal_recovered recovered;
    struct backend *backend;
    struct machine *machine;
    uint64_t cluster_id, member_id;
    uint64_t boot_id;    /* random, of this process */
    uint64_t boot_count; /* starts of this folder, this one included */
    bool fresh;          /* no entry has ever been stored here */
    /* Who the members are, as far as one knows that joined and has no entry yet; else empty. */
    struct machine_members joined;
    uint64_t install_noted; /* a snapshot install that a crash interrupted; 0: none */
};

/* Opens everything. On failure `message` gets a line and the exit code is returned; close what was
 * opened with server_store_close either way. */
NB_MUST_USE int server_store_open(struct server_store *s, struct server_config *config,
                                  const struct nb_logger *log, struct nb_buf *message);
void server_store_close(struct server_store *s);

/* For struct replica_world. */
enum nb_status server_store_note_install(struct server_store *s, uint64_t index);

#endif

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
    bool founding;          /* this pod founded its cluster, which is not of its first size yet */
};

/* Opens the folder: lock, identity, boot count. On failure `message` gets a line and the exit code
 * is returned; close what was opened with server_store_close either way. With --statefulset, an
 * empty folder gets a random member id and no cluster: cluster_id is 0 until one of the three
 * below. */
NB_MUST_USE int server_store_open(struct server_store *s, struct server_config *config,
                                  const struct nb_logger *log, struct nb_buf *message);
/* Another id, for one that no cluster takes any more. Only without a cluster. */
NB_MUST_USE int server_store_renew(struct server_store *s, struct nb_buf *message);
/* Takes on a cluster, durably: as one that joins it, or as its founder. */
NB_MUST_USE int server_store_join(struct server_store *s, uint64_t cluster_id,
                                  struct nb_buf *message);
NB_MUST_USE int server_store_found(struct server_store *s, uint64_t cluster_id,
                                   struct nb_buf *message);
/* Backend, machine and log; after server_store_open, and with a cluster. */
NB_MUST_USE int server_store_open_data(struct server_store *s, struct server_config *config,
                                       struct nb_buf *message);
void server_store_close(struct server_store *s);

/* The founder's cluster has its first size. */
NB_MUST_USE int server_store_founded(struct server_store *s);

/* Moves `<data-dir>/member` to `<data-dir>/removed-<UTC time>`; the store must be closed. `out`
 * gets the new place, ended by a 0. */
NB_MUST_USE bool server_store_set_aside(const char *data_dir, struct nb_buf *out);

/* For struct replica_world. */
enum nb_status server_store_note_install(struct server_store *s, uint64_t index);

#endif

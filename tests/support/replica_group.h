/*
 * Replicas in one process for tests of what stands above them: disks and backends in memory, a
 * network that delivers all at the next turn, and a clock of turns. No faults: that is sim/'s.
 */
#ifndef NABATA_TESTS_SUPPORT_REPLICA_GROUP_H
#define NABATA_TESTS_SUPPORT_REPLICA_GROUP_H

#include "replica/replica.h"
#include "storage/backend_memory.h"
#include "storage/disk_memory.h"
#include "tests/support/unit.h"

#include <string.h>

enum {
    REPLICA_GROUP_COUNT_MAX = 3,
    REPLICA_GROUP_CLUSTER_ID = 77,
    REPLICA_GROUP_TICK_MS = 10,
};

static const uint64_t replica_group_ms = 1000000;

struct replica_group;

struct replica_node {
    struct replica_group *group;
    uint64_t id; /* 1, 2, ... */
    bool silent; /* hears and says nothing */
    struct disk *disk;
    struct backend_memory_store *store;
    struct backend *backend;
    struct wal *wal;
    struct wal_recovered recovered;
    struct machine *machine;
    struct replica *replica;
    struct nb_buf inbox; /* records: u32 length, message */
};

struct replica_group {
    struct replica_node nodes[REPLICA_GROUP_COUNT_MAX];
    unsigned count;
    uint64_t now_ns;
};

static inline uint64_t replica_node_now(void *user)
{
    return ((struct replica_node *)user)->group->now_ns;
}

static inline void replica_node_send(void *user, const struct raft_msg *msg)
{
    struct replica_node *from = user;
    struct replica_group *g = from->group;
    if (msg->to == 0 || msg->to > g->count || from->silent || g->nodes[msg->to - 1].silent) {
        return;
    }
    struct nb_buf *inbox = &g->nodes[msg->to - 1].inbox;
    nb_put_u32(nb_buf_extend(inbox, 4), (uint32_t)raft_msg_encoded_size(msg));
    raft_msg_encode(msg, inbox);
}

static inline void replica_node_wake(void *user)
{
    (void)user; /* pump goes on anyway */
}

static inline void replica_node_fatal(void *user, enum nb_status status, const char *text)
{
    (void)user;
    (void)status;
    fail_msg("%s", text);
}

static inline void replica_node_wait_disk(void *user)
{
    disk_wait(((struct replica_node *)user)->disk);
}

static inline enum nb_status replica_node_note_install(void *user, uint64_t index)
{
    (void)user;
    (void)index;
    return NB_OK;
}

static inline enum nb_status replica_node_inspect_copy(void *user, const char *path,
                                                       struct backend_label *out,
                                                       struct nb_buf *error)
{
    (void)user;
    (void)path;
    (void)out;
    nb_buf_append_str(error, "no snapshots here");
    return NB_IO; /* nobody is sent one */
}

static inline void replica_node_remove_file(void *user, const char *path)
{
    (void)!disk_unlink(((struct replica_node *)user)->disk, path);
}

static inline void replica_node_start(struct replica_group *g, unsigned place,
                                      const struct machine_members *members)
{
    struct replica_node *n = &g->nodes[place];
    struct nb_buf error = {0};
    *n = (struct replica_node){.group = g, .id = place + 1, .disk = disk_memory_create(place + 1)};
    n->store = backend_memory_store_create();
    assert_int_equal(disk_mkdir(n->disk, "wal"), NB_OK);
    assert_int_equal(disk_mkdir(n->disk, "snap"), NB_OK);
    struct backend_ident ident = {.cluster_id = REPLICA_GROUP_CLUSTER_ID, .member_id = n->id};
    struct machine_options machine = {.hash_seed = 1, .log_hash_count = 64};
    assert_int_equal(backend_memory_open(n->store, n->disk, &ident, &n->backend, &error), NB_OK);
    assert_int_equal(machine_create(n->backend, &machine, &n->machine, &error), NB_OK);
    machine_bootstrap(n->machine, members);
    struct wal_ident wal = {.cluster_id = REPLICA_GROUP_CLUSTER_ID, .member_id = n->id};
    struct wal_options options = {.segment_size = 64 << 10};
    assert_int_equal(wal_open(n->disk, "wal", &wal, &options, &n->recovered, &n->wal, &error),
                     NB_OK);
    struct replica_config config = {.cluster_id = REPLICA_GROUP_CLUSTER_ID,
                                    .member_id = n->id,
                                    .boot_id = 1000 * n->id,
                                    .tick_ms = REPLICA_GROUP_TICK_MS,
                                    .heartbeat_ticks = 1,
                                    .election_ticks = 10,
                                    .pre_vote = true,
                                    .request_timeout_ns = 60000 * replica_group_ms,
                                    .snapshot_catchup_entry_count = 1000,
                                    .snapshot_catchup_bytes_max = 1 << 20,
                                    .commit_interval_ns = 100 * replica_group_ms,
                                    .commit_bytes_max = 64 << 10,
                                    .request_count_max = 100,
                                    .request_bytes_max = 1 << 20,
                                    .proposal_bytes_max = 1 << 20,
                                    .compaction_batch_limit = 10,
                                    .read_retry_ns = 500 * replica_group_ms,
                                    .snapshot_dir = "snap"};
    struct replica_world world = {.user = n,
                                  .now_ns = replica_node_now,
                                  .send = replica_node_send,
                                  .wake = replica_node_wake,
                                  .fatal = replica_node_fatal,
                                  .wait_disk = replica_node_wait_disk,
                                  .note_install = replica_node_note_install,
                                  .inspect_copy = replica_node_inspect_copy,
                                  .remove_file = replica_node_remove_file};
    struct replica_parts parts = {
        .wal = n->wal, .recovered = &n->recovered, .backend = n->backend, .machine = n->machine};
    assert_int_equal(replica_create(&config, &world, &parts, &n->replica, &error), NB_OK);
    nb_buf_deinit(&error);
}

static inline void replica_node_stop(struct replica_node *n)
{
    replica_destroy(n->replica);
    machine_destroy(n->machine);
    wal_abandon(n->wal);
    wal_recovered_deinit(&n->recovered);
    backend_memory_crash(n->backend);
    backend_memory_store_destroy(n->store);
    disk_destroy(n->disk);
    nb_buf_deinit(&n->inbox);
}

static inline void replica_node_deliver(struct replica_node *n)
{
    struct nb_buf inbox = n->inbox;
    n->inbox = (struct nb_buf){0};
    for (size_t at = 0; at < inbox.len;) {
        size_t len = nb_get_u32(inbox.data + at);
        struct nb_arena arena = {0};
        struct raft_msg msg;
        assert_int_equal(raft_msg_decode(nb_bytes_of(inbox.data + at + 4, len), &msg, &arena),
                         NB_OK);
        replica_step(n->replica, &msg);
        raft_msg_release(&msg);
        nb_arena_deinit(&arena);
        at += 4 + len;
    }
    nb_buf_deinit(&inbox);
}

/* One turn of all. Only the first node's clock ticks by itself, so it is the one to lead. */
static inline void replica_group_turn(struct replica_group *g)
{
    g->now_ns += replica_group_ms;
    for (unsigned i = 0; i < g->count; i++) {
        struct replica_node *n = &g->nodes[i];
        replica_node_deliver(n);
        (void)disk_memory_step(n->disk, 100);
        (void)disk_reap(n->disk);
        replica_disk_ready(n->replica);
        (void)backend_memory_step(n->backend, 10);
        replica_backend_ready(n->replica);
        if (i == 0 && g->now_ns / replica_group_ms % REPLICA_GROUP_TICK_MS == 0) {
            replica_tick(n->replica);
        }
        replica_turn(n->replica);
    }
}

#endif

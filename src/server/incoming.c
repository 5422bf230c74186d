#include "server/incoming.h"

#include <inttypes.h>

struct server_incoming {
    struct server_incoming_config config;
    uint64_t transfer; /* 0: none under way */
    uint64_t from;
    struct disk_file *file; /* owned */
    char *part, *whole;     /* owned */
    struct nb_buf announce; /* encoded, from the end of the stream until the file is durable */
    struct disk_request install;
    bool installing;             /* the request is with the disk */
    bool good;                   /* it is durable here */
    uint64_t begun_ns, ended_ns; /* of the stream */
};

struct server_incoming *server_incoming_create(const struct server_incoming_config *config)
{
    struct server_incoming *in = nb_alloc_zero(1, sizeof *in);
    in->config = *config;
    return in;
}

static void forget(struct server_incoming *in)
{
    disk_close(in->file);
    nb_free(in->part);
    nb_free(in->whole);
    server_metrics_transfer_end(in->config.metrics->received, in->from, in->good);
    in->good = false;
    in->file = NULL;
    in->part = in->whole = NULL;
    in->transfer = 0;
    nb_buf_deinit(&in->announce);
}

void server_incoming_destroy(struct server_incoming *in)
{
    if (in != NULL) {
        while (in->installing) {
            disk_wait(in->config.disk);
        }
        forget(in);
        nb_free(in);
    }
}

bool server_incoming_begin(struct server_incoming *in, uint64_t from, uint64_t transfer,
                           uint64_t total)
{
    if (in->transfer != 0) {
        return false; /* one at a time: the sender tries again */
    }
    in->transfer = transfer;
    in->from = from;
    in->begun_ns = net_now_ns();
    server_metrics_transfer_begin(in->config.metrics->received, from);
    in->part = nb_sprintf("%s/%016" PRIx64 ".part", in->config.dir, transfer);
    in->whole = nb_sprintf("%s/%016" PRIx64 ".snap", in->config.dir, transfer);
    enum nb_status status =
        disk_open(in->config.disk, in->part, DISK_READ_WRITE | DISK_TRUNCATE, &in->file);
    if (status != NB_OK) {
        nb_log(in->config.log, NB_LOG_ERROR, "snapshot.receive_failed",
               "the file of a snapshot cannot be made", NB_KV_STR("file", in->part),
               NB_KV_STR("error", nb_status_text(status)), NB_KV_END);
        in->file = NULL;
        forget(in);
        return false;
    }
    nb_log(in->config.log, NB_LOG_INFO, "snapshot.receiving", NULL, NB_KV_ID("from", from),
           NB_KV_U64("bytes", total), NB_KV_END);
    return true;
}

enum peer_take server_incoming_chunk(struct server_incoming *in, uint64_t transfer, uint64_t offset,
                                     struct nb_bytes bytes)
{
    if (transfer != in->transfer || in->installing) {
        return PEER_TAKE_ABORT;
    }
    /* Into the page cache: a bounded copy. The sync at the end is off the loop. */
    enum nb_status status = disk_write(in->file, offset, bytes.data, bytes.len);
    if (status != NB_OK) {
        nb_log(in->config.log, NB_LOG_ERROR, "snapshot.receive_failed",
               "a snapshot cannot be written", NB_KV_STR("file", in->part),
               NB_KV_STR("error", nb_status_text(status)), NB_KV_END);
        server_incoming_abort(in, transfer, nb_status_text(status));
        return PEER_TAKE_ABORT;
    }
    return PEER_TAKE;
}

static void on_installed(struct disk_request *request, enum nb_status status)
{
    struct server_incoming *in = request->owner;
    in->installing = false;
    in->good = status == NB_OK;
    if (status == NB_OK) {
        nb_histogram_observe_ns(&in->config.metrics->snapshot_sync, net_now_ns() - in->ended_ns);
        nb_histogram_observe_ns(&in->config.metrics->snapshot_save, net_now_ns() - in->begun_ns);
        struct raft_msg msg;
        struct nb_arena arena = {0};
        status = raft_msg_decode(nb_buf_bytes(&in->announce), &msg, &arena);
        nb_assert(status == NB_OK); /* we encoded it ourselves */
        replica_snapshot_received(in->config.replica, in->whole, &msg);
        raft_msg_release(&msg);
        nb_arena_deinit(&arena);
    } else {
        nb_log(in->config.log, NB_LOG_ERROR, "snapshot.receive_failed",
               "a snapshot cannot be made durable", NB_KV_STR("file", in->whole),
               NB_KV_STR("error", nb_status_text(status)), NB_KV_END);
    }
    (void)peer_snapshot_answer(in->config.peers, in->transfer, status);
    forget(in);
}

void server_incoming_end(struct server_incoming *in, uint64_t transfer,
                         const struct raft_msg *announce)
{
    if (transfer != in->transfer) {
        (void)peer_snapshot_answer(in->config.peers, transfer, NB_BUSY);
        return;
    }
    raft_msg_encode(announce, &in->announce);
    in->install = (struct disk_request){.kind = DISK_INSTALL,
                                        .file = in->file,
                                        .path = in->part,
                                        .to = in->whole,
                                        .on_done = on_installed,
                                        .owner = in};
    in->installing = true;
    in->ended_ns = net_now_ns();
    disk_submit(in->config.disk, &in->install);
}

void server_incoming_abort(struct server_incoming *in, uint64_t transfer, const char *why)
{
    if (transfer != in->transfer || in->installing) {
        return; /* one that is being made durable is finished by on_installed */
    }
    nb_log(in->config.log, NB_LOG_WARN, "snapshot.receive_aborted", NULL,
           NB_KV_ID("from", in->from), NB_KV_STR("why", why), NB_KV_END);
    enum nb_status status = disk_unlink(in->config.disk, in->part);
    (void)status; /* what stays is removed at the next start */
    forget(in);
}

/* server/world: the real world of the replica: clock, peers, files. */
#include "server/internal.h"
#include "storage/backend_lmdb.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t world_now(void *user)
{
    (void)user;
    return net_now_ns();
}

static void world_send(void *user, const struct raft_msg *msg)
{
    struct server *s = user;
    (void)peer_send(s->peers, msg);
}

static void on_snapshot_sent(void *user, uint64_t to, enum nb_status status)
{
    struct server *s = user;
    server_metrics_transfer_end(s->metrics.sent, to, status == NB_OK);
    nb_log(&s->log, status == NB_OK ? NB_LOG_INFO : NB_LOG_WARN, "snapshot.sent", NULL,
           NB_KV_ID("to", to), NB_KV_STR("status", nb_status_text(status)), NB_KV_END);
    replica_snapshot_sent(s->replica, to, status == NB_OK);
}

/* Not from within: the replica does not want to be called back from world_send_snapshot. */
struct late_failure {
    struct server *server;
    uint64_t to;
};

static void nothing(void *user)
{
    (void)user;
}

static void report_failure(void *user)
{
    struct late_failure *f = user;
    if (!f->server->closing) {
        on_snapshot_sent(f->server, f->to, NB_IO);
    }
    nb_free(f);
}

static void world_send_snapshot(void *user, uint64_t to, const char *path,
                                const struct raft_msg *announce)
{
    struct server *s = user;
    server_metrics_transfer_begin(s->metrics.sent, to);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    enum nb_status status = NB_IO;
    if (fd >= 0 && fstat(fd, &st) == 0) {
        status = peer_send_snapshot(s->peers, to, fd, (uint64_t)st.st_size, announce,
                                    on_snapshot_sent, s);
    } else if (fd >= 0) {
        (void)close(fd);
    }
    if (status != NB_OK) {
        struct late_failure *f = nb_alloc(sizeof *f);
        *f = (struct late_failure){.server = s, .to = to};
        net_work(s->loop, nothing, report_failure, f);
    }
}

static void world_wake(void *user)
{
    struct server *s = user;
    net_wake_send(s->wake);
}

static void world_fatal(void *user, enum nb_status status, const char *text)
{
    struct server *s = user;
    s->failed = true;
    int code = status == NB_MEMBER_NOT_FOUND ? SERVER_EXIT_REMOVED
               : status == NB_CORRUPT        ? SERVER_EXIT_DAMAGE
                                             : SERVER_EXIT_DISK;
    nb_log(&s->log, NB_LOG_FATAL, "server.stopped", text,
           NB_KV_STR("error", nb_status_text(status)), NB_KV_STR("data_dir", s->config.data_dir),
           NB_KV_I64("exit_code", code), NB_KV_END);
    server_stop(s, code);
}

static void world_wait_disk(void *user)
{
    struct server *s = user;
    disk_wait(s->store.wal_disk);
}

static enum nb_status world_note_install(void *user, uint64_t index)
{
    struct server *s = user;
    return server_store_note_install(&s->store, index);
}

static enum nb_status world_inspect_copy(void *user, const char *path, struct backend_label *out,
                                         struct nb_buf *error)
{
    (void)user;
    struct backend_ident ident;
    struct nb_buf meta = {0};
    enum nb_status status = backend_lmdb_inspect(path, &ident, out, &meta, error);
    out->meta = (struct nb_bytes){0};
    nb_buf_deinit(&meta);
    return status;
}

static void world_remove_file(void *user, const char *path)
{
    (void)user;
    (void)unlink(path);
}

const struct replica_world server_world_calls = {
    .now_ns = world_now,
    .send = world_send,
    .send_snapshot = world_send_snapshot,
    .wake = world_wake,
    .fatal = world_fatal,
    .wait_disk = world_wait_disk,
    .note_install = world_note_install,
    .inspect_copy = world_inspect_copy,
    .remove_file = world_remove_file,
};

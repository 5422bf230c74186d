/*
 * A snapshot on its way out: dial, handshake, BEGIN, chunks, END, wait for RESULT.
 *
 * At most two chunks wait in the output; each is read, hashed and made a frame on a thread of the
 * pool, so the loop neither waits for the disk nor works on more than one chunk at a time. [E11]
 */
#include "peer/internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum {
    CHUNK_HEAD_SIZE = 16, /* transfer, offset */
    CHUNKS_QUEUED_MAX = 2,
};

/* What the pool thread works on. It outlives its source when that ends during a read. */
struct chunk_job {
    struct peer_source *owner; /* NULL when that has ended */
    bool busy;                 /* the thread has it: touch nothing but `owner` */
    int fd;
    uint64_t transfer, offset, total;
    size_t chunk_size_max;
    uint8_t *frame; /* header, head and content of one chunk */
    size_t frame_size;
    XXH3_state_t *state;
    enum nb_status status;
};

enum source_state { SOURCE_DIALLING, SOURCE_STREAMING, SOURCE_WAITING, SOURCE_ENDED };

struct peer_source {
    struct peer_transport *transport;
    struct peer *peer;
    struct peer_source *next; /* in transport->ended_sources */
    enum source_state state;
    uint64_t to;
    uint64_t transfer;
    struct net_connect *connect;
    size_t address_at, attempt_count;
    struct peer_conn *conn;
    struct chunk_job *job;
    struct nb_buf announce; /* encoded */
    uint64_t confirmed;
    uint64_t progress_ns; /* when it last came nearer to its end */
    uint64_t waiting_ns;
    enum nb_status status;
    void (*done)(void *user, uint64_t to, enum nb_status status);
    void *user;
};

/* ---- on the pool thread ---- */

static enum nb_status read_chunk(struct chunk_job *job, uint8_t *to, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(job->fd, to + done, size - done, (off_t)(job->offset + done));
        if (got == 0) {
            return NB_TRUNCATED;
        }
        if (got < 0 && errno != EINTR) {
            return NB_IO;
        }
        done += got < 0 ? 0 : (size_t)got;
    }
    return NB_OK;
}

static void job_work(void *user)
{
    struct chunk_job *job = user;
    uint64_t left = job->total - job->offset;
    size_t size = left < job->chunk_size_max ? (size_t)left : job->chunk_size_max;
    uint8_t *head = job->frame + PEER_FRAME_HEADER_SIZE;
    uint8_t *content = head + CHUNK_HEAD_SIZE;
    job->status = read_chunk(job, content, size);
    if (job->status != NB_OK) {
        return;
    }
    (void)XXH3_128bits_update(job->state, content, size);
    nb_put_u64(head, job->transfer);
    nb_put_u64(head + 8, job->offset);
    peer_frame_seal(job->frame, PEER_FRAME_SNAPSHOT_CHUNK, CHUNK_HEAD_SIZE + size);
    job->frame_size = PEER_FRAME_HEADER_SIZE + CHUNK_HEAD_SIZE + size;
    job->offset += size;
}

/* ---- the job's life ---- */

static struct chunk_job *job_create(int fd, uint64_t total, size_t chunk_size_max)
{
    struct chunk_job *job = nb_alloc_zero(1, sizeof *job);
    *job = (struct chunk_job){.fd = fd, .total = total, .chunk_size_max = chunk_size_max};
    job->frame = nb_alloc(PEER_FRAME_HEADER_SIZE + CHUNK_HEAD_SIZE + chunk_size_max);
    job->state = XXH3_createState();
    nb_assert(job->state != NULL);
    (void)XXH3_128bits_reset(job->state);
    return job;
}

static void job_destroy(struct chunk_job *job)
{
    (void)close(job->fd);
    (void)XXH3_freeState(job->state);
    nb_free(job->frame);
    nb_free(job);
}

static void job_abandon(struct chunk_job *job)
{
    job->owner = NULL;
    if (!job->busy) {
        job_destroy(job);
    }
}

/* ---- the source ---- */

static void dial(struct peer_source *s);
static void on_chunk_read(struct peer_source *s);

static void job_done(void *user)
{
    struct chunk_job *job = user;
    job->busy = false;
    struct peer_source *s = job->owner;
    if (s == NULL) {
        job_destroy(job);
        return;
    }
    struct peer_transport *t = s->transport;
    peer_enter(t);
    on_chunk_read(s);
    peer_leave(t);
}

/* Reads the next chunk, or asks to be called when there is room for it. */
static void pump(struct peer_source *s)
{
    struct peer_transport *t = s->transport;
    if (s->state != SOURCE_STREAMING || s->job->busy) {
        return;
    }
    if (net_conn_pending_bytes(s->conn->net) >=
        CHUNKS_QUEUED_MAX * t->config.snapshot_chunk_bytes) {
        net_conn_want_flush(s->conn->net);
        return;
    }
    s->job->busy = true;
    net_work(t->config.loop, job_work, job_done, s->job);
}

static void send_end(struct peer_source *s)
{
    struct nb_buf head = {0};
    nb_put_u64(nb_buf_extend(&head, 8), s->transfer);
    XXH128_canonical_t hash;
    XXH128_canonicalFromHash(&hash, XXH3_128bits_digest(s->job->state));
    static_assert(sizeof hash.digest == PEER_HASH_SIZE, "the hash on the wire");
    nb_buf_append(&head, hash.digest, sizeof hash.digest);
    peer_conn_frame(s->conn, PEER_FRAME_SNAPSHOT_END, nb_buf_bytes(&head),
                    nb_buf_bytes(&s->announce));
    nb_buf_deinit(&head);
    s->state = SOURCE_WAITING;
    s->waiting_ns = peer_now(s->transport);
}

static void on_chunk_read(struct peer_source *s)
{
    struct chunk_job *job = s->job;
    if (job->status != NB_OK) {
        peer_source_end(s, job->status);
        return;
    }
    net_conn_write(s->conn->net, nb_bytes_of(job->frame, job->frame_size));
    peer_conn_sent(s->conn, job->frame_size);
    s->progress_ns = peer_now(s->transport);
    if (job->offset == job->total) {
        send_end(s);
    } else {
        pump(s);
    }
}

void peer_source_on_room(struct peer_source *s)
{
    pump(s);
}

static void on_connected(void *user, struct net_conn *net, enum nb_status status, const char *error)
{
    (void)error;
    struct peer_source *s = user;
    struct peer_transport *t = s->transport;
    peer_enter(t);
    s->connect = NULL;
    if (net == NULL) {
        if (s->attempt_count < peer_address_count(s->peer)) {
            dial(s);
        } else {
            peer_source_end(s, status == NB_BUSY ? NB_BUSY : NB_CLOSED);
        }
        peer_leave(t);
        return;
    }
    s->conn = peer_conn_create(t, net, false, PEER_CHANNEL_SNAPSHOT);
    s->conn->source = s;
    s->conn->peer = s->peer;
    struct peer_hello hello = peer_own_hello(t, PEER_CHANNEL_SNAPSHOT, s->to);
    struct nb_buf *output = net_conn_output(net);
    size_t begin = peer_frame_begin(output);
    peer_hello_encode(&hello, output);
    peer_frame_end(output, begin, PEER_FRAME_HELLO);
    peer_leave(t);
}

static void dial(struct peer_source *s)
{
    const struct peer *p = s->peer;
    nb_assert(p->address_count != 0);
    const struct net_address *to = peer_address(p, s->address_at++ % peer_address_count(p));
    s->attempt_count++;
    s->connect = net_connect_start(s->transport->config.loop, to,
                                   s->transport->config.connect_timeout_ns, on_connected, s);
}

enum nb_status peer_send_snapshot(struct peer_transport *t, uint64_t to, int fd, uint64_t size,
                                  const struct raft_msg *announce,
                                  void (*done)(void *user, uint64_t to, enum nb_status status),
                                  void *user)
{
    nb_assert(announce->type == RAFT_MSG_SNAPSHOT && announce->to == to);
    struct peer *p = peer_find(t, to);
    if (p == NULL || p->address_count == 0 || t->config.cluster_id == 0) {
        (void)close(fd);
        return NB_NOT_FOUND;
    }
    if (p->source != NULL) {
        peer_source_end(p->source, NB_CANCELED);
    }
    struct peer_source *s = nb_alloc_zero(1, sizeof *s);
    *s = (struct peer_source){.transport = t,
                              .peer = p,
                              .to = to,
                              .transfer = t->next_number++,
                              .address_at = p->address_good,
                              .progress_ns = peer_now(t),
                              .done = done,
                              .user = user};
    s->job = job_create(fd, size, t->config.snapshot_chunk_bytes);
    s->job->owner = s;
    s->job->transfer = s->transfer;
    raft_msg_encode(announce, &s->announce);
    p->source = s;
    dial(s);
    return NB_OK;
}

bool peer_snapshot_progress(const struct peer_transport *t, uint64_t to, uint64_t *out_confirmed,
                            uint64_t *out_total)
{
    const struct peer *p = peer_find(t, to);
    if (p == NULL || p->source == NULL) {
        return false;
    }
    *out_confirmed = p->source->confirmed;
    *out_total = p->source->job->total;
    return true;
}

/* ---- what the receiver says ---- */

void peer_source_on_welcome(struct peer_source *s, const struct peer_hello *hello)
{
    struct peer_conn *c = s->conn;
    struct peer_refusal refusal;
    bool admitted = peer_check_welcome(s->peer, hello, &refusal);
    if (c->state == PEER_CONN_ENDED) {
        return;
    }
    if (!admitted) {
        peer_source_end(s, NB_FOREIGN);
        return;
    }
    peer_conn_up(c, s->peer, hello);
    uint8_t begin[16];
    nb_put_u64(begin, s->transfer);
    nb_put_u64(begin + 8, s->job->total);
    peer_conn_frame(c, PEER_FRAME_SNAPSHOT_BEGIN, nb_bytes_of(begin, sizeof begin),
                    (struct nb_bytes){0});
    s->state = SOURCE_STREAMING;
    s->progress_ns = peer_now(s->transport);
    if (s->job->total == 0) {
        send_end(s);
    } else {
        pump(s);
    }
}

void peer_source_on_refused(struct peer_source *s, const struct peer_refusal *refusal)
{
    (void)refusal; /* the control channel meets the same answer and logs it */
    peer_source_end(s, NB_BUSY);
}

void peer_source_on_progress(struct peer_conn *c, struct nb_bytes payload)
{
    struct peer_source *s = c->source;
    if (payload.len != 16 || nb_get_u64(payload.data) != s->transfer ||
        nb_get_u64(payload.data + 8) < s->confirmed ||
        nb_get_u64(payload.data + 8) > s->job->total) {
        peer_conn_fail(c, PEER_DOWN_PROTOCOL, "malformed progress");
        return;
    }
    uint64_t confirmed = nb_get_u64(payload.data + 8);
    if (confirmed > s->confirmed || s->state == SOURCE_WAITING) {
        s->progress_ns = peer_now(s->transport);
    }
    s->confirmed = confirmed;
}

void peer_source_on_result(struct peer_conn *c, struct nb_bytes payload)
{
    struct peer_source *s = c->source;
    enum nb_status status;
    bool sound = payload.len > 8 && nb_get_u64(payload.data) == s->transfer;
    struct nb_bytes rest = sound ? nb_bytes_from(payload, 8) : payload;
    if (!sound || !peer_status_take(&rest, &status) ||
        (status == NB_OK && s->state != SOURCE_WAITING)) {
        peer_conn_fail(c, PEER_DOWN_PROTOCOL, "malformed result");
        return;
    }
    peer_source_end(s, status);
}

/* ---- ends ---- */

/* Lets go of connection, file and member. */
static void release(struct peer_source *s)
{
    s->state = SOURCE_ENDED;
    if (s->peer != NULL) {
        nb_assert(s->peer->source == s);
        s->peer->source = NULL;
        s->peer = NULL;
    }
    if (s->connect != NULL) {
        net_connect_cancel(s->connect);
        s->connect = NULL;
    }
    if (s->conn != NULL) {
        s->conn->source = NULL;
        if (s->conn->state != PEER_CONN_ENDED) {
            peer_conn_abort(s->conn);
        }
        s->conn = NULL;
    }
    if (s->job != NULL) {
        job_abandon(s->job);
        s->job = NULL;
    }
    nb_buf_deinit(&s->announce);
}

void peer_source_end(struct peer_source *s, enum nb_status status)
{
    if (s->state == SOURCE_ENDED) {
        return;
    }
    release(s);
    s->status = status;
    s->next = s->transport->ended_sources;
    s->transport->ended_sources = s;
    peer_defer(s->transport, 0);
}

void peer_source_tick(struct peer_source *s, uint64_t now_ns)
{
    const struct peer_config *config = &s->transport->config;
    if (peer_since(now_ns, s->progress_ns) > config->snapshot_stall_ns ||
        (s->state == SOURCE_WAITING &&
         peer_since(now_ns, s->waiting_ns) > config->snapshot_answer_ns)) {
        peer_source_end(s, NB_BUSY);
        return;
    }
    pump(s);
}

void peer_source_forget_pause(struct peer_source *s, uint64_t now_ns)
{
    s->progress_ns = now_ns;
}

void peer_source_finish_ended(struct peer_transport *t)
{
    while (t->ended_sources != NULL) {
        struct peer_source *s = t->ended_sources;
        t->ended_sources = s->next;
        s->done(s->user, s->to, s->status);
        nb_free(s);
    }
}

void peer_source_destroy(struct peer_source *s)
{
    struct peer_transport *t = s->transport;
    if (s->state == SOURCE_ENDED) {
        struct peer_source **at = &t->ended_sources;
        while (*at != s) {
            at = &(*at)->next;
        }
        *at = s->next;
    } else {
        release(s);
    }
    nb_free(s);
}

/*
 * A snapshot on its way in. Order, length and hash are checked here; what becomes of the bytes is
 * the server's. [S09]
 */
#include "peer/internal.h"

#include <string.h>
#include <xxhash.h>

enum {
    PROGRESS_QUEUED_MAX = 1 << 16, /* bytes of answers that the sender did not read yet */
};

struct peer_sink {
    struct peer_sink *next; /* in transport->ended_sinks */
    uint64_t from;
    uint64_t transfer; /* our number for it */
    uint64_t remote;   /* the sender's */
    uint64_t offset, total;
    XXH3_state_t *state;
    bool server_waits; /* it is told when this ends without an answer */
    bool paused, resume_wanted;
    bool complete; /* END came and was right */
    char why[64];
};

static void sink_destroy(struct peer_sink *s)
{
    (void)XXH3_freeState(s->state);
    nb_free(s);
}

static void send_result(struct peer_conn *c, uint64_t remote, enum nb_status status)
{
    struct nb_buf head = {0};
    nb_put_u64(nb_buf_extend(&head, 8), remote);
    peer_status_put(&head, status);
    peer_conn_frame(c, PEER_FRAME_SNAPSHOT_RESULT, nb_buf_bytes(&head), (struct nb_bytes){0});
    nb_buf_deinit(&head);
}

/* Says how it went. The sender closes: if we did while chunks wait unread in the socket, the kernel
 * would reset the connection and the result be lost with it. */
static void finish(struct peer_conn *c, enum nb_status status, const char *why)
{
    send_result(c, c->sink->remote, status);
    c->sink_finished = true;
    peer_sink_conn_ended(c, why);
}

void peer_sink_on_begin(struct peer_conn *c, struct nb_bytes payload)
{
    struct peer_transport *t = c->transport;
    const struct peer_events *events = t->config.events;
    if (payload.len != 16 || c->sink != NULL || c->sink_finished) {
        peer_conn_fail(c, PEER_DOWN_PROTOCOL, "malformed begin of a snapshot");
        return;
    }
    peer_sink_finish_ended(t); /* the server hears of the end of the old one first */
    if (c->state == PEER_CONN_ENDED) {
        return;
    }
    struct peer_sink *s = nb_alloc_zero(1, sizeof *s);
    *s = (struct peer_sink){.from = c->peer->id,
                            .transfer = t->next_number++,
                            .remote = nb_get_u64(payload.data),
                            .total = nb_get_u64(payload.data + 8),
                            .state = XXH3_createState()};
    nb_assert(s->state != NULL);
    (void)XXH3_128bits_reset(s->state);
    c->sink = s;
    if (events->on_snapshot_begin == NULL || events->on_snapshot_chunk == NULL ||
        events->on_snapshot_end == NULL) {
        finish(c, NB_UNSUPPORTED, "");
        return;
    }
    s->server_waits = true;
    bool wanted = events->on_snapshot_begin(t->config.user, s->from, s->transfer, s->total);
    if (t->destroyed) {
        return;
    }
    if (!wanted) {
        s->server_waits = false; /* it waits in ended_sinks if the connection is gone */
        if (c->state != PEER_CONN_ENDED) {
            finish(c, NB_BUSY, "");
        }
    }
}

void peer_sink_on_chunk(struct peer_conn *c, struct nb_bytes payload)
{
    struct peer_transport *t = c->transport;
    struct peer_sink *s = c->sink;
    if (c->sink_finished) {
        return; /* sent before our result got there */
    }
    if (s == NULL || s->complete || payload.len <= 16 || nb_get_u64(payload.data) != s->remote ||
        nb_get_u64(payload.data + 8) != s->offset || payload.len - 16 > s->total - s->offset) {
        peer_conn_fail(c, PEER_DOWN_PROTOCOL, "a chunk of a snapshot that does not fit");
        return;
    }
    struct nb_bytes content = nb_bytes_from(payload, 16);
    (void)XXH3_128bits_update(s->state, content.data, content.len);
    uint64_t offset = s->offset;
    s->offset += content.len;
    enum peer_take take = t->config.events->on_snapshot_chunk(t->config.user, s->from, s->transfer,
                                                              offset, s->total, content);
    if (c->state == PEER_CONN_ENDED) {
        return;
    }
    if (take == PEER_TAKE_ABORT) {
        s->server_waits = false;
        finish(c, NB_CANCELED, "");
    } else if (take == PEER_TAKE_PAUSE) {
        s->paused = true;
        net_conn_pause_reading(c->net);
    }
}

static bool hash_is(const struct peer_sink *s, const uint8_t *expected)
{
    XXH128_canonical_t hash;
    XXH128_canonicalFromHash(&hash, XXH3_128bits_digest(s->state));
    return memcmp(hash.digest, expected, PEER_HASH_SIZE) == 0;
}

void peer_sink_on_end(struct peer_conn *c, struct nb_bytes payload)
{
    struct peer_transport *t = c->transport;
    struct peer_sink *s = c->sink;
    if (c->sink_finished) {
        return;
    }
    if (s == NULL || s->complete || payload.len < 8 + PEER_HASH_SIZE ||
        nb_get_u64(payload.data) != s->remote) {
        peer_conn_fail(c, PEER_DOWN_PROTOCOL, "malformed end of a snapshot");
        return;
    }
    const uint8_t *hash = payload.data + 8;
    if (s->offset != s->total || !hash_is(s, hash)) {
        finish(c, NB_CORRUPT, "the snapshot arrived altered");
        return;
    }
    struct raft_msg msg;
    enum nb_status status =
        raft_msg_decode(nb_bytes_from(payload, 8 + PEER_HASH_SIZE), &msg, &t->arena);
    if (status == NB_OK &&
        (msg.type != RAFT_MSG_SNAPSHOT || msg.from != s->from || msg.to != t->config.member_id)) {
        raft_msg_release(&msg);
        status = NB_FOREIGN;
    }
    if (status != NB_OK) {
        finish(c, status, "the snapshot came with a label that makes no sense");
    } else {
        s->complete = true;
        t->config.events->on_snapshot_end(t->config.user, s->from, s->transfer, hash, &msg);
        raft_msg_release(&msg);
    }
    nb_arena_reset(&t->arena);
}

/* ---- what the server says ---- */

static struct peer_conn *find(struct peer_transport *t, uint64_t transfer)
{
    struct peer_conn *c = t->conns;
    while (c != NULL && (c->sink == NULL || c->sink->transfer != transfer)) {
        c = c->next;
    }
    return c;
}

void peer_snapshot_resume(struct peer_transport *t, uint64_t transfer)
{
    struct peer_conn *c = find(t, transfer);
    if (c != NULL) {
        c->sink->resume_wanted = true;
        peer_defer(t, 0);
    }
}

bool peer_snapshot_answer(struct peer_transport *t, uint64_t transfer, enum nb_status status)
{
    struct peer_conn *c = find(t, transfer);
    if (c == NULL) {
        return false;
    }
    nb_assert(c->sink->complete);
    c->sink->server_waits = false;
    finish(c, status, "");
    return true;
}

static struct peer_conn *find_resumed(struct peer_transport *t)
{
    struct peer_conn *c = t->conns;
    while (c != NULL && (c->sink == NULL || !c->sink->resume_wanted)) {
        c = c->next;
    }
    return c;
}

void peer_sink_resume_due(struct peer_transport *t)
{
    for (struct peer_conn *c = find_resumed(t); c != NULL; c = find_resumed(t)) {
        c->sink->resume_wanted = false;
        if (c->sink->paused) {
            c->sink->paused = false;
            peer_conn_resume(c);
        }
    }
}

/* ---- ends ---- */

void peer_sink_conn_ended(struct peer_conn *c, const char *why)
{
    struct peer_transport *t = c->transport;
    struct peer_sink *s = c->sink;
    c->sink = NULL;
    (void)snprintf(s->why, sizeof s->why, "%s", why);
    /* Freed later in any case: a handler further up the stack may be at it. */
    s->next = t->ended_sinks;
    t->ended_sinks = s;
    peer_defer(t, 0);
}

void peer_sink_finish_ended(struct peer_transport *t)
{
    while (t->ended_sinks != NULL) {
        struct peer_sink *s = t->ended_sinks;
        t->ended_sinks = s->next;
        if (s->server_waits && t->config.events->on_snapshot_abort != NULL) {
            t->config.events->on_snapshot_abort(t->config.user, s->from, s->transfer, s->why);
        }
        sink_destroy(s);
    }
}

void peer_sink_deinit(struct peer_transport *t)
{
    while (t->ended_sinks != NULL) {
        struct peer_sink *s = t->ended_sinks;
        t->ended_sinks = s->next;
        sink_destroy(s);
    }
}

void peer_sink_tick(struct peer_conn *c)
{
    if (net_conn_pending_bytes(c->net) > PROGRESS_QUEUED_MAX) {
        return;
    }
    uint8_t progress[16];
    nb_put_u64(progress, c->sink->remote);
    nb_put_u64(progress + 8, c->sink->offset);
    peer_conn_frame(c, PEER_FRAME_SNAPSHOT_PROGRESS, nb_bytes_of(progress, sizeof progress),
                    (struct nb_bytes){0});
}

bool peer_sink_is_paused(const struct peer_conn *c)
{
    return c->sink->paused;
}

bool peer_sink_waits_for_sender(const struct peer_conn *c)
{
    return c->sink == NULL || (!c->sink->paused && !c->sink->complete);
}

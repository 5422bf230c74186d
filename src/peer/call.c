/*
 * Small questions between members, on the control channel.
 */
#include "peer/internal.h"

#include <string.h>

/* ---- ours ---- */

static void watch_due(struct peer_transport *t)
{
    uint64_t due_ns = UINT64_MAX;
    for (const struct peer_call_out *call = t->calls; call != NULL; call = call->next) {
        if (call->conn != NULL && call->due_ns < due_ns) {
            due_ns = call->due_ns;
        }
    }
    if (due_ns != UINT64_MAX) {
        uint64_t now_ns = peer_now(t);
        net_timer_start(t->call_timer, due_ns > now_ns ? due_ns - now_ns : 0, 0);
    }
}

/* Sends it, or says why not. */
static enum nb_status ask(struct peer_transport *t, struct peer_call_out *call,
                          struct nb_bytes request)
{
    const struct peer *p = peer_find(t, call->to);
    struct peer_conn *c = p == NULL ? NULL : p->control.conn;
    if (request.len > PEER_CALL_SIZE_MAX) {
        return NB_TOO_LARGE;
    }
    if (c == NULL || c->state != PEER_CONN_UP) {
        return NB_CLOSED;
    }
    if (t->call_count > PEER_CALL_COUNT_MAX ||
        net_conn_pending_bytes(c->net) > t->config.control_queue_bytes_max) {
        return NB_BUSY;
    }
    uint8_t number[8];
    nb_put_u64(number, call->number);
    peer_conn_frame(c, PEER_FRAME_CALL, nb_bytes_of(number, sizeof number), request);
    call->conn = c;
    return NB_OK;
}

void peer_call(struct peer_transport *t, uint64_t to, struct nb_bytes request, uint64_t timeout_ns,
               void (*done)(void *user, enum nb_status status, struct nb_bytes answer), void *user)
{
    struct peer_call_out *call = nb_alloc_zero(1, sizeof *call);
    *call = (struct peer_call_out){.next = t->calls,
                                   .number = t->next_number++,
                                   .to = to,
                                   .due_ns = peer_now(t) + timeout_ns,
                                   .done = done,
                                   .user = user};
    t->calls = call;
    t->call_count++;
    call->status = ask(t, call, request);
    if (call->conn == NULL) {
        peer_defer(t, 0);
    } else {
        watch_due(t);
    }
}

static void take_call(struct peer_transport *t, struct peer_call_out *call)
{
    struct peer_call_out **at = &t->calls;
    while (*at != call) {
        at = &(*at)->next;
    }
    *at = call->next;
    t->call_count--;
}

void peer_call_on_reply(struct peer_conn *c, struct nb_bytes payload)
{
    struct peer_transport *t = c->transport;
    if (payload.len < 8) {
        peer_conn_fail(c, PEER_DOWN_PROTOCOL, "malformed reply");
        return;
    }
    uint64_t number = nb_get_u64(payload.data);
    struct nb_bytes rest = nb_bytes_from(payload, 8);
    enum nb_status status;
    if (!peer_status_take(&rest, &status)) {
        peer_conn_fail(c, PEER_DOWN_PROTOCOL, "malformed reply");
        return;
    }
    for (struct peer_call_out *call = t->calls; call != NULL; call = call->next) {
        if (call->number == number && call->conn == c) {
            take_call(t, call);
            call->done(call->user, status, rest);
            nb_free(call);
            return; /* one that is not found had timed out */
        }
    }
}

void peer_call_finish_due(struct peer_transport *t)
{
    struct peer_call_out *call = t->calls;
    while (call != NULL) {
        if (call->conn != NULL) {
            call = call->next;
            continue;
        }
        take_call(t, call);
        call->done(call->user, call->status, (struct nb_bytes){0});
        nb_free(call);
        call = t->calls; /* `done` may have changed the list */
    }
}

void peer_call_on_timer(void *user)
{
    struct peer_transport *t = user;
    peer_enter(t);
    uint64_t now_ns = peer_now(t);
    for (struct peer_call_out *call = t->calls; call != NULL; call = call->next) {
        if (call->conn != NULL && call->due_ns <= now_ns) {
            call->conn = NULL;
            call->status = NB_BUSY;
        }
    }
    watch_due(t);
    peer_call_finish_due(t);
    peer_leave(t);
}

/* ---- theirs ---- */

static void send_reply(struct peer_conn *c, uint64_t remote_number, enum nb_status status,
                       struct nb_bytes answer)
{
    struct nb_buf head = {0};
    nb_put_u64(nb_buf_extend(&head, 8), remote_number);
    peer_status_put(&head, status);
    peer_conn_frame(c, PEER_FRAME_REPLY, nb_buf_bytes(&head), answer);
    nb_buf_deinit(&head);
}

void peer_call_on_call(struct peer_conn *c, struct nb_bytes payload)
{
    struct peer_transport *t = c->transport;
    if (payload.len < 8 || payload.len - 8 > PEER_CALL_SIZE_MAX ||
        net_conn_pending_bytes(c->net) > t->config.control_queue_bytes_max) {
        peer_conn_fail(c, PEER_DOWN_PROTOCOL, "malformed call, or answers not read");
        return;
    }
    uint64_t remote_number = nb_get_u64(payload.data);
    if (t->config.events->on_call == NULL || t->call_in_count >= PEER_CALL_COUNT_MAX) {
        send_reply(c, remote_number, t->config.events->on_call == NULL ? NB_UNSUPPORTED : NB_BUSY,
                   (struct nb_bytes){0});
        return;
    }
    t->calls_in =
        nb_grow(t->calls_in, &t->call_in_capacity, t->call_in_count + 1, sizeof *t->calls_in);
    uint64_t number = t->next_number++;
    t->calls_in[t->call_in_count++] =
        (struct peer_call_in){.number = number, .remote_number = remote_number, .conn = c};
    t->config.events->on_call(t->config.user, c->peer->id, number, nb_bytes_from(payload, 8));
}

void peer_reply(struct peer_transport *t, uint64_t call, enum nb_status status,
                struct nb_bytes answer)
{
    for (size_t i = 0; i < t->call_in_count; i++) {
        if (t->calls_in[i].number != call) {
            continue;
        }
        struct peer_call_in in = t->calls_in[i];
        t->calls_in[i] = t->calls_in[--t->call_in_count];
        if (answer.len > PEER_CALL_SIZE_MAX) {
            send_reply(in.conn, in.remote_number, NB_TOO_LARGE, (struct nb_bytes){0});
        } else {
            send_reply(in.conn, in.remote_number, status, answer);
        }
        return;
    }
}

/* ---- ends ---- */

void peer_call_conn_ended(struct peer_conn *c)
{
    struct peer_transport *t = c->transport;
    for (struct peer_call_out *call = t->calls; call != NULL; call = call->next) {
        if (call->conn == c) {
            call->conn = NULL;
            call->status = NB_CLOSED;
            peer_defer(t, 0);
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < t->call_in_count; i++) {
        if (t->calls_in[i].conn != c) {
            t->calls_in[kept++] = t->calls_in[i];
        }
    }
    t->call_in_count = kept;
}

void peer_call_deinit(struct peer_transport *t)
{
    while (t->calls != NULL) {
        struct peer_call_out *call = t->calls;
        t->calls = call->next;
        nb_free(call);
    }
    t->call_count = 0;
    t->call_in_count = 0;
}

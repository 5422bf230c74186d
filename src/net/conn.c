#include "net/loop.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { FLUSH_PASSES_MAX = 4 };

static const uint64_t linger_ns = UINT64_C(5000000000);

struct net_conn *net_conn_new(struct net_loop *loop, bool is_pipe)
{
    struct net_conn *c = nb_alloc_zero(1, sizeof *c);
    c->loop = loop;
    int rc = is_pipe ? uv_pipe_init(&loop->uv, &c->handle.pipe, 0)
                     : uv_tcp_init(&loop->uv, &c->handle.tcp);
    nb_assert(rc == 0);
    c->handle.any.data = c;
    c->next = loop->conns;
    if (loop->conns != NULL) {
        loop->conns->previous = c;
    }
    loop->conns = c;
    loop->conn_count++;
    return c;
}

static void format_sockaddr(const struct sockaddr_storage *a, char *to, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "";
    if (a->ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, a, sizeof in);
        (void)uv_ip4_name(&in, host, sizeof host);
        (void)snprintf(to, size, "%s:%u", host, (unsigned)ntohs(in.sin_port));
    } else if (a->ss_family == AF_INET6) {
        struct sockaddr_in6 in;
        memcpy(&in, a, sizeof in);
        (void)uv_ip6_name(&in, host, sizeof host);
        (void)snprintf(to, size, "[%s]:%u", host, (unsigned)ntohs(in.sin6_port));
    } else {
        (void)snprintf(to, size, "@");
    }
}

void net_conn_describe(struct net_conn *c)
{
    struct sockaddr_storage address = {0};
    int len = (int)sizeof address;
    if (c->handle.any.type == UV_TCP) {
        (void)uv_tcp_getpeername(&c->handle.tcp, (struct sockaddr *)&address, &len);
        (void)uv_tcp_nodelay(&c->handle.tcp, 1);
    }
    format_sockaddr(&address, c->peer, sizeof c->peer);
}

void net_conn_local(const struct net_conn *c, char *to, size_t size)
{
    struct sockaddr_storage address = {0};
    int len = (int)sizeof address;
    if (c->handle.any.type == UV_TCP) {
        (void)uv_tcp_getsockname(&c->handle.tcp, (struct sockaddr *)&address, &len);
    }
    format_sockaddr(&address, to, size);
}

/* ---- buffers ---- */

static void pool_give(struct net_loop *loop, struct nb_buf *b)
{
    nb_buf_clear(b);
    if (b->capacity != 0 && b->capacity <= NET_POOL_BUFFER_BYTES_MAX &&
        loop->pool_count < NET_POOL_BUFFERS_MAX) {
        loop->pool[loop->pool_count++] = *b;
        *b = (struct nb_buf){0};
    }
    nb_buf_deinit(b);
}

static void enlist(struct net_conn *c)
{
    if (!c->listed) {
        c->listed = true;
        c->next_dirty = c->loop->dirty;
        c->loop->dirty = c;
    }
}

struct nb_buf *net_conn_output(struct net_conn *c)
{
    struct net_loop *loop = c->loop;
    if (c->ended) {
        nb_buf_clear(&loop->sink);
        return &loop->sink;
    }
    if (c->out.capacity == 0 && loop->pool_count != 0) {
        c->out = loop->pool[--loop->pool_count];
    }
    enlist(c);
    return &c->out;
}

void net_conn_write(struct net_conn *c, struct nb_bytes bytes)
{
    if (!c->ended) {
        nb_buf_append_bytes(net_conn_output(c), bytes);
    }
}

size_t net_conn_pending_bytes(const struct net_conn *c)
{
    return c->out.len + (c->flight.len - c->flight_at);
}

void net_conn_want_flush(struct net_conn *c)
{
    if (!c->want_flush && !c->ended) {
        c->want_flush = true;
        enlist(c);
    }
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct net_conn *c = handle->data;
    *buf = uv_buf_init((char *)c->loop->read_buffer, NET_READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct net_conn *c = stream->data;
    net_stir(c->loop);
    if (len > 0) {
        c->events->on_data(c, c->user, nb_bytes_of(buf->base, (size_t)len));
    } else if (len == UV_EOF) {
        if (c->events->on_eof != NULL && c->events->on_eof(c, c->user)) {
            net_conn_pause_reading(c);
        } else {
            net_conn_close(c);
        }
    } else if (len < 0) {
        net_conn_end(c, NB_IO);
    }
}

static void update_reading(struct net_conn *c)
{
    bool wanted = c->events != NULL && !c->ended && !c->closing && !c->paused &&
                  (!c->above || c->read_while_full);
    if (wanted == c->reading) {
        return;
    }
    c->reading = wanted;
    if (wanted) {
        int rc = uv_read_start(&c->handle.stream, on_alloc, on_read);
        if (rc != 0) {
            net_conn_end(c, NB_IO);
        }
    } else {
        (void)uv_read_stop(&c->handle.stream);
    }
}

void net_conn_pause_reading(struct net_conn *c)
{
    c->paused = true;
    update_reading(c);
}

void net_conn_resume_reading(struct net_conn *c)
{
    c->paused = false;
    update_reading(c);
}

void net_conn_start(struct net_conn *c, const struct net_conn_events *events, void *user,
                    const struct net_conn_options *options)
{
    nb_assert(c->events == NULL && events->on_data != NULL && events->on_close != NULL);
    c->events = events;
    c->user = user;
    c->high_bytes =
        options != NULL && options->output_high_bytes != 0 ? options->output_high_bytes : 1 << 20;
    c->read_while_full = options != NULL && options->read_while_full;
    if (c->out.len != 0) {
        enlist(c); /* it was written to before */
    }
    update_reading(c);
}

/* ---- writing ---- */

static void on_written(uv_write_t *write, int status)
{
    struct net_conn *c = write->data;
    net_stir(c->loop);
    nb_free(write);
    c->write = NULL;
    c->flight_at = 0;
    pool_give(c->loop, &c->flight);
    if (c->ended) {
        return;
    }
    if (status < 0) {
        net_conn_end(c, NB_IO);
        return;
    }
    enlist(c); /* what has gathered meanwhile goes at the end of this turn */
}

/* Writes what the kernel takes at once and leaves the rest to libuv. */
static void write_out(struct net_conn *c)
{
    if (c->write != NULL || c->out.len == 0) {
        return;
    }
    uv_buf_t buf = uv_buf_init((char *)c->out.data, (unsigned)c->out.len);
    int written = uv_try_write(&c->handle.stream, &buf, 1);
    if (written < 0 && written != UV_EAGAIN) {
        net_conn_end(c, NB_IO);
        return;
    }
    size_t at = written < 0 ? 0 : (size_t)written;
    if (at == c->out.len) {
        pool_give(c->loop, &c->out);
        return;
    }
    c->flight = c->out;
    c->flight_at = at;
    c->out = (struct nb_buf){0};
    c->write = nb_alloc(sizeof *c->write);
    c->write->data = c;
    buf = uv_buf_init((char *)c->flight.data + at, (unsigned)(c->flight.len - at));
    int rc = uv_write(c->write, &c->handle.stream, &buf, 1, on_written);
    if (rc != 0) {
        nb_free(c->write);
        c->write = NULL;
        net_conn_end(c, NB_IO);
    }
}

static void judge_level(struct net_conn *c)
{
    size_t pending = net_conn_pending_bytes(c);
    if (!c->above && pending >= c->high_bytes) {
        c->above = true;
        update_reading(c);
    } else if (c->above && pending < c->high_bytes / 2) {
        c->above = false;
        update_reading(c);
        if (!c->ended && c->events->on_drain != NULL) {
            c->events->on_drain(c, c->user);
        }
    }
}

void net_conn_flush(struct net_conn *c)
{
    if (c->ended || c->events == NULL) {
        return;
    }
    if (c->want_flush && net_conn_pending_bytes(c) < c->high_bytes) {
        c->want_flush = false;
        if (c->events->on_flush != NULL) {
            c->events->on_flush(c, c->user);
        }
    }
    if (!c->ended) {
        write_out(c);
    }
    if (!c->ended) {
        judge_level(c);
    }
    if (!c->ended && c->want_flush && net_conn_pending_bytes(c) < c->high_bytes) {
        enlist(c); /* it has more, and there is room */
    }
    if (!c->ended && c->closing && !c->want_flush && net_conn_pending_bytes(c) == 0) {
        net_conn_end(c, NB_OK);
    }
}

void net_loop_flush(struct net_loop *loop)
{
    for (int pass = 0; pass < FLUSH_PASSES_MAX && loop->dirty != NULL; pass++) {
        struct net_conn *list = loop->dirty;
        loop->dirty = NULL;
        while (list != NULL) {
            struct net_conn *c = list;
            list = c->next_dirty;
            c->next_dirty = NULL;
            c->listed = false;
            net_conn_flush(c); /* ended ones live on until libuv has closed them */
        }
    }
}

/* ---- the end ---- */

static void on_closed(uv_handle_t *handle)
{
    struct net_conn *c = handle->data;
    struct net_loop *loop = c->loop;
    net_stir(loop);
    if (c->events != NULL) {
        c->events->on_close(c, c->user, c->reason);
    }
    if (c->previous != NULL) {
        c->previous->next = c->next;
    } else {
        loop->conns = c->next;
    }
    if (c->next != NULL) {
        c->next->previous = c->previous;
    }
    if (c->listed) { /* rare: it was marked in the turn in which it ended */
        struct net_conn **at = &loop->dirty;
        while (*at != c) {
            at = &(*at)->next_dirty;
        }
        *at = c->next_dirty;
    }
    if (c->closing) {
        loop->closing_count--;
    }
    loop->conn_count--;
    pool_give(loop, &c->out);
    nb_buf_deinit(&c->flight);
    nb_free(c);
    if (!loop->stopping) {
        net_listeners_resume(loop);
    }
}

void net_conn_end(struct net_conn *c, enum nb_status reason)
{
    if (!c->ended) {
        c->ended = true;
        c->reason = reason;
        uv_close(&c->handle.any, on_closed);
    }
}

void net_conn_close(struct net_conn *c)
{
    if (c->closing || c->ended) {
        return;
    }
    c->closing = true;
    c->close_by_ns = uv_hrtime() + linger_ns;
    if (c->loop->closing_count++ == 0 && !c->loop->stopping) {
        (void)uv_timer_again(&c->loop->linger);
    }
    update_reading(c);
    if (c->events == NULL) {
        net_conn_end(c, NB_OK);
    } else {
        enlist(c);
        net_stir(c->loop);
    }
}

void net_loop_linger(struct net_loop *loop)
{
    uint64_t now_ns = uv_hrtime();
    for (struct net_conn *c = loop->conns; c != NULL; c = c->next) {
        if (c->closing && now_ns >= c->close_by_ns) {
            net_conn_end(c, NB_OK);
        }
    }
    if (loop->closing_count == 0) {
        (void)uv_timer_stop(&loop->linger);
    }
}

void net_conn_abort(struct net_conn *c)
{
    net_conn_end(c, NB_CANCELED);
}

void net_conn_set_keepalive(struct net_conn *c, unsigned idle_s, unsigned timeout_ms)
{
    uv_os_fd_t fd;
    if (c->handle.any.type != UV_TCP || c->ended || uv_fileno(&c->handle.any, &fd) != 0) {
        return;
    }
    (void)uv_tcp_keepalive(&c->handle.tcp, 1, idle_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}

const char *net_conn_peer(const struct net_conn *c)
{
    return c->peer;
}

void *net_conn_user(const struct net_conn *c)
{
    return c->user;
}

struct net_loop *net_conn_loop(const struct net_conn *c)
{
    return c->loop;
}

#include "net/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG_DEFAULT = 1024, RETRY_MS = 1000 };

struct net_listener {
    union {
        uv_handle_t any;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } handle;
    uv_timer_t retry;
    struct net_loop *loop;
    struct net_listener *next;
    void (*on_accept)(void *user, struct net_conn *conn);
    void *user;
    unsigned reserve;
    unsigned open_handles; /* of the two above */
    bool paused, closing;
};

/* Whether a new descriptor would still leave the reserve: descriptors are given from the lowest up.
 */
static bool has_room(const struct net_listener *l)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        return true;
    }
    int probe = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    if (probe < 0) {
        return false;
    }
    (void)close(probe);
    return (rlim_t)probe + l->reserve < limit.rlim_cur;
}

/* libuv holds one accepted socket and polls no further until uv_accept takes it: not to take it is
 * to pause. */
static void accept_one(struct net_listener *l)
{
    if (!has_room(l)) {
        if (!l->paused) {
            l->paused = true;
            (void)uv_timer_again(&l->retry);
        }
        return;
    }
    if (l->paused) {
        l->paused = false;
        (void)uv_timer_stop(&l->retry);
    }
    struct net_conn *c = net_conn_new(l->loop, l->handle.any.type == UV_NAMED_PIPE);
    if (uv_accept(&l->handle.stream, &c->handle.stream) != 0) {
        net_conn_end(c, NB_IO);
        return;
    }
    net_conn_describe(c);
    l->on_accept(l->user, c);
    nb_assert(c->events != NULL || c->ended);
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct net_listener *l = stream->data;
    net_stir(l->loop);
    if (status == 0 && !l->closing) {
        accept_one(l);
    }
}

static void on_retry(uv_timer_t *timer)
{
    struct net_listener *l = timer->data;
    net_stir(l->loop);
    if (l->paused && !l->closing) {
        accept_one(l);
    }
}

void net_listeners_resume(struct net_loop *loop)
{
    for (struct net_listener *l = loop->listeners; l != NULL; l = l->next) {
        if (l->paused && !l->closing) {
            accept_one(l);
        }
    }
}

static int bind_tcp(struct net_listener *l, const struct net_address *at, bool reuse_port)
{
    struct sockaddr_in6 six;
    struct sockaddr_in four;
    struct sockaddr *address = (struct sockaddr *)&four;
    const char *host = strcmp(at->host, "localhost") == 0 ? "127.0.0.1" : at->host;
    unsigned family = AF_INET;
    if (host[0] == 0) { /* all, IPv6 with IPv4 mapped where there is IPv6 */
        int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        family = probe >= 0 ? AF_INET6 : AF_INET;
        host = probe >= 0 ? "::" : "0.0.0.0";
        if (probe >= 0) {
            (void)close(probe);
        }
    }
    int rc = family == AF_INET ? uv_ip4_addr(host, at->port, &four) : UV_EINVAL;
    if (rc != 0) {
        rc = uv_ip6_addr(host, at->port, &six);
        address = (struct sockaddr *)&six;
        family = AF_INET6;
    }
    if (rc == 0) {
        rc = uv_tcp_init_ex(&l->loop->uv, &l->handle.tcp, family);
        l->open_handles += rc == 0;
    }
    uv_os_fd_t fd;
    if (rc == 0 && reuse_port && uv_fileno(&l->handle.any, &fd) == 0) {
        int on = 1;
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    }
    return rc == 0 ? uv_tcp_bind(&l->handle.tcp, address, 0) : rc;
}

/* A process that was killed leaves its socket behind: a name that nobody listens at is taken over.
 */
static void remove_dead_socket(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct stat s;
    size_t len = strlen(path);
    if (len >= sizeof un.sun_path || lstat(path, &s) != 0 || !S_ISSOCK(s.st_mode)) {
        return;
    }
    memcpy(un.sun_path, path, len + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return;
    }
    if (connect(fd, (const struct sockaddr *)&un, sizeof un) != 0 && errno == ECONNREFUSED) {
        (void)unlink(path);
    }
    (void)close(fd);
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct net_listener *l = handle->data;
    if (--l->open_handles == 0) {
        nb_free(l);
    }
}

void net_listener_close(struct net_listener *l)
{
    if (l == NULL || l->closing) {
        return;
    }
    l->closing = true;
    for (struct net_listener **at = &l->loop->listeners; *at != NULL; at = &(*at)->next) {
        if (*at == l) {
            *at = l->next;
            break;
        }
    }
    uv_close((uv_handle_t *)&l->retry, on_listener_closed);
    if (l->open_handles == 2) {
        uv_close(&l->handle.any, on_listener_closed);
    }
}

void net_listeners_close(struct net_loop *loop)
{
    while (loop->listeners != NULL) {
        net_listener_close(loop->listeners);
    }
}

enum nb_status net_listener_open(struct net_loop *loop, const struct net_address *at,
                                 const struct net_listen_options *options,
                                 void (*on_accept)(void *user, struct net_conn *conn), void *user,
                                 struct net_listener **out, struct net_error *error)
{
    struct net_listen_options none = {0};
    options = options != NULL ? options : &none;
    struct net_listener *l = nb_alloc_zero(1, sizeof *l);
    l->loop = loop;
    l->on_accept = on_accept;
    l->user = user;
    l->reserve =
        options->descriptor_reserve != 0 ? options->descriptor_reserve : NET_RESERVE_CLIENTS;
    (void)uv_timer_init(&loop->uv, &l->retry);
    l->retry.data = l;
    l->open_handles = 1;
    (void)uv_timer_start(&l->retry, on_retry, RETRY_MS, RETRY_MS);
    (void)uv_timer_stop(&l->retry);
    l->next = loop->listeners;
    loop->listeners = l;
    int rc;
    if (at->scheme == NET_SCHEME_UNIX || at->scheme == NET_SCHEME_UNIXS) {
        remove_dead_socket(at->host);
        rc = uv_pipe_init(&loop->uv, &l->handle.pipe, 0);
        l->open_handles += rc == 0;
        rc = rc == 0 ? uv_pipe_bind(&l->handle.pipe, at->host) : rc;
    } else {
        rc = bind_tcp(l, at, options->reuse_port);
    }
    l->handle.any.data = l;
    if (rc == 0) {
        rc = uv_listen(&l->handle.stream,
                       options->backlog != 0 ? options->backlog : BACKLOG_DEFAULT, on_connection);
    }
    if (rc != 0) {
        char text[280];
        net_address_format(at, text, sizeof text);
        net_error_set(error, "listen on %.150s: %s", text, uv_strerror(rc));
        net_listener_close(l);
        return net_status_of_uv(rc);
    }
    *out = l;
    return NB_OK;
}

uint16_t net_listener_port(const struct net_listener *l)
{
    struct sockaddr_storage address = {0};
    int len = (int)sizeof address;
    if (l->handle.any.type != UV_TCP ||
        uv_tcp_getsockname(&l->handle.tcp, (struct sockaddr *)&address, &len) != 0) {
        return 0;
    }
    uint16_t port; /* at the same place for both families */
    memcpy(&port, (const char *)&address + 2, sizeof port);
    return (uint16_t)(port >> 8 | port << 8);
}

bool net_listener_is_paused(const struct net_listener *l)
{
    return l->paused;
}

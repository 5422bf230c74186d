#include "net/loop.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static const uint64_t timeout_default_ns = UINT64_C(5000000000);

/* One try of one address. Outlives its connect when that gives up first. */
struct attempt {
    uv_connect_t uv;
    struct net_connect *connect; /* NULL: given up */
    struct net_conn *conn;
};

struct net_connect {
    struct net_loop *loop;
    struct net_address to;
    uint64_t timeout_ns;
    void (*on_done)(void *user, struct net_conn *conn, enum nb_status status, const char *error);
    void *user;
    struct net_resolve *resolve; /* on its way, or NULL */
    struct net_timer *timer;
    struct attempt *attempt;
    struct sockaddr_storage addresses[NET_RESOLVED_MAX];
    size_t address_count, next_address;
    enum nb_status status; /* of the last failure that tells something */
    bool tried;            /* an address has failed */
    char error[256];
};

static void try_next(struct net_connect *n);

static void release(struct net_connect *n)
{
    net_timer_destroy(n->timer);
    nb_free(n);
}

static void fail_saying(struct net_connect *n, enum nb_status status, const char *why)
{
    char text[280];
    net_address_format(&n->to, text, sizeof text);
    (void)snprintf(n->error, sizeof n->error, "connect to %.120s: %.110s", text, why);
    n->status = status;
}

/* That a family is not there (no IPv6, say) hides nothing that another address has told. */
static void fail_with(struct net_connect *n, int error)
{
    bool tells = error != UV_EADDRNOTAVAIL && error != UV_EAFNOSUPPORT && error != UV_ENETUNREACH;
    if (tells || !n->tried) {
        fail_saying(n, net_status_of_uv(error), uv_strerror(error));
    }
    n->tried = true;
}

static void drop_attempt(struct net_connect *n)
{
    if (n->attempt != NULL) {
        n->attempt->connect = NULL;
        net_conn_end(n->attempt->conn, NB_CANCELED);
        n->attempt = NULL;
    }
}

static void conclude(struct net_connect *n, struct net_conn *conn)
{
    net_timer_stop(n->timer);
    n->on_done(n->user, conn, conn != NULL ? NB_OK : n->status, conn != NULL ? NULL : n->error);
    nb_assert(conn == NULL || conn->events != NULL || conn->ended);
    release(n);
}

static void on_connected(uv_connect_t *request, int status)
{
    struct attempt *a = request->data;
    struct net_connect *n = a->connect;
    struct net_conn *conn = a->conn;
    nb_free(a);
    if (n == NULL) {
        return; /* given up before; the connection is being closed */
    }
    net_stir(n->loop);
    n->attempt = NULL;
    if (status == 0) {
        net_conn_describe(conn);
        conclude(n, conn);
        return;
    }
    fail_with(n, status);
    net_conn_end(conn, NB_IO);
    if (!n->loop->stopping) {
        try_next(n);
    } else {
        conclude(n, NULL);
    }
}

/* The timer runs for the address at hand; or, at once, to report what was clear from the start. */
static void on_time(void *user)
{
    struct net_connect *n = user;
    if (n->attempt != NULL) {
        fail_with(n, UV_ETIMEDOUT);
        drop_attempt(n);
    }
    try_next(n);
}

static struct attempt *attempt_create(struct net_connect *n, bool is_pipe)
{
    struct attempt *a = nb_alloc_zero(1, sizeof *a);
    a->uv.data = a;
    a->connect = n;
    a->conn = net_conn_new(n->loop, is_pipe);
    n->attempt = a;
    return a;
}

static void try_next(struct net_connect *n)
{
    while (n->next_address < n->address_count) {
        struct sockaddr_storage *to = &n->addresses[n->next_address++];
        bool is_pipe = to->ss_family == AF_UNIX;
        struct attempt *a = attempt_create(n, is_pipe);
        int rc = 0;
        if (is_pipe) {
            uv_pipe_connect(&a->uv, &a->conn->handle.pipe, n->to.host, on_connected);
        } else {
            rc = uv_tcp_connect(&a->uv, &a->conn->handle.tcp, (struct sockaddr *)to, on_connected);
        }
        if (rc == 0) {
            net_timer_start(n->timer, n->timeout_ns, 0);
            return;
        }
        fail_with(n, rc);
        drop_attempt(n);
        nb_free(a); /* its callback will not come */
    }
    conclude(n, NULL);
}

bool net_sockaddr_of(const char *host, uint16_t port, struct sockaddr_storage *out)
{
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    memset(out, 0, sizeof *out);
    if (uv_ip4_addr(host, port, &four) == 0) {
        memcpy(out, &four, sizeof four);
        return true;
    }
    if (strchr(host, ':') != NULL && uv_ip6_addr(host, port, &six) == 0) {
        memcpy(out, &six, sizeof six);
        return true;
    }
    return false;
}

static void on_resolved(void *user, enum nb_status status, const struct net_address *addresses,
                        size_t count, const char *error)
{
    struct net_connect *n = user;
    n->resolve = NULL;
    for (size_t i = 0; i < count; i++) {
        n->address_count +=
            net_sockaddr_of(addresses[i].host, n->to.port, &n->addresses[n->address_count]) ? 1 : 0;
    }
    if (status != NB_OK) {
        fail_saying(n, status, error);
    }
    try_next(n);
}

struct net_connect *net_connect_start(struct net_loop *loop, const struct net_address *to,
                                      uint64_t timeout_ns,
                                      void (*on_done)(void *user, struct net_conn *conn,
                                                      enum nb_status status, const char *error),
                                      void *user)
{
    struct net_connect *n = nb_alloc_zero(1, sizeof *n);
    n->loop = loop;
    n->to = *to;
    n->timeout_ns = timeout_ns != 0 ? timeout_ns : timeout_default_ns;
    n->on_done = on_done;
    n->user = user;
    n->timer = net_timer_create(loop, on_time, n);
    fail_saying(n, NB_NOT_FOUND, "no such host");
    if (to->scheme == NET_SCHEME_UNIX || to->scheme == NET_SCHEME_UNIXS) {
        n->addresses[0].ss_family = AF_UNIX;
        n->address_count = 1;
        net_timer_start(n->timer, 0, 0); /* later, not from within this call */
    } else {
        n->resolve =
            net_resolve_start(loop, to->host[0] == 0 ? "127.0.0.1" : to->host, on_resolved, n);
    }
    return n;
}

void net_connect_cancel(struct net_connect *n)
{
    drop_attempt(n);
    if (n->resolve != NULL) {
        net_resolve_cancel(n->resolve);
    }
    release(n);
}

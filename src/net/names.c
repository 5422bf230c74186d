/*
 * Names: c-ares, with its sockets watched by the loop. c-ares never calls anybody outside of this
 * file: what it finds is kept in the net_resolve and told by that one's timer, so `on_done` may do
 * what it likes, and a query that nobody waits for any more only counts.
 */
#include "net/loop.h"

#include <ares.h>
#include <arpa/nameser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { TRIES = 3, NAME_LEN_MAX = 254 };

static const uint64_t query_default_ns = UINT64_C(1000000000);
static const uint64_t timeout_default_ns = UINT64_C(5000000000);

/* A configuration of c-ares. One is current; older ones live until their last query has ended. */
struct channel {
    struct net_loop *loop;
    struct channel *next;
    ares_channel ares;
    struct net_timer *timer; /* c-ares' next time-out */
    struct watched *sockets;
    size_t query_count;  /* those that c-ares will still call back for */
    size_t waited_count; /* those of them that a net_resolve waits for */
    struct stat config;  /* resolv.conf as it was; zero when there was none */
    bool retired;
};

/* A socket of c-ares' in the loop. */
struct watched {
    uv_poll_t uv;
    struct channel *channel;
    ares_socket_t fd;
    struct watched *next;
};

struct net_names {
    struct net_names_config config; /* strings owned */
    struct channel *channels;       /* the current one is first, if it is not retired */
};

/* What c-ares gets as its argument. */
struct query {
    struct channel *channel;
    struct net_resolve *resolve; /* NULL: nobody waits */
};

/* A and AAAA are one query, so that both are answered out of one domain of the search list. Where
 * that stays without an answer (there are servers that say nothing about AAAA), a second one asks
 * for A alone; the first success counts. */
enum { QUERIES_MAX = 2 };

struct net_resolve {
    struct net_loop *loop;
    struct query *queries[QUERIES_MAX]; /* those that have not ended */
    size_t query_count;                 /* begun */
    struct net_timer *timer; /* fires when done, at the second query, or when time is over */
    uint64_t due_ns;         /* when time is over */
    bool done;
    enum nb_status status;
    char error[256];
    char name[NAME_LEN_MAX + 2];
    struct net_address *addresses; /* owned; or */
    struct net_srv *records;       /* owned */
    size_t count;
    void (*on_addresses)(void *user, enum nb_status status, const struct net_address *addresses,
                         size_t count, const char *error);
    void (*on_records)(void *user, enum nb_status status, const struct net_srv *records,
                       size_t count, const char *error);
    void *user;
};

/* ---- channels ---- */

static void on_socket_closed(uv_handle_t *handle)
{
    nb_free(handle->data);
}

static void on_timer(void *user);

static void schedule(struct channel *c)
{
    struct timeval wait;
    if (ares_timeout(c->ares, NULL, &wait) == NULL) {
        net_timer_stop(c->timer);
        return;
    }
    net_timer_start(
        c->timer, (uint64_t)wait.tv_sec * 1000000000 + (uint64_t)wait.tv_usec * 1000 + 1000000, 0);
}

static void channel_destroy(struct channel *c)
{
    for (struct channel **at = &c->loop->names->channels; *at != NULL; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    ares_destroy(c->ares); /* ends its queries and lets go of its sockets */
    nb_assert(c->sockets == NULL && c->query_count == 0);
    net_timer_destroy(c->timer);
    ares_library_cleanup();
    nb_free(c);
}

/* After every call of c-ares that may end queries; `c` may be gone afterwards. */
static void settle(struct channel *c)
{
    if (c->waited_count == 0 && c->query_count != 0) {
        ares_cancel(c->ares); /* nobody waits: it need not go on */
    }
    if (c->retired && c->query_count == 0) {
        channel_destroy(c);
    } else {
        schedule(c);
    }
}

static void on_timer(void *user)
{
    struct channel *c = user;
    ares_process_fd(c->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    settle(c);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct watched *w = handle->data;
    struct channel *c = w->channel;
    ares_socket_t fd = w->fd;
    net_stir(c->loop);
    bool readable = status != 0 || (events & UV_READABLE) != 0;
    bool writable = status != 0 || (events & UV_WRITABLE) != 0;
    ares_process_fd(c->ares, readable ? fd : ARES_SOCKET_BAD, writable ? fd : ARES_SOCKET_BAD);
    settle(c);
}

/* c-ares wants to know of `fd` what it says here; neither: it is about to close it. */
static void on_socket_state(void *user, ares_socket_t fd, int readable, int writable)
{
    struct channel *c = user;
    struct watched **at = &c->sockets;
    while (*at != NULL && (*at)->fd != fd) {
        at = &(*at)->next;
    }
    struct watched *w = *at;
    if (!readable && !writable) {
        if (w != NULL) {
            *at = w->next;
            uv_close((uv_handle_t *)&w->uv, on_socket_closed);
        }
        return;
    }
    if (w == NULL) {
        w = nb_alloc_zero(1, sizeof *w);
        *w = (struct watched){.channel = c, .fd = fd, .next = c->sockets};
        if (uv_poll_init(&c->loop->uv, &w->uv, fd) != 0) {
            nb_free(w); /* its queries then time out */
            return;
        }
        w->uv.data = w;
        c->sockets = w;
    }
    (void)uv_poll_start(&w->uv, (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0),
                        on_poll);
}

static struct net_names *names_of(struct net_loop *loop)
{
    if (loop->names == NULL) {
        loop->names = nb_alloc_zero(1, sizeof *loop->names);
    }
    return loop->names;
}

static const char *resolv_conf_of(const struct net_names *names)
{
    return names->config.resolv_conf != NULL ? names->config.resolv_conf : "/etc/resolv.conf";
}

static struct stat stat_of(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 ? s : (struct stat){0};
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static struct channel *channel_create(struct net_loop *loop, const struct stat *config)
{
    struct net_names *names = loop->names;
    uint64_t query_ns = names->config.query_ns != 0 ? names->config.query_ns : query_default_ns;
    struct channel *c = nb_alloc_zero(1, sizeof *c);
    c->loop = loop;
    c->config = *config;
    char lookups[] = "fb"; /* hosts, then name servers: nsswitch.conf is not asked */
    char *path = nb_strdup(resolv_conf_of(names));
    struct ares_options options = {
        .timeout = (int)((query_ns + 999999) / 1000000),
        .tries = TRIES,
        .lookups = lookups,
        .sock_state_cb = on_socket_state,
        .sock_state_cb_data = c,
        .resolvconf_path = path,
    };
    int rc = ares_library_init(ARES_LIB_INIT_ALL);
    nb_assert(rc == ARES_SUCCESS);
    rc = ares_init_options(&c->ares, &options,
                           ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
                               ARES_OPT_SOCK_STATE_CB | ARES_OPT_RESOLVCONF);
    nb_free(path);
    if (rc == ARES_SUCCESS && names->config.servers != NULL) {
        rc = ares_set_servers_ports_csv(c->ares, names->config.servers);
        if (rc != ARES_SUCCESS) {
            ares_destroy(c->ares);
        }
    }
    if (rc != ARES_SUCCESS) {
        ares_library_cleanup();
        nb_free(c);
        return NULL;
    }
    c->timer = net_timer_create(loop, on_timer, c);
    c->next = names->channels;
    names->channels = c;
    return c;
}

static void retire(struct channel *c)
{
    c->retired = true;
    settle(c);
}

/* The channel for what is asked now; NULL when resolv.conf cannot be used. */
static struct channel *current_channel(struct net_loop *loop)
{
    struct net_names *names = names_of(loop);
    struct stat config = stat_of(resolv_conf_of(names));
    struct channel *c = names->channels;
    if (c != NULL && !c->retired) {
        if (is_same_file(&c->config, &config)) {
            return c;
        }
        retire(c);
    }
    return channel_create(loop, &config);
}

void net_loop_set_names(struct net_loop *loop, const struct net_names_config *config)
{
    struct net_names *names = names_of(loop);
    nb_free((void *)(uintptr_t)names->config.resolv_conf);
    nb_free((void *)(uintptr_t)names->config.servers);
    names->config = *config;
    if (config->resolv_conf != NULL) {
        names->config.resolv_conf = nb_strdup(config->resolv_conf);
    }
    if (config->servers != NULL) {
        names->config.servers = nb_strdup(config->servers);
    }
    if (names->channels != NULL && !names->channels->retired) {
        retire(names->channels);
    }
}

void net_names_destroy(struct net_loop *loop)
{
    struct net_names *names = loop->names;
    if (names == NULL) {
        return;
    }
    while (names->channels != NULL) {
        channel_destroy(names->channels);
    }
    nb_free((void *)(uintptr_t)names->config.resolv_conf);
    nb_free((void *)(uintptr_t)names->config.servers);
    nb_free(names);
    loop->names = NULL;
}

/* ---- outcomes ---- */

static void conclude(struct net_resolve *r, enum nb_status status, const char *why)
{
    r->done = true;
    r->status = status;
    if (status != NB_OK) {
        (void)snprintf(r->error, sizeof r->error, "lookup %.200s: %s", r->name, why);
    }
    net_timer_start(r->timer, 0, 0); /* told later, and by nobody but the loop */
}

static void conclude_ares(struct net_resolve *r, int rc)
{
    switch (rc) {
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
        conclude(r, NB_NOT_FOUND, "no such host");
        break;
    case ARES_ETIMEOUT:
        conclude(r, NB_BUSY, "no name server answered in time");
        break;
    case ARES_EBADNAME:
        conclude(r, NB_INVALID, "not a name");
        break;
    default:
        conclude(r, NB_IO, ares_strerror(rc));
        break;
    }
}

/* A query has ended. Who waits for it, or NULL when nobody does. */
static struct net_resolve *end_query(void *user)
{
    struct query *q = user;
    struct net_resolve *r = q->resolve;
    q->channel->query_count--;
    if (r != NULL) {
        q->channel->waited_count--;
        for (size_t i = 0; i < r->query_count; i++) {
            r->queries[i] = r->queries[i] == q ? NULL : r->queries[i];
        }
    }
    nb_free(q);
    return r == NULL || r->done ? NULL : r;
}

static bool has_query(const struct net_resolve *r)
{
    for (size_t i = 0; i < r->query_count; i++) {
        if (r->queries[i] != NULL) {
            return true;
        }
    }
    return false;
}

static void add_address(struct net_resolve *r, const char *host)
{
    struct net_address a = {0};
    if (strlen(host) >= sizeof a.host || r->count == NET_RESOLVED_MAX) {
        return;
    }
    for (size_t i = 0; i < r->count; i++) {
        if (strcmp(r->addresses[i].host, host) == 0) {
            return;
        }
    }
    (void)snprintf(a.host, sizeof a.host, "%s", host);
    r->addresses[r->count++] = a;
}

/* The next node from `*at` on that is of `family` (or is not, with `other`). */
static bool take_node(const struct ares_addrinfo_node **at, int family, bool other, char *to,
                      size_t size)
{
    while (*at != NULL && ((*at)->ai_family == family) == other) {
        *at = (*at)->ai_next;
    }
    if (*at == NULL) {
        return false;
    }
    const struct ares_addrinfo_node *node = *at;
    *at = node->ai_next;
    struct sockaddr_storage address = {0};
    nb_assert(node->ai_addrlen <= sizeof address);
    memcpy(&address, node->ai_addr, node->ai_addrlen);
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    memcpy(&four, &address, sizeof four);
    memcpy(&six, &address, sizeof six);
    return (address.ss_family == AF_INET ? uv_ip4_name(&four, to, size)
                                         : uv_ip6_name(&six, to, size)) == 0;
}

static void on_addrinfo(void *user, int rc, int timeouts, struct ares_addrinfo *info)
{
    (void)timeouts;
    struct net_resolve *r = end_query(user);
    if (r != NULL && rc == ARES_SUCCESS && info != NULL && info->nodes != NULL) {
        nb_free(r->addresses);
        r->addresses = nb_alloc_zero(NET_RESOLVED_MAX, sizeof *r->addresses);
        const struct ares_addrinfo_node *same = info->nodes, *other = info->nodes;
        int family = info->nodes->ai_family; /* c-ares has put the best first [RFC 6724] */
        char text[INET6_ADDRSTRLEN];
        while (same != NULL || other != NULL) {
            if (take_node(&same, family, false, text, sizeof text)) {
                add_address(r, text);
            }
            if (take_node(&other, family, true, text, sizeof text)) {
                add_address(r, text);
            }
        }
    }
    if (r != NULL) {
        rc = rc == ARES_SUCCESS && r->count == 0 ? ARES_ENODATA : rc;
        if (rc == ARES_SUCCESS) {
            conclude(r, NB_OK, "");
        } else if (!has_query(r)) {
            conclude_ares(r, rc);
        }
    }
    if (info != NULL) {
        ares_freeaddrinfo(info);
    }
}

static int srv_compare(const void *left, const void *right)
{
    const struct net_srv *a = left, *b = right;
    if (a->priority != b->priority) {
        return a->priority < b->priority ? -1 : 1;
    }
    if (a->weight != b->weight) {
        return a->weight > b->weight ? -1 : 1;
    }
    int order = strcmp(a->target, b->target);
    return order != 0 ? order : (a->port > b->port) - (a->port < b->port);
}

static void on_srv_answer(void *user, int rc, int timeouts, unsigned char *answer, int len)
{
    (void)timeouts;
    struct net_resolve *r = end_query(user);
    if (r == NULL) {
        return;
    }
    struct ares_srv_reply *list = NULL;
    if (rc == ARES_SUCCESS) {
        rc = ares_parse_srv_reply(answer, len, &list);
    }
    if (rc != ARES_SUCCESS) {
        conclude_ares(r, rc);
        return;
    }
    r->records = nb_alloc_zero(NET_SRV_MAX, sizeof *r->records);
    for (const struct ares_srv_reply *i = list; i != NULL && r->count < NET_SRV_MAX; i = i->next) {
        size_t host_len = strlen(i->host);
        host_len -= host_len != 0 && i->host[host_len - 1] == '.' ? 1 : 0;
        struct net_srv *to = &r->records[r->count];
        if (host_len == 0 || host_len >= sizeof to->target) {
            continue; /* "." says that there is no such service */
        }
        memcpy(to->target, i->host, host_len);
        to->port = i->port;
        to->priority = i->priority;
        to->weight = i->weight;
        r->count++;
    }
    ares_free_data(list);
    if (r->count == 0) {
        conclude(r, NB_NOT_FOUND, "no such service");
        return;
    }
    qsort(r->records, r->count, sizeof *r->records, srv_compare);
    conclude(r, NB_OK, "");
}

/* ---- asking ---- */

/* Nobody waits for its queries from now on. */
static void leave_queries(struct net_resolve *r)
{
    for (size_t i = 0; i < r->query_count; i++) {
        struct query *q = r->queries[i];
        if (q != NULL) {
            r->queries[i] = NULL;
            q->resolve = NULL;
            q->channel->waited_count--;
            settle(q->channel); /* `q` may be gone */
        }
    }
}

static void resolve_free(struct net_resolve *r)
{
    net_timer_destroy(r->timer);
    nb_free(r->addresses);
    nb_free(r->records);
    nb_free(r);
}

static void ask_for_addresses(struct net_resolve *r, int family);

static void on_resolve_timer(void *user)
{
    struct net_resolve *r = user;
    uint64_t now_ns = net_now_ns();
    if (!r->done && now_ns < r->due_ns) {
        net_timer_start(r->timer, r->due_ns - now_ns, 0);
        if (r->on_addresses != NULL && r->query_count == 1) {
            ask_for_addresses(r, AF_INET);
        }
        return;
    }
    leave_queries(r);
    if (!r->done) {
        r->status = NB_BUSY;
        (void)snprintf(r->error, sizeof r->error, "lookup %.200s: no name server answered in time",
                       r->name);
    }
    const char *error = r->status == NB_OK ? NULL : r->error;
    net_timer_stop(r->timer);
    if (r->on_addresses != NULL) {
        r->on_addresses(r->user, r->status, r->addresses, r->count, error);
    } else {
        r->on_records(r->user, r->status, r->records, r->count, error);
    }
    resolve_free(r);
}

static struct net_resolve *resolve_create(struct net_loop *loop, const char *name, void *user)
{
    struct net_resolve *r = nb_alloc_zero(1, sizeof *r);
    r->loop = loop;
    r->user = user;
    r->timer = net_timer_create(loop, on_resolve_timer, r);
    (void)snprintf(r->name, sizeof r->name, "%s", name);
    if (name[0] == 0 || strlen(name) > NAME_LEN_MAX) {
        conclude(r, NB_INVALID, "not a name");
    }
    return r;
}

/* What is known without asking. */
static bool answer_by_rule(struct net_resolve *r)
{
    r->addresses = nb_alloc_zero(NET_RESOLVED_MAX, sizeof *r->addresses);
    struct sockaddr_storage numbers;
    static const char local[] = "localhost";
    size_t len = strlen(r->name), local_len = sizeof local - 1;
    len -= r->name[len - 1] == '.' ? 1 : 0;
    if (net_sockaddr_of(r->name, 0, &numbers)) {
        add_address(r, r->name);
    } else if (len >= local_len && strncasecmp(r->name + len - local_len, local, local_len) == 0 &&
               (len == local_len || r->name[len - local_len - 1] == '.')) {
        add_address(r, "127.0.0.1");
        add_address(r, "::1");
    } else {
        nb_free(r->addresses);
        r->addresses = NULL;
        return false;
    }
    conclude(r, NB_OK, "");
    return true;
}

static struct query *begin_query(struct net_resolve *r)
{
    struct channel *c = current_channel(r->loop);
    if (c == NULL) {
        if (!has_query(r)) {
            conclude(r, NB_IO, "the resolver's configuration cannot be used");
        }
        return NULL;
    }
    nb_assert(r->query_count < QUERIES_MAX);
    if (r->query_count == 0) {
        const struct net_names_config *config = &r->loop->names->config;
        uint64_t whole_ns = config->timeout_ns != 0 ? config->timeout_ns : timeout_default_ns;
        uint64_t query_ns = config->query_ns != 0 ? config->query_ns : query_default_ns;
        r->due_ns = net_now_ns() + whole_ns;
        net_timer_start(r->timer, query_ns < whole_ns ? query_ns : whole_ns, 0);
    }
    struct query *q = nb_alloc_zero(1, sizeof *q);
    *q = (struct query){.channel = c, .resolve = r};
    r->queries[r->query_count++] = q;
    c->query_count++;
    c->waited_count++;
    return q;
}

static void ask_for_addresses(struct net_resolve *r, int family)
{
    struct query *q = begin_query(r);
    if (q != NULL) {
        struct channel *c = q->channel;
        struct ares_addrinfo_hints hints = {
            .ai_flags = ARES_AI_ENVHOSTS, .ai_family = family, .ai_socktype = SOCK_STREAM};
        ares_getaddrinfo(c->ares, r->name, NULL, &hints, on_addrinfo, q);
        settle(c);
    }
}

struct net_resolve *net_resolve_start(struct net_loop *loop, const char *name,
                                      void (*on_done)(void *user, enum nb_status status,
                                                      const struct net_address *addresses,
                                                      size_t count, const char *error),
                                      void *user)
{
    struct net_resolve *r = resolve_create(loop, name, user);
    r->on_addresses = on_done;
    if (r->done || answer_by_rule(r)) {
        return r;
    }
    ask_for_addresses(r, AF_UNSPEC);
    return r;
}

struct net_resolve *net_resolve_srv_start(struct net_loop *loop, const char *name,
                                          void (*on_done)(void *user, enum nb_status status,
                                                          const struct net_srv *records,
                                                          size_t count, const char *error),
                                          void *user)
{
    struct net_resolve *r = resolve_create(loop, name, user);
    r->on_records = on_done;
    struct query *q = r->done ? NULL : begin_query(r);
    if (q != NULL) {
        struct channel *c = q->channel;
        ares_search(c->ares, r->name, ns_c_in, ns_t_srv, on_srv_answer, q);
        settle(c);
    }
    return r;
}

void net_resolve_cancel(struct net_resolve *r)
{
    leave_queries(r);
    resolve_free(r);
}

#include "server/discovery.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

const uint64_t server_discovery_patience_ns = UINT64_C(10000000000);

static const uint64_t retry_ns = UINT64_C(300000000);

/* An answer, waited for. */
struct answer {
    bool done;
    enum nb_status status;
    size_t count;
    struct net_srv records[NET_SRV_MAX];
    struct net_address addresses[NET_RESOLVED_MAX];
    char error[256];
};

static void note(struct answer *a, enum nb_status status, size_t count, const char *error)
{
    a->done = true;
    a->status = status;
    a->count = count;
    (void)snprintf(a->error, sizeof a->error, "%s", error == NULL ? "" : error);
}

static void on_records(void *user, enum nb_status status, const struct net_srv *records,
                       size_t count, const char *error)
{
    struct answer *a = user;
    note(a, status, count, error);
    if (count != 0) {
        memcpy(a->records, records, count * sizeof *records);
    }
}

static void on_addresses(void *user, enum nb_status status, const struct net_address *addresses,
                         size_t count, const char *error)
{
    struct answer *a = user;
    note(a, status, count, error);
    if (count != 0) {
        memcpy(a->addresses, addresses, count * sizeof *addresses);
    }
}

static void on_pause(void *user)
{
    *(bool *)user = true;
}

static void wait_for(struct net_loop *loop, const bool *done)
{
    while (!*done) {
        (void)net_loop_run_once(loop, true);
    }
}

static void pause_for(struct net_loop *loop, uint64_t ns)
{
    bool over = false;
    struct net_timer *timer = net_timer_create(loop, on_pause, &over);
    net_timer_start(timer, ns, 0);
    wait_for(loop, &over);
    net_timer_destroy(timer);
}

/* ---- which record is ours ---- */

static bool same_host(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    a_len -= a_len != 0 && a[a_len - 1] == '.' ? 1 : 0;
    b_len -= b_len != 0 && b[b_len - 1] == '.' ? 1 : 0;
    return a_len == b_len && strncasecmp(a, b, a_len) == 0;
}

static bool share_an_address(struct net_loop *loop, const char *left, const char *right)
{
    struct answer answers[2] = {0};
    (void)!net_resolve_start(loop, left, on_addresses, &answers[0]);
    (void)!net_resolve_start(loop, right, on_addresses, &answers[1]);
    wait_for(loop, &answers[0].done);
    wait_for(loop, &answers[1].done);
    for (size_t i = 0; i < answers[0].count; i++) {
        for (size_t k = 0; k < answers[1].count; k++) {
            if (strcmp(answers[0].addresses[i].host, answers[1].addresses[k].host) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool is_own(struct net_loop *loop, const struct server_addresses *own,
                   const struct net_srv *record, bool tls, bool resolve)
{
    for (size_t i = 0; i < own->count; i++) {
        const struct server_address *a = &own->items[i];
        if (a->unix_socket || a->tls != tls || a->port != record->port) {
            continue;
        }
        if (resolve ? share_an_address(loop, a->host, record->target)
                    : same_host(a->host, record->target)) {
            return true;
        }
    }
    return false;
}

/* ---- the records ---- */

struct found {
    struct net_srv records[2 * NET_SRV_MAX];
    bool tls[2 * NET_SRV_MAX];
    bool own[2 * NET_SRV_MAX];
    size_t count, own_count;
    bool absent; /* the servers said so of both services */
    char error[256];
};

static void ask(struct net_loop *loop, const struct server_config *c, bool tls, struct found *f)
{
    char name[512];
    const char *suffix = c->discovery_srv_name;
    (void)snprintf(name, sizeof name, "_etcd-server%s%s%s._tcp.%s", tls ? "-ssl" : "",
                   *suffix != '\0' ? "-" : "", suffix, c->discovery_srv);
    struct answer *a = nb_alloc_zero(1, sizeof *a);
    (void)!net_resolve_srv_start(loop, name, on_records, a);
    wait_for(loop, &a->done);
    for (size_t i = 0; i < a->count; i++) {
        f->records[f->count] = a->records[i];
        f->tls[f->count++] = tls;
    }
    if (a->status != NB_OK) {
        f->absent = f->absent && a->status == NB_NOT_FOUND;
        (void)snprintf(f->error, sizeof f->error, "%s", a->error);
    }
    nb_free(a);
}

static void find(struct net_loop *loop, const struct server_config *c, struct found *f)
{
    *f = (struct found){.absent = true};
    ask(loop, c, true, f);
    ask(loop, c, false, f);
    f->absent = f->absent && f->count == 0;
    for (int resolve = 0; resolve < 2 && f->own_count == 0; resolve++) {
        for (size_t i = 0; i < f->count; i++) {
            f->own[i] =
                is_own(loop, &c->initial_advertise_peer, &f->records[i], f->tls[i], resolve == 1);
            f->own_count += f->own[i] ? 1 : 0;
        }
    }
}

static void write_cluster(struct server_config *c, const struct found *f)
{
    struct nb_buf text = {0};
    unsigned number = 0;
    for (size_t i = 0; i < f->count; i++) {
        char name[16];
        do {
            (void)snprintf(name, sizeof name, "%u", number);
            number += f->own[i] ? 0 : 1;
        } while (!f->own[i] && strcmp(name, c->name) == 0);
        bool six = strchr(f->records[i].target, ':') != NULL;
        nb_buf_printf(&text, "%s%s=%s://%s%s%s:%u", i == 0 ? "" : ",", f->own[i] ? c->name : name,
                      f->tls[i] ? "https" : "http", six ? "[" : "", f->records[i].target,
                      six ? "]" : "", (unsigned)f->records[i].port);
    }
    c->initial_cluster_text = nb_arena_str(&c->arena, nb_buf_bytes(&text));
    nb_buf_deinit(&text);
}

enum server_config_outcome server_discover(struct net_loop *loop, struct server_config *c,
                                           uint64_t patience_ns, struct nb_buf *message)
{
    nb_assert(c->discovery_srv != NULL);
    uint64_t until_ns = net_now_ns() + patience_ns;
    struct found *f = nb_alloc_zero(1, sizeof *f);
    find(loop, c, f);
    while (f->own_count == 0 && !f->absent && net_now_ns() < until_ns) {
        pause_for(loop, retry_ns);
        find(loop, c, f);
    }
    bool fine = f->own_count != 0;
    if (fine) {
        write_cluster(c, f);
    } else if (f->count == 0) {
        nb_buf_append_str(message, "error setting up initial cluster: --discovery-srv ");
        nb_json_escape(message, nb_bytes_str(c->discovery_srv));
        nb_buf_printf(message, ": no SRV records found (%s)\n", f->error);
    } else {
        nb_buf_append_str(message, "cannot find local etcd member \"");
        nb_json_escape(message, nb_bytes_str(c->name));
        nb_buf_printf(message,
                      "\" in SRV records: none of the %zu is one of "
                      "--initial-advertise-peer-urls\n",
                      f->count);
    }
    nb_free(f);
    return fine ? SERVER_CONFIG_RUN : SERVER_CONFIG_BAD;
}

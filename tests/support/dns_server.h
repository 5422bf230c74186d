/*
 * tests/support/dns_server: a name server on a loopback port, UDP and TCP, in the loop of the test.
 * What it answers is a table of rows that the test may change at any time.
 */
#ifndef NABATA_TESTS_SUPPORT_DNS_SERVER_H
#define NABATA_TESTS_SUPPORT_DNS_SERVER_H

#include "base/random.h"
#include "net/net.h"

#include "tests/support/unit.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DNS_A = 1, DNS_AAAA = 28, DNS_SRV = 33, DNS_ROWS_MAX = 32, DNS_ASKED_MAX = 64 };

struct dns_row {
    const char *name; /* lower case, as it is asked for, without the last dot */
    int type;         /* 0: the server is silent about this name */
    const char *data; /* an address; or the target of SRV ("." is the root) */
    uint16_t port, priority, weight;
};

struct dns_server {
    struct net_loop *loop;
    struct net_watch *watch;
    struct net_listener *listener;
    int fd;
    uint16_t port;
    char servers[32]; /* for net_names_config */
    struct dns_row rows[DNS_ROWS_MAX];
    size_t row_count;
    bool silent, truncate;
    int silent_type;           /* nothing is said about this type; 0 is none */
    struct nb_random *garbage; /* answers over UDP are damaged by chance */
    size_t udp_count, tcp_count;
    char asked[DNS_ASKED_MAX][256]; /* the first names asked */
};

static inline void dns_add(struct dns_server *s, const char *name, int type, const char *data)
{
    assert_true(s->row_count < DNS_ROWS_MAX);
    s->rows[s->row_count++] = (struct dns_row){.name = name, .type = type, .data = data};
}

static inline void dns_add_srv(struct dns_server *s, const char *name, const char *target,
                               uint16_t port, uint16_t priority, uint16_t weight)
{
    assert_true(s->row_count < DNS_ROWS_MAX);
    s->rows[s->row_count++] = (struct dns_row){name, DNS_SRV, target, port, priority, weight};
}

static inline void dns_put16(struct nb_buf *b, unsigned value)
{
    uint8_t bytes[2] = {(uint8_t)(value >> 8), (uint8_t)value};
    nb_buf_append(b, bytes, 2);
}

static inline void dns_put_name(struct nb_buf *b, const char *name)
{
    while (*name != 0 && strcmp(name, ".") != 0) {
        size_t len = strcspn(name, ".");
        uint8_t len_byte = (uint8_t)len;
        nb_buf_append(b, &len_byte, 1);
        nb_buf_append(b, name, len);
        name += len + (name[len] == '.' ? 1 : 0);
    }
    nb_buf_append(b, "", 1);
}

static inline void dns_put_row(struct nb_buf *b, const struct dns_row *row)
{
    dns_put16(b, 0xc00c); /* the name of the question */
    dns_put16(b, (unsigned)row->type);
    dns_put16(b, 1);
    dns_put16(b, 0);
    dns_put16(b, 1); /* seconds to live */
    struct nb_buf data = {0};
    if (row->type == DNS_SRV) {
        dns_put16(&data, row->priority);
        dns_put16(&data, row->weight);
        dns_put16(&data, row->port);
        dns_put_name(&data, row->data);
    } else {
        uint8_t bytes[16];
        bool four = row->type == DNS_A;
        assert_int_equal(inet_pton(four ? AF_INET : AF_INET6, row->data, bytes), 1);
        nb_buf_append(&data, bytes, four ? 4 : 16);
    }
    dns_put16(b, (unsigned)data.len);
    nb_buf_append_bytes(b, nb_buf_bytes(&data));
    nb_buf_deinit(&data);
}

/* Reads the question; false when there is none. `out_len`: where it ends. */
static inline bool dns_question(struct nb_bytes q, char *name, int *out_type, size_t *out_len)
{
    size_t at = 12, to = 0;
    while (at < q.len && q.data[at] != 0) {
        size_t len = q.data[at];
        if (len > 63 || at + 1 + len > q.len || to + len + 2 > 256) {
            return false;
        }
        for (size_t i = 0; i < len; i++) {
            uint8_t c = q.data[at + 1 + i];
            name[to++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
        }
        name[to++] = '.';
        at += 1 + len;
    }
    name[to == 0 ? 0 : to - 1] = 0;
    if (at + 5 > q.len) {
        return false;
    }
    *out_type = q.data[at + 1] << 8 | q.data[at + 2];
    *out_len = at + 5;
    return true;
}

/* False: no answer at all. */
static inline bool dns_answer(struct dns_server *s, struct nb_bytes q, bool over_tcp,
                              struct nb_buf *out)
{
    char name[256];
    int type = 0;
    size_t question_len = 12, known = 0, found = 0;
    assert_true(q.len >= 12 && dns_question(q, name, &type, &question_len));
    size_t number = s->udp_count + s->tcp_count;
    if (number < DNS_ASKED_MAX) {
        (void)snprintf(s->asked[number], sizeof s->asked[0], "%s", name);
    }
    *(over_tcp ? &s->tcp_count : &s->udp_count) += 1;
    bool silent = s->silent || type == s->silent_type;
    for (size_t i = 0; i < s->row_count; i++) {
        bool same = strcmp(s->rows[i].name, name) == 0;
        known += same;
        found += same && s->rows[i].type == type;
        silent = silent || (same && s->rows[i].type == 0);
    }
    if (silent) {
        return false;
    }
    bool cut = s->truncate && !over_tcp;
    nb_buf_append(out, q.data, 2);
    dns_put16(out, 0x8180 | (cut ? 0x0200 : 0) | (known == 0 ? 3 : 0));
    dns_put16(out, 1);
    dns_put16(out, cut ? 0 : (unsigned)found);
    dns_put16(out, 0);
    dns_put16(out, 0);
    nb_buf_append(out, q.data + 12, question_len - 12);
    for (size_t i = 0; i < s->row_count && !cut; i++) {
        if (strcmp(s->rows[i].name, name) == 0 && s->rows[i].type == type) {
            dns_put_row(out, &s->rows[i]);
        }
    }
    return true;
}

static inline void dns_damage(struct nb_random *random, struct nb_buf *b)
{
    size_t from = nb_random_below(random, 8) == 0 ? 0 : 2; /* mostly with the right id */
    for (uint64_t i = 1 + nb_random_below(random, 6); i > 0; i--) {
        b->data[from + nb_random_below(random, b->len - from)] =
            (uint8_t)nb_random_below(random, 256);
    }
    if (nb_random_below(random, 4) == 0) {
        b->len = nb_random_below(random, b->len + 1);
    }
}

static inline void dns_on_udp(void *user)
{
    struct dns_server *s = user;
    uint8_t input[1500];
    struct sockaddr_in from;
    socklen_t from_len = sizeof from;
    ssize_t len =
        recvfrom(s->fd, input, sizeof input, MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
    struct nb_buf out = {0};
    if (len > 0 && dns_answer(s, nb_bytes_of(input, (size_t)len), false, &out)) {
        if (s->garbage != NULL) {
            dns_damage(s->garbage, &out);
        }
        (void)!sendto(s->fd, out.data, out.len, 0, (struct sockaddr *)&from, from_len);
    }
    nb_buf_deinit(&out);
}

/* A question over TCP comes in one piece here: it is short, and over loopback. */
static inline void dns_on_tcp_data(struct net_conn *conn, void *user, struct nb_bytes bytes)
{
    struct dns_server *s = user;
    while (bytes.len > 2) {
        size_t len = (size_t)(bytes.data[0] << 8 | bytes.data[1]);
        assert_true(bytes.len >= 2 + len);
        struct nb_buf out = {0}, framed = {0};
        if (dns_answer(s, nb_bytes_of(bytes.data + 2, len), true, &out)) {
            dns_put16(&framed, (unsigned)out.len);
            nb_buf_append_bytes(&framed, nb_buf_bytes(&out));
            net_conn_write(conn, nb_buf_bytes(&framed));
        }
        nb_buf_deinit(&out);
        nb_buf_deinit(&framed);
        bytes = nb_bytes_from(bytes, 2 + len);
    }
}

static inline void dns_on_tcp_close(struct net_conn *conn, void *user, enum nb_status reason)
{
    (void)conn;
    (void)user;
    (void)reason;
}

static inline void dns_on_accept(void *user, struct net_conn *conn)
{
    static const struct net_conn_events events = {.on_data = dns_on_tcp_data,
                                                  .on_close = dns_on_tcp_close};
    net_conn_start(conn, &events, user, NULL);
}

static inline void dns_open(struct dns_server *s, struct net_loop *loop)
{
    *s = (struct dns_server){.loop = loop};
    struct net_address at;
    assert_true(net_address_parse("127.0.0.1:0", 0, &at, NULL));
    int rc = -1;
    for (int i = 0; i < 20 && rc != 0; i++) { /* the same port must be free for both */
        assert_int_equal(net_listener_open(loop, &at, NULL, dns_on_accept, s, &s->listener, NULL),
                         NB_OK);
        s->port = net_listener_port(s->listener);
        s->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_true(s->fd >= 0);
        struct sockaddr_in in = {.sin_family = AF_INET,
                                 .sin_port = htons(s->port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        rc = bind(s->fd, (struct sockaddr *)&in, sizeof in);
        if (rc != 0) {
            (void)close(s->fd);
            net_listener_close(s->listener);
        }
    }
    assert_int_equal(rc, 0);
    s->watch = net_watch_create(loop, s->fd, dns_on_udp, s);
    (void)snprintf(s->servers, sizeof s->servers, "127.0.0.1:%u", (unsigned)s->port);
}

static inline void dns_close(struct dns_server *s)
{
    net_watch_destroy(s->watch);
    net_listener_close(s->listener);
    (void)close(s->fd);
}

#endif

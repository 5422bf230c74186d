/* The API client against a server in this process, with certificates made here. [K03, K16] */
#include "kube/kube.h"
#include "tests/support/certificates.h"
#include "tests/support/unit.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the server: one connection after the other, each with an answer prepared before ---- */

enum { ANSWERS_MAX = 4 };

struct answer {
    const char *bytes; /* NULL: says nothing until the client goes */
    size_t repeat;     /* of `bytes`; 0: once */
    bool bare;         /* without TLS */
};

struct server {
    int listener;
    uint16_t port;
    SSL_CTX *ssl;
    struct answer answers[ANSWERS_MAX];
    size_t count;
    char requests[ANSWERS_MAX][2048];
    pthread_t thread;
};

static void serve_one(struct server *s, size_t n)
{
    int fd = accept(s->listener, NULL, NULL);
    if (fd < 0) {
        return;
    }
    const struct answer *a = &s->answers[n];
    if (a->bare) {
        (void)!write(fd, a->bytes, strlen(a->bytes));
        (void)shutdown(fd, SHUT_WR);
        char rest[1024];
        while (read(fd, rest, sizeof rest) > 0) {
        }
        (void)close(fd);
        return;
    }
    SSL *ssl = SSL_new(s->ssl);
    (void)SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
        size_t len = 0;
        int got;
        while (len + 1 < sizeof s->requests[n] &&
               (got = SSL_read(ssl, s->requests[n] + len, (int)(sizeof s->requests[n] - len - 1))) >
                   0) {
            len += (size_t)got;
            const char *end = strstr(s->requests[n], "\r\n\r\n");
            bool with_body = strncmp(s->requests[n], "PATCH", 5) == 0;
            if (end != NULL && (!with_body || strchr(end, '}') != NULL)) {
                break;
            }
        }
        if (a->bytes == NULL) {
            char c;
            (void)SSL_read(ssl, &c, 1);
        } else {
            bool good = true;
            for (size_t i = 0; good && i <= a->repeat; i++) {
                good = SSL_write(ssl, a->bytes, (int)strlen(a->bytes)) > 0;
            }
            (void)SSL_shutdown(ssl);
        }
    }
    SSL_free(ssl);
    (void)close(fd);
}

static void *serve(void *user)
{
    struct server *s = user;
    for (size_t i = 0; i < s->count; i++) {
        serve_one(s, i);
    }
    return NULL;
}

static void server_start(struct server *s, const struct certificates_identity *who)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(s->listener, 8), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&at, &len), 0);
    s->port = ntohs(at.sin_port);
    s->ssl = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(s->ssl, who->cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(s->ssl, who->key), 1);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_stop(struct server *s)
{
    (void)shutdown(s->listener, SHUT_RDWR);
    (void)pthread_join(s->thread, NULL);
    (void)close(s->listener);
    SSL_CTX_free(s->ssl);
}

/* ---- the pod ---- */

struct pod {
    struct certificates_identity authority;
    char dir[64];
    struct net_loop *loop;
    struct kube *kube;
    struct server server;
    bool done;
    enum nb_status status;
    struct kube_statefulset set;
    char error[512];
};

static void write_file(const struct pod *p, const char *name, const char *text)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", p->dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    (void)fclose(f);
}

static void trust(const struct pod *p, const struct certificates_identity *authority)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/ca.crt", p->dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_X509(f, authority->cert), 1);
    (void)fclose(f);
}

/* The server is known by `san`; the answers are set in p->server before. */
static void pod_start(struct pod *p, const char *host, const char *san, long valid_s)
{
    (void)snprintf(p->dir, sizeof p->dir, "/tmp/kube_test.XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    p->authority = certificates_make(NULL, "authority", NULL, 86400);
    struct certificates_identity who = certificates_make(&p->authority, host, san, valid_s);
    write_file(p, "token", "secret-1\n");
    trust(p, &p->authority);
    server_start(&p->server, &who);
    certificates_deinit(&who);
    p->loop = net_loop_create();
    struct kube_config config = {.loop = p->loop,
                                 .host = host,
                                 .port = p->server.port,
                                 .account_dir = p->dir,
                                 .namespace_name = "default",
                                 .statefulset = "ss",
                                 .timeout_ns = 2000000000ull};
    p->kube = kube_create(&config);
}

static void pod_stop(struct pod *p)
{
    kube_destroy(p->kube);
    while (net_loop_conn_count(p->loop) != 0) {
        (void)net_loop_run_once(p->loop, true);
    }
    server_stop(&p->server);
    net_loop_destroy(p->loop);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", p->dir);
    assert_int_equal(system(command), 0);
    certificates_deinit(&p->authority);
}

static void on_done(void *user, enum nb_status status, const struct kube_statefulset *set,
                    const char *error)
{
    struct pod *p = user;
    assert_false(p->done);
    p->done = true;
    p->status = status;
    p->set = set == NULL ? (struct kube_statefulset){0} : *set;
    (void)snprintf(p->error, sizeof p->error, "%s", error);
}

static enum nb_status get(struct pod *p)
{
    p->done = false;
    assert_int_equal(kube_get(p->kube, on_done, p), NB_OK);
    assert_int_equal(kube_get(p->kube, on_done, p), NB_BUSY);
    while (!p->done) {
        (void)net_loop_run_once(p->loop, true);
    }
    assert_false(kube_is_busy(p->kube));
    return p->status;
}

#define JSON_SET                                                                                   \
    "{\"kind\":\"StatefulSet\",\"metadata\":{\"annotations\":{\"nabata/cluster-id\":\"abc\"},"     \
    "\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"},"                                             \
    "\"spec\":{\"replicas\":5,\"podManagementPolicy\":\"Parallel\"}}"
#define OK_UNTIL_CLOSE "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
#define OK_CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

static void the_statefulset_is_read_with_the_pods_own_token(void **state)
{
    (void)state;
    struct pod p = {.server = {.count = 2,
                               .answers = {{.bytes = OK_UNTIL_CLOSE JSON_SET},
                                           {.bytes = OK_UNTIL_CLOSE JSON_SET}}}};
    pod_start(&p, "127.0.0.1", "IP:127.0.0.1", 86400);
    assert_int_equal(get(&p), NB_OK);
    assert_int_equal(p.set.replicas, 5);
    assert_true(p.set.deleting && p.set.parallel);
    assert_string_equal(p.set.cluster_id, "abc");
    write_file(&p, "token", "secret-2"); /* rotated [K16] */
    assert_int_equal(get(&p), NB_OK);
    pod_stop(&p);
    const char *first = "GET /apis/apps/v1/namespaces/default/statefulsets/ss HTTP/1.1\r\n";
    assert_memory_equal(p.server.requests[0], first, strlen(first));
    assert_non_null(strstr(p.server.requests[0], "Authorization: Bearer secret-1\r\n"));
    assert_non_null(strstr(p.server.requests[1], "Authorization: Bearer secret-2\r\n"));
}

static void answers_may_come_in_chunks_and_by_name(void **state)
{
    (void)state;
    struct pod p = {
        .server = {
            .count = 1,
            .answers = {{.bytes = OK_CHUNKED
                         "11\r\n{\"kind\":\"Stateful\r\n3d\r\nSet\",\"metadata\":{},"
                         "\"spec\":{\"replicas\":0,\"serviceName\":\"x\"}}  \r\n0\r\n\r\n"}}}};
    pod_start(&p, "localhost", "DNS:localhost", 86400);
    assert_int_equal(get(&p), NB_OK);
    assert_int_equal(p.set.replicas, 0);
    assert_false(p.set.deleting || p.set.parallel);
    assert_string_equal(p.set.cluster_id, "");
    pod_stop(&p);
}

static void the_annotation_is_patched(void **state)
{
    (void)state;
    struct pod p = {.server = {.count = 1, .answers = {{.bytes = OK_UNTIL_CLOSE JSON_SET}}}};
    pod_start(&p, "127.0.0.1", "IP:127.0.0.1", 86400);
    assert_int_equal(kube_annotate(p.kube, "00c0ffee", "17", on_done, &p), NB_OK);
    while (!p.done) {
        (void)net_loop_run_once(p.loop, true);
    }
    assert_int_equal(p.status, NB_OK);
    pod_stop(&p);
    assert_memory_equal(p.server.requests[0], "PATCH /apis", 11);
    assert_non_null(strstr(p.server.requests[0], "application/merge-patch+json\r\n"));
    assert_non_null(strstr(p.server.requests[0],
                           "\r\n\r\n{\"metadata\":{\"resourceVersion\":\"17\","
                           "\"annotations\":{\"nabata/cluster-id\":\"00c0ffee\"}}}"));
}

static void K03_a_certificate_that_is_not_good_gets_no_token(void **state)
{
    (void)state;
    static const struct {
        const char *host, *san, *words;
        long valid_s;
        bool strange;
    } rows[] = {
        {"127.0.0.1", "IP:127.0.0.2", "IP address mismatch", 86400, false},
        {"localhost", "DNS:kubernetes", "hostname mismatch", 86400, false},
        {"localhost", NULL, "hostname mismatch", 86400, false}, /* a common name is no name */
        {"localhost", "DNS:*", "hostname mismatch", 86400, false},
        {"127.0.0.1", "IP:127.0.0.1", "certificate has expired", -60, false},
        {"127.0.0.1", "IP:127.0.0.1", "unable to get local issuer", 86400, true},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(rows); i++) {
        struct pod p = {.server = {.count = 1, .answers = {{.bytes = OK_UNTIL_CLOSE JSON_SET}}}};
        pod_start(&p, rows[i].host, rows[i].san, rows[i].valid_s);
        if (rows[i].strange) {
            struct certificates_identity other = certificates_make(NULL, "stranger", NULL, 86400);
            trust(&p, &other);
            certificates_deinit(&other);
        }
        assert_int_equal(get(&p), NB_ACCESS);
        if (strstr(p.error, rows[i].words) == NULL) {
            fail_msg("row %zu: %s", i, p.error);
        }
        pod_stop(&p);
        assert_string_equal(p.server.requests[0], "");
    }
}

static void refusals_say_which_right_is_missing(void **state)
{
    (void)state;
    static const struct {
        const char *answer, *words;
        enum nb_status status;
    } rows[] = {
        {"HTTP/1.1 403 Forbidden\r\n\r\n{\"message\":\"no\"}", "denies `get` of statefulsets/ss",
         NB_ACCESS},
        {"HTTP/1.1 401 Unauthorized\r\n\r\n{\"message\":\"who?\"}", "(401): who?", NB_ACCESS},
        {"HTTP/1.1 404 Not Found\r\n\r\n{}", "no StatefulSet ss in namespace default",
         NB_NOT_FOUND},
        {"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "answered 503", NB_BUSY},
        {"HTTP/1.1 302 Found\r\nLocation: https://x/\r\nContent-Length: 0\r\n\r\n", "answered 302",
         NB_MALFORMED},
        {"HTTP/1.1 200 OK\r\n\r\n{\"kind\":\"Pod\"}", "is no StatefulSet", NB_MALFORMED},
        {"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "closed the connection", NB_CLOSED},
        {"garbage\r\n\r\n", "is not HTTP", NB_MALFORMED},
        {"HTTP/1.1 409 Conflict\r\n\r\n{}", "changed meanwhile", NB_EXISTS},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(rows); i++) {
        struct pod p = {.server = {.count = 1, .answers = {{.bytes = rows[i].answer}}}};
        pod_start(&p, "127.0.0.1", "IP:127.0.0.1", 86400);
        enum nb_status status = get(&p);
        if (status != rows[i].status || strstr(p.error, rows[i].words) == NULL) {
            fail_msg("row %zu: %s: %s", i, nb_status_name(status), p.error);
        }
        pod_stop(&p);
    }
}

static void what_is_no_tls_is_said(void **state)
{
    (void)state;
    struct pod p = {
        .server = {.count = 2,
                   .answers = {{.bytes = "HTTP/1.1 400 Bad Request\r\n\r\n", .bare = true},
                               {.bytes = "", .bare = true}}}};
    pod_start(&p, "127.0.0.1", "IP:127.0.0.1", 86400);
    assert_int_equal(get(&p), NB_MALFORMED);
    assert_non_null(strstr(p.error, "TLS failed"));
    assert_int_equal(get(&p), NB_CLOSED);
    pod_stop(&p);
}

static void K16_a_rotated_authority_is_trusted_from_the_next_request_on(void **state)
{
    (void)state;
    struct answer good = {.bytes = OK_UNTIL_CLOSE JSON_SET};
    struct pod p = {.server = {.count = 3, .answers = {good, good, good}}};
    pod_start(&p, "127.0.0.1", "IP:127.0.0.1", 86400);
    struct certificates_identity other = certificates_make(NULL, "stranger", NULL, 86400);
    assert_int_equal(get(&p), NB_OK);
    trust(&p, &other);
    assert_int_equal(get(&p), NB_ACCESS);
    trust(&p, &p.authority);
    assert_int_equal(get(&p), NB_OK);
    certificates_deinit(&other);
    pod_stop(&p);
}

static void a_broken_authority_does_not_hide_the_others(void **state)
{
    (void)state;
    struct pod p = {.server = {.count = 1, .answers = {{.bytes = OK_UNTIL_CLOSE JSON_SET}}}};
    pod_start(&p, "127.0.0.1", "IP:127.0.0.1", 86400);
    static const char broken[] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    write_file(&p, "ca.crt", broken);
    assert_int_equal(get(&p), NB_MALFORMED);
    assert_non_null(strstr(p.error, "no certificate of an authority"));
    char path[128];
    (void)snprintf(path, sizeof path, "%s/ca.crt", p.dir);
    FILE *f = fopen(path, "a");
    assert_non_null(f);
    assert_int_equal(PEM_write_X509(f, p.authority.cert), 1);
    (void)fclose(f);
    assert_int_equal(get(&p), NB_OK);
    pod_stop(&p);
}

static void what_never_ends_has_a_bound(void **state)
{
    (void)state;
    static const char piece[] = "0123456789012345678901234567890123456789012345678901234567890123";
    char *big = nb_alloc(sizeof OK_UNTIL_CLOSE + 8192);
    (void)strcpy(big, OK_UNTIL_CLOSE);
    for (size_t len = strlen(big); len < 8000; len += sizeof piece - 1) {
        (void)strcpy(big + len, piece);
    }
    struct pod p = {
        .server = {.count = 2, .answers = {{.bytes = NULL}, {.bytes = big, .repeat = 200}}}};
    pod_start(&p, "127.0.0.1", "IP:127.0.0.1", 86400);
    assert_int_equal(get(&p), NB_BUSY); /* silent */
    assert_int_equal(get(&p), NB_TOO_LARGE);
    pod_stop(&p);
    nb_free(big);
}

static void it_can_be_destroyed_while_it_waits(void **state)
{
    (void)state;
    for (int turns = 0; turns < 4; turns++) {
        struct pod p = {.server = {.count = 1, .answers = {{.bytes = NULL}}}};
        pod_start(&p, "127.0.0.1", "IP:127.0.0.1", 86400);
        assert_int_equal(kube_get(p.kube, on_done, &p), NB_OK);
        for (int i = 0; i < turns; i++) {
            (void)net_loop_run_once(p.loop, true);
        }
        pod_stop(&p);
        assert_false(p.done);
    }
}

/* Nothing is dialled for them; an empty host would be checked against no name at all. [K03] */
static void names_that_are_none_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *host, *namespace_name, *statefulset;
    } rows[] = {
        {"", "default", "ss"},
        {"a b", "default", "ss"},
        {"::1%lo", "default", "ss"},
        {"localhost\r\nX: y", "d", "s"},
        {"127.0.0.1", "", "ss"},
        {"127.0.0.1", "default", "a/b"},
        {"127.0.0.1", "de\r\nX: y", "ss"},
        {"127.0.0.1", "default", ""},
    };
    struct pod p = {.server = {.count = 0}};
    pod_start(&p, "127.0.0.1", "IP:127.0.0.1", 86400);
    struct kube *own = p.kube;
    for (size_t i = 0; i < NB_ARRAY_LEN(rows); i++) {
        struct kube_config config = {.loop = p.loop,
                                     .host = rows[i].host,
                                     .port = p.server.port,
                                     .account_dir = p.dir,
                                     .namespace_name = rows[i].namespace_name,
                                     .statefulset = rows[i].statefulset};
        p.kube = kube_create(&config);
        enum nb_status status = get(&p);
        if (status != NB_INVALID) {
            fail_msg("row %zu: %s: %s", i, nb_status_name(status), p.error);
        }
        kube_destroy(p.kube);
    }
    p.kube = own;
    pod_stop(&p);
}

/* A name server that knows nobody; ends at what is too short to be a question. */
static void *deny_names(void *user)
{
    const int *fd = user;
    uint8_t packet[512];
    struct sockaddr_in from;
    socklen_t from_len = sizeof from;
    ssize_t len;
    while ((len = recvfrom(*fd, packet, sizeof packet, 0, (struct sockaddr *)&from, &from_len)) >=
           12) {
        packet[2] = 0x81; /* an answer */
        packet[3] = 0x83; /* NXDOMAIN */
        packet[11] = 0;   /* without an additional record */
        (void)sendto(*fd, packet, (size_t)len, 0, (struct sockaddr *)&from, from_len);
        from_len = sizeof from;
    }
    return NULL;
}

/* It would be taken for a StatefulSet that was deleted. */
static void an_api_without_an_address_is_not_a_statefulset_that_is_gone(void **state)
{
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, deny_names, &fd), 0);
    struct pod p = {.server = {.count = 0}};
    pod_start(&p, "kubernetes.invalid.", "DNS:kubernetes.invalid", 86400);
    char servers[64];
    (void)snprintf(servers, sizeof servers, "127.0.0.1:%u", ntohs(at.sin_port));
    struct net_names_config names = {.servers = servers};
    net_loop_set_names(p.loop, &names);
    assert_int_equal(get(&p), NB_CLOSED);
    assert_non_null(strstr(p.error, "no such host"));
    pod_stop(&p);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(sendto(fd, "end", 3, 0, (struct sockaddr *)&at, sizeof at), 3);
    (void)pthread_join(thread, NULL);
    (void)close(fd);
}

static void on_done_ask_again(void *user, enum nb_status status, const struct kube_statefulset *set,
                              const char *error)
{
    struct pod *p = user;
    (void)set;
    (void)error;
    assert_int_equal(status, NB_OK);
    assert_int_equal(kube_get(p->kube, on_done, p), NB_OK);
}

static void done_may_ask_again(void **state)
{
    (void)state;
    struct answer good = {.bytes = OK_UNTIL_CLOSE JSON_SET};
    struct pod p = {.server = {.count = 2, .answers = {good, good}}};
    pod_start(&p, "127.0.0.1", "IP:127.0.0.1", 86400);
    assert_int_equal(kube_get(p.kube, on_done_ask_again, &p), NB_OK);
    while (!p.done) {
        (void)net_loop_run_once(p.loop, true);
    }
    assert_int_equal(p.status, NB_OK);
    pod_stop(&p);
}

/* By this number pods are told to leave. */
static void replicas_that_are_no_number_are_no_answer(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        enum nb_status status;
        uint32_t replicas, first;
    } rows[] = {
        {"{\"replicas\":3,\"ordinals\":{\"start\":2}}", NB_OK, 3, 2},
        {"{\"replicas\":3,\"ordinals\":{}}", NB_OK, 3, 0},
        {"{\"replicas\":3,\"ordinals\":{\"start\":\"2\"}}", NB_MALFORMED, 0, 0},
        {"{\"replicas\":3,\"ordinals\":{\"start\":-1}}", NB_MALFORMED, 0, 0},
        {"{}", NB_OK, 1, 0},
        {"{\"replicas\":null}", NB_OK, 1, 0},
        {"{\"replicas\":0}", NB_OK, 0, 0},
        {"{\"replicas\":\"5\"}", NB_MALFORMED, 0, 0},
        {"{\"replicas\":5.0}", NB_MALFORMED, 0, 0},
        {"{\"replicas\":-1}", NB_MALFORMED, 0, 0},
        {"{\"replicas\":65536}", NB_MALFORMED, 0, 0},
        {"{\"replicas\":99999999999999999999}", NB_MALFORMED, 0, 0},
        {"[]", NB_MALFORMED, 0, 0},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(rows); i++) {
        char text[256];
        (void)snprintf(text, sizeof text, "{\"kind\":\"StatefulSet\",\"metadata\":{},\"spec\":%s}",
                       rows[i].spec);
        struct kube_statefulset set;
        assert_int_equal(kube_statefulset_decode(nb_bytes_str(text), &set), rows[i].status);
        if (rows[i].status == NB_OK) {
            assert_int_equal(set.replicas, rows[i].replicas);
            assert_int_equal(set.first_ordinal, rows[i].first);
        }
    }
}

static void a_missing_account_is_said(void **state)
{
    (void)state;
    struct pod p = {.server = {.count = 0}};
    pod_start(&p, "127.0.0.1", "IP:127.0.0.1", 86400);
    char path[128];
    (void)snprintf(path, sizeof path, "%s/token", p.dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(get(&p), NB_ACCESS);
    assert_non_null(strstr(p.error, "no service account mounted"));
    write_file(&p, "token", "two words");
    assert_int_equal(get(&p), NB_MALFORMED);
    pod_stop(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_statefulset_is_read_with_the_pods_own_token),
        cmocka_unit_test(answers_may_come_in_chunks_and_by_name),
        cmocka_unit_test(the_annotation_is_patched),
        cmocka_unit_test(K03_a_certificate_that_is_not_good_gets_no_token),
        cmocka_unit_test(refusals_say_which_right_is_missing),
        cmocka_unit_test(what_is_no_tls_is_said),
        cmocka_unit_test(K16_a_rotated_authority_is_trusted_from_the_next_request_on),
        cmocka_unit_test(a_broken_authority_does_not_hide_the_others),
        cmocka_unit_test(names_that_are_none_are_refused),
        cmocka_unit_test(an_api_without_an_address_is_not_a_statefulset_that_is_gone),
        cmocka_unit_test(done_may_ask_again),
        cmocka_unit_test(replicas_that_are_no_number_are_no_answer),
        cmocka_unit_test(what_never_ends_has_a_bound),
        cmocka_unit_test(it_can_be_destroyed_while_it_waits),
        cmocka_unit_test(a_missing_account_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

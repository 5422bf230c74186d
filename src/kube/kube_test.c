/* The API client against a server in this process, with certificates made here. [K03, K16] */
#include "kube/kube.h"
#include "tests/support/unit.h"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- certificates ---- */

struct identity {
    EVP_PKEY *key;
    X509 *cert;
};

static void identity_deinit(struct identity *i)
{
    EVP_PKEY_free(i->key);
    X509_free(i->cert);
}

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(cert, e, -1), 1);
    X509_EXTENSION_free(e);
}

/* Signed by `issuer`, or by itself as an authority when that is NULL. */
static struct identity make_identity(const struct identity *issuer, const char *name,
                                     const char *san, long valid_s)
{
    struct identity i = {.key = EVP_EC_gen("P-256"), .cert = X509_new()};
    assert_non_null(i.key);
    const struct identity *by = issuer == NULL ? &i : issuer;
    (void)X509_set_version(i.cert, 2);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(i.cert), random());
    (void)X509_gmtime_adj(X509_getm_notBefore(i.cert), -86400);
    (void)X509_gmtime_adj(X509_getm_notAfter(i.cert), valid_s);
    (void)X509_NAME_add_entry_by_txt(X509_get_subject_name(i.cert), "CN", MBSTRING_ASC,
                                     (const unsigned char *)name, -1, -1, 0);
    (void)X509_set_issuer_name(i.cert, X509_get_subject_name(by->cert));
    (void)X509_set_pubkey(i.cert, i.key);
    add_extension(i.cert, by->cert, NID_basic_constraints,
                  issuer == NULL ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (san != NULL) {
        add_extension(i.cert, by->cert, NID_subject_alt_name, san);
    }
    assert_true(X509_sign(i.cert, by->key, EVP_sha256()) > 0);
    return i;
}

/* ---- the server: one connection after the other, each with an answer prepared before ---- */

enum { ANSWERS_MAX = 4 };

struct answer {
    const char *bytes; /* NULL: says nothing until the client goes */
    size_t repeat;     /* of `bytes`; 0: once */
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
        const struct answer *a = &s->answers[n];
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

static void server_start(struct server *s, const struct identity *who)
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
    struct identity authority;
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

static void trust(const struct pod *p, const struct identity *authority)
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
    p->authority = make_identity(NULL, "authority", NULL, 86400);
    struct identity who = make_identity(&p->authority, "kubernetes", san, valid_s);
    write_file(p, "token", "secret-1\n");
    trust(p, &p->authority);
    server_start(&p->server, &who);
    identity_deinit(&who);
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
    identity_deinit(&p->authority);
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
    assert_int_equal(kube_annotate(p.kube, "00c0ffee", on_done, &p), NB_OK);
    while (!p.done) {
        (void)net_loop_run_once(p.loop, true);
    }
    assert_int_equal(p.status, NB_OK);
    pod_stop(&p);
    assert_memory_equal(p.server.requests[0], "PATCH /apis", 11);
    assert_non_null(strstr(p.server.requests[0], "application/merge-patch+json\r\n"));
    assert_non_null(
        strstr(p.server.requests[0],
               "\r\n\r\n{\"metadata\":{\"annotations\":{\"nabata/cluster-id\":\"00c0ffee\"}}}"));
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
        {"127.0.0.1", "IP:127.0.0.1", "certificate has expired", -60, false},
        {"127.0.0.1", "IP:127.0.0.1", "unable to get local issuer", 86400, true},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(rows); i++) {
        struct pod p = {.server = {.count = 1, .answers = {{.bytes = OK_UNTIL_CLOSE JSON_SET}}}};
        pod_start(&p, rows[i].host, rows[i].san, rows[i].valid_s);
        if (rows[i].strange) {
            struct identity other = make_identity(NULL, "stranger", NULL, 86400);
            trust(&p, &other);
            identity_deinit(&other);
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
        cmocka_unit_test(what_never_ends_has_a_bound),
        cmocka_unit_test(it_can_be_destroyed_while_it_waits),
        cmocka_unit_test(a_missing_account_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

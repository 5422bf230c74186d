/* A session against OpenSSL's own server, both in memory: no socket, no clock. */
#include "net/tls.h"
#include "tests/support/certificates.h"
#include "tests/support/unit.h"

struct pair {
    struct certificates_identity authority, server;
    SSL_CTX *server_context;
    SSL *ssl; /* the server's session */
    struct net_tls *tls;
    struct nb_buf out, plain;
    struct net_error error;
};

static void pair_init_below(struct pair *p, struct certificates_identity authority,
                            const char *host, const char *san, int version_max)
{
    *p = (struct pair){.authority = authority};
    p->server = certificates_make(&p->authority, host, san, 86400);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(bio, p->authority.cert), 1);
    char *pem;
    long len = BIO_get_mem_data(bio, &pem);
    struct net_tls_context *context;
    assert_int_equal(net_tls_context_client(nb_bytes_of(pem, (size_t)len), &context, &p->error),
                     NB_OK);
    (void)BIO_free(bio);
    assert_int_equal(net_tls_client(context, host, &p->tls, &p->error), NB_OK);
    net_tls_context_destroy(context); /* the session goes on without it */
    p->server_context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_security_level(p->server_context, 0);
    assert_int_equal(SSL_CTX_set_max_proto_version(p->server_context, version_max), 1);
    assert_int_equal(SSL_CTX_use_certificate(p->server_context, p->server.cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(p->server_context, p->server.key), 1);
    p->ssl = SSL_new(p->server_context);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    (void)BIO_set_mem_eof_return(in, -1);
    SSL_set_bio(p->ssl, in, out);
    SSL_set_accept_state(p->ssl);
}

static void pair_init(struct pair *p, const char *host, const char *san, int version_max)
{
    pair_init_below(p, certificates_make(NULL, "authority", NULL, 86400), host, san, version_max);
}

static void pair_deinit(struct pair *p)
{
    net_tls_destroy(p->tls);
    SSL_free(p->ssl);
    SSL_CTX_free(p->server_context);
    certificates_deinit(&p->authority);
    certificates_deinit(&p->server);
    nb_buf_deinit(&p->out);
    nb_buf_deinit(&p->plain);
}

/* The client's output to the server. */
static void to_server(struct pair *p)
{
    if (p->out.len != 0) {
        assert_int_equal(BIO_write(SSL_get_rbio(p->ssl), p->out.data, (int)p->out.len),
                         (int)p->out.len);
        nb_buf_clear(&p->out);
    }
}

/* The server's output to the client, `piece` bytes at a time. */
static enum nb_status to_client(struct pair *p, size_t piece)
{
    char *data;
    long len = BIO_get_mem_data(SSL_get_wbio(p->ssl), &data);
    struct nb_bytes bytes = nb_bytes_of(data, (size_t)len);
    enum nb_status status = NB_OK;
    while (bytes.len != 0 && status == NB_OK) {
        size_t now = bytes.len < piece ? bytes.len : piece;
        status = net_tls_feed(p->tls, nb_bytes_of(bytes.data, now), &p->plain, &p->out, &p->error);
        bytes = nb_bytes_from(bytes, now);
    }
    (void)BIO_reset(SSL_get_wbio(p->ssl));
    return status;
}

/* Until neither side has more to say. */
static enum nb_status shake_hands(struct pair *p, size_t piece)
{
    enum nb_status status =
        net_tls_feed(p->tls, (struct nb_bytes){0}, &p->plain, &p->out, &p->error);
    for (int i = 0; i < 4 && status == NB_OK; i++) {
        to_server(p);
        (void)SSL_do_handshake(p->ssl);
        status = to_client(p, piece);
    }
    return status;
}

static void assert_talks(int version, size_t piece)
{
    struct pair p;
    pair_init(&p, "10.1.2.3", "IP:10.1.2.3", version);
    assert_int_equal(net_tls_send(p.tls, nb_bytes_str("early"), &p.out, &p.error), NB_OK);
    assert_int_equal(p.out.len, 0); /* kept until it is known whom it goes to [T1] */
    assert_int_equal(shake_hands(&p, piece), NB_OK);
    assert_int_equal(SSL_version(p.ssl), version);
    char got[16] = "";
    assert_int_equal(SSL_read(p.ssl, got, sizeof got), 5);
    assert_string_equal(got, "early");
    assert_int_equal(net_tls_send(p.tls, nb_bytes_str("later"), &p.out, &p.error), NB_OK);
    to_server(&p);
    assert_int_equal(SSL_read(p.ssl, got, sizeof got), 5);
    assert_string_equal(got, "later");
    assert_int_equal(SSL_write(p.ssl, "answer", 6), 6);
    (void)SSL_shutdown(p.ssl);
    assert_int_equal(to_client(&p, piece), NB_CLOSED);
    assert_int_equal(p.plain.len, 6);
    assert_memory_equal(p.plain.data, "answer", 6);
    pair_deinit(&p);
}

static void a_session_talks_however_its_bytes_are_cut(void **state)
{
    (void)state;
    assert_talks(TLS1_3_VERSION, SIZE_MAX);
    assert_talks(TLS1_3_VERSION, 1);
    assert_talks(TLS1_2_VERSION, 7);
}

static void what_is_older_than_tls_1_2_is_refused(void **state)
{
    (void)state;
    struct pair p;
    pair_init(&p, "10.1.2.3", "IP:10.1.2.3", TLS1_1_VERSION);
    assert_int_equal(shake_hands(&p, SIZE_MAX), NB_MALFORMED);
    assert_int_equal(p.plain.len, 0);
    pair_deinit(&p);
}

static void K03_only_the_dialled_name_will_do(void **state)
{
    (void)state;
    static const struct {
        const char *host, *san;
        enum nb_status status;
    } rows[] = {
        {"a.example", "DNS:a.example", NB_OK},
        {"A.Example.", "DNS:a.example", NB_OK}, /* the dot is the resolver's */
        {"a.b.example", "DNS:*.b.example", NB_OK},
        {"a.b.c.example", "DNS:*.c.example", NB_ACCESS},
        {"ab.b.example", "DNS:a*.b.example", NB_ACCESS},
        {"a.example", NULL, NB_ACCESS}, /* the common name is a.example too */
        {"10.1.2.3", "DNS:10.1.2.3", NB_ACCESS},
        {"fd00::1", "IP:fd00:0:0::1", NB_OK},
        {"fd00::1", "IP:fd00::2", NB_ACCESS},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(rows); i++) {
        struct pair p;
        pair_init(&p, rows[i].host, rows[i].san, TLS1_3_VERSION);
        assert_int_equal(net_tls_send(p.tls, nb_bytes_str("secret"), &p.out, &p.error), NB_OK);
        enum nb_status status = shake_hands(&p, SIZE_MAX);
        if (status != rows[i].status) {
            fail_msg("row %zu: %s: %s", i, nb_status_name(status), p.error.text);
        }
        to_server(&p);
        char got[16];
        assert_int_equal(SSL_read(p.ssl, got, sizeof got) == 6, status == NB_OK);
        pair_deinit(&p);
    }
}

/* A cluster's authority may itself be signed by one that nobody tells us of; Go's clients, for
 * which such files are made, trust it. */
static void an_authority_that_another_one_signed_is_trusted(void **state)
{
    (void)state;
    struct certificates_identity root = certificates_make(NULL, "root", NULL, 86400);
    struct pair p;
    pair_init_below(&p, certificates_make_authority(&root, "middle", 86400), "a.example",
                    "DNS:a.example", TLS1_3_VERSION);
    assert_int_equal(net_tls_send(p.tls, nb_bytes_str("secret"), &p.out, &p.error), NB_OK);
    enum nb_status status = shake_hands(&p, SIZE_MAX);
    if (status != NB_OK) {
        fail_msg("%s: %s", nb_status_name(status), p.error.text);
    }
    pair_deinit(&p);
    certificates_deinit(&root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_talks_however_its_bytes_are_cut),
        cmocka_unit_test(what_is_older_than_tls_1_2_is_refused),
        cmocka_unit_test(K03_only_the_dialled_name_will_do),
        cmocka_unit_test(an_authority_that_another_one_signed_is_trusted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

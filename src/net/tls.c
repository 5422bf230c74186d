#include "net/tls.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { PIECE_SIZE = 16384 };

#define NAME_BYTES "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"

struct net_tls_context {
    SSL_CTX *ssl;
};

struct net_tls {
    SSL *ssl;
    BIO *in, *out;      /* owned by ssl */
    struct nb_buf held; /* to be sent once the handshake is over */
};

/* [T2] */
static void init_library(void)
{
    (void)OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL);
}

static void explain(struct net_error *error, const char *what)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);
    (void)snprintf(error->text, sizeof error->text, "%s: %s", what,
                   reason == NULL ? "no reason given" : reason);
    ERR_clear_error();
}

static int add_authorities(SSL_CTX *ssl, struct nb_bytes pem)
{
    if (pem.len > INT32_MAX) {
        return 0;
    }
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    nb_assert(bio != NULL);
    X509_STORE *store = SSL_CTX_get_cert_store(ssl);
    int count = 0;
    while (BIO_pending(bio) > 0) { /* one that cannot be read does not hide those after it */
        X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (cert != NULL) {
            count += X509_STORE_add_cert(store, cert);
            X509_free(cert);
        }
    }
    (void)BIO_free(bio);
    return count;
}

enum nb_status net_tls_context_client(struct nb_bytes ca_pem, struct net_tls_context **out,
                                      struct net_error *error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    nb_assert(pthread_once(&once, init_library) == 0);
    SSL_CTX *ssl = SSL_CTX_new(TLS_client_method());
    nb_assert(ssl != NULL);
    if (add_authorities(ssl, ca_pem) == 0) {
        explain(error, "no certificate of an authority");
        SSL_CTX_free(ssl);
        return NB_MALFORMED;
    }
    ERR_clear_error(); /* the end of the file counts as one */
    nb_assert(SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    /* Each certificate of the file is trusted as it is, signed by itself or not: as Go does. */
    nb_assert(X509_STORE_set_flags(SSL_CTX_get_cert_store(ssl), X509_V_FLAG_PARTIAL_CHAIN) == 1);
    /* What is held may move between two tries to write it. */
    (void)SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    (void)SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION);
    struct net_tls_context *context = nb_alloc_zero(1, sizeof *context);
    context->ssl = ssl;
    *out = context;
    return NB_OK;
}

void net_tls_context_destroy(struct net_tls_context *context)
{
    if (context != NULL) {
        SSL_CTX_free(context->ssl);
        nb_free(context);
    }
}

/* OpenSSL takes an empty name as "any name will do": it never gets there. [K03] `host` is not
 * changed, but OpenSSL's macro wants it so. */
static bool expect_host(SSL *ssl, struct net_address *host)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    if (host->host[0] == '\0') {
        return false;
    }
    if (net_address_is_numeric(host)) {
        return X509_VERIFY_PARAM_set1_ip_asc(param, host->host) == 1;
    }
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                               X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    return strspn(host->host, NAME_BYTES) == strlen(host->host) &&
           X509_VERIFY_PARAM_set1_host(param, host->host, 0) == 1 &&
           SSL_set_tlsext_host_name(ssl, host->host) == 1;
}

enum nb_status net_tls_client(struct net_tls_context *context, const char *host,
                              struct net_tls **out, struct net_error *error)
{
    size_t len = strlen(host);
    struct net_address address = {.host = ""};
    if (len > 1 && host[len - 1] == '.') {
        len--; /* the dot is for resolvers; no certificate has it */
    }
    if (len < sizeof address.host) {
        (void)memcpy(address.host, host, len);
    }
    struct net_tls *tls = nb_alloc_zero(1, sizeof *tls);
    tls->ssl = SSL_new(context->ssl);
    tls->in = BIO_new(BIO_s_mem());
    tls->out = BIO_new(BIO_s_mem());
    nb_assert(tls->ssl != NULL && tls->in != NULL && tls->out != NULL);
    (void)BIO_set_mem_eof_return(tls->in, -1);
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    SSL_set_connect_state(tls->ssl);
    if (!expect_host(tls->ssl, &address)) {
        (void)snprintf(error->text, sizeof error->text,
                       "\"%.100s\" is no name a certificate could have", host);
        ERR_clear_error();
        net_tls_destroy(tls);
        return NB_INVALID;
    }
    *out = tls;
    return NB_OK;
}

void net_tls_destroy(struct net_tls *tls)
{
    if (tls != NULL) {
        SSL_free(tls->ssl);
        nb_buf_deinit(&tls->held);
        nb_free(tls);
    }
}

static void take_output(struct net_tls *tls, struct nb_buf *out)
{
    char *data;
    long len = BIO_get_mem_data(tls->out, &data);
    if (len > 0) {
        nb_buf_append(out, (const uint8_t *)data, (size_t)len);
        (void)BIO_reset(tls->out);
    }
}

/* What a call that gave `result` means. */
static enum nb_status judge(struct net_tls *tls, int result, struct net_error *error)
{
    int kind = SSL_get_error(tls->ssl, result);
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE || kind == SSL_ERROR_NONE) {
        return NB_OK;
    }
    if (kind == SSL_ERROR_ZERO_RETURN) {
        return NB_CLOSED;
    }
    long verified = SSL_get_verify_result(tls->ssl);
    if (verified != X509_V_OK) {
        (void)snprintf(error->text, sizeof error->text, "the certificate is refused: %s",
                       X509_verify_cert_error_string(verified));
        ERR_clear_error();
        return NB_ACCESS;
    }
    explain(error, "TLS failed");
    return NB_MALFORMED;
}

static enum nb_status write_held(struct net_tls *tls, struct net_error *error)
{
    while (tls->held.len != 0) {
        int len = tls->held.len < PIECE_SIZE ? (int)tls->held.len : PIECE_SIZE;
        int result = SSL_write(tls->ssl, tls->held.data, len);
        if (result <= 0) {
            return judge(tls, result, error);
        }
        nb_buf_consume(&tls->held, (size_t)result);
    }
    nb_buf_deinit(&tls->held);
    return NB_OK;
}

static enum nb_status go_on(struct net_tls *tls, struct nb_buf *plain, struct net_error *error)
{
    ERR_clear_error();
    if (!SSL_is_init_finished(tls->ssl)) {
        int result = SSL_do_handshake(tls->ssl);
        if (result != 1) {
            return judge(tls, result, error);
        }
    }
    enum nb_status status = write_held(tls, error);
    uint8_t piece[PIECE_SIZE];
    while (status == NB_OK) {
        int result = SSL_read(tls->ssl, piece, sizeof piece);
        if (result <= 0) {
            return judge(tls, result, error);
        }
        nb_buf_append(plain, piece, (size_t)result);
    }
    return status;
}

enum nb_status net_tls_feed(struct net_tls *tls, struct nb_bytes bytes, struct nb_buf *plain,
                            struct nb_buf *out, struct net_error *error)
{
    while (bytes.len != 0) {
        int len = bytes.len < INT32_MAX ? (int)bytes.len : INT32_MAX;
        int written = BIO_write(tls->in, bytes.data, len);
        nb_assert(written == len);
        bytes = nb_bytes_from(bytes, (size_t)written);
    }
    enum nb_status status = go_on(tls, plain, error);
    take_output(tls, out);
    return status;
}

enum nb_status net_tls_send(struct net_tls *tls, struct nb_bytes plain, struct nb_buf *out,
                            struct net_error *error)
{
    nb_buf_append_bytes(&tls->held, plain);
    enum nb_status status = NB_OK;
    if (SSL_is_init_finished(tls->ssl)) {
        ERR_clear_error();
        status = write_held(tls, error);
    }
    take_output(tls, out);
    return status;
}

/* Authorities and certificates of tests, made on the spot: nothing secret is in the repository. */
#ifndef NABATA_TESTS_SUPPORT_CERTIFICATES_H
#define NABATA_TESTS_SUPPORT_CERTIFICATES_H

#include "tests/support/unit.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

struct certificates_identity {
    EVP_PKEY *key;
    X509 *cert;
};

static inline void certificates_deinit(struct certificates_identity *i)
{
    EVP_PKEY_free(i->key);
    X509_free(i->cert);
}

static inline void certificates_extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(cert, e, -1), 1);
    X509_EXTENSION_free(e);
}

static inline struct certificates_identity
certificates_sign(const struct certificates_identity *issuer, const char *name, const char *san,
                  long valid_s, bool is_authority)
{
    struct certificates_identity i = {.key = EVP_EC_gen("P-256"), .cert = X509_new()};
    assert_non_null(i.key);
    const struct certificates_identity *by = issuer == NULL ? &i : issuer;
    (void)X509_set_version(i.cert, 2);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(i.cert), random());
    (void)X509_gmtime_adj(X509_getm_notBefore(i.cert), -86400);
    (void)X509_gmtime_adj(X509_getm_notAfter(i.cert), valid_s);
    (void)X509_NAME_add_entry_by_txt(X509_get_subject_name(i.cert), "CN", MBSTRING_ASC,
                                     (const unsigned char *)name, -1, -1, 0);
    (void)X509_set_issuer_name(i.cert, X509_get_subject_name(by->cert));
    (void)X509_set_pubkey(i.cert, i.key);
    certificates_extend(i.cert, by->cert, NID_basic_constraints,
                        is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (san != NULL) {
        certificates_extend(i.cert, by->cert, NID_subject_alt_name, san);
    }
    assert_true(X509_sign(i.cert, by->key, EVP_sha256()) > 0);
    return i;
}

/* Signed by `issuer`, or by itself as an authority when that is NULL. */
static inline struct certificates_identity
certificates_make(const struct certificates_identity *issuer, const char *name, const char *san,
                  long valid_s)
{
    return certificates_sign(issuer, name, san, valid_s, issuer == NULL);
}

static inline struct certificates_identity
certificates_make_authority(const struct certificates_identity *issuer, const char *name,
                            long valid_s)
{
    return certificates_sign(issuer, name, NULL, valid_s, true);
}

#endif

/*
 * kube: what a pod asks the Kubernetes API: its own StatefulSet, and one annotation on it.
 *
 * HTTPS with the pod's service account: the token is read anew for each request and the authority
 * when it is used, as both are rotated under us [K16]. Nothing blocks the loop; one request at a
 * time.
 *
 * Invariants:
 *   A1  every request ends in one `done`, within `timeout_ns`; none comes after kube_destroy
 *   A2  an answer takes at most 1 MiB; redirects are not followed; the token goes to nobody whose
 *       certificate was not verified
 */
#ifndef NABATA_KUBE_KUBE_H
#define NABATA_KUBE_KUBE_H

#include "base/log.h"
#include "net/net.h"

struct kube;

/* Strings are borrowed until kube_destroy. */
struct kube_config {
    struct net_loop *loop;
    const char *host;           /* KUBERNETES_SERVICE_HOST: a name or an address */
    uint16_t port;              /* KUBERNETES_SERVICE_PORT_HTTPS */
    const char *account_dir;    /* with files `token` and `ca.crt` */
    const char *namespace_name; /* of the StatefulSet */
    const char *statefulset;    /* its name */
    uint64_t timeout_ns;        /* of one request; 0: 5 s */
};

enum { KUBE_ANNOTATION_SIZE_MAX = 256, KUBE_VERSION_SIZE_MAX = 64 };

#define KUBE_CLUSTER_ANNOTATION "nabata/cluster-id"

/* A StatefulSet, as far as it matters here. */
struct kube_statefulset {
    uint32_t replicas;                         /* spec.replicas; 1 when it is not there */
    bool deleting;                             /* metadata.deletionTimestamp is set */
    bool parallel;                             /* spec.podManagementPolicy */
    uint32_t first_ordinal;                    /* spec.ordinals.start; 0 when it is not there */
    char cluster_id[KUBE_ANNOTATION_SIZE_MAX]; /* the annotation; "" when it is not there */
    char version[KUBE_VERSION_SIZE_MAX];       /* metadata.resourceVersion; "": none, or too long */
};

NB_MUST_USE struct kube *kube_create(const struct kube_config *config);
/* Cancels what is under way. NULL is fine. */
void kube_destroy(struct kube *k);

/*
 * `done` comes once, later. NB_OK with the StatefulSet (borrowed); NB_ACCESS: the API denies it, or
 * the account's files are not there (`error` names the right that is missing); NB_NOT_FOUND: no
 * such StatefulSet; NB_BUSY: timed out, or the API says later; NB_EXISTS: it was changed
 * meanwhile (kube_annotate); NB_CLOSED, NB_IO: not reached;
 * NB_MALFORMED, NB_TOO_LARGE: an answer that makes no sense; NB_INVALID: the host or a name of the
 * config is none. NB_BUSY is returned, and `done` never comes, when a request is
 * under way.
 */
typedef void kube_done(void *user, enum nb_status status, const struct kube_statefulset *set,
                       const char *error);
NB_MUST_USE enum nb_status kube_get(struct kube *k, kube_done *done, void *user);
/* Sets the annotation nabata/cluster-id, if the StatefulSet is still as it was at `version`: else
 * `done` gets NB_EXISTS, and it has to be read again. The right `patch` is needed. [K07] */
NB_MUST_USE enum nb_status kube_annotate(struct kube *k, const char *cluster_id,
                                         const char *version, kube_done *done, void *user);
bool kube_is_busy(const struct kube *k);

/* For tests and the fuzz target: an answer's body as a StatefulSet. NB_MALFORMED. */
NB_MUST_USE enum nb_status kube_statefulset_decode(struct nb_bytes json,
                                                   struct kube_statefulset *out);

#endif

/*
 * server/statefulset: the configuration of a pod that runs itself: `--statefulset` and what follows
 * from it.
 *
 * Name, ordinal, namespace and addresses come from the pod: POD_NAME and POD_NAMESPACE, else host
 * name and the service account's file. Nothing is resolved or asked here.
 */
#ifndef NABATA_SERVER_STATEFULSET_H
#define NABATA_SERVER_STATEFULSET_H

#include "base/options.h"

struct server_config;

extern const struct nb_option server_statefulset_flags[];
extern const size_t server_statefulset_flag_count;

#define SERVER_SERVICE_ACCOUNT_DIR "/var/run/secrets/kubernetes.io/serviceaccount"

/* All zero: the mode is off. Strings live in the arena of the configuration. */
struct server_statefulset {
    const char *service;    /* the headless service; NULL: the mode is off */
    const char *set;        /* name of the StatefulSet */
    uint32_t ordinal;       /* own */
    const char *name_space; /* "" when not known */
    uint32_t replicas;      /* to expect when the API cannot say */
    int64_t grace_ns;       /* terminationGracePeriodSeconds */
    uint16_t peer_port, client_port;
    const char *api_host; /* of the Kubernetes API; NULL: there is none */
    const char *api_port;
    const char *service_account_dir;
    const char *name_servers; /* NABATA_NAME_SERVERS, for tests; NULL: resolv.conf's */
};

/* Fills in the variables of these flags and, when the mode is on, defaults of other flags; then
 * `out`. False: `message` gets a line without its end. */
NB_MUST_USE bool server_statefulset_take(struct nb_options *o, char *const *envp,
                                         struct nb_arena *arena, struct server_statefulset *out,
                                         struct nb_buf *message);

/* Appends "http://<pod ordinal's name>:<port of peers>". */
void server_statefulset_peer_url(const struct server_statefulset *s, uint32_t ordinal,
                                 struct nb_buf *out);

#endif

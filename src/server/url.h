/*
 * server/url: the URLs of etcd's options: http(s)://host:port and unix(s)://place.
 *
 * Parsing is total and resolves nothing. The rules and texts are etcd's.
 * [etcd client/pkg/types urls.go, as told in the surface page 5.1]
 */
#ifndef NABATA_SERVER_URL_H
#define NABATA_SERVER_URL_H

#include "base/arena.h"

struct server_address {
    const char *url; /* as given, blanks at the ends cut */
    const char
        *host; /* name or IP without brackets; for unix: the whole place, "path" or "host:port" */
    uint16_t port;    /* 0 for unix */
    bool tls;         /* https, unixs */
    bool unix_socket; /* unix, unixs */
};

/* Sorted by URL, without duplicates. */
struct server_addresses {
    struct server_address *items;
    size_t count;
};

/* Parses one URL; strings go to the arena. False: `why` gets a text without its end. */
NB_MUST_USE bool server_url_parse(const char *text, struct nb_arena *arena,
                                  struct server_address *out, struct nb_buf *why);

/* Parses several; sorts; drops equal ones. No URL at all is refused. */
NB_MUST_USE bool server_urls_parse(const char *const *texts, size_t count, struct nb_arena *arena,
                                   struct server_addresses *out, struct nb_buf *why);

/* A host that is an IPv4 or IPv6 address (with or without zone). */
bool server_host_is_ip(const char *host);

/* Whether one can listen there: an IP, localhost, or unix. */
bool server_address_can_bind(const struct server_address *a);

/* One member of --initial-cluster. */
struct server_member {
    const char *name;
    struct server_addresses peer_urls;
    uint64_t id; /* as etcd draws it from URLs and token; see server_member_id */
};

/* Sorted by name. */
struct server_members {
    struct server_member *items;
    size_t count;
};

/* Parses `n1=url,n1=url2,n2=url`. The ids are left 0. */
NB_MUST_USE bool server_members_parse(const char *text, struct nb_arena *arena,
                                      struct server_members *out, struct nb_buf *why);

/* First 8 bytes of SHA-1(sorted URLs one after the other, token). Same on every member. */
uint64_t server_member_id(const struct server_addresses *peer_urls, const char *token);
/* First 8 bytes of SHA-1(ids ascending, 8 bytes each, big-endian). */
uint64_t server_cluster_id(const struct server_members *members);

#endif

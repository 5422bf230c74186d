#include "server/url.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { HOST_LEN_MAX = 255 };

/* Says `fact`, then the text a person wrote. */
static bool refuse(struct nb_buf *why, const char *fact, const char *text)
{
    nb_buf_append_str(why, fact);
    nb_json_escape(why, nb_bytes_str(text));
    return false;
}

bool server_host_is_ip(const char *host)
{
    char plain[HOST_LEN_MAX + 1];
    size_t len = strcspn(host, "%");
    if (len > HOST_LEN_MAX) {
        return false;
    }
    memcpy(plain, host, len);
    plain[len] = '\0';
    struct in_addr v4;
    struct in6_addr v6;
    return inet_pton(AF_INET6, plain, &v6) == 1 ||
           (host[len] == '\0' && inet_pton(AF_INET, plain, &v4) == 1);
}

bool server_address_can_bind(const struct server_address *a)
{
    return a->unix_socket || strcmp(a->host, "localhost") == 0 || server_host_is_ip(a->host);
}

/* A port: 1 to 5 digits, at most 65535. */
static bool port_parse(const char *text, size_t len, uint16_t *out)
{
    uint32_t port = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || i == 5) {
            return false;
        }
        port = port * 10 + (uint32_t)(text[i] - '0');
    }
    *out = (uint16_t)port;
    return len != 0 && port <= UINT16_MAX;
}

/* "host:port" or "[v6]:port", all of it. */
static bool host_port_parse(const char *text, struct nb_arena *arena, struct server_address *out)
{
    const char *host = text, *colon;
    size_t host_len;
    if (*text == '[') {
        const char *end = strchr(text, ']');
        if (end == NULL || end[1] != ':') {
            return false;
        }
        host = text + 1;
        host_len = (size_t)(end - host);
        colon = end + 1;
    } else {
        colon = strchr(text, ':');
        if (colon == NULL || strchr(colon + 1, ':') != NULL) {
            return false; /* no port, or an IPv6 address without brackets */
        }
        host_len = (size_t)(colon - host);
    }
    for (size_t i = 0; i < host_len; i++) {
        unsigned char c = (unsigned char)host[i];
        if (c <= ' ' || c == 0x7f || strchr("/?#@[]\\\"<>^`{|}", c) != NULL) {
            return false;
        }
    }
    if (host_len > HOST_LEN_MAX || !port_parse(colon + 1, strlen(colon + 1), &out->port)) {
        return false;
    }
    out->host = nb_arena_str(arena, nb_bytes_of(host, host_len));
    return true;
}

static const struct {
    const char *prefix;
    bool tls, unix_socket;
} schemes[] = {
    {"http://", false, false},
    {"https://", true, false},
    {"unix://", false, true},
    {"unixs://", true, true},
};

bool server_url_parse(const char *text, struct nb_arena *arena, struct server_address *out,
                      struct nb_buf *why)
{
    static const char blanks[] = " \t\r\n";
    text += strspn(text, blanks);
    size_t len = strlen(text);
    while (len > 0 && strchr(blanks, text[len - 1]) != NULL) {
        len--;
    }
    struct server_address a = {.url = nb_arena_str(arena, nb_bytes_of(text, len))};
    const char *rest = NULL;
    for (size_t i = 0; i < NB_ARRAY_LEN(schemes) && rest == NULL; i++) {
        size_t prefix_len = strlen(schemes[i].prefix);
        if (strncmp(a.url, schemes[i].prefix, prefix_len) == 0) {
            rest = a.url + prefix_len;
            a.tls = schemes[i].tls;
            a.unix_socket = schemes[i].unix_socket;
        }
    }
    if (rest == NULL) {
        return refuse(why, "URL scheme must be http, https, unix, or unixs: ", a.url);
    }
    if (a.unix_socket) {
        a.host = rest;
        if (*rest == '\0') {
            return refuse(why, "URL names no socket: ", a.url);
        }
    } else if (strchr(rest, '/') != NULL) {
        return refuse(why, "URL must not contain a path: ", a.url);
    } else if (!host_port_parse(rest, arena, &a)) {
        return refuse(why, "URL address does not have the form \"host:port\": ", a.url);
    }
    *out = a;
    return true;
}

static int address_compare(const void *a, const void *b)
{
    return strcmp(((const struct server_address *)a)->url, ((const struct server_address *)b)->url);
}

bool server_urls_parse(const char *const *texts, size_t count, struct nb_arena *arena,
                       struct server_addresses *out, struct nb_buf *why)
{
    if (count == 0) {
        nb_buf_append_str(why, "no valid URLs given");
        return false;
    }
    struct server_addresses all = {
        .items = nb_arena_alloc_zero(arena, count, sizeof(struct server_address))};
    for (size_t i = 0; i < count; i++) {
        if (!server_url_parse(texts[i], arena, &all.items[all.count], why)) {
            return false;
        }
        all.count++;
    }
    qsort(all.items, all.count, sizeof *all.items, address_compare);
    size_t kept = 1;
    for (size_t i = 1; i < all.count; i++) {
        if (strcmp(all.items[i].url, all.items[kept - 1].url) != 0) {
            all.items[kept++] = all.items[i];
        }
    }
    all.count = kept;
    *out = all;
    return true;
}

static int member_compare(const void *a, const void *b)
{
    return strcmp(((const struct server_member *)a)->name, ((const struct server_member *)b)->name);
}

/* One `name=url` of the text, its parts in the arena. */
struct pair {
    const char *name, *url;
};

static size_t pairs_split(const char *text, struct nb_arena *arena, struct pair **out)
{
    size_t count = 1;
    for (const char *p = text; *p != '\0'; p++) {
        count += *p == ',' ? 1 : 0;
    }
    struct pair *pairs = nb_arena_alloc_zero(arena, count, sizeof *pairs);
    for (size_t i = 0; i < count; i++) {
        size_t len = strcspn(text, ",");
        const char *equals = memchr(text, '=', len);
        size_t name_len = equals == NULL ? len : (size_t)(equals - text);
        size_t url_from = equals == NULL ? len : name_len + 1;
        pairs[i].name = nb_arena_str(arena, nb_bytes_of(text, name_len));
        pairs[i].url = nb_arena_str(arena, nb_bytes_of(text + url_from, len - url_from));
        text += len + (text[len] == ',' ? 1 : 0);
    }
    *out = pairs;
    return count;
}

bool server_members_parse(const char *text, struct nb_arena *arena, struct server_members *out,
                          struct nb_buf *why)
{
    struct pair *pairs;
    size_t count = pairs_split(text, arena, &pairs);
    struct server_members all = {
        .items = nb_arena_alloc_zero(arena, count, sizeof(struct server_member))};
    const char **urls = nb_arena_alloc_zero(arena, count, sizeof *urls);
    for (size_t i = 0; i < count; i++) {
        if (pairs[i].name == NULL) {
            continue; /* taken with an earlier one of its name */
        }
        const char *name = pairs[i].name;
        size_t url_count = 0;
        for (size_t k = i; k < count; k++) {
            if (pairs[k].name != NULL && strcmp(pairs[k].name, name) == 0) {
                urls[url_count++] = pairs[k].url;
                pairs[k].name = NULL;
            }
        }
        struct server_member *member = &all.items[all.count];
        member->name = name;
        if (!server_urls_parse(urls, url_count, arena, &member->peer_urls, why)) {
            return false;
        }
        all.count++;
    }
    qsort(all.items, all.count, sizeof *all.items, member_compare);
    *out = all;
    return true;
}

static uint64_t sha1_head(const struct nb_buf *input)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    int done = EVP_Digest(input->data, input->len, digest, &len, EVP_sha1(), NULL);
    nb_assert(done == 1);
    nb_assert(len == 20);
    return nb_get_u64_be(digest);
}

uint64_t server_member_id(const struct server_addresses *peer_urls, const char *token)
{
    struct nb_buf input = {0};
    for (size_t i = 0; i < peer_urls->count; i++) {
        nb_buf_append_str(&input, peer_urls->items[i].url);
    }
    nb_buf_append_str(&input, token);
    uint64_t id = sha1_head(&input);
    nb_buf_deinit(&input);
    return id;
}

static int id_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

uint64_t server_cluster_id(const struct server_members *members)
{
    uint64_t *ids = nb_alloc_zero(members->count + 1, sizeof *ids);
    for (size_t i = 0; i < members->count; i++) {
        ids[i] = members->items[i].id;
    }
    qsort(ids, members->count, sizeof *ids, id_compare);
    struct nb_buf input = {0};
    for (size_t i = 0; i < members->count; i++) {
        nb_put_u64_be(nb_buf_extend(&input, sizeof *ids), ids[i]);
    }
    uint64_t id = sha1_head(&input);
    nb_buf_deinit(&input);
    nb_free(ids);
    return id;
}

#include "net/loop.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *prefix;
    enum net_scheme scheme;
} schemes[] = {
    {"http://", NET_SCHEME_HTTP},
    {"https://", NET_SCHEME_HTTPS},
    {"unix://", NET_SCHEME_UNIX},
    {"unixs://", NET_SCHEME_UNIXS},
};

static bool parse_port(const char *text, uint16_t *out)
{
    unsigned value = 0;
    size_t len = strlen(text);
    if (len == 0 || len > 5 || strspn(text, "0123456789") != len) {
        return false;
    }
    for (const char *c = text; *c != 0; c++) {
        value = value * 10 + (unsigned)(*c - '0');
    }
    if (value > UINT16_MAX) {
        return false;
    }
    *out = (uint16_t)value;
    return true;
}

static bool host_is_plain(const char *host)
{
    for (const char *c = host; *c != 0; c++) {
        if (*c <= ' ' || *c > '~' || strchr("/?#@[]\"\\", *c) != NULL) {
            return false;
        }
    }
    return true;
}

/* "host:port", already without scheme and path, in place. */
static bool parse_host_port(const char *text, char *rest, uint16_t default_port,
                            struct net_address *a, struct net_error *error)
{
    char *host = rest, *port = NULL;
    if (rest[0] == '[') {
        char *end = strchr(rest, ']');
        if (end == NULL || (end[1] != 0 && end[1] != ':')) {
            net_error_set(error, "\"%.100s\": a bracket is not closed", text);
            return false;
        }
        *end = 0;
        host = rest + 1;
        port = end[1] == ':' ? end + 2 : NULL;
        struct in6_addr parsed;
        if (inet_pton(AF_INET6, host, &parsed) != 1) {
            net_error_set(error, "\"%.100s\": not an IPv6 address in the brackets", text);
            return false;
        }
    } else {
        char *colon = strchr(rest, ':');
        if (colon != NULL && strchr(colon + 1, ':') != NULL) {
            net_error_set(error, "\"%.100s\": an IPv6 address must be in brackets", text);
            return false;
        }
        if (colon != NULL) {
            *colon = 0;
            port = colon + 1;
        }
    }
    if (port == NULL && default_port == 0) {
        net_error_set(error, "\"%.100s\": a port is missing", text);
        return false;
    }
    a->port = default_port;
    if (port != NULL && !parse_port(port, &a->port)) {
        net_error_set(error, "\"%.100s\": port must be from 0 to 65535", text);
        return false;
    }
    if (!host_is_plain(host)) {
        net_error_set(error, "\"%.100s\": host has characters that no host has", text);
        return false;
    }
    memcpy(a->host, host, strlen(host) + 1); /* shorter than the text, which was measured */
    return true;
}

bool net_address_parse(const char *text, uint16_t default_port, struct net_address *out,
                       struct net_error *error)
{
    struct net_address a = {0};
    const char *rest = text;
    for (size_t i = 0; i < NB_ARRAY_LEN(schemes); i++) {
        size_t len = strlen(schemes[i].prefix);
        if (strncmp(text, schemes[i].prefix, len) == 0) {
            a.scheme = schemes[i].scheme;
            rest = text + len;
        }
    }
    if (a.scheme == NET_SCHEME_NONE && strstr(text, "://") != NULL) {
        net_error_set(error, "\"%.100s\": scheme must be http, https, unix or unixs", text);
        return false;
    }
    size_t len = strlen(rest);
    if (len == 0 || len >= sizeof a.host) {
        net_error_set(error, "\"%.100s\": address is %s", text, len == 0 ? "empty" : "too long");
        return false;
    }
    if (a.scheme == NET_SCHEME_UNIX || a.scheme == NET_SCHEME_UNIXS) {
        if (len >= 108) { /* sun_path */
            net_error_set(error, "\"%.100s\": path of a unix socket is too long", text);
            return false;
        }
        memcpy(a.host, rest, len + 1);
        *out = a;
        return true;
    }
    char copy[sizeof a.host];
    memcpy(copy, rest, len + 1);
    char *slash = strchr(copy, '/');
    if (slash != NULL) {
        if (slash[1] != 0 || a.scheme == NET_SCHEME_NONE) {
            net_error_set(error, "\"%.100s\": a path is not allowed", text);
            return false;
        }
        *slash = 0;
    }
    if (!parse_host_port(text, copy, default_port, &a, error)) {
        return false;
    }
    *out = a;
    return true;
}

void net_address_format(const struct net_address *a, char *to, size_t size)
{
    if (a->scheme == NET_SCHEME_UNIX || a->scheme == NET_SCHEME_UNIXS) {
        (void)snprintf(to, size, "%s", a->host);
    } else if (strchr(a->host, ':') != NULL) {
        (void)snprintf(to, size, "[%s]:%u", a->host, (unsigned)a->port);
    } else {
        (void)snprintf(to, size, "%s:%u", a->host, (unsigned)a->port);
    }
}

bool net_address_is_numeric(const struct net_address *a)
{
    uint8_t parsed[16];
    return inet_pton(AF_INET, a->host, parsed) == 1 || inet_pton(AF_INET6, a->host, parsed) == 1;
}

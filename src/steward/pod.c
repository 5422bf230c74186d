#include "steward/pod.h"

#include <inttypes.h>
#include <string.h>

bool steward_slot_parse(const char *name, size_t *out_set_len, uint32_t *out_ordinal)
{
    const char *dash = strrchr(name, '-');
    if (dash == NULL || dash == name || strlen(name) > STEWARD_SLOT_SIZE_MAX) {
        return false;
    }
    const char *digits = dash + 1;
    uint32_t value = 0;
    if (*digits == '\0' || (digits[0] == '0' && digits[1] != '\0')) {
        return false;
    }
    for (const char *at = digits; *at != '\0'; at++) {
        if (*at < '0' || *at > '9') {
            return false;
        }
        value = value * 10 + (uint32_t)(*at - '0');
        if (value > STEWARD_ORDINAL_MAX) {
            return false;
        }
    }
    *out_set_len = (size_t)(dash - name);
    *out_ordinal = value;
    return true;
}

uint32_t steward_ordinal_of(const char *set, const char *slot)
{
    size_t len;
    uint32_t ordinal;
    if (!steward_slot_parse(slot, &len, &ordinal) || len != strlen(set) ||
        memcmp(slot, set, len) != 0) {
        return STEWARD_ORDINAL_NONE;
    }
    return ordinal;
}

bool steward_slot_of_member(const struct machine_member *member,
                            char out[STEWARD_SLOT_SIZE_MAX + 1])
{
    if (member->peer_url_count == 0) {
        return false;
    }
    const char *host = strstr(member->peer_urls[0], "://");
    if (host == NULL) {
        return false;
    }
    host += 3;
    size_t len = strcspn(host, ".:/");
    if (len == 0 || len > STEWARD_SLOT_SIZE_MAX) {
        return false;
    }
    memcpy(out, host, len);
    out[len] = '\0';
    return true;
}

void steward_pod_host(struct nb_buf *out, const char *set, uint32_t ordinal, const char *service,
                      const char *name_space)
{
    nb_buf_printf(out, "%s-%" PRIu32 ".%s", set, ordinal, service);
    if (name_space[0] != '\0') {
        nb_buf_printf(out, ".%s.svc", name_space);
    }
}

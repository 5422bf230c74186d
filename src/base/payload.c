#include "base/payload.h"

#include <string.h>

struct nb_payload *nb_payload_create(size_t len)
{
    nb_assert(len <= UINT32_MAX / 2);
    struct nb_payload *p = nb_alloc(sizeof *p + len);
    p->reference_count = 1;
    p->len = (uint32_t)len;
    return p;
}

struct nb_payload *nb_payload_copy(struct nb_bytes bytes)
{
    struct nb_payload *p = nb_payload_create(bytes.len);
    if (bytes.len != 0) {
        memcpy(p->data, bytes.data, bytes.len);
    }
    return p;
}

void nb_payload_release(struct nb_payload *p)
{
    if (p == NULL) {
        return;
    }
    nb_assert(p->reference_count != 0);
    if (--p->reference_count == 0) {
        nb_free(p);
    }
}

/*
 * steward/pod: pods of a StatefulSet: set, ordinal, and the names they are found by.
 *
 * A slot is a pod's name, `<set>-<ordinal>`: it outlives the pod, its address and its volume. Its
 * DNS name is `<set>-<ordinal>.<service>.<namespace>.svc`, completed by resolv.conf's search list.
 */
#ifndef NABATA_STEWARD_POD_H
#define NABATA_STEWARD_POD_H

#include "machine/members.h"

enum {
    STEWARD_SLOT_SIZE_MAX = 63, /* bytes: a DNS label */
    STEWARD_URL_SIZE_MAX = 255, /* bytes of a URL in a card */
    STEWARD_ORDINAL_MAX = 9999, /* a number that is larger is no ordinal of ours */
};

#define STEWARD_ORDINAL_NONE UINT32_MAX /* of a member that is no pod of this set */

/* Splits `name` at its last dash: "ss-10" is 2 bytes of set and ordinal 10. False without a dash, a
 * set or a plain number behind it (no sign, no leading zero). */
NB_MUST_USE bool steward_slot_parse(const char *name, size_t *out_set_len, uint32_t *out_ordinal);

/* Ordinal of `slot` in the set named `set`; STEWARD_ORDINAL_NONE when it is of another set. */
uint32_t steward_ordinal_of(const char *set, const char *slot);

/* Which slot a member holds: the first label of its first peer URL's host. That is known from the
 * moment a member is added; its name only once it has started. False: none that fits. */
NB_MUST_USE bool steward_slot_of_member(const struct machine_member *member,
                                        char out[STEWARD_SLOT_SIZE_MAX + 1]);

/* Appends the DNS name of pod `ordinal`. `name_space` may be "". */
void steward_pod_host(struct nb_buf *out, const char *set, uint32_t ordinal, const char *service,
                      const char *name_space);

#endif

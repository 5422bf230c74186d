/*
 * machine/members: who is in the cluster, as the log says.
 *
 * The one replicated copy of {id, name, addresses, learner} [M10]: changed only by applying
 * entries, stored in the backend in the same transaction as the applied index. Who votes is raft's
 * business and comes from the same configuration entries.
 *
 * Invariants:
 *   M1  members are ordered by id, no id twice, no id 0
 *   M2  an id that was removed never returns [M08]
 */
#ifndef NABATA_MACHINE_MEMBERS_H
#define NABATA_MACHINE_MEMBERS_H

#include "base/arena.h"
#include "base/status.h"

enum { MACHINE_MEMBER_COUNT_MAX = 32, MACHINE_MEMBER_URL_COUNT_MAX = 16 };

struct machine_member {
    uint64_t id;      /* never 0 */
    char *name;       /* owned; "" until the member has started once */
    char **peer_urls; /* owned */
    size_t peer_url_count;
    char **client_urls; /* owned */
    size_t client_url_count;
    bool is_learner;
};

/* All zero is a valid empty set. */
struct machine_members {
    struct machine_member *items; /* owned, ordered by id */
    size_t count, capacity;
    uint64_t *removed; /* owned */
    size_t removed_count, removed_capacity;
};

void machine_members_deinit(struct machine_members *m);

/* NULL when there is none. The pointer is valid until the set changes. */
const struct machine_member *machine_members_find(const struct machine_members *m, uint64_t id);
bool machine_members_was_removed(const struct machine_members *m, uint64_t id);

/* Sets id, peer URLs and learner mark; name and client URLs of a known member stay. Strings are
 * copied. */
void machine_members_set(struct machine_members *m, const struct machine_member *member);
/* Name and client URLs of a known member; false when the id is not known. */
bool machine_members_publish(struct machine_members *m, uint64_t id, const char *name,
                             char *const *client_urls, size_t client_url_count);
void machine_members_remove(struct machine_members *m, uint64_t id);

/* etcdserverpb.Member of one member, appended. */
void machine_member_encode(const struct machine_member *member, struct nb_buf *out);
/* Decodes one; strings are in the arena. NB_MALFORMED, NB_TOO_LARGE for more URLs than the bound.
 */
NB_MUST_USE enum nb_status machine_member_decode(struct nb_bytes bytes, struct nb_arena *arena,
                                                 struct machine_member *out);

/*
 * What a configuration entry carries behind raft's part: the whole membership after it, as repeated
 * field 1 of etcdserverpb.Member. Members that are absent are removed by applying it.
 */
void machine_members_encode(const struct machine_members *m, struct nb_buf *out);
NB_MUST_USE enum nb_status machine_members_apply(struct machine_members *m, struct nb_bytes bytes);

#endif

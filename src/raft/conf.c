/* Configurations: sorted arrays of ids, the changes that make one of another, and their encoding.
 */
#include "raft/raft.h"

#include <string.h>

struct id_set {
    uint64_t *ids;
    uint32_t *count;
};

static bool set_has(const uint64_t *ids, uint32_t count, uint64_t id)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

/* False when full. Adding what is there already does nothing. */
static bool set_add(struct id_set s, uint64_t id)
{
    if (set_has(s.ids, *s.count, id)) {
        return true;
    }
    if (*s.count == RAFT_MEMBER_COUNT_MAX) {
        return false;
    }
    uint32_t at = *s.count;
    while (at > 0 && s.ids[at - 1] > id) {
        s.ids[at] = s.ids[at - 1];
        at--;
    }
    s.ids[at] = id;
    ++*s.count;
    return true;
}

static void set_remove(struct id_set s, uint64_t id)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *s.count; i++) {
        if (s.ids[i] != id) {
            s.ids[kept++] = s.ids[i];
        }
    }
    if (kept < *s.count) {
        s.ids[kept] = 0; /* the unused tail stays zero: equal configurations are equal bytes */
    }
    *s.count = kept;
}

static struct id_set voters_of(struct raft_conf *c)
{
    return (struct id_set){c->voters, &c->voter_count};
}

static struct id_set learners_of(struct raft_conf *c)
{
    return (struct id_set){c->learners, &c->learner_count};
}

static struct id_set learners_next_of(struct raft_conf *c)
{
    return (struct id_set){c->learners_next, &c->learner_next_count};
}

bool raft_conf_has_voter(const struct raft_conf *c, uint64_t id)
{
    return set_has(c->voters, c->voter_count, id) || set_has(c->outgoing, c->outgoing_count, id);
}

bool raft_conf_has_member(const struct raft_conf *c, uint64_t id)
{
    return raft_conf_has_voter(c, id) || set_has(c->learners, c->learner_count, id) ||
           set_has(c->learners_next, c->learner_next_count, id);
}

static bool set_equal(const uint64_t *a, uint32_t a_count, const uint64_t *b, uint32_t b_count)
{
    return a_count == b_count && memcmp(a, b, a_count * sizeof *a) == 0;
}

bool raft_conf_equal(const struct raft_conf *a, const struct raft_conf *b)
{
    return a->auto_leave == b->auto_leave &&
           set_equal(a->voters, a->voter_count, b->voters, b->voter_count) &&
           set_equal(a->outgoing, a->outgoing_count, b->outgoing, b->outgoing_count) &&
           set_equal(a->learners, a->learner_count, b->learners, b->learner_count) &&
           set_equal(a->learners_next, a->learner_next_count, b->learners_next,
                     b->learner_next_count);
}

static bool set_well_formed(const uint64_t *ids, uint32_t count)
{
    if (count > RAFT_MEMBER_COUNT_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == 0 || (i > 0 && ids[i - 1] >= ids[i])) {
            return false;
        }
    }
    return true;
}

/* Distinct ids over the sets; learners are apart from voters and outgoing. */
static uint32_t member_count(const struct raft_conf *c)
{
    uint32_t count = c->voter_count + c->learner_count;
    for (uint32_t i = 0; i < c->outgoing_count; i++) {
        count += set_has(c->voters, c->voter_count, c->outgoing[i]) ? 0 : 1;
    }
    return count;
}

bool raft_conf_well_formed(const struct raft_conf *c)
{
    if (!set_well_formed(c->voters, c->voter_count) ||
        !set_well_formed(c->outgoing, c->outgoing_count) ||
        !set_well_formed(c->learners, c->learner_count) ||
        !set_well_formed(c->learners_next, c->learner_next_count)) {
        return false;
    }
    for (uint32_t i = 0; i < c->learner_count; i++) {
        if (raft_conf_has_voter(c, c->learners[i])) {
            return false;
        }
    }
    for (uint32_t i = 0; i < c->learner_next_count; i++) { /* only outgoing voters wait there */
        if (!set_has(c->outgoing, c->outgoing_count, c->learners_next[i]) ||
            set_has(c->voters, c->voter_count, c->learners_next[i])) {
            return false;
        }
    }
    bool some = c->outgoing_count + c->learner_count != 0;
    return !(c->voter_count == 0 && some) && !(c->outgoing_count == 0 && c->auto_leave) &&
           member_count(c) <= RAFT_MEMBER_COUNT_MAX;
}

static enum raft_conf_outcome apply_step(const struct raft_conf *from, struct raft_conf *c,
                                         const struct raft_conf_step *step)
{
    bool voter = set_has(c->voters, c->voter_count, step->id);
    bool learner = set_has(c->learners, c->learner_count, step->id);
    switch (step->kind) {
    case RAFT_CONF_ADD_VOTER:
        if (voter) {
            return RAFT_CONF_ALREADY;
        }
        set_remove(learners_of(c), step->id);
        return set_add(voters_of(c), step->id) ? RAFT_CONF_ACCEPTED : RAFT_CONF_TOO_MANY;
    case RAFT_CONF_ADD_LEARNER:
        if (learner) {
            return RAFT_CONF_ALREADY;
        }
        set_remove(voters_of(c), step->id);
        /* An old voter votes on until the joint phase is over, so it is a learner only then. */
        return set_add(set_has(from->voters, from->voter_count, step->id) ? learners_next_of(c)
                                                                          : learners_of(c),
                       step->id)
                   ? RAFT_CONF_ACCEPTED
                   : RAFT_CONF_TOO_MANY;
    case RAFT_CONF_REMOVE:
        if (!voter && !learner) {
            return RAFT_CONF_NOT_A_MEMBER;
        }
        set_remove(voters_of(c), step->id);
        set_remove(learners_of(c), step->id);
        return RAFT_CONF_ACCEPTED;
    case RAFT_CONF_STEP_KIND_COUNT:
        break;
    }
    return RAFT_CONF_INVALID;
}

static enum raft_conf_outcome leave_joint(const struct raft_conf *from, struct raft_conf *out)
{
    if (from->outgoing_count == 0) {
        return RAFT_CONF_NOT_IN_JOINT;
    }
    struct raft_conf c = *from;
    memset(c.outgoing, 0, sizeof c.outgoing);
    memset(c.learners_next, 0, sizeof c.learners_next);
    c.outgoing_count = c.learner_next_count = 0;
    c.auto_leave = false;
    for (uint32_t i = 0; i < from->learner_next_count; i++) {
        if (!set_add(learners_of(&c), from->learners_next[i])) {
            return RAFT_CONF_TOO_MANY;
        }
    }
    *out = c;
    return RAFT_CONF_ACCEPTED;
}

static bool steps_valid(const struct raft_conf_change *change)
{
    if (change->step_count == 0 || change->step_count > RAFT_MEMBER_COUNT_MAX) {
        return false;
    }
    for (size_t i = 0; i < change->step_count; i++) {
        if (change->steps[i].id == 0) {
            return false;
        }
        for (size_t k = 0; k < i; k++) {
            if (change->steps[k].id == change->steps[i].id) {
                return false;
            }
        }
    }
    return true;
}

static uint32_t voters_changed(const struct raft_conf *a, const struct raft_conf *b)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < a->voter_count; i++) {
        count += set_has(b->voters, b->voter_count, a->voters[i]) ? 0 : 1;
    }
    for (uint32_t i = 0; i < b->voter_count; i++) {
        count += set_has(a->voters, a->voter_count, b->voters[i]) ? 0 : 1;
    }
    return count;
}

enum raft_conf_outcome raft_conf_apply(const struct raft_conf *from,
                                       const struct raft_conf_change *change, struct raft_conf *out)
{
    if (change->mode == RAFT_CONF_LEAVE) {
        return change->step_count != 0 ? RAFT_CONF_INVALID : leave_joint(from, out);
    }
    if (from->outgoing_count != 0) {
        return RAFT_CONF_IN_JOINT;
    }
    if (change->mode == RAFT_CONF_KEEP) {
        *out = *from;
        return change->step_count != 0 ? RAFT_CONF_INVALID : RAFT_CONF_ACCEPTED;
    }
    if (!steps_valid(change)) {
        return RAFT_CONF_INVALID;
    }
    struct raft_conf c = *from;
    for (size_t i = 0; i < change->step_count; i++) {
        enum raft_conf_outcome outcome = apply_step(from, &c, &change->steps[i]);
        if (outcome != RAFT_CONF_ACCEPTED) {
            return outcome;
        }
    }
    if (c.voter_count == 0) {
        return RAFT_CONF_NO_VOTER_LEFT;
    }
    bool one = voters_changed(from, &c) <= 1;
    if (change->mode == RAFT_CONF_SIMPLE && !one) {
        return RAFT_CONF_NEEDS_JOINT;
    }
    if (change->mode == RAFT_CONF_SIMPLE || (change->mode == RAFT_CONF_AUTO && one)) {
        for (uint32_t i = 0; i < c.learner_next_count; i++) { /* no joint phase to wait for */
            if (!set_add(learners_of(&c), c.learners_next[i])) {
                return RAFT_CONF_TOO_MANY;
            }
        }
        memset(c.learners_next, 0, sizeof c.learners_next);
        c.learner_next_count = 0;
    } else {
        memcpy(c.outgoing, from->voters, sizeof c.outgoing);
        c.outgoing_count = from->voter_count;
        c.auto_leave = change->mode != RAFT_CONF_JOINT_EXPLICIT;
    }
    if (!raft_conf_well_formed(&c)) {
        return RAFT_CONF_TOO_MANY;
    }
    *out = c;
    return RAFT_CONF_ACCEPTED;
}

/*
 * Encoding, little-endian:
 *   0  u8      format, 1
 *   1  u8      1 when auto_leave
 *   2  u8 x 4  counts of voters, outgoing, learners, learners_next
 *   6  u16     0
 *   8  u64 ..  the ids, in that order
 */
enum { CONF_FORMAT = 1, CONF_HEADER_SIZE = 8 };

void raft_conf_encode(const struct raft_conf *c, struct nb_buf *to)
{
    const struct {
        const uint64_t *ids;
        uint32_t count;
    } sets[] = {{c->voters, c->voter_count},
                {c->outgoing, c->outgoing_count},
                {c->learners, c->learner_count},
                {c->learners_next, c->learner_next_count}};
    uint8_t header[CONF_HEADER_SIZE] = {CONF_FORMAT, c->auto_leave ? 1 : 0};
    for (size_t i = 0; i < NB_ARRAY_LEN(sets); i++) {
        nb_assert(sets[i].count <= RAFT_MEMBER_COUNT_MAX);
        header[2 + i] = (uint8_t)sets[i].count;
    }
    nb_buf_append(to, header, sizeof header);
    for (size_t i = 0; i < NB_ARRAY_LEN(sets); i++) {
        for (uint32_t k = 0; k < sets[i].count; k++) {
            nb_put_u64(nb_buf_extend(to, 8), sets[i].ids[k]);
        }
    }
}

enum nb_status raft_conf_decode(struct nb_bytes from, struct raft_conf *out,
                                struct nb_bytes *out_attached)
{
    if (from.len < CONF_HEADER_SIZE) {
        return NB_TRUNCATED;
    }
    const uint8_t *header = from.data;
    if (header[0] != CONF_FORMAT || header[1] > 1 || header[6] != 0 || header[7] != 0) {
        return NB_MALFORMED;
    }
    struct raft_conf c = {.auto_leave = header[1] == 1};
    uint64_t *const ids[] = {c.voters, c.outgoing, c.learners, c.learners_next};
    uint32_t *const counts[] = {&c.voter_count, &c.outgoing_count, &c.learner_count,
                                &c.learner_next_count};
    size_t at = CONF_HEADER_SIZE;
    for (size_t i = 0; i < NB_ARRAY_LEN(ids); i++) {
        uint32_t count = header[2 + i];
        if (count > RAFT_MEMBER_COUNT_MAX) {
            return NB_MALFORMED;
        }
        if ((from.len - at) / 8 < count) {
            return NB_TRUNCATED;
        }
        *counts[i] = count;
        for (uint32_t k = 0; k < count; k++, at += 8) {
            ids[i][k] = nb_get_u64(from.data + at);
        }
    }
    if (!raft_conf_well_formed(&c)) {
        return NB_MALFORMED;
    }
    *out = c;
    *out_attached = nb_bytes_from(from, at);
    return NB_OK;
}

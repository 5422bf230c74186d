/*
 * Messages on the wire, little-endian:
 *   0   u8   format, 1
 *   1   u8   type
 *   2   u8   flags: 1 accepted, granted or full (of HEARTBEAT), 2 transfer, 4 wants a snapshot
 *            (of APPEND_RESULT)
 *   3   u8   0
 *   4   u32  count of entries
 *   8   u64  from
 *   16  u64  to
 *   24  u64  term
 *   32  u64 x word_count[type]
 *   then for SNAPSHOT its configuration, and for APPEND and PROPOSE the entries, each
 *     0  u32  payload length
 *     4  u8   kind
 *     5  u8 x 3  0
 *     8  u64  term (0 in PROPOSE)
 *     16 the payload
 * An entry's index is its place behind `prev`.
 */
#include "raft/raft.h"

#include <string.h>

enum {
    MSG_FORMAT = 1,
    MSG_HEADER_SIZE = 32,
    ENTRY_HEADER_SIZE = 16,
    FLAG_YES = 1,
    FLAG_TRANSFER = 2,
    FLAG_SNAPSHOT = 4,
    WORD_COUNT_MAX = 4,
};

/* Indexes, terms and rounds on the wire stay below this, so that no sum of them wraps [R25]. */
#define NUMBER_MAX (UINT64_C(1) << 62)

/* clang-format off */
static const struct {
    const char *name;
    unsigned word_count;
} types[RAFT_MSG_TYPE_COUNT] = {
    [RAFT_MSG_APPEND]           = {"append", 4},
    [RAFT_MSG_APPEND_RESULT]    = {"append_result", 4},
    [RAFT_MSG_HEARTBEAT]        = {"heartbeat", 2},
    [RAFT_MSG_HEARTBEAT_RESULT] = {"heartbeat_result", 2},
    [RAFT_MSG_PRE_VOTE]         = {"pre_vote", 2},
    [RAFT_MSG_PRE_VOTE_RESULT]  = {"pre_vote_result", 0},
    [RAFT_MSG_VOTE]             = {"vote", 2},
    [RAFT_MSG_VOTE_RESULT]      = {"vote_result", 0},
    [RAFT_MSG_SNAPSHOT]         = {"snapshot", 2},
    [RAFT_MSG_TIMEOUT_NOW]      = {"timeout_now", 0},
    [RAFT_MSG_READ]             = {"read", 1},
    [RAFT_MSG_READ_RESULT]      = {"read_result", 2},
    [RAFT_MSG_PROPOSE]          = {"propose", 0},
    [RAFT_MSG_REMOVED]          = {"removed", 1},
};
/* clang-format on */

const char *raft_msg_type_name(enum raft_msg_type type)
{
    nb_assert(type < RAFT_MSG_TYPE_COUNT);
    return types[type].name;
}

/* What a message is made of beside its header. */
struct parts {
    uint8_t flags;
    uint64_t words[WORD_COUNT_MAX];
    const struct raft_entry *entries;
    size_t entry_count;
};

static uint8_t flag(bool is, uint8_t bit)
{
    return is ? bit : 0;
}

static struct parts parts_of(const struct raft_msg *m)
{
    switch (m->type) {
    case RAFT_MSG_APPEND:
        return (struct parts){.words = {m->append.prev.index, m->append.prev.term,
                                        m->append.leader_commit, m->append.read_round},
                              .entries = m->append.entries,
                              .entry_count = m->append.entry_count};
    case RAFT_MSG_APPEND_RESULT:
        return (struct parts){
            .flags = (uint8_t)(flag(m->append_result.accepted, FLAG_YES) |
                               flag(m->append_result.wants_snapshot, FLAG_SNAPSHOT)),
            .words = {m->append_result.matched_index, m->append_result.refused_index,
                      m->append_result.hint.index, m->append_result.hint.term}};
    case RAFT_MSG_HEARTBEAT:
        return (struct parts){.flags = flag(m->heartbeat.full, FLAG_YES),
                              .words = {m->heartbeat.commit_index, m->heartbeat.read_round}};
    case RAFT_MSG_HEARTBEAT_RESULT:
        return (struct parts){
            .words = {m->heartbeat_result.read_round, m->heartbeat_result.received_index}};
    case RAFT_MSG_PRE_VOTE:
    case RAFT_MSG_VOTE:
        return (struct parts){.flags = flag(m->vote.transfer, FLAG_TRANSFER),
                              .words = {m->vote.last.index, m->vote.last.term}};
    case RAFT_MSG_PRE_VOTE_RESULT:
    case RAFT_MSG_VOTE_RESULT:
        return (struct parts){.flags = flag(m->vote_result.granted, FLAG_YES)};
    case RAFT_MSG_SNAPSHOT:
        return (struct parts){.words = {m->snapshot->last.index, m->snapshot->last.term}};
    case RAFT_MSG_READ:
        return (struct parts){.words = {m->read.context}};
    case RAFT_MSG_READ_RESULT:
        return (struct parts){.words = {m->read_result.context, m->read_result.index}};
    case RAFT_MSG_PROPOSE:
        return (struct parts){.entries = m->propose.entries, .entry_count = m->propose.entry_count};
    case RAFT_MSG_REMOVED:
        return (struct parts){.words = {m->removed.commit_index}};
    case RAFT_MSG_TIMEOUT_NOW:
    case RAFT_MSG_TYPE_COUNT:
        break;
    }
    return (struct parts){0};
}

static size_t plain_size(const struct raft_msg *m, const struct parts *p)
{
    size_t size = MSG_HEADER_SIZE + 8 * (size_t)types[m->type].word_count;
    for (size_t i = 0; i < p->entry_count; i++) {
        size += ENTRY_HEADER_SIZE + nb_payload_bytes(p->entries[i].payload).len;
    }
    return size;
}

size_t raft_msg_encoded_size(const struct raft_msg *m)
{
    struct parts p = parts_of(m);
    size_t size = plain_size(m, &p);
    if (m->type == RAFT_MSG_SNAPSHOT) {
        const struct raft_conf *c = &m->snapshot->conf;
        size += 8 + 8 * ((size_t)c->voter_count + c->outgoing_count + c->learner_count +
                         c->learner_next_count);
    }
    return size;
}

static uint8_t *put_entry(uint8_t *at, const struct raft_entry *e)
{
    struct nb_bytes payload = nb_payload_bytes(e->payload);
    nb_put_u32(at, (uint32_t)payload.len);
    nb_put_u32(at + 4, (uint32_t)e->kind);
    nb_put_u64(at + 8, e->id.term);
    if (payload.len != 0) {
        memcpy(at + ENTRY_HEADER_SIZE, payload.data, payload.len);
    }
    return at + ENTRY_HEADER_SIZE + payload.len;
}

void raft_msg_encode(const struct raft_msg *m, struct nb_buf *to)
{
    nb_assert(m->type < RAFT_MSG_TYPE_COUNT);
    struct parts p = parts_of(m);
    nb_assert(p.entry_count <= UINT32_MAX);
    uint8_t *at = nb_buf_extend(to, plain_size(m, &p));
    at[0] = MSG_FORMAT;
    at[1] = (uint8_t)m->type;
    at[2] = p.flags;
    at[3] = 0;
    nb_put_u32(at + 4, (uint32_t)p.entry_count);
    nb_put_u64(at + 8, m->from);
    nb_put_u64(at + 16, m->to);
    nb_put_u64(at + 24, m->term);
    at += MSG_HEADER_SIZE;
    for (unsigned i = 0; i < types[m->type].word_count; i++, at += 8) {
        nb_put_u64(at, p.words[i]);
    }
    for (size_t i = 0; i < p.entry_count; i++) {
        at = put_entry(at, &p.entries[i]);
    }
    if (m->type == RAFT_MSG_SNAPSHOT) {
        raft_conf_encode(&m->snapshot->conf, to);
    }
}

/* Checks all lengths and kinds first, so that a refusal has created nothing. Moves `from` behind.
 */
static enum nb_status check_entries(struct nb_bytes *from, uint32_t count, bool propose,
                                    uint64_t term_before, uint64_t term_max)
{
    size_t at = 0;
    uint64_t term = term_before;
    for (uint32_t i = 0; i < count; i++) {
        if (from->len - at < ENTRY_HEADER_SIZE) {
            return NB_TRUNCATED;
        }
        const uint8_t *header = from->data + at;
        at += ENTRY_HEADER_SIZE;
        uint32_t len = nb_get_u32(header);
        uint32_t kind = nb_get_u32(header + 4);
        uint64_t entry_term = nb_get_u64(header + 8);
        if (kind >= RAFT_ENTRY_KIND_COUNT || (kind == RAFT_ENTRY_NOOP && len != 0) ||
            len > UINT32_MAX / 2) {
            return NB_MALFORMED;
        }
        if (propose ? kind != RAFT_ENTRY_COMMAND || entry_term != 0
                    : entry_term < term || entry_term == 0 || entry_term > term_max) {
            return NB_MALFORMED;
        }
        if (from->len - at < len) {
            return NB_TRUNCATED;
        }
        struct raft_conf conf;
        struct nb_bytes attached;
        if (kind == RAFT_ENTRY_CONF &&
            raft_conf_decode(nb_bytes_of(from->data + at, len), &conf, &attached) != NB_OK) {
            return NB_MALFORMED;
        }
        at += len;
        term = entry_term;
    }
    *from = nb_bytes_from(*from, at);
    return NB_OK;
}

/* Entries that check_entries has passed. */
static const struct raft_entry *take_entries(const uint8_t *at, uint32_t count,
                                             uint64_t first_index, struct nb_arena *arena)
{
    if (count == 0) {
        return NULL;
    }
    struct raft_entry *entries = nb_arena_alloc(arena, count * sizeof *entries);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t len = nb_get_u32(at);
        enum raft_entry_kind kind = (enum raft_entry_kind)nb_get_u32(at + 4);
        entries[i] = (struct raft_entry){
            .id = {.index = first_index == 0 ? 0 : first_index + i, .term = nb_get_u64(at + 8)},
            .kind = kind,
            .payload = kind == RAFT_ENTRY_NOOP
                           ? NULL
                           : nb_payload_copy(nb_bytes_of(at + ENTRY_HEADER_SIZE, len))};
        at += ENTRY_HEADER_SIZE + len;
    }
    return entries;
}

static enum nb_status decode_snapshot(struct nb_bytes *rest, const uint64_t *words,
                                      struct raft_msg *m, struct nb_arena *arena)
{
    struct raft_snapshot *s = nb_arena_alloc(arena, sizeof *s);
    s->last = (struct raft_entry_id){.index = words[0], .term = words[1]};
    enum nb_status status = raft_conf_decode(*rest, &s->conf, rest);
    if (status != NB_OK) {
        return status;
    }
    if (s->last.index == 0 || s->last.term == 0 || s->last.term > m->term) {
        return NB_MALFORMED;
    }
    m->snapshot = s;
    return NB_OK;
}

static enum nb_status decode_body(struct raft_msg *m, uint8_t flags, const uint64_t *w,
                                  uint32_t count, struct nb_bytes *rest, struct nb_arena *arena)
{
    const uint8_t *entries = rest->data;
    bool yes = (flags & FLAG_YES) != 0;
    enum nb_status status = NB_OK;
    switch (m->type) {
    case RAFT_MSG_APPEND:
        status = w[1] > m->term || (w[0] == 0) != (w[1] == 0)
                     ? NB_MALFORMED
                     : check_entries(rest, count, false, w[1], m->term);
        if (status == NB_OK) {
            m->append =
                (struct raft_append){.prev = {.index = w[0], .term = w[1]},
                                     .leader_commit = w[2],
                                     .read_round = w[3],
                                     .entries = take_entries(entries, count, w[0] + 1, arena),
                                     .entry_count = count};
        }
        break;
    case RAFT_MSG_APPEND_RESULT:
        m->append_result =
            (struct raft_append_result){.accepted = yes,
                                        .wants_snapshot = (flags & FLAG_SNAPSHOT) != 0,
                                        .matched_index = w[0],
                                        .refused_index = w[1],
                                        .hint = {.index = w[2], .term = w[3]}};
        /* Only what needs a snapshot is refused from the start of the log on. */
        status = yes == ((flags & FLAG_SNAPSHOT) != 0) && (yes || w[1] == 0) ? NB_MALFORMED : NB_OK;
        break;
    case RAFT_MSG_HEARTBEAT:
        m->heartbeat =
            (struct raft_heartbeat){.commit_index = w[0], .read_round = w[1], .full = yes};
        break;
    case RAFT_MSG_HEARTBEAT_RESULT:
        m->heartbeat_result =
            (struct raft_heartbeat_result){.read_round = w[0], .received_index = w[1]};
        break;
    case RAFT_MSG_PRE_VOTE:
    case RAFT_MSG_VOTE:
        m->vote = (struct raft_vote){.last = {.index = w[0], .term = w[1]},
                                     .transfer = (flags & FLAG_TRANSFER) != 0};
        break;
    case RAFT_MSG_PRE_VOTE_RESULT:
    case RAFT_MSG_VOTE_RESULT:
        m->vote_result = (struct raft_vote_result){.granted = yes};
        break;
    case RAFT_MSG_SNAPSHOT:
        status = decode_snapshot(rest, w, m, arena);
        break;
    case RAFT_MSG_READ:
        m->read = (struct raft_read_request){.context = w[0]};
        break;
    case RAFT_MSG_READ_RESULT:
        m->read_result = (struct raft_read_result){.context = w[0], .index = w[1]};
        break;
    case RAFT_MSG_PROPOSE:
        status = check_entries(rest, count, true, 0, 0);
        if (status == NB_OK) {
            m->propose = (struct raft_propose){.entries = take_entries(entries, count, 0, arena),
                                               .entry_count = count};
        }
        break;
    case RAFT_MSG_REMOVED:
        m->removed = (struct raft_removed){.commit_index = w[0]};
        break;
    case RAFT_MSG_TIMEOUT_NOW:
    case RAFT_MSG_TYPE_COUNT:
        break;
    }
    return status;
}

enum nb_status raft_msg_decode(struct nb_bytes from, struct raft_msg *out, struct nb_arena *arena)
{
    if (from.len < MSG_HEADER_SIZE) {
        return NB_TRUNCATED;
    }
    const uint8_t *h = from.data;
    if (h[0] != MSG_FORMAT || h[1] >= RAFT_MSG_TYPE_COUNT ||
        h[2] > (FLAG_YES | FLAG_TRANSFER | FLAG_SNAPSHOT) || h[3] != 0) {
        return NB_MALFORMED;
    }
    struct raft_msg m = {.type = (enum raft_msg_type)h[1],
                         .from = nb_get_u64(h + 8),
                         .to = nb_get_u64(h + 16),
                         .term = nb_get_u64(h + 24)};
    uint32_t count = nb_get_u32(h + 4);
    bool carries = m.type == RAFT_MSG_APPEND || m.type == RAFT_MSG_PROPOSE;
    if (m.from == 0 || m.to == 0 || m.term == 0 || m.term >= NUMBER_MAX ||
        (count != 0 && !carries)) {
        return NB_MALFORMED;
    }
    struct nb_bytes rest = nb_bytes_from(from, MSG_HEADER_SIZE);
    uint64_t words[WORD_COUNT_MAX] = {0};
    unsigned word_count = types[m.type].word_count;
    if (rest.len / 8 < word_count) {
        return NB_TRUNCATED;
    }
    for (unsigned i = 0; i < word_count; i++) {
        words[i] = nb_get_u64(rest.data + 8 * (size_t)i);
        if (words[i] >= NUMBER_MAX) {
            return NB_MALFORMED;
        }
    }
    rest = nb_bytes_from(rest, 8 * (size_t)word_count);
    if (rest.len / ENTRY_HEADER_SIZE < count) { /* before anything is allocated by it */
        return NB_TRUNCATED;
    }
    enum nb_status status = decode_body(&m, h[2], words, count, &rest, arena);
    if (status != NB_OK) {
        return status;
    }
    if (rest.len != 0) {
        raft_msg_release(&m);
        return NB_MALFORMED;
    }
    *out = m;
    return NB_OK;
}

void raft_msg_release(struct raft_msg *m)
{
    const struct raft_entry *entries = NULL;
    size_t count = 0;
    if (m->type == RAFT_MSG_APPEND) {
        entries = m->append.entries;
        count = m->append.entry_count;
    } else if (m->type == RAFT_MSG_PROPOSE) {
        entries = m->propose.entries;
        count = m->propose.entry_count;
    }
    for (size_t i = 0; i < count; i++) {
        nb_payload_release(entries[i].payload);
    }
}

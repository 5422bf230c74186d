#include "tests/raft/explore.h"

#include "raft/internal.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WRITE_MAX = 4, HELD_MAX = 8, EMIT_MAX = 12 };

#define NONE UINT32_MAX

/* ---- members ----------------------------------------------------------------------------------
 */

struct write {
    uint64_t sync;
    bool has_hard;
    struct raft_hard_state hard;
    struct raft_entry entries[EXPLORE_INDEX_MAX];
    size_t entry_count;
};

struct held {
    uint64_t sync;
    bool log_replaced; /* a snapshot was installed while it was held */
    uint32_t message;
};

/* A member's whole state. The payloads of disk and writes are held by the explorer until its end.
 */
struct node {
    struct raft *core;
    struct raft_hard_state hard; /* the disk from here on */
    struct raft_snapshot snapshot;
    struct raft_entry disk[EXPLORE_INDEX_MAX + 1]; /* by index */
    uint64_t disk_last;
    struct write writes[WRITE_MAX];
    size_t write_count;
    struct held held[HELD_MAX];
    size_t held_count;
    uint64_t persisted;
    bool overflow; /* a bound of the test was passed: not looked into */
};

/* What the checkers look at, extracted once. */
struct facts {
    uint64_t term, disk_term, commit, last, disk_last;
    uint32_t ident[EXPLORE_INDEX_MAX + 1], disk_ident[EXPLORE_INDEX_MAX + 1];
    uint64_t match[EXPLORE_MEMBER_MAX + 1];
    uint32_t voters, outgoing; /* masks of ids */
    uint32_t conf_uncommitted;
    bool leader;
};

struct interned {
    struct node node;
    struct facts facts;
    struct nb_buf key;
};

enum event_kind {
    EVENT_CAMPAIGN,
    EVENT_HEARTBEAT,
    EVENT_PROPOSE,
    EVENT_SYNC,
    EVENT_CRASH,
    EVENT_READ,
    EVENT_COMPACT,
    EVENT_INSTALL,
    EVENT_CONF,
    EVENT_LOST, /* the connection to the leader */
    EVENT_DELIVER,
};

static const char *const event_names[] = {"campaign", "heartbeat", "propose", "sync",
                                          "crash",    "read",      "compact", "install",
                                          "conf",     "lost",      "deliver"};

/* What an event does to a member, whatever the others do. */
struct outcome {
    uint32_t node; /* NONE: nothing, or out of bounds */
    uint32_t emit[EMIT_MAX];
    uint32_t emit_count;
    uint64_t read_index; /* of a read that became ready, plus 1; 0 is none */
    bool read_failed;
};

struct state {
    uint32_t node[EXPLORE_MEMBER_MAX];
    uint32_t wire[EXPLORE_WIRE_MAX]; /* sorted */
    uint32_t committed[EXPLORE_INDEX_MAX + 1];
    uint8_t leaders[EXPLORE_TERM_MAX + 1];
    uint8_t committed_in[EXPLORE_INDEX_MAX + 1]; /* term of the leader that committed it */
    uint8_t committed_count, wire_count, crashes, duplicates, confs, reads, compacts;
    uint8_t read_bound; /* of the read under way, plus 1 */
    uint8_t padding[2];
};

static_assert(sizeof(struct state) % 4 == 0 &&
                  offsetof(struct state, padding) + 2 == sizeof(struct state),
              "states are compared as bytes: none may be left over");

struct step {
    uint32_t parent, message;
    uint8_t kind, member, argument;
};

struct table {
    uint32_t *slots; /* index + 1 */
    size_t size, used;
};

struct explorer {
    const struct explore_options *o;
    unsigned member_count;
    struct interned **nodes;
    size_t node_count, node_capacity;
    struct table node_table;
    struct packet {
        struct nb_buf bytes;
        uint64_t from, to;
        enum raft_msg_type type;
    } * messages;
    size_t message_count, message_capacity;
    struct table message_table;
    struct outcome *outcomes;
    uint64_t *outcome_keys;
    size_t outcome_count, outcome_capacity, outcome_key_capacity;
    struct table outcome_table;
    struct state *states;
    struct step *steps;
    bool *expanded;
    size_t state_count, state_capacity, step_capacity, expanded_capacity;
    struct nb_random random;
    struct table state_table;
    struct nb_arena arena;
    struct nb_payload **payloads; /* one reference each */
    size_t payload_count, payload_capacity;
    uint64_t transitions;
    uint32_t at;      /* state being expanded */
    struct step step; /* being taken */
};

static uint64_t hash(const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t h = 0x9e3779b97f4a7c15u ^ len;
    while (len >= 8) {
        h = (h ^ nb_get_u64(p)) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
        p += 8;
        len -= 8;
    }
    while (len-- != 0) {
        h = (h ^ *p++) * 0xff51afd7ed558ccdu;
    }
    return h ^ h >> 29;
}

static NB_NORETURN void fail(struct explorer *x, const char *rule)
{
    struct group_report *report = x->o->report;
    report->events = x->transitions;
    (void)snprintf(report->caught_by, sizeof report->caught_by, "explore: %s", rule);
    if (x->o->quiet) {
        _Exit(GROUP_EXIT_CAUGHT);
    }
    uint32_t path[256];
    size_t depth = 0;
    for (uint32_t i = x->at; i != 0 && depth < NB_ARRAY_LEN(path); i = x->steps[i].parent) {
        path[depth++] = i;
    }
    while (depth-- != 0) {
        const struct step *s = &x->steps[path[depth]];
        (void)fprintf(stderr, "%s %u %s\n", event_names[s->kind], s->member + 1u,
                      s->kind == EVENT_DELIVER ? raft_msg_type_name(x->messages[s->message].type)
                                               : "");
    }
    (void)fprintf(stderr, "%s %u\n%s: rule broken: %s\n", event_names[x->step.kind],
                  x->step.member + 1u, x->o->name, rule);
    abort();
}

#define CHECK(x, fact, rule)                                                                       \
    do {                                                                                           \
        if (!(fact)) {                                                                             \
            fail(x, rule);                                                                         \
        }                                                                                          \
    } while (0)

/* ---- hash tables of indexes -------------------------------------------------------------------
 */

typedef bool same(const struct explorer *x, uint32_t index, const void *key);
typedef uint64_t rehash(const struct explorer *x, uint32_t index);

static void table_grow(struct explorer *x, struct table *t, rehash *of)
{
    struct table bigger = {.size = t->size == 0 ? 1024 : t->size * 2, .used = t->used};
    bigger.slots = nb_alloc_zero(bigger.size, sizeof *bigger.slots);
    for (size_t i = 0; i < t->size; i++) {
        if (t->slots[i] != 0) {
            size_t at = of(x, t->slots[i] - 1) & (bigger.size - 1);
            while (bigger.slots[at] != 0) {
                at = (at + 1) & (bigger.size - 1);
            }
            bigger.slots[at] = t->slots[i];
        }
    }
    nb_free(t->slots);
    *t = bigger;
}

/* The slot of `key`: its index + 1, or 0 for the caller to fill in. */
static uint32_t *table_slot(struct explorer *x, struct table *t, uint64_t h, const void *key,
                            same *equal, rehash *of)
{
    if (t->used * 2 >= t->size) {
        table_grow(x, t, of);
    }
    size_t at = h & (t->size - 1);
    while (t->slots[at] != 0 && !equal(x, t->slots[at] - 1, key)) {
        at = (at + 1) & (t->size - 1);
    }
    t->used += t->slots[at] == 0 ? 1 : 0;
    return &t->slots[at];
}

/* ---- messages ---------------------------------------------------------------------------------
 */

static bool message_same(const struct explorer *x, uint32_t index, const void *key)
{
    return nb_bytes_equal(nb_buf_bytes(&x->messages[index].bytes),
                          nb_buf_bytes((const struct nb_buf *)key));
}

static uint64_t message_hash(const struct explorer *x, uint32_t index)
{
    return hash(x->messages[index].bytes.data, x->messages[index].bytes.len);
}

static uint32_t intern_message(struct explorer *x, const struct raft_msg *m)
{
    struct nb_buf bytes = {0};
    raft_msg_encode(m, &bytes);
    uint32_t *slot = table_slot(x, &x->message_table, hash(bytes.data, bytes.len), &bytes,
                                message_same, message_hash);
    if (*slot != 0) {
        nb_buf_deinit(&bytes);
        return *slot - 1;
    }
    x->messages =
        nb_grow(x->messages, &x->message_capacity, x->message_count + 1, sizeof *x->messages);
    x->messages[x->message_count] =
        (struct packet){.bytes = bytes, .from = m->from, .to = m->to, .type = m->type};
    *slot = (uint32_t)++x->message_count;
    return *slot - 1;
}

/* ---- a member's state as bytes ----------------------------------------------------------------
 */

static void put(struct nb_buf *b, uint64_t value)
{
    if (value < 255) {
        uint8_t small = (uint8_t)value;
        nb_buf_append(b, &small, 1);
        return;
    }
    uint8_t mark = 255;
    nb_buf_append(b, &mark, 1);
    nb_put_u64(nb_buf_extend(b, 8), value);
}

static void put_entry(struct nb_buf *b, const struct raft_entry *e)
{
    put(b, e->id.term);
    put(b, (uint64_t)e->kind);
    struct nb_bytes p = nb_payload_bytes(e->payload);
    put(b, p.len);
    nb_buf_append_bytes(b, p);
}

static void put_peer(struct nb_buf *b, const struct raft *r, const struct raft_peer *p)
{
    put(b, p->id);
    if (r->role != RAFT_LEADER) {
        return;
    }
    const uint64_t words[] = {p->match,           p->next,          (uint64_t)p->state,
                              p->probe_sent,      p->commit_sent,   p->removed_index,
                              p->removed_expires, p->inflight_count};
    for (size_t i = 0; i < NB_ARRAY_LEN(words); i++) {
        put(b, words[i]);
    }
    put(b, r->read_round - p->round_sent > 3 ? 3 : r->read_round - p->round_sent);
    put(b, r->read_round - p->round_acked > 3 ? 3 : r->read_round - p->round_acked);
    for (size_t i = 0; i < p->inflight_count; i++) {
        put(b, p->inflight[(p->inflight_head + i) % r->config.inflight_count_max]);
    }
}

static void put_core(struct nb_buf *b, const struct raft *r)
{
    const uint64_t words[] = {r->config.id,
                              r->term,
                              r->voted_for,
                              r->commit_index,
                              r->applied_index,
                              (uint64_t)r->role,
                              r->leader_id,
                              r->handed_hard.term,
                              r->handed_hard.voted_for,
                              r->handed_hard.commit_index,
                              r->handed_index,
                              r->durable_index,
                              r->granted,
                              r->rejected,
                              r->vote_sync == 0 ? 0 : 1 + r->sync - r->vote_sync,
                              r->self_voted,
                              r->transfer_campaign,
                              r->term_committed,
                              r->received_index,
                              r->installing ? r->install.last.index : 0,
                              r->installing ? r->install.last.term : 0,
                              raft_members_in_force(r)->index,
                              r->log.compacted.index,
                              r->log.compacted.term,
                              r->log.count,
                              r->sync_count,
                              r->read_count,
                              r->peer_count};
    for (size_t i = 0; i < NB_ARRAY_LEN(words); i++) {
        put(b, words[i]);
    }
    for (uint64_t i = r->log.compacted.index + 1; i <= raft_log_last_index(&r->log); i++) {
        put_entry(b, raft_log_at(&r->log, i));
    }
    for (size_t i = 0; i < r->sync_count; i++) {
        put(b, r->sync - r->syncs[r->sync_head + i].sync);
        put(b, r->syncs[r->sync_head + i].last_index);
    }
    for (size_t i = 0; i < r->read_count; i++) {
        const struct raft_pending_read *read = &r->reads[r->read_head + i];
        put(b, read->index);
        put(b, read->round == 0 ? 0 : 1 + r->read_round - read->round);
    }
    put(b, r->role == RAFT_LEADER ? r->read_round : 0);
    for (size_t i = 0; i < r->peer_count; i++) {
        put_peer(b, r, &r->peers[i]);
    }
}

static void put_node(struct nb_buf *b, const struct node *n)
{
    put_core(b, n->core);
    put(b, n->hard.term);
    put(b, n->hard.voted_for);
    put(b, n->hard.commit_index);
    put(b, n->snapshot.last.index);
    put(b, n->disk_last);
    for (uint64_t i = n->snapshot.last.index + 1; i <= n->disk_last; i++) {
        put_entry(b, &n->disk[i]);
    }
    put(b, n->write_count);
    for (size_t i = 0; i < n->write_count; i++) {
        const struct write *w = &n->writes[i];
        put(b, w->has_hard ? w->hard.term : 0);
        put(b, w->has_hard ? w->hard.voted_for : 0);
        put(b, w->has_hard ? w->hard.commit_index : 0);
        put(b, w->entry_count);
        for (size_t k = 0; k < w->entry_count; k++) {
            put(b, w->entries[k].id.index);
            put_entry(b, &w->entries[k]);
        }
    }
    put(b, n->held_count);
    for (size_t i = 0; i < n->held_count; i++) {
        put(b, n->core->sync - n->held[i].sync);
        put(b, n->held[i].message);
        put(b, n->held[i].log_replaced);
    }
}

/* ---- copies -----------------------------------------------------------------------------------
 */

static void *copy_of(const void *from, size_t count, size_t size)
{
    if (from == NULL || count == 0) {
        return NULL;
    }
    void *to = nb_alloc(count * size);
    memcpy(to, from, count * size);
    return to;
}

/* A core of the same state; what it has handed out is not copied. */
static struct raft *clone(const struct raft *from)
{
    struct raft *r = nb_alloc(sizeof *r);
    *r = *from;
    memset(r->outs, 0, sizeof r->outs);
    struct raft_log *l = &r->log;
    l->head = 0;
    l->capacity = l->count;
    l->entries = copy_of(from->log.entries + from->log.head, l->count, sizeof *l->entries);
    l->bytes_end = copy_of(from->log.bytes_end + from->log.head, l->count, sizeof *l->bytes_end);
    for (size_t i = 0; i < l->count; i++) {
        (void)nb_payload_acquire(l->entries[i].payload);
    }
    r->syncs = copy_of(from->syncs + from->sync_head, r->sync_count, sizeof *r->syncs);
    r->sync_head = 0;
    r->sync_capacity = r->sync_count;
    r->confs = copy_of(from->confs, r->conf_count, sizeof *r->confs);
    r->conf_capacity = r->conf_count;
    r->reads = copy_of(from->reads + from->read_head, r->read_count, sizeof *r->reads);
    r->read_head = 0;
    r->read_capacity = r->read_count;
    r->peers = copy_of(from->peers, r->peer_count, sizeof *r->peers);
    r->peer_capacity = r->peer_count;
    for (size_t i = 0; i < r->peer_count; i++) {
        r->peers[i].inflight = copy_of(from->peers[i].inflight, r->config.inflight_count_max,
                                       sizeof *r->peers[i].inflight);
    }
    return r;
}

static uint32_t ident(const struct raft_entry *e)
{
    struct nb_bytes p = nb_payload_bytes(e->payload);
    return (uint32_t)(e->id.term << 24) | ((uint32_t)e->kind << 20) |
           ((uint32_t)hash(p.data, p.len) & 0xfffff);
}

static uint32_t ids_mask(const uint64_t *ids, uint32_t count)
{
    uint32_t mask = 0;
    for (uint32_t i = 0; i < count; i++) {
        mask |= 1u << ids[i];
    }
    return mask;
}

static struct facts facts_of(const struct node *n)
{
    struct raft_status s;
    raft_status(n->core, &s);
    const struct raft_conf *c = raft_conf(n->core);
    struct facts f = {.term = s.term,
                      .disk_term = n->hard.term,
                      .commit = s.commit_index,
                      .last = s.last.index,
                      .disk_last = n->disk_last,
                      .leader = s.role == RAFT_LEADER,
                      .voters = ids_mask(c->voters, c->voter_count),
                      .outgoing = ids_mask(c->outgoing, c->outgoing_count)};
    /* What is compacted is committed; 0 stands for "whatever that is". */
    for (uint64_t i = s.first_index; i <= s.last.index; i++) {
        f.ident[i] = ident(raft_log_at(&n->core->log, i));
        const struct raft_entry *e = raft_log_at(&n->core->log, i);
        f.conf_uncommitted += e->kind == RAFT_ENTRY_CONF && i > s.commit_index ? 1 : 0;
    }
    for (uint64_t i = n->snapshot.last.index + 1; i <= n->disk_last; i++) {
        f.disk_ident[i] = ident(&n->disk[i]);
    }
    for (uint64_t id = 1; id <= EXPLORE_MEMBER_MAX; id++) {
        struct raft_progress p;
        if (raft_progress_of(n->core, id, &p)) {
            f.match[id] = p.match_index;
        }
    }
    return f;
}

static bool node_same(const struct explorer *x, uint32_t index, const void *key)
{
    return nb_bytes_equal(nb_buf_bytes(&x->nodes[index]->key),
                          nb_buf_bytes((const struct nb_buf *)key));
}

static uint64_t node_hash(const struct explorer *x, uint32_t index)
{
    return hash(x->nodes[index]->key.data, x->nodes[index]->key.len);
}

/* Takes over n->core. */
static uint32_t intern_node(struct explorer *x, const struct node *n)
{
    struct nb_buf key = {0};
    put_node(&key, n);
    uint32_t *slot =
        table_slot(x, &x->node_table, hash(key.data, key.len), &key, node_same, node_hash);
    if (*slot != 0) {
        nb_buf_deinit(&key);
        raft_destroy(n->core);
        return *slot - 1;
    }
    raft_check_log(n->core);
    struct interned *fresh = nb_alloc(sizeof *fresh);
    fresh->node = *n;
    fresh->node.core = clone(n->core); /* as small as it can be */
    raft_destroy(n->core);
    fresh->facts = facts_of(&fresh->node);
    fresh->key = key;
    x->nodes = nb_grow(x->nodes, &x->node_capacity, x->node_count + 1, sizeof *x->nodes);
    x->nodes[x->node_count] = fresh;
    *slot = (uint32_t)++x->node_count;
    return *slot - 1;
}

/* ---- what an event does to one member ---------------------------------------------------------
 */

/* See group.c for a log that was replaced while the message was held. */
static void check_promise(struct explorer *x, const struct node *n, const struct raft_msg *m,
                          bool log_replaced)
{
    const struct raft_hard_state *hard = &n->hard;
    struct raft_status s;
    raft_status(n->core, &s);
    bool races = s.term == m->term && (s.role == RAFT_CANDIDATE || s.role == RAFT_LEADER);
    if (m->type == RAFT_MSG_VOTE_RESULT && m->vote_result.granted) {
        CHECK(x, hard->term > m->term || (hard->term == m->term && hard->voted_for == m->to),
              "a vote left before it was on disk");
    } else if (m->type == RAFT_MSG_VOTE) {
        CHECK(x,
              hard->term > m->term ||
                  (hard->term == m->term && hard->voted_for == m->from &&
                   (n->disk_last >= m->vote.last.index || (log_replaced && !races))),
              "a vote request left before vote and log were on disk");
    } else if (m->type == RAFT_MSG_APPEND_RESULT && m->append_result.accepted) {
        CHECK(x,
              hard->term > m->term ||
                  (hard->term == m->term && (n->disk_last >= m->append_result.matched_index ||
                                             (log_replaced && s.term > m->term))),
              "an acknowledgement left before its entries were on disk");
    }
}

static void emit(struct node *n, struct outcome *out, uint32_t message)
{
    if (out->emit_count == EMIT_MAX) {
        n->overflow = true;
    } else {
        out->emit[out->emit_count++] = message;
    }
}

static void take_writes(struct explorer *x, struct node *n, const struct raft_effects *fx)
{
    if (!fx->has_hard_state && fx->append_count == 0) {
        return;
    }
    if (n->write_count == WRITE_MAX || fx->append_count > EXPLORE_INDEX_MAX) {
        n->overflow = true;
        return;
    }
    struct write *w = &n->writes[n->write_count++];
    *w = (struct write){.sync = fx->sync,
                        .has_hard = fx->has_hard_state,
                        .hard = fx->hard_state,
                        .entry_count = fx->append_count};
    for (size_t i = 0; i < fx->append_count; i++) {
        w->entries[i] = fx->append[i];
        x->payloads = nb_grow(x->payloads, &x->payload_capacity, x->payload_count + 1,
                              sizeof(struct nb_payload *));
        x->payloads[x->payload_count++] = nb_payload_acquire(fx->append[i].payload);
    }
}

/* A member without a configuration gets a snapshot whatever the log holds: what is applied becomes
 * one when there is none yet. False when nothing is applied. */
static bool snapshot_for_a_joiner(struct node *n)
{
    struct raft *r = n->core;
    if (n->snapshot.last.index == 0 && !r->installing && r->applied_index != 0 &&
        raft_conf_at(r, r->applied_index, &n->snapshot.conf)) {
        n->snapshot.last = raft_log_at(&r->log, r->applied_index)->id;
        raft_compact(r, r->applied_index);
    }
    return n->snapshot.last.index != 0;
}

static void drain(struct explorer *x, struct node *n, struct outcome *out)
{
    struct raft_effects fx;
    do {
        raft_drain(n->core, &fx);
        take_writes(x, n, &fx);
        for (size_t i = 0; i < fx.message_count; i++) {
            const struct raft_send *s = &fx.messages[i];
            uint32_t message = intern_message(x, &s->msg);
            if (s->after_sync && fx.sync > n->persisted) {
                if (n->held_count == HELD_MAX) {
                    n->overflow = true;
                    return;
                }
                n->held[n->held_count++] = (struct held){.sync = fx.sync, .message = message};
            } else {
                check_promise(x, n, &s->msg, false);
                emit(n, out, message);
            }
        }
        for (size_t i = 0; i < fx.read_ready_count; i++) {
            out->read_index = fx.reads_ready[i].index + 1;
        }
        out->read_failed = out->read_failed || fx.read_failed_count != 0;
        if (fx.snapshot_peer_count != 0) {
            for (size_t i = 0; i < fx.snapshot_peer_count; i++) {
                if (!snapshot_for_a_joiner(n)) {
                    raft_snapshot_sent(n->core, fx.snapshot_peers[i], false);
                    continue;
                }
                struct raft_msg m = raft_snapshot_msg(n->core, fx.snapshot_peers[i], &n->snapshot);
                emit(n, out, intern_message(x, &m));
                raft_snapshot_sent(n->core, fx.snapshot_peers[i], true);
            }
        }
        struct raft_status s;
        raft_status(n->core, &s);
        if (!s.installing && fx.commit_index > s.applied_index) {
            raft_applied(n->core, fx.commit_index);
        }
        if (s.term > x->o->term_max || s.last.index > x->o->index_max ||
            s.last.index > EXPLORE_INDEX_MAX) {
            n->overflow = true;
            return;
        }
    } while (raft_has_effects(n->core));
}

static void sync_one(struct explorer *x, struct node *n, struct outcome *out)
{
    struct write w = n->writes[0];
    memmove(n->writes, n->writes + 1, --n->write_count * sizeof w);
    if (w.entry_count != 0) {
        uint64_t first = w.entries[0].id.index;
        CHECK(x, first <= n->disk_last + 1, "a gap in what is to be made durable");
        for (size_t i = 0; i < w.entry_count; i++) {
            n->disk[first + i] = w.entries[i];
        }
        n->disk_last = first + w.entry_count - 1;
    }
    if (w.has_hard) {
        CHECK(x, w.hard.term >= n->hard.term, "the durable term decreases");
        CHECK(x, w.hard.commit_index >= n->hard.commit_index, "the durable commit decreases");
        CHECK(x,
              w.hard.term > n->hard.term || n->hard.voted_for == 0 ||
                  w.hard.voted_for == n->hard.voted_for,
              "a durable vote changes within its term");
        n->hard = w.hard;
    }
    n->persisted = w.sync;
    size_t kept = 0;
    for (size_t i = 0; i < n->held_count; i++) {
        if (n->held[i].sync > n->persisted) {
            n->held[kept++] = n->held[i];
            continue;
        }
        struct raft_msg m;
        enum nb_status status =
            raft_msg_decode(nb_buf_bytes(&x->messages[n->held[i].message].bytes), &m, &x->arena);
        nb_assert(status == NB_OK);
        check_promise(x, n, &m, n->held[i].log_replaced);
        emit(n, out, n->held[i].message);
    }
    n->held_count = kept;
    raft_persisted(n->core, w.sync);
}

static void start_node(struct explorer *x, struct node *n, uint64_t id)
{
    struct raft_config c;
    raft_config_defaults(&c);
    c.id = id;
    c.seed = id;
    c.pre_vote = x->o->pre_vote;
    c.check_quorum = false;
    c.inflight_count_max = 2;
    c.append_entry_count_max = x->o->figure_8 ? 1 : 2;
    struct raft_start s = {.hard = n->hard,
                           .snapshot = n->snapshot,
                           .entries = n->disk + n->snapshot.last.index + 1,
                           .entry_count = (size_t)(n->disk_last - n->snapshot.last.index)};
    enum nb_status status = raft_create(&c, &s, &n->core);
    CHECK(x, status == NB_OK, "a member does not start from its own disk");
    n->core->read_round = 0; /* small numbers; an exploration has one read */
    n->write_count = n->held_count = 0;
    n->persisted = 0;
}

static void install_node(struct node *n)
{
    n->snapshot = n->core->install;
    n->disk_last = n->snapshot.last.index;
    for (size_t i = 0; i < n->write_count; i++) {
        n->writes[i].entry_count = 0;
    }
    for (size_t i = 0; i < n->held_count; i++) {
        n->held[i].log_replaced = true;
    }
    raft_snapshot_installed(n->core, &n->snapshot);
}

static void propose(struct node *n)
{
    uint8_t bytes[2] = {(uint8_t)n->core->term, (uint8_t)raft_log_last_index(&n->core->log)};
    struct nb_payload *p = nb_payload_copy(nb_bytes_of(bytes, sizeof bytes));
    (void)!raft_propose(n->core, &p, 1, NULL);
    nb_payload_release(p);
}

static void change_conf(struct explorer *x, struct node *n, unsigned argument)
{
    uint64_t id = 1 + argument / 3 % x->member_count;
    struct raft_conf_change c = {.mode = RAFT_CONF_AUTO,
                                 .steps = {{(enum raft_conf_step_kind)(argument % 3), id}},
                                 .step_count = 1};
    if (argument >= 3 * x->member_count) { /* replace a voter by another, in a joint phase */
        c.mode = RAFT_CONF_JOINT;
        c.steps[0].kind = RAFT_CONF_REMOVE;
        c.steps[1].kind = RAFT_CONF_ADD_VOTER;
        c.steps[1].id = 1 + (id % x->member_count);
        c.step_count = 2;
    }
    (void)!raft_propose_conf(n->core, &c, (struct nb_bytes){0}, NULL);
}

/* False when the event means nothing to this member. */
static bool run(struct explorer *x, struct node *n, enum event_kind kind, unsigned argument,
                struct outcome *out)
{
    struct raft *r = n->core;
    struct raft_msg m;
    uint64_t id;
    switch (kind) {
    case EVENT_CAMPAIGN:
        return raft_campaign(r);
    case EVENT_HEARTBEAT:
        if (r->role != RAFT_LEADER) {
            return false;
        }
        raft_tick(r);
        return true;
    case EVENT_PROPOSE:
        if (r->role != RAFT_LEADER || raft_log_last_index(&r->log) >= x->o->index_max) {
            return false;
        }
        propose(n);
        return true;
    case EVENT_SYNC:
        if (n->write_count == 0) {
            return false;
        }
        sync_one(x, n, out);
        return true;
    case EVENT_CRASH:
        id = r->config.id;
        raft_destroy(r);
        start_node(x, n, id);
        return true;
    case EVENT_READ:
        return r->role == RAFT_LEADER && raft_read(r, 1) == RAFT_ACCEPTED;
    case EVENT_COMPACT:
        if (r->installing || r->applied_index <= n->snapshot.last.index ||
            !raft_conf_at(r, r->applied_index, &n->snapshot.conf)) {
            return false;
        }
        n->snapshot.last = raft_log_at(&r->log, r->applied_index)->id;
        raft_compact(r, r->applied_index);
        return true;
    case EVENT_INSTALL:
        if (!r->installing) {
            return false;
        }
        install_node(n);
        return true;
    case EVENT_CONF:
        if (r->role != RAFT_LEADER) {
            return false;
        }
        change_conf(x, n, argument);
        return r->dirty;
    case EVENT_LOST:
        if (r->role != RAFT_FOLLOWER || r->leader_id == 0) {
            return false;
        }
        raft_peer_lost(r, r->leader_id);
        return true;
    case EVENT_DELIVER:
        if (raft_msg_decode(nb_buf_bytes(&x->messages[argument].bytes), &m, &x->arena) != NB_OK) {
            fail(x, "a message that was encoded does not decode");
        }
        raft_step(r, &m);
        raft_msg_release(&m);
        return true;
    }
    return false;
}

struct outcome_key {
    uint32_t node;
    uint8_t kind;
    uint32_t argument;
};

static uint64_t pack(struct outcome_key k)
{
    return (uint64_t)k.node << 32 | (uint64_t)k.kind << 26 | k.argument;
}

static bool outcome_same(const struct explorer *x, uint32_t index, const void *key)
{
    return x->outcome_keys[index] == *(const uint64_t *)key;
}

static uint64_t outcome_hash(const struct explorer *x, uint32_t index)
{
    return hash(&x->outcome_keys[index], sizeof(uint64_t));
}

static const struct outcome *outcome_of(struct explorer *x, uint32_t node, enum event_kind kind,
                                        uint32_t argument)
{
    uint64_t key = pack((struct outcome_key){node, (uint8_t)kind, argument});
    uint32_t *slot =
        table_slot(x, &x->outcome_table, hash(&key, sizeof key), &key, outcome_same, outcome_hash);
    if (*slot != 0) {
        return &x->outcomes[*slot - 1];
    }
    struct outcome out = {.node = NONE};
    struct node n = x->nodes[node]->node;
    n.core = clone(n.core);
    if (run(x, &n, kind, argument, &out)) {
        drain(x, &n, &out);
        if (!n.overflow) {
            out.node = intern_node(x, &n);
        } else {
            raft_destroy(n.core);
        }
    } else {
        raft_destroy(n.core);
    }
    nb_arena_reset(&x->arena);
    x->outcomes =
        nb_grow(x->outcomes, &x->outcome_capacity, x->outcome_count + 1, sizeof *x->outcomes);
    x->outcome_keys = nb_grow(x->outcome_keys, &x->outcome_key_capacity, x->outcome_count + 1,
                              sizeof *x->outcome_keys);
    x->outcomes[x->outcome_count] = out;
    x->outcome_keys[x->outcome_count] = key;
    *slot = (uint32_t)++x->outcome_count;
    return &x->outcomes[*slot - 1];
}

/* ---- what must hold over all members ----------------------------------------------------------
 */

static const struct facts *facts_at(const struct explorer *x, const struct state *s, unsigned i)
{
    return &x->nodes[s->node[i]]->facts;
}

static bool disk_has(const struct explorer *x, const struct state *s, unsigned member,
                     uint64_t index, uint32_t what)
{
    const struct facts *f = facts_at(x, s, member);
    return f->disk_last >= index && (f->disk_ident[index] == what || f->disk_ident[index] == 0);
}

static bool majority_has(const struct explorer *x, const struct state *s, uint32_t ids,
                         uint64_t index, uint32_t what)
{
    int have = 0;
    for (unsigned i = 0; i < x->member_count; i++) {
        have += (ids >> (i + 1) & 1) != 0 && disk_has(x, s, i, index, what) ? 1 : 0;
    }
    return have > __builtin_popcount(ids) / 2;
}

/* Whether a member's log has the committed entry at `index`; what it compacted it has. */
static bool log_has(const struct facts *f, const struct state *s, uint64_t index)
{
    return index <= f->last && (f->ident[index] == 0 || f->ident[index] == s->committed[index]);
}

/* Leader completeness in the other order: a leader commits when newer ones are at work already. */
static void check_newer_leaders(struct explorer *x, const struct state *s, uint64_t index)
{
    for (unsigned i = 0; i < x->member_count; i++) {
        const struct facts *f = facts_at(x, s, i);
        CHECK(x, !f->leader || f->term <= s->committed_in[index] || log_has(f, s, index),
              "leader completeness: committed behind the back of a newer leader");
    }
}

static void check_commit(struct explorer *x, struct state *s, unsigned member)
{
    const struct facts *f = facts_at(x, s, member);
    for (uint64_t i = 1; i <= f->commit; i++) {
        uint32_t what = f->ident[i];
        if (i > s->committed_count) {
            CHECK(x, what != 0 && i == s->committed_count + 1u, "commit skips an entry");
            CHECK(x, majority_has(x, s, f->voters, i, what),
                  "committed without a majority of durable copies");
            CHECK(x, f->outgoing == 0 || majority_has(x, s, f->outgoing, i, what),
                  "committed without a majority of durable copies (outgoing)");
            s->committed[i] = what;
            s->committed_in[i] = (uint8_t)f->term;
            s->committed_count++;
            check_newer_leaders(x, s, i);
        }
        CHECK(x, what == 0 || s->committed[i] == what,
              "state machine safety: different committed entries");
    }
}

static void check_leader(struct explorer *x, struct state *s, unsigned member)
{
    const struct facts *f = facts_at(x, s, member);
    uint8_t *leader = &s->leaders[f->term];
    CHECK(x, *leader == 0 || *leader == member + 1, "election safety: two leaders in one term");
    if (*leader == 0) {
        *leader = (uint8_t)(member + 1);
        /* It holds what terms before its own committed [Raft 5.4.3]. What newer ones did is not
         * asked for: the last vote it needed may come when they are at work already. */
        for (uint64_t i = 1; i <= s->committed_count; i++) {
            CHECK(x, s->committed_in[i] >= f->term || log_has(f, s, i),
                  "leader completeness: a new leader lacks a committed entry");
            x->o->report->late_leaders += log_has(f, s, i) ? 0 : 1;
        }
    }
    for (unsigned i = 0; i < x->member_count; i++) {
        const struct facts *p = facts_at(x, s, i);
        uint64_t match = f->match[i + 1];
        CHECK(x,
              match == 0 || p->disk_term > f->term ||
                  (match <= p->disk_last && (p->disk_ident[match] == 0 || f->ident[match] == 0 ||
                                             p->disk_ident[match] == f->ident[match])),
              "match is beyond the follower's durable log");
    }
    CHECK(x, f->conf_uncommitted <= 1, "two changes of configuration in flight");
}

static void check_matching(struct explorer *x, const struct state *s, unsigned member)
{
    const struct facts *a = facts_at(x, s, member);
    for (unsigned i = 0; i < x->member_count; i++) {
        const struct facts *b = facts_at(x, s, i);
        bool equal = false; /* from the last index where the terms are equal down, all is equal */
        for (uint64_t k = a->last < b->last ? a->last : b->last; k >= 1; k--) {
            if (a->ident[k] == 0 || b->ident[k] == 0) {
                break;
            }
            equal = equal || a->ident[k] >> 24 == b->ident[k] >> 24;
            CHECK(x, !equal || a->ident[k] == b->ident[k],
                  "log matching: equal (index, term), different prefix");
        }
    }
}

/* ---- states -----------------------------------------------------------------------------------
 */

static bool state_same(const struct explorer *x, uint32_t index, const void *key)
{
    return memcmp(&x->states[index], key, sizeof(struct state)) == 0;
}

static uint64_t state_hash(const struct explorer *x, uint32_t index)
{
    return hash(&x->states[index], sizeof(struct state));
}

static void add_state(struct explorer *x, const struct state *s)
{
    uint32_t *slot = table_slot(x, &x->state_table, hash(s, sizeof *s), s, state_same, state_hash);
    if (*slot != 0) {
        return;
    }
    x->states = nb_grow(x->states, &x->state_capacity, x->state_count + 1, sizeof *x->states);
    x->steps = nb_grow(x->steps, &x->step_capacity, x->state_count + 1, sizeof *x->steps);
    x->states[x->state_count] = *s;
    x->steps[x->state_count] = x->step;
    x->expanded = nb_grow(x->expanded, &x->expanded_capacity, x->state_count + 1, 1);
    x->expanded[x->state_count] = false;
    *slot = (uint32_t)++x->state_count;
}

/* The wire is a set: a message on it once more is the same message. False when it is full. */
static bool wire_add(struct state *s, uint32_t message)
{
    unsigned at = s->wire_count;
    for (unsigned i = 0; i < s->wire_count; i++) {
        if (s->wire[i] == message) {
            return true;
        }
    }
    if (at == EXPLORE_WIRE_MAX) {
        return false;
    }
    while (at > 0 && s->wire[at - 1] > message) {
        s->wire[at] = s->wire[at - 1];
        at--;
    }
    s->wire[at] = message;
    s->wire_count++;
    return true;
}

static void wire_remove(struct state *s, unsigned at)
{
    s->wire_count--;
    memmove(&s->wire[at], &s->wire[at + 1], (s->wire_count - at) * sizeof s->wire[0]);
    s->wire[s->wire_count] = 0;
}

static void take_read(struct explorer *x, struct state *s, const struct outcome *out)
{
    if (out->read_index != 0 && s->read_bound != 0) {
        CHECK(x, out->read_index >= s->read_bound,
              "a read misses what was acknowledged before it began");
        s->read_bound = 0;
    } else if (out->read_failed) {
        s->read_bound = 0;
    }
}

/* Member `i` of a copy of state `x->at` goes through an event. */
static void expand(struct explorer *x, struct state s, unsigned i, enum event_kind kind,
                   uint32_t argument)
{
    x->transitions++;
    x->o->report->events = x->transitions;
    x->step = (struct step){.parent = x->at,
                            .message = kind == EVENT_DELIVER ? argument : 0,
                            .kind = (uint8_t)kind,
                            .member = (uint8_t)i};
    const struct outcome *out = outcome_of(x, s.node[i], kind, argument);
    if (out->node == NONE) {
        return;
    }
    if (kind == EVENT_CRASH) {
        s.read_bound = 0;
    }
    if (kind == EVENT_READ) {
        s.read_bound = (uint8_t)(s.committed_count + 1);
    }
    s.node[i] = out->node;
    for (uint32_t k = 0; k < out->emit_count; k++) {
        if (!wire_add(&s, out->emit[k]) || s.wire_count > x->o->wire_max) {
            return; /* more on the wire than this exploration looks at */
        }
    }
    take_read(x, &s, out);
    check_commit(x, &s, i);
    for (unsigned k = 0; k < x->member_count; k++) {
        if (facts_at(x, &s, k)->leader) {
            check_leader(x, &s, k);
        }
    }
    check_matching(x, &s, i);
    add_state(x, &s);
}

static void expand_all(struct explorer *x)
{
    const struct explore_options *o = x->o;
    struct state s = x->states[x->at];
    for (unsigned i = 0; i < x->member_count; i++) {
        expand(x, s, i, EVENT_SYNC, 0);
        expand(x, s, i, EVENT_CAMPAIGN, 0);
        expand(x, s, i, EVENT_PROPOSE, 0);
        expand(x, s, i, EVENT_HEARTBEAT, 0);
        if (o->compact_max != 0) {
            expand(x, s, i, EVENT_INSTALL, 0);
        }
        if (o->pre_vote) {
            expand(x, s, i, EVENT_LOST, 0);
        }
        struct state t = s;
        if (t.crashes++ < o->crash_max) {
            expand(x, t, i, EVENT_CRASH, 0);
        }
        t = s;
        if (t.reads++ < o->read_max && t.read_bound == 0) {
            expand(x, t, i, EVENT_READ, 0);
        }
        t = s;
        if (t.compacts++ < o->compact_max) {
            expand(x, t, i, EVENT_COMPACT, 0);
        }
        t = s;
        if (t.confs++ < o->conf_max) {
            for (unsigned k = 0; k < 4 * x->member_count; k++) {
                expand(x, t, i, EVENT_CONF, k);
            }
        }
    }
    for (unsigned k = 0; k < s.wire_count; k++) {
        uint32_t message = s.wire[k];
        unsigned to = (unsigned)x->messages[message].to - 1;
        struct state t = s;
        if (t.duplicates++ < o->duplicate_max) {
            expand(x, t, to, EVENT_DELIVER, message); /* and it stays on the wire */
        }
        t = s;
        wire_remove(&t, k);
        expand(x, t, to, EVENT_DELIVER, message);
        x->step = (struct step){
            .parent = x->at, .message = message, .kind = EVENT_DELIVER, .member = 255};
        add_state(x, &t); /* lost */
    }
}

/* Member 1 led term 2 and told nobody of its entry; member 3 led term 3, by the vote of 2,
 * likewise. */
static void begin_as_figure_8(struct node *n, unsigned member)
{
    static const uint64_t second[] = {2, 0, 3};
    n->disk[1] = (struct raft_entry){.id = {1, 1}, .kind = RAFT_ENTRY_NOOP};
    n->disk[2] = (struct raft_entry){.id = {2, second[member]}, .kind = RAFT_ENTRY_NOOP};
    n->disk_last = second[member] == 0 ? 1 : 2;
    n->hard = (struct raft_hard_state){
        .term = member == 0 ? 2 : 3, .voted_for = member == 0 ? 1 : 3, .commit_index = 1};
}

/* Both members hold an entry of term 1 that makes voter 2 a learner; nobody knows it committed. */
static void begin_with_demotion(struct explorer *x, struct node *n)
{
    struct nb_buf bytes = {0};
    raft_conf_encode(
        &(struct raft_conf){.voters = {1}, .voter_count = 1, .learners = {2}, .learner_count = 1},
        &bytes);
    n->disk[1] = (struct raft_entry){
        .id = {1, 1}, .kind = RAFT_ENTRY_CONF, .payload = nb_payload_copy(nb_buf_bytes(&bytes))};
    nb_buf_deinit(&bytes);
    n->disk_last = 1;
    n->hard = (struct raft_hard_state){.term = 1, .voted_for = 2};
    x->payloads = nb_grow(x->payloads, &x->payload_capacity, x->payload_count + 1,
                          sizeof(struct nb_payload *));
    x->payloads[x->payload_count++] = n->disk[1].payload;
}

static void begin(struct explorer *x)
{
    const struct explore_options *o = x->o;
    struct raft_conf conf = {0};
    for (uint64_t id = 1; id <= o->voter_count; id++) {
        if (id + o->learner_count > o->voter_count) {
            conf.learners[conf.learner_count++] = id;
        } else {
            conf.voters[conf.voter_count++] = id;
        }
    }
    x->member_count = o->voter_count + o->spare_count;
    nb_assert(x->member_count <= EXPLORE_MEMBER_MAX && o->term_max <= EXPLORE_TERM_MAX);
    nb_assert(o->wire_max <= EXPLORE_WIRE_MAX);
    struct state s;
    memset(&s, 0, sizeof s);
    for (unsigned i = 0; i < x->member_count; i++) {
        struct node n = {0};
        n.snapshot.conf = i < o->voter_count ? conf : (struct raft_conf){0};
        struct outcome out = {0};
        if (o->figure_8) {
            begin_as_figure_8(&n, i);
        } else if (o->demotion) {
            begin_with_demotion(x, &n);
        }
        start_node(x, &n, i + 1);
        drain(x, &n, &out);
        s.node[i] = intern_node(x, &n);
    }
    if (o->figure_8) {
        s.committed[1] = facts_at(x, &s, 0)->ident[1];
        s.committed_in[1] = 1;
        s.committed_count = 1;
    }
    add_state(x, &s);
}

static void end(struct explorer *x)
{
    for (size_t i = 0; i < x->node_count; i++) {
        raft_destroy(x->nodes[i]->node.core);
        nb_buf_deinit(&x->nodes[i]->key);
        nb_free(x->nodes[i]);
    }
    for (size_t i = 0; i < x->message_count; i++) {
        nb_buf_deinit(&x->messages[i].bytes);
    }
    for (size_t i = 0; i < x->payload_count; i++) {
        nb_payload_release(x->payloads[i]);
    }
    nb_free(x->payloads);
    nb_free(x->nodes);
    nb_free(x->messages);
    nb_free(x->outcomes);
    nb_free(x->outcome_keys);
    nb_free(x->states);
    nb_free(x->steps);
    nb_free(x->expanded);
    nb_free(x->node_table.slots);
    nb_free(x->message_table.slots);
    nb_free(x->outcome_table.slots);
    nb_free(x->state_table.slots);
    nb_arena_deinit(&x->arena);
}

struct explore_result explore(const struct explore_options *options)
{
    struct explorer x = {.o = options};
    begin(&x);
    size_t first = 0; /* everything before it is expanded */
    uint64_t turn = 0;
    nb_random_init(&x.random, 1);
    while (first < x.state_count && x.state_count < options->state_max) {
        /* A third goes breadth first, which in the end is complete; a third follows the newest
         * state, which is deep; a third goes anywhere. */
        size_t at = first;
        if (++turn % 3 == 1) {
            at = x.state_count - 1;
        } else if (turn % 3 == 2) {
            at = first + nb_random_below(&x.random, x.state_count - first);
        }
        if (!x.expanded[at]) {
            x.at = (uint32_t)at;
            x.expanded[at] = true;
            expand_all(&x);
        }
        while (first < x.state_count && x.expanded[first]) {
            first++;
        }
    }
    struct explore_result result = {.states = x.state_count,
                                    .transitions = x.transitions,
                                    .member_states = x.node_count,
                                    .messages = x.message_count,
                                    .complete = first == x.state_count};
    end(&x);
    return result;
}

#include "tests/raft/group.h"

#include "raft/internal.h" /* raft_check_log */

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WIRE_MAX = 400,
    LATE_MAX = 40,
    TRACE_MAX = 200,
    ELECTION_TICKS = 10,
    HELD_MAX = 4000,
    READ_MAX = 20000
};

struct stored {
    struct raft_entry entry;
    uint64_t chain; /* hash of the log up to and with this entry */
};

/* One durable write under way. */
struct write {
    uint64_t sync;
    bool has_hard;
    struct raft_hard_state hard;
    struct stored *entries;
    size_t entry_count;
};

struct packet {
    uint64_t from, to;
    enum raft_msg_type type;
    struct nb_buf bytes;
};

struct held {
    uint64_t sync;
    bool log_replaced; /* a snapshot was installed while it was held */
    struct packet packet;
};

struct member {
    uint64_t id;
    bool exists, up;
    bool removed;      /* was told so, and has stopped for good [M08] */
    struct raft *core; /* NULL when down */
    /* what is on the disk */
    struct raft_hard_state hard;
    struct raft_snapshot snapshot;
    struct stored disk[GROUP_INDEX_MAX];
    uint64_t disk_last;
    /* what is in memory */
    uint64_t chain[GROUP_INDEX_MAX], term_of[GROUP_INDEX_MAX]; /* of the log, as handed out */
    uint64_t last, applied, committed_seen;
    uint64_t match_seen[GROUP_MEMBER_MAX + 1], match_term; /* as leader of that term */
    struct write *writes;
    size_t write_count, write_capacity;
    struct held *held;
    size_t held_count, held_capacity;
    uint64_t persisted;
    bool install_waits;
    struct raft_snapshot install;
};

struct group {
    struct group_options o;
    struct group_report *report;
    struct nb_random random;
    struct member members[GROUP_MEMBER_MAX + 1]; /* by id */
    struct packet wire[WIRE_MAX];
    size_t wire_count;
    struct packet late[LATE_MAX]; /* off the wire, to come back when all has moved on */
    size_t late_count;
    bool cut[GROUP_MEMBER_MAX + 1][GROUP_MEMBER_MAX + 1]; /* from, to */
    bool healed;
    /* the truth */
    uint64_t committed[GROUP_INDEX_MAX]; /* chain */
    uint64_t committed_term[GROUP_INDEX_MAX];
    uint64_t committed_in[GROUP_INDEX_MAX]; /* term of the leader that committed it */
    uint64_t committed_last;
    struct raft_conf committed_conf; /* in force at committed_last */
    uint64_t leader_of_term[GROUP_TERM_MAX];
    uint64_t vote_of[GROUP_MEMBER_MAX + 1][GROUP_TERM_MAX]; /* released votes */
    struct {
        uint64_t term, chain;
    } seen[GROUP_INDEX_MAX][8]; /* log matching: chains by (index, term) */
    uint64_t read_bound[READ_MAX];
    uint64_t read_count;
    uint64_t boots, proposals;
    struct nb_arena arena;
    char trace[TRACE_MAX][160];
    uint64_t trace_count;
};

/* ---- trace and failure ------------------------------------------------------------------------
 */

static void trace(struct group *g, const char *format, ...) NB_PRINTF(2, 3);
static void trace(struct group *g, const char *format, ...)
{
    if (g->o.quiet) {
        return;
    }
    va_list args;
    va_start(args, format);
    char *line = g->trace[g->trace_count++ % TRACE_MAX];
    int used = snprintf(line, 24, "%" PRIu64 " ", g->report->events);
    (void)vsnprintf(line + used, sizeof g->trace[0] - (size_t)used, format, args);
    va_end(args);
}

static struct group *running; /* for the trace when an assertion of the core fails */

static void on_abort(int number)
{
    const struct group *g = running;
    (void)signal(number, SIG_DFL);
    uint64_t first = g->trace_count > TRACE_MAX ? g->trace_count - TRACE_MAX : 0;
    for (uint64_t i = first; i < g->trace_count; i++) {
        (void)fprintf(stderr, "%s\n", g->trace[i % TRACE_MAX]);
    }
    for (uint64_t id = 1; id <= GROUP_MEMBER_MAX; id++) {
        const struct member *m = &g->members[id];
        struct raft_status st;
        if (!m->up) {
            continue;
        }
        raft_status(m->core, &st);
        const struct raft_conf *c = raft_conf(m->core);
        (void)fprintf(stderr,
                      "member %" PRIu64 " %s term %" PRIu64 " vote %" PRIu64 " leader %" PRIu64
                      " commit %" PRIu64 " last %" PRIu64 "/%" PRIu64 " conf %" PRIu64
                      " voters %u (first %" PRIu64 ") outgoing %u learners %u%s\n",
                      id, raft_role_name(st.role), st.term, st.voted_for, st.leader_id,
                      st.commit_index, st.last.index, st.last.term, st.conf_index, c->voter_count,
                      c->voters[0], c->outgoing_count, c->learner_count,
                      st.installing ? " installing" : "");
    }
    (void)fprintf(stderr, "FAILED after %" PRIu64 " events; replay: NABATA_RUN_SEED=%" PRIu64 "\n",
                  g->report->events, g->o.seed);
}

static NB_NORETURN void fail(struct group *g, const char *rule)
{
    (void)snprintf(g->report->caught_by, sizeof g->report->caught_by, "%s", rule);
    if (g->o.quiet) {
        _Exit(GROUP_EXIT_CAUGHT);
    }
    (void)fprintf(stderr, "rule broken: %s\n", rule);
    abort();
}

#define CHECK(g, fact, rule)                                                                       \
    do {                                                                                           \
        if (!(fact)) {                                                                             \
            fail(g, rule);                                                                         \
        }                                                                                          \
    } while (0)

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = (a ^ b) * 0x9e3779b97f4a7c15u + 0x632be59bd9b4e019u;
    z = (z ^ (z >> 29)) * 0xbf58476d1ce4e5b9u;
    return z ^ (z >> 32);
}

static uint64_t chain_entry(uint64_t before, const struct raft_entry *e)
{
    uint64_t h = mix(mix(before, e->id.index), mix(e->id.term, (uint64_t)e->kind));
    struct nb_bytes p = nb_payload_bytes(e->payload);
    for (size_t i = 0; i < p.len; i++) {
        h = mix(h, p.data[i]);
    }
    return h;
}

/* ---- checkers ---------------------------------------------------------------------------------
 */

static void check_chain(struct group *g, uint64_t index, uint64_t term, uint64_t chain)
{
    for (size_t i = 0; i < NB_ARRAY_LEN(g->seen[0]); i++) {
        if (g->seen[index][i].term == 0) {
            g->seen[index][i].term = term;
            g->seen[index][i].chain = chain;
            return;
        }
        if (g->seen[index][i].term == term) {
            CHECK(g, g->seen[index][i].chain == chain,
                  "log matching: equal (index, term), different prefix");
            return;
        }
    }
}

static void crash(struct group *g, struct member *m);

/* What is committed decides, not what some leader has in its log: that one may be deposed. */
static void told_removed(struct group *g, struct member *m)
{
    CHECK(g, !raft_conf_has_member(&g->committed_conf, m->id),
          "a member is told that it was removed, and was not");
    trace(g, "removed %" PRIu64, m->id);
    m->removed = true;
    crash(g, m);
}

static bool on_disk(const struct member *m, uint64_t index, uint64_t chain)
{
    if (index <= m->snapshot.last.index) {
        return true; /* committed; state hashes are checked where it was taken */
    }
    return index <= m->disk_last && m->disk[index].chain == chain;
}

static bool majority_on_disk(struct group *g, const uint64_t *ids, uint32_t count, uint64_t index,
                             uint64_t chain)
{
    uint32_t have = 0;
    for (uint32_t i = 0; i < count; i++) {
        have += g->members[ids[i]].exists && on_disk(&g->members[ids[i]], index, chain) ? 1 : 0;
    }
    return have > count / 2;
}

/* Whether the log of `m` is the committed one up to `index`. */
static bool holds_committed(const struct group *g, const struct member *m, uint64_t index)
{
    return index <= m->snapshot.last.index || /* committed; checked where it was taken */
           (index <= m->last && m->chain[index] == g->committed[index]);
}

/* The index up to which every leader of `term` holds what is committed: all that was committed in
 * terms before it [Raft 5.4.3]. What newer terms committed is not asked for: a candidate may get
 * the last vote of its term long after a newer leader was elected and went to work. */
static uint64_t owed_to(const struct group *g, uint64_t term)
{
    uint64_t index = g->committed_last;
    while (index > 0 && g->committed_in[index] >= term) {
        index--;
    }
    return index;
}

/* Leader completeness in the other order: a leader commits when newer ones are at work already. */
static void check_newer_leaders(struct group *g, uint64_t term, uint64_t index)
{
    for (uint64_t id = 1; id <= GROUP_MEMBER_MAX; id++) {
        const struct member *m = &g->members[id];
        struct raft_status s;
        if (!m->up) {
            continue;
        }
        raft_status(m->core, &s);
        CHECK(g, s.role != RAFT_LEADER || s.term <= term || holds_committed(g, m, index),
              "leader completeness: committed behind the back of a newer leader");
    }
}

static void check_commit(struct group *g, struct member *m, const struct raft_status *s)
{
    CHECK(g, s->commit_index < GROUP_INDEX_MAX, "index bound of the test");
    for (uint64_t i = m->committed_seen + 1; i <= s->commit_index; i++) {
        if (i > g->committed_last) {
            CHECK(g, i == g->committed_last + 1, "a member skips committed entries");
            /* The newest conf in the leader's log decides; entries committed in one go share it. */
            const struct raft_conf *c = raft_conf(m->core);
            CHECK(g, s->role == RAFT_LEADER || s->leader_id == 0,
                  "a follower commits what no leader has committed");
            CHECK(g, majority_on_disk(g, c->voters, c->voter_count, i, m->chain[i]),
                  "committed without a majority of durable copies");
            CHECK(g,
                  c->outgoing_count == 0 ||
                      majority_on_disk(g, c->outgoing, c->outgoing_count, i, m->chain[i]),
                  "committed without a majority of durable copies (outgoing)");
            g->committed[i] = m->chain[i];
            g->committed_term[i] = m->term_of[i];
            g->committed_in[i] = s->term;
            g->committed_last = i;
            CHECK(g, raft_conf_at(m->core, i, &g->committed_conf),
                  "no configuration at an index that is being committed");
            check_newer_leaders(g, s->term, i);
            g->report->commits++;
        }
        CHECK(g, g->committed[i] == m->chain[i], "state machine safety: different committed entry");
    }
    m->committed_seen = s->commit_index;
}

static void check_leader(struct group *g, struct member *m, const struct raft_status *s)
{
    CHECK(g, s->term < GROUP_TERM_MAX, "term bound of the test");
    uint64_t *of_term = &g->leader_of_term[s->term];
    CHECK(g, *of_term == 0 || *of_term == m->id, "election safety: two leaders in one term");
    if (*of_term == 0) {
        *of_term = m->id;
        g->report->elections++;
        CHECK(g, m->hard.term == s->term && m->hard.voted_for == m->id,
              "a leader's own vote is not on its disk");
        CHECK(g, g->vote_of[m->id][s->term] == 0 || g->vote_of[m->id][s->term] == m->id,
              "one vote a term: a leader voted for another");
        CHECK(g, holds_committed(g, m, owed_to(g, s->term)),
              "leader completeness: a new leader lacks a committed entry");
        g->report->late_leaders += holds_committed(g, m, g->committed_last) ? 0 : 1;
    }
    if (m->match_term != s->term) {
        m->match_term = s->term;
        memset(m->match_seen, 0, sizeof m->match_seen);
    }
    for (uint64_t id = 1; id <= GROUP_MEMBER_MAX; id++) {
        struct raft_progress p;
        const struct member *peer = &g->members[id];
        if (!peer->exists || !raft_progress_of(m->core, id, &p)) {
            m->match_seen[id] = 0;
            continue;
        }
        CHECK(g, p.match_index >= m->match_seen[id], "match decreases within a term");
        m->match_seen[id] = p.match_index;
        CHECK(g, id == m->id || p.match_index < p.next_index, "match < next");
        CHECK(g, peer->hard.term > s->term || on_disk(peer, p.match_index, m->chain[p.match_index]),
              "match is beyond the follower's durable log");
    }
}

static void check_member(struct group *g, struct member *m)
{
    struct raft_status s;
    raft_status(m->core, &s);
    if (s.role == RAFT_LEADER) {
        check_leader(g, m, &s);
    }
    check_commit(g, m, &s);
    if (nb_random_chance(&g->random, 1, 16)) {
        raft_check_log(m->core);
    }
}

/* What a message promises is on its sender's disk when it leaves. One whose log was replaced by a
 * snapshot meanwhile promises nothing about that log: a newer leader's word, or that of the one who
 * won the term, stands against it. But its term must be on disk, and the sender be out of the race:
 * neither candidate nor leader of that term, and as it has its vote, never again. */
static void check_promise(struct group *g, const struct member *m, const struct raft_msg *msg,
                          bool log_replaced)
{
    uint64_t term = msg->term;
    struct raft_status s;
    raft_status(m->core, &s);
    if (msg->type == RAFT_MSG_VOTE_RESULT && msg->vote_result.granted) {
        uint64_t *vote = &g->vote_of[m->id][term];
        CHECK(g, *vote == 0 || *vote == msg->to, "one vote a term: a second one left");
        *vote = msg->to;
        CHECK(g, m->hard.term > term || (m->hard.term == term && m->hard.voted_for == msg->to),
              "a vote left before it was on disk");
    } else if (msg->type == RAFT_MSG_VOTE) {
        CHECK(g, m->hard.term >= term, "a vote request left before the vote was on disk");
        g->report->late_requests += log_replaced ? 1 : 0;
        CHECK(g,
              m->hard.term > term ||
                  (log_replaced &&
                   (s.term > term || (s.role != RAFT_CANDIDATE && s.role != RAFT_LEADER))) ||
                  msg->vote.last.index <= m->snapshot.last.index ||
                  (msg->vote.last.index <= m->disk_last &&
                   m->disk[msg->vote.last.index].entry.id.term == msg->vote.last.term),
              "a vote request left before its log was on disk");
    } else if (msg->type == RAFT_MSG_APPEND_RESULT && msg->append_result.accepted) {
        uint64_t index = msg->append_result.matched_index;
        CHECK(g,
              m->hard.term > term || (m->hard.term == term &&
                                      (index <= m->snapshot.last.index || index <= m->disk_last ||
                                       (log_replaced && s.term > term))),
              "an acknowledgement left before its entries were on disk");
    }
}

/* ---- the wire ---------------------------------------------------------------------------------
 */

static void packet_drop(struct group *g, size_t at)
{
    nb_buf_deinit(&g->wire[at].bytes);
    g->wire[at] = g->wire[--g->wire_count];
}

static void put_on_wire(struct group *g, struct packet p)
{
    if (g->wire_count == WIRE_MAX) {
        packet_drop(g, g->healed ? 0 : nb_random_below(&g->random, g->wire_count));
    }
    g->wire[g->wire_count++] = p;
}

static struct packet packet_of(const struct raft_msg *m)
{
    struct packet p = {.from = m->from, .to = m->to, .type = m->type};
    raft_msg_encode(m, &p.bytes);
    nb_assert(p.bytes.len == raft_msg_encoded_size(m));
    return p;
}

static void settle(struct group *g, struct member *m);

static void deliver(struct group *g, size_t at)
{
    struct packet p = g->wire[at];
    g->wire[at] = g->wire[--g->wire_count];
    struct member *m = &g->members[p.to];
    if (m->up && !g->cut[p.from][p.to]) {
        trace(g, "deliver %s %" PRIu64 "->%" PRIu64, raft_msg_type_name(p.type), p.from, p.to);
        struct raft_msg msg;
        enum nb_status status = raft_msg_decode(nb_buf_bytes(&p.bytes), &msg, &g->arena);
        CHECK(g, status == NB_OK, "a message that was encoded does not decode");
        raft_step(m->core, &msg);
        raft_msg_release(&msg);
        nb_arena_reset(&g->arena);
        settle(g, m);
    }
    nb_buf_deinit(&p.bytes);
}

/* ---- disks ------------------------------------------------------------------------------------
 */

static void write_release(struct write *w)
{
    for (size_t i = 0; i < w->entry_count; i++) {
        nb_payload_release(w->entries[i].entry.payload);
    }
    nb_free(w->entries);
}

static void disk_cut(struct member *m, uint64_t first)
{
    for (uint64_t i = first; i <= m->disk_last; i++) {
        nb_payload_release(m->disk[i].entry.payload);
        m->disk[i] = (struct stored){0};
    }
    m->disk_last = first - 1;
}

static void write_to_disk(struct group *g, struct member *m, struct write *w)
{
    if (w->entry_count != 0) {
        uint64_t first = w->entries[0].entry.id.index;
        CHECK(g, first <= m->disk_last + 1, "a gap in what is to be made durable");
        CHECK(g, first > m->hard.commit_index, "what is committed on disk is rewritten");
        if (first <= m->disk_last) {
            disk_cut(m, first);
        }
        for (size_t i = 0; i < w->entry_count; i++) {
            m->disk[first + i] = w->entries[i];
            (void)nb_payload_acquire(w->entries[i].entry.payload);
        }
        m->disk_last = first + w->entry_count - 1;
    }
    if (w->has_hard) {
        CHECK(g, w->hard.term >= m->hard.term, "the durable term decreases");
        CHECK(g, w->hard.commit_index >= m->hard.commit_index, "the durable commit decreases");
        CHECK(g, w->hard.commit_index <= m->disk_last, "the durable commit is beyond the log");
        CHECK(g,
              w->hard.term > m->hard.term || m->hard.voted_for == 0 ||
                  w->hard.voted_for == m->hard.voted_for,
              "a durable vote changes within its term");
        m->hard = w->hard;
    }
}

static void release_held(struct group *g, struct member *m)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->held_count; i++) {
        if (m->held[i].sync > m->persisted) {
            m->held[kept++] = m->held[i];
            continue;
        }
        struct raft_msg msg;
        enum nb_status status =
            raft_msg_decode(nb_buf_bytes(&m->held[i].packet.bytes), &msg, &g->arena);
        nb_assert(status == NB_OK);
        check_promise(g, m, &msg, m->held[i].log_replaced);
        put_on_wire(g, m->held[i].packet);
    }
    m->held_count = kept;
}

/* The first `count` writes under way reach the disk, in order. */
static void sync_writes(struct group *g, struct member *m, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        write_to_disk(g, m, &m->writes[i]);
        m->persisted = m->writes[i].sync;
        write_release(&m->writes[i]);
        release_held(g, m);
    }
    m->write_count -= count;
    memmove(m->writes, m->writes + count, m->write_count * sizeof *m->writes);
    trace(g, "synced %" PRIu64 " up to %" PRIu64 " (last %" PRIu64 ")", m->id, m->persisted,
          m->disk_last);
    raft_persisted(m->core, m->persisted);
    settle(g, m);
}

/* ---- effects ----------------------------------------------------------------------------------
 */

static void take_writes(struct group *g, struct member *m, const struct raft_effects *fx)
{
    if (!fx->has_hard_state && fx->append_count == 0) {
        return;
    }
    struct write w = {.sync = fx->sync, .has_hard = fx->has_hard_state, .hard = fx->hard_state};
    w.entries = nb_alloc((fx->append_count + 1) * sizeof *w.entries);
    w.entry_count = fx->append_count;
    for (size_t i = 0; i < fx->append_count; i++) {
        const struct raft_entry *e = &fx->append[i];
        CHECK(g, e->id.index < GROUP_INDEX_MAX, "index bound of the test");
        uint64_t chain = chain_entry(m->chain[e->id.index - 1], e);
        m->chain[e->id.index] = chain;
        m->term_of[e->id.index] = e->id.term;
        m->last = e->id.index;
        check_chain(g, e->id.index, e->id.term, chain);
        w.entries[i] = (struct stored){.entry = *e, .chain = chain};
        (void)nb_payload_acquire(e->payload);
    }
    m->writes = nb_grow(m->writes, &m->write_capacity, m->write_count + 1, sizeof *m->writes);
    m->writes[m->write_count++] = w;
}

static void take_messages(struct group *g, struct member *m, const struct raft_effects *fx)
{
    for (size_t i = 0; i < fx->message_count; i++) {
        const struct raft_send *s = &fx->messages[i];
        struct packet p = packet_of(&s->msg);
        CHECK(g, p.to >= 1 && p.to <= GROUP_MEMBER_MAX, "a message to nobody");
        if (s->after_sync && fx->sync > m->persisted) {
            m->held = nb_grow(m->held, &m->held_capacity, m->held_count + 1, sizeof *m->held);
            m->held[m->held_count++] = (struct held){.sync = fx->sync, .packet = p};
        } else {
            check_promise(g, m, &s->msg, false);
            put_on_wire(g, p);
        }
    }
}

static void take_reads(struct group *g, const struct raft_effects *fx)
{
    for (size_t i = 0; i < fx->read_ready_count; i++) {
        const struct raft_read_ready *ready = &fx->reads_ready[i];
        CHECK(g, ready->index >= g->read_bound[ready->context],
              "a read misses what was acknowledged before it began");
        CHECK(g, ready->index <= g->committed_last, "a read index that is not committed");
        g->report->reads++;
    }
}

/* What is applied becomes the snapshot. */
static void make_snapshot(struct group *g, struct member *m)
{
    struct raft_snapshot s = {.last = {.index = m->applied, .term = m->term_of[m->applied]}};
    CHECK(g, raft_conf_at(m->core, m->applied, &s.conf), "no configuration at the applied index");
    trace(g, "compact %" PRIu64 " at %" PRIu64, m->id, m->applied);
    for (uint64_t i = m->snapshot.last.index + 1; i <= m->applied; i++) {
        nb_payload_release(m->disk[i].entry.payload);
        m->disk[i] = (struct stored){0};
    }
    m->snapshot = s;
    raft_compact(m->core, m->applied - nb_random_below(&g->random, 3) % m->applied);
}

static void take_snapshot_peers(struct group *g, struct member *m, const struct raft_effects *fx)
{
    for (size_t i = 0; i < fx->snapshot_peer_count; i++) {
        if (m->snapshot.last.index == 0 && !m->install_waits && m->applied != 0) {
            make_snapshot(g, m); /* for one that joined and needs one whatever the log holds */
        }
        if (m->snapshot.last.index == 0) {
            raft_snapshot_sent(m->core, fx->snapshot_peers[i], false);
            continue;
        }
        struct raft_msg msg = raft_snapshot_msg(m->core, fx->snapshot_peers[i], &m->snapshot);
        put_on_wire(g, packet_of(&msg));
        /* The report is as unsure as the stream. */
        bool lost = !g->healed && nb_random_chance(&g->random, 1, 4);
        raft_snapshot_sent(m->core, fx->snapshot_peers[i], !lost);
        trace(g, "snapshot %" PRIu64 " -> %" PRIu64 " at %" PRIu64, m->id, msg.to,
              m->snapshot.last.index);
    }
}

static void apply(struct group *g, struct member *m, uint64_t commit_index)
{
    if (commit_index <= m->applied) {
        return;
    }
    uint64_t end = commit_index + 1;
    if (!g->healed && nb_random_chance(&g->random, 1, 4)) {
        end = m->applied + 1 + nb_random_below(&g->random, commit_index - m->applied + 1);
    }
    size_t count;
    const struct raft_entry *e = raft_entries(m->core, m->applied + 1, end, &count);
    CHECK(g, count == end - m->applied - 1, "entries to apply are not there");
    for (size_t i = 0; i < count; i++) {
        CHECK(g, e[i].id.index == m->applied + 1, "applied indexes have a gap");
        CHECK(g, e[i].id.index <= g->committed_last && m->disk_last >= e[i].id.index,
              "applied what is not committed and durable");
        CHECK(g, e[i].id.term == g->committed_term[e[i].id.index], "applied a different entry");
        m->applied++;
    }
    raft_applied(m->core, m->applied);
}

/* Drains and serves until nothing comes any more. */
static void settle(struct group *g, struct member *m)
{
    struct raft_effects fx;
    for (unsigned turn = 0; turn < 3; turn++) {
        raft_drain(m->core, &fx);
        take_writes(g, m, &fx);
        take_messages(g, m, &fx);
        check_member(g, m);
        take_reads(g, &fx);
        if (fx.has_install) {
            m->install_waits = true;
            m->install = fx.install;
        }
        uint64_t commit_index = fx.commit_index;
        take_snapshot_peers(g, m, &fx);
        if (!m->install_waits) {
            apply(g, m, commit_index);
        }
        if (fx.removed) {
            told_removed(g, m);
            return;
        }
        if (!raft_has_effects(m->core)) {
            return;
        }
    }
}

/* ---- life -------------------------------------------------------------------------------------
 */

static void start(struct group *g, struct member *m)
{
    struct raft_config c;
    raft_config_defaults(&c);
    c.id = m->id;
    c.seed = mix(g->o.seed, ++g->boots);
    c.election_timeout_ticks = ELECTION_TICKS;
    c.pre_vote = g->o.pre_vote;
    c.check_quorum = g->o.check_quorum;
    if (g->o.small_limits) {
        c.append_entry_count_max = 2;
        c.append_bytes_max = 64;
        c.inflight_count_max = 3;
        c.inflight_bytes_max = 200;
        c.uncommitted_bytes_max = 1000;
    }
    size_t count = (size_t)(m->disk_last - m->snapshot.last.index);
    struct raft_entry *entries = nb_alloc((count + 1) * sizeof *entries);
    for (size_t i = 0; i < count; i++) {
        const struct stored *s = &m->disk[m->snapshot.last.index + 1 + i];
        entries[i] = s->entry;
        m->chain[s->entry.id.index] = s->chain;
        m->term_of[s->entry.id.index] = s->entry.id.term;
    }
    struct raft_start from = {
        .hard = m->hard, .snapshot = m->snapshot, .entries = entries, .entry_count = count};
    enum nb_status status = raft_create(&c, &from, &m->core);
    CHECK(g, status == NB_OK, "a member does not start from its own disk");
    nb_free(entries);
    m->chain[m->snapshot.last.index] = g->committed[m->snapshot.last.index];
    m->exists = m->up = true;
    m->last = m->disk_last;
    m->applied = m->snapshot.last.index;
    m->committed_seen = m->snapshot.last.index;
    m->persisted = 0;
    trace(g, "start %" PRIu64 " term %" PRIu64 " snapshot %" PRIu64 " last %" PRIu64, m->id,
          m->hard.term, m->snapshot.last.index, m->disk_last);
    settle(g, m);
}

static void crash(struct group *g, struct member *m)
{
    trace(g, "crash %" PRIu64 " (%zu writes lost)", m->id, m->write_count);
    raft_destroy(m->core);
    m->core = NULL;
    m->up = false;
    for (size_t i = 0; i < m->write_count; i++) {
        write_release(&m->writes[i]);
    }
    for (size_t i = 0; i < m->held_count; i++) {
        nb_buf_deinit(&m->held[i].packet.bytes);
    }
    m->write_count = m->held_count = 0;
    m->install_waits = false;
    m->match_term = 0;
    g->report->crashes++;
}

static void install(struct group *g, struct member *m)
{
    if (nb_random_chance(&g->random, 1, 2)) {
        while (m->up && m->write_count != 0 && m->install_waits) {
            sync_writes(g, m, m->write_count);
        }
    }
    if (!m->up || !m->install_waits) {
        return;
    }
    for (size_t i = 0; i < m->write_count; i++) { /* the log they belong to is gone */
        struct write *w = &m->writes[i];
        for (size_t k = 0; k < w->entry_count; k++) {
            nb_payload_release(w->entries[k].entry.payload);
        }
        w->entry_count = 0;
    }
    for (size_t i = 0; i < m->held_count; i++) {
        m->held[i].log_replaced = true;
    }
    if (m->install.last.index < m->snapshot.last.index) {
        fail(g, "a snapshot older than the state is to be installed");
    }
    disk_cut(m, m->snapshot.last.index + 1);
    m->snapshot = m->install;
    m->disk_last = m->snapshot.last.index;
    m->last = m->applied = m->committed_seen = m->snapshot.last.index;
    m->chain[m->last] = g->committed[m->last];
    m->term_of[m->last] = m->snapshot.last.term;
    m->install_waits = false;
    CHECK(g, m->snapshot.last.index <= g->committed_last, "a snapshot of what is not committed");
    CHECK(g, m->snapshot.last.term == g->committed_term[m->snapshot.last.index],
          "a snapshot with another term");
    trace(g, "install %" PRIu64 " at %" PRIu64, m->id, m->last);
    g->report->snapshots++;
    raft_snapshot_installed(m->core, &m->snapshot);
    settle(g, m);
}

static void take_snapshot(struct group *g, struct member *m)
{
    if (m->install_waits || m->applied <= m->snapshot.last.index) {
        return;
    }
    make_snapshot(g, m);
    settle(g, m);
}

static struct member *any_leader(struct group *g)
{
    struct member *best = NULL;
    uint64_t best_term = 0;
    for (uint64_t id = 1; id <= GROUP_MEMBER_MAX; id++) {
        struct member *m = &g->members[id];
        struct raft_status s;
        if (!m->up) {
            continue;
        }
        raft_status(m->core, &s);
        if (s.role == RAFT_LEADER && s.term >= best_term) {
            best = m;
            best_term = s.term;
        }
    }
    return best;
}

/* ---- events -----------------------------------------------------------------------------------
 */

static enum raft_outcome propose(struct group *g, struct member *m)
{
    uint8_t bytes[24];
    nb_put_u64(bytes, ++g->proposals);
    struct nb_payload *payloads[3];
    size_t count = 1 + nb_random_below(&g->random, NB_ARRAY_LEN(payloads));
    for (size_t i = 0; i < count; i++) {
        payloads[i] = nb_payload_copy(nb_bytes_of(bytes, 8 + nb_random_below(&g->random, 9)));
        memset(payloads[i]->data + 8, (int)i, payloads[i]->len - 8);
    }
    enum raft_outcome outcome = raft_propose(m->core, payloads, count, NULL);
    for (size_t i = 0; i < count; i++) {
        nb_payload_release(payloads[i]);
    }
    trace(g, "propose at %" PRIu64 ": %d", m->id, (int)outcome);
    settle(g, m);
    return outcome;
}

static void ask_read(struct group *g, struct member *m)
{
    if (g->read_count == READ_MAX) {
        return;
    }
    uint64_t context = g->read_count++;
    g->read_bound[context] = g->committed_last;
    enum raft_outcome outcome = raft_read(m->core, context);
    trace(g, "read %" PRIu64 " at %" PRIu64 ": %d", context, m->id, (int)outcome);
    settle(g, m);
}

static void change_conf(struct group *g)
{
    struct member *m = any_leader(g);
    if (m == NULL) {
        return;
    }
    struct raft_conf_change change = {
        .mode = (enum raft_conf_mode)nb_random_below(&g->random, RAFT_CONF_KEEP + 1)};
    size_t steps = change.mode >= RAFT_CONF_LEAVE ? 0 : 1 + nb_random_below(&g->random, 3);
    for (size_t i = 0; i < steps; i++) {
        uint64_t id = 1 + nb_random_below(&g->random, GROUP_MEMBER_MAX);
        enum raft_conf_step_kind kind =
            (enum raft_conf_step_kind)nb_random_below(&g->random, RAFT_CONF_STEP_KIND_COUNT);
        /* An id that left never comes back. */
        if (g->members[id].exists && !raft_conf_has_member(raft_conf(m->core), id)) {
            return;
        }
        change.steps[change.step_count++].kind = kind;
        change.steps[change.step_count - 1].id = id;
    }
    enum raft_conf_outcome outcome =
        raft_propose_conf(m->core, &change, nb_bytes_of("urls", 4), NULL);
    trace(g, "change conf at %" PRIu64 ": %d", m->id, (int)outcome);
    if (outcome == RAFT_CONF_ACCEPTED) {
        g->report->conf_changes++;
        for (size_t i = 0; i < change.step_count; i++) {
            struct member *fresh = &g->members[change.steps[i].id];
            if (!fresh->exists) {
                start(g, fresh);
            }
        }
    }
    settle(g, m);
}

static void repartition(struct group *g)
{
    if (!nb_random_chance(&g->random, 1, 3)) {
        return; /* long enough for those who are cut off to do something about it */
    }
    memset(g->cut, 0, sizeof g->cut);
    uint64_t kind = nb_random_below(&g->random, 8);
    const struct member *leader = any_leader(g);
    uint64_t alone = leader == NULL ? 1 : leader->id;
    trace(g, "partition kind %" PRIu64, kind);
    for (uint64_t a = 1; a <= GROUP_MEMBER_MAX; a++) {
        for (uint64_t b = 1; b <= GROUP_MEMBER_MAX; b++) {
            switch (kind) {
            case 0: /* two halves */
                g->cut[a][b] = (a & 1) != (b & 1);
                break;
            case 1: /* one-way links */
                g->cut[a][b] = nb_random_chance(&g->random, 1, 4);
                break;
            case 2: /* a ring */
                g->cut[a][b] = a + 1 != b && b + 1 != a;
                break;
            case 3: /* the leader alone */
            case 4:
                g->cut[a][b] = (a == alone) != (b == alone);
                break;
            default: /* whole */
                break;
            }
        }
    }
}

static struct member *any_up(struct group *g)
{
    struct member *up[GROUP_MEMBER_MAX];
    size_t count = 0;
    for (uint64_t id = 1; id <= GROUP_MEMBER_MAX; id++) {
        if (g->members[id].up) {
            up[count++] = &g->members[id];
        }
    }
    return count == 0 ? NULL : up[nb_random_below(&g->random, count)];
}

static void restart_any(struct group *g)
{
    uint64_t first = nb_random_below(&g->random, GROUP_MEMBER_MAX);
    for (uint64_t i = 0; i < GROUP_MEMBER_MAX; i++) {
        struct member *m = &g->members[1 + (first + i) % GROUP_MEMBER_MAX];
        if (m->exists && !m->up && !m->removed) {
            start(g, m);
            return;
        }
    }
}

/* A packet goes astray for hundreds or thousands of events, or one that did comes back. */
static void stray_event(struct group *g)
{
    if (g->late_count < g->o.stray_count && g->wire_count != 0 &&
        nb_random_chance(&g->random, 2, 3)) {
        size_t at = nb_random_below(&g->random, g->wire_count);
        g->late[g->late_count++] = g->wire[at];
        g->wire[at] = g->wire[--g->wire_count];
    } else if (g->late_count != 0 && g->wire_count < WIRE_MAX) {
        size_t at = nb_random_below(&g->random, g->late_count);
        put_on_wire(g, g->late[at]);
        g->late[at] = g->late[--g->late_count];
        deliver(g, g->wire_count - 1);
    }
}

/* Sometimes a member's clock runs ahead, or it wakes from a pause. */
static void tick_event(struct group *g)
{
    struct member *m = any_up(g);
    unsigned ticks = nb_random_chance(&g->random, 1, 12) ? 12 : 1;
    for (unsigned i = 0; i < ticks && m != NULL && m->up; i++) {
        raft_tick(m->core);
        settle(g, m);
    }
}

static void wire_event(struct group *g)
{
    if (g->wire_count == 0) {
        tick_event(g); /* nothing happens unless time goes on */
        return;
    }
    if (g->o.stray_count != 0 && nb_random_chance(&g->random, 1, 16)) {
        stray_event(g);
        return;
    }
    size_t at = nb_random_below(&g->random, g->wire_count < 12 ? g->wire_count : 12);
    if (g->o.lossy && nb_random_chance(&g->random, 1, 20)) {
        packet_drop(g, nb_random_below(&g->random, g->wire_count));
        return;
    }
    if (g->o.lossy && nb_random_chance(&g->random, 1, 20) && g->wire_count < WIRE_MAX) {
        struct packet copy = g->wire[at];
        copy.bytes = (struct nb_buf){0};
        nb_buf_append_bytes(&copy.bytes, nb_buf_bytes(&g->wire[at].bytes));
        g->wire[g->wire_count++] = copy;
    }
    deliver(g, at);
}

static void disk_event(struct group *g)
{
    struct member *m = any_up(g);
    if (m == NULL) {
        return;
    }
    if (m->install_waits && nb_random_chance(&g->random, 1, 4)) {
        install(g, m);
    } else if (m->write_count != 0) {
        sync_writes(g, m, 1 + nb_random_below(&g->random, m->write_count));
    }
}

static void rare_event(struct group *g)
{
    struct member *m = any_up(g);
    uint64_t other = 1 + nb_random_below(&g->random, GROUP_MEMBER_MAX);
    switch (nb_random_below(&g->random, 12)) {
    case 0:
        if (g->o.crashes && m != NULL) {
            crash(g, m);
        }
        break;
    case 1:
    case 2:
        restart_any(g);
        break;
    case 3:
        if (g->o.lossy) {
            repartition(g);
        }
        break;
    case 4:
        if (m != NULL) {
            take_snapshot(g, m);
        }
        break;
    case 5:
    case 6:
    case 7:
    case 8:
        if (g->o.conf_changes) {
            change_conf(g);
        }
        break;
    case 9:
        m = any_leader(g);
        if (m != NULL && raft_transfer(m->core, other) == RAFT_TRANSFER_STARTED) {
            trace(g, "transfer %" PRIu64 " -> %" PRIu64, m->id, other);
            g->report->transfers++;
            settle(g, m);
        }
        break;
    case 10:
        if (m != NULL) {
            trace(g, "lost %" PRIu64 " <- %" PRIu64, m->id, other);
            raft_peer_lost(m->core, other);
            settle(g, m);
        }
        break;
    default:
        if (m != NULL) {
            raft_peer_unreachable(m->core, other);
            settle(g, m);
        }
        break;
    }
}

static void event(struct group *g)
{
    struct member *m = any_up(g);
    uint64_t draw = nb_random_below(&g->random, 100);
    g->report->events++;
    if (draw < 55) {
        wire_event(g);
    } else if (draw < (g->o.slow_disks ? 62u : 75u)) {
        disk_event(g);
    } else if (draw < 86) {
        tick_event(g);
    } else if (draw < 92) {
        if (m != NULL) {
            (void)propose(g, m);
        }
    } else if (draw < 95) {
        if (m != NULL) {
            ask_read(g, m);
        }
    } else {
        rare_event(g);
    }
}

/* ---- the liveness phase -----------------------------------------------------------------------
 */

static void heal(struct group *g)
{
    memset(g->cut, 0, sizeof g->cut);
    g->healed = true;
    while (g->late_count != 0) {
        put_on_wire(g, g->late[--g->late_count]);
    }
    for (uint64_t id = 1; id <= GROUP_MEMBER_MAX; id++) {
        if (g->members[id].exists && !g->members[id].up && !g->members[id].removed) {
            start(g, &g->members[id]);
        }
    }
    trace(g, "healed");
}

/* One tick of everybody, with all that follows from it. */
static void round_of_all(struct group *g)
{
    for (uint64_t id = 1; id <= GROUP_MEMBER_MAX; id++) {
        struct member *m = &g->members[id];
        if (m->up) {
            raft_tick(m->core);
            settle(g, m);
        }
    }
    for (unsigned i = 0; i < 2000; i++) {
        bool busy = false;
        if (g->wire_count != 0) {
            deliver(g, 0);
            busy = true;
        }
        for (uint64_t id = 1; id <= GROUP_MEMBER_MAX; id++) {
            struct member *m = &g->members[id];
            if (m->up && m->write_count != 0) {
                sync_writes(g, m, m->write_count);
                busy = true;
            }
            if (m->up && m->install_waits) {
                install(g, m);
                busy = true;
            }
        }
        g->report->events++;
        if (!busy) {
            return;
        }
    }
}

static bool room_in_arrays(const struct group *g)
{
    for (uint64_t id = 1; id <= GROUP_MEMBER_MAX; id++) {
        const struct member *m = &g->members[id];
        if (m->last + 200 > GROUP_INDEX_MAX || m->hard.term + 200 > GROUP_TERM_MAX) {
            return false;
        }
    }
    return true;
}

static void liveness(struct group *g)
{
    heal(g);
    unsigned rounds = 0;
    struct member *leader = NULL;
    struct raft_status s;
    for (; rounds < 10 * ELECTION_TICKS; rounds++) {
        round_of_all(g);
        leader = any_leader(g);
        if (leader != NULL) {
            raft_status(leader->core, &s);
            if (s.term_committed) {
                break;
            }
        }
    }
    CHECK(g, leader != NULL, "liveness: no leader within 10 election timeouts");
    CHECK(g, s.term_committed, "liveness: the leader's no-op is not committed in time");
    uint64_t before = g->committed_last;
    for (unsigned i = 0; i < 5 * ELECTION_TICKS; i++) {
        leader = any_leader(g);
        if (i % ELECTION_TICKS == 0 && leader != NULL) {
            (void)propose(g, leader);
        }
        round_of_all(g);
    }
    CHECK(g, g->committed_last > before, "liveness: no fresh write commits");
    leader = any_leader(g);
    CHECK(g, leader != NULL, "liveness: the leader is lost again");
    const struct raft_conf *c = raft_conf(leader->core);
    for (uint64_t id = 1; id <= GROUP_MEMBER_MAX; id++) {
        if (raft_conf_has_member(c, id)) {
            CHECK(g, g->members[id].applied == g->committed_last,
                  "liveness: a healed member does not catch up");
        }
    }
    uint64_t reads = g->report->reads;
    ask_read(g, leader);
    for (unsigned i = 0; i < ELECTION_TICKS; i++) {
        round_of_all(g);
    }
    CHECK(g, g->report->reads > reads || g->read_count == READ_MAX,
          "liveness: a read is not answered");
}

/* ---- a run ------------------------------------------------------------------------------------
 */

static void group_begin(struct group *g)
{
    struct raft_conf conf = {0};
    for (uint64_t id = 1; id <= g->o.member_count; id++) {
        conf.voters[conf.voter_count++] = id;
    }
    for (uint64_t id = 1; id <= g->o.learner_count; id++) {
        conf.learners[conf.learner_count++] = g->o.member_count + id;
    }
    for (uint64_t id = 1; id <= GROUP_MEMBER_MAX; id++) {
        g->members[id].id = id;
    }
    g->committed_conf = conf;
    for (uint64_t id = 1; id <= (uint64_t)g->o.member_count + g->o.learner_count; id++) {
        g->members[id].snapshot.conf = conf;
        start(g, &g->members[id]);
    }
}

static void group_end(struct group *g)
{
    for (uint64_t id = 1; id <= GROUP_MEMBER_MAX; id++) {
        struct member *m = &g->members[id];
        if (m->up) {
            crash(g, m);
            g->report->crashes--;
        }
        disk_cut(m, m->snapshot.last.index + 1);
        nb_free(m->writes);
        nb_free(m->held);
    }
    while (g->wire_count != 0) {
        packet_drop(g, 0);
    }
    while (g->late_count != 0) {
        nb_buf_deinit(&g->late[--g->late_count].bytes);
    }
    nb_arena_deinit(&g->arena);
}

void group_run(const struct group_options *options)
{
    struct group *g = nb_alloc_zero(1, sizeof *g);
    g->o = *options;
    g->report = options->report;
    nb_random_init(&g->random, options->seed);
    running = g;
    if (!options->quiet) {
        (void)signal(SIGABRT, on_abort);
    }
    group_begin(g);
    for (unsigned i = 0; i < options->event_count && room_in_arrays(g); i++) {
        event(g);
    }
    if (options->liveness && room_in_arrays(g)) {
        liveness(g);
    }
    group_end(g);
    nb_free(g);
}

struct group_options group_options_draw(uint64_t seed, unsigned event_count,
                                        struct group_report *report)
{
    struct nb_random r;
    nb_random_init(&r, seed ^ 0x5eed);
    struct group_options o = {
        .seed = seed,
        .member_count = 1 + (unsigned)nb_random_below(&r, 7),
        .event_count = event_count,
        .conf_changes = nb_random_chance(&r, 1, 2),
        .crashes = nb_random_chance(&r, 2, 3),
        .lossy = nb_random_chance(&r, 2, 3),
        .slow_disks = nb_random_chance(&r, 1, 2),
        .small_limits = nb_random_chance(&r, 1, 2),
        .liveness = true,
        .report = report,
    };
    if (nb_random_chance(&r, 1, 2)) { /* small groups have the most odd cases for their size */
        o.member_count = 2 + (unsigned)nb_random_below(&r, 2);
    }
    o.learner_count = (unsigned)nb_random_below(&r, 3);
    o.pre_vote = nb_random_chance(&r, 1, 2);
    o.check_quorum = o.pre_vote || nb_random_chance(&r, 1, 2);
    /* A member of a change that was never committed disturbs those who know no stickiness for ever.
     */
    o.liveness = o.pre_vote || !o.conf_changes;
    if (nb_random_chance(&r, 1, 3)) {
        o.stray_count =
            1 + (unsigned)nb_random_below(&r, nb_random_chance(&r, 1, 2) ? 4 : LATE_MAX);
    }
    return o;
}

#include "sim/cluster.h"

#include <inttypes.h>
#include <string.h>

/* ---- what the trace says of a message ---- */

static void describe_append(const struct raft_msg *m, struct nb_buf *to)
{
    nb_buf_printf(to, " after %" PRIu64 "/%" PRIu64 ": %zu entries, commit %" PRIu64,
                  m->append.prev.index, m->append.prev.term, m->append.entry_count,
                  m->append.leader_commit);
}

static void describe_append_result(const struct raft_msg *m, struct nb_buf *to)
{
    if (m->append_result.accepted) {
        nb_buf_printf(to, " holds up to %" PRIu64, m->append_result.matched_index);
    } else {
        nb_buf_printf(to, " refused after %" PRIu64 ", perhaps %" PRIu64 "/%" PRIu64,
                      m->append_result.refused_index, m->append_result.hint.index,
                      m->append_result.hint.term);
    }
}

static void describe(const struct raft_msg *m, struct nb_buf *to)
{
    nb_buf_printf(to, "%s, term %" PRIu64, raft_msg_type_name(m->type), m->term);
    switch ((int)m->type) {
    case RAFT_MSG_APPEND:
        describe_append(m, to);
        break;
    case RAFT_MSG_APPEND_RESULT:
        describe_append_result(m, to);
        break;
    case RAFT_MSG_VOTE:
    case RAFT_MSG_PRE_VOTE:
        nb_buf_printf(to, " log ends at %" PRIu64 "/%" PRIu64, m->vote.last.index,
                      m->vote.last.term);
        break;
    case RAFT_MSG_VOTE_RESULT:
    case RAFT_MSG_PRE_VOTE_RESULT:
        nb_buf_printf(to, " %s", m->vote_result.granted ? "granted" : "refused");
        break;
    case RAFT_MSG_SNAPSHOT:
        nb_buf_printf(to, " up to %" PRIu64 "/%" PRIu64, m->snapshot->last.index,
                      m->snapshot->last.term);
        break;
    case RAFT_MSG_PROPOSE:
        nb_buf_printf(to, " %zu", m->propose.entry_count);
        break;
    default:
        break;
    }
    nb_buf_append(to, "", 1);
}

static void trace_message(struct sim_member *m, const char *what, unsigned other,
                          const struct raft_msg *msg)
{
    struct nb_buf text = {0};
    describe(msg, &text);
    sim_trace(m->sim, (int)m->place, "%s m%u %s", what, other, (const char *)text.data);
    nb_buf_deinit(&text);
}

/* ---- messages ---- */

static void travel(struct sim_member *from, struct sim_member *to, const struct nb_buf *bytes)
{
    struct sim *s = from->sim;
    uint64_t delay = 100 * SIM_US + sim_below(s, s->network.delay_max_ns);
    if (sim_chance(s, 10)) {
        delay *= 20; /* the odd one that is very late */
    }
    struct sim_event event = {.at_ns = s->now_ns + delay,
                              .kind = SIM_EVENT_MESSAGE,
                              .member = to->place,
                              .boot = to->boot,
                              .from = from->place,
                              .from_boot = from->boot};
    nb_buf_append_bytes(&event.bytes, nb_buf_bytes(bytes));
    sim_events_push(&s->events, event);
}

/* The same proposals, which nobody can know to be the same: they are applied twice. */
static void travel_without_ids(struct sim_member *from, struct sim_member *to,
                               const struct raft_msg *msg)
{
    enum { ID_AT = 8, ID_SIZE = 8 };
    struct raft_entry *entries = nb_alloc_zero(msg->propose.entry_count, sizeof *entries);
    for (size_t i = 0; i < msg->propose.entry_count; i++) {
        struct nb_bytes whole = nb_payload_bytes(msg->propose.entries[i].payload);
        entries[i] = msg->propose.entries[i];
        entries[i].payload = nb_payload_create(whole.len);
        nb_assert(whole.len >= ID_AT + ID_SIZE); /* a header, at least */
        memcpy(entries[i].payload->data, whole.data, whole.len);
        memset(entries[i].payload->data + ID_AT, 0, ID_SIZE);
    }
    struct raft_msg copy = *msg;
    copy.propose.entries = entries;
    struct nb_buf bytes = {0};
    raft_msg_encode(&copy, &bytes);
    travel(from, to, &bytes);
    nb_buf_deinit(&bytes);
    for (size_t i = 0; i < msg->propose.entry_count; i++) {
        nb_payload_release(entries[i].payload);
    }
    nb_free(entries);
}

/* A connection knows cluster, member and boot of both ends, so what was sent to an earlier boot
 * never arrives [M09]. */
void sim_network_send(struct sim_member *from, const struct raft_msg *msg)
{
    struct sim *s = from->sim;
    struct sim_member *to = sim_member_of_id(s, msg->to);
    nb_assert(to != NULL && to != from);
    sim_check_sent(from, msg);
    s->report.message_count++;
    s->sent[msg->type]++;
    bool deaf = s->healed && s->options.bug == SIM_BUG_DEAF;
    if (!to->alive || s->network.cut[from->place][to->place] || deaf ||
        sim_chance(s, s->network.lost_per_mille)) {
        s->report.lost_count++;
        trace_message(from, "-x", to->place, msg);
        return;
    }
    trace_message(from, "->", to->place, msg);
    struct nb_buf bytes = {0};
    raft_msg_encode(msg, &bytes);
    nb_assert(bytes.len == raft_msg_encoded_size(msg));
    travel(from, to, &bytes);
    if (sim_chance(s, s->network.twice_per_mille)) {
        travel(from, to, &bytes);
    }
    if (msg->type == RAFT_MSG_PROPOSE && s->options.bug == SIM_BUG_PROPOSE_TWICE) {
        travel_without_ids(from, to, msg);
    }
    nb_buf_deinit(&bytes);
}

static void plant_into_message(struct sim_member *to, struct raft_msg *msg)
{
    if (to->sim->options.bug != SIM_BUG_BYTES_CHANGED || to->place != 1 ||
        msg->type != RAFT_MSG_APPEND || msg->append.entry_count == 0) {
        return;
    }
    struct nb_payload *p = msg->append.entries[msg->append.entry_count - 1].payload;
    if (p != NULL && p->len > MACHINE_HEADER_SIZE_BYTES) {
        p->data[p->len - 1] ^= 1;
    }
}

void sim_network_deliver(struct sim_member *to, struct sim_event *event)
{
    struct sim *s = to->sim;
    if (s->network.cut[event->from][to->place]) {
        return; /* cut off while it travelled */
    }
    struct nb_arena arena = {0};
    struct raft_msg msg;
    enum nb_status status = raft_msg_decode(nb_buf_bytes(&event->bytes), &msg, &arena);
    if (status != NB_OK) {
        sim_broken(s, "codec", "a message does not decode: %s", nb_status_name(status));
    } else {
        trace_message(to, "<-", event->from, &msg);
        plant_into_message(to, &msg);
        replica_step(to->replica, &msg);
        raft_msg_release(&msg);
    }
    nb_arena_deinit(&arena);
}

/* ---- snapshots ---- */

void sim_network_send_snapshot(struct sim_member *from, uint64_t to_id, const char *path,
                               const struct raft_msg *announce)
{
    struct sim *s = from->sim;
    struct sim_member *to = sim_member_of_id(s, to_id);
    size_t len;
    const uint8_t *content = disk_memory_content(from->disk, path, &len);
    bool ok = content != NULL && to->alive && !s->network.cut[from->place][to->place] &&
              !sim_chance(s, s->network.lost_per_mille * 2);
    uint64_t takes_ns = SIM_MS + sim_below(s, s->network.delay_max_ns * 20);
    takes_ns = s->network.snapshot_takes_ns != 0 ? s->network.snapshot_takes_ns : takes_ns;
    trace_message(from, ok ? "=>" : "=x", to->place, announce);
    s->report.snapshot_count++;
    if (ok) {
        struct sim_event event = {.at_ns = s->now_ns + takes_ns,
                                  .kind = SIM_EVENT_SNAPSHOT,
                                  .member = to->place,
                                  .boot = to->boot,
                                  .from = from->place,
                                  .from_boot = from->boot};
        raft_msg_encode(announce, &event.bytes);
        nb_buf_append(&event.file, content, len);
        sim_events_push(&s->events, event);
    }
    /* The report comes before or after the receiver acts on it. */
    sim_events_push(&s->events,
                    (struct sim_event){.at_ns = s->now_ns + takes_ns + sim_below(s, 5 * SIM_MS),
                                       .kind = SIM_EVENT_SNAPSHOT_SENT,
                                       .member = from->place,
                                       .boot = from->boot,
                                       .from = to->place,
                                       .ok = ok});
}

void sim_network_snapshot_arrives(struct sim_member *to, struct sim_event *event)
{
    struct sim *s = to->sim;
    struct nb_arena arena = {0};
    struct raft_msg msg;
    char *path = nb_sprintf("snap/received-%" PRIu64 "-%u", to->boot, to->received_count++);
    enum nb_status status = raft_msg_decode(nb_buf_bytes(&event->bytes), &msg, &arena);
    nb_assert(status == NB_OK);
    status = disk_write_file(to->disk, "snap", path, nb_buf_bytes(&event->file));
    if (status == NB_OK && !s->network.cut[event->from][to->place]) {
        trace_message(to, "<=", event->from, &msg);
        s->report.install_count++;
        replica_snapshot_received(to->replica, path, &msg);
    } else {
        sim_trace(s, (int)to->place, "a snapshot does not arrive: %s", nb_status_name(status));
    }
    raft_msg_release(&msg);
    nb_free(path);
    nb_arena_deinit(&arena);
}

void sim_network_heal(struct sim *s)
{
    s->network = (struct sim_network){.delay_max_ns = 3 * SIM_MS};
}

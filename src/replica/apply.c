/* replica/apply: committed entries into the machine, in order, a bounded piece a turn. [P2] */
#include "replica/internal.h"

/* Entries applied in one turn, so that sockets are served in between. */
enum { APPLY_COUNT_A_TURN = 4096 };

/* 0: none that there is a row for. */
static unsigned kind_of(uint8_t kind)
{
    return kind < MACHINE_KIND_END ? kind : 0;
}

void replica_count_timeout(struct replica *r, const struct replica_request *request,
                           uint64_t now_ns)
{
    struct machine_header header;
    struct nb_bytes body;
    if (machine_header_get(nb_payload_bytes(request->payload), &header, &body) == NB_OK) {
        nb_histogram_observe_ns(&r->timings.kinds[kind_of(header.kind)].request[0],
                                now_ns - request->begun_ns);
    }
}

static void watch_slow_apply(struct replica *r, const struct raft_entry *e, unsigned kind,
                             uint64_t took_ns)
{
    if (r->config.slow_apply_ns == 0 || took_ns <= r->config.slow_apply_ns) {
        return;
    }
    r->timings.slow_apply_count++;
    nb_log(r->config.log, NB_LOG_WARN, "replica.slow_apply", "apply request took too long",
           NB_KV_U64("index", e->id.index), NB_KV_STR("kind", machine_kind_name(kind)),
           NB_KV_U64("took_ms", took_ns / 1000000),
           NB_KV_U64("expected_ms", r->config.slow_apply_ns / 1000000), NB_KV_END);
}

/* One look at the clock an entry: where the one before it ended, this one began. */
static void apply_entry(struct replica *r, const struct raft_entry *e, uint64_t *now_ns)
{
    struct machine_entry entry = {
        .index = e->id.index,
        .term = e->id.term,
        .kind = (enum machine_entry_kind)e->kind,
        .payload = nb_payload_bytes(e->payload),
    };
    struct raft_conf conf;
    if (e->kind == RAFT_ENTRY_CONF) {
        enum nb_status status = raft_conf_decode(entry.payload, &conf, &entry.attached);
        nb_assert(status == NB_OK); /* raft has used it already */
        entry.conf = nb_bytes_of(entry.payload.data, entry.payload.len - entry.attached.len);
    }
    struct replica_request *request = NULL;
    struct machine_header header = {0};
    struct nb_bytes body;
    if (e->kind == RAFT_ENTRY_COMMAND &&
        machine_header_get(entry.payload, &header, &body) == NB_OK &&
        header.origin == r->config.member_id) {
        request = replica_take_proposal(r, header.request_id);
    }
    struct machine_result result;
    machine_apply(r->machine, &entry, &result);
    bool good = result.status == NB_OK && !result.duplicate;
    if (e->kind == RAFT_ENTRY_CONF) {
        replica_conf_applied(r, e->id);
    }
    uint64_t requested_ns = 0;
    if (request != NULL) {
        requested_ns = request->begun_ns;
        /* Twice here, and not answered the first time: that was in a snapshot. */
        request->done(request, result.duplicate ? NB_TIMEOUT : NB_OK,
                      result.duplicate ? NULL : &result);
    }
    uint64_t begun_ns = *now_ns;
    *now_ns = replica_now(r);
    if (e->kind == RAFT_ENTRY_COMMAND) {
        unsigned kind = kind_of(header.kind);
        struct replica_kind_timings *t = &r->timings.kinds[kind];
        nb_histogram_observe_ns(&t->apply[good], *now_ns - begun_ns);
        watch_slow_apply(r, e, kind, *now_ns - begun_ns);
        if (request != NULL) {
            nb_histogram_observe_ns(&t->request[good], *now_ns - requested_ns);
        }
    }
}

/* Applying waits for memory at every step; the entries of the next few are known, so the waits can
 * overlap. */
static void foresee(const struct replica *r, uint64_t first, uint64_t end)
{
    struct nb_bytes payloads[MACHINE_FORESEEN_COUNT_MAX];
    size_t count, command_count = 0;
    const struct raft_entry *entries = raft_entries(r->raft, first, end, &count);
    for (size_t i = 0; i < count; i++) {
        if (entries[i].payload != NULL) {
            __builtin_prefetch(entries[i].payload);
            __builtin_prefetch(entries[i].payload->data + MACHINE_HEADER_SIZE_BYTES);
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (entries[i].kind == RAFT_ENTRY_COMMAND && entries[i].payload != NULL) {
            payloads[command_count++] = nb_payload_bytes(entries[i].payload);
        }
    }
    machine_foresee(r->machine, payloads, command_count);
}

/* Applies what is committed, a bounded piece. */
void replica_apply(struct replica *r)
{
    uint64_t applied = machine_applied_index(r->machine);
    uint64_t end = r->commit_index + 1;
    if (applied + 1 >= end || r->install_waiting) {
        return;
    }
    if (end - applied - 1 > APPLY_COUNT_A_TURN) {
        end = applied + 1 + APPLY_COUNT_A_TURN;
        r->world.wake(r->world.user);
    }
    uint64_t now_ns = replica_now(r);
    for (uint64_t index = applied + 1; index < end; index++) {
        if ((index - applied - 1) % MACHINE_FORESEEN_COUNT_MAX == 0) {
            uint64_t far = index + MACHINE_FORESEEN_COUNT_MAX;
            foresee(r, index, far < end ? far : end);
        }
        /* One at a time and by value: whoever is answered may propose, and so move raft's log. */
        size_t count;
        const struct raft_entry *e = raft_entries(r->raft, index, index + 1, &count);
        nb_assert(count == 1);
        struct raft_entry entry = *e;
        (void)nb_payload_acquire(entry.payload);
        apply_entry(r, &entry, &now_ns);
        nb_payload_release(entry.payload);
    }
    raft_applied(r->raft, end - 1);
}

/* replica/apply: committed entries into the machine, in order, a bounded piece a turn. [P2] */
#include "replica/internal.h"

/* Entries applied in one turn, so that sockets are served in between. */
enum { APPLY_COUNT_A_TURN = 4096 };

static void apply_entry(struct replica *r, const struct raft_entry *e)
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
    struct machine_header header;
    struct nb_bytes body;
    if (e->kind == RAFT_ENTRY_COMMAND &&
        machine_header_get(entry.payload, &header, &body) == NB_OK &&
        header.origin == r->config.member_id) {
        request = replica_take_proposal(r, header.request_id);
    }
    struct machine_result result;
    machine_apply(r->machine, &entry, request != NULL ? &result : NULL);
    if (e->kind == RAFT_ENTRY_CONF) {
        replica_conf_applied(r, e->id);
    }
    if (request != NULL) {
        /* Twice here, and not answered the first time: that was in a snapshot. */
        request->done(request, result.duplicate ? NB_TIMEOUT : NB_OK,
                      result.duplicate ? NULL : &result);
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
        apply_entry(r, &entry);
        nb_payload_release(entry.payload);
    }
    raft_applied(r->raft, end - 1);
}

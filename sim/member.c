#include "sim/cluster.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLUSTER_ID = 0x6e616261 };

static const char wal_dir[] = "wal", snap_dir[] = "snap", note_path[] = "note", top_dir[] = ".";

struct sim_member *sim_member_of_id(struct sim *s, uint64_t id)
{
    for (unsigned i = 0; i < s->member_count; i++) {
        if (s->members[i].id == id) {
            return &s->members[i];
        }
    }
    return NULL;
}

uint64_t sim_member_applied(const struct sim_member *m)
{
    return machine_applied_index(m->machine);
}

/* ---- the world ---- */

static uint64_t world_now(void *user)
{
    struct sim_member *m = user;
    return m->sim->now_ns + m->clock_offset_ns;
}

static void world_send(void *user, const struct raft_msg *msg)
{
    sim_network_send(user, msg);
}

static void world_send_snapshot(void *user, uint64_t to, const char *path,
                                const struct raft_msg *announce)
{
    sim_network_send_snapshot(user, to, path, announce);
}

static void plan_turn(struct sim_member *m, uint64_t in_ns)
{
    if (!m->turn_due) {
        m->turn_due = true;
        sim_plan(m->sim, SIM_EVENT_TURN, m->place, in_ns);
    }
}

static void world_wake(void *user)
{
    struct sim_member *m = user;
    plan_turn(m, SIM_US);
}

static void world_fatal(void *user, enum nb_status status, const char *text)
{
    struct sim_member *m = user;
    m->failed = true;
    m->sim->report.fatal_count++;
    (void)snprintf(m->last_words, sizeof m->last_words, "%s", text);
    sim_trace(m->sim, (int)m->place, "must end: %s (%s)", text, nb_status_name(status));
}

static void world_wait_disk(void *user)
{
    struct sim_member *m = user;
    disk_wait(m->wal_disk);
}

static enum nb_status world_note_install(void *user, uint64_t index)
{
    struct sim_member *m = user;
    if (index == 0) {
        enum nb_status status = disk_unlink(m->disk, note_path);
        return status == NB_OK || status == NB_NOT_FOUND ? disk_sync_dir(m->disk, top_dir) : status;
    }
    struct nb_buf text = {0};
    nb_buf_printf(&text, "%" PRIu64, index);
    enum nb_status status = disk_write_file(m->disk, top_dir, note_path, nb_buf_bytes(&text));
    nb_buf_deinit(&text);
    return status;
}

static struct backend_ident ident_of(const struct sim_member *m)
{
    return (struct backend_ident){.cluster_id = CLUSTER_ID, .member_id = m->id};
}

/* A copy is read by a backend of its own, which takes a copy of it. */
static enum nb_status world_inspect_copy(void *user, const char *path, struct backend_label *out,
                                         struct nb_buf *error)
{
    struct sim_member *m = user;
    struct backend_ident ident = ident_of(m);
    struct disk *disk = disk_memory_create(1);
    struct backend_memory_store *store = backend_memory_store_create();
    struct backend *backend = NULL;
    size_t len;
    const uint8_t *content = disk_memory_content(m->disk, path, &len);
    enum nb_status status = NB_NOT_FOUND;
    if (content != NULL) {
        status = disk_write_file(disk, top_dir, "copy", nb_bytes_of(content, len));
    }
    if (status == NB_OK) {
        status = backend_memory_open(store, disk, &ident, &backend, error);
    }
    if (status == NB_OK) {
        status = backend_replace(backend, "copy", error);
        *out = *backend_label(backend);
        out->meta = (struct nb_bytes){0};
        backend_memory_crash(backend);
    }
    backend_memory_store_destroy(store);
    disk_destroy(disk);
    return status;
}

static void world_remove_file(void *user, const char *path)
{
    struct sim_member *m = user;
    (void)!disk_unlink(m->disk, path);
}

static struct replica_world world_of(struct sim_member *m)
{
    return (struct replica_world){.user = m,
                                  .now_ns = world_now,
                                  .send = world_send,
                                  .send_snapshot = world_send_snapshot,
                                  .wake = world_wake,
                                  .fatal = world_fatal,
                                  .wait_disk = world_wait_disk,
                                  .note_install = world_note_install,
                                  .inspect_copy = world_inspect_copy,
                                  .remove_file = world_remove_file};
}

/* ---- start ---- */

static void make_dirs(struct sim_member *m)
{
    enum nb_status status = disk_mkdir(m->disk, wal_dir);
    nb_assert(status == NB_OK);
    status = disk_mkdir(m->disk, snap_dir);
    nb_assert(status == NB_OK);
    status = disk_sync_dir(m->disk, top_dir);
    nb_assert(status == NB_OK);
}

void sim_member_init(struct sim *s, unsigned place)
{
    struct sim_member *m = &s->members[place];
    *m = (struct sim_member){.sim = s,
                             .place = place,
                             .id = place + 1,
                             .disk = disk_memory_create(nb_random_u64(&s->random)),
                             .store = backend_memory_store_create(),
                             .disk_delay_max_ns = 2 * SIM_MS};
    m->wal_disk = s->options.bug == SIM_BUG_LYING_DISK ? sim_lying_disk_create(m->disk) : m->disk;
    make_dirs(m);
}

void sim_member_deinit(struct sim_member *m)
{
    sim_member_stop(m, false);
    if (m->wal_disk != m->disk) {
        disk_destroy(m->wal_disk);
    }
    disk_destroy(m->disk);
    backend_memory_store_destroy(m->store);
}

static void bootstrap(struct sim_member *m)
{
    if (m->joins) {
        return; /* the leader's snapshot says who the members are */
    }
    struct machine_members members = {0};
    char url[] = "http://member", name[] = "";
    char *urls[] = {url};
    for (unsigned i = 0; i < m->sim->founder_count; i++) {
        machine_members_set(&members, &(struct machine_member){.id = m->sim->members[i].id,
                                                               .name = name,
                                                               .peer_urls = urls,
                                                               .peer_url_count = 1});
    }
    machine_bootstrap(m->machine, &members);
    machine_members_deinit(&members);
}

static enum nb_status read_note(struct sim_member *m, uint64_t *out)
{
    struct nb_buf text = {0};
    enum nb_status status = disk_read_file(m->disk, note_path, 64, &text);
    nb_buf_append(&text, "", 1);
    *out = status == NB_OK ? strtoull((const char *)text.data, NULL, 10) : 0;
    nb_buf_deinit(&text);
    return status == NB_NOT_FOUND ? NB_OK : status;
}

static enum nb_status open_backend(struct sim_member *m, struct nb_buf *error)
{
    struct backend_ident ident = ident_of(m);
    struct machine_options options = {.hash_seed = nb_random_u64(&m->sim->random),
                                      .log_hash_count = 4096};
    enum nb_status status = backend_memory_open(m->store, m->disk, &ident, &m->backend, error);
    if (status == NB_OK) {
        status = machine_create(m->backend, &options, &m->machine, error);
    }
    if (status == NB_OK && machine_members(m->machine)->count == 0) {
        bootstrap(m);
    }
    return status;
}

static void plant_into_recovered(struct sim_member *m)
{
    struct wal_recovered *r = &m->recovered;
    if (m->sim->options.bug == SIM_BUG_BATCH_LOST && r->entry_count != 0) {
        nb_payload_release(r->entries[--r->entry_count].payload);
        r->next_index--;
    }
    if (m->sim->options.bug == SIM_BUG_VOTE_LOST) {
        r->hard_state.voted_for = 0;
    }
}

static struct replica_config config_of(struct sim_member *m)
{
    return (struct replica_config){.cluster_id = CLUSTER_ID,
                                   .member_id = m->id,
                                   .boot_id = nb_random_u64(&m->sim->random) | 1,
                                   .tick_ms = SIM_TICK_MS,
                                   .heartbeat_ticks = SIM_HEARTBEAT_TICKS,
                                   .election_ticks = SIM_ELECTION_TICKS,
                                   .pre_vote = true,
                                   .initial_election_tick_advance = true,
                                   .request_timeout_ns = 5 * SIM_SECOND / 2,
                                   .snapshot_catchup_entry_count = m->sim->catchup_entry_count,
                                   .snapshot_catchup_bytes_max = 1 << 20,
                                   .commit_interval_ns = 100 * SIM_MS,
                                   .commit_bytes_max = 64 << 10,
                                   .request_count_max = 1000,
                                   .request_bytes_max = 1536 << 10,
                                   .proposal_bytes_max = 1 << 20,
                                   .compaction_batch_limit = 3,
                                   .compaction_sleep_ns = 10 * SIM_MS,
                                   .read_retry_ns = 500 * SIM_MS,
                                   .snapshot_dir = snap_dir};
}

static enum nb_status start(struct sim_member *m, struct nb_buf *error)
{
    uint64_t noted;
    enum nb_status status = read_note(m, &noted);
    if (status == NB_OK) {
        status = open_backend(m, error);
    }
    if (status != NB_OK) {
        return status;
    }
    struct wal_ident ident = {.cluster_id = CLUSTER_ID, .member_id = m->id};
    struct wal_options options = {.segment_size = 64 << 10,
                                  .index_expected =
                                      noted == 0 ? backend_label(m->backend)->applied_index : 0};
    status = wal_open(m->wal_disk, wal_dir, &ident, &options, &m->recovered, &m->wal, error);
    if (status != NB_OK) {
        return status;
    }
    plant_into_recovered(m);
    struct replica_config config = config_of(m);
    struct replica_world world = world_of(m);
    struct replica_parts parts = {.wal = m->wal,
                                  .recovered = &m->recovered,
                                  .backend = m->backend,
                                  .machine = m->machine,
                                  .install_noted = noted};
    status = replica_create(&config, &world, &parts, &m->replica, error);
    if (status == NB_OK && !m->begun) {
        replica_flush(m->replica); /* the first members are durable before anybody hears of us */
        m->begun = true;
    }
    return status;
}

static void empty_disk(struct sim_member *m)
{
    disk_destroy(m->disk);
    backend_memory_store_destroy(m->store);
    m->disk = m->wal_disk = disk_memory_create(1);
    m->store = backend_memory_store_create();
    make_dirs(m);
}

void sim_member_start(struct sim_member *m)
{
    struct sim *s = m->sim;
    nb_assert(!m->alive && m->replica == NULL);
    m->boot++;
    m->alive = true;
    if (s->options.bug == SIM_BUG_DISK_EMPTIED && m->begun) {
        empty_disk(m);
    }
    m->failed = m->turn_due = m->disk_due = false;
    m->recovered = (struct wal_recovered){0};
    m->paused_until_ns = 0;
    m->ticks_missed = 0;
    m->clock_offset_ns = sim_below(s, 1000 * SIM_SECOND);
    struct nb_buf error = {0};
    enum nb_status status = start(m, &error);
    nb_buf_append(&error, "", 1);
    if (status != NB_OK) {
        sim_trace(s, (int)m->place, "cannot start: %s", (const char *)error.data);
        if (status != NB_IO && status != NB_NO_SPACE_DISK) {
            sim_broken(s, "recovery", "member %u cannot start: %s: %s", m->place,
                       nb_status_name(status), (const char *)error.data);
        }
        sim_member_crash(m, false, SIM_SECOND);
    } else {
        struct raft_status r;
        raft_status(replica_raft(m->replica), &r);
        sim_trace(s, (int)m->place,
                  "starts, boot %" PRIu64 ": term %" PRIu64 ", log %" PRIu64 "..%" PRIu64
                  ", backend at %" PRIu64,
                  m->boot, r.term, r.first_index, r.last.index, sim_member_applied(m));
        sim_check_started(m);
        s->report.restart_count += m->boot > 1;
        sim_plan(s, SIM_EVENT_TICK, m->place, sim_below(s, SIM_TICK_MS * SIM_MS));
        sim_plan(s, SIM_EVENT_BACKEND, m->place, SIM_MS);
        plan_turn(m, 0);
    }
    nb_buf_deinit(&error);
}

/* ---- stop ---- */

void sim_member_stop(struct sim_member *m, bool power_lost)
{
    if (!m->alive) {
        return;
    }
    m->alive = false;
    if (power_lost) {
        disk_memory_crash(m->disk);
    }
    disk_memory_fail_at(m->disk, 0, NB_OK);
    replica_destroy(m->replica);
    m->replica = NULL;
    machine_destroy(m->machine);
    m->machine = NULL;
    wal_abandon(m->wal);
    m->wal = NULL;
    wal_recovered_deinit(&m->recovered);
    if (m->backend != NULL) {
        backend_memory_crash(m->backend);
        m->backend = NULL;
    }
}

void sim_member_crash(struct sim_member *m, bool power_lost, uint64_t down_ns)
{
    struct sim *s = m->sim;
    sim_trace(s, (int)m->place, power_lost ? "loses power" : "ends");
    s->report.crash_count += power_lost;
    s->report.kill_count += !power_lost;
    sim_member_stop(m, power_lost);
    sim_plan(s, SIM_EVENT_START, m->place, down_ns);
    for (unsigned i = 0; i < s->member_count; i++) {
        if (i != m->place && !s->network.cut[m->place][i]) {
            sim_events_push(&s->events,
                            (struct sim_event){.at_ns = s->now_ns + sim_below(s, 20 * SIM_MS),
                                               .kind = SIM_EVENT_PEER_LOST,
                                               .member = i,
                                               .boot = s->members[i].boot,
                                               .from = m->place});
        }
    }
}

/* ---- events ---- */

static void plan_disk(struct sim_member *m)
{
    struct sim *s = m->sim;
    if (m->disk_due || m->wal_disk->outstanding == 0) {
        return;
    }
    m->disk_due = true;
    uint64_t in_ns = 50 * SIM_US + sim_below(s, m->disk_delay_max_ns);
    if (m->disk_stuck_until_ns > s->now_ns) {
        in_ns += m->disk_stuck_until_ns - s->now_ns;
    }
    sim_plan(s, SIM_EVENT_DISK, m->place, in_ns);
}

static void settle(struct sim_member *m, bool wants_turn)
{
    if (!m->alive) {
        return;
    }
    sim_check_member(m);
    sim_members_settle(m);
    if (!m->alive) {
        return;
    }
    if (m->failed) {
        sim_member_crash(m, false, SIM_SECOND + sim_below(m->sim, 2 * SIM_SECOND));
        return;
    }
    if (wants_turn) {
        plan_turn(m, sim_below(m->sim, 200 * SIM_US));
    }
    plan_disk(m);
}

void sim_member_settle(struct sim_member *m)
{
    settle(m, true);
}

static void on_tick(struct sim_member *m)
{
    struct sim *s = m->sim;
    sim_plan(s, SIM_EVENT_TICK, m->place, SIM_TICK_MS * SIM_MS);
    if (m->paused_until_ns > s->now_ns) {
        m->ticks_missed++;
    } else {
        replica_tick(m->replica);
    }
}

/* After a pause: what waited in the inbox came first, and then no more than a tick. [E09] */
static void on_resume(struct sim_member *m)
{
    if (m->ticks_missed != 0) {
        m->ticks_missed = 0;
        replica_tick(m->replica);
    }
}

static void on_disk(struct sim_member *m)
{
    m->disk_due = false;
    (void)disk_memory_step(m->disk, 1);
    (void)disk_reap(m->wal_disk);
    replica_disk_ready(m->replica);
}

static void on_backend(struct sim_member *m)
{
    struct sim *s = m->sim;
    sim_plan(s, SIM_EVENT_BACKEND, m->place, 10 * SIM_MS + sim_below(s, 150 * SIM_MS));
    if (m->backend_stuck_until_ns <= s->now_ns) {
        (void)backend_memory_step(m->backend, 1);
        replica_backend_ready(m->replica);
    }
}

static void on_turn(struct sim_member *m)
{
    m->turn_due = false;
    replica_turn(m->replica);
}

/* What a paused process would have been told: it hears of it when it runs again. */
static bool put_off(struct sim_member *m, struct sim_event *event)
{
    if (m->paused_until_ns <= m->sim->now_ns || event->kind == SIM_EVENT_TICK) {
        return false;
    }
    struct sim_event later = *event;
    later.at_ns = m->paused_until_ns;
    event->bytes = event->file = (struct nb_buf){0};
    sim_events_push(&m->sim->events, later);
    return true;
}

void sim_member_event(struct sim_member *m, struct sim_event *event)
{
    if (event->kind == SIM_EVENT_START) {
        if (!m->alive && !m->doomed && event->boot == m->boot) {
            sim_member_start(m);
        }
        return;
    }
    if (!m->alive || event->boot != m->boot || put_off(m, event)) {
        return;
    }
    switch ((int)event->kind) {
    case SIM_EVENT_MESSAGE:
        sim_network_deliver(m, event);
        break;
    case SIM_EVENT_SNAPSHOT:
        sim_network_snapshot_arrives(m, event);
        break;
    case SIM_EVENT_SNAPSHOT_SENT:
        replica_snapshot_sent(m->replica, m->sim->members[event->from].id, event->ok);
        break;
    case SIM_EVENT_PEER_LOST:
        replica_peer_lost(m->replica, m->sim->members[event->from].id);
        break;
    case SIM_EVENT_TICK:
        on_tick(m);
        break;
    case SIM_EVENT_RESUME:
        on_resume(m);
        break;
    case SIM_EVENT_DISK:
        on_disk(m);
        break;
    case SIM_EVENT_BACKEND:
        on_backend(m);
        break;
    case SIM_EVENT_TURN:
        on_turn(m);
        break;
    default:
        nb_unreachable("no event of a member");
    }
    settle(m, event->kind != SIM_EVENT_TURN); /* a turn asks for another itself */
}

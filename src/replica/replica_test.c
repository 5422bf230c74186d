/* The replica's rules, in the simulated world but without its chance: faults come where a test
 * says. */
#include "replica/replica.h"

#include "sim/cluster.h"
#include "tests/support/unit.h"

#include <string.h>

enum { FEW = 10, MANY = 60, PATIENCE = 50, BACKEND_STUCK_SECONDS = 1000 };

static struct sim *group(unsigned member_count)
{
    struct sim_options options = {.seed = unit_seed(), .member_count = member_count};
    struct sim *s = sim_create(&options);
    s->catchup_entry_count = 4;
    s->quiet = true; /* clients do what the test says */
    return s;
}

static void start_all(struct sim *s)
{
    for (unsigned i = 0; i < s->member_count; i++) {
        if (!s->members[i].alive) {
            sim_member_start(&s->members[i]);
        }
    }
}

static void run(struct sim *s, uint64_t ns)
{
    if (!sim_run_for(s, ns)) {
        fail_msg("%s: %s", s->report.rule, s->report.text);
    }
}

static struct sim *group_with_leader(unsigned member_count)
{
    struct sim *s = group(member_count);
    start_all(s);
    run(s, 5 * SIM_SECOND);
    assert_true(sim_leader(s) >= 0);
    return s;
}

static unsigned leader(const struct sim *s)
{
    assert_true(sim_leader(s) >= 0);
    return (unsigned)sim_leader(s);
}

static unsigned follower(const struct sim *s)
{
    return (leader(s) + 1) % s->member_count;
}

static struct sim_op *put(struct sim *s, unsigned client, unsigned member)
{
    struct sim_request what = {
        .kind = SIM_OP_PUT, .key = client % SIM_KEY_COUNT, .value = ++s->value_last};
    return sim_client_call(s, client, member, &what);
}

static struct sim_op *read_all(struct sim *s, unsigned client, unsigned member)
{
    struct sim_request what = {.kind = SIM_OP_READ};
    return sim_client_call(s, client, member, &what);
}

/* `count` puts one after another at `member`; how many were acknowledged. */
static unsigned put_many(struct sim *s, unsigned member, unsigned count)
{
    unsigned acknowledged = 0;
    for (unsigned i = 0; i < count && s->members[member].alive; i++) {
        struct sim_op *op = put(s, 0, member);
        for (unsigned waited = 0; waited < PATIENCE && !op->done; waited++) {
            run(s, 10 * SIM_MS);
        }
        acknowledged += op->done && op->status == NB_OK;
    }
    return acknowledged;
}

static void assert_equal_members(struct sim *s)
{
    bool all[SIM_MEMBER_COUNT_MAX] = {true, true, true, true, true};
    sim_check_end(s, all);
    if (s->report.rule != NULL) {
        fail_msg("%s: %s", s->report.rule, s->report.text);
    }
}

/* ---- requests ---- */

static void R23_without_a_leader_a_proposal_waits_and_is_offered_later(void **state)
{
    (void)state;
    struct sim *s = group(3);
    sim_member_start(&s->members[0]);
    run(s, SIM_SECOND);
    struct sim_op *op = put(s, 0, 0);
    run(s, 100 * SIM_MS);
    assert_false(op->done);
    start_all(s);
    run(s, 10 * SIM_SECOND);
    assert_true(op->done);
    /* An election may take longer than the request may wait; the next one finds the leader. */
    struct sim_op *next = put(s, 1, 0);
    run(s, SIM_SECOND);
    assert_true(next->done);
    assert_int_equal(next->status, NB_OK);
    assert_true(op->status != NB_OK || op->log_index != 0);
    sim_destroy(s);
}

static void R23_a_proposal_that_timed_out_is_not_offered_long_after(void **state)
{
    (void)state;
    struct sim *s = group(3);
    sim_member_start(&s->members[0]);
    struct sim_op *op = put(s, 0, 0);
    run(s, 4 * SIM_SECOND);
    assert_true(op->done);
    assert_int_equal(op->status, NB_TIMEOUT_LEADER_FAIL);
    start_all(s);
    run(s, 10 * SIM_SECOND);
    assert_true(leader(s) < 3);
    assert_int_equal(op->log_index, 0);
    sim_destroy(s);
}

static void R23_a_proposal_in_the_log_is_answered_unknown_when_its_quorum_is_gone(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    unsigned first = leader(s);
    for (unsigned i = 0; i < 3; i++) {
        s->network.cut[first][i] = true;
    }
    struct sim_op *op = put(s, 0, first);
    run(s, 4 * SIM_SECOND);
    assert_true(op->done);
    assert_true(op->status == NB_TIMEOUT || op->status == NB_TIMEOUT_LEADER_FAIL);
    sim_destroy(s);
}

static void R24_a_forwarded_proposal_is_answered_by_the_follower_that_took_it(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    struct sim_op *op = put(s, 0, follower(s));
    run(s, SIM_SECOND);
    assert_true(op->done);
    assert_int_equal(op->status, NB_OK);
    assert_int_equal(op->answer_index, op->log_index);
    assert_int_equal(s->sent[RAFT_MSG_PROPOSE], 1);
    sim_destroy(s);
}

static void Q03_reads_of_one_turn_share_a_round(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    struct sim_op *ops[FEW];
    for (unsigned i = 0; i < FEW; i++) {
        ops[i] = read_all(s, i, follower(s));
    }
    run(s, 90 * SIM_MS);
    for (unsigned i = 0; i < FEW; i++) {
        assert_true(ops[i]->done);
        assert_int_equal(ops[i]->status, NB_OK);
    }
    assert_true(s->sent[RAFT_MSG_READ] <= 2); /* raft repeats it at a tick */
    sim_destroy(s);
}

static void R22_request_ids_of_two_boots_never_meet(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(1);
    struct sim_op *before = put(s, 0, 0);
    run(s, SIM_SECOND);
    sim_member_crash(&s->members[0], true, SIM_MS);
    run(s, 5 * SIM_SECOND);
    struct sim_op *after = put(s, 0, 0);
    run(s, SIM_SECOND);
    assert_int_equal(after->status, NB_OK);
    uint64_t distance = after->request.id - before->request.id;
    assert_true(distance > 1000000 && distance < UINT64_MAX - 1000000);
    sim_destroy(s);
}

static void must_not_be_called(struct replica_request *request, enum nb_status status,
                               const struct machine_result *result)
{
    (void)request;
    (void)status;
    (void)result;
    fail_msg("a refused request was answered");
}

static void P3_a_refused_request_has_no_effect_and_no_answer(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(1);
    struct replica *r = s->members[0].replica;
    struct replica_request request = {.done = must_not_be_called};
    size_t size = (1536 << 10) + 1;
    uint8_t *large = nb_alloc_zero(1, size);
    struct raft_status before, after;
    raft_status(replica_raft(r), &before);
    assert_int_equal(replica_propose(r, MACHINE_PUT, nb_bytes_of(large, size), &request),
                     NB_TOO_LARGE);
    run(s, SIM_SECOND);
    raft_status(replica_raft(r), &after);
    assert_int_equal(before.last.index, after.last.index);
    nb_free(large);
    sim_destroy(s);
}

/* The clients of a follower do not learn that the leader died: they wait an election longer. */
static void R22_proposals_forwarded_to_a_leader_that_dies_are_offered_to_the_next(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    unsigned dead = leader(s), taker = follower(s);
    struct sim_op *ops[FEW];
    for (unsigned i = 0; i < FEW; i++) {
        ops[i] = put(s, i, taker);
        run(s, SIM_MS / 2); /* some arrive, some are in the log of two, some are under way */
    }
    sim_member_stop(&s->members[dead], true);
    uint64_t begun_ns = s->now_ns;
    while (sim_leader(s) < 0 && s->now_ns - begun_ns < 2 * SIM_SECOND) {
        run(s, 10 * SIM_MS);
    }
    bool in_time = sim_leader(s) >= 0; /* an election may take longer than a request may wait */
    run(s, SIM_SECOND / 4);
    for (unsigned i = 0; i < FEW && in_time; i++) {
        assert_true(ops[i]->done);
        assert_int_equal(ops[i]->status, NB_OK);
    }
    sim_member_start(&s->members[dead]);
    run(s, 3 * SIM_SECOND);
    assert_equal_members(s);
    sim_destroy(s);
}

/* What a follower forwards is lost, `told` says so, and the same leader leads on. */
static void lose_proposals(void (*told)(struct replica *r, uint64_t id))
{
    struct sim *s = group_with_leader(3);
    unsigned first = leader(s), taker = follower(s);
    uint64_t term = replica_term(s->members[first].replica);
    struct sim_op *ops[FEW];
    s->network.cut[taker][first] = true;
    for (unsigned i = 0; i < FEW; i++) {
        ops[i] = put(s, i, taker);
        run(s, SIM_MS);
    }
    assert_true(s->sent[RAFT_MSG_PROPOSE] != 0);
    told(s->members[taker].replica, s->members[first].id);
    sim_member_settle(&s->members[taker]);
    sim_network_heal(s);
    run(s, SIM_SECOND);
    assert_int_equal(leader(s), first);
    assert_int_equal(replica_term(s->members[first].replica), term);
    for (unsigned i = 0; i < FEW; i++) {
        assert_true(ops[i]->done);
        assert_int_equal(ops[i]->status, NB_OK);
    }
    sim_destroy(s);
}

static void R22_proposals_lost_with_a_connection_are_offered_to_the_same_leader_again(void **state)
{
    (void)state;
    lose_proposals(replica_peer_lost);
}

static void
R22_proposals_thrown_away_on_their_way_are_offered_to_the_same_leader_again(void **state)
{
    (void)state;
    lose_proposals(replica_peer_unreachable);
}

/* Ids stand in the log in their order: the machine takes one far below the highest for seen. */
static void R22_a_proposal_does_not_overtake_those_that_wait_for_a_leader(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    unsigned taker = follower(s);
    struct replica *r = s->members[taker].replica;
    replica_peer_lost(r, s->members[leader(s)].id);
    struct sim_op *early = put(s, 0, taker);
    run(s, SIM_MS);
    assert_int_equal(replica_waiting_count(r), 1);
    while (replica_leader(r) == 0) {
        assert_true(sim_step(s)); /* the leader is heard; the turn that offers is yet to come */
    }
    assert_int_equal(replica_waiting_count(r), 1);
    struct sim_op *late = put(s, 1, taker);
    run(s, SIM_SECOND);
    assert_true(early->done && late->done);
    assert_true(early->log_index < late->log_index);
    sim_destroy(s);
}

static void R22_a_proposal_that_arrives_twice_counts_once(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    s->network.twice_per_mille = 1000;
    int64_t before = mvcc_current_revision(machine_mvcc(s->members[0].machine));
    assert_int_equal(put_many(s, follower(s), FEW), FEW);
    run(s, SIM_SECOND);
    assert_true(s->report.duplicate_count >= FEW);
    assert_int_equal(mvcc_current_revision(machine_mvcc(s->members[0].machine)), before + FEW);
    assert_equal_members(s);
    sim_destroy(s);
}

static void Z03_proposals_that_wait_for_a_leader_are_forgotten_with_their_requests(void **state)
{
    (void)state;
    struct sim *s = group(3);
    sim_member_start(&s->members[0]);
    struct replica *r = s->members[0].replica;
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < FEW; i++) {
            (void)put(s, i, 0);
        }
        run(s, 10 * SIM_MS);
        assert_int_equal(replica_waiting_count(r), FEW);
        run(s, 4 * SIM_SECOND);
        assert_int_equal(replica_waiting_count(r), 0);
    }
    sim_destroy(s);
}

/* Peers that can be reached and say nothing of a leader have none: why wait? */
static void E13_the_first_election_does_not_wait_a_whole_timeout(void **state)
{
    (void)state;
    uint64_t took_ns[2];
    for (unsigned told = 0; told < 2; told++) {
        struct sim *s = group(3);
        start_all(s);
        uint64_t begun_ns = s->now_ns;
        for (unsigned i = 0; i < 3 && told != 0; i++) {
            replica_peer_up(s->members[i].replica, s->members[(i + 1) % 3].id);
        }
        while (sim_leader(s) < 0) {
            run(s, 10 * SIM_MS);
        }
        took_ns[told] = s->now_ns - begun_ns;
        sim_destroy(s);
    }
    assert_true(took_ns[1] < took_ns[0]);
}

/* E01: who comes back in a hurry hears the leader first. */
static void E01_a_hurried_election_leaves_a_healthy_leader_alone(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    unsigned first = leader(s), other = follower(s);
    uint64_t term = replica_term(s->members[first].replica);
    for (unsigned i = 0; i < FEW; i++) {
        sim_member_stop(&s->members[other], true);
        run(s, SIM_SECOND / 2);
        sim_member_start(&s->members[other]);
        replica_peer_up(s->members[other].replica, s->members[first].id);
        run(s, 2 * SIM_SECOND);
        assert_int_equal(leader(s), first);
        assert_int_equal(replica_term(s->members[first].replica), term);
    }
    sim_destroy(s);
}

/* ---- snapshots ---- */

/* A follower that was away while the others' log went on without it. */
static struct sim *group_with_laggard(unsigned *out_laggard)
{
    struct sim *s = group_with_leader(3);
    unsigned laggard = follower(s);
    sim_member_stop(&s->members[laggard], true);
    assert_true(put_many(s, leader(s), MANY) > MANY / 2);
    *out_laggard = laggard;
    return s;
}

static void S01_a_follower_that_lags_gets_a_snapshot_and_goes_on(void **state)
{
    (void)state;
    unsigned laggard;
    struct sim *s = group_with_laggard(&laggard);
    sim_member_start(&s->members[laggard]);
    run(s, 5 * SIM_SECOND);
    assert_int_equal(s->report.install_count, 1);
    struct sim_op *op = put(s, 1, laggard);
    run(s, 3 * SIM_SECOND);
    assert_int_equal(op->status, NB_OK);
    assert_equal_members(s);
    sim_destroy(s);
}

static bool is_noted(struct sim_member *m)
{
    struct nb_buf text = {0};
    enum nb_status status = disk_read_file(m->disk, "note", 64, &text);
    nb_buf_deinit(&text);
    return status == NB_OK;
}

static void S03_the_note_of_an_install_is_gone_when_it_is_done(void **state)
{
    (void)state;
    unsigned laggard;
    struct sim *s = group_with_laggard(&laggard);
    sim_member_start(&s->members[laggard]);
    run(s, 5 * SIM_SECOND);
    assert_int_equal(s->report.install_count, 1);
    assert_false(is_noted(&s->members[laggard]));
    sim_destroy(s);
}

/* The sender may be told that all of it has arrived long before it hears that it is installed. What
 * is written in between must not cost a second copy. */
static void S08_the_log_is_kept_until_the_receiver_says_that_it_has_the_copy(void **state)
{
    (void)state;
    unsigned laggard;
    struct sim *s = group_with_laggard(&laggard);
    s->network.delay_max_ns = 300 * SIM_MS;
    s->network.snapshot_takes_ns = 50 * SIM_MS;
    sim_member_start(&s->members[laggard]);
    while (s->report.snapshot_count == 0) {
        run(s, SIM_MS);
    }
    for (unsigned i = 0; i < FEW; i++) {
        (void)put(s, i, leader(s));
    }
    while (sim_member_applied(&s->members[laggard]) < MANY / 2) {
        run(s, SIM_MS);
    }
    uint64_t label = sim_member_applied(&s->members[laggard]);
    struct replica_progress p = {0};
    struct replica_status before = {0};
    while (p.match_index < label) {
        replica_status(s->members[leader(s)].replica, &before);
        run(s, SIM_MS);
        assert_true(replica_progress(s->members[leader(s)].replica, s->members[laggard].id, &p));
    }
    assert_true(before.raft.first_index <= label + 1);
    run(s, 10 * SIM_SECOND);
    assert_equal_members(s);
    sim_destroy(s);
}

/* What is written while a copy is on its way must still be in the log when it has arrived: else the
 * receiver is too late again, and again. */
static void S08_the_log_is_kept_while_a_copy_is_sent(void **state)
{
    (void)state;
    unsigned laggard;
    struct sim *s = group_with_laggard(&laggard);
    s->network.snapshot_takes_ns = 20 * SIM_SECOND;
    sim_member_start(&s->members[laggard]);
    run(s, SIM_SECOND);
    assert_int_equal(s->report.snapshot_count, 1);
    assert_true(put_many(s, leader(s), MANY) > MANY / 2);
    run(s, 30 * SIM_SECOND);
    assert_int_equal(s->report.snapshot_count, 1);
    assert_int_equal(s->report.install_count, 1);
    assert_equal_members(s);
    struct replica_status status; /* and afterwards it goes */
    assert_int_equal(put_many(s, leader(s), 1), 1);
    run(s, SIM_SECOND);
    replica_status(s->members[leader(s)].replica, &status);
    assert_true(status.raft.first_index + MANY / 2 > status.raft.last.index);
    sim_destroy(s);
}

static void
S05_a_leader_elected_again_sends_one_copy_to_a_member_that_it_asked_for_before(void **state)
{
    (void)state;
    unsigned laggard;
    struct sim *s = group_with_laggard(&laggard);
    unsigned first = leader(s);
    struct sim_member *m = &s->members[first];
    for (unsigned i = 0; i < 3; i++) {
        s->members[i].backend_stuck_until_ns = s->now_ns + BACKEND_STUCK_SECONDS * SIM_SECOND;
    }
    sim_member_start(&s->members[laggard]);
    run(s, 500 * SIM_MS); /* now a copy is being made */
    assert_int_equal(s->report.snapshot_count, 0);
    raft_resign(replica_raft(m->replica));
    sim_member_settle(m);
    run(s, 5 * SIM_SECOND);
    unsigned second = leader(s);
    if (second != first) {
        assert_int_equal(replica_transfer(s->members[second].replica, m->id), NB_OK);
        sim_member_settle(&s->members[second]);
        run(s, SIM_SECOND);
    }
    assert_int_equal(leader(s), first);
    for (unsigned i = 0; i < 3; i++) {
        s->members[i].backend_stuck_until_ns = 0;
    }
    run(s, 5 * SIM_SECOND);
    assert_int_equal(s->report.snapshot_count, 1);
    assert_int_equal(s->report.install_count, 1);
    assert_equal_members(s);
    sim_destroy(s);
}

static void copied(void *context, enum nb_status status, const char *text)
{
    (void)text;
    *(enum nb_status *)context = status;
}

static void S02_a_received_file_that_is_not_what_was_announced_comes_to_nothing(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    assert_int_equal(put_many(s, leader(s), FEW), FEW);
    run(s, SIM_SECOND);
    struct sim_member *m = &s->members[follower(s)];
    enum nb_status status = NB_BUSY;
    backend_copy(m->backend, "snap/wrong", copied, &status);
    backend_wait(m->backend);
    assert_int_equal(status, NB_OK);
    struct raft_snapshot label = {0};
    const struct raft *of_leader = replica_raft(s->members[leader(s)].replica);
    assert_true(raft_conf_at(of_leader, sim_member_applied(m), &label.conf));
    label.last = (struct raft_entry_id){.index = sim_member_applied(m) + MANY,
                                        .term = replica_term(m->replica)};
    struct raft_msg announce = raft_snapshot_msg(of_leader, m->id, &label);
    replica_snapshot_received(m->replica, "snap/wrong", &announce);
    assert_false(is_noted(m));
    size_t len;
    assert_null(disk_memory_content(m->disk, "snap/wrong", &len));
    sim_member_settle(m);
    run(s, SIM_SECOND);
    assert_int_equal(put_many(s, follower(s), 1), 1);
    run(s, SIM_SECOND);
    assert_int_equal(s->report.fatal_count, 0);
    assert_equal_members(s);
    sim_destroy(s);
}

/* The disk of a laggard has no room at its `call`th call after a start. True when it got that far.
 * It ends for a write of the log only, which never needs room on a real disk. */
static bool full_in_install(uint64_t call)
{
    unsigned laggard;
    struct sim *s = group_with_laggard(&laggard);
    struct sim_member *m = &s->members[laggard];
    sim_member_start(m);
    uint64_t calls = disk_memory_calls(m->disk);
    disk_memory_fail_at(m->disk, call, NB_NO_SPACE_DISK);
    run(s, 3 * SIM_SECOND);
    bool reached = disk_memory_calls(m->disk) > calls + call;
    disk_memory_fail_at(m->disk, call, NB_OK);
    run(s, 8 * SIM_SECOND);
    if (s->report.fatal_count != 0) {
        assert_non_null(strstr(m->last_words, "the disk of the log is full"));
    }
    assert_true(m->alive);
    assert_false(is_noted(m));
    struct sim_op *op = put(s, 1, laggard);
    run(s, 3 * SIM_SECOND);
    assert_int_equal(op->status, NB_OK);
    assert_equal_members(s);
    sim_destroy(s);
    return reached;
}

static void W13_an_install_that_finds_the_disk_full_waits_for_room(void **state)
{
    (void)state;
    uint64_t call = 0;
    while (call < 200 && full_in_install(call)) {
        call++;
    }
    assert_true(call > 8);
}

/* Takes the power away, wherever the process is, and lets it start again. */
static void pull_plug(struct sim_member *m)
{
    if (m->alive) {
        sim_member_crash(m, true, SIM_MS);
    } else {
        disk_memory_crash(m->disk); /* it ended by itself, and will start again */
    }
}

/* Stops the disk of a laggard at its `call`th call after a start; true when it got that far. */
static bool crash_in_install(uint64_t call)
{
    unsigned laggard;
    struct sim *s = group_with_laggard(&laggard);
    struct sim_member *m = &s->members[laggard];
    sim_member_start(m);
    uint64_t calls = disk_memory_calls(m->disk);
    disk_memory_stop_at(m->disk, call);
    run(s, 3 * SIM_SECOND);
    bool reached = disk_memory_calls(m->disk) > calls + call;
    pull_plug(m);
    run(s, 12 * SIM_SECOND);
    assert_true(m->alive);
    struct sim_op *op = put(s, 1, laggard);
    run(s, 3 * SIM_SECOND);
    assert_true(op->done);
    assert_int_equal(op->status, NB_OK);
    assert_false(is_noted(m));
    assert_equal_members(s);
    sim_destroy(s);
    return reached;
}

/* The applied index comes with the data, from the snapshot or from before it. [S04] */
static void S03_a_crash_at_any_disk_call_of_an_install_restarts_cleanly(void **state)
{
    (void)state;
    uint64_t call = 0;
    while (call < 200 && crash_in_install(call)) {
        call++;
    }
    assert_true(call > 8); /* temp file, write, sync, rename, folder, note, log, note */
}

/* The backend came from the snapshot, the log is from before it and ends with entries of a leader
 * that was deposed: the label says what holds. */
static void S03_entries_of_a_deposed_leader_do_not_survive_an_install_cut_off(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    unsigned old = leader(s);
    for (unsigned i = 0; i < 3; i++) {
        s->network.cut[old][i] = s->network.cut[i][old] = true;
    }
    for (unsigned i = 0; i < FEW; i++) {
        (void)put(s, i, old); /* these stay its own */
    }
    run(s, 5 * SIM_SECOND);
    sim_member_stop(&s->members[old], false);
    assert_true(put_many(s, leader(s), MANY) > MANY / 2);
    sim_network_heal(s);
    struct sim_member *m = &s->members[old];
    for (uint64_t call = 0; call < 60; call++) {
        if (!m->alive) {
            sim_member_start(m);
        }
        disk_memory_stop_at(m->disk, call);
        run(s, 2 * SIM_SECOND);
        sim_member_stop(m, true);
        disk_memory_crash(m->disk);
        run(s, 5 * SIM_SECOND);
    }
    if (!m->alive) {
        sim_member_start(m);
    }
    run(s, 5 * SIM_SECOND);
    assert_equal_members(s);
    sim_destroy(s);
}

/* ---- the log ---- */

static void P5_the_log_is_kept_until_the_backend_holds_its_effects(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(1);
    struct sim_member *m = &s->members[0];
    struct replica_status before, after;
    replica_status(m->replica, &before);
    m->backend_stuck_until_ns = s->now_ns + BACKEND_STUCK_SECONDS * SIM_SECOND;
    assert_int_equal(put_many(s, 0, MANY), MANY);
    replica_status(m->replica, &after);
    assert_int_equal(after.backend_index, before.backend_index);
    assert_true(after.raft.first_index <= after.backend_index + 1);
    m->backend_stuck_until_ns = 0;
    run(s, 5 * SIM_SECOND);
    replica_status(m->replica, &after);
    assert_int_equal(after.backend_index, after.raft.applied_index);
    assert_int_equal(after.raft.first_index, after.backend_index + 1 - s->catchup_entry_count);
    sim_destroy(s);
}

static void W05_a_failed_write_of_the_log_ends_the_member_and_acknowledges_nothing(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(1);
    disk_memory_fail_at(s->members[0].disk, 0, NB_IO);
    struct sim_op *op = put(s, 0, 0);
    struct sim_op *other = put(s, 1, 0);
    run(s, 500 * SIM_MS);
    assert_int_equal(s->report.fatal_count, 1);
    assert_false(s->members[0].alive);
    assert_int_equal(op->status, NB_STOPPED);
    assert_int_equal(other->status, NB_STOPPED);
    run(s, 10 * SIM_SECOND); /* it starts again from what is durable */
    assert_int_equal(put_many(s, 0, 1), 1);
    assert_int_equal(s->report.fatal_count, 1);
    sim_destroy(s);
}

static void W13_a_full_disk_holds_writes_back_and_recovers_without_a_restart(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(1);
    disk_memory_limit(s->members[0].disk, 0);
    unsigned acknowledged = put_many(s, 0, MANY); /* the first fit into the segment there is */
    assert_true(s->members[0].alive);
    disk_memory_limit(s->members[0].disk, UINT64_MAX);
    run(s, SIM_SECOND);
    assert_int_equal(put_many(s, 0, FEW), FEW);
    assert_true(acknowledged <= MANY);
    assert_int_equal(s->report.fatal_count, 0);
    sim_destroy(s);
}

static void fill_backend(struct sim_member *m, bool full)
{
    backend_memory_fail(m->backend, NB_NO_SPACE_DISK, full ? UINT32_MAX : 0);
}

/* What a follower would forward is refused there, before anybody has heard of it. */
static void W13_followers_of_a_leader_without_room_know_it_at_once(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    unsigned first = leader(s);
    assert_false(replica_disk_is_full(s->members[follower(s)].replica));
    fill_backend(&s->members[first], true);
    (void)put(s, 0, first);
    run(s, SIM_ELECTION_NS);
    assert_int_equal(leader(s), first);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(replica_disk_is_full(s->members[i].replica));
    }
    fill_backend(&s->members[first], false);
    run(s, SIM_ELECTION_NS);
    for (unsigned i = 0; i < 3; i++) {
        assert_false(replica_disk_is_full(s->members[i].replica));
    }
    assert_int_equal(put_many(s, follower(s), 1), 1);
    sim_destroy(s);
}

/* A new leader has room: nobody goes on believing what the one before said. */
static void W13_a_leader_without_room_is_forgotten_with_its_leadership(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    unsigned first = leader(s);
    fill_backend(&s->members[first], true);
    (void)put(s, 0, first);
    run(s, SIM_ELECTION_NS);
    assert_true(replica_hand_over(s->members[first].replica));
    sim_member_settle(&s->members[first]);
    run(s, SIM_ELECTION_NS);
    assert_int_not_equal(leader(s), first);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(replica_disk_is_full(s->members[i].replica), i == first);
    }
    sim_destroy(s);
}

/* The others take writes and this member's backend none: what waits in its memory stays bounded. */
static void W13_Z03_what_waits_for_a_full_backend_is_bounded(void **state)
{
    (void)state;
    enum { ROUNDS = 40, A_ROUND = 100, BOUND = 5 * (64 << 10) };
    struct sim *s = group_with_leader(3);
    struct sim_member *m = &s->members[follower(s)];
    unsigned first = leader(s);
    size_t worst = 0, last = 0;
    fill_backend(m, true);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < A_ROUND; i++) {
            (void)put(s, i % FEW, first);
        }
        run(s, 50 * SIM_MS);
        last = backend_batch_bytes(m->backend);
        worst = last > worst ? last : worst;
    }
    assert_true(worst > 2 * (64 << 10)); /* enough was written to show it */
    assert_true(worst <= BOUND);
    assert_int_equal(s->report.write_count, ROUNDS * A_ROUND);
    fill_backend(m, false);
    run(s, 10 * SIM_SECOND);
    assert_equal_members(s);
    sim_destroy(s);
}

static void W13_Z03_a_leader_whose_backend_is_full_refuses_what_it_cannot_hold(void **state)
{
    (void)state;
    enum { PUTS_MAX = 10000, BOUND = 5 * (64 << 10) };
    struct sim *s = group_with_leader(1);
    struct sim_member *m = &s->members[0];
    fill_backend(m, true);
    struct sim_op *op = put(s, 0, 0);
    for (unsigned i = 0; i < PUTS_MAX && !op->refused; i++) {
        run(s, i % MANY == 0 ? 50 * SIM_MS : 0);
        op = put(s, i % FEW, 0);
    }
    assert_true(op->refused);
    assert_int_equal(op->status, NB_NO_SPACE);
    assert_true(backend_batch_bytes(m->backend) <= BOUND);
    fill_backend(m, false);
    run(s, SIM_SECOND);
    assert_int_equal(put_many(s, 0, 1), 1);
    sim_destroy(s);
}

/* Stops the disk of the only member at every call of a short workload. */
static void W16_every_prefix_of_disk_calls_recovers_what_was_acknowledged(void **state)
{
    (void)state;
    bool reached = true;
    uint64_t call = 0;
    for (; reached && call < 400; call++) {
        struct sim *s = group_with_leader(1);
        struct sim_member *m = &s->members[0];
        uint64_t calls = disk_memory_calls(m->disk);
        disk_memory_stop_at(m->disk, call);
        (void)put_many(s, 0, MANY);
        reached = disk_memory_calls(m->disk) > calls + call;
        pull_plug(m);
        run(s, 8 * SIM_SECOND); /* the rules are checked on the way */
        assert_true(m->alive);
        assert_int_equal(put_many(s, 0, 1), 1);
        assert_equal_members(s);
        sim_destroy(s);
    }
    assert_true(call > MANY);
}

/* ---- the rest ---- */

static void K10_leadership_is_handed_over_when_asked(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    unsigned first = leader(s);
    assert_false(replica_hand_over(s->members[follower(s)].replica));
    assert_true(replica_hand_over(s->members[first].replica));
    sim_member_settle(&s->members[first]);
    run(s, 500 * SIM_MS); /* less than an election timeout */
    assert_int_not_equal(leader(s), first);
    sim_destroy(s);
}

/* The one that is asked first is cut off at that moment: the others are soon asked instead. */
static void E08_K10_when_the_first_does_not_take_over_the_next_one_is_asked(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(5);
    unsigned first = leader(s);
    struct replica *r = s->members[first].replica;
    struct raft_status status;
    assert_true(replica_hand_over(r));
    raft_status(replica_raft(r), &status);
    s->network.cut[first][sim_member_of_id(s, status.transfer_target)->place] = true;
    sim_member_settle(&s->members[first]);
    struct sim_op *op = put(s, 0, first);
    run(s, SIM_ELECTION_NS / 4 + SIM_TICK_MS * SIM_MS);
    assert_int_not_equal(leader(s), first);
    assert_int_not_equal(s->members[leader(s)].id, status.transfer_target);
    run(s, 2 * SIM_TICK_MS * SIM_MS);
    assert_true(op->done);
    assert_int_equal(op->status, NB_OK);
    sim_destroy(s);
}

/* Nobody can be reached: it is known soon, so that whoever wants to stop does not wait for long. */
static void E08_K10_when_nobody_takes_over_the_leader_gives_up(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    unsigned first = leader(s);
    for (unsigned i = 0; i < 3; i++) {
        s->network.cut[first][i] = true;
    }
    assert_true(replica_hand_over(s->members[first].replica));
    sim_member_settle(&s->members[first]);
    assert_true(replica_hands_over(s->members[first].replica));
    run(s, SIM_ELECTION_NS * 3 / 4);
    assert_false(replica_hands_over(s->members[first].replica));
    sim_destroy(s);
}

static void a_commit_that_is_wanted_is_done_when_the_backend_holds_it(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(1);
    struct sim_member *m = &s->members[0];
    m->backend_stuck_until_ns = s->now_ns + BACKEND_STUCK_SECONDS * SIM_SECOND;
    assert_int_equal(put_many(s, 0, FEW), FEW);
    uint64_t wanted = replica_commit_wanted(m->replica);
    uint64_t applied = sim_member_applied(m);
    run(s, SIM_SECOND);
    assert_false(replica_commit_done(m->replica, wanted));
    m->backend_stuck_until_ns = 0;
    run(s, 2 * SIM_SECOND);
    assert_true(replica_commit_done(m->replica, wanted));
    assert_true(backend_label(m->backend)->applied_index >= applied);
    assert_true(replica_commit_done(m->replica, replica_commit_wanted(m->replica)));
    sim_destroy(s);
}

static void a_cluster_whose_members_all_lost_power_comes_back(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    assert_true(put_many(s, leader(s), MANY) > MANY / 2);
    for (unsigned i = 0; i < 3; i++) {
        sim_member_crash(&s->members[i], true, SIM_SECOND);
    }
    run(s, 8 * SIM_SECOND);
    assert_int_equal(put_many(s, leader(s), 1), 1);
    run(s, 2 * SIM_SECOND);
    assert_equal_members(s);
    sim_destroy(s);
}

/* More than a turn applies is behind the backend at a start: all of it is applied, once and in
 * order (the machine and the rules look on), and only then is this member's own state shown. */
static void R19_Q10_a_long_log_is_replayed_in_pieces_before_anything_is_shown(void **state)
{
    (void)state;
    enum { ROUNDS = 12, A_ROUND = 900, EVENTS_MAX = 1000 };
    struct sim *s = group_with_leader(1);
    struct sim_member *m = &s->members[0];
    m->backend_stuck_until_ns = s->now_ns + BACKEND_STUCK_SECONDS * SIM_SECOND;
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < A_ROUND; i++) {
            (void)put(s, 0, 0);
        }
        run(s, SIM_SECOND);
    }
    assert_int_equal(s->report.write_count, ROUNDS * A_ROUND);
    sim_member_stop(m, true);
    m->backend_stuck_until_ns = 0;
    sim_member_start(m);
    struct raft_status first;
    raft_status(replica_raft(m->replica), &first);
    uint64_t begin = sim_member_applied(m);
    assert_true(first.commit_index - begin >= (ROUNDS - 1) * A_ROUND);
    unsigned pieces = 0, events = 0;
    while (sim_member_applied(m) < first.commit_index && events++ < EVENTS_MAX) {
        assert_false(replica_caught_up(m->replica));
        uint64_t before = sim_member_applied(m);
        assert_true(sim_step(s));
        pieces += sim_member_applied(m) != before;
    }
    assert_true(pieces > 1);
    assert_true(replica_caught_up(m->replica));
    run(s, 5 * SIM_SECOND);
    assert_equal_members(s);
    sim_destroy(s);
}

static void E12_a_leader_whose_disk_hangs_gives_way(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    unsigned first = leader(s);
    s->members[first].disk_stuck_until_ns = s->now_ns + 100 * SIM_SECOND;
    (void)put(s, 0, first);
    run(s, 15 * SIM_SECOND);
    assert_int_not_equal(leader(s), first);
    assert_int_equal(put_many(s, leader(s), 1), 1);
    sim_destroy(s);
}

/* ---- members ---- */

struct change {
    struct replica_request request; /* first */
    bool done;
    enum nb_status status;
};

static void on_changed(struct replica_request *request, enum nb_status status,
                       const struct machine_result *result)
{
    (void)result;
    struct change *c = (struct change *)request;
    c->done = true;
    c->status = status;
}

/* The members as `m` has applied them; `out` is empty before. */
static void members_now(const struct sim_member *m, struct machine_members *out)
{
    const struct machine_members *now = machine_members(m->machine);
    for (size_t i = 0; i < now->count; i++) {
        machine_members_set(out, &now->items[i]);
    }
}

static void set_at(struct machine_members *target, uint64_t id, const char *at, bool learner)
{
    char *urls[] = {nb_strdup(at)}, name[] = "";
    machine_members_set(
        target,
        &(struct machine_member){
            .id = id, .name = name, .peer_urls = urls, .peer_url_count = 1, .is_learner = learner});
    nb_free(urls[0]);
}

static enum nb_status ask_for(struct sim *s, const struct machine_members *target, struct change *c)
{
    struct sim_member *m = &s->members[leader(s)];
    *c = (struct change){.request.done = on_changed};
    enum nb_status status = replica_change_members(m->replica, target, &c->request);
    sim_member_settle(m);
    return status;
}

/* One more process that knows nothing. */
static struct sim_member *joiner(struct sim *s)
{
    unsigned place = s->member_count++;
    sim_member_init(s, place);
    s->members[place].joins = true;
    sim_member_start(&s->members[place]);
    return &s->members[place];
}

static void M05_a_learner_joins_is_promoted_and_replaces_a_voter_in_one_joint_step(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    struct machine_members target = {0};
    struct change c;
    unsigned first = leader(s);
    assert_int_equal(put_many(s, first, FEW), FEW);
    members_now(&s->members[first], &target);
    set_at(&target, 4, "http://d", true);
    assert_int_equal(ask_for(s, &target, &c), NB_OK);
    struct sim_member *d = joiner(s);
    run(s, 5 * SIM_SECOND);
    assert_true(c.done && c.status == NB_OK);
    assert_true(replica_is_learner(d->replica));
    struct replica_progress p;
    assert_true(replica_progress(s->members[leader(s)].replica, 4, &p));
    assert_true(p.learner && p.active && !p.snapshot);
    assert_int_equal(p.match_index, sim_member_applied(d));
    unsigned gone = follower(s) == d->place ? (d->place + 1) % 3 : follower(s);
    set_at(&target, 4, "http://d", false);
    machine_members_remove(&target, s->members[gone].id);
    struct machine_members whole = {0}; /* a target has no memory of who left */
    members_now(&s->members[leader(s)], &whole);
    set_at(&whole, 4, "http://d", false);
    machine_members_remove(&whole, s->members[gone].id);
    assert_int_equal(ask_for(s, &whole, &c), NB_OK);
    assert_false(replica_can_change_members(s->members[leader(s)].replica)); /* [M02] */
    run(s, 5 * SIM_SECOND);
    assert_true(c.done && c.status == NB_OK);
    assert_int_equal(raft_conf(replica_raft(d->replica))->outgoing_count, 0);
    assert_false(replica_is_learner(d->replica));
    assert_true(s->members[gone].removed); /* [E05] it heard of it */
    assert_int_equal(put_many(s, leader(s), FEW), FEW);
    machine_members_deinit(&target);
    machine_members_deinit(&whole);
    sim_destroy(s);
}

static void M07_M08_what_cannot_be_is_refused_without_effect(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    struct machine_members target = {0}, none = {0};
    struct change c;
    members_now(&s->members[leader(s)], &target);
    assert_int_equal(ask_for(s, &target, &c), NB_INVALID); /* nothing changes */
    assert_int_equal(ask_for(s, &none, &c), NB_INVALID);   /* no voter left */
    struct sim_member *other = &s->members[follower(s)];
    assert_int_equal(replica_change_members(other->replica, &target, &c.request), NB_NOT_LEADER);
    machine_members_remove(&target, other->id);
    assert_int_equal(ask_for(s, &target, &c), NB_OK);
    struct change second;
    assert_int_equal(ask_for(s, &target, &second), NB_BUSY);
    run(s, 3 * SIM_SECOND);
    assert_true(c.done && c.status == NB_OK);
    set_at(&target, other->id, "http://again", true);
    assert_int_equal(ask_for(s, &target, &c), NB_INVALID); /* an id that left stays out */
    machine_members_deinit(&target);
    sim_destroy(s);
}

static void M11_an_update_changes_addresses_and_no_votes(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    struct machine_members target = {0};
    struct change c;
    members_now(&s->members[leader(s)], &target);
    set_at(&target, 2, "http://moved", false);
    struct raft_conf before = *raft_conf(replica_raft(s->members[leader(s)].replica));
    assert_int_equal(ask_for(s, &target, &c), NB_OK);
    run(s, 3 * SIM_SECOND);
    assert_true(c.done && c.status == NB_OK);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(raft_conf_equal(&before, raft_conf(replica_raft(s->members[i].replica))));
        assert_string_equal(machine_members(s->members[i].machine)->items[1].peer_urls[0],
                            "http://moved");
    }
    machine_members_deinit(&target);
    sim_destroy(s);
}

static void M12_a_leader_that_removes_itself_commits_informs_and_ends(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(3);
    struct machine_members target = {0};
    struct change c;
    unsigned first = leader(s);
    members_now(&s->members[first], &target);
    machine_members_remove(&target, s->members[first].id);
    assert_int_equal(ask_for(s, &target, &c), NB_OK);
    run(s, 5 * SIM_SECOND);
    assert_true(c.done && c.status == NB_OK);
    assert_true(s->members[first].removed);
    assert_int_equal(put_many(s, leader(s), FEW), FEW);
    assert_int_equal(machine_members(s->members[leader(s)].machine)->count, 2);
    machine_members_deinit(&target);
    sim_destroy(s);
}

static void a_second_voter_is_taken_in_before_it_has_started(void **state)
{
    (void)state;
    struct sim *s = group_with_leader(1);
    struct machine_members target = {0}, known = {0};
    struct change c;
    members_now(&s->members[0], &target);
    set_at(&target, 2, "http://b", false);
    s->member_count++; /* it has an address, and nobody is there */
    sim_member_init(s, 1);
    s->members[1].joins = true;
    assert_int_equal(ask_for(s, &target, &c), NB_OK);
    run(s, SIM_SECOND / 2);
    assert_true(c.done && c.status == NB_OK);
    replica_known_members(s->members[0].replica, &known);
    assert_int_equal(known.count, 2);
    run(s, 10 * SIM_SECOND); /* no leader meanwhile, and a restart */
    sim_member_crash(&s->members[0], true, SIM_SECOND);
    run(s, 3 * SIM_SECOND);
    sim_member_start(&s->members[1]);
    run(s, 15 * SIM_SECOND);
    assert_int_equal(put_many(s, leader(s), FEW), FEW);
    assert_int_equal(raft_conf(replica_raft(s->members[1].replica))->voter_count, 2);
    machine_members_deinit(&known);
    machine_members_deinit(&target);
    sim_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R23_without_a_leader_a_proposal_waits_and_is_offered_later),
        cmocka_unit_test(R23_a_proposal_that_timed_out_is_not_offered_long_after),
        cmocka_unit_test(R23_a_proposal_in_the_log_is_answered_unknown_when_its_quorum_is_gone),
        cmocka_unit_test(R24_a_forwarded_proposal_is_answered_by_the_follower_that_took_it),
        cmocka_unit_test(Q03_reads_of_one_turn_share_a_round),
        cmocka_unit_test(R22_request_ids_of_two_boots_never_meet),
        cmocka_unit_test(P3_a_refused_request_has_no_effect_and_no_answer),
        cmocka_unit_test(S01_a_follower_that_lags_gets_a_snapshot_and_goes_on),
        cmocka_unit_test(S03_the_note_of_an_install_is_gone_when_it_is_done),
        cmocka_unit_test(S08_the_log_is_kept_while_a_copy_is_sent),
        cmocka_unit_test(S08_the_log_is_kept_until_the_receiver_says_that_it_has_the_copy),
        cmocka_unit_test(
            S05_a_leader_elected_again_sends_one_copy_to_a_member_that_it_asked_for_before),
        cmocka_unit_test(S02_a_received_file_that_is_not_what_was_announced_comes_to_nothing),
        cmocka_unit_test(W13_an_install_that_finds_the_disk_full_waits_for_room),
        cmocka_unit_test(S03_a_crash_at_any_disk_call_of_an_install_restarts_cleanly),
        cmocka_unit_test(S03_entries_of_a_deposed_leader_do_not_survive_an_install_cut_off),
        cmocka_unit_test(P5_the_log_is_kept_until_the_backend_holds_its_effects),
        cmocka_unit_test(W05_a_failed_write_of_the_log_ends_the_member_and_acknowledges_nothing),
        cmocka_unit_test(W13_a_full_disk_holds_writes_back_and_recovers_without_a_restart),
        cmocka_unit_test(W13_followers_of_a_leader_without_room_know_it_at_once),
        cmocka_unit_test(W13_a_leader_without_room_is_forgotten_with_its_leadership),
        cmocka_unit_test(W13_Z03_what_waits_for_a_full_backend_is_bounded),
        cmocka_unit_test(W13_Z03_a_leader_whose_backend_is_full_refuses_what_it_cannot_hold),
        cmocka_unit_test(W16_every_prefix_of_disk_calls_recovers_what_was_acknowledged),
        cmocka_unit_test(K10_leadership_is_handed_over_when_asked),
        cmocka_unit_test(E08_K10_when_the_first_does_not_take_over_the_next_one_is_asked),
        cmocka_unit_test(E08_K10_when_nobody_takes_over_the_leader_gives_up),
        cmocka_unit_test(a_commit_that_is_wanted_is_done_when_the_backend_holds_it),
        cmocka_unit_test(a_cluster_whose_members_all_lost_power_comes_back),
        cmocka_unit_test(R19_Q10_a_long_log_is_replayed_in_pieces_before_anything_is_shown),
        cmocka_unit_test(E12_a_leader_whose_disk_hangs_gives_way),
        cmocka_unit_test(R22_proposals_forwarded_to_a_leader_that_dies_are_offered_to_the_next),
        cmocka_unit_test(R22_proposals_lost_with_a_connection_are_offered_to_the_same_leader_again),
        cmocka_unit_test(
            R22_proposals_thrown_away_on_their_way_are_offered_to_the_same_leader_again),
        cmocka_unit_test(R22_a_proposal_does_not_overtake_those_that_wait_for_a_leader),
        cmocka_unit_test(R22_a_proposal_that_arrives_twice_counts_once),
        cmocka_unit_test(Z03_proposals_that_wait_for_a_leader_are_forgotten_with_their_requests),
        cmocka_unit_test(E13_the_first_election_does_not_wait_a_whole_timeout),
        cmocka_unit_test(E01_a_hurried_election_leaves_a_healthy_leader_alone),
        cmocka_unit_test(M05_a_learner_joins_is_promoted_and_replaces_a_voter_in_one_joint_step),
        cmocka_unit_test(M07_M08_what_cannot_be_is_refused_without_effect),
        cmocka_unit_test(M11_an_update_changes_addresses_and_no_votes),
        cmocka_unit_test(M12_a_leader_that_removes_itself_commits_informs_and_ends),
        cmocka_unit_test(a_second_voter_is_taken_in_before_it_has_started),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

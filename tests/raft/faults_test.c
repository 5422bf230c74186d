/*
 * Each bug of src/raft/fault.h is switched on, and a checker must catch it [hazard T01]: the
 * exploration, a run of a whole group, or a named scene below. Every attempt is a process of its
 * own, since the core ends itself when it finds itself wrong. The table at the end says what caught
 * what.
 */
#include "raft/fault.h"
#include "tests/raft/explore.h"
#include "tests/support/unit.h"

#include <inttypes.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum raft_fault raft_planted_fault;

static const struct {
    const char *name, *text;
} faults[RAFT_FAULT_COUNT] = {[RAFT_FAULT_NONE] = {"NONE", ""},
#define X(name, text) [RAFT_FAULT_##name] = {#name, text},
                              RAFT_FAULT_TABLE(X)
#undef X
};

/* ---- the checkers, each in a child ------------------------------------------------------------
 */

typedef void checker(struct group_report *report, uint64_t seed);

static void look(struct group_report *report, struct explore_options o)
{
    o.report = report;
    o.quiet = true;
    (void)explore(&o);
}

static void explorations(struct group_report *report, uint64_t seed)
{
    (void)seed;
    look(report, (struct explore_options){.voter_count = 3,
                                          .term_max = 5,
                                          .index_max = 4,
                                          .wire_max = 3,
                                          .figure_8 = true,
                                          .state_max = 600000});
    look(report, (struct explore_options){.voter_count = 2,
                                          .term_max = 3,
                                          .index_max = 4,
                                          .wire_max = 4,
                                          .crash_max = 1,
                                          .duplicate_max = 1,
                                          .read_max = 1,
                                          .state_max = 150000});
    look(report, (struct explore_options){.voter_count = 3,
                                          .term_max = 3,
                                          .index_max = 3,
                                          .wire_max = 5,
                                          .crash_max = 1,
                                          .duplicate_max = 1,
                                          .read_max = 1,
                                          .state_max = 300000});
    look(report, (struct explore_options){.voter_count = 2,
                                          .spare_count = 1,
                                          .term_max = 3,
                                          .index_max = 5,
                                          .wire_max = 3,
                                          .conf_max = 2,
                                          .state_max = 300000});
    look(report, (struct explore_options){.voter_count = 3,
                                          .learner_count = 1,
                                          .term_max = 2,
                                          .index_max = 3,
                                          .wire_max = 4,
                                          .read_max = 1,
                                          .conf_max = 1,
                                          .state_max = 150000});
    look(report, (struct explore_options){.voter_count = 2,
                                          .term_max = 3,
                                          .index_max = 4,
                                          .wire_max = 4,
                                          .crash_max = 1,
                                          .duplicate_max = 1,
                                          .compact_max = 2,
                                          .state_max = 150000});
}

static void groups(struct group_report *report, uint64_t seed)
{
    for (uint64_t i = 0; i < 1500; i++) {
        struct group_options o = group_options_draw(seed + i, 5000, report);
        o.quiet = true;
        group_run(&o);
    }
}

/* ---- scenes of liveness: what no safety checker sees ------------------------------------------
 */

/* Two or three cores, an ideal wire and ideal disks. */
struct scene {
    struct raft *core[3];
    bool cut[3];
    bool lose_appends, lose_snapshots;
    uint64_t snapshots;
    struct nb_arena arena;
    struct group_report *report;
};

static void must(struct scene *s, bool fact, const char *rule)
{
    if (!fact) {
        (void)snprintf(s->report->caught_by, sizeof s->report->caught_by, "scene: %s", rule);
        _Exit(GROUP_EXIT_CAUGHT);
    }
}

static void scene_begin(struct scene *s, struct group_report *report)
{
    *s = (struct scene){.report = report};
    struct raft_start start = {.snapshot.conf = {.voters = {1, 2, 3}, .voter_count = 3}};
    for (unsigned i = 0; i < 3; i++) {
        struct raft_config c;
        raft_config_defaults(&c);
        c.id = i + 1;
        c.seed = i + 1;
        if (raft_create(&c, &start, &s->core[i]) != NB_OK) {
            abort();
        }
    }
}

static void scene_end(struct scene *s)
{
    for (unsigned i = 0; i < 3; i++) {
        raft_destroy(s->core[i]);
    }
    nb_arena_deinit(&s->arena);
}

static bool scene_lost(const struct scene *s, const struct raft_msg *m)
{
    return s->cut[m->from - 1] || s->cut[m->to - 1] ||
           (s->lose_appends && m->type == RAFT_MSG_APPEND) ||
           (s->lose_snapshots && m->type == RAFT_MSG_SNAPSHOT);
}

/* Serves member i; true when it had something. */
static bool scene_serve(struct scene *s, unsigned i)
{
    struct raft *r = s->core[i];
    if (!raft_has_effects(r)) {
        return false;
    }
    struct raft_effects fx;
    raft_drain(r, &fx);
    struct nb_buf bytes[64] = {{0}};
    uint64_t to[64], count = 0;
    for (size_t k = 0; k < fx.message_count && count < 64; k++) {
        if (!scene_lost(s, &fx.messages[k].msg)) {
            to[count] = fx.messages[k].msg.to;
            raft_msg_encode(&fx.messages[k].msg, &bytes[count++]);
        }
    }
    struct raft_snapshot label = {0};
    for (size_t k = 0; k < fx.snapshot_peer_count; k++) {
        struct raft_status st;
        raft_status(r, &st);
        label.last.index = st.applied_index;
        (void)!raft_term_at(r, st.applied_index, &label.last.term);
        label.conf = *raft_conf(r);
        struct raft_msg m = raft_snapshot_msg(r, fx.snapshot_peers[k], &label);
        s->snapshots++;
        if (!scene_lost(s, &m)) {
            to[count] = m.to;
            raft_msg_encode(&m, &bytes[count++]);
        }
        raft_snapshot_sent(r, m.to, true);
    }
    raft_persisted(r, fx.sync);
    if (fx.has_install) {
        raft_snapshot_installed(r, &fx.install);
    } else {
        raft_applied(r, fx.commit_index);
    }
    for (uint64_t k = 0; k < count; k++) {
        struct raft_msg m;
        if (raft_msg_decode(nb_buf_bytes(&bytes[k]), &m, &s->arena) == NB_OK) {
            raft_step(s->core[to[k] - 1], &m);
            raft_msg_release(&m);
        }
        nb_buf_deinit(&bytes[k]);
    }
    return true;
}

static void scene_rest(struct scene *s)
{
    for (unsigned turn = 0; turn < 200; turn++) {
        bool busy = false;
        for (unsigned i = 0; i < 3; i++) {
            busy = scene_serve(s, i) || busy;
        }
        if (!busy) {
            return;
        }
    }
}

static void scene_ticks(struct scene *s, unsigned count)
{
    for (unsigned t = 0; t < count; t++) {
        for (unsigned i = 0; i < 3; i++) {
            raft_tick(s->core[i]);
            scene_rest(s);
        }
        s->report->events++;
    }
}

static struct raft_status scene_status(const struct scene *s, unsigned i)
{
    struct raft_status status;
    raft_status(s->core[i], &status);
    return status;
}

static enum raft_outcome scene_propose(struct scene *s)
{
    struct nb_payload *p = nb_payload_copy(nb_bytes_of("x", 1));
    enum raft_outcome outcome = raft_propose(s->core[0], &p, 1, NULL);
    nb_payload_release(p);
    return outcome;
}

static void first_leads(struct scene *s)
{
    (void)raft_campaign(s->core[0]);
    scene_rest(s);
    must(s, scene_status(s, 0).role == RAFT_LEADER, "a leader is elected");
}

/* A follower of term 2 with entries 1 to 4 of term 1, of which the leader knows 1 and 2. */
static void scenes_of_a_leftover_tail(struct scene *s)
{
    struct raft_entry old[4], noop = {.id = {.index = 3, .term = 2}, .kind = RAFT_ENTRY_NOOP};
    for (uint64_t i = 0; i < 4; i++) {
        old[i] = (struct raft_entry){.id = {.index = i + 1, .term = 1}, .kind = RAFT_ENTRY_NOOP};
    }
    struct raft_start start = {.hard = {.term = 2},
                               .snapshot.conf = {.voters = {1, 2, 3}, .voter_count = 3},
                               .entries = old,
                               .entry_count = 4};
    struct raft_config c;
    struct raft *r;
    raft_config_defaults(&c);
    c.id = 2;
    must(s, raft_create(&c, &start, &r) == NB_OK, "a follower starts");
    struct raft_msg m = {.type = RAFT_MSG_APPEND,
                         .from = 1,
                         .to = 2,
                         .term = 2,
                         .append = {.prev = {.index = 2, .term = 1}, .leader_commit = 4}};
    raft_step(r, &m);
    struct raft_status status;
    raft_status(r, &status);
    must(s, status.commit_index == 2, "R07 commits only what the request vouches for");
    struct raft_effects fx;
    raft_drain(r, &fx);
    must(s, fx.message_count == 1 && fx.messages[0].msg.append_result.matched_index == 2,
         "R07 acknowledges only what the request vouches for");
    m.append.entries = &noop;
    m.append.entry_count = 1;
    raft_step(r, &m);
    raft_status(r, &status);
    must(s, status.last.index == 3 && status.last.term == 2, "a conflict is cut");
    raft_drain(r, &fx);
    must(s, fx.append_count == 1 && fx.append[0].id.index == 3 && fx.append[0].id.term == 2,
         "R18 the disk is handed what takes the place of a cut entry");
    raft_destroy(r);
}

static void scenes_of_a_lonely_leader(struct scene *s, struct group_report *report)
{
    scene_begin(s, report); /* [Q01] */
    first_leads(s);
    s->cut[0] = true;
    must(s, raft_read(s->core[0], 7) == RAFT_ACCEPTED, "a leader takes a read");
    struct raft_effects fx;
    raft_drain(s->core[0], &fx);
    must(s, fx.read_ready_count == 0, "Q01 a read waits for a majority to confirm the leader");
    scene_end(s);

    scene_begin(s, report); /* [M01] */
    must(s, raft_campaign(s->core[0]), "a voter may campaign");
    for (unsigned i = 0; i < 60 && scene_status(s, 0).role != RAFT_LEADER; i++) {
        (void)scene_serve(s, i % 3);
    }
    struct raft_conf_change change = {.steps = {{RAFT_CONF_REMOVE, 3}}, .step_count = 1};
    must(s,
         raft_propose_conf(s->core[0], &change, (struct nb_bytes){0}, NULL) ==
             RAFT_CONF_TERM_UNCOMMITTED,
         "M01 no change before the first commit of the term");
    scene_end(s);
}

/* Member 1 leads term `*out_term`, and speaks to nobody from now on. */
static void scene_of_a_leader_alone(struct scene *s, struct group_report *report,
                                    uint64_t *out_term)
{
    scene_begin(s, report);
    first_leads(s);
    s->cut[0] = true;
    *out_term = scene_status(s, 0).term;
}

static void scenes_of_answers(struct group_report *report)
{
    struct scene s;
    uint64_t term;
    struct raft_effects fx;
    scene_of_a_leader_alone(&s, report, &term); /* [R15] */
    raft_step(s.core[0], &(struct raft_msg){
                             .type = RAFT_MSG_APPEND_RESULT, .from = 2, .to = 1, .term = term + 1});
    must(&s, scene_status(&s, 0).role == RAFT_FOLLOWER && scene_status(&s, 0).term == term + 1,
         "R15 an answer of a higher term ends a leadership");
    scene_end(&s);

    scene_of_a_leader_alone(&s, report, &term); /* [R16, R25] */
    (void)scene_propose(&s);
    raft_drain(s.core[0], &fx);
    raft_persisted(s.core[0], fx.sync);
    uint64_t commit = scene_status(&s, 0).commit_index, last = scene_status(&s, 0).last.index;
    struct raft_msg ack = {.type = RAFT_MSG_APPEND_RESULT,
                           .from = 2,
                           .to = 1,
                           .term = term - 1,
                           .append_result = {.accepted = true, .matched_index = last}};
    raft_step(s.core[0], &ack);
    must(&s, scene_status(&s, 0).commit_index == commit,
         "R16 an answer to an earlier leadership counts for nothing");
    ack.term = term;
    ack.append_result.matched_index = UINT64_MAX;
    raft_step(s.core[0], &ack);
    must(&s, scene_status(&s, 0).commit_index == commit,
         "R25 nobody holds more than the leader has");
    scene_end(&s);
}

static void scenes_of_reads(struct group_report *report)
{
    struct scene s;
    uint64_t term;
    struct raft_effects fx;
    scene_of_a_leader_alone(&s, report, &term); /* [Q08] */
    must(&s, raft_read(s.core[0], 7) == RAFT_ACCEPTED, "a leader takes a read");
    raft_drain(s.core[0], &fx);
    must(&s, fx.read_ready_count == 0, "Q08 who was heard a moment ago is asked all the same");
    scene_end(&s);

    scene_of_a_leader_alone(&s, report, &term); /* [Q07] */
    must(&s, raft_read(s.core[0], 7) == RAFT_ACCEPTED, "a leader takes a read");
    raft_drain(s.core[0], &fx);
    struct raft_msg confirm = {.type = RAFT_MSG_HEARTBEAT_RESULT, .from = 3, .to = 1, .term = term};
    for (size_t i = 0; i < fx.message_count; i++) {
        if (fx.messages[i].msg.type == RAFT_MSG_HEARTBEAT) {
            confirm.heartbeat_result.read_round = fx.messages[i].msg.heartbeat.read_round;
        }
    }
    must(&s, confirm.heartbeat_result.read_round != 0, "a read asks who leads");
    struct raft_conf_change change = {.steps = {{RAFT_CONF_REMOVE, 3}}, .step_count = 1};
    must(&s,
         raft_propose_conf(s.core[0], &change, (struct nb_bytes){0}, NULL) == RAFT_CONF_ACCEPTED,
         "a voter is removed");
    raft_step(s.core[0], &confirm);
    raft_drain(s.core[0], &fx);
    must(&s, fx.read_ready_count == 0, "Q07 a removed voter confirms no read");
    confirm.from = 2;
    raft_step(s.core[0], &confirm);
    raft_drain(s.core[0], &fx);
    must(&s, fx.read_ready_count == 1, "Q07 the voters that are left do");
    scene_end(&s);
}

static void scenes_of_loss(struct group_report *report)
{
    struct scene s;
    scene_begin(&s, report);
    first_leads(&s);
    raft_peer_lost(s.core[0], 2); /* back to probing */
    s.lose_appends = true;
    (void)scene_propose(&s);
    scene_ticks(&s, 2);
    s.lose_appends = false;
    scene_ticks(&s, 8);
    must(&s, scene_status(&s, 1).last.index == scene_status(&s, 0).last.index,
         "a lost append is sent again");
    scene_end(&s);

    scene_begin(&s, report); /* [E02]: a member ahead of everybody */
    first_leads(&s);
    s.cut[2] = true;
    scene_ticks(&s, 1);
    raft_step(s.core[2], &(struct raft_msg){
                             .type = RAFT_MSG_HEARTBEAT_RESULT, .from = 2, .to = 3, .term = 50});
    s.cut[2] = false;
    scene_ticks(&s, 40);
    must(&s, scene_status(&s, 0).term >= 50 && scene_status(&s, 2).leader_id != 0,
         "E02 a member with a higher term is taken back");
    scene_end(&s);

    scene_begin(&s, report); /* [S07] */
    first_leads(&s);
    s.cut[2] = true;
    for (unsigned i = 0; i < 5; i++) {
        (void)scene_propose(&s);
        scene_rest(&s);
    }
    raft_compact(s.core[0], scene_status(&s, 0).applied_index);
    raft_peer_lost(s.core[0], 3);
    s.cut[2] = false;
    s.lose_snapshots = true;
    scene_ticks(&s, 5);
    must(&s, s.snapshots != 0, "who lags behind the log gets a snapshot");
    s.lose_snapshots = false;
    scene_ticks(&s, 40);
    must(&s, scene_status(&s, 2).commit_index == scene_status(&s, 0).commit_index,
         "S07 a lost snapshot is sent again");
    scene_end(&s);
}

/* A member that joined with nothing; its core never heard of the first configuration. */
static void scene_of_a_joiner(struct group_report *report)
{
    struct scene s = {.report = report};
    struct raft_start first = {.snapshot.conf = {.voters = {1}, .voter_count = 1}};
    struct raft_start none = {0};
    for (unsigned i = 0; i < 3; i++) {
        struct raft_config c;
        raft_config_defaults(&c);
        c.id = i + 1;
        c.seed = i + 1;
        must(&s, raft_create(&c, i == 0 ? &first : &none, &s.core[i]) == NB_OK, "a member starts");
    }
    first_leads(&s);
    struct raft_conf_change add = {.steps = {{RAFT_CONF_ADD_LEARNER, 2}}, .step_count = 1};
    must(&s, raft_propose_conf(s.core[0], &add, (struct nb_bytes){0}, NULL) == RAFT_CONF_ACCEPTED,
         "a learner is added");
    scene_ticks(&s, 40);
    must(&s, s.snapshots != 0, "a member without configuration gets a snapshot");
    must(&s, raft_conf_equal(raft_conf(s.core[1]), raft_conf(s.core[0])),
         "the joined member knows the whole configuration");
    must(&s, scene_status(&s, 1).commit_index == scene_status(&s, 0).commit_index,
         "the joined member catches up");
    scene_end(&s);
}

static void scenes(struct group_report *report, uint64_t seed)
{
    (void)seed;
    struct scene s = {.report = report};
    scenes_of_a_leftover_tail(&s);
    scenes_of_a_lonely_leader(&s, report);

    scene_begin(&s, report); /* [E08] */
    first_leads(&s);
    s.cut[1] = true;
    (void)scene_propose(&s);
    must(&s, raft_transfer(s.core[0], 2) == RAFT_TRANSFER_STARTED, "a transfer starts");
    must(&s, scene_propose(&s) == RAFT_DROPPED, "no proposals during a transfer");
    scene_ticks(&s, 12);
    must(&s, scene_propose(&s) == RAFT_ACCEPTED, "E08 a stuck transfer ends after one timeout");
    scene_end(&s);

    scene_begin(&s, report); /* [E01] */
    first_leads(&s);
    uint64_t term = scene_status(&s, 0).term;
    (void)raft_campaign(s.core[2]); /* as one that was cut off would */
    scene_rest(&s);
    struct raft_msg vote = {.type = RAFT_MSG_VOTE,
                            .from = 3,
                            .to = 2,
                            .term = term + 5,
                            .vote.last = {.index = 99, .term = term}};
    raft_step(s.core[1], &vote);
    scene_rest(&s);
    must(&s,
         scene_status(&s, 0).role == RAFT_LEADER && scene_status(&s, 0).term == term &&
             scene_status(&s, 1).term == term,
         "E01 a rejoining member does not depose a healthy leader");
    scene_end(&s);

    scene_begin(&s, report); /* [E04] */
    first_leads(&s);
    s.cut[0] = true;
    scene_ticks(&s, 11);
    must(&s, scene_status(&s, 0).role != RAFT_LEADER, "E04 a leader without a quorum resigns");
    scene_end(&s);

    scenes_of_answers(report);
    scenes_of_reads(report);
    scenes_of_loss(report);
    scene_of_a_joiner(report);
}

/* ---- the table --------------------------------------------------------------------------------
 */

static bool caught_in_child(checker *check, enum raft_fault fault, struct group_report *shared)
{
    memset(shared, 0, sizeof *shared);
    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        raft_planted_fault = fault;
        if (fault != RAFT_FAULT_NONE && freopen("/dev/null", "w", stderr) == NULL) {
            _Exit(0);
        }
        check(shared, 12345);
        _Exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status) && shared->caught_by[0] == '\0') {
        (void)snprintf(shared->caught_by, sizeof shared->caught_by, "assertion of the core");
    }
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static checker *const checkers[] = {scenes, groups, explorations};
static const char *const checker_names[] = {"scenes", "groups", "exploration"};

static void every_planted_fault_is_caught_and_none_without(void **state)
{
    (void)state;
    struct group_report *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(shared, MAP_FAILED);
    unsigned survivors = 0;
    for (enum raft_fault fault = RAFT_FAULT_NONE; fault < RAFT_FAULT_COUNT; fault++) {
        bool caught = false;
        for (size_t i = 0; i < NB_ARRAY_LEN(checkers); i++) {
            if (caught && i == NB_ARRAY_LEN(checkers) - 1 && unit_scaled(100) < 200) {
                continue; /* the exploration is the slowest: last resort, or NABATA_TEST_SCALE=200
                           */
            }
            if (caught_in_child(checkers[i], fault, shared)) {
                (void)fprintf(stderr, "%-26s %-11s after %8" PRIu64 " events: %s\n",
                              faults[fault].name, checker_names[i], shared->events,
                              shared->caught_by);
                caught = true;
            }
        }
        if (fault == RAFT_FAULT_NONE) {
            assert_false(caught);
        } else if (!caught) {
            (void)fprintf(stderr, "%-26s SURVIVES: %s\n", faults[fault].name, faults[fault].text);
            survivors++;
        }
    }
    (void)munmap(shared, sizeof *shared);
    assert_int_equal(survivors, 0);
    assert_true(RAFT_FAULT_COUNT > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_planted_fault_is_caught_and_none_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

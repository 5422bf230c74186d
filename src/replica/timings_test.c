/* What a replica counts for /metrics, on a clock that the test moves. */
#include "tests/support/replica_group.h"

static struct replica_group *group_of(unsigned count)
{
    struct replica_group *g = nb_alloc_zero(1, sizeof *g);
    struct machine_members members = {0};
    char url[] = "http://h", name[] = "";
    char *urls[] = {url};
    g->count = count;
    g->now_ns = 1000 * replica_group_ms;
    for (unsigned id = 1; id <= count; id++) {
        machine_members_set(&members,
                            &(struct machine_member){
                                .id = id, .name = name, .peer_urls = urls, .peer_url_count = 1});
    }
    for (unsigned i = 0; i < count; i++) {
        replica_node_start(g, i, &members);
    }
    machine_members_deinit(&members);
    while (replica_leader(g->nodes[0].replica) != 1 ||
           !replica_can_change_members(g->nodes[0].replica)) {
        replica_group_turn(g);
    }
    return g;
}

static void end(struct replica_group *g)
{
    for (unsigned i = 0; i < g->count; i++) {
        replica_node_stop(&g->nodes[i]);
    }
    nb_free(g);
}

struct waiting {
    struct replica_request request;
    bool done;
    enum nb_status status;
};

static void on_done(struct replica_request *request, enum nb_status status,
                    const struct machine_result *result)
{
    struct waiting *w = (struct waiting *)request;
    w->done = true;
    w->status = status == NB_OK && result != NULL ? result->status : status;
}

static const struct replica_timings *timings(struct replica_group *g)
{
    return replica_timings(g->nodes[0].replica);
}

static void cut_off(struct replica_group *g)
{
    g->nodes[1].silent = g->nodes[2].silent = true;
}

static void a_leader_that_got_no_turn_counts_a_heartbeat_missed_by_each_follower(void **state)
{
    (void)state;
    struct replica_group *g = group_of(3);
    for (int i = 0; i < 30; i++) {
        replica_group_turn(g);
    }
    assert_int_equal(timings(g)->late_heartbeat_count, 0);
    g->now_ns += 25 * replica_group_ms; /* a heartbeat is 10 ms */
    replica_tick(g->nodes[0].replica);
    assert_int_equal(timings(g)->late_heartbeat_count, 2);
    replica_tick(g->nodes[1].replica);
    g->now_ns += 25 * replica_group_ms;
    replica_tick(g->nodes[1].replica); /* it leads nobody */
    assert_int_equal(replica_timings(g->nodes[1].replica)->late_heartbeat_count, 0);
    end(g);
}

static void proposals_are_timed_by_kind_and_by_how_they_ended(void **state)
{
    (void)state;
    struct replica_group *g = group_of(3);
    struct waiting good = {.request.done = on_done}, bad = good, lost = good;
    struct nb_bytes put = nb_bytes_str("\x0a\x01k"), compaction = nb_bytes_str("\x08\x63");
    struct replica *r = g->nodes[0].replica;
    assert_int_equal(replica_propose(r, MACHINE_PUT, put, &good.request), NB_OK);
    assert_int_equal(replica_propose(r, MACHINE_COMPACTION, compaction, &bad.request), NB_OK);
    while (!good.done || !bad.done) {
        replica_group_turn(g);
    }
    assert_int_equal(good.status, NB_OK);
    assert_int_equal(bad.status, NB_FUTURE_REVISION);
    const struct replica_timings *t = timings(g);
    assert_int_equal(t->kinds[MACHINE_PUT].request[1].count, 1);
    assert_int_equal(t->kinds[MACHINE_PUT].apply[1].count, 1);
    assert_true(t->kinds[MACHINE_PUT].request[1].sum_s >= 0.001); /* a turn, at least */
    assert_int_equal(t->kinds[MACHINE_PUT].request[0].count, 0);
    assert_int_equal(t->kinds[MACHINE_COMPACTION].request[0].count, 1);
    assert_int_equal(t->kinds[MACHINE_COMPACTION].apply[0].count, 1);
    assert_true(t->log_write.count != 0 && t->log_sync.count != 0);
    for (int i = 0; i < 50; i++) {
        replica_group_turn(g);
    }
    /* A follower applies, and has answered nobody. */
    const struct replica_timings *other = replica_timings(g->nodes[1].replica);
    assert_int_equal(other->kinds[MACHINE_PUT].apply[1].count, 1);
    assert_int_equal(other->kinds[MACHINE_PUT].request[1].count, 0);
    cut_off(g);
    assert_int_equal(replica_propose(r, MACHINE_PUT, put, &lost.request), NB_OK);
    replica_group_turn(g);
    g->now_ns += 60001 * replica_group_ms;
    replica_tick(r);
    assert_true(lost.done && lost.status != NB_OK);
    assert_int_equal(t->kinds[MACHINE_PUT].request[0].count, 1);
    assert_true(t->kinds[MACHINE_PUT].request[0].sum_s > 60);
    end(g);
}

static void Q09_a_round_of_reads_that_is_asked_again_is_a_slow_one(void **state)
{
    (void)state;
    struct replica_group *g = group_of(3);
    struct waiting read = {.request.done = on_done};
    cut_off(g);
    assert_int_equal(replica_read(g->nodes[0].replica, &read.request), NB_OK);
    replica_group_turn(g);
    g->now_ns += 400 * replica_group_ms;
    replica_tick(g->nodes[0].replica);
    assert_int_equal(timings(g)->slow_read_count, 0);
    g->now_ns += 200 * replica_group_ms;
    replica_tick(g->nodes[0].replica);
    assert_int_equal(timings(g)->slow_read_count, 1);
    end(g);
    assert_int_equal(read.status, NB_STOPPED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leader_that_got_no_turn_counts_a_heartbeat_missed_by_each_follower),
        cmocka_unit_test(proposals_are_timed_by_kind_and_by_how_they_ended),
        cmocka_unit_test(Q09_a_round_of_reads_that_is_asked_again_is_a_slow_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

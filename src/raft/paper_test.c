/*
 * Raft's rules in the order of the paper and the thesis, then the rows of the hazard list that
 * touch the core. Most tests hold one member and speak to it as its peers would.
 */
#include "raft/internal.h"
#include "tests/support/unit.h"

enum { ET = 10 }; /* election timeout, ticks */

/* ---- one member and its last effects ----------------------------------------------------------
 */

struct rig {
    struct raft *r;
    struct raft_effects fx;
    struct raft_config config;
};

static struct raft_conf conf_of(uint32_t voters)
{
    struct raft_conf c = {.voter_count = voters};
    for (uint32_t i = 0; i < voters; i++) {
        c.voters[i] = i + 1;
    }
    return c;
}

/* Member 1 of `voters`, in `term`, with one no-op for each of `terms` (0 ends), all on disk. */
static struct rig rig_with(uint32_t voters, uint64_t term, const uint64_t *terms)
{
    struct rig g = {0};
    struct raft_entry entries[16];
    size_t count = 0;
    for (; terms != NULL && terms[count] != 0; count++) {
        entries[count] =
            (struct raft_entry){.id = {count + 1, terms[count]}, .kind = RAFT_ENTRY_NOOP};
    }
    raft_config_defaults(&g.config);
    g.config.id = 1;
    g.config.seed = 42;
    g.config.pre_vote = false;
    struct raft_start start = {.hard = {.term = term},
                               .snapshot.conf = conf_of(voters),
                               .entries = entries,
                               .entry_count = count};
    assert_int_equal(raft_create(&g.config, &start, &g.r), NB_OK);
    raft_drain(g.r, &g.fx);
    return g;
}

static struct rig rig(uint32_t voters)
{
    return rig_with(voters, 0, NULL);
}

static void end(struct rig *g)
{
    raft_check_log(g->r);
    raft_destroy(g->r);
}

static void drain(struct rig *g)
{
    raft_drain(g->r, &g->fx);
}

static void synced(struct rig *g)
{
    raft_persisted(g->r, g->fx.sync);
}

static struct raft_status status(const struct rig *g)
{
    struct raft_status s;
    raft_status(g->r, &s);
    return s;
}

static void step(struct rig *g, struct raft_msg m)
{
    m.to = 1;
    raft_step(g->r, &m);
}

/* The first message of `type` to `to` (0: anybody) in the last effects. */
static const struct raft_send *sent(const struct rig *g, enum raft_msg_type type, uint64_t to)
{
    for (size_t i = 0; i < g->fx.message_count; i++) {
        const struct raft_msg *m = &g->fx.messages[i].msg;
        if (m->type == type && (to == 0 || m->to == to)) {
            return &g->fx.messages[i];
        }
    }
    return NULL;
}

static void grant(struct rig *g, uint64_t from)
{
    step(g, (struct raft_msg){.type = RAFT_MSG_VOTE_RESULT,
                              .from = from,
                              .term = status(g).term,
                              .vote_result = {true}});
}

static void ack(struct rig *g, uint64_t from, uint64_t index)
{
    step(g, (struct raft_msg){.type = RAFT_MSG_APPEND_RESULT,
                              .from = from,
                              .term = status(g).term,
                              .append_result = {.accepted = true, .matched_index = index}});
}

/* Wins an election with the votes of 2 and 3 (as far as there are such). */
static void lead(struct rig *g)
{
    assert_true(raft_campaign(g->r));
    drain(g);
    synced(g);
    for (uint64_t id = 2; id <= 3 && status(g).role != RAFT_LEADER; id++) {
        grant(g, id);
    }
    assert_int_equal(status(g).role, RAFT_LEADER);
    drain(g);
}

/* Leads, with its no-op committed. */
static void lead_for_good(struct rig *g)
{
    lead(g);
    synced(g);
    for (uint64_t id = 2; id <= 3; id++) {
        ack(g, id, status(g).last.index);
    }
    drain(g);
    assert_true(status(g).term_committed);
    raft_applied(g->r, g->fx.commit_index);
}

static enum raft_outcome propose(struct rig *g, const char *text)
{
    struct nb_payload *p = nb_payload_copy(nb_bytes_str(text));
    enum raft_outcome outcome = raft_propose(g->r, &p, 1, NULL);
    nb_payload_release(p);
    return outcome;
}

static struct raft_msg append(uint64_t term, uint64_t prev_index, uint64_t prev_term,
                              const struct raft_entry *entries, size_t count, uint64_t commit)
{
    return (struct raft_msg){.type = RAFT_MSG_APPEND,
                             .from = 2,
                             .term = term,
                             .append = {.prev = {prev_index, prev_term},
                                        .leader_commit = commit,
                                        .entries = entries,
                                        .entry_count = count}};
}

static struct raft_entry noop(uint64_t index, uint64_t term)
{
    return (struct raft_entry){.id = {index, term}, .kind = RAFT_ENTRY_NOOP};
}

static struct raft_msg vote_request(uint64_t from, uint64_t term, uint64_t index, uint64_t last)
{
    return (struct raft_msg){
        .type = RAFT_MSG_VOTE, .from = from, .term = term, .vote = {.last = {index, last}}};
}

static const uint64_t TERMS_112[] = {1, 1, 2, 0};
static const uint64_t TERMS_111[] = {1, 1, 1, 0};

/* ---- 5.1 terms --------------------------------------------------------------------------------
 */

static void s51_R15_a_higher_term_makes_everybody_a_follower(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead(&g);
    step(&g, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT_RESULT, .from = 2, .term = 9});
    assert_int_equal(status(&g).role, RAFT_FOLLOWER);
    assert_int_equal(status(&g).term, 9);
    assert_int_equal(status(&g).voted_for, 0);
    end(&g);
}

/* Leader, candidate and follower; every kind of answer. */
static void s51_R15_every_answer_of_a_higher_term_ends_every_role(void **state)
{
    (void)state;
    static const enum raft_msg_type answers[] = {RAFT_MSG_APPEND_RESULT, RAFT_MSG_HEARTBEAT_RESULT,
                                                 RAFT_MSG_VOTE_RESULT, RAFT_MSG_PRE_VOTE_RESULT};
    for (size_t i = 0; i < NB_ARRAY_LEN(answers); i++) {
        for (enum raft_role role = RAFT_FOLLOWER; role <= RAFT_LEADER; role++) {
            struct rig g = rig(3);
            if (role == RAFT_LEADER) {
                lead(&g);
            } else if (role == RAFT_CANDIDATE) {
                assert_true(raft_campaign(g.r));
            }
            step(&g, (struct raft_msg){.type = answers[i], .from = 2, .term = 9});
            assert_int_equal(status(&g).role, RAFT_FOLLOWER);
            assert_int_equal(status(&g).term, 9);
            assert_int_equal(status(&g).voted_for, 0);
            end(&g);
        }
    }
}

static void s51_E02_a_leader_of_an_old_term_is_told(void **state)
{
    (void)state;
    struct rig g = rig_with(3, 5, NULL);
    step(&g, append(4, 0, 0, NULL, 0, 0));
    drain(&g);
    const struct raft_send *s = sent(&g, RAFT_MSG_HEARTBEAT_RESULT, 2);
    assert_non_null(s);
    assert_int_equal(s->msg.term, 5);
    assert_int_equal(status(&g).leader_id, 0);
    end(&g);
}

/* ---- 5.2 elections ----------------------------------------------------------------------------
 */

static void s52_E10_a_follower_campaigns_between_one_and_two_timeouts(void **state)
{
    (void)state;
    uint32_t lowest = UINT32_MAX, highest = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct raft_config c;
        raft_config_defaults(&c);
        c.id = 1;
        c.seed = seed;
        c.pre_vote = false;
        struct raft_start start = {.snapshot.conf = conf_of(3)};
        struct raft *r;
        assert_int_equal(raft_create(&c, &start, &r), NB_OK);
        uint32_t ticks = 0;
        struct raft_status s = {0};
        while (s.role == RAFT_FOLLOWER) {
            raft_tick(r);
            ticks++;
            raft_status(r, &s);
        }
        lowest = ticks < lowest ? ticks : lowest;
        highest = ticks > highest ? ticks : highest;
        raft_destroy(r);
    }
    assert_int_equal(lowest, ET);
    assert_int_equal(highest, 2 * ET - 1);
}

static void s52_a_majority_of_votes_makes_a_leader(void **state)
{
    (void)state;
    struct rig g = rig(5);
    assert_true(raft_campaign(g.r));
    drain(&g);
    synced(&g);
    grant(&g, 2);
    assert_int_equal(status(&g).role, RAFT_CANDIDATE);
    grant(&g, 3);
    assert_int_equal(status(&g).role, RAFT_LEADER);
    end(&g);
}

static void R12_a_vote_counts_once_and_only_for_its_term_and_kind(void **state)
{
    (void)state;
    struct rig g = rig(5);
    assert_true(raft_campaign(g.r));
    assert_true(raft_campaign(g.r)); /* term 2 */
    drain(&g);
    synced(&g);
    grant(&g, 2);
    grant(&g, 2);
    assert_int_equal(status(&g).role, RAFT_CANDIDATE);
    step(&g, (struct raft_msg){
                 .type = RAFT_MSG_VOTE_RESULT, .from = 3, .term = 1, .vote_result = {true}});
    step(&g, (struct raft_msg){
                 .type = RAFT_MSG_PRE_VOTE_RESULT, .from = 3, .term = 2, .vote_result = {true}});
    grant(&g, 77); /* nobody we know */
    assert_int_equal(status(&g).role, RAFT_CANDIDATE);
    end(&g);
}

static void s52_one_vote_a_term(void **state)
{
    (void)state;
    struct rig g = rig(3);
    step(&g, vote_request(2, 1, 0, 0));
    drain(&g);
    assert_true(sent(&g, RAFT_MSG_VOTE_RESULT, 2)->msg.vote_result.granted);
    step(&g, vote_request(3, 1, 0, 0));
    drain(&g);
    assert_false(sent(&g, RAFT_MSG_VOTE_RESULT, 3)->msg.vote_result.granted);
    step(&g, vote_request(2, 1, 0, 0)); /* the answer was lost */
    drain(&g);
    assert_true(sent(&g, RAFT_MSG_VOTE_RESULT, 2)->msg.vote_result.granted);
    end(&g);
}

static void R03_votes_vote_requests_and_acks_wait_for_the_disk(void **state)
{
    (void)state;
    struct rig g = rig(3);
    step(&g, vote_request(2, 1, 0, 0));
    drain(&g);
    assert_true(sent(&g, RAFT_MSG_VOTE_RESULT, 2)->after_sync);
    assert_true(g.fx.has_hard_state);
    assert_int_equal(g.fx.hard_state.voted_for, 2);
    struct raft_entry e = noop(1, 1);
    step(&g, append(1, 0, 0, &e, 1, 0));
    drain(&g);
    assert_true(sent(&g, RAFT_MSG_APPEND_RESULT, 2)->after_sync);
    assert_int_equal(g.fx.append_count, 1);
    assert_true(raft_campaign(g.r));
    drain(&g);
    assert_true(sent(&g, RAFT_MSG_VOTE, 2)->after_sync);
    end(&g);
}

static void R03_the_own_vote_counts_when_it_is_on_disk(void **state)
{
    (void)state;
    struct rig g = rig(3);
    assert_true(raft_campaign(g.r));
    drain(&g);
    grant(&g, 2);
    assert_int_equal(status(&g).role, RAFT_CANDIDATE);
    synced(&g);
    assert_int_equal(status(&g).role, RAFT_LEADER);
    end(&g);
}

static void R13_leader_and_candidate_refuse_votes_of_their_term(void **state)
{
    (void)state;
    struct rig g = rig(3);
    assert_true(raft_campaign(g.r));
    step(&g, vote_request(2, 1, 0, 0));
    drain(&g);
    assert_false(sent(&g, RAFT_MSG_VOTE_RESULT, 2)->msg.vote_result.granted);
    end(&g);
}

static void s52_a_candidate_follows_the_leader_of_its_term(void **state)
{
    (void)state;
    struct rig g = rig(3);
    assert_true(raft_campaign(g.r));
    step(&g, append(1, 0, 0, NULL, 0, 0));
    assert_int_equal(status(&g).role, RAFT_FOLLOWER);
    assert_int_equal(status(&g).leader_id, 2);
    end(&g);
}

static void s52_a_single_voter_elects_itself_on_the_first_tick(void **state)
{
    (void)state;
    struct rig g = rig(1);
    raft_tick(g.r);
    drain(&g);
    synced(&g);
    assert_int_equal(status(&g).role, RAFT_LEADER);
    end(&g);
}

static void R04_a_single_voter_commits_after_its_own_sync(void **state)
{
    (void)state;
    struct rig g = rig(1);
    raft_tick(g.r);
    drain(&g);
    synced(&g);
    drain(&g);
    assert_int_equal(status(&g).commit_index, 0);
    synced(&g);
    assert_int_equal(status(&g).commit_index, 1);
    assert_int_equal(propose(&g, "x"), RAFT_ACCEPTED);
    drain(&g);
    assert_int_equal(g.fx.commit_index, 1);
    synced(&g);
    drain(&g);
    assert_int_equal(g.fx.commit_index, 2);
    end(&g);
}

/* ---- 5.3 replication --------------------------------------------------------------------------
 */

static void s53_one_drain_gives_one_append_a_follower(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(propose(&g, "x"), RAFT_ACCEPTED);
    }
    drain(&g);
    assert_int_equal(g.fx.message_count, 2);
    const struct raft_send *s = sent(&g, RAFT_MSG_APPEND, 2);
    assert_int_equal(s->msg.append.entry_count, 100);
    assert_false(s->after_sync); /* a leader sends before its own sync */
    assert_int_equal(g.fx.append_count, 100);
    /* Pipelined: the next batch does not wait for an answer. */
    assert_int_equal(propose(&g, "y"), RAFT_ACCEPTED);
    drain(&g);
    assert_int_equal(sent(&g, RAFT_MSG_APPEND, 2)->msg.append.prev.index, 101);
    end(&g);
}

static void s53_an_append_behind_a_gap_is_refused_with_a_hint(void **state)
{
    (void)state;
    struct rig g = rig_with(3, 4, TERMS_112);
    struct raft_entry e = noop(9, 4);
    step(&g, append(4, 8, 3, &e, 1, 0));
    drain(&g);
    const struct raft_send *s = sent(&g, RAFT_MSG_APPEND_RESULT, 2);
    assert_false(s->msg.append_result.accepted);
    assert_int_equal(s->msg.append_result.refused_index, 8);
    assert_int_equal(s->msg.append_result.hint.index, 3);
    assert_int_equal(s->msg.append_result.hint.term, 2);
    step(&g, append(4, 3, 1, NULL, 0, 0)); /* a previous term below ours skips our whole term 2 */
    drain(&g);
    assert_int_equal(sent(&g, RAFT_MSG_APPEND_RESULT, 2)->msg.append_result.hint.index, 2);
    end(&g);
}

static void s53_a_leader_goes_back_by_terms(void **state)
{
    (void)state;
    static const uint64_t terms[] = {1, 1, 4, 4, 4, 4, 0};
    struct rig g = rig_with(3, 4, terms);
    lead(&g); /* no-op at 7, term 5 */
    assert_int_equal(sent(&g, RAFT_MSG_APPEND, 2)->msg.append.prev.index, 6);
    step(&g, (struct raft_msg){.type = RAFT_MSG_APPEND_RESULT,
                               .from = 2,
                               .term = 5,
                               .append_result = {.refused_index = 6, .hint = {5, 2}}});
    drain(&g);
    assert_int_equal(sent(&g, RAFT_MSG_APPEND, 2)->msg.append.prev.index, 2);
    end(&g);
}

static void R09_entries_already_held_are_skipped_not_rewritten(void **state)
{
    (void)state;
    struct rig g = rig_with(3, 2, TERMS_112);
    struct raft_entry e[2] = {noop(1, 1), noop(2, 1)};
    step(&g, append(2, 0, 0, e, 2, 0)); /* a late duplicate */
    drain(&g);
    assert_int_equal(status(&g).last.index, 3);
    assert_int_equal(g.fx.append_count, 0);
    assert_int_equal(sent(&g, RAFT_MSG_APPEND_RESULT, 2)->msg.append_result.matched_index, 2);
    end(&g);
}

static void s53_a_conflict_cuts_and_replaces_the_tail(void **state)
{
    (void)state;
    struct rig g = rig_with(3, 3, TERMS_111);
    struct raft_entry e = noop(2, 3);
    step(&g, append(3, 1, 1, &e, 1, 0));
    drain(&g);
    assert_int_equal(status(&g).last.index, 2);
    assert_int_equal(status(&g).last.term, 3);
    assert_int_equal(g.fx.append[0].id.index, 2);
    end(&g);
}

static void R07_commit_only_what_the_request_vouches_for(void **state)
{
    (void)state;
    struct rig g = rig_with(3, 2, TERMS_111);
    step(&g, append(2, 2, 1, NULL, 0, 3));
    assert_int_equal(status(&g).commit_index, 2);
    step(&g, append(2, 1, 1, NULL, 0, 1)); /* never lowered */
    assert_int_equal(status(&g).commit_index, 2);
    end(&g);
}

static void R08_match_only_grows_and_stays_below_next(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    assert_int_equal(propose(&g, "x"), RAFT_ACCEPTED);
    drain(&g);
    ack(&g, 2, 2);
    ack(&g, 2, 1);  /* late */
    ack(&g, 2, 99); /* beyond our log */
    struct raft_progress p;
    assert_true(raft_progress_of(g.r, 2, &p));
    assert_int_equal(p.match_index, 2);
    assert_int_equal(p.next_index, 3);
    end(&g);
}

static void R10_R11_terms_at_the_edges_of_the_log(void **state)
{
    (void)state;
    struct rig g = rig_with(3, 2, TERMS_112);
    uint64_t term = 99;
    assert_int_equal(raft_term_at(g.r, 0, &term), RAFT_TERM_KNOWN);
    assert_int_equal(term, 0);
    step(&g, append(2, 3, 2, NULL, 0, 3));
    raft_applied(g.r, 3);
    raft_compact(g.r, 2);
    assert_int_equal(raft_term_at(g.r, 1, &term), RAFT_TERM_COMPACTED);
    assert_int_equal(raft_term_at(g.r, 2, &term), RAFT_TERM_KNOWN);
    assert_int_equal(term, 1);
    assert_int_equal(raft_term_at(g.r, 3, &term), RAFT_TERM_KNOWN);
    assert_int_equal(term, 2);
    assert_int_equal(raft_term_at(g.r, 4, &term), RAFT_TERM_MISSING);
    size_t count;
    assert_null(raft_entries(g.r, 2, 4, &count));
    assert_non_null(raft_entries(g.r, 3, 4, &count));
    assert_int_equal(count, 1);
    assert_null(raft_entries(g.r, 3, 5, &count));
    end(&g);
}

static void R17_a_late_completion_does_not_mark_what_replaced_the_entry(void **state)
{
    (void)state;
    struct rig g = rig_with(3, 2, NULL);
    struct raft_entry a = noop(1, 2), b = noop(1, 3);
    step(&g, append(2, 0, 0, &a, 1, 0));
    drain(&g);
    uint64_t first = g.fx.sync;
    step(&g, append(3, 0, 0, &b, 1, 0));
    drain(&g);
    raft_persisted(g.r, first);
    assert_int_equal(status(&g).durable_index, 0);
    synced(&g);
    assert_int_equal(status(&g).durable_index, 1);
    end(&g);
}

/* ---- 5.4 safety -------------------------------------------------------------------------------
 */

static void s541_votes_only_for_logs_that_are_up_to_date(void **state)
{
    (void)state;
    static const struct {
        uint64_t index, term;
        bool granted;
    } cases[] = {{3, 2, true}, {4, 2, true}, {1, 3, true}, {2, 2, false}, {9, 1, false}};
    for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
        struct rig g = rig_with(3, 4, TERMS_112);
        step(&g, vote_request(2, 5, cases[i].index, cases[i].term));
        drain(&g);
        assert_int_equal(sent(&g, RAFT_MSG_VOTE_RESULT, 2)->msg.vote_result.granted,
                         cases[i].granted);
        end(&g);
    }
}

static void R01_R02_an_old_entry_commits_only_with_one_of_the_own_term(void **state)
{
    (void)state;
    struct rig g = rig_with(3, 4, TERMS_112);
    lead(&g); /* no-op at 4 [Raft fig. 8] */
    synced(&g);
    ack(&g, 2, 3);
    assert_int_equal(status(&g).commit_index, 0);
    ack(&g, 3, 4);
    assert_int_equal(status(&g).commit_index, 4);
    end(&g);
}

/* The last vote it needs may come when a newer leader is at work already. It then leads in good
 * faith, without what the newer one committed, and nothing comes of it. */
static void s543_a_leader_elected_late_commits_nothing_and_goes(void **state)
{
    (void)state;
    struct rig g = rig_with(3, 1, TERMS_111);
    lead(&g); /* of term 2; 3 has voted in term 3 by now, and its leader committed entry 4 */
    synced(&g);
    assert_int_equal(status(&g).last.term, 2);
    step(&g, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT_RESULT, .from = 3, .term = 3});
    assert_int_equal(status(&g).role, RAFT_FOLLOWER);
    ack(&g, 2, 4); /* too late: it is nobody's acknowledgement any more */
    assert_int_equal(status(&g).commit_index, 0);
    struct raft_entry newer = noop(4, 3);
    step(&g, append(3, 3, 1, &newer, 1, 4));
    assert_int_equal(status(&g).last.index, 4);
    assert_int_equal(status(&g).last.term, 3);
    assert_int_equal(status(&g).commit_index, 4);
    end(&g);
}

static void R04_the_leader_counts_itself_after_its_own_sync(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead(&g);
    ack(&g, 2, 1);
    assert_int_equal(status(&g).commit_index, 0);
    synced(&g);
    assert_int_equal(status(&g).commit_index, 1);
    end(&g);
}

static void commits_are_handed_out_when_the_own_disk_has_them(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead(&g);
    ack(&g, 2, 1);
    ack(&g, 3, 1); /* a majority without us */
    assert_int_equal(status(&g).commit_index, 1);
    drain(&g);
    assert_int_equal(g.fx.commit_index, 0);
    raft_persisted(g.r, g.fx.sync);
    drain(&g);
    assert_int_equal(g.fx.commit_index, 1);
    end(&g);
}

/* ---- 7 snapshots ------------------------------------------------------------------------------
 */

static struct raft_msg snapshot_msg(const struct raft_snapshot *s, uint64_t term)
{
    return (struct raft_msg){.type = RAFT_MSG_SNAPSHOT, .from = 2, .term = term, .snapshot = s};
}

static void s7_a_snapshot_replaces_log_state_and_configuration(void **state)
{
    (void)state;
    struct rig g = rig_with(3, 2, TERMS_111);
    struct raft_snapshot s = {.last = {7, 2}, .conf = conf_of(4)};
    step(&g, snapshot_msg(&s, 2));
    drain(&g);
    assert_true(g.fx.has_install);
    assert_int_equal(g.fx.install.last.index, 7);
    assert_int_equal(g.fx.message_count, 0); /* nothing is promised yet */
    assert_false(raft_campaign(g.r));        /* [E07] */
    raft_snapshot_installed(g.r, &g.fx.install);
    drain(&g);
    assert_int_equal(status(&g).commit_index, 7);
    assert_int_equal(status(&g).first_index, 8);
    assert_int_equal(raft_conf(g.r)->voter_count, 4); /* [S12, M04] */
    const struct raft_send *a = sent(&g, RAFT_MSG_APPEND_RESULT, 2);
    assert_int_equal(a->msg.append_result.matched_index, 7);
    assert_true(a->after_sync);
    end(&g);
}

/* Its vote request may still be held back for the disk and leave after the install, with the old
 * log's last entry in it: the votes it brings must count for nothing. */
static void s7_who_installs_a_snapshot_is_out_of_the_race_of_that_term(void **state)
{
    (void)state;
    struct rig g = rig_with(3, 4, TERMS_112);
    assert_true(raft_campaign(g.r)); /* term 5; nothing is on disk yet */
    drain(&g);
    assert_int_equal(sent(&g, RAFT_MSG_VOTE, 2)->msg.vote.last.index, 3);
    struct raft_snapshot label = {.last = {2, 5}, .conf = conf_of(3)};
    step(&g,
         (struct raft_msg){.type = RAFT_MSG_SNAPSHOT, .from = 2, .term = 5, .snapshot = &label});
    assert_true(status(&g).installing);
    assert_false(raft_campaign(g.r));
    drain(&g);
    raft_snapshot_installed(g.r, &label);
    synced(&g);
    step(&g, (struct raft_msg){
                 .type = RAFT_MSG_VOTE_RESULT, .from = 3, .term = 5, .vote_result = {true}});
    assert_int_equal(status(&g).role, RAFT_FOLLOWER);
    assert_int_equal(status(&g).voted_for, 1);
    assert_true(raft_campaign(g.r)); /* the next race is another term's, with the new log */
    drain(&g);
    const struct raft_msg *m = &sent(&g, RAFT_MSG_VOTE, 2)->msg;
    assert_int_equal(m->term, 6);
    assert_int_equal(m->vote.last.index, 2);
    end(&g);
}

static void S06_a_late_snapshot_is_answered_and_ignored(void **state)
{
    (void)state;
    struct rig g = rig_with(3, 1, TERMS_111);
    step(&g, append(1, 3, 1, NULL, 0, 3));
    struct raft_snapshot s = {.last = {2, 1}, .conf = conf_of(3)};
    step(&g, snapshot_msg(&s, 1));
    raft_drain(g.r, &g.fx);
    assert_false(g.fx.has_install);
    assert_int_equal(g.fx.messages[1].msg.append_result.matched_index, 3);
    end(&g);
}

static void s7_who_lags_behind_the_log_gets_a_snapshot_then_appends(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead(&g);
    synced(&g);
    ack(&g, 2, 1);
    drain(&g);
    raft_applied(g.r, 1);
    raft_compact(g.r, 1);
    step(&g, (struct raft_msg){.type = RAFT_MSG_APPEND_RESULT,
                               .from = 3,
                               .term = 1,
                               .append_result = {.refused_index = 0, .hint = {0, 0}}});
    raft_peer_lost(g.r, 3);
    step(&g, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT_RESULT, .from = 3, .term = 1});
    drain(&g);
    assert_int_equal(g.fx.snapshot_peer_count, 1);
    assert_int_equal(g.fx.snapshot_peers[0], 3);
    raft_snapshot_sent(g.r, 3, true);
    ack(&g, 3, 1);
    struct raft_progress p;
    assert_true(raft_progress_of(g.r, 3, &p));
    assert_int_equal(p.state, RAFT_PROGRESS_REPLICATE);
    assert_int_equal(p.next_index, 2); /* [R11] the compacted entry's term is known: no snapshot */
    assert_int_equal(propose(&g, "x"), RAFT_ACCEPTED);
    drain(&g);
    assert_int_equal(sent(&g, RAFT_MSG_APPEND, 3)->msg.append.prev.index, 1);
    assert_int_equal(g.fx.snapshot_peer_count, 0);
    end(&g);
}

static void a_member_without_configuration_takes_no_entries_and_asks_for_a_snapshot(void **state)
{
    (void)state;
    struct rig g = rig(0);
    struct raft_entry noop = {.id = {.index = 1, .term = 1}, .kind = RAFT_ENTRY_NOOP};
    step(&g, append(1, 0, 0, &noop, 1, 1));
    drain(&g);
    assert_int_equal(status(&g).last.index, 0);
    assert_int_equal(status(&g).commit_index, 0);
    const struct raft_send *s = sent(&g, RAFT_MSG_APPEND_RESULT, 2);
    assert_false(s->msg.append_result.accepted);
    assert_true(s->msg.append_result.wants_snapshot);
    /* The mark survives the wire; nobody else refuses from the very start. */
    struct nb_buf bytes = {0};
    struct nb_arena arena = {0};
    struct raft_msg out;
    raft_msg_encode(&s->msg, &bytes);
    assert_int_equal(raft_msg_decode(nb_buf_bytes(&bytes), &out, &arena), NB_OK);
    assert_true(out.append_result.wants_snapshot);
    bytes.data[2] = 0;
    assert_int_equal(raft_msg_decode(nb_buf_bytes(&bytes), &out, &arena), NB_MALFORMED);
    bytes.data[2] = 5; /* accepted, and wants a snapshot */
    assert_int_equal(raft_msg_decode(nb_buf_bytes(&bytes), &out, &arena), NB_MALFORMED);
    nb_buf_deinit(&bytes);
    nb_arena_deinit(&arena);
    struct raft_snapshot label = {.last = {3, 1}, .conf = conf_of(3)};
    step(&g, snapshot_msg(&label, 1));
    drain(&g);
    assert_true(g.fx.has_install);
    raft_snapshot_installed(g.r, &g.fx.install);
    assert_int_equal(raft_conf(g.r)->voter_count, 3);
    end(&g);
}

static void E07_a_member_without_configuration_never_campaigns(void **state)
{
    (void)state;
    struct rig g = rig(0);
    for (unsigned i = 0; i < 5 * ET; i++) {
        raft_tick(g.r);
        drain(&g);
        assert_null(sent(&g, RAFT_MSG_VOTE, 0));
        assert_null(sent(&g, RAFT_MSG_PRE_VOTE, 0));
    }
    assert_false(raft_campaign(g.r));
    end(&g);
}

static void who_asks_for_a_snapshot_gets_one_though_the_log_begins_at_1(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead(&g);
    synced(&g);
    ack(&g, 2, 1);
    drain(&g);
    const struct raft_msg wish = {.type = RAFT_MSG_APPEND_RESULT,
                                  .from = 3,
                                  .term = 1,
                                  .append_result = {.wants_snapshot = true}};
    step(&g, wish);
    drain(&g);
    assert_int_equal(status(&g).first_index, 1);
    assert_int_equal(g.fx.snapshot_peer_count, 1);
    assert_int_equal(g.fx.snapshot_peers[0], 3);
    step(&g, wish); /* while it is on its way */
    drain(&g);
    assert_int_equal(g.fx.snapshot_peer_count, 0);
    raft_snapshot_sent(g.r, 3, true);
    ack(&g, 3, 1);
    drain(&g);
    step(&g, wish); /* late: it holds something since [R08] */
    drain(&g);
    assert_int_equal(g.fx.snapshot_peer_count, 0);
    struct raft_progress p;
    assert_true(raft_progress_of(g.r, 3, &p));
    assert_int_equal(p.state, RAFT_PROGRESS_REPLICATE);
    end(&g);
}

static void M11_a_change_of_what_is_attached_keeps_who_votes(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    struct raft_conf before = *raft_conf(g.r);
    struct raft_conf_change keep = {.mode = RAFT_CONF_KEEP};
    struct raft_entry_id id;
    assert_int_equal(raft_propose_conf(g.r, &keep, nb_bytes_str("urls"), &id), RAFT_CONF_ACCEPTED);
    assert_true(raft_conf_equal(&before, raft_conf(g.r)));
    assert_int_equal(status(&g).conf_index, id.index);
    /* [M02] it is a change like any other */
    assert_int_equal(raft_propose_conf(g.r, &keep, nb_bytes_str("urls"), NULL),
                     RAFT_CONF_IN_FLIGHT);
    keep.steps[keep.step_count++] = (struct raft_conf_step){RAFT_CONF_REMOVE, 3};
    struct raft_conf out;
    assert_int_equal(raft_conf_apply(&before, &keep, &out), RAFT_CONF_INVALID);
    end(&g);
}

static void S07_an_unanswered_snapshot_is_asked_for_again(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    raft_compact(g.r, 1);
    raft_members_peer(g.r, 3)->match = 0; /* as if it had never answered */
    raft_peer_lost(g.r, 3);
    step(&g, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT_RESULT, .from = 3, .term = 1});
    drain(&g);
    assert_int_equal(g.fx.snapshot_peer_count, 1);
    raft_snapshot_sent(g.r, 3, true);
    unsigned asked = 0;
    for (unsigned i = 0; i < 3 * ET; i++) {
        raft_tick(g.r);
        for (uint64_t id = 2; id <= 3; id++) {
            step(&g, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT_RESULT, .from = id, .term = 1});
        }
        drain(&g);
        asked += (unsigned)g.fx.snapshot_peer_count;
    }
    assert_int_equal(asked, 1);
    end(&g);
}

/* ---- thesis 3.10 transfer ---------------------------------------------------------------------
 */

static void E08_transfer_waits_for_the_target_and_is_given_up(void **state)
{
    (void)state;
    struct rig g = rig(3);
    g.r->config.check_quorum = false;
    lead_for_good(&g);
    assert_int_equal(propose(&g, "x"), RAFT_ACCEPTED);
    assert_int_equal(raft_transfer(g.r, 2), RAFT_TRANSFER_STARTED);
    assert_int_equal(raft_transfer(g.r, 1), RAFT_TRANSFER_BAD_TARGET);
    drain(&g);
    assert_null(sent(&g, RAFT_MSG_TIMEOUT_NOW, 2));
    assert_int_equal(propose(&g, "y"), RAFT_DROPPED);
    ack(&g, 2, 2);
    drain(&g);
    assert_non_null(sent(&g, RAFT_MSG_TIMEOUT_NOW, 2));
    for (unsigned i = 0; i < ET; i++) {
        raft_tick(g.r);
    }
    assert_int_equal(status(&g).transfer_target, 0);
    assert_int_equal(propose(&g, "y"), RAFT_ACCEPTED);
    end(&g);
}

static void E08_timeout_now_campaigns_past_stickiness(void **state)
{
    (void)state;
    struct rig g = rig(3);
    g.r->config.pre_vote = true;
    step(&g, append(1, 0, 0, NULL, 0, 0));
    step(&g, (struct raft_msg){.type = RAFT_MSG_TIMEOUT_NOW, .from = 3, .term = 1});
    assert_int_equal(status(&g).role, RAFT_FOLLOWER); /* 3 is not the leader */
    step(&g, (struct raft_msg){.type = RAFT_MSG_TIMEOUT_NOW, .from = 2, .term = 1});
    assert_int_equal(status(&g).role, RAFT_CANDIDATE);
    drain(&g);
    assert_true(sent(&g, RAFT_MSG_VOTE, 3)->msg.vote.transfer);
    end(&g);
}

/* ---- thesis 4 membership ----------------------------------------------------------------------
 */

static enum raft_conf_outcome change(struct rig *g, enum raft_conf_mode mode,
                                     enum raft_conf_step_kind kind, uint64_t id)
{
    struct raft_conf_change c = {.mode = mode, .steps = {{kind, id}}, .step_count = 1};
    return raft_propose_conf(g->r, &c, nb_bytes_str("url"), NULL);
}

static void M01_M02_a_change_waits_for_the_term_and_for_the_one_before(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead(&g);
    assert_int_equal(change(&g, RAFT_CONF_AUTO, RAFT_CONF_ADD_LEARNER, 4),
                     RAFT_CONF_TERM_UNCOMMITTED);
    synced(&g);
    ack(&g, 2, 1);
    assert_int_equal(change(&g, RAFT_CONF_AUTO, RAFT_CONF_ADD_LEARNER, 4), RAFT_CONF_ACCEPTED);
    assert_int_equal(change(&g, RAFT_CONF_AUTO, RAFT_CONF_ADD_LEARNER, 5), RAFT_CONF_IN_FLIGHT);
    drain(&g);
    synced(&g);
    ack(&g, 2, 2);
    assert_int_equal(change(&g, RAFT_CONF_AUTO, RAFT_CONF_ADD_VOTER, 4), RAFT_CONF_ACCEPTED);
    assert_int_equal(raft_conf(g.r)->voter_count, 4);
    end(&g);
}

static void M03_a_cut_configuration_is_rolled_back(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    assert_int_equal(change(&g, RAFT_CONF_AUTO, RAFT_CONF_REMOVE, 3), RAFT_CONF_ACCEPTED);
    assert_int_equal(raft_conf(g.r)->voter_count, 2);
    drain(&g);
    struct raft_entry e = noop(2, 2);
    step(&g, append(2, 1, 1, &e, 1, 1));
    assert_int_equal(raft_conf(g.r)->voter_count, 3);
    assert_int_equal(status(&g).conf_index, 0);
    end(&g);
}

static void M07_the_last_voter_cannot_be_removed(void **state)
{
    (void)state;
    struct rig g = rig(1);
    raft_tick(g.r);
    drain(&g);
    synced(&g);
    drain(&g);
    synced(&g);
    assert_int_equal(change(&g, RAFT_CONF_AUTO, RAFT_CONF_REMOVE, 1), RAFT_CONF_NO_VOTER_LEFT);
    assert_int_equal(change(&g, RAFT_CONF_AUTO, RAFT_CONF_REMOVE, 9), RAFT_CONF_NOT_A_MEMBER);
    assert_int_equal(change(&g, RAFT_CONF_AUTO, RAFT_CONF_ADD_VOTER, 1), RAFT_CONF_ALREADY);
    assert_int_equal(change(&g, RAFT_CONF_AUTO, RAFT_CONF_ADD_VOTER, 0), RAFT_CONF_INVALID);
    end(&g);
}

static void M12_a_leader_that_removes_itself_does_not_count_informs_and_leaves(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    assert_int_equal(change(&g, RAFT_CONF_AUTO, RAFT_CONF_REMOVE, 1), RAFT_CONF_ACCEPTED);
    drain(&g);
    synced(&g);
    ack(&g, 2, 2);
    assert_int_equal(status(&g).commit_index, 1); /* it and 2 are not a majority of {2, 3} */
    ack(&g, 3, 2);
    assert_int_equal(status(&g).commit_index, 2);
    drain(&g);
    assert_int_equal(sent(&g, RAFT_MSG_APPEND, 2)->msg.append.leader_commit, 2);
    assert_int_equal(sent(&g, RAFT_MSG_APPEND, 3)->msg.append.leader_commit, 2);
    assert_non_null(sent(&g, RAFT_MSG_TIMEOUT_NOW, 0));
    assert_int_equal(status(&g).role, RAFT_FOLLOWER);
    assert_false(raft_campaign(g.r));
    end(&g);
}

static void joint_phase_needs_both_majorities_and_is_left_by_itself(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    struct raft_conf_change c = {.mode = RAFT_CONF_AUTO,
                                 .steps = {{RAFT_CONF_REMOVE, 2},
                                           {RAFT_CONF_REMOVE, 3},
                                           {RAFT_CONF_ADD_VOTER, 4},
                                           {RAFT_CONF_ADD_VOTER, 5}},
                                 .step_count = 4};
    struct raft_conf_change simple = c;
    simple.mode = RAFT_CONF_SIMPLE;
    assert_int_equal(raft_propose_conf(g.r, &simple, (struct nb_bytes){0}, NULL),
                     RAFT_CONF_NEEDS_JOINT);
    assert_int_equal(raft_propose_conf(g.r, &c, (struct nb_bytes){0}, NULL), RAFT_CONF_ACCEPTED);
    drain(&g);
    synced(&g);
    ack(&g, 4, 2);
    ack(&g, 5, 2);
    assert_int_equal(status(&g).commit_index, 1); /* the old majority is missing */
    ack(&g, 2, 2);
    assert_int_equal(status(&g).commit_index, 2);
    assert_int_equal(status(&g).last.index, 3); /* the entry that leaves */
    assert_int_equal(raft_conf(g.r)->outgoing_count, 0);
    assert_int_equal(raft_conf(g.r)->voter_count, 3);
    end(&g);
}

static void a_demoted_voter_is_a_learner_after_the_joint_phase(void **state)
{
    (void)state;
    struct raft_conf from = conf_of(3), joint, after;
    struct raft_conf_change c = {
        .mode = RAFT_CONF_JOINT, .steps = {{RAFT_CONF_ADD_LEARNER, 3}}, .step_count = 1};
    assert_int_equal(raft_conf_apply(&from, &c, &joint), RAFT_CONF_ACCEPTED);
    assert_int_equal(joint.learner_count, 0);
    assert_int_equal(joint.learner_next_count, 1);
    assert_true(raft_conf_has_voter(&joint, 3));
    c = (struct raft_conf_change){.mode = RAFT_CONF_LEAVE};
    assert_int_equal(raft_conf_apply(&joint, &c, &after), RAFT_CONF_ACCEPTED);
    assert_int_equal(after.learner_count, 1);
    assert_false(raft_conf_has_voter(&after, 3));
    assert_int_equal(raft_conf_apply(&after, &c, &joint), RAFT_CONF_NOT_IN_JOINT);
}

static void E05_a_removed_member_is_told_and_believes_only_who_knows(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    step(&g, vote_request(9, 7, 99, 6));
    drain(&g);
    assert_non_null(sent(&g, RAFT_MSG_REMOVED, 9));
    assert_int_equal(status(&g).role, RAFT_LEADER);
    assert_int_equal(status(&g).term, 1);
    end(&g);
    g = rig_with(3, 1, TERMS_111);
    step(&g, append(1, 3, 1, NULL, 0, 3));
    struct raft_msg m = {.type = RAFT_MSG_REMOVED, .from = 2, .term = 1, .removed = {2}};
    step(&g, m);
    drain(&g);
    assert_false(g.fx.removed); /* it has committed less than we have */
    m.removed.commit_index = 8;
    step(&g, m);
    drain(&g);
    assert_true(g.fx.removed);
    end(&g);
}

static void E06_E07_learners_vote_when_asked_and_never_campaign(void **state)
{
    (void)state;
    struct raft_config c;
    raft_config_defaults(&c);
    c.id = 1;
    struct raft_start start = {
        .snapshot.conf = {.voters = {2, 3}, .voter_count = 2, .learners = {1}, .learner_count = 1}};
    struct rig g = {0};
    assert_int_equal(raft_create(&c, &start, &g.r), NB_OK);
    for (unsigned i = 0; i < 5 * ET; i++) {
        raft_tick(g.r);
    }
    assert_int_equal(status(&g).role, RAFT_FOLLOWER);
    step(&g, vote_request(2, 1, 0, 0));
    drain(&g);
    assert_true(sent(&g, RAFT_MSG_VOTE_RESULT, 2)->msg.vote_result.granted);
    end(&g);
    start.snapshot.conf = (struct raft_conf){0}; /* has heard nothing at all */
    assert_int_equal(raft_create(&c, &start, &g.r), NB_OK);
    assert_false(raft_campaign(g.r));
    end(&g);
}

/* ---- thesis 6.4 reads -------------------------------------------------------------------------
 */

static void confirm(struct rig *g, uint64_t from, uint64_t round)
{
    step(g, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT_RESULT,
                              .from = from,
                              .term = status(g).term,
                              .heartbeat_result = {.read_round = round}});
}

static void Q01_Q03_a_read_waits_for_a_round_of_its_own(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    assert_int_equal(raft_read(g.r, 70), RAFT_ACCEPTED);
    assert_int_equal(raft_read(g.r, 71), RAFT_ACCEPTED);
    drain(&g);
    assert_int_equal(g.fx.read_ready_count, 0);
    uint64_t round = sent(&g, RAFT_MSG_HEARTBEAT, 2)->msg.heartbeat.read_round;
    assert_int_equal(raft_read(g.r, 72), RAFT_ACCEPTED); /* begins after that round */
    drain(&g);
    confirm(&g, 2, round);
    drain(&g);
    assert_int_equal(g.fx.read_ready_count, 2);
    assert_int_equal(g.fx.reads_ready[0].context, 70);
    assert_int_equal(g.fx.reads_ready[0].index, 1);
    confirm(&g, 2, round); /* once more the old answer */
    drain(&g);
    assert_int_equal(g.fx.read_ready_count, 0);
    confirm(&g, 3, round + 1);
    drain(&g);
    assert_int_equal(g.fx.read_ready_count, 1);
    end(&g);
}

static void Q02_a_read_is_held_until_the_noop_commits(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead(&g);
    assert_int_equal(raft_read(g.r, 7), RAFT_ACCEPTED);
    drain(&g);
    assert_int_equal(g.fx.message_count, 0);
    synced(&g);
    ack(&g, 2, 1);
    drain(&g);
    uint64_t round = sent(&g, RAFT_MSG_APPEND, 2)->msg.append.read_round; /* rides on an append */
    assert_int_not_equal(round, 0);
    confirm(&g, 2, round);
    drain(&g);
    assert_int_equal(g.fx.reads_ready[0].index, 1);
    end(&g);
}

static void Q04_a_change_of_leader_fails_reads(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    assert_int_equal(raft_read(g.r, 7), RAFT_ACCEPTED);
    raft_resign(g.r);
    drain(&g);
    assert_int_equal(g.fx.read_failed_count, 1);
    assert_int_equal(g.fx.reads_failed[0], 7);
    assert_int_equal(raft_read(g.r, 8), RAFT_NO_LEADER);
    end(&g);
}

static void Q06_learners_confirm_no_read(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    assert_int_equal(change(&g, RAFT_CONF_AUTO, RAFT_CONF_ADD_LEARNER, 4), RAFT_CONF_ACCEPTED);
    assert_int_equal(raft_read(g.r, 7), RAFT_ACCEPTED);
    drain(&g);
    confirm(&g, 4, g.r->read_round);
    drain(&g);
    assert_int_equal(g.fx.read_ready_count, 0);
    end(&g);
}

static void Q07_a_waiting_read_is_judged_by_the_newest_configuration(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    assert_int_equal(raft_read(g.r, 7), RAFT_ACCEPTED);
    drain(&g);
    uint64_t round = g.r->read_round;
    assert_int_equal(change(&g, RAFT_CONF_AUTO, RAFT_CONF_ADD_VOTER, 4), RAFT_CONF_ACCEPTED);
    drain(&g);
    confirm(&g, 2, round); /* with us a majority of three, not of four */
    drain(&g);
    assert_int_equal(g.fx.read_ready_count, 0);
    confirm(&g, 3, round);
    drain(&g);
    assert_int_equal(g.fx.read_ready_count, 1);
    end(&g);
}

static void Q08_no_clock_answers_a_read(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    assert_int_equal(raft_read(g.r, 7), RAFT_ACCEPTED);
    drain(&g);
    confirm(&g, 2, g.r->read_round);
    drain(&g);
    assert_int_equal(g.fx.read_ready_count, 1); /* a majority has just said who leads */
    assert_int_equal(raft_read(g.r, 8), RAFT_ACCEPTED);
    drain(&g);
    assert_int_equal(g.fx.read_ready_count, 0); /* and yet the next read asks anew */
    for (int i = 0; i < 2 * ET && status(&g).role == RAFT_LEADER; i++) {
        raft_tick(g.r);
        drain(&g);
        assert_int_equal(g.fx.read_ready_count, 0);
    }
    assert_int_equal(status(&g).role, RAFT_FOLLOWER);
    assert_int_equal(g.fx.read_failed_count, 1);
    end(&g);
}

static void Q09_a_forwarded_read_is_asked_again_until_answered(void **state)
{
    (void)state;
    struct rig g = rig(3);
    step(&g, append(1, 0, 0, NULL, 0, 0));
    assert_int_equal(raft_read(g.r, 5), RAFT_FORWARDED);
    assert_int_equal(raft_read(g.r, 6), RAFT_FORWARDED);
    drain(&g);
    uint64_t batch = sent(&g, RAFT_MSG_READ, 2)->msg.read.context;
    raft_tick(g.r);
    drain(&g);
    assert_int_equal(sent(&g, RAFT_MSG_READ, 2)->msg.read.context, batch);
    struct raft_msg m = {.type = RAFT_MSG_READ_RESULT, .from = 2, .term = 1};
    m.read_result = (struct raft_read_result){.context = batch + 1, .index = 3};
    step(&g, m);
    drain(&g);
    assert_int_equal(g.fx.read_ready_count, 0);
    m.read_result.context = batch;
    step(&g, m);
    drain(&g);
    assert_int_equal(g.fx.read_ready_count, 2);
    end(&g);
}

/* ---- thesis 9.6, 6.2 availability -------------------------------------------------------------
 */

static void E01_members_that_hear_a_leader_grant_nothing(void **state)
{
    (void)state;
    struct rig g = rig(3);
    step(&g, append(1, 0, 0, NULL, 0, 0));
    drain(&g);
    step(&g, vote_request(3, 9, 9, 9));
    drain(&g);
    assert_int_equal(g.fx.message_count, 0);
    assert_int_equal(status(&g).term, 1);
    struct raft_msg pre = vote_request(3, 2, 9, 9);
    pre.type = RAFT_MSG_PRE_VOTE;
    step(&g, pre);
    drain(&g);
    assert_false(sent(&g, RAFT_MSG_PRE_VOTE_RESULT, 3)->msg.vote_result.granted);
    raft_peer_lost(g.r, 2); /* who lost the leader too may have it */
    step(&g, pre);
    drain(&g);
    assert_true(sent(&g, RAFT_MSG_PRE_VOTE_RESULT, 3)->msg.vote_result.granted);
    assert_int_equal(sent(&g, RAFT_MSG_PRE_VOTE_RESULT, 3)->msg.term, 2); /* [E03] */
    assert_int_equal(status(&g).term, 1);
    end(&g);
}

static void E03_a_pre_candidate_keeps_its_term_and_forgets_its_leader(void **state)
{
    (void)state;
    struct rig g = rig(3);
    g.r->config.pre_vote = true;
    step(&g, append(4, 0, 0, NULL, 0, 0));
    assert_true(raft_campaign(g.r));
    assert_int_equal(status(&g).role, RAFT_PRE_CANDIDATE);
    assert_int_equal(status(&g).term, 4);
    assert_int_equal(status(&g).leader_id, 0);
    step(&g, (struct raft_msg){
                 .type = RAFT_MSG_PRE_VOTE_RESULT, .from = 3, .term = 5, .vote_result = {true}});
    assert_int_equal(status(&g).role, RAFT_CANDIDATE);
    assert_int_equal(status(&g).term, 5);
    end(&g);
}

static void E04_a_leader_that_hears_no_majority_resigns_in_one_timeout(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    for (unsigned i = 0; i < ET; i++) {
        assert_int_equal(status(&g).role, RAFT_LEADER);
        raft_tick(g.r);
    }
    assert_int_equal(status(&g).role, RAFT_FOLLOWER);
    end(&g);
}

static void E12_a_leader_with_a_hung_disk_resigns_and_does_not_campaign(void **state)
{
    (void)state;
    struct rig g = rig(3);
    g.r->config.sync_timeout_ticks = 5;
    lead_for_good(&g);
    assert_int_equal(propose(&g, "x"), RAFT_ACCEPTED);
    drain(&g);
    for (unsigned i = 0; i < 5; i++) {
        raft_tick(g.r);
    }
    assert_int_equal(status(&g).role, RAFT_FOLLOWER);
    assert_false(raft_campaign(g.r));
    synced(&g);
    assert_true(raft_campaign(g.r));
    end(&g);
}

static void E11_heartbeats_and_their_answers_never_wait_for_a_disk(void **state)
{
    (void)state;
    struct rig g = rig(3);
    step(&g,
         (struct raft_msg){
             .type = RAFT_MSG_HEARTBEAT, .from = 2, .term = 3, .heartbeat = {.read_round = 77}});
    drain(&g);
    assert_true(g.fx.has_hard_state); /* the new term is not on disk yet */
    const struct raft_send *s = sent(&g, RAFT_MSG_HEARTBEAT_RESULT, 2);
    assert_false(s->after_sync);
    assert_int_equal(s->msg.heartbeat_result.read_round, 77);
    end(&g);
}

/* ---- limits, restart --------------------------------------------------------------------------
 */

static void R20_the_backlog_is_bounded_and_comes_free_again(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    g.r->config.uncommitted_bytes_max = 100;
    unsigned taken = 0;
    while (propose(&g, "0123456789") == RAFT_ACCEPTED) {
        taken++;
    }
    assert_int_equal(taken, 3);
    drain(&g);
    synced(&g);
    ack(&g, 2, 4);
    assert_int_equal(propose(&g, "x"), RAFT_ACCEPTED);
    end(&g);
}

static void the_pipeline_stops_at_its_window(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    g.r->config.append_entry_count_max = 1;
    g.r->config.inflight_count_max = 2;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(propose(&g, "x"), RAFT_ACCEPTED);
    }
    drain(&g);
    assert_int_equal(g.fx.message_count, 4); /* two for each */
    ack(&g, 2, 2);
    drain(&g);
    assert_int_equal(g.fx.message_count, 1);
    assert_int_equal(g.fx.messages[0].msg.append.prev.index, 3);
    end(&g);
}

static void R23_a_follower_forwards_or_gives_back(void **state)
{
    (void)state;
    struct rig g = rig(3);
    assert_int_equal(propose(&g, "x"), RAFT_NO_LEADER);
    step(&g, append(1, 0, 0, NULL, 0, 0));
    assert_int_equal(propose(&g, "a"), RAFT_FORWARDED);
    assert_int_equal(propose(&g, "b"), RAFT_FORWARDED);
    drain(&g);
    assert_int_equal(sent(&g, RAFT_MSG_PROPOSE, 2)->msg.propose.entry_count, 2);
    assert_int_equal(propose(&g, "c"), RAFT_FORWARDED);
    raft_peer_lost(g.r, 2);
    drain(&g);
    assert_null(sent(&g, RAFT_MSG_PROPOSE, 0));
    assert_int_equal(g.fx.dropped_count, 1);
    end(&g);
}

static void R16_what_ends_after_stepping_down_is_judged_in_the_new_role(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    uint64_t term = status(&g).term;
    assert_int_equal(propose(&g, "x"), RAFT_ACCEPTED);
    drain(&g);
    uint64_t sync = g.fx.sync;
    step(&g, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT_RESULT, .from = 2, .term = term + 1});
    assert_int_equal(status(&g).role, RAFT_FOLLOWER);
    raft_persisted(g.r, sync); /* the write of the old leader ends, and its answers come in */
    for (uint64_t id = 2; id <= 3; id++) {
        step(&g, (struct raft_msg){.type = RAFT_MSG_APPEND_RESULT,
                                   .from = id,
                                   .term = term,
                                   .append_result = {.accepted = true, .matched_index = 2}});
        step(&g, (struct raft_msg){.type = RAFT_MSG_APPEND_RESULT,
                                   .from = id,
                                   .term = term + 1,
                                   .append_result = {.accepted = true, .matched_index = 2}});
    }
    drain(&g);
    assert_int_equal(status(&g).commit_index, 1);
    assert_null(sent(&g, RAFT_MSG_APPEND, 0));
    end(&g);
}

static void R18_the_log_in_memory_follows_every_cut(void **state)
{
    (void)state;
    struct rig g = rig_with(3, 2, TERMS_111);
    struct raft_entry other = noop(2, 2);
    step(&g, append(2, 1, 1, &other, 1, 0));
    size_t count;
    const struct raft_entry *e = raft_entries(g.r, 1, 3, &count);
    assert_int_equal(count, 2);
    assert_int_equal(e[0].id.term, 1);
    assert_int_equal(e[1].id.term, 2);
    assert_int_equal(status(&g).last.index, 2); /* what was behind the cut is gone here as well */
    drain(&g);
    assert_int_equal(g.fx.append_count, 1); /* and on disk: the append replaces all from 2 on */
    assert_int_equal(g.fx.append[0].id.index, 2);
    assert_int_equal(g.fx.append[0].id.term, 2);
    end(&g);
}

static void R25_indexes_and_terms_at_the_end_of_their_range_change_nothing(void **state)
{
    (void)state;
    struct rig g = rig_with(3, 2, TERMS_111);
    static const uint64_t ends[] = {UINT64_MAX, UINT64_MAX - 1, UINT64_C(1) << 63};
    for (size_t i = 0; i < NB_ARRAY_LEN(ends); i++) {
        step(&g, append(2, ends[i], 2, NULL, 0, ends[i])); /* a gap, and a commit beyond it */
        step(&g, append(2, 3, 1, NULL, 0, ends[i]));
        drain(&g);
        synced(&g);
        assert_int_equal(status(&g).last.index, 3);
        assert_in_range(status(&g).commit_index, 0, 3); /* never what we do not have */
    }
    end(&g);
    g = rig(3);
    lead_for_good(&g);
    uint64_t last = status(&g).last.index;
    for (size_t i = 0; i < NB_ARRAY_LEN(ends); i++) {
        ack(&g, 2, ends[i]);
        step(&g, (struct raft_msg){
                     .type = RAFT_MSG_APPEND_RESULT,
                     .from = 3,
                     .term = status(&g).term,
                     .append_result = {.refused_index = ends[i], .hint = {ends[i], ends[i]}}});
        drain(&g);
        assert_int_equal(status(&g).commit_index, last);
    }
    end(&g);
}

static void R26_a_start_that_contradicts_itself_is_refused(void **state)
{
    (void)state;
    struct raft_config c;
    raft_config_defaults(&c);
    struct raft *r;
    struct raft_start ok = {.hard = {.term = 3}, .snapshot.conf = conf_of(3)};
    assert_int_equal(raft_create(&c, &ok, &r), NB_INVALID); /* no id */
    c.id = 1;
    struct raft_entry e[2] = {noop(1, 1), noop(2, 3)};
    struct raft_start s = ok;
    s.entries = e;
    s.entry_count = 2;
    s.hard.commit_index = 3;
    assert_int_equal(raft_create(&c, &s, &r), NB_CORRUPT); /* commit beyond the log */
    s.hard.commit_index = 2;
    s.applied_index = 3;
    assert_int_equal(raft_create(&c, &s, &r), NB_CORRUPT); /* applied beyond the log */
    s.applied_index = 0;
    e[1].id.index = 3;
    assert_int_equal(raft_create(&c, &s, &r), NB_CORRUPT); /* a gap */
    e[1].id.index = 2;
    s.hard.term = 2;
    assert_int_equal(raft_create(&c, &s, &r), NB_CORRUPT); /* an entry of a later term */
    s.hard.term = 3;
    assert_int_equal(raft_create(&c, &s, &r), NB_OK);
    raft_destroy(r);
    /* A snapshot ahead of the saved term is one crash away, and no contradiction [S03]. */
    s = (struct raft_start){.hard = {.term = 1}, .snapshot = {.last = {5, 4}, .conf = conf_of(3)}};
    assert_int_equal(raft_create(&c, &s, &r), NB_OK);
    struct raft_status st;
    raft_status(r, &st);
    assert_int_equal(st.term, 4);
    raft_destroy(r);
}

static void a_message_survives_the_wire(void **state)
{
    (void)state;
    struct rig g = rig(3);
    lead_for_good(&g);
    assert_int_equal(propose(&g, "hello"), RAFT_ACCEPTED);
    assert_int_equal(change(&g, RAFT_CONF_AUTO, RAFT_CONF_ADD_LEARNER, 4), RAFT_CONF_ACCEPTED);
    drain(&g);
    const struct raft_msg *m = &sent(&g, RAFT_MSG_APPEND, 3)->msg;
    struct nb_buf bytes = {0};
    raft_msg_encode(m, &bytes);
    assert_int_equal(bytes.len, raft_msg_encoded_size(m));
    struct nb_arena arena = {0};
    struct raft_msg back;
    assert_int_equal(raft_msg_decode(nb_buf_bytes(&bytes), &back, &arena), NB_OK);
    assert_int_equal(back.append.entry_count, 2);
    assert_int_equal(back.append.entries[0].id.index, 2);
    assert_memory_equal(back.append.entries[0].payload->data, "hello", 5);
    struct raft_conf conf;
    struct nb_bytes attached;
    assert_int_equal(
        raft_conf_decode(nb_payload_bytes(back.append.entries[1].payload), &conf, &attached),
        NB_OK);
    assert_true(raft_conf_equal(&conf, raft_conf(g.r)));
    assert_true(nb_bytes_equal(attached, nb_bytes_str("url")));
    raft_msg_release(&back);
    for (size_t len = 0; len < bytes.len; len++) { /* cut short anywhere */
        assert_int_not_equal(raft_msg_decode(nb_bytes_of(bytes.data, len), &back, &arena), NB_OK);
    }
    nb_arena_deinit(&arena);
    nb_buf_deinit(&bytes);
    end(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s51_R15_a_higher_term_makes_everybody_a_follower),
        cmocka_unit_test(s51_R15_every_answer_of_a_higher_term_ends_every_role),
        cmocka_unit_test(s51_E02_a_leader_of_an_old_term_is_told),
        cmocka_unit_test(s52_E10_a_follower_campaigns_between_one_and_two_timeouts),
        cmocka_unit_test(s52_a_majority_of_votes_makes_a_leader),
        cmocka_unit_test(R12_a_vote_counts_once_and_only_for_its_term_and_kind),
        cmocka_unit_test(s52_one_vote_a_term),
        cmocka_unit_test(R03_votes_vote_requests_and_acks_wait_for_the_disk),
        cmocka_unit_test(R03_the_own_vote_counts_when_it_is_on_disk),
        cmocka_unit_test(R13_leader_and_candidate_refuse_votes_of_their_term),
        cmocka_unit_test(s52_a_candidate_follows_the_leader_of_its_term),
        cmocka_unit_test(s52_a_single_voter_elects_itself_on_the_first_tick),
        cmocka_unit_test(R04_a_single_voter_commits_after_its_own_sync),
        cmocka_unit_test(s53_one_drain_gives_one_append_a_follower),
        cmocka_unit_test(s53_an_append_behind_a_gap_is_refused_with_a_hint),
        cmocka_unit_test(s53_a_leader_goes_back_by_terms),
        cmocka_unit_test(R09_entries_already_held_are_skipped_not_rewritten),
        cmocka_unit_test(s53_a_conflict_cuts_and_replaces_the_tail),
        cmocka_unit_test(R07_commit_only_what_the_request_vouches_for),
        cmocka_unit_test(R08_match_only_grows_and_stays_below_next),
        cmocka_unit_test(R10_R11_terms_at_the_edges_of_the_log),
        cmocka_unit_test(R17_a_late_completion_does_not_mark_what_replaced_the_entry),
        cmocka_unit_test(s541_votes_only_for_logs_that_are_up_to_date),
        cmocka_unit_test(R01_R02_an_old_entry_commits_only_with_one_of_the_own_term),
        cmocka_unit_test(s543_a_leader_elected_late_commits_nothing_and_goes),
        cmocka_unit_test(R04_the_leader_counts_itself_after_its_own_sync),
        cmocka_unit_test(commits_are_handed_out_when_the_own_disk_has_them),
        cmocka_unit_test(s7_a_snapshot_replaces_log_state_and_configuration),
        cmocka_unit_test(s7_who_installs_a_snapshot_is_out_of_the_race_of_that_term),
        cmocka_unit_test(S06_a_late_snapshot_is_answered_and_ignored),
        cmocka_unit_test(s7_who_lags_behind_the_log_gets_a_snapshot_then_appends),
        cmocka_unit_test(a_member_without_configuration_takes_no_entries_and_asks_for_a_snapshot),
        cmocka_unit_test(E07_a_member_without_configuration_never_campaigns),
        cmocka_unit_test(who_asks_for_a_snapshot_gets_one_though_the_log_begins_at_1),
        cmocka_unit_test(M11_a_change_of_what_is_attached_keeps_who_votes),
        cmocka_unit_test(S07_an_unanswered_snapshot_is_asked_for_again),
        cmocka_unit_test(E08_transfer_waits_for_the_target_and_is_given_up),
        cmocka_unit_test(E08_timeout_now_campaigns_past_stickiness),
        cmocka_unit_test(M01_M02_a_change_waits_for_the_term_and_for_the_one_before),
        cmocka_unit_test(M03_a_cut_configuration_is_rolled_back),
        cmocka_unit_test(M07_the_last_voter_cannot_be_removed),
        cmocka_unit_test(M12_a_leader_that_removes_itself_does_not_count_informs_and_leaves),
        cmocka_unit_test(joint_phase_needs_both_majorities_and_is_left_by_itself),
        cmocka_unit_test(a_demoted_voter_is_a_learner_after_the_joint_phase),
        cmocka_unit_test(E05_a_removed_member_is_told_and_believes_only_who_knows),
        cmocka_unit_test(E06_E07_learners_vote_when_asked_and_never_campaign),
        cmocka_unit_test(Q01_Q03_a_read_waits_for_a_round_of_its_own),
        cmocka_unit_test(Q02_a_read_is_held_until_the_noop_commits),
        cmocka_unit_test(Q04_a_change_of_leader_fails_reads),
        cmocka_unit_test(Q06_learners_confirm_no_read),
        cmocka_unit_test(Q07_a_waiting_read_is_judged_by_the_newest_configuration),
        cmocka_unit_test(Q08_no_clock_answers_a_read),
        cmocka_unit_test(Q09_a_forwarded_read_is_asked_again_until_answered),
        cmocka_unit_test(E01_members_that_hear_a_leader_grant_nothing),
        cmocka_unit_test(E03_a_pre_candidate_keeps_its_term_and_forgets_its_leader),
        cmocka_unit_test(E04_a_leader_that_hears_no_majority_resigns_in_one_timeout),
        cmocka_unit_test(E12_a_leader_with_a_hung_disk_resigns_and_does_not_campaign),
        cmocka_unit_test(E11_heartbeats_and_their_answers_never_wait_for_a_disk),
        cmocka_unit_test(R20_the_backlog_is_bounded_and_comes_free_again),
        cmocka_unit_test(the_pipeline_stops_at_its_window),
        cmocka_unit_test(R23_a_follower_forwards_or_gives_back),
        cmocka_unit_test(R16_what_ends_after_stepping_down_is_judged_in_the_new_role),
        cmocka_unit_test(R18_the_log_in_memory_follows_every_cut),
        cmocka_unit_test(R25_indexes_and_terms_at_the_end_of_their_range_change_nothing),
        cmocka_unit_test(R26_a_start_that_contradicts_itself_is_refused),
        cmocka_unit_test(a_message_survives_the_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What raft hands out for the disk, on its way into the log. */
#include "replica/internal.h"

#include "storage/disk_memory.h"
#include "tests/support/unit.h"

enum { ENTRIES = 600, TERM = 7 };

static const struct wal_ident ident = {.cluster_id = 1, .member_id = 2};
static const struct wal_options small = {.segment_size = 65536, .batch_size_target = 4096};

static uint64_t stopped_clock(void *user)
{
    (void)user;
    return 0;
}

static struct disk *fresh_disk(void)
{
    struct disk *d = disk_memory_create(1);
    assert_int_equal(disk_mkdir(d, "wal"), NB_OK);
    assert_int_equal(disk_sync_dir(d, "."), NB_OK);
    return d;
}

/* Opens the log, and gives what it holds. */
static struct wal *open_log(struct disk *d, struct wal_recovered *out)
{
    struct nb_buf message = {0};
    struct wal *w;
    assert_int_equal(wal_open(d, "wal", &ident, &small, out, &w, &message), NB_OK);
    nb_buf_deinit(&message);
    return w;
}

/* An append of a new leader's: many entries of its term, and the term. */
static void append_many(struct replica *r)
{
    struct raft_entry *entries = nb_alloc_zero(ENTRIES, sizeof *entries);
    struct nb_payload *payload = nb_payload_copy(nb_bytes_str("0123456789012345678901234567890"));
    for (size_t i = 0; i < ENTRIES; i++) {
        entries[i] = (struct raft_entry){
            .id = {.index = i + 1, .term = TERM}, .kind = RAFT_ENTRY_COMMAND, .payload = payload};
    }
    const struct raft_effects fx = {.has_hard_state = true,
                                    .hard_state = {.term = TERM, .voted_for = 3},
                                    .append = entries,
                                    .append_count = ENTRIES,
                                    .sync = 1};
    replica_append_to_log(r, &fx);
    nb_payload_release(payload);
    nb_free(entries);
}

/* The power goes at the `call`th call of the disk; true when the append got that far. */
static bool cut_at(uint64_t call, size_t *out_entries)
{
    struct disk *d = fresh_disk();
    struct wal_recovered log = {0};
    struct wal *w = open_log(d, &log);
    wal_recovered_deinit(&log);
    struct replica r = {.wal = w, .world.now_ns = stopped_clock};
    uint64_t calls = disk_memory_calls(d);
    disk_memory_stop_at(d, call);
    append_many(&r);
    wal_flush(w);
    while (wal_durable(w) < r.batch_last && wal_status(w) == NB_OK &&
           disk_memory_calls(d) <= calls + call) {
        (void)disk_memory_step(d, 1);
        (void)disk_reap(d);
    }
    bool reached = disk_memory_calls(d) > calls + call;
    disk_memory_crash(d);
    (void)disk_reap(d);
    wal_abandon(w);
    w = open_log(d, &log);
    *out_entries = log.entry_count;
    if (log.entry_count != 0) {
        assert_int_equal(log.hard_state.term, TERM);
        assert_int_equal(log.hard_state.voted_for, 3);
    }
    wal_recovered_deinit(&log);
    wal_abandon(w);
    nb_free(r.syncs.items);
    disk_destroy(d);
    return reached;
}

/* Term and vote come with the first piece of an append that takes several batches: entries of a
 * term that the hard state does not know contradict it. */
static void R05_the_term_is_durable_no_later_than_its_first_entry(void **state)
{
    (void)state;
    bool partly = false;
    size_t entries;
    uint64_t call = 0;
    while (cut_at(call, &entries)) {
        partly = partly || (entries != 0 && entries < ENTRIES);
        call++;
    }
    assert_true(partly); /* it was cut between its pieces at least once */
    assert_int_equal(entries, ENTRIES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R05_the_term_is_durable_no_later_than_its_first_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

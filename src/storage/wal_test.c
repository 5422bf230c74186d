#include "storage/wal.h"

#include "base/random.h"
#include "storage/disk_linux.h"
#include "storage/disk_memory.h"
#include "storage/wal_format.h"
#include "tests/support/unit.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static const struct wal_ident ident = {.cluster_id = 0xc1, .member_id = 0x31};
static const struct wal_options small = {.segment_size = 32768, .batch_size_target = 8192};

static struct nb_payload *content_of(uint64_t index, uint64_t term)
{
    size_t len = (size_t)((index * 37 + term * 11) % 1500);
    struct nb_payload *p = nb_payload_create(len);
    for (size_t i = 0; i < len; i++) {
        p->data[i] = (uint8_t)(index * 7 + term + i);
    }
    return p;
}

static bool content_is(const struct wal_entry *e)
{
    struct nb_payload *p = content_of(e->index, e->term);
    bool same = nb_bytes_equal(nb_payload_bytes(p), nb_payload_bytes(e->payload));
    nb_payload_release(p);
    return same;
}

/* Appends `count` entries from `index` on. Returns the batch. */
static uint64_t put(struct wal *w, uint64_t index, size_t count, uint64_t term,
                    const struct wal_hard_state *hard)
{
    struct wal_entry entries[64] = {0};
    for (size_t i = 0; i < count; i++) {
        entries[i] = (struct wal_entry){
            .index = index + i, .term = term, .kind = 3, .payload = content_of(index + i, term)};
    }
    uint64_t batch = wal_append(w, hard, entries, count);
    for (size_t i = 0; i < count; i++) {
        nb_payload_release(entries[i].payload);
    }
    return batch;
}

static enum nb_status reopen(struct disk *d, struct wal_recovered *r, struct wal **w)
{
    struct nb_buf message = {0};
    enum nb_status status = wal_open(d, "wal", &ident, &small, r, w, &message);
    if (status != NB_OK) {
        assert_true(message.len != 0);
        nb_buf_append(&message, "\n", 2);
        if (status == NB_CORRUPT) {
            print_message("%s", (const char *)message.data);
        }
    }
    nb_buf_deinit(&message);
    return status;
}

static struct disk *fresh_disk(uint64_t seed)
{
    struct disk *d = disk_memory_create(seed);
    assert_int_equal(disk_mkdir(d, "wal"), NB_OK);
    assert_int_equal(disk_sync_dir(d, "."), NB_OK);
    return d;
}

static void until_durable(struct disk *d, struct wal *w, uint64_t batch)
{
    wal_flush(w);
    while (wal_durable(w) < batch && wal_status(w) == NB_OK && d->outstanding != 0) {
        disk_wait(d);
    }
}

static void what_was_appended_is_recovered_over_many_segments(void **state)
{
    (void)state;
    struct disk *d = fresh_disk(unit_seed());
    struct wal_recovered r;
    struct wal *w;
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    assert_true(r.created);
    wal_recovered_deinit(&r);
    for (uint64_t i = 1; i <= 200; i++) {
        struct wal_hard_state hard = {.term = 2, .voted_for = 7, .commit_index = i - 1};
        until_durable(d, w, put(w, i, 1, 2, &hard));
        assert_int_equal(wal_status(w), NB_OK);
    }
    size_t segments;
    (void)wal_size(w, &segments);
    assert_true(segments > 3);
    wal_close(w);
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    assert_int_equal(r.entry_count, 200);
    assert_int_equal(r.hard_state.commit_index, 199);
    assert_int_equal(r.hard_state.voted_for, 7);
    for (size_t i = 0; i < r.entry_count; i++) {
        assert_int_equal(r.entries[i].index, i + 1);
        assert_int_equal(r.entries[i].kind, 3);
        assert_true(content_is(&r.entries[i]));
    }
    wal_recovered_deinit(&r);
    wal_close(w);
    disk_destroy(d);
}

static void later_entries_replace_the_tail_and_marks_cut_the_head(void **state)
{
    (void)state;
    struct disk *d = fresh_disk(unit_seed());
    struct wal_recovered r;
    struct wal *w;
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    (void)put(w, 1, 20, 1, NULL);
    (void)put(w, 11, 3, 2, NULL);
    until_durable(d, w, wal_mark_snapshot(w, (struct wal_mark){.index = 5, .term = 1}));
    wal_close(w);
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    assert_int_equal(r.entry_count, 8); /* 6..13 */
    assert_int_equal(r.entries[0].index, 6);
    assert_int_equal(r.entries[7].term, 2);
    assert_int_equal(r.next_index, 14);
    wal_recovered_deinit(&r);
    until_durable(d, w, wal_mark_snapshot(w, (struct wal_mark){.index = 900, .term = 4}));
    until_durable(d, w, put(w, 901, 2, 4, NULL));
    wal_close(w);
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    assert_int_equal(r.mark.index, 900);
    assert_int_equal(r.entry_count, 2);
    assert_int_equal(r.entries[0].index, 901);
    wal_recovered_deinit(&r);
    wal_close(w);
    disk_destroy(d);
}

static void W15_a_record_larger_than_a_segment_gets_its_own(void **state)
{
    (void)state;
    struct disk *d = fresh_disk(unit_seed());
    struct wal_recovered r;
    struct wal *w;
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    struct nb_payload *big = nb_payload_create(200000);
    memset(big->data, 0xa5, big->len);
    struct wal_entry e = {.index = 1, .term = 1, .payload = big};
    until_durable(d, w, wal_append(w, NULL, &e, 1));
    until_durable(d, w, put(w, 2, 3, 1, NULL));
    assert_int_equal(wal_status(w), NB_OK);
    wal_close(w);
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    assert_int_equal(r.entry_count, 4);
    assert_true(nb_bytes_equal(nb_payload_bytes(big), nb_payload_bytes(r.entries[0].payload)));
    nb_payload_release(big);
    wal_recovered_deinit(&r);
    wal_close(w);
    disk_destroy(d);
}

static void W16_release_removes_only_what_lies_wholly_below(void **state)
{
    (void)state;
    struct disk *d = fresh_disk(unit_seed());
    struct wal_recovered r;
    struct wal *w;
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    for (uint64_t i = 1; i <= 300; i++) {
        until_durable(d, w, put(w, i, 1, 1, NULL));
    }
    size_t before;
    size_t after;
    (void)wal_size(w, &before);
    wal_release(w, 150);
    while (d->outstanding != 0) {
        disk_wait(d);
    }
    (void)wal_size(w, &after);
    assert_true(after < before && after > 1);
    wal_close(w);
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    assert_true(r.entries[0].index <= 151 && r.entries[0].index > 100);
    assert_int_equal(r.next_index, 301);
    wal_recovered_deinit(&r);
    wal_close(w);
    disk_destroy(d);
}

static void restarts_do_not_pile_up_segments(void **state)
{
    (void)state;
    struct disk *d = fresh_disk(unit_seed());
    struct wal_recovered r;
    struct wal *w;
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    until_durable(d, w, put(w, 1, 1, 1, NULL));
    wal_abandon(w);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(reopen(d, &r, &w), NB_OK);
        assert_int_equal(r.entry_count, 1);
        wal_recovered_deinit(&r);
        size_t count;
        (void)wal_size(w, &count);
        assert_int_equal(count, 1);
        wal_abandon(w);
    }
    disk_destroy(d);
}

/* One life: append, replace, mark, release at random until `calls` disk calls are made, then crash.
 */
static void W06_nothing_acknowledged_is_lost_in_any_crash(void **state)
{
    (void)state;
    uint64_t rounds = unit_scaled(400);
    struct nb_random seeds;
    nb_random_init(&seeds, unit_seed());
    for (uint64_t round = 0; round < rounds; round++) {
        struct nb_random x;
        nb_random_init(&x, nb_random_u64(&seeds));
        struct disk *d = fresh_disk(nb_random_u64(&x));
        static uint64_t terms[100000];
        uint64_t last = 0;
        uint64_t highest = 0; /* entries of a replaced tail come back when the new one is lost */
        uint64_t acked_last = 0;
        uint64_t term = 1;
        for (unsigned life = 0; life < 6; life++) {
            struct wal_recovered r;
            struct wal *w = NULL;
            bool sudden = life != 0 && nb_random_chance(&x, 1, 4);
            if (sudden) { /* a crash during recovery */
                disk_memory_stop_at(d, nb_random_below(&x, 25));
            }
            enum nb_status status = reopen(d, &r, &w);
            if (sudden) {
                if (status == NB_OK) {
                    wal_recovered_deinit(&r);
                    wal_abandon(w);
                }
                disk_memory_crash(d);
                status = reopen(d, &r, &w);
            }
            assert_int_equal(status, NB_OK);
            assert_true(r.next_index > acked_last);
            assert_true(r.hard_state.term <= term);
            for (size_t i = 0; i < r.entry_count; i++) {
                assert_true(r.entries[i].index <= highest);
                if (r.entries[i].index <= acked_last) {
                    assert_int_equal(r.entries[i].term, terms[r.entries[i].index]);
                }
                assert_true(content_is(&r.entries[i]));
                terms[r.entries[i].index] = r.entries[i].term;
            }
            last = r.next_index - 1;
            acked_last = last;
            wal_recovered_deinit(&r);
            disk_memory_stop_at(d, 5 + nb_random_below(&x, 120));
            struct {
                uint64_t batch, last;
            } promises[400];
            size_t promise_count = 0;
            for (unsigned step = 0; step < 300 && wal_status(w) == NB_OK; step++) {
                uint64_t from = last + 1;
                if (nb_random_chance(&x, 1, 10) && last > acked_last) {
                    from = acked_last + 1 + nb_random_below(&x, last - acked_last);
                    term++;
                    /* Unacknowledged promises beyond are void. */
                    for (size_t i = 0; i < promise_count; i++) {
                        promises[i].last =
                            promises[i].last < from - 1 ? promises[i].last : from - 1;
                    }
                }
                size_t count = 1 + (size_t)nb_random_below(&x, 4);
                for (size_t i = 0; i < count; i++) {
                    terms[from + i] = term;
                }
                last = from + count - 1;
                highest = last > highest ? last : highest;
                struct wal_hard_state hard = {.term = term, .commit_index = acked_last};
                promises[promise_count].batch = put(w, from, count, term, &hard);
                promises[promise_count++].last = last;
                wal_flush(w);
                (void)disk_memory_step(d, (size_t)nb_random_below(&x, 4));
                (void)disk_reap(d);
                for (size_t i = 0; i < promise_count; i++) {
                    if (promises[i].batch <= wal_durable(w) && promises[i].last > acked_last) {
                        acked_last = promises[i].last;
                    }
                }
                if (nb_random_chance(&x, 1, 8)) {
                    wal_release(w, acked_last > 20 ? acked_last - 20 : 0);
                }
                if (nb_random_chance(&x, 1, 8)) {
                    wal_mark_durable(w);
                }
            }
            /* The process dies with its memory; the disk keeps what it may. */
            disk_memory_crash(d);
            wal_abandon(w);
        }
        disk_destroy(d);
    }
}

static void W05_every_failing_call_ends_the_log_and_loses_nothing(void **state)
{
    (void)state;
    bool reached_the_end = false;
    for (uint64_t n = 0; !reached_the_end; n++) {
        struct disk *d = fresh_disk(n + 1);
        struct wal_recovered r;
        struct wal *w;
        assert_int_equal(reopen(d, &r, &w), NB_OK);
        uint64_t calls = disk_memory_calls(d);
        disk_memory_fail_at(d, n, NB_IO);
        uint64_t acked = 0;
        for (uint64_t i = 1; i <= 60 && wal_status(w) == NB_OK; i++) {
            uint64_t batch = put(w, i, 1, 1, NULL);
            until_durable(d, w, batch);
            if (wal_durable(w) >= batch) {
                acked = i;
            }
        }
        reached_the_end = disk_memory_calls(d) - calls <= n;
        if (!reached_the_end) {
            /* A call in the background may be the failing one; then it shows a little later. */
            while (d->outstanding != 0) {
                disk_wait(d);
            }
            assert_int_equal(wal_status(w), NB_IO);
        }
        wal_abandon(w);
        disk_memory_crash(d);
        assert_int_equal(reopen(d, &r, &w), NB_OK);
        assert_true(r.next_index > acked);
        wal_recovered_deinit(&r);
        wal_close(w);
        disk_destroy(d);
        assert_true(n < 1000);
    }
}

static void find_one(void *context, const char *name)
{
    char **out = context;
    if (strstr(name, ".wal") != NULL) {
        nb_free(*out);
        *out = nb_sprintf("wal/%s", name);
    }
}

/* Turns each bit of the last segment: it is told, or nothing acknowledged is missing. */
static void sweep(struct disk *d, uint64_t acked, bool *noticed_all_in_use, size_t in_use)
{
    char *path = NULL;
    assert_int_equal(disk_list(d, "wal", find_one, &path), NB_OK);
    size_t len;
    uint8_t *bytes = disk_memory_content(d, path, &len);
    *noticed_all_in_use = true;
    size_t step = unit_scaled(100) < 100 ? 7 : 1;
    for (size_t bit = 0; bit < 8 * len; bit += bit < 8 * in_use ? step : 4099) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct wal_recovered r;
        struct nb_buf message = {0};
        enum nb_status status = wal_read_all(d, "wal", &ident, NULL, &r, &message);
        if (status == NB_OK) {
            assert_true(r.next_index > acked);
            *noticed_all_in_use = *noticed_all_in_use && bit >= 8 * in_use;
        } else {
            assert_true(message.len != 0);
        }
        wal_recovered_deinit(&r);
        nb_buf_deinit(&message);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    nb_free(path);
}

static void W02_W03_every_flipped_bit_of_a_log_is_noticed(void **state)
{
    (void)state;
    struct disk *d = fresh_disk(1);
    struct wal_recovered r;
    struct wal *w;
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    struct wal_hard_state hard = {.term = 1, .voted_for = 2, .commit_index = 0};
    until_durable(d, w, put(w, 1, 2, 1, &hard));
    until_durable(d, w, put(w, 3, 1, 1, NULL));
    wal_abandon(w);
    bool all;
    sweep(d, 3, &all, 4096 + 2 * 4096);
    assert_true(all);
    /* A log that recovery began, with the same records in one batch. */
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    wal_recovered_deinit(&r);
    until_durable(d, w, put(w, 4, 1, 1, NULL));
    wal_abandon(w);
    sweep(d, 4, &all, 4096 + 2 * 4096);
    assert_true(all);
    disk_destroy(d);
}

static void W02_flips_in_the_segment_after_a_roll_and_after_recovery_are_noticed(void **state)
{
    (void)state;
    struct disk *d = fresh_disk(3);
    struct wal_recovered r;
    struct wal *w;
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    size_t segments = 1;
    uint64_t last = 0;
    while (segments < 2) {
        until_durable(d, w, put(w, ++last, 1, 1, NULL));
        (void)wal_size(w, &segments);
    }
    while (d->outstanding != 0) {
        disk_wait(d);
    }
    wal_abandon(w);
    bool all;
    sweep(d, last, &all, 2 * 4096);
    assert_true(all);
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    wal_recovered_deinit(&r);
    wal_abandon(w);
    sweep(d, last, &all, 4096);
    assert_true(all);
    disk_destroy(d);
}

static void W07_a_batch_in_a_segment_without_a_durable_name_is_not_acknowledged(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct disk *d = fresh_disk(seed);
        struct wal_recovered r;
        struct wal *w;
        assert_int_equal(reopen(d, &r, &w), NB_OK);
        uint64_t last = 0;
        size_t segments = 1;
        while (segments < 2) { /* up to the roll, whose requests are then all on their way */
            until_durable(d, w, wal_durable(w));
            (void)put(w, ++last, 1, 1, NULL);
            wal_flush(w);
            (void)wal_size(w, &segments);
            if (segments < 2) {
                disk_wait(d);
            }
            (void)wal_size(w, &segments);
        }
        uint64_t before = wal_durable(w);
        while (wal_durable(w) == before) {
            disk_wait(d);
        }
        uint64_t acked = wal_durable(w); /* a batch an entry */
        disk_memory_crash(d);
        wal_abandon(w);
        assert_int_equal(reopen(d, &r, &w), NB_OK);
        assert_true(r.next_index > acked);
        wal_recovered_deinit(&r);
        wal_close(w);
        disk_destroy(d);
    }
}

static void W02_a_lost_sector_before_the_end_is_damage_and_at_the_end_a_torn_write(void **state)
{
    (void)state;
    struct disk *d = fresh_disk(4);
    struct wal_recovered r;
    struct wal *w;
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    for (uint64_t i = 1; i <= 3; i++) {
        until_durable(d, w,
                      put(w, i, 1, 1, NULL)); /* one block each: batches at 4096, 8192, 12288 */
    }
    wal_abandon(w);
    char *path = NULL;
    assert_int_equal(disk_list(d, "wal", find_one, &path), NB_OK);
    for (size_t at = 0; at < 4 * 4096; at += 512) {
        size_t len;
        uint8_t *bytes = disk_memory_content(d, path, &len);
        uint8_t keep[512];
        memcpy(keep, bytes + at, sizeof keep);
        memset(bytes + at, 0, sizeof keep);
        struct nb_buf message = {0};
        enum nb_status status = wal_read_all(d, "wal", &ident, NULL, &r, &message);
        assert_int_equal(status, at < 12288 ? NB_CORRUPT : NB_OK);
        if (status == NB_OK) {
            assert_int_equal(r.next_index, 3);
        }
        wal_recovered_deinit(&r);
        nb_buf_deinit(&message);
        memcpy(bytes + at, keep, sizeof keep);
    }
    nb_free(path);
    disk_destroy(d);
}

static void W18_two_runs_give_equal_files(void **state)
{
    (void)state;
    struct nb_buf first = {0};
    for (unsigned run = 0; run < 2; run++) {
        struct disk *d = fresh_disk(5);
        struct wal_recovered r;
        struct wal *w;
        assert_int_equal(reopen(d, &r, &w), NB_OK);
        void *dirt = malloc(70000); /* so that fresh memory differs between the runs */
        memset(dirt, (int)(run + 1), 70000);
        free(dirt);
        for (uint64_t i = 1; i < 10; i++) {
            until_durable(d, w, put(w, i, 1, 1, NULL));
        }
        wal_close(w);
        char *path = NULL;
        assert_int_equal(disk_list(d, "wal", find_one, &path), NB_OK);
        size_t len;
        const uint8_t *bytes = disk_memory_content(d, path, &len);
        if (run == 0) {
            nb_buf_append(&first, bytes, len);
        } else {
            assert_true(nb_bytes_equal(nb_buf_bytes(&first), nb_bytes_of(bytes, len)));
        }
        nb_free(path);
        disk_destroy(d);
    }
    nb_buf_deinit(&first);
}

static void a_foreign_log_and_a_missing_tail_are_refused(void **state)
{
    (void)state;
    struct disk *d = fresh_disk(9);
    struct wal_recovered r;
    struct wal *w;
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    until_durable(d, w, put(w, 1, 3, 1, NULL));
    wal_close(w);
    struct nb_buf message = {0};
    const struct wal_ident other = {.cluster_id = 0xc1, .member_id = 0x99};
    assert_int_equal(wal_open(d, "wal", &other, &small, &r, &w, &message), NB_FOREIGN);
    const struct wal_options more = {.segment_size = 32768, .index_expected = 4};
    assert_int_equal(wal_open(d, "wal", &ident, &more, &r, &w, &message), NB_CORRUPT); /* R26 */
    nb_buf_deinit(&message);
    disk_destroy(d);
}

static void W13_a_full_disk_holds_the_log_and_room_lets_it_go_on(void **state)
{
    (void)state;
    struct disk *d = fresh_disk(11);
    struct wal_recovered r;
    struct wal *w;
    assert_int_equal(reopen(d, &r, &w), NB_OK);
    disk_memory_limit(d, 32768 + 1000);
    uint64_t batch = 0;
    for (uint64_t i = 1; i <= 40; i++) {
        batch = put(w, i, 1, 1, NULL);
        until_durable(d, w, batch);
    }
    assert_int_equal(wal_status(w), NB_OK);
    assert_true(wal_durable(w) < batch && wal_pending_bytes(w) != 0 && wal_is_full(w));
    disk_memory_limit(d, UINT64_MAX);
    wal_mark_durable(w);
    until_durable(d, w, batch);
    assert_int_equal(wal_durable(w), batch);
    wal_close(w);
    disk_destroy(d);
}

/* Where the last two batches of a log lie. */
struct tail {
    char name[64];
    uint64_t from, end;
    uint64_t before; /* offset of the last batch */
};

static void tail_segment(void *context, const char *name, uint64_t sequence, uint64_t first_index)
{
    struct tail *t = context;
    (void)sequence;
    (void)first_index;
    (void)snprintf(t->name, sizeof t->name, "wal/%s", name);
}

static void tail_batch(void *context, uint64_t sequence, uint64_t durable, uint64_t offset,
                       size_t len)
{
    struct tail *t = context;
    (void)sequence;
    (void)durable;
    (void)len;
    t->from = t->before;
    t->before = offset;
}

/* Leaves the last two batches where a failed sync leaves them: in the page cache, and nowhere else.
 */
static void only_cached(struct disk *d)
{
    struct tail tail = {0};
    struct wal_recovered r;
    struct nb_buf message = {0};
    const struct wal_visitor visitor = {
        .on_segment = tail_segment, .on_batch = tail_batch, .context = &tail};
    assert_int_equal(wal_read_all(d, "wal", &ident, &visitor, &r, &message), NB_OK);
    assert_int_equal(r.next_index, 8);
    wal_recovered_deinit(&r);
    nb_buf_deinit(&message);
    size_t len;
    uint8_t *content = disk_memory_content(d, tail.name, &len);
    assert_true(content != NULL && tail.from != 0 && tail.from < tail.before && tail.before < len);
    struct nb_buf kept = {0};
    nb_buf_append(&kept, content + tail.from, len - tail.from);
    memset(content + tail.from, 0, len - tail.from);
    struct disk_file *file;
    assert_int_equal(disk_open(d, tail.name, DISK_READ_WRITE, &file), NB_OK);
    assert_int_equal(disk_sync(file), NB_OK);
    assert_int_equal(disk_write(file, tail.from, kept.data, kept.len), NB_OK);
    disk_close(file);
    nb_buf_deinit(&kept);
}

/* A sync fails, the process ends and starts again: it reads from the page cache what the device may
 * never have got, counts it as durable, and promises it. Then the power goes. */
static void W06_what_a_start_read_from_the_page_cache_survives_a_power_cut(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 20; round++) {
        struct disk *d = fresh_disk(unit_seed() + round);
        struct wal_recovered r;
        struct wal *w;
        assert_int_equal(reopen(d, &r, &w), NB_OK);
        wal_recovered_deinit(&r);
        for (uint64_t i = 1; i <= 5; i++) {
            until_durable(d, w, put(w, i, 1, 1, NULL));
        }
        (void)put(w, 6, 1, 1, NULL);
        wal_flush(w); /* two on their way at once: neither says that the other is durable */
        until_durable(d, w, put(w, 7, 1, 1, NULL));
        wal_abandon(w);
        only_cached(d);
        assert_int_equal(reopen(d, &r, &w), NB_OK);
        assert_int_equal(r.next_index, 8); /* this start says that it has them */
        wal_recovered_deinit(&r);
        wal_abandon(w);
        disk_memory_crash(d);
        assert_int_equal(reopen(d, &r, &w), NB_OK);
        assert_int_equal(r.next_index, 8);
        for (size_t i = 0; i < r.entry_count; i++) {
            assert_true(content_is(&r.entries[i]));
        }
        wal_recovered_deinit(&r);
        wal_abandon(w);
        disk_destroy(d);
    }
}

static void the_real_disk_recovers_in_every_mode(void **state)
{
    (void)state;
    for (unsigned mode = 0; mode < 4; mode++) {
        char dir[] = "wal_test.XXXXXX";
        assert_non_null(mkdtemp(dir));
        const struct disk_linux_options options = {.probe_dir = dir,
                                                   .no_aio = mode == 1 || mode == 2,
                                                   .no_rwf_dsync = mode == 2,
                                                   .no_sync = mode == 3};
        struct disk *d;
        assert_int_equal(disk_linux_create(&options, &d), NB_OK);
        print_message("mode %s\n", disk_mode(d));
        for (unsigned life = 0; life < 3; life++) {
            struct wal_recovered r;
            struct wal *w;
            struct nb_buf message = {0};
            const struct wal_options o = {.segment_size = 256 * 1024};
            assert_int_equal(wal_open(d, dir, &ident, &o, &r, &w, &message), NB_OK);
            assert_int_equal(r.next_index, 1 + life * 100);
            for (size_t i = 0; i < r.entry_count; i++) {
                assert_true(content_is(&r.entries[i]));
            }
            uint64_t batch = 0;
            for (uint64_t i = 0; i < 100; i++) {
                batch = put(w, r.next_index + i, 1, 1, NULL);
                wal_flush(w);
                (void)disk_reap(d);
            }
            wal_recovered_deinit(&r);
            until_durable(d, w, batch);
            assert_int_equal(wal_status(w), NB_OK);
            assert_int_equal(wal_durable(w), batch);
            wal_close(w);
        }
        disk_destroy(d);
        char *command = nb_sprintf("rm -rf %s", dir);
        assert_int_equal(system(command), 0);
        nb_free(command);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_appended_is_recovered_over_many_segments),
        cmocka_unit_test(later_entries_replace_the_tail_and_marks_cut_the_head),
        cmocka_unit_test(W15_a_record_larger_than_a_segment_gets_its_own),
        cmocka_unit_test(W16_release_removes_only_what_lies_wholly_below),
        cmocka_unit_test(restarts_do_not_pile_up_segments),
        cmocka_unit_test(W06_nothing_acknowledged_is_lost_in_any_crash),
        cmocka_unit_test(W05_every_failing_call_ends_the_log_and_loses_nothing),
        cmocka_unit_test(W02_W03_every_flipped_bit_of_a_log_is_noticed),
        cmocka_unit_test(W02_flips_in_the_segment_after_a_roll_and_after_recovery_are_noticed),
        cmocka_unit_test(W07_a_batch_in_a_segment_without_a_durable_name_is_not_acknowledged),
        cmocka_unit_test(W02_a_lost_sector_before_the_end_is_damage_and_at_the_end_a_torn_write),
        cmocka_unit_test(W18_two_runs_give_equal_files),
        cmocka_unit_test(a_foreign_log_and_a_missing_tail_are_refused),
        cmocka_unit_test(W06_what_a_start_read_from_the_page_cache_survives_a_power_cut),
        cmocka_unit_test(W13_a_full_disk_holds_the_log_and_room_lets_it_go_on),
        cmocka_unit_test(the_real_disk_recovers_in_every_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/support/peer_testing.h"

#include <xxhash.h>

struct outcome {
    unsigned count;
    enum nb_status status;
};

static void on_done(void *user, uint64_t to, enum nb_status status)
{
    struct outcome *o = user;
    assert_int_equal(to, 2);
    o->count++;
    o->status = status;
}

static const struct raft_snapshot label = {.last = {.index = 1234, .term = 5},
                                           .conf = {.voters = {1, 2}, .voter_count = 2}};

static struct raft_msg announce(uint64_t from, uint64_t to)
{
    return (struct raft_msg){
        .type = RAFT_MSG_SNAPSHOT, .from = from, .to = to, .term = 6, .snapshot = &label};
}

/* A file of `size` bytes of noise; its checksum in out_crc. */
static int noise(size_t size, uint32_t *out_crc)
{
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    struct nb_random r;
    nb_random_init(&r, unit_seed() + size);
    uint8_t *bytes = nb_alloc(size + 8);
    for (size_t i = 0; i < size; i += 8) {
        nb_put_u64(bytes + i, nb_random_u64(&r));
    }
    assert_int_equal(write(fd, bytes, size), size);
    *out_crc = nb_crc32c(0, bytes, size);
    nb_free(bytes);
    return fd;
}

static void send_file(struct node *a, int fd, uint64_t size, struct outcome *o)
{
    struct raft_msg m = announce(1, 2);
    assert_int_equal(peer_send_snapshot(a->t, 2, fd, size, &m, on_done, o), NB_OK);
    assert_int_equal(o->count, 0);
}

static void S09_a_snapshot_of_any_size_arrives_whole_with_its_label(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 3 * 65536, 5000001};
    struct world w;
    world_init(&w);
    world_pair(&w);
    struct node *a = &w.nodes[0], *b = &w.nodes[1];
    for (size_t i = 0; i < NB_ARRAY_LEN(sizes); i++) {
        uint32_t crc;
        struct outcome o = {0};
        send_file(a, noise(sizes[i], &crc), sizes[i], &o);
        RUN_UNTIL(&w, o.count != 0);
        assert_int_equal(o.status, NB_OK);
        assert_int_equal(b->ended, i + 1);
        assert_int_equal(b->snapshot_bytes, sizes[i]);
        assert_int_equal(b->snapshot_crc, crc);
        assert_int_equal(b->label.last.index, 1234);
        assert_int_equal(b->label.conf.voter_count, 2);
        assert_int_equal(b->aborted, 0);
    }
    world_deinit(&w);
}

static void E11_heartbeats_pass_a_snapshot_under_way(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    world_pair(&w);
    struct node *a = &w.nodes[0], *b = &w.nodes[1];
    uint64_t size = unit_scaled(200) << 20;
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    struct outcome o = {0};
    send_file(a, fd, size, &o);
    RUN_UNTIL(&w, b->chunks != 0);
    uint64_t sent = 0, sent_turn = w.turns, waited_max = 0;
    uint64_t chunks_at_send = 0, chunks_waited_max = 0;
    while (o.count == 0) {
        if (b->last_context == sent) {
            struct raft_msg m = read_msg(1, 2, ++sent);
            assert_true(peer_send(a->t, &m));
            sent_turn = w.turns;
            chunks_at_send = b->chunks;
        }
        world_turn(&w);
        uint64_t waited = w.turns - sent_turn, chunks = b->chunks - chunks_at_send;
        waited_max = waited > waited_max ? waited : waited_max;
        chunks_waited_max = chunks > chunks_waited_max ? chunks : chunks_waited_max;
    }
    assert_int_equal(o.status, NB_OK);
    assert_int_equal(b->snapshot_bytes, size);
    assert_true(b->in_order);
    assert_true(sent > size / (8 << 20));     /* one passes every few MiB at the least */
    assert_true(waited_max <= 8);             /* turns of the loop that both share */
    assert_true(chunks_waited_max <= 2 * 20); /* not behind the transfer */
    world_deinit(&w);
}

static void the_sender_hears_what_the_receiver_says(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    world_pair(&w);
    struct node *a = &w.nodes[0], *b = &w.nodes[1];
    uint32_t crc;
    struct outcome o = {0};
    b->refuse_snapshot = true;
    send_file(a, noise(100000, &crc), 100000, &o);
    RUN_UNTIL(&w, o.count == 1);
    assert_int_equal(o.status, NB_BUSY);
    b->refuse_snapshot = false;

    b->take = PEER_TAKE_ABORT;
    b->take_after = 1;
    o = (struct outcome){0};
    send_file(a, noise(1000000, &crc), 1000000, &o);
    RUN_UNTIL(&w, o.count == 1);
    assert_int_equal(o.status, NB_CANCELED);
    b->take = PEER_TAKE;

    b->hold_answer = true;
    o = (struct outcome){0};
    send_file(a, noise(100000, &crc), 100000, &o);
    RUN_UNTIL(&w, b->ended == 1);
    uint64_t confirmed = 0, total = 0;
    RUN_UNTIL(&w, peer_snapshot_progress(a->t, 2, &confirmed, &total) && confirmed == 100000);
    assert_int_equal(total, 100000);
    assert_int_equal(o.count, 0); /* not durable yet */
    assert_true(peer_snapshot_answer(b->t, b->transfer, NB_NO_SPACE_DISK));
    assert_false(peer_snapshot_answer(b->t, b->transfer, NB_OK));
    RUN_UNTIL(&w, o.count == 1);
    assert_int_equal(o.status, NB_NO_SPACE_DISK);
    assert_false(peer_snapshot_progress(a->t, 2, &confirmed, &total));
    for (int i = 0; i < 10; i++) {
        world_turn(&w);
    }
    assert_int_equal(b->aborted, 0); /* the server knew of every end */
    world_deinit(&w);
}

static void a_receiver_that_pauses_gets_no_more_until_it_resumes(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    world_pair(&w);
    struct node *a = &w.nodes[0], *b = &w.nodes[1];
    uint32_t crc;
    struct outcome o = {0};
    b->take = PEER_TAKE_PAUSE;
    send_file(a, noise(1000000, &crc), 1000000, &o);
    unsigned chunks = 0;
    while (o.count == 0) {
        RUN_UNTIL(&w, b->chunks > chunks || o.count != 0);
        assert_true(b->chunks <= chunks + 1);
        chunks = b->chunks;
        unsigned quiet = (unsigned)(w.turns % 3); /* sometimes a few turns pass */
        for (unsigned i = 0; i < quiet; i++) {
            world_turn(&w);
            assert_int_equal(b->chunks, chunks);
        }
        peer_snapshot_resume(b->t, b->transfer);
    }
    assert_int_equal(o.status, NB_OK);
    assert_int_equal(b->snapshot_crc, crc);
    assert_true(chunks >= 1000000 / 65536);
    world_deinit(&w);
}

static void S07_every_end_of_a_transfer_is_told_to_both(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    world_pair(&w);
    struct node *a = &w.nodes[0], *b = &w.nodes[1];
    uint32_t crc;
    /* the file is shorter than was said */
    struct outcome o = {0};
    send_file(a, noise(100000, &crc), 200000, &o);
    RUN_UNTIL(&w, o.count == 1 && b->aborted == 1);
    assert_int_equal(o.status, NB_TRUNCATED);
    assert_true(b->why[0] != 0);
    /* a newer one takes its place */
    b->take = PEER_TAKE_PAUSE;
    o = (struct outcome){0};
    struct outcome newer = {0};
    unsigned chunks = b->chunks;
    send_file(a, noise(1000000, &crc), 1000000, &o);
    RUN_UNTIL(&w, b->chunks > chunks);
    b->take = PEER_TAKE;
    send_file(a, noise(1000001, &crc), 1000001, &newer);
    RUN_UNTIL(&w, o.count == 1 && newer.count == 1 && b->aborted == 2);
    assert_int_equal(o.status, NB_CANCELED);
    assert_int_equal(newer.status, NB_OK);
    assert_int_equal(b->snapshot_crc, crc);
    /* the member is removed */
    b->take = PEER_TAKE_PAUSE;
    o = (struct outcome){0};
    chunks = b->chunks;
    send_file(a, noise(1000000, &crc), 1000000, &o);
    RUN_UNTIL(&w, b->chunks > chunks);
    peer_transport_remove(a->t, 2);
    assert_int_equal(o.count, 0);
    peer_snapshot_resume(b->t, b->transfer);
    RUN_UNTIL(&w, o.count == 1 && b->aborted == 3);
    assert_int_equal(o.status, NB_CANCELED);
    struct raft_msg m = announce(1, 2);
    assert_int_equal(peer_send_snapshot(a->t, 2, noise(1, &crc), 1, &m, on_done, &o), NB_NOT_FOUND);
    world_deinit(&w);
}

static void S07_a_dead_end_of_a_transfer_is_noticed_by_the_other(void **state)
{
    (void)state;
    for (int dies = 0; dies < 3; dies++) {
        struct world w;
        world_init(&w);
        world_pair(&w);
        struct node *a = &w.nodes[0], *b = &w.nodes[1];
        uint32_t crc;
        struct outcome o = {0};
        if (dies == 2) { /* from within the callback */
            b->destroy_in_callback = true;
        } else {
            b->take = PEER_TAKE_PAUSE;
            b->take_after = 3;
        }
        send_file(a, noise(1000000, &crc), 1000000, &o);
        RUN_UNTIL(&w, b->chunks > 3 || b->t == NULL);
        if (dies == 0) {
            peer_transport_destroy(a->t);
            a->t = NULL;
            peer_snapshot_resume(b->t, b->transfer);
            RUN_UNTIL(&w, b->aborted == 1);
            assert_int_equal(o.count, 0); /* [P5] */
        } else {
            peer_transport_destroy(b->t);
            b->t = NULL;
            RUN_UNTIL(&w, o.count == 1);
            assert_int_equal(o.status, NB_CLOSED);
        }
        world_deinit(&w);
    }
}

static void S07_a_transfer_without_progress_fails(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_prepare(&w, 0), *b = node_add(&w, 1);
    a->config.snapshot_stall_ns = 200 * test_ms;
    node_start(a);
    node_dial(a, b);
    RUN_UNTIL(&w, node_is_up(a, 2));
    uint32_t crc;
    struct outcome o = {0};
    b->take = PEER_TAKE_PAUSE; /* and never resumes */
    send_file(a, noise(20000000, &crc), 20000000, &o);
    RUN_UNTIL(&w, o.count == 1);
    assert_int_equal(o.status, NB_BUSY);
    peer_snapshot_resume(b->t, b->transfer);
    RUN_UNTIL(&w, b->aborted == 1);
    world_deinit(&w);
}

static void S07_a_receiver_that_never_answers_is_given_up(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_prepare(&w, 0), *b = node_add(&w, 1);
    a->config.snapshot_answer_ns = 200 * test_ms;
    node_start(a);
    node_dial(a, b);
    RUN_UNTIL(&w, node_is_up(a, 2));
    uint32_t crc;
    struct outcome o = {0};
    b->hold_answer = true;
    send_file(a, noise(1000, &crc), 1000, &o);
    RUN_UNTIL(&w, o.count == 1);
    assert_int_equal(o.status, NB_BUSY);
    RUN_UNTIL(&w, b->aborted == 1);
    assert_false(peer_snapshot_answer(b->t, b->transfer, NB_OK));
    world_deinit(&w);
}

/* ---- a sender that errs ---- */

static void put_numbers(struct nb_buf *to, uint64_t first, uint64_t second)
{
    uint8_t *at = nb_buf_extend(to, 16);
    nb_put_u64(at, first);
    nb_put_u64(at + 8, second);
}

static void put_begin(struct nb_buf *to, uint64_t total)
{
    size_t begin = peer_frame_begin(to);
    put_numbers(to, 5, total);
    peer_frame_end(to, begin, PEER_FRAME_SNAPSHOT_BEGIN);
}

static void put_chunk(struct nb_buf *to, uint64_t offset, const char *text)
{
    size_t begin = peer_frame_begin(to);
    put_numbers(to, 5, offset);
    nb_buf_append_str(to, text);
    peer_frame_end(to, begin, PEER_FRAME_SNAPSHOT_CHUNK);
}

static void put_end(struct nb_buf *to, const char *whole, uint64_t from)
{
    size_t begin = peer_frame_begin(to);
    nb_put_u64(nb_buf_extend(to, 8), 5);
    XXH128_canonical_t hash;
    XXH128_canonicalFromHash(&hash, XXH3_128bits(whole, strlen(whole)));
    nb_buf_append(to, hash.digest, sizeof hash.digest);
    struct raft_msg m = announce(from, 1);
    raft_msg_encode(&m, to);
    peer_frame_end(to, begin, PEER_FRAME_SNAPSHOT_END);
}

/* What a sender may do wrong; 0 is all right. */
static void put_transfer(struct nb_buf *to, int wrong)
{
    put_begin(to, 10);
    if (wrong == 1) {
        put_begin(to, 10); /* twice */
    }
    put_chunk(to, 0, "01234");
    switch (wrong) {
    case 2:
        put_chunk(to, 4, "56789"); /* overlaps */
        break;
    case 3:
        put_chunk(to, 6, "6789"); /* leaves a gap */
        break;
    case 4:
        put_chunk(to, 5, "56789a"); /* beyond the end */
        break;
    case 5:
        put_chunk(to, 5, ""); /* of nothing */
        break;
    case 6:
        put_chunk(to, 5, "56789");
        to->data[to->len - 1] ^= 1; /* a bit turned on the way */
        break;
    case 7:
        break; /* it ends too early */
    default:
        put_chunk(to, 5, "56789");
        break;
    }
    put_end(to, wrong == 8 ? "0123456788" : "0123456789", wrong == 9 ? 78 : 77);
}

static void S09_chunks_mixed_cut_or_altered_end_the_transfer(void **state)
{
    (void)state;
    for (int wrong = 0; wrong < 10; wrong++) {
        struct world w;
        world_init(&w);
        struct node *a = node_add(&w, 0);
        struct stranger s = {0};
        struct nb_buf bytes = {0};
        struct peer_hello h = stranger_hello(a, PEER_CHANNEL_SNAPSHOT);
        put_hello(&bytes, PEER_FRAME_HELLO, &h);
        put_transfer(&bytes, wrong);
        stranger_dial(&w, &s, a->port);
        stranger_say(&s, &bytes);
        RUN_UNTIL(&w, wrong == 0 ? a->ended == 1 : a->aborted == 1);
        assert_int_equal(a->begun, 1);
        assert_int_equal(a->ended, wrong == 0 ? 1 : 0);
        nb_buf_deinit(&bytes);
        stranger_deinit(&s);
        world_deinit(&w);
    }
}

static void S09_a_transfer_that_ends_at_any_byte_is_aborted(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_add(&w, 0);
    struct nb_buf bytes = {0};
    struct peer_hello h = stranger_hello(a, PEER_CHANNEL_SNAPSHOT);
    put_hello(&bytes, PEER_FRAME_HELLO, &h);
    size_t first = bytes.len;
    put_begin(&bytes, 10);
    size_t begun = bytes.len;
    bytes.len = first;
    put_transfer(&bytes, 0);
    struct stranger s = {0};
    for (size_t len = begun; len < bytes.len; len++) {
        unsigned aborted = a->aborted;
        stranger_dial(&w, &s, a->port);
        net_conn_write(s.conn, nb_bytes_of(bytes.data, len));
        net_conn_close(s.conn);
        RUN_UNTIL(&w, s.closed && a->aborted == aborted + 1);
    }
    assert_int_equal(a->ended, 0);
    assert_int_equal(a->aborted, a->begun);
    nb_buf_deinit(&bytes);
    stranger_deinit(&s);
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(S09_a_snapshot_of_any_size_arrives_whole_with_its_label),
        cmocka_unit_test(E11_heartbeats_pass_a_snapshot_under_way),
        cmocka_unit_test(the_sender_hears_what_the_receiver_says),
        cmocka_unit_test(a_receiver_that_pauses_gets_no_more_until_it_resumes),
        cmocka_unit_test(S07_every_end_of_a_transfer_is_told_to_both),
        cmocka_unit_test(S07_a_dead_end_of_a_transfer_is_noticed_by_the_other),
        cmocka_unit_test(S07_a_transfer_without_progress_fails),
        cmocka_unit_test(S07_a_receiver_that_never_answers_is_given_up),
        cmocka_unit_test(S09_chunks_mixed_cut_or_altered_end_the_transfer),
        cmocka_unit_test(S09_a_transfer_that_ends_at_any_byte_is_aborted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

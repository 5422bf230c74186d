#include "peer/frame.h"

#include "base/random.h"
#include "peer/hello.h"
#include "tests/support/unit.h"

static void append_frame(struct nb_buf *to, enum peer_frame_type type, struct nb_bytes payload)
{
    size_t begin = peer_frame_begin(to);
    nb_buf_append_bytes(to, payload);
    peer_frame_end(to, begin, type);
}

static struct nb_buf three_frames(void)
{
    struct nb_buf b = {0};
    append_frame(&b, PEER_FRAME_PING, nb_bytes_str("12345678"));
    append_frame(&b, PEER_FRAME_MESSAGE, (struct nb_bytes){0});
    append_frame(&b, PEER_FRAME_CALL, nb_bytes_str("the third of the frames, the longest one"));
    return b;
}

/* Feeds `pieces` one after another and expects three_frames(). */
static void expect_three(struct nb_bytes whole, const size_t *cuts, size_t cut_count)
{
    struct peer_frame_reader r = {.payload_size_max = 64};
    static const enum peer_frame_type types[] = {PEER_FRAME_PING, PEER_FRAME_MESSAGE,
                                                 PEER_FRAME_CALL};
    static const size_t lens[] = {8, 0, 40};
    size_t seen = 0, from = 0;
    for (size_t i = 0; i <= cut_count; i++) {
        size_t end = i == cut_count ? whole.len : cuts[i];
        /* A copy of its exact size: the sanitizer sees a read past the piece. */
        uint8_t *piece = nb_alloc(end - from + 1);
        memcpy(piece, whole.data + from, end - from);
        struct nb_bytes input = nb_bytes_of(piece, end - from);
        struct peer_frame f;
        enum nb_status status = peer_frame_next(&r, &input, &f);
        for (; status == NB_OK; status = peer_frame_next(&r, &input, &f)) {
            assert_true(seen < 3);
            assert_int_equal(f.type, types[seen]);
            assert_int_equal(f.payload.len, lens[seen]);
            if (seen == 2) {
                assert_memory_equal(f.payload.data, "the third", 9);
            }
            seen++;
        }
        assert_int_equal(status, NB_TRUNCATED);
        assert_int_equal(input.len, 0);
        nb_free(piece);
        from = end;
    }
    assert_int_equal(seen, 3);
    peer_frame_reader_deinit(&r);
}

static void frames_come_whole_however_the_stream_is_cut(void **state)
{
    (void)state;
    struct nb_buf b = three_frames();
    for (size_t first = 0; first <= b.len; first++) {
        for (size_t second = first; second <= b.len; second++) {
            expect_three(nb_buf_bytes(&b), (size_t[]){first, second}, 2);
        }
    }
    size_t cuts[512];
    for (size_t i = 0; i < b.len; i++) {
        cuts[i] = i;
    }
    expect_three(nb_buf_bytes(&b), cuts, b.len); /* byte by byte */
    nb_buf_deinit(&b);
}

static enum nb_status read_one(struct nb_bytes input, size_t payload_size_max)
{
    struct peer_frame_reader r = {.payload_size_max = payload_size_max};
    struct peer_frame f;
    enum nb_status status = peer_frame_next(&r, &input, &f);
    peer_frame_reader_deinit(&r);
    return status;
}

static void every_turned_bit_of_a_frame_is_noticed(void **state)
{
    (void)state;
    struct nb_buf b = {0};
    append_frame(&b, PEER_FRAME_MESSAGE, nb_bytes_str("some payload of a message"));
    for (size_t bit = 0; bit < b.len * 8; bit++) {
        b.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_not_equal(read_one(nb_buf_bytes(&b), 1024), NB_OK);
        b.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    assert_int_equal(read_one(nb_buf_bytes(&b), 1024), NB_OK);
    nb_buf_deinit(&b);
}

static void N15_length_over_the_bound_is_refused_before_anything_is_kept(void **state)
{
    (void)state;
    uint8_t header[PEER_FRAME_HEADER_SIZE] = {0xff, 0xff, 0xff, 0xff, PEER_FRAME_MESSAGE};
    assert_int_equal(read_one(nb_bytes_of(header, sizeof header), 1024), NB_TOO_LARGE);
    nb_put_u32(header, 1024);
    struct peer_frame_reader r = {.payload_size_max = 1024};
    struct nb_bytes input = nb_bytes_of(header, sizeof header);
    struct peer_frame f;
    assert_int_equal(peer_frame_next(&r, &input, &f), NB_TRUNCATED);
    assert_true(r.partial.capacity < 1024); /* what was announced is not allocated */
    peer_frame_reader_deinit(&r);
}

static void unknown_type_and_used_reserve_are_malformed(void **state)
{
    (void)state;
    uint8_t header[PEER_FRAME_HEADER_SIZE] = {0};
    assert_int_equal(read_one(nb_bytes_of(header, sizeof header), 10), NB_MALFORMED);
    header[4] = PEER_FRAME_TYPE_COUNT;
    assert_int_equal(read_one(nb_bytes_of(header, sizeof header), 10), NB_MALFORMED);
    for (int i = 5; i < 8; i++) {
        uint8_t reserved[PEER_FRAME_HEADER_SIZE] = {[4] = PEER_FRAME_PING};
        reserved[i] = 1;
        assert_int_equal(read_one(nb_bytes_of(reserved, sizeof reserved), 10), NB_MALFORMED);
    }
}

static void an_idle_reader_holds_no_memory(void **state)
{
    (void)state;
    struct nb_buf b = {0};
    append_frame(&b, PEER_FRAME_PING, nb_bytes_str("12345678"));
    struct peer_frame_reader r = {.payload_size_max = 64};
    struct peer_frame f;
    struct nb_bytes first = nb_bytes_of(b.data, 5), rest = nb_bytes_from(nb_buf_bytes(&b), 5);
    assert_int_equal(peer_frame_next(&r, &first, &f), NB_TRUNCATED);
    peer_frame_reader_trim(&r);
    assert_int_equal(r.partial.len, 5); /* a frame half there is kept */
    assert_int_equal(peer_frame_next(&r, &rest, &f), NB_OK);
    peer_frame_reader_trim(&r);
    assert_int_equal(r.partial.capacity, 0);
    nb_buf_deinit(&b);
}

static void a_status_survives_by_name(void **state)
{
    (void)state;
    for (int i = 0; i < NB_STATUS_COUNT; i++) {
        struct nb_buf b = {0};
        peer_status_put(&b, (enum nb_status)i);
        nb_buf_append_str(&b, "rest");
        struct nb_bytes from = nb_buf_bytes(&b);
        enum nb_status status;
        assert_true(peer_status_take(&from, &status));
        assert_int_equal(status, i);
        assert_int_equal(from.len, 4);
        nb_buf_deinit(&b);
    }
    enum nb_status status;
    struct nb_bytes unknown = nb_bytes_str("\x05NB_XY"), cut = nb_bytes_str("\x06NB_XY");
    assert_true(peer_status_take(&unknown, &status));
    assert_int_equal(status, NB_IO);
    assert_false(peer_status_take(&cut, &status));
}

static struct peer_hello sample_hello(void)
{
    return (struct peer_hello){.channel = PEER_CHANNEL_LOG,
                               .protocol_version = PEER_PROTOCOL_VERSION,
                               .cluster_id = 0x1122334455667788,
                               .from = 1,
                               .to = 2,
                               .boot_id = 3,
                               .boot_count = 4,
                               .fresh = true,
                               .seen_boot_count = 5,
                               .listen_port = 6001,
                               .name = "ss-0",
                               .version = "0.1.0",
                               .card = nb_bytes_str("a card")};
}

static void a_hello_comes_out_as_it_went_in(void **state)
{
    (void)state;
    struct peer_hello h = sample_hello(), out;
    struct nb_buf b = {0};
    peer_hello_encode(&h, &b);
    nb_buf_append_str(&b, "what a later version adds");
    assert_int_equal(peer_hello_decode(nb_buf_bytes(&b), &out), NB_OK);
    assert_int_equal(out.channel, h.channel);
    assert_int_equal(out.cluster_id, h.cluster_id);
    assert_int_equal(out.from, 1);
    assert_int_equal(out.to, 2);
    assert_int_equal(out.boot_id, 3);
    assert_int_equal(out.boot_count, 4);
    assert_int_equal(out.seen_boot_count, 5);
    assert_int_equal(out.listen_port, 6001);
    assert_true(out.fresh);
    assert_string_equal(out.name, "ss-0");
    assert_string_equal(out.version, "0.1.0");
    assert_true(nb_bytes_equal(out.card, h.card));
    nb_buf_deinit(&b);
}

static void a_hello_cut_anywhere_is_malformed(void **state)
{
    (void)state;
    struct peer_hello h = sample_hello(), out;
    struct nb_buf b = {0};
    peer_hello_encode(&h, &b);
    for (size_t len = 0; len < b.len; len++) {
        uint8_t *exact = nb_alloc(len + 1);
        memcpy(exact, b.data, len);
        assert_int_equal(peer_hello_decode(nb_bytes_of(exact, len), &out), NB_MALFORMED);
        nb_free(exact);
    }
    nb_buf_deinit(&b);
}

static void R14_ids_of_zero_and_other_versions_are_refused(void **state)
{
    (void)state;
    struct peer_hello out;
    for (int i = 0; i < 3; i++) {
        struct peer_hello h = sample_hello();
        *(uint64_t *[]){&h.from, &h.boot_id, &h.boot_count}[i] = 0;
        struct nb_buf b = {0};
        peer_hello_encode(&h, &b);
        assert_int_equal(peer_hello_decode(nb_buf_bytes(&b), &out), NB_MALFORMED);
        nb_buf_deinit(&b);
    }
    struct peer_hello h = sample_hello();
    h.protocol_version = PEER_PROTOCOL_VERSION + 1;
    struct nb_buf b = {0};
    peer_hello_encode(&h, &b);
    assert_int_equal(peer_hello_decode(nb_buf_bytes(&b), &out), NB_VERSION);
    nb_buf_deinit(&b);
}

static void a_refusal_comes_out_as_it_went_in(void **state)
{
    (void)state;
    struct peer_refusal in = {.code = PEER_REFUSAL_REMOVED, .text = "gone", .seen_boot_count = 7};
    struct peer_refusal out;
    struct nb_buf b = {0};
    peer_refusal_encode(&in, &b);
    assert_int_equal(peer_refusal_decode(nb_buf_bytes(&b), &out), NB_OK);
    assert_int_equal(out.code, PEER_REFUSAL_REMOVED);
    assert_string_equal(out.text, "gone");
    assert_int_equal(out.seen_boot_count, 7);
    for (size_t len = 0; len < b.len; len++) {
        assert_int_equal(peer_refusal_decode(nb_bytes_of(b.data, len), &out), NB_MALFORMED);
    }
    b.data[0] = 0; /* "refused: no" is still refused */
    assert_int_equal(peer_refusal_decode(nb_buf_bytes(&b), &out), NB_OK);
    assert_int_equal(out.code, PEER_REFUSAL_OTHER);
    nb_buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_whole_however_the_stream_is_cut),
        cmocka_unit_test(every_turned_bit_of_a_frame_is_noticed),
        cmocka_unit_test(N15_length_over_the_bound_is_refused_before_anything_is_kept),
        cmocka_unit_test(unknown_type_and_used_reserve_are_malformed),
        cmocka_unit_test(an_idle_reader_holds_no_memory),
        cmocka_unit_test(a_status_survives_by_name),
        cmocka_unit_test(a_hello_comes_out_as_it_went_in),
        cmocka_unit_test(a_hello_cut_anywhere_is_malformed),
        cmocka_unit_test(R14_ids_of_zero_and_other_versions_are_refused),
        cmocka_unit_test(a_refusal_comes_out_as_it_went_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

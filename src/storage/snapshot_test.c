#include "storage/snapshot.h"

#include "base/random.h"
#include "storage/disk_memory.h"
#include "tests/support/unit.h"

static struct disk *disk_with_file(size_t len, struct nb_buf *content)
{
    struct disk *d = disk_memory_create(unit_seed());
    assert_int_equal(disk_mkdir(d, "snap"), NB_OK);
    struct nb_random x;
    nb_random_init(&x, unit_seed());
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)nb_random_u64(&x);
        nb_buf_append(content, &byte, 1);
    }
    assert_int_equal(disk_write_file(d, ".", "source", nb_buf_bytes(content)), NB_OK);
    return d;
}

static void on_done(void *context, enum nb_status status, const char *path)
{
    (void)path;
    *(enum nb_status *)context = status;
}

/* Sends all; `damage` turns a bit of that chunk after decoding. Returns the last status. */
static enum nb_status transfer(struct disk *d, struct snapshot_receiver *r, uint64_t damage)
{
    struct snapshot_sender *s;
    assert_int_equal(snapshot_sender_open(d, "source", 5, false, &s), NB_OK);
    struct snapshot_chunk chunk;
    enum nb_status status = NB_OK;
    for (uint64_t n = 0; status == NB_OK && snapshot_sender_next(s, 1000, &chunk) == NB_OK; n++) {
        struct nb_buf wire = {0};
        snapshot_chunk_encode(&chunk, &wire);
        struct snapshot_chunk got;
        assert_int_equal(snapshot_chunk_decode(nb_buf_bytes(&wire), &got), NB_OK);
        if (n == damage) {
            wire.data[SNAPSHOT_CHUNK_HEADER_SIZE] ^= 1;
        }
        status = snapshot_receiver_take(r, &got);
        nb_buf_deinit(&wire);
    }
    snapshot_sender_close(s);
    return status;
}

static void S09_a_transfer_gives_the_same_file_durably(void **state)
{
    (void)state;
    struct nb_buf content = {0};
    struct disk *d = disk_with_file(12345, &content);
    struct snapshot_receiver *r;
    assert_int_equal(snapshot_receiver_open(d, "snap", 5, 12345, 1 << 20, &r), NB_OK);
    enum nb_status done = NB_BUSY;
    snapshot_receiver_on_done(r, on_done, &done);
    assert_int_equal(transfer(d, r, UINT64_MAX), NB_OK);
    while (done == NB_BUSY) {
        disk_wait(d);
    }
    assert_int_equal(done, NB_OK);
    disk_memory_crash(d); /* what was promised stays */
    struct nb_buf got = {0};
    assert_int_equal(disk_read_file(d, "snap/0000000000000005.snap", 1 << 20, &got), NB_OK);
    assert_true(nb_bytes_equal(nb_buf_bytes(&got), nb_buf_bytes(&content)));
    snapshot_receiver_close(r);
    nb_buf_deinit(&got);
    nb_buf_deinit(&content);
    disk_destroy(d);
}

static void S09_altered_content_is_refused_at_the_end(void **state)
{
    (void)state;
    struct nb_buf content = {0};
    struct disk *d = disk_with_file(5000, &content);
    struct snapshot_receiver *r;
    assert_int_equal(snapshot_receiver_open(d, "snap", 5, 5000, 1 << 20, &r), NB_OK);
    assert_int_equal(transfer(d, r, 2), NB_CORRUPT);
    snapshot_receiver_close(r);
    nb_buf_deinit(&content);
    disk_destroy(d);
}

static void S09_chunks_of_others_or_out_of_order_are_refused(void **state)
{
    (void)state;
    struct disk *d = disk_memory_create(1);
    assert_int_equal(disk_mkdir(d, "snap"), NB_OK);
    struct snapshot_receiver *r;
    assert_int_equal(snapshot_receiver_open(d, "snap", 0, 10, 100, &r), NB_INVALID);
    assert_int_equal(snapshot_receiver_open(d, "snap", 7, 101, 100, &r), NB_TOO_LARGE);
    assert_int_equal(snapshot_receiver_open(d, "snap", 7, 10, 100, &r), NB_OK);
    struct snapshot_chunk c = {.transfer_id = 8, .total_len = 10, .data = nb_bytes_str("abcd")};
    assert_int_equal(snapshot_receiver_take(r, &c), NB_FOREIGN);
    c.transfer_id = 7;
    assert_int_equal(snapshot_receiver_take(r, &c), NB_OK);
    assert_int_equal(snapshot_receiver_take(r, &c), NB_EXISTS);
    c.offset = 5;
    assert_int_equal(snapshot_receiver_take(r, &c), NB_INVALID);
    assert_int_equal(snapshot_receiver_offset(r), 4);
    snapshot_receiver_close(r);
    disk_destroy(d);
}

static void S10_leftovers_go_and_other_names_stay(void **state)
{
    (void)state;
    struct disk *d = disk_memory_create(1);
    assert_int_equal(disk_mkdir(d, "snap"), NB_OK);
    const char *names[] = {"snap/1.part", "snap/2.snap", "snap/3.tmp", "snap/lost+found"};
    for (size_t i = 0; i < NB_ARRAY_LEN(names); i++) {
        struct disk_file *f;
        assert_int_equal(disk_open(d, names[i], DISK_READ_WRITE | DISK_CREATE_NEW, &f), NB_OK);
        disk_close(f);
    }
    size_t count;
    assert_int_equal(snapshot_clean_up(d, "snap", &count), NB_OK);
    assert_int_equal(count, 3);
    disk_destroy(d);
}

static void every_flipped_bit_of_a_chunk_is_noticed(void **state)
{
    (void)state;
    const struct snapshot_chunk c = {
        .transfer_id = 7, .offset = 3, .total_len = 100, .data = nb_bytes_str("some bytes")};
    struct nb_buf wire = {0};
    snapshot_chunk_encode(&c, &wire);
    struct snapshot_chunk got;
    assert_int_equal(snapshot_chunk_decode(nb_buf_bytes(&wire), &got), NB_OK);
    for (size_t bit = 0; bit < 8 * wire.len; bit++) {
        wire.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(snapshot_chunk_decode(nb_buf_bytes(&wire), &got), NB_OK);
        wire.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    nb_buf_deinit(&wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(S09_a_transfer_gives_the_same_file_durably),
        cmocka_unit_test(S09_altered_content_is_refused_at_the_end),
        cmocka_unit_test(S09_chunks_of_others_or_out_of_order_are_refused),
        cmocka_unit_test(S10_leftovers_go_and_other_names_stay),
        cmocka_unit_test(every_flipped_bit_of_a_chunk_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "machine/machine.h"

#include "base/random.h"
#include "base/wire.h"
#include "storage/backend_memory.h"
#include "tests/support/unit.h"

enum { HASH_COUNT = 16 };

/* A machine over a backend in memory. */
struct rig {
    struct backend_memory_store *store;
    struct backend *backend;
    struct machine *machine;
    struct nb_buf error;
};

static void open_rig(struct rig *r)
{
    struct backend_ident ident = {.cluster_id = 1, .member_id = 1};
    struct machine_options options = {.hash_seed = 1, .log_hash_count = HASH_COUNT};
    assert_int_equal(backend_memory_open(r->store, NULL, &ident, &r->backend, &r->error), NB_OK);
    assert_int_equal(machine_create(r->backend, &options, &r->machine, &r->error), NB_OK);
}

static struct rig rig(void)
{
    struct rig r = {.store = backend_memory_store_create()};
    open_rig(&r);
    return r;
}

static void close_rig(struct rig *r)
{
    machine_destroy(r->machine);
    backend_close(r->backend);
}

static void end_rig(struct rig *r)
{
    close_rig(r);
    backend_memory_store_destroy(r->store);
    nb_buf_deinit(&r->error);
}

static struct machine_result apply(struct rig *r, enum machine_entry_kind kind,
                                   struct nb_bytes payload)
{
    struct machine_result result;
    struct machine_entry entry = {.index = machine_applied_index(r->machine) + 1,
                                  .term = 1,
                                  .kind = kind,
                                  .payload = payload};
    machine_apply(r->machine, &entry, &result);
    return result;
}

static struct machine_result command(struct rig *r, unsigned kind, struct nb_bytes request)
{
    struct nb_buf payload = {0};
    machine_header_put(nb_buf_extend(&payload, MACHINE_HEADER_SIZE_BYTES),
                       &(struct machine_header){.kind = (uint8_t)kind, .origin = 1});
    nb_buf_append_bytes(&payload, request);
    struct machine_result result = apply(r, MACHINE_ENTRY_COMMAND, nb_buf_bytes(&payload));
    nb_buf_deinit(&payload);
    return result;
}

static struct machine_result put(struct rig *r, const char *key, const char *value)
{
    struct nb_buf request = {0};
    nb_wire_bytes_field(&request, 1, nb_bytes_str(key));
    nb_wire_bytes_field(&request, 2, nb_bytes_str(value));
    struct machine_result result = command(r, MACHINE_PUT, nb_buf_bytes(&request));
    nb_buf_deinit(&request);
    return result;
}

/* A put as member 1 proposed it. */
static struct machine_result put_with_id(struct rig *r, uint64_t id, const char *value)
{
    struct nb_buf request = {0}, payload = {0};
    nb_wire_bytes_field(&request, 1, nb_bytes_str("k"));
    nb_wire_bytes_field(&request, 2, nb_bytes_str(value));
    machine_header_put(
        nb_buf_extend(&payload, MACHINE_HEADER_SIZE_BYTES),
        &(struct machine_header){.kind = MACHINE_PUT, .origin = 1, .request_id = id});
    nb_buf_append_bytes(&payload, nb_buf_bytes(&request));
    struct machine_result result = apply(r, MACHINE_ENTRY_COMMAND, nb_buf_bytes(&payload));
    nb_buf_deinit(&request);
    nb_buf_deinit(&payload);
    return result;
}

static struct machine_result alarm_request(struct rig *r, uint64_t action, uint64_t member,
                                           uint64_t alarm)
{
    struct nb_buf request = {0};
    nb_wire_varint_field(&request, 1, action);
    nb_wire_varint_field(&request, 2, member);
    nb_wire_varint_field(&request, 3, alarm);
    struct machine_result result = command(r, MACHINE_ALARM, nb_buf_bytes(&request));
    nb_buf_deinit(&request);
    return result;
}

static void commit(struct rig *r)
{
    struct backend_label label = {.applied_index = machine_applied_index(r->machine),
                                  .applied_term = machine_applied_term(r->machine)};
    machine_seal(r->machine);
    (void)backend_commit(r->backend, &label);
    (void)backend_memory_step(r->backend, 1);
    machine_reaped(r->machine, backend_reap(r->backend));
}

/* ---- the header ---- */

static void a_header_survives_its_bytes(void **state)
{
    (void)state;
    uint8_t bytes[MACHINE_HEADER_SIZE_BYTES + 3] = {0};
    struct machine_header h = {.kind = 200, .request_id = UINT64_MAX - 5, .origin = 77}, back;
    struct nb_bytes request;
    machine_header_put(bytes, &h);
    assert_int_equal(machine_header_get(nb_bytes_of(bytes, sizeof bytes), &back, &request), NB_OK);
    assert_int_equal(back.kind, h.kind);
    assert_int_equal(back.request_id, h.request_id);
    assert_int_equal(back.origin, h.origin);
    assert_int_equal(request.len, 3);
    assert_int_equal(
        machine_header_get(nb_bytes_of(bytes, MACHINE_HEADER_SIZE_BYTES - 1), &back, &request),
        NB_MALFORMED);
    bytes[1] = 1; /* a later format */
    assert_int_equal(machine_header_get(nb_bytes_of(bytes, sizeof bytes), &back, &request),
                     NB_MALFORMED);
}

/* ---- apply ---- */

static void
S3_what_is_malformed_or_unknown_leaves_its_place_in_the_log_and_nothing_else(void **state)
{
    (void)state;
    struct rig r = rig();
    (void)put(&r, "k", "v");
    uint64_t before, after;
    assert_true(machine_log_hash(r.machine, 1, &before));
    assert_int_equal(apply(&r, MACHINE_ENTRY_COMMAND, nb_bytes_str("x")).status, NB_MALFORMED);
    assert_int_equal(command(&r, 99, nb_bytes_str("")).status, NB_UNSUPPORTED);
    assert_int_equal(command(&r, 0, nb_bytes_str("")).status, NB_UNSUPPORTED);
    assert_int_equal(command(&r, MACHINE_PUT, nb_bytes_str("\xff")).status, NB_MALFORMED);
    assert_int_equal(command(&r, MACHINE_PUT, nb_bytes_str("")).status, NB_EMPTY_KEY);
    assert_int_equal(machine_applied_index(r.machine), 6);
    assert_int_equal(mvcc_current_revision(machine_mvcc(r.machine)), 2);
    assert_true(machine_log_hash(r.machine, 6, &after));
    assert_int_not_equal(before, after);
    end_rig(&r);
}

static void D05_two_machines_that_apply_the_same_hold_the_same(void **state)
{
    (void)state;
    struct nb_random random;
    nb_random_init(&random, unit_seed());
    struct rig a = rig(), b = rig();
    for (unsigned i = 0; i < 300; i++) {
        char key[8], value[16];
        (void)snprintf(key, sizeof key, "k%u", (unsigned)nb_random_below(&random, 20));
        (void)snprintf(value, sizeof value, "v%u", i);
        (void)put(&a, key, value);
        (void)put(&b, key, value);
        if (nb_random_chance(&random, 1, 20)) {
            commit(&a); /* when a batch ends is no part of the state */
        }
    }
    uint64_t hash_a, hash_b;
    struct mvcc_hash kv_a, kv_b;
    assert_true(machine_log_hash(a.machine, 300, &hash_a));
    assert_true(machine_log_hash(b.machine, 300, &hash_b));
    assert_int_equal(hash_a, hash_b);
    assert_int_equal(mvcc_hash_kv(machine_mvcc(a.machine), 0, &kv_a), NB_OK);
    assert_int_equal(mvcc_hash_kv(machine_mvcc(b.machine), 0, &kv_b), NB_OK);
    assert_int_equal(kv_a.sum, kv_b.sum);
    end_rig(&a);
    end_rig(&b);
}

static void D01_a_restart_finds_what_the_last_batch_held(void **state)
{
    (void)state;
    struct rig r = rig();
    (void)put(&r, "a", "1");
    (void)alarm_request(&r, 1, 9, MACHINE_ALARM_NOSPACE);
    assert_int_equal(command(&r, MACHINE_CLUSTER_VERSION, nb_bytes_str("3.7.0")).status, NB_OK);
    commit(&r);
    uint64_t hash;
    assert_true(machine_log_hash(r.machine, 3, &hash));
    (void)alarm_request(&r, 2, 9, MACHINE_ALARM_NOSPACE); /* in no batch: gone with the process */
    close_rig(&r);
    open_rig(&r);
    uint64_t found;
    assert_int_equal(machine_applied_index(r.machine), 3);
    assert_true(machine_log_hash(r.machine, 3, &found));
    assert_int_equal(found, hash);
    assert_true(machine_alarm_on(r.machine, MACHINE_ALARM_NOSPACE));
    assert_string_equal(machine_cluster_version(r.machine), "3.7.0");
    assert_int_equal(mvcc_current_revision(machine_mvcc(r.machine)), 2);
    end_rig(&r);
}

/* ---- alarms ---- */

static void D12_no_space_refuses_puts_and_lets_deletes_through(void **state)
{
    (void)state;
    struct rig r = rig();
    (void)put(&r, "k", "v");
    assert_int_equal(alarm_request(&r, 1, 5, MACHINE_ALARM_NOSPACE).status, NB_OK);
    assert_int_equal(put(&r, "k", "w").status, NB_NO_SPACE);
    struct nb_buf request = {0};
    nb_wire_bytes_field(&request, 1, nb_bytes_str("k"));
    assert_int_equal(command(&r, MACHINE_DELETE_RANGE, nb_buf_bytes(&request)).status, NB_OK);
    assert_int_equal(alarm_request(&r, 2, 5, MACHINE_ALARM_NOSPACE).status, NB_OK);
    assert_int_equal(put(&r, "k", "w").status, NB_OK);
    nb_buf_deinit(&request);
    end_rig(&r);
}

static void D17_a_corrupt_alarm_refuses_everything_that_changes_data(void **state)
{
    (void)state;
    struct rig r = rig();
    (void)alarm_request(&r, 1, 5, MACHINE_ALARM_CORRUPT);
    for (unsigned kind = MACHINE_PUT; kind <= MACHINE_COMPACTION; kind++) {
        assert_int_equal(command(&r, kind, nb_bytes_str("")).status, NB_CORRUPT_CLUSTER);
    }
    assert_int_equal(alarm_request(&r, 2, 5, MACHINE_ALARM_CORRUPT).status, NB_OK);
    assert_int_equal(put(&r, "k", "v").status, NB_OK);
    end_rig(&r);
}

static void an_alarm_that_changes_nothing_lists_nothing(void **state)
{
    (void)state;
    struct rig r = rig();
    assert_int_equal(alarm_request(&r, 2, 5, MACHINE_ALARM_NOSPACE).body.len, 0);
    assert_int_equal(alarm_request(&r, 1, 5, MACHINE_ALARM_NONE).body.len, 0);
    assert_true(alarm_request(&r, 1, 5, MACHINE_ALARM_NOSPACE).body.len > 0);
    size_t count;
    const struct machine_alarm_member *alarms = machine_alarms(r.machine, &count);
    assert_int_equal(count, 1);
    assert_int_equal(alarms[0].member_id, 5);
    end_rig(&r);
}

/* ---- members ---- */

static void M11_attributes_change_name_and_addresses_of_a_known_member_only(void **state)
{
    (void)state;
    struct rig r = rig();
    char none[] = "", name[] = "one", url[] = "http://h:2380", client[] = "http://h:2379";
    char *urls[] = {url}, *clients[] = {client};
    struct machine_members members = {0};
    machine_members_set(
        &members,
        &(struct machine_member){.id = 1, .name = none, .peer_urls = urls, .peer_url_count = 1});
    machine_bootstrap(r.machine, &members);
    struct machine_member told = {
        .id = 1, .name = name, .client_urls = clients, .client_url_count = 1, .is_learner = true};
    struct nb_buf request = {0};
    machine_member_encode(&told, &request);
    assert_int_equal(command(&r, MACHINE_MEMBER_ATTRIBUTES, nb_buf_bytes(&request)).status, NB_OK);
    const struct machine_member *m = machine_members_find(machine_members(r.machine), 1);
    assert_string_equal(m->name, "one");
    assert_int_equal(m->client_url_count, 1);
    assert_int_equal(m->peer_url_count, 1);
    assert_false(m->is_learner);
    told.id = 2;
    nb_buf_clear(&request);
    machine_member_encode(&told, &request);
    assert_int_equal(command(&r, MACHINE_MEMBER_ATTRIBUTES, nb_buf_bytes(&request)).status,
                     NB_MEMBER_NOT_FOUND);
    assert_int_equal(machine_members(r.machine)->count, 1);
    nb_buf_deinit(&request);
    machine_members_deinit(&members);
    end_rig(&r);
}

/* ---- log hashes ---- */

static void log_hashes_are_remembered_for_the_last_entries_only(void **state)
{
    (void)state;
    struct rig r = rig();
    uint64_t hashes[3 * HASH_COUNT + 1], hash;
    for (uint64_t i = 1; i <= 3 * HASH_COUNT; i++) {
        (void)apply(&r, MACHINE_ENTRY_NOOP, (struct nb_bytes){0});
        assert_true(machine_log_hash(r.machine, i, &hashes[i]));
        assert_int_not_equal(hashes[i], i == 1 ? 0 : hashes[i - 1]);
    }
    uint64_t first = 3 * HASH_COUNT - HASH_COUNT + 1;
    assert_false(machine_log_hash(r.machine, first - 1, &hash));
    assert_false(machine_log_hash(r.machine, 3 * HASH_COUNT + 1, &hash));
    for (uint64_t i = first; i <= 3 * HASH_COUNT; i++) {
        assert_true(machine_log_hash(r.machine, i, &hash));
        assert_int_equal(hash, hashes[i]);
    }
    end_rig(&r);
}

static void an_entrys_hash_depends_on_all_that_it_is(void **state)
{
    (void)state;
    struct nb_bytes a = nb_bytes_str("a"), b = nb_bytes_str("b");
    uint64_t hash = machine_entry_hash(1, 1, MACHINE_ENTRY_COMMAND, a);
    assert_int_equal(hash, machine_entry_hash(1, 1, MACHINE_ENTRY_COMMAND, a));
    assert_int_not_equal(hash, machine_entry_hash(2, 1, MACHINE_ENTRY_COMMAND, a));
    assert_int_not_equal(hash, machine_entry_hash(1, 2, MACHINE_ENTRY_COMMAND, a));
    assert_int_not_equal(hash, machine_entry_hash(1, 1, MACHINE_ENTRY_CONF, a));
    assert_int_not_equal(hash, machine_entry_hash(1, 1, MACHINE_ENTRY_COMMAND, b));
}

static void R22_a_request_brought_again_is_applied_once_also_after_a_restart(void **state)
{
    (void)state;
    struct rig r = rig();
    struct machine_result first = put_with_id(&r, 100, "a");
    assert_int_equal(first.status, NB_OK);
    assert_false(first.duplicate);
    struct machine_result again = put_with_id(&r, 100, "a");
    assert_true(again.duplicate);
    assert_int_equal(again.status, NB_TIMEOUT);
    assert_int_equal(mvcc_current_revision(machine_mvcc(r.machine)), first.revision);
    commit(&r);
    close_rig(&r);
    open_rig(&r);
    assert_true(put_with_id(&r, 100, "a").duplicate);
    assert_false(put_with_id(&r, 101, "b").duplicate);
    assert_int_equal(mvcc_current_revision(machine_mvcc(r.machine)), first.revision + 1);
    end_rig(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_survives_its_bytes),
        cmocka_unit_test(
            S3_what_is_malformed_or_unknown_leaves_its_place_in_the_log_and_nothing_else),
        cmocka_unit_test(D05_two_machines_that_apply_the_same_hold_the_same),
        cmocka_unit_test(D01_a_restart_finds_what_the_last_batch_held),
        cmocka_unit_test(D12_no_space_refuses_puts_and_lets_deletes_through),
        cmocka_unit_test(D17_a_corrupt_alarm_refuses_everything_that_changes_data),
        cmocka_unit_test(an_alarm_that_changes_nothing_lists_nothing),
        cmocka_unit_test(M11_attributes_change_name_and_addresses_of_a_known_member_only),
        cmocka_unit_test(log_hashes_are_remembered_for_the_last_entries_only),
        cmocka_unit_test(an_entrys_hash_depends_on_all_that_it_is),
        cmocka_unit_test(R22_a_request_brought_again_is_applied_once_also_after_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

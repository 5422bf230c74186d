#include "machine/machine.h"

#include "base/wire.h"
#include "machine/state.h"
#include "storage/backend.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { LOG_HASH_COUNT_DEFAULT = 65536 };

struct machine {
    struct backend *backend; /* borrowed */
    struct mvcc *mvcc;       /* owned */
    struct machine_state state;
    uint64_t *log_hashes; /* owned: of index i at i & (log_hash_count - 1) */
    uint64_t log_hash_count;
    uint64_t hash_seed;
    uint64_t log_hash_first; /* oldest index remembered */
    struct nb_arena arena;   /* of the entry being applied */
    struct nb_buf body;      /* of its result */
};

static const char *const kind_names[MACHINE_KIND_END] = {
    [MACHINE_PUT] = "put",
    [MACHINE_DELETE_RANGE] = "delete",
    [MACHINE_TXN] = "txn",
    [MACHINE_COMPACTION] = "compaction",
    [MACHINE_MEMBER_ATTRIBUTES] = "member",
    [MACHINE_CLUSTER_VERSION] = "version",
    [MACHINE_ALARM] = "alarm",
};

const char *machine_kind_name(unsigned kind)
{
    return kind < MACHINE_KIND_END && kind_names[kind] != NULL ? kind_names[kind] : "unknown";
}

void machine_header_put(uint8_t to[MACHINE_HEADER_SIZE_BYTES], const struct machine_header *h)
{
    memset(to, 0, MACHINE_HEADER_SIZE_BYTES);
    to[0] = h->kind;
    nb_put_u64(to + 8, h->request_id);
    nb_put_u64(to + 16, h->origin);
}

enum nb_status machine_header_get(struct nb_bytes payload, struct machine_header *out,
                                  struct nb_bytes *out_request)
{
    if (payload.len < MACHINE_HEADER_SIZE_BYTES || payload.data[1] != 0) {
        return NB_MALFORMED;
    }
    *out = (struct machine_header){
        .kind = payload.data[0],
        .request_id = nb_get_u64(payload.data + 8),
        .origin = nb_get_u64(payload.data + 16),
    };
    *out_request = nb_bytes_from(payload, MACHINE_HEADER_SIZE_BYTES);
    return NB_OK;
}

/* ---- the running hash of the log ---- */

static uint64_t hash_entry(uint64_t seed, uint64_t index, uint64_t term,
                           enum machine_entry_kind kind, struct nb_bytes payload)
{
    uint8_t head[17];
    nb_put_u64(head, index);
    nb_put_u64(head + 8, term);
    head[16] = (uint8_t)kind;
    uint64_t hash = XXH3_64bits_withSeed(head, sizeof head, seed);
    return payload.len == 0 ? hash : XXH3_64bits_withSeed(payload.data, payload.len, hash);
}

uint64_t machine_entry_hash(uint64_t index, uint64_t term, enum machine_entry_kind kind,
                            struct nb_bytes payload)
{
    return hash_entry(0, index, term, kind, payload);
}

static void remember_log_hash(struct machine *m)
{
    uint64_t index = m->state.applied_index;
    m->log_hashes[index & (m->log_hash_count - 1)] = m->state.log_hash;
    if (index - m->log_hash_first >= m->log_hash_count) {
        m->log_hash_first = index - m->log_hash_count + 1;
    }
}

bool machine_log_hash(const struct machine *m, uint64_t index, uint64_t *out)
{
    if (index > m->state.applied_index || index < m->log_hash_first) {
        return false;
    }
    *out = m->log_hashes[index & (m->log_hash_count - 1)];
    return true;
}

/* ---- life ---- */

static enum nb_status restore(struct machine *m, struct nb_buf *error)
{
    enum nb_status status = machine_state_load(m->backend, &m->state, error);
    if (status == NB_OK) {
        struct mvcc_options options = {.hash_seed = m->hash_seed};
        status = mvcc_create(m->backend, &options, &m->mvcc);
        if (status != NB_OK) {
            nb_buf_printf(error, "the store's history cannot be read: %s", nb_status_text(status));
        }
    }
    m->log_hash_first = m->state.applied_index;
    remember_log_hash(m);
    return status;
}

enum nb_status machine_create(struct backend *b, const struct machine_options *options,
                              struct machine **out, struct nb_buf *error)
{
    struct machine *m = nb_alloc_zero(1, sizeof *m);
    m->backend = b;
    m->hash_seed = options->hash_seed;
    m->log_hash_count =
        options->log_hash_count == 0 ? LOG_HASH_COUNT_DEFAULT : options->log_hash_count;
    nb_assert((m->log_hash_count & (m->log_hash_count - 1)) == 0);
    m->log_hashes = nb_alloc_zero(m->log_hash_count, sizeof *m->log_hashes);
    enum nb_status status = restore(m, error);
    if (status != NB_OK) {
        machine_destroy(m);
        return status;
    }
    *out = m;
    return NB_OK;
}

enum nb_status machine_reload(struct machine *m, struct nb_buf *error)
{
    mvcc_destroy(m->mvcc);
    m->mvcc = NULL;
    machine_state_deinit(&m->state);
    return restore(m, error);
}

void machine_destroy(struct machine *m)
{
    if (m == NULL) {
        return;
    }
    if (m->mvcc != NULL) {
        mvcc_destroy(m->mvcc);
    }
    machine_state_deinit(&m->state);
    nb_free(m->log_hashes);
    nb_arena_deinit(&m->arena);
    nb_buf_deinit(&m->body);
    nb_free(m);
}

void machine_bootstrap(struct machine *m, const struct machine_members *members)
{
    nb_assert(m->state.applied_index == 0 && m->state.members.count == 0);
    for (size_t i = 0; i < members->count; i++) {
        machine_members_set(&m->state.members, &members->items[i]);
    }
}

void machine_force_member(struct machine *m, const struct machine_member *alone,
                          struct nb_bytes conf)
{
    struct machine_members *members = &m->state.members;
    struct machine_members kept = {0};
    machine_members_set(&kept, alone);
    bool published = machine_members_publish(&kept, alone->id, alone->name, alone->client_urls,
                                             alone->client_url_count);
    nb_assert(published);
    struct nb_buf bytes = {0};
    machine_members_encode(&kept, &bytes);
    enum nb_status status = machine_members_apply(members, nb_buf_bytes(&bytes));
    nb_assert(status == NB_OK);
    nb_buf_deinit(&bytes);
    machine_members_deinit(&kept);
    m->state.alarm_count = 0;
    nb_buf_clear(&m->state.conf);
    nb_buf_append_bytes(&m->state.conf, conf);
    m->state.conf_index = m->state.applied_index;
}

void machine_seal(struct machine *m)
{
    machine_state_store(&m->state, m->backend);
    mvcc_batch_seal(m->mvcc);
}

void machine_reaped(struct machine *m, size_t batch_count)
{
    mvcc_batch_reaped(m->mvcc, batch_count);
}

/* ---- the operations ---- */

typedef enum nb_status apply_fn(struct machine *m, struct nb_bytes request, int64_t *revision);

static enum nb_status apply_put(struct machine *m, struct nb_bytes request, int64_t *revision)
{
    struct mvcc_put_request r;
    enum nb_status status = mvcc_put_decode(request, &r);
    if (status == NB_OK) {
        status = mvcc_put_check(&r);
    }
    if (status == NB_OK && machine_alarm_on(m, MACHINE_ALARM_NOSPACE)) {
        status = NB_NO_SPACE;
    }
    return status != NB_OK ? status : mvcc_put(m->mvcc, &r, &m->body, revision);
}

static enum nb_status apply_delete_range(struct machine *m, struct nb_bytes request,
                                         int64_t *revision)
{
    struct mvcc_delete_request r;
    enum nb_status status = mvcc_delete_decode(request, &r);
    if (status == NB_OK) {
        status = mvcc_delete_check(&r);
    }
    if (status == NB_OK) {
        mvcc_delete_range(m->mvcc, &r, &m->body, revision);
    }
    return status;
}

static enum nb_status apply_txn(struct machine *m, struct nb_bytes request, int64_t *revision)
{
    struct mvcc_txn_request t;
    /* How many operations a member allows is its own configuration and was checked at its door, so
     * it must not be looked at here [D05]; what mvcc needs to hold, it checks itself. */
    enum nb_status status = mvcc_txn_decode(request, &m->arena, &t);
    if (status == NB_OK && machine_alarm_on(m, MACHINE_ALARM_NOSPACE) && mvcc_txn_has_put(&t)) {
        status = NB_NO_SPACE;
    }
    return status != NB_OK ? status : mvcc_txn(m->mvcc, &t, &m->body, revision);
}

static enum nb_status apply_compaction(struct machine *m, struct nb_bytes request,
                                       int64_t *revision)
{
    struct mvcc_compaction_request r;
    (void)revision; /* the current one, as of every answer that made none */
    enum nb_status status = mvcc_compaction_decode(request, &r);
    return status != NB_OK ? status : mvcc_compact(m->mvcc, r.revision);
}

static enum nb_status apply_member_attributes(struct machine *m, struct nb_bytes request,
                                              int64_t *revision)
{
    (void)revision;
    struct machine_member member;
    enum nb_status status = machine_member_decode(request, &m->arena, &member);
    if (status != NB_OK) {
        return status;
    }
    return machine_members_publish(&m->state.members, member.id, member.name, member.client_urls,
                                   member.client_url_count)
               ? NB_OK
               : NB_MEMBER_NOT_FOUND;
}

static enum nb_status apply_cluster_version(struct machine *m, struct nb_bytes request,
                                            int64_t *revision)
{
    (void)revision;
    if (request.len == 0 || request.len >= sizeof m->state.cluster_version) {
        return NB_MALFORMED;
    }
    memcpy(m->state.cluster_version, request.data, request.len);
    m->state.cluster_version[request.len] = '\0';
    return NB_OK;
}

static void append_alarm(struct nb_buf *body, const struct machine_alarm_member *a)
{
    struct nb_buf one = {0};
    nb_wire_varint_field(&one, 1, a->member_id);
    nb_wire_varint_field(&one, 2, a->alarm);
    nb_wire_bytes(body, 2, nb_buf_bytes(&one));
    nb_buf_deinit(&one);
}

static enum nb_status apply_alarm(struct machine *m, struct nb_bytes request, int64_t *revision)
{
    enum { GET, ACTIVATE, DEACTIVATE };
    (void)revision;
    uint64_t action = GET;
    struct machine_alarm_member a = {0};
    struct nb_wire_reader r = nb_wire_reader_of(request);
    while (nb_wire_more(&r)) {
        struct nb_wire_field f;
        enum nb_status status = nb_wire_next(&r, &f);
        if (status != NB_OK) {
            return status;
        }
        if (f.type != NB_WIRE_VARINT) {
            continue;
        }
        if (f.number == 1) {
            action = f.value;
        } else if (f.number == 2) {
            a.member_id = f.value;
        } else if (f.number == 3) {
            a.alarm = (uint32_t)f.value;
        }
    }
    if (action == ACTIVATE && a.alarm != MACHINE_ALARM_NONE) {
        machine_state_alarm_add(&m->state, &a);
        append_alarm(&m->body, &a);
    } else if (action == DEACTIVATE && machine_state_alarm_remove(&m->state, &a)) {
        append_alarm(&m->body, &a);
    }
    return NB_OK;
}

static apply_fn *const operations[MACHINE_KIND_END] = {
    [MACHINE_PUT] = apply_put,
    [MACHINE_DELETE_RANGE] = apply_delete_range,
    [MACHINE_TXN] = apply_txn,
    [MACHINE_COMPACTION] = apply_compaction,
    [MACHINE_MEMBER_ATTRIBUTES] = apply_member_attributes,
    [MACHINE_CLUSTER_VERSION] = apply_cluster_version,
    [MACHINE_ALARM] = apply_alarm,
};

/* What a CORRUPT alarm refuses: everything that changes data. */
static bool changes_data(unsigned kind)
{
    return kind >= MACHINE_PUT && kind <= MACHINE_COMPACTION;
}

static enum nb_status apply_command(struct machine *m, const struct machine_entry *entry,
                                    int64_t *revision, bool *duplicate)
{
    struct machine_header h;
    struct nb_bytes request;
    enum nb_status status = machine_header_get(entry->payload, &h, &request);
    if (status != NB_OK) {
        return status;
    }
    if (!machine_seen_add(&m->state.seen, h.origin, h.request_id, entry->index)) {
        *duplicate = true;
        return NB_TIMEOUT; /* "unknown" [R23] */
    }
    apply_fn *operation = h.kind < MACHINE_KIND_END ? operations[h.kind] : NULL;
    if (operation == NULL) {
        return NB_UNSUPPORTED;
    }
    if (changes_data(h.kind) && machine_alarm_on(m, MACHINE_ALARM_CORRUPT)) {
        return NB_CORRUPT_CLUSTER;
    }
    return operation(m, request, revision);
}

/* The first field `number` of bytes among the first few; empty when there is none. */
static struct nb_bytes first_bytes(struct nb_bytes message, uint32_t number)
{
    enum { FEW = 4 };
    struct nb_wire_reader r = nb_wire_reader_of(message);
    struct nb_wire_field f;
    for (unsigned i = 0; i < FEW && nb_wire_more(&r); i++) {
        if (nb_wire_next(&r, &f) != NB_OK) {
            break;
        }
        if (f.number == number && f.type == NB_WIRE_BYTES) {
            return f.bytes;
        }
    }
    return (struct nb_bytes){0};
}

/* The key that a command is about: of a txn, the one it compares first. Empty: who knows. */
static struct nb_bytes key_foreseen(struct nb_bytes payload)
{
    enum { KEY_OF_PUT = 1, COMPARE_OF_TXN = 1, KEY_OF_COMPARE = 3 };
    struct machine_header h;
    struct nb_bytes request;
    if (machine_header_get(payload, &h, &request) != NB_OK) {
        return (struct nb_bytes){0};
    }
    if (h.kind == MACHINE_PUT || h.kind == MACHINE_DELETE_RANGE) {
        return first_bytes(request, KEY_OF_PUT);
    }
    return h.kind == MACHINE_TXN ? first_bytes(first_bytes(request, COMPARE_OF_TXN), KEY_OF_COMPARE)
                                 : (struct nb_bytes){0};
}

void machine_foresee(const struct machine *m, const struct nb_bytes *payloads, size_t count)
{
    struct nb_bytes keys[MACHINE_FORESEEN_COUNT_MAX];
    size_t key_count = 0;
    nb_assert(count <= MACHINE_FORESEEN_COUNT_MAX);
    for (size_t i = 0; i < count; i++) {
        struct nb_bytes key = key_foreseen(payloads[i]);
        if (key.len != 0) {
            keys[key_count++] = key;
        }
    }
    mvcc_foresee(m->mvcc, keys, key_count);
}

static enum nb_status apply_conf(struct machine *m, const struct machine_entry *entry)
{
    nb_buf_clear(&m->state.conf);
    nb_buf_append_bytes(&m->state.conf, entry->conf);
    m->state.conf_index = entry->index;
    /* The entry that ends a joint phase has nothing attached: the members stay as they are. */
    return entry->attached.len == 0 ? NB_OK
                                    : machine_members_apply(&m->state.members, entry->attached);
}

void machine_apply(struct machine *m, const struct machine_entry *entry, struct machine_result *out)
{
    nb_assert(entry->index == m->state.applied_index + 1);
    nb_assert(entry->term >= m->state.applied_term);
    nb_buf_clear(&m->body);
    nb_arena_reset(&m->arena);
    int64_t revision = 0;
    bool duplicate = false;
    enum nb_status status = NB_OK;
    switch (entry->kind) {
    case MACHINE_ENTRY_COMMAND:
        status = apply_command(m, entry, &revision, &duplicate);
        break;
    case MACHINE_ENTRY_NOOP:
        break;
    case MACHINE_ENTRY_CONF:
        status = apply_conf(m, entry);
        break;
    }
    m->state.applied_index = entry->index;
    m->state.applied_term = entry->term;
    m->state.log_hash =
        hash_entry(m->state.log_hash, entry->index, entry->term, entry->kind, entry->payload);
    remember_log_hash(m);
    if (out != NULL) {
        *out = (struct machine_result){
            .status = status,
            .revision = revision != 0 ? revision : mvcc_current_revision(m->mvcc),
            .duplicate = duplicate,
            .body = status == NB_OK ? nb_buf_bytes(&m->body) : (struct nb_bytes){0},
        };
    }
}

/* ---- observers ---- */

uint64_t machine_applied_index(const struct machine *m)
{
    return m->state.applied_index;
}

uint64_t machine_applied_term(const struct machine *m)
{
    return m->state.applied_term;
}

struct nb_bytes machine_conf(const struct machine *m)
{
    return nb_buf_bytes(&m->state.conf);
}

uint64_t machine_conf_index(const struct machine *m)
{
    return m->state.conf_index;
}

struct mvcc *machine_mvcc(struct machine *m)
{
    return m->mvcc;
}

const struct machine_members *machine_members(const struct machine *m)
{
    return &m->state.members;
}

const char *machine_cluster_version(const struct machine *m)
{
    return m->state.cluster_version;
}

const struct machine_alarm_member *machine_alarms(const struct machine *m, size_t *out_count)
{
    *out_count = m->state.alarm_count;
    return m->state.alarms;
}

bool machine_alarm_on(const struct machine *m, enum machine_alarm alarm)
{
    for (size_t i = 0; i < m->state.alarm_count; i++) {
        if (m->state.alarms[i].alarm == (uint32_t)alarm) {
            return true;
        }
    }
    return false;
}

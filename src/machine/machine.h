/*
 * machine: the replicated state machine: one entry of the log in, one result out.
 *
 * Apply is deterministic and total [D04, D05]: no clock, no randomness, no configuration, no local
 * fact; any bytes give a result. All members that applied the same log hold the same bytes, and two
 * numbers show it: HashKV of the data, and a running hash of the log.
 *
 * An entry's payload is the client's request as it came, behind a header of 24 bytes:
 *
 *     offset size
 *          0    1  kind            enum machine_kind
 *          1    1  format          0
 *          2    6  zero
 *          8    8  request id      little-endian; rises by one from a start drawn at each boot; 0:
 * none 16    8  origin          member id of the replica that proposed it 24       request the
 * protobuf message of the kind, unchanged [N14]
 *
 * Invariants:
 *   S1  the applied index rises by one with every entry
 *   S2  {applied index, term, log hash, members, alarms, cluster version, seen requests, data}
 * reach the backend in one transaction, at an entry's boundary [D01, D02] S3  what a malformed or
 * refused entry leaves behind is its place in the log hash and its request id among those seen,
 * nothing else S4  a request that the log brings again is applied once: the first time [R22]
 */
#ifndef NABATA_MACHINE_MACHINE_H
#define NABATA_MACHINE_MACHINE_H

#include "machine/members.h"
#include "mvcc/mvcc.h"

struct backend;
struct machine;

enum machine_kind {
    MACHINE_PUT = 1,
    MACHINE_DELETE_RANGE = 2,
    MACHINE_TXN = 3,
    MACHINE_COMPACTION = 4,
    MACHINE_MEMBER_ATTRIBUTES = 16, /* etcdserverpb.Member: id, name, clientURLs */
    MACHINE_CLUSTER_VERSION = 17,   /* the text "3.7.0" */
    MACHINE_ALARM = 18,             /* etcdserverpb.AlarmRequest */
    MACHINE_KIND_END
};

/* "put", "delete", "txn", ... for tables and metrics; "unknown" for a number that is none. */
const char *machine_kind_name(unsigned kind);

enum { MACHINE_HEADER_SIZE_BYTES = 24 };

struct machine_header {
    uint8_t kind; /* as stored: may be no enum machine_kind */
    uint64_t request_id, origin;
};

void machine_header_put(uint8_t to[MACHINE_HEADER_SIZE_BYTES], const struct machine_header *h);
/* NB_MALFORMED when too short or of another format. The request is what follows the header. */
NB_MUST_USE enum nb_status machine_header_get(struct nb_bytes payload, struct machine_header *out,
                                              struct nb_bytes *out_request);

/* What the machine knows of an entry's kind: the numbers of raft's, passed through by replica/. */
enum machine_entry_kind { MACHINE_ENTRY_COMMAND, MACHINE_ENTRY_NOOP, MACHINE_ENTRY_CONF };

struct machine_entry {
    uint64_t index, term;
    enum machine_entry_kind kind;
    struct nb_bytes payload; /* whole, as hashed */
    /* Of a CONF entry: raft's encoded configuration, stored for a restart, and the members that its
     * proposer attached (machine_members_encode), empty when it changes none. */
    struct nb_bytes conf, attached;
};

struct machine_result {
    enum nb_status status; /* of the operation, as its client is told */
    int64_t revision;      /* for the response header */
    bool duplicate;        /* this request came before: what it was answered then is not known */
    struct nb_bytes body;  /* encoded response without its header; borrowed until the next apply */
};

struct machine_options {
    uint64_t hash_seed;      /* see mvcc_options */
    uint64_t log_hash_count; /* how many log hashes are remembered, a power of two; 0: 65536 */
};

/* Restores from what `b` (borrowed) holds. NB_CORRUPT, NB_IO with words in `error`. */
NB_MUST_USE enum nb_status machine_create(struct backend *b, const struct machine_options *options,
                                          struct machine **out, struct nb_buf *error);
void machine_destroy(struct machine *m);

/* Forgets all and restores anew: the backend was replaced by a received snapshot. */
NB_MUST_USE enum nb_status machine_reload(struct machine *m, struct nb_buf *error);

/* First members of a new cluster, the same on all members, before entry 1 is applied. */
void machine_bootstrap(struct machine *m, const struct machine_members *members);

/*
 * The members are `alone` from now on, by force and outside the log: a survivor goes on without its
 * quorum [M13]. All others count as removed; alarms go. `conf` is raft's encoding of the
 * configuration with this one voter.
 */
void machine_force_member(struct machine *m, const struct machine_member *alone,
                          struct nb_bytes conf);

/* Says which commands come next, a dozen or so (payloads of COMMAND entries): memory is asked for
 * what they will touch. Changes nothing. */
enum { MACHINE_FORESEEN_COUNT_MAX = 16 };
void machine_foresee(const struct machine *m, const struct nb_bytes *payloads, size_t count);

/* Applies the entry after the last one. `out` may be NULL when nobody waits for the result. */
void machine_apply(struct machine *m, const struct machine_entry *entry,
                   struct machine_result *out);

/*
 * Writes what is not data (label, members, alarms, version) into the backend's batch and seals it,
 * so that the caller can hand the batch over; `reaped` right after backend_reap, with what it
 * returned.
 */
void machine_seal(struct machine *m);
void machine_reaped(struct machine *m, size_t batch_count);

uint64_t machine_applied_index(const struct machine *m);
uint64_t machine_applied_term(const struct machine *m);
/* raft's encoded configuration in force at the applied index; empty before the first CONF entry. */
struct nb_bytes machine_conf(const struct machine *m);
/* Index of the CONF entry that machine_conf comes from; 0 when empty. */
uint64_t machine_conf_index(const struct machine *m);

/* Running hash of all entries up to `index`; false when that is not applied or too long ago. */
bool machine_log_hash(const struct machine *m, uint64_t index, uint64_t *out);
/* Hash of one entry alone, by which two logs are compared entry by entry. */
uint64_t machine_entry_hash(uint64_t index, uint64_t term, enum machine_entry_kind kind,
                            struct nb_bytes payload);

struct mvcc *machine_mvcc(struct machine *m);
const struct machine_members *machine_members(const struct machine *m);
/* "" until the log has decided on one. */
const char *machine_cluster_version(const struct machine *m);

enum machine_alarm { MACHINE_ALARM_NONE, MACHINE_ALARM_NOSPACE, MACHINE_ALARM_CORRUPT };

struct machine_alarm_member {
    uint64_t member_id;
    uint32_t alarm; /* enum machine_alarm */
};

/* Alarms that are on, ordered by (alarm, member). */
const struct machine_alarm_member *machine_alarms(const struct machine *m, size_t *out_count);
bool machine_alarm_on(const struct machine *m, enum machine_alarm alarm);

#endif

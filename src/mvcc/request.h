/*
 * mvcc/request: the KV requests of etcd's v3 API: their shape, their decoders, their checks.
 *
 * A request is decoded straight from the bytes the client sent; every struct nb_bytes in it borrows
 * from those bytes, everything else lives in the caller's arena. Decoders are total: any bytes give
 * a request or a status. Encoding is left to those who speak as clients.
 *
 * Read as Go's protobuf reads [etcd 3.7 uses it]:
 *   Q1  the last value of a field wins; a message field that comes again is merged into the first
 *   Q2  of a oneof only the member that came last is kept; the same member again is merged
 *   Q3  a known field with another wire type is an unknown field, and unknown fields are skipped
 *   Q4  enums are open: any number is kept, the checks judge it
 * and unlike it: groups are NB_MALFORMED, nested txns beyond MVCC_TXN_DEPTH_MAX are NB_TOO_DEEP
 * (the default limit of 128 operations refuses them anyhow).
 */
#ifndef NABATA_MVCC_REQUEST_H
#define NABATA_MVCC_REQUEST_H

#include "base/arena.h"
#include "base/bytes.h"
#include "base/status.h"

enum { MVCC_TXN_DEPTH_MAX = 160, MVCC_TXN_OPS_DEFAULT = 128, MVCC_QUOTA_COST_BASE = 256 };

enum mvcc_sort_order { MVCC_SORT_NONE, MVCC_SORT_ASCEND, MVCC_SORT_DESCEND };
enum mvcc_sort_target { MVCC_BY_KEY, MVCC_BY_VERSION, MVCC_BY_CREATE, MVCC_BY_MOD, MVCC_BY_VALUE };

struct mvcc_range_request {
    struct nb_bytes key;
    struct nb_bytes range_end; /* empty: one key; "\0": to the end of all keys; else [key, end) */
    int64_t limit;             /* <= 0: none */
    int64_t revision;          /* <= 0: newest */
    int64_t min_mod_revision, max_mod_revision; /* inclusive; 0: off */
    int64_t min_create_revision, max_create_revision;
    int32_t sort_order, sort_target; /* as on the wire: may be no member of the enum */
    bool serializable, keys_only, count_only;
};

struct mvcc_put_request {
    struct nb_bytes key, value;
    int64_t lease; /* 0: none */
    bool prev_kv, ignore_value, ignore_lease;
};

struct mvcc_delete_request {
    struct nb_bytes key, range_end; /* as in a range */
    bool prev_kv;
};

struct mvcc_compaction_request {
    int64_t revision;
    bool physical;
};

enum mvcc_compare_result { MVCC_EQUAL, MVCC_GREATER, MVCC_LESS, MVCC_NOT_EQUAL };
enum mvcc_compare_target {
    MVCC_COMPARE_VERSION,
    MVCC_COMPARE_CREATE,
    MVCC_COMPARE_MOD,
    MVCC_COMPARE_VALUE,
    MVCC_COMPARE_LEASE
};

struct mvcc_compare {
    int32_t result, target; /* as on the wire */
    bool has_operand;       /* false: the oneof was not set */
    int32_t operand_target; /* enum mvcc_compare_target of the member that was set */
    struct nb_bytes key, range_end;
    struct nb_bytes value; /* of MVCC_COMPARE_VALUE */
    int64_t number;        /* of the others */
};

enum mvcc_op_kind { MVCC_OP_NONE, MVCC_OP_RANGE, MVCC_OP_PUT, MVCC_OP_DELETE, MVCC_OP_TXN };

struct mvcc_op {
    enum mvcc_op_kind kind;
    union {
        struct mvcc_range_request *range;
        struct mvcc_put_request *put;
        struct mvcc_delete_request *delete;
        struct mvcc_txn_request *txn;
    } as;
};

struct mvcc_ops {
    struct mvcc_op *items; /* in the arena */
    size_t count;
};

struct mvcc_txn_request {
    struct mvcc_compare *compares; /* in the arena */
    size_t compare_count;
    struct mvcc_ops success, failure;
};

/* Decoders. NB_MALFORMED, for a txn also NB_TOO_DEEP. `out` is written only on success. */
NB_MUST_USE enum nb_status mvcc_range_decode(struct nb_bytes b, struct mvcc_range_request *out);
NB_MUST_USE enum nb_status mvcc_put_decode(struct nb_bytes b, struct mvcc_put_request *out);
NB_MUST_USE enum nb_status mvcc_delete_decode(struct nb_bytes b, struct mvcc_delete_request *out);
NB_MUST_USE enum nb_status mvcc_compaction_decode(struct nb_bytes b,
                                                  struct mvcc_compaction_request *out);
NB_MUST_USE enum nb_status mvcc_txn_decode(struct nb_bytes b, struct nb_arena *arena,
                                           struct mvcc_txn_request *out);

/*
 * Checks at the door, in etcd's order. [etcd v3rpc/key.go]
 * NB_EMPTY_KEY, NB_INVALID_SORT, NB_VALUE_PROVIDED, NB_LEASE_PROVIDED; for a txn also
 * NB_TOO_MANY_OPS, NB_KEY_NOT_FOUND (an operation with no oneof set) and NB_DUPLICATE_KEY.
 * `scratch` holds the sets of the duplicate check.
 */
NB_MUST_USE enum nb_status mvcc_range_check(const struct mvcc_range_request *r);
NB_MUST_USE enum nb_status mvcc_put_check(const struct mvcc_put_request *r);
NB_MUST_USE enum nb_status mvcc_delete_check(const struct mvcc_delete_request *r);
NB_MUST_USE enum nb_status mvcc_txn_check(const struct mvcc_txn_request *t, uint32_t ops_max,
                                          struct nb_arena *scratch);
/* A range that RangeStream is asked for: as a range, and NB_STREAM_SORT, NB_STREAM_FILTER. */
NB_MUST_USE enum nb_status mvcc_stream_check(const struct mvcc_range_request *r);

/* Only ranges in both branches: need not be logged. A nested txn always counts as a write. */
bool mvcc_txn_is_readonly(const struct mvcc_txn_request *t);
/* Every operation is a serializable range; true for a txn of compares only, as in etcd. */
bool mvcc_txn_is_serializable(const struct mvcc_txn_request *t);
/* Some branch, at some depth, puts: what a NOSPACE alarm refuses. */
bool mvcc_txn_has_put(const struct mvcc_txn_request *t);

/* What a request may cost the store, in bytes, for the quota: 256 + key + value for each put, the
 * larger branch of a txn. */
uint64_t mvcc_put_quota_cost(const struct mvcc_put_request *r);
uint64_t mvcc_txn_quota_cost(const struct mvcc_txn_request *t);

/* The keys a (key, range_end) pair of a request means: [first, end), or [first, infinity). */
struct mvcc_interval {
    struct nb_bytes first;
    struct nb_bytes end; /* of no meaning when `single` or `open` */
    bool single;         /* the one key `first` */
    bool open;           /* no end */
};

struct mvcc_interval mvcc_interval_of(struct nb_bytes key, struct nb_bytes range_end);
bool mvcc_interval_holds(const struct mvcc_interval *i, struct nb_bytes key);

#endif

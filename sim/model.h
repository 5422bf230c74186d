/*
 * sim/model: the store as it should be: a flat list of every value each key ever had.
 *
 * Written from the v3 API's description and not from src/mvcc, and with other means: the state at
 * any place of the log can be asked for afterwards.
 */
#ifndef NABATA_SIM_MODEL_H
#define NABATA_SIM_MODEL_H

#include "base/bytes.h"
#include "base/status.h"

enum { SIM_KEY_COUNT = 8 };

/* What clients of the simulation ask. Values are numbers; a key is a number below SIM_KEY_COUNT. */
enum sim_op_kind {
    SIM_OP_PUT,
    SIM_OP_DELETE,
    SIM_OP_DELETE_ALL,
    SIM_OP_SWAP, /* txn: if the key's version is `expected`, put `value`, else put `value` at
                    `other` */
    SIM_OP_COMPACT,
    SIM_OP_READ, /* of all keys */
    SIM_OP_KIND_COUNT
};

struct sim_request {
    enum sim_op_kind kind;
    unsigned key, other;
    uint64_t value;
    int64_t expected; /* version */
    int64_t revision; /* of a compaction */
};

/* What a client is told. */
struct sim_answer {
    enum nb_status status;
    int64_t revision;
    uint64_t deleted;
    bool succeeded;    /* of a txn */
    bool has_previous; /* of a put */
    uint64_t previous_value;
};

struct sim_version {
    uint64_t index; /* of the log: valid from there on */
    bool alive;
    uint64_t value;
    int64_t create, mod, version;
};

/* All zero, then sim_model_init. */
struct sim_model {
    struct sim_history {
        struct sim_version *items; /* owned */
        size_t count, capacity;
    } keys[SIM_KEY_COUNT];
    int64_t *revisions; /* owned: after index i, at i */
    size_t revision_count, revision_capacity;
    int64_t revision, compact_revision;
};

void sim_model_init(struct sim_model *m);
void sim_model_deinit(struct sim_model *m);
/* Applies the entry with the next index; NULL for one that is no request of a client. */
void sim_model_apply(struct sim_model *m, const struct sim_request *request,
                     struct sim_answer *out);
uint64_t sim_model_index(const struct sim_model *m);
/* Of a key after `index` was applied; NULL when it is not there. */
const struct sim_version *sim_model_at(const struct sim_model *m, unsigned key, uint64_t index);
int64_t sim_model_revision_at(const struct sim_model *m, uint64_t index);

#endif

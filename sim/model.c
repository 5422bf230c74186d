#include "sim/model.h"

void sim_model_init(struct sim_model *m)
{
    *m = (struct sim_model){.revision = 1, .compact_revision = -1};
    m->revisions = nb_grow(NULL, &m->revision_capacity, 1, sizeof *m->revisions);
    m->revisions[m->revision_count++] = 1; /* before the log */
}

void sim_model_deinit(struct sim_model *m)
{
    for (unsigned k = 0; k < SIM_KEY_COUNT; k++) {
        nb_free(m->keys[k].items);
    }
    nb_free(m->revisions);
    *m = (struct sim_model){0};
}

uint64_t sim_model_index(const struct sim_model *m)
{
    return m->revision_count - 1;
}

const struct sim_version *sim_model_at(const struct sim_model *m, unsigned key, uint64_t index)
{
    const struct sim_history *h = &m->keys[key];
    for (size_t i = h->count; i-- > 0;) {
        if (h->items[i].index <= index) {
            return h->items[i].alive ? &h->items[i] : NULL;
        }
    }
    return NULL;
}

int64_t sim_model_revision_at(const struct sim_model *m, uint64_t index)
{
    nb_assert(index < m->revision_count);
    return m->revisions[index];
}

static void add(struct sim_model *m, unsigned key, struct sim_version version)
{
    struct sim_history *h = &m->keys[key];
    h->items = nb_grow(h->items, &h->capacity, h->count + 1, sizeof *h->items);
    h->items[h->count++] = version;
}

static const struct sim_version *now(const struct sim_model *m, unsigned key)
{
    return sim_model_at(m, key, UINT64_MAX);
}

static void put(struct sim_model *m, uint64_t index, unsigned key, uint64_t value,
                struct sim_answer *out)
{
    const struct sim_version *old = now(m, key);
    out->has_previous = old != NULL;
    out->previous_value = old == NULL ? 0 : old->value;
    m->revision++;
    add(m, key,
        (struct sim_version){.index = index,
                             .alive = true,
                             .value = value,
                             .create = old == NULL ? m->revision : old->create,
                             .mod = m->revision,
                             .version = old == NULL ? 1 : old->version + 1});
}

static void delete_keys(struct sim_model *m, uint64_t index, unsigned first, unsigned end,
                        struct sim_answer *out)
{
    for (unsigned k = first; k < end; k++) {
        if (now(m, k) != NULL) {
            out->deleted++;
            add(m, k, (struct sim_version){.index = index});
        }
    }
    m->revision += out->deleted == 0 ? 0 : 1;
}

static void compact(struct sim_model *m, int64_t revision, struct sim_answer *out)
{
    if (revision <= m->compact_revision) {
        out->status = NB_COMPACTED;
    } else if (revision > m->revision) {
        out->status = NB_FUTURE_REVISION;
    } else {
        m->compact_revision = revision;
    }
}

void sim_model_apply(struct sim_model *m, const struct sim_request *r, struct sim_answer *out)
{
    uint64_t index = m->revision_count;
    *out = (struct sim_answer){.status = NB_OK};
    if (r != NULL) {
        switch (r->kind) {
        case SIM_OP_PUT:
            put(m, index, r->key, r->value, out);
            break;
        case SIM_OP_DELETE:
            delete_keys(m, index, r->key, r->key + 1, out);
            break;
        case SIM_OP_DELETE_ALL:
            delete_keys(m, index, 0, SIM_KEY_COUNT, out);
            break;
        case SIM_OP_SWAP: {
            const struct sim_version *v = now(m, r->key);
            out->succeeded = (v == NULL ? 0 : v->version) == r->expected;
            put(m, index, out->succeeded ? r->key : r->other, r->value, out);
            out->has_previous = false; /* not asked for */
            out->previous_value = 0;
            break;
        }
        case SIM_OP_COMPACT:
            compact(m, r->revision, out);
            break;
        case SIM_OP_READ:
        case SIM_OP_KIND_COUNT:
            nb_unreachable("reads are not in the log");
        }
    }
    out->revision = m->revision;
    m->revisions =
        nb_grow(m->revisions, &m->revision_capacity, m->revision_count + 1, sizeof *m->revisions);
    m->revisions[m->revision_count++] = m->revision;
}

/* The decoders of raft/: whatever decodes must encode to the same bytes, and be fit to be stepped.
 */
#include "raft/raft.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct raft *follower(void)
{
    struct raft_config c;
    raft_config_defaults(&c);
    c.id = 1;
    c.seed = 1;
    struct raft_start start = {.snapshot.conf = {.voters = {1, 2, 3}, .voter_count = 3}};
    struct raft *r = NULL;
    nb_assert(raft_create(&c, &start, &r) == NB_OK);
    return r;
}

static void step_it(struct raft_msg *m)
{
    struct raft *r = follower();
    struct raft_effects fx;
    m->to = 1;
    raft_step(r, m);
    raft_drain(r, &fx);
    raft_persisted(r, fx.sync);
    raft_drain(r, &fx);
    raft_step(r, m); /* a duplicate */
    raft_drain(r, &fx);
    raft_destroy(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nb_arena arena = {0};
    struct raft_msg m;
    if (raft_msg_decode(nb_bytes_of(data, size), &m, &arena) == NB_OK) {
        struct nb_buf again = {0};
        raft_msg_encode(&m, &again);
        nb_assert(again.len == raft_msg_encoded_size(&m));
        struct raft_msg second;
        nb_assert(raft_msg_decode(nb_buf_bytes(&again), &second, &arena) == NB_OK);
        nb_assert(second.type == m.type && second.term == m.term);
        raft_msg_release(&second);
        nb_buf_deinit(&again);
        step_it(&m);
        raft_msg_release(&m);
    }
    struct raft_conf conf;
    struct nb_bytes attached;
    if (raft_conf_decode(nb_bytes_of(data, size), &conf, &attached) == NB_OK) {
        struct nb_buf again = {0};
        raft_conf_encode(&conf, &again);
        nb_assert(again.len + attached.len == size && memcmp(again.data, data, again.len) == 0);
        nb_buf_deinit(&again);
    }
    nb_arena_deinit(&arena);
    return 0;
}

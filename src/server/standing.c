#include "server/standing.h"

#include "base/random.h"
#include "base/version.h"
#include "base/wire.h"
#include "peer/peer.h"

enum { FIELD_TERM = 40, FIELD_LEADER, FIELD_LAST_INDEX, FIELD_LAST_TERM };

void server_standing_append(const struct replica *r, struct nb_buf *card)
{
    struct replica_status s;
    replica_status(r, &s);
    nb_wire_varint_field(card, FIELD_TERM, s.raft.term);
    nb_wire_varint_field(card, FIELD_LEADER, s.raft.leader_id);
    nb_wire_varint_field(card, FIELD_LAST_INDEX, s.raft.last.index);
    nb_wire_varint_field(card, FIELD_LAST_TERM, s.raft.last.term);
}

bool server_standing_decode(struct nb_bytes card, struct server_standing *out)
{
    struct nb_wire_reader r = nb_wire_reader_of(card);
    *out = (struct server_standing){0};
    while (nb_wire_more(&r)) {
        struct nb_wire_field f;
        if (nb_wire_next(&r, &f) != NB_OK) {
            return false;
        }
        uint64_t *to = f.number == FIELD_TERM         ? &out->term
                       : f.number == FIELD_LEADER     ? &out->leader_id
                       : f.number == FIELD_LAST_INDEX ? &out->last_index
                       : f.number == FIELD_LAST_TERM  ? &out->last_term
                                                      : NULL;
        if (to != NULL && f.type == NB_WIRE_VARINT) {
            *to = f.value;
            out->answered = true;
        }
    }
    return out->answered;
}

struct asking {
    struct net_loop *loop;
    size_t pending;
};

struct question {
    struct asking *asking;
    uint64_t id;
    struct server_standing *out;
};

static void on_answer(void *user, enum nb_status status, const struct peer_hello *answer,
                      const char *error)
{
    struct question *q = user;
    struct server_standing found;
    (void)error;
    if (status == NB_OK && answer->from == q->id && server_standing_decode(answer->card, &found)) {
        *q->out = found;
    }
    if (--q->asking->pending == 0) {
        net_loop_stop(q->asking->loop);
    }
}

static void ignore_message(void *user, uint64_t from, const struct raft_msg *msg)
{
    (void)user;
    (void)from;
    (void)msg;
}

void server_standing_ask(const struct machine_members *members, uint64_t self, uint64_t timeout_ns,
                         struct server_standing *out)
{
    static const struct peer_events events = {.on_message = ignore_message};
    static const struct nb_logger silent = {0};
    struct question questions[MACHINE_MEMBER_COUNT_MAX * MACHINE_MEMBER_URL_COUNT_MAX];
    struct asking asking = {.loop = net_loop_create()};
    struct peer_transport *transport;
    struct peer_config peer;
    peer_config_defaults(&peer);
    peer.loop = asking.loop;
    peer.logger = &silent;
    peer.events = &events;
    peer.user = &asking;
    peer.member_id = nb_random_entropy() | 1; /* of nobody */
    peer.boot_id = nb_random_entropy() | 1;
    peer.boot_count = 1;
    peer.fresh = true;
    peer.name = "";
    peer.version = NB_VERSION;
    enum nb_status status = peer_transport_create(&peer, &transport);
    nb_assert(status == NB_OK);
    for (size_t i = 0; i < members->count; i++) {
        const struct machine_member *m = &members->items[i];
        out[i] = (struct server_standing){0};
        for (size_t k = 0; m->id != self && k < m->peer_url_count; k++) {
            struct question *q = &questions[asking.pending++];
            *q = (struct question){.asking = &asking, .id = m->id, .out = &out[i]};
            peer_probe(transport, m->peer_urls[k], timeout_ns, on_answer, q);
        }
    }
    if (asking.pending != 0) {
        net_loop_run(asking.loop);
    }
    peer_transport_destroy(transport);
    net_loop_destroy(asking.loop);
}

#include "server/join.h"

#include "base/random.h"
#include "base/version.h"
#include "base/wire.h"
#include "peer/peer.h"
#include "server/server.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { FIELD_MEMBER = 7, FIELD_MEMBERS = 13, FIELD_APPLIED = 14 };

static const uint64_t probe_ns = 1000 * UINT64_C(1000000);
static const uint64_t pause_ns = 200 * UINT64_C(1000000);
static const uint64_t patience_ns = 2000 * UINT64_C(1000000);

/* ---- the card ---- */

void server_card_encode(uint64_t member_id, uint64_t applied_index,
                        const struct machine_members *members, struct nb_buf *out)
{
    struct nb_buf all = {0}, one = {0};
    for (size_t i = 0; i < members->count; i++) {
        struct machine_member m = members->items[i];
        m.client_url_count = 0;
        nb_buf_clear(&one);
        machine_member_encode(&m, &one);
        nb_wire_bytes(&all, 1, nb_buf_bytes(&one));
    }
    nb_wire_varint_field(out, FIELD_MEMBER, member_id);
    nb_wire_bytes_field(out, FIELD_MEMBERS, nb_buf_bytes(&all));
    nb_wire_varint_field(out, FIELD_APPLIED, applied_index);
    nb_buf_deinit(&one);
    nb_buf_deinit(&all);
}

enum nb_status server_card_decode(struct nb_bytes card, uint64_t *out_applied_index,
                                  struct machine_members *out_members)
{
    struct nb_wire_reader r = nb_wire_reader_of(card);
    *out_applied_index = 0;
    while (nb_wire_more(&r)) {
        struct nb_wire_field f;
        enum nb_status status = nb_wire_next(&r, &f);
        if (status == NB_OK && f.type == NB_WIRE_VARINT && f.number == FIELD_APPLIED) {
            *out_applied_index = f.value;
        } else if (status == NB_OK && f.type == NB_WIRE_BYTES && f.number == FIELD_MEMBERS) {
            status = machine_members_apply(out_members, f.bytes);
        }
        if (status != NB_OK) {
            return status;
        }
    }
    return NB_OK;
}

/* ---- who are we among them ---- */

static bool is_at(const struct machine_member *m, const struct server_addresses *urls)
{
    bool same = m->peer_url_count == urls->count;
    for (size_t i = 0; same && i < urls->count; i++) {
        bool found = false;
        for (size_t k = 0; k < m->peer_url_count; k++) {
            found = found || strcmp(m->peer_urls[k], urls->items[i].url) == 0;
        }
        same = found;
    }
    return same;
}

uint64_t server_join_match(const struct server_members *listed, const char *name,
                           const struct machine_members *members, struct nb_buf *message)
{
    if (listed->count != members->count) {
        nb_buf_printf(message,
                      "error validating peerURLs: member count is unequal: the cluster has %zu "
                      "members, --initial-cluster names %zu; give the list that \"member add\" "
                      "printed\n",
                      members->count, listed->count);
        return 0;
    }
    uint64_t self = 0;
    for (size_t i = 0; i < listed->count; i++) {
        const struct server_member *want = &listed->items[i];
        const struct machine_member *found = NULL;
        for (size_t k = 0; k < members->count && found == NULL; k++) {
            found = is_at(&members->items[k], &want->peer_urls) ? &members->items[k] : NULL;
        }
        if (found == NULL) {
            nb_buf_printf(message,
                          "error validating peerURLs: unmatched member while checking PeerURLs: "
                          "the cluster has no member at %s (%s in --initial-cluster); add it with "
                          "\"member add\" first\n",
                          want->peer_urls.items[0].url, want->name);
            return 0;
        }
        if (strcmp(want->name, name) == 0) {
            self = found->id;
            if (found->name[0] != '\0') {
                nb_buf_printf(message,
                              "member %s has already been bootstrapped and its data is not here: "
                              "remove member %" PRIx64 " and add it anew\n",
                              name, found->id);
                return 0;
            }
        }
    }
    return self;
}

/* ---- asking ---- */

struct search {
    const struct server_config *config;
    struct net_loop *loop;
    struct peer_transport *transport;
    size_t pending;
    bool answered, foreign; /* somebody; somebody of another cluster than somebody else */
    uint64_t cluster_id, applied;
    struct machine_members members; /* owned: as of `applied` */
    char error[256];
};

static void on_answer(void *user, enum nb_status status, const struct peer_hello *answer,
                      const char *error)
{
    struct search *s = user;
    struct machine_members members = {0};
    uint64_t applied = 0;
    if (status == NB_OK && answer->cluster_id == 0) {
        error = "it is in no cluster yet";
    } else if (status == NB_OK && server_card_decode(answer->card, &applied, &members) == NB_OK &&
               members.count != 0) {
        s->foreign = s->foreign || (s->answered && s->cluster_id != answer->cluster_id);
        if (!s->answered || applied > s->applied) {
            struct machine_members old = s->members;
            s->members = members;
            members = old;
            s->applied = applied;
            s->cluster_id = answer->cluster_id;
        }
        s->answered = true;
    } else if (status == NB_OK) {
        error = "it does not know its members yet";
    }
    if (error != NULL && error[0] != '\0') {
        (void)snprintf(s->error, sizeof s->error, "%s", error);
    }
    machine_members_deinit(&members);
    if (--s->pending == 0) {
        net_loop_stop(s->loop);
    }
}

static void ask_all(struct search *s)
{
    const struct server_members *all = &s->config->initial_cluster;
    for (size_t i = 0; i < all->count; i++) {
        const struct server_member *m = &all->items[i];
        for (size_t k = 0; strcmp(m->name, s->config->name) != 0 && k < m->peer_urls.count; k++) {
            s->pending++;
            peer_probe(s->transport, m->peer_urls.items[k].url, probe_ns, on_answer, s);
        }
    }
    if (s->pending != 0) {
        net_loop_run(s->loop);
    }
}

static void on_pause_over(void *user)
{
    struct search *s = user;
    net_loop_stop(s->loop);
}

static void pause(struct search *s)
{
    struct net_timer *timer = net_timer_create(s->loop, on_pause_over, s);
    net_timer_start(timer, pause_ns, 0);
    net_loop_run(s->loop);
    net_timer_destroy(timer);
}

static void ignore_message(void *user, uint64_t from, const struct raft_msg *msg)
{
    (void)user;
    (void)from;
    (void)msg;
}

static uint64_t search(struct search *s, struct nb_buf *message)
{
    uint64_t end_ns = net_now_ns() + patience_ns;
    for (;;) {
        ask_all(s);
        nb_buf_clear(message);
        uint64_t self = 0;
        if (s->foreign) {
            nb_buf_append_str(message, "the members of --initial-cluster are of different "
                                       "clusters; list those of one\n");
        } else if (s->answered) {
            self = server_join_match(&s->config->initial_cluster, s->config->name, &s->members,
                                     message);
        } else {
            nb_buf_printf(message,
                          "cannot fetch cluster info from peer urls: could not retrieve cluster "
                          "information from the given URLs: %s; start the other members, or give "
                          "--initial-cluster-state new for a new cluster\n",
                          s->error[0] == '\0' ? "--initial-cluster names no other member"
                                              : s->error);
        }
        if (self != 0 || net_now_ns() > end_ns) {
            return self;
        }
        pause(s); /* the one that was asked may not have heard of us yet */
    }
}

int server_join_find(const struct server_config *config, const struct nb_logger *log,
                     struct server_joined *out, struct nb_buf *message)
{
    static const struct peer_events events = {.on_message = ignore_message};
    struct search s = {.config = config, .loop = net_loop_create()};
    struct peer_config peer;
    peer_config_defaults(&peer);
    peer.loop = s.loop;
    peer.logger = log;
    peer.events = &events;
    peer.user = &s;
    peer.member_id = nb_random_entropy() | 1; /* of nobody: we do not know ours yet */
    peer.boot_id = nb_random_entropy() | 1;
    peer.boot_count = 1;
    peer.fresh = true;
    peer.name = config->name;
    peer.version = NB_VERSION;
    uint64_t self = 0;
    if (peer_transport_create(&peer, &s.transport) != NB_OK) {
        nb_buf_append_str(message, "the peer transport does not take its configuration\n");
    } else {
        self = search(&s, message);
        peer_transport_destroy(s.transport);
    }
    net_loop_destroy(s.loop);
    *out =
        (struct server_joined){.cluster_id = s.cluster_id, .member_id = self, .members = s.members};
    if (self == 0) {
        machine_members_deinit(&out->members);
    }
    return self == 0 ? SERVER_EXIT_START : SERVER_EXIT_OK;
}

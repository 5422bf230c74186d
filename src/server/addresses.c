/*
 * server/addresses: members tell each other where a member was last heard from.
 *
 * Two pods that came up before their names did may both hold "no such name" for each other for as
 * long as the name server remembers it (30 s in Kubernetes), although a third is connected to both.
 * So who misses a member asks those that it is connected to; the handshake decides whether the
 * answer leads to the right one. [K01, M09]
 *
 * When nobody knows, all may have come back with other addresses: then the name of their headless
 * service is asked (server/service.h).
 *
 * The question is 'A' and the member's id, 9 bytes; the answer "ip:port", or nothing.
 */
#include "server/internal.h"
#include "server/service.h"

#include <stdio.h>
#include <string.h>

enum { QUESTION = 'A', QUESTION_SIZE = 9 };

static const uint64_t interval_ns = 500 * 1000000ull;
static const uint64_t timeout_ns = 1000 * 1000000ull;

static void on_answer(void *context, enum nb_status status, struct nb_bytes answer)
{
    struct server_question *q = context;
    char text[64];
    struct net_address at;
    struct net_error error;
    if (status == NB_OK && answer.len != 0 && answer.len < sizeof text) {
        (void)snprintf(text, sizeof text, "%.*s", (int)answer.len, (const char *)answer.data);
        struct peer_status p;
        if (net_address_parse(text, 0, &at, &error) && net_address_is_numeric(&at) &&
            peer_status_of(q->server->peers, q->id, &p) && !p.control_up) {
            peer_transport_learn(q->server->peers, q->id, at.host, at.port);
        }
    }
    q->id = 0;
}

static void ask(struct server *s, uint64_t whom, uint64_t id)
{
    uint8_t bytes[QUESTION_SIZE] = {QUESTION};
    nb_put_u64(bytes + 1, id);
    struct server_question *q = NULL;
    for (size_t i = 0; i < NB_ARRAY_LEN(s->questions) && q == NULL; i++) {
        q = s->questions[i].id == 0 ? &s->questions[i] : NULL;
    }
    if (q == NULL) {
        return;
    }
    *q = (struct server_question){.server = s, .id = id};
    peer_call(s->peers, whom, nb_bytes_of(bytes, sizeof bytes), timeout_ns, on_answer, q);
}

void server_addresses_found(void *server, const struct peer_hello *answer, const char *ip,
                            uint16_t port)
{
    struct server *s = server;
    struct peer_status p;
    if (answer->cluster_id == s->store.cluster_id && answer->from != s->store.member_id &&
        peer_status_of(s->peers, answer->from, &p) && !p.control_up) {
        peer_transport_learn(s->peers, answer->from, ip, port);
    }
}

static void ask_service(struct server *s, uint64_t id)
{
    const struct machine_member *m = machine_members_find(&s->known, id);
    if (m != NULL && m->peer_url_count != 0) {
        server_service_ask(s->service, m->peer_urls[0]);
    }
}

/* One question a member that is missed, to one that is there; another one the next time. */
void server_addresses_tick(struct server *s)
{
    uint64_t now_ns = net_loop_now_ns(s->loop);
    if (now_ns < s->addresses_due_ns) {
        return;
    }
    s->addresses_due_ns = now_ns + interval_ns;
    uint64_t ids[PEER_COUNT_MAX], up[PEER_COUNT_MAX], down[PEER_COUNT_MAX];
    size_t count = peer_transport_ids(s->peers, ids), up_count = 0, down_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct peer_status p;
        if (!peer_status_of(s->peers, ids[i], &p)) {
            continue;
        }
        if (p.control_up) {
            up[up_count++] = ids[i];
        } else if (p.dialled && p.refusal == PEER_REFUSAL_NONE) {
            down[down_count++] = ids[i];
        }
    }
    for (size_t i = 0; up_count != 0 && i < down_count; i++) {
        ask(s, up[s->addresses_round++ % up_count], down[i]);
    }
    if (down_count != 0) {
        ask_service(s, down[0]);
    }
}

bool server_addresses_asked(struct server *s, uint64_t call, struct nb_bytes request)
{
    if (request.len != QUESTION_SIZE || request.data[0] != QUESTION) {
        return false;
    }
    struct peer_status p;
    bool known = peer_status_of(s->peers, nb_get_u64(request.data + 1), &p) && p.heard_up;
    peer_reply(s->peers, call, NB_OK, nb_bytes_str(known ? p.learned : ""));
    return true;
}

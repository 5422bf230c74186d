/* api/cluster: etcdserverpb.Cluster. [etcd-v3-surface 2.8]
 *
 * A change may be asked of any member. The one that was asked hands it to the leader, which checks
 * and makes it; then the first one waits until it has applied as much as the leader had, and
 * answers from its own state.
 */
#include "api/internal.h"
#include "api/reply.h"

#include <string.h>

/* Connections younger than this count as none: etcd's HealthInterval. */
static const uint64_t steady_ns = 5 * UINT64_C(1000000000);

/* A member that does not apply what the leader has done answers "timed out". */
static const uint64_t retry_ns = 50 * UINT64_C(1000000);

enum op_kind { OP_ADD = 1, OP_REMOVE = 2, OP_UPDATE = 3, OP_PROMOTE = 4, OP_KIND_END };

/* On the wire between members: tags, then protobuf fields. The tag is none that a protobuf message
 * begins with here, so that other calls can share the channel. */
enum {
    OP_TAG = 0x4d,
    FIELD_KIND = 1,
    FIELD_ID = 2,
    FIELD_LEARNER = 3,
    FIELD_URL = 4,
    ANSWER_STATUS = 1, /* name of the status: numbers may move from version to version */
    ANSWER_ID = 2,
    ANSWER_INDEX = 3,
};

enum op_state {
    OP_WAITING,  /* for a leader, or for the change before it */
    OP_CHANGING, /* the replica has it */
    OP_ASKED,    /* the leader has it */
    OP_APPLYING, /* done, but perhaps not seen here yet */
    OP_ENDED,
};

struct cluster_op {
    struct replica_request request; /* first: `done` finds the record by it */
    struct api_holder holder;       /* of a client's call */
    struct api *api;
    struct cluster_op *next;
    void (*answer)(void *context, struct nb_bytes bytes); /* for another member; NULL: a client */
    void *context;
    enum op_kind kind;
    enum op_state state;
    enum nb_status status;
    uint64_t id;    /* of the member */
    uint64_t index; /* applied when this is here */
    bool is_learner;
    char *urls[MACHINE_MEMBER_URL_COUNT_MAX]; /* owned */
    size_t url_count;
    uint64_t deadline_ns, retry_ns;
};

static const struct machine_members *members_of(const struct api *a)
{
    return machine_members(replica_machine(a->config.replica));
}

/* ---- MemberList, and the members in other answers ---- */

static void append_members(const struct machine_members *members, unsigned field, struct nb_buf *to)
{
    struct nb_buf one = {0};
    for (size_t i = 0; i < members->count; i++) {
        nb_buf_clear(&one);
        machine_member_encode(&members->items[i], &one);
        nb_wire_bytes(to, field, nb_buf_bytes(&one));
    }
    nb_buf_deinit(&one);
}

static void answer_members(struct api *a, struct rpc_call *call, struct nb_bytes message)
{
    (void)message;
    uint8_t head[64];
    size_t head_len = api_header_encode(a, head, 0, false);
    nb_buf_clear(&a->scratch);
    append_members(members_of(a), 2, &a->scratch);
    rpc_call_reply(call, nb_bytes_of(head, head_len), nb_buf_bytes(&a->scratch));
}

void api_member_list(struct rpc_call *call, struct nb_bytes message)
{
    struct api *a = api_of(call);
    Etcdserverpb__MemberListRequest *in =
        etcdserverpb__member_list_request__unpack(NULL, message.len, message.data);
    if (in == NULL) {
        api_refuse(call, NB_MALFORMED);
        return;
    }
    bool linearizable = in->linearizable;
    etcdserverpb__member_list_request__free_unpacked(in, NULL);
    if (api_door(a, call, false) != NB_OK) {
        return;
    }
    if (linearizable) {
        api_read_then(a, call, message, answer_members);
    } else {
        answer_members(a, call, message);
    }
}

/* ---- what the leader checks ---- */

/* Members that count for a quorum, started and connected ones among them. */
struct census {
    uint64_t voters, started, connected, learners;
};

/* `without`: not counted; 0: all are. */
static struct census count_members(const struct api *a, uint64_t without)
{
    const struct api_cluster_world *w = &a->config.cluster;
    const struct machine_members *members = members_of(a);
    uint64_t now_ns = net_now_ns();
    struct census c = {0};
    for (size_t i = 0; i < members->count; i++) {
        const struct machine_member *m = &members->items[i];
        if (m->is_learner || m->id == without) {
            c.learners += m->is_learner ? 1 : 0;
            continue;
        }
        uint64_t since_ns =
            m->id == a->config.member_id ? 1 : w->connected_since_ns(w->user, m->id);
        c.voters++;
        c.started += m->name[0] != '\0' ? 1 : 0;
        c.connected +=
            m->id == a->config.member_id || (since_ns != 0 && now_ns - since_ns >= steady_ns) ? 1
                                                                                              : 0;
    }
    return c;
}

static uint64_t quorum(uint64_t voters)
{
    return voters / 2 + 1;
}

/* Against the quorum there really is: with a dead member among the voters a learner may still come,
 * which etcd refuses [M06]. */
static enum nb_status strict_add(const struct cluster_op *op)
{
    struct census c = count_members(op->api, 0);
    if (op->is_learner) {
        return c.connected < quorum(c.voters) ? NB_UNHEALTHY : NB_OK;
    }
    if (c.started < quorum(c.voters + 1) && !(c.started == 1 && c.voters == 1)) {
        return NB_NOT_ENOUGH_STARTED;
    }
    if (c.connected < quorum(c.voters + 1) && !(c.connected == 1 && c.voters == 1)) {
        return NB_UNHEALTHY;
    }
    return NB_OK;
}

static enum nb_status strict_remove(const struct cluster_op *op)
{
    const struct api *a = op->api;
    const struct api_cluster_world *w = &a->config.cluster;
    const struct machine_member *m = machine_members_find(members_of(a), op->id);
    struct census rest = count_members(a, op->id), all = count_members(a, 0);
    if (m == NULL || m->is_learner) {
        return NB_OK;
    }
    if (rest.voters == 0 || rest.started < quorum(rest.voters)) {
        return NB_NOT_ENOUGH_STARTED;
    }
    if (op->id != a->config.member_id && w->connected_since_ns(w->user, op->id) == 0) {
        return NB_OK; /* it is no part of the quorum that there is */
    }
    return all.connected < quorum(rest.voters) + 1 ? NB_UNHEALTHY : NB_OK;
}

static bool urls_taken(const struct api *a, const struct cluster_op *op)
{
    const struct machine_members *members = members_of(a);
    for (size_t i = 0; i < members->count; i++) {
        const struct machine_member *m = &members->items[i];
        for (size_t k = 0; k < m->peer_url_count && m->id != op->id; k++) {
            for (size_t u = 0; u < op->url_count; u++) {
                if (strcmp(m->peer_urls[k], op->urls[u]) == 0) {
                    return true;
                }
            }
        }
    }
    return false;
}

static enum nb_status check_add(struct cluster_op *op)
{
    struct api *a = op->api;
    const struct api_cluster_world *w = &a->config.cluster;
    enum nb_status status = w->strict ? strict_add(op) : NB_OK;
    if (status != NB_OK) {
        return status;
    }
    if (urls_taken(a, op)) {
        return NB_PEER_URL_EXISTS;
    }
    if (op->is_learner && count_members(a, 0).learners >= w->learner_count_max) {
        return NB_TOO_MANY_LEARNERS;
    }
    op->id = w->new_member_id(w->user, op->urls, op->url_count);
    return NB_OK;
}

static enum nb_status check_remove(const struct cluster_op *op)
{
    const struct api *a = op->api;
    const struct machine_member *m = machine_members_find(members_of(a), op->id);
    enum nb_status status = a->config.cluster.strict ? strict_remove(op) : NB_OK;
    if (status != NB_OK) {
        return status;
    }
    if (m == NULL) {
        return NB_MEMBER_NOT_FOUND;
    }
    return !m->is_learner && count_members(a, op->id).voters == 0 ? NB_NOT_ENOUGH_STARTED : NB_OK;
}

static enum nb_status check_promote(const struct cluster_op *op)
{
    const struct api *a = op->api;
    const struct machine_member *m = machine_members_find(members_of(a), op->id);
    struct replica_progress learner, own;
    if (m == NULL || !replica_progress(a->config.replica, op->id, &learner)) {
        return NB_MEMBER_NOT_FOUND;
    }
    if (!m->is_learner) {
        return NB_NOT_LEARNER;
    }
    if (!replica_progress(a->config.replica, a->config.member_id, &own) ||
        learner.match_index * 10 < own.match_index * 9) {
        return NB_LEARNER_NOT_READY;
    }
    struct census c = count_members(a, 0);
    return a->config.cluster.strict && c.started + 1 < quorum(c.voters + 1) ? NB_NOT_ENOUGH_STARTED
                                                                            : NB_OK;
}

static enum nb_status check(struct cluster_op *op)
{
    switch (op->kind) {
    case OP_ADD:
        return check_add(op);
    case OP_REMOVE:
        return check_remove(op);
    case OP_UPDATE:
        return machine_members_find(members_of(op->api), op->id) == NULL ? NB_MEMBER_NOT_FOUND
               : urls_taken(op->api, op)                                 ? NB_PEER_URL_EXISTS
                                                                         : NB_OK;
    case OP_PROMOTE:
        return check_promote(op);
    case OP_KIND_END:
        break;
    }
    return NB_MALFORMED;
}

/* ---- the leader makes the change ---- */

static void changed(struct replica_request *request, enum nb_status status,
                    const struct machine_result *result)
{
    (void)result;
    struct cluster_op *op = (struct cluster_op *)request;
    op->index = machine_applied_index(replica_machine(op->api->config.replica));
    op->status = status;
    op->state = status == NB_OK ? OP_APPLYING : OP_ENDED;
    api_wake(op->api);
}

/* The members as they are, with the one change. */
static void target_of(struct cluster_op *op, struct machine_members *target)
{
    const struct machine_members *now = members_of(op->api);
    struct machine_member m = {.id = op->id,
                               .name = (char[]){""},
                               .peer_urls = op->urls,
                               .peer_url_count = op->url_count,
                               .is_learner = op->is_learner};
    for (size_t i = 0; i < now->count; i++) {
        const struct machine_member *known = &now->items[i];
        if (known->id != op->id) {
            machine_members_set(target, known);
            continue;
        }
        if (op->kind == OP_REMOVE) {
            continue;
        }
        struct machine_member next = *known;
        if (op->kind == OP_UPDATE) { /* URLs and nothing else [M11] */
            next.peer_urls = m.peer_urls;
            next.peer_url_count = m.peer_url_count;
        } else {
            next.is_learner = false;
        }
        machine_members_set(target, &next);
    }
    if (op->kind == OP_ADD) {
        machine_members_set(target, &m);
    }
}

static bool changes_nothing(const struct cluster_op *op)
{
    const struct machine_member *m = machine_members_find(members_of(op->api), op->id);
    bool same = op->kind == OP_UPDATE && m->peer_url_count == op->url_count;
    for (size_t i = 0; same && i < op->url_count; i++) {
        same = strcmp(m->peer_urls[i], op->urls[i]) == 0;
    }
    return same;
}

static void lead(struct cluster_op *op)
{
    struct replica *r = op->api->config.replica;
    if (!replica_can_change_members(r)) {
        return; /* another one is under way: after it */
    }
    op->status = check(op);
    if (op->status != NB_OK) {
        op->state = OP_ENDED;
        return;
    }
    if (changes_nothing(op)) {
        op->state = OP_APPLYING;
        return;
    }
    struct machine_members target = {0};
    target_of(op, &target);
    op->request.done = changed;
    enum nb_status status = replica_change_members(r, &target, &op->request);
    machine_members_deinit(&target);
    if (status == NB_OK) {
        op->state = OP_CHANGING;
    } else if (status != NB_BUSY && status != NB_NOT_LEADER) {
        op->status = status == NB_INVALID && op->kind == OP_ADD ? NB_MEMBER_EXISTS : status;
        op->state = OP_ENDED;
    }
}

/* ---- asking the leader ---- */

static void encode_op(const struct cluster_op *op, struct nb_buf *out)
{
    uint8_t tag = OP_TAG;
    nb_buf_append(out, &tag, 1);
    nb_wire_varint_field(out, FIELD_KIND, op->kind);
    nb_wire_varint_field(out, FIELD_ID, op->id);
    nb_wire_varint_field(out, FIELD_LEARNER, op->is_learner);
    for (size_t i = 0; i < op->url_count; i++) {
        nb_wire_bytes(out, FIELD_URL, nb_bytes_str(op->urls[i]));
    }
}

static enum nb_status decode_op(struct nb_bytes from, struct cluster_op *op)
{
    if (from.len == 0 || from.data[0] != OP_TAG) {
        return NB_UNSUPPORTED;
    }
    struct nb_wire_reader r = nb_wire_reader_of(nb_bytes_from(from, 1));
    uint64_t kind = 0;
    while (nb_wire_more(&r)) {
        struct nb_wire_field f;
        if (nb_wire_next(&r, &f) != NB_OK) {
            return NB_MALFORMED;
        }
        if (f.type == NB_WIRE_VARINT && f.number == FIELD_KIND) {
            kind = f.value;
        } else if (f.type == NB_WIRE_VARINT && f.number == FIELD_ID) {
            op->id = f.value;
        } else if (f.type == NB_WIRE_VARINT && f.number == FIELD_LEARNER) {
            op->is_learner = f.value != 0;
        } else if (f.type == NB_WIRE_BYTES && f.number == FIELD_URL) {
            if (op->url_count == MACHINE_MEMBER_URL_COUNT_MAX) {
                return NB_TOO_LARGE;
            }
            op->urls[op->url_count++] =
                nb_sprintf("%.*s", (int)f.bytes.len, (const char *)f.bytes.data);
        }
    }
    op->kind = (enum op_kind)kind;
    return kind == 0 || kind >= OP_KIND_END ? NB_MALFORMED : NB_OK;
}

static enum nb_status status_of_name(struct nb_bytes name)
{
    for (int i = 0; i < NB_STATUS_COUNT; i++) {
        if (nb_bytes_equal(name, nb_bytes_str(nb_status_name((enum nb_status)i)))) {
            return (enum nb_status)i;
        }
    }
    return NB_TIMEOUT; /* one of a later version: what became of it is not known here */
}

static void decode_answer(struct cluster_op *op, struct nb_bytes answer)
{
    struct nb_wire_reader r = nb_wire_reader_of(answer);
    op->status = NB_TIMEOUT;
    while (nb_wire_more(&r)) {
        struct nb_wire_field f;
        if (nb_wire_next(&r, &f) != NB_OK) {
            op->status = NB_TIMEOUT;
            return;
        }
        if (f.type == NB_WIRE_BYTES && f.number == ANSWER_STATUS) {
            op->status = status_of_name(f.bytes);
        } else if (f.type == NB_WIRE_VARINT && f.number == ANSWER_ID) {
            op->id = f.value;
        } else if (f.type == NB_WIRE_VARINT && f.number == ANSWER_INDEX) {
            op->index = f.value;
        }
    }
}

static void on_answer(void *context, enum nb_status status, struct nb_bytes answer)
{
    struct cluster_op *op = context;
    if (status == NB_OK) {
        decode_answer(op, answer);
    } else {
        op->status = NB_TIMEOUT; /* it may have come to pass [R23] */
    }
    if (op->status == NB_NOT_LEADER) {
        op->state = OP_WAITING; /* no effect: whoever leads now */
        op->retry_ns = net_loop_now_ns(op->api->config.loop) + retry_ns;
    } else {
        op->state = op->status == NB_OK ? OP_APPLYING : OP_ENDED;
    }
    api_wake(op->api);
}

static void ask(struct cluster_op *op, uint64_t leader)
{
    const struct api_cluster_world *w = &op->api->config.cluster;
    struct nb_buf request = {0};
    encode_op(op, &request);
    op->state = OP_ASKED;
    w->ask(w->user, leader, nb_buf_bytes(&request), op->api->config.request_timeout_ns, on_answer,
           op);
    nb_buf_deinit(&request);
}

/* ---- the way of a change ---- */

static void begin(struct cluster_op *op, uint64_t now_ns)
{
    uint64_t leader = replica_leader(op->api->config.replica);
    if (now_ns > op->deadline_ns) {
        op->status = leader == 0 ? NB_NO_LEADER : NB_TIMEOUT;
        op->state = OP_ENDED;
    } else if (leader == op->api->config.member_id) {
        lead(op);
    } else if (op->answer != NULL) {
        op->status = NB_NOT_LEADER; /* who asks finds the leader itself */
        op->state = OP_ENDED;
    } else if (leader != 0 && now_ns >= op->retry_ns) {
        ask(op, leader);
    }
}

static void answer_client(struct cluster_op *op)
{
    struct api *a = op->api;
    struct rpc_call *call = op->holder.call;
    rpc_call_set_user(call, NULL);
    if (op->status != NB_OK) {
        api_refuse(call, op->status);
        return;
    }
    uint8_t head[64];
    size_t head_len = api_header_encode(a, head, 0, false);
    nb_buf_clear(&a->scratch);
    if (op->kind == OP_ADD) {
        struct nb_buf one = {0};
        struct machine_member m = {.id = op->id,
                                   .peer_urls = op->urls,
                                   .peer_url_count = op->url_count,
                                   .is_learner = op->is_learner};
        machine_member_encode(&m, &one);
        nb_wire_bytes(&a->scratch, 2, nb_buf_bytes(&one));
        nb_buf_deinit(&one);
    }
    /* A second voter is known, but in force for good only when it has started. */
    struct machine_members known = {0};
    replica_known_members(a->config.replica, &known);
    append_members(op->kind == OP_ADD ? &known : members_of(a), op->kind == OP_ADD ? 3 : 2,
                   &a->scratch);
    machine_members_deinit(&known);
    rpc_call_reply(call, nb_bytes_of(head, head_len), nb_buf_bytes(&a->scratch));
}

/* Of the leader, whoever asked it. */
static void count_promotion(struct cluster_op *op)
{
    struct api *a = op->api;
    if (op->kind != OP_PROMOTE || replica_leader(a->config.replica) != a->config.member_id) {
        return;
    }
    if (op->status == NB_OK) {
        a->metrics.promote_success++;
    } else {
        a->metrics.promote_failures[op->status]++;
    }
}

static void answer_member(struct cluster_op *op)
{
    struct nb_buf out = {0};
    nb_wire_bytes(&out, ANSWER_STATUS, nb_bytes_str(nb_status_name(op->status)));
    nb_wire_varint_field(&out, ANSWER_ID, op->id);
    nb_wire_varint_field(&out, ANSWER_INDEX, op->index);
    op->answer(op->context, nb_buf_bytes(&out));
    nb_buf_deinit(&out);
}

static void release(struct cluster_op *op)
{
    for (size_t i = 0; i < op->url_count; i++) {
        nb_free(op->urls[i]);
    }
    nb_free(op);
}

/* True when it is over and answered. */
static bool step(struct cluster_op *op)
{
    struct api *a = op->api;
    uint64_t now_ns = net_loop_now_ns(a->config.loop);
    if (op->state == OP_WAITING) {
        begin(op, now_ns);
    }
    if (op->state == OP_APPLYING) {
        bool here = machine_applied_index(replica_machine(a->config.replica)) >= op->index;
        if (here || now_ns > op->deadline_ns) {
            op->status = here ? NB_OK : NB_TIMEOUT;
            op->state = OP_ENDED;
        }
    }
    if (op->state != OP_ENDED) {
        return false;
    }
    count_promotion(op);
    if (op->answer != NULL) {
        answer_member(op);
    } else if (op->holder.call != NULL) {
        answer_client(op);
    }
    return true;
}

void api_cluster_step(struct api *a)
{
    struct cluster_op **at = &a->cluster_ops; /* oldest first */
    while (*at != NULL) {
        struct cluster_op *op = *at;
        if (step(op)) {
            *at = op->next;
            release(op);
        } else {
            at = &op->next;
        }
    }
}

/* Nobody calls back any more: the replica and the connections have ended. */
void api_cluster_drop(struct api *a)
{
    while (a->cluster_ops != NULL) {
        struct cluster_op *op = a->cluster_ops;
        a->cluster_ops = op->next;
        release(op);
    }
}

/* ---- beginnings ---- */

static struct cluster_op *op_create(struct api *a)
{
    struct cluster_op *op = nb_alloc_zero(1, sizeof *op);
    op->api = a;
    op->deadline_ns = net_loop_now_ns(a->config.loop) + a->config.request_timeout_ns;
    return op;
}

static void op_add(struct cluster_op *op)
{
    struct cluster_op **at = &op->api->cluster_ops;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = op;
    api_wake(op->api);
}

void api_cluster_asked(struct api *a, struct nb_bytes request,
                       void (*answer)(void *context, struct nb_bytes bytes), void *context)
{
    struct cluster_op *op = op_create(a);
    op->answer = answer;
    op->context = context;
    op->status = decode_op(request, op);
    op->state = op->status == NB_OK ? OP_WAITING : OP_ENDED;
    op_add(op);
}

/* One that takes its URLs from the client. False: they are bad. */
static bool take_urls(struct cluster_op *op, char *const *urls, size_t count)
{
    const struct api_cluster_world *w = &op->api->config.cluster;
    if (count == 0 || count > MACHINE_MEMBER_URL_COUNT_MAX) {
        return false;
    }
    for (; op->url_count < count; op->url_count++) {
        op->urls[op->url_count] = nb_strdup(urls[op->url_count]);
    }
    return w->check_urls(w->user, op->urls, &op->url_count);
}

static void start(struct api *a, struct rpc_call *call, enum op_kind kind, uint64_t id,
                  bool is_learner, char *const *urls, size_t url_count)
{
    if (api_door(a, call, false) != NB_OK) {
        return;
    }
    struct cluster_op *op = op_create(a);
    op->kind = kind;
    op->id = id;
    op->is_learner = is_learner;
    if ((kind == OP_ADD || kind == OP_UPDATE) && !take_urls(op, urls, url_count)) {
        release(op);
        api_refuse(call, NB_MEMBER_BAD_URLS);
        return;
    }
    op->holder.call = call;
    rpc_call_set_user(call, &op->holder);
    op_add(op);
}

void api_member_add(struct rpc_call *call, struct nb_bytes message)
{
    Etcdserverpb__MemberAddRequest *in =
        etcdserverpb__member_add_request__unpack(NULL, message.len, message.data);
    if (in == NULL) {
        api_refuse(call, NB_MALFORMED);
        return;
    }
    start(api_of(call), call, OP_ADD, 0, in->islearner, in->peerurls, in->n_peerurls);
    etcdserverpb__member_add_request__free_unpacked(in, NULL);
}

void api_member_remove(struct rpc_call *call, struct nb_bytes message)
{
    Etcdserverpb__MemberRemoveRequest *in =
        etcdserverpb__member_remove_request__unpack(NULL, message.len, message.data);
    if (in == NULL) {
        api_refuse(call, NB_MALFORMED);
        return;
    }
    start(api_of(call), call, OP_REMOVE, in->id, false, NULL, 0);
    etcdserverpb__member_remove_request__free_unpacked(in, NULL);
}

void api_member_update(struct rpc_call *call, struct nb_bytes message)
{
    Etcdserverpb__MemberUpdateRequest *in =
        etcdserverpb__member_update_request__unpack(NULL, message.len, message.data);
    if (in == NULL) {
        api_refuse(call, NB_MALFORMED);
        return;
    }
    start(api_of(call), call, OP_UPDATE, in->id, false, in->peerurls, in->n_peerurls);
    etcdserverpb__member_update_request__free_unpacked(in, NULL);
}

void api_member_promote(struct rpc_call *call, struct nb_bytes message)
{
    Etcdserverpb__MemberPromoteRequest *in =
        etcdserverpb__member_promote_request__unpack(NULL, message.len, message.data);
    if (in == NULL) {
        api_refuse(call, NB_MALFORMED);
        return;
    }
    start(api_of(call), call, OP_PROMOTE, in->id, false, NULL, 0);
    etcdserverpb__member_promote_request__free_unpacked(in, NULL);
}

/* Calls: queueing, choice of an endpoint, retry, deadlines. Connections are in slot.c. */
#include "client/client.h"

#include "client/slot.h"

#include <string.h>

enum {
    KEPT_BYTES_MAX = 64 * 1024, /* of a call's buffers, when it goes back to the free ones */
    FREE_CALLS_MAX = 4096,
};

static const uint64_t tick_ns = 50 * 1000 * 1000;
static const uint64_t retry_ns = 25 * 1000 * 1000; /* as the Go client's back-off */
static const uint64_t slack_ns = 2 * 1000 * 1000;
static const uint64_t dial_default_ns = 2ULL * 1000 * 1000 * 1000;
static const uint64_t call_default_ns = 5ULL * 1000 * 1000 * 1000;

/* Where a call is: in one of the client's lists. */
enum call_state { CALL_FREE, CALL_WAITING, CALL_RUNNING };

struct client_call {
    struct client *client;
    struct client_call *next, *previous;
    enum call_state state;
    struct client_request request; /* its message is in `bytes` */
    struct nb_buf bytes, reply, last_error;
    struct rpc_client_call *rpc; /* while running */
    size_t endpoint;             /* last one it was sent to */
    uint64_t start_ns, deadline_ns, retry_at_ns;
    bool sent, delivered;
};

struct call_list {
    struct client_call *first, *last;
    size_t count;
};

struct client {
    struct net_loop *loop;
    struct client_slots *slots; /* owned */
    struct net_timer *timer;    /* runs while there are calls */
    struct call_list waiting, running;
    struct client_call *free_calls; /* linked by next */
    size_t free_count;
    size_t turn; /* next endpoint to be asked */
    uint64_t dial_timeout_ns, call_timeout_ns;
};

static void list_append(struct call_list *list, struct client_call *call)
{
    call->next = NULL;
    call->previous = list->last;
    if (list->last != NULL) {
        list->last->next = call;
    } else {
        list->first = call;
    }
    list->last = call;
    list->count++;
}

static void list_remove(struct call_list *list, struct client_call *call)
{
    nb_assert(list->count > 0);
    if (call->previous != NULL) {
        call->previous->next = call->next;
    } else {
        list->first = call->next;
    }
    if (call->next != NULL) {
        call->next->previous = call->previous;
    } else {
        list->last = call->previous;
    }
    call->next = call->previous = NULL;
    list->count--;
}

static void clear_or_free(struct nb_buf *b)
{
    if (b->capacity > KEPT_BYTES_MAX) {
        nb_buf_deinit(b);
    } else {
        nb_buf_clear(b);
    }
}

static void call_free(struct client_call *call)
{
    nb_buf_deinit(&call->bytes);
    nb_buf_deinit(&call->reply);
    nb_buf_deinit(&call->last_error);
    nb_free(call);
}

static struct client_call *call_acquire(struct client *client)
{
    struct client_call *call = client->free_calls;
    if (call == NULL) {
        call = nb_alloc_zero(1, sizeof *call);
        call->client = client;
        return call;
    }
    client->free_calls = call->next;
    client->free_count--;
    return call;
}

static void call_release(struct client_call *call)
{
    struct client *client = call->client;
    call->state = CALL_FREE;
    call->rpc = NULL;
    if (client->waiting.count + client->running.count == 0) {
        net_timer_stop(client->timer);
    }
    if (client->free_count >= FREE_CALLS_MAX) {
        call_free(call);
        return;
    }
    clear_or_free(&call->bytes);
    clear_or_free(&call->reply);
    clear_or_free(&call->last_error);
    call->next = client->free_calls;
    client->free_calls = call;
    client->free_count++;
}

/* Tells the owner and lets the call go. It is in no list any more. */
static void call_end(struct client_call *call, enum rpc_status status, const char *error)
{
    struct client_reply reply = {
        .status = status,
        .message = nb_buf_bytes(&call->reply),
        .error = error,
        .endpoint = call->sent ? call->endpoint : CLIENT_ANY,
        .sent = call->sent,
        .took_ns = net_now_ns() - call->start_ns,
    };
    call->request.on_done(call->request.user, &reply);
    call_release(call);
}

static void call_wait(struct client_call *call, uint64_t delay_ns)
{
    call->retry_at_ns = net_now_ns() + delay_ns;
    call->state = CALL_WAITING;
    list_append(&call->client->waiting, call);
}

/* L2 */
static bool may_send_again(const struct client_call *call, enum rpc_status status,
                           struct nb_bytes text)
{
    static const char learner[] = "etcdserver: rpc not supported for learner";
    if (call->delivered || (call->request.flags & CLIENT_FAIL_FAST) != 0) {
        return false;
    }
    if (net_now_ns() + retry_ns >= call->deadline_ns) {
        return false;
    }
    if (status == RPC_UNAVAILABLE) {
        return (call->request.flags & CLIENT_READ) != 0;
    }
    return status == RPC_FAILED_PRECONDITION && call->request.endpoint == CLIENT_ANY &&
           client_slots_endpoint_count(call->client->slots) > 1 &&
           nb_bytes_equal(text, nb_bytes_str(learner));
}

static void keep_error(struct client_call *call, struct nb_bytes text)
{
    nb_buf_clear(&call->last_error);
    nb_buf_append_bytes(&call->last_error, text);
    nb_buf_append(&call->last_error, "", 1);
}

static void on_rpc_message(struct rpc_client_call *rpc, void *user, struct nb_bytes message)
{
    (void)rpc;
    struct client_call *call = user;
    call->delivered = true;
    if (call->request.on_message != NULL) {
        call->request.on_message(call->request.user, message);
        return;
    }
    nb_buf_clear(&call->reply);
    nb_buf_append_bytes(&call->reply, message);
}

static void on_rpc_done(struct rpc_client_call *rpc, void *user, enum rpc_status status,
                        struct nb_bytes text)
{
    (void)rpc;
    struct client_call *call = user;
    nb_assert(call->state == CALL_RUNNING);
    list_remove(&call->client->running, call);
    call->rpc = NULL;
    if (status == RPC_OK) {
        call_end(call, status, "");
        return;
    }
    if (may_send_again(call, status, text)) {
        keep_error(call, text);
        call_wait(call, retry_ns);
        return;
    }
    /* The server keeps the same deadline, and its reset may come before our tick. */
    if (status == RPC_CANCELED && net_now_ns() + slack_ns >= call->deadline_ns) {
        status = RPC_DEADLINE_EXCEEDED;
        text = nb_bytes_str("context deadline exceeded");
    }
    if (status == RPC_DEADLINE_EXCEEDED && call->last_error.len > 0) {
        struct nb_buf both = {0};
        nb_buf_printf(&both, "context deadline exceeded (before: %s)",
                      (const char *)call->last_error.data);
        keep_error(call, nb_buf_bytes(&both));
        nb_buf_deinit(&both);
    } else {
        keep_error(call, text);
    }
    call_end(call, status, (const char *)call->last_error.data);
}

static const struct rpc_client_events rpc_events = {.on_message = on_rpc_message,
                                                    .on_done = on_rpc_done};

/* Sends the call (in no list) if there is a connection to take it. */
static bool call_try(struct client_call *call)
{
    struct client *client = call->client;
    struct rpc_client *rpc = NULL;
    size_t count = client_slots_endpoint_count(client->slots);
    size_t endpoint = call->request.endpoint;
    if (endpoint != CLIENT_ANY) {
        rpc = client_slots_ready(client->slots, endpoint, call->request.lane);
    } else {
        for (size_t i = 0; i < count && rpc == NULL; i++) {
            endpoint = (client->turn + i) % count;
            rpc = client_slots_ready(client->slots, endpoint, call->request.lane);
        }
    }
    if (rpc == NULL) {
        return false;
    }
    uint64_t now_ns = net_now_ns();
    struct rpc_client_request request = {
        .path = call->request.path,
        .timeout_ns = call->deadline_ns > now_ns ? call->deadline_ns - now_ns : 1,
        .events = &rpc_events,
        .user = call,
    };
    call->rpc = rpc_client_unary(rpc, &request, nb_buf_bytes(&call->bytes));
    if (call->rpc == NULL) {
        return false;
    }
    if (call->request.endpoint == CLIENT_ANY) {
        client->turn = (endpoint + 1) % count;
    }
    call->endpoint = endpoint;
    call->sent = true;
    call->state = CALL_RUNNING;
    list_append(&client->running, call);
    return true;
}

/* Sees to it that a connection is on its way for a call that waits. */
static void call_dial(const struct client_call *call)
{
    struct client *client = call->client;
    if (call->request.endpoint != CLIENT_ANY) {
        client_slots_dial(client->slots, call->request.endpoint, call->request.lane);
        return;
    }
    for (size_t i = 0; i < client_slots_endpoint_count(client->slots); i++) {
        client_slots_dial(client->slots, i, call->request.lane);
    }
}

/* What each endpoint that the call may go to last said. False while one has not failed yet. */
static bool dial_errors(const struct client_call *call, struct nb_buf *out)
{
    const struct client *client = call->client;
    for (size_t i = 0; i < client_slots_endpoint_count(client->slots); i++) {
        if (call->request.endpoint != CLIENT_ANY && call->request.endpoint != i) {
            continue;
        }
        const char *error = client_slots_error(client->slots, i, call->request.lane);
        if (error == NULL) {
            return false;
        }
        nb_buf_printf(out, "%s%s", out->len > 0 ? "; " : "", error); /* it names the address */
    }
    return true;
}

/* Ends a waiting call whose time is over or that has nobody to go to. True if it did. */
static bool call_give_up(struct client_call *call, uint64_t now_ns)
{
    struct client *client = call->client;
    uint64_t waited_ns = now_ns - call->start_ns;
    bool late = now_ns >= call->deadline_ns;
    bool fast = (call->request.flags & CLIENT_FAIL_FAST) != 0;
    if (!late && call->sent) {
        return false;
    }
    if (!late && !fast && waited_ns < client->dial_timeout_ns) {
        return false;
    }
    struct nb_buf errors = {0};
    bool all_failed = dial_errors(call, &errors);
    bool give_up = late || all_failed;
    if (give_up) {
        list_remove(&client->waiting, call);
        nb_buf_append(&errors, "", 1);
        if (all_failed && !call->sent) {
            call_end(call, RPC_UNAVAILABLE, (const char *)errors.data);
        } else {
            struct nb_buf text = {0};
            nb_buf_append_str(&text, "context deadline exceeded");
            if (call->last_error.len > 0) {
                nb_buf_printf(&text, " (before: %s)", (const char *)call->last_error.data);
            }
            nb_buf_append(&text, "", 1);
            call_end(call, RPC_DEADLINE_EXCEEDED, (const char *)text.data);
            nb_buf_deinit(&text);
        }
    }
    nb_buf_deinit(&errors);
    return give_up;
}

/* Sends what waits and can be sent; ends what can wait no longer. */
static void pump(void *user)
{
    struct client *client = user;
    uint64_t now_ns = net_now_ns();
    struct call_list due = client->waiting; /* nothing calls back into the owner in this part */
    client->waiting = (struct call_list){0};
    for (struct client_call *call = due.first, *next; call != NULL; call = next) {
        next = call->next;
        if (now_ns < call->retry_at_ns) {
            list_append(&client->waiting, call);
        } else if (!call_try(call)) {
            list_append(&client->waiting, call);
            call_dial(call);
        }
    }
    /* An owner that is told may start and cancel calls, so the walk begins anew after each. */
    struct client_call *call = client->waiting.first;
    while (call != NULL) {
        struct client_call *next = call->next;
        call = call_give_up(call, now_ns) ? client->waiting.first : next;
    }
}

static void on_tick(void *user)
{
    struct client *client = user;
    client_slots_tick(client->slots);
    pump(client);
}

enum nb_status client_create(struct net_loop *loop, const struct client_config *config,
                             struct client **out, struct net_error *error)
{
    struct client *client = nb_alloc_zero(1, sizeof *client);
    client->loop = loop;
    client->dial_timeout_ns =
        config->dial_timeout_ns != 0 ? config->dial_timeout_ns : dial_default_ns;
    client->call_timeout_ns =
        config->call_timeout_ns != 0 ? config->call_timeout_ns : call_default_ns;
    struct client_slots_config slots = {
        .endpoints = config->endpoints,
        .endpoint_count = config->endpoint_count,
        .lanes = config->lanes != 0 ? config->lanes : 1,
        .dial_timeout_ns = client->dial_timeout_ns,
        .on_change = pump,
        .user = client,
    };
    enum nb_status status = client_slots_create(loop, &slots, &client->slots, error);
    if (status != NB_OK) {
        nb_free(client);
        return status;
    }
    client->timer = net_timer_create(loop, on_tick, client);
    *out = client;
    return NB_OK;
}

void client_destroy(struct client *client)
{
    if (client == NULL) {
        return;
    }
    while (client->waiting.first != NULL) {
        client_cancel(client->waiting.first);
    }
    while (client->running.first != NULL) {
        client_cancel(client->running.first);
    }
    net_timer_destroy(client->timer);
    client_slots_destroy(client->slots);
    while (client->free_calls != NULL) {
        struct client_call *call = client->free_calls;
        client->free_calls = call->next;
        call_free(call);
    }
    nb_free(client);
}

size_t client_endpoint_count(const struct client *client)
{
    return client_slots_endpoint_count(client->slots);
}

const char *client_endpoint_name(const struct client *client, size_t endpoint)
{
    return client_slots_name(client->slots, endpoint);
}

struct net_loop *client_loop(const struct client *client)
{
    return client->loop;
}

size_t client_call_count(const struct client *client)
{
    return client->waiting.count + client->running.count;
}

struct client_call *client_start(struct client *client, const struct client_request *request)
{
    nb_assert(request->on_done != NULL);
    nb_assert(request->endpoint == CLIENT_ANY || request->endpoint < client_endpoint_count(client));
    struct client_call *call = call_acquire(client);
    uint64_t timeout_ns = request->timeout_ns != 0 ? request->timeout_ns : client->call_timeout_ns;
    call->request = *request;
    call->start_ns = net_now_ns();
    call->deadline_ns = call->start_ns + timeout_ns;
    call->retry_at_ns = call->start_ns;
    call->sent = call->delivered = false;
    nb_buf_append_bytes(&call->bytes, request->message);
    if (!call_try(call)) {
        call_wait(call, 0);
        call_dial(call);
    }
    if (!net_timer_running(client->timer)) {
        net_timer_start(client->timer, tick_ns, tick_ns);
    }
    return call;
}

void client_cancel(struct client_call *call)
{
    nb_assert(call->state != CALL_FREE);
    if (call->state == CALL_RUNNING) {
        rpc_client_cancel(call->rpc);
        list_remove(&call->client->running, call);
    } else {
        list_remove(&call->client->waiting, call);
    }
    call_release(call);
}

void client_run(struct client *client, const bool *stop)
{
    while (client_call_count(client) > 0 && (stop == NULL || !*stop)) {
        (void)net_loop_run_once(client->loop, true);
    }
}

/* ---- one call after the other ---- */

struct waiter {
    struct client_answer *answer;
    bool done;
};

static void on_sync_done(void *user, const struct client_reply *reply)
{
    struct waiter *waiter = user;
    waiter->done = true;
    struct client_answer *answer = waiter->answer;
    answer->status = reply->status;
    nb_buf_append_bytes(&answer->message, reply->message);
    answer->error = reply->status != RPC_OK ? nb_strdup(reply->error) : NULL;
    answer->endpoint = reply->endpoint;
    answer->sent = reply->sent;
    answer->took_ns = reply->took_ns;
}

/* on_message of the owner gets the owner's user, on_done ours. */
struct stream_waiter {
    struct waiter waiter;
    const struct client_request *request;
};

static void on_sync_message(void *user, struct nb_bytes message)
{
    struct stream_waiter *stream = user;
    stream->request->on_message(stream->request->user, message);
}

void client_call_sync(struct client *client, const struct client_request *request,
                      struct client_answer *out)
{
    struct stream_waiter stream = {.waiter = {.answer = out}, .request = request};
    struct client_request mine = *request;
    *out = (struct client_answer){.endpoint = CLIENT_ANY};
    mine.on_message = request->on_message != NULL ? on_sync_message : NULL;
    mine.on_done = on_sync_done;
    mine.user = &stream; /* its waiter stands first */
    (void)client_start(client, &mine);
    while (!stream.waiter.done) {
        (void)net_loop_run_once(client->loop, true);
    }
}

void client_answer_deinit(struct client_answer *answer)
{
    nb_buf_deinit(&answer->message);
    nb_free(answer->error);
    *answer = (struct client_answer){0};
}

/* bench put, range, txn: the load. See bench.h. */
#include "cli/bench.h"

#include "base/random.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/pace.h"
#include "cli/progress.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
    CLIENTS_MAX = 100000,
    CONNS_MAX = 10000,
    OPENING_MAX = 64,
    KEY_SIZE_MAX = 4096,
    VALUE_SIZE_MAX = 8 << 20
};

/* With --rate: how long after the end of the load those that were due are still sent. */
static const uint64_t grace_ns = 10 * CLI_NS_PER_S;

enum bench_kind { BENCH_PUT, BENCH_RANGE, BENCH_TXN };

struct bench;

/* One that sends a request, waits for the answer, and sends the next. */
struct bench_client {
    struct bench *bench;
    struct bench_client *next; /* in the list of idle ones */
    size_t endpoint;
    unsigned lane;
    uint64_t begun_ns; /* or when it was due, with --rate */
};

struct bench {
    struct cli *cli;
    enum bench_kind kind;
    struct bench_result result;
    struct bench_client *clients; /* owned */
    struct bench_client *idle;
    struct nb_random random;
    struct nb_buf key, value, request; /* owned */
    struct pace pace;                  /* total 0: until end_ns; rate 0: as fast as answers come */
    uint64_t in_flight;
    int clock; /* with a rate: a descriptor that is readable when a request may be due; or -1 */
    uint64_t key_space, limit;
    size_t key_size;
    bool sequential, serializable, stop;
    struct progress progress;
    uint64_t shown_done, shown_ns;
};

/* ---- requests ---- */

/* Decimal, with leading zeros; the last key_size digits of the number if it has more. */
static void next_key(struct bench *b)
{
    uint64_t number =
        b->sequential ? b->pace.begun % b->key_space : nb_random_below(&b->random, b->key_space);
    nb_buf_clear(&b->key);
    uint8_t *digits = nb_buf_extend(&b->key, b->key_size);
    for (size_t i = b->key_size; i > 0; i--) {
        digits[i - 1] = (uint8_t)('0' + number % 10);
        number /= 10;
    }
}

static void build_put(struct bench *b)
{
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    next_key(b);
    put.key = ops_bytes(nb_buf_bytes(&b->key));
    put.value = ops_bytes(nb_buf_bytes(&b->value));
    cli_pack(&b->request, &put.base);
}

static void build_range(struct bench *b)
{
    static const uint8_t no_end[1] = {0};
    Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
    next_key(b);
    range.key = ops_bytes(nb_buf_bytes(&b->key));
    range.serializable = b->serializable;
    if (b->limit > 0) {
        range.range_end = ops_bytes(nb_bytes_of(no_end, sizeof no_end));
        range.limit = (int64_t)b->limit;
    }
    cli_pack(&b->request, &range.base);
}

/* If the key exists or not, put it: a comparison and a write. */
static void build_txn(struct bench *b)
{
    Etcdserverpb__Compare compare = ETCDSERVERPB__COMPARE__INIT, *compares[1] = {&compare};
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    Etcdserverpb__RequestOp op = ETCDSERVERPB__REQUEST_OP__INIT, *ops[1] = {&op};
    Etcdserverpb__TxnRequest txn = ETCDSERVERPB__TXN_REQUEST__INIT;
    next_key(b);
    compare.key = ops_bytes(nb_buf_bytes(&b->key));
    compare.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VERSION;
    compare.result = ETCDSERVERPB__COMPARE__COMPARE_RESULT__GREATER;
    compare.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION;
    put.key = compare.key;
    put.value = ops_bytes(nb_buf_bytes(&b->value));
    op.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    op.request_put = &put;
    txn.compare = compares;
    txn.success = txn.failure = ops;
    txn.n_compare = txn.n_success = txn.n_failure = 1;
    cli_pack(&b->request, &txn.base);
}

/* clang-format off */
static const struct {
    const char *name, *path;
    unsigned flags;
    void (*build)(struct bench *b);
} kinds[] = {
    [BENCH_PUT]   = {"put",   "/etcdserverpb.KV/Put",   0, build_put},
    [BENCH_RANGE] = {"range", "/etcdserverpb.KV/Range", 0, build_range},
    [BENCH_TXN]   = {"txn",   "/etcdserverpb.KV/Txn",   0, build_txn},
};
/* clang-format on */

/* ---- the load ---- */

static void send_more(struct bench *b);

/* The answers are counted, not read. */
static void on_message(void *user, struct nb_bytes message)
{
    (void)user;
    (void)message;
}

static void on_done(void *user, const struct client_reply *reply)
{
    struct bench_client *client = user;
    struct bench *b = client->bench;
    b->result.done++;
    b->in_flight--;
    if (reply->status == RPC_OK) {
        histogram_add(&b->result.latency, net_now_ns() - client->begun_ns);
    } else {
        bench_error_add(&b->result,
                        reply->error[0] != '\0' ? reply->error : rpc_status_name(reply->status), 1);
        /* Who cannot connect would only fill the list of errors. */
        b->stop = b->stop || (!reply->sent && b->result.done == b->result.failed);
    }
    client->next = b->idle;
    b->idle = client;
    send_more(b);
}

static void send_one(struct bench *b, uint64_t now_ns)
{
    struct bench_client *client = b->idle;
    b->idle = client->next;
    client->begun_ns = now_ns;
    if (b->pace.rate > 0) {
        client->begun_ns = pace_due_ns(&b->pace);
        histogram_add(&b->result.late, now_ns - client->begun_ns);
    }
    nb_buf_clear(&b->request);
    kinds[b->kind].build(b);
    b->pace.begun++;
    b->in_flight++;
    struct client_request request = {
        .path = kinds[b->kind].path,
        .message = nb_buf_bytes(&b->request),
        .flags = kinds[b->kind].flags,
        .endpoint = client->endpoint,
        .lane = client->lane,
        .on_message = on_message,
        .on_done = on_done,
        .user = client,
    };
    (void)client_start(b->cli->client, &request);
}

/* With a rate what was due is still sent when the time is over, so that a stall at the end is seen
 * like any other; but not for ever, if the rate is more than the cluster can do. */
static bool is_over(const struct bench *b, uint64_t now_ns)
{
    const struct pace *p = &b->pace;
    if (p->rate > 0) {
        bool late = p->end_ns > 0 && now_ns >= p->end_ns + grace_ns;
        return b->stop || late || pace_is_over(p);
    }
    return b->stop || (p->total > 0 && p->begun >= p->total) ||
           (p->end_ns > 0 && now_ns >= p->end_ns);
}

static void send_more(struct bench *b)
{
    while (b->idle != NULL) {
        uint64_t now_ns = net_now_ns();
        bool due = b->pace.rate == 0 || pace_is_due(&b->pace, now_ns);
        if (is_over(b, now_ns) || !due) {
            return;
        }
        send_one(b, now_ns);
    }
}

static void on_clock(void *user)
{
    struct bench *b = user;
    uint64_t expirations;
    if (read(b->clock, &expirations, sizeof expirations) > 0) {
        send_more(b);
    }
}

/* The loop's own timers are of millisecond grain, which at thousands a second would come in bursts
 * and be seen as latency. */
static struct net_watch *clock_start(struct bench *b)
{
    b->clock = -1;
    if (b->pace.rate == 0) {
        return NULL;
    }
    uint64_t tick_ns = pace_tick_ns(&b->pace);
    struct timespec tick = {.tv_sec = (time_t)(tick_ns / CLI_NS_PER_S),
                            .tv_nsec = (long)(tick_ns % CLI_NS_PER_S)};
    struct itimerspec every = {.it_interval = tick, .it_value = tick};
    b->clock = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    nb_assert(b->clock >= 0);
    int failed = timerfd_settime(b->clock, 0, &every, NULL);
    nb_assert(failed == 0);
    return net_watch_create(client_loop(b->cli->client), b->clock, on_clock, b);
}

static void clock_stop(struct bench *b, struct net_watch *watch)
{
    net_watch_destroy(watch);
    if (b->clock >= 0) {
        (void)close(b->clock);
    }
}

/* What nobody was free to send. [pace P2] */
static void count_missed(struct bench *b)
{
    if (b->pace.rate > 0 && !b->result.interrupted) {
        uint64_t missed = pace_missed(&b->pace, net_now_ns());
        b->result.done += missed;
        bench_error_add(&b->result, "never sent: all clients were busy", missed);
    }
}

static void on_show(void *user)
{
    struct bench *b = user;
    uint64_t now_ns = net_now_ns();
    if (!b->progress.shown || now_ns == b->shown_ns) {
        return;
    }
    char note[64];
    double rate = (double)(b->result.done - b->shown_done) * 1e9 / (double)(now_ns - b->shown_ns);
    (void)snprintf(note, sizeof note, "%.0f/s, %" PRIu64 " failed", rate, b->result.failed);
    uint64_t part =
        b->pace.total > 0 ? b->result.done : (now_ns - b->pace.start_ns) / CLI_NS_PER_MS;
    progress_set(&b->progress, part, now_ns, note);
    b->shown_done = b->result.done;
    b->shown_ns = now_ns;
}

static void on_interrupt(void *user, int number)
{
    (void)number;
    struct bench *b = user;
    b->stop = b->result.interrupted = true;
}

static uint64_t cpu_ns(struct timeval t)
{
    return (uint64_t)t.tv_sec * CLI_NS_PER_S + (uint64_t)t.tv_usec * 1000;
}

static void run_load(struct bench *b)
{
    struct net_loop *loop = client_loop(b->cli->client);
    struct rusage before, after;
    struct net_timer *show = net_timer_create(loop, on_show, b);
    struct net_signal *interrupt = net_signal_create(loop, SIGINT, on_interrupt, b);
    uint64_t duration_ns = (uint64_t)nb_options_duration_ns(&b->cli->options, "duration");
    (void)getrusage(RUSAGE_SELF, &before);
    progress_begin(&b->progress, kinds[b->kind].name,
                   b->pace.total > 0 ? b->pace.total : duration_ns / CLI_NS_PER_MS);
    b->pace.start_ns = b->shown_ns = net_now_ns();
    b->pace.end_ns = duration_ns > 0 ? b->pace.start_ns + duration_ns : 0;
    net_timer_start(show, 200 * CLI_NS_PER_MS, 200 * CLI_NS_PER_MS);
    struct net_watch *clock = clock_start(b);
    send_more(b);
    while (b->in_flight > 0 || !is_over(b, net_now_ns())) {
        (void)net_loop_run_once(loop, true);
    }
    b->result.took_ns = net_now_ns() - b->pace.start_ns;
    count_missed(b);
    (void)getrusage(RUSAGE_SELF, &after);
    b->result.cpu_user_ns = cpu_ns(after.ru_utime) - cpu_ns(before.ru_utime);
    b->result.cpu_system_ns = cpu_ns(after.ru_stime) - cpu_ns(before.ru_stime);
    progress_end(&b->progress);
    clock_stop(b, clock);
    net_timer_destroy(show);
    net_signal_destroy(interrupt);
}

/* ---- preparing ---- */

struct leader_search {
    size_t endpoint, found;
};

static void on_status(void *user, const struct client_reply *reply)
{
    struct leader_search *search = user;
    Etcdserverpb__StatusResponse *s =
        reply->status == RPC_OK
            ? etcdserverpb__status_response__unpack(NULL, reply->message.len, reply->message.data)
            : NULL;
    if (s != NULL && s->header != NULL && s->leader == s->header->member_id) {
        search->found = search->endpoint;
    }
    cli_free(s);
}

/* The endpoint that says it is the leader, or CLIENT_ANY. */
static size_t find_leader(struct cli *cli)
{
    size_t count = client_endpoint_count(cli->client), found = CLIENT_ANY;
    for (size_t i = 0; i < count && found == CLIENT_ANY; i++) {
        struct leader_search search = {.endpoint = i, .found = CLIENT_ANY};
        struct client_request request = {.path = "/etcdserverpb.Maintenance/Status",
                                         .flags = CLIENT_FAIL_FAST,
                                         .endpoint = i,
                                         .on_done = on_status,
                                         .user = &search};
        (void)client_start(cli->client, &request);
        client_run(cli->client, NULL);
        found = search.found;
    }
    return found;
}

static void on_opened(void *user, const struct client_reply *reply)
{
    (void)user;
    (void)reply; /* who cannot connect is told by the load */
}

/* So that no request's latency has the making of its connection in it. */
static void open_connections(struct bench *b)
{
    for (unsigned i = 0; i < b->result.conns; i++) {
        const struct bench_client *client = &b->clients[i];
        struct client_request request = {.path = "/grpc.health.v1.Health/Check",
                                         .flags = CLIENT_FAIL_FAST,
                                         .endpoint = client->endpoint,
                                         .lane = client->lane,
                                         .on_done = on_opened};
        (void)client_start(b->cli->client, &request);
        if (i % OPENING_MAX == OPENING_MAX - 1) {
            client_run(b->cli->client, NULL); /* no more at a time than a backlog takes */
        }
    }
    client_run(b->cli->client, NULL);
}

/* Connection k of `conns` is lane k / n of endpoint k % n; client i uses connection i % conns. */
static int connect_clients(struct bench *b, unsigned client_count, unsigned conns)
{
    size_t only = CLIENT_ANY;
    int code = cli_connect(b->cli, 1);
    if (code == CLI_OK && nb_options_bool(&b->cli->options, "target-leader")) {
        only = find_leader(b->cli);
        if (only == CLIENT_ANY) {
            return cli_fail(CLI_BAD_CONNECTION, "no endpoint says that it is the leader");
        }
    }
    if (code != CLI_OK) {
        return code;
    }
    unsigned endpoints = only == CLIENT_ANY ? (unsigned)client_endpoint_count(b->cli->client) : 1;
    code = cli_connect(b->cli, (conns + endpoints - 1) / endpoints);
    b->clients = nb_alloc_zero(client_count, sizeof *b->clients);
    for (unsigned i = client_count; i > 0; i--) {
        struct bench_client *client = &b->clients[i - 1];
        unsigned conn = (i - 1) % conns;
        client->bench = b;
        client->endpoint = only == CLIENT_ANY ? conn % endpoints : only;
        client->lane = conn / endpoints;
        client->next = b->idle;
        b->idle = client;
    }
    b->result.clients = client_count;
    b->result.conns = conns < client_count ? conns : client_count;
    open_connections(b);
    return code;
}

static int read_options(struct bench *b)
{
    const struct nb_options *o = &b->cli->options;
    uint64_t clients = nb_options_uint64(o, "clients"), conns = nb_options_uint64(o, "conns");
    uint64_t value_size = nb_options_uint64(o, "val-size");
    b->pace.total = nb_options_uint64(o, "total");
    if (nb_options_duration_ns(o, "duration") > 0 && !nb_options_given(o, "total")) {
        b->pace.total = 0;
    }
    b->pace.rate = nb_options_uint64(o, "rate");
    b->key_size = nb_options_uint64(o, "key-size");
    b->key_space = nb_options_uint64(o, "key-space-size");
    b->limit = nb_options_uint64(o, "limit");
    b->sequential = nb_options_bool(o, "sequential-keys");
    b->serializable = nb_options_choice(o, "consistency") == 1;
    if (clients < 1 || clients > CLIENTS_MAX || conns < 1 || conns > CONNS_MAX) {
        return cli_fail(CLI_BAD_ARGUMENTS, "--clients must be from 1 to %d, --conns to %d",
                        CLIENTS_MAX, CONNS_MAX);
    }
    if (b->key_size < 1 || b->key_size > KEY_SIZE_MAX || value_size > VALUE_SIZE_MAX ||
        b->key_space < 1) {
        return cli_fail(CLI_BAD_ARGUMENTS,
                        "--key-size must be from 1 to %d, --val-size at most %d, "
                        "--key-space-size at least 1",
                        KEY_SIZE_MAX, VALUE_SIZE_MAX);
    }
    if (b->pace.total == 0 && nb_options_duration_ns(o, "duration") <= 0) {
        return cli_fail(CLI_BAD_ARGUMENTS, "--total or --duration must be above 0");
    }
    memset(nb_buf_extend(&b->value, value_size), 'v', value_size);
    return connect_clients(b, (unsigned)clients, (unsigned)conns);
}

static int run(struct cli *cli, enum bench_kind kind)
{
    struct bench *b = nb_alloc_zero(1, sizeof *b);
    b->cli = cli;
    b->kind = kind;
    b->result.kind = kinds[kind].name;
    nb_random_init(&b->random, nb_random_entropy());
    int code = read_options(b);
    if (code == CLI_OK) {
        run_load(b);
        bool json = nb_options_bool(&cli->options, "json") || cli->format.kind == FORMAT_JSON;
        if (json) {
            bench_report_json(&b->result, &cli->out);
        } else {
            bench_report_text(&b->result, &cli->out);
        }
        code = b->result.latency.count == 0 && !b->result.interrupted ? CLI_ERROR : CLI_OK;
    }
    nb_free(b->clients);
    nb_buf_deinit(&b->key);
    nb_buf_deinit(&b->value);
    nb_buf_deinit(&b->request);
    nb_free(b);
    return code;
}

static int run_put(struct cli *cli)
{
    return run(cli, BENCH_PUT);
}

static int run_range(struct cli *cli)
{
    return run(cli, BENCH_RANGE);
}

static int run_txn(struct cli *cli)
{
    return run(cli, BENCH_TXN);
}

/* clang-format off */
static const struct nb_option rows[] = {
    {.name = "clients", .type = NB_OPTION_UINT64, .default_text = "1", .help = "clients, each with one request under way"},
    {.name = "conns", .type = NB_OPTION_UINT64, .default_text = "1", .help = "connections that the clients share, spread over the endpoints"},
    {.name = "total", .type = NB_OPTION_UINT64, .default_text = "10000", .help = "requests in all"},
    {.name = "duration", .type = NB_OPTION_DURATION, .default_text = "0s", .help = "instead of --total, or what ends first: how long to go on"},
    {.name = "rate", .type = NB_OPTION_UINT64, .help = "requests a second, each due at its time: latency counts from then, and who is due waits for a free client; 0: as fast as answers come"},
    {.name = "key-size", .type = NB_OPTION_UINT64, .default_text = "8", .metavar = "BYTES", .help = "bytes of a key"},
    {.name = "val-size", .type = NB_OPTION_UINT64, .default_text = "8", .metavar = "BYTES", .help = "bytes of a value"},
    {.name = "key-space-size", .type = NB_OPTION_UINT64, .default_text = "1", .help = "how many different keys"},
    {.name = "sequential-keys", .type = NB_OPTION_BOOL, .help = "keys in order instead of at random"},
    {.name = "consistency", .type = NB_OPTION_CHOICE, .choices = "l,s", .default_text = "l", .help = "of range: linearizable or serializable"},
    {.name = "limit", .type = NB_OPTION_UINT64, .help = "of range: read from the key on, so many at most; 0: the key alone"},
    {.name = "target-leader", .type = NB_OPTION_BOOL, .help = "send everything to the leader"},
    {.name = "json", .type = NB_OPTION_BOOL, .help = "one JSON object, for scripts"},
};
/* clang-format on */
static const struct ops_table options = {rows, NB_ARRAY_LEN(rows)};

static const struct nb_options_example examples[] = {
    {"nabata bench put --clients 1000 --conns 100 --total 100000 --val-size 256 "
     "--key-space-size 100000",
     "how etcd's own numbers are taken"},
    {"nabata bench range --clients 64 --conns 8 --duration 10s --consistency s",
     "reads for ten seconds"},
    {"nabata bench put --rate 5000 --clients 5000 --conns 100 --duration 30s",
     "an open loop: a server that stalls is seen in the latencies"},
};

const struct cli_command cli_command_bench_put = {
    .name = "bench put",
    .arguments = "",
    .help = "Measures writes",
    .group = "Measuring",
    .options = &options,
    .examples = examples,
    .example_count = NB_ARRAY_LEN(examples),
    .formats = CLI_FORMAT(FORMAT_SIMPLE) | CLI_FORMAT(FORMAT_JSON),
    .run = run_put,
};

const struct cli_command cli_command_bench_range = {
    .name = "bench range",
    .arguments = "",
    .help = "Measures reads",
    .group = "Measuring",
    .options = &options,
    .examples = examples,
    .example_count = NB_ARRAY_LEN(examples),
    .formats = CLI_FORMAT(FORMAT_SIMPLE) | CLI_FORMAT(FORMAT_JSON),
    .run = run_range,
};

const struct cli_command cli_command_bench_txn = {
    .name = "bench txn",
    .arguments = "",
    .help = "Measures transactions (a comparison and a write)",
    .group = "Measuring",
    .options = &options,
    .examples = examples,
    .example_count = NB_ARRAY_LEN(examples),
    .formats = CLI_FORMAT(FORMAT_SIMPLE) | CLI_FORMAT(FORMAT_JSON),
    .run = run_txn,
};

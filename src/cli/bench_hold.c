/* bench hold: connections, and streams over them, that do nothing: what do they cost a server? */
#include "cli/bench.h"

#include "cli/cli.h"
#include "cli/commands.h"

#include <inttypes.h>
#include <signal.h>

enum {
    CONNS_MAX = 60000,
    STREAMS_MAX = 10000, /* a connection */
    OPENING_MAX = 64,    /* at a time: no more than a listener's backlog takes */
};

static const uint64_t forever_ns = 24 * 3600 * CLI_NS_PER_S;

struct hold;

/* One call: a stream that stays, or the one request that shows that a connection works. */
struct hold_item {
    struct hold *hold;
    size_t endpoint;
    unsigned lane;
    bool open;
};

struct hold {
    struct cli *cli;
    struct hold_item *items; /* owned; those of a connection side by side */
    uint64_t item_count, begun, opening, open, lost;
    uint64_t conns, streams; /* streams a connection; 0: none */
    struct bench_result failures;
    bool stop, over, interrupted;
};

static void open_more(struct hold *h);

static void item_opened(struct hold_item *item)
{
    item->open = true;
    item->hold->opening--;
    item->hold->open++;
}

static void on_message(void *user, struct nb_bytes message)
{
    (void)message;
    struct hold_item *item = user;
    if (!item->open) {
        item_opened(item);
        open_more(item->hold);
    }
}

static void on_done(void *user, const struct client_reply *reply)
{
    struct hold_item *item = user;
    struct hold *h = item->hold;
    bool is_stream = h->streams > 0;
    if (reply->status != RPC_OK || is_stream) {
        const char *text = reply->error[0] != '\0' ? reply->error : rpc_status_name(reply->status);
        bench_error_add(&h->failures, text, 1);
        h->lost += item->open ? 1 : 0;
    }
    if (!item->open) {
        h->opening--;
    }
    /* Who cannot connect would only fail at all others as well. */
    h->stop = h->stop || (!reply->sent && h->open == 0);
    h->over = h->over || (is_stream && h->lost == h->item_count);
    open_more(h);
}

static void open_more(struct hold *h)
{
    while (!h->stop && h->opening < OPENING_MAX && h->begun < h->item_count) {
        struct hold_item *item = &h->items[h->begun++];
        struct client_request request = {
            .path =
                h->streams > 0 ? "/grpc.health.v1.Health/Watch" : "/grpc.health.v1.Health/Check",
            .flags = CLIENT_READ,
            .endpoint = item->endpoint,
            .lane = item->lane,
            .timeout_ns = h->streams > 0 ? forever_ns : 0,
            .on_message = on_message,
            .on_done = on_done,
            .user = item,
        };
        h->opening++;
        (void)client_start(h->cli->client, &request);
    }
}

static void on_interrupt(void *user, int number)
{
    (void)number;
    struct hold *h = user;
    h->stop = h->over = h->interrupted = true;
}

static void on_end(void *user)
{
    struct hold *h = user;
    h->over = true;
}

static void report(const struct hold *h, bool json, struct nb_buf *out)
{
    uint64_t streams = h->streams > 0 ? h->open : 0;
    uint64_t conns = h->streams > 0 ? h->open / h->streams : h->open;
    if (json) {
        nb_buf_printf(out,
                      "{\"kind\":\"hold\",\"conns\":%" PRIu64 ",\"streams\":%" PRIu64
                      ",\"failed\":%" PRIu64 "}\n",
                      conns, streams, h->failures.failed);
        return;
    }
    nb_buf_printf(out, "holding %" PRIu64 " connections, %" PRIu64 " streams\n", conns, streams);
}

/* Opens all, says so, and waits. */
static int hold_all(struct hold *h)
{
    struct net_loop *loop = client_loop(h->cli->client);
    struct net_signal *interrupt = net_signal_create(loop, SIGINT, on_interrupt, h);
    struct net_signal *terminate = net_signal_create(loop, SIGTERM, on_interrupt, h);
    struct net_timer *end = net_timer_create(loop, on_end, h);
    int64_t duration_ns = nb_options_duration_ns(&h->cli->options, "duration");
    bool json = nb_options_bool(&h->cli->options, "json") || h->cli->format.kind == FORMAT_JSON;
    open_more(h);
    while (!h->over && (h->opening > 0 || (!h->stop && h->begun < h->item_count))) {
        (void)net_loop_run_once(loop, true);
    }
    bool complete = h->open == h->item_count;
    int code = CLI_OK;
    if (complete || h->open > 0) {
        report(h, json, &h->cli->out);
        code = cli_flush(h->cli);
    }
    if (complete && duration_ns > 0) {
        net_timer_start(end, (uint64_t)duration_ns, 0);
    }
    while (complete && !h->over) {
        (void)net_loop_run_once(loop, true);
    }
    net_timer_destroy(end);
    net_signal_destroy(terminate);
    net_signal_destroy(interrupt);
    if (!complete && !h->interrupted) {
        return cli_fail(CLI_BAD_CONNECTION, "%" PRIu64 " of %" PRIu64 " could not be opened: %s",
                        h->item_count - h->open, h->item_count,
                        h->failures.error_count > 0 ? h->failures.errors[0].text : "no answer");
    }
    if (h->lost > 0) {
        return cli_fail(CLI_ERROR, "%" PRIu64 " streams ended meanwhile: %s", h->lost,
                        h->failures.errors[0].text);
    }
    return code;
}

/* Connection k is lane k / n of endpoint k % n. */
static int prepare(struct hold *h)
{
    const struct nb_options *o = &h->cli->options;
    h->conns = nb_options_uint64(o, "conns");
    h->streams = nb_options_uint64(o, "streams");
    if (h->conns < 1 || h->conns > CONNS_MAX || h->streams > STREAMS_MAX) {
        return cli_fail(CLI_BAD_ARGUMENTS, "--conns must be from 1 to %d, --streams at most %d",
                        CONNS_MAX, STREAMS_MAX);
    }
    int code = cli_connect(h->cli, 1);
    if (code != CLI_OK) {
        return code;
    }
    size_t endpoints = client_endpoint_count(h->cli->client);
    code = cli_connect(h->cli, (unsigned)((h->conns + endpoints - 1) / endpoints));
    if (code != CLI_OK) {
        return code;
    }
    uint64_t each = h->streams > 0 ? h->streams : 1;
    h->item_count = h->conns * each;
    h->items = nb_alloc_zero(h->item_count, sizeof *h->items);
    for (uint64_t i = 0; i < h->item_count; i++) {
        uint64_t conn = i / each;
        h->items[i] = (struct hold_item){.hold = h,
                                         .endpoint = (size_t)(conn % endpoints),
                                         .lane = (unsigned)(conn / endpoints)};
    }
    return CLI_OK;
}

static int run(struct cli *cli)
{
    struct hold *h = nb_alloc_zero(1, sizeof *h);
    h->cli = cli;
    int code = prepare(h);
    if (code == CLI_OK) {
        code = hold_all(h);
        /* Streams still run, and their callbacks must not: their owner goes. */
        client_destroy(cli->client);
        cli->client = NULL;
    }
    nb_free(h->items);
    nb_free(h);
    return code;
}

/* clang-format off */
static const struct nb_option rows[] = {
    {.name = "conns", .type = NB_OPTION_UINT64, .default_text = "1000", .help = "connections, spread over the endpoints"},
    {.name = "streams", .type = NB_OPTION_UINT64, .default_text = "0", .help = "streams over each of them that stay open (Watch of gRPC's health service)"},
    {.name = "duration", .type = NB_OPTION_DURATION, .default_text = "0s", .help = "how long to hold them once all are open; 0: until Ctrl-C"},
    {.name = "json", .type = NB_OPTION_BOOL, .help = "one JSON object when all are open, for scripts"},
};
/* clang-format on */
static const struct ops_table options = {rows, NB_ARRAY_LEN(rows)};

static const struct nb_options_example examples[] = {
    {"nabata bench hold --conns 5000", "5,000 idle connections, until Ctrl-C"},
    {"nabata bench hold --conns 100 --streams 50 --duration 10s",
     "5,000 idle streams for ten seconds"},
};

const struct cli_command cli_command_bench_hold = {
    .name = "bench hold",
    .arguments = "",
    .help = "Holds idle connections and streams open",
    .more = "Each connection has made one request and then does nothing. Look at the memory of the "
            "servers before and while they are held.",
    .group = "Measuring",
    .options = &options,
    .examples = examples,
    .example_count = NB_ARRAY_LEN(examples),
    .formats = CLI_FORMAT(FORMAT_SIMPLE) | CLI_FORMAT(FORMAT_JSON),
    .run = run,
};

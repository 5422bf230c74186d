/* soak: writing and watching. See soak.h. */
#include "cli/soak.h"

#include "base/random.h"
#include "cli/commands.h"
#include "rpc.pb-c.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

enum { WRITERS_MAX = 1024, RATE_MAX = 100 * 1000 };

static const uint64_t tick_ns = 5 * CLI_NS_PER_MS;
static const uint64_t ask_ns = 20 * CLI_NS_PER_MS;
static const uint64_t ask_timeout_ns = 300 * CLI_NS_PER_MS;
static const uint64_t back_off_ns = 20 * CLI_NS_PER_MS; /* when every endpoint has said no */

struct soak_writer {
    struct soak *soak;
    bool busy, waiting; /* waiting: to send its key again at retry_at_ns */
    uint64_t key, begun_ns, retry_at_ns;
    unsigned tries;
    size_t endpoint;
};

const char *soak_key(const struct soak *s, uint64_t key, char text[96])
{
    (void)snprintf(text, 96, "%s%010" PRIu64, s->prefix, key);
    return text;
}

const char *soak_value(uint64_t key, char text[32])
{
    (void)snprintf(text, 32, "%016" PRIx64, key * 0x9e3779b97f4a7c15u);
    return text;
}

void soak_gap_close(struct soak_gap *gap, uint64_t at_ns)
{
    if (gap->since_ns != 0 && at_ns - gap->since_ns > gap->longest_ns) {
        gap->longest_ns = at_ns - gap->since_ns;
        gap->longest_at_ns = gap->since_ns;
    }
    gap->since_ns = at_ns;
}

static void record(struct soak *s, const char *format, ...) NB_PRINTF(2, 3);

static void record(struct soak *s, const char *format, ...)
{
    va_list list;
    if (s->record == NULL) {
        return;
    }
    va_start(list, format);
    (void)fprintf(s->record, "%" PRIu64 " ", net_now_ns());
    (void)vfprintf(s->record, format, list);
    (void)fputc('\n', s->record);
    va_end(list);
}

/* ---- watching ---- */

static void on_status(void *user, const struct client_reply *reply)
{
    struct soak_node *node = user;
    struct soak *s = node->soak;
    bool was_leader = node->leader;
    node->asked = node->serving = node->leader = false;
    if (reply->status != RPC_OK) {
        return;
    }
    Etcdserverpb__StatusResponse *status =
        etcdserverpb__status_response__unpack(NULL, reply->message.len, reply->message.data);
    if (status != NULL && status->header != NULL) {
        node->serving = status->leader != 0 && !status->islearner;
        node->leader = node->serving && status->leader == status->header->member_id;
    }
    if (node->leader) {
        soak_gap_close(&s->leading, net_now_ns());
        if (!was_leader && s->leader != node->endpoint) {
            s->leader_changes += s->leader != CLIENT_ANY;
            s->leader = node->endpoint;
            record(s, "leader %s term=%" PRIu64, client_endpoint_name(s->cli->client, s->leader),
                   status->raftterm);
        }
    }
    cli_free(status);
}

static void ask(void *user)
{
    struct soak *s = user;
    for (size_t i = 0; i < s->node_count && !s->stopping; i++) {
        struct soak_node *node = &s->nodes[i];
        if (node->asked) {
            continue;
        }
        struct client_request request = {.path = "/etcdserverpb.Maintenance/Status",
                                         .flags = CLIENT_FAIL_FAST,
                                         .endpoint = i,
                                         .timeout_ns = ask_timeout_ns,
                                         .on_done = on_status,
                                         .user = node};
        node->asked = true;
        (void)client_start(s->cli->client, &request);
    }
    if (s->record != NULL) {
        (void)fflush(s->record);
    }
}

/* ---- writing ---- */

/*
 * The next one in turn that serves, but for `refused`. When none is known to, as while the
 * leadership goes over, the next one in turn that is not that one: what has just refused does so
 * again.
 */
static size_t next_endpoint(struct soak *s, size_t refused)
{
    nb_assert(s->node_count != 0); /* an endpoint, at least, is always given */
    size_t best = s->turn % s->node_count;
    bool found = false;
    for (size_t i = s->node_count; i-- > 0;) { /* from behind, so that the first one stays */
        size_t endpoint = (s->turn + i) % s->node_count;
        bool serving = s->nodes[endpoint].serving;
        if (endpoint != refused && (serving || !found)) {
            best = endpoint;
            found = serving;
        }
    }
    s->turn = best + 1;
    return best;
}

static void write_done(void *user, const struct client_reply *reply);

static void write_send(struct soak_writer *w)
{
    struct soak *s = w->soak;
    char key[96], value[32];
    struct nb_buf bytes = {0};
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    put.key = ops_text(soak_key(s, w->key, key));
    put.value = ops_text(soak_value(w->key, value));
    cli_pack(&bytes, &put.base);
    w->waiting = false;
    w->endpoint = next_endpoint(s, w->tries > 0 ? w->endpoint : CLIENT_ANY);
    struct client_request request = {.path = "/etcdserverpb.KV/Put",
                                     .message = nb_buf_bytes(&bytes),
                                     .flags = CLIENT_FAIL_FAST,
                                     .endpoint = w->endpoint,
                                     .timeout_ns = s->attempt_timeout_ns,
                                     .on_done = write_done,
                                     .user = w};
    (void)client_start(s->cli->client, &request);
    nb_buf_deinit(&bytes);
}

static void acknowledge(struct soak *s, const struct soak_writer *w, struct nb_bytes message)
{
    char key[96];
    int64_t revision = 1;
    uint64_t now_ns = net_now_ns();
    Etcdserverpb__PutResponse *put =
        etcdserverpb__put_response__unpack(NULL, message.len, message.data);
    if (put != NULL && put->header != NULL && put->header->revision > 0) {
        revision = put->header->revision;
    }
    cli_free(put);
    s->revisions[w->key] = revision;
    s->acknowledged_count++;
    s->retried_count += w->tries > 0;
    s->retried_twice_count += w->tries > 1;
    soak_gap_close(&s->writing, now_ns);
    record(s, "ack %s revision=%" PRId64 " tries=%u took_us=%" PRIu64, soak_key(s, w->key, key),
           revision, w->tries + 1, (now_ns - w->begun_ns) / 1000);
}

static void write_failed(struct soak *s, const struct soak_writer *w, const char *error)
{
    char key[96];
    s->failed_count++;
    if (s->first_failed == NULL) {
        s->first_failed = nb_strdup(error);
    }
    record(s, "failed %s tries=%u %s", soak_key(s, w->key, key), w->tries + 1, error);
}

static void write_done(void *user, const struct client_reply *reply)
{
    struct soak_writer *w = user;
    struct soak *s = w->soak;
    uint64_t now_ns = net_now_ns();
    if (reply->status == RPC_OK) {
        acknowledge(s, w, reply->message);
    } else if (now_ns - w->begun_ns < s->timeout_ns) {
        char key[96];
        record(s, "again %s tries=%u %s: %s", soak_key(s, w->key, key), w->tries + 1,
               client_endpoint_name(s->cli->client, w->endpoint), reply->error);
        w->tries++; /* S1 */
        w->waiting = true;
        w->retry_at_ns = w->tries % s->node_count == 0 ? now_ns + back_off_ns : now_ns;
        return; /* sent by the next tick: a failure may come from within a dial of all of them */
    } else {
        write_failed(s, w, reply->error);
    }
    w->busy = false;
    s->busy_count--;
}

static void begin(struct soak *s, struct soak_writer *w)
{
    if (s->next_key == s->revision_room) {
        size_t room = s->revision_room == 0 ? 1024 : s->revision_room * 2;
        int64_t *revisions = nb_alloc_zero(room, sizeof *revisions);
        if (s->revision_room > 0) {
            memcpy(revisions, s->revisions, s->revision_room * sizeof *revisions);
        }
        nb_free(s->revisions);
        s->revisions = revisions;
        s->revision_room = room;
    }
    w->busy = true;
    w->key = s->next_key++;
    w->begun_ns = net_now_ns();
    w->tries = 0;
    s->busy_count++;
    write_send(w);
}

static void tick(void *user)
{
    struct soak *s = user;
    uint64_t now_ns = net_now_ns();
    uint64_t due = (now_ns - s->started_ns) / 1000 * s->rate / 1000000 + 1;
    s->stopping = s->stopping || (s->end_ns != 0 && now_ns >= s->end_ns);
    /* What could not be begun in time is not made up for: the rate is a ceiling. */
    due = due > s->next_key + s->writer_count ? s->next_key + s->writer_count : due;
    for (size_t i = 0; i < s->writer_count; i++) {
        struct soak_writer *w = &s->writers[i];
        if (w->busy && w->waiting && now_ns >= w->retry_at_ns) {
            write_send(w);
        } else if (!w->busy && !s->stopping && s->next_key < due) {
            begin(s, w);
        }
    }
}

static void on_signal(void *user, int number)
{
    (void)number;
    struct soak *s = user;
    s->stopping = true;
}

/* Until the end is reached or a signal comes, and what is under way has ended. */
static void soak_write(struct soak *s)
{
    struct net_loop *loop = client_loop(s->cli->client);
    struct net_signal *interrupt = net_signal_create(loop, SIGINT, on_signal, s);
    struct net_signal *terminate = net_signal_create(loop, SIGTERM, on_signal, s);
    struct net_timer *ticks = net_timer_create(loop, tick, s);
    struct net_timer *asks = net_timer_create(loop, ask, s);
    s->started_ns = net_now_ns();
    net_timer_start(ticks, tick_ns, tick_ns);
    net_timer_start(asks, 0, ask_ns);
    while (!s->stopping || s->busy_count > 0) {
        (void)net_loop_run_once(loop, true);
    }
    s->stopped_ns = net_now_ns();
    if (s->failed_count != 0) { /* the time after the last acknowledged write counts as well */
        s->writing.since_ns = s->writing.since_ns != 0 ? s->writing.since_ns : s->started_ns;
        s->leading.since_ns = s->leading.since_ns != 0 ? s->leading.since_ns : s->started_ns;
        soak_gap_close(&s->writing, s->stopped_ns);
        soak_gap_close(&s->leading, s->stopped_ns);
    }
    net_timer_destroy(asks);
    net_timer_destroy(ticks);
    client_run(s->cli->client, NULL); /* questions that are under way */
    net_signal_destroy(interrupt);
    net_signal_destroy(terminate);
}

static int read_options(struct soak *s)
{
    const struct nb_options *o = &s->cli->options;
    uint64_t writers = nb_options_uint64(o, "writers");
    const char *path = nb_options_string(o, "record");
    int64_t duration_ns = nb_options_duration_ns(o, "duration");
    s->rate = nb_options_uint64(o, "rate");
    s->timeout_ns = (uint64_t)nb_options_duration_ns(o, "timeout");
    s->attempt_timeout_ns = (uint64_t)nb_options_duration_ns(o, "attempt-timeout");
    if (writers < 1 || writers > WRITERS_MAX || s->rate < 1 || s->rate > RATE_MAX) {
        return cli_fail(CLI_BAD_ARGUMENTS, "--writers must be from 1 to %d, --rate to %d",
                        WRITERS_MAX, RATE_MAX);
    }
    if (duration_ns < 0 || s->timeout_ns == 0 || s->attempt_timeout_ns == 0) {
        return cli_fail(CLI_BAD_ARGUMENTS, "durations must be above 0");
    }
    if (*path != '\0') {
        s->record = fopen(path, "we");
        if (s->record == NULL) {
            return cli_fail(CLI_IO, "%s: %s", path, strerror(errno));
        }
    }
    s->end_ns = duration_ns > 0 ? net_now_ns() + (uint64_t)duration_ns : 0;
    s->writer_count = writers;
    return s->cli->options.argument_count == 0
               ? cli_connect(s->cli, 1)
               : cli_reconnect(s->cli, o->arguments, o->argument_count, 1);
}

static int soak(struct soak *s)
{
    const struct nb_options *o = &s->cli->options;
    bool json = nb_options_bool(o, "json") || s->cli->format.kind == FORMAT_JSON;
    (void)snprintf(s->prefix, sizeof s->prefix, "nabata-soak/%016" PRIx64 "/", nb_random_entropy());
    s->node_count = client_endpoint_count(s->cli->client);
    s->nodes = nb_alloc_zero(s->node_count, sizeof *s->nodes);
    s->writers = nb_alloc_zero(s->writer_count, sizeof *s->writers);
    for (size_t i = 0; i < s->node_count; i++) {
        s->nodes[i] = (struct soak_node){.soak = s, .endpoint = i};
    }
    for (size_t i = 0; i < s->writer_count; i++) {
        s->writers[i].soak = s;
    }
    soak_write(s);
    int verdict = soak_verdict(s, soak_verify(s));
    soak_report(s, verdict, json, &s->cli->out);
    if (!nb_options_bool(o, "keep")) {
        soak_delete(s);
    }
    return verdict;
}

static int run(struct cli *cli)
{
    struct soak s = {.cli = cli, .leader = CLIENT_ANY};
    int code = read_options(&s);
    if (code == CLI_OK) {
        code = soak(&s);
    }
    if (s.record != NULL && fclose(s.record) != 0) {
        code = cli_fail(CLI_IO, "the record could not be written whole: %s", strerror(errno));
    }
    nb_free(s.nodes);
    nb_free(s.writers);
    nb_free(s.revisions);
    nb_free(s.first_failed);
    return code;
}

/* clang-format off */
static const struct nb_option rows[] = {
    {.name = "duration", .type = NB_OPTION_DURATION, .default_text = "0s", .help = "how long to write; 0: until SIGINT or SIGTERM"},
    {.name = "rate", .type = NB_OPTION_UINT64, .default_text = "100", .help = "writes a second, at most"},
    {.name = "writers", .type = NB_OPTION_UINT64, .default_text = "256", .help = "writes under way at a time, at most"},
    {.name = "attempt-timeout", .type = NB_OPTION_DURATION, .default_text = "1s", .help = "how long to wait before another endpoint is tried"},
    {.name = "timeout", .type = NB_OPTION_DURATION, .default_text = "30s", .help = "how long a write is tried until it counts as failed"},
    {.name = "record", .type = NB_OPTION_STRING, .metavar = "FILE", .help = "a line for each acknowledged, repeated or failed write and each change of leader: CLOCK_MONOTONIC in ns, what, key"},
    {.name = "keep", .type = NB_OPTION_BOOL, .help = "do not delete the keys at the end"},
    {.name = "json", .type = NB_OPTION_BOOL, .help = "one JSON object, for scripts"},
};
/* clang-format on */
static const struct ops_table options = {rows, NB_ARRAY_LEN(rows)};

static const struct nb_options_example examples[] = {
    {"nabata soak --duration 60s m1:2379 m2:2379 m3:2379", "kill a server meanwhile"},
    {"nabata soak --rate 500 --record writes.txt --json m1:2379 m2:2379", "for a script"},
};

const struct cli_command cli_command_soak = {
    .name = "soak",
    .arguments = "[HOST:PORT ...]",
    .help = "Writes all the while, then proves that nothing acknowledged is lost",
    .more =
        "Writes unique keys through all endpoints in turn, goes to another one when one fails, and "
        "watches who leads. At the end it reads every key back through every live node and tells "
        "the longest time without an acknowledged write and without a leader. Exit code: 0 all "
        "is there, 1 acknowledged writes are lost, 2 no node could be read.",
    .group = "Cluster",
    .options = &options,
    .argument_max = 64,
    .examples = examples,
    .example_count = NB_ARRAY_LEN(examples),
    .formats = CLI_FORMAT(FORMAT_SIMPLE) | CLI_FORMAT(FORMAT_JSON),
    .run = run,
};

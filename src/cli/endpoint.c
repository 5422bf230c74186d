/* endpoint health, status, hashkv: one row an endpoint, all asked at once. */
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/table.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct ask {
    const char *path;
    const ProtobufCMessage *request;
    const ProtobufCMessageDescriptor *answer;
    unsigned flags;
};

struct answer {
    void *message; /* owned; NULL: `error` */
    char *error;   /* owned */
    enum rpc_status status;
    uint64_t took_ns;
    const ProtobufCMessageDescriptor *descriptor;
};

static void on_answer(void *user, const struct client_reply *reply)
{
    struct answer *answer = user;
    answer->status = reply->status;
    answer->took_ns = reply->took_ns;
    if (reply->status == RPC_OK) {
        answer->message = protobuf_c_message_unpack(answer->descriptor, NULL, reply->message.len,
                                                    reply->message.data);
    }
    if (answer->message == NULL) {
        answer->error =
            nb_strdup(reply->status == RPC_OK ? "the answer cannot be decoded" : reply->error);
    }
}

/* Asks every endpoint; the caller frees with free_answers. */
static struct answer *ask_all(struct cli *cli, const struct ask *ask)
{
    size_t count = client_endpoint_count(cli->client);
    struct answer *answers = nb_alloc_zero(count, sizeof *answers);
    struct nb_buf bytes = {0};
    cli_pack(&bytes, ask->request);
    for (size_t i = 0; i < count; i++) {
        answers[i].descriptor = ask->answer;
        struct client_request request = {.path = ask->path,
                                         .message = nb_buf_bytes(&bytes),
                                         .flags = ask->flags,
                                         .endpoint = i,
                                         .on_done = on_answer,
                                         .user = &answers[i]};
        (void)client_start(cli->client, &request);
    }
    client_run(cli->client, NULL);
    nb_buf_deinit(&bytes);
    return answers;
}

static void free_answers(struct answer *answers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        cli_free(answers[i].message);
        nb_free(answers[i].error);
    }
    nb_free(answers);
}

static void json_text(struct nb_buf *out, const char *text)
{
    nb_buf_append_str(out, "\"");
    nb_json_escape(out, nb_bytes_str(text));
    nb_buf_append_str(out, "\"");
}

/* [{"Endpoint":"...","<name>":{...}},...] of those that answered. */
static void print_json(struct cli *cli, const char *name, const struct answer *answers)
{
    bool first = true;
    nb_buf_append_str(&cli->out, "[");
    for (size_t i = 0; i < client_endpoint_count(cli->client); i++) {
        if (answers[i].message == NULL) {
            continue;
        }
        nb_buf_append_str(&cli->out, first ? "{\"Endpoint\":" : ",{\"Endpoint\":");
        json_text(&cli->out, client_endpoint_name(cli->client, i));
        nb_buf_printf(&cli->out, ",\"%s\":", name);
        format_json(&cli->out, answers[i].message, cli->format.hex);
        nb_buf_append_str(&cli->out, "}");
        first = false;
    }
    nb_buf_append_str(&cli->out, "]\n");
}

/* Rows of cells: as a table, or with ", " between them. */
static void print_rows(struct cli *cli, const struct table *table)
{
    if (cli->format.kind == FORMAT_TABLE) {
        table_print(table, &cli->out);
        return;
    }
    for (size_t i = 0; i < table->cell_count; i++) {
        bool end = (i + 1) % table->column_count == 0;
        nb_buf_printf(&cli->out, "%s%s", table->cells[i], end ? "\n" : ", ");
    }
}

static void print_endpoint_field(struct cli *cli, size_t endpoint)
{
    nb_buf_append_str(&cli->out, "\"Endpoint\" : ");
    format_quoted(&cli->out, nb_bytes_str(client_endpoint_name(cli->client, endpoint)));
    nb_buf_append_str(&cli->out, "\n");
}

static int report_failures(struct cli *cli, const char *what, const struct answer *answers)
{
    int code = CLI_OK;
    for (size_t i = 0; i < client_endpoint_count(cli->client); i++) {
        if (answers[i].message == NULL) {
            (void)fprintf(stderr, "Failed to get the %s of endpoint %s (%s)\n", what,
                          client_endpoint_name(cli->client, i), answers[i].error);
            code = CLI_ERROR;
        }
    }
    return code;
}

/* ---- status ---- */

static const char *const status_titles[] = {"endpoint",
                                            "ID",
                                            "version",
                                            "storage version",
                                            "db size",
                                            "in use",
                                            "percentage not in use",
                                            "quota",
                                            "is leader",
                                            "is learner",
                                            "raft term",
                                            "raft index",
                                            "raft applied index",
                                            "errors",
                                            "downgrade target version",
                                            "downgrade enabled"};

static void add_size(struct table *table, int64_t bytes)
{
    struct nb_buf text = {0};
    format_size(&text, bytes > 0 ? (uint64_t)bytes : 0);
    table_add(table, "%.*s", (int)text.len, (const char *)text.data);
    nb_buf_deinit(&text);
}

static void add_status(struct table *table, const char *endpoint,
                       const Etcdserverpb__StatusResponse *s)
{
    int64_t used_percent = s->dbsize > 0 ? s->dbsizeinuse * 100 / s->dbsize : 100;
    struct nb_buf errors = {0};
    format_joined(&errors, s->errors, s->n_errors, ", ");
    table_add(table, "%s", endpoint);
    table_add(table, "%" PRIx64, s->header != NULL ? s->header->member_id : 0);
    table_add(table, "%s", s->version);
    table_add(table, "%s", s->storageversion);
    add_size(table, s->dbsize);
    add_size(table, s->dbsizeinuse);
    table_add(table, "%" PRId64 "%%", 100 - used_percent);
    add_size(table, s->dbsizequota);
    table_add(table, "%s",
              s->header != NULL && s->leader == s->header->member_id ? "true" : "false");
    table_add(table, "%s", s->islearner ? "true" : "false");
    table_add(table, "%" PRIu64, s->raftterm);
    table_add(table, "%" PRIu64, s->raftindex);
    table_add(table, "%" PRIu64, s->raftappliedindex);
    table_add(table, "%.*s", (int)errors.len, errors.len > 0 ? (const char *)errors.data : "");
    table_add(table, "%s", s->downgradeinfo != NULL ? s->downgradeinfo->targetversion : "");
    table_add(table, "%s",
              s->downgradeinfo != NULL && s->downgradeinfo->enabled ? "true" : "false");
    nb_buf_deinit(&errors);
}

static void fields_status(struct cli *cli, size_t endpoint, const Etcdserverpb__StatusResponse *s)
{
    struct nb_buf *out = &cli->out;
    format_fields_header(out, cli->format.hex, s->header);
    nb_buf_append_str(out, "\"Version\" : ");
    format_quoted(out, nb_bytes_str(s->version));
    nb_buf_append_str(out, "\n\"StorageVersion\" : ");
    format_quoted(out, nb_bytes_str(s->storageversion));
    nb_buf_printf(out, "\n\"DBSize\" : %" PRId64 "\n\"DBSizeInUse\" : %" PRId64 "\n", s->dbsize,
                  s->dbsizeinuse);
    nb_buf_printf(out, "\"DBSizeQuota\" : %" PRId64 "\n", s->dbsizequota);
    nb_buf_printf(out,
                  cli->format.hex ? "\"Leader\" : %" PRIx64 "\n" : "\"Leader\" : %" PRIu64 "\n",
                  s->leader);
    nb_buf_printf(out, "\"IsLearner\" : %s\n", s->islearner ? "true" : "false");
    nb_buf_printf(out,
                  "\"RaftIndex\" : %" PRIu64 "\n\"RaftTerm\" : %" PRIu64
                  "\n\"RaftAppliedIndex\" : %" PRIu64 "\n\"Errors\" : [",
                  s->raftindex, s->raftterm, s->raftappliedindex);
    format_joined(out, s->errors, s->n_errors, " ");
    nb_buf_append_str(out, "]\n");
    print_endpoint_field(cli, endpoint);
    nb_buf_append_str(out, "\"DowngradeTargetVersion\" : ");
    format_quoted(out,
                  nb_bytes_str(s->downgradeinfo != NULL ? s->downgradeinfo->targetversion : ""));
    nb_buf_printf(out, "\n\"DowngradeEnabled\" : %s\n\n",
                  s->downgradeinfo != NULL && s->downgradeinfo->enabled ? "true" : "false");
}

static int run_status(struct cli *cli)
{
    Etcdserverpb__StatusRequest request = ETCDSERVERPB__STATUS_REQUEST__INIT;
    int code = cli_connect_cluster(cli);
    if (code != CLI_OK) {
        return code;
    }
    size_t count = client_endpoint_count(cli->client);
    struct ask ask = {"/etcdserverpb.Maintenance/Status", &request.base,
                      &etcdserverpb__status_response__descriptor, CLIENT_READ};
    struct answer *answers = ask_all(cli, &ask);
    code = report_failures(cli, "status", answers);
    if (cli->format.kind == FORMAT_JSON) {
        print_json(cli, "Status", answers);
    } else {
        struct table table;
        table_init(&table, status_titles, NB_ARRAY_LEN(status_titles));
        for (size_t i = 0; i < count; i++) {
            if (answers[i].message == NULL) {
                continue;
            }
            if (cli->format.kind == FORMAT_FIELDS) {
                fields_status(cli, i, answers[i].message);
            } else {
                add_status(&table, client_endpoint_name(cli->client, i), answers[i].message);
            }
        }
        if (cli->format.kind != FORMAT_FIELDS) {
            print_rows(cli, &table);
        }
        table_deinit(&table);
    }
    free_answers(answers, count);
    return code;
}

/* ---- hashkv ---- */

static const char *const hashkv_titles[] = {"endpoint", "hash", "hash_revision"};

static void fields_hashkv(struct cli *cli, size_t endpoint, const Etcdserverpb__HashKVResponse *h)
{
    format_fields_header(&cli->out, cli->format.hex, h->header);
    print_endpoint_field(cli, endpoint);
    nb_buf_printf(&cli->out, "\"Hash\" : %" PRIu32 "\n\"HashRevision\" : %" PRId64 "\n\n", h->hash,
                  h->hash_revision);
}

static int run_hashkv(struct cli *cli)
{
    Etcdserverpb__HashKVRequest request = ETCDSERVERPB__HASH_KVREQUEST__INIT;
    request.revision = nb_options_int64(&cli->options, "rev");
    int code = cli_connect_cluster(cli);
    if (code != CLI_OK) {
        return code;
    }
    size_t count = client_endpoint_count(cli->client);
    struct ask ask = {"/etcdserverpb.Maintenance/HashKV", &request.base,
                      &etcdserverpb__hash_kvresponse__descriptor, CLIENT_READ};
    struct answer *answers = ask_all(cli, &ask);
    code = report_failures(cli, "hash", answers);
    if (cli->format.kind == FORMAT_JSON) {
        print_json(cli, "HashKV", answers);
    } else {
        struct table table;
        table_init(&table, hashkv_titles, NB_ARRAY_LEN(hashkv_titles));
        for (size_t i = 0; i < count; i++) {
            const Etcdserverpb__HashKVResponse *h = answers[i].message;
            if (h == NULL) {
                continue;
            }
            if (cli->format.kind == FORMAT_FIELDS) {
                fields_hashkv(cli, i, h);
                continue;
            }
            table_add(&table, "%s", client_endpoint_name(cli->client, i));
            table_add(&table, "%" PRIu32, h->hash);
            table_add(&table, "%" PRId64, h->hash_revision);
        }
        if (cli->format.kind != FORMAT_FIELDS) {
            print_rows(cli, &table);
        }
        table_deinit(&table);
    }
    free_answers(answers, count);
    return code;
}

/* ---- health ---- */

static const char *const health_titles[] = {"endpoint", "health", "took", "error"};

/* What is wrong with an endpoint: "" when it is healthy. From arena of the command. */
static const char *health_error(struct cli *cli, const struct answer *read,
                                const struct answer *alarms)
{
    if (read->message == NULL && read->status != RPC_PERMISSION_DENIED) {
        return read->error;
    }
    if (alarms->message == NULL) {
        return "Unable to fetch the alarm list";
    }
    const Etcdserverpb__AlarmResponse *list = alarms->message;
    struct nb_buf text = {0};
    for (size_t i = 0; i < list->n_alarms; i++) {
        const char *name = list->alarms[i]->alarm == ETCDSERVERPB__ALARM_TYPE__NOSPACE   ? "NOSPACE"
                           : list->alarms[i]->alarm == ETCDSERVERPB__ALARM_TYPE__CORRUPT ? "CORRUPT"
                                                                                         : "NONE";
        nb_buf_printf(&text, "%s%s ", i == 0 ? "Active Alarm(s): " : "", name);
    }
    const char *kept = nb_arena_str(&cli->arena, nb_buf_bytes(&text));
    nb_buf_deinit(&text);
    return kept;
}

static void print_health(struct cli *cli, size_t endpoint, const char *took, const char *error,
                         struct table *table)
{
    const char *name = client_endpoint_name(cli->client, endpoint);
    bool healthy = error[0] == '\0';
    switch (cli->format.kind) {
    case FORMAT_JSON:
        nb_buf_append_str(&cli->out, endpoint == 0 ? "[{\"endpoint\":" : ",{\"endpoint\":");
        json_text(&cli->out, name);
        nb_buf_printf(&cli->out, ",\"health\":%s,\"took\":\"%s\"", healthy ? "true" : "false",
                      took);
        if (!healthy) {
            nb_buf_append_str(&cli->out, ",\"error\":");
            json_text(&cli->out, error);
        }
        nb_buf_append_str(&cli->out, "}");
        break;
    case FORMAT_FIELDS:
        print_endpoint_field(cli, endpoint);
        nb_buf_printf(&cli->out, "\"Health\" : %s\n\"Took\" : \"%s\"\n\"Error\" : ",
                      healthy ? "true" : "false", took);
        format_quoted(&cli->out, nb_bytes_str(error));
        nb_buf_append_str(&cli->out, "\n\n");
        break;
    case FORMAT_TABLE:
        table_add(table, "%s", name);
        table_add(table, "%s", healthy ? "true" : "false");
        table_add(table, "%s", took);
        table_add(table, "%s", error);
        break;
    case FORMAT_SIMPLE:
    case FORMAT_PROTOBUF:
    case FORMAT_KIND_COUNT:
        if (healthy) {
            nb_buf_printf(&cli->out, "%s is healthy: successfully committed proposal: took = %s\n",
                          name, took);
        } else {
            (void)fprintf(stderr, "%s is unhealthy: failed to commit proposal: %s\n", name, error);
        }
        break;
    }
}

static int run_health(struct cli *cli)
{
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    Etcdserverpb__AlarmRequest alarm = ETCDSERVERPB__ALARM_REQUEST__INIT;
    request.key = ops_text("health");
    int code = cli_connect_cluster(cli);
    if (code != CLI_OK) {
        return code;
    }
    size_t count = client_endpoint_count(cli->client);
    struct ask ask_read = {"/etcdserverpb.KV/Range", &request.base,
                           &etcdserverpb__range_response__descriptor, CLIENT_READ};
    struct ask ask_alarm = {"/etcdserverpb.Maintenance/Alarm", &alarm.base,
                            &etcdserverpb__alarm_response__descriptor,
                            CLIENT_READ | CLIENT_FAIL_FAST};
    struct answer *reads = ask_all(cli, &ask_read);
    struct answer *alarms = ask_all(cli, &ask_alarm);
    struct table table;
    table_init(&table, health_titles, NB_ARRAY_LEN(health_titles));
    for (size_t i = 0; i < count; i++) {
        struct nb_buf took = {0};
        nb_duration_print(&took, (int64_t)reads[i].took_ns);
        nb_buf_append(&took, "", 1);
        const char *error = health_error(cli, &reads[i], &alarms[i]);
        code = error[0] != '\0' ? CLI_ERROR : code;
        print_health(cli, i, (const char *)took.data, error, &table);
        nb_buf_deinit(&took);
    }
    if (cli->format.kind == FORMAT_TABLE) {
        table_print(&table, &cli->out);
    }
    nb_buf_append_str(&cli->out, cli->format.kind == FORMAT_JSON ? "]\n" : "");
    table_deinit(&table);
    free_answers(reads, count);
    free_answers(alarms, count);
    if (code != CLI_OK) {
        int flushed = cli_flush(cli);
        return flushed != CLI_OK ? flushed : cli_fail(CLI_ERROR, "unhealthy cluster");
    }
    return CLI_OK;
}

/* ---- rows of the table of commands ---- */

static const struct nb_option rows[] = {
    {.name = "cluster",
     .type = NB_OPTION_BOOL,
     .help = "ask all members that the cluster lists, not only --endpoints"},
};
static const struct ops_table options = {rows, NB_ARRAY_LEN(rows)};

static const struct nb_option hashkv_rows[] = {
    {.name = "cluster",
     .type = NB_OPTION_BOOL,
     .help = "ask all members that the cluster lists, not only --endpoints"},
    {.name = "rev", .type = NB_OPTION_INT64, .help = "hash up to this revision; 0: the latest"},
};
static const struct ops_table hashkv_options = {hashkv_rows, NB_ARRAY_LEN(hashkv_rows)};

static const struct nb_options_example health_examples[] = {
    {"nabata endpoint health --cluster", "does every member answer a linearizable read?"}};
static const struct nb_options_example status_examples[] = {
    {"nabata endpoint status --cluster -w table", "sizes, leader, term and index of each"}};
static const struct nb_options_example hashkv_examples[] = {
    {"nabata endpoint hashkv --cluster --rev 120", "equal hashes: equal history up to there"}};

const struct cli_command cli_command_endpoint_health = {
    .name = "endpoint health",
    .arguments = "",
    .help = "Asks whether endpoints are healthy",
    .group = "Cluster",
    .options = &options,
    .examples = health_examples,
    .example_count = NB_ARRAY_LEN(health_examples),
    .formats = CLI_FORMATS_ROWS,
    .run = run_health,
};

const struct cli_command cli_command_endpoint_status = {
    .name = "endpoint status",
    .arguments = "",
    .help = "Shows size, role and log position of endpoints",
    .group = "Cluster",
    .options = &options,
    .examples = status_examples,
    .example_count = NB_ARRAY_LEN(status_examples),
    .formats = CLI_FORMATS_ROWS,
    .run = run_status,
};

const struct cli_command cli_command_endpoint_hashkv = {
    .name = "endpoint hashkv",
    .arguments = "",
    .help = "Shows the hash of the data of endpoints",
    .group = "Cluster",
    .options = &hashkv_options,
    .examples = hashkv_examples,
    .example_count = NB_ARRAY_LEN(hashkv_examples),
    .formats = CLI_FORMATS_ROWS,
    .run = run_hashkv,
};

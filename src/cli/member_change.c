/* member add, remove, update, promote, and move-leader: who belongs to the cluster, and who leads
 * it. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* An id in hexadecimal, as every id is printed; false: an error was printed. */
static bool take_id(struct cli *cli, uint64_t *out)
{
    const char *text = cli->options.arguments[0];
    size_t len = strlen(text);
    bool fine = len != 0 && len <= 16 && strspn(text, "0123456789abcdefABCDEF") == len;
    if (!fine) {
        (void)cli_fail(CLI_BAD_ARGUMENTS,
                       "bad member ID arg (strconv.ParseUint: parsing \"%s\": %s), expecting ID in "
                       "Hex",
                       text, len > 16 ? "value out of range" : "invalid syntax");
        return false;
    }
    *out = strtoull(text, NULL, 16);
    return true;
}

/* --peer-urls in parts; NULL: an error was printed. */
static char **take_urls(struct cli *cli, size_t *out_count)
{
    const char *text = nb_options_string(&cli->options, "peer-urls");
    if (*text == '\0') {
        (void)cli_fail(CLI_BAD_ARGUMENTS, "member peer urls not provided");
        return NULL;
    }
    size_t count = 1;
    for (const char *p = text; *p != '\0'; p++) {
        count += *p == ',' ? 1 : 0;
    }
    char **urls = nb_arena_alloc_zero(&cli->arena, count, sizeof *urls);
    for (size_t i = 0; i < count; i++) {
        size_t len = strcspn(text, ",");
        urls[i] = nb_arena_str(&cli->arena, nb_bytes_of(text, len));
        text += len + (text[len] == ',' ? 1 : 0);
    }
    *out_count = count;
    return urls;
}

/* Everything but the simple text is made of the message alone. */
static bool print_message(struct cli *cli, const ProtobufCMessage *message)
{
    if (cli->format.kind == FORMAT_JSON) {
        format_json(&cli->out, message, cli->format.hex);
        nb_buf_append_str(&cli->out, "\n");
    } else if (cli->format.kind == FORMAT_PROTOBUF) {
        format_protobuf(&cli->out, message);
    }
    return cli->format.kind == FORMAT_JSON || cli->format.kind == FORMAT_PROTOBUF;
}

/* ---- member add ---- */

/* What the new member is to be started with, in etcd's variables. */
static void print_settings(struct cli *cli, const Etcdserverpb__MemberAddResponse *answer)
{
    const char *name = cli->options.arguments[0];
    nb_buf_printf(&cli->out, "\nETCD_NAME=\"%s\"\nETCD_INITIAL_CLUSTER=\"", name);
    bool first = true;
    for (size_t i = 0; i < answer->n_members; i++) {
        const Etcdserverpb__Member *m = answer->members[i];
        for (size_t k = 0; k < m->n_peerurls; k++) {
            nb_buf_printf(&cli->out, "%s%s=%s", first ? "" : ",",
                          m->id == answer->member->id ? name : m->name, m->peerurls[k]);
            first = false;
        }
    }
    nb_buf_printf(&cli->out,
                  "\"\nETCD_INITIAL_ADVERTISE_PEER_URLS=\"%s\"\n"
                  "ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
                  nb_options_string(&cli->options, "peer-urls"));
}

static int run_add(struct cli *cli)
{
    Etcdserverpb__MemberAddRequest request = ETCDSERVERPB__MEMBER_ADD_REQUEST__INIT;
    request.peerurls = take_urls(cli, &request.n_peerurls);
    request.islearner = nb_options_bool(&cli->options, "learner");
    int code = request.peerurls == NULL ? CLI_BAD_ARGUMENTS : cli_connect(cli, 1);
    if (code != CLI_OK) {
        return code;
    }
    Etcdserverpb__MemberAddResponse *answer =
        cli_ask(cli, "/etcdserverpb.Cluster/MemberAdd", &request.base,
                &etcdserverpb__member_add_response__descriptor, 0, &code);
    if (answer == NULL) {
        return code;
    }
    if (!print_message(cli, &answer->base)) {
        nb_buf_printf(&cli->out, "Member %16" PRIx64 " added to cluster %16" PRIx64 "\n",
                      answer->member->id, answer->header->cluster_id);
        print_settings(cli, answer);
    }
    cli_free(answer);
    return CLI_OK;
}

/* ---- member remove, update, promote ---- */

static int run_remove(struct cli *cli)
{
    Etcdserverpb__MemberRemoveRequest request = ETCDSERVERPB__MEMBER_REMOVE_REQUEST__INIT;
    int code = take_id(cli, &request.id) ? cli_connect(cli, 1) : CLI_BAD_ARGUMENTS;
    if (code != CLI_OK) {
        return code;
    }
    Etcdserverpb__MemberRemoveResponse *answer =
        cli_ask(cli, "/etcdserverpb.Cluster/MemberRemove", &request.base,
                &etcdserverpb__member_remove_response__descriptor, 0, &code);
    if (answer == NULL) {
        return code;
    }
    if (!print_message(cli, &answer->base)) {
        nb_buf_printf(&cli->out, "Member %16" PRIx64 " removed from cluster %16" PRIx64 "\n",
                      request.id, answer->header->cluster_id);
    }
    cli_free(answer);
    return CLI_OK;
}

static int run_update(struct cli *cli)
{
    Etcdserverpb__MemberUpdateRequest request = ETCDSERVERPB__MEMBER_UPDATE_REQUEST__INIT;
    if (!take_id(cli, &request.id)) {
        return CLI_BAD_ARGUMENTS;
    }
    request.peerurls = take_urls(cli, &request.n_peerurls);
    int code = request.peerurls == NULL ? CLI_BAD_ARGUMENTS : cli_connect(cli, 1);
    if (code != CLI_OK) {
        return code;
    }
    Etcdserverpb__MemberUpdateResponse *answer =
        cli_ask(cli, "/etcdserverpb.Cluster/MemberUpdate", &request.base,
                &etcdserverpb__member_update_response__descriptor, 0, &code);
    if (answer == NULL) {
        return code;
    }
    if (!print_message(cli, &answer->base)) {
        nb_buf_printf(&cli->out, "Member %16" PRIx64 " updated in cluster %16" PRIx64 "\n",
                      request.id, answer->header->cluster_id);
    }
    cli_free(answer);
    return CLI_OK;
}

static int run_promote(struct cli *cli)
{
    Etcdserverpb__MemberPromoteRequest request = ETCDSERVERPB__MEMBER_PROMOTE_REQUEST__INIT;
    int code = take_id(cli, &request.id) ? cli_connect(cli, 1) : CLI_BAD_ARGUMENTS;
    if (code != CLI_OK) {
        return code;
    }
    Etcdserverpb__MemberPromoteResponse *answer =
        cli_ask(cli, "/etcdserverpb.Cluster/MemberPromote", &request.base,
                &etcdserverpb__member_promote_response__descriptor, 0, &code);
    if (answer == NULL) {
        return code;
    }
    if (!print_message(cli, &answer->base)) {
        nb_buf_printf(&cli->out, "Member %16" PRIx64 " promoted in cluster %16" PRIx64 "\n",
                      request.id, answer->header->cluster_id);
    }
    cli_free(answer);
    return CLI_OK;
}

/* ---- move-leader ---- */

struct status_answer {
    uint64_t leader, member;
};

static void on_status(void *user, const struct client_reply *reply)
{
    struct status_answer *out = user;
    Etcdserverpb__StatusResponse *status =
        reply->status == RPC_OK
            ? etcdserverpb__status_response__unpack(NULL, reply->message.len, reply->message.data)
            : NULL;
    if (status != NULL && status->header != NULL) {
        *out =
            (struct status_answer){.leader = status->leader, .member = status->header->member_id};
    }
    if (status != NULL) {
        etcdserverpb__status_response__free_unpacked(status, NULL);
    }
}

/* Which endpoint is the leader's, by asking each; its own id goes to `out_leader`. */
static bool find_leader(struct cli *cli, size_t *out_endpoint, uint64_t *out_leader)
{
    size_t count = client_endpoint_count(cli->client);
    struct status_answer *answers = nb_arena_alloc_zero(&cli->arena, count, sizeof *answers);
    for (size_t i = 0; i < count; i++) {
        struct client_request request = {.path = "/etcdserverpb.Maintenance/Status",
                                         .flags = CLIENT_READ,
                                         .endpoint = i,
                                         .on_done = on_status,
                                         .user = &answers[i]};
        (void)client_start(cli->client, &request);
    }
    client_run(cli->client, NULL);
    for (size_t i = 0; i < count; i++) {
        if (answers[i].member != 0 && answers[i].leader == answers[i].member) {
            *out_endpoint = i;
            *out_leader = answers[i].member;
            return true;
        }
    }
    return false;
}

static int run_move_leader(struct cli *cli)
{
    Etcdserverpb__MoveLeaderRequest request = ETCDSERVERPB__MOVE_LEADER_REQUEST__INIT;
    size_t endpoint = 0;
    uint64_t leader = 0;
    int code = take_id(cli, &request.targetid) ? cli_connect(cli, 1) : CLI_BAD_ARGUMENTS;
    if (code != CLI_OK) {
        return code;
    }
    if (!find_leader(cli, &endpoint, &leader)) {
        return cli_fail(CLI_BAD_ARGUMENTS, "no leader endpoint given at %s",
                        nb_options_string(&cli->options, "endpoints"));
    }
    const char *address =
        nb_arena_str(&cli->arena, nb_bytes_str(client_endpoint_name(cli->client, endpoint)));
    code = cli_reconnect(cli, &address, 1, 1);
    if (code != CLI_OK) {
        return code;
    }
    Etcdserverpb__MoveLeaderResponse *answer =
        cli_ask(cli, "/etcdserverpb.Maintenance/MoveLeader", &request.base,
                &etcdserverpb__move_leader_response__descriptor, 0, &code);
    if (answer == NULL) {
        return code;
    }
    if (!print_message(cli, &answer->base)) {
        nb_buf_printf(&cli->out, "Leadership transferred from %16" PRIx64 " to %16" PRIx64 "\n",
                      leader, request.targetid);
    }
    cli_free(answer);
    return CLI_OK;
}

/* ---- the table's rows ---- */

static const struct nb_option add_rows[] = {
    {.name = "peer-urls",
     .type = NB_OPTION_STRING,
     .default_text = "",
     .help = "where the others reach the new member, separated by commas"},
    {.name = "learner",
     .type = NB_OPTION_BOOL,
     .help = "it gets everything but does not vote until it is promoted"},
};
static const struct ops_table add_options = {add_rows, NB_ARRAY_LEN(add_rows)};
static const struct ops_table update_options = {add_rows, 1};

static const struct nb_options_example add_examples[] = {
    {"nabata member add n4 --learner --peer-urls http://n4:2380",
     "then start n4 with what this prints"},
};
static const struct nb_options_example remove_examples[] = {
    {"nabata member remove 8e9e05c52164694d", "ids are in the first column of member list"},
};
static const struct nb_options_example update_examples[] = {
    {"nabata member update 8e9e05c52164694d --peer-urls http://n4:2380", "it has moved"},
};
static const struct nb_options_example promote_examples[] = {
    {"nabata member promote 8e9e05c52164694d", "refused while it lags behind: try again"},
};
static const struct nb_options_example move_examples[] = {
    {"nabata move-leader 8e9e05c52164694d", "ids are in the first column of member list"},
};

const struct cli_command cli_command_member_add = {
    .name = "member add",
    .arguments = "NAME",
    .help = "Adds a member to the cluster",
    .more = "Start it afterwards, with an empty data folder and --initial-cluster-state existing.",
    .group = "Cluster",
    .options = &add_options,
    .argument_min = 1,
    .argument_max = 1,
    .examples = add_examples,
    .example_count = NB_ARRAY_LEN(add_examples),
    .formats = CLI_FORMATS_CHANGE,
    .run = run_add,
};

const struct cli_command cli_command_member_remove = {
    .name = "member remove",
    .examples = remove_examples,
    .example_count = NB_ARRAY_LEN(remove_examples),
    .arguments = "ID",
    .help = "Removes a member from the cluster",
    .more = "Its process ends with exit code 5, and its data can not be used again.",
    .group = "Cluster",
    .argument_min = 1,
    .argument_max = 1,
    .formats = CLI_FORMATS_CHANGE,
    .run = run_remove,
};

const struct cli_command cli_command_member_update = {
    .name = "member update",
    .examples = update_examples,
    .example_count = NB_ARRAY_LEN(update_examples),
    .arguments = "ID",
    .help = "Gives a member other peer URLs",
    .group = "Cluster",
    .options = &update_options,
    .argument_min = 1,
    .argument_max = 1,
    .formats = CLI_FORMATS_CHANGE,
    .run = run_update,
};

const struct cli_command cli_command_member_promote = {
    .name = "member promote",
    .examples = promote_examples,
    .example_count = NB_ARRAY_LEN(promote_examples),
    .arguments = "ID",
    .help = "Lets a learner vote",
    .group = "Cluster",
    .argument_min = 1,
    .argument_max = 1,
    .formats = CLI_FORMATS_CHANGE,
    .run = run_promote,
};

const struct cli_command cli_command_move_leader = {
    .name = "move-leader",
    .arguments = "ID",
    .help = "Hands leadership to another member",
    .group = "Cluster",
    .argument_min = 1,
    .argument_max = 1,
    .examples = move_examples,
    .example_count = NB_ARRAY_LEN(move_examples),
    .formats = CLI_FORMATS_CHANGE,
    .run = run_move_leader,
};

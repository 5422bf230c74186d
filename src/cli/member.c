/* member list: who belongs to the cluster. */
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/table.h"

#include <inttypes.h>

static const char *const titles[] = {"ID",         "Status",       "Name",
                                     "Peer Addrs", "Client Addrs", "Is Learner"};

static void print_table(struct nb_buf *out, const Etcdserverpb__MemberListResponse *answer)
{
    struct table table;
    table_init(&table, titles, NB_ARRAY_LEN(titles));
    for (size_t i = 0; i < answer->n_members; i++) {
        const Etcdserverpb__Member *m = answer->members[i];
        struct nb_buf peers = {0}, clients = {0};
        format_joined(&peers, m->peerurls, m->n_peerurls, ",");
        format_joined(&clients, m->clienturls, m->n_clienturls, ",");
        table_add(&table, "%" PRIx64, m->id);
        table_add(&table, "%s", m->name[0] != '\0' ? "started" : "unstarted");
        table_add(&table, "%s", m->name);
        table_add(&table, "%.*s", (int)peers.len, peers.len > 0 ? (const char *)peers.data : "");
        table_add(&table, "%.*s", (int)clients.len,
                  clients.len > 0 ? (const char *)clients.data : "");
        table_add(&table, "%s", m->islearner ? "true" : "false");
        nb_buf_deinit(&peers);
        nb_buf_deinit(&clients);
    }
    table_print(&table, out);
    table_deinit(&table);
}

static int run(struct cli *cli)
{
    Etcdserverpb__MemberListRequest request = ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT;
    request.linearizable = nb_options_choice(&cli->options, "consistency") == 0;
    int code = cli_connect(cli, 1);
    if (code != CLI_OK) {
        return code;
    }
    Etcdserverpb__MemberListResponse *answer =
        cli_ask(cli, "/etcdserverpb.Cluster/MemberList", &request.base,
                &etcdserverpb__member_list_response__descriptor, CLIENT_READ, &code);
    if (answer == NULL) {
        return code;
    }
    if (cli->format.kind == FORMAT_TABLE) {
        print_table(&cli->out, answer);
    } else {
        format_members(&cli->out, &cli->format, answer);
    }
    cli_free(answer);
    return CLI_OK;
}

static const struct nb_option rows[] = {
    {.name = "consistency",
     .type = NB_OPTION_CHOICE,
     .choices = "l,s",
     .default_text = "l",
     .help = "l: linearizable, s: serializable (works without a leader)"},
};
static const struct ops_table options = {rows, NB_ARRAY_LEN(rows)};

static const struct nb_options_example examples[] = {
    {"nabata member list -w table", "members with their addresses"},
};

const struct cli_command cli_command_member_list = {
    .name = "member list",
    .arguments = "",
    .help = "Lists the members of the cluster",
    .group = "Cluster",
    .options = &options,
    .examples = examples,
    .example_count = NB_ARRAY_LEN(examples),
    .formats = CLI_FORMATS_MESSAGE | CLI_FORMATS_ROWS,
    .run = run,
};

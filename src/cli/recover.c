/*
 * recover: when the quorum is lost for good, the best survivor goes on alone.
 *
 * Shows what the folder and those members that still answer hold, names the best of them, asks for
 * the cluster's name (its id), and then does it, or leaves the order for the server that runs
 * there. [M13]
 */
#include "server/recover.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "server/server.h"
#include "server/standing.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ANSWER_SIZE_MAX = 64 };

static const uint64_t ask_ns = 3 * CLI_NS_PER_S;

/* One member as far as it is known. */
struct candidate {
    const struct machine_member *member;
    bool here, answered;
    uint64_t leader, term, last_index, last_term;
};

/* All that listen are asked, leader or not. */
static void ask_all(struct candidate *all, const struct server_survivor *s)
{
    struct server_standing said[MACHINE_MEMBER_COUNT_MAX];
    server_standing_ask(&s->members, s->member_id, ask_ns, said);
    for (size_t i = 0; i < s->members.count; i++) {
        if (!all[i].here && said[i].answered) {
            all[i].answered = true;
            all[i].leader = said[i].leader_id;
            all[i].term = said[i].term;
            all[i].last_index = said[i].last_index;
            all[i].last_term = said[i].last_term;
        }
    }
}

static void print_candidates(struct cli *cli, const struct candidate *all, size_t count)
{
    static const char *const titles[] = {"member",     "id",     "term", "last term",
                                         "last index", "leader", "state"};
    struct table table;
    table_init(&table, titles, NB_ARRAY_LEN(titles));
    for (size_t i = 0; i < count; i++) {
        const struct candidate *c = &all[i];
        const char *name = c->member->name;
        table_add(&table, "%s", name != NULL && name[0] != '\0' ? name : "(never started)");
        table_add(&table, "%" PRIx64, c->member->id);
        if (c->answered) {
            table_add(&table, "%" PRIu64, c->term);
            table_add(&table, "%" PRIu64, c->last_term);
            table_add(&table, "%" PRIu64, c->last_index);
        } else {
            table_add(&table, "-");
            table_add(&table, "-");
            table_add(&table, "-");
        }
        if (c->leader != 0) {
            table_add(&table, "%" PRIx64, c->leader);
        } else {
            table_add(&table, "-");
        }
        table_add(&table, "%s", c->here ? "this folder" : c->answered ? "answers" : "no answer");
    }
    table_print(&table, &cli->out);
    table_deinit(&table);
}

/* Whether a's log is the better one: its last entry has the higher term, or it is longer. [Raft
 * 5.4.1] */
static bool is_better(const struct candidate *a, const struct candidate *b)
{
    if (a->last_term != b->last_term) {
        return a->last_term > b->last_term;
    }
    return a->last_index > b->last_index || (a->last_index == b->last_index && a->here);
}

static const struct candidate *best_of(const struct candidate *all, size_t count)
{
    const struct candidate *best = NULL;
    for (size_t i = 0; i < count; i++) {
        const struct candidate *c = &all[i];
        if (c->answered && !c->member->is_learner && (best == NULL || is_better(c, best))) {
            best = c;
        }
    }
    return best;
}

static bool has_quorum(const struct candidate *all, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!all[i].here && all[i].answered && all[i].leader != 0) {
            return true;
        }
    }
    return false;
}

/* The cluster's name from --cluster, else from the person at the terminal. */
static bool confirmed(struct cli *cli, uint64_t cluster_id)
{
    char wanted[24], given[ANSWER_SIZE_MAX] = "";
    (void)snprintf(wanted, sizeof wanted, "%" PRIx64, cluster_id);
    const char *option = nb_options_string(&cli->options, "cluster");
    if (option != NULL && option[0] != '\0') {
        return strcmp(option, wanted) == 0;
    }
    if (cli_flush(cli) != CLI_OK) {
        return false;
    }
    (void)fprintf(stderr,
                  "This member will go on alone, as a new cluster. Type the cluster's name (%s) to "
                  "go on: ",
                  wanted);
    (void)fflush(stderr);
    if (fgets(given, sizeof given, stdin) == NULL) {
        return false;
    }
    given[strcspn(given, "\r\n")] = '\0';
    return strcmp(given, wanted) == 0;
}

static int fail_with(struct nb_buf *message, int code)
{
    while (message->len != 0 && message->data[message->len - 1] == '\n') {
        message->len--;
    }
    return cli_fail(code == SERVER_EXIT_DISK ? CLI_IO : CLI_ERROR, "%.*s", (int)message->len,
                    message->len != 0 ? (const char *)message->data : "");
}

static int carry_out(struct cli *cli, const char *dir, uint64_t cluster_id)
{
    struct nb_buf message = {0};
    bool running = false;
    int result = CLI_OK;
    int code = server_recover(dir, cluster_id, &running, &message);
    if (code == SERVER_EXIT_OK) {
        nb_buf_append_bytes(&cli->out, nb_buf_bytes(&message));
        nb_buf_append_str(&cli->out, "Start the server; then add the others as new members, each "
                                     "with an empty folder (with --statefulset they come by "
                                     "themselves).\n");
    } else if (running) {
        nb_buf_clear(&message);
        code = server_recover_order(dir, cluster_id, &message);
        if (code == SERVER_EXIT_OK) {
            nb_buf_append_str(&cli->out,
                              "A server runs in this folder: it goes on alone at its next "
                              "start. Restart it now (in Kubernetes: delete its pod).\n");
        } else {
            result = fail_with(&message, code);
        }
    } else {
        result = fail_with(&message, code);
    }
    nb_buf_deinit(&message);
    return result;
}

static int recover_from(struct cli *cli, const char *dir, const struct server_survivor *s)
{
    struct candidate all[MACHINE_MEMBER_COUNT_MAX] = {0};
    size_t count = s->members.count;
    for (size_t i = 0; i < count; i++) {
        all[i].member = &s->members.items[i];
        if (s->members.items[i].id == s->member_id) {
            all[i].here = all[i].answered = true;
            all[i].term = s->term;
            all[i].last_index = s->last_index;
            all[i].last_term = s->last_term;
        }
    }
    ask_all(all, s);
    nb_buf_printf(&cli->out, "cluster %" PRIx64 ", %zu members\n", s->cluster_id, count);
    print_candidates(cli, all, count);
    if (has_quorum(all, count)) {
        return cli_fail(CLI_ERROR,
                        "the cluster has a leader: its quorum is not lost. Use `member remove` and "
                        "`member add` for members that are gone");
    }
    const struct candidate *best = best_of(all, count);
    if (best == NULL) {
        return cli_fail(CLI_ERROR, "this folder is not of a voting member of its cluster");
    }
    nb_buf_printf(&cli->out, "best survivor: %s%s\n", best->member->name,
                  best->here ? " (this folder)" : "");
    if (!best->here && !nb_options_bool(&cli->options, "even-if-behind")) {
        return cli_fail(CLI_ERROR,
                        "%s has a longer log: run this there, or lose what only it has with "
                        "--even-if-behind",
                        best->member->name);
    }
    if (!confirmed(cli, s->cluster_id)) {
        return cli_fail(CLI_ERROR, "that is not the cluster's name: nothing was changed");
    }
    return carry_out(cli, dir, s->cluster_id);
}

static int run(struct cli *cli)
{
    const char *dir = nb_options_string(&cli->options, "data-dir");
    const char *from_env = getenv("ETCD_DATA_DIR");
    dir = dir != NULL && dir[0] != '\0' ? dir : from_env;
    if (dir == NULL || dir[0] == '\0') {
        return cli_fail(CLI_BAD_ARGUMENTS, "--data-dir names no folder");
    }
    struct server_survivor survivor;
    struct nb_buf message = {0};
    int code = server_recover_look(dir, &survivor, &message);
    code = code == SERVER_EXIT_OK ? recover_from(cli, dir, &survivor) : fail_with(&message, code);
    server_survivor_deinit(&survivor);
    nb_buf_deinit(&message);
    return code;
}

static const struct nb_option rows[] = {
    {.name = "data-dir",
     .type = NB_OPTION_STRING,
     .metavar = "DIR",
     .help = "folder of the survivor; also from ETCD_DATA_DIR"},
    {.name = "cluster",
     .type = NB_OPTION_STRING,
     .metavar = "ID",
     .help = "the cluster's name, for scripts: nothing is asked then"},
    {.name = "even-if-behind",
     .type = NB_OPTION_BOOL,
     .help = "although another member that answers has a longer log"},
};
static const struct ops_table options = {rows, NB_ARRAY_LEN(rows)};

static const struct nb_options_example examples[] = {
    {"nabata recover --data-dir /var/lib/nabata", "shows who has what, asks, and goes on alone"},
    {"kubectl exec -it ss-0 -- /nabata recover --data-dir /data/nabata",
     "in a pod that has no leader"},
};

const struct cli_command cli_command_recover = {
    .name = "recover",
    .arguments = "",
    .help = "Lets one survivor go on alone when the quorum is lost for good",
    .more = "All that its log holds is kept, committed or not. The old folder stays beside the new "
            "one. Members of the old cluster that come back are told that they were removed. "
            "Run it on the member that it names as the best.",
    .group = "Cluster",
    .options = &options,
    .examples = examples,
    .example_count = NB_ARRAY_LEN(examples),
    .formats = CLI_FORMAT(FORMAT_SIMPLE),
    .run = run,
};

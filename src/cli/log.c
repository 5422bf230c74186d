/* log: the log of operations of a node, or of several side by side. */
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "nabata.pb-c.h"

#include <inttypes.h>
#include <stdio.h>

enum { KEYS_SHOWN_MAX = 3, KEY_COLUMNS_MAX = 40 };

/* What one endpoint has shown: entries in rising order of index. */
struct shown {
    struct nb_buf pieces;       /* LogResponses, one after the other: by protobuf, one */
    Nabatapb__LogResponse *log; /* owned */
    size_t next;                /* first entry not printed yet */
    char error[256];            /* why it does not answer; "" when it did */
};

static void gather(void *user, struct nb_bytes message)
{
    struct shown *shown = user;
    nb_buf_append_bytes(&shown->pieces, message);
}

/* One node that is down does not hide the others. */
static int fetch(struct cli *cli, size_t endpoint, bool alone, struct shown *shown)
{
    Nabatapb__LogRequest request = NABATAPB__LOG_REQUEST__INIT;
    struct nb_buf bytes = {0};
    struct client_answer answer;
    int code = CLI_OK;
    request.first_index = nb_options_uint64(&cli->options, "first");
    request.limit = nb_options_uint64(&cli->options, "limit");
    cli_pack(&bytes, &request.base);
    struct client_request call = {.path = "/nabatapb.Inspect/Log",
                                  .message = nb_buf_bytes(&bytes),
                                  .flags = CLIENT_READ,
                                  .endpoint = endpoint,
                                  .on_message = gather,
                                  .user = shown};
    client_call_sync(cli->client, &call, &answer);
    if (answer.status == RPC_UNIMPLEMENTED) {
        code = cli_fail(CLI_BAD_FEATURE, "%s does not show its log: it is no nabata server",
                        client_endpoint_name(cli->client, endpoint));
    } else if (answer.status != RPC_OK && alone) {
        code = cli_fail_call(&answer);
    } else if (answer.status != RPC_OK) {
        (void)snprintf(shown->error, sizeof shown->error, "%s",
                       answer.error[0] != '\0' ? answer.error : rpc_status_name(answer.status));
    } else {
        shown->log = nabatapb__log_response__unpack(NULL, shown->pieces.len, shown->pieces.data);
        code = shown->log != NULL ? CLI_OK : cli_fail(CLI_ERROR, "the log cannot be decoded");
    }
    client_answer_deinit(&answer);
    nb_buf_deinit(&bytes);
    return code;
}

static void add_keys(struct table *table, const Nabatapb__LogEntry *entry)
{
    struct nb_buf text = {0};
    for (size_t i = 0; i < entry->n_keys && i < KEYS_SHOWN_MAX; i++) {
        struct nb_bytes key = nb_bytes_of(entry->keys[i].data, entry->keys[i].len);
        bool cut = key.len > KEY_COLUMNS_MAX;
        key.len = cut ? KEY_COLUMNS_MAX : key.len;
        nb_buf_append_str(&text, i > 0 ? " " : "");
        format_quoted(&text, key);
        nb_buf_append_str(&text, cut ? "..." : "");
    }
    nb_buf_append_str(&text, entry->n_keys > KEYS_SHOWN_MAX ? " ..." : "");
    table_add(table, "%.*s", (int)text.len, text.len > 0 ? (const char *)text.data : "");
    nb_buf_deinit(&text);
}

static const Nabatapb__LogEntry *next_entry(const struct shown *shown)
{
    return shown->log != NULL && shown->next < shown->log->n_entries
               ? shown->log->entries[shown->next]
               : NULL;
}

/* One row an index; true if the nodes that have it differ. */
static bool add_row(struct table *table, struct shown *all, size_t count, uint64_t index)
{
    const Nabatapb__LogEntry *first = NULL;
    bool differ = false;
    for (size_t i = 0; i < count; i++) {
        const Nabatapb__LogEntry *entry = next_entry(&all[i]);
        if (entry == NULL || entry->index != index) {
            continue;
        }
        differ =
            differ || (first != NULL && (first->hash != entry->hash || first->term != entry->term));
        first = first == NULL ? entry : first;
    }
    nb_assert(first != NULL);
    table_add(table, "%" PRIu64 "%s", index, first->committed ? "" : " (uncommitted)");
    table_add(table, "%" PRIu64, first->term);
    table_add(table, "%s", first->kind);
    add_keys(table, first);
    table_add(table, "%" PRIu32, first->size);
    for (size_t i = 0; i < count; i++) {
        const Nabatapb__LogEntry *entry = next_entry(&all[i]);
        if (entry == NULL || entry->index != index) {
            table_add(table, "-");
            continue;
        }
        table_add(table, "%016" PRIx64, entry->hash);
        all[i].next++;
    }
    if (count > 1) {
        table_add(table, "%s", differ ? "DIFFERENT" : "");
    }
    return differ;
}

/* Rows until all are printed; the count of indices at which the nodes differ. */
static size_t add_rows(struct table *table, struct shown *all, size_t count)
{
    size_t different = 0;
    for (;;) {
        uint64_t index = UINT64_MAX;
        for (size_t i = 0; i < count; i++) {
            const Nabatapb__LogEntry *entry = next_entry(&all[i]);
            index = entry != NULL && entry->index < index ? entry->index : index;
        }
        if (index == UINT64_MAX) {
            return different;
        }
        different += add_row(table, all, count, index);
    }
}

/* Says who does not answer; the count of those who do. */
static size_t tell_down(struct cli *cli, const struct shown *all, size_t count)
{
    size_t up = 0;
    for (size_t i = 0; i < count; i++) {
        if (all[i].error[0] == '\0') {
            up++;
        } else if (cli->format.kind != FORMAT_JSON) {
            nb_buf_printf(&cli->out, "Down: %s: %s\n", client_endpoint_name(cli->client, i),
                          all[i].error);
        }
    }
    return up;
}

static void print_json(struct cli *cli, const struct shown *all, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        nb_buf_append_str(&cli->out, i > 0 ? ",{\"Endpoint\":" : "[{\"Endpoint\":");
        format_quoted(&cli->out, nb_bytes_str(client_endpoint_name(cli->client, i)));
        if (all[i].log != NULL) {
            nb_buf_append_str(&cli->out, ",\"Log\":");
            format_json(&cli->out, &all[i].log->base, cli->format.hex);
        } else {
            nb_buf_append_str(&cli->out, ",\"Error\":");
            format_quoted(&cli->out, nb_bytes_str(all[i].error));
        }
        nb_buf_append_str(&cli->out, "}");
    }
    nb_buf_append_str(&cli->out, "]\n");
}

static int print(struct cli *cli, struct shown *all, size_t count)
{
    size_t column_count = 5 + count + (count > 1 ? 1 : 0);
    const char **titles = nb_arena_alloc(&cli->arena, column_count * sizeof *titles);
    static const char *const fixed[] = {"index", "term", "kind", "keys", "size"};
    for (size_t i = 0; i < column_count; i++) {
        titles[i] = i < 5           ? fixed[i]
                    : i < 5 + count ? client_endpoint_name(cli->client, i - 5)
                                    : "";
    }
    struct table table;
    table_init(&table, titles, column_count);
    size_t different = add_rows(&table, all, count);
    table_print(&table, &cli->out);
    table_deinit(&table);
    if (different > 0) {
        nb_buf_printf(&cli->out, "%zu indices hold different entries\n", different);
        return CLI_ERROR;
    }
    nb_buf_append_str(&cli->out, count > 1 ? "the same entry at every common index\n" : "");
    return CLI_OK;
}

static int run(struct cli *cli)
{
    int code = cli_connect(cli, 1);
    if (code != CLI_OK) {
        return code;
    }
    size_t count = client_endpoint_count(cli->client);
    struct shown *all = nb_alloc_zero(count, sizeof *all);
    for (size_t i = 0; i < count && code == CLI_OK; i++) {
        code = fetch(cli, i, count == 1, &all[i]);
    }
    if (code == CLI_OK && tell_down(cli, all, count) == 0) {
        nb_buf_clear(&cli->out);
        code = cli_fail(CLI_BAD_CONNECTION, "no node answers; the first: %s", all[0].error);
    }
    if (code == CLI_OK && cli->format.kind == FORMAT_JSON) {
        print_json(cli, all, count);
    } else if (code == CLI_OK) {
        code = print(cli, all, count);
    }
    for (size_t i = 0; i < count; i++) {
        cli_free(all[i].log);
        nb_buf_deinit(&all[i].pieces);
    }
    nb_free(all);
    return code;
}

static const struct nb_option rows[] = {
    {.name = "first", .type = NB_OPTION_UINT64, .help = "from this index on; 0: the oldest kept"},
    {.name = "limit", .type = NB_OPTION_UINT64, .help = "at most so many entries; 0: all"},
};
static const struct ops_table options = {rows, NB_ARRAY_LEN(rows)};

static const struct nb_options_example examples[] = {
    {"nabata log --first 100 --limit 20", "twenty entries of one node"},
    {"nabata log --endpoints m1:2379,m2:2379,m3:2379", "three logs side by side"},
};

const struct cli_command cli_command_log = {
    .name = "log",
    .arguments = "",
    .help = "Prints the log of operations of a node, or compares several",
    .more = "A node that is down is shown and is no failure. Exit code 1 if nodes hold different "
            "entries at an index they share, 2 if no node answers.",
    .group = "Cluster",
    .options = &options,
    .examples = examples,
    .example_count = NB_ARRAY_LEN(examples),
    .formats = CLI_FORMAT(FORMAT_SIMPLE) | CLI_FORMAT(FORMAT_TABLE) | CLI_FORMAT(FORMAT_JSON),
    .run = run,
};

/* txn: several operations as one, after comparisons. */
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/txn_parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const prompts[TXN_PART_COUNT] = {
    "compares:", "\nsuccess requests (get, put, del):", "\nfailure requests (get, put, del):"};

/* A mistake in a line ends the command; interactively the person may write the line again. */
static int read_lines(struct txn_parse *parse, bool interactive)
{
    char *line = NULL;
    size_t capacity = 0;
    struct nb_buf error = {0};
    int code = CLI_OK;
    enum txn_part prompted = TXN_PART_COUNT;
    while (parse->part != TXN_PART_COUNT && code == CLI_OK) {
        if (interactive && prompted != parse->part) {
            prompted = parse->part;
            (void)puts(prompts[parse->part]);
            (void)fflush(stdout);
        }
        ssize_t len = getline(&line, &capacity, stdin);
        if (len < 0) {
            break; /* the end of the input ends all parts */
        }
        line[strcspn(line, "\n")] = '\0';
        nb_buf_clear(&error);
        if (!txn_parse_line(parse, line, &error)) {
            nb_buf_append(&error, "", 1);
            code = cli_fail(CLI_BAD_INPUT, "%s", (const char *)error.data);
        }
    }
    free(line);
    nb_buf_deinit(&error);
    return code;
}

static int run(struct cli *cli)
{
    struct txn_parse parse = {.arena = &cli->arena};
    bool interactive = nb_options_bool(&cli->options, "interactive");
    int code = read_lines(&parse, interactive);
    Etcdserverpb__TxnRequest request;
    txn_parse_request(&parse, &request);
    code = code == CLI_OK ? cli_connect(cli, 1) : code;
    Etcdserverpb__TxnResponse *answer = NULL;
    if (code == CLI_OK) {
        answer = cli_ask(cli, "/etcdserverpb.KV/Txn", &request.base,
                         &etcdserverpb__txn_response__descriptor, 0, &code);
    }
    if (answer != NULL) {
        nb_buf_append_str(&cli->out, interactive ? "\n" : "");
        format_txn(&cli->out, &cli->format, answer);
        cli_free(answer);
    }
    txn_parse_deinit(&parse);
    return code;
}

static const struct nb_option rows[] = {
    {.name = "interactive",
     .letter = 'i',
     .type = NB_OPTION_BOOL,
     .help = "ask for the parts of the transaction one by one"},
};
static const struct ops_table options = {rows, NB_ARRAY_LEN(rows)};

static const struct nb_options_example examples[] = {
    {"nabata txn -i", "asks for comparisons, then for what to do"},
    {"printf 'ver(\"k\") = \"0\"\\n\\nput k new\\n\\nget k\\n' | nabata txn",
     "writes k unless it exists, else reads it"},
};

const struct cli_command cli_command_txn = {
    .name = "txn",
    .arguments = "",
    .help = "Does several operations as one, if comparisons hold",
    .more = "From stdin: comparisons, like mod(\"k\") > \"0\" (of version, create, mod, value, "
            "lease), an empty line, put, get and del for success, an empty line, the same for "
            "failure.",
    .group = "Keys",
    .options = &options,
    .examples = examples,
    .example_count = NB_ARRAY_LEN(examples),
    .formats = CLI_FORMATS_MESSAGE,
    .run = run,
};

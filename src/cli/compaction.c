/* compaction: forgets history. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <inttypes.h>

static int run(struct cli *cli)
{
    Etcdserverpb__CompactionRequest request = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
    if (!nb_int64_parse(cli->options.arguments[0], &request.revision)) {
        return cli_fail(CLI_BAD_ARGUMENTS, "bad revision \"%s\": a number is needed",
                        cli->options.arguments[0]);
    }
    request.physical = nb_options_bool(&cli->options, "physical");
    int code = cli_connect(cli, 1);
    if (code != CLI_OK) {
        return code;
    }
    void *answer = cli_ask(cli, "/etcdserverpb.KV/Compact", &request.base,
                           &etcdserverpb__compaction_response__descriptor, 0, &code);
    if (answer == NULL) {
        return code;
    }
    nb_buf_printf(&cli->out, "compacted revision %" PRId64 "\n", request.revision);
    cli_free(answer);
    return CLI_OK;
}

static const struct nb_option rows[] = {
    {.name = "physical",
     .type = NB_OPTION_BOOL,
     .help = "wait until the member asked has removed the old revisions"},
};
static const struct ops_table options = {rows, NB_ARRAY_LEN(rows)};

static const struct nb_options_example examples[] = {
    {"nabata compaction 1200", "what was before revision 1200 can no longer be read"},
};

const struct cli_command cli_command_compaction = {
    .name = "compaction",
    .arguments = "REVISION",
    .help = "Forgets the history before a revision",
    .group = "Keys",
    .options = &options,
    .argument_min = 1,
    .argument_max = 1,
    .examples = examples,
    .example_count = NB_ARRAY_LEN(examples),
    .formats = CLI_FORMATS_MESSAGE | CLI_FORMATS_ROWS,
    .run = run,
};

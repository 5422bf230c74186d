/* del: deletes keys. */
#include "cli/cli.h"
#include "cli/commands.h"

static int run(struct cli *cli)
{
    Etcdserverpb__DeleteRangeRequest request = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    struct nb_buf error = {0};
    int code = CLI_OK;
    if (!ops_del(&cli->options, &cli->arena, &request, &error)) {
        nb_buf_append(&error, "", 1);
        code = cli_fail(CLI_BAD_ARGUMENTS, "%s", (const char *)error.data);
    }
    nb_buf_deinit(&error);
    code = code == CLI_OK ? cli_connect(cli, 1) : code;
    if (code != CLI_OK) {
        return code;
    }
    Etcdserverpb__DeleteRangeResponse *answer =
        cli_ask(cli, "/etcdserverpb.KV/DeleteRange", &request.base,
                &etcdserverpb__delete_range_response__descriptor, 0, &code);
    if (answer == NULL) {
        return code;
    }
    format_delete(&cli->out, &cli->format, answer);
    cli_free(answer);
    return CLI_OK;
}

static const struct nb_options_example examples[] = {
    {"nabata del greeting", "one key; prints how many were deleted"},
    {"nabata del --prefix users/", "all keys that begin with \"users/\""},
    {"nabata del --from-key \"\"", "everything"},
};

const struct cli_command cli_command_del = {
    .name = "del",
    .arguments = "KEY [RANGE_END]",
    .help = "Deletes a key, or a range of keys",
    .group = "Keys",
    .options = &ops_del_options,
    .argument_min = 1,
    .argument_max = 2,
    .examples = examples,
    .example_count = NB_ARRAY_LEN(examples),
    .formats = CLI_FORMATS_MESSAGE,
    .run = run,
};

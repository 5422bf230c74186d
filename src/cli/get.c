/* get: reads keys. */
#include "cli/cli.h"
#include "cli/commands.h"

static void gather(void *user, struct nb_bytes message)
{
    nb_buf_append_bytes(user, message);
}

/* The pieces of a stream, one after the other, are by protobuf's rules the encoding of the whole.
 */
static int stream(struct cli *cli, const Etcdserverpb__RangeRequest *request)
{
    struct nb_buf bytes = {0}, pieces = {0};
    struct client_answer answer;
    cli_pack(&bytes, &request->base);
    struct client_request call = {.path = "/etcdserverpb.KV/RangeStream",
                                  .message = nb_buf_bytes(&bytes),
                                  .flags = CLIENT_READ,
                                  .endpoint = CLIENT_ANY,
                                  .on_message = gather,
                                  .user = &pieces};
    int code = CLI_OK;
    client_call_sync(cli->client, &call, &answer);
    if (answer.status != RPC_OK) {
        code = cli_fail_call(&answer);
    } else {
        Etcdserverpb__RangeStreamResponse *whole =
            etcdserverpb__range_stream_response__unpack(NULL, pieces.len, pieces.data);
        if (whole == NULL || whole->range_response == NULL) {
            code = cli_fail(CLI_ERROR, "the pieces of the answer cannot be decoded");
        } else {
            format_range(&cli->out, &cli->format, whole->range_response);
        }
        cli_free(whole);
    }
    client_answer_deinit(&answer);
    nb_buf_deinit(&bytes);
    nb_buf_deinit(&pieces);
    return code;
}

static int ask(struct cli *cli, const Etcdserverpb__RangeRequest *request)
{
    int code = cli_connect(cli, 1);
    if (code != CLI_OK) {
        return code;
    }
    if (nb_options_bool(&cli->options, "stream")) {
        return stream(cli, request);
    }
    Etcdserverpb__RangeResponse *answer =
        cli_ask(cli, "/etcdserverpb.KV/Range", &request->base,
                &etcdserverpb__range_response__descriptor, CLIENT_READ, &code);
    if (answer == NULL) {
        return code;
    }
    format_range(&cli->out, &cli->format, answer);
    cli_free(answer);
    return CLI_OK;
}

static int run(struct cli *cli)
{
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    struct nb_buf error = {0};
    int code;
    cli->format.value_only = nb_options_bool(&cli->options, "print-value-only");
    if (!ops_get(&cli->options, &cli->arena, &request, &error)) {
        nb_buf_append(&error, "", 1);
        code = cli_fail(CLI_BAD_ARGUMENTS, "%s", (const char *)error.data);
    } else if (request.count_only && cli->format.kind == FORMAT_SIMPLE) {
        code = cli_fail(CLI_BAD_ARGUMENTS,
                        "--count-only is only for `--write-out=fields` and `--write-out=json`");
    } else if (cli->format.value_only && cli->format.kind != FORMAT_SIMPLE) {
        code = cli_fail(CLI_BAD_ARGUMENTS, "print-value-only is only for `--write-out=simple`");
    } else if (request.keys_only && cli->format.value_only) {
        code = cli_fail(CLI_BAD_ARGUMENTS, "--keys-only and --print-value-only leave nothing");
    } else {
        code = ask(cli, &request);
    }
    nb_buf_deinit(&error);
    return code;
}

static const struct nb_options_example examples[] = {
    {"nabata get greeting", "the key and its value"},
    {"nabata get --prefix users/ --keys-only", "all keys that begin with \"users/\""},
    {"nabata get a c", "the keys from \"a\" on, before \"c\""},
    {"nabata get greeting --rev 5 -w json", "as it was at revision 5, for a script"},
};

const struct cli_command cli_command_get = {
    .name = "get",
    .arguments = "KEY [RANGE_END]",
    .help = "Reads a key, or a range of keys",
    .group = "Keys",
    .options = &ops_get_options,
    .argument_min = 1,
    .argument_max = 2,
    .examples = examples,
    .example_count = NB_ARRAY_LEN(examples),
    .formats = CLI_FORMATS_MESSAGE,
    .run = run,
};

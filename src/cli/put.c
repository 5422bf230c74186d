/* put: writes one key. */
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/ops.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { STDIN_BYTES_MAX = 64 << 20, STDIN_TURN_BYTES = 64 << 10 };

static bool read_stdin(struct nb_buf *out)
{
    for (;;) {
        nb_buf_reserve(out, STDIN_TURN_BYTES);
        ssize_t got = read(STDIN_FILENO, out->data + out->len, STDIN_TURN_BYTES);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0 || out->len > STDIN_BYTES_MAX) {
            return got == 0;
        }
        out->len += (size_t)got;
    }
}

static int send_put(struct cli *cli, const Etcdserverpb__PutRequest *request)
{
    int code = cli_connect(cli, 1);
    if (code != CLI_OK) {
        return code;
    }
    Etcdserverpb__PutResponse *answer = cli_ask(cli, "/etcdserverpb.KV/Put", &request->base,
                                                &etcdserverpb__put_response__descriptor, 0, &code);
    if (answer == NULL) {
        return code;
    }
    format_put(&cli->out, &cli->format, answer);
    cli_free(answer);
    return CLI_OK;
}

static int run(struct cli *cli)
{
    Etcdserverpb__PutRequest request = ETCDSERVERPB__PUT_REQUEST__INIT;
    struct nb_buf error = {0}, value = {0};
    int code;
    bool from_stdin =
        cli->options.argument_count == 1 && !nb_options_bool(&cli->options, "ignore-value");
    const char *words[2] = {cli->options.arguments[0], ""};
    struct nb_options options = cli->options; /* a view with the value filled in */
    if (from_stdin) {
        options.arguments = words;
        options.argument_count = 2;
        if (!read_stdin(&value)) {
            nb_buf_deinit(&value);
            return cli_fail(CLI_IO, "the value cannot be read from stdin");
        }
    }
    if (!ops_put(&options, &request, &error)) {
        nb_buf_append(&error, "", 1);
        code = cli_fail(CLI_BAD_ARGUMENTS, "%s", (const char *)error.data);
    } else {
        if (from_stdin) {
            request.value = ops_bytes(nb_buf_bytes(&value));
        }
        code = send_put(cli, &request);
    }
    nb_buf_deinit(&error);
    nb_buf_deinit(&value);
    return code;
}

static const struct nb_options_example examples[] = {
    {"nabata put greeting hello", "writes \"hello\" under \"greeting\""},
    {"nabata put config < config.json", "takes the value from stdin"},
    {"nabata put --prev-kv greeting bye", "also shows what was there before"},
};

const struct cli_command cli_command_put = {
    .name = "put",
    .arguments = "KEY [VALUE]",
    .help = "Writes a key",
    .more = "Without VALUE it is read from stdin.",
    .group = "Keys",
    .options = &ops_put_options,
    .argument_min = 1,
    .argument_max = 2,
    .examples = examples,
    .example_count = NB_ARRAY_LEN(examples),
    .formats = CLI_FORMATS_MESSAGE,
    .run = run,
};

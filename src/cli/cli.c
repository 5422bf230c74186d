#include "cli/cli.h"

#include "cli/commands.h"
#include "cli/endpoints.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* clang-format off */
static const struct nb_option global_options[] = {
    {.name = "endpoints", .type = NB_OPTION_LIST, .default_text = "127.0.0.1:2379",
     .metavar = "HOST:PORT,...", .group = "Connection", .help = "members to talk to; also from ETCDCTL_ENDPOINTS or NABATA_ENDPOINTS"},
    {.name = "service", .type = NB_OPTION_STRING,
     .metavar = "NAME", .group = "Connection", .help = "when no endpoints are given: the members behind this service, by its SRV records _client._tcp.NAME, or all its addresses; also from NABATA_SERVICE"},
    {.name = "client-port", .type = NB_OPTION_UINT64, .default_text = "6000",
     .metavar = "PORT", .group = "Connection", .help = "port of a service's addresses, when it has no SRV records; also from NABATA_CLIENT_PORT"},
    {.name = "discovery-srv", .letter = 'd', .type = NB_OPTION_STRING,
     .metavar = "DOMAIN", .group = "Connection", .help = "members from SRV records _etcd-client._tcp.DOMAIN, before --endpoints"},
    {.name = "discovery-srv-name", .type = NB_OPTION_STRING,
     .metavar = "NAME", .group = "Connection", .help = "then of _etcd-client-NAME._tcp.DOMAIN"},
    {.name = "command-timeout", .type = NB_OPTION_DURATION, .default_text = "5s",
     .group = "Connection", .help = "how long one request may take"},
    {.name = "dial-timeout", .type = NB_OPTION_DURATION, .default_text = "2s",
     .group = "Connection", .help = "how long to try to connect"},
    {.name = "write-out", .letter = 'w', .type = NB_OPTION_CHOICE, .default_text = "simple",
     .choices = "simple,json,fields,table,protobuf", .group = "Output", .help = "format of the output"},
    {.name = "hex", .type = NB_OPTION_BOOL, .group = "Output", .help = "print bytes as \\x61\\x62, and ids in hex"},
    {.name = "debug", .type = NB_OPTION_BOOL, .flags = NB_OPTION_IGNORED},
    {.name = "keepalive-time", .type = NB_OPTION_DURATION, .default_text = "2s", .flags = NB_OPTION_IGNORED},
    {.name = "keepalive-timeout", .type = NB_OPTION_DURATION, .default_text = "6s", .flags = NB_OPTION_IGNORED},
    {.name = "max-request-bytes", .type = NB_OPTION_INT64, .flags = NB_OPTION_IGNORED},
    {.name = "max-recv-bytes", .type = NB_OPTION_INT64, .flags = NB_OPTION_IGNORED},
    {.name = "insecure-transport", .type = NB_OPTION_BOOL, .default_text = "true", .flags = NB_OPTION_IGNORED},
    {.name = "insecure-discovery", .type = NB_OPTION_BOOL, .default_text = "true", .flags = NB_OPTION_IGNORED},
    {.name = "insecure-skip-tls-verify", .type = NB_OPTION_BOOL, .flags = NB_OPTION_UNSUPPORTED | NB_OPTION_HIDDEN, .reason = "TLS is not supported by this client yet"},
    {.name = "cert", .type = NB_OPTION_STRING, .flags = NB_OPTION_UNSUPPORTED | NB_OPTION_HIDDEN, .reason = "TLS is not supported by this client yet"},
    {.name = "key", .type = NB_OPTION_STRING, .flags = NB_OPTION_UNSUPPORTED | NB_OPTION_HIDDEN, .reason = "TLS is not supported by this client yet"},
    {.name = "cacert", .type = NB_OPTION_STRING, .flags = NB_OPTION_UNSUPPORTED | NB_OPTION_HIDDEN, .reason = "TLS is not supported by this client yet"},
    {.name = "user", .type = NB_OPTION_STRING, .flags = NB_OPTION_UNSUPPORTED | NB_OPTION_HIDDEN, .reason = "authentication is not supported by this client yet"},
    {.name = "password", .type = NB_OPTION_STRING, .flags = NB_OPTION_UNSUPPORTED | NB_OPTION_HIDDEN, .reason = "authentication is not supported by this client yet"},
    {.name = "auth-jwt-token", .type = NB_OPTION_STRING, .flags = NB_OPTION_UNSUPPORTED | NB_OPTION_HIDDEN, .reason = "authentication is not supported by this client yet"},
};
/* clang-format on */

/* ---- words on the way out ---- */

bool cli_color(int fd)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    return isatty(fd) == 1 && (no_color == NULL || no_color[0] == '\0') &&
           (term == NULL || strcmp(term, "dumb") != 0);
}

int cli_fail(int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)fputs(cli_color(STDERR_FILENO) ? "\033[31mError:\033[0m " : "Error: ", stderr);
    (void)vfprintf(stderr, format, arguments);
    (void)fputc('\n', stderr);
    va_end(arguments);
    return code;
}

int cli_fail_call(const struct client_answer *answer)
{
    nb_assert(answer->status != RPC_OK);
    if (answer->status == RPC_UNAVAILABLE && !answer->sent) {
        return cli_fail(CLI_BAD_CONNECTION,
                        "cannot connect: %s (is the server running? name it with --endpoints)",
                        answer->error);
    }
    if (answer->status == RPC_UNIMPLEMENTED) {
        return cli_fail(CLI_ERROR, "%s (the server does not know this request)", answer->error);
    }
    if (answer->status == RPC_DEADLINE_EXCEEDED) {
        return cli_fail(CLI_ERROR,
                        "%s (no answer in time: is there a leader? see `endpoint status`; or give "
                        "more time with --command-timeout)",
                        answer->error);
    }
    if (answer->status == RPC_RESOURCE_EXHAUSTED && strstr(answer->error, "space") != NULL) {
        return cli_fail(CLI_ERROR, "%s (delete keys and compact, or raise the server's quota)",
                        answer->error);
    }
    return cli_fail(CLI_ERROR, "%s",
                    answer->error[0] != '\0' ? answer->error : rpc_status_name(answer->status));
}

int cli_flush(struct cli *cli)
{
    size_t done = 0;
    while (done < cli->out.len) {
        ssize_t wrote = write(STDOUT_FILENO, cli->out.data + done, cli->out.len - done);
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote < 0) {
            int why = errno;
            nb_buf_clear(&cli->out);
            return why == EPIPE ? CLI_IO : cli_fail(CLI_IO, "writing output: %s", strerror(why));
        }
        done += (size_t)wrote;
    }
    nb_buf_clear(&cli->out);
    return CLI_OK;
}

/* ---- calls ---- */

int cli_reconnect(struct cli *cli, const char *const *endpoints, size_t count, unsigned lanes)
{
    client_destroy(cli->client);
    cli->client = NULL;
    struct net_error error = {{0}};
    struct client_config config = {
        .endpoints = endpoints,
        .endpoint_count = count,
        .lanes = lanes,
        .dial_timeout_ns = (uint64_t)nb_options_duration_ns(&cli->options, "dial-timeout"),
        .call_timeout_ns = (uint64_t)nb_options_duration_ns(&cli->options, "command-timeout"),
    };
    if (count == 0) {
        return cli_fail(CLI_BAD_ARGUMENTS, "--endpoints names no endpoint");
    }
    if (cli->loop == NULL) {
        cli->loop = net_loop_create();
    }
    if (client_create(cli->loop, &config, &cli->client, &error) != NB_OK) {
        return cli_fail(CLI_BAD_ARGUMENTS, "bad endpoint: %s", error.text);
    }
    return CLI_OK;
}

int cli_connect(struct cli *cli, unsigned lanes)
{
    const struct nb_option_value *list = nb_options_get(&cli->options, "endpoints");
    struct endpoints_source from = {
        .discovery_srv = nb_options_string(&cli->options, "discovery-srv"),
        .discovery_srv_name = nb_options_string(&cli->options, "discovery-srv-name"),
        .service = nb_options_string(&cli->options, "service"),
    };
    bool given = nb_options_given(&cli->options, "endpoints");
    if (*from.discovery_srv == '\0' && (given || *from.service == '\0')) {
        return cli_reconnect(cli, list->items, list->item_count, lanes);
    }
    uint64_t port = nb_options_uint64(&cli->options, "client-port");
    if (port == 0 || port > UINT16_MAX) {
        return cli_fail(CLI_BAD_ARGUMENTS, "--client-port must be from 1 to 65535");
    }
    from.client_port = (uint16_t)port;
    if (cli->loop == NULL) {
        cli->loop = net_loop_create();
    }
    struct endpoints_found found;
    struct net_error error;
    if (endpoints_find(cli->loop, &from, &cli->arena, &found, &error) != NB_OK) {
        return cli_fail(CLI_BAD_CONNECTION, "no member of %s found: %s",
                        *from.discovery_srv != '\0' ? from.discovery_srv : from.service,
                        error.text);
    }
    return cli_reconnect(cli, found.items, found.count, lanes);
}

void cli_pack(struct nb_buf *out, const ProtobufCMessage *message)
{
    format_protobuf(out, message);
}

void *cli_ask(struct cli *cli, const char *path, const ProtobufCMessage *request,
              const ProtobufCMessageDescriptor *descriptor, unsigned flags, int *out_code)
{
    struct nb_buf bytes = {0};
    struct client_answer answer;
    void *message = NULL;
    cli_pack(&bytes, request);
    struct client_request call = {
        .path = path, .message = nb_buf_bytes(&bytes), .flags = flags, .endpoint = CLIENT_ANY};
    client_call_sync(cli->client, &call, &answer);
    if (answer.status != RPC_OK) {
        *out_code = cli_fail_call(&answer);
    } else {
        message =
            protobuf_c_message_unpack(descriptor, NULL, answer.message.len, answer.message.data);
        if (message == NULL) {
            *out_code = cli_fail(CLI_ERROR, "%s: the answer of %s cannot be decoded", path,
                                 client_endpoint_name(cli->client, answer.endpoint));
        }
    }
    client_answer_deinit(&answer);
    nb_buf_deinit(&bytes);
    return message;
}

void cli_free(void *message)
{
    protobuf_c_message_free_unpacked(message, NULL);
}

int cli_connect_cluster(struct cli *cli)
{
    int code = cli_connect(cli, 1);
    if (code != CLI_OK || !nb_options_bool(&cli->options, "cluster")) {
        return code;
    }
    Etcdserverpb__MemberListRequest request = ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT;
    Etcdserverpb__MemberListResponse *members =
        cli_ask(cli, "/etcdserverpb.Cluster/MemberList", &request.base,
                &etcdserverpb__member_list_response__descriptor, CLIENT_READ, &code);
    if (members == NULL) {
        return code;
    }
    const char **urls = NULL;
    size_t count = 0, capacity = 0;
    for (size_t i = 0; i < members->n_members; i++) {
        for (size_t j = 0; j < members->members[i]->n_clienturls; j++) {
            urls = nb_grow(urls, &capacity, count + 1, sizeof *urls);
            urls[count++] = members->members[i]->clienturls[j];
        }
    }
    code = count == 0 ? cli_fail(CLI_ERROR, "no member has published a client URL yet")
                      : cli_reconnect(cli, urls, count, 1);
    nb_free(urls);
    cli_free(members);
    return code;
}

/* ---- help ---- */

static void help_command(const struct cli *cli, struct nb_buf *out)
{
    const struct cli_command *command = cli->command;
    struct nb_buf usage = {0}, summary = {0};
    nb_buf_printf(&usage, "%s %s%s%s [options]", cli->program, command->name,
                  command->arguments[0] != '\0' ? " " : "", command->arguments);
    nb_buf_append(&usage, "", 1);
    nb_buf_printf(&summary, "%s%s%s", command->help, command->more != NULL ? ". " : "",
                  command->more != NULL ? command->more : "");
    nb_buf_append(&summary, "", 1);
    struct nb_options_help help = {
        .usage = (const char *)usage.data,
        .summary = (const char *)summary.data,
        .examples = command->examples,
        .example_count = command->example_count,
        .width = nb_terminal_width(STDOUT_FILENO),
        .color = cli_color(STDOUT_FILENO),
    };
    nb_options_help_print(&cli->options, &help, out);
    nb_buf_deinit(&usage);
    nb_buf_deinit(&summary);
}

static void help_all(const struct cli *cli, struct nb_buf *out)
{
    bool color = cli_color(STDOUT_FILENO);
    const char *group = "";
    nb_buf_printf(out,
                  "nabata is a replicated key-value store that speaks etcd's v3 API.\n\n"
                  "Usage: %s COMMAND [arguments] [options]\n",
                  cli->program);
    for (size_t i = 0; i < cli_command_count; i++) {
        const struct cli_command *command = cli_commands[i];
        if (strcmp(group, command->group) != 0) {
            group = command->group;
            nb_buf_printf(out, color ? "\n\033[1m%s\033[0m\n" : "\n%s\n", group);
        }
        nb_buf_printf(out, "  %-18s %s\n", command->name, command->help);
    }
    nb_buf_printf(out, color ? "\n\033[1mExamples\033[0m\n" : "\nExamples\n");
    nb_buf_printf(out,
                  "  %s playground                          a cluster of three to play with\n"
                  "  %s put greeting hello                  write a key\n"
                  "  %s get --prefix \"\"                     read them all\n"
                  "  %s check m1:2379 m2:2379 m3:2379       prove that a cluster works\n"
                  "\n`%s COMMAND --help` shows a command's options and examples; the options "
                  "--endpoints,\n-w and the like go before or after the command.\n",
                  cli->program, cli->program, cli->program, cli->program, cli->program);
}

/* ---- a run ---- */

/* `nabata member --help`: what there is of it. False: nothing begins so. */
static bool help_group(struct cli *cli, const char *word)
{
    size_t len = strlen(word);
    bool found = false;
    for (size_t i = 0; i < cli_command_count; i++) {
        const struct cli_command *command = cli_commands[i];
        if (strncmp(command->name, word, len) == 0 && command->name[len] == ' ') {
            if (!found) {
                nb_buf_printf(&cli->out, "Usage: %s %s COMMAND [arguments] [options]\n\n",
                              cli->program, word);
            }
            nb_buf_printf(&cli->out, "  %-18s %s\n", command->name, command->help);
            found = true;
        }
    }
    if (found) {
        nb_buf_printf(&cli->out,
                      "\n`%s %s COMMAND --help` shows a command's options and examples.\n",
                      cli->program, word);
    }
    return found;
}

static int unknown_command(const struct cli *cli)
{
    const char *const *words = cli->options.arguments;
    size_t count = cli->options.argument_count;
    struct nb_buf inside = {0};
    for (size_t i = 0; i < cli_command_count; i++) {
        const char *name = cli_commands[i]->name;
        size_t len = strlen(words[0]);
        if (strncmp(name, words[0], len) == 0 && name[len] == ' ') {
            nb_buf_printf(&inside, "%s%s", inside.len > 0 ? ", " : "", name);
        }
    }
    nb_buf_append(&inside, "", 1);
    const struct cli_command *near = cli_command_nearest(words, count);
    int code;
    if (inside.len > 1) {
        code = cli_fail(CLI_BAD_ARGUMENTS, "%s needs a second word: %s", words[0],
                        (const char *)inside.data);
    } else if (near != NULL) {
        code = cli_fail(CLI_BAD_ARGUMENTS,
                        "unknown command \"%s\"; did you mean \"%s\"? (`%s help` lists them all)",
                        words[0], near->name, cli->program);
    } else {
        code = cli_fail(CLI_BAD_ARGUMENTS, "unknown command \"%s\" (`%s help` lists them all)",
                        words[0], cli->program);
    }
    nb_buf_deinit(&inside);
    return code;
}

static int bad_options(struct nb_buf *message)
{
    nb_buf_append(message, "", 1);
    return cli_fail(CLI_BAD_ARGUMENTS, "%s", (const char *)message->data);
}

static int check_arguments(const struct cli *cli)
{
    const struct cli_command *command = cli->command;
    size_t count = cli->options.argument_count;
    if (count >= command->argument_min && count <= command->argument_max) {
        return CLI_OK;
    }
    return cli_fail(CLI_BAD_ARGUMENTS, "%s: too %s arguments; usage: %s %s%s%s", command->name,
                    count < command->argument_min ? "few" : "many", cli->program, command->name,
                    command->arguments[0] != '\0' ? " " : "", command->arguments);
}

static int check_format(struct cli *cli)
{
    static const char *const names[FORMAT_KIND_COUNT] = {"simple", "json", "fields", "table",
                                                         "protobuf"};
    cli->format.kind = (enum format_kind)nb_options_choice(&cli->options, "write-out");
    cli->format.hex = nb_options_bool(&cli->options, "hex");
    if ((cli->command->formats & CLI_FORMAT(cli->format.kind)) == 0) {
        return cli_fail(CLI_BAD_FEATURE, "%s not supported as output format",
                        names[cli->format.kind]);
    }
    return CLI_OK;
}

/* `arguments` are the words after the command's name. */
static int run_command(struct cli *cli, char *const *arguments, size_t count)
{
    struct nb_buf message = {0};
    if (cli->command->options != NULL) {
        nb_options_add(&cli->options, cli->command->options->rows, cli->command->options->count);
    }
    enum nb_options_result parsed =
        nb_options_parse(&cli->options, NB_OPTIONS_PFLAG, (int)count, arguments, &message);
    int code = CLI_OK;
    if (parsed == NB_OPTIONS_BAD) {
        code = bad_options(&message);
    } else if (parsed == NB_OPTIONS_HELP) {
        help_command(cli, &cli->out);
    } else {
        code = check_arguments(cli);
        code = code == CLI_OK ? check_format(cli) : code;
        code = code == CLI_OK ? cli->command->run(cli) : code;
    }
    nb_buf_deinit(&message);
    int flushed = cli_flush(cli);
    return code == CLI_OK ? flushed : code;
}

static int run_words(struct cli *cli, int argc, char **argv)
{
    const char *const *words = cli->options.arguments;
    size_t count = cli->options.argument_count;
    size_t used = 0;
    bool help = count > 0 && strcmp(words[0], "help") == 0;
    if (count == 0 || (help && count == 1)) {
        help_all(cli, &cli->out);
        int flushed = cli_flush(cli);
        return count == 0 ? CLI_BAD_ARGUMENTS : flushed;
    }
    bool asks =
        help || (count == 2 && (strcmp(words[1], "--help") == 0 || strcmp(words[1], "-h") == 0));
    if (asks && count == 2 && help_group(cli, words[help ? 1 : 0])) {
        return cli_flush(cli);
    }
    cli->options.arguments += help ? 1 : 0; /* put back below: it is an owned array */
    cli->options.argument_count -= help ? 1 : 0;
    cli->command = cli_command_find(words + (help ? 1 : 0), count - (help ? 1 : 0), &used);
    int code = cli->command == NULL ? unknown_command(cli) : CLI_OK;
    cli->options.arguments -= help ? 1 : 0;
    cli->options.argument_count += help ? 1 : 0;
    if (cli->command == NULL) {
        return code;
    }
    /* The words are the tail of argv, as parsing stopped at the first of them. */
    char **tail = argv + argc - (int)count;
    if (help) {
        char help_word[] = "--help";
        char *only[] = {tail[0], help_word, NULL};
        return cli->command->run_raw != NULL ? cli->command->run_raw(2, only)
                                             : run_command(cli, only + 1, 1);
    }
    if (cli->command->run_raw != NULL) {
        return cli->command->run_raw((int)count, tail);
    }
    return run_command(cli, tail + used, count - used);
}

static int run_globals(struct cli *cli, int argc, char **argv, char *const *envp)
{
    struct nb_buf message = {0};
    int code;
    enum nb_options_result parsed = nb_options_parse(&cli->options, NB_OPTIONS_PFLAG_UNTIL_ARGUMENT,
                                                     argc - 1, argv + 1, &message);
    if (parsed == NB_OPTIONS_HELP) {
        help_all(cli, &cli->out);
        nb_buf_deinit(&message);
        return cli_flush(cli);
    }
    static const char *const prefixes[] = {"ETCDCTL", "NABATA"};
    for (size_t i = 0; i < NB_ARRAY_LEN(prefixes) && parsed == NB_OPTIONS_OK; i++) {
        parsed = nb_options_environment(&cli->options, prefixes[i], envp, &message);
    }
    if (parsed == NB_OPTIONS_BAD) {
        code = bad_options(&message);
    } else {
        code = run_words(cli, argc, argv);
    }
    nb_buf_deinit(&message);
    return code;
}

int cli_main(int argc, char **argv, char *const *envp)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = argc == 0 ? "nabata" : slash != NULL ? slash + 1 : argv[0];
    if (strcmp(name, "etcd") == 0) {
        return cli_command_server.run_raw(argc, argv);
    }
    struct cli cli = {.program = strcmp(name, "etcdctl") == 0 ? "etcdctl" : "nabata"};
    char version[] = "version";
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        argv[1] = version;
    }
    nb_options_init(&cli.options);
    nb_options_add(&cli.options, global_options, NB_ARRAY_LEN(global_options));
    int code = run_globals(&cli, argc, argv, envp);
    client_destroy(cli.client);
    if (cli.loop != NULL) {
        net_loop_destroy(cli.loop);
    }
    nb_options_deinit(&cli.options);
    nb_buf_deinit(&cli.out);
    nb_arena_deinit(&cli.arena);
    return code;
}

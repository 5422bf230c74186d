/* version: what this program is, and what it speaks. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <string.h>

#ifndef NABATA_VERSION
#define NABATA_VERSION "0.1.0"
#endif

static int run(struct cli *cli)
{
    if (strcmp(cli->program, "etcdctl") == 0) {
        nb_buf_append_str(&cli->out, "etcdctl version: 3.7.1\nAPI version: 3.7\n");
    } else {
        nb_buf_append_str(&cli->out, "nabata version: " NABATA_VERSION "\nAPI version: 3.7\n");
    }
    return CLI_OK;
}

static const struct nb_options_example examples[] = {{"nabata version", "both versions"}};

const struct cli_command cli_command_version = {
    .name = "version",
    .arguments = "",
    .help = "Prints the version of the program and of the API",
    .group = "Other",
    .examples = examples,
    .example_count = NB_ARRAY_LEN(examples),
    .formats = CLI_FORMATS_MESSAGE | CLI_FORMATS_ROWS,
    .run = run,
};

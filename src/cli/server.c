/* cli/server: `nabata server`, and `etcd`: the flags and the life of a member are server/'s. */
#include "server/server.h"

#include "cli/cli.h"
#include "cli/commands.h"

#include <string.h>
#include <unistd.h>

/* Through a link named etcd the first word is the program itself. */
static int run(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    bool as_etcd = strcmp(slash == NULL ? argv[0] : slash + 1, "etcd") == 0;
    return server_main(argc, argv, environ, as_etcd);
}

const struct cli_command cli_command_server = {
    .name = "server",
    .arguments = "[flags]",
    .help = "Runs a member, with etcd's flags and ETCD_* variables",
    .group = "Servers",
    .run_raw = run,
};

/* server: runs a member. It reads etcd's flags and variables by itself. */
#ifdef NABATA_HAVE_SERVER
#include "server/server.h"
#include "cli/cli.h"
#include "cli/commands.h"

#include <string.h>

/* `nabata server ...` and `etcd ...`: argv[0] tells which, what follows is flags. */
static int run_raw(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    bool as_etcd = strcmp(slash != NULL ? slash + 1 : argv[0], "etcd") == 0;
    return server_main(argc, argv, as_etcd);
}

const struct cli_command cli_command_server = {
    .name = "server",
    .arguments = "",
    .help = "Runs a member of a cluster; takes etcd's flags",
    .group = "Servers",
    .run_raw = run_raw,
};
#else
/* ISO C wants something in every file. */
extern const int cli_server_is_not_built;
const int cli_server_is_not_built = 1;
#endif

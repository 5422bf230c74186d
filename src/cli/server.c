/* cli/server: `nabata server`: the flags and the life of a member are server/'s. */
#include "cli/server.h"

#include "server/server.h"

#include <unistd.h>

int cli_server(int argc, char **argv)
{
    return server_main(argc, argv, environ, false);
}

int cli_server_as_etcd(int argc, char **argv)
{
    return server_main(argc, argv, environ, true);
}

/* The one program: server, command line, checker, benchmark and playground. */
#include "cli/cli.h"

#include <signal.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN);
    return cli_main(argc, argv, environ);
}

/* The one program: server, command line, checker, benchmark and playground. */
#include "cli/cli.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* Who starts us may have closed the standard descriptors. The next files opened would get their
 * numbers, and log lines would be written into the log of the replica. So they are taken, in a way
 * that reading and writing still fail. [Z07] */
static void hold_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) {
            exit(CLI_ERROR); /* there is nowhere to say why */
        }
    }
}

int main(int argc, char **argv)
{
    hold_standard_descriptors();
    (void)signal(SIGPIPE, SIG_IGN);
    return cli_main(argc, argv, environ);
}

/*
 * cli/server: the command that runs a member.
 */
#ifndef NABATA_CLI_SERVER_H
#define NABATA_CLI_SERVER_H

/* argv[0] is the program (or the command's name), flags follow. Returns the exit code. */
int cli_server(int argc, char **argv);
/* The same, speaking as etcd: through a link of that name. */
int cli_server_as_etcd(int argc, char **argv);

#endif

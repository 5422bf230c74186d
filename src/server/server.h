/*
 * server: the process: storage opened, one replica between peers and clients, signals, order of
 * start and stop.
 *
 * Exit codes of `nabata server`:
 *
 *   0  stopped by SIGTERM or SIGINT in good order (as `etcd`: dies by that signal, as etcd does)
 *   1  bad configuration, or the start failed (a port in use, a folder that cannot be written)
 *   2  bad flag
 *   3  the disk failed or is full: nothing more could be promised
 *   4  damage: the log or the backend is not what was written
 *   5  this member was removed, or another process or a later life of it holds its identity; with
 *      --statefulset its data is kept aside instead, and it joins as a new member
 */
#ifndef NABATA_SERVER_SERVER_H
#define NABATA_SERVER_SERVER_H

#include <stdbool.h>

enum server_exit {
    SERVER_EXIT_OK = 0,
    SERVER_EXIT_START = 1,
    SERVER_EXIT_FLAG = 2,
    SERVER_EXIT_DISK = 3,
    SERVER_EXIT_DAMAGE = 4,
    SERVER_EXIT_REMOVED = 5,
};

/* Runs a member until it stops; argv[0] is the program, flags follow. Returns the exit code. */
int server_main(int argc, char *const *argv, char *const *envp, bool as_etcd);

#endif

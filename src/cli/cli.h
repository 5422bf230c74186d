/*
 * cli: the command line: one table of commands, a file for each.
 *
 * A command gets a struct cli with its options parsed, calls the cluster through it and returns the
 * exit code. What it prints goes through `out` and reaches stdout when it returns (or cli_flush),
 * so nothing half-done is printed before an error.
 */
#ifndef NABATA_CLI_CLI_H
#define NABATA_CLI_CLI_H

#include "base/options.h"
#include "cli/format.h"
#include "cli/ops.h"
#include "client/client.h"

#include <protobuf-c/protobuf-c.h>

/* Exit codes, etcdctl's. */
enum {
    CLI_OK = 0,
    CLI_ERROR = 1,
    CLI_BAD_CONNECTION = 2,
    CLI_BAD_INPUT = 3,
    CLI_BAD_FEATURE = 4,
    CLI_INTERRUPTED = 5,
    CLI_IO = 6,
    CLI_BAD_ARGUMENTS = 128,
};

#define CLI_NS_PER_S 1000000000ULL
#define CLI_NS_PER_MS 1000000ULL

struct cli_command;

struct cli {
    const char *program; /* "nabata", "etcdctl" */
    const struct cli_command *command;
    struct nb_options options; /* the global ones and the command's */
    struct format format;
    struct net_loop *loop; /* owned */
    struct client *client; /* owned; after cli_connect */
    struct nb_buf out;     /* owned */
    struct nb_arena arena; /* owned; what lives as long as the command */
};

struct cli_command {
    const char *name;                /* "put", "endpoint status" */
    const char *arguments;           /* "KEY VALUE" */
    const char *help;                /* one line */
    const char *more;                /* or NULL: further sentences */
    const char *group;               /* heading in the list of commands */
    const struct ops_table *options; /* or NULL */
    size_t argument_min, argument_max;
    const struct nb_options_example *examples;
    size_t example_count;
    unsigned formats; /* bits of enum format_kind that it prints */
    int (*run)(struct cli *cli);
    /* Instead of `run`: gets argv from the command's name on; parses for itself. */
    int (*run_raw)(int argc, char **argv);
};

#define CLI_FORMAT(kind) (1u << (kind))
#define CLI_FORMATS_MESSAGE                                                                        \
    (CLI_FORMAT(FORMAT_SIMPLE) | CLI_FORMAT(FORMAT_JSON) | CLI_FORMAT(FORMAT_FIELDS) |             \
     CLI_FORMAT(FORMAT_PROTOBUF))
/* Changes, of which the simple text is a sentence. */
#define CLI_FORMATS_CHANGE                                                                         \
    (CLI_FORMAT(FORMAT_SIMPLE) | CLI_FORMAT(FORMAT_JSON) | CLI_FORMAT(FORMAT_PROTOBUF))
#define CLI_FORMATS_ROWS                                                                           \
    (CLI_FORMAT(FORMAT_SIMPLE) | CLI_FORMAT(FORMAT_JSON) | CLI_FORMAT(FORMAT_FIELDS) |             \
     CLI_FORMAT(FORMAT_TABLE))

/* All of it: the program named by argv[0] with its arguments. Returns the exit code. */
int cli_main(int argc, char **argv, char *const *envp);

/* The table of commands, in the order of the help text. */
extern const struct cli_command *const cli_commands[];
extern const size_t cli_command_count;

/* Finds the command that `words` begin with ("endpoint", "status", ...); unambiguous beginnings of
 * names will do. NULL if there is none. `out_used` is the count of words that name it. */
const struct cli_command *cli_command_find(const char *const *words, size_t count,
                                           size_t *out_used);
/* The command whose name is nearest to these words; NULL if none is near. */
const struct cli_command *cli_command_nearest(const char *const *words, size_t count);

/* "Error: ..." on stderr; returns `code`. */
int cli_fail(int code, const char *format, ...) NB_PRINTF(2, 3);
/* The same for a call that did not end well: says what to do where that is known. */
int cli_fail_call(const struct client_answer *answer);
/* Writes `out` to stdout. */
int cli_flush(struct cli *cli);

/* Makes the client for --endpoints, or else for the members of --discovery-srv or --service; or
 * says why not and returns the exit code. */
NB_MUST_USE int cli_connect(struct cli *cli, unsigned lanes);
/* Another list of endpoints (after MemberList, for --cluster). */
NB_MUST_USE int cli_reconnect(struct cli *cli, const char *const *endpoints, size_t count,
                              unsigned lanes);
/* --endpoints, or with --cluster the client URLs of all members, connected. */
NB_MUST_USE int cli_connect_cluster(struct cli *cli);

/* Encodes into `out` (appended). */
void cli_pack(struct nb_buf *out, const ProtobufCMessage *message);
/* One call and its decoded answer, which the caller frees with protobuf_c_message_free_unpacked;
 * NULL when it went wrong: the error has been printed and `out_code` is the exit code. */
NB_MUST_USE void *cli_ask(struct cli *cli, const char *path, const ProtobufCMessage *request,
                          const ProtobufCMessageDescriptor *answer, unsigned flags, int *out_code);
void cli_free(void *message);

/* Is there somebody to look at it, and do they want color? */
bool cli_color(int fd);

#endif

/* The table of commands, and finding one by its words. */
#include "cli/commands.h"

#include "cli/cli.h"

#include <string.h>

enum { NAME_WORDS_MAX = 2, COMMANDS_MAX = 64 };

const struct cli_command *const cli_commands[] = {
    &cli_command_server,
    &cli_command_playground,
    &cli_command_put,
    &cli_command_get,
    &cli_command_del,
    &cli_command_txn,
    &cli_command_compaction,
    &cli_command_endpoint_health,
    &cli_command_endpoint_status,
    &cli_command_endpoint_hashkv,
    &cli_command_member_list,
    &cli_command_member_add,
    &cli_command_member_remove,
    &cli_command_member_update,
    &cli_command_member_promote,
    &cli_command_move_leader,
    &cli_command_check,
    &cli_command_soak,
    &cli_command_log,
    &cli_command_recover,
    &cli_command_bench_put,
    &cli_command_bench_range,
    &cli_command_bench_txn,
    &cli_command_bench_hold,
    &cli_command_version,
};
const size_t cli_command_count = NB_ARRAY_LEN(cli_commands);

/* Compares `words` with the words of a name. The count of words taken; 0 when they differ. A word
 * may be the beginning of the name's; `out_exact` tells. */
static size_t match(const char *name, const char *const *words, size_t count, bool *out_exact)
{
    size_t used = 0;
    bool exact = true;
    while (*name != '\0') {
        size_t len = strcspn(name, " ");
        if (used >= count) {
            return 0;
        }
        size_t given = strlen(words[used]);
        if (given == 0 || given > len || memcmp(name, words[used], given) != 0) {
            return 0;
        }
        exact = exact && given == len;
        used++;
        name += len;
        name += *name == ' ' ? 1 : 0;
    }
    *out_exact = exact;
    return used;
}

const struct cli_command *cli_command_find(const char *const *words, size_t count, size_t *out_used)
{
    const struct cli_command *found = NULL;
    size_t found_count = 0;
    for (size_t i = 0; i < cli_command_count; i++) {
        bool exact;
        size_t used = match(cli_commands[i]->name, words, count, &exact);
        if (used == 0) {
            continue;
        }
        found = cli_commands[i];
        found_count++;
        *out_used = used;
        if (exact) {
            return found;
        }
    }
    return found_count == 1 ? found : NULL;
}

const struct cli_command *cli_command_nearest(const char *const *words, size_t count)
{
    const char *names[COMMANDS_MAX];
    nb_assert(cli_command_count <= COMMANDS_MAX);
    for (size_t i = 0; i < cli_command_count; i++) {
        names[i] = cli_commands[i]->name;
    }
    /* With as many words as names have, then with the first alone. */
    for (size_t take = count < NAME_WORDS_MAX ? count : NAME_WORDS_MAX; take > 0; take--) {
        struct nb_buf given = {0};
        for (size_t i = 0; i < take; i++) {
            nb_buf_printf(&given, "%s%s", i > 0 ? " " : "", words[i]);
        }
        nb_buf_append(&given, "", 1);
        const char *near = nb_nearest((const char *)given.data, names, cli_command_count);
        nb_buf_deinit(&given);
        for (size_t i = 0; near != NULL && i < cli_command_count; i++) {
            if (names[i] == near) {
                return cli_commands[i];
            }
        }
    }
    return NULL;
}

/*
 * Any words at all, as the server's command line, as its variables, and as URLs and members: they
 * are taken or refused with a text. Words are separated by 0; the first half (by count) are flags.
 */
#include "base/options.h"
#include "server/config.h"

#include <string.h>

enum { WORDS_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_outcome(enum server_config_outcome outcome, const struct nb_buf *message)
{
    if (outcome == SERVER_CONFIG_RUN) {
        nb_assert(message->len == 0);
    } else {
        nb_assert(message->len > 1);
        nb_assert(message->data[message->len - 1] == '\n');
    }
}

static void check_urls(const char *text)
{
    struct nb_arena arena = {0};
    struct nb_buf why = {0};
    struct server_members members;
    if (server_members_parse(text, &arena, &members, &why)) {
        nb_assert(members.count != 0);
        for (size_t i = 0; i < members.count; i++) {
            nb_assert(members.items[i].peer_urls.count != 0);
            nb_assert(server_member_id(&members.items[i].peer_urls, "t") != 0);
        }
        (void)server_cluster_id(&members);
    } else {
        nb_assert(why.len != 0);
    }
    nb_buf_deinit(&why);
    nb_arena_deinit(&arena);
}

/* The same words to the command line's rules; the server's table has no letters, so give it one. */
static void check_pflag(int count, char *const *words)
{
    static const struct nb_option rows[] = {
        {.name = "write-out", .letter = 'w', .type = NB_OPTION_CHOICE, .choices = "simple,json"},
        {.name = "name", .letter = 'n', .type = NB_OPTION_STRING},
        {.name = "prefix", .letter = 'p', .type = NB_OPTION_BOOL},
        {.name = "endpoints", .type = NB_OPTION_LIST, .flags = NB_OPTION_APPEND},
        {.name = "timeout", .letter = 't', .type = NB_OPTION_DURATION, .bare_text = "1s"},
    };
    for (int style = NB_OPTIONS_GO_FLAG; style <= NB_OPTIONS_PFLAG_UNTIL_ARGUMENT; style++) {
        struct nb_options o;
        struct nb_buf message = {0};
        nb_options_init(&o);
        nb_options_add(&o, rows, NB_ARRAY_LEN(rows));
        enum nb_options_result result =
            nb_options_parse(&o, (enum nb_options_style)style, count, words, &message);
        nb_assert((result == NB_OPTIONS_BAD) == (message.len != 0));
        nb_assert(o.argument_count <= (size_t)count);
        nb_options_deinit(&o);
        nb_buf_deinit(&message);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = nb_alloc(size + 1);
    memcpy(copy, size == 0 ? (const uint8_t *)"" : data, size);
    copy[size] = '\0';
    static char program[] = "etcd", config_file[] = "--config-file",
                config_file1[] = "-config-file";
    char *words[WORDS_MAX + 2] = {program}, *variables[WORDS_MAX + 2] = {NULL};
    int count = 1;
    for (char *p = copy; p < copy + size && count < WORDS_MAX; p += strlen(p) + 1) {
        bool reads_a_file = strncmp(p, config_file, strlen(config_file)) == 0 ||
                            strncmp(p, config_file1, strlen(config_file1)) == 0 ||
                            strncmp(p, "ETCD_CONFIG_FILE", strlen("ETCD_CONFIG_FILE")) == 0;
        if (!reads_a_file) {
            words[count++] = p;
            check_urls(p);
        }
    }
    check_pflag(count - 1, words + 1);
    int flags = 1 + (count - 1) / 2;
    for (int i = flags; i < count; i++) {
        variables[i - flags] = words[i];
    }
    struct server_config config;
    struct nb_buf message = {0};
    enum server_config_outcome outcome =
        server_config_parse(flags, words, variables, (size & 1) != 0, &config, &message);
    check_outcome(outcome, &message);
    if (outcome == SERVER_CONFIG_RUN) {
        check_outcome(server_config_bootstrap(&config, &message), &message);
    }
    server_config_deinit(&config);
    nb_buf_deinit(&message);
    nb_free(copy);
    return 0;
}

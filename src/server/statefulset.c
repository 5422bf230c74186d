#include "server/statefulset.h"

#include "base/log.h"
#include "server/url.h"
#include "steward/pod.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GROUP "Kubernetes"

/* clang-format off */
const struct nb_option server_statefulset_flags[] = {
    {.name = "statefulset", .type = NB_OPTION_STRING, .metavar = "SERVICE", .group = GROUP,
     .flags = NB_OPTION_NO_VARIABLE,
     .help = "run as a pod of a StatefulSet that forms, grows, shrinks and heals its cluster by itself; SERVICE is its headless service"},
    {.name = "statefulset-replicas", .type = NB_OPTION_UINT64, .default_text = "3", .metavar = "N", .group = GROUP,
     .flags = NB_OPTION_NO_VARIABLE,
     .help = "pods that must be there before the first one founds the cluster, when the Kubernetes API cannot say"},
    {.name = "termination-grace", .type = NB_OPTION_UINT64, .default_text = "120", .metavar = "SECONDS", .group = GROUP,
     .flags = NB_OPTION_NO_VARIABLE,
     .help = "the pod's terminationGracePeriodSeconds; a stop that would cost the quorum waits for at most nine tenths of it"},
};
/* clang-format on */

const size_t server_statefulset_flag_count = NB_ARRAY_LEN(server_statefulset_flags);

enum { REPLICAS_MAX = MACHINE_MEMBER_COUNT_MAX, GRACE_S_MAX = 86400, FILE_SIZE_MAX = 256 };

static const int64_t ns_of_s = 1000000000;

/* NULL when it is not set, or empty. */
static const char *variable(char *const *envp, const char *name)
{
    size_t len = strlen(name);
    for (char *const *e = envp; e != NULL && *e != NULL; e++) {
        if (strncmp(*e, name, len) == 0 && (*e)[len] == '=' && (*e)[len + 1] != '\0') {
            return *e + len + 1;
        }
    }
    return NULL;
}

static const char *kept(struct nb_arena *arena, const char *text)
{
    return text == NULL ? NULL : nb_arena_str(arena, nb_bytes_str(text));
}

static bool take_variables(struct nb_options *o, char *const *envp, struct nb_buf *message)
{
    static const struct {
        const char *flag, *name;
    } rows[] = {
        {"statefulset", "NABATA_STATEFULSET"},
        {"statefulset-replicas", "NABATA_STATEFULSET_REPLICAS"},
        {"termination-grace", "NABATA_TERMINATION_GRACE"},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(rows); i++) {
        const char *text = variable(envp, rows[i].name);
        if (text != NULL && !nb_options_given(o, rows[i].flag) &&
            nb_options_set(o, rows[i].flag, text, message) != NB_OPTIONS_OK) {
            return false;
        }
    }
    return true;
}

static bool no_conflict(const struct nb_options *o, struct nb_buf *message)
{
    static const char *const flags[] = {"initial-cluster", "initial-cluster-state", "discovery-srv",
                                        "wal-dir"};
    for (size_t i = 0; i < NB_ARRAY_LEN(flags); i++) {
        if (nb_options_given(o, flags[i])) {
            nb_buf_printf(message,
                          "--statefulset finds the members by itself; it does not go with --%s",
                          flags[i]);
            return false;
        }
    }
    return true;
}

static bool set_unless_given(struct nb_options *o, const char *flag, const char *text,
                             struct nb_buf *message)
{
    return nb_options_given(o, flag) || nb_options_set(o, flag, text, message) == NB_OPTIONS_OK;
}

/* The first line of a small file; NULL when there is none. */
static const char *read_line(const char *path, struct nb_arena *arena)
{
    char text[FILE_SIZE_MAX];
    FILE *file = fopen(path, "rbe");
    if (file == NULL) {
        return NULL;
    }
    size_t len = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[len] = '\0';
    text[strcspn(text, "\r\n")] = '\0';
    return text[0] == '\0' ? NULL : kept(arena, text);
}

static bool take_name(struct nb_options *o, char *const *envp, struct nb_arena *arena,
                      struct server_statefulset *out, struct nb_buf *message)
{
    char host[256] = "";
    const char *name = variable(envp, "POD_NAME");
    if (name == NULL && gethostname(host, sizeof host - 1) == 0) {
        host[strcspn(host, ".")] = '\0';
        name = host;
    }
    if (!set_unless_given(o, "name", name == NULL ? "" : name, message)) {
        return false;
    }
    name = nb_options_string(o, "name");
    size_t set_len;
    if (!steward_slot_parse(name, &set_len, &out->ordinal)) {
        nb_buf_append_str(message, "--statefulset: the name \"");
        nb_json_escape(message, nb_bytes_str(name));
        nb_buf_append_str(message,
                          "\" does not end in a dash and an ordinal, as the names of a "
                          "StatefulSet's pods do; set POD_NAME from metadata.name, or --name");
        return false;
    }
    out->set = nb_arena_str(arena, nb_bytes_of(name, set_len));
    return true;
}

/* Port of the first URL of a list; 0 when it has none. */
static uint16_t port_of(const struct nb_options *o, const char *flag, struct nb_arena *arena)
{
    const struct nb_option_value *v = nb_options_get(o, flag);
    struct nb_buf why = {0};
    struct server_address a = {0};
    bool fine = v->item_count != 0 && server_url_parse(v->items[0], arena, &a, &why);
    nb_buf_deinit(&why);
    return fine ? a.port : 0;
}

static bool take_urls(struct nb_options *o, struct nb_arena *arena, struct server_statefulset *out,
                      struct nb_buf *message)
{
    if (!set_unless_given(o, "listen-client-urls", "http://0.0.0.0:2379", message) ||
        !set_unless_given(o, "listen-peer-urls", "http://0.0.0.0:2380", message) ||
        !set_unless_given(o, "listen-metrics-urls", "http://0.0.0.0:2381", message)) {
        return false;
    }
    out->peer_port = port_of(o, "listen-peer-urls", arena);
    out->client_port = port_of(o, "listen-client-urls", arena);
    struct nb_buf host = {0};
    steward_pod_host(&host, out->set, out->ordinal, out->service, out->name_space);
    nb_buf_append(&host, "", 1);
    char *peer = nb_sprintf("http://%s:%u", (const char *)host.data, out->peer_port);
    char *client = nb_sprintf("http://%s:%u", (const char *)host.data, out->client_port);
    bool fine = set_unless_given(o, "initial-advertise-peer-urls", peer, message) &&
                set_unless_given(o, "advertise-client-urls", client, message);
    if (fine && strlen(peer) > STEWARD_URL_SIZE_MAX) {
        nb_buf_append_str(message, "--statefulset: the pod's DNS name is too long");
        fine = false;
    }
    nb_free(peer);
    nb_free(client);
    nb_buf_deinit(&host);
    return fine;
}

static bool take_numbers(const struct nb_options *o, struct server_statefulset *out,
                         struct nb_buf *message)
{
    uint64_t replicas = nb_options_uint64(o, "statefulset-replicas");
    uint64_t grace_s = nb_options_uint64(o, "termination-grace");
    if (replicas == 0 || replicas > REPLICAS_MAX) {
        nb_buf_printf(message, "--statefulset-replicas must be between 1 and %d", REPLICAS_MAX);
        return false;
    }
    if (grace_s > GRACE_S_MAX) {
        nb_buf_printf(message, "--termination-grace must be at most %d seconds", GRACE_S_MAX);
        return false;
    }
    out->replicas = (uint32_t)replicas;
    out->grace_ns = (int64_t)grace_s * ns_of_s;
    return true;
}

static void take_api(char *const *envp, struct nb_arena *arena, struct server_statefulset *out)
{
    const char *dir = variable(envp, "NABATA_SERVICE_ACCOUNT_DIR");
    out->service_account_dir = kept(arena, dir == NULL ? SERVER_SERVICE_ACCOUNT_DIR : dir);
    out->api_host = kept(arena, variable(envp, "KUBERNETES_SERVICE_HOST"));
    const char *port = variable(envp, "KUBERNETES_SERVICE_PORT_HTTPS");
    port = port == NULL ? variable(envp, "KUBERNETES_SERVICE_PORT") : port;
    out->api_port = kept(arena, port == NULL ? "443" : port);
    out->name_servers = kept(arena, variable(envp, "NABATA_NAME_SERVERS"));
    const char *name_space = kept(arena, variable(envp, "POD_NAMESPACE"));
    if (name_space == NULL) {
        char *path = nb_sprintf("%s/namespace", out->service_account_dir);
        name_space = read_line(path, arena);
        nb_free(path);
    }
    out->name_space = name_space == NULL ? "" : name_space;
}

bool server_statefulset_take(struct nb_options *o, char *const *envp, struct nb_arena *arena,
                             struct server_statefulset *out, struct nb_buf *message)
{
    *out = (struct server_statefulset){0};
    if (!take_variables(o, envp, message)) {
        return false;
    }
    const char *service = nb_options_string(o, "statefulset");
    if (*service == '\0') {
        return true;
    }
    out->service = kept(arena, service);
    take_api(envp, arena, out);
    return no_conflict(o, message) && take_name(o, envp, arena, out, message) &&
           take_numbers(o, out, message) && take_urls(o, arena, out, message);
}

void server_statefulset_peer_url(const struct server_statefulset *s, uint32_t ordinal,
                                 struct nb_buf *out)
{
    nb_buf_append_str(out, "http://");
    steward_pod_host(out, s->set, ordinal, s->service, s->name_space);
    nb_buf_printf(out, ":%u", s->peer_port);
}

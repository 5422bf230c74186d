/*
 * playground: a cluster of members on this machine, for trying things out. The members are this
 * same program run as `server`, their logs come through pipes, and all of it ends with Ctrl-C.
 */
#include "cli/cli.h"
#include "cli/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MEMBERS_MAX = 9, LINE_BYTES_MAX = 64 * 1024, TURN_BYTES = 16 * 1024, ARGUMENTS_MAX = 40 };

static const uint64_t stop_ns = 10 * CLI_NS_PER_S;

struct playground;

struct child {
    struct playground *playground;
    char name[24];
    uint16_t client_port, peer_port, metrics_port;
    pid_t pid; /* 0: not running */
    int log_fd;
    struct net_watch *watch;
    struct nb_buf line; /* owned; of the log, not ended yet */
};

struct playground {
    struct cli *cli;
    struct net_loop *loop;
    struct child children[MEMBERS_MAX];
    size_t count;
    const char *binary; /* another server to run (etcd), or NULL */
    char folder[512];
    bool stopping, killed, color;
    struct net_timer *kill_timer;
};

/* ---- logs ---- */

static void print_line(const struct child *child, struct nb_bytes line)
{
    static const unsigned colors[] = {32, 33, 36, 35, 34, 31};
    const struct playground *p = child->playground;
    struct nb_buf out = {0};
    size_t place = (size_t)(child - p->children);
    if (p->color) {
        nb_buf_printf(&out, "\033[%um%s\033[0m | ", colors[place % NB_ARRAY_LEN(colors)],
                      child->name);
    } else {
        nb_buf_printf(&out, "%s | ", child->name);
    }
    nb_buf_append_bytes(&out, line);
    nb_buf_append_str(&out, "\n");
    ssize_t ignored = write(STDERR_FILENO, out.data, out.len);
    (void)ignored;
    nb_buf_deinit(&out);
}

static void log_end(struct child *child)
{
    net_watch_destroy(child->watch);
    child->watch = NULL;
    if (child->log_fd >= 0) {
        (void)close(child->log_fd);
    }
    child->log_fd = -1;
    if (child->line.len > 0) {
        print_line(child, nb_buf_bytes(&child->line));
    }
    nb_buf_deinit(&child->line);
}

/* False when there is nothing to read at present, or no more. */
static bool log_read(struct child *child)
{
    char bytes[TURN_BYTES];
    ssize_t got = read(child->log_fd, bytes, sizeof bytes);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
        return false;
    }
    if (got <= 0) {
        log_end(child);
        return false;
    }
    nb_buf_append(&child->line, bytes, (size_t)got);
    const uint8_t *end;
    while (child->line.len > 0 &&
           ((end = memchr(child->line.data, '\n', child->line.len)) != NULL ||
            child->line.len > LINE_BYTES_MAX)) {
        size_t len = end != NULL ? (size_t)(end - child->line.data) : child->line.len;
        print_line(child, nb_bytes_of(child->line.data, len));
        nb_buf_consume(&child->line, len + (end != NULL ? 1 : 0));
    }
    return true;
}

static void on_log(void *user)
{
    (void)log_read(user);
}

/* ---- processes ---- */

static void add_argument(char **argv, size_t *count, char *text)
{
    nb_assert(*count + 1 < ARGUMENTS_MAX);
    argv[(*count)++] = text;
    argv[*count] = NULL;
}

/* The words of a member's command line; from the command's arena. */
static void child_arguments(const struct child *child, char **argv)
{
    struct playground *p = child->playground;
    struct nb_buf cluster = {0};
    size_t count = 0;
    for (size_t i = 0; i < p->count; i++) {
        nb_buf_printf(&cluster, "%s%s=http://127.0.0.1:%u", i > 0 ? "," : "", p->children[i].name,
                      (unsigned)p->children[i].peer_port);
    }
    nb_buf_append(&cluster, "", 1);
    add_argument(argv, &count, nb_strdup(p->binary != NULL ? p->binary : "nabata"));
    if (p->binary == NULL) {
        add_argument(argv, &count, nb_strdup("server"));
    }
    add_argument(argv, &count, nb_sprintf("--name=%s", child->name));
    add_argument(argv, &count, nb_sprintf("--data-dir=%s/%s", p->folder, child->name));
    static const char *const client_flags[] = {"listen-client-urls", "advertise-client-urls"};
    static const char *const peer_flags[] = {"listen-peer-urls", "initial-advertise-peer-urls"};
    for (size_t i = 0; i < 2; i++) {
        add_argument(
            argv, &count,
            nb_sprintf("--%s=http://127.0.0.1:%u", client_flags[i], (unsigned)child->client_port));
        add_argument(
            argv, &count,
            nb_sprintf("--%s=http://127.0.0.1:%u", peer_flags[i], (unsigned)child->peer_port));
    }
    add_argument(
        argv, &count,
        nb_sprintf("--listen-metrics-urls=http://127.0.0.1:%u", (unsigned)child->metrics_port));
    add_argument(argv, &count, nb_sprintf("--initial-cluster=%s", (const char *)cluster.data));
    add_argument(argv, &count, nb_strdup("--initial-cluster-state=new"));
    add_argument(argv, &count, nb_strdup("--initial-cluster-token=playground"));
    add_argument(argv, &count, nb_strdup("--log-format=console"));
    nb_buf_deinit(&cluster);
}

/* In the new process: its own group, so that Ctrl-C reaches only the playground, which then ends
 * it; and an end of its own should the playground be killed. */
NB_NORETURN static void become_child(const struct child *child, char **argv, int log_fd)
{
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    (void)dup2(log_fd, STDERR_FILENO);
    (void)dup2(log_fd, STDOUT_FILENO);
    const char *binary = child->playground->binary;
    (void)execv(binary != NULL ? binary : "/proc/self/exe", argv);
    (void)dprintf(STDERR_FILENO, "cannot run the server: %s\n", strerror(errno));
    _exit(127);
}

static int child_start(struct child *child)
{
    char *argv[ARGUMENTS_MAX] = {NULL};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        return cli_fail(CLI_IO, "pipe: %s", strerror(errno));
    }
    (void)fcntl(ends[1], F_SETFL, 0); /* the writer waits when the pipe is full */
    child_arguments(child, argv);
    child->pid = fork();
    if (child->pid == 0) {
        become_child(child, argv, ends[1]);
    }
    for (char **at = argv; *at != NULL; at++) {
        nb_free(*at);
    }
    (void)close(ends[1]);
    child->log_fd = ends[0];
    if (child->pid < 0) {
        child->pid = 0;
        (void)close(ends[0]);
        child->log_fd = -1;
        return cli_fail(CLI_IO, "fork: %s", strerror(errno));
    }
    child->watch = net_watch_create(child->playground->loop, child->log_fd, on_log, child);
    return CLI_OK;
}

static size_t running_count(const struct playground *p)
{
    size_t count = 0;
    for (size_t i = 0; i < p->count; i++) {
        count += p->children[i].pid > 0;
    }
    return count;
}

static void signal_all(struct playground *p, int number)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->children[i].pid > 0) {
            (void)kill(p->children[i].pid, number);
        }
    }
}

static void on_child(void *user, int number)
{
    (void)number;
    struct playground *p = user;
    for (size_t i = 0; i < p->count; i++) {
        struct child *child = &p->children[i];
        int status;
        if (child->pid <= 0 || waitpid(child->pid, &status, WNOHANG) != child->pid) {
            continue;
        }
        child->pid = 0;
        if (!p->stopping) {
            (void)fprintf(stderr, "%s has ended (%s %d); %zu of %zu members still run\n",
                          child->name, WIFSIGNALED(status) ? "signal" : "exit code",
                          WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                          running_count(p), p->count);
        }
    }
}

static void on_kill_time(void *user)
{
    struct playground *p = user;
    p->killed = true;
    signal_all(p, SIGKILL);
}

static void on_stop(void *user, int number)
{
    (void)number;
    struct playground *p = user;
    if (p->stopping) {
        on_kill_time(p); /* a second Ctrl-C: at once */
        return;
    }
    p->stopping = true;
    (void)fprintf(stderr, "\nstopping %zu members\n", running_count(p));
    signal_all(p, SIGTERM);
    net_timer_start(p->kill_timer, stop_ns, 0);
}

/* ---- around them ---- */

static void ignore_accept(void *user, struct net_conn *conn)
{
    (void)user;
    net_conn_abort(conn);
}

/* All ports are held until the last is known, so that they differ. */
static int choose_ports(struct playground *p)
{
    struct net_listener *held[MEMBERS_MAX * 3] = {NULL};
    struct net_address any;
    struct net_error error;
    int code = CLI_OK;
    if (!net_address_parse("127.0.0.1:0", 0, &any, &error)) {
        return cli_fail(CLI_ERROR, "%s", error.text);
    }
    for (size_t i = 0; i < p->count * 3 && code == CLI_OK; i++) {
        if (net_listener_open(p->loop, &any, NULL, ignore_accept, NULL, &held[i], &error) !=
            NB_OK) {
            code = cli_fail(CLI_IO, "no free port: %s", error.text);
            break;
        }
        uint16_t port = net_listener_port(held[i]);
        struct child *child = &p->children[i / 3];
        *(i % 3 == 0   ? &child->client_port
          : i % 3 == 1 ? &child->peer_port
                       : &child->metrics_port) = port;
    }
    for (size_t i = 0; i < NB_ARRAY_LEN(held); i++) {
        net_listener_close(held[i]);
    }
    return code;
}

static int remove_entry(const char *path, const struct stat *about, int kind, struct FTW *at)
{
    (void)about;
    (void)kind;
    (void)at;
    return remove(path);
}

static int make_folder(struct playground *p)
{
    const char *given = nb_options_string(&p->cli->options, "dir");
    const char *temporary = getenv("TMPDIR");
    int len;
    if (given[0] != '\0') {
        len = snprintf(p->folder, sizeof p->folder, "%s", given);
        if (mkdir(given, 0700) != 0 && errno != EEXIST) {
            return cli_fail(CLI_IO, "%s: %s", given, strerror(errno));
        }
    } else {
        len = snprintf(p->folder, sizeof p->folder, "%s/nabata-playground-XXXXXX",
                       temporary != NULL && temporary[0] != '\0' ? temporary : "/tmp");
    }
    if (len < 0 || (size_t)len >= sizeof p->folder) {
        return cli_fail(CLI_BAD_ARGUMENTS, "the folder's name is too long");
    }
    if (given[0] == '\0' && mkdtemp(p->folder) == NULL) {
        return cli_fail(CLI_IO, "%s: %s", p->folder, strerror(errno));
    }
    return CLI_OK;
}

/* The name to type: "nabata" when the PATH has one, else where this one lies. */
static const char *program_name(char *out, size_t size)
{
    const char *path = getenv("PATH");
    ssize_t len = readlink("/proc/self/exe", out, size - 1);
    out[len > 0 ? len : 0] = '\0';
    for (const char *at = path; at != NULL && *at != '\0';) {
        char file[512];
        size_t dir = strcspn(at, ":");
        (void)snprintf(file, sizeof file, "%.*s/nabata", (int)dir, at);
        if (access(file, X_OK) == 0) {
            return "nabata";
        }
        at += dir + (at[dir] == ':' ? 1 : 0);
    }
    return out[0] == '\0' ? "nabata" : out;
}

static void on_ready(void *user, const struct client_reply *reply)
{
    struct playground *p = user;
    char place[512];
    const char *program = program_name(place, sizeof place);
    struct nb_buf endpoints = {0};
    if (p->stopping) {
        return;
    }
    for (size_t i = 0; i < p->count; i++) {
        nb_buf_printf(&endpoints, "%s127.0.0.1:%u", i > 0 ? "," : "",
                      (unsigned)p->children[i].client_port);
    }
    nb_buf_append(&endpoints, "", 1);
    const char *list = (const char *)endpoints.data;
    if (reply->status == RPC_OK) {
        (void)printf("\nThe cluster is ready. In another terminal:\n\n"
                     "  export ETCDCTL_ENDPOINTS=%s\n"
                     "  %s put greeting hello      (or etcdctl, or any etcd client)\n"
                     "  %s get greeting\n"
                     "  %s endpoint status -w table\n"
                     "  %s check\n\n"
                     "Data: %s    Ctrl-C stops it all.\n\n",
                     list, program, program, program, program, p->folder);
    } else {
        (void)printf("\nThe cluster does not answer yet (%s).\nEndpoints: %s\n\n", reply->error,
                     list);
    }
    (void)fflush(stdout);
    nb_buf_deinit(&endpoints);
}

/* A linearizable read: answered means that there is a leader. */
static int ask_ready(struct playground *p)
{
    const char *endpoints[MEMBERS_MAX];
    struct nb_buf bytes = {0};
    for (size_t i = 0; i < p->count; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "127.0.0.1:%u", (unsigned)p->children[i].client_port);
        endpoints[i] = nb_arena_str(&p->cli->arena, nb_bytes_str(text));
    }
    struct net_error error;
    struct client_config config = {
        .endpoints = endpoints, .endpoint_count = p->count, .dial_timeout_ns = 60 * CLI_NS_PER_S};
    if (client_create(p->loop, &config, &p->cli->client, &error) != NB_OK) {
        return cli_fail(CLI_ERROR, "%s", error.text);
    }
    Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
    range.key = ops_text("playground");
    cli_pack(&bytes, &range.base);
    struct client_request request = {.path = "/etcdserverpb.KV/Range",
                                     .message = nb_buf_bytes(&bytes),
                                     .flags = CLIENT_READ,
                                     .endpoint = CLIENT_ANY,
                                     .timeout_ns = 60 * CLI_NS_PER_S,
                                     .on_done = on_ready,
                                     .user = p};
    (void)client_start(p->cli->client, &request);
    nb_buf_deinit(&bytes);
    return CLI_OK;
}

static int play(struct playground *p)
{
    struct net_signal *signals[] = {
        net_signal_create(p->loop, SIGCHLD, on_child, p),
        net_signal_create(p->loop, SIGINT, on_stop, p),
        net_signal_create(p->loop, SIGTERM, on_stop, p),
        net_signal_create(p->loop, SIGHUP, on_stop, p),
    };
    p->kill_timer = net_timer_create(p->loop, on_kill_time, p);
    int code = CLI_OK;
    for (size_t i = 0; i < p->count && code == CLI_OK; i++) {
        code = child_start(&p->children[i]);
    }
    code = code == CLI_OK ? ask_ready(p) : code;
    if (code != CLI_OK) {
        on_stop(p, SIGTERM);
    }
    while (running_count(p) > 0) {
        (void)net_loop_run_once(p->loop, true);
    }
    if (!p->stopping) {
        code = cli_fail(CLI_ERROR, "all members have ended; their logs above say why");
    }
    for (size_t i = 0; i < p->count; i++) {
        while (p->children[i].watch != NULL && log_read(&p->children[i])) {
            /* what is left in the pipe */
        }
        if (p->children[i].watch != NULL) {
            log_end(&p->children[i]);
        }
    }
    for (size_t i = 0; i < NB_ARRAY_LEN(signals); i++) {
        net_signal_destroy(signals[i]);
    }
    net_timer_destroy(p->kill_timer);
    return code;
}

static int run(struct cli *cli)
{
    uint64_t members = nb_options_uint64(&cli->options, "members");
    if (members < 1 || members > MEMBERS_MAX) {
        return cli_fail(CLI_BAD_ARGUMENTS, "--members must be from 1 to %d", MEMBERS_MAX);
    }
    const char *binary = nb_options_string(&cli->options, "binary");
    struct playground *p = nb_alloc_zero(1, sizeof *p);
    cli->loop = net_loop_create();
    p->cli = cli;
    p->loop = cli->loop;
    p->count = members;
    p->binary = binary[0] != '\0' ? binary : NULL;
    p->color = cli_color(STDERR_FILENO);
    for (size_t i = 0; i < p->count; i++) {
        p->children[i].playground = p;
        p->children[i].log_fd = -1;
        (void)snprintf(p->children[i].name, sizeof p->children[i].name, "m%zu", i + 1);
    }
    int code = choose_ports(p);
    code = code == CLI_OK ? make_folder(p) : code;
    if (code == CLI_OK) {
        code = play(p);
        bool keep = nb_options_bool(&cli->options, "keep") ||
                    nb_options_string(&cli->options, "dir")[0] != '\0';
        if (keep) {
            (void)fprintf(stderr, "the data is kept in %s\n", p->folder);
        } else if (nftw(p->folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0) {
            code = cli_fail(CLI_IO, "%s cannot be removed: %s", p->folder, strerror(errno));
        }
    }
    client_destroy(cli->client); /* before what its callbacks point to */
    cli->client = NULL;
    nb_free(p);
    return code;
}

/* clang-format off */
static const struct nb_option rows[] = {
    {.name = "members", .type = NB_OPTION_UINT64, .default_text = "3", .help = "how many members"},
    {.name = "dir", .type = NB_OPTION_STRING, .metavar = "FOLDER", .help = "keep the data here instead of in a temporary folder"},
    {.name = "keep", .type = NB_OPTION_BOOL, .help = "do not remove the temporary folder"},
    {.name = "binary", .type = NB_OPTION_STRING, .metavar = "PATH", .flags = NB_OPTION_HIDDEN, .help = "run another server with etcd's flags, to compare"},
};
/* clang-format on */
static const struct ops_table options = {rows, NB_ARRAY_LEN(rows)};

static const struct nb_options_example examples[] = {
    {"nabata playground", "three members on free ports, gone with Ctrl-C"},
    {"nabata playground --members 5 --dir ./data", "five, whose data stays"},
};

const struct cli_command cli_command_playground = {
    .name = "playground",
    .arguments = "",
    .help = "Runs a cluster on this machine to try things out",
    .group = "Servers",
    .options = &options,
    .examples = examples,
    .example_count = NB_ARRAY_LEN(examples),
    .formats = CLI_FORMAT(FORMAT_SIMPLE),
    .run = run,
};

/* tests/support/kubernetes/apiserver.py does to the client what the real API server would. */
#include "kube/kube.h"
#include "server/scale.h"
#include "tests/support/unit.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct world {
    char dir[64];
    pid_t server;
    unsigned port, control_port;
    struct net_loop *loop;
    bool done;
    enum nb_status status;
    struct kube_statefulset set;
    char error[512];
};

static void server_start(struct world *w)
{
    int out[2];
    assert_int_equal(pipe(out), 0);
    w->server = fork();
    assert_true(w->server >= 0);
    if (w->server == 0) {
        (void)dup2(out[1], STDOUT_FILENO);
        (void)close(out[0]);
        (void)close(out[1]);
        (void)execlp("python3", "python3", APISERVER, "--account-dir", w->dir, (char *)NULL);
        _exit(127);
    }
    (void)close(out[1]);
    FILE *said = fdopen(out[0], "r");
    assert_non_null(said);
    char line[64] = "";
    assert_non_null(fgets(line, sizeof line, said));
    assert_memory_equal(line, "ready ", 6);
    char *rest;
    w->port = (unsigned)strtoul(line + 6, &rest, 10);
    w->control_port = (unsigned)strtoul(rest, NULL, 10);
    assert_true(w->port != 0 && w->control_port != 0);
    (void)fclose(said);
}

static int start(void **state)
{
    struct world *w = nb_alloc_zero(1, sizeof *w);
    (void)snprintf(w->dir, sizeof w->dir, "/tmp/apiserver_test.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    server_start(w);
    w->loop = net_loop_create();
    *state = w;
    return 0;
}

static int stop(void **state)
{
    struct world *w = *state;
    (void)kill(w->server, SIGKILL);
    assert_int_equal(waitpid(w->server, NULL, 0), w->server);
    net_loop_destroy(w->loop);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", w->dir);
    assert_int_equal(system(command), 0);
    nb_free(w);
    return 0;
}

/* One request to the control port; what it answers, in `out`. */
static void control(const struct world *w, const char *request_line, char *out, size_t size)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)w->control_port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    char request[256];
    (void)snprintf(request, sizeof request,
                   "%s HTTP/1.1\r\nHost: c\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                   request_line);
    assert_int_equal(write(fd, request, strlen(request)), (ssize_t)strlen(request));
    size_t len = 0;
    ssize_t got;
    while (len + 1 < size && (got = read(fd, out + len, size - len - 1)) > 0) {
        len += (size_t)got;
    }
    out[len] = '\0';
    (void)close(fd);
    assert_non_null(strstr(out, " 200 OK\r\n"));
}

static void set(const struct world *w, const char *what)
{
    char line[128], answer[2048];
    (void)snprintf(line, sizeof line, "POST /set?%s", what);
    control(w, line, answer, sizeof answer);
}

static void on_done(void *user, enum nb_status status, const struct kube_statefulset *found,
                    const char *error)
{
    struct world *w = user;
    w->done = true;
    w->status = status;
    w->set = found == NULL ? (struct kube_statefulset){0} : *found;
    (void)snprintf(w->error, sizeof w->error, "%s", error);
}

/* A GET, or with `cluster_id` a PATCH, of `statefulset`. */
static enum nb_status ask_at(struct world *w, const char *statefulset, const char *cluster_id,
                             const char *version, uint64_t timeout_ns)
{
    struct kube_config config = {.loop = w->loop,
                                 .host = "127.0.0.1",
                                 .port = (uint16_t)w->port,
                                 .account_dir = w->dir,
                                 .namespace_name = "default",
                                 .statefulset = statefulset,
                                 .timeout_ns = timeout_ns};
    struct kube *k = kube_create(&config);
    w->done = false;
    assert_int_equal(cluster_id == NULL ? kube_get(k, on_done, w)
                                        : kube_annotate(k, cluster_id, version, on_done, w),
                     NB_OK);
    while (!w->done) {
        (void)net_loop_run_once(w->loop, true);
    }
    kube_destroy(k);
    return w->status;
}

static enum nb_status ask(struct world *w, const char *statefulset, const char *cluster_id,
                          uint64_t timeout_ns)
{
    return ask_at(w, statefulset, cluster_id, "1", timeout_ns);
}

static void assert_got(struct world *w, uint32_t replicas, bool deleting, const char *cluster_id)
{
    if (ask(w, "ss", NULL, 0) != NB_OK) {
        fail_msg("%s: %s", nb_status_name(w->status), w->error);
    }
    assert_int_equal(w->set.replicas, replicas);
    assert_int_equal(w->set.deleting, deleting);
    assert_true(w->set.parallel);
    assert_string_equal(w->set.cluster_id, cluster_id);
}

static void what_is_set_is_what_the_client_reads(void **state)
{
    struct world *w = *state;
    assert_got(w, 3, false, "");
    set(w, "replicas=5");
    assert_got(w, 5, false, "");
    set(w, "replicas=0&deleting=true");
    assert_got(w, 0, true, "");
}

static void the_annotation_is_kept_and_shown(void **state)
{
    struct world *w = *state;
    assert_int_equal(ask(w, "ss", "00000000c0ffee00", 0), NB_OK);
    assert_string_equal(w->set.cluster_id, "00000000c0ffee00");
    assert_got(w, 3, false, "00000000c0ffee00");
    char shown[2048];
    control(w, "GET /state", shown, sizeof shown);
    assert_non_null(strstr(shown, "\"nabata/cluster-id\": \"00000000c0ffee00\""));
}

static void K07_what_was_changed_meanwhile_is_not_overwritten(void **state)
{
    struct world *w = *state;
    assert_got(w, 3, false, "");
    char version[KUBE_VERSION_SIZE_MAX];
    memcpy(version, w->set.version, sizeof version);
    set(w, "cluster=00000000c0ffee00");
    assert_int_equal(ask_at(w, "ss", "0000000000000bad", version, 0), NB_EXISTS);
    assert_got(w, 3, false, "00000000c0ffee00");
}

/* ---- server/scale against it ---- */

static struct server_scale *scale_of(const struct world *w, struct server_statefulset *config)
{
    static const struct nb_logger silent = {0};
    static char port[8];
    (void)snprintf(port, sizeof port, "%u", w->port);
    *config = (struct server_statefulset){.set = "ss",
                                          .service = "ss-service",
                                          .name_space = "default",
                                          .service_account_dir = w->dir,
                                          .api_host = "127.0.0.1",
                                          .api_port = port};
    return server_scale_create(w->loop, config, &silent);
}

static void answers_are(struct world *w, const struct server_scale *s, uint64_t count)
{
    while (server_scale_answers(s) < count) {
        (void)net_loop_run_once(w->loop, true);
    }
}

/* The answer under way may be from before the scale-down that the signal to stop comes from. */
static void K10_an_answer_under_way_is_not_taken_for_one_to_a_later_question(void **state)
{
    struct world *w = *state;
    struct server_statefulset config;
    struct server_scale *s = scale_of(w, &config); /* asks */
    assert_int_equal(server_scale_ask(s), 2);
    answers_are(w, s, 2);
    assert_int_equal(server_scale_ask(s), 3);
    answers_are(w, s, 3);
    server_scale_destroy(s);
}

static void K07_an_id_that_another_one_wrote_stays(void **state)
{
    struct world *w = *state;
    struct server_statefulset config;
    struct steward_scale scale;
    struct server_scale *s = scale_of(w, &config);
    answers_are(w, s, 1);
    server_scale_get(s, &scale);
    assert_true(scale.known && scale.cluster_id == 0);
    set(w, "cluster=00000000c0ffee00");
    server_scale_annotate(s, 0xbad);
    answers_are(w, s, 2); /* asks again by itself */
    server_scale_get(s, &scale);
    assert_int_equal(scale.cluster_id, 0xc0ffee00);
    server_scale_destroy(s);
    assert_got(w, 3, false, "00000000c0ffee00");
}

static void a_change_of_something_else_only_delays_the_id(void **state)
{
    struct world *w = *state;
    struct server_statefulset config;
    struct steward_scale scale = {0};
    struct server_scale *s = scale_of(w, &config);
    answers_are(w, s, 1);
    set(w, "replicas=4");
    while (scale.cluster_id == 0) {
        server_scale_annotate(s, 0xc0ffee00);
        (void)net_loop_run_once(w->loop, true);
        server_scale_get(s, &scale);
    }
    server_scale_destroy(s);
    assert_int_equal(scale.replicas, 4);
    assert_got(w, 4, false, "00000000c0ffee00");
}

/* With ordinals from 2 on, ss-4 of three replicas is none to leave. */
static void a_set_whose_ordinals_do_not_begin_at_0_takes_nobody_out(void **state)
{
    struct world *w = *state;
    struct server_statefulset config;
    struct steward_scale scale;
    set(w, "start=2");
    struct server_scale *s = scale_of(w, &config);
    answers_are(w, s, 1);
    server_scale_get(s, &scale);
    assert_false(scale.known);
    server_scale_destroy(s);
}

static void refusals_are_told_apart(void **state)
{
    struct world *w = *state;
    assert_int_equal(ask(w, "other", NULL, 0), NB_ACCESS); /* not 404: the Role names one */
    set(w, "gone=true");
    assert_int_equal(ask(w, "ss", NULL, 0), NB_NOT_FOUND);
    set(w, "gone=false&deny=true");
    assert_int_equal(ask(w, "ss", NULL, 0), NB_ACCESS);
    assert_non_null(strstr(w->error, "denies `get`"));
    assert_int_equal(ask(w, "ss", "1", 0), NB_ACCESS);
    assert_non_null(strstr(w->error, "denies `patch`"));
    set(w, "deny=false&down=true");
    assert_int_equal(ask(w, "ss", NULL, 100000000), NB_BUSY);
    set(w, "down=false");
    assert_got(w, 3, false, "");
}

static void K16_a_rotated_token_is_read_anew_and_the_old_one_refused(void **state)
{
    struct world *w = *state;
    assert_got(w, 3, false, "");
    set(w, "rotate=1");
    assert_got(w, 3, false, "");
    char path[128];
    (void)snprintf(path, sizeof path, "%s/token", w->dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs("old", f);
    (void)fclose(f);
    assert_int_equal(ask(w, "ss", NULL, 0), NB_ACCESS);
    assert_non_null(strstr(w->error, "(401)"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_set_is_what_the_client_reads, start, stop),
        cmocka_unit_test_setup_teardown(the_annotation_is_kept_and_shown, start, stop),
        cmocka_unit_test_setup_teardown(K07_what_was_changed_meanwhile_is_not_overwritten, start,
                                        stop),
        cmocka_unit_test_setup_teardown(
            K10_an_answer_under_way_is_not_taken_for_one_to_a_later_question, start, stop),
        cmocka_unit_test_setup_teardown(K07_an_id_that_another_one_wrote_stays, start, stop),
        cmocka_unit_test_setup_teardown(a_change_of_something_else_only_delays_the_id, start, stop),
        cmocka_unit_test_setup_teardown(a_set_whose_ordinals_do_not_begin_at_0_takes_nobody_out,
                                        start, stop),
        cmocka_unit_test_setup_teardown(refusals_are_told_apart, start, stop),
        cmocka_unit_test_setup_teardown(K16_a_rotated_token_is_read_anew_and_the_old_one_refused,
                                        start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Connections over loopback, with real sockets. */
#include "net/loop.h"

#include "tests/support/unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#define NS_PER_MS UINT64_C(1000000)

struct end {
    struct world *world;
    struct net_conn *conn;
    struct nb_buf got;
    size_t flushes, drains, closes;
    enum nb_status reason;
    bool echo, close_on_data, abort_on_data;
    size_t produce; /* bytes still to be made by on_flush */
};

struct world {
    struct net_loop *loop;
    struct net_listener *listener;
    struct net_address address;
    struct net_timer *limit; /* no test hangs */
    struct net_conn_options options;
    struct end server, client;
    size_t accepts, connects, turns;
    enum nb_status connect_status;
    char connect_error[256];
};

static void on_data(struct net_conn *c, void *user, struct nb_bytes bytes)
{
    struct end *e = user;
    assert_int_equal(e->closes, 0);
    nb_buf_append_bytes(&e->got, bytes);
    if (e->echo) {
        net_conn_write(c, bytes);
    }
    if (e->close_on_data) {
        net_conn_write(c, nb_bytes_str("bye"));
        net_conn_close(c);
        net_conn_close(c);
    }
    if (e->abort_on_data) {
        net_conn_abort(c);
        net_conn_write(c, nb_bytes_str("into the void"));
    }
}

static void on_flush(struct net_conn *c, void *user)
{
    struct end *e = user;
    e->flushes++;
    size_t piece = e->produce < 100000 ? e->produce : 100000;
    if (piece != 0) {
        memset(nb_buf_extend(net_conn_output(c), piece), 'p', piece);
        e->produce -= piece;
        net_conn_want_flush(c);
    }
}

static void on_drain(struct net_conn *c, void *user)
{
    (void)c;
    ((struct end *)user)->drains++;
}

static void on_close(struct net_conn *c, void *user, enum nb_status reason)
{
    struct end *e = user;
    assert_ptr_equal(c, e->conn);
    e->conn = NULL;
    e->closes++;
    e->reason = reason;
}

static const struct net_conn_events events = {
    .on_data = on_data, .on_flush = on_flush, .on_drain = on_drain, .on_close = on_close};

static void on_accept(void *user, struct net_conn *conn)
{
    struct world *w = user;
    if (w->accepts++ != 0) {
        net_conn_abort(conn); /* the tests' spare ones */
        return;
    }
    w->server.conn = conn;
    net_conn_start(conn, &events, &w->server, &w->options);
}

static void on_connect(void *user, struct net_conn *conn, enum nb_status status, const char *error)
{
    struct world *w = user;
    w->connects++;
    w->connect_status = status;
    if (conn == NULL) {
        (void)snprintf(w->connect_error, sizeof w->connect_error, "%s", error);
        return;
    }
    w->client.conn = conn;
    struct net_conn_options options = {.read_while_full = true};
    net_conn_start(conn, &events, &w->client, &options);
}

static void too_long(void *user)
{
    (void)user;
    fail_msg("nothing happened for 20 s");
}

static void open_world(struct world *w)
{
    memset(w, 0, sizeof *w);
    w->loop = net_loop_create();
    assert_true(net_address_parse("127.0.0.1:0", 0, &w->address, NULL));
    struct net_error error;
    assert_int_equal(
        net_listener_open(w->loop, &w->address, NULL, on_accept, w, &w->listener, &error), NB_OK);
    w->address.port = net_listener_port(w->listener);
    w->limit = net_timer_create(w->loop, too_long, NULL);
    net_timer_start(w->limit, 20000 * NS_PER_MS, 0);
}

#define UNTIL(w, condition)                                                                        \
    while (!(condition)) {                                                                         \
        (void)net_loop_run_once((w)->loop, true);                                                  \
    }

static void join(struct world *w)
{
    (void)!net_connect_start(w->loop, &w->address, 0, on_connect, w);
    UNTIL(w, w->client.conn != NULL && w->server.conn != NULL);
}

static void close_world(struct world *w)
{
    net_timer_destroy(w->limit);
    net_loop_destroy(w->loop);
    nb_buf_deinit(&w->client.got);
    nb_buf_deinit(&w->server.got);
}

static void bytes_go_there_and_back(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    join(&w);
    w.server.echo = true;
    char local[64];
    net_conn_local(w.client.conn, local, sizeof local);
    assert_string_equal(local, net_conn_peer(w.server.conn));
    net_conn_set_keepalive(w.client.conn, 5, 1000);
    net_conn_write(w.client.conn, nb_bytes_str("hel"));
    net_conn_write(w.client.conn, nb_bytes_str("lo"));
    UNTIL(&w, w.client.got.len == 5);
    assert_memory_equal(w.client.got.data, "hello", 5);
    net_conn_close(w.client.conn);
    UNTIL(&w, w.client.closes == 1 && w.server.closes == 1);
    assert_int_equal(w.client.reason, NB_OK);
    assert_int_equal(w.server.reason, NB_OK);
    assert_int_equal(net_loop_conn_count(w.loop), 0);
    close_world(&w);
}

static void a_close_writes_what_was_said_before_it(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    join(&w);
    w.server.close_on_data = true;
    net_conn_write(w.client.conn, nb_bytes_str("x"));
    UNTIL(&w, w.client.closes == 1 && w.server.closes == 1);
    assert_int_equal(w.client.got.len, 3);
    assert_memory_equal(w.client.got.data, "bye", 3);
    close_world(&w);
}

static void an_abort_within_a_callback_is_fine(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    join(&w);
    w.server.abort_on_data = true;
    net_conn_write(w.client.conn, nb_bytes_str("x"));
    UNTIL(&w, w.client.closes == 1 && w.server.closes == 1);
    assert_int_equal(w.server.reason, NB_CANCELED);
    assert_int_equal(w.client.got.len, 0);
    close_world(&w);
}

/* The reader pauses, the writer fills the kernel and then stops producing; all arrives in the end.
 */
static void N06_output_stops_at_its_high_mark_and_goes_on_after_it(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    w.options.output_high_bytes = 300000;
    join(&w);
    net_conn_pause_reading(w.client.conn);
    const size_t total = 40 << 20;
    w.server.produce = total;
    net_conn_want_flush(w.server.conn);
    UNTIL(&w, net_conn_pending_bytes(w.server.conn) >= 300000);
    assert_true(w.server.produce != 0);
    net_conn_write(w.client.conn, nb_bytes_str("not read while full"));
    for (int i = 0; i < 20; i++) {
        (void)net_loop_run_once(w.loop, false);
        assert_in_range(net_conn_pending_bytes(w.server.conn), 300000, 400000);
    }
    assert_int_equal(w.server.got.len, 0);
    net_conn_resume_reading(w.client.conn);
    UNTIL(&w, w.client.got.len == total && w.server.got.len == 19);
    assert_true(w.server.drains >= 1);
    assert_int_equal(net_conn_pending_bytes(w.server.conn), 0);
    close_world(&w);
    assert_int_equal(w.server.closes + w.client.closes, 2); /* by the loop's end */
    assert_int_equal(w.client.reason, NB_CANCELED);
}

static void N4_an_idle_connection_holds_little(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    join(&w);
    w.server.echo = true;
    net_conn_write(w.client.conn, nb_bytes_str("x"));
    UNTIL(&w, w.client.got.len == 1);
    assert_int_equal(w.server.conn->out.capacity, 0);
    assert_int_equal(w.client.conn->out.capacity, 0);
    assert_null(w.server.conn->write);
    print_message("an idle net_conn: %zu bytes\n", sizeof(struct net_conn));
    assert_true(sizeof(struct net_conn) <= 1024);
    close_world(&w);
}

static void a_refused_connect_says_so(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    net_listener_close(w.listener);
    (void)!net_connect_start(w.loop, &w.address, 0, on_connect, &w);
    assert_int_equal(w.connects, 0); /* never from within */
    UNTIL(&w, w.connects == 1);
    assert_int_equal(w.connect_status, NB_CLOSED);
    assert_non_null(strstr(w.connect_error, "connection refused"));
    close_world(&w);
}

static void names_are_resolved_and_unknown_ones_reported(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    struct net_address named = w.address;
    (void)snprintf(named.host, sizeof named.host, "localhost");
    (void)!net_connect_start(w.loop, &named, 0, on_connect, &w);
    UNTIL(&w, w.connects == 1);
    assert_int_equal(w.connect_status, NB_OK);
    (void)snprintf(named.host, sizeof named.host, "no-such-name.invalid");
    (void)!net_connect_start(w.loop, &named, 0, on_connect, &w);
    UNTIL(&w, w.connects == 2);
    assert_int_equal(w.connect_status, NB_NOT_FOUND);
    close_world(&w);
}

static void a_canceled_connect_says_nothing(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    struct net_address named = w.address;
    (void)snprintf(named.host, sizeof named.host, "localhost");
    net_connect_cancel(net_connect_start(w.loop, &named, 0, on_connect, &w));
    net_connect_cancel(net_connect_start(w.loop, &w.address, 0, on_connect, &w));
    struct net_connect *under_way = net_connect_start(w.loop, &w.address, 0, on_connect, &w);
    (void)net_loop_run_once(w.loop, false);
    if (w.connects == 0) {
        net_connect_cancel(under_way);
    }
    size_t before = w.connects;
    for (int i = 0; i < 20; i++) {
        (void)net_loop_run_once(w.loop, false);
    }
    assert_int_equal(w.connects, before);
    close_world(&w);
}

static void a_connect_gives_up_after_its_time(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    /* A listener that nobody serves and whose queue is full does not answer. */
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    int fill[8];
    for (size_t i = 0; i < NB_ARRAY_LEN(fill); i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(fill[i], (struct sockaddr *)&at, len);
    }
    w.address.port = ntohs(at.sin_port);
    (void)!net_connect_start(w.loop, &w.address, 30 * NS_PER_MS, on_connect, &w);
    UNTIL(&w, w.connects == 1);
    assert_int_equal(w.connect_status, NB_BUSY);
    for (size_t i = 0; i < NB_ARRAY_LEN(fill); i++) {
        (void)close(fill[i]);
    }
    (void)close(fd);
    close_world(&w);
}

static void a_port_in_use_is_reported(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    struct net_listener *second;
    struct net_error error;
    assert_int_equal(net_listener_open(w.loop, &w.address, NULL, on_accept, &w, &second, &error),
                     NB_LOCKED);
    assert_non_null(strstr(error.text, "address already in use"));
    close_world(&w);
}

static void N16_accepting_pauses_when_descriptors_run_short(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    struct rlimit old, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    int probe = dup(0);
    (void)close(probe);
    low = old;
    low.rlim_cur = (rlim_t)probe + 20; /* the reserve is 32 */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    (void)!net_connect_start(w.loop, &w.address, 0, on_connect, &w);
    UNTIL(&w, net_listener_is_paused(w.listener));
    assert_int_equal(w.accepts, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    UNTIL(&w, w.accepts == 1); /* the kernel kept it waiting */
    assert_false(net_listener_is_paused(w.listener));
    close_world(&w);
}

static void unix_sockets_work_too(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    char *path = nb_sprintf("/tmp/nabata-net-test-%ld", (long)getpid());
    char *url = nb_sprintf("unix://%s", path);
    (void)unlink(path);
    struct net_address at;
    assert_true(net_address_parse(url, 0, &at, NULL));
    struct net_listener *l;
    assert_int_equal(net_listener_open(w.loop, &at, NULL, on_accept, &w, &l, NULL), NB_OK);
    w.address = at;
    join(&w);
    assert_string_equal(net_conn_peer(w.server.conn), "@");
    net_conn_write(w.client.conn, nb_bytes_str("x"));
    UNTIL(&w, w.server.got.len == 1);
    close_world(&w);
    (void)unlink(path);
    nb_free(path);
    nb_free(url);
}

/* ---- the loop itself ---- */

struct order {
    struct world *w;
    char steps[16];
    size_t count;
    struct net_wake *wake;
    int fd;
};

static void note(struct order *o, char c)
{
    if (o->count < sizeof o->steps - 1) {
        o->steps[o->count++] = c;
    }
}

static void on_event(void *user)
{
    struct order *o = user;
    uint64_t value;
    assert_int_equal(read(o->fd, &value, sizeof value), sizeof value);
    note(o, 'e');
}

static void on_turn(void *user)
{
    struct order *o = user;
    if (o->count != 0 && o->steps[o->count - 1] != 't') {
        note(o, 't');
    }
}

static void on_wake(void *user)
{
    note(user, 'w');
}

static void *wake_from_thread(void *user)
{
    struct order *o = user;
    net_wake_send(o->wake);
    return NULL;
}

static void on_signal(void *user, int number)
{
    assert_int_equal(number, SIGUSR1);
    note(user, 's');
}

static void on_fire(void *user)
{
    note(user, 'f');
}

static void job_work(void *user)
{
    (void)user;
}

static void job_done(void *user)
{
    note(user, 'j');
}

static void every_kind_of_event_ends_in_a_turn_hook(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    struct order o = {.w = &w, .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    net_loop_add_turn_hook(w.loop, on_turn, &o);
    struct net_watch *watch = net_watch_create(w.loop, o.fd, on_event, &o);
    struct net_signal *signal = net_signal_create(w.loop, SIGUSR1, on_signal, &o);
    struct net_timer *timer = net_timer_create(w.loop, on_fire, &o);
    o.wake = net_wake_create(w.loop, on_wake, &o);
    uint64_t one = 1;
    assert_int_equal(write(o.fd, &one, sizeof one), sizeof one);
    UNTIL(&w, o.count == 2);
    (void)raise(SIGUSR1);
    UNTIL(&w, o.count == 4);
    net_timer_start(timer, NS_PER_MS, 0);
    assert_true(net_timer_running(timer));
    UNTIL(&w, o.count == 6);
    assert_false(net_timer_running(timer));
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wake_from_thread, &o), 0);
    UNTIL(&w, o.count == 8);
    assert_int_equal(pthread_join(thread, NULL), 0);
    net_work(w.loop, job_work, job_done, &o);
    UNTIL(&w, o.count == 10);
    assert_string_equal(o.steps, "etstftwtjt");
    net_watch_destroy(watch);
    net_signal_destroy(signal);
    net_timer_destroy(timer);
    net_wake_destroy(o.wake);
    (void)close(o.fd);
    close_world(&w);
}

static void a_unix_socket_is_taken_over_only_from_the_dead(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    char folder[] = "/tmp/nabata-net-XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct net_address at = {.scheme = NET_SCHEME_UNIX};
    (void)snprintf(at.host, sizeof at.host, "%s/sock", folder);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    (void)snprintf(un.sun_path, sizeof un.sun_path, "%s/sock", folder);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    (void)close(fd); /* as a killed process leaves it */
    struct net_listener *first, *second;
    assert_int_equal(net_listener_open(w.loop, &at, NULL, on_accept, &w, &first, NULL), NB_OK);
    struct net_error error;
    assert_int_equal(net_listener_open(w.loop, &at, NULL, on_accept, &w, &second, &error),
                     NB_LOCKED);
    UNTIL(&w, w.server.closes == 1); /* its question whether somebody lives there */
    w.server.closes = 0;
    w.accepts = 0;
    w.address = at;
    join(&w);
    net_conn_write(w.client.conn, nb_bytes_str("hello"));
    UNTIL(&w, w.server.got.len == 5);
    net_listener_close(first);
    assert_int_equal(access(at.host, F_OK), -1);
    assert_int_equal(rmdir(folder), 0);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_go_there_and_back),
        cmocka_unit_test(a_close_writes_what_was_said_before_it),
        cmocka_unit_test(an_abort_within_a_callback_is_fine),
        cmocka_unit_test(N06_output_stops_at_its_high_mark_and_goes_on_after_it),
        cmocka_unit_test(N4_an_idle_connection_holds_little),
        cmocka_unit_test(a_refused_connect_says_so),
        cmocka_unit_test(names_are_resolved_and_unknown_ones_reported),
        cmocka_unit_test(a_canceled_connect_says_nothing),
        cmocka_unit_test(a_connect_gives_up_after_its_time),
        cmocka_unit_test(a_port_in_use_is_reported),
        cmocka_unit_test(N16_accepting_pauses_when_descriptors_run_short),
        cmocka_unit_test(unix_sockets_work_too),
        cmocka_unit_test(every_kind_of_event_ends_in_a_turn_hook),
        cmocka_unit_test(a_unix_socket_is_taken_over_only_from_the_dead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

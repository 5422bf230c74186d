#include "net/loop.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct net_timer {
    uv_timer_t uv;
    struct net_loop *loop;
    void (*on_fire)(void *user);
    void *user;
};

struct net_watch {
    uv_poll_t uv;
    struct net_loop *loop;
    void (*on_readable)(void *user);
    void *user;
};

struct net_signal {
    uv_signal_t uv;
    struct net_loop *loop;
    void (*on_signal)(void *user, int signal_number);
    void *user;
};

struct net_wake {
    uv_async_t uv;
    struct net_loop *loop;
    void (*on_wake)(void *user);
    void *user;
};

struct net_job {
    uv_work_t uv;
    struct net_loop *loop;
    void (*work)(void *user);
    void (*done)(void *user);
    void *user;
};

enum nb_status net_status_of_uv(int error)
{
    switch (error) {
    case 0:
        return NB_OK;
    case UV_EADDRINUSE:
        return NB_LOCKED;
    case UV_EACCES:
    case UV_EPERM:
        return NB_ACCESS;
    case UV_ECONNREFUSED:
        return NB_CLOSED;
    case UV_ETIMEDOUT:
        return NB_BUSY;
    case UV_ECANCELED:
        return NB_CANCELED;
    case UV_EINVAL:
    case UV_EADDRNOTAVAIL:
        return NB_INVALID;
    case UV_ENOENT:
    case UV_EAI_NONAME:
    case UV_EAI_NODATA:
    case UV_EAI_AGAIN:
    case UV_EAI_FAIL:
        return NB_NOT_FOUND;
    default:
        return NB_IO;
    }
}

void net_error_set(struct net_error *error, const char *format, ...)
{
    if (error != NULL) {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(error->text, sizeof error->text, format, args);
        va_end(args);
    }
}

/* ---- turns ---- */

static void on_idle(uv_idle_t *handle)
{
    (void)handle; /* that it runs makes the poll not wait */
}

static void update_idle(struct net_loop *loop)
{
    if (loop->busy || loop->dirty != NULL) {
        (void)uv_idle_start(&loop->idle, on_idle);
    } else {
        (void)uv_idle_stop(&loop->idle);
    }
}

static void end_turn(struct net_loop *loop)
{
    if (loop->stirred || loop->busy) {
        loop->stirred = false;
        for (size_t i = 0; i < loop->hook_count; i++) {
            loop->hooks[i].call(loop->hooks[i].user);
        }
    }
    if (loop->dirty != NULL) {
        net_loop_flush(loop);
    }
    update_idle(loop);
}

/* After the poll is the end of a turn; before it, timers and closings may have left something,
 * which must not wait for the next event. */
static void on_check(uv_check_t *handle)
{
    end_turn(handle->data);
}

static void on_prepare(uv_prepare_t *handle)
{
    struct net_loop *loop = handle->data;
    if (loop->stirred || loop->dirty != NULL) {
        end_turn(loop);
    }
}

static void on_linger(uv_timer_t *handle)
{
    struct net_loop *loop = handle->data;
    net_stir(loop);
    net_loop_linger(loop);
}

struct net_loop *net_loop_create(void)
{
    struct net_loop *loop = nb_alloc_zero(1, sizeof *loop);
    (void)signal(SIGPIPE, SIG_IGN); /* [Z07] */
    int rc = uv_loop_init(&loop->uv);
    nb_assert(rc == 0);
    loop->read_buffer = nb_alloc(NET_READ_SIZE);
    (void)uv_prepare_init(&loop->uv, &loop->prepare);
    (void)uv_check_init(&loop->uv, &loop->check);
    (void)uv_idle_init(&loop->uv, &loop->idle);
    (void)uv_timer_init(&loop->uv, &loop->linger);
    loop->prepare.data = loop->check.data = loop->linger.data = loop;
    (void)uv_prepare_start(&loop->prepare, on_prepare);
    (void)uv_check_start(&loop->check, on_check);
    (void)uv_timer_start(&loop->linger, on_linger, 1000, 1000);
    (void)uv_timer_stop(&loop->linger);
    uv_unref((uv_handle_t *)&loop->prepare);
    uv_unref((uv_handle_t *)&loop->check);
    uv_unref((uv_handle_t *)&loop->linger);
    return loop;
}

void net_loop_destroy(struct net_loop *loop)
{
    loop->stopping = true;
    loop->hook_count = 0;
    loop->busy = false;
    net_listeners_close(loop);
    net_names_destroy(loop);
    for (struct net_conn *c = loop->conns; c != NULL; c = c->next) {
        net_conn_end(c, NB_CANCELED);
    }
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    uv_close((uv_handle_t *)&loop->check, NULL);
    uv_close((uv_handle_t *)&loop->idle, NULL);
    uv_close((uv_handle_t *)&loop->linger, NULL);
    while (uv_run(&loop->uv, UV_RUN_ONCE) != 0) {
        for (struct net_conn *c = loop->conns; c != NULL; c = c->next) {
            net_conn_end(c, NB_CANCELED); /* a connect may have ended meanwhile */
        }
    }
    int rc = uv_loop_close(&loop->uv);
    nb_assert(rc == 0); /* else a timer, watch, signal or wake was not destroyed */
    for (size_t i = 0; i < loop->pool_count; i++) {
        nb_buf_deinit(&loop->pool[i]);
    }
    nb_buf_deinit(&loop->sink);
    nb_free(loop->read_buffer);
    nb_free(loop);
}

void net_loop_run(struct net_loop *loop)
{
    (void)uv_run(&loop->uv, UV_RUN_DEFAULT);
}

bool net_loop_run_once(struct net_loop *loop, bool wait)
{
    bool more = uv_run(&loop->uv, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT) != 0;
    if (loop->stirred || loop->dirty != NULL) {
        end_turn(loop); /* libuv may run timers last of all */
    }
    return more;
}

void net_loop_stop(struct net_loop *loop)
{
    uv_stop(&loop->uv);
}

uint64_t net_now_ns(void)
{
    return uv_hrtime();
}

uint64_t net_loop_now_ns(const struct net_loop *loop)
{
    return uv_now(&loop->uv) * 1000000;
}

void net_loop_add_turn_hook(struct net_loop *loop, void (*hook)(void *user), void *user)
{
    nb_assert(loop->hook_count < NET_HOOKS_MAX);
    loop->hooks[loop->hook_count++] = (struct net_hook){hook, user};
}

void net_loop_set_busy(struct net_loop *loop, bool busy)
{
    loop->busy = busy;
    update_idle(loop);
}

size_t net_loop_conn_count(const struct net_loop *loop)
{
    return loop->conn_count;
}

/* ---- handles ---- */

static void free_handle(uv_handle_t *handle)
{
    nb_free(handle->data);
}

static void on_timer(uv_timer_t *handle)
{
    struct net_timer *t = handle->data;
    net_stir(t->loop);
    t->on_fire(t->user);
}

struct net_timer *net_timer_create(struct net_loop *loop, void (*on_fire)(void *user), void *user)
{
    struct net_timer *t = nb_alloc_zero(1, sizeof *t);
    *t = (struct net_timer){.loop = loop, .on_fire = on_fire, .user = user};
    (void)uv_timer_init(&loop->uv, &t->uv);
    t->uv.data = t;
    return t;
}

static uint64_t ms_of(uint64_t ns)
{
    return ns / 1000000 + (ns % 1000000 != 0);
}

void net_timer_start(struct net_timer *t, uint64_t delay_ns, uint64_t repeat_ns)
{
    uv_update_time(&t->loop->uv);
    (void)uv_timer_start(&t->uv, on_timer, ms_of(delay_ns), ms_of(repeat_ns));
}

void net_timer_stop(struct net_timer *t)
{
    (void)uv_timer_stop(&t->uv);
}

bool net_timer_running(const struct net_timer *t)
{
    return uv_is_active((const uv_handle_t *)&t->uv) != 0;
}

void net_timer_destroy(struct net_timer *t)
{
    if (t != NULL) {
        uv_close((uv_handle_t *)&t->uv, free_handle);
    }
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    (void)status;
    (void)events;
    struct net_watch *w = handle->data;
    net_stir(w->loop);
    w->on_readable(w->user);
}

struct net_watch *net_watch_create(struct net_loop *loop, int fd, void (*on_readable)(void *user),
                                   void *user)
{
    struct net_watch *w = nb_alloc_zero(1, sizeof *w);
    *w = (struct net_watch){.loop = loop, .on_readable = on_readable, .user = user};
    int rc = uv_poll_init(&loop->uv, &w->uv, fd);
    nb_assert(rc == 0);
    w->uv.data = w;
    rc = uv_poll_start(&w->uv, UV_READABLE, on_poll);
    nb_assert(rc == 0);
    return w;
}

void net_watch_destroy(struct net_watch *w)
{
    if (w != NULL) {
        uv_close((uv_handle_t *)&w->uv, free_handle);
    }
}

static void on_uv_signal(uv_signal_t *handle, int signal_number)
{
    struct net_signal *s = handle->data;
    net_stir(s->loop);
    s->on_signal(s->user, signal_number);
}

struct net_signal *net_signal_create(struct net_loop *loop, int signal_number,
                                     void (*on_signal)(void *user, int signal_number), void *user)
{
    struct net_signal *s = nb_alloc_zero(1, sizeof *s);
    *s = (struct net_signal){.loop = loop, .on_signal = on_signal, .user = user};
    (void)uv_signal_init(&loop->uv, &s->uv);
    s->uv.data = s;
    int rc = uv_signal_start(&s->uv, on_uv_signal, signal_number);
    nb_assert(rc == 0);
    return s;
}

void net_signal_destroy(struct net_signal *s)
{
    if (s != NULL) {
        uv_close((uv_handle_t *)&s->uv, free_handle);
    }
}

static void on_async(uv_async_t *handle)
{
    struct net_wake *w = handle->data;
    net_stir(w->loop);
    w->on_wake(w->user);
}

struct net_wake *net_wake_create(struct net_loop *loop, void (*on_wake)(void *user), void *user)
{
    struct net_wake *w = nb_alloc_zero(1, sizeof *w);
    *w = (struct net_wake){.loop = loop, .on_wake = on_wake, .user = user};
    int rc = uv_async_init(&loop->uv, &w->uv, on_async);
    nb_assert(rc == 0);
    w->uv.data = w;
    return w;
}

void net_wake_send(struct net_wake *w)
{
    (void)uv_async_send(&w->uv);
}

void net_wake_destroy(struct net_wake *w)
{
    if (w != NULL) {
        uv_close((uv_handle_t *)&w->uv, free_handle);
    }
}

static void run_job(uv_work_t *request)
{
    struct net_job *job = request->data;
    job->work(job->user);
}

static void end_job(uv_work_t *request, int status)
{
    (void)status;
    struct net_job *job = request->data;
    net_stir(job->loop);
    job->done(job->user);
    nb_free(job);
}

void net_work(struct net_loop *loop, void (*work)(void *user), void (*done)(void *user), void *user)
{
    struct net_job *job = nb_alloc_zero(1, sizeof *job);
    *job = (struct net_job){.loop = loop, .work = work, .done = done, .user = user};
    job->uv.data = job;
    int rc = uv_queue_work(&loop->uv, &job->uv, run_job, end_job);
    nb_assert(rc == 0);
}

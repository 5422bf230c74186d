/*
 * CPU of one unary call within rpc/: a client's and a server's session joined in memory.
 *
 *     bench_rpc [calls [in-flight [message bytes]]]
 *
 * Prints ns a call for both ends, and for the server alone, from the thread's CPU clock.
 */
#include "tests/support/rpc_pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t cpu_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static size_t done_count;

static void count_done(struct rpc_client_call *call, void *user, enum rpc_status status,
                       struct nb_bytes text)
{
    (void)call;
    (void)user;
    (void)text;
    nb_assert(status == RPC_OK);
    done_count++;
}

static const struct rpc_client_events events = {NULL, count_done};

static size_t argument(int argc, char **argv, int i, size_t otherwise)
{
    return argc > i ? strtoul(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    size_t calls = argument(argc, argv, 1, 1000000);
    size_t in_flight = argument(argc, argv, 2, 64);
    size_t size = argument(argc, argv, 3, 280);
    struct pair p;
    pair_init(&p, NULL, NULL);
    uint8_t *data = nb_alloc_zero(1, size + 1);
    struct rpc_client_request r = {.path = "/t.S/Echo", .events = &events};
    uint64_t begin = cpu_ns(), server_ns = 0;
    size_t started = 0;
    (void)pair_pump(&p);
    while (done_count < calls) {
        for (size_t i = 0; i < in_flight; i++, started++) {
            (void)!rpc_client_unary(p.client, &r, nb_bytes_of(data, size));
        }
        nb_buf_clear(&p.up);
        (void)rpc_client_output(p.client, &p.up, SIZE_MAX);
        uint64_t from = cpu_ns();
        nb_assert(rpc_conn_feed(p.conn, nb_buf_bytes(&p.up), p.now_ns) == NB_OK);
        nb_buf_clear(&p.down);
        (void)rpc_conn_output(p.conn, &p.down, SIZE_MAX);
        server_ns += cpu_ns() - from;
        p.now_ns += 1000000;
        nb_assert(rpc_client_feed(p.client, nb_buf_bytes(&p.down), p.now_ns) == NB_OK);
    }
    uint64_t total_ns = cpu_ns() - begin;
    (void)printf("%zu calls of %zu B, %zu in flight: %.0f ns a call, server %.0f, client %.0f\n",
                 done_count, size, in_flight, (double)total_ns / (double)done_count,
                 (double)server_ns / (double)done_count,
                 (double)(total_ns - server_ns) / (double)done_count);
    nb_free(data);
    pair_deinit(&p);
    return 0;
}

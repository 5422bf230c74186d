/*
 * Any bytes to a server's connection, of HTTP/2 or HTTP/1.1. The first byte says how the rest is
 * cut and whether HTTP/2's preface comes before it; calls that wait are answered at random moments.
 */
#include "tests/support/rpc_pair.h"

#include <nghttp2/nghttp2.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void answer_one(struct pair *p, unsigned how)
{
    if (p->http != NULL && how % 2 == 0) {
        struct rpc_http *http = p->http;
        p->http = NULL;
        if (how % 4 == 0) {
            rpc_http_reply(http, 200, NULL, NULL, nb_bytes_str("later"));
        } else {
            rpc_http_begin(http, 200, NULL, NULL);
            rpc_http_chunk(http, nb_bytes_str("later"));
            rpc_http_end(http);
        }
    }
    if (p->kept_count != 0) {
        struct rpc_call *call = p->kept[--p->kept_count];
        rpc_call_send(call, nb_bytes_str("head"), nb_bytes_str("body"));
        rpc_call_finish(call, how % 17, "words");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rpc_limits limits = {.message_bytes_max = 10000,
                                .calls_max = 100,
                                .unfinished_bytes_max = 50000,
                                .output_bytes_max = 100000,
                                .http_body_bytes_max = 1000};
    struct pair p;
    pair_init(&p, &limits, NULL);
    unsigned how = size == 0 ? 0 : data[0];
    size_t at = size == 0 ? 0 : 1;
    p.split = how & 0x0f;
    if ((how & 0x10) != 0) {
        (void)pair_feed(&p, NGHTTP2_CLIENT_MAGIC "\0\0\0\4\0\0\0\0\0", 33);
    }
    while (at < size && p.conn_status == NB_OK) {
        size_t piece = size - at < 64 ? size - at : 64;
        (void)pair_feed(&p, data + at, piece);
        at += piece;
        nb_assert(rpc_conn_call_count(p.conn) <= 100);
        nb_assert(rpc_conn_unread_bytes(p.conn) <= 200000);
        if ((how & 0x20) != 0) {
            answer_one(&p, how);
        }
        if ((how & 0x40) != 0) {
            nb_buf_clear(&p.down);
            (void)rpc_conn_output(p.conn, &p.down, 100);
        }
        if ((how & 0x80) != 0 && p.conn_status == NB_OK) {
            p.now_ns += UINT64_C(7000000000);
            p.conn_status = rpc_conn_tick(p.conn, p.now_ns);
        }
    }
    while (rpc_conn_output(p.conn, &p.down, 1 << 20)) {
    }
    pair_deinit(&p);
    return 0;
}

/* soak: reading everything back, and the report. See soak.h. */
#include "cli/soak.h"

#include "base/log.h"
#include "rpc.pb-c.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 1000, TRIES_MAX = 5 };

/* One page of keys from number `first` on; NULL when the node cannot be read. */
static Etcdserverpb__RangeResponse *read_page(struct soak *s, size_t endpoint, uint64_t first)
{
    char key[96];
    Etcdserverpb__RangeResponse *page = NULL;
    Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
    struct nb_buf bytes = {0};
    range.key = ops_text(soak_key(s, first, key));
    range.range_end = ops_bytes(ops_prefix_end(&s->cli->arena, nb_bytes_str(s->prefix)));
    range.limit = PAGE;
    cli_pack(&bytes, &range.base);
    for (unsigned tries = 0; page == NULL && tries < TRIES_MAX; tries++) {
        struct client_answer answer;
        struct client_request request = {.path = "/etcdserverpb.KV/Range",
                                         .message = nb_buf_bytes(&bytes),
                                         .flags = CLIENT_READ,
                                         .endpoint = endpoint,
                                         .timeout_ns = 5 * CLI_NS_PER_S};
        client_call_sync(s->cli->client, &request, &answer);
        bool sent = answer.sent;
        if (answer.status == RPC_OK) {
            page =
                etcdserverpb__range_response__unpack(NULL, answer.message.len, answer.message.data);
        }
        client_answer_deinit(&answer);
        if (!sent) {
            break; /* it is down */
        }
    }
    nb_buf_deinit(&bytes);
    return page;
}

/* Marks the keys of a page in `seen`; the number after the last one. */
static uint64_t take_page(struct soak *s, const Etcdserverpb__RangeResponse *page, bool *seen)
{
    size_t prefix = strlen(s->prefix);
    uint64_t next = s->next_key;
    for (size_t i = 0; i < page->n_kvs; i++) {
        const Mvccpb__KeyValue *pair = page->kvs[i];
        char text[32] = "", value[32];
        size_t digits = pair->key.len > prefix ? pair->key.len - prefix : 0;
        if (digits == 0 || digits >= sizeof text) {
            continue;
        }
        memcpy(text, pair->key.data + prefix, digits);
        uint64_t key = strtoull(text, NULL, 10);
        next = key + 1;
        if (key >= s->next_key) {
            continue;
        }
        (void)soak_value(key, value);
        seen[key] =
            nb_bytes_equal(nb_bytes_of(pair->value.data, pair->value.len), nb_bytes_str(value)) &&
            pair->mod_revision >= s->revisions[key];
    }
    return page->more ? next : s->next_key;
}

/* False when the node could not be read. */
static bool verify_node(struct soak *s, struct soak_node *node)
{
    bool *seen = nb_alloc_zero(s->next_key + 1, sizeof *seen);
    uint64_t next = 0;
    bool whole = true;
    while (whole && next < s->next_key) {
        Etcdserverpb__RangeResponse *page = read_page(s, node->endpoint, next);
        whole = page != NULL;
        if (whole) {
            next = take_page(s, page, seen);
        }
        cli_free(page);
    }
    for (uint64_t key = 0; key < s->next_key && whole; key++) {
        node->missing_count += s->revisions[key] != 0 && !seen[key];
    }
    nb_free(seen);
    return whole;
}

bool soak_verify(struct soak *s)
{
    bool any = false;
    for (size_t i = 0; i < s->node_count; i++) {
        struct soak_node *node = &s->nodes[i];
        node->unread = !verify_node(s, node);
        any = any || !node->unread;
        if (node->missing_count > s->lost_count) {
            s->lost_count = node->missing_count;
        }
    }
    return any;
}

void soak_delete(struct soak *s)
{
    struct nb_buf bytes = {0};
    struct client_answer answer;
    Etcdserverpb__DeleteRangeRequest request = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    request.key = ops_text(s->prefix);
    request.range_end = ops_bytes(ops_prefix_end(&s->cli->arena, nb_bytes_str(s->prefix)));
    cli_pack(&bytes, &request.base);
    struct client_request call = {.path = "/etcdserverpb.KV/DeleteRange",
                                  .message = nb_buf_bytes(&bytes),
                                  .endpoint = CLIENT_ANY};
    client_call_sync(s->cli->client, &call, &answer);
    if (answer.status != RPC_OK) {
        (void)fprintf(stderr, "The keys %s* could not be deleted: %s\n", s->prefix, answer.error);
    }
    client_answer_deinit(&answer);
    nb_buf_deinit(&bytes);
}

int soak_verdict(const struct soak *s, bool verified)
{
    return !verified ? SOAK_NO_QUORUM : s->lost_count > 0 ? SOAK_LOST : SOAK_RIGHT;
}

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

static void report_json(const struct soak *s, int verdict, struct nb_buf *out)
{
    nb_buf_printf(out,
                  "{\"acknowledged\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"retried\":%" PRIu64
                  ",\"retried_twice\":%" PRIu64 ",\"lost\":%" PRIu64
                  ",\"longest_write_gap_ms\":%.3f,\"longest_without_leader_ms\":%.3f"
                  ",\"leader_changes\":%" PRIu64 ",\"took_s\":%.3f,\"prefix\":\"%s\",\"nodes\":[",
                  s->acknowledged_count, s->failed_count, s->retried_count, s->retried_twice_count,
                  s->lost_count, seconds(s->writing.longest_ns) * 1e3,
                  seconds(s->leading.longest_ns) * 1e3, s->leader_changes,
                  seconds(s->stopped_ns - s->started_ns), s->prefix);
    for (size_t i = 0; i < s->node_count; i++) {
        nb_buf_append_str(out, i > 0 ? ",{\"endpoint\":\"" : "{\"endpoint\":\"");
        nb_json_escape(out, nb_bytes_str(client_endpoint_name(s->cli->client, i)));
        nb_buf_printf(out, "\",\"read\":%s,\"missing\":%" PRIu64 "}",
                      s->nodes[i].unread ? "false" : "true", s->nodes[i].missing_count);
    }
    nb_buf_printf(out, "],\"ok\":%s}\n", verdict == SOAK_RIGHT ? "true" : "false");
}

void soak_report(const struct soak *s, int verdict, bool json, struct nb_buf *out)
{
    if (json) {
        report_json(s, verdict, out);
        return;
    }
    nb_buf_printf(out,
                  "Written: %" PRIu64 " values in %.1f s, %" PRIu64 " sent again, %" PRIu64
                  " failed%s%s\n",
                  s->acknowledged_count, seconds(s->stopped_ns - s->started_ns), s->retried_count,
                  s->failed_count, s->first_failed != NULL ? "; the first: " : "",
                  s->first_failed != NULL ? s->first_failed : "");
    nb_buf_printf(out, "Longest time without an acknowledged write: %.3f s\n",
                  seconds(s->writing.longest_ns));
    nb_buf_printf(out, "Longest time without a leader:              %.3f s (%" PRIu64 " changes)\n",
                  seconds(s->leading.longest_ns), s->leader_changes);
    for (size_t i = 0; i < s->node_count; i++) {
        const struct soak_node *node = &s->nodes[i];
        const char *name = client_endpoint_name(s->cli->client, i);
        if (node->unread) {
            nb_buf_printf(out, "%s: cannot be read\n", name);
        } else {
            nb_buf_printf(out, "%s: %" PRIu64 " of %" PRIu64 " acknowledged values are there\n",
                          name, s->acknowledged_count - node->missing_count, s->acknowledged_count);
        }
    }
    nb_buf_append_str(out, verdict == SOAK_RIGHT  ? "NOTHING LOST\n"
                           : verdict == SOAK_LOST ? "LOST: acknowledged writes are not there\n"
                                                  : "NO QUORUM: nothing could be read back\n");
}

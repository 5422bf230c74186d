/* What `check` found, in words, and the verdict. */
#include "base/log.h"
#include "cli/check.h"
#include "cli/table.h"

#include <inttypes.h>
#include <string.h>

static const char *const titles[] = {"endpoint", "name",     "role",     "term",     "last index",
                                     "applied",  "revision", "log hash", "data hash"};

static const char *role_of(const struct check_node *n)
{
    if (n->down != NULL) {
        return "down";
    }
    if (n->node != NULL && n->node->role[0] != '\0') {
        return n->node->role;
    }
    if (n->status == NULL || n->status->header == NULL) {
        return "-";
    }
    return n->status->leader == n->status->header->member_id ? "leader"
           : n->status->islearner                            ? "learner"
                                                             : "follower";
}

static const char *name_of(const struct check_node *n)
{
    if (n->node != NULL && n->node->name[0] != '\0') {
        return n->node->name;
    }
    return n->name != NULL && n->name[0] != '\0' ? n->name : "-";
}

static const struct check_node *leader_of(const struct check *c)
{
    for (size_t i = 0; i < c->node_count; i++) {
        if (strcmp(role_of(&c->nodes[i]), "leader") == 0) {
            return &c->nodes[i];
        }
    }
    return NULL;
}

static uint64_t total(const struct check *c, size_t offset)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < c->node_count; i++) {
        uint64_t count;
        memcpy(&count, (const uint8_t *)&c->nodes[i] + offset, sizeof count);
        sum += count;
    }
    return sum;
}

static uint64_t wrong_total(const struct check *c)
{
    return total(c, offsetof(struct check_node, wrong_count)) +
           total(c, offsetof(struct check_node, unread_count));
}

/* By the log if the nodes show it, else by the data. */
static enum check_same same_log(const struct check *c)
{
    if (c->log == CHECK_UNKNOWN) {
        return c->data;
    }
    return c->data == CHECK_DIFFERENT ? CHECK_DIFFERENT : c->log;
}

int check_verdict(const struct check *c)
{
    if (c->write_error != NULL) {
        return CHECK_NO_QUORUM;
    }
    return wrong_total(c) == 0 && same_log(c) == CHECK_SAME ? CHECK_RIGHT : CHECK_WRONG;
}

static void add_row(struct table *t, const struct check_node *n)
{
    const Etcdserverpb__StatusResponse *s = n->down == NULL ? n->status : NULL;
    table_add(t, "%s", n->endpoint);
    table_add(t, "%s", name_of(n));
    table_add(t, "%s", role_of(n));
    if (s == NULL) {
        for (size_t i = 3; i < NB_ARRAY_LEN(titles); i++) {
            table_add(t, "-");
        }
        return;
    }
    uint64_t term = n->node != NULL ? n->node->term : s->raftterm;
    table_add(t, "%" PRIu64, term);
    table_add(t, "%" PRIu64, n->node != NULL ? n->node->last_index : s->raftindex);
    table_add(t, "%" PRIu64, n->node != NULL ? n->node->applied_index : s->raftappliedindex);
    table_add(t, "%" PRId64, s->header != NULL ? s->header->revision : 0);
    if (n->node != NULL && n->node->hash_known) {
        table_add(t, "%016" PRIx64, n->node->log_hash);
    } else {
        table_add(t, "-");
    }
    if (n->hash != NULL) {
        table_add(t, "%08" PRIx32, n->hash->hash);
    } else {
        table_add(t, "-");
    }
}

static void sentence_same(const struct check *c, bool color, struct nb_buf *out)
{
    enum check_same same = same_log(c);
    const char *on = !color ? "" : same == CHECK_SAME ? "\033[1;32m" : "\033[1;31m";
    nb_buf_printf(out, "ALL LIVE NODES HOLD THE SAME LOG OF OPERATIONS: %s%s%s", on,
                  same == CHECK_SAME        ? "yes"
                  : same == CHECK_DIFFERENT ? "NO"
                                            : "unknown",
                  color ? "\033[0m" : "");
    if (c->common_index > 0) {
        nb_buf_printf(out, " (%zu of %zu nodes, compared up to index %" PRIu64 ")\n", c->live_count,
                      c->node_count, c->common_index);
    } else {
        nb_buf_printf(out,
                      " (%zu of %zu nodes; they do not show their logs, so the hash of their "
                      "history up to revision %" PRId64 " was compared)\n",
                      c->live_count, c->node_count, c->revision);
    }
}

static void report_text(const struct check *c, bool color, struct nb_buf *out)
{
    struct table table;
    table_init(&table, titles, NB_ARRAY_LEN(titles));
    for (size_t i = 0; i < c->node_count; i++) {
        add_row(&table, &c->nodes[i]);
    }
    table_print(&table, out);
    table_deinit(&table);
    for (size_t i = 0; i < c->node_count; i++) {
        if (c->nodes[i].down != NULL) {
            nb_buf_printf(out, "Down:    %s: %s\n", c->nodes[i].endpoint, c->nodes[i].down);
        }
    }
    const struct check_node *leader = leader_of(c);
    if (leader != NULL) {
        nb_buf_printf(out, "Leader:  %s (%s)\n", name_of(leader), leader->endpoint);
    } else {
        nb_buf_append_str(out, "Leader:  none that answers\n");
    }
    nb_buf_printf(out, "Written: %" PRIu64 " of %" PRIu64 " values\n", c->written_count,
                  c->key_count);
    if (c->write_error != NULL) {
        nb_buf_printf(out,
                      "NO QUORUM: writing was given up: %s\n"
                      "A majority of the members must run and reach each other.\n",
                      c->write_error);
        return;
    }
    uint64_t reads = total(c, offsetof(struct check_node, read_count));
    nb_buf_printf(out, "Read:    %" PRIu64 " values, each through every live node: ", reads);
    if (wrong_total(c) == 0) {
        nb_buf_append_str(out, "all right\n");
    } else {
        nb_buf_printf(out, "%" PRIu64 " WRONG, %" PRIu64 " unreadable\n         first: %s\n",
                      total(c, offsetof(struct check_node, wrong_count)),
                      total(c, offsetof(struct check_node, unread_count)), c->first_wrong);
    }
    sentence_same(c, color, out);
}

/* ---- json ---- */

static void json_text(struct nb_buf *out, const char *name, const char *text)
{
    nb_buf_printf(out, "\"%s\":", name);
    if (text == NULL) {
        nb_buf_append_str(out, "null");
        return;
    }
    nb_buf_append_str(out, "\"");
    nb_json_escape(out, nb_bytes_str(text));
    nb_buf_append_str(out, "\"");
}

static void json_node(const struct check_node *n, struct nb_buf *out)
{
    const Etcdserverpb__StatusResponse *s = n->down == NULL ? n->status : NULL;
    nb_buf_append_str(out, "{");
    json_text(out, "endpoint", n->endpoint);
    nb_buf_append_str(out, ",");
    json_text(out, "name", name_of(n));
    nb_buf_append_str(out, ",");
    json_text(out, "role", role_of(n));
    if (n->down != NULL) {
        nb_buf_append_str(out, ",");
        json_text(out, "error", n->down);
    }
    if (s != NULL) {
        nb_buf_printf(out,
                      ",\"term\":%" PRIu64 ",\"last_index\":%" PRIu64 ",\"applied_index\":%" PRIu64
                      ",\"revision\":%" PRId64,
                      n->node != NULL ? n->node->term : s->raftterm,
                      n->node != NULL ? n->node->last_index : s->raftindex,
                      n->node != NULL ? n->node->applied_index : s->raftappliedindex,
                      s->header != NULL ? s->header->revision : 0);
    }
    if (n->node != NULL && n->node->hash_known) {
        nb_buf_printf(out, ",\"log_hash\":\"%016" PRIx64 "\",\"log_hash_index\":%" PRIu64,
                      n->node->log_hash, n->node->hash_index);
    }
    if (n->hash != NULL) {
        nb_buf_printf(out, ",\"data_hash\":%" PRIu32, n->hash->hash);
    }
    nb_buf_printf(out, ",\"read\":%" PRIu64 ",\"wrong\":%" PRIu64 ",\"unreadable\":%" PRIu64 "}",
                  n->read_count, n->wrong_count, n->unread_count);
}

static const char *json_same(enum check_same same)
{
    return same == CHECK_SAME ? "true" : same == CHECK_DIFFERENT ? "false" : "null";
}

static void report_json(const struct check *c, struct nb_buf *out)
{
    const struct check_node *leader = leader_of(c);
    nb_buf_append_str(out, "{\"nodes\":[");
    for (size_t i = 0; i < c->node_count; i++) {
        nb_buf_append_str(out, i > 0 ? "," : "");
        json_node(&c->nodes[i], out);
    }
    nb_buf_append_str(out, "],");
    json_text(out, "leader", leader != NULL ? name_of(leader) : NULL);
    nb_buf_append_str(out, ",");
    json_text(out, "leader_endpoint", leader != NULL ? leader->endpoint : NULL);
    nb_buf_printf(out,
                  ",\"live\":%zu,\"keys\":%" PRIu64 ",\"written\":%" PRIu64 ",\"wrong\":%" PRIu64
                  ",\"same_log\":%s,\"log_compared\":%s,\"same_data\":%s,\"common_index\":%" PRIu64
                  ",\"revision\":%" PRId64 ",\"took_ms\":%" PRIu64 ",",
                  c->live_count, c->key_count, c->written_count, wrong_total(c),
                  json_same(same_log(c)), c->common_index > 0 ? "true" : "false",
                  json_same(c->data), c->common_index, c->revision,
                  (uint64_t)(c->took_ns / CLI_NS_PER_MS));
    json_text(out, "first_wrong", c->first_wrong);
    nb_buf_append_str(out, ",");
    json_text(out, "write_error", c->write_error);
    nb_buf_printf(out, ",\"ok\":%s}\n", check_verdict(c) == CHECK_RIGHT ? "true" : "false");
}

void check_report(const struct check *c, bool json, bool color, struct nb_buf *out)
{
    if (json) {
        report_json(c, out);
    } else {
        report_text(c, color, out);
    }
}

/*
 * api/debug: /debug/vars, the state of the process as one JSON object with etcd's keys: cmdline,
 * file_descriptor_limit, memstats (of those of Go's, what there is here), raft.status.
 */
#include "api/internal.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

static void write_string(struct nb_buf *out, struct nb_bytes text)
{
    nb_buf_append_str(out, "\"");
    nb_json_escape(out, text);
    nb_buf_append_str(out, "\"");
}

static void write_command_line(struct nb_buf *out)
{
    enum { COMMAND_SIZE_MAX = 64 << 10 };
    struct nb_buf text = {0};
    FILE *file = fopen("/proc/self/cmdline", "re");
    if (file != NULL) {
        uint8_t *to = nb_buf_extend(&text, COMMAND_SIZE_MAX);
        text.len = fread(to, 1, COMMAND_SIZE_MAX, file);
        (void)fclose(file);
    }
    nb_buf_append_str(out, "\"cmdline\": [");
    size_t at = 0;
    while (at < text.len) { /* each ends in a byte of 0 */
        const uint8_t *word = text.data + at;
        const uint8_t *end = memchr(word, 0, text.len - at);
        size_t len = end == NULL ? text.len - at : (size_t)(end - word);
        nb_buf_append_str(out, at == 0 ? "" : ",");
        write_string(out, nb_bytes_of(word, len));
        at += len + 1;
    }
    nb_buf_append_str(out, "]");
    nb_buf_deinit(&text);
}

static void write_memory(struct nb_buf *out)
{
    struct mallinfo2 m = mallinfo2();
    nb_buf_printf(
        out, "\"memstats\": {\"Alloc\":%zu,\"Sys\":%zu,\"HeapAlloc\":%zu,\"HeapSys\":%zu}",
        m.uordblks + m.hblkhd, m.arena + m.hblkhd, m.uordblks + m.hblkhd, m.arena + m.hblkhd);
}

static void write_progress(const struct raft *raft, struct nb_buf *out)
{
    static const char *const states[] = {
        [RAFT_PROGRESS_PROBE] = "StateProbe",
        [RAFT_PROGRESS_REPLICATE] = "StateReplicate",
        [RAFT_PROGRESS_SNAPSHOT] = "StateSnapshot",
    };
    const struct raft_conf *conf = raft_conf(raft);
    bool first = true;
    for (uint32_t i = 0; i < conf->voter_count + conf->learner_count; i++) {
        struct raft_progress p;
        uint64_t id =
            i < conf->voter_count ? conf->voters[i] : conf->learners[i - conf->voter_count];
        if (raft_progress_of(raft, id, &p)) {
            nb_buf_printf(out,
                          "%s\"%" PRIx64 "\":{\"match\":%" PRIu64 ",\"next\":%" PRIu64
                          ",\"state\":\"%s\"}",
                          first ? "" : ",", id, p.match_index, p.next_index, states[p.state]);
            first = false;
        }
    }
}

static void write_raft(struct replica *r, struct nb_buf *out)
{
    static const char *const roles[RAFT_ROLE_COUNT] = {
        [RAFT_FOLLOWER] = "StateFollower",
        [RAFT_PRE_CANDIDATE] = "StatePreCandidate",
        [RAFT_CANDIDATE] = "StateCandidate",
        [RAFT_LEADER] = "StateLeader",
    };
    struct raft_status s;
    raft_status(replica_raft(r), &s);
    nb_buf_printf(out,
                  "\"raft.status\": {\"id\":\"%" PRIx64 "\",\"term\":%" PRIu64
                  ",\"vote\":\"%" PRIx64 "\",\"commit\":%" PRIu64 ",\"lead\":\"%" PRIx64
                  "\",\"raftState\":\"%s\",\"applied\":%" PRIu64 ",\"progress\":{",
                  s.id, s.term, s.voted_for, s.commit_index, s.leader_id, roles[s.role],
                  machine_applied_index(replica_machine(r)));
    write_progress(replica_raft(r), out);
    nb_buf_printf(out, "},\"leadtransferee\":\"%" PRIx64 "\"}", s.transfer_target);
}

void api_debug_write(struct api *a, struct nb_buf *out)
{
    nb_buf_append_str(out, "{\n");
    write_command_line(out);
    nb_buf_printf(out, ",\n\"file_descriptor_limit\": %" PRIu64 ",\n", api_open_file_limit());
    write_memory(out);
    nb_buf_append_str(out, ",\n");
    write_raft(a->config.replica, out);
    nb_buf_append_str(out, "\n}\n");
}

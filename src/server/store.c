#include "server/store.h"

#include "base/random.h"
#include "server/discovery.h"
#include "server/join.h"
#include "server/server.h"
#include "storage/backend_lmdb.h"
#include "storage/disk_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { SMALL_FILE_SIZE_MAX = 64, JOINED_FILE_SIZE_MAX = 1 << 20 };

static int exit_of(enum nb_status status)
{
    switch ((int)status) {
    case NB_CORRUPT:
    case NB_VERSION:
    case NB_MALFORMED:
    case NB_TRUNCATED:
        return SERVER_EXIT_DAMAGE;
    case NB_NO_SPACE_DISK:
    case NB_IO:
        return SERVER_EXIT_DISK;
    default:
        return SERVER_EXIT_START;
    }
}

/* A file that holds one decimal number; 0 when there is none. */
static enum nb_status read_number(struct server_store *s, const char *name, uint64_t *out)
{
    char *path = nb_sprintf("%s/%s", s->datadir.member, name);
    struct nb_buf text = {0};
    enum nb_status status = disk_read_file(s->disk, path, SMALL_FILE_SIZE_MAX, &text);
    if (status == NB_NOT_FOUND) {
        *out = 0;
        status = NB_OK;
    } else if (status == NB_OK) {
        nb_buf_append(&text, "", 1);
        char *end;
        *out = strtoull((const char *)text.data, &end, 10);
        status = *end == '\n' ? NB_OK : NB_CORRUPT;
    }
    nb_buf_deinit(&text);
    nb_free(path);
    return status;
}

static enum nb_status write_number(struct server_store *s, const char *name, uint64_t value)
{
    char *path = nb_sprintf("%s/%s", s->datadir.member, name);
    struct nb_buf text = {0};
    nb_buf_printf(&text, "%" PRIu64 "\n", value);
    enum nb_status status = disk_write_file(s->disk, s->datadir.member, path, nb_buf_bytes(&text));
    nb_buf_deinit(&text);
    nb_free(path);
    return status;
}

static enum nb_status remove_note(struct server_store *s, const char *name)
{
    char *path = nb_sprintf("%s/%s", s->datadir.member, name);
    enum nb_status status = disk_unlink(s->disk, path);
    if (status == NB_OK || status == NB_NOT_FOUND) {
        status = disk_sync_dir(s->disk, s->datadir.member);
    }
    nb_free(path);
    return status;
}

enum nb_status server_store_note_install(struct server_store *s, uint64_t index)
{
    return index != 0 ? write_number(s, "installing", index) : remove_note(s, "installing");
}

static uint64_t random_id(void)
{
    uint64_t id = 0;
    while (id == 0) {
        id = nb_random_entropy();
    }
    return id;
}

static int write_identity(struct server_store *s, uint64_t cluster_id, uint64_t member_id,
                          struct nb_buf *message)
{
    struct datadir_ident ident = {.cluster_id = cluster_id, .member_id = member_id};
    enum nb_status status = datadir_ident_write(&s->datadir, &ident, message);
    if (status == NB_OK) {
        s->cluster_id = cluster_id;
        s->member_id = member_id;
    }
    return status == NB_OK ? SERVER_EXIT_OK : exit_of(status);
}

/* The first members: from the flags, or from SRV records, which are asked for here and not before:
 * who has a folder needs no name server to start. [K02] */
static enum server_config_outcome find_members(struct server_config *config, struct nb_buf *message)
{
    if (config->discovery_srv != NULL) {
        struct net_loop *loop = net_loop_create();
        enum server_config_outcome outcome =
            server_discover(loop, config, server_discovery_patience_ns, message);
        net_loop_destroy(loop);
        if (outcome != SERVER_CONFIG_RUN) {
            return outcome;
        }
    }
    return server_config_bootstrap(config, message);
}

/* Who the members are, for one that joined: kept until a snapshot says it. Before the identity, so
 * that a folder with one is known to be a joiner's. */
static enum nb_status write_joined(struct server_store *s)
{
    char *path = nb_sprintf("%s/joined", s->datadir.member);
    struct nb_buf members = {0};
    machine_members_encode(&s->joined, &members);
    enum nb_status status =
        disk_write_file(s->disk, s->datadir.member, path, nb_buf_bytes(&members));
    nb_buf_deinit(&members);
    nb_free(path);
    return status;
}

static enum nb_status read_joined(struct server_store *s)
{
    char *path = nb_sprintf("%s/joined", s->datadir.member);
    struct nb_buf members = {0};
    enum nb_status status = disk_read_file(s->disk, path, JOINED_FILE_SIZE_MAX, &members);
    if (status == NB_OK) {
        status = machine_members_apply(&s->joined, nb_buf_bytes(&members));
    }
    nb_buf_deinit(&members);
    nb_free(path);
    return status == NB_NOT_FOUND ? NB_OK : status;
}

static int join(struct server_store *s, const struct server_config *config,
                const struct nb_logger *log, struct nb_buf *message)
{
    struct server_joined found;
    int code = server_join_find(config, log, &found, message);
    if (code != SERVER_EXIT_OK) {
        return code;
    }
    s->cluster_id = found.cluster_id;
    s->member_id = found.member_id;
    s->joined = found.members;
    enum nb_status status = write_joined(s);
    if (status != NB_OK) {
        nb_buf_printf(message, "%s/joined cannot be written: %s\n", s->datadir.member,
                      nb_status_text(status));
        return exit_of(status);
    }
    nb_log(log, NB_LOG_INFO, "server.joins", "joined the cluster", NB_KV_ID("member", s->member_id),
           NB_KV_ID("cluster", s->cluster_id), NB_KV_U64("members", s->joined.count), NB_KV_END);
    return SERVER_EXIT_OK;
}

/* A folder that has an identity keeps it, whatever the flags say; an empty one gets the identity
 * that the flags give. [etcd-v3-surface 5.1] */
static int take_identity(struct server_store *s, struct server_config *config,
                         const struct nb_logger *log, struct nb_buf *message)
{
    bool pod = config->statefulset.service != NULL;
    if (s->datadir.has_ident) {
        s->cluster_id = s->datadir.ident.cluster_id;
        s->member_id = s->datadir.ident.member_id;
        if (s->cluster_id == 0 && !pod) {
            nb_buf_printf(message,
                          "%s is of a pod that has found no cluster yet: start it with "
                          "--statefulset, or use an empty folder\n",
                          s->datadir.path);
            return SERVER_EXIT_START;
        }
        if (read_joined(s) != NB_OK) {
            nb_buf_printf(message, "%s/joined is damaged: remove the member and add it anew\n",
                          s->datadir.member);
            return SERVER_EXIT_DAMAGE;
        }
        return SERVER_EXIT_OK;
    }
    if (pod) {
        return write_identity(s, 0, random_id(), message);
    }
    enum server_config_outcome outcome = find_members(config, message);
    if (outcome != SERVER_CONFIG_RUN) {
        return server_config_exit_code(outcome);
    }
    if (config->initial_cluster_existing) {
        int code = join(s, config, log, message);
        if (code != SERVER_EXIT_OK) {
            return code;
        }
    } else {
        s->cluster_id = config->cluster_id;
        s->member_id = config->member_id;
    }
    return write_identity(s, s->cluster_id, s->member_id, message);
}

/* The first members, the same on all members, before the first entry. */
static void bootstrap(struct server_store *s, const struct server_config *config)
{
    struct machine_members members = {0};
    for (size_t i = 0; i < config->initial_cluster.count; i++) {
        const struct server_member *m = &config->initial_cluster.items[i];
        char *urls[MACHINE_MEMBER_URL_COUNT_MAX];
        size_t count = 0;
        for (size_t k = 0; k < m->peer_urls.count && k < MACHINE_MEMBER_URL_COUNT_MAX; k++) {
            urls[count++] = nb_strdup(m->peer_urls.items[k].url);
        }
        struct machine_member member = {.id = m->id, .peer_urls = urls, .peer_url_count = count};
        machine_members_set(&members, &member);
        for (size_t k = 0; k < count; k++) {
            nb_free(urls[k]);
        }
    }
    machine_bootstrap(s->machine, &members);
    machine_members_deinit(&members);
}

/* The founder of a cluster is its first member, alone. */
static void bootstrap_alone(struct server_store *s, const struct server_config *config)
{
    char *urls[1] = {nb_strdup(config->initial_advertise_peer.items[0].url)};
    struct machine_members members = {0};
    struct machine_member self = {.id = s->member_id, .peer_urls = urls, .peer_url_count = 1};
    machine_members_set(&members, &self);
    machine_bootstrap(s->machine, &members);
    machine_members_deinit(&members);
    nb_free(urls[0]);
}

static int open_backend(struct server_store *s, struct server_config *config,
                        struct nb_buf *message)
{
    struct backend_ident ident = {.cluster_id = s->cluster_id, .member_id = s->member_id};
    struct backend_lmdb_options options = {.no_sync = config->unsafe_no_fsync};
    enum nb_status status =
        backend_lmdb_open(s->datadir.db, &ident, &options, &s->backend, message);
    if (status == NB_OK) {
        struct machine_options machine = {.hash_seed = s->boot_id};
        status = machine_create(s->backend, &machine, &s->machine, message);
    }
    if (status != NB_OK) {
        return status == NB_FOREIGN ? SERVER_EXIT_START : exit_of(status);
    }
    if (config->statefulset.service != NULL) {
        /* Who joins starts with no members: the leader's snapshot brings them. */
        if (machine_members(s->machine)->count == 0 && s->founding) {
            bootstrap_alone(s, config);
        }
    } else if (machine_members(s->machine)->count == 0 && s->joined.count == 0) {
        /* A first start, or one that a crash cut off before its members were stored. */
        if (config->initial_cluster.count == 0) {
            enum server_config_outcome outcome = find_members(config, message);
            if (outcome != SERVER_CONFIG_RUN) {
                return server_config_exit_code(outcome);
            }
        }
        bootstrap(s, config);
    }
    return SERVER_EXIT_OK;
}

/* Whether this member has never stored an entry. What the folder holds besides does not count: an
 * identity is written at the first start already, before any peer could say that it is in use.
 * [K04] */
static bool holds_nothing(const struct server_store *s)
{
    return s->recovered.entry_count == 0 && s->recovered.mark.index == 0 &&
           s->recovered.hard_state.commit_index == 0 && s->install_noted == 0 &&
           machine_applied_index(s->machine) == 0;
}

static int open_wal(struct server_store *s, const struct server_config *config,
                    struct nb_buf *message)
{
    s->wal_dir = nb_strdup(config->wal_dir == NULL ? s->datadir.wal : config->wal_dir);
    if (config->wal_dir != NULL) {
        enum nb_status made = disk_mkdir(s->disk, s->wal_dir);
        if (made != NB_OK && made != NB_EXISTS) {
            nb_buf_printf(message, "--wal-dir %s cannot be made: %s\n", s->wal_dir,
                          nb_status_text(made));
            return SERVER_EXIT_START;
        }
    }
    struct disk_linux_options disk = {.probe_dir = s->wal_dir, .no_sync = config->unsafe_no_fsync};
    enum nb_status status = disk_linux_create(&disk, &s->wal_disk);
    if (status != NB_OK) {
        nb_buf_printf(message, "the log's disk cannot be used: %s\n", nb_status_text(status));
        return SERVER_EXIT_START;
    }
    struct wal_ident ident = {.cluster_id = s->cluster_id, .member_id = s->member_id};
    struct wal_options options = {0};
    if (s->install_noted == 0) {
        options.index_expected = backend_label(s->backend)->applied_index;
    }
    status = wal_open(s->wal_disk, s->wal_dir, &ident, &options, &s->recovered, &s->wal, message);
    if (status != NB_OK) {
        return exit_of(status);
    }
    s->fresh = holds_nothing(s);
    return SERVER_EXIT_OK;
}

/* A predecessor that was killed keeps the lock until its last sync is through the kernel, after the
 * process has gone for all to see: so the lock is asked for again for a while. */
static enum nb_status open_datadir(struct server_store *s, const char *path, struct nb_buf *message)
{
    enum { TRIES = 500, PAUSE_US = 10000 };
    enum nb_status status = NB_LOCKED;
    for (unsigned i = 0; i < TRIES && status == NB_LOCKED; i++) {
        if (i != 0) {
            (void)usleep(PAUSE_US);
        }
        nb_buf_clear(message);
        status = datadir_open(s->disk, path, &s->datadir, message);
    }
    return status;
}

int server_store_open(struct server_store *s, struct server_config *config,
                      const struct nb_logger *log, struct nb_buf *message)
{
    *s = (struct server_store){.boot_id = nb_random_entropy()};
    struct disk_linux_options plain = {.no_aio = true};
    enum nb_status status = disk_linux_create(&plain, &s->disk);
    if (status != NB_OK) {
        nb_buf_printf(message, "files cannot be used: %s\n", nb_status_text(status));
        return SERVER_EXIT_START;
    }
    status = open_datadir(s, config->data_dir, message);
    if (status != NB_OK) {
        return exit_of(status);
    }
    s->datadir_open = true;
    int code = take_identity(s, config, log, message);
    if (code != SERVER_EXIT_OK) {
        return code;
    }
    status = read_number(s, "boot-count", &s->boot_count);
    if (status == NB_OK) {
        status = read_number(s, "installing", &s->install_noted);
    }
    uint64_t founded = 0;
    if (status == NB_OK) {
        status = read_number(s, "founding", &founded);
        s->founding = founded != 0 && founded == s->cluster_id;
    }
    if (status == NB_OK) {
        status = write_number(s, "boot-count", ++s->boot_count);
    }
    if (status != NB_OK) {
        nb_buf_printf(message, "%s/boot-count or %s/installing cannot be used: %s\n",
                      s->datadir.member, s->datadir.member, nb_status_text(status));
        return exit_of(status);
    }
    return SERVER_EXIT_OK;
}

int server_store_open_data(struct server_store *s, struct server_config *config,
                           struct nb_buf *message)
{
    nb_assert(s->cluster_id != 0);
    int code = open_backend(s, config, message);
    return code != SERVER_EXIT_OK ? code : open_wal(s, config, message);
}

/* ---- pods that find their cluster ---- */

int server_store_renew(struct server_store *s, struct nb_buf *message)
{
    return write_identity(s, 0, random_id(), message);
}

int server_store_join(struct server_store *s, uint64_t cluster_id, struct nb_buf *message)
{
    return write_identity(s, cluster_id, s->member_id, message);
}

/* The note comes first: with an identity and no members, who founded must not wait to be let in by
 * somebody else. */
int server_store_found(struct server_store *s, uint64_t cluster_id, struct nb_buf *message)
{
    enum nb_status status = write_number(s, "founding", cluster_id);
    if (status != NB_OK) {
        nb_buf_printf(message, "%s/founding cannot be written: %s\n", s->datadir.member,
                      nb_status_text(status));
        return exit_of(status);
    }
    s->founding = true;
    return write_identity(s, cluster_id, s->member_id, message);
}

int server_store_founded(struct server_store *s)
{
    s->founding = false;
    return remove_note(s, "founding") == NB_OK ? SERVER_EXIT_OK : SERVER_EXIT_DISK;
}

bool server_store_set_aside(const char *data_dir, struct nb_buf *out)
{
    time_t now = time(NULL);
    struct tm utc;
    char when[32];
    if (gmtime_r(&now, &utc) == NULL || strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &utc) == 0) {
        return false;
    }
    char *from = nb_sprintf("%s/member", data_dir);
    nb_buf_printf(out, "%s/removed-%s", data_dir, when);
    nb_buf_append(out, "", 1);
    bool fine = rename(from, (const char *)out->data) == 0;
    for (unsigned i = 2; !fine && (errno == EEXIST || errno == ENOTEMPTY) && i < 100; i++) {
        nb_buf_clear(out);
        nb_buf_printf(out, "%s/removed-%s-%u", data_dir, when, i);
        nb_buf_append(out, "", 1);
        fine = rename(from, (const char *)out->data) == 0;
    }
    nb_free(from);
    int dir = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fine = fine && dir >= 0 && fsync(dir) == 0;
    if (dir >= 0) {
        (void)close(dir);
    }
    return fine;
}

void server_store_close(struct server_store *s)
{
    machine_destroy(s->machine);
    machine_members_deinit(&s->joined);
    if (s->wal != NULL) {
        if (wal_status(s->wal) == NB_OK) {
            wal_close(s->wal);
        } else {
            wal_abandon(s->wal);
        }
    }
    wal_recovered_deinit(&s->recovered);
    if (s->backend != NULL) {
        backend_close(s->backend);
    }
    if (s->wal_disk != NULL) {
        disk_destroy(s->wal_disk);
    }
    nb_free(s->wal_dir);
    if (s->datadir_open) {
        datadir_close(&s->datadir);
    }
    if (s->disk != NULL) {
        disk_destroy(s->disk);
    }
    *s = (struct server_store){0};
}

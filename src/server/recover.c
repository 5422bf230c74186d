#include "server/recover.h"

#include "base/random.h"
#include "base/wire.h"
#include "raft/raft.h"
#include "server/server.h"
#include "storage/backend_lmdb.h"
#include "storage/datadir.h"
#include "storage/disk_linux.h"
#include "storage/wal.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SMALL_FILE_SIZE_MAX = 256, REMOVE_FDS = 16 };

static const char former_key[] = "nabata/former";

/* Paths of one recovery, all owned. */
struct paths {
    char *data, *member, *order, *work, *complete, *work_member, *before;
};

static void paths_init(struct paths *p, const char *data_dir)
{
    char when[32];
    struct tm utc;
    time_t now = time(NULL);
    (void)strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", gmtime_r(&now, &utc));
    p->data = nb_strdup(data_dir);
    p->member = nb_sprintf("%s/member", data_dir);
    p->order = nb_sprintf("%s/recover-order", data_dir);
    p->work = nb_sprintf("%s/recovering", data_dir);
    p->complete = nb_sprintf("%s/recovering/complete", data_dir);
    p->work_member = nb_sprintf("%s/recovering/member", data_dir);
    p->before = nb_sprintf("%s/before-recovery-%s", data_dir, when);
}

static void paths_deinit(struct paths *p)
{
    char *const all[] = {p->data,     p->member,      p->order, p->work,
                         p->complete, p->work_member, p->before};
    for (size_t i = 0; i < NB_ARRAY_LEN(all); i++) {
        nb_free(all[i]);
    }
}

static bool exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

/* A folder of ours with all in it; true when it is gone. */
static bool remove_folder(const char *path)
{
    return !exists(path) || nftw(path, remove_one, REMOVE_FDS, FTW_DEPTH | FTW_PHYS) == 0;
}

static int say(struct nb_buf *message, const char *what, const char *where, enum nb_status status)
{
    nb_buf_printf(message, "cannot %s %s: %s\n", what, where, nb_status_text(status));
    return status == NB_CORRUPT || status == NB_VERSION || status == NB_TRUNCATED
               ? SERVER_EXIT_DAMAGE
           : status == NB_IO || status == NB_NO_SPACE_DISK ? SERVER_EXIT_DISK
                                                           : SERVER_EXIT_START;
}

/* ---- what is there ---- */

void server_survivor_deinit(struct server_survivor *s)
{
    machine_members_deinit(&s->members);
}

static bool copy_members(const struct machine_members *from, struct machine_members *to)
{
    struct nb_buf bytes = {0};
    machine_members_encode(from, &bytes);
    bool good = machine_members_apply(to, nb_buf_bytes(&bytes)) == NB_OK;
    nb_buf_deinit(&bytes);
    return good;
}

/* The log of `dir`, without changing it. */
static int read_log(const char *dir, const struct datadir_ident *ident, struct wal_recovered *out,
                    struct nb_buf *message)
{
    struct disk_linux_options plain = {.no_aio = true};
    struct disk *disk;
    enum nb_status status = disk_linux_create(&plain, &disk);
    if (status != NB_OK) {
        return say(message, "use the files of", dir, status);
    }
    char *wal = nb_sprintf("%s/wal", dir);
    const struct wal_ident want = {.cluster_id = ident->cluster_id, .member_id = ident->member_id};
    const struct wal_visitor nothing = {0};
    status = wal_read_all(disk, wal, &want, &nothing, out, message);
    if (status != NB_OK) {
        nb_buf_append_str(message, "\n");
    }
    nb_free(wal);
    disk_destroy(disk);
    return status == NB_OK ? SERVER_EXIT_OK : SERVER_EXIT_DAMAGE;
}

static void last_of(const struct wal_recovered *log, uint64_t *out_index, uint64_t *out_term)
{
    if (log->entry_count != 0) {
        *out_index = log->entries[log->entry_count - 1].index;
        *out_term = log->entries[log->entry_count - 1].term;
    } else {
        *out_index = log->mark.index;
        *out_term = log->mark.term;
    }
}

static int open_readable(const char *db, struct backend **out, struct machine **out_machine,
                         struct nb_buf *message)
{
    const struct backend_ident any = {0};
    const struct backend_lmdb_options options = {.read_only = true};
    *out_machine = NULL;
    enum nb_status status = backend_lmdb_open(db, &any, &options, out, message);
    if (status == NB_OK) {
        const struct machine_options machine = {.hash_seed = nb_random_entropy()};
        status = machine_create(*out, &machine, out_machine, message);
        if (status != NB_OK) {
            backend_close(*out);
        }
    }
    if (status != NB_OK) {
        nb_buf_append_str(message, "\n");
        return SERVER_EXIT_DAMAGE;
    }
    return SERVER_EXIT_OK;
}

int server_recover_look(const char *data_dir, struct server_survivor *out, struct nb_buf *message)
{
    *out = (struct server_survivor){0};
    struct paths p;
    paths_init(&p, data_dir);
    char *db = nb_sprintf("%s/db", p.member);
    char *file = nb_sprintf("%s/data.mdb", db);
    struct backend_ident ident;
    struct backend_label label;
    struct nb_buf meta = {0};
    struct wal_recovered log = {0};
    int code = SERVER_EXIT_START;
    if (!exists(file)) {
        nb_buf_printf(message,
                      "%s holds no member of a cluster: give the data folder of one with "
                      "--data-dir\n",
                      data_dir);
        goto done;
    }
    enum nb_status status = backend_lmdb_inspect(file, &ident, &label, &meta, message);
    if (status != NB_OK) {
        nb_buf_append_str(message, "\n");
        code = SERVER_EXIT_DAMAGE;
        goto done;
    }
    out->cluster_id = ident.cluster_id;
    out->member_id = ident.member_id;
    const struct datadir_ident who = {.cluster_id = ident.cluster_id, .member_id = ident.member_id};
    struct backend *backend;
    struct machine *machine;
    code = read_log(p.member, &who, &log, message);
    if (code == SERVER_EXIT_OK) {
        code = open_readable(db, &backend, &machine, message);
    }
    if (code == SERVER_EXIT_OK) {
        last_of(&log, &out->last_index, &out->last_term);
        out->applied_index = machine_applied_index(machine);
        if (out->last_index < out->applied_index) { /* a snapshot was just installed */
            out->last_index = out->applied_index;
            out->last_term = machine_applied_term(machine);
        }
        out->term = log.hard_state.term > out->last_term ? log.hard_state.term : out->last_term;
        bool copied = copy_members(machine_members(machine), &out->members);
        nb_assert(copied);
        machine_destroy(machine);
        backend_close(backend);
    }
done:
    wal_recovered_deinit(&log);
    nb_buf_deinit(&meta);
    nb_free(file);
    nb_free(db);
    paths_deinit(&p);
    return code;
}

/* ---- the work ---- */

struct work {
    const struct paths *paths;
    struct nb_buf *message;
    struct disk *disk;
    struct datadir_ident old, new;
    struct datadir fresh; /* `recovering/` */
    struct backend *backend;
    struct machine *machine;
    struct wal_recovered log;
    uint64_t term, index, index_term;
    struct nb_arena arena;
    struct machine_member self; /* as it was before the replay; in the arena */
};

struct copy_end {
    bool done;
    enum nb_status status;
};

static void on_copied(void *context, enum nb_status status, const char *text)
{
    (void)text;
    *(struct copy_end *)context = (struct copy_end){.done = true, .status = status};
}

/* The old backend, as it is, into the new folder, and made the new member's. */
static int copy_backend(struct work *w)
{
    char *from = nb_sprintf("%s/db", w->paths->member);
    char *to = nb_sprintf("%s/data.mdb", w->fresh.db);
    const struct backend_ident old = {.cluster_id = w->old.cluster_id,
                                      .member_id = w->old.member_id};
    const struct backend_ident new = {.cluster_id = w->new.cluster_id,
                                      .member_id = w->new.member_id};
    struct backend *backend;
    struct copy_end end = {0};
    enum nb_status status = backend_lmdb_open(from, &old, NULL, &backend, w->message);
    int code = SERVER_EXIT_OK;
    if (status != NB_OK) {
        code = say(w->message, "open", from, status);
    } else {
        backend_copy(backend, to, on_copied, &end);
        backend_wait(backend);
        backend_close(backend);
        nb_assert(end.done);
        if (end.status != NB_OK) {
            code = say(w->message, "copy the data to", to, end.status);
        }
    }
    if (code == SERVER_EXIT_OK) {
        status = backend_lmdb_adopt(to, &old, &new, w->message);
        if (status == NB_OK) {
            status = backend_lmdb_open(w->fresh.db, &new, NULL, &w->backend, w->message);
        }
        code = status == NB_OK ? SERVER_EXIT_OK : say(w->message, "take over", to, status);
    }
    nb_free(from);
    nb_free(to);
    return code;
}

static void apply_one(struct machine *m, const struct wal_entry *e)
{
    struct machine_entry entry = {.index = e->index,
                                  .term = e->term,
                                  .kind = (enum machine_entry_kind)e->kind,
                                  .payload = nb_payload_bytes(e->payload)};
    struct raft_conf conf;
    if (e->kind == RAFT_ENTRY_CONF &&
        raft_conf_decode(entry.payload, &conf, &entry.attached) == NB_OK) {
        entry.conf = nb_bytes_of(entry.payload.data, entry.payload.len - entry.attached.len);
    }
    machine_apply(m, &entry, NULL);
}

/* Everything in the log, committed or not. */
static int replay(struct work *w)
{
    const struct machine_options options = {.hash_seed = nb_random_entropy()};
    enum nb_status status = machine_create(w->backend, &options, &w->machine, w->message);
    if (status != NB_OK) {
        return say(w->message, "read the data in", w->fresh.db, status);
    }
    const struct machine_member *self =
        machine_members_find(machine_members(w->machine), w->old.member_id);
    nb_assert(self != NULL); /* is_member */
    struct nb_buf bytes = {0};
    machine_member_encode(self, &bytes); /* the log may end with its removal, never committed */
    status = machine_member_decode(nb_buf_bytes(&bytes), &w->arena, &w->self);
    nb_assert(status == NB_OK);
    nb_buf_deinit(&bytes);
    for (size_t i = 0; i < w->log.entry_count; i++) {
        const struct wal_entry *e = &w->log.entries[i];
        uint64_t applied = machine_applied_index(w->machine);
        if (e->index > applied + 1) {
            nb_buf_printf(w->message,
                          "the log begins at %" PRIu64 " and the data ends at %" PRIu64
                          ": entries between them are missing\n",
                          e->index, applied);
            return SERVER_EXIT_DAMAGE;
        }
        if (e->index == applied + 1) {
            apply_one(w->machine, e);
        }
    }
    w->index = machine_applied_index(w->machine);
    w->index_term = machine_applied_term(w->machine);
    w->term = w->log.hard_state.term > w->index_term ? w->log.hard_state.term : w->index_term;
    return SERVER_EXIT_OK;
}

/* The one member left, with the old one's names and addresses. */
static void rewrite_members(struct work *w)
{
    struct machine_member alone = w->self;
    alone.id = w->new.member_id;
    alone.is_learner = false;
    const struct raft_conf conf = {.voters = {alone.id}, .voter_count = 1};
    struct nb_buf bytes = {0};
    raft_conf_encode(&conf, &bytes);
    machine_force_member(w->machine, &alone, nb_buf_bytes(&bytes));
    nb_buf_deinit(&bytes);
}

/* The cluster that this was is remembered, behind those that it had been before. */
static void remember_former(struct work *w)
{
    uint64_t former[SERVER_FORMER_COUNT_MAX];
    size_t count = server_former_clusters(w->backend, former);
    size_t skip = count == SERVER_FORMER_COUNT_MAX ? 1 : 0;
    uint8_t bytes[8 * SERVER_FORMER_COUNT_MAX];
    size_t len = 0;
    for (size_t i = skip; i < count; i++, len += 8) {
        nb_put_u64(bytes + len, former[i]);
    }
    nb_put_u64(bytes + len, w->old.cluster_id);
    (void)backend_batch_put(w->backend, BACKEND_META, nb_bytes_str(former_key),
                            nb_bytes_of(bytes, len + 8));
}

static int commit_backend(struct work *w)
{
    rewrite_members(w);
    remember_former(w);
    machine_seal(w->machine);
    const struct backend_label label = {.applied_index = w->index, .applied_term = w->index_term};
    (void)backend_commit(w->backend, &label);
    backend_wait(w->backend);
    const char *text;
    enum nb_status status = backend_status(w->backend, &text);
    return status == NB_OK ? SERVER_EXIT_OK : say(w->message, "write", w->fresh.db, status);
}

/* An empty log that begins behind what the backend holds. */
static int write_log(struct work *w)
{
    const struct wal_ident ident = {.cluster_id = w->new.cluster_id, .member_id = w->new.member_id};
    const struct disk_linux_options options = {.probe_dir = w->fresh.wal};
    struct disk *disk;
    struct wal *wal;
    struct wal_recovered empty = {0};
    enum nb_status status = disk_linux_create(&options, &disk);
    if (status != NB_OK) {
        return say(w->message, "use", w->fresh.wal, status);
    }
    status = wal_open(disk, w->fresh.wal, &ident, NULL, &empty, &wal, w->message);
    if (status == NB_OK) {
        const struct wal_hard_state hard = {.term = w->term, .commit_index = w->index};
        (void)wal_mark_snapshot(wal, (struct wal_mark){.index = w->index, .term = w->index_term});
        uint64_t last = wal_append(wal, &hard, NULL, 0);
        wal_flush(wal);
        while (wal_durable(wal) < last && wal_status(wal) == NB_OK) {
            disk_wait(disk);
        }
        status = wal_status(wal);
        if (status == NB_OK) {
            wal_close(wal);
        } else {
            wal_abandon(wal);
        }
    }
    wal_recovered_deinit(&empty);
    disk_destroy(disk);
    return status == NB_OK ? SERVER_EXIT_OK
                           : say(w->message, "write the log in", w->fresh.wal, status);
}

static int build(struct work *w)
{
    int code = read_log(w->paths->member, &w->old, &w->log, w->message);
    if (code == SERVER_EXIT_OK) {
        code = copy_backend(w);
    }
    if (code == SERVER_EXIT_OK) {
        code = replay(w);
    }
    if (code == SERVER_EXIT_OK) {
        code = commit_backend(w);
    }
    return code == SERVER_EXIT_OK ? write_log(w) : code;
}

/* Everything new is durable under `recovering/`: says so, durably. */
static int mark_complete(struct work *w)
{
    enum nb_status status = datadir_ident_write(&w->fresh, &w->new, w->message);
    if (status == NB_OK) {
        status = disk_write_file(w->disk, w->paths->work, w->paths->complete,
                                 nb_bytes_str("complete\n"));
    }
    return status == NB_OK ? SERVER_EXIT_OK : say(w->message, "finish", w->paths->work, status);
}

/* Old folder away, new one in its place; may be done again after a crash anywhere in it. */
static int move_into_place(struct disk *disk, const struct paths *p, struct nb_buf *message)
{
    enum nb_status status = NB_OK;
    if (exists(p->work_member) && exists(p->member)) {
        status = disk_rename(disk, p->member, p->before);
    }
    if (status == NB_OK && exists(p->work_member)) {
        status = disk_rename(disk, p->work_member, p->member);
    }
    if (status == NB_OK && exists(p->order)) {
        status = disk_unlink(disk, p->order);
    }
    if (status == NB_OK) {
        status = disk_sync_dir(disk, p->data);
    }
    if (status == NB_OK && !remove_folder(p->work)) {
        status = NB_IO;
    }
    return status == NB_OK ? SERVER_EXIT_OK : say(message, "move into place", p->work, status);
}

/* The member of this folder is one of those it knows; so not one that joined and heard nothing. */
static bool is_member(const struct datadir *old)
{
    struct backend *backend;
    struct machine *machine;
    struct nb_buf ignored = {0};
    bool found = false;
    if (open_readable(old->db, &backend, &machine, &ignored) == SERVER_EXIT_OK) {
        found = machine_members_find(machine_members(machine), old->ident.member_id) != NULL;
        machine_destroy(machine);
        backend_close(backend);
    }
    nb_buf_deinit(&ignored);
    return found;
}

static int recover_locked(struct work *w, const struct datadir *old, uint64_t cluster_id)
{
    if (!old->has_ident) {
        nb_buf_printf(w->message, "%s holds no member of a cluster\n", old->path);
        return SERVER_EXIT_START;
    }
    if (old->ident.cluster_id != cluster_id) {
        nb_buf_printf(w->message, "%s is of cluster %" PRIx64 ", not of %" PRIx64 "\n", old->path,
                      old->ident.cluster_id, cluster_id);
        return SERVER_EXIT_START;
    }
    if (!is_member(old)) {
        nb_buf_printf(w->message,
                      "%s is of a member that its own data does not list: take a member that was "
                      "part of the cluster\n",
                      old->path);
        return SERVER_EXIT_START;
    }
    w->old = old->ident;
    w->new.cluster_id = nb_random_entropy() | 1;
    w->new.member_id = nb_random_entropy() | 1;
    if (!remove_folder(w->paths->work)) {
        return say(w->message, "remove", w->paths->work, NB_IO);
    }
    enum nb_status status = datadir_open(w->disk, w->paths->work, &w->fresh, w->message);
    if (status != NB_OK) {
        return say(w->message, "make", w->paths->work, status);
    }
    int code = build(w);
    machine_destroy(w->machine);
    if (w->backend != NULL) {
        backend_close(w->backend);
    }
    if (code == SERVER_EXIT_OK) {
        code = mark_complete(w);
    }
    datadir_close(&w->fresh);
    return code == SERVER_EXIT_OK ? move_into_place(w->disk, w->paths, w->message) : code;
}

/* A server that was killed keeps its lock until its last sync is through the kernel. */
static enum nb_status lock_folder(struct disk *disk, const char *data_dir, struct datadir *out,
                                  struct nb_buf *message)
{
    enum { TRIES = 200, PAUSE_US = 10000 };
    enum nb_status status = NB_LOCKED;
    for (unsigned i = 0; i < TRIES && status == NB_LOCKED; i++) {
        if (i != 0) {
            (void)usleep(PAUSE_US);
        }
        nb_buf_clear(message);
        status = datadir_open(disk, data_dir, out, message);
    }
    return status;
}

int server_recover(const char *data_dir, uint64_t cluster_id, bool *out_running,
                   struct nb_buf *message)
{
    struct paths p;
    paths_init(&p, data_dir);
    struct work w = {.paths = &p, .message = message};
    struct disk_linux_options plain = {.no_aio = true};
    struct datadir old;
    *out_running = false;
    int code;
    enum nb_status status = disk_linux_create(&plain, &w.disk);
    if (status != NB_OK) {
        code = say(message, "use the files of", data_dir, status);
    } else {
        status = lock_folder(w.disk, data_dir, &old, message);
        if (status == NB_OK) {
            code = recover_locked(&w, &old, cluster_id);
            datadir_close(&old);
        } else {
            *out_running = status == NB_LOCKED;
            nb_buf_append_str(message, "\n");
            code = SERVER_EXIT_START;
        }
        disk_destroy(w.disk);
    }
    if (code == SERVER_EXIT_OK) {
        nb_buf_printf(message,
                      "cluster %" PRIx64 " goes on as cluster %" PRIx64 ", member %" PRIx64
                      " alone, at index %" PRIu64 "; the old folder is %s\n",
                      w.old.cluster_id, w.new.cluster_id, w.new.member_id, w.index, p.before);
    }
    wal_recovered_deinit(&w.log);
    nb_arena_deinit(&w.arena);
    paths_deinit(&p);
    return code;
}

/* ---- orders ---- */

int server_recover_order(const char *data_dir, uint64_t cluster_id, struct nb_buf *message)
{
    struct paths p;
    paths_init(&p, data_dir);
    struct disk_linux_options plain = {.no_aio = true};
    struct disk *disk;
    char text[32];
    (void)snprintf(text, sizeof text, "%016" PRIx64 "\n", cluster_id);
    enum nb_status status = disk_linux_create(&plain, &disk);
    if (status == NB_OK) {
        status = disk_write_file(disk, p.data, p.order, nb_bytes_str(text));
        disk_destroy(disk);
    }
    int code = status == NB_OK ? SERVER_EXIT_OK : say(message, "write", p.order, status);
    paths_deinit(&p);
    return code;
}

static int carry_out(struct disk *disk, const struct paths *p, struct nb_buf *message)
{
    struct nb_buf text = {0};
    enum nb_status status = disk_read_file(disk, p->order, SMALL_FILE_SIZE_MAX, &text);
    nb_buf_append(&text, "", 1);
    char *end = NULL;
    uint64_t cluster_id = status == NB_OK ? strtoull((const char *)text.data, &end, 16) : 0;
    bool good = status == NB_OK && cluster_id != 0 && *end == '\n';
    nb_buf_deinit(&text);
    if (!good) {
        nb_buf_printf(message, "%s cannot be read; remove it, and say `nabata recover` again\n",
                      p->order);
        return SERVER_EXIT_START;
    }
    bool running;
    return server_recover(p->data, cluster_id, &running, message);
}

int server_recover_ordered(const char *data_dir, bool *out_done, struct nb_buf *message)
{
    struct paths p;
    paths_init(&p, data_dir);
    struct disk_linux_options plain = {.no_aio = true};
    struct disk *disk;
    int code = SERVER_EXIT_OK;
    *out_done = exists(p.complete) || exists(p.order);
    if (*out_done) {
        enum nb_status status = disk_linux_create(&plain, &disk);
        if (status != NB_OK) {
            code = say(message, "use the files of", data_dir, status);
        } else {
            code = exists(p.complete) ? move_into_place(disk, &p, message)
                                      : carry_out(disk, &p, message);
            disk_destroy(disk);
        }
    }
    paths_deinit(&p);
    return code;
}

size_t server_former_clusters(struct backend *b, uint64_t out[SERVER_FORMER_COUNT_MAX])
{
    struct nb_bytes stored;
    if (!backend_get(b, BACKEND_META, nb_bytes_str(former_key), &stored)) {
        return 0;
    }
    size_t count =
        stored.len / 8 < SERVER_FORMER_COUNT_MAX ? stored.len / 8 : SERVER_FORMER_COUNT_MAX;
    for (size_t i = 0; i < count; i++) {
        out[i] = nb_get_u64(stored.data + 8 * i);
    }
    return count;
}

#include "storage/datadir.h"

#include "base/checksum.h"

#include <inttypes.h>
#include <string.h>

/* 0 "NABATAID"  8 u32 version  12 u32 zero  16 u64 cluster  24 u64 member  32 u32 CRC32C of 0..32
 */
enum { IDENTITY_SIZE = 36, IDENTITY_SIZE_MAX = 4096 };

static const char identity_magic[8] = {'N', 'A', 'B', 'A', 'T', 'A', 'I', 'D'};

static enum nb_status tell(struct nb_buf *message, const char *what, const char *path,
                           enum nb_status status)
{
    nb_buf_printf(message, "cannot %s %s: %s", what, path, nb_status_text(status));
    if (status == NB_ACCESS) {
        nb_buf_append_str(message,
                          ": make the data directory writable for the user nabata runs as");
    }
    return status;
}

static enum nb_status make_dir(struct disk *disk, const char *path, struct nb_buf *message)
{
    enum nb_status status = disk_mkdir(disk, path);
    return status == NB_OK || status == NB_EXISTS ? NB_OK
                                                  : tell(message, "make folder", path, status);
}

static char *identity_path(const struct datadir *d)
{
    return nb_sprintf("%s/identity", d->member);
}

static enum nb_status identity_decode(struct datadir *d, struct nb_bytes b, const char *path,
                                      struct nb_buf *message)
{
    bool whole = b.len >= 16 && memcmp(b.data, identity_magic, sizeof identity_magic) == 0;
    if (whole && nb_get_u32(b.data + 8) > DATADIR_FORMAT_VERSION) {
        nb_buf_printf(message,
                      "%s was written by a newer nabata (format %" PRIu32
                      ", this one knows %d): use that version or a newer one",
                      path, nb_get_u32(b.data + 8), DATADIR_FORMAT_VERSION);
        return NB_VERSION;
    }
    if (!whole || b.len != IDENTITY_SIZE || nb_get_u32(b.data + 32) != nb_crc32c(0, b.data, 32)) {
        nb_buf_printf(message,
                      "%s is damaged: restore the data directory, or remove the member from the "
                      "cluster and join it again with an empty one",
                      path);
        return NB_CORRUPT;
    }
    d->ident = (struct datadir_ident){.cluster_id = nb_get_u64(b.data + 16),
                                      .member_id = nb_get_u64(b.data + 24)};
    d->has_ident = true;
    return NB_OK;
}

static void note_wal(void *context, const char *name)
{
    size_t len = strlen(name);
    if (len > 4 && strcmp(name + len - 4, ".wal") == 0) {
        *(bool *)context = true;
    }
}

static enum nb_status identity_read(struct datadir *d, struct nb_buf *message)
{
    char *path = identity_path(d);
    struct nb_buf content = {0};
    enum nb_status status = disk_read_file(d->disk, path, IDENTITY_SIZE_MAX, &content);
    if (status == NB_OK) {
        status = identity_decode(d, nb_buf_bytes(&content), path, message);
    } else if (status == NB_NOT_FOUND) {
        bool has_log = false;
        status = disk_list(d->disk, d->wal, note_wal, &has_log);
        if (status == NB_NOT_FOUND) {
            status = NB_OK; /* a data directory that was never used */
        } else if (status != NB_OK) {
            (void)tell(message, "list", d->wal, status);
        } else if (has_log) {
            nb_buf_printf(message, "%s is missing beside a write-ahead log: restore it", path);
            status = NB_CORRUPT;
        }
    } else {
        (void)tell(message, "read", path, status);
    }
    nb_buf_deinit(&content);
    nb_free(path);
    return status;
}

/* Shows that files can be made, synced and removed here, before anything depends on it. */
static enum nb_status check_writable(struct datadir *d, struct nb_buf *message)
{
    char *path = nb_sprintf("%s/writable.tmp", d->member);
    struct disk_file *file;
    enum nb_status status = disk_open(d->disk, path, DISK_READ_WRITE | DISK_TRUNCATE, &file);
    if (status == NB_OK) {
        disk_close(file);
        status = disk_unlink(d->disk, path);
    }
    if (status != NB_OK) {
        (void)tell(message, "write to", d->member, status);
    }
    nb_free(path);
    return status;
}

struct leftovers {
    char **names;
    size_t count, capacity;
};

static void note_leftover(void *context, const char *name)
{
    struct leftovers *l = context;
    const char *dot = strrchr(name, '.');
    if (dot == NULL ||
        (strcmp(dot, ".part") != 0 && strcmp(dot, ".snap") != 0 && strcmp(dot, ".tmp") != 0)) {
        return;
    }
    l->names = nb_grow(l->names, &l->capacity, l->count + 1, sizeof *l->names);
    l->names[l->count++] = nb_strdup(name);
}

/* Files of snapshots that were on their way when the process ended: only whole ones are of use, and
 * those are asked for again. [S10] */
static enum nb_status remove_leftovers(struct disk *disk, const char *dir)
{
    struct leftovers l = {0};
    enum nb_status status = disk_list(disk, dir, note_leftover, &l);
    for (size_t i = 0; i < l.count; i++) {
        char *path = nb_sprintf("%s/%s", dir, l.names[i]);
        if (status == NB_OK) {
            status = disk_unlink(disk, path);
        }
        nb_free(path);
        nb_free(l.names[i]);
    }
    nb_free(l.names);
    if (status == NB_OK && l.count != 0) {
        status = disk_sync_dir(disk, dir);
    }
    return status;
}

static enum nb_status make_folders(struct datadir *d, struct nb_buf *message)
{
    const char *const dirs[] = {d->member, d->wal, d->db, d->snap};
    for (size_t i = 0; i < NB_ARRAY_LEN(dirs); i++) {
        enum nb_status status = make_dir(d->disk, dirs[i], message);
        if (status != NB_OK) {
            return status;
        }
    }
    const char *const synced[] = {d->path, d->member};
    for (size_t i = 0; i < NB_ARRAY_LEN(synced); i++) {
        enum nb_status status = disk_sync_dir(d->disk, synced[i]);
        if (status != NB_OK) {
            return tell(message, "sync folder", synced[i], status);
        }
    }
    enum nb_status status = check_writable(d, message);
    if (status == NB_OK) {
        status = remove_leftovers(d->disk, d->snap);
        if (status != NB_OK) {
            (void)tell(message, "clean up", d->snap, status);
        }
    }
    return status;
}

enum nb_status datadir_open(struct disk *disk, const char *path, struct datadir *out_datadir,
                            struct nb_buf *out_message)
{
    struct datadir d = {.disk = disk, .path = nb_strdup(path)};
    d.member = nb_sprintf("%s/member", path);
    d.wal = nb_sprintf("%s/member/wal", path);
    d.db = nb_sprintf("%s/member/db", path);
    d.snap = nb_sprintf("%s/member/snap", path);
    char *lock_path = nb_sprintf("%s/LOCK", path);
    enum nb_status status = make_dir(disk, path, out_message);
    if (status == NB_OK) {
        status = disk_lock(disk, lock_path, &d.lock);
        if (status == NB_LOCKED) {
            nb_buf_printf(out_message,
                          "data directory %s is in use by another process: stop that one first",
                          path);
        } else if (status != NB_OK) {
            (void)tell(out_message, "lock", lock_path, status);
        }
    }
    if (status == NB_OK) {
        status = identity_read(&d, out_message);
    }
    if (status == NB_OK) {
        status = make_folders(&d, out_message);
    }
    nb_free(lock_path);
    if (status != NB_OK) {
        datadir_close(&d);
        return status;
    }
    *out_datadir = d;
    return NB_OK;
}

enum nb_status datadir_ident_write(struct datadir *d, const struct datadir_ident *ident,
                                   struct nb_buf *out_message)
{
    nb_assert(!d->has_ident || d->ident.cluster_id == 0);
    nb_assert(ident->member_id != 0);
    uint8_t bytes[IDENTITY_SIZE] = {0};
    memcpy(bytes, identity_magic, sizeof identity_magic);
    nb_put_u32(bytes + 8, DATADIR_FORMAT_VERSION);
    nb_put_u64(bytes + 16, ident->cluster_id);
    nb_put_u64(bytes + 24, ident->member_id);
    nb_put_u32(bytes + 32, nb_crc32c(0, bytes, 32));
    char *path = identity_path(d);
    enum nb_status status =
        disk_write_file(d->disk, d->member, path, nb_bytes_of(bytes, sizeof bytes));
    if (status == NB_OK) {
        d->ident = *ident;
        d->has_ident = true;
    } else {
        (void)tell(out_message, "write", path, status);
    }
    nb_free(path);
    return status;
}

enum nb_status datadir_ident_check(const struct datadir *d, uint64_t cluster_id, uint64_t member_id,
                                   struct nb_buf *out_message)
{
    nb_assert(d->has_ident);
    if (d->ident.cluster_id == cluster_id && (member_id == 0 || d->ident.member_id == member_id)) {
        return NB_OK;
    }
    nb_buf_printf(out_message,
                  "data directory %s belongs to cluster %" PRIx64 " member %" PRIx64
                  ", not to cluster %" PRIx64 " member %" PRIx64
                  ": use the right directory, or an empty one to join anew",
                  d->path, d->ident.cluster_id, d->ident.member_id, cluster_id, member_id);
    return NB_FOREIGN;
}

void datadir_close(struct datadir *d)
{
    disk_close(d->lock);
    nb_free(d->path);
    nb_free(d->member);
    nb_free(d->wal);
    nb_free(d->db);
    nb_free(d->snap);
    *d = (struct datadir){0};
}

/*
 * storage/backend: the ordered store behind the state machine, a cache of the log on disk.
 *
 * Two bodies: LMDB (backend_lmdb.h) and memory (backend_memory.h, for tests and the simulator).
 *
 * Writing: the loop collects puts and deletes in the open batch and ends it with backend_commit and
 * a label, which goes into the same transaction: so the file always says up to which entry of the
 * log it has everything, and has nothing beyond it [D01, D02]. The batch goes to the backend
 * thread, a new one is open at once. Commits are fully synced. Batches commit in order; some may
 * share a transaction.
 *
 * Reading: backend_get and cursors see the *view*: what was in the file at the last backend_reap.
 * They do not see batches under way: mvcc merges its own fresh writes, the owners of small tables
 * keep those in memory.
 *
 * Invariants:
 *   B1  the bytes that backend_batch_put and _reserve return stay where they are until the batch is
 *       reaped (backend_committed() has reached its number) or dropped by replace or close.
 *   B2  what backend_get and cursors return is valid until the next backend_reap.
 *   B3  label, view and backend_committed() change together, in backend_reap and _replace only.
 *   B4  a failed commit changes nothing; its batches are kept and stay readable through B1.
 *
 * Owned by the loop thread, which alone calls these functions; the backend thread is inside.
 */
#ifndef NABATA_STORAGE_BACKEND_H
#define NABATA_STORAGE_BACKEND_H

#include "base/bytes.h"
#include "base/status.h"

enum backend_table {
    BACKEND_KEY, /* revision bytes -> mvccpb.KeyValue; mostly appended in order */
    BACKEND_META,
    BACKEND_LEASE,
    BACKEND_AUTH,
    BACKEND_AUTH_USERS,
    BACKEND_AUTH_ROLES,
    BACKEND_MEMBERS,
    BACKEND_ALARM,
    BACKEND_TABLE_COUNT
};

enum {
    BACKEND_KEY_SIZE_MAX = 511,  /* bytes of a key in any table; at least 1 */
    BACKEND_META_SIZE_MAX = 4096 /* bytes of the label's opaque part */
};

struct backend_ident {
    uint64_t cluster_id, member_id;
};

struct backend_label {
    uint64_t applied_index, applied_term;
    struct nb_bytes meta; /* the caller's (revisions, hashes, ...); at most BACKEND_META_SIZE_MAX */
};

struct backend_sizes {
    uint64_t allocated; /* bytes of the file */
    uint64_t in_use;    /* bytes of pages that hold something */
    uint32_t page_size;
    uint32_t reader_count; /* read transactions open: the view, and a copy under way */
};

struct backend;
struct backend_cursor;

struct backend_ops {
    uint8_t *(*batch_reserve)(struct backend *b, enum backend_table table, struct nb_bytes key,
                              size_t value_len);
    void (*batch_delete)(struct backend *b, enum backend_table table, struct nb_bytes key);
    size_t (*batch_bytes)(const struct backend *b);
    uint64_t (*commit)(struct backend *b, const struct backend_label *label);
    void (*retry)(struct backend *b);
    int (*completion_fd)(struct backend *b);
    size_t (*reap)(struct backend *b);
    void (*wait)(struct backend *b);
    uint64_t (*committed)(const struct backend *b);
    size_t (*pending_bytes)(const struct backend *b);
    enum nb_status (*status)(const struct backend *b, const char **out_text);
    const struct backend_label *(*label)(const struct backend *b);
    bool (*get)(struct backend *b, enum backend_table table, struct nb_bytes key,
                struct nb_bytes *out_value);
    struct backend_cursor *(*cursor_open)(struct backend *b, enum backend_table table,
                                          struct nb_bytes from, struct nb_bytes to);
    bool (*cursor_next)(struct backend_cursor *c, struct nb_bytes *out_key,
                        struct nb_bytes *out_value);
    void (*cursor_close)(struct backend_cursor *c);
    void (*sizes)(struct backend *b, struct backend_sizes *out_sizes);
    void (*copy)(struct backend *b, const char *path,
                 void (*on_done)(void *context, enum nb_status status, const char *text),
                 void *context);
    enum nb_status (*replace)(struct backend *b, const char *path, struct nb_buf *out_message);
    void (*close)(struct backend *b);
};

struct backend {
    const struct backend_ops *ops;
};

/* --- the open batch ------------------------------------------------------------------------- */

/* Puts a copy of value under key; the copy is returned (B1). A later put or delete of the same key
 * in the same or a later batch wins. */
struct nb_bytes backend_batch_put(struct backend *b, enum backend_table table, struct nb_bytes key,
                                  struct nb_bytes value);
/* The same, but the caller fills the value's bytes before backend_commit. */
NB_MUST_USE uint8_t *backend_batch_reserve(struct backend *b, enum backend_table table,
                                           struct nb_bytes key, size_t value_len);
/* A key that is not there is no error. */
void backend_batch_delete(struct backend *b, enum backend_table table, struct nb_bytes key);
/* Bytes of keys and values in the open batch; 0 when nothing was put or deleted. */
size_t backend_batch_bytes(const struct backend *b);
/* Ends the batch with the label and hands it over. Only at the boundary of entries, and never with
 * a lower applied_index than before. Returns the batch's number: 1, 2, ... */
uint64_t backend_commit(struct backend *b, const struct backend_label *label);

/* --- completions ---------------------------------------------------------------------------- */

/* Readable when backend_reap has something to do; -1 for the backend in memory. */
int backend_completion_fd(struct backend *b);
/* Takes in finished commits (new view, memory of their batches freed) and calls on_done of finished
 * copies. Returns how many batches became committed. All cursors must be closed. */
size_t backend_reap(struct backend *b);
/* Blocks until everything handed over (batches and copies) is done or a commit failed, then reaps.
 */
void backend_wait(struct backend *b);
/* Batches up to this number are in the file and in the view. */
uint64_t backend_committed(const struct backend *b);
/* Bytes of batches handed over and not committed; the caller slows down beyond its bound. */
size_t backend_pending_bytes(const struct backend *b);
/* NB_OK; NB_NO_SPACE_DISK (nothing is lost: make room, then backend_retry); any other status is the
 * end of this backend. `out_text` may be NULL; the text lives as long as the status stands. */
NB_MUST_USE enum nb_status backend_status(const struct backend *b, const char **out_text);
/* After NB_NO_SPACE_DISK: tries the waiting batches again. */
void backend_retry(struct backend *b);

/* --- the view ------------------------------------------------------------------------------- */

/* The label of the view; applied_index 0 in a fresh file. Valid until the view changes. */
const struct backend_label *backend_label(const struct backend *b);
/* False when there is no such key. */
NB_MUST_USE bool backend_get(struct backend *b, enum backend_table table, struct nb_bytes key,
                             struct nb_bytes *out_value);
/* Rising over keys in [from, to); an empty `to` means to the end, an empty `from` from the first.
 */
NB_MUST_USE struct backend_cursor *backend_cursor_open(struct backend *b, enum backend_table table,
                                                       struct nb_bytes from, struct nb_bytes to);
/* False at the end. */
NB_MUST_USE bool backend_cursor_next(struct backend_cursor *c, struct nb_bytes *out_key,
                                     struct nb_bytes *out_value);
void backend_cursor_close(struct backend_cursor *c); /* NULL is fine */
void backend_sizes(struct backend *b, struct backend_sizes *out_sizes);

/* --- whole files ---------------------------------------------------------------------------- */

/* Writes a compact, consistent, synced copy with its own label to the new file `path`, on a thread
 * of its own: at least everything committed at the time of the call. on_done is called by
 * backend_reap; a failed copy leaves no file. One at a time: else on_done gets NB_BUSY. */
void backend_copy(struct backend *b, const char *path,
                  void (*on_done)(void *context, enum nb_status status, const char *text),
                  void *context);
/* Drops all batches, committed or not, and takes the file `path` (on the same file system) in place
 * of its own. The file must be whole, of this cluster and format (NB_FOREIGN, NB_VERSION,
 * NB_CORRUPT: then the old one stays and batches are only dropped when it returns NB_OK). It
 * becomes this member's. A crash at any point leaves the old or the new. No cursor or copy may be
 * open. */
NB_MUST_USE enum nb_status backend_replace(struct backend *b, const char *path,
                                           struct nb_buf *out_message);
/* Waits for the commit and the copy under way; batches not handed over are dropped. */
void backend_close(struct backend *b);

#endif

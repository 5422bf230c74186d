#include "storage/wal.h"

#include "storage/wal_format.h"
#include "storage/wal_read.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    IN_FLIGHT_MAX = 2, /* L1 */
    SEGMENT_SIZE_DEFAULT = 16 << 20,
    SEGMENT_SIZE_FIRST = 1 << 20, /* zero-filled while a member starts, so it is small */
    BATCH_SIZE_DEFAULT = 1 << 20,
    BATCH_ROOM_FIRST = 64 << 10,
    BATCH_ROOM_KEPT = 256 << 10, /* larger buffers are not kept for reuse */
    BATCHES_FREE_MAX = 4,
};

static const char spare_name[] = "spare.tmp";

/* One file of the log. The last one is written to. */
struct segment {
    struct wal *wal;
    uint64_t sequence, first_batch;
    uint64_t size;          /* bytes of the file */
    uint64_t index_last;    /* highest index of an entry in it; 0: none */
    char *path;             /* owned */
    struct disk_file *file; /* owned; NULL when nothing will be written any more */
    unsigned in_flight;     /* writes */
    bool name_durable, header_durable;
    bool releasing; /* its unlink or rename is under way */
};

/* A batch: collecting, waiting, or in flight. `memory` is one block of room for a segment header,
 * then the batch's sectors. */
struct batch {
    struct disk_request request;
    struct batch *next;
    struct segment *segment; /* when in flight */
    uint8_t *memory;         /* owned, aligned */
    size_t memory_size;
    size_t record_bytes;
    uint32_t record_count;
    uint64_t sequence;
    uint64_t index_last; /* highest index of an entry in it; 0: none */
    struct wal_state after;
    bool done;
};

enum spare_state { SPARE_NONE, SPARE_PREPARING, SPARE_READY };

/* A file operation in the background. */
struct job {
    struct disk_request request;
    struct wal *wal;
    struct segment *segment; /* NULL for the spare's preparation */
};

struct wal {
    struct disk *disk; /* borrowed */
    char *dir;         /* owned */
    struct wal_ident ident;
    struct wal_options options;
    enum nb_status status;
    void (*on_progress)(void *context);
    void *on_progress_context;
    struct segment **segments; /* owned; rising sequence */
    size_t segment_count, segment_capacity;
    uint64_t offset;                             /* where the next batch goes in the last segment */
    uint32_t previous_crc;                       /* of the batch before it */
    struct batch *waiting_first, **waiting_last; /* the last one may still collect */
    struct batch *flying[IN_FLIGHT_MAX];
    struct batch *free_first;
    size_t free_count;
    uint64_t next_batch, durable;
    uint64_t told;              /* "durable" of the last header written */
    uint64_t last_with_records; /* batch */
    struct wal_state state;     /* with all appended */
    struct wal_state placed;    /* with all submitted */
    size_t pending_bytes;
    uint64_t released; /* index */
    enum spare_state spare;
    uint64_t spare_size;
    bool full;        /* the disk had no room for a spare; asked again on the next tick */
    char *spare_path; /* owned */
    unsigned jobs;    /* outstanding */
};

static struct segment *current(const struct wal *w)
{
    return w->segments[w->segment_count - 1];
}

static void fail(struct wal *w, enum nb_status status)
{
    if (w->status == NB_OK) {
        w->status = status; /* the first is the one that counts */
    }
}

static void tell(struct wal *w)
{
    if (w->on_progress != NULL) {
        w->on_progress(w->on_progress_context);
    }
}

/* --- batches -------------------------------------------------------------------------------- */

static size_t sectors_room(const struct batch *b)
{
    return b->memory_size - DISK_BLOCK_SIZE;
}

/* Room for `record_bytes` of records in whole blocks. */
static void batch_reserve(struct batch *b, size_t record_bytes)
{
    size_t need = wal_blocks_for(WAL_BATCH_HEADER_SIZE + record_bytes) * DISK_BLOCK_SIZE;
    if (b->memory != NULL && need <= sectors_room(b)) {
        return;
    }
    size_t size = b->memory == NULL ? BATCH_ROOM_FIRST : 2 * b->memory_size;
    while (size < need + DISK_BLOCK_SIZE) {
        size *= 2;
    }
    uint8_t *memory = aligned_alloc(DISK_BLOCK_SIZE, size);
    nb_assert(memory != NULL);
    if (b->memory != NULL) {
        memcpy(memory, b->memory, b->memory_size);
        free(b->memory);
    }
    b->memory = memory;
    b->memory_size = size;
}

static struct batch *batch_take(struct wal *w)
{
    struct batch *b = w->free_first;
    if (b == NULL) {
        b = nb_alloc_zero(1, sizeof *b);
    } else {
        w->free_first = b->next;
        w->free_count--;
        *b = (struct batch){.memory = b->memory, .memory_size = b->memory_size};
    }
    batch_reserve(b, 0);
    return b;
}

static void batch_give(struct wal *w, struct batch *b)
{
    if (w->free_count == BATCHES_FREE_MAX || b->memory_size > BATCH_ROOM_KEPT) {
        free(b->memory);
        nb_free(b);
        return;
    }
    b->next = w->free_first;
    w->free_first = b;
    w->free_count++;
}

/* The batch that takes more records: the last that waits, unless it is full or `fresh` is asked. */
static struct batch *collecting(struct wal *w)
{
    struct batch *last = NULL;
    for (struct batch *b = w->waiting_first; b != NULL; b = b->next) {
        last = b;
    }
    if (last != NULL && last->record_bytes < w->options.batch_size_target) {
        return last;
    }
    struct batch *b = batch_take(w);
    b->sequence = w->next_batch++;
    *w->waiting_last = b;
    w->waiting_last = &b->next;
    return b;
}

static void add_record(struct wal *w, struct batch *b, enum wal_record_type type, uint8_t kind,
                       struct nb_bytes head, struct nb_bytes body)
{
    size_t payload_len = head.len + body.len;
    nb_assert(payload_len <= UINT32_MAX / 2 && b->record_bytes <= UINT32_MAX / 2);
    size_t len = WAL_RECORD_HEADER_SIZE + payload_len;
    batch_reserve(b, b->record_bytes + len);
    uint8_t header[WAL_RECORD_HEADER_SIZE];
    wal_record_header_put(header, payload_len, type, kind);
    uint8_t *sectors = b->memory + DISK_BLOCK_SIZE;
    size_t at = WAL_BATCH_HEADER_SIZE + b->record_bytes;
    wal_content_put(sectors, at, header, sizeof header);
    wal_content_put(sectors, at + sizeof header, head.data, head.len);
    wal_content_put(sectors, at + sizeof header + head.len, body.data, body.len);
    b->record_bytes += len;
    b->record_count++;
    w->pending_bytes += len;
    w->last_with_records = b->sequence;
}

uint64_t wal_append(struct wal *w, const struct wal_hard_state *hard_state,
                    const struct wal_entry *entries, size_t entry_count)
{
    struct batch *b = collecting(w);
    uint8_t head[24];
    for (size_t i = 0; i < entry_count; i++) {
        const struct wal_entry *e = &entries[i];
        nb_assert(e->index != 0 && (i == 0 || e->index == entries[i - 1].index + 1));
        nb_assert(e->index <= w->state.next_index || i != 0);
        nb_put_u64(head, e->index);
        nb_put_u64(head + 8, e->term);
        add_record(w, b, WAL_RECORD_ENTRY, e->kind, nb_bytes_of(head, 16),
                   nb_payload_bytes(e->payload));
        w->state.next_index = e->index + 1;
        b->index_last = e->index > b->index_last ? e->index : b->index_last;
    }
    if (hard_state != NULL) {
        nb_assert(hard_state->term >= w->state.hard_state.term);
        nb_put_u64(head, hard_state->term);
        nb_put_u64(head + 8, hard_state->voted_for);
        nb_put_u64(head + 16, hard_state->commit_index);
        add_record(w, b, WAL_RECORD_HARD_STATE, 0, nb_bytes_of(head, 24), (struct nb_bytes){0});
        w->state.hard_state = *hard_state;
    }
    b->after = w->state;
    return b->sequence;
}

uint64_t wal_mark_snapshot(struct wal *w, struct wal_mark mark)
{
    nb_assert(mark.index >= w->state.mark.index);
    struct batch *b = collecting(w);
    uint8_t head[16];
    nb_put_u64(head, mark.index);
    nb_put_u64(head + 8, mark.term);
    add_record(w, b, WAL_RECORD_MARK, 0, nb_bytes_of(head, 16), (struct nb_bytes){0});
    w->state.mark = mark;
    if (w->state.next_index < mark.index + 1) {
        w->state.next_index = mark.index + 1;
    }
    b->after = w->state;
    return b->sequence;
}

/* --- segments and their files --------------------------------------------------------------- */

static char *segment_path(const struct wal *w, uint64_t sequence, uint64_t first_index)
{
    return nb_sprintf("%s/%016" PRIx64 "-%016" PRIx64 ".wal", w->dir, sequence, first_index);
}

static struct segment *segment_add(struct wal *w, uint64_t sequence)
{
    struct segment *s = nb_alloc_zero(1, sizeof *s);
    s->wal = w;
    s->sequence = sequence;
    w->segments =
        nb_grow(w->segments, &w->segment_capacity, w->segment_count + 1, sizeof *w->segments);
    w->segments[w->segment_count++] = s;
    return s;
}

static void segment_free(struct segment *s)
{
    disk_close(s->file);
    nb_free(s->path);
    nb_free(s);
}

static void close_if_idle(struct wal *w, struct segment *s)
{
    if (s != current(w) && s->in_flight == 0 && s->file != NULL) {
        disk_close(s->file);
        s->file = NULL;
    }
}

static struct job *job_create(struct wal *w, enum disk_request_kind kind, struct segment *segment,
                              void (*on_done)(struct disk_request *request, enum nb_status status))
{
    struct job *j = nb_alloc_zero(1, sizeof *j);
    j->wal = w;
    j->segment = segment;
    j->request.kind = kind;
    j->request.on_done = on_done;
    j->request.owner = j;
    w->jobs++;
    return j;
}

static void job_finish(struct job *j)
{
    j->wal->jobs--;
    nb_free(j->request.path);
    nb_free(j->request.to);
    nb_free(j);
}

static void release_more(struct wal *w);
static void advance(struct wal *w);

static void on_spare_prepared(struct disk_request *request, enum nb_status status)
{
    struct job *j = request->owner;
    struct wal *w = j->wal;
    w->spare = status == NB_OK ? SPARE_READY : SPARE_NONE;
    w->spare_size = request->len;
    w->full = status == NB_NO_SPACE_DISK;
    job_finish(j);
    /* A full disk is not the end: wal_mark_durable and a release try again. [W13] */
    if (status != NB_OK && status != NB_NO_SPACE_DISK) {
        fail(w, status);
        tell(w);
    } else if (status == NB_OK) {
        wal_flush(w);
    }
}

static void spare_prepare(struct wal *w, uint64_t size)
{
    struct job *j = job_create(w, DISK_PREPARE, NULL, on_spare_prepared);
    j->request.path = nb_strdup(w->spare_path);
    j->request.len = (size_t)size;
    w->spare = SPARE_PREPARING;
    disk_submit(w->disk, &j->request);
}

static void on_name_durable(struct disk_request *request, enum nb_status status)
{
    struct job *j = request->owner;
    struct wal *w = j->wal;
    if (status == NB_OK) {
        j->segment->name_durable = true;
    } else {
        fail(w, status);
    }
    job_finish(j);
    advance(w);
}

/* Makes the spare the segment that is written to. Writes may go to it at once: by L2 they count
 * only when the name, which the background makes durable, is. */
static bool roll(struct wal *w)
{
    struct disk_file *file;
    enum nb_status status = disk_open(w->disk, w->spare_path, DISK_READ_WRITE | DISK_DIRECT, &file);
    if (status != NB_OK) {
        fail(w, status);
        tell(w);
        return false;
    }
    struct segment *old = current(w);
    struct segment *s = segment_add(w, old->sequence + 1);
    s->file = file;
    s->size = w->spare_size;
    s->path = segment_path(w, s->sequence, w->placed.next_index);
    struct job *j = job_create(w, DISK_RENAME, s, on_name_durable);
    j->request.path = nb_strdup(w->spare_path);
    j->request.to = nb_strdup(s->path);
    w->spare = SPARE_NONE;
    w->offset = 0;
    w->previous_crc = 0;
    disk_submit(w->disk, &j->request);
    close_if_idle(w, old);
    return true;
}

/* Is there room for `len` bytes of batch in the segment? Makes it, when it can at once. */
static bool make_room(struct wal *w, uint64_t len)
{
    if (w->offset + len <= current(w)->size && w->offset != 0) {
        return true;
    }
    uint64_t need = DISK_BLOCK_SIZE + len;
    uint64_t size = need > w->options.segment_size ? need : w->options.segment_size; /* W15 */
    if (w->spare == SPARE_READY && w->spare_size >= need) {
        return roll(w);
    }
    if (w->spare != SPARE_PREPARING && !w->full) {
        spare_prepare(w, size); /* one that is too small is written over */
    }
    return false;
}

/* --- writing -------------------------------------------------------------------------------- */

static void on_batch_done(struct disk_request *request, enum nb_status status)
{
    struct batch *b = request->owner;
    struct wal *w = b->segment->wal;
    if (status != NB_OK) {
        fail(w, status); /* W05: reported, never retried */
    }
    b->done = true;
    advance(w);
}

/* Takes in, in order, what is complete; then goes on writing. */
static void advance(struct wal *w)
{
    uint64_t before = w->durable;
    for (;;) {
        struct batch *b = w->flying[(w->durable + 1) % IN_FLIGHT_MAX];
        if (w->status != NB_OK || b == NULL || !b->done || !b->segment->name_durable) {
            break;
        }
        nb_assert(b->sequence == w->durable + 1);
        w->flying[b->sequence % IN_FLIGHT_MAX] = NULL;
        w->durable++;
        w->pending_bytes -= b->record_bytes;
        b->segment->header_durable = true;
        b->segment->in_flight--;
        close_if_idle(w, b->segment);
        batch_give(w, b);
    }
    if (w->status == NB_OK) {
        release_more(w);
        wal_flush(w);
    }
    if (w->durable != before || w->status != NB_OK) {
        tell(w);
    }
}

static size_t put_segment_header(struct wal *w, struct batch *b)
{
    struct segment *s = current(w);
    s->first_batch = b->sequence;
    const struct wal_segment_header h = {
        .ident = w->ident,
        .sequence = s->sequence,
        .first_index = w->placed.next_index,
        .first_batch = b->sequence,
        .durable = w->durable,
        .hard_state = w->placed.hard_state,
        .mark = w->placed.mark,
    };
    wal_segment_header_encode(&h, b->memory);
    return DISK_BLOCK_SIZE;
}

static void submit(struct wal *w, struct batch *b)
{
    struct segment *s = current(w);
    size_t header_len = w->offset == 0 ? put_segment_header(w, b) : 0;
    struct wal_batch_header h = {
        .sequence = b->sequence,
        .durable = w->durable,
        .segment = s->sequence,
        .offset = w->offset + header_len,
        .record_bytes = (uint32_t)b->record_bytes,
        .record_count = b->record_count,
        .previous_crc = w->previous_crc,
    };
    wal_batch_finish(b->memory + DISK_BLOCK_SIZE, &h, &w->ident);
    w->told = w->durable;
    w->previous_crc = h.crc;
    w->placed = b->after;
    s->index_last = b->index_last > s->index_last ? b->index_last : s->index_last;
    s->in_flight++;
    b->segment = s;
    w->flying[b->sequence % IN_FLIGHT_MAX] = b;
    b->request = (struct disk_request){
        .kind = DISK_WRITE,
        .file = s->file,
        .offset = w->offset,
        .data = b->memory + DISK_BLOCK_SIZE - header_len,
        .len = header_len + (size_t)h.blocks * DISK_BLOCK_SIZE,
        .on_done = on_batch_done,
        .owner = b,
    };
    w->offset += b->request.len;
    disk_submit(w->disk, &b->request);
}

void wal_flush(struct wal *w)
{
    while (w->status == NB_OK && w->waiting_first != NULL) {
        struct batch *b = w->waiting_first;
        if (b->sequence > w->durable + IN_FLIGHT_MAX) {
            return; /* L1; the completion calls again */
        }
        size_t blocks = wal_blocks_for(WAL_BATCH_HEADER_SIZE + b->record_bytes);
        if (!make_room(w, (uint64_t)blocks * DISK_BLOCK_SIZE)) {
            return; /* the spare's completion calls again */
        }
        w->waiting_first = b->next;
        if (w->waiting_first == NULL) {
            w->waiting_last = &w->waiting_first;
        }
        b->next = NULL;
        submit(w, b);
        if (w->spare == SPARE_NONE && !w->full && w->offset > current(w)->size / 4) {
            spare_prepare(w, w->options.segment_size);
        }
    }
}

void wal_mark_durable(struct wal *w)
{
    if (w->waiting_first == NULL && w->durable + 1 == w->next_batch &&
        w->last_with_records > w->told && w->status == NB_OK) {
        struct batch *b = collecting(w);
        b->after = w->state;
    }
    w->full = false; /* asks again */
    wal_flush(w);
}

/* --- releasing ------------------------------------------------------------------------------ */

static void on_segment_gone(struct disk_request *request, enum nb_status status)
{
    struct job *j = request->owner;
    struct wal *w = j->wal;
    bool recycled = request->kind == DISK_RENAME;
    nb_assert(w->segments[0] == j->segment);
    w->segment_count--;
    memmove(w->segments, w->segments + 1, w->segment_count * sizeof *w->segments);
    if (recycled) {
        w->spare = status == NB_OK ? SPARE_READY : SPARE_NONE;
        w->spare_size = j->segment->size;
    }
    segment_free(j->segment);
    job_finish(j);
    w->full = false;
    if (status != NB_OK) {
        fail(w, status);
    }
    advance(w);
}

/* The oldest segment goes when nothing of it is needed and the next one can stand alone. One at a
 * time, so that a crash leaves no hole. [W16] */
static void release_more(struct wal *w)
{
    if (w->segment_count < 2) {
        return;
    }
    struct segment *s = w->segments[0];
    const struct segment *next = w->segments[1];
    if (s->releasing || s->in_flight != 0 || s->index_last > w->released || !s->name_durable ||
        !next->name_durable || !next->header_durable) {
        return;
    }
    s->releasing = true;
    bool recycle = w->spare == SPARE_NONE && s->size == w->options.segment_size;
    struct job *j = job_create(w, recycle ? DISK_RENAME : DISK_UNLINK, s, on_segment_gone);
    j->request.path = nb_strdup(s->path);
    if (recycle) {
        j->request.to = nb_strdup(w->spare_path);
        w->spare = SPARE_PREPARING;
    }
    disk_submit(w->disk, &j->request);
}

void wal_release(struct wal *w, uint64_t index)
{
    w->released = index > w->released ? index : w->released;
    if (w->status == NB_OK) {
        release_more(w);
    }
}

/* --- opening -------------------------------------------------------------------------------- */

/* The first batch that must be written again: those before are known to be durable. */
static uint64_t first_to_rewrite(const struct wal_reading *r)
{
    return r->durable + 1 < r->next_batch ? r->durable + 1 : r->next_batch;
}

/* The new segment as bytes: header, and one batch with the records of those written again. */
static uint64_t build_first(struct wal *w, const struct wal_reading *r, uint64_t sequence,
                            struct nb_buf *out)
{
    uint64_t first = first_to_rewrite(r);
    struct batch b = {.sequence = first};
    const struct wal_state *at = first < r->next_batch ? &r->kept[first % 2].before : &r->state;
    uint64_t index_last = 0;
    for (uint64_t n = first; n < r->next_batch; n++) {
        const struct wal_kept *k = &r->kept[n % 2];
        nb_assert(k->sequence == n);
        batch_reserve(&b, b.record_bytes + k->records.len);
        wal_content_put(b.memory + DISK_BLOCK_SIZE, WAL_BATCH_HEADER_SIZE + b.record_bytes,
                        k->records.data, k->records.len);
        b.record_bytes += k->records.len;
        b.record_count += k->record_count;
        index_last = k->index_last > index_last ? k->index_last : index_last;
    }
    const struct wal_segment_header header = {.ident = w->ident,
                                              .sequence = sequence,
                                              .first_index = at->next_index,
                                              .first_batch = first,
                                              .durable = first - 1,
                                              .hard_state = at->hard_state,
                                              .mark = at->mark};
    w->placed = *at;
    wal_segment_header_encode(&header, nb_buf_extend(out, DISK_BLOCK_SIZE));
    if (first < r->next_batch) {
        struct wal_batch_header h = {.sequence = first,
                                     .durable = first - 1,
                                     .segment = sequence,
                                     .offset = DISK_BLOCK_SIZE,
                                     .record_bytes = (uint32_t)b.record_bytes,
                                     .record_count = b.record_count};
        wal_batch_finish(b.memory + DISK_BLOCK_SIZE, &h, &w->ident);
        nb_buf_append(out, b.memory + DISK_BLOCK_SIZE, (size_t)h.blocks * DISK_BLOCK_SIZE);
        w->previous_crc = h.crc;
        first++;
    }
    free(b.memory);
    w->next_batch = first;
    w->durable = first - 1;
    w->told = first - 1; /* its header is synced, and nothing before it is in doubt */
    w->last_with_records = b.record_count != 0 ? first - 1 : 0;
    if (b.record_count != 0) {
        w->told = first - 2;
    }
    return index_last;
}

/* Writes `content` and zeros up to `size` under a name for the time being, then under its own. */
static enum nb_status write_first(struct wal *w, struct segment *s, struct nb_buf *content)
{
    nb_buf_reserve(content, (size_t)s->size - content->len);
    memset(content->data + content->len, 0, (size_t)s->size - content->len);
    char *temp = nb_sprintf("%s/begin.tmp", w->dir);
    struct disk_file *file = NULL;
    enum nb_status status = disk_open(w->disk, temp, DISK_READ_WRITE | DISK_TRUNCATE, &file);
    if (status == NB_OK) {
        status = disk_write(file, 0, content->data, (size_t)s->size);
        if (status == NB_OK) {
            status = disk_sync(file);
        }
        disk_close(file);
    }
    if (status == NB_OK) {
        status = disk_rename(w->disk, temp, s->path);
    }
    if (status == NB_OK) {
        status = disk_sync_dir(w->disk, w->dir);
    }
    if (status == NB_OK) {
        status = disk_open(w->disk, s->path, DISK_READ_WRITE | DISK_DIRECT, &s->file);
    }
    nb_free(temp);
    return status;
}

static enum nb_status begin_segment(struct wal *w, const struct wal_reading *r)
{
    uint64_t sequence = r->found_count == 0 ? 1 : r->found[r->found_count - 1].sequence + 1;
    struct nb_buf content = {0};
    uint64_t index_last = build_first(w, r, sequence, &content);
    struct segment *s = segment_add(w, sequence);
    s->first_batch = first_to_rewrite(r);
    s->index_last = index_last;
    s->name_durable = true;
    s->header_durable = true;
    s->path = segment_path(w, sequence, w->placed.next_index);
    w->offset = content.len;
    s->size =
        SEGMENT_SIZE_FIRST < w->options.segment_size ? SEGMENT_SIZE_FIRST : w->options.segment_size;
    while (s->size < content.len) {
        s->size += DISK_BLOCK_SIZE;
    }
    w->placed = r->state;
    w->state = r->state;
    enum nb_status status = write_first(w, s, &content);
    nb_buf_deinit(&content);
    return status;
}

/* Takes over the segments that still count and removes the others. */
static enum nb_status adopt(struct wal *w, const struct wal_reading *r)
{
    uint64_t first = first_to_rewrite(r);
    for (size_t i = 0; i < r->found_count; i++) {
        const struct wal_found *f = &r->found[i];
        if (!f->live || f->header.first_batch >= first) {
            continue;
        }
        struct segment *s = segment_add(w, f->sequence);
        s->first_batch = f->header.first_batch;
        s->size = f->size;
        s->index_last = f->index_last;
        s->path = nb_strdup(f->path);
        s->name_durable = true;
        s->header_durable = true;
    }
    enum nb_status status = begin_segment(w, r);
    for (size_t i = 0; i < r->found_count && status == NB_OK; i++) {
        const struct wal_found *f = &r->found[i];
        if (!f->live || f->header.first_batch >= first) {
            status = disk_unlink(w->disk, f->path);
        }
    }
    if (status == NB_OK) {
        status = disk_unlink(w->disk, w->spare_path);
        status = status == NB_NOT_FOUND ? NB_OK : status;
    }
    return status == NB_OK ? disk_sync_dir(w->disk, w->dir) : status;
}

static void free_all(struct wal *w)
{
    for (size_t i = 0; i < w->segment_count; i++) {
        segment_free(w->segments[i]);
    }
    nb_free(w->segments);
    for (size_t i = 0; i < IN_FLIGHT_MAX; i++) {
        if (w->flying[i] != NULL) {
            free(w->flying[i]->memory);
            nb_free(w->flying[i]);
        }
    }
    struct batch *lists[] = {w->waiting_first, w->free_first};
    for (size_t i = 0; i < NB_ARRAY_LEN(lists); i++) {
        for (struct batch *b = lists[i]; b != NULL;) {
            struct batch *next = b->next;
            free(b->memory);
            nb_free(b);
            b = next;
        }
    }
    nb_free(w->dir);
    nb_free(w->spare_path);
    nb_free(w);
}

static struct wal *create(struct disk *disk, const char *dir, const struct wal_ident *ident,
                          const struct wal_options *options)
{
    struct wal *w = nb_alloc_zero(1, sizeof *w);
    w->disk = disk;
    w->dir = nb_strdup(dir);
    w->spare_path = nb_sprintf("%s/%s", dir, spare_name);
    w->ident = *ident;
    w->options = options == NULL ? (struct wal_options){0} : *options;
    if (w->options.segment_size == 0) {
        w->options.segment_size = SEGMENT_SIZE_DEFAULT;
    }
    w->options.segment_size =
        (w->options.segment_size + DISK_BLOCK_SIZE - 1) / DISK_BLOCK_SIZE * DISK_BLOCK_SIZE;
    if (w->options.batch_size_target == 0) {
        w->options.batch_size_target = BATCH_SIZE_DEFAULT;
    }
    w->waiting_last = &w->waiting_first;
    return w;
}

enum nb_status wal_open(struct disk *disk, const char *dir, const struct wal_ident *ident,
                        const struct wal_options *options, struct wal_recovered *out_recovered,
                        struct wal **out_wal, struct nb_buf *out_message)
{
    nb_assert(ident->cluster_id != 0 && ident->member_id != 0);
    struct wal *w = create(disk, dir, ident, options);
    struct wal_reading r;
    enum nb_status status =
        wal_reading_run(&r, disk, dir, &w->ident, NULL, out_recovered, out_message);
    if (status == NB_OK && r.state.next_index <= w->options.index_expected) {
        nb_buf_printf(out_message,
                      "write-ahead log %s ends at index %" PRIu64 ", but index %" PRIu64
                      " was applied: entries are missing",
                      dir, r.state.next_index - 1, w->options.index_expected);
        status = NB_CORRUPT; /* R26 */
    } else if (status == NB_OK) {
        status = adopt(w, &r);
        if (status != NB_OK) {
            nb_buf_printf(out_message, "cannot begin a segment of write-ahead log %s: %s", dir,
                          nb_status_text(status));
        }
    }
    wal_reading_deinit(&r);
    if (status != NB_OK) {
        wal_recovered_deinit(out_recovered);
        free_all(w);
        return status;
    }
    *out_wal = w;
    return NB_OK;
}

/* --- the rest ------------------------------------------------------------------------------- */

static bool is_writing(const struct wal *w)
{
    bool writing = w->jobs != 0;
    for (size_t i = 0; i < IN_FLIGHT_MAX; i++) {
        writing = writing || (w->flying[i] != NULL && !w->flying[i]->done);
    }
    return writing;
}

void wal_abandon(struct wal *w)
{
    if (w == NULL) {
        return;
    }
    fail(w, NB_CLOSED);
    w->on_progress = NULL;
    while (is_writing(w)) {
        disk_wait(w->disk);
    }
    free_all(w);
}

void wal_close(struct wal *w)
{
    if (w == NULL) {
        return;
    }
    wal_mark_durable(w);
    while (w->status == NB_OK && is_writing(w)) {
        disk_wait(w->disk);
    }
    wal_abandon(w);
}

void wal_on_progress(struct wal *w, void (*on_progress)(void *context), void *context)
{
    w->on_progress = on_progress;
    w->on_progress_context = context;
}

uint64_t wal_durable(const struct wal *w)
{
    return w->durable;
}

enum nb_status wal_status(const struct wal *w)
{
    return w->status;
}

bool wal_is_full(const struct wal *w)
{
    return w->full;
}

size_t wal_pending_bytes(const struct wal *w)
{
    return w->pending_bytes;
}

uint64_t wal_size(const struct wal *w, size_t *out_segment_count)
{
    uint64_t size = 0;
    for (size_t i = 0; i < w->segment_count; i++) {
        size += w->segments[i]->size;
    }
    *out_segment_count = w->segment_count;
    return size;
}

uint64_t wal_next_index(const struct wal *w)
{
    return w->state.next_index;
}

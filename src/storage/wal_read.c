#include "storage/wal_read.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { NAME_LEN = 16 + 1 + 16 + 4, SEGMENT_SIZE_MAX = 2000u << 20 };

/* What a run needs at hand. */
struct reader {
    struct wal_reading *r;
    struct disk *disk;
    const char *dir;
    struct wal_ident *ident;
    const struct wal_visitor *visitor;
    struct nb_buf *message;
    struct nb_buf content; /* bytes of the segment in hand */
    struct nb_buf records; /* of the batch in hand, without stamps */
};

/* Where the reading stands. */
struct spot {
    size_t segment;
    uint64_t offset;
    uint32_t previous_crc;
};

static enum nb_status damaged(struct reader *x, const char *file, uint64_t offset, const char *why)
{
    nb_buf_printf(x->message, "write-ahead log %s/%s is damaged at offset %" PRIu64 ": %s", x->dir,
                  file, offset, why);
    return NB_CORRUPT;
}

/* --- finding the files ---------------------------------------------------------------------- */

static bool parse_hex16(const char *text, uint64_t *out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < 16; i++) {
        char c = text[i];
        uint64_t digit;
        if (c >= '0' && c <= '9') {
            digit = (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            digit = (uint64_t)(c - 'a') + 10;
        } else {
            return false;
        }
        value = value << 4 | digit;
    }
    *out = value;
    return true;
}

static void on_name(void *context, const char *name)
{
    struct reader *x = context;
    struct wal_found f = {0};
    if (strlen(name) != NAME_LEN || name[16] != '-' || strcmp(name + 33, ".wal") != 0 ||
        !parse_hex16(name, &f.sequence) || !parse_hex16(name + 17, &f.first_index_named)) {
        return;
    }
    f.name = nb_strdup(name);
    f.path = nb_sprintf("%s/%s", x->dir, name);
    struct wal_reading *r = x->r;
    r->found = nb_grow(r->found, &r->found_capacity, r->found_count + 1, sizeof *r->found);
    r->found[r->found_count++] = f;
}

static enum nb_status load(struct reader *x, const struct wal_found *f, size_t len_max)
{
    nb_buf_clear(&x->content);
    struct disk_file *file;
    enum nb_status status = disk_open(x->disk, f->path, DISK_READ_ONLY, &file);
    if (status == NB_OK) {
        uint64_t size = 0;
        status = disk_size(file, &size);
        size_t len = size < len_max ? (size_t)size : len_max;
        if (status == NB_OK) {
            status = disk_read(file, 0, nb_buf_extend(&x->content, len), len);
        }
        disk_close(file);
    }
    if (status != NB_OK) {
        nb_buf_printf(x->message, "cannot read write-ahead log file %s: %s", f->path,
                      nb_status_text(status));
    }
    return status;
}

static enum nb_status check_header(struct reader *x, struct wal_found *f)
{
    if (f->header.ident.cluster_id != x->ident->cluster_id ||
        f->header.ident.member_id != x->ident->member_id) {
        nb_buf_printf(x->message,
                      "%s belongs to cluster %" PRIx64 " member %" PRIx64
                      ", not to cluster %" PRIx64 " member %" PRIx64
                      ": start with the data directory of this member",
                      f->path, f->header.ident.cluster_id, f->header.ident.member_id,
                      x->ident->cluster_id, x->ident->member_id);
        return NB_FOREIGN;
    }
    /* A recycled file has its old header until the first write of its new life arrives. [W09] */
    f->header_ok =
        f->header.sequence == f->sequence && f->header.first_index == f->first_index_named;
    return NB_OK;
}

static enum nb_status read_header(struct reader *x, struct wal_found *f)
{
    enum nb_status status = load(x, f, DISK_BLOCK_SIZE);
    if (status != NB_OK) {
        return status;
    }
    if (x->content.len < DISK_BLOCK_SIZE) {
        return NB_OK; /* no header: what that means depends on what else there is */
    }
    status = wal_segment_header_decode(x->content.data, &f->header);
    if (status == NB_VERSION) {
        nb_buf_printf(x->message,
                      "%s was written by a newer nabata (format %" PRIu32 ", this one reads %d): "
                      "use that version or a newer one",
                      f->path, nb_get_u32(x->content.data + 8), WAL_FORMAT_VERSION);
        return NB_VERSION;
    }
    f->header_ok = status == NB_OK;
    if (f->header_ok && x->ident->cluster_id == 0) {
        *x->ident = f->header.ident;
    }
    return f->header_ok ? check_header(x, f) : NB_OK;
}

/* From this batch on, those of segment i are superseded by a later segment (recovery begins one
 * that writes the last two again). UINT64_MAX when there is none. */
static uint64_t limit_of(const struct wal_reading *r, size_t i)
{
    uint64_t limit = UINT64_MAX;
    for (size_t k = i + 1; k < r->found_count; k++) {
        if (r->found[k].header_ok && r->found[k].header.first_batch < limit) {
            limit = r->found[k].header.first_batch;
        }
    }
    return limit;
}

/* --- replay --------------------------------------------------------------------------------- */

static void drop_entries_from(struct wal_recovered *out, size_t keep)
{
    while (out->entry_count > keep) {
        nb_payload_release(out->entries[--out->entry_count].payload);
    }
}

static void drop_entries_before(struct wal_recovered *out, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        nb_payload_release(out->entries[i].payload);
    }
    if (count != 0) {
        out->entry_count -= count;
        memmove(out->entries, out->entries + count, out->entry_count * sizeof *out->entries);
    }
}

static const char *replay_entry(struct wal_reading *r, const struct wal_record *record)
{
    struct wal_recovered *out = r->recovered;
    if (record->index > r->state.next_index) {
        return "an entry leaves a gap in the index";
    }
    /* Below the first index of the oldest segment is fine: the tail that was replaced may have
     * begun in a segment that is released since. */
    if (record->index <= r->state.mark.index) {
        return "an entry lies before the snapshot that the log begins with";
    }
    /* An entry at or below the last index replaces the tail. */
    size_t keep = 0;
    if (out->entry_count != 0 && record->index > out->entries[0].index) {
        keep = (size_t)(record->index - out->entries[0].index);
    }
    drop_entries_from(out, keep < out->entry_count ? keep : out->entry_count);
    out->entries =
        nb_grow(out->entries, &out->entry_capacity, out->entry_count + 1, sizeof *out->entries);
    out->entries[out->entry_count++] = (struct wal_entry){
        .index = record->index,
        .term = record->term,
        .kind = record->kind,
        .payload = record->payload.len == 0 ? NULL : nb_payload_copy(record->payload),
    };
    r->state.next_index = record->index + 1;
    return NULL;
}

static const char *replay_mark(struct wal_reading *r, struct wal_mark mark)
{
    struct wal_recovered *out = r->recovered;
    if (mark.index < r->state.mark.index) {
        return "a snapshot mark goes back";
    }
    bool known = false;
    size_t covered = 0;
    for (size_t i = 0; i < out->entry_count && out->entries[i].index <= mark.index; i++) {
        known = out->entries[i].index == mark.index && out->entries[i].term == mark.term;
        covered = i + 1;
    }
    if (known) {
        drop_entries_before(out, covered);
    } else {
        drop_entries_from(out, 0);
        r->state.next_index = mark.index + 1;
    }
    r->state.mark = mark;
    return NULL;
}

static const char *replay_record(struct reader *x, struct wal_found *f,
                                 const struct wal_record *record)
{
    struct wal_reading *r = x->r;
    const struct wal_visitor *v = x->visitor;
    switch (record->type) {
    case WAL_RECORD_ENTRY:
        if (v != NULL && v->on_entry != NULL) {
            v->on_entry(v->context, record->index, record->term, record->kind, record->payload);
        }
        f->index_last = record->index > f->index_last ? record->index : f->index_last;
        return replay_entry(r, record);
    case WAL_RECORD_HARD_STATE:
        if (v != NULL && v->on_hard_state != NULL) {
            v->on_hard_state(v->context, &record->hard_state);
        }
        if (record->hard_state.term < r->state.hard_state.term) {
            return "the term goes back";
        }
        r->state.hard_state = record->hard_state;
        return NULL;
    case WAL_RECORD_MARK:
        if (v != NULL && v->on_mark != NULL) {
            v->on_mark(v->context, record->mark);
        }
        return replay_mark(r, record->mark);
    }
    return "a record of unknown type";
}

static enum nb_status replay_batch(struct reader *x, struct wal_found *f, const uint8_t *sectors,
                                   const struct wal_batch_header *h)
{
    struct wal_reading *r = x->r;
    nb_buf_clear(&x->records);
    uint8_t *to = nb_buf_extend(&x->records, h->record_bytes);
    wal_content_get(sectors, WAL_BATCH_HEADER_SIZE, to, h->record_bytes);
    struct wal_kept *kept = &r->kept[h->sequence % 2];
    kept->sequence = h->sequence;
    kept->before = r->state;
    kept->record_count = h->record_count;
    kept->index_last = 0;
    nb_buf_clear(&kept->records);
    nb_buf_append_bytes(&kept->records, nb_buf_bytes(&x->records));
    if (x->visitor != NULL && x->visitor->on_batch != NULL) {
        x->visitor->on_batch(x->visitor->context, h->sequence, h->durable, h->offset,
                             (size_t)h->blocks * DISK_BLOCK_SIZE);
    }
    struct nb_bytes rest = nb_buf_bytes(&x->records);
    struct wal_record record;
    uint32_t count = 0;
    enum nb_status status;
    while ((status = wal_record_next(&rest, &record)) == NB_OK) {
        const char *why = replay_record(x, f, &record);
        if (why != NULL) {
            return damaged(x, f->name, h->offset, why);
        }
        if (record.type == WAL_RECORD_ENTRY && record.index > kept->index_last) {
            kept->index_last = record.index;
        }
        count++;
    }
    if (status != NB_CLOSED || count != h->record_count) {
        return damaged(x, f->name, h->offset, "a batch with a right checksum holds no records");
    }
    return NB_OK;
}

/* --- the end of the log --------------------------------------------------------------------- */

static struct wal_place place_of(const struct reader *x, const struct wal_found *f)
{
    return (struct wal_place){.ident = *x->ident, .segment = f->sequence};
}

/* What lies behind the bad spot. */
struct beyond {
    uint64_t durable;    /* highest "was durable" found */
    uint64_t batch_last; /* highest whole batch found, below the segment's limit */
    uint64_t batch_count;
    bool orphans; /* batches below the missing one in a segment without a header */
};

static void look_in_content(struct reader *x, const struct wal_found *f, uint64_t from,
                            uint64_t limit, uint64_t missing, struct beyond *out)
{
    const struct wal_place place = place_of(x, f);
    for (uint64_t at = from; at + DISK_BLOCK_SIZE <= x->content.len; at += DISK_BLOCK_SIZE) {
        struct wal_batch_header h;
        bool header_ok;
        if (wal_batch_decode(x->content.data + at, x->content.len - (size_t)at, &place, at, &h,
                             &header_ok) != NB_OK ||
            h.sequence >= limit) {
            continue;
        }
        if (h.sequence <= missing) {
            out->orphans = out->orphans || (!f->header_ok && h.sequence < missing);
            continue;
        }
        out->durable = h.durable > out->durable ? h.durable : out->durable;
        out->batch_last = h.sequence > out->batch_last ? h.sequence : out->batch_last;
        out->batch_count++;
    }
}

/* How the sectors of a missing batch look. */
struct traces {
    size_t fresh, other, damaged;
};

static void trace_sectors(const struct nb_buf *content, uint64_t from, uint64_t end, uint64_t stamp,
                          struct traces *out)
{
    for (uint64_t at = from; at + DISK_SECTOR_SIZE <= end && at + DISK_SECTOR_SIZE <= content->len;
         at += DISK_SECTOR_SIZE) {
        switch (wal_sector_state(content->data + at, stamp)) {
        case WAL_SECTOR_NEW:
            out->fresh++;
            break;
        case WAL_SECTOR_OTHER:
            out->other++;
            break;
        case WAL_SECTOR_DAMAGED:
            out->damaged++;
            break;
        }
    }
}

/* Decides over the batch that should lie at `offset` of the segment in hand. NULL: torn, or never
 * written. Else why it is damage. */
static const char *judge_batch(struct reader *x, const struct wal_found *f, uint64_t offset,
                               uint64_t missing, struct traces *out)
{
    const struct wal_place place = place_of(x, f);
    uint64_t stamp = wal_stamp(&place, missing);
    trace_sectors(&x->content, offset, x->content.len, stamp, out);
    if (out->damaged != 0) {
        return "a sector has flipped bits";
    }
    if (offset + DISK_BLOCK_SIZE > x->content.len) {
        return NULL;
    }
    const uint8_t *sectors = x->content.data + offset;
    struct wal_batch_header h;
    bool header_ok;
    enum nb_status status =
        wal_batch_decode(sectors, x->content.len - (size_t)offset, &place, offset, &h, &header_ok);
    if (!header_ok) {
        return wal_sector_state(sectors, stamp) == WAL_SECTOR_NEW
                   ? "the header of a batch is not what was written"
                   : NULL;
    }
    if (status == NB_OK || h.sequence != missing) {
        /* Behind a torn segment header a whole batch means nothing: both are one write. */
        return f->header_ok && (h.sequence == missing || h.sequence == missing + 1)
                   ? "a batch does not follow the one before it"
                   : NULL;
    }
    uint64_t end = offset + (uint64_t)h.blocks * DISK_BLOCK_SIZE;
    struct traces own = {0};
    trace_sectors(&x->content, offset, end, stamp, &own);
    if (own.other == 0 && end <= x->content.len) {
        return "all of a batch was written, but it is not what was written";
    }
    return NULL;
}

/* The same for the segment in hand, whose header is bad. */
static const char *judge_header(struct reader *x, const struct wal_found *f, uint64_t missing,
                                struct traces *out)
{
    const struct wal_place place = place_of(x, f);
    /* A rolled segment begins with the missing batch or the one after it; one that recovery made,
     * with one of the two before it (L1). */
    for (uint64_t first = missing < 3 ? 1 : missing - 2; first <= missing + 1; first++) {
        struct traces own = {0};
        trace_sectors(&x->content, 0, DISK_BLOCK_SIZE, wal_stamp(&place, first), &own);
        if (own.damaged != 0) {
            return "a sector of the segment's header has flipped bits";
        }
        if (own.fresh == WAL_SECTORS_PER_BLOCK) {
            return "the segment's header is not what was written";
        }
        out->fresh += own.fresh;
    }
    return judge_batch(x, f, DISK_BLOCK_SIZE, missing, out);
}

/* Batch `missing` was not found at `at`: an end of the log, or a hole in it? */
static enum nb_status judge_end(struct reader *x, struct spot at, uint64_t missing)
{
    struct wal_reading *r = x->r;
    struct beyond beyond = {0};
    struct traces traces = {0};
    const char *why = NULL;
    size_t why_segment = at.segment;
    for (size_t i = at.segment; i < r->found_count; i++) {
        const struct wal_found *f = &r->found[i];
        enum nb_status status = load(x, f, SEGMENT_SIZE_MAX);
        if (status != NB_OK) {
            return status;
        }
        bool here = i == at.segment;
        if (f->header_ok && !here && f->header.durable > beyond.durable) {
            beyond.durable = f->header.durable;
        }
        look_in_content(x, f, here ? at.offset : DISK_BLOCK_SIZE, limit_of(r, i), missing, &beyond);
        if (why == NULL) {
            why_segment = i;
            why = here            ? judge_batch(x, f, at.offset, missing, &traces)
                  : !f->header_ok ? judge_header(x, f, missing, &traces)
                                  : NULL;
        }
    }
    const struct wal_found *f = &r->found[at.segment];
    if (beyond.durable >= missing || beyond.batch_last > missing + 1 || beyond.orphans) {
        return damaged(x, f->name, at.offset,
                       "a batch is missing or wrong that later ones know to have been durable");
    }
    if (why != NULL) {
        return damaged(x, r->found[why_segment].name, why_segment == at.segment ? at.offset : 0,
                       why);
    }
    struct wal_recovered *out = r->recovered;
    if (traces.fresh != 0 || beyond.batch_count != 0) {
        out->bytes_cut = traces.fresh * DISK_SECTOR_SIZE;
        out->batches_cut = beyond.batch_count;
        out->cut_offset = at.offset;
        (void)snprintf(out->cut_file, sizeof out->cut_file, "%s", f->name);
    }
    return NB_OK;
}

/* Reads the batches of segment at->segment from its first on, until the limit or one is missing. */
static enum nb_status read_batches(struct reader *x, struct spot *at, uint64_t limit)
{
    struct wal_reading *r = x->r;
    struct wal_found *f = &r->found[at->segment];
    const struct wal_place place = place_of(x, f);
    while (r->next_batch < limit && at->offset < x->content.len) {
        struct wal_batch_header h;
        bool header_ok;
        const uint8_t *sectors = x->content.data + at->offset;
        if (wal_batch_decode(sectors, x->content.len - (size_t)at->offset, &place, at->offset, &h,
                             &header_ok) != NB_OK ||
            h.sequence != r->next_batch || h.previous_crc != at->previous_crc) {
            return NB_OK;
        }
        if (h.durable + 2 < h.sequence) {
            return damaged(x, f->name, at->offset, "a batch was written too early");
        }
        enum nb_status status = replay_batch(x, f, sectors, &h);
        if (status != NB_OK) {
            return status;
        }
        r->durable = h.durable > r->durable ? h.durable : r->durable;
        r->next_batch++;
        r->recovered->batch_count++;
        at->offset += (uint64_t)h.blocks * DISK_BLOCK_SIZE;
        at->previous_crc = h.crc;
    }
    return NB_OK;
}

static void begin_with(struct wal_reading *r, const struct wal_segment_header *h)
{
    r->next_batch = h->first_batch;
    r->state = (struct wal_state){
        .hard_state = h->hard_state, .mark = h->mark, .next_index = h->first_index};
    if (h->mark.index + 1 > h->first_index) {
        r->state.next_index = h->mark.index + 1;
    }
}

static enum nb_status read_segments(struct reader *x)
{
    struct wal_reading *r = x->r;
    if (!r->found[0].header_ok) {
        return damaged(x, r->found[0].name, 0, "the header of the oldest segment is wrong");
    }
    begin_with(r, &r->found[0].header);
    struct spot end = {0};
    for (size_t i = 0; i < r->found_count; i++) {
        struct wal_found *f = &r->found[i];
        uint64_t limit = limit_of(r, i);
        if (limit <= r->next_batch) {
            continue; /* superseded, header and all */
        }
        if (!f->header_ok || f->header.first_batch != r->next_batch) {
            break; /* something is missing: judged below */
        }
        enum nb_status status = load(x, f, SEGMENT_SIZE_MAX);
        if (status != NB_OK) {
            return status;
        }
        f->size = x->content.len;
        f->live = true;
        r->durable = f->header.durable > r->durable ? f->header.durable : r->durable;
        if (x->visitor != NULL && x->visitor->on_segment != NULL) {
            x->visitor->on_segment(x->visitor->context, f->name, f->sequence,
                                   f->header.first_index);
        }
        end = (struct spot){.segment = i, .offset = DISK_BLOCK_SIZE};
        status = read_batches(x, &end, limit);
        if (status != NB_OK) {
            return status;
        }
    }
    return judge_end(x, end, r->next_batch);
}

static enum nb_status check_whole(struct reader *x)
{
    struct wal_reading *r = x->r;
    uint64_t last = r->state.next_index - 1;
    if (r->state.hard_state.commit_index > last) {
        nb_buf_printf(x->message,
                      "write-ahead log %s says that index %" PRIu64
                      " is committed, but ends at index %" PRIu64 ": entries are missing",
                      x->dir, r->state.hard_state.commit_index, last);
        return NB_CORRUPT; /* R26 */
    }
    struct wal_recovered *out = r->recovered;
    out->hard_state = r->state.hard_state;
    out->mark = r->state.mark;
    out->next_index = r->state.next_index;
    return NB_OK;
}

enum nb_status wal_reading_run(struct wal_reading *r, struct disk *disk, const char *dir,
                               struct wal_ident *ident, const struct wal_visitor *visitor,
                               struct wal_recovered *recovered, struct nb_buf *out_message)
{
    *r = (struct wal_reading){.recovered = recovered};
    *recovered = (struct wal_recovered){0};
    struct reader x = {.r = r,
                       .disk = disk,
                       .dir = dir,
                       .ident = ident,
                       .visitor = visitor,
                       .message = out_message};
    enum nb_status status = disk_list(disk, dir, on_name, &x);
    if (status != NB_OK) {
        nb_buf_printf(out_message, "cannot list folder %s: %s", dir, nb_status_text(status));
    }
    for (size_t i = 0; i < r->found_count && status == NB_OK; i++) {
        status = read_header(&x, &r->found[i]);
    }
    if (status == NB_OK && r->found_count != 0) {
        status = read_segments(&x);
        if (status == NB_OK) {
            status = check_whole(&x);
        }
    }
    if (r->found_count == 0) {
        recovered->created = true;
        recovered->next_index = 1;
        r->next_batch = 1;
        r->state.next_index = 1;
    }
    nb_buf_deinit(&x.content);
    nb_buf_deinit(&x.records);
    return status;
}

void wal_reading_deinit(struct wal_reading *r)
{
    for (size_t i = 0; i < r->found_count; i++) {
        nb_free(r->found[i].name);
        nb_free(r->found[i].path);
    }
    nb_free(r->found);
    nb_buf_deinit(&r->kept[0].records);
    nb_buf_deinit(&r->kept[1].records);
}

void wal_recovered_deinit(struct wal_recovered *r)
{
    drop_entries_from(r, 0);
    nb_free(r->entries);
    *r = (struct wal_recovered){0};
}

enum nb_status wal_read_all(struct disk *disk, const char *dir, const struct wal_ident *ident,
                            const struct wal_visitor *visitor, struct wal_recovered *out_recovered,
                            struct nb_buf *out_message)
{
    struct wal_reading r;
    struct wal_ident own = *ident;
    enum nb_status status =
        wal_reading_run(&r, disk, dir, &own, visitor, out_recovered, out_message);
    wal_reading_deinit(&r);
    if (status != NB_OK) {
        wal_recovered_deinit(out_recovered);
    }
    return status;
}

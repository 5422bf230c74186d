#include "machine/state.h"

#include "base/wire.h"
#include "storage/backend.h"

#include <inttypes.h>
#include <string.h>

/* Fields of the encoded state: protobuf's wire format, so that a later version can add some. */
enum {
    FIELD_FORMAT = 1,
    FIELD_APPLIED_INDEX = 2,
    FIELD_APPLIED_TERM = 3,
    FIELD_LOG_HASH = 4,
    FIELD_CONF = 5,
    FIELD_CONF_INDEX = 6,
    FIELD_MEMBERS = 7,
    FIELD_REMOVED = 8, /* repeated */
    FIELD_ALARM = 9,   /* repeated: 1 = member, 2 = alarm */
    FIELD_VERSION = 10,
    FIELD_SEEN = 32, /* repeated: a boot of machine/seen */
};

enum { FORMAT = 1 };

static const char state_key[] = "machine";

void machine_state_deinit(struct machine_state *s)
{
    nb_buf_deinit(&s->conf);
    machine_members_deinit(&s->members);
    machine_seen_deinit(&s->seen);
    *s = (struct machine_state){0};
}

static bool alarm_below(const struct machine_alarm_member *a, const struct machine_alarm_member *b)
{
    return a->alarm != b->alarm ? a->alarm < b->alarm : a->member_id < b->member_id;
}

static size_t alarm_place(const struct machine_state *s, const struct machine_alarm_member *a)
{
    size_t at = 0;
    while (at < s->alarm_count && alarm_below(&s->alarms[at], a)) {
        at++;
    }
    return at;
}

static bool alarm_is_at(const struct machine_state *s, size_t at,
                        const struct machine_alarm_member *a)
{
    return at < s->alarm_count && s->alarms[at].alarm == a->alarm &&
           s->alarms[at].member_id == a->member_id;
}

void machine_state_alarm_add(struct machine_state *s, const struct machine_alarm_member *a)
{
    size_t at = alarm_place(s, a);
    if (alarm_is_at(s, at, a) || s->alarm_count == MACHINE_ALARM_COUNT_MAX) {
        return;
    }
    memmove(&s->alarms[at + 1], &s->alarms[at], (s->alarm_count - at) * sizeof *a);
    s->alarms[at] = *a;
    s->alarm_count++;
}

bool machine_state_alarm_remove(struct machine_state *s, const struct machine_alarm_member *a)
{
    size_t at = alarm_place(s, a);
    if (!alarm_is_at(s, at, a)) {
        return false;
    }
    s->alarm_count--;
    memmove(&s->alarms[at], &s->alarms[at + 1], (s->alarm_count - at) * sizeof *a);
    return true;
}

void machine_state_encode(const struct machine_state *s, struct nb_buf *out)
{
    struct nb_buf part = {0};
    nb_wire_varint_field(out, FIELD_FORMAT, FORMAT);
    nb_wire_varint_field(out, FIELD_APPLIED_INDEX, s->applied_index);
    nb_wire_varint_field(out, FIELD_APPLIED_TERM, s->applied_term);
    nb_wire_varint_field(out, FIELD_LOG_HASH, s->log_hash);
    nb_wire_bytes_field(out, FIELD_CONF, nb_buf_bytes(&s->conf));
    nb_wire_varint_field(out, FIELD_CONF_INDEX, s->conf_index);
    machine_members_encode(&s->members, &part);
    nb_wire_bytes_field(out, FIELD_MEMBERS, nb_buf_bytes(&part));
    for (size_t i = 0; i < s->members.removed_count; i++) {
        nb_wire_varint(out, FIELD_REMOVED, s->members.removed[i]);
    }
    for (size_t i = 0; i < s->alarm_count; i++) {
        nb_buf_clear(&part);
        nb_wire_varint_field(&part, 1, s->alarms[i].member_id);
        nb_wire_varint_field(&part, 2, s->alarms[i].alarm);
        nb_wire_bytes(out, FIELD_ALARM, nb_buf_bytes(&part));
    }
    nb_wire_bytes_field(out, FIELD_VERSION, nb_bytes_str(s->cluster_version));
    for (size_t i = 0; i < s->seen.count; i++) {
        nb_buf_clear(&part);
        machine_seen_boot_encode(&s->seen.boots[i], &part);
        nb_wire_bytes(out, FIELD_SEEN, nb_buf_bytes(&part));
    }
    nb_buf_deinit(&part);
}

static enum nb_status decode_alarm(struct machine_state *s, struct nb_bytes bytes)
{
    struct machine_alarm_member a = {0};
    struct nb_wire_reader r = nb_wire_reader_of(bytes);
    while (nb_wire_more(&r)) {
        struct nb_wire_field f;
        enum nb_status status = nb_wire_next(&r, &f);
        if (status != NB_OK) {
            return status;
        }
        if (f.type == NB_WIRE_VARINT && f.number == 1) {
            a.member_id = f.value;
        } else if (f.type == NB_WIRE_VARINT && f.number == 2) {
            a.alarm = (uint32_t)f.value;
        }
    }
    machine_state_alarm_add(s, &a);
    return NB_OK;
}

static enum nb_status decode_number(struct machine_state *s, const struct nb_wire_field *f,
                                    uint64_t *format)
{
    switch (f->number) {
    case FIELD_FORMAT:
        *format = f->value;
        break;
    case FIELD_APPLIED_INDEX:
        s->applied_index = f->value;
        break;
    case FIELD_APPLIED_TERM:
        s->applied_term = f->value;
        break;
    case FIELD_LOG_HASH:
        s->log_hash = f->value;
        break;
    case FIELD_CONF_INDEX:
        s->conf_index = f->value;
        break;
    case FIELD_REMOVED:
        machine_members_remove(&s->members, f->value);
        break;
    default:
        break; /* of a later version, which must still be readable by this one to say so */
    }
    return NB_OK;
}

static enum nb_status decode_part(struct machine_state *s, const struct nb_wire_field *f)
{
    switch (f->number) {
    case FIELD_CONF:
        nb_buf_clear(&s->conf);
        nb_buf_append_bytes(&s->conf, f->bytes);
        return NB_OK;
    case FIELD_MEMBERS:
        return machine_members_apply(&s->members, f->bytes);
    case FIELD_ALARM:
        return decode_alarm(s, f->bytes);
    case FIELD_SEEN:
        return machine_seen_boot_decode(&s->seen, f->bytes);
    case FIELD_VERSION:
        if (f->bytes.len >= sizeof s->cluster_version) {
            return NB_TOO_LARGE;
        }
        memcpy(s->cluster_version, f->bytes.data, f->bytes.len);
        s->cluster_version[f->bytes.len] = '\0';
        return NB_OK;
    default:
        return NB_OK;
    }
}

enum nb_status machine_state_decode(struct nb_bytes bytes, struct machine_state *out)
{
    uint64_t format = 0;
    struct nb_wire_reader r = nb_wire_reader_of(bytes);
    while (nb_wire_more(&r)) {
        struct nb_wire_field f;
        enum nb_status status = nb_wire_next(&r, &f);
        if (status == NB_OK && f.type == NB_WIRE_VARINT) {
            status = decode_number(out, &f, &format);
        } else if (status == NB_OK && f.type == NB_WIRE_BYTES) {
            status = decode_part(out, &f);
        }
        if (status != NB_OK) {
            return status;
        }
    }
    return format == FORMAT ? NB_OK : NB_VERSION;
}

enum nb_status machine_state_load(struct backend *b, struct machine_state *out,
                                  struct nb_buf *error)
{
    struct nb_bytes row;
    const struct backend_label *label = backend_label(b);
    if (!backend_get(b, BACKEND_META, nb_bytes_str(state_key), &row)) {
        if (label->applied_index == 0) {
            return NB_OK;
        }
        nb_buf_printf(error,
                      "the backend is at index %" PRIu64
                      " but has no state of the machine: restore this member from its peers",
                      label->applied_index);
        return NB_CORRUPT;
    }
    enum nb_status status = machine_state_decode(row, out);
    if (status != NB_OK) {
        nb_buf_printf(error, "the machine's state in the backend does not decode: %s",
                      nb_status_text(status));
        return status == NB_VERSION ? NB_VERSION : NB_CORRUPT;
    }
    if (out->applied_index != label->applied_index || out->applied_term != label->applied_term) {
        nb_buf_printf(
            error, "the backend's label says index %" PRIu64 ", the machine's state in it %" PRIu64,
            label->applied_index, out->applied_index);
        return NB_CORRUPT;
    }
    return NB_OK;
}

void machine_state_store(const struct machine_state *s, struct backend *b)
{
    struct nb_buf row = {0};
    machine_state_encode(s, &row);
    (void)backend_batch_put(b, BACKEND_META, nb_bytes_str(state_key), nb_buf_bytes(&row));
    nb_buf_deinit(&row);
}

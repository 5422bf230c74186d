/* format_json: by the descriptors that protobuf-c generates, so there is no list of fields here. */
#include "cli/format.h"

#include "base/log.h"

#include <inttypes.h>
#include <string.h>

/* The places of a message are reached by offset, as protobuf-c's own code does. */
static const void *member_at(const ProtobufCMessage *message, unsigned offset)
{
    return (const uint8_t *)message + offset;
}

static uint64_t load_u64(const void *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint32_t load_u32(const void *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static const void *load_pointer(const void *at)
{
    const void *value;
    memcpy(&value, at, sizeof value);
    return value;
}

static ProtobufCBinaryData load_binary(const void *at)
{
    ProtobufCBinaryData value;
    memcpy(&value, at, sizeof value);
    return value;
}

static bool is_id(const char *name)
{
    static const char *const ids[] = {"cluster_id", "member_id", "ID",
                                      "memberID",   "leader",    "lease"};
    for (size_t i = 0; i < NB_ARRAY_LEN(ids); i++) {
        if (strcmp(name, ids[i]) == 0) {
            return true;
        }
    }
    return false;
}

static size_t size_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    }
    nb_unreachable("a type of protobuf");
}

static bool is_zero(ProtobufCType type, const void *at)
{
    if (type == PROTOBUF_C_TYPE_STRING) {
        const char *text = load_pointer(at);
        return text == NULL || text[0] == '\0';
    }
    if (type == PROTOBUF_C_TYPE_MESSAGE) {
        return load_pointer(at) == NULL;
    }
    if (type == PROTOBUF_C_TYPE_BYTES) {
        return load_binary(at).len == 0;
    }
    return size_of(type) == 8 ? load_u64(at) == 0 : load_u32(at) == 0;
}

static void json_string(struct nb_buf *out, const char *text)
{
    nb_buf_append_str(out, "\"");
    nb_json_escape(out, nb_bytes_str(text));
    nb_buf_append_str(out, "\"");
}

static void json_u64(struct nb_buf *out, const ProtobufCFieldDescriptor *field, uint64_t value,
                     bool hex)
{
    bool is_unsigned =
        field->type == PROTOBUF_C_TYPE_UINT64 || field->type == PROTOBUF_C_TYPE_FIXED64;
    if (hex && is_id(field->name)) {
        nb_buf_printf(out, "\"%" PRIx64 "\"", value);
    } else if (is_unsigned) {
        nb_buf_printf(out, "%" PRIu64, value);
    } else {
        nb_buf_printf(out, "%" PRId64, (int64_t)value);
    }
}

static void json_value(struct nb_buf *out, const ProtobufCFieldDescriptor *field, const void *at,
                       bool hex)
{
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        json_string(out, load_pointer(at));
    } else if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        format_json(out, load_pointer(at), hex);
    } else if (field->type == PROTOBUF_C_TYPE_BYTES) {
        ProtobufCBinaryData b = load_binary(at);
        nb_buf_append_str(out, "\"");
        format_base64(out, nb_bytes_of(b.data, b.len));
        nb_buf_append_str(out, "\"");
    } else if (field->type == PROTOBUF_C_TYPE_BOOL) {
        nb_buf_append_str(out, load_u32(at) != 0 ? "true" : "false");
    } else if (size_of(field->type) == 8) {
        json_u64(out, field, load_u64(at), hex);
    } else if (field->type == PROTOBUF_C_TYPE_UINT32 || field->type == PROTOBUF_C_TYPE_FIXED32) {
        nb_buf_printf(out, "%" PRIu32, load_u32(at));
    } else {
        nb_buf_printf(out, "%" PRId32, (int32_t)load_u32(at));
    }
}

static void json_array(struct nb_buf *out, const ProtobufCFieldDescriptor *field,
                       const uint8_t *items, size_t count, bool hex)
{
    nb_buf_append_str(out, "[");
    for (size_t i = 0; i < count; i++) {
        nb_buf_append_str(out, i > 0 ? "," : "");
        json_value(out, field, items + i * size_of(field->type), hex);
    }
    nb_buf_append_str(out, "]");
}

static size_t repeated_count(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    size_t count;
    memcpy(&count, member_at(message, field->quantifier_offset), sizeof count);
    return count;
}

static bool is_set(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        return load_u32(member_at(message, field->quantifier_offset)) == field->id;
    }
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        return repeated_count(message, field) > 0;
    }
    return !is_zero(field->type, member_at(message, field->offset));
}

void format_json(struct nb_buf *out, const ProtobufCMessage *message, bool hex)
{
    /* Go keeps a oneof in a field of its own, whose name is not in the wire's names. */
    bool wrapped = message->descriptor == &etcdserverpb__response_op__descriptor;
    nb_buf_append_str(out, wrapped ? "{\"Response\":{" : "{");
    bool first = true;
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (!is_set(message, field)) {
            continue;
        }
        nb_buf_printf(out, "%s\"%s\":", first ? "" : ",", field->name);
        first = false;
        const void *at = member_at(message, field->offset);
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            json_array(out, field, load_pointer(at), repeated_count(message, field), hex);
        } else {
            json_value(out, field, at, hex);
        }
    }
    nb_buf_append_str(out, wrapped ? "}}" : "}");
}

#include "cli/format.h"

#include "base/log.h"

#include <inttypes.h>
#include <string.h>

static struct nb_bytes bytes_of(ProtobufCBinaryData b)
{
    return nb_bytes_of(b.data, b.len);
}

/* ---- pieces ---- */

void format_bytes(struct nb_buf *out, struct nb_bytes bytes, bool hex)
{
    if (!hex) {
        nb_buf_append_bytes(out, bytes);
        return;
    }
    for (size_t i = 0; i < bytes.len; i++) {
        nb_buf_printf(out, "\\x%02x", (unsigned)bytes.data[i]);
    }
}

/* Length of the valid UTF-8 sequence at the start, or 0. */
static size_t utf8_length(struct nb_bytes b)
{
    static const struct {
        uint8_t mask, mark;
        uint32_t least;
    } forms[] = {{0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    for (size_t i = 0; i < NB_ARRAY_LEN(forms); i++) {
        size_t len = i + 2;
        if ((b.data[0] & forms[i].mask) != forms[i].mark || b.len < len) {
            continue;
        }
        uint32_t code = b.data[0] & (uint8_t)~forms[i].mask;
        for (size_t j = 1; j < len; j++) {
            if ((b.data[j] & 0xc0) != 0x80) {
                return 0;
            }
            code = code << 6 | (b.data[j] & 0x3f);
        }
        bool surrogate = code >= 0xd800 && code < 0xe000;
        return code >= forms[i].least && code <= 0x10ffff && !surrogate ? len : 0;
    }
    return 0;
}

void format_quoted(struct nb_buf *out, struct nb_bytes bytes)
{
    static const char escapes[] = "abtnvfr"; /* of the bytes 7 to 13 */
    nb_buf_append_str(out, "\"");
    for (size_t i = 0; i < bytes.len; i++) {
        uint8_t c = bytes.data[i];
        if (c == '"' || c == '\\') {
            nb_buf_printf(out, "\\%c", c);
        } else if (c >= 7 && c <= 13) {
            nb_buf_printf(out, "\\%c", escapes[c - 7]);
        } else if (c >= 0x20 && c < 0x7f) {
            nb_buf_append(out, &c, 1);
        } else {
            size_t len = c >= 0x80 ? utf8_length(nb_bytes_from(bytes, i)) : 0;
            if (len == 0) {
                nb_buf_printf(out, "\\x%02x", (unsigned)c);
            } else {
                nb_buf_append(out, bytes.data + i, len);
                i += len - 1;
            }
        }
    }
    nb_buf_append_str(out, "\"");
}

void format_base64(struct nb_buf *out, struct nb_bytes bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t left = bytes.len - i;
        uint32_t group = (uint32_t)bytes.data[i] << 16;
        group |= left > 1 ? (uint32_t)bytes.data[i + 1] << 8 : 0;
        group |= left > 2 ? bytes.data[i + 2] : 0;
        char text[4] = {digits[group >> 18], digits[group >> 12 & 63], '=', '='};
        if (left > 1) {
            text[2] = digits[group >> 6 & 63];
        }
        if (left > 2) {
            text[3] = digits[group & 63];
        }
        nb_buf_append(out, text, sizeof text);
    }
}

void format_size(struct nb_buf *out, uint64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    if (bytes < 10) {
        nb_buf_printf(out, "%" PRIu64 " B", bytes);
        return;
    }
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1000 && unit + 1 < NB_ARRAY_LEN(units)) {
        value /= 1000;
        unit++;
    }
    double tenths = (double)(uint64_t)(value * 10 + 0.5) / 10;
    nb_buf_printf(out, tenths < 10 ? "%.1f %s" : "%.0f %s", tenths, units[unit]);
}

void format_joined(struct nb_buf *out, char *const *texts, size_t count, const char *between)
{
    for (size_t i = 0; i < count; i++) {
        nb_buf_printf(out, "%s%s", i > 0 ? between : "", texts[i]);
    }
}

void format_protobuf(struct nb_buf *out, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    if (size > 0) {
        (void)protobuf_c_message_pack(message, nb_buf_extend(out, size));
    }
}

/* json and protobuf need nothing of their own. True if that was it. */
static bool general(struct nb_buf *out, const struct format *f, const ProtobufCMessage *message)
{
    if (f->kind == FORMAT_JSON) {
        format_json(out, message, f->hex);
        nb_buf_append_str(out, "\n");
        return true;
    }
    if (f->kind == FORMAT_PROTOBUF) {
        format_protobuf(out, message);
        return true;
    }
    return false;
}

/* ---- simple ---- */

static void simple_pair(struct nb_buf *out, const struct format *f, const Mvccpb__KeyValue *kv)
{
    if (!f->value_only) {
        format_bytes(out, bytes_of(kv->key), f->hex);
        nb_buf_append_str(out, "\n");
    }
    format_bytes(out, bytes_of(kv->value), f->hex);
    nb_buf_append_str(out, "\n");
}

static void simple_pairs(struct nb_buf *out, const struct format *f, Mvccpb__KeyValue *const *kvs,
                         size_t count)
{
    for (size_t i = 0; i < count; i++) {
        simple_pair(out, f, kvs[i]);
    }
}

static void simple_member(struct nb_buf *out, const Etcdserverpb__Member *m)
{
    nb_buf_printf(out, "%" PRIx64 ", %s, %s, ", m->id, m->name[0] != '\0' ? "started" : "unstarted",
                  m->name);
    format_joined(out, m->peerurls, m->n_peerurls, ",");
    nb_buf_append_str(out, ", ");
    format_joined(out, m->clienturls, m->n_clienturls, ",");
    nb_buf_printf(out, ", %s\n", m->islearner ? "true" : "false");
}

/* ---- fields ---- */

static void fields_id(struct nb_buf *out, const char *name, bool hex, uint64_t id)
{
    nb_buf_printf(out, hex ? "\"%s\" : %" PRIx64 "\n" : "\"%s\" : %" PRIu64 "\n", name, id);
}

void format_fields_header(struct nb_buf *out, bool hex, const Etcdserverpb__ResponseHeader *header)
{
    if (header == NULL) {
        return;
    }
    fields_id(out, "ClusterID", hex, header->cluster_id);
    fields_id(out, "MemberID", hex, header->member_id);
    if (header->revision > 0) {
        nb_buf_printf(out, "\"Revision\" : %" PRId64 "\n", header->revision);
    }
    nb_buf_printf(out, "\"RaftTerm\" : %" PRIu64 "\n", header->raft_term);
}

static void fields_bytes(struct nb_buf *out, const char *prefix, const char *name,
                         struct nb_bytes bytes)
{
    nb_buf_printf(out, "\"%s%s\" : ", prefix, name);
    format_quoted(out, bytes);
    nb_buf_append_str(out, "\n");
}

static void fields_pair(struct nb_buf *out, bool hex, const char *prefix,
                        const Mvccpb__KeyValue *kv)
{
    fields_bytes(out, prefix, "Key", bytes_of(kv->key));
    nb_buf_printf(out, "\"%sCreateRevision\" : %" PRId64 "\n", prefix, kv->create_revision);
    nb_buf_printf(out, "\"%sModRevision\" : %" PRId64 "\n", prefix, kv->mod_revision);
    nb_buf_printf(out, "\"%sVersion\" : %" PRId64 "\n", prefix, kv->version);
    fields_bytes(out, prefix, "Value", bytes_of(kv->value));
    if (hex) {
        nb_buf_printf(out, "\"%sLease\" : %016" PRIx64 "\n", prefix, (uint64_t)kv->lease);
    } else {
        nb_buf_printf(out, "\"%sLease\" : %" PRId64 "\n", prefix, kv->lease);
    }
}

static void fields_member(struct nb_buf *out, bool hex, const Etcdserverpb__Member *m)
{
    fields_id(out, "ID", hex, m->id);
    fields_bytes(out, "", "Name", nb_bytes_str(m->name));
    for (size_t i = 0; i < m->n_peerurls; i++) {
        fields_bytes(out, "", "PeerURL", nb_bytes_str(m->peerurls[i]));
    }
    for (size_t i = 0; i < m->n_clienturls; i++) {
        fields_bytes(out, "", "ClientURL", nb_bytes_str(m->clienturls[i]));
    }
    nb_buf_printf(out, "\"IsLearner\" : %s\n\n", m->islearner ? "true" : "false");
}

/* ---- answers ---- */

void format_put(struct nb_buf *out, const struct format *f, const Etcdserverpb__PutResponse *answer)
{
    if (general(out, f, &answer->base)) {
        return;
    }
    if (f->kind == FORMAT_FIELDS) {
        format_fields_header(out, f->hex, answer->header);
        if (answer->prev_kv != NULL) {
            fields_pair(out, f->hex, "Prev", answer->prev_kv);
        }
        return;
    }
    nb_buf_append_str(out, "OK\n");
    if (answer->prev_kv != NULL) {
        simple_pair(out, f, answer->prev_kv);
    }
}

void format_range(struct nb_buf *out, const struct format *f,
                  const Etcdserverpb__RangeResponse *answer)
{
    if (general(out, f, &answer->base)) {
        return;
    }
    if (f->kind == FORMAT_FIELDS) {
        format_fields_header(out, f->hex, answer->header);
        for (size_t i = 0; i < answer->n_kvs; i++) {
            fields_pair(out, f->hex, "", answer->kvs[i]);
        }
        nb_buf_printf(out, "\"More\" : %s\n\"Count\" : %" PRId64 "\n",
                      answer->more ? "true" : "false", answer->count);
        return;
    }
    simple_pairs(out, f, answer->kvs, answer->n_kvs);
}

void format_delete(struct nb_buf *out, const struct format *f,
                   const Etcdserverpb__DeleteRangeResponse *answer)
{
    if (general(out, f, &answer->base)) {
        return;
    }
    if (f->kind == FORMAT_FIELDS) {
        format_fields_header(out, f->hex, answer->header);
        nb_buf_printf(out, "\"Deleted\" : %" PRId64 "\n", answer->deleted);
        for (size_t i = 0; i < answer->n_prev_kvs; i++) {
            fields_pair(out, f->hex, "Prev", answer->prev_kvs[i]);
        }
        return;
    }
    nb_buf_printf(out, "%" PRId64 "\n", answer->deleted);
    simple_pairs(out, f, answer->prev_kvs, answer->n_prev_kvs);
}

static void format_response(struct nb_buf *out, const struct format *f,
                            const Etcdserverpb__ResponseOp *op)
{
    switch (op->response_case) {
    case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE:
        format_range(out, f, op->response_range);
        break;
    case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_PUT:
        format_put(out, f, op->response_put);
        break;
    case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE:
        format_delete(out, f, op->response_delete_range);
        break;
    case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_TXN:
        format_txn(out, f, op->response_txn);
        break;
    case ETCDSERVERPB__RESPONSE_OP__RESPONSE__NOT_SET:
    case _ETCDSERVERPB__RESPONSE_OP__RESPONSE__CASE_IS_INT_SIZE:
        break;
    }
}

void format_txn(struct nb_buf *out, const struct format *f, const Etcdserverpb__TxnResponse *answer)
{
    if (general(out, f, &answer->base)) {
        return;
    }
    if (f->kind == FORMAT_FIELDS) {
        format_fields_header(out, f->hex, answer->header);
        nb_buf_printf(out, "\"Succeeded\" : %s\n", answer->succeeded ? "true" : "false");
    } else {
        nb_buf_append_str(out, answer->succeeded ? "SUCCESS\n" : "FAILURE\n");
    }
    for (size_t i = 0; i < answer->n_responses; i++) {
        if (f->kind == FORMAT_SIMPLE) {
            nb_buf_append_str(out, "\n");
        }
        format_response(out, f, answer->responses[i]);
    }
}

void format_members(struct nb_buf *out, const struct format *f,
                    const Etcdserverpb__MemberListResponse *answer)
{
    if (general(out, f, &answer->base)) {
        return;
    }
    if (f->kind == FORMAT_FIELDS) {
        format_fields_header(out, f->hex, answer->header);
    }
    for (size_t i = 0; i < answer->n_members; i++) {
        if (f->kind == FORMAT_FIELDS) {
            fields_member(out, f->hex, answer->members[i]);
        } else {
            simple_member(out, answer->members[i]);
        }
    }
}

/*
 * cli/format: answers of etcd's API as text, as etcdctl prints them: simple, json, fields and
 * protobuf here, tables in cli/table. Pure: messages in, bytes out.
 */
#ifndef NABATA_CLI_FORMAT_H
#define NABATA_CLI_FORMAT_H

#include "base/bytes.h"
#include "rpc.pb-c.h"

/* In the order of the choices of --write-out. */
enum format_kind {
    FORMAT_SIMPLE,
    FORMAT_JSON,
    FORMAT_FIELDS,
    FORMAT_TABLE,
    FORMAT_PROTOBUF,
    FORMAT_KIND_COUNT
};

struct format {
    enum format_kind kind;
    bool hex;
    bool value_only; /* simple: of pairs, only the values */
};

void format_put(struct nb_buf *out, const struct format *f,
                const Etcdserverpb__PutResponse *answer);
void format_range(struct nb_buf *out, const struct format *f,
                  const Etcdserverpb__RangeResponse *answer);
void format_delete(struct nb_buf *out, const struct format *f,
                   const Etcdserverpb__DeleteRangeResponse *answer);
void format_txn(struct nb_buf *out, const struct format *f,
                const Etcdserverpb__TxnResponse *answer);
void format_members(struct nb_buf *out, const struct format *f,
                    const Etcdserverpb__MemberListResponse *answer);

/* The header of an answer as "fields" has it. */
void format_fields_header(struct nb_buf *out, bool hex, const Etcdserverpb__ResponseHeader *header);

/* Any message as Go's encoding/json prints etcd's structs: names as in the .proto, zero values left
 * out, 64-bit integers as numbers, bytes in base64, enums as numbers. With `hex` ids are texts. */
void format_json(struct nb_buf *out, const ProtobufCMessage *message, bool hex);
void format_protobuf(struct nb_buf *out, const ProtobufCMessage *message);
void format_base64(struct nb_buf *out, struct nb_bytes bytes);

/* Text in double quotes as Go's %q has it. */
void format_quoted(struct nb_buf *out, struct nb_bytes bytes);
/* The bytes as they are, or with `hex` as \x61\x62. */
void format_bytes(struct nb_buf *out, struct nb_bytes bytes, bool hex);
/* "20 kB", "2.1 GB", "999 B": powers of 1000, one digit after the point below 10. */
void format_size(struct nb_buf *out, uint64_t bytes);
/* A place of URLs, joined by `between`. */
void format_joined(struct nb_buf *out, char *const *texts, size_t count, const char *between);

#endif

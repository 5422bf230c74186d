/*
 * cli/ops: the requests of put, get and del from their options and arguments; txn's lines use the
 * same. Texts in a request are borrowed from the options and the arena.
 */
#ifndef NABATA_CLI_OPS_H
#define NABATA_CLI_OPS_H

#include "base/options.h"
#include "rpc.pb-c.h"

/* A command's options. */
struct ops_table {
    const struct nb_option *rows;
    size_t count;
};

extern const struct ops_table ops_put_options, ops_get_options, ops_del_options;

/* False: `error` says why in one line. `out` must be initialised. */
NB_MUST_USE bool ops_put(const struct nb_options *o, Etcdserverpb__PutRequest *out,
                         struct nb_buf *error);
NB_MUST_USE bool ops_get(const struct nb_options *o, struct nb_arena *arena,
                         Etcdserverpb__RangeRequest *out, struct nb_buf *error);
NB_MUST_USE bool ops_del(const struct nb_options *o, struct nb_arena *arena,
                         Etcdserverpb__DeleteRangeRequest *out, struct nb_buf *error);

/* Borrowed text as protobuf-c wants it. */
ProtobufCBinaryData ops_text(const char *text);
ProtobufCBinaryData ops_bytes(struct nb_bytes bytes);
/* The first key after all that begin with `prefix`; "\0" (one zero byte: no end) if there is none.
 */
struct nb_bytes ops_prefix_end(struct nb_arena *arena, struct nb_bytes prefix);
/* "123" as hex. */
NB_MUST_USE bool ops_hex_id(const char *text, int64_t *out);

#endif

#include "cli/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
static const struct nb_option put_rows[] = {
    {.name = "lease", .type = NB_OPTION_STRING, .default_text = "0", .metavar = "HEX", .help = "lease to attach to the key"},
    {.name = "prev-kv", .type = NB_OPTION_BOOL, .help = "also print the pair as it was before"},
    {.name = "ignore-value", .type = NB_OPTION_BOOL, .help = "keep the key's present value"},
    {.name = "ignore-lease", .type = NB_OPTION_BOOL, .help = "keep the key's present lease"},
};
static const struct nb_option get_rows[] = {
    {.name = "consistency", .type = NB_OPTION_CHOICE, .choices = "l,s", .default_text = "l", .help = "l: linearizable, s: serializable (what the member asked knows, perhaps old)"},
    {.name = "order", .type = NB_OPTION_STRING, .metavar = "ASCEND|DESCEND", .help = "order of the results"},
    {.name = "sort-by", .type = NB_OPTION_STRING, .metavar = "CREATE|KEY|MODIFY|VALUE|VERSION", .help = "what to sort the results by"},
    {.name = "limit", .type = NB_OPTION_INT64, .help = "at most so many results; 0: all"},
    {.name = "prefix", .type = NB_OPTION_BOOL, .help = "all keys that begin with KEY"},
    {.name = "from-key", .type = NB_OPTION_BOOL, .help = "all keys from KEY on"},
    {.name = "rev", .type = NB_OPTION_INT64, .help = "as of this revision; 0: the latest"},
    {.name = "keys-only", .type = NB_OPTION_BOOL, .help = "without the values"},
    {.name = "count-only", .type = NB_OPTION_BOOL, .help = "only how many (with -w fields or json)"},
    {.name = "print-value-only", .type = NB_OPTION_BOOL, .help = "print the values without the keys"},
    {.name = "min-create-rev", .type = NB_OPTION_INT64, .help = "only keys created at or after this revision"},
    {.name = "max-create-rev", .type = NB_OPTION_INT64, .help = "only keys created at or before this revision"},
    {.name = "min-mod-rev", .type = NB_OPTION_INT64, .help = "only keys changed at or after this revision"},
    {.name = "max-mod-rev", .type = NB_OPTION_INT64, .help = "only keys changed at or before this revision"},
    {.name = "stream", .type = NB_OPTION_BOOL, .help = "fetch in pieces (RangeStream), for large ranges"},
};
static const struct nb_option del_rows[] = {
    {.name = "prefix", .type = NB_OPTION_BOOL, .help = "all keys that begin with KEY"},
    {.name = "from-key", .type = NB_OPTION_BOOL, .help = "all keys from KEY on"},
    {.name = "prev-kv", .type = NB_OPTION_BOOL, .help = "also print the pairs that were deleted"},
    {.name = "range", .type = NB_OPTION_BOOL, .help = "delete a range (needed by nothing: two arguments say it)"},
};
/* clang-format on */

const struct ops_table ops_put_options = {put_rows, NB_ARRAY_LEN(put_rows)};
const struct ops_table ops_get_options = {get_rows, NB_ARRAY_LEN(get_rows)};
const struct ops_table ops_del_options = {del_rows, NB_ARRAY_LEN(del_rows)};

ProtobufCBinaryData ops_bytes(struct nb_bytes bytes)
{
    union { /* protobuf-c has no const; a request is only read */
        const uint8_t *borrowed;
        uint8_t *field;
    } data = {.borrowed = bytes.data};
    return (ProtobufCBinaryData){.data = data.field, .len = bytes.len};
}

ProtobufCBinaryData ops_text(const char *text)
{
    return ops_bytes(nb_bytes_str(text));
}

struct nb_bytes ops_prefix_end(struct nb_arena *arena, struct nb_bytes prefix)
{
    static const uint8_t no_end[1] = {0};
    size_t len = prefix.len;
    while (len > 0 && prefix.data[len - 1] == 0xff) {
        len--;
    }
    if (len == 0) {
        return nb_bytes_of(no_end, sizeof no_end);
    }
    uint8_t *end = nb_arena_alloc(arena, len);
    memcpy(end, prefix.data, len);
    end[len - 1]++;
    return nb_bytes_of(end, len);
}

bool ops_hex_id(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 16);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-') {
        return false;
    }
    *out = (int64_t)value;
    return true;
}

static bool refuse(struct nb_buf *error, const char *text)
{
    nb_buf_append_str(error, text);
    return false;
}

bool ops_put(const struct nb_options *o, Etcdserverpb__PutRequest *out, struct nb_buf *error)
{
    bool ignore_value = nb_options_bool(o, "ignore-value");
    if (o->argument_count != (ignore_value ? 1 : 2)) {
        return refuse(error, ignore_value ? "put --ignore-value takes a KEY alone"
                                          : "put takes KEY and VALUE");
    }
    if (!ops_hex_id(nb_options_string(o, "lease"), &out->lease)) {
        return refuse(error, "bad lease ID, expecting ID in hex");
    }
    out->key = ops_text(o->arguments[0]);
    if (!ignore_value) {
        out->value = ops_text(o->arguments[1]);
    }
    out->prev_kv = nb_options_bool(o, "prev-kv");
    out->ignore_value = ignore_value;
    out->ignore_lease = nb_options_bool(o, "ignore-lease");
    return true;
}

/* The range that KEY [RANGE_END] with --prefix or --from-key names. */
static bool range_of(const struct nb_options *o, struct nb_arena *arena, ProtobufCBinaryData *key,
                     ProtobufCBinaryData *end, struct nb_buf *error)
{
    static const uint8_t zero[1] = {0};
    bool prefix = nb_options_bool(o, "prefix"), from_key = nb_options_bool(o, "from-key");
    if (o->argument_count < 1 || o->argument_count > 2) {
        return refuse(error, "one KEY, and perhaps a RANGE_END, is needed");
    }
    if (prefix && from_key) {
        return refuse(error,
                      "`--prefix` and `--from-key` cannot be set at the same time, choose one");
    }
    if ((prefix || from_key) && o->argument_count == 2) {
        return refuse(error, "too many arguments, only accept one argument when `--prefix` or "
                             "`--from-key` is set");
    }
    struct nb_bytes first = nb_bytes_str(o->arguments[0]);
    if (prefix) {
        *end = ops_bytes(ops_prefix_end(arena, first));
    } else if (from_key) {
        *end = ops_bytes(nb_bytes_of(zero, 1));
    } else if (o->argument_count == 2) {
        *end = ops_text(o->arguments[1]);
    }
    *key = ops_bytes((prefix || from_key) && first.len == 0 ? nb_bytes_of(zero, 1) : first);
    return true;
}

static bool choose(const char *given, const char *const *names, size_t count, unsigned *out)
{
    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(given, names[i]) == 0) {
            *out = (unsigned)i;
            return true;
        }
    }
    return false;
}

static bool sorting(const struct nb_options *o, Etcdserverpb__RangeRequest *out,
                    struct nb_buf *error)
{
    static const char *const orders[] = {"", "ASCEND", "DESCEND"};
    static const char *const targets[] = {"KEY", "VERSION", "CREATE", "MODIFY", "VALUE"};
    const char *order = nb_options_string(o, "order"), *target = nb_options_string(o, "sort-by");
    unsigned chosen = 0;
    if (!choose(order, orders, NB_ARRAY_LEN(orders), &chosen)) {
        nb_buf_printf(error, "bad sort order %s: ASCEND or DESCEND", order);
        return false;
    }
    out->sort_order = (Etcdserverpb__RangeRequest__SortOrder)chosen;
    if (target[0] == '\0') {
        return true;
    }
    if (!choose(target, targets, NB_ARRAY_LEN(targets), &chosen)) {
        nb_buf_printf(error, "bad sort target %s: CREATE, KEY, MODIFY, VALUE or VERSION", target);
        return false;
    }
    out->sort_target = (Etcdserverpb__RangeRequest__SortTarget)chosen;
    return true;
}

bool ops_get(const struct nb_options *o, struct nb_arena *arena, Etcdserverpb__RangeRequest *out,
             struct nb_buf *error)
{
    if (!range_of(o, arena, &out->key, &out->range_end, error) || !sorting(o, out, error)) {
        return false;
    }
    if (nb_options_bool(o, "keys-only") && nb_options_bool(o, "count-only")) {
        return refuse(error, "`--keys-only` and `--count-only` cannot be set at the same time, "
                             "choose one");
    }
    out->serializable = nb_options_choice(o, "consistency") == 1;
    out->limit = nb_options_int64(o, "limit");
    out->revision = nb_options_int64(o, "rev");
    out->keys_only = nb_options_bool(o, "keys-only");
    out->count_only = nb_options_bool(o, "count-only");
    out->min_create_revision = nb_options_int64(o, "min-create-rev");
    out->max_create_revision = nb_options_int64(o, "max-create-rev");
    out->min_mod_revision = nb_options_int64(o, "min-mod-rev");
    out->max_mod_revision = nb_options_int64(o, "max-mod-rev");
    return true;
}

bool ops_del(const struct nb_options *o, struct nb_arena *arena,
             Etcdserverpb__DeleteRangeRequest *out, struct nb_buf *error)
{
    out->prev_kv = nb_options_bool(o, "prev-kv");
    return range_of(o, arena, &out->key, &out->range_end, error);
}

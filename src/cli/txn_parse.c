#include "cli/txn_parse.h"

#include "base/options.h"
#include "cli/ops.h"

#include <string.h>

enum { WORDS_MAX = 64 };

static bool refuse(struct nb_buf *error, const char *what, const char *line)
{
    nb_buf_printf(error, "%s: %s", what, line);
    return false;
}

/* ---- words ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What stands after a backslash; moves past it. */
static bool take_escape(const char **at, struct nb_buf *out)
{
    static const char names[] = "abfnrtv\\\"'";
    static const char values[] = "\a\b\f\n\r\t\v\\\"'";
    char c = *(*at)++;
    if (c == 'x') {
        int high = hex_digit((*at)[0]);
        int low = high < 0 ? -1 : hex_digit((*at)[1]);
        if (low < 0) {
            return false;
        }
        char byte = (char)(high * 16 + low);
        nb_buf_append(out, &byte, 1);
        *at += 2;
        return true;
    }
    const char *name = c != '\0' ? strchr(names, c) : NULL;
    if (name == NULL) {
        return false;
    }
    nb_buf_append(out, &values[name - names], 1);
    return true;
}

/* A quoted text; `*at` stands at the quote and then behind the closing one. */
static bool take_quoted(const char **at, struct nb_buf *out)
{
    char quote = *(*at)++;
    while (**at != quote) {
        if (**at == '\0') {
            return false;
        }
        if (**at == '\\' && quote == '"') {
            (*at)++;
            if (!take_escape(at, out)) {
                return false;
            }
        } else {
            nb_buf_append(out, (*at)++, 1);
        }
    }
    (*at)++;
    return true;
}

bool txn_parse_words(struct nb_arena *arena, const char *line, char ***out_words, size_t *out_count)
{
    char **words = nb_arena_alloc(arena, (WORDS_MAX + 1) * sizeof *words);
    size_t count = 0;
    const char *at = line + strspn(line, " \t\r");
    while (*at != '\0') {
        struct nb_buf word = {0};
        bool right = count < WORDS_MAX;
        while (right && *at != '\0' && strchr(" \t\r", *at) == NULL) {
            if (*at == '"' || *at == '\'') {
                right = take_quoted(&at, &word);
            } else {
                nb_buf_append(&word, at++, 1);
            }
        }
        if (right) {
            words[count++] = nb_arena_str(arena, nb_buf_bytes(&word));
        }
        nb_buf_deinit(&word);
        if (!right) {
            return false;
        }
        at += strspn(at, " \t\r");
    }
    words[count] = NULL;
    *out_words = words;
    *out_count = count;
    return true;
}

/* ---- comparisons ---- */

enum target { TARGET_VERSION, TARGET_CREATE, TARGET_MOD, TARGET_VALUE, TARGET_LEASE };

/* clang-format off */
static const struct { const char *name; enum target target; } target_names[] = {
    {"ver", TARGET_VERSION}, {"version", TARGET_VERSION},
    {"c", TARGET_CREATE},    {"create", TARGET_CREATE},
    {"m", TARGET_MOD},       {"mod", TARGET_MOD},
    {"val", TARGET_VALUE},   {"value", TARGET_VALUE},
    {"lease", TARGET_LEASE},
};
static const struct { const char *name; Etcdserverpb__Compare__CompareResult result; } result_names[] = {
    {"!=", ETCDSERVERPB__COMPARE__COMPARE_RESULT__NOT_EQUAL},
    {"=", ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL},
    {"<", ETCDSERVERPB__COMPARE__COMPARE_RESULT__LESS},
    {">", ETCDSERVERPB__COMPARE__COMPARE_RESULT__GREATER},
};
/* clang-format on */

static const char *skip_blanks(const char *at)
{
    return at + strspn(at, " \t\r");
}

/* A quoted text, or one up to `until`. */
static bool take_text(struct nb_arena *arena, const char **at, const char *until,
                      struct nb_bytes *out)
{
    struct nb_buf text = {0};
    bool right = true;
    if (**at == '"' || **at == '\'') {
        right = take_quoted(at, &text);
    } else {
        size_t len = strcspn(*at, until);
        nb_buf_append(&text, *at, len);
        *at += len;
    }
    *out = nb_arena_copy(arena, nb_buf_bytes(&text));
    nb_buf_deinit(&text);
    return right;
}

static bool take_target(const char **at, enum target *out)
{
    size_t len = strcspn(*at, "( \t");
    for (size_t i = 0; i < NB_ARRAY_LEN(target_names); i++) {
        if (strlen(target_names[i].name) == len && memcmp(*at, target_names[i].name, len) == 0) {
            *out = target_names[i].target;
            *at = skip_blanks(*at + len);
            return true;
        }
    }
    return false;
}

static bool take_result(const char **at, Etcdserverpb__Compare__CompareResult *out)
{
    for (size_t i = 0; i < NB_ARRAY_LEN(result_names); i++) {
        size_t len = strlen(result_names[i].name);
        if (strncmp(*at, result_names[i].name, len) == 0) {
            *out = result_names[i].result;
            *at = skip_blanks(*at + len);
            return true;
        }
    }
    return false;
}

static bool set_operand(struct nb_arena *arena, enum target target, struct nb_bytes text,
                        Etcdserverpb__Compare *out)
{
    const char *digits = nb_arena_str(arena, text);
    switch (target) {
    case TARGET_VERSION:
        out->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VERSION;
        out->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION;
        return nb_int64_parse(digits, &out->version);
    case TARGET_CREATE:
        out->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE;
        out->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION;
        return nb_int64_parse(digits, &out->create_revision);
    case TARGET_MOD:
        out->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD;
        out->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION;
        return nb_int64_parse(digits, &out->mod_revision);
    case TARGET_VALUE:
        out->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VALUE;
        out->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE;
        out->value = ops_bytes(text);
        return true;
    case TARGET_LEASE:
        out->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__LEASE;
        out->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_LEASE;
        return ops_hex_id(digits, &out->lease);
    }
    nb_unreachable("a target");
}

bool txn_parse_compare(struct nb_arena *arena, const char *line, Etcdserverpb__Compare *out,
                       struct nb_buf *error)
{
    const char *at = skip_blanks(line);
    enum target target;
    struct nb_bytes key, operand;
    if (!take_target(&at, &target) || *at != '(') {
        return refuse(error, "malformed comparison, like mod(\"key\") > \"0\"", line);
    }
    at = skip_blanks(at + 1);
    if (!take_text(arena, &at, ")", &key) || *(at = skip_blanks(at)) != ')') {
        return refuse(error, "malformed comparison, the key must stand in (\"...\")", line);
    }
    at = skip_blanks(at + 1);
    if (!take_result(&at, &out->result)) {
        return refuse(error, "malformed comparison, one of = != < > is needed", line);
    }
    if (!take_text(arena, &at, " \t\r", &operand) || *skip_blanks(at) != '\0') {
        return refuse(error, "malformed comparison, a text in quotes must stand last", line);
    }
    out->key = ops_bytes(key);
    if (!set_operand(arena, target, operand, out)) {
        return refuse(error, "invalid number in comparison", line);
    }
    return true;
}

/* ---- operations ---- */

static bool build_op(const char *name, const struct nb_options *o, struct nb_arena *arena,
                     Etcdserverpb__RequestOp *out, struct nb_buf *error)
{
    if (strcmp(name, "put") == 0) {
        out->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
        out->request_put = nb_arena_alloc(arena, sizeof *out->request_put);
        etcdserverpb__put_request__init(out->request_put);
        return ops_put(o, out->request_put, error);
    }
    if (strcmp(name, "get") == 0) {
        out->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
        out->request_range = nb_arena_alloc(arena, sizeof *out->request_range);
        etcdserverpb__range_request__init(out->request_range);
        return ops_get(o, arena, out->request_range, error);
    }
    out->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
    out->request_delete_range = nb_arena_alloc(arena, sizeof *out->request_delete_range);
    etcdserverpb__delete_range_request__init(out->request_delete_range);
    return ops_del(o, arena, out->request_delete_range, error);
}

/* The request points into the words and the arena, so nothing of the options is kept. */
bool txn_parse_op(struct nb_arena *arena, const char *line, Etcdserverpb__RequestOp *out,
                  struct nb_buf *error)
{
    char **words;
    size_t count;
    if (!txn_parse_words(arena, line, &words, &count) || count == 0) {
        return refuse(error, "malformed operation, a quote is open", line);
    }
    const struct ops_table *table = strcmp(words[0], "put") == 0   ? &ops_put_options
                                    : strcmp(words[0], "get") == 0 ? &ops_get_options
                                    : strcmp(words[0], "del") == 0 ? &ops_del_options
                                                                   : NULL;
    if (table == NULL) {
        return refuse(error, "invalid operation, put, get or del is needed", line);
    }
    struct nb_options o;
    nb_options_init(&o);
    nb_options_add(&o, table->rows, table->count);
    enum nb_options_result parsed =
        nb_options_parse(&o, NB_OPTIONS_PFLAG, (int)(count - 1), words + 1, error);
    bool right = parsed == NB_OPTIONS_OK && build_op(words[0], &o, arena, out, error);
    if (parsed == NB_OPTIONS_HELP) {
        nb_buf_append_str(error, "no help in here");
    }
    if (!right) {
        nb_buf_printf(error, " (in: %s)", line);
    }
    nb_options_deinit(&o);
    return right;
}

/* ---- all lines ---- */

void txn_parse_deinit(struct txn_parse *p)
{
    nb_free(p->compares);
    for (size_t i = 0; i < TXN_PART_COUNT; i++) {
        nb_free(p->ops[i]);
    }
    *p = (struct txn_parse){0};
}

bool txn_parse_line(struct txn_parse *p, const char *line, struct nb_buf *error)
{
    if (p->part == TXN_PART_COUNT) {
        return true;
    }
    if (*skip_blanks(line) == '\0') {
        p->part++;
        return true;
    }
    if (p->part == TXN_COMPARES) {
        Etcdserverpb__Compare *compare = nb_arena_alloc(p->arena, sizeof *compare);
        etcdserverpb__compare__init(compare);
        p->compares = nb_grow(p->compares, &p->compare_capacity, p->compare_count + 1,
                              sizeof(Etcdserverpb__Compare *));
        p->compares[p->compare_count++] = compare;
        return txn_parse_compare(p->arena, line, compare, error);
    }
    Etcdserverpb__RequestOp *op = nb_arena_alloc(p->arena, sizeof *op);
    etcdserverpb__request_op__init(op);
    size_t part = p->part;
    p->ops[part] = nb_grow(p->ops[part], &p->op_capacities[part], p->op_counts[part] + 1,
                           sizeof(Etcdserverpb__RequestOp *));
    p->ops[part][p->op_counts[part]++] = op;
    return txn_parse_op(p->arena, line, op, error);
}

void txn_parse_request(const struct txn_parse *p, Etcdserverpb__TxnRequest *out)
{
    etcdserverpb__txn_request__init(out);
    out->compare = p->compares;
    out->n_compare = p->compare_count;
    out->success = p->ops[TXN_SUCCESS];
    out->n_success = p->op_counts[TXN_SUCCESS];
    out->failure = p->ops[TXN_FAILURE];
    out->n_failure = p->op_counts[TXN_FAILURE];
}

#include "base/options.h"

#include "base/log.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { NAME_LEN_MAX = 80 }; /* of an option, a command or a variable that names can be near to */

void nb_options_init(struct nb_options *o)
{
    *o = (struct nb_options){0};
}

void nb_options_deinit(struct nb_options *o)
{
    nb_free(o->slots);
    nb_free(o->arguments);
    nb_free(o->variables_shadowed);
    nb_free(o->variables_unknown);
    nb_arena_deinit(&o->arena);
    *o = (struct nb_options){0};
}

static const char *keep(struct nb_options *o, const char *text, size_t len)
{
    return nb_arena_str(&o->arena, nb_bytes_of(text, len));
}

/* What a person typed, safe to print. */
static void say_text(struct nb_buf *message, const char *text)
{
    nb_json_escape(message, nb_bytes_str(text));
}

static void push(const char ***list, size_t *count, size_t *capacity, const char *text)
{
    *list = nb_grow(*list, capacity, *count + 1, sizeof **list);
    (*list)[(*count)++] = text;
}

static struct nb_option_slot *slot_by_name(const struct nb_options *o, const char *name, size_t len)
{
    for (size_t i = 0; i < o->slot_count; i++) {
        const char *known = o->slots[i].row->name;
        if (strlen(known) == len && memcmp(known, name, len) == 0) {
            return &o->slots[i];
        }
    }
    return NULL;
}

static struct nb_option_slot *slot_by_letter(const struct nb_options *o, char letter)
{
    for (size_t i = 0; i < o->slot_count; i++) {
        if (o->slots[i].row->letter == letter && letter != 0) {
            return &o->slots[i];
        }
    }
    return NULL;
}

/* Place of `text` in a list separated by commas. */
static bool choice_of(const char *choices, const char *text, size_t *out)
{
    size_t place = 0, len = strlen(text);
    for (const char *p = choices;; p++, place++) {
        size_t item = strcspn(p, ",");
        if (item == len && memcmp(p, text, len) == 0) {
            *out = place;
            return true;
        }
        p += item;
        if (*p == '\0') {
            return false;
        }
    }
}

/* Cuts a list at its commas; items of `before` come first when not NULL. */
static void list_parse(struct nb_options *o, const char *text, const struct nb_option_value *before,
                       struct nb_option_value *out)
{
    size_t count = before == NULL ? 0 : before->item_count;
    for (const char *p = text; *p != '\0'; p++) {
        count += *p == ',' ? 1 : 0;
    }
    out->items = nb_arena_alloc_zero(&o->arena, count + 1, sizeof *out->items);
    for (size_t i = 0; before != NULL && i < before->item_count; i++) {
        out->items[out->item_count++] = before->items[i];
    }
    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        out->items[out->item_count++] = keep(o, text, len);
        text += len;
        if (*text == ',' && *++text == '\0') {
            out->items[out->item_count++] = ""; /* "a," has an empty item at its end */
        }
    }
    nb_assert(out->item_count <= count + 1);
}

/* Parses `text` for `row`. False, with a reason in *why, when it does not fit. */
static bool value_parse(struct nb_options *o, const struct nb_option *row, const char *text,
                        struct nb_option_value *out, const char **why)
{
    *why = "parse error";
    *out = (struct nb_option_value){.text = keep(o, text, strlen(text))};
    switch (row->type) {
    case NB_OPTION_STRING:
        return true;
    case NB_OPTION_BOOL:
        return nb_bool_parse(text, &out->boolean);
    case NB_OPTION_INT64:
        return nb_int64_parse(text, &out->int64);
    case NB_OPTION_UINT64:
        return nb_uint64_parse(text, &out->uint64);
    case NB_OPTION_DURATION:
        return nb_duration_parse(text, &out->duration_ns);
    case NB_OPTION_CHOICE:
        *why = NULL; /* the choices are the reason */
        return choice_of(row->choices, text, &out->choice);
    case NB_OPTION_LIST:
        list_parse(o, text, NULL, out);
        return true;
    }
    nb_unreachable("an option of no type");
}

static const char *default_text_of(const struct nb_option *row)
{
    if (row->default_text != NULL) {
        return row->default_text;
    }
    switch (row->type) {
    case NB_OPTION_STRING:
    case NB_OPTION_LIST:
        return "";
    case NB_OPTION_BOOL:
        return "false";
    case NB_OPTION_INT64:
    case NB_OPTION_UINT64:
    case NB_OPTION_DURATION:
        return "0";
    case NB_OPTION_CHOICE:
        return NULL; /* the first choice, which is not a text of its own */
    }
    nb_unreachable("an option of no type");
}

static void default_value(struct nb_options *o, const struct nb_option *row,
                          struct nb_option_value *out)
{
    const char *text = default_text_of(row);
    if (text == NULL) {
        text = keep(o, row->choices, strcspn(row->choices, ","));
    }
    const char *why;
    bool parsed = value_parse(o, row, text, out, &why);
    nb_assert(parsed); /* O2 */
}

void nb_options_add(struct nb_options *o, const struct nb_option *rows, size_t row_count)
{
    o->slots = nb_grow(o->slots, &o->slot_capacity, o->slot_count + row_count, sizeof *o->slots);
    for (size_t i = 0; i < row_count; i++) {
        const struct nb_option *row = &rows[i];
        nb_assert(slot_by_name(o, row->name, strlen(row->name)) == NULL); /* O1 */
        nb_assert(slot_by_letter(o, row->letter) == NULL);                /* O1 */
        nb_assert(strlen(row->name) < NAME_LEN_MAX);
        nb_assert(row->type != NB_OPTION_CHOICE || row->choices != NULL);
        struct nb_option_slot *slot = &o->slots[o->slot_count];
        *slot = (struct nb_option_slot){.row = row};
        default_value(o, row, &slot->value);
        o->slot_count++;
    }
}

static bool value_is_default(struct nb_options *o, const struct nb_option *row,
                             const struct nb_option_value *value)
{
    struct nb_option_value expected;
    default_value(o, row, &expected);
    switch (row->type) {
    case NB_OPTION_STRING:
    case NB_OPTION_LIST:
        return strcmp(expected.text, value->text) == 0;
    case NB_OPTION_BOOL:
        return expected.boolean == value->boolean;
    case NB_OPTION_INT64:
        return expected.int64 == value->int64;
    case NB_OPTION_UINT64:
        return expected.uint64 == value->uint64;
    case NB_OPTION_DURATION:
        return expected.duration_ns == value->duration_ns;
    case NB_OPTION_CHOICE:
        return expected.choice == value->choice;
    }
    nb_unreachable("an option of no type");
}

/* Says that `text` does not fit: `invalid value "x" for <where>: <why>`. */
static void say_invalid(const struct nb_option *row, const char *text, const char *where,
                        const char *why, struct nb_buf *message)
{
    nb_buf_append_str(message, "invalid value \"");
    say_text(message, text);
    nb_buf_printf(message, "\" for %s: ", where);
    if (why != NULL) {
        nb_buf_append_str(message, why);
        return;
    }
    nb_buf_append_str(message, "must be one of ");
    for (const char *p = row->choices; *p != '\0'; p++) {
        nb_buf_append(message, p, 1);
        if (*p == ',') {
            nb_buf_append_str(message, " ");
        }
    }
}

/* Sets one slot. `where` names the place for people: "flag --x" or the variable. */
static bool slot_set(struct nb_options *o, struct nb_option_slot *slot, const char *text,
                     enum nb_option_source source, const char *where, struct nb_buf *message)
{
    const struct nb_option *row = slot->row;
    if ((row->flags & NB_OPTION_IGNORED) != 0) {
        return true;
    }
    struct nb_option_value value;
    const char *why;
    if (!value_parse(o, row, text, &value, &why)) {
        say_invalid(row, text, where, why, message);
        return false;
    }
    if ((row->flags & NB_OPTION_UNSUPPORTED) != 0 && !value_is_default(o, row, &value)) {
        nb_buf_printf(message, "%s is known, but not supported yet", where);
        if (row->reason != NULL) {
            nb_buf_printf(message, ": %s", row->reason);
        }
        return false;
    }
    if ((row->flags & NB_OPTION_APPEND) != 0 && slot->value.source == source) {
        const struct nb_option_value before = slot->value;
        value.item_count = 0;
        list_parse(o, text, &before, &value);
    }
    value.source = source;
    slot->value = value;
    return true;
}

static bool slot_set_by_hand(struct nb_options *o, struct nb_option_slot *slot, const char *text,
                             struct nb_buf *message)
{
    char where[NAME_LEN_MAX + 16];
    (void)snprintf(where, sizeof where, "flag --%s", slot->row->name);
    return slot_set(o, slot, text, NB_OPTION_FROM_ARGUMENT, where, message);
}

/* What `--x` without a value means, or NULL when it needs one. */
static const char *bare_text_of(const struct nb_option *row)
{
    return row->bare_text != NULL ? row->bare_text : row->type == NB_OPTION_BOOL ? "true" : NULL;
}

static void say_unknown(const struct nb_options *o, const char *name, size_t len,
                        struct nb_buf *message)
{
    nb_buf_append_str(message, "unknown flag: --");
    struct nb_buf given = {0};
    nb_buf_append(&given, name, len);
    nb_buf_append(&given, "", 1);
    say_text(message, (const char *)given.data);
    const char **known = nb_alloc_zero(o->slot_count + 1, sizeof *known);
    size_t count = 0;
    for (size_t i = 0; i < o->slot_count; i++) {
        if ((o->slots[i].row->flags & (NB_OPTION_HIDDEN | NB_OPTION_IGNORED)) == 0) {
            known[count++] = o->slots[i].row->name;
        }
    }
    const char *near = nb_nearest((const char *)given.data, known, count);
    if (near != NULL) {
        nb_buf_printf(message, " (did you mean --%s?)", near);
    }
    nb_free(known);
    nb_buf_deinit(&given);
}

/* The words still to be read. */
struct words {
    char *const *argv;
    int argc, next;
};

/* `name` or `name=value`, dashes already gone. */
static enum nb_options_result parse_long(struct nb_options *o, const char *word, struct words *w,
                                         struct nb_buf *message)
{
    size_t len = strcspn(word, "=");
    struct nb_option_slot *slot = slot_by_name(o, word, len);
    if (slot == NULL) {
        if (strcmp(word, "help") == 0 || strcmp(word, "h") == 0) {
            return NB_OPTIONS_HELP;
        }
        say_unknown(o, word, len, message);
        return NB_OPTIONS_BAD;
    }
    const char *text = word[len] == '=' ? word + len + 1 : bare_text_of(slot->row);
    if (text == NULL) {
        if (w->next == w->argc) {
            nb_buf_printf(message, "flag needs an argument: --%s", slot->row->name);
            return NB_OPTIONS_BAD;
        }
        text = w->argv[w->next++];
    }
    return slot_set_by_hand(o, slot, text, message) ? NB_OPTIONS_OK : NB_OPTIONS_BAD;
}

/* `-w json`, `-wjson`, `-w=json`, `-ab` of two booleans. */
static enum nb_options_result parse_letters(struct nb_options *o, const char *word, struct words *w,
                                            struct nb_buf *message)
{
    for (const char *p = word + 1; *p != '\0'; p++) {
        struct nb_option_slot *slot = slot_by_letter(o, *p);
        if (slot == NULL) {
            if (*p == 'h') {
                return NB_OPTIONS_HELP;
            }
            nb_buf_printf(message, "unknown shorthand flag: '%c' in ", isprint(*p) ? *p : '?');
            say_text(message, word);
            return NB_OPTIONS_BAD;
        }
        const char *bare = bare_text_of(slot->row), *text = bare;
        bool ends = true;
        if (p[1] == '=') {
            text = p + 2;
        } else if (bare != NULL) {
            ends = false;
        } else if (p[1] != '\0') {
            text = p + 1;
        } else if (w->next < w->argc) {
            text = w->argv[w->next++];
        } else {
            nb_buf_printf(message, "flag needs an argument: '%c' in ", *p);
            say_text(message, word);
            return NB_OPTIONS_BAD;
        }
        if (!slot_set_by_hand(o, slot, text, message)) {
            return NB_OPTIONS_BAD;
        }
        if (ends) {
            break;
        }
    }
    return NB_OPTIONS_OK;
}

static enum nb_options_result parse_word(struct nb_options *o, enum nb_options_style style,
                                         const char *word, struct words *w, struct nb_buf *message)
{
    size_t dashes = strspn(word, "-");
    const char *name = word + (dashes > 2 ? 2 : dashes);
    if (dashes > 2 || *name == '=') {
        nb_buf_append_str(message, "bad flag syntax: ");
        say_text(message, word);
        return NB_OPTIONS_BAD;
    }
    if (style == NB_OPTIONS_GO_FLAG || dashes == 2) {
        return parse_long(o, name, w, message);
    }
    return parse_letters(o, word, w, message);
}

enum nb_options_result nb_options_parse(struct nb_options *o, enum nb_options_style style, int argc,
                                        char *const *argv, struct nb_buf *message)
{
    o->argument_count = 0;
    struct words w = {.argv = argv, .argc = argc};
    bool options_end = false;
    while (w.next < argc) {
        const char *word = argv[w.next++];
        if (!options_end && strcmp(word, "--") == 0) {
            options_end = true;
        } else if (options_end || word[0] != '-' || word[1] == '\0') {
            push(&o->arguments, &o->argument_count, &o->argument_capacity, word);
            options_end = options_end || style != NB_OPTIONS_PFLAG;
            if (style == NB_OPTIONS_PFLAG_UNTIL_ARGUMENT) {
                while (w.next < argc) { /* even a "--": it is the command's */
                    push(&o->arguments, &o->argument_count, &o->argument_capacity, argv[w.next++]);
                }
            }
        } else {
            enum nb_options_result result = parse_word(o, style, word, &w, message);
            if (result != NB_OPTIONS_OK) {
                return result;
            }
        }
    }
    return NB_OPTIONS_OK;
}

/* The row that a variable stands for: PREFIX_NAME_OF_IT with '_' for '-'. NULL: none. */
static struct nb_option_slot *slot_of_variable(const struct nb_options *o, const char *name,
                                               size_t len)
{
    for (size_t i = 0; i < o->slot_count; i++) {
        const struct nb_option *row = o->slots[i].row;
        bool same = strlen(row->name) == len &&
                    (row->flags & (NB_OPTION_NO_VARIABLE | NB_OPTION_IGNORED)) == 0;
        for (size_t k = 0; same && k < len; k++) {
            char c = row->name[k];
            same = name[k] == (c == '-' ? '_' : (char)toupper((unsigned char)c));
        }
        if (same) {
            return &o->slots[i];
        }
    }
    return NULL;
}

enum nb_options_result nb_options_environment(struct nb_options *o, const char *prefix,
                                              char *const *envp, struct nb_buf *message)
{
    o->variables_shadowed_count = o->variables_unknown_count = 0;
    size_t prefix_len = strlen(prefix);
    for (; envp != NULL && *envp != NULL; envp++) {
        const char *equals = strchr(*envp, '=');
        if (equals == NULL || strncmp(*envp, prefix, prefix_len) != 0 ||
            (*envp)[prefix_len] != '_') {
            continue;
        }
        const char *name = *envp + prefix_len + 1;
        const char *whole = keep(o, *envp, (size_t)(equals - *envp));
        struct nb_option_slot *slot = slot_of_variable(o, name, (size_t)(equals - name));
        if (slot != NULL && slot->value.source == NB_OPTION_FROM_ARGUMENT) { /* O3 */
            push(&o->variables_shadowed, &o->variables_shadowed_count,
                 &o->variables_shadowed_capacity, whole);
        } else if (slot != NULL && equals[1] != '\0') {
            if (!slot_set(o, slot, equals + 1, NB_OPTION_FROM_VARIABLE, whole, message)) {
                return NB_OPTIONS_BAD;
            }
        } else {
            push(&o->variables_unknown, &o->variables_unknown_count, &o->variables_unknown_capacity,
                 whole);
        }
    }
    return NB_OPTIONS_OK;
}

enum nb_options_result nb_options_set(struct nb_options *o, const char *name, const char *text,
                                      struct nb_buf *message)
{
    struct nb_option_slot *slot = slot_by_name(o, name, strlen(name));
    if (slot == NULL) {
        say_unknown(o, name, strlen(name), message);
        return NB_OPTIONS_BAD;
    }
    return slot_set(o, slot, text, NB_OPTION_FROM_FILE, slot->row->name, message) ? NB_OPTIONS_OK
                                                                                  : NB_OPTIONS_BAD;
}

const struct nb_option_value *nb_options_get(const struct nb_options *o, const char *name)
{
    struct nb_option_slot *slot = slot_by_name(o, name, strlen(name));
    nb_assert(slot != NULL);
    return &slot->value;
}

static const struct nb_option_value *value_of_type(const struct nb_options *o, const char *name,
                                                   enum nb_option_type type)
{
    struct nb_option_slot *slot = slot_by_name(o, name, strlen(name));
    nb_assert(slot != NULL);
    nb_assert(slot->row->type == type);
    return &slot->value;
}

bool nb_options_given(const struct nb_options *o, const char *name)
{
    return nb_options_get(o, name)->source != NB_OPTION_FROM_DEFAULT;
}

const char *nb_options_string(const struct nb_options *o, const char *name)
{
    return nb_options_get(o, name)->text;
}

bool nb_options_bool(const struct nb_options *o, const char *name)
{
    return value_of_type(o, name, NB_OPTION_BOOL)->boolean;
}

int64_t nb_options_int64(const struct nb_options *o, const char *name)
{
    return value_of_type(o, name, NB_OPTION_INT64)->int64;
}

uint64_t nb_options_uint64(const struct nb_options *o, const char *name)
{
    return value_of_type(o, name, NB_OPTION_UINT64)->uint64;
}

int64_t nb_options_duration_ns(const struct nb_options *o, const char *name)
{
    return value_of_type(o, name, NB_OPTION_DURATION)->duration_ns;
}

size_t nb_options_choice(const struct nb_options *o, const char *name)
{
    return value_of_type(o, name, NB_OPTION_CHOICE)->choice;
}

/* Edits (insert, delete, replace, swap of two neighbours) that turn one into the other. */
static size_t edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t rows[3][NAME_LEN_MAX + 1]; /* before the last, last, current */
    size_t *older = rows[0], *last = rows[1], *now = rows[2];
    for (size_t k = 0; k <= b_len; k++) {
        last[k] = k;
    }
    for (size_t i = 1; i <= a_len; i++) {
        now[0] = i;
        for (size_t k = 1; k <= b_len; k++) {
            size_t best = last[k - 1] + (a[i - 1] == b[k - 1] ? 0 : 1);
            best = last[k] + 1 < best ? last[k] + 1 : best;
            best = now[k - 1] + 1 < best ? now[k - 1] + 1 : best;
            if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1] &&
                older[k - 2] + 1 < best) {
                best = older[k - 2] + 1;
            }
            now[k] = best;
        }
        size_t *spare = older;
        older = last;
        last = now;
        now = spare;
    }
    return last[b_len];
}

const char *nb_nearest(const char *given, const char *const *known, size_t known_count)
{
    size_t len = strlen(given);
    if (len == 0 || len > NAME_LEN_MAX) {
        return NULL;
    }
    const char *nearest = NULL;
    size_t nearest_distance = 1 + (len < 6 ? 1 : len / 3); /* further than this is a guess */
    for (size_t i = 0; i < known_count; i++) {
        size_t known_len = strlen(known[i]);
        if (known_len == 0 || known_len > NAME_LEN_MAX) {
            continue;
        }
        size_t distance = edit_distance(given, len, known[i], known_len);
        if (distance < nearest_distance) {
            nearest_distance = distance;
            nearest = known[i];
        }
    }
    return nearest;
}

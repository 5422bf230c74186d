/*
 * The configuration file: keys are flag names, values texts; durations are integers of nanoseconds;
 * two sections hold the TLS keys without their prefix. [surface 5.1]
 *
 * JSON is read by Jansson. Of YAML only what such files use: `key: value`, comments, quotes, and
 * sections of one level. Anything more is refused, never guessed at.
 */
#include "server/flags.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { KEY_LEN_MAX = 79 };

static const struct {
    const char *name, *prefix;
} sections[] = {
    {"client-transport-security", ""},
    {"peer-transport-security", "peer-"},
};

/* The prefix of flags that a section holds, or NULL: it holds none. */
static const char *prefix_of_section(const char *name)
{
    for (size_t i = 0; i < NB_ARRAY_LEN(sections); i++) {
        if (strcmp(sections[i].name, name) == 0) {
            return sections[i].prefix;
        }
    }
    return NULL;
}

/* The row of a flag; NULL: unknown, or one that is not for files. */
static const struct nb_option *row_of(const char *name)
{
    for (size_t i = 0; i < server_flag_count; i++) {
        const struct nb_option *row = &server_flags[i];
        if (strcmp(row->name, name) == 0 && (row->flags & NB_OPTION_IGNORED) == 0 &&
            strcmp(name, "config-file") != 0 && strcmp(name, "version") != 0) {
            return row;
        }
    }
    return NULL;
}

static bool all_digits(const char *text)
{
    text += *text == '-' ? 1 : 0;
    return *text != '\0' && strspn(text, "0123456789") == strlen(text);
}

/* Sets `prefix`+`key`, if there is such a flag. An empty text leaves the default. */
static bool set(struct nb_options *o, const char *prefix, const char *key, const char *text,
                struct nb_buf *message)
{
    char name[KEY_LEN_MAX + 1];
    int len = snprintf(name, sizeof name, "%s%s", prefix, key);
    if (len < 0 || (size_t)len >= sizeof name || row_of(name) == NULL || *text == '\0') {
        return true;
    }
    char duration[40];
    if (row_of(name)->type == NB_OPTION_DURATION && all_digits(text) && strlen(text) < 24) {
        (void)snprintf(duration, sizeof duration, "%sns", text);
        text = duration;
    }
    return nb_options_set(o, name, text, message) == NB_OPTIONS_OK;
}

static bool set_json(struct nb_options *o, const char *prefix, const char *key, const json_t *value,
                     struct nb_buf *message)
{
    char number[32];
    switch (json_typeof(value)) {
    case JSON_STRING:
        return set(o, prefix, key, json_string_value(value), message);
    case JSON_INTEGER:
        (void)snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return set(o, prefix, key, number, message);
    case JSON_TRUE:
        return set(o, prefix, key, "true", message);
    case JSON_FALSE:
        return set(o, prefix, key, "false", message);
    case JSON_NULL:
        return true;
    case JSON_REAL:
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    if (row_of(key) == NULL) {
        return true;
    }
    nb_buf_printf(message, "%s: must be a text, an integer or a boolean", key);
    return false;
}

static bool from_json(const char *text, size_t len, struct nb_options *o, struct nb_buf *message)
{
    json_error_t error;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL || !json_is_object(root)) {
        nb_buf_printf(message, "line %d: %s", root == NULL ? error.line : 1,
                      root == NULL ? error.text : "must be an object");
        json_decref(root);
        return false;
    }
    bool fine = true;
    const char *key, *inner_key;
    json_t *value, *inner;
    json_object_foreach(root, key, value)
    {
        const char *prefix = prefix_of_section(key);
        if (prefix != NULL && json_is_object(value)) {
            json_object_foreach(value, inner_key, inner)
            {
                fine = fine && set_json(o, prefix, inner_key, inner, message);
            }
        } else {
            fine = fine && set_json(o, "", key, value, message);
        }
    }
    json_decref(root);
    return fine;
}

/* One line of the YAML subset. */
struct yaml_line {
    size_t indent;
    char key[KEY_LEN_MAX + 1];
    struct nb_buf value; /* owned; a C string */
    bool empty;          /* blank, comment or document mark */
};

/* What stands behind `key:`: plain up to a comment, or in quotes. False: beyond the subset. */
static bool yaml_value(const char *p, const char *end, struct nb_buf *out)
{
    nb_buf_clear(out);
    p += p < end ? strspn(p, " \t") : 0;
    if (p < end && (*p == '"' || *p == '\'')) {
        char quote = *p++;
        const char *close = memchr(p, quote, (size_t)(end - p));
        if (close == NULL || memchr(p, '\\', (size_t)(close - p)) != NULL) {
            return false; /* escapes are beyond the subset */
        }
        nb_buf_append(out, p, (size_t)(close - p));
        p = close + 1;
        p += p < end ? strspn(p, " \t") : 0;
        if (p < end && *p != '#') {
            return false;
        }
    } else {
        if (p < end && strchr("|>{[&*!%@`-", *p) != NULL &&
            !(*p == '-' && p + 1 < end && p[1] != ' ')) {
            return false;
        }
        const char *stop = p;
        while (stop < end &&
               !(*stop == '#' && (stop == p || stop[-1] == ' ' || stop[-1] == '\t'))) {
            stop++;
        }
        while (stop > p && (stop[-1] == ' ' || stop[-1] == '\t' || stop[-1] == '\r')) {
            stop--;
        }
        if (stop - p >= 2 && memmem(p, (size_t)(stop - p), ": ", 2) != NULL) {
            return false;
        }
        bool null = (stop - p == 4 && memcmp(p, "null", 4) == 0) || (stop - p == 1 && *p == '~');
        nb_buf_append(out, p, null ? 0 : (size_t)(stop - p));
    }
    nb_buf_append(out, "", 1);
    return true;
}

static bool yaml_line_parse(const char *p, const char *end, struct yaml_line *line)
{
    const char *from = p;
    while (p < end && *p == ' ') {
        p++;
    }
    line->indent = (size_t)(p - from);
    bool mark = end - p >= 3 && memcmp(p, "---", 3) == 0;
    line->empty = p == end || *p == '#' || *p == '\r' || mark;
    if (line->empty) {
        return true;
    }
    size_t key_len = 0;
    while (p + key_len < end &&
           strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                  "0123456789-_.",
                  p[key_len]) != NULL &&
           p[key_len] != '\0') {
        key_len++;
    }
    const char *colon = p + key_len;
    if (key_len == 0 || *p == '-' || key_len > KEY_LEN_MAX || colon == end || *colon != ':' ||
        (colon + 1 < end && strchr(" \t\r", colon[1]) == NULL)) {
        return false;
    }
    memcpy(line->key, p, key_len);
    line->key[key_len] = '\0';
    return yaml_value(colon + 1, end, &line->value);
}

/* What an indented line belongs to. */
enum section { SECTION_NONE, SECTION_TLS, SECTION_IGNORED };

/* Takes one parsed (or unparsable) line. False: beyond the subset, or a value that does not fit. */
static bool yaml_take(struct nb_options *o, const struct yaml_line *line, bool parsed,
                      enum section *section, const char **prefix, struct nb_buf *message)
{
    if (line->indent > 0 && *section == SECTION_IGNORED) {
        return true; /* whatever stands there, etcd would not look at it either */
    }
    if (!parsed || (line->indent > 0 && !line->empty && *section == SECTION_NONE)) {
        nb_buf_append_str(message, "only lines of \"key: value\" are understood");
        return false;
    }
    if (line->empty) {
        return true;
    }
    const char *text = (const char *)line->value.data;
    if (line->indent > 0) {
        return set(o, *prefix, line->key, text, message);
    }
    *prefix = prefix_of_section(line->key);
    *section = *prefix != NULL             ? SECTION_TLS
               : row_of(line->key) != NULL ? SECTION_NONE
                                           : SECTION_IGNORED;
    return *section != SECTION_NONE || set(o, "", line->key, text, message);
}

static bool from_yaml(const char *text, struct nb_options *o, struct nb_buf *message)
{
    struct yaml_line line = {0};
    enum section section = SECTION_NONE;
    const char *prefix = NULL;
    bool fine = true;
    for (unsigned number = 1; fine && *text != '\0'; number++) {
        const char *end = text + strcspn(text, "\n");
        bool parsed = yaml_line_parse(text, end, &line);
        struct nb_buf why = {0};
        fine = yaml_take(o, &line, parsed, &section, &prefix, &why);
        if (!fine) {
            nb_buf_printf(message, "line %u: ", number);
            nb_buf_append_bytes(message, nb_buf_bytes(&why));
        }
        nb_buf_deinit(&why);
        text = *end == '\0' ? end : end + 1;
    }
    nb_buf_deinit(&line.value);
    return fine;
}

bool server_flags_from_file(const char *text, size_t len, struct nb_options *o,
                            struct nb_buf *message)
{
    size_t blank = 0;
    while (blank < len && (text[blank] == ' ' || text[blank] == '\n' || text[blank] == '\r' ||
                           text[blank] == '\t')) {
        blank++;
    }
    if (blank < len && text[blank] == '{') {
        return from_json(text, len, o, message);
    }
    if (len != 0 && memchr(text, '\0', len) != NULL) {
        nb_buf_append_str(message, "not a text");
        return false;
    }
    struct nb_buf copy = {0};
    nb_buf_append(&copy, text, len);
    nb_buf_append(&copy, "", 1);
    bool fine = from_yaml((const char *)copy.data, o, message);
    nb_buf_deinit(&copy);
    return fine;
}

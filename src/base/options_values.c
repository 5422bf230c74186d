/* The texts of single values: Go's booleans, numbers and durations. */
#include "base/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

bool nb_bool_parse(const char *text, bool *out)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};
    for (size_t i = 0; i < NB_ARRAY_LEN(yes); i++) {
        if (strcmp(text, yes[i]) == 0) {
            *out = true;
            return true;
        }
        if (strcmp(text, no[i]) == 0) {
            *out = false;
            return true;
        }
    }
    return false;
}

/* A magnitude: digits with Go's base prefixes. No sign, no space, nothing after it. */
static bool magnitude_parse(const char *text, uint64_t *out)
{
    int base = 10;
    if (text[0] == '0' && text[1] != '\0') {
        char mark = text[1];
        base = mark == 'x' || mark == 'X' ? 16 : mark == 'b' || mark == 'B' ? 2 : 8;
        bool marked = base != 8 || mark == 'o' || mark == 'O';
        text += marked ? 2 : 1;
    }
    if (*text == '\0') {
        return false;
    }
    uint64_t value = 0;
    for (; *text != '\0'; text++) {
        int digit = *text >= '0' && *text <= '9'   ? *text - '0'
                    : *text >= 'a' && *text <= 'f' ? *text - 'a' + 10
                    : *text >= 'A' && *text <= 'F' ? *text - 'A' + 10
                                                   : 99;
        if (digit >= base || __builtin_mul_overflow(value, (uint64_t)base, &value) ||
            __builtin_add_overflow(value, (uint64_t)digit, &value)) {
            return false;
        }
    }
    *out = value;
    return true;
}

bool nb_uint64_parse(const char *text, uint64_t *out)
{
    return magnitude_parse(text, out);
}

bool nb_int64_parse(const char *text, int64_t *out)
{
    bool negative = text[0] == '-';
    uint64_t magnitude;
    if (!magnitude_parse(negative || text[0] == '+' ? text + 1 : text, &magnitude) ||
        magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0)) {
        return false;
    }
    *out = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

struct unit {
    const char *name;
    uint64_t ns;
};

static const struct unit units[] = {
    {"ns", 1},
    {"us", 1000},
    {"µs", 1000}, /* U+00B5 */
    {"μs", 1000}, /* U+03BC */
    {"ms", 1000000},
    {"s", 1000000000},
    {"m", UINT64_C(60000000000)},
    {"h", UINT64_C(3600000000000)},
};

/* The unit that begins `text`: the longest run without digits or dots must be one. */
static const struct unit *unit_of(const char *text, size_t *out_len)
{
    size_t len = strcspn(text, "0123456789.");
    for (size_t i = 0; i < NB_ARRAY_LEN(units); i++) {
        if (strlen(units[i].name) == len && memcmp(units[i].name, text, len) == 0) {
            *out_len = len;
            return &units[i];
        }
    }
    return NULL;
}

/* One number with its unit, as in the "1.5h" of "1.5h30m". Moves *text behind it. */
static bool duration_part(const char **text, uint64_t *total)
{
    const char *p = *text;
    uint64_t whole = 0, fraction = 0, scale = 1;
    size_t digits = 0;
    for (; *p >= '0' && *p <= '9'; p++, digits++) {
        if (__builtin_mul_overflow(whole, UINT64_C(10), &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole)) {
            return false;
        }
    }
    if (*p == '.') {
        for (p++; *p >= '0' && *p <= '9'; p++, digits++) {
            if (scale < UINT64_C(1000000000)) { /* what is beyond is below any unit that matters */
                fraction = fraction * 10 + (uint64_t)(*p - '0');
                scale *= 10;
            }
        }
    }
    size_t unit_len;
    const struct unit *unit = unit_of(p, &unit_len);
    if (digits == 0 || unit == NULL) {
        return false;
    }
    /* unit * fraction / scale in two halves, none of which can overflow: scale <= 10^9 */
    uint64_t part = unit->ns / scale * fraction + unit->ns % scale * fraction / scale;
    uint64_t ns;
    if (__builtin_mul_overflow(whole, unit->ns, &ns) || __builtin_add_overflow(ns, part, &ns) ||
        __builtin_add_overflow(*total, ns, total)) {
        return false;
    }
    *text = p + unit_len;
    return true;
}

bool nb_duration_parse(const char *text, int64_t *out_ns)
{
    bool negative = text[0] == '-';
    if (negative || text[0] == '+') {
        text++;
    }
    if (strcmp(text, "0") == 0) {
        *out_ns = 0;
        return true;
    }
    uint64_t total = 0;
    do {
        if (!duration_part(&text, &total)) {
            return false;
        }
    } while (*text != '\0');
    if (total > INT64_MAX) {
        return false;
    }
    *out_ns = negative ? -(int64_t)total : (int64_t)total;
    return true;
}

/* `ns` in a unit of `unit_ns`, with the fraction's zeros cut. */
static void decimal_print(struct nb_buf *out, uint64_t ns, uint64_t unit_ns, const char *unit)
{
    nb_buf_printf(out, "%" PRIu64, ns / unit_ns);
    uint64_t rest = ns % unit_ns;
    if (rest != 0) {
        nb_buf_append_str(out, ".");
        for (uint64_t digit = unit_ns / 10; rest != 0; digit /= 10) {
            nb_buf_printf(out, "%" PRIu64, rest / digit);
            rest %= digit;
        }
    }
    nb_buf_append_str(out, unit);
}

void nb_duration_print(struct nb_buf *out, int64_t ns)
{
    uint64_t left = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    if (ns < 0) {
        nb_buf_append_str(out, "-");
    }
    if (left == 0) {
        nb_buf_append_str(out, "0s");
    } else if (left < 1000) {
        decimal_print(out, left, 1, "ns");
    } else if (left < 1000000) {
        decimal_print(out, left, 1000, "µs");
    } else if (left < 1000000000) {
        decimal_print(out, left, 1000000, "ms");
    } else {
        uint64_t minutes = left / UINT64_C(60000000000);
        if (minutes >= 60) {
            nb_buf_printf(out, "%" PRIu64 "h", minutes / 60);
        }
        if (minutes != 0) {
            nb_buf_printf(out, "%" PRIu64 "m", minutes % 60);
        }
        decimal_print(out, left % UINT64_C(60000000000), 1000000000, "s");
    }
}

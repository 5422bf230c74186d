#include "rpc/text.h"

#include <stdio.h>
#include <string.h>

static const char hex_digits[] = "0123456789ABCDEF";

void rpc_percent_encode(struct nb_bytes text, struct nb_buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c >= 0x20 && c <= 0x7e && c != '%') {
            nb_buf_append(out, &c, 1);
        } else {
            char escape[3] = {'%', hex_digits[c >> 4], hex_digits[c & 15]};
            nb_buf_append(out, escape, sizeof escape);
        }
    }
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

void rpc_percent_decode(struct nb_bytes text, struct nb_buf *out)
{
    size_t i = 0;
    while (i < text.len) {
        uint8_t c = text.data[i++];
        if (c == '%' && text.len - i >= 2) {
            int high = hex_value(text.data[i]);
            int low = hex_value(text.data[i + 1]);
            if (high >= 0 && low >= 0) {
                c = (uint8_t)(high * 16 + low);
                i += 2;
            }
        }
        nb_buf_append(out, &c, 1);
    }
}

/* Units from the finest to the coarsest. */
static const struct {
    char letter;
    uint64_t ns;
} units[] = {
    {'n', 1},          {'u', 1000},        {'m', 1000000},
    {'S', 1000000000}, {'M', 60000000000}, {'H', 3600000000000},
};

bool rpc_timeout_parse(struct nb_bytes text, uint64_t *out_ns)
{
    uint64_t value;
    if (text.len < 2 || text.len > 9 ||
        !rpc_decimal_parse(nb_bytes_of(text.data, text.len - 1), 99999999, &value)) {
        return false;
    }
    for (size_t i = 0; i < NB_ARRAY_LEN(units); i++) {
        if ((char)text.data[text.len - 1] == units[i].letter) {
            /* 99,999,999 h are more than 2^64 ns. */
            bool overflow = value > UINT64_MAX / units[i].ns;
            *out_ns = overflow ? UINT64_MAX : value * units[i].ns;
            return true;
        }
    }
    return false;
}

size_t rpc_timeout_format(uint64_t ns, char to[static RPC_TIMEOUT_TEXT_MAX])
{
    size_t i = 0;
    uint64_t value = ns;
    while (value > 99999999 && i + 1 < NB_ARRAY_LEN(units)) {
        i++;
        value = ns / units[i].ns + (ns % units[i].ns != 0);
    }
    int len =
        snprintf(to, RPC_TIMEOUT_TEXT_MAX, "%llu%c", (unsigned long long)value, units[i].letter);
    nb_assert(len > 0 && len < RPC_TIMEOUT_TEXT_MAX);
    return (size_t)len;
}

bool rpc_content_type_is_grpc(struct nb_bytes text)
{
    static const char base[] = "application/grpc";
    size_t len = sizeof base - 1;
    if (text.len < len || memcmp(text.data, base, len) != 0) {
        return false;
    }
    return text.len == len || text.data[len] == '+' || text.data[len] == ';';
}

bool rpc_decimal_parse(struct nb_bytes text, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;
    if (text.len == 0) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c < '0' || c > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(c - '0');
        if (value > (max - digit) / 10 || digit > max) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

void rpc_quote(struct nb_bytes text, struct nb_buf *out)
{
    nb_buf_append_str(out, "\"");
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c == '"' || c == '\\') {
            char escape[2] = {'\\', (char)c};
            nb_buf_append(out, escape, 2);
        } else if (c >= 0x20 && c <= 0x7e) {
            nb_buf_append(out, &c, 1);
        } else {
            nb_buf_printf(out, "\\x%02x", c);
        }
    }
    nb_buf_append_str(out, "\"");
}

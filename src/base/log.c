#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"debug", "info", "warn", "error", "fatal"};
static const char *const level_short[] = {"DBG", "INF", "WRN", "ERR", "FTL"};
static const char *const level_colors[] = {"\033[2m", "\033[32m", "\033[33m", "\033[31m",
                                           "\033[1;31m"};

bool nb_log_level_of(const char *name, enum nb_log_level *out)
{
    static const struct {
        const char *name;
        enum nb_log_level level;
    } known[] = {
        {"debug", NB_LOG_DEBUG},  {"info", NB_LOG_INFO},   {"warn", NB_LOG_WARN},
        {"warning", NB_LOG_WARN}, {"error", NB_LOG_ERROR}, {"dpanic", NB_LOG_FATAL},
        {"panic", NB_LOG_FATAL},  {"fatal", NB_LOG_FATAL},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(known); i++) {
        if (strcmp(name, known[i].name) == 0) {
            *out = known[i].level;
            return true;
        }
    }
    return false;
}

/* Length of the valid UTF-8 sequence at the start of `p`, or 0. [RFC 3629, section 4] */
static size_t utf8_len(const uint8_t *p, size_t left)
{
    static const uint8_t low[] = {[0xe0 - 0xe0] = 0xa0, [0xf0 - 0xe0] = 0x90};
    if (p[0] < 0x80) {
        return 1;
    }
    size_t len = p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    if (len == 0 || len > left) {
        return 0;
    }
    uint8_t first_min = 0x80, first_max = 0xbf;
    if (p[0] == 0xe0 || p[0] == 0xf0) {
        first_min = low[p[0] - 0xe0];
    } else if (p[0] == 0xed) {
        first_max = 0x9f; /* surrogates */
    } else if (p[0] == 0xf4) {
        first_max = 0x8f; /* beyond U+10FFFF */
    }
    if (p[1] < first_min || p[1] > first_max) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return len;
}

void nb_json_escape(struct nb_buf *out, struct nb_bytes bytes)
{
    for (size_t i = 0; i < bytes.len;) {
        uint8_t c = bytes.data[i];
        if (c == '"' || c == '\\') {
            nb_buf_append(out, (const char[]){'\\', (char)c}, 2);
            i++;
        } else if (c == '\n') {
            nb_buf_append_str(out, "\\n");
            i++;
        } else if (c == '\t') {
            nb_buf_append_str(out, "\\t");
            i++;
        } else if (c == '\r') {
            nb_buf_append_str(out, "\\r");
            i++;
        } else if (c < 0x20 || c == 0x7f) {
            nb_buf_printf(out, "\\u%04x", c);
            i++;
        } else {
            size_t len = utf8_len(bytes.data + i, bytes.len - i);
            if (len == 0) {
                nb_buf_append_str(out, "\\ufffd");
                i++;
            } else {
                nb_buf_append(out, bytes.data + i, len);
                i += len;
            }
        }
    }
}

static void append_value(struct nb_buf *out, const struct nb_kv *kv, bool json)
{
    struct nb_bytes text = {0};
    switch (kv->type) {
    case NB_KV_TYPE_END:
        nb_unreachable("end of pairs has no value");
    case NB_KV_TYPE_STR:
        text = nb_bytes_str(kv->str == NULL ? "" : kv->str);
        break;
    case NB_KV_TYPE_BYTES:
        text = kv->bytes;
        break;
    case NB_KV_TYPE_U64:
        nb_buf_printf(out, "%" PRIu64, kv->u64);
        return;
    case NB_KV_TYPE_I64:
        nb_buf_printf(out, "%" PRId64, kv->i64);
        return;
    case NB_KV_TYPE_ID:
        nb_buf_printf(out, json ? "\"%" PRIx64 "\"" : "%" PRIx64, kv->u64);
        return;
    case NB_KV_TYPE_BOOL:
        nb_buf_append_str(out, kv->u64 != 0 ? "true" : "false");
        return;
    case NB_KV_TYPE_F64:
        nb_buf_printf(out, "%.6g", kv->f64);
        return;
    }
    bool quote = json || text.len == 0;
    for (size_t i = 0; !quote && i < text.len; i++) {
        quote = text.data[i] <= ' ' || text.data[i] == '"' || text.data[i] == '=' ||
                text.data[i] >= 0x7f;
    }
    if (quote) {
        nb_buf_append_str(out, "\"");
    }
    nb_json_escape(out, text);
    if (quote) {
        nb_buf_append_str(out, "\"");
    }
}

static void append_json(enum nb_log_level level, const char *event, const char *message,
                        const struct nb_kv *pairs, const char *stamp, struct nb_buf *out)
{
    nb_buf_printf(out, "{\"level\":\"%s\",\"ts\":\"%s\",\"caller\":\"%s\",\"msg\":\"",
                  level_names[level], stamp, event);
    nb_json_escape(out, nb_bytes_str(message == NULL ? event : message));
    nb_buf_append_str(out, "\"");
    for (; pairs->type != NB_KV_TYPE_END; pairs++) {
        nb_buf_printf(out, ",\"%s\":", pairs->name);
        append_value(out, pairs, true);
    }
    nb_buf_append_str(out, "}\n");
}

static void append_console(const struct nb_logger *logger, enum nb_log_level level,
                           const char *event, const char *message, const struct nb_kv *pairs,
                           const char *stamp, struct nb_buf *out)
{
    const char *off = logger->color ? "\033[0m" : "";
    nb_buf_printf(out, "%s %s%s%s ", stamp, logger->color ? level_colors[level] : "",
                  level_short[level], off);
    if (logger->member != NULL) {
        nb_buf_printf(out, "%s ", logger->member);
    }
    nb_buf_append_str(out, event);
    for (; pairs->type != NB_KV_TYPE_END; pairs++) {
        nb_buf_printf(out, " %s%s=%s", logger->color ? "\033[36m" : "", pairs->name, off);
        append_value(out, pairs, false);
    }
    if (message != NULL) {
        nb_buf_printf(out, "  %s%s%s", logger->color ? "\033[2m" : "", message, off);
    }
    nb_buf_append_str(out, "\n");
}

void nb_log_format_line(const struct nb_logger *logger, enum nb_log_level level, const char *event,
                        const char *message, const struct nb_kv *pairs, int64_t now_ns,
                        struct nb_buf *out)
{
    time_t seconds = (time_t)(now_ns / 1000000000);
    struct tm tm;
    (void)gmtime_r(&seconds, &tm);
    char date[32], stamp[64];
    (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(stamp, sizeof stamp, "%s.%06" PRId64 "Z", date, now_ns % 1000000000 / 1000);
    if (logger->format == NB_LOG_JSON) {
        append_json(level, event, message, pairs, stamp, out);
    } else {
        append_console(logger, level, event, message, pairs, stamp, out);
    }
}

void nb_log_line(const struct nb_logger *logger, enum nb_log_level level, const char *event,
                 const char *message, const struct nb_kv *pairs)
{
    if (logger == NULL || logger->fd < 0 || level < logger->level_min) {
        return;
    }
    int saved = errno;
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    struct nb_buf line = {0};
    nb_log_format_line(logger, level, event, message, pairs,
                       (int64_t)now.tv_sec * 1000000000 + now.tv_nsec, &line);
    ssize_t written = write(logger->fd, line.data, line.len);
    (void)written; /* a log that cannot be written has nobody to be told to */
    nb_buf_deinit(&line);
    errno = saved;
}

/*
 * HTTP/1.1, server side. One request is worked on at a time; what a client pipelines behind it
 * waits unparsed, at most header_bytes_max of it, and no request is begun while send_high_bytes of
 * answers have not been taken. Strict where leniency lets requests be smuggled:
 * CRLF only, no folded lines, no Content-Length beside Transfer-Encoding, nothing in chunk lines
 * and trailers that another reader could take for the end of a line. [RFC 9112]
 *
 * Invariants:
 *   H1  `in` holds less than two header_bytes_max beyond the bytes of the current feed, and
 *       send_high_bytes more while the client does not read its answers  [N07, Z03]
 *   H2  there is a request being answered exactly in the states ANSWER and STREAM
 */
#include "rpc/conn.h"
#include "rpc/text.h"

#include <string.h>
#include <strings.h>

enum { HEADERS_MAX = 100, CHUNK_LINE_MAX = 256, TRAILERS_MAX = 4096 };

enum http1_state {
    HTTP1_HEAD,       /* request line and headers are gathered */
    HTTP1_BODY,       /* `body_left` bytes are to come */
    HTTP1_CHUNK_LINE, /* the size of a chunk */
    HTTP1_CHUNK_DATA, /* `body_left` bytes of it, then CRLF */
    HTTP1_TRAILERS,   /* lines up to an empty one */
    HTTP1_ANSWER,     /* the handler has it */
    HTTP1_STREAM,     /* a reply in pieces has begun */
    HTTP1_CLOSED,     /* nothing more is read */
};

struct http1_header {
    struct nb_bytes name, value;
};

struct rpc_http {
    struct rpc_http1 *owner;
    void *user;
    struct rpc_http_request request;
    struct nb_buf head, body; /* owned; the request's bytes */
    struct nb_buf extra;      /* owned; header lines of the answer */
    struct http1_header headers[HEADERS_MAX];
    size_t header_count;
    bool keep_alive, is_head, is_10, chunked;
};

struct rpc_http1 {
    struct rpc_conn *conn;
    struct nb_buf in, out; /* owned; `at` bytes of `in` are done with */
    size_t at;
    uint64_t body_left;
    enum http1_state state;
    bool resume; /* go on with `in` when output is taken */
    uint64_t progress_ns;
    struct rpc_http *http; /* owned; NULL between requests */
};

static const struct {
    unsigned code;
    const char *text;
} reasons[] = {
    {100, "Continue"},
    {200, "OK"},
    {204, "No Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {304, "Not Modified"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {413, "Content Too Large"},
    {415, "Unsupported Media Type"},
    {421, "Misdirected Request"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {499, "Client Closed Request"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

static const char *reason_of(unsigned code)
{
    for (size_t i = 0; i < NB_ARRAY_LEN(reasons); i++) {
        if (reasons[i].code == code) {
            return reasons[i].text;
        }
    }
    return "Status";
}

struct rpc_http1 *rpc_http1_create(struct rpc_conn *c)
{
    struct rpc_http1 *h = nb_alloc_zero(1, sizeof *h);
    h->conn = c;
    h->progress_ns = c->now_ns;
    return h;
}

static void drop_request(struct rpc_http1 *h)
{
    if (h->http != NULL) {
        nb_buf_deinit(&h->http->head);
        nb_buf_deinit(&h->http->body);
        nb_buf_deinit(&h->http->extra);
        nb_free(h->http);
        h->http = NULL;
    }
}

void rpc_http1_destroy(struct rpc_http1 *h)
{
    if (h->state == HTTP1_ANSWER || h->state == HTTP1_STREAM) {
        struct rpc_http *http = h->http;
        h->state = HTTP1_CLOSED;
        if (h->conn->server->config.on_http_cancel != NULL) {
            h->conn->server->config.on_http_cancel(http);
        }
    }
    drop_request(h);
    nb_buf_deinit(&h->in);
    nb_buf_deinit(&h->out);
    nb_free(h);
}

/* ---- answering ---- */

static void write_head(struct rpc_http1 *h, unsigned status, const char *content_type,
                       const char *extra_headers)
{
    nb_buf_printf(&h->out, "HTTP/1.1 %u %s\r\n", status, reason_of(status));
    if (content_type != NULL) {
        nb_buf_printf(&h->out, "Content-Type: %s\r\n", content_type);
    }
    if (extra_headers != NULL) {
        nb_buf_append_str(&h->out, extra_headers);
    }
    if (h->http != NULL) {
        nb_buf_append_bytes(&h->out, nb_buf_bytes(&h->http->extra));
    }
}

/* Says no in the protocol itself, and closes. */
static void refuse(struct rpc_http1 *h, unsigned status, const char *why)
{
    struct nb_buf body = {0};
    nb_buf_printf(&body, "%u %s: %s\n", status, reason_of(status), why);
    write_head(h, status, "text/plain; charset=utf-8", "Connection: close\r\n");
    nb_buf_printf(&h->out, "Content-Length: %zu\r\n\r\n", body.len);
    nb_buf_append_bytes(&h->out, nb_buf_bytes(&body));
    nb_buf_deinit(&body);
    h->state = HTTP1_CLOSED;
    drop_request(h);
    rpc_conn_doom(h->conn);
}

/* The reply is written: on to the next request, or to the end. */
static void finish(struct rpc_http1 *h)
{
    bool keep_alive = h->http->keep_alive && !h->conn->shutting;
    drop_request(h);
    h->state = keep_alive ? HTTP1_HEAD : HTTP1_CLOSED;
    h->progress_ns = h->conn->now_ns;
    h->resume = keep_alive && h->at < h->in.len;
    if (!keep_alive) {
        h->conn->doomed = true;
    }
    rpc_conn_dirty(h->conn);
}

static bool has_body(unsigned status)
{
    return status >= 200 && status != 204 && status != 304;
}

void rpc_http_add_header(struct rpc_http *http, const char *name, struct nb_bytes value)
{
    nb_buf_printf(&http->extra, "%s: ", name);
    nb_buf_append_bytes(&http->extra, value);
    nb_buf_append_str(&http->extra, "\r\n");
}

void rpc_http_reply(struct rpc_http *http, unsigned status, const char *content_type,
                    const char *extra_headers, struct nb_bytes body)
{
    struct rpc_http1 *h = http->owner;
    if (h->state == HTTP1_CLOSED) {
        return;
    }
    nb_assert(h->state == HTTP1_ANSWER);
    write_head(h, status, content_type, extra_headers);
    if (!http->keep_alive || h->conn->shutting) {
        nb_buf_append_str(&h->out, "Connection: close\r\n");
    }
    if (has_body(status)) {
        nb_buf_printf(&h->out, "Content-Length: %zu\r\n", body.len);
    }
    nb_buf_append_str(&h->out, "\r\n");
    if (!http->is_head && has_body(status)) {
        nb_buf_append_bytes(&h->out, body);
    }
    finish(h);
}

void rpc_http_begin(struct rpc_http *http, unsigned status, const char *content_type,
                    const char *extra_headers)
{
    struct rpc_http1 *h = http->owner;
    if (h->state == HTTP1_CLOSED) {
        return;
    }
    nb_assert(h->state == HTTP1_ANSWER);
    h->state = HTTP1_STREAM;
    http->chunked = !http->is_10;
    http->keep_alive = http->keep_alive && http->chunked;
    write_head(h, status, content_type, extra_headers);
    nb_buf_append_str(&h->out, http->chunked ? "Transfer-Encoding: chunked\r\n" : "");
    nb_buf_append_str(&h->out, http->keep_alive ? "\r\n" : "Connection: close\r\n\r\n");
    rpc_conn_dirty(h->conn);
}

void rpc_http_chunk(struct rpc_http *http, struct nb_bytes bytes)
{
    struct rpc_http1 *h = http->owner;
    if (h->state == HTTP1_CLOSED || h->conn->doomed || bytes.len == 0 || http->is_head) {
        return;
    }
    nb_assert(h->state == HTTP1_STREAM);
    if (http->chunked) {
        nb_buf_printf(&h->out, "%zx\r\n", bytes.len);
    }
    nb_buf_append_bytes(&h->out, bytes);
    nb_buf_append_str(&h->out, http->chunked ? "\r\n" : "");
    if (h->out.len > h->conn->server->limits.output_bytes_max) { /* [N06] */
        rpc_conn_doom(h->conn);
    }
    rpc_conn_dirty(h->conn);
}

void rpc_http_end(struct rpc_http *http)
{
    struct rpc_http1 *h = http->owner;
    if (h->state == HTTP1_CLOSED) {
        return;
    }
    nb_assert(h->state == HTTP1_STREAM);
    if (http->chunked && !http->is_head) {
        nb_buf_append_str(&h->out, "0\r\n\r\n");
    }
    finish(h);
}

/* ---- parsing ---- */

static bool is_token(struct nb_bytes b)
{
    for (size_t i = 0; i < b.len; i++) {
        uint8_t c = b.data[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && (c == 0 || strchr("!#$%&'*+-.^_`|~", c) == NULL)) {
            return false;
        }
    }
    return b.len != 0;
}

static bool is_text(struct nb_bytes b)
{
    for (size_t i = 0; i < b.len; i++) {
        if ((b.data[i] < 0x20 && b.data[i] != '\t') || b.data[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

static struct nb_bytes trimmed(struct nb_bytes b)
{
    while (b.len != 0 && (b.data[0] == ' ' || b.data[0] == '\t')) {
        b = nb_bytes_from(b, 1);
    }
    while (b.len != 0 && (b.data[b.len - 1] == ' ' || b.data[b.len - 1] == '\t')) {
        b.len--;
    }
    return b;
}

static bool equal_fold(struct nb_bytes b, const char *text)
{
    return b.len == strlen(text) && strncasecmp((const char *)b.data, text, b.len) == 0;
}

/* Takes a line off the front of `b`, without its CRLF. False if there is none. */
static bool take_line(struct nb_bytes *b, struct nb_bytes *line)
{
    const uint8_t *end = b->len == 0 ? NULL : memmem(b->data, b->len, "\r\n", 2);
    if (end == NULL) {
        return false;
    }
    *line = nb_bytes_of(b->data, (size_t)(end - b->data));
    *b = nb_bytes_from(*b, line->len + 2);
    return true;
}

/* Method, target, version. NULL, or what is wrong. */
static const char *parse_request_line(struct rpc_http *http, struct nb_bytes line)
{
    const uint8_t *first = line.len == 0 ? NULL : memchr(line.data, ' ', line.len);
    const uint8_t *last = line.len == 0 ? NULL : memrchr(line.data, ' ', line.len);
    if (first == NULL || first == last) {
        return "malformed request line";
    }
    struct rpc_http_request *r = &http->request;
    r->method = nb_bytes_of(line.data, (size_t)(first - line.data));
    struct nb_bytes target = nb_bytes_of(first + 1, (size_t)(last - first - 1));
    struct nb_bytes version = nb_bytes_of(last + 1, line.len - (size_t)(last + 1 - line.data));
    http->is_10 = RPC_IS(version, "HTTP/1.0");
    if (!is_token(r->method) || target.len == 0 || !is_text(target) ||
        memchr(target.data, ' ', target.len) != NULL) {
        return "malformed request line";
    }
    if (!http->is_10 && !RPC_IS(version, "HTTP/1.1")) {
        return "unsupported protocol version";
    }
    if (target.len > 7 && strncasecmp((const char *)target.data, "http://", 7) == 0) {
        struct nb_bytes rest = nb_bytes_from(target, 7);
        const uint8_t *slash = memchr(rest.data, '/', rest.len);
        target = slash == NULL ? nb_bytes_str("/")
                               : nb_bytes_of(slash, rest.len - (size_t)(slash - rest.data));
    }
    const uint8_t *mark = memchr(target.data, '?', target.len);
    r->path = target;
    if (mark != NULL) {
        r->path.len = (size_t)(mark - target.data);
        r->query = nb_bytes_from(target, r->path.len + 1);
    }
    http->is_head = RPC_IS(r->method, "HEAD");
    http->keep_alive = !http->is_10;
    return NULL;
}

static const char *parse_header_lines(struct rpc_http *http, struct nb_bytes rest)
{
    struct nb_bytes line;
    while (take_line(&rest, &line) && line.len != 0) {
        const uint8_t *colon = memchr(line.data, ':', line.len);
        if (colon == NULL || http->header_count == HEADERS_MAX) {
            return colon == NULL ? "malformed header" : "too many headers";
        }
        struct http1_header *header = &http->headers[http->header_count++];
        header->name = nb_bytes_of(line.data, (size_t)(colon - line.data));
        header->value = trimmed(nb_bytes_from(line, header->name.len + 1));
        if (!is_token(header->name) || !is_text(header->value)) {
            return "malformed header";
        }
    }
    return NULL;
}

/* The headers that say where the request ends. NULL, or what is wrong; `out_status` for that. */
static const char *judge_headers(struct rpc_http1 *h, unsigned *out_status)
{
    struct rpc_http *http = h->http;
    bool sized = false, chunked = false, host = false;
    uint64_t length = 0;
    *out_status = 400;
    for (size_t i = 0; i < http->header_count; i++) {
        struct nb_bytes name = http->headers[i].name, value = http->headers[i].value;
        if (equal_fold(name, "content-length")) {
            uint64_t given;
            if (!rpc_decimal_parse(value, UINT64_MAX / 2, &given) || (sized && given != length)) {
                return "malformed Content-Length";
            }
            sized = true;
            length = given;
        } else if (equal_fold(name, "transfer-encoding")) {
            if (!equal_fold(value, "chunked") || chunked) {
                *out_status = 501;
                return "unsupported Transfer-Encoding";
            }
            chunked = true;
        } else if (equal_fold(name, "connection")) {
            if (equal_fold(value, "close")) {
                http->keep_alive = false;
            } else if (equal_fold(value, "keep-alive")) {
                http->keep_alive = true;
            }
        } else if (equal_fold(name, "host")) {
            if (host) {
                return "more than one Host";
            }
            host = true;
        }
    }
    if (sized && chunked) {
        return "Content-Length beside Transfer-Encoding";
    }
    if (http->is_10 && chunked) { /* who speaks HTTP/1.0 sees another end. [RFC 9112, 6.1] */
        return "Transfer-Encoding in HTTP/1.0";
    }
    if (!host && !http->is_10) {
        return "missing required Host header";
    }
    if (length > h->conn->server->limits.http_body_bytes_max) {
        *out_status = 413;
        return "request body is too large";
    }
    h->body_left = length;
    h->state = chunked ? HTTP1_CHUNK_LINE : HTTP1_BODY;
    return NULL;
}

static struct nb_bytes rest_of(const struct rpc_http1 *h)
{
    return nb_bytes_from(nb_buf_bytes(&h->in), h->at);
}

/* True when the state changed, so that there is more to do. */
static bool parse_head(struct rpc_http1 *h)
{
    struct nb_bytes rest = rest_of(h);
    while (rest.len >= 2 && rest.data[0] == '\r' && rest.data[1] == '\n') {
        rest = nb_bytes_from(rest, 2); /* empty lines before a request are passed over */
        h->at += 2;
    }
    size_t limit = h->conn->server->limits.header_bytes_max;
    const uint8_t *end = rest.len == 0 ? NULL : memmem(rest.data, rest.len, "\r\n\r\n", 4);
    size_t len = end == NULL ? rest.len : (size_t)(end - rest.data) + 4;
    if (len > limit) {
        refuse(h, 431, "request header is too large");
        return false;
    }
    if (end == NULL) {
        return false;
    }
    struct rpc_http *http = h->http = nb_alloc_zero(1, sizeof *http);
    http->owner = h;
    nb_buf_append(&http->head, rest.data, len);
    h->at += len;
    struct nb_bytes lines = nb_buf_bytes(&http->head), first;
    bool found = take_line(&lines, &first);
    nb_assert(found);
    unsigned status = 400;
    const char *wrong = parse_request_line(http, first);
    if (wrong != NULL) {
        status = strncmp(wrong, "unsupported", 11) == 0 ? 505 : 400;
    } else {
        wrong = parse_header_lines(http, lines);
    }
    if (wrong == NULL) {
        wrong = judge_headers(h, &status);
    }
    if (wrong != NULL) {
        refuse(h, status, wrong);
        return false;
    }
    struct nb_bytes expect;
    if (rpc_http_header(http, "expect", &expect) && equal_fold(expect, "100-continue")) {
        nb_buf_append_str(&h->out, "HTTP/1.1 100 Continue\r\n\r\n");
        rpc_conn_dirty(h->conn);
    }
    return true;
}

static void hand_over(struct rpc_http1 *h)
{
    struct rpc_server *s = h->conn->server;
    h->http->request.body = nb_buf_bytes(&h->http->body);
    h->state = HTTP1_ANSWER;
    if (s->config.on_http != NULL) {
        s->config.on_http(h->http, s->config.user);
    } else {
        rpc_http_reply(h->http, 404, "text/plain; charset=utf-8", NULL,
                       nb_bytes_str("404 page not found\n"));
    }
}

/* Moves body bytes over; true when all of `body_left` have come. */
static bool take_body(struct rpc_http1 *h)
{
    struct nb_bytes rest = rest_of(h);
    size_t len = rest.len < h->body_left ? rest.len : (size_t)h->body_left;
    nb_buf_append(&h->http->body, rest.data, len);
    h->at += len;
    h->body_left -= len;
    return h->body_left == 0;
}

static bool parse_chunk_line(struct rpc_http1 *h)
{
    struct nb_bytes rest = rest_of(h), line;
    if (!take_line(&rest, &line)) {
        if (rest.len > CHUNK_LINE_MAX) {
            refuse(h, 400, "malformed chunk");
        }
        return false;
    }
    uint64_t size = 0;
    size_t digits = 0;
    for (; digits < line.len && digits < 9; digits++) {
        uint8_t c = line.data[digits];
        uint8_t lower = c | 0x20;
        if (c >= '0' && c <= '9') {
            size = size * 16 + (uint64_t)(c - '0');
        } else if (lower >= 'a' && lower <= 'f') {
            size = size * 16 + (uint64_t)(lower - 'a' + 10);
        } else {
            break;
        }
    }
    struct nb_bytes extension = nb_bytes_from(line, digits);
    while (extension.len != 0 && (extension.data[0] == ' ' || extension.data[0] == '\t')) {
        extension = nb_bytes_from(extension, 1);
    }
    bool ends = extension.len == 0 || (extension.data[0] == ';' && is_text(extension));
    if (digits == 0 || digits > 8 || !ends) {
        refuse(h, 400, "malformed chunk");
        return false;
    }
    if (h->http->body.len + size > h->conn->server->limits.http_body_bytes_max) {
        refuse(h, 413, "request body is too large");
        return false;
    }
    h->at += line.len + 2;
    h->body_left = size;
    h->state = size == 0 ? HTTP1_TRAILERS : HTTP1_CHUNK_DATA;
    return true;
}

static bool parse_chunk_data(struct rpc_http1 *h)
{
    if (!take_body(h)) {
        return false;
    }
    struct nb_bytes rest = rest_of(h);
    if (rest.len < 2) {
        return false;
    }
    if (rest.data[0] != '\r' || rest.data[1] != '\n') {
        refuse(h, 400, "malformed chunk");
        return false;
    }
    h->at += 2;
    h->state = HTTP1_CHUNK_LINE;
    return true;
}

static bool parse_trailers(struct rpc_http1 *h)
{
    struct nb_bytes rest = rest_of(h), line;
    if (!take_line(&rest, &line)) {
        if (rest.len > TRAILERS_MAX) {
            refuse(h, 431, "trailers are too large");
        }
        return false;
    }
    if (!is_text(line)) {
        refuse(h, 400, "malformed trailer");
        return false;
    }
    h->at += line.len + 2;
    if (line.len == 0) {
        hand_over(h);
    }
    return true;
}

/* One step; true if there may be more. */
static bool step(struct rpc_http1 *h)
{
    switch (h->state) {
    case HTTP1_HEAD:
        return parse_head(h);
    case HTTP1_BODY:
        if (!take_body(h)) {
            return false;
        }
        hand_over(h);
        return true;
    case HTTP1_CHUNK_LINE:
        return parse_chunk_line(h);
    case HTTP1_CHUNK_DATA:
        return parse_chunk_data(h);
    case HTTP1_TRAILERS:
        return parse_trailers(h);
    case HTTP1_ANSWER:
    case HTTP1_STREAM:
    case HTTP1_CLOSED:
        return false;
    }
    nb_unreachable("state");
}

/* Between two requests, with so much unsent that the next one has to wait. [N06] */
static bool is_full(const struct rpc_http1 *h)
{
    return h->state == HTTP1_HEAD && h->out.len >= h->conn->server->limits.send_high_bytes;
}

static enum nb_status advance(struct rpc_http1 *h)
{
    const struct rpc_limits *l = &h->conn->server->limits;
    bool full = is_full(h);
    while (!full && step(h)) {
        full = is_full(h);
    }
    h->resume = full && h->at < h->in.len;
    nb_buf_consume(&h->in, h->at);
    h->at = 0;
    if (h->in.len == 0) {
        nb_buf_deinit(&h->in);
    }
    if (h->in.len > l->header_bytes_max + (full ? l->send_high_bytes : 0)) { /* too far ahead */
        h->state = h->http == NULL ? HTTP1_CLOSED : h->state;
        rpc_conn_doom(h->conn);
    }
    return h->conn->doomed ? NB_CLOSED : NB_OK;
}

enum nb_status rpc_http1_feed(struct rpc_http1 *h, struct nb_bytes bytes)
{
    if (h->state == HTTP1_CLOSED) {
        return NB_CLOSED;
    }
    nb_buf_append_bytes(&h->in, bytes);
    h->progress_ns =
        h->state == HTTP1_HEAD && h->in.len > bytes.len ? h->progress_ns : h->conn->now_ns;
    return advance(h);
}

bool rpc_http1_output(struct rpc_http1 *h, struct nb_buf *out, size_t bytes_max)
{
    if (h->resume && !h->conn->doomed && !is_full(h)) {
        (void)!advance(h); /* says by `doomed` what its status says */
    }
    size_t len = h->out.len < bytes_max ? h->out.len : bytes_max;
    nb_buf_append(out, h->out.data, len);
    nb_buf_consume(&h->out, len);
    if (h->out.len == 0) {
        nb_buf_deinit(&h->out);
    }
    return h->out.len != 0 || h->resume;
}

enum nb_status rpc_http1_tick(struct rpc_http1 *h)
{
    const struct rpc_limits *l = &h->conn->server->limits;
    uint64_t since_ns = h->conn->now_ns - h->progress_ns;
    switch (h->state) {
    case HTTP1_HEAD:
        if (h->in.len == 0 && since_ns >= l->http_idle_timeout_ns) {
            h->state = HTTP1_CLOSED;
            rpc_conn_doom(h->conn);
        } else if (h->in.len != 0 && since_ns >= l->preface_timeout_ns) {
            refuse(h, 408, "request header did not come in time");
        }
        break;
    case HTTP1_BODY:
    case HTTP1_CHUNK_LINE:
    case HTTP1_CHUNK_DATA:
    case HTTP1_TRAILERS:
        if (since_ns >= l->body_timeout_ns) {
            refuse(h, 408, "request body did not come in time");
        }
        break;
    case HTTP1_ANSWER:
    case HTTP1_STREAM:
    case HTTP1_CLOSED:
        break;
    }
    return h->conn->doomed ? NB_CLOSED : NB_OK;
}

bool rpc_http1_is_idle(const struct rpc_http1 *h)
{
    return h->http == NULL;
}

bool rpc_http1_input_ended(struct rpc_http1 *h)
{
    if (h->state != HTTP1_ANSWER && h->state != HTTP1_STREAM) {
        return false;
    }
    h->http->keep_alive = false;
    return true;
}

void rpc_http1_shutdown(struct rpc_http1 *h)
{
    if (h->http == NULL) {
        h->state = HTTP1_CLOSED;
    }
}

size_t rpc_http1_unread_bytes(const struct rpc_http1 *h)
{
    return h->out.len;
}

/* ---- what handlers may know ---- */

const struct rpc_http_request *rpc_http_request(const struct rpc_http *http)
{
    return &http->request;
}

bool rpc_http_header(const struct rpc_http *http, const char *name, struct nb_bytes *out)
{
    for (size_t i = 0; i < http->header_count; i++) {
        if (equal_fold(http->headers[i].name, name)) {
            *out = http->headers[i].value;
            return true;
        }
    }
    return false;
}

bool rpc_http_header_at(const struct rpc_http *http, size_t i, struct nb_bytes *name,
                        struct nb_bytes *value)
{
    if (i >= http->header_count) {
        return false;
    }
    *name = http->headers[i].name;
    *value = http->headers[i].value;
    return true;
}

struct rpc_conn *rpc_http_conn(const struct rpc_http *http)
{
    return http->owner->conn;
}

void *rpc_http_user(const struct rpc_http *http)
{
    return http->user;
}

void rpc_http_set_user(struct rpc_http *http, void *user)
{
    http->user = user;
}

bool rpc_query_get(struct nb_bytes query, const char *name, size_t nth, struct nb_buf *out)
{
    struct nb_buf key = {0};
    bool found = false;
    while (query.len != 0 && !found) {
        const uint8_t *amp = memchr(query.data, '&', query.len);
        struct nb_bytes pair =
            nb_bytes_of(query.data, amp == NULL ? query.len : (size_t)(amp - query.data));
        query = nb_bytes_from(query, amp == NULL ? query.len : pair.len + 1);
        const uint8_t *equals = pair.len == 0 ? NULL : memchr(pair.data, '=', pair.len);
        size_t key_len = equals == NULL ? pair.len : (size_t)(equals - pair.data);
        nb_buf_clear(&key);
        rpc_percent_decode(nb_bytes_of(pair.data, key_len), &key);
        if (nb_bytes_equal(nb_buf_bytes(&key), nb_bytes_str(name)) && nth-- == 0) {
            nb_buf_clear(&key); /* now the raw value, with its plus signs turned to blanks */
            nb_buf_append_bytes(&key, nb_bytes_from(pair, equals == NULL ? pair.len : key_len + 1));
            for (size_t i = 0; i < key.len; i++) {
                key.data[i] = key.data[i] == '+' ? ' ' : key.data[i];
            }
            rpc_percent_decode(nb_buf_bytes(&key), out);
            found = true;
        }
    }
    nb_buf_deinit(&key);
    return found;
}

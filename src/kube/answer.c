#include "kube/answer.h"

static int on_body(http_parser *parser, const char *at, size_t len)
{
    struct kube_answer *a = parser->data;
    if (len > KUBE_ANSWER_SIZE_MAX - a->body.len) {
        a->too_large = true;
        return 1;
    }
    nb_buf_append(&a->body, (const uint8_t *)at, len);
    return 0;
}

static int on_complete(http_parser *parser)
{
    struct kube_answer *a = parser->data;
    a->whole = true;
    http_parser_pause(parser, 1); /* [W2] */
    return 0;
}

static const http_parser_settings settings = {.on_body = on_body,
                                              .on_message_complete = on_complete};

void kube_answer_begin(struct kube_answer *a)
{
    nb_buf_clear(&a->body);
    a->whole = a->too_large = false;
    http_parser_init(&a->parser, HTTP_RESPONSE);
    a->parser.data = a;
}

void kube_answer_deinit(struct kube_answer *a)
{
    nb_buf_deinit(&a->body);
}

enum nb_status kube_answer_feed(struct kube_answer *a, struct nb_bytes plain)
{
    nb_assert(!a->whole && !a->too_large);
    if (plain.len == 0) {
        return NB_OK; /* to the parser it would mean the end */
    }
    size_t used = http_parser_execute(&a->parser, &settings, (const char *)plain.data, plain.len);
    if (a->whole) {
        return NB_OK;
    }
    if (a->too_large) {
        return NB_TOO_LARGE;
    }
    bool good = used == plain.len && HTTP_PARSER_ERRNO(&a->parser) == HPE_OK;
    return good ? NB_OK : NB_MALFORMED;
}

enum nb_status kube_answer_end(struct kube_answer *a)
{
    if (!a->whole) {
        (void)http_parser_execute(&a->parser, &settings, NULL, 0);
    }
    return a->whole ? NB_OK : NB_CLOSED;
}

unsigned kube_answer_code(const struct kube_answer *a)
{
    return a->parser.status_code;
}

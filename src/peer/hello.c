#include "peer/hello.h"

#include <string.h>

enum {
    FIXED_SIZE = 60,
    FLAG_FRESH = 1,
};

static const char magic[6] = "NABATA";

static_assert(FIXED_SIZE + 2 + PEER_NAME_SIZE_MAX + PEER_VERSION_SIZE_MAX + 2 +
                      PEER_CARD_SIZE_MAX <=
                  PEER_HELLO_SIZE_MAX,
              "the longest hello fits the bound of the handshake");
static_assert(PEER_CARD_SIZE_MAX <= UINT16_MAX, "its length has two bytes");

static const char *const refusal_names[PEER_REFUSAL_COUNT] = {
    [PEER_REFUSAL_NONE] = "accepted",
    [PEER_REFUSAL_CLUSTER] = "cluster ID mismatch",
    [PEER_REFUSAL_TO] = "member ID mismatch",
    [PEER_REFUSAL_UNKNOWN] = "unknown member",
    [PEER_REFUSAL_REMOVED] = "the member has been permanently removed from the cluster",
    [PEER_REFUSAL_DUPLICATE] = "another process with this member ID is alive",
    [PEER_REFUSAL_STALE_BOOT] = "a later start of this member was seen: this is an old copy",
    [PEER_REFUSAL_VERSION] = "protocol version not supported",
    [PEER_REFUSAL_NO_CLUSTER] = "not in a cluster yet",
    [PEER_REFUSAL_BUSY] = "busy",
    [PEER_REFUSAL_OTHER] = "refused",
};

const char *peer_refusal_name(enum peer_refusal_code code)
{
    return code < PEER_REFUSAL_COUNT ? refusal_names[code] : refusal_names[PEER_REFUSAL_OTHER];
}

const char *peer_channel_name(enum peer_channel channel)
{
    static const char *const names[PEER_CHANNEL_COUNT] = {"control", "log", "snapshot", "probe"};
    return channel < PEER_CHANNEL_COUNT ? names[channel] : "?";
}

const char *peer_down_name(enum peer_down_reason reason)
{
    static const char *const names[PEER_DOWN_REASON_COUNT] = {
        "EOF", "connection reset", "connection refused", "timed out", "protocol error"};
    return reason < PEER_DOWN_REASON_COUNT ? names[reason] : "?";
}

static void put_short_text(struct nb_buf *to, const char *text)
{
    size_t len = strlen(text);
    uint8_t len_byte = (uint8_t)(len > UINT8_MAX ? UINT8_MAX : len);
    nb_buf_append(to, &len_byte, 1);
    nb_buf_append(to, text, len_byte);
}

void peer_hello_encode(const struct peer_hello *h, struct nb_buf *to)
{
    nb_assert(h->card.len <= PEER_CARD_SIZE_MAX);
    uint8_t *fixed = nb_buf_extend(to, FIXED_SIZE);
    memset(fixed, 0, FIXED_SIZE);
    memcpy(fixed, magic, sizeof magic);
    nb_put_u16(fixed + 6, (uint16_t)h->protocol_version);
    fixed[8] = (uint8_t)h->channel;
    fixed[9] = h->fresh ? FLAG_FRESH : 0;
    nb_put_u16(fixed + 10, h->listen_port);
    nb_put_u64(fixed + 12, h->cluster_id);
    nb_put_u64(fixed + 20, h->from);
    nb_put_u64(fixed + 28, h->to);
    nb_put_u64(fixed + 36, h->boot_id);
    nb_put_u64(fixed + 44, h->boot_count);
    nb_put_u64(fixed + 52, h->seen_boot_count);
    put_short_text(to, h->name);
    put_short_text(to, h->version);
    nb_put_u16(nb_buf_extend(to, 2), (uint16_t)h->card.len);
    nb_buf_append_bytes(to, h->card);
}

/* Takes a text with a length byte off the front; bytes a line cannot show become '?'. */
static bool take_short_text(struct nb_bytes *from, char *to, size_t size_max)
{
    if (from->len == 0 || from->len - 1 < from->data[0] || from->data[0] > size_max) {
        return false;
    }
    size_t len = from->data[0];
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = from->data[1 + i];
        to[i] = (char)(byte < 0x20 || byte == 0x7f ? '?' : byte);
    }
    to[len] = 0;
    *from = nb_bytes_from(*from, 1 + len);
    return true;
}

enum nb_status peer_hello_decode(struct nb_bytes from, struct peer_hello *out)
{
    if (from.len < FIXED_SIZE || memcmp(from.data, magic, sizeof magic) != 0) {
        return NB_MALFORMED;
    }
    const uint8_t *fixed = from.data;
    struct peer_hello h = {.protocol_version = nb_get_u16(fixed + 6)};
    if (h.protocol_version != PEER_PROTOCOL_VERSION) {
        *out = h;
        return NB_VERSION;
    }
    h.channel = (enum peer_channel)fixed[8];
    h.fresh = (fixed[9] & FLAG_FRESH) != 0;
    h.listen_port = nb_get_u16(fixed + 10);
    h.cluster_id = nb_get_u64(fixed + 12);
    h.from = nb_get_u64(fixed + 20);
    h.to = nb_get_u64(fixed + 28);
    h.boot_id = nb_get_u64(fixed + 36);
    h.boot_count = nb_get_u64(fixed + 44);
    h.seen_boot_count = nb_get_u64(fixed + 52);
    if (fixed[8] >= PEER_CHANNEL_COUNT || h.from == 0 || h.boot_id == 0 || h.boot_count == 0) {
        return NB_MALFORMED;
    }
    struct nb_bytes rest = nb_bytes_from(from, FIXED_SIZE);
    if (!take_short_text(&rest, h.name, PEER_NAME_SIZE_MAX) ||
        !take_short_text(&rest, h.version, PEER_VERSION_SIZE_MAX) || rest.len < 2) {
        return NB_MALFORMED;
    }
    size_t card_size = nb_get_u16(rest.data);
    if (card_size > PEER_CARD_SIZE_MAX || card_size > rest.len - 2) {
        return NB_MALFORMED;
    }
    h.card = nb_bytes_of(rest.data + 2, card_size);
    *out = h;
    return NB_OK;
}

void peer_refusal_encode(const struct peer_refusal *r, struct nb_buf *to)
{
    uint8_t *fixed = nb_buf_extend(to, 9);
    fixed[0] = (uint8_t)r->code;
    nb_put_u64(fixed + 1, r->seen_boot_count);
    put_short_text(to, r->text[0] != 0 ? r->text : peer_refusal_name(r->code));
}

enum nb_status peer_refusal_decode(struct nb_bytes from, struct peer_refusal *out)
{
    if (from.len < 9) {
        return NB_MALFORMED;
    }
    struct peer_refusal r = {.code = (enum peer_refusal_code)from.data[0],
                             .seen_boot_count = nb_get_u64(from.data + 1)};
    if (from.data[0] == PEER_REFUSAL_NONE || from.data[0] >= PEER_REFUSAL_COUNT) {
        r.code = PEER_REFUSAL_OTHER;
    }
    struct nb_bytes rest = nb_bytes_from(from, 9);
    if (!take_short_text(&rest, r.text, sizeof r.text - 1)) {
        return NB_MALFORMED;
    }
    *out = r;
    return NB_OK;
}

#include "peer/frame.h"

#include "base/checksum.h"

#include <string.h>

enum {
    CHECKED_SIZE = 8,             /* the part of the header under the checksum */
    KEPT_CAPACITY_MAX = 2u << 20, /* a buffer larger than this is not kept for the next frame */
};

static uint32_t frame_crc(const uint8_t *header, const uint8_t *payload, size_t size)
{
    uint32_t crc = nb_crc32c(0, header, CHECKED_SIZE);
    return size == 0 ? crc : nb_crc32c(crc, payload, size);
}

/* What the first 12 bytes say, before anything is believed by them. */
static enum nb_status check_header(struct peer_frame_reader *r, const uint8_t *header)
{
    memcpy(r->head, header, PEER_FRAME_HEADER_SIZE);
    if (nb_get_u32(header) > r->payload_size_max) {
        return NB_TOO_LARGE;
    }
    if (header[4] == 0 || header[4] >= PEER_FRAME_TYPE_COUNT || header[5] != 0 || header[6] != 0 ||
        header[7] != 0) {
        return NB_MALFORMED;
    }
    return NB_OK;
}

static enum nb_status take_frame(const uint8_t *header, struct peer_frame *out)
{
    size_t size = nb_get_u32(header);
    const uint8_t *payload = header + PEER_FRAME_HEADER_SIZE;
    if (frame_crc(header, payload, size) != nb_get_u32(header + CHECKED_SIZE)) {
        return NB_CORRUPT;
    }
    *out = (struct peer_frame){.type = (enum peer_frame_type)header[4],
                               .payload = nb_bytes_of(payload, size)};
    return NB_OK;
}

/* Moves bytes from the input until `partial` holds `size`. */
static bool gather(struct peer_frame_reader *r, struct nb_bytes *input, size_t size)
{
    size_t missing = size - r->partial.len;
    size_t taken = missing < input->len ? missing : input->len;
    if (taken != 0) {
        nb_buf_append(&r->partial, input->data, taken);
        *input = nb_bytes_from(*input, taken);
    }
    return taken == missing;
}

static enum nb_status next_gathered(struct peer_frame_reader *r, struct nb_bytes *input,
                                    struct peer_frame *out)
{
    if (r->partial.len < PEER_FRAME_HEADER_SIZE && !gather(r, input, PEER_FRAME_HEADER_SIZE)) {
        return NB_TRUNCATED;
    }
    enum nb_status status = check_header(r, r->partial.data);
    if (status != NB_OK) {
        return status;
    }
    if (!gather(r, input, PEER_FRAME_HEADER_SIZE + nb_get_u32(r->partial.data))) {
        return NB_TRUNCATED;
    }
    r->partial_taken = true;
    return take_frame(r->partial.data, out);
}

enum nb_status peer_frame_next(struct peer_frame_reader *r, struct nb_bytes *input,
                               struct peer_frame *out)
{
    if (r->partial_taken) {
        r->partial_taken = false;
        nb_buf_clear(&r->partial);
        if (r->partial.capacity > KEPT_CAPACITY_MAX) {
            nb_buf_deinit(&r->partial);
        }
    }
    if (r->partial.len != 0 || input->len < PEER_FRAME_HEADER_SIZE) {
        return next_gathered(r, input, out);
    }
    enum nb_status status = check_header(r, input->data);
    if (status != NB_OK) {
        return status;
    }
    size_t size = PEER_FRAME_HEADER_SIZE + (size_t)nb_get_u32(input->data);
    if (input->len < size) {
        return next_gathered(r, input, out);
    }
    const uint8_t *header = input->data;
    *input = nb_bytes_from(*input, size);
    return take_frame(header, out);
}

void peer_frame_reader_trim(struct peer_frame_reader *r)
{
    if (r->partial_taken || r->partial.len == 0) {
        peer_frame_reader_deinit(r);
    }
}

void peer_frame_reader_deinit(struct peer_frame_reader *r)
{
    nb_buf_deinit(&r->partial);
    r->partial_taken = false;
}

size_t peer_frame_begin(struct nb_buf *to)
{
    size_t begin = to->len;
    memset(nb_buf_extend(to, PEER_FRAME_HEADER_SIZE), 0, PEER_FRAME_HEADER_SIZE);
    return begin;
}

void peer_frame_seal(uint8_t *header, enum peer_frame_type type, size_t payload_size)
{
    nb_assert(payload_size <= UINT32_MAX);
    nb_put_u32(header, (uint32_t)payload_size);
    nb_put_u32(header + 4, (uint32_t)type); /* and three bytes of 0 */
    nb_put_u32(header + CHECKED_SIZE,
               frame_crc(header, header + PEER_FRAME_HEADER_SIZE, payload_size));
}

void peer_frame_end(struct nb_buf *to, size_t begin, enum peer_frame_type type)
{
    nb_assert(begin + PEER_FRAME_HEADER_SIZE <= to->len);
    peer_frame_seal(to->data + begin, type, to->len - begin - PEER_FRAME_HEADER_SIZE);
}

void peer_status_put(struct nb_buf *to, enum nb_status status)
{
    struct nb_bytes name = nb_bytes_str(nb_status_name(status));
    nb_assert(name.len <= UINT8_MAX);
    uint8_t len = (uint8_t)name.len;
    nb_buf_append(to, &len, 1);
    nb_buf_append_bytes(to, name);
}

bool peer_status_take(struct nb_bytes *from, enum nb_status *out)
{
    if (from->len == 0 || from->len - 1 < from->data[0]) {
        return false;
    }
    struct nb_bytes name = nb_bytes_of(from->data + 1, from->data[0]);
    *from = nb_bytes_from(*from, 1 + name.len);
    *out = NB_IO;
    for (int i = 0; i < NB_STATUS_COUNT; i++) {
        if (nb_bytes_equal(name, nb_bytes_str(nb_status_name((enum nb_status)i)))) {
            *out = (enum nb_status)i;
        }
    }
    return true;
}

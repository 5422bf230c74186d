#include "steward/card.h"

#include "base/wire.h"

#include <string.h>

enum {
    CARD_SLOT = 1,
    CARD_ORDINAL,
    CARD_STATE,
    CARD_PEER_URL,
    CARD_CLIENT_URL,
    CARD_CLUSTER,
    CARD_MEMBER,
    CARD_LEADER,
    CARD_LEADER_SLOT,
    CARD_YOU_ARE_MEMBER,
    CARD_YOU_WERE_REMOVED,
    CARD_WORDS,
    CARD_MEMBERS,
};

enum { CALL_KIND = 1, CALL_SLOT, CALL_BOOT };
enum { ANSWER_GRANTED = 1, ANSWER_WORDS };

enum { FIELD_HEADER_SIZE_MAX = 8 };

static void put_text(struct nb_buf *to, uint32_t number, const char *text)
{
    nb_wire_bytes_field(to, number, nb_bytes_str(text));
}

/* Text without bytes of 0, cut by nothing. */
static enum nb_status take_text(struct nb_bytes from, char *to, size_t size_max)
{
    if (from.len > size_max || (from.len != 0 && memchr(from.data, 0, from.len) != NULL)) {
        return NB_MALFORMED;
    }
    if (from.len != 0) {
        memcpy(to, from.data, from.len);
    }
    to[from.len] = '\0';
    return NB_OK;
}

/* ---- cards ---- */

/* Appends the members with this learner mark as long as all stays within `room`. */
static void put_members(const struct machine_members *members, bool learners, size_t room,
                        struct nb_buf *to)
{
    struct nb_buf one = {0};
    for (size_t i = 0; i < members->count; i++) {
        struct machine_member m = members->items[i];
        if (m.is_learner != learners) {
            continue;
        }
        m.client_url_count = 0;
        nb_buf_clear(&one);
        machine_member_encode(&m, &one);
        if (to->len + one.len + FIELD_HEADER_SIZE_MAX <= room) {
            nb_wire_bytes(to, 1, nb_buf_bytes(&one));
        }
    }
    nb_buf_deinit(&one);
}

void steward_card_encode(const struct steward_card *card, const struct machine_members *members,
                         struct nb_buf *to)
{
    size_t begin = to->len;
    put_text(to, CARD_SLOT, card->slot);
    nb_wire_varint_field(to, CARD_ORDINAL, card->ordinal);
    nb_wire_varint_field(to, CARD_STATE, (uint64_t)card->state);
    put_text(to, CARD_PEER_URL, card->peer_url);
    put_text(to, CARD_CLIENT_URL, card->client_url);
    nb_wire_varint_field(to, CARD_CLUSTER, card->cluster_id);
    nb_wire_varint_field(to, CARD_MEMBER, card->member_id);
    nb_wire_varint_field(to, CARD_LEADER, card->leader_id);
    put_text(to, CARD_LEADER_SLOT, card->leader_slot);
    nb_wire_varint_field(to, CARD_YOU_ARE_MEMBER, card->you_are_member);
    nb_wire_varint_field(to, CARD_YOU_WERE_REMOVED, card->you_were_removed);
    put_text(to, CARD_WORDS, card->words);
    if (members != NULL) {
        size_t used = to->len - begin + FIELD_HEADER_SIZE_MAX;
        size_t room = STEWARD_CARD_SIZE_MAX - used;
        struct nb_buf list = {0};
        put_members(members, false, room, &list);
        put_members(members, true, room, &list);
        nb_wire_bytes_field(to, CARD_MEMBERS, nb_buf_bytes(&list));
        nb_buf_deinit(&list);
    }
    nb_assert(to->len - begin <= STEWARD_CARD_SIZE_MAX);
}

static enum nb_status take_card_text(const struct nb_wire_field *f, struct steward_card *card)
{
    switch (f->number) {
    case CARD_SLOT:
        return take_text(f->bytes, card->slot, STEWARD_SLOT_SIZE_MAX);
    case CARD_PEER_URL:
        return take_text(f->bytes, card->peer_url, STEWARD_URL_SIZE_MAX);
    case CARD_CLIENT_URL:
        return take_text(f->bytes, card->client_url, STEWARD_URL_SIZE_MAX);
    case CARD_LEADER_SLOT:
        return take_text(f->bytes, card->leader_slot, STEWARD_SLOT_SIZE_MAX);
    case CARD_WORDS:
        return take_text(f->bytes, card->words, STEWARD_WORDS_SIZE_MAX);
    case CARD_MEMBERS:
        card->members = f->bytes;
        return NB_OK;
    default:
        return NB_OK;
    }
}

static enum nb_status take_card_number(const struct nb_wire_field *f, struct steward_card *card)
{
    switch (f->number) {
    case CARD_ORDINAL:
        if (f->value > STEWARD_ORDINAL_MAX) {
            return NB_MALFORMED;
        }
        card->ordinal = (uint32_t)f->value;
        return NB_OK;
    case CARD_STATE:
        if (f->value == 0 || f->value >= STEWARD_STATE_END) {
            return NB_MALFORMED;
        }
        card->state = (enum steward_state)f->value;
        return NB_OK;
    case CARD_CLUSTER:
        card->cluster_id = f->value;
        return NB_OK;
    case CARD_MEMBER:
        card->member_id = f->value;
        return NB_OK;
    case CARD_LEADER:
        card->leader_id = f->value;
        return NB_OK;
    case CARD_YOU_ARE_MEMBER:
        card->you_are_member = f->value != 0;
        return NB_OK;
    case CARD_YOU_WERE_REMOVED:
        card->you_were_removed = f->value != 0;
        return NB_OK;
    default:
        return NB_OK;
    }
}

enum nb_status steward_card_decode(struct nb_bytes from, struct steward_card *out)
{
    struct nb_wire_reader r = nb_wire_reader_of(from);
    struct steward_card card = {0};
    while (nb_wire_more(&r)) {
        struct nb_wire_field f;
        enum nb_status status = nb_wire_next(&r, &f);
        if (status == NB_OK && f.type == NB_WIRE_BYTES) {
            status = take_card_text(&f, &card);
        } else if (status == NB_OK && f.type == NB_WIRE_VARINT) {
            status = take_card_number(&f, &card);
        }
        if (status != NB_OK) {
            return status;
        }
    }
    /* Who holds nothing can be in no cluster, and the other way round. */
    if (card.state == 0 || card.member_id == 0 || card.slot[0] == '\0' ||
        (card.state == STEWARD_EMPTY) != (card.cluster_id == 0)) {
        return NB_MALFORMED;
    }
    *out = card;
    return NB_OK;
}

/* ---- calls ---- */

bool steward_call_is(struct nb_bytes from)
{
    return from.len != 0 && from.data[0] == STEWARD_CALL_TAG;
}

void steward_call_encode(const struct steward_call *call, struct nb_buf *to)
{
    uint8_t tag = STEWARD_CALL_TAG;
    nb_buf_append(to, &tag, 1);
    nb_wire_varint_field(to, CALL_KIND, (uint64_t)call->kind);
    put_text(to, CALL_SLOT, call->slot);
    nb_wire_varint_field(to, CALL_BOOT, call->boot_id);
}

enum nb_status steward_call_decode(struct nb_bytes from, struct steward_call *out)
{
    if (!steward_call_is(from)) {
        return NB_MALFORMED;
    }
    struct nb_wire_reader r = nb_wire_reader_of(nb_bytes_from(from, 1));
    struct steward_call call = {0};
    while (nb_wire_more(&r)) {
        struct nb_wire_field f;
        enum nb_status status = nb_wire_next(&r, &f);
        if (status == NB_OK && f.type == NB_WIRE_VARINT && f.number == CALL_KIND) {
            status = f.value == 0 || f.value >= STEWARD_CALL_END ? NB_MALFORMED : NB_OK;
            call.kind = status == NB_OK ? (enum steward_call_kind)f.value : call.kind;
        } else if (status == NB_OK && f.type == NB_WIRE_VARINT && f.number == CALL_BOOT) {
            call.boot_id = f.value;
        } else if (status == NB_OK && f.type == NB_WIRE_BYTES && f.number == CALL_SLOT) {
            status = take_text(f.bytes, call.slot, STEWARD_SLOT_SIZE_MAX);
        }
        if (status != NB_OK) {
            return status;
        }
    }
    if (call.kind == 0) {
        return NB_MALFORMED;
    }
    *out = call;
    return NB_OK;
}

void steward_answer_encode(const struct steward_answer *answer, struct nb_buf *to)
{
    nb_wire_varint_field(to, ANSWER_GRANTED, answer->granted);
    put_text(to, ANSWER_WORDS, answer->words);
}

enum nb_status steward_answer_decode(struct nb_bytes from, struct steward_answer *out)
{
    struct nb_wire_reader r = nb_wire_reader_of(from);
    struct steward_answer answer = {0};
    while (nb_wire_more(&r)) {
        struct nb_wire_field f;
        enum nb_status status = nb_wire_next(&r, &f);
        if (status == NB_OK && f.type == NB_WIRE_VARINT && f.number == ANSWER_GRANTED) {
            answer.granted = f.value != 0;
        } else if (status == NB_OK && f.type == NB_WIRE_BYTES && f.number == ANSWER_WORDS) {
            status = take_text(f.bytes, answer.words, STEWARD_WORDS_SIZE_MAX);
        }
        if (status != NB_OK) {
            return status;
        }
    }
    *out = answer;
    return NB_OK;
}

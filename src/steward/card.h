/*
 * steward/card: what pods tell each other: a card in every hello and probe, and small calls between
 * members.
 *
 * Protobuf fields, so that a later version can add some; unknown ones are skipped. Decoding is
 * total: any bytes give a card or NB_MALFORMED; texts are cut off by nothing, one that is too long
 * is malformed.
 *
 *   card   1 slot  2 ordinal  3 state  4 peer URL  5 client URL  6 cluster  7 member id
 *          8 leader's id  9 leader's slot  10 you are a member  11 you were removed
 *          12 why you are not let in yet  13 members (machine_members_encode, client URLs left out)
 *   call   (behind a byte of STEWARD_CALL_TAG) 1 kind  2 slot  3 boot id
 *   answer 1 granted  2 why not
 */
#ifndef NABATA_STEWARD_CARD_H
#define NABATA_STEWARD_CARD_H

#include "steward/pod.h"

enum { STEWARD_CARD_SIZE_MAX = 60000, STEWARD_WORDS_SIZE_MAX = 200 };

/* On the wire: numbers stay. */
enum steward_state {
    STEWARD_EMPTY = 1,   /* in no cluster, nothing stored */
    STEWARD_JOINING = 2, /* has a cluster, and nothing of its log yet */
    STEWARD_MEMBER = 3,
    STEWARD_STATE_END
};

struct steward_card {
    char slot[STEWARD_SLOT_SIZE_MAX + 1];
    uint32_t ordinal;
    enum steward_state state;
    char peer_url[STEWARD_URL_SIZE_MAX + 1];
    char client_url[STEWARD_URL_SIZE_MAX + 1];
    uint64_t cluster_id, member_id; /* cluster 0: none */
    /* In answers of members only: */
    uint64_t leader_id; /* 0: none known */
    char leader_slot[STEWARD_SLOT_SIZE_MAX + 1];
    bool you_are_member, you_were_removed;
    char words[STEWARD_WORDS_SIZE_MAX + 1]; /* why you are not let in yet; of a leader */
    struct nb_bytes members; /* of machine_members_apply; borrowed from what was decoded */
};

/* Appends at most STEWARD_CARD_SIZE_MAX bytes. `members` (may be NULL) are added as far as they
 * fit, those that vote first. */
void steward_card_encode(const struct steward_card *card, const struct machine_members *members,
                         struct nb_buf *to);
NB_MUST_USE enum nb_status steward_card_decode(struct nb_bytes from, struct steward_card *out);

/* The first byte of a call, which tells it from calls of others. */
enum { STEWARD_CALL_TAG = 0x53 };

/* On the wire: numbers stay. */
enum steward_call_kind {
    STEWARD_MAY_STOP = 1, /* to the leader: a restart, may I? */
    STEWARD_LEAVE = 2,    /* to the leader: scaled down, take me out for good */
    STEWARD_STOPPING = 3, /* to all: I was given leave and go now */
    STEWARD_CALL_END
};

struct steward_call {
    enum steward_call_kind kind;
    char slot[STEWARD_SLOT_SIZE_MAX + 1];
    uint64_t boot_id; /* of the asker */
};

/* A call of this kind, by its first byte. */
bool steward_call_is(struct nb_bytes from);
void steward_call_encode(const struct steward_call *call, struct nb_buf *to);
NB_MUST_USE enum nb_status steward_call_decode(struct nb_bytes from, struct steward_call *out);

struct steward_answer {
    bool granted;
    char words[STEWARD_WORDS_SIZE_MAX + 1];
};

void steward_answer_encode(const struct steward_answer *answer, struct nb_buf *to);
NB_MUST_USE enum nb_status steward_answer_decode(struct nb_bytes from, struct steward_answer *out);

#endif

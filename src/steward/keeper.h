/*
 * steward/keeper: the leader's care for who is a member: joins, promotions, replacements, leaving,
 * scale-down.
 *
 * Pure: facts of this moment go in, at most one action comes out; what it remembers between
 * (wishes, leaves, how long something has been so) is in the struct and is lost with the
 * leadership, which costs time and no safety: every rule is judged by present facts.
 *
 * Invariants:
 *   S1  one change at a time: no action while one is in flight [M02]; one catch-up at a time
 *   S2  no action leaves fewer connected voters than a majority of the new set, or no voter [M06,
 *       M07]; the new voter of a replacement counts, the dead one does not hinder
 *   S3  nobody becomes a voter that has not started and caught up for some rounds [M05]
 *   S4  the id in the configuration keeps its slot while it is connected; a second process is
 *       refused with a word [K05]
 *   S5  replicas 0, a deletion or an API that does not answer removes nobody; members that are no
 *       pods of this set are never touched
 *   S6  an id that was removed is never added again [M08]
 */
#ifndef NABATA_STEWARD_KEEPER_H
#define NABATA_STEWARD_KEEPER_H

#include "steward/founding.h"

enum { STEWARD_WISH_COUNT_MAX = 32 };

struct steward_limits {
    uint64_t dead_ns;         /* a slot's id is dead after this silence: 10 s */
    uint64_t backstop_ns;     /* out of range and silent: 30 s, in two reads of the API */
    uint64_t learner_ns;      /* a learner whose process is gone is dropped: 60 s */
    uint64_t wish_ns;         /* a wish is forgotten when not repeated: 3 s */
    uint64_t gather_ns;       /* leaves of one scale-down come together: 300 ms */
    uint64_t lag_entries_max; /* "caught up": no further behind: 64 */
    unsigned rounds;          /* ... for this many rounds: 3 */
};

void steward_limits_defaults(struct steward_limits *limits);

/* How a member is, as its leader sees it now. */
struct steward_fact {
    uint64_t id;
    bool connected;       /* a connection is up in at least one direction, or it is us */
    bool lost;            /* at its address nobody listens, or somebody else does */
    uint64_t silent_ns;   /* since it was last heard, or since we became leader; 0 when connected */
    uint64_t match_index; /* what its log is known to hold durably */
    uint64_t boot_id;     /* 0: not known */
};

struct steward_facts {
    uint64_t now_ns;
    uint64_t self_id;
    bool in_flight; /* a change of members is under way, or the leader cannot make one yet */
    uint64_t commit_index;
    const struct machine_members *members;
    const struct steward_fact *items; /* one a member; order does not matter */
    size_t count;
    struct steward_scale scale;
    uint64_t scale_reads; /* how often the API has answered so far */
};

enum steward_action_kind {
    STEWARD_REST,
    STEWARD_ADD_LEARNER,
    STEWARD_PROMOTE,
    STEWARD_REPLACE,   /* promotes `id` and drops the dead `other_id` in one change */
    STEWARD_REMOVE,    /* those that asked to leave, or out of range, or a lost learner */
    STEWARD_HAND_OVER, /* we are to leave: leadership to `id` first */
};

struct steward_action {
    enum steward_action_kind kind;
    uint64_t id, other_id;
    struct machine_members target; /* the whole set afterwards; owned, empty for HAND_OVER */
    char words[STEWARD_WORDS_SIZE_MAX + 1]; /* what and why, for the log */
};

void steward_action_deinit(struct steward_action *action);

struct steward_wish {
    uint64_t id;
    uint32_t ordinal;
    char slot[STEWARD_SLOT_SIZE_MAX + 1];
    char peer_url[STEWARD_URL_SIZE_MAX + 1];
    char client_url[STEWARD_URL_SIZE_MAX + 1];
    uint64_t heard_ns;
};

struct steward_leave {
    uint64_t id, asked_ns;
};

/* What is known of one member over time. */
struct steward_note {
    uint64_t id;
    unsigned rounds;               /* a learner that was caught up, in a row */
    uint64_t out_reads, out_since; /* reads of the API that had it out of range and silent */
};

struct steward_keeper {
    char set[STEWARD_SLOT_SIZE_MAX + 1];
    struct steward_limits limits;
    struct steward_wish wishes[STEWARD_WISH_COUNT_MAX];
    size_t wish_count;
    struct steward_leave leaves[MACHINE_MEMBER_COUNT_MAX];
    size_t leave_count;
    struct steward_note notes[MACHINE_MEMBER_COUNT_MAX];
    size_t note_count;
};

/* `limits` NULL: the defaults. No deinit: it owns nothing. */
void steward_keeper_init(struct steward_keeper *k, const char *set,
                         const struct steward_limits *limits);
/* Forgets all: leadership was lost or won. */
void steward_keeper_reset(struct steward_keeper *k);

/*
 * A pod's probe came, with its card, and it is in no cluster: it wants to join. Remembers it when
 * the slot is one of ours and not another's; `words` gets why it is not let in at once (always some
 * text). Never in the way of a member: a wish of a known id does nothing.
 */
void steward_keeper_wish(struct steward_keeper *k, const struct steward_facts *facts,
                         const struct steward_card *card, char words[STEWARD_WORDS_SIZE_MAX + 1]);

/* Member `id` was scaled down and asks to leave. Asking again changes nothing. */
void steward_keeper_leave(struct steward_keeper *k, uint64_t id, uint64_t now_ns);

/* One round: what is to be done now. `out` needs steward_action_deinit. */
void steward_keeper_turn(struct steward_keeper *k, const struct steward_facts *facts,
                         struct steward_action *out);

#endif

/*
 * peer: replica-to-replica transport: who is at the other end, messages in order, snapshots beside
 * them.
 *
 * Each member dials every other member and sends only on connections it dialled itself; on those it
 * accepted it receives, and answers handshakes, pings, calls and snapshots. Every channel is a TCP
 * connection of its own, so heartbeats queue behind nothing [E11]:
 *
 *   control   heartbeats, votes, read index, all results; pings; calls
 *   log       appends and forwarded proposals, in order
 *   snapshot  one transfer; dialled when asked for
 *   probe     one question to an address whose member is unknown yet (bootstrap, join)
 *
 * Addresses are names that are resolved again at every attempt [K01]; one that does not resolve
 * means "not yet" [K02]. Attempts go on for ever, with back-off and jitter.
 *
 * A hello says the port its sender listens on. Where the newest control connection (or probe) of a
 * member came from, with that port, is one more address of it: dialled at once when it is heard,
 * and first of all after the names gave nothing. So a member that moved is found again while the
 * name servers are behind, or down. The handshake keeps strangers out there as everywhere [M09].
 *
 * Invariants:
 *   P1  a message is handed over only from a connection whose handshake named our cluster, us, and
 *       the member and boot it comes from, and only if its from and to say the same [M09]
 *   P2  at most one boot of a member is listened to at a time; once a boot count was seen, lower
 *       ones and other boots of the same count are refused for good [K05]
 *   P3  no callback comes from within a call on the transport (peer_send, peer_transport_set, ...);
 *       all come from the loop, and any call may be made in them, peer_transport_destroy too
 *   P4  everything has a bound: bytes queued a peer and channel, frame length, connections that
 *       have not said who they are, snapshot bytes in memory, calls, peers
 *   P5  after peer_transport_destroy returns no callback comes
 *
 * Delivery is at most once and in order on one channel while it stays up; nothing is promised
 * across channels or reconnects: raft retries.
 */
#ifndef NABATA_PEER_PEER_H
#define NABATA_PEER_PEER_H

#include "base/bytes.h"
#include "base/log.h"
#include "net/net.h"
#include "raft/raft.h"

enum {
    PEER_PROTOCOL_VERSION = 1,
    PEER_NAME_SIZE_MAX = 255,     /* bytes of a member's name */
    PEER_VERSION_SIZE_MAX = 63,   /* bytes of a binary's version */
    PEER_CARD_SIZE_MAX = 60000,   /* bytes of a card: 32 members with URLs of 1,800 bytes */
    PEER_CALL_SIZE_MAX = 1 << 20, /* bytes of a call, and of its answer */
    PEER_COUNT_MAX = 64,          /* members known to one transport, dialled or only heard from */
    PEER_ADDRESS_COUNT_MAX = 8,   /* addresses of one member */
    PEER_LISTEN_COUNT_MAX = 8,
    PEER_HASH_SIZE = 16, /* XXH3-128 of a snapshot, canonical (big-endian) bytes */
};

struct peer_transport;

enum peer_channel {
    PEER_CHANNEL_CONTROL,
    PEER_CHANNEL_LOG,
    PEER_CHANNEL_SNAPSHOT,
    PEER_CHANNEL_PROBE,
    PEER_CHANNEL_COUNT
};

const char *peer_channel_name(enum peer_channel channel);

/* What one end of a connection says of itself. */
struct peer_hello {
    enum peer_channel channel;
    uint32_t protocol_version;
    uint64_t cluster_id; /* 0: in no cluster yet; then only probes are accepted */
    uint64_t from;       /* who says this; never 0 */
    uint64_t to;         /* who is meant; 0 only in probes */
    uint64_t boot_id;    /* random, drawn at each start of the process */
    uint64_t boot_count; /* starts of this data folder, saved before the first hello */
    bool fresh; /* started with an empty data folder, and has neither voted nor stored anything */
    uint64_t seen_boot_count; /* in an answer: the highest boot count of the asker's earlier boots
                                 that the answerer has seen; 0 is none */
    uint16_t listen_port; /* where others reach who says this; 0 is unknown. Of our own hellos: the
                             port of the first peer_transport_listen */
    char remote[56];      /* the IP the connection of a received hello comes from, as text; "" is
                             unknown. Not on the wire */
    char name[PEER_NAME_SIZE_MAX + 1];
    char version[PEER_VERSION_SIZE_MAX + 1];
    struct nb_bytes card; /* whatever the server wants to tell; borrowed for the callback */
};

/* Why a connection is refused. These are on the wire: numbers stay. */
enum peer_refusal_code {
    PEER_REFUSAL_NONE = 0,
    PEER_REFUSAL_CLUSTER = 1,    /* another cluster [K17] */
    PEER_REFUSAL_TO = 2,         /* meant for another member: the address was reused [M09] */
    PEER_REFUSAL_UNKNOWN = 3,    /* no such member (yet) */
    PEER_REFUSAL_REMOVED = 4,    /* was a member, and never will be again */
    PEER_REFUSAL_DUPLICATE = 5,  /* another process with this identity is alive [K05] */
    PEER_REFUSAL_STALE_BOOT = 6, /* a later boot of this identity was seen: an old copy [K05] */
    PEER_REFUSAL_VERSION = 7,
    PEER_REFUSAL_NO_CLUSTER = 8, /* the answerer is in no cluster yet */
    PEER_REFUSAL_BUSY = 9,       /* a limit; try again */
    PEER_REFUSAL_OTHER = 10,
    PEER_REFUSAL_COUNT
};

const char *peer_refusal_name(enum peer_refusal_code code);

struct peer_refusal {
    enum peer_refusal_code code; /* PEER_REFUSAL_NONE accepts */
    char text[128];              /* for a person; "" is filled in from the code */
    uint64_t seen_boot_count;    /* comes with what the transport has seen; the server may raise it
                                    to what it has on disk */
};

enum peer_down_reason {
    PEER_DOWN_EOF,      /* the other process ended the connection: it exited or was killed */
    PEER_DOWN_RESET,    /* the kernel says so: reset, or sent data was not acknowledged */
    PEER_DOWN_REFUSED,  /* the host answers and nobody listens: the process is gone */
    PEER_DOWN_TIMEOUT,  /* nothing heard for receive_timeout_ns */
    PEER_DOWN_PROTOCOL, /* it sent what makes no sense, or a damaged frame */
    PEER_DOWN_REASON_COUNT
};

const char *peer_down_name(enum peer_down_reason reason);

enum peer_take {
    PEER_TAKE,       /* taken */
    PEER_TAKE_PAUSE, /* taken, but no more until peer_snapshot_resume */
    PEER_TAKE_ABORT, /* refused: the transfer ends, on_snapshot_abort is not called */
};

/* All come from the loop thread, `user` is that of the config. NULL entries are left out, but for
 * on_message. What pointers point to is borrowed for the call. */
struct peer_events {
    /* A message that passed P1, on the control or the log channel. Payloads are borrowed too: raft
     * acquires what it keeps. */
    void (*on_message)(void *user, uint64_t from, const struct raft_msg *msg);

    /* Somebody dialled us. The transport has checked version, cluster, `to` and P2 already (of a
     * probe only the version); `out` comes as "accepted". NULL: members given to
     * peer_transport_set are accepted, others are PEER_REFUSAL_UNKNOWN. */
    void (*on_hello)(void *user, const struct peer_hello *hello, struct peer_refusal *out);
    /* Whether ours went on from that cluster after its quorum was lost [M13]: who still says it
     * belongs there is PEER_REFUSAL_REMOVED. NULL: never. */
    bool (*is_former_cluster)(void *user, uint64_t cluster_id);
    /* Our control connection to `id` is up; `hello` is what it answered. */
    void (*on_up)(void *user, uint64_t id, const struct peer_hello *hello);
    /* An established control connection ended, the one to `id` or the one from it; so twice when a
     * process dies. REFUSED: after such an end the next attempt was refused. Called at once. */
    void (*on_down)(void *user, uint64_t id, enum peer_down_reason reason);
    /* `id` refused us, or we it (peer_status.refused_by_us); once for each change of the code, and
     * again after it had accepted. */
    void (*on_refused)(void *user, uint64_t id, enum peer_refusal_code code, const char *text);
    /* Messages to `id` were thrown away, or may have been: not connected, its queue is full, or the
     * connection of the log's channel ended. At most once in unreachable_interval_ns for each peer.
     */
    void (*on_unreachable)(void *user, uint64_t id);
    void (*on_round_trip)(void *user, uint64_t id, uint64_t round_trip_ns);

    /* A member asks; answer with peer_reply, now or later. NULL: answered NB_UNSUPPORTED. */
    void (*on_call)(void *user, uint64_t from, uint64_t call, struct nb_bytes request);

    /*
     * A snapshot arrives from `from`, in chunks in order, from offset 0 to `total`. `transfer`
     * names it from begin to end and is never used again. Every chunk's checksum has been checked;
     * at the end, the length and the hash of the whole. Then the server makes it durable and tells
     * the sender with peer_snapshot_answer; `announce` (RAFT_MSG_SNAPSHOT with its label) is for
     * raft_step then. on_snapshot_abort: the transfer ended before an answer; drop what came.
     * One transfer a sender: a new one aborts the old.
     */
    bool (*on_snapshot_begin)(void *user, uint64_t from, uint64_t transfer, uint64_t total);
    enum peer_take (*on_snapshot_chunk)(void *user, uint64_t from, uint64_t transfer,
                                        uint64_t offset, uint64_t total, struct nb_bytes bytes);
    void (*on_snapshot_end)(void *user, uint64_t from, uint64_t transfer,
                            const uint8_t hash[PEER_HASH_SIZE], const struct raft_msg *announce);
    void (*on_snapshot_abort)(void *user, uint64_t from, uint64_t transfer, const char *why);
};

/* Start from peer_config_defaults. Strings are copied; loop, logger and events are borrowed until
 * the transport is destroyed. */
struct peer_config {
    struct net_loop *loop;
    const struct nb_logger *logger;
    const struct peer_events *events;
    void *user;

    uint64_t cluster_id; /* 0: none yet, see peer_transport_set_cluster */
    uint64_t member_id;  /* not 0 */
    uint64_t boot_id;    /* not 0 */
    uint64_t boot_count; /* not 0 */
    bool fresh;
    const char *name;
    const char *version;
    struct nb_bytes card; /* copied */

    size_t control_queue_bytes_max; /* 8 MiB */
    size_t log_queue_bytes_max;  /* 64 MiB; a message larger than it goes when the queue is empty */
    size_t message_bytes_max;    /* 64 MiB: longest encoded message, sent or received */
    size_t snapshot_chunk_bytes; /* 64 KiB; at most 1 MiB, so that one is soon dealt with */
    unsigned unauthenticated_count_max; /* 64: connections without a handshake yet */
    uint64_t connect_timeout_ns;        /* 1 s an address */
    uint64_t handshake_timeout_ns;      /* 5 s */
    uint64_t backoff_min_ns;            /* 10 ms */
    uint64_t backoff_max_ns;            /* 1 s */
    uint64_t stable_ns;                 /* 5 s up: back-off starts over */
    uint64_t ping_interval_ns;          /* 1 s */
    uint64_t receive_timeout_ns;        /* 5 s without a byte: the connection is dead */
    uint64_t snapshot_stall_ns;         /* 30 s without progress: the transfer fails */
    uint64_t snapshot_answer_ns;        /* 5 min for the receiver to make it durable */
    uint64_t unreachable_interval_ns;   /* 50 ms */
};

void peer_config_defaults(struct peer_config *config);

/* NB_INVALID for a configuration that makes no sense. Dials and listens to nobody yet. */
NB_MUST_USE enum nb_status peer_transport_create(const struct peer_config *config,
                                                 struct peer_transport **out);
/* Listens on one more address; as net_listener_open. out_port (may be NULL) is the real port. */
NB_MUST_USE enum nb_status peer_transport_listen(struct peer_transport *t,
                                                 const struct net_address *at, uint16_t *out_port,
                                                 struct net_error *error);
/* Ends all: transfers fail without `done`, output already queued is written if it can be at once.
 * NULL is fine. */
void peer_transport_destroy(struct peer_transport *t);

/* We are in this cluster from now on (not 0, and only once, if it was 0 at the start). */
void peer_transport_set_cluster(struct peer_transport *t, uint64_t cluster_id);
/* What later hellos say. */
void peer_transport_set_fresh(struct peer_transport *t, bool fresh);
void peer_transport_set_card(struct peer_transport *t, struct nb_bytes card);

/* Adds a member to dial, or changes its addresses: "http://host:port" or "host:port", tried in
 * turn. A connection that is up stays; a waiting attempt is made at once. No addresses: known, not
 * dialled. NB_INVALID (words in `error`) changes nothing; NB_TOO_LARGE: PEER_COUNT_MAX. */
NB_MUST_USE enum nb_status peer_transport_set(struct peer_transport *t, uint64_t id,
                                              const char *const *addresses, size_t address_count,
                                              struct net_error *error);
/* Forgets a member: what is queued is written if it can be at once, its connections close, its
 * transfers and calls fail. The highest boot count seen of it is forgotten too. */
void peer_transport_remove(struct peer_transport *t, uint64_t id);
/* One more address to dial, as if a hello of `id` had come from there: for who learns it elsewhere,
 * such as from a probe's answer. Ignored when `id` is not known, or `ip` is not numeric. */
void peer_transport_learn(struct peer_transport *t, uint64_t id, const char *ip, uint16_t port);
/* Makes a waiting attempt now, with back-off from the start. */
void peer_transport_reconnect_now(struct peer_transport *t, uint64_t id);

/* Sends `msg` to msg->to on the channel of its type: encoded once, right into the output. Dropped
 * (see on_unreachable) when the channel is down or full, or the member is not known. SNAPSHOT
 * messages go with peer_send_snapshot only. True when queued. */
bool peer_send(struct peer_transport *t, const struct raft_msg *msg);

/*
 * Streams `size` bytes from the start of the file `fd` to `to`, then `announce`
 * (RAFT_MSG_SNAPSHOT). Takes `fd`, also when it fails. `done` comes once, later: NB_OK when the
 * receiver has answered that it is durable there; NB_CLOSED (connection), NB_BUSY (refused for now,
 * timed out), NB_CORRUPT (arrived altered), NB_IO (reading `fd`), NB_CANCELED (removed, or a newer
 * transfer to the same member), NB_TRUNCATED (the file is shorter than `size`), or what the
 * receiver said. Not after destroy. The return is NB_NOT_FOUND when the member is not known or has
 * no address; then there is no `done`. One transfer a member.
 */
NB_MUST_USE enum nb_status
peer_send_snapshot(struct peer_transport *t, uint64_t to, int fd, uint64_t size,
                   const struct raft_msg *announce,
                   void (*done)(void *user, uint64_t to, enum nb_status status), void *user);
/* Bytes of the transfer to `to` that the receiver has confirmed; false when there is none. */
bool peer_snapshot_progress(const struct peer_transport *t, uint64_t to, uint64_t *out_confirmed,
                            uint64_t *out_total);

/* Receiver: goes on after PEER_TAKE_PAUSE. Ignored when the transfer is gone. */
void peer_snapshot_resume(struct peer_transport *t, uint64_t transfer);
/* Receiver, after on_snapshot_end: NB_OK when the snapshot is durable. False when the transfer is
 * gone (the sender will send another). */
bool peer_snapshot_answer(struct peer_transport *t, uint64_t transfer, enum nb_status status);

/* Asks a member something small over the control channel. `done` comes once, later: NB_OK and the
 * answer (borrowed), NB_CLOSED when the channel is or goes down, NB_BUSY when timed out, or the
 * status of peer_reply. Not after destroy. */
void peer_call(struct peer_transport *t, uint64_t to, struct nb_bytes request, uint64_t timeout_ns,
               void (*done)(void *user, enum nb_status status, struct nb_bytes answer), void *user);
/* Answers an on_call; ignored when the asker is gone. */
void peer_reply(struct peer_transport *t, uint64_t call, enum nb_status status,
                struct nb_bytes answer);

/* Asks who is at `address` (text as of peer_transport_set). `done` comes once, later: NB_OK and
 * what it says of itself, its cluster id and card among it; else why not (NB_NOT_FOUND: no such
 * name; NB_CLOSED; NB_BUSY: timed out; NB_ACCESS: refused; NB_INVALID: the text; NB_MALFORMED: not
 * a nabata) and words. Not after destroy. */
void peer_probe(struct peer_transport *t, const char *address, uint64_t timeout_ns,
                void (*done)(void *user, enum nb_status status, const struct peer_hello *answer,
                             const char *error),
                void *user);

/* ---- what metrics and status show ---- */

struct peer_status {
    uint64_t id;
    bool dialled;    /* it has addresses */
    bool control_up; /* our connections to it */
    bool log_up;
    bool heard_up;        /* its control connection to us */
    uint64_t up_since_ns; /* net_now_ns() when control came up, 0 when down */
    uint64_t heard_ns;    /* when anything was last received from it, on any connection; 0 never */
    uint64_t round_trip_ns;       /* last; 0 unknown */
    uint64_t boot_id, boot_count; /* the highest seen; 0 none */
    char name[PEER_NAME_SIZE_MAX + 1];
    char version[PEER_VERSION_SIZE_MAX + 1];
    char learned[64];                    /* "ip:port" that it was last heard from; "" is none */
    size_t queued_bytes;                 /* control and log */
    uint64_t sent_bytes, received_bytes; /* frames, with their headers; snapshots too */
    uint64_t sent_messages, received_messages; /* raft messages */
    uint64_t sent_failures;                    /* messages thrown away */
    uint64_t received_failures;                /* frames or messages that made no sense */
    uint64_t connect_count;                    /* attempts */
    uint64_t down_count;                       /* established control connections that ended */
    enum peer_refusal_code refusal;            /* the last answer to our hello */
    char last_error[256];                      /* why it is not up; "" when it is */
    bool refused_by_us; /* ... and it was this member that refused, at dialling */
};

/* False when not known. */
NB_MUST_USE bool peer_status_of(const struct peer_transport *t, uint64_t id,
                                struct peer_status *out);
/* Ids of all known members, ascending; at most PEER_COUNT_MAX. */
size_t peer_transport_ids(const struct peer_transport *t, uint64_t out[PEER_COUNT_MAX]);

struct peer_transport_counters {
    uint64_t accepted, refused, garbage; /* connections to us: all, refused, not nabata */
    size_t unauthenticated_count;        /* now */
};
void peer_transport_counters(const struct peer_transport *t, struct peer_transport_counters *out);

#endif

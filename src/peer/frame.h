/*
 * peer/frame: the stream between two members, cut into checked pieces.
 *
 *   offset  size
 *        0     4  payload length, little-endian, as all numbers here
 *        4     1  type (enum peer_frame_type)
 *        5     3  zero
 *        8     4  CRC32C of the 8 bytes before and of the payload
 *       12     n  payload
 *
 * The reader takes frames right out of the input where it can; only one that is cut by the end of
 * the input is gathered in a buffer of the reader's own, which grows with what has come and not
 * with what was announced.
 */
#ifndef NABATA_PEER_FRAME_H
#define NABATA_PEER_FRAME_H

#include "base/bytes.h"
#include "base/status.h"

enum { PEER_FRAME_HEADER_SIZE = 12 };

/* On the wire: numbers stay. */
enum peer_frame_type {
    PEER_FRAME_HELLO = 1,
    PEER_FRAME_WELCOME = 2,
    PEER_FRAME_REFUSE = 3,
    PEER_FRAME_PING = 4,               /* u64 clock of the sender */
    PEER_FRAME_PONG = 5,               /* the same u64 */
    PEER_FRAME_MESSAGE = 6,            /* an encoded raft_msg */
    PEER_FRAME_CALL = 7,               /* u64 number, request */
    PEER_FRAME_REPLY = 8,              /* u64 number, status, answer */
    PEER_FRAME_SNAPSHOT_BEGIN = 9,     /* u64 transfer, u64 total */
    PEER_FRAME_SNAPSHOT_CHUNK = 10,    /* u64 transfer, u64 offset, bytes */
    PEER_FRAME_SNAPSHOT_END = 11,      /* u64 transfer, hash, encoded raft_msg */
    PEER_FRAME_SNAPSHOT_PROGRESS = 12, /* u64 transfer, u64 offset */
    PEER_FRAME_SNAPSHOT_RESULT = 13,   /* u64 transfer, status */
    PEER_FRAME_TYPE_COUNT
};

struct peer_frame {
    enum peer_frame_type type;
    struct nb_bytes payload; /* valid until the next call on the reader */
};

/* All zero but for the bound is a reader at the start of a stream. */
struct peer_frame_reader {
    size_t payload_size_max;
    struct nb_buf partial; /* owned: a frame not complete yet, or the one handed out last */
    bool partial_taken;    /* the frame in `partial` was handed out */
    uint8_t head[PEER_FRAME_HEADER_SIZE]; /* of the frame looked at last, for saying what it was */
};

/*
 * Takes the next frame off `input`. NB_TRUNCATED: all of the input is taken, more must come.
 * NB_TOO_LARGE, NB_MALFORMED (unknown type, bytes that must be 0), NB_CORRUPT (checksum): the
 * stream cannot be read any further.
 */
NB_MUST_USE enum nb_status peer_frame_next(struct peer_frame_reader *r, struct nb_bytes *input,
                                           struct peer_frame *out);
/* Gives the buffer back if nothing is in it. */
void peer_frame_reader_trim(struct peer_frame_reader *r);
void peer_frame_reader_deinit(struct peer_frame_reader *r);

/* Appends room for a header; what is appended between this and peer_frame_end is the payload. */
NB_MUST_USE size_t peer_frame_begin(struct nb_buf *to);
void peer_frame_end(struct nb_buf *to, size_t begin, enum peer_frame_type type);
/* Writes the header of a frame whose payload lies right behind it. */
void peer_frame_seal(uint8_t *header, enum peer_frame_type type, size_t payload_size);

/* A status as text ("NB_CORRUPT"), with a length byte: numbers differ between versions. */
void peer_status_put(struct nb_buf *to, enum nb_status status);
/* Takes one off the front; a name that is not known gives NB_IO. False when it is cut short. */
NB_MUST_USE bool peer_status_take(struct nb_bytes *from, enum nb_status *out);

#endif

/*
 * cli/progress: a bar on stderr for work that takes a while; nothing unless stderr is a terminal.
 */
#ifndef NABATA_CLI_PROGRESS_H
#define NABATA_CLI_PROGRESS_H

#include "base/bytes.h"

struct progress {
    const char *label; /* borrowed */
    uint64_t done, total;
    uint64_t drawn_ns; /* when last */
    unsigned width;    /* of the terminal */
    bool shown;        /* stderr is a terminal */
};

void progress_begin(struct progress *p, const char *label, uint64_t total);
/* Draws again if that was not just done. `now_ns` is monotonic. */
void progress_set(struct progress *p, uint64_t done, uint64_t now_ns, const char *note);
/* Wipes the line. */
void progress_end(struct progress *p);

/* The line itself, no longer than `width` columns. */
void progress_line(const struct progress *p, const char *note, struct nb_buf *out);

#endif

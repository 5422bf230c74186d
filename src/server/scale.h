/*
 * server/scale: what the Kubernetes API says of our StatefulSet: asked now and then, remembered for
 * a while. Everything works without it, less what needs it.
 */
#ifndef NABATA_SERVER_SCALE_H
#define NABATA_SERVER_SCALE_H

#include "base/log.h"
#include "net/net.h"
#include "server/statefulset.h"
#include "steward/founding.h"

struct server_scale;

/* All arguments are borrowed. Asks at once, and every 5 s while polling is on, as it is first. */
NB_MUST_USE struct server_scale *server_scale_create(struct net_loop *loop,
                                                     const struct server_statefulset *config,
                                                     const struct nb_logger *log);
void server_scale_destroy(struct server_scale *s); /* NULL is fine */

void server_scale_set_polling(struct server_scale *s, bool on);
/* Asks now. When that has ended, whatever came of it, server_scale_answers is at least what is
 * returned: an answer to what was asked before may have been true only before. */
uint64_t server_scale_ask(struct server_scale *s);
/* The same, but no more often than once a second: something speaks for a change. */
void server_scale_hint(struct server_scale *s);
uint64_t server_scale_answers(const struct server_scale *s);

/* What was read last; `known` is false when that is too old. */
void server_scale_get(const struct server_scale *s, struct steward_scale *out);
/* Good answers so far. */
uint64_t server_scale_reads(const struct server_scale *s);
/* There is an API, and nothing has come of asking it yet; for some seconds at most. */
bool server_scale_is_awaited(const struct server_scale *s);
/* The API's last word was that there is no such StatefulSet (any more). */
bool server_scale_is_gone(const struct server_scale *s);
/* There is an API to ask. */
bool server_scale_has_api(const struct server_scale *s);

/* Writes the cluster's id beside the StatefulSet, unless that was changed since it was read last
 * (then it is read again first); tried now and then, however often it is called. [K07] */
void server_scale_annotate(struct server_scale *s, uint64_t cluster_id);

#endif

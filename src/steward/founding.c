#include "steward/founding.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

uint32_t steward_pods_expected(const struct steward_scale *scale, uint32_t configured)
{
    bool at_least = !scale->known && scale->replicas < configured;
    uint32_t count = at_least ? configured : scale->replicas;
    return count == 0 ? 1 : count;
}

static void say(struct steward_decision *out, const char *format, ...) NB_PRINTF(2, 3);

static void say(struct steward_decision *out, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(out->words, sizeof out->words, format, args);
    va_end(args);
}

static const struct steward_card *card_of(const struct steward_probe *p)
{
    return p->heard == STEWARD_HEARD_CARD ? &p->card : NULL;
}

/* The answer that counts most among those that know a cluster: of the annotated cluster before
 * others, who says we are a member before who does not, who knows a leader before who does not. */
static unsigned weight(const struct steward_search *s, const struct steward_card *card)
{
    bool annotated = s->scale.cluster_id == card->cluster_id;
    return (annotated ? 8u : 0u) + (card->you_are_member ? 4u : 0u) +
           (card->state == STEWARD_MEMBER ? 2u : 0u) + (card->leader_id != 0 ? 1u : 0u);
}

static const struct steward_card *best_of_a_cluster(const struct steward_search *s)
{
    const struct steward_card *best = NULL;
    for (size_t i = 0; i < s->probe_count; i++) {
        const struct steward_card *card = card_of(&s->probes[i]);
        if (card != NULL && card->cluster_id != 0 &&
            (best == NULL || weight(s, card) > weight(s, best) ||
             (weight(s, card) == weight(s, best) && best->words[0] == '\0'))) {
            best = card;
        }
    }
    return best;
}

static bool was_removed(const struct steward_search *s)
{
    for (size_t i = 0; i < s->probe_count; i++) {
        const struct steward_card *card = card_of(&s->probes[i]);
        if (card != NULL && card->state == STEWARD_MEMBER && card->you_were_removed) {
            return true;
        }
    }
    return false;
}

/* There is a cluster: it is joined, or waited for, and no other one is founded. [K07] */
static void decide_to_join(const struct steward_search *s, const struct steward_card *card,
                           struct steward_decision *out)
{
    if (card->state == STEWARD_MEMBER && card->you_are_member) {
        out->move = STEWARD_JOIN;
        out->cluster_id = card->cluster_id;
        out->members = card->members;
        say(out, "%s of cluster %" PRIx64 " says that this is a member", card->slot,
            card->cluster_id);
    } else if (card->words[0] != '\0') {
        say(out, "waits to be let into cluster %" PRIx64 ": %.140s", card->cluster_id, card->words);
    } else if (card->leader_id != 0 && strcmp(card->leader_slot, s->slot) == 0) {
        say(out,
            "%s is held by the leader of cluster %" PRIx64 ", another process, which is connected",
            s->slot, card->cluster_id);
    } else if (card->leader_id != 0) {
        say(out, "waits to be let into cluster %" PRIx64 ", whose leader is %s", card->cluster_id,
            card->leader_slot[0] == '\0' ? "not named" : card->leader_slot);
    } else {
        say(out,
            "%s knows cluster %" PRIx64
            ", which has no leader now; waits for its members to come back",
            card->slot, card->cluster_id);
    }
}

static bool answered_empty(const struct steward_search *s, uint32_t ordinal)
{
    for (size_t i = 0; i < s->probe_count; i++) {
        const struct steward_card *card = card_of(&s->probes[i]);
        if (s->probes[i].ordinal == ordinal && card != NULL && card->ordinal == ordinal &&
            card->state == STEWARD_EMPTY && card->cluster_id == 0) {
            return true;
        }
    }
    return false;
}

/* Nobody knows a cluster. */
static void decide_to_found(const struct steward_search *s, struct steward_decision *out)
{
    uint32_t expected = steward_pods_expected(&s->scale, s->replicas_expected);
    uint32_t missing_count = 0;
    uint32_t first_missing = 0;
    for (uint32_t i = 1; i < expected; i++) {
        if (!answered_empty(s, i)) {
            first_missing = missing_count == 0 ? i : first_missing;
            missing_count++;
        }
    }
    if (s->ordinal != 0) {
        say(out, "no pod knows a cluster yet; pod 0 founds it when all are there");
    } else if (s->api_awaited) {
        say(out, "waits for the Kubernetes API to say how many pods there are to be");
    } else if (s->scale.cluster_id != 0) { /* also when the API has fallen silent since */
        say(out,
            "the StatefulSet's annotation names cluster %" PRIx64
            ", and nobody of it answers: not founding a second one (if all its data is lost for "
            "good, remove the annotation)",
            s->scale.cluster_id);
    } else if (s->scale.known && (s->scale.deleting || s->scale.replicas == 0)) {
        say(out, "the StatefulSet is being deleted or has 0 replicas: not founding a cluster");
    } else if (missing_count != 0) {
        say(out,
            "founds a cluster when all %" PRIu32 " pods say that they are empty; %" PRIu32
            " did not answer, among them pod %" PRIu32,
            expected, missing_count, first_missing);
    } else {
        out->move = STEWARD_FOUND;
        say(out, "all %" PRIu32 " pods are here and empty", expected);
    }
}

void steward_decide(const struct steward_search *s, struct steward_decision *out)
{
    *out = (struct steward_decision){.move = STEWARD_WAIT};
    const struct steward_card *card = best_of_a_cluster(s);
    if (was_removed(s)) {
        out->move = STEWARD_RENEW_ID;
        say(out, "this member was removed from the cluster");
    } else if (card != NULL) {
        decide_to_join(s, card, out);
    } else {
        decide_to_found(s, out);
    }
    nb_assert(out->move != STEWARD_FOUND || s->ordinal == 0);
}

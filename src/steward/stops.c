#include "steward/stops.h"

#include <stdio.h>
#include <string.h>

static const uint64_t grant_ns_default = UINT64_C(30) * 1000000000;

void steward_stops_init(struct steward_stops *s)
{
    *s = (struct steward_stops){.grant_ns = grant_ns_default, .lag_entries_max = 64};
}

static struct steward_grant *grant_of(struct steward_stops *s, uint64_t id)
{
    for (size_t i = 0; i < s->grant_count; i++) {
        if (s->grants[i].id == id) {
            return &s->grants[i];
        }
    }
    return NULL;
}

void steward_stops_note(struct steward_stops *s, uint64_t id, uint64_t boot_id, uint64_t now_ns)
{
    struct steward_grant *g = grant_of(s, id);
    if (g == NULL && s->grant_count < NB_ARRAY_LEN(s->grants)) {
        g = &s->grants[s->grant_count++];
    }
    if (g != NULL) {
        *g = (struct steward_grant){.id = id, .boot_id = boot_id, .at_ns = now_ns};
    }
}

static const struct steward_fact *fact_of(const struct steward_facts *facts, uint64_t id)
{
    for (size_t i = 0; i < facts->count; i++) {
        if (facts->items[i].id == id) {
            return &facts->items[i];
        }
    }
    return NULL;
}

static bool is_voter(const struct steward_facts *facts, uint64_t id)
{
    const struct machine_member *m = machine_members_find(facts->members, id);
    return m != NULL && !m->is_learner;
}

/* One that is back counts again when it has caught up, however long that takes; one that neither
 * goes nor comes back, when its time is over. [G2] */
static bool has_ended(const struct steward_stops *s, const struct steward_grant *g,
                      const struct steward_facts *facts)
{
    const struct steward_fact *f = fact_of(facts, g->id);
    if (f == NULL || !is_voter(facts, g->id)) {
        return true;
    }
    if (f->connected && f->boot_id != 0 && f->boot_id != g->boot_id) {
        return f->match_index + s->lag_entries_max >= facts->commit_index;
    }
    return facts->now_ns - g->at_ns > s->grant_ns;
}

void steward_stops_turn(struct steward_stops *s, const struct steward_facts *facts)
{
    for (size_t i = s->grant_count; i > 0; i--) {
        if (has_ended(s, &s->grants[i - 1], facts)) {
            s->grants[i - 1] = s->grants[--s->grant_count];
        }
    }
}

static void drop(struct steward_stops *s, uint64_t id)
{
    struct steward_grant *g = grant_of(s, id);
    if (g != NULL) {
        *g = s->grants[--s->grant_count];
    }
}

/* A voter that is there and stays. */
static bool stays(struct steward_stops *s, const struct steward_facts *facts, uint64_t id)
{
    const struct steward_fact *f = fact_of(facts, id);
    return f != NULL && f->connected && grant_of(s, id) == NULL;
}

bool steward_stops_ask(struct steward_stops *s, const struct steward_facts *facts, uint64_t id,
                       uint64_t boot_id, char words[STEWARD_WORDS_SIZE_MAX + 1])
{
    words[0] = '\0';
    steward_stops_turn(s, facts);
    size_t voters = 0;
    size_t staying = 0;
    for (size_t i = 0; i < facts->members->count; i++) {
        const struct machine_member *m = &facts->members->items[i];
        if (!m->is_learner) {
            voters++;
            staying += m->id != id && stays(s, facts, m->id) ? 1 : 0;
        }
    }
    size_t majority = voters / 2 + 1;
    bool small = voters < 3; /* no voter can be missed, however long one waits */
    if (is_voter(facts, id) && !small && staying < majority) {
        drop(s, id); /* leave given before does not hold when others went meanwhile */
        (void)snprintf(words, STEWARD_WORDS_SIZE_MAX + 1,
                       "only %zu of %zu voters would stay, and %zu are needed; let go and not back "
                       "yet: %zu",
                       staying, voters, majority, s->grant_count);
        return false;
    }
    steward_stops_note(s, id, boot_id, facts->now_ns);
    return true;
}

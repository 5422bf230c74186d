#include "steward/keeper.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const uint64_t ms = 1000000;
static const uint64_t second = 1000000000;

void steward_limits_defaults(struct steward_limits *limits)
{
    *limits = (struct steward_limits){
        .dead_ns = 10 * second,
        .backstop_ns = 30 * second,
        .learner_ns = 60 * second,
        .wish_ns = 3 * second,
        .gather_ns = 300 * ms,
        .lag_entries_max = 64,
        .rounds = 3,
    };
}

void steward_keeper_init(struct steward_keeper *k, const char *set,
                         const struct steward_limits *limits)
{
    *k = (struct steward_keeper){0};
    (void)snprintf(k->set, sizeof k->set, "%s", set);
    if (limits != NULL) {
        k->limits = *limits;
    } else {
        steward_limits_defaults(&k->limits);
    }
}

void steward_keeper_reset(struct steward_keeper *k)
{
    k->wish_count = 0;
    k->leave_count = 0;
    k->note_count = 0;
}

void steward_action_deinit(struct steward_action *action)
{
    machine_members_deinit(&action->target);
    *action = (struct steward_action){0};
}

static void say(char words[STEWARD_WORDS_SIZE_MAX + 1], const char *format, ...) NB_PRINTF(2, 3);

static void say(char words[STEWARD_WORDS_SIZE_MAX + 1], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(words, STEWARD_WORDS_SIZE_MAX + 1, format, args);
    va_end(args);
}

/* ---- what is so ---- */

static const struct steward_fact *fact_of(const struct steward_facts *f, uint64_t id)
{
    for (size_t i = 0; i < f->count; i++) {
        if (f->items[i].id == id) {
            return &f->items[i];
        }
    }
    return NULL;
}

static bool is_connected(const struct steward_facts *f, uint64_t id)
{
    const struct steward_fact *fact = fact_of(f, id);
    return fact != NULL && fact->connected;
}

/* Whoever holds a slot is given up when it has been silent for long, or when its address says that
 * it is somebody else's. */
static bool is_dead(const struct steward_keeper *k, const struct steward_facts *f, uint64_t id)
{
    const struct steward_fact *fact = fact_of(f, id);
    return fact != NULL && !fact->connected && (fact->lost || fact->silent_ns >= k->limits.dead_ns);
}

static bool silent_for(const struct steward_facts *f, uint64_t id, uint64_t ns)
{
    const struct steward_fact *fact = fact_of(f, id);
    return fact != NULL && !fact->connected && fact->silent_ns >= ns;
}

/* STEWARD_ORDINAL_NONE: a member that somebody added by hand; not ours to touch. [S5] */
static uint32_t ordinal_of(const struct steward_keeper *k, const struct machine_member *m)
{
    char slot[STEWARD_SLOT_SIZE_MAX + 1];
    return steward_slot_of_member(m, slot) ? steward_ordinal_of(k->set, slot)
                                           : STEWARD_ORDINAL_NONE;
}

/* Whether the API lets us take anybody out because of the size. [S5] */
static bool may_shrink(const struct steward_scale *scale)
{
    return scale->known && !scale->deleting && scale->replicas > 0;
}

static bool is_out_of_range(const struct steward_facts *f, uint32_t ordinal)
{
    return ordinal != STEWARD_ORDINAL_NONE && may_shrink(&f->scale) && ordinal >= f->scale.replicas;
}

/* Whether the connected voters of `target` are a majority of it. [S2] */
static bool quorum_stays(const struct steward_facts *f, const struct machine_members *target)
{
    size_t voters = 0;
    size_t connected = 0;
    for (size_t i = 0; i < target->count; i++) {
        if (!target->items[i].is_learner) {
            voters++;
            connected += is_connected(f, target->items[i].id) ? 1 : 0;
        }
    }
    return voters != 0 && connected >= voters / 2 + 1;
}

/* A target is the whole set that is to be; the machine remembers who was removed by itself. */
static void copy_members(const struct machine_members *from, struct machine_members *out)
{
    *out = (struct machine_members){0};
    for (size_t i = 0; i < from->count; i++) {
        machine_members_set(out, &from->items[i]);
    }
}

/* ---- notes ---- */

static struct steward_note *note_of(struct steward_keeper *k, uint64_t id)
{
    for (size_t i = 0; i < k->note_count; i++) {
        if (k->notes[i].id == id) {
            return &k->notes[i];
        }
    }
    nb_assert(k->note_count < NB_ARRAY_LEN(k->notes));
    k->notes[k->note_count] = (struct steward_note){.id = id};
    return &k->notes[k->note_count++];
}

static bool is_caught_up(const struct steward_keeper *k, const struct steward_facts *f,
                         const struct machine_member *m)
{
    const struct steward_fact *fact = fact_of(f, m->id);
    return fact != NULL && fact->connected && m->name[0] != '\0' && fact->match_index != 0 &&
           fact->match_index + k->limits.lag_entries_max >= f->commit_index;
}

/* Counts what has to be so for a while. */
static void take_notes(struct steward_keeper *k, const struct steward_facts *f)
{
    for (size_t i = k->note_count; i > 0; i--) {
        if (machine_members_find(f->members, k->notes[i - 1].id) == NULL) {
            k->notes[i - 1] = k->notes[--k->note_count];
        }
    }
    for (size_t i = 0; i < f->members->count && i < MACHINE_MEMBER_COUNT_MAX; i++) {
        const struct machine_member *m = &f->members->items[i];
        struct steward_note *note = note_of(k, m->id);
        note->rounds = m->is_learner && is_caught_up(k, f, m) ? note->rounds + 1 : 0;
        if (!is_out_of_range(f, ordinal_of(k, m)) || !silent_for(f, m->id, k->limits.backstop_ns)) {
            note->out_reads = 0;
        } else if (note->out_reads == 0) {
            note->out_reads = 1;
            note->out_since = f->scale_reads;
        } else if (f->scale_reads != note->out_since) {
            note->out_reads = 2;
        }
    }
}

static void forget_what_is_over(struct steward_keeper *k, const struct steward_facts *f)
{
    for (size_t i = k->wish_count; i > 0; i--) {
        const struct steward_wish *w = &k->wishes[i - 1];
        if (f->now_ns - w->heard_ns > k->limits.wish_ns ||
            machine_members_find(f->members, w->id) != NULL ||
            machine_members_was_removed(f->members, w->id)) {
            k->wishes[i - 1] = k->wishes[--k->wish_count];
        }
    }
    bool deleting = f->scale.known && !may_shrink(&f->scale);
    for (size_t i = k->leave_count; i > 0; i--) {
        if (deleting || machine_members_find(f->members, k->leaves[i - 1].id) == NULL) {
            k->leaves[i - 1] = k->leaves[--k->leave_count];
        }
    }
}

/* ---- taking members out ---- */

struct leavers {
    uint64_t ids[MACHINE_MEMBER_COUNT_MAX];
    size_t count; /* highest ordinal first */
};

static uint32_t ordinal_of_id(const struct steward_keeper *k, const struct steward_facts *f,
                              uint64_t id)
{
    return ordinal_of(k, machine_members_find(f->members, id));
}

static void add_leaver(const struct steward_keeper *k, const struct steward_facts *f, uint64_t id,
                       struct leavers *to)
{
    if (to->count == MACHINE_MEMBER_COUNT_MAX) {
        return;
    }
    size_t at = to->count++;
    while (at > 0 && ordinal_of_id(k, f, to->ids[at - 1]) < ordinal_of_id(k, f, id)) {
        to->ids[at] = to->ids[at - 1];
        at--;
    }
    to->ids[at] = id;
}

/* Takes out as many as leave a quorum of connected voters, those of the highest ordinals first.
 * False when none can go: `words` says why. [S2] */
static bool take_out(const struct steward_facts *f, const struct leavers *leavers, const char *why,
                     struct steward_action *out)
{
    for (size_t count = leavers->count; count > 0; count--) {
        struct machine_members target;
        copy_members(f->members, &target);
        for (size_t i = 0; i < count; i++) {
            machine_members_remove(&target, leavers->ids[i]);
        }
        if (quorum_stays(f, &target)) {
            out->kind = STEWARD_REMOVE;
            out->id = leavers->ids[0];
            out->target = target;
            say(out->words, "%s: %zu of %zu members go", why, count, f->members->count);
            return true;
        }
        machine_members_deinit(&target);
    }
    say(out->words, "%s, but what remains would have no majority of connected voters", why);
    return false;
}

static bool is_leaving(const struct steward_keeper *k, uint64_t id)
{
    for (size_t i = 0; i < k->leave_count; i++) {
        if (k->leaves[i].id == id) {
            return true;
        }
    }
    return false;
}

/* The voter that stays, is connected and holds most of the log. 0: none. */
static uint64_t heir(const struct steward_keeper *k, const struct steward_facts *f)
{
    const struct steward_fact *best = NULL;
    for (size_t i = 0; i < f->members->count; i++) {
        const struct machine_member *m = &f->members->items[i];
        const struct steward_fact *fact = fact_of(f, m->id);
        if (m->id == f->self_id || m->is_learner || fact == NULL || !fact->connected ||
            is_leaving(k, m->id) || is_out_of_range(f, ordinal_of(k, m))) {
            continue;
        }
        best = best == NULL || fact->match_index > best->match_index ? fact : best;
    }
    return best == NULL ? 0 : best->id;
}

/* Those that asked to leave, all in one change. The leader itself hands over first: who stays
 * takes it out. [M12] */
static bool answer_leaves(const struct steward_keeper *k, const struct steward_facts *f,
                          struct steward_action *out)
{
    struct leavers leavers = {.count = 0};
    uint64_t first_ns = UINT64_MAX;
    for (size_t i = 0; i < k->leave_count; i++) {
        first_ns = k->leaves[i].asked_ns < first_ns ? k->leaves[i].asked_ns : first_ns;
        add_leaver(k, f, k->leaves[i].id, &leavers);
    }
    if (leavers.count == 0 || f->now_ns - first_ns < k->limits.gather_ns) {
        return false; /* pods that are scaled down together ask within moments of each other */
    }
    uint64_t to = is_leaving(k, f->self_id) ? heir(k, f) : 0;
    if (to != 0) {
        out->kind = STEWARD_HAND_OVER;
        out->id = to;
        say(out->words, "the leader is scaled down itself and hands over first");
        return true;
    }
    return take_out(f, &leavers, "scaled down, asked to leave", out);
}

/* Pods that went without a word: out of range, silent for long, in two reads of the API. */
static bool answer_backstop(struct steward_keeper *k, const struct steward_facts *f,
                            struct steward_action *out)
{
    struct leavers leavers = {.count = 0};
    for (size_t i = 0; i < k->note_count; i++) {
        if (k->notes[i].out_reads >= 2 && k->notes[i].id != f->self_id) {
            add_leaver(k, f, k->notes[i].id, &leavers);
        }
    }
    return leavers.count != 0 && take_out(f, &leavers, "scaled down and silent", out);
}

/* ---- learners ---- */

/* Takes one learner out; learners count in no quorum. */
static bool drop_learner(const struct steward_facts *f, uint64_t id, const char *why,
                         struct steward_action *out)
{
    out->kind = STEWARD_REMOVE;
    out->id = id;
    copy_members(f->members, &out->target);
    machine_members_remove(&out->target, id);
    say(out->words, "%s", why);
    return true;
}

/* Who else holds the slot of `m`: 0 none. `out_connected` when any of them is. */
static uint64_t other_of_slot(const struct steward_keeper *k, const struct steward_facts *f,
                              uint32_t ordinal, uint64_t but, bool *out_alive, bool *out_connected)
{
    uint64_t found = 0;
    *out_alive = false;
    *out_connected = false;
    for (size_t i = 0; i < f->members->count; i++) {
        const struct machine_member *m = &f->members->items[i];
        if (m->id != but && ordinal_of(k, m) == ordinal) {
            found = m->id;
            *out_alive = *out_alive || !is_dead(k, f, m->id);
            *out_connected = *out_connected || is_connected(f, m->id);
        }
    }
    return found;
}

/* Promotes a learner that is ready; a dead holder of its slot goes in the same change. [M05] */
static bool promote(const struct steward_keeper *k, const struct steward_facts *f,
                    const struct machine_member *m, uint64_t dead_id, struct steward_action *out)
{
    struct machine_members target;
    copy_members(f->members, &target);
    struct machine_member voter = *m;
    voter.is_learner = false;
    machine_members_set(&target, &voter);
    uint32_t ordinal = ordinal_of(k, m);
    for (size_t i = f->members->count; i > 0 && dead_id != 0; i--) {
        const struct machine_member *other = &f->members->items[i - 1];
        if (other->id != m->id && ordinal_of(k, other) == ordinal) {
            machine_members_remove(&target, other->id);
        }
    }
    if (!quorum_stays(f, &target)) {
        machine_members_deinit(&target);
        say(out->words, "a learner is ready, but too few voters are connected");
        return false;
    }
    out->kind = dead_id == 0 ? STEWARD_PROMOTE : STEWARD_REPLACE;
    out->id = m->id;
    out->other_id = dead_id;
    out->target = target;
    say(out->words,
        dead_id == 0 ? "the learner %s-%" PRIu32 " has caught up"
                     : "the member of %s-%" PRIu32 " was lost, and its new one has "
                       "caught up",
        k->set, ordinal);
    return true;
}

/* True when there is something to do. */
static bool look_after_learner(struct steward_keeper *k, const struct steward_facts *f,
                               const struct machine_member *m, struct steward_action *out)
{
    uint32_t ordinal = ordinal_of(k, m);
    bool alive;
    bool connected;
    uint64_t other = other_of_slot(k, f, ordinal, m->id, &alive, &connected);
    if (connected) {
        return drop_learner(f, m->id, "its slot's member is back; two cannot hold one slot", out);
    }
    if (silent_for(f, m->id, k->limits.learner_ns)) {
        return drop_learner(f, m->id, "a learner whose process is gone", out);
    }
    if (note_of(k, m->id)->rounds < k->limits.rounds || is_out_of_range(f, ordinal) ||
        is_leaving(k, m->id) || (other != 0 && alive)) {
        return false;
    }
    return promote(k, f, m, other, out);
}

/* The first learner that is a pod of this set; NULL: none. */
static const struct machine_member *learner(const struct steward_keeper *k,
                                            const struct steward_facts *f, size_t from,
                                            size_t *out_place)
{
    for (size_t i = from; i < f->members->count; i++) {
        const struct machine_member *m = &f->members->items[i];
        if (m->is_learner && ordinal_of(k, m) != STEWARD_ORDINAL_NONE) {
            *out_place = i;
            return m;
        }
    }
    return NULL;
}

/* ---- wishes ---- */

/* Why the wish of a pod that is no member cannot be answered now; false: it can. */
static bool wish_waits(const struct steward_keeper *k, const struct steward_facts *f,
                       uint32_t ordinal, char words[STEWARD_WORDS_SIZE_MAX + 1])
{
    size_t place;
    bool alive;
    bool connected;
    uint64_t holder = other_of_slot(k, f, ordinal, 0, &alive, &connected);
    if (is_out_of_range(f, ordinal)) {
        say(words, "%s-%" PRIu32 " is beyond the %" PRIu32 " replicas of the StatefulSet", k->set,
            ordinal, f->scale.replicas);
        return true;
    }
    if (holder != 0 && connected) {
        say(words, "%s-%" PRIu32 " is held by member %" PRIx64 ", which is connected", k->set,
            ordinal, holder);
        return true;
    }
    if (holder != 0 && alive) {
        say(words, "%s-%" PRIu32 " is held by member %" PRIx64 ", which was heard lately", k->set,
            ordinal, holder);
        return true;
    }
    const struct machine_member *other = learner(k, f, 0, &place);
    while (other != NULL && ordinal_of(k, other) == ordinal) {
        other = learner(k, f, place + 1, &place);
    }
    if (other != NULL) {
        say(words, "%s-%" PRIu32 " is being caught up; one at a time", k->set,
            ordinal_of(k, other));
        return true;
    }
    if (f->members->count >= MACHINE_MEMBER_COUNT_MAX) {
        say(words, "the cluster has as many members as it can have");
        return true;
    }
    return false;
}

void steward_keeper_wish(struct steward_keeper *k, const struct steward_facts *f,
                         const struct steward_card *card, char words[STEWARD_WORDS_SIZE_MAX + 1])
{
    words[0] = '\0';
    uint32_t ordinal = steward_ordinal_of(k->set, card->slot);
    if (ordinal == STEWARD_ORDINAL_NONE || ordinal != card->ordinal || card->peer_url[0] == '\0') {
        say(words, "not a pod of the StatefulSet %s", k->set);
        return;
    }
    if (machine_members_find(f->members, card->member_id) != NULL) {
        return;
    }
    if (machine_members_was_removed(f->members, card->member_id)) {
        say(words, "this member was removed from the cluster");
        return;
    }
    if (!wish_waits(k, f, ordinal, words)) {
        say(words, "next in turn");
    }
    struct steward_wish *w = NULL;
    for (size_t i = 0; i < k->wish_count && w == NULL; i++) {
        w = k->wishes[i].id == card->member_id ? &k->wishes[i] : NULL;
    }
    if (w == NULL && k->wish_count < NB_ARRAY_LEN(k->wishes)) {
        w = &k->wishes[k->wish_count++];
    }
    if (w != NULL) {
        *w =
            (struct steward_wish){.id = card->member_id, .ordinal = ordinal, .heard_ns = f->now_ns};
        memcpy(w->slot, card->slot, sizeof w->slot);
        memcpy(w->peer_url, card->peer_url, sizeof w->peer_url);
        memcpy(w->client_url, card->client_url, sizeof w->client_url);
    }
}

void steward_keeper_leave(struct steward_keeper *k, uint64_t id, uint64_t now_ns)
{
    if (!is_leaving(k, id) && k->leave_count < NB_ARRAY_LEN(k->leaves)) {
        k->leaves[k->leave_count++] = (struct steward_leave){.id = id, .asked_ns = now_ns};
    }
}

/* Whether the slot has a voter, a dead one: it is filled before the cluster grows. */
static bool replaces(const struct steward_keeper *k, const struct steward_facts *f,
                     uint32_t ordinal)
{
    bool alive;
    bool connected;
    return other_of_slot(k, f, ordinal, 0, &alive, &connected) != 0;
}

/* The wish to be answered now: lost members first, then in order of the ordinals. */
static const struct steward_wish *next_wish(const struct steward_keeper *k,
                                            const struct steward_facts *f)
{
    const struct steward_wish *best = NULL;
    for (size_t i = 0; i < k->wish_count; i++) {
        const struct steward_wish *w = &k->wishes[i];
        char words[STEWARD_WORDS_SIZE_MAX + 1];
        if (wish_waits(k, f, w->ordinal, words)) {
            continue;
        }
        bool first = best == NULL;
        bool heals = replaces(k, f, w->ordinal);
        bool best_heals = !first && replaces(k, f, best->ordinal);
        if (first || (heals && !best_heals) ||
            (heals == best_heals && w->ordinal < best->ordinal)) {
            best = w;
        }
    }
    return best;
}

/* As a learner first, whatever it is to become. A dead learner of the same slot makes room. */
static void add_learner(const struct steward_keeper *k, const struct steward_facts *f,
                        const struct steward_wish *w, struct steward_action *out)
{
    nb_assert(machine_members_find(f->members, w->id) == NULL);
    nb_assert(!machine_members_was_removed(f->members, w->id)); /* [M08] */
    copy_members(f->members, &out->target);
    for (size_t i = 0; i < f->members->count; i++) {
        const struct machine_member *m = &f->members->items[i];
        if (m->is_learner && ordinal_of(k, m) == w->ordinal) {
            machine_members_remove(&out->target, m->id);
        }
    }
    char url[STEWARD_URL_SIZE_MAX + 1];
    memcpy(url, w->peer_url, sizeof url);
    char *urls[1] = {url};
    /* The name comes when it has started: until then it is "unstarted" to all. */
    struct machine_member m = {
        .id = w->id, .peer_urls = urls, .peer_url_count = 1, .is_learner = true};
    machine_members_set(&out->target, &m);
    out->kind = STEWARD_ADD_LEARNER;
    out->id = w->id;
    say(out->words,
        replaces(k, f, w->ordinal)
            ? "%s came back without its data and is taken in anew as a learner"
            : "%s is new and is taken in as a learner",
        w->slot);
}

/* ---- a round ---- */

void steward_keeper_turn(struct steward_keeper *k, const struct steward_facts *f,
                         struct steward_action *out)
{
    *out = (struct steward_action){.kind = STEWARD_REST};
    take_notes(k, f);
    forget_what_is_over(k, f);
    if (f->in_flight || answer_leaves(k, f, out) || answer_backstop(k, f, out)) {
        return;
    }
    size_t place = 0;
    for (const struct machine_member *m = learner(k, f, 0, &place); m != NULL;
         m = learner(k, f, place + 1, &place)) {
        if (look_after_learner(k, f, m, out)) {
            return;
        }
    }
    const struct steward_wish *w = next_wish(k, f);
    if (w != NULL) {
        add_learner(k, f, w, out);
    }
}

#include "sim/cluster.h"

#include <inttypes.h>

enum { FAULT_PAUSE_MS_MAX = 1200 };

static struct sim_member *someone(struct sim *s)
{
    return &s->members[sim_below(s, s->member_count)];
}

/* ---- the network ---- */

static void cut_pair(struct sim *s)
{
    unsigned a = (unsigned)sim_below(s, s->member_count),
             b = (unsigned)sim_below(s, s->member_count);
    bool both = sim_chance(s, 500);
    s->network.cut[a][b] = true;
    s->network.cut[b][a] = s->network.cut[b][a] || both;
    sim_trace(s, -1, "cut: m%u %s m%u", a, both ? "<->" : "->", b);
}

static void cut_sides(struct sim *s)
{
    uint64_t side = nb_random_u64(&s->random);
    for (unsigned a = 0; a < s->member_count; a++) {
        for (unsigned b = 0; b < s->member_count; b++) {
            s->network.cut[a][b] = (side >> a & 1) != (side >> b & 1);
        }
    }
    sim_trace(s, -1, "cut in two: side %x", (unsigned)(side & 31));
}

/* Each hears its two neighbours only. */
static void cut_ring(struct sim *s)
{
    unsigned n = s->member_count;
    for (unsigned a = 0; a < n; a++) {
        for (unsigned b = 0; b < n; b++) {
            s->network.cut[a][b] = (a + 1) % n != b && (b + 1) % n != a;
        }
    }
    sim_trace(s, -1, "cut to a ring");
}

static void cut_one_way(struct sim *s)
{
    struct sim_member *m = someone(s);
    bool from = sim_chance(s, 500);
    for (unsigned i = 0; i < s->member_count; i++) {
        s->network.cut[from ? m->place : i][from ? i : m->place] = true;
    }
    sim_trace(s, -1, "m%u %s", m->place, from ? "is not heard" : "hears nobody");
}

/* Both ends hear of it; what was on its way may still arrive, late. */
static void connection_breaks(struct sim *s)
{
    const struct sim_member *a = someone(s);
    const struct sim_member *b = someone(s);
    if (a == b || !a->alive || !b->alive) {
        return;
    }
    const struct sim_member *ends[] = {a, b};
    for (size_t i = 0; i < NB_ARRAY_LEN(ends); i++) {
        sim_events_push(&s->events,
                        (struct sim_event){.at_ns = s->now_ns + sim_below(s, 20 * SIM_MS),
                                           .kind = SIM_EVENT_PEER_LOST,
                                           .member = ends[i]->place,
                                           .boot = ends[i]->boot,
                                           .from = ends[1 - i]->place});
    }
    sim_trace(s, -1, "the connection of m%u and m%u breaks", a->place, b->place);
}

static void network_bad(struct sim *s)
{
    s->network.lost_per_mille = (unsigned)sim_below(s, 200);
    s->network.twice_per_mille = (unsigned)sim_below(s, 100);
    s->network.delay_max_ns = SIM_MS + sim_below(s, 300 * SIM_MS);
    sim_trace(s, -1, "bad network: %u per mille lost, up to %u ms", s->network.lost_per_mille,
              (unsigned)(s->network.delay_max_ns / SIM_MS));
}

static void network_heals(struct sim *s)
{
    sim_network_heal(s);
    sim_trace(s, -1, "network heals");
}

/* ---- machines ---- */

static void lose_power(struct sim *s)
{
    struct sim_member *m = someone(s);
    if (m->alive) {
        sim_member_crash(m, true, sim_below(s, 4 * SIM_SECOND));
    }
}

static void kill_process(struct sim *s)
{
    struct sim_member *m = someone(s);
    if (m->alive) {
        sim_member_crash(m, false, sim_below(s, 2 * SIM_SECOND));
    }
}

static void all_lose_power(struct sim *s)
{
    for (unsigned i = 0; i < s->member_count; i++) {
        if (s->members[i].alive) {
            sim_member_crash(&s->members[i], true, sim_below(s, 2 * SIM_SECOND));
        }
    }
}

/* Long enough down to need a snapshot afterwards. */
static void long_absence(struct sim *s)
{
    struct sim_member *m = someone(s);
    if (m->alive) {
        bool power_lost = sim_chance(s, 500);
        sim_member_crash(m, power_lost, 5 * SIM_SECOND + sim_below(s, 15 * SIM_SECOND));
    }
}

static void pause_process(struct sim *s)
{
    struct sim_member *m = someone(s);
    uint64_t ns = (1 + sim_below(s, FAULT_PAUSE_MS_MAX)) * SIM_MS;
    ns *= sim_chance(s, 200) ? 5 : 1; /* one draw a statement: compilers order them as they like */
    if (m->alive && m->paused_until_ns <= s->now_ns) {
        m->paused_until_ns = s->now_ns + ns;
        sim_plan(s, SIM_EVENT_RESUME, m->place, ns + SIM_MS);
        sim_trace(s, (int)m->place, "stands still for %u ms", (unsigned)(ns / SIM_MS));
    }
}

static void hand_over(struct sim *s)
{
    struct sim_member *m = someone(s);
    if (m->alive && m->paused_until_ns <= s->now_ns) {
        sim_trace(s, (int)m->place, "is asked to hand over");
        (void)replica_hand_over(m->replica);
        sim_member_settle(m);
    }
}

/* ---- disks ---- */

static void disk_slow(struct sim *s)
{
    struct sim_member *m = someone(s);
    m->disk_delay_max_ns = sim_chance(s, 500) ? 2 * SIM_MS : sim_below(s, 400 * SIM_MS);
    sim_trace(s, (int)m->place, "disk takes up to %u ms",
              (unsigned)(m->disk_delay_max_ns / SIM_MS));
}

static void disk_stuck(struct sim *s)
{
    struct sim_member *m = someone(s);
    m->disk_stuck_until_ns = s->now_ns + sim_below(s, 6 * SIM_SECOND);
    sim_trace(s, (int)m->place, "disk hangs");
}

static void disk_fails(struct sim *s)
{
    struct sim_member *m = someone(s);
    if (m->alive) {
        disk_memory_fail_at(m->disk, sim_below(s, 20), NB_IO);
        sim_trace(s, (int)m->place, "disk will fail");
    }
}

static void disk_full(struct sim *s)
{
    struct sim_member *m = someone(s);
    bool full = sim_chance(s, 300);
    disk_memory_limit(m->disk, full ? 0 : UINT64_MAX);
    sim_trace(s, (int)m->place, full ? "disk is full" : "disk has room");
}

static void backend_stuck(struct sim *s)
{
    struct sim_member *m = someone(s);
    m->backend_stuck_until_ns = s->now_ns + sim_below(s, 4 * SIM_SECOND);
    sim_trace(s, (int)m->place, "backend hangs");
}

static void backend_fails(struct sim *s)
{
    struct sim_member *m = someone(s);
    if (m->alive) {
        bool full = sim_chance(s, 800);
        backend_memory_fail(m->backend, full ? NB_NO_SPACE_DISK : NB_IO,
                            1 + (unsigned)sim_below(s, 5));
        sim_trace(s, (int)m->place, "backend will fail: %s", full ? "no room" : "error");
    }
}

/* Weight, what happens. */
static const struct {
    unsigned weight;
    void (*happens)(struct sim *s);
} faults[] = {
    {10, cut_pair},      {6, cut_sides},      {3, cut_ring},          {5, cut_one_way},
    {8, network_bad},    {30, network_heals}, {10, lose_power},       {6, kill_process},
    {1, all_lose_power}, {4, long_absence},   {8, pause_process},     {3, hand_over},
    {6, disk_slow},      {4, disk_stuck},     {3, disk_fails},        {6, disk_full},
    {4, backend_stuck},  {4, backend_fails},  {8, connection_breaks},
};

enum { MEMBERS_PER_MILLE = 400 };

void sim_nemesis_event(struct sim *s)
{
    if (s->healed || !s->options.faults) {
        return;
    }
    if (s->options.membership && sim_chance(s, MEMBERS_PER_MILLE)) {
        sim_members_event(s);
    }
    unsigned sum = 0;
    for (size_t i = 0; i < NB_ARRAY_LEN(faults); i++) {
        sum += faults[i].weight;
    }
    uint64_t dice = sim_below(s, sum);
    for (size_t i = 0; i < NB_ARRAY_LEN(faults); i++) {
        if (dice < faults[i].weight) {
            faults[i].happens(s);
            break;
        }
        dice -= faults[i].weight;
    }
    sim_plan(s, SIM_EVENT_NEMESIS, 0, sim_below(s, 800 * SIM_MS));
}

/* ---- healing ---- */

static void mend(struct sim_member *m)
{
    struct sim *s = m->sim;
    disk_memory_limit(m->disk, UINT64_MAX);
    disk_memory_fail_at(m->disk, 0, NB_OK);
    m->disk_delay_max_ns = 2 * SIM_MS;
    m->disk_stuck_until_ns = m->backend_stuck_until_ns = 0;
    m->disk_due = false; /* what was planned for a hung disk came too late */
    if (m->paused_until_ns > s->now_ns) {
        m->paused_until_ns = 0;
    }
    if (m->alive) {
        backend_memory_fail(m->backend, NB_OK, 0);
        sim_member_settle(m);
    } else {
        sim_plan(s, SIM_EVENT_START, m->place, SIM_MS);
    }
}

static void pick_core(struct sim *s, bool *core)
{
    if (s->members_changed) {
        for (unsigned i = 0; i < s->member_count; i++) {
            core[i] = !s->members[i].removed; /* who is a majority, only the log knows */
        }
        return;
    }
    unsigned need =
        s->member_count / 2 + 1 + (unsigned)sim_below(s, s->member_count - s->member_count / 2);
    for (unsigned picked = 0; picked < need;) {
        unsigned i = (unsigned)sim_below(s, s->member_count);
        picked += !core[i];
        core[i] = true;
    }
}

void sim_nemesis_heal_core(struct sim *s, bool *core)
{
    pick_core(s, core);
    sim_network_heal(s);
    for (unsigned a = 0; a < s->member_count; a++) {
        for (unsigned b = 0; b < s->member_count; b++) {
            s->network.cut[a][b] = core[a] != core[b];
        }
    }
    for (unsigned i = 0; i < s->member_count; i++) {
        struct sim_member *m = &s->members[i];
        sim_trace(s, (int)i, core[i] ? "is healed" : "is given up");
        if (core[i]) {
            mend(m);
        } else if (sim_chance(s, 500) && m->alive) {
            m->doomed = true;
            sim_member_stop(m, true);
        }
    }
}

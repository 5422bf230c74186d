/* T01: each checker catches the bug it is there for, planted into the simulated world. */
#include "sim/sim.h"
#include "tests/support/unit.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEED_COUNT = 40, RULES_MAX = 3 };

/* A bug, and the rules one of which must name it. */
static const struct {
    enum sim_bug bug;
    const char *rules[RULES_MAX];
} planted[] = {
    {SIM_BUG_LYING_DISK, {"recovery", "entries_kept", "vote_kept"}},
    {SIM_BUG_BATCH_LOST, {"entries_kept"}},
    {SIM_BUG_VOTE_LOST, {"vote_kept"}},
    {SIM_BUG_PROPOSE_TWICE, {"applied_twice"}},
    {SIM_BUG_STALE_READ, {"stale_read"}},
    {SIM_BUG_EARLY_ANSWER, {"answer_place"}},
    {SIM_BUG_WRONG_REVISION, {"answer"}},
    {SIM_BUG_BYTES_CHANGED, {"log"}},
    {SIM_BUG_ANSWER_LOST, {"every_call_returned"}},
    {SIM_BUG_DEAF, {"leader_in_time", "write_in_time"}},
    {SIM_BUG_DISK_EMPTIED, {"entries_kept", "vote_kept"}},
};

_Static_assert(sizeof planted / sizeof planted[0] == SIM_BUG_COUNT - 1, "a row for every bug");

/* The rule that was broken, in the caller's room; "" for none. A bug may also hit an assertion of
 * the code itself: then the child dies of it, which says "assert". */
static void rule_broken(enum sim_bug bug, uint64_t seed, char out[64])
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    (void)fflush(stdout);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct sim_options options;
        struct sim_report report;
        (void)freopen("/dev/null", "w", stderr); /* an assertion is expected */
        (void)signal(SIGABRT, SIG_DFL);          /* without cmocka's handler */
        sim_options_of_seed(seed, &options);
        options.bug = bug;
        (void)sim_run(&options, &report);
        const char *rule = report.rule == NULL ? "" : report.rule;
        _exit(write(ends[1], rule, strlen(rule)) == (ssize_t)strlen(rule) ? 0 : 1);
    }
    (void)close(ends[1]);
    ssize_t len = read(ends[0], out, 63);
    (void)close(ends[0]);
    out[len > 0 ? len : 0] = '\0';
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status)) {
        (void)snprintf(out, 64, "assert");
    }
}

static bool expected(size_t row, const char *rule)
{
    for (size_t i = 0; i < RULES_MAX && planted[row].rules[i] != NULL; i++) {
        if (strcmp(planted[row].rules[i], rule) == 0) {
            return true;
        }
    }
    return false;
}

static void T01_every_planted_bug_is_named(void **state)
{
    (void)state;
    for (size_t row = 0; row < sizeof planted / sizeof planted[0]; row++) {
        bool named = false;
        for (uint64_t seed = 1; seed <= SEED_COUNT && !named; seed++) {
            char rule[64];
            rule_broken(planted[row].bug, seed, rule);
            named = expected(row, rule);
        }
        if (!named) {
            fail_msg("no seed names planted bug %d", (int)planted[row].bug);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(T01_every_planted_bug_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

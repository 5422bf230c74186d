/* Whole replicas under faults: seed after seed, each in a process of its own. */
#include "sim/sim.h"
#include "tests/support/unit.h"

#include <sys/wait.h>
#include <unistd.h>

enum { FIXED_SEED_COUNT = 300, FRESH_SEED_COUNT = 150, SAMPLE = 60 };

/* Exit codes of a child. */
enum { HELD, BROKE };

static int run_child(uint64_t seed)
{
    (void)fflush(stdout);
    (void)fflush(stderr);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct sim_options options;
        struct sim_report report;
        sim_options_of_seed(seed, &options);
        bool held = sim_run(&options, &report);
        if (!held) {
            (void)fprintf(stderr, "%s: %s\n", report.rule, report.text);
        }
        _exit(held ? HELD : BROKE);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void run_seeds(uint64_t first, uint64_t count)
{
    for (uint64_t seed = first; seed < first + count; seed++) {
        int status = run_child(seed);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != HELD) {
            fail_msg("seed %llu; replay: build/debug/sim/simulate --seed %llu --trace",
                     (unsigned long long)seed, (unsigned long long)seed);
        }
    }
}

static void every_rule_holds_under_faults(void **state)
{
    (void)state;
    if (getenv("NABATA_SEED") != NULL) {
        run_seeds(unit_seed(), 1); /* the one that is asked for */
        return;
    }
    run_seeds(1, unit_scaled(FIXED_SEED_COUNT));
    run_seeds(unit_seed(), unit_scaled(FRESH_SEED_COUNT));
}

static void Z10_the_same_seed_gives_the_same_trace(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= unit_scaled(10); seed++) {
        struct sim_options options;
        struct sim_report first, second;
        sim_options_of_seed(seed, &options);
        (void)sim_run(&options, &first);
        (void)sim_run(&options, &second);
        assert_int_equal(first.trace_hash, second.trace_hash);
        assert_int_equal(first.step_count, second.step_count);
        options.seed++;
        (void)sim_run(&options, &second);
        assert_int_not_equal(first.trace_hash, second.trace_hash);
    }
}

/* A simulator that is too kind shows nothing: what a sample of seeds met. [T02, T03] */
static void T03_the_seeds_meet_every_kind_of_trouble(void **state)
{
    (void)state;
    struct sim_report sum = {0};
    for (uint64_t seed = 1; seed <= SAMPLE; seed++) {
        struct sim_options options;
        struct sim_report r;
        sim_options_of_seed(seed, &options);
        assert_true(sim_run(&options, &r));
        assert_true(r.write_count > 20);
        assert_true(r.read_count > 10);
        sum.lost_count += r.lost_count;
        sum.unknown_count += r.unknown_count;
        sum.election_count += r.election_count;
        sum.crash_count += r.crash_count;
        sum.kill_count += r.kill_count;
        sum.fatal_count += r.fatal_count;
        sum.install_count += r.install_count;
        sum.change_count += r.change_count;
        sum.joined_count += r.joined_count;
        sum.removed_count += r.removed_count;
        sum.compaction_count += r.compaction_count;
        sum.entry_count += r.entry_count;
        sum.duplicate_count += r.duplicate_count;
    }
    assert_true(sum.lost_count > 10 * SAMPLE);
    assert_true(sum.unknown_count > SAMPLE);
    assert_true(sum.election_count > 2 * SAMPLE);
    assert_true(sum.crash_count > SAMPLE);
    assert_true(sum.kill_count > SAMPLE);
    assert_true(sum.fatal_count > SAMPLE / 10);
    assert_true(sum.install_count > SAMPLE / 4);
    assert_true(sum.change_count > SAMPLE / 2);
    assert_true(sum.joined_count > SAMPLE / 3);
    assert_true(sum.removed_count > SAMPLE / 10);
    assert_true(sum.compaction_count > 4 * SAMPLE);
    assert_true(sum.entry_count > 200 * SAMPLE);
    print_message("requests that the log brought twice: %llu\n",
                  (unsigned long long)sum.duplicate_count);
    assert_true(sum.duplicate_count > SAMPLE / 4); /* [R22] */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rule_holds_under_faults),
        cmocka_unit_test(Z10_the_same_seed_gives_the_same_trace),
        cmocka_unit_test(T03_the_seeds_meet_every_kind_of_trouble),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

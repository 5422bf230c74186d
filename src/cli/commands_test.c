#include "cli/cli.h"
#include "cli/ops.h"
#include "cli/progress.h"
#include "tests/support/unit.h"

static const char *found(const char *first, const char *second, size_t *used)
{
    const char *words[] = {first, second};
    const struct cli_command *command = cli_command_find(words, second == NULL ? 1 : 2, used);
    return command == NULL ? NULL : command->name;
}

static void commands_are_found_by_name_and_by_beginning(void **state)
{
    (void)state;
    size_t used = 0;
    assert_string_equal(found("put", "key", &used), "put");
    assert_int_equal(used, 1);
    assert_string_equal(found("endpoint", "status", &used), "endpoint status");
    assert_int_equal(used, 2);
    assert_string_equal(found("end", "stat", &used), "endpoint status");
    assert_string_equal(found("compact", "3", &used), "compaction");
    assert_string_equal(found("member", "list", &used), "member list");
}

static void what_is_none_or_two_is_not_found(void **state)
{
    (void)state;
    size_t used = 0;
    assert_null(found("p", "x", &used)); /* put, playground */
    assert_null(found("endpoint", NULL, &used));
    assert_null(found("gte", "x", &used));
    assert_null(found("", NULL, &used));
}

static void the_nearest_command_is_suggested(void **state)
{
    (void)state;
    const char *words[] = {"gte", "key"};
    assert_string_equal(cli_command_nearest(words, 2)->name, "get");
    const char *two[] = {"endpoint", "stauts"};
    assert_string_equal(cli_command_nearest(two, 2)->name, "endpoint status");
    const char *none[] = {"xylophone"};
    assert_null(cli_command_nearest(none, 1));
}

static void every_command_says_what_it_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < cli_command_count; i++) {
        const struct cli_command *command = cli_commands[i];
        assert_non_null(command->help);
        assert_non_null(command->group);
        assert_non_null(command->arguments);
        assert_true((command->run != NULL) != (command->run_raw != NULL));
        assert_true(command->run_raw != NULL || command->example_count > 0);
        assert_true(command->argument_min <= command->argument_max);
    }
}

static void the_end_of_a_prefix_skips_ff(void **state)
{
    (void)state;
    struct nb_arena arena = {0};
    struct nb_bytes end = ops_prefix_end(&arena, nb_bytes_str("ab"));
    assert_true(nb_bytes_equal(end, nb_bytes_str("ac")));
    end = ops_prefix_end(&arena, nb_bytes_of("a\xff\xff", 3));
    assert_true(nb_bytes_equal(end, nb_bytes_str("b")));
    end = ops_prefix_end(&arena, nb_bytes_of("\xff", 1));
    assert_true(nb_bytes_equal(end, nb_bytes_of("", 1)));
    end = ops_prefix_end(&arena, nb_bytes_of("", 0));
    assert_true(nb_bytes_equal(end, nb_bytes_of("", 1)));
    nb_arena_deinit(&arena);
}

static void a_bar_fits_its_terminal(void **state)
{
    (void)state;
    for (unsigned width = 20; width < 200; width++) {
        struct progress progress = {.label = "writing", .done = 50, .total = 100, .width = width};
        struct nb_buf line = {0};
        progress_line(&progress, "123/s", &line);
        assert_true(line.len <= width);
        nb_buf_deinit(&line);
    }
    struct progress progress = {.label = "w", .done = 50, .total = 100, .width = 30};
    struct nb_buf line = {0};
    progress_line(&progress, "x", &line);
    nb_buf_append(&line, "", 1);
    assert_string_equal((const char *)line.data, "w [########.........]  50%  x");
    nb_buf_deinit(&line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_found_by_name_and_by_beginning),
        cmocka_unit_test(what_is_none_or_two_is_not_found),
        cmocka_unit_test(the_nearest_command_is_suggested),
        cmocka_unit_test(every_command_says_what_it_is),
        cmocka_unit_test(the_end_of_a_prefix_skips_ff),
        cmocka_unit_test(a_bar_fits_its_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

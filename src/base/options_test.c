#include "base/options.h"
#include "base/random.h"
#include "tests/support/unit.h"

static const struct nb_option rows[] = {
    {.name = "listen-client-urls", .type = NB_OPTION_LIST, .default_text = "http://localhost:2379"},
    {.name = "name", .type = NB_OPTION_STRING, .default_text = "default", .help = "a name"},
    {.name = "write-out", .letter = 'w', .type = NB_OPTION_CHOICE, .choices = "simple,json,table"},
    {.name = "prefix", .letter = 'p', .type = NB_OPTION_BOOL},
    {.name = "keys-only", .letter = 'k', .type = NB_OPTION_BOOL},
    {.name = "limit", .letter = 'n', .type = NB_OPTION_INT64},
    {.name = "count", .type = NB_OPTION_UINT64, .default_text = "10000"},
    {.name = "timeout", .type = NB_OPTION_DURATION, .default_text = "5s"},
    {.name = "endpoint", .type = NB_OPTION_LIST, .flags = NB_OPTION_APPEND, .default_text = "a,b"},
    {.name = "old", .type = NB_OPTION_STRING, .flags = NB_OPTION_IGNORED},
    {.name = "mlock",
     .type = NB_OPTION_BOOL,
     .flags = NB_OPTION_UNSUPPORTED,
     .reason = "use mlockall(1) yourself"},
    {.name = "secret", .type = NB_OPTION_STRING, .flags = NB_OPTION_NO_VARIABLE},
    {.name = "level", .type = NB_OPTION_STRING, .bare_text = "9"},
};

struct parsed {
    struct nb_options o;
    struct nb_buf message;
    enum nb_options_result result;
};

/* Cuts `line` at blanks and parses it. */
static struct parsed parse(enum nb_options_style style, const char *line)
{
    static char copy[1024];
    static char *argv[64];
    int argc = 0;
    (void)snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    struct parsed p = {0};
    nb_options_init(&p.o);
    nb_options_add(&p.o, rows, NB_ARRAY_LEN(rows));
    p.result = nb_options_parse(&p.o, style, argc, argv, &p.message);
    nb_buf_append(&p.message, "", 1);
    return p;
}

static void done(struct parsed *p)
{
    nb_options_deinit(&p->o);
    nb_buf_deinit(&p->message);
}

static void a_line_gives_these_values(void **state)
{
    (void)state;
    static const struct {
        enum nb_options_style style;
        const char *line, *option, *text;
        size_t argument_count;
    } cases[] = {
        {NB_OPTIONS_GO_FLAG, "", "name", "default", 0},
        {NB_OPTIONS_GO_FLAG, "-name a", "name", "a", 0},
        {NB_OPTIONS_GO_FLAG, "--name a", "name", "a", 0},
        {NB_OPTIONS_GO_FLAG, "-name=a", "name", "a", 0},
        {NB_OPTIONS_GO_FLAG, "--name=a=b", "name", "a=b", 0},
        {NB_OPTIONS_GO_FLAG, "--name=", "name", "", 0},
        {NB_OPTIONS_GO_FLAG, "--name --prefix", "name", "--prefix", 0},
        {NB_OPTIONS_GO_FLAG, "--name a --name b", "name", "b", 0},
        {NB_OPTIONS_GO_FLAG, "--prefix false", "prefix", "true", 1},
        {NB_OPTIONS_GO_FLAG, "--prefix=false", "prefix", "false", 0},
        {NB_OPTIONS_GO_FLAG, "word --name a", "name", "default", 3},
        {NB_OPTIONS_GO_FLAG, "-- --name a", "name", "default", 2},
        {NB_OPTIONS_GO_FLAG, "- --name a", "name", "default", 3},
        {NB_OPTIONS_GO_FLAG, "--old whatever --name a", "name", "a", 0},
        {NB_OPTIONS_GO_FLAG, "--mlock=false --name a", "name", "a", 0},
        {NB_OPTIONS_PFLAG, "put -w json a b", "write-out", "json", 3},
        {NB_OPTIONS_PFLAG, "-wjson a", "write-out", "json", 1},
        {NB_OPTIONS_PFLAG, "-w=table", "write-out", "table", 0},
        {NB_OPTIONS_PFLAG, "-pkw json", "write-out", "json", 0},
        {NB_OPTIONS_PFLAG, "-pk", "keys-only", "true", 0},
        {NB_OPTIONS_PFLAG, "-k=false", "keys-only", "false", 0},
        {NB_OPTIONS_PFLAG, "-n -5 x", "limit", "-5", 1},
        {NB_OPTIONS_PFLAG, "a --name x b -- --name y", "name", "x", 4},
        {NB_OPTIONS_PFLAG, "--level x", "level", "9", 1},
        {NB_OPTIONS_PFLAG, "--level=x", "level", "x", 0},
        {NB_OPTIONS_PFLAG, "put - x", "name", "default", 3},
        {NB_OPTIONS_PFLAG_UNTIL_ARGUMENT, "--name x put --name y -- z", "name", "x", 5},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
        struct parsed p = parse(cases[i].style, cases[i].line);
        assert_string_equal((const char *)p.message.data, "");
        assert_int_equal(p.result, NB_OPTIONS_OK);
        assert_string_equal(nb_options_string(&p.o, cases[i].option), cases[i].text);
        assert_int_equal(p.o.argument_count, cases[i].argument_count);
        done(&p);
    }
}

static void a_wrong_line_is_refused_with_this_text(void **state)
{
    (void)state;
    static const struct {
        enum nb_options_style style;
        const char *line, *text;
    } cases[] = {
        {NB_OPTIONS_GO_FLAG, "--lisen-client-urls=x",
         "unknown flag: --lisen-client-urls (did you mean --listen-client-urls?)"},
        {NB_OPTIONS_GO_FLAG, "-nmae=x", "unknown flag: --nmae (did you mean --name?)"},
        {NB_OPTIONS_GO_FLAG, "--quite-another", "unknown flag: --quite-another"},
        {NB_OPTIONS_GO_FLAG, "--olt=1", "unknown flag: --olt"}, /* ignored ones are not proposed */
        {NB_OPTIONS_GO_FLAG, "---name=x", "bad flag syntax: ---name=x"},
        {NB_OPTIONS_GO_FLAG, "--=x", "bad flag syntax: --=x"},
        {NB_OPTIONS_GO_FLAG, "--name", "flag needs an argument: --name"},
        {NB_OPTIONS_GO_FLAG, "--prefix=maybe",
         "invalid value \"maybe\" for flag --prefix: parse error"},
        {NB_OPTIONS_GO_FLAG, "--count=-1", "invalid value \"-1\" for flag --count: parse error"},
        {NB_OPTIONS_GO_FLAG, "--count=18446744073709551616",
         "invalid value \"18446744073709551616\" for flag --count: parse error"},
        {NB_OPTIONS_GO_FLAG, "--timeout=5", "invalid value \"5\" for flag --timeout: parse error"},
        {NB_OPTIONS_GO_FLAG, "--write-out=xml",
         "invalid value \"xml\" for flag --write-out: must be one of simple, json, table"},
        {NB_OPTIONS_GO_FLAG, "--mlock",
         "flag --mlock is known, but not supported yet: use mlockall(1) yourself"},
        {NB_OPTIONS_PFLAG, "-x", "unknown shorthand flag: 'x' in -x"},
        {NB_OPTIONS_PFLAG, "-pw", "flag needs an argument: 'w' in -pw"},
        {NB_OPTIONS_PFLAG, "put --prefx", "unknown flag: --prefx (did you mean --prefix?)"},
        {NB_OPTIONS_PFLAG, "--na\x1b[2Jme", "unknown flag: --na\\u001b[2Jme"},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
        struct parsed p = parse(cases[i].style, cases[i].line);
        assert_int_equal(p.result, NB_OPTIONS_BAD);
        assert_string_equal((const char *)p.message.data, cases[i].text);
        done(&p);
    }
}

static void help_is_asked_for_in_three_ways(void **state)
{
    (void)state;
    static const char *const lines[] = {"--help", "-h", "--name x --help --unknown"};
    for (size_t i = 0; i < NB_ARRAY_LEN(lines); i++) {
        struct parsed go = parse(NB_OPTIONS_GO_FLAG, lines[i]);
        struct parsed pflag = parse(NB_OPTIONS_PFLAG, lines[i]);
        assert_int_equal(go.result, NB_OPTIONS_HELP);
        assert_int_equal(pflag.result, NB_OPTIONS_HELP);
        done(&go);
        done(&pflag);
    }
}

static void a_list_replaces_the_default_and_appends_when_it_says_so(void **state)
{
    (void)state;
    struct parsed p = parse(NB_OPTIONS_PFLAG, "--endpoint x,y --endpoint z "
                                              "--listen-client-urls a,b --listen-client-urls c,");
    const struct nb_option_value *v = nb_options_get(&p.o, "endpoint");
    assert_int_equal(v->item_count, 3);
    assert_string_equal(v->items[0], "x");
    assert_string_equal(v->items[2], "z");
    v = nb_options_get(&p.o, "listen-client-urls");
    assert_int_equal(v->item_count, 2);
    assert_string_equal(v->items[0], "c");
    assert_string_equal(v->items[1], "");
    done(&p);
}

static void a_command_has_its_own_table_and_the_global_one(void **state)
{
    (void)state;
    static const struct nb_option command[] = {{.name = "lease", .type = NB_OPTION_STRING}};
    struct parsed p = parse(NB_OPTIONS_PFLAG_UNTIL_ARGUMENT, "-w json put a --lease 7 --name n b");
    assert_string_equal(p.o.arguments[0], "put");
    char *rest[8];
    int rest_count = 0;
    for (size_t i = 1; i < p.o.argument_count; i++) {
        union {
            const char *constant;
            char *plain;
        } word = {.constant = p.o.arguments[i]};
        rest[rest_count++] = word.plain;
    }
    nb_options_add(&p.o, command, 1);
    assert_int_equal(nb_options_parse(&p.o, NB_OPTIONS_PFLAG, rest_count, rest, &p.message),
                     NB_OPTIONS_OK);
    assert_int_equal(p.o.argument_count, 2);
    assert_string_equal(nb_options_string(&p.o, "lease"), "7");
    assert_string_equal(nb_options_string(&p.o, "name"), "n");
    assert_int_equal(nb_options_choice(&p.o, "write-out"), 1);
    done(&p);
}

static void the_environment_fills_what_is_not_given(void **state)
{
    (void)state;
    char a[] = "X_NAME=from-env", b[] = "X_COUNT=7", c[] = "X_LIMIT=", d[] = "X_OTHER=1",
         e[] = "XY_NAME=no", f[] = "X_SECRET=1", g[] = "X_TIMEOUT=1m", h[] = "NOEQUALS";
    char *envp[] = {a, b, c, d, e, f, g, h, NULL};
    struct parsed p = parse(NB_OPTIONS_GO_FLAG, "--count=9");
    assert_int_equal(nb_options_environment(&p.o, "X", envp, &p.message), NB_OPTIONS_OK);
    assert_string_equal(nb_options_string(&p.o, "name"), "from-env");
    assert_int_equal(nb_options_get(&p.o, "name")->source, NB_OPTION_FROM_VARIABLE);
    assert_int_equal(nb_options_uint64(&p.o, "count"), 9);
    assert_int_equal(nb_options_duration_ns(&p.o, "timeout"), INT64_C(60000000000));
    assert_false(nb_options_given(&p.o, "limit"));
    assert_int_equal(p.o.variables_shadowed_count, 1);
    assert_string_equal(p.o.variables_shadowed[0], "X_COUNT");
    assert_int_equal(p.o.variables_unknown_count, 3);
    assert_string_equal(p.o.variables_unknown[0], "X_LIMIT"); /* set but empty, as etcd has it */
    assert_string_equal(p.o.variables_unknown[1], "X_OTHER");
    assert_string_equal(p.o.variables_unknown[2], "X_SECRET");
    done(&p);
}

static void a_wrong_variable_is_refused_by_its_name(void **state)
{
    (void)state;
    char a[] = "X_COUNT=many";
    char *envp[] = {a, NULL};
    struct parsed p = parse(NB_OPTIONS_GO_FLAG, "");
    nb_buf_clear(&p.message);
    assert_int_equal(nb_options_environment(&p.o, "X", envp, &p.message), NB_OPTIONS_BAD);
    nb_buf_append(&p.message, "", 1);
    assert_string_equal((const char *)p.message.data,
                        "invalid value \"many\" for X_COUNT: parse error");
    done(&p);
}

static void durations_read_and_print_as_in_go(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ns;
        const char *printed; /* NULL: is not a duration */
    } cases[] = {
        {"0", 0, "0s"},
        {"5m", INT64_C(300000000000), "5m0s"},
        {"1h30m", INT64_C(5400000000000), "1h30m0s"},
        {"100ms", 100000000, "100ms"},
        {"1.5s", 1500000000, "1.5s"},
        {".5s", 500000000, "500ms"},
        {"1.s", 1000000000, "1s"},
        {"-1.5h", INT64_C(-5400000000000), "-1h30m0s"},
        {"+3us", 3000, "3µs"},
        {"3µs", 3000, "3µs"},
        {"1.000000001s", 1000000001, "1.000000001s"},
        {"17ns", 17, "17ns"},
        {"2562047h47m16.854775807s", INT64_MAX, "2562047h47m16.854775807s"},
        {"2562047h47m16.854775808s", 0, NULL},
        {"99999999999999999999h", 0, NULL},
        {"", 0, NULL},
        {"5", 0, NULL},
        {"-", 0, NULL},
        {"s", 0, NULL},
        {".s", 0, NULL},
        {"1d", 0, NULL},
        {"1h30", 0, NULL},
        {"1 h", 0, NULL},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
        int64_t ns = 0;
        bool parsed = nb_duration_parse(cases[i].text, &ns);
        assert_int_equal(parsed, cases[i].printed != NULL);
        if (parsed) {
            struct nb_buf out = {0};
            nb_duration_print(&out, ns);
            nb_buf_append(&out, "", 1);
            assert_int_equal(ns, cases[i].ns);
            assert_string_equal((const char *)out.data, cases[i].printed);
            nb_buf_deinit(&out);
        }
    }
}

static void a_printed_duration_reads_back(void **state)
{
    (void)state;
    struct nb_random r;
    nb_random_init(&r, unit_seed());
    for (unsigned i = 0; i < 20000; i++) {
        int64_t ns = (int64_t)(nb_random_u64(&r) >> (1 + nb_random_below(&r, 62)));
        struct nb_buf out = {0};
        nb_duration_print(&out, ns);
        nb_buf_append(&out, "", 1);
        int64_t back = -1;
        assert_true(nb_duration_parse((const char *)out.data, &back));
        assert_int_equal(back, ns);
        nb_buf_deinit(&out);
    }
}

static void integers_read_as_in_go(void **state)
{
    (void)state;
    int64_t i;
    uint64_t u;
    assert_true(nb_int64_parse("-9223372036854775808", &i) && i == INT64_MIN);
    assert_true(nb_int64_parse("9223372036854775807", &i) && i == INT64_MAX);
    assert_false(nb_int64_parse("9223372036854775808", &i));
    assert_true(nb_int64_parse("0x1F", &i) && i == 31);
    assert_true(nb_int64_parse("010", &i) && i == 8);
    assert_true(nb_int64_parse("0o10", &i) && i == 8);
    assert_true(nb_int64_parse("0b101", &i) && i == 5);
    assert_true(nb_int64_parse("0", &i) && i == 0);
    assert_true(nb_int64_parse("+7", &i) && i == 7);
    assert_true(nb_uint64_parse("18446744073709551615", &u) && u == UINT64_MAX);
    static const char *const wrong[] = {"", "-", "+", "0x", "1x", " 1", "1 ", "--1", "09", "1.0"};
    for (size_t k = 0; k < NB_ARRAY_LEN(wrong); k++) {
        assert_false(nb_int64_parse(wrong[k], &i));
        assert_false(nb_uint64_parse(wrong[k], &u));
    }
}

static void the_nearest_name_is_found_and_no_far_one(void **state)
{
    (void)state;
    static const char *const known[] = {"put", "get", "watch", "member", "endpoint"};
    assert_string_equal(nb_nearest("wacth", known, 5), "watch");
    assert_string_equal(nb_nearest("members", known, 5), "member");
    assert_string_equal(nb_nearest("gte", known, 5), "get");
    assert_null(nb_nearest("zzz", known, 5));
    assert_null(nb_nearest("", known, 5));
    char huge[400];
    memset(huge, 'a', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    assert_null(nb_nearest(huge, known, 5));
}

static void help_fits_the_width_and_shows_groups_once(void **state)
{
    (void)state;
    static const struct nb_option table[] = {
        {.name = "first",
         .letter = 'f',
         .group = "One",
         .metavar = "X",
         .default_text = "abc",
         .help = "a sentence that is long enough to be wrapped in a narrow terminal"},
        {.name = "other", .type = NB_OPTION_BOOL, .group = "Two", .help = "another"},
        {.name = "last", .type = NB_OPTION_CHOICE, .choices = "a,b", .group = "One"},
        {.name = "gone", .flags = NB_OPTION_HIDDEN, .group = "One", .help = "not shown"},
    };
    static const struct nb_options_example examples[] = {{"tool -f x", "does it"}};
    struct nb_options o;
    nb_options_init(&o);
    nb_options_add(&o, table, NB_ARRAY_LEN(table));
    struct nb_buf out = {0};
    nb_options_help_print(&o,
                          &(struct nb_options_help){.usage = "tool [options]",
                                                    .summary = "Does things.",
                                                    .examples = examples,
                                                    .example_count = 1,
                                                    .width = 50},
                          &out);
    nb_buf_append(&out, "", 1);
    assert_string_equal((const char *)out.data,
                        "Usage: tool [options]\n"
                        "\n"
                        "Does things.\n"
                        "\n"
                        "One\n"
                        "  -f, --first X      a sentence that is long\n"
                        "                     enough to be wrapped in a\n"
                        "                     narrow terminal (default abc)\n"
                        "      --last CHOICE  one of a, b\n"
                        "\n"
                        "Two\n"
                        "      --other        another\n"
                        "\n"
                        "Examples\n"
                        "  # does it\n"
                        "  tool -f x\n");
    nb_buf_deinit(&out);
    nb_options_deinit(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_gives_these_values),
        cmocka_unit_test(a_wrong_line_is_refused_with_this_text),
        cmocka_unit_test(help_is_asked_for_in_three_ways),
        cmocka_unit_test(a_list_replaces_the_default_and_appends_when_it_says_so),
        cmocka_unit_test(a_command_has_its_own_table_and_the_global_one),
        cmocka_unit_test(the_environment_fills_what_is_not_given),
        cmocka_unit_test(a_wrong_variable_is_refused_by_its_name),
        cmocka_unit_test(durations_read_and_print_as_in_go),
        cmocka_unit_test(a_printed_duration_reads_back),
        cmocka_unit_test(integers_read_as_in_go),
        cmocka_unit_test(the_nearest_name_is_found_and_no_far_one),
        cmocka_unit_test(help_fits_the_width_and_shows_groups_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

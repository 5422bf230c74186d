/* What an idle connection costs, counted at malloc. */
#include "tests/support/rpc_pair.h"
#include "tests/support/unit.h"

#include <malloc.h>

enum { CONNECTIONS = 2000, IDLE_BYTES_MAX = 32 << 10 };

/* Bytes in use. Sanitizers have their own malloc, which does not say. */
static size_t in_use(void)
{
    return mallinfo2().uordblks + mallinfo2().hblkhd;
}

/* Resident bytes of the process. */
static size_t resident(void)
{
    char line[100] = "";
    FILE *f = fopen("/proc/self/statm", "r");
    if (f != NULL) {
        (void)!fgets(line, sizeof line, f); /* the size, then what is resident, in pages */
        (void)fclose(f);
    }
    char *second = line;
    (void)strtoul(line, &second, 10);
    return strtoul(second, NULL, 10) * 4096;
}

static void C5_an_idle_connection_costs_its_session_and_little_more(void **state)
{
    (void)state;
    struct pair p;
    pair_init(&p, NULL, NULL);
    struct outcome o;
    for (int i = 0; i < 10; i++) { /* pools are warm */
        (void)pair_call(&p, "/t.S/Echo", nb_bytes_str("x"), &o);
        (void)pair_pump(&p);
        outcome_deinit(&o);
    }
    /* The bytes of a client that has made a call, for all the others to repeat. */
    struct rpc_client_config config = {.authority = "a:1", .on_output = pair_client_output};
    struct rpc_client *client = rpc_client_create(&config, 0);
    struct outcome never = {0};
    struct rpc_client_request r = {.path = "/t.S/Echo", .events = &outcome_events, .user = &never};
    uint8_t *large = nb_alloc_zero(1, 300);
    (void)!rpc_client_unary(client, &r, nb_bytes_of(large, 300));
    struct nb_buf up = {0}, down = {0};
    (void)rpc_client_output(client, &up, SIZE_MAX);
    nb_buf_reserve(&down, 1 << 20);
    static struct rpc_conn *conns[CONNECTIONS];
    size_t before = in_use(), resident_before = resident();
    for (size_t i = 0; i < CONNECTIONS; i++) {
        conns[i] = rpc_conn_create(p.server, 0, &p);
        assert_int_equal(rpc_conn_feed(conns[i], nb_buf_bytes(&up), 0), NB_OK);
        nb_buf_clear(&down);
        (void)rpc_conn_output(conns[i], &down, SIZE_MAX);
        assert_int_equal(rpc_conn_call_count(conns[i]), 0);
    }
    size_t each = (in_use() - before) / CONNECTIONS;
    print_message("an idle HTTP/2 connection: %zu bytes of heap, %zu resident\n", each,
                  (resident() - resident_before) / CONNECTIONS);
    assert_true(in_use() < before || each <= IDLE_BYTES_MAX);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        rpc_conn_destroy(conns[i]);
    }
    rpc_client_destroy(client);
    nb_free(large);
    nb_buf_deinit(&up);
    nb_buf_deinit(&down);
    outcome_deinit(&never);
    pair_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(C5_an_idle_connection_costs_its_session_and_little_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

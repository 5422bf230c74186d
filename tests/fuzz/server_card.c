/* What members tell one that joins: any bytes give members or a status, and what came out goes in
 * again, through a hello too when it fits one. */
#include "peer/hello.h"
#include "server/join.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_hello(struct nb_bytes card)
{
    struct peer_hello hello = {.protocol_version = PEER_PROTOCOL_VERSION,
                               .channel = PEER_CHANNEL_PROBE,
                               .from = 1,
                               .boot_id = 1,
                               .boot_count = 1,
                               .card = card};
    struct peer_hello back;
    struct nb_buf bytes = {0};
    peer_hello_encode(&hello, &bytes);
    nb_assert(bytes.len <= PEER_HELLO_SIZE_MAX);
    nb_assert(peer_hello_decode(nb_buf_bytes(&bytes), &back) == NB_OK);
    nb_assert(nb_bytes_equal(back.card, card));
    nb_buf_deinit(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct machine_members members = {0}, again = {0};
    uint64_t applied, applied_again;
    if (server_card_decode(nb_bytes_of(data, size), &applied, &members) == NB_OK) {
        struct nb_buf bytes = {0};
        server_card_encode(1, applied, &members, &bytes);
        nb_assert(server_card_decode(nb_buf_bytes(&bytes), &applied_again, &again) == NB_OK);
        nb_assert(applied_again == applied && again.count == members.count);
        for (size_t i = 0; i < again.count; i++) {
            nb_assert(again.items[i].id == members.items[i].id);
            nb_assert(again.items[i].peer_url_count == members.items[i].peer_url_count);
        }
        if (bytes.len <= PEER_CARD_SIZE_MAX) {
            try_hello(nb_buf_bytes(&bytes));
        }
        nb_buf_deinit(&bytes);
    }
    machine_members_deinit(&members);
    machine_members_deinit(&again);
    return 0;
}

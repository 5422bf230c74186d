/* Cards, calls and answers of pods: any bytes give one or NB_MALFORMED, and what came out goes in
 * again. */
#include "steward/card.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_card(struct nb_bytes from)
{
    struct steward_card card;
    if (steward_card_decode(from, &card) != NB_OK) {
        return;
    }
    struct machine_members members = {0};
    bool fine = machine_members_apply(&members, card.members) == NB_OK;
    struct nb_buf bytes = {0};
    steward_card_encode(&card, fine ? &members : NULL, &bytes);
    struct steward_card again;
    nb_assert(steward_card_decode(nb_buf_bytes(&bytes), &again) == NB_OK);
    nb_assert(again.member_id == card.member_id && again.state == card.state);
    nb_buf_deinit(&bytes);
    machine_members_deinit(&members);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nb_bytes from = nb_bytes_of(data, size);
    struct steward_call call;
    struct steward_answer answer;
    struct nb_buf bytes = {0};
    try_card(from);
    if (steward_call_decode(from, &call) == NB_OK) {
        steward_call_encode(&call, &bytes);
        nb_assert(steward_call_decode(nb_buf_bytes(&bytes), &call) == NB_OK);
    }
    nb_buf_clear(&bytes);
    if (steward_answer_decode(from, &answer) == NB_OK) {
        steward_answer_encode(&answer, &bytes);
        nb_assert(steward_answer_decode(nb_buf_bytes(&bytes), &answer) == NB_OK);
    }
    nb_buf_deinit(&bytes);
    return 0;
}

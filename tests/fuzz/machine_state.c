/*
 * The machine's state in the backend: any bytes give a state or a status; what decodes is encoded
 * and decoded again to the same bytes.
 */
#include "machine/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct machine_state first = {0}, second = {0};
    if (machine_state_decode(nb_bytes_of(data, size), &first) == NB_OK) {
        struct nb_buf once = {0}, again = {0};
        nb_assert(first.alarm_count <= MACHINE_ALARM_COUNT_MAX);
        nb_assert(first.members.count <= MACHINE_MEMBER_COUNT_MAX);
        machine_state_encode(&first, &once);
        enum nb_status status = machine_state_decode(nb_buf_bytes(&once), &second);
        nb_assert(status == NB_OK);
        machine_state_encode(&second, &again);
        nb_assert(nb_bytes_equal(nb_buf_bytes(&once), nb_buf_bytes(&again)));
        nb_buf_deinit(&once);
        nb_buf_deinit(&again);
    }
    machine_state_deinit(&first);
    machine_state_deinit(&second);
    return 0;
}

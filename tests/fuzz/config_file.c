/* Any bytes as a configuration file: taken, or refused with a text. */
#include "server/flags.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nb_options options;
    nb_options_init(&options);
    nb_options_add(&options, server_flags, server_flag_count);
    struct nb_buf message = {0};
    bool fine = server_flags_from_file((const char *)data, size, &options, &message);
    nb_assert(fine == (message.len == 0));
    nb_buf_deinit(&message);
    nb_options_deinit(&options);
    return 0;
}

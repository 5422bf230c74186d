/*
 * server/flags: the table of etcd's flags, and what else may hold them: a configuration file.
 */
#ifndef NABATA_SERVER_FLAGS_H
#define NABATA_SERVER_FLAGS_H

#include "base/options.h"

extern const struct nb_option server_flags[];
extern const size_t server_flag_count;

/*
 * Sets options from the text of a configuration file: a JSON object, or lines `key: value`. Unknown
 * keys are ignored, as etcd does. False: `message` says what is wrong, without the file's name.
 */
NB_MUST_USE bool server_flags_from_file(const char *text, size_t len, struct nb_options *o,
                                        struct nb_buf *message);

#endif

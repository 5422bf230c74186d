/* Where the log lines go. */
#include "server/config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

bool server_log_open(const struct server_config *config, struct nb_logger *out,
                     struct nb_buf *message)
{
    struct nb_logger logger = {
        .fd = STDERR_FILENO, .level_min = config->log_level, .format = config->log_format};
    if (strcmp(config->log_output, "stdout") == 0) {
        logger.fd = STDOUT_FILENO;
    } else if (strcmp(config->log_output, "stderr") != 0) {
        logger.fd = open(config->log_output, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (logger.fd < 0) {
            nb_buf_append_str(message, "cannot open the log file ");
            nb_json_escape(message, nb_bytes_str(config->log_output));
            nb_buf_printf(message, ": %s\n", strerror(errno));
            return false;
        }
    }
    bool terminal = isatty(logger.fd) == 1;
    if (terminal && !config->log_format_given && !config->as_etcd) {
        logger.format = NB_LOG_CONSOLE;
    }
    logger.color = terminal && logger.format == NB_LOG_CONSOLE;
    *out = logger;
    return true;
}

void server_log_close(struct nb_logger *logger)
{
    if (logger->fd > STDERR_FILENO) {
        (void)close(logger->fd);
    }
    logger->fd = -1;
}

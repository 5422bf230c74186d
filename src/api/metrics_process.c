/* api/metrics_process: the rows of /proc that every Prometheus client reports. */
#include "api/internal.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void number(struct nb_buf *out, const char *name, const char *type, const char *help,
                   uint64_t value)
{
    nb_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", name, help, name, type, name,
                  value);
}

/* The first bytes of a file, as a text. False: it cannot be read. */
static bool read_text(const char *path, char *to, size_t size)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    size_t len = fread(to, 1, size - 1, file);
    to[len] = '\0';
    (void)fclose(file);
    return len != 0;
}

static void write_times(struct nb_buf *out)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        double seconds = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
        nb_buf_printf(out,
                      "# HELP process_cpu_seconds_total Total user and system CPU time spent in "
                      "seconds.\n# TYPE process_cpu_seconds_total counter\n"
                      "process_cpu_seconds_total %.2f\n",
                      seconds);
    }
    enum { STARTED_FIELD = 22, FIRST_FIELD = 3 };
    char stat[1024], machine[8192];
    if (!read_text("/proc/self/stat", stat, sizeof stat) ||
        !read_text("/proc/stat", machine, sizeof machine)) {
        return;
    }
    const char *at = strrchr(stat, ')'); /* the name may hold anything */
    for (int field = FIRST_FIELD - 1; at != NULL && field < STARTED_FIELD; field++) {
        at = strchr(at + 1, ' ');
    }
    const char *boot = strstr(machine, "\nbtime ");
    if (at != NULL && boot != NULL) {
        double ticks = (double)strtoull(at, NULL, 10);
        double booted = (double)strtoull(boot + strlen("\nbtime "), NULL, 10);
        nb_buf_printf(out,
                      "# HELP process_start_time_seconds Start time of the process since unix "
                      "epoch in seconds.\n# TYPE process_start_time_seconds gauge\n"
                      "process_start_time_seconds %.2f\n",
                      booted + ticks / (double)sysconf(_SC_CLK_TCK));
    }
}

static void write_memory(struct nb_buf *out)
{
    char text[128];
    if (read_text("/proc/self/statm", text, sizeof text)) {
        uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
        char *at = text;
        uint64_t size = strtoull(at, &at, 10);
        uint64_t resident = strtoull(at, &at, 10);
        number(out, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
               size * page);
        number(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
               resident * page);
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0) {
        number(out, "process_virtual_memory_max_bytes", "gauge",
               "Maximum amount of virtual memory available in bytes.", limit.rlim_cur);
    }
}

uint64_t api_open_file_count(void)
{
    DIR *fds = opendir("/proc/self/fd");
    uint64_t count = 0;
    if (fds == NULL) {
        return 0;
    }
    while (readdir(fds) != NULL) {
        count++;
    }
    (void)closedir(fds);
    return count - 3; /* two that are no files, and the folder itself */
}

uint64_t api_open_file_limit(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

static void write_files(struct nb_buf *out)
{
    uint64_t used = api_open_file_count(), limit = api_open_file_limit();
    number(out, "process_open_fds", "gauge", "Number of open file descriptors.", used);
    number(out, "os_fd_used", "gauge", "The number of used file descriptors.", used);
    number(out, "process_max_fds", "gauge", "Maximum number of open file descriptors.", limit);
    number(out, "os_fd_limit", "gauge", "The file descriptor limit.", limit);
}

/* The number of `name` in the pair of lines of /proc/self/net/netstat that begin with "IpExt:". */
static bool ip_number(const char *text, const char *name, uint64_t *out)
{
    const char *names = strstr(text, "IpExt:");
    const char *values = names == NULL ? NULL : strstr(names + 1, "\nIpExt:");
    if (values == NULL) {
        return false;
    }
    values++;
    size_t len = strlen(name);
    while (*names != '\0' && *names != '\n') {
        names += strcspn(names, " \n");
        values += strcspn(values, " \n");
        names += *names == ' ' ? 1 : 0;
        values += *values == ' ' ? 1 : 0;
        if (strncmp(names, name, len) == 0 && (names[len] == ' ' || names[len] == '\n')) {
            *out = strtoull(values, NULL, 10);
            return true;
        }
    }
    return false;
}

/* Of the whole network namespace, as the Go client has it. */
static void write_network(struct nb_buf *out)
{
    char text[16384];
    uint64_t value;
    if (!read_text("/proc/self/net/netstat", text, sizeof text)) {
        return;
    }
    if (ip_number(text, "InOctets", &value)) {
        number(out, "process_network_receive_bytes_total", "counter",
               "Number of bytes received by the process over the network.", value);
    }
    if (ip_number(text, "OutOctets", &value)) {
        number(out, "process_network_transmit_bytes_total", "counter",
               "Number of bytes sent by the process over the network.", value);
    }
}

void api_metrics_write_process(struct nb_buf *out)
{
    write_times(out);
    write_memory(out);
    write_files(out);
    write_network(out);
}

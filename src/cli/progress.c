#include "cli/progress.h"

#include "base/options.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum { BAR_COLUMNS_MAX = 40, BAR_COLUMNS_MIN = 5 };

static const uint64_t draw_interval_ns = 100ULL * 1000 * 1000;

void progress_begin(struct progress *p, const char *label, uint64_t total)
{
    *p = (struct progress){.label = label,
                           .total = total,
                           .width = nb_terminal_width(STDERR_FILENO),
                           .shown = isatty(STDERR_FILENO) == 1};
}

void progress_line(const struct progress *p, const char *note, struct nb_buf *out)
{
    uint64_t done = p->done < p->total ? p->done : p->total;
    size_t start = out->len;
    struct nb_buf tail = {0};
    nb_buf_printf(&tail, " %3" PRIu64 "%%  %s", p->total > 0 ? done * 100 / p->total : 100, note);
    size_t taken = strlen(p->label) + 3 + tail.len;
    size_t columns = p->width > taken + BAR_COLUMNS_MIN ? p->width - taken - 1 : BAR_COLUMNS_MIN;
    columns = columns > BAR_COLUMNS_MAX ? BAR_COLUMNS_MAX : columns;
    size_t full = p->total > 0 ? (size_t)(done * columns / p->total) : columns;
    nb_buf_printf(out, "%s [", p->label);
    for (size_t i = 0; i < columns; i++) {
        nb_buf_append_str(out, i < full ? "#" : ".");
    }
    nb_buf_append_str(out, "]");
    nb_buf_append_bytes(out, nb_buf_bytes(&tail));
    if (out->len - start > p->width) {
        out->len = start + p->width;
    }
    nb_buf_deinit(&tail);
}

static void put(const struct nb_buf *text)
{
    ssize_t ignored = write(STDERR_FILENO, text->data, text->len);
    (void)ignored; /* a bar that cannot be drawn is no failure */
}

void progress_set(struct progress *p, uint64_t done, uint64_t now_ns, const char *note)
{
    p->done = done;
    if (!p->shown || (now_ns - p->drawn_ns < draw_interval_ns && done < p->total)) {
        return;
    }
    p->drawn_ns = now_ns;
    struct nb_buf line = {0};
    nb_buf_append_str(&line, "\r\033[K");
    progress_line(p, note, &line);
    put(&line);
    nb_buf_deinit(&line);
}

void progress_end(struct progress *p)
{
    if (p->shown) {
        struct nb_buf line = {0};
        nb_buf_append_str(&line, "\r\033[K");
        put(&line);
        nb_buf_deinit(&line);
        p->shown = false;
    }
}

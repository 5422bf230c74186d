/* The help text of a set of options. */
#include "base/options.h"

#include <string.h>
#include <sys/ioctl.h>

enum {
    WIDTH_DEFAULT = 80,
    WIDTH_MIN = 40,
    LEFT_WIDTH_MAX = 34, /* an option longer than this has its sentence on the next line */
    INDENT = 2,
    GAP = 2,
};

struct page {
    struct nb_buf *out;
    unsigned width, left_width;
    bool color;
};

unsigned nb_terminal_width(int fd)
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
        return WIDTH_DEFAULT;
    }
    return size.ws_col;
}

/* Columns of UTF-8 text, one a code point. */
static unsigned columns(const char *text, size_t len)
{
    unsigned count = 0;
    for (size_t i = 0; i < len; i++) {
        count += ((unsigned char)text[i] & 0xc0) != 0x80 ? 1 : 0;
    }
    return count;
}

static void spaces(struct nb_buf *out, unsigned count)
{
    for (; count > 0; count--) {
        nb_buf_append_str(out, " ");
    }
}

/* Words of `text`, from column `at` on, every further line indented to `indent`; ends the line. */
static void wrap(const struct page *page, const char *text, unsigned at, unsigned indent)
{
    bool first = true;
    while (*text != '\0') {
        size_t len = strcspn(text, " ");
        unsigned wide = columns(text, len);
        if (!first && at + 1 + wide > page->width) {
            nb_buf_append_str(page->out, "\n");
            spaces(page->out, indent);
            at = indent;
            first = true;
        }
        if (!first) {
            nb_buf_append_str(page->out, " ");
            at++;
        }
        nb_buf_append(page->out, text, len);
        at += wide;
        first = false;
        text += len;
        text += strspn(text, " ");
    }
    nb_buf_append_str(page->out, "\n");
}

static void heading(const struct page *page, const char *text)
{
    nb_buf_printf(page->out, page->color ? "\n\033[1m%s\033[0m\n" : "\n%s\n", text);
}

static const char *metavar_of(const struct nb_option *row)
{
    if (row->metavar != NULL) {
        return row->metavar;
    }
    switch (row->type) {
    case NB_OPTION_STRING:
        return "TEXT";
    case NB_OPTION_BOOL:
        return "";
    case NB_OPTION_INT64:
    case NB_OPTION_UINT64:
        return "N";
    case NB_OPTION_DURATION:
        return "DURATION";
    case NB_OPTION_CHOICE:
        return "CHOICE";
    case NB_OPTION_LIST:
        return "A,B,...";
    }
    nb_unreachable("an option of no type");
}

static void left_text(const struct nb_option *row, bool letters, struct nb_buf *out)
{
    nb_buf_clear(out);
    if (row->letter != 0) {
        nb_buf_printf(out, "-%c, ", row->letter);
    } else if (letters) {
        nb_buf_append_str(out, "    ");
    }
    nb_buf_printf(out, "--%s", row->name);
    const char *metavar = metavar_of(row);
    if (*metavar != '\0') {
        nb_buf_printf(out, " %s", metavar);
    }
}

static bool shown(const struct nb_option *row)
{
    return (row->flags & (NB_OPTION_HIDDEN | NB_OPTION_IGNORED)) == 0;
}

static const char *group_of(const struct nb_option *row)
{
    return row->group == NULL ? "Options" : row->group;
}

static bool any_letter(const struct nb_options *o)
{
    for (size_t i = 0; i < o->slot_count; i++) {
        if (shown(o->slots[i].row) && o->slots[i].row->letter != 0) {
            return true;
        }
    }
    return false;
}

/* Sentence, choices, default, and that it is not supported yet. */
static void right_text(const struct nb_option *row, struct nb_buf *out)
{
    nb_buf_clear(out);
    nb_buf_append_str(out, row->help == NULL ? "" : row->help);
    if (row->type == NB_OPTION_CHOICE) {
        nb_buf_append_str(out, out->len == 0 ? "one of " : ": ");
        for (const char *p = row->choices; *p != '\0'; p++) {
            nb_buf_append(out, p, 1);
            if (*p == ',') {
                nb_buf_append_str(out, " ");
            }
        }
    }
    const char *text = row->default_text;
    bool plain = text == NULL || *text == '\0' || strcmp(text, "false") == 0 ||
                 strcmp(text, "0") == 0 || strcmp(text, "0s") == 0;
    if (!plain) {
        nb_buf_printf(out, " (default %s)", text);
    }
    if ((row->flags & NB_OPTION_UNSUPPORTED) != 0) {
        nb_buf_append_str(out, " (not supported yet)");
    }
    nb_buf_append(out, "", 1);
}

static void print_pair(const struct page *page, struct nb_bytes left, const char *right)
{
    unsigned wide = columns((const char *)left.data, left.len);
    unsigned indent = INDENT + page->left_width + GAP;
    spaces(page->out, INDENT);
    nb_buf_append_str(page->out, page->color ? "\033[36m" : "");
    nb_buf_append_bytes(page->out, left);
    nb_buf_append_str(page->out, page->color ? "\033[0m" : "");
    if (*right == '\0') {
        nb_buf_append_str(page->out, "\n");
        return;
    }
    if (wide > page->left_width) {
        nb_buf_append_str(page->out, "\n");
        spaces(page->out, indent);
    } else {
        spaces(page->out, page->left_width - wide + GAP);
    }
    wrap(page, right, indent, indent);
}

static void print_groups(const struct nb_options *o, struct page *page)
{
    bool letters = any_letter(o);
    struct nb_buf left = {0}, right = {0};
    for (size_t i = 0; i < o->slot_count; i++) {
        left_text(o->slots[i].row, letters, &left);
        unsigned wide = columns((const char *)left.data, left.len);
        if (shown(o->slots[i].row) && wide <= LEFT_WIDTH_MAX && wide > page->left_width) {
            page->left_width = wide;
        }
    }
    bool *printed = nb_alloc_zero(o->slot_count + 1, sizeof *printed);
    for (size_t i = 0; i < o->slot_count; i++) {
        if (printed[i] || !shown(o->slots[i].row)) {
            continue;
        }
        heading(page, group_of(o->slots[i].row));
        for (size_t k = i; k < o->slot_count; k++) {
            const struct nb_option *row = o->slots[k].row;
            if (shown(row) && strcmp(group_of(row), group_of(o->slots[i].row)) == 0) {
                left_text(row, letters, &left);
                right_text(row, &right);
                print_pair(page, nb_buf_bytes(&left), (const char *)right.data);
                printed[k] = true;
            }
        }
    }
    nb_free(printed);
    nb_buf_deinit(&left);
    nb_buf_deinit(&right);
}

static void print_usage(const struct page *page, const char *usage)
{
    nb_buf_append_str(page->out, page->color ? "\033[1mUsage:\033[0m " : "Usage: ");
    for (const char *p = usage; *p != '\0'; p++) {
        nb_buf_append(page->out, p, 1);
        if (*p == '\n') {
            spaces(page->out, sizeof "Usage: " - 1);
        }
    }
    nb_buf_append_str(page->out, "\n");
}

static void print_examples(const struct page *page, const struct nb_options_help *help)
{
    if (help->example_count == 0) {
        return;
    }
    heading(page, "Examples");
    for (size_t i = 0; i < help->example_count; i++) {
        const struct nb_options_example *example = &help->examples[i];
        if (example->what != NULL) {
            spaces(page->out, INDENT);
            nb_buf_append_str(page->out, page->color ? "\033[2m# " : "# ");
            wrap(page, example->what, INDENT + 2, INDENT + 2);
            nb_buf_append_str(page->out, page->color ? "\033[0m" : "");
        }
        spaces(page->out, INDENT);
        nb_buf_printf(page->out, "%s\n", example->command);
    }
}

void nb_options_help_print(const struct nb_options *o, const struct nb_options_help *help,
                           struct nb_buf *out)
{
    unsigned width = help->width == 0 ? WIDTH_DEFAULT : help->width;
    struct page page = {
        .out = out, .width = width < WIDTH_MIN ? WIDTH_MIN : width, .color = help->color};
    print_usage(&page, help->usage);
    if (help->summary != NULL) {
        nb_buf_append_str(out, "\n");
        wrap(&page, help->summary, 0, 0);
    }
    print_groups(o, &page);
    print_examples(&page, help);
}

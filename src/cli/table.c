#include "cli/table.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void table_init(struct table *t, const char *const *titles, size_t column_count)
{
    *t = (struct table){.titles = titles, .column_count = column_count};
}

void table_deinit(struct table *t)
{
    for (size_t i = 0; i < t->cell_count; i++) {
        nb_free(t->cells[i]);
    }
    nb_free(t->cells);
    *t = (struct table){0};
}

void table_add(struct table *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = NULL;
    int len = vasprintf(&text, format, arguments);
    va_end(arguments);
    nb_assert(len >= 0);
    t->cells = nb_grow(t->cells, &t->cell_capacity, t->cell_count + 1, sizeof *t->cells);
    t->cells[t->cell_count++] = nb_strdup(text);
    free(text);
}

size_t table_text_width(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

static void repeat(struct nb_buf *out, const char *text, size_t count)
{
    for (; count > 0; count--) {
        nb_buf_append_str(out, text);
    }
}

static void rule(struct nb_buf *out, const size_t *widths, size_t count, const char *const ends[3])
{
    for (size_t i = 0; i < count; i++) {
        nb_buf_append_str(out, ends[i == 0 ? 0 : 1]);
        repeat(out, "─", widths[i] + 2);
    }
    nb_buf_append_str(out, ends[2]);
    nb_buf_append_str(out, "\n");
}

static void title(struct nb_buf *out, const char *text, size_t width)
{
    size_t space = width - table_text_width(text);
    repeat(out, " ", space / 2 + 1);
    for (; *text != '\0'; text++) {
        char c = (char)toupper((unsigned char)*text);
        if (c == '_') {
            c = ' ';
        }
        nb_buf_append(out, &c, 1);
    }
    repeat(out, " ", space - space / 2 + 1);
}

void table_print(const struct table *t, struct nb_buf *out)
{
    static const char *const top[] = {"┌", "┬", "┐"};
    static const char *const middle[] = {"├", "┼", "┤"};
    static const char *const bottom[] = {"└", "┴", "┘"};
    nb_assert(t->cell_count % t->column_count == 0);
    size_t *widths = nb_alloc_zero(t->column_count, sizeof *widths);
    for (size_t i = 0; i < t->column_count + t->cell_count; i++) {
        const char *text = i < t->column_count ? t->titles[i] : t->cells[i - t->column_count];
        size_t width = table_text_width(text);
        size_t column = i % t->column_count;
        widths[column] = width > widths[column] ? width : widths[column];
    }
    rule(out, widths, t->column_count, top);
    for (size_t i = 0; i < t->column_count; i++) {
        nb_buf_append_str(out, "│");
        title(out, t->titles[i], widths[i]);
    }
    nb_buf_append_str(out, "│\n");
    rule(out, widths, t->column_count, middle);
    for (size_t i = 0; i < t->cell_count; i++) {
        size_t space = widths[i % t->column_count] - table_text_width(t->cells[i]);
        nb_buf_append_str(out, "│ ");
        repeat(out, " ", t->left ? 0 : space);
        nb_buf_append_str(out, t->cells[i]);
        repeat(out, " ", t->left ? space + 1 : 1);
        nb_buf_append_str(out, (i + 1) % t->column_count == 0 ? "│\n" : "");
    }
    rule(out, widths, t->column_count, bottom);
    nb_free(widths);
}

/*
 * cli/table: rows and columns in a frame, as etcdctl draws them. All zero is a valid empty table.
 */
#ifndef NABATA_CLI_TABLE_H
#define NABATA_CLI_TABLE_H

#include "base/bytes.h"

struct table {
    const char *const *titles; /* borrowed */
    size_t column_count;
    char **cells; /* owned; row by row */
    size_t cell_count, cell_capacity;
    bool left; /* cells stand left instead of right */
};

void table_init(struct table *t, const char *const *titles, size_t column_count);
void table_deinit(struct table *t);
/* The next cell; a row is full after column_count of them. */
void table_add(struct table *t, const char *format, ...) NB_PRINTF(2, 3);
/* Titles in upper case and centered, cells right. The last row must be full. */
void table_print(const struct table *t, struct nb_buf *out);

/* Columns that UTF-8 text takes, one a code point. */
size_t table_text_width(const char *text);

#endif

/*
 * mvcc/sort: many records into the order of their keys, fast: a store of a million keys is sorted
 * at every start.
 *
 * A radix sort over the first eight bytes behind what a group of keys has in common; groups that
 * are still equal then are sorted by the next eight, and so on. No recursion: groups wait in a
 * list.
 */
#ifndef NABATA_MVCC_SORT_H
#define NABATA_MVCC_SORT_H

#include "mvcc/record.h"

/* Keys must differ. */
void mvcc_sort_records(struct mvcc_record **records, size_t count);

#endif

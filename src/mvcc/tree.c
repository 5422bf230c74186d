#include "mvcc/tree.h"

#include <string.h>

enum {
    LEAF_FANOUT = 64, /* as many as a word has bits */
    NODE_FANOUT = 48,
    HEIGHT_MAX =
        16, /* a node is split only when full and joined when half of a pair: 3^16 leaves */
};

struct mvcc_leaf {
    uint64_t live; /* bit i: records[i] is alive */
    struct mvcc_leaf *prev, *next;
    unsigned count;
    struct mvcc_record *records[LEAF_FANOUT];
};

struct mvcc_node {
    unsigned count;
    uint32_t live[NODE_FANOUT];
    struct mvcc_record *min[NODE_FANOUT];
    void *child[NODE_FANOUT];
};

/* The way from the root to a leaf. */
struct path {
    struct mvcc_node *nodes[HEIGHT_MAX]; /* nodes[0] is the root, if it is an inner node */
    unsigned slots[HEIGHT_MAX];
    struct mvcc_leaf *leaf;
};

static int order_of(const struct mvcc_record *r, struct nb_bytes key)
{
    return nb_bytes_compare(mvcc_record_key(r), key);
}

/* Records lie all over memory, so a binary search waits for one at every step: ask early for the
 * two that the next step may compare with. */
static void fetch_early(struct mvcc_record *const *records, unsigned low, unsigned middle,
                        unsigned high)
{
    if (high - low > 2) {
        __builtin_prefetch(records[(low + middle) / 2]->key);
        __builtin_prefetch(records[(middle + 1 + high) / 2]->key);
    }
}

static struct mvcc_leaf *leaf_create(struct mvcc_tree *t)
{
    struct mvcc_leaf *leaf = nb_alloc(sizeof *leaf);
    leaf->live = 0;
    leaf->prev = NULL;
    leaf->next = NULL;
    leaf->count = 0;
    t->bytes += sizeof *leaf;
    return leaf;
}

static struct mvcc_node *node_create(struct mvcc_tree *t)
{
    struct mvcc_node *node = nb_alloc(sizeof *node);
    node->count = 0;
    t->bytes += sizeof *node;
    return node;
}

static void leaf_destroy(struct mvcc_tree *t, struct mvcc_leaf *leaf)
{
    t->bytes -= sizeof *leaf;
    nb_free(leaf);
}

static void node_destroy(struct mvcc_tree *t, struct mvcc_node *node)
{
    t->bytes -= sizeof *node;
    nb_free(node);
}

void mvcc_tree_init(struct mvcc_tree *t)
{
    *t = (struct mvcc_tree){0};
    t->root = leaf_create(t);
}

/* Calls itself as often as the tree is high: at most HEIGHT_MAX. */
static void destroy_below(struct mvcc_tree *t, void *any, unsigned height)
{
    if (height == 0) {
        leaf_destroy(t, any);
        return;
    }
    struct mvcc_node *node = any;
    for (unsigned i = 0; i < node->count; i++) {
        destroy_below(t, node->child[i], height - 1);
    }
    node_destroy(t, node);
}

void mvcc_tree_deinit(struct mvcc_tree *t)
{
    destroy_below(t, t->root, t->height);
    *t = (struct mvcc_tree){0};
}

/* The last child whose smallest key is not above `key`; 0 if all are. */
static unsigned child_for(const struct mvcc_node *node, struct nb_bytes key)
{
    unsigned low = 1;
    unsigned high = node->count; /* min[i] <= key for i < low */
    while (low < high) {
        unsigned middle = (low + high) / 2;
        fetch_early(node->min, low, middle, high);
        if (order_of(node->min[middle], key) <= 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low - 1;
}

/* The first record whose key is not below `key`. */
static unsigned slot_for(const struct mvcc_leaf *leaf, struct nb_bytes key)
{
    unsigned low = 0;
    unsigned high = leaf->count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        fetch_early(leaf->records, low, middle, high);
        if (order_of(leaf->records[middle], key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void descend(const struct mvcc_tree *t, struct nb_bytes key, struct path *out)
{
    void *any = t->root;
    for (unsigned level = 0; level < t->height; level++) {
        struct mvcc_node *node = any;
        unsigned i = child_for(node, key);
        out->nodes[level] = node;
        out->slots[level] = i;
        any = node->child[i];
    }
    out->leaf = any;
}

/* One of several descents that go on side by side, a comparison at a time. */
struct search {
    struct nb_bytes key;
    struct mvcc_record *const *records; /* of the node it is in; NULL: that is only being fetched */
    const void *any;
    unsigned height; /* of the node; 0: a leaf */
    unsigned low, high;
    bool over;
};

static void fetch_records(struct mvcc_record *const *records, unsigned count)
{
    enum { LINE_SIZE_BYTES = 64 };
    for (unsigned i = 0; i < count; i += LINE_SIZE_BYTES / sizeof(struct mvcc_record *)) {
        __builtin_prefetch(records + i);
    }
}

/* The node is there: its records are asked for. */
static void search_enter(struct search *s)
{
    const struct mvcc_node *node = s->any;
    const struct mvcc_leaf *leaf = s->any;
    s->low = s->height != 0;
    s->high = s->height != 0 ? node->count : leaf->count;
    s->records = s->height != 0 ? node->min : leaf->records;
    fetch_records(s->records, s->high);
}

/* The record asked for is there: compares, and asks for the next one or for the next node. */
static void search_go_on(struct search *s)
{
    if (s->low < s->high) {
        unsigned middle = (s->low + s->high) / 2;
        if (order_of(s->records[middle], s->key) < (s->height != 0)) {
            s->low = middle + 1;
        } else {
            s->high = middle;
        }
    }
    if (s->low < s->high) {
        __builtin_prefetch(s->records[(s->low + s->high) / 2]->key);
    } else if (s->height == 0) {
        s->over = true;
    } else {
        s->any = ((const struct mvcc_node *)s->any)->child[s->low - 1];
        s->height--;
        s->records = NULL;
        __builtin_prefetch(s->height != 0
                               ? (const void *)&((const struct mvcc_node *)s->any)->count
                               : (const void *)&((const struct mvcc_leaf *)s->any)->count);
    }
}

void mvcc_tree_foresee(const struct mvcc_tree *t, const struct nb_bytes *keys, size_t count)
{
    struct search searches[MVCC_TREE_FORESEEN_MAX];
    nb_assert(count <= MVCC_TREE_FORESEEN_MAX);
    for (size_t i = 0; i < count; i++) {
        searches[i] = (struct search){.key = keys[i], .any = t->root, .height = t->height};
    }
    for (size_t over = 0; over < count;) {
        over = 0;
        for (size_t i = 0; i < count; i++) {
            struct search *s = &searches[i];
            if (s->over) {
                over++;
            } else if (s->records == NULL) {
                search_enter(s);
            } else {
                search_go_on(s);
            }
        }
    }
}

/* Bits below `i`. */
static uint64_t bits_below(unsigned i)
{
    return i >= 64 ? UINT64_MAX : (UINT64_C(1) << i) - 1;
}

static uint32_t leaf_live(const struct mvcc_leaf *leaf)
{
    return (uint32_t)__builtin_popcountll(leaf->live);
}

static uint32_t node_live(const struct mvcc_node *node)
{
    uint32_t sum = 0;
    for (unsigned i = 0; i < node->count; i++) {
        sum += node->live[i];
    }
    return sum;
}

static void leaf_put(struct mvcc_leaf *leaf, unsigned at, struct mvcc_record *r)
{
    memmove(leaf->records + at + 1, leaf->records + at, (leaf->count - at) * sizeof *leaf->records);
    uint64_t below = bits_below(at);
    leaf->live = (leaf->live & below) | (leaf->live & ~below) << 1;
    leaf->live |= (uint64_t)!r->dead << at;
    leaf->records[at] = r;
    leaf->count++;
}

static void leaf_drop(struct mvcc_leaf *leaf, unsigned at)
{
    leaf->count--;
    memmove(leaf->records + at, leaf->records + at + 1, (leaf->count - at) * sizeof *leaf->records);
    uint64_t below = bits_below(at);
    leaf->live = (leaf->live & below) | (leaf->live >> 1 & ~below);
}

static void node_put(struct mvcc_node *node, unsigned at, void *child, struct mvcc_record *min,
                     uint32_t live)
{
    unsigned behind = node->count - at;
    memmove(node->child + at + 1, node->child + at, behind * sizeof *node->child);
    memmove(node->min + at + 1, node->min + at, behind * sizeof *node->min);
    memmove(node->live + at + 1, node->live + at, behind * sizeof *node->live);
    node->child[at] = child;
    node->min[at] = min;
    node->live[at] = live;
    node->count++;
}

static void node_drop(struct mvcc_node *node, unsigned at)
{
    node->count--;
    unsigned behind = node->count - at;
    memmove(node->child + at, node->child + at + 1, behind * sizeof *node->child);
    memmove(node->min + at, node->min + at + 1, behind * sizeof *node->min);
    memmove(node->live + at, node->live + at + 1, behind * sizeof *node->live);
}

static void link_behind(struct mvcc_leaf *leaf, struct mvcc_leaf *right)
{
    right->prev = leaf;
    right->next = leaf->next;
    if (leaf->next != NULL) {
        leaf->next->prev = right;
    }
    leaf->next = right;
}

static void unlink_leaf(struct mvcc_leaf *leaf)
{
    if (leaf->prev != NULL) {
        leaf->prev->next = leaf->next;
    }
    if (leaf->next != NULL) {
        leaf->next->prev = leaf->prev;
    }
}

/* Moves what is behind `keep` records into a new leaf behind this one. */
static struct mvcc_leaf *leaf_split(struct mvcc_tree *t, struct mvcc_leaf *leaf, unsigned keep)
{
    struct mvcc_leaf *right = leaf_create(t);
    right->count = leaf->count - keep;
    memcpy(right->records, leaf->records + keep, right->count * sizeof *right->records);
    right->live = keep >= 64 ? 0 : leaf->live >> keep;
    link_behind(leaf, right);
    leaf->count = keep;
    leaf->live &= bits_below(keep);
    return right;
}

static struct mvcc_node *node_split(struct mvcc_tree *t, struct mvcc_node *node, unsigned keep)
{
    struct mvcc_node *right = node_create(t);
    right->count = node->count - keep;
    memcpy(right->child, node->child + keep, right->count * sizeof *right->child);
    memcpy(right->min, node->min + keep, right->count * sizeof *right->min);
    memcpy(right->live, node->live + keep, right->count * sizeof *right->live);
    node->count = keep;
    return right;
}

/* A new child `right`, just behind the one at the end of the path on `level`; splits upwards. */
static void insert_child(struct mvcc_tree *t, struct path *p, unsigned level, void *right,
                         struct mvcc_record *min, uint32_t live)
{
    while (level != 0) {
        level--;
        struct mvcc_node *node = p->nodes[level];
        unsigned at = p->slots[level] + 1;
        node->live[at - 1] -= live;
        if (node->count < NODE_FANOUT) {
            node_put(node, at, right, min, live);
            return;
        }
        /* At the very end, leave the full node full: keys that come in order fill the tree. */
        unsigned keep = at == NODE_FANOUT ? NODE_FANOUT - 1 : NODE_FANOUT / 2;
        struct mvcc_node *half = node_split(t, node, keep);
        if (at <= keep) {
            node_put(node, at, right, min, live);
        } else {
            node_put(half, at - keep, right, min, live);
        }
        right = half;
        min = half->min[0];
        live = node_live(half);
    }
    nb_assert(t->height < HEIGHT_MAX);
    struct mvcc_node *root = node_create(t);
    struct mvcc_record *first = t->height == 0 ? ((struct mvcc_leaf *)t->root)->records[0]
                                               : ((struct mvcc_node *)t->root)->min[0];
    node_put(root, 0, t->root, first, (uint32_t)t->live - live);
    node_put(root, 1, right, min, live);
    t->root = root;
    t->height++;
}

void mvcc_tree_insert(struct mvcc_tree *t, struct mvcc_record *r)
{
    struct path p;
    struct nb_bytes key = mvcc_record_key(r);
    nb_assert(t->count < UINT32_MAX);
    descend(t, key, &p);
    unsigned at = slot_for(p.leaf, key);
    nb_assert(at == p.leaf->count || order_of(p.leaf->records[at], key) != 0);
    t->count++;
    t->live += !r->dead;
    for (unsigned level = 0; level < t->height; level++) {
        struct mvcc_node *node = p.nodes[level];
        node->live[p.slots[level]] += !r->dead;
        if (at == 0) { /* then it is the smallest of all: the way is along the left edge */
            node->min[p.slots[level]] = r;
        }
    }
    if (p.leaf->count < LEAF_FANOUT) {
        leaf_put(p.leaf, at, r);
        return;
    }
    unsigned keep = at == LEAF_FANOUT ? LEAF_FANOUT - 1 : LEAF_FANOUT / 2;
    struct mvcc_leaf *right = leaf_split(t, p.leaf, keep);
    if (at <= keep) {
        leaf_put(p.leaf, at, r);
    } else {
        leaf_put(right, at - keep, r);
    }
    insert_child(t, &p, t->height, right, right->records[0], leaf_live(right));
}

/* Joins child `i` with the one behind it when both fill half a node at most (B4). */
static void join_leaves(struct mvcc_tree *t, struct mvcc_node *parent, unsigned i)
{
    struct mvcc_leaf *left = parent->child[i];
    struct mvcc_leaf *right = parent->child[i + 1];
    if (left->count + right->count > LEAF_FANOUT / 2) {
        return;
    }
    memcpy(left->records + left->count, right->records, right->count * sizeof *left->records);
    left->live |= right->live << left->count;
    left->count += right->count;
    parent->live[i] += parent->live[i + 1];
    parent->min[i] = left->records[0];
    unlink_leaf(right);
    node_drop(parent, i + 1);
    leaf_destroy(t, right);
}

static void join_nodes(struct mvcc_tree *t, struct mvcc_node *parent, unsigned i)
{
    struct mvcc_node *left = parent->child[i];
    struct mvcc_node *right = parent->child[i + 1];
    if (left->count + right->count > NODE_FANOUT / 2) {
        return;
    }
    memcpy(left->child + left->count, right->child, right->count * sizeof *left->child);
    memcpy(left->min + left->count, right->min, right->count * sizeof *left->min);
    memcpy(left->live + left->count, right->live, right->count * sizeof *left->live);
    left->count += right->count;
    parent->live[i] += parent->live[i + 1];
    parent->min[i] = left->min[0];
    node_drop(parent, i + 1);
    node_destroy(t, right);
}

/* After a removal from child `i`, a leaf: drops it, or mends its min and joins it with a neighbour.
 */
static void mend_leaf(struct mvcc_tree *t, struct mvcc_node *parent, unsigned i)
{
    struct mvcc_leaf *leaf = parent->child[i];
    if (leaf->count == 0) {
        unlink_leaf(leaf);
        node_drop(parent, i);
        leaf_destroy(t, leaf);
        return;
    }
    parent->min[i] = leaf->records[0];
    if (i + 1 < parent->count) {
        join_leaves(t, parent, i);
    }
    if (i != 0) {
        join_leaves(t, parent, i - 1);
    }
}

static void mend_node(struct mvcc_tree *t, struct mvcc_node *parent, unsigned i)
{
    struct mvcc_node *node = parent->child[i];
    if (node->count == 0) {
        node_drop(parent, i);
        node_destroy(t, node);
        return;
    }
    parent->min[i] = node->min[0];
    if (i + 1 < parent->count) {
        join_nodes(t, parent, i);
    }
    if (i != 0) {
        join_nodes(t, parent, i - 1);
    }
}

void mvcc_tree_remove(struct mvcc_tree *t, const struct mvcc_record *r)
{
    struct path p;
    struct nb_bytes key = mvcc_record_key(r);
    descend(t, key, &p);
    unsigned at = slot_for(p.leaf, key);
    nb_assert(at < p.leaf->count && p.leaf->records[at] == r);
    bool alive = (p.leaf->live >> at & 1) != 0;
    leaf_drop(p.leaf, at);
    t->count--;
    t->live -= alive;
    for (unsigned level = t->height; level-- != 0;) {
        p.nodes[level]->live[p.slots[level]] -= alive;
        if (level + 1 == t->height) {
            mend_leaf(t, p.nodes[level], p.slots[level]);
        } else {
            mend_node(t, p.nodes[level], p.slots[level]);
        }
    }
    while (t->height != 0 && ((struct mvcc_node *)t->root)->count == 1) {
        struct mvcc_node *root = t->root;
        t->root = root->child[0];
        t->height--;
        node_destroy(t, root);
    }
}

void mvcc_tree_set_live(struct mvcc_tree *t, const struct mvcc_record *r, bool live)
{
    struct path p;
    struct nb_bytes key = mvcc_record_key(r);
    descend(t, key, &p);
    unsigned at = slot_for(p.leaf, key);
    nb_assert(at < p.leaf->count && p.leaf->records[at] == r);
    uint64_t bit = UINT64_C(1) << at;
    if (((p.leaf->live & bit) != 0) == live) {
        return;
    }
    p.leaf->live ^= bit;
    uint32_t change = live ? 1 : UINT32_MAX; /* -1, modulo 2^32 */
    for (unsigned level = 0; level < t->height; level++) {
        p.nodes[level]->live[p.slots[level]] += change;
    }
    t->live = live ? t->live + 1 : t->live - 1;
}

/* One level of the tree while it is built. */
struct row_of_nodes {
    void **nodes;
    struct mvcc_record **mins;
    uint32_t *lives;
    size_t count;
};

static void row_alloc(struct row_of_nodes *row, size_t count)
{
    *row = (struct row_of_nodes){.nodes = nb_alloc(count * sizeof *row->nodes),
                                 .mins = nb_alloc(count * sizeof *row->mins),
                                 .lives = nb_alloc(count * sizeof *row->lives)};
}

static void row_free(struct row_of_nodes *row)
{
    nb_free(row->nodes);
    nb_free(row->mins);
    nb_free(row->lives);
}

static void row_push(struct row_of_nodes *row, void *node, struct mvcc_record *min, uint32_t live)
{
    row->nodes[row->count] = node;
    row->mins[row->count] = min;
    row->lives[row->count++] = live;
}

/* Leaves are filled to seven eighths, so that the first inserts do not split every one. */
static void build_leaves(struct mvcc_tree *t, struct mvcc_record *const *records, size_t count,
                         struct row_of_nodes *row)
{
    const size_t fill = LEAF_FANOUT - LEAF_FANOUT / 8;
    row_alloc(row, count / fill + 1);
    struct mvcc_leaf *before = NULL;
    for (size_t i = 0; i < count;) {
        struct mvcc_leaf *leaf = leaf_create(t);
        while (i < count && leaf->count < fill) {
            __builtin_prefetch(records[i + 8 < count ? i + 8 : i]);
            leaf_put(leaf, leaf->count, records[i++]);
        }
        if (before != NULL) {
            link_behind(before, leaf);
        }
        before = leaf;
        row_push(row, leaf, leaf->records[0], leaf_live(leaf));
        t->live += leaf_live(leaf);
    }
}

void mvcc_tree_build(struct mvcc_tree *t, struct mvcc_record *const *records, size_t count)
{
    nb_assert(t->count == 0 && count < UINT32_MAX);
    if (count == 0) {
        return;
    }
    mvcc_tree_deinit(t);
    const size_t fill = NODE_FANOUT - NODE_FANOUT / 8;
    struct row_of_nodes row;
    build_leaves(t, records, count, &row);
    while (row.count > 1) {
        struct row_of_nodes above;
        row_alloc(&above, row.count / fill + 1);
        for (size_t i = 0; i < row.count;) {
            struct mvcc_node *node = node_create(t);
            while (i < row.count && node->count < fill) {
                node_put(node, node->count, row.nodes[i], row.mins[i], row.lives[i]);
                i++;
            }
            row_push(&above, node, node->min[0], node_live(node));
        }
        row_free(&row);
        row = above;
        t->height++;
        nb_assert(t->height < HEIGHT_MAX);
    }
    t->root = row.nodes[0];
    t->count = count;
    row_free(&row);
}

uint64_t mvcc_tree_rank(const struct mvcc_tree *t, struct nb_bytes key)
{
    struct path p;
    descend(t, key, &p);
    uint64_t rank = 0;
    for (unsigned level = 0; level < t->height; level++) {
        for (unsigned i = 0; i < p.slots[level]; i++) {
            rank += p.nodes[level]->live[i];
        }
    }
    uint64_t below = p.leaf->live & bits_below(slot_for(p.leaf, key));
    return rank + (uint64_t)__builtin_popcountll(below);
}

struct mvcc_cursor mvcc_tree_seek(const struct mvcc_tree *t, struct nb_bytes key)
{
    struct path p;
    descend(t, key, &p);
    return (struct mvcc_cursor){.leaf = p.leaf, .slot = slot_for(p.leaf, key)};
}

static void fetch_record(const struct mvcc_record *r)
{
    enum { LINE_SIZE_BYTES = 64 };
    __builtin_prefetch(r);
    __builtin_prefetch((const uint8_t *)r + LINE_SIZE_BYTES); /* of most keys, the end */
}

/* Asks memory for the record that a walk comes to in a while. */
static void fetch_ahead(const struct mvcc_cursor *c)
{
    enum { AHEAD = 24 };
    unsigned at = c->slot + AHEAD;
    const struct mvcc_leaf *next = c->leaf->next;
    if (at < c->leaf->count) {
        fetch_record(c->leaf->records[at]);
    } else if (next != NULL && at - c->leaf->count < next->count) {
        fetch_record(next->records[at - c->leaf->count]);
    }
}

struct mvcc_record *mvcc_tree_next(struct mvcc_cursor *c)
{
    while (c->leaf != NULL && c->slot >= c->leaf->count) {
        c->leaf = c->leaf->next;
        c->slot = 0;
    }
    if (c->leaf == NULL) {
        return NULL;
    }
    fetch_ahead(c);
    return c->leaf->records[c->slot++];
}

struct mvcc_record *mvcc_tree_next_live(struct mvcc_cursor *c)
{
    while (c->leaf != NULL) {
        uint64_t ahead = c->leaf->live & ~bits_below(c->slot);
        if (ahead != 0) {
            c->slot = (unsigned)__builtin_ctzll(ahead);
            fetch_ahead(c);
            return c->leaf->records[c->slot++];
        }
        c->leaf = c->leaf->next;
        c->slot = 0;
    }
    return NULL;
}

struct check {
    const struct mvcc_tree *tree;
    const struct mvcc_leaf *before; /* the leaf last seen */
    uint64_t count;
};

static uint32_t check_leaf(struct check *c, const struct mvcc_leaf *leaf,
                           const struct mvcc_record *min)
{
    nb_assert(leaf->prev == c->before);
    nb_assert(c->before == NULL || c->before->next == leaf);
    nb_assert(leaf->count <= LEAF_FANOUT);
    nb_assert(leaf->count != 0 || c->tree->height == 0);
    nb_assert((leaf->live & ~bits_below(leaf->count)) == 0);
    nb_assert(min == NULL || leaf->records[0] == min);
    for (unsigned i = 0; i < leaf->count; i++) {
        nb_assert((leaf->live >> i & 1) == !leaf->records[i]->dead);
        const struct mvcc_record *smaller = i != 0 ? leaf->records[i - 1]
                                            : c->before != NULL
                                                ? c->before->records[c->before->count - 1]
                                                : NULL;
        nb_assert(smaller == NULL || order_of(smaller, mvcc_record_key(leaf->records[i])) < 0);
    }
    c->before = leaf;
    c->count += leaf->count;
    return leaf_live(leaf);
}

static uint32_t check_below(struct check *c, const void *any, unsigned height,
                            const struct mvcc_record *min)
{
    if (height == 0) {
        return check_leaf(c, any, min);
    }
    const struct mvcc_node *node = any;
    nb_assert(node->count != 0 && node->count <= NODE_FANOUT);
    nb_assert(min == NULL || node->min[0] == min);
    for (unsigned i = 0; i < node->count; i++) {
        nb_assert(check_below(c, node->child[i], height - 1, node->min[i]) == node->live[i]);
    }
    return node_live(node);
}

void mvcc_tree_check(const struct mvcc_tree *t)
{
    struct check c = {.tree = t};
    nb_assert(check_below(&c, t->root, t->height, NULL) == t->live);
    nb_assert(c.before->next == NULL);
    nb_assert(c.count == t->count);
    nb_assert(t->height == 0 || ((const struct mvcc_node *)t->root)->count > 1);
}

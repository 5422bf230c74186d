#include "machine/members.h"

#include "base/wire.h"

#include <string.h>

/* Field numbers of etcdserverpb.Member. */
enum { FIELD_ID = 1, FIELD_NAME = 2, FIELD_PEER_URL = 3, FIELD_CLIENT_URL = 4, FIELD_LEARNER = 5 };

static void free_strings(char **strings, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        nb_free(strings[i]);
    }
    nb_free(strings);
}

static char **copy_strings(char *const *strings, size_t count)
{
    if (count == 0) {
        return NULL;
    }
    char **copy = nb_alloc_zero(count, sizeof *copy);
    for (size_t i = 0; i < count; i++) {
        copy[i] = nb_strdup(strings[i]);
    }
    return copy;
}

static void member_deinit(struct machine_member *member)
{
    nb_free(member->name);
    free_strings(member->peer_urls, member->peer_url_count);
    free_strings(member->client_urls, member->client_url_count);
}

void machine_members_deinit(struct machine_members *m)
{
    for (size_t i = 0; i < m->count; i++) {
        member_deinit(&m->items[i]);
    }
    nb_free(m->items);
    nb_free(m->removed);
    *m = (struct machine_members){0};
}

/* Place of the first member whose id is not below `id`. */
static size_t place_of(const struct machine_members *m, uint64_t id)
{
    size_t at = 0;
    while (at < m->count && m->items[at].id < id) {
        at++;
    }
    return at;
}

static struct machine_member *find(const struct machine_members *m, uint64_t id)
{
    size_t at = place_of(m, id);
    return at < m->count && m->items[at].id == id ? &m->items[at] : NULL;
}

const struct machine_member *machine_members_find(const struct machine_members *m, uint64_t id)
{
    return find(m, id);
}

bool machine_members_was_removed(const struct machine_members *m, uint64_t id)
{
    for (size_t i = 0; i < m->removed_count; i++) {
        if (m->removed[i] == id) {
            return true;
        }
    }
    return false;
}

void machine_members_set(struct machine_members *m, const struct machine_member *member)
{
    nb_assert(member->id != 0);
    struct machine_member *known = find(m, member->id);
    if (known == NULL) {
        m->items = nb_grow(m->items, &m->capacity, m->count + 1, sizeof *m->items);
        size_t at = place_of(m, member->id);
        memmove(&m->items[at + 1], &m->items[at], (m->count - at) * sizeof *m->items);
        m->count++;
        known = &m->items[at];
        *known = (struct machine_member){
            .id = member->id,
            .name = nb_strdup(member->name == NULL ? "" : member->name),
            .client_urls = copy_strings(member->client_urls, member->client_url_count),
            .client_url_count = member->client_url_count,
        };
    } else {
        free_strings(known->peer_urls, known->peer_url_count);
    }
    known->peer_urls = copy_strings(member->peer_urls, member->peer_url_count);
    known->peer_url_count = member->peer_url_count;
    known->is_learner = member->is_learner;
}

bool machine_members_publish(struct machine_members *m, uint64_t id, const char *name,
                             char *const *client_urls, size_t client_url_count)
{
    struct machine_member *known = find(m, id);
    if (known == NULL) {
        return false;
    }
    nb_free(known->name);
    free_strings(known->client_urls, known->client_url_count);
    known->name = nb_strdup(name);
    known->client_urls = copy_strings(client_urls, client_url_count);
    known->client_url_count = client_url_count;
    return true;
}

void machine_members_remove(struct machine_members *m, uint64_t id)
{
    struct machine_member *known = find(m, id);
    if (known != NULL) {
        size_t at = (size_t)(known - m->items);
        member_deinit(known);
        memmove(&m->items[at], &m->items[at + 1], (m->count - at - 1) * sizeof *m->items);
        m->count--;
    }
    if (!machine_members_was_removed(m, id)) {
        m->removed =
            nb_grow(m->removed, &m->removed_capacity, m->removed_count + 1, sizeof *m->removed);
        m->removed[m->removed_count++] = id;
    }
}

void machine_member_encode(const struct machine_member *member, struct nb_buf *out)
{
    nb_wire_varint_field(out, FIELD_ID, member->id);
    nb_wire_bytes_field(out, FIELD_NAME, nb_bytes_str(member->name == NULL ? "" : member->name));
    for (size_t i = 0; i < member->peer_url_count; i++) {
        nb_wire_bytes(out, FIELD_PEER_URL, nb_bytes_str(member->peer_urls[i]));
    }
    for (size_t i = 0; i < member->client_url_count; i++) {
        nb_wire_bytes(out, FIELD_CLIENT_URL, nb_bytes_str(member->client_urls[i]));
    }
    nb_wire_varint_field(out, FIELD_LEARNER, member->is_learner);
}

static enum nb_status take_url(struct nb_arena *arena, char **urls, size_t *count,
                               struct nb_bytes url)
{
    if (*count == MACHINE_MEMBER_URL_COUNT_MAX) {
        return NB_TOO_LARGE;
    }
    urls[(*count)++] = nb_arena_str(arena, url);
    return NB_OK;
}

enum nb_status machine_member_decode(struct nb_bytes bytes, struct nb_arena *arena,
                                     struct machine_member *out)
{
    struct nb_wire_reader r = nb_wire_reader_of(bytes);
    struct machine_member member = {.name = nb_arena_str(arena, (struct nb_bytes){0})};
    member.peer_urls = nb_arena_alloc(arena, MACHINE_MEMBER_URL_COUNT_MAX * sizeof(char *));
    member.client_urls = nb_arena_alloc(arena, MACHINE_MEMBER_URL_COUNT_MAX * sizeof(char *));
    while (nb_wire_more(&r)) {
        struct nb_wire_field f;
        enum nb_status status = nb_wire_next(&r, &f);
        if (status == NB_OK && f.type == NB_WIRE_VARINT && f.number == FIELD_ID) {
            member.id = f.value;
        } else if (status == NB_OK && f.type == NB_WIRE_VARINT && f.number == FIELD_LEARNER) {
            member.is_learner = f.value != 0;
        } else if (status == NB_OK && f.type == NB_WIRE_BYTES && f.number == FIELD_NAME) {
            member.name = nb_arena_str(arena, f.bytes);
        } else if (status == NB_OK && f.type == NB_WIRE_BYTES && f.number == FIELD_PEER_URL) {
            status = take_url(arena, member.peer_urls, &member.peer_url_count, f.bytes);
        } else if (status == NB_OK && f.type == NB_WIRE_BYTES && f.number == FIELD_CLIENT_URL) {
            status = take_url(arena, member.client_urls, &member.client_url_count, f.bytes);
        }
        if (status != NB_OK) {
            return status;
        }
    }
    if (member.id == 0) {
        return NB_MALFORMED;
    }
    *out = member;
    return NB_OK;
}

void machine_members_encode(const struct machine_members *m, struct nb_buf *out)
{
    struct nb_buf one = {0};
    for (size_t i = 0; i < m->count; i++) {
        nb_buf_clear(&one);
        machine_member_encode(&m->items[i], &one);
        nb_wire_bytes(out, 1, nb_buf_bytes(&one));
    }
    nb_buf_deinit(&one);
}

/* Decodes the whole list before anything changes, so that a malformed one has no effect. */
static enum nb_status decode_list(struct nb_bytes bytes, struct nb_arena *arena,
                                  struct machine_member *list, size_t *out_count)
{
    struct nb_wire_reader r = nb_wire_reader_of(bytes);
    size_t count = 0;
    while (nb_wire_more(&r)) {
        struct nb_wire_field f;
        enum nb_status status = nb_wire_next(&r, &f);
        if (status != NB_OK) {
            return status;
        }
        if (f.number != 1 || f.type != NB_WIRE_BYTES) {
            continue;
        }
        if (count == MACHINE_MEMBER_COUNT_MAX) {
            return NB_TOO_LARGE;
        }
        status = machine_member_decode(f.bytes, arena, &list[count]);
        if (status != NB_OK) {
            return status;
        }
        count++;
    }
    *out_count = count;
    return NB_OK;
}

enum nb_status machine_members_apply(struct machine_members *m, struct nb_bytes bytes)
{
    struct nb_arena arena = {0};
    struct machine_member list[MACHINE_MEMBER_COUNT_MAX];
    size_t count = 0;
    enum nb_status status = decode_list(bytes, &arena, list, &count);
    if (status == NB_OK) {
        for (size_t i = m->count; i-- > 0;) {
            bool stays = false;
            for (size_t k = 0; k < count; k++) {
                stays = stays || list[k].id == m->items[i].id;
            }
            if (!stays) {
                machine_members_remove(m, m->items[i].id);
            }
        }
        for (size_t k = 0; k < count; k++) {
            if (!machine_members_was_removed(m, list[k].id)) {
                machine_members_set(m, &list[k]);
            }
        }
    }
    nb_arena_deinit(&arena);
    return status;
}

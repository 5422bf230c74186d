#include "sim/events.h"

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    if (a->at_ns != b->at_ns) {
        return a->at_ns < b->at_ns;
    }
    return a->order != b->order ? a->order < b->order : a->number < b->number;
}

static void swap(struct sim_event *a, struct sim_event *b)
{
    struct sim_event c = *a;
    *a = *b;
    *b = c;
}

void sim_events_push(struct sim_events *q, struct sim_event event)
{
    event.order = nb_random_u64(q->random);
    event.number = q->next_number++;
    q->heap = nb_grow(q->heap, &q->capacity, q->count + 1, sizeof *q->heap);
    size_t at = q->count++;
    q->heap[at] = event;
    while (at != 0 && before(&q->heap[at], &q->heap[(at - 1) / 2])) {
        swap(&q->heap[at], &q->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
}

bool sim_events_pop(struct sim_events *q, struct sim_event *out)
{
    if (q->count == 0) {
        return false;
    }
    *out = q->heap[0];
    q->heap[0] = q->heap[--q->count];
    for (size_t at = 0;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < q->count; child++) {
            least = before(&q->heap[child], &q->heap[least]) ? child : least;
        }
        if (least == at) {
            return true;
        }
        swap(&q->heap[at], &q->heap[least]);
        at = least;
    }
}

void sim_event_deinit(struct sim_event *event)
{
    nb_buf_deinit(&event->bytes);
    nb_buf_deinit(&event->file);
}

void sim_events_deinit(struct sim_events *q)
{
    for (size_t i = 0; i < q->count; i++) {
        sim_event_deinit(&q->heap[i]);
    }
    nb_free(q->heap);
    *q = (struct sim_events){0};
}

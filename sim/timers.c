#include "sim/timers.h"

#include <stdlib.h>

static void put(struct timers *ts, size_t i, struct timer *t)
{
    ts->heap[i] = t;
    t->place = i + 1;
}

static void sift_up(struct timers *ts, size_t i)
{
    struct timer *t = ts->heap[i];
    for (; i > 0 && ts->heap[(i - 1) / 2]->due_ns > t->due_ns; i = (i - 1) / 2)
        put(ts, i, ts->heap[(i - 1) / 2]);
    put(ts, i, t);
}

static void sift_down(struct timers *ts, size_t i)
{
    struct timer *t = ts->heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= ts->count)
            break;
        if (child + 1 < ts->count &&
            ts->heap[child + 1]->due_ns < ts->heap[child]->due_ns)
            child++;
        if (ts->heap[child]->due_ns >= t->due_ns)
            break;
        put(ts, i, ts->heap[child]);
        i = child;
    }
    put(ts, i, t);
}

int timers_set(struct timers *ts, struct timer *t, int64_t due_ns)
{
    timers_drop(ts, t);
    if (ts->count == ts->room) {
        size_t room = ts->room ? ts->room * 2 : 64;
        struct timer **heap = realloc(ts->heap, room * sizeof *heap);
        if (heap == NULL)
            return -1;
        ts->heap = heap;
        ts->room = room;
    }
    t->due_ns = due_ns;
    put(ts, ts->count, t);
    sift_up(ts, ts->count++);
    return 0;
}

void timers_drop(struct timers *ts, struct timer *t)
{
    if (t->place == 0)
        return;
    size_t i = t->place - 1;
    struct timer *last = ts->heap[--ts->count];
    t->place = 0;
    if (last == t)
        return;
    put(ts, i, last);
    sift_up(ts, i);
    sift_down(ts, last->place - 1);
}

struct timer *timers_due(struct timers *ts, int64_t now_ns)
{
    if (ts->count == 0 || ts->heap[0]->due_ns > now_ns)
        return NULL;
    struct timer *t = ts->heap[0];
    timers_drop(ts, t);
    return t;
}

int64_t timers_next_ns(const struct timers *ts)
{
    return ts->count ? ts->heap[0]->due_ns : -1;
}

void timers_free(struct timers *ts)
{
    free(ts->heap);
    *ts = (struct timers){0};
}

#ifndef TIMERS_H
#define TIMERS_H

#include <stddef.h>
#include <stdint.h>

/*
 * Moments to come, nearest first. A timer is a member of what it wakes and stands in
 * the heap by reference, so thousands cost nothing but their place.
 */
struct timer {
    int64_t due_ns;
    size_t place; /* in the heap, from 1; 0: not set */
};

struct timers {
    struct timer **heap;
    size_t count, room;
};

/* -1 without memory. A timer that is set already moves. */
int timers_set(struct timers *ts, struct timer *t, int64_t due_ns);
void timers_drop(struct timers *ts, struct timer *t);
/* The nearest, taken out, if it is due; else NULL. */
struct timer *timers_due(struct timers *ts, int64_t now_ns);
/* Of the nearest; -1: there is none. */
int64_t timers_next_ns(const struct timers *ts);
void timers_free(struct timers *ts);

#endif

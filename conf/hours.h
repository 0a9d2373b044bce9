#ifndef HOURS_H
#define HOURS_H

#include <stdbool.h>
#include <stdint.h>

struct err;

/*
 * Hours in which something may happen: "22:00-07:00", "Mon-Fri 22:00-07:00, Sat 00:00-24:00".
 * A span that ends at or before its beginning ends on the next day; days name the day on
 * which a span begins. Pure but for the time zone, which is the process's own: a span
 * begins and ends when clocks on the wall say so, whatever summer time does to it.
 */
enum { HOURS_SPANS_MAX = 16 };

struct hours {
    int count;
    struct {
        int from, to;  /* minutes from midnight; to: above `from`, up to 48 hours */
        unsigned days; /* a bit a weekday, Sunday the lowest */
    } span[HOURS_SPANS_MAX];
};

/* 0, or -1 and what is wanted. */
int hours_read(const char *text, struct hours *ret, struct err *e);

/*
 * Is it open at that moment (wall ms)? `*edge` is when that changes: spans that touch are
 * one. 0: never (it is open at all times).
 */
bool hours_open(const struct hours *h, int64_t wall_ms, int64_t *edge);

#endif

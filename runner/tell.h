#ifndef TELL_H
#define TELL_H

#include "conf/catalog.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * What people and programs are told while a run goes on: on a terminal a view that is
 * drawn over and over, elsewhere a line now and then, both on standard error; with --json events on
 * standard output, one object a line, each with `event` and `at`.
 */
struct tally {
    int64_t done, failed, parked, queued; /* of this run; queued: as far as is known */
    int in_flight;
    picodollars spent;
    int64_t tokens_in, tokens_out, sent, held;
};

struct tell;
struct view;

struct tell *tell_new(bool json, bool quiet); /* NULL: no memory */
void tell_free(struct tell *t);               /* takes the view away */

/* Is it time to draw a view? Never where there is no terminal, or too small a one; at
 * most four times a second, but for the `last`, which stays. */
bool tell_wants_view(struct tell *t, bool last);
/* Its `failures` are those told to tell_failure(). */
void tell_view(struct tell *t, struct view *v, bool last);
void tell_failure(struct tell *t, const char *job, const char *says);

/* Where no view is drawn, a line now and then; `waits` says why nothing moves, or
 * is NULL; `paces` says what bounds each lane, or is "". `elapsed_ms` of the run.
 * `only_news`: not the same line again, a service would say it for months. */
void tell_progress(struct tell *t, const struct tally *y, int64_t elapsed_ms,
                   const char *waits, const char *paces, bool only_news);

/* A line for people (not with --quiet, unless `needs_person`). */
void tell_line(struct tell *t, bool needs_person, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* An event: `members` are JSON members without braces, or "". Nothing without --json.
 */
void tell_event(struct tell *t, const char *event, int64_t wall_ms, const char *fmt,
                ...) __attribute__((format(printf, 4, 5)));
bool tell_wants_events(const struct tell *t);

#endif

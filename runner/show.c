/*
 * From the state of the machine to the figures of a view: what each lane does, how fast,
 * what binds it and for how long.
 */
#include "runner/machine.h"

#include "runner/log.h"
#include "runner/view.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SHOWN_LANES = 20, SPEED_EVERY_MS = 2000, COUNT_EVERY_MS = 3000 };

/* Jobs that got through lately, older times fading. */
static void take_speed(struct lane *l, int64_t now)
{
    int64_t span = now - l->timed_at;
    if (l->timed_at == 0) {
        l->timed_at = now;
        l->timed_done = l->done;
        return;
    }
    if (span < SPEED_EVERY_MS || (l->in_flight == 0 && l->done == l->timed_done))
        return;
    double speed = (double)(l->done - l->timed_done) * 60000 / (double)span;
    l->speed = l->speed > 0 ? 0.7 * l->speed + 0.3 * speed : speed;
    l->timed_at = now;
    l->timed_done = l->done;
}

/* What the tightest bucket lets through in a minute; 0: not known. */
static double bound_speed(const struct buckets *b)
{
    double least = 0;
    for (int k = 0; k < BUCKETS; k++) {
        const struct bucket_one *o = &b->one[k];
        if (o->limit <= 0 || o->typical <= 0)
            continue;
        double speed = o->limit / o->typical;
        least = least == 0 || speed < least ? speed : least;
    }
    return least;
}

static void say_bound(struct view_lane *v, struct buckets *b, const struct lane *l,
                      int64_t now)
{
    static const char *const names[] = {"requests", "input tokens", "output tokens"};
    enum bucket k = l->look.binds;
    size_t n = strlen(v->says);
    double share = k > BUCKET_NONE && k < BUCKETS ? buckets_share(b, k, now) : 0;
    share = share < 1 ? share : 1; /* more than all, for a moment: a full bucket's */
    if (k > BUCKET_NONE && k < BUCKETS && b->one[k].limit > 0)
        snprintf(v->says + n, sizeof v->says - n, "%s%.0f %% of %s", n ? ", " : "",
                 100 * share, names[k]);
}

static void hold_says(struct view_lane *v, int64_t until_wall, const char *why)
{
    char at[16];
    time_t t = (time_t)(until_wall / 1000);
    struct tm tm;
    strftime(at, sizeof at, v->hold_ms < 12 * 3600000 ? "%H:%M:%S" : "%d %b %H:%M",
             localtime_r(&t, &tm));
    snprintf(v->says, sizeof v->says, "held until %s (%.180s)", at, why);
}

static int on_waiting(void *arg, const char *name, int64_t jobs)
{
    struct runner *r = arg;
    for (struct lane *l = r->lanes; l; l = l->next)
        if (strcmp(l->name, name) == 0)
            l->counted = jobs;
    return 0;
}

/* What waits on disk is counted now and then, what was done since is taken off. */
static void count_waiting(struct runner *r)
{
    struct err e = {0};
    int64_t now = runner_mono(r);
    if (r->committing || now < r->count_at)
        return;
    for (struct lane *l = r->lanes; l; l = l->next) {
        l->counted = 0;
        l->counted_done = l->done;
    }
    uint64_t began = uv_hrtime();
    if (store_waiting(r->o->store, on_waiting, r, &e) < 0)
        log_error("%s", e.text);
    int64_t took = (int64_t)((uv_hrtime() - began) / 1000000);
    r->count_at = now + COUNT_EVERY_MS + 50 * took; /* of a million: not often */
}

static int64_t left_of(const struct lane *l)
{
    int64_t left = l->counted - (l->done - l->counted_done);
    if (l->closed)
        return 0; /* they are not for this run */
    return left > l->in_flight ? left : l->in_flight;
}

static void show_lane(struct runner *r, struct lane *l, struct view_lane *v)
{
    int64_t now = runner_mono(r), at;
    enum lane_state s = lane_state(l, now, &at);
    *v = (struct view_lane){.name = l->name,
                            .done = l->done,
                            .in_flight = l->in_flight,
                            .left = left_of(l),
                            .cost = l->cost,
                            .speed = l->speed};
    bool idle = l->in_flight == 0 && l->ready == 0 && l->dry;
    struct buckets *b = shared_buckets(r, l);
    double bound = b ? bound_speed(b) : 0;
    if (bound > 0 && (s == LANE_PACED || v->speed == 0 || v->speed > bound))
        v->speed = bound;
    if (idle && v->left == 0)
        v->speed = 0; /* nothing of what is left is known to be for it */
    switch (s) {
    case LANE_HELD:
        v->hold_ms = at - now;
        hold_says(v, runner_wall(r) + v->hold_ms, l->why);
        break;
    case LANE_TRIPPED:
        v->hold_ms = at > now ? at - now : 0;
        lane_says(l, now, v->says, sizeof v->says);
        break;
    case LANE_CLOSED:
        v->speed = 0;
        lane_says(l, now, v->says, sizeof v->says);
        break;
    case LANE_FULL:
        snprintf(v->says, sizeof v->says, "%d at once", l->window.size);
        if (b)
            say_bound(v, b, l, now);
        break;
    case LANE_PACED:
    case LANE_OPEN:
        if (idle && v->left == 0)
            snprintf(v->says, sizeof v->says, "nothing waits");
        else if (b)
            say_bound(v, b, l, now);
        break;
    }
    shared_done(r);
}

static picodollars in_doubt(const struct runner *r)
{
    picodollars sum = 0;
    for (const struct money_day *d = r->days; d; d = d->next)
        sum = budget_sum(sum, d->x.b.doubt);
    return sum;
}

void show_run(struct runner *r, bool last)
{
    struct view_lane lanes[SHOWN_LANES];
    const struct conf *c = r->conf;
    size_t n = 0;
    int64_t now = runner_mono(r);
    for (struct lane *l = r->lanes; l; l = l->next)
        take_speed(l, now);
    if (!tell_wants_view(r->tell, last))
        return;
    count_waiting(r);
    for (struct lane *l = r->lanes; l && n < SHOWN_LANES; l = l->next)
        if (l->done > 0 || l->in_flight > 0 || l->ready > 0 || !l->dry)
            show_lane(r, l, &lanes[n++]);
    bool run = c->budget.run > 0, day = c->budget.day > 0;
    struct view v = {.done = r->tally.done,
                     .failed = r->tally.failed,
                     .parked = r->tally.parked,
                     .left = r->tally.queued,
                     .elapsed_ms = runner_elapsed(r),
                     .spent = r->tally.spent,
                     .doubt = in_doubt(r),
                     .ceiling = run   ? c->budget.run
                                : day ? c->budget.day
                                      : c->budget.month,
                     .ceilings = run   ? "this run"
                                 : day ? "a day"
                                       : "a month",
                     .waits = !last && r->out == 0 && *r->waits ? r->waits : NULL,
                     .lanes = lanes,
                     .lanes_len = n,
                     .over = last};
    tell_view(r->tell, &v, last);
}

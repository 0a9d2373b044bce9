#include "tests/fake_limits.h"

#include <math.h>

static double rate_of(const struct fake_bucket *b)
{
    return b->limit / 60000;
}

/* One span in which the sign of the level does not change. */
static void span(struct fake_bucket *b, double dt)
{
    double r = rate_of(b), others = b->level > 0 ? b->others : 0;
    if (b->level == 0 && b->others > 0)
        others = fmin(b->others, fmax(r - b->flow, 0));
    b->charged += b->flow * dt;
    b->taken += others * dt;
    b->granted += r * dt;
    b->level = fmin(b->level + (r - b->flow - others) * dt, b->room);
}

static void bucket_move(struct fake_bucket *b, double now)
{
    while (b->at < now) {
        double dt = now - b->at, r = rate_of(b);
        double slope = r - b->flow - (b->level > 0 ? b->others : 0);
        bool crosses = b->others > 0 && b->level != 0 && b->level * slope < 0 &&
                       -b->level / slope < dt;
        if (crosses) {
            dt = -b->level / slope;
            span(b, dt);
            b->level = 0;
            b->at += dt;
            if (dt == 0)
                b->at = nextafter(b->at, now);
        } else {
            span(b, dt);
            b->at = now;
        }
    }
}

static void bucket_set(struct fake_bucket *b, double limit, double burst_s,
                       double least)
{
    b->limit = limit;
    b->room = fmax(limit * burst_s / 60, least);
}

void fake_init(struct fake_limits *f, const struct fake_rules *rules)
{
    *f = (struct fake_limits){.rules = *rules};
    for (int k = 0; k < FAKE_BUCKETS; k++) {
        double burst = k == FAKE_REQUESTS && rules->roomy ? 1 : rules->burst_s;
        bucket_set(&f->bucket[k], rules->limit[k], burst, k == FAKE_REQUESTS);
        f->bucket[k].level = f->bucket[k].initial = f->bucket[k].room;
    }
    bucket_set(&f->shown, rules->limit[FAKE_REQUESTS], 60, 1);
    f->shown.level = f->shown.room;
}

void fake_move(struct fake_limits *f, double now)
{
    for (int k = 0; k < FAKE_BUCKETS; k++)
        bucket_move(&f->bucket[k], now);
    bucket_move(&f->shown, now);
}

void fake_limit_times(struct fake_limits *f, double factor, double now)
{
    fake_move(f, now);
    for (int k = 0; k <= FAKE_BUCKETS; k++) {
        struct fake_bucket *b = k < FAKE_BUCKETS ? &f->bucket[k] : &f->shown;
        double missing = b->room - b->level;
        double least = k == FAKE_REQUESTS || k == FAKE_BUCKETS;
        double before = b->level;
        b->limit *= factor;
        b->room = fmax(b->room * factor, least);
        b->level = f->rules.debt_stays ? b->room - missing : fmin(b->level, b->room);
        b->granted += b->level - before;
    }
}

void fake_others(struct fake_limits *f, int k, double a_minute, double now)
{
    fake_move(f, now);
    f->bucket[k].others = a_minute / 60000;
    if (k == FAKE_REQUESTS)
        f->shown.others = a_minute / 60000;
}

int fake_admit(struct fake_limits *f, double input, double now, double *wait_ms)
{
    const double want[FAKE_BUCKETS] = {1, input, 1};
    fake_move(f, now);
    for (int k = 0; k < FAKE_BUCKETS; k++) {
        struct fake_bucket *b = &f->bucket[k];
        if (b->limit > 0 && b->level < want[k] - 1e-6) {
            *wait_ms = (fmin(want[k], b->room) - b->level) / rate_of(b);
            return k;
        }
    }
    for (int k = 0; k < FAKE_OUTPUT; k++) {
        f->bucket[k].level -= want[k];
        f->bucket[k].charged += want[k];
    }
    f->shown.level -= 1;
    return -1;
}

void fake_flow(struct fake_limits *f, double rate, double now)
{
    fake_move(f, now);
    f->bucket[FAKE_OUTPUT].flow += rate;
    if (fabs(f->bucket[FAKE_OUTPUT].flow) < 1e-9)
        f->bucket[FAKE_OUTPUT].flow = 0;
}

struct fake_headers fake_look(struct fake_limits *f, double now)
{
    struct fake_headers h;
    fake_move(f, now);
    for (int k = 0; k < FAKE_BUCKETS; k++) {
        struct fake_bucket *b = k == FAKE_REQUESTS && f->rules.roomy ? &f->shown
                                                                     : &f->bucket[k];
        double level = fmax(floor(b->level + 1e-6), 0);
        if (k != FAKE_REQUESTS && !f->rules.exact)
            level = floor((level + 500) / 1000) * 1000;
        h.limit[k] = b->limit;
        h.remaining[k] = level;
        h.reset_ms[k] = (b->room - b->level) / rate_of(b);
    }
    return h;
}

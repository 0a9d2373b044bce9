#include "runner/lane.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    HOLD_UNSAID_MS =
        1000, /* a rate limit that names no time: base and cap of backoff */
    HOLD_UNSAID_CAP_MS = 60000,
};

void lane_init(struct lane *l, const char *name, int limit)
{
    *l = (struct lane){.told = LANE_OPEN};
    snprintf(l->name, sizeof l->name, "%s", name);
    window_init(&l->window, limit);
    l->last = &l->first;
}

enum lane_state lane_state(const struct lane *l, int64_t now, int64_t *ask_at)
{
    *ask_at = 0;
    if (l->closed)
        return LANE_CLOSED;
    if (l->hold_until > now) {
        *ask_at = l->hold_until;
        return LANE_HELD;
    }
    if (l->breaker.open && (l->in_flight > 0 || now < l->breaker.probe_at)) {
        *ask_at = l->in_flight > 0 ? 0 : l->breaker.probe_at;
        return LANE_TRIPPED;
    }
    return window_may_start(&l->window, l->in_flight) ? LANE_OPEN : LANE_FULL;
}

const char *lane_state_name(enum lane_state s)
{
    static const char *const names[] = {[LANE_OPEN] = "open",
                                        [LANE_FULL] = "full",
                                        [LANE_HELD] = "held",
                                        [LANE_TRIPPED] = "tripped",
                                        [LANE_CLOSED] = "closed"};
    return names[s];
}

const char *lane_says(const struct lane *l, int64_t now, char *buf, size_t size)
{
    int64_t at;
    switch (lane_state(l, now, &at)) {
    case LANE_OPEN:
        snprintf(buf, size, "open");
        break;
    case LANE_FULL:
        snprintf(buf, size, "window full %d/%d", l->in_flight, l->window.size);
        break;
    case LANE_HELD:
        snprintf(buf, size, "held %.1f s more (%s)", (double)(at - now) / 1000, l->why);
        break;
    case LANE_TRIPPED:
        snprintf(buf, size, "one probe at a time after %d failures in a row (%s)",
                 l->breaker.row, l->why);
        break;
    case LANE_CLOSED:
        snprintf(buf, size, "closed (%s)", l->why);
        break;
    }
    return buf;
}

void lane_started(struct lane *l)
{
    l->in_flight++;
}

void lane_dropped(struct lane *l)
{
    l->in_flight--;
}

static void say(struct lane *l, const struct judgement *j)
{
    snprintf(l->why, sizeof l->why, "%s: %.150s", verdict_name(j->verdict),
             j->sentence);
}

/* The whole of what the answer asks for, even hours; the shorter of two never wins. */
static bool hold(struct lane *l, const struct lane_end *end, int64_t now)
{
    const struct judgement *j = end->j;
    int64_t span = j->retry_ms;
    if (span < 0 && j->until > end->wall_now)
        span = j->until - end->wall_now;
    if (span < 0)
        span = HOLD_UNSAID_MS / 4 + backoff_ms(l->edge_row++, HOLD_UNSAID_MS,
                                               HOLD_UNSAID_CAP_MS, end->random);
    else
        l->edge_row = 0;
    if (now + span <= l->hold_until)
        return false;
    l->hold_until = now + span;
    say(l, j);
    return true;
}

bool lane_ended(struct lane *l, const struct lane_end *end, int64_t now)
{
    int in_flight = l->in_flight--;

    switch (end->verdict) {
    case VERDICT_ACCEPTED:
    case VERDICT_TRUNCATED:
    case VERDICT_REFUSED:
        breaker_good(&l->breaker);
        l->edge_row = 0;
        window_good(&l->window, in_flight, end->started_at);
        return false;
    case VERDICT_RATE_LIMITED:
        window_cut(&l->window, now, end->started_at);
        return hold(l, end, now);
    case VERDICT_OVERLOADED:
        window_cut(&l->window, now, end->started_at);
        if (breaker_bad(&l->breaker, LANE_TRIP, end->probe, now))
            say(l, end->j);
        return false;
    case VERDICT_TRANSIENT:
        /* An answer that never came tells of the way there, not of the lane. */
        if (!end->bare_reset && breaker_bad(&l->breaker, LANE_TRIP, end->probe, now))
            say(l, end->j);
        return false;
    case VERDICT_MODEL_DENIED:
        l->closed = true;
        say(l, end->j);
        return false;
    default:
        return false; /* the job's, the endpoint's or the account's affair */
    }
}

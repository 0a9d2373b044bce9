#ifndef LANE_H
#define LANE_H

#include "runner/bucket.h"
#include "runner/cache.h"
#include "runner/pace.h"
#include "runner/verdict.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct live;
struct share;

/*
 * One way to send that has one set of limits: a rate-limit class of models on an
 * account, and a way of sending. It says whether a request may start now, when to ask
 * again, and in words why not. Pure: time comes in, in monotonic milliseconds.
 */
enum { LANE_NAME_MAX = 128, LANE_WHY_MAX = 200, LANE_TRIP = 4 };

enum lane_state {
    LANE_OPEN,
    LANE_PACED,   /* the account's buckets are; for a moment */
    LANE_FULL,    /* the window is */
    LANE_HELD,    /* until `hold_until` */
    LANE_TRIPPED, /* one probe at a time */
    LANE_CLOSED,  /* its model was refused */
};

struct lane {
    struct lane *next;
    char name[LANE_NAME_MAX];
    struct window window;
    struct breaker breaker;
    int in_flight;
    int64_t hold_until;     /* 0: no hold */
    char why[LANE_WHY_MAX]; /* of the hold, or of the closing */
    bool closed;
    int edge_row;            /* bare throttles in a row */
    int64_t last_probe;      /* the job that was the last probe; 0: none */
    int64_t rpm, itpm, otpm; /* limits by the headers; 0: not known */

    struct share *share;     /* the buckets, for all runners of the machine (the
                                runner's) */
    struct bucket_look look; /* what they said last */
    bool paced;              /* that was: not yet; void after any event */
    enum bucket bound;       /* what binds, as it was told last */
    int64_t bound_at;        /* since when something else does; 0: nothing else */
    char pace_says[BUCKETS_SAY_MAX];

    /* of this run, for people */
    int64_t done, timed_done, timed_at; /* the last two: when `speed` was taken */
    picodollars cost;
    double speed;                  /* jobs a minute, lately; 0: not known */
    int64_t counted, counted_done; /* jobs that waited for it, when `done` was that */

    struct cache cache;   /* who shares a prompt prefix, and who of them may go */
    int64_t cache_ask_at; /* all wait for a leader: until then; 0: for an event */

    /* jobs in memory that wait for this lane, best first (the runner's) */
    struct live *first, **last;
    size_t ready;
    bool dry;             /* nothing more of it waits on disk */
    enum lane_state told; /* what was said last, to say changes alone */
};

void lane_init(struct lane *l, const char *name, int limit);

/* `*ask_at`: when the answer may change by time alone; 0: only by an event. */
enum lane_state lane_state(const struct lane *l, int64_t now, int64_t *ask_at);
const char *lane_state_name(enum lane_state s);

/* Why nothing starts now, for people: "held 2.4 s more (rate limited: ...)". */
const char *lane_says(const struct lane *l, int64_t now, char *buf, size_t size);

void lane_started(struct lane *l);

/* A 429 in the buckets' words: which of them, and what an acceleration limit allows. */
void lane_refusal(const struct judgement *j, struct bucket_refused *ret);

struct lane_end {
    enum verdict verdict;
    const struct judgement *j;
    int64_t started_at, wall_now;
    bool probe, bare_reset;
    bool alone; /* larger than a bucket: a refusal is its own, not the lane's */
    uint64_t random;
};

/* What the buckets said to the job that is next: not before `look.ask_at`. */
void lane_paced(struct lane *l, const struct bucket_look *look);

/* One of the lane's requests is over. True when this changed the lane's hold, so that
 * it is worth remembering. */
bool lane_ended(struct lane *l, const struct lane_end *end, int64_t now);

/* Taken back, or cancelled: tells nothing of the lane. */
void lane_dropped(struct lane *l);

#endif

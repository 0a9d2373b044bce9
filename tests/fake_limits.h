#ifndef FAKE_LIMITS_H
#define FAKE_LIMITS_H

#include <stdbool.h>

/*
 * The API's limiter as its documentation tells it: token buckets that refill
 * continuously. Times are milliseconds as doubles. A request is let in if one request,
 * its whole input and one token of output are there; requests and input are charged
 * then, output while it is written, and that may overdraw.
 *
 * What the documentation does not say is a rule here: how much a bucket holds, when the
 * levels in the headers are looked at, whether the requests shown are those enforced.
 */
enum { FAKE_REQUESTS, FAKE_INPUT, FAKE_OUTPUT, FAKE_BUCKETS };

struct fake_rules {
    double limit[FAKE_BUCKETS]; /* a minute */
    double burst_s;             /* of requests: never less than one */
    bool roomy;                 /* requests: by the second, and shown by the minute */
    bool exact;                 /* token counts are not rounded to 1,000 */
    bool debt_stays; /* a new limit keeps what is missing, not what is there */
};

struct fake_bucket {
    double limit, room, level, at;
    double flow;   /* written now, a ms */
    double others; /* wanted by others, a ms, while something is there */
    double charged, granted, taken, initial;
};

struct fake_limits {
    struct fake_rules rules;
    struct fake_bucket bucket[FAKE_BUCKETS];
    struct fake_bucket shown; /* requests, if roomy */
};

struct fake_headers {
    double limit[FAKE_BUCKETS], remaining[FAKE_BUCKETS], reset_ms[FAKE_BUCKETS];
};

void fake_init(struct fake_limits *f, const struct fake_rules *rules);
void fake_move(struct fake_limits *f, double now);
void fake_limit_times(struct fake_limits *f, double factor, double now);
void fake_others(struct fake_limits *f, int k, double a_minute, double now);

/* The bucket that refuses, or -1: it is in. *wait_ms: until what it lacks is there. */
int fake_admit(struct fake_limits *f, double input, double now, double *wait_ms);
void fake_flow(struct fake_limits *f, double rate, double now); /* + begins, - ends */

struct fake_headers fake_look(struct fake_limits *f, double now);

#endif

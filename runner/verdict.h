#ifndef VERDICT_H
#define VERDICT_H

#include "conf/catalog.h"

#include <stdbool.h>
#include <stdint.h>

struct answer;

/*
 * What an answer means, and for whom. Pure: a table over (status, error type, error
 * code, words, how it broke), first row that fits. The strings are those the API was
 * seen to send; a shape that no row knows falls to the most careful reading and says so
 * with `known` false, so that the caller logs it whole.
 */
#define VERDICTS(X)                                                           \
    X(ACCEPTED, "accepted", JOB)                                              \
    X(TRUNCATED, "truncated", JOB)        /* paid, kept, not whole */         \
    X(REFUSED, "refused", JOB)            /* paid, kept, declined or empty */ \
    X(BAD_REQUEST, "bad request", JOB)    /* would be refused again */        \
    X(TRANSIENT, "transient", JOB)        /* later, counts an attempt */      \
    X(RATE_LIMITED, "rate limited", LANE) /* uses no attempt */               \
    X(OVERLOADED, "overloaded", LANE)     /* uses no attempt */               \
    X(MODEL_DENIED, "model denied", LANE)                                     \
    X(UNREACHABLE, "unreachable", ENDPOINT)                                   \
    X(PLAN_LIMIT, "plan limit", ACCOUNT)                                      \
    X(SPEND_LIMIT, "spend limit", ACCOUNT)                                    \
    X(NO_CREDIT, "no credit", ACCOUNT)                                        \
    X(KEY_REFUSED, "key refused", ACCOUNT)

enum verdict {
#define X(verdict, name, whose) VERDICT_##verdict,
    VERDICTS(X)
#undef X
        VERDICT_COUNT
};

enum verdict_whose { WHOSE_JOB, WHOSE_LANE, WHOSE_ENDPOINT, WHOSE_ACCOUNT };

/* Kinds of 429, each of which wants something else of the pace. */
enum rate_kind {
    RATE_NONE,
    RATE_QUOTA,        /* a bucket is empty: hold for retry-after */
    RATE_CONCURRENCY,  /* too many at once: a smaller window */
    RATE_ACCELERATION, /* too steep: until the next minute, then a ramp */
    RATE_EDGE,         /* a bare throttle without headers: short backoff */
};

struct judgement {
    enum verdict verdict;
    enum rate_kind rate;
    bool known;       /* false: no row knew this shape */
    int64_t until;    /* wall ms of a moment the answer names (access returns, plan
                         resets, rate-limit reset header); 0: none */
    int64_t retry_ms; /* span from retry-after-ms or retry-after; -1: none */
    bool has_usage;
    struct usage usage;
    bool bare_reset; /* broke after bytes left, and no status line came */
    char type[48];   /* error.type, or stop_reason of a message; "" */
    char code[48];   /* error.details.error_code; "" */
    char request_id[64];
    char model[96];     /* the model that answered; "" */
    char sentence[320]; /* what to tell a person: the API's own sentence, or ours */
};

struct verdict_about {
    int64_t wall_ms;     /* now, to read dates against */
    bool model_from_job; /* the job itself named the model */
    bool model_is_tiers; /* the model came from a tier of the configuration */
};

void verdict_judge(const struct answer *a, const struct verdict_about *about,
                   struct judgement *ret);

const char *verdict_name(enum verdict v);
enum verdict_whose verdict_whose(enum verdict v);

/* Does this verdict take one of the job's attempts? */
bool verdict_counts(enum verdict v);

#endif

#ifndef ROUTE_H
#define ROUTE_H

#include "conf/catalog.h"
#include "conf/conf.h"
#include "runner/learn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/*
 * Which rung a job is sent with, and why. Pure. In order: the job's own model or tier;
 * the first [route] rule that fits; what was learned, where the job's way of routing is
 * cascade or learn; the default tier.
 *
 * A ladder is the rungs that cascade and learn choose from, cheapest first.
 */
struct ladder {
    int len;
    const struct tier *rung[LEARN_RUNGS]; /* lent by the configuration */
    double price[LEARN_RUNGS]; /* dollars that a job is expected to cost there, rising;
                                  a guess where a model has no price */
    bool priced;               /* every rung's model has one */
};

struct route_job {
    const char *name, *tier, *model, *effort; /* NULL: not said */
    const char *tags;                         /* "a,b", or NULL */
    const char *check, *route;                /* its own words, or NULL */
    const char *climb; /* the tier whose answer did not pass; NULL: none yet */
    const char *says;  /* why it did not */
    int64_t bytes, max_tokens;
    unsigned asks;
    const struct learn_view *learned; /* of this job; NULL: not looked at */
    uint64_t random;
};

enum {
    ROUTE_WHY_MAX = 300,
    ROUTE_LANE_MAX = 128,
    ROUTE_LONG_BYTES = 16 * 1024, /* cold: a prompt that calls for one rung more */
    ROUTE_LONG_ANSWER = 16000,    /* and a max_tokens that does */
    ROUTE_ANSWER_TOKENS = 400, /* what an answer is taken to have, to compare prices */
};

struct routed {
    const char *tier; /* NULL: the model was named, no tier is involved */
    const char *model;
    const char *effort;   /* "": not said to the API */
    const char *fallback; /* tier; "" */
    const char *check;    /* what its answer must pass; NULL: nothing */
    int64_t max_tokens;   /* where the job says none */
    bool from_job;        /* the job itself named the model */
    enum route_how how;   /* ROUTE_TIER where there is nothing to choose */
    int rung;             /* on the ladder; -1: it is not on it */
    bool wants_view;      /* what was learned would decide: ask again with `learned` */
    bool explored;        /* chosen to learn something */
    char why[ROUTE_WHY_MAX];
    char lane[ROUTE_LANE_MAX]; /* the rate-limit class of the model */
};

/* 0, or -1 where the job asks for a tier that does not exist, or for a cascade without
 * a check. What `ret` points to is lent by `conf` and `job`. */
int route_decide(const struct conf *conf, const struct catalog *catalog,
                 const struct route_job *job, struct routed *ret, struct err *e);

/* The same job on another tier: where its own was refused. */
int route_fall_back(const struct conf *conf, const struct catalog *catalog,
                    const struct route_job *job, struct routed *ret, struct err *e);

/* The rung that a job which is on `tier` climbs to; NULL: it is on the last one. */
const struct tier *route_above(const struct conf *conf, const struct catalog *catalog,
                               const struct route_job *job, const char *tier);

void route_ladder(const struct conf *conf, const struct catalog *catalog,
                  const struct route_job *job, struct ladder *ret);

/* A text that changes whenever the ladder does: what was learned is of no use then. */
enum { ROUTE_PRINT_MAX = 80 };
void route_ladder_print(const struct conf *conf, const struct catalog *catalog,
                        char *buf, size_t size);

/* Which of its ways chose a rung, read from the words that it left with the attempt. */
#define ROUTE_BYS(X)                  \
    X(OWN, "own word")                \
    X(RULE, "rule")                   \
    X(LEARNED, "learned")             \
    X(COLD, "too little learned yet") \
    X(DEFAULT, "default")             \
    X(CLIMBED, "climbed")             \
    X(FALLBACK, "fallback")
enum route_by {
#define X(by, name) ROUTE_BY_##by,
    ROUTE_BYS(X)
#undef X
        ROUTE_BY_COUNT
};
enum route_by route_by(const char *why); /* NULL: the default */
const char *route_by_name(enum route_by by);

/* A text that changes whenever waiting jobs might be routed otherwise. */
void route_print(const struct conf *conf, char *buf, size_t size);

#endif

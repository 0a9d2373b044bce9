#ifndef ROUTE_H
#define ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct catalog;
struct conf;
struct err;

/*
 * Which rung a job is sent with, and why. Pure. In order: the job's own model or tier;
 * the first [route] rule that fits; the default tier.
 */
struct route_job {
    const char *name, *tier, *model, *effort; /* NULL: not said */
    const char *tags;                         /* "a,b", or NULL */
    int64_t bytes, max_tokens;
};

enum { ROUTE_WHY_MAX = 160, ROUTE_LANE_MAX = 128 };

struct routed {
    const char *tier; /* NULL: the model was named, no tier is involved */
    const char *model;
    const char *effort;   /* "": not said to the API */
    const char *fallback; /* tier; "" */
    int64_t max_tokens;   /* where the job says none */
    bool from_job;        /* the job itself named the model */
    char why[ROUTE_WHY_MAX];
    char lane[ROUTE_LANE_MAX]; /* the rate-limit class of the model */
};

/* 0, or -1 where the job asks for a tier that does not exist. What `ret` points to is
 * lent by `conf` and `job`. */
int route_decide(const struct conf *conf, const struct catalog *catalog,
                 const struct route_job *job, struct routed *ret, struct err *e);

/* The same job on another tier: where its own was refused. */
int route_fall_back(const struct conf *conf, const struct catalog *catalog,
                    const struct route_job *job, struct routed *ret, struct err *e);

/* A text that changes whenever waiting jobs might be routed otherwise. */
void route_print(const struct conf *conf, char *buf, size_t size);

#endif

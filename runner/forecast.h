#ifndef FORECAST_H
#define FORECAST_H

#include "conf/catalog.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What jobs that wait will read, write and cost, as ranges, before any of them is sent.
 * Pure: no clock, no store.
 *
 * Jobs of one kind (the rung they are sent with, and the bulk file or directory they
 * come from) are taken to be alike. Of a kind of which nothing was answered yet, a guess
 * is made from its bytes, its max_tokens, its model and what it asks for. Each answer
 * replaces some of the guess; from FORECAST_MEASURED answers on, nothing is left of it.
 *
 *   - A guess is a factor of three from low to high, and no promise: what a prompt makes
 *     a model write cannot be told from outside. A canary (`run --first N`) tells it.
 *   - A measured range is a prediction interval of the SUM over the jobs that wait, made
 *     to hold the true sum 19 times of 20 where answers are as unlike each other as they
 *     usually are, and it is aimed wider than that, for tails that were not seen yet.
 *
 * Guesses err together (what one prompt says of the guess, the next one repeats), so
 * they are added; measured kinds err each for itself, so their widths are added as
 * squares.
 */
enum {
    FORECAST_MEASURED = 16,    /* answers of a kind from which its range is measured */
    FORECAST_KINDS_MAX = 4096, /* what comes beyond shares one kind a rung */
    FORECAST_RUNGS_MAX = 256,
};

/* Bytes of a request that count as one token of the estimate. The true figure is about
 * 4 for English under older tokenizers, 3 to 3.5 under the present ones, 2.5 for code;
 * what answers count corrects it, kind by kind. */
#define FORECAST_BYTES_PER_TOKEN 3.5

/* Parts (0 to 1) of a prompt's tokens that are expected to be read from the cache, or
 * written to it. Once the kind is measured, what was seen takes their place. */
struct forecast_cache {
    double read, write_5m, write_1h;
};

/* A job as far as it matters here. All of it is borrowed for the call. */
struct forecast_job {
    const struct model *model; /* NULL: not in the catalogue */
    const char *model_id;
    const char *effort;    /* "" or NULL: not said */
    const char *where;     /* its bulk file or directory; */
    size_t where_len;      /* so much of it */
    int64_t bytes;         /* of the body */
    int64_t max_tokens;    /* in force */
    unsigned asks;         /* enum job_asks */
    int64_t opaque;        /* bytes of these that are images and documents, encoded; */
    int64_t opaque_blocks; /* in so many blocks */
    struct forecast_cache cache;
};

/* What became of one. */
struct forecast_answer {
    struct usage usage; /* all 0 where the API refused it: that costs nothing */
    int64_t took_ms;    /* 0: not known */
    double paid; /* times what this answer cost that all its sendings cost; >= 1 */
};

struct forecast;

struct forecast *forecast_new(void); /* NULL: no memory */
void forecast_free(struct forecast *f);

/* First everything that was answered, then everything that waits; not mixed, since what
 * is added is looked at in the light of what was learned. -1: no memory. */
int forecast_learn(struct forecast *f, const struct forecast_job *j,
                   const struct forecast_answer *a);

/* `count` jobs like this one, under the caller's own number for a line of its table.
 * `worst` is what each may cost at most (budget_worst()). */
int forecast_add(struct forecast *f, const struct forecast_job *j, int row,
                 int64_t count, picodollars worst);

struct forecast_tokens {
    int64_t low, likely, high;
};

struct forecast_usd {
    picodollars low, likely, high;
};

struct forecast_sum {
    int64_t jobs;
    int64_t measured; /* of these, those of kinds that were measured */
    int64_t answers;  /* that it rests on: of the kinds of these jobs */
    int64_t unpriced; /* jobs that are in no sum of money: their price is not known */
    struct forecast_tokens in, uncached, out; /* uncached: what input limits count */
    struct forecast_usd usd;                  /* as if there were no prompt cache */
    struct forecast_usd
        cached;        /* with what the cache is expected to save, or to cost */
    picodollars worst; /* saturates, like all money here */
    int64_t busy_low, busy_high; /* ms that answers take, one after the other */
};

/* The rows for which `take` says true; NULL: all of them. */
typedef bool forecast_take_fn(void *arg, int row);
void forecast_sum(struct forecast *f, forecast_take_fn *take, void *arg,
                  struct forecast_sum *ret);

/* How long that takes on one lane. */
struct forecast_limits {
    int64_t rpm, itpm, otpm; /* 0: not known */
    int64_t window;          /* requests in flight at most */
};

enum forecast_bound {
    FORECAST_BY_WINDOW,
    FORECAST_BY_REQUESTS,
    FORECAST_BY_INPUT,
    FORECAST_BY_OUTPUT,
};

struct forecast_time {
    int64_t low_ms, high_ms;
    enum forecast_bound bound; /* what makes it as long as `high_ms` */
    bool limits_known;         /* none known: the window alone was reckoned with */
};

struct forecast_time forecast_time(const struct forecast_sum *s,
                                   const struct forecast_limits *l);

#endif

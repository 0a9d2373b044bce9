#ifndef REPORT_H
#define REPORT_H

#include "conf/catalog.h"
#include "conf/conf.h"
#include "jobs/store.h"
#include "jobs/textbuf.h"
#include "runner/chart.h"
#include "runner/ending.h"
#include "runner/forecast.h"
#include "runner/route.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/*
 * What a person wants to know in the morning, of one run and its queue. report_collect()
 * reads the store in some passes and keeps sums, of bounded size however many jobs there
 * are; report_page() makes of them a page, and is pure. Every string of it is as outsiders
 * wrote it.
 */
enum {
    REPORT_TOP = 10,
    REPORT_ROWS = 40, /* tiers, models, tags: what comes beyond shares the last row */
    REPORT_LANES = 12,
    REPORT_SLICES = 180,
    REPORT_WHYS = 40,
    REPORT_EXAMPLES = 3,
    REPORT_RUNS = 8,
    REPORT_SOURCES = 8,
    REPORT_SAYS = 12,   /* kinds of holds a lane */
    REPORT_STEPS = 720, /* changes of a lane's limits */
    REPORT_NAME = 240,
};

/* Requests that have something in common, of the run; `all`: of the whole queue. */
struct report_row {
    char key[REPORT_NAME];
    int64_t requests, done;
    struct usage usage;
    picodollars cost, doubt_low, doubt_high, all;
    picodollars cached,
        uncached;               /* by today's prices: as it was, and without a cache */
    int64_t by[ROUTE_BY_COUNT]; /* of tiers: requests that came to it that way */
};

struct report_table {
    size_t len;
    struct report_row row[REPORT_ROWS];
};

/* Like failures: one kind of error, in words that differ by numbers and names alone. */
struct report_why {
    enum job_outcome outcome;
    enum job_state state;
    int64_t jobs;
    int examples;
    char type[48], like[200], says[320];
    char example[REPORT_EXAMPLES][REPORT_NAME];
};

struct report_job {
    int64_t id, took_ms, sendings;
    picodollars cost;
    enum job_state state;
    char name[REPORT_NAME], model[96];
};

/* Holds in like words. */
struct report_hold {
    enum history_kind kind;
    int64_t times, held_ms, first_at, last_at;
    char like[200], says[320];
};

struct report_holds {
    size_t len;
    struct report_hold one[REPORT_SAYS];
    struct chart_mark *marks; /* of all of them; `says` is lent by `one` */
    size_t marks_len, marks_size;
};

struct report_lane {
    char name[128];
    double sent[3][REPORT_SLICES]; /* requests, uncached input, output */
    struct chart_step limit[3][REPORT_STEPS];
    size_t steps;
    int64_t requests;
    struct report_holds holds;
};

struct report_run {
    int64_t id, started_at, ended_at, tokens_in, tokens_out, first_attempt;
    picodollars spent;
    enum stop stop; /* of the run that is covered, and of the last one */
    int64_t until, halted_at;
    char reason[320];
    bool died, open; /* open: its end was not told */
};

struct report {
    /* The caller's: */
    const struct conf *conf;
    const struct catalog *catalog;
    const char *queue, *state; /* the queue's directory, its store's */
    bool busy;                 /* a runner is at work */
    int64_t now;               /* wall ms */
    int64_t wanted;            /* a run's number; 0: the last that sent anything */
    int64_t since; /* wall ms: what left before is left out; 0: nothing is */

    struct store_totals totals;
    struct report_run run, last; /* run.id 0: nothing was sent; last.id 0: never run */
    struct report_run runs[REPORT_RUNS];
    size_t runs_len;
    int64_t runs_all;

    int64_t from, to, slice_ms; /* what is covered of the run, and in which slices */
    size_t slices;

    int64_t requests, in_flight, rest[JOB_STATE_COUNT]; /* of the run; at rest by it */
    struct usage usage;
    picodollars cost, doubt_low, doubt_high, cached, uncached;
    int64_t doubt, unpriced;
    struct report_table tiers, models, tags;
    struct report_lane *lanes; /* REPORT_LANES of them */
    size_t lanes_len;
    struct report_holds holds; /* of all lanes */
    struct report_job slowest[REPORT_TOP], dearest[REPORT_TOP];
    size_t slowest_len, dearest_len;

    struct report_why whys[REPORT_WHYS];
    size_t whys_len;
    char parked[REPORT_SOURCES][2][REPORT_NAME]; /* a source; what was said */
    size_t parked_len;
    int64_t parked_sources;

    struct forecast_sum forecast; /* of the jobs that the run brought to rest */
    picodollars actual, actual_uncached;
    int64_t forecast_left_out;
    struct forecast *learned; /* while it is collected */
    struct err *e;
};

/* 0, or -1. What it holds is freed by report_free(), in any case. */
int report_collect(struct report *r, struct store *st, struct err *e);
void report_free(struct report *r);

/* The whole page; `b->failed` without memory. */
void report_page(struct textbuf *b, struct report *r);

#endif

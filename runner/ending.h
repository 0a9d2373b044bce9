#ifndef ENDING_H
#define ENDING_H

#include "conf/catalog.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Why a run stopped, and the words for it: the run's own last ones, and the report's in
 * the morning. Pure.
 */
#define STOPS(X)              \
    X(NONE, "")               \
    X(SIGNAL, "signal")       \
    X(UNTIL, "until")         \
    X(NO_CREDIT, "no_credit") \
    X(SPEND_LIMIT, "spend")   \
    X(KEY, "key")             \
    X(BUDGET, "budget")       \
    X(OUTAGE, "outage")       \
    X(WAIT, "wait")           \
    X(STORE, "store")         \
    X(DISK, "disk")           \
    X(RESULTS, "results")     \
    X(CONSENT, "consent")     \
    X(INPUT, "input")         \
    X(RELOAD, "reload")

enum stop {
#define X(stop, name) STOP_##stop,
    STOPS(X)
#undef X
        STOP_COUNT
};

/* The word that the store keeps: names are added, never changed. */
const char *stop_name(enum stop s);
enum stop stop_named(const char *name); /* STOP_NONE: no such word */

/* Must a person do something about it? */
bool stop_needs_person(enum stop s);

struct ending {
    enum stop stop;
    const char *says;  /* what was said of it; lent, like all strings here */
    const char *state; /* the directory of the store */
    int64_t until;     /* wall ms of a moment it names; 0: none */
    int64_t left;      /* jobs that wait */
    int64_t done;      /* in that run, */
    picodollars spent; /* for so much */
    int lost;          /* answers that could not be stored */
    bool sent;         /* the run had sent something */
};

/* Why it stopped, what to do, and what the next run will do; "" where nothing stopped it. */
enum { ENDING_SAYS_MAX = 1200 };
const char *ending_says(const struct ending *x, char *buf, size_t size);

#endif

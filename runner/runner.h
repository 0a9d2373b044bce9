#ifndef RUNNER_H
#define RUNNER_H

#include <stdbool.h>
#include <stdint.h>

struct account_store;
struct catalog;
struct conf;
struct err;
struct hours;
struct queue;
struct store;

/*
 * The machine: runs what is queued until nothing can move, then comes back. One tick
 * makes one list of moves; the list is committed on a worker thread; only then do
 * things happen outside. Every callback notes what happened and pokes.
 */
struct runner_opts {
    const struct conf *conf;
    const struct catalog *catalog;
    const struct queue *queue; /* locked */
    struct store *store;       /* opened for a run */
    struct account_store *accounts;
    const char *key; /* copied where it is needed; wipe yours */
    bool json, quiet;
    bool accept_changes, accept_empty;
    bool wait_for_credit;   /* probe now and then instead of ending */
    int64_t first;          /* a canary: send that many jobs and end; 0: all */
    int64_t until_wall;     /* wall ms after which nothing is sent; 0: none */
    const char *until_says; /* what that moment is; borrowed */

    /* Keep running: take new jobs as they come, wait where a run would end. */
    bool watch;
    const struct hours *hours; /* watch: when it may send; NULL: at all times */
    /* watch: SIGHUP. Are there new settings to go on with? Then what is out is awaited,
     * and runner_run() gives RUNNER_RELOAD. */
    bool (*reload)(void *arg);
    bool again; /* this is such a call: what a beginning asks was asked */
    void *arg;
};

/* The meaning of ends, as exit codes. */
enum runner_exit {
    EXIT_ALL_DONE = 0,
    EXIT_SOME_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_STORE = 74,
    EXIT_AGAIN = 75,
    EXIT_KEY = 77,
    RUNNER_RELOAD = 256, /* never a process's: to be called again with new settings */
};

int runner_run(const struct runner_opts *o, struct err *e);

#endif

#ifndef LIVE_H
#define LIVE_H

#include "jobs/store.h"
#include "runner/bucket.h"
#include "runner/cache.h"
#include "runner/route.h"
#include "runner/settle.h"
#include "runner/verdict.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct brake;
struct checkrun;
struct lane;
struct money_day;
struct runner;
struct sender_call;

/* Where a job in memory is; the list it is on says the same. */
enum live_where {
    LIVE_READY,    /* on its lane's list */
    LIVE_ADMITTED, /* its move to IN_FLIGHT is being committed */
    LIVE_OUT,      /* with the sender */
    LIVE_NOTED,    /* ended; its settlement is not committed yet */
    LIVE_CHECKING, /* its answer is stored; a program judges it */
    LIVE_CHECKED,  /* that has ended, and is not committed yet */
    LIVE_AT_REST,  /* settled for good; its result is being written */
};

enum live_note {
    NOTE_ANSWER,     /* `judged` tells */
    NOTE_TAKEN_BACK, /* no byte had left */
    NOTE_CUT_OFF,    /* cancelled by us after bytes had left */
};

enum { LIVE_WHY_MAX = 400 };

/* A job in memory: what the store's row says, and what is being done with it. */
struct live {
    struct live *next, *hash_next;
    struct runner *runner;
    enum live_where where;

    struct store_job job; /* its strings and body are ours */
    char *strings;
    struct routed routed; /* strings lent by conf and by `job` */
    struct lane *lane;
    struct brake *brake; /* NULL for single jobs */

    char why[LIVE_WHY_MAX]; /* of this attempt: route, raise, cache */
    int64_t attempt, worst_bytes;
    struct sender_call *call;
    int64_t started_at; /* monotonic */
    int64_t started_wall;
    picodollars worst;     /* what this attempt may cost */
    struct money_day *day; /* on which it left */
    bool unbounded;        /* that cannot be reckoned, and there is a ceiling */
    bool probe;            /* of a tripped lane or endpoint */

    struct prefix prefix;       /* what it shares with others */
    struct cache_job cached;    /* its place in the lane's cache; zeroed: none */
    struct cache_say cache_say; /* what that said when it was chosen */
    bool to_disk;               /* it goes back to wait there */

    struct bucket_ask ask;       /* what it wants of the buckets */
    struct bucket_ticket ticket; /* what it took */
    bool ticketed;
    bool large; /* it wants a full bucket to itself: after the others */
    struct bucket_headers limits; /* what its answer's headers said */
    bool headed;                  /* they came, and are to be told to the buckets */
    struct live *headed_next;

    enum live_note note;
    bool heard;             /* what it tells of others was taken up */
    bool settling;          /* its settlement is in a list of moves */
    struct settled settled; /* valid once heard */
    enum checked checked;   /* what its check says of this answer */
    size_t check_at;        /* the program that is next, or runs */
    struct checkrun *checkrun;
    char next_lane[ROUTE_LANE_MAX]; /* of the rung that it climbs to */
    bool canceled;                  /* somebody asked for it */
    bool no_answer;                 /* left, and nothing came back whole: in doubt */
    bool left, full;                /* the lane's buckets were full by the headers */
    long status;
    struct judgement judged;
    char *message;
    size_t message_len;

    struct store_result result; /* LIVE_AT_REST */
};

enum { LIVE_BUCKETS = 4096 };

struct live_table {
    struct live *bucket[LIVE_BUCKETS];
    size_t count, bytes; /* bytes: of bodies */
};

/* In force: raised after a cut answer, the job's own, its rung's. */
int64_t live_max_tokens(const struct live *l);

/* A copy of a row, on the table. NULL: no memory. */
struct live *live_new(struct live_table *t, const struct store_job *j);
struct live *live_find(const struct live_table *t, int64_t id);

/* Off the table (a revision may come anew), but still there. */
void live_forget(struct live_table *t, struct live *l);
void live_free(struct live *l);

#endif

#ifndef BUCKET_H
#define BUCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A model of the API's limiter: three buckets (requests, uncached input tokens, output
 * tokens) that refill continuously. It says whether a request may leave now, which
 * bucket binds, and when to ask again.
 *
 * Pure: time comes in, in milliseconds of CLOCK_MONOTONIC. `struct buckets` holds no
 * pointers: it may lie in a file that all runners of the machine map, and then the
 * caller holds a lock around every call. It outlives runs: what was learned is where
 * the next run starts, and the first answer of that run checks it.
 *
 * One request's way: buckets_ask() until it may; buckets_take() at once; then
 * buckets_headers() when headers of its answer come (streaming: early), and exactly one
 * of buckets_ended(), buckets_refused(), buckets_dropped().
 *
 * While no answer has told limits, everything passes: the window alone rules.
 */
enum bucket { BUCKET_REQUESTS, BUCKET_INPUT, BUCKET_OUTPUT, BUCKETS, BUCKET_NONE = -1 };

enum {
    BUCKETS_VERSION = 1,
    BUCKET_SLOTS = 64,        /* runners at a time */
    BUCKET_GROUPS = 256,      /* kinds of jobs whose output is remembered */
    BUCKET_GROUP_WAYS = 4,    /* places a kind may lie in */
    BUCKET_FLOW_SLICES = 256, /* answers that will begin: x BUCKET_FLOW_SLICE_MS */
    BUCKET_FLOW_SLICE_MS = 50,
    BUCKET_SENT_SLICES = 16, /* what left lately: x BUCKET_SENT_SLICE_MS */
    BUCKET_SENT_SLICE_MS = 20,
    BUCKET_USED_SLICES = 12, /* what was used in the last minute */
    BUCKET_USED_SLICE_MS = 5000,
};

/* Some answers of one kind, older ones fading. */
struct bucket_group {
    uint64_t key; /* 0: a free place */
    int64_t used_at;
    double inputs, outputs;          /* how many of each were counted */
    double q, q_var;                 /* uncached input: actual / estimate */
    double out, took_ms, var, covar; /* output tokens, time of an answer */
};

struct bucket_one {
    double limit;      /* a minute; 0: never told */
    double level;      /* what the server's bucket holds, as its headers tell it */
    double moved;      /* sum of all corrections of `level` */
    double drift;      /* what others use, a millisecond */
    double full_ms;    /* what a full bucket holds, in time of refill */
    double excess;     /* what was used above the refill since it was last full */
    double hidden_ms;  /* most excess the server bears, learned by refusal; 0: not */
    double proven_ms;  /* most excess that it was seen to bear, in this run */
    double earlier_ms; /* and in earlier ones */
    double typical;    /* what one request costs */
    double pace;       /* keeps what leaves from leaving in lumps */
    double slip_ms;    /* caution that refusals taught */
    double wary;       /* the most that others lately used, a millisecond */
    double lag_ms;     /* how old a level is when it is told */
    double off_sent, off_begun; /* how wrong levels were, were they those of when
                                 * a request was let in, or when its answer began */
    double other;               /* what the one not believed would add to `level` */
    int64_t told_at;            /* headers last moved the level; 0: not in this run */
    int64_t refused_at;         /* what left before that knew nothing of the refusal */
    int64_t hidden_at;
    uint8_t begun; /* the second is believed */
    uint8_t exact; /* its `remaining` is not rounded */

    double ramp_from, ramp_step; /* a minute; 0: no ramp. A step: each minute */
    int64_t ramp_at;             /* since when, or when the step is due */
    double ramp_again;           /* where to start after long idleness; 0: never seen */

    double sent_sum, sent[BUCKET_SENT_SLICES]; /* sums at the begin of each slice */
    double used[BUCKET_USED_SLICES];
};

struct bucket_slot {
    uint32_t generation;
    uint8_t taken;
    double out, input; /* outstanding: requests, uncached input */
};

/* Answers in flight that begin in one slice of time, or are being written. */
struct bucket_flow {
    double count, rate;  /* rate: tokens a ms */
    double ahead, later; /* tokens within the horizon, now and once it is written */
};

struct buckets {
    uint32_t version, size;
    uint64_t seq;         /* of the last request */
    uint64_t told_seq;    /* of the newest whose headers were heard */
    int64_t at;           /* the model stands at this moment */
    int64_t began_at;     /* this run of runs */
    int64_t last_take_at; /* 0: nothing left yet */
    int64_t heard_at;     /* anything of what is in flight */
    uint8_t checked;      /* an answer of this run has come */
    int64_t gate_until;   /* told to wait, on account of bucket `gate_by` */
    int32_t gate_by;
    double out;                     /* requests outstanding */
    int64_t reserved_until;         /* for a request that needs a full bucket */
    int64_t sent_slice, used_slice; /* newest of each ring */
    int64_t flow_slice;             /* answers up to this one have begun */
    struct bucket_one one[BUCKETS];
    struct bucket_flow writing, waiting; /* `waiting` sums up `coming` */
    struct bucket_flow coming[BUCKET_FLOW_SLICES];
    struct bucket_group all; /* every kind together */
    struct bucket_group groups[BUCKET_GROUPS];
    struct bucket_slot slots[BUCKET_SLOTS];
};

void buckets_init(struct buckets *b, int64_t now);

/* May these bytes be used? Reads sizeof *b; anything may lie there. */
bool buckets_sane(const struct buckets *b);

/*
 * A runner comes and goes. Who comes while no other is there starts a run: what is
 * learned stays, and one request goes out to check it. -1: all slots are taken (slot -1
 * may be used everywhere; what it has out is then not forgotten when it dies).
 * buckets_free_slot() is also for the dead: what they had out is forgotten.
 */
int buckets_join(struct buckets *b, int64_t now);
void buckets_free_slot(struct buckets *b, int slot, int64_t now);

struct bucket_ask {
    uint64_t group;     /* hash of model, effort, kind of job; 0 is a group too */
    double input_est;   /* tokens that no cache is expected to hold */
    int64_t max_tokens; /* 0: none */
    bool reserve;       /* if it is larger than a bucket: the others wait for it */
};

struct bucket_look {
    bool may;
    bool alone; /* larger than a whole bucket: leaves when that is full; a refusal then
                 * is the job's own fault */
    enum bucket binds; /* the tightest; BUCKET_NONE: no limits known */
    int64_t ask_at;    /* when time alone may change the answer; 0: only an event may */
};

struct bucket_look buckets_ask(struct buckets *b, const struct bucket_ask *ask,
                               int64_t now);

/* What the caller keeps for each request that left. Plain data. */
struct bucket_ticket {
    uint64_t seq, group;
    int64_t sent_at, due_slice;
    double est, cost[BUCKETS];
    double base[BUCKETS], excess[BUCKETS]; /* the model when it left */
    struct bucket_flow flow;
    uint32_t generation;
    int32_t slot;
    bool alone, headers;
};

/* It leaves now, or within a few milliseconds. `look` is buckets_ask()'s answer. */
struct bucket_ticket buckets_take(struct buckets *b, int slot,
                                  const struct bucket_ask *ask,
                                  const struct bucket_look *look, int64_t now);

/* -1: was not told. `reset_ms`: from now until the bucket is full. */
struct bucket_headers {
    int64_t limit[BUCKETS], remaining[BUCKETS], reset_ms[BUCKETS];
};

extern const struct bucket_headers bucket_headers_none;

/* Headers of an answer other than a 429, once a request. */
void buckets_headers(struct buckets *b, struct bucket_ticket *t,
                     const struct bucket_headers *h, int64_t now);

/* It is over, well or badly. Uncached input (cache reads left out) and output that were
 * really counted; -1: not known (529, 5xx, a broken connection). */
void buckets_ended(struct buckets *b, struct bucket_ticket *t, int64_t input,
                   int64_t output, int64_t now);

enum bucket_refusal {
    REFUSED_QUOTA,        /* a rate limit; `bucket` may be BUCKET_NONE: not said */
    REFUSED_ACCELERATION, /* used more, too fast */
    REFUSED_CONCURRENCY,  /* the window's matter, like the next two */
    REFUSED_EDGE,
    REFUSED_LONG_CONTEXT,
};

struct bucket_refused {
    enum bucket_refusal kind;
    enum bucket bucket;
    int64_t retry_after_ms;         /* -1: not said */
    double stated_now, stated_next; /* acceleration, a minute; 0: not said */
    struct bucket_headers headers;
};

/* A 429. It was not charged. */
void buckets_refused(struct buckets *b, struct bucket_ticket *t,
                     const struct bucket_refused *r, int64_t now);

/* It never left. */
void buckets_dropped(struct buckets *b, struct bucket_ticket *t, int64_t now);

/* Share of the limit that was used in the last minute (or since the start, if that is
 * shorter): 1 is all of it, and more while a full bucket is being emptied. */
double buckets_share(struct buckets *b, enum bucket k, int64_t now);

enum { BUCKETS_SAY_MAX = 160 };

/* "input tokens bind, 97 % of 2,000,000 a minute in use, next send in 0.4 s" */
const char *buckets_say(struct buckets *b, const struct bucket_look *look, int64_t now,
                        char *buf, size_t size);

#endif

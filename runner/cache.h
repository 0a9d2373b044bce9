#ifndef RUNNER_CACHE_H
#define RUNNER_CACHE_H

#include "conf/catalog.h"
#include "jobs/prefix.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Which jobs of a lane share a prompt prefix, and who of them may go when. Jobs with one
 * prefix and one rung are a group:
 *
 *                   a leader leaves             its answer begins
 *           COLD ---------------------> LEADING -----------------> WARM
 *            ^  ^                         |                         |
 *            |  +-- it ended before that -+                         |
 *            +------- not used for the cache's time ----------------+
 *
 * A cold group's leader writes the prefix into the API's cache, which can be read once
 * its answer has begun; until then the others wait, and then they follow and read. Cuts
 * of one job lie within each other, so a job belongs to a chain of groups; it is marked
 * at the longest prefix that pays, and as a leader also where others beyond that group
 * share a shorter one.
 *
 * A new group is opened only when those that are open may run out of jobs before another
 * leader's answer would begin; and one that waits for jobs is used before it lapses.
 *
 * Pure: time comes in, in milliseconds of one monotonic clock.
 *
 * One job's way: cache_join() when it comes into memory; cache_waits() when it enters
 * and leaves the ready list; then cache_decide() until it may, cache_started(),
 * cache_began() at the headers of a good answer, cache_ended(); and around again, or
 * cache_part(). The struct cache_job is the caller's to keep, zeroed where there is
 * nothing to share.
 */
enum {
    CACHE_NODES_MAX = 1 << 15, /* prefixes known at a time; of more, the idle ones
                                  that were not seen for longest are forgotten */
    CACHE_BUCKETS = 1 << 13,

    CACHE_5M_MS = 300000, /* how long the API keeps it after the last use began */
    CACHE_1H_MS = 3600000,
    CACHE_GUARD_MS = 10000,    /* on the way to the API it may lapse */
    CACHE_PATIENCE_MS = 60000, /* a leader silent for longer gets company */
    CACHE_LOOK = 512, /* having found one that may go, so many more jobs are worth a
                         look for a better one */
    CACHE_STEP_TOKENS = 256, /* so much longer must a prefix be to be worth a leader of
                                  its own beside a shorter one that more jobs share */
};

enum cache_word {
    CACHE_NONE, /* sent as it is: marks would not pay */
    CACHE_LEAD, /* goes first: marked, and always streamed, so that its begin is seen */
    CACHE_FOLLOW, /* marked, and expected to read */
    CACHE_WAIT,   /* not now */
};

/* Among jobs of one priority the lowest rank goes first, equal ones in their order. */
enum cache_rank {
    CACHE_RANK_WARM, /* its group lapses if none of it is sent */
    CACHE_RANK_LEAD, /* another group has to be opened for the window to stay full */
    CACHE_RANK_GO,
    CACHE_RANK_LATER, /* a new group though none is needed: if nothing else can go */
    CACHE_RANK_NOT,   /* CACHE_WAIT */
};

struct cache_say {
    enum cache_word word;
    enum cache_rank rank;
    struct prefix_marks marks;
    size_t read_bytes; /* of the prompt: expected to be read from the cache, so no input
                          that counts against the lane's pace */
    int64_t ask_at;    /* WAIT: time alone may change it then; 0: an event has to */
    int64_t jobs;      /* of its group that wait, itself included */
    int64_t tokens;    /* of its prefix */
    const char *why;   /* static */
};

struct cache_job {
    uint32_t node[PREFIX_CUTS_MAX]; /* 0: none */
    uint8_t count, group;           /* group: cut + 1 in whose stock it is counted */
    bool waits, out, began, hour;
    uint8_t leads; /* bit: of a mark that it is to write */
    uint8_t marks, cut[PREFIX_MARKS_MAX];
    int64_t started_at;
};

struct cache_node;

struct cache { /* the members are cache.c's */
    struct cache_node *node;
    uint32_t *bucket;
    uint32_t count, size, idle_first, idle_last, open_first;

    int64_t held;       /* jobs that wait */
    int64_t open_stock; /* jobs that wait for open groups */
    int leading, busy;  /* open groups: whose leader is out; that have jobs */
    bool urgent, idle;
    int64_t sweep_at, starts, window, target;

    double lead_ms, took_ms,
        pace_ms; /* leader to first byte; an answer; between starts */
    bool paced;
    int64_t started_at, wanted_at; /* the last start; since when jobs wait */
    int64_t uses, lapses;
    double bytes_per_token;
    int64_t turn;
};

/* `turn`: of the next job taken in, above all that cache_seen() ever gave. */
void cache_init(struct cache *c, int64_t turn);
void cache_clear(struct cache *c);

/*
 * So many jobs with this prefix were taken in and wait on disk (1 when it is read; what
 * a store kept from earlier runs may be told at once, or not at all). `rung` is a hash
 * of model and effort; the model is lent and outlives the cache.
 *
 * Returns the job's turn: rows of a lane that are read by priority, turn and id come
 * group by group, groups in the order in which they were first seen, and jobs that share
 * no prefix where they came.
 */
int64_t cache_seen(struct cache *c, const struct prefix *p, uint64_t rung,
                   const struct model *m, int64_t jobs, int64_t now);

/* It comes into memory, from disk. It neither waits nor is out yet. */
void cache_join(struct cache *c, struct cache_job *j, const struct prefix *p,
                uint64_t rung, const struct model *m);
/* It leaves memory: back to wait on disk, or for good. Zeroes the job. */
void cache_part(struct cache *c, struct cache_job *j, bool to_disk);

/* It came onto, or left, the list of those that could be sent. */
void cache_waits(struct cache *c, struct cache_job *j, bool waits);

/* Before a round of decisions: how many are out, and how many more might leave now as
 * far as window and buckets go. */
void cache_refresh(struct cache *c, int in_flight, int room, int64_t now);

/* Ranks are never better than this, so a search may stop there. */
enum cache_rank cache_best(const struct cache *c);

struct cache_say cache_decide(struct cache *c, struct cache_job *j, int64_t now);

/* It is sent as `say` says. It may not wait any more. */
void cache_started(struct cache *c, struct cache_job *j, const struct cache_say *say,
                   int64_t now);
/* Status and headers of a good answer came. More than once is fine. */
void cache_began(struct cache *c, struct cache_job *j, int64_t now);
/* It is over: usage, or NULL where none was told (refused, broken, never left). Of one
 * that is not out nothing is taken up. */
void cache_ended(struct cache *c, struct cache_job *j, const struct usage *u,
                 int64_t now);

/* "leads 50 jobs that share 6000 tokens, kept 5 minutes" */
enum { CACHE_SAYS_MAX = 128 };
const char *cache_explain(const struct cache_say *say, char *buf, size_t size);

/* ---- what pays ---- */

enum cache_worth { CACHE_WORTH_NOTHING, CACHE_WORTH_5M, CACHE_WORTH_1H };

struct cache_outlook {
    int64_t jobs;         /* to be sent, the leader included */
    int64_t tokens;       /* of the prefix */
    int64_t gap_ms;       /* between two of them */
    int64_t uses, lapses; /* how often, so far, the 5 minutes ran out between uses */
};

struct cache_costs {
    picodollars none, five, hour; /* of the prefix, for all of them */
};

/* Reckoned from the model's own prices (for one without, from their usual ratios).
 * `costs` may be NULL. Whether the model caches so few tokens is not asked here. */
enum cache_worth cache_worth(const struct model *m, const struct cache_outlook *o,
                             struct cache_costs *costs);

#endif

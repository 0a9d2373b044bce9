#ifndef STORE_H
#define STORE_H

#include "conf/catalog.h"
#include "jobs/job.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct store;

/*
 * What survives a crash: sources, jobs, attempts, answers, and what the results files
 * hold. The rules that it keeps:
 *
 *   - an attempt's row is on disk before its request leaves, so that after a crash every
 *     attempt that is still OUT may have been answered, and no other one is in doubt;
 *   - answer, usage, cost and the job's move are one transaction;
 *   - a job's row moves only from the state it is in.
 *
 * All changes are moves: a list of them is one transaction (store_apply). Moves are made
 * by one thread, and may be applied by another; nobody reads through the same handle
 * meanwhile. Other processes read beside it and see what is committed. Moments are
 * wall-clock milliseconds.
 */
enum { DIGEST_BYTES = 16, STORE_NAME_MAX = 1024 };

enum attempt_state {
    ATTEMPT_OUT,        /* may be on the wire */
    ATTEMPT_ANSWERED,   /* ended, and its answer (or how it broke) is known */
    ATTEMPT_IN_DOUBT,   /* left the house, never known to be answered: may be billed */
    ATTEMPT_TAKEN_BACK, /* no byte of it left */
};

enum taken {
    TAKEN_NEW,
    TAKEN_KNOWN,
    TAKEN_CHANGED,   /* a new revision, queued */
    TAKEN_STAGED,    /* a new revision of a done job: waits for store_staged() */
    TAKEN_DUPLICATE, /* the name is another's: an invalid row of its own */
};

enum move_kind {
    MOVE_SOURCE,      /* a source is about to be read */
    MOVE_TAKE_IN,     /* one job of it */
    MOVE_SOURCE_END,  /* read to its end: jobs not seen in this scan are gone */
    MOVE_SOURCE_GONE, /* no longer there */
    MOVE_REVISE,      /* staged revisions become the jobs */
    MOVE_UNSTAGE, /* staged revisions are dropped, their sources read again next time */
    MOVE_LANE,    /* a waiting job belongs to another lane */
    MOVE_UNROUTE, /* every waiting job is to be routed anew */
    MOVE_ADMIT,
    MOVE_SETTLE,
    MOVE_CHECKED, /* a program has judged the answer that SETTLE (to IN_FLIGHT) stored */
    MOVE_LEARNED,     /* `name`: what was learned, as `at.message` */
    MOVE_FORGET,      /* all of that */
    MOVE_GRADED,      /* a person's label of `job` was learned from */
    MOVE_COUNT,       /* an attempt is charged to a job after the fact */
    MOVE_PARK_SOURCE, /* its waiting jobs are parked, at most `limit` of them */
    MOVE_RETRY,
    MOVE_CANCEL, /* at most `limit` (0: all); `count`: the request that is answered with the last */
    MOVE_ANSWERED_REQUEST, /* a request of another command was carried out */
    MOVE_DOUBT_OVER,       /* `attempt` is in doubt no more: it cost what it reported */
    MOVE_RESULTS,          /* results up to a sequence number are on disk */
    MOVE_RESULT_FILE,      /* one results file's durable length */
    MOVE_RUN_BEGIN,
    MOVE_RUN_TOTALS,
    MOVE_RUN_END,
    MOVE_META,
    MOVE_PAUSE, /* `text`: since when, and the queue is not run; NULL: it is again */
    MOVE_PRUNE, /* of the jobs from number `job` on: what came to rest before `now`, see
                   store.keep; out: `job`: the number to go on with, 0: that was all */
    MOVE_HISTORY, /* limits, a hold, a halt of `run`; said again, it is corrected */
};

/* What a run is remembered by, beside its attempts. The store has the numbers: new ones go
 * to the end. */
enum history_kind {
    HISTORY_LIMITS,   /* of a lane, from `at` on */
    HISTORY_HOLD,     /* a lane was told to wait */
    HISTORY_TRIP,     /* a lane failed several times in a row: one probe at a time */
    HISTORY_CLOSED,   /* a lane's model was refused */
    HISTORY_ACCOUNT,  /* all lanes wait: a plan's limit, or credit */
    HISTORY_ENDPOINT, /* all lanes: nothing could be reached */
    HISTORY_HALT,     /* the run stopped */
};

/* Rows a run, kind and lane; beyond that neighbours are merged, the newest row never. */
enum { STORE_HISTORY_MAX = 720 };

/*
 * One change. Zeroed and filled by its maker; strings are borrowed until the list is
 * applied. Fields marked `out` are filled by store_apply().
 */
struct move {
    enum move_kind kind;
    struct move *next;
    void *owner; /* the maker's, untouched */

    int64_t job, source, attempt, run;
    enum job_state from, to;
    enum job_outcome outcome;
    int64_t now, ready_at, ready_span, started; /* started: SETTLE: when it left */
    int64_t count, limit, seq;
    const char *name; /* job's or source's path; lane; key of meta */
    const char *text; /* stamp, sentence, value of meta, why, reason */
    const char *type; /* error type */

    /* TAKE_IN */
    struct {
        const struct job_spec *spec; /* NULL: invalid, `text` says why */
        const char *lane, *custom_id, *path;
        unsigned char digest[DIGEST_BYTES];
        int64_t line, scan;
        int64_t turn;   /* among the jobs of its lane and priority */
        bool by_digest; /* the name is made of the digest: twins are jobs as well */
        const char *other_name; /* for a duplicate: its own name */
        enum taken taken;       /* out */
    } in;

    /* ADMIT, SETTLE */
    struct {
        const char *lane, *tier, *model, *request_id;
        enum attempt_state state;
        int verdict;
        long status;
        bool has_usage;
        struct usage usage;
        picodollars cost, worst;
        const char *message; /* the answer to keep; NULL: none */
        size_t message_len;
        int attempts, silent; /* the job's counts from now on */
        int64_t raised;       /* SETTLE: max_tokens from now on; 0: the job's own */
        /* SETTLE, CHECKED: the tier whose answer did not pass, where the job climbs to
         * another (then `name` is its lane); NULL: it does not climb */
        const char *climb;
        bool keep_body; /* of a done job: a person may grade it, and it teaches then */
    } at;
    struct { /* HISTORY: `name` is the lane ("": all), `text` what was said */
        enum history_kind kind;
        const char *word;  /* of a halt: why, in one */
        int64_t at, until; /* until 0: not over, as far as is known */
        int64_t rpm, itpm, otpm;
    } history;
    bool gone;             /* SOURCE_END: nothing missing may be called gone if false */
    int64_t changed;       /* out: rows */
    int64_t inode, length; /* length: of a file; SETTLE: of the job's body */
};

struct moves {
    struct move *first, **last;
    size_t count;
    struct move *spare; /* to be used again */
    size_t spare_count;
};

enum { MOVES_SPARE_MAX = 1024 }; /* half a MiB; a list has some hundreds */

void moves_init(struct moves *m);
struct move *moves_add(struct moves *m, enum move_kind kind); /* NULL: no memory */
void moves_clear(struct moves *m); /* empty again; keeps its memory, up to a ceiling */
void moves_free(struct moves *m);  /* the moves, not what they borrow */

enum store_use {
    STORE_RUN, /* read and write: the holder of the queue's lock */
    STORE_ASK, /* read, and leave requests for the runner */
    STORE_TRY, /* as STORE_RUN, of what store_copy() made: results come without their long
                  answers, which were not copied */
};

/* Once, before anything is opened: SQLite keeps no books of its memory, which would take a
 * lock for each piece. */
void store_set_up(void);

/* Opens DIR/queue.db, and the long answers beside it (made if they are not there and
 * `use` is STORE_RUN). */
struct store *store_open(const char *dir, enum store_use use, bool sync, struct err *e);
void store_close(struct store *st); /* NULL is fine */

/* The store of DIR as it stands, but for its long answers, copied into TO (which has none
 * yet), to try out there what a run would do. Beside a runner that is at work. */
int store_copy(const char *dir, const char *to, struct err *e);

/* One transaction: all of it, or nothing and -1. Any thread, one at a time. With
 * `*full` the disk had no room. */
int store_apply(struct store *st, struct moves *m, bool *full, struct err *e);

/* Close a run's work: everything back into the database's one file. */
void store_checkpoint(struct store *st);

/* --- reading: never while a list is being applied through the same handle --- */

struct store_source {
    int64_t id;
    const char *path, *stamp, *refs, *parked; /* lent for the call */
    bool bulk, whole, gone;
};

/* 1 found, 0 not, -1 error. */
int store_source(struct store *st, const char *path, struct store_source *ret,
                 struct err *e);
typedef int store_source_fn(void *arg, const struct store_source *s);
int store_each_source(struct store *st, store_source_fn *fn, void *arg, struct err *e);

/* A job as the ready window and the results want it. Strings are lent for the call. */
struct store_job {
    int64_t id, source, revision, line, priority, max_tokens, bytes, ready_at, seq;
    int64_t finished_at, first_started, sendings;
    picodollars cost;     /* of all its attempts so far */
    picodollars max_cost; /* that it may cost at worst, in its own words; 0: none */
    int64_t raised;       /* max_tokens in place of its own; 0: it was not raised */
    int64_t rests; /* how often it came to rest: above 1, it has an earlier result */
    enum job_state state;
    enum job_outcome outcome;
    unsigned asks;
    int attempts, silent;
    bool gone, bulk;
    const char *name, *custom_id, *lane, *tier, *model, *effort, *tags, *says, *type;
    const char *path; /* of its source */
    const char *check, *route, *climb;
    const char *body; /* store_ready() alone */
    size_t body_len;
};

typedef int store_job_fn(void *arg, const struct store_job *j); /* not 0: stop */

/* Waiting jobs of a lane, best first; `lane` NULL: those not routed yet. Rows for which
 * `skip` says true are passed over without reading their body. */
typedef bool store_skip_fn(void *arg, int64_t id);
int store_ready(struct store *st, const char *lane, size_t limit, store_skip_fn *skip,
                store_job_fn *fn, void *arg, struct err *e);

/* Jobs whose rest is over at `now`; `*next` is when the next one's is (0: none). */
int store_rested(struct store *st, int64_t now, size_t limit, store_skip_fn *skip,
                 store_job_fn *fn, void *arg, int64_t *next, struct err *e);

/* Lanes that have waiting jobs. */
typedef int store_name_fn(void *arg, const char *name);
int store_lanes(struct store *st, store_name_fn *fn, void *arg, struct err *e);

/* How many jobs wait for each lane; those that rest are not among them. */
typedef int store_waiting_fn(void *arg, const char *lane, int64_t jobs);
int store_waiting(struct store *st, store_waiting_fn *fn, void *arg, struct err *e);

/* Attempts that a dead run left out. */
struct store_attempt {
    int64_t id, job, revision, no, run, started_at, ended_at;
    enum attempt_state state;
    int verdict;
    long status;
    const char *lane, *tier, *model, *why, *request_id, *says;
    bool has_usage;
    struct usage usage;
    picodollars cost, worst;
};
typedef int store_attempt_fn(void *arg, const struct store_attempt *a,
                             const struct store_job *j);
int store_each_out(struct store *st, store_attempt_fn *fn, void *arg, struct err *e);

/* All attempts of a run, without their answers, in the order they left. */
typedef int store_sent_fn(void *arg, const struct store_attempt *a);
int store_each_attempt(struct store *st, int64_t run, store_sent_fn *fn, void *arg,
                       struct err *e);

/* All attempts of one job, in the order they left. Looks at every attempt there is. */
int store_each_attempt_of(struct store *st, int64_t job, store_sent_fn *fn, void *arg,
                          struct err *e);

/* Finished and parked jobs that came to rest behind `seq`, in the order they were taken
 * in; with `source` not 0 only its. The last attempt and the kept answer come with
 * each. */
struct store_result {
    struct store_job job;
    struct store_attempt last; /* id 0: never sent */
    const char *message;       /* NULL: none */
    size_t message_len;
    bool lost; /* it was stored, and cannot be read any more: job.says and .type tell */
};
typedef int store_result_fn(void *arg, const struct store_result *r);
int store_each_result(struct store *st, int64_t seq, int64_t source,
                      store_result_fn *fn, void *arg, struct err *e);

/* The one of this job, if it is at rest. */
int store_result_of(struct store *st, int64_t job, store_result_fn *fn, void *arg,
                    struct err *e);

/* The numbers of jobs at rest, in the order in which they came to it. Sorted by SQLite,
 * which goes to a file of its own where they are many. */
typedef int store_number_fn(void *arg, int64_t job);
int store_each_finished(struct store *st, store_number_fn *fn, void *arg,
                        struct err *e);

/* Those whose answer is stored, and not judged yet. */
int store_each_checking(struct store *st, store_result_fn *fn, void *arg,
                        struct err *e);

/* Labels that nothing was learned from yet: the job with its body (NULL where that is
 * gone), and the tier of its last attempt. */
typedef int store_grade_fn(void *arg, const struct store_job *j, const char *tier,
                           bool fine);
int store_each_grade(struct store *st, size_t limit, store_grade_fn *fn, void *arg,
                     struct err *e);
/* Beside a runner that is at work. A later label takes the place of an earlier one. */
int store_grade(struct store *st, int64_t job, bool fine, int64_t now, struct err *e);

/* Not called where there is nothing of that name. */
typedef void store_learned_fn(void *arg, const void *what, size_t len);
int store_learned(struct store *st, const char *key, store_learned_fn *fn, void *arg,
                  struct err *e);

/* The results files that are known: */
struct store_file {
    int64_t source, inode, length;
};
int store_file(struct store *st, int64_t source, struct store_file *ret, struct err *e);

/* Runs that never told their end: they died, or this one has not yet. */
struct store_run {
    int64_t id, started_at;
    picodollars spent;
    /* filled by store_each_run() alone: */
    int64_t ended_at; /* 0: not told; of one that died: when the next began */
    int64_t first_attempt, tokens_in, tokens_out;
    const char *reason; /* what stopped it; "" */
};
typedef int store_run_fn(void *arg, const struct store_run *run);
int store_each_open_run(struct store *st, store_run_fn *fn, void *arg, struct err *e);

/* All runs, the newest first; strings are lent for the call. */
int store_each_run(struct store *st, store_run_fn *fn, void *arg, struct err *e);

/* The run that sent last; 0: nothing was ever sent. */
int store_run_sent(struct store *st, int64_t *run_number, struct err *e);

/* When the first attempt of a run left, and when the last of them was heard of; 0: it sent
 * nothing. Looks at all of them. */
int store_run_span(struct store *st, int64_t run_number, int64_t *first, int64_t *last,
                   struct err *e);

/* Its first attempt that left at `since` or later; INT64_MAX: there is none. */
int store_run_since(struct store *st, int64_t run_number, int64_t since,
                    int64_t *attempt, struct err *e);

/* Its attempts from `first` on in the order they left, each with its job. `at_rest`: the job has come to
 * rest, and with this attempt. */
typedef int store_run_sent_fn(void *arg, const struct store_attempt *a,
                              const struct store_job *j, bool at_rest);
int store_each_sent(struct store *st, int64_t run_number, int64_t first,
                    store_run_sent_fn *fn, void *arg, struct err *e);

/* Jobs at rest since before that attempt left, without their answers: what was known. */
int store_each_before(struct store *st, int64_t attempt, store_result_fn *fn, void *arg,
                      struct err *e);

/* Failed and parked jobs whose files are there, in the order they were taken in. */
int store_each_failed(struct store *st, store_job_fn *fn, void *arg, struct err *e);

struct store_history {
    enum history_kind kind;
    const char *lane, *word, *says; /* lent for the call */
    int64_t at, until, held, times; /* held: ms within, of so many as were merged */
    int64_t rpm, itpm, otpm;
};
/* Of a run; of one kind and lane in the order of time. */
typedef int store_history_fn(void *arg, const struct store_history *h);
int store_each_history(struct store *st, int64_t run_number, store_history_fn *fn,
                       void *arg, struct err *e);

struct store_totals {
    int64_t jobs[JOB_STATE_COUNT], gone, invalid, known;
    int64_t doubt;
    picodollars spent, doubt_low, doubt_high;
    int64_t tokens_in, tokens_out, next_attempt, next_run, next_source, results_seq;
    int64_t last_turn;
    int64_t staged;    /* done jobs whose new revision waits for consent */
    int64_t revisions; /* all that wait, of jobs in any state */
};
int store_totals(struct store *st, struct store_totals *ret, struct err *e);

/*
 * The ledger: every attempt's tokens and cost, summed up by one property of it. `key` is
 * lent; for tags it is the job's whole list. In doubt apart, as a range.
 */
enum store_by { BY_DAY, BY_MODEL, BY_TIER, BY_LANE, BY_TAG, BY_RUN, BY_COUNT };
struct store_entry {
    const char *key;
    int64_t attempts, done; /* done: with an answer that its job was done with */
    struct usage usage;
    picodollars cost;
    int64_t doubt;
    picodollars doubt_low, doubt_high;
};
typedef int store_entry_fn(void *arg, const struct store_entry *x);
int store_ledger(struct store *st, enum store_by by, store_entry_fn *fn, void *arg,
                 struct err *e);

/* Attempts in doubt, with their jobs. */
int store_each_doubt(struct store *st, store_attempt_fn *fn, void *arg, struct err *e);

/* Open requests of other commands, oldest first. */
struct store_request {
    int64_t id;
    const char *verb, *job; /* job NULL: all it can mean */
};
typedef int store_request_fn(void *arg, const struct store_request *r);
int store_each_request(struct store *st, store_request_fn *fn, void *arg,
                       struct err *e);
int store_ask(struct store *st, const char *verb, const char *job, int64_t now,
              struct err *e);

/* 1 and the job (lent until the next call), 0, -1. */
int store_find(struct store *st, const char *name, struct store_job *ret,
               struct err *e);
typedef int store_line_fn(void *arg, const struct store_job *j);
/* Jobs in a state, newest at rest first. */
int store_each_in(struct store *st, enum job_state state, size_t limit,
                  store_line_fn *fn, void *arg, struct err *e);

/* Copied into `buf`; "" if never set. */
int store_meta(struct store *st, const char *key, char *buf, size_t size,
               struct err *e);

/* Clip stored moments to their spans: clocks jump. Once, at a run's start. */
int store_clip(struct store *st, int64_t now, struct err *e);

#endif

#ifndef MACHINE_H
#define MACHINE_H

/*
 * What the files of the runner share with each other, and nobody else: the state of the
 * machine. runner.c has the loop and the tick, admit.c what may start, ended.c what
 * endings mean.
 */
#include "conf/conf.h"
#include "jobs/account.h"
#include "jobs/intake.h"
#include "jobs/queue.h"
#include "jobs/results.h"
#include "jobs/store.h"
#include "runner/bill.h"
#include "runner/budget.h"
#include "runner/ending.h"
#include "runner/err.h"
#include "runner/lane.h"
#include "runner/live.h"
#include "runner/runner.h"
#include "runner/sender.h"
#include "runner/settle.h"
#include "runner/shared.h"
#include "runner/tell.h"
#include "runner/watch.h"

#include <uv.h>

enum {
    ENDPOINT_TRIP = 3, /* endings without answer in a row, of different jobs */
    ENDPOINT_LOOK_MS = 200,
    PACE_TOLD_MS = 2000, /* so long must another bucket bind to be worth a word */
    BRAKE_FREE = 5,      /* like failures in a row before a proven source slows */
    PARK_AT_ONCE = 2000, /* rows a commit */
    REROUTE_AT_ONCE = 500,
    AFFORDABLE_AT_ONCE = 64,
    READY_BYTES_MAX = 64 << 20, /* of bodies that wait in memory */
    READY_MAX = 8192,           /* jobs in memory, whatever the lanes want */
    SYNC_EVERY_MS = 2000,       /* results are made durable */
    SICK_RETRY_MS = 500,        /* between tries to store what could not be stored */
    SUSPECTS_MAX = 256,
    RESETS_MAX = 64,
    CANCEL_AT_ONCE = 2000,
    PRUNE_EVERY_MS = 3600000,
    REVISE_EVERY_MS = 1000, /* watch: while something is out at all times */
    CHANGED_FREE = 10,      /* watch: so many changed jobs at once need no consent */
    MONEY_LOOK_MS = 300000, /* watch: a ceiling that is reached is looked at again */
    CHECKING_MAX = 512, /* answers that wait for their programs: then nothing is sent */
    UNTIL_MARGIN_MAX = 600000, /* ms before its time at which a run stops sending */
    DISK_MARGIN = 4 << 20,
    DISK_LOOK_MS = 500,
};

/* The first guess; what answers count corrects it, kind by kind. */
#define BYTES_PER_TOKEN 3.5

enum phase { PHASE_RUNNING, PHASE_ENDING, PHASE_OVER };

/* A bulk source's record in this run: the brake on mass failure. */
struct brake {
    struct brake *next;
    int64_t source;
    int in_flight, streak;
    bool proven; /* something of it was accepted in this run */
    bool parking, parked, used;
    enum job_outcome outcome;
    char type[48], says[200];
    char path[];
};

/* Where jobs wait that a ceiling keeps: no lane of this name is ever worked. */
#define LANE_UNRECKONED "(cost not known)"

/* Of what waits, behind the head that does not fit under a ceiling. */
enum affordable { AFFORDABLE_NONE, AFFORDABLE_HELD, AFFORDABLE_READY };

/* What the requests of this run that left on one day come to. */
struct money_day {
    struct money_day *next;
    char day[BILL_DAY_MAX]; /* YYYY-MM-DD */
    struct budget_lease x;
    bool told; /* the account store says what it says */
};

/* A job that may be to blame: charged when others get through where it did not. */
struct suspect {
    int64_t job, revision, at;
    int attempts, silent;
    bool bare;         /* it ended without any answer */
    struct lane *lane; /* NULL: the endpoint */
};

struct history;

struct runner {
    const struct runner_opts *o;
    const struct conf *conf;
    struct tell *tell;

    uv_loop_t loop;
    uv_timer_t wake, beat;
    uv_signal_t sigint, sigterm, sighup;
    int64_t mono0, wall0;
    uint64_t random;

    struct sender *sender;
    struct intake *intake; /* NULL: over */
    bool intake_waits, intake_ended, intake_lost, gate_open, walked, consented;
    struct lane *lanes;
    struct lane *locked;     /* whose shared buckets are ours at the moment */
    struct breaker endpoint; /* as it stands for all runners of the machine */
    struct share *endpoint_share;
    bool endpoint_probe; /* the right to probe it is ours */
    char endpoint_says[200];
    int64_t
        resets[RESETS_MAX]; /* jobs that ended without any answer since the last one */
    int resets_len;
    int64_t last_reset; /* the job whose sending ended last without any answer */
    struct brake *brakes;
    struct suspect suspects[SUSPECTS_MAX];
    int suspects_len;

    struct live_table table;
    struct live *noted, **noted_last;
    struct live *headed, **headed_last; /* headers came; not told to the buckets yet */
    int out;                            /* admitted, out or noted: not settled yet */
    int64_t out_bytes;                  /* what these may need on disk at worst */

    struct moves moves;
    uv_work_t commit_work;
    bool committing, commit_full, reserve_gone;
    int commit_rc;
    struct err commit_err;

    struct results *results;
    struct live *finished, **finished_last; /* results to be written */
    struct live *writing_list;
    uv_work_t write_work;
    bool writing, write_sync, sync_due, unsynced, final_sync, rebuilt;
    int write_rc;
    struct err write_err;
    struct moves write_moves; /* what a sync told: into the next commit */
    int64_t synced_at;

    struct watch *watch;            /* NULL: the run ends when nothing can move */
    bool live;                      /* watch: the first scan is over */
    bool paused;                    /* on request */
    bool closed;                    /* outside of the window's hours, or soon */
    bool hours_over;                /* told that it is outside of them */
    int64_t closed_until, hours_at; /* wall; hours_at: looked at again */
    bool consent_missing, accepted; /* watch: changed jobs wait for a person; may go */
    bool money_told;
    int64_t count_at; /* monotonic: jobs on disk are counted again, for people */
    int64_t revise_at, prune_at; /* monotonic */
    int64_t prune_from;          /* a job's number; 0: no pruning is under way */

    struct quality *quality;
    struct history *history;      /* NULL: nothing to tell yet */
    struct notify *notify;        /* NULL: no URL */
    int checking, checks_running; /* answers with programs; programs */
    bool checks_over;

    enum phase phase;
    enum stop stop;
    char stop_says[ACCOUNT_SAYS_MAX];
    int64_t stop_until, drain_at; /* wall; monotonic */
    int signals, beats;
    bool beat_due, second_due, requests_left, unrouted;
    bool again; /* this tick knows that there is more to do at once */
    bool close; /* the loop has been told to stop */
    char waits[320], request_job[STORE_NAME_MAX];

    char fingerprint[64], account[ACCOUNT_NAME_MAX];
    bool account_learned, account_untold,
        probing;          /* probing: a halt is on record, one request goes */
    int64_t account_hold; /* monotonic: a plan's limit, or credit that is waited for */
    int64_t credit_wait;  /* ms; 0: there is credit, as far as is known */
    char account_why[LANE_WHY_MAX];

    bool results_failed; /* results could not be written; the store has them */
    int64_t sick_since;
    bool probe_looked; /* the right to probe is ours, and the account was looked at */
    bool sick;         /* the store did not take the last commit */
    int64_t answer_at; /* when the last answer came */
    int64_t sick_at;   /* when to try again */
    bool disk_short;
    int64_t disk_looked_at, disk_left, disk_since;
    char disk_says[160];

    struct budget run_money;
    struct money_day *days;
    bool money_short;    /* a ceiling leaves no room for what was tried */
    bool money_searched; /* nor for anything that waits on disk */
    picodollars money_left, money_wants; /* then: what is left; the least asked for */
    int64_t money_looked_at;
    int64_t unreckoned; /* jobs set aside in this run */

    int64_t run, first_attempt, next_attempt,
        next_rest; /* next_rest: wall ms; 0: none */
    int64_t admitted, staged;
    int64_t turn; /* where the turns of this run's jobs begin, in a lane */
    picodollars spent_before;
    struct tally tally;
    int lost; /* answers that could not be stored */
};

/* runner.c */
int64_t runner_mono(const struct runner *r);
int64_t runner_wall(const struct runner *r);
int64_t runner_elapsed(const struct runner *r); /* ms since the run began */
uint64_t runner_random(struct runner *r);
void runner_poke(struct runner *r);
struct lane *runner_lane(struct runner *r, const char *name);
struct brake *runner_brake(struct runner *r, const struct store_job *j);
void runner_finished(struct runner *r,
                     struct live *l); /* its result is to be written */
void runner_begin_stop(struct runner *r, enum stop why, const char *says,
                       int64_t until);

/* admit.c */
void ready_push(struct live *l, bool front);
void ready_remove(struct live *l);
void admit_fill(struct runner *r, struct moves *m); /* from disk, into ready windows */
void admit_some(struct runner *r, struct moves *m);
void admit_start(struct runner *r, struct live *l, const struct move *v);
void admit_undo(struct runner *r, struct live *l);
bool admit_waiting(struct runner *r, int64_t *ask_at, char *says, size_t size);
enum affordable admit_search(struct runner *r); /* does anything that waits fit? */
uint64_t admit_rung(const struct routed *to);   /* model and effort, as a hash */
int admit_reroute(struct runner *r, struct moves *m);

struct route_job admit_asked(const struct store_job *j);

/* quality.c */
int quality_open(struct runner *r, struct err *e); /* checks that cannot be: an error */
int quality_take_up(struct runner *r, struct err *e); /* answers not judged yet */
void quality_close(struct runner *r);
int quality_words(struct runner *r, const char *words, struct err *e); /* a job's own */
void quality_judge(struct runner *r, struct live *l);  /* fills l->checked */
bool quality_climbs(struct runner *r, struct live *l); /* if it did not pass */
void quality_begin(struct runner *r, struct live *l);  /* its programs, later */
void quality_stop(struct runner *r);
void quality_settle(struct runner *r, struct moves *m);
void quality_settled(struct runner *r, struct live *l);
bool quality_view(struct runner *r, const struct store_job *j, struct learn_view *ret);
void quality_learn(struct runner *r, struct live *l, bool right);
void quality_grades(struct runner *r, struct moves *m);
bool quality_grades_left(const struct runner *r);
void quality_forget(struct runner *r);
void quality_save(struct runner *r, struct moves *m, bool last);

/* notify.c */
void notify_begin(struct runner *r);
void notify_end(struct runner *r, int code);
void notify_meanwhile(struct runner *r); /* the file for Prometheus, while it lasts */

/* money.c */
bool money_ceilings(const struct runner *r);
bool money_worst(const struct runner *r, const struct live *l, picodollars *worst);
bool money_allows(struct runner *r, struct live *l); /* within every ceiling? */
void money_taken(struct runner *r, struct live *l);  /* its worst case is reserved */
void money_undone(struct runner *r, struct live *l); /* it never left */
void money_settled(struct runner *r, struct live *l, const struct move *v);
void money_look(struct runner *r);                           /* now and then */
bool money_stops(struct runner *r, char *says, size_t size); /* a ceiling is reached */
void money_bill_own(struct runner *r);                       /* at its end */
void money_renamed(struct runner *r); /* what was leased was of another account */
void money_close(struct runner *r);

/* history.c */
void history_look(struct runner *r,
                  struct moves *m);    /* what is new since the last time */
void history_untold(struct runner *r); /* the list that told it was not written */
void history_free(struct history *h);  /* NULL is fine */

/* show.c */
void show_run(struct runner *r, bool last); /* the view, where there is one */

/* beside.c */
void beside_tell(struct runner *r, const struct store_totals *t);

/* shared.c */
int shared_open(struct runner *r, struct err *e);
void shared_close(struct runner *r);
void shared_look(struct runner *r); /* now and then: what did the others do? */
bool shared_endpoint_probe(struct runner *r); /* the right to send the one probe */
void shared_endpoint_unused(struct runner *r);
bool shared_endpoint_bad(struct runner *r, bool probe); /* true: this tripped it */
void shared_endpoint_good(struct runner *r, bool probe);

struct buckets *shared_buckets(struct runner *r, struct lane *l); /* locks */
int shared_slot(const struct lane *l); /* ours, of its buckets */
void shared_done(struct runner *r);    /* unlocks */
void shared_hold(struct runner *r, struct lane *l);
void shared_renamed(struct runner *r); /* the account has another name now */

/* ended.c */
extern const struct sender_told ended_told;
void ended_headers(struct runner *r); /* those that came -> the buckets */
void ended_settle(struct runner *r, struct moves *m);       /* noted endings -> moves */
void ended_settled(struct runner *r, const struct move *v); /* after the commit */
void ended_checked(struct runner *r, struct live *l,
                   struct move *v); /* judged -> move */
void ended_check_settled(struct runner *r, const struct move *v);
void ended_cancel(struct runner *r, struct live *l); /* one that is out */
void ended_cancel_all(struct runner *r, bool only_unsent);
void ended_drop_source(struct runner *r, int64_t source);

#endif

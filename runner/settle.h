#ifndef SETTLE_H
#define SETTLE_H

#include "conf/conf.h"
#include "jobs/job.h"
#include "jobs/store.h"
#include "runner/verdict.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * What an ending means for its job: where it goes, what it is charged with, and what
 * becomes of the attempt. Pure.
 */
enum {
    SETTLE_SILENT_MAX = 3
}; /* sendings without any answer before a person is asked */

/* What a check said of an answer. LATER: a program will, the answer is stored first. */
enum checked { CHECKED_NOT, CHECKED_PASS, CHECKED_FAIL, CHECKED_LATER };

struct settle_about {
    const struct judgement *judged;
    int attempts, silent, attempts_max; /* before this ending */
    bool no_answer;                     /* bytes left, and nothing whole came back */
    bool tripped; /* the lane or the endpoint is failing for everybody */
    bool lonely;  /* no other job is left to be tried in its place */
    bool again;   /* the very job that ended like this last, with none between */
    bool alone;   /* the only request of a lane whose buckets the headers show full */
    uint64_t random;
    enum on_truncation on_truncation;
    int64_t max_tokens, raise_to; /* in force; once more with these; 0: not again */
    enum checked checked;
    bool must_pass; /* there is a check: truncated and refused have failed it */
    bool climbs;    /* a rung above is left for an answer that does not pass */
};

struct settled {
    enum job_state to;
    enum job_outcome outcome;
    enum attempt_state attempt;
    int attempts, silent;
    int64_t rest_ms; /* QUEUED: before it may go again */
    int64_t raised;  /* QUEUED: with so many max_tokens; 0: as it is */
    bool keep;       /* the message is worth keeping */
    bool suspect;    /* charged only if others now get through */
    bool climb;      /* QUEUED: on the rung above */
};

struct settled settle_decide(const struct settle_about *a);

/* A program has judged a stored answer; `checked` is PASS or FAIL. */
struct settled settle_checked(const struct settle_about *a);

/* A suspect is charged after all; `bare`: it had ended without any answer. */
struct settled settle_charge(int attempts, int silent, bool bare, int attempts_max);

#endif

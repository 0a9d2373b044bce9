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
};

struct settled settle_decide(const struct settle_about *a);

/* A suspect is charged after all; `bare`: it had ended without any answer. */
struct settled settle_charge(int attempts, int silent, bool bare, int attempts_max);

#endif

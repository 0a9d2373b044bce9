#ifndef JOB_H
#define JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The life of a job.
 *
 *            admit              settle
 *   QUEUED --------> IN_FLIGHT --------> DONE
 *     ^ ^  <--------     |
 *     | |  not its turn, +-------------> FAILED
 *     | |  or try later  |                 |  retry
 *     | |                +-------------> PARKED: a person is needed
 *     | +----------------------------------+
 *     +-- a new revision of its file, from any state at rest
 *
 * The state is a column of the job's row, and the store is the only code that changes
 * it; every change names the state it expects to leave, so a row moves only from where
 * it is.
 */
#define JOB_STATES(X)                                                          \
    X(QUEUED, "queued", TO(IN_FLIGHT) | TO(FAILED) | TO(PARKED))               \
    X(IN_FLIGHT, "in_flight", TO(QUEUED) | TO(DONE) | TO(FAILED) | TO(PARKED)) \
    X(DONE, "done", TO(QUEUED))                                                \
    X(FAILED, "failed", TO(QUEUED))                                            \
    X(PARKED, "parked", TO(QUEUED) | TO(FAILED))

enum job_state {
#define X(state, name, next) JOB_##state,
    JOB_STATES(X)
#undef X
        JOB_STATE_COUNT
};

const char *job_state_name(enum job_state s);
bool job_may_move(enum job_state from, enum job_state to);

/* How a job ended, as results and `status` name it. Fields are added, never renamed. */
#define JOB_OUTCOMES(X)                                                                \
    X(NONE, "")                                                                        \
    X(ACCEPTED, "accepted")                                                            \
    X(TRUNCATED, "truncated")     /* paid for and kept, but not the whole answer */    \
    X(REFUSED, "refused")         /* the model declined */                             \
    X(INVALID, "invalid")         /* could not be read as a job; never sent */         \
    X(BAD_REQUEST, "bad_request") /* the API refused it for what it says */            \
    X(EXHAUSTED, "exhausted")     /* every attempt was spent */                        \
    X(NO_ANSWER, "no_answer")     /* parked: sendings that ended without any answer */ \
    X(IN_DOUBT, "in_doubt")       /* parked: may have been answered when a run died */ \
    X(MASS_FAILURE, "mass_failure") /* parked with its source */                       \
    X(CANCELED, "canceled")                                                            \
    X(CHECK_FAILED, "check_failed") /* an answer that its check does not let pass */

enum job_outcome {
#define X(outcome, name) OUTCOME_##outcome,
    JOB_OUTCOMES(X)
#undef X
        OUTCOME_COUNT
};

const char *job_outcome_name(enum job_outcome o);

/* What a request asks for that bears on routing and on how it is sent. */
enum job_asks {
    ASKS_MAX_TOKENS = 1 << 0,    /* `max_tokens` is in the body */
    ASKS_STREAM = 1 << 1,        /* the job had "stream": true (it is taken out) */
    ASKS_THINKING = 1 << 2,      /* `thinking` is in the body */
    ASKS_TOOLS = 1 << 3,         /* `tools` */
    ASKS_OUTPUT_CONFIG = 1 << 4, /* `output_config` */
    ASKS_EFFORT = 1 << 5,        /* `output_config.effort` */
    ASKS_CACHE = 1 << 6,         /* `cache_control` at the top level */
    ASKS_SERVER_SIDE =
        1 << 7, /* mcp_servers, container, fallbacks: work we cannot bound */
    ASKS_UNBOUNDED = 1 << 8, /* files, URLs, PDFs, the server's tools: input that the
                                bytes do not bound */
    ASKS_NO_CACHE = 1 << 9,  /* `cache = off` */
    ASKS_IMAGES = 1 << 16,   /* from here on: how many images, up to ASKS_IMAGES_MAX */
};
enum { ASKS_IMAGES_MAX = 0x7fff };

/*
 * One request as its file says it. `body` holds the members of the Messages body as
 * they came, without braces, without `model` and `stream`: the sender completes it by
 * putting its own members in front. Whatever is NULL was not said. Everything is owned
 * by the spec.
 */
struct job_spec {
    char *custom_id; /* bulk lines */
    char *model;     /* a real id, or a tier's word, or "auto" */
    char *tier;
    char *effort;
    char *system_file;  /* as written; intake reads it, and calls job_spec_system() */
    char *tags;         /* words joined by commas, sorted, no blanks: "a,b" */
    char *check;        /* what its answer must pass, in the words of the file; intake
                           puts the text of `schema:FILE` in its place */
    char *route;        /* "tier", "cascade" or "learn" */
    int64_t priority;   /* higher goes first; 0 by default */
    int64_t max_tokens; /* 0: not said */
    int64_t max_cost;   /* picodollars that it may cost at worst; 0: not said */
    unsigned asks;
    char *body;
    size_t body_len;
};

void job_spec_free(struct job_spec *s); /* frees what it holds, not itself; zeroes it */

/* Put the text of the system file into the body as its `system`, without byte order
 * mark and final newlines. 0 or -1 (no memory, or not UTF-8: `LINE: ...`). */
struct err;
int job_spec_system(struct job_spec *s, const char *text, size_t len, struct err *e);

/* Put the members of a jansson object in front of the body. The object is given (NULL
 * counts as no memory). */
struct json_t;
int job_spec_members(struct job_spec *s, struct json_t *object, struct err *e);

/* Only UTF-8 without NUL can go into a request. 0, or the line (from 1) of the first
 * byte that cannot. */
size_t job_text_fault(const char *text, size_t len);

#endif

#ifndef PROBLEM_H
#define PROBLEM_H

#include "sim/fault.h"
#include "sim/reply.h"

#include <stdbool.h>

/* Refusals as the API words them. */

struct problem {
    int status;
    const char *type, *message;
    const char *error_code;   /* in details; NULL: no details */
    const char *should_retry; /* "true", "false", NULL: no such header */
    bool html;                /* made at the edge, not by the API */
};

#define PROBLEM_NO_CREDIT                                                             \
    "Your credit balance is too low to access the Anthropic API. Please go to Plans " \
    "& "                                                                              \
    "Billing to upgrade or purchase credits."

/* What a fault of that kind is answered with; NULL where it is no refusal. A message
 * with a %s in it takes the day of access. */
const struct problem *problem_of(enum fault_kind kind);

/* Status, type and body; the sentence in place of the problem's own unless NULL. */
void problem_write(const struct problem *p, const char *sentence,
                   const char *request_id, struct reply *r);

/* The same for refusals that are no table's row. */
void problem_say(int status, const char *type, const char *sentence,
                 const char *request_id, struct reply *r);

#endif

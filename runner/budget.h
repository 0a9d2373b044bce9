#ifndef BUDGET_H
#define BUDGET_H

#include "conf/catalog.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * What may be spent: the worst that a request can cost, and what a ceiling leaves room
 * for. Pure. Sums saturate, so that nothing absurd ever turns into room.
 */

/*
 * A token is at least a byte, so the bytes of the body bound its input, up to the
 * model's context; an image is worth at most so many tokens whatever its bytes, and
 * tools bring a hidden prompt (api.anthropic.com, vision and tool use pages).
 */
enum { BUDGET_IMAGE_TOKENS = 6000, BUDGET_TOOLS_TOKENS = 1000 };

struct budget_job {
    int64_t bytes, max_tokens; /* of the body; in force */
    unsigned asks;             /* enum job_asks */
    picodollars max_cost;      /* the job's own word; 0: none */
};

/* What it may cost at worst. False: that cannot be known (an unpriced model, work on the
 * server's side) and the job does not say; then `*ret` is what can be reckoned. */
bool budget_worst(const struct model *m, const struct budget_job *j, picodollars *ret);

/* a + b, at most INT64_MAX. */
picodollars budget_sum(picodollars a, picodollars b);

/* What a run, or an account on a day or in a month, has committed itself to. */
struct budget {
    picodollars ceiling; /* 0: none */
    picodollars spent, doubt, reserved;
};

/* What may still be committed; INT64_MAX without a ceiling; never negative. */
picodollars budget_room(const struct budget *b);

/*
 * Several runners share the ceilings of an account by leases: each has been granted a
 * total for the day that its own commitments stay within, and asks for more in steps,
 * since each asking is a transaction on disk.
 */
enum { BUDGET_DAY, BUDGET_MONTH, BUDGET_CEILINGS };

struct budget_lease {
    struct budget b;   /* of the day: without a ceiling of its own */
    picodollars lease; /* up to here we may commit ourselves */
    picodollars left;  /* when a larger one was refused: what was left */
};

/* Spent, in doubt and reserved. */
picodollars budget_committed(const struct budget *b);

/*
 * The lease for `more`, where the totals of others are `others`: a step of some dozen
 * such requests where there is plenty, just what is needed near a ceiling, -1 where
 * there is not enough. `l->left` is told either way.
 */
picodollars budget_grant(struct budget_lease *l, const picodollars ceilings[],
                         const picodollars others[], picodollars more);

#endif

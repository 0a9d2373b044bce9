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
 * Several runners share a ceiling by leases: each has been granted a total that its own
 * commitments stay within. `others` is the sum of the others' totals, `now` our own. The
 * new total: `want` where the ceiling has room for it, less where it has not, -1 where
 * it has not even for `need`. Never less than `now`.
 */
picodollars budget_lease(picodollars ceiling, picodollars others, picodollars now,
                         picodollars want, picodollars need);

#endif

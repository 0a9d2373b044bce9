#include "runner/budget.h"

#include "jobs/job.h"

#include <stddef.h>

picodollars budget_sum(picodollars a, picodollars b)
{
    picodollars sum;
    if (!__builtin_add_overflow(a, b, &sum))
        return sum;
    return a > 0 ? INT64_MAX : INT64_MIN;
}

bool budget_worst(const struct model *m, const struct budget_job *j, picodollars *ret)
{
    *ret = j->max_cost;
    if (m == NULL || !m->priced)
        return j->max_cost > 0;
    int64_t images = j->asks / ASKS_IMAGES;
    int64_t input = budget_sum(j->bytes, images * BUDGET_IMAGE_TOKENS);
    if (j->asks & ASKS_TOOLS)
        input = budget_sum(input, BUDGET_TOOLS_TOKENS);
    if (m->context > 0 && input > m->context)
        input = m->context; /* what is longer is refused, and costs nothing */
    /* A one-hour cache write is the dearest way to read a token. */
    picodollars worst = catalog_cost(
        m, &(struct usage){.cache_write_1h = input, .output = j->max_tokens});
    if (!(j->asks & (ASKS_SERVER_SIDE | ASKS_UNBOUNDED))) {
        *ret = worst;
        return true;
    }
    if (worst > j->max_cost)
        *ret = worst; /* the least that it may be */
    return j->max_cost > 0;
}

picodollars budget_room(const struct budget *b)
{
    if (b->ceiling == 0)
        return INT64_MAX;
    picodollars used = budget_sum(budget_sum(b->spent, b->doubt), b->reserved);
    return used >= b->ceiling ? 0 : b->ceiling - used;
}

picodollars budget_committed(const struct budget *b)
{
    return budget_sum(budget_sum(b->spent, b->doubt), b->reserved);
}

picodollars budget_grant(struct budget_lease *l, const picodollars ceilings[],
                         const picodollars others[], picodollars more)
{
    enum {
        STEP = 64
    }; /* requests a step; near a ceiling a quarter of the rest is one */
    picodollars now = budget_committed(&l->b), left = INT64_MAX;
    for (int i = 0; i < BUDGET_CEILINGS; i++) {
        if (ceilings[i] == 0)
            continue;
        picodollars used = budget_sum(others[i], now);
        picodollars one = used >= ceilings[i] ? 0 : ceilings[i] - used;
        left = one < left ? one : left;
    }
    l->left = left;
    if (more > left)
        return -1;
    picodollars step = more > INT64_MAX / STEP ? INT64_MAX : more * STEP;
    if (left < INT64_MAX && step > left / 4)
        step = left / 4 > more ? left / 4 : more;
    picodollars lease = budget_sum(now, step);
    return lease > l->lease ? lease : l->lease;
}

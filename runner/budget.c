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

picodollars budget_lease(picodollars ceiling, picodollars others, picodollars now,
                         picodollars want, picodollars need)
{
    if (want < need)
        want = need;
    if (want < now)
        want = now;
    if (ceiling == 0)
        return want;
    picodollars left = others >= ceiling ? 0 : ceiling - others;
    if (want <= left)
        return want;
    if (need <= left)
        return left > now ? left : now;
    return -1;
}

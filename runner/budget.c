#include "runner/budget.h"

#include <stddef.h>

picodollars budget_worst(const struct model *m, int64_t body_bytes, int64_t max_tokens)
{
    if (m == NULL || !m->priced)
        return 0;
    /* A one-hour cache write is the dearest way to read a token. */
    return catalog_cost(
        m, &(struct usage){.cache_write_1h = body_bytes, .output = max_tokens});
}

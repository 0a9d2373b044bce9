#include "runner/outlook.h"

#include <string.h>

struct route_job outlook_asked(const struct store_job *j)
{
    return (struct route_job){.name = j->name,
                              .tier = j->tier,
                              .model = j->model,
                              .effort = j->effort,
                              .tags = j->tags,
                              .check = j->check,
                              .route = j->route,
                              .climb = j->climb,
                              .says = j->says,
                              .asks = j->asks,
                              .bytes = j->bytes,
                              .max_tokens = j->max_tokens};
}

struct forecast_job outlook_job(const struct catalog *catalog,
                                const struct store_job *j, const struct routed *to,
                                const char *model)
{
    const char *where = j->bulk ? j->path : j->name;
    const char *slash = strrchr(where, '/');
    return (struct forecast_job){.model = catalog_find(catalog, model),
                                 .model_id = model,
                                 .effort = to->effort,
                                 .where = where,
                                 .where_len = j->bulk ? strlen(where)
                                              : slash ? (size_t)(slash - where)
                                                      : 0,
                                 .bytes = j->bytes,
                                 .max_tokens = j->max_tokens ? j->max_tokens
                                                             : to->max_tokens,
                                 .asks = j->asks};
}

bool outlook_answer(const struct store_result *r, struct forecast_answer *ret)
{
    const struct store_attempt *a = &r->last;
    bool refused = !a->has_usage && (r->job.outcome == OUTCOME_BAD_REQUEST ||
                                     r->job.outcome == OUTCOME_REFUSED);
    if (a->id == 0 || a->model == NULL || (!a->has_usage && !refused))
        return false;
    *ret = (struct forecast_answer){.usage = a->usage, .paid = 1};
    if (a->ended_at > a->started_at)
        ret->took_ms = a->ended_at - a->started_at;
    if (r->job.rests <= 1 && r->job.revision == 1 && a->cost > 0)
        ret->paid = (double)r->job.cost / (double)a->cost;
    return true;
}

#include "runner/outlook.h"

#include <math.h>
#include <stdio.h>
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

int outlook_learn(struct forecast *f, const struct conf *conf,
                  const struct catalog *catalog, const struct store_result *r)
{
    struct route_job asked = outlook_asked(&r->job);
    struct forecast_answer answer;
    struct routed to;
    if (!outlook_answer(r, &answer) ||
        route_decide(conf, catalog, &asked, &to, NULL) < 0)
        return 1;
    struct forecast_job j = outlook_job(catalog, &r->job, &to, r->last.model);
    return forecast_learn(f, &j, &answer);
}

int outlook_add(struct forecast *f, const struct conf *conf,
                const struct catalog *catalog, const struct store_attempt *a,
                const struct store_job *j)
{
    struct route_job asked = outlook_asked(j);
    struct routed to;
    if (a->model == NULL || route_decide(conf, catalog, &asked, &to, NULL) < 0)
        return 1;
    struct forecast_job x = outlook_job(catalog, j, &to, a->model);
    return forecast_add(f, &x, 0, 1, 0);
}

const char *outlook_usd(picodollars amount, bool up, char *buf, size_t size)
{
    double x = (double)amount / (double)PICODOLLARS_PER_DOLLAR;
    int places = x >= 100 ? 0 : x >= 1 || x <= 0 ? 2 : 1 - (int)floor(log10(x));
    double unit = pow(10, places < 9 ? places : 9);
    x = (up ? ceil(x * unit - 1e-9) : floor(x * unit + 1e-9)) / unit;
    snprintf(buf, size, "$%.*f", places < 9 ? places : 9, x);
    return buf;
}

#ifndef OUTLOOK_H
#define OUTLOOK_H

#include "jobs/store.h"
#include "runner/forecast.h"
#include "runner/route.h"

#include <stdbool.h>

struct conf;

/* The store's rows in the words of forecast.h: for `plan`, and for the report and a run's
 * last words, which look back. Pure; what is returned borrows from the arguments. */
struct route_job outlook_asked(const struct store_job *j);

/* A job that is sent, or was, with that model. */
struct forecast_job outlook_job(const struct catalog *catalog,
                                const struct store_job *j, const struct routed *to,
                                const char *model);

/* For those who look back: what a job at rest teaches, and one that a run brought to rest
 * with this attempt, as it would have been forecast. -1: no memory; 1: left out, no tier
 * of today's settings leads to it. */
int outlook_learn(struct forecast *f, const struct conf *conf,
                  const struct catalog *catalog, const struct store_result *r);
int outlook_add(struct forecast *f, const struct conf *conf,
                const struct catalog *catalog, const struct store_attempt *a,
                const struct store_job *j);

/* Two digits that count below a dollar, else cents; down for a lower end, up for an
 * upper one, so that what is shown holds what was reckoned. */
const char *outlook_usd(picodollars amount, bool up, char *buf, size_t size);

/* What became of one. False: it was never answered, and teaches nothing. */
bool outlook_answer(const struct store_result *r, struct forecast_answer *ret);

#endif

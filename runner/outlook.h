#ifndef OUTLOOK_H
#define OUTLOOK_H

#include "jobs/store.h"
#include "runner/forecast.h"
#include "runner/route.h"

#include <stdbool.h>

/* The store's rows in the words of forecast.h: for `plan`, and for the report that looks
 * back. Pure; what is returned borrows from the arguments. */
struct route_job outlook_asked(const struct store_job *j);

/* A job that is sent, or was, with that model. */
struct forecast_job outlook_job(const struct catalog *catalog,
                                const struct store_job *j, const struct routed *to,
                                const char *model);

/* What became of one. False: it was never answered, and teaches nothing. */
bool outlook_answer(const struct store_result *r, struct forecast_answer *ret);

#endif

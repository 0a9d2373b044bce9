#ifndef MODELS_H
#define MODELS_H

#include "conf/catalog.h"
#include "sim/reply.h"

/* The catalogue as the API shows it. */

/* Knows ids and names like claude-opus-4-5, but not "opus", as the API does not. */
const struct model *models_find(const struct catalog *c, const char *name);

/* The refusal of a name that is not known. */
void models_refuse(const char *name, const char *id, struct reply *r);

void models_one(const struct catalog *c, const char *name, const char *id,
                struct reply *r);

/* One page of the list; what was not asked for is NULL. */
void models_page(const struct catalog *c, const char *limit, const char *after_id,
                 const char *before_id, const char *id, struct reply *r);

#endif

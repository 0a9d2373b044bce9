#ifndef BUDGET_H
#define BUDGET_H

#include "conf/catalog.h"

#include <stdint.h>

/*
 * What a request may cost at worst, before it is sent. Pure. A token is at least a
 * byte, so the bytes of the body bound its input; max_tokens bounds its output. An
 * unpriced model costs 0 here, and whoever sets a ceiling must not send it.
 */
picodollars budget_worst(const struct model *m, int64_t body_bytes, int64_t max_tokens);

#endif

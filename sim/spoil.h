#ifndef SPOIL_H
#define SPOIL_H

#include "sim/fault.h"
#include "sim/reply.h"

#include <stdbool.h>

/* What a fault does to a reply. */
struct front;

/* Faults that come instead of an answer. False: this one wants an answer to spoil. */
bool spoil_instead(struct front *front, const struct fault *f, const char *id,
                   struct reply *r);

/* The others; a kind that is part of the answer itself changes nothing here. */
void spoil_answer(const struct fault *f, const char *id, struct reply *r);

#endif

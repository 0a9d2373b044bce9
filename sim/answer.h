#ifndef ANSWER_H
#define ANSWER_H

#include "conf/catalog.h"
#include "sim/ask.h"
#include "sim/reply.h"

#include <stdbool.h>
#include <stdint.h>

struct settings;
struct answers;

/*
 * What the simulated model says. The same body under the same seed is always answered
 * with the same words, so a run can be compared with the next.
 */

enum answer_kind { ANSWER_TEXT, ANSWER_REFUSAL, ANSWER_EMPTY, ANSWER_PAUSE };

enum { ANSWER_HEAD_MAX = 320 };

/* Decided before the first byte, so that costs and times are known. */
struct answer {
    enum answer_kind kind;
    const char *stop_reason;
    char head[ANSWER_HEAD_MAX]; /* needs no escapes */
    size_t head_len, bytes;     /* of the text, the head included */
    size_t from;                /* where in the stock of sentences the rest begins */
    int64_t tokens;
};

/* The stock of sentences. NULL without memory. */
struct answers *answers_new(uint64_t seed);

/* Who is right is known: given. */
struct truth;
void answers_know(struct answers *as, struct truth *t);
void answers_free(struct answers *as);

void answer_decide(const struct answers *as, struct answer *an, const struct ask *a,
                   const char *model, enum answer_kind kind, const struct settings *s);

/* As a JSON body or as a stream of events, with the times of each piece. */
void answer_write_json(const struct answers *as, const struct answer *an,
                       const char *model, const char *id, const struct usage *u,
                       struct reply *r);
void answer_write_stream(const struct answers *as, const struct answer *an,
                         const char *model, const char *id, const struct usage *u,
                         const struct settings *s, struct reply *r);

#endif

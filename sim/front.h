#ifndef FRONT_H
#define FRONT_H

#include "sim/ask.h"
#include "sim/fault.h"
#include "sim/reply.h"

#include <stdbool.h>
#include <stdint.h>

/* The front desk: who asks, the ids and headers of every reply, how a refusal is put.
 */
struct org_view;
struct settings;

enum { FRONT_ID_MAX = 40, FRONT_MOMENTS = 8 };

struct front {
    const struct settings *settings; /* borrowed */
    uint64_t ids;
    /* Headers say the second; to say it anew for each request would be a waste. */
    int64_t reset_s[FRONT_MOMENTS];
    char reset_text[FRONT_MOMENTS][32];
};

void front_init(struct front *f, const struct settings *s);

/* A fresh id behind that prefix; `id` of FRONT_ID_MAX bytes. */
void front_id(struct front *f, const char *prefix, char *id);

/*
 * Key and version, either of which may be NULL. Puts request-id, organisation and
 * workspace into the headers; where it says false, the reply is a refusal.
 */
bool front_welcome(struct front *f, const char *key, const char *version_text,
                   const char *id, enum ask_version *version, struct reply *r);

void front_rate_headers(struct front *f, const struct org_view *v, struct reply *r);

/* As the problem of that kind, with another sentence unless NULL. */
void front_refuse(struct front *f, enum fault_kind kind, const char *sentence,
                  const char *id, struct reply *r);
/* The spend limit that the settings name. */
void front_refuse_spend(struct front *f, const char *id, struct reply *r);
/* `limit` of `what` ("requests", "input tokens") a minute; come back in `wait_ns`. */
void front_refuse_rate(struct front *f, int64_t limit, const char *what,
                       const char *model, int64_t wait_ns, const char *id,
                       struct reply *r);
/* Its input rises too steeply: `ceiling` tokens in this minute, `next` in the one that
 * begins in `wait_ns`. */
void front_refuse_rise(struct front *f, int64_t ceiling, int64_t next,
                       const char *model, int64_t wait_ns, const char *id,
                       struct reply *r);

#endif

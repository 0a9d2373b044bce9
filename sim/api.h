#ifndef API_H
#define API_H

#include "conf/catalog.h"
#include "sim/cache.h"
#include "sim/reply.h"
#include "sim/stats.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The API without HTTP: a request goes in, the reply that it deserves comes out. Knows
 * neither sockets nor clocks; moments are arguments, in nanoseconds since the start.
 */
struct settings;
struct api;

enum { API_BODY_MAX = 32 << 20 };

/* What came in. All of it is lent for the call; a NULL header was not there. */
struct api_request {
    const char *key;     /* x-api-key, or what follows Bearer */
    const char *version; /* anthropic-version */
    const char *job;     /* x-job-id */
    const char *body;
    size_t len;
    int64_t now_ns;
};

/* One messages request from its first byte to its end. Zeroed by the caller. */
struct exchange {
    struct stats_row row;
    const struct model *model;
    bool admitted, finished, free_of_charge, refused_for_credit;
    int64_t produced; /* tokens of output charged to the bucket so far */
    int64_t began_ns;
    struct cache_plan cached;
    struct reply reply;
};

/* Settings and catalogue are borrowed and must outlive it. */
struct api *api_new(struct settings *s, const struct catalog *c, struct err *e);
void api_free(struct api *api);

/* POST /v1/messages: fills x->reply and x->row. */
void api_message(struct api *api, const struct api_request *rq, struct exchange *x);
/* The first byte of the answer is about to leave: its headers say how the limits stand,
 * and from now on others may read what it cached. */
void api_first_byte(struct api *api, struct exchange *x, int64_t now_ns);
/* So much output more has come into being. */
void api_produced(struct api *api, struct exchange *x, int64_t tokens, int64_t now_ns);
/* The answer exists, whoever may get it: it is billed. A second call does nothing. */
void api_finish(struct api *api, struct exchange *x, int64_t now_ns);
/* Nothing more happens; also for exchanges that were never admitted. */
void api_ended(struct api *api, struct exchange *x);

/* The rest of the API. */
void api_count_tokens(struct api *api, const struct api_request *rq, struct reply *r);
void api_models(struct api *api, const struct api_request *rq, const char *limit,
                const char *after_id, const char *before_id, struct reply *r);
void api_model(struct api *api, const struct api_request *rq, const char *id,
               struct reply *r);
/* A body beyond API_BODY_MAX, of which nothing was kept; only those of POST
 * /v1/messages are counted. */
void api_too_large(struct api *api, struct exchange *x, bool message);
void api_nowhere(struct api *api, struct reply *r);

struct org *api_org(struct api *api);
struct stats *api_stats(struct api *api);

#endif

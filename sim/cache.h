#ifndef CACHE_H
#define CACHE_H

#include "sim/ask.h"

#include <stddef.h>
#include <stdint.h>

/*
 * The prompt cache. A prompt is a row of blocks (tools, system, messages); a block with
 * cache_control asks to keep everything up to and including it. An entry is readable
 * from the first byte of the answer whose request wrote it, and lives for its time from
 * the start of the last request that used it. Pure: moments are arguments.
 */
struct cache;

enum { CACHE_MARKS_MAX = 4 };

struct cache_mark {
    uint64_t key;
    int64_t tokens; /* of the prefix */
    int64_t ttl_ns;
};

/* What the cache means for one request. */
struct cache_plan {
    int64_t read, write_5m, write_1h; /* tokens */
    struct cache_mark writes[CACHE_MARKS_MAX];
    size_t write_count;
    size_t marks; /* blocks that ask; more than CACHE_MARKS_MAX are an error */
};

struct cache *cache_new(void); /* NULL without memory */
void cache_free(struct cache *c);

/* `scope` keeps apart what shares no cache, as models do. Prefixes of fewer tokens than
 * `min_tokens` are not cached. */
void cache_ask(struct cache *c, const struct ask *a, uint64_t scope, int64_t min_tokens,
               double bytes_per_token, int64_t now_ns, struct cache_plan *plan);

/* The first byte leaves: what the request that began at `began_ns` wrote is readable.
 */
void cache_keep(struct cache *c, const struct cache_plan *plan, int64_t began_ns);

#endif

#include "sim/cache.h"

#include "sim/settings.h"
#include "sim/words.h"

#include <stdlib.h>

enum {
    SETS = 8192, /* a power of two */
    WAYS = 8,    /* entries of one set; the one that would die first makes room */
    LOOKBACK = 20,
};

#define TTL_5M (300 * NS_PER_S)
#define TTL_1H (3600 * NS_PER_S)

struct entry {
    uint64_t key; /* 0: free */
    int64_t dies_ns, ttl_ns;
};

struct cache {
    struct entry sets[SETS][WAYS];
};

struct cache *cache_new(void)
{
    return calloc(1, sizeof(struct cache));
}

void cache_free(struct cache *c)
{
    free(c);
}

static struct entry *entry_find(struct cache *c, uint64_t key, int64_t now_ns)
{
    struct entry *set = c->sets[key & (SETS - 1)];
    for (int i = 0; i < WAYS; i++)
        if (set[i].key == key && set[i].dies_ns > now_ns)
            return &set[i];
    return NULL;
}

static void entry_put(struct cache *c, const struct cache_mark *m, int64_t began_ns)
{
    struct entry *set = c->sets[m->key & (SETS - 1)];
    struct entry *place = &set[0];
    for (int i = 0; i < WAYS && place->key != m->key; i++)
        if (set[i].key == m->key || set[i].dies_ns < place->dies_ns)
            place = &set[i];
    *place = (struct entry){m->key, began_ns + m->ttl_ns, m->ttl_ns};
}

/* ---- walking the blocks ---- */

struct boundary {
    uint64_t key;
    int64_t tokens;
};

struct walk {
    struct cache *cache;
    int64_t min_tokens, now_ns;
    double bytes_per_token;
    uint64_t key;
    double bytes;
    struct boundary last[LOOKBACK + 1]; /* a ring */
    size_t count;
    struct cache_mark marks[CACHE_MARKS_MAX];
    size_t mark_count, asked;
    int64_t read;
};

static void feed(struct walk *w, struct span v)
{
    w->key = words_hash(v.at, v.len, w->key);
    w->bytes += (double)v.len;
}

static int64_t ttl_of(struct span cache_control)
{
    return scan_equal(scan_get(cache_control, "ttl"), "1h") ? TTL_1H : TTL_5M;
}

/* Use keeps an entry alive; it is enough to look at the nearest one that is there. */
static void look_back(struct walk *w)
{
    size_t depth = w->count < LOOKBACK + 1 ? w->count : LOOKBACK + 1;
    for (size_t i = 1; i <= depth; i++) {
        const struct boundary *b = &w->last[(w->count - i) % (LOOKBACK + 1)];
        struct entry *hit = entry_find(w->cache, b->key, w->now_ns);
        if (hit == NULL)
            continue;
        hit->dies_ns = w->now_ns + hit->ttl_ns;
        w->read = b->tokens > w->read ? b->tokens : w->read;
        return;
    }
}

static void mark(struct walk *w, struct span cache_control)
{
    const struct boundary *b = &w->last[(w->count - 1) % (LOOKBACK + 1)];
    w->asked++;
    if (w->asked > CACHE_MARKS_MAX || b->tokens < w->min_tokens)
        return;
    w->marks[w->mark_count++] = (struct cache_mark){b->key, b->tokens,
                                                    ttl_of(cache_control)};
    look_back(w);
}

/* A block's own cache_control is no part of what is kept: marks may move. */
static void block(struct walk *w, struct span v)
{
    struct span cache_control = {0}, key, value;
    struct scan s;

    if (scan_is_object(v)) {
        for (scan_into(&s, v); scan_member(&s, &key, &value);)
            if (scan_equal(key, "cache_control")) {
                cache_control = value;
            } else {
                feed(w, key);
                feed(w, value);
            }
    } else {
        feed(w, v);
    }
    w->key = words_mix(w->key) | 1; /* 0 is a free entry */
    w->last[w->count++ % (LOOKBACK + 1)] = (struct boundary){
        w->key, (int64_t)(w->bytes / w->bytes_per_token)};
    if (scan_is_object(cache_control))
        mark(w, cache_control);
}

static void blocks(struct walk *w, struct span list)
{
    struct span v;
    struct scan s;
    if (scan_is_array(list))
        for (scan_into(&s, list); scan_element(&s, &v);)
            block(w, v);
    else if (list.at)
        block(w, list);
}

static void walk_all(struct walk *w, const struct ask *a)
{
    struct span message;
    struct scan s;
    blocks(w, a->tools);
    blocks(w, a->system);
    for (scan_into(&s, a->messages); scan_element(&s, &message);) {
        feed(w, scan_get(message, "role"));
        blocks(w, scan_get(message, "content"));
    }
    /* Asked for the request as a whole, the last block is meant. */
    if (a->cache_control.at && w->count > 0)
        mark(w, a->cache_control);
}

void cache_ask(struct cache *c, const struct ask *a, uint64_t scope, int64_t min_tokens,
               double bytes_per_token, int64_t now_ns, struct cache_plan *plan)
{
    *plan = (struct cache_plan){0};
    if (!a->marked)
        return;

    struct walk w = {.cache = c,
                     .min_tokens = min_tokens,
                     .now_ns = now_ns,
                     .bytes_per_token = bytes_per_token,
                     .key = words_mix(scope)};
    walk_all(&w, a);

    int64_t done = w.read;
    plan->read = w.read;
    plan->marks = w.asked;
    for (size_t i = 0; i < w.mark_count; i++) {
        const struct cache_mark *m = &w.marks[i];
        if (m->tokens <= done)
            continue;
        *(m->ttl_ns == TTL_1H ? &plan->write_1h : &plan->write_5m) += m->tokens - done;
        done = m->tokens;
        plan->writes[plan->write_count++] = *m;
    }
}

void cache_keep(struct cache *c, const struct cache_plan *plan, int64_t began_ns)
{
    for (size_t i = 0; i < plan->write_count; i++)
        entry_put(c, &plan->writes[i], began_ns);
}

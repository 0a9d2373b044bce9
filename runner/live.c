#include "runner/live.h"

#include "runner/lane.h"

#include <stdlib.h>
#include <string.h>

static size_t room_for(const char *s)
{
    return s ? strlen(s) + 1 : 0;
}

static const char *put(char **at, const char *s)
{
    if (s == NULL)
        return NULL;
    char *to = *at;
    *at = stpcpy(to, s) + 1;
    return to;
}

struct live *live_new(struct live_table *t, const struct store_job *j)
{
    struct live *l = calloc(1, sizeof *l);
    const char *const strings[] = {j->name,
                                   j->custom_id,
                                   j->tier,
                                   j->model,
                                   j->effort,
                                   j->tags,
                                   j->path,
                                   j->check,
                                   j->route,
                                   j->climb,
                                   j->climb ? j->says : NULL};
    size_t room = j->body_len + 1;
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++)
        room += room_for(strings[i]);
    if (l == NULL || (l->strings = malloc(room)) == NULL) {
        free(l);
        return NULL;
    }
    char *at = l->strings;
    l->job = *j;
    l->job.name = put(&at, j->name);
    l->job.custom_id = put(&at, j->custom_id);
    l->job.tier = put(&at, j->tier);
    l->job.model = put(&at, j->model);
    l->job.effort = put(&at, j->effort);
    l->job.tags = put(&at, j->tags);
    l->job.path = put(&at, j->path);
    l->job.check = put(&at, j->check);
    l->job.route = put(&at, j->route);
    l->job.climb = put(&at, j->climb);
    l->job.says = j->climb ? put(&at, j->says) : NULL; /* why it climbs */
    l->job.lane = l->job.type = NULL;
    if (j->body_len > 0)
        memcpy(at, j->body, j->body_len);
    at[j->body_len] = '\0';
    l->job.body = at;

    struct live **b = &t->bucket[(uint64_t)j->id % LIVE_BUCKETS];
    l->hash_next = *b;
    *b = l;
    t->count++;
    t->bytes += j->body_len;
    return l;
}

struct live *live_find(const struct live_table *t, int64_t id)
{
    struct live *l = t->bucket[(uint64_t)id % LIVE_BUCKETS];
    while (l && l->job.id != id)
        l = l->hash_next;
    return l;
}

void live_forget(struct live_table *t, struct live *l)
{
    struct live **at = &t->bucket[(uint64_t)l->job.id % LIVE_BUCKETS];
    while (*at != l)
        at = &(*at)->hash_next;
    *at = l->hash_next;
    t->count--;
    t->bytes -= l->job.body_len;
}

void live_free(struct live *l)
{
    if (l == NULL)
        return;
    if (l->lane && l->cached.count > 0)
        cache_part(&l->lane->cache, &l->cached, l->to_disk);
    free(l->message);
    free(l->strings);
    free(l);
}

int64_t live_max_tokens(const struct live *l)
{
    return l->job.raised       ? l->job.raised
           : l->job.max_tokens ? l->job.max_tokens
                               : l->routed.max_tokens;
}

#include "runner/route.h"

#include "conf/catalog.h"
#include "conf/conf.h"
#include "jobs/digest.h"
#include "jobs/store.h"
#include "runner/err.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool has_tag(const char *tags, const char *tag)
{
    size_t n = strlen(tag);
    for (const char *p = tags ? tags : ""; *p;) {
        size_t len = strcspn(p, ",");
        if (len == n && memcmp(p, tag, n) == 0)
            return true;
        p += len + (p[len] == ',');
    }
    return false;
}

static bool fits(const struct route *r, const struct route_job *j)
{
    for (size_t i = 0; i < r->tags.count; i++)
        if (!has_tag(j->tags, r->tags.word[i]))
            return false;
    return (*r->match == '\0' || fnmatch(r->match, j->name, 0) == 0) &&
           j->bytes >= r->min_bytes && (r->max_bytes == 0 || j->bytes <= r->max_bytes);
}

static void set_lane(const struct catalog *c, struct routed *ret)
{
    const struct model *m = catalog_find(c, ret->model);
    snprintf(ret->lane, sizeof ret->lane, "%s", m ? m->family : ret->model);
}

static void use_tier(const struct conf *conf, const struct tier *t,
                     const struct route_job *j, struct routed *ret)
{
    ret->tier = t->name;
    ret->model = t->model;
    ret->effort = j->effort ? j->effort : t->effort;
    ret->fallback = t->fallback;
    ret->max_tokens = t->max_tokens ? t->max_tokens : conf->jobs.max_tokens;
}

static void use_model(const struct conf *conf, const char *model,
                      const struct route_job *j, struct routed *ret)
{
    ret->tier = NULL;
    ret->model = model;
    ret->effort = j->effort ? j->effort : "";
    ret->fallback = "";
    ret->max_tokens = conf->jobs.max_tokens;
}

static int no_tier(const struct conf *conf, const char *name, struct err *e)
{
    char known[200] = "";
    for (size_t i = 0; i < conf->tiers_len; i++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "",
                 conf->tiers[i].name);
    }
    return err_set(e, ERR_INPUT, "tier = %s: no such tier; want one of %s", name,
                   known);
}

int route_decide(const struct conf *conf, const struct catalog *catalog,
                 const struct route_job *j, struct routed *ret, struct err *e)
{
    const char *word = j->tier;
    const struct tier *t;
    *ret = (struct routed){0};

    if (j->model && strcmp(j->model, "auto") != 0) {
        if (conf_tier(conf, j->model) == NULL) {
            use_model(conf, j->model, j, ret);
            ret->from_job = true;
            snprintf(ret->why, sizeof ret->why, "the job names the model");
            set_lane(catalog, ret);
            return 0;
        }
        if (word == NULL)
            word = j->model;
    }
    if (word && strcmp(word, "auto") != 0) {
        if ((t = conf_tier(conf, word)) == NULL)
            return no_tier(conf, word, e);
        use_tier(conf, t, j, ret);
        snprintf(ret->why, sizeof ret->why, "the job names the tier");
        set_lane(catalog, ret);
        return 0;
    }
    for (size_t i = 0; i < conf->routes_len; i++) {
        const struct route *r = &conf->routes[i];
        if (!fits(r, j))
            continue;
        if (*r->model)
            use_model(conf, r->model, j, ret);
        else if ((t = conf_tier(conf, r->tier)) != NULL)
            use_tier(conf, t, j, ret);
        else
            return no_tier(conf, r->tier, e);
        snprintf(ret->why, sizeof ret->why, "rule [route %s]", r->name);
        set_lane(catalog, ret);
        return 0;
    }
    if ((t = conf_tier(conf, conf->jobs.tier)) == NULL)
        return no_tier(conf, conf->jobs.tier, e);
    use_tier(conf, t, j, ret);
    snprintf(ret->why, sizeof ret->why, "the default tier");
    set_lane(catalog, ret);
    return 0;
}

int route_fall_back(const struct conf *conf, const struct catalog *catalog,
                    const struct route_job *j, struct routed *ret, struct err *e)
{
    const struct tier *t = conf_tier(conf, ret->fallback);
    char was[64];
    if (t == NULL)
        return no_tier(conf, ret->fallback, e);
    snprintf(was, sizeof was, "%s", ret->model);
    use_tier(conf, t, j, ret);
    snprintf(ret->why, sizeof ret->why, "fallback tier, since %s was refused", was);
    set_lane(catalog, ret);
    return 0;
}

void route_print(const struct conf *conf, char *buf, size_t size)
{
    unsigned char digest[DIGEST_BYTES];
    char hex[DIGEST_BYTES * 2 + 1], line[4096];
    struct digest *d = digest_new();
    digest_add(d, conf->jobs.tier, strlen(conf->jobs.tier) + 1);
    for (size_t i = 0; i < conf->tiers_len; i++) {
        const struct tier *t = &conf->tiers[i];
        int n = snprintf(line, sizeof line, "tier\n%s\n%s\n", t->name, t->model);
        digest_add(d, line, (size_t)n);
    }
    for (size_t i = 0; i < conf->routes_len; i++) {
        const struct route *r = &conf->routes[i];
        int n = snprintf(line, sizeof line,
                         "route\n%s\n%s\n%s\n%" PRId64 "\n%" PRId64 "\n", r->match,
                         r->tier, r->model, r->min_bytes, r->max_bytes);
        digest_add(d, line, (size_t)n);
        for (size_t k = 0; k < r->tags.count; k++)
            digest_add(d, r->tags.word[k], strlen(r->tags.word[k]) + 1);
    }
    digest_end(d, digest);
    digest_free(d);
    digest_hex(digest, DIGEST_BYTES, hex);
    snprintf(buf, size, "%s", hex);
}

#include "runner/route.h"

#include "conf/catalog.h"
#include "conf/conf.h"
#include "jobs/digest.h"
#include "jobs/job.h"
#include "jobs/store.h"
#include "runner/err.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdarg.h>
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

/* --- the ladder --- */

/* How many more tokens an effort writes: Anthropic's own measurements, roughly. */
static double effort_factor(const char *effort)
{
    static const struct {
        const char *word;
        double factor;
    } efforts[] = {
        {"low", 0.5}, {"medium", 0.8}, {"high", 1}, {"xhigh", 1.5}, {"max", 2}};
    for (size_t i = 0; i < sizeof efforts / sizeof efforts[0]; i++)
        if (strcmp(effort, efforts[i].word) == 0)
            return efforts[i].factor;
    return 1;
}

/* -1: it has no price. */
static double price_of(const struct conf *conf, const struct catalog *catalog,
                       const struct tier *t, const struct route_job *j)
{
    enum { BYTES_A_TOKEN = 4 };
    const struct model *m = catalog_find(catalog, t->model);
    int64_t most = j->max_tokens   ? j->max_tokens
                   : t->max_tokens ? t->max_tokens
                                   : conf->jobs.max_tokens;
    int64_t out = most < ROUTE_ANSWER_TOKENS ? most : ROUTE_ANSWER_TOKENS;
    struct usage u = {
        .input = j->bytes / BYTES_A_TOKEN + 1,
        .output = (int64_t)((double)out *
                            effort_factor(j->effort ? j->effort : t->effort))};
    if (m == NULL || !m->priced)
        return -1;
    return (double)catalog_cost(m, &u) / (double)PICODOLLARS_PER_DOLLAR;
}

static void rung_add(struct ladder *l, const struct tier *t, double price,
                     bool by_price)
{
    int at = l->len;
    if (l->len == LEARN_RUNGS)
        return;
    while (by_price && price >= 0 && at > 0 &&
           (l->price[at - 1] < 0 || l->price[at - 1] > price)) {
        l->rung[at] = l->rung[at - 1];
        l->price[at] = l->price[at - 1];
        at--;
    }
    l->rung[at] = t;
    l->price[at] = price;
    l->len++;
}

void route_ladder(const struct conf *conf, const struct catalog *catalog,
                  const struct route_job *j, struct ladder *ret)
{
    const struct words *named = &conf->jobs.ladder;
    *ret = (struct ladder){.priced = true};
    for (size_t i = 0; i < named->count; i++) {
        const struct tier *t = conf_tier(conf, named->word[i]);
        if (t)
            rung_add(ret, t, price_of(conf, catalog, t, j), false);
    }
    for (size_t i = 0; named->count == 0 && i < conf->tiers_len; i++)
        rung_add(ret, &conf->tiers[i], price_of(conf, catalog, &conf->tiers[i], j),
                 true);
    /* Where a price is missing, or the user's order is not that of prices, each rung is
     * taken for twice as dear as the one below. */
    for (int i = 0; i < ret->len; i++) {
        ret->priced = ret->priced && ret->price[i] >= 0;
        double below = i > 0 ? ret->price[i - 1] : 0;
        if (ret->price[i] <= below)
            ret->price[i] = i > 0 ? 2 * below : 1e-6;
    }
}

static int rung_of(const struct ladder *l, const char *tier)
{
    for (int i = 0; tier && i < l->len; i++)
        if (strcmp(l->rung[i]->name, tier) == 0)
            return i;
    return -1;
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

static void say(struct routed *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void say(struct routed *r, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(r->why, sizeof r->why, fmt, args);
    va_end(args);
}

static const struct route *rule_for(const struct conf *conf, const struct route_job *j)
{
    for (size_t i = 0; i < conf->routes_len; i++)
        if (fits(&conf->routes[i], j))
            return &conf->routes[i];
    return NULL;
}

/* Its own word, the rule's, the default's. */
static int set_ways(const struct conf *conf, const struct route *rule,
                    const struct route_job *j, struct routed *ret, struct err *e)
{
    int how = j->route                            ? conf_route_how(j->route)
              : rule && rule->how != ROUTE_UNSAID ? rule->how
                                                  : conf->jobs.how;
    ret->check = j->check               ? j->check
                 : rule && *rule->check ? rule->check
                 : *conf->jobs.check    ? conf->jobs.check
                                        : NULL;
    if (how < 0)
        return err_set(e, ERR_INPUT, "route = %s: want tier, cascade or learn",
                       j->route);
    if (how == ROUTE_CASCADE && ret->check == NULL && j->route)
        return err_set(e, ERR_INPUT,
                       "route = cascade: want a check as well: without one nobody can "
                       "say whether a rung was enough");
    ret->how = how == ROUTE_CASCADE && ret->check == NULL ? ROUTE_TIER
                                                          : (enum route_how)how;
    return 0;
}

/* What was said of model and tier. 1: nothing, there is a choice; 0; -1. */
static int said(const struct conf *conf, const struct route *rule,
                const struct route_job *j, struct routed *ret, struct err *e)
{
    const char *word = j->tier;
    const struct tier *t = NULL;
    bool own = true;
    if (j->model && strcmp(j->model, "auto") != 0) {
        if (conf_tier(conf, j->model) == NULL) {
            use_model(conf, j->model, j, ret);
            ret->from_job = true;
            say(ret, "the job names the model");
            return 0;
        }
        if (word == NULL)
            word = j->model;
    }
    if (word && strcmp(word, "auto") == 0)
        word = NULL;
    if (word == NULL && rule && *rule->model) {
        use_model(conf, rule->model, j, ret);
        say(ret, "rule [route %s]", rule->name);
        return 0;
    }
    if (word == NULL && rule && *rule->tier) {
        word = rule->tier;
        own = false;
    }
    bool free_choice = word == NULL;
    if (free_choice)
        word = conf->jobs.tier;
    if ((t = conf_tier(conf, word)) == NULL)
        return no_tier(conf, word, e);
    use_tier(conf, t, j, ret);
    if (free_choice)
        say(ret, "the default tier");
    else if (own)
        say(ret, "the job names the tier");
    else
        say(ret, "rule [route %s]", rule->name);
    return free_choice;
}

/*
 * With nothing learned: only signals that hold up. To think, or to make an effort, is
 * asked for by who knows that the work is deep; long prompts, tools, attachments and
 * long answers call for more than short questions do.
 */
static int cold(const struct ladder *l, int at, const struct route_job *j,
                const struct learn_view *v, struct routed *ret)
{
    char known[60] = "nothing learned yet";
    const char *what = NULL;
    bool deep = (j->asks & ASKS_THINKING) ||
                (j->effort && effort_factor(j->effort) >= 1 && strlen(j->effort) > 0 &&
                 strcmp(j->effort, "low") != 0 && strcmp(j->effort, "medium") != 0);
    if (v)
        snprintf(known, sizeof known, "%.0f of %d outcomes, too few to learn from",
                 v->all, LEARN_TABLE_MIN);
    if (deep) {
        say(ret, "%s; it asks for %s: the last rung", known,
            j->asks & ASKS_THINKING ? "thinking" : "effort");
        return l->len - 1;
    }
    if (ret->how == ROUTE_CASCADE) {
        say(ret, "cascade: %s, so the cheapest rung first", known);
        return 0;
    }
    if (j->bytes > ROUTE_LONG_BYTES)
        what = "a long prompt";
    else if (j->asks & ASKS_TOOLS)
        what = "tools";
    else if ((j->asks & ASKS_UNBOUNDED) || j->asks / ASKS_IMAGES > 0)
        what = "attachments";
    else if (j->max_tokens > ROUTE_LONG_ANSWER)
        what = "a long answer";
    if (at < 0)
        at = 0;
    if (what && at < l->len - 1) {
        say(ret, "%s; %s: one rung above the default", known, what);
        return at + 1;
    }
    say(ret, "%s: the default tier", known);
    return at;
}

static int learned(const struct conf *conf, const struct ladder *l,
                   const struct route_job *j, struct routed *ret)
{
    struct learn_choice c;
    char says[LEARN_SAY_MAX];
    double dearest = (double)conf->learn.explore_max_cost /
                     (double)PICODOLLARS_PER_DOLLAR;
    struct learn_rule rule = {.price = l->price,
                              .checked = ret->how == ROUTE_CASCADE,
                              .tau = (double)conf->learn.enough / 100,
                              .random = j->random};
    if (ret->how == ROUTE_LEARN && l->priced && l->price[l->len - 1] <= dearest)
        rule.explore = (double)conf->learn.explore / 100;
    learn_decide(j->learned, &rule, &c);
    if (c.rung < 0)
        return -1;
    ret->explored = c.explored;
    learn_say(j->learned, &c, l->rung[c.rung]->name, says, sizeof says);
    if (ret->how == ROUTE_CASCADE)
        say(ret, "cascade: %s; worth trying above %.0f %%", says,
            c.rung + 1 < l->len ? 100 * l->price[c.rung] / l->price[c.rung + 1] : 0);
    else
        say(ret, "%s; enough is %.0f %%", says, 100 * rule.tau);
    return c.rung;
}

const struct tier *route_above(const struct conf *conf, const struct catalog *catalog,
                               const struct route_job *job, const char *tier)
{
    struct ladder l;
    route_ladder(conf, catalog, job, &l);
    int at = rung_of(&l, tier);
    return at >= 0 && at + 1 < l.len ? l.rung[at + 1] : NULL;
}

/* On a ladder of at least two rungs. */
static int choose(const struct conf *conf, const struct ladder *l, bool free_choice,
                  const struct route_job *j, struct routed *ret)
{
    int at = rung_of(l, ret->tier), was = rung_of(l, j->climb);
    if (ret->how == ROUTE_CASCADE && was >= 0) {
        at = was + 1 < l->len ? was + 1 : was;
        say(ret, "climbed from %s, whose answer did not pass: %.200s", j->climb,
            j->says ? j->says : "");
        return at;
    }
    if (!free_choice)
        return at;
    ret->wants_view = j->learned == NULL;
    int known = j->learned && j->learned->rungs == l->len ? learned(conf, l, j, ret)
                                                          : -1;
    return known >= 0 ? known : cold(l, at, j, j->learned, ret);
}

int route_decide(const struct conf *conf, const struct catalog *catalog,
                 const struct route_job *j, struct routed *ret, struct err *e)
{
    const struct route *rule = rule_for(conf, j);
    struct ladder l;
    *ret = (struct routed){.rung = -1};
    if (set_ways(conf, rule, j, ret, e) < 0)
        return -1;
    int free_choice = said(conf, rule, j, ret, e);
    if (free_choice < 0)
        return -1;
    if (ret->tier == NULL)
        ret->how = ROUTE_TIER;
    if (ret->tier && (ret->how != ROUTE_TIER || ret->check)) {
        route_ladder(conf, catalog, j, &l);
        ret->rung = rung_of(&l, ret->tier);
        if (ret->how != ROUTE_TIER && l.len > 1) {
            ret->rung = choose(conf, &l, free_choice, j, ret);
            if (ret->rung >= 0)
                use_tier(conf, l.rung[ret->rung], j, ret);
        }
    }
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
    struct ladder l;
    snprintf(was, sizeof was, "%s", ret->model);
    use_tier(conf, t, j, ret);
    route_ladder(conf, catalog, j, &l);
    ret->rung = rung_of(&l, t->name);
    say(ret, "fallback tier, since %s was refused", was);
    set_lane(catalog, ret);
    return 0;
}

/* The words are those of say() above. */
enum route_by route_by(const char *why)
{
    static const struct {
        const char *begins;
        enum route_by by;
    } words[] = {
        {"the job names", ROUTE_BY_OWN},        {"rule [", ROUTE_BY_RULE},
        {"the default tier", ROUTE_BY_DEFAULT}, {"climbed from", ROUTE_BY_CLIMBED},
        {"fallback tier", ROUTE_BY_FALLBACK},   {"learned:", ROUTE_BY_LEARNED},
        {"tried to learn:", ROUTE_BY_LEARNED}};
    if (why == NULL)
        return ROUTE_BY_DEFAULT;
    if (strncmp(why, "cascade: ", 9) == 0)
        why += 9;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strncmp(why, words[i].begins, strlen(words[i].begins)) == 0)
            return words[i].by;
    return ROUTE_BY_COLD;
}

const char *route_by_name(enum route_by by)
{
    static const char *const names[] = {
#define X(by, name) [ROUTE_BY_##by] = name,
        ROUTE_BYS(X)
#undef X
    };
    return names[by];
}

void route_ladder_print(const struct conf *conf, const struct catalog *catalog,
                        char *buf, size_t size)
{
    unsigned char digest[DIGEST_BYTES];
    char hex[DIGEST_BYTES * 2 + 1], line[1024];
    struct ladder l;
    struct digest *d = digest_new();
    route_ladder(conf, catalog, &(struct route_job){.bytes = ROUTE_ANSWER_TOKENS}, &l);
    for (int i = 0; i < l.len; i++) {
        int n = snprintf(line, sizeof line, "%s\n%s\n%s\n", l.rung[i]->name,
                         l.rung[i]->model, l.rung[i]->effort);
        digest_add(d, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
    }
    digest_end(d, digest);
    digest_free(d);
    digest_hex(digest, DIGEST_BYTES, hex);
    snprintf(buf, size, "ladder %s", hex);
}

void route_print(const struct conf *conf, char *buf, size_t size)
{
    unsigned char digest[DIGEST_BYTES];
    char hex[DIGEST_BYTES * 2 + 1], line[4096];
    struct digest *d = digest_new();
    digest_add(d, conf->jobs.tier, strlen(conf->jobs.tier) + 1);
    digest_add(d, conf->jobs.check, strlen(conf->jobs.check) + 1);
    digest_add(d, conf_route_how_name((enum route_how)conf->jobs.how), 3);
    for (size_t i = 0; i < conf->jobs.ladder.count; i++)
        digest_add(d, conf->jobs.ladder.word[i], strlen(conf->jobs.ladder.word[i]) + 1);
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
        digest_add(d, r->check, strlen(r->check) + 1);
        digest_add(d, conf_route_how_name((enum route_how)r->how), 3);
        for (size_t k = 0; k < r->tags.count; k++)
            digest_add(d, r->tags.word[k], strlen(r->tags.word[k]) + 1);
    }
    digest_end(d, digest);
    digest_free(d);
    digest_hex(digest, DIGEST_BYTES, hex);
    snprintf(buf, size, "%s", hex);
}

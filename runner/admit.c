/*
 * What may start: jobs come from disk into their lane's ready list, and from there,
 * while hold, breaker, window, brake, disk and account allow, into the list of moves.
 */
#include "runner/machine.h"

#include "conf/catalog.h"
#include "jobs/textbuf.h"
#include "runner/budget.h"
#include "runner/effect.h"
#include "runner/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

/* FNV-1a: tells kinds of jobs apart, no more. */
#define HASH_BEGIN UINT64_C(14695981039346656037)

static uint64_t hash_bytes(uint64_t hash, const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)p[i]) * UINT64_C(1099511628211);
    return hash;
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    return hash_bytes(hash, text, strlen(text) + 1);
}

void ready_push(struct live *l, bool front)
{
    struct lane *lane = l->lane;
    l->where = LIVE_READY;
    lane->ready++;
    if (l->cached.count > 0)
        cache_waits(&lane->cache, &l->cached, true);
    if (front) {
        l->next = lane->first;
        if (lane->first == NULL)
            lane->last = &l->next;
        lane->first = l;
        return;
    }
    l->next = NULL;
    *lane->last = l;
    lane->last = &l->next;
}

void ready_remove(struct live *l)
{
    struct lane *lane = l->lane;
    struct live **at = &lane->first;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    if (lane->last == &l->next)
        lane->last = at;
    l->next = NULL;
    lane->ready--;
    if (l->cached.count > 0)
        cache_waits(&lane->cache, &l->cached, false);
}

/* --- from disk --- */

struct route_job admit_asked(const struct store_job *j)
{
    return (struct route_job){.name = j->name,
                              .tier = j->tier,
                              .model = j->model,
                              .effort = j->effort,
                              .tags = j->tags,
                              .check = j->check,
                              .route = j->route,
                              .climb = j->climb,
                              .says = j->says,
                              .asks = j->asks,
                              .bytes = j->bytes,
                              .max_tokens = j->max_tokens};
}

struct filling {
    struct runner *r;
    struct lane *lane;
    struct moves *m; /* NULL: nothing can be put off */
    size_t got, unroutable;
    bool full; /* it stopped before the store had told all */
};

static bool in_memory(void *arg, int64_t id)
{
    struct filling *f = arg;
    return live_find(&f->r->table, id) != NULL;
}

/* Where its own tier's model was refused, the tier's fallback takes over. */
static struct lane *lane_for(struct runner *r, struct live *l, struct err *e)
{
    struct route_job j = admit_asked(&l->job);
    struct learn_view view;
    if (route_decide(r->conf, r->o->catalog, &j, &l->routed, e) < 0)
        return NULL;
    if (l->routed.wants_view && quality_view(r, &l->job, &view)) {
        j.learned = &view;
        j.random = runner_random(r);
        if (route_decide(r->conf, r->o->catalog, &j, &l->routed, e) < 0)
            return NULL;
    }
    struct lane *lane = runner_lane(r, l->routed.lane);
    for (int hops = 0; lane && lane->closed && *l->routed.fallback && hops < 4;
         hops++) {
        if (route_fall_back(r->conf, r->o->catalog, &j, &l->routed, e) < 0)
            return NULL;
        lane = runner_lane(r, l->routed.lane);
    }
    return lane;
}

uint64_t admit_rung(const struct routed *to)
{
    return hash_text(hash_text(HASH_BEGIN, to->model), to->effort);
}

/* Does it begin like others? What is short, or forbids it, is not asked. */
static void join_cache(struct runner *r, struct live *l)
{
    if (r->conf->jobs.cache == CACHE_OFF || (l->job.asks & ASKS_NO_CACHE) ||
        l->job.body_len < PREFIX_BYTES_MIN)
        return;
    prefix_find(&l->prefix, l->job.body, l->job.body_len);
    if (l->prefix.own || l->prefix.count == 0)
        return;
    cache_join(&l->lane->cache, &l->cached, &l->prefix, admit_rung(&l->routed),
               catalog_find(r->o->catalog, l->routed.model));
}

/* Chosen for a lane that has enough in memory: it waits on disk, under that lane, so
 * that a held lane never fills the memory of the others. */
static bool put_off(struct filling *f, struct live *l)
{
    struct lane *lane = l->lane;
    struct move *v;
    if (f->m == NULL || lane->ready < (size_t)lane->window.size * 4 + 32 ||
        (v = moves_add(f->m, MOVE_LANE)) == NULL)
        return false;
    v->job = l->job.id;
    v->name = lane->name;
    v->owner = l;
    l->where = LIVE_ADMITTED;
    return true;
}

static int on_ready(void *arg, const struct store_job *j)
{
    struct filling *f = arg;
    struct runner *r = f->r;
    struct err e = {0};
    struct live *l = live_new(&r->table, j);
    f->got++;
    if (l == NULL)
        return 1;
    l->runner = r;
    l->lane = lane_for(r, l, &e);
    if (l->lane == NULL) {
        /* The INI lost the tier since: the job waits until it is back. */
        f->unroutable++;
        log_debug("job=%s waits: %s", j->name, e.text);
        live_forget(&r->table, l);
        live_free(l);
        return 0;
    }
    if (l->lane != f->lane && put_off(f, l))
        return 0;
    join_cache(r, l);
    l->brake = j->bulk ? runner_brake(r, j) : NULL;
    if (l->brake && (l->brake->parking || l->brake->parked)) {
        live_forget(&r->table, l); /* it is about to be parked on disk */
        live_free(l);
        return 0;
    }
    ready_push(l, false);
    f->full = r->table.bytes > READY_BYTES_MAX || r->table.count > READY_MAX;
    return f->full;
}

static void fill_lane(struct runner *r, struct lane *lane, struct moves *m)
{
    size_t want = (size_t)lane->window.size * 4 + 32;
    struct filling f = {.r = r, .lane = lane, .m = m};
    struct err e = {0};
    if (lane->dry || lane->ready > want / 2 || r->table.count > READY_MAX ||
        (lane->ready > 0 && r->table.bytes > READY_BYTES_MAX))
        return;
    if (store_ready(r->o->store, lane->name, want, in_memory, on_ready, &f, &e) < 0)
        log_error("lane=%s %s", lane->name, e.text);
    if (!f.full && (f.got < want || f.got == f.unroutable))
        lane->dry = true;
}

static void fill_rested(struct runner *r)
{
    struct filling f = {.r = r};
    struct err e = {0};
    int64_t now = runner_wall(r);
    if (r->next_rest == 0 || r->next_rest > now || r->table.count > READY_MAX ||
        (r->table.count > 0 && r->table.bytes > READY_BYTES_MAX))
        return;
    if (store_rested(r->o->store, now, 1000, in_memory, on_ready, &f, &r->next_rest,
                     &e) < 0)
        log_error("%s", e.text);
    if (f.got == 1000 || f.full)
        r->next_rest = now; /* more of them are due */
}

void admit_fill(struct runner *r, struct moves *m)
{
    for (struct lane *l = r->lanes; l; l = l->next)
        fill_lane(r, l, m);
    fill_rested(r);
}

/* --- jobs that no lane was decided for: the configuration changed --- */

struct rerouting {
    struct runner *r;
    struct moves *m;
    size_t got;
    bool failed;
};

static int on_unrouted(void *arg, const struct store_job *j)
{
    struct rerouting *x = arg;
    struct route_job a = admit_asked(j);
    struct routed to;
    struct err e = {0};
    struct lane *lane;
    x->got++;
    if (route_decide(x->r->conf, x->r->o->catalog, &a, &to, &e) < 0) {
        /* Off the rows that are asked for again; when the INI has the tier back, all are. */
        log_warn("job=%s waits: %s", j->name, e.text);
        snprintf(to.lane, sizeof to.lane, "(no such tier)");
    }
    struct move *v = moves_add(x->m, MOVE_LANE);
    if (v == NULL || (lane = runner_lane(x->r, to.lane)) == NULL) {
        x->failed = true;
        return 1;
    }
    v->job = j->id;
    v->name = lane->name;
    lane->dry = false;
    return 0;
}

int admit_reroute(struct runner *r, struct moves *m)
{
    struct rerouting x = {r, m, 0, false};
    size_t before = m->count;
    struct err e = {0};
    if (!r->unrouted)
        return 0;
    if (store_ready(r->o->store, NULL, REROUTE_AT_ONCE, NULL, on_unrouted, &x, &e) < 0)
        log_error("%s", e.text);
    r->unrouted = m->count > before;
    return x.failed ? -1 : 0;
}

/* --- may it start? --- */

/*
 * Room for the worst case of what is out, and a margin for ourselves. The disk is asked
 * now and then; in between, what is admitted is taken off what it said.
 */
static bool disk_has_room(struct runner *r, int64_t more)
{
    int64_t now = runner_mono(r);
    struct statvfs fs;
    bool fresh = r->disk_looked_at != 0 && now - r->disk_looked_at < DISK_LOOK_MS;
    if (fresh && (r->disk_short || r->disk_left >= more))
        return !r->disk_short;
    r->disk_looked_at = now;
    if (statvfs(r->o->queue->state, &fs) < 0) {
        r->disk_left = more; /* it cannot say: one at a time */
        return true;
    }
    int64_t have = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
    int64_t want = r->out_bytes + more + DISK_MARGIN;
    r->disk_left = have - r->out_bytes - DISK_MARGIN;
    r->disk_short = have < want;
    if (r->disk_short)
        snprintf(r->disk_says, sizeof r->disk_says,
                 "the disk of %.60s has %" PRId64 " MiB left, %" PRId64
                 " are wanted to go on",
                 r->o->queue->state, have >> 20, (want >> 20) + 1);
    return !r->disk_short;
}

/* Stored twice for a while (log and file), and as a result. */
static int64_t worst_bytes(const struct live *l)
{
    int64_t tokens = live_max_tokens(l);
    int64_t most = l->runner->conf->api.max_answer;
    return 3 * ((tokens < most / 6 ? tokens * 6 : most) + 16384);
}

/* An unproven or failing source shows few at a time, so that it cannot burn many. */
static bool brake_allows(const struct runner *r, const struct brake *b)
{
    if (b == NULL)
        return true;
    if (b->parking || b->parked)
        return false;
    if (b->proven && b->streak < BRAKE_FREE)
        return true;
    int64_t left = r->conf->limits.mass_failure - b->streak;
    return b->in_flight < (left > 1 ? left : 1);
}

/*
 * The next job of a lane: of those of one priority the one whose prefix is best sent now.
 * Consecutive probes are different jobs, where there is another; and what is larger than
 * a bucket, for which all others would have to pause, comes behind them.
 */
static struct live *choose(struct runner *r, struct lane *lane, bool probe, int64_t now)
{
    struct live *fallback = NULL, *best = NULL;
    int looked = 0;
    lane->cache_ask_at = 0;
    for (struct live *l = lane->first; l; l = l->next) {
        if (!brake_allows(r, l->brake))
            continue;
        if (l->large ||
            (probe && (l->job.id == lane->last_probe || l->job.id == r->last_reset))) {
            if (fallback == NULL || (fallback->large && !l->large))
                fallback = l;
            continue;
        }
        if (best && (l->job.priority < best->job.priority || ++looked > CACHE_LOOK))
            break;
        struct cache_say say = {.rank = CACHE_RANK_GO};
        if (l->cached.count > 0)
            say = cache_decide(&lane->cache, &l->cached, now);
        if (say.word == CACHE_WAIT) {
            if (say.ask_at > 0 &&
                (lane->cache_ask_at == 0 || say.ask_at < lane->cache_ask_at))
                lane->cache_ask_at = say.ask_at;
            continue;
        }
        if (best && say.rank >= best->cache_say.rank)
            continue;
        best = l;
        l->cache_say = say;
        if (say.rank <= cache_best(&lane->cache))
            break;
    }
    if (best)
        return best;
    if (fallback || lane->in_flight > 0 || lane->cache_ask_at > 0 ||
        lane->first == NULL)
        return fallback;
    /* Nobody is out for whom the others could wait. */
    for (struct live *l = lane->first; l; l = l->next)
        if (brake_allows(r, l->brake)) {
            l->cache_say = (struct cache_say){.word = CACHE_NONE};
            return l;
        }
    return NULL;
}

/* One runner of this machine probes an account whose halt is on record; the others, when
 * they get the right, look first at what it learned. */
static bool probe_is_ours(struct runner *r)
{
    struct err e = {0};
    struct account_halt h;
    if (!r->probing)
        return true;
    if (r->out > 0)
        return false;
    int ours = account_probe_begin(r->o->accounts, r->account, &e);
    if (ours < 0)
        log_warn("%s", e.text);
    if (ours <= 0 || r->probe_looked)
        return ours != 0;
    r->probe_looked = true;
    int halted = account_halt(r->o->accounts, r->account, &h, &e);
    if (halted == 0) {
        r->probing = false;
        account_probe_end(r->o->accounts);
    } else if (halted > 0 && h.at > r->wall0 && r->watch &&
               strcmp(h.reason, "key refused") != 0) {
        /* Another runner has just tried: our turn comes. */
        r->account_hold = runner_mono(r) + r->conf->limits.credit_probe_ms;
        snprintf(r->account_why, sizeof r->account_why, "%.40s: %.140s", h.reason,
                 h.says);
        r->probe_looked = false;
        account_probe_end(r->o->accounts);
        return false;
    } else if (halted > 0 && h.at > r->wall0) {
        runner_begin_stop(r,
                          strcmp(h.reason, "key refused") == 0   ? STOP_KEY
                          : strcmp(h.reason, "spend limit") == 0 ? STOP_SPEND_LIMIT
                                                                 : STOP_NO_CREDIT,
                          h.says, h.until);
        account_probe_end(r->o->accounts);
        return false;
    }
    return true;
}

/* Off its lane, on disk as well, until its owner says what it may cost. */
static int set_aside(struct live *l, struct moves *m)
{
    struct move *v = moves_add(m, MOVE_LANE);
    if (v == NULL)
        return -1;
    const struct model *known = catalog_find(l->runner->o->catalog, l->routed.model);
    if (known == NULL || !known->priced)
        log_warn("job=%s waits: the price of %s is not known, and there is a ceiling; "
                 "name a model of the catalogue, or give its price in catalog.file",
                 l->job.name, l->routed.model);
    else
        log_warn("job=%s waits: what it may cost cannot be reckoned, and there is a "
                 "ceiling; say max_cost in the job",
                 l->job.name);
    v->job = l->job.id;
    v->name = LANE_UNRECKONED;
    v->owner = l;
    ready_remove(l);
    l->where = LIVE_ADMITTED;
    return 0;
}

/* The next job, or where a ceiling is too near for that one, one that still fits. */
static struct live *choose_affordable(struct runner *r, struct lane *lane, bool probe,
                                      int64_t now, struct moves *m)
{
    struct live *l;
    picodollars worst;
    while ((l = choose(r, lane, probe, now)) != NULL && !money_allows(r, l) &&
           l->unbounded)
        if (set_aside(l, m) < 0)
            return NULL;
    if (l == NULL || !r->money_short)
        return l;
    for (l = lane->first; l; l = l->next)
        if (brake_allows(r, l->brake) && !l->unbounded && money_worst(r, l, &worst) &&
            worst <= r->money_left && money_allows(r, l)) {
            l->cache_say = (struct cache_say){.word = CACHE_NONE};
            return l;
        }
    return NULL;
}

static bool may_send_at_all(struct runner *r, int64_t now)
{
    if (r->stop || r->sick || !r->gate_open || now < r->account_hold || r->paused ||
        r->closed)
        return false;
    if (r->o->first > 0 && r->admitted >= r->o->first)
        return false;
    if (r->checking >= CHECKING_MAX)
        return false; /* the programs come first; each that ends looks again */
    if (r->endpoint.open && (r->out > 0 || now < r->endpoint.probe_at))
        return false;
    if (!probe_is_ours(r))
        return false;
    return !r->endpoint.open || shared_endpoint_probe(r);
}

/* Jobs that are likely to read and write alike: one rung, and one source or directory. */
static uint64_t kind_of(const struct live *l)
{
    const char *path = l->job.bulk ? l->job.path : l->job.name;
    const char *slash = strrchr(path, '/');
    size_t len = l->job.bulk ? strlen(path) : slash ? (size_t)(slash - path) : 0;
    return hash_bytes(admit_rung(&l->routed), path, len);
}

/* What the account's buckets say; another runner may have been told to hold, too. */
static bool buckets_allow(struct runner *r, struct lane *lane, struct live *l,
                          int64_t now)
{
    struct buckets *b = shared_buckets(r, lane);
    struct bucket_look look = {.may = true, .binds = BUCKET_NONE};
    if (lane->hold_until > now)
        return false;
    l->ask = (struct bucket_ask){
        .group = kind_of(l),
        .input_est = (double)(l->job.bytes - (int64_t)l->cache_say.read_bytes) /
                     BYTES_PER_TOKEN,
        .max_tokens = l->job.max_tokens ? l->job.max_tokens : l->routed.max_tokens,
        .reserve = l->large};
    if (b)
        look = buckets_ask(b, &l->ask, now);
    lane_paced(lane, &look);
    if (!look.may)
        buckets_say(b, &look, now, lane->pace_says, sizeof lane->pace_says);
    return look.may;
}

/* Every decision that made this request what it is. */
static const char *why_of(struct live *l)
{
    char cached[CACHE_SAYS_MAX];
    int n = snprintf(l->why, sizeof l->why, "%s", l->routed.why);
    if (l->job.raised && n < (int)sizeof l->why)
        n += snprintf(l->why + n, sizeof l->why - (size_t)n,
                      "; once more with %" PRId64 " max_tokens", l->job.raised);
    if ((l->cache_say.word == CACHE_LEAD || l->cache_say.word == CACHE_FOLLOW) &&
        n < (int)sizeof l->why)
        snprintf(l->why + n, sizeof l->why - (size_t)n, "; %s",
                 cache_explain(&l->cache_say, cached, sizeof cached));
    return l->why;
}

static int admit_one(struct runner *r, struct lane *lane, struct live *l,
                     struct moves *m)
{
    struct move *v = moves_add(m, MOVE_ADMIT);
    if (v == NULL)
        return -1;
    ready_remove(l);
    l->where = LIVE_ADMITTED;
    l->probe = lane->breaker.open || r->endpoint.open;
    l->attempt = r->next_attempt++;
    l->started_wall = runner_wall(r);
    l->started_at = runner_mono(r);
    money_taken(r, l);
    lane_started(lane);
    struct buckets *b = shared_buckets(r, lane);
    l->ticketed = b != NULL;
    l->ticket = (struct bucket_ticket){0};
    if (b)
        l->ticket = buckets_take(b, shared_slot(lane), &l->ask, &lane->look,
                                 l->started_at);
    if (l->cached.count > 0)
        cache_started(&lane->cache, &l->cached, &l->cache_say, l->started_at);
    if (l->probe)
        lane->last_probe = l->job.id;
    if (l->brake)
        l->brake->in_flight++;
    r->out++;
    l->worst_bytes = worst_bytes(l);
    r->out_bytes += l->worst_bytes;
    r->disk_left -= l->worst_bytes;
    r->admitted++;

    v->owner = l;
    v->job = l->job.id;
    v->count = l->job.revision;
    v->attempt = l->attempt;
    v->run = r->run;
    v->now = l->started_wall;
    v->text = why_of(l);
    v->at.lane = lane->name;
    v->at.tier = l->routed.tier;
    v->at.model = l->routed.model;
    v->at.worst = l->worst;
    v->at.attempts = l->job.attempts + 1;
    return 0;
}

void admit_some(struct runner *r, struct moves *m)
{
    int64_t ask_at;
    uv_update_time(&r->loop); /* paces are counted in milliseconds */
    int64_t now = runner_mono(r);
    for (struct lane *lane = r->lanes; lane; lane = lane->next) {
        int room = lane->look.binds != BUCKET_NONE && lane->paced
                       ? 1
                       : lane->window.size - lane->in_flight;
        cache_refresh(&lane->cache, lane->in_flight, room, now);
        while (lane_state(lane, now, &ask_at) == LANE_OPEN && may_send_at_all(r, now)) {
            bool probe = lane->breaker.open || r->endpoint.open;
            struct live *l = choose_affordable(r, lane, probe, now, m);
            if (l == NULL || !disk_has_room(r, worst_bytes(l)))
                break;
            if (!buckets_allow(r, lane, l, now)) {
                if (l->large || !lane->look.alone)
                    break;
                l->large = true; /* the others first */
                lane->paced = false;
                continue;
            }
            if (admit_one(r, lane, l, m) < 0)
                break;
        }
        shared_done(r);
    }
    if (r->out == 0)
        shared_endpoint_unused(r); /* nobody to probe with */
}

/* --- where a ceiling leaves no room for what is next --- */

static bool fits(struct runner *r, const struct live *l)
{
    picodollars worst;
    return !l->lane->closed && !l->unbounded && money_worst(r, l, &worst) &&
           worst <= r->money_left;
}

static int on_affordable(void *arg, const struct store_job *j)
{
    struct filling *f = arg;
    struct runner *r = f->r;
    struct err e = {0};
    struct live *l = live_new(&r->table, j);
    if (l == NULL)
        return 1;
    l->runner = r;
    l->lane = lane_for(r, l, &e);
    l->brake = j->bulk ? runner_brake(r, j) : NULL;
    if (l->lane == NULL || !fits(r, l) ||
        (l->brake && (l->brake->parking || l->brake->parked))) {
        live_forget(&r->table, l);
        live_free(l);
        return 0;
    }
    join_cache(r, l);
    ready_push(l, true);
    return ++f->got >= AFFORDABLE_AT_ONCE;
}

enum affordable admit_search(struct runner *r)
{
    struct filling f = {.r = r};
    struct err e = {0};
    for (const struct lane *lane = r->lanes; lane; lane = lane->next)
        for (const struct live *l = lane->first; l; l = l->next)
            if (fits(r, l))
                return AFFORDABLE_HELD;
    for (struct lane *lane = r->lanes; lane && f.got == 0; lane = lane->next)
        if (!lane->closed && store_ready(r->o->store, lane->name, SIZE_MAX, in_memory,
                                         on_affordable, &f, &e) < 0)
            log_error("%s", e.text);
    return f.got > 0 ? AFFORDABLE_READY : AFFORDABLE_NONE;
}

/* The admission is off: as if it had never been thought of. */
void admit_undo(struct runner *r, struct live *l)
{
    struct buckets *b = l->ticketed ? shared_buckets(r, l->lane) : NULL;
    if (b)
        buckets_dropped(b, &l->ticket, runner_mono(r));
    l->ticketed = false;
    if (l->cached.count > 0)
        cache_ended(&l->lane->cache, &l->cached, NULL, runner_mono(r));
    lane_dropped(l->lane);
    if (l->brake)
        l->brake->in_flight--;
    money_undone(r, l);
    r->out--;
    r->out_bytes -= l->worst_bytes;
    r->admitted--;
}

/* The row is on disk: now the request may leave. */
void admit_start(struct runner *r, struct live *l, const struct move *v)
{
    struct err e = {0};
    if (v->changed != 1) {
        admit_undo(r, l); /* canceled or revised since it was read */
        live_forget(&r->table, l);
        live_free(l);
        return;
    }
    r->tally.sent++;
    l->job.sendings++;
    if (l->job.first_started == 0)
        l->job.first_started = l->started_wall;
    if (r->stop) {
        l->note = NOTE_TAKEN_BACK;
    } else {
        struct sending s = {.owner = l,
                            .model = l->routed.model,
                            .effort = l->routed.effort,
                            .max_tokens = live_max_tokens(l),
                            .stream = l->cache_say.word == CACHE_LEAD,
                            .raised = l->job.raised > 0,
                            .asks = l->job.asks,
                            .members = l->job.body,
                            .members_len = l->job.body_len};
        struct textbuf marked = {0};
        if (l->cache_say.marks.count > 0) {
            prefix_mark(&marked, l->job.body, l->job.body_len, &l->prefix,
                        &l->cache_say.marks);
            if (!marked.failed) {
                s.members = marked.at;
                s.members_len = marked.len;
            }
        }
        effect_before("start", l->attempt);
        l->call = r->sender->start(r->sender, l, &s, 1, &e);
        effect_after("start", l->attempt);
        textbuf_free(&marked);
        if (l->call) {
            l->where = LIVE_OUT;
            return;
        }
        log_error("job=%s could not be sent: %s", l->job.name, e.text);
        l->note = NOTE_TAKEN_BACK;
    }
    l->where = LIVE_NOTED;
    l->next = NULL;
    *r->noted_last = l;
    r->noted_last = &l->next;
    runner_poke(r);
}

/* Is there anything that waits, and until when (monotonic)? In words, too. */
bool admit_waiting(struct runner *r, int64_t *ask_at, char *says, size_t size)
{
    int64_t now = runner_mono(r), soonest = 0;
    bool waiting = false;
    *says = '\0';
    for (struct lane *l = r->lanes; l; l = l->next) {
        int64_t at;
        char why[LANE_WHY_MAX + 80];
        if (l->first == NULL && l->dry)
            continue;
        enum lane_state s = lane_state(l, now, &at);
        if (s == LANE_CLOSED)
            continue; /* no time will open it */
        waiting = true;
        if (s == LANE_OPEN)
            at = l->cache_ask_at > now ? l->cache_ask_at : 0;
        if (at > 0 && (soonest == 0 || at < soonest))
            soonest = at;
        if ((s == LANE_HELD || s == LANE_TRIPPED) && *says == '\0')
            snprintf(says, size, "%.60s: %s", l->name,
                     lane_says(l, now, why, sizeof why));
    }
    if (waiting && now < r->account_hold) {
        soonest = r->account_hold;
        snprintf(says, size, "%s", r->account_why);
    }
    if (waiting && r->endpoint.open) {
        /* Past that moment a probe is out, ours or another runner's. */
        soonest = r->endpoint.probe_at > now ? r->endpoint.probe_at
                                             : now + ENDPOINT_LOOK_MS;
        snprintf(says, size, "%.120s; one probe at a time", r->endpoint_says);
    }
    if (waiting && r->disk_short) {
        soonest = now + 1000;
        snprintf(says, size, "%s", r->disk_says);
    }
    if (waiting && r->probing && r->out == 0 && now >= r->account_hold) {
        soonest = now + 1000; /* another runner may be probing for us */
        snprintf(says, size, "one request at a time until the account answers");
    }
    if (waiting && r->closed) {
        soonest = now + r->closed_until - runner_wall(r);
        snprintf(says, size, "outside of window.open");
    }
    if (waiting && r->paused) {
        soonest = 0;
        snprintf(says, size, "paused on request; nightmill resume goes on");
    } else if (r->next_rest) {
        int64_t at = now + r->next_rest - runner_wall(r);
        waiting = true;
        if (soonest == 0 || at < soonest)
            soonest = at > now ? at : now;
    }
    *ask_at = soonest;
    return waiting;
}

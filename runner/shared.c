/*
 * What runners of this machine share while they run: one breaker an endpoint, so that an
 * outage is probed once and not once a queue; one set of buckets and one hold a lane, so
 * that two queues of one account do not refuse each other.
 */
#include "runner/machine.h"

#include "runner/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct shared_endpoint {
    struct breaker breaker;
    int prober; /* slot + 1; 0: nobody */
};

static void prober_died(void *bytes, int slot)
{
    struct shared_endpoint *x = bytes;
    if (x->prober == slot + 1)
        x->prober = 0;
}

static struct shared_endpoint *endpoint_lock(struct runner *r)
{
    struct shared_endpoint *x = share_lock(r->endpoint_share);
    share_bury(r->endpoint_share, prober_died);
    return x;
}

static void endpoint_unlock(struct runner *r, const struct shared_endpoint *x)
{
    r->endpoint = x->breaker;
    share_unlock(r->endpoint_share);
}

/* --- lanes --- */

static void lane_name(const char *account, const char *lane, char *buf, size_t size)
{
    snprintf(buf, size, "lane %s %s", account, lane);
}

static void runner_died(void *bytes, int slot)
{
    struct shared_lane *x = bytes;
    buckets_free_slot(&x->buckets, x->slot[slot], x->buckets.at);
    x->slot[slot] = -1;
}

static void lane_join(struct runner *r, struct lane *l)
{
    char name[ACCOUNT_NAME_MAX + LANE_NAME_MAX + 16];
    struct err why = {0};
    lane_name(r->account, l->name, name, sizeof name);
    l->share = share_open(account_where(r->o->accounts), name,
                          sizeof(struct shared_lane), &why);
    if (l->share == NULL)
        return;
    if (why.code)
        log_warn("lane=%s %s: paced without regard to other runners", l->name,
                 why.text);
    struct shared_lane *x = share_bytes(l->share); /* it comes locked */
    if (share_first(l->share)) {
        for (int i = 0; i < SHARE_SLOTS; i++)
            x->slot[i] = -1;
        /* The account store has the hold, by the wall's clock; these are of a time that
         * may have ended with the last boot. */
        x->hold_until = x->buckets.gate_until = 0;
        *x->why = '\0';
    }
    if (!buckets_sane(&x->buckets))
        buckets_init(&x->buckets, runner_mono(r));
    else if (share_first(l->share))
        for (int i = 0; i < BUCKET_SLOTS; i++)
            buckets_free_slot(&x->buckets, i, runner_mono(r));
    x->slot[share_slot(l->share)] = buckets_join(&x->buckets, runner_mono(r));
    share_unlock(l->share);
}

static void lane_leave(struct runner *r, struct lane *l)
{
    if (l->share == NULL)
        return;
    shared_done(r);
    struct shared_lane *x = share_lock(l->share);
    runner_died(x, share_slot(l->share));
    share_unlock(l->share);
    share_close(l->share);
    l->share = NULL;
}

struct buckets *shared_buckets(struct runner *r, struct lane *l)
{
    assert(l);
    if (r->locked != l) {
        shared_done(r);
        if (l->share == NULL)
            lane_join(r, l);
        if (l->share == NULL)
            return NULL; /* no memory */
        share_lock(l->share);
        r->locked = l;
        share_bury(l->share, runner_died);
    }
    struct shared_lane *x = share_bytes(l->share);
    if (x->hold_until > l->hold_until) {
        l->hold_until = x->hold_until;
        snprintf(l->why, sizeof l->why, "%s", x->why);
    }
    return &x->buckets;
}

int shared_slot(const struct lane *l)
{
    const struct shared_lane *x = share_bytes(l->share);
    return x->slot[share_slot(l->share)];
}

void shared_done(struct runner *r)
{
    if (r->locked)
        share_unlock(r->locked->share);
    r->locked = NULL;
}

void shared_hold(struct runner *r, struct lane *l)
{
    if (shared_buckets(r, l) == NULL)
        return;
    struct shared_lane *x = share_bytes(l->share);
    if (l->hold_until <= x->hold_until)
        return;
    x->hold_until = l->hold_until;
    snprintf(x->why, sizeof x->why, "%s", l->why);
}

/* What is out was taken from the buckets of another name, which nobody will ask again. */
void shared_renamed(struct runner *r)
{
    int64_t now = runner_mono(r);
    for (struct lane *l = r->lanes; l; l = l->next)
        lane_leave(r, l);
    for (size_t i = 0; i < LIVE_BUCKETS; i++)
        for (struct live *l = r->table.bucket[i]; l; l = l->hash_next) {
            if (!l->ticketed)
                continue;
            struct buckets *b = shared_buckets(r, l->lane);
            l->ticketed = b != NULL;
            if (b)
                l->ticket = buckets_take(b, shared_slot(l->lane), &l->ask,
                                         &(struct bucket_look){.may = true}, now);
        }
    shared_done(r);
}

bool shared_look_at(const char *dir, const char *account, const char *lane,
                    struct shared_lane *ret)
{
    char name[ACCOUNT_NAME_MAX + LANE_NAME_MAX + 16];
    lane_name(account, lane, name, sizeof name);
    return share_look(dir, name, ret, sizeof *ret) && buckets_sane(&ret->buckets);
}

/* --- opening --- */

int shared_open(struct runner *r, struct err *e)
{
    char name[2048];
    struct err why = {0};
    snprintf(name, sizeof name, "endpoint %s", r->conf->api.base_url);
    r->endpoint_share = share_open(account_where(r->o->accounts), name,
                                   sizeof(struct shared_endpoint), &why);
    if (r->endpoint_share == NULL)
        return err_set(e, ERR_NOMEM, "out of memory");
    if (why.code)
        log_warn("%s: other runners' outages are not seen", why.text);
    struct shared_endpoint *x = share_bytes(r->endpoint_share); /* it comes locked */
    if (share_first(r->endpoint_share))
        *x = (struct shared_endpoint){0};
    endpoint_unlock(r, x);
    return 0;
}

void shared_close(struct runner *r)
{
    if (r->endpoint_share)
        shared_endpoint_unused(r);
    share_close(r->endpoint_share);
    r->endpoint_share = NULL;
    for (struct lane *l = r->lanes; l; l = l->next)
        lane_leave(r, l);
}

void shared_look(struct runner *r)
{
    bool was = r->endpoint.open;
    endpoint_unlock(r, endpoint_lock(r));
    if (was != r->endpoint.open && *r->endpoint_says == '\0')
        snprintf(r->endpoint_says, sizeof r->endpoint_says,
                 "unreachable, as another runner found");
}

bool shared_endpoint_probe(struct runner *r)
{
    struct shared_endpoint *x = endpoint_lock(r);
    int ours = share_slot(r->endpoint_share) + 1;
    if (x->prober == 0)
        x->prober = ours;
    r->endpoint_probe = x->prober == ours;
    endpoint_unlock(r, x);
    return r->endpoint_probe;
}

void shared_endpoint_unused(struct runner *r)
{
    if (!r->endpoint_probe)
        return;
    struct shared_endpoint *x = endpoint_lock(r);
    if (x->prober == share_slot(r->endpoint_share) + 1)
        x->prober = 0;
    r->endpoint_probe = false;
    endpoint_unlock(r, x);
}

bool shared_endpoint_bad(struct runner *r, bool probe)
{
    struct shared_endpoint *x = endpoint_lock(r);
    bool tripped = breaker_bad(&x->breaker, ENDPOINT_TRIP, probe, runner_mono(r));
    endpoint_unlock(r, x);
    if (probe)
        shared_endpoint_unused(r);
    return tripped;
}

void shared_endpoint_good(struct runner *r, bool probe)
{
    /* The usual case costs nothing: there is no row of failures to end. */
    if (r->endpoint.row > 0 || r->endpoint.open) {
        struct shared_endpoint *x = endpoint_lock(r);
        breaker_good(&x->breaker);
        endpoint_unlock(r, x);
    }
    if (probe)
        shared_endpoint_unused(r);
}

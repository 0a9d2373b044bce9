/*
 * What runners of this machine share while they run: one breaker an endpoint, so that an
 * outage is probed once and not once a queue.
 */
#include "runner/machine.h"

#include "runner/log.h"

#include <stdio.h>

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
    struct shared_endpoint *x = endpoint_lock(r);
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

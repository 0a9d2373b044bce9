#include "runner/lane.h"

#include "runner/when.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    HOLD_UNSAID_MS =
        1000, /* a rate limit that names no time: base and cap of backoff */
    HOLD_UNSAID_CAP_MS = 60000,
};

void lane_init(struct lane *l, const char *name, int limit)
{
    *l = (struct lane){
        .told = LANE_OPEN, .bound = BUCKET_NONE, .look = {.binds = BUCKET_NONE}};
    snprintf(l->name, sizeof l->name, "%s", name);
    window_init(&l->window, limit);
    l->last = &l->first;
}

enum lane_state lane_state(const struct lane *l, int64_t now, int64_t *ask_at)
{
    *ask_at = 0;
    if (l->closed)
        return LANE_CLOSED;
    if (l->hold_until > now) {
        *ask_at = l->hold_until;
        return LANE_HELD;
    }
    if (l->breaker.open && (l->in_flight > 0 || now < l->breaker.probe_at)) {
        *ask_at = l->in_flight > 0 ? 0 : l->breaker.probe_at;
        return LANE_TRIPPED;
    }
    if (!window_may_start(&l->window, l->in_flight))
        return LANE_FULL;
    if (l->paced && (l->look.ask_at == 0 || now < l->look.ask_at)) {
        *ask_at = l->look.ask_at;
        return LANE_PACED;
    }
    return LANE_OPEN;
}

void lane_paced(struct lane *l, const struct bucket_look *look)
{
    l->look = *look;
    l->paced = !look->may;
}

const char *lane_state_name(enum lane_state s)
{
    static const char *const names[] = {
        [LANE_OPEN] = "open", [LANE_PACED] = "paced",     [LANE_FULL] = "full",
        [LANE_HELD] = "held", [LANE_TRIPPED] = "tripped", [LANE_CLOSED] = "closed"};
    return names[s];
}

const char *lane_says(const struct lane *l, int64_t now, char *buf, size_t size)
{
    int64_t at;
    char span[40];
    switch (lane_state(l, now, &at)) {
    case LANE_OPEN:
        snprintf(buf, size, "open");
        break;
    case LANE_FULL:
        snprintf(buf, size, "window full %d/%d", l->in_flight, l->window.size);
        break;
    case LANE_PACED:
        snprintf(buf, size, "%s", l->pace_says);
        break;
    case LANE_HELD:
        snprintf(buf, size, "held %s more (%s)", when_span(at - now, span, sizeof span),
                 l->why);
        break;
    case LANE_TRIPPED:
        snprintf(buf, size, "one probe at a time after %d failures in a row (%s)",
                 l->breaker.row, l->why);
        break;
    case LANE_CLOSED:
        snprintf(buf, size, "closed (%s)", l->why);
        break;
    }
    return buf;
}

void lane_started(struct lane *l)
{
    l->in_flight++;
}

void lane_dropped(struct lane *l)
{
    l->paced = false;
    l->in_flight--;
}

/* The number behind `word`, as people write it: 58,276. 0: none. */
static double number_behind(const char *text, const char *word)
{
    const char *p = strstr(text, word);
    double n = 0;
    if (p == NULL)
        return 0;
    for (p += strlen(word); isdigit((unsigned char)*p) || *p == ','; p++)
        if (*p != ',')
            n = n * 10 + (*p - '0');
    return n;
}

void lane_refusal(const struct judgement *j, struct bucket_refused *ret)
{
    static const enum bucket_refusal kinds[] = {
        [RATE_NONE] = REFUSED_QUOTA,
        [RATE_QUOTA] = REFUSED_QUOTA,
        [RATE_CONCURRENCY] = REFUSED_CONCURRENCY,
        [RATE_ACCELERATION] = REFUSED_ACCELERATION,
        [RATE_EDGE] = REFUSED_EDGE};
    static const struct {
        const char *word;
        enum bucket bucket;
    } words[] = {{"output token", BUCKET_OUTPUT},
                 {"input token", BUCKET_INPUT},
                 {"request tokens", BUCKET_INPUT},
                 {"requests per", BUCKET_REQUESTS}};
    *ret = (struct bucket_refused){.kind = kinds[j->rate],
                                   .bucket = BUCKET_NONE,
                                   .retry_after_ms = j->retry_ms,
                                   .headers = bucket_headers_none};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (ret->bucket == BUCKET_NONE && strstr(j->sentence, words[i].word))
            ret->bucket = words[i].bucket;
    if (j->rate == RATE_ACCELERATION) {
        ret->stated_now = number_behind(j->sentence, "current limit is ");
        ret->stated_next = number_behind(j->sentence, "will increase to ");
    }
}

static void say(struct lane *l, const struct judgement *j)
{
    snprintf(l->why, sizeof l->why, "%s: %.150s", verdict_name(j->verdict),
             j->sentence);
}

/* The whole of what the answer asks for, even hours; the shorter of two never wins. */
static bool hold(struct lane *l, const struct lane_end *end, int64_t now)
{
    const struct judgement *j = end->j;
    int64_t span = j->retry_ms;
    if (span < 0 && j->until > end->wall_now)
        span = j->until - end->wall_now;
    if (span < 0)
        span = HOLD_UNSAID_MS / 4 + backoff_ms(l->edge_row++, HOLD_UNSAID_MS,
                                               HOLD_UNSAID_CAP_MS, end->random);
    else
        l->edge_row = 0;
    if (now + span <= l->hold_until)
        return false;
    l->hold_until = now + span;
    say(l, j);
    return true;
}

bool lane_ended(struct lane *l, const struct lane_end *end, int64_t now)
{
    int in_flight = l->in_flight--;
    bool modelled = l->look.binds != BUCKET_NONE;

    l->paced = false;
    switch (end->verdict) {
    case VERDICT_ACCEPTED:
    case VERDICT_TRUNCATED:
    case VERDICT_REFUSED:
        breaker_good(&l->breaker);
        l->edge_row = 0;
        window_good(&l->window, in_flight, end->started_at);
        return false;
    case VERDICT_RATE_LIMITED:
        /* A quota is the buckets' matter, where the headers tell of them; too many at
         * once is the window's. */
        if (end->j->rate == RATE_CONCURRENCY ||
            (!modelled && end->j->rate != RATE_EDGE))
            window_cut(&l->window, now, end->started_at);
        return end->alone && end->j->rate == RATE_QUOTA ? false : hold(l, end, now);
    case VERDICT_OVERLOADED:
        window_cut(&l->window, now, end->started_at);
        if (breaker_bad(&l->breaker, LANE_TRIP, end->probe, now))
            say(l, end->j);
        return false;
    case VERDICT_TRANSIENT:
        /* An answer that never came tells of the way there, not of the lane. */
        if (!end->bare_reset && breaker_bad(&l->breaker, LANE_TRIP, end->probe, now))
            say(l, end->j);
        return false;
    case VERDICT_MODEL_DENIED:
        l->closed = true;
        say(l, end->j);
        return false;
    default:
        return false; /* the job's, the endpoint's or the account's affair */
    }
}

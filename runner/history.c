/*
 * What a report wants to know of a run afterwards, and no attempt's row tells: the limits
 * of each lane, when and why it was held, and what halted the run. Looked for in each
 * tick, and written within its list; so a hold that nothing was to be sent in is told as
 * well, and a run that nothing happens to writes nothing. The store bounds what it keeps.
 */
#include "runner/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AGAIN_MS = 1000 }; /* an end that comes so much earlier than told is told anew */

/* One thing that begins and ends: of one lane, or of all. Its words are copies, since a
 * list is written while the loop goes on. */
struct history_note {
    struct history_note *next;
    enum history_kind kind;
    const struct lane *lane; /* NULL: all */
    bool on, told;
    int64_t at, until, limits[BUCKETS]; /* wall ms; until 0: nobody knows */
    char says[ACCOUNT_SAYS_MAX];
};

struct history {
    struct history_note *notes;
    enum stop stop;
};

static struct history_note *note_of(struct runner *r, enum history_kind kind,
                                    const struct lane *lane)
{
    struct history_note *n = r->history->notes;
    while (n && (n->kind != kind || n->lane != lane))
        n = n->next;
    if (n || (n = calloc(1, sizeof *n)) == NULL)
        return n;
    n->kind = kind;
    n->lane = lane;
    n->next = r->history->notes;
    r->history->notes = n;
    return n;
}

static void tell(struct runner *r, struct moves *m, struct history_note *n)
{
    struct move *v = moves_add(m, MOVE_HISTORY);
    if (v == NULL)
        return; /* told in the next tick */
    n->told = true;
    v->run = r->run;
    v->name = n->lane ? n->lane->name : "";
    v->text = n->says;
    v->history.kind = n->kind;
    v->history.word = n->kind == HISTORY_HALT ? stop_name(r->history->stop) : "";
    v->history.at = n->at;
    v->history.until = n->until;
    v->history.rpm = n->limits[BUCKET_REQUESTS];
    v->history.itpm = n->limits[BUCKET_INPUT];
    v->history.otpm = n->limits[BUCKET_OUTPUT];
}

static void say(struct history_note *n, const char *says)
{
    snprintf(n->says, sizeof n->says, "%s", says);
}

/* `until`: 0 where only an event ends it. */
static void look(struct runner *r, struct moves *m, enum history_kind kind,
                 const struct lane *lane, bool on, int64_t until, const char *says)
{
    int64_t now = runner_wall(r);
    struct history_note *n;
    if (!on && r->history->notes == NULL)
        return;
    if ((n = note_of(r, kind, lane)) == NULL)
        return;
    if (on && (!n->on || (n->until > 0 && until != n->until))) {
        n->at = n->on ? n->at : now;
        n->on = true;
        n->until = until;
        n->told = false;
        say(n, says);
    } else if (!on && n->on) {
        n->on = false;
        if (n->until == 0 || now + AGAIN_MS < n->until) {
            n->until = now;
            n->told = false;
        }
    }
    if (!n->told && n->at > 0)
        tell(r, m, n);
}

static void look_at_limits(struct runner *r, struct moves *m, const struct lane *l)
{
    const int64_t limits[BUCKETS] = {[BUCKET_REQUESTS] = l->rpm,
                                     [BUCKET_INPUT] = l->itpm,
                                     [BUCKET_OUTPUT] = l->otpm};
    struct history_note *n = note_of(r, HISTORY_LIMITS, l);
    if (n == NULL)
        return;
    if (memcmp(n->limits, limits, sizeof limits) != 0) {
        memcpy(n->limits, limits, sizeof limits);
        n->at = n->until = runner_wall(r);
        n->told = false;
    }
    if (!n->told && n->at > 0)
        tell(r, m, n);
}

static void look_at_halt(struct runner *r, struct moves *m)
{
    struct history_note *n;
    if (r->stop == STOP_NONE || (n = note_of(r, HISTORY_HALT, NULL)) == NULL)
        return;
    if (r->history->stop != r->stop) {
        r->history->stop = r->stop;
        n->at = runner_wall(r);
        n->until = r->stop_until;
        n->told = false;
        say(n, r->stop_says);
    }
    if (!n->told)
        tell(r, m, n);
}

void history_look(struct runner *r, struct moves *m)
{
    int64_t now = runner_mono(r), wall = runner_wall(r);
    if (r->history == NULL && (r->history = calloc(1, sizeof *r->history)) == NULL)
        return;
    for (const struct lane *l = r->lanes; l; l = l->next) {
        bool held = l->hold_until > now;
        look_at_limits(r, m, l);
        look(r, m, HISTORY_HOLD, l, held, held ? wall + l->hold_until - now : 0,
             l->why);
        look(r, m, HISTORY_TRIP, l, l->breaker.open, 0, l->why);
        look(r, m, HISTORY_CLOSED, l, l->closed, 0, l->why);
    }
    bool held = r->account_hold > now;
    look(r, m, HISTORY_ACCOUNT, NULL, held, held ? wall + r->account_hold - now : 0,
         r->account_why);
    look(r, m, HISTORY_ENDPOINT, NULL, r->endpoint.open, 0, r->endpoint_says);
    look_at_halt(r, m);
}

void history_untold(struct runner *r)
{
    for (struct history_note *n = r->history ? r->history->notes : NULL; n; n = n->next)
        n->told = false;
}

void history_free(struct history *h)
{
    for (struct history_note *n = h ? h->notes : NULL, *next; n; n = next) {
        next = n->next;
        free(n);
    }
    free(h);
}

/*
 * What endings mean: the sender reports, it is judged and noted; the next tick turns
 * what was noted into moves; after the commit memory follows. A halt alone takes effect
 * at once: from the moment it is known nothing more may leave.
 */
#include "runner/machine.h"

#include "jobs/textbuf.h"
#include "runner/answer.h"
#include "runner/effect.h"
#include "runner/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void note(struct runner *r, struct live *l)
{
    l->where = LIVE_NOTED;
    l->call = NULL;
    l->next = NULL;
    *r->noted_last = l;
    r->noted_last = &l->next;
    runner_poke(r);
}

/* --- the sender reports --- */

/* Do the headers show every bucket full? Then a refusal for rate is the job's own. */
static bool buckets_full(const struct answer *a)
{
    struct answer_limits x;
    if (!answer_limits(a, &x))
        return false;
    bool any = false;
    for (int i = 0; i < LIMIT_COUNT; i++) {
        if (x.limit[i] < 0 || x.remaining[i] < 0)
            continue;
        any = true;
        if (x.remaining[i] < x.limit[i])
            return false;
    }
    return any;
}

/* Whose key it is, and what its limits are, as the answers' headers say. */
static void learn(struct runner *r, struct lane *lane, const struct answer *a)
{
    struct err e = {0};
    char org[80], workspace[80], name[ACCOUNT_NAME_MAX];
    if (!r->account_learned &&
        answer_header(a, "anthropic-organization-id", org, sizeof org)) {
        if (answer_header(a, "anthropic-workspace-id", workspace, sizeof workspace) ==
            NULL)
            snprintf(workspace, sizeof workspace, "default");
        snprintf(name, sizeof name, "%s/%s", org, workspace);
        if (strcmp(name, r->account) != 0 &&
            account_learn(r->o->accounts, r->fingerprint, name, &e) < 0)
            log_warn("%s", e.text);
        bool renamed = strcmp(name, r->account) != 0;
        snprintf(r->account, sizeof r->account, "%s", name);
        r->account_learned = r->account_untold = true;
        if (renamed) {
            shared_renamed(r);
            money_renamed(r);
        }
    }
    struct answer_limits x;
    if (!answer_limits(a, &x) || x.limit[LIMIT_REQUESTS] == lane->rpm)
        return;
    lane->rpm = x.limit[LIMIT_REQUESTS];
    lane->itpm = x.limit[LIMIT_INPUT];
    lane->otpm = x.limit[LIMIT_OUTPUT];
    const struct {
        const char *name;
        int64_t limit;
    } told[] = {{"rpm", lane->rpm}, {"itpm", lane->itpm}, {"otpm", lane->otpm}};
    char text[120] = "";
    for (size_t i = 0, n = 0; i < 3; i++)
        if (told[i].limit > 0)
            n += (size_t)snprintf(text + n, sizeof text - n, " %s=%" PRId64,
                                  told[i].name, told[i].limit);
    log_info("lane=%s limits%s", lane->name, *text ? text : " are not told");
    struct account_lane kept = {
        .hold_until = 0, .rpm = lane->rpm, .itpm = lane->itpm, .otpm = lane->otpm};
    if (account_lane_set(r->o->accounts, r->account, lane->name, &kept, &e) < 0)
        log_warn("%s", e.text);
}

static void halt(struct runner *r, enum stop why, const struct judgement *j)
{
    struct err e = {0};
    struct account_halt h = {.at = runner_wall(r), .until = j->until};
    snprintf(h.reason, sizeof h.reason, "%s", verdict_name(j->verdict));
    snprintf(h.says, sizeof h.says, "%s", j->sentence);
    runner_begin_stop(r, why, j->sentence, j->until);
    if (account_halt_set(r->o->accounts, r->account, &h, &e) < 0)
        log_warn("%s", e.text);
    account_probe_end(r->o->accounts);
}

/*
 * Money is waited for: what has not left is taken back, and one request at a time goes to
 * see, each after a longer while. It is on record for other runs as any halt is.
 */
static void await_money(struct runner *r, const struct judgement *j, const char *what)
{
    struct err e = {0};
    struct account_halt h = {.at = runner_wall(r), .until = j->until};
    int64_t first = r->conf->limits.credit_probe_ms, now = runner_mono(r);
    bool known = r->credit_wait > 0;
    if (known && now < r->account_hold)
        return; /* others that had left tell the same */
    r->credit_wait = known ? r->credit_wait * 2 : first;
    if (r->credit_wait > 15 * first)
        r->credit_wait = 15 * first;
    r->account_hold = now + r->credit_wait;
    snprintf(r->account_why, sizeof r->account_why,
             "%s; one request goes in %.0f s to see", what,
             (double)r->credit_wait / 1000);
    r->probing = r->probe_looked = true;
    snprintf(h.reason, sizeof h.reason, "%s", verdict_name(j->verdict));
    snprintf(h.says, sizeof h.says, "%s", j->sentence);
    if (account_halt_set(r->o->accounts, r->account, &h, &e) < 0)
        log_warn("%s", e.text);
    account_probe_end(r->o->accounts);
    if (!known)
        tell_line(r->tell, true,
                  "%s (\"%s\"); waiting, and trying one request now and "
                  "then. Add credit or raise the limit, or end the run: the same "
                  "command goes "
                  "on later.",
                  what, j->sentence);
    ended_cancel_all(r, true);
}

/* The account answered as it should: a halt on record is over. */
static void unhalt(struct runner *r)
{
    struct err e = {0};
    if (!r->probing)
        return;
    r->probing = false;
    r->credit_wait = 0;
    if (account_halt_clear(r->o->accounts, r->account, &e) < 0)
        log_warn("%s", e.text);
    account_probe_end(r->o->accounts);
    log_info("account=%s answers again: the lanes open", r->account);
}

static void act_at_once(struct runner *r, const struct judgement *j)
{
    int64_t now = runner_mono(r);
    switch (j->verdict) {
    case VERDICT_NO_CREDIT:
        if (r->o->wait_for_credit)
            await_money(r, j, "out of credit");
        else
            halt(r, STOP_NO_CREDIT, j);
        break;
    case VERDICT_SPEND_LIMIT:
        if (r->watch)
            await_money(r, j, "a spend limit of the account is reached");
        else
            halt(r, STOP_SPEND_LIMIT, j);
        break;
    case VERDICT_KEY_REFUSED:
        halt(r, STOP_KEY, j);
        break;
    case VERDICT_PLAN_LIMIT: {
        int64_t span = j->retry_ms >= 0 ? j->retry_ms : j->until - runner_wall(r);
        if (span < 60000)
            span = 60000;
        r->account_hold = now + span;
        snprintf(r->account_why, sizeof r->account_why, "plan limit: %.150s",
                 j->sentence);
        break;
    }
    case VERDICT_ACCEPTED:
    case VERDICT_TRUNCATED:
    case VERDICT_REFUSED:
        unhalt(r);
        break;
    default:
        break;
    }
}

static void on_report(void *owner, const struct answer *a, char **keep)
{
    struct live *l = owner;
    struct runner *r = l->runner;
    l->where = LIVE_NOTED; /* a halt takes back what is out: this one is not any more */
    effect_before("answered", l->attempt);
    effect_after("answered", l->attempt);
    verdict_judge(a,
                  &(struct verdict_about){.wall_ms = runner_wall(r),
                                          .model_from_job = l->routed.from_job,
                                          .model_is_tiers = !l->routed.from_job},
                  &l->judged);
    l->note = NOTE_ANSWER;
    l->left = a->left;
    l->status = a->status;
    l->no_answer = a->left && a->broke != ANSWER_WHOLE && a->status < 400;
    l->full = l->judged.verdict == VERDICT_RATE_LIMITED && buckets_full(a);
    if (!l->judged.known)
        log_warn("job=%s an answer of an unknown shape: status=%ld why=%s body=%.600s",
                 l->job.name, a->status, a->why ? a->why : "", a->body);
    if (a->body_len > 0 && !l->no_answer &&
        (l->judged.verdict == VERDICT_ACCEPTED ||
         l->judged.verdict == VERDICT_TRUNCATED ||
         l->judged.verdict == VERDICT_REFUSED)) {
        l->message_len = a->body_len;
        l->message = *keep ? *keep : strndup(a->body, a->body_len);
        *keep = NULL;
    }
    r->answer_at = runner_mono(r);
    act_at_once(r, &l->judged);
    log_debug("job=%s attempt=%" PRId64 " lane=%s model=%s status=%ld verdict=\"%s\" "
              "ms=%" PRId64 " window=%d in_flight=%d request_id=%s says=\"%s\"",
              l->job.name, l->attempt, l->lane->name, l->routed.model, l->status,
              verdict_name(l->judged.verdict), runner_mono(r) - l->started_at,
              l->lane->window.size, l->lane->in_flight, l->judged.request_id,
              l->judged.sentence);
    note(r, l);
}

static void on_headers(void *owner, const struct answer *a)
{
    struct live *l = owner;
    struct runner *r = l->runner;
    struct answer_limits x;
    learn(r, l->lane, a);
    l->limits = bucket_headers_none;
    bool told = answer_limits(a, &x);
    if (!told && l->cached.count == 0)
        return;
    for (int i = 0; i < LIMIT_COUNT; i++) {
        l->limits.limit[i] = x.limit[i];
        l->limits.remaining[i] = x.remaining[i];
    }
    if (a->status >= 300 || l->headed)
        return; /* told with its ending, if at all */
    l->headed = true;
    l->headed_next = NULL;
    *r->headed_last = l;
    r->headed_last = &l->headed_next;
    runner_poke(r);
}

static void on_ended(void *owner)
{
    (void)owner; /* a message's call is its one attempt */
}

const struct sender_told ended_told = {on_report, on_ended, on_headers};

/* --- cancelling --- */

void ended_cancel(struct runner *r, struct live *l)
{
    l->left = r->sender->left(l->call);
    r->sender->cancel(l->call);
    l->note = l->left ? NOTE_CUT_OFF : NOTE_TAKEN_BACK;
    l->no_answer = l->left;
    note(r, l);
}

void ended_cancel_all(struct runner *r, bool only_unsent)
{
    for (size_t i = 0; i < LIVE_BUCKETS; i++)
        for (struct live *l = r->table.bucket[i]; l; l = l->hash_next)
            if (l->where == LIVE_OUT && !(only_unsent && r->sender->left(l->call)))
                ended_cancel(r, l);
}

/* --- blame --- */

static void suspect_add(struct runner *r, const struct live *l, struct lane *lane)
{
    struct suspect s = {.job = l->job.id,
                        .revision = l->job.revision,
                        .at = runner_mono(r),
                        .attempts = l->job.attempts,
                        .silent = l->job.silent,
                        .bare = lane == NULL,
                        .lane = lane};
    for (int i = 0; i < r->suspects_len; i++)
        if (r->suspects[i].job == s.job || (lane && r->suspects[i].lane == lane)) {
            r->suspects[i] = s; /* a lane has one: the probe that failed last */
            return;
        }
    if (r->suspects_len < SUSPECTS_MAX)
        r->suspects[r->suspects_len++] = s;
}

/* The job goes back with one attempt more, wherever it is by now. */
static void charge(struct runner *r, const struct suspect *s, struct moves *m)
{
    struct live *l = live_find(&r->table, s->job);
    if (l && l->job.revision != s->revision)
        return;
    int attempts = l ? l->job.attempts : s->attempts;
    int silent = l ? l->job.silent : s->silent;
    if (l && l->where != LIVE_READY) {
        l->job.attempts++; /* its own settlement writes them */
        l->job.silent += s->bare;
        return;
    }
    struct settled to = settle_charge(attempts, silent, s->bare,
                                      (int)r->conf->limits.attempts);
    struct move *v = moves_add(m, MOVE_COUNT);
    if (v == NULL)
        return;
    v->job = s->job;
    v->count = s->revision;
    v->at.attempts = 1;
    v->at.silent = s->bare;
    v->to = to.to;
    v->outcome = to.outcome;
    v->now = runner_wall(r);
    v->text = to.outcome == OUTCOME_NO_ANSWER
                  ? "its sendings ended without any answer while others got through"
                  : "it failed each time while others got through";
    if (l == NULL)
        return;
    l->job.attempts++;
    l->job.silent += s->bare;
    if (to.to != JOB_QUEUED) {
        ready_remove(l);
        live_forget(&r->table, l);
        live_free(l);
    }
}

/* Somebody got through: those who did not, and left before, are to blame themselves. */
static void charge_suspects(struct runner *r, const struct live *ok, struct moves *m)
{
    int kept = 0;
    for (int i = 0; i < r->suspects_len; i++) {
        struct suspect s = r->suspects[i];
        if (s.at < ok->started_at && s.job != ok->job.id &&
            (s.lane == NULL || s.lane == ok->lane))
            charge(r, &s, m);
        else if (s.job != ok->job.id)
            r->suspects[kept++] = s;
    }
    r->suspects_len = kept;
}

static void clear_suspects(struct runner *r)
{
    int kept = 0;
    for (int i = 0; i < r->suspects_len; i++)
        if (r->suspects[i].lane)
            r->suspects[kept++] = r->suspects[i];
    r->suspects_len = kept;
}

/* --- endpoint and brake --- */

static void endpoint_bad(struct runner *r, const struct live *l)
{
    snprintf(r->endpoint_says, sizeof r->endpoint_says, "unreachable: %.150s",
             l->judged.sentence);
    if (!shared_endpoint_bad(r, l->probe))
        return;
    clear_suspects(r); /* it was not them */
    log_warn("endpoint unreachable: %s; one probe at a time, no attempts are used",
             l->judged.sentence);
}

static void endpoint_told(struct runner *r, const struct live *l, struct moves *m)
{
    const struct judgement *j = &l->judged;
    if (j->verdict == VERDICT_UNREACHABLE) {
        endpoint_bad(r, l);
    } else if (j->bare_reset && l->no_answer) {
        if (r->last_reset != l->job.id)
            endpoint_bad(r, l);
        r->last_reset = l->job.id;
    } else if (l->status > 0) {
        if (r->endpoint.open)
            log_info("endpoint reachable again");
        shared_endpoint_good(r, l->probe);
        r->last_reset = 0;
        r->resets_len = 0;
        if (verdict_whose(j->verdict) == WHOSE_JOB && j->verdict != VERDICT_TRANSIENT)
            charge_suspects(r, l, m);
    }
}

static bool is_failure(const struct settled *s)
{
    return s->to == JOB_FAILED || s->to == JOB_PARKED;
}

/* Jobs of a lane that wait in memory are put back to wait on disk; `source` 0: all. */
static void drop_ready(struct runner *r, struct lane *lane, int64_t source)
{
    for (struct live *l = lane->first, *next; l; l = next) {
        next = l->next;
        if (source && l->job.source != source)
            continue;
        ready_remove(l);
        live_forget(&r->table, l);
        l->to_disk = true;
        live_free(l);
        lane->dry = false;
    }
}

static void brake_told(struct runner *r, const struct live *l, const struct settled *s)
{
    struct brake *b = l->brake;
    if (b == NULL)
        return;
    b->in_flight--;
    if (s->to == JOB_DONE) {
        b->streak = 0;
        b->proven = true;
    } else if (is_failure(s) && !l->canceled) {
        bool like = b->outcome == s->outcome && strcmp(b->type, l->judged.type) == 0;
        b->streak = like ? b->streak + 1 : 1;
        b->outcome = s->outcome;
        snprintf(b->type, sizeof b->type, "%s", l->judged.type);
    }
    if (b->streak < r->conf->limits.mass_failure || b->parking || b->parked)
        return;
    b->parking = true;
    snprintf(b->says, sizeof b->says, "%d like failures in a row: %.140s", b->streak,
             l->judged.sentence);
    tell_line(
        r->tell, true,
        "%s is parked after %d like failures in a row (%s). Mend it, or take it up "
        "again with `nightmill retry`.",
        b->path, b->streak, l->judged.sentence);
    ended_drop_source(r, b->source);
}

/* What waits in memory of a source that is being parked goes back to disk. */
void ended_drop_source(struct runner *r, int64_t source)
{
    for (struct lane *lane = r->lanes; lane; lane = lane->next)
        drop_ready(r, lane, source);
}

/* --- what was noted becomes moves, and tells the buckets --- */

_Static_assert((int)LIMIT_REQUESTS == BUCKET_REQUESTS &&
                   (int)LIMIT_INPUT == BUCKET_INPUT &&
                   (int)LIMIT_OUTPUT == BUCKET_OUTPUT && (int)LIMIT_COUNT == BUCKETS,
               "headers and buckets count alike");

/* Limits that are known bound what leaves: the window need not feel its way. */
static void open_window(struct lane *l, const struct buckets *b)
{
    for (int i = 0; i < BUCKETS; i++)
        if (b->one[i].limit > 0) {
            window_open(&l->window);
            return;
        }
}

void ended_headers(struct runner *r)
{
    for (struct live *l = r->headed; l; l = l->headed_next) {
        struct buckets *b = l->ticketed ? shared_buckets(r, l->lane) : NULL;
        l->headed = false;
        l->lane->paced = false;
        if (l->cached.count > 0)
            cache_began(&l->lane->cache, &l->cached, runner_mono(r));
        if (b == NULL)
            continue;
        buckets_headers(b, &l->ticket, &l->limits, runner_mono(r));
        open_window(l->lane, b); /* only good answers' headers are told here */
    }
    r->headed = NULL;
    r->headed_last = &r->headed;
    shared_done(r);
}

static void buckets_told(struct runner *r, struct live *l)
{
    const struct judgement *j = &l->judged;
    struct buckets *b = l->ticketed ? shared_buckets(r, l->lane) : NULL;
    int64_t now = runner_mono(r);
    l->ticketed = false;
    if (b == NULL)
        return;
    if (l->note == NOTE_TAKEN_BACK) {
        buckets_dropped(b, &l->ticket, now);
    } else if (l->note == NOTE_ANSWER && j->verdict == VERDICT_RATE_LIMITED) {
        struct bucket_refused refused;
        lane_refusal(j, &refused);
        refused.headers = l->limits;
        buckets_refused(b, &l->ticket, &refused, now);
    } else {
        bool used = l->note == NOTE_ANSWER && j->has_usage;
        const struct usage *u = &j->usage;
        buckets_ended(b, &l->ticket,
                      used ? u->input + u->cache_write_5m + u->cache_write_1h : -1,
                      used ? u->output : -1, now);
    }
    open_window(l->lane, b);
}

static void lane_told(struct runner *r, struct live *l)
{
    struct lane *lane = l->lane;
    int64_t now = runner_mono(r);
    buckets_told(r, l);
    if (l->cached.count > 0)
        cache_ended(&lane->cache, &l->cached,
                    l->note == NOTE_ANSWER && l->judged.has_usage ? &l->judged.usage
                                                                  : NULL,
                    now);
    if (l->note != NOTE_ANSWER) {
        lane_dropped(lane);
        return;
    }
    bool was_tripped = lane->breaker.open, was_closed = lane->closed;
    bool held = lane_ended(lane,
                           &(struct lane_end){.verdict = l->judged.verdict,
                                              .j = &l->judged,
                                              .started_at = l->started_at,
                                              .wall_now = runner_wall(r),
                                              .probe = l->probe,
                                              .bare_reset = l->judged.bare_reset,
                                              .alone = l->ticket.alone,
                                              .random = runner_random(r)},
                           now + 2); /* the loop counts whole milliseconds */
    if (held) {
        shared_hold(r, lane);
        struct err e = {0};
        struct account_lane kept = {.hold_span = lane->hold_until - now,
                                    .rpm = lane->rpm,
                                    .itpm = lane->itpm,
                                    .otpm = lane->otpm};
        kept.hold_until = runner_wall(r) + kept.hold_span;
        snprintf(kept.hold_why, sizeof kept.hold_why, "%s", lane->why);
        r->tally.held++;
        /* Written where somebody could use it: a second is over before it is read. */
        if (kept.hold_span >= 1000 &&
            account_lane_set(r->o->accounts, r->account, lane->name, &kept, &e) < 0)
            log_warn("%s", e.text);
    }
    if (held || lane->breaker.open != was_tripped || lane->closed != was_closed) {
        char says[LANE_WHY_MAX + 80];
        struct textbuf why = {0};
        int64_t at;
        enum lane_state s = lane_state(lane, now, &at);
        lane_says(lane, now, says, sizeof says);
        log_info("lane=%s %s window=%d", lane->name, says, lane->window.size);
        textbuf_json(&why, says);
        tell_event(r->tell, s == LANE_OPEN ? "lane_opened" : "lane_held",
                   runner_wall(r), "\"lane\":\"%s\",\"state\":\"%s\",\"why\":%s",
                   lane->name, lane_state_name(s), why.at ? why.at : "null");
        textbuf_free(&why);
        lane->told = s;
        if (s == LANE_CLOSED)
            drop_ready(r, lane, 0);       /* read anew, each asks for its fallback */
        if (s == LANE_CLOSED && r->watch) /* a run says it at its end */
            tell_line(
                r->tell, true,
                "%s is closed (%s): its jobs take their tier's fallback, or wait. "
                "Name a model that the key may use, then reload the settings "
                "(SIGHUP)",
                lane->name, lane->why);
    }
}

/*
 * Is there nobody else to try? Then a job that fails while its lane or endpoint is tripped
 * must answer for it, or it would wait for ever. For resets, those that were reset since
 * the last answer do not count as somebody else.
 */
static bool lonely(struct runner *r, const struct live *l)
{
    size_t others = 0, reset = 0;
    for (const struct lane *lane = r->lanes; lane; lane = lane->next) {
        if (lane->closed || (!l->judged.bare_reset && lane != l->lane))
            continue;
        if (!lane->dry)
            return false;
        others += lane->ready + (size_t)lane->in_flight;
    }
    if (!l->judged.bare_reset)
        return others <= 1; /* itself */
    for (int i = 0; i < r->resets_len; i++)
        reset += r->resets[i] != l->job.id;
    return others <= reset + 1;
}

static void note_reset(struct runner *r, int64_t job)
{
    for (int i = 0; i < r->resets_len; i++)
        if (r->resets[i] == job)
            return;
    if (r->resets_len < RESETS_MAX)
        r->resets[r->resets_len++] = job;
}

/* Twice as many, once, and not more than the model writes. */
static int64_t raise_to(const struct runner *r, const struct live *l)
{
    const struct model *m = catalog_find(r->o->catalog, l->routed.model);
    int64_t most = m && m->max_output > 0 ? m->max_output : INT64_MAX;
    int64_t twice = 2 * live_max_tokens(l);
    return l->job.raised ? 0 : twice < most ? twice : most;
}

static struct settled decide(struct runner *r, const struct live *l, bool tripped,
                             bool again, bool climbs)
{
    if (l->canceled)
        return (struct settled){.to = JOB_FAILED,
                                .outcome = OUTCOME_CANCELED,
                                .attempt = l->no_answer ? ATTEMPT_IN_DOUBT
                                           : l->note == NOTE_TAKEN_BACK
                                               ? ATTEMPT_TAKEN_BACK
                                               : ATTEMPT_ANSWERED,
                                .attempts = l->job.attempts,
                                .silent = l->job.silent};
    if (l->note == NOTE_TAKEN_BACK)
        return (struct settled){.to = JOB_QUEUED,
                                .attempt = ATTEMPT_TAKEN_BACK,
                                .attempts = l->job.attempts,
                                .silent = l->job.silent};
    if (l->note == NOTE_CUT_OFF)
        return (struct settled){
            .to = r->conf->jobs.in_doubt == IN_DOUBT_HOLD ? JOB_PARKED : JOB_QUEUED,
            .outcome = r->conf->jobs.in_doubt == IN_DOUBT_HOLD ? OUTCOME_IN_DOUBT
                                                               : OUTCOME_NONE,
            .attempt = ATTEMPT_IN_DOUBT,
            .attempts = l->job.attempts,
            .silent = l->job.silent};
    return settle_decide(&(struct settle_about){
        .judged = &l->judged,
        .attempts = l->job.attempts,
        .silent = l->job.silent,
        .attempts_max = (int)r->conf->limits.attempts,
        .no_answer = l->no_answer,
        .tripped = tripped,
        .again = again,
        .lonely = tripped && lonely(r, l),
        .alone = l->ticket.alone || (l->full && l->lane->in_flight == 1),
        .random = runner_random(r),
        .on_truncation = r->conf->jobs.on_truncation,
        .max_tokens = live_max_tokens(l),
        .raise_to = raise_to(r, l),
        .checked = l->checked,
        .must_pass = l->routed.check != NULL,
        .climbs = climbs});
}

/* Once an ending: what it tells of lane, endpoint, source and job. */
static void hear(struct runner *r, struct live *l, struct moves *m)
{
    bool tripped = l->lane->breaker.open || r->endpoint.open;
    bool again = l->note == NOTE_ANSWER && l->judged.bare_reset &&
                 r->last_reset == l->job.id;
    l->checked = CHECKED_NOT;
    if (l->note == NOTE_ANSWER)
        quality_judge(r, l);
    bool lacks = l->checked == CHECKED_FAIL ||
                 (l->note == NOTE_ANSWER && (l->judged.verdict == VERDICT_TRUNCATED ||
                                             l->judged.verdict == VERDICT_REFUSED));
    l->settled = decide(r, l, tripped, again, lacks && quality_climbs(r, l));
    l->heard = true;
    if (l->checked == CHECKED_PASS || (lacks && (l->settled.climb || l->settled.keep)))
        quality_learn(r, l, !lacks);
    if (l->note == NOTE_ANSWER) {
        bool failed_probe = l->probe && !l->judged.bare_reset &&
                            (l->judged.verdict == VERDICT_TRANSIENT ||
                             l->judged.verdict == VERDICT_OVERLOADED);
        if (l->judged.bare_reset && l->no_answer)
            note_reset(r, l->job.id);
        endpoint_told(r, l, m);
        if (l->settled.suspect && !r->endpoint.open)
            suspect_add(r, l, NULL);
        else if (failed_probe && l->settled.to == JOB_QUEUED)
            suspect_add(r, l, l->lane);
    }
    lane_told(r, l);
    brake_told(r, l, &l->settled);
}

static const char *says_of(const struct live *l)
{
    switch (l->note) {
    case NOTE_ANSWER:
        return l->judged.sentence;
    case NOTE_TAKEN_BACK:
        return l->canceled ? "canceled on request" : NULL;
    case NOTE_CUT_OFF:
        return l->canceled
                   ? "canceled on request; it may have been answered"
                   : "cut off when the run had to end; it may have been answered";
    }
    return NULL;
}

/* Where it goes on: the lane of the rung above. */
static void climb(struct runner *r, struct live *l, struct move *v)
{
    struct route_job j = admit_asked(&l->job);
    struct routed to;
    struct err e = {0};
    j.climb = l->routed.tier;
    v->at.climb = l->routed.tier;
    if (route_decide(r->conf, r->o->catalog, &j, &to, &e) == 0) {
        snprintf(l->next_lane, sizeof l->next_lane, "%s", to.lane);
        v->name = l->next_lane;
    }
    log_info("job=%s climbs from %s: %s", l->job.name, l->routed.tier,
             l->judged.sentence);
}

/* A person may grade it later, and it can teach only while its words are there. */
static bool keeps_body(const struct live *l, enum job_state to)
{
    return to == JOB_DONE && l->routed.how == ROUTE_LEARN && l->routed.check == NULL;
}

static void settle_one(struct runner *r, struct live *l, struct moves *m)
{
    struct move *v = moves_add(m, MOVE_SETTLE);
    const struct settled *s = &l->settled;
    const struct judgement *j = &l->judged;
    bool answered = l->note == NOTE_ANSWER;
    if (v == NULL)
        return; /* it stays noted, and the next tick tries again */
    l->settling = true;
    v->owner = l;
    v->job = l->job.id;
    v->attempt = l->attempt;
    v->run = r->run;
    v->length = l->job.bytes;
    v->started = l->started_wall;
    v->now = runner_wall(r);
    v->to = s->to;
    v->outcome = s->outcome;
    v->text = s->to == JOB_DONE ? NULL : says_of(l);
    v->type = answered && s->to != JOB_DONE && *j->type ? j->type : NULL;
    if (s->to == JOB_QUEUED && s->rest_ms > 0) {
        v->ready_at = v->now + s->rest_ms;
        v->ready_span = s->rest_ms;
    }
    v->at.state = s->attempt;
    v->at.attempts = s->attempts;
    v->at.silent = s->silent;
    v->at.raised = s->raised ? s->raised : l->job.raised;
    v->at.keep_body = keeps_body(l, s->to);
    if (s->climb)
        climb(r, l, v);
    if (s->to == JOB_IN_FLIGHT)
        v->text = NULL; /* nothing is wrong with it yet */
    v->at.verdict = answered ? (int)j->verdict : -1;
    v->at.status = answered ? l->status : 0;
    v->at.request_id = answered && *j->request_id ? j->request_id : NULL;
    if (answered && j->has_usage) {
        const struct model *model = catalog_find(r->o->catalog, l->routed.model);
        v->at.has_usage = true;
        v->at.usage = j->usage;
        v->at.cost = model && model->priced ? catalog_cost(model, &j->usage) : 0;
    }
    if (s->keep && l->message) {
        v->at.message = l->message;
        v->at.message_len = l->message_len;
    }
}

void ended_settle(struct runner *r, struct moves *m)
{
    struct move *totals = NULL;
    uv_update_time(&r->loop); /* a hold runs from now, not from when the loop woke */
    for (struct live *l = r->noted; l; l = l->next)
        if (!l->heard)
            hear(r, l, m);
    shared_done(r);
    for (struct live *l = r->noted; l; l = l->next) {
        struct move **at = m->last;
        settle_one(r, l, m);
        struct move *v = *at;
        if (v == NULL || v->at.state != ATTEMPT_ANSWERED || !v->at.has_usage)
            continue; /* what is in doubt is not spent: it is in doubt */
        if (totals == NULL && (totals = moves_add(m, MOVE_RUN_TOTALS)) == NULL)
            continue;
        totals->run = r->run;
        totals->at.cost += v->at.cost;
        totals->at.usage.input += v->at.usage.input;
        totals->at.usage.output += v->at.usage.output;
        totals->at.usage.cache_read += v->at.usage.cache_read;
        totals->at.usage.cache_write_5m += v->at.usage.cache_write_5m;
        totals->at.usage.cache_write_1h += v->at.usage.cache_write_1h;
    }
}

/* --- after the commit --- */

static void tell_end(struct runner *r, const struct live *l, const struct move *v)
{
    char usd[CATALOG_USD_MAX];
    bool done = v->to == JOB_DONE;
    if (!done && !l->canceled)
        log_warn("job=%s %s outcome=%s: %s", l->job.name, job_state_name(v->to),
                 job_outcome_name(v->outcome), v->text ? v->text : "");
    if (!done && !l->canceled)
        tell_failure(r->tell, l->job.name,
                     v->text ? v->text : job_outcome_name(v->outcome));
    if (!tell_wants_events(r->tell))
        return;
    struct textbuf name = {0}, says = {0};
    textbuf_json(&name, l->job.name);
    textbuf_json(&says, v->text);
    tell_event(r->tell, done ? "job_done" : "job_failed", v->now,
               "\"job\":%s,\"state\":\"%s\",\"outcome\":\"%s\",\"model\":\"%s\","
               "\"cost_usd\":\"%s\",\"says\":%s",
               name.at ? name.at : "null", job_state_name(v->to),
               job_outcome_name(v->outcome), l->routed.model,
               catalog_usd(v->at.cost, usd), says.at ? says.at : "null");
    textbuf_free(&name);
    textbuf_free(&says);
}

/* Everything of the result, as the store would give it. */
static void fill_result(struct live *l, const struct move *v)
{
    struct store_result *x = &l->result;
    x->job = l->job;
    x->job.state = v->to;
    x->job.outcome = v->outcome;
    x->job.seq = v->seq;
    x->job.finished_at = v->now;
    x->job.rests = l->job.rests + 1;
    x->job.says = v->text;
    x->job.type = v->type;
    x->last = (struct store_attempt){.id = l->attempt,
                                     .tier = l->routed.tier,
                                     .model = l->routed.model,
                                     .why = l->why,
                                     .request_id = v->at.request_id,
                                     .has_usage = v->at.has_usage,
                                     .usage = v->at.usage};
    x->job.sendings -= v->at.state == ATTEMPT_TAKEN_BACK;
    x->job.cost += v->at.cost;
    x->message = v->at.message;
    x->message_len = v->at.message_len;
}

static void back_to_wait(struct runner *r, struct live *l, const struct move *v)
{
    l->job.cost += v->at.cost;
    l->job.attempts = v->at.attempts;
    l->job.silent = v->at.silent;
    l->job.raised = v->at.raised;
    l->job.sendings -= v->at.state == ATTEMPT_TAKEN_BACK;
    free(l->message);
    l->message = NULL;
    l->heard = l->settling = l->no_answer = false;
    r->admitted--;     /* a canary sings when it has come to rest */
    if (v->at.climb) { /* read again, it goes where it belongs now */
        struct lane *up = v->name ? runner_lane(r, v->name) : NULL;
        if (up)
            up->dry = false;
        l->lane->dry = false;
        live_forget(&r->table, l);
        live_free(l);
        return;
    }
    bool parked = l->brake && (l->brake->parking || l->brake->parked);
    if (v->ready_at == 0 && !parked && !l->lane->closed) {
        ready_push(l, true);
        return;
    }
    if (v->ready_at && (r->next_rest == 0 || v->ready_at < r->next_rest))
        r->next_rest = v->ready_at;
    l->lane->dry = false; /* it waits on disk now */
    l->to_disk = true;
    live_forget(&r->table, l);
    live_free(l);
}

static void came_to_rest(struct runner *r, struct live *l, const struct move *v)
{
    r->tally.queued--;
    l->lane->done++;
    if (v->to == JOB_DONE)
        r->tally.done++;
    else if (v->to == JOB_PARKED)
        r->tally.parked++;
    else
        r->tally.failed++;
    tell_end(r, l, v);
    fill_result(l, v);
    live_forget(&r->table, l);
    runner_finished(r, l);
}

void ended_settled(struct runner *r, const struct move *v)
{
    struct live *l = v->owner;
    struct live **at = &r->noted;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    if (r->noted_last == &l->next)
        r->noted_last = at;
    l->next = NULL;

    r->out--;
    r->out_bytes -= l->worst_bytes;
    money_settled(r, l, v);
    if (v->at.state == ATTEMPT_ANSWERED) {
        r->tally.spent += v->at.cost;
        l->lane->cost += v->at.cost;
        r->tally.tokens_in += v->at.usage.input + v->at.usage.cache_read +
                              v->at.usage.cache_write_5m + v->at.usage.cache_write_1h;
        r->tally.tokens_out += v->at.usage.output;
    }
    if (v->to == JOB_QUEUED) {
        back_to_wait(r, l, v);
        return;
    }
    if (v->to == JOB_IN_FLIGHT) {
        l->job.cost += v->at.cost;
        l->job.attempts = v->at.attempts;
        l->heard = l->settling = false;
        quality_begin(r, l);
        return;
    }
    came_to_rest(r, l, v);
}

/* A program has judged: what that means for the job. */
void ended_checked(struct runner *r, struct live *l, struct move *v)
{
    bool passed = l->checked == CHECKED_PASS;
    if (!l->heard) {
        l->settled = settle_checked(
            &(struct settle_about){.judged = &l->judged,
                                   .attempts = l->job.attempts,
                                   .silent = l->job.silent,
                                   .checked = l->checked,
                                   .must_pass = true,
                                   .climbs = !passed && quality_climbs(r, l)});
        l->heard = true;
        quality_learn(r, l, passed);
        if (l->brake)
            l->brake->in_flight++; /* it was let go when the answer came */
        brake_told(r, l, &l->settled);
    }
    l->settling = true;
    v->owner = l;
    v->job = l->job.id;
    v->attempt = l->attempt;
    v->now = runner_wall(r);
    v->length = l->job.bytes;
    v->to = l->settled.to;
    v->outcome = l->settled.outcome;
    v->text = passed ? NULL : l->judged.sentence;
    v->type = passed ? NULL : l->judged.type;
    v->at.state = ATTEMPT_ANSWERED;
    v->at.attempts = l->job.attempts;
    v->at.silent = l->job.silent;
    v->at.raised = l->job.raised;
    v->at.keep_body = keeps_body(l, v->to);
    v->at.request_id = *l->judged.request_id ? l->judged.request_id : NULL;
    v->at.has_usage = l->judged.has_usage;
    v->at.usage = l->judged.usage;
    v->at.message = l->message;
    v->at.message_len = l->message_len;
    if (l->settled.climb)
        climb(r, l, v);
}

void ended_check_settled(struct runner *r, const struct move *v)
{
    struct live *l = v->owner;
    quality_settled(r, l);
    if (v->to == JOB_QUEUED)
        back_to_wait(r, l, v);
    else
        came_to_rest(r, l, v);
}

#include "runner/settle.h"

#include "runner/pace.h"

#include <string.h>

enum { REST_FIRST_MS = 1000, REST_LAST_MS = 60000 };

/* One more attempt is used; with the last one the job is over. */
static void charge(struct settled *s, bool silent, int max)
{
    s->attempts++;
    s->silent += silent;
    if (s->silent >= SETTLE_SILENT_MAX) {
        s->to = JOB_PARKED;
        s->outcome = OUTCOME_NO_ANSWER;
    } else if (s->attempts >= max) {
        s->to = JOB_FAILED;
        s->outcome = OUTCOME_EXHAUSTED;
    }
}

static int64_t rest(const struct settle_about *a, int n)
{
    if (a->judged->retry_ms >= 0)
        return a->judged->retry_ms;
    return REST_FIRST_MS / 4 + backoff_ms(n, REST_FIRST_MS, REST_LAST_MS, a->random);
}

static void end(struct settled *s, enum job_state to, enum job_outcome outcome,
                bool keep)
{
    s->to = to;
    s->outcome = outcome;
    s->keep = keep;
}

/* An answer that is not good enough: up, or it is over. */
static void not_passed(struct settled *s, const struct settle_about *a,
                       enum job_outcome outcome)
{
    s->keep = true;
    s->climb = a->climbs;
    if (!a->climbs)
        end(s, JOB_FAILED, outcome, true);
}

static void judge_accepted(struct settled *s, const struct settle_about *a)
{
    if (a->checked == CHECKED_FAIL)
        not_passed(s, a, OUTCOME_CHECK_FAILED);
    else if (a->checked == CHECKED_LATER)
        end(s, JOB_IN_FLIGHT, OUTCOME_NONE, true);
    else
        end(s, JOB_DONE, OUTCOME_ACCEPTED, true);
}

struct settled settle_checked(const struct settle_about *a)
{
    struct settled s = {.to = JOB_QUEUED,
                        .attempt = ATTEMPT_ANSWERED,
                        .attempts = a->attempts,
                        .silent = a->silent};
    judge_accepted(&s, a);
    return s;
}

struct settled settle_decide(const struct settle_about *a)
{
    struct settled s = {.to = JOB_QUEUED,
                        .attempt = a->no_answer ? ATTEMPT_IN_DOUBT : ATTEMPT_ANSWERED,
                        .attempts = a->attempts,
                        .silent = a->silent};
    switch (a->judged->verdict) {
    case VERDICT_ACCEPTED:
        s.attempts++;
        judge_accepted(&s, a);
        break;
    case VERDICT_TRUNCATED:
        s.attempts++;
        if (a->on_truncation == TRUNCATED_RAISE && a->raise_to > a->max_tokens &&
            strcmp(a->judged->type, "max_tokens") == 0)
            s.raised =
                a->raise_to; /* the same request would be cut at the same place */
        else if (a->on_truncation == TRUNCATED_KEEP && !a->must_pass)
            end(&s, JOB_DONE, OUTCOME_TRUNCATED, true);
        else
            not_passed(&s, a, OUTCOME_TRUNCATED);
        break;
    case VERDICT_REFUSED:
        s.attempts++;
        not_passed(&s, a, OUTCOME_REFUSED);
        break;
    case VERDICT_BAD_REQUEST:
        s.attempts++;
        end(&s, JOB_FAILED, OUTCOME_BAD_REQUEST, false);
        break;
    case VERDICT_TRANSIENT:
        if (a->no_answer && a->judged->bare_reset && !a->again && !a->lonely)
            s.suspect = !a->tripped;
        else if (!a->tripped || a->again || a->lonely)
            charge(&s, a->judged->bare_reset, a->attempts_max);
        s.rest_ms = rest(a, s.attempts);
        break;
    case VERDICT_OVERLOADED:
        if (a->tripped && a->lonely)
            charge(&s, false, a->attempts_max); /* nothing waits for ever */
        s.rest_ms = rest(a, 0);
        break;
    case VERDICT_RATE_LIMITED:
        if (a->alone)
            charge(&s, false, a->attempts_max);
        break;
    case VERDICT_UNREACHABLE:
    case VERDICT_MODEL_DENIED:
    case VERDICT_PLAN_LIMIT:
    case VERDICT_SPEND_LIMIT:
    case VERDICT_NO_CREDIT:
    case VERDICT_KEY_REFUSED:
    case VERDICT_COUNT:
        break; /* not the job's: it goes back as it was */
    }
    return s;
}

struct settled settle_charge(int attempts, int silent, bool bare, int attempts_max)
{
    struct settled s = {.to = JOB_QUEUED, .attempts = attempts, .silent = silent};
    charge(&s, bare, attempts_max);
    return s;
}

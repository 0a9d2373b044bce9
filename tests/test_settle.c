#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runner/settle.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

enum { MAX = 5 };

/* Conditions of an ending, as letters: n no answer, b bare reset, t tripped,
 * a the same job again, s alone on a lane whose buckets are full. */
struct row {
    enum verdict verdict;
    const char *when;
    int attempts, silent; /* before */
    enum job_state to;
    enum job_outcome outcome;
    enum attempt_state attempt;
    int now_attempts, now_silent;
    bool keep, suspect;
};

#define ANSWERED ATTEMPT_ANSWERED
#define DOUBT ATTEMPT_IN_DOUBT

static const struct row rows[] = {
    /* the job's own */
    {VERDICT_ACCEPTED, "", 0, 0, JOB_DONE, OUTCOME_ACCEPTED, ANSWERED, 1, 0, true,
     false},
    {VERDICT_ACCEPTED, "", 4, 2, JOB_DONE, OUTCOME_ACCEPTED, ANSWERED, 5, 2, true,
     false},
    {VERDICT_ACCEPTED, "t", 0, 0, JOB_DONE, OUTCOME_ACCEPTED, ANSWERED, 1, 0, true,
     false},
    {VERDICT_TRUNCATED, "", 0, 0, JOB_FAILED, OUTCOME_TRUNCATED, ANSWERED, 1, 0, true,
     false},
    {VERDICT_REFUSED, "", 0, 0, JOB_FAILED, OUTCOME_REFUSED, ANSWERED, 1, 0, true,
     false},
    {VERDICT_BAD_REQUEST, "", 0, 0, JOB_FAILED, OUTCOME_BAD_REQUEST, ANSWERED, 1, 0,
     false, false},
    /* a failing answer counts, unless everybody fails */
    {VERDICT_TRANSIENT, "", 0, 0, JOB_QUEUED, OUTCOME_NONE, ANSWERED, 1, 0, false,
     false},
    {VERDICT_TRANSIENT, "", 3, 0, JOB_QUEUED, OUTCOME_NONE, ANSWERED, 4, 0, false,
     false},
    {VERDICT_TRANSIENT, "", 4, 0, JOB_FAILED, OUTCOME_EXHAUSTED, ANSWERED, 5, 0, false,
     false},
    {VERDICT_TRANSIENT, "t", 4, 0, JOB_QUEUED, OUTCOME_NONE, ANSWERED, 4, 0, false,
     false},
    {VERDICT_TRANSIENT, "ta", 4, 0, JOB_FAILED, OUTCOME_EXHAUSTED, ANSWERED, 5, 0,
     false, false},
    /* an answer that broke in the middle: the job is charged, and it may be billed */
    {VERDICT_TRANSIENT, "n", 0, 0, JOB_QUEUED, OUTCOME_NONE, DOUBT, 1, 0, false, false},
    {VERDICT_TRANSIENT, "n", 4, 0, JOB_FAILED, OUTCOME_EXHAUSTED, DOUBT, 5, 0, false,
     false},
    /* nothing came at all: the first time it is only under suspicion */
    {VERDICT_TRANSIENT, "nb", 4, 2, JOB_QUEUED, OUTCOME_NONE, DOUBT, 4, 2, false, true},
    {VERDICT_TRANSIENT, "nbt", 4, 2, JOB_QUEUED, OUTCOME_NONE, DOUBT, 4, 2, false,
     false},
    {VERDICT_TRANSIENT, "nba", 0, 0, JOB_QUEUED, OUTCOME_NONE, DOUBT, 1, 1, false,
     false},
    {VERDICT_TRANSIENT, "nba", 1, 1, JOB_QUEUED, OUTCOME_NONE, DOUBT, 2, 2, false,
     false},
    {VERDICT_TRANSIENT, "nbta", 1, 1, JOB_QUEUED, OUTCOME_NONE, DOUBT, 2, 2, false,
     false},
    /* three of these park it, even with the last attempt */
    {VERDICT_TRANSIENT, "nba", 2, 2, JOB_PARKED, OUTCOME_NO_ANSWER, DOUBT, 3, 3, false,
     false},
    {VERDICT_TRANSIENT, "nba", 4, 2, JOB_PARKED, OUTCOME_NO_ANSWER, DOUBT, 5, 3, false,
     false},
    {VERDICT_TRANSIENT, "nba", 4, 1, JOB_FAILED, OUTCOME_EXHAUSTED, DOUBT, 5, 2, false,
     false},
    /* the lane's */
    {VERDICT_OVERLOADED, "", 4, 2, JOB_QUEUED, OUTCOME_NONE, ANSWERED, 4, 2, false,
     false},
    {VERDICT_OVERLOADED, "t", 4, 2, JOB_QUEUED, OUTCOME_NONE, ANSWERED, 4, 2, false,
     false},
    {VERDICT_RATE_LIMITED, "", 4, 2, JOB_QUEUED, OUTCOME_NONE, ANSWERED, 4, 2, false,
     false},
    {VERDICT_RATE_LIMITED, "s", 0, 0, JOB_QUEUED, OUTCOME_NONE, ANSWERED, 1, 0, false,
     false},
    {VERDICT_RATE_LIMITED, "s", 4, 0, JOB_FAILED, OUTCOME_EXHAUSTED, ANSWERED, 5, 0,
     false, false},
    {VERDICT_MODEL_DENIED, "", 4, 2, JOB_QUEUED, OUTCOME_NONE, ANSWERED, 4, 2, false,
     false},
    /* the endpoint's and the account's */
    {VERDICT_UNREACHABLE, "", 4, 2, JOB_QUEUED, OUTCOME_NONE, ANSWERED, 4, 2, false,
     false},
    {VERDICT_UNREACHABLE, "n", 4, 2, JOB_QUEUED, OUTCOME_NONE, DOUBT, 4, 2, false,
     false},
    {VERDICT_PLAN_LIMIT, "", 4, 2, JOB_QUEUED, OUTCOME_NONE, ANSWERED, 4, 2, false,
     false},
    {VERDICT_SPEND_LIMIT, "", 4, 2, JOB_QUEUED, OUTCOME_NONE, ANSWERED, 4, 2, false,
     false},
    {VERDICT_NO_CREDIT, "", 4, 2, JOB_QUEUED, OUTCOME_NONE, ANSWERED, 4, 2, false,
     false},
    {VERDICT_KEY_REFUSED, "", 4, 2, JOB_QUEUED, OUTCOME_NONE, ANSWERED, 4, 2, false,
     false},
};

static bool has(const char *when, char letter)
{
    for (; *when; when++)
        if (*when == letter)
            return true;
    return false;
}

static struct settled settle(const struct row *r, int64_t retry_ms, uint64_t random)
{
    struct judgement j = {
        .verdict = r->verdict, .retry_ms = retry_ms, .bare_reset = has(r->when, 'b')};
    return settle_decide(&(struct settle_about){.judged = &j,
                                                .attempts = r->attempts,
                                                .silent = r->silent,
                                                .attempts_max = MAX,
                                                .no_answer = has(r->when, 'n'),
                                                .tripped = has(r->when, 't'),
                                                .again = has(r->when, 'a'),
                                                .alone = has(r->when, 's'),
                                                .random = random});
}

static void each_ending_has_its_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES(rows); i++) {
        const struct row *r = &rows[i];
        struct settled s = settle(r, -1, 1);
        if (s.to != r->to || s.outcome != r->outcome || s.attempt != r->attempt ||
            s.attempts != r->now_attempts || s.silent != r->now_silent ||
            s.keep != r->keep || s.suspect != r->suspect)
            fail_msg("row %zu: %s when \"%s\", %d and %d: %s %s, %d and %d", i,
                     verdict_name(r->verdict), r->when, r->attempts, r->silent,
                     job_state_name(s.to), job_outcome_name(s.outcome), s.attempts,
                     s.silent);
        assert_true(job_may_move(JOB_IN_FLIGHT, s.to));
    }
}

static void every_verdict_has_a_row(void **state)
{
    (void)state;
    for (int v = 0; v < VERDICT_COUNT; v++) {
        bool found = false;
        for (size_t i = 0; i < CASES(rows); i++)
            found = found || (int)rows[i].verdict == v;
        if (!found)
            fail_msg("%s", verdict_name((enum verdict)v));
    }
}

/* The two rooms agree on what an attempt costs. */
static void what_counts_for_the_verdict_counts_for_the_job(void **state)
{
    (void)state;
    for (int v = 0; v < VERDICT_COUNT; v++) {
        struct row r = {.verdict = (enum verdict)v, .when = ""};
        assert_int_equal(settle(&r, -1, 1).attempts, verdict_counts(r.verdict));
    }
}

static void a_job_that_failed_rests_as_long_as_the_answer_asks(void **state)
{
    (void)state;
    static const enum verdict resting[] = {VERDICT_TRANSIENT, VERDICT_OVERLOADED};
    for (size_t i = 0; i < CASES(resting); i++) {
        struct row r = {.verdict = resting[i], .when = ""};
        assert_int_equal(settle(&r, 7 * 3600000, 1).rest_ms, 7 * 3600000);
        assert_int_equal(settle(&r, 0, 1).rest_ms, 0);
    }
}

static void unasked_it_rests_longer_with_each_attempt(void **state)
{
    (void)state;
    for (int n = 0; n < 12; n++) {
        int64_t top = 1000;
        for (int k = 0; k <= n && top < 60000; k++)
            top *= 2;
        top = (top < 60000 ? top : 60000);
        struct judgement j = {.verdict = VERDICT_TRANSIENT, .retry_ms = -1};
        struct settle_about about = {.judged = &j, .attempts = n, .attempts_max = 100};
        int64_t least = INT64_MAX, most = 0;
        for (uint64_t random = 0; random < 130000; random += 61) {
            about.random = random;
            int64_t rest = settle_decide(&about).rest_ms;
            least = rest < least ? rest : least;
            most = rest > most ? rest : most;
        }
        assert_in_range(least, 250, 400);
        assert_true(most <= 250 + top && most >= 250 + top * 9 / 10);
    }
}

/* The job is not to blame for a busy API, so its rest does not grow. */
static void an_overload_is_a_short_rest(void **state)
{
    (void)state;
    for (uint64_t random = 0; random < 5000; random++) {
        struct row r = {.verdict = VERDICT_OVERLOADED, .when = "", .attempts = 4};
        assert_in_range(settle(&r, -1, random).rest_ms, 250, 1250);
    }
}

static void who_waits_for_the_lane_does_not_rest_as_well(void **state)
{
    (void)state;
    static const enum verdict waiting[] = {VERDICT_RATE_LIMITED, VERDICT_UNREACHABLE,
                                           VERDICT_PLAN_LIMIT,   VERDICT_NO_CREDIT,
                                           VERDICT_SPEND_LIMIT,  VERDICT_MODEL_DENIED};
    for (size_t i = 0; i < CASES(waiting); i++) {
        struct row r = {.verdict = waiting[i], .when = ""};
        assert_int_equal(settle(&r, 5000, 99).rest_ms, 0);
    }
}

static void a_suspect_is_charged_after_all(void **state)
{
    (void)state;
    static const struct {
        int attempts, silent;
        bool bare;
        enum job_state to;
        enum job_outcome outcome;
        int now_attempts, now_silent;
    } cases[] = {
        {0, 0, false, JOB_QUEUED, OUTCOME_NONE, 1, 0},
        {0, 0, true, JOB_QUEUED, OUTCOME_NONE, 1, 1},
        {4, 0, false, JOB_FAILED, OUTCOME_EXHAUSTED, 5, 0},
        {4, 1, true, JOB_FAILED, OUTCOME_EXHAUSTED, 5, 2},
        {4, 2, true, JOB_PARKED, OUTCOME_NO_ANSWER, 5, 3},
        {2, 2, true, JOB_PARKED, OUTCOME_NO_ANSWER, 3, 3},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct settled s = settle_charge(cases[i].attempts, cases[i].silent,
                                         cases[i].bare, MAX);
        assert_int_equal(s.to, cases[i].to);
        assert_int_equal(s.outcome, cases[i].outcome);
        assert_int_equal(s.attempts, cases[i].now_attempts);
        assert_int_equal(s.silent, cases[i].now_silent);
    }
}

/* Nothing waits for ever: whatever a job's endings are, it is over after `attempts` of
 * them that count, or three that were silent. */
static void no_job_is_sent_for_ever(void **state)
{
    (void)state;
    for (int first = 0; first < 2; first++) {
        struct row r = {.verdict = VERDICT_TRANSIENT, .when = first ? "nba" : ""};
        int n = 0;
        while (n < 100) {
            struct settled s = settle(&r, -1, 1);
            n++;
            if (s.to != JOB_QUEUED)
                break;
            r.attempts = s.attempts;
            r.silent = s.silent;
        }
        assert_int_equal(n, first ? SETTLE_SILENT_MAX : MAX);
    }
}

static void an_answer_that_does_not_pass_climbs_or_is_over(void **state)
{
    static const struct {
        enum verdict verdict;
        enum checked checked;
        bool climbs;
        enum on_truncation on_truncation;
        enum job_state to;
        enum job_outcome outcome;
        bool climb;
    } cases[] = {
        {VERDICT_ACCEPTED, CHECKED_NOT, true, TRUNCATED_FAIL, JOB_DONE,
         OUTCOME_ACCEPTED, false},
        {VERDICT_ACCEPTED, CHECKED_PASS, true, TRUNCATED_FAIL, JOB_DONE,
         OUTCOME_ACCEPTED, false},
        {VERDICT_ACCEPTED, CHECKED_FAIL, true, TRUNCATED_FAIL, JOB_QUEUED, OUTCOME_NONE,
         true},
        {VERDICT_ACCEPTED, CHECKED_FAIL, false, TRUNCATED_FAIL, JOB_FAILED,
         OUTCOME_CHECK_FAILED, false},
        {VERDICT_ACCEPTED, CHECKED_LATER, true, TRUNCATED_FAIL, JOB_IN_FLIGHT,
         OUTCOME_NONE, false},
        {VERDICT_TRUNCATED, CHECKED_NOT, true, TRUNCATED_KEEP, JOB_QUEUED, OUTCOME_NONE,
         true},
        {VERDICT_TRUNCATED, CHECKED_NOT, false, TRUNCATED_KEEP, JOB_FAILED,
         OUTCOME_TRUNCATED, false},
        {VERDICT_REFUSED, CHECKED_NOT, true, TRUNCATED_FAIL, JOB_QUEUED, OUTCOME_NONE,
         true},
        {VERDICT_REFUSED, CHECKED_NOT, false, TRUNCATED_FAIL, JOB_FAILED,
         OUTCOME_REFUSED, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct judgement j = {.verdict = cases[i].verdict};
        struct settled s = settle_decide(
            &(struct settle_about){.judged = &j,
                                   .attempts = 4,
                                   .attempts_max = 5,
                                   .checked = cases[i].checked,
                                   .must_pass = true,
                                   .climbs = cases[i].climbs,
                                   .on_truncation = cases[i].on_truncation});
        if (s.to != cases[i].to || s.outcome != cases[i].outcome ||
            s.climb != cases[i].climb || !s.keep || s.attempts != 5)
            fail_msg("case %zu: to %d, outcome %d, climb %d, keep %d", i, s.to,
                     s.outcome, s.climb, s.keep);
        if (cases[i].checked != CHECKED_PASS && cases[i].checked != CHECKED_FAIL)
            continue;
        s = settle_checked(&(struct settle_about){.judged = &j,
                                                  .attempts = 4,
                                                  .checked = cases[i].checked,
                                                  .climbs = cases[i].climbs});
        assert_int_equal(s.to, cases[i].to);
        assert_int_equal(s.outcome, cases[i].outcome);
        assert_int_equal(s.attempts, 4); /* it was counted with its answer */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_ending_has_its_row),
        cmocka_unit_test(every_verdict_has_a_row),
        cmocka_unit_test(what_counts_for_the_verdict_counts_for_the_job),
        cmocka_unit_test(a_job_that_failed_rests_as_long_as_the_answer_asks),
        cmocka_unit_test(unasked_it_rests_longer_with_each_attempt),
        cmocka_unit_test(an_overload_is_a_short_rest),
        cmocka_unit_test(who_waits_for_the_lane_does_not_rest_as_well),
        cmocka_unit_test(a_suspect_is_charged_after_all),
        cmocka_unit_test(no_job_is_sent_for_ever),
        cmocka_unit_test(an_answer_that_does_not_pass_climbs_or_is_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

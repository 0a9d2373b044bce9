#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runner/ending.h"

#include <string.h>

#define CASES(a) (sizeof(a) / sizeof(a)[0])

static void every_stop_has_a_word_that_leads_back_to_it(void **state)
{
    (void)state;
    for (int i = 0; i < STOP_COUNT; i++) {
        assert_int_equal(stop_named(stop_name((enum stop)i)), i);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(stop_name((enum stop)i), stop_name((enum stop)k));
    }
    assert_int_equal(stop_named("of another version"), STOP_NONE);
    assert_int_equal(stop_named(NULL), STOP_NONE);
}

static void every_stop_says_why_and_what_to_do(void **state)
{
    (void)state;
    static const struct {
        struct ending x;
        const char *says;
    } cases[] = {
        {{.stop = STOP_NONE}, ""},
        {{.stop = STOP_SIGNAL, .says = "SIGTERM asked for it", .left = 1},
         "stopped: SIGTERM asked for it. 1 job waits; the same command goes on."},
        {{.stop = STOP_UNTIL, .says = "it is 07:00", .left = 2},
         "stopped: it is 07:00. 2 jobs wait; the same command goes on."},
        {{.stop = STOP_NO_CREDIT, .says = "too low", .left = 7},
         "stopped: out of credit (\"too low\"). Add credit, then run the same command: "
         "it sends one request, and goes on with the 7 waiting jobs if that is "
         "answered."},
        {{.stop = STOP_SPEND_LIMIT, .says = "reached", .left = 7, .until = 86400000},
         "stopped: a spend limit of the account is reached (\"reached\"). Access "
         "returns "
         "on 1970-01-02 00:00 UTC. 7 jobs wait; the same command sends one request to "
         "see, and goes on if it is answered."},
        {{.stop = STOP_KEY, .says = "invalid", .left = 3},
         "stopped: the key was refused (\"invalid\"). Check ANTHROPIC_API_KEY (or "
         "api.key_file), then run the same command; 3 jobs wait."},
        {{.stop = STOP_BUDGET,
          .says = "budget.run is reached",
          .left = 10,
          .done = 5,
          .spent = PICODOLLARS_PER_DOLLAR},
         "stopped: budget.run is reached. 10 jobs wait; at this run's average they "
         "take "
         "about $2.00 more. Raise the ceiling or wait for the next day or month, then "
         "run the same command."},
        {{.stop = STOP_OUTAGE, .says = "unreachable: x", .left = 4},
         "stopped: unreachable: x, for longer than limits.outage. Check the network "
         "and "
         "api.base_url; the same command goes on with the 4 waiting jobs."},
        {{.stop = STOP_WAIT, .says = "opus: held", .left = 1, .until = 3600000},
         "stopped: nothing can be sent before 1970-01-01 01:00 UTC (opus: held), which "
         "is longer than limits.longest_wait. 1 job waits; run the same command after "
         "that."},
        {{.stop = STOP_STORE, .says = "the disk is full", .lost = 2, .state = "/q"},
         "stopped: the disk is full. 2 answers that could not be stored are lost to "
         "doubt: they were paid, and their jobs will be sent again. Make room in /q, "
         "then run the same command."},
        {{.stop = STOP_DISK, .says = "no room"},
         "stopped: no room. Nothing is lost; make room, then run the same command."},
        {{.stop = STOP_RESULTS, .says = "x: full"},
         "stopped: results could not be written (x: full). No answer is lost: "
         "make room, or the place writable, and the same command writes them from the "
         "store."},
        {{.stop = STOP_RELOAD, .says = "settings are read again"}, ""},
        {{.stop = STOP_CONSENT, .says = "say yes"}, "nothing was sent: say yes"},
        {{.stop = STOP_INPUT, .says = "gone", .sent = true}, "stopped: gone"},
    };
    bool seen[STOP_COUNT] = {false};
    for (size_t i = 0; i < CASES(cases); i++) {
        char buf[ENDING_SAYS_MAX];
        assert_string_equal(ending_says(&cases[i].x, buf, sizeof buf), cases[i].says);
        seen[cases[i].x.stop] = true;
    }
    for (int i = 0; i < STOP_COUNT; i++)
        assert_true(seen[i]);
}

static void a_signal_needs_nobody(void **state)
{
    (void)state;
    assert_false(stop_needs_person(STOP_NONE));
    assert_false(stop_needs_person(STOP_SIGNAL));
    assert_false(stop_needs_person(STOP_UNTIL));
    assert_true(stop_needs_person(STOP_NO_CREDIT));
    assert_true(stop_needs_person(STOP_CONSENT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_stop_has_a_word_that_leads_back_to_it),
        cmocka_unit_test(every_stop_says_why_and_what_to_do),
        cmocka_unit_test(a_signal_needs_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/hours.h"
#include "runner/err.h"

/* "2026-03-28 23:30" by the clocks of Berlin; `standard` for the second of an hour that
 * comes twice. */
static int64_t at(const char *text, int dst)
{
    struct tm tm = {.tm_isdst = dst};
    if (strptime(text, "%Y-%m-%d %H:%M", &tm) == NULL)
        fail_msg("%s", text);
    tm.tm_isdst = dst;
    return (int64_t)mktime(&tm) * 1000;
}

static int berlin(void **state)
{
    (void)state;
    setenv("TZ", "Europe/Berlin", 1);
    tzset();
    return 0;
}

static void hours_open_and_close_when_the_clocks_say_so(void **state)
{
    static const struct {
        const char *hours, *now;
        bool open;
        const char *edge; /* NULL: never */
    } cases[] = {
        {"22:00-07:00", "2026-11-23 21:59", false, "2026-11-23 22:00"},
        {"22:00-07:00", "2026-11-23 22:00", true, "2026-11-24 07:00"},
        {"22:00-07:00", "2026-11-24 00:00", true, "2026-11-24 07:00"},
        {"22:00-07:00", "2026-11-24 06:59", true, "2026-11-24 07:00"},
        {"22:00-07:00", "2026-11-24 07:00", false, "2026-11-24 22:00"},
        {"12:00-13:00, 09:00-12:00", "2026-11-23 10:00", true, "2026-11-23 13:00"},
        {"09:00-12:00,12:30-13:00", "2026-11-23 12:10", false, "2026-11-23 12:30"},
        {"00:00-24:00", "2026-11-23 12:10", true, NULL},
        {"08:00-08:00", "2026-11-23 12:10", true, NULL},
        {"Mon-Fri 22:00-07:00", "2026-11-27 23:00", true,
         "2026-11-28 07:00"}, /* Friday */
        {"Mon-Fri 22:00-07:00", "2026-11-28 07:00", false, "2026-11-30 22:00"},
        {"Fri-Mon 22:00-07:00", "2026-11-24 08:00", false, "2026-11-27 22:00"},
        {"Sat 00:00-24:00, Sun 00:00-24:00", "2026-11-28 01:00", true,
         "2026-11-30 00:00"},
        {"Wed 10:00-11:00", "2026-11-25 11:00", false, "2026-12-02 10:00"},
        /* The night in which 02:00 becomes 03:00, and the one in which 03:00 comes twice. */
        {"22:00-07:00", "2026-03-28 23:00", true, "2026-03-29 07:00"},
        {"01:30-03:30", "2026-03-29 01:45", true, "2026-03-29 03:30"},
        {"22:00-07:00", "2026-10-24 23:00", true, "2026-10-25 07:00"},
        {"03:00-04:00", "2026-10-25 01:00", false, "2026-10-25 03:00"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hours h;
        struct err e = {0};
        int64_t edge;
        if (hours_read(cases[i].hours, &h, &e) < 0)
            fail_msg("%s: %s", cases[i].hours, e.text);
        bool open = hours_open(&h, at(cases[i].now, -1), &edge);
        int64_t want = cases[i].edge ? at(cases[i].edge, -1) : 0;
        if (open != cases[i].open || edge != want)
            fail_msg("%s at %s: %s, %+lld s off", cases[i].hours, cases[i].now,
                     open ? "open" : "shut", (long long)(edge - want) / 1000);
    }
}

/* Whatever the hours: at the edge it is otherwise, and a second before it is not. */
static void an_edge_is_where_it_changes(void **state)
{
    static const char *const all[] = {"22:00-07:00",
                                      "Mon-Fri 21:15-05:45, Sun 01:00-02:30",
                                      "02:15-02:45", "Sat 23:59-00:01"};
    int64_t now = at("2026-03-20 12:00", -1);
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct hours h;
        struct err e = {0};
        assert_int_equal(hours_read(all[i], &h, &e), 0);
        int64_t t = now, edge, next;
        for (int k = 0; k < 60; k++) {
            bool open = hours_open(&h, t, &edge);
            assert_true(edge > t);
            assert_int_equal(hours_open(&h, edge - 1000, &next), open);
            assert_int_equal(next, edge);
            if (hours_open(&h, edge, &next) == open)
                fail_msg("%s: nothing changes at %lld", all[i], (long long)edge);
            t = edge;
        }
    }
}

static void what_is_no_hours_is_refused(void **state)
{
    static const char *const wrong[] = {"",
                                        "22-07",
                                        "22:00",
                                        "22:00-",
                                        "25:00-07:00",
                                        "22:60-07:00",
                                        "24:00-07:00",
                                        "Mon22:00-07:00",
                                        "Mon- 22:00-07:00",
                                        "Xyz 22:00-07:00",
                                        "22:00-07:00;",
                                        "22:00-07:00,,",
                                        "22:00-24:30"};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct hours h;
        struct err e = {0};
        if (hours_read(wrong[i], &h, &e) == 0)
            fail_msg("\"%s\" was taken", wrong[i]);
        assert_non_null(strstr(e.text, "want hours such as"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(hours_open_and_close_when_the_clocks_say_so, berlin),
        cmocka_unit_test_setup(an_edge_is_where_it_changes, berlin),
        cmocka_unit_test_setup(what_is_no_hours_is_refused, berlin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "conf/hours.h"

#include "runner/err.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { DAY_MINUTES = 24 * 60, ALL_DAYS = 0x7f, DAYS_AHEAD = 9 };

static const char *const day_names[] = {"Sun", "Mon", "Tue", "Wed",
                                        "Thu", "Fri", "Sat"};

static int day_of(const char **at)
{
    for (int i = 0; i < 7; i++)
        if (strncmp(*at, day_names[i], 3) == 0) {
            *at += 3;
            return i;
        }
    return -1;
}

/* "Mon", "Mon-Fri"; nothing is every day. */
static int read_days(const char **at, unsigned *days)
{
    int from = day_of(at), to = from;
    *days = ALL_DAYS;
    if (from < 0)
        return 0;
    if (**at == '-') {
        ++*at;
        if ((to = day_of(at)) < 0)
            return -1;
    }
    *days = 0;
    for (int d = from;; d = (d + 1) % 7) {
        *days |= 1u << d;
        if (d == to)
            break;
    }
    if (**at != ' ')
        return -1;
    *at += strspn(*at, " ");
    return 0;
}

static int read_clock(const char **at, int *minutes)
{
    int h, m, used = 0;
    if (sscanf(*at, "%2d:%2d%n", &h, &m, &used) != 2 || used < 4 || h < 0 || h > 24 ||
        m < 0 || m > 59 || (h == 24 && m > 0))
        return -1;
    *minutes = h * 60 + m;
    *at += used;
    return 0;
}

int hours_read(const char *text, struct hours *ret, struct err *e)
{
    const char *at = text + strspn(text, " ");
    *ret = (struct hours){0};
    while (*at && ret->count < HOURS_SPANS_MAX) {
        int from, to;
        unsigned days;
        if (read_days(&at, &days) < 0 || read_clock(&at, &from) < 0 || *at != '-')
            break;
        at++;
        if (read_clock(&at, &to) < 0 || from == DAY_MINUTES)
            break;
        ret->span[ret->count].from = from;
        ret->span[ret->count].to = to > from ? to : to + DAY_MINUTES;
        ret->span[ret->count].days = days;
        ret->count++;
        at += strspn(at, " ");
        if (*at == '\0')
            return 0;
        if (*at != ',')
            break;
        at += 1 + strspn(at + 1, " ");
    }
    return err_set(e, ERR_CONF,
                   "%.80s: want hours such as 22:00-07:00, or Mon-Fri 22:00-07:00, "
                   "several joined by commas",
                   text);
}

/* The moment at which clocks show that, `days` days from the day of `tm`. */
static int64_t moment_of(const struct tm *today, int days, int minutes)
{
    struct tm tm = *today;
    tm.tm_mday += days;
    tm.tm_hour = 0;
    tm.tm_min = minutes;
    tm.tm_sec = 0;
    tm.tm_isdst = -1;
    return (int64_t)mktime(&tm) * 1000;
}

bool hours_open(const struct hours *h, int64_t wall_ms, int64_t *edge)
{
    time_t now = (time_t)(wall_ms / 1000);
    struct tm today;
    int64_t until = wall_ms, next = 0;
    localtime_r(&now, &today);
    /* From the day before yesterday on, whose span may last until now; in order, so that
     * spans that touch carry it on. */
    for (int day = -2; day <= DAYS_AHEAD; day++)
        for (int pass = 0; pass < h->count; pass++)
            for (int i = 0; i < h->count; i++) {
                int weekday = ((today.tm_wday + day) % 7 + 7) % 7;
                if (!(h->span[i].days >> weekday & 1))
                    continue;
                int64_t from = moment_of(&today, day, h->span[i].from);
                int64_t to = moment_of(&today, day, h->span[i].to);
                if (from <= until && to > until)
                    until = to;
                else if (from > wall_ms && (next == 0 || from < next))
                    next = from;
            }
    if (until > wall_ms) {
        /* As far as was looked, it does not close. */
        *edge = until >= moment_of(&today, DAYS_AHEAD, 0) ? 0 : until;
        return true;
    }
    *edge = next;
    return false;
}

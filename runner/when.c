#include "runner/when.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int when_read(const char *text, int64_t now, int64_t *ret)
{
    static const struct {
        char unit;
        int64_t ms;
    } units[] = {{'m', 60000}, {'h', 3600000}, {'d', 86400000}};
    char *end;
    long long n = strtoll(text, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (end != text && *end == units[i].unit && end[1] == '\0' && n >= 0 &&
            n < 1000000) {
            *ret = now - n * units[i].ms;
            return 0;
        }
    struct tm tm = {.tm_isdst = -1};
    const char *rest = strptime(text, "%Y-%m-%d", &tm), *more = rest;
    if (rest && (*rest == 'T' || *rest == ' ')) {
        more = strptime(rest + 1, "%H:%M:%S", &tm);
        if (more == NULL)
            more = strptime(rest + 1, "%H:%M", &tm);
    }
    if (more == NULL)
        return -1;
    if (*more == '\0') {
        *ret = (int64_t)mktime(&tm) * 1000;
        return 0;
    }
    int h = 0, m = 0, used = 0;
    char sign;
    if (strcmp(more, "Z") != 0 &&
        (sscanf(more, "%c%2d:%2d%n", &sign, &h, &m, &used) != 3 || more[used] ||
         (sign != '+' && sign != '-') || h > 14 || m > 59))
        return -1;
    int64_t offset = (h * 60 + m) * 60 * (*more == '-' ? -1 : 1);
    *ret = ((int64_t)timegm(&tm) - offset) * 1000;
    return 0;
}

const char *when_span(int64_t ms, char *buf, size_t size)
{
    int64_t min = (ms + 30000) / 60000;
    if (ms < 120000)
        snprintf(buf, size, "%.1f s", (double)ms / 1000);
    else if (min < 120)
        snprintf(buf, size, "%" PRId64 " min", min);
    else
        snprintf(buf, size, "%" PRId64 " h %" PRId64 " min", min / 60, min % 60);
    return buf;
}

#ifndef WHEN_H
#define WHEN_H

#include <stddef.h>
#include <stdint.h>

/* A moment as people say it: "8h", "30m", "2d" before `now`; a date; a date and time with
 * Z, an offset, or in local time. Wall ms. 0, or -1: it is none of these. */
int when_read(const char *text, int64_t now, int64_t *ret);

/* A span as people say it: 2.4 s, 95 min, 8 h 5 min. */
const char *when_span(int64_t ms, char *buf, size_t size);

#define WHEN_WANTED "want 8h, 2d, 2026-11-22 or 2026-11-22T07:00Z"

#endif

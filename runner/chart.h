#ifndef CHART_H
#define CHART_H

#include "jobs/textbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What went through a lane over time, against its limit, as one inline SVG. Pure: samples
 * in, text out. There is no text in the picture but what a pointer or a reader of screens
 * asks for: it is stretched to any width, and letters would be stretched with it. Classes
 * carry the colours: `sent`, `limit`, `held`, `halt`.
 */
struct chart_step {
    int64_t at; /* wall ms: from here on */
    double value;
};

struct chart_mark {
    int64_t from, to; /* wall ms; a halt: both the same */
    bool halt;
    const char *says; /* lent; untrusted */
    size_t of;        /* the caller's own */
};

struct chart {
    const char *label; /* what it shows, for who cannot see it; lent; untrusted */
    int64_t from, to;  /* wall ms; from < to */
    const double *values;
    size_t
        len; /* slices of equal length from `from` on; the last may reach beyond `to` */
    int64_t slice_ms;
    const struct chart_step *limits; /* in order; what is before the first is unknown */
    size_t limits_len;
    const struct chart_mark *marks;
    size_t marks_len;
};

/* A length for the slices of such a span, as a clock is divided: at most `most` of them. */
int64_t chart_slice(int64_t span_ms, size_t most);

/* From counts a slice to what went in a minute: slices shorter than that tell what went in
 * the minute that ends with them, since limits are for a minute. */
void chart_per_minute(double *values, size_t len, int64_t slice_ms);

double chart_peak(const struct chart *c);
double chart_limit(const struct chart *c); /* the highest; 0: not known */

/* The value of the upper edge; more than 0. A limit far above everything is left off the
 * picture, or nothing else could be seen in it. */
double chart_top(const struct chart *c);
bool chart_shows_limit(const struct chart *c);

void chart_svg(struct textbuf *b, const struct chart *c);

#endif

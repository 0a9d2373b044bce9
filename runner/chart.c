#include "runner/chart.h"

#include "runner/html.h"

#include <stdlib.h>
#include <string.h>

enum { WIDTH = 1000, HEIGHT = 100 };

#define HEADROOM 1.12   /* so that the limit's line is not the picture's edge */
#define LIMIT_FAR 4     /* times the peak: too far to be in one picture with it */
#define EDGE 2.0        /* what stands there is seen whole */
#define LEAST_WIDTH 2.5 /* of a mark, so that a short one is seen */

int64_t chart_slice(int64_t span_ms, size_t most)
{
    enum { S = 1000, MIN = 60 * S, H = 60 * MIN, D = 24 * H };
    static const int64_t steps[] = {100,      200,      500,      S,   2 * S,   5 * S,
                                    10 * S,   15 * S,   30 * S,   MIN, 2 * MIN, 5 * MIN,
                                    10 * MIN, 15 * MIN, 30 * MIN, H,   2 * H,   3 * H,
                                    6 * H,    12 * H,   D};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (span_ms <= steps[i] * (int64_t)most)
            return steps[i];
    return (span_ms / (int64_t)most / D + 1) * D;
}

void chart_per_minute(double *values, size_t len, int64_t slice_ms)
{
    enum { MINUTE = 60000 };
    if (slice_ms >= MINUTE) {
        for (size_t i = 0; i < len; i++)
            values[i] *= (double)MINUTE / (double)slice_ms;
        return;
    }
    size_t minute = (size_t)(MINUTE / slice_ms);
    for (size_t i = len; i-- > 0;) {
        size_t first = i + 1 >= minute ? i + 1 - minute : 0;
        double sum = 0;
        for (size_t k = first; k <= i; k++)
            sum += values[k];
        values[i] = sum;
    }
}

double chart_peak(const struct chart *c)
{
    double peak = 0;
    for (size_t i = 0; i < c->len; i++)
        peak = c->values[i] > peak ? c->values[i] : peak;
    return peak;
}

double chart_limit(const struct chart *c)
{
    double most = 0;
    for (size_t i = 0; i < c->limits_len; i++)
        most = c->limits[i].value > most ? c->limits[i].value : most;
    return most;
}

bool chart_shows_limit(const struct chart *c)
{
    double limit = chart_limit(c);
    return limit > 0 && limit <= LIMIT_FAR * chart_peak(c);
}

double chart_top(const struct chart *c)
{
    double top = chart_peak(c), limit = chart_limit(c);
    if (chart_shows_limit(c) && limit > top)
        top = limit;
    return top > 0 ? top * HEADROOM : 1;
}

static double x_of(const struct chart *c, int64_t at)
{
    double x = (double)(at - c->from) * WIDTH / (double)(c->to - c->from);
    return x < 0 ? 0 : x > WIDTH ? WIDTH : x;
}

static double y_of(double value, double top)
{
    double y = HEIGHT - value * HEIGHT / top;
    return y < 0 ? 0 : y;
}

static void put_sent(struct textbuf *b, const struct chart *c, double top)
{
    textbuf_putf(b, "<path class=\"sent\" d=\"M0 %d", HEIGHT);
    for (size_t i = 0; i < c->len; i++) {
        size_t n = i; /* alike ones in one stroke */
        while (n + 1 < c->len && c->values[n + 1] <= c->values[i] &&
               c->values[n + 1] >= c->values[i])
            n++;
        textbuf_putf(b, "V%.1fH%.1f", y_of(c->values[i], top),
                     x_of(c, c->from + (int64_t)(n + 1) * c->slice_ms));
        i = n;
    }
    textbuf_putf(b, "V%dZ\"/>", HEIGHT);
}

static void put_limit(struct textbuf *b, const struct chart *c, double top)
{
    if (!chart_shows_limit(c))
        return;
    textbuf_puts(b, "<path class=\"limit\" d=\"");
    for (size_t i = 0; i < c->limits_len; i++) {
        int64_t end = i + 1 < c->limits_len ? c->limits[i + 1].at : c->to;
        if (c->limits[i].value <= 0 || end <= c->from)
            continue;
        textbuf_putf(b, "M%.1f %.1fH%.1f", x_of(c, c->limits[i].at),
                     y_of(c->limits[i].value, top), x_of(c, end));
    }
    textbuf_puts(b, "\"/>");
}

static void put_marks(struct textbuf *b, const struct chart *c, bool halts)
{
    for (size_t i = 0; i < c->marks_len; i++) {
        const struct chart_mark *m = &c->marks[i];
        double x = x_of(c, m->from), w = x_of(c, m->to) - x;
        if (m->halt != halts || m->to < c->from || m->from > c->to)
            continue;
        if (halts) {
            x = x > WIDTH - EDGE ? WIDTH - EDGE : x < EDGE ? EDGE : x;
            textbuf_putf(b, "<path class=\"halt\" d=\"M%.1f 0V%d\">", x, HEIGHT);
        } else {
            w = w < LEAST_WIDTH ? LEAST_WIDTH : w;
            x = x + w > WIDTH ? WIDTH - w : x;
            textbuf_putf(b,
                         "<rect class=\"held\" x=\"%.1f\" y=\"0\" width=\"%.1f\" "
                         "height=\"%d\">",
                         x, w, HEIGHT);
        }
        textbuf_puts(b, "<title>");
        html_text(b, m->says, 200);
        textbuf_puts(b, halts ? "</title></path>" : "</title></rect>");
    }
}

void chart_svg(struct textbuf *b, const struct chart *c)
{
    double top = chart_top(c);
    textbuf_putf(b,
                 "<svg viewBox=\"0 0 %d %d\" preserveAspectRatio=\"none\" role=\"img\" "
                 "aria-label=\"",
                 WIDTH, HEIGHT);
    html_text(b, c->label, 300);
    textbuf_puts(b, "\">");
    put_marks(b, c, false);
    put_sent(b, c, top);
    put_limit(b, c, top);
    put_marks(b, c, true);
    textbuf_puts(b, "</svg>");
}

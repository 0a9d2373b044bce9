#include "runner/curve.h"

#include "runner/err.h"

#include <stdlib.h>

static int by_score(const void *a, const void *b)
{
    double x = ((const struct curve_row *)a)->score;
    double y = ((const struct curve_row *)b)->score;
    return (x < y) - (x > y);
}

/* Where the piece from (s, p) to (s_end, p_end) first reaches `want`. */
static double crossing(double s, double p, double s_end, double p_end, double want)
{
    return p_end > p ? s + (s_end - s) * (want - p) / (p_end - p) : s;
}

int curve_of(struct curve_row *rows, size_t len, struct curve *ret, struct err *e)
{
    double all = 0, s = 0, p = 0;
    for (size_t i = 0; i < len; i++)
        all += rows[i].gain;
    if (all <= 0)
        return err_set(e, ERR_INPUT,
                       "the strong rung is right no more often than the weak one");

    *ret = (struct curve){.cpt50 = -1, .cpt80 = -1};
    qsort(rows, len, sizeof *rows, by_score);
    for (size_t i = 0, end; i < len; i = end) {
        double gain = 0;
        for (end = i; end < len && rows[end].score == rows[i].score; end++)
            gain += rows[end].gain;
        double s_end = (double)end / (double)len, p_end = p + gain / all;
        ret->apgr += (s_end - s) * (p + p_end) / 2;
        if (ret->cpt50 < 0 && p_end >= 0.5)
            ret->cpt50 = crossing(s, p, s_end, p_end, 0.5);
        if (ret->cpt80 < 0 && p_end >= 0.8)
            ret->cpt80 = crossing(s, p, s_end, p_end, 0.8);
        s = s_end;
        p = p_end;
    }
    return 0;
}

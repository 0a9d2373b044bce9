#ifndef CURVE_H
#define CURVE_H

#include <stddef.h>

struct err;

/*
 * How well a score tells which jobs to give to the strong rung. Jobs go there in order of
 * their score, highest first. With q the share that is right when a share s went there,
 * qw and qs those of the weak and the strong rung alone:
 *
 *   PGR(s) = (q - qw) / (qs - qw), the part of the gap that is closed
 *   APGR   = integral of PGR(s) over s from 0 to 1
 *   CPT(x) = the least s with PGR(s) >= x
 *
 * (Ong et al., RouteLLM, arXiv 2406.18665.) The curve is exact, not binned; jobs of one
 * score are taken as one straight piece, which is what a random order among them gives on
 * average.
 */
struct curve_row {
    double score;
    int gain; /* strong right minus weak right: -1, 0, 1 */
};

struct curve {
    double apgr, cpt50, cpt80;
};

/* Sorts `rows`. -1 where the strong rung is not better: there is no gap to close. */
int curve_of(struct curve_row *rows, size_t len, struct curve *ret, struct err *e);

#endif

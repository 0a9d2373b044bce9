#ifndef VIEW_H
#define VIEW_H

#include "conf/catalog.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What a person sees of a run on a terminal, as lines of text. Pure: figures in, lines
 * out; screen.h puts them on the terminal. Widths are columns as wcwidth() counts them
 * in the locale of the caller.
 */
enum {
    VIEW_FAILURES = 3,
    VIEW_ROWS_MAX = 24,
    VIEW_COLUMNS_MAX = 120, /* wider is not calmer */
    VIEW_LINE_MAX = 4 * VIEW_COLUMNS_MAX + 1,
    VIEW_COLUMNS_MIN = 39, /* on less than that a plain line now and then says more */
    VIEW_ROWS_MIN = 4,
    VIEW_SAYS_MAX = 256,
};

struct view_lane {
    const char *name; /* lent, like all strings here */
    int64_t done;
    int64_t left; /* jobs that only this lane can do: what is known of them */
    int in_flight;
    picodollars cost;
    char says[VIEW_SAYS_MAX]; /* what binds, or why it waits */
    double speed;             /* jobs a minute that it gets through; 0: not known */
    int64_t hold_ms;          /* it sends nothing for so long; 0: it does */
};

struct view {
    int64_t done, failed, parked, left; /* of this run; left: as far as is known */
    int64_t elapsed_ms;
    picodollars spent, doubt;
    picodollars ceiling;  /* 0: none */
    const char *ceilings; /* whose it is: "this run", "today"; NULL with none */
    const char *waits;    /* why nothing moves; NULL: it does */
    const struct view_lane *lanes;
    size_t lanes_len;
    const char *failures[VIEW_FAILURES]; /* the newest last; NULL: none */
    bool over;                           /* nothing is to come: no word of that */
};

struct view_lines {
    int count;
    char line[VIEW_ROWS_MAX][VIEW_LINE_MAX];
};

/* At most `rows` lines of at most `columns` columns, both at least the MIN above. */
void view_draw(const struct view *v, int columns, int rows, struct view_lines *ret);

/* How long `left` jobs take where lanes send at their speed as soon as their holds are
 * over, each lane its own and all of them those that are no lane's: ms, or -1 where
 * nobody can say. */
int64_t view_eta(int64_t left, const struct view_lane *lanes, size_t lanes_len);

/* `text` cut to `columns`, what is no printable text shown as `?`; a cut ends in `...`.
 * Returns the columns it takes. `size` of at least 4 bytes. */
int view_fit(const char *text, int columns, char *buf, size_t size);

#endif

#ifndef SCREEN_H
#define SCREEN_H

#include <stdbool.h>

struct screen;
struct view_lines;

/*
 * A few lines at the foot of a terminal that are drawn over and over, in the ordinary
 * screen: what was said stays above them and in the scrollback. How the terminal is told
 * comes from terminfo. NULL: `fd` is no terminal, TERM names none that can move up and
 * clear, or no memory.
 */
struct screen *screen_new(int fd);
void screen_free(struct screen *s); /* takes the lines away; NULL is fine */

/* As it is now: a window that changed is seen at the next drawing. False: too small
 * for a view, and what is shown was taken away. */
bool screen_size(struct screen *s, int *columns, int *rows);

/* In the place of what is there. */
void screen_draw(struct screen *s, const struct view_lines *lines);

/* A line for good, above the others, which are put back at once if `again`, else with
 * the next drawing: so that many lines in a row do not mean as many drawings. */
void screen_say(struct screen *s, const char *line, bool again);

/* What is there stays for good; what comes next begins below. */
void screen_keep(struct screen *s);

#endif

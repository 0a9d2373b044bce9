#include "runner/screen.h"

#include "jobs/textbuf.h"
#include "runner/view.h"

#include <curses.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <term.h>
#include <unistd.h>

/* term.h names each capability with a macro, these among them. */
#undef columns
#undef lines

struct screen {
    int fd;
    const char *up, *clear; /* terminfo's: a line up; to the end of the line */
    struct view_lines now;  /* what is there; the cursor is at the end of its last */
    int width;              /* of the window when that was drawn */
    struct textbuf out;     /* one write a drawing, so that nothing is seen half */
};

static const char *capability(const char *name)
{
    const char *c = tigetstr(name);
    return c && c != (const char *)-1 && *c ? c : NULL;
}

struct screen *screen_new(int fd)
{
    const char *term = getenv("TERM");
    int rc;
    if (!isatty(fd) || term == NULL || *term == '\0' || strcmp(term, "dumb") == 0 ||
        setupterm(NULL, fd, &rc) != OK)
        return NULL;
    struct screen *s = calloc(1, sizeof *s);
    const char *up = capability("cuu1"), *clear = capability("el");
    if (s == NULL || up == NULL || clear == NULL) {
        free(s);
        del_curterm(cur_term);
        return NULL;
    }
    s->fd = fd;
    s->up = up;
    s->clear = clear;
    return s;
}

static void flush(struct screen *s)
{
    const char *p = s->out.at;
    size_t left = s->out.failed ? 0 : s->out.len;
    while (left > 0) {
        ssize_t n = write(s->fd, p, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break; /* the terminal is gone: the run goes on */
        p += n;
        left -= (size_t)n;
    }
    textbuf_clear(&s->out);
}

static int window_width(const struct screen *s, int *rows)
{
    struct winsize w;
    if (ioctl(s->fd, TIOCGWINSZ, &w) < 0 || w.ws_col == 0 || w.ws_row == 0)
        w = (struct winsize){.ws_col = 80, .ws_row = 24};
    *rows = w.ws_row;
    return w.ws_col;
}

/* Back to where the first of our lines begins, and nothing behind it: line by line, for
 * some terminals keep in the scrollback what is cleared as a whole screen. A window that
 * became narrower has broken the lines into more rows. */
static void take_away(struct screen *s)
{
    int rows, width = window_width(s, &rows), up = -1;
    char cut[VIEW_LINE_MAX];
    if (s->now.count == 0)
        return;
    for (int i = 0; i < s->now.count; i++) {
        int w = view_fit(s->now.line[i], VIEW_COLUMNS_MAX, cut, sizeof cut);
        up += width >= s->width || w == 0 ? 1 : (w + width - 1) / width;
    }
    up = up < rows ? up : rows - 1;
    textbuf_puts(&s->out, "\r");
    textbuf_puts(&s->out, s->clear);
    for (int i = 0; i < up; i++) {
        textbuf_puts(&s->out, s->up);
        textbuf_puts(&s->out, s->clear);
    }
}

static void put_lines(struct screen *s)
{
    int rows;
    s->width = window_width(s, &rows);
    for (int i = 0; i < s->now.count; i++) {
        textbuf_puts(&s->out, i ? "\r\n" : "");
        textbuf_puts(&s->out, s->now.line[i]);
    }
}

bool screen_size(struct screen *s, int *columns, int *rows)
{
    *columns = window_width(s, rows);
    if (*columns > VIEW_COLUMNS_MIN && *rows > VIEW_ROWS_MIN) {
        --*columns; /* a full line would make some terminals go on to the next */
        --*rows;
        return true;
    }
    take_away(s);
    s->now.count = 0;
    flush(s);
    return false;
}

void screen_draw(struct screen *s, const struct view_lines *lines)
{
    take_away(s);
    s->now = *lines;
    put_lines(s);
    flush(s);
}

void screen_say(struct screen *s, const char *line, bool again)
{
    int rows, width = window_width(s, &rows);
    take_away(s);
    textbuf_puts(&s->out, line);
    textbuf_puts(&s->out, "\r\n");
    if (!again || width != s->width)
        s->now.count = 0;
    put_lines(s);
    flush(s);
}

void screen_keep(struct screen *s)
{
    if (s->now.count > 0)
        textbuf_puts(&s->out, "\r\n");
    s->now.count = 0;
    flush(s);
}

void screen_free(struct screen *s)
{
    if (s == NULL)
        return;
    take_away(s);
    flush(s);
    textbuf_free(&s->out);
    del_curterm(cur_term);
    free(s);
}

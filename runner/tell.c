#include "runner/tell.h"

#include "jobs/textbuf.h"
#include "runner/log.h"
#include "runner/screen.h"
#include "runner/view.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { VIEW_EVERY_MS = 250, PLAIN_EVERY_MS = 10000, FAILURE_MAX = 300 };

struct tell {
    bool json, quiet;
    struct screen *screen; /* NULL: plain lines */
    int columns, rows;     /* of the view; 0: the window is too small for one */
    int64_t drawn_at, last_at;
    char failures[VIEW_FAILURES][FAILURE_MAX]; /* the newest last */
    struct textbuf text;
    char last[1024]; /* of progress, without what changes always */
};

static int64_t mono_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Lines go above the view. */
static void on_log(void *arg, const char *line)
{
    struct tell *t = arg;
    int64_t now = mono_ms();
    if (t->screen == NULL) {
        fprintf(stderr, "%s\n", line);
        return;
    }
    bool again = now - t->drawn_at >= VIEW_EVERY_MS;
    if (again)
        t->drawn_at = now;
    screen_say(t->screen, line, again);
}

struct tell *tell_new(bool json, bool quiet)
{
    struct tell *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->json = json;
    t->quiet = quiet;
    /* Events on the same terminal would tear the view. */
    if (!quiet && !(json && isatty(STDOUT_FILENO)))
        t->screen = screen_new(STDERR_FILENO);
    t->last_at = -PLAIN_EVERY_MS / 2;
    t->drawn_at = mono_ms() - VIEW_EVERY_MS;
    log_set_sink(on_log, t);
    log_for_person(t->screen != NULL);
    return t;
}

void tell_free(struct tell *t)
{
    if (t == NULL)
        return;
    screen_free(t->screen);
    log_set_sink(NULL, NULL);
    log_for_person(false);
    textbuf_free(&t->text);
    free(t);
}

bool tell_wants_view(struct tell *t, bool last)
{
    int64_t now = mono_ms();
    if (t->screen == NULL || (!last && now - t->drawn_at < VIEW_EVERY_MS))
        return false;
    t->drawn_at = now;
    if (screen_size(t->screen, &t->columns, &t->rows))
        return true;
    t->columns = 0;
    return false;
}

void tell_view(struct tell *t, struct view *v, bool last)
{
    struct view_lines lines;
    for (int i = 0; i < VIEW_FAILURES; i++)
        v->failures[i] = *t->failures[i] ? t->failures[i] : NULL;
    view_draw(v, t->columns, t->rows, &lines);
    screen_draw(t->screen, &lines);
    if (last)
        screen_keep(t->screen);
}

void tell_failure(struct tell *t, const char *job, const char *says)
{
    memmove(t->failures[0], t->failures[1], sizeof t->failures - FAILURE_MAX);
    snprintf(t->failures[VIEW_FAILURES - 1], FAILURE_MAX, "%.120s: %.170s", job, says);
}

void tell_progress(struct tell *t, const struct tally *y, int64_t elapsed_ms,
                   const char *waits, const char *paces, bool only_news)
{
    const char *label = waits ? " waiting: " : *paces ? " pace: " : "";
    char usd[CATALOG_USD_MAX], line[1024];
    if (t->quiet || (t->screen && t->columns > 0) ||
        elapsed_ms - t->last_at < PLAIN_EVERY_MS)
        return;
    snprintf(line, sizeof line, "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %s",
             y->done, y->failed, y->parked, y->queued, waits ? waits : "");
    if (only_news && strcmp(line, t->last) == 0)
        return;
    snprintf(t->last, sizeof t->last, "%s", line);
    t->last_at = elapsed_ms;
    snprintf(line, sizeof line,
             "progress done=%" PRId64 " failed=%" PRId64 " parked=%" PRId64
             " in_flight=%d queued=%" PRId64 " spent_usd=%s elapsed_s=%" PRId64 "%s%s",
             y->done, y->failed, y->parked, y->in_flight, y->queued,
             catalog_usd(y->spent, usd), elapsed_ms / 1000, label,
             waits ? waits : paces);
    on_log(t, line);
}

void tell_line(struct tell *t, bool needs_person, const char *fmt, ...)
{
    va_list ap;
    if (t->quiet && !needs_person)
        return;
    va_start(ap, fmt);
    char text[2048] = "nightmill: ";
    size_t n = strlen(text);
    vsnprintf(text + n, sizeof text - n, fmt, ap);
    va_end(ap);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' '; /* what outsiders said must not steer the terminal */
    on_log(t, text);
}

bool tell_wants_events(const struct tell *t)
{
    return t->json;
}

void tell_event(struct tell *t, const char *event, int64_t wall_ms, const char *fmt,
                ...)
{
    va_list ap;
    char members[4096];
    if (!t->json)
        return;
    va_start(ap, fmt);
    int n = vsnprintf(members, sizeof members, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof members)
        *members = '\0'; /* half an object would be none */
    textbuf_clear(&t->text);
    textbuf_putf(&t->text, "{\"event\":\"%s\",\"at\":", event);
    textbuf_json_time(&t->text, wall_ms);
    textbuf_putf(&t->text, "%s%s}\n", *members ? "," : "", members);
    if (!t->text.failed) {
        fwrite(t->text.at, 1, t->text.len, stdout);
        fflush(stdout);
    }
}

#include "runner/tell.h"

#include "jobs/textbuf.h"
#include "runner/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { TERMINAL_EVERY_MS = 200, PLAIN_EVERY_MS = 10000 };

struct tell {
    bool json, quiet, terminal, shown;
    int64_t last_at;
    struct textbuf text;
};

static void take_away(struct tell *t)
{
    if (t->shown)
        fputs("\r\033[K", stderr);
    t->shown = false;
}

/* Log lines go above the moving line. */
static void on_log(void *arg, const char *line)
{
    take_away(arg);
    fprintf(stderr, "%s\n", line);
}

struct tell *tell_new(bool json, bool quiet)
{
    struct tell *t = calloc(1, sizeof *t);
    const char *term = getenv("TERM");
    if (t == NULL)
        return NULL;
    t->json = json;
    t->quiet = quiet;
    t->terminal = !quiet && isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    t->last_at = -PLAIN_EVERY_MS / 2;
    log_set_sink(on_log, t);
    return t;
}

void tell_free(struct tell *t)
{
    if (t == NULL)
        return;
    take_away(t);
    log_set_sink(NULL, NULL);
    textbuf_free(&t->text);
    free(t);
}

static int columns(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col : 80;
}

void tell_progress(struct tell *t, const struct tally *y, int64_t elapsed_ms,
                   const char *waits, const char *paces)
{
    const char *label = waits ? " waiting: " : *paces ? " pace: " : "";
    char usd[CATALOG_USD_MAX];
    int64_t every = t->terminal ? TERMINAL_EVERY_MS : PLAIN_EVERY_MS;
    if (t->quiet || elapsed_ms - t->last_at < every)
        return;
    t->last_at = elapsed_ms;
    catalog_usd(y->spent, usd);
    if (!t->terminal) {
        fprintf(stderr,
                "progress done=%" PRId64 " failed=%" PRId64 " parked=%" PRId64
                " in_flight=%d queued=%" PRId64 " spent_usd=%s elapsed_s=%" PRId64
                "%s%s\n",
                y->done, y->failed, y->parked, y->in_flight, y->queued, usd,
                elapsed_ms / 1000, label, waits ? waits : paces);
        return;
    }
    char line[512];
    snprintf(line, sizeof line,
             "%" PRId64 " done, %" PRId64 " failed, %d in flight, %" PRId64
             " to go  $%s  %" PRId64 ":%02" PRId64 "%s%s",
             y->done, y->failed + y->parked, y->in_flight, y->queued, usd,
             elapsed_ms / 60000, elapsed_ms / 1000 % 60, *label ? "  " : "",
             waits ? waits : paces);
    fprintf(stderr, "\r\033[K%.*s", columns() - 1, line);
    fflush(stderr);
    t->shown = true;
}

void tell_line(struct tell *t, bool needs_person, const char *fmt, ...)
{
    va_list ap;
    if (t->quiet && !needs_person)
        return;
    take_away(t);
    va_start(ap, fmt);
    textbuf_clear(&t->text);
    char text[2048];
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' '; /* what outsiders said must not steer the terminal */
    fprintf(stderr, "nightmill: %s\n", text);
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

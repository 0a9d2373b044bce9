/*
 * The report as a page: HTML and its style in one file, no script, nothing from elsewhere
 * (its own policy forbids it, should anything ever get through the escapes). Whatever came
 * from outside goes through html_text().
 */
#include "runner/html.h"
#include "runner/report.h"

#include "jobs/job.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    NAME_MAX_SHOWN = 120,
    SAYS_MAX_SHOWN = 320,
    KEY_MAX_SHOWN = 60,
    ROWS_SHOWN = 12
};

/* page.css, as it is built in. */
extern const char page_style[];
extern const size_t page_style_len;

struct page {
    struct textbuf *b;
    struct report *r;
    int places; /* decimals of dollars, the same on all of the page */
    bool dated; /* the run saw more than one day */
    bool far;   /* a limit was left off its chart */
};

static void put(struct page *p, const char *s)
{
    textbuf_puts(p->b, s);
}

#define putf(p, ...) textbuf_putf((p)->b, __VA_ARGS__)

static void text(struct page *p, const char *s, size_t max)
{
    html_text(p->b, s, max);
}

static const char *s_if_many(int64_t n)
{
    return n == 1 ? "" : "s";
}

/* --- figures --- */

/* Thousands apart: 1,234,567 */
static const char *grouped(const char *digits, char *buf, size_t size)
{
    size_t len = strcspn(digits, "."), at = 0;
    for (size_t i = 0; i < len && at + 2 < size; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            buf[at++] = ',';
        buf[at++] = digits[i];
    }
    snprintf(buf + at, size - at, "%s", digits + len);
    return buf;
}

static void count(struct page *p, int64_t n)
{
    char digits[32], buf[48];
    snprintf(digits, sizeof digits, "%" PRId64, n < 0 ? -n : n);
    putf(p, "%s%s", n < 0 ? "-" : "", grouped(digits, buf, sizeof buf));
}

/* 1,234 or 5.67 M: of what nobody counts one by one */
static void tokens(struct page *p, double n)
{
    static const struct {
        double from, unit;
        const char *name;
    } units[] = {{9.9995e9, 1e9, " G"}, {9.9995e6, 1e6, " M"}, {99999.5, 1e3, " k"}};
    char digits[48], buf[64];
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (n >= units[i].from) {
            double x = n / units[i].unit;
            snprintf(digits, sizeof digits, "%.*f", x < 100 ? 1 : 0, x);
            putf(p, "%s%s", grouped(digits, buf, sizeof buf), units[i].name);
            return;
        }
    snprintf(digits, sizeof digits, "%.0f", n);
    put(p, grouped(digits, buf, sizeof buf));
}

static void usd(struct page *p, picodollars amount)
{
    char digits[48], buf[64];
    double x = (double)amount / (double)PICODOLLARS_PER_DOLLAR;
    double least = pow(10, -p->places);
    if (amount != 0 && fabs(x) < least / 2) {
        putf(p, "%s&lt;&#8201;$%.*f", x < 0 ? "-" : "", p->places, least);
        return;
    }
    snprintf(digits, sizeof digits, "%.*f", p->places, fabs(x));
    putf(p, "%s$%s", x < 0 ? "-" : "", grouped(digits, buf, sizeof buf));
}

static void usd_range(struct page *p, picodollars low, picodollars high)
{
    usd(p, low);
    put(p, " to ");
    usd(p, high);
}

/* 0.8 s, 35 s, 12 min 5 s, 8 h 14 min, 3 days 2 h */
static void span(struct page *p, int64_t ms)
{
    int64_t s = (ms + 500) / 1000;
    if (ms < 10000)
        putf(p, "%.1f&#160;s", (double)ms / 1000);
    else if (s < 60)
        putf(p, "%" PRId64 "&#160;s", s);
    else if (s < 3600)
        putf(p,
             s % 60 ? "%" PRId64 "&#160;min&#160;%" PRId64 "&#160;s"
                    : "%" PRId64 "&#160;min",
             s / 60, s % 60);
    else if (s < 48 * 3600)
        putf(p, "%" PRId64 "&#160;h&#160;%" PRId64 "&#160;min", s / 3600, s / 60 % 60);
    else
        putf(p, "%" PRId64 "&#160;days&#160;%" PRId64 "&#160;h", s / 86400,
             s / 3600 % 24);
}

/* How moments are written. */
#define WHENS(X)                     \
    X(TIME, "%H:%M")                 \
    X(TIME_FINE, "%H:%M:%S")         \
    X(DAY_TIME, "%e&#160;%b %H:%M")  \
    X(WEEKDAY, "%a %e %B, %H:%M")    \
    X(BEGIN, "%a %e %B %Y, %H:%M")   \
    X(WHOLE, "%e&#160;%b %Y, %H:%M") \
    X(MADE, "%e %B %Y at %H:%M %Z")

enum when {
#define X(when, format) WHEN_##when,
    WHENS(X)
#undef X
};

static void moment(struct page *p, int64_t wall_ms, enum when when)
{
    char buf[64] = "";
    time_t t = (time_t)(wall_ms / 1000);
    struct tm tm;
    localtime_r(&t, &tm);
    switch (when) {
#define X(when, format)                         \
    case WHEN_##when:                           \
        strftime(buf, sizeof buf, format, &tm); \
        break;
        WHENS(X)
#undef X
    }
    put(p, buf[0] == ' ' ? buf + 1 : buf);
}

static void clock_of(struct page *p, int64_t wall_ms)
{
    int64_t all = p->r->to - p->r->from;
    moment(p, wall_ms,
           all < 3600000        ? WHEN_TIME_FINE
           : all < 24 * 3600000 ? WHEN_TIME
                                : WHEN_DAY_TIME);
}

/* A command line that can be copied: nightmill VERB DIR */
static void command(struct page *p, const char *verb)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789_./+-:@%=,";
    const char *dir = p->r->queue;
    struct textbuf quoted = {0};
    if (dir[strspn(dir, plain)] == '\0' && *dir != '-') {
        textbuf_puts(&quoted, dir);
    } else {
        textbuf_puts(&quoted, "'");
        for (const char *s = dir; *s; s++)
            textbuf_put(&quoted, *s == '\'' ? "'\\''" : s, *s == '\'' ? 4 : 1);
        textbuf_puts(&quoted, "'");
    }
    putf(p, "<code>nightmill %s ", verb);
    text(p, quoted.at, 0);
    put(p, "</code>");
    p->b->failed = p->b->failed || quoted.failed;
    textbuf_free(&quoted);
}

/* --- the top --- */

static int64_t waiting(const struct report *r)
{
    return r->totals.jobs[JOB_QUEUED] + r->totals.jobs[JOB_IN_FLIGHT];
}

static bool at_work(const struct report *r)
{
    return r->busy && r->last.open;
}

static void state_of(struct page *p)
{
    const struct report *r = p->r;
    bool bad = r->totals.jobs[JOB_FAILED] + r->totals.jobs[JOB_PARKED] > 0;
    const char *word = "all done", *colour = "good";
    if (at_work(r)) {
        word = "at work";
        colour = "blue";
    } else if (r->last.died) {
        word = "died";
        colour = "bad";
    } else if (stop_needs_person(r->last.stop)) {
        word = "stopped";
        colour = "bad";
    } else if (waiting(r) > 0) {
        word = "jobs wait";
        colour = "warn";
    } else if (bad) {
        word = "done, some failed";
        colour = "warn";
    } else if (r->totals.known - r->totals.gone == 0) {
        word = "empty";
        colour = "soft";
    }
    putf(p, "<span class=\"state %s\">%s</span>", colour, word);
}

/* What the run did, as one sentence. */
static void headline(struct page *p)
{
    const struct report *r = p->r;
    int64_t done = r->rest[JOB_DONE];
    put(p, "<h1>");
    if (r->run.id == 0 && r->totals.known - r->totals.gone == 0) {
        put(p, "There is nothing to send.");
    } else if (r->run.id == 0) {
        put(p, "Nothing was sent yet.");
    } else {
        if (done > 0)
            count(p, done);
        else
            put(p, "No");
        putf(p, " job%s done%s for ", done == 1 ? "" : "s",
             at_work(r) ? " so far" : "");
        usd(p, r->cost);
        put(p, " in ");
        span(p, r->to - r->from);
        put(p, ".");
    }
    put(p, "</h1>");
}

/* How it ended: the words of the run itself. */
static void how_it_ended(struct page *p)
{
    const struct report *r = p->r;
    const struct report_run *x = &r->last;
    int64_t left = waiting(r);
    bool sent = r->run.id > 0 && r->run.id == r->last.id;
    char says[ENDING_SAYS_MAX] = "";
    put(p, "<p>");
    if (at_work(r)) {
        put(p, "A runner is at work: these are its figures so far. ");
        count(p, r->in_flight);
        putf(p, " request%s %s out.", s_if_many(r->in_flight),
             r->in_flight == 1 ? "is" : "are");
    } else if (x->died) {
        put(p,
            "The run died before its end. What it had out may have been answered, and "
            "is in doubt; the same command goes on.");
    } else if (x->stop) {
        ending_says(&(struct ending){.stop = x->stop,
                                     .says = x->reason,
                                     .state = r->state,
                                     .until = x->until,
                                     .left = left,
                                     .done = r->rest[JOB_DONE],
                                     .spent = r->cost,
                                     .sent = sent},
                    says, sizeof says);
        if (*says >= 'a' && *says <= 'z')
            *says = (char)(*says - 'a' + 'A');
        text(p, says, 0);
    } else if (*x->reason) { /* of a store that kept no more */
        put(p, "Stopped: ");
        text(p, x->reason, SAYS_MAX_SHOWN);
        put(p, ".");
    } else if (r->totals.known - r->totals.gone == 0) {
        put(p, "There are no job files in the queue.");
    } else if (left > 0) {
        put(p, "It came to its end, and ");
        count(p, left);
        putf(p, " job%s left.", left == 1 ? " is" : "s are");
    } else {
        put(p, "It came to its end: nothing waits.");
    }
    put(p, "</p>");
    if (r->run.id && r->run.id != r->last.id && !r->wanted) {
        put(p, "<p class=\"note\">The last run, ");
        count(p, r->last.id);
        put(p, " at ");
        moment(p, r->last.started_at, WHEN_DAY_TIME);
        put(p, ", sent nothing. The figures below are of run ");
        count(p, r->run.id);
        put(p, ", the last that did.</p>");
    }
}

static void todo(struct page *p)
{
    const struct report *r = p->r;
    const struct store_totals *t = &r->totals;
    int64_t failed = t->jobs[JOB_FAILED] + t->jobs[JOB_PARKED] - t->invalid;
    int64_t left = waiting(r);
    if (t->jobs[JOB_FAILED] + t->jobs[JOB_PARKED] + t->doubt + left == 0 || at_work(r))
        return;
    put(p, "<ul class=\"todo\">");
    if (left > 0) {
        put(p, "<li>");
        count(p, left);
        putf(p, " job%s. To go on: ", left == 1 ? " waits" : "s wait");
        command(p, "run");
        put(p, "</li>");
    }
    for (size_t i = 0; i < r->parked_len; i++) {
        put(p, "<li><b>");
        text(p, r->parked[i][0], NAME_MAX_SHOWN);
        put(p, "</b> is parked (");
        text(p, r->parked[i][1], SAYS_MAX_SHOWN);
        put(p, "). Mend it, or take it up again with retry.</li>");
    }
    if (failed > 0) {
        put(p, "<li>");
        count(p, failed);
        putf(p, " job%s failed or %s parked; why is below. To send %s again: ",
             s_if_many(failed), failed == 1 ? "is" : "are",
             failed == 1 ? "it" : "them");
        command(p, "retry");
        put(p, "</li>");
    }
    if (t->invalid > 0) {
        put(p, "<li>");
        count(p, t->invalid);
        putf(p,
             " could not be read as %s; why is below. Mend the file%s, then run the "
             "same command.</li>",
             t->invalid == 1 ? "a job" : "jobs", s_if_many(t->invalid));
    }
    if (t->doubt > 0) {
        put(p, "<li>");
        count(p, t->doubt);
        putf(p, " attempt%s %s in doubt: %s may have cost between ",
             s_if_many(t->doubt), t->doubt == 1 ? "is" : "are",
             t->doubt == 1 ? "it" : "they");
        usd(p, t->doubt_low);
        put(p, " and ");
        usd(p, t->doubt_high);
        put(p, ". Once you have checked: ");
        command(p, "settle");
        put(p, "</li>");
    }
    put(p, "</ul>");
}

static void head(struct page *p)
{
    const struct report *r = p->r;
    put(p, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
           "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
           "<meta name=\"color-scheme\" content=\"light dark\">\n"
           "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
           "style-src 'unsafe-inline'\">\n<title>");
    count(p, r->totals.jobs[JOB_DONE]);
    put(p, " done, ");
    count(p, r->totals.jobs[JOB_FAILED] + r->totals.jobs[JOB_PARKED]);
    put(p, " failed: ");
    text(p, r->queue, KEY_MAX_SHOWN);
    put(p, "</title>\n<style>\n");
    textbuf_put(p->b, page_style, page_style_len);
    put(p, "</style>\n</head>\n<body>\n<main>\n<header>\n<p class=\"kind\">");
    state_of(p);
    text(p, r->queue, NAME_MAX_SHOWN);
    put(p, "</p>\n");
    headline(p);
    if (r->run.id) {
        put(p, "<p class=\"kind\">Run ");
        count(p, r->run.id);
        put(p, ", ");
        moment(p, r->run.started_at, WHEN_BEGIN);
        put(p, " to ");
        moment(p, r->run.ended_at, p->dated ? WHEN_WEEKDAY : WHEN_TIME);
        if (r->from > r->run.started_at) {
            put(p, "; of that, what left since ");
            moment(p, r->from, WHEN_WEEKDAY);
        }
        put(p, "</p>\n");
    }
    how_it_ended(p);
    todo(p);
    put(p, "\n</header>\n");
}

/* --- jobs --- */

static void tile(struct page *p, const char *colour, const char *name, int64_t n)
{
    put(p, "<div><dt>");
    if (*colour)
        putf(p, "<span class=\"dot %s\"></span>", colour);
    putf(p, "%s</dt><dd>", name);
    count(p, n);
    put(p, "</dd></div>");
}

static void jobs(struct page *p)
{
    const struct store_totals *t = &p->r->totals;
    const struct {
        const char *name, *colour;
        int64_t n;
    } parts[] = {{"done", "f-done", t->jobs[JOB_DONE]},
                 {"failed", "f-failed", t->jobs[JOB_FAILED]},
                 {"parked", "f-parked", t->jobs[JOB_PARKED]},
                 {"waiting", "f-wait", waiting(p->r)}};
    int64_t asked = t->known - t->gone;
    put(p, "<section><h2>Jobs of the queue</h2>");
    if (asked > 0) {
        put(p, "<div class=\"bar\">");
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
            if (parts[i].n > 0)
                putf(p, "<i class=\"%s\" style=\"flex-grow:%" PRId64 "\"></i>",
                     parts[i].colour, parts[i].n);
        put(p, "</div>");
    }
    put(p, "<dl class=\"tiles\">");
    tile(p, "", "asked", asked);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        tile(p, parts[i].colour, parts[i].name, parts[i].n);
    put(p, "</dl></section>\n");
}

static void whys(struct page *p)
{
    const struct report *r = p->r;
    if (r->whys_len == 0)
        return;
    put(p, "<section><h2>Why jobs failed</h2>");
    for (size_t i = 0; i < r->whys_len; i++) {
        const struct report_why *w = &r->whys[i];
        bool parked = w->state == JOB_PARKED;
        putf(p, "<div class=\"why\"><b class=\"%s\">", parked ? "warn" : "bad");
        count(p, w->jobs);
        put(p, "</b><div><p>");
        text(p, *w->says ? w->says : "nothing was said", SAYS_MAX_SHOWN);
        putf(p, "</p><p class=\"note\">%s, %s", parked ? "parked" : "failed",
             job_outcome_name(w->outcome));
        if (*w->type && strcmp(w->type, job_outcome_name(w->outcome)) != 0) {
            put(p, ", ");
            text(p, w->type, KEY_MAX_SHOWN);
        }
        put(p, ": ");
        for (int k = 0; k < w->examples; k++) {
            put(p, k ? ", " : "");
            text(p, w->example[k], NAME_MAX_SHOWN);
        }
        if (w->jobs > w->examples) {
            put(p, " and ");
            count(p, w->jobs - w->examples);
            put(p, " more");
        }
        put(p, "</p></div></div>");
    }
    put(p, "</section>\n");
}

/* --- cost --- */

static void forecast(struct page *p)
{
    const struct report *r = p->r;
    const struct forecast_sum *f = &r->forecast;
    double low = (double)f->usd.low, high = (double)f->usd.high,
           likely = (double)f->usd.likely, real = (double)r->actual_uncached;
    put(p, "<h3>Forecast and what it came to</h3>");
    if (f->jobs == 0 || f->jobs == f->unpriced) {
        putf(p, "<p class=\"note\">There is no forecast for this run: %s.</p>",
             f->jobs == 0 ? "none of its jobs has come to rest yet"
                          : "the prices of its models are not known");
        return;
    }
    double top = (high > real ? high : real) * 1.04;
    top = top > 0 ? top : 1;
    put(p, "<div class=\"range\">");
    putf(p, "<i class=\"band\" style=\"left:%.1f%%;width:%.1f%%\"></i>",
         100 * low / top, 100 * (high - low) / top);
    putf(p, "<i class=\"likely\" style=\"left:%.1f%%\"></i>", 100 * likely / top);
    putf(p, "<i class=\"real\" style=\"left:%.1f%%\"></i></div>", 100 * real / top);
    put(p, "<ul class=\"legend\"><li><i class=\"k-band\"></i>forecast ");
    usd_range(p, f->usd.low, f->usd.high);
    put(p, "</li><li><i class=\"k-likely\"></i>likely ");
    usd(p, f->usd.likely);
    put(p, "</li><li><i class=\"k-real\"></i>came to ");
    usd(p, r->actual_uncached);
    if (r->actual != r->actual_uncached) {
        put(p, " without the cache, ");
        usd(p, r->actual);
        put(p, " with it");
    }
    put(p, "</li></ul><p class=\"note\">");
    put(p, real < low    ? "Less than was to be expected. "
           : real > high ? "More than was to be expected. "
                         : "Within what was to be expected. ");
    put(p, "Reckoned today from what was known when the run began, as <code>nightmill "
           "plan</code> reckons, without the prompt cache, for the ");
    count(p, f->jobs);
    putf(p, " job%s that it brought to rest; ", s_if_many(f->jobs));
    if (f->answers == 0) {
        put(p, "no job like these had been answered by then, so it is a guess.");
    } else if (f->measured == 0) {
        put(p, "the ");
        count(p, f->answers);
        putf(p,
             " answer%s to jobs like these that were known by then are too few to "
             "measure by, so it is a guess.",
             s_if_many(f->answers));
    } else {
        if (f->measured == f->jobs)
            put(p, "all");
        else
            count(p, f->measured);
        put(p, " of them are of kinds that had been measured by then, by ");
        count(p, f->answers);
        putf(p, " answer%s%s.", s_if_many(f->answers),
             f->measured == f->jobs ? "" : "; the others are a guess");
    }
    put(p, "</p>");
}

/* A table that would scroll in its own box, were a page narrower than a phone's. One of
 * many columns folds there: a row becomes a few lines, each figure under its name. */
static void table(struct page *p, const char *label, bool folds)
{
    putf(p,
         "<div class=\"box\" tabindex=\"0\" role=\"region\" aria-label=\"%s\"><table%s>"
         "<thead><tr>",
         label, folds ? " class=\"fold\"" : "");
}

/* Begins a figure's cell; its column's name stands over it where the table folds. */
static void cell(struct page *p, const char *column)
{
    putf(p, "<td class=\"n\" data-of=\"%s\">", column);
}

static void cell_count(struct page *p, const char *column, int64_t n)
{
    cell(p, column);
    count(p, n);
    put(p, "</td>");
}

static void cell_tokens(struct page *p, const char *column, double n)
{
    cell(p, column);
    tokens(p, n);
    put(p, "</td>");
}

static void cell_usd(struct page *p, const char *column, picodollars amount)
{
    cell(p, column);
    usd(p, amount);
    put(p, "</td>");
}

static void row_add(struct report_row *to, const struct report_row *x)
{
    to->requests += x->requests;
    to->done += x->done;
    to->usage.input += x->usage.input;
    to->usage.cache_write_5m += x->usage.cache_write_5m;
    to->usage.cache_write_1h += x->usage.cache_write_1h;
    to->usage.cache_read += x->usage.cache_read;
    to->usage.output += x->usage.output;
    to->cost += x->cost;
    to->all += x->all;
}

/* `others` > 0: of so many that have no row of their own. */
static void cost_row(struct page *p, const struct report_row *x, int64_t others,
                     bool beside)
{
    const struct usage *u = &x->usage;
    put(p, "<tr><th scope=\"row\" class=\"w\">");
    if (others > 0) {
        count(p, others);
        put(p, " more");
    } else {
        text(p, x->key, KEY_MAX_SHOWN);
    }
    put(p, "</th>");
    cell_usd(p, "cost", x->cost);
    if (beside)
        cell_usd(p, "all runs", x->all);
    cell_count(p, "requests", x->requests);
    cell_count(p, "done", x->done);
    cell_tokens(p, "tokens in",
                (double)(u->input + u->cache_write_5m + u->cache_write_1h));
    cell_tokens(p, "from cache", (double)u->cache_read);
    cell_tokens(p, "tokens out", (double)u->output);
    put(p, "</tr>");
}

static void cost_table(struct page *p, const char *by, const struct report_table *t)
{
    bool beside = p->r->totals.spent > p->r->cost;
    struct report_row rest = {.requests = 0};
    char label[40];
    snprintf(label, sizeof label, "cost by %s", by);
    table(p, label, true);
    putf(p,
         "<th>%s</th><th class=\"n\">cost</th>%s<th class=\"n\">requests</th><th "
         "class=\"n\">done</th><th class=\"n\">tokens in</th><th class=\"n\">from "
         "cache</th><th class=\"n\">tokens out</th></tr></thead><tbody>",
         by, beside ? "<th class=\"n\">all runs</th>" : "");
    for (size_t i = 0; i < t->len; i++)
        if (i < ROWS_SHOWN)
            cost_row(p, &t->row[i], 0, beside);
        else
            row_add(&rest, &t->row[i]);
    if (t->len > ROWS_SHOWN)
        cost_row(p, &rest, (int64_t)(t->len - ROWS_SHOWN), beside);
    put(p, "</tbody></table></div>");
}

static void cost(struct page *p)
{
    const struct report *r = p->r;
    const struct usage *u = &r->usage;
    int64_t read = u->cache_read,
            all = read + u->input + u->cache_write_5m + u->cache_write_1h;
    bool tagged = r->tags.len > 1 ||
                  (r->tags.len == 1 && strcmp(r->tags.row[0].key, "(none)") != 0);
    if (r->run.id == 0)
        return;
    put(p, "<section><h2>Cost</h2><dl class=\"tiles\"><div><dt>this run</dt><dd>");
    usd(p, r->cost);
    put(p, "<small>");
    count(p, r->requests);
    putf(p, " request%s</small></dd></div><div><dt>tokens</dt><dd>",
         s_if_many(r->requests));
    tokens(p, (double)all);
    put(p, "<small>read, and ");
    tokens(p, (double)u->output);
    put(p, " written</small></dd></div><div><dt>the cache ");
    put(p, r->uncached >= r->cached ? "saved" : "cost");
    put(p, "</dt><dd>");
    usd(p,
        r->uncached >= r->cached ? r->uncached - r->cached : r->cached - r->uncached);
    put(p, "<small>");
    if (read + u->cache_write_5m + u->cache_write_1h == 0)
        put(p, "nothing was cached");
    else
        putf(p, "%.0f&#160;%% of what was read came from it",
             all ? 100 * (double)read / (double)all : 0.0);
    put(p, "</small></dd></div><div><dt>in doubt</dt><dd>");
    if (r->doubt == 0) {
        put(p, "none<small>every request was accounted for</small>");
    } else {
        usd_range(p, r->doubt_low, r->doubt_high);
        put(p, "<small>");
        count(p, r->doubt);
        putf(p, " attempt%s without an answer</small>", s_if_many(r->doubt));
    }
    put(p, "</dd></div><div><dt>the queue, all runs</dt><dd>");
    usd(p, r->totals.spent);
    put(p, "<small>");
    count(p, r->runs_all);
    putf(p, " run%s</small></dd></div></dl>", s_if_many(r->runs_all));
    if (r->unpriced > 0) {
        put(p, "<p class=\"note\">The price of some models is not known: ");
        count(p, r->unpriced);
        putf(p, " answer%s %s in no sum of money.</p>", s_if_many(r->unpriced),
             r->unpriced == 1 ? "is" : "are");
    }
    forecast(p);
    put(p, "<h3>By tier</h3>");
    cost_table(p, "tier", &r->tiers);
    put(p, "<h3>By model</h3>");
    cost_table(p, "model", &r->models);
    if (tagged) {
        put(p, "<h3>By tag</h3>");
        cost_table(p, "tag", &r->tags);
        put(p, "<p class=\"note\">A job with two tags counts with both.</p>");
    }
    put(p, "</section>\n");
}

/* --- throughput --- */

static const char *const kinds[] = {[HISTORY_LIMITS] = "",
                                    [HISTORY_HOLD] = "held",
                                    [HISTORY_TRIP] = "one probe at a time",
                                    [HISTORY_CLOSED] = "closed",
                                    [HISTORY_ACCOUNT] = "the account, held",
                                    [HISTORY_ENDPOINT] = "out of reach",
                                    [HISTORY_HALT] = "stopped"};

static void axis(struct page *p)
{
    const struct report *r = p->r;
    put(p, "<div class=\"axis\"><span>");
    clock_of(p, r->from);
    put(p, "</span><span>");
    clock_of(p, r->from + (r->to - r->from) / 2);
    put(p, "</span><span>");
    clock_of(p, r->to);
    put(p, "</span></div>");
}

static void chart(struct page *p, const struct report_lane *l, int k,
                  const struct chart_mark *marks, size_t marks_len)
{
    static const char *const names[] = {"Requests", "Input tokens", "Output tokens"};
    const struct report *r = p->r;
    char label[400];
    struct chart c = {.label = label,
                      .from = r->from,
                      .to = r->to,
                      .values = l->sent[k],
                      .len = r->slices,
                      .slice_ms = r->slice_ms,
                      .limits = l->limit[k],
                      .limits_len = l->steps,
                      .marks = marks,
                      .marks_len = marks_len};
    double peak = chart_peak(&c), limit = chart_limit(&c);
    snprintf(label, sizeof label, "%s a minute through %s over the run, at most %.0f",
             names[k], l->name, peak);
    putf(p, "<figure><figcaption><b>%s a minute</b><span>at most ", names[k]);
    tokens(p, peak);
    if (limit > 0) {
        put(p, " of ");
        tokens(p, limit);
        putf(p, ", %.0f&#160;%%", 100 * peak / limit);
        p->far = p->far || !chart_shows_limit(&c);
    } else {
        put(p, "; the limit is not known");
    }
    put(p, "</span></figcaption>");
    chart_svg(p->b, &c);
    axis(p);
    put(p, "</figure>");
}

/* Each in a few lines: what was said, how often, how long, when. */
static void hold_lines(struct page *p, const struct report_holds *h)
{
    for (size_t i = 0; i < h->len; i++) {
        const struct report_hold *x = &h->one[i];
        bool halt = x->kind == HISTORY_HALT;
        putf(p, "<div class=\"hold%s\"><p>", halt ? " halted" : "");
        text(p, *x->says ? x->says : "nothing was said", 240);
        putf(p, "</p><p class=\"note\">%s", kinds[x->kind]);
        if (x->times > 1) {
            put(p, " ");
            count(p, x->times);
            put(p, " times");
        }
        if (!halt) {
            put(p, x->times > 1 ? ", in all for " : " for ");
            span(p, x->held_ms);
        }
        put(p, x->times > 1 ? ", from " : ", at ");
        clock_of(p, x->first_at);
        if (x->times > 1) {
            put(p, " to ");
            clock_of(p, x->last_at);
        }
        put(p, "</p></div>");
    }
}

static void legend(struct page *p, bool held, bool halted)
{
    put(p, "<ul class=\"legend\"><li><i class=\"k-sent\"></i>sent</li><li><i "
           "class=\"k-limit\"></i>limit</li>");
    if (held)
        put(p, "<li><i class=\"k-held\"></i>held</li>");
    if (halted)
        put(p, "<li><i class=\"k-halt\"></i>stopped</li>");
    put(p, "</ul>");
}

/* Its own holds, and those of all lanes. */
static void lane(struct page *p, struct report_lane *l)
{
    const struct report *r = p->r;
    struct report_holds *h = &l->holds;
    size_t own = h->marks_len, all = own + r->holds.marks_len;
    struct chart_mark *marks = all ? calloc(all, sizeof *marks) : NULL;
    if (all && marks == NULL) {
        p->b->failed = true;
        return;
    }
    for (size_t i = 0; i < all; i++)
        marks[i] = i < own ? h->marks[i] : r->holds.marks[i - own];
    put(p, "<div class=\"lane\"><h3>");
    text(p, l->name, KEY_MAX_SHOWN);
    put(p, "</h3><div class=\"charts\">");
    for (int k = 0; k < 3; k++)
        chart(p, l, k, marks, all);
    put(p, "</div>");
    hold_lines(p, h);
    put(p, "</div>");
    free(marks);
}

static void throughput(struct page *p)
{
    struct report *r = p->r;
    bool held = false, halted = false, any = false;
    for (size_t i = 0; i < r->lanes_len; i++) {
        any = any || r->lanes[i].requests > 0;
        held = held || r->lanes[i].holds.len > 0;
    }
    for (size_t i = 0; i < r->holds.len; i++) {
        halted = halted || r->holds.one[i].kind == HISTORY_HALT;
        held = held || r->holds.one[i].kind != HISTORY_HALT;
    }
    if (!any)
        return;
    put(p, "<section><h2>Throughput and limits</h2>");
    legend(p, held, halted);
    if (r->slice_ms < 60000)
        put(p, "<p class=\"note\">Each point tells what went in the minute before it."
               "</p>");
    for (size_t i = 0; i < r->lanes_len; i++)
        if (r->lanes[i].requests > 0 || r->lanes[i].holds.len > 0)
            lane(p, &r->lanes[i]);
    if (r->holds.len > 0) {
        put(p, "<div class=\"lane\"><h3>All lanes</h3>");
        hold_lines(p, &r->holds);
        put(p, "</div>");
    }
    if (p->far)
        put(p, "<p class=\"note off\">A limit that is far above what went is left off "
               "its chart.</p>");
    put(p, "</section>\n");
}

/* --- routing, the longest, the runs --- */

static void routing(struct page *p)
{
    const struct report *r = p->r;
    bool shown[ROUTE_BY_COUNT] = {false};
    if (r->requests == 0)
        return;
    put(p, "<section><h2>Routing</h2>");
    table(p, "routing", true);
    put(p, "<th>requests to</th>");
    for (int k = 0; k < ROUTE_BY_COUNT; k++) {
        for (size_t i = 0; i < r->tiers.len; i++)
            shown[k] = shown[k] || r->tiers.row[i].by[k] > 0;
        if (shown[k])
            putf(p, "<th class=\"n\">%s</th>", route_by_name((enum route_by)k));
    }
    put(p, "<th class=\"n\">all</th></tr></thead><tbody>");
    for (size_t i = 0; i < r->tiers.len; i++) {
        const struct report_row *x = &r->tiers.row[i];
        if (x->requests == 0)
            continue;
        put(p, "<tr><th scope=\"row\" class=\"w\">");
        text(p, x->key, KEY_MAX_SHOWN);
        put(p, "</th>");
        for (int k = 0; k < ROUTE_BY_COUNT; k++) {
            if (!shown[k])
                continue;
            if (x->by[k] > 0)
                cell_count(p, route_by_name((enum route_by)k), x->by[k]);
            else
                put(p, "<td class=\"n none\">&#183;</td>");
        }
        cell_count(p, "all", x->requests);
        put(p, "</tr>");
    }
    put(p, "</tbody></table></div></section>\n");
}

static void top(struct page *p, const char *heading, const struct report_job *x,
                size_t len, bool by_cost)
{
    putf(p, "<section><h2>%s</h2>", heading);
    table(p, heading, false);
    putf(p,
         "<th>job</th><th class=\"n\">%s</th><th class=\"n\">cost</th></tr></thead>"
         "<tbody>",
         by_cost ? "sent" : "took");
    for (size_t i = 0; i < len; i++) {
        put(p, "<tr><td class=\"w\">");
        text(p, x[i].name, NAME_MAX_SHOWN);
        put(p, "<br><span class=\"note\">");
        text(p, x[i].model, KEY_MAX_SHOWN);
        if (x[i].state != JOB_DONE)
            putf(p, ", %s", job_state_name(x[i].state));
        put(p, "</span></td><td class=\"n\">");
        if (by_cost) {
            count(p, x[i].sendings);
            putf(p, " time%s", s_if_many(x[i].sendings));
        } else {
            span(p, x[i].took_ms);
        }
        put(p, "</td><td class=\"n\">");
        usd(p, x[i].cost);
        put(p, "</td></tr>");
    }
    put(p, "</tbody></table></div></section>");
}

static void tops(struct page *p)
{
    const struct report *r = p->r;
    if (r->slowest_len + r->dearest_len == 0)
        return;
    put(p, "<div class=\"two\">");
    if (r->slowest_len > 0)
        top(p, "Slowest answers", r->slowest, r->slowest_len, false);
    if (r->dearest_len > 0)
        top(p, "Dearest jobs", r->dearest, r->dearest_len, true);
    put(p, "</div>\n");
}

static void runs(struct page *p)
{
    const struct report *r = p->r;
    if (r->runs_len == 0)
        return;
    put(p, "<section><h2>Runs</h2>");
    table(p, "runs", true);
    put(p, "<th class=\"n\">run</th><th>began</th><th class=\"n\">took</th><th "
           "class=\"n\">tokens in</th><th class=\"n\">tokens "
           "out</th><th class=\"n\">spent</th><th>ended</th></tr></thead><tbody>");
    for (size_t i = 0; i < r->runs_len; i++) {
        const struct report_run *x = &r->runs[i];
        bool now = at_work(r) && x->id == r->last.id;
        put(p, "<tr>");
        cell_count(p, "run", x->id);
        put(p, "<td class=\"nowrap\" data-of=\"began\">");
        moment(p, x->started_at, WHEN_WHOLE);
        put(p, "</td>");
        cell(p, "took");
        span(p, x->ended_at - x->started_at);
        put(p, "</td>");
        cell_tokens(p, "tokens in", (double)x->tokens_in);
        cell_tokens(p, "tokens out", (double)x->tokens_out);
        cell_usd(p, "spent", x->spent);
        put(p, "<td class=\"wide\">");
        if (now)
            put(p, "at work");
        else if (x->died)
            put(p, "died");
        else if (*x->reason)
            text(p, x->reason, 160);
        else
            put(p, "came to its end");
        put(p, "</td></tr>");
    }
    put(p, "</tbody><tfoot><tr>");
    cell_count(p, "runs", r->runs_all);
    put(p, "<td class=\"nowrap\">in all</td><td></td>");
    cell_tokens(p, "tokens in", (double)r->totals.tokens_in);
    cell_tokens(p, "tokens out", (double)r->totals.tokens_out);
    cell_usd(p, "spent", r->totals.spent);
    put(p, "<td></td></tr></tfoot></table></div></section>\n");
}

static int places_for(const struct report *r)
{
    double most = (double)(r->totals.spent > r->cost ? r->totals.spent : r->cost) /
                  (double)PICODOLLARS_PER_DOLLAR;
    return most >= 10 ? 2 : most >= 0.1 ? 4 : 6;
}

void report_page(struct textbuf *b, struct report *r)
{
    struct page p = {.b = b, .r = r, .places = places_for(r)};
    struct tm begin, end;
    time_t from = (time_t)(r->from / 1000), to = (time_t)(r->to / 1000);
    localtime_r(&from, &begin);
    localtime_r(&to, &end);
    p.dated = begin.tm_yday != end.tm_yday || begin.tm_year != end.tm_year;
    head(&p);
    jobs(&p);
    whys(&p);
    cost(&p);
    throughput(&p);
    routing(&p);
    tops(&p);
    runs(&p);
    put(&p, "<footer>Made by nightmill " NIGHTMILL_VERSION " on ");
    moment(&p, r->now, WHEN_MADE);
    put(&p, ". Times are local to where it ran; prices are those of its catalogue."
            "</footer>\n</main>\n</body>\n</html>\n");
}

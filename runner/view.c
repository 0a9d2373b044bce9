#include "runner/view.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

enum {
    NAME_COLUMNS = 20,
    BAR_COLUMNS = 24,
    BAR_COLUMNS_MIN = 4,
    FIGURE_MAX = 40,
    GAP = 2
};

#define MINUTE_MS INT64_C(60000)
#define HOUR_MS (60 * MINUTE_MS)
#define DAY_MS (24 * HOUR_MS)

/* --- text --- */

/* One character: how many bytes and columns it takes. False: not to be shown. */
static bool character(const char *p, size_t *bytes, int *columns)
{
    mbstate_t st = {0};
    wchar_t w;
    size_t n = mbrtowc(&w, p, strlen(p), &st);
    *bytes = 1;
    *columns = 1;
    if (n == 0 || n > strlen(p))
        return false;
    *bytes = n;
    *columns = wcwidth(w);
    return *columns >= 0;
}

int view_fit(const char *text, int columns, char *buf, size_t size)
{
    size_t len = 0, dots_at = 0;
    int at = 0, dots_column = 0;
    for (const char *p = text; *p;) {
        size_t n;
        int w;
        bool shown = character(p, &n, &w);
        if (!shown)
            w = 1;
        size_t takes = shown ? n : 1;
        if (at + w > columns || len + takes + 4 > size) {
            if (columns < 3)
                break;
            len = dots_at;
            memcpy(buf + len, "...", 3);
            len += 3;
            at = dots_column + 3;
            break;
        }
        if (shown)
            memcpy(buf + len, p, n);
        else
            buf[len] = '?';
        len += takes;
        at += w;
        if (at <= columns - 3) { /* a cut may come here, and leave room for its dots */
            dots_at = len;
            dots_column = at;
        }
        p += n;
    }
    buf[len] = '\0';
    return at;
}

__attribute__((format(printf, 3, 4))) static int fit(int columns, char *buf,
                                                     const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return view_fit(text, columns, buf, VIEW_LINE_MAX);
}

/* `left` from the left edge, `right` up to the right one; the left gives way. */
static void put(struct view_lines *ret, int columns, const char *left,
                const char *right)
{
    char a[VIEW_LINE_MAX], b[VIEW_LINE_MAX];
    char *line = ret->line[ret->count++];
    int right_width = fit(columns, b, "%s", right);
    int room = columns - (right_width ? right_width + GAP : 0);
    int width = room > 0 ? fit(room, a, "%s", left) : fit(0, a, "%s", "");
    int blanks = right_width ? columns - right_width - width : 0;
    size_t n = strlen(a), more = strlen(b);
    memcpy(line, a, n + 1);
    if (more == 0 || n + (size_t)blanks + more >= VIEW_LINE_MAX)
        return; /* many bytes a column: what is left out is the less important */
    memset(line + n, ' ', (size_t)blanks);
    memcpy(line + n + (size_t)blanks, b, more + 1);
}

static const char *with_commas(int64_t n, char buf[FIGURE_MAX])
{
    char plain[24];
    int len = snprintf(plain, sizeof plain, "%" PRId64, n < 0 ? 0 : n), at = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            buf[at++] = ',';
        buf[at++] = plain[i];
    }
    buf[at] = '\0';
    return buf;
}

/* Cents, and below a dollar two more digits: to look at, not to add up. */
static const char *dollars(picodollars n, char buf[FIGURE_MAX])
{
    double d = (double)n / (double)PICODOLLARS_PER_DOLLAR;
    snprintf(buf, FIGURE_MAX, d < 1 && n > 0 ? "$%.4f" : "$%.2f", d);
    return buf;
}

static const char *clock_text(int64_t ms, char buf[FIGURE_MAX])
{
    int64_t s = ms / 1000;
    if (ms >= HOUR_MS)
        snprintf(buf, FIGURE_MAX, "%" PRId64 ":%02" PRId64 ":%02" PRId64, s / 3600,
                 s / 60 % 60, s % 60);
    else
        snprintf(buf, FIGURE_MAX, "%" PRId64 ":%02" PRId64, s / 60, s % 60);
    return buf;
}

/* "about 4 min"; empty: nobody can say */
static const char *eta_text(int64_t ms, char buf[FIGURE_MAX])
{
    int64_t min = (ms + MINUTE_MS / 2) / MINUTE_MS;
    if (ms < 0)
        *buf = '\0';
    else if (ms < MINUTE_MS)
        snprintf(buf, FIGURE_MAX, "under a minute");
    else if (ms < 2 * HOUR_MS)
        snprintf(buf, FIGURE_MAX, "about %" PRId64 " min", min);
    else if (ms < 2 * DAY_MS)
        snprintf(buf, FIGURE_MAX, "about %" PRId64 " h", (min + 30) / 60);
    else
        snprintf(buf, FIGURE_MAX, "about %" PRId64 " days", (min + 720) / 1440);
    return buf;
}

/* --- how long --- */

/* Jobs that are through when so much time has passed; `others` are no lane's own. */
static double through(double ms, double others, const struct view_lane *lanes, size_t n)
{
    double jobs = 0, spare = 0;
    for (size_t i = 0; i < n; i++) {
        double can = 0, own = (double)lanes[i].left;
        if (lanes[i].speed > 0 && ms > (double)lanes[i].hold_ms)
            can = (ms - (double)lanes[i].hold_ms) * lanes[i].speed / MINUTE_MS;
        jobs += can < own ? can : own;
        spare += can < own ? 0 : can - own;
    }
    return jobs + (spare < others ? spare : others);
}

int64_t view_eta(int64_t left, const struct view_lane *lanes, size_t lanes_len)
{
    double low = 0, high = 1000, others = (double)left;
    if (left <= 0)
        return 0;
    for (size_t i = 0; i < lanes_len; i++)
        others -= (double)lanes[i].left;
    others = others > 0 ? others : 0;
    double all = (double)left - 0.01; /* halves and thirds do not add up */
    while (through(high, others, lanes, lanes_len) < all) {
        low = high;
        high *= 2;
        if (high > 365.0 * DAY_MS)
            return -1;
    }
    while (high - low > 100) {
        double mid = (low + high) / 2;
        *(through(mid, others, lanes, lanes_len) < all ? &low : &high) = mid;
    }
    return (int64_t)high;
}

/* --- lines --- */

static void put_bar(const struct view *v, int columns, struct view_lines *ret)
{
    char line[VIEW_LINE_MAX + 40], done_text[FIGURE_MAX], all_text[FIGURE_MAX],
        gone[FIGURE_MAX], to_go[FIGURE_MAX] = "", bad[FIGURE_MAX] = "",
                          bar[BAR_COLUMNS + 1];
    int64_t bad_count = v->failed + v->parked;
    int64_t over = v->done + bad_count, all = over + (v->left > 0 ? v->left : 0);
    int percent = all > 0 ? (int)(100.0 * (double)over / (double)all) : 0;
    if (!v->over && v->left > 0)
        eta_text(view_eta(v->left, v->lanes, v->lanes_len), to_go);
    if (bad_count > 0)
        snprintf(bad, sizeof bad, ", %" PRId64 " failed", bad_count);
    char text[VIEW_LINE_MAX];
    int len = snprintf(text, sizeof text, "%3d %%  %s of %s done%s  %s%s%s%s", percent,
                       with_commas(v->done, done_text), with_commas(all, all_text), bad,
                       clock_text(v->elapsed_ms, gone), *to_go ? ", " : "", to_go,
                       *to_go ? " to go" : "");
    int width = columns - len - 3; /* what the words leave */
    if (width < BAR_COLUMNS_MIN) { /* on a narrow window the words are what counts */
        const char *when = strncmp(to_go, "about ", 6) == 0 ? to_go + 6 : to_go;
        snprintf(line, sizeof line, "%d %%  %s of %s%s, %s", percent, done_text,
                 all_text, bad, *when ? when : gone);
        put(ret, columns, line, "");
        return;
    }
    width = width < BAR_COLUMNS ? width : BAR_COLUMNS;
    int full = all > 0 ? (int)((double)width * (double)over / (double)all) : 0;
    memset(bar, '.', (size_t)width);
    memset(bar, '=', (size_t)full);
    bar[width] = '\0';
    snprintf(line, sizeof line, "[%s] %.600s", bar, text);
    put(ret, columns, line, "");
}

static void put_lane(const struct view_lane *l, int name_columns, int columns,
                     struct view_lines *ret)
{
    char name[VIEW_LINE_MAX], left[VIEW_LINE_MAX + 512], count[FIGURE_MAX],
        cost[FIGURE_MAX];
    int width = fit(name_columns, name, "%s", l->name);
    snprintf(left, sizeof left, "%s%*s  %6s done  %3d out  %s", name,
             name_columns - width, "", with_commas(l->done, count), l->in_flight,
             l->says);
    put(ret, columns, left, dollars(l->cost, cost));
}

static void put_lanes(const struct view *v, int columns, int rows,
                      struct view_lines *ret)
{
    int name_columns = 0;
    char name[VIEW_LINE_MAX];
    for (size_t i = 0; i < v->lanes_len; i++) {
        int w = fit(NAME_COLUMNS, name, "%s", v->lanes[i].name);
        name_columns = w > name_columns ? w : name_columns;
    }
    for (size_t i = 0; i < v->lanes_len; i++) {
        if (rows == 1 && i + 1 < v->lanes_len) {
            snprintf(name, sizeof name, "and %zu more lanes", v->lanes_len - i);
            put(ret, columns, name, "");
            return;
        }
        if (rows-- == 0)
            return;
        put_lane(&v->lanes[i], name_columns, columns, ret);
    }
}

static void put_money(const struct view *v, int columns, struct view_lines *ret)
{
    char line[VIEW_LINE_MAX], spent[FIGURE_MAX], doubt[FIGURE_MAX], ceiling[FIGURE_MAX],
        of[2 * FIGURE_MAX] = "", more[2 * FIGURE_MAX] = "";
    if (v->ceiling > 0)
        snprintf(of, sizeof of, " of %s that %.20s may cost",
                 dollars(v->ceiling, ceiling), v->ceilings ? v->ceilings : "this run");
    if (v->doubt > 0)
        snprintf(more, sizeof more, ", up to %s in doubt", dollars(v->doubt, doubt));
    snprintf(line, sizeof line, "spent %s%s%s", dollars(v->spent, spent), of, more);
    put(ret, columns, line, "");
}

void view_draw(const struct view *v, int columns, int rows, struct view_lines *ret)
{
    char line[1024];
    int failures = 0;
    ret->count = 0;
    columns = columns < VIEW_COLUMNS_MAX ? columns : VIEW_COLUMNS_MAX;
    rows = rows < VIEW_ROWS_MAX ? rows : VIEW_ROWS_MAX;
    for (int i = 0; i < VIEW_FAILURES; i++)
        failures += v->failures[i] != NULL;
    int rest = rows - 2 - (v->waits != NULL); /* bar, money, why it waits */
    int lanes = (int)(v->lanes_len < 20 ? v->lanes_len : 20);
    lanes = lanes < rest ? lanes : rest;
    failures = failures < rest - lanes ? failures : rest - lanes;

    put_bar(v, columns, ret);
    put_lanes(v, columns, lanes, ret);
    for (int i = VIEW_FAILURES - failures; i < VIEW_FAILURES; i++) {
        snprintf(line, sizeof line, "failed: %.600s", v->failures[i]);
        put(ret, columns, line, "");
    }
    if (v->waits) {
        snprintf(line, sizeof line, "waiting: %.600s", v->waits);
        put(ret, columns, line, "");
    }
    put_money(v, columns, ret);
}

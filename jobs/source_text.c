/*
 * .md and .txt: the file is the prompt, and may begin with a few lines for nightmill:
 *
 *     ---
 *     tier: deep
 *     tags: legal, urgent
 *     ---
 *     Read this contract ...
 *
 * These lines are read here and not by inih, whose lines end at 200 bytes (the rest
 * becomes a line of its own), whose values end at " ;", and which joins indented lines:
 * a `system` prompt would be cut without a word. Its switches for that are globals,
 * shared with the reader of the configuration.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/catalog.h"
#include "jobs/job.h"
#include "jobs/source.h"
#include "runner/err.h"

struct line {
    const char *at; /* without its end */
    size_t len;
    const char *next; /* the line behind it */
};

struct front {
    struct job_spec spec;
    char *system;
    unsigned seen; /* one bit a key */
};

/* One key, and where its value goes. `value` is never empty. */
struct key {
    const char *name;
    int (*set)(const struct key *k, void *to, const char *value, struct err *e);
    size_t at;
    int64_t min, max;
    const char *wants;
};

static int set_word(const struct key *k, void *to, const char *value, struct err *e)
{
    (void)k;
    return source_word(to, value, e);
}

static int set_tags(const struct key *k, void *to, const char *value, struct err *e)
{
    (void)k;
    return source_tags(to, value, e);
}

static int set_number(const struct key *k, void *to, const char *value, struct err *e)
{
    (void)e;
    return source_number(to, value, k->min, k->max);
}

static int set_text(const struct key *k, void *to, const char *value, struct err *e)
{
    (void)k;
    char *text = strdup(value);
    if (text == NULL)
        return err_set(e, ERR_NOMEM, "out of memory");
    *(char **)to = text;
    return 0;
}

static int set_dollars(const struct key *k, void *to, const char *value, struct err *e)
{
    (void)k;
    (void)e;
    return catalog_dollars(value, to) == 0 && *(int64_t *)to > 0 ? 0 : -1;
}

static int set_cache(const struct key *k, void *to, const char *value, struct err *e)
{
    (void)k;
    (void)e;
    bool off = strcmp(value, "off") == 0;
    *(unsigned *)to |= off ? ASKS_NO_CACHE : 0;
    return off || strcmp(value, "auto") == 0 ? 0 : -1;
}

#define AT(field) offsetof(struct front, field)

static const struct key keys[] = {
    {"tier", set_word, AT(spec.tier), 0, 0, "a tier's name, such as cheap"},
    {"model", set_word, AT(spec.model), 0, 0, "a model's name, a tier's name, or auto"},
    {"effort", set_word, AT(spec.effort), 0, 0, "a word, such as high"},
    {"max_tokens", set_number, AT(spec.max_tokens), 1, SOURCE_TOKENS_MAX,
     "a whole number from 1 to 10000000"},
    {"system", set_text, AT(system), 0, 0, "a text of one line"},
    {"system_file", set_text, AT(spec.system_file), 0, 0, "a path inside the queue"},
    {"priority", set_number, AT(spec.priority), -SOURCE_PRIORITY_MAX,
     SOURCE_PRIORITY_MAX, "a whole number from -1000000 to 1000000"},
    {"tags", set_tags, AT(spec.tags), 0, 0, "up to 32 words, joined by commas"},
    {"max_cost", set_dollars, AT(spec.max_cost), 0, 0, "dollars, such as 0.25"},
    {"cache", set_cache, AT(spec.asks), 0, 0, "auto or off"},
    {"check", set_text, AT(spec.check), 0, 0,
     "what the answer must pass, such as json"},
    {"route", set_word, AT(spec.route), 0, 0, "tier, cascade or learn"},
};
enum { KEYS = sizeof keys / sizeof keys[0] };

static struct line line_at(const char *p, const char *end)
{
    const char *eol = memchr(p, '\n', (size_t)(end - p));
    struct line l = {p, (size_t)((eol ? eol : end) - p), eol ? eol + 1 : end};
    if (l.len > 0 && p[l.len - 1] == '\r')
        l.len--;
    return l;
}

static bool is_blank(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!strchr(" \t\r\n\f\v", p[i]))
            return false;
    return true;
}

static bool is_fence(struct line l)
{
    return l.len == 3 && memcmp(l.at, "---", 3) == 0;
}

/* The name that a line begins with; 0 if it begins with none. */
static size_t name_len(struct line l)
{
    size_t n = 0;
    while (n < l.len &&
           ((l.at[n] >= 'a' && l.at[n] <= 'z') || (l.at[n] >= 'A' && l.at[n] <= 'Z') ||
            l.at[n] == '_' ||
            (n > 0 && (l.at[n] == '-' || (l.at[n] >= '0' && l.at[n] <= '9')))))
        n++;
    return n;
}

static const struct key *key_of(struct line l)
{
    size_t n = name_len(l);
    for (size_t i = 0; i < KEYS; i++)
        if (strlen(keys[i].name) == n && memcmp(keys[i].name, l.at, n) == 0)
            return &keys[i];
    return NULL;
}

/* Behind the name and blanks. */
static char mark_of(struct line l, size_t *at)
{
    size_t n = name_len(l);
    while (n > 0 && n < l.len && (l.at[n] == ' ' || l.at[n] == '\t'))
        n++;
    *at = n;
    return n > 0 && n < l.len ? l.at[n] : '\0';
}

/* Does a line look like one of front matter? A name of ours may go wrong in its mark,
 * for the person who wrote "tier=deep" wants to hear of it; other words want to be
 * exact. */
static bool looks_like_key(struct line l)
{
    size_t at;
    char mark = mark_of(l, &at);
    if (key_of(l))
        return mark == ':' || mark == '=';
    return mark == ':' &&
           (at + 1 == l.len || l.at[at + 1] == ' ' || l.at[at + 1] == '\t');
}

/* The value as fresh text: without blanks around, and without one pair of quotes, as
 * people used to YAML put them. */
static char *value_of(struct line l, size_t mark)
{
    const char *p = l.at + mark + 1, *end = l.at + l.len;
    while (p < end && is_blank(p, 1))
        p++;
    while (end > p && is_blank(end - 1, 1))
        end--;
    if (end - p >= 2 && (*p == '"' || *p == '\'') &&
        memchr(p + 1, *p, (size_t)(end - p) - 1) == end - 1) {
        p++;
        end--;
    }
    return strndup(p, (size_t)(end - p));
}

static int unknown_key(struct line l, size_t number, struct err *e)
{
    char shown[SOURCE_SHOWN], names[200] = "";
    for (size_t i = 0, n = 0; i < KEYS; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s",
                              i == 0          ? ""
                              : i + 1 == KEYS ? " or "
                                              : ", ",
                              keys[i].name);
    return err_set(e, ERR_INPUT, "%zu: unknown key %s; want %s", number,
                   source_shown(shown, l.at, name_len(l)), names);
}

static int front_line(struct front *f, struct line l, size_t number, struct err *e)
{
    char shown[SOURCE_SHOWN];
    size_t mark;
    if (mark_of(l, &mark) != ':')
        return err_set(e, ERR_INPUT, "%zu: %s: want a line such as \"tier: cheap\"",
                       number, source_shown(shown, l.at, l.len));
    const struct key *k = key_of(l);
    if (k == NULL)
        return unknown_key(l, number, e);
    unsigned bit = 1u << (k - keys);
    if (f->seen & bit)
        return err_set(e, ERR_INPUT, "%zu: %s comes twice; want it once", number,
                       k->name);
    f->seen |= bit;

    char *value = value_of(l, mark);
    if (value == NULL)
        return err_set(e, ERR_NOMEM, "out of memory");
    int rc = *value ? k->set(k, (char *)f + k->at, value, e) : -1;
    if (rc < 0)
        err_set(e, ERR_INPUT, "%zu: %s = %s: want %s", number, k->name,
                source_shown(shown, value, strlen(value)), k->wants);
    free(value);
    return rc;
}

/* Where the closing line stands, or NULL. */
static const char *closing(const char *p, const char *end)
{
    while (p < end) {
        struct line l = line_at(p, end);
        if (is_fence(l))
            return p;
        p = l.next;
    }
    return NULL;
}

/*
 * Read the front matter, if there is any; `*p` and `*number` move behind it.
 *
 * A Markdown text may as well begin with a ruler. It is front matter if the first line
 * that says something looks like a key and a closing line follows, and then every line
 * must be right; a lone ruler above a key of ours is a closing line forgotten.
 */
static int front_matter(struct front *f, const char **p, const char *end,
                        size_t *number, struct err *e)
{
    struct line l = line_at(*p, end);
    if (!is_fence(l))
        return 0;
    const char *from = l.next;
    const char *room = end - from > SOURCE_FRONT_MAX ? from + SOURCE_FRONT_MAX : end;
    const char *close = closing(from, room);

    struct line says = line_at(from, end);
    while (says.next < end && (is_blank(says.at, says.len) || *says.at == '#'))
        says = line_at(says.next, end);
    if (close == NULL) {
        if (key_of(says) == NULL || !looks_like_key(says))
            return 0;
        return err_set(
            e, ERR_INPUT,
            "%zu: the front matter does not end; want a line --- within %d KiB",
            *number, SOURCE_FRONT_MAX / 1024);
    }
    if (close != from && !looks_like_key(says))
        return 0;

    size_t at = *number + 1;
    for (l = line_at(from, end); l.at < close; l = line_at(l.next, end), at++)
        if (!is_blank(l.at, l.len) && *l.at != '#' && front_line(f, l, at, e) < 0)
            return -1;
    if (f->system && f->spec.system_file)
        return err_set(e, ERR_INPUT,
                       "%zu: both system and system_file; want one of them", *number);

    /* Blank lines that set the prompt off are not part of it. */
    do {
        *p = l.next;
        *number = ++at;
        l = line_at(*p, end);
    } while (*p < end && is_blank(l.at, l.len));
    return 0;
}

static int text_parse(const char *text, size_t len, size_t number, struct front *f,
                      struct err *e)
{
    if (len > SOURCE_LINE_MAX)
        return err_set(e, ERR_INPUT, "%zu: a prompt of %zu bytes; want at most %d",
                       number, len, SOURCE_LINE_MAX);
    size_t bad = job_text_fault(text, len);
    if (bad)
        return err_set(e, ERR_INPUT, "%zu: bytes that are no text; want UTF-8",
                       number + bad - 1);

    const char *p = text, *end = text + len;
    if (len >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
        p += 3;
    if (front_matter(f, &p, end, &number, e) < 0)
        return -1;
    if (is_blank(p, (size_t)(end - p)))
        return err_set(e, ERR_INPUT, "%zu: nothing is asked; want a prompt", number);
    while (end[-1] == '\n' || end[-1] == '\r')
        end--;

    if (job_spec_members(&f->spec,
                         json_pack("{s:[{s:s, s:s%}]}", "messages", "role", "user",
                                   "content", p, (size_t)(end - p)),
                         e) < 0 ||
        (f->system && job_spec_system(&f->spec, f->system, strlen(f->system), e) < 0))
        return -1;
    if (f->spec.max_tokens == 0)
        return 0;
    f->spec.asks |= ASKS_MAX_TOKENS;
    return job_spec_members(
        &f->spec, json_pack("{s:I}", "max_tokens", (json_int_t)f->spec.max_tokens), e);
}

int source_text_parse(const char *text, size_t len, size_t first_line,
                      struct job_spec *ret, struct err *e)
{
    struct front f = {0};
    int rc = text_parse(text, len, first_line, &f, e);
    free(f.system);
    if (rc < 0)
        job_spec_free(&f.spec);
    *ret = f.spec;
    return rc;
}

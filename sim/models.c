#include "sim/models.h"

#include "sim/problem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SENTENCE_MAX = 256 };

const struct model *models_find(const struct catalog *c, const char *name)
{
    const struct model *m = catalog_find(c, name);
    return m && (strcmp(m->id, name) == 0 || strncmp(name, "claude-", 7) == 0) ? m
                                                                               : NULL;
}

void models_refuse(const char *name, const char *id, struct reply *r)
{
    char sentence[SENTENCE_MAX];
    snprintf(sentence, sizeof sentence, "model: %.128s", name);
    problem_say(404, "not_found_error", sentence, id, r);
}

/* "claude-opus-5-5" is shown as "Claude Opus 5.5". */
static void display_name(const char *id, struct text *t)
{
    bool start = true, digit_before = false;
    for (; *id; id++) {
        bool digit = id[1] >= '0' && id[1] <= '9';
        if (*id == '-' && strlen(id) == 9 && digit)
            break; /* the date */
        char c = *id == '-' ? (digit_before && digit ? '.' : ' ') : *id;
        if (start && c >= 'a' && c <= 'z')
            c = (char)(c - 'a' + 'A');
        text_add(t, &c, 1);
        start = *id == '-';
        digit_before = *id >= '0' && *id <= '9';
    }
}

static void model_write(const struct model *m, struct text *t)
{
    text_str(t, "{\"type\":\"model\",\"id\":");
    text_json(t, m->id);
    text_str(t, ",\"display_name\":\"");
    display_name(m->id, t);
    text_str(t, "\",\"created_at\":\"2026-01-01T00:00:00Z\",\"line\":");
    text_json(t, m->family);
    text_fmt(t, ",\"max_input_tokens\":%" PRId64 ",\"max_tokens\":%" PRId64 "}",
             m->context ? m->context : INT64_C(1000000),
             m->max_output ? m->max_output : INT64_C(128000));
}

void models_one(const struct catalog *c, const char *name, const char *id,
                struct reply *r)
{
    const struct model *m = models_find(c, name);
    if (m == NULL) {
        models_refuse(name, id, r);
        return;
    }
    r->status = 200;
    r->content_type = "application/json";
    model_write(m, &r->body);
}

/* The place of an id in the list, or of what is before and behind all. */
static int64_t place(const struct catalog *c, const char *id, int64_t otherwise)
{
    for (size_t i = 0; id && i < catalog_count(c); i++)
        if (strcmp(catalog_at(c, i)->id, id) == 0)
            return (int64_t)i;
    return otherwise;
}

void models_page(const struct catalog *c, const char *limit, const char *after_id,
                 const char *before_id, const char *id, struct reply *r)
{
    int64_t most = 20, all = (int64_t)catalog_count(c);

    if (limit && words_int(limit, 1, 1000, &most) < 0) {
        problem_say(400, "invalid_request_error",
                    "limit: Input should be between 1 and 1000", id, r);
        return;
    }
    int64_t from = place(c, after_id, -1) + 1, to = place(c, before_id, all);
    /* Backwards the page is the one that ends just before the id. */
    bool more = to - from > most;
    if (more && before_id)
        from = to - most;
    else if (more)
        to = from + most;

    struct text *t = &r->body;
    text_str(t, "{\"data\":[");
    for (int64_t i = from; i < to; i++) {
        text_str(t, i > from ? "," : "");
        model_write(catalog_at(c, (size_t)i), t);
    }
    text_fmt(t, "],\"has_more\":%s,\"first_id\":", more ? "true" : "false");
    if (from < to)
        text_json(t, catalog_at(c, (size_t)from)->id);
    else
        text_str(t, "null");
    text_str(t, ",\"last_id\":");
    if (from < to)
        text_json(t, catalog_at(c, (size_t)to - 1)->id);
    else
        text_str(t, "null");
    text_str(t, "}");
    r->status = 200;
    r->content_type = "application/json";
}

#include "sim/control.h"

#include "runner/err.h"
#include "sim/api.h"
#include "sim/org.h"
#include "sim/settings.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 160, VALUE_BYTES = 4096 };

struct control {
    struct api *api;
    struct settings *settings;
    const struct control_request *rq;
    struct reply *reply;
};

/* ---- answers ---- */

static void say_ok(struct control *c)
{
    c->reply->status = 200;
    c->reply->content_type = "application/json";
    text_str(&c->reply->body, "{\"ok\":true}\n");
}

static void say_bad(struct control *c, int status, const char *why)
{
    c->reply->status = status;
    c->reply->content_type = "application/json";
    text_str(&c->reply->body, "{\"error\":");
    text_json(&c->reply->body, why);
    text_str(&c->reply->body, "}\n");
}

/* ---- values: JSON into the words that the settings' parser reads ---- */

static int word_of(const json_t *v, char *buf, size_t size)
{
    int n = -1;
    if (json_is_string(v))
        n = snprintf(buf, size, "%s", json_string_value(v));
    else if (json_is_integer(v))
        n = snprintf(buf, size, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_real(v))
        n = snprintf(buf, size, "%.12g", json_real_value(v));
    else if (json_is_true(v))
        n = snprintf(buf, size, "1");
    return n < 0 || (size_t)n >= size ? -1 : 0;
}

static int words_of(const json_t *v, char *buf, size_t size)
{
    size_t i, at = 0;
    json_t *one;
    if (!json_is_array(v))
        return word_of(v, buf, size);
    buf[0] = '\0';
    json_array_foreach(v, i, one)
    {
        if (i > 0 && at + 1 < size)
            buf[at++] = ',';
        if (word_of(one, buf + at, size - at) < 0)
            return -1;
        at += strlen(buf + at);
    }
    return 0;
}

/* Each member of `o` becomes the setting `prefix` + its name. */
static int set_all(struct control *c, const json_t *o, const char *prefix,
                   struct err *e)
{
    const char *key;
    json_t *v;
    char name[NAME_BYTES], value[VALUE_BYTES];
    json_object_foreach((json_t *)o, key, v)
    {
        snprintf(name, sizeof name, "%s%s", prefix, key);
        if (json_is_object(v)) {
            strncat(name, ".", sizeof name - strlen(name) - 1);
            if (set_all(c, v, name, e) < 0)
                return -1;
        } else if (words_of(v, value, sizeof value) < 0) {
            return err_set(e, ERR_INPUT, "%s: want a word or a number", name);
        } else if (settings_set(c->settings, name, value, e) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- paths ---- */

static void serve_stats(struct control *c, const json_t *o)
{
    (void)o;
    char usd[CATALOG_USD_MAX];
    const struct settings *s = c->settings;
    struct text *t = &c->reply->body;

    c->reply->status = 200;
    c->reply->content_type = "application/json";
    text_str(t, "{");
    stats_write(api_stats(c->api), c->rq->jobs, t);
    if (s->credit_endless)
        text_str(t, ",\"credit\":null");
    else
        text_fmt(t, ",\"credit\":\"%s\"",
                 catalog_usd(org_credit(api_org(c->api)), usd));
    text_str(t, ",\"limits\":{");
    org_write_meters(api_org(c->api), c->rq->now_ns, t);
    text_str(t, "},\"faults\":[");
    for (size_t i = 0; i < s->faults.count; i++) {
        const struct fault *f = s->faults.rows[i];
        text_str(t, i ? ",{\"name\":" : "{\"name\":");
        text_json(t, f->name);
        text_fmt(t, ",\"kind\":\"%s\",\"seen\":%lld,\"fired\":%lld}",
                 fault_kind_name(f->kind), (long long)f->seen, (long long)f->fired);
    }
    text_str(t, "]}\n");
}

static void serve_log(struct control *c, const json_t *o)
{
    (void)o;
    c->reply->status = 200;
    c->reply->content_type = "application/x-ndjson";
    stats_write_log(api_stats(c->api), &c->reply->body);
}

static void serve_pace(struct control *c, const json_t *o)
{
    (void)o;
    c->reply->status = 200;
    c->reply->content_type = "application/x-ndjson";
    org_write_pace(api_org(c->api), c->rq->now_ns, &c->reply->body);
}

static void serve_reset(struct control *c, const json_t *o)
{
    bool full = json_is_true(json_object_get(o, "full"));
    stats_reset(api_stats(c->api));
    org_reset(api_org(c->api), full, c->rq->now_ns);
    say_ok(c);
}

static void serve_credit(struct control *c, const json_t *o)
{
    char value[64];
    struct err e = {0};
    picodollars amount;
    json_t *set = json_object_get(o, "set"), *more = json_object_get(o, "add");

    if (json_is_true(json_object_get(o, "infinite"))) {
        settings_set(c->settings, "credit.balance", "", &e);
    } else if (set && word_of(set, value, sizeof value) == 0) {
        if (settings_set(c->settings, "credit.balance", value, &e) < 0) {
            say_bad(c, 400, e.text);
            return;
        }
        org_credit_changed(api_org(c->api));
    } else if (more && word_of(more, value, sizeof value) == 0 &&
               words_dollars(value, &amount) == 0) {
        org_credit_add(api_org(c->api), amount);
    } else {
        say_bad(c, 400, "want {\"add\":5}, {\"set\":0} or {\"infinite\":true}");
        return;
    }
    if (org_money(api_org(c->api)) != ORG_NO_CREDIT)
        stats_credit_back(api_stats(c->api));
    say_ok(c);
}

static void serve_fault(struct control *c, const json_t *o)
{
    static unsigned unnamed;
    struct err e = {0};
    char name[FAULT_NAME_MAX], prefix[NAME_BYTES];
    const char *given = json_string_value(json_object_get(o, "name"));
    json_t *copy;

    if (json_is_true(json_object_get(o, "clear"))) {
        if (given)
            faults_drop(&c->settings->faults, given);
        else
            faults_clear(&c->settings->faults);
    }
    if (json_object_get(o, "kind") == NULL) {
        say_ok(c);
        return;
    }
    snprintf(name, sizeof name, "%s", given ? given : "");
    if (given == NULL)
        snprintf(name, sizeof name, "posted-%u", ++unnamed);
    /* A fault set again begins again. */
    faults_drop(&c->settings->faults, name);

    copy = json_copy((json_t *)o);
    json_object_del(copy, "name");
    json_object_del(copy, "clear");
    snprintf(prefix, sizeof prefix, "fault.%s.", name);
    int rc = copy ? set_all(c, copy, prefix, &e) : -1;
    json_decref(copy);
    if (rc < 0) {
        faults_drop(&c->settings->faults, name);
        say_bad(c, 400, e.text);
        return;
    }
    faults_begin(&c->settings->faults, c->rq->now_ns,
                 (uint64_t)c->settings->output_seed);
    say_ok(c);
}

static void set_under(struct control *c, const json_t *o, const char *prefix)
{
    struct err e = {0};
    picodollars credit = c->settings->credit;
    int rc = set_all(c, o, prefix, &e);
    org_limits_changed(api_org(c->api), c->rq->now_ns);
    if (c->settings->credit != credit)
        org_credit_changed(api_org(c->api));
    faults_begin(&c->settings->faults, c->rq->now_ns,
                 (uint64_t)c->settings->output_seed);
    if (rc < 0)
        say_bad(c, 400, e.text);
    else
        say_ok(c);
}

static void serve_limits(struct control *c, const json_t *o)
{
    set_under(c, o, "limits.");
}

static void serve_set(struct control *c, const json_t *o)
{
    set_under(c, o, "");
}

static const struct {
    const char *method, *path;
    void (*serve)(struct control *c, const json_t *o);
} paths[] = {
    {"GET", "/sim/stats", serve_stats},  {"GET", "/sim/log", serve_log},
    {"POST", "/sim/reset", serve_reset}, {"POST", "/sim/credit", serve_credit},
    {"POST", "/sim/fault", serve_fault}, {"POST", "/sim/limits", serve_limits},
    {"POST", "/sim/set", serve_set},     {"GET", "/sim/pace", serve_pace},
};

void control_serve(struct api *api, struct settings *s,
                   const struct control_request *rq, struct reply *r)
{
    struct control c = {api, s, rq, r};
    json_error_t bad;
    json_t *o = NULL;

    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if (strcmp(paths[i].path, rq->path) != 0 ||
            strcmp(paths[i].method, rq->method) != 0)
            continue;
        if (rq->len > 0 && (o = json_loadb(rq->body, rq->len, 0, &bad)) == NULL) {
            say_bad(&c, 400, bad.text);
            return;
        }
        paths[i].serve(&c, o);
        json_decref(o);
        return;
    }
    say_bad(&c, 404, "no such path; see sim/README.md");
}

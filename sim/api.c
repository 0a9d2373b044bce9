#include "sim/api.h"
#include "sim/truth.h"

#include "runner/err.h"
#include "sim/answer.h"
#include "sim/ask.h"
#include "sim/front.h"
#include "sim/models.h"
#include "sim/org.h"
#include "sim/problem.h"
#include "sim/settings.h"
#include "sim/spoil.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SENTENCE_MAX = 256 };

struct api {
    struct settings *settings;
    const struct catalog *catalog;
    struct org *org;
    struct stats *stats;
    struct answers *answers;
    struct cache *cache;
    struct front front;
};

struct api *api_new(struct settings *s, const struct catalog *c, struct err *e)
{
    struct api *api = calloc(1, sizeof *api);
    if (api != NULL) {
        api->settings = s;
        api->catalog = c;
        front_init(&api->front, s);
        api->org = org_new(s, 0);
        api->stats = stats_new(c, s->log_max, s->jobs_max);
        api->answers = answers_new((uint64_t)s->output_seed);
        api->cache = cache_new();
    }
    if (api == NULL || !api->org || !api->stats || !api->answers || !api->cache) {
        api_free(api);
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    if (s->truth_file && *s->truth_file) {
        struct truth *t = truth_read(s->truth_file, e);
        if (t == NULL) {
            api_free(api);
            return NULL;
        }
        answers_know(api->answers, t);
    }
    return api;
}

void api_free(struct api *api)
{
    if (api == NULL)
        return;
    org_free(api->org);
    stats_free(api->stats);
    answers_free(api->answers);
    cache_free(api->cache);
    free(api);
}

struct org *api_org(struct api *api)
{
    return api->org;
}

struct stats *api_stats(struct api *api)
{
    return api->stats;
}

static int model_index(const struct api *api, const struct model *m)
{
    for (size_t i = 0; i < catalog_count(api->catalog); i++)
        if (catalog_at(api->catalog, i) == m)
            return (int)i;
    return -1;
}

/* The same prompt is always as much too long or too short, so that a client can learn
 * the mean and never the prompt. */
static int64_t jittered(const struct api *api, const struct ask *a, int64_t tokens)
{
    double jitter = api->settings->input_jitter;
    if (jitter <= 0)
        return tokens;
    uint64_t hash = words_hash(a->messages.at, a->messages.len,
                               (uint64_t)api->settings->output_seed);
    double n = (double)tokens * (1 + jitter * (2 * words_unit(hash) - 1));
    return n < 1 ? 1 : (int64_t)(n + 0.5);
}

static int64_t input_tokens(const struct api *api, const struct ask *a)
{
    return (int64_t)((double)a->bytes / api->settings->bytes_per_token) + 1;
}

/* ---- messages ---- */

static bool sizes_fit(const struct ask *a, const struct model *m, int64_t input,
                      const char *id, struct reply *r)
{
    char sentence[SENTENCE_MAX];
    if (m->max_output > 0 && a->max_tokens > m->max_output) {
        snprintf(sentence, sizeof sentence,
                 "max_tokens: %" PRId64 " > %" PRId64
                 ", which is the maximum allowed number "
                 "of output tokens for %s",
                 a->max_tokens, m->max_output, m->id);
    } else if (m->context > 0 && input > m->context) {
        snprintf(sentence, sizeof sentence,
                 "prompt is too long: %" PRId64 " tokens > %" PRId64 " maximum", input,
                 m->context);
    } else {
        return true;
    }
    problem_say(400, "invalid_request_error", sentence, id, r);
    return false;
}

static void rate_headers(struct api *api, struct exchange *x, int64_t now_ns)
{
    struct org_view v = org_look(api->org, x->model->family, now_ns);
    front_rate_headers(&api->front, &v, &x->reply);
}

static void refuse_rate(struct api *api, struct exchange *x, enum org_word word,
                        int64_t wait_ns, int64_t now_ns, const char *id)
{
    struct org_view v = org_look(api->org, x->model->family, now_ns);
    const struct {
        int64_t limit;
        const char *what;
    } rows[] = {[ORG_REQUESTS] = {v.requests.limit, "requests"},
                [ORG_INPUT] = {v.input.limit, "input tokens"},
                [ORG_OUTPUT] = {v.output.limit, "output tokens"}};

    front_rate_headers(&api->front, &v, &x->reply);
    if (word == ORG_ACCELERATION)
        front_refuse_rise(&api->front, v.ceiling, v.next_ceiling, x->model->id, wait_ns,
                          id, &x->reply);
    else
        front_refuse_rate(&api->front, rows[word].limit, rows[word].what, x->model->id,
                          wait_ns, id, &x->reply);
}

static bool admitted(struct api *api, struct exchange *x, int64_t now_ns,
                     const char *id)
{
    int64_t wait_ns;
    const struct usage *u = &x->row.usage;
    int64_t uncached = u->input + u->cache_write_5m + u->cache_write_1h;
    enum org_word word = org_start(api->org, x->model->family, uncached, now_ns,
                                   &wait_ns);

    switch (word) {
    case ORG_ADMITTED:
        x->admitted = true;
        return true;
    case ORG_NO_CREDIT:
        front_refuse(&api->front, FAULT_credit, NULL, id, &x->reply);
        x->refused_for_credit = true;
        return false;
    case ORG_SPEND_LIMIT:
        front_refuse_spend(&api->front, id, &x->reply);
        return false;
    case ORG_CONCURRENT:
        rate_headers(api, x, now_ns);
        front_refuse(&api->front, FAULT_concurrency429, NULL, id, &x->reply);
        return false;
    default:
        refuse_rate(api, x, word, wait_ns, now_ns, id);
        return false;
    }
}

/* Tokens of input, sorted by what the cache has of them. */
static bool cache_used(struct api *api, struct exchange *x, const struct ask *a,
                       int64_t input, int64_t now_ns, const char *id)
{
    struct cache_plan *plan = &x->cached;
    char sentence[SENTENCE_MAX];

    cache_ask(api->cache, a, (uint64_t)x->row.model, x->model->min_cacheable,
              api->settings->bytes_per_token, now_ns, plan);
    if (plan->marks > CACHE_MARKS_MAX) {
        snprintf(
            sentence, sizeof sentence,
            "A maximum of %d blocks with cache_control may be provided. Found %zu.",
            CACHE_MARKS_MAX, plan->marks);
        problem_say(400, "invalid_request_error", sentence, id, &x->reply);
        return false;
    }
    x->began_ns = now_ns;
    input -= plan->read + plan->write_5m + plan->write_1h;
    x->row.usage = (struct usage){.input = input > 0 ? jittered(api, a, input) : 0,
                                  .cache_read = plan->read,
                                  .cache_write_5m = plan->write_5m,
                                  .cache_write_1h = plan->write_1h};
    return true;
}

/* What does not start reads and writes nothing. */
static void refused(struct exchange *x)
{
    x->row.usage = (struct usage){0};
    x->cached.write_count = 0;
}

static int64_t job_of(struct api *api, const struct api_request *rq,
                      const struct ask *a)
{
    if (rq->job)
        return stats_job(api->stats, rq->job, strlen(rq->job), 0);
    if (a->user_id.at)
        return stats_job(api->stats, a->user_id.at, a->user_id.len, 0);
    return stats_job(api->stats, NULL, 0,
                     words_hash(a->messages.at, a->messages.len, 0));
}

static enum answer_kind kind_of(const struct fault *f)
{
    switch (f ? f->kind : FAULT_NONE) {
    case FAULT_refusal:
        return ANSWER_REFUSAL;
    case FAULT_empty_turn:
        return ANSWER_EMPTY;
    case FAULT_pause_turn:
        return ANSWER_PAUSE;
    default:
        return ANSWER_TEXT;
    }
}

static void answer(struct api *api, struct exchange *x, const struct ask *a,
                   const struct fault *f, const char *id)
{
    const struct settings *s = api->settings;
    struct reply *r = &x->reply;
    struct answer an;
    char message_id[FRONT_ID_MAX];

    answer_decide(api->answers, &an, a, x->model->id, kind_of(f), s);
    x->row.usage.output = an.tokens;
    x->free_of_charge = an.kind == ANSWER_REFUSAL;
    front_id(&api->front, "msg_01", message_id);
    r->status = 200;
    if (a->stream) {
        answer_write_stream(api->answers, &an, x->model->id, message_id, &x->row.usage,
                            s, r);
    } else {
        answer_write_json(api->answers, &an, x->model->id, message_id, &x->row.usage,
                          r);
        r->wait_ns = s->ttft_ns + an.tokens * s->per_token_ns;
    }
    if (f)
        spoil_answer(f, id, r);
}

/* Refused for rate by a fault: told like one by a limit, where the API does so. */
static void fault_refused(struct api *api, struct exchange *x, const struct fault *f,
                          int64_t now_ns)
{
    org_fault_refused(api->org, x->model->family, now_ns);
    if (f->kind == FAULT_429 || f->kind == FAULT_acceleration429 ||
        f->kind == FAULT_concurrency429)
        rate_headers(api, x, now_ns);
}

static void row_begin(struct api *api, struct exchange *x)
{
    x->row.n = stats_whole(api->stats);
    x->row.reset = stats_resets(api->stats);
    x->row.model = -1;
    x->row.job = -1;
}

void api_message(struct api *api, const struct api_request *rq, struct exchange *x)
{
    struct reply *r = &x->reply;
    struct ask a;
    enum ask_version version = ASK_2023_06_01;
    char id[FRONT_ID_MAX], why[ASK_WHY_MAX];

    row_begin(api, x);
    front_id(&api->front, "req_011C", id);
    bool known = front_welcome(&api->front, rq->key, rq->version, id, &version, r);
    const struct fault *f = known ? faults_meet(&api->settings->faults, rq->body,
                                                rq->len, rq->now_ns)
                                  : NULL;
    bool sound = ask_read(&a, rq->body, rq->len, version, false, why);

    if (sound) {
        x->row.job = job_of(api, rq, &a);
        x->model = models_find(api->catalog, a.model);
        x->row.model = model_index(api, x->model);
    }
    if (f) {
        x->row.fault = fault_kind_name(f->kind);
        x->refused_for_credit = f->kind == FAULT_credit;
    }
    if (!known)
        goto out;
    if (f && spoil_instead(&api->front, f, id, r)) {
        if (x->model && r->status == 429 && f->kind != FAULT_spend_tier)
            fault_refused(api, x, f, rq->now_ns);
        goto out;
    }
    if (!sound) {
        problem_say(400, "invalid_request_error", why, id, r);
        goto out;
    }
    if (x->model == NULL) {
        models_refuse(a.model, id, r);
        goto out;
    }

    int64_t input = input_tokens(api, &a);
    if (!sizes_fit(&a, x->model, input, id, r))
        goto out;
    if (!cache_used(api, x, &a, input, rq->now_ns, id))
        goto out;
    if (admitted(api, x, rq->now_ns, id))
        answer(api, x, &a, f, id);
    else
        refused(x);
out:
    x->row.status = r->status;
}

void api_first_byte(struct api *api, struct exchange *x, int64_t now_ns)
{
    if (!x->admitted)
        return;
    cache_keep(api->cache, &x->cached, x->began_ns);
    rate_headers(api, x, now_ns);
}

void api_produced(struct api *api, struct exchange *x, int64_t tokens, int64_t now_ns)
{
    if (!x->admitted || tokens <= 0)
        return;
    x->produced += tokens;
    org_produced(api->org, x->model->family, tokens, now_ns);
}

void api_finish(struct api *api, struct exchange *x, int64_t now_ns)
{
    if (!x->admitted || x->finished)
        return;
    x->finished = true;
    api_produced(api, x, x->row.usage.output - x->produced, now_ns);
    if (x->free_of_charge)
        return;
    x->row.billed = catalog_cost(x->model, &x->row.usage);
    org_charge(api->org, x->row.billed);
}

void api_ended(struct api *api, struct exchange *x)
{
    if (x->admitted)
        org_ended(api->org);
    if (!x->finished)
        x->row.usage = (struct usage){0};
    stats_ended(api->stats, &x->row);
}

/* ---- the rest ---- */

void api_count_tokens(struct api *api, const struct api_request *rq, struct reply *r)
{
    struct ask a;
    enum ask_version version = ASK_2023_06_01;
    char id[FRONT_ID_MAX], why[ASK_WHY_MAX];
    int64_t wait_ns;

    stats_counted(api->stats);
    front_id(&api->front, "req_011C", id);
    if (!front_welcome(&api->front, rq->key, rq->version, id, &version, r))
        return;
    if (!ask_read(&a, rq->body, rq->len, version, true, why)) {
        problem_say(400, "invalid_request_error", why, id, r);
        return;
    }
    const struct model *m = models_find(api->catalog, a.model);
    if (m == NULL) {
        models_refuse(a.model, id, r);
        return;
    }
    enum org_word word = org_money(api->org);
    if (word == ORG_NO_CREDIT) {
        front_refuse(&api->front, FAULT_credit, NULL, id, r);
    } else if (word == ORG_SPEND_LIMIT) {
        front_refuse_spend(&api->front, id, r);
    } else if (org_count_start(api->org, rq->now_ns, &wait_ns) != ORG_ADMITTED) {
        front_refuse_rate(&api->front, api->settings->count_rpm, "requests", m->id,
                          wait_ns, id, r);
    } else {
        r->status = 200;
        r->content_type = "application/json";
        text_fmt(&r->body, "{\"input_tokens\":%" PRId64 "}",
                 jittered(api, &a, input_tokens(api, &a)));
    }
}

void api_model(struct api *api, const struct api_request *rq, const char *name,
               struct reply *r)
{
    char id[FRONT_ID_MAX];
    enum ask_version version;
    front_id(&api->front, "req_011C", id);
    if (front_welcome(&api->front, rq->key, rq->version, id, &version, r))
        models_one(api->catalog, name, id, r);
}

void api_models(struct api *api, const struct api_request *rq, const char *limit,
                const char *after_id, const char *before_id, struct reply *r)
{
    char id[FRONT_ID_MAX];
    enum ask_version version;
    front_id(&api->front, "req_011C", id);
    if (front_welcome(&api->front, rq->key, rq->version, id, &version, r))
        models_page(api->catalog, limit, after_id, before_id, id, r);
}

void api_too_large(struct api *api, struct exchange *x, bool message)
{
    char id[FRONT_ID_MAX];
    if (message)
        row_begin(api, x);
    front_id(&api->front, "req_011C", id);
    reply_header(&x->reply, "request-id", "%s", id);
    front_refuse(&api->front, FAULT_413, NULL, id, &x->reply);
    x->row.status = x->reply.status;
}

void api_nowhere(struct api *api, struct reply *r)
{
    char id[FRONT_ID_MAX];
    front_id(&api->front, "req_011C", id);
    reply_header(r, "request-id", "%s", id);
    problem_say(404, "not_found_error", "Not Found", id, r);
}

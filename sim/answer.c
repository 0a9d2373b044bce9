#include "sim/answer.h"

#include "sim/settings.h"
#include "sim/truth.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STOCK_BYTES = 64 * 1024,
    STOCK_SENTENCES_MAX = 4096,
    BYTES_PER_TOKEN = 4,
    QUOTE_MAX = 80,
};

/* Plain ASCII without quotes or backslashes: any cut of it is sound JSON text. */
static const char *const sentences[] = {
    "The short answer is that the first option holds up better under load.",
    "Three points stand out when the material is read as a whole.",
    "Most of the difference comes from the way the records were collected.",
    "It helps to look at the oldest entries first and work forward from there.",
    "The figures for spring and autumn agree within a few percent.",
    "No single cause explains the pattern, but two of them together do.",
    "The wording in the second paragraph leaves room for another reading.",
    "A careful reader would ask where the missing pages went.",
    "The customer was polite, precise and clearly in a hurry.",
    "One could sort the cases by size, yet sorting by age tells more.",
    "The author returns to this question twice and never settles it.",
    "Nothing in the text contradicts the summary given above.",
    "The safest step is to keep both versions until the review is over.",
    "What looks like noise turns out to follow the days of the week.",
    "The contract names a date, a place and a price, and little else.",
    "Several terms are used as if they meant the same, which they do not.",
    "Small teams tend to solve this with a checklist and a shared calendar.",
    "The tone is friendly at the start and grows formal towards the end.",
    "Readers far from the coast may find the example unfamiliar.",
    "Taken together, the answers point to a problem of timing.",
    "The translation keeps the rhythm of the original where it can.",
    "Two of the five samples were measured on the same afternoon.",
    "An earlier report reached the opposite conclusion from the same data.",
    "The category that fits best is support, with billing as a close second.",
    "If the deadline moves, the rest of the plan still stands.",
    "The names in the list are complete, but three of them are misspelled.",
    "This is common in winter and rare in the other seasons.",
    "The letter asks for a refund and, between the lines, for an apology.",
    "Prices rose slowly, then quickly, then not at all.",
    "The last section repeats the first in other words.",
    "It would be worth a second look once the new numbers are in.",
    "Overall the evidence is good, though not strong enough to stop asking.",
};

struct answers {
    char stock[STOCK_BYTES];
    size_t starts[STOCK_SENTENCES_MAX];
    size_t count;
    uint64_t seed;
    struct truth *truth; /* NULL: nobody knows */
};

struct answers *answers_new(uint64_t seed)
{
    struct answers *as = calloc(1, sizeof *as);
    size_t at = 0, last = 0, n = sizeof sentences / sizeof sentences[0];
    if (as == NULL)
        return NULL;

    as->seed = seed;
    while (as->count < STOCK_SENTENCES_MAX) {
        size_t pick = words_mix(seed + as->count) % n;
        if (pick == last)
            pick = (pick + 1) % n;
        last = pick;
        size_t len = strlen(sentences[pick]);
        if (at + len + 1 > STOCK_BYTES)
            break;
        as->starts[as->count++] = at;
        memcpy(as->stock + at, sentences[pick], len);
        as->stock[at + len] = ' ';
        at += len + 1;
    }
    /* The rest of the stock, less than a sentence, reads as a pause. */
    memset(as->stock + at, ' ', STOCK_BYTES - at);
    return as;
}

void answers_know(struct answers *as, struct truth *t)
{
    as->truth = t;
}

void answers_free(struct answers *as)
{
    if (as)
        truth_free(as->truth);
    free(as);
}

/* ---- deciding ---- */

static int64_t tokens_of(size_t bytes)
{
    return (int64_t)((bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN);
}

/* Lognormal: most answers are near the median and a few are much longer. */
static int64_t tokens_draw(uint64_t hash, const struct settings *s)
{
    double u = 1 - words_unit(words_mix(hash + 1)), v = words_unit(words_mix(hash + 2));
    double normal = sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v);
    double tokens = s->output_median * exp(s->output_sigma * normal);
    return tokens < 1 ? 1 : tokens > 1e6 ? 1000000 : (int64_t)llround(tokens);
}

/* The prompt up to its first escape, which usually is its first line. */
static struct span quote_of(struct span prompt)
{
    if (prompt.at == NULL)
        return prompt;
    const char *slash = memchr(prompt.at, '\\', prompt.len);
    if (slash != NULL)
        prompt.len = (size_t)(slash - prompt.at);
    return scan_head(prompt, QUOTE_MAX);
}

static void head_write(struct answer *an, const struct ask *a, const char *model)
{
    struct span q = quote_of(a->prompt);
    int n = snprintf(
        an->head, sizeof an->head,
        "Simulated answer in the name of %.100s. You wrote: \xe2\x80\x9c%.*s"
        "\xe2\x80\x9d. ",
        model, (int)q.len, q.at ? q.at : "");
    an->head_len = (size_t)n < sizeof an->head ? (size_t)n : sizeof an->head - 1;
}

static void truth_write(const struct answers *as, struct answer *an,
                        const struct ask *a, const char *model,
                        const struct settings *s)
{
    bool weak = s->truth_weak && strstr(model, s->truth_weak) != NULL, right, passes;
    if (as->truth == NULL || a->prompt.at == NULL ||
        !truth_of(as->truth, a->prompt, weak, s->truth_errs, as->seed, &right, &passes))
        return;
    int n = snprintf(an->head, sizeof an->head, "The answer is %s. Check: %s. ",
                     right ? "right" : "wrong", passes ? "pass" : "fail");
    an->head_len = (size_t)n;
}

static void head_cut(struct answer *an, size_t bytes)
{
    if (an->head_len > bytes)
        an->head_len = scan_head((struct span){an->head, an->head_len}, bytes).len;
    an->head[an->head_len] = '\0';
}

/* The rest of the sentence in which `bytes` of the stock from here end. */
static size_t to_full_stop(const struct answers *as, size_t from, size_t bytes)
{
    const char *at = as->stock + (from + bytes) % STOCK_BYTES;
    const char *dot = memchr(at, '.', (size_t)(as->stock + STOCK_BYTES - at));
    return dot ? (size_t)(dot - at) + 1 : 0;
}

void answer_decide(const struct answers *as, struct answer *an, const struct ask *a,
                   const char *model, enum answer_kind kind, const struct settings *s)
{
    uint64_t hash = words_hash(a->body.at, a->body.len, as->seed);

    *an = (struct answer){.kind = kind, .stop_reason = "end_turn"};
    if (a->max_tokens == 0)
        an->kind = kind = ANSWER_EMPTY;
    if (kind == ANSWER_REFUSAL)
        an->stop_reason = "refusal";
    if (kind == ANSWER_EMPTY && a->max_tokens == 0)
        an->stop_reason = "max_tokens";
    if (kind == ANSWER_PAUSE)
        an->stop_reason = "pause_turn";
    if (kind == ANSWER_REFUSAL || kind == ANSWER_EMPTY)
        return;

    head_write(an, a, model);
    truth_write(as, an, a, model, s);
    an->from = as->starts[hash % as->count];
    if (s->output_bytes > 0) {
        an->bytes = (size_t)s->output_bytes;
    } else {
        an->bytes = (size_t)tokens_draw(hash, s) * BYTES_PER_TOKEN;
        if (an->bytes < an->head_len)
            an->bytes = an->head_len;
        an->bytes += to_full_stop(as, an->from, an->bytes - an->head_len);
    }
    an->tokens = tokens_of(an->bytes);
    if (an->tokens > a->max_tokens) {
        an->tokens = a->max_tokens;
        an->bytes = (size_t)a->max_tokens * BYTES_PER_TOKEN;
        if (kind == ANSWER_TEXT)
            an->stop_reason = "max_tokens";
    }
    head_cut(an, an->bytes);
}

/* ---- writing ---- */

/* `len` bytes of the text's rest, from its byte `at` on. */
static void stock_add(const struct answers *as, const struct answer *an, struct text *t,
                      size_t at, size_t len)
{
    size_t from = (an->from + at) % STOCK_BYTES;
    while (len > 0) {
        size_t n = STOCK_BYTES - from < len ? STOCK_BYTES - from : len;
        text_add(t, as->stock + from, n);
        len -= n;
        from = 0;
    }
}

static void usage_add(struct text *t, const struct usage *u, int64_t output)
{
    text_str(t, "{\"input_tokens\":");
    text_int(t, u->input);
    text_str(t, ",\"cache_creation_input_tokens\":");
    text_int(t, u->cache_write_5m + u->cache_write_1h);
    text_str(t, ",\"cache_read_input_tokens\":");
    text_int(t, u->cache_read);
    text_str(t, ",\"cache_creation\":{\"ephemeral_5m_input_tokens\":");
    text_int(t, u->cache_write_5m);
    text_str(t, ",\"ephemeral_1h_input_tokens\":");
    text_int(t, u->cache_write_1h);
    text_str(t, "},\"output_tokens\":");
    text_int(t, output);
    text_str(t, ",\"service_tier\":\"standard\",\"inference_geo\":\"global\"}");
}

static void stop_add(struct text *t, const struct answer *an)
{
    text_str(t, "\"stop_reason\":\"");
    text_str(t, an->stop_reason);
    text_str(t, "\",\"stop_sequence\":null,\"stop_details\":");
    text_str(t, an->kind == ANSWER_REFUSAL
                    ? "{\"type\":\"refusal\",\"category\":\"cyber\",\"explanation\":"
                      "\"This request was declined by the simulator.\"}"
                    : "null");
}

static void message_open(struct text *t, const char *model, const char *id)
{
    text_str(t, "{\"id\":\"");
    text_str(t, id);
    text_str(t, "\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"");
    text_str(t, model);
    text_str(t, "\",\"content\":[");
}

void answer_write_json(const struct answers *as, const struct answer *an,
                       const char *model, const char *id, const struct usage *u,
                       struct reply *r)
{
    struct text *t = &r->body;

    text_reserve(t, an->bytes + 768);
    message_open(t, model, id);
    if (an->bytes > 0) {
        text_str(t, "{\"type\":\"text\",\"text\":\"");
        text_add(t, an->head, an->head_len);
        stock_add(as, an, t, 0, an->bytes - an->head_len);
        text_str(t, "\"}");
    }
    text_str(t, "],");
    stop_add(t, an);
    text_str(t, ",\"usage\":");
    usage_add(t, u, u->output);
    text_str(t, "}");
    r->content_type = "application/json";
}

static void delta_open(struct text *t)
{
    text_str(t, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\","
                "\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"");
}

static void delta_close(struct text *t)
{
    text_str(t, "\"}}\n\n");
}

static void deltas_write(const struct answers *as, const struct answer *an,
                         const struct settings *s, struct reply *r)
{
    size_t step = (size_t)s->chunk_tokens * BYTES_PER_TOKEN;
    size_t at = an->head_len;
    int64_t said = tokens_of(at);

    if (at > 0) {
        delta_open(&r->body);
        text_add(&r->body, an->head, an->head_len);
        delta_close(&r->body);
        reply_mark(r, s->ttft_ns + said * s->per_token_ns, said);
    }
    while (at < an->bytes) {
        size_t n = an->bytes - at < step ? an->bytes - at : step;
        delta_open(&r->body);
        stock_add(as, an, &r->body, at - an->head_len, n);
        delta_close(&r->body);
        at += n;
        int64_t now = tokens_of(at);
        now = now > an->tokens ? an->tokens : now;
        reply_mark(r, s->ttft_ns + now * s->per_token_ns, now - said);
        said = now;
    }
}

void answer_write_stream(const struct answers *as, const struct answer *an,
                         const char *model, const char *id, const struct usage *u,
                         const struct settings *s, struct reply *r)
{
    struct text *t = &r->body;
    int64_t end_ns = s->ttft_ns + an->tokens * s->per_token_ns;

    text_reserve(t, an->bytes * 4 + 2048);
    text_str(t, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
    message_open(t, model, id);
    text_str(t, "],\"stop_reason\":null,\"stop_sequence\":null,\"stop_details\":null,"
                "\"usage\":");
    usage_add(t, u, an->tokens > 0 ? 1 : 0);
    text_str(t, "}}\n\n");
    if (an->bytes > 0)
        text_str(
            t, "event: content_block_start\ndata: {\"type\":\"content_block_start\","
               "\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n");
    text_str(t, "event: ping\ndata: {\"type\":\"ping\"}\n\n");
    reply_mark(r, s->ttft_ns, 0);

    if (an->bytes > 0) {
        deltas_write(as, an, s, r);
        text_str(t, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\","
                    "\"index\":0}\n\n");
    }
    text_str(t, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{");
    stop_add(t, an);
    text_str(t, "},\"usage\":");
    usage_add(t, u, u->output);
    text_str(t, "}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    reply_mark(r, end_ns, 0);
    r->content_type = "text/event-stream; charset=utf-8";
    r->streamed = true;
}

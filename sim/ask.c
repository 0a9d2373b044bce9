#include "sim/ask.h"

#include <stdio.h>
#include <string.h>

static bool refuse(char *why, const char *field, const char *sentence)
{
    snprintf(why, ASK_WHY_MAX, "%s: %s", field, sentence);
    return false;
}

/* The first text in a message's content: a string, or the first block that has one. */
static struct span content_text(struct span content)
{
    struct span block;
    struct scan s;
    if (scan_is_string(content))
        return scan_inside(content);
    if (scan_is_array(content))
        for (scan_into(&s, content); scan_element(&s, &block);) {
            struct span text = scan_get(block, "text");
            if (scan_is_string(text))
                return scan_inside(text);
        }
    return (struct span){NULL, 0};
}

static bool messages_read(struct ask *a, char *why)
{
    struct span message, key, v;
    struct scan s, m;
    int i = 0;
    char field[32];

    for (scan_into(&s, a->messages); scan_element(&s, &message); i++) {
        struct span role = {0}, content = {0};
        for (scan_into(&m, message); scan_member(&m, &key, &v);) {
            if (scan_equal(key, "role"))
                role = v;
            else if (scan_equal(key, "content"))
                content = v;
        }
        snprintf(field, sizeof field, "messages.%d.%s", i,
                 role.at ? "content" : "role");
        if (role.at == NULL || content.at == NULL)
            return refuse(why, field, "Field required");
        if (scan_equal(role, "user"))
            a->prompt = content_text(content);
        else if (!scan_equal(role, "assistant") && !scan_equal(role, "system")) {
            snprintf(field, sizeof field, "messages.%d.role", i);
            return refuse(why, field, "Input should be 'user' or 'assistant'");
        }
    }
    return i > 0 || refuse(why, "messages", "at least one message is required");
}

static bool fields_check(struct ask *a, struct span model, struct span max_tokens,
                         bool counting, char *why)
{
    if (model.at == NULL)
        return refuse(why, "model", "Field required");
    if (!scan_is_string(model))
        return refuse(why, "model", "Input should be a valid string");
    scan_copy(scan_inside(model), a->model, sizeof a->model);
    if (a->messages.at == NULL)
        return refuse(why, "messages", "Field required");
    if (!scan_is_array(a->messages))
        return refuse(why, "messages", "Input should be a valid list");
    if (counting)
        return true;
    if (max_tokens.at == NULL)
        return refuse(why, "max_tokens", "Field required");
    if (!scan_is_int(max_tokens, &a->max_tokens))
        return refuse(why, "max_tokens", "Input should be a valid integer");
    if (a->max_tokens < 0)
        return refuse(why, "max_tokens", "Input should be greater than or equal to 0");
    if (a->max_tokens == 0 && a->stream)
        return refuse(why, "max_tokens", "0 is not supported with stream");
    return true;
}

bool ask_read(struct ask *a, const char *body, size_t len, enum ask_version version,
              bool counting, char *why)
{
    static const char *const sampling[] = {"temperature", "top_p", "top_k"};
    struct span model = {0}, max_tokens = {0}, document, key, v;
    struct scan s;
    size_t bad_at;

    *a = (struct ask){.body = {body, len}};
    if (!scan_document(body, len, &document, &bad_at)) {
        snprintf(why, ASK_WHY_MAX, "The request body is not valid JSON: (char %zu)",
                 bad_at);
        return false;
    }
    if (!scan_is_object(document)) {
        snprintf(why, ASK_WHY_MAX, "The request body is not a JSON object");
        return false;
    }

    for (scan_into(&s, document); scan_member(&s, &key, &v);) {
        if (scan_equal(key, "model"))
            model = v;
        else if (scan_equal(key, "max_tokens"))
            max_tokens = v;
        else if (scan_equal(key, "messages"))
            a->messages = v;
        else if (scan_equal(key, "system"))
            a->system = v;
        else if (scan_equal(key, "tools"))
            a->tools = v;
        else if (scan_equal(key, "stream"))
            a->stream = scan_is_true(v);
        else if (scan_equal(key, "cache_control") && scan_is_object(v))
            a->cache_control = v;
        else if (scan_equal(key, "metadata"))
            a->user_id = scan_inside(scan_get(v, "user_id"));
        else if (version == ASK_2026_10_21)
            for (size_t i = 0; i < sizeof sampling / sizeof sampling[0]; i++)
                if (scan_equal(key, sampling[i]))
                    return refuse(why, sampling[i], "Extra inputs are not permitted");
    }
    if (!fields_check(a, model, max_tokens, counting, why) || !messages_read(a, why))
        return false;

    a->marked = memmem(body, len, "\"cache_control\"", 15) != NULL;
    a->bytes = (int64_t)(a->tools.len + a->system.len + a->messages.len);
    return true;
}

#include "sim/problem.h"

#include <stdlib.h>
#include <string.h>

#define RATE_HELP                                                                      \
    " For details, refer to: https://docs.claude.com/en/api/rate-limits. You can see " \
    "the response headers for current usage. Please reduce the prompt length or the "  \
    "maximum tokens requested, or try again later."

static const struct problem problems[FAULT_KIND_COUNT] = {
    [FAULT_400] = {400, "invalid_request_error",
                   "messages: Input should be a valid list", NULL, NULL, false},
    [FAULT_401] = {401, "authentication_error", "invalid x-api-key", NULL, NULL, false},
    [FAULT_402] = {402, "billing_error", PROBLEM_NO_CREDIT, NULL, NULL, false},
    [FAULT_403] =
        {403, "permission_error",
         "Your API key does not have permission to use the specified resource.", NULL,
         NULL, false},
    [FAULT_404] = {404, "not_found_error", "model: no-such-model", NULL, NULL, false},
    [FAULT_408] = {408, "timeout_error", "Request timed out", NULL, NULL, false},
    [FAULT_409] = {409, "conflict_error", "Conflict", NULL, NULL, false},
    [FAULT_413] = {413, "request_too_large", "Request exceeds the maximum size", NULL,
                   NULL, false},
    [FAULT_422] = {422, "invalid_request_error", "Unprocessable request", NULL, NULL,
                   false},
    [FAULT_429] =
        {429, "rate_limit_error",
         "This request would exceed your organization's rate limit of 50 requests "
         "per minute." RATE_HELP,
         NULL, "true", false},
    [FAULT_500] = {500, "api_error", "Internal server error", NULL, NULL, false},
    [FAULT_502] = {502, "api_error", "Bad gateway", NULL, NULL, false},
    [FAULT_503] = {503, "api_error", "Service unavailable", NULL, NULL, false},
    [FAULT_504] = {504, "timeout_error", "Request timed out", NULL, NULL, false},
    [FAULT_529] = {529, "overloaded_error", "Overloaded", NULL, NULL, false},
    [FAULT_credit] = {400, "invalid_request_error", PROBLEM_NO_CREDIT, NULL, NULL,
                      false},
    [FAULT_spend_own] =
        {400, "invalid_request_error",
         "You have reached your specified API usage limits. You will regain "
         "access on %s at 00:00 UTC.",
         NULL, NULL, false},
    [FAULT_spend_workspace] =
        {400, "invalid_request_error",
         "You have reached your specified workspace API usage limits. "
         "You will regain access on %s at 00:00 UTC.",
         NULL, NULL, false},
    [FAULT_spend_tier] =
        {429, "rate_limit_error",
         "You have reached your API usage limits: your organization has "
         "crossed its monthly API usage threshold, set based on your "
         "organization's API tier. You will regain access on %s at 00:00 "
         "UTC.",
         "enforced_spend_limit_reached", NULL, false},
    [FAULT_bare429] = {429, "rate_limit_error", "Error", NULL, "true", false},
    [FAULT_concurrency429] = {429, "rate_limit_error",
                              "Number of concurrent connections has exceeded your rate "
                              "limit. Please try again later or contact sales at "
                              "https://www.anthropic.com/contact-sales to discuss your "
                              "options for a rate limit increase.",
                              NULL, "true", false},
    [FAULT_acceleration429] =
        {429, "rate_limit_error",
         "This request would exceed your organization's maximum usage increase rate "
         "for "
         "input tokens per minute. Your current limit is 58,276 input tokens per "
         "minute, "
         "and will increase to 68,276 at the next minute boundary. Please scale up "
         "your "
         "input tokens usage more gradually to stay within the acceleration limit. For "
         "details, refer to: https://docs.claude.com/en/api/rate-limits.",
         NULL, "true", false},
    [FAULT_longcontext429] = {429, "rate_limit_error",
                              "Extra usage is required for long context requests.",
                              NULL, NULL, false},
    [FAULT_html] =
        {502, NULL,
         "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
         "<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>cloudflare"
         "</center>\r\n</body>\r\n</html>\r\n",
         NULL, NULL, true},
    [FAULT_html200] =
        {200, NULL,
         "<!DOCTYPE html><html><head><title>Sign in to the network</title>"
         "</head><body><h1>Welcome</h1><p>Please accept the terms of use."
         "</p></body></html>\n",
         NULL, NULL, true},
    [FAULT_empty200] = {200, NULL, "", NULL, NULL, true},
    [FAULT_redirect] = {302, NULL, "", NULL, NULL, true},
};

const struct problem *problem_of(enum fault_kind kind)
{
    return problems[kind].status ? &problems[kind] : NULL;
}

static void envelope(struct text *t, const char *type, const char *sentence,
                     const char *error_code, const char *request_id)
{
    text_str(t, "{\"type\":\"error\",\"error\":{\"type\":");
    text_json(t, type);
    text_str(t, ",\"message\":");
    text_json(t, sentence);
    if (error_code) {
        text_str(t, ",\"details\":{\"error_code\":");
        text_json(t, error_code);
        text_str(t, "}");
    }
    text_str(t, "},\"request_id\":");
    text_json(t, request_id);
    text_str(t, "}");
}

void problem_write(const struct problem *p, const char *sentence,
                   const char *request_id, struct reply *r)
{
    r->status = p->status;
    if (p->should_retry)
        reply_header(r, "x-should-retry", "%s", p->should_retry);
    if (p->html) {
        text_str(&r->body, sentence ? sentence : p->message);
        r->content_type = "text/html; charset=UTF-8";
        reply_header(r, "cf-ray", "%s-FRA", request_id + strlen(request_id) - 16);
        return;
    }
    envelope(&r->body, p->type, sentence ? sentence : p->message, p->error_code,
             request_id);
    r->content_type = "application/json";
}

void problem_say(int status, const char *type, const char *sentence,
                 const char *request_id, struct reply *r)
{
    const struct problem p = {.status = status, .type = type};
    problem_write(&p, sentence, request_id, r);
}

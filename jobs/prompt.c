#include "jobs/prompt.h"

#include "jobs/jsonscan.h"
#include "jobs/textbuf.h"

#include <stdbool.h>
#include <stdlib.h>

static void add(struct textbuf *to, struct json_span string)
{
    size_t n;
    char *text = json_text(string, &n);
    if (text == NULL || to->len >= PROMPT_MAX) {
        free(text);
        return;
    }
    if (to->len > 0)
        textbuf_puts(to, "\n");
    textbuf_put(to, text, n < PROMPT_MAX - to->len ? n : PROMPT_MAX - to->len);
    free(text);
}

static void add_content(struct textbuf *to, struct json_span content)
{
    struct json_span block;
    if (json_type(content) == '"')
        add(to, content);
    if (json_type(content) != '[')
        return;
    for (size_t pos = 0; json_next(content, &pos, NULL, &block);)
        if (json_type(block) == '{' && json_get(block, "text").at)
            add(to, json_get(block, "text"));
}

void prompt_text(struct textbuf *to, const char *members, size_t len)
{
    struct json_want want[] = {{.key = "messages"}};
    struct json_span message;
    struct textbuf body = {0};
    textbuf_puts(&body, "{");
    textbuf_put(&body, members, len);
    textbuf_puts(&body, "}");
    if (!body.failed && json_scan(body.at, body.len, want, 1, NULL) == 0 &&
        want[0].value.at && json_type(want[0].value) == '[')
        for (size_t pos = 0; json_next(want[0].value, &pos, NULL, &message);)
            if (json_type(message) == '{' &&
                json_is(json_get(message, "role"), "user") &&
                json_get(message, "content").at)
                add_content(to, json_get(message, "content"));
    textbuf_free(&body);
}

#include "jobs/job.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "runner/err.h"

#define TO(state) (1u << JOB_##state)

static const struct {
    const char *name;
    unsigned next;
} states[] = {
#define X(state, name, next) [JOB_##state] = {name, next},
    JOB_STATES(X)
#undef X
};

static const char *const outcomes[] = {
#define X(outcome, name) [OUTCOME_##outcome] = name,
    JOB_OUTCOMES(X)
#undef X
};

const char *job_state_name(enum job_state s)
{
    assert(s < JOB_STATE_COUNT);
    return states[s].name;
}

bool job_may_move(enum job_state from, enum job_state to)
{
    assert(from < JOB_STATE_COUNT && to < JOB_STATE_COUNT);
    return states[from].next & (1u << to);
}

const char *job_outcome_name(enum job_outcome o)
{
    assert(o < OUTCOME_COUNT);
    return outcomes[o];
}

void job_spec_free(struct job_spec *s)
{
    if (s == NULL)
        return;
    free(s->custom_id);
    free(s->model);
    free(s->tier);
    free(s->effort);
    free(s->system_file);
    free(s->check);
    free(s->route);
    free(s->tags);
    free(s->body);
    *s = (struct job_spec){0};
}

/* Which second bytes a first byte allows, and how many bytes follow it: overlong forms,
 * surrogates and what lies above U+10FFFF fall out by the ranges. */
static const struct {
    unsigned char from, to, second_from, second_to, more;
} utf8[] = {
    {0x01, 0x7f, 0x00, 0x00, 0}, {0xc2, 0xdf, 0x80, 0xbf, 1},
    {0xe0, 0xe0, 0xa0, 0xbf, 2}, {0xe1, 0xec, 0x80, 0xbf, 2},
    {0xed, 0xed, 0x80, 0x9f, 2}, {0xee, 0xef, 0x80, 0xbf, 2},
    {0xf0, 0xf0, 0x90, 0xbf, 3}, {0xf1, 0xf3, 0x80, 0xbf, 3},
    {0xf4, 0xf4, 0x80, 0x8f, 3},
};

/* Length of the character at `p`; 0 if it is none. */
static size_t character(const unsigned char *p, size_t room)
{
    for (size_t i = 0; i < sizeof utf8 / sizeof utf8[0]; i++) {
        if (*p < utf8[i].from || *p > utf8[i].to)
            continue;
        size_t n = 1u + utf8[i].more;
        if (n > room ||
            (n > 1 && (p[1] < utf8[i].second_from || p[1] > utf8[i].second_to)))
            return 0;
        for (size_t k = 2; k < n; k++)
            if ((p[k] & 0xc0) != 0x80)
                return 0;
        return n;
    }
    return 0;
}

size_t job_text_fault(const char *text, size_t len)
{
    size_t line = 1;
    for (size_t at = 0, n; at < len; at += n) {
        if ((n = character((const unsigned char *)text + at, len - at)) == 0)
            return line;
        line += text[at] == '\n';
    }
    return 0;
}

int job_spec_members(struct job_spec *s, json_t *object, struct err *e)
{
    /* Measured and then printed into place: json_dumps() goes on when memory runs out
     * under a key, and hands back an object with a hole. */
    size_t n = json_dumpb(object, NULL, 0, JSON_COMPACT);
    char *body = n ? malloc(n + s->body_len + 1) : NULL;
    if (body == NULL || json_dumpb(object, body, n, JSON_COMPACT) != n) {
        free(body);
        json_decref(object);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    json_decref(object);

    /* What lies between the braces goes in front of what is there. */
    n -= 2;
    memmove(body, body + 1, n);
    if (s->body_len > 0) {
        if (n > 0)
            body[n++] = ',';
        memcpy(body + n, s->body, s->body_len);
    }
    s->body_len += n;
    body[s->body_len] = '\0';
    free(s->body);
    s->body = body;
    return 0;
}

int job_spec_system(struct job_spec *s, const char *text, size_t len, struct err *e)
{
    size_t line = job_text_fault(text, len);
    if (line)
        return err_set(e, ERR_INPUT, "%zu: bytes that are no text; want UTF-8", line);

    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        len -= 3;
    }
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        len--;
    return job_spec_members(s, json_pack("{s:s%}", "system", text, len), e);
}

#ifndef MESSAGES_H
#define MESSAGES_H

#include "runner/sender.h"

#include <uv.h>

struct conf;
struct textbuf;

/* POST /v1/messages: a call holds one attempt, and what a dead run left out is in
 * doubt. `key` is copied. The loop is borrowed. NULL: `e` says why. */
struct sender *messages_new(uv_loop_t *loop, const struct conf *conf, const char *key,
                            const struct sender_told *told, struct err *e);

/* The whole body: our members in front of the job's own, whose bytes stay as they are.
 * Pure; shown here for the tests. */
void messages_body(struct textbuf *b, const struct sending *s, bool stream);

/* Is this one to be streamed? `when` is enum stream_when. */
bool messages_streams(const struct sending *s, int when, int64_t above);

#endif

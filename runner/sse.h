#ifndef SSE_H
#define SSE_H

#include <stdbool.h>
#include <stddef.h>

struct err;
struct sse;

/*
 * Puts a streamed answer together: events in, in pieces of any size, and in the end the
 * one message that they amount to, in the shape of an answer that was not streamed
 * (content blocks with their text, thinking, signature, citations and tool input; the
 * stop reason; the cumulative usage). Pure.
 *
 * Unknown events and unknown kinds of delta are ignored, as the API asks; a block that
 * starts and stops without deltas is kept as it started.
 */
/* A message of more than so many bytes is refused. NULL: no memory. */
struct sse *sse_new(size_t max_bytes);
void sse_free(struct sse *s); /* NULL is fine */

/* 0, or -1: too large, not an event stream, or no memory; then it stays failed. */
int sse_feed(struct sse *s, const char *bytes, size_t len, struct err *e);

bool sse_began(const struct sse *s); /* message_start came: it is being billed */
bool sse_whole(const struct sse *s); /* message_stop came */

bool sse_too_large(const struct sse *s); /* it failed because of `max_bytes` */

/* An `error` event came: its data, a whole error envelope as JSON. Else NULL. Lent. */
const char *sse_error(const struct sse *s);

/* The message so far as JSON text (free it); NULL before message_start or without
 * memory. Of a stream that was cut it is what had come. */
char *sse_message(const struct sse *s, size_t *len);

#endif

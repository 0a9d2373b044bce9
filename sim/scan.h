#ifndef SCAN_H
#define SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Walks JSON where it lies: no tree, no copy. A request of 20 KB of which three
 * fields matter is read at the speed of memory.
 *
 * A span is a piece of the text as it stands there, strings with their quotes. What
 * scan_document() accepted is sound JSON all the way down, so walking into its spans
 * cannot fail.
 */
struct span {
    const char *at; /* NULL: not there */
    size_t len;
};

enum { SCAN_DEPTH_MAX = 256 };

/* One whole document. False where it is none; *bad_at is then the offset. */
bool scan_document(const char *text, size_t len, struct span *v, size_t *bad_at);

/*
 * Members of an object, elements of an array:
 *
 *     struct scan s;
 *     for (scan_into(&s, value); scan_member(&s, &key, &v);) ...
 *
 * A span of another kind has no members and no elements.
 */
struct scan {
    const char *at, *end;
};

void scan_into(struct scan *s, struct span v);
bool scan_member(struct scan *s, struct span *key, struct span *v);
bool scan_element(struct scan *s, struct span *v);

/* The member of that name, the last where there are several; else a span of NULL. */
struct span scan_get(struct span object, const char *key);

bool scan_is_string(struct span v);
bool scan_is_array(struct span v);
bool scan_is_object(struct span v);
bool scan_is_int(struct span v, int64_t *n);
bool scan_is_true(struct span v);

/* A string without its quotes, escapes as they stand. */
struct span scan_inside(struct span string);
/* Is it this word? Words with escapes in them are never equal. */
bool scan_equal(struct span string, const char *word);
/* The first `max` bytes, fewer where those would end within an escape or a character.
 */
struct span scan_head(struct span inside, size_t max);
/* Cut to `size` with NUL. */
void scan_copy(struct span inside, char *buf, size_t size);

#endif

#ifndef PREFIX_H
#define PREFIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct textbuf;

/*
 * What requests have in common at their front. The API reads a prompt in the order
 * tools, system, messages, and its prompt cache keeps what stands before a mark
 * (`cache_control`). Places where a mark may stand are cuts: the end of the tools, the
 * end of each block of the system prompt, the end of each block of the messages but the
 * last, which is the job's own question.
 *
 * Pure. `members` are the members of a valid Messages body, without braces.
 */
enum {
    PREFIX_CUTS_MAX = 6,  /* of more, the first ones and the last */
    PREFIX_MARKS_MAX = 2, /* of ours in a request; the API bears four */
    /* Shorter ones are no cuts: no model caches less than 512 tokens, and text has more
     * than two bytes a token. */
    PREFIX_BYTES_MIN = 1024,
};

struct prefix_cut {
    /*
     * The same for all jobs that share every byte before the cut, and the settings that
     * the API's cache tells apart (thinking, tool_choice, output_config, whatever is not
     * known to be harmless). Stable over runs and machines. Not cryptographic: two
     * prefixes that collide cost a cache write, and nobody gains by it.
     */
    uint64_t key[2];
    size_t bytes;    /* of prompt before the cut */
    size_t from, to; /* the value that bears the mark, in the members */
    bool wrap;       /* it is a string: it becomes a list of one text block */
};

struct prefix {
    bool own; /* the job has marks of its own: it is left alone, and has no cuts */
    int count;
    struct prefix_cut cut[PREFIX_CUTS_MAX]; /* each holds the one before it */
};

void prefix_find(struct prefix *p, const char *members, size_t len);

/* What is to be marked: cuts of the prefix, at most PREFIX_MARKS_MAX. */
struct prefix_marks {
    int count;
    int cut[PREFIX_MARKS_MAX];
    bool hour; /* "ttl":"1h"; the API's own 5 minutes where false */
};

/*
 * Append the members with the marks put in. `p` is what prefix_find() said of the same
 * members. A string before the last mark, where a mark might stand, becomes a list of
 * one text block, marked or not, so that all jobs of a group say the same; every other
 * byte stays as it is. Without marks nothing changes.
 */
void prefix_mark(struct textbuf *to, const char *members, size_t len,
                 const struct prefix *p, const struct prefix_marks *marks);

#endif

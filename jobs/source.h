#ifndef SOURCE_H
#define SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct job_spec;

/*
 * Job formats: how the bytes of a file become jobs. One row and one source_*.c a
 * format. Pure: bytes in, a spec or a sentence out.
 */
enum {
    SOURCE_LINE_MAX = 32 * 1024 * 1024, /* a request body's own limit at the API */
    SOURCE_FRONT_MAX = 64 * 1024,       /* front matter */
    SOURCE_NAME_MAX = 200,              /* custom_id, tag, tier, model */
    SOURCE_TAGS_MAX = 32,
    SOURCE_TOKENS_MAX = 10 * 1000 * 1000, /* max_tokens in front matter */
    SOURCE_PRIORITY_MAX = 1000 * 1000,    /* and as far below zero */
};

/*
 * Parse `text` (one whole file, or one line of a bulk file without its newline) into
 * `ret`, which must be zeroed. On failure returns -1, `ret` is empty but for
 * `custom_id` where that could still be read, and `e` says `LINE: what is wrong and
 * what is wanted` (LINE counted from `first_line`).
 */
typedef int source_parse_fn(const char *text, size_t len, size_t first_line,
                            struct job_spec *ret, struct err *e);

struct source_format {
    const char *extension; /* ".md" */
    bool bulk;             /* one job a line */
    source_parse_fn *parse;
};

extern const struct source_format source_formats[];
extern const size_t source_formats_len;

/* By a file's name; NULL if files of that name are not jobs. */
const struct source_format *source_format_of(const char *file_name);

source_parse_fn source_text_parse; /* .md, .txt: the prompt, maybe front matter */
source_parse_fn source_json_parse; /* .json, and one line of .jsonl */

/*
 * For source_*.c: what nightmill's own keys may say. `text` is UTF-8. 0, or -1 where it
 * is not what is wanted and nothing was written; the caller knows the words. (Out of
 * memory is said in `e` at once, and the first cause wins.)
 */
int source_word(char **ret, const char *text, struct err *e); /* "claude-opus-5.5" */
int source_tags(char **ret, const char *text, struct err *e); /* "b, a" gives "a,b" */
int source_number(int64_t *ret, const char *text, int64_t min, int64_t max);

/* `text` as a sentence can show it: cut to fit, and safe for a terminal. Returns `buf`.
 */
enum { SOURCE_SHOWN = 64 };
const char *source_shown(char buf[SOURCE_SHOWN], const char *text, size_t len);

#endif

#ifndef CSV_H
#define CSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/*
 * Reads CSV as RFC 4180 has it, in place: commas, fields in double quotes where they hold
 * commas, quotes (doubled) or line ends, records that end in LF or CRLF. A byte order mark
 * is skipped, and so are empty lines. Bytes are not looked into otherwise.
 *
 * Of our own since libcsv takes anything for CSV and does not know what line it is on,
 * while people want to be told where their file is wrong.
 */
enum {
    CSV_FIELDS_MAX = 64,
    CSV_FIELD_MAX = 16 * 1024 * 1024,
};

struct csv_field {
    char *at; /* NUL-terminated for convenience; may hold NULs */
    size_t len;
};

struct csv {
    const char *name; /* for messages; lent */
    char *at, *end;
    int64_t line;        /* of what is read next, from 1 */
    int64_t record_line; /* where the last record began */
    struct csv_field field[CSV_FIELDS_MAX];
    int fields;
};

/* `bytes` is lent, changed while reading, and must outlive every field that was read.
 * bytes[len] must be writable. */
void csv_init(struct csv *c, const char *name, char *bytes, size_t len);

/* 1: a record is in `field`; 0: there is no more; -1: "NAME:LINE: what is wrong". */
int csv_next(struct csv *c, struct err *e);

#endif

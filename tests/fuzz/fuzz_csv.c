/*
 * Whatever a table holds, its fields lie inside it in order, each ends in a NUL, and what
 * is wrong with it is told with the file's name and a line.
 */
#include "runner/csv.h"
#include "runner/err.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct csv c;
    struct err e = {0};
    int rc;
    char *bytes = malloc(size + 1);
    if (bytes == NULL)
        abort();
    memcpy(bytes, data, size);
    const char *from = bytes;
    csv_init(&c, "fuzz", bytes, size);
    while ((rc = csv_next(&c, &e)) > 0) {
        if (c.fields < 1 || c.record_line < 1 || c.record_line > c.line)
            abort();
        for (int i = 0; i < c.fields; i++) {
            if (c.field[i].at < from || c.field[i].at + c.field[i].len > bytes + size ||
                c.field[i].at[c.field[i].len] != '\0')
                abort();
            from = c.field[i].at + c.field[i].len;
        }
    }
    if ((rc < 0) != (e.code != ERR_NONE) ||
        (rc < 0 && strncmp(e.text, "fuzz:", 5) != 0))
        abort();
    free(bytes);
    return 0;
}

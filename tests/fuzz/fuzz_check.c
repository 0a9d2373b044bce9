/* Words of a check, and an answer for it: the first line, and what is behind it. */
#include "runner/check.h"
#include "runner/err.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_known(void *arg, const char *name)
{
    (void)arg;
    return *name == 'k';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = memchr(data, '\n', size);
    size_t len = end ? (size_t)(end - data) : size;
    char *words = strndup((const char *)data, len);
    struct err e = {0};
    char why[CHECK_WHY_MAX];
    struct check *c =
        words ? check_new(words, &(struct check_env){.command = is_known}, &e) : NULL;
    if (c) {
        check_text(c, (const char *)data + len, size - len, why, sizeof why);
        for (size_t i = 0; i < check_commands(c); i++)
            if (check_command(c, i) == NULL)
                abort();
    } else if (words && e.code == ERR_NONE) {
        abort(); /* refused without a word */
    }
    check_free(c);
    free(words);
    return 0;
}

/* A queue's INI: whoever can write to the queue can write it. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conf/conf.h"
#include "runner/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf c;
    struct err e = {0};
    char path[64];
    int fd = memfd_create("ini", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || conf_init(&c, NULL) < 0) {
        close(fd);
        return 0;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int rc = conf_read(&c, path, false, true, &e);
    assert((rc == 0) == (e.code == ERR_NONE));
    assert(rc == 0 || strstr(e.text, path) != NULL || e.code == ERR_NOMEM);
    if (rc == 0)
        conf_check(&c, NULL);
    conf_free(&c);
    close(fd);
    return 0;
}

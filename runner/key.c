#include "runner/key.h"

#include "conf/conf.h"
#include "jobs/digest.h"
#include "jobs/store.h"
#include "runner/err.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* White space around it is an editor's; inside, it is not a key. */
static int tidy(char *key, const char *from, struct err *e)
{
    size_t n = strlen(key), lead = strspn(key, " \t\r\n");
    while (n > lead && strchr(" \t\r\n", key[n - 1]))
        key[--n] = '\0';
    memmove(key, key + lead, n - lead + 1);
    if (*key == '\0')
        return err_set(e, ERR_CONF, "%s: no key in it; want the key and nothing else",
                       from);
    for (const char *p = key; *p; p++)
        if (!isgraph((unsigned char)*p))
            return err_set(e, ERR_CONF,
                           "%s: a key has no blanks or control characters; want the "
                           "key and nothing else",
                           from);
    return 0;
}

static int too_long(const char *from, size_t size, struct err *e)
{
    return err_set(e, ERR_CONF,
                   "%s: a key has at most %zu bytes; want the key and nothing "
                   "else",
                   from, size - 2);
}

/* systemd lends a credential to the user of a unit by an ACL, which shows as bits of the
 * group; into its directory nobody else can look. */
static mode_t shut_to(const char *path)
{
    const char *lent = getenv("CREDENTIALS_DIRECTORY");
    size_t n = lent ? strlen(lent) : 0;
    bool ours = n > 0 && strncmp(path, lent, n) == 0 && path[n] == '/';
    return ours ? S_IRWXO : S_IRWXG | S_IRWXO;
}

static int from_file(const char *path, char *buf, size_t size, struct err *e)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        err_set(e, ERR_CONF, "api.key_file = %s: %s; %s", path, strerror(errno),
                *path == '~' ? "want the whole path, without ~"
                             : "put the key there, or name the file that holds it");
    } else if (S_ISDIR(st.st_mode)) {
        err_set(e, ERR_CONF, "api.key_file = %s: a directory; name the file in it",
                path);
    } else if (st.st_mode & shut_to(path)) {
        err_set(e, ERR_CONF, "api.key_file = %s: others can read it; chmod 600 it",
                path);
    } else {
        ssize_t n = read(fd, buf, size - 1);
        close(fd);
        if (n < 0)
            return err_set(e, ERR_CONF, "api.key_file = %s: %s", path, strerror(errno));
        if ((size_t)n == size - 1)
            return too_long("api.key_file", size, e);
        buf[n] = '\0';
        return tidy(buf, "api.key_file", e);
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

static int from_command(const char *command, char *buf, size_t size, struct err *e)
{
    FILE *f = popen(command, "re");
    if (f == NULL)
        return err_set(e, ERR_CONF, "api.key_command: %s", strerror(errno));
    size_t n = fread(buf, 1, size - 1, f);
    buf[n] = '\0';
    int status = pclose(f);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return err_set(e, ERR_CONF,
                       "api.key_command: it failed; run it by hand to see why");
    if (n == size - 1)
        return too_long("api.key_command", size, e);
    return tidy(buf, "api.key_command", e);
}

int key_load(const struct conf *conf, char *buf, size_t size, struct err *e)
{
    const char *key = getenv("ANTHROPIC_API_KEY");
    if (key && *key) {
        if (strlen(key) >= size)
            return too_long("ANTHROPIC_API_KEY", size, e);
        snprintf(buf, size, "%s", key);
        return tidy(buf, "ANTHROPIC_API_KEY", e);
    }
    if (*conf->api.key_file)
        return from_file(conf->api.key_file, buf, size, e);
    if (*conf->api.key_command)
        return from_command(conf->api.key_command, buf, size, e);
    return err_set(
        e, ERR_CONF,
        "no API key; export ANTHROPIC_API_KEY, or set api.key_file to a file with it");
}

const char *key_from(const struct conf *conf)
{
    const char *key = getenv("ANTHROPIC_API_KEY");
    return key && *key              ? "ANTHROPIC_API_KEY"
           : *conf->api.key_file    ? "api.key_file"
           : *conf->api.key_command ? "api.key_command"
                                    : NULL;
}

void key_fingerprint(const char *key, char *buf, size_t size)
{
    unsigned char digest[DIGEST_BYTES];
    char hex[17];
    struct digest *d = digest_new();
    digest_add(d, "nightmill key\n", 14);
    digest_add(d, key, strlen(key));
    digest_end(d, digest);
    digest_free(d);
    digest_hex(digest, 8, hex);
    snprintf(buf, size, "key-%s", hex);
}

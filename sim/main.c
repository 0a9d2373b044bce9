#include "conf/catalog.h"
#include "runner/err.h"
#include "runner/log.h"
#include "sim/api.h"
#include "sim/server.h"
#include "sim/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void help(void)
{
    printf("usage: nightmill-sim [--conf FILE.ini] [--port N] [--set "
           "section.key=value]...\n"
           "\n"
           "A stand-in for the Claude Messages API on 127.0.0.1. Says its URL on the "
           "first\n"
           "line of standard output; port 0 is a free one. Ends at SIGTERM.\n"
           "\n"
           "Settings, in an INI file or with --set:\n");
    settings_help(stdout);
}

static int set_pair(struct settings *s, const char *pair, struct err *e)
{
    char name[256];
    const char *equals = strchr(pair, '=');
    size_t len = equals ? (size_t)(equals - pair) : 0;
    if (len == 0 || len >= sizeof name)
        return err_set(e, ERR_USAGE, "--set %s: want section.key=value", pair);
    memcpy(name, pair, len);
    name[len] = '\0';
    return settings_set(s, name, equals + 1, e);
}

static int argument_set(struct settings *s, const char *option, const char *value,
                        struct err *e)
{
    if (strcmp(option, "--conf") == 0)
        return settings_load(s, value, e);
    if (strcmp(option, "--port") == 0)
        return settings_set(s, "server.port", value, e);
    return set_pair(s, value, e);
}

static int read_args(struct settings *s, int argc, char **argv, struct err *e)
{
    static const char *const options[] = {"--conf", "--port", "--set"};
    for (int i = 1; i < argc; i++) {
        bool known = false;
        for (size_t k = 0; k < sizeof options / sizeof options[0] && !known; k++) {
            size_t len = strlen(options[k]);
            known = strncmp(argv[i], options[k], len) == 0;
            if (known && argv[i][len] == '=') {
                if (argument_set(s, options[k], argv[i] + len + 1, e) < 0)
                    return -1;
            } else if (known && argv[i][len] == '\0' && i + 1 < argc) {
                if (argument_set(s, options[k], argv[++i], e) < 0)
                    return -1;
            } else {
                known = false;
            }
        }
        if (!known)
            return err_set(e, ERR_USAGE, "%s: see --help", argv[i]);
    }
    return 0;
}

static int run(struct settings *s, struct err *e)
{
    int rc = -1;
    struct api *api = NULL;
    struct server *sv = NULL;
    struct catalog *c = catalog_new(e);
    if (c == NULL)
        goto out;
    api = api_new(s, c, e);
    if (api == NULL)
        goto out;
    sv = server_new(api, s, e);
    if (sv == NULL)
        goto out;
    printf("http://127.0.0.1:%d\n", server_port(sv));
    fflush(stdout);
    rc = server_run(sv, e);

out:
    server_free(sv);
    api_free(api);
    catalog_free(c);
    return rc;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    struct settings s = {0};

    log_setup(LOG_INFO);
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        help();
        return 0;
    }
    int rc = settings_init(&s, &e) < 0 || read_args(&s, argc, argv, &e) < 0 ||
             run(&s, &e) < 0;
    if (rc)
        fprintf(stderr, "nightmill-sim: %s\n", e.text);
    settings_free(&s);
    return rc ? e.code == ERR_CONF || e.code == ERR_USAGE ? 2 : 1 : 0;
}

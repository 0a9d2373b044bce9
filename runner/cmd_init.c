/* init: a queue to begin with. What is there already stays as it is. */
#include "runner/cmd.h"

#include "jobs/files.h"
#include "runner/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char hello[] =
    "---\n"
    "tier: cheap\n"
    "tags: example\n"
    "---\n"
    "Say hello to somebody who queues work in the evening and reads answers in the\n"
    "morning. Two sentences.\n";

static const char tickets[] = "{\"custom_id\": \"t1\", \"params\": {\"max_tokens\": "
                              "200, \"messages\": [{\"role\": "
                              "\"user\", \"content\": \"One word, billing, bug or "
                              "other: I was charged twice.\"}]}, "
                              "\"nightmill\": {\"tier\": \"cheap\", \"check\": "
                              "\"regex:(?i)billing|bug|other\"}}\n"
                              "{\"custom_id\": \"t2\", \"params\": {\"max_tokens\": "
                              "200, \"messages\": [{\"role\": "
                              "\"user\", \"content\": \"One word, billing, bug or "
                              "other: the page stays white.\"}]}, "
                              "\"nightmill\": {\"tier\": \"cheap\", \"check\": "
                              "\"regex:(?i)billing|bug|other\"}}\n";

static void print_ini(FILE *to)
{
    fputs("; Settings of this queue. Two are set; below is every other one at its\n"
          "; default, as a comment.\n\n"
          "[budget]\n"
          "; dollars: a run never costs more. 0: no ceiling.\n"
          "run = 5\n\n"
          "[jobs]\n"
          "; the tier of jobs that say none: cheap, standard or deep\n"
          "tier = standard\n\n",
          to);
    conf_print_sample(to);
}

/* 1: made; 0: it was there; -1. */
static int make(const char *dir, const char *name, const char *text, struct err *e)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0 && errno == EEXIST) {
        printf("kept  %s (it was there)\n", path);
        return 0;
    }
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (f == NULL) {
        err_set(e, ERR_SYSTEM, "%s: cannot be made: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    if (text)
        fputs(text, f);
    else
        print_ini(f);
    int rc = ferror(f) ? -1 : 0;
    if (fclose(f) != 0 || rc < 0)
        return err_set(e, ERR_SYSTEM, "%s: cannot be written: %s", path,
                       strerror(errno));
    printf("made  %s\n", path);
    return 1;
}

int cmd_init(const struct cmd_args *a)
{
    static const struct {
        const char *name, *text;
    } files[] = {
        {"nightmill.ini", NULL}, {"hello.md", hello}, {"tickets.jsonl", tickets}};
    struct err e = {0};
    int rc = files_make_dirs(a->dir, 0777, &e);
    for (size_t i = 0; rc == 0 && i < sizeof files / sizeof files[0]; i++)
        rc = make(a->dir, files[i].name, files[i].text, &e) < 0 ? -1 : 0;
    if (rc < 0)
        return cmd_failed(&e);
    printf("\nNext: export ANTHROPIC_API_KEY=..., then\n"
           "  nightmill check %s            would it run?\n"
           "  nightmill plan %s             what would it cost?\n"
           "  nightmill run --first 1 %s    one job, to see an answer\n"
           "  nightmill run %s\n",
           a->dir, a->dir, a->dir, a->dir);
    return 0;
}

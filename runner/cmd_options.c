/* options: every word that nightmill knows, printed from its tables: the sample INI, the
 * manual page, and what shells complete. */
#include "runner/cmd.h"

#include "conf/conf.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* --- the manual page --- */

/* A text as roff takes it: no line begins with a dot, and dashes stay dashes. */
static void roff(const char *s)
{
    if (*s == '.' || *s == '\'')
        fputs("\\&", stdout);
    for (; *s; s++) {
        if (*s == '\\')
            fputs("\\e", stdout);
        else if (*s == '-')
            fputs("\\-", stdout);
        else
            putchar(*s);
    }
}

static void on_option_man(void *arg, const char *name, const char *def,
                          const char *choices, const char *help)
{
    (void)arg;
    fputs(".TP\n.B ", stdout);
    roff(name);
    fputs(" = ", stdout);
    roff(*def ? def : "(empty)");
    putchar('\n');
    roff(help);
    if (choices) {
        fputs(" (one of: ", stdout);
        roff(choices);
        putchar(')');
    }
    putchar('\n');
}

static void print_man(void)
{
    const struct cmd *c;
    const struct cmd_option *o;
    puts(".TH NIGHTMILL 1 \"\" \"nightmill " NIGHTMILL_VERSION "\" \"User Commands\"\n"
         ".SH NAME\n"
         "nightmill \\- run a directory of Claude jobs to the end, unattended\n"
         ".SH SYNOPSIS");
    for (int i = 0; (c = cmd_at(i)) != NULL; i++) {
        printf(".B nightmill %s\n.RI [ OPTION... ] \" ", c->name);
        roff(c->usage);
        puts("\"\n.br");
    }
    puts(".SH DESCRIPTION\n"
         "nightmill runs the jobs of a directory: each file, or each line of a .jsonl "
         "file, is a request for Claude. It goes as fast as the account's limits allow "
         "and no faster, waits when waiting helps, and stops cleanly when credit or a "
         "ceiling ends, to go on later with the same command. Answers are in\n"
         ".IR DIR /results.\n"
         ".SH COMMANDS");
    for (int i = 0; (c = cmd_at(i)) != NULL; i++) {
        printf(".SS %s ", c->name);
        roff(c->usage);
        putchar('\n');
        roff(c->help);
        puts("");
        for (int k = 0; (o = cmd_option_at(k)) != NULL; k++) {
            if (!cmd_takes(c, o->name))
                continue;
            fputs(".TP\n.B \\-\\-", stdout);
            roff(o->name);
            if (o->arg) {
                putchar(' ');
                roff(o->arg);
            }
            putchar('\n');
            roff(o->help);
            putchar('\n');
        }
    }
    puts(".SH SETTINGS\n"
         "Later wins: /etc/nightmill.ini, DIR/nightmill.ini, \\-\\-conf FILE, "
         "environment, \\-\\-set. In a file, what stands before the first dot is the "
         "section:\n"
         ".IP\n.EX\n[limits]\nin_flight = 64\n\n[tier deep]\nmodel = "
         "claude\\-opus\\-5\\-5\n.EE\n.PP\nEach with its default:");
    conf_each_option(on_option_man, NULL);
    puts(
        ".SH ENVIRONMENT\n"
        ".TP\n.B ANTHROPIC_API_KEY\nthe key; or see api.key_file and api.key_command\n"
        ".TP\n.B ANTHROPIC_BASE_URL\nwhere requests go, over api.base_url\n"
        ".TP\n.B NIGHTMILL_LOG\nerror, warn, info (the default) or debug\n"
        ".TP\n.B XDG_STATE_HOME\nwhere what all queues share lives: nightmill/ in it\n"
        ".SH FILES\n"
        ".TP\n.I DIR/nightmill.ini\nsettings of one queue\n"
        ".TP\n.I DIR/.nightmill/\nits state: a copy of it is whole "
        "only with all its files, made while no run is at work\n"
        ".TP\n.I DIR/results/\nits answers\n"
        ".TP\n.I /etc/nightmill.ini\nsettings of all queues\n"
        ".SH EXIT STATUS\n"
        ".TP\n.B 0\nall done\n"
        ".TP\n.B 1\nfinished; some jobs failed or are parked\n"
        ".TP\n.B 2\nwrong usage or configuration, or consent is needed; nothing was "
        "sent\n"
        ".TP\n.B 74\nthe store or the results could not be written\n"
        ".TP\n.B 75\nstopped early with work left: run it again\n"
        ".TP\n.B 77\nthe key was refused\n"
        ".SH EXAMPLES\n"
        ".EX\nnightmill init jobs\nnightmill check jobs\nnightmill run \\-\\-first 1 "
        "jobs\nnightmill run jobs\nnightmill results jobs \\-\\-format csv \\-\\-field "
        "job,cost_usd,text\n.EE");
}

/* --- completions --- */

static void on_name(void *arg, const char *name, const char *def, const char *choices,
                    const char *help)
{
    (void)def;
    (void)choices;
    (void)help;
    (void)arg;
    printf(" %s=", name);
}

/* "a|b" and not FILE or HH:MM. */
static bool is_choice(const char *arg)
{
    return arg && strchr(arg, '|') && islower((unsigned char)*arg);
}

static bool is_path(const char *arg)
{
    return arg && strncmp(arg, "FILE", 4) == 0;
}

static void print_words(const char *choices)
{
    for (; *choices; choices++)
        putchar(*choices == '|' ? ' ' : *choices);
}

static void print_bash(void)
{
    const struct cmd *c;
    const struct cmd_option *o;
    puts("# bash completion for nightmill\n"
         "_nightmill()\n"
         "{\n"
         "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
         "    local words=\"\"\n"
         "    COMPREPLY=()\n"
         "    if ((COMP_CWORD == 1)); then");
    fputs("        words=\"", stdout);
    for (int i = 0; (c = cmd_at(i)) != NULL; i++)
        printf("%s%s", i ? " " : "", c->name);
    puts("\"\n"
         "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
         "        return\n"
         "    fi\n"
         "    case $prev in");
    for (int i = 0; (o = cmd_option_at(i)) != NULL; i++) {
        if (is_choice(o->arg)) {
            printf("    --%s) COMPREPLY=($(compgen -W \"", o->name);
            print_words(o->arg);
            puts("\" -- \"$cur\")); return ;;");
        } else if (is_path(o->arg)) {
            printf("    --%s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n",
                   o->name);
        } else if (o->arg && strcmp(o->name, "set") == 0) {
            fputs("    --set) compopt -o nospace; COMPREPLY=($(compgen -W \"", stdout);
            conf_each_option(on_name, NULL);
            puts("\" -- \"$cur\")); return ;;");
        } else if (o->arg) {
            printf("    --%s) return ;;\n", o->name);
        }
    }
    puts("    esac\n"
         "    if [[ $cur == -* ]]; then\n"
         "        case ${COMP_WORDS[1]} in");
    for (int i = 0; (c = cmd_at(i)) != NULL; i++) {
        printf("        %s) words=\"", c->name);
        for (int k = 0; (o = cmd_option_at(k)) != NULL; k++)
            if (cmd_takes(c, o->name))
                printf("--%s ", o->name);
        puts("\" ;;");
    }
    puts("        esac\n"
         "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
         "    else\n"
         "        COMPREPLY=($(compgen -d -- \"$cur\"))\n"
         "    fi\n"
         "}\n"
         "complete -o filenames -F _nightmill nightmill");
}

/* A text within single quotes, for zsh and fish; brackets and colons as zsh wants. */
static void quoted(const char *s, bool zsh)
{
    for (; *s; s++) {
        if (*s == '\'')
            fputs(zsh ? "'\\''" : "\\'", stdout);
        else if (zsh && strchr("[]:", *s))
            printf("\\%c", *s);
        else
            putchar(*s);
    }
}

static void print_zsh(void)
{
    const struct cmd *c;
    const struct cmd_option *o;
    puts("#compdef nightmill\n"
         "_nightmill() {\n"
         "    local -a commands settings\n"
         "    commands=(");
    for (int i = 0; (c = cmd_at(i)) != NULL; i++) {
        printf("        '%s:", c->name);
        quoted(c->help, true);
        puts("'");
    }
    fputs("    )\n    settings=(", stdout);
    conf_each_option(on_name, NULL);
    puts(")\n"
         "    if ((CURRENT == 2)); then\n"
         "        _describe command commands\n"
         "        return\n"
         "    fi\n"
         "    case $words[2] in");
    for (int i = 0; (c = cmd_at(i)) != NULL; i++) {
        printf("    %s)\n        _arguments", c->name);
        for (int k = 0; (o = cmd_option_at(k)) != NULL; k++) {
            if (!cmd_takes(c, o->name))
                continue;
            printf(" \\\n            '--%s[", o->name);
            quoted(o->help, true);
            fputs("]", stdout);
            if (is_choice(o->arg)) {
                printf(":%s:(", o->name);
                print_words(o->arg);
                fputs(")", stdout);
            } else if (is_path(o->arg)) {
                fputs(":file:_files", stdout);
            } else if (o->arg && strcmp(o->name, "set") == 0) {
                fputs(":setting:compadd -S \"\" -a settings", stdout);
            } else if (o->arg) {
                printf(":%s: ", o->name);
            }
            fputs("'", stdout);
        }
        puts(" \\\n            '*:directory:_files -/' ;;");
    }
    puts("    esac\n"
         "}\n"
         "_nightmill \"$@\"");
}

static void print_fish(void)
{
    const struct cmd *c;
    const struct cmd_option *o;
    puts("# fish completion for nightmill\ncomplete -c nightmill -f");
    for (int i = 0; (c = cmd_at(i)) != NULL; i++) {
        printf("complete -c nightmill -n __fish_use_subcommand -a %s -d '", c->name);
        quoted(c->help, false);
        puts("'");
    }
    for (int i = 0; (c = cmd_at(i)) != NULL; i++) {
        if (c->wants_dir)
            printf("complete -c nightmill -n '__fish_seen_subcommand_from %s' -a "
                   "'(__fish_complete_directories)'\n",
                   c->name);
        for (int k = 0; (o = cmd_option_at(k)) != NULL; k++) {
            if (!cmd_takes(c, o->name))
                continue;
            printf("complete -c nightmill -n '__fish_seen_subcommand_from %s' -l %s",
                   c->name, o->name);
            if (is_choice(o->arg)) {
                fputs(" -x -a '", stdout);
                print_words(o->arg);
                fputs("'", stdout);
            } else if (is_path(o->arg)) {
                fputs(" -r -F", stdout);
            } else if (o->arg && strcmp(o->name, "set") == 0) {
                fputs(" -x -a '", stdout);
                conf_each_option(on_name, NULL);
                fputs("'", stdout);
            } else if (o->arg) {
                fputs(" -x", stdout);
            }
            fputs(" -d '", stdout);
            quoted(o->help, false);
            puts("'");
        }
    }
}

int cmd_options(const struct cmd_args *a)
{
    if (a->man)
        print_man();
    else if (a->completion && strcmp(a->completion, "bash") == 0)
        print_bash();
    else if (a->completion && strcmp(a->completion, "zsh") == 0)
        print_zsh();
    else if (a->completion)
        print_fish();
    else
        conf_print_sample(stdout);
    return fflush(stdout) == 0 ? 0 : 1;
}

#include "runner/cmd.h"

#include <stdio.h>

int cmd_options(const struct cmd_args *a)
{
    (void)a;
    conf_print_sample(stdout);
    return 0;
}

#ifndef CONTROL_H
#define CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct api;
struct reply;
struct settings;

/*
 * The side door: /sim/..., for whoever runs the simulator. Needs no key. Fills `r` for
 * every path; those it does not know are 404.
 */
struct control_request {
    const char *method, *path;
    bool jobs; /* ?jobs=1 */
    const char *body;
    size_t len;
    int64_t now_ns;
};

void control_serve(struct api *api, struct settings *s,
                   const struct control_request *rq, struct reply *r);

#endif

#ifndef SERVER_H
#define SERVER_H

struct api;
struct err;
struct server;
struct settings;

/* HTTP on 127.0.0.1. One thread, one loop: nothing here or behind it needs a lock. */

/* Everything is borrowed and must outlive the server. */
struct server *server_new(struct api *api, struct settings *s, struct err *e);
int server_port(const struct server *sv);
/* Until SIGTERM or SIGINT. */
int server_run(struct server *sv, struct err *e);
void server_free(struct server *sv);

#endif

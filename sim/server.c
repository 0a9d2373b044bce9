#include "sim/server.h"

#include "runner/err.h"
#include "sim/api.h"
#include "sim/request.h"
#include "sim/settings.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_AT_ONCE = 64, BACKLOG = 4096, MEMORY_PER_CONNECTION = 32 * 1024 };

struct server {
    struct requests requests;
    struct settings *settings;
    struct MHD_Daemon *daemon;
    int listener, epoll, signals, port;
};

/* ---- connections ---- */

static void on_connection(void *arg, struct MHD_Connection *c, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct requests *all = arg;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *socket_context = peers_opened(
            &all->peers,
            MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
    } else if (*socket_context != NULL) {
        peers_closed(&all->peers, *socket_context);
        *socket_context = NULL;
    }
}

/* The request line is here: the nearest that can be known to its first byte. */
static void *on_uri(void *arg, const char *uri, struct MHD_Connection *c)
{
    struct requests *all = arg;
    struct peer *p =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    (void)uri;
    if (p != NULL)
        peers_heard(&all->peers, p, requests_now_ns(all));
    return NULL;
}

/* ---- the loop ---- */

static int listen_on(struct server *sv, struct err *e)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)sv->settings->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int yes = 1;

    sv->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (sv->listener < 0 ||
        setsockopt(sv->listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
        bind(sv->listener, (struct sockaddr *)&at, sizeof at) < 0 ||
        listen(sv->listener, BACKLOG) < 0 ||
        getsockname(sv->listener, (struct sockaddr *)&at, &len) < 0)
        return err_set(e, ERR_SYSTEM, "port %d: %s", (int)sv->settings->port,
                       strerror(errno));
    sv->port = ntohs(at.sin_port);
    return 0;
}

static void allow_many_files(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_NOFILE, &l);
    }
}

static int watch(struct server *sv, int fd, void *who, struct err *e)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = who};
    if (fd < 0 || epoll_ctl(sv->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
        return err_set(e, ERR_SYSTEM, "epoll: %s", strerror(errno));
    return 0;
}

static int signals_open(struct server *sv, struct err *e)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    sv->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return watch(sv, sv->signals, &sv->signals, e);
}

static int daemon_start(struct server *sv, struct err *e)
{
    sv->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, (uint16_t)sv->port, NULL, NULL,
        request_on_access, &sv->requests, MHD_OPTION_LISTEN_SOCKET, sv->listener,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)sv->settings->connections,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_PER_CONNECTION,
        MHD_OPTION_NOTIFY_COMPLETED, request_on_completed, &sv->requests,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, &sv->requests,
        MHD_OPTION_URI_LOG_CALLBACK, on_uri, &sv->requests, MHD_OPTION_END);
    if (sv->daemon == NULL)
        return err_set(e, ERR_SYSTEM, "the HTTP library did not start: %s",
                       strerror(errno));
    sv->listener = -1; /* the library's from here */
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(sv->daemon,
                                                           MHD_DAEMON_INFO_EPOLL_FD);
    return watch(sv, info ? info->epoll_fd : -1, sv->daemon, e);
}

struct server *server_new(struct api *api, struct settings *s, struct err *e)
{
    struct server *sv = calloc(1, sizeof *sv);
    if (sv == NULL) {
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    sv->settings = s;
    sv->listener = sv->signals = -1;
    sv->epoll = epoll_create1(EPOLL_CLOEXEC);
    sv->requests = (struct requests){
        .api = api,
        .settings = s,
        .epoll = sv->epoll,
        .peers = {.stats = api_stats(api), .refusal_round = -1},
    };
    sv->requests.start_ns = requests_now_ns(&sv->requests);
    allow_many_files();
    if (signals_open(sv, e) < 0 || listen_on(sv, e) < 0 || daemon_start(sv, e) < 0) {
        server_free(sv);
        return NULL;
    }
    faults_begin(&s->faults, 0, (uint64_t)s->output_seed);
    return sv;
}

int server_port(const struct server *sv)
{
    return sv->port;
}

static int rest_ms(struct server *sv)
{
    MHD_UNSIGNED_LONG_LONG library_ms;
    int64_t ms = -1, next_ns = timers_next_ns(&sv->requests.timers);
    if (next_ns >= 0) {
        ms = (next_ns - requests_now_ns(&sv->requests) + NS_PER_MS - 1) / NS_PER_MS;
        ms = ms < 0 ? 0 : ms;
    }
    if (MHD_get_timeout(sv->daemon, &library_ms) == MHD_YES &&
        (ms < 0 || (int64_t)library_ms < ms))
        ms = (int64_t)library_ms;
    return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

int server_run(struct server *sv, struct err *e)
{
    struct epoll_event events[EVENTS_AT_ONCE];

    for (;;) {
        sv->requests.peers.round++;
        requests_wake_due(&sv->requests);
        if (MHD_run(sv->daemon) == MHD_NO)
            return err_set(e, ERR_SYSTEM, "the HTTP library gave up");
        int n = epoll_wait(sv->epoll, events, EVENTS_AT_ONCE, rest_ms(sv));
        if (n < 0 && errno != EINTR)
            return err_set(e, ERR_SYSTEM, "epoll: %s", strerror(errno));
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &sv->signals)
                return 0;
            if (events[i].data.ptr != sv->daemon)
                request_left(events[i].data.ptr);
        }
    }
}

void server_free(struct server *sv)
{
    if (sv == NULL)
        return;
    /* The library wants nobody asleep when it stops. */
    requests_give_up(&sv->requests);
    if (sv->daemon)
        MHD_stop_daemon(sv->daemon);
    if (sv->listener >= 0)
        close(sv->listener);
    if (sv->signals >= 0)
        close(sv->signals);
    if (sv->epoll >= 0)
        close(sv->epoll);
    timers_free(&sv->requests.timers);
    free(sv);
}

#ifndef LOG_H
#define LOG_H

#include <stdbool.h>

/*
 * One line an event, `key=value`, on standard error. Level and sink are the only
 * globals of the program. No secret is ever handed to these functions.
 *
 *   error  a person should look          warn   odd, we go on, and the line says how
 *   info   a job's and the run's start and end      debug  every move and every "not
 * now"
 */
enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Reads NIGHTMILL_LOG (error, warn, info, debug); `level` holds where it is unset. */
void log_setup(enum log_level level);
bool log_wants(enum log_level level);

/* Where the next lines go besides standard error's default: called instead of writing
 * to it, so that a progress display can take itself away first. NULL: back to stderr.
 */
typedef void log_sink_fn(void *arg, const char *line);
void log_set_sink(log_sink_fn *sink, void *arg);

/* For somebody at a terminal: the clock's time instead of a stamp, and no more of the level
 * than "warning: " or "error: ". */
void log_for_person(bool yes);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif

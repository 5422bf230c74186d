/*
 * base/check: assertions that stay on in release builds, and a few compiler attributes.
 *
 * A failed nb_assert is a bug in nabata, never a reaction to input. The process prints the fact
 * that did not hold and aborts: Raft is built for a member that stops, not for one that goes on
 * wrongly.
 */
#ifndef NABATA_BASE_CHECK_H
#define NABATA_BASE_CHECK_H

#include <assert.h> /* static_assert */
#include <stddef.h>

#define NB_MUST_USE __attribute__((warn_unused_result))
#define NB_PRINTF(format_arg, first_arg) __attribute__((format(printf, format_arg, first_arg)))
#define NB_NORETURN __attribute__((noreturn))
#define NB_UNUSED __attribute__((unused))

#define NB_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* One fact an assert; nothing inside has an effect. */
#define nb_assert(fact)                                                                            \
    ((__builtin_expect(!!(fact), 1)) ? (void)0 : nb_assert_failed(#fact, __FILE__, __LINE__))

/* A place that cannot be reached unless nabata is wrong. */
#define nb_unreachable(why) nb_assert_failed(why, __FILE__, __LINE__)

/* Prints "file:line: assertion failed: fact" on stderr and aborts. */
NB_NORETURN void nb_assert_failed(const char *fact, const char *file, int line);

#endif

/*
 * base/options: command line options as a table, shared by the server and the command line.
 *
 * A program describes its options in one or more tables of rows; parsing fills one value a row,
 * from the command line and from the environment; the help text is printed from the same rows.
 * Nothing here prints, exits or reads the environment by itself: argv and envp are arguments, texts
 * go to a buffer.
 *
 *     static const struct nb_option rows[] = {
 *         {.name = "endpoints", .type = NB_OPTION_LIST, .default_text = "127.0.0.1:2379",
 *          .metavar = "HOST:PORT,...", .group = "Connection", .help = "members to talk to"},
 *         {.name = "write-out", .letter = 'w', .type = NB_OPTION_CHOICE, .default_text = "simple",
 *          .choices = "simple,json,fields,table", .help = "format of the output"},
 *     };
 *     struct nb_options o;
 *     nb_options_init(&o);
 *     nb_options_add(&o, rows, NB_ARRAY_LEN(rows));
 *     if (nb_options_parse(&o, NB_OPTIONS_PFLAG, argc - 1, argv + 1, &message) == NB_OPTIONS_OK) {
 *         ... nb_options_choice(&o, "write-out") ... o.arguments[0] ...
 *     }
 *     nb_options_deinit(&o);
 *
 * A command line with commands parses twice: NB_OPTIONS_PFLAG_UNTIL_ARGUMENT over the global table
 * stops at the command's name (o.arguments[0]), then the command's table is added and the rest is
 * parsed with NB_OPTIONS_PFLAG; global options are known on both sides of the command's name.
 *
 * Invariants:
 *   O1  a name or letter stands once in all tables of one struct nb_options (asserted)
 *   O2  a default text always parses (asserted by nb_options_add), so every value is always valid
 *   O3  an option given by hand is never overwritten by the environment
 */
#ifndef NABATA_BASE_OPTIONS_H
#define NABATA_BASE_OPTIONS_H

#include "base/arena.h"

enum nb_option_type {
    NB_OPTION_STRING,
    NB_OPTION_BOOL,  /* `--x`, `--x=false`; Go's words: 1 t T true True TRUE, 0 f F ... */
    NB_OPTION_INT64, /* decimal, 0x, 0o or leading 0, 0b */
    NB_OPTION_UINT64,
    NB_OPTION_DURATION, /* Go's: 300ms, 1h30m, 1.5s; "0" alone needs no unit */
    NB_OPTION_CHOICE,   /* one of .choices; the value is its place there */
    NB_OPTION_LIST,     /* separated by commas; empty text gives no items */
};

/* Flags of a row. */
enum {
    NB_OPTION_HIDDEN = 1,      /* not in the help text */
    NB_OPTION_IGNORED = 2,     /* accepted with any value, changes nothing; hidden */
    NB_OPTION_UNSUPPORTED = 4, /* refused when its value is not the default's */
    NB_OPTION_NO_VARIABLE = 8, /* not taken from the environment */
    NB_OPTION_APPEND = 16,     /* LIST: a second use adds to the first instead of replacing it */
};

/* One row. All strings are borrowed and must outlive the struct nb_options. */
struct nb_option {
    const char *name; /* without dashes */
    char letter;      /* short form for pflag styles, or 0 */
    enum nb_option_type type;
    unsigned flags;
    const char *default_text; /* NULL: "" / false / 0 / first choice */
    const char *choices;      /* CHOICE: separated by commas */
    const char *bare_text; /* value of `--x` without `=`; NULL: a value is required (BOOL: true) */
    const char *metavar;   /* for the help text; NULL: one that fits the type */
    const char *group;     /* heading in the help text; rows of a group stand together; or NULL */
    const char *help;      /* one sentence, wrapped as needed */
    const char *reason;    /* UNSUPPORTED: why, or what to use instead; or NULL */
};

/* Where a value came from. */
enum nb_option_source {
    NB_OPTION_FROM_DEFAULT,
    NB_OPTION_FROM_VARIABLE,
    NB_OPTION_FROM_FILE, /* set by nb_options_set */
    NB_OPTION_FROM_ARGUMENT,
};

struct nb_option_value {
    enum nb_option_source source;
    const char *text; /* as given, never NULL; lives as long as the struct nb_options */
    union {
        bool boolean;
        int64_t int64;
        uint64_t uint64;
        int64_t duration_ns;
        size_t choice; /* place in .choices */
    };
    const char **items; /* LIST; each lives as long as the struct nb_options */
    size_t item_count;
};

struct nb_option_slot {
    const struct nb_option *row;
    struct nb_option_value value;
};

struct nb_options {
    struct nb_option_slot *slots; /* owned; in the order of the tables */
    size_t slot_count, slot_capacity;
    const char **arguments; /* what is not an option, in order; borrowed from argv */
    size_t argument_count;
    size_t argument_capacity;
    const char **variables_shadowed; /* of nb_options_environment: set, but given by hand as well */
    size_t variables_shadowed_count;
    size_t variables_shadowed_capacity;
    const char *
        *variables_unknown; /* of nb_options_environment: begin with the prefix, no such row */
    size_t variables_unknown_count;
    size_t variables_unknown_capacity;
    struct nb_arena arena; /* owned; texts and items */
};

enum nb_options_style {
    NB_OPTIONS_GO_FLAG, /* Go `flag`: -x and --x are one; stops at the first argument */
    NB_OPTIONS_PFLAG,   /* -x short, --x long, `--` ends; options anywhere */
    NB_OPTIONS_PFLAG_UNTIL_ARGUMENT, /* the same, but all from the first argument on is arguments */
};

enum nb_options_result {
    NB_OPTIONS_OK,
    NB_OPTIONS_HELP, /* -h or --help stood there and no row has that name */
    NB_OPTIONS_BAD,  /* the message says why, in one line without its end */
};

void nb_options_init(struct nb_options *o);
void nb_options_deinit(struct nb_options *o);

/* Adds a table; every row gets its default. `rows` is borrowed for the life of `o`. */
void nb_options_add(struct nb_options *o, const struct nb_option *rows, size_t row_count);

/*
 * Parses `argc` words (without the program's name). Replaces o->arguments; values stay as they were
 * where an option is not given. Unknown option: BAD, and the nearest known one is named. An
 * UNSUPPORTED option given with another value than its default: BAD, with its reason.
 */
NB_MUST_USE enum nb_options_result nb_options_parse(struct nb_options *o,
                                                    enum nb_options_style style, int argc,
                                                    char *const *argv, struct nb_buf *message);

/*
 * Fills options not given by hand from variables PREFIX_NAME (upper case, '-' as '_'). A variable
 * that is set but empty counts as not set. Fills the two lists of variables in `o`: what to do
 * about those is the caller's choice (the server: fatal, warning).
 */
NB_MUST_USE enum nb_options_result nb_options_environment(struct nb_options *o, const char *prefix,
                                                          char *const *envp,
                                                          struct nb_buf *message);

/* Sets one option by name, as from a file. BAD when the name is unknown or the text does not fit.
 */
NB_MUST_USE enum nb_options_result nb_options_set(struct nb_options *o, const char *name,
                                                  const char *text, struct nb_buf *message);

/* The value of a row; the name must be one of the tables (asserted), the type that of the row. */
const struct nb_option_value *nb_options_get(const struct nb_options *o, const char *name);
/* True when it was given at all: by hand, variable or file. */
bool nb_options_given(const struct nb_options *o, const char *name);
const char *nb_options_string(const struct nb_options *o, const char *name);
bool nb_options_bool(const struct nb_options *o, const char *name);
int64_t nb_options_int64(const struct nb_options *o, const char *name);
uint64_t nb_options_uint64(const struct nb_options *o, const char *name);
int64_t nb_options_duration_ns(const struct nb_options *o, const char *name);
size_t nb_options_choice(const struct nb_options *o, const char *name);

/* The known name (option, command, anything) nearest to `given`, or NULL if none is near. */
const char *nb_nearest(const char *given, const char *const *known, size_t known_count);

/* Go's number and duration texts. False: not one, or out of range. */
NB_MUST_USE bool nb_bool_parse(const char *text, bool *out);
NB_MUST_USE bool nb_int64_parse(const char *text, int64_t *out);
NB_MUST_USE bool nb_uint64_parse(const char *text, uint64_t *out);
NB_MUST_USE bool nb_duration_parse(const char *text, int64_t *out_ns);
/* As Go prints it: 1h30m0s, 1.5s, 100ms, 0s. */
void nb_duration_print(struct nb_buf *out, int64_t ns);

struct nb_options_example {
    const char *command; /* a whole line that a person can paste */
    const char *what;    /* what it does, or NULL */
};

struct nb_options_help {
    const char *usage;   /* "nabata put KEY VALUE [options]"; several lines are aligned */
    const char *summary; /* a sentence or more under the usage; or NULL */
    const struct nb_options_example *examples;
    size_t example_count;
    unsigned width; /* columns of the terminal; 0 = 80 */
    bool color;
};

/*
 * Appends the help text: usage, summary, the options of all tables by group (in order of first
 * appearance) with aligned columns, wrapped to the width, then the examples.
 */
void nb_options_help_print(const struct nb_options *o, const struct nb_options_help *help,
                           struct nb_buf *out);

/* Columns of the terminal on `fd`, or 80 when it is none. */
unsigned nb_terminal_width(int fd);

#endif

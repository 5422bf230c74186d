#include "base/status.h"

#include <errno.h>

static const char *const texts[NB_STATUS_COUNT] = {
#define X(name, text) [NB_##name] = (text),
    NB_STATUS_TABLE(X)
#undef X
};

static const char *const names[NB_STATUS_COUNT] = {
#define X(name, text) [NB_##name] = "NB_" #name,
    NB_STATUS_TABLE(X)
#undef X
};

const char *nb_status_text(enum nb_status status)
{
    nb_assert((unsigned)status < NB_STATUS_COUNT);
    return texts[status];
}

const char *nb_status_name(enum nb_status status)
{
    nb_assert((unsigned)status < NB_STATUS_COUNT);
    return names[status];
}

enum nb_status nb_status_of_errno(int error_number)
{
    switch (error_number) {
    case 0:
        return NB_OK;
    case ENOSPC:
    case EDQUOT:
        return NB_NO_SPACE_DISK;
    case ENOENT:
        return NB_NOT_FOUND;
    case EEXIST:
        return NB_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return NB_ACCESS;
    case EBUSY:
    case EAGAIN:
        return NB_BUSY;
    case EINVAL:
    case ENOTDIR:
    case ENAMETOOLONG:
    case ELOOP:
        return NB_INVALID;
    case ENOSYS:
    case EOPNOTSUPP:
        return NB_UNSUPPORTED;
    case ECANCELED:
        return NB_CANCELED;
    default:
        return NB_IO;
    }
}

/* Any bytes as the API's answer about a StatefulSet. */
#include "kube/kube.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kube_statefulset set;
    enum nb_status status = kube_statefulset_decode(nb_bytes_of(data, size), &set);
    nb_assert(status == NB_OK || status == NB_MALFORMED);
    nb_assert(status != NB_OK || set.replicas <= UINT16_MAX);
    nb_assert(memchr(set.cluster_id, 0, sizeof set.cluster_id) != NULL);
    return 0;
}

/* Any bytes inside the API's TLS session, cut anywhere, and the StatefulSet in them. */
#include "kube/answer.h"
#include "kube/kube.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kube_answer a = {0};
    kube_answer_begin(&a);
    size_t split = size == 0 || data[0] % 16 == 0 ? SIZE_MAX : data[0] % 16;
    enum nb_status status = NB_OK;
    for (size_t at = 1; at < size && status == NB_OK && !a.whole;) {
        size_t piece = size - at < split ? size - at : split;
        status = kube_answer_feed(&a, nb_bytes_of(data + at, piece));
        at += piece;
    }
    nb_assert(a.body.len <= KUBE_ANSWER_SIZE_MAX);
    nb_assert(!a.whole || status == NB_OK);
    if (status == NB_OK && kube_answer_end(&a) == NB_OK && kube_answer_code(&a) == 200) {
        struct kube_statefulset set;
        (void)!kube_statefulset_decode(nb_buf_bytes(&a.body), &set);
    }
    kube_answer_deinit(&a);
    return 0;
}

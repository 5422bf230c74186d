nabata_fuzz(kube_statefulset ${CMAKE_CURRENT_SOURCE_DIR}/kube_statefulset.c nb_kube)
nabata_fuzz(kube_answer ${CMAKE_CURRENT_SOURCE_DIR}/kube_answer.c nb_kube)

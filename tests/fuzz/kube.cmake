nabata_fuzz(kube_statefulset ${CMAKE_CURRENT_SOURCE_DIR}/kube_statefulset.c nb_kube)

nabata_fuzz(mvcc_request ${CMAKE_CURRENT_LIST_DIR}/mvcc_request.c nb_mvcc nabata_proto)
nabata_fuzz(mvcc_apply ${CMAKE_CURRENT_LIST_DIR}/mvcc_apply.c nb_mvcc)

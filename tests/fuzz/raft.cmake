nabata_fuzz(raft_msg ${CMAKE_CURRENT_SOURCE_DIR}/raft_msg.c nb_raft)
